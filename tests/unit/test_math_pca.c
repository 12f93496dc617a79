/* PCA against cases whose answer is known, and the LAPACK helpers against their defining equations. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/pca.h>
#include <kith/simd.h>

#include "base/rng.h"
#include "math/linalg.h"

static double *gaussian(size_t n, uint64_t stream)
{
    double *a = malloc(n * sizeof *a);
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), stream);
    for (size_t i = 0; i < n; i++) a[i] = ki_rng_gauss(&rng);
    return a;
}

static double largest_entry(const double *row, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        if (fabs(row[i]) > fabs(largest)) largest = row[i];
    return largest;
}

static void eigenvectors_satisfy_their_equation(void **state)
{
    (void)state;
    enum { N = 37 };
    kith_error err;
    double *g = gaussian(N * N, 1), *a = malloc(N * N * sizeof *a), v[N * N], values[N];
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) a[i * N + j] = g[i * N + j] + g[j * N + i];
    memcpy(v, a, sizeof v);
    assert_ok(ki_eigen_sym(v, N, values, NULL, &err), &err);
    for (size_t i = 0; i < N; i++) {
        if (i) assert_true(values[i] <= values[i - 1]);
        assert_true(largest_entry(v + i * N, N) > 0);
        for (size_t j = 0; j < N; j++) {
            double product = 0, dot = 0;
            for (size_t d = 0; d < N; d++)
                product += a[j * N + d] * v[i * N + d], dot += v[i * N + d] * v[j * N + d];
            assert_true(fabs(product - values[i] * v[i * N + j]) < 1e-11);
            assert_true(fabs(dot - (i == j)) < 1e-12);
        }
    }
    double two[4] = {2, 1, 1, 2}, pair[2]; /* eigenvalues 3 and 1 */
    assert_ok(ki_eigen_sym(two, 2, pair, NULL, &err), &err);
    assert_true(fabs(pair[0] - 3) < 1e-14 && fabs(pair[1] - 1) < 1e-14 && fabs(two[0] - sqrt(0.5)) < 1e-14);
    free(g), free(a);
}

static void check_svd(size_t m, size_t n)
{
    kith_error err;
    size_t r = m < n ? m : n;
    double *a = gaussian(m * n, 2), *copy = malloc(m * n * sizeof *copy);
    double *u = malloc(m * r * sizeof *u), *s = malloc(r * sizeof *s), *vt = malloc(r * n * sizeof *vt);
    memcpy(copy, a, m * n * sizeof *a);
    assert_ok(ki_svd(copy, m, n, u, s, vt, NULL, &err), &err);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < r; k++) sum += u[i * r + k] * s[k] * vt[k * n + j];
            assert_true(fabs(sum - a[i * n + j]) < 1e-11);
        }
    for (size_t k = 0; k < r; k++) {
        assert_true(s[k] >= 0 && (k == 0 || s[k] <= s[k - 1]));
        assert_true(largest_entry(vt + k * n, n) > 0);
        for (size_t l = 0; l < r; l++) {
            double dot = 0;
            for (size_t j = 0; j < n; j++) dot += vt[k * n + j] * vt[l * n + j];
            assert_true(fabs(dot - (k == l)) < 1e-12);
        }
    }
    free(a), free(copy), free(u), free(s), free(vt);
}

static void svd_multiplies_back(void **state)
{
    (void)state;
    check_svd(9, 9), check_svd(20, 7), check_svd(6, 31), check_svd(1, 5), check_svd(5, 1);
}

static void check_qr(size_t m, size_t n)
{
    kith_error err;
    double *a = gaussian(m * n, 3), *q = malloc(m * n * sizeof *q);
    memcpy(q, a, m * n * sizeof *q);
    assert_ok(ki_qr(q, m, n, NULL, &err), &err);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double dot = 0, r = 0;
            for (size_t k = 0; k < m; k++)
                dot += q[k * n + i] * q[k * n + j], r += q[k * n + i] * a[k * n + j];
            assert_true(fabs(dot - (i == j)) < 1e-12);
            if (i == j) assert_true(r > 0); /* r = q'a is upper triangular with a positive diagonal */
            if (i > j) assert_true(fabs(r) < 1e-11);
        }
    free(a), free(q);
}

static void qr_is_orthonormal_with_positive_diagonal(void **state)
{
    (void)state;
    kith_error err;
    check_qr(8, 8), check_qr(30, 11), check_qr(5, 1);
    double wide[6] = {0};
    assert_int_equal(ki_qr(wide, 2, 3, NULL, &err), KITH_INVALID);
}

