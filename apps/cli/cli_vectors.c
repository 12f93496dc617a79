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

/* Read the first n rows in blocks into the one of the arrays that is not NULL. */
static int read_rows(cli_context *cli, kith_dataset *dataset, size_t n, float *floats, int32_t *integers,
                     uint8_t *bytes)
{
    kith_error err;
    size_t dim = kith_dataset_dim(dataset);
    size_t block = BLOCK_BYTES / (dim * 4) + 1;
    for (size_t row = 0; row < n; row += block) {
        size_t count = n - row < block ? n - row : block;
        kith_status status = floats ? kith_dataset_read_f32(dataset, row, count, floats + row * dim, &err)
                             : integers
                                 ? kith_dataset_read_i32(dataset, row, count, integers + row * dim, &err)
                                 : kith_dataset_read_u8(dataset, row, count, bytes + row * dim, &err);
        if (status != KITH_OK) return cli_fail_message(cli, kith_dataset_path(dataset), &err);
        if (cli_cancelled(cli)) return cli_fail(cli, NULL, "interrupted");
        if (cli->run.progress) cli->run.progress(cli->run.progress_ctx, "reading", row + count, n);
    }
    return CLI_OK;
}

/* As bits, eight to a component; that each is a whole number 0..255 is seen as it is read. */
static int load_bits(cli_context *cli, kith_dataset *dataset, size_t n, cli_vectors *vectors)
{
    size_t bytes = kith_dataset_dim(dataset);
    const char *path = kith_dataset_path(dataset);
    if (bytes > KITH_MAX_DIM / 8)
        return cli_fail(cli, path, "has rows of %zu bytes, allowed 1..%d", bytes, KITH_MAX_DIM / 8);
    if (n > SIZE_MAX / bytes || !(vectors->bits = malloc(n * bytes)))
        return cli_fail(cli, path, "out of memory for %zu x %zu bytes", n, bytes);
    vectors->n = n;
    vectors->dim = bytes * 8;
    return read_rows(cli, dataset, n, NULL, NULL, vectors->bits);
}

int cli_vectors_load(cli_context *cli, const char *path, cli_role role, kith_metric metric, size_t limit,
                     cli_vectors *vectors)
{
    *vectors = (cli_vectors){0};
    kith_dataset *dataset = NULL;
    int status = cli_dataset_open(cli, path, role, &dataset);
    if (status != CLI_OK) return status;
    size_t n = kith_dataset_rows(dataset), dim = kith_dataset_dim(dataset);
    if (limit && limit < n) n = limit;
    if (kith_metric_rows(metric) == KITH_ROWS_BITS) {
        status = load_bits(cli, dataset, n, vectors);
    } else if (dim > KITH_MAX_DIM) {
        status = cli_fail(cli, path, "has %zu dimensions, allowed 1..%d", dim, KITH_MAX_DIM);
    } else if (n > SIZE_MAX / (dim * sizeof(float)) || !(vectors->x = malloc(n * dim * sizeof(float)))) {
        status = cli_fail(cli, path, "out of memory for %zu x %zu numbers", n, dim);
    } else {
        vectors->n = n;
        vectors->dim = dim;
        status = read_rows(cli, dataset, n, vectors->x, NULL, NULL);
    }
    kith_dataset_close(dataset);
    return status;
}

void cli_vectors_clear(cli_vectors *vectors)
{
    free(vectors->x);
    free(vectors->bits);
    *vectors = (cli_vectors){0};
}

kith_status cli_index_train(kith_index *index, const cli_vectors *rows, const kith_run *run, kith_error *err)
{
    return rows->bits ? kith_index_train_bits(index, rows->bits, rows->n, run, err)
                      : kith_index_train(index, rows->x, rows->n, run, err);
}

kith_status cli_index_add(kith_index *index, const cli_vectors *rows, const kith_run *run, kith_error *err)
{
    return rows->bits ? kith_index_add_bits(index, rows->bits, NULL, rows->n, run, err)
                      : kith_index_add(index, rows->x, NULL, rows->n, run, err);
}

kith_status cli_index_calibrate(kith_index *index, const cli_vectors *queries,
                                const kith_calibrate_options *options, const kith_run *run, kith_error *err)
{
    return queries->bits ? kith_index_calibrate_bits(index, queries->bits, queries->n, options, run, err)
                         : kith_index_calibrate(index, queries->x, queries->n, options, run, err);
}

kith_status cli_search(kith_searcher *searcher, const cli_vectors *queries, size_t first, size_t n, size_t k,
                       const kith_search_options *options, uint64_t *ids, float *dist,
                       kith_search_stats *stats, kith_error *err)
{
    if (queries->bits)
        return kith_search_bits(searcher, queries->bits + first * kith_bit_bytes(queries->dim), n, k, options,
                                ids, dist, stats, err);
    return kith_search(searcher, queries->x + first * queries->dim, n, k, options, ids, dist, stats, err);
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
        status = read_rows(cli, dataset, n, NULL, truth->ids, NULL);
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

/* Whether the file is one that an argument names, however it is spelt. */
static bool is_argument(const cli_context *cli, const char *path, const struct stat *info)
{
    struct stat other;
    for (size_t i = 0; i < cli->n_args; i++)
        if (cli->args[i] != path && stat(cli->args[i], &other) == 0 && other.st_dev == info->st_dev &&
            other.st_ino == info->st_ino)
            return true;
    return false;
}

int cli_output_check(cli_context *cli, const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return cli_fail(cli, path, "%s", strerror(EISDIR));
        if (!S_ISREG(info.st_mode)) return cli_fail(cli, path, "is a device or a pipe, not a file");
        if (is_argument(cli, path, &info))
            return cli_fail(cli, path, "is read by this command: name another file to write");
    }
    const char *slash = strrchr(path, '/');
    size_t length = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    char *folder = length ? strndup(path, length) : strdup(".");
    if (!folder) return cli_fail(cli, path, "out of memory");
    int status =
        access(folder, W_OK | X_OK) == 0 ? CLI_OK : cli_fail(cli, path, "%s: %s", folder, strerror(errno));
    free(folder);
    return status;
}
