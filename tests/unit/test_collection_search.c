/* Search in collections against plain loops: with and without segments, filters, changes, other handles; and segments
 * that are missing, damaged, stale or those of another collection. */
#include "collections.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The answer is that of plain loops: the same distances, keys that have them, each once, all of them wanted. */
static void expect_exact(const int64_t *keys, const float *distances, const float *x, const char *wanted,
                         size_t n, size_t dim, kith_metric metric, const float *query, size_t k)
{
    int64_t *true_keys = calloc(k, sizeof *true_keys), one;
    double *true_distances = calloc(k, sizeof *true_distances), again;
    test_brute_force(x, wanted, n, dim, metric, query, k, true_keys, true_distances);
    for (size_t i = 0; i < k; i++) {
        if (true_keys[i] == 0) {
            assert_int_equal(keys[i], 0);
            assert_true(isinf(distances[i]));
            continue;
        }
        double tolerance = 1e-4 * (1 + fabs(true_distances[i]));
        assert_in_range(keys[i], 1, n);
        assert_true(!wanted || wanted[keys[i] - 1]);
        assert_true(fabs(distances[i] - true_distances[i]) <= tolerance);
        test_brute_force(x + (size_t)(keys[i] - 1) * dim, NULL, 1, dim, metric, query, 1, &one, &again);
        assert_true(fabs(again - true_distances[i]) <= tolerance);
        for (size_t j = 0; j < i; j++) assert_true(keys[i] != keys[j]);
        if (i > 0)
            assert_true(distances[i - 1] < distances[i] ||
                        (distances[i - 1] == distances[i] && keys[i - 1] < keys[i]));
    }
    free(true_keys);
    free(true_distances);
}

static void fold(kith_collection *c, const char *spec)
{
    kith_error err;
    kith_fold_options options;
    kith_fold_options_init(&options);
    options.spec = spec;
    options.always = 1;
    assert_ok(kith_collection_fold(c, &options, &err), &err);
}

static uint64_t segment_rows(kith_collection *c)
{
    kith_error err;
    kith_collection_stats stats = {.struct_size = sizeof stats};
    assert_ok(kith_collection_get_stats(c, &stats, &err), &err);
    return stats.segment_rows;
}

/* Search with several k at once and compare. */
static void search_and_compare(kith_collection *c, const float *x, const char *wanted, size_t n, size_t dim,
                               kith_metric metric, const float *queries, size_t nq,
                               const kith_collection_query *given)
{
    static const size_t ks[] = {1, 7, 100};
    kith_error err;
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
        size_t k = ks[i];
        int64_t *keys = calloc(nq * k, sizeof *keys);
        float *distances = calloc(nq * k, sizeof *distances);
        kith_collection_query query;
        kith_collection_answer answer;
        kith_collection_query_init(&query);
        if (given) query = *given;
        query.k = k;
        assert_ok(kith_collection_search(c, nq, dim, queries, &query, keys, distances, &answer, &err), &err);
        assert_true(answer.complete);
        for (size_t q = 0; q < nq; q++)
            expect_exact(keys + q * k, distances + q * k, x, wanted, n, dim, metric, queries + q * dim, k);
        free(keys);
        free(distances);
    }
}

static const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_COSINE, KITH_L1};

static void equals_plain_loops(void **state)
{
    (void)state;
    static const size_t dims[] = {1, 3, 33};
    enum { N = 500, NQ = 12 };
    for (size_t m = 0; m < 4; m++) {
        for (size_t d = 0; d < 3; d++) {
            size_t dim = dims[d];
            float *x = test_vectors(N, dim, 5, test_seed()), *q = test_vectors(NQ, dim, 5, test_seed());
            memcpy(x + 7 * dim, x + 400 * dim, dim * sizeof *x); /* duplicates: the smaller key first */
            kith_collection *c = test_collection("loops.kith", dim, metrics[m]);
            test_put_rows(c, 1, N, x, dim);
            search_and_compare(c, x, NULL, N, dim, metrics[m], q, NQ, NULL);
            search_and_compare(c, x, NULL, N, dim, metrics[m], x + 7 * dim, 1, NULL);
            kith_collection_close(c);
            free(x);
            free(q);
        }
    }
}

