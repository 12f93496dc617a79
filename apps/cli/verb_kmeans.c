/* verb_kmeans.c - `kith kmeans`: K centroids of a file of vectors. */
#include "cli_options.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kith/kmeans.h>

struct options {
    const char *output, *assignment, *init;
    uint64_t k, iterations, mini_batch, sample, seed, limit;
    int spherical;
    double max_cell;
};

/* How all rows lie in the cells. */
typedef struct shape {
    double objective;
    size_t largest, empty;
} shape;

static double clock_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int save(cli_context *cli, const char *path, const float *centroids, size_t k, size_t dim)
{
    kith_error err;
    kith_dataset_writer *writer = NULL;
    kith_dataset_writer_options options;
    kith_dataset_writer_options_init(&options);
    options.format = kith_dataset_format_of_path(path);
    if (options.format == KITH_DATASET_AUTO) options.format = KITH_DATASET_FVECS;
    options.element = options.format == KITH_DATASET_NPY ? KITH_ELEMENT_F32 : KITH_ELEMENT_AUTO;
    int status = CLI_OK;
    if (kith_dataset_writer_create(path, dim, &options, &writer, &err) != KITH_OK ||
        kith_dataset_append_f32(writer, centroids, k, &err) != KITH_OK ||
        kith_dataset_writer_finish(writer, &err) != KITH_OK)
        status = cli_fail_message(cli, path, &err);
    kith_dataset_writer_free(writer);
    return status;
}

/* Every row to its cell: what is reported, and the assignment where it is wanted. */
static int assign(cli_context *cli, const struct options *o, const cli_vectors *base, const float *centroids,
                  shape *cells)
{
    kith_error err;
    uint32_t *which = malloc(base->n * sizeof *which);
    float *dist = malloc(base->n * sizeof *dist);
    size_t *size = calloc(o->k, sizeof *size);
    uint64_t *ids = o->assignment ? malloc(base->n * sizeof *ids) : NULL;
    int status =
        which && dist && size && (ids || !o->assignment) ? CLI_OK : cli_fail(cli, NULL, "out of memory");
    if (status == CLI_OK && kith_kmeans_assign(base->x, base->n, base->dim, centroids, o->k, NULL, &cli->run,
                                               which, dist, &err) != KITH_OK)
        status = cli_fail_error(cli, cli->args[0], &err);
    *cells = (shape){0};
    for (size_t i = 0; status == CLI_OK && i < base->n; i++) {
        cells->objective += (double)dist[i];
        if (++size[which[i]] > cells->largest) cells->largest = size[which[i]];
        if (ids) ids[i] = which[i];
    }
    for (size_t j = 0; status == CLI_OK && j < o->k; j++) cells->empty += size[j] == 0;
    if (status == CLI_OK && ids) status = cli_ids_save(cli, o->assignment, ids, base->n, 1);
    free(which);
    free(dist);
    free(size);
    free(ids);
    return status;
}

static int report(cli_context *cli, const struct options *o, const cli_vectors *base,
                  const kith_kmeans_result *result, const shape *cells, double wall, double cpu)
{
    double mean = (double)base->n / (double)o->k;
    if (cli->json)
        return cli_json_line(
            cli, json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:b, s:o, s:o, s:I, s:I, s:I, s:o, s:o}", "file",
                           cli_json_text(o->output), "n", (json_int_t)base->n, "dim", (json_int_t)base->dim,
                           "k", (json_int_t)o->k, "points", (json_int_t)result->points_used, "iterations",
                           (json_int_t)result->iterations, "converged", result->converged, "objective",
                           cli_json_number(cells->objective), "mean_cell", cli_json_number(mean),
                           "largest_cell", (json_int_t)cells->largest, "empty_cells",
                           (json_int_t)cells->empty, "moved", (json_int_t)result->moved, "seconds",
                           cli_json_number(wall), "cpu_seconds", cli_json_number(cpu)));
    printf("%s: %s of %s of %zu (%s trained on), %s%s, in %.2f s (%.2f s of processor time)\n", o->output,
           cli_counted(o->k, "centroid"), cli_counted(base->n, "row"), base->dim,
           cli_thousands(result->points_used), cli_counted(result->iterations, "iteration"),
           result->converged ? ", converged" : "", wall, cpu);
    printf("objective %.9g, %.6g a row; cells of %.1f rows, the largest %s (%.2f times that), %s empty\n",
           cells->objective, cells->objective / (double)base->n, mean, cli_thousands(cells->largest),
           (double)cells->largest / mean, cli_thousands(cells->empty));
    return cli_flush(cli);
}

