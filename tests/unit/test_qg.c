/* QG where the contract's 700 rows do not reach: walks, batches, removals by the hundred, many equal rows, filters met by
 * walking, an add that is cancelled half-way. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kith/index.h>

static kith_error err;

enum { N = 3000, NQ = 100, K = 10, DIM = 24 };

static float *x, *queries; /* [2 N][DIM]: rows, and rows to replace them by; [NQ][DIM] */

static int begin(void **state)
{
    (void)state;
    x = test_vectors(2 * N, DIM, 0, 5);
    queries = test_vectors(NQ, DIM, 0, 6);
    return 0;
}
static int end(void **state)
{
    (void)state;
    free(x);
    free(queries);
    return 0;
}

static kith_index *made_of(const char *spec, const float *rows, size_t n, size_t threads)
{
    kith_index *index;
    kith_run run;
    kith_run_init(&run);
    if (threads > 0) assert_ok(kith_pool_create(threads, NULL, &run.pool, &err), &err);
    assert_ok(kith_index_create(spec, DIM, NULL, &index, &err), &err);
    if (strncmp(spec, "QG", 2) == 0) assert_ok(kith_index_set(index, "ef_construction", 48, &err), &err);
    assert_ok(kith_index_train(index, x, N, &run, &err), &err);
    assert_ok(kith_index_add(index, rows, NULL, n, &run, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    kith_pool_free(run.pool);
    return index;
}
static kith_index *made(const char *spec, size_t n, size_t threads)
{
    return made_of(spec, x, n, threads);
}

static double reach, spare; /* of the searches below */

static void ask(const kith_index *index, double ef, const kith_filter *filter, uint64_t *ids, float *dist,
                kith_search_stats *stats)
{
    kith_searcher *searcher;
    kith_setting settings[] = {{"ef", ef}, {"reach", reach}, {"spare", spare}};
    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = filter;
    options.settings = settings;
    options.n_settings = ef > 0 ? 3 : 0;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(kith_search(searcher, queries, NQ, K, &options, ids, dist, stats, &err), &err);
    kith_searcher_free(searcher);
}

static double looked_at; /* rows that a query of the last recall() expanded, on average */

/* Against Flat over the same rows; what a walk looks at, too. */
static double recall(const kith_index *index, const kith_index *flat, double ef, const kith_filter *filter)
{
    static uint64_t ids[NQ * K], true_ids[NQ * K];
    static float dist[NQ * K], true_dist[NQ * K];
    kith_search_stats stats[NQ];
    size_t hits = 0;
    ask(flat, 0, filter, true_ids, true_dist, NULL);
    ask(index, ef, filter, ids, dist, stats);
    looked_at = 0;
    for (size_t q = 0; q < NQ; q++) {
        looked_at += (double)stats[q].visited / NQ;
        assert_int_equal(stats[q].found, K);
        assert_true(stats[q].visited > 0 && stats[q].visited < N / 3); /* a walk it was */
        for (size_t i = 0; i < K; i++) hits += dist[q * K + i] <= true_dist[q * K + K - 1];
    }
    return (double)hits / (NQ * K);
}

static unsigned char *saved(const kith_index *index, size_t *size)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/qg.kidx", test_folder());
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*size);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    fclose(f);
    return bytes;
}

static void walks_find_near_rows(void **state)
{
    (void)state;
    kith_index *index = made("QG32", N, 2), *flat = made("Flat", N, 0);
    double narrow = recall(index, flat, 20, NULL), wide = recall(index, flat, 150, NULL);
    printf("recall %.3f at ef 20, %.3f at ef 150\n", narrow, wide);
    assert_true(narrow > 0.6 && wide > 0.97);
    kith_index_free(index);
    kith_index_free(flat);
}

