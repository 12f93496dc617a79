/* Search with a filter: always min(k, matches) rows, whichever way the plan goes, whatever the filter has to do with the
 * vectors, with and without a segment, with rows changed beside it, with rows without a vector. */
#include "collections.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 6000, DIM = 16, CLUSTERS = 20, NQ = 10 };

/* Row i + 1: "n" is i, "side" says on which side of the first axis its vector lies, "c" is n modulo 10. */
static void put_rows(kith_collection *c, size_t first, size_t n, const float *x, int shift)
{
    kith_error err;
    assert_ok(kith_collection_begin(c, &err), &err);
    for (size_t i = first; i < first + n; i++) {
        char payload[80];
        snprintf(payload, sizeof payload, "{\"n\":%zu,\"c\":%zu,\"side\":%d}", i, (i + (size_t)shift) % 10,
                 x[i * DIM] > 0);
        kith_row row = {.key = (int64_t)i + 1, .payload = payload, .vector = x + i * DIM, .dim = DIM};
        assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, NULL, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
}

typedef struct outcome {
    double recall;
    const char *method;
    size_t rounds;
} outcome;

/* Search all queries at once and one by one, compare with plain loops over wanted. */
static outcome search(kith_collection *c, const char *filter, const char *wanted, const float *x,
                      const float *queries, size_t k)
{
    kith_error err;
    int64_t *keys = calloc(NQ * k, sizeof *keys), *truth = calloc(k, sizeof *truth);
    float *distances = calloc(NQ * k, sizeof *distances);
    double *true_distances = calloc(k, sizeof *true_distances);
    size_t matches = 0, found = 0;
    for (size_t i = 0; i < N; i++) matches += wanted[i] != 0;
    size_t expected = k < matches ? k : matches;
    kith_collection_plan plan = {.struct_size = sizeof plan};
    kith_collection_query query;
    kith_collection_answer answer;
    kith_collection_query_init(&query);
    query.k = k;
    query.expression = filter;
    query.plan = &plan;
    for (int single = 0; single < 2; single++) {
        size_t step = single ? 1 : NQ;
        for (size_t q = 0; q < NQ; q += step)
            assert_ok(kith_collection_search(c, step, DIM, queries + q * DIM, &query, keys + q * k,
                                             distances + q * k, &answer, &err),
                      &err);
        assert_true(answer.complete);
        assert_int_equal(plan.matches, matches);
        found = 0;
        for (size_t q = 0; q < NQ; q++) {
            test_brute_force(x, wanted, N, DIM, KITH_L2SQ, queries + q * DIM, k, truth, true_distances);
            for (size_t i = 0; i < k; i++) {
                int64_t key = keys[q * k + i];
                assert_int_equal(key != 0, i < expected);
                if (key == 0) continue;
                assert_true(key <= N && wanted[key - 1]);
                assert_true(i == 0 || distances[q * k + i - 1] <= distances[q * k + i]);
                for (size_t j = 0; j < i; j++) assert_true(keys[q * k + j] != key);
                found += distances[q * k + i] <= true_distances[expected - 1] * (1 + 1e-5) + 1e-6;
            }
        }
        if (answer.exact) assert_int_equal(found, NQ * expected);
    }
    free(keys);
    free(truth);
    free(distances);
    free(true_distances);
    outcome o = {expected ? (double)found / (double)(NQ * expected) : 1, plan.method, plan.rounds};
    return o;
}

static void all_filters(kith_collection *c, const float *x, const float *queries, int shift, const char *gone,
                        int segment)
{
    static const size_t limits[] = {0, 1, 3, 9, 30, 100, 700, 2500, N};
    char wanted[N], filter[80];
    for (size_t f = 0; f < 3 * sizeof limits / sizeof *limits; f++) {
        size_t limit = limits[f / 3];
        for (size_t i = 0; i < N; i++)
            wanted[i] = !gone[i] && i < limit &&
                        (f % 3 == 0 || (f % 3 == 1 ? (i + (size_t)shift) % 10 == 3 : x[i * DIM] > 0));
        snprintf(filter, sizeof filter, "n < %zu%s", limit,
                 f % 3 == 0   ? ""
                 : f % 3 == 1 ? " and c == 3"
                              : " and side == 1");
        for (size_t k = 1; k <= 100; k *= 10) {
            outcome o = search(c, filter, wanted, x, queries, k);
            if (o.recall < 0.9) fail_msg("%s, k %zu: recall %.3f by %s", filter, k, o.recall, o.method);
            if (!segment) assert_true(o.recall == 1);
        }
    }
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

static void finds_all_there_are(void **state)
{
    (void)state;
    kith_error err;
    float *x = test_vectors(N, DIM, CLUSTERS, test_seed()),
          *queries = test_vectors(NQ, DIM, CLUSTERS, test_seed());
    char gone[N] = {0};
    kith_collection *c = test_collection("filtered.kith", DIM, KITH_L2SQ);
    put_rows(c, 0, N, x, 0);
    all_filters(c, x, queries, 0, gone, 0);
    fold(c, "IVF200,PQ8,RFlat");
    all_filters(c, x, queries, 0, gone, 1);
    put_rows(c, 0, N / 2, x, 5); /* all payloads of the first half change, and their vectors are put anew */
    assert_ok(kith_collection_begin(c, &err), &err);
    for (size_t i = N / 2; i < N / 2 + 500; i++) {
        char payload[80];
        kith_row row = {.key = (int64_t)i + 1, .payload = payload};
        snprintf(payload, sizeof payload, "{\"n\":%zu,\"c\":%zu,\"side\":%d}", i, (i + 5) % 10,
                 x[i * DIM] > 0);
        assert_ok(kith_collection_put(c, KITH_ROW_VECTOR | KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
        gone[i] = 1; /* it is let through, but has no vector */
    }
    for (size_t i = N / 2 + 500; i < N; i++) { /* payloads alone */
        char payload[80];
        kith_row row = {.key = (int64_t)i + 1, .payload = payload};
        snprintf(payload, sizeof payload, "{\"n\":%zu,\"c\":%zu,\"side\":%d}", i, (i + 5) % 10,
                 x[i * DIM] > 0);
        if (i % 3) assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
        if (i % 3 == 0) assert_ok(kith_collection_delete(c, row.key, &err), &err);
        gone[i] = i % 3 == 0;
    }
    assert_ok(kith_collection_commit(c, &err), &err);
    all_filters(c, x, queries, 5, gone, 1);
    fold(c, "HNSW8,Flat");
    all_filters(c, x, queries, 5, gone, 1);
    kith_collection_close(c);
    free(x);
    free(queries);
}

/* The plan goes the way that the number of matches suggests. */
static void plans(void **state)
{
    (void)state;
    float *x = test_vectors(N, DIM, CLUSTERS, test_seed());
    char *wanted = malloc(N);
    kith_collection *c = test_collection("plans.kith", DIM, KITH_L2SQ);
    put_rows(c, 0, N, x, 0);
    memset(wanted, 0, N);
    assert_string_equal(search(c, "n < 0", wanted, x, x, 10).method, "nothing");
    for (size_t i = 0; i < 5; i++) wanted[i] = 1;
    assert_string_equal(search(c, "n < 5", wanted, x, x, 10).method, "rows");
    memset(wanted, 1, N);
    assert_string_equal(search(c, "n >= 0", wanted, x, x, 10).method, "memory");
    fold(c, "IVF200,Flat");
    assert_string_equal(search(c, "n >= 0", wanted, x, x, 10).method, "index");
    for (size_t i = 0; i < N; i++) wanted[i] = i < 5;
    assert_string_equal(search(c, "n < 5", wanted, x, x, 10).method, "rows");
    kith_collection_close(c);
    free(wanted);
    free(x);
}

/* A row that is asked for by its likeness is not among the answers, be it let through or not. */
static void like(void **state)
{
    (void)state;
    kith_error err;
    float *x = test_vectors(N, DIM, CLUSTERS, test_seed());
    kith_collection *c = test_collection("like.kith", DIM, KITH_L2SQ);
    put_rows(c, 0, N, x, 0);
    for (int folded = 0; folded < 2; folded++) {
        for (int64_t key = 1; key <= 8; key++) {
            int64_t keys[10];
            float distances[10];
            kith_collection_query query;
            kith_collection_query_init(&query);
            query.expression = "n in [0, 1, 2, 3, 4]";
            assert_ok(kith_collection_search_like(c, key, &query, keys, distances, NULL, &err), &err);
            size_t n = 0;
            while (n < 10 && keys[n]) assert_true(keys[n] != key && keys[n++] <= 5);
            assert_int_equal(n, key <= 5 ? 4 : 5);
        }
        fold(c, "IVF200,Flat");
    }
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.expression = "n in";
    int64_t keys[10];
    float distances[10];
    assert_int_equal(kith_collection_search(c, 1, DIM, x, &query, keys, distances, NULL, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "at byte 4"));
    kith_collection_close(c);
    free(x);
}

int main(void)
{
    test_folder_in_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_all_there_are),
        cmocka_unit_test(plans),
        cmocka_unit_test(like),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
