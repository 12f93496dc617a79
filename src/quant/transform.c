/* Linear maps: the object, principal components, random rotations, files. The rounds of OPQ are in opq.c. */
#include "quant/transform.h"

#include <kith/kmeans.h>
#include <kith/pca.h>

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/run.h"
#include "math/linalg.h"
#include "quant/transform_internal.h"
#include "store/index_file.h"

#define MATRIX "transform.matrix"
#define MEAN "transform.mean"
#define SIGNS "transform.signs"

#define PCA_ROWS 16        /* arbitrary: fewer rows have no principal components to speak of */
#define OPQ_ROWS 256       /* the least that codebooks of 8 bits are trained with */
#define CELL_ROWS 64       /* of the sample, a cell at least; with 32 and 256 recall is the same (sift1m) */
#define CELL_ITERATIONS 10 /* what IVF trains its own cells with */
#define ROTATION_STREAM 0x5252 /* of the seed, apart from what samples rows */

/* ---- The object ---- */

static kith_status check_options(const ki_transform_options *o, kith_error *err)
{
    if (o->dim_out > o->dim)
        return ki_fail(err, KITH_INVALID, "the transform makes %zu components of %zu, it can only make fewer",
                       o->dim_out, o->dim);
    size_t dim_out = o->dim_out ? o->dim_out : o->dim;
    if (o->kind == KI_HADAMARD && dim_out != o->dim)
        return ki_fail(err, KITH_INVALID,
                       "the transform makes %zu components of %zu, it can only keep them all", dim_out,
                       o->dim);
    if ((o->kind == KI_OPQ || o->kind == KI_OPQP) && (o->m == 0 || dim_out % o->m != 0))
        return ki_fail(err, KITH_INVALID, "m is %zu, not a divisor of %zu components", o->m, dim_out);
    return KITH_OK;
}

kith_status ki_transform_create(const ki_transform_options *options, const kith_allocator *allocator,
                                ki_transform **out, kith_error *err)
{
    *out = NULL;
    KI_TRY(check_options(options, err));
    ki_transform *t = ki_alloc_zero(allocator, 1, sizeof *t);
    if (!t) return ki_fail_nomem(err, sizeof *t);
    t->options = *options;
    if (t->options.dim_out == 0) t->options.dim_out = options->dim;
    t->allocator = allocator;
    t->kernels = ki_kernels_get();
    *out = t;
    return KITH_OK;
}

/* Back to untrained. The arrays are made when they are needed: a hostile file must not make us allocate dim * dim_out. */
static void forget(ki_transform *t)
{
    ki_packed_free(t->forward);
    ki_hadamard_free(t->hadamard);
    t->hadamard = NULL;
    ki_free(t->allocator, t->matrix);
    ki_free(t->allocator, t->mean);
    ki_free(t->allocator, t->errors);
    t->forward = NULL;
    t->matrix = t->mean = NULL;
    t->errors = NULL;
    t->n_errors = 0;
    t->trained = 0;
}

void ki_transform_free(ki_transform *t)
{
    if (!t) return;
    forget(t);
    ki_free(t->allocator, t);
}

static kith_status alloc_arrays(ki_transform *t, kith_error *err)
{
    const ki_transform_options *o = &t->options;
    forget(t);
    t->matrix = ki_alloc_zero(t->allocator, o->dim_out, o->dim * sizeof *t->matrix);
    t->mean = ki_alloc_zero(t->allocator, o->dim, sizeof *t->mean);
    t->errors = ki_alloc_zero(t->allocator, o->iterations, sizeof *t->errors);
    if (t->matrix && t->mean && t->errors) return KITH_OK;
    return ki_fail_nomem(err, o->dim_out * o->dim * sizeof *t->matrix);
}

/* The matrix is there: pack it, -W mean as the bias. */
static kith_status ready(ki_transform *t, kith_error *err)
{
    const ki_transform_options *o = &t->options;
    float *bias = ki_alloc(t->allocator, o->dim_out, sizeof *bias);
    if (!bias) return ki_fail_nomem(err, o->dim_out * sizeof *bias);
    for (size_t i = 0; i < o->dim_out; i++) {
        double along = 0;
        for (size_t d = 0; d < o->dim; d++) along += (double)t->matrix[i * o->dim + d] * (double)t->mean[d];
        bias[i] = (float)-along;
    }
    kith_status status =
        ki_packed_create_affine(t->matrix, o->dim, o->dim_out, o->dim, bias, t->allocator, &t->forward, err);
    ki_free(t->allocator, bias);
    t->trained = status == KITH_OK;
    return status;
}

