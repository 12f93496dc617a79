/* run.h - how a long operation runs: its threads, its progress, its cancellation.
 *
 * kith starts no thread of its own. A program that wants parallel work makes a pool once and hands it to
 * the calls that should use it. The results do not depend on the number of threads.
 */
#ifndef KITH_RUN_H
#define KITH_RUN_H

#include <kith/allocator.h>
#include <kith/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A fixed set of worker threads; the calling thread works along, so a pool of n starts n - 1 threads. */
typedef struct kith_pool kith_pool;

/* Make a pool.
 * In:       threads, 1..1024, or 0 for the number of processors that this process may use.
 * Out:      *pool, NULL on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_IO when a thread cannot be started.
 * Threads:  one operation at a time runs on a pool; a second caller waits for its turn. Not to be used
 *           from inside a job of the same pool. A forked child must not use its parent's pool.
 * Memory:   the allocator must outlive the pool. */
KITH_API kith_status kith_pool_create(size_t threads, const kith_allocator *allocator, kith_pool **pool,
                                      kith_error *err);

/* Join the threads and free the pool; NULL is allowed. */
KITH_API void kith_pool_free(kith_pool *pool);

/* The number of threads that work, the caller's included; 1 for NULL. */
KITH_API size_t kith_pool_threads(const kith_pool *pool);

/* A flag that any thread or signal handler may raise to stop an operation. */
typedef struct kith_cancel {
    int raised; /* use the functions below, which are atomic and async-signal-safe */
} kith_cancel;

KITH_API void kith_cancel_raise(kith_cancel *cancel);
KITH_API int kith_cancel_raised(const kith_cancel *cancel); /* 0 for NULL */

/* Called from the thread that made the call, at most some ten times a second.
 * stage: a static word ("training", "adding"); done and total in the stage's own units, total 0 if unknown.
 */
typedef void (*kith_progress_fn)(void *ctx, const char *stage, uint64_t done, uint64_t total);

typedef struct kith_run {
    size_t struct_size;
    kith_pool *pool;           /* NULL: only the calling thread */
    kith_progress_fn progress; /* NULL: silent */
    void *progress_ctx;
    const kith_cancel *cancel; /* NULL: cannot be cancelled; else KITH_CANCELLED soon after it is raised */
} kith_run;

static inline void kith_run_init(kith_run *run)
{
    run->struct_size = sizeof *run;
    run->pool = NULL;
    run->progress = NULL;
    run->progress_ctx = NULL;
    run->cancel = NULL;
}

#ifdef __cplusplus
}
#endif
#endif
