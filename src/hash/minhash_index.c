/* minhash_index.c - the LSH forest over MinHash signatures.
 *
 * A tree of the forest (Bawa et al. 2005) is a sorted array: the rows in the order of one band of their signatures, so
 * that those which agree with a query in the first d values of the band are a range, found by two binary searches.
 * Before the band, rows are ordered by the class of their set's size (two classes an octave), and every search goes class by
 * class: that is what containment needs (Zhu et al. 2016 cut by equal numbers of sets, which must be known beforehand; classes
 * of fixed bounds are within a factor of sqrt(2) in size and let sets be added).
 *
 *     order[band][n]     rows by (class, band's values as bytes, row)
 *     class_start[65]    the range of a class, the same in every band
 *
 * I1  each order[band] is a permutation of 0..n-1, sorted as said.
 * A row found in several bands is reported by the first: whether an earlier band agrees, too, is asked of the signatures.
 */
#include <kith/minhash.h>

#include "base/blocks.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/select.h"

#include <math.h>
#include <string.h>

#define CLASSES 64
#define CONTAINING_RECALL 0.95 /* of the candidates of a class, by its longest sets: arbitrary */

struct kith_minhash_index {
    const kith_allocator *allocator;
    size_t hashes, bands, rows, n;
    int sized;            /* -1: nothing was added yet */
    uint32_t *signatures; /* [n][hashes] */
    uint32_t *sizes;      /* [n]; 0 where not known */
    uint32_t *order;      /* [bands][n] */
    size_t class_start[CLASSES + 1];
};

/* Two classes an octave: 2^c and 1.5 2^c begin one. */
static size_t class_of(uint32_t size)
{
    if (size < 2) return 0;
    size_t octave = 31 - (size_t)__builtin_clz(size);
    return 2 * octave + (size >> (octave - 1) & 1);
}

/* The largest size in a class. */
static double class_end(size_t class)
{
    if (class < 2) return 1;
    double octave = ldexp(1, (int)(class / 2));
    return class % 2 ? 2 * octave - 1 : ceil(1.5 * octave) - 1;
}

kith_status kith_minhash_index_create(size_t hashes, size_t bands, size_t rows,
                                      const kith_allocator *allocator, kith_minhash_index **index,
                                      kith_error *err)
{
    if (!index) return ki_fail(err, KITH_INVALID, "index is NULL");
    *index = NULL;
    if (bands == 0 || rows == 0 || hashes > KITH_MINHASH_MAX_HASHES || bands > hashes ||
        rows > hashes / bands)
        return ki_fail(err, KITH_INVALID, "%zu bands of %zu values do not fit signatures of %zu (1..%d)",
                       bands, rows, hashes, KITH_MINHASH_MAX_HASHES);
    kith_minhash_index *made = ki_alloc_zero(allocator, 1, sizeof *made);
    if (!made) return ki_fail_nomem(err, sizeof *made);
    made->allocator = allocator;
    made->hashes = hashes;
    made->bands = bands;
    made->rows = rows;
    made->sized = -1;
    *index = made;
    return KITH_OK;
}

void kith_minhash_index_free(kith_minhash_index *index)
{
    if (!index) return;
    ki_free(index->allocator, index->signatures);
    ki_free(index->allocator, index->sizes);
    ki_free(index->allocator, index->order);
    ki_free(index->allocator, index);
}

size_t kith_minhash_index_count(const kith_minhash_index *index)
{
    return index->n;
}

static const uint32_t *slice_of(const kith_minhash_index *x, size_t row, size_t band)
{
    return x->signatures + row * x->hashes + band * x->rows;
}

/* ---- Adding ---- */

typedef struct adding {
    kith_minhash_index *index; /* signatures and sizes are those of the whole already */
    size_t old_n, n;
    uint32_t *order;  /* [bands][n] */
    uint64_t *keys;   /* [workers][added] */
    uint32_t *sorted; /* [workers][2 * added] */
} adding;

/* Order of two rows in a band: negative, or positive. */
static int compare(const kith_minhash_index *x, size_t band, uint32_t a, uint32_t b)
{
    size_t class_a = class_of(x->sizes[a]), class_b = class_of(x->sizes[b]);
    if (class_a != class_b) return class_a < class_b ? -1 : 1;
    int values = memcmp(slice_of(x, a, band), slice_of(x, b, band), x->rows * sizeof(uint32_t));
    return values ? values : a < b ? -1 : 1;
}

