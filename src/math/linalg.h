/* linalg.h - eigenvectors, singular values and QR of dense float64 matrices, by LAPACK.
 *
 * For training only (PCA, OPQ, ITQ, random rotations); nothing here is hot. Matrices are row-major. LAPACK leaves signs open;
 * here they are fixed, so that the same data gives the same bytes with the same LAPACK.
 * Errors of all: KITH_NOMEM; KITH_INTERNAL when an iteration does not converge (NaN or infinity in the input);
 * KITH_INVALID for dimensions beyond 2^31 - 1 (KI_EIGEN_MAX for ki_eigen_sym); KITH_UNSUPPORTED in a build without LAPACK. Outputs are then undefined.
 * Memory: workspace from the allocator. No thread is started by us, nor by the serial OpenBLAS that we ask for. */
#ifndef KI_MATH_LINALG_H
#define KI_MATH_LINALG_H

#include <kith/allocator.h>
#include <kith/status.h>

/* Whether this build has LAPACK. */
int ki_linalg_available(void);

/* All eigenvectors of a symmetric matrix.
 * In:       a[n][n], of which one triangle is read.
 * Out:      values[n], descending; a: row i is the unit eigenvector of values[i], its entry of largest magnitude positive
 *           (the first of equals). */
#define KI_EIGEN_MAX 32766 /* dsyevd counts a workspace of 1 + 6n + 2n^2 in 32 bits */
kith_status ki_eigen_sym(double *a, size_t n, double *values, const kith_allocator *allocator,
                         kith_error *err);

/* Thin singular value decomposition, a = u diag(s) vt, r = min(m, n).
 * In:       a[m][n], destroyed.
 * Out:      u[m][r], s[r] descending, vt[r][n]; in each row of vt the entry of largest magnitude is positive. */
kith_status ki_svd(double *a, size_t m, size_t n, double *u, double *s, double *vt,
                   const kith_allocator *allocator, kith_error *err);

/* Orthonormalise the columns, a = q r, m >= n.
 * In:       a[m][n].
 * Out:      a: q[m][n] with the diagonal of r positive. With a of independent N(0,1) entries q is uniformly distributed:
 *           a random rotation (Mezzadri, "How to generate random matrices from the classical compact groups", 2007). */
kith_status ki_qr(double *a, size_t m, size_t n, const kith_allocator *allocator, kith_error *err);

#endif
