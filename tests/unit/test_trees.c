/* The exact trees give what Flat gives: the same ids at the same distances, bit for bit, whatever the data. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/dataset.h>
#include <kith/index.h>
#include <kith/simd.h>

#include "base/rng.h"

static kith_error err;

static const char *const exact[] = {"KDTree", "BallTree"};
static const kith_metric metrics[] = {KITH_L2SQ, KITH_COSINE, KITH_L1};

enum { N = 1500, NQ = 24, K = 13, MAX_DIM = 40 };

/* ---- Data that makes trees stumble ---- */

typedef void (*fill_fn)(float *x, size_t n, size_t dim, ki_rng *rng);

static void uniform(float *x, size_t n, size_t dim, ki_rng *rng)
{
    for (size_t i = 0; i < n * dim; i++) x[i] = (float)ki_rng_uniform(rng);
}

/* Small whole numbers: most distances are ties. */
static void grid(float *x, size_t n, size_t dim, ki_rng *rng)
{
    for (size_t i = 0; i < n * dim; i++) x[i] = (float)ki_rng_below(rng, 4);
}

/* A few points, each many times; zeros among them. */
static void copies(float *x, size_t n, size_t dim, ki_rng *rng)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t point = ki_rng_below(rng, 7);
        for (size_t d = 0; d < dim; d++) x[i * dim + d] = (float)(point * (d + 1) % 5);
    }
}

/* Tight clusters far from the origin: differences cancel. */
static void far_clusters(float *x, size_t n, size_t dim, ki_rng *rng)
{
    for (size_t i = 0; i < n; i++) {
        float center = 1000 * (float)(1 + ki_rng_below(rng, 5));
        for (size_t d = 0; d < dim; d++) x[i * dim + d] = center + 1e-3f * (float)ki_rng_gauss(rng);
    }
}

/* Magnitudes from squares that underflow to squares that overflow. */
static void extremes(float *x, size_t n, size_t dim, ki_rng *rng)
{
    for (size_t i = 0; i < n; i++) {
        double scale = pow(10, 80 * ki_rng_uniform(rng) - 42);
        for (size_t d = 0; d < dim; d++) {
            double value = scale * ki_rng_gauss(rng);
            x[i * dim + d] = (float)fmax(-3e38, fmin(3e38, value));
        }
    }
}

/* Two heaps so far apart that distances between them overflow under L1, too, and those within do not. */
static void far_halves(float *x, size_t n, size_t dim, ki_rng *rng)
{
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dim; d++)
            x[i * dim + d] = (i % 2 ? 1.5e38f : -1.5e38f) + 1e36f * (float)ki_rng_gauss(rng);
}

static const struct {
    const char *name;
    fill_fn fill;
} data_sets[] = {{"uniform", uniform},           {"grid", grid},         {"copies", copies},
                 {"far clusters", far_clusters}, {"extremes", extremes}, {"far halves", far_halves}};

/* ---- Two indexes side by side ---- */

typedef struct pair {
    kith_index *flat, *tree;
    char where[96];
} pair;

static kith_index *made(const char *spec, size_t dim, kith_metric metric)
{
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    assert_ok(kith_index_create(spec, dim, &options, &index, &err), &err);
    return index;
}

static pair pair_make(const char *spec, size_t dim, kith_metric metric, const char *data)
{
    pair p = {made("Flat", dim, metric), made(spec, dim, metric), ""};
    snprintf(p.where, sizeof p.where, "%s, %s, %zu dimensions, %s", spec, kith_metric_name(metric), dim,
             data);
    return p;
}

static void pair_free(pair *p)
{
    kith_index_free(p->flat);
    kith_index_free(p->tree);
}

static void pair_add(pair *p, const float *x, size_t n)
{
    assert_ok(kith_index_add(p->flat, x, NULL, n, NULL, &err), &err);
    assert_ok(kith_index_add(p->tree, x, NULL, n, NULL, &err), &err);
}

static void pair_remove(pair *p, const uint64_t *ids, size_t n)
{
    size_t a, b;
    assert_ok(kith_index_remove(p->flat, ids, n, &a, &err), &err);
    assert_ok(kith_index_remove(p->tree, ids, n, &b, &err), &err);
    assert_int_equal(a, b);
}

