#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

#define BUFFER_BYTES \
    ((size_t)256 << 10)      /* from here on a write call costs little beside the bytes it moves */
#define TEMP_TRIES 100       /* names left behind by killed processes that had this one's number */
#define TEMP_SUFFIX_BYTES 40 /* ".tmp-" and two numbers */

struct ki_outfile {
    const kith_io *io;
    const kith_allocator *allocator;
    int fd;          /* -1 when closed */
    int exists;      /* a file stands under the temporary name */
    kith_status bad; /* KITH_OK until something failed */
    int bad_errno;
    uint64_t written; /* bytes that are in the file */
    size_t used;      /* bytes of the buffer that are not */
    char *path, *temp;
    unsigned char *buffer;
};

int64_t ki_io_read(const kith_io *io, int fd, void *buf, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        int64_t moved = io->read(io->ctx, fd, (char *)buf + done, size - done, offset + done);
        if (moved == -EINTR) continue;
        if (moved < 0) return moved;
        if (moved == 0) break;
        done += (size_t)moved;
    }
    return (int64_t)done;
}

int ki_io_write(const kith_io *io, int fd, const void *buf, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        int64_t moved = io->write(io->ctx, fd, (const char *)buf + done, size - done, offset + done);
        if (moved == -EINTR) continue;
        if (moved < 0) return (int)moved;
        if (moved == 0) return -EIO; /* a device that takes nothing and gives no reason */
        done += (size_t)moved;
    }
    return 0;
}

static kith_status poison(ki_outfile *out, int sys_errno, const char *what, kith_error *err)
{
    out->bad = ki_fail_errno(err, sys_errno, "%s: %s", out->path, what);
    out->bad_errno = sys_errno;
    return out->bad;
}

static kith_status still_bad(const ki_outfile *out, kith_error *err)
{
    return ki_fail_errno(err, out->bad_errno, "%s: writing failed before", out->path);
}

/* Open a temporary file of a name that nobody has. */
static int open_temp(ki_outfile *out, size_t temp_bytes)
{
    int fd = -EEXIST;
    for (int n = 0; n < TEMP_TRIES && fd == -EEXIST; n++) {
        snprintf(out->temp, temp_bytes, "%s.tmp-%ld-%d", out->path, (long)getpid(), n);
        do fd = out->io->open(out->io->ctx, out->temp, O_RDWR | O_CREAT | O_EXCL, 0666);
        while (fd == -EINTR);
    }
    return fd;
}

kith_status ki_outfile_create(const char *path, const kith_io *io, const kith_allocator *allocator,
                              ki_outfile **result, kith_error *err)
{
    struct stat info;
    *result = NULL;
    /* Renaming over it would take away the device: of root, /dev/null. */
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
        return ki_fail(err, KITH_INVALID, "%s: is a device or a pipe, not a file", path);
    ki_outfile *out = ki_alloc_zero(allocator, 1, sizeof *out);
    if (!out) return ki_fail_nomem(err, sizeof *out);
    out->io = ki_io(io);
    out->allocator = allocator;
    out->fd = -1;
    size_t temp_bytes = strlen(path) + TEMP_SUFFIX_BYTES;
    out->path = ki_strdup(allocator, path);
    out->temp = ki_alloc(allocator, temp_bytes, 1);
    out->buffer = ki_alloc(allocator, BUFFER_BYTES, 1);
    if (!out->path || !out->temp || !out->buffer) {
        ki_outfile_free(out);
        return ki_fail_nomem(err, BUFFER_BYTES);
    }
    int fd = open_temp(out, temp_bytes);
    if (fd < 0) {
        kith_status status = ki_fail_errno(err, -fd, "%s: cannot be created", path);
        ki_outfile_free(out);
        return status;
    }
    out->fd = fd;
    out->exists = 1;
    *result = out;
    return KITH_OK;
}

static kith_status flush(ki_outfile *out, kith_error *err)
{
    int failed = ki_io_write(out->io, out->fd, out->buffer, out->used, out->written);
    if (failed) return poison(out, -failed, "cannot be written", err);
    out->written += out->used;
    out->used = 0;
    return KITH_OK;
}

kith_status ki_outfile_write(ki_outfile *out, const void *data, size_t size, kith_error *err)
{
    if (out->bad) return still_bad(out, err);
    if (size > BUFFER_BYTES - out->used) KI_TRY(flush(out, err));
    if (size >= BUFFER_BYTES) {
        int failed = ki_io_write(out->io, out->fd, data, size, out->written);
        if (failed) return poison(out, -failed, "cannot be written", err);
        out->written += size;
        return KITH_OK;
    }
    if (size > 0) memcpy(out->buffer + out->used, data, size);
    out->used += size;
    return KITH_OK;
}

kith_status ki_outfile_pad(ki_outfile *out, size_t align, kith_error *err)
{
    static const unsigned char zeros[4096];
    size_t rest = (size_t)(ki_outfile_size(out) & (align - 1));
    return rest == 0 ? KITH_OK : ki_outfile_write(out, zeros, align - rest, err);
}

kith_status ki_outfile_patch(ki_outfile *out, uint64_t offset, const void *data, size_t size, kith_error *err)
{
    if (out->bad) return still_bad(out, err);
    KI_TRY(flush(out, err));
    int failed = ki_io_write(out->io, out->fd, data, size, offset);
    return failed ? poison(out, -failed, "cannot be written", err) : KITH_OK;
}

uint64_t ki_outfile_size(const ki_outfile *out)
{
    return out->written + out->used;
}

kith_status ki_outfile_commit(ki_outfile *out, kith_error *err)
{
    const kith_io *io = out->io;
    if (out->bad) return still_bad(out, err);
    KI_TRY(flush(out, err));
    /* A failed fsync is final: the kernel may have dropped the pages, so a second try proves nothing. */
    int failed = io->sync(io->ctx, out->fd);
    if (failed) return poison(out, -failed, "cannot be flushed to the disk", err);
    failed = io->close(io->ctx, out->fd);
    out->fd = -1;
    if (failed) return poison(out, -failed, "cannot be closed", err);
    failed = io->rename(io->ctx, out->temp, out->path);
    if (failed) return poison(out, -failed, "cannot be replaced", err);
    out->exists = 0;
    failed = io->sync_dir(io->ctx, out->path);
    if (failed) return poison(out, -failed, "is written, but its folder cannot be flushed to the disk", err);
    out->bad = KITH_INVALID; /* nothing more can be written */
    out->bad_errno = EBADF;
    return KITH_OK;
}

void ki_outfile_free(ki_outfile *out)
{
    if (!out) return;
    if (out->fd >= 0) (void)out->io->close(out->io->ctx, out->fd);
    if (out->exists) (void)out->io->unlink(out->io->ctx, out->temp);
    ki_free(out->allocator, out->buffer);
    ki_free(out->allocator, out->temp);
    ki_free(out->allocator, out->path);
    ki_free(out->allocator, out);
}
