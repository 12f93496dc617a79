/* Lloyd's k-means (S. P. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2), 1982), as
 * the textbook has it: seed, assign, update, until no point changes its centroid.
 *
 * Assign. The nearest centroid comes from a matrix product (kmeans_nearest.c), whose rounding may prefer a
 * centroid that is a hair farther than the point's present one. So a point moves only if the exact distance
 * says so: the objective cannot go up by rounding, and the loop cannot run in circles. The objective is the
 * sum of these exact distances.
 *
 * Update. A counting sort lists the points of each centroid in their order; each centroid is then the float64
 * mean over its list. So a sum has one order however many threads work, and there is nothing to merge. One thread
 * whose sums all stay in cache does better to stream through the points and spare the lists, adding in that same
 * order.
 *
 * Empty clusters. Each takes half of the largest cluster with more than one distinct point: the two centroids
 * are put at the mean, plus and minus a short vector of random signs, and the next assignment cuts the
 * cluster by the plane between them. Where no cluster can be cut (fewer distinct points than k) an empty
 * centroid stays where it is. A split may raise the objective by SPLIT_STEP^2 of the cluster's share.
 *
 * Spherical. Centroids are scaled to unit length when they have moved to the mean (Dhillon & Modha 2001): the unit vector with the
 * largest inner product with the points of a cell, and so the nearest to them by L2 too, whatever the points' lengths. Assignment
 * stays as it is, and the objective still never rises.
 *
 * Three things may stand in for the product, which find the same nearest centroids by exact distances: a product of bytes, on CPUs
 * that multiply these faster (math/sieve.h); of few components, a product of 16 bits on the same CPUs (kmeans_grid.c); and where the
 * points have directions that tell most, a bound (kmeans_bound.c).
 *
 * Deterministic: blocks have a size that depends on the shape alone, their partial sums are added in order.
 */
#include "cluster/kmeans_internal.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/pool.h"
#include "base/rng.h"
#include "cluster/kmeans_balance.h"

/* Half the distance of the two centroids of a split, over the root mean square distance of the cluster's
 * points to their mean. Arbitrary: small against the cluster, large against float32 rounding. */
#define SPLIT_STEP (1.0 / 128)

/* A spread below this part of the sum that it was computed from is rounding: all points are equal. */
#define SPREAD_FLOOR 1e-6

/* The bound (kmeans_bound.c) costs more than it spares when it lets more than one centroid in this many through. */
#define FILTER_MAX_SHARE 12

/* Nor does the grid (kmeans_grid.c) pay when more than one point in this many is not told by it. */
#define GRID_MAX_SHARE 4

#define STREAM_SUMS 32768 /* doubles, 256 KiB: a part of any L2 cache */

#define UPDATE_BLOCK 32 /* centroids a block of the update: enough to make handing it out cheap */

/* What one block found; in block order these make the totals of an iteration. */
typedef struct block_result {
    double sum; /* of exact distances */
    size_t changed;
    size_t looked_at; /* centroids that the bound could not exclude */
    size_t unsure;    /* points for which the grid is too rough */
    size_t rough;     /* blocks for which bytes were too rough */
} block_result;

typedef struct lloyd {
    const float *x; /* [n][dim] */
    size_t n, dim, k;
    const kith_allocator *allocator;
    const kith_run *run;
    const ki_kernels *kernels;
    float *centroids;  /* [k][dim], the caller's */
    uint32_t *assign;  /* [n] */
    float *dist;       /* [n]: squared, exact */
    int spherical;     /* centroids are of unit length */
    int has_previous;  /* assign[] holds the previous iteration's answer */
    size_t block_size; /* points a block of assignment */
    size_t n_blocks;
    ki_nearest nearest;    /* the plain way */
    ki_sieve *sieve;       /* the centroids in bytes; NULL: another way */
    ki_grid *grid;         /* points and centroids in 16 bits; NULL: another way */
    ki_map *map;           /* the bound; NULL: it would not pay */
    ki_filter *filter;     /* the centroids in the map; NULL: the plain way */
    float *points;         /* [n][depth]: the points in the map */
    uint32_t *found;       /* [threads][block_size]: scratch, the product's answer or the previous one */
    float *limit;          /* [threads][block_size]: scratch of the filter */
    block_result *results; /* [n_blocks] */
    ki_stage *stage;       /* told by the calling thread */
    uint64_t done;         /* points assigned so far, atomic */
    int no_memory;         /* a block had none, atomic */

    int streams;     /* update by one pass over the points, without order[] and start[] */
    uint32_t *order; /* [n]: points by centroid, ascending within one */
    size_t *start;   /* [k + 1]: order[start[j]..start[j+1]) belong to j */
    double *sums;    /* scratch: [threads][dim], or [k][dim] for streams */
    size_t *size;    /* [k]: points of a centroid */
    double *spread;  /* [k]: sum of squared distances of a centroid's points to their mean */
} lloyd;

