/* pca.c - principal component analysis.
 *
 * Mean and covariance are sums over n rows and must neither lose digits nor depend on the number of threads. The rows
 * are cut into blocks of BLOCK rows. A block's covariance (about the float32-rounded mean m) is made of tiled products of
 * PIECE rows in float32, whose chains of 256 terms lose about 16 u of relative accuracy, added up in float64; blocks are
 * added in their order. With the true mean mu, cov = 1/n sum (x - m)(x - m)' - (mu - m)(mu - m)'. */
#include <kith/pca.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/run.h"
#include "math/linalg.h"
#include "math/product.h"
#include "simd/kernels.h"

#include <math.h>
#include <string.h>

#define BLOCK 4096
#define PIECE 256
/* Variances below this part of the largest are rounding noise: whitening does not blow them up further. */
#define WHITEN_FLOOR 1e-10

struct kith_pca {
    const kith_allocator *allocator;
    size_t dim, dim_out;
    int whiten;
    float *mean, *components, *variances;
    ki_packed *forward; /* dim_out rows of components, whitened, with -W mean as bias */
    ki_packed *reverse; /* dim rows: the transposed inverse scaling, with the mean as bias */
};

/* --- Making one from its parts ---------------------------------------------------------------------------------------*/

/* What component i is multiplied by. */
static double scale_of(const kith_pca *pca, size_t i)
{
    if (!pca->whiten) return 1;
    double floor = WHITEN_FLOOR * (double)pca->variances[0], variance = (double)pca->variances[i];
    if (variance < floor) variance = floor;
    return variance > 0 ? 1 / sqrt(variance) : 1;
}

static kith_status pack_maps(kith_pca *pca, float *forward, float *bias, float *reverse, kith_error *err)
{
    size_t dim = pca->dim, dim_out = pca->dim_out;
    for (size_t i = 0; i < dim_out; i++) {
        double scale = scale_of(pca, i), along = 0;
        for (size_t d = 0; d < dim; d++) {
            double c = (double)pca->components[i * dim + d];
            forward[i * dim + d] = (float)(c * scale);
            reverse[d * dim_out + i] = (float)(c / scale);
            along += (double)forward[i * dim + d] * (double)pca->mean[d];
        }
        bias[i] = (float)-along;
    }
    KI_TRY(ki_packed_create_affine(forward, dim, dim_out, dim, bias, pca->allocator, &pca->forward, err));
    return ki_packed_create_affine(reverse, dim_out, dim, dim_out, pca->mean, pca->allocator, &pca->reverse,
                                   err);
}

static kith_status finish(kith_pca *pca, kith_error *err)
{
    size_t floats = pca->dim * pca->dim_out;
    float *forward = ki_alloc(pca->allocator, floats, sizeof *forward);
    float *reverse = ki_alloc(pca->allocator, floats, sizeof *reverse);
    float *bias = ki_alloc(pca->allocator, pca->dim_out, sizeof *bias);
    kith_status status = forward && reverse && bias ? pack_maps(pca, forward, bias, reverse, err)
                                                    : ki_fail_nomem(err, 2 * floats * sizeof(float));
    ki_free(pca->allocator, forward);
    ki_free(pca->allocator, reverse);
    ki_free(pca->allocator, bias);
    return status;
}

static kith_status check_shape(size_t dim, size_t dim_out, size_t *floats, kith_error *err)
{
    if (dim == 0 || dim > UINT32_MAX / 64)
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 1..%u", dim, UINT32_MAX / 64);
    if (dim_out == 0 || dim_out > dim)
        return ki_fail(err, KITH_INVALID, "dim_out is %zu, allowed 1..%zu", dim_out, dim);
    if (!ki_mul_fits(dim, dim_out, floats)) return ki_fail_nomem(err, SIZE_MAX);
    return KITH_OK;
}

