/* What every family promises, tested for every family x metric x SIMD level: searching. Changing and keeping indexes is
 * in test_index_life.c. A family is added in tests/support/index_cases.c. */
#include "index_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static kith_error err;

/* ---- The judge ---- */

typedef struct judged {
    double dist;
    uint64_t id;
} judged;

static int by_distance(const void *a, const void *b)
{
    const judged *x = a, *y = b;
    if (x->dist != y->dist) return x->dist < y->dist ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

#define N_METRICS (KITH_JACCARD + 1)

static void sort_rows(kith_metric metric, const float *query, judged out[CASE_N])
{
    for (size_t i = 0; i < CASE_N; i++)
        out[i] = (judged){true_distance(metric, query, case_rows() + i * CASE_DIM, CASE_DIM), case_id(i)};
    qsort(out, CASE_N, sizeof *out, by_distance);
}

/* All standard rows by true distance from standard query q: the same for all families, made once for each metric. */
static const judged *all_judged(kith_metric metric, size_t q)
{
    static judged *orders[N_METRICS];
    if (!orders[metric]) {
        orders[metric] = malloc(CASE_NQ * CASE_N * sizeof **orders);
        assert_non_null(orders[metric]);
        for (size_t i = 0; i < CASE_NQ; i++)
            sort_rows(metric, case_queries() + i * CASE_DIM, orders[metric] + i * CASE_N);
    }
    return orders[metric] + q * CASE_N;
}

/* Those of them that pass. */
static size_t judge(kith_metric metric, size_t q, const kith_filter *filter, judged *out)
{
    const judged *all = all_judged(metric, q);
    size_t n = 0;
    for (size_t i = 0; i < CASE_N; i++) {
        uint64_t id = all[i].id;
        if (filter && filter->bits && (id >= filter->n_bits || !(filter->bits[id / 64] >> (id % 64) & 1)))
            continue;
        if (filter && filter->allow && !filter->allow(filter->ctx, id)) continue;
        out[n++] = all[i];
    }
    return n;
}

static const float *row_of(uint64_t id)
{
    if (case_row(id) == CASE_N) fail_msg("id %llu is no row's", (unsigned long long)id);
    return case_rows() + case_row(id) * CASE_DIM;
}

/* Sorted by (distance, id), no id twice, every id a row's, distances as computed anew where they are true ones, the tail
 * filled. */
static void check_results(const index_case *c, const float *query, const uint64_t *ids, const float *dist,
                          size_t k, size_t found)
{
    char seen[CASE_N] = {0};
    for (size_t i = 0; i < found; i++) {
        assert_true(isfinite(dist[i]));
        if (i > 0 && !(dist[i - 1] < dist[i] || (dist[i - 1] == dist[i] && ids[i - 1] < ids[i])))
            fail_msg("results %zu and %zu: (%.9g, %llu), (%.9g, %llu)", i - 1, i, (double)dist[i - 1],
                     (unsigned long long)ids[i - 1], (double)dist[i], (unsigned long long)ids[i]);
        const float *row = row_of(ids[i]);
        assert_false(seen[case_row(ids[i])]);
        seen[case_row(ids[i])] = 1;
        double truth = true_distance(c->metric, query, row, CASE_DIM);
        double off = fabs(truth - (double)dist[i]);
        if (c->family->true_distances && off > distance_tolerance(c->metric, query, row, CASE_DIM))
            fail_msg("row %llu is at %.9g, not %.9g", (unsigned long long)ids[i], truth, (double)dist[i]);
    }
    for (size_t i = found; i < k; i++) {
        assert_true(ids[i] == KITH_NO_ID);
        assert_true(dist[i] == INFINITY);
    }
}

static kith_searcher *searcher_of(const kith_index *index)
{
    kith_searcher *searcher;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    return searcher;
}

/* ---- Answers ---- */

static void answers(const index_case *c)
{
    kith_index *index = case_full(c);
    kith_searcher *searcher = searcher_of(index);
    static uint64_t ids[CASE_NQ * CASE_K];
    static float dist[CASE_NQ * CASE_K];
    kith_search_stats stats[CASE_NQ];
    size_t hits = 0;
    assert_ok(case_search(searcher, case_queries(), CASE_NQ, CASE_K, NULL, ids, dist, stats, &err), &err);
    for (size_t q = 0; q < CASE_NQ; q++) {
        const float *query = case_queries() + q * CASE_DIM;
        const judged *truth = all_judged(c->metric, q);
        check_results(c, query, ids + q * CASE_K, dist + q * CASE_K, CASE_K, CASE_K);
        for (size_t i = 0; i < CASE_K; i++) {
            const float *row = row_of(ids[q * CASE_K + i]);
            hits += true_distance(c->metric, query, row, CASE_DIM) <= truth[CASE_K - 1].dist;
        }
        assert_int_equal(stats[q].found, CASE_K);
        assert_int_equal(stats[q].complete, 1);
        assert_true(stats[q].scored >= CASE_K && stats[q].scored <= CASE_N);
        if (c->family->exhaustive) assert_int_equal(stats[q].scored, CASE_N);
    }
    double recall = (double)hits / (CASE_NQ * CASE_K);
    if (getenv("KITH_TEST_SHOW"))
        fprintf(stderr, "%s %s %d recall %.3f\n", c->spec, kith_metric_name(c->metric), (int)c->level,
                recall);
    if (recall < c->family->recall_floor)
        fail_msg("recall %.3f, the floor is %.3f", recall, c->family->recall_floor);
    kith_searcher_free(searcher);
    kith_index_free(index);
}
static void test_answers(void **state)
{
    (void)state;
    for_each_case(CASES_LEVELS, answers);
}

/* One query or many, one thread or four: the same bits. */
static void batches(const index_case *c)
{
    kith_index *index = case_full(c);
    kith_searcher *searcher = searcher_of(index);
    static uint64_t ids[CASE_NQ * CASE_K], again[CASE_NQ * CASE_K];
    static float dist[CASE_NQ * CASE_K], dist_again[CASE_NQ * CASE_K];
    kith_search_stats stats[CASE_NQ], stats_again[CASE_NQ];
    for (size_t q = 0; q < CASE_NQ; q++)
        assert_ok(case_search(searcher, case_queries() + q * CASE_DIM, 1, CASE_K, NULL, ids + q * CASE_K,
                              dist + q * CASE_K, &stats[q], &err),
                  &err);
    static const size_t threads[] = {1, 2, 4};
    for (size_t t = 0; t < 3; t++) {
        kith_search_options options;
        kith_search_options_init(&options);
        kith_pool *pool;
        assert_ok(kith_pool_create(threads[t], NULL, &pool, &err), &err);
        options.pool = pool;
        assert_ok(case_search(searcher, case_queries(), CASE_NQ, CASE_K, &options, again, dist_again,
                              stats_again, &err),
                  &err);
        assert_memory_equal(ids, again, sizeof ids);
        assert_memory_equal(dist, dist_again, sizeof dist);
        for (size_t q = 0; q < CASE_NQ; q++) {
            assert_int_equal(stats[q].scored, stats_again[q].scored);
            assert_int_equal(stats[q].visited, stats_again[q].visited);
            assert_int_equal(stats[q].found, stats_again[q].found);
        }
        kith_pool_free(pool);
    }
    kith_searcher_free(searcher);
    kith_index_free(index);
}
static void test_batches(void **state)
{
    (void)state;
    for_each_case(CASES_LEVELS, batches);
}

static void all_rows(const index_case *c)
{
    kith_index *index = case_full(c);
    kith_searcher *searcher = searcher_of(index);
    enum { K = CASE_N + 50 };
    static uint64_t ids[9 * K];
    static float dist[9 * K];
    kith_search_stats stats[9];
    /* one alone, then nine together: both ways through the front door */
    for (size_t nq = 1; nq <= 9; nq += 8) {
        assert_ok(case_search(searcher, case_queries(), nq, K, NULL, ids, dist, stats, &err), &err);
        for (size_t q = 0; q < nq; q++) {
            check_results(c, case_queries() + q * CASE_DIM, ids + q * K, dist + q * K, K, CASE_N);
            assert_int_equal(stats[q].found, CASE_N);
            assert_int_equal(stats[q].complete, 1);
        }
    }
    kith_searcher_free(searcher);
    kith_index_free(index);
}
static void test_k_beyond_n(void **state)
{
    (void)state;
    for_each_case(0, all_rows);
}

static void empty(const index_case *c)
{
    kith_index *index = case_trained(c);
    kith_searcher *searcher = searcher_of(index);
    uint64_t ids[9 * 2], id = 5;
    const uint64_t *range_ids;
    float dist[9 * 2];
    const float *range_dist;
    kith_search_stats stats[9];
    size_t n = 99, removed = 99;
    assert_ok(case_search(searcher, case_queries(), 9, 2, NULL, ids, dist, stats, &err), &err);
    for (size_t q = 0; q < 9; q++) {
        check_results(c, case_queries(), ids + q * 2, dist + q * 2, 2, 0);
        assert_int_equal(stats[q].found, 0);
        assert_int_equal(stats[q].scored, 0);
        assert_int_equal(stats[q].complete, 1);
    }
    assert_ok(case_search(searcher, case_queries(), 0, 2, NULL, ids, dist, NULL, &err), &err);
    assert_ok(
        case_search_range(searcher, case_queries(), 1e9f, NULL, &n, &range_ids, &range_dist, NULL, &err),
        &err);
    assert_int_equal(n, 0);
    kith_searcher_free(searcher);
    assert_ok(kith_index_remove(index, &id, 1, &removed, &err), &err);
    assert_int_equal(removed, 0);
    assert_int_equal(kith_index_has(index, 5), 0);
    assert_int_equal(case_reconstruct(index, 5, dist, &err), KITH_NOTFOUND);
    assert_ok(case_add(index, NULL, NULL, 0, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    kith_index_free(index);
}
static void test_empty(void **state)
{
    (void)state;
    for_each_case(0, empty);
}

/* ---- Filters ---- */

static int allow_some(void *ctx, uint64_t id)
{
    return id * 2654435761u % 1000 < *(const uint64_t *)ctx;
}

static void check_filtered(const index_case *c, kith_searcher *searcher, const kith_filter *filter)
{
    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = filter;
    static uint64_t ids[9 * CASE_K];
    static float dist[9 * CASE_K];
    kith_search_stats stats[9];
    for (size_t nq = 1; nq <= 9; nq += 8) {
        assert_ok(case_search(searcher, case_queries(), nq, CASE_K, &options, ids, dist, stats, &err), &err);
        for (size_t q = 0; q < nq; q++) {
            const float *query = case_queries() + q * CASE_DIM;
            judged truth[CASE_N];
            size_t matches = judge(c->metric, q, filter, truth);
            size_t found = matches < CASE_K ? matches : CASE_K;
            assert_int_equal(stats[q].found, found);
            assert_int_equal(stats[q].complete, 1);
            /* a walk comes by rows that do not match, and may be followed by a scan of those that do */
            assert_true(stats[q].scored <= matches + (case_walks() ? CASE_N : 0));
            check_results(c, query, ids + q * CASE_K, dist + q * CASE_K, CASE_K, found);
            for (size_t i = 0; i < found; i++) {
                size_t place = 0;
                while (place < matches && truth[place].id != ids[q * CASE_K + i]) place++;
                assert_true(place < matches);
            }
        }
    }
}

static void filters(const index_case *c)
{
    kith_index *index = case_full(c);
    kith_searcher *searcher = searcher_of(index);
    static const uint64_t shares[] = {0, 3, 10, 100, 500, 990, 1000}; /* of a thousand */
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
        uint64_t share = shares[s], bits[64] = {0};
        kith_filter filter;
        kith_filter_init(&filter);
        for (size_t i = 0; i < CASE_N; i++)
            if (allow_some(&share, case_id(i))) bits[case_id(i) / 64] |= (uint64_t)1 << (case_id(i) % 64);
        filter.bits = bits;
        filter.n_bits = sizeof bits * 8;
        check_filtered(c, searcher, &filter);
        filter.n_bits = 1500; /* ids beyond are out */
        check_filtered(c, searcher, &filter);
        uint64_t third = 333;
        filter.allow = allow_some;
        filter.ctx = &third; /* both must say yes */
        check_filtered(c, searcher, &filter);
        filter.bits = NULL;
        filter.ctx = &share;
        check_filtered(c, searcher, &filter);
    }
    kith_searcher_free(searcher);
    kith_index_free(index);
}
static void test_filters(void **state)
{
    (void)state;
    for_each_case(0, filters);
}

/* ---- Range ---- */

static void check_range(const index_case *c, kith_searcher *searcher, size_t q, float radius,
                        const kith_search_options *options)
{
    const float *query = case_queries() + q * CASE_DIM;
    size_t n, inside = 0;
    const uint64_t *ids;
    const float *dist;
    kith_search_stats stats;
    judged truth[CASE_N];
    assert_ok(case_search_range(searcher, query, radius, options, &n, &ids, &dist, &stats, &err), &err);
    assert_int_equal(stats.found, n);
    assert_int_equal(stats.complete, 1);
    check_results(c, query, ids, dist, n, n);
    for (size_t i = 0; i < n; i++) assert_true(dist[i] <= radius);
    size_t matches = judge(c->metric, q, options ? options->filter : NULL, truth);
    while (inside < matches && truth[inside].dist <= (double)radius) inside++;
    if (c->family->exhaustive && c->family->true_distances) {
        /* the radius lies between two rows, so rounding does not matter */
        assert_int_equal(n, inside);
        for (size_t i = 0; i < n; i++)
            assert_true(truth[i].id == ids[i] || truth[i].dist == truth[i + 1].dist);
    } else if (c->family->true_distances) {
        assert_true(n <= inside);
    }
}

static void ranges(const index_case *c)
{
    kith_index *index = case_full(c);
    kith_searcher *searcher = searcher_of(index);
    static const size_t counts[] = {0, 1, 20, 300, CASE_N - 1};
    uint64_t share = 200;
    kith_filter filter;
    kith_filter_init(&filter);
    filter.allow = allow_some;
    filter.ctx = &share;
    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = &filter;
    for (size_t q = 0; q < 4; q++) {
        const judged *truth = all_judged(c->metric, q);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            size_t at = counts[i];
            double below = at > 0 ? truth[at - 1].dist : truth[0].dist - 1;
            float radius = (float)((below + truth[at].dist) / 2);
            check_range(c, searcher, q, radius, NULL);
            check_range(c, searcher, q, radius, &options);
        }
        check_range(c, searcher, q, INFINITY, NULL);
        check_range(c, searcher, q, -1e30f, NULL);
    }
    size_t n;
    const uint64_t *ids;
    const float *dist;
    assert_int_equal(case_search_range(searcher, case_queries(), NAN, NULL, &n, &ids, &dist, NULL, &err),
                     KITH_INVALID);
    kith_searcher_free(searcher);
    kith_index_free(index);
}
static void test_ranges(void **state)
{
    (void)state;
    for_each_case(0, ranges);
}

/* ---- Budgets ---- */

typedef struct interrupter {
    kith_cancel cancel;
    size_t calls, raise_at;
    unsigned sleep_us;
} interrupter;

static int interrupt(void *ctx, uint64_t id)
{
    (void)id;
    interrupter *in = ctx;
    if (in->calls++ == in->raise_at) {
        if (in->sleep_us)
            usleep(in->sleep_us);
        else
            kith_cancel_raise(&in->cancel);
    }
    return 1;
}

/* Search with something that happens in the middle of it: the answer is short but sound. */
static void check_interrupted(const index_case *c, kith_searcher *searcher, interrupter *in, uint64_t budget)
{
    kith_filter filter;
    kith_filter_init(&filter);
    filter.allow = interrupt;
    filter.ctx = in;
    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = &filter;
    options.cancel = &in->cancel;
    options.max_microseconds = budget;
    enum { K = CASE_N }; /* so that every family has to look at everything */
    static uint64_t ids[K];
    static float dist[K];
    kith_search_stats stats;
    assert_ok(case_search(searcher, case_queries(), 1, K, &options, ids, dist, &stats, &err), &err);
    assert_int_equal(stats.complete, 0);
    assert_true(stats.found < K);
    check_results(c, case_queries(), ids, dist, K, stats.found);
    const uint64_t *range_ids;
    const float *range_dist;
    size_t n;
    in->calls = 0;
    assert_ok(case_search_range(searcher, case_queries(), INFINITY, &options, &n, &range_ids, &range_dist,
                                &stats, &err),
              &err);
    assert_int_equal(stats.complete, 0);
}

/* The best so far is given back: a search that is cut after rows were compared has some of them. Few are wanted, so graphs
 * walk. */
static void check_best_so_far(const index_case *c, kith_searcher *searcher, size_t raise_at)
{
    interrupter in = {.raise_at = raise_at};
    kith_filter filter;
    kith_filter_init(&filter);
    filter.allow = interrupt;
    filter.ctx = &in;
    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = &filter;
    options.cancel = &in.cancel;
    uint64_t ids[CASE_K];
    float dist[CASE_K];
    kith_search_stats stats;
    assert_ok(case_search(searcher, case_queries(), 1, CASE_K, &options, ids, dist, &stats, &err), &err);
    if (!stats.complete && stats.scored > 0) assert_true(stats.found > 0);
    check_results(c, case_queries(), ids, dist, CASE_K, stats.found);
}

static void budgets(const index_case *c)
{
    kith_index *index = case_full(c);
    kith_searcher *searcher = searcher_of(index);
    interrupter in = {.raise_at = 3};
    check_interrupted(c, searcher, &in, 0); /* cancelled in the middle; still up in the range search */
    in = (interrupter){.raise_at = 3, .sleep_us = 3000};
    check_interrupted(c, searcher, &in, 1000);
    in = (interrupter){.raise_at = SIZE_MAX};
    kith_cancel_raise(&in.cancel);
    check_interrupted(c, searcher, &in, 0); /* before it began */
    static const size_t moments[] = {0, 3, 100, 255, 256, 300, 500, 700, 1000, 1500};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) check_best_so_far(c, searcher, moments[i]);

    uint64_t ids[9 * CASE_K];
    float dist[9 * CASE_K];
    kith_search_stats stats[9];
    kith_search_options options;
    kith_search_options_init(&options);
    options.max_microseconds = UINT64_MAX; /* no budget is that long, and none overflows */
    assert_ok(case_search(searcher, case_queries(), 9, CASE_K, &options, ids, dist, stats, &err), &err);
    for (size_t q = 0; q < 9; q++) assert_int_equal(stats[q].complete, 1);
    options.cancel = &in.cancel;
    assert_ok(case_search(searcher, case_queries(), 9, CASE_K, &options, ids, dist, stats, &err), &err);
    for (size_t q = 0; q < 9; q++) assert_int_equal(stats[q].complete, 0);
    kith_searcher_free(searcher);
    kith_index_free(index);
}
static void test_budgets(void **state)
{
    (void)state;
    for_each_case(0, budgets);
}

