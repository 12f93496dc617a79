/* The k-NN graph, and the families that begin with it. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/knng.h>

#include "index/knn_graph.h"

static kith_error err;

enum { K = 10, DIM = 16 };

static float distance(kith_metric metric, const float *a, const float *b)
{
    return ki_distance(ki_kernels_get(), metric, a, b, DIM);
}

static ki_near *graph_of(const float *x, size_t n, const ki_knn_options *options, size_t threads)
{
    kith_run run;
    kith_run_init(&run);
    if (threads > 0) assert_ok(kith_pool_create(threads, NULL, &run.pool, &err), &err);
    ki_input input = {.x = x, .n = n, .dim = DIM, .kernels = ki_kernels_get()};
    ki_near *near = malloc((n * options->k + 1) * sizeof *near);
    assert_ok(ki_knn_graph(&input, NULL, n, options, NULL, &run, near, NULL, &err), &err);
    kith_pool_free(run.pool);
    return near;
}

static int by_distance(const void *a, const void *b)
{
    const ki_near *x = a, *y = b;
    if (x->dist != y->dist) return x->dist < y->dist ? -1 : 1;
    return x->node < y->node ? -1 : 1;
}

/* The share of the true neighbours of every `step`th row that are listed; and that lists are what they should be. */
static double recall_of(const float *x, size_t n, const ki_knn_options *options, const ki_near *near,
                        size_t step)
{
    size_t k = options->k, right = 0, wanted = 0;
    ki_near *all = malloc(n * sizeof *all);
    for (size_t i = 0; i < n; i += step) {
        const ki_near *list = near + i * k;
        size_t have = n - 1 < k ? n - 1 : k, m = 0;
        for (size_t j = 0; j < n; j++)
            if (j != i)
                all[m++] = (ki_near){distance(options->metric, x + i * DIM, x + j * DIM), (uint32_t)j};
        qsort(all, m, sizeof *all, by_distance);
        for (size_t r = 0; r < have; r++) {
            assert_true(list[r].node < n && list[r].node != i);
            assert_true(list[r].dist == distance(options->metric, x + i * DIM, x + list[r].node * DIM));
            if (r > 0) assert_true(by_distance(&list[r - 1], &list[r]) < 0);
            right += list[r].dist <= all[have - 1].dist;
        }
        for (size_t r = have; r < k; r++)
            assert_true(list[r].node == KI_GRAPH_NONE && list[r].dist == INFINITY);
        wanted += have;
    }
    free(all);
    return (double)right / (double)wanted;
}

/* As many rows as a leaf holds, or fewer, are all compared: the graph is exact. */
static void test_exact_when_small(void **state)
{
    (void)state;
    float *x = test_vectors(300, DIM, 0, 3);
    const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_L1};
    for (size_t m = 0; m < 3; m++)
        for (size_t n = 0; n <= 300; n += n < 12 ? 1 : 72) {
            ki_knn_options options;
            ki_knn_options_init(&options, K, metrics[m], 1);
            ki_near *near = graph_of(x, n, &options, 0);
            if (n > 1) assert_float_equal(recall_of(x, n, &options, near, 7), 1, 1e-9);
            free(near);
        }
    free(x);
}

static void test_recall(void **state)
{
    (void)state;
    enum { N = 6000 };
    float *x = test_vectors(N, DIM, 50, 4);
    const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_L1};
    const double floors[] = {0.97, 0.90, 0.97};
    for (size_t m = 0; m < 3; m++) {
        ki_knn_options options;
        ki_knn_options_init(&options, K, metrics[m], 1);
        options.leaf = 128;
        ki_near *near = graph_of(x, N, &options, 0);
        double recall = recall_of(x, N, &options, near, 41);
        if (recall < floors[m]) fail_msg("%s: recall %.3f", kith_metric_name(metrics[m]), recall);
        for (size_t threads = 2; threads <= 3; threads++) {
            ki_near *again = graph_of(x, N, &options, threads);
            assert_memory_equal(near, again, N * K * sizeof *near);
            free(again);
        }
        free(near);
    }
    free(x);
}

