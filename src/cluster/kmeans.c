/* Lloyd's k-means (S. P. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2), 1982), as
 * the textbook has it: seed, assign, update, until no point changes its centroid.
 *
 * Assign. The nearest centroid comes from a matrix product (kmeans_nearest.c), whose rounding may prefer a
 * centroid that is a hair farther than the point's present one. So a point moves only if the exact distance
 * says so: the objective cannot go up by rounding, and the loop cannot run in circles. The objective is the
 * sum of these exact distances.
 *
 * Update. A counting sort lists the points of each centroid in their order; each centroid is then the float64
 * mean over its list. So a sum has one order however many threads work, and there is nothing to merge.
 *
 * Empty clusters. Each takes half of the largest cluster with more than one distinct point: the two centroids
 * are put at the mean, plus and minus a short vector of random signs, and the next assignment cuts the
 * cluster by the plane between them. Where no cluster can be cut (fewer distinct points than k) an empty
 * centroid stays where it is. A split may raise the objective by SPLIT_STEP^2 of the cluster's share.
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

/* Half the distance of the two centroids of a split, over the root mean square distance of the cluster's
 * points to their mean. Arbitrary: small against the cluster, large against float32 rounding. */
#define SPLIT_STEP (1.0 / 128)

/* A spread below this part of the sum that it was computed from is rounding: all points are equal. */
#define SPREAD_FLOOR 1e-6

#define UPDATE_BLOCK 32 /* centroids a block of the update: enough to make handing it out cheap */

/* One assignment pass, for training and for kith_kmeans_assign. */
typedef struct assign_pass {
    const float *x;
    size_t n, dim;
    const kith_allocator *allocator;
    const kith_run *run;
    ki_nearest nearest;
    uint32_t *assign;  /* [n] */
    float *dist;       /* [n] or NULL */
    int has_previous;  /* assign[] holds the previous iteration's answer */
    size_t block_size; /* points */
    size_t n_blocks;
    uint32_t *found;       /* [threads][block_size]: scratch, the product's answer */
    double *block_sum;     /* [n_blocks]: of exact distances */
    size_t *block_changed; /* [n_blocks] */
    ki_stage *stage;       /* told by the calling thread */
    uint64_t done;         /* points assigned so far, atomic */
    int no_memory;         /* a block had none, atomic */
} assign_pass;

typedef struct lloyd {
    assign_pass pass; /* first: what assign_block sees */
    float *centroids; /* [k][dim], the caller's */
    size_t k;
    uint32_t *order; /* [n]: points by centroid, ascending within one */
    size_t *start;   /* [k + 1]: order[start[j]..start[j+1]) belong to j */
    double *sums;    /* [threads][dim]: scratch */
    double *spread;  /* [k]: sum of squared distances of a centroid's points to their mean */
    size_t splits;
} lloyd;

/* ---- assign ---- */

static kith_status pass_init(assign_pass *pass, const float *x, size_t n, size_t dim, size_t k,
                             const kith_allocator *allocator, const kith_run *run, kith_error *err)
{
    *pass = (assign_pass){.x = x, .n = n, .dim = dim, .allocator = allocator, .run = run};
    pass->block_size = ki_nearest_block(dim, k);
    pass->n_blocks = (n + pass->block_size - 1) / pass->block_size;
    KI_TRY(ki_nearest_init(&pass->nearest, dim, k, allocator, err));
    size_t scratch = kith_pool_threads(ki_run_pool(run)) * pass->block_size;
    pass->found = ki_alloc(allocator, scratch, sizeof *pass->found);
    pass->block_sum = ki_alloc(allocator, pass->n_blocks, sizeof *pass->block_sum);
    pass->block_changed = ki_alloc(allocator, pass->n_blocks, sizeof *pass->block_changed);
    if (!pass->found || !pass->block_sum || !pass->block_changed)
        return ki_fail_nomem(err, scratch * sizeof *pass->found);
    return KITH_OK;
}

static void pass_clear(assign_pass *pass)
{
    ki_nearest_clear(&pass->nearest);
    ki_free(pass->allocator, pass->found);
    ki_free(pass->allocator, pass->block_sum);
    ki_free(pass->allocator, pass->block_changed);
}

/* Give point i the centroid `found`, unless the one it has is at least as near. Returns the exact distance.
 */
