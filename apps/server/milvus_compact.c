/* milvus_compact.c - /collections/compact: bring the index up to date, as a job of the server (jobs.h). Rows that the index does
 * not cover yet are found by an exact search meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "milvus_call.h"

typedef struct compaction {
    server *server;
    loan loan;
} compaction;

static kith_status work_of(job *j, void *ctx, json_t **result, kith_error *err)
{
    compaction *one = ctx;
    kith_run run = job_run(j);
    kith_fold_options options;
    kith_fold_options_init(&options);
    options.run = &run;
    (void)result;
    kith_status status = kith_collection_optimize(one->loan.collection, &options, err);
    return status == KITH_BUSY ? KITH_OK : status; /* another one is at it, or reads: the next time will do */
}

static void release(void *ctx)
{
    compaction *one = ctx;
    shelf_return(one->server->shelf, &one->loan);
    free(one);
}

/* The id of a job as a number that every client can hold. */
static json_int_t number_of(const char *id)
{
    return (json_int_t)(strtoull(id, NULL, 16) & 0xfffffffffffffu);
}

json_t *mv_collections_compact(mv_call *c)
{
    char id[JOB_ID];
    if (!mv_use(c, LOAN_OWN)) return NULL;
    compaction *one = calloc(1, sizeof *one);
    if (!one) return mv_fail(c, MV_OVERLOADED, "out of memory");
    *one = (compaction){c->server, c->loan};
    c->loan = (loan){0};
    if (jobs_begin(c->server->jobs, "index", c->file, work_of, one, release, id, &c->err) != KITH_OK)
        return mv_fail_engine(c);
    return json_pack("{sI}", "compactionID", number_of(id));
}

/* The state of the job of a number, NULL when it is forgotten: it has ended long ago. */
static const char *state_of(const json_t *all, int64_t number)
{
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i);
        const char *id = json_string_value(json_object_get(one, "id"));
        if (id && number_of(id) == number) return json_string_value(json_object_get(one, "state"));
    }
    return NULL;
}

json_t *mv_collections_get_compaction_state(mv_call *c)
{
    int64_t number;
    const json_t *given = json_object_get(c->body, "compactionID");
    if (!given) given = json_object_get(c->body, "jobID");
    if (!mv_int64(given, &number))
        return mv_fail(c, MV_PARAMETER_MISSING, "missing required parameters, error: jobID");
    json_t *all = jobs_list(c->server->jobs);
    const char *state = state_of(all, number);
    int running = state && strcmp(state, "running") == 0;
    json_decref(all);
    return json_pack("{ss si si si}", "state", running ? "Executing" : "Completed", "executingPlan", running,
                     "timeoutPlan", 0, "completedPlan", !running);
}
