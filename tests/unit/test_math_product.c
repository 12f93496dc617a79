/* The tiled product against naive loops in float64, at every SIMD level of the machine: each epilogue, every
 * kind of edge of tiles, panels and depth blocks, and the promise that values depend on nothing but row,
 * column and level. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/run.h>
#include <kith/simd.h>

#include "base/topk.h"
#include "math/product.h"
#include "simd/kernels.h"

static const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_COSINE};

static double naive(kith_metric metric, const float *a, const float *b, size_t dim, double *slack)
{
    double l2 = 0, dot = 0, aa = 0, bb = 0;
    for (size_t d = 0; d < dim; d++) {
        double x = (double)a[d], y = (double)b[d];
        l2 += (x - y) * (x - y);
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    double u = (double)(dim + 4) * 0x1p-24;
    *slack = u * (sqrt(aa) + sqrt(bb)) * (sqrt(aa) + sqrt(bb)) + 1e-30;
    if (metric == KITH_L2SQ) return l2;
    if (metric == KITH_DOT) return -dot;
    *slack = 4 * u;
    return aa > 0 && bb > 0 ? 1 - dot / sqrt(aa * bb) : 1;
}

/* Runs a test at every level. */
static void at_every_level(void (*test)(void))
{
    kith_error err;
    for (int level = 0; level < 4; level++) {
        if (!kith_simd_has((kith_simd)level)) continue;
        assert_ok(kith_simd_use((kith_simd)level, &err), &err);
        test();
    }
    assert_ok(kith_simd_use_name("auto", &err), &err);
}

/* A copy in a block of exact size, at an odd float offset, so that the sanitizer sees any over-read. */
static float *exact(const float *x, size_t n)
{
    float *copy = malloc(n * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, x, n * sizeof *copy);
    return copy;
}

static void check_store_argmin(kith_metric metric, size_t n, size_t m, size_t dim)
{
    kith_error err;
    float *source = test_vectors(n + m, dim, 0, test_seed() + n + m * 3 + dim * 7);
    float *x = exact(source, n * dim), *y = exact(source + n * dim, m * dim);
    if (n > 1) memset(x, 0, dim * sizeof *x); /* a zero row */
    ki_packed *packed;
    assert_ok(ki_packed_create(y, dim, m, dim, metric, NULL, &packed, &err), &err);
    float *all = malloc(n * m * sizeof *all), *near = malloc(n * sizeof *near),
          *row = malloc(m * sizeof *row);
    uint32_t *index = malloc(n * sizeof *index);
    assert_ok(ki_product_store(NULL, x, dim, n, packed, all, m, &err), &err);
    assert_ok(ki_product_argmin(NULL, x, dim, n, packed, index, near, &err), &err);
    for (size_t i = 0; i < n; i++) {
        size_t best = 0;
        for (size_t c = 0; c < m; c++) {
            double slack, want = naive(metric, x + i * dim, y + c * dim, dim, &slack);
            if (!(fabs((double)all[i * m + c] - want) <= slack))
                fail_msg("%s metric %d n %zu m %zu dim %zu: row %zu column %zu is %g, should be %g",
                         kith_simd_name(kith_simd_level()), metric, n, m, dim, i, c, (double)all[i * m + c],
                         want);
            if (all[i * m + c] < all[i * m + best]) best = c;
        }
        if (metric != KITH_L2SQ || near[i] > 0) assert_int_equal(index[i], best);
        assert_true(near[i] == all[i * m + index[i]]); /* the same bits from another kernel */
        ki_product_row(packed, x + i * dim, row);
        assert_memory_equal(row, all + i * m, m * sizeof *row);
    }
    free(all), free(near), free(row), free(index);
    ki_packed_free(packed);
    free(source), free(x), free(y);
}

static void store_and_argmin(void)
{
    static const size_t shapes[][3] = {
        /* n, m, dim */
        {1, 1, 1},    {1, 16, 4},    {3, 17, 5},    {14, 32, 8},  {15, 33, 33}, {49, 256, 8},  {48, 31, 32},
        {97, 100, 3}, {29, 48, 128}, {13, 64, 100}, {5, 15, 384}, {7, 40, 385}, {16, 70, 801}, {230, 19, 40}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t i = 0; i < 3; i++)
            check_store_argmin(metrics[i], shapes[s][0], shapes[s][1], shapes[s][2]);
    for (size_t n = 1; n <= 30; n++) check_store_argmin(KITH_L2SQ, n, 2 * n + 1, 35);
    for (size_t dim = 1; dim <= 40; dim++) check_store_argmin(KITH_L2SQ, 50, 21, dim);
}

