/* probes.h - which buckets of a set of hash tables to look into, likeliest first.
 *
 * Paper: Q. Lv, W. Josephson, Z. Wang, M. Charikar, K. Li, "Multi-Probe LSH: Efficient Indexing for
 * High-Dimensional Similarity Search", VLDB 2007, section 4.4 and Algorithm 1. A near row that is not in the query's
 * bucket lies in one beside it: some of the K hash values are off by one, those most likely whose projection
 * falls close to the border. Changing value i costs z_i^2, z_i the distance to that border; a set of changes costs the
 * sum; buckets are looked into by rising cost.
 *
 * A table is given by its key and its moves: a move changes one hash value, adds `delta` to the key and costs `cost`. The
 * sets of moves come off a heap by two operations on their last move: shift (take the next dearer one in its place) and
 * expand (take the next dearer one as well); each set is reached exactly once.
 *
 * Our deviation: one heap for all tables instead of one each. The number of probes is shared out among
 * the tables by cost, so that a table in which the query lies in the middle of its bucket does not waste any
 * (docs/families/pstable.md has the measurement).
 *
 * Use:      ki_probes_create; for a query ki_probes_begin, for each table ki_probes_table, then ki_probes_next as often as
 *           wanted. Threads: one prober belongs to one thread. */
#ifndef KI_HASH_PROBES_H
#define KI_HASH_PROBES_H

#include <kith/allocator.h>
#include <kith/status.h>

#define KI_PROBE_MOVES 64 /* moves of one table at most: a set is a word of bits */

typedef struct ki_move {
    float cost;     /* >= 0 */
    uint64_t delta; /* what it adds to the key, modulo 2^64 */
} ki_move;

typedef struct ki_probe {
    uint32_t table;
    uint64_t key;
} ki_probe;

typedef struct ki_probes ki_probes;

/* In:       tables >= 1; moves 1..KI_PROBE_MOVES of each. paired: move j and move moves - 1 - j, in the order of their
 *           costs, are the two directions of one value and exclude each other; moves is even then.
 * Out:      *probes, NULL on failure. Errors: KITH_NOMEM. */
kith_status ki_probes_create(size_t tables, size_t moves, int paired, const kith_allocator *allocator,
                             ki_probes **probes, kith_error *err);
void ki_probes_free(ki_probes *probes); /* NULL is allowed */

/* Room for `count` calls of ki_probes_next, so that none of them can fail. KITH_NOMEM. */
kith_status ki_probes_reserve(ki_probes *probes, size_t count, kith_error *err);

/* A new query: no table has a key yet. */
void ki_probes_begin(ki_probes *probes);

/* The key of a table and its moves[moves], by rising cost; copied. */
void ki_probes_table(ki_probes *probes, uint32_t table, uint64_t key, const ki_move *moves);

/* The next bucket: of every table its own in turn, then the others by rising cost; ties in the order in which
 * the sets were made, which depends on the costs alone.
 * Out:      1 and *probe, or 0 when there are no more (or more than were reserved). */
int ki_probes_next(ki_probes *probes, ki_probe *probe);

#endif
