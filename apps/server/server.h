/* server.h - `kith serve`: collections over HTTP, and the page that searches them.
 *
 * One process. libmicrohttpd's threads read requests; what is quick, as a search usually is, they answer themselves, what is not is
 * given to workers (work.h), what takes minutes is a job (jobs.h) with a thread of its own. A handler (routes.def) borrows
 * a handle of its collection (shelf.h) and gives it back. Pictures from strangers are decoded in the galleries'
 * worker processes. docs/server.md is the manual of the HTTP interface.
 */
#ifndef KITH_SERVER_H
#define KITH_SERVER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <kith/status.h>

typedef struct server server;

typedef struct server_options {
    const char *path;              /* a collection, or a folder of collections (NAME.kith) */
    const char *host;              /* an address to listen at; anything but loopback needs tokens */
    uint16_t port;                 /* 0: any free one, see server_port */
    const char *token_file;        /* NULL: no tokens, everybody on this machine may read */
    int writable;                  /* without tokens: everybody on this machine may write, too */
    const char *certificate, *key; /* PEM files for TLS, both or none (NULL) */
    unsigned
        threads; /* that read requests and answer searches; as many again do what takes longer, and some write rows */
    FILE *log; /* a JSON line a request; NULL: none */
    /* Limits. */
    unsigned connections;  /* at once; those beyond are answered 503 */
    size_t max_head;       /* bytes of a request's head, with what is noted of each header */
    size_t max_body;       /* bytes of a request's body */
    size_t max_answer;     /* bytes of an answer that shows rows */
    size_t max_json_depth; /* levels of JSON */
    size_t max_json_parts; /* tokens of JSON */
    size_t max_dim;        /* of a collection that is made */
    size_t max_k;          /* results of one search */
    size_t max_batch;      /* rows of one request */
    unsigned deadline_ms;  /* of one search */
    double max_megapixels; /* of a picture that is sent */
    unsigned idle_seconds; /* a connection that is silent so long is closed, */
    unsigned head_seconds; /* one whose head takes longer, */
    unsigned least_rate;   /* and one whose body comes in fewer bytes a second; 0: any */
    unsigned max_jobs;     /* at work at once, imports among them */
} server_options;

/* Open the collections and listen.
 * Out:      *server, NULL on failure.
 * Errors:   KITH_INVALID another host than loopback without tokens, a bad token file or certificate; KITH_BUSY the port is taken;
 *           those of kith_gallery_open.
 * Notes:    forks (the decoders), so call it before other threads run. */
kith_status server_start(const server_options *options, server **out, kith_error *err);

/* Read certificate and key again: new connections see what the files hold now. On failure the old ones stay. */
kith_status server_reload(server *s, kith_error *err);

/* The port that it listens at, and how many collections it serves. */
uint16_t server_port(const server *s);
size_t server_collections(server *s);

/* Take no more requests, let those that run finish (at most some seconds), close everything. NULL is allowed. */
void server_stop(server *s);

/* Make a token of 32 hexadecimal digits and the line that stands for it in a token file ("read <hash>").
 * In:       role, "read", "write" or "admin"; KITH_INVALID for another. */
kith_status server_make_token(const char *role, char token[33], char line[80], kith_error *err);

#endif
