/* Indexes over sets: what the contract suite, whose sets are small, does not see. Similar sets among many are found, by k,
 * by radius and by containment, and by the same distances as kith/minhash.h estimates; fingerprints are those of
 * kith/simhash.h; what is refused is refused by name. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/index.h>
#include <kith/minhash.h>
#include <kith/simhash.h>

#include "base/rng.h"
#include "support.h"

enum { N = 3000, TOKENS = 60, ROOTS = 300, UNIVERSE = 1 << 20 };

static kith_error err;
static uint64_t tokens[N * TOKENS], starts[N + 1];
static float weights[N * TOKENS];
static kith_sets sets = {tokens, starts, N, NULL};

/* Ten variants of each of 300 sets: variant v keeps all but some 4 v percent of the root's tokens. */
static int make_sets(void **state)
{
    (void)state;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 41);
    uint64_t root[TOKENS];
    size_t at = 0;
    for (size_t i = 0; i < N; i++) {
        if (i % 10 == 0)
            for (size_t t = 0; t < TOKENS; t++) root[t] = ki_rng_below(&rng, UNIVERSE);
        memcpy(tokens + at, root, sizeof root);
        for (size_t t = 0; t < TOKENS; t++)
            if (ki_rng_below(&rng, 100) < 4 * (i % 10)) tokens[at + t] = ki_rng_below(&rng, UNIVERSE);
        at += kith_set_normalise(tokens + at, TOKENS - i % 7); /* sizes differ */
        starts[i + 1] = at;
    }
    for (size_t t = 0; t < at; t++) weights[t] = (float)(1 + ki_rng_below(&rng, 5));
    return 0;
}

static const uint64_t *set_at(size_t i, size_t *n)
{
    *n = (size_t)(starts[i + 1] - starts[i]);
    return tokens + starts[i];
}

static double jaccard(size_t i, size_t j)
{
    size_t n, m;
    const uint64_t *a = set_at(i, &n), *b = set_at(j, &m);
    return kith_set_jaccard(a, n, b, m);
}

static kith_index *index_of(const char *spec, kith_metric metric, size_t dim)
{
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    assert_ok(kith_index_create(spec, dim, &options, &index, &err), &err);
    return index;
}

static kith_sets one(size_t i)
{
    return (kith_sets){tokens, starts + i, 1, NULL};
}

/* ---- MinHash ---- */