/* ---- assign ---- */

/* Give point i the centroid `found`, unless the one it has is at least as near. Returns the exact distance. */
static float settle(lloyd *l, size_t i, uint32_t found, size_t *changed)
{
    const float *x = l->x + i * l->dim;
    float distance = l->kernels->l2sq_f32(x, l->centroids + found * l->dim, l->dim);
    uint32_t had = l->assign[i];
    if (!l->has_previous) {
        ++*changed;
    } else if (had != found) {
        float to_had = l->kernels->l2sq_f32(x, l->centroids + had * l->dim, l->dim);
        if (to_had < distance || (to_had == distance && had < found)) return to_had;
        ++*changed;
    }
    l->assign[i] = found;
    return distance;
}

/* The plain way: the product's answer, judged. */
static kith_status assign_plain(lloyd *l, size_t begin, size_t n, uint32_t *found, block_result *result)
{
    KI_TRY(ki_nearest_find(&l->nearest, l->x + begin * l->dim, n, found));
    for (size_t i = 0; i < n; i++) {
        l->dist[begin + i] = settle(l, begin + i, found[i], &result->changed);
        result->sum += (double)l->dist[begin + i];
    }
    return KITH_OK;
}

/* Exact answers, which were before[n] in the last iteration if there was one. */
static void tally(const lloyd *l, size_t begin, size_t n, const uint32_t *before, block_result *result)
{
    for (size_t i = 0; i < n; i++) {
        result->changed += !l->has_previous || l->assign[begin + i] != before[i];
        result->sum += (double)l->dist[begin + i];
    }
}

/* By the bound, from the previous answer or from a guess. */
static kith_status assign_filtered(lloyd *l, size_t begin, size_t n, uint32_t *before, float *limit,
                                   block_result *result)
{
    uint32_t *assign = l->assign + begin;
    float *dist = l->dist + begin;
    const float *e = l->points + begin * ki_map_depth(l->map);
    if (l->has_previous)
        memcpy(before, assign, n * sizeof *before);
    else
        KI_TRY(ki_filter_guess(l->filter, e, n, assign));
    KI_TRY(ki_filter_find(l->filter, l->x + begin * l->dim, e, n, assign, dist, limit, &result->looked_at));
    tally(l, begin, n, before, result);
    return KITH_OK;
}

/* By bytes first, from the previous answer or from none. *done: 0 where they are too rough, and nothing has changed. */
static kith_status assign_sieved(lloyd *l, size_t begin, size_t n, uint32_t *before, block_result *result,
                                 int *done)
{
    uint32_t *assign = l->assign + begin;
    float *dist = l->dist + begin;
    if (l->has_previous) memcpy(before, assign, n * sizeof *before);
    KI_TRY(
        ki_sieve_argmin(NULL, l->sieve, l->x + begin * l->dim, n, l->has_previous, assign, dist, done, NULL));
    if (!*done) {
        result->rough = 1;
        if (l->has_previous) memcpy(assign, before, n * sizeof *before);
        return KITH_OK;
    }
    tally(l, begin, n, before, result);
    return KITH_OK;
}

/* By the grid. */
static void assign_on_grid(lloyd *l, size_t begin, size_t n, uint32_t *before, block_result *result)
{
    if (l->has_previous) memcpy(before, l->assign + begin, n * sizeof *before);
    ki_grid_find(l->grid, begin, n, l->assign + begin, l->dist + begin, &result->unsure);
    tally(l, begin, n, before, result);
}

