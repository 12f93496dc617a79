/* Finding the nearest centroid with a quarter of the work, exactly.
 *
 * Let Q hold some orthonormal directions and w be what they leave of a vector. Then for point x and centroid c, both
 * counted from the mean of the points,
 *
 *     |x - c|^2 = |Qx - Qc|^2 + |w_x - w_c|^2  >=  |Qx - Qc|^2 + (|w_x| - |w_c|)^2
 *
 * that is, the map e(x) = (Qx, |w_x|) never makes a distance longer. It is partial distance search (C.-D. Bei &
 * R. M. Gray, IEEE Trans. Commun. 33(10), 1985) in a basis that tells most in its first components, with the rest's
 * length as one component more. The distance to any centroid, well chosen, is an upper bound u of a point's nearest
 * distance: the one that it had in the last iteration, or the nearest in the map. Only centroids with
 * |e(x) - e(c)|^2 <= u can be nearer, and these alone are compared exactly. The product runs over `depth` components
 * instead of dim, with an epilogue that visits the few survivors (ki_product_below). On sift1m 32 of 128 components
 * leave less than one per cent of the centroids. (For filing points into cells once, without a previous answer to
 * begin with, it was measured to gain nothing: guess and bound together cost as much as the plain product.)
 *
 * Directions. The principal ones, roughly: a few rounds of orthogonal iteration on a sample. Any orthonormal ones would
 * be correct, these are only more selective. As many are taken as hold ENERGY of the sample's variance; where that
 * needs more than half of the components (white noise) there is no map.
 *
 * Rounding. Let v be the vector from the mean. The computed e differs from the true one by at most eps |v|, with
 * eps = 3 sqrt(depth) (dim + 16) 2^-24 (projection: sqrt(depth) chains of length dim, each within dim 2^-24 |v|; the rest
 * w = v - Q'(Qv) is computed by components, so that its length loses nothing to cancellation). So a centroid may be
 * dropped when its computed |e(x) - e(c)| exceeds sqrt(u) + eps (|v_x| + |v_c|); the product's own rounding,
 * (depth + 3) 2^-24 (|e_x| + |e_c|)^2, is added to that squared. With |v_c| put at its maximum over the centroids the
 * limit belongs to the point alone. */
#include "cluster/kmeans_internal.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/rng.h"

/* Below these the plain product is as fast: measured on sift1m, 2026-11-21. */
#define MIN_DIM 48
#define MIN_CENTROIDS 256

#define ENERGY 0.80    /* 0.7 to 0.88 are about equally fast on sift1m */
#define MAX_DEPTH 128  /* components of e */
#define SAMPLE 2048    /* points that the directions are learned from */
#define ROUNDS 5       /* of orthogonal iteration */
#define EMBED_ROWS 256 /* rows embedded at a time */
#define MAP_BLOCK 4096 /* rows a block of parallel embedding */

#define UNIT 5.9604644775390625e-8 /* 2^-24 */

struct ki_map {
    const kith_allocator *allocator;
    const ki_kernels *kernels;
    size_t dim, depth;      /* depth: directions + 1 */
    float *mean;            /* [dim] */
    float *directions;      /* [depth - 1][dim] */
    ki_packed *project;     /* v to Qv */
    ki_packed *reconstruct; /* Qv to Q'Qv */
    double eps;
};

struct ki_filter {
    const kith_allocator *allocator;
    const ki_kernels *kernels;
    const ki_map *map;
    size_t k;
    const float *centroids; /* [k][dim], the caller's */
    float *embedded;        /* [k][depth]: e(c) */
    ki_packed *packed;      /* the same for the product */
    double farthest;        /* max |v_c| */
};

/* ---- the map ---- */

size_t ki_map_scratch(const ki_map *map)
{
    return 2 * EMBED_ROWS * map->dim;
}

kith_status ki_map_rows(const ki_map *map, const float *x, size_t n, float *scratch, float *e)
{
    size_t dim = map->dim, depth = map->depth;
    float *v = scratch, *back = scratch + EMBED_ROWS * dim;
    for (size_t first = 0; first < n; first += EMBED_ROWS, e += EMBED_ROWS * depth) {
        size_t rows = n - first < EMBED_ROWS ? n - first : EMBED_ROWS;
        for (size_t i = 0; i < rows; i++)
            map->kernels->sub_f32(v + i * dim, x + (first + i) * dim, map->mean, dim);
        KI_TRY(ki_product_store(NULL, v, dim, rows, map->project, e, depth, NULL));
        KI_TRY(ki_product_store(NULL, e, depth, rows, map->reconstruct, back, dim, NULL));
        for (size_t i = 0; i < rows; i++)
            e[i * depth + depth - 1] = sqrtf(map->kernels->l2sq_f32(v + i * dim, back + i * dim, dim));
    }
    return KITH_OK;
}