static void test_near_sets(void **state)
{
    (void)state;
    kith_index *index = index_of("MinHash128", KITH_JACCARD, 1);
    kith_searcher *searcher;
    kith_minhash *functions;
    kith_search_stats stats;
    uint64_t found[10];
    float dist[10];
    uint32_t a[128], b[128];
    assert_ok(kith_index_add_sets(index, &sets, NULL, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(kith_minhash_create(128, 1, NULL, &functions, &err), &err);
    size_t hits = 0, scored = 0, wanted = 0, near = 0;
    for (size_t q = 0; q < N; q += 10) {
        kith_sets query = one(q);
        size_t n, m;
        assert_ok(kith_search_sets(searcher, &query, 10, NULL, found, dist, &stats, &err), &err);
        assert_int_equal(found[0], q);
        assert_true(dist[0] == 0);
        scored += stats.scored;
        const uint64_t *set = set_at(q, &n);
        kith_minhash_sign(functions, set, n, a);
        for (size_t i = 0; i < 10; i++) {
            hits += found[i] / 10 == q / 10;
            const uint64_t *other = set_at((size_t)found[i], &m);
            kith_minhash_sign(functions, other, m, b);
            assert_true(dist[i] == (float)(1 - kith_minhash_similarity(a, b, 128)));
        }
        const uint64_t *ids;
        const float *dists;
        assert_ok(kith_search_range_sets(searcher, &query, 0.4f, NULL, &n, &ids, &dists, &stats, &err), &err);
        for (size_t i = 0; i < n; i++) assert_true(dists[i] <= 0.4f);
        for (size_t v = 0; v < 10; v++) {
            size_t i = 0;
            if (jaccard(q, q + v) < 0.75) continue; /* clear of the estimate's error */
            while (i < n && ids[i] != q + v) i++;
            wanted++;
            near += i < n;
        }
    }
    kith_minhash_free(functions);
    kith_searcher_free(searcher);
    kith_index_free(index);
    /* nine of ten of the variants are nearer than any stranger; the farthest have a similarity of 0.4 */
    assert_true(hits > 9 * N / 10);
    assert_true(scored < (size_t)(N / 10) * N / 4);
    assert_true(near >= 99 * wanted / 100);
}

/* Rows of up to 400 tokens, of which row i holds the first 20 of set 10 i. */
enum { LARGE = 200, PART = 20, HAYSTACK = 400 };

static kith_index *index_of_large(double threshold)
{
    static uint64_t large[LARGE * HAYSTACK], large_starts[LARGE + 1];
    kith_sets rows = {large, large_starts, LARGE, NULL};
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 43);
    size_t at = 0;
    for (size_t i = 0; i < LARGE; i++) {
        size_t n, size = 40 + ki_rng_below(&rng, HAYSTACK - 40);
        memcpy(large + at, set_at(10 * i, &n), PART * sizeof *large);
        for (size_t t = PART; t < size; t++) large[at + t] = UNIVERSE + ki_rng_below(&rng, UNIVERSE);
        at += kith_set_normalise(large + at, size);
        large_starts[i + 1] = at;
    }
    kith_index *index = index_of("MinHash512", KITH_JACCARD, 1);
    assert_ok(kith_index_set(index, "threshold", threshold, &err), &err);
    assert_ok(kith_index_add_sets(index, &rows, NULL, NULL, &err), &err);
    return index;
}

/* The part of the query that is in a row, whatever else is. */
static void test_containment(void **state)
{
    (void)state;
    kith_index *index = index_of_large(0.1);
    kith_searcher *searcher;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = (kith_setting[]){{"containment", 1}, {"candidates", 1}};
    options.n_settings = 2;
    size_t first = 0, within = 0;
    for (size_t i = 0; i < LARGE; i++) {
        size_t n;
        uint64_t starts_of_one[2] = {0, PART}, id;
        const uint64_t *ids;
        const float *dists;
        float dist;
        kith_sets wanted = {set_at(10 * i, &n), starts_of_one, 1, NULL};
        assert_ok(kith_search_sets(searcher, &wanted, 1, &options, &id, &dist, NULL, &err), &err);
        first += id == i && dist < 0.7f;
        assert_ok(kith_search_range_sets(searcher, &wanted, 0.6f, &options, &n, &ids, &dists, NULL, &err),
                  &err);
        for (size_t j = 0; j < n; j++) within += ids[j] == i;
    }
    kith_searcher_free(searcher);
    kith_index_free(index);
    assert_true(first > 95 * LARGE / 100);
    assert_true(within > 85 * LARGE / 100); /* the estimate of the largest is off by more at times */
}

/* Few and long bands, made for near-copies, do not meet rows that share one value in twenty with the query: all rows
 * whose distance is within the radius are found none the less. */
static void test_containment_of_few_bands(void **state)
{
    (void)state;
    kith_index *index = index_of_large(0.95);
    kith_searcher *searcher;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = (kith_setting[]){{"containment", 1}};
    options.n_settings = 1;
    size_t wanted = 0, found = 0;
    for (size_t i = 0; i < LARGE; i++) {
        size_t n;
        uint64_t starts_of_one[2] = {0, PART};
        const uint64_t *ids;
        const float *dists;
        kith_sets query = {set_at(10 * i, &n), starts_of_one, 1, NULL};
        assert_ok(kith_search_range_sets(searcher, &query, 1, &options, &n, &ids, &dists, NULL, &err), &err);
        assert_int_equal(n, LARGE);
        for (size_t j = 0; j < n; j++) wanted += dists[j] <= 0.6f;
        assert_ok(kith_search_range_sets(searcher, &query, 0.6f, &options, &n, &ids, &dists, NULL, &err),
                  &err);
        found += n;
    }
    kith_searcher_free(searcher);
    kith_index_free(index);
    assert_true(wanted > LARGE / 2);
    assert_true(found <= wanted && found >= 99 * wanted / 100);
}

/* ---- SimHash ---- */

static void test_fingerprints(void **state)
{
    (void)state;
    static uint64_t prints[N * 2];
    kith_sets weighted = sets;
    weighted.weights = weights;
    assert_ok(kith_simhash_sets(128, &weighted, NULL, prints, &err), &err);
    uint64_t single[2];
    size_t m;
    assert_ok(kith_simhash(128, set_at(7, &m), weights + starts[7], starts[8] - starts[7], single, &err),
              &err);
    assert_memory_equal(single, prints + 14, sizeof single);
    kith_index *by_sets = index_of("SimHash128", KITH_HAMMING, 128),
               *by_bits = index_of("BFlat", KITH_HAMMING, 128);
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(by_sets, &info, &err), &err);
    assert_string_equal(info.spec, "SimHash128,BMIH8");
    assert_ok(kith_index_add_sets(by_sets, &weighted, NULL, NULL, &err), &err);
    assert_ok(kith_index_add_bits(by_bits, (const uint8_t *)prints, NULL, N, NULL, &err), &err);
    kith_searcher *a, *b;
    assert_ok(kith_searcher_create(by_sets, &a, &err), &err);
    assert_ok(kith_searcher_create(by_bits, &b, &err), &err);
    for (size_t q = 0; q < N; q += 97) {
        kith_sets query = {tokens, starts + q, 1, weights};
        uint64_t x[5], y[5];
        float dx[5], dy[5];
        uint8_t row[16];
        assert_ok(kith_search_sets(a, &query, 5, NULL, x, dx, NULL, &err), &err);
        assert_ok(kith_search_bits(b, (const uint8_t *)(prints + 2 * q), 1, 5, NULL, y, dy, NULL, &err),
                  &err);
        assert_memory_equal(x, y, sizeof x);
        assert_memory_equal(dx, dy, sizeof dx);
        assert_true(dx[0] == 0);
        assert_ok(kith_index_reconstruct_bits(by_sets, q, row, &err), &err);
        assert_memory_equal(row, prints + 2 * q, sizeof row);
        size_t n, by_index = 0;
        const uint64_t *ids;
        const float *dists;
        assert_ok(kith_search_range_sets(a, &query, 3, NULL, &n, &ids, &dists, NULL, &err), &err);
        for (size_t i = 0; i < N; i++)
            by_index += kith_simhash_distance(prints + 2 * q, prints + 2 * i, 128) <= 3;
        assert_int_equal(n, by_index);
    }
    kith_searcher_free(a);
    kith_searcher_free(b);
    kith_index_free(by_sets);
    kith_index_free(by_bits);
}

