#include "jobs.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/fail.h"
#include "memory.h"
#include "server_state.h"

enum { REMEMBERED = 100 };

struct job {
    job *next; /* older ones */
    jobs *all;
    char id[JOB_ID];
    char *kind, *collection;
    const char *state, *stage;
    uint64_t done, total;
    time_t began, ended;
    uint64_t began_ns, ended_ns;
    json_t *result;
    kith_error error;
    kith_cancel cancel;
    int at_work;
    /* Of those with a thread of ours. */
    job_work work;
    void *ctx;
    void (*release)(void *ctx);
};

struct jobs {
    server *s;
    job *newest;
    size_t running, n;
    uint64_t number;
    int ending;
    pthread_mutex_t lock;
    pthread_cond_t ended;
};

kith_status jobs_start(server *s, jobs **out, kith_error *err)
{
    jobs *all = calloc(1, sizeof *all);
    *out = all;
    if (!all) return common_fail_nomem(err);
    all->s = s;
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->ended, NULL);
    return KITH_OK;
}

void jobs_stop(jobs *all)
{
    if (!all) return;
    pthread_mutex_lock(&all->lock);
    all->ending = 1;
    for (job *j = all->newest; j; j = j->next) kith_cancel_raise(&j->cancel);
    while (all->running > 0) pthread_cond_wait(&all->ended, &all->lock);
    pthread_mutex_unlock(&all->lock);
}

static void job_free(job *j)
{
    free(j->kind);
    free(j->collection);
    json_decref(j->result);
    free(j);
}

void jobs_free(jobs *all)
{
    if (!all) return;
    while (all->newest) {
        job *next = all->newest->next;
        job_free(all->newest);
        all->newest = next;
    }
    pthread_mutex_destroy(&all->lock);
    pthread_cond_destroy(&all->ended);
    free(all);
}

/* With the lock: forget the oldest that are done. */
static void forget(jobs *all)
{
    size_t kept = 0;
    for (job **link = &all->newest; *link;) {
        job *j = *link;
        if (j->at_work || ++kept <= REMEMBERED) {
            link = &j->next;
            continue;
        }
        *link = j->next;
        job_free(j);
    }
}

kith_status job_open(jobs *all, const char *kind, const char *collection, job **out, kith_error *err)
{
    *out = NULL;
    job *j = calloc(1, sizeof *j);
    if (!j) return common_fail_nomem(err);
    j->all = all;
    j->kind = strdup(kind);
    j->collection = strdup(collection);
    j->state = "running";
    j->stage = "";
    j->began = time(NULL);
    j->began_ns = server_now_ns();
    j->at_work = 1;
    if (!j->kind || !j->collection) {
        job_free(j);
        return common_fail_nomem(err);
    }
    pthread_mutex_lock(&all->lock);
    int full = all->ending || all->running >= all->s->options.max_jobs;
    if (!full) {
        snprintf(j->id, sizeof j->id, "%016" PRIx64,
                 (all->s->salt ^ 0x5bd1e995) + ++all->number * 0x9e3779b97f4a7c15u);
        j->next = all->newest;
        all->newest = j;
        all->running++;
        forget(all);
    }
    pthread_mutex_unlock(&all->lock);
    if (full) {
        job_free(j);
        return common_fail(err, KITH_BUSY, "as many jobs are at work as may be: %u",
                           all->s->options.max_jobs);
    }
    *out = j;
    return KITH_OK;
}

void job_close(job *j, kith_status status, json_t *result, const kith_error *err)
{
    jobs *all = j->all;
    pthread_mutex_lock(&all->lock);
    j->state = status == KITH_OK ? "done" : status == KITH_CANCELLED ? "cancelled" : "failed";
    if (status != KITH_OK) j->error = *err;
    j->result = result;
    j->ended = time(NULL);
    j->ended_ns = server_now_ns();
    j->at_work = 0;
    all->running--;
    pthread_cond_broadcast(&all->ended);
    pthread_mutex_unlock(&all->lock);
}