static void merge(const kith_minhash_index *x, size_t band, const uint32_t *a, size_t na, const uint32_t *b,
                  size_t nb, uint32_t *out)
{
    size_t i = 0, k = 0;
    while (i < na && k < nb) *out++ = compare(x, band, a[i], b[k]) < 0 ? a[i++] : b[k++];
    while (i < na) *out++ = a[i++];
    while (k < nb) *out++ = b[k++];
}

/* Merge sort from below; spare[n]. */
static void sort_rows(const kith_minhash_index *x, size_t band, uint32_t *rows, size_t n, uint32_t *spare)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t at = 0; at < n; at += 2 * width) {
            size_t middle = at + width < n ? at + width : n, end = at + 2 * width < n ? at + 2 * width : n;
            merge(x, band, rows + at, middle - at, rows + middle, end - middle, spare + at);
        }
        memcpy(rows, spare, n * sizeof *rows);
    }
}

/* The new rows of a band by the class and the leading bits of its first value, then what is equal in them in full. */
static void add_band(void *ctx, size_t band, size_t worker)
{
    const adding *g = ctx;
    const kith_minhash_index *x = g->index;
    size_t added = g->n - g->old_n;
    uint64_t *keys = g->keys + worker * added;
    uint32_t *sorted = g->sorted + worker * 2 * added, *spare = sorted + added;
    for (size_t i = 0; i < added; i++) {
        uint32_t row = (uint32_t)(g->old_n + i), first = 0;
        const unsigned char *bytes = (const unsigned char *)slice_of(x, row, band);
        for (size_t b = 0; b < 4; b++) first = first << 8 | bytes[b]; /* the order that memcmp sees */
        keys[i] = (uint64_t)class_of(x->sizes[row]) << 58 | (uint64_t)(first >> 6) << 32 | row;
    }
    ki_keys_sort(keys, added);
    for (size_t i = 0; i < added; i++) sorted[i] = (uint32_t)keys[i];
    for (size_t from = 0, to; from < added; from = to) {
        for (to = from + 1; to < added && keys[to] >> 32 == keys[from] >> 32;) to++;
        sort_rows(x, band, sorted + from, to - from, spare);
    }
    merge(x, band, x->order + band * g->old_n, g->old_n, sorted, added, g->order + band * g->n);
}

static void count_classes(kith_minhash_index *x)
{
    memset(x->class_start, 0, sizeof x->class_start);
    for (size_t i = 0; i < x->n; i++) x->class_start[class_of(x->sizes[i]) + 1]++;
    for (size_t c = 0; c < CLASSES; c++) x->class_start[c + 1] += x->class_start[c];
}

kith_status kith_minhash_index_add(kith_minhash_index *index, size_t n, const uint32_t *signatures,
                                   const uint32_t *sizes, const kith_run *run, kith_error *err)
{
    kith_minhash_index *x = index;
    size_t all = x->n + n, workers = kith_pool_threads(ki_run_pool(run));
    if (n == 0) return KITH_OK;
    if (!signatures) return ki_fail(err, KITH_INVALID, "signatures is NULL");
    if (n >= UINT32_MAX - x->n)
        return ki_fail(err, KITH_INVALID, "n is %zu beside %zu, allowed are %u", n, x->n, UINT32_MAX - 1);
    if (x->sized >= 0 && x->sized != (sizes != NULL))
        return ki_fail(err, KITH_INVALID, "sizes must be given for all sets or for none");
    uint32_t *grown =
        ki_realloc(x->allocator, x->signatures, x->n * x->hashes, all * x->hashes, sizeof *grown);
    if (!grown) return ki_fail_nomem(err, all * x->hashes * sizeof *grown);
    x->signatures = grown;
    grown = ki_realloc(x->allocator, x->sizes, x->n, all, sizeof *grown);
    if (!grown) return ki_fail_nomem(err, all * sizeof *grown);
    x->sizes = grown;
    memcpy(x->signatures + x->n * x->hashes, signatures, n * x->hashes * sizeof *signatures);
    if (sizes)
        memcpy(x->sizes + x->n, sizes, n * sizeof *sizes);
    else
        memset(x->sizes + x->n, 0, n * sizeof *sizes);
    adding g = {x, x->n, all, NULL, NULL, NULL};
    g.order = ki_alloc(x->allocator, all * x->bands, sizeof *g.order);
    g.keys = ki_alloc(x->allocator, workers * n, sizeof *g.keys);
    g.sorted = ki_alloc(x->allocator, workers * 2 * n, sizeof *g.sorted);
    kith_status status = g.order && g.keys && g.sorted
                             ? ki_blocks_run(run, "adding", x->bands, 1, x->bands, add_band, &g, err)
                             : ki_fail_nomem(err, all * x->bands * sizeof *g.order);
    ki_free(x->allocator, g.keys);
    ki_free(x->allocator, g.sorted);
    if (status != KITH_OK) {
        ki_free(x->allocator, g.order);
        return status;
    }
    ki_free(x->allocator, x->order);
    x->order = g.order;
    x->n = all;
    x->sized = sizes != NULL;
    count_classes(x);
    return KITH_OK;
}