size_t ki_map_depth(const ki_map *map)
{
    return map->depth;
}

typedef struct map_job {
    const ki_map *map;
    const float *x;
    size_t n;
    const kith_run *run;
    float *e, *scratch; /* scratch[threads] */
    int no_memory;      /* atomic */
} map_job;

static void map_block(void *ctx, size_t block, size_t worker)
{
    map_job *job = ctx;
    const ki_map *map = job->map;
    size_t first = block * MAP_BLOCK, n = job->n - first < MAP_BLOCK ? job->n - first : MAP_BLOCK;
    if (job->run && kith_cancel_raised(job->run->cancel)) return;
    float *scratch = job->scratch + worker * ki_map_scratch(map);
    if (ki_map_rows(map, job->x + first * map->dim, n, scratch, job->e + first * map->depth) != KITH_OK)
        __atomic_store_n(&job->no_memory, 1, __ATOMIC_RELAXED);
}

kith_status ki_map_all(const ki_map *map, const float *x, size_t n, const kith_run *run, float *e,
                       kith_error *err)
{
    map_job job = {.map = map, .x = x, .n = n, .run = run, .e = e};
    size_t floats = kith_pool_threads(ki_run_pool(run)) * ki_map_scratch(map);
    job.scratch = ki_alloc(map->allocator, floats, sizeof *job.scratch);
    if (!job.scratch) return ki_fail_nomem(err, floats * sizeof *job.scratch);
    ki_pool_run(ki_run_pool(run), (n + MAP_BLOCK - 1) / MAP_BLOCK, map_block, &job);
    ki_free(map->allocator, job.scratch);
    KI_TRY(ki_run_check(run, err));
    return job.no_memory ? ki_fail(err, KITH_NOMEM, "out of memory for the projection of a block") : KITH_OK;
}

/* ---- directions ---- */

/* Make q[count][dim] orthonormal, in order (Gram-Schmidt, twice is enough). row[dim] is scratch. A row that depends on
 * those before it is replaced by zeros, which keeps the bound true. */
static void orthonormalise(float *q, size_t count, size_t dim, double *row)
{
    for (size_t j = 0; j < count; j++) {
        double before = 0, after = 0;
        for (size_t d = 0; d < dim; d++) {
            row[d] = (double)q[j * dim + d];
            before += row[d] * row[d];
        }
        for (size_t pass = 0; pass < 2; pass++)
            for (size_t i = 0; i < j; i++) {
                double dot = 0;
                for (size_t d = 0; d < dim; d++) dot += row[d] * (double)q[i * dim + d];
                for (size_t d = 0; d < dim; d++) row[d] -= dot * (double)q[i * dim + d];
            }
        for (size_t d = 0; d < dim; d++) after += row[d] * row[d];
        double scale = after > 1e-8 * before ? 1 / sqrt(after) : 0;
        for (size_t d = 0; d < dim; d++) q[j * dim + d] = (float)(row[d] * scale);
    }
}

/* v[n][dim], the sample from its mean: q[count][dim] becomes roughly its first principal directions, in order.
 * next[count][dim] and row[dim] are scratch. */
static void iterate(const ki_kernels *kernels, const float *v, size_t n, size_t dim, float *q, size_t count,
                    float *next, double *row)
{
    for (size_t round = 0; round < ROUNDS; round++) {
        memset(next, 0, count * dim * sizeof *next);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < count; j++)
                kernels->axpy_f32(next + j * dim, kernels->dot_f32(v + i * dim, q + j * dim, dim),
                                  v + i * dim, dim);
        memcpy(q, next, count * dim * sizeof *q);
        orthonormalise(q, count, dim, row);
    }
}

/* How many of q[count][dim] are needed for ENERGY of the variance of v; 0: more than all. energy[count] is scratch. */
static size_t enough(const ki_kernels *kernels, const float *v, size_t n, size_t dim, const float *q,
                     size_t count, double *energy)
{
    double total = 0, held = 0;
    for (size_t j = 0; j < count; j++) energy[j] = 0;
    for (size_t i = 0; i < n; i++) {
        total += (double)kernels->norm2_f32(v + i * dim, dim);
        for (size_t j = 0; j < count; j++) {
            double along = (double)kernels->dot_f32(v + i * dim, q + j * dim, dim);
            energy[j] += along * along;
        }
    }
    if (!(total > 0)) return 0;
    for (size_t j = 0; j < count; j++) {
        held += energy[j];
        /* With the rest's length the depth is a multiple of 8. */
        if (j % 8 == 6 && held >= ENERGY * total) return j + 1;
    }
    return 0;
}

