/* Indexes when the system fails: allocation number 0, 1, 2, ... and file call number 0, 1, 2, ... until all goes well, once
 * and for ever. What must hold: the documented code, nothing leaked, the index and the caller's outputs as they were. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault_io.h"
#include "index_cases.h"

#define DIM 4
#define TRAIN 600
#define ROWS 60

static float *x;
static kith_error err;

static kith_status make(const index_case *c, const kith_allocator *allocator, kith_index **index)
{
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = c->metric;
    options.allocator = allocator;
    case_dimension(DIM);
    return kith_index_create(c->spec, case_index_dim(c, DIM), &options, index, &err);
}

/* Steps in the life of an index, each done over and over with the n-th allocation failing. */
typedef kith_status (*step_fn)(kith_index *index);

static kith_status do_train(kith_index *index)
{
    kith_status status = case_train(index, x, TRAIN, NULL, &err);
    kith_index_info info = {.struct_size = sizeof info};
    assert_int_equal(kith_index_get_info(index, &info, NULL), KITH_OK);
    if (status != KITH_OK) assert_int_equal(info.trained, 0);
    return status;
}

static uint64_t count(const kith_index *index)
{
    kith_index_info info = {.struct_size = sizeof info};
    assert_int_equal(kith_index_get_info(index, &info, NULL), KITH_OK);
    return info.n;
}

static kith_status add_rows(kith_index *index, const uint64_t *ids, size_t n)
{
    uint64_t before = count(index);
    kith_status status = case_add(index, x, ids, n, NULL, &err);
    assert_int_equal(count(index), before + (status == KITH_OK ? n : 0));
    return status;
}

static kith_status do_add(kith_index *index)
{
    return add_rows(index, NULL, ROWS);
}

static kith_status do_add_more(kith_index *index) /* lists outgrow their room, ids are out of order */
{
    static uint64_t ids[ROWS];
    for (size_t i = 0; i < ROWS; i++) ids[i] = 1000 + (i * 37 % 61);
    return add_rows(index, ids, ROWS);
}

static kith_status do_remove(kith_index *index)
{
    uint64_t ids[] = {3, 1005, 9, 3}, before = count(index);
    size_t removed = 77;
    kith_status status = kith_index_remove(index, ids, 4, &removed, &err);
    assert_int_equal(removed, status == KITH_OK ? 3 : 77);
    assert_int_equal(count(index), before - (status == KITH_OK ? 3 : 0));
    return status;
}

static kith_status do_fill_holes(kith_index *index)
{
    uint64_t ids[] = {5000, 4000, 4500};
    return add_rows(index, ids, 3);
}

/* One query, then a batch, then a range: nothing of the outputs changes on failure. */
static kith_status do_search(kith_index *index)
{
    kith_searcher *searcher = (kith_searcher *)index;
    kith_status status = kith_searcher_create(index, &searcher, &err);
    if (status != KITH_OK) {
        assert_null(searcher);
        return status;
    }
    uint64_t ids[20 * 3];
    float dist[20 * 3];
    static const size_t nq[] = {1, 20};
    for (size_t i = 0; i < 2 && status == KITH_OK; i++) {
        memset(ids, 0x5a, sizeof ids);
        memset(dist, 0x5a, sizeof dist);
        status = case_search(searcher, x, nq[i], 3, NULL, ids, dist, NULL, &err);
        const unsigned char *bytes = (const unsigned char *)ids;
        for (size_t b = 0; status != KITH_OK && b < sizeof ids; b++) assert_int_equal(bytes[b], 0x5a);
        bytes = (const unsigned char *)dist;
        for (size_t b = 0; status != KITH_OK && b < sizeof dist; b++) assert_int_equal(bytes[b], 0x5a);
        if (status == KITH_OK) assert_true(ids[0] != KITH_NO_ID);
    }
    if (status == KITH_OK) {
        size_t n = 77;
        const uint64_t *range_ids = NULL;
        const float *range_dist = NULL;
        status = case_search_range(searcher, x, 1e9f, NULL, &n, &range_ids, &range_dist, NULL, &err);
        assert_true(status == KITH_OK ? n > 0 && n <= count(index) : n == 77);
        assert_true((status == KITH_OK) == (range_ids != NULL));
    }
    kith_searcher_free(searcher);
    return status;
}

static kith_status do_check(kith_index *index)
{
    return kith_index_check(index, &err);
}

static kith_status do_save(kith_index *index)
{
    return kith_index_save(index, case_path("fault.kidx"), NULL, &err);
}

