/* Product quantisation against its definition: nearest centroid a segment, distances as sums of table entries. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/pq.h>
#include <kith/simd.h>

#include "base/rng.h"
#include "support.h"

typedef struct shape {
    size_t dim, m, bits;
} shape;

static const shape shapes[] = {{8, 4, 4},   {6, 3, 1},  {10, 5, 2},   {14, 7, 3}, {16, 2, 5}, {9, 3, 6},
                               {12, 12, 7}, {32, 4, 8}, {33, 3, 8},   {80, 2, 8}, {24, 8, 9}, {16, 4, 10},
                               {4, 2, 12},  {2, 2, 16}, {128, 16, 8}, {7, 7, 4}};

/* A quantiser with random codebooks, which need no training and make every case quick. */
static kith_pq *random_pq(shape s, kith_metric metric, uint64_t seed)
{
    kith_pq *pq;
    kith_error err;
    float *books = test_vectors((size_t)1 << s.bits, s.dim, 0, seed);
    assert_ok(kith_pq_create(s.dim, s.m, s.bits, metric, NULL, &pq, &err), &err);
    assert_ok(kith_pq_set_codebooks(pq, books, &err), &err);
    assert_memory_equal(kith_pq_codebooks(pq), books, (s.dim << s.bits) * sizeof *books);
    free(books);
    return pq;
}

static const float *centroid(const kith_pq *pq, size_t j, size_t c)
{
    size_t width = kith_pq_dim(pq) / kith_pq_segments(pq);
    return kith_pq_codebooks(pq) + (j * kith_pq_centroids(pq) + c) * width;
}

static double pair(kith_metric metric, const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) {
        double difference = (double)a[d] - (double)b[d];
        sum += metric == KITH_L2SQ  ? difference * difference
               : metric == KITH_DOT ? -(double)a[d] * (double)b[d]
                                    : fabs(difference);
    }
    return sum;
}

/* Number j of a code, read by the header's words. */
static size_t number(shape s, const uint8_t *code, size_t j)
{
    if (s.bits == 8) return code[j];
    if (s.bits > 8) return code[2 * j] + 256u * code[2 * j + 1];
    size_t value = 0;
    for (size_t b = 0; b < s.bits; b++) {
        size_t bit = j * s.bits + b;
        value |= (size_t)(code[bit / 8] >> bit % 8 & 1) << b;
    }
    return value;
}

static void encode_case(shape s, uint64_t seed)
{
    enum { n = 150 };
    size_t width = s.dim / s.m, ks = (size_t)1 << s.bits;
    kith_pq *pq = random_pq(s, KITH_L2SQ, seed);
    kith_error err;
    assert_int_equal(kith_pq_dim(pq), s.dim);
    assert_int_equal(kith_pq_segments(pq), s.m);
    assert_int_equal(kith_pq_centroids(pq), ks);
    assert_int_equal(kith_pq_table_size(pq), s.m * ks);
    size_t size = kith_pq_code_size(pq);
    assert_int_equal(size, s.bits == 8 ? s.m : s.bits > 8 ? 2 * s.m : (s.m * s.bits + 7) / 8);

    float *x = test_vectors(n, s.dim, 0, seed + 9), *back = malloc(n * s.dim * sizeof *back);
    uint8_t *codes = malloc(n * size);
    assert_ok(kith_pq_encode(pq, x, n, NULL, codes, &err), &err);
    assert_ok(kith_pq_decode(pq, codes, n, back, &err), &err);
    double total = 0, error;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < s.m; j++) {
            const float *segment = x + i * s.dim + j * width;
            double least = INFINITY;
            for (size_t c = 0; c < ks; c++) {
                double to = pair(KITH_L2SQ, segment, centroid(pq, j, c), width);
                least = to < least ? to : least;
            }
            const float *chosen = centroid(pq, j, number(s, codes + i * size, j));
            double got = pair(KITH_L2SQ, segment, chosen, width);
            assert_true(got <= least + 1e-5 * (1 + least));
            assert_memory_equal(back + i * s.dim + j * width, chosen, width * sizeof *chosen);
            total += got;
        }
    assert_ok(kith_pq_error(pq, x, n, NULL, &error, &err), &err);
    assert_true(fabs(error - total / n) <= 1e-5 * error);
    free(x);
    free(back);
    free(codes);
    kith_pq_free(pq);
}

