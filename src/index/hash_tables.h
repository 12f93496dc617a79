/* hash_tables.h - L hash tables over the same rows: which slots lie in the bucket of a key. What PStable and Hyperplane
 * look into.
 *
 * A table is three arrays without pointers, the same in memory and in a file, so that a mapped one is used where it lies:
 *
 *     cells    | 0 . 2 . 2 . 5 |        [2^bits + 1]: buckets whose key begins with these bits begin here
 *     buckets  | key end | ...          [n_buckets], keys ascending; end: one past its last place among the slots
 *     slots    | 4 9 | 0 3 7 | 1 | ...  [n], bucket after bucket, ascending in each
 *
 * Keys are 32 well mixed bits (ki_hash_key): a cell holds two buckets on average, and buckets of different origin that share a
 * key, one in 2^32 pairs, cost a few rows too many and nothing else.
 *
 * Rows that come later make a run of tables of their own; runs are merged so that each is more than four times as large as the
 * next, so a row is moved O(log n) times however few come at a time, and a lookup asks O(log n) runs at most, usually
 * one. A file holds one run: the same rows give the same bytes whichever way they came. Removed rows stand in the tables
 * ("stale") until their slots are used again or they are a quarter of all; who walks a bucket asks whether a slot is in use. */
#ifndef KI_INDEX_HASH_TABLES_H
#define KI_INDEX_HASH_TABLES_H

#include "base/rng.h"
#include "index/family.h"

#define KI_HASH_RUNS 24 /* 4^17 > 2^32 rows; more only after merges that failed, which is an error */

typedef struct ki_bucket {
    uint32_t key, end;
} ki_bucket;

typedef struct ki_hash_table {
    const uint32_t *cells;
    const ki_bucket *buckets;
    const uint32_t *slots;
    uint32_t n_buckets;
    uint32_t bits;
} ki_hash_table;

typedef struct ki_hash_run {
    ki_hash_table *tables; /* [n_tables] */
    size_t n;              /* rows */
    int own;               /* the arrays are ours, not of a mapped file */
} ki_hash_run;

typedef struct ki_hash_tables {
    const kith_allocator *allocator;
    size_t n_tables;
    ki_hash_run runs[KI_HASH_RUNS]; /* the largest first */
    size_t n_runs;
    uint64_t *stale; /* [stale_room] bits: slots that stand in the tables and hold no row any more */
    size_t stale_room, n_stale;
} ki_hash_tables;

/* New rows on their way in: a run that will stand in the place of the last `replaces` ones. */
typedef struct ki_hash_staged {
    ki_hash_run run;
    size_t replaces;
    int purged; /* stale slots were left out */
} ki_hash_staged;

void ki_hash_tables_init(ki_hash_tables *tables, size_t n_tables, const kith_allocator *allocator);
void ki_hash_tables_clear(ki_hash_tables *tables);

/* The bucket key of any 64-bit number that names a bucket. */
static inline uint32_t ki_hash_key(uint64_t bucket)
{
    return (uint32_t)(ki_mix64(bucket) >> 32);
}

/* Prepare to take m rows in, row i with keys[t][i] in table t and slot slots[i] (NULL: first_slot + i). Nothing changes
 * until the commit, which cannot fail; else drop.
 * Errors: KITH_NOMEM, KITH_CANCELLED. Memory: 8 bytes a row for eight tables at a time besides the new run. */
kith_status ki_hash_tables_stage(ki_hash_tables *tables, const uint32_t *keys, const uint32_t *slots,
                                 uint32_t first_slot, size_t m, const kith_run *run, ki_hash_staged *staged,
                                 kith_error *err);
void ki_hash_tables_commit(ki_hash_tables *tables, ki_hash_staged *staged);
void ki_hash_tables_drop(ki_hash_tables *tables, ki_hash_staged *staged);

/* Forget rows: ki_hash_tables_reserve_stale (KITH_NOMEM), then for slots in use ki_hash_tables_remove, which cannot fail. */
kith_status ki_hash_tables_reserve_stale(ki_hash_tables *tables, size_t n_slots, kith_error *err);
void ki_hash_tables_remove(ki_hash_tables *tables, const uint32_t *slots, size_t n);

/* The slots of a bucket in one table of a run: *n of them, maybe none. Safe with a mapped file of any content; the slots may be
 * any numbers then. */
const uint32_t *ki_hash_find(const ki_hash_run *run, size_t table, uint32_t key, size_t *n);

/* Sections "<prefix>.sizes", ".cells", ".buckets", ".slots". */
kith_status ki_hash_tables_save(const ki_hash_tables *tables, const char *prefix, ki_store_writer *writer,
                                kith_error *err);

/* Checked: the lengths; when not mapped everything that ki_hash_tables_check proves. */
kith_status ki_hash_tables_load(ki_hash_tables *tables, const char *prefix, int mapped, const ki_rows *rows,
                                ki_store *store, kith_error *err);

/* That in every table each slot in use stands once, stale slots aside, and no other; keys and places ascend; cells point
 * to the right buckets. KITH_CORRUPT, KITH_NOMEM. */
kith_status ki_hash_tables_check(const ki_hash_tables *tables, const ki_rows *rows, kith_error *err);

uint64_t ki_hash_tables_bytes(const ki_hash_tables *tables);

#endif
