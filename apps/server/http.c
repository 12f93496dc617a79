/* http.c - reading what was asked, and answering. */
#include "http.h"

#include "server_state.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- What was asked ---- */

const char *http_query(request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

int http_count(request *r, const char *name, uint64_t low, uint64_t high, uint64_t fallback, uint64_t *value)
{
    const char *given = http_query(r, name);
    *value = fallback;
    if (!given) return 1;
    char *end = NULL;
    errno = 0;
    unsigned long long n = given[0] >= '0' && given[0] <= '9' ? strtoull(given, &end, 10) : 0;
    *value = n;
    if (end && *end == 0 && errno == 0 && n >= low && n <= high) return 1;
    http_problem(r, 400, "%s must be a whole number, %" PRIu64 " to %" PRIu64, name, low, high);
    return 0;
}

int http_number(request *r, const char *name, double low, double high, double fallback, double *value)
{
    const char *given = http_query(r, name);
    *value = fallback;
    if (!given) return 1;
    char *end;
    *value = strtod(given, &end);
    if (end != given && *end == 0 && isfinite(*value) && *value >= low && *value <= high) return 1;
    http_problem(r, 400, "%s must be a number, %g to %g", name, low, high);
    return 0;
}

const char *http_header(request *r, const char *name)
{
    const char *value = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
    return value ? value : "";
}

const char *http_bearer(request *r)
{
    const char *given = http_header(r, MHD_HTTP_HEADER_AUTHORIZATION);
    return strncasecmp(given, "Bearer ", 7) == 0 ? given + 7 : NULL;
}

int http_is(request *r, const char *type)
{
    const char *given = http_header(r, MHD_HTTP_HEADER_CONTENT_TYPE);
    size_t length = strlen(type);
    return strncasecmp(given, type, length) == 0 && strchr("; \t", given[length]);
}

/* What stands in strings does not count. */
int http_text_is_modest(const char *json, size_t size, size_t most_depth, size_t most_parts, size_t *counted)
{
    size_t depth = 0, parts = 0;
    for (size_t i = 0; i < size; i++) {
        char c = json[i];
        if (c == '"') {
            for (i++; i < size && json[i] != '"'; i++)
                if (json[i] == '\\') i++;
            parts++;
        } else if (c == '{' || c == '[') {
            if (++depth > most_depth) return 0;
            parts++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        } else if (c == ',' || c == ':') {
            parts++;
        }
        if (parts > most_parts) return 0;
    }
    *counted = parts;
    return 1;
}

int http_body_is_modest(request *r)
{
    const server_options *o = &r->server->options;
    size_t parts;
    return http_text_is_modest(r->body, r->body_size, o->max_json_depth, o->max_json_parts, &parts);
}

int http_json_is_modest(request *r)
{
    const server_options *o = &r->server->options;
    if (http_body_is_modest(r)) return 1;
    http_problem(r, 400, "the JSON is nested deeper than %zu, or has more than %zu parts", o->max_json_depth,
                 o->max_json_parts);
    return 0;
}

json_t *http_json(request *r)
{
    if (!http_json_is_modest(r)) return NULL;
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

json_t *http_json_or_nothing(request *r)
{
    if (r->body_size > 0) return http_json(r);
    json_t *json = json_object();
    if (!json) http_problem(r, 503, "out of memory");
    return json;
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

/* Settle on a response, which is given up; http_send sends it. */
static void answer(request *r, unsigned status, struct MHD_Response *response, const char *type,
                   const char *policy, uint64_t size)
{
    if (r->response) MHD_destroy_response(r->response);
    r->response = response;
    if (!response) return; /* out of memory: the connection will be closed */
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
}

enum MHD_Result http_send(request *r)
{
    if (!r->response) return MHD_NO;
    enum MHD_Result queued = MHD_queue_response(r->connection, r->status, r->response);
    MHD_destroy_response(r->response);
    r->response = NULL;
    return queued;
}

/* Bytes of malloc, which are given up. */
static void answer_bytes(request *r, unsigned status, char *bytes, size_t size, const char *type)
{
    struct MHD_Response *response =
        bytes ? MHD_create_response_from_buffer(size, bytes, MHD_RESPMEM_MUST_FREE) : NULL;
    if (bytes && !response) free(bytes);
    if (response) add_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    answer(r, status, response, type, NOTHING, size);
}

void http_reply_text(request *r, unsigned status, text *json)
{
    if (json->failed) {
        text_clear(json);
        http_problem(r, 503, "out of memory");
        return;
    }
    answer_bytes(r, status, json->bytes, json->size, "application/json");
    *json = (text){0};
}

int http_is_too_long(const request *r, const text *json)
{
    return json->size > r->server->options.max_answer;
}

void http_reply_rows(request *r, text *json)
{
    if (!http_is_too_long(r, json)) {
        http_reply_text(r, 200, json);
        return;
    }
    text_clear(json);
    http_problem(r, 413,
                 "the answer is longer than %zu bytes: ask for fewer rows, or leave payloads and vectors out",
                 r->server->options.max_answer);
}

void http_reply_nothing(request *r)
{
    answer(r, 204, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), NULL, NOTHING, 0);
}

void http_reply_json(request *r, unsigned status, json_t *value)
{
    char *json = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (json)
        answer_bytes(r, status, json, strlen(json), "application/json");
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
    case 409: return "Conflict";
    case 413: return "Too large";
    case 415: return "Not supported";
    case 416: return "Not such a range";
    case 422: return "Cannot be decoded";
    case 431: return "Too large a head";
    case 503: return "Busy";
    case 507: return "Insufficient storage";
    default: return "Internal error";
    }
}

void http_wrong_method(request *r, const char *methods)
{
    http_problem(r, 405, "not with %s, but with %s", r->method, methods);
    if (r->response) add_header(r->response, MHD_HTTP_HEADER_ALLOW, methods);
}

void http_bare(request *r, unsigned status)
{
    if (r->response) MHD_destroy_response(r->response);
    r->response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    r->status = status;
    r->sent = 0;
}

void http_problem(request *r, unsigned status, const char *detail, ...)
{
    char words[700];
    va_list args;
    va_start(args, detail);
    vsnprintf(words, sizeof words, detail, args);
    va_end(args);
    text t = {0};
    text_put(&t, "{\"type\":\"about:blank\",\"title\":");
    text_string(&t, title_of(status));
    text_put(&t, ",\"status\":");
    text_int(&t, status);
    text_put(&t, ",\"detail\":");
    text_string(&t, words);
    text_put(&t, ",\"request\":");
    text_string(&t, r->id);
    text_put(&t, "}");
    if (t.failed) text_clear(&t);
    answer_bytes(r, status, t.bytes, t.size, "application/problem+json");
}

unsigned http_status_of(const kith_error *err)
{
    switch (err->code) {
    case KITH_INVALID: return 400;
    case KITH_READONLY: return 403;
    case KITH_NOTFOUND: return 404;
    case KITH_EXISTS: return 409;
    case KITH_UNSUPPORTED: return 415;
    case KITH_CORRUPT:
    case KITH_UNTRAINED: return 422;
    case KITH_BUSY:
    case KITH_CANCELLED:
    case KITH_NOMEM: return 503;
    case KITH_IO: return err->sys_errno == ENOSPC || strstr(err->message, "full") ? 507 : 500;
    default: return 500;
    }
}

const char *http_without_folder(const struct server *s, const char *message, char words[HTTP_WORDS])
{
    const char *folder = shelf_folder(s->shelf);
    size_t length = strlen(folder), n = 0;
    while (length > 0 && folder[length - 1] == '/') length--;
    while (*message && n + 1 < HTTP_WORDS) {
        if (strncmp(message, folder, length) == 0 && message[length] == '/' && (length > 0 || n == 0))
            message += length + strspn(message + length, "/");
        else
            words[n++] = *message++;
    }
    words[n] = 0;
    return words;
}

void http_fail(request *r, const kith_error *err)
{
    char words[HTTP_WORDS];
    unsigned status = http_status_of(err);
    if (status < 500) {
        http_problem(r, status, "%s", http_without_folder(r->server, err->message, words));
        return;
    }
    snprintf(r->why, sizeof r->why, "%s", err->message);
    r->is_fault = 1;
    if (status == 503)
        http_problem(r, status, "try again later");
    else if (status == 507)
        http_problem(r, status, "the disk is full");
    else
        http_problem(r, status, "something went wrong here; the log has it under %s", r->id);
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

/* The part of size bytes that a header `Range: bytes=..` asks for: 1; 0 for all, for there is no header, or none that is
 * understood; -1 when it lies outside. One range is given, not several. */
static int wanted_range(const char *range, uint64_t size, uint64_t *from, uint64_t *length)
{
    uint64_t first = 0, last = size - 1;
    int from_end = 0, n = 0;
    if (strncmp(range, "bytes=", 6) != 0 || strchr(range, ',')) return 0;
    range += 6;
    if (sscanf(range, "-%" SCNu64 "%n", &first, &n) == 1 && range[n] == 0 && range[1] != '-') {
        from_end = 1;
    } else if (range[0] < '0' || range[0] > '9' || sscanf(range, "%" SCNu64 "-%n", &first, &n) != 1 ||
               n == 0) {
        return 0;
    } else if (range[n] != 0) {
        const char *rest = range + n;
        if (rest[0] < '0' || rest[0] > '9' || sscanf(rest, "%" SCNu64 "%n", &last, &n) != 1 || rest[n] != 0)
            return 0;
        if (last < first) return 0;
    }
    if (from_end) {
        if (first == 0 || size == 0) return -1;
        *from = first < size ? size - first : 0;
        *length = size - *from;
        return 1;
    }
    if (first >= size) return -1;
    *from = first;
    *length = (last < size ? last : size - 1) - first + 1;
    return 1;
}

void http_reply_file(request *r, const char *type, int fd, uint64_t size, const char *etag)
{
    uint64_t from = 0, length = size;
    const char *condition = http_header(r, MHD_HTTP_HEADER_IF_RANGE);
    int part = 0;
    if (!is_known(r, etag) && (*condition == 0 || (etag && strcmp(condition, etag) == 0)))
        part = wanted_range(http_header(r, MHD_HTTP_HEADER_RANGE), size, &from, &length);
    if (part < 0) {
        close(fd);
        http_problem(r, 416, "the file has %" PRIu64 " bytes", size);
        return;
    }
    struct MHD_Response *response = MHD_create_response_from_fd_at_offset64(length, fd, from);
    if (!response) close(fd);
    if (response) add_header(response, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
    answer_tagged(r, response, type, length, etag, NOTHING);
    if (part && response && r->status == 200) {
        char range[80];
        snprintf(range, sizeof range, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, from, from + length - 1,
                 size);
        add_header(response, MHD_HTTP_HEADER_CONTENT_RANGE, range);
        r->status = 206;
    }
}
