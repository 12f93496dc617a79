/* Ways to search beside the plain one: by examples, page by page, in groups, in so much time, cancelled. */
#include "collections.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/run.h"

enum { N = 3000, DIM = 8, K = 10 };

static kith_error err;

#define refuse(call, wanted, word)                                                                \
    do {                                                                                          \
        kith_status status_ = (call);                                                             \
        if (status_ != (wanted) || !strstr(err.message, word))                                    \
            fail_msg("%s: %s: %s", #call, kith_status_name(status_), status_ ? err.message : ""); \
    } while (0)

static kith_collection *rows(const char *name, kith_metric metric, float *x)
{
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 0);
    for (size_t i = 0; i < (size_t)N * DIM; i++) x[i] = (float)ki_rng_below(&rng, 2001) / 100 - 10;
    kith_collection *c = test_collection(name, DIM, metric);
    test_put_rows(c, 1, N, x, DIM);
    return c;
}

static void by_examples(void **state)
{
    (void)state;
    static const int64_t positive[] = {7, 20, 333}, negative[] = {5, 2999};
    static const kith_metric metrics[] = {KITH_L2SQ, KITH_COSINE, KITH_DOT};
    float *x = calloc((size_t)N * DIM, sizeof *x);
    for (size_t m = 0; m < 3; m++) {
        kith_collection *c = rows("examples.kith", metrics[m], x);
        for (size_t n_negative = 0; n_negative < 3; n_negative += 2) {
            float query[DIM] = {0};
            int64_t keys[K], truth[K];
            float distances[K];
            double true_distances[K];
            char *wanted = calloc(N, 1);
            memset(wanted, 1, N);
            for (size_t i = 0; i < 3 + n_negative; i++) {
                int64_t key = i < 3 ? positive[i] : negative[i - 3];
                double length = 0, weight = i < 3 ? (n_negative ? 2.0 : 1.0) / 3 : -0.5;
                for (size_t d = 0; d < DIM; d++) length += pow((double)x[(size_t)(key - 1) * DIM + d], 2);
                if (metrics[m] == KITH_COSINE) weight /= sqrt(length);
                for (size_t d = 0; d < DIM; d++)
                    query[d] += (float)(weight * (double)x[(size_t)(key - 1) * DIM + d]);
                wanted[key - 1] = 0;
            }
            kith_collection_examples e = {positive, 3, negative, n_negative};
            kith_collection_query q;
            kith_collection_query_init(&q);
            q.k = K;
            q.exact = 1;
            assert_ok(kith_collection_search_examples(c, &e, &q, keys, distances, NULL, &err), &err);
            test_brute_force(x, wanted, N, DIM, metrics[m], query, K, truth, true_distances);
            for (size_t i = 0; i < K; i++)
                if (fabs((double)distances[i] - true_distances[i]) > 1e-4 * (1 + fabs(true_distances[i])))
                    fail_msg("rank %zu: %g, expected %g", i, (double)distances[i], true_distances[i]);
            free(wanted);
        }
        kith_collection_examples none = {0}, missing = {(int64_t[]){7, N + 1}, 2, NULL, 0};
        int64_t keys[K];
        float distances[K];
        refuse(kith_collection_search_examples(c, &none, NULL, keys, distances, NULL, &err), KITH_INVALID,
               "positive");
        refuse(kith_collection_search_examples(c, NULL, NULL, keys, distances, NULL, &err), KITH_INVALID,
               "positive");
        refuse(kith_collection_search_examples(c, &missing, NULL, keys, distances, NULL, &err), KITH_NOTFOUND,
               "no row 3001");
        kith_collection_close(c);
    }
    free(x);
}

static void page_by_page(void **state)
{
    (void)state;
    float *x = calloc((size_t)N * DIM, sizeof *x);
    kith_collection *c = rows("pages.kith", KITH_L2SQ, x), *writer;
    assert_ok(kith_collection_open(test_path("pages.kith"), NULL, &writer, &err), &err);
    int64_t whole[5 * K], page[K];
    float distances[5 * K];
    kith_collection_query q;
    for (int filtered = 0; filtered < 2; filtered++) {
        kith_collection_query_init(&q);
        q.expression = filtered ? "n <= 43" : NULL;
        q.k = 5 * K;
        assert_ok(kith_collection_pin(c, &err), &err);
        assert_ok(kith_collection_search(c, 1, DIM, x, &q, whole, distances, NULL, &err), &err);
        /* Written between the pages: the pinned handle does not see it. */
        assert_ok(kith_collection_begin(writer, &err), &err);
        assert_ok(kith_collection_delete(writer, whole[2 + filtered], &err), &err);
        assert_ok(kith_collection_commit(writer, &err), &err);
        q.k = K;
        for (q.offset = 0; q.offset < 5 * K; q.offset += K) {
            assert_ok(kith_collection_search(c, 1, DIM, x, &q, page, distances, NULL, &err), &err);
            assert_memory_equal(page, whole + q.offset, sizeof page);
        }
        q.offset = KITH_COLLECTION_MAX_K;
        refuse(kith_collection_search(c, 1, DIM, x, &q, page, distances, NULL, &err), KITH_INVALID,
               "offset is");
        kith_collection_unpin(c);
    }
    kith_collection_close(writer);
    kith_collection_close(c);
    free(x);
}