/* ---- Bad arguments: refused with a message, outputs untouched ---- */

static void check_setting(const index_case *c, kith_searcher *searcher, kith_index *fresh,
                          const kith_param_info *info, double value, kith_status expected)
{
    (void)c;
    const uint64_t untouched = KITH_NO_ID - 1; /* no row has that id */
    uint64_t id = untouched;
    float dist = 77;
    if (info->when == KITH_AT_BUILD) {
        assert_int_equal(kith_index_set(fresh, info->name, value, &err), expected);
    } else {
        kith_setting setting = {info->name, value};
        kith_search_options options;
        kith_search_options_init(&options);
        options.settings = &setting;
        options.n_settings = 1;
        assert_int_equal(case_search(searcher, case_queries(), 1, 1, &options, &id, &dist, NULL, &err),
                         expected);
        assert_true((id == untouched) == (expected != KITH_OK));
    }
    if (expected != KITH_OK) assert_non_null(strstr(err.message, info->name));
}

static void parameters(const index_case *c)
{
    kith_index *index = case_full(c), *fresh;
    kith_searcher *searcher = searcher_of(index);
    kith_param_info infos[16];
    size_t n = 16, needed = 0;
    fresh = case_create(c, CASE_DIM, 1, NULL);
    assert_ok(kith_spec_params(c->spec, NULL, &needed, &err), &err);
    assert_ok(kith_spec_params(c->spec, infos, &n, &err), &err);
    assert_int_equal(n, needed);
    for (size_t i = 0; i < n; i++) {
        const kith_param_info *p = &infos[i];
        assert_true(p->name && p->about && p->low <= p->initial && p->initial <= p->high);
        check_setting(c, searcher, fresh, p, p->low, KITH_OK);
        check_setting(c, searcher, fresh, p, p->low - 1, KITH_INVALID);
        check_setting(c, searcher, fresh, p, p->high + 1, KITH_INVALID);
        check_setting(c, searcher, fresh, p, NAN, KITH_INVALID);
        if (p->kind == KITH_PARAM_INT) check_setting(c, searcher, fresh, p, p->low + 0.5, KITH_INVALID);
        /* recall is aimed at by a calibration, which this index has not got */
        int aims = strcmp(p->name, "target_recall") == 0;
        check_setting(c, searcher, fresh, p, p->high, aims ? KITH_UNTRAINED : KITH_OK);
        /* at the wrong time */
        kith_param_info wrong = *p;
        wrong.when = p->when == KITH_AT_BUILD ? KITH_AT_SEARCH : KITH_AT_BUILD;
        check_setting(c, searcher, fresh, &wrong, p->initial, KITH_INVALID);
    }
    kith_param_info none = {.name = "no_such_thing", .when = KITH_AT_SEARCH};
    check_setting(c, searcher, fresh, &none, 1, KITH_INVALID);
    none.when = KITH_AT_BUILD;
    check_setting(c, searcher, fresh, &none, 1, KITH_INVALID);
    kith_searcher_free(searcher);
    kith_index_free(index);
    kith_index_free(fresh);
}
static void test_parameters(void **state)
{
    (void)state;
    for_each_case(0, parameters);
}

