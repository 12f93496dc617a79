/* gather.h - candidates that come in any order and more than once, each scored once.
 *
 * For structures whose buckets or leaves overlap (hash tables, forests) and whose codes lie by slot: slots are marked as they
 * come, collected, and scored a block at a time. */
#ifndef KI_INDEX_GATHER_H
#define KI_INDEX_GATHER_H

#include "index/query.h"

/* Candidates that are scored at a time: enough for the scorer's prefetching, few enough that a small search looks at
 * the clock. */
#define KI_GATHER_BLOCK 32

typedef struct ki_gather {
    const kith_allocator *allocator;
    ki_query *query;
    ki_scorer *scorer;
    ki_codes codes;  /* by slot */
    uint64_t *seen;  /* [room] bits, by slot */
    size_t room;     /* slots there is room for, a multiple of 64 */
    size_t n_slots;  /* of the index; slots beyond are passed over: a damaged file named them */
    size_t distinct; /* slots that came so far */
    size_t n;
    uint32_t slots[2 * KI_GATHER_BLOCK];
} ki_gather;

void ki_gather_init(ki_gather *gather, const kith_allocator *allocator);
void ki_gather_clear(ki_gather *gather);

/* Room for an index of n_slots slots. KITH_NOMEM. */
kith_status ki_gather_reserve(ki_gather *gather, size_t n_slots, kith_error *err);

/* A new query: nothing was seen. Tells the scorer the query. Cost: n_slots / 8 bytes are cleared. */
void ki_gather_begin(ki_gather *gather, ki_query *query, ki_scorer *scorer, ki_codes codes);

/* Candidates. Those that were seen already are passed over. Stops early when time is up. */
void ki_gather_add(ki_gather *gather, const uint32_t *slots, size_t n);

/* Score what was collected and not scored yet. */
void ki_gather_flush(ki_gather *gather);

/* Score every row that was not seen: when what was found is not enough. */
void ki_gather_rest(ki_gather *gather);

#endif