static void table_case(shape s, kith_metric metric, uint64_t seed)
{
    enum { n = 130 };
    size_t width = s.dim / s.m, ks = (size_t)1 << s.bits;
    kith_pq *pq = random_pq(s, metric, seed);
    kith_error err;
    size_t size = kith_pq_code_size(pq);
    float *query = test_vectors(1, s.dim, 0, seed + 6);
    uint8_t *codes = malloc(n * size);
    float *tables = malloc(s.m * ks * sizeof *tables), dist[n];
    ki_rng rng;
    ki_rng_init(&rng, seed, 8);
    for (size_t i = 0; i < n * size; i++) codes[i] = (uint8_t)ki_rng_u64(&rng);
    for (size_t i = 1; i < n * size && s.bits > 8; i += 2) codes[i] &= (uint8_t)((ks - 1) >> 8);
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        if (symmetric) {
            assert_ok(kith_pq_sdc_tables(pq, codes, tables, &err), &err);
            assert_ok(kith_pq_decode(pq, codes, 1, query, &err), &err);
        } else {
            assert_ok(kith_pq_adc_tables(pq, query, tables, &err), &err);
        }
        for (size_t j = 0; j < s.m; j++)
            for (size_t c = 0; c<ks; c += ks> 256 ? 97 : 1) {
                double expected = pair(metric, query + j * width, centroid(pq, j, c), width);
                assert_true(fabs((double)tables[j * ks + c] - expected) <= 2e-5 * (1 + fabs(expected)));
            }
        assert_ok(kith_pq_scan(pq, tables, codes, n, dist, &err), &err);
        for (size_t i = 0; i < n; i++) {
            double sum = 0, scale = 0;
            for (size_t j = 0; j < s.m; j++) {
                double entry = (double)tables[j * ks + number(s, codes + i * size, j)];
                sum += entry;
                scale += fabs(entry);
            }
            assert_true(fabs((double)dist[i] - sum) <= 1e-6 * scale * (double)s.m);
        }
        if (symmetric && metric != KITH_DOT) assert_true(dist[0] == 0);
    }
    free(query);
    free(codes);
    free(tables);
    kith_pq_free(pq);
}

static void at_every_level(void (*run)(uint64_t seed))
{
    for (kith_simd level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        if (!kith_simd_has(level)) continue;
        assert_int_equal(kith_simd_use(level, NULL), KITH_OK);
        run(test_seed() + level);
    }
    kith_simd_use_name("auto", NULL);
}

static void encode_cases(uint64_t seed)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].bits < 16) encode_case(shapes[i], seed);
}

static void table_cases(uint64_t seed)
{
    const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_L1};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t metric = 0; metric < 3; metric++) table_case(shapes[i], metrics[metric], seed);
}

static void test_encode(void **state)
{
    (void)state;
    at_every_level(encode_cases);
}

static void test_tables(void **state)
{
    (void)state;
    at_every_level(table_cases);
}

/* The published example: the points {1..4} x {1..4} of the plane, two codebooks of one component and four centroids. */
static void test_plane(void **state)
{
    (void)state;
    const float codebooks[2][4] = {{1, 2, 3, 4}, {1, 2, 3, 4}}, query[2] = {17, 17};
    float x[16][2], tables[2][4], dist[16], back[16][2];
    for (int i = 0; i < 16; i++) x[i][0] = (float)(i / 4 + 1), x[i][1] = (float)(i % 4 + 1);
    kith_pq *pq;
    kith_error err;
    uint8_t codes[16];
    assert_ok(kith_pq_create(2, 2, 2, KITH_L2SQ, NULL, &pq, &err), &err);
    for (int trained = 0; trained < 2; trained++) {
        if (trained)
            assert_ok(kith_pq_train(pq, &x[0][0], 16, 25, test_seed(), NULL, &err), &err);
        else
            assert_ok(kith_pq_set_codebooks(pq, &codebooks[0][0], &err), &err);
        assert_int_equal(kith_pq_code_size(pq), 1); /* two numbers of two bits */
        assert_ok(kith_pq_encode(pq, &x[0][0], 16, NULL, codes, &err), &err);
        assert_ok(kith_pq_decode(pq, codes, 16, &back[0][0], &err), &err);
        assert_memory_equal(back, x, sizeof x);
        double error;
        assert_ok(kith_pq_error(pq, &x[0][0], 16, NULL, &error, &err), &err);
        assert_true(error == 0);
        assert_ok(kith_pq_adc_tables(pq, query, &tables[0][0], &err), &err);
        assert_ok(kith_pq_scan(pq, &tables[0][0], codes, 16, dist, &err), &err);
        for (int i = 0; i < 16; i++) {
            float a = 17 - x[i][0], b = 17 - x[i][1];
            assert_true(dist[i] == a * a + b * b);
        }
        if (trained) continue;
        const float expected[4] = {256, 225, 196, 169};
        assert_memory_equal(tables[0], expected, sizeof expected);
        assert_memory_equal(tables[1], expected, sizeof expected);
        for (int i = 0; i < 16; i++) assert_int_equal(codes[i], i / 4 + 4 * (i % 4));
    }
    kith_pq_free(pq);
}