/* ---- Recall asked for ---- */

#define AIM_NQ 150

/* Queries like the standard ones, but others. */
static float *more_queries(kith_metric metric, uint64_t seed)
{
    float *queries = test_vectors(AIM_NQ, CASE_DIM, 0, seed);
    int bits = metric == KITH_HAMMING || metric == KITH_JACCARD;
    for (size_t q = 0; q < AIM_NQ; q++)
        for (size_t d = 0; d < CASE_DIM; d++) {
            float *x = &queries[q * CASE_DIM + d];
            *x = 0.7f * *x + case_rows()[(q * 13 + seed) % CASE_N * CASE_DIM + d] - (bits ? 0.5f : 0);
        }
    if (bits) case_to_bits(queries, AIM_NQ * CASE_DIM);
    return queries;
}

/* What calibrations go by and are judged by: the same for all families, made once for each metric. */
typedef struct aim {
    float *seen, *fresh;             /* queries to calibrate with, and to ask afterwards */
    uint64_t truth[AIM_NQ * CASE_K]; /* of those seen */
    double kth[AIM_NQ];              /* the distance of the k-th row from the fresh ones */
} aim;

static const aim *aim_of(kith_metric metric)
{
    static aim *aims[N_METRICS];
    if (aims[metric]) return aims[metric];
    aim *a = aims[metric] = malloc(sizeof *a);
    assert_non_null(a);
    a->seen = more_queries(metric, 21);
    a->fresh = more_queries(metric, 22);
    for (size_t q = 0; q < AIM_NQ; q++) {
        judged all[CASE_N];
        sort_rows(metric, a->seen + q * CASE_DIM, all);
        for (size_t i = 0; i < CASE_K; i++) a->truth[q * CASE_K + i] = all[i].id;
        sort_rows(metric, a->fresh + q * CASE_DIM, all);
        a->kth[q] = all[CASE_K - 1].dist;
    }
    return a;
}