/* Groups against plain loops: of the rows in the order of their distance, the first of each of the first values. */
static void in_groups(void **state)
{
    (void)state;
    enum { GROUPS = 5, SIZE = 3, VALUES = 40 };
    float *x = calloc((size_t)N * DIM, sizeof *x);
    kith_collection *c = rows("groups.kith", KITH_L2SQ, x);
    ki_rng rng;
    int value[N];
    ki_rng_init(&rng, test_seed(), 7);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int64_t key = 1; key <= N; key++) {
        char patch[64];
        value[key - 1] = (int)ki_rng_below(&rng, VALUES) - 1; /* -1: none */
        if (value[key - 1] > 30) value[key - 1] = 30;
        snprintf(patch, sizeof patch, value[key - 1] < 0 ? "{\"g\":null}" : "{\"g\":{\"v\":\"%d\"}}",
                 value[key - 1]);
        assert_ok(kith_collection_merge(c, key, patch, 0, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
    int64_t *order = calloc(N, sizeof *order), keys[GROUPS * SIZE], wanted[GROUPS * SIZE];
    double *far = calloc(N, sizeof *far);
    float distances[GROUPS * SIZE];
    kith_collection_answer answer;
    kith_collection_query q;
    kith_collection_query_init(&q);
    q.k = GROUPS;
    for (size_t query = 0; query < 10; query++) {
        int values[GROUPS], sizes[GROUPS] = {0};
        size_t n = 0;
        test_brute_force(x, NULL, N, DIM, KITH_L2SQ, x + query * DIM, N, order, far);
        memset(wanted, 0, sizeof wanted);
        for (size_t i = 0; i < N; i++) {
            size_t group = 0;
            int v = value[order[i] - 1];
            if (v < 0) continue;
            while (group < n && values[group] != v) group++;
            if (group == GROUPS) continue;
            if (group == n) values[n++] = v;
            if (sizes[group] < SIZE) wanted[group * SIZE + (size_t)sizes[group]++] = order[i];
        }
        assert_ok(kith_collection_search_groups(c, DIM, x + query * DIM, "g.v", SIZE, &q, keys, distances,
                                                &answer, &err),
                  &err);
        assert_memory_equal(keys, wanted, sizeof wanted);
        assert_int_equal(answer.complete, 1);
    }
    q.expression = "g.v == \"3\""; /* one group, and no more rows */
    assert_ok(kith_collection_search_groups(c, DIM, x, "g.v", SIZE, &q, keys, distances, &answer, &err),
              &err);
    assert_true(keys[SIZE - 1] != 0 && keys[SIZE] == 0);
    refuse(kith_collection_search_groups(c, DIM, x, "g v", SIZE, &q, keys, distances, NULL, &err),
           KITH_INVALID, "at byte 2");
    refuse(kith_collection_search_groups(c, DIM, x, "g", 2001, &q, keys, distances, NULL, &err), KITH_INVALID,
           "10000");
    kith_collection_close(c);
    free(order);
    free(far);
    free(x);
}

/* Whatever ends a search, the answer is KITH_OK, sorted, and says that it is not complete. */
static void ends_early(void **state)
{
    (void)state;
    float *x = calloc((size_t)N * DIM, sizeof *x);
    kith_collection *c = rows("early.kith", KITH_L2SQ, x);
    int64_t keys[4 * K];
    float distances[4 * K];
    kith_cancel cancel = {1};
    static const char *const filters[] = {NULL, "n > 5", "n < 40"};
    for (int warm = 0; warm < 2; warm++) {
        for (size_t i = 0; i < 3; i++) {
            kith_collection_answer answer;
            kith_collection_query q;
            kith_collection_query_init(&q);
            q.k = K;
            q.expression = filters[i];
            q.cancel = &cancel;
            assert_ok(kith_collection_search(c, 4, DIM, x, &q, keys, distances, &answer, &err), &err);
            if (i == 0) assert_int_equal(answer.complete, 0);
            q.cancel = NULL;
            q.max_microseconds = 1; /* too little for anything */
            q.exact = 1;
            assert_ok(kith_collection_search(c, 4, DIM, x, &q, keys, distances, &answer, &err), &err);
            for (size_t j = 1; j < K; j++) assert_true(!(distances[j] < distances[j - 1]));
            q.max_microseconds = 60000000; /* and enough for all */
            assert_ok(kith_collection_search(c, 4, DIM, x, &q, keys, distances, &answer, &err), &err);
            assert_int_equal(answer.complete, 1);
            for (size_t j = 0; j < 4; j++)
                if (i != 1 || j > 4) assert_int_equal(keys[j * K], (int64_t)j + 1);
            assert_int_not_equal(keys[4 * K - 1], 0);
        }
        if (!warm) assert_ok(kith_collection_warm(c, &err), &err);
    }
    kith_collection_close(c);
    free(x);
}

/* A budget longer than the clock can tell is none. */
static void long_budgets(void **state)
{
    (void)state;
    static const uint64_t budgets[] = {UINT64_MAX, UINT64_MAX / 1000, UINT64_MAX / 1000 + 1};
    float *x = calloc((size_t)N * DIM, sizeof *x);
    kith_collection *c = rows("budgets.kith", KITH_L2SQ, x);
    int64_t keys[K];
    float distances[K];
    kith_collection_answer answer;
    kith_collection_query q;
    for (int warm = 0; warm < 2; warm++) {
        for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
            kith_collection_query_init(&q);
            q.k = K;
            q.max_microseconds = budgets[i];
            assert_ok(kith_collection_search(c, 1, DIM, x, &q, keys, distances, &answer, &err), &err);
            assert_int_equal(answer.complete, 1);
            assert_int_equal(keys[0], 1);
        }
        assert_ok(kith_collection_warm(c, &err), &err);
    }
    kith_collection_close(c);
    free(x);
}

static void put_many(kith_collection *c, size_t n, float from)
{
    assert_ok(kith_collection_begin(c, &err), &err);
    for (size_t i = 0; i < n; i++) {
        float x = from + (float)i;
        kith_row row = {.key = (int64_t)i + 1, .payload = "{\"g\":1}", .vector = &x, .dim = 1};
        assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, NULL, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
}

/* What another handle wrote is followed as long as the budget lets: a search that is short of time says that it is not complete,
 * and the next ones go on until they are. So is a filter that was remembered. */
static void catches_up_in_time(void **state)
{
    (void)state;
    enum { MANY = 12000 };
    static const float origin[1];
    for (int filtered = 0; filtered < 2; filtered++) {
        int64_t key;
        float distance;
        unsigned calls = 0;
        kith_collection_answer answer = {0};
        kith_collection_query q;
        kith_collection *c = test_collection("late.kith", 1, KITH_L2SQ), *reader;
        put_many(c, MANY, 1);
        assert_ok(kith_collection_open(kith_collection_path(c), NULL, &reader, &err), &err);
        kith_collection_query_init(&q);
        q.k = 1;
        if (filtered) q.expression = "g == 1";
        assert_ok(kith_collection_search(reader, 1, 1, origin, &q, &key, &distance, NULL, &err), &err);
        assert_true(key == 1 && distance == 1);
        put_many(c, filtered ? MANY / 25 : MANY, 2);
        q.max_microseconds = 20; /* some of it, and not all */
        do {
            assert_ok(kith_collection_search(reader, 1, 1, origin, &q, &key, &distance, &answer, &err), &err);
            if (calls == 0) assert_int_equal(answer.complete, 0);
            q.max_microseconds += filtered ? q.max_microseconds : 20; /* a filter begins anew */
        } while (!answer.complete && ++calls < MANY);
        assert_true(answer.complete && calls > 1);
        assert_true(key == 1 && distance == 4);
        kith_collection_close(reader);
        kith_collection_close(c);
    }
}

/* Many rows of one group: a search in groups goes deeper and deeper. Its budget is that of the call, not of a round. */
static void groups_end_in_time(void **state)
{
    (void)state;
    enum { MANY = 60000 };
    float *x = calloc(MANY, sizeof *x);
    for (size_t i = 0; i < MANY; i++) x[i] = (float)i;
    kith_collection *c = test_collection("slow_groups.kith", 1, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (size_t i = 0; i < MANY; i++) {
        kith_row row = {.payload = "{\"g\":1}", .vector = &x[i], .dim = 1};
        assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, NULL, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_warm(c, &err), &err);
    int64_t keys[4];
    float distances[4];
    double seconds[2];
    kith_collection_answer answer;
    kith_collection_query q;
    for (int limited = 0; limited < 2; limited++) {
        kith_collection_query_init(&q);
        q.k = 2;
        uint64_t begin = ki_now_ns();
        q.max_microseconds = limited ? (uint64_t)(seconds[0] * 1e6 / 20) + 1 : 0;
        assert_ok(kith_collection_search_groups(c, 1, x, "g", 2, &q, keys, distances, &answer, &err), &err);
        seconds[limited] = (double)(ki_now_ns() - begin) * 1e-9;
        assert_int_equal(answer.complete, !limited);
    }
    assert_int_equal(keys[0], 1);
    if (seconds[1] > seconds[0] / 3) fail_msg("%.4f s of %.4f s", seconds[1], seconds[0]);
    kith_collection_close(c);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_examples),        cmocka_unit_test(page_by_page),
        cmocka_unit_test(in_groups),          cmocka_unit_test(ends_early),
        cmocka_unit_test(long_budgets),       cmocka_unit_test(groups_end_in_time),
        cmocka_unit_test(catches_up_in_time),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
