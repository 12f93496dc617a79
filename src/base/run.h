/* run.h - what a long operation does with its kith_run: ask whether to stop, tell how far it is. */
#ifndef KI_BASE_RUN_H
#define KI_BASE_RUN_H

#include <kith/run.h>

/* The reporter of one stage. Lives on the stack of the operation. */
typedef struct ki_stage {
    const kith_run *run;
    const char *name;
    uint64_t total;
    uint64_t last_ns; /* when the caller was told last */
} ki_stage;

/* Begin a stage: tells the caller done = 0. run may be NULL. */
void ki_stage_begin(ki_stage *stage, const kith_run *run, const char *name, uint64_t total);

/* Tell the caller, at most ten times a second; done == total is always told. */
void ki_stage_report(ki_stage *stage, uint64_t done);

static inline kith_pool *ki_run_pool(const kith_run *run)
{
    return run ? run->pool : NULL;
}

/* The pool and the cancel flag of run, without its progress: for steps of a stage that have stages of their own. */
static inline kith_run ki_run_quiet(const kith_run *run)
{
    kith_run quiet;
    kith_run_init(&quiet);
    if (run) quiet.pool = run->pool, quiet.cancel = run->cancel;
    return quiet;
}

/* KITH_OK, or KITH_CANCELLED with its message when the flag is up. */
kith_status ki_run_check(const kith_run *run, kith_error *err);

/* A monotonic clock, nanoseconds. */
uint64_t ki_now_ns(void);

#endif
