/* What data does to codecs of short codes: rows far from zero, and rows far from all others. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/index.h>

#include "base/rng.h"
#include "support.h"

enum { N = 3000, NQ = 40, K = 10, DIM = 16, CELLS = 8 };

static kith_error err;

static double distance(const float *a, const float *b)
{
    double sum = 0;
    for (size_t d = 0; d < DIM; d++) sum += pow((double)a[d] - (double)b[d], 2);
    return sum;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* recall@10 of an index over x[N][DIM], all cells probed. */
static double recall(const char *spec, const float *x, const float *queries)
{
    kith_index *index;
    kith_index_options options;
    kith_searcher *searcher;
    kith_search_options search;
    kith_setting probe = {"nprobe", CELLS};
    static uint64_t ids[NQ * K];
    static float dist[NQ * K];
    static double all[N];
    kith_index_options_init(&options);
    options.metric = KITH_L2SQ;
    assert_ok(kith_index_create(spec, DIM, &options, &index, &err), &err);
    assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    kith_search_options_init(&search);
    search.settings = &probe;
    search.n_settings = strstr(spec, "IVF") != NULL;
    assert_ok(kith_search(searcher, queries, NQ, K, &search, ids, dist, NULL, &err), &err);
    size_t good = 0;
    for (size_t q = 0; q < NQ; q++) {
        const float *query = queries + q * DIM;
        for (size_t i = 0; i < N; i++) all[i] = distance(query, x + i * DIM);
        qsort(all, N, sizeof *all, ascending);
        for (size_t i = 0; i < K; i++)
            good += ids[q * K + i] < N && distance(query, x + ids[q * K + i] * DIM) <= all[K - 1];
    }
    kith_searcher_free(searcher);
    kith_index_free(index);
    return (double)good / (NQ * K);
}

/* Codes in cells find as much wherever the zero of the coordinates lies. */
static void test_far_from_zero(void **state)
{
    (void)state;
    const char *specs[] = {"IVF8,PQ8x4fs",     "IVF8,PQ8x4fs,RFlat", "IVF8,PQ8",    "IVF8,PQ8x5",
                           "IVF8,PQ8x6,RFlat", "IVF8,SQ4",           "IVF8,RaBitQ4"};
    const float far[] = {-1000, 10000};
    float *x = test_vectors(N, DIM, 20, test_seed()), *q = test_vectors(N, DIM, 20, test_seed());
    float *moved = malloc(N * DIM * sizeof *moved), *asked = malloc(NQ * DIM * sizeof *asked);
    for (size_t i = 0; i < NQ * DIM; i++) q[i] += (float)(i % 7) / 20; /* near rows, and none of them */
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        double here = recall(specs[s], x, q);
        for (size_t f = 0; f < 2; f++) {
            for (size_t i = 0; i < N * DIM; i++) moved[i] = x[i] + far[f];
            for (size_t i = 0; i < NQ * DIM; i++) asked[i] = q[i] + far[f];
            double there = recall(specs[s], moved, asked);
            if (!(there > here - 0.06))
                fail_msg("%s finds %.3f of the neighbours, and %.3f about %g", specs[s], here, there,
                         (double)far[f]);
        }
    }
    free(x), free(q), free(moved), free(asked);
}

/* One row far from all others costs that row, and not the grid of all. */
static void test_outlier(void **state)
{
    (void)state;
    const char *specs[] = {"SQ8", "SQ4", "IVF8,SQ4"};
    const float times[] = {10, 1000, 1e6f};
    float *x = test_vectors(N, DIM, 20, test_seed()), *q = test_vectors(N, DIM, 20, test_seed());
    float *row = x + 1234 * DIM, was[DIM];
    memcpy(was, row, sizeof was);
    for (size_t i = 0; i < NQ * DIM; i++) q[i] += (float)(i % 7) / 20;
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        memcpy(row, was, sizeof was);
        double without = recall(specs[s], x, q);
        for (size_t t = 0; t < sizeof times / sizeof *times; t++) {
            for (size_t d = 0; d < DIM; d++) row[d] = was[d] * times[t];
            double with = recall(specs[s], x, q);
            if (!(with > without - 0.06))
                fail_msg("%s finds %.3f of the neighbours, and %.3f where a row is %g times as long",
                         specs[s], without, with, (double)times[t]);
        }
    }
    free(x), free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_far_from_zero),
        cmocka_unit_test(test_outlier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
