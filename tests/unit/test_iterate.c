/* Rows by distance, the next and the next: none twice, all in the end, in the order of a search. */
#include <stdlib.h>
#include <string.h>

#include <kith/iterate.h>

#include "support.h"

enum { N = 1200, DIM = 12 };

static float *x;
static kith_error err;

static kith_index *index_of(const char *spec)
{
    kith_index *index;
    assert_ok(kith_index_create(spec, DIM, NULL, &index, &err), &err);
    assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
    return index;
}

/* All rows in portions of k; how many. ids[N] */
static size_t all_of(const kith_index *index, const float *query, size_t k,
                     const kith_search_options *options, uint64_t *ids)
{
    kith_iterator *it;
    float dist[N];
    unsigned char seen[N] = {0};
    size_t total = 0, n;
    assert_ok(kith_iterator_create(index, query, options, &it, &err), &err);
    do {
        assert_ok(
            kith_iterator_next(it, total + k <= N ? k : 1, ids + (total < N ? total : N - 1), dist, &n, &err),
            &err);
        assert_true(total + n <= N);
        for (size_t i = 0; i < n; i++) {
            assert_true(ids[total + i] < N && !seen[ids[total + i]]);
            seen[ids[total + i]] = 1;
            assert_true(i == 0 || dist[i] >= dist[i - 1]);
        }
        total += n;
    } while (n > 0);
    kith_iterator_free(it);
    return total;
}

static void test_exact(void **state)
{
    (void)state;
    kith_index *flat = index_of("Flat");
    kith_searcher *searcher;
    uint64_t truth[N], ids[N];
    float dist[N];
    assert_ok(kith_searcher_create(flat, &searcher, &err), &err);
    assert_ok(kith_search(searcher, x, 1, N, NULL, truth, dist, NULL, &err), &err);
    static const size_t portions[] = {1, 7, 100, N};
    for (size_t p = 0; p < 4; p++) {
        assert_int_equal(all_of(flat, x, portions[p], NULL, ids), N);
        assert_memory_equal(ids, truth, sizeof truth);
    }
    kith_searcher_free(searcher);
    kith_index_free(flat);
}

static void test_families(void **state)
{
    (void)state;
    static const char *const specs[] = {"HNSW8", "HNSW8,SQ8,RFlat", "SQ8,RFlat"};
    uint64_t ids[N];
    for (size_t s = 0; s < 3; s++) {
        kith_index *index = index_of(specs[s]);
        assert_int_equal(all_of(index, x + 5 * DIM, 10, NULL, ids), N);
        assert_int_equal(ids[0], 5);
        kith_index_free(index);
    }
    kith_index *cells = index_of("IVF16,Flat"); /* from one cell to all */
    kith_setting one = {"nprobe", 1};
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = &one;
    options.n_settings = 1;
    assert_int_equal(all_of(cells, x, 9, &options, ids), N);
    kith_index_free(cells);
}

static int thirds(void *ctx, uint64_t id)
{
    (void)ctx;
    return id % 3 == 0;
}

static void test_filtered(void **state)
{
    (void)state;
    kith_index *index = index_of("HNSW8");
    kith_filter filter;
    kith_search_options options;
    uint64_t ids[N];
    kith_filter_init(&filter);
    filter.allow = thirds;
    kith_search_options_init(&options);
    options.filter = &filter;
    size_t n = all_of(index, x, 11, &options, ids);
    assert_int_equal(n, N / 3);
    for (size_t i = 0; i < n; i++) assert_int_equal(ids[i] % 3, 0);
    kith_index_free(index);
}