/* The other one: 1,024 components in 4 segments of 256 centroids, 4,096 bytes to 4. */
static void test_4096_to_4(void **state)
{
    (void)state;
    enum { n = 800, dim = 1024, clusters = 40 };
    float *x = test_vectors(n, dim, clusters, test_seed());
    kith_pq *pq;
    kith_error err;
    assert_ok(kith_pq_create(dim, 4, 8, KITH_L2SQ, NULL, &pq, &err), &err);
    assert_int_equal(kith_pq_code_size(pq), 4);
    assert_ok(kith_pq_train(pq, x, n, 5, test_seed(), NULL, &err), &err);
    uint8_t codes[n][4];
    assert_ok(kith_pq_encode(pq, x, n, NULL, &codes[0][0], &err), &err);
    double error;
    assert_ok(kith_pq_error(pq, x, n, NULL, &error, &err), &err);
    /* The clusters (25 + 1 a component) are found, what is left is less than their inner spread of 1. */
    assert_true(error > 0 && error < 1.0 * dim);
    kith_pq_free(pq);
    free(x);
}

static void test_training(void **state)
{
    (void)state;
    enum { n = 9000, dim = 12, m = 4, bits = 5 };
    float *x = test_vectors(n, dim, 60, test_seed());
    kith_error err;
    const size_t threads[] = {1, 2, 4, 7};
    float first[dim << bits];
    double error, before = INFINITY;
    for (size_t t = 0; t < 4; t++) {
        kith_run run;
        kith_run_init(&run);
        assert_ok(kith_pool_create(threads[t], NULL, &run.pool, &err), &err);
        kith_pq *pq;
        assert_ok(kith_pq_create(dim, m, bits, KITH_L2SQ, NULL, &pq, &err), &err);
        assert_ok(kith_pq_train(pq, x, n, 12, test_seed(), &run, &err), &err);
        if (t == 0) memcpy(first, kith_pq_codebooks(pq), sizeof first);
        assert_memory_equal(first, kith_pq_codebooks(pq), sizeof first);
        uint8_t codes[2][n * 3];
        assert_ok(kith_pq_encode(pq, x, n, NULL, codes[0], &err), &err);
        assert_ok(kith_pq_encode(pq, x, n, &run, codes[1], &err), &err);
        assert_memory_equal(codes[0], codes[1], sizeof codes[0]);
        assert_ok(kith_pq_error(pq, x, n, &run, &error, &err), &err);
        assert_true(t == 0 || error == before);
        before = error;
        kith_pq_free(pq);
        kith_pool_free(run.pool);
    }
    /* Each bit more must pay: the error falls. */
    for (size_t b = 1; b <= 7; b++) {
        kith_pq *pq;
        assert_ok(kith_pq_create(dim, m, b, KITH_L2SQ, NULL, &pq, &err), &err);
        assert_ok(kith_pq_train(pq, x, n, 12, test_seed(), NULL, &err), &err);
        assert_ok(kith_pq_error(pq, x, n, NULL, &error, &err), &err);
        if (b > 1) assert_true(error < before);
        before = error;
        kith_pq_free(pq);
    }
    free(x);
}

