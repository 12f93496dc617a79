/* writers.h - threads that write small batches to one collection, and share what is dear about a batch: the sync of the disk.
 *
 * A commit waits for the disk, some milliseconds, whether its batch is of one row or of ten thousand. Batches that are
 * at hand at the same time are made durable here by one commit (group commit: D. J. DeWitt, R. H. Katz, F. Olken, L. D. Shapiro,
 * M. R. Stonebraker, D. A. Wood, "Implementation techniques for main memory database systems", SIGMOD 1984).
 *
 * When to use:     several threads of a process write, each now and then: a server.
 * When not to use: an import, which had better make its batches larger; several processes, which take turns by batch.
 *
 * What a batch is, it stays:
 *   - batches are made one behind the other, in the order in which the calls of kith_writers_write came, and each sees what
 *     those before it wrote;
 *   - a batch that fails is undone, alone: the others of its commit are there as if it had never been;
 *   - KITH_OK means that the batch is on the disk, and found by the next read of every handle. Nobody but the batches behind it
 *     reads it before, and what they answer, a refusal as well, is given out when it is on the disk: where it does not get
 *     there they are made once more. After a crash the batches of one commit are all there, or none of them; those that
 *     were acknowledged are there.
 * A commit takes no more batches when none waits for its turn, when there are KITH_WRITERS_MOST in it, or 20 ms after its first was
 * made. It waits for as many as the last commit had, a quarter of the time that a commit takes and a millisecond at most. A thread that is
 * alone waits for nobody.
 *
 * Threads: any number of threads may call kith_writers_write and kith_writers_get_stats at once. The collection works in one at
 * a time, and for nobody else as long as the writers are there.
 *
 * Memory: some hundred bytes, from the allocator of the collection; a call keeps what it needs on the stack of its thread. What batches
 * change is in SQLite's page cache until the commit, for all batches of a commit together. */
#ifndef KITH_WRITERS_H
#define KITH_WRITERS_H

#include <kith/collection.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KITH_WRITERS_MOST 256 /* batches of one commit */

typedef struct kith_writers kith_writers;

/* Let threads write to a collection.
 * In:       collection, opened for writing; not in a batch, not pinned. It stays the caller's, who closes it after
 *           kith_writers_free and does nothing else with it before.
 * Out:      *writers, NULL on failure.
 * Errors:   KITH_INVALID, KITH_READONLY, KITH_NOMEM; KITH_IO when the system has no lock or condition variable to give. */
KITH_API kith_status kith_writers_create(kith_collection *collection, kith_writers **writers,
                                         kith_error *err);

/* Free them; no call of kith_writers_write may be under way. NULL is allowed. */
KITH_API void kith_writers_free(kith_writers *writers);

/* What is done in a batch: put, delete, read, search, ... Returns KITH_OK for the batch to be committed, else it is undone.
 * Notes:    What cannot be done in a batch is refused here as there, with KITH_INVALID: begin, commit, pin, fold, optimize, settle, tune,
 *           sync. A rollback makes the batch one that can only fail. kith_collection_close and calls of kith_writers_* are
 *           not allowed; another handle of the same collection reads what is on the disk, and waits in vain to write.
 *           It may be called a second time for the same batch, when what the first call did or found did not get to the
 *           disk because of another batch: whatever it notes down outside of the collection it has to begin anew. */
typedef kith_status (*kith_change)(kith_collection *collection, void *ctx, kith_error *err);

/* Write a batch: wait for its turn, let `change` make it, wait until it is on the disk.
 * In:       change, called in this thread; ctx, passed to it.
 * Out:      *version, may be NULL: that of the collection with this batch as its last.
 * Errors:   what `change` returned; KITH_BUSY when another handle or process was writing for all of wait_ms, while this call, or one in
 *           front of it since this one came, asked for the writer's lock: the time that calls in front of it take to write does not
 *           count; KITH_IO when the system has no condition variable to give; else as kith_collection_commit. Nothing of
 *           the batch is there then, but for the one case that kith_collection_commit names. After it every call answers
 *           KITH_IO and stats.broken is 1, until these writers are freed, the collection is closed and both are made anew.
 * Cost:     that of `change`, the wait for those before it, and a commit, shared. A batch that fails behind others waits for
 *           that commit, too.
 * Notes:    Where a change or the commit fails in a way that takes the batches before it along (the disk is full, memory runs
 *           out), they and those behind them in the same commit, failed or not, are made once more, each with a commit of
 *           its own. */
KITH_API kith_status kith_writers_write(kith_writers *writers, kith_change change, void *ctx,
                                        uint64_t *version, kith_error *err);

typedef struct kith_writers_stats {
    size_t struct_size; /* set by the caller: sizeof *stats */
    uint64_t batches;   /* acknowledged */
    uint64_t commits;   /* that made them durable */
    uint64_t largest;   /* batches of one of them */
    uint64_t repeated;  /* batches that were made once more */
    uint64_t waiting;   /* calls that wait for their turn just now */
    uint64_t broken;    /* 1: a commit failed in the disk, see kith_writers_write */
} kith_writers_stats;

/* What has been written so far, from any thread. KITH_INVALID for a struct_size that is not known. */
KITH_API kith_status kith_writers_get_stats(kith_writers *writers, kith_writers_stats *stats,
                                            kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
