/* Threads of one process, each with a handle of its own: readers with a shared pool, a writer, one that folds. Every
 * answer is from one whole batch. Then 64 readers of all kinds, while one thread writes in every way there is, one builds
 * segments and swaps them, one makes copies, and three write together. Meant for ThreadSanitizer, too.
 *
 * KITH_THREAD_SECONDS=600 lets them work so long, the suite 3 seconds. */
#include "batches.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <kith/copies.h>
#include <kith/fusion.h>
#include <kith/run.h>
#include <kith/writers.h>

enum { ROWS = 300, DIM = 4, BATCHES = 25, READERS = 3, MANY_READERS = 64, SHARERS = 3, K = 10 };

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
    options.exact_rows = 20;
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

/* ---- Very many readers ---- */

static atomic_uint_fast64_t acknowledged, states_read, segments_built, copies_made;

/* A status that may come of what the writer does: the field or partition asked for is not there just now. */
static void expect(kith_status status, const char *what)
{
    if (status != KITH_OK && status != KITH_NOTFOUND) blame(what);
}

/* Whatever order threads come back in. */
static void acknowledge(uint64_t number)
{
    uint_fast64_t before = atomic_load(&acknowledged);
    while (before < number && !atomic_compare_exchange_weak(&acknowledged, &before, number)) continue;
}

static void *write_all_ways(void *arg)
{
    (void)arg;
    kith_collection *c = open_own();
    while (c && !atomic_load(&finished) && !atomic_load(&fault)) {
        uint64_t number = 0;
        kith_status status = kith_collection_begin(c, NULL);
        if (status == KITH_OK) status = test_batch_next(c, &number, NULL);
        if (status == KITH_OK) status = kith_collection_commit(c, NULL);
        if (status != KITH_OK) blame("batch");
        kith_collection_rollback(c);
        acknowledge(number);
        usleep(1000); /* the disk is memory here: leave others the lock */
    }
    kith_collection_close(c);
    return NULL;
}

/* One of several that share their commits; what fails of one does not show. */
static void *write_together(void *arg)
{
    kith_writers *writers = arg;
    for (unsigned turn = 0; !atomic_load(&finished) && !atomic_load(&fault); turn++) {
        uint64_t number = 0, version = 0;
        if (turn % 4 == 3) {
            if (kith_writers_write(writers, test_batch_undone, &number, NULL, NULL) != KITH_CANCELLED)
                blame("undone");
            continue;
        }
        if (kith_writers_write(writers, test_batch_next, &number, &version, NULL) || version < number)
            blame("together");
        acknowledge(number);
        if (turn % 2) usleep(1000);
    }
    return NULL;
}

static void *fold_all_fields(void *arg)
{
    static const char *const specs[] = {"Flat", "IVF4,Flat", NULL};
    kith_collection *c = open_own();
    kith_run run;
    kith_fold_options options;
    kith_run_init(&run);
    kith_fold_options_init(&options);
    run.pool = arg;
    options.run = &run;
    for (unsigned turn = 0; c && !atomic_load(&finished) && !atomic_load(&fault); turn++) {
        options.spec = specs[turn % 3];
        options.always = turn % 3 != 1; /* cells are trained only where there are rows enough */
        kith_status status =
            turn % 5 ? kith_collection_fold(c, &options, NULL) : kith_collection_optimize(c, &options, NULL);
        if (status != KITH_OK && status != KITH_BUSY) blame("fold");
        atomic_fetch_add(&segments_built, 1);
    }
    kith_collection_close(c);
    return NULL;
}

static void *copy_again_and_again(void *arg)
{
    kith_collection *c = open_own();
    kith_copy_options options;
    kith_copy_options_init(&options);
    options.replace = 1;
    while (c && !atomic_load(&finished) && !atomic_load(&fault)) {
        if (kith_collection_sync(c, arg, &options, NULL, NULL)) blame("sync");
        atomic_fetch_add(&copies_made, 1);
        usleep(10000);
    }
    kith_collection_close(c);
    return NULL;
}

