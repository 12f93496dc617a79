/* Optimised product quantisation: which rotation lets a product quantiser lose least.
 *
 * T. Ge, K. He, Q. Ke, J. Sun, "Optimized Product Quantization", IEEE TPAMI 36(4), 2014.
 *
 * Section 3.1, non-parametric. In each round, with rows x and rotation R:
 *     codes       of R x, the nearest centroids                     the error falls, R and codebooks as they are
 *     codebooks   the means of what was assigned to each centroid   falls, R and codes as they are
 *     rotation    R = U V' of the singular value decomposition sum y (x)' = U S V', y the decoded rows (orthogonal
 *                 Procrustes, P. H. Schonemann 1966)                falls, codes and codebooks as they are
 * so the error of round i + 1 is never above that of round i but for rounding.
 *
 * A round takes codes once: the codes and means by which its error is measured are those that its rotation is solved for, and what
 * the rotation brings is in the next round's codes. More rotations help more than more k-means between them.
 *
 * Ours: it begins with the parametric solution of section 3.2, as the paper recommends, or with the components as they
 * came, whichever has the smaller error after a short training: SIFT's segments are better than PCA's. With a reduction the
 * principal components come first and the rotation is learned among them.
 *
 * Behind cells it is residuals that are coded, and these have other directions than the rows: what the cells tell already, the codes
 * need not. A rotation of rows is one of residuals, so it is learned from residuals to cells of the sample's own (transform.c), as
 * Y. Kalantidis and Y. Avrithis, "Locally optimized product quantization for approximate nearest neighbor search", CVPR 2014,
 * learn from residuals, theirs a rotation for each cell, ours one for all: rows and queries are rotated once. sift1m,
 * OPQ16,IVF4096,PQ16, recall@10 at nprobe 8, 32 and 128: learned from rows in 60 rounds 0.524, 0.593, 0.607, from residuals in 50
 * 0.526, 0.598, 0.614 (both by codebooks of k-means++). Begun from a random rotation, as others begin, it would be 0.008 less and the
 * error a sixth more, after as many rounds. */
#include <math.h>
#include <string.h>

#include <kith/pq.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/run.h"
#include "math/linalg.h"
#include "quant/pq_internal.h"
#include "quant/transform_internal.h"

#define BITS 8
#define KS ((size_t)1 << BITS)
#define FIRST_ITERATIONS 6 /* of k-means, before the rounds: they go on with it */
#define PIECE 256 /* rows of a product of matrices; float32 chains of so many terms keep their digits */

void ki_opq_allocate(const float *variances, size_t dim_out, size_t m, double *logs, size_t *room,
                     size_t *order)
{
    size_t width = dim_out / m;
    for (size_t j = 0; j < m; j++) logs[j] = 0, room[j] = width;
    for (size_t i = 0; i < dim_out; i++) {
        size_t best = m;
        for (size_t j = 0; j < m; j++)
            if (room[j] > 0 && (best == m || logs[j] < logs[best])) best = j;
        order[(best + 1) * width - room[best]] = i;
        room[best]--;
        /* Logarithms of variances relative to the least, so that a segment with more components has no smaller product;
         * those of nothing count as nothing. */
        double least = (double)variances[dim_out - 1], floor = 1e-9 * (double)variances[0];
        least = least > floor ? least : floor;
        double variance = (double)variances[i] > least ? (double)variances[i] : least;
        if (least > 0) logs[best] += log(variance / least);
    }
}

/* What the rounds work with. */
typedef struct rounds {
    ki_transform *t;
    size_t n, d, m;             /* d: components that are rotated */
    const float *x;             /* [n][d], projected and not rotated */
    float *y;                   /* [n][d], rotated; then decoded */
    uint8_t *codes;             /* [n][m] */
    float *rotation;            /* [d][d] */
    float *sums;                /* [KS][d / m] and more: new codebooks [m][KS][d / m] */
    uint32_t *counts;           /* [KS] */
    float *decoded;             /* [d]: one row */
    double *cross, *u, *s, *vt; /* [d][d], s[d] */
    float *xt, *yt, *product;   /* [d][PIECE] twice, [d][d] */
    kith_pq *pq;
} rounds;

static void rounds_clear(rounds *r)
{
    const kith_allocator *a = r->t->allocator;
    ki_free(a, r->y);
    ki_free(a, r->codes);
    ki_free(a, r->rotation);
    ki_free(a, r->sums);
    ki_free(a, r->counts);
    ki_free(a, r->decoded);
    ki_free(a, r->cross);
    ki_free(a, r->u);
    ki_free(a, r->s);
    ki_free(a, r->vt);
    ki_free(a, r->xt);
    ki_free(a, r->yt);
    ki_free(a, r->product);
    kith_pq_free(r->pq);
}