static void assign_block(void *ctx, size_t block, size_t worker)
{
    lloyd *l = ctx;
    size_t begin = block * l->block_size, at = worker * l->block_size;
    size_t n = l->n - begin < l->block_size ? l->n - begin : l->block_size;
    block_result *result = &l->results[block];
    if (l->run && kith_cancel_raised(l->run->cancel)) return;
    *result = (block_result){0};
    int sieved = 0;
    kith_status status = KITH_OK;
    if (l->sieve) status = assign_sieved(l, begin, n, l->found + at, result, &sieved);
    if (l->grid)
        assign_on_grid(l, begin, n, l->found + at, result);
    else if (status == KITH_OK && !sieved)
        status = l->filter ? assign_filtered(l, begin, n, l->found + at, l->limit + at, result)
                           : assign_plain(l, begin, n, l->found + at, result);
    if (status != KITH_OK) {
        __atomic_store_n(&l->no_memory, 1, __ATOMIC_RELAXED);
        return;
    }
    uint64_t done = __atomic_add_fetch(&l->done, n, __ATOMIC_RELAXED);
    if (worker == 0) ki_stage_report(l->stage, done);
}

static kith_status assign_all(lloyd *l, block_result *total, kith_error *err)
{
    if (l->grid)
        ki_grid_set(l->grid, l->centroids);
    else if (l->filter)
        KI_TRY(ki_filter_set(l->filter, l->centroids, err));
    else
        ki_nearest_set(&l->nearest, l->centroids);
    if (l->sieve) ki_sieve_refill(l->sieve, l->centroids);
    ki_pool_run(ki_run_pool(l->run), l->n_blocks, assign_block, l);
    KI_TRY(ki_run_check(l->run, err));
    if (l->no_memory) return ki_fail(err, KITH_NOMEM, "out of memory for the distances of a block");
    *total = (block_result){0};
    for (size_t block = 0; block < l->n_blocks; block++) {
        total->sum += l->results[block].sum;
        total->changed += l->results[block].changed;
        total->looked_at += l->results[block].looked_at;
        total->unsure += l->results[block].unsure;
        total->rough += l->results[block].rough;
    }
    return KITH_OK;
}

/* ---- update ---- */

/* order[] and start[] by a counting sort of assign[]. */
static void sort_by_centroid(lloyd *l)
{
    const uint32_t *assign = l->assign;
    size_t n = l->n, *start = l->start;
    memset(start, 0, (l->k + 1) * sizeof *start);
    for (size_t i = 0; i < n; i++) start[assign[i] + 1]++;
    for (size_t j = 0; j < l->k; j++) start[j + 1] += start[j];
    for (size_t i = 0; i < n; i++) l->order[start[assign[i]]++] = (uint32_t)i;
    memmove(start + 1, start,
            l->k * sizeof *start); /* each has moved to its end, where the next one starts */
    start[0] = 0;
}

/* Move centroid j to the mean; spread[j] holds the sum of squared distances to where it was. */
static void move_to_mean(lloyd *l, size_t j, const double *sum)
{
    size_t dim = l->dim, size = l->size[j];
    float *centroid = l->centroids + j * dim;
    double around_old = l->spread[j], step = 0;
    l->spread[j] = 0;
    if (size == 0) return;
    double length2 = 0;
    for (size_t d = 0; d < dim; d++) {
        double mean = sum[d] / (double)size, moved = mean - (double)centroid[d];
        step += moved * moved;
        length2 += mean * mean;
    }
    /* Spherical: points that cancel each other out have no direction, and leave the centroid where it is. */
    double scale = !l->spherical ? 1 : length2 > 0 ? 1 / sqrt(length2) : 0;
    for (size_t d = 0; d < dim && scale > 0; d++) centroid[d] = (float)(sum[d] / (double)size * scale);
    /* The sum of squares around any point is the one around the mean, plus size times the squared distance to
     * the mean (Huygens, Steiner). */
    double spread = around_old - (double)size * step;
    if (spread > SPREAD_FLOOR * around_old) l->spread[j] = spread;
}

static void update_block(void *ctx, size_t block, size_t worker)
{
    lloyd *l = ctx;
    size_t end = (block + 1) * UPDATE_BLOCK < l->k ? (block + 1) * UPDATE_BLOCK : l->k;
    double *sum = l->sums + worker * l->dim;
    for (size_t j = block * UPDATE_BLOCK; j < end; j++) {
        memset(sum, 0, l->dim * sizeof *sum);
        l->size[j] = l->start[j + 1] - l->start[j];
        l->spread[j] = 0;
        for (size_t at = l->start[j]; at < l->start[j + 1]; at++) {
            size_t i = l->order[at];
            l->kernels->add_f64(sum, l->x + i * l->dim, l->dim);
            l->spread[j] += (double)l->dist[i];
        }
        move_to_mean(l, j, sum);
    }
}