static int odd_keys(void *ctx, uint64_t id)
{
    (void)ctx;
    return id % 2 == 1;
}

static void filters(void **state)
{
    (void)state;
    enum { N = 3000, DIM = 8, NQ = 5 };
    float *x = test_vectors(N, DIM, 10, test_seed()), *q = test_vectors(NQ, DIM, 10, test_seed() + 1);
    char *wanted = malloc(N);
    int64_t *only = malloc((N + 50) * sizeof *only);
    uint64_t bits[(N + 64) / 64] = {0};
    kith_collection *c = test_collection("filters.kith", DIM, KITH_L2SQ);
    test_put_rows(c, 1, N, x, DIM);
    for (int folded = 0; folded < 2; folded++) {
        kith_filter filter;
        kith_filter_init(&filter);
        kith_collection_query query;
        kith_collection_query_init(&query);
        query.filter = &filter;
        filter.allow = odd_keys;
        for (int i = 0; i < N; i++) wanted[i] = (i + 1) % 2 == 1;
        search_and_compare(c, x, wanted, N, DIM, KITH_L2SQ, q, NQ, &query);
        filter.bits = bits;
        filter.n_bits = N + 1;
        for (int i = 0; i < N; i++) {
            int bit = i % 7 == 3 || i < 9;
            if (bit) bits[(i + 1) / 64] |= (uint64_t)1 << (i + 1) % 64;
            wanted[i] = bit && (i + 1) % 2 == 1;
        }
        search_and_compare(c, x, wanted, N, DIM, KITH_L2SQ, q, NQ, &query);

        /* Named keys: few and many, doubled, unknown, unsorted, with and without a filter beside them. */
        static const size_t counts[] = {0, 1, 20, 900, N - 1};
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            memset(wanted, 0, N);
            size_t n = 0;
            while (n < counts[i]) {
                int64_t key = 1 + (int64_t)((n * 7919 + 13) % N);
                wanted[key - 1] = 1;
                only[n++] = key;
            }
            if (n > 0) only[n++] = only[0];
            only[n++] = N + 5;
            only[n++] = 0;
            only[n++] = -3;
            query.only_keys = only;
            query.only_n = n;
            query.filter = NULL;
            search_and_compare(c, x, wanted, N, DIM, KITH_L2SQ, q, NQ, &query);
            filter.bits = NULL;
            query.filter = &filter;
            for (int k = 1; k < N; k += 2) wanted[k] = 0;
            search_and_compare(c, x, wanted, N, DIM, KITH_L2SQ, q, NQ, &query);
        }
        if (!folded) fold(c, "Flat");
    }
    kith_collection_close(c);
    free(x);
    free(q);
    free(wanted);
    free(only);
}

/* Random changes with searches between them, by the handle that writes (inside batches, too), by another one, and by
 * one that is opened anew; folds now and then. */
static void follows_every_change(void **state)
{
    (void)state;
    enum { KEYS = 400, DIM = 4, ROUNDS = 40 };
    kith_error err;
    float *x = test_vectors(KEYS, DIM, 0, test_seed()), *before = malloc(KEYS * DIM * sizeof *x);
    char wanted[KEYS] = {0}, wanted_before[KEYS];
    kith_collection *writer = test_collection("follow.kith", DIM, KITH_L2SQ), *reader, *fresh;
    assert_ok(kith_collection_open(test_path("follow.kith"), NULL, &reader, &err), &err);
    srand((unsigned)test_seed());
    for (int round = 0; round < ROUNDS; round++) {
        memcpy(before, x, KEYS * DIM * sizeof *x);
        memcpy(wanted_before, wanted, sizeof wanted);
        assert_ok(kith_collection_begin(writer, &err), &err);
        int changes = rand() % 30;
        for (int i = 0; i < changes; i++) {
            int64_t key = 1 + rand() % KEYS;
            float *vector = x + (key - 1) * DIM;
            int action = rand() % 5;
            if (action == 0) {
                kith_collection_delete(writer, key, &err);
                wanted[key - 1] = 0;
            } else {
                for (int d = 0; d < DIM; d++) vector[d] = (float)(rand() % 2000) / 1000 - 1;
                kith_row row = {.key = key, .vector = action == 1 ? NULL : vector, .dim = DIM};
                assert_ok(kith_collection_put(writer, KITH_ROW_VECTOR, &row, NULL, &err), &err);
                wanted[key - 1] = action != 1;
            }
            if (rand() % 20 == 0)
                search_and_compare(writer, x, wanted, KEYS, DIM, KITH_L2SQ, before, 1, NULL);
        }
        search_and_compare(reader, before, wanted_before, KEYS, DIM, KITH_L2SQ, x, 1, NULL);
        if (rand() % 4 == 0) {
            kith_collection_rollback(writer);
            memcpy(x, before, KEYS * DIM * sizeof *x);
            memcpy(wanted, wanted_before, sizeof wanted);
        } else {
            assert_ok(kith_collection_commit(writer, &err), &err);
        }
        if (round % 7 == 3) fold(round % 2 ? writer : reader, "Flat");
        search_and_compare(writer, x, wanted, KEYS, DIM, KITH_L2SQ, before, 2, NULL);
        if (round % 3) search_and_compare(reader, x, wanted, KEYS, DIM, KITH_L2SQ, before, 2, NULL);
        assert_ok(kith_collection_open(test_path("follow.kith"), NULL, &fresh, &err), &err);
        search_and_compare(fresh, x, wanted, KEYS, DIM, KITH_L2SQ, before, 2, NULL);
        kith_collection_close(fresh);
    }
    kith_collection_close(reader);
    kith_collection_close(writer);
    free(x);
    free(before);
}