/* The arrays, not yet filled; NULL when there is no memory. */
static kith_pca *new_pca(size_t dim, size_t dim_out, int whiten, const kith_allocator *allocator)
{
    kith_pca *pca = ki_alloc_zero(allocator, 1, sizeof *pca);
    if (!pca) return NULL;
    pca->allocator = allocator;
    pca->dim = dim;
    pca->dim_out = dim_out;
    pca->whiten = whiten != 0;
    pca->mean = ki_alloc(allocator, dim, sizeof *pca->mean);
    pca->components = ki_alloc(allocator, dim * dim_out, sizeof *pca->components);
    pca->variances = ki_alloc(allocator, dim_out, sizeof *pca->variances);
    if (pca->mean && pca->components && pca->variances) return pca;
    kith_pca_free(pca);
    return NULL;
}

kith_status kith_pca_create(size_t dim, size_t dim_out, const float *mean, const float *components,
                            const float *variances, int whiten, const kith_allocator *allocator,
                            kith_pca **pca, kith_error *err)
{
    size_t floats = 0;
    if (!pca) return ki_fail(err, KITH_INVALID, "pca is NULL");
    *pca = NULL;
    if (!mean || !components || !variances)
        return ki_fail(err, KITH_INVALID, "mean, components or variances is NULL");
    KI_TRY(check_shape(dim, dim_out, &floats, err));
    const ki_kernels *kernels = ki_kernels_get();
    if (!kernels->finite_f32(mean, dim) || !kernels->finite_f32(components, floats) ||
        !kernels->finite_f32(variances, dim_out))
        return ki_fail(err, KITH_INVALID, "mean, components or variances hold NaN or infinity");
    for (size_t i = 0; i < dim_out; i++)
        if (variances[i] < 0) return ki_fail(err, KITH_INVALID, "variances[%zu] is negative", i);
    kith_pca *made = new_pca(dim, dim_out, whiten, allocator);
    if (!made) return ki_fail_nomem(err, floats * sizeof(float));
    memcpy(made->mean, mean, dim * sizeof *mean);
    memcpy(made->components, components, floats * sizeof *components);
    memcpy(made->variances, variances, dim_out * sizeof *variances);
    kith_status status = finish(made, err);
    if (status == KITH_OK)
        *pca = made;
    else
        kith_pca_free(made);
    return status;
}

void kith_pca_free(kith_pca *pca)
{
    if (!pca) return;
    ki_packed_free(pca->forward);
    ki_packed_free(pca->reverse);
    ki_free(pca->allocator, pca->mean);
    ki_free(pca->allocator, pca->components);
    ki_free(pca->allocator, pca->variances);
    ki_free(pca->allocator, pca);
}

/* --- Training ----------------------------------------------------------------------------------------------------------*/

/* What one block of rows works in; as many as threads. */
typedef struct slot {
    float *xt;         /* xt[dim][PIECE]: centred rows, transposed */
    float *product;    /* product[dim][dim] */
    double *sum;       /* sum[dim][dim], or [dim] for the mean */
    ki_packed *packed; /* xt as columns */
    kith_status status;
    kith_error err;
} slot;

typedef struct train_ctx {
    const kith_pca *pca; /* for its mean */
    const float *x;
    size_t n, dim, first_block; /* of the wave */
    const ki_kernels *kernels;
    slot *slots;
} train_ctx;

static size_t rows_of(const train_ctx *t, size_t block)
{
    size_t first = block * BLOCK;
    return t->n - first < BLOCK ? t->n - first : BLOCK;
}

static void mean_block(void *ctx, size_t i, size_t worker)
{
    (void)worker;
    const train_ctx *t = ctx;
    size_t block = t->first_block + i, rows = rows_of(t, block);
    double *sum = t->slots[i].sum;
    memset(sum, 0, t->dim * sizeof *sum);
    for (size_t row = 0; row < rows; row++)
        t->kernels->add_f64(sum, t->x + (block * BLOCK + row) * t->dim, t->dim);
}