/* The points in their order, each to the sum of its centroid: the same additions in the same order as by the lists. */
static void update_in_stream(lloyd *l)
{
    size_t dim = l->dim;
    memset(l->sums, 0, l->k * dim * sizeof *l->sums);
    memset(l->size, 0, l->k * sizeof *l->size);
    for (size_t j = 0; j < l->k; j++) l->spread[j] = 0;
    l->kernels->add_f64_rows(l->sums, l->x, l->n, dim, l->assign);
    for (size_t i = 0; i < l->n; i++) {
        size_t j = l->assign[i];
        l->spread[j] += (double)l->dist[i];
        l->size[j]++;
    }
    for (size_t j = 0; j < l->k; j++) move_to_mean(l, j, l->sums + j * dim);
}

static void update(lloyd *l)
{
    if (l->streams) {
        update_in_stream(l);
        return;
    }
    sort_by_centroid(l);
    ki_pool_run(ki_run_pool(l->run), (l->k + UPDATE_BLOCK - 1) / UPDATE_BLOCK, update_block, l);
}

/* ---- empty clusters ---- */

static void split(lloyd *l, size_t from, size_t to, double step, ki_rng *rng)
{
    size_t dim = l->dim;
    float *a = l->centroids + from * dim, *b = l->centroids + to * dim;
    for (size_t d = 0; d < dim; d++) {
        double signed_step = ki_rng_u64(rng) >> 63 ? step : -step, at = (double)a[d];
        a[d] = (float)(at + signed_step);
        b[d] = (float)(at - signed_step);
    }
    if (l->spherical) ki_kmeans_scale(a, dim, from);
    if (l->spherical) ki_kmeans_scale(b, dim, to);
}

/* Returns how many empty centroids took half of another. */
static size_t fill_empty(lloyd *l, uint64_t seed, size_t iteration)
{
    size_t *size = l->size, splits = 0;
    ki_rng rng;
    ki_rng_init(&rng, seed, 2 + iteration);
    for (size_t j = 0; j < l->k; j++) {
        if (size[j] > 0) continue;
        size_t largest = l->k;
        for (size_t i = 0; i < l->k; i++)
            if (l->spread[i] > 0 && size[i] > 1 && (largest == l->k || size[i] > size[largest])) largest = i;
        if (largest == l->k) break;
        double each = l->spread[largest] / (double)size[largest];
        split(l, largest, j, SPLIT_STEP * sqrt(each / (double)l->dim), &rng);
        /* Each half is thought of as half the points with the same mean square: good enough to choose by. */
        size[j] = size[largest] / 2;
        size[largest] -= size[j];
        l->spread[j] = each * (double)size[j];
        l->spread[largest] = each * (double)size[largest];
        splits++;
    }
    return splits;
}

/* ---- the loop ---- */

static kith_status use_bound(lloyd *l, uint64_t seed, kith_error *err)
{
    KI_TRY(ki_map_create(l->x, l->n, l->dim, l->k, seed, l->allocator, &l->map, err));
    if (!l->map) return KITH_OK;
    KI_TRY(ki_filter_create(l->map, l->k, &l->filter, err));
    size_t floats = l->n * ki_map_depth(l->map);
    l->points = ki_alloc(l->allocator, floats, sizeof *l->points);
    if (!l->points) return ki_fail_nomem(err, floats * sizeof *l->points);
    return ki_map_all(l->map, l->x, l->n, l->run, l->points, err);
}

static kith_status lloyd_run(lloyd *l, const kith_kmeans_options *options, kith_kmeans_result *result,
                             kith_error *err)
{
    ki_stage stage;
    ki_stage_begin(&stage, l->run, "training", (uint64_t)options->max_iterations * l->n);
    l->stage = &stage;
    while (result->iterations < options->max_iterations && !result->converged) {
        block_result total = {0};
        KI_TRY(assign_all(l, &total, err));
        l->has_previous = 1;
        result->iterations++;
        result->objective = total.sum;
        result->converged = total.changed == 0;
        if (options->iteration)
            options->iteration(options->iteration_ctx, result->iterations, result->objective);
        update(l); /* after the last change too: a split that cut nothing left its centroid beside the mean */
        result->largest = 0;
        for (size_t j = 0; j < l->k; j++)
            if (l->size[j] > result->largest) result->largest = l->size[j];
        if (result->converged) break;
        result->splits += fill_empty(l, options->seed, result->iterations);
        if (l->grid && total.unsure > l->n / GRID_MAX_SHARE) {
            ki_grid_free(l->grid);
            l->grid = NULL;
        }
        if (l->filter && total.looked_at / l->n > l->k / FILTER_MAX_SHARE) {
            ki_filter_free(l->filter);
            l->filter = NULL;
        }
        if (l->sieve && total.rough > 0) {
            ki_sieve_free(l->sieve);
            l->sieve = NULL;
            KI_TRY(use_bound(l, options->seed, err));
        }
    }
    ki_stage_report(&stage, stage.total);
    return KITH_OK;
}

