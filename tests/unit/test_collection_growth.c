/* Growth of an index with its rows, memory as a contract, and recall asked for. */
#include "collections.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 16, CENTRES = 40 };

/* Clustered vectors, far from the origin by `shift`. */
static float *clustered(size_t n, unsigned seed, float shift)
{
    float *x = malloc(n * DIM * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        unsigned centre = (unsigned)((i * 7919u) % CENTRES) * 2654435761u + 1;
        for (size_t d = 0; d < DIM; d++) {
            centre = centre * 1664525u + 1013904223u;
            seed = seed * 1664525u + 1013904223u;
            float noise = (float)(seed >> 8) / (1 << 24) - 0.5f;
            x[i * DIM + d] = (float)(centre >> 8) / (1 << 24) * 4 + noise + shift;
        }
    }
    return x;
}

static kith_collection *open_with(const char *path, size_t exact_rows, uint64_t max_bytes)
{
    kith_error err;
    kith_collection *c;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.exact_rows = exact_rows;
    options.max_bytes = max_bytes;
    assert_ok(kith_collection_open(path, &options, &c, &err), &err);
    return c;
}

static kith_collection *make(const char *name, const float *x, size_t n)
{
    kith_collection *c = test_collection(name, DIM, KITH_L2SQ);
    const char *path = test_path(name);
    test_put_rows(c, 1, n, x, DIM);
    kith_collection_close(c);
    return open_with(path, 500, 0);
}

static kith_fold_plan plan_of(kith_collection *c)
{
    kith_error err;
    kith_fold_plan plan = {.struct_size = sizeof plan};
    assert_ok(kith_collection_plan_fold(c, NULL, &plan, &err), &err);
    return plan;
}

static kith_collection_stats stats_of(kith_collection *c)
{
    kith_error err;
    kith_collection_stats stats = {.struct_size = sizeof stats};
    assert_ok(kith_collection_get_stats(c, &stats, &err), &err);
    return stats;
}

/* Put rows again, with other vectors. */
static void replace_rows(kith_collection *c, int64_t first, size_t n, const float *x)
{
    test_put_rows(c, first, n, x, DIM);
}

