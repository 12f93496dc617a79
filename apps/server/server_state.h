/* server_state.h - what the files of the server share. */
#ifndef KITH_SERVER_STATE_H
#define KITH_SERVER_STATE_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http.h"
#include "jobs.h"
#include "routes.h"
#include "server.h"
#include "shelf.h"
#include "tokens.h"
#include "watch.h"
#include "work.h"

/* Upper ends of the histogram of answer times, seconds. */
#define SERVER_TIMES                                 \
    {                                                \
        0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10 \
    }
#define SERVER_N_TIMES 9

enum {
    SERVER_NOTE = 64, /* bytes that the HTTP library notes of a header, a cookie or an argument */
    SERVER_ANSWER_ROOM =
        2 << 10 /* bytes of a connection's memory that a head may not take: its answer's head is to fit */
};

struct milvus;

#define SERVER_SEARCHED \
    64 /* collections that it is kept of how long searches take; those beyond share a place */

struct server {
    server_options options;
    shelf *shelf;
    tokens tokens;        /* none: everybody on this machine may ask */
    work *work, *writing; /* for ROUTE_LATER, for ROUTE_WRITE */
    jobs *jobs;
    watch *watch;
    struct milvus *milvus;
    atomic_int stopping; /* what waits for something is to give up */
    struct MHD_Daemon *daemon;
    uint16_t port;
    int listening; /* the socket */
    uint64_t salt; /* of request ids */
    pthread_mutex_t log_lock;
    atomic_uint connections, running; /* requests that are being answered */
    atomic_uint_fast64_t requests;
    atomic_uint_fast64_t by_class[6];                 /* of status: [2] for 2xx */
    atomic_uint_fast64_t by_time[SERVER_N_TIMES + 1]; /* the last: longer */
    atomic_uint_fast64_t micros;
    atomic_uint usual_us[SERVER_SEARCHED]; /* of the last searches, by a hash of the collection's name */
    atomic_uint_fast64_t search_ns;        /* processor time in searches, without what HTTP and JSON take */
};

/* exchange.c: what the HTTP library calls. */
void *exchange_on_target(void *ctx, const char *target, struct MHD_Connection *connection);
enum MHD_Result exchange_on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                    const char *method, const char *version, const char *data, size_t *size,
                                    void **state);
void exchange_on_completed(void *ctx, struct MHD_Connection *connection, void **state,
                           enum MHD_RequestTerminationCode how);
void exchange_on_connection(void *ctx, struct MHD_Connection *connection, void **state,
                            enum MHD_ConnectionNotificationCode what);

size_t exchange_unescape(void *ctx, struct MHD_Connection *connection, char *words);

/* The byte that stands at `*at`, decoded where it is %XX; *at goes on to the next. */
char exchange_next(const char **at);

uint64_t server_now_ns(void);    /* by the clock */
uint64_t server_thread_ns(void); /* of a processor, by this thread */

#endif
