/* Sets, the exact join, MinHash: signatures, bands, forest and containment, each against its definition. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/minhash.h>

#include "base/rng.h"
#include "support.h"

/* A random collection of sets; free() both arrays. */
typedef struct sample {
    uint64_t *tokens, *starts;
    kith_sets sets;
} sample;

/* n sets; every second one shares a random part of its tokens with the one before. */
static sample sample_make(size_t n, size_t largest, uint64_t seed)
{
    sample s;
    ki_rng rng;
    ki_rng_init(&rng, seed, 0);
    s.tokens = malloc(n * largest * sizeof *s.tokens);
    s.starts = calloc(n + 1, sizeof *s.starts);
    assert_non_null(s.tokens);
    assert_non_null(s.starts);
    for (size_t i = 0; i < n; i++) {
        uint64_t *to = s.tokens + s.starts[i];
        size_t size = 1 + ki_rng_below(&rng, largest), same = 0;
        if (i % 2) {
            size_t before = (size_t)(s.starts[i] - s.starts[i - 1]);
            same = ki_rng_below(&rng, before + 1);
            if (same > size) same = size;
            memcpy(to, s.tokens + s.starts[i - 1], same * sizeof *to);
        }
        for (size_t t = same; t < size; t++) to[t] = ki_rng_below(&rng, 50 * largest);
        s.starts[i + 1] = s.starts[i] + kith_set_normalise(to, size);
    }
    s.sets = (kith_sets){s.tokens, s.starts, n, NULL};
    return s;
}

static void sample_free(sample *s)
{
    free(s->tokens);
    free(s->starts);
}

static const uint64_t *set_of(const kith_sets *sets, size_t i, size_t *n)
{
    *n = (size_t)(sets->starts[i + 1] - sets->starts[i]);
    return sets->tokens + sets->starts[i];
}

static double jaccard_of(const kith_sets *sets, size_t i, size_t k)
{
    size_t ni, nk;
    const uint64_t *a = set_of(sets, i, &ni), *b = set_of(sets, k, &nk);
    return kith_set_jaccard(a, ni, b, nk);
}

static uint32_t *sign(const kith_sets *sets, size_t hashes)
{
    kith_minhash *minhash;
    kith_error err;
    uint32_t *signatures = malloc(sets->n * hashes * sizeof *signatures);
    assert_non_null(signatures);
    assert_ok(kith_minhash_create(hashes, test_seed(), NULL, &minhash, &err), &err);
    assert_int_equal(kith_minhash_hashes(minhash), hashes);
    assert_ok(kith_minhash_sign_sets(minhash, sets, NULL, signatures, &err), &err);
    kith_minhash_free(minhash);
    return signatures;
}

/* {a,d}, {c}, {b,d,e}, {a,c,d}: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", example 3.6: the similarities
 * that its matrix of sets has. */
static void test_textbook(void **state)
{
    (void)state;
    static const uint64_t tokens[] = {'a', 'd', 'c', 'b', 'd', 'e', 'a', 'c', 'd'},
                          starts[] = {0, 2, 3, 6, 9};
    static const double expected[4][4] = {{1, 0, 1.0 / 4, 2.0 / 3},
                                          {0, 1, 0, 1.0 / 3},
                                          {1.0 / 4, 0, 1, 1.0 / 5},
                                          {2.0 / 3, 1.0 / 3, 1.0 / 5, 1}};
    const kith_sets sets = {tokens, starts, 4, NULL};
    enum { HASHES = 4096 };
    uint32_t *signatures = sign(&sets, HASHES);
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 4; k++) {
            double wanted = expected[i][k], deviation = sqrt(wanted * (1 - wanted) / HASHES);
            assert_true(jaccard_of(&sets, i, k) == wanted);
            double estimate =
                kith_minhash_similarity(signatures + i * HASHES, signatures + k * HASHES, HASHES);
            assert_true(fabs(estimate - wanted) <= 3 * deviation);
        }
    free(signatures);
    /* S1 and S4 are the one pair of the example that is similar: 2 bands of 1 value find it at once. */
    kith_pairs pairs;
    kith_error err;
    assert_ok(kith_sets_join(&sets, 0.5, NULL, NULL, &pairs, &err), &err);
    assert_int_equal(pairs.n, 1);
    assert_int_equal(pairs.items[0].a, 0);
    assert_int_equal(pairs.items[0].b, 3);
    assert_true(pairs.items[0].similarity == 2.0 / 3);
    kith_pairs_clear(&pairs);
}

