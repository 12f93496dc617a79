/* HNSW where the contract's 700 rows do not reach: batches, filters met by walking, removals by the hundred, many equal
 * rows, an add that is cancelled half-way. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kith/index.h>

#include "base/rng.h"
#include "index/front.h"
#include "index/hnsw_internal.h"

static kith_error err;

enum { N = 5000, NQ = 400, K = 10, DIM = 12 };

static float *x, *queries; /* [2 N][DIM]: rows, and rows to replace them by; [NQ][DIM] */

static int begin(void **state)
{
    (void)state;
    x = test_vectors(2 * N, DIM, 0, 5);
    queries = test_vectors(NQ, DIM, 0, 6);
    return 0;
}
static int end(void **state)
{
    (void)state;
    free(x);
    free(queries);
    return 0;
}

static kith_index *empty(size_t dim)
{
    kith_index *index;
    assert_ok(kith_index_create("HNSW8", dim, NULL, &index, &err), &err);
    assert_ok(kith_index_set(index, "ef_construction", 40, &err), &err);
    return index;
}

static kith_index *built(size_t n, size_t threads)
{
    kith_run run;
    kith_run_init(&run);
    if (threads > 0) assert_ok(kith_pool_create(threads, NULL, &run.pool, &err), &err);
    kith_index *index = empty(DIM);
    assert_ok(kith_index_add(index, x, NULL, n, &run, &err), &err);
    kith_pool_free(run.pool);
    return index;
}

/* The truth comes from Flat over the same rows under the same ids. */
static kith_index *flat_of(const uint64_t *ids, const uint32_t *rows, size_t n)
{
    kith_index *flat;
    assert_ok(kith_index_create("Flat", DIM, NULL, &flat, &err), &err);
    for (size_t i = 0; i < n; i++)
        assert_ok(kith_index_add(flat, x + (rows ? rows[i] : i) * DIM, ids ? &ids[i] : NULL, 1, NULL, &err),
                  &err);
    return flat;
}

static void ask(const kith_index *index, double ef, const kith_filter *filter, uint64_t *ids, float *dist,
                kith_search_stats *stats)
{
    kith_searcher *searcher;
    kith_setting setting = {"ef", ef};
    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = filter;
    if (ef > 0) {
        options.settings = &setting;
        options.n_settings = 1;
    }
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(kith_search(searcher, queries, NQ, K, &options, ids, dist, stats, &err), &err);
    kith_searcher_free(searcher);
}

static double recall(const kith_index *index, const kith_index *flat, double ef, const kith_filter *filter,
                     uint64_t *scored)
{
    static uint64_t ids[NQ * K], true_ids[NQ * K];
    static float dist[NQ * K], true_dist[NQ * K];
    kith_search_stats stats[NQ];
    size_t hits = 0, wanted = 0;
    ask(flat, 0, filter, true_ids, true_dist, NULL);
    ask(index, ef, filter, ids, dist, stats);
    if (scored) *scored = 0;
    for (size_t q = 0; q < NQ; q++) {
        if (scored) *scored += stats[q].scored;
        for (size_t i = 0; i < K; i++) {
            assert_true((ids[q * K + i] == KITH_NO_ID) == (true_ids[q * K + i] == KITH_NO_ID));
            if (true_ids[q * K + i] == KITH_NO_ID) continue;
            wanted++;
            hits += dist[q * K + i] <= true_dist[q * K + K - 1];
        }
    }
    if (scored) *scored /= NQ;
    return (double)hits / (double)wanted;
}

/* ---- Building ---- */

static unsigned char *saved(const kith_index *index, size_t *size)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/hnsw.kidx", test_folder());
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*size);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    fclose(f);
    return bytes;
}

static void test_threads(void **state)
{
    (void)state;
    size_t size, other;
    kith_index *index = built(N, 0);
    assert_ok(kith_index_check(index, &err), &err);
    unsigned char *bytes = saved(index, &size);
    kith_index_free(index);
    for (size_t threads = 1; threads <= 4; threads *= 2) {
        index = built(N, threads);
        unsigned char *again = saved(index, &other);
        assert_int_equal(size, other);
        assert_memory_equal(bytes, again, size);
        free(again);
        kith_index_free(index);
    }
    free(bytes);
}

/* A batch is as good as rows that come one by one, also when neighbours come side by side. */
static void test_batches(void **state)
{
    (void)state;
    kith_index *batches = built(N, 2), *single = empty(DIM), *flat = flat_of(NULL, NULL, N);
    for (size_t i = 0; i < N; i++) assert_ok(kith_index_add(single, x + i * DIM, NULL, 1, NULL, &err), &err);
    assert_ok(kith_index_check(single, &err), &err);
    double a = recall(batches, flat, 24, NULL, NULL), b = recall(single, flat, 24, NULL, NULL);
    print_message("recall by batches %.3f, one by one %.3f\n", a, b);
    assert_true(a > b - 0.01 && a > 0.9);
    kith_index_free(batches);
    kith_index_free(single);
    kith_index_free(flat);
}