/* Mean recall@10 of the fresh queries with one setting; ties count. */
static double recall_with(const index_case *c, kith_searcher *searcher, const aim *a, kith_setting setting)
{
    static uint64_t ids[AIM_NQ * CASE_K];
    static float dist[AIM_NQ * CASE_K];
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = &setting;
    options.n_settings = 1;
    assert_ok(case_search(searcher, a->fresh, AIM_NQ, CASE_K, &options, ids, dist, NULL, &err), &err);
    size_t hits = 0;
    for (size_t i = 0; i < AIM_NQ * CASE_K; i++) {
        double kth = a->kth[i / CASE_K];
        hits += true_distance(c->metric, a->fresh + i / CASE_K * CASE_DIM, row_of(ids[i]), CASE_DIM) <=
                kth + 1e-9 * fabs(kth);
    }
    return (double)hits / (AIM_NQ * CASE_K);
}

/* An index calibrated with some queries gives the recall asked for on others, out of a file too. */
static void target_recall(const index_case *c)
{
    kith_index *index = case_full(c), *mapped;
    const aim *a = aim_of(c->metric);
    kith_calibrate_options options;
    kith_calibrate_options_init(&options);
    static const size_t ks[] = {1, CASE_K};
    options.ks = ks;
    options.n_ks = 2;
    size_t n = 0;
    /* the index judges itself where it can; there ties count */
    kith_status status = case_calibrate(index, a->seen, AIM_NQ, &options, NULL, &err);
    if (status == KITH_INVALID) {
        assert_non_null(strstr(err.message, "give the truth"));
        options.truth = a->truth;
        options.truth_k = CASE_K;
        status = case_calibrate(index, a->seen, AIM_NQ, &options, NULL, &err);
    }
    assert_ok(status, &err);
    assert_ok(kith_index_calibration(index, NULL, &n, &err), &err);
    kith_calibration_point *points = calloc(n, sizeof *points);
    assert_ok(kith_index_calibration(index, points, &n, &err), &err);
    assert_true(n > 0 && points[0].k == 1 && points[n - 1].k == CASE_K);
    const char *path = case_path("aim.kidx");
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    assert_ok(kith_index_open(path, KITH_OPEN_MAP, NULL, NULL, &mapped, &err), &err);
    double most = points[n - 1].recall, target = most >= 0.9 ? 0.9 : most * 0.9;
    kith_setting setting = {"target_recall", target};
    kith_searcher *searcher = searcher_of(mapped);
    double got = recall_with(c, searcher, a, setting);
    if (getenv("KITH_TEST_SHOW"))
        fprintf(stderr, "%s %s: %zu points, asked %.3f, got %.3f\n", c->spec, kith_metric_name(c->metric), n,
                target, got);
    /* three standard errors of a mean over so few queries */
    if (got < target - 3 * 0.15 / sqrt(AIM_NQ)) fail_msg("asked for recall %.3f, got %.3f", target, got);
    assert_true(most > c->family->recall_floor - 0.15);

    /* what cannot be had is refused by name */
    uint64_t id;
    float dist;
    kith_setting both[2] = {{"target_recall", target}, {kith_index_main_param(index), 4}};
    kith_search_options how;
    kith_search_options_init(&how);
    how.settings = both;
    how.n_settings = 2;
    if (both[1].name)
        assert_int_equal(case_search(searcher, a->fresh, 1, 1, &how, &id, &dist, NULL, &err), KITH_INVALID);
    how.n_settings = 1;
    static uint64_t ids[CASE_N];
    static float dists[CASE_N];
    assert_int_equal(case_search(searcher, a->fresh, 1, CASE_K + 1, &how, ids, dists, NULL, &err),
                     KITH_INVALID);
    const uint64_t *range_ids;
    const float *range_dist;
    assert_int_equal(case_search_range(searcher, a->fresh, 1, &how, &n, &range_ids, &range_dist, NULL, &err),
                     KITH_INVALID);
    assert_non_null(strstr(err.message, "target_recall"));
    kith_searcher_free(searcher);
    kith_index_free(mapped);
    kith_index_free(index);
    free(points);
}
static void test_target_recall(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, target_recall);
}

