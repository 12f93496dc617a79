/* worker.h - jobs done in processes of their own, because the bytes that they look at are not to be trusted.
 *
 *     the program ---- nursery (forked first, knows nothing, forks on demand)
 *          \             |- worker 0: start(setup), limits, then run(task), run(task), ...
 *           \----------- |- worker 1
 *        a socket each
 *
 * The nursery is forked by ki_workers_create, before the program starts threads or opens databases; workers
 * are forked from it, at the start and when one has died, so that they inherit neither locks held by threads
 * nor open files. Everybody dies with the program: the nursery when its socket ends, the workers with the
 * nursery.
 *
 * A task is some bytes and an open file; its result is a status, a line of text and some bytes, which the
 * receiver must check. A worker that crashes, hangs, exceeds its limits or talks nonsense costs its task (tried
 * once more if it crashed, for the death may have come from outside) and is replaced.
 *
 * Each worker has up to two tasks, so that it need not wait for the program between them.
 *
 * Threads: a ki_workers belongs to one thread at a time. What it knows of pictures: nothing.
 */
#ifndef KI_GALLERY_WORKER_H
#define KI_GALLERY_WORKER_H

#include <kith/allocator.h>
#include <kith/status.h>

#include "gallery/wire.h"
#include "gallery/frame.h"

typedef struct ki_workers ki_workers;

/* What runs in a worker. */
typedef struct ki_worker_job {
    /* Once, before the limits are set. */
    kith_status (*start)(const uint8_t *setup, size_t size, void **state, kith_error *err);

    /* A task. `fd` is open for reading, and closed by the caller. What is put into `reply` goes back. */
    kith_status (*run)(void *state, const uint8_t *request, size_t size, int fd, ki_bytes *reply,
                       kith_error *err);
} ki_worker_job;

typedef struct ki_workers_options {
    const ki_worker_job *job;
    size_t workers;  /* 1.. */
    double seconds;  /* that a start or a task may take; the time that the program itself stood still (Ctrl-Z)
                      * is not counted */
    uint64_t memory; /* bytes of address space beyond what `start` left */
    size_t max_reply; /* bytes of a reply's body */
    const kith_allocator *allocator;
} ki_workers_options;

/* Fork the nursery. No worker yet.
 * Errors:   KITH_IO no process or socket to be had; KITH_NOMEM; KITH_INVALID. */
kith_status ki_workers_create(const ki_workers_options *options, ki_workers **workers, kith_error *err);

/* End all of them; NULL is allowed. Tasks under way are forgotten. */
void ki_workers_free(ki_workers *workers);

/* What workers are started with from now on. Those that run are ended (there must be no task under way), and
 * one is started to see whether the setup is good.
 * Errors:   what start() answered; KITH_INTERNAL when it died; KITH_NOMEM; KITH_IO. */
kith_status ki_workers_setup(ki_workers *workers, const void *setup, size_t size, kith_error *err);

/* Forget all tasks under way, and end the workers that have them. */
kith_status ki_workers_abandon(ki_workers *workers, kith_error *err);

/* How many more tasks are taken now, and how many are under way. */
size_t ki_workers_room(const ki_workers *workers);
size_t ki_workers_busy(const ki_workers *workers);

/* Give a task. There must be room.
 * In:       tag, comes back with the reply; fd, which belongs to the workers from now on (and is closed even
 *           on failure). */
kith_status ki_workers_submit(ki_workers *workers, uint64_t tag, const void *request, size_t size, int fd,
                              kith_error *err);

typedef struct ki_reply {
    uint64_t tag;
    kith_status status;                          /* of the task */
    char text[sizeof((kith_error *)0)->message]; /* why it failed */
    const uint8_t *body;
    size_t size;
    ki_frame_reader frame; /* owns the body */
} ki_reply;

/* Wait for a result.
 * In:       milliseconds to wait at most; -1: for ever.
 * Out:      *got 1 and *reply, to be cleared, or *got 0 when the time is over or no task is under way.
 * Errors:   KITH_INTERNAL workers cannot be started any more; KITH_NOMEM; KITH_IO. */
kith_status ki_workers_wait(ki_workers *workers, int milliseconds, int *got, ki_reply *reply,
                            kith_error *err);
void ki_reply_clear(ki_reply *reply);

/* The process of worker i, or 0 while it does not run: for tests. */
int ki_workers_pid(const ki_workers *workers, size_t i);

#endif
