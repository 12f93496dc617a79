/* iterate.c - rows in order of distance, as many as are asked for and then the next, for every family: by searches that
 * widen. Each asks for twice as many rows as the one before, so all of them together cost at most about twice the last;
 * what was handed out is kept in a table, because a wider search of an approximate family may order rows anew. */
#include <kith/iterate.h>

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "index/front.h"

#define FIRST 16 /* rows of the first search at least: as dear as one row where cells or beams are searched */

struct kith_iterator {
    const kith_allocator *allocator;
    const kith_index *index;
    kith_searcher *searcher;
    kith_search_options options;
    float *query;  /* [dim], or NULL */
    uint8_t *bits; /* [kith_bit_bytes(dim)], or NULL */
    uint64_t *ids; /* [room] what the last search found */
    float *dist;
    size_t room, found, at; /* before `at`: handed out, or known to have been */
    int exhausted;          /* the last search found all there is */
    int cut;                /* it was ended early by its budget */
    uint64_t *given;        /* [places] ids handed out, by hash; KITH_NO_ID: free */
    size_t places, n_given;
};

void kith_iterator_free(kith_iterator *it)
{
    if (!it) return;
    kith_searcher_free(it->searcher);
    ki_free(it->allocator, it->query);
    ki_free(it->allocator, it->bits);
    ki_free(it->allocator, it->ids);
    ki_free(it->allocator, it->dist);
    ki_free(it->allocator, it->given);
    ki_free(it->allocator, it);
}

static kith_status create(const kith_index *index, const float *query, const uint8_t *bits,
                          const kith_search_options *options, kith_iterator **out, kith_error *err)
{
    if (!out) return ki_fail(err, KITH_INVALID, "iterator is NULL");
    *out = NULL;
    if (!index || (!query && !bits))
        return ki_fail(err, KITH_INVALID, "%s is NULL", index ? "query" : "index");
    kith_iterator *it = ki_alloc_zero(NULL, 1, sizeof *it);
    if (!it) return ki_fail_nomem(err, sizeof *it);
    it->index = index;
    kith_search_options_init(&it->options);
    if (options) it->options = *options;
    size_t bytes = bits ? kith_bit_bytes(index->dim) : index->dim * sizeof *query;
    void *copy = ki_alloc(NULL, bytes, 1);
    if (copy) memcpy(copy, bits ? (const void *)bits : query, bytes);
    if (bits)
        it->bits = copy;
    else
        it->query = copy;
    kith_status status = copy ? kith_searcher_create(index, &it->searcher, err) : ki_fail_nomem(err, bytes);
    if (status != KITH_OK) {
        kith_iterator_free(it);
        return status;
    }
    *out = it;
    return KITH_OK;
}

kith_status kith_iterator_create(const kith_index *index, const float *query,
                                 const kith_search_options *options, kith_iterator **iterator,
                                 kith_error *err)
{
    return create(index, query, NULL, options, iterator, err);
}

kith_status kith_iterator_create_bits(const kith_index *index, const uint8_t *query,
                                      const kith_search_options *options, kith_iterator **iterator,
                                      kith_error *err)
{
    return create(index, NULL, query, options, iterator, err);
}

/* ---- What was handed out ---- */

/* The place of an id, or the free one where it would stand. */
static size_t place(const uint64_t *table, size_t places, uint64_t id)
{
    size_t i = ki_mix64(id) & (places - 1);
    while (table[i] != KITH_NO_ID && table[i] != id) i = (i + 1) & (places - 1);
    return i;
}

/* Room for n ids, and free places besides. */
static kith_status reserve_given(kith_iterator *it, size_t n, kith_error *err)
{
    if (2 * n <= it->places) return KITH_OK;
    size_t places = it->places > 0 ? it->places : 64;
    while (places < 2 * n) places *= 2;
    uint64_t *given = ki_alloc(it->allocator, places, sizeof *given);
    if (!given) return ki_fail_nomem(err, places * sizeof *given);
    memset(given, 0xff, places * sizeof *given);
    for (size_t i = 0; i < it->places; i++)
        if (it->given[i] != KITH_NO_ID) given[place(given, places, it->given[i])] = it->given[i];
    ki_free(it->allocator, it->given);
    it->given = given;
    it->places = places;
    return KITH_OK;
}

/* ---- Searching ---- */

/* Search again, for `wanted` rows in all. */
static kith_status widen(kith_iterator *it, size_t wanted, kith_error *err)
{
    size_t n = it->index->rows.n; /* atomic: rows may be coming beside this */
    if (wanted < FIRST) wanted = FIRST;
    if (wanted > n) wanted = n > 0 ? n : 1;
    if (wanted > it->room) {
        uint64_t *ids = ki_alloc(it->allocator, wanted, sizeof *ids);
        float *dist = ki_alloc(it->allocator, wanted, sizeof *dist);
        if (!ids || !dist) {
            ki_free(it->allocator, ids);
            ki_free(it->allocator, dist);
            return ki_fail_nomem(err, wanted * (sizeof *ids + sizeof *dist));
        }
        ki_free(it->allocator, it->ids);
        ki_free(it->allocator, it->dist);
        it->ids = ids;
        it->dist = dist;
        it->room = wanted;
    }
    it->found = it->at = 0;
    kith_search_stats stats;
    if (it->bits)
        KI_TRY(kith_search_bits(it->searcher, it->bits, 1, wanted, &it->options, it->ids, it->dist, &stats,
                                err));
    else
        KI_TRY(kith_search(it->searcher, it->query, 1, wanted, &it->options, it->ids, it->dist, &stats, err));
    it->found = (size_t)stats.found;
    it->cut = !stats.complete;
    it->exhausted = stats.complete && (it->found < wanted || wanted >= n);
    return KITH_OK;
}

/* Behind n rows in order, or between them where a wider search found what the one before had missed. */
static void insert(uint64_t *ids, float *dist, size_t n, uint64_t id, float d)
{
    for (; n > 0 && dist[n - 1] > d; n--) {
        ids[n] = ids[n - 1];
        dist[n] = dist[n - 1];
    }
    ids[n] = id;
    dist[n] = d;
}

kith_status kith_iterator_next(kith_iterator *it, size_t k, uint64_t *ids, float *dist, size_t *n,
                               kith_error *err)
{
    if (!it || !ids || !dist || !n)
        return ki_fail(err, KITH_INVALID, "%s is NULL",
                       !it     ? "iterator"
                       : !ids  ? "ids"
                       : !dist ? "dist"
                               : "n");
    if (k == 0) return ki_fail(err, KITH_INVALID, "k is 0, allowed are 1 and more");
    size_t out = 0;
    int searched = 0;
    KI_TRY(reserve_given(it, it->n_given + k, err));
    while (out < k) {
        while (out < k && it->at < it->found) {
            size_t i = it->at++, at = place(it->given, it->places, it->ids[i]);
            if (it->given[at] == it->ids[i]) continue;
            it->given[at] = it->ids[i];
            it->n_given++;
            insert(ids, dist, out++, it->ids[i], it->dist[i]);
        }
        if (out == k || it->exhausted || (searched && it->cut)) break;
        /* What a budget cut lacked time, not room: twice the room would be the same again at twice the price. */
        size_t wanted = it->n_given + k - out, room = it->cut ? it->room : 2 * it->room;
        kith_status status = widen(it, wanted > room ? wanted : room, out > 0 ? NULL : err);
        if (status != KITH_OK && out == 0) return status;
        if (status != KITH_OK)
            break; /* the rows in ids[] count as handed out: the next call meets the error */
        searched = 1;
    }
    *n = out;
    return KITH_OK;
}
