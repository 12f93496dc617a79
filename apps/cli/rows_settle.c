/* rows_settle.c - a second thread for imports: it moves the write-ahead log into the file while the first puts rows.
 *
 * Without it every third batch waits until its pages, and those of the two before it, have been read from the log, written to
 * the file and synced. With it the log is longer, and an import waits for the thread only now and then, so that the log can
 * begin again from its start. */
#include "rows_settle.h"

#include <stdlib.h>

enum { WAIT_BYTES = 64 << 20 }; /* an import waits for the thread after so much; arbitrary */

static void *settle(void *arg)
{
    rows_settler *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->ending) {
        if (!s->wanted) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        s->wanted = false;
        s->busy = true;
        pthread_mutex_unlock(&s->lock);
        /* What fails here is no harm: the log is longer, and the next to work it in says what is wrong. */
        (void)kith_collection_settle(s->collection, NULL, NULL);
        pthread_mutex_lock(&s->lock);
        s->busy = false;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

void rows_settler_start(rows_settler *s, const char *path)
{
    kith_collection_options options;
    *s = (rows_settler){.left = WAIT_BYTES};
    kith_collection_options_init(&options);
    options.wait_ms = 0;
    if (kith_collection_open(path, &options, &s->collection, NULL) != KITH_OK) return;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    if (pthread_create(&s->thread, NULL, settle, s) == 0) return;
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    kith_collection_close(s->collection);
    s->collection = NULL;
}

void rows_settler_wake(rows_settler *s, uint64_t bytes)
{
    if (!s->collection) return;
    pthread_mutex_lock(&s->lock);
    s->wanted = true;
    pthread_cond_broadcast(&s->changed);
    int wait = bytes >= s->left;
    s->left = wait ? WAIT_BYTES : s->left - bytes;
    while (wait && (s->wanted || s->busy)) pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void rows_settler_stop(rows_settler *s)
{
    if (!s->collection) return;
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    kith_collection_close(s->collection);
    s->collection = NULL;
}
