/* The base layer: status texts, random numbers, top-k, the pool. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/metric.h>
#include <kith/run.h>

#include "base/bitset.h"
#include "base/checksum.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/select.h"
#include "base/topk.h"

static void error_messages_are_one_line(void **state)
{
    (void)state;
    kith_error err;
    assert_int_equal(ki_fail(&err, KITH_INVALID, "name is '%s'", "a\nb"), KITH_INVALID);
    assert_string_equal(err.message, "name is 'a?b'");
    assert_int_equal(ki_fail_errno(&err, 28, "x.kidx"), KITH_IO);
    assert_string_equal(err.message, "x.kidx: No space left on device");
    ki_error_prefix(&err, "row %d", 7);
    assert_string_equal(err.message, "row 7: x.kidx: No space left on device");
    assert_int_equal(ki_fail(NULL, KITH_NOMEM, "nobody listens"), KITH_NOMEM);
    assert_string_equal(kith_status_name(KITH_CORRUPT), "KITH_CORRUPT");
    assert_string_equal(kith_status_text((kith_status)99), "unknown status");
}

static void metrics_parse_and_score(void **state)
{
    (void)state;
    kith_metric metric;
    kith_error err;
    assert_ok(kith_metric_parse("cosine", &metric, &err), &err);
    assert_int_equal(metric, KITH_COSINE);
    assert_int_equal(kith_metric_parse("L2", &metric, &err), KITH_INVALID);
    assert_float_equal(kith_metric_score(KITH_L2SQ, 9, 2), 0.25, 1e-6);
    assert_float_equal(kith_metric_score(KITH_HAMMING, 16, 64), 0.75, 1e-6);
    assert_null(kith_metric_name((kith_metric)6));
}

/* The published first outputs of xoshiro256** from the state {1, 2, 3, 4}. */
static void rng_matches_the_reference(void **state)
{
    (void)state;
    ki_rng rng = {{1, 2, 3, 4}};
    assert_true(ki_rng_u64(&rng) == 11520u);
    assert_true(ki_rng_u64(&rng) == 0u);
    assert_true(ki_rng_u64(&rng) == 1509978240u);
    assert_true(ki_rng_u64(&rng) == 1215971899390074240u);
}

static void rng_samples_are_sorted_and_fair(void **state)
{
    (void)state;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 0);
    size_t count[10] = {0};
    for (int round = 0; round < 10000; round++) {
        uint64_t picked[3];
        ki_rng_sample(&rng, 10, 3, picked);
        assert_true(picked[0] < picked[1] && picked[1] < picked[2] && picked[2] < 10);
        for (int i = 0; i < 3; i++) count[picked[i]]++;
    }
    for (int i = 0; i < 10; i++) assert_in_range(count[i], 2750, 3250); /* 3000 +- 5.5 sigma */
}

static void gauss_has_the_moments(void **state)
{
    (void)state;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 3);
    double sum = 0, squares = 0;
    size_t n = 100000;
    for (size_t i = 0; i < n; i++) {
        double g = ki_rng_gauss(&rng);
        sum += g;
        squares += g * g;
    }
    assert_true(fabs(sum / (double)n) < 0.02);
    assert_true(fabs(squares / (double)n - 1) < 0.03);
}

static int by_distance(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (x[0] > y[0]) - (x[0] < y[0]);
}

static int by_key(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void keys_order_distances_and_select_them(void **state)
{
    (void)state;
    static const float order[] = {-INFINITY, -3.5f, -1e-40f, 0, 1e-40f, 2, 65504, INFINITY};
    for (size_t i = 0; i < 8; i++) {
        assert_true(ki_key_dist(ki_key(order[i], 7)) == order[i]);
        assert_int_equal(ki_key_number(ki_key(order[i], 123456)), 123456);
        if (i) assert_true(ki_key(order[i], 0) > ki_key(order[i - 1], UINT32_MAX));
    }
    assert_true(ki_key(-0.0f, 5) == ki_key(0, 5));
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 9);
    enum { N = 1000 };
    uint64_t keys[N], sorted[N], mine[N];
    for (size_t round = 0; round < 300; round++) {
        size_t n = ki_rng_below(&rng, N) + 1, k = ki_rng_below(&rng, n + 1), kind = round % 5;
        for (size_t i = 0; i < n;
             i++) /* random, few values, ascending, descending, all equal to the largest key */
            keys[i] = kind == 0   ? ki_rng_u64(&rng)
                      : kind == 1 ? ki_rng_below(&rng, 4)
                      : kind == 2 ? i
                      : kind == 3 ? n - i
                                  : UINT64_MAX;
        memcpy(sorted, keys, n * sizeof *keys);
        qsort(sorted, n, sizeof *keys, by_key);
        memcpy(mine, keys, n * sizeof *keys);
        ki_keys_sort(mine, n);
        assert_memory_equal(mine, sorted, n * sizeof *keys);
        ki_keys_select(keys, n, k);
        qsort(keys, k, sizeof *keys, by_key);
        assert_memory_equal(keys, sorted, k * sizeof *keys);
    }
}

