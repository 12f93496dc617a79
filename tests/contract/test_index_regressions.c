/* Sequences of valid calls, and files, that once made the library read or write where it should not, ask for memory without
 * measure, or give wrong answers: each is the shortest one known. Of worth under AddressSanitizer above all. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/index.h>

#include "fault_io.h"
#include "repair.h"
#include "store/index_layout.h"

static kith_error err;

static kith_index *made(const char *spec, size_t dim, kith_metric metric)
{
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    assert_ok(kith_index_create(spec, dim, &options, &index, &err), &err);
    return index;
}

static void nearest_is(const kith_index *index, const float *query, uint64_t id)
{
    kith_searcher *searcher;
    uint64_t found;
    float distance;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(kith_search(searcher, query, 1, 1, NULL, &found, &distance, NULL, &err), &err);
    assert_true(found == id);
    kith_searcher_free(searcher);
}

/* A batch of rows whose only near neighbour is one node: it runs out of room for children before any of them is linked
 * back to it. */
static void hnsw_batch_below_one_node(void **state)
{
    (void)state;
    enum { FAR = 1100, NEAR = 17, DIM = FAR + NEAR };
    float *x = calloc((size_t)DIM * (FAR + 1 + NEAR), sizeof *x);
    for (size_t i = 0; i < FAR; i++) x[i * DIM + i] = 100;
    for (size_t i = 0; i < NEAR; i++) x[(FAR + 1 + i) * DIM + FAR + i] = 1;
    kith_index *index = made("HNSW2", DIM, KITH_L2SQ);
    assert_ok(kith_index_set(index, "ef_construction", 1200, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, FAR, NULL, &err), &err);
    assert_ok(kith_index_add(index, x + (size_t)FAR * DIM, NULL, 1, NULL, &err), &err);
    assert_ok(kith_index_add(index, x + (size_t)(FAR + 1) * DIM, NULL, NEAR, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    kith_index_free(index);
    free(x);
}

/* Finite rows whose squares overflow in training: refused, or trained to something finite. */
static void opq_of_huge_rows(void **state)
{
    (void)state;
    enum { N = 300, DIM = 8 };
    float *x = test_vectors(N, DIM, 0, 3);
    for (size_t d = 0; d < DIM; d++) x[7 * DIM + d] = 1.5e19f;
    static const char *const specs[] = {"OPQ1_4,Flat", "OPQ2,Flat", "OPQP2,Flat", "PCA4,Flat"};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        kith_index *index = made(specs[i], DIM, KITH_L2SQ);
        if (kith_index_train(index, x, N, NULL, &err) == KITH_OK) {
            kith_status status = kith_index_add(index, x, NULL, N, NULL, &err);
            if (status != KITH_OK) assert_int_equal(status, KITH_INVALID);
            assert_ok(kith_index_check(index, &err), &err);
        }
        kith_index_free(index);
    }
    free(x);
}

static void cancel_at_once(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage, (void)done, (void)total;
    kith_cancel_raise(ctx);
}

/* An add that is cancelled leaves room for cuts of one size; then they get another. */
static void forest_of_another_split(void **state)
{
    (void)state;
    enum { N = 2000, DIM = 40 };
    float *x = test_vectors(N, DIM, 10, 4);
    kith_index *index = made("RPForest4", DIM, KITH_L2SQ);
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.cancel = &cancel;
    run.progress = cancel_at_once;
    run.progress_ctx = &cancel;
    assert_ok(kith_index_set(index, "split", 0, &err), &err);
    kith_status status = kith_index_add(index, x, NULL, N, &run, &err);
    if (status != KITH_OK) {
        assert_int_equal(status, KITH_CANCELLED);
        assert_ok(kith_index_set(index, "split", 1, &err), &err);
        assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
    }
    assert_ok(kith_index_check(index, &err), &err);
    nearest_is(index, x + 5 * DIM, 5);
    kith_index_free(index);
    free(x);
}

/* Trained, filled, emptied, trained again: the slots outlive the codes. */
static void hashes_trained_twice(void **state)
{
    (void)state;
    enum { N = 300, DIM = 16 };
    static const struct {
        const char *spec;
        kith_metric metric;
    } cases[] = {{"PStable4x4", KITH_L2SQ}, {"Hyperplane4x8", KITH_COSINE}, {"LSHForest4", KITH_COSINE}};
    float *x = test_vectors(N, DIM, 5, 8);
    uint64_t ids[N];
    for (size_t i = 0; i < N; i++) ids[i] = i;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        kith_index *index = made(cases[c].spec, DIM, cases[c].metric);
        kith_searcher *searcher;
        uint64_t found;
        float distance;
        assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
        assert_ok(kith_index_add(index, x, ids, N, NULL, &err), &err);
        assert_ok(kith_index_remove(index, ids, N, NULL, &err), &err);
        assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
        assert_ok(kith_searcher_create(index, &searcher, &err), &err);
        assert_ok(kith_search(searcher, x, 1, 1, NULL, &found, &distance, NULL, &err), &err);
        assert_true(found == KITH_NO_ID);
        kith_searcher_free(searcher);
        assert_ok(kith_index_add(index, x + 9 * DIM, ids + 9, 20, NULL, &err), &err);
        assert_ok(kith_index_check(index, &err), &err);
        nearest_is(index, x + 9 * DIM, 9);
        kith_index_free(index);
    }
    free(x);
}

