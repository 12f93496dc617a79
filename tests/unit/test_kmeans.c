/* K-means against the textbook, word for word and in float64. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/dataset.h>
#include <kith/kmeans.h>
#include <kith/simd.h>

#include "base/rng.h"
#include "support.h"

/* ---- the textbook ---- */

static double distance(const float *x, const double *c, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) sum += ((double)x[d] - c[d]) * ((double)x[d] - c[d]);
    return sum;
}

/* One assignment; returns the objective. *changed counts the points that moved. */
static double textbook_assign(const float *x, size_t n, size_t dim, const double *c, size_t k,
                              uint32_t *assign, size_t *changed)
{
    double objective = 0;
    *changed = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t best = 0;
        double least = INFINITY;
        for (uint32_t j = 0; j < k; j++) {
            double to = distance(x + i * dim, c + j * dim, dim);
            if (to < least) {
                least = to;
                best = j;
            }
        }
        *changed += assign[i] != best;
        assign[i] = best;
        objective += least;
    }
    return objective;
}

static void textbook_update(const float *x, size_t n, size_t dim, const uint32_t *assign, double *c, size_t k)
{
    double *sum = calloc(k * dim, sizeof *sum);
    size_t *size = calloc(k, sizeof *size);
    for (size_t i = 0; i < n; i++) {
        size[assign[i]]++;
        for (size_t d = 0; d < dim; d++) sum[assign[i] * dim + d] += (double)x[i * dim + d];
    }
    for (size_t j = 0; j < k; j++)
        for (size_t d = 0; d < dim && size[j] > 0; d++) c[j * dim + d] = sum[j * dim + d] / (double)size[j];
    free(sum);
    free(size);
}

/* ---- helpers ---- */

typedef struct history {
    size_t n;
    double objective[200];
} history;

static void remember(void *ctx, size_t number, double objective)
{
    history *h = ctx;
    assert_int_equal(number, h->n + 1);
    assert_true(h->n < 200);
    h->objective[h->n++] = objective;
}

static void assert_falling(const history *h)
{
    for (size_t i = 1; i < h->n; i++)
        if (h->objective[i] > h->objective[i - 1] * (1 + 1e-9))
            fail_msg("iteration %zu: objective %.17g after %.17g", i + 1, h->objective[i],
                     h->objective[i - 1]);
}

static double objective_of(const float *x, size_t n, size_t dim, const float *centroids,
                           const uint32_t *assign)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dim; d++) {
            double difference = (double)x[i * dim + d] - (double)centroids[assign[i] * dim + d];
            sum += difference * difference;
        }
    return sum;
}

static void assert_close(double a, double b, double relative)
{
    if (!(fabs(a - b) <= relative * (fabs(a) + fabs(b)) + 1e-12)) fail_msg("%.17g against %.17g", a, b);
}

/* ---- tests ---- */

/* From the same start both must go the same way, iteration for iteration. */
static void follow_textbook(size_t n, size_t dim, size_t k, uint64_t seed)
{
    float *x = test_vectors(n, dim, dim < 4 ? k : 0, seed);
    double *c = malloc(k * dim * sizeof *c);
    float *centroids = malloc(k * dim * sizeof *centroids);
    uint32_t *expected = malloc(n * sizeof *expected), *assign = malloc(n * sizeof *assign);
    memset(expected, 255, n * sizeof *expected);
    for (size_t i = 0; i < k * dim; i++) c[i] = (double)x[i]; /* the first k points */

    history h = {0};
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.start = x;
    options.max_iterations = 100;
    options.max_points_per_centroid = 0;
    options.iteration = remember;
    options.iteration_ctx = &h;
    kith_kmeans_result result;
    kith_error err;
    assert_ok(kith_kmeans_train(x, n, dim, k, &options, NULL, centroids, &result, &err), &err);
    assert_int_equal(result.iterations, h.n);
    assert_int_equal(result.points_used, n);
    assert_true(result.objective == h.objective[h.n - 1]);

    assert_int_equal(result.splits, 0); /* the textbook knows none */

    size_t changed = n, iterations = 0;
    while (iterations < result.iterations) {
        double objective = textbook_assign(x, n, dim, c, k, expected, &changed);
        assert_close(objective, h.objective[iterations], 1e-5);
        textbook_update(x, n, dim, expected, c, k);
        iterations++;
    }
    assert_falling(&h);
    size_t differ = 0; /* ties within rounding may fall either way */
    assert_ok(kith_kmeans_assign(x, n, dim, centroids, k, NULL, NULL, assign, NULL, &err), &err);
    for (size_t i = 0; i < n; i++) differ += assign[i] != expected[i];
    assert_true(differ <= (result.converged ? n / 500 : n / 10));
    for (size_t i = 0; i < k * dim && result.converged; i++)
        assert_true(fabs((double)centroids[i] - c[i]) <= 1e-4 * (1 + fabs(c[i])));
    free(x);
    free(c);
    free(centroids);
    free(expected);
    free(assign);
}

