/* pool.h - running blocks of work on the caller's pool.
 *
 * Work is cut into blocks whose size depends on the data alone, never on the number of threads; what a block
 * computes goes to its own place, and the caller merges in block order. That is what makes results
 * independent of the number of threads. */
#ifndef KI_BASE_POOL_H
#define KI_BASE_POOL_H

#include <kith/run.h>

/* One block; worker is 0..kith_pool_threads(pool)-1 and belongs to this block while it runs: use it to pick
 * scratch memory, never to shape a result. */
typedef void (*ki_block_fn)(void *ctx, size_t block, size_t worker);

/* Run blocks 0..n-1, each once, on the threads of the pool and on this one (pool NULL: on this one, in
 * order). */
void ki_pool_run(kith_pool *pool, size_t n, ki_block_fn fn, void *ctx);

#endif
