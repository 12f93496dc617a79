/* Allocation number 0, 1, 2, ... fails, once alone and once with all that follow, until k-means, product quantisation
 * and the codecs get through: always KITH_NOMEM, nothing leaked, and the objects stay as they say. */
#include <stdlib.h>
#include <string.h>

#include <kith/kmeans.h>
#include <kith/pq.h>

#include "quant/codec.h"
#include "support.h"

enum { n = 120, dim = 40, k = 10 };

static float *x;
static kith_pool *pool;

/* Runs one operation on the failing allocator and cleans up whatever came of it. */
typedef kith_status (*operation)(const kith_allocator *allocator, const kith_run *run, kith_error *err);

static kith_status train_kmeans(const kith_allocator *allocator, const kith_run *run, kith_error *err)
{
    static float centroids[k * dim];
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.allocator = allocator;
    options.init = KITH_KMEANS_PLUSPLUS;
    options.max_points_per_centroid = 10;
    options.max_iterations = 2;
    return kith_kmeans_train(x, n, dim, k, &options, run, centroids, NULL, err);
}

static kith_status train_random(const kith_allocator *allocator, const kith_run *run, kith_error *err)
{
    static float centroids[k * 8];
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.allocator = allocator;
    options.max_iterations = 2;
    return kith_kmeans_train(x, n, 8, k, &options, run, centroids, NULL, err);
}

/* Large enough, and on points of few directions, for the bound of k-means. */
static kith_status train_filtered(const kith_allocator *allocator, const kith_run *run, kith_error *err)
{
    enum { points = 300, wide = 48, many = 256 };
    static float flat[points * wide], centroids[many * wide];
    for (size_t i = 0; i < points * wide; i++) flat[i] = i % wide < 5 ? x[i % (n * dim)] : 0;
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.allocator = allocator;
    options.max_iterations = 3;
    return kith_kmeans_train(flat, points, wide, many, &options, run, centroids, NULL, err);
}

static kith_status assign(const kith_allocator *allocator, const kith_run *run, kith_error *err)
{
    static uint32_t which[n];
    return kith_kmeans_assign(x, n, dim, x, k, allocator, run, which, NULL, err);
}

/* m 1: a segment too wide for the small kernel; bits 3: codes that are packed; metric: with and without dots. */
static kith_status quantise(size_t m, size_t bits, kith_metric metric, const kith_allocator *allocator,
                            const kith_run *run, kith_error *err)
{
    kith_pq *pq;
    static uint8_t codes[n * dim];
    double error;
    float tables[8 * 16];
    kith_status status = kith_pq_create(dim, m, bits, metric, allocator, &pq, err);
    if (status != KITH_OK) {
        assert_null(pq);
        return status;
    }
    status = kith_pq_train(pq, x, n, 2, 1, run, err);
    assert_true((status == KITH_OK) == (kith_pq_codebooks(pq) != NULL));
    if (status == KITH_OK) status = kith_pq_encode(pq, x, n, run, codes, err);
    if (status == KITH_OK) status = kith_pq_error(pq, x, n, run, &error, err);
    if (status == KITH_OK) status = kith_pq_sdc_tables(pq, codes, tables, err);
    kith_pq_free(pq);
    return status;
}

static kith_status quantise_wide(const kith_allocator *allocator, const kith_run *run, kith_error *err)
{
    return quantise(1, 4, KITH_L2SQ, allocator, run, err);
}

static kith_status quantise_narrow(const kith_allocator *allocator, const kith_run *run, kith_error *err)
{
    return quantise(8, 3, KITH_DOT, allocator, run, err);
}

static kith_status use_codec(ki_codec *codec, const kith_allocator *allocator, const kith_run *run,
                             kith_error *err)
{
    static uint8_t code[n * dim * sizeof(float)];
    static float factor[n];
    static const uint32_t which[n] = {0};
    kith_status status = KITH_OK;
    if (codec->ops->train) status = codec->ops->train(codec, x, n, 1, run, err);
    assert_true((status == KITH_OK) == (codec->trained != 0));
    if (status == KITH_OK)
        status = codec->ops->encode(codec, x, n, (ki_origins){x, which}, run, code, factor, err);
    ki_scorer *scorer = NULL;
    if (status == KITH_OK) status = codec->ops->scorer(codec, allocator, &scorer, err);
    assert_true((status == KITH_OK) == (scorer != NULL));
    ki_scorer_free(scorer);
    ki_codec_free(codec);
    return status;
}

static kith_status residual_codec(const kith_allocator *allocator, const kith_run *run, kith_error *err)
{
    ki_codec *codec;
    kith_status status = ki_codec_pq_create(dim, 4, 4, KITH_L2SQ, 1, 2, allocator, &codec, err);
    assert_true((status == KITH_OK) == (codec != NULL));
    return status == KITH_OK ? use_codec(codec, allocator, run, err) : status;
}

static kith_status float_codec(const kith_allocator *allocator, const kith_run *run, kith_error *err)
{
    ki_codec *codec;
    kith_status status = ki_codec_f32_create(dim, KITH_L2SQ, allocator, &codec, err);
    assert_true((status == KITH_OK) == (codec != NULL));
    return status == KITH_OK ? use_codec(codec, allocator, run, err) : status;
}

static void fail_each(operation run_once)
{
    for (int threads = 1; threads <= 2; threads++)
        for (int for_ever = 0; for_ever < 2; for_ever++) {
            size_t failed = 0;
            for (size_t at = 0;; at++) {
                test_allocator allocator;
                test_allocator_init(&allocator, at, for_ever);
                kith_run run;
                kith_run_init(&run);
                run.pool = threads > 1 ? pool : NULL;
                kith_error err;
                memset(&err, 0, sizeof err);
                kith_status status = run_once(&allocator.base, &run, &err);
                assert_int_equal(allocator.live, 0);
                if (allocator.calls <= at) {
                    assert_ok(status, &err);
                    break;
                }
                assert_int_equal(status, KITH_NOMEM);
                assert_int_equal(err.code, KITH_NOMEM);
                assert_true(err.message[0] != 0);
                failed++;
            }
            assert_true(failed >= 1);
        }
}

static void test_kmeans(void **state)
{
    (void)state;
    fail_each(train_kmeans);
    fail_each(train_random);
    fail_each(train_filtered);
    fail_each(assign);
}

static void test_pq(void **state)
{
    (void)state;
    fail_each(quantise_wide);
    fail_each(quantise_narrow);
}

static void test_codecs(void **state)
{
    (void)state;
    fail_each(residual_codec);
    fail_each(float_codec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kmeans),
        cmocka_unit_test(test_pq),
        cmocka_unit_test(test_codecs),
    };
    x = test_vectors(n, dim, 0, test_seed());
    if (kith_pool_create(2, NULL, &pool, NULL) != KITH_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kith_pool_free(pool);
    free(x);
    return failed;
}
