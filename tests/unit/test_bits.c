/* Families over bits: multi-index hashing gives the answers of the flat scan, exactly, whatever happened to the rows;
 * k-majority never gets worse; real codes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/dataset.h>
#include <kith/index.h>

#include "base/pool.h"
#include "base/rng.h"
#include "cluster/kmajority.h"
#include "support.h"

static kith_error err;

/* n rows of `dim` bits: some centres, each row one of them with a few bits turned (more for some rows). */
static uint8_t *clustered(size_t n, size_t dim, size_t centres, uint64_t stream)
{
    size_t row = kith_bit_bytes(dim);
    uint8_t *x = calloc(n, row), *c = calloc(centres, row);
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 77);
    for (size_t i = 0; i < centres * dim; i++)
        if (ki_rng_below(&rng, 2)) c[i / dim * row + i % dim / 8] |= (uint8_t)(1 << i % dim % 8);
    ki_rng_init(&rng, test_seed(), stream);
    for (size_t i = 0; i < n; i++) {
        memcpy(x + i * row, c + ki_rng_below(&rng, centres) * row, row);
        for (size_t flips = ki_rng_below(&rng, 1 + dim / (1 + ki_rng_below(&rng, 8))); flips > 0; flips--) {
            size_t bit = ki_rng_below(&rng, dim);
            x[i * row + bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
    free(c);
    return x;
}

static kith_index *index_of(const char *spec, size_t dim)
{
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = KITH_HAMMING;
    assert_ok(kith_index_create(spec, dim, &options, &index, &err), &err);
    return index;
}

enum { NQ = 20, K = 10 };

static void check_same(const kith_index *a, const kith_index *b, const uint8_t *queries, size_t dim,
                       const kith_filter *filter)
{
    static uint64_t ids[2][NQ * K];
    static float dist[2][NQ * K];
    const kith_index *both[] = {a, b};
    kith_searcher *s[2];
    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = filter;
    for (int i = 0; i < 2; i++) {
        assert_ok(kith_searcher_create(both[i], &s[i], &err), &err);
        assert_ok(kith_search_bits(s[i], queries, NQ, K, &options, ids[i], dist[i], NULL, &err), &err);
    }
    assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
    assert_memory_equal(dist[0], dist[1], sizeof dist[0]);
    for (size_t q = 0; q < NQ; q += 5)
        for (float radius = -1; radius < (float)dim; radius = 2 * radius + 3) {
            size_t n[2];
            const uint64_t *found[2];
            const float *far[2];
            for (int i = 0; i < 2; i++)
                assert_ok(kith_search_range_bits(s[i], queries + q * kith_bit_bytes(dim), radius, &options,
                                                 &n[i], &found[i], &far[i], NULL, &err),
                          &err);
            assert_int_equal(n[0], n[1]);
            if (n[0] > 0) assert_memory_equal(found[0], found[1], n[0] * sizeof *found[0]);
            if (n[0] > 0) assert_memory_equal(far[0], far[1], n[0] * sizeof *far[0]);
        }
    kith_searcher_free(s[0]);
    kith_searcher_free(s[1]);
}

/* Rows come and go in both indexes alike. */
static void exact(const char *spec, size_t n, size_t dim, size_t centres)
{
    uint8_t *x = clustered(n, dim, centres, 1), *queries = clustered(NQ, dim, centres, 2);
    size_t row = kith_bit_bytes(dim), half = n / 2, removed;
    kith_index *flat = index_of("BFlat", dim), *mih = index_of(spec, dim), *both[] = {flat, mih};
    uint64_t *ids = malloc(n * sizeof *ids), bits[64];
    for (size_t i = 0; i < n; i++) ids[i] = i * 7919 % 1000003;
    kith_filter filter;
    kith_filter_init(&filter);
    for (size_t i = 0; i < 64; i++) bits[i] = 0x8421084210842108u >> i % 5;
    filter.bits = bits;
    filter.n_bits = sizeof bits * 8;
    for (int b = 0; b < 2; b++) assert_ok(kith_index_add_bits(both[b], x, ids, half, NULL, &err), &err);
    check_same(flat, mih, queries, dim, NULL);
    for (int b = 0; b < 2; b++) {
        for (size_t i = 0; i < half; i += 3)
            assert_ok(kith_index_remove(both[b], ids + i, 1, &removed, &err), &err);
        for (size_t i = half; i < n; i += 97) {
            size_t count = n - i < 97 ? n - i : 97;
            assert_ok(kith_index_add_bits(both[b], x + i * row, ids + i, count, NULL, &err), &err);
        }
    }
    assert_ok(kith_index_check(mih, &err), &err);
    check_same(flat, mih, queries, dim, NULL);
    check_same(flat, mih, queries, dim, &filter);
    free(x);
    free(queries);
    free(ids);
    kith_index_free(flat);
    kith_index_free(mih);
}

static void test_mih_is_exact(void **state)
{
    (void)state;
    exact("BMIH4", 20000, 64, 400);
    exact("BMIH1", 3000, 64, 10);
    exact("BMIH7", 5000, 100, 50); /* substrings of different sizes */
    exact("BMIH8", 20000, 128, 20000);
    exact("BMIH13", 900, 13, 3); /* a bit each, and more rows than values */
    exact("BMIH40", 4000, 1025, 100);
}

static void test_mih_looks_at_few(void **state)
{
    (void)state;
    enum { N = 50000, DIM = 64 };
    uint8_t *x = clustered(N, DIM, N, 1);
    kith_index *mih = index_of("BMIH4", DIM);
    assert_ok(kith_index_add_bits(mih, x, NULL, N, NULL, &err), &err);
    kith_searcher *searcher;
    assert_ok(kith_searcher_create(mih, &searcher, &err), &err);
    uint64_t id, scored = 0;
    float dist;
    kith_search_stats stats;
    for (size_t q = 0; q < 100; q++) {
        uint8_t query[DIM / 8];
        memcpy(query, x + q * 31 * (DIM / 8), sizeof query);
        query[0] ^= 0x81; /* two bits away */
        assert_ok(kith_search_bits(searcher, query, 1, 1, NULL, &id, &dist, &stats, &err), &err);
        assert_true(dist <= 2);
        scored += stats.scored;
    }
    assert_true(scored < 100 * N / 20);
    kith_searcher_free(searcher);
    kith_index_free(mih);
    free(x);
}

static void test_mih_bad_spec(void **state)
{
    (void)state;
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = KITH_HAMMING;
    assert_int_equal(kith_index_create("BMIH9", 8, &options, &index, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "allowed 1..8"));
    assert_int_equal(kith_index_create("BMIH0", 8, &options, &index, &err), KITH_INVALID);
    assert_int_equal(kith_index_create("BFlat,RFlat", 8, &options, &index, &err), KITH_INVALID);
    assert_int_equal(kith_index_create("BFlat,PQ4", 8, &options, &index, &err), KITH_INVALID);
    assert_null(index);
}

/* More iterations, no larger sum; cells of centres are found; the same with any number of threads. */
static void test_kmajority(void **state)
{
    (void)state;
    enum { N = 3000, DIM = 96, CELLS = 25, ROW = DIM / 8 };
    uint8_t *x = clustered(N, DIM, CELLS, 3), centroids[CELLS * ROW], again[CELLS * ROW];
    ki_kmajority how = {NULL, ki_kernels_get(), ROW, CELLS};
    uint64_t before = UINT64_MAX, now;
    for (size_t iterations = 1; iterations <= 8; iterations++) {
        assert_ok(ki_kmajority_train(&how, x, N, iterations, 5, NULL, centroids, &now, &err), &err);
        assert_true(now <= before);
        before = now;
    }
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(3, NULL, &run.pool, &err), &err);
    assert_ok(ki_kmajority_train(&how, x, N, 8, 5, &run, again, &now, &err), &err);
    assert_memory_equal(centroids, again, sizeof again);
    uint32_t cell[N], dist[N];
    ki_kmajority_assign(&how, x, N, centroids, &run, cell, dist);
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < CELLS; c++) {
            uint32_t d = how.kernels->hamming(x + i * ROW, centroids + c * ROW, ROW);
            assert_true(d > dist[i] || (d == dist[i] && c >= cell[i]) || (c == cell[i] && d == dist[i]));
        }
    kith_pool_free(run.pool);
    free(x);
}

