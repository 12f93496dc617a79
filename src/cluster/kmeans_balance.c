/* Balancing k-means: no centroid is the nearest of more than so many points.
 *
 * Lists that a query has to go through are as long as cells are large, so a few large cells cost more than all small ones
 * spare. Assigning points to cells that are not nearest would bound their sizes (and lose what a search relies on); so it is the centroids
 * that move. As in ISODATA (G. H. Ball and D. J. Hall, 1965) large cells are split and the smallest are given up, in rounds:
 *
 *   1. Cells above the bound are taken, largest first. One of s points is to become p = ceil(s / bound) cells (2 at least):
 *      k-means of its points, and for p - 1 of the new centroids the smallest cells are given up, none of them twice, none
 *      that has its share of points or more.
 *   2. Points of the cells that were split or given up look for their nearest centroid among all. All others know theirs:
 *      it is the one they had or one of the new ones, so they are compared with these alone.
 *   3. Until no cell is above the bound, or nothing can be split, or after MAX_ROUNDS. The centroids whose largest cell was
 *      smallest are kept.
 *
 * The points of a cell that is given up make its neighbours grow, and these may have to be split in turn: the k cells hold
 * n points whatever is done, so it ends as long as the bound is some way above n / k. On sift1m, 4,096 cells of 262,144 points,
 * a bound of 2 is reached after a few rounds.
 *
 * Deterministic: which cells, by size and then number; distances are those of l2sq_f32, ties to the lower number. */
#include "cluster/kmeans_balance.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "cluster/kmeans_internal.h"

#define MAX_ROUNDS 64       /* sift1m needs 5 for a bound of 2 (2026-11-21) */
#define SPLIT_ITERATIONS 10 /* of k-means of one cell; more gained nothing */
#define MAX_PIECES 64       /* of one cell in one round: what is still too large is split again */

typedef struct balance {
    const float *x; /* [n][dim] */
    size_t n, dim, k, most;
    const kith_kmeans_options *options;
    const kith_allocator *allocator;
    const kith_run *run;
    const ki_kernels *kernels;
    float *centroids; /* [k][dim], the caller's */
    float *best;      /* [k][dim] those with the smallest largest cell so far */
    uint32_t *assign; /* [n] */
    float *dist;      /* [n] */
    uint32_t *order;  /* [n]: points by cell */
    size_t *start;    /* [k + 1] */
    size_t *size;     /* [k] */
    uint32_t *ranked; /* [k]: cells by size, the smallest first */
    uint8_t *changed; /* [k]: split or given up in this round, all of which have new centroids */
    uint8_t *whole;   /* [k]: could not be split: its points are equal */
    uint32_t *fresh;  /* [k]: the same as numbers, ascending */
    size_t n_fresh;
} balance;

static kith_status balance_init(balance *b, kith_error *err)
{
    const kith_allocator *a = b->allocator;
    b->best = ki_alloc(a, b->k * b->dim, sizeof *b->best);
    b->assign = ki_alloc(a, b->n, sizeof *b->assign);
    b->dist = ki_alloc(a, b->n, sizeof *b->dist);
    b->order = ki_alloc(a, b->n, sizeof *b->order);
    b->start = ki_alloc(a, b->k + 1, sizeof *b->start);
    b->size = ki_alloc(a, b->k, sizeof *b->size);
    b->ranked = ki_alloc(a, b->k, sizeof *b->ranked);
    b->changed = ki_alloc(a, b->k, sizeof *b->changed);
    b->whole = ki_alloc_zero(a, b->k, sizeof *b->whole);
    b->fresh = ki_alloc(a, b->k, sizeof *b->fresh);
    if (b->best && b->assign && b->dist && b->order && b->start && b->size && b->ranked && b->changed &&
        b->whole && b->fresh)
        return KITH_OK;
    return ki_fail_nomem(err, b->n * 12 + b->k * b->dim * sizeof *b->best);
}