/* ---- Searching ---- */

typedef struct found {
    const kith_allocator *allocator;
    kith_set_hit *hits;
    size_t n, room;
} found;

static kith_status found_add(found *f, uint32_t set, double similarity, kith_error *err)
{
    if (f->n == f->room) {
        size_t room = ki_grown(f->room, f->n + 1);
        kith_set_hit *grown = ki_realloc(f->allocator, f->hits, f->n, room, sizeof *grown);
        if (!grown) return ki_fail_nomem(err, room * sizeof *grown);
        f->hits = grown;
        f->room = room;
    }
    f->hits[f->n++] = (kith_set_hit){set, (float)similarity};
    return KITH_OK;
}

/* Most similar first, then by number: as keys whose order is that of integers. Writes at most room of them. */
static kith_status found_give(found *f, kith_set_hit *hits, size_t room, kith_error *err)
{
    uint64_t *keys = ki_alloc(f->allocator, f->n, sizeof *keys);
    if (!keys) return ki_fail_nomem(err, f->n * sizeof *keys);
    for (size_t i = 0; i < f->n; i++) keys[i] = ki_key(-f->hits[i].similarity, f->hits[i].set);
    ki_keys_sort(keys, f->n);
    for (size_t i = 0; i < f->n && i < room; i++)
        hits[i] = (kith_set_hit){ki_key_number(keys[i]), -ki_key_dist(keys[i])};
    ki_free(f->allocator, keys);
    return KITH_OK;
}

/* The first place of order[band] within a class whose first `depth` values are not less than the query's (beyond 0), or
 * greater (beyond 1). */
