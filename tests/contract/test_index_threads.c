/* Many searchers on one index, from threads of the caller's and from a pool: the answers of one alone. Run it under
 * ThreadSanitizer. */
#include "index_cases.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4

typedef struct job {
    const kith_index *index;
    uint64_t ids[CASE_NQ * CASE_K];
    float dist[CASE_NQ * CASE_K];
    size_t bad; /* calls that failed: cmocka's asserts belong to the first thread */
} job;

static void *search(void *arg)
{
    job *j = arg;
    kith_searcher *searcher;
    float out[CASE_DIM];
    if (kith_searcher_create(j->index, &searcher, NULL) != KITH_OK) return j->bad = 1, NULL;
    for (size_t q = 0; q < CASE_NQ;
         q++) /* the maps that look-ups by id need are made by whoever comes first */
        j->bad += case_search(searcher, case_queries() + q * CASE_DIM, 1, CASE_K, NULL, j->ids + q * CASE_K,
                              j->dist + q * CASE_K, NULL, NULL) != KITH_OK ||
                  !kith_index_has(j->index, j->ids[q * CASE_K]) ||
                  case_reconstruct(j->index, j->ids[q * CASE_K], out, NULL) != KITH_OK;
    kith_searcher_free(searcher);
    return NULL;
}

static void together(const index_case *c)
{
    if (c->metric == KITH_L1) return;
    kith_error err;
    static job jobs[THREADS], alone;
    kith_index *first = case_full(c), *second = case_full(c);
    memset(&alone, 0, sizeof alone);
    alone.index = first;
    search(&alone);
    assert_int_equal(alone.bad, 0);
    pthread_t threads[THREADS];
    for (size_t t = 0; t < THREADS; t++) {
        memset(&jobs[t], 0, sizeof jobs[t]);
        jobs[t].index = second;
        assert_int_equal(pthread_create(&threads[t], NULL, search, &jobs[t]), 0);
    }
    for (size_t t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    for (size_t t = 0; t < THREADS; t++) {
        assert_int_equal(jobs[t].bad, 0);
        assert_memory_equal(jobs[t].ids, alone.ids, sizeof alone.ids);
        assert_memory_equal(jobs[t].dist, alone.dist, sizeof alone.dist);
    }
    kith_search_options options;
    kith_search_options_init(&options);
    assert_ok(kith_pool_create(THREADS, NULL, &options.pool, &err), &err);
    kith_searcher *searcher;
    assert_ok(kith_searcher_create(second, &searcher, &err), &err);
    assert_ok(case_search(searcher, case_queries(), CASE_NQ, CASE_K, &options, jobs[0].ids, jobs[0].dist,
                          NULL, &err),
              &err);
    assert_memory_equal(jobs[0].ids, alone.ids, sizeof alone.ids);
    kith_searcher_free(searcher);
    kith_pool_free(options.pool);
    kith_index_free(first);
    kith_index_free(second);
}

static void test_together(void **state)
{
    (void)state;
    for_each_case(0, together);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_together, case_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
