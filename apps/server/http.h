/* http.h - one request on its way: what was asked, and the answers that handlers give. */
#ifndef KITH_SERVER_HTTP_H
#define KITH_SERVER_HTTP_H

#include <jansson.h>
#include <microhttpd.h>
#include <stddef.h>
#include <stdint.h>

#include <kith/status.h>

struct server;

#define HTTP_ARGS 2 /* variable parts of a path */

typedef struct request {
    struct server *server;
    struct MHD_Connection *connection;
    char *method, *path;   /* the path without the query, decoded: a %2f is a slash in it */
    char *args[HTTP_ARGS]; /* the variable parts of the path, decoded */
    char id[17];           /* of this request, in the log and in the answer */
    uint64_t began_ns;
    char *body;
    size_t body_size, body_room;
    int takes_body; /* the route reads one */
    size_t drained; /* bytes of a body that is too long, read and dropped */
    int refused;    /* an HTTP status that was settled before the body had come: 413, 503, 0 */
    char why[512];  /* for the log: what a 500 or 503 does not say */
    /* Of the answer. */
    unsigned status;
    uint64_t sent;
    enum MHD_Result queued;
} request;

/* ---- What was asked ---- */

/* A whole number of the query string in low..high; absent: fallback. 0 when it is something else: 400 was answered. */
int http_count(request *r, const char *name, uint64_t low, uint64_t high, uint64_t fallback, uint64_t *value);

/* The same for a number. */
int http_number(request *r, const char *name, double low, double high, double fallback, double *value);

/* A header, or "". */
const char *http_header(request *r, const char *name);

/* The body as a JSON object, NULL when it is none (400 was answered). Depth and number of tokens are bounded before it
 * is parsed. */
json_t *http_json(request *r);

/* ---- Answers: each handler gives exactly one ---- */

/* A JSON value, which is given up. NULL: out of memory, 500. */
void http_reply_json(request *r, unsigned status, json_t *value);

/* An error as application/problem+json (RFC 9457). */
void http_problem(request *r, unsigned status, const char *detail, ...) __attribute__((format(printf, 3, 4)));

/* The same for an error of the library; 500 and its like say no more than that to the client. */
void http_fail(request *r, const kith_error *err);

/* Bytes that are copied; etag may be NULL. 304 when the client has them. */
void http_reply_bytes(request *r, const char *type, const void *bytes, size_t size, const char *etag);

/* Bytes that stay as long as the program runs, with the headers that a page needs. */
void http_reply_static(request *r, const char *type, const void *bytes, size_t size, const char *etag);

/* A file, taken over and closed; size bytes, as a download under a name or shown in place (name NULL). */
void http_reply_file(request *r, const char *type, int fd, uint64_t size, const char *etag);

#endif
