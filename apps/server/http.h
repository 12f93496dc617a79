/* http.h - one request on its way: what was asked, and the answers that handlers give. */
#ifndef KITH_SERVER_HTTP_H
#define KITH_SERVER_HTTP_H

#include <jansson.h>
#include <microhttpd.h>
#include <stddef.h>
#include <stdint.h>

#include <kith/status.h>

#include "../common/text.h"
#include "tokens.h"

struct server;
struct route;
struct import;

#define HTTP_ARGS 2    /* variable parts of a path */
#define HTTP_WORDS 500 /* bytes of a message: as many as kith_error has */

typedef struct request {
    struct server *server;
    struct MHD_Connection *connection;
    const struct route *route; /* NULL: a file of the page, or nothing */
    char *target;              /* the path without the query, as it was sent */
    char *method, *path;       /* the path decoded: a %2f is a slash in it */
    char *args[HTTP_ARGS];     /* the variable parts of the path, decoded */
    role role;                 /* what the one who asks may do */
    char id[17];               /* of this request, in the log and in the answer */
    uint64_t began_ns;
    uint64_t
        searching_ns; /* server_thread_ns when its search began, with a collection that is open and warm; 0: none did */
    char *body;
    size_t body_size, body_room;
    struct import *import;   /* a body that is worked in as it comes; NULL: it is kept in `body` */
    size_t drained;          /* bytes of a body that is too long, read and dropped */
    int refused;             /* an HTTP status that was settled before the body had come: 413, 503, 0 */
    int unproven;            /* a password is to be looked at before the body is read */
    int head_again;          /* it was: the HTTP library tells of the head once more before it reads on */
    int given_away;          /* a worker has it to answer it, or had it */
    char why[512];           /* for the log: what a 500 or 503 does not say */
    int is_fault;            /* it is the server's own: told on standard error where there is no log */
    struct request *next;    /* in the queue of the workers */
    struct watched *watched; /* its connection; NULL: it is not watched */
    int paused;              /* the body was not taken for a while */
    /* Of the answer. */
    struct MHD_Response *response; /* settled, not sent yet */
    unsigned status;
    uint64_t sent;
} request;

/* ---- What was asked ---- */

/* A value of the query string, NULL when it is not there. */
const char *http_query(request *r, const char *name);

/* A whole number of the query string in low..high; absent: fallback. 0 when it is something else: 400 was answered. */
int http_count(request *r, const char *name, uint64_t low, uint64_t high, uint64_t fallback, uint64_t *value);

/* The same for a number. */
int http_number(request *r, const char *name, double low, double high, double fallback, double *value);

/* A header, or "". */
const char *http_header(request *r, const char *name);

/* What stands behind the scheme `Bearer` of the header Authorization, which may be written in any case (RFC 9110, 11.1); NULL: another, or none. */
const char *http_bearer(request *r);

/* Whether the body, by its Content-Type, is of this kind. */
int http_is(request *r, const char *type);

/* Whether a text of JSON has at most so many levels and tokens, before it is parsed. Out: *parts, how many tokens, where it has. */
int http_text_is_modest(const char *json, size_t size, size_t most_depth, size_t most_parts, size_t *parts);

/* Whether depth and number of tokens of a body of JSON are within the server's bounds. */
int http_body_is_modest(request *r);

/* The same; where they are not, 400 was answered. */
int http_json_is_modest(request *r);

/* The body as a JSON object, NULL when it is none (400 was answered). Depth and number of tokens are bounded before it
 * is parsed. What is longer than a 64-bit integer is refused. */
json_t *http_json(request *r);

/* The same; an empty body is an empty object. */
json_t *http_json_or_nothing(request *r);

/* ---- Answers: each handler gives exactly one ---- */

/* A JSON value, which is given up. NULL: out of memory, 500. */
void http_reply_json(request *r, unsigned status, json_t *value);

/* Whether an answer that shows rows is beyond what one may have, so that no more need be written. */
int http_is_too_long(const request *r, const text *json);

/* A JSON text, which is given up; one that failed for want of memory is 503. */
void http_reply_text(request *r, unsigned status, text *json);

/* The same for one that shows rows: 413 where it is too long. */
void http_reply_rows(request *r, text *json);

/* Nothing: 204. */
void http_reply_nothing(request *r);

/* An error as application/problem+json (RFC 9457). */
void http_problem(request *r, unsigned status, const char *detail, ...) __attribute__((format(printf, 3, 4)));

/* 405, for a path that takes other methods: a list as the header Allow has it. */
void http_wrong_method(request *r, const char *methods);

/* A status and nothing else, in as few bytes as may be. */
void http_bare(request *r, unsigned status);

/* The same for an error of the library; 500 and its like say no more than that to the client. */
void http_fail(request *r, const kith_error *err);

/* A message of the library as clients may read it, in words[]: without the folder that is served, where it names files in it. */
const char *http_without_folder(const struct server *s, const char *message, char words[HTTP_WORDS]);

/* The status that stands for an error of the library. */
unsigned http_status_of(const kith_error *err);

/* Bytes that are copied; etag may be NULL. 304 when the client has them. */
void http_reply_bytes(request *r, const char *type, const void *bytes, size_t size, const char *etag);

/* Bytes that stay as long as the program runs, with the headers that a page needs. */
void http_reply_static(request *r, const char *type, const void *bytes, size_t size, const char *etag);

/* A file, taken over and closed; the part of it that the request's Range asks for. */
void http_reply_file(request *r, const char *type, int fd, uint64_t size, const char *etag);

/* Hand the answer that was given to the HTTP library, in the thread that called on_request. */
enum MHD_Result http_send(request *r);

#endif
