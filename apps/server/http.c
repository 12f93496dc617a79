/* http.c - reading what was asked, and answering. */
#include "http.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_JSON_DEPTH = 16, MAX_JSON_TOKENS = 200000 };

/* ---- What was asked ---- */

static const char *query(request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

int http_count(request *r, const char *name, uint64_t low, uint64_t high, uint64_t fallback, uint64_t *value)
{
    const char *text = query(r, name);
    *value = fallback;
    if (!text) return 1;
    char *end = NULL;
    errno = 0;
    unsigned long long n = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    *value = n;
    if (end && *end == 0 && errno == 0 && n >= low && n <= high) return 1;
    http_problem(r, 400, "%s must be a whole number, %" PRIu64 " to %" PRIu64, name, low, high);
    return 0;
}

int http_number(request *r, const char *name, double low, double high, double fallback, double *value)
{
    const char *text = query(r, name);
    *value = fallback;
    if (!text) return 1;
    char *end;
    *value = strtod(text, &end);
    if (end != text && *end == 0 && isfinite(*value) && *value >= low && *value <= high) return 1;
    http_problem(r, 400, "%s must be a number, %g to %g", name, low, high);
    return 0;
}

const char *http_header(request *r, const char *name)
{
    const char *value = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
    return value ? value : "";
}

/* Whether a text is small enough to be parsed: what stands in strings does not count. */
static int json_is_modest(const char *text, size_t size)
{
    size_t depth = 0, tokens = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '"') {
            for (i++; i < size && text[i] != '"'; i++)
                if (text[i] == '\\') i++;
            tokens++;
        } else if (c == '{' || c == '[') {
            if (++depth > MAX_JSON_DEPTH) return 0;
            tokens++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        } else if (c == ',' || c == ':') {
            tokens++;
        }
        if (tokens > MAX_JSON_TOKENS) return 0;
    }
    return 1;
}

json_t *http_json(request *r)
{
    if (!json_is_modest(r->body, r->body_size)) {
        http_problem(r, 400, "the JSON is nested deeper than %d, or has more than %d parts", MAX_JSON_DEPTH,
                     MAX_JSON_TOKENS);
        return NULL;
    }
    json_error_t error;
    json_t *json = json_loadb(r->body ? r->body : "", r->body_size, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(json)) return json;
    if (json)
        http_problem(r, 400, "the body must be a JSON object");
    else
        http_problem(r, 400, "the body is no JSON: %s (line %d, column %d)", error.text, error.line,
                     error.column);
    json_decref(json);
    return NULL;
}

/* ---- Answers ---- */

/* Nothing is to be run, framed or guessed from what comes from here; the page's own files allow themselves more. */
#define NOTHING "default-src 'none'; frame-ancestors 'none'"
#define OWN_PAGE                                                                                        \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src " \
    "'self'; "                                                                                          \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    (void)MHD_add_response_header(response, name, value);
}

/* Queue and give up a response. */
static void answer(request *r, unsigned status, struct MHD_Response *response, const char *type,
                   const char *policy, uint64_t size)
{
    if (!response) {
        r->queued = MHD_NO; /* out of memory: the connection is closed */
        return;
    }
    if (type) add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    add_header(response, "X-Content-Type-Options", "nosniff");
    add_header(response, "Content-Security-Policy", policy);
    add_header(response, "Referrer-Policy", "no-referrer");
    add_header(response, "Cross-Origin-Resource-Policy", "same-origin");
    add_header(response, "X-Request-Id", r->id);
    if (status == 401) add_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (status == 503) add_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    r->status = status;
    r->sent = size;
    r->queued = MHD_queue_response(r->connection, status, response);
    MHD_destroy_response(response);
}

/* A text of malloc, which is given up. */
static void answer_text(request *r, unsigned status, char *text, const char *type)
{
    size_t size = text ? strlen(text) : 0;
    struct MHD_Response *response =
        text ? MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (response) add_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    answer(r, status, response, type, NOTHING, size);
}

void http_reply_json(request *r, unsigned status, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (text)
        answer_text(r, status, text, "application/json");
    else
        http_problem(r, 500, "out of memory");
}

static const char *title_of(unsigned status)
{
    switch (status) {
    case 400: return "Bad request";
    case 401: return "A token is needed";
    case 403: return "Forbidden";
    case 404: return "Not found";
    case 405: return "Method not allowed";
    case 413: return "Too large";
    case 415: return "Not a picture";
    case 422: return "Cannot be decoded";
    case 503: return "Busy";
    default: return "Internal error";
    }
}

void http_problem(request *r, unsigned status, const char *detail, ...)
{
    char text[700];
    va_list args;
    va_start(args, detail);
    vsnprintf(text, sizeof text, detail, args);
    va_end(args);
    json_t *message = json_string(text);
    if (!message) message = json_string("(not UTF-8)");
    json_t *problem = json_pack("{ss ss si so ss}", "type", "about:blank", "title", title_of(status),
                                "status", (int)status, "detail", message, "request", r->id);
    answer_text(r, status, problem ? json_dumps(problem, JSON_COMPACT) : NULL, "application/problem+json");
    json_decref(problem);
}

void http_fail(request *r, const kith_error *err)
{
    switch (err->code) {
    case KITH_INVALID: http_problem(r, 400, "%s", err->message); break;
    case KITH_NOTFOUND: http_problem(r, 404, "%s", err->message); break;
    case KITH_UNSUPPORTED: http_problem(r, 415, "%s", err->message); break;
    case KITH_CORRUPT: http_problem(r, 422, "%s", err->message); break;
    case KITH_UNTRAINED: http_problem(r, 422, "%s", err->message); break;
    case KITH_BUSY:
    case KITH_NOMEM:
        snprintf(r->why, sizeof r->why, "%s", err->message);
        http_problem(r, 503, "try again later");
        break;
    default:
        snprintf(r->why, sizeof r->why, "%s", err->message);
        http_problem(r, 500, "something went wrong here; the log has it under %s", r->id);
    }
}

/* Whether the client has said that it has this version. */
static int is_known(request *r, const char *etag)
{
    return etag && strcmp(http_header(r, MHD_HTTP_HEADER_IF_NONE_MATCH), etag) == 0;
}

static void answer_tagged(request *r, struct MHD_Response *response, const char *type, uint64_t size,
                          const char *etag, const char *policy)
{
    if (is_known(r, etag)) {
        if (response) MHD_destroy_response(response);
        response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        if (response) add_header(response, MHD_HTTP_HEADER_ETAG, etag);
        answer(r, 304, response, NULL, policy, 0);
        return;
    }
    if (response && etag) add_header(response, MHD_HTTP_HEADER_ETAG, etag);
    if (response) add_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "private, no-cache");
    answer(r, 200, response, type, policy, size);
}

void http_reply_bytes(request *r, const char *type, const void *bytes, size_t size, const char *etag)
{
    answer_tagged(r, MHD_create_response_from_buffer(size, (void *)bytes, MHD_RESPMEM_MUST_COPY), type, size,
                  etag, NOTHING);
}

void http_reply_static(request *r, const char *type, const void *bytes, size_t size, const char *etag)
{
    answer_tagged(r, MHD_create_response_from_buffer(size, (void *)bytes, MHD_RESPMEM_PERSISTENT), type, size,
                  etag, OWN_PAGE);
}

void http_reply_file(request *r, const char *type, int fd, uint64_t size, const char *etag)
{
    struct MHD_Response *response = MHD_create_response_from_fd64(size, fd);
    if (!response) close(fd);
    answer_tagged(r, response, type, size, etag, NOTHING);
}