static void test_textbook(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    const size_t shapes[][3] = {{300, 2, 5},   {1000, 1, 7},   {1500, 3, 16},  {2100, 17, 33},
                                {1030, 64, 9}, {500, 128, 20}, {200, 300, 12}, {64, 5, 1}};
    for (kith_simd level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        if (!kith_simd_has(level)) continue;
        assert_int_equal(kith_simd_use(level, NULL), KITH_OK);
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            follow_textbook(shapes[s][0], shapes[s][1], shapes[s][2], seed + s);
    }
    kith_simd_use_name("auto", NULL);
}

/* Far from the origin |x|^2 - 2 x.c + |c|^2 has hardly a correct digit left in float32. */
static void test_far_from_origin(void **state)
{
    (void)state;
    enum { n = 2000, dim = 16, k = 60 };
    float *x = test_vectors(n, dim, 0, test_seed());
    for (size_t i = 0; i < n * dim; i++) x[i] += 3000;
    double c[k * dim];
    for (size_t i = 0; i < k * dim; i++) c[i] = (double)x[i];
    uint32_t assign[n], expected[n];
    float dist[n];
    double objective = 0;
    size_t changed, differ = 0;
    kith_error err;
    double least = textbook_assign(x, n, dim, c, k, expected, &changed);
    assert_ok(kith_kmeans_assign(x, n, dim, x, k, NULL, NULL, assign, dist, &err), &err);
    for (size_t i = 0; i < n; i++) {
        objective += (double)dist[i];
        differ += assign[i] != expected[i];
    }
    assert_true(differ <= n / 200);
    assert_close(objective, least, 1e-5);

    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    float centroids[k * dim];
    history h = {0};
    options.iteration = remember;
    options.iteration_ctx = &h;
    options.max_iterations = 100;
    assert_ok(kith_kmeans_train(x, n, dim, k, &options, NULL, centroids, NULL, &err), &err);
    assert_falling(&h);
    free(x);
}

static void test_assign(void **state)
{
    (void)state;
    enum { n = 3000, dim = 24, k = 77 };
    float *x = test_vectors(n, dim, 0, test_seed()), *c = test_vectors(k, dim, 0, test_seed() + 1);
    double exact[k * dim];
    for (size_t i = 0; i < k * dim; i++) exact[i] = (double)c[i];
    uint32_t assign[n], expected[n], alone[n];
    float dist[n];
    size_t changed;
    kith_error err;
    textbook_assign(x, n, dim, exact, k, expected, &changed);
    assert_ok(kith_kmeans_assign(x, n, dim, c, k, NULL, NULL, assign, dist, &err), &err);
    assert_ok(kith_kmeans_assign(x, n, dim, c, k, NULL, NULL, alone, NULL, &err), &err);
    assert_memory_equal(assign, alone, sizeof assign);
    for (size_t i = 0; i < n; i++) {
        double got = distance(x + i * dim, exact + assign[i] * dim, dim);
        double best = distance(x + i * dim, exact + expected[i] * dim, dim);
        assert_close(got, best, 1e-5);
        assert_close((double)dist[i], got, 1e-5);
    }
    /* Equal centroids: the lower index. */
    memcpy(c + 40 * dim, c + 3 * dim, dim * sizeof *c);
    assert_ok(kith_kmeans_assign(c, k, dim, c, k, NULL, NULL, assign, dist, &err), &err);
    for (size_t i = 0; i < k; i++) {
        assert_int_equal(assign[i], i == 40 ? 3 : i);
        assert_true(dist[i] == 0);
    }
    assert_ok(kith_kmeans_assign(NULL, 0, dim, c, k, NULL, NULL, assign, NULL, &err), &err);
    free(x);
    free(c);
}