size_t ki_transform_dim(const ki_transform *t)
{
    return t->options.dim;
}
size_t ki_transform_dim_out(const ki_transform *t)
{
    return t->options.dim_out;
}
int ki_transform_trained(const ki_transform *t)
{
    return t->trained;
}
uint64_t ki_transform_bytes(const ki_transform *t)
{
    if (t->hadamard) return ki_hadamard_bytes(t->hadamard);
    uint64_t floats = (uint64_t)t->options.dim_out * t->options.dim + t->options.dim;
    return t->trained ? floats * sizeof(float) + ki_packed_bytes(t->forward) : 0;
}
const double *ki_transform_errors(const ki_transform *t, size_t *n)
{
    *n = t->n_errors;
    return t->errors;
}

/* ---- Rows ---- */

/* To unit length; zero stays zero. */
static void to_unit(float *y, size_t dim)
{
    double norm2 = 0;
    for (size_t d = 0; d < dim; d++) norm2 += (double)y[d] * (double)y[d];
    double scale = norm2 > 0 ? 1 / sqrt(norm2) : 0;
    for (size_t d = 0; d < dim; d++) y[d] = (float)((double)y[d] * scale);
}

void ki_transform_apply(const ki_transform *t, const float *x, size_t n, float *y)
{
    size_t dim = t->options.dim, dim_out = t->options.dim_out;
    if (t->hadamard) {
        memcpy(y, x, n * dim * sizeof *y);
        for (size_t i = 0; i < n; i++) {
            ki_hadamard_apply(t->hadamard, y + i * dim);
            if (t->options.unit) to_unit(y + i * dim, dim);
        }
        return;
    }
    /* Many at once are faster and give the same values; without memory for that, one by one. */
    if (n < 4 || ki_product_store(NULL, x, dim, n, t->forward, y, dim_out, NULL) != KITH_OK)
        for (size_t i = 0; i < n; i++) ki_product_row(t->forward, x + i * dim, y + i * dim_out);
    for (size_t i = 0; i < n && t->options.unit; i++) to_unit(y + i * dim_out, dim_out);
}

void ki_transform_reverse(const ki_transform *t, const float *y, float *x)
{
    size_t dim = t->options.dim;
    if (t->hadamard) {
        memcpy(x, y, dim * sizeof *x);
        ki_hadamard_reverse(t->hadamard, x);
        return;
    }
    memcpy(x, t->mean, dim * sizeof *x);
    for (size_t i = 0; i < t->options.dim_out; i++) t->kernels->axpy_f32(x, y[i], t->matrix + i * dim, dim);
}

/* ---- Training ---- */

/* Principal components into matrix and mean, in the order that OPQP wants for its kinds. */
static kith_status take_components(ki_transform *t, const kith_pca *pca, kith_error *err)
{
    const ki_transform_options *o = &t->options;
    const float *components = kith_pca_components(pca);
    int segments = o->kind == KI_OPQ || o->kind == KI_OPQP;
    size_t m = segments ? o->m : 1;
    size_t *order = ki_alloc(t->allocator, o->dim_out + m, sizeof *order);
    double *logs = ki_alloc(t->allocator, m, sizeof *logs);
    kith_status status = order && logs ? KITH_OK : ki_fail_nomem(err, (o->dim_out + 2 * m) * sizeof *order);
    if (status == KITH_OK) {
        ki_opq_allocate(kith_pca_variances(pca), o->dim_out, m, logs, order + o->dim_out, order);
        for (size_t i = 0; i < o->dim_out; i++)
            memcpy(t->matrix + i * o->dim, components + order[i] * o->dim, o->dim * sizeof *t->matrix);
        if (o->centred) memcpy(t->mean, kith_pca_mean(pca), o->dim * sizeof *t->mean);
    }
    ki_free(t->allocator, order);
    ki_free(t->allocator, logs);
    return status;
}

