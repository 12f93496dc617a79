#include "base/blocks.h"

/* Blocks a thread and wave: enough to even out unlike blocks, few enough to hear a cancel soon. Arbitrary. */
#define PER_THREAD 4

typedef struct wave {
    ki_block_fn fn;
    void *ctx;
    size_t first;
} wave;

static void run_block(void *ctx, size_t block, size_t worker)
{
    const wave *w = ctx;
    w->fn(w->ctx, w->first + block, worker);
}

kith_status ki_blocks_run(const kith_run *run, const char *stage, size_t n_blocks, size_t per_block,
                          uint64_t total, ki_block_fn fn, void *ctx, kith_error *err)
{
    size_t at_once = PER_THREAD * kith_pool_threads(ki_run_pool(run));
    wave w = {fn, ctx, 0};
    ki_stage told;
    ki_stage_begin(&told, run, stage, total);
    while (w.first < n_blocks) {
        KI_TRY(ki_run_check(run, err));
        size_t count = n_blocks - w.first < at_once ? n_blocks - w.first : at_once;
        ki_pool_run(ki_run_pool(run), count, run_block, &w);
        w.first += count;
        ki_stage_report(&told, w.first < n_blocks ? (uint64_t)w.first * per_block : total);
    }
    return KITH_OK;
}