static kith_status rounds_init(rounds *r, kith_error *err)
{
    const kith_allocator *a = r->t->allocator;
    size_t d = r->d;
    r->y = ki_alloc(a, r->n, d * sizeof *r->y);
    r->codes = ki_alloc(a, r->n, r->m);
    r->rotation = ki_alloc_zero(a, d, d * sizeof *r->rotation);
    r->sums = ki_alloc(a, KS, d * sizeof *r->sums);
    r->counts = ki_alloc(a, KS, sizeof *r->counts);
    r->decoded = ki_alloc(a, d, sizeof *r->decoded);
    r->cross = ki_alloc(a, d, d * sizeof *r->cross);
    r->u = ki_alloc(a, d, d * sizeof *r->u);
    r->s = ki_alloc(a, d, sizeof *r->s);
    r->vt = ki_alloc(a, d, d * sizeof *r->vt);
    r->xt = ki_alloc(a, d, PIECE * sizeof *r->xt);
    r->yt = ki_alloc(a, d, PIECE * sizeof *r->yt);
    r->product = ki_alloc(a, d, d * sizeof *r->product);
    if (!r->y || !r->codes || !r->rotation || !r->sums || !r->counts || !r->decoded || !r->cross || !r->u ||
        !r->s || !r->vt || !r->xt || !r->yt || !r->product)
        return ki_fail_nomem(err, r->n * d * sizeof *r->y);
    for (size_t i = 0; i < d; i++) r->rotation[i * d + i] = 1;
    return kith_pq_create(d, r->m, BITS, KITH_L2SQ, a, &r->pq, err);
}

/* y = R x. */
static kith_status rotate(rounds *r, const kith_run *run, kith_error *err)
{
    ki_packed *packed;
    KI_TRY(ki_packed_create_affine(r->rotation, r->d, r->d, r->d, NULL, r->t->allocator, &packed, err));
    kith_status status = ki_product_store(ki_run_pool(run), r->x, r->d, r->n, packed, r->y, r->d, err);
    ki_packed_free(packed);
    return status;
}

/* The means of the rotated rows of each centroid; a centroid of nobody stays. */
static kith_status move_codebooks(rounds *r, kith_error *err)
{
    size_t width = r->d / r->m;
    const float *old = kith_pq_codebooks(r->pq);
    for (size_t j = 0; j < r->m; j++) {
        float *book = r->sums + j * KS * width;
        memset(book, 0, KS * width * sizeof *book);
        memset(r->counts, 0, KS * sizeof *r->counts);
        for (size_t i = 0; i < r->n; i++) {
            size_t c = r->codes[i * r->m + j];
            r->counts[c]++;
            for (size_t k = 0; k < width; k++) book[c * width + k] += r->y[i * r->d + j * width + k];
        }
        for (size_t c = 0; c < KS; c++)
            for (size_t k = 0; k < width; k++)
                book[c * width + k] =
                    r->counts[c] ? book[c * width + k] / (float)r->counts[c] : old[(j * KS + c) * width + k];
    }
    return kith_pq_set_codebooks(r->pq, r->sums, err);
}

/* cross[d][d] = sum over the rows of y x', y decoded. Pieces in float32, their sum in float64, in their order. */
static kith_status correlate(rounds *r, kith_error *err)
{
    const ki_kernels *kernels = r->t->kernels;
    size_t d = r->d;
    ki_packed *packed = NULL;
    kith_status status = KITH_OK;
    memset(r->cross, 0, d * d * sizeof *r->cross);
    for (size_t first = 0; first < r->n && status == KITH_OK; first += PIECE) {
        size_t rows = r->n - first < PIECE ? r->n - first : PIECE;
        if (rows < PIECE) {
            memset(r->xt, 0, d * PIECE * sizeof *r->xt);
            memset(r->yt, 0, d * PIECE * sizeof *r->yt);
        }
        kernels->transpose_f32(r->x + first * d, d, rows, d, r->xt, PIECE);
        kernels->transpose_f32(r->y + first * d, d, rows, d, r->yt, PIECE);
        if (packed)
            ki_packed_refill_affine(packed, r->xt, PIECE, NULL);
        else
            status = ki_packed_create_affine(r->xt, PIECE, d, PIECE, NULL, r->t->allocator, &packed, err);
        if (status == KITH_OK) status = ki_product_store(NULL, r->yt, PIECE, d, packed, r->product, d, err);
        if (status == KITH_OK) kernels->add_f64(r->cross, r->product, d * d);
    }
    ki_packed_free(packed);
    return status;
}

/* R = U V'. */
static kith_status solve_rotation(rounds *r, kith_error *err)
{
    size_t d = r->d;
    KI_TRY(ki_svd(r->cross, d, d, r->u, r->s, r->vt, r->t->allocator, err));
    for (size_t i = 0; i < d; i++) {
        memset(r->s, 0, d * sizeof *r->s);
        for (size_t k = 0; k < d; k++)
            for (size_t j = 0; j < d; j++) r->s[j] += r->u[i * d + k] * r->vt[k * d + j];
        for (size_t j = 0; j < d; j++) r->rotation[i * d + j] = (float)r->s[j];
    }
    return KITH_OK;
}