/* True distances of the rest of the pool find more; walks that end by what they found look at less. */
static void spare_and_reach(void **state)
{
    (void)state;
    kith_index *index = made("QG16x32,SQ8", N, 2), *flat = made("SQ8", N, 0);
    double plain = recall(index, flat, 20, NULL);
    spare = 2;
    double more = recall(index, flat, 20, NULL);
    spare = 0;
    double far = recall(index, flat, 200, NULL), all = looked_at;
    reach = 0.1;
    double near = recall(index, flat, 200, NULL), some = looked_at;
    reach = 0;
    printf("recall %.3f, %.3f with spare; %.3f of %.0f rows, %.3f of %.0f\n", plain, more, far, all, near,
           some);
    assert_true(more > plain + 0.02);
    assert_true(near > far - 0.1 && some < 0.8 * all);
    kith_index_free(index);
    kith_index_free(flat);
}

static void threads_do_not_show(void **state)
{
    (void)state;
    size_t size[2];
    kith_index *a = made("QG16,SQ8", N, 0), *b = made("QG16,SQ8", N, 3);
    unsigned char *one = saved(a, &size[0]), *three = saved(b, &size[1]);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(one, three, size[0]);
    free(one);
    free(three);
    kith_index_free(a);
    kith_index_free(b);
}

/* A third of the rows is replaced, three times: recall is that of a fresh build of the rows that are there then. */
static void replaced_rows_are_found(void **state)
{
    (void)state;
    kith_index *index = made("QG32", N, 0), *flat = made("Flat", N, 0);
    for (size_t round = 0; round < 3; round++) {
        uint64_t ids[N / 3];
        size_t removed, n = N / 3;
        for (size_t i = 0; i < n; i++) ids[i] = 3 * i + round;
        for (kith_index **each = (kith_index *[]){index, flat, NULL}; *each; each++) {
            assert_ok(kith_index_remove(*each, ids, n, &removed, &err), &err);
            assert_int_equal(removed, n);
            assert_ok(kith_index_check(*each, &err), &err);
            assert_ok(kith_index_add(*each, x + (N + round * n) * DIM, ids, n, NULL, &err), &err);
            assert_ok(kith_index_check(*each, &err), &err);
        }
    }
    kith_index *anew = made_of("QG32", x + N * DIM, N, 0);
    double churned = recall(index, flat, 60, NULL), fresh = recall(anew, flat, 60, NULL);
    printf("recall %.3f fresh, %.3f with all rows replaced\n", fresh, churned);
    assert_true(fresh > 0.97 && churned > fresh - 0.02);
    kith_index_free(anew);
    kith_index_free(index);
    kith_index_free(flat);
}