/* What a search saw inside a batch that was then undone is forgotten, even if the versions go beyond it again. */
static void an_undone_batch_leaves_no_trace(void **state)
{
    (void)state;
    enum { N = 50, DIM = 3 };
    kith_error err;
    float *x = test_vectors(N, DIM, 0, test_seed()), other[DIM] = {9, 9, 9};
    kith_collection *c = test_collection("undone.kith", DIM, KITH_L2SQ);
    test_put_rows(c, 1, N, x, DIM);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int64_t key = 1; key <= 5; key++) {
        kith_row row = {.key = key, .vector = other, .dim = DIM};
        assert_ok(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err);
    }
    int64_t keys[10];
    float distances[10];
    assert_ok(kith_collection_search(c, 1, DIM, other, NULL, keys, distances, NULL, &err), &err);
    assert_int_equal(keys[4], 5);
    assert_true(distances[4] == 0);
    kith_collection_rollback(c);
    test_put_rows(c, 20, 10, x, DIM); /* more changes than were undone, of other rows */
    search_and_compare(c, x, NULL, N, DIM, KITH_L2SQ, other, 1, NULL);
    kith_collection_close(c);
    free(x);
}

/* A reader that is behind more changes than the log keeps reads everything anew. */
static void a_reader_far_behind_catches_up(void **state)
{
    (void)state;
    enum { N = 6000 };
    kith_error err;
    float *x = test_vectors(N, 2, 0, test_seed());
    kith_collection *writer = test_collection("behind.kith", 2, KITH_L2SQ), *reader;
    test_put_rows(writer, 1, 20, x, 2);
    fold(writer, "Flat");
    assert_ok(kith_collection_open(test_path("behind.kith"), NULL, &reader, &err), &err);
    search_and_compare(reader, x, NULL, 20, 2, KITH_L2SQ, x, 1, NULL);
    for (int i = 0; i < 300; i++) test_put_rows(writer, 1, 20, x + i % 50, 2);
    assert_ok(kith_collection_check(writer, NULL, &err), &err);
    assert_int_equal(segment_rows(writer), 0); /* nothing tells any more what it does not cover */
    search_and_compare(reader, x + 299 % 50, NULL, 20, 2, KITH_L2SQ, x, 1, NULL);
    kith_collection_close(reader);
    kith_collection_close(writer);
    free(x);
}