/* Small whole numbers: every distance is exact, ties are many, and all must go to the lower index. */
static void test_ties(void **state)
{
    (void)state;
    enum { n = 4000, dim = 6, k = 90 };
    static float x[n * dim];
    static double c[k * dim];
    uint32_t assign[n], expected[n];
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 11);
    for (size_t i = 0; i < n * dim; i++) x[i] = (float)ki_rng_below(&rng, 32);
    for (size_t i = 0; i < k * dim; i++) c[i] = (double)x[i];
    size_t changed;
    kith_error err;
    textbook_assign(x, n, dim, c, k, expected, &changed);
    for (kith_simd level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        if (kith_simd_use(level, NULL) != KITH_OK) continue;
        assert_ok(kith_kmeans_assign(x, n, dim, x, k, NULL, NULL, assign, NULL, &err), &err);
        assert_memory_equal(assign, expected, sizeof assign);
    }
    kith_simd_use_name("auto", NULL);
}

static void test_threads(void **state)
{
    (void)state;
    enum { n = 20000, dim = 12, k = 150 };
    float *x = test_vectors(n, dim, 40, test_seed());
    static float centroids[3][k * dim];
    kith_kmeans_result result[3];
    memset(result, 0, sizeof result);
    const size_t threads[] = {1, 2, 4};
    kith_error err;
    for (int init = KITH_KMEANS_RANDOM; init <= KITH_KMEANS_PLUSPLUS; init++) {
        for (int t = 0; t < 3; t++) {
            kith_run run;
            kith_run_init(&run);
            assert_ok(kith_pool_create(threads[t], NULL, &run.pool, &err), &err);
            kith_kmeans_options options;
            kith_kmeans_options_init(&options);
            options.init = init;
            options.max_iterations = 8;
            options.max_points_per_centroid = 100;
            options.seed = test_seed();
            assert_ok(kith_kmeans_train(x, n, dim, k, &options, &run, centroids[t], &result[t], &err), &err);
            assert_int_equal(result[t].points_used, 100 * k);
            kith_pool_free(run.pool);
        }
        for (int t = 1; t < 3; t++) {
            assert_memory_equal(centroids[0], centroids[t], sizeof centroids[0]);
            assert_true(result[0].objective == result[t].objective);
        }
    }
    free(x);
}

/* Fifty tight clusters, fifty centroids: k-means++ finds every cluster nearly always, random seeds do not. */
static void test_plusplus(void **state)
{
    (void)state;
    enum { clusters = 50, each = 40, n = clusters * each, dim = 8, trials = 10 };
    float *x = malloc(n * dim * sizeof *x), *centre = test_vectors(clusters, dim, 0, test_seed());
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 7);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dim; d++)
            x[i * dim + d] = 300 * centre[i % clusters * dim + d] + (float)ki_rng_gauss(&rng);
    size_t found[2] = {0, 0};
    for (int init = KITH_KMEANS_RANDOM; init <= KITH_KMEANS_PLUSPLUS; init++)
        for (size_t trial = 0; trial < trials; trial++) {
            float centroids[clusters * dim];
            kith_kmeans_options options;
            kith_kmeans_options_init(&options);
            options.init = init;
            options.seed = test_seed() + trial;
            options.max_iterations = 1;
            kith_kmeans_result result;
            kith_error err;
            assert_ok(kith_kmeans_train(x, n, dim, clusters, &options, NULL, centroids, &result, &err), &err);
            found[init] += result.objective < 5.0 * n * dim; /* one cluster missed costs far more */
        }
    assert_true(found[KITH_KMEANS_PLUSPLUS] >= trials - 2);
    assert_true(found[KITH_KMEANS_RANDOM] <= 2);
    free(x);
    free(centre);
}