/* The sample in v, counted from its mean, which becomes the map's. */
static void take_sample(ki_map *map, const float *x, size_t all, ki_rng *rng, size_t n, double *row, float *v)
{
    size_t dim = map->dim;
    memset(row, 0, dim * sizeof *row);
    for (size_t i = 0; i < n; i++) {
        size_t pick = n == all ? i : ki_rng_below(rng, all);
        memcpy(v + i * dim, x + pick * dim, dim * sizeof *v);
        map->kernels->add_f64(row, v + i * dim, dim);
    }
    for (size_t d = 0; d < dim; d++) map->mean[d] = (float)(row[d] / (double)n);
    for (size_t i = 0; i < n; i++) map->kernels->sub_f32(v + i * dim, v + i * dim, map->mean, dim);
}

/* Sets mean, directions and depth; depth stays 0 when the map would not pay. */
static kith_status learn(ki_map *map, const float *x, size_t all, uint64_t seed, kith_error *err)
{
    size_t n = all < SAMPLE ? all : SAMPLE, dim = map->dim;
    size_t count = dim / 2 < MAX_DEPTH ? dim / 2 : MAX_DEPTH;
    count = count / 8 * 8 - 1;
    float *v = ki_alloc(map->allocator, n * dim, sizeof *v);
    float *next = ki_alloc(map->allocator, count * dim, sizeof *next);
    double *row = ki_alloc(map->allocator, dim, sizeof *row);
    map->mean = ki_alloc(map->allocator, dim, sizeof *map->mean);
    map->directions = ki_alloc(map->allocator, count * dim, sizeof *map->directions);
    kith_status status = KITH_OK;
    if (!v || !next || !row || !map->mean || !map->directions) {
        status = ki_fail_nomem(err, n * dim * sizeof *v);
    } else {
        ki_rng rng;
        ki_rng_init(&rng, seed, 1000);
        take_sample(map, x, all, &rng, n, row, v);
        for (size_t i = 0; i < count * dim; i++) map->directions[i] = (float)ki_rng_gauss(&rng);
        iterate(map->kernels, v, n, dim, map->directions, count, next, row);
        size_t needed = enough(map->kernels, v, n, dim, map->directions, count, row);
        if (needed > 0) map->depth = needed + 1;
    }
    ki_free(map->allocator, v);
    ki_free(map->allocator, next);
    ki_free(map->allocator, row);
    return status;
}

static kith_status pack(ki_map *map, kith_error *err)
{
    size_t dim = map->dim, count = map->depth - 1;
    map->eps = 3 * sqrt((double)map->depth) * (double)(dim + 16) * UNIT;
    float *transposed = ki_alloc(map->allocator, dim * count, sizeof *transposed);
    if (!transposed) return ki_fail_nomem(err, dim * count * sizeof *transposed);
    map->kernels->transpose_f32(map->directions, dim, count, dim, transposed, count);
    kith_status status =
        ki_packed_create_affine(map->directions, dim, count, dim, NULL, map->allocator, &map->project, err);
    if (status == KITH_OK)
        status = ki_packed_create_affine(transposed, count, dim, count, NULL, map->allocator,
                                         &map->reconstruct, err);
    ki_free(map->allocator, transposed);
    return status;
}

kith_status ki_map_create(const float *x, size_t n, size_t dim, size_t k, uint64_t seed,
                          const kith_allocator *allocator, ki_map **out, kith_error *err)
{
    *out = NULL;
    if (dim < MIN_DIM || k < MIN_CENTROIDS) return KITH_OK;
    ki_map *map = ki_alloc_zero(allocator, 1, sizeof *map);
    if (!map) return ki_fail_nomem(err, sizeof *map);
    *map = (ki_map){.allocator = allocator, .kernels = ki_kernels_get(), .dim = dim};
    kith_status status = learn(map, x, n, seed, err);
    if (status == KITH_OK && map->depth > 0) status = pack(map, err);
    if (status == KITH_OK && map->depth > 0)
        *out = map;
    else
        ki_map_free(map);
    return status;
}

