/* linalg.c - LAPACK, called so that no matrix has to be transposed and no memory is taken behind the allocator's back.
 *
 * LAPACK's matrices are column-major: what is row-major here looks transposed to it. A symmetric matrix is
 * its own transpose; for the others the transposed problem is solved: a = u s vt reads a' = vt' s u', and q r of a
 * is the LQ of a'. */
#include "math/linalg.h"

#include "base/error.h"
#include "base/memory.h"

#include <math.h>

#ifdef KI_WITH_LAPACK
#include <lapacke.h>

int ki_linalg_available(void)
{
    return 1;
}

static kith_status check_size(size_t m, size_t n, kith_error *err)
{
    if (m > INT32_MAX || n > INT32_MAX)
        return ki_fail(err, KITH_INVALID, "matrix is %zu x %zu, allowed up to %d", m, n, INT32_MAX);
    return KITH_OK;
}

static kith_status outcome(lapack_int info, const char *routine, kith_error *err)
{
    if (info == 0) return KITH_OK;
    if (info > 0) return ki_fail(err, KITH_INTERNAL, "%s did not converge (info %d)", routine, (int)info);
    return ki_fail(err, KITH_INTERNAL, "%s refused argument %d", routine, (int)-info);
}

/* -1 when the entry of largest magnitude is negative, else 1. */
static double sign_of(const double *row, size_t n)
{
    size_t largest = 0;
    for (size_t i = 1; i < n; i++)
        if (fabs(row[i]) > fabs(row[largest])) largest = i;
    return n && row[largest] < 0 ? -1 : 1;
}

static void scale(double *row, size_t n, size_t stride, double factor)
{
    for (size_t i = 0; i < n; i++) row[i * stride] *= factor;
}

/* dsyevd sorts ascending: turn rows and values around. */
static void descend(double *a, double *values, size_t n)
{
    for (size_t i = 0, j = n - 1; i < j; i++, j--) {
        double value = values[i];
        values[i] = values[j];
        values[j] = value;
        for (size_t c = 0; c < n; c++) {
            double entry = a[i * n + c];
            a[i * n + c] = a[j * n + c];
            a[j * n + c] = entry;
        }
    }
}

/* LAPACK may iterate for ever over infinities and NaNs. */
static kith_status check_finite(const double *a, size_t n, kith_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(a[i]))
            return ki_fail(err, KITH_INVALID, "the numbers are too large: a matrix holds %g", a[i]);
    return KITH_OK;
}

kith_status ki_eigen_sym(double *a, size_t n, double *values, const kith_allocator *allocator,
                         kith_error *err)
{
    KI_TRY(check_size(n, n, err));
    if (n > KI_EIGEN_MAX)
        return ki_fail(err, KITH_INVALID,
                       "matrix is %zu x %zu, allowed up to %d: LAPACK counts its workspace in 32 bits", n, n,
                       KI_EIGEN_MAX);
    for (size_t i = 0; i < n; i++)
        KI_TRY(check_finite(a + i * n + i, n - i, err)); /* the triangle that is read */
    if (n == 0) return KITH_OK;
    lapack_int order = (lapack_int)n, int_size = 0;
    double size = 0;
    LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', order, a, order, values, &size, -1, &int_size, -1);
    double *work = ki_alloc(allocator, (size_t)size, sizeof *work);
    lapack_int *int_work = ki_alloc(allocator, (size_t)int_size, sizeof *int_work);
    kith_status status;
    if (!work || !int_work)
        status = ki_fail_nomem(err, (size_t)size * sizeof *work);
    else
        status = outcome(LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', order, a, order, values, work,
                                             (lapack_int)size, int_work, int_size),
                         "dsyevd", err);
    ki_free(allocator, work);
    ki_free(allocator, int_work);
    if (status != KITH_OK) return status;
    descend(a, values, n);
    for (size_t i = 0; i < n; i++) scale(a + i * n, n, 1, sign_of(a + i * n, n));
    return KITH_OK;
}

