/* io.h - whole transfers over a kith_io, and files that appear complete or not at all. */
#ifndef KI_BASE_IO_H
#define KI_BASE_IO_H

#include <kith/allocator.h>
#include <kith/io.h>

/* The table to use: io, or POSIX for NULL. */
static inline const kith_io *ki_io(const kith_io *io)
{
    return io ? io : kith_io_posix();
}

/* Read up to size bytes at an offset: goes on after short reads and EINTR. The bytes read (fewer only at the
 * end of the file), or a negative errno. */
int64_t ki_io_read(const kith_io *io, int fd, void *buf, size_t size, uint64_t offset);

/* Write all of size bytes at an offset. 0 or a negative errno. */
int ki_io_write(const kith_io *io, int fd, const void *buf, size_t size, uint64_t offset);

/* A file being written. It has a temporary name (PATH.tmp-PID-N) in the folder of `path` until it is
 * committed, so whoever opens `path` finds the old file or the new one, both whole. */
typedef struct ki_outfile ki_outfile;

/* Begin.
 * Out:      *out, NULL on failure.
 * Errors:   KITH_NOMEM; KITH_IO, KITH_NOTFOUND or KITH_READONLY naming `path`. */
kith_status ki_outfile_create(const char *path, const kith_io *io, const kith_allocator *allocator,
                              ki_outfile **out, kith_error *err);

/* Append (buffered). After a failure the file is poisoned: every later call gives the same failure. */
kith_status ki_outfile_write(ki_outfile *out, const void *data, size_t size, kith_error *err);

/* Append zeros up to the next multiple of `align`, a power of two of at most 4096. */
kith_status ki_outfile_pad(ki_outfile *out, size_t align, kith_error *err);

/* Write over bytes that were appended before: for headers that are known last. */
kith_status ki_outfile_patch(ki_outfile *out, uint64_t offset, const void *data, size_t size,
                             kith_error *err);

/* Bytes appended so far. */
uint64_t ki_outfile_size(const ki_outfile *out);

/* Flush, fsync, rename to `path`, fsync the folder.
 * Errors:   KITH_IO; `path` is then what it was before, unless only the last step (the folder) failed. */
kith_status ki_outfile_commit(ki_outfile *out, kith_error *err);

/* Free it; a file that was not committed is removed. NULL is allowed. */
void ki_outfile_free(ki_outfile *out);

#endif
