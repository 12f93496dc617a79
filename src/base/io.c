#include <kith/io.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TRANSFER ((size_t)1 << 30) /* Linux moves at most 2 GiB a call */

static int posix_open(void *ctx, const char *path, int flags, unsigned mode)
{
    (void)ctx;
    int fd = open(path, flags | O_CLOEXEC, mode);
    return fd < 0 ? -errno : fd;
}

static int posix_close(void *ctx, int fd)
{
    (void)ctx;
    return close(fd) == 0 ? 0 : -errno;
}

static int64_t posix_read(void *ctx, int fd, void *buf, size_t size, uint64_t offset)
{
    (void)ctx;
    ssize_t moved = pread(fd, buf, size < MAX_TRANSFER ? size : MAX_TRANSFER, (off_t)offset);
    return moved < 0 ? -errno : moved;
}

static int64_t posix_write(void *ctx, int fd, const void *buf, size_t size, uint64_t offset)
{
    (void)ctx;
    ssize_t moved = pwrite(fd, buf, size < MAX_TRANSFER ? size : MAX_TRANSFER, (off_t)offset);
    return moved < 0 ? -errno : moved;
}

static int posix_size(void *ctx, int fd, uint64_t *bytes)
{
    (void)ctx;
    struct stat info;
    if (fstat(fd, &info) != 0) return -errno;
    if (S_ISDIR(info.st_mode)) return -EISDIR;
    *bytes = (uint64_t)info.st_size;
    return 0;
}

static int posix_sync(void *ctx, int fd)
{
    (void)ctx;
    return fsync(fd) == 0 ? 0 : -errno;
}

static int posix_map(void *ctx, int fd, size_t size, void **address)
{
    (void)ctx;
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return -errno;
    *address = map;
    return 0;
}

static int posix_unmap(void *ctx, void *address, size_t size)
{
    (void)ctx;
    return munmap(address, size) == 0 ? 0 : -errno;
}

static int posix_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    return rename(from, to) == 0 ? 0 : -errno;
}

static int posix_unlink(void *ctx, const char *path)
{
    (void)ctx;
    return unlink(path) == 0 ? 0 : -errno;
}

static int posix_sync_dir(void *ctx, const char *path)
{
    (void)ctx;
    char dir[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= sizeof dir) return -ENAMETOOLONG;
    if (!slash)
        strcpy(dir, ".");
    else if (length == 0)
        strcpy(dir, "/");
    else {
        memcpy(dir, path, length);
        dir[length] = 0;
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int failed = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return failed;
}

static const kith_io posix_io = {
    .struct_size = sizeof(kith_io),
    .open = posix_open,
    .close = posix_close,
    .read = posix_read,
    .write = posix_write,
    .size = posix_size,
    .sync = posix_sync,
    .map = posix_map,
    .unmap = posix_unmap,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .sync_dir = posix_sync_dir,
};

const kith_io *kith_io_posix(void)
{
    return &posix_io;
}