static void test_sets(void **state)
{
    (void)state;
    uint64_t tokens[] = {9, 3, UINT64_MAX, 3, 0, 9, UINT64_MAX};
    assert_int_equal(kith_set_normalise(tokens, 7), 4);
    static const uint64_t sorted[] = {0, 3, 9, UINT64_MAX};
    assert_memory_equal(tokens, sorted, sizeof sorted);
    assert_int_equal(kith_set_normalise(tokens, 0), 0);
    assert_true(kith_set_jaccard(NULL, 0, NULL, 0) == 1 && kith_set_containment(NULL, 0, sorted, 4) == 1);
    assert_true(kith_set_jaccard(sorted, 4, sorted + 1, 2) == 0.5);
    assert_true(kith_set_containment(sorted + 1, 2, sorted, 4) == 1);
    assert_true(kith_set_containment(sorted, 4, sorted + 1, 2) == 0.5);
}

/* 10,000 pairs of every similarity: within 3 standard errors as often as a normal variable, never far beyond, and
 * without bias. */
static void test_estimates(void **state)
{
    (void)state;
    enum { PAIRS = 10000, HASHES = 128 };
    sample s = sample_make(2 * PAIRS, 300, test_seed());
    uint32_t *signatures = sign(&s.sets, HASHES);
    size_t beyond = 0;
    double bias = 0, worst = 0;
    for (size_t p = 0; p < PAIRS; p++) {
        double exact = jaccard_of(&s.sets, 2 * p, 2 * p + 1);
        double estimate =
            kith_minhash_similarity(signatures + 2 * p * HASHES, signatures + (2 * p + 1) * HASHES, HASHES);
        /* Near 0 and 1 the number of equal values is Poisson: a floor of half a value keeps the measure fair. */
        double deviation = sqrt(exact * (1 - exact) / HASHES) + 0.5 / HASHES,
               z = fabs(estimate - exact) / deviation;
        beyond += z > 3;
        bias += estimate - exact;
        if (z > worst) worst = z;
    }
    print_message("[   INFO ] %zu of %d beyond 3 standard errors, the worst %.2f, mean error %.5f\n", beyond,
                  PAIRS, worst, bias / PAIRS);
    assert_true(beyond <= PAIRS * 4 / 1000); /* a normal variable: 27 */
    assert_true(worst < 6);
    assert_true(fabs(bias / PAIRS) <
                0.003); /* hashes are shared by all pairs, so errors are not independent */
    free(signatures);
    sample_free(&s);
}

