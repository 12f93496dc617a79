/* Rows come into an HNSW while other threads search it: every answer holds rows that were added, with their own ids and true
 * distances, and afterwards all can be found. Run it under ThreadSanitizer. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <kith/index.h>

#include "support.h"

enum { DIM = 8, FIRST = 600, ROWS = 2400, K = 5, SEARCHERS = 3, STRIDE = 7 };

static float *x; /* [ROWS][DIM]; the row of id i stands at i / STRIDE */
static kith_error err;

typedef struct job {
    kith_index *index;
    _Atomic size_t *added; /* rows that were there when the caller last looked */
    atomic_int *done;
    size_t number, searches, bad, missed;
} job;

static double distance(const float *a, const float *b)
{
    double sum = 0;
    for (size_t d = 0; d < DIM; d++) sum += ((double)a[d] - (double)b[d]) * ((double)a[d] - (double)b[d]);
    return sum;
}

static int even_rows(void *ctx, uint64_t id)
{
    (void)ctx;
    return id / STRIDE % 2 == 0;
}

/* Whether an answer is one: K rows that were added, sorted, none twice, at the distance they say. */
static int sound(const uint64_t *ids, const float *dist, const float *query, int even)
{
    for (size_t i = 0; i < K; i++) {
        if (ids[i] % STRIDE != 0 || ids[i] / STRIDE >= ROWS) return 0;
        if (even && ids[i] / STRIDE % 2 != 0) return 0;
        if (fabs(distance(x + ids[i] / STRIDE * DIM, query) - (double)dist[i]) > 1e-4) return 0;
        if (i > 0 && dist[i] < dist[i - 1]) return 0;
        for (size_t j = 0; j < i; j++)
            if (ids[i] == ids[j]) return 0;
    }
    return 1;
}

static void *searching(void *arg)
{
    job *j = arg;
    kith_searcher *searcher;
    kith_filter filter;
    kith_search_options plain, filtered;
    kith_filter_init(&filter);
    filter.allow = even_rows;
    kith_search_options_init(&plain);
    filtered = plain;
    filtered.filter = &filter;
    if (kith_searcher_create(j->index, &searcher, NULL) != KITH_OK) return j->bad = 1, NULL;
    for (size_t i = j->number; !atomic_load(j->done) || j->searches < 20; i += 3, j->searches++) {
        uint64_t ids[K];
        float dist[K];
        /* a row that is there: it finds itself, or its like, at 0 */
        const float *query = x + i % atomic_load(j->added) * DIM;
        int even = i % 5 == 0;
        if (kith_search(searcher, query, 1, K, even ? &filtered : &plain, ids, dist, NULL, NULL) != KITH_OK ||
            !sound(ids, dist, query, even))
            j->bad++;
        j->missed += !even && dist[0] > 1e-4F; /* a walk may miss a row, beside an add or not */
    }
    kith_searcher_free(searcher);
    return NULL;
}

static void add(kith_index *index, size_t first, size_t n)
{
    uint64_t ids[ROWS];
    for (size_t i = 0; i < n; i++) ids[i] = (first + i) * STRIDE;
    assert_ok(kith_index_add(index, x + first * DIM, ids, n, NULL, &err), &err);
}

static void together(const char *spec)
{
    kith_index *index;
    assert_ok(kith_index_create(spec, DIM, NULL, &index, &err), &err);
    assert_ok(kith_index_set(index, "ef_construction", 40, &err), &err);
    assert_ok(kith_index_train(index, x, FIRST, NULL, &err), &err);
    add(index, 0, FIRST);
    assert_ok(kith_index_reserve(index, ROWS, &err), &err);
    _Atomic size_t added = FIRST;
    atomic_int done = 0;
    pthread_t threads[SEARCHERS];
    job jobs[SEARCHERS];
    for (size_t t = 0; t < SEARCHERS; t++) {
        jobs[t] = (job){.index = index, .added = &added, .done = &done, .number = t};
        assert_int_equal(pthread_create(&threads[t], NULL, searching, &jobs[t]), 0);
    }
    for (size_t n = 1; added < ROWS; n = n % 40 + 13) {
        size_t part = n < ROWS - added ? n : ROWS - added;
        add(index, added, part);
        atomic_store(&added, added + part);
    }
    atomic_store(&done, 1);
    for (size_t t = 0; t < SEARCHERS; t++) {
        pthread_join(threads[t], NULL);
        print_message("%s: searcher %d: %d searches\n", spec, (int)t, (int)jobs[t].searches);
        assert_int_equal(jobs[t].bad, 0);
        assert_true(jobs[t].missed * 50 <= jobs[t].searches);
    }
    assert_ok(kith_index_check(index, &err), &err);
    uint64_t extra = 1;
    assert_int_equal(kith_index_add(index, x, &extra, 1, NULL, &err), KITH_INVALID); /* beyond the room */
    job all = {.index = index, .added = &added, .done = &done};
    searching(&all);
    assert_true(all.bad == 0 && all.missed <= 1);
    kith_index_free(index);
}

static void test_insert_during_search(void **state)
{
    (void)state;
    together("HNSW8");
    together("HNSW4,SQ8,RFlat");
}

static void test_refused(void **state)
{
    (void)state;
    kith_index *flat, *index;
    assert_ok(kith_index_create("Flat", DIM, NULL, &flat, &err), &err);
    assert_int_equal(kith_index_reserve(flat, 10, &err), KITH_UNSUPPORTED);
    kith_index_free(flat);
    assert_ok(kith_index_create("HNSW8", DIM, NULL, &index, &err), &err);
    assert_int_equal(kith_index_reserve(index, 0, &err), KITH_INVALID);
    add(index, 0, 20);
    assert_int_equal(kith_index_reserve(index, 19, &err), KITH_INVALID);
    assert_ok(kith_index_reserve(index, 30, &err), &err);
    add(index, 20, 10);
    assert_ok(kith_index_reserve(index, 40, &err), &err); /* more room, alone */
    add(index, 30, 10);
    uint64_t ids[5] = {0, 7, 14, 21, 28};
    assert_ok(kith_index_remove(index, ids, 5, NULL, &err), &err);
    add(index, 0, 5); /* their places are used again */
    assert_ok(kith_index_check(index, &err), &err);
    kith_index_free(index);
}

static int begin(void **state)
{
    (void)state;
    x = test_vectors(ROWS, DIM, 0, test_seed());
    for (size_t i = FIRST; i < ROWS; i += 50) /* some are equal to earlier ones */
        memcpy(x + i * DIM, x + i / 2 * DIM, DIM * sizeof *x);
    return x == NULL;
}

static int end(void **state)
{
    (void)state;
    free(x);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_insert_during_search),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