static void check_same(const pair *p, size_t q, const uint64_t *ids, const float *dist,
                       const uint64_t *tree_ids, const float *tree_dist, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] != tree_ids[i] || memcmp(&dist[i], &tree_dist[i], sizeof *dist) != 0)
            fail_msg("%s: query %zu, result %zu is row %lld at %.9g, in Flat row %lld at %.9g", p->where, q,
                     i, (long long)tree_ids[i], (double)tree_dist[i], (long long)ids[i], (double)dist[i]);
}

/* The k nearest one by one, and everything within the distance of the k-th and of just less. */
static void pair_compare(const pair *p, const float *queries, size_t nq, size_t dim,
                         const kith_filter *filter)
{
    kith_searcher *flat, *tree;
    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = filter;
    assert_ok(kith_searcher_create(p->flat, &flat, &err), &err);
    assert_ok(kith_searcher_create(p->tree, &tree, &err), &err);
    for (size_t q = 0; q < nq; q++) {
        const float *query = queries + q * dim;
        uint64_t ids[K], tree_ids[K];
        float dist[K], tree_dist[K];
        assert_ok(kith_search(flat, query, 1, K, &options, ids, dist, NULL, &err), &err);
        assert_ok(kith_search(tree, query, 1, K, &options, tree_ids, tree_dist, NULL, &err), &err);
        check_same(p, q, ids, dist, tree_ids, tree_dist, K);
        for (int less = 0; less < 2; less++) {
            float radius = isfinite(dist[K - 1]) ? dist[K - 1] : 1;
            if (less) radius = nextafterf(radius, -INFINITY);
            size_t n, tree_n;
            const uint64_t *range, *tree_range;
            const float *range_dist, *tree_range_dist;
            assert_ok(kith_search_range(flat, query, radius, &options, &n, &range, &range_dist, NULL, &err),
                      &err);
            assert_ok(kith_search_range(tree, query, radius, &options, &tree_n, &tree_range, &tree_range_dist,
                                        NULL, &err),
                      &err);
            if (n != tree_n)
                fail_msg("%s: query %zu has %zu rows within %.9g, in Flat %zu", p->where, q, tree_n,
                         (double)radius, n);
            check_same(p, q, range, range_dist, tree_range, tree_range_dist, n);
        }
    }
    kith_searcher_free(flat);
    kith_searcher_free(tree);
}

/* Rows come in several calls, some go, some come again. */
static void life(const char *spec, size_t dim, kith_metric metric, size_t set)
{
    static float x[(N + NQ) * MAX_DIM];
    static uint64_t bits[(N + 63) / 64];
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), dim * 100 + set);
    data_sets[set].fill(x, N + NQ, dim, &rng);
    const float *queries = x + N * dim;
    pair p = pair_make(spec, dim, metric, data_sets[set].name);
    pair_add(&p, x, N / 2);
    pair_compare(&p, queries, NQ, dim, NULL);
    for (size_t i = N / 2; i < N; i += 50) pair_add(&p, x + i * dim, 50);
    pair_compare(&p, queries, NQ, dim, NULL);
    uint64_t gone[N / 3];
    for (size_t i = 0; i < N / 3; i++) gone[i] = 3 * i;
    pair_remove(&p, gone, N / 3);
    pair_compare(&p, queries, NQ / 2, dim, NULL);
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) bits[i] = ki_rng_u64(&rng) & ki_rng_u64(&rng);
    kith_filter filter;
    kith_filter_init(&filter);
    filter.bits = bits;
    filter.n_bits = N;
    pair_compare(&p, queries, NQ / 2, dim, &filter);
    pair_add(&p, x, 350);
    assert_ok(kith_index_check(p.tree, &err), &err);
    pair_compare(&p, x, NQ / 2, dim, NULL); /* queries that are rows */
    pair_free(&p);
}

static void test_equal_to_flat(void **state)
{
    (void)state;
    static const size_t dims[] = {1, 2, 3, 8, 17, MAX_DIM};
    kith_simd best = kith_simd_level();
    for (size_t s = 0; s < 2; s++)
        for (size_t m = 0; m < 3; m++)
            for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
                for (size_t set = 0; set < sizeof data_sets / sizeof *data_sets; set++) {
                    if (d % 2) kith_simd_use(KITH_SIMD_SCALAR, NULL);
                    life(exact[s], dims[d], metrics[m], set);
                    kith_simd_use(best, NULL);
                }
}

