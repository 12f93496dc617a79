/* iterate.h - the rows of an index by distance, as many as are wanted and then the next ones.
 *
 * For when it is not known beforehand how many rows will do: pages of results, joins, conditions that only the caller can
 * check. Works with every family; plain searches pay nothing for it.
 *
 * Graphs (HNSW, BHNSW, NSG, Vamana, NSW, NNDescent) go on where they were: what was compared for one page is not compared again for the
 * next, and a page of ten costs some ten more steps. Other families, and searches with a filter, widen: each search asks
 * for twice as many rows as the one before; one that a budget cut is made again no wider. */
#ifndef KITH_ITERATE_H
#define KITH_ITERATE_H

#include <kith/index.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kith_iterator kith_iterator;

/* Begin at the rows nearest to a query.
 * In:       query[dim] (copied); options as for kith_search, NULL for the defaults: settings, filter and what they point to
 *           must stand as long as the iterator; a budget is that of each search inside.
 * Out:      *iterator, NULL on failure.
 * Errors:   KITH_INVALID (NULL), KITH_UNTRAINED, KITH_NOMEM.
 * Threads:  as a searcher: one thread at a time, to be freed before its index. Rows may come and go between two calls: the
 *           next one then begins anew, and still none is handed out twice. */
KITH_API kith_status kith_iterator_create(const kith_index *index, const float *query,
                                          const kith_search_options *options, kith_iterator **iterator,
                                          kith_error *err);

/* The same for an index over bits. */
KITH_API kith_status kith_iterator_create_bits(const kith_index *index, const uint8_t *query,
                                               const kith_search_options *options, kith_iterator **iterator,
                                               kith_error *err);

/* The next k rows: none that was handed out before, nearest first within the call. Exact families go on in the very order of
 * one large search; others may hand out a row late that a narrow search had missed.
 * Out:      ids[k], dist[k], *n: how many; fewer than k when no more rows match (among those that the family looks at),
 *           or when the budget cut the search short: then the next call tries again.
 * Errors:   KITH_INVALID (NULL, k is 0), KITH_NOMEM, and those of kith_search; what was found stays to be handed out. Where
 *           rows were found before a search failed, KITH_OK and those rows: the next call meets the error.
 * Memory:   some 30 bytes a row handed out; where it goes on, 8 more for every row that was compared.
 * Cost:     all calls together one search for as many rows as were handed out where it goes on, else some two. */
KITH_API kith_status kith_iterator_next(kith_iterator *iterator, size_t k, uint64_t *ids, float *dist,
                                        size_t *n, kith_error *err);

/* NULL is allowed. */
KITH_API void kith_iterator_free(kith_iterator *iterator);

#ifdef __cplusplus
}
#endif
#endif
