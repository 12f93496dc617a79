/* query.h - one query on its way through a structure: what is asked, who may answer, what was found so far.
 *
 * A structure scores rows and offers them; the query keeps the best k (or all within the radius), applies the
 * filter, translates slots to ids, counts, and says when time is up. Most structures need ki_query_scan only:
 * it scores a run of codes block by block and offers what is near enough. */
#ifndef KI_INDEX_QUERY_H
#define KI_INDEX_QUERY_H

#include <kith/index.h>

#include "base/topk.h"
#include "index/rows.h"
#include "quant/codec.h"
#include "simd/kernels.h"

#define KI_SCAN_BLOCK 256 /* rows of one call to a scorer; its distances and picks stay in the first cache */

/* Everything within a radius: grows as it is found. */
typedef struct ki_found {
    const kith_allocator *allocator;
    float *dist;
    uint64_t *id;
    size_t n, capacity;
    int failed; /* memory ran out */
} ki_found;

typedef struct ki_query {
    /* What is asked. */
    const float *vector; /* [dim]; of unit length under KITH_COSINE. NULL for a query of bits */
    const float
        *whole; /* [the index's dim]: before the transform, for refinements; vector where there is none */
    const uint8_t *bits;    /* [kith_bit_bytes(dim)], or NULL */
    const uint64_t *tokens; /* [n_tokens], of a query that is a set */
    size_t n_tokens;
    const double *settings; /* every parameter of the spec in order: the structure's own come first */
    const void *route;      /* what the structure's route() made of it, or NULL */
    size_t need;            /* rows that the caller wants: fewer found means that more is to be looked at */
    int cosine;             /* distances are 1 + d outside */
    int clamped;            /* a distance below 0 is rounding: every metric but DOT */

    /* Who may answer. */
    const ki_rows *rows;
    const kith_filter *filter; /* NULL: everybody */
    int holes;                 /* some slots are not in use; structures that never meet them clear this */

    /* What was found: the best `top`, or all in `found` within `radius`. by_slot: kept under their slots,
     * because a refinement goes through them again. */
    ki_topk top;
    ki_found *found;
    float radius;
    int by_slot;

    /* The budget. */
    const kith_cancel *cancel;
    uint64_t deadline_ns; /* 0: none */
    int stopped;          /* the search was cut short */

    uint64_t scored, visited;
    const ki_kernels *kernels;

    /* A refinement that goes by lower bounds (ki_query_scan): the better copies by slot, and their scorer, which knows the
     * query. NULL: none, or one that the front door takes to what the structure found. */
    ki_scorer *refine;
    ki_codes refine_codes;
} ki_query;

/* Only rows at most this far, in the distance of the codec, can still enter. */
static inline float ki_query_limit(const ki_query *query)
{
    float worst = query->found ? query->radius : ki_topk_worst(&query->top);
    /* 1 + d was rounded: the slack is two units in the last place of a number below 2. */
    return query->cosine ? worst - 1 + 3e-7f : worst;
}

/* How many rows were taken so far. */
static inline size_t ki_query_taken(const ki_query *query)
{
    return query->found ? query->found->n : query->top.n;
}

/* Whether a filter, or holes, may turn rows away. */
static inline int ki_query_selective(const ki_query *query)
{
    return query->filter != NULL || query->holes;
}

/* Whether the row of a slot may be returned. */
int ki_query_allows(const ki_query *query, uint32_t slot);

/* Which of n slots may be returned: their places 0..n-1, ascending, into pick[n]; how many. slots NULL: first,
 * first + 1, ... */
size_t ki_query_admit(const ki_query *query, const uint32_t *slots, uint32_t first, size_t n, uint32_t *pick);

/* Offer a row that may be returned, at a distance in the codec's terms. */
void ki_query_offer(ki_query *query, float distance, uint32_t slot);

/* Score codes 0..n-1, which are those of slots[n] (NULL: of first, first + 1, ...), and offer them. Ends early
 * when time is up. With query->refine they are not scored: of each block the rows whose lower bound is near enough are
 * compared by the better copy, in the order of bounds, until the next bound is beyond the worst distance kept. */
void ki_query_scan(ki_query *query, ki_scorer *scorer, ki_codes codes, const uint32_t *slots, uint32_t first,
                   size_t n);

/* Whether the deadline has passed; stops the query then. */
int ki_query_late(ki_query *query);

/* Asked before each block of rows: whether to stop instead, because the caller cancelled, time is up or memory
 * ran out. */
static inline int ki_query_stop(ki_query *query)
{
    if (query->stopped) return 1;
    if (kith_cancel_raised(query->cancel)) return query->stopped = 1;
    return query->deadline_ns ? ki_query_late(query) : 0;
}

#endif
