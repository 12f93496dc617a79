/* Eigenvalues by Jacobi's rotations for small matrices, by orthogonal iteration with a Rayleigh-Ritz step
 * (Golub & Van Loan, Matrix Computations, 4th ed., sec. 8.5.3 and 8.2.4) for the leading part of large ones. */
#include "image/eigen.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/rng.h"

enum {
    SMALL = 320,    /* up to this, Jacobi on the whole matrix */
    SPARE = 32,     /* directions carried along beyond those wanted: they speed the convergence of the last */
    ROUNDS = 12,    /* of orthogonal iteration */
    MAX_SWEEPS = 30 /* of Jacobi; ten are usual */
};

/* Rotate rows and columns p and q of a[n][n], and rows p and q of v[n][n], so that a[p][q] becomes 0. */
static void rotate(double *a, double *v, size_t n, size_t p, size_t q)
{
    double apq = a[p * n + q];
    double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
    double t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    double *ap = a + p * n, *aq = a + q * n, *vp = v + p * n, *vq = v + q * n;
    for (size_t i = 0; i < n; i++) { /* rows */
        double x = ap[i], y = aq[i];
        ap[i] = c * x - s * y;
        aq[i] = s * x + c * y;
        x = vp[i], y = vq[i];
        vp[i] = c * x - s * y;
        vq[i] = s * x + c * y;
    }
    for (size_t i = 0; i < n; i++) { /* columns */
        double x = a[i * n + p], y = a[i * n + q];
        a[i * n + p] = c * x - s * y;
        a[i * n + q] = s * x + c * y;
    }
}

/* All eigenvectors of a[n][n], which is destroyed: its diagonal becomes the eigenvalues, v's rows the vectors. */
static void jacobi(double *a, double *v, size_t n)
{
    memset(v, 0, n * n * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i * n + i] = 1;
    for (size_t sweep = 0; sweep < MAX_SWEEPS; sweep++) {
        double off = 0, diagonal = 0;
        for (size_t p = 0; p < n; p++) {
            diagonal += a[p * n + p] * a[p * n + p];
            for (size_t q = p + 1; q < n; q++) off += a[p * n + q] * a[p * n + q];
        }
        if (off <= 1e-24 * diagonal) return;
        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++)
                if (fabs(a[p * n + q]) > 1e-300) rotate(a, v, n, p, q);
    }
}

/* Pick the m largest of n, falling; ties by position. */
static void pick_largest(const double *a, const double *v, size_t n, size_t m, double *values,
                         double *vectors)
{
    double bound = INFINITY;
    size_t last = 0;
    for (size_t k = 0; k < m; k++) {
        size_t best = n;
        for (size_t i = 0; i < n; i++) {
            double x = a[i * n + i];
            int left = x < bound || (x == bound && i > last);
            if (left && (best == n || x > a[best * n + best])) best = i;
        }
        bound = a[best * n + best];
        last = best;
        values[k] = bound;
        memcpy(vectors + k * n, v + best * n, n * sizeof *vectors);
    }
}

/* The sign of an eigenvector is free: make it the same everywhere. */
static void fix_sign(double *vector, size_t n)
{
    size_t largest = 0;
    for (size_t i = 1; i < n; i++)
        if (fabs(vector[i]) > fabs(vector[largest])) largest = i;
    if (vector[largest] >= 0) return;
    for (size_t i = 0; i < n; i++) vector[i] = -vector[i];
}

static kith_status small_matrix(const double *a, size_t n, size_t m, const kith_allocator *allocator,
                                double *values, double *vectors, kith_error *err)
{
    double *work = ki_alloc(allocator, 2 * n * n, sizeof *work);
    if (!work) return ki_fail_nomem(err, 2 * n * n * sizeof *work);
    memcpy(work, a, n * n * sizeof *work);
    jacobi(work, work + n * n, n);
    pick_largest(work, work + n * n, n, m, values, vectors);
    ki_free(allocator, work);
    return KITH_OK;
}

