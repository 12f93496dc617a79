#include "hash/minhash_forest.h"

#include "base/blocks.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/select.h"

#include <math.h>
#include <string.h>

/* Two classes an octave: 2^c and 1.5 2^c begin one. */
static size_t class_of(uint32_t size)
{
    if (size < 2) return 0;
    size_t octave = 31 - (size_t)__builtin_clz(size);
    return 2 * octave + (size >> (octave - 1) & 1);
}

double ki_minhash_class_end(size_t class)
{
    if (class < 2) return 1;
    double octave = ldexp(1, (int)(class / 2));
    return class % 2 ? 2 * octave - 1 : ceil(1.5 * octave) - 1;
}

double ki_minhash_containment(double jaccard, double query, double other, size_t hashes, double *deviation)
{
    double slope = (query + other) / (query * (1 + jaccard) * (1 + jaccard));
    if (deviation) *deviation = slope * sqrt(jaccard * (1 - jaccard) / (double)hashes);
    double containment = jaccard * (query + other) / (query * (1 + jaccard));
    return containment < 1 ? containment : 1;
}

static const uint32_t *slice_of(const ki_minhash_forest *f, size_t row, size_t band)
{
    return f->values + row * f->stride + band * f->rows;
}

static size_t row_class(const ki_minhash_forest *f, size_t row)
{
    return class_of(f->sizes[row * f->size_stride]);
}

/* ---- Adding and removing ---- */

typedef struct adding {
    const ki_minhash_forest *forest;
    const uint32_t *rows;
    uint32_t first;
    size_t added, n;  /* n: with the added */
    uint32_t *order;  /* [bands][n] */
    uint64_t *keys;   /* [workers][added] */
    uint32_t *sorted; /* [workers][2 * added] */
} adding;

/* Order of two rows in a band: negative, or positive. */
static int compare(const ki_minhash_forest *f, size_t band, uint32_t a, uint32_t b)
{
    size_t class_a = row_class(f, a), class_b = row_class(f, b);
    if (class_a != class_b) return class_a < class_b ? -1 : 1;
    int values = memcmp(slice_of(f, a, band), slice_of(f, b, band), f->rows * sizeof(uint32_t));
    return values ? values : a < b ? -1 : 1;
}

static void merge(const ki_minhash_forest *f, size_t band, const uint32_t *a, size_t na, const uint32_t *b,
                  size_t nb, uint32_t *out)
{
    size_t i = 0, k = 0;
    while (i < na && k < nb) *out++ = compare(f, band, a[i], b[k]) < 0 ? a[i++] : b[k++];
    while (i < na) *out++ = a[i++];
    while (k < nb) *out++ = b[k++];
}

/* Merge sort from below; spare[n]. */
static void sort_rows(const ki_minhash_forest *f, size_t band, uint32_t *rows, size_t n, uint32_t *spare)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t at = 0; at < n; at += 2 * width) {
            size_t middle = at + width < n ? at + width : n, end = at + 2 * width < n ? at + 2 * width : n;
            merge(f, band, rows + at, middle - at, rows + middle, end - middle, spare + at);
        }
        memcpy(rows, spare, n * sizeof *rows);
    }
}

/* The new rows of a band by the class and the leading bits of its first value, then what is equal in them in full. */
static void add_band(void *ctx, size_t band, size_t worker)
{
    const adding *g = ctx;
    const ki_minhash_forest *f = g->forest;
    size_t added = g->added;
    uint64_t *keys = g->keys + worker * added;
    uint32_t *sorted = g->sorted + worker * 2 * added, *spare = sorted + added;
    for (size_t i = 0; i < added; i++) {
        uint32_t row = g->rows ? g->rows[i] : g->first + (uint32_t)i, first = 0;
        const unsigned char *bytes = (const unsigned char *)slice_of(f, row, band);
        for (size_t b = 0; b < 4; b++) first = first << 8 | bytes[b]; /* the order that memcmp sees */
        keys[i] = (uint64_t)row_class(f, row) << 58 | (uint64_t)(first >> 6) << 32 | row;
    }
    ki_keys_sort(keys, added);
    for (size_t i = 0; i < added; i++) sorted[i] = (uint32_t)keys[i];
    for (size_t from = 0, to; from < added; from = to) {
        for (to = from + 1; to < added && keys[to] >> 32 == keys[from] >> 32;) to++;
        sort_rows(f, band, sorted + from, to - from, spare);
    }
    merge(f, band, f->order + band * f->n, f->n, sorted, added, g->order + band * g->n);
}