/* The allocation to fail after the i-th did: each of the first ones, then fewer and fewer (KITH_FAULT_STRIDE=1: each). */
static size_t next_failure(size_t i)
{
    return i + 1 + (test_number("KITH_FAULT_STRIDE", 16) > 1 ? i / 16 : 0);
}

/* Repeat a step with one allocation more going well each time: a step that changes the index until it has done so, the
 * others until no allocation fails any more (a faster way that needs memory may be skipped without one), and both with
 * one failure and with nothing but failures from then on. */
static void with_failures(kith_index *index, test_allocator *allocator, step_fn step)
{
    int repeatable = step == do_search || step == do_check || step == do_save;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0;; i = next_failure(i)) {
            allocator->calls = 0;
            allocator->fail_at = i;
            allocator->for_ever = repeatable ? pass : (int)(i % 2);
            kith_status status = step(index);
            allocator->fail_at = SIZE_MAX;
            allocator->for_ever = 0;
            if (status == KITH_OK && !repeatable) return;
            if (status == KITH_OK && allocator->calls <= i) break;
            if (status == KITH_OK) continue;
            assert_int_equal(status, KITH_NOMEM);
            assert_int_equal(err.code, KITH_NOMEM);
            assert_ok(kith_index_check(index, &err), &err);
        }
}

static void allocations(const index_case *c)
{
    if (c->metric != case_metric(c->family, KITH_L2SQ) && c->metric != KITH_COSINE)
        return; /* they allocate as L2SQ does */
    test_allocator allocator;
    kith_index *index;
    test_allocator_init(&allocator, SIZE_MAX, 0);
    for (size_t i = 0;; i = next_failure(i)) {
        allocator.calls = 0;
        allocator.fail_at = i;
        index = (kith_index *)x;
        kith_status status = make(c, &allocator.base, &index);
        if (status == KITH_OK) break;
        assert_int_equal(status, KITH_NOMEM);
        assert_null(index);
        assert_int_equal(allocator.live, 0);
    }
    allocator.fail_at = SIZE_MAX;
    case_quick(index);
    static const step_fn steps[] = {do_train,  do_add,   do_add_more,   do_search, do_remove,
                                    do_search, do_check, do_fill_holes, do_search, do_save};
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) with_failures(index, &allocator, steps[s]);
    kith_index_free(index);
    assert_int_equal(allocator.live, 0);

    const char *path = case_path("fault.kidx");
    for (int mode = KITH_OPEN_READ; mode <= KITH_OPEN_MAP; mode++)
        for (size_t i = 0;; i = next_failure(i)) {
            test_allocator_init(&allocator, i, (int)(i % 2));
            index = (kith_index *)x;
            kith_status status =
                kith_index_open(path, (kith_open_mode)mode, &allocator.base, NULL, &index, &err);
            if (status == KITH_OK) {
                allocator.fail_at = SIZE_MAX;
                assert_ok(kith_index_check(index, &err), &err);
                kith_index_free(index);
                assert_int_equal(allocator.live, 0);
                break;
            }
            assert_int_equal(status, KITH_NOMEM);
            assert_null(index);
            assert_int_equal(allocator.live, 0);
        }
}

static void test_allocations(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, allocations);
}

/* ---- A quantized graph ---- */

enum { WIDE = 16, HEAP = 1200, FAR = 12, HOLES = 30, NEW = 40 };

/* Rows so far out that distances to them are infinite: no path leads to the first of them, which is an entry. Some rows are
 * gone. */
static void save_graph_with_entries(const char *path)
{
    float *heap = test_vectors(HEAP, WIDE, 0, 3), *far = test_vectors(FAR, WIDE, 0, 4);
    kith_index *index;
    for (size_t i = 0; i < FAR * WIDE; i++) far[i] *= 1e25f;
    assert_ok(kith_index_create("QG16", WIDE, NULL, &index, &err), &err);
    assert_ok(kith_index_train(index, heap, HEAP, NULL, &err), &err);
    assert_ok(kith_index_add(index, heap, NULL, HEAP, NULL, &err), &err);
    for (size_t i = 0; i < FAR; i++)
        assert_ok(kith_index_add(index, far + i * WIDE, NULL, 1, NULL, &err), &err);
    uint64_t gone[HOLES];
    for (size_t i = 0; i < HOLES; i++) gone[i] = 7 * i;
    assert_ok(kith_index_remove(index, gone, HOLES, NULL, &err), &err);
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    kith_index_free(index);
    free(heap);
    free(far);
}

