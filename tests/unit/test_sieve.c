/* Rows in bytes at every SIMD level; and the nearest column by them, which is that of measuring all. */
#include "kmeans_exact.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/index.h>

#include "base/rng.h"
#include "math/sieve.h"
#include "simd/kernels.h"

static kith_error err;

static void test_round(void **state)
{
    (void)state;
    const ki_kernels *judge = ki_kernels_at(KITH_SIMD_SCALAR);
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 1);
    for (size_t n = 0; n < 70; n++) {
        float *x = malloc(n * sizeof *x + 1);
        uint8_t *want = malloc(n + 1), *out = malloc(n + 1);
        for (size_t d = 0; d < n; d++) x[d] = (float)(ki_rng_gauss(&rng) * 30);
        if (n > 2) x[1] = 1e6f, x[2] = -1e6f;   /* beyond what a byte holds */
        if (n > 4) x[3] = 1.25f, x[4] = -3.75f; /* halfway between two */
        ki_sieve_sums sums = judge->sieve_round(x, n, 0.5f, 2, want);
        double error2 = 0;
        int32_t squares = 0;
        for (size_t d = 0; d < n; d++) { /* the judge itself, against the definition */
            double whole = nearbyint((double)x[d] * 2);
            whole = whole < -128 ? -128 : whole > 127 ? 127 : whole;
            assert_int_equal(want[d], (int)whole + 128);
            error2 += ((double)x[d] - whole / 2) * ((double)x[d] - whole / 2);
            squares += (int32_t)(whole * whole);
        }
        assert_true(fabs((double)sums.error2 - error2) <= 1e-5 * error2);
        assert_int_equal(sums.squares, squares);
        for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
            if (!kith_simd_has((kith_simd)level)) continue;
            ki_sieve_sums other = ki_kernels_at((kith_simd)level)->sieve_round(x, n, 0.5f, 2, out);
            assert_memory_equal(out, want, n);
            assert_int_equal(other.squares, squares);
            assert_true(fabs((double)other.error2 - error2) <= 1e-5 * error2);
        }
        free(x);
        free(want);
        free(out);
    }
}

static void check_tile(size_t quads, size_t panels, ki_rng *rng)
{
    /* exact sizes, so that the sanitizer sees an over-read; values at the edges of their ranges */
    size_t columns = panels * 16, na = quads * KI_SIEVE_ROWS * 4, nb = columns * quads * 4, ldo = columns + 3;
    uint8_t *a = malloc(na + 1);
    int8_t *b = malloc(nb + 1);
    int32_t *start = malloc(columns * sizeof *start + 1), least[KI_SIEVE_ROWS], lowest[KI_SIEVE_ROWS];
    int32_t *want = malloc(KI_SIEVE_ROWS * ldo * sizeof *want + 1),
            *out = malloc(KI_SIEVE_ROWS * ldo * sizeof *out + 1);
    uint32_t *index = malloc(columns * sizeof *index + 1), *picked = malloc(columns * sizeof *picked + 1);
    for (size_t i = 0; i < na; i++) a[i] = (uint8_t)(ki_rng_below(rng, 4) ? ki_rng_below(rng, 256) : 255);
    for (size_t i = 0; i < nb; i++) b[i] = (int8_t)(ki_rng_below(rng, 256) - 128);
    for (size_t c = 0; c < columns; c++) start[c] = (int32_t)ki_rng_below(rng, 1 << 30) - (1 << 29);
    memset(want, 0x5a, KI_SIEVE_ROWS * ldo * sizeof *want);
    ki_kernels_at(KITH_SIMD_SCALAR)->sieve_tile(a, quads, b, panels, start, want, ldo, lowest);
    for (size_t r = 0; r < KI_SIEVE_ROWS; r++) { /* the judge itself, against the definition */
        int32_t low = INT32_MAX;
        for (size_t c = 0; c < columns; c++) {
            int32_t sum = start[c];
            for (size_t d = 0; d < 4 * quads; d++)
                sum += a[(d / 4 * KI_SIEVE_ROWS + r) * 4 + d % 4] *
                       b[((c / 16 * quads + d / 4) * 16 + c % 16) * 4 + d % 4];
            assert_int_equal(want[r * ldo + c], sum);
            low = sum < low ? sum : low;
        }
        assert_int_equal(lowest[r], low);
    }
    for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        if (!kith_simd_has((kith_simd)level)) continue;
        const ki_kernels *k = ki_kernels_at((kith_simd)level);
        memset(out, 0x5a, KI_SIEVE_ROWS * ldo * sizeof *out);
        k->sieve_tile(a, quads, b, panels, start, out, ldo, least);
        assert_memory_equal(out, want,
                            KI_SIEVE_ROWS * ldo * sizeof *out); /* what lies between is left alone */
        assert_memory_equal(least, lowest, sizeof least);
        for (size_t n = 0; n <= columns; n += n < 40 ? 1 : 17) {
            int32_t limit = n % 3 ? want[n % (columns ? columns : 1)] : n % 2 ? INT32_MAX : INT32_MIN;
            size_t count = k->select_le_s32(want, n, limit, picked), expected = 0;
            for (size_t i = 0; i < n; i++)
                if (want[i] <= limit) index[expected++] = (uint32_t)i;
            assert_int_equal(count, expected);
            assert_memory_equal(picked, index, count * sizeof *index);
        }
    }
    free(a);
    free(b);
    free(start);
    free(want);
    free(out);
    free(index);
    free(picked);
}