static float settle(assign_pass *pass, size_t i, uint32_t found, size_t *changed)
{
    const float *x = pass->x + i * pass->dim, *centroids = pass->nearest.centroids;
    float distance = pass->nearest.kernels->l2sq_f32(x, centroids + found * pass->dim, pass->dim);
    uint32_t had = pass->assign[i];
    if (!pass->has_previous) {
        ++*changed;
    } else if (had != found) {
        float to_had = pass->nearest.kernels->l2sq_f32(x, centroids + had * pass->dim, pass->dim);
        if (to_had < distance || (to_had == distance && had < found)) return to_had;
        ++*changed;
    }
    pass->assign[i] = found;
    return distance;
}

static void assign_block(void *ctx, size_t block, size_t worker)
{
    assign_pass *pass = ctx;
    size_t begin = block * pass->block_size, changed = 0;
    size_t n = pass->n - begin < pass->block_size ? pass->n - begin : pass->block_size;
    if (pass->run && kith_cancel_raised(pass->run->cancel)) return;
    uint32_t *found = pass->found + worker * pass->block_size;
    if (ki_nearest_find(&pass->nearest, pass->x + begin * pass->dim, n, found) != KITH_OK) {
        __atomic_store_n(&pass->no_memory, 1, __ATOMIC_RELAXED);
        return;
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        float distance = settle(pass, begin + i, found[i], &changed);
        if (pass->dist) pass->dist[begin + i] = distance;
        sum += (double)distance;
    }
    pass->block_sum[block] = sum;
    pass->block_changed[block] = changed;
    uint64_t done = __atomic_add_fetch(&pass->done, n, __ATOMIC_RELAXED);
    if (worker == 0) ki_stage_report(pass->stage, done);
}

static kith_status assign_all(assign_pass *pass, double *objective, size_t *changed, kith_error *err)
{
    ki_pool_run(ki_run_pool(pass->run), pass->n_blocks, assign_block, pass);
    KI_TRY(ki_run_check(pass->run, err));
    if (pass->no_memory) return ki_fail(err, KITH_NOMEM, "out of memory for the distances of a block");
    *objective = 0;
    *changed = 0;
    for (size_t block = 0; block < pass->n_blocks; block++) {
        *objective += pass->block_sum[block];
        *changed += pass->block_changed[block];
    }
    return KITH_OK;
}

/* ---- update ---- */

/* order[] and start[] by a counting sort of assign[]. */
static void sort_by_centroid(lloyd *l)
{
    const uint32_t *assign = l->pass.assign;
    size_t n = l->pass.n, *start = l->start;
    memset(start, 0, (l->k + 1) * sizeof *start);
    for (size_t i = 0; i < n; i++) start[assign[i] + 1]++;
    for (size_t j = 0; j < l->k; j++) start[j + 1] += start[j];
    for (size_t i = 0; i < n; i++) l->order[start[assign[i]]++] = (uint32_t)i;
    memmove(start + 1, start,
            l->k * sizeof *start); /* each start has moved to its end, the next one's start */
    start[0] = 0;
}

static void move_to_mean(lloyd *l, size_t j, double *sum)
{
    const assign_pass *pass = &l->pass;
    size_t dim = pass->dim, size = l->start[j + 1] - l->start[j];
    float *centroid = l->centroids + j * dim;
    l->spread[j] = 0;
    if (size == 0) return;
    double around_old = 0, step = 0;
    memset(sum, 0, dim * sizeof *sum);
    for (size_t at = l->start[j]; at < l->start[j + 1]; at++) {
        const float *x = pass->x + l->order[at] * dim;
        pass->nearest.kernels->add_f64(sum, x, dim);
        around_old += (double)pass->dist[l->order[at]];
    }
    for (size_t d = 0; d < dim; d++) {
        double mean = sum[d] / (double)size, moved = mean - (double)centroid[d];
        step += moved * moved;
        centroid[d] = (float)mean;
    }
    /* The sum of squares around any point is the one around the mean, plus size times the squared distance to
     * the mean (Huygens, Steiner). */
    double spread = around_old - (double)size * step;
    if (spread > SPREAD_FLOOR * around_old) l->spread[j] = spread;
}

static void update_block(void *ctx, size_t block, size_t worker)
{
    lloyd *l = ctx;
    size_t end = (block + 1) * UPDATE_BLOCK < l->k ? (block + 1) * UPDATE_BLOCK : l->k;
    for (size_t j = block * UPDATE_BLOCK; j < end; j++) move_to_mean(l, j, l->sums + worker * l->pass.dim);
}

