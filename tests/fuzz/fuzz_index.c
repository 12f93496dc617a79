/* Property: any bytes, with their checksums made right, open as an index that can be asked anything, or give an error.
 * Mapped files are searched without a look at kith_index_check, as users do. Seeds are files of some ten rows (index_seeds.c),
 * which families compare one by one where they are not told otherwise: see ways. */
#include "fuzz.h"

#include <math.h>
#include <string.h>

#include <kith/filter.h>
#include <kith/index.h>
#include <kith/iterate.h>

#include "fault_io.h"
#include "repair.h"

enum { K = 5, QUERIES = 3 };

/* How searches are asked for. Settings that a family does not have it refuses. Graphs walk where rows are more than a few
 * times ef or k, or where scan_below says so; of cells all are looked into unless nprobe is less. */
static const struct way {
    kith_setting settings[2];
    size_t n_settings, k;
    int filtered;
} ways[] = {
    {{{0}}, 0, K, 0},           {{{0}}, 0, K, 1},
    {{{"ef", 1}}, 1, 1, 0},     {{{"ef", 2}}, 1, 1, 1},
    {{{"nprobe", 1}}, 1, 2, 0}, {{{"nprobe", 1}, {"coarse_ef", 1}}, 2, 2, 1},
    {{{"exact", 1}}, 1, 2, 0},  {{{"scan_below", 0}, {"ef", 3}}, 2, 2, 0},
};
#define N_WAYS (sizeof ways / sizeof *ways)

static const uint64_t even[] = {0x5555555555555555};
static const kith_filter even_ids = {sizeof even_ids, even, 64, NULL, NULL};

static const uint64_t tokens[] = {1, 5, 9, 3, 5}, starts[] = {0, 3, 3, 5};
static const kith_sets three_sets = {tokens, starts, QUERIES, NULL}, one_set = {tokens, starts, 1, NULL};

/* An index that was opened, and what it is asked: queries, for rows of sets none. */
typedef struct asked {
    kith_index *index;
    kith_row_kind rows;
    size_t dim;
    float *queries; /* [QUERIES][dim] */
    uint8_t *bits;  /* [QUERIES][kith_bit_bytes(dim)] */
} asked;

static kith_status search_way(const asked *a, kith_searcher *searcher, const kith_search_options *options,
                              size_t k, uint64_t *ids, float *dist)
{
    if (a->rows == KITH_ROWS_SETS)
        return kith_search_sets(searcher, &three_sets, k, options, ids, dist, NULL, NULL);
    if (a->rows == KITH_ROWS_BITS)
        return kith_search_bits(searcher, a->bits, QUERIES, k, options, ids, dist, NULL, NULL);
    return kith_search(searcher, a->queries, QUERIES, k, options, ids, dist, NULL, NULL);
}

static void search_range(const asked *a, kith_searcher *searcher, const kith_search_options *options)
{
    size_t n;
    const uint64_t *ids;
    const float *dist;
    if (a->rows == KITH_ROWS_SETS)
        (void)kith_search_range_sets(searcher, &one_set, 0.5f, options, &n, &ids, &dist, NULL, NULL);
    else if (a->rows == KITH_ROWS_BITS)
        (void)kith_search_range_bits(searcher, a->bits, 4, options, &n, &ids, &dist, NULL, NULL);
    else
        (void)kith_search_range(searcher, a->queries, 4, options, &n, &ids, &dist, NULL, NULL);
}

/* Three pages of what follows on each other. */
static void iterate(const asked *a, const kith_search_options *options)
{
    kith_iterator *iterator;
    uint64_t ids[2];
    float dist[2];
    size_t n;
    if (a->rows == KITH_ROWS_SETS) return;
    if ((a->rows == KITH_ROWS_BITS
             ? kith_iterator_create_bits(a->index, a->bits, options, &iterator, NULL)
             : kith_iterator_create(a->index, a->queries, options, &iterator, NULL)) != KITH_OK)
        return;
    for (int page = 0; page < 3; page++)
        if (kith_iterator_next(iterator, 2, ids, dist, &n, NULL) == KITH_OK) FUZZ_ASSERT(n <= 2);
    kith_iterator_free(iterator);
}