/* Real vectors, as many dimensions as they have: the trees lose their speed there, not their truth. */
static void test_equal_on_real_data(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        kith_metric metric;
    } sets[] = {{"fashion-mnist/train_u8.npy", KITH_L2SQ},
                {"words/words_100_f16.npy", KITH_COSINE},
                {"words/words_100_f16.npy", KITH_L1}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        const char *path = test_data(sets[i].path);
        if (!path) skip();
        float *x;
        size_t n, dim;
        assert_ok(kith_dataset_load_f32(path, NULL, NULL, &x, &n, &dim, &err), &err);
        n = n < 20000 ? n : 20000;
        for (size_t s = 0; s < 2; s++) {
            pair p = pair_make(exact[s], dim, sets[i].metric, sets[i].path);
            pair_add(&p, x + 8 * dim, n - 8);
            pair_compare(&p, x, 16, dim, NULL); /* half of them are not in the index */
            pair_free(&p);
        }
        kith_dataset_unload(NULL, x);
    }
}

/* ---- What they are for: few rows are looked at ---- */

static void test_prunes(void **state)
{
    (void)state;
    enum { ROWS = 20000 };
    static float x[ROWS * 3];
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 5);
    uniform(x, ROWS, 3, &rng);
    for (size_t s = 0; s < 2; s++) {
        kith_index *index = made(exact[s], 3, KITH_L2SQ);
        kith_searcher *searcher;
        assert_ok(kith_index_add(index, x, NULL, ROWS, NULL, &err), &err);
        assert_ok(kith_searcher_create(index, &searcher, &err), &err);
        uint64_t ids[10], scored = 0;
        float dist[10];
        kith_search_stats stats;
        for (size_t q = 0; q < 100; q++) {
            assert_ok(kith_search(searcher, x + q * 3, 1, 10, NULL, ids, dist, &stats, &err), &err);
            assert_true(stats.complete);
            scored += stats.scored;
        }
        if (scored > 100 * 400) fail_msg("%s: %llu rows a query", exact[s], (unsigned long long)scored / 100);
        kith_searcher_free(searcher);
        kith_index_free(index);
    }
}

/* max_leaves bounds the work, still fills the answer, and finds more with more. */
static void test_max_leaves(void **state)
{
    (void)state;
    enum { ROWS = 8000, DIM = 24 };
    float *x = test_vectors(ROWS, DIM, 20, test_seed());
    for (size_t s = 0; s < 2; s++) {
        pair p = pair_make(exact[s], DIM, KITH_L2SQ, "clusters");
        pair_add(&p, x, ROWS);
        kith_searcher *flat, *tree;
        assert_ok(kith_searcher_create(p.flat, &flat, &err), &err);
        assert_ok(kith_searcher_create(p.tree, &tree, &err), &err);
        size_t hits[3] = {0};
        static const double leaves[] = {1, 20, 4294967295.0};
        for (size_t q = 0; q < 50; q++) {
            uint64_t truth[10], ids[10];
            float dist[10];
            float query[DIM];
            for (size_t d = 0; d < DIM; d++) query[d] = (x[q * DIM + d] + x[(q + 50) * DIM + d]) / 2;
            assert_ok(kith_search(flat, query, 1, 10, NULL, truth, dist, NULL, &err), &err);
            for (size_t l = 0; l < 3; l++) {
                kith_setting setting = {"max_leaves", leaves[l]};
                kith_search_options options;
                kith_search_options_init(&options);
                options.settings = &setting;
                options.n_settings = 1;
                kith_search_stats stats;
                assert_ok(kith_search(tree, query, 1, 10, &options, ids, dist, &stats, &err), &err);
                assert_int_equal(stats.found, 10);
                if (l < 2) assert_true(stats.scored <= (size_t)leaves[l] * 32);
                for (size_t i = 0; i < 10; i++)
                    for (size_t j = 0; j < 10; j++) hits[l] += ids[i] == truth[j];
            }
        }
        assert_true(hits[0] < hits[1] && hits[1] < hits[2]);
        assert_int_equal(hits[2], 500);
        kith_searcher_free(flat);
        kith_searcher_free(tree);
        pair_free(&p);
    }
    free(x);
}

/* ---- Forests ---- */