/* About the mean, or about 0: then every row is there a second time with the opposite sign, whose mean is 0. */
static kith_status train_components(ki_transform *t, const float *x, size_t n, const kith_run *run,
                                    kith_error *err)
{
    const ki_transform_options *o = &t->options;
    float *both = NULL;
    const float *from = x;
    if (!o->centred) {
        both = ki_alloc(t->allocator, 2 * n, o->dim * sizeof *both);
        if (!both) return ki_fail_nomem(err, 2 * n * o->dim * sizeof *both);
        memcpy(both, x, n * o->dim * sizeof *both);
        for (size_t i = 0; i < n * o->dim; i++) both[n * o->dim + i] = -x[i];
        from = both;
    }
    kith_pca *pca = NULL;
    kith_status status =
        kith_pca_train(from, both ? 2 * n : n, o->dim, o->dim_out, 0, t->allocator, run, &pca, err);
    if (status == KITH_OK) status = take_components(t, pca, err);
    kith_pca_free(pca);
    ki_free(t->allocator, both);
    return status;
}

static kith_status train_rotation(ki_transform *t, uint64_t seed, kith_error *err)
{
    const ki_transform_options *o = &t->options;
    double *a = ki_alloc(t->allocator, o->dim * o->dim_out, sizeof *a);
    if (!a) return ki_fail_nomem(err, o->dim * o->dim_out * sizeof *a);
    ki_rng rng;
    ki_rng_init(&rng, seed, ROTATION_STREAM);
    for (size_t i = 0; i < o->dim * o->dim_out; i++) a[i] = ki_rng_gauss(&rng);
    kith_status status = ki_qr(a, o->dim, o->dim_out, t->allocator, err);
    for (size_t i = 0; i < o->dim_out && status == KITH_OK; i++)
        for (size_t d = 0; d < o->dim; d++) t->matrix[i * o->dim + d] = (float)a[d * o->dim_out + i];
    ki_free(t->allocator, a);
    return status;
}

/* x[n][dim] less the centroids of their cells, where the codes will be of such: of options.cells, or fewer where the rows do
 * not make so many. */
static kith_status take_residuals(const ki_transform *t, float *x, size_t n, uint64_t seed,
                                  const kith_run *run, kith_error *err)
{
    size_t dim = t->options.dim, cells = t->options.cells, most = n / CELL_ROWS;
    if (cells > most) cells = most;
    if (cells < 2) return KITH_OK;
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.max_iterations = CELL_ITERATIONS;
    options.max_points_per_centroid = 0;
    options.seed = seed;
    options.allocator = t->allocator;
    float *centroids = ki_alloc(t->allocator, cells, dim * sizeof *centroids);
    uint32_t *cell = ki_alloc(t->allocator, n, sizeof *cell);
    kith_status status =
        centroids && cell ? KITH_OK : ki_fail_nomem(err, cells * dim * sizeof *centroids + n * sizeof *cell);
    kith_run quiet = ki_run_quiet(run); /* one stage in place of theirs, which have the names of others */
    ki_stage stage;
    ki_stage_begin(&stage, run, "training cells of the rotation", 1);
    if (status == KITH_OK)
        status = kith_kmeans_train(x, n, dim, cells, &options, &quiet, centroids, NULL, err);
    if (status == KITH_OK)
        status = kith_kmeans_assign(x, n, dim, centroids, cells, t->allocator, &quiet, cell, NULL, err);
    if (status == KITH_OK) ki_stage_report(&stage, 1);
    for (size_t i = 0; i < n && status == KITH_OK; i++)
        t->kernels->sub_f32(x + i * dim, x + i * dim, centroids + cell[i] * dim, dim);
    ki_free(t->allocator, centroids);
    ki_free(t->allocator, cell);
    return status;
}

static kith_status train_rounds(ki_transform *t, const float *x, size_t n, uint64_t seed, const kith_run *run,
                                kith_error *err)
{
    size_t dim = t->options.dim;
    float *centred = ki_alloc(t->allocator, n, dim * sizeof *centred);
    if (!centred) return ki_fail_nomem(err, n * dim * sizeof *centred);
    for (size_t i = 0; i < n; i++) t->kernels->sub_f32(centred + i * dim, x + i * dim, t->mean, dim);
    kith_status status = take_residuals(t, centred, n, seed, run, err);
    if (status == KITH_OK) status = ki_opq_train(t, centred, n, seed, run, err);
    ki_free(t->allocator, centred);
    return status;
}

/* From signs, or from a seed where they are NULL. */
static kith_status make_hadamard(ki_transform *t, const uint8_t *signs, uint64_t seed, kith_error *err)
{
    KI_TRY(ki_hadamard_create(t->options.dim, signs, seed, t->allocator, &t->hadamard, err));
    t->trained = 1;
    return KITH_OK;
}

