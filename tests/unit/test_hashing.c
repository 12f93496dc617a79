/* Learned hashes: what the papers promise, on made data; codes, the way back, refusals. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/hashing.h>
#include <kith/index.h>

#include "hash/hasher.h"
#include "math/linalg.h"
#include "support.h"

enum { N = 2000, DIM = 24 };

static kith_error err;

static kith_hasher *learned(const float *x, size_t bits, kith_hash_method method, const kith_run *run)
{
    kith_hasher *h;
    kith_hasher_options options;
    kith_hasher_options_init(&options);
    options.method = method;
    kith_status status = kith_hasher_learn(x, N, DIM, bits, &options, run, &h, &err);
    if (status == KITH_UNSUPPORTED && !ki_linalg_available()) skip();
    assert_ok(status, &err);
    return h;
}

/* Rows whose components have very different variances, in clusters. */
static float *rows(void)
{
    float *x = test_vectors(N, DIM, 40, 7);
    for (size_t i = 0; i < N * DIM; i++) x[i] = x[i] / (float)(1 + i % DIM) + 3;
    return x;
}

typedef struct losses {
    double loss[64];
    size_t n;
} losses;

static void keep_loss(void *ctx, size_t number, double loss)
{
    losses *l = ctx;
    assert_int_equal(number, l->n + 1);
    l->loss[l->n++] = loss;
}

static void test_itq_loss_falls(void **state)
{
    (void)state;
    float *x = rows();
    static const size_t bits[] = {1, 4, 16, DIM};
    for (size_t b = 0; b < sizeof bits / sizeof *bits; b++)
        for (uint64_t seed = 1; seed <= 3; seed++) {
            losses l = {.n = 0};
            kith_hasher *h;
            kith_hasher_options options;
            kith_hasher_options_init(&options);
            options.seed = seed;
            options.whitening = (double)(seed - 1) / 2;
            options.iteration = keep_loss;
            options.iteration_ctx = &l;
            kith_status status = kith_hasher_learn(x, N, DIM, bits[b], &options, NULL, &h, &err);
            if (status == KITH_UNSUPPORTED && !ki_linalg_available()) skip();
            assert_ok(status, &err);
            assert_int_equal(l.n, 50);
            /* the products are float32: 1e-6 of the loss is their rounding */
            for (size_t i = 1; i < l.n; i++) assert_true(l.loss[i] <= l.loss[i - 1] * (1 + 1e-6));
            if (bits[b] > 4) assert_true(l.loss[49] < 0.9 * l.loss[0]);
            kith_hasher_free(h);
        }
    free(x);
}

/* ITQ's directions are as PCAH's orthonormal: it turned them, nothing else. */
static void test_itq_is_a_rotation(void **state)
{
    (void)state;
    float *x = rows();
    kith_hasher *h;
    kith_hasher_options options;
    kith_hasher_options_init(&options);
    options.whitening = 0;
    if (!ki_linalg_available()) skip();
    assert_ok(kith_hasher_learn(x, N, DIM, 12, &options, NULL, &h, &err), &err);
    for (size_t a = 0; a < 12; a++)
        for (size_t b = 0; b <= a; b++) {
            double dot = 0;
            for (size_t d = 0; d < DIM; d++) dot += (double)h->w[a * DIM + d] * h->w[b * DIM + d];
            assert_true(fabs(dot - (a == b)) < 1e-4);
        }
    kith_hasher_free(h);
    free(x);
}

/* Each bit by its definition, one row at a time or many, with any number of threads; unused bits are zero. */
static void test_codes(void **state)
{
    (void)state;
    float *x = rows();
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(3, NULL, &run.pool, &err), &err);
    for (int method = KITH_HASH_RANDOM; method <= KITH_HASH_SPECTRAL; method++) {
        size_t bits = method == KITH_HASH_RANDOM || method == KITH_HASH_SPECTRAL ? 45 : 21;
        size_t row = kith_bit_bytes(bits), wrong = 0;
        kith_hasher *h = learned(x, bits, (kith_hash_method)method, NULL);
        kith_hasher *again = learned(x, bits, (kith_hash_method)method, &run);
        assert_int_equal(kith_hasher_bits(h), bits);
        assert_int_equal(kith_hasher_dim(h), DIM);
        assert_int_equal(kith_hasher_method(h), method);
        assert_memory_equal(h->w, again->w, bits * DIM * sizeof *h->w);
        uint8_t *codes = malloc(N * row), *other = malloc(N * row);
        float *p = malloc(bits * sizeof *p);
        assert_ok(kith_hasher_encode(h, x, N, NULL, codes, &err), &err);
        assert_ok(kith_hasher_encode(again, x, N, run.pool, other, &err), &err);
        assert_memory_equal(codes, other, N * row);
        for (size_t i = 0; i < N; i++) {
            ki_hasher_encode_row(h, x + i * DIM, p, other);
            assert_memory_equal(other, codes + i * row, row);
            assert_int_equal(codes[(i + 1) * row - 1] >> bits % 8, 0);
            for (size_t k = 0; k < bits; k++) {
                double along = 0;
                for (size_t d = 0; d < DIM; d++)
                    along += (double)h->w[k * DIM + d] * ((double)x[i * DIM + d] - (double)h->mean[d]);
                double value =
                    h->frequency[k] == 0
                        ? along
                        : sin(M_PI / 2 + M_PI * (double)h->frequency[k] * (along - (double)h->low[k]));
                wrong += (value > 0) != (codes[i * row + k / 8] >> k % 8 & 1);
            }
        }
        assert_true(wrong <= N * bits / 2000); /* where rounding decides the sign */
        kith_hasher_free(h);
        kith_hasher_free(again);
        free(codes);
        free(other);
        free(p);
    }
    kith_pool_free(run.pool);
    free(x);
}

