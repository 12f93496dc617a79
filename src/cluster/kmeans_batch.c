/* Mini-batch k-means (D. Sculley, "Web-scale k-means clustering", WWW 2010, algorithm 1).
 *
 * Each iteration draws a batch of points, finds the nearest centroid of each, and then takes them one after the other:
 * with v the points that a centroid has seen so far, this one included, it moves by 1/v of the way to the point. Done one
 * by one that is a running mean, so for all points of a batch at once
 *
 *     c  <-  c + (sum - m c) / v        (m of them, v with them)
 *
 * is the same, and each centroid's points can be summed in their order by any thread. Centroids move in float64 and are
 * rounded when the next batch is compared with them, or moves so small against the centroid would be lost.
 *
 * Our ways apart from the paper: a batch has no point twice; a centroid that has seen no point after as many points as
 * there are takes one of the batch, drawn at random, since its seed lay where no others are nearest to it (only a start
 * that the caller gave can be so). */
#include "cluster/kmeans_internal.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/rng.h"

#define STREAM ((uint64_t)1 << 32) /* of random numbers, apart from those of Lloyd's iterations */

#define UPDATE_BLOCK 32 /* centroids a block of the update */

typedef struct batches {
    const float *x; /* [n][dim] */
    size_t n, dim, k, size;
    const kith_allocator *allocator;
    const kith_run *run;
    const ki_kernels *kernels;
    int spherical;
    float *centroids; /* [k][dim], the caller's */
    double *exact;    /* [k][dim]: the same before they were rounded */
    uint64_t *seen;   /* [k] points */
    uint64_t *picked; /* [size] */
    float *rows;      /* [size][dim] */
    uint32_t *which;  /* [size] */
    uint32_t *order;  /* [size]: the batch by centroid, ascending within one */
    size_t *start;    /* [k + 1]: order[start[j]..start[j+1]) belong to j */
    double *sums;     /* [threads][dim] */
    double *found;    /* [k]: sum of squared distances of the batch's points to their centroids */
    ki_nearest nearest;
    size_t block_size;
    int no_memory; /* a block had none, atomic */
} batches;

static kith_status batches_init(batches *b, kith_error *err)
{
    const kith_allocator *a = b->allocator;
    size_t dim = b->dim, threads = kith_pool_threads(ki_run_pool(b->run));
    b->kernels = ki_kernels_get();
    b->block_size = ki_nearest_block(dim, b->k);
    b->exact = ki_alloc(a, b->k * dim, sizeof *b->exact);
    b->seen = ki_alloc_zero(a, b->k, sizeof *b->seen);
    b->picked = ki_alloc(a, b->size, sizeof *b->picked);
    b->rows = ki_alloc(a, b->size * dim, sizeof *b->rows);
    b->which = ki_alloc(a, b->size, sizeof *b->which);
    b->order = ki_alloc(a, b->size, sizeof *b->order);
    b->start = ki_alloc(a, b->k + 1, sizeof *b->start);
    b->sums = ki_alloc(a, threads * dim, sizeof *b->sums);
    b->found = ki_alloc(a, b->k, sizeof *b->found);
    if (!b->exact || !b->seen || !b->picked || !b->rows || !b->which || !b->order || !b->start || !b->sums ||
        !b->found)
        return ki_fail_nomem(err, (b->k * 2 + b->size) * dim * sizeof *b->rows);
    for (size_t i = 0; i < b->k * dim; i++) b->exact[i] = (double)b->centroids[i];
    return ki_nearest_init(&b->nearest, dim, b->k, a, err);
}

static void batches_clear(batches *b)
{
    void *const blocks[] = {b->exact, b->seen,  b->picked, b->rows, b->which,
                            b->order, b->start, b->sums,   b->found};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) ki_free(b->allocator, blocks[i]);
    ki_nearest_clear(&b->nearest);
}

static void assign_block(void *ctx, size_t block, size_t worker)
{
    batches *b = ctx;
    (void)worker;
    size_t first = block * b->block_size;
    size_t n = b->size - first < b->block_size ? b->size - first : b->block_size;
    if (b->run && kith_cancel_raised(b->run->cancel)) return;
    if (ki_nearest_find(&b->nearest, b->rows + first * b->dim, n, b->which + first) != KITH_OK)
        __atomic_store_n(&b->no_memory, 1, __ATOMIC_RELAXED);
}

/* order[] and start[] by a counting sort of which[]. */
static void sort_by_centroid(batches *b)
{
    size_t *start = b->start;
    memset(start, 0, (b->k + 1) * sizeof *start);
    for (size_t i = 0; i < b->size; i++) start[b->which[i] + 1]++;
    for (size_t j = 0; j < b->k; j++) start[j + 1] += start[j];
    for (size_t i = 0; i < b->size; i++) b->order[start[b->which[i]]++] = (uint32_t)i;
    memmove(start + 1, start, b->k * sizeof *start);
    start[0] = 0;
}