/* One piece: xt, then all products of its columns. Rows that are not there are zeros. */
static kith_status covariance_piece(const train_ctx *t, slot *s, const float *x, size_t rows)
{
    size_t dim = t->dim;
    if (rows < PIECE) memset(s->xt, 0, dim * PIECE * sizeof *s->xt);
    t->kernels->transpose_f32(x, dim, rows, dim, s->xt, PIECE);
    for (size_t d = 0; d < dim; d++)
        for (size_t row = 0; row < rows; row++) s->xt[d * PIECE + row] -= t->pca->mean[d];
    if (s->packed)
        ki_packed_refill_affine(s->packed, s->xt, PIECE, NULL);
    else
        KI_TRY(
            ki_packed_create_affine(s->xt, PIECE, dim, PIECE, NULL, t->pca->allocator, &s->packed, &s->err));
    KI_TRY(ki_product_store(NULL, s->xt, PIECE, dim, s->packed, s->product, dim, &s->err));
    t->kernels->add_f64(s->sum, s->product, dim * dim);
    return KITH_OK;
}

static void covariance_block(void *ctx, size_t i, size_t worker)
{
    (void)worker;
    const train_ctx *t = ctx;
    slot *s = &t->slots[i];
    size_t block = t->first_block + i, rows = rows_of(t, block);
    memset(s->sum, 0, t->dim * t->dim * sizeof *s->sum);
    for (size_t row = 0; row < rows && s->status == KITH_OK; row += PIECE)
        s->status = covariance_piece(t, s, t->x + (block * BLOCK + row) * t->dim,
                                     rows - row < PIECE ? rows - row : PIECE);
}

/* Run fn over all blocks, some at a time, and add what they leave in slot.sum[width], in the order of the blocks. */
static kith_status sum_blocks(train_ctx *t, ki_block_fn fn, size_t width, double *total, size_t waves,
                              const kith_run *run, ki_stage *stage, uint64_t *done, kith_error *err)
{
    size_t blocks = (t->n + BLOCK - 1) / BLOCK;
    memset(total, 0, width * sizeof *total);
    for (t->first_block = 0; t->first_block < blocks; t->first_block += waves) {
        KI_TRY(ki_run_check(run, err));
        size_t count = blocks - t->first_block < waves ? blocks - t->first_block : waves;
        ki_pool_run(ki_run_pool(run), count, fn, t);
        for (size_t i = 0; i < count; i++) {
            if (t->slots[i].status != KITH_OK) {
                if (err) *err = t->slots[i].err;
                return t->slots[i].status;
            }
            for (size_t c = 0; c < width; c++) total[c] += t->slots[i].sum[c];
            *done += rows_of(t, t->first_block + i);
        }
        ki_stage_report(stage, *done);
    }
    return KITH_OK;
}

static void slots_free(slot *slots, size_t count, const kith_allocator *allocator)
{
    for (size_t i = 0; slots && i < count; i++) {
        ki_free(allocator, slots[i].xt);
        ki_free(allocator, slots[i].product);
        ki_free(allocator, slots[i].sum);
        ki_packed_free(slots[i].packed);
    }
    ki_free(allocator, slots);
}

static slot *slots_create(size_t count, size_t dim, const kith_allocator *allocator)
{
    slot *slots = ki_alloc_zero(allocator, count, sizeof *slots);
    for (size_t i = 0; slots && i < count; i++) {
        slots[i].xt = ki_alloc(allocator, dim * PIECE, sizeof *slots[i].xt);
        slots[i].product = ki_alloc(allocator, dim * dim, sizeof *slots[i].product);
        slots[i].sum = ki_alloc(allocator, dim * dim, sizeof *slots[i].sum);
        if (!slots[i].xt || !slots[i].product || !slots[i].sum) {
            slots_free(slots, count, allocator);
            return NULL;
        }
    }
    return slots;
}

/* Fill the parts of pca from x. exact[dim] is the mean in float64. */
static kith_status train(kith_pca *pca, train_ctx *t, size_t waves, double *covariance, double *exact,
                         double *values, const kith_run *run, kith_error *err)
{
    size_t dim = pca->dim;
    double n = (double)t->n;
    ki_stage stage;
    uint64_t done = 0;
    ki_stage_begin(&stage, run, "training", 2 * (uint64_t)t->n);
    KI_TRY(sum_blocks(t, mean_block, dim, exact, waves, run, &stage, &done, err));
    for (size_t d = 0; d < dim; d++) pca->mean[d] = (float)(exact[d] /= n);
    KI_TRY(sum_blocks(t, covariance_block, dim * dim, covariance, waves, run, &stage, &done, err));
    for (size_t i = 0; i < dim; i++)
        for (size_t j = 0; j <= i; j++) {
            double shift = (exact[i] - (double)pca->mean[i]) * (exact[j] - (double)pca->mean[j]);
            covariance[i * dim + j] = covariance[j * dim + i] = covariance[i * dim + j] / n - shift;
        }
    KI_TRY(ki_eigen_sym(covariance, dim, values, pca->allocator, err));
    for (size_t i = 0; i < pca->dim_out; i++) {
        pca->variances[i] = values[i] > 0 ? (float)values[i] : 0;
        for (size_t d = 0; d < dim; d++) pca->components[i * dim + d] = (float)covariance[i * dim + d];
    }
    return finish(pca, err);
}