/* Spectral hashing: the frequencies ascend, and the widest component comes first. */
static void test_spectral_modes(void **state)
{
    (void)state;
    float *x = rows();
    kith_hasher *h = learned(x, 60, KITH_HASH_SPECTRAL, NULL);
    size_t first = 0;
    for (size_t k = 1; k < 60; k++) {
        assert_true(h->frequency[k] >= h->frequency[k - 1]);
        first += memcmp(h->w, h->w + k * DIM, DIM * sizeof *h->w) == 0;
    }
    assert_true(first >= 3); /* several bits along it */
    kith_hasher_free(h);
    free(x);
}

/* What comes back is nearer to the row than the mean of all is. */
static void test_decode(void **state)
{
    (void)state;
    float *x = rows(), back[DIM];
    for (int method = KITH_HASH_RANDOM; method <= KITH_HASH_SPECTRAL; method++) {
        kith_hasher *h = learned(x, DIM, (kith_hash_method)method, NULL);
        uint8_t code[DIM / 8];
        double error = 0, spread = 0;
        for (size_t i = 0; i < N; i++) {
            assert_ok(kith_hasher_encode(h, x + i * DIM, 1, NULL, code, &err), &err);
            kith_hasher_decode(h, code, 1, back);
            for (size_t d = 0; d < DIM; d++) {
                double off = (double)x[i * DIM + d] - (double)back[d],
                       from = (double)x[i * DIM + d] - (double)h->mean[d];
                error += off * off;
                spread += from * from;
            }
        }
        if (error > 0.9 * spread) fail_msg("method %d: %.3f of the spread is lost", method, error / spread);
        kith_hasher_free(h);
    }
    free(x);
}

static void test_refusals(void **state)
{
    (void)state;
    float *x = rows();
    kith_hasher *h = (kith_hasher *)x;
    kith_hasher_options options;
    kith_hasher_options_init(&options);
    assert_int_equal(kith_hasher_learn(NULL, N, DIM, 8, &options, NULL, &h, &err), KITH_INVALID);
    assert_null(h);
    assert_int_equal(kith_hasher_learn(x, 15, DIM, 8, &options, NULL, &h, &err), KITH_INVALID);
    assert_int_equal(kith_hasher_learn(x, N, DIM, DIM + 1, &options, NULL, &h, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "allowed 1..24"));
    assert_int_equal(kith_hasher_learn(x, N, DIM, 0, &options, NULL, &h, &err), KITH_INVALID);
    options.iterations = 0;
    assert_int_equal(kith_hasher_learn(x, N, DIM, 8, &options, NULL, &h, &err), KITH_INVALID);
    options.iterations = 5;
    options.whitening = 1.5;
    assert_int_equal(kith_hasher_learn(x, N, DIM, 8, &options, NULL, &h, &err), KITH_INVALID);
    options.whitening = 0;
    options.method = (kith_hash_method)17;
    assert_int_equal(kith_hasher_learn(x, N, DIM, 8, &options, NULL, &h, &err), KITH_INVALID);
    kith_hasher_options_init(&options);
    x[5] = NAN;
    assert_int_equal(kith_hasher_learn(x, N, DIM, 8, &options, NULL, &h, &err), KITH_INVALID);
    x[5] = 1;
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.cancel = &cancel;
    kith_cancel_raise(&cancel);
    if (ki_linalg_available())
        assert_int_equal(kith_hasher_learn(x, N, DIM, 8, &options, &run, &h, &err), KITH_CANCELLED);
    kith_index *index;
    assert_int_equal(kith_index_create("ITQ25", DIM, NULL, &index, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "allowed 1..24"));
    free(x);
}

/* Rows that are all equal have no directions: every method still gives one code for all. */
static void test_equal_rows(void **state)
{
    (void)state;
    float x[20 * 4], other[4] = {1, 2, 3, 4};
    for (size_t i = 0; i < 80; i++) x[i] = (float)(i % 4) + 1;
    for (int method = KITH_HASH_RANDOM; method <= KITH_HASH_SPECTRAL; method++) {
        kith_hasher *h;
        kith_hasher_options options;
        kith_hasher_options_init(&options);
        options.method = (kith_hash_method)method;
        kith_status status = kith_hasher_learn(x, 20, 4, 4, &options, NULL, &h, &err);
        if (status == KITH_UNSUPPORTED && !ki_linalg_available()) continue;
        assert_ok(status, &err);
        uint8_t a, b;
        assert_ok(kith_hasher_encode(h, x, 1, NULL, &a, &err), &err);
        assert_ok(kith_hasher_encode(h, other, 1, NULL, &b, &err), &err);
        assert_int_equal(a, b);
        kith_hasher_free(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_itq_loss_falls), cmocka_unit_test(test_itq_is_a_rotation),
        cmocka_unit_test(test_codes),          cmocka_unit_test(test_spectral_modes),
        cmocka_unit_test(test_decode),         cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_equal_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