/* Links of a node on level 0, on average. */
static double degree(const kith_index *index)
{
    const ki_hnsw *h = (const ki_hnsw *)index->structure;
    ki_graph graph = ki_hnsw_graph(h, 0);
    size_t links = 0;
    for (size_t i = 0; i < h->nodes.n; i++)
        links += ki_graph_degree(ki_graph_links(&graph, (uint32_t)i), graph.degree);
    return (double)links / (double)h->nodes.n;
}

/* Candidates that the heuristic left out fill links up; candidates of candidates make good what a narrow walk did not meet. */
static void test_parameters(void **state)
{
    (void)state;
    enum { FEW = 2500, NARROW = 10 };
    static const char *const names[] = {"keep_pruned", "extend_candidates"};
    kith_index *flat = flat_of(NULL, NULL, FEW);
    double links[3], found[3];
    for (size_t p = 0; p < 3; p++) {
        kith_index *index = empty(DIM);
        if (p > 0) assert_ok(kith_index_set(index, names[p - 1], 1, &err), &err);
        if (p != 1) assert_ok(kith_index_set(index, "ef_construction", NARROW, &err), &err);
        assert_ok(kith_index_add(index, x, NULL, FEW, NULL, &err), &err);
        assert_ok(kith_index_check(index, &err), &err);
        links[p] = degree(index);
        found[p] = recall(index, flat, 16, NULL, NULL);
        print_message("%s: %.2f links, recall %.3f\n", p > 0 ? names[p - 1] : "neither", links[p], found[p]);
        kith_index_free(index);
    }
    kith_index *plain = built(FEW, 0);
    print_message("plain: %.2f links, recall %.3f\n", degree(plain), recall(plain, flat, 16, NULL, NULL));
    assert_true(links[1] > 1.1 * degree(plain));
    assert_true(found[1] > recall(plain, flat, 16, NULL, NULL) - 0.02);
    assert_true(found[2] > found[0] + 0.02);
    kith_index_free(plain);
    kith_index_free(flat);
}

/* ---- Rows come and go ---- */

static void test_churn(void **state)
{
    (void)state;
    enum { ROWS = 2500, ROUNDS = 20, PART = ROWS / 10 };
    kith_index *index = built(ROWS, 0), *fresh = empty(DIM);
    uint64_t ids[ROWS];
    uint32_t rows[ROWS];
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 1);
    for (size_t i = 0; i < ROWS; i++) ids[i] = rows[i] = (uint32_t)i;
    for (size_t round = 0; round < ROUNDS; round++) {
        uint64_t gone[PART], picked[PART];
        size_t removed;
        ki_rng_sample(&rng, ROWS, PART, picked);
        for (size_t i = 0; i < PART; i++) gone[i] = ids[picked[i]];
        assert_ok(kith_index_remove(index, gone, PART, &removed, &err), &err);
        assert_int_equal(removed, PART);
        assert_ok(kith_index_check(index, &err), &err);
        for (size_t i = 0; i < PART; i++) { /* every row of the second half at most once */
            ids[picked[i]] = 1000000 + round * PART + i;
            rows[picked[i]] = (uint32_t)(N + round * PART + i);
            assert_ok(kith_index_add(index, x + rows[picked[i]] * DIM, &ids[picked[i]], 1, NULL, &err), &err);
        }
    }
    assert_ok(kith_index_check(index, &err), &err);
    for (size_t i = 0; i < ROWS; i++)
        assert_ok(kith_index_add(fresh, x + rows[i] * DIM, &ids[i], 1, NULL, &err), &err);
    kith_index *flat = flat_of(ids, rows, ROWS);
    double a = recall(index, flat, 24, NULL, NULL), b = recall(fresh, flat, 24, NULL, NULL);
    print_message("recall after 20 rounds %.3f, of a fresh build %.3f\n", a, b);
    assert_true(a > b - 0.01);
    kith_index_free(index);
    kith_index_free(fresh);
    kith_index_free(flat);
}

