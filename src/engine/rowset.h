/* rowset.h - the rows that a filter lets through, as a set of keys; and the sets that a handle remembers. */
#ifndef KI_ENGINE_ROWSET_H
#define KI_ENGINE_ROWSET_H

#include "engine/engine.h"

/* A set of keys: a bitmap where keys are dense, else a sorted array. */
typedef struct ki_rowset {
    uint64_t *bits; /* [n_bits / 64 rounded up]; NULL: keys is used */
    uint64_t n_bits;
    ki_buffer keys; /* int64_t, ascending, without bits */
    uint64_t n;     /* keys in the set */
} ki_rowset;

static inline int ki_rowset_bit(const ki_rowset *set, int64_t key)
{
    return (uint64_t)key < set->n_bits && (set->bits[key / 64] >> (key % 64) & 1);
}

int ki_rowset_has(const ki_rowset *set, int64_t key);

/* The smallest key > after; 0: there is none. */
int64_t ki_rowset_next(const ki_rowset *set, int64_t after);

/* ---- Making sets ---- */

/* An empty set for the keys of the collection. */
kith_status ki_rowset_make(const kith_collection *c, ki_rowset *set, kith_error *err);

/* Put a key, KITH_CORRUPT for one that no row can have. When all are in, finish. */
kith_status ki_rowset_put(const kith_collection *c, ki_rowset *set, int64_t key, kith_error *err);
void ki_rowset_finish(ki_rowset *set);

/* Keep what is in the other set, too; put in what is in the other set. Both were made in one state. */
void ki_rowset_keep(ki_rowset *set, const ki_rowset *other);
kith_status ki_rowset_join(const kith_collection *c, ki_rowset *set, const ki_rowset *other, kith_error *err);

void ki_rowset_clear(ki_rowset *set, const kith_allocator *allocator);

/* ---- Remembered sets ---- */

/* The rows that a filter lets through in the state that the open transaction sees; with_vector: only those
 * with a vector at hand (engine/spaces.h).
 * It is remembered until the rows change, and then brought up to date by the change log.
 * Out:      *set, valid until the next call or a change of the collection. *known, may be NULL: nothing was evaluated.
 * Errors:   KITH_INVALID for a filter that does not parse, KITH_CANCELLED, KITH_CORRUPT, KITH_IO, KITH_NOMEM. */
kith_status ki_rowset_find(kith_collection *c, const char *filter, int with_vector, const ki_limit *limit,
                           const ki_rowset **set, int *known, kith_error *err);

/* How many rows of a set are past their time. */
kith_status ki_rowset_expired(kith_collection *c, const ki_rowset *set, uint64_t *n, kith_error *err);

/* Forget all sets, or those of a batch that has ended. */
void ki_rowsets_free(kith_collection *c);
void ki_rowsets_batch_ended(kith_collection *c);

#endif