static void update(lloyd *l)
{
    sort_by_centroid(l);
    ki_pool_run(ki_run_pool(l->pass.run), (l->k + UPDATE_BLOCK - 1) / UPDATE_BLOCK, update_block, l);
}

/* ---- empty clusters ---- */

static void split(lloyd *l, size_t from, size_t to, double step, ki_rng *rng)
{
    size_t dim = l->pass.dim;
    float *a = l->centroids + from * dim, *b = l->centroids + to * dim;
    for (size_t d = 0; d < dim; d++) {
        double signed_step = ki_rng_u64(rng) >> 63 ? step : -step, at = (double)a[d];
        a[d] = (float)(at + signed_step);
        b[d] = (float)(at - signed_step);
    }
}

/* Returns how many empty centroids took half of another. size[] is in start[] afterwards: sort anew. */
static size_t fill_empty(lloyd *l, uint64_t seed, size_t iteration)
{
    size_t *size = l->start, splits = 0;
    for (size_t j = 0; j < l->k; j++) size[j] = l->start[j + 1] - l->start[j];
    ki_rng rng;
    ki_rng_init(&rng, seed, 2 + iteration);
    for (size_t j = 0; j < l->k; j++) {
        if (size[j] > 0) continue;
        size_t largest = l->k;
        for (size_t i = 0; i < l->k; i++)
            if (l->spread[i] > 0 && size[i] > 1 && (largest == l->k || size[i] > size[largest])) largest = i;
        if (largest == l->k) break;
        double each = l->spread[largest] / (double)size[largest];
        split(l, largest, j, SPLIT_STEP * sqrt(each / (double)l->pass.dim), &rng);
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

static kith_status lloyd_run(lloyd *l, const kith_kmeans_options *options, kith_kmeans_result *result,
                             kith_error *err)
{
    assign_pass *pass = &l->pass;
    ki_stage stage;
    ki_stage_begin(&stage, pass->run, "training", (uint64_t)options->max_iterations * pass->n);
    pass->stage = &stage;
    while (result->iterations < options->max_iterations && !result->converged) {
        size_t changed;
        ki_nearest_set(&pass->nearest, l->centroids);
        KI_TRY(assign_all(pass, &result->objective, &changed, err));
        pass->has_previous = 1;
        result->iterations++;
        result->converged = changed == 0;
        if (options->iteration)
            options->iteration(options->iteration_ctx, result->iterations, result->objective);
        update(l); /* after the last change too: a split that cut nothing left its centroid beside the mean */
        if (!result->converged) result->splits += fill_empty(l, options->seed, result->iterations);
    }
    ki_stage_report(&stage, stage.total);
    return KITH_OK;
}

static kith_status lloyd_init(lloyd *l, const float *x, size_t n, size_t dim, size_t k, float *centroids,
                              const kith_allocator *allocator, const kith_run *run, kith_error *err)
{
    KI_TRY(pass_init(&l->pass, x, n, dim, k, allocator, run, err));
    l->centroids = centroids;
    l->k = k;
    l->pass.assign = ki_alloc(allocator, n, sizeof *l->pass.assign);
    l->pass.dist = ki_alloc(allocator, n, sizeof *l->pass.dist);
    l->order = ki_alloc(allocator, n, sizeof *l->order);
    l->start = ki_alloc(allocator, k + 1, sizeof *l->start);
    l->spread = ki_alloc(allocator, k, sizeof *l->spread);
    l->sums = ki_alloc(allocator, kith_pool_threads(ki_run_pool(run)) * dim, sizeof *l->sums);
    if (!l->pass.assign || !l->pass.dist || !l->order || !l->start || !l->spread || !l->sums)
        return ki_fail_nomem(err, n * sizeof *l->order);
    return KITH_OK;
}

static void lloyd_clear(lloyd *l)
{
    const kith_allocator *allocator = l->pass.allocator;
    ki_free(allocator, l->pass.assign);
    ki_free(allocator, l->pass.dist);
    ki_free(allocator, l->order);
    ki_free(allocator, l->start);
    ki_free(allocator, l->spread);
    ki_free(allocator, l->sums);
    pass_clear(&l->pass);
}

/* ---- the door ---- */

static kith_status check_shape(const float *x, size_t n, size_t dim, const float *centroids, size_t k,
                               kith_error *err)
{
    size_t bytes;
    if (!centroids) return ki_fail(err, KITH_INVALID, "centroids is NULL");
    if (!x && n > 0) return ki_fail(err, KITH_INVALID, "x is NULL");
    if (dim == 0) return ki_fail(err, KITH_INVALID, "dim is 0, allowed 1..");
    if (k == 0 || k > UINT32_MAX) return ki_fail(err, KITH_INVALID, "k is %zu, allowed 1..%u", k, UINT32_MAX);
    if (!ki_mul_fits(n < k ? k : n, dim, &bytes) || !ki_mul_fits(bytes, sizeof(double), &bytes))
        return ki_fail(err, KITH_INVALID, "n is %zu, dim is %zu: too many floats", n, dim);
    return KITH_OK;
}

static kith_status check_finite(const float *rows, size_t n, size_t dim, const char *name, kith_error *err)
{
    const ki_kernels *kernels = ki_kernels_get();
    for (size_t i = 0; i < n; i++)
        if (!kernels->finite_f32(rows + i * dim, dim))
            return ki_fail(err, KITH_INVALID, "%s[%zu] holds NaN or infinity", name, i);
    return KITH_OK;
}

static kith_status check_options(const kith_kmeans_options *options, kith_error *err)
{
    if (options->init != KITH_KMEANS_RANDOM && options->init != KITH_KMEANS_PLUSPLUS)
        return ki_fail(err, KITH_INVALID, "init is %d, allowed 0..1", (int)options->init);
    if (options->max_iterations == 0) return ki_fail(err, KITH_INVALID, "max_iterations is 0, allowed 1..");
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

kith_status kith_kmeans_train(const float *x, size_t n, size_t dim, size_t k,
                              const kith_kmeans_options *given, const kith_run *run, float *centroids,
                              kith_kmeans_result *result, kith_error *err)
{
    kith_kmeans_options own, *options = &own;
    kith_kmeans_options_init(options);
    KI_TRY(ki_options_read(options, sizeof *options, given, "options", err));
    KI_TRY(check_shape(x, n, dim, centroids, k, err));
    KI_TRY(check_options(options, err));
    if (k > n) return ki_fail(err, KITH_INVALID, "k is %zu, allowed 1..%zu (the number of points)", k, n);
    float *sample = NULL;
    KI_TRY(take_sample(&x, &n, &sample, dim, k, options, err));

    kith_kmeans_result unused;
    if (!result) result = &unused;
    *result = (kith_kmeans_result){.points_used = n};
    lloyd l = {.pass.allocator = options->allocator};
    kith_status status = KITH_OK;
    if (n > UINT32_MAX)
        status = ki_fail(err, KITH_INVALID, "n is %zu, allowed 1..%u points to train on", n, UINT32_MAX);
    if (status == KITH_OK) status = check_finite(x, n, dim, "x", err);
    if (status == KITH_OK && options->start) status = check_finite(options->start, k, dim, "start", err);
    if (status == KITH_OK) status = lloyd_init(&l, x, n, dim, k, centroids, options->allocator, run, err);
    if (status == KITH_OK && options->start)
        memmove(centroids, options->start, k * dim * sizeof *centroids);
    else if (status == KITH_OK)
        status = ki_kmeans_seed(x, n, dim, k, options->init, options->seed, options->allocator, run,
                                centroids, l.pass.dist, err);
    if (status == KITH_OK) status = lloyd_run(&l, options, result, err);
    lloyd_clear(&l);
    ki_free(options->allocator, sample);
    return status;
}

kith_status kith_kmeans_assign(const float *x, size_t n, size_t dim, const float *centroids, size_t k,
                               const kith_allocator *allocator, const kith_run *run, uint32_t *assign,
                               float *dist, kith_error *err)
{
    KI_TRY(check_shape(x, n, dim, centroids, k, err));
    if (!assign) return ki_fail(err, KITH_INVALID, "assign is NULL");
    KI_TRY(check_finite(centroids, k, dim, "centroids", err));
    KI_TRY(check_finite(x, n, dim, "x", err));
    assign_pass pass = {.allocator = allocator};
    kith_status status = pass_init(&pass, x, n, dim, k, allocator, run, err);
    if (status == KITH_OK) {
        ki_stage stage;
        double objective;
        size_t changed;
        ki_stage_begin(&stage, run, "assigning", n);
        pass.stage = &stage;
        pass.assign = assign;
        pass.dist = dist;
        ki_nearest_set(&pass.nearest, centroids);
        status = assign_all(&pass, &objective, &changed, err);
        if (status == KITH_OK) ki_stage_report(&stage, n);
    }
    pass_clear(&pass);
    return status;
}
