/* watch.h - connections that are too slow: the HTTP library ends those that are silent, this ends those that send or take
 * a byte now and then. A head must come within some seconds, a body, and an answer, at some rate. Time in which it is the server that is late,
 * for its threads are busy, is not counted. */
#ifndef KITH_SERVER_WATCH_H
#define KITH_SERVER_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include <kith/status.h>

struct server_options;
typedef struct watch watch;
typedef struct watched watched;

/* Start the thread that looks. options must stand until watch_stop. */
kith_status watch_start(const struct server_options *options, watch **out, kith_error *err);
void watch_stop(watch *w); /* NULL is allowed */

/* A connection has been opened. NULL: no memory, it is not watched. */
watched *watch_open(watch *w, int fd);

/* It is about to be closed. NULL is allowed here and below. */
void watch_close(watch *w, watched *c);

/* What it is at: WATCH_HEAD, a head is awaited (bytes 0: the first one of the connection); WATCH_BODY; WATCH_OURS, it
 * waits for us; WATCH_ANSWER, of `bytes` bytes. */
typedef enum watch_phase { WATCH_HEAD, WATCH_BODY, WATCH_OURS, WATCH_ANSWER } watch_phase;
void watch_enter(watch *w, watched *c, watch_phase phase, uint64_t bytes);

/* Bytes of a body have come. */
void watch_came(watch *w, watched *c, size_t bytes);

#endif
