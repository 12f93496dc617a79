#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/error.h"
#include "base/memory.h"

#define MAX_THREADS 1024

/* One job at a time. A job is a generation number: a sleeping worker that sees a new generation works on it
 * until the block counter runs out, then reports. The caller returns when every worker has reported, so a
 * job's context may live on its stack. */
struct kith_pool {
    const kith_allocator *allocator;
    size_t n_workers; /* threads started, the caller not counted */
    pthread_t *workers;
    pthread_mutex_t turn; /* held by the caller whose job runs */
    pthread_mutex_t lock; /* guards the fields below */
    pthread_cond_t started, finished;
    uint64_t generation;
    size_t busy;
    size_t next_worker; /* numbers the threads as they start */
    int closing;
    ki_block_fn fn;
    void *ctx;
    size_t n_blocks;
    atomic_size_t next_block;
};

static void work(kith_pool *pool, size_t worker)
{
    for (;;) {
        size_t block = atomic_fetch_add_explicit(&pool->next_block, 1, memory_order_relaxed);
        if (block >= pool->n_blocks) return;
        pool->fn(pool->ctx, block, worker);
    }
}

static void *worker_main(void *arg)
{
    kith_pool *pool = arg;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    size_t worker = ++pool->next_worker; /* 0 is the caller */
    for (;;) {
        while (pool->generation == seen && !pool->closing) pthread_cond_wait(&pool->started, &pool->lock);
        if (pool->closing) break;
        seen = pool->generation;
        pthread_mutex_unlock(&pool->lock);
        work(pool, worker);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0) pthread_cond_signal(&pool->finished);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static size_t usable_processors(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : (size_t)count;
}

/* Signals belong to the program's own threads: a worker starts with all of them blocked. */
static int start_worker(kith_pool *pool, pthread_t *thread)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread, NULL, worker_main, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

kith_status kith_pool_create(size_t threads, const kith_allocator *allocator, kith_pool **out,
                             kith_error *err)
{
    if (!out) return ki_fail(err, KITH_INVALID, "pool is NULL");
    *out = NULL;
    if (threads > MAX_THREADS)
        return ki_fail(err, KITH_INVALID, "threads is %zu, allowed 0..%d", threads, MAX_THREADS);
    if (threads == 0) threads = usable_processors();
    kith_pool *pool = ki_alloc_zero(allocator, 1, sizeof *pool);
    if (!pool) return ki_fail_nomem(err, sizeof *pool);
    pool->allocator = allocator;
    pthread_mutex_init(&pool->turn, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->started, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->workers = ki_alloc(allocator, threads, sizeof *pool->workers);
    if (!pool->workers) {
        kith_pool_free(pool);
        return ki_fail_nomem(err, threads * sizeof *pool->workers);
    }
    for (size_t i = 0; i + 1 < threads; i++) {
        int failed = start_worker(pool, &pool->workers[i]);
        if (failed) {
            kith_pool_free(pool);
            return ki_fail_errno(err, failed, "thread %zu of %zu could not be started", i + 2, threads);
        }
        pool->n_workers++;
    }
    *out = pool;
    return KITH_OK;
}

void kith_pool_free(kith_pool *pool)
{
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = 1;
    pthread_cond_broadcast(&pool->started);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->n_workers; i++) pthread_join(pool->workers[i], NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->started);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->turn);
    ki_free(pool->allocator, pool->workers);
    ki_free(pool->allocator, pool);
}

size_t kith_pool_threads(const kith_pool *pool)
{
    return pool ? pool->n_workers + 1 : 1;
}

void ki_pool_run(kith_pool *pool, size_t n, ki_block_fn fn, void *ctx)
{
    if (!pool || pool->n_workers == 0 || n <= 1) {
        for (size_t block = 0; block < n; block++) fn(ctx, block, 0);
        return;
    }
    pthread_mutex_lock(&pool->turn);
    pthread_mutex_lock(&pool->lock);
    pool->fn = fn;
    pool->ctx = ctx;
    pool->n_blocks = n;
    atomic_store_explicit(&pool->next_block, 0, memory_order_relaxed);
    pool->busy = pool->n_workers;
    pool->generation++;
    pthread_cond_broadcast(&pool->started);
    pthread_mutex_unlock(&pool->lock);
    work(pool, 0);
    pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0) pthread_cond_wait(&pool->finished, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_unlock(&pool->turn);
}

void kith_cancel_raise(kith_cancel *cancel)
{
    __atomic_store_n(&cancel->raised, 1, __ATOMIC_RELAXED);
}

int kith_cancel_raised(const kith_cancel *cancel)
{
    return cancel && __atomic_load_n(&cancel->raised, __ATOMIC_RELAXED);
}
