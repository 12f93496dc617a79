/* work.h - threads for requests that take longer than a thread of the HTTP library should be kept: what writes, what decodes
 * pictures, what reads much. The connection is suspended meanwhile. */
#ifndef KITH_SERVER_WORK_H
#define KITH_SERVER_WORK_H

#include <stddef.h>

#include <kith/status.h>

struct request;
typedef struct work work;

/* Start the threads; each calls routes_answer for the requests that it is given, or routes_admit for those that are unproven. */
kith_status work_start(size_t threads, work **out, kith_error *err);

/* Finish what waits and end the threads; from here on nothing is taken. NULL is allowed. */
void work_stop(work *w);

/* Free it, after work_stop, when no thread can call work_push any more: those of the HTTP library have ended. NULL is allowed. */
void work_free(work *w);

/* Give a request away, in the call of the HTTP library that it is in: it is suspended, answered (or admitted) by a thread, and resumed.
 * 0: not any more, for the server is about to end. */
int work_push(work *w, struct request *r);

#endif