/* One seed more after (0, 0 and 1, 3 on a line): the D^2 weights are known, so are the frequencies. */
static void test_plusplus_distribution(void **state)
{
    (void)state;
    const float x[] = {0, 1, 3};
    size_t pair[3][3] = {{0}};
    enum { trials = 3000 };
    for (size_t trial = 0; trial < trials; trial++) {
        float centroids[2];
        kith_kmeans_options options;
        kith_kmeans_options_init(&options);
        options.init = KITH_KMEANS_PLUSPLUS;
        options.seed = test_seed() * 100000 + trial;
        options.max_iterations = 1;
        kith_error err;
        history h = {0};
        options.iteration = remember;
        options.iteration_ctx = &h;
        assert_ok(kith_kmeans_train(x, 3, 1, 2, &options, NULL, centroids, NULL, &err), &err);
        /* The objective at the seeds tells which point is left out: 0 -> 1, 1 -> 1, 3 -> 4. */
        pair[0][0] += h.objective[0] == 4;
        pair[0][1] += h.objective[0] == 1;
    }
    /* P({0,1}) = 1/3 * 1/10 + 1/3 * 1/5 = 0.1; standard deviation over 3,000 trials 0.0055. */
    double left_out_3 = (double)pair[0][0] / trials;
    assert_int_equal(pair[0][0] + pair[0][1], trials);
    assert_true(left_out_3 > 0.08 && left_out_3 < 0.12);
}

/* The batches of the seeding are rejection sampling: after many seeds the distribution must still be D^2. On
 * a line of m clusters of different sizes at equal distances, all must be found. */
static void test_plusplus_many(void **state)
{
    (void)state;
    enum { clusters = 700, n = 4 * clusters };
    float *x = malloc(n * sizeof *x), *centroids = malloc(clusters * sizeof *centroids);
    for (size_t i = 0; i < n; i++) x[i] = (float)(i % clusters) * 10;
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.init = KITH_KMEANS_PLUSPLUS;
    options.max_iterations = 1;
    kith_kmeans_result result;
    kith_error err;
    assert_ok(kith_kmeans_train(x, n, 1, clusters, &options, NULL, centroids, &result, &err), &err);
    assert_true(result.objective == 0); /* D^2 of a taken value is 0: it cannot be drawn twice */
    free(x);
    free(centroids);
}

static void test_empty_clusters(void **state)
{
    (void)state;
    /* All centroids but one start far away: k - 1 empty clusters to fill. */
    enum { n = 4000, dim = 6, k = 32 };
    float *x = test_vectors(n, dim, 0, test_seed());
    float start[k * dim], centroids[k * dim];
    for (size_t i = 0; i < k * dim; i++) start[i] = i < dim ? 0 : 1e4f + (float)i;
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.start = start;
    options.max_iterations = 60;
    options.max_points_per_centroid = 0;
    history h = {0};
    options.iteration = remember;
    options.iteration_ctx = &h;
    kith_kmeans_result result;
    kith_error err;
    assert_ok(kith_kmeans_train(x, n, dim, k, &options, NULL, centroids, &result, &err), &err);
    assert_true(result.splits >= k - 1);
    uint32_t assign[n];
    assert_ok(kith_kmeans_assign(x, n, dim, centroids, k, NULL, NULL, assign, NULL, &err), &err);
    size_t size[k] = {0}, smallest = n;
    for (size_t i = 0; i < n; i++) size[assign[i]]++;
    for (size_t j = 0; j < k; j++) smallest = size[j] < smallest ? size[j] : smallest;
    assert_true(smallest > 0);

    /* As good as from random points, within a few per cent. */
    options.start = NULL;
    options.iteration = NULL;
    kith_kmeans_result usual;
    assert_ok(kith_kmeans_train(x, n, dim, k, &options, NULL, centroids, &usual, &err), &err);
    assert_true(result.objective < 1.05 * usual.objective);
    free(x);
}

