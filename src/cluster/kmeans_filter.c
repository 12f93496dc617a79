/* Finding the nearest centroid with a quarter of the work, exactly.
 *
 * Let Q hold some orthonormal directions and w be what they leave of a vector. Then for point x and centroid c, both
 * counted from the mean of the points,
 *
 *     |x - c|^2 = |Qx - Qc|^2 + |w_x - w_c|^2  >=  |Qx - Qc|^2 + (|w_x| - |w_c|)^2
 *
 * that is, the map e(x) = (Qx, |w_x|) never makes a distance longer. It is partial distance search (C.-D. Bei &
 * R. M. Gray, IEEE Trans. Commun. 33(10), 1985) in a basis that tells most in its first components, with the rest's
 * length as one component more. The centroid that a point had in the last iteration gives an upper bound u of its
 * nearest distance; only centroids with |e(x) - e(c)|^2 <= u can be nearer, and these alone are compared exactly. The
 * product runs over `depth` components instead of dim, with an epilogue that visits the few survivors
 * (ki_product_below). On sift1m 24 of 128 components leave some one per cent of the centroids.
 *
 * Directions. The principal ones, roughly: a few rounds of orthogonal iteration on a sample. Any orthonormal ones would
 * be correct, these are only more selective. As many are taken as hold ENERGY of the sample's variance; where that
 * needs more than half of the components (white noise) there is no filter.
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

#define ENERGY 0.70     /* 0.6 to 0.8 are equally fast on sift1m */
#define MAX_DEPTH 128   /* components of e */
#define SAMPLE 2048     /* points that the directions are learned from */
#define ROUNDS 5        /* of orthogonal iteration */
#define EMBED_BLOCK 256 /* rows embedded at a time */

#define UNIT 5.9604644775390625e-8 /* 2^-24 */

struct ki_filter {
    const kith_allocator *allocator;
    const ki_kernels *kernels;
    const float *x;
    size_t n, dim, k;
    size_t depth;           /* directions + 1 */
    float *mean;            /* [dim] */
    float *directions;      /* [depth - 1][dim] */
    ki_packed *project;     /* v to Qv */
    ki_packed *reconstruct; /* Qv to Q'Qv */
    float *points;          /* [n][depth]: e(x) */
    const float *centroids; /* [k][dim], the caller's */
    float *embedded;        /* [k][depth]: e(c) */
    ki_packed *packed;      /* the same for the product */
    double farthest;        /* max |v_c| */
    double eps;
};

/* ---- the map ---- */

/* e of rows x[n][dim], n <= EMBED_BLOCK, into e[n][depth]. v and back are [n][dim] scratch. */
static kith_status embed(const ki_filter *f, const float *x, size_t n, float *v, float *back, float *e)
{
    size_t dim = f->dim, depth = f->depth;
    for (size_t i = 0; i < n; i++) f->kernels->sub_f32(v + i * dim, x + i * dim, f->mean, dim);
    KI_TRY(ki_product_store(NULL, v, dim, n, f->project, e, depth, NULL));
    KI_TRY(ki_product_store(NULL, e, depth, n, f->reconstruct, back, dim, NULL));
    for (size_t i = 0; i < n; i++)
        e[i * depth + depth - 1] = sqrtf(f->kernels->l2sq_f32(v + i * dim, back + i * dim, dim));
    return KITH_OK;
}

typedef struct embed_job {
    const ki_filter *filter;
    const float *x;
    size_t n;
    const kith_run *run;
    float *e, *scratch; /* scratch[threads][2][EMBED_BLOCK][dim] */
    int no_memory;      /* atomic */
} embed_job;

static void embed_block(void *ctx, size_t block, size_t worker)
{
    embed_job *job = ctx;
    const ki_filter *f = job->filter;
    size_t first = block * EMBED_BLOCK, n = job->n - first < EMBED_BLOCK ? job->n - first : EMBED_BLOCK;
    float *v = job->scratch + worker * 2 * EMBED_BLOCK * f->dim, *back = v + EMBED_BLOCK * f->dim;
    if (job->run && kith_cancel_raised(job->run->cancel)) return;
    if (embed(f, job->x + first * f->dim, n, v, back, job->e + first * f->depth) != KITH_OK)
        __atomic_store_n(&job->no_memory, 1, __ATOMIC_RELAXED);
}

