/* The bound that spares k-means most of its product must never cost it a nearest centroid. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cluster/kmeans_internal.h"
#include "support.h"

enum { N = 500, K = 256 };

/* `rank` strong directions and a noise of `noise` in all: what real features look like. */
static float *low_rank(size_t n, size_t dim, size_t rank, float noise, float offset, uint64_t seed)
{
    float *x = test_vectors(n, dim, 0, seed), *strong = test_vectors(n, rank, 0, seed + 1);
    float *directions = test_vectors(rank, dim, 0, seed + 2);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dim; d++) {
            double sum = offset + noise * x[i * dim + d];
            for (size_t r = 0; r < rank; r++)
                sum += (double)strong[i * rank + r] * (double)directions[r * dim + d];
            x[i * dim + d] = (float)sum;
        }
    free(strong);
    free(directions);
    return x;
}

static double distance(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) sum += ((double)a[d] - (double)b[d]) * ((double)a[d] - (double)b[d]);
    return sum;
}

/* Every answer against brute force; ties must go to the lower index. */
static void assert_nearest(const float *x, size_t dim, const float *centroids, const double *nearest,
                           const uint32_t *assign, const float *dist)
{
    for (size_t i = 0; i < N; i++) {
        double got = distance(x + i * dim, centroids + assign[i] * dim, dim);
        if (got > nearest[i] * (1 + 1e-5)) fail_msg("point %zu: %.9g, nearest %.9g", i, got, nearest[i]);
        assert_true(fabs((double)dist[i] - got) <= 1e-5 * got);
        for (size_t j = 0; j < assign[i]; j++)
            assert_true(memcmp(centroids + j * dim, centroids + assign[i] * dim, dim * sizeof *x) != 0);
    }
}

/* x[N][dim] against centroids[K][dim]. Returns how many centroids a point cost, when it began at its nearest. */
static double assert_exact(const ki_map *map, const float *x, const float *e, size_t dim,
                           const float *centroids, uint64_t seed)
{
    uint32_t assign[N];
    float dist[N], limit[N];
    double nearest[N];
    ki_filter *filter;
    kith_error err;
    ki_rng rng;
    ki_rng_init(&rng, seed, 3);
    for (size_t i = 0; i < N; i++) {
        nearest[i] = INFINITY;
        for (size_t j = 0; j < K; j++)
            nearest[i] = fmin(nearest[i], distance(x + i * dim, centroids + j * dim, dim));
    }
    assert_ok(ki_filter_create(map, K, &filter, &err), &err);
    assert_ok(ki_filter_set(filter, centroids, &err), &err);
    size_t depth = ki_map_depth(map), looked_at = 0;
    enum { ANYWHERE, GUESS, NEAREST };
    for (int from = ANYWHERE; from <= NEAREST; from++) {
        looked_at = 0;
        for (size_t i = 0; i < N && from == ANYWHERE; i++) assign[i] = (uint32_t)ki_rng_below(&rng, K);
        for (size_t first = 0; first < N; first += 200) {
            size_t n = N - first < 200 ? N - first : 200, looked;
            if (from == GUESS)
                assert_int_equal(ki_filter_guess(filter, e + first * depth, n, assign + first), KITH_OK);
            assert_int_equal(ki_filter_find(filter, x + first * dim, e + first * depth, n, assign + first,
                                            dist + first, limit, &looked),
                             KITH_OK);
            looked_at += looked;
        }
        assert_nearest(x, dim, centroids, nearest, assign, dist);
    }
    ki_filter_free(filter);
    return (double)looked_at / N;
}

static void exact_case(size_t dim, size_t rank, float noise, float offset, double most, uint64_t seed)
{
    float *x = low_rank(N, dim, rank, noise, offset, seed), *centroids = malloc(K * dim * sizeof *centroids);
    ki_map *map;
    kith_error err;
    assert_ok(ki_map_create(x, N, dim, K, seed, NULL, &map, &err), &err);
    assert_non_null(map);
    float *e = malloc(N * ki_map_depth(map) * sizeof *e);
    assert_ok(ki_map_all(map, x, N, NULL, e, &err), &err);
    memcpy(centroids, x, K * dim * sizeof *x);
    memcpy(centroids + 7 * dim, x + 3 * dim, dim * sizeof *x); /* two are equal */
    double cost = assert_exact(map, x, e, dim, centroids, seed);
    if (cost > most * K) fail_msg("%.1f of %d centroids looked at", cost, K);
    /* Means, and one centroid far from all. */
    for (size_t j = 0; j < K; j++)
        for (size_t d = 0; d < dim; d++)
            centroids[j * dim + d] = (x[j * dim + d] + x[(j + 120) * dim + d] + x[(j + 240) * dim + d]) / 3;
    for (size_t d = 0; d < dim; d++) centroids[d] += 100;
    assert_exact(map, x, e, dim, centroids, seed);
    ki_map_free(map);
    free(x);
    free(e);
    free(centroids);
}

