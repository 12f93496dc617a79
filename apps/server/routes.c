/* routes.c - who may ask, and which handler answers. */
#include "routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers.h"
#include "milvus.h"
#include "page.h"
#include "server_state.h"
#include "vearch.h"

enum { METHODS = 64 }; /* bytes of the names of all methods */

static const route routes[] = {
#define ROUTE(method, path, who, kind, handler) {#method, path, ROLE_##who, ROUTE_##kind, handler},
#include "routes.def"
#undef ROUTE
#define VEARCH(method, path, who, about, right, handler) \
    {#method, path, ROLE_NONE, ROUTE_LATER, vearch_answer},
#include "vearch_routes.def"
#undef VEARCH
};

/* Whether a part of a target has a slash that is encoded in it. Texts of rows may have them, `=docs%2Fa.txt`; names have none. */
static int has_slash(const char *part, const char *end)
{
    while (part < end)
        if (exchange_next(&part) == '/') return 1;
    return 0;
}

static int is_text(const char *part)
{
    return exchange_next(&part) == '=';
}

/* Whether a target is of a route's form. parts[2 * i] and [2 * i + 1]: where its variable parts begin and end. */
static int fits(const char *form, const char *path, const char *parts[2 * HTTP_ARGS])
{
    size_t n = 0;
    for (size_t i = 0; i < 2 * HTTP_ARGS; i++) parts[i] = NULL;
    for (; *form; form++) {
        if (form[0] == '{') {
            size_t length = strcspn(path, "/");
            if (length == 0 || n == HTTP_ARGS) return 0;
            if (!is_text(path) && has_slash(path, path + length)) return 0;
            parts[2 * n] = path;
            parts[2 * n++ + 1] = path + length;
            path += length;
            form++;                                /* the closing brace */
        } else if (*form == '/' && *path != '/') { /* one that is encoded parts nothing */
            return 0;
        } else if (*path == 0 || *form != exchange_next(&path)) {
            return 0;
        }
    }
    return *path == 0;
}

static int is_method(const request *r, const char *method)
{
    return strcmp(r->method, method) == 0 || (strcmp(method, "GET") == 0 && strcmp(r->method, "HEAD") == 0);
}

/* Adapters have tables of their own, and answers of their own form. */
static const route milvus_route = {"POST", "", ROLE_NONE, ROUTE_LATER, milvus_answer};

void routes_find(request *r)
{
    const char *parts[2 * HTTP_ARGS] = {NULL};
    if (milvus_owns(r->path)) r->route = &milvus_route;
    for (size_t i = 0; i < sizeof routes / sizeof *routes && !r->route; i++)
        if (is_method(r, routes[i].method) && fits(routes[i].path, r->target, parts)) r->route = &routes[i];
    for (size_t i = 0; i < HTTP_ARGS && r->route && parts[2 * i]; i++) {
        r->args[i] = strndup(parts[2 * i], (size_t)(parts[2 * i + 1] - parts[2 * i]));
        if (!r->args[i]) r->route = NULL; /* out of memory */
        if (!r->route) return;
        (void)exchange_unescape(NULL, r->connection, r->args[i]);
    }
}

/* The methods that a path takes, as the header Allow has them; "" when there is nothing at it. */
static const char *methods_of(const request *r, int is_file, char words[METHODS])
{
    const char *parts[2 * HTTP_ARGS];
    size_t n = (size_t)snprintf(words, METHODS, "%s", is_file ? "GET, HEAD" : "");
    for (size_t i = 0; i < sizeof routes / sizeof *routes && n < METHODS; i++) {
        const char *method = routes[i].method;
        if (!fits(routes[i].path, r->target, parts) || strstr(words, method)) continue;
        n += (size_t)snprintf(words + n, METHODS - n, "%s%s%s", n > 0 ? ", " : "", method,
                              strcmp(method, "GET") == 0 ? ", HEAD" : "");
    }
    return words;
}

/* ---- Who may ask ---- */

/* Without tokens everybody on this machine may ask, but no page of another site in a browser on it: a name that only
 * resolves to this machine, or a request that another page sends, is refused. */
static int is_own_host(const char *host)
{
    static const char *const own[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        size_t length = strlen(own[i]);
        if (strncmp(host, own[i], length) == 0 && (host[length] == 0 || host[length] == ':')) return 1;
    }
    return 0;
}

static int is_own_origin(request *r, const char *host)
{
    const char *origin = http_header(r, "Origin");
    if (*origin == 0) return 1;
    const char *name = strstr(origin, "://");
    return name && strcmp(name + 3, host) == 0;
}

static role role_of_request(request *r)
{
    const tokens *known = &r->server->tokens;
    if (known->n == 0) return r->server->options.writable ? ROLE_ADMIN : ROLE_READ;
    const char *bearer = http_bearer(r);
    if (bearer) return tokens_role(known, bearer, strlen(bearer));
    const char *cookie = MHD_lookup_connection_value(r->connection, MHD_COOKIE_KIND, "kith_token");
    return cookie ? tokens_role(known, cookie, strlen(cookie)) : ROLE_NONE;
}

/* 1, or 0 when the answer was given. */
static int may_ask(request *r, role wanted)
{
    const char *host = http_header(r, MHD_HTTP_HEADER_HOST);
    if (r->server->tokens.n == 0 && !is_own_host(host)) {
        http_problem(r, 403, "without tokens this server answers to the names of this machine only");
        return 0;
    }
    if (!is_own_origin(r, host)) {
        http_problem(r, 403, "pages of other sites may not ask");
        return 0;
    }
    if (wanted == ROLE_NONE) return 1;
    r->role = role_of_request(r);
    if (r->role == ROLE_NONE) {
        http_problem(r, 401, "send one that is known: Authorization: Bearer TOKEN");
        return 0;
    }
    if (r->role >= wanted) return 1;
    if (r->server->tokens.n == 0)
        http_problem(r, 403, "this server only reads; started with --write or --token-file it also writes");
    else
        http_problem(r, 403, "the token is for %s; a token for %s is needed",
                     r->role == ROLE_READ ? "reading" : "writing",
                     wanted == ROLE_WRITE ? "writing" : "administration");
    return 0;
}

/* ---- Searches, quick or not ---- */

enum {
    QUICK_US = 5000,      /* what others can be kept waiting for: the usual search takes 0.1 ms. Arbitrary */
    LONG_BODY = 128 << 10 /* bytes of a search that names many vectors. Arbitrary */
};

static atomic_uint *usual_us(const request *r)
{
    unsigned hash = 2166136261u; /* FNV-1a */
    for (const char *c = r->args[0] ? r->args[0] : ""; *c; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    return &r->server->usual_us[hash % SERVER_SEARCHED];
}

/* A running mean: one of a second makes the next thirty or so long ones. That two threads may do this at once is no harm. By the processor:
 * where many clients share few processors, time by the clock is mostly waiting for others, in a worker as well. */
static void note_search(const request *r, uint64_t ns)
{
    atomic_uint *usual = usual_us(r);
    unsigned old = atomic_load_explicit(usual, memory_order_relaxed);
    unsigned us = ns / 1000 < 1u << 30 ? (unsigned)(ns / 1000) : 1u << 30;
    atomic_store_explicit(usual, old - old / 8 + us / 8, memory_order_relaxed);
}

int routes_is_long(const request *r)
{
    if (!r->route) return 0;
    if (r->route->kind != ROUTE_SEARCH) return r->route->kind == ROUTE_LATER || r->route->kind == ROUTE_WRITE;
    return r->body_size > LONG_BODY || atomic_load_explicit(usual_us(r), memory_order_relaxed) > QUICK_US;
}

/* ---- Dispatch ---- */

int routes_admit(request *r)
{
    if (!may_ask(r, r->route ? r->route->role : ROLE_NONE)) return 0;
    if (r->route && r->route->handler == milvus_answer) return milvus_admit(r);
    if (r->route && r->route->handler == vearch_answer) return vearch_admit(r);
    return 1;
}

void routes_answer(request *r)
{
    char words[METHODS];
    const page_file *file = r->route ? NULL : page_find(r->path);
    const char *methods = r->route ? "" : methods_of(r, file != NULL, words);
    if (r->route)
        r->route->handler(r);
    else if (file && is_method(r, "GET"))
        http_reply_static(r, file->type, file->bytes, file->size, file->etag);
    else if (*methods)
        http_wrong_method(r, methods);
    else
        http_problem(r, 404, "there is nothing at this path");
    if (r->searching_ns) note_search(r, server_thread_ns() - r->searching_ns);
}
