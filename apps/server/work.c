#include "work.h"

#include <pthread.h>
#include <stdlib.h>

#include "../common/fail.h"
#include "server_state.h"

struct work {
    pthread_t *threads;
    size_t n;
    request *first, **last; /* the queue */
    int ending;
    pthread_mutex_t lock;
    pthread_cond_t pushed;
};

static request *pop(work *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->first && !w->ending) pthread_cond_wait(&w->pushed, &w->lock);
    request *r = w->first;
    if (r) {
        w->first = r->next;
        if (!w->first) w->last = &w->first;
    }
    pthread_mutex_unlock(&w->lock);
    return r;
}

static void *run(void *ctx)
{
    for (request *r; (r = pop(ctx));) {
        if (r->unproven) {
            (void)routes_admit(r);
            watch_enter(r->server->watch, r->watched, WATCH_BODY, 0);
        } else {
            routes_answer(r);
        }
        MHD_resume_connection(r->connection); /* from here on it belongs to the library's thread again */
    }
    return NULL;
}

kith_status work_start(size_t threads, work **out, kith_error *err)
{
    work *w = calloc(1, sizeof *w);
    *out = w;
    if (w) w->threads = calloc(threads, sizeof *w->threads);
    if (!w || !w->threads) return common_fail_nomem(err);
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->pushed, NULL);
    for (; w->n < threads; w->n++)
        if (pthread_create(&w->threads[w->n], NULL, run, w) != 0)
            return common_fail(err, KITH_INTERNAL, "threads cannot be started");
    return KITH_OK;
}

void work_stop(work *w)
{
    if (!w || !w->threads) return;
    pthread_mutex_lock(&w->lock);
    w->ending = 1;
    pthread_cond_broadcast(&w->pushed);
    pthread_mutex_unlock(&w->lock);
    for (size_t i = 0; i < w->n; i++) pthread_join(w->threads[i], NULL);
    w->n = 0;
}

void work_free(work *w)
{
    if (!w) return;
    if (w->threads) {
        pthread_mutex_destroy(&w->lock);
        pthread_cond_destroy(&w->pushed);
    }
    free(w->threads);
    free(w);
}

int work_push(work *w, request *r)
{
    r->next = NULL;
    pthread_mutex_lock(&w->lock);
    int taken = !w->ending;
    if (taken) {
        r->given_away = !r->unproven;
        MHD_suspend_connection(r->connection);
        *w->last = r;
        w->last = &r->next;
        pthread_cond_signal(&w->pushed);
    }
    pthread_mutex_unlock(&w->lock);
    return taken;
}
