/* SimHash against its definition, and the block index against comparing with every fingerprint. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/simhash.h>

#include "base/rng.h"
#include "support.h"

/* Equal weights are no weights, the order of features and a common factor do not matter; a feature that weighs more than
 * all others decides alone. */
static void test_fingerprints(void **state)
{
    (void)state;
    enum { N = 100 };
    uint64_t features[N], reversed[N], a[2], b[2];
    float ones[N], twos[N];
    kith_error err;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 0);
    for (size_t i = 0; i < N; i++) {
        features[i] = ki_rng_u64(&rng);
        reversed[N - 1 - i] = features[i];
        ones[i] = 1;
        twos[i] = 2;
    }
    for (size_t bits = 64; bits <= 128; bits += 64)
        for (size_t n = 0; n <= N; n++) {
            memset(a, 0, sizeof a);
            memset(b, 0, sizeof b);
            assert_ok(kith_simhash(bits, features, NULL, n, a, &err), &err);
            assert_ok(kith_simhash(bits, features, ones, n, b, &err), &err);
            assert_memory_equal(a, b, sizeof a);
            assert_ok(kith_simhash(bits, reversed + N - n, twos, n, b, &err), &err);
            assert_memory_equal(a, b, sizeof a);
        }
    twos[17] = 1000;
    assert_ok(kith_simhash(128, features, twos, N, a, &err), &err);
    assert_ok(kith_simhash(128, features + 17, NULL, 1, b, &err), &err);
    assert_int_equal(kith_simhash_distance(a, b, 128), 0);
    twos[17] = -1000;
    assert_ok(kith_simhash(128, features, twos, N, a, &err), &err);
    assert_int_equal(kith_simhash_distance(a, b, 128), 128);
    twos[3] = NAN;
    assert_int_equal(kith_simhash(64, features, twos, N, a, &err), KITH_INVALID);
    assert_int_equal(kith_simhash(96, features, NULL, N, a, &err), KITH_INVALID);
}

/* The part of the bits that differ is the angle over pi (Charikar 2002, section 3): n common features of 2 n are 60
 * degrees (cosine 1/2), a third of the bits. */
static void test_angle(void **state)
{
    (void)state;
    enum { N = 200, TRIALS = 300 };
    uint64_t features[3 * N], a[2], b[2];
    kith_error err;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 1);
    double sum = 0;
    for (size_t t = 0; t < TRIALS; t++) {
        for (size_t i = 0; i < 3 * N; i++) features[i] = ki_rng_u64(&rng);
        assert_ok(kith_simhash(128, features, NULL, 2 * N, a, &err), &err);
        assert_ok(kith_simhash(128, features + N, NULL, 2 * N, b, &err), &err);
        sum += (double)kith_simhash_distance(a, b, 128) / 128;
    }
    double deviation = sqrt(1.0 / 3 * 2 / 3 / (128.0 * TRIALS));
    assert_true(fabs(sum / TRIALS - 1.0 / 3) < 4 * deviation + 0.01); /* ties of an even number count as 0 */
}

/* Random fingerprints, and near copies of them. */
static uint64_t *prints(size_t n, size_t words, size_t turned, uint64_t seed)
{
    uint64_t *p = malloc(n * words * sizeof *p);
    assert_non_null(p);
    ki_rng rng;
    ki_rng_init(&rng, seed, 0);
    for (size_t i = 0; i < n; i++) {
        for (size_t w = 0; w < words; w++)
            p[i * words + w] = i % 3 ? p[(i - 1) * words + w] : ki_rng_u64(&rng);
        for (size_t t = ki_rng_below(&rng, turned + 1); i % 3 && t > 0; t--) {
            size_t bit = ki_rng_below(&rng, 64 * words);
            p[i * words + bit / 64] ^= (uint64_t)1 << bit % 64;
        }
    }
    return p;
}