static void like_a_row(void **state)
{
    (void)state;
    enum { N = 200, DIM = 6 };
    kith_error err;
    float *x = test_vectors(N, DIM, 0, test_seed());
    char wanted[N];
    int64_t keys[10];
    float distances[10];
    kith_collection *c = test_collection("like.kith", DIM, KITH_COSINE);
    test_put_rows(c, 1, N, x, DIM);
    assert_ok(kith_collection_begin(c, &err), &err);
    kith_row row = {.key = N + 1};
    assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    for (int folded = 0; folded < 2; folded++) {
        for (int64_t key = 1; key <= N; key += 37) {
            memset(wanted, 1, sizeof wanted);
            wanted[key - 1] = 0;
            assert_ok(kith_collection_search_like(c, key, NULL, keys, distances, NULL, &err), &err);
            expect_exact(keys, distances, x, wanted, N, DIM, KITH_COSINE, x + (key - 1) * DIM, 10);
        }
        assert_int_equal(kith_collection_search_like(c, N + 1, NULL, keys, distances, NULL, &err),
                         KITH_NOTFOUND);
        assert_int_equal(kith_collection_search_like(c, N + 2, NULL, keys, distances, NULL, &err),
                         KITH_NOTFOUND);
        fold(c, "Flat");
    }
    kith_collection_close(c);
    free(x);
}

static void bad_queries_are_refused(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c = test_collection("badquery.kith", 2, KITH_L2SQ);
    const float good[2] = {1, 2}, bad[2] = {1, NAN};
    int64_t keys[10] = {77};
    float distances[10] = {77};
    kith_collection_query query;
    kith_collection_query_init(&query);
    assert_ok(kith_collection_search(c, 1, 2, good, NULL, keys, distances, NULL, &err),
              &err); /* no rows at all */
    assert_int_equal(keys[0], 0);
    test_put_rows(c, 1, 1, good, 2);
    keys[0] = 77;
    static const size_t ks[] = {0, KITH_COLLECTION_MAX_K + 1, SIZE_MAX};
    for (size_t i = 0; i < 3; i++) {
        query.k = ks[i];
        assert_int_equal(kith_collection_search(c, 1, 2, good, &query, keys, distances, NULL, &err),
                         KITH_INVALID);
        assert_non_null(strstr(err.message, "allowed 1..1000000"));
    }
    query.k = 1;
    assert_int_equal(kith_collection_search(c, 1, 2, bad, &query, keys, distances, NULL, &err), KITH_INVALID);
    assert_int_equal(kith_collection_search(c, 1, 3, good, &query, keys, distances, NULL, &err),
                     KITH_INVALID);
    assert_int_equal(kith_collection_search(c, 1, 2, NULL, &query, keys, distances, NULL, &err),
                     KITH_INVALID);
    assert_int_equal(kith_collection_search(c, 1, 2, good, &query, NULL, distances, NULL, &err),
                     KITH_INVALID);
    assert_int_equal(kith_collection_search(c, 1, 2, good, &query, keys, NULL, NULL, &err), KITH_INVALID);
    assert_int_equal(keys[0], 77); /* untouched */
    assert_int_equal(kith_collection_search(c, 0, 2, good, &query, keys, distances, NULL, &err), KITH_OK);
    query.k = 5;
    assert_ok(kith_collection_search(c, 1, 2, good, &query, keys, distances, NULL, &err), &err); /* k > n */
    assert_int_equal(keys[0], 1);
    assert_int_equal(keys[1], 0);
    kith_cancel cancel = {0};
    kith_collection_answer answer;
    kith_cancel_raise(&cancel);
    query.cancel = &cancel;
    assert_ok(kith_collection_search(c, 1, 2, good, &query, keys, distances, &answer, &err), &err);
    assert_false(answer.complete);
    kith_collection_close(c);
}

/* ---- Segments ---- */