kith_status kith_pca_train(const float *x, size_t n, size_t dim, size_t dim_out, int whiten,
                           const kith_allocator *allocator, const kith_run *run, kith_pca **pca,
                           kith_error *err)
{
    size_t square = 0;
    if (!pca) return ki_fail(err, KITH_INVALID, "pca is NULL");
    *pca = NULL;
    if (!x) return ki_fail(err, KITH_INVALID, "x is NULL");
    if (n < 2) return ki_fail(err, KITH_INVALID, "n is %zu, at least 2 rows are needed", n);
    KI_TRY(check_shape(dim, dim_out, &square, err));
    if (!ki_mul_fits(dim, dim, &square)) return ki_fail_nomem(err, SIZE_MAX);
    if (!ki_linalg_available())
        return ki_fail(err, KITH_UNSUPPORTED, "training a PCA needs a build with LAPACK");
    const ki_kernels *kernels = ki_kernels_get();
    for (size_t i = 0; i < n; i++)
        if (!kernels->finite_f32(x + i * dim, dim))
            return ki_fail(err, KITH_INVALID, "row %zu holds NaN or infinity", i);

    size_t waves = kith_pool_threads(ki_run_pool(run)), blocks = (n + BLOCK - 1) / BLOCK;
    if (waves > blocks) waves = blocks;
    kith_pca *made = new_pca(dim, dim_out, whiten, allocator);
    slot *slots = slots_create(waves, dim, allocator);
    double *covariance = ki_alloc(allocator, square, sizeof *covariance);
    double *exact = ki_alloc(allocator, dim, sizeof *exact),
           *values = ki_alloc(allocator, dim, sizeof *values);
    train_ctx t = {made, x, n, dim, 0, kernels, slots};
    kith_status status = made && slots && covariance && exact && values
                             ? train(made, &t, waves, covariance, exact, values, run, err)
                             : ki_fail_nomem(err, square * sizeof(double));
    slots_free(slots, waves, allocator);
    ki_free(allocator, covariance);
    ki_free(allocator, exact);
    ki_free(allocator, values);
    if (status == KITH_OK)
        *pca = made;
    else
        kith_pca_free(made);
    return status;
}

/* --- Use ---------------------------------------------------------------------------------------------------------------*/

kith_status kith_pca_apply(const kith_pca *pca, const float *x, size_t n, kith_pool *pool, float *out,
                           kith_error *err)
{
    if (n == 1) {
        ki_product_row(pca->forward, x, out);
        return KITH_OK;
    }
    return ki_product_store(pool, x, pca->dim, n, pca->forward, out, pca->dim_out, err);
}

kith_status kith_pca_reverse(const kith_pca *pca, const float *y, size_t n, kith_pool *pool, float *out,
                             kith_error *err)
{
    return ki_product_store(pool, y, pca->dim_out, n, pca->reverse, out, pca->dim, err);
}

size_t kith_pca_dim(const kith_pca *pca)
{
    return pca->dim;
}

size_t kith_pca_dim_out(const kith_pca *pca)
{
    return pca->dim_out;
}

int kith_pca_whitens(const kith_pca *pca)
{
    return pca->whiten;
}

const float *kith_pca_mean(const kith_pca *pca)
{
    return pca->mean;
}

const float *kith_pca_components(const kith_pca *pca)
{
    return pca->components;
}

const float *kith_pca_variances(const kith_pca *pca)
{
    return pca->variances;
}