/* All about 1,024 with a spread of 1: float32 squares keep nothing of that. */
/* As many tight groups as centroids: random seeds leave out a third of them, and k-means cannot mend that; the error tells that
 * those of k-means++ were taken. */
static void test_seeds(void **state)
{
    (void)state;
    enum { GROUPS = 256, N = 32 * GROUPS, DIM = 4 };
    float *centres = test_vectors(GROUPS, DIM, 0, 3), *x = test_vectors(N, DIM, 0, 4);
    for (size_t i = 0; i < N * DIM; i++) x[i] = centres[i / DIM % GROUPS * DIM + i % DIM] + 1e-3f * x[i];
    kith_pq *pq;
    kith_error err;
    assert_ok(kith_pq_create(DIM, 1, 8, KITH_L2SQ, NULL, &pq, &err), &err);
    for (size_t iterations = 1; iterations < 10; iterations += 4) {
        double error;
        assert_ok(kith_pq_train(pq, x, N, iterations, 1, NULL, &err), &err);
        assert_ok(kith_pq_error(pq, x, N, NULL, &error, &err), &err);
        assert_true(error < 1e-4); /* DIM * 1e-6 when every group has its own */
    }
    kith_pq_free(pq);
    free(centres);
    free(x);
}

static void test_far_from_origin(void **state)
{
    (void)state;
    enum { n = 2000, dim = 8 };
    float *x = test_vectors(n, dim, 0, test_seed());
    kith_pq *pq;
    kith_error err;
    double error[2];
    float tables[2 * 16], dist[n];
    uint8_t codes[n];
    assert_ok(kith_pq_create(dim, 2, 4, KITH_L2SQ, NULL, &pq, &err), &err);
    for (int far = 0; far < 2; far++) {
        for (size_t i = 0; i < n * dim && far; i++) x[i] += 1024;
        assert_ok(kith_pq_train(pq, x, n, 20, test_seed(), NULL, &err), &err);
        assert_ok(kith_pq_error(pq, x, n, NULL, &error[far], &err), &err);
        assert_ok(kith_pq_encode(pq, x, n, NULL, codes, &err), &err);
        assert_ok(kith_pq_adc_tables(pq, x, tables, &err), &err);
        assert_ok(kith_pq_scan(pq, tables, codes, n, dist, &err), &err);
        for (size_t i = 0; i < n; i++) {
            float back[dim];
            assert_ok(kith_pq_decode(pq, codes + i, 1, back, &err), &err);
            double expected = pair(KITH_L2SQ, x, back, dim);
            assert_true(fabs((double)dist[i] - expected) <= 0.01 * (1 + expected));
        }
    }
    assert_true(error[1] < 1.05 * error[0]);
    kith_pq_free(pq);
    free(x);
}

