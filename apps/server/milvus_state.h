/* milvus_state.h - what the Milvus adapter keeps between requests, and who may ask. */
#ifndef KITH_SERVER_MILVUS_STATE_H
#define KITH_SERVER_MILVUS_STATE_H

#include <pthread.h>
#include <time.h>

#include "milvus_call.h"

enum { MV_HASH = 32, MV_KNOWN = 16 };

struct milvus {
    char *path; /* of the catalogue */
    pthread_mutex_t lock;
    kith_collection *catalog; /* under the lock; NULL: not opened yet, or not there */
    /* The last passwords that were right, as SHA-256 of the hash that is kept and "user:password": a slow hash is made once,
     * not for each request. */
    unsigned char known[MV_KNOWN][MV_HASH];
    size_t n_known;
    time_t guessed; /* the second of the last slow hash */
    int guesses;    /* slow hashes in it */
};

/* Read the body, whatever its Content-Type says: a client of the field sends text/plain. An empty one is {}. 0: failed. */
int mv_read_body(mv_call *c);

/* Answer with a value, which is given up; numbers come back as they were, with 17 digits. */
void mv_reply(request *r, unsigned status, json_t *value);

/* Whether the one who asks is known, or nobody need be; sets c->role and c->user. 0: failed. */
int mv_knows(mv_call *c);

/* The same for the head of a request, as routes_admit says it. */
int mv_admits(mv_call *c);

/* What a request is about, see milvus_routes.def. */
typedef enum mv_about {
    MV_ABOUT_SERVER,
    MV_ABOUT_DATABASE,
    MV_ABOUT_COLLECTION,
    MV_ABOUT_NEW,
    MV_ABOUT_ALIAS,
    MV_ABOUT_BOTH,
    MV_ABOUT_RENAME,
    MV_ABOUT_USER,
    MV_ABOUT_GRANT,
    MV_ABOUT_JOB
} mv_about;

/* What a route needs: a token of a role, or a user with a right to what it is about. */
typedef struct mv_need {
    role access;
    mv_about about;
    mv_right right;
} mv_need;

/* Find what the request is about (c->name), and whether he who asks may. 0: failed. */
int mv_may(mv_call *c, const mv_need *need);

#endif