static void bad_searches(const index_case *c)
{
    kith_index *index = case_full(c);
    kith_searcher *searcher = searcher_of(index);
    uint64_t id[2] = {77, 77};
    float dist[2] = {77, 77}, bad[2 * CASE_DIM];
    memcpy(bad, case_queries(), sizeof bad);
    assert_int_equal(case_search(searcher, bad, 1, 0, NULL, id, dist, NULL, &err), KITH_INVALID);
    assert_int_equal(case_search(NULL, bad, 1, 1, NULL, id, dist, NULL, &err), KITH_INVALID);
    assert_int_equal(case_search(searcher, NULL, 1, 1, NULL, id, dist, NULL, &err), KITH_INVALID);
    assert_int_equal(case_search(searcher, bad, 1, 1, NULL, NULL, dist, NULL, &err), KITH_INVALID);
    assert_int_equal(case_search(searcher, bad, 1, 1, NULL, id, NULL, NULL, &err), KITH_INVALID);
    static const float poison[] = {NAN, INFINITY, -INFINITY};
    for (size_t p = 0; p < 3 && case_floats(c); p++) {
        bad[CASE_DIM + 3] = poison[p];
        assert_int_equal(case_search(searcher, bad, 2, 1, NULL, id, dist, NULL, &err), KITH_INVALID);
        assert_non_null(strstr(err.message, "component 3 of row 1"));
        size_t n = 77;
        const uint64_t *ids = NULL;
        const float *dists = NULL;
        assert_int_equal(case_search_range(searcher, bad + CASE_DIM, 1, NULL, &n, &ids, &dists, NULL, &err),
                         KITH_INVALID);
        assert_true(n == 77 && !ids && !dists);
    }
    kith_search_options options = {0};
    assert_int_equal(case_search(searcher, bad, 1, 1, &options, id, dist, NULL, &err), KITH_INVALID);
    assert_true(id[0] == 77 && id[1] == 77 && dist[0] == 77 && dist[1] == 77);
    kith_searcher_free(searcher);
    kith_index_free(index);
}
static void test_bad_searches(void **state)
{
    (void)state;
    for_each_case(0, bad_searches);
}

