/* jobs.h - what takes longer than a request: building an index, measuring, copying, importing. Each has a thread of its own, is
 * listed with how far it is, can be cancelled, and is remembered for a while when it is done. Any number of threads. */
#ifndef KITH_SERVER_JOBS_H
#define KITH_SERVER_JOBS_H

#include <jansson.h>

#include <kith/run.h>
#include <kith/status.h>

struct server;
typedef struct jobs jobs;
typedef struct job job;

#define JOB_ID 17 /* bytes of the id of a job, the zero included */

kith_status jobs_start(struct server *s, jobs **out, kith_error *err);

/* Cancel all and wait until they have ended; none begins any more. NULL is allowed, here and below. */
void jobs_stop(jobs *all);

/* Forget them. */
void jobs_free(jobs *all);

/* What a job does. Out: *result, may stay NULL: what is told about it when it is done. */
typedef kith_status (*job_work)(job *j, void *ctx, json_t **result, kith_error *err);

/* Begin a job in a thread of its own. ctx is given up with `release`, also on failure.
 * Errors:   KITH_BUSY as many are at work as may be; KITH_NOMEM. */
kith_status jobs_begin(jobs *all, const char *kind, const char *collection, job_work work, void *ctx,
                       void (*release)(void *ctx), char id[JOB_ID], kith_error *err);

/* The same for one that has a thread already: to be ended with job_close. The result is given up. */
kith_status job_open(jobs *all, const char *kind, const char *collection, job **out, kith_error *err);
void job_close(job *j, kith_status status, json_t *result, const kith_error *err);

const char *job_id(const job *j);
struct server *job_server(const job *j);
const char *job_collection(const job *j);

/* Say how far it is. stage is static; total 0: not known. */
void job_tell(job *j, const char *stage, uint64_t done, uint64_t total);

const kith_cancel *job_cancel(const job *j);

/* A run that tells the job's progress and can be cancelled; without a pool. */
kith_run job_run(job *j);

/* One or all of them as JSON, the newest first; NULL: none of this id, or no memory. */
json_t *jobs_show(jobs *all, const char *id);
json_t *jobs_list(jobs *all);

/* Ask a job to end. 0: there is none of this id that is at work. */
int jobs_cancel(jobs *all, const char *id);

/* How many are at work. */
size_t jobs_running(jobs *all);

#endif