static void store_and_argmin_agree_with_naive(void **state)
{
    (void)state;
    at_every_level(store_and_argmin);
}

/* Integer coordinates: every distance is exact, ties abound. */
static void ties(void)
{
    static const size_t dims[] = {2, 40};
    kith_error err;
    for (size_t which = 0; which < 2; which++) {
        size_t dim = dims[which], n = 100, m = 300;
        float *x = calloc(n * dim, sizeof *x), *y = calloc(m * dim, sizeof *y);
        for (size_t i = 0; i < n; i++) x[i * dim] = (float)(i % 7), x[i * dim + 1] = (float)(i % 5);
        for (size_t c = 0; c < m; c++) y[c * dim] = (float)(c * 31 % 7), y[c * dim + 1] = (float)(c * 17 % 4);
        ki_packed *packed;
        uint32_t index[100];
        float dist[100];
        assert_ok(ki_packed_create(y, dim, m, dim, KITH_L2SQ, NULL, &packed, &err), &err);
        assert_ok(ki_product_argmin(NULL, x, dim, n, packed, index, dist, &err), &err);
        for (size_t i = 0; i < n; i++) {
            double best = INFINITY, slack;
            size_t at = 0;
            for (size_t c = 0; c < m; c++) {
                double d = naive(KITH_L2SQ, x + i * dim, y + c * dim, dim, &slack);
                if (d < best) best = d, at = c;
            }
            assert_int_equal(index[i], at);
            assert_true((double)dist[i] == best);
        }
        ki_packed_free(packed);
        free(x), free(y);
    }
}

static void argmin_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    at_every_level(ties);
}

typedef struct heaps {
    ki_topk top[64];
    float *limit;
} heaps;

static void collect(void *ctx, size_t row, size_t column, const float *dist, uint32_t mask)
{
    heaps *h = ctx;
    for (; mask; mask &= mask - 1) {
        int i = __builtin_ctz(mask);
        assert_true(dist[i] <= h->limit[row]);
        ki_topk_push(&h->top[row], dist[i], column + (size_t)i);
    }
    h->limit[row] = ki_topk_worst(&h->top[row]);
}

/* topk, below and search all find what a heap over the stored matrix finds, bit for bit. */
static void check_topk(kith_metric metric, size_t n, size_t m, size_t dim, size_t k)
{
    kith_error err;
    float *x = test_vectors(n, dim, 0, test_seed()), *y = test_vectors(m, dim, 0, test_seed() + 1);
    ki_packed *packed;
    assert_ok(ki_packed_create(y, dim, m, dim, metric, NULL, &packed, &err), &err);
    float *all = malloc(n * m * sizeof *all), *want = malloc(k * sizeof *want),
          *dist = malloc(n * k * sizeof *dist);
    uint64_t *want_id = malloc(k * sizeof *want_id), *id = malloc(n * k * sizeof *id);
    float *dist2 = malloc(n * k * sizeof *dist), limit[64];
    uint64_t *id2 = malloc(n * k * sizeof *id);
    assert_ok(ki_product_store(NULL, x, dim, n, packed, all, m, &err), &err);
    assert_ok(ki_product_topk(NULL, x, dim, n, packed, k, dist, id, &err), &err);
    heaps h = {.limit = limit};
    for (size_t i = 0; i < n; i++)
        ki_topk_init(&h.top[i], k, dist2 + i * k, id2 + i * k), limit[i] = INFINITY;
    assert_ok(ki_product_search(NULL, x, dim, n, y, dim, m, dim, metric, limit, collect, &h, NULL, &err),
              &err);
    for (size_t i = 0; i < n; i++) {
        ki_topk top;
        ki_topk_init(&top, k, want, want_id);
        for (size_t c = 0; c < m; c++) ki_topk_push(&top, all[i * m + c], c);
        ki_topk_sort(&top);
        ki_topk_sort(&h.top[i]);
        assert_memory_equal(want, dist + i * k, k * sizeof *want);
        assert_memory_equal(want_id, id + i * k, k * sizeof *want_id);
        assert_memory_equal(want, dist2 + i * k, k * sizeof *want);
        assert_memory_equal(want_id, id2 + i * k, k * sizeof *want_id);
    }
    free(all), free(want), free(want_id), free(dist), free(id), free(dist2), free(id2), free(x), free(y);
    ki_packed_free(packed);
}

