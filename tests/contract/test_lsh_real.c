/* Hash tables and forests on real data: on fashion-mnist PStable (l2), Hyperplane and LSHForest (cosine) must find 0.9 of the
 * 10 nearest while comparing fewer than a tenth of the rows. Flat is the truth. */
#include <stdio.h>
#include <stdlib.h>

#include <kith/dataset.h>

#include "index_cases.h"

enum { K = 10, NQ = 200 };

static kith_error err;
static float *x, *queries;
static size_t n, dim;

static kith_index *build(const char *spec, kith_metric metric, kith_pool *pool)
{
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    kith_run run;
    kith_run_init(&run);
    run.pool = pool;
    assert_ok(kith_index_create(spec, dim, &options, &index, &err), &err);
    assert_ok(kith_index_train(index, x, n, &run, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, n, &run, &err), &err);
    return index;
}

/* The answers of an index; returns the mean of rows scored. */
static double ask(const kith_index *index, const kith_setting *setting, kith_pool *pool, uint64_t *ids,
                  float *dist)
{
    kith_searcher *searcher;
    kith_search_stats stats[NQ];
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = setting;
    options.n_settings = setting != NULL;
    options.pool = pool;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(kith_search(searcher, queries, NQ, K, &options, ids, dist, stats, &err), &err);
    double scored = 0;
    for (size_t q = 0; q < NQ; q++) scored += (double)stats[q].scored / NQ;
    kith_searcher_free(searcher);
    return scored;
}

static void check(const char *spec, kith_metric metric, kith_setting setting)
{
    static uint64_t truth[NQ * K], ids[NQ * K];
    static float far[NQ * K], dist[NQ * K];
    kith_pool *pool;
    assert_ok(kith_pool_create(0, NULL, &pool, &err), &err);
    kith_index *flat = build("Flat", metric, pool), *index = build(spec, metric, pool);
    (void)ask(flat, NULL, pool, truth, far);
    double scored = ask(index, &setting, pool, ids, dist);
    size_t hits = 0;
    for (size_t i = 0; i < NQ * K; i++) hits += dist[i] <= far[i / K * K + K - 1];
    double recall = (double)hits / (NQ * K), share = scored / (double)n;
    fprintf(stderr, "%s, %s=%g: recall@%d %.4f, %.1f %% of the rows scored\n", spec, setting.name,
            setting.value, K, recall, 100 * share);
    if (recall < 0.9 || share >= 0.1) fail_msg("recall 0.9 and 10 %% of the rows were promised");
    kith_index_free(flat);
    kith_index_free(index);
    kith_pool_free(pool);
}

static int begin(void **state)
{
    (void)state;
    const char *path = test_data("fashion-mnist/train_u8.npy");
    if (!path) return 0;
    assert_ok(kith_dataset_load_f32(path, NULL, NULL, &x, &n, &dim, &err), &err);
    size_t nq, qdim;
    path = test_data("fashion-mnist/test_u8.npy");
    assert_non_null(path);
    assert_ok(kith_dataset_load_f32(path, NULL, NULL, &queries, &nq, &qdim, &err), &err);
    return 0;
}

static int end(void **state)
{
    (void)state;
    if (x) kith_dataset_unload(NULL, x);
    if (queries) kith_dataset_unload(NULL, queries);
    return 0;
}

static void test_pstable(void **state)
{
    (void)state;
    if (!x) skip();
    check("PStable16x12,Flat", KITH_L2SQ, (kith_setting){"probes", 40});
}

static void test_hyperplane(void **state)
{
    (void)state;
    if (!x) skip();
    check("Hyperplane32x16,Flat", KITH_COSINE, (kith_setting){"probes", 10});
}

static void test_lshforest(void **state)
{
    (void)state;
    if (!x) skip();
    check("LSHForest16,Flat", KITH_COSINE, (kith_setting){"candidates", 2500});
    check("LSHForest16,Flat", KITH_L2SQ, (kith_setting){"candidates", 2500});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pstable),
        cmocka_unit_test(test_hyperplane),
        cmocka_unit_test(test_lshforest),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
