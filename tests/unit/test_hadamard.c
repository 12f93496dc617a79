/* The fast random rotation: orthogonal at every dimension, spreading, and of the same bits at every SIMD level. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/simd.h>

#include "math/hadamard.h"
#include "simd/kernels.h"

static kith_error err;

static ki_hadamard *made(size_t dim, uint64_t seed)
{
    ki_hadamard *h;
    assert_ok(ki_hadamard_create(dim, NULL, seed, NULL, &h, &err), &err);
    return h;
}

static double dot(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) sum += (double)a[d] * (double)b[d];
    return sum;
}

static size_t dim_at(size_t i)
{
    static const size_t large[] = {100, 127, 128, 129, 256, 511, 784, 960, 1024, 1536, 4096, 5000};
    return i < 70 ? i + 1 : large[i - 70];
}
#define DIMS (70 + 12)

/* Inner products stay, the way back leads back, and signs that were kept make the same rotation. */
static void test_orthogonal(void **state)
{
    (void)state;
    for (size_t i = 0; i < DIMS; i++) {
        size_t dim = dim_at(i);
        ki_hadamard *h = made(dim, test_seed()), *again;
        assert_ok(ki_hadamard_create(dim, ki_hadamard_signs(h), 0, NULL, &again, &err), &err);
        float *x = test_vectors(3, dim, 0, test_seed() + i), *y = malloc(3 * dim * sizeof *y);
        memcpy(y, x, 3 * dim * sizeof *y);
        memcpy(y + 2 * dim, x, dim * sizeof *y);
        ki_hadamard_apply(h, y);
        ki_hadamard_apply(h, y + dim);
        ki_hadamard_apply(again, y + 2 * dim);
        assert_memory_equal(y, y + 2 * dim, dim * sizeof *y);
        double scale = sqrt(dot(x, x, dim) * dot(x + dim, x + dim, dim)) * 1e-5 + 1e-9;
        assert_true(fabs(dot(x, x, dim) - dot(y, y, dim)) < 1e-5 * dot(x, x, dim) + 1e-9);
        assert_true(fabs(dot(x, x + dim, dim) - dot(y, y + dim, dim)) < scale);
        ki_hadamard_reverse(h, y);
        for (size_t d = 0; d < dim; d++) assert_true(fabsf(y[d] - x[d]) < 2e-5f);
        ki_hadamard_free(h);
        ki_hadamard_free(again);
        free(x);
        free(y);
    }
    ki_hadamard_free(NULL);
}

/* A vector with all its length in one component or in two has it spread over all afterwards: as for normally distributed
 * components the fourth moment is about 3, and none is beyond 10 standard deviations (of 12 million in the largest case). */
static void test_spreads(void **state)
{
    (void)state;
    static const size_t dims[] = {64, 100, 127, 128, 192, 784, 960};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        size_t dim = dims[i], seeds = 20;
        float *x = malloc(dim * sizeof *x);
        double fourth = 0, most = 0;
        for (size_t seed = 0; seed < seeds; seed++) {
            ki_hadamard *h = made(dim, test_seed() + seed);
            for (size_t at = 0; at < dim; at++) {
                memset(x, 0, dim * sizeof *x);
                x[at] = x[(at * 7 + 3) % dim] = 1;
                double scale = (double)dim / dot(x, x, dim);
                ki_hadamard_apply(h, x);
                for (size_t d = 0; d < dim; d++) {
                    double square = (double)x[d] * (double)x[d] * scale;
                    fourth += square * square / (double)(dim * dim * seeds);
                    most = fmax(most, square);
                }
            }
            ki_hadamard_free(h);
        }
        fprintf(stderr, "%zu: fourth moment %.3f, largest %.2f deviations\n", dim, fourth, sqrt(most));
        assert_true(fourth > 2.3 && fourth < 3.5);
        assert_true(most < 100);
        free(x);
    }
}

static void test_levels(void **state)
{
    (void)state;
    kith_simd best = kith_simd_level();
    for (size_t i = 0; i < DIMS; i++) {
        size_t dim = dim_at(i);
        float *x = test_vectors(1, dim, 0, test_seed() + i), *first = NULL, *y = malloc(dim * sizeof *y);
        for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
            if (!kith_simd_has((kith_simd)level)) continue;
            assert_ok(kith_simd_use((kith_simd)level, &err), &err);
            ki_hadamard *h = made(dim, 5);
            memcpy(y, x, dim * sizeof *y);
            ki_hadamard_apply(h, y);
            if (!first) {
                first = malloc(dim * sizeof *first);
                memcpy(first, y, dim * sizeof *y);
            }
            assert_memory_equal(first, y, dim * sizeof *y);
            ki_hadamard_free(h);
        }
        free(first);
        free(x);
        free(y);
    }
    assert_ok(kith_simd_use(best, &err), &err);
}

/* The kernel against the definition: entry (i, j) of the matrix is -1 to the number of bits that i and j share. */
static void test_transform(void **state)
{
    (void)state;
    for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        const ki_kernels *k = ki_kernels_at((kith_simd)level);
        for (size_t n = 1; k && n <= 2048; n *= 2) {
            float *x = test_vectors(1, n, 0, n),
                  *y = malloc(n * sizeof *y); /* exact sizes for the sanitizer */
            memcpy(y, x, n * sizeof *y);
            k->fht_f32(y, n);
            for (size_t i = 0; i < n; i++) {
                double want = 0;
                for (size_t j = 0; j < n; j++)
                    want += __builtin_parityll(i & j) ? -(double)x[j] : (double)x[j];
                assert_true(fabs(want - (double)y[i]) < 1e-5 * (double)n + 1e-6);
            }
            free(x);
            free(y);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transform),
        cmocka_unit_test(test_orthogonal),
        cmocka_unit_test(test_spreads),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