static void update_block(void *ctx, size_t block, size_t worker)
{
    batches *b = ctx;
    size_t dim = b->dim, end = (block + 1) * UPDATE_BLOCK < b->k ? (block + 1) * UPDATE_BLOCK : b->k;
    double *sum = b->sums + worker * dim;
    for (size_t j = block * UPDATE_BLOCK; j < end; j++) {
        size_t m = b->start[j + 1] - b->start[j];
        double *exact = b->exact + j * dim;
        float *centroid = b->centroids + j * dim;
        b->found[j] = 0;
        if (m == 0) continue;
        memset(sum, 0, dim * sizeof *sum);
        for (size_t at = b->start[j]; at < b->start[j + 1]; at++) {
            const float *x = b->rows + b->order[at] * dim;
            b->kernels->add_f64(sum, x, dim);
            b->found[j] += (double)b->kernels->l2sq_f32(x, centroid, dim);
        }
        b->seen[j] += m;
        for (size_t d = 0; d < dim; d++) exact[d] += (sum[d] - (double)m * exact[d]) / (double)b->seen[j];
        for (size_t d = 0; d < dim; d++) centroid[d] = (float)exact[d];
        if (b->spherical) ki_kmeans_scale(centroid, dim, j);
    }
}

/* Centroids that saw nothing yet take points of the batch. */
static void wake(batches *b, ki_rng *rng)
{
    for (size_t j = 0; j < b->k; j++) {
        if (b->seen[j] > 0) continue;
        const float *x = b->rows + ki_rng_below(rng, b->size) * b->dim;
        memcpy(b->centroids + j * b->dim, x, b->dim * sizeof *x);
        if (b->spherical) ki_kmeans_scale(b->centroids + j * b->dim, b->dim, j);
        for (size_t d = 0; d < b->dim; d++) b->exact[j * b->dim + d] = (double)b->centroids[j * b->dim + d];
    }
}

/* One iteration; *objective: of the batch, as if all points were like it. */
static kith_status step(batches *b, ki_rng *rng, double *objective, kith_error *err)
{
    ki_rng_sample(rng, b->n, b->size, b->picked);
    for (size_t i = 0; i < b->size; i++)
        memcpy(b->rows + i * b->dim, b->x + b->picked[i] * b->dim, b->dim * sizeof *b->rows);
    ki_nearest_set(&b->nearest, b->centroids);
    ki_pool_run(ki_run_pool(b->run), (b->size + b->block_size - 1) / b->block_size, assign_block, b);
    KI_TRY(ki_run_check(b->run, err));
    if (b->no_memory) return ki_fail(err, KITH_NOMEM, "out of memory for the distances of a block");
    sort_by_centroid(b);
    ki_pool_run(ki_run_pool(b->run), (b->k + UPDATE_BLOCK - 1) / UPDATE_BLOCK, update_block, b);
    *objective = 0;
    for (size_t j = 0; j < b->k; j++) *objective += b->found[j];
    *objective *= (double)b->n / (double)b->size;
    return KITH_OK;
}

kith_status ki_kmeans_batches(const float *x, size_t n, size_t dim, size_t k,
                              const kith_kmeans_options *options, const kith_run *run, float *centroids,
                              kith_kmeans_result *result, kith_error *err)
{
    batches b = {.x = x,
                 .n = n,
                 .dim = dim,
                 .k = k,
                 .size = options->mini_batch < n ? options->mini_batch : n,
                 .allocator = options->allocator,
                 .run = run,
                 .spherical = options->spherical,
                 .centroids = centroids};
    b.nearest.allocator = b.allocator;
    ki_stage stage;
    ki_stage_begin(&stage, run, "training", (uint64_t)options->max_iterations * b.size);
    kith_status status = batches_init(&b, err);
    uint64_t done = 0;
    int woken = 0;
    while (status == KITH_OK && result->iterations < options->max_iterations) {
        ki_rng rng;
        ki_rng_init(&rng, options->seed, STREAM + result->iterations);
        status = step(&b, &rng, &result->objective, err);
        if (status != KITH_OK) break;
        result->iterations++;
        done += b.size;
        if (options->iteration)
            options->iteration(options->iteration_ctx, result->iterations, result->objective);
        if (!woken && done >= n && result->iterations < options->max_iterations) {
            wake(&b, &rng);
            woken = 1;
        }
        ki_stage_report(&stage, done);
    }
    batches_clear(&b);
    return status;
}