/* Replacing one row at a time must not make the list of waiting rows longer for ever. */
static void trees_replaced_one_by_one(void **state)
{
    (void)state;
    enum { N = 600, DIM = 4, ROUNDS = 3000 };
    float *x = test_vectors(N, DIM, 0, 9);
    kith_index *index = made("KDTree", DIM, KITH_L2SQ);
    assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t id = i % 50;
        assert_ok(kith_index_remove(index, &id, 1, NULL, &err), &err);
        assert_ok(kith_index_add(index, x + id * DIM, &id, 1, NULL, &err), &err);
    }
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    assert_true(info.bytes < 4 * N * (DIM * sizeof(float) + 64));
    assert_ok(kith_index_check(index, &err), &err);
    nearest_is(index, x + 7 * DIM, 7);
    kith_index_free(index);
    free(x);
}

/* Codes round: no distance is below 0, and no score is not a number. */
static void distances_are_not_negative(void **state)
{
    (void)state;
    enum { N = 400, DIM = 64 };
    static const char *const specs[] = {"SQ8", "SQ4", "F16", "PQ8"};
    float *x = test_vectors(N, DIM, 0, 10);
    for (size_t i = 0; i < (size_t)N * DIM; i++) x[i] += 50;
    for (size_t c = 0; c < sizeof specs / sizeof *specs; c++) {
        kith_index *index = made(specs[c], DIM, KITH_L2SQ);
        kith_searcher *searcher;
        assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
        assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
        assert_ok(kith_searcher_create(index, &searcher, &err), &err);
        for (size_t q = 0; q < N; q++) {
            uint64_t ids[3];
            float dist[3], own[DIM];
            assert_ok(kith_index_reconstruct(index, q, own, &err), &err);
            assert_ok(kith_search(searcher, own, 1, 3, NULL, ids, dist, NULL, &err), &err);
            for (size_t i = 0; i < 3; i++) assert_true(dist[i] >= 0);
            assert_false(isnan(kith_metric_score(KITH_L2SQ, dist[0], DIM)));
        }
        kith_searcher_free(searcher);
        kith_index_free(index);
    }
    free(x);
}

