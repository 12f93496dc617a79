/* pca.h - principal component analysis: fewer dimensions that keep most of the variance.
 *
 * K. Pearson, "On lines and planes of closest fit to systems of points in space", Phil. Mag. 2(11), 1901. For search: H. Jegou
 * and O. Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening", ECCV 2012.
 *
 * The mean is subtracted and the rest projected onto the eigenvectors of the covariance that have the largest eigenvalues.
 * Distances between the results are at most those between the inputs (without whitening), and nearly equal when
 * the variance left out is small. Worth trying before any quantiser; not for data whose components are
 * already independent. Whitening divides every component by its standard deviation: it takes weight from what all
 * vectors share, and suits image descriptors compared by cosine.
 *
 * Needs LAPACK: a build without it answers KITH_UNSUPPORTED to training; stored results still apply.
 */
#ifndef KITH_PCA_H
#define KITH_PCA_H

#include <kith/run.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kith_pca kith_pca;

/* Train.
 * In:       x[n][dim], row-major, finite; 1 <= dim_out <= dim; n >= 2. whiten: 0 or 1.
 * Out:      *pca, NULL on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_CANCELLED, KITH_UNSUPPORTED (no LAPACK), KITH_INTERNAL (no convergence).
 * Threads:  the pool of run (stage "training", in rows); the result is the same with any number. The sign of each
 *           component is fixed: its entry of largest magnitude is positive.
 * Memory:   about 16 dim^2 bytes for each thread and 40 dim^2 for the eigenvectors.
 * Cost:     n dim^2 multiply-adds and about 10 dim^3 for the eigenvectors. */
KITH_API kith_status kith_pca_train(const float *x, size_t n, size_t dim, size_t dim_out, int whiten,
                                    const kith_allocator *allocator, const kith_run *run, kith_pca **pca,
                                    kith_error *err);

/* Make one from stored parts: those that the functions below return.
 * In:       mean[dim], components[dim_out][dim] of unit length, variances[dim_out], all finite and copied; variances >= 0.
 * Out:      *pca, NULL on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM. */
KITH_API kith_status kith_pca_create(size_t dim, size_t dim_out, const float *mean, const float *components,
                                     const float *variances, int whiten, const kith_allocator *allocator,
                                     kith_pca **pca, kith_error *err);

KITH_API void kith_pca_free(kith_pca *pca); /* NULL is allowed */

/* Project.
 * In:       x[n][dim], finite.
 * Out:      out[n][dim_out]; must not overlap x.
 * Errors:   KITH_NOMEM; a single row (n == 1) allocates nothing and cannot fail.
 * Threads:  any number at once on one pca; pool NULL: this thread. A row's result does not depend on the others. */
KITH_API kith_status kith_pca_apply(const kith_pca *pca, const float *x, size_t n, kith_pool *pool,
                                    float *out, kith_error *err);

/* The way back: the point of the original space that a projection stands for.
 * In:       y[n][dim_out].
 * Out:      out[n][dim].
 * Errors:   KITH_NOMEM. */
KITH_API kith_status kith_pca_reverse(const kith_pca *pca, const float *y, size_t n, kith_pool *pool,
                                      float *out, kith_error *err);

KITH_API size_t kith_pca_dim(const kith_pca *pca);
KITH_API size_t kith_pca_dim_out(const kith_pca *pca);
KITH_API int kith_pca_whitens(const kith_pca *pca);

/* Arrays that belong to the pca. Components are of unit length, whether it whitens or not; variances are those of the
 * training rows along the components (over n, descending). */
KITH_API const float *kith_pca_mean(const kith_pca *pca);       /* [dim] */
KITH_API const float *kith_pca_components(const kith_pca *pca); /* [dim_out][dim] */
KITH_API const float *kith_pca_variances(const kith_pca *pca);  /* [dim_out] */

#ifdef __cplusplus
}
#endif
#endif