static void test_duplicates(void **state)
{
    (void)state;
    enum { n = 500, dim = 5, k = 16 };
    float x[n * dim], centroids[k * dim];
    kith_error err;
    for (int init = KITH_KMEANS_RANDOM; init <= KITH_KMEANS_PLUSPLUS; init++)
        for (size_t distinct = 1; distinct <= 20; distinct += distinct < 4 ? 1 : 8) {
            for (size_t i = 0; i < n * dim; i++)
                x[i] = (float)((i / dim % distinct * 37 + i % dim * 11) % 101) + 0.3f;
            kith_kmeans_options options;
            kith_kmeans_options_init(&options);
            options.init = init;
            options.max_iterations = 50;
            history h = {0};
            options.iteration = remember;
            options.iteration_ctx = &h;
            kith_kmeans_result result;
            assert_ok(kith_kmeans_train(x, n, dim, k, &options, NULL, centroids, &result, &err), &err);
            assert_true(result.converged);
            for (size_t i = 0; i < k * dim; i++) assert_true(isfinite(centroids[i]));
            if (distinct <= k && init == KITH_KMEANS_PLUSPLUS) {
                assert_true(result.objective == 0);
                assert_int_equal(result.splits, 0);
            }
        }
}

static void test_corners(void **state)
{
    (void)state;
    enum { n = 40, dim = 7 };
    float *x = test_vectors(n, dim, 0, test_seed());
    float centroids[n * dim];
    uint32_t assign[n];
    kith_kmeans_result result;
    kith_error err;
    /* k = n: every point its own centroid. */
    assert_ok(kith_kmeans_train(x, n, dim, n, NULL, NULL, centroids, &result, &err), &err);
    assert_true(result.converged && result.objective == 0);
    assert_memory_equal(centroids, x, sizeof centroids);
    /* k = 1: the mean. */
    assert_ok(kith_kmeans_train(x, n, dim, 1, NULL, NULL, centroids, &result, &err), &err);
    for (size_t d = 0; d < dim; d++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)x[i * dim + d];
        assert_close((double)centroids[d], sum / n, 1e-6);
    }
    memset(assign, 0, sizeof assign);
    assert_close(result.objective, objective_of(x, n, dim, centroids, assign), 1e-5);
    /* n = 1. */
    assert_ok(kith_kmeans_train(x, 1, dim, 1, NULL, NULL, centroids, &result, &err), &err);
    assert_memory_equal(centroids, x, dim * sizeof *x);
    free(x);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    float x[8] = {0, 1, 2, 3, 4, 5, 6, 7}, centroids[8];
    uint32_t assign[8];
    kith_error err;
    kith_kmeans_options options;
#define INVALID(call)                             \
    do {                                          \
        assert_int_equal(call, KITH_INVALID);     \
        assert_int_equal(err.code, KITH_INVALID); \
        assert_true(err.message[0] != 0);         \
    } while (0)
    INVALID(kith_kmeans_train(x, 8, 1, 0, NULL, NULL, centroids, NULL, &err));
    INVALID(kith_kmeans_train(x, 8, 1, 9, NULL, NULL, centroids, NULL, &err));
    INVALID(kith_kmeans_train(x, 8, 0, 1, NULL, NULL, centroids, NULL, &err));
    INVALID(kith_kmeans_train(NULL, 8, 1, 1, NULL, NULL, centroids, NULL, &err));
    INVALID(kith_kmeans_train(x, 8, 1, 1, NULL, NULL, NULL, NULL, &err));
    INVALID(kith_kmeans_train(x, SIZE_MAX / 2, 9, 1, NULL, NULL, centroids, NULL, &err));
    kith_kmeans_options_init(&options);
    options.max_iterations = 0;
    INVALID(kith_kmeans_train(x, 8, 1, 2, &options, NULL, centroids, NULL, &err));
    kith_kmeans_options_init(&options);
    options.struct_size = 3;
    INVALID(kith_kmeans_train(x, 8, 1, 2, &options, NULL, centroids, NULL, &err));
    kith_kmeans_options_init(&options);
    options.init = 2;
    INVALID(kith_kmeans_train(x, 8, 1, 2, &options, NULL, centroids, NULL, &err));
    const float start[2] = {1, INFINITY};
    kith_kmeans_options_init(&options);
    options.start = start;
    INVALID(kith_kmeans_train(x, 8, 1, 2, &options, NULL, centroids, NULL, &err));
    INVALID(kith_kmeans_assign(x, 8, 1, start, 2, NULL, NULL, assign, NULL, &err));
    INVALID(kith_kmeans_assign(x, 8, 1, x, 2, NULL, NULL, NULL, NULL, &err));
    x[5] = NAN;
    INVALID(kith_kmeans_train(x, 8, 1, 2, NULL, NULL, centroids, NULL, &err));
    assert_non_null(strstr(err.message, "x[5]"));
    INVALID(kith_kmeans_assign(x, 8, 1, x, 2, NULL, NULL, assign, NULL, &err));