/* One state, looked at in the ways that there are; the pin holds it. */
static void look_at_state(kith_collection *c, unsigned turn)
{
    static const float origin[BATCH_DIM];
    static const char *const partition = BATCH_PARTITION;
    int64_t keys[K];
    float distances[K];
    double scores[K];
    uint64_t rows, seen = 0;
    size_t n;
    kith_row row = {0};
    kith_collection_query query;
    kith_collection_query_init(&query);
    const kith_fused_part parts[2] = {{NULL, origin, BATCH_DIM, 1},
                                      {BATCH_FIELD, origin, BATCH_FIELD_DIM, 1}};
    switch (turn % 6) {
    case 0:
        expect(kith_collection_search(c, 1, BATCH_DIM, origin, NULL, keys, distances, NULL, NULL), "search");
        break;
    case 1:
        query.expression = "batch % 2 == 0";
        query.partitions = &partition;
        query.n_partitions = turn / 6 % 2;
        expect(kith_collection_search(c, 1, BATCH_DIM, origin, &query, keys, distances, NULL, NULL),
               "filter");
        break;
    case 2:
        expect(kith_collection_search_fused(c, parts, 2, NULL, NULL, keys, scores, NULL, NULL), "fused");
        break;
    case 3:
        expect(kith_collection_search_range(c, BATCH_DIM, origin, 9000, NULL, keys, distances, &n, NULL, NULL,
                                            NULL),
               "range");
        break;
    case 4:
        if (kith_collection_count(c, &rows, NULL, NULL)) blame("count");
        do {
            if (kith_collection_next(c, row.key, KITH_ROW_ALL, &row, NULL)) blame("next");
            seen += row.key != 0;
        } while (row.key && !atomic_load(&fault));
        if (seen > rows || seen + BATCH_KEYS / 2 < rows) blame("rows are missing"); /* some are expired */
        break;
    default:
        if (turn % 24 == 5 && kith_collection_check(c, NULL, NULL)) blame("check");
    }
}

static void *read_all_ways(void *arg)
{
    unsigned turn = *(unsigned *)arg;
    uint64_t before = 0, number;
    kith_collection *c = open_own();
    while (c && !atomic_load(&finished) && !atomic_load(&fault)) {
        uint64_t least = atomic_load(&acknowledged);
        if (kith_collection_pin(c, NULL) || test_batch_number(c, &number, NULL)) {
            blame("pin");
            break;
        }
        if (number < least || number < before) blame("an acknowledged batch is not seen");
        before = number;
        look_at_state(c, turn++);
        kith_collection_unpin(c);
        atomic_fetch_add(&states_read, 1);
        usleep(10000); /* else the readers leave the writer no processor */
        if (turn % 50 != 0) continue;
        kith_collection_close(c);
        c = open_own();
    }
    kith_collection_close(c);
    return NULL;
}

static void many_readers(void **state)
{
    (void)state;
    kith_error err;
    char copy_path[512];
    pthread_t threads[MANY_READERS + 3 + SHARERS];
    unsigned turns[MANY_READERS];
    kith_collection *shared;
    kith_writers *writers = NULL;
    snprintf(copy_path, sizeof copy_path, "%s", test_path("many-copy.kith"));
    kith_collection_close(test_collection("many.kith", BATCH_DIM, KITH_L2SQ));
    snprintf(path, sizeof path, "%s", test_path("many.kith"));
    atomic_store(&finished, 0);
    assert_ok(kith_pool_create(2, NULL, &pool, &err), &err);
    assert_int_equal(pthread_create(&threads[0], NULL, write_all_ways, NULL), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, fold_all_fields, pool), 0);
    assert_int_equal(pthread_create(&threads[2], NULL, copy_again_and_again, copy_path), 0);
    shared = open_own();
    assert_ok(kith_writers_create(shared, &writers, &err), &err);
    for (int i = 0; i < SHARERS; i++)
        assert_int_equal(pthread_create(&threads[3 + MANY_READERS + i], NULL, write_together, writers), 0);
    for (unsigned i = 0; i < MANY_READERS; i++) {
        turns[i] = i;
        assert_int_equal(pthread_create(&threads[3 + i], NULL, read_all_ways, &turns[i]), 0);
    }
    for (size_t left = 10 * test_number("KITH_THREAD_SECONDS", 3); left > 0 && !atomic_load(&fault); left--)
        usleep(100000);
    atomic_store(&finished, 1);
    for (int i = 0; i < MANY_READERS + 3 + SHARERS; i++) pthread_join(threads[i], NULL);
    kith_pool_free(pool);
    kith_writers_stats together = {.struct_size = sizeof together};
    assert_ok(kith_writers_get_stats(writers, &together, &err), &err);
    kith_writers_free(writers);
    kith_collection_close(shared);
    if (fault) fail_msg("%s", fault);
    printf("%llu batches (%llu by %llu commits together), %llu states read, %llu folds, %llu copies\n",
           (unsigned long long)acknowledged, (unsigned long long)together.batches,
           (unsigned long long)together.commits, (unsigned long long)states_read,
           (unsigned long long)segments_built, (unsigned long long)copies_made);
    assert_true(together.batches > 0);
    assert_true(acknowledged > 0 && states_read > 0 && segments_built > 0 && copies_made > 0);
    kith_collection *c, *b;
    kith_difference d = {.struct_size = sizeof d};
    assert_ok(kith_collection_open(path, NULL, &c, &err), &err);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_copy_options options;
    kith_copy_options_init(&options);
    options.replace = 1;
    assert_ok(kith_collection_sync(c, copy_path, &options, NULL, &err), &err);
    assert_ok(kith_collection_open(copy_path, NULL, &b, &err), &err);
    assert_ok(kith_collection_compare(c, b, NULL, &d, &err), &err);
    assert_int_equal(d.different, 0);
    kith_collection_close(b);
    kith_collection_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_with_their_own_handles),
        cmocka_unit_test(many_readers),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