static void topk(void)
{
    for (size_t i = 0; i < 3; i++) {
        check_topk(metrics[i], 31, 500, 24, 10);
        check_topk(metrics[i], 17, 5, 3, 8); /* k > m */
        check_topk(metrics[i], 1, 77, 129, 77);
        check_topk(metrics[i], 3, 1000, 500, 1);
    }
    check_topk(KITH_L2SQ, 2, 5000, 1025, 20); /* more than one block of packed columns */
}

static void topk_and_search_agree_with_a_heap(void **state)
{
    (void)state;
    at_every_level(topk);
}

static void threads_and_batches(void)
{
    enum { N = 1000, M = 123, DIM = 65, K = 5 };
    kith_error err;
    kith_pool *pool;
    assert_ok(kith_pool_create(3, NULL, &pool, &err), &err);
    float *x = test_vectors(N, DIM, 10, test_seed()), *y = test_vectors(M, DIM, 10, test_seed() + 5);
    ki_packed *packed;
    assert_ok(ki_packed_create(y, DIM, M, DIM, KITH_L2SQ, NULL, &packed, &err), &err);
    float *one = malloc(N * K * sizeof *one), *many = malloc(N * K * sizeof *many);
    uint64_t *one_id = malloc(N * K * sizeof *one_id), *many_id = malloc(N * K * sizeof *many_id);
    assert_ok(ki_product_topk(NULL, x, DIM, N, packed, K, one, one_id, &err), &err);
    assert_ok(ki_product_topk(pool, x, DIM, N, packed, K, many, many_id, &err), &err);
    assert_memory_equal(one, many, N * K * sizeof *one);
    assert_memory_equal(one_id, many_id, N * K * sizeof *one_id);
    for (size_t i = 0; i < N; i += 7) {
        size_t n = N - i < 7 ? N - i : 7;
        assert_ok(ki_product_topk(NULL, x + i * DIM, DIM, n, packed, K, many, many_id, &err), &err);
        assert_memory_equal(one + i * K, many, n * K * sizeof *one);
        assert_memory_equal(one_id + i * K, many_id, n * K * sizeof *one_id);
    }
    uint32_t index[N], index2[N];
    assert_ok(ki_product_argmin(NULL, x, DIM, N, packed, index, one, &err), &err);
    assert_ok(ki_product_argmin(pool, x, DIM, N, packed, index2, many, &err), &err);
    assert_memory_equal(index, index2, sizeof index);
    assert_memory_equal(one, many, N * sizeof *one);
    free(one), free(many), free(one_id), free(many_id), free(x), free(y);
    ki_packed_free(packed);
    kith_pool_free(pool);
}

static void results_do_not_depend_on_threads_or_batches(void **state)
{
    (void)state;
    at_every_level(threads_and_batches);
}