static void cases(uint64_t seed)
{
    exact_case(64, 5, 0.1f, 0, 0.3, seed);
    exact_case(128, 20, 0.5f, 0, 0.5, seed);
    exact_case(50, 3, 0, 0, 1, seed);       /* nothing is left beside the directions */
    exact_case(96, 10, 0.3f, 500, 1, seed); /* far from the origin */
    exact_case(160, 30, 0.2f, 3, 0.5, seed);
}

static void test_exact(void **state)
{
    (void)state;
    for (kith_simd level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        if (!kith_simd_has(level)) continue;
        assert_int_equal(kith_simd_use(level, NULL), KITH_OK);
        cases(test_seed() + level);
    }
    kith_simd_use_name("auto", NULL);
}

/* White noise has no directions to prefer, equal points have none at all, small shapes are not worth it. */
static void test_declined(void **state)
{
    (void)state;
    kith_error err;
    ki_map *map;
    float *x = test_vectors(N, 64, 0, test_seed());
    assert_ok(ki_map_create(x, N, 64, K, 1, NULL, &map, &err), &err);
    assert_null(map);
    assert_ok(ki_map_create(x, N, 64, 10, 1, NULL, &map, &err), &err);
    assert_null(map);
    assert_ok(ki_map_create(x, N, 8, K, 1, NULL, &map, &err), &err);
    assert_null(map);
    for (size_t i = 0; i < N * 64; i++) x[i] = 7;
    assert_ok(ki_map_create(x, N, 64, K, 1, NULL, &map, &err), &err);
    assert_null(map);
    ki_map_free(NULL);
    ki_filter_free(NULL);
    free(x);
}

typedef struct history {
    size_t n;
    double objective[100];
} history;

static void remember(void *ctx, size_t number, double objective)
{
    history *h = ctx;
    h->objective[number - 1] = objective;
    h->n = number;
}

/* Iteration by iteration, each against one that begins anew and so guesses where the long one remembers. */
static void test_training(void **state)
{
    (void)state;
    enum { dim = 64, rounds = 12 };
    float *x = low_rank(N, dim, 6, 0.2f, 1, test_seed());
    static float centroids[K * dim], plain[K * dim];
    memcpy(plain, x, sizeof plain);
    history h = {0}, anew = {0};
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.start = x;
    options.max_iterations = rounds;
    options.max_points_per_centroid = 0;
    options.iteration = remember;
    options.iteration_ctx = &h;
    kith_error err;
    kith_kmeans_result result;
    assert_ok(kith_kmeans_train(x, N, dim, K, &options, NULL, centroids, &result, &err), &err);
    options.max_iterations = 1;
    options.start = plain;
    options.iteration_ctx = &anew;
    for (size_t i = 0; i < h.n; i++) {
        assert_ok(kith_kmeans_train(x, N, dim, K, &options, NULL, plain, NULL, &err), &err);
        if (result.splits == 0 && fabs(anew.objective[0] - h.objective[i]) > 1e-6 * h.objective[i])
            fail_msg("iteration %zu: %.12g, anew %.12g", i + 1, h.objective[i], anew.objective[0]);
        if (i > 0) assert_true(h.objective[i] <= h.objective[i - 1] * (1 + 1e-9) || result.splits > 0);
    }

    /* The same bytes with any number of threads. */
    options.start = x;
    options.max_iterations = rounds;
    options.iteration = NULL;
    for (size_t threads = 2; threads <= 3; threads++) {
        kith_run run;
        kith_run_init(&run);
        assert_ok(kith_pool_create(threads, NULL, &run.pool, &err), &err);
        assert_ok(kith_kmeans_train(x, N, dim, K, &options, &run, plain, NULL, &err), &err);
        assert_memory_equal(plain, centroids, sizeof plain);
        kith_pool_free(run.pool);
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_declined),
        cmocka_unit_test(test_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