static void test_tile(void **state)
{
    (void)state;
    static const size_t quads[] = {0, 1, 2, 3, 13, 32, 200};
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 2);
    for (size_t t = 0; t < sizeof quads / sizeof *quads; t++)
        for (size_t panels = 1; panels < 8; panels++) check_tile(quads[t], panels, &rng);
}

/* Columns around centres, shifted and scaled; rows near some of them. `rough`: how the outcome may be that bytes do not do. */
static void check_argmin(size_t n, size_t m, size_t dim, float scale, float shift, float far, int rough)
{
    float *y = test_vectors(m, dim, 5, m + dim), *x = test_vectors(n, dim, 0, 77),
          *dist = malloc(n * sizeof *dist);
    uint32_t *which = malloc(n * sizeof *which);
    for (size_t i = 0; i < m * dim; i++) y[i] = y[i] * scale + shift;
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dim; d++)
            x[i * dim + d] = y[i * 7 % m * dim + d] + x[i * dim + d] * scale * (i % 5 ? 1 : far);
    if (n > 3) memcpy(x + dim, y + (m - 1) * dim, dim * sizeof *x); /* a column itself, and one twice */
    if (m > 3) memcpy(y, y + 2 * dim, dim * sizeof *y);
    const ki_kernels *k = ki_kernels_get();
    ki_sieve *sieve;
    kith_pool *pool;
    assert_ok(kith_pool_create(3, NULL, &pool, &err), &err);
    assert_ok(ki_sieve_create(y, m, dim, NULL, &sieve, &err), &err);
    for (int guessed = 0; guessed < 2; guessed++) {
        int done;
        for (size_t i = 0; i < n; i++) which[i] = (uint32_t)((i * 31 + 5) % m);
        assert_ok(ki_sieve_argmin(guessed ? pool : NULL, sieve, x, n, guessed, which, dist, &done, &err),
                  &err);
        assert_int_equal(done, !rough);
        for (size_t i = 0; i < n && done; i++) {
            uint32_t best = 0;
            float least = INFINITY;
            for (size_t c = 0; c < m; c++) {
                float distance = k->l2sq_f32(x + i * dim, y + c * dim, dim);
                if (distance < least) least = distance, best = (uint32_t)c;
            }
            assert_true(dist[i] == least);
            assert_int_equal(which[i], best);
        }
    }
    kith_pool_free(pool);
    ki_sieve_free(sieve);
    free(x);
    free(y);
    free(dist);
    free(which);
}

static void test_argmin(void **state)
{
    (void)state;
    for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        if (kith_simd_use((kith_simd)level, NULL) != KITH_OK) continue;
        check_argmin(1, 1, 1, 1, 0, 1, 0);
        check_argmin(500, 300, 8, 1, 0, 1, 0);
        check_argmin(460, 513, 64, 30, 100, 1, 0);
        check_argmin(60, 400, 1100, 1, 0, 1, 0);    /* columns in several blocks */
        check_argmin(29, 700, 130, 1e-3f, 5, 1, 0); /* far from the origin: cancellation */
        check_argmin(30, 20, 48, 1e10f, 0, 1, 0);
        check_argmin(30, 20, 48, 1e18f, 0, 1, 0); /* beyond the bounds: all are measured */
        check_argmin(50, 50, 12, 0, 3, 1, 1);     /* all columns and rows the same */
        check_argmin(50, 50, 12, 1e-25f, 0, 1, 1);
        check_argmin(100, 400, 16, 1, 0, 1e4f,
                     1); /* rows far outside: a byte says nothing about the others */
    }
    kith_simd_use_name("auto", NULL);
}

static void test_kmeans(void **state)
{
    (void)state;
    enum { N = 4000, DIM = 64, K = 300 };
    float *x = test_vectors(N, DIM, 0, 9);
    assert_kmeans_exact(x, N, DIM, K);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_tile),
        cmocka_unit_test(test_argmin),
        cmocka_unit_test(test_kmeans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