static void test_refused(void **state)
{
    (void)state;
    kith_index *flat = index_of("Flat"), *empty;
    kith_iterator *it;
    uint64_t id;
    float dist;
    size_t n;
    assert_int_equal(kith_iterator_create(flat, NULL, NULL, &it, &err), KITH_INVALID);
    assert_int_equal(kith_iterator_create(NULL, x, NULL, &it, &err), KITH_INVALID);
    assert_ok(kith_iterator_create(flat, x, NULL, &it, &err), &err);
    assert_int_equal(kith_iterator_next(it, 0, &id, &dist, &n, &err), KITH_INVALID);
    assert_int_equal(kith_iterator_next(it, 1, NULL, &dist, &n, &err), KITH_INVALID);
    kith_iterator_free(it);
    assert_ok(kith_index_create("Flat", DIM, NULL, &empty, &err), &err);
    assert_ok(kith_iterator_create(empty, x, NULL, &it, &err), &err);
    assert_ok(kith_iterator_next(it, 1, &id, &dist, &n, &err), &err);
    assert_int_equal(n, 0);
    kith_iterator_free(it);
    kith_index_free(empty);
    kith_index_free(flat);
}

/* An allocator that can be switched off. */
static void *while_on(void *ctx, size_t bytes, size_t alignment)
{
    return *(int *)ctx ? aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment) : NULL;
}
static void give_back(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

/* Rows that were taken before a search failed are handed out, and none is lost. */
static void failed_search(const char *spec)
{
    int on = 1;
    kith_allocator allocator = {.alloc = while_on, .free = give_back, .ctx = &on};
    kith_index_options options;
    kith_index *index;
    kith_iterator *it;
    uint64_t ids[N];
    float dist[N];
    size_t n, total;
    kith_index_options_init(&options);
    options.allocator = &allocator;
    assert_ok(kith_index_create(spec, DIM, &options, &index, &err), &err);
    assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
    assert_ok(kith_iterator_create(index, x, NULL, &it, &err), &err);
    assert_ok(kith_iterator_next(it, 10, ids, dist, &n, &err), &err);
    assert_int_equal(total = n, 10);
    on = 0;
    kith_status status;
    while ((status = kith_iterator_next(it, 900, ids + total, dist, &n, &err)) == KITH_OK) {
        assert_true(n > 0 && n < 900);
        total += n;
    }
    assert_int_equal(status, KITH_NOMEM);
    assert_int_equal(kith_iterator_next(it, 900, ids + total, dist, &n, &err), KITH_NOMEM);
    on = 1;
    assert_ok(kith_iterator_next(it, N - total, ids + total, dist, &n, &err), &err);
    assert_int_equal(total + n, N);
    unsigned char seen[N] = {0};
    for (size_t i = 0; i < N; i++) assert_false(seen[ids[i]]++);
    kith_iterator_free(it);
    kith_index_free(index);
}

static void test_failed_search(void **state)
{
    (void)state;
    failed_search("HNSW8");           /* goes on */
    failed_search("HNSW8,SQ8,RFlat"); /* with a refinement */
    failed_search("SQ8,RFlat");       /* widens */
}

/* ---- Graphs go on where they were ---- */

enum { MANY = 6000 };

/* In pages of k up to `total` rows: how many of the true nearest they are. */
static size_t pages(const kith_index *index, const float *query, size_t k, size_t total,
                    const uint64_t *truth)
{
    static unsigned char seen[MANY], is_true[MANY];
    kith_iterator *it;
    uint64_t ids[1000];
    float dist[1000];
    size_t hits = 0, n;
    memset(seen, 0, sizeof seen);
    memset(is_true, 0, sizeof is_true);
    for (size_t i = 0; i < total; i++) is_true[truth[i]] = 1;
    assert_ok(kith_iterator_create(index, query, NULL, &it, &err), &err);
    for (size_t done = 0; done < total; done += n) {
        assert_ok(kith_iterator_next(it, k, ids, dist, &n, &err), &err);
        assert_int_equal(n, k);
        for (size_t i = 0; i < k; i++) {
            assert_false(seen[ids[i]]++);
            assert_true(i == 0 || dist[i] >= dist[i - 1]);
            hits += is_true[ids[i]];
        }
    }
    kith_iterator_free(it);
    return hits;
}

/* Pages hold what the exact order holds, as far as one search for as many rows would; and the first page is that search's. */
static void test_goes_on(void **state)
{
    (void)state;
    static const char *const specs[] = {"HNSW8", "HNSW8,SQ8,RFlat", "NSG16"};
    float *many = test_vectors(MANY, DIM, 0, test_seed() + 1),
          *queries = test_vectors(20, DIM, 0, test_seed() + 2);
    static uint64_t truth[20][1000], found[1000];
    float dist[1000];
    kith_index *flat;
    kith_searcher *searcher;
    assert_ok(kith_index_create("Flat", DIM, NULL, &flat, &err), &err);
    assert_ok(kith_index_add(flat, many, NULL, MANY, NULL, &err), &err);
    assert_ok(kith_searcher_create(flat, &searcher, &err), &err);
    for (size_t q = 0; q < 20; q++)
        assert_ok(kith_search(searcher, queries + q * DIM, 1, 1000, NULL, truth[q], dist, NULL, &err), &err);
    kith_searcher_free(searcher);
    for (size_t s = 0; s < 3; s++) {
        kith_index *index;
        size_t by_10 = 0, by_100 = 0, at_once = 0;
        assert_ok(kith_index_create(specs[s], DIM, NULL, &index, &err), &err);
        assert_ok(kith_index_set(index, "ef_construction", 40, &err), &err);
        assert_ok(kith_index_train(index, many, MANY, NULL, &err), &err);
        assert_ok(kith_index_add(index, many, NULL, MANY, NULL, &err), &err);
        assert_ok(kith_searcher_create(index, &searcher, &err), &err);
        for (size_t q = 0; q < 20; q++) {
            by_10 += pages(index, queries + q * DIM, 10, 500, truth[q]);
            by_100 += pages(index, queries + q * DIM, 100, 500, truth[q]);
            assert_ok(kith_search(searcher, queries + q * DIM, 1, 500, NULL, found, dist, NULL, &err), &err);
            for (size_t i = 0; i < 500; i++)
                for (size_t j = 0; j < 500; j++) at_once += found[i] == truth[q][j];
        }
        print_message("%s: of 10,000 nearest rows %zu in pages of 10, %zu of 100, %zu at once\n", specs[s],
                      by_10, by_100, at_once);
        assert_true(by_10 >= 9800 && by_100 >= 9800 && by_10 + 100 >= at_once && by_100 + 100 >= at_once);
        kith_searcher_free(searcher);
        kith_index_free(index);
    }
    kith_index_free(flat);
    free(many);
    free(queries);
}

/* Rows that come and go between two calls: an iterator begins anew, and still none comes twice. */
static void test_changed(void **state)
{
    (void)state;
    kith_index *index = index_of("HNSW8");
    kith_iterator *it;
    uint64_t ids[2 * N], gone[N / 2];
    float dist[2 * N];
    size_t n, total;
    unsigned char seen[2 * N] = {0};
    assert_ok(kith_iterator_create(index, x, NULL, &it, &err), &err);
    assert_ok(kith_iterator_next(it, 300, ids, dist, &total, &err), &err);
    assert_int_equal(total, 300);
    for (size_t i = 0; i < N / 2; i++) gone[i] = 2 * i;
    assert_ok(kith_index_remove(index, gone, N / 2, NULL, &err), &err);
    assert_ok(kith_iterator_next(it, 100, ids + total, dist, &n, &err), &err);
    for (size_t i = 0; i < n; i++) assert_int_equal(ids[total + i] % 2, 1);
    total += n;
    for (size_t i = 0; i < N / 2; i++) gone[i] = N + i;
    assert_ok(kith_index_add(index, x, gone, N / 2, NULL, &err), &err); /* grows: everything may have moved */
    do {
        assert_ok(kith_iterator_next(it, 100, ids + total, dist, &n, &err), &err);
        total += n;
    } while (n > 0);
    size_t left = 0;
    for (size_t i = 0; i < total; i++) {
        assert_false(seen[ids[i]]++);
        left += ids[i] % 2 == 1 || ids[i] >= N;
    }
    size_t there = 0; /* all that are there now came */
    for (size_t i = 0; i < 2 * N; i++) there += (i % 2 == 1 || i >= N) && i < N + N / 2 && seen[i];
    assert_int_equal(there, N);
    assert_true(left >= N);
    kith_iterator_free(it);
    kith_index_free(index);
}

/* A search that is cut goes on where it was: what was compared is not compared again. */
static void test_cut_goes_on(void **state)
{
    (void)state;
    kith_index *index = index_of("HNSW8");
    kith_cancel cancel = {0};
    kith_search_options options;
    kith_iterator *it;
    uint64_t ids[N];
    float dist[N];
    unsigned char seen[N] = {0};
    size_t n, total = 0;
    kith_search_options_init(&options);
    options.cancel = &cancel;
    assert_ok(kith_iterator_create(index, x, &options, &it, &err), &err);
    for (size_t round = 0; total < N; round++) {
        if (round % 2 == 1) kith_cancel_raise(&cancel);
        assert_ok(kith_iterator_next(it, 7, ids, dist, &n, &err), &err);
        assert_true(round % 2 == 1 ? n <= 7 : n == 7 || total + n == N);
        for (size_t i = 0; i < n; i++) assert_false(seen[ids[i]]++);
        total += n;
        cancel = (kith_cancel){0};
    }
    assert_int_equal(total, N);
    kith_iterator_free(it);
    kith_index_free(index);
}

static int counted(void *ctx, uint64_t id)
{
    (void)id;
    ++*(size_t *)ctx;
    return 1;
}

/* Searches that are cut do not make the next ones wider: it was not width that they lacked. */
static void test_cut_searches(void **state)
{
    (void)state;
    kith_index *index = index_of("HNSW8");
    size_t asked = 0, n;
    kith_cancel cancel = {0};
    kith_filter filter;
    kith_search_options options;
    kith_iterator *it;
    uint64_t id, first;
    float dist;
    kith_filter_init(&filter);
    filter.allow = counted;
    filter.ctx = &asked;
    kith_search_options_init(&options);
    options.filter = &filter;
    options.cancel = &cancel;
    assert_ok(kith_iterator_create(index, x, &options, &it, &err), &err);
    assert_ok(kith_iterator_next(it, 1, &first, &dist, &n, &err), &err);
    assert_int_equal(n, 1);
    size_t usual = asked;
    for (size_t i = 1; i < 16; i++) assert_ok(kith_iterator_next(it, 1, &id, &dist, &n, &err), &err);
    kith_cancel_raise(&cancel);
    for (size_t i = 0; i < 20; i++) assert_ok(kith_iterator_next(it, 1, &id, &dist, &n, &err), &err);
    cancel = (kith_cancel){0};
    asked = 0;
    assert_ok(kith_iterator_next(it, 1, &id, &dist, &n, &err), &err);
    assert_int_equal(n, 1);
    if (asked > 2 * usual) fail_msg("%zu rows were looked at, %zu by the first search", asked, usual);
    kith_iterator_free(it);
    kith_index_free(index);
}

static int begin(void **state)
{
    (void)state;
    x = test_vectors(N, DIM, 0, test_seed());
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
        cmocka_unit_test(test_exact),         cmocka_unit_test(test_families),
        cmocka_unit_test(test_filtered),      cmocka_unit_test(test_refused),
        cmocka_unit_test(test_failed_search), cmocka_unit_test(test_cut_searches),
        cmocka_unit_test(test_goes_on),       cmocka_unit_test(test_changed),
        cmocka_unit_test(test_cut_goes_on)};
    return cmocka_run_group_tests(tests, begin, end);
}