static int train(cli_context *cli, const struct options *o, const cli_vectors *base)
{
    kith_error err;
    kith_kmeans_options options;
    kith_kmeans_result result;
    shape cells;
    kith_kmeans_options_init(&options);
    options.init = strcmp(o->init, "random") == 0 ? KITH_KMEANS_RANDOM : KITH_KMEANS_PLUSPLUS;
    options.max_iterations = (size_t)o->iterations;
    options.max_points_per_centroid = (size_t)o->sample;
    options.seed = o->seed;
    options.spherical = o->spherical;
    options.mini_batch = (size_t)o->mini_batch;
    options.max_cell = o->max_cell;
    float *centroids = malloc(o->k * base->dim * sizeof *centroids);
    if (!centroids) return cli_fail(cli, NULL, "out of memory");
    double wall = clock_of(CLOCK_MONOTONIC), cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    int status = CLI_OK;
    if (kith_kmeans_train(base->x, base->n, base->dim, o->k, &options, &cli->run, centroids, &result, &err) !=
        KITH_OK)
        status = cli_fail_error(cli, cli->args[0], &err);
    wall = clock_of(CLOCK_MONOTONIC) - wall;
    cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (status == CLI_OK) status = assign(cli, o, base, centroids, &cells);
    if (status == CLI_OK) status = save(cli, o->output, centroids, o->k, base->dim);
    if (status == CLI_OK) status = report(cli, o, base, &result, &cells, wall, cpu);
    free(centroids);
    return status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    if (!o->output) return cli_usage(cli, "--output", "missing: the file to write the centroids to");
    if (o->max_cell != 0 && o->max_cell < 1)
        return cli_usage(cli, "--max-cell", "%g is below 1: a cell has as many rows as the mean at least",
                         o->max_cell);
    int status = cli_output_check(cli, o->output);
    if (status == CLI_OK && o->assignment) status = cli_output_check(cli, o->assignment);
    cli_vectors base = {0};
    if (status == CLI_OK)
        status = cli_vectors_load(cli, cli->args[0], CLI_ROLE_BASE, o->spherical ? KITH_COSINE : KITH_L2SQ,
                                  o->limit, &base);
    if (status == CLI_OK && o->k > base.n)
        status = cli_fail(cli, "-k", "%llu is more than the %zu rows of %s", (unsigned long long)o->k, base.n,
                          cli->args[0]);
    if (status == CLI_OK) status = train(cli, o, &base);
    cli_vectors_clear(&base);
    return status;
}

const cli_verb verb_kmeans = {
    .name = "kmeans",
    .group = CLI_VECTORS,
    .summary = "find K centroids of a vector file",
    .description =
        "k-means (Lloyd): writes K vectors such that the rows of BASE are near to one of them, and tells the "
        "objective (the sum of squared distances) and how large the cells are.\n\n"
        "--mini-batch looks at so many rows in an iteration instead of all. --spherical keeps centroids at "
        "unit length, for rows that are compared by cosine. --max-cell C ends with cells of at most C times "
        "the "
        "mean of those trained on, by splitting large ones and giving small ones up. The same file comes out "
        "whatever the number of threads.",
    .arguments =
        (const cli_argument[]){{.name = "BASE", .help = "the vectors, in any format that kith reads"}, {0}},
    .options =
        (const cli_option[]){CLI_OPTION_OUTPUT("the file to write the centroids to, fvecs or by extension"),
                             {.name = "centroids",
                              .letter = 'k',
                              .kind = CLI_COUNT,
                              .argument = "K",
                              .fallback = "256",
                              .low = 1,
                              .high = 1 << 24,
                              .into = offsetof(struct options, k),
                              .help = "how many"},
                             {.name = "iterations",
                              .kind = CLI_COUNT,
                              .argument = "N",
                              .fallback = "25",
                              .low = 1,
                              .high = 1e9,
                              .into = offsetof(struct options, iterations),
                              .help = "at the most; of mini-batches, so many"},
                             {.name = "init",
                              .kind = CLI_TEXT,
                              .argument = "WAY",
                              .fallback = "random",
                              .choices = "random|plusplus",
                              .into = offsetof(struct options, init),
                              .help = "how seeds are chosen: rows at random, or k-means++"},
                             {.name = "mini-batch",
                              .kind = CLI_COUNT,
                              .argument = "N",
                              .into = offsetof(struct options, mini_batch),
                              .help = "rows in an iteration; 0 means all"},
                             CLI_OPTION_FLAG(spherical, "spherical", "centroids of unit length"),
                             {.name = "max-cell",
                              .kind = CLI_NUMBER,
                              .argument = "C",
                              .low = 0,
                              .high = 1e6,
                              .into = offsetof(struct options, max_cell),
                              .help = "cells of at most C times the mean; 0 means any size"},
                             {.name = "sample",
                              .kind = CLI_COUNT,
                              .argument = "N",
                              .into = offsetof(struct options, sample),
                              .help = "train on N rows a centroid at the most; 0 means all"},
                             CLI_OPTION_TEXT(assignment, "assignment", "FILE",
                                             "write the number of each row's centroid, too (ivecs)"),
                             CLI_OPTION_SEED("of everything random"),
                             CLI_OPTION_LIMIT,
                             {0}},
    .common = CLI_JSON | CLI_THREADS,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith kmeans base.fvecs -k 4096 -o centroids.fvecs --threads 4", "4,096 centroids of all rows"},
            {"kith kmeans base.fvecs -k 4096 -o c.fvecs --mini-batch 65536 --iterations 50",
             "the same by mini-batches"},
            {"kith kmeans words.npy -k 256 -o c.npy --spherical --max-cell 2",
             "by direction, with cells of at most twice the mean"},
            {0}},
    .run = run,
};
