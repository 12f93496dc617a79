#include "fault_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- faults ---- */

/* Whether this call fails: its negative errno, 0 to go on, 1 to go on with half the bytes. */
static int fault(fault_io *io, unsigned call)
{
    if (!(io->which & call)) return 0;
    size_t number = io->calls++;
    if (number != io->fail_at && !(io->for_ever && number > io->fail_at)) return 0;
    if (io->fault == FAULT_SHORT && !(call & (FAULT_READ | FAULT_WRITE))) return 0;
    io->injected++;
    return io->fault == FAULT_SHORT ? 1 : -io->fault;
}

static int fault_open(void *ctx, const char *path, int flags, unsigned mode)
{
    fault_io *io = ctx;
    int failed = fault(io, FAULT_OPEN);
    if (failed) return failed;
    int fd = kith_io_posix()->open(NULL, path, flags, mode);
    io->open_files += fd >= 0;
    return fd;
}

/* A close that fails has closed the file all the same, as on Linux. */
static int fault_close(void *ctx, int fd)
{
    fault_io *io = ctx;
    int failed = fault(io, FAULT_CLOSE);
    int closed = kith_io_posix()->close(NULL, fd);
    io->open_files--;
    return failed ? failed : closed;
}

static size_t half(size_t size, int failed)
{
    return failed && size > 1 ? size / 2 : size;
}

static int64_t fault_read(void *ctx, int fd, void *buf, size_t size, uint64_t offset)
{
    int failed = fault(ctx, FAULT_READ);
    return failed < 0 ? failed : kith_io_posix()->read(NULL, fd, buf, half(size, failed), offset);
}

/* A write that fails may have written something first. */
static int64_t fault_write(void *ctx, int fd, const void *buf, size_t size, uint64_t offset)
{
    int failed = fault(ctx, FAULT_WRITE);
    int64_t moved = kith_io_posix()->write(NULL, fd, buf, half(size, failed), offset);
    return failed < 0 ? failed : moved;
}

static int fault_size(void *ctx, int fd, uint64_t *bytes)
{
    int failed = fault(ctx, FAULT_SIZE);
    return failed ? failed : kith_io_posix()->size(NULL, fd, bytes);
}

static int fault_sync(void *ctx, int fd)
{
    int failed = fault(ctx, FAULT_SYNC);
    (void)fd; /* the tests do not turn the power off: they need no real fsync */
    return failed;
}

static int fault_map(void *ctx, int fd, size_t size, void **address)
{
    fault_io *io = ctx;
    int failed = fault(io, FAULT_MAP);
    if (!failed) failed = kith_io_posix()->map(NULL, fd, size, address);
    io->mapped += !failed;
    return failed;
}

static int fault_unmap(void *ctx, void *address, size_t size)
{
    fault_io *io = ctx;
    int failed = fault(io, FAULT_UNMAP);
    int unmapped = kith_io_posix()->unmap(NULL, address, size);
    io->mapped--;
    return failed ? failed : unmapped;
}

static int fault_rename(void *ctx, const char *from, const char *to)
{
    int failed = fault(ctx, FAULT_RENAME);
    return failed ? failed : kith_io_posix()->rename(NULL, from, to);
}

static int fault_unlink(void *ctx, const char *path)
{
    int failed = fault(ctx, FAULT_UNLINK);
    return failed ? failed : kith_io_posix()->unlink(NULL, path);
}

static int fault_sync_dir(void *ctx, const char *path)
{
    (void)path;
    return fault(ctx, FAULT_SYNC_DIR);
}

void fault_io_init(fault_io *io, int what, size_t fail_at, int for_ever)
{
    *io = (fault_io){
        .base = {.struct_size = sizeof(kith_io),
                 .ctx = io,
                 .open = fault_open,
                 .close = fault_close,
                 .read = fault_read,
                 .write = fault_write,
                 .size = fault_size,
                 .sync = fault_sync,
                 .map = fault_map,
                 .unmap = fault_unmap,
                 .rename = fault_rename,
                 .unlink = fault_unlink,
                 .sync_dir = fault_sync_dir},
        .which = FAULT_ANY,
        .fault = what,
        .fail_at = fail_at,
        .for_ever = for_ever,
    };
}

/* ---- memory ---- */

static int memory_open(void *ctx, const char *path, int flags, unsigned mode)
{
    (void)ctx;
    (void)path;
    (void)mode;
    return flags & 3 ? -EROFS : 0; /* O_WRONLY and O_RDWR are in the low two bits */
}

static int memory_close(void *ctx, int fd)
{
    (void)ctx;
    return fd == 0 ? 0 : -EBADF;
}

static int64_t memory_read(void *ctx, int fd, void *buf, size_t size, uint64_t offset)
{
    const memory_io *io = ctx;
    (void)fd;
    if (offset >= io->bytes) return 0;
    if (size > io->bytes - offset) size = io->bytes - (size_t)offset;
    memcpy(buf, (const char *)io->data + offset, size);
    return (int64_t)size;
}

static int64_t memory_write(void *ctx, int fd, const void *buf, size_t size, uint64_t offset)
{
    (void)ctx, (void)fd, (void)buf, (void)size, (void)offset;
    return -EROFS;
}

static int memory_size(void *ctx, int fd, uint64_t *bytes)
{
    (void)fd;
    *bytes = ((const memory_io *)ctx)->bytes;
    return 0;
}

static int memory_map(void *ctx, int fd, size_t size, void **address)
{
    void *copy;
    (void)fd;
    if (posix_memalign(&copy, 4096, size) != 0) return -ENOMEM;
    memcpy(copy, ((const memory_io *)ctx)->data, size);
    *address = copy;
    return 0;
}

static int memory_unmap(void *ctx, void *address, size_t size)
{
    (void)ctx, (void)size;
    free(address);
    return 0;
}

static int memory_refuse(void *ctx, int fd)
{
    (void)ctx, (void)fd;
    return -EROFS;
}

static int memory_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx, (void)from, (void)to;
    return -EROFS;
}

static int memory_unlink(void *ctx, const char *path)
{
    (void)ctx, (void)path;
    return -EROFS;
}

void memory_io_init(memory_io *io, const void *data, size_t bytes)
{
    *io = (memory_io){
        .base = {.struct_size = sizeof(kith_io),
                 .ctx = io,
                 .open = memory_open,
                 .close = memory_close,
                 .read = memory_read,
                 .write = memory_write,
                 .size = memory_size,
                 .sync = memory_refuse,
                 .map = memory_map,
                 .unmap = memory_unmap,
                 .rename = memory_rename,
                 .unlink = memory_unlink,
                 .sync_dir = memory_unlink},
        .data = data,
        .bytes = bytes,
    };
}