static void check_index(size_t n, size_t bits, size_t radius, size_t blocks, kith_run *run)
{
    kith_error err;
    kith_simhash_index *index;
    size_t words = bits / 64, found, at = 0;
    uint64_t *p = prints(n, words, radius + 2, test_seed() + radius);
    uint32_t *rows = malloc(n * sizeof *rows), *distances = malloc(n * sizeof *distances);
    assert_true(rows && distances);
    assert_ok(kith_simhash_index_create(p, n, bits, radius, blocks, NULL, run, &index, &err), &err);
    if (blocks == radius + 1) assert_int_equal(kith_simhash_index_tables(index), blocks);
    for (size_t q = 0; q < n; q += 7)
        for (size_t r = 0; r <= radius; r += 1 + radius / 3) {
            assert_ok(kith_simhash_index_near(index, p + q * words, r, rows, distances, n, &found, &err),
                      &err);
            size_t expected = 0;
            for (size_t i = 0; i < n; i++) {
                size_t distance = kith_simhash_distance(p + q * words, p + i * words, bits);
                if (distance > r) continue;
                assert_true(expected < found && rows[expected] == i && distances[expected] == distance);
                expected++;
            }
            assert_int_equal(expected, found);
        }
    kith_pairs pairs;
    assert_ok(kith_simhash_index_pairs(index, run, &pairs, &err), &err);
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++) {
            size_t distance = kith_simhash_distance(p + i * words, p + k * words, bits);
            if (distance > radius) continue;
            assert_true(at < pairs.n && pairs.items[at].a == i && pairs.items[at].b == k);
            assert_true(pairs.items[at].similarity == 1 - (double)distance / (double)bits);
            at++;
        }
    assert_int_equal(at, pairs.n);
    assert_true(n < 100 || at > n / 20);
    assert_int_equal(kith_simhash_index_near(index, p, radius + 1, rows, NULL, n, &found, &err),
                     KITH_INVALID);
    kith_pairs_clear(&pairs);
    kith_simhash_index_free(index);
    free(rows);
    free(distances);
    free(p);
}

static void test_index(void **state)
{
    (void)state;
    kith_error err;
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(2, NULL, &run.pool, &err), &err);
    static const size_t cases[][3] = {{64, 3, 4},  {64, 3, 5},  {64, 3, 6},  {64, 3, 7},  {64, 3, 0},
                                      {64, 0, 1},  {64, 0, 0},  {64, 6, 7},  {64, 7, 10}, {64, 10, 0},
                                      {128, 3, 4}, {128, 3, 6}, {128, 6, 8}, {128, 12, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        check_index(1000, cases[c][0], cases[c][1], cases[c][2], c % 2 ? &run : NULL);
    check_index(1, 64, 3, 4, NULL);
    check_index(2, 64, 3, 4, NULL);
    kith_pool_free(run.pool);
}

static void test_refusals(void **state)
{
    (void)state;
    uint64_t p[2] = {0};
    kith_error err;
    kith_simhash_index *index;
    static const size_t bad[][3] = {{32, 3, 4}, {64, 64, 0},  {64, 3, 3},
                                    {64, 3, 8}, {64, 63, 65}, {64, 60, 63}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(
            kith_simhash_index_create(p, 1, bad[i][0], bad[i][1], bad[i][2], NULL, NULL, &index, &err),
            KITH_INVALID);
        assert_null(index);
    }
    assert_ok(kith_simhash_index_create(NULL, 0, 64, 3, 4, NULL, NULL, &index, &err), &err);
    kith_pairs pairs;
    assert_ok(kith_simhash_index_pairs(index, NULL, &pairs, &err), &err);
    assert_int_equal(pairs.n, 0);
    kith_simhash_index_free(index);
    for (size_t fail = 0; fail < 100; fail++) {
        test_allocator allocator;
        test_allocator_init(&allocator, fail, 0);
        uint64_t *few = prints(64, 1, 3, 1);
        kith_status status =
            kith_simhash_index_create(few, 64, 64, 3, 4, &allocator.base, NULL, &index, &err);
        memset(&pairs, 0, sizeof pairs);
        if (status == KITH_OK) status = kith_simhash_index_pairs(index, NULL, &pairs, &err);
        kith_pairs_clear(&pairs);
        kith_simhash_index_free(index);
        free(few);
        assert_int_equal(allocator.live, 0);
        if (status == KITH_OK) return;
        assert_int_equal(status, KITH_NOMEM);
    }
    fail_msg("it never succeeds");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fingerprints),
        cmocka_unit_test(test_angle),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