kith_status ki_svd(double *a, size_t m, size_t n, double *u, double *s, double *vt,
                   const kith_allocator *allocator, kith_error *err)
{
    KI_TRY(check_size(m, n, err));
    KI_TRY(check_finite(a, m * n, err));
    size_t r = m < n ? m : n;
    if (r == 0) return KITH_OK;
    lapack_int rows = (lapack_int)n, cols = (lapack_int)m,
               rank = (lapack_int)r; /* of the transposed problem */
    double size = 0;
    lapack_int none;
    LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', rows, cols, a, rows, s, vt, rows, u, rank, &size, -1, &none);
    double *work = ki_alloc(allocator, (size_t)size, sizeof *work);
    lapack_int *int_work = ki_alloc(allocator, 8 * r, sizeof *int_work);
    kith_status status;
    if (!work || !int_work)
        status = ki_fail_nomem(err, (size_t)size * sizeof *work);
    else
        status = outcome(LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', rows, cols, a, rows, s, vt, rows, u, rank,
                                             work, (lapack_int)size, int_work),
                         "dgesdd", err);
    ki_free(allocator, work);
    ki_free(allocator, int_work);
    if (status != KITH_OK) return status;
    for (size_t i = 0; i < r; i++) {
        double sign = sign_of(vt + i * n, n);
        scale(vt + i * n, n, 1, sign);
        scale(u + i, m, r, sign);
    }
    return KITH_OK;
}

kith_status ki_qr(double *a, size_t m, size_t n, const kith_allocator *allocator, kith_error *err)
{
    KI_TRY(check_size(m, n, err));
    if (m < n) return ki_fail(err, KITH_INVALID, "QR of %zu rows, fewer than the %zu columns", m, n);
    if (n == 0) return KITH_OK;
    lapack_int rows = (lapack_int)n, cols = (lapack_int)m;
    double size = 0, size_q = 0, none = 0;
    LAPACKE_dgelqf_work(LAPACK_COL_MAJOR, rows, cols, a, rows, &none, &size, -1);
    LAPACKE_dorglq_work(LAPACK_COL_MAJOR, rows, cols, rows, a, rows, &none, &size_q, -1);
    if (size_q > size) size = size_q;
    double *tau = ki_alloc(allocator, n, sizeof *tau), *sign = ki_alloc(allocator, n, sizeof *sign);
    double *work = ki_alloc(allocator, (size_t)size, sizeof *work);
    kith_status status;
    if (!tau || !sign || !work) {
        status = ki_fail_nomem(err, (size_t)size * sizeof *work);
    } else {
        lapack_int info =
            LAPACKE_dgelqf_work(LAPACK_COL_MAJOR, rows, cols, a, rows, tau, work, (lapack_int)size);
        for (size_t i = 0; i < n; i++) sign[i] = a[i * n + i] < 0 ? -1 : 1; /* the diagonal of r */
        if (info == 0)
            info =
                LAPACKE_dorglq_work(LAPACK_COL_MAJOR, rows, cols, rows, a, rows, tau, work, (lapack_int)size);
        status = outcome(info, "dgelqf", err);
        if (status == KITH_OK)
            for (size_t i = 0; i < n; i++) scale(a + i, m, n, sign[i]);
    }
    ki_free(allocator, tau);
    ki_free(allocator, sign);
    ki_free(allocator, work);
    return status;
}

#else

int ki_linalg_available(void)
{
    return 0;
}

static kith_status missing(kith_error *err)
{
    return ki_fail(err, KITH_UNSUPPORTED, "this build has no LAPACK (KITH_WITH_LAPACK=OFF)");
}

kith_status ki_eigen_sym(double *a, size_t n, double *values, const kith_allocator *allocator,
                         kith_error *err)
{
    (void)a, (void)n, (void)values, (void)allocator;
    return missing(err);
}

kith_status ki_svd(double *a, size_t m, size_t n, double *u, double *s, double *vt,
                   const kith_allocator *allocator, kith_error *err)
{
    (void)a, (void)m, (void)n, (void)u, (void)s, (void)vt, (void)allocator;
    return missing(err);
}

kith_status ki_qr(double *a, size_t m, size_t n, const kith_allocator *allocator, kith_error *err)
{
    (void)a, (void)m, (void)n, (void)allocator;
    return missing(err);
}
#endif
