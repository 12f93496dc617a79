/* fault_io.h - a kith_io that fails on demand, and one over bytes in memory. */
#ifndef KI_TEST_FAULT_IO_H
#define KI_TEST_FAULT_IO_H

#include <stddef.h>
#include <stdint.h>

#include <kith/io.h>

/* What an injected fault is. */
enum {
    FAULT_SHORT =
        -1 /* a read or write moves half of the bytes, which is no failure; other calls go through */
    /* else a positive errno */
};

/* The calls of a kith_io, as bits. */
enum {
    FAULT_OPEN = 1,
    FAULT_CLOSE = 2,
    FAULT_READ = 4,
    FAULT_WRITE = 8,
    FAULT_SIZE = 16,
    FAULT_SYNC = 32,
    FAULT_MAP = 64,
    FAULT_UNMAP = 128,
    FAULT_RENAME = 256,
    FAULT_UNLINK = 512,
    FAULT_SYNC_DIR = 1024,
    FAULT_ANY = 2047
};

/* POSIX, but call number fail_at (0-based, of those in `which`) fails, or all from then on. */
typedef struct fault_io {
    kith_io base;
    unsigned which; /* FAULT_ANY unless set otherwise after init */
    int fault;      /* errno or FAULT_SHORT */
    size_t fail_at; /* SIZE_MAX: never */
    int for_ever;
    size_t calls;           /* of those in `which`, so far */
    size_t injected;        /* faults, so far */
    int open_files, mapped; /* right now: both 0 when nothing leaks */
} fault_io;
void fault_io_init(fault_io *io, int fault, size_t fail_at, int for_ever);

/* One file, whatever its name, that cannot be written. Reads and maps never reach outside data[bytes]: a map is an
 * exact copy on the heap, so that the sanitizer sees a reader that strays. */
typedef struct memory_io {
    kith_io base;
    const void *data;
    size_t bytes;
} memory_io;
void memory_io_init(memory_io *io, const void *data, size_t bytes);

#endif
