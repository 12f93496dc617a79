/* What IVF does beyond the contract: queries that end by themselves, and what it tells of its cells. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/tune.h>

#include "support.h"

#define N 6000
#define NQ 60
#define K 10

static kith_error err;

static kith_index *make(const char *spec, size_t dim, kith_metric metric, const float *x, size_t n)
{
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    assert_ok(kith_index_create(spec, dim, &options, &index, &err), &err);
    assert_ok(kith_index_train(index, x, n, NULL, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, n, NULL, &err), &err);
    return index;
}

/* Answers with one setting; returns the rows scored in all. */
static uint64_t answers(const kith_index *index, const float *queries, kith_setting setting, uint64_t *ids,
                        float *dist)
{
    kith_searcher *searcher;
    kith_search_stats stats[NQ];
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = &setting;
    options.n_settings = setting.name != NULL;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(kith_search(searcher, queries, NQ, K, &options, ids, dist, stats, &err), &err);
    kith_searcher_free(searcher);
    uint64_t scored = 0;
    for (size_t q = 0; q < NQ; q++) scored += stats[q].scored;
    return scored;
}

/* `exact` is the answer of a scan, for fewer rows where there are few dimensions; also after rows went and came. */
static void test_exact(void **state)
{
    (void)state;
    static const kith_metric metrics[] = {KITH_L2SQ, KITH_COSINE};
    static const size_t dims[] = {3, 8, 40};
    for (size_t d = 0; d < 3; d++)
        for (size_t m = 0; m < 2; m++) {
            size_t dim = dims[d];
            float *x = test_vectors(N, dim, 40, 1), *q = test_vectors(NQ, dim, 40, 2);
            kith_index *ivf = make("IVF100,Flat", dim, metrics[m], x, N);
            kith_index *flat = make("Flat", dim, metrics[m], x, N);
            static uint64_t ids[NQ * K], truth[NQ * K], gone[500];
            static float dist[NQ * K], true_dist[NQ * K];
            for (int round = 0; round < 2; round++) {
                (void)answers(flat, q, (kith_setting){NULL, 0}, truth, true_dist);
                uint64_t scored = answers(ivf, q, (kith_setting){"exact", 1}, ids, dist);
                assert_memory_equal(ids, truth, sizeof ids);
                if (dim == 3) assert_true(scored < (uint64_t)NQ * N / 4);
                for (size_t i = 0; i < 500; i++) gone[i] = i * 7;
                assert_ok(kith_index_remove(ivf, gone, 500, NULL, &err), &err);
                assert_ok(kith_index_remove(flat, gone, 500, NULL, &err), &err);
            }
            kith_index_free(ivf);
            kith_index_free(flat);
            free(x);
            free(q);
        }
}

/* A longer reach finds more and scores more; a calibrated index sets it. */
static void test_reach(void **state)
{
    (void)state;
    size_t dim = 16;
    float *x = test_vectors(N, dim, 40, 1), *q = test_vectors(NQ, dim, 40, 2),
          *seen = test_vectors(200, dim, 40, 3);
    kith_index *ivf = make("IVF100,Flat", dim, KITH_L2SQ, x, N);
    kith_index *flat = make("Flat", dim, KITH_L2SQ, x, N);
    static uint64_t ids[NQ * K], truth[NQ * K];
    static float dist[NQ * K];
    (void)answers(flat, q, (kith_setting){NULL, 0}, truth, dist);
    static const double reaches[] = {0.05, 0.2, 0.6, 4};
    uint64_t before = 0;
    size_t best = 0;
    for (size_t i = 0; i < 4; i++) {
        size_t hits = 0;
        uint64_t scored = answers(ivf, q, (kith_setting){"reach", reaches[i]}, ids, dist);
        for (size_t j = 0; j < NQ * K; j++)
            for (size_t l = j / K * K; l < j / K * K + K; l++) hits += ids[j] == truth[l];
        assert_true(scored >= before && hits >= best);
        before = scored;
        best = hits;
    }
    assert_int_equal(best, NQ * K);
    assert_string_equal(kith_index_main_param(ivf), "reach");
    assert_ok(kith_index_calibrate(ivf, seen, 200, NULL, NULL, &err), &err);
    uint64_t scored = answers(ivf, q, (kith_setting){"target_recall", 0.9}, ids, dist);
    assert_true(scored < before);
    kith_index_free(ivf);
    kith_index_free(flat);
    free(x);
    free(q);
    free(seen);
}

/* Rows like those trained with have their spread, others a larger one; it survives a file. */
static void test_cells(void **state)
{
    (void)state;
    size_t dim = 16;
    float *x = test_vectors(N, dim, 40, 1);
    kith_cells_info info = {.struct_size = sizeof info}, again = info;
    kith_index *ivf = make("IVF50,PQ4", dim, KITH_L2SQ, x, N), *opened;
    assert_ok(kith_index_get_cells(ivf, &info, &err), &err);
    assert_int_equal(info.cells, 50);
    assert_int_equal(info.rows, N);
    assert_true(info.largest >= N / 50 && info.mean_rows == N / 50.0);
    assert_true(fabs(info.spread_now / info.spread_trained - 1) < 0.2);
    for (size_t i = 0; i < N * dim; i++) x[i] += 20;
    assert_ok(kith_index_add(ivf, x, NULL, N, NULL, &err), &err);
    assert_ok(kith_index_get_cells(ivf, &again, &err), &err);
    assert_true(again.spread_now > 2 * info.spread_now && again.largest > info.largest);
    char path[1024];
    snprintf(path, sizeof path, "%s/cells.kidx", test_folder());
    assert_ok(kith_index_save(ivf, path, NULL, &err), &err);
    assert_ok(kith_index_open(path, KITH_OPEN_MAP, NULL, NULL, &opened, &err), &err);
    assert_ok(kith_index_get_cells(opened, &info, &err), &err);
    assert_memory_equal(&info, &again, sizeof info);
    kith_index_free(opened);
    kith_index_free(ivf);
    kith_index *flat = make("Flat", dim, KITH_L2SQ, x, N);
    assert_int_equal(kith_index_get_cells(flat, &info, &err), KITH_UNSUPPORTED);
    kith_index_free(flat);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_reach),
        cmocka_unit_test(test_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