static void test_equal_rows(void **state)
{
    (void)state;
    enum { COPIES = 20000, OTHERS = 2500 };
    kith_index *index = built(OTHERS, 0), *flat = flat_of(NULL, NULL, OTHERS);
    float *copies = malloc(COPIES * DIM * sizeof *copies);
    uint64_t *ids = malloc(COPIES * sizeof *ids), before, after;
    for (size_t i = 0; i < COPIES; i++) {
        memcpy(copies + i * DIM, queries, DIM * sizeof *copies);
        ids[i] = OTHERS + i;
    }
    double alone = recall(index, flat, 24, NULL, &before);
    assert_ok(kith_index_add(index, copies, ids, COPIES, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    uint64_t bits[(OTHERS + 63) / 64];
    memset(bits, 0xff, sizeof bits);
    kith_filter filter;
    kith_filter_init(&filter);
    filter.bits = bits;
    filter.n_bits = OTHERS; /* without the copies: the others are all found as before */
    assert_true(recall(index, flat, 24, &filter, NULL) > alone - 0.01);
    uint64_t found[NQ * K];
    float dist[NQ * K];
    kith_search_stats stats[NQ];
    ask(index, 24, NULL, found, dist, stats);
    for (size_t i = 0; i < K; i++) assert_true(found[i] == OTHERS + i && dist[i] == 0);
    after = 0;
    for (size_t q = 0; q < NQ; q++) after += stats[q].scored;
    after /= NQ;
    assert_true(after < before + before / 10 + 10);
    size_t removed;
    assert_ok(kith_index_remove(index, ids, COPIES - 1, &removed, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    ask(index, 24, NULL, found, dist, stats);
    assert_true(found[0] == OTHERS + COPIES - 1 && dist[0] == 0 && dist[1] > 0);
    assert_ok(kith_index_remove(index, ids + COPIES - 1, 1, &removed, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    assert_true(recall(index, flat, 24, NULL, NULL) > alone - 0.01);
    free(copies);
    free(ids);
    kith_index_free(index);
    kith_index_free(flat);
}

static void stop_half_way(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage;
    /* Reports are a tenth of a second apart: a pause at the first one makes the next due after the first batch. */
    if (done == 0) nanosleep(&(struct timespec){.tv_nsec = 120000000}, NULL);
    if (done > 0 && done < total) kith_cancel_raise(ctx);
}

static void test_cancelled_add(void **state)
{
    (void)state;
    enum { FIRST = 2000 };
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.cancel = &cancel;
    run.progress = stop_half_way;
    run.progress_ctx = &cancel;
    kith_index *index = built(FIRST, 0), *flat = flat_of(NULL, NULL, FIRST);
    /* slow enough for progress to be told, which is at most ten times a second */
    assert_ok(kith_index_set(index, "ef_construction", 400, &err), &err);
    double before = recall(index, flat, 24, NULL, NULL);
    assert_int_equal(kith_index_add(index, x + FIRST * DIM, NULL, N - FIRST, &run, &err), KITH_CANCELLED);
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    assert_int_equal(info.n, FIRST);
    assert_ok(kith_index_check(index, &err), &err);
    assert_true(recall(index, flat, 24, NULL, NULL) > before - 0.02);
    assert_ok(kith_index_add(index, x + FIRST * DIM, NULL, N - FIRST, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    kith_index_free(index);
    kith_index_free(flat);
}

/* ---- Filters and ranges ---- */

static void test_filters(void **state)
{
    (void)state;
    kith_index *index = built(N, 0), *flat = flat_of(NULL, NULL, N);
    static const double shares[] = {0.9, 0.5, 0.2, 0.1, 0.01, 0.001, 0};
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
        uint64_t bits[(N + 63) / 64] = {0}, scored, matches = 0;
        ki_rng rng;
        ki_rng_init(&rng, test_seed(), s);
        for (size_t i = 0; i < N; i++)
            if (ki_rng_uniform(&rng) < shares[s]) {
                bits[i / 64] |= (uint64_t)1 << (i % 64);
                matches++;
            }
        kith_filter filter;
        kith_filter_init(&filter);
        filter.bits = bits;
        filter.n_bits = N;
        double r = matches > 0 ? recall(index, flat, 16, &filter, &scored) : 1;
        if (matches == 0) { /* nothing is found, and it is said so */
            uint64_t ids[NQ * K];
            float dist[NQ * K];
            kith_search_stats stats[NQ];
            ask(index, 16, &filter, ids, dist, stats);
            for (size_t q = 0; q < NQ; q++) assert_true(stats[q].found == 0 && stats[q].complete);
            continue;
        }
        print_message("share %.3f: recall %.3f, %d of %d matching rows scored\n", shares[s], r, (int)scored,
                      (int)matches);
        assert_true(r > 0.85);
        if (shares[s] >= 0.5) assert_true(scored < matches * 2 / 3);
    }
    kith_index_free(index);
    kith_index_free(flat);
}

static int of_a_period(void *ctx, uint64_t id)
{
    const uint64_t *period = ctx;
    return id % period[0] == period[1];
}

/* Filters with a period that divides the distances at which a sample might look for rows that pass. */
static void test_periods(void **state)
{
    (void)state;
    enum { ROWS = 5120 };
    kith_index *index = built(ROWS, 0), *flat = flat_of(NULL, NULL, ROWS);
    static uint64_t periods[][2] = {{2, 1}, {2, 0}, {4, 0}, {4, 1}, {10, 0}};
    for (size_t i = 0; i < sizeof periods / sizeof *periods; i++) {
        uint64_t scored, matches = ROWS / periods[i][0];
        kith_filter filter;
        kith_filter_init(&filter);
        filter.allow = of_a_period;
        filter.ctx = periods[i];
        double r = recall(index, flat, 60, &filter, NULL);
        (void)recall(index, flat, 16, &filter, &scored);
        print_message("1 of %d: recall %.3f, at ef 16 %d of %d scored\n", (int)periods[i][0], r, (int)scored,
                      (int)matches);
        assert_true(r > 0.98);
        if (periods[i][0] == 2) assert_true(scored < matches * 2 / 3);
    }
    kith_index_free(index);
    kith_index_free(flat);
}

/* How often a filter was asked about each row. */
typedef struct asked {
    uint64_t period;
    uint8_t times[2 * N];
} asked;

static int one_of(void *ctx, uint64_t id)
{
    asked *a = ctx;
    a->times[id]++;
    return ki_mix64(id) % a->period == 0;
}

/* A walk in two hops asks once whether a row passes, however many ways lead to it: the rows of a node may be many. */
static void test_two_hops(void **state)
{
    (void)state;
    enum { FEW = 8 }; /* of ten thousand rows: a scan would be more work */
    static asked a = {.period = 12};
    size_t through = 0;
    kith_index *index = built(2 * N, 2);
    kith_searcher *searcher;
    kith_filter filter;
    kith_filter_init(&filter);
    filter.allow = one_of;
    filter.ctx = &a;
    kith_setting setting = {"ef", FEW};
    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = &filter;
    options.settings = &setting;
    options.n_settings = 1;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    for (size_t q = 0; q < 20; q++) {
        uint64_t ids[FEW];
        float dist[FEW];
        kith_search_stats stats;
        memset(a.times, 0, sizeof a.times);
        assert_ok(kith_search(searcher, queries + q * DIM, 1, FEW, &options, ids, dist, &stats, &err), &err);
        assert_int_equal(stats.found, FEW);
        size_t of = 0;
        for (size_t i = 0; i < 2 * N; i++) {
            of += a.times[i] > 0;
            /* by the sample, by the walk, by the scan after one that found too few; and one that passes when it is offered */
            assert_true(a.times[i] <= (ki_mix64(i) % a.period == 0 ? 5 : 3));
        }
        through += stats.visited > 0 && stats.scored * 2 < of; /* others, which were not scored */
    }
    print_message("%d of 20 walks in two hops were enough\n", (int)through);
    assert_true(through > 12);
    kith_searcher_free(searcher);
    kith_index_free(index);
}

static void test_ranges(void **state)
{
    (void)state;
    kith_index *index = built(N, 0), *flat = flat_of(NULL, NULL, N);
    kith_searcher *a, *b;
    const uint64_t *ids;
    const float *dist;
    size_t found = 0, wanted = 0;
    assert_ok(kith_searcher_create(index, &a, &err), &err);
    assert_ok(kith_searcher_create(flat, &b, &err), &err);
    for (size_t q = 0; q < NQ; q++)
        for (float radius = 2; radius < 20; radius *= 2) {
            size_t n;
            assert_ok(kith_search_range(b, queries + q * DIM, radius, NULL, &n, &ids, &dist, NULL, &err),
                      &err);
            wanted += n;
            assert_ok(kith_search_range(a, queries + q * DIM, radius, NULL, &n, &ids, &dist, NULL, &err),
                      &err);
            found += n;
            for (size_t i = 0; i < n; i++) assert_true(dist[i] <= radius);
        }
    assert_true(found <= wanted && (double)found > 0.97 * (double)wanted);
    kith_searcher_free(a);
    kith_searcher_free(b);
    kith_index_free(index);
    kith_index_free(flat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),    cmocka_unit_test(test_batches),
        cmocka_unit_test(test_parameters), cmocka_unit_test(test_churn),
        cmocka_unit_test(test_equal_rows), cmocka_unit_test(test_cancelled_add),
        cmocka_unit_test(test_filters),    cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_periods),    cmocka_unit_test(test_two_hops),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