/* lloyd_clear is allowed after a failure. */
static kith_status lloyd_init(lloyd *l, uint64_t seed, kith_error *err)
{
    const kith_allocator *allocator = l->allocator;
    size_t threads = kith_pool_threads(ki_run_pool(l->run));
    l->kernels = ki_kernels_get();
    l->block_size = ki_nearest_block(l->dim, l->k);
    if (ki_sieve_pays(l->k, l->dim)) l->block_size = ki_sieve_blocks(l->block_size);
    KI_TRY(ki_grid_create(l->x, l->n, l->dim, l->k, allocator, l->run, &l->grid, err));
    if (l->grid) l->block_size = l->block_size / KI_GRID_ROWS * KI_GRID_ROWS;
    l->n_blocks = (l->n + l->block_size - 1) / l->block_size;
    l->streams = threads == 1 && l->k * l->dim <= STREAM_SUMS;
    l->assign = ki_alloc(allocator, l->n, sizeof *l->assign);
    l->dist = ki_alloc(allocator, l->n, sizeof *l->dist);
    l->found = ki_alloc(allocator, threads * l->block_size, sizeof *l->found);
    l->limit = ki_alloc(allocator, threads * l->block_size, sizeof *l->limit);
    l->results = ki_alloc(allocator, l->n_blocks, sizeof *l->results);
    l->order = ki_alloc(allocator, l->streams ? 0 : l->n, sizeof *l->order);
    l->start = ki_alloc(allocator, l->k + 1, sizeof *l->start);
    l->sums = ki_alloc(allocator, (l->streams ? l->k : threads) * l->dim, sizeof *l->sums);
    l->size = ki_alloc(allocator, l->k, sizeof *l->size);
    l->spread = ki_alloc(allocator, l->k, sizeof *l->spread);
    if (!l->assign || !l->dist || !l->found || !l->limit || !l->results || !l->order || !l->start ||
        !l->sums || !l->size || !l->spread)
        return ki_fail_nomem(err, l->n * sizeof *l->order);
    KI_TRY(ki_nearest_init(&l->nearest, l->dim, l->k, allocator, err));
    if (ki_sieve_pays(l->k, l->dim))
        return ki_sieve_create(l->centroids, l->k, l->dim, allocator, &l->sieve, err);
    return use_bound(l, seed, err);
}

static void lloyd_clear(lloyd *l)
{
    void *const blocks[] = {l->assign, l->dist,  l->points, l->found, l->limit, l->results,
                            l->order,  l->start, l->sums,   l->size,  l->spread};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) ki_free(l->allocator, blocks[i]);
    ki_sieve_free(l->sieve);
    ki_grid_free(l->grid);
    ki_filter_free(l->filter);
    ki_map_free(l->map);
    ki_nearest_clear(&l->nearest);
}

/* ---- the door ---- */

static kith_status check_options(const kith_kmeans_options *options, kith_error *err)
{
    if (options->init != KITH_KMEANS_RANDOM && options->init != KITH_KMEANS_PLUSPLUS)
        return ki_fail(err, KITH_INVALID, "init is %d, allowed 0..1", (int)options->init);
    if (options->max_iterations == 0) return ki_fail(err, KITH_INVALID, "max_iterations is 0, allowed 1..");
    if (options->max_cell != 0 && !(options->max_cell >= 1 && options->max_cell <= 1e6))
        return ki_fail(err, KITH_INVALID, "max_cell is %g, allowed 0 and 1..1e6", options->max_cell);
    if (options->mini_batch > UINT32_MAX)
        return ki_fail(err, KITH_INVALID, "mini_batch is %zu, allowed 0..%u", options->mini_batch,
                       UINT32_MAX);
    return KITH_OK;
}

