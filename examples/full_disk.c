/* full_disk.c - a file system of one's own: here, a disk that is full after 1,000 bytes. Saving fails with a plain
 * error, and no half-written file is left where the index was to be. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <kith/index.h>
#include <kith/io.h>

static int64_t write_until_full(void *ctx, int fd, const void *buf, size_t size, uint64_t offset)
{
    if (offset + size > 1000) return -ENOSPC;
    return kith_io_posix()->write(ctx, fd, buf, size, offset);
}

int main(void)
{
    enum { N = 1000, DIM = 16 };
    kith_io io = *kith_io_posix(); /* all but one function as they are */
    io.write = write_until_full;

    static float x[N * DIM];
    for (size_t i = 0; i < N * DIM; i++) x[i] = (float)(i % 97);
    kith_index *index = NULL;
    kith_error err;
    if (kith_index_create("Flat", DIM, NULL, &index, &err) != KITH_OK ||
        kith_index_add(index, x, NULL, N, NULL, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const char *path = "full_disk_example.kidx";
    kith_status status = kith_index_save(index, path, &io, &err);
    printf("%s: %s\n", kith_status_name(status), err.message);
    int left = access(path, F_OK) == 0;
    kith_index_free(index);
    return status == KITH_IO && err.sys_errno == ENOSPC && !left ? 0 : 1;
}