static void test_bands(void **state)
{
    (void)state;
    size_t bands, rows;
    kith_error err;
    /* The book's table 3.4 for b = 20, r = 5. */
    static const double table[][2] = {{0.2, 0.006}, {0.3, 0.047}, {0.4, 0.186}, {0.5, 0.470},
                                      {0.6, 0.802}, {0.7, 0.975}, {0.8, 0.9996}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_true(fabs(kith_bands_probability(20, 5, table[i][0]) - table[i][1]) < 6e-4);
    for (double t = 0.05; t <= 1; t += 0.05) {
        assert_ok(kith_bands_choose(128, t, 0.99, &bands, &rows, &err), &err);
        assert_true(bands * rows <= 128 && bands * (rows + 1) + rows >= 128);
        assert_true(rows == 1 || kith_bands_probability(bands, rows, t) >= 0.99);
        if (rows < 128) assert_true(kith_bands_probability(128 / (rows + 1), rows + 1, t) < 0.99);
    }
    assert_int_equal(kith_bands_choose(0, 0.5, 0.99, &bands, &rows, &err), KITH_INVALID);
    assert_int_equal(kith_bands_choose(4097, 0.5, 0.99, &bands, &rows, &err), KITH_INVALID);
    assert_int_equal(kith_bands_choose(128, 0, 0.99, &bands, &rows, &err), KITH_INVALID);
    assert_int_equal(kith_bands_choose(128, NAN, 0.99, &bands, &rows, &err), KITH_INVALID);
    assert_int_equal(kith_bands_choose(128, 0.5, 1, &bands, &rows, &err), KITH_INVALID);
}

/* The join is every pair and no other; the same with threads. */
static void test_join(void **state)
{
    (void)state;
    enum { N = 700 };
    static const double thresholds[] = {0.01, 0.2, 0.5, 2.0 / 3, 0.9, 1};
    sample s = sample_make(N, 40, test_seed() + 1);
    s.starts[N] = s.starts[N - 1]; /* an empty one */
    kith_error err;
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(3, NULL, &run.pool, &err), &err);
    for (size_t t = 0; t < sizeof thresholds / sizeof *thresholds; t++) {
        kith_pairs pairs, again;
        assert_ok(kith_sets_join(&s.sets, thresholds[t], NULL, NULL, &pairs, &err), &err);
        assert_ok(kith_sets_join(&s.sets, thresholds[t], NULL, &run, &again, &err), &err);
        assert_int_equal(pairs.n, again.n);
        size_t at = 0;
        for (size_t i = 0; i < N; i++)
            for (size_t k = i + 1; k < N; k++) {
                double jaccard = jaccard_of(&s.sets, i, k);
                if (jaccard < thresholds[t]) continue;
                assert_true(at < pairs.n && pairs.items[at].a == i && pairs.items[at].b == k);
                assert_true(pairs.items[at].similarity == jaccard && again.items[at].similarity == jaccard);
                assert_true(again.items[at].a == i && again.items[at].b == k);
                at++;
            }
        assert_int_equal(at, pairs.n);
        assert_true(t > 2 || at > 20);
        kith_pairs_clear(&pairs);
        kith_pairs_clear(&again);
    }
    kith_pairs none;
    assert_int_equal(kith_sets_join(&s.sets, 0, NULL, NULL, &none, &err), KITH_INVALID);
    assert_int_equal(kith_sets_join(&s.sets, 1.01, NULL, NULL, &none, &err), KITH_INVALID);
    kith_cancel cancel = {0};
    kith_cancel_raise(&cancel);
    run.cancel = &cancel;
    assert_int_equal(kith_sets_join(&s.sets, 0.5, NULL, &run, &none, &err), KITH_CANCELLED);
    assert_null(none.items);
    kith_pool_free(run.pool);
    sample_free(&s);
}

static double exact_similarity(void *ctx, size_t a, size_t b)
{
    return jaccard_of(ctx, a, b);
}

/* Pairs by bands: exactly those that agree in a band; with the exact similarity as judge nothing false, and about as many
 * as the S-curve says. */
static void test_pairs(void **state)
{
    (void)state;
    enum { N = 3000, HASHES = 128, BANDS = 32, ROWS = 4 };
    sample s = sample_make(N, 200, test_seed() + 2);
    uint32_t *signatures = sign(&s.sets, HASHES);
    kith_error err;
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(2, NULL, &run.pool, &err), &err);
    kith_pairs all, similar;
    assert_ok(kith_minhash_pairs(signatures, N, HASHES, BANDS, ROWS, NULL, NULL, 0, NULL, NULL, &all, &err),
              &err);
    size_t at = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t k = i + 1; k < N; k++) {
            int agree = 0;
            for (size_t b = 0; b < BANDS && !agree; b++)
                agree =
                    !memcmp(signatures + i * HASHES + b * ROWS, signatures + k * HASHES + b * ROWS, ROWS * 4);
            if (!agree) continue;
            assert_true(at < all.n && all.items[at].a == i && all.items[at].b == k);
            at++;
        }
    assert_int_equal(at, all.n);
    assert_ok(kith_minhash_pairs(signatures, N, HASHES, BANDS, ROWS, exact_similarity, &s.sets, 0.4, NULL,
                                 &run, &similar, &err),
              &err);
    double expected = 0;
    size_t there = 0;
    for (size_t i = 0; i + 1 < N; i += 2) {
        double jaccard = jaccard_of(&s.sets, i, i + 1);
        if (jaccard < 0.4) continue;
        there++;
        expected += kith_bands_probability(BANDS, ROWS, jaccard);
    }
    print_message("[   INFO ] %zu pairs of %zu found, expected %.1f\n", similar.n, there, expected);
    assert_true(fabs((double)similar.n - expected) < 5 * sqrt((double)there));
    for (size_t p = 0; p < similar.n; p++)
        assert_true(similar.items[p].similarity ==
                    jaccard_of(&s.sets, similar.items[p].a, similar.items[p].b));
    kith_pairs_clear(&all);
    kith_pairs_clear(&similar);
    assert_int_equal(kith_minhash_pairs(signatures, N, HASHES, 43, 3, NULL, NULL, 0, NULL, NULL, &all, &err),
                     KITH_INVALID);
    kith_pool_free(run.pool);
    free(signatures);
    sample_free(&s);
}