/* out[block] = a q[block], one vector a block. */
typedef struct product {
    const double *a, *q;
    double *out;
    size_t n;
} product;

static void multiply_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    product *p = ctx;
    const double *q = p->q + block * p->n;
    double *out = p->out + block * p->n;
    memset(out, 0, p->n * sizeof *out);
    for (size_t i = 0; i < p->n; i++) {
        const double *row = p->a + i * p->n;
        double weight = q[i];
        for (size_t j = 0; j < p->n; j++) out[j] += weight * row[j];
    }
}

static double dot(const double *a, const double *b, size_t n)
{
    double lanes[4] = {0};
    for (size_t i = 0; i < n; i++) lanes[i % 4] += a[i] * b[i];
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

/* Modified Gram-Schmidt over the rows of q[m][n]; a row that vanishes is drawn anew. */
static void orthonormalise(double *q, size_t m, size_t n, ki_rng *rng)
{
    for (size_t k = 0; k < m; k++) {
        double *row = q + k * n, before = sqrt(dot(row, row, n));
        for (size_t j = 0; j < k; j++) {
            const double *other = q + j * n;
            double along = dot(row, other, n);
            for (size_t i = 0; i < n; i++) row[i] -= along * other[i];
        }
        double length = sqrt(dot(row, row, n));
        if (length <= 1e-12 * before || length == 0) {
            for (size_t i = 0; i < n; i++) row[i] = ki_rng_gauss(rng);
            k--; /* once more, now with a random direction */
            continue;
        }
        for (size_t i = 0; i < n; i++) row[i] /= length;
    }
}

static kith_status large_matrix(const double *a, size_t n, size_t m, const kith_allocator *allocator,
                                kith_pool *pool, double *values, double *vectors, kith_error *err)
{
    size_t width = m + SPARE < n ? m + SPARE : n;
    double *q = ki_alloc(allocator, 2 * width * n + 2 * width * width, sizeof *q);
    if (!q) return ki_fail_nomem(err, (2 * width * n + 2 * width * width) * sizeof *q);
    double *aq = q + width * n, *ritz = aq + width * n, *turn = ritz + width * width;
    ki_rng rng;
    ki_rng_init(&rng, 1, 0); /* any start that is not orthogonal to the answer will do */
    for (size_t i = 0; i < width * n; i++) q[i] = ki_rng_gauss(&rng);
    product p = {a, q, aq, n};
    for (size_t round = 0; round <= ROUNDS; round++) {
        orthonormalise(q, width, n, &rng);
        ki_pool_run(pool, width, multiply_block, &p);
        if (round < ROUNDS) memcpy(q, aq, width * n * sizeof *q);
    }
    /* Rayleigh-Ritz: the eigenvectors of q a q' turn the basis into the best approximations within it. */
    for (size_t i = 0; i < width; i++)
        for (size_t j = 0; j <= i; j++)
            ritz[i * width + j] = ritz[j * width + i] = dot(q + i * n, aq + j * n, n);
    jacobi(ritz, turn, width);
    double *picked = aq; /* free by now; [m][width] */
    pick_largest(ritz, turn, width, m, values, picked);
    memset(vectors, 0, m * n * sizeof *vectors);
    for (size_t k = 0; k < m; k++)
        for (size_t j = 0; j < width; j++)
            for (size_t i = 0; i < n; i++) vectors[k * n + i] += picked[k * width + j] * q[j * n + i];
    ki_free(allocator, q);
    return KITH_OK;
}

kith_status ki_eigen_largest(const double *a, size_t n, size_t m, const kith_allocator *allocator,
                             kith_pool *pool, double *values, double *vectors, kith_error *err)
{
    if (n <= SMALL || m + SPARE >= n)
        KI_TRY(small_matrix(a, n, m, allocator, values, vectors, err));
    else
        KI_TRY(large_matrix(a, n, m, allocator, pool, values, vectors, err));
    for (size_t k = 0; k < m; k++) fix_sign(vectors + k * n, n);
    return KITH_OK;
}
