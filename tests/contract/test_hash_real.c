/* Learned hashes on fashion-mnist: among the 100 nearest codes, ITQ's hold more of the 10 true neighbours than PCAH's and
 * than signs of random projections of the same size do, at 64 and 128 bits; among more of them nearly all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/dataset.h>

#include "index_cases.h"
#include "math/linalg.h"

enum { K = 10, NQ = 1000 };

static kith_error err;

typedef struct set {
    float *x, *queries, *truth;
    size_t n, nq, ng, dim, qdim, gdim;
    kith_run run;
} set;

static void load(const char *relative, float **rows, size_t *n, size_t *dim)
{
    const char *path = test_data(relative);
    if (!path) skip();
    assert_ok(kith_dataset_load_f32(path, NULL, NULL, rows, n, dim, &err), &err);
}

static double recall(const set *s, const char *spec, double refine_k)
{
    kith_index *index;
    kith_searcher *searcher;
    assert_ok(kith_index_create(spec, s->dim, NULL, &index, &err), &err);
    assert_ok(kith_index_train(index, s->x, s->n, &s->run, &err), &err);
    assert_ok(kith_index_add(index, s->x, NULL, s->n, &s->run, &err), &err);
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    kith_setting setting = {"refine_k", refine_k};
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = &setting;
    options.n_settings = refine_k > 0;
    options.pool = s->run.pool;
    static uint64_t ids[NQ * K];
    static float dist[NQ * K];
    assert_ok(kith_search(searcher, s->queries, NQ, K, &options, ids, dist, NULL, &err), &err);
    size_t hits = 0;
    for (size_t q = 0; q < NQ; q++) {
        const float *query = s->queries + q * s->dim;
        size_t last = (size_t)s->truth[q * s->gdim + K - 1];
        double kth = true_distance(KITH_L2SQ, query, s->x + last * s->dim, s->dim);
        for (size_t i = 0; i < K; i++)
            hits += true_distance(KITH_L2SQ, query, s->x + ids[q * K + i] * s->dim, s->dim) <= kth;
    }
    kith_searcher_free(searcher);
    kith_index_free(index);
    double got = (double)hits / (NQ * K);
    fprintf(stderr, "%s: recall@%d %.4f\n", spec, K, got);
    return got;
}

static void test_itq_is_best(void **state)
{
    (void)state;
    if (!ki_linalg_available()) skip();
    set s;
    load("fashion-mnist/train_u8.npy", &s.x, &s.n, &s.dim);
    load("fashion-mnist/test_u8.npy", &s.queries, &s.nq, &s.qdim);
    load("fashion-mnist/gt100_ids_i32.npy", &s.truth, &s.ng, &s.gdim);
    kith_run_init(&s.run);
    assert_ok(kith_pool_create(0, NULL, &s.run.pool, &err), &err);
    static const int bits[] = {64, 128};
    for (size_t b = 0; b < 2; b++) {
        char itq[16], pcah[16], random[16];
        snprintf(itq, sizeof itq, "ITQ%d,RFlat", bits[b]);
        snprintf(pcah, sizeof pcah, "PCAH%d,RFlat", bits[b]);
        snprintf(random, sizeof random, "RH%d,RFlat", bits[b]);
        double best = recall(&s, itq, 10);
        assert_true(best > recall(&s, pcah, 10) + 0.01);
        assert_true(best > recall(&s, random, 10) + 0.05);
    }
    assert_true(recall(&s, "ITQ128,RFlat", 100) > 0.95);
    kith_pool_free(s.run.pool);
    kith_dataset_unload(NULL, s.x);
    kith_dataset_unload(NULL, s.queries);
    kith_dataset_unload(NULL, s.truth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_itq_is_best)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