static void test_groups(void **state)
{
    (void)state;
    kith_pair items[] = {{0, 5, 1}, {2, 3, 1}, {3, 7, 1}, {5, 6, 1}, {6, 7, 1}};
    const kith_pairs pairs = {items, 4, NULL}, joined = {items, 5, NULL};
    uint32_t group[8];
    kith_pairs_groups(&pairs, 8, group);
    static const uint32_t expected[] = {0, 1, 2, 2, 4, 0, 0, 2}, one[] = {0, 1, 0, 0, 4, 0, 0, 0};
    assert_memory_equal(group, expected, sizeof group);
    kith_pairs_groups(&joined, 8, group);
    assert_memory_equal(group, one, sizeof group);
}

/* The forest against its definition, added in pieces and with threads. */
static void test_forest(void **state)
{
    (void)state;
    enum { N = 1200, HASHES = 64, BANDS = 12, ROWS = 5 };
    sample s = sample_make(N, 60, test_seed() + 3);
    uint32_t *signatures = sign(&s.sets, HASHES), sizes[N];
    for (size_t i = 0; i < N; i++) sizes[i] = (uint32_t)(s.starts[i + 1] - s.starts[i]);
    kith_minhash_index *index;
    kith_error err;
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(3, NULL, &run.pool, &err), &err);
    assert_ok(kith_minhash_index_create(HASHES, BANDS, ROWS, NULL, &index, &err), &err);
    static const size_t pieces[] = {0, 1, 500, 501, N};
    for (size_t p = 0; p + 1 < sizeof pieces / sizeof *pieces; p++)
        assert_ok(kith_minhash_index_add(index, pieces[p + 1] - pieces[p], signatures + pieces[p] * HASHES,
                                         sizes + pieces[p], p % 2 ? &run : NULL, &err),
                  &err);
    assert_int_equal(kith_minhash_index_count(index), N);
    assert_int_equal(kith_minhash_index_add(index, 1, signatures, NULL, NULL, &err), KITH_INVALID);
    static kith_set_hit hits[N];
    size_t n, k = 7;
    for (size_t q = 0; q < N; q += 13) {
        const uint32_t *own = signatures + q * HASHES;
        size_t depth_of[N], at_depth[ROWS + 1] = {0};
        for (size_t i = 0; i < N; i++) {
            depth_of[i] = 0;
            for (size_t b = 0; b < BANDS; b++) {
                size_t d = 0;
                while (d < ROWS && signatures[i * HASHES + b * ROWS + d] == own[b * ROWS + d]) d++;
                if (d > depth_of[i]) depth_of[i] = d;
            }
            at_depth[depth_of[i]]++;
        }
        assert_ok(kith_minhash_index_near(index, own, 0, hits, N, &n, &err), &err);
        assert_int_equal(n, at_depth[ROWS]);
        assert_true(hits[0].similarity == 1);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(depth_of[hits[i].set], ROWS);
            assert_true((double)hits[i].similarity == (double)(float)kith_minhash_similarity(
                                                          own, signatures + hits[i].set * HASHES, HASHES));
            if (i)
                assert_true(hits[i - 1].similarity > hits[i].similarity ||
                            (hits[i - 1].similarity == hits[i].similarity && hits[i - 1].set < hits[i].set));
        }
        assert_ok(kith_minhash_index_top(index, own, k, k, hits, &n, &err), &err);
        size_t depth = ROWS, reached = at_depth[ROWS];
        while (depth > 1 && reached < k) reached += at_depth[--depth];
        assert_int_equal(n, reached < k ? reached : k);
        for (size_t i = 0; i < n; i++) assert_true(depth_of[hits[i].set] >= depth);
    }
    kith_minhash_index_free(index);
    kith_pool_free(run.pool);
    free(signatures);
    sample_free(&s);
}