/* Points stretched 10 : 3 : 1 along known orthogonal axes, far from the origin. */
static void known_axes_are_found(void **state)
{
    (void)state;
    enum { N = 20000, DIM = 3 };
    static const double axes[3][3] = {
        {2 / 3., 2 / 3., 1 / 3.}, {-2 / 3., 1 / 3., 2 / 3.}, {1 / 3., -2 / 3., 2 / 3.}};
    static const double length[3] = {10, 3, 1};
    kith_error err;
    float *x = test_vectors(N, DIM, 0, test_seed());
    for (size_t i = 0; i < N; i++) {
        double g[3] = {(double)x[3 * i], (double)x[3 * i + 1], (double)x[3 * i + 2]};
        for (size_t d = 0; d < 3; d++) {
            double sum = 1000 * (double)(d + 1);
            for (size_t a = 0; a < 3; a++) sum += g[a] * length[a] * axes[a][d];
            x[3 * i + d] = (float)sum;
        }
    }
    kith_pca *pca;
    assert_ok(kith_pca_train(x, N, DIM, DIM, 0, NULL, NULL, &pca, &err), &err);
    for (size_t a = 0; a < 3; a++) {
        double dot = 0;
        for (size_t d = 0; d < 3; d++) dot += (double)kith_pca_components(pca)[3 * a + d] * axes[a][d];
        assert_true(fabs(fabs(dot) - 1) < 1e-3);
        assert_true(fabs((double)kith_pca_variances(pca)[a] / (length[a] * length[a]) - 1) < 0.05);
        assert_true(fabs((double)kith_pca_mean(pca)[a] - 1000 * (double)(a + 1)) < 0.5);
    }
    /* Projected: centred, uncorrelated, distances kept; and back again. */
    float *y = malloc(N * DIM * sizeof *y), *back = malloc(N * DIM * sizeof *back);
    assert_ok(kith_pca_apply(pca, x, N, NULL, y, &err), &err);
    assert_ok(kith_pca_reverse(pca, y, N, NULL, back, &err), &err);
    double sum[3] = {0}, cross = 0;
    for (size_t i = 0; i < N; i++) {
        for (size_t d = 0; d < 3; d++) {
            sum[d] += (double)y[3 * i + d];
            assert_true(fabsf(back[3 * i + d] - x[3 * i + d]) < 2e-3f);
        }
        cross += (double)y[3 * i] * (double)y[3 * i + 1];
    }
    for (size_t d = 0; d < 3; d++) assert_true(fabs(sum[d] / N) < 1e-3);
    assert_true(fabs(cross / N) < 1e-2);
    float one[3];
    assert_ok(kith_pca_apply(pca, x + 3 * 77, 1, NULL, one, &err), &err);
    assert_memory_equal(one, y + 3 * 77, sizeof one);
    kith_pca_free(pca);

    /* Whitened: unit variance along every axis; still reversible. */
    assert_ok(kith_pca_train(x, N, DIM, 2, 1, NULL, NULL, &pca, &err), &err);
    assert_true(kith_pca_whitens(pca) && kith_pca_dim(pca) == 3 && kith_pca_dim_out(pca) == 2);
    assert_ok(kith_pca_apply(pca, x, N, NULL, y, &err), &err);
    double squares[2] = {0};
    for (size_t i = 0; i < N; i++)
        for (size_t d = 0; d < 2; d++) squares[d] += (double)y[2 * i + d] * (double)y[2 * i + d];
    for (size_t d = 0; d < 2; d++) assert_true(fabs(squares[d] / N - 1) < 1e-3);
    kith_pca_free(pca);
    free(x), free(y), free(back);
}