#undef INVALID
}

typedef struct watcher {
    kith_cancel cancel;
    uint64_t last, total;
    size_t calls, stop_after;
} watcher;

static void watch(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    watcher *w = ctx;
    if (strcmp(stage, "training") != 0) return;
    assert_true(done >= w->last && done <= total);
    w->last = done;
    w->total = total;
    if (++w->calls == w->stop_after) kith_cancel_raise(&w->cancel);
}

static void test_progress_and_cancel(void **state)
{
    (void)state;
    enum { n = 5000, dim = 4, k = 10 };
    float *x = test_vectors(n, dim, 0, test_seed()), centroids[k * dim];
    kith_error err;
    for (size_t stop_after = 0; stop_after < 2; stop_after++) {
        watcher w = {.stop_after = stop_after};
        kith_run run;
        kith_run_init(&run);
        run.progress = watch;
        run.progress_ctx = &w;
        run.cancel = &w.cancel;
        kith_status status = kith_kmeans_train(x, n, dim, k, NULL, &run, centroids, NULL, &err);
        assert_int_equal(status, stop_after ? KITH_CANCELLED : KITH_OK);
        if (!stop_after) assert_true(w.total > 0 && w.last == w.total);
    }
    free(x);
}

/* ---- spherical, mini-batch, balanced ---- */

static void scale_rows(float *x, size_t n, size_t dim)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t d = 0; d < dim; d++) sum += (double)x[i * dim + d] * (double)x[i * dim + d];
        for (size_t d = 0; d < dim && sum > 0; d++)
            x[i * dim + d] = (float)((double)x[i * dim + d] / sqrt(sum));
    }
}

/* Unit centroids, each in the direction of the sum of its points once it has converged; the objective falls. */
static void test_spherical(void **state)
{
    (void)state;
    static const size_t dims[] = {3, 20, 60};
    for (size_t t = 0; t < 3; t++) {
        size_t n = 4000, dim = dims[t], k = t == 2 ? 256 : 12;
        float *x = test_vectors(n, dim, 20, t + 5), *c = malloc(k * dim * sizeof *c);
        uint32_t *assign = malloc(n * sizeof *assign);
        scale_rows(x, n, dim);
        memset(x + 7 * dim, 0, dim * sizeof *x); /* a row without a direction */
        history h = {0};
        kith_kmeans_result result;
        kith_error err;
        kith_kmeans_options options;
        kith_kmeans_options_init(&options);
        options.spherical = 1;
        options.max_iterations = 150;
        options.max_points_per_centroid = 0;
        options.iteration = remember;
        options.iteration_ctx = &h;
        assert_ok(kith_kmeans_train(x, n, dim, k, &options, NULL, c, &result, &err), &err);
        assert_true(result.converged);
        assert_falling(&h);
        assert_ok(kith_kmeans_assign(x, n, dim, c, k, NULL, NULL, assign, NULL, &err), &err);
        double *sum = calloc(k * dim, sizeof *sum);
        for (size_t i = 0; i < n; i++) {
            double best = -2, own = 0;
            for (size_t j = 0; j < k; j++) {
                double dot = 0;
                for (size_t d = 0; d < dim; d++) dot += (double)x[i * dim + d] * (double)c[j * dim + d];
                if (dot > best) best = dot;
                if (j == assign[i]) own = dot;
            }
            assert_true(own >= best - 1e-5); /* nearest by L2 is nearest by cosine */
            for (size_t d = 0; d < dim; d++) sum[assign[i] * dim + d] += (double)x[i * dim + d];
        }
        for (size_t j = 0; j < k; j++) {
            double length = 0, own = 0, dot = 0;
            for (size_t d = 0; d < dim; d++) {
                own += (double)c[j * dim + d] * (double)c[j * dim + d];
                length += sum[j * dim + d] * sum[j * dim + d];
                dot += sum[j * dim + d] * (double)c[j * dim + d];
            }
            assert_true(fabs(own - 1) < 1e-5);
            if (length > 0.01) assert_true(dot / sqrt(length) > 1 - 1e-5);
        }
        free(sum);
        free(x);
        free(c);
        free(assign);
    }
}

