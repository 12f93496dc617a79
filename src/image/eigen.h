/* eigen.h - the largest eigenvalues of a symmetric matrix, for the projections of the classic descriptors. */
#ifndef KI_IMAGE_EIGEN_H
#define KI_IMAGE_EIGEN_H

#include <kith/run.h>

/* The m largest eigenvalues and their eigenvectors of the positive semi-definite a[n][n], m <= n.
 * Out:      values[m], falling; vectors[m][n], orthonormal, each with its largest component positive.
 * Accuracy: to rounding when m is close to n or n is at most 320 (Jacobi); else the subspace is that of a few
 *           rounds of orthogonal iteration, good enough for a projection whose last directions hardly count.
 * The result does not depend on the number of threads. */
kith_status ki_eigen_largest(const double *a, size_t n, size_t m, const kith_allocator *allocator,
                             kith_pool *pool, double *values, double *vectors, kith_error *err);

#endif