static void grows(void **state)
{
    (void)state;
    enum { N = 12000 };
    kith_error err;
    float *x = clustered(N, 1, 0);
    kith_collection *c = make("grows.kith", x, 400);
    assert_string_equal(plan_of(c).why, ""); /* too few for an index */
    test_put_rows(c, 401, 1600, x, DIM);
    kith_fold_plan plan = plan_of(c);
    assert_string_equal(plan.why, "no index");
    assert_string_equal(plan.spec, "IVF178,PQ8,RFlat");
    assert_true(plan.anew && plan.peak_bytes > 2000 * DIM * 4);
    assert_ok(kith_collection_fold(c, NULL, &err), &err);
    assert_string_equal(stats_of(c).segment_spec, plan.spec);
    assert_string_equal(plan_of(c).why, "");

    /* A tenth more: folded in, cells stay. */
    test_put_rows(c, 2001, 100, x, DIM);
    assert_string_equal(plan_of(c).why, "");
    test_put_rows(c, 2101, 200, x, DIM);
    plan = plan_of(c);
    assert_string_equal(plan.why, "changes");
    assert_false(plan.anew);
    assert_ok(kith_collection_fold(c, NULL, &err), &err);
    kith_collection_stats stats = stats_of(c);
    assert_string_equal(stats.segment_spec, "IVF178,PQ8,RFlat");
    assert_int_equal(stats.segment_rows, 2300);
    assert_int_equal(stats.uncovered, 0);

    /* Deleted and changed rows are not left in it. */
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int64_t key = 1; key <= 300; key++) assert_ok(kith_collection_delete(c, key, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    replace_rows(c, 301, 20, x);
    assert_ok(kith_collection_fold(c, NULL, &err), &err);
    assert_int_equal(stats_of(c).segment_rows, 2000);
    kith_recall recall = {.struct_size = sizeof recall};
    assert_ok(kith_collection_recall(c, NULL, &recall, &err), &err);
    assert_true(recall.recall >= 0.95);

    /* Five times as many rows have outgrown the cells. */
    test_put_rows(c, 2301, N - 2300, x, DIM);
    plan = plan_of(c);
    assert_string_equal(plan.why, "cells");
    assert_true(plan.anew);
    assert_ok(kith_collection_fold(c, NULL, &err), &err);
    assert_string_equal(stats_of(c).segment_spec, plan.spec);
    assert_string_not_equal(plan.spec, "IVF178,PQ8,RFlat");
    kith_collection_close(c);
    free(x);
}

/* Rows from elsewhere: when a fold finds them far from the centroids it trains anew. */
static void drifts(void **state)
{
    (void)state;
    enum { N = 2000, NEW = 600 };
    kith_error err;
    float *x = clustered(N, 2, 0), *y = clustered(N, 3, 30);
    kith_collection *c = make("drifts.kith", x, N);
    assert_ok(kith_collection_fold(c, NULL, &err), &err);
    double before = stats_of(c).spread_trained;
    assert_true(before > 0);
    assert_true(stats_of(c).spread_now < 1.3 * before);
    replace_rows(c, 1, NEW, y);
    assert_string_equal(plan_of(c).why, "changes");
    assert_ok(kith_collection_fold(c, NULL, &err), &err);
    kith_collection_stats stats = stats_of(c);
    assert_int_equal(stats.segment_rows, N);
    assert_true(stats.spread_now < 1.3 * stats.spread_trained); /* it was trained on both */
    int64_t keys[10];
    float distances[10];
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.nprobe = 1;
    size_t good = 0;
    for (size_t i = 0; i < 20; i++) {
        assert_ok(kith_collection_search(c, 1, DIM, y + i * DIM, &query, keys, distances, NULL, &err), &err);
        good += keys[0] == (int64_t)i + 1;
    }
    assert_int_equal(good, 20);
    kith_collection_close(c);
    free(x);
    free(y);
}

static void search_some(kith_collection *c, const float *x, size_t n)
{
    kith_error err;
    int64_t keys[5];
    float distances[5];
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = 5;
    for (size_t i = 0; i < n; i += n / 7) {
        assert_ok(kith_collection_search(c, 1, DIM, x + i * DIM, &query, keys, distances, NULL, &err), &err);
        assert_true(keys[0] > 0 && distances[0] <= 0.05f); /* some keep a byte a component */
    }
}

/* What a build takes is within what it announced, and not so far below that the number says nothing. */
static void memory_is_a_contract(void **state)
{
    (void)state;
    enum { N = 6000 };
    kith_error err;
    float *x = clustered(N, 4, 0);
    kith_collection *c = make("memory.kith", x, N);
    const char *path = test_path("memory.kith");
    kith_fold_options fold;
    kith_fold_options_init(&fold);
    static const char *const specs[] = {NULL, "IVF64,Flat", "IVF64,SQ8", "PQ8,RFlat", "Flat", "HNSW16,Flat"};
    fold.always = 1;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        kith_fold_plan plan = {.struct_size = sizeof plan};
        fold.spec = specs[i];
        assert_ok(kith_collection_plan_fold(c, &fold, &plan, &err), &err);
        kith_collection_close(c);
        c = open_with(path, 500, plan.peak_bytes + 200000); /* the handle itself, and its list of fields */
        kith_status status = kith_collection_fold(c, &fold, &err);
        if (status != KITH_OK)
            fail_msg("%s within %llu: %s", plan.spec, (unsigned long long)plan.peak_bytes, err.message);
        search_some(c, x, N);
        kith_collection_close(c);
        c = open_with(path, 500, plan.peak_bytes / 8);
        assert_int_equal(kith_collection_fold(c, &fold, &err), KITH_NOMEM);
        if (specs[i]) assert_non_null(strstr(err.message, "max_bytes leaves"));
        kith_collection_close(c);
        c = open_with(path, 500, 0);
    }
    /* Without room for the vectors they are read for each search; what was too large before fits where less is kept. */
    test_collection_remove(test_path("memory.kith.d"));
    kith_collection_close(c);
    c = open_with(path, 500, 1200000);
    search_some(c, x, N);
    kith_collection_query query;
    kith_collection_query_init(&query);
    kith_collection_plan how = {.struct_size = sizeof how};
    query.plan = &how;
    query.k = 1;
    int64_t key;
    float distance;
    assert_ok(kith_collection_search(c, 1, DIM, x, &query, &key, &distance, NULL, &err), &err);
    assert_string_equal(how.method, "scan");
    kith_fold_plan plan = {.struct_size = sizeof plan};
    assert_int_equal(kith_collection_plan_fold(c, NULL, &plan, &err), KITH_NOMEM);
    assert_int_equal(kith_collection_fold(c, NULL, &err), KITH_NOMEM);
    assert_ok(kith_collection_warm(c, &err), &err);
    kith_collection_close(c);
    free(x);
}