static void *run(void *ctx)
{
    job *j = ctx;
    kith_error err = {0};
    json_t *result = NULL;
    kith_status status = j->work(j, j->ctx, &result, &err);
    j->release(j->ctx);
    memory_give_back();
    job_close(j, status, result, &err);
    return NULL;
}

kith_status jobs_begin(jobs *all, const char *kind, const char *collection, job_work what, void *ctx,
                       void (*release)(void *ctx), char id[JOB_ID], kith_error *err)
{
    job *j;
    kith_status status = job_open(all, kind, collection, &j, err);
    if (status != KITH_OK) {
        release(ctx);
        return status;
    }
    j->work = what;
    j->ctx = ctx;
    j->release = release;
    memcpy(id, j->id, JOB_ID);
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, j) == 0) {
        pthread_detach(thread);
        return KITH_OK;
    }
    release(ctx);
    kith_error why = {0};
    status = common_fail(&why, KITH_NOMEM, "no thread can be started");
    job_close(j, status, NULL, &why);
    return common_fail(err, status, "%s", why.message);
}

const char *job_id(const job *j)
{
    return j->id;
}

server *job_server(const job *j)
{
    return j->all->s;
}

const char *job_collection(const job *j)
{
    return j->collection;
}

void job_tell(job *j, const char *stage, uint64_t done, uint64_t total)
{
    pthread_mutex_lock(&j->all->lock);
    j->stage = stage;
    j->done = done;
    j->total = total;
    pthread_mutex_unlock(&j->all->lock);
}

const kith_cancel *job_cancel(const job *j)
{
    return &j->cancel;
}

static void told(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    job_tell(ctx, stage, done, total);
}

kith_run job_run(job *j)
{
    kith_run run;
    kith_run_init(&run);
    run.progress = told;
    run.progress_ctx = j;
    run.cancel = &j->cancel;
    return run;
}

static json_t *to_json(const jobs *all, const job *j)
{
    double seconds = (double)((j->at_work ? server_now_ns() : j->ended_ns) - j->began_ns) * 1e-9;
    json_t *json =
        json_pack("{ss ss ss ss ss sI sI sI sf}", "id", j->id, "kind", j->kind, "collection", j->collection,
                  "state", j->state, "stage", j->stage, "done", (json_int_t)j->done, "total",
                  (json_int_t)j->total, "began", (json_int_t)j->began, "seconds", seconds);
    if (json && j->result) json_object_set(json, "result", j->result);
    if (json && j->error.code) {
        char shown[HTTP_WORDS];
        json_t *words = json_string(http_without_folder(all->s, j->error.message, shown));
        json_object_set_new(json, "error", words ? words : json_string("(not UTF-8)"));
    }
    return json;
}

static job *find(const jobs *all, const char *id)
{
    job *j = all->newest;
    while (j && strcmp(j->id, id) != 0) j = j->next;
    return j;
}

json_t *jobs_show(jobs *all, const char *id)
{
    pthread_mutex_lock(&all->lock);
    const job *j = find(all, id);
    json_t *json = j ? to_json(all, j) : NULL;
    pthread_mutex_unlock(&all->lock);
    return json;
}

json_t *jobs_list(jobs *all)
{
    json_t *list = json_array();
    pthread_mutex_lock(&all->lock);
    for (const job *j = all->newest; j; j = j->next) json_array_append_new(list, to_json(all, j));
    pthread_mutex_unlock(&all->lock);
    return list;
}

int jobs_cancel(jobs *all, const char *id)
{
    pthread_mutex_lock(&all->lock);
    job *j = find(all, id);
    int found = j && j->at_work;
    if (found) kith_cancel_raise(&j->cancel);
    pthread_mutex_unlock(&all->lock);
    return found;
}

size_t jobs_running(jobs *all)
{
    pthread_mutex_lock(&all->lock);
    size_t n = all->running;
    pthread_mutex_unlock(&all->lock);
    return n;
}
