/* Property: any bytes, with their checksums made right, open as an index that can be asked anything, or give an error.
 * Mapped files are searched without a look at kith_index_check, as users do. */
#include "fuzz.h"

#include <math.h>
#include <string.h>

#include <kith/index.h>

#include "fault_io.h"
#include "repair.h"

enum { K = 5, QUERIES = 3 };

static void search_bits(kith_index *index, size_t dim)
{
    kith_searcher *searcher;
    uint64_t ids[QUERIES * K];
    float dist[QUERIES * K];
    uint8_t *queries = calloc(QUERIES, kith_bit_bytes(dim));
    for (size_t q = 0; q < QUERIES; q++) queries[q * kith_bit_bytes(dim)] = (uint8_t)q & 1;
    if (kith_searcher_create(index, &searcher, NULL) == KITH_OK) {
        kith_status status = kith_search_bits(searcher, queries, QUERIES, K, NULL, ids, dist, NULL, NULL);
        FUZZ_ASSERT(status == KITH_OK || status == KITH_CORRUPT);
        for (size_t i = 0; status == KITH_OK && i < QUERIES * K; i++)
            FUZZ_ASSERT(ids[i] != KITH_NO_ID || dist[i] == INFINITY);
        size_t n;
        const uint64_t *near_ids;
        const float *near_dist;
        (void)kith_search_range_bits(searcher, queries, 4, NULL, &n, &near_ids, &near_dist, NULL, NULL);
        kith_searcher_free(searcher);
    }
    if (kith_index_reconstruct_bits(index, 3, queries, NULL) == KITH_OK)
        FUZZ_ASSERT(kith_index_has(index, 3));
    free(queries);
}

static const uint64_t tokens[] = {1, 5, 9, 3, 5}, starts[] = {0, 3, 3, 5};
static const kith_sets three_sets = {tokens, starts, QUERIES, NULL};

static void search_sets(kith_index *index)
{
    kith_searcher *searcher;
    uint64_t ids[QUERIES * K];
    float dist[QUERIES * K];
    if (kith_searcher_create(index, &searcher, NULL) != KITH_OK) return;
    kith_status status = kith_search_sets(searcher, &three_sets, K, NULL, ids, dist, NULL, NULL);
    FUZZ_ASSERT(status == KITH_OK);
    for (size_t i = 0; i < QUERIES * K; i++) FUZZ_ASSERT(ids[i] != KITH_NO_ID || dist[i] == INFINITY);
    size_t n;
    const uint64_t *near_ids;
    const float *near_dist;
    const kith_sets query = {tokens, starts, 1, NULL};
    (void)kith_search_range_sets(searcher, &query, 0.5f, NULL, &n, &near_ids, &near_dist, NULL, NULL);
    kith_searcher_free(searcher);
}

static void search(kith_index *index, size_t dim, kith_metric metric)
{
    if (metric == KITH_HAMMING) {
        search_bits(index, dim);
        return;
    }
    if (metric == KITH_JACCARD) {
        search_sets(index);
        return;
    }
    kith_searcher *searcher;
    uint64_t ids[QUERIES * K];
    float dist[QUERIES * K];
    float *queries = calloc(QUERIES * dim, sizeof *queries);
    for (size_t i = 0; i < QUERIES * dim; i++) queries[i] = sinf((float)i);
    if (kith_searcher_create(index, &searcher, NULL) == KITH_OK) {
        kith_status status = kith_search(searcher, queries, QUERIES, K, NULL, ids, dist, NULL, NULL);
        FUZZ_ASSERT(status == KITH_OK || status == KITH_CORRUPT);
        for (size_t i = 0; status == KITH_OK && i < QUERIES * K; i++)
            FUZZ_ASSERT(ids[i] != KITH_NO_ID || dist[i] == INFINITY);
        size_t n;
        const uint64_t *near_ids;
        const float *near_dist;
        (void)kith_search_range(searcher, queries, 4, NULL, &n, &near_ids, &near_dist, NULL, NULL);
        kith_searcher_free(searcher);
    }
    if (kith_index_reconstruct(index, 3, queries, NULL) == KITH_OK) FUZZ_ASSERT(kith_index_has(index, 3));
    free(queries);
}

/* What may be done to an index in memory. */
static void change(kith_index *index, size_t dim, kith_metric metric)
{
    const uint64_t gone = 3, new_id = 1000;
    size_t removed;
    float *row = calloc(dim, sizeof *row);
    (void)kith_index_remove(index, &gone, 1, &removed, NULL);
    const uint8_t *bits = (const uint8_t *)row;
    const kith_sets set = {tokens, starts, 1, NULL};
    if ((metric == KITH_JACCARD   ? kith_index_add_sets(index, &set, &new_id, NULL, NULL)
         : metric == KITH_HAMMING ? kith_index_add_bits(index, bits, &new_id, 1, NULL, NULL)
                                  : kith_index_add(index, row, &new_id, 1, NULL, NULL)) == KITH_OK)
        FUZZ_ASSERT(kith_index_has(index, new_id));
    free(row);
}

static void try_mode(const uint8_t *data, size_t size, kith_open_mode mode)
{
    memory_io io;
    fuzz_allocator allocator;
    kith_index *index;
    kith_error err = {0};
    memory_io_init(&io, data, size);
    fuzz_allocator_init(&allocator, size);
    kith_status status = kith_index_open("input", mode, &allocator.base, &io.base, &index, &err);
    FUZZ_ASSERT((status == KITH_OK) == (index != NULL));
    FUZZ_ASSERT(status == KITH_OK || (err.code == status && err.message[0]));
    if (index) {
        kith_index_info info = {.struct_size = sizeof info};
        FUZZ_ASSERT(kith_index_get_info(index, &info, NULL) == KITH_OK);
        FUZZ_ASSERT(info.dim >= 1 && info.dim <= KITH_MAX_DIM);
        (void)kith_index_check(index, NULL);
        search(index, info.dim, info.metric);
        if (mode == KITH_OPEN_READ) {
            change(index, info.dim, info.metric);
            search(index, info.dim, info.metric);
        }
        kith_index_free(index);
    }
    FUZZ_ASSERT(allocator.live == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *forged = malloc(size + 1);
    if (size > 0) memcpy(forged, data, size);
    test_repair_checksums(forged, size);
    try_mode(forged, size, KITH_OPEN_READ);
    try_mode(forged, size, KITH_OPEN_MAP);
    free(forged);
    return 0;
}
