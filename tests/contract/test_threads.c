/* test_threads.c - what may run at the same time, does: pools inside a call, searchers of several threads on one index, a
 * cancel from outside. Small enough for ThreadSanitizer, under which `./bootstrap test` runs it; the answers are compared
 * with those of one thread. */
#include "support.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kith/index.h>
#include <kith/kmeans.h>
#include <kith/pq.h>

enum { N = 3000, DIM = 16, NQ = 64, K = 7, THREADS = 4 };

static const char *const specs[] = {"Flat", "PQ8x4", "IVF16,Flat", "IVF16,PQ8x4", "IVF16,PQ8x4,RFlat"};

static float *base, *queries;
static kith_pool *pool;

static int set_up(void **state)
{
    (void)state;
    kith_error err;
    base = test_vectors(N, DIM, 20, test_seed());
    queries = test_vectors(NQ, DIM, 20, test_seed());
    return !base || !queries || kith_pool_create(THREADS, NULL, &pool, &err) != KITH_OK;
}

static int tear_down(void **state)
{
    (void)state;
    kith_pool_free(pool);
    free(base);
    free(queries);
    return 0;
}

static kith_index *build(const char *spec, kith_pool *threads)
{
    kith_error err;
    kith_index *index = NULL;
    kith_run run;
    kith_run_init(&run);
    run.pool = threads;
    assert_ok(kith_index_create(spec, DIM, NULL, &index, &err), &err);
    assert_ok(kith_index_train(index, base, N, &run, &err), &err);
    assert_ok(kith_index_add(index, base, NULL, N, &run, &err), &err);
    return index;
}

/* One searcher's work: all queries, some rounds, against the answers expected. */
typedef struct searching {
    const kith_index *index;
    const uint64_t *expected; /* [NQ][K] */
    int wrong;
} searching;

static void *search_rounds(void *argument)
{
    searching *work = argument;
    uint64_t ids[NQ * K];
    float dist[NQ * K];
    kith_searcher *searcher = NULL;
    work->wrong = kith_searcher_create(work->index, &searcher, NULL) != KITH_OK;
    for (int round = 0; round < 3 && !work->wrong; round++)
        for (size_t q = 0; q < NQ && !work->wrong; q++)
            work->wrong = kith_search(searcher, queries + q * DIM, 1, K, NULL, ids + q * K, dist + q * K,
                                      NULL, NULL) != KITH_OK;
    if (!work->wrong) work->wrong = memcmp(ids, work->expected, sizeof ids) != 0;
    kith_searcher_free(searcher);
    return NULL;
}

static void search_one_index(const char *spec)
{
    kith_index *serial = build(spec, NULL), *parallel = build(spec, pool);
    kith_error err;
    uint64_t expected[NQ * K], ids[NQ * K];
    float dist[NQ * K];
    kith_searcher *searcher = NULL;
    assert_ok(kith_searcher_create(serial, &searcher, &err), &err);
    assert_ok(kith_search(searcher, queries, NQ, K, NULL, expected, dist, NULL, &err), &err);
    kith_searcher_free(searcher);

    /* A batch spread over a pool, on the index that a pool has built. */
    kith_search_options options;
    kith_search_options_init(&options);
    options.pool = pool;
    assert_ok(kith_searcher_create(parallel, &searcher, &err), &err);
    assert_ok(kith_search(searcher, queries, NQ, K, &options, ids, dist, NULL, &err), &err);
    kith_searcher_free(searcher);
    assert_memory_equal(ids, expected, sizeof ids);

    /* Searchers of several threads at once. */
    pthread_t threads[THREADS];
    searching work[THREADS];
    for (size_t t = 0; t < THREADS; t++) {
        work[t] = (searching){.index = parallel, .expected = expected};
        assert_int_equal(pthread_create(&threads[t], NULL, search_rounds, &work[t]), 0);
    }
    for (size_t t = 0; t < THREADS; t++) assert_int_equal(pthread_join(threads[t], NULL), 0);
    for (size_t t = 0; t < THREADS; t++) assert_int_equal(work[t].wrong, 0);
    kith_index_free(serial);
    kith_index_free(parallel);
}

static void any_number_of_searchers(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) search_one_index(specs[s]);
}

static void pools_in_clustering_and_quantising(void **state)
{
    (void)state;
    enum { CENTRES = 32, M = 4 };
    kith_error err;
    kith_run run;
    kith_run_init(&run);
    float one[CENTRES * DIM], many[CENTRES * DIM];
    assert_ok(kith_kmeans_train(base, N, DIM, CENTRES, NULL, &run, one, NULL, &err), &err);
    run.pool = pool;
    assert_ok(kith_kmeans_train(base, N, DIM, CENTRES, NULL, &run, many, NULL, &err), &err);
    assert_memory_equal(one, many, sizeof one);

    kith_pq *pq = NULL;
    uint8_t *codes = malloc(2 * N * M);
    assert_non_null(codes);
    assert_ok(kith_pq_create(DIM, M, 8, KITH_L2SQ, NULL, &pq, &err), &err);
    assert_ok(kith_pq_train(pq, base, N, 5, 1, &run, &err), &err);
    assert_ok(kith_pq_encode(pq, base, N, NULL, codes, &err), &err);
    assert_ok(kith_pq_encode(pq, base, N, &run, codes + N * M, &err), &err);
    assert_memory_equal(codes, codes + N * M, N * M);
    kith_pq_free(pq);
    free(codes);
}

static void *raise_soon(void *cancel)
{
    usleep(20000);
    kith_cancel_raise(cancel);
    return NULL;
}

static void a_cancel_from_another_thread(void **state)
{
    (void)state;
    kith_error err;
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.pool = pool;
    run.cancel = &cancel;
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.max_iterations = 100000;
    options.max_points_per_centroid = 0;
    static float centroids[N / 2 * DIM];
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, raise_soon, &cancel), 0);
    /* Whatever it was doing when the flag went up: it ends, in one of these two ways. */
    kith_status status = KITH_OK;
    for (int i = 0; i < 1000 && status == KITH_OK; i++)
        status = kith_kmeans_train(base, N, DIM, N / 2, &options, &run, centroids, NULL, &err);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(status, KITH_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_searchers),
        cmocka_unit_test(pools_in_clustering_and_quantising),
        cmocka_unit_test(a_cancel_from_another_thread),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
