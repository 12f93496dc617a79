/* rows_settle.h - a second thread for imports, which works the write-ahead log in. */
#ifndef KITH_CLI_ROWS_SETTLE_H
#define KITH_CLI_ROWS_SETTLE_H

#include <pthread.h>
#include <stdbool.h>

#include <kith/collection.h>

typedef struct rows_settler {
    kith_collection *collection; /* a handle of its own; NULL: there is no thread */
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool wanted, busy, ending;
    uint64_t left; /* bytes to come until the import waits */
} rows_settler;

/* Begin: the collection at `path` is there. Where it cannot (no thread, no file descriptor) it does nothing from then on, and the
 * import has a log of its own to work in: only slower. */
void rows_settler_start(rows_settler *s, const char *path);

/* A batch of about so many bytes has been committed. Now and then it waits until all of the log is in the file. */
void rows_settler_wake(rows_settler *s, uint64_t bytes);

void rows_settler_stop(rows_settler *s);

#endif
