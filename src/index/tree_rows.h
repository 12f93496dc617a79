/* tree_rows.h - the rows of the tree families: in the order of a tree's leaves, and how they come and go.
 *
 * Every row has a position. Positions are cut into parts, one after the other; over each part a family has built
 * its trees, once and for all. Behind the last part come the pending rows, which are compared one by one:
 *
 *     positions | part 0, 2^levels leaves ................. | part 1 ...... | part 2 . | pending |
 *     slots     | 7 3 - 9 | 1 5 6 | ...                                                          -: removed
 *     codes     | c c 0 c | c c c | ...
 *
 * When more than KI_TREE_PENDING rows are pending they become a part of their own, together with the last parts as
 * long as those hold less than twice as many rows: parts at least halve from one to the next, so there are at most
 * log2 n of them, and a row is built into a tree O(log n) times however many calls bring the rows (J. L. Bentley and
 * J. B. Saxe, "Decomposable searching problems I: static-to-dynamic transformation", J. Algorithms 1, 1980). An
 * index that is filled by one call has one part.
 *
 * A removed row leaves its position behind, without a slot and with its code zeroed, until its part is built anew;
 * that happens with the next merge once more positions of a part are empty than not.
 *
 * Trees over a part are complete: 2^levels leaves of equal size, give or take one, so that the rows of every node
 * follow from its number and nothing about their shape is stored (ki_tree_begin). */
#ifndef KI_INDEX_TREE_ROWS_H
#define KI_INDEX_TREE_ROWS_H

#include "index/family.h"

#define KI_TREE_NOWHERE UINT32_MAX
#define KI_TREE_PENDING 256  /* rows that are compared one by one; as many as a few leaves hold */
#define KI_TREE_PARTS 40     /* more than halving allows: 2^32 rows make 25 */
#define KI_TREE_MAX_LEAF 256 /* rows; KI_SCAN_BLOCK */
#define KI_TREE_MAX_LEVELS 31

typedef struct ki_tree_part {
    uint32_t first, n; /* positions */
    uint32_t levels;
    uint32_t dead; /* positions without a row */
} ki_tree_part;

typedef struct ki_tree_rows {
    const ki_structure_env *env;
    const uint32_t *slots;  /* [n] of each position, KI_TREE_NOWHERE: removed */
    ki_codes codes;         /* [n] */
    const uint32_t *places; /* [n_slots] the position of each slot, KI_TREE_NOWHERE for those not in use */
    uint32_t *own_slots, *own_places; /* the same where they are ours, NULL when mapped */
    uint8_t *own_code;
    float *own_factor;
    size_t capacity, slot_capacity;
    size_t n, n_slots; /* positions; slots */
    size_t n_parts;
    ki_tree_part parts[KI_TREE_PARTS];
    size_t pending_dead;
    uint8_t *spare; /* one row, for moving them */
} ki_tree_rows;

/* The part that is to be built anew: parts from `part` on and all behind them. n 0: none, rows stay pending. */
typedef struct ki_tree_plan {
    size_t part;         /* parts before it stay */
    uint32_t first;      /* its first position */
    size_t n, positions; /* live rows; positions that it takes in */
    uint32_t levels;
    uint32_t *order; /* [n] positions, ascending; the family puts them into the order of its leaves */
} ki_tree_plan;

void ki_tree_rows_init(ki_tree_rows *rows, const ki_structure_env *env);
void ki_tree_rows_clear(ki_tree_rows *rows);

/* The first position of node number `index` of 0..2^level - 1 on a level, counted from that of the part; for
 * index 2^level the end. */
static inline size_t ki_tree_begin(size_t n, unsigned level, size_t index)
{
    return (size_t)(((uint64_t)n * index) >> level);
}

/* Levels below the root so that no leaf of n rows has more than leaf_size. */
static inline uint32_t ki_tree_levels(size_t n, size_t leaf_size)
{
    uint32_t levels = 0;
    while (((uint64_t)n + ((uint64_t)1 << levels) - 1) >> levels > leaf_size) levels++;
    return levels;
}

static inline size_t ki_tree_pending(const ki_tree_rows *rows)
{
    const ki_tree_part *last = rows->n_parts > 0 ? &rows->parts[rows->n_parts - 1] : NULL;
    return last ? last->first + last->n : 0;
}

static inline const uint8_t *ki_tree_code(const ki_tree_rows *rows, size_t position)
{
    return rows->codes.code + position * rows->env->codec->code_size;
}

/* The vector of a position: in place for float32 rows, else decoded into out[dim]. */
const float *ki_tree_vector(const ki_tree_rows *rows, size_t position, float *out);

/* ---- Adding, in three steps: append, build over plan->order, commit or not ---- */

/* Put new rows behind the others, where nobody sees them yet, and plan what is to be built. ki_tree_plan_clear in any
 * case. */
kith_status ki_tree_append(ki_tree_rows *rows, const ki_input *input, const uint32_t *slots,
                           uint32_t first_slot, size_t n_slots, size_t leaf_size, const kith_run *run,
                           ki_tree_plan *plan, kith_error *err);
void ki_tree_plan_clear(const ki_tree_rows *rows, ki_tree_plan *plan);

/* Count `added` new rows and let row plan->order[i] move to position first + i. Uses the order up. Cannot fail. */
void ki_tree_commit(ki_tree_rows *rows, size_t added, size_t n_slots, ki_tree_plan *plan);

/* ---- Removing ---- */

void ki_tree_rows_remove(ki_tree_rows *rows, const uint32_t *slots, size_t n);

/* ---- Search ---- */

/* Score positions first..first+n-1 and offer them; `dead`: some may be empty. */
void ki_tree_scan(const ki_tree_rows *rows, ki_query *query, ki_scorer *scorer, size_t first, size_t n,
                  int dead);

/* The same with the pending rows. */
void ki_tree_scan_pending(const ki_tree_rows *rows, ki_query *query, ki_scorer *scorer);

/* The vector of a slot. */
void ki_tree_decode(const ki_tree_rows *rows, uint32_t slot, float *out);

/* ---- Files: sections "<prefix>.parts", ".slots", ".places", ".codes", ".factors" ---- */

kith_status ki_tree_rows_save(const ki_tree_rows *rows, const char *prefix, size_t n_slots,
                              ki_store_writer *writer, kith_error *err);
kith_status ki_tree_rows_load(ki_tree_rows *rows, const char *prefix, int mapped, const ki_rows *known,
                              ki_store *store, kith_error *err);

/* Invariants T1..T4, see tree_rows.c. */
kith_status ki_tree_rows_check(const ki_tree_rows *rows, const ki_rows *known, kith_error *err);

uint64_t ki_tree_rows_bytes(const ki_tree_rows *rows);

/* A section of n elements of `size` bytes: in place in a mapped file, or read into memory of ours (*own). */
kith_status ki_tree_load_array(const ki_structure_env *env, const char *prefix, const char *what, size_t n,
                               size_t size, int mapped, ki_store *store, const void **data, void **own,
                               kith_error *err);

#endif
