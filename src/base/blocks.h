/* blocks.h - blocks of work on the caller's pool, in waves, so that a long operation can be cancelled and tells how far
 * it is. */
#ifndef KI_BASE_BLOCKS_H
#define KI_BASE_BLOCKS_H

#include "base/error.h"
#include "base/pool.h"
#include "base/run.h"

/* Run fn for blocks 0..n_blocks-1. Between waves the cancel flag is asked; progress is counted in units, of which each
 * block but the last has per_block and all of them have `total`. Which blocks make a wave depends on the number
 * of threads, so a block must not look at what another one left.
 * Returns KITH_OK or KITH_CANCELLED (some blocks did not run then). */
kith_status ki_blocks_run(const kith_run *run, const char *stage, size_t n_blocks, size_t per_block,
                          uint64_t total, ki_block_fn fn, void *ctx, kith_error *err);

#endif
