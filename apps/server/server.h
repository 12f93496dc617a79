/* server.h - `kith serve`: collections of pictures over HTTP, and the page that searches them.
 *
 * One process. libmicrohttpd's threads read requests and call a handler (routes.c) each; a handler borrows a gallery
 * from the pool of its collection (shelf.h) and gives it back. Pictures from strangers are decoded in the galleries'
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
    const char *certificate, *key; /* PEM files for TLS, both or none (NULL) */
    unsigned threads;              /* that answer requests, and galleries kept open for each collection */
    unsigned connections;          /* at once; those beyond are answered 503 */
    size_t max_body;               /* bytes of a request's body */
    unsigned idle_seconds;         /* a connection that is silent so long is closed */
    size_t max_k;                  /* results of one search */
    double max_megapixels;         /* of a picture that is sent */
    FILE *log;                     /* a JSON line a request; NULL: none */
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
size_t server_collections(const server *s);

/* Take no more requests, let those that run finish (at most some seconds), close everything. NULL is allowed. */
void server_stop(server *s);

/* Make a token of 32 hexadecimal digits and the line that stands for it in a token file ("read <hash>"). */
kith_status server_make_token(char token[33], char line[80], kith_error *err);

#endif
