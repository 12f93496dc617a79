/* io.h - the file system as kith sees it: a table of functions, so that a test or an embedder can put
 * its own in place (fault injection, another storage). NULL stands for POSIX everywhere. */
#ifndef KITH_IO_H
#define KITH_IO_H

#include <kith/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kith_io kith_io;

/* Each function returns 0 (or a count, or a handle) on success and a negative errno value on failure. */
struct kith_io {
    size_t struct_size;
    void *ctx;
    /* A handle >= 0. flags and mode as open(2). */
    int (*open)(void *ctx, const char *path, int flags, unsigned mode);
    int (*close)(void *ctx, int fd);
    /* Bytes moved, possibly fewer than asked; 0 from read at the end of the file. */
    int64_t (*read)(void *ctx, int fd, void *buf, size_t size, uint64_t offset);
    int64_t (*write)(void *ctx, int fd, const void *buf, size_t size, uint64_t offset);
    int (*size)(void *ctx, int fd, uint64_t *bytes);
    int (*sync)(void *ctx, int fd);                             /* fsync */
    int (*map)(void *ctx, int fd, size_t size, void **address); /* read-only, shared */
    int (*unmap)(void *ctx, void *address, size_t size);
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *path);
    int (*sync_dir)(void *ctx, const char *path); /* fsync of the directory that holds `path` */
};

/* The POSIX table, static. */
KITH_API const kith_io *kith_io_posix(void);

#ifdef __cplusplus
}
#endif
#endif
