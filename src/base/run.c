#include "base/run.h"

#include <time.h>

#include "base/error.h"

#define REPORT_EVERY_NS 100000000u

uint64_t ki_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void ki_stage_begin(ki_stage *stage, const kith_run *run, const char *name, uint64_t total)
{
    *stage = (ki_stage){.run = run, .name = name, .total = total};
    if (!run || !run->progress) return;
    stage->last_ns = ki_now_ns();
    run->progress(run->progress_ctx, name, 0, total);
}

void ki_stage_report(ki_stage *stage, uint64_t done)
{
    const kith_run *run = stage->run;
    if (!run || !run->progress) return;
    uint64_t now = ki_now_ns();
    if (done != stage->total && now - stage->last_ns < REPORT_EVERY_NS) return;
    stage->last_ns = now;
    run->progress(run->progress_ctx, stage->name, done, stage->total);
}

kith_status ki_run_check(const kith_run *run, kith_error *err)
{
    if (run && kith_cancel_raised(run->cancel))
        return ki_fail(err, KITH_CANCELLED, "cancelled by the caller");
    return KITH_OK;
}
