/* Recall on real data: fashion-mnist (60,000 x 784, squared L2, ground truth given) and word vectors (52,876 x 100, cosine,
 * Flat is the truth). Flat must find exactly the true neighbours; IVF must stay above floors that it passes with room. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/dataset.h>

#include "index_cases.h"

enum { K = 10, NQ = 200 };

static kith_error err;

static float *load(const char *relative, size_t *n, size_t *dim)
{
    float *rows;
    const char *path = test_data(relative);
    if (!path) skip();
    assert_ok(kith_dataset_load_f32(path, NULL, NULL, &rows, n, dim, &err), &err);
    return rows;
}

/* Build a spec over x and search; returns how many results are at most as far as the true k-th distance. */
static double recall(const char *spec, kith_metric metric, const float *x, size_t n, size_t dim,
                     const float *queries, double nprobe, const double *kth, uint64_t *ids)
{
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(0, NULL, &run.pool, &err), &err);
    assert_ok(kith_index_create(spec, dim, &options, &index, &err), &err);
    if (strstr(spec, "PQ")) assert_ok(kith_index_set(index, "pq_iterations", 6, &err), &err);
    assert_ok(kith_index_train(index, x, n, &run, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, n, &run, &err), &err);
    kith_searcher *searcher;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    kith_setting setting = {"nprobe", nprobe};
    kith_search_options search;
    kith_search_options_init(&search);
    search.settings = &setting;
    search.n_settings = nprobe > 0;
    search.pool = run.pool;
    static float dist[NQ * K];
    assert_ok(kith_search(searcher, queries, NQ, K, &search, ids, dist, NULL, &err), &err);
    size_t hits = 0;
    for (size_t i = 0; kth && i < NQ * K; i++)
        hits +=
            true_distance(metric, queries + i / K * dim, x + ids[i] * dim, dim) <= kth[i / K] * (1 + 1e-9);
    kith_searcher_free(searcher);
    kith_index_free(index);
    kith_pool_free(run.pool);
    return (double)hits / (NQ * K);
}

static void check_floor(const char *spec, double got, double floor)
{
    fprintf(stderr, "%s: recall@%d %.4f, floor %.3f\n", spec, K, got, floor);
    if (got < floor) fail_msg("%s: recall %.4f, the floor is %.3f", spec, got, floor);
}

static void test_fashion_mnist(void **state)
{
    (void)state;
    size_t n, nq, ng, dim, qdim, gdim;
    float *x = load("fashion-mnist/train_u8.npy", &n, &dim);
    float *queries = load("fashion-mnist/test_u8.npy", &nq, &qdim);
    float *truth = load("fashion-mnist/gt100_ids_i32.npy", &ng, &gdim);
    static uint64_t ids[NQ * K];
    double kth[NQ];
    for (size_t q = 0; q < NQ; q++)
        kth[q] = true_distance(KITH_L2SQ, queries + q * dim, x + (size_t)truth[q * gdim + K - 1] * dim, dim);
    check_floor("Flat", recall("Flat", KITH_L2SQ, x, n, dim, queries, 0, kth, ids), 1.0);
    check_floor("IVF128,Flat", recall("IVF128,Flat", KITH_L2SQ, x, n, dim, queries, 8, kth, ids), 0.99);
    check_floor("IVF128,PQ56,RFlat", recall("IVF128,PQ56,RFlat", KITH_L2SQ, x, n, dim, queries, 8, kth, ids),
                0.94);
    kith_dataset_unload(NULL, x);
    kith_dataset_unload(NULL, queries);
    kith_dataset_unload(NULL, truth);
}

static void test_words(void **state)
{
    (void)state;
    size_t n, dim;
    float *x = load("words/words_100_f16.npy", &n, &dim);
    float *queries = malloc(NQ * dim * sizeof *queries);
    static uint64_t ids[NQ * K], found[NQ * K];
    double kth[NQ];
    for (size_t q = 0; q < NQ; q++) memcpy(queries + q * dim, x + q * 263 * dim, dim * sizeof *queries);
    (void)recall("Flat", KITH_COSINE, x, n, dim, queries, 0, NULL, ids);
    for (size_t q = 0; q < NQ; q++)
        kth[q] = true_distance(KITH_COSINE, queries + q * dim, x + ids[q * K + K - 1] * dim, dim) + 1e-7;
    check_floor("IVF256,Flat", recall("IVF256,Flat", KITH_COSINE, x, n, dim, queries, 32, kth, found), 0.98);
    check_floor("IVF256,PQ25", recall("IVF256,PQ25", KITH_COSINE, x, n, dim, queries, 32, kth, found), 0.68);
    check_floor("PQ25,RFlat", recall("PQ25,RFlat", KITH_COSINE, x, n, dim, queries, 0, kth, found), 0.90);
    free(queries);
    kith_dataset_unload(NULL, x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fashion_mnist), cmocka_unit_test(test_words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