/* The objective of all points. */
static double judge(const float *x, size_t n, size_t dim, const float *c, size_t k, size_t *largest)
{
    kith_error err;
    double sum = 0;
    uint32_t *assign = malloc(n * sizeof *assign);
    float *dist = malloc(n * sizeof *dist);
    size_t *size = calloc(k, sizeof *size);
    assert_ok(kith_kmeans_assign(x, n, dim, c, k, NULL, NULL, assign, dist, &err), &err);
    *largest = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)dist[i];
        if (++size[assign[i]] > *largest) *largest = size[assign[i]];
    }
    free(assign);
    free(dist);
    free(size);
    return sum;
}

/* Under AddressSanitizer, where arithmetic takes ten times as long, some of the variants stand for all (KITH_ALL_CASES=1:
 * all). */
static int in_samples(void)
{
#ifdef __SANITIZE_ADDRESS__
    return !test_number("KITH_ALL_CASES", 0);
#else
    return 0;
#endif
}

/* What a set of options makes of some points: with any number of threads the same. */
static double outcome(const float *x, size_t n, size_t dim, size_t k, const kith_kmeans_options *options,
                      kith_kmeans_result *result, size_t *largest)
{
    kith_error err;
    float *c[2] = {malloc(k * dim * sizeof **c), malloc(k * dim * sizeof **c)};
    kith_kmeans_result results[2];
    for (int t = 0; t < 2; t++) {
        kith_run run;
        kith_run_init(&run);
        if (t) assert_ok(kith_pool_create(3, NULL, &run.pool, &err), &err);
        assert_ok(kith_kmeans_train(x, n, dim, k, options, &run, c[t], &results[t], &err), &err);
        kith_pool_free(run.pool);
    }
    assert_memory_equal(c[0], c[1], k * dim * sizeof **c);
    assert_true(results[0].objective == results[1].objective && results[0].largest == results[1].largest);
    double objective = judge(x, n, dim, c[0], k, largest);
    *result = results[0];
    free(c[0]);
    free(c[1]);
    return objective;
}

/* Against Lloyd, on points in heaps of unequal sizes. */
static void test_mini_batch(void **state)
{
    (void)state;
    size_t n = 20000, dim = 24, k = 100, largest;
    float *x = test_vectors(n, dim, 150, 3);
    kith_kmeans_result result;
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.init = KITH_KMEANS_PLUSPLUS;
    options.max_points_per_centroid = 0;
    options.max_iterations = 1;
    double begun = outcome(x, n, dim, k, &options, &result, &largest);
    options.max_iterations = 40;
    double lloyd = outcome(x, n, dim, k, &options, &result, &largest);
    options.mini_batch = 1000;
    double batches = outcome(x, n, dim, k, &options, &result, &largest);
    assert_int_equal(result.iterations, 40);
    assert_int_equal(result.converged, 0);
    assert_true(batches < begun && batches <= 1.04 * lloyd);
    assert_true(fabs(result.objective - batches) < 0.1 * batches); /* told from the last batch */
    options.spherical = 1;
    (void)outcome(x, n, dim, k, &options, &result, &largest);
    options.spherical = 0;
    options.mini_batch = 1; /* one point at a time, and more than there are */
    (void)outcome(x, n, dim, k, &options, &result, &largest);
    options.mini_batch = n + 1;
    options.max_iterations = 10;
    double whole = outcome(x, n, dim, k, &options, &result, &largest);
    assert_true(whole <= 1.1 * lloyd);
    free(x);
}

