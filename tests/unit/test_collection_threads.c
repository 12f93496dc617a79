/* Threads of one process, each with a handle of its own: readers with a shared pool, a writer, one that folds. Every
 * answer is from one whole batch. Meant for ThreadSanitizer, too. */
#include "collections.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include <kith/run.h>

enum { ROWS = 300, DIM = 4, BATCHES = 25, READERS = 3 };

static char path[512];
static atomic_int finished;
static kith_pool *pool;

/* The first thing that went wrong: cmocka's assertions belong to the main thread. */
static _Atomic(const char *) fault;

static void blame(const char *what)
{
    const char *none = NULL;
    atomic_compare_exchange_strong(&fault, &none, what);
}

static kith_collection *open_own(void)
{
    kith_collection *c;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.wait_ms = 60000;
    if (kith_collection_open(path, &options, &c, NULL) != KITH_OK) {
        blame("open");
        return NULL;
    }
    return c;
}

/* Batch b gives all rows the vector (b, 0, 0, 0). */
static void *write_batches(void *arg)
{
    (void)arg;
    kith_collection *c = open_own();
    for (int batch = 1; c && batch <= BATCHES; batch++) {
        kith_status status = kith_collection_begin(c, NULL);
        for (int64_t key = 1; key <= ROWS && status == KITH_OK; key++) {
            float vector[DIM] = {(float)batch};
            kith_row row = {.key = key, .vector = vector, .dim = DIM};
            status = kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, NULL);
        }
        if (status == KITH_OK) status = kith_collection_commit(c, NULL);
        if (status != KITH_OK) blame("write");
    }
    kith_collection_close(c);
    atomic_store(&finished, 1);
    return NULL;
}

static void *search_rows(void *arg)
{
    (void)arg;
    kith_collection *c = open_own();
    static const float origin[2 * DIM] = {0};
    float last = 0;
    while (c && !atomic_load(&fault)) {
        int done = atomic_load(&finished);
        int64_t keys[2 * ROWS];
        float distances[2 * ROWS];
        kith_collection_query query;
        kith_collection_query_init(&query);
        query.k = ROWS;
        query.pool = pool;
        if (kith_collection_search(c, 2, DIM, origin, &query, keys, distances, NULL, NULL)) blame("search");
        if (keys[ROWS - 1] == 0) blame("a row is missing");
        if (distances[0] != distances[ROWS - 1]) blame("half a batch");
        if (distances[0] < last) blame("back in time");
        last = distances[0];
        if (done) break;
    }
    if (last != (float)(BATCHES * BATCHES)) blame("the last batch is not seen");
    kith_collection_close(c);
    return NULL;
}

static void *fold_again_and_again(void *arg)
{
    (void)arg;
    kith_collection *c = open_own();
    kith_run run;
    kith_fold_options options;
    kith_run_init(&run);
    kith_fold_options_init(&options);
    run.pool = pool;
    options.run = &run;
    options.spec = "Flat";
    options.always = 1;
    while (c && !atomic_load(&finished))
        if (kith_collection_fold(c, &options, NULL)) blame("fold");
    kith_collection_close(c);
    return NULL;
}

static void threads_with_their_own_handles(void **state)
{
    (void)state;
    kith_error err;
    static float x[ROWS * DIM];
    kith_collection *c = test_collection("threads.kith", DIM, KITH_L2SQ);
    test_put_rows(c, 1, ROWS, x, DIM);
    kith_collection_close(c);
    snprintf(path, sizeof path, "%s", test_path("threads.kith"));
    assert_ok(kith_pool_create(2, NULL, &pool, &err), &err);
    pthread_t threads[READERS + 2];
    assert_int_equal(pthread_create(&threads[0], NULL, write_batches, NULL), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, fold_again_and_again, NULL), 0);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[2 + i], NULL, search_rows, NULL), 0);
    for (int i = 0; i < READERS + 2; i++) pthread_join(threads[i], NULL);
    kith_pool_free(pool);
    if (fault) fail_msg("%s", fault);
    assert_ok(kith_collection_open(test_path("threads.kith"), NULL, &c, &err), &err);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_with_their_own_handles),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