/* ---- What is refused ---- */

static void refused_spec(const char *spec, kith_metric metric, size_t dim, kith_status expected,
                         const char *says)
{
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    assert_int_equal(kith_index_create(spec, dim, &options, &index, &err), expected);
    if (!strstr(err.message, says)) fail_msg("\"%s\" does not say \"%s\"", err.message, says);
}

static void test_refused(void **state)
{
    (void)state;
    refused_spec("MinHash128", KITH_JACCARD, 16, KITH_INVALID, "dim is 16");
    refused_spec("MinHash128", KITH_HAMMING, 64, KITH_UNSUPPORTED, "hamming");
    refused_spec("MinHash0", KITH_JACCARD, 1, KITH_INVALID, "1..4096");
    refused_spec("MinHash8,RFlat", KITH_JACCARD, 1, KITH_INVALID, "refinement");
    refused_spec("SimHash64", KITH_HAMMING, 32, KITH_INVALID, "dim is 32");
    refused_spec("SimHash96", KITH_HAMMING, 96, KITH_INVALID, "64 and 128");
    refused_spec("SimHash64,Flat", KITH_HAMMING, 64, KITH_UNSUPPORTED, "Flat");
    refused_spec("SimHash64,BFlat,RFlat", KITH_HAMMING, 64, KITH_INVALID, "exact");
    refused_spec("SimHash64", KITH_JACCARD, 1, KITH_UNSUPPORTED, "jaccard");
    kith_index *index = index_of("MinHash16", KITH_JACCARD, 1),
               *prints = index_of("SimHash64", KITH_HAMMING, 64);
    const uint64_t twice[] = {3, 5, 5}, falling[] = {5, 3, 9}, from[] = {0, 3}, back[] = {3, 0};
    const float not_finite[] = {1, NAN, 1};
    kith_sets bad = {twice, from, 1, NULL};
    assert_int_equal(kith_index_add_sets(index, &bad, NULL, NULL, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "token 2 of set 0"));
    assert_ok(kith_index_add_sets(prints, &bad, NULL, NULL, &err), &err); /* features may repeat */
    bad.tokens = falling;
    assert_int_equal(kith_index_add_sets(index, &bad, NULL, NULL, &err), KITH_INVALID);
    bad.weights = not_finite;
    assert_int_equal(kith_index_add_sets(prints, &bad, NULL, NULL, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "weights[1]"));
    bad = (kith_sets){falling, back, 1, NULL};
    assert_int_equal(kith_index_add_sets(prints, &bad, NULL, NULL, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "set 0"));
    bad = (kith_sets){NULL, from, 1, NULL};
    assert_int_equal(kith_index_add_sets(prints, &bad, NULL, NULL, &err), KITH_INVALID);
    kith_index_free(index);
    kith_index_free(prints);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near_sets),
        cmocka_unit_test(test_containment),
        cmocka_unit_test(test_containment_of_few_bands),
        cmocka_unit_test(test_fingerprints),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make_sets, NULL);
}