static void recall_is_asked_for(void **state)
{
    (void)state;
    enum { N = 6000 };
    kith_error err;
    float *x = clustered(N, 5, 0);
    kith_collection *c = make("tuned.kith", x, N);
    kith_collection_tune_options how;
    kith_collection_tuning tuning = {.struct_size = sizeof tuning};
    kith_collection_query query;
    int64_t keys[10];
    float distances[10];
    kith_collection_tune_options_init(&how);
    how.queries = 300;
    how.target_recall = 0.9;
    kith_collection_query_init(&query);
    query.target_recall = 0.9;
    assert_ok(kith_collection_search(c, 1, DIM, x, &query, keys, distances, NULL, &err),
              &err); /* exact: any */
    assert_int_equal(kith_collection_get_tuning(c, NULL, &tuning, &err), KITH_NOTFOUND);
    static const char *const specs[] = {"IVF200,PQ4,RFlat", "HNSW8,Flat"};
    for (size_t i = 0; i < 2; i++) {
        kith_fold_options fold;
        kith_fold_options_init(&fold);
        fold.spec = specs[i];
        fold.always = 1;
        assert_ok(kith_collection_fold(c, &fold, &err), &err);
        assert_int_equal(kith_collection_search(c, 1, DIM, x, &query, keys, distances, NULL, &err),
                         KITH_UNTRAINED);
        assert_non_null(strstr(err.message, "kith tune"));
        assert_ok(kith_collection_tune(c, &how, &tuning, &err), &err);
        assert_string_equal(tuning.param, i ? "ef" : "nprobe");
        if (tuning.recall < 0.9 || tuning.points < 1 || tuning.value <= 0)
            fail_msg("recall %g, %zu points, value %g, refine_k %g", tuning.recall, tuning.points,
                     tuning.value, tuning.refine_k);
        assert_true((tuning.refine_k > 0) == (i == 0));
        /* Measured again, with other rows: each target is reached, and a higher one by more work. */
        double seen = 0;
        for (int target = 0; target < 3; target++) {
            static const double targets[] = {0.6, 0.9, 0.99};
            kith_recall_options options;
            kith_recall recall = {.struct_size = sizeof recall};
            kith_recall_options_init(&options);
            options.seed = 77;
            options.queries = 300;
            options.target_recall = targets[target];
            assert_ok(kith_collection_recall(c, &options, &recall, &err), &err);
            assert_true(recall.recall >= targets[target] - 0.02);
            assert_true(recall.recall >= seen - 0.005);
            seen = recall.recall;
        }
        /* What is tuned is what searches do that say nothing. */
        uint64_t scored[2];
        for (int given = 0; given < 2; given++) {
            kith_collection_answer answer;
            kith_collection_query plain;
            kith_collection_query_init(&plain);
            plain.target_recall = given ? 0.9 : 0;
            static int64_t many[1000];
            static float far[1000];
            assert_ok(kith_collection_search(c, 100, DIM, x, &plain, many, far, &answer, &err), &err);
            scored[given] = answer.rows_scored;
        }
        assert_true(scored[0] == scored[1]);
    }
    how.target_recall = 1.5;
    assert_int_equal(kith_collection_tune(c, &how, NULL, &err), KITH_INVALID);
    query.target_recall = 2;
    assert_int_equal(kith_collection_search(c, 1, DIM, x, &query, keys, distances, NULL, &err), KITH_INVALID);
    kith_collection_close(c);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows),
        cmocka_unit_test(drifts),
        cmocka_unit_test(memory_is_a_contract),
        cmocka_unit_test(recall_is_asked_for),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