static void fold_builds_when_it_pays(void **state)
{
    (void)state;
    enum { N = 1000, DIM = 4 };
    kith_error err;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.exact_rows = 500;
    float *x = test_vectors(2 * N, DIM, 20, test_seed());
    kith_collection *c = test_collection("pays.kith", DIM, KITH_L2SQ);
    kith_collection_close(c);
    assert_ok(kith_collection_open(test_path("pays.kith"), &options, &c, &err), &err);
    assert_ok(kith_collection_fold(c, NULL, &err), &err); /* of an empty collection: nothing */
    test_put_rows(c, 1, 500, x, DIM);
    kith_fold_options fold_options;
    kith_fold_options_init(&fold_options);
    fold_options.spec = "Flat";
    assert_ok(kith_collection_fold(c, &fold_options, &err), &err);
    assert_int_equal(segment_rows(c), 0);
    test_put_rows(c, 501, 300, x, DIM);
    assert_ok(kith_collection_fold(c, &fold_options, &err), &err);
    assert_int_equal(segment_rows(c), 800);
    test_put_rows(c, 801, 60, x, DIM);
    assert_ok(kith_collection_fold(c, &fold_options, &err), &err); /* good enough as it is */
    assert_int_equal(segment_rows(c), 800);
    kith_collection_stats stats = {.struct_size = sizeof stats};
    assert_ok(kith_collection_get_stats(c, &stats, &err), &err);
    assert_int_equal(stats.uncovered, 60);
    assert_string_equal(stats.segment_spec, "Flat");
    test_put_rows(c, 861, 40, x, DIM);
    assert_ok(kith_collection_fold(c, &fold_options, &err), &err);
    assert_int_equal(segment_rows(c), 900);
    search_and_compare(c, x, NULL, 900, DIM, KITH_L2SQ, x, 3, NULL);

    fold_options.spec = "Nonsense7";
    assert_int_equal(kith_collection_fold(c, &fold_options, &err), KITH_INVALID);
    fold_options.spec = "Flat";
    fold_options.always = 1;
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_int_equal(kith_collection_fold(c, &fold_options, &err), KITH_INVALID);
    kith_collection_rollback(c);
    kith_run run;
    kith_cancel cancel = {0};
    kith_run_init(&run);
    run.cancel = &cancel;
    kith_cancel_raise(&cancel);
    fold_options.run = &run;
    /* A thousand rows are read before the flag is looked at; a cancelled fold leaves the segment there was. */
    test_put_rows(c, 901, 200, x, DIM);
    assert_int_equal(kith_collection_fold(c, &fold_options, &err), KITH_CANCELLED);
    assert_int_equal(segment_rows(c), 900);
    fold_options.run = NULL;

    char lock[700];
    snprintf(lock, sizeof lock, "%s.d/lock", test_path("pays.kith"));
    int fd = open(lock, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(kith_collection_fold(c, &fold_options, &err), KITH_BUSY);
    close(fd);
    assert_ok(kith_collection_fold(c, &fold_options, &err), &err);
    assert_int_equal(segment_rows(c), 1100);
    kith_collection_close(c);
    free(x);
}

typedef struct ivf_case {
    kith_metric metric;
    size_t dim;
    int has_codes; /* the chosen spec compresses and re-ranks */
} ivf_case;

/* The spec that is chosen for larger collections: recall, filters and changes on top of it. */
static void large_collections_search_approximately(void **state)
{
    (void)state;
    enum { N = 6000, NQ = 50, K = 10 };
    static const ivf_case cases[] = {{KITH_L2SQ, 16, 1}, {KITH_COSINE, 16, 1}, {KITH_DOT, 7, 0}};
    kith_error err;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.exact_rows = 2500;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t dim = cases[i].dim;
        float *x = test_vectors(N + NQ, dim, 200, test_seed()), *q = x + N * dim;
        char *wanted = malloc(N);
        kith_collection *c = test_collection("large.kith", dim, cases[i].metric);
        kith_collection_close(c);
        assert_ok(kith_collection_open(test_path("large.kith"), &options, &c, &err), &err);
        test_put_rows(c, 1, N - 500, x, dim);
        assert_ok(kith_collection_fold(c, NULL, &err), &err);
        kith_collection_stats stats = {.struct_size = sizeof stats};
        assert_ok(kith_collection_get_stats(c, &stats, &err), &err);
        assert_int_equal(stats.segment_rows, N - 500);
        assert_int_equal(strncmp(stats.segment_spec, "IVF", 3), 0);
        assert_int_equal(strstr(stats.segment_spec, "PQ") != NULL, cases[i].has_codes);
        test_put_rows(c, N - 499, 500, x, dim); /* rows that the segment does not know */
        memset(wanted, 1, N);
        assert_ok(kith_collection_begin(c, &err), &err);
        for (int64_t key = 1; key <= N; key += 31) {
            assert_ok(kith_collection_delete(c, key, &err), &err);
            wanted[key - 1] = 0;
        }
        assert_ok(kith_collection_commit(c, &err), &err);

        int64_t keys[NQ * K], true_keys[K];
        float distances[NQ * K];
        double true_distances[K];
        kith_collection_query query;
        kith_collection_answer answer;
        kith_collection_query_init(&query);
        assert_ok(kith_collection_search(c, NQ, dim, q, &query, keys, distances, &answer, &err), &err);
        assert_false(answer.exact);
        assert_true(answer.rows_scored < (uint64_t)NQ * N / 2);
        size_t good = 0;
        for (size_t at = 0; at < NQ; at++) {
            test_brute_force(x, wanted, N, dim, cases[i].metric, q + at * dim, K, true_keys, true_distances);
            for (size_t k = 0; k < K; k++) {
                assert_in_range(keys[at * K + k], 1, N);
                assert_true(wanted[keys[at * K + k] - 1]);
                good +=
                    distances[at * K + k] <= true_distances[K - 1] + 1e-4 * (1 + fabs(true_distances[K - 1]));
            }
        }
        if ((double)good < 0.9 * NQ * K)
            fail_msg("metric %d: recall %.3f", cases[i].metric, (double)good / NQ / K);
        query.exact = 1;
        search_and_compare(c, x, wanted, N, dim, cases[i].metric, q, 3, &query);
        /* However few rows pass, they are all found. */
        kith_filter filter;
        kith_filter_init(&filter);
        uint64_t bits[N / 64 + 1] = {0};
        for (int64_t key = 5; key <= N; key += 1000) bits[key / 64] |= (uint64_t)1 << key % 64;
        filter.bits = bits;
        filter.n_bits = N + 1;
        query.exact = 0;
        query.filter = &filter;
        query.k = 20;
        int64_t few[20];
        float few_distances[20];
        assert_ok(kith_collection_search(c, 1, dim, q, &query, few, few_distances, &answer, &err), &err);
        assert_true(answer.complete);
        size_t found = 0, expected = 0;
        for (int64_t key = 5; key <= N; key += 1000) expected += wanted[key - 1] != 0;
        while (found < 20 && few[found]) found++;
        assert_int_equal(found, expected);
        kith_collection_close(c);
        free(x);
        free(wanted);
    }
}