/* An add that fails leaves the rows that were there where they can be reached, and nothing in the slots that it took: what is
 * saved then can be opened. Of the rows added half are equal to others. */
static void test_graph_add(void **state)
{
    (void)state;
    char path[1024], after[1024];
    snprintf(path, sizeof path, "%s/graph.kidx", test_folder());
    snprintf(after, sizeof after, "%s/graph-after.kidx", test_folder());
    save_graph_with_entries(path);
    float *rows = test_vectors(NEW, WIDE, 0, 5);
    memcpy(rows + NEW / 2 * WIDE, rows, NEW / 2 * WIDE * sizeof *rows);
    for (size_t i = 0;; i++) {
        test_allocator allocator;
        kith_index *index;
        test_allocator_init(&allocator, SIZE_MAX, 0);
        assert_ok(kith_index_open(path, KITH_OPEN_READ, &allocator.base, NULL, &index, &err), &err);
        allocator.calls = 0;
        allocator.fail_at = i;
        allocator.for_ever = (int)(i % 2);
        kith_status status = kith_index_add(index, rows, NULL, NEW, NULL, &err);
        allocator.fail_at = SIZE_MAX;
        allocator.for_ever = 0;
        assert_true(status == KITH_OK || status == KITH_NOMEM);
        assert_int_equal(count(index), HEAP + FAR - HOLES + (status == KITH_OK ? NEW : 0));
        assert_ok(kith_index_check(index, &err), &err);
        assert_ok(kith_index_save(index, after, NULL, &err), &err);
        kith_index_free(index);
        assert_int_equal(allocator.live, 0);
        assert_ok(kith_index_open(after, KITH_OPEN_READ, NULL, NULL, &index, &err), &err);
        kith_index_free(index);
        if (status == KITH_OK) break;
    }
    free(rows);
}

/* ---- The file system ---- */

static const int faults[] = {EIO, ENOSPC, EACCES, FAULT_SHORT};

static void save_faults(const kith_index *index, const char *path)
{
    size_t old_size;
    unsigned char *old = file_bytes(path, &old_size);
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++)
        for (size_t i = 0;; i = next_failure(i)) {
            fault_io io;
            fault_io_init(&io, faults[f], i, (int)(i % 2));
            kith_status status = kith_index_save(index, path, &io.base, &err);
            assert_int_equal(io.open_files, 0);
            size_t size;
            unsigned char *now = file_bytes(path, &size);
            assert_int_equal(size, old_size); /* the same index: old and new are equal, and both whole */
            assert_memory_equal(now, old, size);
            free(now);
            if (io.injected == 0) break;
            if (faults[f] == FAULT_SHORT) assert_int_equal(status, KITH_OK);
            assert_true(status == KITH_OK || (err.code == status && err.message[0]));
        }
    free(old);
}

static void open_faults(const char *path)
{
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++)
        for (int mode = KITH_OPEN_READ; mode <= KITH_OPEN_MAP; mode++)
            for (size_t i = 0;; i = next_failure(i)) {
                fault_io io;
                fault_io_init(&io, faults[f], i, (int)(i % 2));
                kith_index *index = (kith_index *)x;
                kith_status status =
                    kith_index_open(path, (kith_open_mode)mode, NULL, &io.base, &index, &err);
                if (status == KITH_OK)
                    kith_index_free(index);
                else
                    assert_null(index);
                assert_int_equal(io.open_files, 0);
                assert_int_equal(io.mapped, 0);
                if (io.injected == 0) {
                    assert_int_equal(status, KITH_OK);
                    break;
                }
            }
}

static void files(const index_case *c)
{
    if (c->metric != case_metric(c->family, KITH_L2SQ)) return;
    kith_index *index;
    assert_ok(make(c, NULL, &index), &err);
    case_quick(index);
    assert_ok(case_train(index, x, TRAIN, NULL, &err), &err);
    assert_ok(case_add(index, x, NULL, ROWS, NULL, &err), &err);
    static size_t number; /* names of its own: a fault in removing leaves temporary files behind */
    char name[40];
    snprintf(name, sizeof name, "files-%zu.kidx", number++);
    const char *path = case_path(name);
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    save_faults(index, path);
    open_faults(path);
    kith_index_free(index);
}

static void test_files(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, files);
}

static int begin(void **state)
{
    (void)state;
    x = test_vectors(600, DIM, 10, 2);
    return 0;
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
        cmocka_unit_test_teardown(test_allocations, case_teardown),
        cmocka_unit_test(test_graph_add),
        cmocka_unit_test_teardown(test_files, case_teardown),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