/* ---- Rows of the wrong kind ---- */

static void check_refused(kith_status status)
{
    assert_int_equal(status, KITH_INVALID);
    assert_non_null(strstr(err.message, "the index is over"));
}

static void kinds(const index_case *c)
{
    kith_index *index = case_full(c);
    kith_searcher *searcher = searcher_of(index);
    uint64_t id = 3;
    const uint64_t *ids;
    float x[CASE_DIM] = {0}, dist = 0;
    const float *dists;
    uint8_t bits[CASE_DIM] = {0};
    size_t n;
    kith_index *fresh = case_create(c, CASE_DIM, 1, NULL);
    const uint64_t starts[] = {0, 0};
    const kith_sets sets = {&id, starts, 1, NULL};
    if (kith_metric_rows(c->metric) != KITH_ROWS_SETS && strncmp(c->spec, "SimHash", 7) != 0) {
        check_refused(kith_index_train_sets(fresh, &sets, NULL, &err));
        check_refused(kith_index_add_sets(index, &sets, NULL, NULL, &err));
        check_refused(kith_search_sets(searcher, &sets, 1, NULL, &id, &dist, NULL, &err));
        check_refused(kith_search_range_sets(searcher, &sets, 1, NULL, &n, &ids, &dists, NULL, &err));
    }
    if (kith_metric_rows(c->metric) != KITH_ROWS_BITS) {
        check_refused(kith_index_train_bits(fresh, bits, 1, NULL, &err));
        check_refused(kith_index_add_bits(index, bits, NULL, 1, NULL, &err));
        check_refused(kith_index_reconstruct_bits(index, id, bits, &err));
        check_refused(kith_search_bits(searcher, bits, 1, 1, NULL, &id, &dist, NULL, &err));
        check_refused(kith_search_range_bits(searcher, bits, 1, NULL, &n, &ids, &dists, NULL, &err));
    }
    if (!case_floats(c)) {
        check_refused(kith_index_train(fresh, x, 1, NULL, &err));
        check_refused(kith_index_add(index, x, NULL, 1, NULL, &err));
        check_refused(kith_index_reconstruct(index, id, x, &err));
        check_refused(kith_search(searcher, x, 1, 1, NULL, &id, &dist, NULL, &err));
        check_refused(kith_search_range(searcher, x, 1, NULL, &n, &ids, &dists, NULL, &err));
    }
    kith_searcher_free(searcher);
    kith_index_free(index);
    kith_index_free(fresh);
}
static void test_kinds(void **state)
{
    (void)state;
    for_each_case(0, kinds);
}