/* What rounds are for: they find what the trees cut apart. */
static void test_rounds(void **state)
{
    (void)state;
    enum { N = 6000 };
    float *x = test_vectors(N, DIM, 0, 5);
    double recall[2];
    for (size_t rounds = 0; rounds < 2; rounds++) {
        ki_knn_options options;
        ki_knn_options_init(&options, K, KITH_L2SQ, 1);
        options.leaf = 64;
        options.trees = 3;
        options.rounds = 3 * rounds;
        ki_near *near = graph_of(x, N, &options, 2);
        recall[rounds] = recall_of(x, N, &options, near, 41);
        free(near);
    }
    assert_true(recall[0] < 0.7);
    if (recall[1] < recall[0] + 0.2) fail_msg("recall %.3f and %.3f", recall[0], recall[1]);
    free(x);
}

/* Rows far from 0: distances are small beside norms. Many equal rows among others. */
static void test_awkward(void **state)
{
    (void)state;
    enum { N = 3000 };
    float *x = test_vectors(N, DIM, 0, 6);
    for (size_t i = 0; i < N * DIM; i++) x[i] += 5000;
    for (size_t i = N / 2; i < N; i++) memcpy(x + i * DIM, x, DIM * sizeof *x);
    ki_knn_options options;
    ki_knn_options_init(&options, K, KITH_L2SQ, 1);
    options.leaf = 128;
    ki_near *near = graph_of(x, N, &options, 2);
    double recall = recall_of(x, N, &options, near, 23);
    if (recall < 0.97) fail_msg("recall %.3f", recall);
    free(near);
    free(x);
}

static void test_fails_cleanly(void **state)
{
    (void)state;
    enum { N = 400 };
    float *x = test_vectors(N, DIM, 0, 7);
    ki_near near[N * K];
    ki_knn_options options;
    ki_knn_options_init(&options, K, KITH_L2SQ, 1);
    options.leaf = 64;
    ki_input input = {.x = x, .n = N, .dim = DIM, .kernels = ki_kernels_get()};
    kith_status status = KITH_NOMEM;
    for (size_t fail = 0; status != KITH_OK; fail++) {
        test_allocator allocator;
        test_allocator_init(&allocator, fail, 0);
        status = ki_knn_graph(&input, NULL, N, &options, &allocator.base, NULL, near, NULL, &err);
        assert_true(status == KITH_OK || status == KITH_NOMEM);
        assert_int_equal(allocator.live, 0);
    }
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.cancel = &cancel;
    kith_cancel_raise(&cancel);
    assert_int_equal(ki_knn_graph(&input, NULL, N, &options, NULL, &run, near, NULL, &err), KITH_CANCELLED);
    free(x);
}

/* Options that the public door refuses, and the smallest leaf that it takes: no place of a row stays empty. */
static void test_public_options(void **state)
{
    (void)state;
    enum { N = 300, FEW = 4 };
    float *x = test_vectors(N, DIM, 0, 8);
    uint64_t ids[N * FEW];
    kith_knng_options options;
    kith_knng_options_init(&options);
    options.trees = 1;
    options.rounds = 0;
    for (options.leaf = FEW + 1; options.leaf < 2 * FEW + 2; options.leaf++)
        assert_int_equal(kith_knng(x, N, DIM, FEW, &options, NULL, ids, NULL, NULL, &err), KITH_INVALID);
    for (size_t n = 2 * FEW + 2; n < N; n += 7) {
        assert_ok(kith_knng(x, n, DIM, FEW, &options, NULL, ids, NULL, NULL, &err), &err);
        for (size_t i = 0; i < n * FEW; i++) assert_true(ids[i] < n);
    }
    kith_knng_options_init(&options);
    static const int metrics[] = {-1, 31, 32, 33, 1000};
    for (size_t m = 0; m < sizeof metrics / sizeof *metrics; m++) {
        options.metric = (kith_metric)metrics[m];
        assert_int_equal(kith_knng(x, N, DIM, FEW, &options, NULL, ids, NULL, NULL, &err), KITH_INVALID);
    }
    options.metric = KITH_HAMMING;
    assert_int_equal(kith_knng(x, N, DIM, FEW, &options, NULL, ids, NULL, NULL, &err), KITH_UNSUPPORTED);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_when_small), cmocka_unit_test(test_recall),
        cmocka_unit_test(test_rounds),           cmocka_unit_test(test_awkward),
        cmocka_unit_test(test_fails_cleanly),    cmocka_unit_test(test_public_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