static void search(const asked *a)
{
    kith_searcher *searcher;
    uint64_t ids[QUERIES * K];
    float dist[QUERIES * K];
    if (kith_searcher_create(a->index, &searcher, NULL) != KITH_OK) return;
    for (size_t w = 0; w < N_WAYS; w++) {
        kith_search_options options;
        kith_search_options_init(&options);
        options.settings = ways[w].settings;
        options.n_settings = ways[w].n_settings;
        if (ways[w].filtered) options.filter = &even_ids;
        kith_status status = search_way(a, searcher, &options, ways[w].k, ids, dist);
        FUZZ_ASSERT(status == KITH_OK || status == KITH_CORRUPT ||
                    (status == KITH_INVALID && options.n_settings > 0));
        if (status == KITH_INVALID) continue;
        for (size_t i = 0; status == KITH_OK && i < QUERIES * ways[w].k; i++) {
            FUZZ_ASSERT(ids[i] != KITH_NO_ID || dist[i] == INFINITY);
            FUZZ_ASSERT(ids[i] == KITH_NO_ID || !ways[w].filtered || (ids[i] < 64 && ids[i] % 2 == 0));
        }
        search_range(a, searcher, &options);
        iterate(a, &options);
    }
    kith_searcher_free(searcher);
}

static void reconstruct(const asked *a)
{
    float *row = calloc(a->dim, sizeof *row);
    uint8_t *bits = calloc(1, kith_bit_bytes(a->dim));
    if (kith_index_reconstruct(a->index, 3, row, NULL) == KITH_OK) FUZZ_ASSERT(kith_index_has(a->index, 3));
    if (kith_index_reconstruct_bits(a->index, 3, bits, NULL) == KITH_OK)
        FUZZ_ASSERT(kith_index_has(a->index, 3));
    free(bits);
    free(row);
}

/* What may be done to an index in memory. */
static void change(const asked *a)
{
    const uint64_t gone = 3, new_id = 1000;
    size_t removed;
    kith_compact_options split;
    (void)kith_index_remove(a->index, &gone, 1, &removed, NULL);
    if ((a->rows == KITH_ROWS_SETS ? kith_index_add_sets(a->index, &one_set, &new_id, NULL, NULL)
         : a->rows == KITH_ROWS_BITS
             ? kith_index_add_bits(a->index, a->bits, &new_id, 1, NULL, NULL)
             : kith_index_add(a->index, a->queries, &new_id, 1, NULL, NULL)) == KITH_OK)
        FUZZ_ASSERT(kith_index_has(a->index, new_id));
    kith_compact_options_init(&split);
    split.max_cell = 1.5;
    (void)kith_index_compact(a->index, &split, NULL, NULL, NULL);
}

static void use(kith_index *index, kith_open_mode mode)
{
    kith_index_info info = {.struct_size = sizeof info};
    FUZZ_ASSERT(kith_index_get_info(index, &info, NULL) == KITH_OK);
    FUZZ_ASSERT(info.dim >= 1 && info.dim <= KITH_MAX_DIM);
    asked a = {index, kith_metric_rows(info.metric), info.dim, NULL, NULL};
    a.queries = calloc(QUERIES * a.dim, sizeof *a.queries);
    a.bits = calloc(QUERIES, kith_bit_bytes(a.dim));
    for (size_t i = 0; i < QUERIES * a.dim; i++) a.queries[i] = sinf((float)i);
    for (size_t q = 0; q < QUERIES; q++) a.bits[q * kith_bit_bytes(a.dim)] = (uint8_t)q & 1;
    (void)kith_index_check(index, NULL);
    search(&a);
    reconstruct(&a);
    if (mode == KITH_OPEN_READ) {
        change(&a);
        search(&a);
    }
    free(a.queries);
    free(a.bits);
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
        use(index, mode);
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