/* Bits that no row has are refused: they would count as differing. */
static void test_unused_bits(void **state)
{
    (void)state;
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = KITH_HAMMING;
    const uint8_t good[] = {0xff, 0x03, 0x00, 0x02}, bad[] = {0xff, 0x03, 0x00, 0x04};
    uint64_t ids[2];
    float dist[2];
    assert_ok(kith_index_create("BFlat", 10, &options, &index, &err), &err);
    assert_int_equal(kith_index_add_bits(index, bad, NULL, 2, NULL, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "row 1"));
    assert_int_equal(kith_index_train_bits(index, bad, 2, NULL, &err), KITH_INVALID);
    assert_ok(kith_index_add_bits(index, good, NULL, 2, NULL, &err), &err);
    kith_searcher *searcher = searcher_of(index);
    assert_int_equal(kith_search_bits(searcher, bad + 2, 1, 2, NULL, ids, dist, NULL, &err), KITH_INVALID);
    assert_ok(kith_search_bits(searcher, good + 2, 1, 2, NULL, ids, dist, NULL, &err), &err);
    assert_true(ids[0] == 1 && dist[0] == 0 && ids[1] == 0 && dist[1] == 9);
    kith_searcher_free(searcher);
    kith_index_free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_answers, case_teardown),
        cmocka_unit_test_teardown(test_batches, case_teardown),
        cmocka_unit_test_teardown(test_k_beyond_n, case_teardown),
        cmocka_unit_test_teardown(test_empty, case_teardown),
        cmocka_unit_test_teardown(test_filters, case_teardown),
        cmocka_unit_test_teardown(test_ranges, case_teardown),
        cmocka_unit_test_teardown(test_budgets, case_teardown),
        cmocka_unit_test_teardown(test_parameters, case_teardown),
        cmocka_unit_test_teardown(test_target_recall, case_teardown),
        cmocka_unit_test_teardown(test_bad_searches, case_teardown),
        cmocka_unit_test_teardown(test_kinds, case_teardown),
        cmocka_unit_test(test_unused_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
