/* request.h - a search of a collection, written as a JSON object: what `kith search --request` and the server take.
 *
 *     {"vector": [0.1, 2], "k": 5, "filter": "year >= 1990", "partitions": ["new"]}
 *     {"vectors": [{"field": "title", "vector": [1, 0], "weight": 2}, {"vector": [0.1, 2]}], "fusion": "ranks"}
 *     {"like": [17, "a text key"], "unlike": [4], "target_recall": 0.9, "seconds": 0.05}
 *
 * | member | what it is |
 * |---|---|
 * | vector, field | numbers; the vector field that they are for, "" or absent: the vectors of the rows |
 * | vectors | instead of vector: an array of objects with vector, field and weight (above 0; 1), all searched together |
 * | fusion | of several: "ranks" ("rrf") or "weights" ("weighted"); kith/fusion.h |
 * | depth, constant | of a fused search: rows that each part proposes; the constant of reciprocal ranks |
 * | like, unlike | instead of vector: arrays of keys, or of texts that rows are known by |
 * | k, offset | how many rows (10), and how many of the nearest to leave out |
 * | filter, partitions | only rows for which the text is true (docs/filters.md); that are in one of these |
 * | radius | only rows within this distance, k of them at most |
 * | group_by, group_size | k values of this member of the payloads, and so many (1) of the nearest rows of each |
 * | exact, nprobe, refine, target_recall | as in kith_collection_query |
 * | seconds | ends the search early with the best so far; absent or 0: never |
 *
 * A member that is not in this list, or of another type, is refused by name: a misspelt filter must not be no filter.
 *
 * Threads: a request belongs to one thread at a time. */
#ifndef KITH_REQUEST_H
#define KITH_REQUEST_H

#include <kith/collection.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KITH_REQUEST_MAX_BYTES (16u << 20) /* of the text */

typedef struct kith_request kith_request;

/* Read a request.
 * In:       text[size], UTF-8, from anybody.
 * Out:      *request, NULL on failure.
 * Errors:   KITH_INVALID naming the member, or the place where it is no JSON; KITH_NOMEM.
 * Notes:    What depends on the collection (dim, fields, partitions, the filter's fields) is seen by the search. */
KITH_API kith_status kith_request_parse(const char *text, size_t size, const kith_allocator *allocator,
                                        kith_request **request, kith_error *err);

/* Free it; NULL is allowed. */
KITH_API void kith_request_free(kith_request *request);

/* The query that it stands for: a caller may lower k and max_microseconds, and set pool, cancel, filter and plan.
 * Valid until the request is freed. */
KITH_API kith_collection_query *kith_request_query(kith_request *request);

/* What was found, nearest first. The arrays belong to the request, and are valid until its next search. */
typedef struct kith_found {
    size_t struct_size; /* set by the caller: sizeof *found */
    size_t n;           /* rows; with groups: of all groups, one behind the other */
    const int64_t *keys;
    const double *values; /* distances; of a fused search scores, highest first */
    const size_t *groups; /* which group a row is of, from 0; NULL without group_by */
    int scored;           /* 1: values are scores */
    int more;             /* with radius: 1 when rows within it were left out because k are there */
    kith_collection_answer answer;
} kith_found;

/* Search.
 * Out:      *found; untouched on failure.
 * Errors:   as the kith_collection_search* that it comes down to; KITH_NOTFOUND for an example that is not there.
 * Notes:    All of it is of one state. Pin the handle to read the rows found in the same one. */
KITH_API kith_status kith_request_search(kith_collection *collection, kith_request *request,
                                         kith_found *found, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
