/* minhash_index.c - the index of signatures: the LSH forest (hash/minhash_forest.h) with memory of its own.
 *
 * I1  of minhash_forest.h, over rows 0..n-1.
 */
#include <kith/minhash.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/select.h"
#include "hash/minhash_forest.h"

#include <string.h>

#define CONTAINING_RECALL 0.95 /* of the candidates of a class, by its longest sets: arbitrary */

struct kith_minhash_index {
    const kith_allocator *allocator;
    size_t hashes, n;
    int sized;            /* -1: nothing was added yet */
    uint32_t *signatures; /* [n][hashes] */
    uint32_t *sizes;      /* [n]; 0 where not known */
    uint32_t *order;      /* [bands][n] */
    ki_minhash_forest forest;
};

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
    made->forest = (ki_minhash_forest){.bands = bands, .rows = rows, .stride = hashes, .size_stride = 1};
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

/* ---- Adding ---- */

kith_status kith_minhash_index_add(kith_minhash_index *index, size_t n, const uint32_t *signatures,
                                   const uint32_t *sizes, const kith_run *run, kith_error *err)
{
    kith_minhash_index *x = index;
    size_t all = x->n + n;
    if (n == 0) return KITH_OK;
    if (!signatures) return ki_fail(err, KITH_INVALID, "signatures is NULL");
    if (n >= UINT32_MAX - x->n)
        return ki_fail(err, KITH_INVALID, "n is %zu beside %zu, allowed are %u", n, x->n, UINT32_MAX - 1);
    if (x->sized >= 0 && x->sized != (sizes != NULL))
        return ki_fail(err, KITH_INVALID, "sizes must be given for all sets or for none");
    uint32_t *grown =
        ki_realloc(x->allocator, x->signatures, x->n * x->hashes, all * x->hashes, sizeof *grown);
    if (!grown) return ki_fail_nomem(err, all * x->hashes * sizeof *grown);
    x->forest.values = x->signatures = grown;
    grown = ki_realloc(x->allocator, x->sizes, x->n, all, sizeof *grown);
    if (!grown) return ki_fail_nomem(err, all * sizeof *grown);
    x->forest.sizes = x->sizes = grown;
    memcpy(x->signatures + x->n * x->hashes, signatures, n * x->hashes * sizeof *signatures);
    if (sizes)
        memcpy(x->sizes + x->n, sizes, n * sizeof *sizes);
    else
        memset(x->sizes + x->n, 0, n * sizeof *sizes);
    uint32_t *order;
    KI_TRY(ki_minhash_forest_merge(&x->forest, NULL, (uint32_t)x->n, n, x->allocator, run, &order, err));
    ki_free(x->allocator, x->order);
    x->order = order;
    x->n = all;
    x->sized = sizes != NULL;
    ki_minhash_forest_take(&x->forest, order, all);
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

/* Add the rows of a class that agree with the query in `depth` values of a band. deepest: only those which agree no
 * further in any band. */
static kith_status gather(const kith_minhash_index *x, const uint32_t *signature, size_t class, size_t depth,
                          int deepest, found *f, kith_error *err)
{
    const ki_minhash_forest *forest = &x->forest;
    for (size_t band = 0; band < forest->bands; band++) {
        size_t from, to;
        ki_minhash_forest_range(forest, signature, class, band, depth, &from, &to);
        for (size_t at = from; at < to; at++) {
            uint32_t row = x->order[band * x->n + at];
            if (!ki_minhash_forest_first(forest, signature, row, band, depth, deepest)) continue;
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
    for (size_t class = 0; status == KITH_OK && class < KI_FOREST_CLASSES; class ++)
        status = gather(index, signature, class, index->forest.rows, 0, &f, err);
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
    for (size_t depth = index->forest.rows; status == KITH_OK && depth > 0 && f.n < candidates; depth--)
        for (size_t class = 0; status == KITH_OK && class < KI_FOREST_CLASSES; class ++)
            status = gather(index, signature, class, depth, 1, &f, err);
    if (status == KITH_OK) status = found_give(&f, hits, k, err);
    if (status == KITH_OK) *n = f.n < k ? f.n : k;
    ki_free(f.allocator, f.hits);
    return status;
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
    for (size_t class = 0; status == KITH_OK && class < KI_FOREST_CLASSES; class ++) {
        double longest = ki_minhash_class_end(class), query = (double)size;
        if (longest < containment * query) continue; /* too short to hold so much of the query */
        double jaccard = containment / (longest / query + 1 - containment);
        size_t depth = ki_minhash_forest_depth(&index->forest, jaccard, CONTAINING_RECALL);
        status = gather(index, signature, class, depth, 0, &f, err);
    }
    size_t kept = 0;
    for (size_t i = 0; i < f.n; i++) {
        double deviation;
        double estimate =
            ki_minhash_containment((double)f.hits[i].similarity, (double)size,
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