/* Most points in one heap: without the bound its cells are many times the mean. */
static void test_balanced(void **state)
{
    (void)state;
    const int sampled = in_samples();
    size_t n = 20000, dim = 12, k = 128, largest;
    float *x = test_vectors(n, dim, 40, 4);
    for (size_t i = 0; i < n; i++) {
        float narrow = i % 3 ? 0.02f : 1; /* two thirds lie close together */
        for (size_t d = 0; d < dim; d++) x[i * dim + d] *= narrow;
    }
    kith_kmeans_result result;
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.init = KITH_KMEANS_PLUSPLUS; /* nearly all seeds lie in the wide heap */
    options.max_iterations = 5;
    options.max_points_per_centroid = 0;
    double lloyd = outcome(x, n, dim, k, &options, &result, &largest);
    assert_true(largest > 20 * n / k);
    static const double bounds[] = {4, 2, 1.6};
    for (size_t b = 0; b < 3; b++)
        for (size_t way = 0; way < 3; way++) {
            if (sampled && b != way) continue;
            options.max_cell = bounds[b];
            options.spherical = way == 1;
            options.mini_batch = way == 2 ? 2000 : 0;
            double balanced = outcome(x, n, dim, k, &options, &result, &largest);
            assert_true((double)largest <= bounds[b] * (double)n / (double)k);
            assert_int_equal(largest, result.largest);
            assert_true(result.moved > 0 || way == 1);
            assert_close(balanced, result.objective, 1e-6);
            if (way == 0 && b == 0) assert_true(balanced < 4 * lloyd); /* the wide heap pays for it */
        }
    /* Points that are equal cannot be parted: that is told, and the others are as they should be. */
    options.mini_batch = 0;
    options.spherical = 0;
    options.max_cell = 2;
    for (size_t i = 0; i < n / 4; i++) memcpy(x + i * dim, x, dim * sizeof *x);
    (void)outcome(x, n, dim, k, &options, &result, &largest);
    assert_true(result.largest >= n / 4 && result.largest < n / 4 + 2 * n / k);
    free(x);
}

/* The bound and the objectives on real data. */
static void variants_on(const char *file, size_t n, size_t dim, size_t k)
{
    const char *path = test_data(file);
    if (!path) return;
    size_t largest;
    kith_error err;
    kith_dataset *dataset;
    float *x = malloc(n * dim * sizeof *x);
    assert_ok(kith_dataset_open(path, NULL, &dataset, &err), &err);
    assert_ok(kith_dataset_read_f32(dataset, 0, n, x, &err), &err);
    kith_dataset_close(dataset);
    kith_kmeans_result result;
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.max_iterations = 10;
    options.max_points_per_centroid = 0;
    double lloyd = outcome(x, n, dim, k, &options, &result, &largest);
    assert_true((double)largest > 1.9 * (double)n / (double)k);
    options.max_cell = 1.7;
    double balanced = outcome(x, n, dim, k, &options, &result, &largest);
    assert_true((double)largest <= 1.7 * (double)n / (double)k && balanced < 1.03 * lloyd);
    options.max_cell = 0;
    options.mini_batch = n / 5;
    options.max_iterations = 20;
    assert_true(outcome(x, n, dim, k, &options, &result, &largest) < 1.03 * lloyd);
    free(x);
}

static void test_variants_on_real_data(void **state)
{
    (void)state;
    const int sampled = in_samples();
    if (!test_data("words/words_100_f16.npy") || !test_data("fashion-mnist/train_u8.npy")) skip();
    if (!sampled) variants_on("words/words_100_f16.npy", 20000, 100, 200);
    variants_on("fashion-mnist/train_u8.npy", 5000, 784, 64);
}

static void test_bad_variants(void **state)
{
    (void)state;
    float x[40] = {0}, c[8];
    kith_error err;
    static const double wrong[] = {0.5, -1, 2e6, NAN};
    for (size_t i = 0; i < 4; i++) {
        kith_kmeans_options options;
        kith_kmeans_options_init(&options);
        options.max_cell = wrong[i];
        assert_int_equal(kith_kmeans_train(x, 20, 2, 4, &options, NULL, c, NULL, &err), KITH_INVALID);
        assert_non_null(strstr(err.message, "max_cell"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_textbook),
        cmocka_unit_test(test_far_from_origin),
        cmocka_unit_test(test_assign),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_plusplus),
        cmocka_unit_test(test_plusplus_distribution),
        cmocka_unit_test(test_plusplus_many),
        cmocka_unit_test(test_empty_clusters),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_corners),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_progress_and_cancel),
        cmocka_unit_test(test_spherical),
        cmocka_unit_test(test_mini_batch),
        cmocka_unit_test(test_balanced),
        cmocka_unit_test(test_variants_on_real_data),
        cmocka_unit_test(test_bad_variants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