/* Fewer distinct rows than cells: nothing to share, nothing breaks. */
static void test_kmajority_of_equal_rows(void **state)
{
    (void)state;
    uint8_t x[50 * 2], centroids[20 * 2];
    for (size_t i = 0; i < 50; i++) x[2 * i] = x[2 * i + 1] = (uint8_t)(i % 3);
    ki_kmajority how = {NULL, ki_kernels_get(), 2, 20};
    uint64_t objective;
    assert_ok(ki_kmajority_train(&how, x, 50, 10, 1, NULL, centroids, &objective, &err), &err);
    assert_int_equal(objective, 0);
}

/* ---- BHNSW ---- */

/* Many more rows than are scanned: nearly the answers of the flat scan from a share of the rows, the same graph on any
 * number of threads, equal rows as one node, sound after removals. */
static void test_graph_over_bits(void **state)
{
    (void)state;
    enum { N = 12000, DIM = 128, ROW = DIM / 8 };
    uint8_t *x = clustered(N, DIM, 400, 3), *queries = clustered(NQ, DIM, 400, 4);
    kith_index *flat = index_of("BFlat", DIM), *graph = index_of("BHNSW8", DIM),
               *threaded = index_of("BHNSW8", DIM);
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(3, NULL, &run.pool, &err), &err);
    assert_ok(kith_index_add_bits(flat, x, NULL, N, NULL, &err), &err);
    assert_ok(kith_index_add_bits(graph, x, NULL, N, NULL, &err), &err);
    assert_ok(kith_index_add_bits(threaded, x, NULL, N, &run, &err), &err);
    kith_pool_free(run.pool);
    kith_index *indexes[] = {flat, graph, threaded};
    for (int removed = 0; removed < 2; removed++) {
        uint64_t ids[3][NQ * K];
        float dist[3][NQ * K];
        kith_search_stats stats[NQ];
        size_t near = 0, scored = 0;
        for (size_t i = 0; i < 3; i++) {
            kith_searcher *searcher;
            assert_ok(kith_searcher_create(indexes[i], &searcher, &err), &err);
            assert_ok(kith_search_bits(searcher, queries, NQ, K, NULL, ids[i], dist[i], stats, &err), &err);
            kith_searcher_free(searcher);
        }
        assert_memory_equal(ids[1], ids[2], sizeof ids[1]);
        assert_memory_equal(dist[1], dist[2], sizeof dist[1]);
        for (size_t q = 0; q < NQ; q++) {
            scored += stats[q].scored;
            for (size_t i = 0; i < K; i++) near += dist[1][q * K + i] <= dist[0][q * K + K - 1];
        }
        assert_true(near >= NQ * K * 9 / 10);
        assert_true(scored < (size_t)NQ * N / 4);
        static uint64_t gone[N / 3];
        for (size_t i = 0; i < N / 3; i++) gone[i] = 3 * i;
        for (size_t i = 0; i < 3 && !removed; i++)
            assert_ok(kith_index_remove(indexes[i], gone, N / 3, NULL, &err), &err);
        assert_ok(kith_index_check(graph, &err), &err);
    }
    for (size_t i = 0; i < 3; i++) kith_index_free(indexes[i]);
    free(x);
    free(queries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mih_is_exact),
        cmocka_unit_test(test_mih_looks_at_few),
        cmocka_unit_test(test_mih_bad_spec),
        cmocka_unit_test(test_kmajority),
        cmocka_unit_test(test_kmajority_of_equal_rows),
        cmocka_unit_test(test_graph_over_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
