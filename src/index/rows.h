/* rows.h - which ids an index holds, and in which slots.
 *
 * While ids are 0, 1, 2, ... in the order of slots and nothing was removed, no array is kept at all. As long as
 * ids ascend with the slots, an id is found by bisection; a hash table (slots by id, linear probing) is built
 * when neither holds and somebody asks. A removed row leaves a hole, marked KITH_NO_ID; new rows fill the
 * lowest hole first, then go to the end, so that slots depend on the calls alone. */
#ifndef KI_INDEX_ROWS_H
#define KI_INDEX_ROWS_H

#include <kith/index.h>

#include "store/index_file.h"

typedef struct ki_rows {
    const kith_allocator *allocator;
    const uint64_t *ids; /* [n_slots], KITH_NO_ID in holes; NULL: slot i holds id i, no holes */
    uint64_t *owned;     /* ids, where they are ours; NULL when they lie in a mapped file */
    size_t capacity;     /* of owned */
    /* Rows; slots up to the last one ever used. Atomic because searches may run beside an add (kith_index_reserve). */
    _Atomic size_t n, n_slots;
    uint64_t next_id;        /* of rows that come without ids: how many were ever added */
    int ascending;           /* ids ascend with the slots; no holes */
    size_t lowest_hole;      /* no hole is below it */
    uint32_t *_Atomic table; /* the hash, or NULL; published atomically because readers build it too */
    size_t table_size;       /* a power of two, fixed by n_slots when the table is made */
} ki_rows;

/* New rows on their way in: their slots and ids before anything is changed. */
typedef struct ki_rows_plan {
    const uint64_t *ids; /* [n]; NULL: next_id, next_id + 1, ... */
    uint32_t *slots;     /* [n]; NULL: first_slot + i */
    uint32_t first_slot;
    size_t n, n_slots; /* n_slots: after */
    int ids_kept;      /* an ids array is needed from now on */
} ki_rows_plan;

void ki_rows_init(ki_rows *rows, const kith_allocator *allocator);
void ki_rows_clear(ki_rows *rows);

static inline uint64_t ki_rows_id(const ki_rows *rows, uint32_t slot)
{
    return rows->ids ? rows->ids[slot] : slot;
}

/* Whether ids go up by one from slot to slot: then that of a slot is *first + slot, and need not be read. */
static inline int ki_rows_dense(const ki_rows *rows, uint64_t *first)
{
    *first = rows->ids && rows->n_slots > 0 ? rows->ids[0] : 0;
    if (!rows->ids || rows->n_slots == 0) return !rows->ids;
    return rows->ascending && rows->ids[rows->n_slots - 1] - *first == rows->n_slots - 1;
}

static inline int ki_rows_used(const ki_rows *rows, uint32_t slot)
{
    return !rows->ids || rows->ids[slot] != KITH_NO_ID;
}

/* The slot of an id: 1, or 0 when there is none. Any number of threads. */
int ki_rows_find(const ki_rows *rows, uint64_t id, uint32_t *slot);

/* Choose slots for n new rows and make room for them; nothing that can be seen changes yet.
 * Errors:   KITH_INVALID (KITH_NO_ID, too many rows), KITH_EXISTS, KITH_NOMEM.
 * Memory:   *plan must be cleared in any case. */
kith_status ki_rows_plan_add(ki_rows *rows, const uint64_t *ids, size_t n, ki_rows_plan *plan,
                             kith_error *err);
void ki_rows_plan_clear(const ki_rows *rows, ki_rows_plan *plan);

/* Write the ids into their slots, before anybody can come upon these. Then carry the plan out, or take it back. None can
 * fail. */
void ki_rows_stage(ki_rows *rows, const ki_rows_plan *plan);
void ki_rows_unstage(ki_rows *rows, const ki_rows_plan *plan);
void ki_rows_commit(ki_rows *rows, const ki_rows_plan *plan);

/* Keep ids in an array with room for n slots: until then adding moves nothing that readers look at. KITH_NOMEM. */
kith_status ki_rows_reserve(ki_rows *rows, size_t n_slots, kith_error *err);

/* The slots of those of ids[n] that are there, each once: slots[n] (scratch of n), *found. KITH_NOMEM. The rows can be
 * removed without failing afterwards. Ascending. */
kith_status ki_rows_plan_remove(ki_rows *rows, const uint64_t *ids, size_t n, uint32_t *slots, size_t *found,
                                kith_error *err);
void ki_rows_remove(ki_rows *rows, const uint32_t *slots, size_t n);

/* Sections "rows" (record) and "rows.ids" (where they are kept). */
kith_status ki_rows_save(const ki_rows *rows, ki_store_writer *writer, kith_error *err);
kith_status ki_rows_load(ki_rows *rows, ki_store *store, int mapped, kith_error *err);

/* Invariants R1..R4, see rows.c. */
kith_status ki_rows_check(const ki_rows *rows, kith_error *err);

uint64_t ki_rows_bytes(const ki_rows *rows);

#endif
