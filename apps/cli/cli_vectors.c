/* cli_vectors.c - vector files in and out, whatever their format. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kith/dataset.h>
#ifdef KITH_WITH_HDF5
#include <kith/hdf5.h>
#endif

enum { BLOCK_BYTES = 16 << 20 }; /* read between two looks at the cancel flag */

int cli_dataset_open_as(cli_context *cli, const char *path, cli_role role, kith_dataset_format format,
                        kith_dataset **dataset)
{
    static const char *const arrays[] = {
        [CLI_ROLE_BASE] = "train", [CLI_ROLE_QUERIES] = "test", [CLI_ROLE_TRUTH] = "neighbors"};
    kith_error err;
    kith_status status;
    kith_dataset_options options;
    kith_dataset_options_init(&options);
    options.format = format;
#ifdef KITH_WITH_HDF5
    if (format == KITH_DATASET_AUTO && kith_hdf5_is_path(path))
        status = kith_hdf5_open(path, arrays[role], NULL, dataset, &err);
    else
#else
    (void)arrays;
    (void)role;
#endif
        status = kith_dataset_open(path, &options, dataset, &err);
    return status == KITH_OK ? CLI_OK : cli_fail_message(cli, path, &err);
}

int cli_dataset_open(cli_context *cli, const char *path, cli_role role, kith_dataset **dataset)
{
    return cli_dataset_open_as(cli, path, role, KITH_DATASET_AUTO, dataset);
}

/* Read the first n rows in blocks; element is float or int32_t, both of four bytes. */
static int read_rows(cli_context *cli, kith_dataset *dataset, size_t n, float *floats, int32_t *integers)
{
    kith_error err;
    size_t dim = kith_dataset_dim(dataset);
    size_t block = BLOCK_BYTES / (dim * 4) + 1;
    for (size_t row = 0; row < n; row += block) {
        size_t count = n - row < block ? n - row : block;
        kith_status status = floats ? kith_dataset_read_f32(dataset, row, count, floats + row * dim, &err)
                                    : kith_dataset_read_i32(dataset, row, count, integers + row * dim, &err);
        if (status != KITH_OK) return cli_fail_message(cli, kith_dataset_path(dataset), &err);
        if (cli_cancelled(cli)) return cli_fail(cli, NULL, "interrupted");
        if (cli->run.progress) cli->run.progress(cli->run.progress_ctx, "reading", row + count, n);
    }
    return CLI_OK;
}

int cli_vectors_load(cli_context *cli, const char *path, cli_role role, size_t limit, cli_vectors *vectors)
{
    *vectors = (cli_vectors){0};
    kith_dataset *dataset = NULL;
    int status = cli_dataset_open(cli, path, role, &dataset);
    if (status != CLI_OK) return status;
    size_t n = kith_dataset_rows(dataset), dim = kith_dataset_dim(dataset);
    if (limit && limit < n) n = limit;
    if (dim > KITH_MAX_DIM) {
        status = cli_fail(cli, path, "has %zu dimensions, allowed 1..%d", dim, KITH_MAX_DIM);
    } else if (n > SIZE_MAX / (dim * sizeof(float)) || !(vectors->x = malloc(n * dim * sizeof(float)))) {
        status = cli_fail(cli, path, "out of memory for %zu x %zu numbers", n, dim);
    } else {
        vectors->n = n;
        vectors->dim = dim;
        status = read_rows(cli, dataset, n, vectors->x, NULL);
    }
    kith_dataset_close(dataset);
    return status;
}

void cli_vectors_clear(cli_vectors *vectors)
{
    free(vectors->x);
    *vectors = (cli_vectors){0};
}

int cli_truth_load(cli_context *cli, const char *path, cli_truth *truth)
{
    *truth = (cli_truth){0};
    kith_dataset *dataset = NULL;
    int status = cli_dataset_open(cli, path, CLI_ROLE_TRUTH, &dataset);
    if (status != CLI_OK) return status;
    size_t n = kith_dataset_rows(dataset), k = kith_dataset_dim(dataset);
    if (n > SIZE_MAX / (k * sizeof(int32_t)) || !(truth->ids = malloc(n * k * sizeof(int32_t)))) {
        status = cli_fail(cli, path, "out of memory for %zu x %zu numbers", n, k);
    } else {
        truth->n = n;
        truth->k = k;
        status = read_rows(cli, dataset, n, NULL, truth->ids);
    }
    kith_dataset_close(dataset);
    return status;
}

void cli_truth_clear(cli_truth *truth)
{
    free(truth->ids);
    *truth = (cli_truth){0};
}

int cli_ids_save(cli_context *cli, const char *path, const uint64_t *ids, size_t n, size_t k)
{
    kith_error err;
    kith_dataset_writer *writer = NULL;
    kith_dataset_writer_options options;
    kith_dataset_writer_options_init(&options);
    options.format = kith_dataset_format_of_path(path);
    options.element = options.format == KITH_DATASET_NPY ? KITH_ELEMENT_I32 : KITH_ELEMENT_AUTO;
    if (options.format == KITH_DATASET_AUTO) options.format = KITH_DATASET_IVECS;
    int32_t *row = malloc(k * sizeof *row);
    if (!row) return cli_fail(cli, path, "out of memory");
    int status = CLI_OK;
    if (kith_dataset_writer_create(path, k, &options, &writer, &err) != KITH_OK)
        status = cli_fail_message(cli, path, &err);
    for (size_t i = 0; status == CLI_OK && i < n; i++) {
        for (size_t j = 0; j < k; j++) {
            uint64_t id = ids[i * k + j];
            if (id > INT32_MAX && id != KITH_NO_ID)
                status = cli_fail(cli, path, "id %llu does not fit into 32 bits", (unsigned long long)id);
            row[j] = id == KITH_NO_ID ? -1 : (int32_t)id;
        }
        if (status == CLI_OK && kith_dataset_append_i32(writer, row, 1, &err) != KITH_OK)
            status = cli_fail_message(cli, path, &err);
    }
    if (status == CLI_OK && kith_dataset_writer_finish(writer, &err) != KITH_OK)
        status = cli_fail_message(cli, path, &err);
    kith_dataset_writer_free(writer);
    free(row);
    return status;
}

int cli_output_check(cli_context *cli, const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return cli_fail(cli, path, "%s", strerror(EISDIR));
    const char *slash = strrchr(path, '/');
    size_t length = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    char *folder = length ? strndup(path, length) : strdup(".");
    if (!folder) return cli_fail(cli, path, "out of memory");
    int status =
        access(folder, W_OK | X_OK) == 0 ? CLI_OK : cli_fail(cli, path, "%s: %s", folder, strerror(errno));
    free(folder);
    return status;
}
