/* routes.c - who may ask, and which handler answers. */
#include <stdlib.h>
#include <string.h>

#include "handlers.h"
#include "page.h"

enum access { PUBLIC, READ };

typedef struct route {
    const char *method, *path;
    enum access access;
    void (*handler)(request *r);
} route;

static const route routes[] = {
#define ROUTE(method, path, access, handler) {method, path, access, handler},
#include "routes.def"
#undef ROUTE
};

/* Whether a path is of a route's form; its variable parts are copied to r->args. */
static int fits(const char *form, request *r)
{
    const char *path = r->path;
    size_t n = 0;
    for (; *form; form++) {
        if (form[0] == '{') {
            size_t length = strcspn(path, "/");
            if (length == 0 || n == HTTP_ARGS) return 0;
            free(r->args[n]);
            r->args[n] = strndup(path, length);
            if (!r->args[n++]) return 0;
            path += length;
            form++; /* the closing brace */
        } else if (*form != *path++) {
            return 0;
        }
    }
    return *path == 0;
}

/* ---- Who may ask ---- */

/* Without tokens everybody on this machine may read, but no page of another site in a browser on it: a name that only
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

static int has_token(request *r)
{
    const tokens *known = &r->server->tokens;
    const char *bearer = http_header(r, MHD_HTTP_HEADER_AUTHORIZATION);
    if (strncmp(bearer, "Bearer ", 7) == 0) return tokens_know(known, bearer + 7, strlen(bearer + 7));
    const char *cookie = MHD_lookup_connection_value(r->connection, MHD_COOKIE_KIND, "kith_token");
    return cookie && tokens_know(known, cookie, strlen(cookie));
}

/* 1, or 0 when the answer was given. */
static int may_ask(request *r, enum access access)
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
    if (access == READ && r->server->tokens.n > 0 && !has_token(r)) {
        http_problem(r, 401, "send one that is known: Authorization: Bearer TOKEN");
        return 0;
    }
    return 1;
}

/* ---- Dispatch ---- */

static int is_method(const request *r, const char *method)
{
    return strcmp(r->method, method) == 0 || (strcmp(method, "GET") == 0 && strcmp(r->method, "HEAD") == 0);
}

static void answer_page(request *r, const page_file *file)
{
    if (!may_ask(r, PUBLIC)) return;
    if (is_method(r, "GET"))
        http_reply_static(r, file->type, file->bytes, file->size, file->etag);
    else
        http_problem(r, 405, "%s can be read only", file->path);
}

int routes_admit(request *r)
{
    if (page_find(r->path)) return may_ask(r, PUBLIC);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!fits(routes[i].path, r) || !is_method(r, routes[i].method)) continue;
        r->takes_body = strcmp(routes[i].method, "POST") == 0;
        return may_ask(r, routes[i].access);
    }
    return may_ask(r, PUBLIC);
}

void routes_answer(request *r)
{
    const page_file *file = page_find(r->path);
    if (file) {
        answer_page(r, file);
        return;
    }
    int known = 0;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!fits(routes[i].path, r)) continue;
        known = 1;
        if (!is_method(r, routes[i].method)) continue;
        if (may_ask(r, routes[i].access)) routes[i].handler(r);
        return;
    }
    if (!may_ask(r, PUBLIC)) return;
    if (known)
        http_problem(r, 405, "not with %s", r->method);
    else
        http_problem(r, 404, "there is nothing at this path");
}
