/* work.h - threads for requests that take longer than a thread of the HTTP library should be kept: what writes, what decodes
 * pictures, what reads much. The connection is suspended meanwhile. */
#ifndef KITH_SERVER_WORK_H
#define KITH_SERVER_WORK_H

#include <stddef.h>

#include <kith/status.h>

struct request;
typedef struct work work;

/* Start the threads; each calls routes_answer for the requests that it is given. */
kith_status work_start(size_t threads, work **out, kith_error *err);

/* Finish what waits and end the threads. NULL is allowed. */
void work_stop(work *w);

/* Give a request away, in the call of the HTTP library that it is in: it is suspended, answered by a thread, and resumed.
 * 0: not any more, for the server is about to end. */
int work_push(work *w, struct request *r);

#endif