kith_status ki_minhash_forest_merge(const ki_minhash_forest *forest, const uint32_t *rows, uint32_t first,
                                    size_t added, const kith_allocator *allocator, const kith_run *run,
                                    uint32_t **order, kith_error *err)
{
    const ki_minhash_forest *f = forest;
    size_t workers = kith_pool_threads(ki_run_pool(run));
    adding g = {f, rows, first, added, f->n + added, NULL, NULL, NULL};
    *order = NULL;
    g.order = ki_alloc(allocator, g.n * f->bands, sizeof *g.order);
    g.keys = ki_alloc(allocator, workers * added, sizeof *g.keys);
    g.sorted = ki_alloc(allocator, workers * 2 * added, sizeof *g.sorted);
    kith_status status = g.order && g.keys && g.sorted
                             ? ki_blocks_run(run, "adding", f->bands, 1, f->bands, add_band, &g, err)
                             : ki_fail_nomem(err, g.n * f->bands * sizeof *g.order);
    ki_free(allocator, g.keys);
    ki_free(allocator, g.sorted);
    if (status == KITH_OK)
        *order = g.order;
    else
        ki_free(allocator, g.order);
    return status;
}

void ki_minhash_forest_take(ki_minhash_forest *forest, const uint32_t *order, size_t n)
{
    size_t *start = forest->class_start;
    forest->order = order;
    forest->n = n;
    memset(start, 0, sizeof forest->class_start);
    for (size_t i = 0; i < n; i++) start[row_class(forest, order[i]) + 1]++;
    for (size_t c = 0; c < KI_FOREST_CLASSES; c++) start[c + 1] += start[c];
}

static int is_among(const uint32_t *rows, size_t n, uint32_t row)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && rows[low] == row;
}

size_t ki_minhash_forest_drop(uint32_t *order, size_t bands, size_t n, const uint32_t *gone, size_t n_gone)
{
    size_t kept = 0;
    for (size_t i = 0; i < bands * n; i++)
        if (!is_among(gone, n_gone, order[i])) order[kept++] = order[i];
    return bands ? kept / bands : 0;
}

/* ---- Searching ---- */

/* The first place of order[band] within a class whose first `depth` values are not less than the query's (beyond 0), or
 * greater (beyond 1). */
static size_t bound(const ki_minhash_forest *f, const uint32_t *signature, size_t class, size_t band,
                    size_t depth, int beyond)
{
    const uint32_t *order = f->order + band * f->n, *wanted = signature + band * f->rows;
    size_t low = f->class_start[class], high = f->class_start[class + 1];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int values = memcmp(slice_of(f, order[middle], band), wanted, depth * sizeof *wanted);
        if (values < 0 || (beyond && values == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void ki_minhash_forest_range(const ki_minhash_forest *forest, const uint32_t *signature, size_t class,
                             size_t band, size_t depth, size_t *from, size_t *to)
{
    *from = *to = 0;
    if (forest->class_start[class] == forest->class_start[class + 1]) return;
    *from = bound(forest, signature, class, band, depth, 0);
    *to = bound(forest, signature, class, band, depth, 1);
}

/* How many leading values of a band agree. */
static size_t shared(const ki_minhash_forest *f, const uint32_t *signature, size_t row, size_t band)
{
    const uint32_t *values = slice_of(f, row, band), *wanted = signature + band * f->rows;
    size_t depth = 0;
    while (depth < f->rows && values[depth] == wanted[depth]) depth++;
    return depth;
}

int ki_minhash_forest_first(const ki_minhash_forest *forest, const uint32_t *signature, size_t row,
                            size_t band, size_t depth, int deepest)
{
    for (size_t i = 0; i < band; i++)
        if (shared(forest, signature, row, i) >= depth) return 0;
    for (size_t i = band; deepest && i < forest->bands; i++)
        if (shared(forest, signature, row, i) > depth) return 0;
    return 1;
}

size_t ki_minhash_forest_depth(const ki_minhash_forest *forest, double jaccard, double recall)
{
    size_t depth = forest->rows;
    if (jaccard > 1) jaccard = 1;
    while (depth > 1 && kith_bands_probability(forest->bands, depth, jaccard) < recall) depth--;
    return depth;
}

/* ---- Check ---- */

kith_status ki_minhash_forest_check(const ki_minhash_forest *forest, kith_error *err)
{
    for (size_t band = 0; band < forest->bands; band++)
        for (size_t i = 1; i < forest->n; i++) {
            const uint32_t *order = forest->order + band * forest->n;
            if (order[i - 1] == order[i] || compare(forest, band, order[i - 1], order[i]) > 0)
                return ki_fail(err, KITH_CORRUPT, "I1: rows %u and %u of band %zu are out of order",
                               order[i - 1], order[i], band);
        }
    return KITH_OK;
}
