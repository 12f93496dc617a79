/* milvus.c - which handler answers a path, what its answer is wrapped in, and how members of a body are read. */
#include "milvus_call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "milvus_state.h"

#define BASE "/v2/vectordb/"

typedef struct mv_route {
    const char *path;
    mv_need need;
    json_t *(*handler)(mv_call *c);
} mv_route;

static const mv_route routes[] = {
#define MILVUS(path, access, about, right, handler) \
    {path, {ROLE_##access, MV_ABOUT_##about, MV_##right}, handler},
#include "milvus_routes.def"
#undef MILVUS
};

/* ---- Failing ---- */

json_t *mv_fail(mv_call *c, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    c->code = code;
    vsnprintf(c->message, sizeof c->message, format, args);
    va_end(args);
    return NULL;
}

json_t *mv_fail_engine(mv_call *c)
{
    request *r = c->request;
    char words[HTTP_WORDS];
    const char *said = http_without_folder(c->server, c->err.message, words);
    switch (c->err.code) {
    case KITH_INVALID:
    case KITH_EXISTS:
    case KITH_UNTRAINED:
    case KITH_UNSUPPORTED:
    case KITH_READONLY: return mv_fail(c, MV_PARAMETER_INVALID, "%s", said);
    case KITH_NOTFOUND: return mv_fail(c, MV_COLLECTION_NOT_FOUND, "%s", said);
    case KITH_BUSY:
    case KITH_NOMEM:
        snprintf(r->why, sizeof r->why, "%s", c->err.message);
        return mv_fail(c, MV_OVERLOADED, "try again later");
    default:
        snprintf(r->why, sizeof r->why, "%s", c->err.message);
        r->is_fault = 1;
        return mv_fail(c, MV_INTERNAL, "something went wrong here; the log has it under %s", r->id);
    }
}

json_t *mv_unimplemented(mv_call *c)
{
    return mv_fail(c, MV_UNIMPLEMENTED, "%s: kith has nothing of this kind", c->request->path);
}

/* ---- Members of a body ---- */

const char *mv_text(mv_call *c, const char *name)
{
    const char *words = json_string_value(json_object_get(c->body, name));
    if (!words || !*words)
        mv_fail(c, MV_PARAMETER_MISSING, "missing required parameters, error: %s must be a text", name);
    return words && *words ? words : NULL;
}

int mv_is_identifier(const char *words)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    size_t length = strlen(words);
    return length <= MV_MAX_NAME && strspn(words, allowed) == length && !(*words >= '0' && *words <= '9');
}

const char *mv_identifier(mv_call *c, const char *name)
{
    const char *words = mv_text(c, name);
    if (!words || mv_is_identifier(words)) return words;
    mv_fail(c, MV_PARAMETER_INVALID,
            "invalid %s: at most %d letters, digits and underscores, not beginning with a digit", name,
            MV_MAX_NAME);
    return NULL;
}

int mv_int64(const json_t *value, int64_t *number)
{
    if (json_is_integer(value)) {
        *number = json_integer_value(value);
        return 1;
    }
    const char *words = json_string_value(value);
    char *end = NULL;
    errno = 0;
    if (words && (*words == '-' || (*words >= '0' && *words <= '9'))) *number = strtoll(words, &end, 10);
    return end && end != words && *end == 0 && errno == 0;
}

json_t *mv_int64_json(const mv_call *c, int64_t number)
{
    return c->int64_numbers ? json_integer(number) : json_sprintf("%lld", (long long)number);
}

int mv_count(mv_call *c, const json_t *object, const char *name, size_t low, size_t high, size_t fallback,
             size_t *value)
{
    const json_t *given = json_object_get(object, name);
    int64_t number;
    *value = fallback;
    if (!given || json_is_null(given)) return 1;
    if (!mv_int64(given, &number) || number < 0 || (size_t)number < low || (size_t)number > high) {
        mv_fail(c, MV_PARAMETER_INVALID, "%s must be a whole number, %zu to %zu", name, low, high);
        return 0;
    }
    *value = (size_t)number;
    return 1;
}

int mv_flag(const json_t *object, const char *name, int fallback)
{
    const json_t *given = json_object_get(object, name);
    const char *words = json_string_value(given);
    if (words) return strcmp(words, "true") == 0;
    return json_is_boolean(given) ? json_is_true(given) : fallback;
}

/* ---- Answering ---- */

void mv_reply(request *r, unsigned status, json_t *value)
{
    char *words =
        value ? json_dumps(value, JSON_COMPACT) : NULL; /* 17 digits: numbers come back as they were */
    if (!words)
        http_problem(r, 500, "out of memory");
    else if (status == 200)
        http_reply_bytes(r, "application/json", words, strlen(words), NULL);
    else
        http_reply_json(r, status, json_incref(value));
    free(words);
    json_decref(value);
}

static void reply_failed(request *r, unsigned status, int code, const char *message)
{
    json_t *words = json_string(message);
    if (!words) words = json_string("(not UTF-8)");
    if (!*r->why) snprintf(r->why, sizeof r->why, "%d: %.480s", code, message);
    mv_reply(r, status, json_pack("{si so}", "code", code, "message", words));
}

static unsigned status_of(int code)
{
    return code == MV_NEEDS_LOGIN ? 401 : code == MV_NOT_PERMITTED ? 403 : 200;
}

static void answer_call(mv_call *c, json_t *data)
{
    if (!data) {
        reply_failed(c->request, status_of(c->code), c->code, c->message);
        return;
    }
    json_t *answer = json_pack("{si so}", "code", MV_OK, "data", data);
    if (answer && c->extra) json_object_update(answer, c->extra);
    mv_reply(c->request, 200, answer);
}

int mv_read_body(mv_call *c)
{
    request *r = c->request;
    json_error_t error;
    if (r->body_size == 0) {
        c->body = json_object();
    } else if (!http_body_is_modest(r)) {
        mv_fail(c, MV_BAD_FORMAT,
                "the JSON is nested too deep, or has too many parts (--max-json-depth, --max-json-parts)");
        return 0;
    } else {
        c->body = json_loadb(r->body, r->body_size, JSON_REJECT_DUPLICATES, &error);
    }
    if (json_is_object(c->body)) return 1;
    if (c->body)
        mv_fail(c, MV_BAD_FORMAT, "can only accept json format request: it is no object");
    else
        mv_fail(c, MV_BAD_FORMAT, "can only accept json format request: %s (line %d, column %d)", error.text,
                error.line, error.column);
    return 0;
}

/* The database: that of the body, else that of the header, else "default". A grant may be for all: "*". */
static int find_database(mv_call *c, mv_about about)
{
    const char *header = http_header(c->request, "DB-Name");
    c->db = json_string_value(json_object_get(c->body, "dbName"));
    if (!c->db || !*c->db) c->db = *header ? header : "default";
    if (mv_is_identifier(c->db) || (about == MV_ABOUT_GRANT && strcmp(c->db, "*") == 0)) return 1;
    mv_fail(c, MV_DATABASE_INVALID, "invalid database name");
    return 0;
}

static void run(mv_call *c, const mv_route *found)
{
    json_t *data = NULL;
    c->int64_numbers = strcasecmp(http_header(c->request, "Accept-Type-Allow-Int64"), "true") == 0;
    if (mv_knows(c) && mv_read_body(c) && find_database(c, found->need.about) && mv_may(c, &found->need))
        data = found->handler(c);
    mv_give_back(c);
    if (!data && c->code == MV_OK) mv_fail(c, MV_OVERLOADED, "out of memory");
    answer_call(c, data);
    json_decref(c->extra);
    json_decref(c->body);
}

int milvus_admit(request *r)
{
    mv_call c = {.request = r, .server = r->server, .milvus = r->server->milvus};
    if (mv_admits(&c)) return 1;
    reply_failed(r, status_of(c.code), c.code, c.message);
    return 0;
}

void milvus_answer(request *r)
{
    const char *path = r->path + strlen(BASE);
    if (strcmp(r->method, "POST") != 0) {
        http_problem(r, 405, "not with %s", r->method);
        return;
    }
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(routes[i].path, path) != 0) continue;
        mv_call c = {.request = r, .server = r->server, .milvus = r->server->milvus};
        run(&c, &routes[i]);
        return;
    }
    http_problem(r, 404, "there is nothing at this path");
}

int milvus_owns(const char *path)
{
    return strncmp(path, BASE, strlen(BASE)) == 0;
}