/* The points to train on: all, or a copy of a sample. */
static kith_status take_sample(const float **x, size_t *n, float **sample, size_t dim, size_t k,
                               const kith_kmeans_options *options, kith_error *err)
{
    size_t most;
    if (options->max_points_per_centroid == 0) return KITH_OK;
    if (!ki_mul_fits(options->max_points_per_centroid, k, &most) || most >= *n) return KITH_OK;
    uint64_t *picked = ki_alloc(options->allocator, most, sizeof *picked);
    if (!picked) return ki_fail_nomem(err, most * sizeof *picked);
    *sample = ki_alloc(options->allocator, most * dim, sizeof **sample);
    if (!*sample) {
        ki_free(options->allocator, picked);
        return ki_fail_nomem(err, most * dim * sizeof **sample);
    }
    ki_rng rng;
    ki_rng_init(&rng, options->seed, 0);
    ki_rng_sample(&rng, *n, most, picked);
    for (size_t i = 0; i < most; i++) memcpy(*sample + i * dim, *x + picked[i] * dim, dim * sizeof **sample);
    ki_free(options->allocator, picked);
    *x = *sample;
    *n = most;
    return KITH_OK;
}

/* Lloyd from centroids, which are the seeds. */
static kith_status train_lloyd(lloyd *l, const kith_kmeans_options *options, kith_kmeans_result *result,
                               kith_error *err)
{
    kith_status status = lloyd_init(l, options->seed, err);
    if (status == KITH_OK) status = lloyd_run(l, options, result, err);
    lloyd_clear(l);
    return status;
}

/* centroids[k][dim]: those that the caller gave, or seeds. */
static kith_status begin(const float *x, size_t n, size_t dim, size_t k, const kith_kmeans_options *options,
                         const kith_run *run, float *centroids, kith_error *err)
{
    if (options->start) {
        KI_TRY(ki_kmeans_check_finite(options->start, k, dim, "start", err));
        memmove(centroids, options->start, k * dim * sizeof *centroids);
    } else {
        float *distance = ki_alloc(options->allocator, n, sizeof *distance);
        if (!distance) return ki_fail_nomem(err, n * sizeof *distance);
        kith_status status = ki_kmeans_seed(x, n, dim, k, options->init, options->seed, options->allocator,
                                            run, centroids, distance, err);
        ki_free(options->allocator, distance);
        if (status != KITH_OK) return status;
    }
    for (size_t j = 0; j < k && options->spherical; j++) ki_kmeans_scale(centroids + j * dim, dim, j);
    return KITH_OK;
}

kith_status kith_kmeans_train(const float *x, size_t n, size_t dim, size_t k,
                              const kith_kmeans_options *given, const kith_run *run, float *centroids,
                              kith_kmeans_result *result, kith_error *err)
{
    kith_kmeans_options own, *options = &own;
    kith_kmeans_options_init(options);
    KI_TRY(ki_options_read(options, sizeof *options, given, "options", err));
    KI_TRY(ki_kmeans_check(x, n, dim, centroids, k, err));
    KI_TRY(check_options(options, err));
    if (k > n) return ki_fail(err, KITH_INVALID, "k is %zu, allowed 1..%zu (the number of points)", k, n);
    float *sample = NULL;
    KI_TRY(take_sample(&x, &n, &sample, dim, k, options, err));

    kith_kmeans_result unused;
    if (!result) result = &unused;
    *result = (kith_kmeans_result){.points_used = n};
    kith_status status = KITH_OK;
    if (n > UINT32_MAX)
        status = ki_fail(err, KITH_INVALID, "n is %zu, allowed 1..%u points to train on", n, UINT32_MAX);
    if (status == KITH_OK) status = ki_kmeans_check_finite(x, n, dim, "x", err);
    if (status == KITH_OK) status = begin(x, n, dim, k, options, run, centroids, err);
    if (status == KITH_OK && options->mini_batch > 0) {
        status = ki_kmeans_batches(x, n, dim, k, options, run, centroids, result, err);
    } else if (status == KITH_OK) {
        lloyd l = {.x = x, .n = n, .dim = dim, .k = k, .centroids = centroids, .run = run};
        l.allocator = l.nearest.allocator = options->allocator;
        l.spherical = options->spherical;
        status = train_lloyd(&l, options, result, err);
    }
    if (status == KITH_OK && options->max_cell > 0)
        status = ki_kmeans_balance(x, n, dim, k, options, run, centroids, result, err);
    ki_free(options->allocator, sample);
    return status;
}
