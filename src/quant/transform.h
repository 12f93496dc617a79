/* transform.h - linear maps that rows and queries go through before a structure sees them: `PCA64,IVF4096,Flat`.
 *
 *     y = W (x - mean),  W[dim_out][dim] with orthonormal rows, dim_out <= dim
 *
 * With dim_out == dim that is a rotation: distances stay as they are, and what changes is how well a codec that looks at
 * components one by one, or segment by segment, fits the data. With dim_out < dim it is a projection, distances become
 * estimates (never larger than the true ones under L2SQ), and codes and products of matrices shrink.
 *
 * Kinds
 *   PCA      the principal components: of all projections the one that keeps most of the squared lengths
 *            (K. Pearson, 1901). Use it to have fewer components.
 *   RR       a random rotation, uniformly distributed, or its first rows: spreads what is in few components evenly over
 *            all, without looking at the data.
 *   HR       a random rotation by signs and Walsh-Hadamard transforms (math/hadamard.h), never a projection: as RR, for
 *            dim log dim additions a row, and without LAPACK.
 *   OPQP     the principal components, dealt out to m segments so that the products of variances in them are equal
 *            (T. Ge, K. He, Q. Ke, J. Sun, "Optimized Product Quantization", IEEE TPAMI 36(4), 2014, section 3.2).
 *   OPQ      OPQP, or the components as they came, whichever begins better, and then rotation and codebooks in turn, each
 *            the best for the other (section 3.1): the squared error of the product quantiser falls in every round.
 *            For PQ<m>; on data whose segments are alike already (SIFT) it gains little, on others much. Where residuals to
 *            cells will be coded (IVF<n>,PQ<m>), it is learned from residuals.
 *
 * mean is that of the training rows under L2SQ, and 0 under DOT and COSINE, whose values would not survive a shift; the
 * principal components are those about 0 then. Under COSINE y is scaled to unit length again. L1 is not kept by any
 * rotation: structures refuse transforms under it. */
#ifndef KI_QUANT_TRANSFORM_H
#define KI_QUANT_TRANSFORM_H

#include <kith/metric.h>
#include <kith/run.h>

struct ki_store_writer;
struct ki_store;

typedef enum ki_transform_kind { KI_PCA, KI_ROTATION, KI_OPQ, KI_OPQP, KI_HADAMARD } ki_transform_kind;

typedef struct ki_transform_options {
    ki_transform_kind kind;
    size_t dim, dim_out; /* dim_out 0: dim */
    size_t m;            /* segments, for OPQ and OPQP; a divisor of dim_out */
    size_t iterations;   /* rounds of OPQ, 0.. */
    size_t cells;        /* OPQ learns from residuals to so many cells, as the codes will be; 0: from rows */
    int centred;         /* take off the mean */
    int unit;            /* scale the result to unit length */
} ki_transform_options;

typedef struct ki_transform ki_transform;

/* Out:      *transform, untrained; NULL on failure.
 * Errors:   KITH_INVALID for dim_out beyond dim (HR: other than dim), for m that does not divide dim_out; KITH_NOMEM. */
kith_status ki_transform_create(const ki_transform_options *options, const kith_allocator *allocator,
                                ki_transform **transform, kith_error *err);
void ki_transform_free(ki_transform *transform); /* NULL is allowed */

/* Learn from x[n][dim], finite. RR and HR look at nothing but the seed.
 * Errors:   KITH_INVALID for too few rows (16; OPQ 256); KITH_UNSUPPORTED in a build without LAPACK; KITH_NOMEM,
 *           KITH_INTERNAL, KITH_CANCELLED. Untrained then.
 * Threads:  the pool of run; the same matrix with any number of threads.
 * Memory:   OPQ three times the rows, PCA under DOT and COSINE twice.
 * Cost:     n * dim * dim for the covariance; OPQ each round n * dim_out * (256 + 2 dim_out), and an SVD; for cells 11 n * dim
 *           * min(cells, n / 64) more. */
kith_status ki_transform_train(ki_transform *transform, const float *x, size_t n, uint64_t seed,
                               const kith_run *run, kith_error *err);

/* x[n][dim] to y[n][dim_out], on this thread. A row's result does not depend on the others. */
void ki_transform_apply(const ki_transform *transform, const float *x, size_t n, float *y);

/* The point that y[dim_out] stands for: x[dim]; the length that `unit` took away is not known. */
void ki_transform_reverse(const ki_transform *transform, const float *y, float *x);

size_t ki_transform_dim(const ki_transform *transform);
size_t ki_transform_dim_out(const ki_transform *transform);
int ki_transform_trained(const ki_transform *transform);
uint64_t ki_transform_bytes(const ki_transform *transform);

/* What OPQ's last training went through: the mean squared error of the product quantiser in each round, errors[*n]. */
const double *ki_transform_errors(const ki_transform *transform, size_t *n);

/* Sections "transform.matrix", f32 [dim_out][dim], and "transform.mean", f32 [dim]; of HR "transform.signs" alone, the
 * bytes of ki_hadamard_signs. load checks that floats are finite. */
kith_status ki_transform_save(const ki_transform *transform, struct ki_store_writer *writer, kith_error *err);
kith_status ki_transform_load(ki_transform *transform, struct ki_store *store, kith_error *err);

#endif