static void balance_clear(balance *b)
{
    void *const blocks[] = {b->best, b->assign, b->dist,    b->order, b->start,
                            b->size, b->ranked, b->changed, b->whole, b->fresh};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) ki_free(b->allocator, blocks[i]);
}

/* order[], start[], size[] out of assign[], and ranked[] by a counting sort of sizes. Returns the largest size. */
static size_t take_stock(balance *b)
{
    size_t *start = b->start, largest = 0;
    memset(start, 0, (b->k + 1) * sizeof *start);
    for (size_t i = 0; i < b->n; i++) start[b->assign[i] + 1]++;
    for (size_t j = 0; j < b->k; j++) {
        b->size[j] = start[j + 1];
        if (b->size[j] > largest) largest = b->size[j];
        start[j + 1] += start[j];
    }
    for (size_t i = 0; i < b->n; i++) b->order[start[b->assign[i]]++] = (uint32_t)i;
    memmove(start + 1, start, b->k * sizeof *start);
    start[0] = 0;
    return largest;
}

/* Cells by (size, number) into ranked[]: a merge sort, from the bottom. other[k] is scratch. */
static void rank(balance *b, uint32_t *other)
{
    uint32_t *from = b->ranked, *to = other;
    for (size_t j = 0; j < b->k; j++) from[j] = (uint32_t)j;
    for (size_t width = 1; width < b->k; width *= 2) {
        for (size_t left = 0; left < b->k; left += 2 * width) {
            size_t i = left, middle = left + width < b->k ? left + width : b->k;
            size_t j = middle, end = left + 2 * width < b->k ? left + 2 * width : b->k;
            for (size_t at = left; at < end; at++) {
                int first = j == end || (i < middle && b->size[from[i]] <= b->size[from[j]]);
                to[at] = from[first ? i++ : j++];
            }
        }
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != b->ranked) memcpy(b->ranked, from, b->k * sizeof *from);
}

/* k-means of the points of a cell: its centroid becomes the first of `pieces`, the others go to `spare`[pieces - 1], cells
 * that are given up. *split: whether its points were not all equal. */
static kith_status split(balance *b, uint32_t cell, size_t pieces, const uint32_t *spare, int *split,
                         kith_error *err)
{
    size_t n = b->size[cell], dim = b->dim;
    const uint32_t *members = b->order + b->start[cell];
    float *rows = ki_alloc(b->allocator, n * dim, sizeof *rows);
    float *centroids = ki_alloc(b->allocator, pieces * dim, sizeof *centroids);
    kith_status status = rows && centroids ? KITH_OK : ki_fail_nomem(err, n * dim * sizeof *rows);
    int distinct = 0;
    for (size_t i = 0; i < n && status == KITH_OK; i++) {
        memcpy(rows + i * dim, b->x + members[i] * dim, dim * sizeof *rows);
        distinct = distinct || memcmp(rows, rows + i * dim, dim * sizeof *rows) != 0;
    }
    *split = distinct;
    if (status == KITH_OK && distinct) {
        kith_kmeans_options options;
        kith_kmeans_options_init(&options);
        options.init = KITH_KMEANS_PLUSPLUS;
        options.max_iterations = SPLIT_ITERATIONS;
        options.max_points_per_centroid = 0;
        options.seed = b->options->seed;
        options.spherical = b->options->spherical;
        options.allocator = b->allocator;
        kith_run quiet = ki_run_quiet(b->run);
        status = kith_kmeans_train(rows, n, dim, pieces, &options, &quiet, centroids, NULL, err);
    }
    for (size_t p = 0; p < pieces && status == KITH_OK && distinct; p++) {
        uint32_t to = p == 0 ? cell : spare[p - 1];
        memcpy(b->centroids + to * dim, centroids + p * dim, dim * sizeof *centroids);
        b->changed[to] = 1;
    }
    ki_free(b->allocator, rows);
    ki_free(b->allocator, centroids);
    return status;
}