kith_status ki_transform_train(ki_transform *t, const float *x, size_t n, uint64_t seed, const kith_run *run,
                               kith_error *err)
{
    size_t least = t->options.kind == KI_OPQ ? OPQ_ROWS : t->options.kind == KI_ROTATION ? 0 : PCA_ROWS;
    forget(t);
    if (t->options.kind == KI_HADAMARD) return make_hadamard(t, NULL, seed, err);
    if (n < least)
        return ki_fail(err, KITH_INVALID, "n is %zu, the transform takes %zu rows and more to train", n,
                       least);
    if (!ki_linalg_available())
        return ki_fail(err, KITH_UNSUPPORTED, "training a transform needs a build with LAPACK");
    kith_status status = alloc_arrays(t, err);
    if (status == KITH_OK)
        status = t->options.kind == KI_ROTATION ? train_rotation(t, seed, err)
                                                : train_components(t, x, n, run, err);
    if (status == KITH_OK && t->options.kind == KI_OPQ) status = train_rounds(t, x, n, seed, run, err);
    const ki_transform_options *o = &t->options;
    if (status == KITH_OK && !(t->kernels->finite_f32(t->matrix, o->dim_out * o->dim) &&
                               (!t->mean || t->kernels->finite_f32(t->mean, o->dim))))
        status =
            ki_fail(err, KITH_INVALID, "the rows are too large to train a transform: their squares overflow");
    if (status == KITH_OK) status = ready(t, err);
    if (status != KITH_OK) forget(t);
    return status;
}

/* ---- Files ---- */

kith_status ki_transform_save(const ki_transform *t, struct ki_store_writer *writer, kith_error *err)
{
    const ki_transform_options *o = &t->options;
    if (!t->trained) return ki_fail(err, KITH_UNTRAINED, "the transform is not trained");
    if (t->hadamard)
        return ki_store_put(writer, SIGNS, ki_hadamard_signs(t->hadamard), ki_hadamard_sign_bytes(o->dim), 1,
                            err);
    KI_TRY(ki_store_put(writer, MATRIX, t->matrix, o->dim_out, o->dim * sizeof *t->matrix, err));
    return ki_store_put(writer, MEAN, t->mean, o->dim, sizeof *t->mean, err);
}

static kith_status load_arrays(ki_transform *t, struct ki_store *store, kith_error *err)
{
    const ki_transform_options *o = &t->options;
    uint64_t rows; /* asked before anything of the size that the spec claims is allocated */
    KI_TRY(ki_store_count(store, MATRIX, o->dim * sizeof *t->matrix, &rows, err));
    if (rows != o->dim_out)
        return ki_fail(err, KITH_CORRUPT, "%s: section %s holds %llu rows, expected %zu",
                       ki_store_path(store), MATRIX, (unsigned long long)rows, o->dim_out);
    KI_TRY(alloc_arrays(t, err));
    KI_TRY(ki_store_load(store, MATRIX, o->dim_out, o->dim * sizeof *t->matrix, t->matrix, err));
    KI_TRY(ki_store_load(store, MEAN, o->dim, sizeof *t->mean, t->mean, err));
    if (!t->kernels->finite_f32(t->matrix, o->dim_out * o->dim) || !t->kernels->finite_f32(t->mean, o->dim))
        return ki_fail(err, KITH_CORRUPT, "%s: the transform holds NaN or infinity", ki_store_path(store));
    return ready(t, err);
}

static kith_status load_signs(ki_transform *t, struct ki_store *store, kith_error *err)
{
    size_t bytes = ki_hadamard_sign_bytes(t->options.dim);
    uint64_t held; /* asked before anything of the size that the header claims is allocated */
    KI_TRY(ki_store_count(store, SIGNS, 1, &held, err));
    if (held != bytes)
        return ki_fail(err, KITH_CORRUPT, "%s: section %s holds %llu bytes, expected %zu",
                       ki_store_path(store), SIGNS, (unsigned long long)held, bytes);
    uint8_t *signs = ki_alloc(t->allocator, bytes, 1);
    if (!signs) return ki_fail_nomem(err, bytes);
    kith_status status = ki_store_load(store, SIGNS, bytes, 1, signs, err);
    if (status == KITH_OK) status = make_hadamard(t, signs, 0, err);
    ki_free(t->allocator, signs);
    return status;
}

kith_status ki_transform_load(ki_transform *t, struct ki_store *store, kith_error *err)
{
    kith_status status =
        t->options.kind == KI_HADAMARD ? load_signs(t, store, err) : load_arrays(t, store, err);
    if (status != KITH_OK) forget(t);
    return status;
}