/* Queries of 50 tokens inside sets of up to 5,000: Jaccard would not find them. */
static void test_containment(void **state)
{
    (void)state;
    enum { N = 400, HASHES = 256, BANDS = 64, ROWS = 4, QUERY = 50 };
    uint64_t *tokens = malloc(N * 5000 * sizeof *tokens), starts[N + 1] = {0}, query[QUERY];
    uint32_t sizes[N], signature[HASHES];
    assert_non_null(tokens);
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 9);
    for (size_t t = 0; t < QUERY; t++) query[t] = ki_rng_u64(&rng);
    for (size_t i = 0; i < N; i++) {
        size_t size = 100 + ki_rng_below(&rng, i % 2 ? 300 : 1500),
               held = i % 4 < 2 ? 0 : QUERY; /* half hold all of it */
        memcpy(tokens + starts[i], query, held * sizeof *query);
        for (size_t t = held; t < size; t++) tokens[starts[i] + t] = ki_rng_u64(&rng);
        sizes[i] = (uint32_t)kith_set_normalise(tokens + starts[i], size);
        starts[i + 1] = starts[i] + sizes[i];
    }
    const kith_sets sets = {tokens, starts, N, NULL};
    kith_minhash *minhash;
    kith_minhash_index *index;
    kith_error err;
    uint32_t *signatures = malloc(N * HASHES * sizeof *signatures);
    assert_non_null(signatures);
    assert_ok(kith_minhash_create(HASHES, test_seed(), NULL, &minhash, &err), &err);
    assert_ok(kith_minhash_sign_sets(minhash, &sets, NULL, signatures, &err), &err);
    kith_minhash_sign(minhash, query, QUERY, signature);
    assert_ok(kith_minhash_index_create(HASHES, BANDS, ROWS, NULL, &index, &err), &err);
    assert_ok(kith_minhash_index_add(index, N, signatures, sizes, NULL, &err), &err);
    static kith_set_hit hits[N];
    size_t n, right = 0, wrong = 0;
    assert_ok(kith_minhash_index_containing(index, signature, QUERY, 0.9, hits, N, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        right += hits[i].set % 4 >= 2;
        wrong += hits[i].set % 4 < 2;
    }
    print_message("[   INFO ] of %d sets that hold the query %zu are found, and %zu others\n", N / 2, right,
                  wrong);
    assert_true(right >= N / 2 * 9 / 10);
    assert_true(wrong <= N / 20);
    assert_int_equal(kith_minhash_index_containing(index, signature, 0, 0.9, hits, N, &n, &err),
                     KITH_INVALID);
    assert_int_equal(kith_minhash_index_containing(index, signature, QUERY, 0, hits, N, &n, &err),
                     KITH_INVALID);
    kith_minhash_index_free(index);
    kith_minhash_free(minhash);
    free(signatures);
    free(tokens);
}

/* Each allocation fails in turn: KITH_NOMEM, nothing leaks, and what there was still answers. */
static void test_no_memory(void **state)
{
    (void)state;
    enum { N = 60, HASHES = 16 };
    sample s = sample_make(N, 20, test_seed());
    uint32_t *signatures = sign(&s.sets, HASHES);
    kith_error err;
    kith_status status = KITH_NOMEM;
    for (size_t fail = 0; status != KITH_OK; fail++) {
        test_allocator allocator;
        test_allocator_init(&allocator, fail, 0);
        kith_pairs pairs = {0}, more = {0};
        kith_minhash_index *index = NULL;
        kith_set_hit hits[N];
        size_t n;
        status = kith_sets_join(&s.sets, 0.3, &allocator.base, NULL, &pairs, &err);
        if (status == KITH_OK)
            status = kith_minhash_pairs(signatures, N, HASHES, 8, 2, NULL, NULL, 0.3, &allocator.base, NULL,
                                        &more, &err);
        if (status == KITH_OK)
            status = kith_minhash_index_create(HASHES, 8, 2, &allocator.base, &index, &err);
        for (size_t half = 0; status == KITH_OK && half < 2; half++) {
            status =
                kith_minhash_index_add(index, N / 2, signatures + half * N / 2 * HASHES, NULL, NULL, &err);
            assert_int_equal(kith_minhash_index_count(index), (half + (status == KITH_OK)) * N / 2);
        }
        if (status == KITH_OK) status = kith_minhash_index_top(index, signatures, 5, 5, hits, &n, &err);
        if (status != KITH_OK) assert_int_equal(status, KITH_NOMEM);
        kith_minhash_index_free(index);
        kith_pairs_clear(&pairs);
        kith_pairs_clear(&more);
        assert_int_equal(allocator.live, 0);
        assert_true(fail < 200);
    }
    free(signatures);
    sample_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_textbook),  cmocka_unit_test(test_sets),   cmocka_unit_test(test_estimates),
        cmocka_unit_test(test_bands),     cmocka_unit_test(test_join),   cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_groups),    cmocka_unit_test(test_forest), cmocka_unit_test(test_containment),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