static size_t forest_hits(const kith_index *index, const kith_index *flat, const float *queries, size_t dim,
                          const kith_setting *settings, size_t n_settings, uint64_t *scored)
{
    kith_searcher *a, *b;
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = settings;
    options.n_settings = n_settings;
    size_t hits = 0;
    *scored = 0;
    assert_ok(kith_searcher_create(flat, &a, &err), &err);
    assert_ok(kith_searcher_create(index, &b, &err), &err);
    for (size_t q = 0; q < 50; q++) {
        uint64_t truth[10], ids[10];
        float dist[10];
        kith_search_stats stats;
        assert_ok(kith_search(a, queries + q * dim, 1, 10, NULL, truth, dist, NULL, &err), &err);
        assert_ok(kith_search(b, queries + q * dim, 1, 10, &options, ids, dist, &stats, &err), &err);
        assert_int_equal(stats.found, 10);
        *scored += stats.scored;
        for (size_t i = 0; i < 10; i++)
            for (size_t j = 0; j < 10; j++) hits += ids[i] == truth[j];
    }
    kith_searcher_free(a);
    kith_searcher_free(b);
    return hits;
}

/* Both ways to split find most neighbours in a part of the rows; votes leave out rows and few neighbours; rows that come
 * one call after the other, and those left after others went, are found as well. */
static void test_forests(void **state)
{
    (void)state;
    enum { ROWS = 6000, DIM = 32, LATER = 400 };
    static const struct {
        const char *spec, *budget;
        double split, value, votes; /* -1: no such parameter */
        size_t least;               /* of 500 */
    } cases[] = {{"RPForest12", "search_nodes", 0, 4000, 1, 400},
                 {"RPForest12", "search_nodes", 1, 2000, 1, 430},
                 {"RPForest12", "search_nodes", 1, 4000, 2, 430},
                 {"RKDForest4", "max_leaves", -1, 60, -1, 400}};
    float *x = test_vectors(ROWS + 50, DIM, 40, test_seed());
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        pair p = pair_make(cases[c].spec, DIM, KITH_L2SQ, "clusters");
        if (cases[c].split >= 0) assert_ok(kith_index_set(p.tree, "split", cases[c].split, &err), &err);
        pair_add(&p, x, ROWS - LATER);
        for (size_t i = ROWS - LATER; i < ROWS; i += 40) pair_add(&p, x + i * DIM, 40);
        uint64_t gone[500], scored;
        for (size_t i = 0; i < 500; i++) gone[i] = 11 * i;
        pair_remove(&p, gone, 500);
        assert_ok(kith_index_check(p.tree, &err), &err);
        kith_setting settings[2] = {{cases[c].budget, cases[c].value}, {"votes", cases[c].votes}};
        size_t n_settings = cases[c].votes > 0 ? 2 : 1;
        size_t hits = forest_hits(p.tree, p.flat, x + ROWS * DIM, DIM, settings, n_settings, &scored);
        if (hits < cases[c].least || scored > 50 * ROWS / 2)
            fail_msg("%s, split %g, votes %g: %zu of 500 found, %llu rows compared", cases[c].spec,
                     cases[c].split, cases[c].votes, hits, (unsigned long long)scored / 50);
        settings[0].value = 4294967295.0;                  /* no bound: exact */
        settings[1].value = cases[c].split < 0 ? -1 : 200; /* nobody has so many: one is enough then */
        assert_int_equal(forest_hits(p.tree, p.flat, x + ROWS * DIM, DIM, settings, n_settings, &scored),
                         500);
        pair_free(&p);
    }
    free(x);
}

/* Other codecs are refused in words that help. */
static void test_codecs_refused(void **state)
{
    (void)state;
    kith_index *index;
    for (size_t s = 0; s < 2; s++) {
        char spec[32];
        snprintf(spec, sizeof spec, "%s,PQ4", exact[s]);
        assert_int_equal(kith_index_create(spec, 16, NULL, &index, &err), KITH_UNSUPPORTED);
        assert_null(index);
        assert_non_null(strstr(err.message, exact[s]));
        assert_non_null(strstr(err.message, "float32"));
        snprintf(spec, sizeof spec, "%s,Flat", exact[s]);
        assert_ok(kith_index_create(spec, 16, NULL, &index, &err), &err);
        kith_index_free(index);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_to_flat), cmocka_unit_test(test_equal_on_real_data),
        cmocka_unit_test(test_prunes),        cmocka_unit_test(test_max_leaves),
        cmocka_unit_test(test_forests),       cmocka_unit_test(test_codecs_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
