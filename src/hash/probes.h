/* probes.h - which buckets of a hash table to look into, likeliest first.
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
 * (One heap for all tables, so that the number of probes is shared out among them by cost, finds less for the same number of
 * rows: 0.89 against 0.91 of the 10 nearest on fashion-mnist with 5 % of the rows scored. Each table tells something of its own.)
 *
 * Use:      ki_probes_create; for each table of a query ki_probes_begin, then ki_probes_next as often as wanted.
 *           Threads: one prober belongs to one thread. */
#ifndef KI_HASH_PROBES_H
#define KI_HASH_PROBES_H

#include <kith/allocator.h>
#include <kith/status.h>

#define KI_PROBE_MOVES 64 /* moves of one table at most: a set is a word of bits */

typedef struct ki_move {
    float cost;     /* >= 0 */
    uint64_t delta; /* what it adds to the key, modulo 2^64 */
} ki_move;

typedef struct ki_probes ki_probes;

/* In:       moves 1..KI_PROBE_MOVES of a table. paired: move j and move moves - 1 - j, in the order of their costs, are the two
 *           directions of one value and exclude each other; moves is even then.
 * Out:      *probes, NULL on failure. Errors: KITH_NOMEM. */
kith_status ki_probes_create(size_t moves, int paired, const kith_allocator *allocator, ki_probes **probes,
                             kith_error *err);
void ki_probes_free(ki_probes *probes); /* NULL is allowed */

/* Room for `count` buckets beside a query's own, so that ki_probes_next cannot fail. KITH_NOMEM. */
kith_status ki_probes_reserve(ki_probes *probes, size_t count, kith_error *err);

/* A new table: the query's key and its moves[moves], by rising cost; both copied. */
void ki_probes_begin(ki_probes *probes, uint64_t key, const ki_move *moves);

/* The next bucket: the query's own, then the others by rising cost; ties in the order in which the sets were made, which
 * depends on the costs alone.
 * Out:      1 and *key, or 0 when there are no more. */
int ki_probes_next(ki_probes *probes, uint64_t *key);

#endif