static void topk_equals_sorting(void **state)
{
    (void)state;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 1);
    for (size_t k = 1; k < 40; k++) {
        float all[100], dist[40];
        uint64_t id[40];
        ki_topk top;
        ki_topk_init(&top, k, dist, id);
        size_t n = ki_rng_below(&rng, 100);
        for (size_t i = 0; i < n; i++) {
            all[i] = (float)ki_rng_below(&rng, 20); /* many ties */
            ki_topk_push(&top, all[i], 1000 - i);
        }
        size_t found = ki_topk_sort(&top);
        qsort(all, n, sizeof *all, by_distance);
        assert_int_equal(found, n < k ? n : k);
        for (size_t i = 0; i < found; i++) {
            assert_true(dist[i] == all[i]);
            if (i > 0) assert_true(ki_farther(dist[i], id[i], dist[i - 1], id[i - 1]));
        }
        for (size_t i = found; i < k; i++) assert_true(isinf(dist[i]) && id[i] == KI_NO_ID);
    }
}

static void count_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    size_t *count = ctx;
    __atomic_fetch_add(&count[block], 1, __ATOMIC_RELAXED);
}

static void pool_runs_every_block_once(void **state)
{
    (void)state;
    kith_error err;
    for (size_t threads = 0; threads <= 5; threads++) {
        kith_pool *pool = NULL;
        assert_ok(kith_pool_create(threads, NULL, &pool, &err), &err);
        for (int round = 0; round < 200; round++) {
            size_t count[97] = {0};
            ki_pool_run(pool, 97, count_block, count);
            for (size_t i = 0; i < 97; i++) assert_int_equal(count[i], 1);
        }
        kith_pool_free(pool);
    }
    kith_pool *pool;
    assert_int_equal(kith_pool_create(1025, NULL, &pool, &err), KITH_INVALID);
    assert_null(pool);
}

static void memory_fails_cleanly(void **state)
{
    (void)state;
    assert_null(ki_alloc(NULL, SIZE_MAX / 2, 4));
    test_allocator counting;
    test_allocator_init(&counting, 1, 0);
    int *block = ki_alloc(&counting.base, 4, sizeof *block);
    for (int i = 0; i < 4; i++) block[i] = i;
    assert_null(ki_realloc(&counting.base, block, 4, 8, sizeof *block));
    int *grown = ki_realloc(&counting.base, block, 4, 8, sizeof *block);
    assert_int_equal(grown[3], 3);
    assert_int_equal((uintptr_t)grown % KI_CACHE_LINE, 0);
    ki_free(&counting.base, grown);
    assert_int_equal(counting.live, 0);
}

static void bits_and_checksums(void **state)
{
    (void)state;
    uint64_t words[3] = {0};
    ki_bits_set(words, 0);
    ki_bits_set(words, 64);
    ki_bits_set(words, 129);
    assert_int_equal(ki_bits_count(words, 130), 3);
    assert_int_equal(ki_bits_count(words, 129), 2);
    ki_bits_clear(words, 64);
    assert_false(ki_bits_get(words, 64));
    assert_int_equal(ki_bits_words(0), 0);
    assert_int_equal(ki_bits_words(65), 2);
    assert_true(ki_checksum("", 0) == 0x2d06800538d394c2u); /* XXH3-64 of nothing, as xxHash publishes it */
}

/* Options of an older caller (fewer bytes), of this one, of a newer one with and without news. */
static void options_grow_at_the_end(void **state)
{
    (void)state;
    struct {
        size_t struct_size;
        int a, b;
    } own = {sizeof own, 1, 2}, given = {offsetof(__typeof__(own), b), 7, 9};
    kith_error err;
    assert_ok(ki_options_read(&own, sizeof own, &given, "options", &err), &err);
    assert_int_equal(own.a, 7);
    assert_int_equal(own.b, 2);
    assert_int_equal(own.struct_size, sizeof own);
    struct {
        size_t struct_size;
        int a, b, c, d;
    } newer = {sizeof newer, 3, 4, 0, 0};
    assert_ok(ki_options_read(&own, sizeof own, &newer, "options", &err), &err);
    assert_int_equal(own.b, 4);
    newer.d = 1;
    assert_int_equal(ki_options_read(&own, sizeof own, &newer, "options", &err), KITH_UNSUPPORTED);
    given.struct_size = 0;
    assert_int_equal(ki_options_read(&own, sizeof own, &given, "options", &err), KITH_INVALID);
    assert_ok(ki_options_read(&own, sizeof own, NULL, "options", &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_messages_are_one_line),
        cmocka_unit_test(metrics_parse_and_score),
        cmocka_unit_test(rng_matches_the_reference),
        cmocka_unit_test(rng_samples_are_sorted_and_fair),
        cmocka_unit_test(gauss_has_the_moments),
        cmocka_unit_test(topk_equals_sorting),
        cmocka_unit_test(keys_order_distances_and_select_them),
        cmocka_unit_test(pool_runs_every_block_once),
        cmocka_unit_test(memory_fails_cleanly),
        cmocka_unit_test(bits_and_checksums),
        cmocka_unit_test(options_grow_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