/* The bytes of an index file, aligned; *size. */
static unsigned char *bytes_of(const kith_index *index, size_t *size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/forged.kith", test_folder());
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = aligned_alloc(64, (*size + 63) / 64 * 64);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

/* Another number in the record of rows. */
static void forge(unsigned char *bytes, const char *name, uint64_t value)
{
    const ki_disk_header *header = (const void *)bytes;
    const ki_disk_section *section = (const void *)(bytes + header->directory_offset);
    size_t found = 0;
    while (strcmp(section->name, "rows") != 0) section++;
    for (size_t at = 0; at < section->bytes;) {
        unsigned char *here = bytes + section->offset + at;
        const ki_disk_entry *entry = (const void *)here;
        if (strcmp(entry->name, name) == 0) {
            memcpy(here + sizeof *entry, &value, sizeof value);
            found++;
        }
        at += sizeof *entry + (entry->bytes + 7) / 8 * 8;
    }
    assert_int_equal(found, 1);
}

/* Memory of at most a thousand pages at a time. */
static void *some_memory(void *ctx, size_t bytes, size_t alignment)
{
    size_t *refused = ctx;
    if (bytes > (size_t)1 << 22) {
        ++*refused;
        return NULL;
    }
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void give_back(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

static void opens_corrupt(const unsigned char *bytes, size_t size)
{
    memory_io io;
    memory_io_init(&io, bytes, size);
    for (int mode = KITH_OPEN_READ; mode <= KITH_OPEN_MAP; mode++) {
        size_t refused = 0;
        kith_allocator allocator = {.alloc = some_memory, .free = give_back, .ctx = &refused};
        kith_index *index;
        kith_status status =
            kith_index_open("forged", (kith_open_mode)mode, &allocator, &io.base, &index, &err);
        kith_index_free(index);
        assert_int_equal(refused, 0);
        assert_int_equal(status, KITH_CORRUPT);
    }
}

/* A file whose ids are said to ascend, and that has a hole or ids in disorder: the slot of a hole would be found, of which
 * no structure knows. */
static void files_said_to_ascend(void **state)
{
    (void)state;
    enum { N = 16, DIM = 4 };
    static const char *const specs[] = {"Flat", "HNSW8", "NSG16"};
    float *x = test_vectors(N, DIM, 0, 11);
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++)
        for (int hole = 0; hole < 2; hole++) {
            kith_index *index = made(specs[s], DIM, KITH_L2SQ);
            uint64_t ids[N], gone = 1;
            size_t size;
            for (size_t i = 0; i < N; i++) ids[i] = hole ? i : N - i;
            assert_ok(kith_index_add(index, x, ids, N, NULL, &err), &err);
            if (hole) assert_ok(kith_index_remove(index, &gone, 1, NULL, &err), &err);
            unsigned char *bytes = bytes_of(index, &size);
            forge(bytes, "ascending", 1);
            test_repair_checksums(bytes, size);
            opens_corrupt(bytes, size);
            free(bytes);
            kith_index_free(index);
        }
    free(x);
}

/* A small file that speaks of four billion rows, of which no section holds as many. */
static void graph_files_of_too_many_rows(void **state)
{
    (void)state;
    static const char *const specs[] = {"HNSW8", "NNDescent10", "NSG16", "Vamana16", "NSW8", "QG32"};
    const uint64_t many = 4294967294u;
    enum { N = 16, DIM = 4 };
    float *x = test_vectors(N, DIM, 0, 13);
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        kith_index *index = made(specs[s], DIM, KITH_L2SQ);
        size_t size;
        assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
        assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
        unsigned char *bytes = bytes_of(index, &size);
        forge(bytes, "n", many);
        forge(bytes, "slots", many);
        ((ki_disk_header *)(void *)bytes)->rows = many;
        test_repair_checksums(bytes, size);
        opens_corrupt(bytes, size);
        free(bytes);
        kith_index_free(index);
    }
    free(x);
}

/* Rows in one direction, whose short codes are equal: they differ in the factors beside these. */
static void graphs_of_rows_in_one_direction(void **state)
{
    (void)state;
    enum { N = 200, DIM = 64 };
    static const char *const specs[] = {"HNSW16,RaBitQ4", "NSG24,RaBitQ4", "Vamana24,RaBitQ4",
                                        "QG32,RaBitQ4"};
    float *x = test_vectors(N, DIM, 0, 12);
    for (size_t i = 0; i < N; i += 2) /* about 0, so that directions are those from the centre */
        for (size_t d = 0; d < DIM; d++) x[(i + 1) * DIM + d] = -x[i * DIM + d];
    for (size_t d = 0; d < DIM; d++) {
        x[2 * DIM + d] = 2 * x[d];
        x[3 * DIM + d] = -x[2 * DIM + d];
        x[4 * DIM + d] = 4 * x[d];
        x[5 * DIM + d] = -x[4 * DIM + d];
    }
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        kith_index *index = made(specs[s], DIM, KITH_L2SQ);
        assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
        assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
        assert_ok(kith_index_check(index, &err), &err);
        double length[3];
        for (size_t i = 0; i < 3; i++) {
            float own[DIM];
            assert_ok(kith_index_reconstruct(index, 2 * i, own, &err), &err);
            length[i] = 0;
            for (size_t d = 0; d < DIM; d++) length[i] += (double)own[d] * own[d];
            nearest_is(index, x + 2 * i * DIM, 2 * i);
        }
        if (!(length[1] > 3 * length[0] && length[2] > 3 * length[1]))
            fail_msg("%s: rows of squared lengths %g, %g, %g", specs[s], length[0], length[1], length[2]);
        kith_index_free(index);
    }
    free(x);
}