/* Step 1. */
static kith_status split_large(balance *b, kith_kmeans_result *result, kith_error *err)
{
    size_t lowest = 0, highest = b->k; /* ranked[lowest..highest) are neither given up nor split */
    memset(b->changed, 0, b->k);
    b->n_fresh = 0;
    while (highest > lowest && b->size[b->ranked[highest - 1]] > b->most) {
        uint32_t cell = b->ranked[--highest];
        if (b->whole[cell]) continue;
        size_t pieces = (b->size[cell] + b->most - 1) / b->most, spare = 0;
        if (pieces > MAX_PIECES) pieces = MAX_PIECES;
        while (spare < pieces - 1 && lowest + spare < highest &&
               b->size[b->ranked[lowest + spare]] * b->k < b->n)
            spare++;
        if (spare == 0) break;
        int done;
        KI_TRY(split(b, cell, spare + 1, b->ranked + lowest, &done, err));
        b->whole[cell] = !done;
        if (!done) continue;
        lowest += spare;
        result->moved += spare;
    }
    for (size_t j = 0; j < b->k; j++)
        if (b->changed[j]) b->fresh[b->n_fresh++] = (uint32_t)j;
    return KITH_OK;
}

/* Points of changed cells, gathered, to their nearest of all centroids. */
static kith_status settle_changed(balance *b, kith_error *err)
{
    size_t n = 0, dim = b->dim, at = 0;
    for (size_t j = 0; j < b->k; j++) n += b->changed[j] ? b->size[j] : 0;
    if (n == 0) return KITH_OK;
    float *rows = ki_alloc(b->allocator, n * dim, sizeof *rows);
    float *dist = ki_alloc(b->allocator, n, sizeof *dist);
    uint32_t *which = ki_alloc(b->allocator, n, sizeof *which);
    uint32_t *point = ki_alloc(b->allocator, n, sizeof *point);
    kith_status status =
        rows && dist && which && point ? KITH_OK : ki_fail_nomem(err, n * dim * sizeof *rows);
    for (size_t i = 0; i < b->n && status == KITH_OK; i++) {
        if (!b->changed[b->assign[i]]) continue;
        memcpy(rows + at * dim, b->x + i * dim, dim * sizeof *rows);
        point[at++] = (uint32_t)i;
    }
    kith_run quiet = ki_run_quiet(b->run);
    if (status == KITH_OK)
        status = kith_kmeans_assign(rows, n, dim, b->centroids, b->k, b->allocator, &quiet, which, dist, err);
    for (size_t i = 0; i < n && status == KITH_OK; i++) {
        b->assign[point[i]] = which[i];
        b->dist[point[i]] = dist[i];
    }
    ki_free(b->allocator, rows);
    ki_free(b->allocator, dist);
    ki_free(b->allocator, which);
    ki_free(b->allocator, point);
    return status;
}

/* All other points: one of the fresh centroids, or the one they have. */
typedef struct compare_job {
    balance *b;
    const ki_nearest *nearest; /* the fresh ones */
    uint32_t *found;           /* [threads][block] */
    size_t block;
    int no_memory; /* atomic */
} compare_job;

static void compare_block(void *ctx, size_t block, size_t worker)
{
    compare_job *job = ctx;
    balance *b = job->b;
    size_t first = block * job->block, n = b->n - first < job->block ? b->n - first : job->block;
    uint32_t *found = job->found + worker * job->block;
    if (b->run && kith_cancel_raised(b->run->cancel)) return;
    if (ki_nearest_find(job->nearest, b->x + first * b->dim, n, found) != KITH_OK) {
        __atomic_store_n(&job->no_memory, 1, __ATOMIC_RELAXED);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t point = first + i;
        const float *centroid = job->nearest->centroids + found[i] * b->dim;
        float d = b->kernels->l2sq_f32(b->x + point * b->dim, centroid, b->dim);
        uint32_t cell = b->fresh[found[i]];
        if (d > b->dist[point] || (d == b->dist[point] && cell >= b->assign[point])) continue;
        b->assign[point] = cell;
        b->dist[point] = d;
    }
}

