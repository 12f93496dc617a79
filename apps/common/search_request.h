/* search_request.h - a search of a collection as a JSON object, read, run and answered: the body of `POST .../search` and a
 * line of `kith search --requests`. docs/server.md has the members; one that is not known is refused.
 *
 *     {"vector":[..]} or {"vectors":[{"field":..,"vector":[..],"weight":..},..],"fuse":"ranks"} or {"like":[KEY,..],"unlike":[..]}
 *     and k, offset, filter, partitions, field, radius, group_by, group_size, target_recall, nprobe, refine, exact,
 *     deadline_ms, min_score, explain, payload, with_vector
 */
#ifndef KITH_COMMON_SEARCH_REQUEST_H
#define KITH_COMMON_SEARCH_REQUEST_H

#include <jansson.h>

#include <kith/collection.h>

#include "text.h"

typedef struct search_limits {
    size_t max_k;         /* results, offset and all */
    uint64_t deadline_ms; /* of a request that names none, and the longest that may be asked for; 0: none */
} search_limits;

typedef struct search_request search_request;

/* Read a request; it borrows from the JSON, which must stand as long as it does.
 * Errors:   KITH_INVALID naming the member; KITH_NOMEM. */
kith_status search_request_read(json_t *json, const search_limits *limits, search_request **out,
                                kith_error *err);

/* A request for the k rows nearest to a vector, without JSON. The vector must stand as long as it does. */
kith_status search_request_vector(const float *vector, size_t dim, size_t k, const search_limits *limits,
                                  search_request **out, kith_error *err);
void search_request_free(search_request *q);

/* How it is going to be searched, to be refined by the caller: pool, cancel, filter. */
kith_collection_query *search_request_query(search_request *q);

/* Run it. The handle should be pinned, so that the rows which are then shown are those that were found.
 * Errors:   those of the search; KITH_NOTFOUND for an example. */
kith_status search_request_run(search_request *q, kith_collection *collection, kith_error *err);

/* What was found: n rows, nearest (highest) first, of group group[i] from 1 on where there are groups. */
typedef struct search_found {
    size_t n;
    const int64_t *keys;
    const float *distances; /* NULL where there are scores */
    const double *scores;   /* of several vectors; NULL: none */
    const uint32_t *groups; /* NULL: none */
    int more;               /* a radius: rows within it were left out, because k are there */
    kith_collection_answer answer;
} search_found;
const search_found *search_request_found(const search_request *q);

/* The answer as a JSON object, without its closing brace, so that members may follow:
 * {"results":[{"rank":1,"key":..,"distance":..,"score":..,"payload":{..}},..],"complete":true,.. */
kith_status search_request_write(const search_request *q, kith_collection *collection, text *out,
                                 kith_error *err);

/* What the plan says, as a JSON object. */
void search_plan_write(const kith_collection_plan *plan, text *out);

#endif