typedef struct stopper {
    kith_cancel cancel;
    size_t calls, raise_at;
    uint64_t near;
} stopper;

static int far_or_one(void *ctx, uint64_t id)
{
    stopper *s = ctx;
    if (s->calls++ == s->raise_at) kith_cancel_raise(&s->cancel);
    return id >= 3000 || id == s->near;
}

/* A filter that lets one row near the query through and half of all rows, far away: the walk finds that one, too few, and all
 * rows are compared. When that is stopped, what the walk found is still there. */
static void stopped_scans_keep_what_walks_found(void **state)
{
    (void)state;
    enum { N = 6000, DIM = 8, K = 10 };
    static const char *const specs[] = {"HNSW8", "NNDescent10", "NSG16", "Vamana16", "NSW8", "QG32"};
    float *x = test_vectors(N, DIM, 0, 14);
    for (size_t i = N / 2; i < N; i++) x[i * DIM] += 8;
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        kith_index *index = made(specs[s], DIM, KITH_L2SQ);
        kith_searcher *searcher;
        assert_ok(kith_index_set(index, "ef_construction", 40, &err), &err);
        assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
        assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
        assert_ok(kith_searcher_create(index, &searcher, &err), &err);
        size_t cut = 0;
        for (size_t raise_at = 400; raise_at < 3000; raise_at += 100) {
            stopper stop = {.raise_at = raise_at, .near = 2998};
            kith_filter filter;
            kith_search_options options;
            uint64_t ids[K];
            float dist[K];
            kith_search_stats stats;
            kith_filter_init(&filter);
            filter.allow = far_or_one;
            filter.ctx = &stop;
            kith_search_options_init(&options);
            options.filter = &filter;
            options.cancel = &stop.cancel;
            assert_ok(kith_search(searcher, x + stop.near * DIM, 1, K, &options, ids, dist, &stats, &err),
                      &err);
            cut += !stats.complete;
            if (stats.found == 0 || ids[0] != stop.near)
                fail_msg("%s, stopped after %zu rows: %llu found", specs[s], raise_at,
                         (unsigned long long)stats.found);
            for (size_t i = 1; i < stats.found; i++) assert_true(ids[i] != stop.near);
        }
        assert_true(cut > 5);
        kith_searcher_free(searcher);
        kith_index_free(index);
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hnsw_batch_below_one_node),
        cmocka_unit_test(opq_of_huge_rows),
        cmocka_unit_test(forest_of_another_split),
        cmocka_unit_test(hashes_trained_twice),
        cmocka_unit_test(trees_replaced_one_by_one),
        cmocka_unit_test(distances_are_not_negative),
        cmocka_unit_test(files_said_to_ascend),
        cmocka_unit_test(graph_files_of_too_many_rows),
        cmocka_unit_test(graphs_of_rows_in_one_direction),
        cmocka_unit_test(stopped_scans_keep_what_walks_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
