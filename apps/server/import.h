/* import.h - rows that come as the body of a request, worked in while they come: no more of it is in memory than two
 * blocks. Each block is a batch, durable when it is done, so one that fails or breaks off leaves the rows before it.
 *
 * A thread of its own reads the blocks; the connection is suspended while both are full. */
#ifndef KITH_SERVER_IMPORT_H
#define KITH_SERVER_IMPORT_H

#include "http.h"

typedef struct import import;

/* The head of a request is there: r->import, or NULL and the answer was given. */
void import_begin(request *r);

/* A piece of the body. Out: how much of it was taken; what was not comes again when the connection is resumed. What comes after a failure is
 * dropped and counted in r->drained. */
size_t import_take(request *r, const char *data, size_t size);

/* The body is complete. 1: the answer was given; 0: the connection is suspended until there is one. */
int import_finish(request *r);

/* The request is over, answered or not: give everything up. Waits for the block that is at work. */
void import_free(request *r);

#endif