/* Whatever happens to the segment file, the answers stay, and the next fold makes a good one again. */
static void segments_are_a_cache(void **state)
{
    (void)state;
    enum { N = 600, DIM = 8 };
    kith_error err;
    float *x = test_vectors(N, DIM, 10, test_seed());
    kith_collection *c = test_collection("cache.kith", DIM, KITH_L2SQ);
    test_put_rows(c, 1, N, x, DIM);
    fold(c, "Flat");
    assert_int_equal(segment_rows(c), N);
    size_t size;
    char path[1024];
    snprintf(path, sizeof path, "%s", test_segment_path(test_path("cache.kith")));
    unsigned char *bytes = test_read_file(path, &size), *edited = malloc(size);
    kith_collection_close(c);
    srand((unsigned)test_seed());
    for (int round = 0; round < 220; round++) {
        size_t length = size;
        memcpy(edited, bytes, size);
        if (round < 20)
            length = (size_t)rand() % size; /* cut off */
        else                                /* one bit, at first in the header, then anywhere */
            edited[(size_t)rand() % (round < 80 ? 256 : size)] ^= (unsigned char)(1 << rand() % 8);
        test_write_file(path, edited, length);
        assert_ok(kith_collection_open(test_path("cache.kith"), NULL, &c, &err), &err);
        int64_t keys[5];
        float distances[5];
        kith_collection_query query;
        kith_collection_query_init(&query);
        query.k = 5;
        const float *q = x + (size_t)(rand() % N) * DIM;
        assert_ok(kith_collection_search(c, 1, DIM, q, &query, keys, distances, NULL, &err), &err);
        expect_exact(keys, distances, x, NULL, N, DIM, KITH_L2SQ, q, 5);
        kith_collection_close(c);
    }
    assert_ok(kith_collection_open(test_path("cache.kith"), NULL, &c, &err), &err);
    assert_int_equal(segment_rows(c), 0);
    kith_fold_options options;
    kith_fold_options_init(&options);
    options.spec = "Flat";
    options.always = 1;
    assert_ok(kith_collection_fold(c, &options, &err), &err);
    assert_int_equal(segment_rows(c), N); /* the same handle takes the repaired file, of the same name */
    search_and_compare(c, x, NULL, N, DIM, KITH_L2SQ, x, 2, NULL);
    size_t again;
    unsigned char *rebuilt = test_read_file(path, &again);
    assert_int_equal(again, size);
    assert_memory_equal(rebuilt, bytes, size); /* the same state gives the same file */
    assert_int_equal(unlink(path), 0);
    search_and_compare(c, x, NULL, N, DIM, KITH_L2SQ, x, 2, NULL);
    kith_collection_close(c);
    assert_ok(kith_collection_open(test_path("cache.kith"), NULL, &c, &err), &err);
    search_and_compare(c, x, NULL, N, DIM, KITH_L2SQ, x, 2, NULL);
    kith_collection_close(c);
    free(rebuilt);
    free(bytes);
    free(edited);
    free(x);
}