/* 9,000 rows are three blocks: the same bytes with 1 and 3 threads, and after a trip through stored parts. */
static void same_bytes_with_any_number_of_threads(void **state)
{
    (void)state;
    enum { N = 9000, DIM = 40, OUT = 12 };
    kith_error err;
    float *x = test_vectors(N, DIM, 20, test_seed()), *y1 = malloc(N * OUT * sizeof *y1),
          *y2 = malloc(N * OUT * sizeof *y2);
    kith_run run;
    kith_run_init(&run);
    kith_pca *one, *three, *stored;
    assert_ok(kith_pca_train(x, N, DIM, OUT, 1, NULL, &run, &one, &err), &err);
    assert_ok(kith_pool_create(3, NULL, &run.pool, &err), &err);
    assert_ok(kith_pca_train(x, N, DIM, OUT, 1, NULL, &run, &three, &err), &err);
    assert_memory_equal(kith_pca_components(one), kith_pca_components(three), OUT * DIM * sizeof(float));
    assert_memory_equal(kith_pca_variances(one), kith_pca_variances(three), OUT * sizeof(float));
    assert_memory_equal(kith_pca_mean(one), kith_pca_mean(three), DIM * sizeof(float));
    assert_ok(kith_pca_create(DIM, OUT, kith_pca_mean(one), kith_pca_components(one), kith_pca_variances(one),
                              1, NULL, &stored, &err),
              &err);
    assert_ok(kith_pca_apply(one, x, N, NULL, y1, &err), &err);
    assert_ok(kith_pca_apply(stored, x, N, run.pool, y2, &err), &err);
    assert_memory_equal(y1, y2, N * OUT * sizeof *y1);
    kith_pca_free(one), kith_pca_free(three), kith_pca_free(stored);
    kith_pool_free(run.pool);
    free(x), free(y1), free(y2);
}

static void bad_input_is_refused(void **state)
{
    (void)state;
    kith_error err;
    kith_pca *pca;
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 9}, bad[8] = {1, 2, 3, 4, 5, NAN, 7, 8}, minus[2] = {1, -1};
    assert_int_equal(kith_pca_train(x, 1, 2, 1, 0, NULL, NULL, &pca, &err), KITH_INVALID);
    assert_int_equal(kith_pca_train(x, 4, 2, 3, 0, NULL, NULL, &pca, &err), KITH_INVALID);
    assert_string_equal(err.message, "dim_out is 3, allowed 1..2");
    assert_int_equal(kith_pca_train(x, 4, 2, 0, 0, NULL, NULL, &pca, &err), KITH_INVALID);
    assert_int_equal(kith_pca_train(bad, 4, 2, 1, 0, NULL, NULL, &pca, &err), KITH_INVALID);
    assert_string_equal(err.message, "row 2 holds NaN or infinity");
    assert_null(pca);
    assert_int_equal(kith_pca_create(2, 2, x, x, minus, 0, NULL, &pca, &err), KITH_INVALID);
    assert_int_equal(kith_pca_create(2, 2, x, bad, x, 0, NULL, &pca, &err),
                     KITH_OK); /* the NaN lies beyond */
    kith_pca_free(pca);
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.cancel = &cancel;
    kith_cancel_raise(&cancel);
    assert_int_equal(kith_pca_train(x, 4, 2, 1, 0, NULL, &run, &pca, &err), KITH_CANCELLED);
    float same[8] = {3, 3, 3, 3, 3, 3, 3, 3}, out[8]; /* no variance at all: whitening divides by nothing */
    assert_ok(kith_pca_train(same, 4, 2, 2, 1, NULL, NULL, &pca, &err), &err);
    assert_ok(kith_pca_apply(pca, same, 4, NULL, out, &err), &err);
    for (int i = 0; i < 8; i++) assert_true(fabsf(out[i]) < 1e-5f);
    kith_pca_free(pca);
}

static void lack_of_memory_leaks_nothing(void **state)
{
    (void)state;
    float *x = test_vectors(300, 5, 0, test_seed());
    kith_error err;
    for (size_t fail_at = 0;; fail_at++) {
        test_allocator allocator;
        test_allocator_init(&allocator, fail_at, 0);
        kith_pca *pca;
        kith_status status = kith_pca_train(x, 300, 5, 2, 0, &allocator.base, NULL, &pca, &err);
        kith_pca_free(pca);
        assert_int_equal(allocator.live, 0);
        if (status == KITH_OK) {
            assert_true(fail_at > 10);
            break;
        }
        assert_int_equal(status, KITH_NOMEM);
        assert_null(pca);
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eigenvectors_satisfy_their_equation),
        cmocka_unit_test(svd_multiplies_back),
        cmocka_unit_test(qr_is_orthonormal_with_positive_diagonal),
        cmocka_unit_test(known_axes_are_found),
        cmocka_unit_test(same_bytes_with_any_number_of_threads),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(lack_of_memory_leaks_nothing),
    };
    kith_error err;
    if (!ki_linalg_available()) { /* what must still hold: a clear refusal */
        kith_pca *pca;
        float x[4] = {1, 2, 3, 4};
        print_message("no LAPACK in this build: PCA training is not tested\n");
        return kith_pca_train(x, 2, 2, 1, 0, NULL, NULL, &pca, &err) != KITH_UNSUPPORTED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