static void test_errors(void **state)
{
    (void)state;
    kith_pq *pq = (kith_pq *)1;
    kith_error err;
    float x[32 * 4] = {0}, tables[4 * 512], dist[4];
    uint8_t codes[32 * 8];
    double error;
    const struct {
        size_t dim, m, bits;
        kith_metric metric;
        kith_status status;
    } bad[] = {{0, 1, 8, KITH_L2SQ, KITH_INVALID},
               {8, 0, 8, KITH_L2SQ, KITH_INVALID},
               {8, 3, 8, KITH_L2SQ, KITH_INVALID},
               {8, 4, 0, KITH_L2SQ, KITH_INVALID},
               {8, 4, 17, KITH_L2SQ, KITH_INVALID},
               {8192, 8192, 8, KITH_L2SQ, KITH_INVALID},
               {8, 4, 8, KITH_COSINE, KITH_UNSUPPORTED},
               {8, 4, 8, (kith_metric)77, KITH_UNSUPPORTED},
               {(size_t)1 << 60, 1, 16, KITH_L2SQ, KITH_INVALID}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pq = (kith_pq *)1;
        assert_int_equal(kith_pq_create(bad[i].dim, bad[i].m, bad[i].bits, bad[i].metric, NULL, &pq, &err),
                         bad[i].status);
        assert_null(pq);
    }
    kith_pq_free(NULL);
    assert_ok(kith_pq_create(4, 4, 4, KITH_L2SQ, NULL, &pq, &err), &err);
    assert_null(kith_pq_codebooks(pq));
    assert_int_equal(kith_pq_encode(pq, x, 1, NULL, codes, &err), KITH_UNTRAINED);
    assert_int_equal(kith_pq_decode(pq, codes, 1, x, &err), KITH_UNTRAINED);
    assert_int_equal(kith_pq_error(pq, x, 1, NULL, &error, &err), KITH_UNTRAINED);
    assert_int_equal(kith_pq_adc_tables(pq, x, tables, &err), KITH_UNTRAINED);
    assert_int_equal(kith_pq_sdc_tables(pq, codes, tables, &err), KITH_UNTRAINED);
    assert_int_equal(kith_pq_scan(pq, tables, codes, 1, dist, &err), KITH_UNTRAINED);
    assert_int_equal(kith_pq_train(pq, x, 15, 5, 1, NULL, &err), KITH_INVALID);
    assert_int_equal(kith_pq_train(pq, x, 32, 0, 1, NULL, &err), KITH_INVALID);
    assert_int_equal(kith_pq_train(pq, NULL, 32, 5, 1, NULL, &err), KITH_INVALID);
    x[41] = NAN;
    assert_int_equal(kith_pq_train(pq, x, 32, 5, 1, NULL, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "x[10]"));
    assert_null(kith_pq_codebooks(pq));
    x[41] = 0;
    assert_ok(kith_pq_train(pq, x, 32, 5, 1, NULL, &err), &err); /* all points equal */
    assert_ok(kith_pq_error(pq, x, 32, NULL, &error, &err), &err);
    assert_true(error == 0);
    x[5] = INFINITY;
    assert_int_equal(kith_pq_encode(pq, x, 2, NULL, codes, &err), KITH_INVALID);
    assert_int_equal(kith_pq_adc_tables(pq, x + 4, tables, &err), KITH_INVALID);
    assert_int_equal(kith_pq_set_codebooks(pq, NULL, &err), KITH_INVALID);
    assert_int_equal(kith_pq_set_codebooks(pq, x, &err), KITH_INVALID);
    assert_ok(kith_pq_encode(pq, x, 0, NULL, codes, &err), &err);
    kith_pq_free(pq);

    /* Nine bits in sixteen: a number beyond the codebook must not read beyond the table. */
    pq = random_pq((shape){4, 2, 9}, KITH_L2SQ, 1);
    uint8_t wide[8] = {255, 1, 0, 0, 0, 2, 0, 0};
    assert_ok(kith_pq_decode(pq, wide, 1, x, &err), &err);
    assert_int_equal(kith_pq_decode(pq, wide, 2, x, &err), KITH_INVALID);
    assert_int_equal(kith_pq_scan(pq, tables, wide, 2, dist, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "codes[1]"));
    assert_int_equal(kith_pq_sdc_tables(pq, wide + 4, tables, &err), KITH_INVALID);
    kith_pq_free(pq);
}

static void stop(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage, (void)done, (void)total;
    kith_cancel_raise(ctx);
}

static void test_cancel(void **state)
{
    (void)state;
    enum { n = 3000, dim = 4 };
    float *x = test_vectors(n, dim, 0, test_seed());
    uint8_t codes[n * 2];
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.progress = stop;
    run.progress_ctx = &cancel;
    run.cancel = &cancel;
    kith_pq *pq;
    kith_error err;
    assert_ok(kith_pq_create(dim, 2, 8, KITH_L2SQ, NULL, &pq, &err), &err);
    assert_int_equal(kith_pq_train(pq, x, n, 5, 1, &run, &err), KITH_CANCELLED);
    assert_null(kith_pq_codebooks(pq));
    assert_ok(kith_pq_train(pq, x, n, 5, 1, NULL, &err), &err);
    assert_int_equal(kith_pq_encode(pq, x, n, &run, codes, &err), KITH_CANCELLED);
    kith_pq_free(pq);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode),          cmocka_unit_test(test_tables),
        cmocka_unit_test(test_plane),           cmocka_unit_test(test_4096_to_4),
        cmocka_unit_test(test_training),        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_far_from_origin), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