static kith_status settle_others(balance *b, kith_error *err)
{
    size_t m = b->n_fresh, dim = b->dim, threads = kith_pool_threads(ki_run_pool(b->run));
    ki_nearest nearest;
    compare_job job = {.b = b, .nearest = &nearest, .block = ki_nearest_block(dim, m)};
    float *centroids = ki_alloc(b->allocator, m * dim, sizeof *centroids);
    job.found = ki_alloc(b->allocator, threads * job.block, sizeof *job.found);
    kith_status status = centroids && job.found ? KITH_OK : ki_fail_nomem(err, m * dim * sizeof *centroids);
    if (status == KITH_OK) {
        status = ki_nearest_init(&nearest, dim, m, b->allocator, err);
        for (size_t f = 0; f < m; f++)
            memcpy(centroids + f * dim, b->centroids + b->fresh[f] * dim, dim * sizeof *centroids);
        if (status == KITH_OK) {
            ki_nearest_set(&nearest, centroids);
            ki_pool_run(ki_run_pool(b->run), (b->n + job.block - 1) / job.block, compare_block, &job);
            status = ki_run_check(b->run, err);
        }
        ki_nearest_clear(&nearest);
    }
    if (status == KITH_OK && job.no_memory)
        status = ki_fail(err, KITH_NOMEM, "out of memory for the distances of a block");
    ki_free(b->allocator, centroids);
    ki_free(b->allocator, job.found);
    return status;
}

static kith_status rounds(balance *b, kith_kmeans_result *result, kith_error *err)
{
    uint32_t *scratch = ki_alloc(b->allocator, b->k, sizeof *scratch);
    if (!scratch) return ki_fail_nomem(err, b->k * sizeof *scratch);
    kith_status status = kith_kmeans_assign(b->x, b->n, b->dim, b->centroids, b->k, b->allocator, b->run,
                                            b->assign, b->dist, err);
    size_t least = SIZE_MAX;
    for (size_t round = 0; status == KITH_OK; round++) {
        size_t largest = take_stock(b);
        if (largest < least) {
            least = result->largest = largest;
            memcpy(b->best, b->centroids, b->k * b->dim * sizeof *b->best);
            result->objective = 0;
            for (size_t i = 0; i < b->n; i++) result->objective += (double)b->dist[i];
        }
        if (largest <= b->most || round == MAX_ROUNDS) break;
        rank(b, scratch);
        status = split_large(b, result, err);
        if (status != KITH_OK || b->n_fresh == 0) break;
        status = settle_changed(b, err);
        if (status == KITH_OK) status = settle_others(b, err);
    }
    ki_free(b->allocator, scratch);
    if (status == KITH_OK) memcpy(b->centroids, b->best, b->k * b->dim * sizeof *b->best);
    return status;
}

kith_status ki_kmeans_balance(const float *x, size_t n, size_t dim, size_t k,
                              const kith_kmeans_options *options, const kith_run *run, float *centroids,
                              kith_kmeans_result *result, kith_error *err)
{
    double most = options->max_cell * (double)n / (double)k;
    balance b = {.x = x,
                 .n = n,
                 .dim = dim,
                 .k = k,
                 .most = most >= (double)n ? n
                         : most < 1        ? 1
                                           : (size_t)most,
                 .options = options,
                 .allocator = options->allocator,
                 .run = run,
                 .kernels = ki_kernels_get(),
                 .centroids = centroids};
    kith_status status = balance_init(&b, err);
    if (status == KITH_OK) status = rounds(&b, result, err);
    balance_clear(&b);
    return status;
}