static size_t bound(const kith_minhash_index *x, const uint32_t *signature, size_t class, size_t band,
                    size_t depth, int beyond)
{
    const uint32_t *order = x->order + band * x->n, *wanted = signature + band * x->rows;
    size_t low = x->class_start[class], high = x->class_start[class + 1];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int values = memcmp(slice_of(x, order[middle], band), wanted, depth * sizeof *wanted);
        if (values < 0 || (beyond && values == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* How many leading values of a band agree. */
static size_t shared(const kith_minhash_index *x, const uint32_t *signature, size_t row, size_t band)
{
    const uint32_t *values = slice_of(x, row, band), *wanted = signature + band * x->rows;
    size_t depth = 0;
    while (depth < x->rows && values[depth] == wanted[depth]) depth++;
    return depth;
}

/* Whether this band is the first in which the row agrees to `depth`, and no band agrees further when `deepest`. */
static int first_met(const kith_minhash_index *x, const uint32_t *signature, size_t row, size_t band,
                     size_t depth, int deepest)
{
    for (size_t i = 0; i < band; i++)
        if (shared(x, signature, row, i) >= depth) return 0;
    for (size_t i = band; deepest && i < x->bands; i++)
        if (shared(x, signature, row, i) > depth) return 0;
    return 1;
}

/* Add the rows of a class that agree with the query in `depth` values of a band. deepest: only those which agree no
 * further in any band. */
static kith_status gather(const kith_minhash_index *x, const uint32_t *signature, size_t class, size_t depth,
                          int deepest, found *f, kith_error *err)
{
    if (x->class_start[class] == x->class_start[class + 1]) return KITH_OK;
    for (size_t band = 0; band < x->bands; band++) {
        size_t from = bound(x, signature, class, band, depth, 0),
               to = bound(x, signature, class, band, depth, 1);
        for (size_t at = from; at < to; at++) {
            uint32_t row = x->order[band * x->n + at];
            if (!first_met(x, signature, row, band, depth, deepest)) continue;
            const uint32_t *other = x->signatures + (size_t)row * x->hashes;
            KI_TRY(found_add(f, row, kith_minhash_similarity(signature, other, x->hashes), err));
        }
    }
    return KITH_OK;
}

kith_status kith_minhash_index_near(const kith_minhash_index *index, const uint32_t *signature,
                                    double threshold, kith_set_hit *hits, size_t room, size_t *n,
                                    kith_error *err)
{
    found f = {.allocator = index->allocator};
    kith_status status = KITH_OK;
    for (size_t class = 0; status == KITH_OK && class < CLASSES; class ++)
        status = gather(index, signature, class, index->rows, 0, &f, err);
    size_t kept = 0;
    for (size_t i = 0; i < f.n; i++)
        if (f.hits[i].similarity >= (float)threshold) f.hits[kept++] = f.hits[i];
    f.n = kept;
    if (status == KITH_OK) status = found_give(&f, hits, room, err);
    if (status == KITH_OK) *n = f.n;
    ki_free(f.allocator, f.hits);
    return status;
}

kith_status kith_minhash_index_top(const kith_minhash_index *index, const uint32_t *signature, size_t k,
                                   size_t candidates, kith_set_hit *hits, size_t *n, kith_error *err)
{
    found f = {.allocator = index->allocator};
    kith_status status = KITH_OK;
    if (candidates < k) candidates = k;
    for (size_t depth = index->rows; status == KITH_OK && depth > 0 && f.n < candidates; depth--)
        for (size_t class = 0; status == KITH_OK && class < CLASSES; class ++)
            status = gather(index, signature, class, depth, 1, &f, err);
    if (status == KITH_OK) status = found_give(&f, hits, k, err);
    if (status == KITH_OK) *n = f.n < k ? f.n : k;
    ki_free(f.allocator, f.hits);
    return status;
}

/* The containment of the query that a Jaccard similarity means, and its standard error. */
static double containment_of(double jaccard, double query, double other, size_t hashes, double *deviation)
{
    double slope = (query + other) / (query * (1 + jaccard) * (1 + jaccard));
    *deviation = slope * sqrt(jaccard * (1 - jaccard) / (double)hashes);
    double containment = jaccard * (query + other) / (query * (1 + jaccard));
    return containment < 1 ? containment : 1;
}

kith_status kith_minhash_index_containing(const kith_minhash_index *index, const uint32_t *signature,
                                          size_t size, double containment, kith_set_hit *hits, size_t room,
                                          size_t *n, kith_error *err)
{
    if (index->sized == 0) return ki_fail(err, KITH_INVALID, "the sizes of the index's sets are not known");
    if (size == 0) return ki_fail(err, KITH_INVALID, "size is 0, at least 1 token is needed");
    if (!(containment > 0 && containment <= 1))
        return ki_fail(err, KITH_INVALID, "containment is %g, allowed above 0 and up to 1", containment);
    found f = {.allocator = index->allocator};
    kith_status status = KITH_OK;
    for (size_t class = 0; status == KITH_OK && class < CLASSES; class ++) {
        double longest = class_end(class), query = (double)size;
        if (longest < containment * query) continue; /* too short to hold so much of the query */
        double jaccard = containment / (longest / query + 1 - containment);
        size_t depth = index->rows;
        while (depth > 1 &&
               kith_bands_probability(index->bands, depth, jaccard < 1 ? jaccard : 1) < CONTAINING_RECALL)
            depth--;
        status = gather(index, signature, class, depth, 0, &f, err);
    }
    size_t kept = 0;
    for (size_t i = 0; i < f.n; i++) {
        double deviation;
        double estimate = containment_of((double)f.hits[i].similarity, (double)size,
                                         (double)index->sizes[f.hits[i].set], index->hashes, &deviation);
        if (estimate >= containment - 2 * deviation)
            f.hits[kept++] = (kith_set_hit){f.hits[i].set, (float)estimate};
    }
    f.n = kept;
    if (status == KITH_OK) status = found_give(&f, hits, room, err);
    if (status == KITH_OK) *n = f.n;
    ki_free(f.allocator, f.hits);
    return status;
}