/* An older copy of the database is put back and written on: the segment of the lost future fits by its version, but it
 * is not of these rows. Nor is that of another collection. */
static void a_segment_of_other_rows_is_not_used(void **state)
{
    (void)state;
    enum { N = 300, DIM = 3 };
    kith_error err;
    float *x = test_vectors(N, DIM, 0, test_seed()), *y = test_vectors(N, DIM, 0, test_seed() + 1);
    kith_collection *c = test_collection("copy.kith", DIM, KITH_L2SQ);
    test_put_rows(c, 1, 100, x, DIM);
    kith_collection_close(c);
    test_copy_file(test_path("copy.kith"), test_path("older.kith"));
    assert_ok(kith_collection_open(test_path("copy.kith"), NULL, &c, &err), &err);
    test_put_rows(c, 101, 200, x, DIM);
    fold(c, "Flat");
    kith_collection_close(c);
    test_copy_file(test_path("older.kith"), test_path("copy.kith"));
    assert_ok(kith_collection_open(test_path("copy.kith"), NULL, &c, &err), &err);
    test_put_rows(c, 101, 200, y, DIM); /* the same number of changes, other vectors */
    memcpy(y, x, 100 * DIM * sizeof *x);
    assert_int_equal(segment_rows(c), 0);
    search_and_compare(c, y, NULL, N, DIM, KITH_L2SQ, x + 150 * DIM, 1, NULL);
    kith_collection_close(c);
    free(x);
    free(y);
}

/* A process that has a segment mapped goes on with it while another one folds and removes the file. */
static void a_fold_disturbs_no_reader(void **state)
{
    (void)state;
    enum { N = 2000, DIM = 4 };
    kith_error err;
    float *x = test_vectors(N, DIM, 0, test_seed());
    kith_collection *c = test_collection("swap.kith", DIM, KITH_L2SQ), *reader;
    test_put_rows(c, 1, 1000, x, DIM);
    fold(c, "Flat");
    assert_ok(kith_collection_open(test_path("swap.kith"), NULL, &reader, &err), &err);
    search_and_compare(reader, x, NULL, 1000, DIM, KITH_L2SQ, x, 1, NULL);
    assert_ok(kith_collection_pin(reader, &err), &err);
    test_put_rows(c, 1001, 1000, x, DIM);
    fold(c, "Flat");
    search_and_compare(reader, x, NULL, 1000, DIM, KITH_L2SQ, x, 1, NULL); /* pinned: still the old rows */
    kith_collection_unpin(reader);
    search_and_compare(reader, x, NULL, N, DIM, KITH_L2SQ, x, 1, NULL);
    assert_int_equal(segment_rows(reader), N);
    kith_collection_close(reader);
    kith_collection_close(c);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_plain_loops),
        cmocka_unit_test(filters),
        cmocka_unit_test(follows_every_change),
        cmocka_unit_test(an_undone_batch_leaves_no_trace),
        cmocka_unit_test(a_reader_far_behind_catches_up),
        cmocka_unit_test(like_a_row),
        cmocka_unit_test(bad_queries_are_refused),
        cmocka_unit_test(fold_builds_when_it_pays),
        cmocka_unit_test(large_collections_search_approximately),
        cmocka_unit_test(segments_are_a_cache),
        cmocka_unit_test(a_segment_of_other_rows_is_not_used),
        cmocka_unit_test(a_fold_disturbs_no_reader),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