void ki_map_free(ki_map *map)
{
    if (!map) return;
    ki_packed_free(map->project);
    ki_packed_free(map->reconstruct);
    ki_free(map->allocator, map->mean);
    ki_free(map->allocator, map->directions);
    ki_free(map->allocator, map);
}

/* ---- centroids in the map ---- */

kith_status ki_filter_create(const ki_map *map, size_t k, ki_filter **out, kith_error *err)
{
    *out = NULL;
    ki_filter *f = ki_alloc_zero(map->allocator, 1, sizeof *f);
    if (!f) return ki_fail_nomem(err, sizeof *f);
    *f = (ki_filter){.allocator = map->allocator, .kernels = map->kernels, .map = map, .k = k};
    f->embedded = ki_alloc_zero(f->allocator, k * map->depth, sizeof *f->embedded);
    kith_status status = f->embedded ? ki_packed_create(f->embedded, map->depth, k, map->depth, KITH_L2SQ,
                                                        f->allocator, &f->packed, err)
                                     : ki_fail_nomem(err, k * map->depth * sizeof *f->embedded);
    if (status == KITH_OK)
        *out = f;
    else
        ki_filter_free(f);
    return status;
}

void ki_filter_free(ki_filter *f)
{
    if (!f) return;
    ki_packed_free(f->packed);
    ki_free(f->allocator, f->embedded);
    ki_free(f->allocator, f);
}

kith_status ki_filter_set(ki_filter *f, const float *centroids, kith_error *err)
{
    size_t depth = f->map->depth;
    f->centroids = centroids;
    KI_TRY(ki_map_all(f->map, centroids, f->k, NULL, f->embedded, err));
    f->farthest = 0;
    for (size_t j = 0; j < f->k; j++)
        f->farthest = fmax(f->farthest, (double)f->kernels->norm2_f32(f->embedded + j * depth, depth));
    f->farthest = sqrt(f->farthest) * (1 + f->map->eps);
    ki_packed_refill(f->packed, f->embedded, depth);
    return KITH_OK;
}

/* ---- search ---- */

typedef struct search {
    const ki_filter *filter;
    const float *x, *e;
    uint32_t *assign;
    float *dist, *limit;
    size_t looked_at;
} search;

/* Centroids beyond this in the map are farther than `distance` (squared) from the point at e. */
static float limit_of(const ki_filter *f, const float *e, float distance)
{
    const ki_map *map = f->map;
    double length = sqrt((double)f->kernels->norm2_f32(e, map->depth)) * (1 + map->eps);
    double reach = length + f->farthest;
    double u = sqrt((double)distance * (1 + (double)(map->dim + 16) * UNIT)) + map->eps * reach;
    return (float)((u * u + (double)(map->depth + 3) * UNIT * reach * reach) * (1 + 4 * UNIT));
}

static void visit(void *ctx, size_t row, size_t column, const float *bound, uint32_t mask)
{
    search *s = ctx;
    const ki_filter *f = s->filter;
    size_t dim = f->map->dim;
    for (uint32_t bits = mask; bits; bits &= bits - 1) {
        uint32_t bit = (uint32_t)__builtin_ctz(bits), j = (uint32_t)column + bit;
        if (j == s->assign[row] || !(bound[bit] <= s->limit[row])) continue;
        float distance = f->kernels->l2sq_f32(s->x + row * dim, f->centroids + j * dim, dim);
        s->looked_at++;
        if (distance > s->dist[row] || (distance == s->dist[row] && j > s->assign[row])) continue;
        s->assign[row] = j;
        s->dist[row] = distance;
        s->limit[row] = limit_of(f, s->e + row * f->map->depth, distance);
    }
}

kith_status ki_filter_guess(const ki_filter *f, const float *e, size_t n, uint32_t *assign)
{
    return ki_product_argmin(NULL, e, f->map->depth, n, f->packed, assign, NULL, NULL);
}

kith_status ki_filter_find(const ki_filter *f, const float *x, const float *e, size_t n, uint32_t *assign,
                           float *dist, float *limit, size_t *looked_at)
{
    size_t dim = f->map->dim, depth = f->map->depth;
    search s = {.filter = f, .x = x, .e = e, .assign = assign, .dist = dist, .limit = limit};
    for (size_t i = 0; i < n; i++) {
        dist[i] = f->kernels->l2sq_f32(x + i * dim, f->centroids + assign[i] * dim, dim);
        limit[i] = limit_of(f, e + i * depth, dist[i]);
    }
    kith_status status = ki_product_below(NULL, e, depth, n, f->packed, limit, visit, &s, NULL);
    *looked_at = s.looked_at;
    return status;
}
