/* iterate.c - rows in order of distance, as many as are asked for and then the next.
 *
 * Graphs go on where they were (ki_search_next): what was walked stays walked. For every other family, and with a filter, by
 * searches that widen: each asks for twice as many rows as the one before, so all of them together cost at most about
 * twice the last. What was handed out is kept in a table, because a wider search of an approximate family may order rows
 * anew, as does one that had to begin anew because the index was changed. */
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
    uint64_t *ids; /* [room] what the last search found; of one that goes on, all that waits */
    float *dist;
    size_t room, found, at; /* before `at`: handed out, or known to have been */
    int exhausted;          /* the last search found all there is */
    int cut;                /* it was ended early by its budget */
    uint64_t *given;        /* [places] ids handed out, by hash; KITH_NO_ID: free */
    size_t places, n_given;
    int goes_on, begun; /* by ki_search_next; and once it was called, ... */
    uint64_t changes;   /* ... the index as it was then */
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
    const kith_filter *filter = it->options.filter;
    it->goes_on = ki_search_goes_on(it->searcher) && !(filter && (filter->bits || filter->allow));
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

/* Room for n rows, the first `keep` of them as they are. */
static kith_status reserve(kith_iterator *it, size_t n, size_t keep, kith_error *err)
{
    if (n <= it->room) return KITH_OK;
    uint64_t *ids = ki_alloc(it->allocator, n, sizeof *ids);
    float *dist = ki_alloc(it->allocator, n, sizeof *dist);
    if (!ids || !dist) {
        ki_free(it->allocator, ids);
        ki_free(it->allocator, dist);
        return ki_fail_nomem(err, n * (sizeof *ids + sizeof *dist));
    }
    if (keep > 0) {
        memcpy(ids, it->ids, keep * sizeof *ids);
        memcpy(dist, it->dist, keep * sizeof *dist);
    }
    ki_free(it->allocator, it->ids);
    ki_free(it->allocator, it->dist);
    it->ids = ids;
    it->dist = dist;
    it->room = n;
    return KITH_OK;
}

/* Rows that came, among those that wait: all in order of distance. */
static kith_status take(kith_iterator *it, const ki_found *rows, kith_error *err)
{
    size_t waiting = it->found - it->at;
    if (waiting > 0) {
        memmove(it->ids, it->ids + it->at, waiting * sizeof *it->ids);
        memmove(it->dist, it->dist + it->at, waiting * sizeof *it->dist);
    }
    it->at = 0;
    it->found = waiting;
    size_t n = waiting + rows->n;
    KI_TRY(reserve(it, n <= it->room ? n : ki_grown(it->room, n), waiting, err));
    ki_topk
        all; /* a heap of everything, sorted in place: entry i is read before the heap, which has i entries, reaches it */
    memcpy(it->ids + waiting, rows->id, rows->n * sizeof *it->ids);
    memcpy(it->dist + waiting, rows->dist, rows->n * sizeof *it->dist);
    it->found = n;
    if (n == 0) return KITH_OK;
    ki_topk_init(&all, n, it->dist, it->ids);
    for (size_t i = 0; i < n; i++) ki_topk_push(&all, it->dist[i], it->ids[i]);
    (void)ki_topk_sort(&all);
    return KITH_OK;
}

/* Go on searching, until `wanted` rows were found in all. */
static kith_status go_on(kith_iterator *it, size_t wanted, kith_error *err)
{
    ki_input input;
    const ki_found *rows = NULL;
    kith_search_stats stats;
    int more = 1, anew = !it->begun || it->changes != it->index->changes;
    if (it->bits)
        KI_TRY(ki_input_bits(it->index, "query", it->bits, 1, &input, err));
    else
        KI_TRY(ki_input_floats(it->index, "query", it->query, 1, &input, err));
    if (anew) it->found = it->at = 0; /* what waited is found again */
    it->changes = it->index->changes;
    kith_status status =
        ki_search_next(it->searcher, &input, wanted, anew, &it->options, &rows, &more, &stats, err);
    it->begun = status == KITH_OK || !anew; /* else it may not have come to where walks begin */
    if (!rows) return status;
    it->cut = status == KITH_OK && !stats.complete;
    it->exhausted = !more;
    kith_status taken = take(it, rows, status == KITH_OK ? err : NULL);
    if (taken != KITH_OK) it->begun = 0; /* they were given away and have to be found again */
    return status != KITH_OK ? status : taken;
}

/* Search again, for `wanted` rows in all. */
static kith_status widen(kith_iterator *it, size_t wanted, kith_error *err)
{
    size_t n = it->index->rows.n; /* atomic: rows may be coming beside this */
    if (wanted < FIRST) wanted = FIRST;
    if (wanted > n) wanted = n > 0 ? n : 1;
    KI_TRY(reserve(it, wanted, 0, err));
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
    kith_status status = KITH_OK;
    KI_TRY(reserve_given(it, it->n_given + k, err));
    while (out < k) {
        while (out < k && it->at < it->found) {
            size_t i = it->at++, at = place(it->given, it->places, it->ids[i]);
            if (it->given[at] == it->ids[i]) continue;
            it->given[at] = it->ids[i];
            it->n_given++;
            insert(ids, dist, out++, it->ids[i], it->dist[i]);
        }
        if (out == k || it->exhausted || (searched && it->cut) || status != KITH_OK) break;
        size_t wanted = it->n_given + k - out, room = it->cut ? it->room : 2 * it->room;
        kith_error *report =
            out > 0 ? NULL : err; /* rows in ids[] count as handed out: the next call meets the error */
        /* What a budget cut lacked time, not room: twice the room would be the same again at twice the price. */
        status = it->goes_on ? go_on(it, wanted, report) : widen(it, wanted > room ? wanted : room, report);
        searched = 1;
    }
    if (status != KITH_OK && out == 0) return status;
    *n = out;
    return KITH_OK;
}