/* y becomes what its codes stand for. Out: *error, the mean squared distance between the two. */
static void decode(rounds *r, double *error)
{
    double sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        float *y = r->y + i * r->d;
        ki_pq_decode(r->pq, r->codes + i * r->m, r->decoded);
        sum += (double)r->t->kernels->l2sq_f32(y, r->decoded, r->d);
        memcpy(y, r->decoded, r->d * sizeof *y);
    }
    *error = sum / (double)r->n;
}

/* One round; y is R x at the beginning and at the end. */
static kith_status one_round(rounds *r, size_t round, const kith_run *run, kith_error *err)
{
    KI_TRY(kith_pq_encode(r->pq, r->y, r->n, run, r->codes, err));
    KI_TRY(move_codebooks(r, err));
    decode(r, &r->t->errors[round]);
    KI_TRY(correlate(r, err));
    KI_TRY(solve_rotation(r, err));
    return rotate(r, run, err);
}

/* out[rows][dim] = a[rows][d] b[d][dim], in float64; a may not be out. */
static void multiply(const float *a, const float *b, size_t rows, size_t d, size_t dim, double *row,
                     float *out)
{
    for (size_t i = 0; i < rows; i++) {
        memset(row, 0, dim * sizeof *row);
        for (size_t k = 0; k < d; k++)
            for (size_t j = 0; j < dim; j++) row[j] += (double)a[i * d + k] * (double)b[k * dim + j];
        for (size_t j = 0; j < dim; j++) out[i * dim + j] = (float)row[j];
    }
}

/* matrix = R matrix. */
static kith_status compose(rounds *r, kith_error *err)
{
    ki_transform *t = r->t;
    size_t dim = t->options.dim;
    float *matrix = ki_alloc(t->allocator, r->d, dim * sizeof *matrix);
    double *row = ki_alloc(t->allocator, dim, sizeof *row);
    kith_status status = matrix && row ? KITH_OK : ki_fail_nomem(err, r->d * dim * sizeof *matrix);
    if (status == KITH_OK) {
        multiply(r->rotation, t->matrix, r->d, r->d, dim, row, matrix);
        memcpy(t->matrix, matrix, r->d * dim * sizeof *matrix);
    }
    ki_free(t->allocator, matrix);
    ki_free(t->allocator, row);
    return status;
}

/* The error of a short training on the rows as they are, and the codebooks left in pq. */
static kith_status first_error(rounds *r, const float *x, uint64_t seed, const kith_run *run, double *error,
                               kith_error *err)
{
    KI_TRY(kith_pq_train(r->pq, x, r->n, FIRST_ITERATIONS, seed, run, err));
    return kith_pq_error(r->pq, x, r->n, run, error, err);
}

/* Which start is better: the components as they came, or those in t->matrix, which r->x is by. */
static kith_status choose_start(rounds *r, const float *x, uint64_t seed, const kith_run *run,
                                kith_error *err)
{
    ki_transform *t = r->t;
    size_t dim = t->options.dim;
    double natural, parametric;
    KI_TRY(first_error(r, r->x, seed, run, &parametric, err));
    if (r->d < dim) return KITH_OK; /* there is no other start */
    memcpy(r->sums, kith_pq_codebooks(r->pq), KS * r->d * sizeof *r->sums);
    KI_TRY(first_error(r, x, seed, run, &natural, err));
    if (natural > parametric) return kith_pq_set_codebooks(r->pq, r->sums, err);
    r->x = x;
    memset(t->matrix, 0, dim * dim * sizeof *t->matrix);
    for (size_t i = 0; i < dim; i++) t->matrix[i * dim + i] = 1;
    return KITH_OK;
}

kith_status ki_opq_train(ki_transform *t, const float *x, size_t n, uint64_t seed, const kith_run *run,
                         kith_error *err)
{
    const ki_transform_options *o = &t->options;
    rounds r = {.t = t, .n = n, .d = o->dim_out, .m = o->m};
    float *projected = ki_alloc(t->allocator, n, r.d * sizeof *projected);
    ki_packed *packed = NULL;
    kith_status status = projected ? rounds_init(&r, err) : ki_fail_nomem(err, n * r.d * sizeof *projected);
    if (status == KITH_OK)
        status = ki_packed_create_affine(t->matrix, o->dim, r.d, o->dim, NULL, t->allocator, &packed, err);
    if (status == KITH_OK)
        status = ki_product_store(ki_run_pool(run), x, o->dim, n, packed, projected, r.d, err);
    r.x = projected;
    if (status == KITH_OK) status = choose_start(&r, x, seed, run, err);
    if (status == KITH_OK) memcpy(r.y, r.x, n * r.d * sizeof *r.y);
    ki_stage stage;
    ki_stage_begin(&stage, run, "training rotation", o->iterations);
    for (size_t i = 0; i < o->iterations && status == KITH_OK; i++) {
        status = ki_run_check(run, err);
        if (status == KITH_OK) status = one_round(&r, i, run, err);
        if (status == KITH_OK) t->n_errors = i + 1;
        ki_stage_report(&stage, i + 1);
    }
    if (status == KITH_OK) status = compose(&r, err);
    ki_packed_free(packed);
    ki_free(t->allocator, projected);
    rounds_clear(&r);
    return status;
}
