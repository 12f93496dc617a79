/* server_state.h - what the files of the server share. */
#ifndef KITH_SERVER_STATE_H
#define KITH_SERVER_STATE_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http.h"
#include "server.h"
#include "shelf.h"
#include "tokens.h"

/* Upper ends of the histogram of answer times, seconds. */
#define SERVER_TIMES                                 \
    {                                                \
        0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10 \
    }
#define SERVER_N_TIMES 9

struct server {
    server_options options;
    shelf *shelf;
    tokens tokens; /* none: everybody may read */
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
};

/* routes.c: whether the head of a request lets it in; 0: it was answered. */
int routes_admit(request *r);

/* The same, a request that has come whole. */
void routes_answer(request *r);

#endif