/* 2,000 copies of one vector do not hide the others; the slot that stands in the graph for them may go. */
static void equal_rows_share_a_vertex(void **state)
{
    (void)state;
    enum { COPIES = 2000 };
    kith_index *index = made("QG32", N, 0), *flat = made("Flat", N, 0);
    float *copies = malloc(COPIES * DIM * sizeof *copies);
    for (size_t i = 0; i < COPIES; i++) memcpy(copies + i * DIM, x, DIM * sizeof *copies);
    assert_ok(kith_index_add(index, copies, NULL, COPIES, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    assert_true(recall(index, flat, 150, NULL) > 0.97); /* the copies are nobody's neighbours here */
    uint64_t gone[COPIES];
    size_t removed;
    for (size_t i = 0; i < COPIES; i++) gone[i] = i == 0 ? 0 : N + i; /* but one */
    assert_ok(kith_index_remove(index, gone, COPIES, &removed, &err), &err);
    assert_int_equal(removed, COPIES);
    assert_ok(kith_index_check(index, &err), &err);
    kith_searcher *searcher;
    uint64_t id;
    float dist;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(kith_search(searcher, x, 1, 1, NULL, &id, &dist, NULL, &err), &err);
    assert_int_equal(id, N);
    assert_true(dist == 0);
    kith_searcher_free(searcher);
    free(copies);
    kith_index_free(index);
    kith_index_free(flat);
}

static int most(void *ctx, uint64_t id)
{
    (void)ctx;
    return id % 4 != 0;
}

static int odd(void *ctx, uint64_t id)
{
    (void)ctx;
    return id % 2 == 1;
}

/* recall of the first `rows` through a filter */
static double recall_through(const char *spec, size_t rows, size_t threads, double ef,
                             int (*allow)(void *, uint64_t))
{
    kith_index *index = made(spec, rows, threads), *flat = made("Flat", rows, 0);
    kith_filter filter;
    kith_filter_init(&filter);
    filter.allow = allow;
    double found = recall(index, flat, ef, &filter);
    kith_index_free(index);
    kith_index_free(flat);
    return found;
}

static void filters_are_met_by_walking(void **state)
{
    (void)state;
    assert_true(recall_through("QG32", N, 0, 100, most) > 0.95);
    /* Also one with a period that divides the distances at which a sample might look for rows that pass. */
    assert_true(recall_through("QG16", 5120, 2, 80, odd) > 0.9);
}

/* A batch is as good as rows that come one by one. */
static void batches_are_as_good_as_single_rows(void **state)
{
    (void)state;
    kith_index *batch = made("QG16,SQ8", N, 0), *single = made("QG16,SQ8", 1, 0), *flat = made("SQ8", N, 0);
    for (size_t i = 1; i < N; i++) assert_ok(kith_index_add(single, x + i * DIM, NULL, 1, NULL, &err), &err);
    assert_ok(kith_index_check(single, &err), &err);
    double a = recall(batch, flat, 40, NULL), b = recall(single, flat, 40, NULL);
    printf("recall by batches %.3f, one by one %.3f\n", a, b);
    assert_true(a > b - 0.01 && a > 0.8);
    kith_index_free(batch);
    kith_index_free(single);
    kith_index_free(flat);
}

static void late_cancel(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage;
    (void)total;
    /* Reports are a tenth of a second apart: a pause at the first one makes the next due after the first batch. */
    if (done == 0) nanosleep(&(struct timespec){.tv_nsec = 120000000}, NULL);
    if (done > 0) kith_cancel_raise(ctx);
}

static void cancelled_adds_leave_nothing(void **state)
{
    (void)state;
    kith_index *index = made("QG32", N / 2, 0);
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.cancel = &cancel;
    run.progress = late_cancel;
    run.progress_ctx = &cancel;
    assert_int_equal(kith_index_add(index, x + N / 2 * DIM, NULL, N / 2, &run, &err), KITH_CANCELLED);
    assert_ok(kith_index_check(index, &err), &err);
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    assert_int_equal(info.n, N / 2);
    kith_index_free(index);
}

/* Rows that come one by one to many: no call looks at all links, and every row is reached all the same. */
static void rows_added_one_by_one_are_reached(void **state)
{
    (void)state;
    enum { MANY = 4300, FEW = 60 };
    kith_index *index = made("QG16,SQ8", MANY, 0), *flat = made("SQ8", MANY, 0);
    for (size_t i = MANY; i < MANY + FEW; i++)
        for (kith_index **each = (kith_index *[]){index, flat, NULL}; *each; each++)
            assert_ok(kith_index_add(*each, x + i * DIM, NULL, 1, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    assert_true(recall(index, flat, 150, NULL) > 0.9);
    kith_index_free(index);
    kith_index_free(flat);
}

/* Blocks with a margin behind them, which is looked at when they are given back. */
enum { HEAD = 64, MARGIN = 4096 };

static size_t written_beyond; /* blocks */

static void *guarded_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    (void)align;
    unsigned char *block = aligned_alloc(HEAD, (HEAD + size + MARGIN + HEAD - 1) / HEAD * HEAD);
    if (!block) return NULL;
    memcpy(block, &size, sizeof size);
    memset(block + HEAD + size, 0x5c, MARGIN);
    return block + HEAD;
}
static void guarded_free(void *ctx, void *p)
{
    (void)ctx;
    unsigned char *block = (unsigned char *)p - HEAD;
    size_t size;
    memcpy(&size, block, sizeof size);
    int whole = 1;
    for (size_t i = 0; i < MARGIN; i++) whole &= block[HEAD + size + i] == 0x5c;
    written_beyond += !whole;
    free(block);
}

/* All rows of a tight heap are as far from a row far out as float32 tells: such rows all choose the same one, which has no
 * room for so many links back. Most of a call become entries, so that walks need room for more than there were. */
static void many_entries_in_one_call(void **state)
{
    (void)state;
    enum { HEAP = 20000, FAR = HEAP / 1024, CALLS = 4, WIDE = 16 };
    static const kith_allocator guarded = {NULL, guarded_alloc, guarded_free};
    float *heap = test_vectors(HEAP, WIDE, 0, 21), *far = test_vectors(CALLS * FAR, WIDE, 0, 22);
    for (size_t i = 0; i < HEAP * WIDE; i++) heap[i] *= 1e-12f;
    kith_index_options options;
    kith_index_options_init(&options);
    options.allocator = &guarded;
    kith_index *index;
    assert_ok(kith_index_create("QG16", WIDE, &options, &index, &err), &err);
    assert_ok(kith_index_set(index, "ef_construction", 16, &err), &err);
    assert_ok(kith_index_train(index, heap, HEAP / 8, NULL, &err), &err);
    assert_ok(kith_index_add(index, heap, NULL, HEAP, NULL, &err), &err);
    for (size_t i = 0; i < CALLS; i++)
        assert_ok(kith_index_add(index, far + i * FAR * WIDE, NULL, FAR, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    kith_index_free(index);
    assert_int_equal(written_beyond, 0);
    free(heap);
    free(far);
}

/* Under the dot product no path leads to short rows. They hang on one another: were they entries, each walk would begin with
 * thousands of them, which shows in the room that they take. */
static void short_rows_are_no_entries(void **state)
{
    (void)state;
    enum { SAMPLE = 96, ENTRY = 24 }; /* above the square root of 2 N; bytes */
    float *uneven = malloc(2 * N * DIM * sizeof *uneven);
    uint64_t bytes[2], gone[N / 2];
    for (size_t i = 0; i < 2 * N; i++)
        for (size_t d = 0; d < DIM; d++)
            uneven[i * DIM + d] = x[i * DIM + d] / (float)(1 + i % 16); /* a few are long */
    for (size_t i = 0; i < N / 2; i++) gone[i] = 3 * i;
    for (int dot = 0; dot < 2; dot++) {
        kith_index_options options;
        kith_index_options_init(&options);
        options.metric = dot ? KITH_DOT : KITH_L2SQ;
        kith_index *index;
        assert_ok(kith_index_create("QG16", DIM, &options, &index, &err), &err);
        assert_ok(kith_index_set(index, "ef_construction", 32, &err), &err);
        assert_ok(kith_index_train(index, uneven, N, NULL, &err), &err);
        assert_ok(kith_index_add(index, uneven, NULL, N, NULL, &err), &err);
        assert_ok(kith_index_add(index, uneven + N * DIM, NULL, N, NULL, &err), &err);
        assert_ok(kith_index_check(index, &err), &err);
        kith_index_info info = {.struct_size = sizeof info};
        assert_ok(kith_index_get_info(index, &info, &err), &err);
        bytes[dot] = info.bytes;
        assert_ok(kith_index_remove(index, gone, N / 2, NULL, &err), &err);
        assert_ok(kith_index_check(index, &err), &err);
        kith_index_free(index);
    }
    printf("%.0f bytes of entries more under the dot product\n", (double)bytes[1] - (double)bytes[0]);
    assert_true(bytes[1] < bytes[0] + SAMPLE * ENTRY);
    free(uneven);
}

/* Copies of a short vector are far from each other by the dot product, and share a vertex all the same: in one call and in several. */
static void equal_rows_by_the_dot_product(void **state)
{
    (void)state;
    enum { COPIES = 2000 };
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = KITH_DOT;
    float *copies = malloc(COPIES * DIM * sizeof *copies);
    for (size_t i = 0; i < COPIES * DIM; i++) copies[i] = 0.1f * x[i % DIM];
    uint64_t vertices[2];
    for (int with = 0; with < 2; with++) {
        kith_index *index;
        assert_ok(kith_index_create("QG16", DIM, &options, &index, &err), &err);
        assert_ok(kith_index_set(index, "ef_construction", 32, &err), &err);
        assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
        assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
        for (size_t i = 0; i < 4 && with; i++)
            assert_ok(kith_index_add(index, copies + i * COPIES / 4 * DIM, NULL, COPIES / 4, NULL, &err),
                      &err);
        assert_ok(kith_index_check(index, &err), &err);
        uint64_t ids[20];
        float dist[20];
        kith_searcher *searcher;
        kith_search_stats stats;
        kith_setting all = {"ef", 1 << 20};
        kith_search_options every;
        kith_search_options_init(&every);
        every.settings = &all;
        every.n_settings = 1;
        assert_ok(kith_searcher_create(index, &searcher, &err), &err);
        assert_ok(kith_search(searcher, x, 1, 20, &every, ids, dist, &stats, &err), &err);
        vertices[with] = stats.scored; /* a scan: of the vertices */
        kith_searcher_free(searcher);
        kith_index_free(index);
    }
    assert_int_equal(vertices[0], N);
    assert_int_equal(vertices[1], N + 1);
    free(copies);
}

/* Codes of the principal components: fewer bits than the vectors have components. */
static void codes_of_fewer_bits(void **state)
{
    (void)state;
    enum { WIDE = 72, ROWS = N / 2 };
    float *wide = test_vectors(ROWS, WIDE, 0, 15);
    for (size_t i = 0; i < ROWS; i++) /* what matters lies along a third of the axes */
        for (size_t d = 0; d < WIDE; d++) wide[i * WIDE + d] *= d % 3 == 0 ? 1 : 0.1f;
    kith_index *index, *opened;
    assert_int_equal(kith_index_create("QG16x40", WIDE, NULL, &index, &err), KITH_INVALID);
    assert_ok(kith_index_create("QG16x32,SQ8", WIDE, NULL, &index, &err), &err);
    assert_ok(kith_index_train(index, wide, ROWS, NULL, &err), &err);
    assert_ok(kith_index_add(index, wide, NULL, ROWS, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    size_t size, hits = 0;
    unsigned char *bytes = saved(index, &size);
    char path[1024];
    snprintf(path, sizeof path, "%s/qg.kidx", test_folder());
    assert_ok(kith_index_open(path, KITH_OPEN_READ, NULL, NULL, &opened, &err), &err);
    assert_ok(kith_index_check(opened, &err), &err);
    kith_searcher *a, *b;
    kith_setting settings[] = {{"scan_below", 0}, {"ef", 40}};
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = settings;
    options.n_settings = 2;
    assert_ok(kith_searcher_create(index, &a, &err), &err);
    assert_ok(kith_searcher_create(opened, &b, &err), &err);
    for (size_t i = 0; i < ROWS; i += 5) {
        uint64_t ids[2];
        float dist[2];
        assert_ok(kith_search(a, wide + i * WIDE, 1, 1, &options, &ids[0], &dist[0], NULL, &err), &err);
        assert_ok(kith_search(b, wide + i * WIDE, 1, 1, &options, &ids[1], &dist[1], NULL, &err), &err);
        assert_int_equal(ids[0], ids[1]);
        assert_true(dist[0] == dist[1]);
        hits += ids[0] == i;
    }
    printf("%zu of %d rows find themselves\n", hits, ROWS / 5);
    assert_true(hits > ROWS / 5 * 9 / 10);
    kith_searcher_free(a);
    kith_searcher_free(b);
    kith_index_free(index);
    kith_index_free(opened);
    free(bytes);
    free(wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_added_one_by_one_are_reached),
        cmocka_unit_test(many_entries_in_one_call),
        cmocka_unit_test(short_rows_are_no_entries),
        cmocka_unit_test(equal_rows_by_the_dot_product),
        cmocka_unit_test(codes_of_fewer_bits),
        cmocka_unit_test(walks_find_near_rows),
        cmocka_unit_test(spare_and_reach),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(replaced_rows_are_found),
        cmocka_unit_test(equal_rows_share_a_vertex),
        cmocka_unit_test(filters_are_met_by_walking),
        cmocka_unit_test(batches_are_as_good_as_single_rows),
        cmocka_unit_test(cancelled_adds_leave_nothing),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