static kith_status embed_all(const ki_filter *f, const float *x, size_t n, float *e, const kith_run *run,
                             kith_error *err)
{
    embed_job job = {.filter = f, .x = x, .n = n, .run = run, .e = e};
    size_t threads = kith_pool_threads(ki_run_pool(run)), floats = threads * 2 * EMBED_BLOCK * f->dim;
    job.scratch = ki_alloc(f->allocator, floats, sizeof *job.scratch);
    if (!job.scratch) return ki_fail_nomem(err, floats * sizeof *job.scratch);
    ki_pool_run(ki_run_pool(run), (n + EMBED_BLOCK - 1) / EMBED_BLOCK, embed_block, &job);
    ki_free(f->allocator, job.scratch);
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

/* The sample, and the mean of all that the filter counts from. */
static void take_sample(const ki_filter *f, ki_rng *rng, size_t n, double *row, float *v)
{
    memset(row, 0, f->dim * sizeof *row);
    for (size_t i = 0; i < n; i++) {
        size_t pick = n == f->n ? i : ki_rng_below(rng, f->n);
        memcpy(v + i * f->dim, f->x + pick * f->dim, f->dim * sizeof *v);
        f->kernels->add_f64(row, v + i * f->dim, f->dim);
    }
    for (size_t d = 0; d < f->dim; d++) f->mean[d] = (float)(row[d] / (double)n);
    for (size_t i = 0; i < n; i++) f->kernels->sub_f32(v + i * f->dim, v + i * f->dim, f->mean, f->dim);
}

/* Sets mean, directions and depth; depth stays 0 when the filter would not pay. */
static kith_status learn(ki_filter *f, uint64_t seed, kith_error *err)
{
    size_t n = f->n < SAMPLE ? f->n : SAMPLE, dim = f->dim;
    size_t count = dim / 2 < MAX_DEPTH ? dim / 2 : MAX_DEPTH;
    count = count / 8 * 8 - 1;
    float *v = ki_alloc(f->allocator, n * dim, sizeof *v);
    float *next = ki_alloc(f->allocator, count * dim, sizeof *next);
    double *row = ki_alloc(f->allocator, dim, sizeof *row);
    f->mean = ki_alloc(f->allocator, dim, sizeof *f->mean);
    f->directions = ki_alloc(f->allocator, count * dim, sizeof *f->directions);
    kith_status status = KITH_OK;
    if (!v || !next || !row || !f->mean || !f->directions) {
        status = ki_fail_nomem(err, n * dim * sizeof *v);
    } else {
        ki_rng rng;
        ki_rng_init(&rng, seed, 1000);
        take_sample(f, &rng, n, row, v);
        for (size_t i = 0; i < count * dim; i++) f->directions[i] = (float)ki_rng_gauss(&rng);
        iterate(f->kernels, v, n, dim, f->directions, count, next, row);
        size_t needed = enough(f->kernels, v, n, dim, f->directions, count, row);
        if (needed > 0) f->depth = needed + 1;
    }
    ki_free(f->allocator, v);
    ki_free(f->allocator, next);
    ki_free(f->allocator, row);
    return status;
}

/* ---- the object ---- */

static kith_status build(ki_filter *f, const kith_run *run, kith_error *err)
{
    size_t dim = f->dim, count = f->depth - 1;
    float *transposed = ki_alloc(f->allocator, dim * count, sizeof *transposed);
    if (!transposed) return ki_fail_nomem(err, dim * count * sizeof *transposed);
    f->kernels->transpose_f32(f->directions, dim, count, dim, transposed, count);
    kith_status status =
        ki_packed_create_affine(f->directions, dim, count, dim, NULL, f->allocator, &f->project, err);
    if (status == KITH_OK)
        status =
            ki_packed_create_affine(transposed, count, dim, count, NULL, f->allocator, &f->reconstruct, err);
    ki_free(f->allocator, transposed);
    if (status != KITH_OK) return status;
    f->eps = 3 * sqrt((double)f->depth) * (double)(dim + 16) * UNIT;
    f->points = ki_alloc(f->allocator, f->n * f->depth, sizeof *f->points);
    f->embedded = ki_alloc_zero(f->allocator, f->k * f->depth, sizeof *f->embedded);
    if (!f->points || !f->embedded) return ki_fail_nomem(err, f->n * f->depth * sizeof *f->points);
    KI_TRY(ki_packed_create(f->embedded, f->depth, f->k, f->depth, KITH_L2SQ, f->allocator, &f->packed, err));
    return embed_all(f, f->x, f->n, f->points, run, err);
}

kith_status ki_filter_create(const float *x, size_t n, size_t dim, size_t k, uint64_t seed,
                             const kith_allocator *allocator, const kith_run *run, ki_filter **out,
                             kith_error *err)
{
    *out = NULL;
    if (dim < MIN_DIM || k < MIN_CENTROIDS) return KITH_OK;
    ki_filter *f = ki_alloc_zero(allocator, 1, sizeof *f);
    if (!f) return ki_fail_nomem(err, sizeof *f);
    *f = (ki_filter){.allocator = allocator, .kernels = ki_kernels_get(), .x = x, .n = n, .dim = dim, .k = k};
    kith_status status = learn(f, seed, err);
    if (status == KITH_OK && f->depth > 0) status = build(f, run, err);
    if (status == KITH_OK && f->depth > 0)
        *out = f;
    else
        ki_filter_free(f);
    return status;
}

void ki_filter_free(ki_filter *f)
{
    if (!f) return;
    ki_packed_free(f->project);
    ki_packed_free(f->reconstruct);
    ki_packed_free(f->packed);
    ki_free(f->allocator, f->mean);
    ki_free(f->allocator, f->directions);
    ki_free(f->allocator, f->points);
    ki_free(f->allocator, f->embedded);
    ki_free(f->allocator, f);
}

kith_status ki_filter_set(ki_filter *f, const float *centroids, kith_error *err)
{
    f->centroids = centroids;
    KI_TRY(embed_all(f, centroids, f->k, f->embedded, NULL, err));
    f->farthest = 0;
    for (size_t j = 0; j < f->k; j++)
        f->farthest = fmax(f->farthest, (double)f->kernels->norm2_f32(f->embedded + j * f->depth, f->depth));
    f->farthest = sqrt(f->farthest) * (1 + f->eps);
    ki_packed_refill(f->packed, f->embedded, f->depth);
    return KITH_OK;
}

/* ---- search ---- */

typedef struct search {
    const ki_filter *filter;
    size_t first;
    uint32_t *assign;
    float *dist, *limit;
    size_t looked_at;
} search;

/* Centroids beyond this in the map are farther than `distance` (squared) from point i. */
static float limit_of(const ki_filter *f, size_t i, float distance)
{
    double length = sqrt((double)f->kernels->norm2_f32(f->points + i * f->depth, f->depth)) * (1 + f->eps);
    double reach = length + f->farthest;
    double u = sqrt((double)distance * (1 + (double)(f->dim + 16) * UNIT)) + f->eps * reach;
    return (float)((u * u + (double)(f->depth + 3) * UNIT * reach * reach) * (1 + 4 * UNIT));
}

static void visit(void *ctx, size_t row, size_t column, const float *bound, uint32_t mask)
{
    search *s = ctx;
    const ki_filter *f = s->filter;
    const float *x = f->x + (s->first + row) * f->dim;
    for (uint32_t bits = mask; bits; bits &= bits - 1) {
        uint32_t bit = (uint32_t)__builtin_ctz(bits), j = (uint32_t)column + bit;
        if (j == s->assign[row] || !(bound[bit] <= s->limit[row])) continue;
        float distance = f->kernels->l2sq_f32(x, f->centroids + j * f->dim, f->dim);
        s->looked_at++;
        if (distance > s->dist[row] || (distance == s->dist[row] && j > s->assign[row])) continue;
        s->assign[row] = j;
        s->dist[row] = distance;
        s->limit[row] = limit_of(f, s->first + row, distance);
    }
}

kith_status ki_filter_find(const ki_filter *f, size_t first, size_t n, uint32_t *assign, float *dist,
                           float *limit, size_t *looked_at)
{
    search s = {.filter = f, .first = first, .assign = assign, .dist = dist, .limit = limit};
    for (size_t i = 0; i < n; i++) {
        const float *had = f->centroids + assign[i] * f->dim;
        dist[i] = f->kernels->l2sq_f32(f->x + (first + i) * f->dim, had, f->dim);
        limit[i] = limit_of(f, first + i, dist[i]);
    }
    const float *e = f->points + first * f->depth;
    kith_status status = ki_product_below(NULL, e, f->depth, n, f->packed, limit, visit, &s, NULL);
    *looked_at = s.looked_at;
    return status;
}