static void encode(void)
{
    static const size_t widths[] = {8, 4, 1, 40, 16}; /* narrow and wide subspaces side by side */
    enum { N = 211, M = 5, LDX = 75, KS = 256 };
    kith_error err;
    float *x = test_vectors(N, LDX, 0, test_seed()), *books[M];
    ki_packed *packed[M];
    for (size_t j = 0; j < M; j++) {
        books[j] = test_vectors(KS, widths[j], 0, test_seed() + j);
        assert_ok(ki_packed_create(books[j], widths[j], KS, widths[j], KITH_L2SQ, NULL, &packed[j], &err),
                  &err);
    }
    uint8_t *codes = malloc(N * M);
    uint16_t *wide = malloc(N * M * sizeof *wide);
    assert_ok(ki_product_encode(NULL, x, LDX, N, packed, M, 1, codes, &err), &err);
    assert_ok(ki_product_encode(NULL, x, LDX, N, packed, M, 2, wide, &err), &err);
    for (size_t j = 0, d = 0; j < M; d += widths[j++])
        for (size_t i = 0; i < N; i++) {
            uint32_t index;
            assert_ok(ki_product_argmin(NULL, x + i * LDX + d, LDX, 1, packed[j], &index, NULL, &err), &err);
            assert_int_equal(codes[i * M + j], index);
            assert_int_equal(wide[i * M + j], index);
            double slack,
                best = INFINITY,
                got = naive(KITH_L2SQ, x + i * LDX + d, books[j] + index * widths[j], widths[j], &slack);
            for (size_t c = 0; c < KS; c++) {
                double s, dist = naive(KITH_L2SQ, x + i * LDX + d, books[j] + c * widths[j], widths[j], &s);
                if (dist < best) best = dist;
            }
            assert_true(got - best <= 2 * slack);
        }
    for (size_t j = 0; j < M; j++) ki_packed_free(packed[j]), free(books[j]);
    free(codes), free(wide), free(x);
}

static void encoding_takes_the_nearest_codeword(void **state)
{
    (void)state;
    at_every_level(encode);
}

static void affine(void)
{
    enum { N = 20, M = 19, DIM = 37 };
    kith_error err;
    float *x = test_vectors(N, DIM, 0, test_seed()), *w = test_vectors(M, DIM, 0, test_seed() + 1);
    float bias[M], out[N][M + 2];
    for (size_t c = 0; c < M; c++) bias[c] = (float)c - 9;
    ki_packed *packed;
    assert_ok(ki_packed_create_affine(w, DIM, M, DIM, bias, NULL, &packed, &err), &err);
    for (size_t i = 0; i < N; i++) out[i][M] = out[i][M + 1] = 77;
    assert_ok(ki_product_store(NULL, x, DIM, N, packed, &out[0][0], M + 2, &err), &err);
    for (size_t i = 0; i < N; i++) {
        for (size_t c = 0; c < M; c++) {
            double slack, want = (double)bias[c] - naive(KITH_DOT, x + i * DIM, w + c * DIM, DIM, &slack);
            assert_true(fabs((double)out[i][c] - want) <= slack + 1e-5);
        }
        assert_true(out[i][M] == 77 && out[i][M + 1] == 77);
    }
    ki_packed_free(packed);
    free(x), free(w);
}

static void affine_maps_are_left_as_they_are(void **state)
{
    (void)state;
    at_every_level(affine);
}

static void bad_arguments_and_lack_of_memory(void **state)
{
    (void)state;
    kith_error err;
    ki_packed *packed = (ki_packed *)&err;
    float y[4] = {0};
    assert_int_equal(ki_packed_create(y, 2, 2, 2, KITH_HAMMING, NULL, &packed, &err), KITH_INVALID);
    assert_null(packed);
    assert_int_equal(ki_packed_create(y, 2, 0, 2, KITH_L2SQ, NULL, &packed, &err), KITH_INVALID);
    assert_int_equal(ki_packed_create(y, 0, 2, 0, KITH_L2SQ, NULL, &packed, &err), KITH_INVALID);
    for (size_t fail_at = 0; fail_at < 5; fail_at++) {
        test_allocator allocator;
        test_allocator_init(&allocator, fail_at, 0);
        float out[4];
        kith_status status = ki_packed_create(y, 2, 2, 2, KITH_L2SQ, &allocator.base, &packed, &err);
        if (status == KITH_OK) status = ki_product_store(NULL, y, 2, 2, packed, out, 2, &err);
        assert_int_equal(status, KITH_NOMEM);
        ki_packed_free(packed);
        assert_int_equal(allocator.live, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(store_and_argmin_agree_with_naive),
        cmocka_unit_test(argmin_takes_the_lowest_of_equals),
        cmocka_unit_test(topk_and_search_agree_with_a_heap),
        cmocka_unit_test(results_do_not_depend_on_threads_or_batches),
        cmocka_unit_test(encoding_takes_the_nearest_codeword),
        cmocka_unit_test(affine_maps_are_left_as_they_are),
        cmocka_unit_test(bad_arguments_and_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
