/* handlers_search.c - search: by a picture in the body, by a JSON object (kith/request.h), or by a vector of raw floats. */
#include <stdlib.h>
#include <string.h>

#include <kith/fusion.h>
#include <kith/metric.h>
#include <kith/request.h>

#include "../common/fail.h"
#include "handlers.h"

enum { USUAL_K = 20 };

#define TYPE_FLOATS "application/x-float32"
#define TYPE_HITS "application/x-kith-hits"

/* ---- By picture ---- */

void put_nearness(const kith_gallery_hit *hit, text *out)
{
    text_put(out, "\"key\":");
    text_int(out, hit->key);
    text_put(out, ",\"distance\":");
    text_float(out, hit->distance);
    text_put(out, ",\"score\":");
    text_float(out, hit->score);
}

static void write_hit(size_t rank, const kith_gallery_hit *hit, text *out)
{
    text_put(out, rank > 1 ? ",{\"rank\":" : "{\"rank\":");
    text_int(out, (int64_t)rank);
    text_put(out, ",");
    put_nearness(hit, out);
    text_put(out, ",\"payload\":");
    text_put(out, hit->payload);
    text_put(out, "}");
}

static void reply_hits(request *r, const kith_gallery_answer *answer, int with_vector)
{
    text out = {0};
    text_put(&out, "{\"results\":[");
    for (size_t i = 0; i < answer->n; i++) write_hit(i + 1, &answer->hits[i], &out);
    text_put(&out, answer->complete ? "],\"complete\":true,\"width\":" : "],\"complete\":false,\"width\":");
    text_int(&out, answer->width);
    text_put(&out, ",\"height\":");
    text_int(&out, answer->height);
    if (with_vector) {
        text_put(&out, ",\"vector\":");
        text_floats(&out, answer->vector, answer->dim);
    }
    text_put(&out, "}");
    http_reply_rows(r, &out);
}

void post_search_picture(request *r)
{
    loan l;
    uint64_t k, with_vector;
    double min_score;
    kith_error err = {0};
    kith_gallery_answer *answer;
    kith_gallery_query query;
    kith_gallery_query_init(&query);
    if (!http_count(r, "k", 1, r->server->options.max_k, USUAL_K, &k) ||
        !http_number(r, "min_score", 0, 1, 0, &min_score) || !http_count(r, "vector", 0, 1, 0, &with_vector))
        return;
    if (r->body_size == 0) {
        http_problem(r, 400, "the body is empty: send the bytes of a picture");
        return;
    }
    if (!borrow_named(r, LOAN_READ, &l)) return;
    query.k = (size_t)k;
    query.min_score = (float)min_score;
    query.filter = http_query(r, "filter");
    kith_status status =
        l.gallery ? kith_gallery_search_bytes(l.gallery, r->body, r->body_size, &query, &answer, &err)
                  : common_fail(&err, KITH_UNSUPPORTED, "this collection is not one of pictures");
    shelf_return(r->server->shelf, &l);
    if (status != KITH_OK) {
        http_fail(r, &err);
        return;
    }
    reply_hits(r, answer, (int)with_vector);
    kith_gallery_answer_free(answer);
}

/* ---- By vectors and rows ---- */

/* What an answer shows of the rows found; parameters of the address, for the body says only what is searched for. */
typedef struct shown {
    uint64_t payload, vector, explain;
    double min_score;
} shown;

static int read_shown(request *r, shown *s)
{
    return http_count(r, "payload", 0, 1, 1, &s->payload) && http_count(r, "vector", 0, 1, 0, &s->vector) &&
           http_count(r, "explain", 0, 1, 0, &s->explain) &&
           http_number(r, "min_score", -1e30, 1e30, -1e30, &s->min_score);
}

/* A search, and what it found. */
typedef struct searching {
    shown shown;
    const char *field; /* of the vectors; NULL: those of the rows */
    kith_metric metric;
    kith_collection_plan plan;
    kith_found found;
} searching;

static kith_metric metric_of(kith_collection *c, const char *field)
{
    kith_vector_field fields[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n = KITH_COLLECTION_MAX_VECTOR_FIELDS;
    if (field && kith_collection_vector_fields(c, fields, &n, NULL) == KITH_OK)
        for (size_t i = 0; i < n; i++)
            if (strcmp(fields[i].name, field) == 0) return fields[i].metric;
    return kith_collection_metric(c);
}

static double score_of(const searching *s, size_t i)
{
    return s->found.scored ? s->found.values[i]
                           : (double)kith_metric_score(s->metric, (float)s->found.values[i], 0);
}

static void write_plan(const kith_collection_plan *p, text *out)
{
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"vectors", p->vectors}, {"matches", p->matches}, {"rounds", p->rounds},
                  {"nprobe", p->nprobe},   {"cells", p->cells},     {"rows_scored", p->rows_scored}};
    text_put(out, "{\"method\":");
    text_string(out, p->method ? p->method : "");
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        text_put(out, ",\"");
        text_put(out, counts[i].name);
        text_put(out, "\":");
        text_int(out, (int64_t)counts[i].value);
    }
    text_put(out, p->remembered ? ",\"remembered\":true" : ",\"remembered\":false");
    text_put(out, ",\"selectivity\":");
    text_double(out, p->vectors ? (double)p->matches / (double)p->vectors : 0);
    text_put(out, ",\"filter_seconds\":");
    text_double(out, p->filter_seconds);
    text_put(out, ",\"search_seconds\":");
    text_double(out, p->search_seconds);
    text_put(out, "}");
}

/* What a result shows of its row: its text, payload, vector. */
static kith_status write_row(const searching *s, kith_collection *c, int64_t key, text *out, kith_error *err)
{
    kith_row row = {0};
    const char *known_as;
    unsigned parts =
        (s->shown.payload ? KITH_ROW_PAYLOAD : 0u) | (s->shown.vector && !s->field ? KITH_ROW_VECTOR : 0u);
    kith_status status = KITH_OK;
    known_as = NULL;
    if (s->shown.payload) status = kith_collection_text_of(c, key, &known_as, err);
    if (status == KITH_OK && known_as) {
        text_put(out, ",\"text\":");
        text_string(out, known_as);
    }
    if (status == KITH_OK && parts) status = kith_collection_get(c, key, parts, &row, err);
    if (status != KITH_OK) return status;
    if (s->shown.payload) {
        text_put(out, ",\"payload\":");
        text_add(out, row.payload, row.payload_size);
    }
    const float *x = row.vector;
    size_t dim = row.dim;
    if (s->shown.vector && s->field) status = kith_collection_get_vector(c, key, s->field, &x, &dim, err);
    if (status == KITH_OK && s->shown.vector && x) {
        text_put(out, ",\"vector\":");
        text_floats(out, x, dim);
    }
    return status;
}

static kith_status write_result(const searching *s, kith_collection *c, size_t i, size_t rank, text *out,
                                kith_error *err)
{
    text_put(out, "{\"rank\":");
    text_int(out, (int64_t)rank);
    text_put(out, ",\"key\":");
    text_int(out, s->found.keys[i]);
    if (!s->found.scored) {
        text_put(out, ",\"distance\":");
        text_double(out, s->found.values[i]);
    }
    text_put(out, ",\"score\":");
    text_double(out, score_of(s, i));
    if (s->found.groups) {
        text_put(out, ",\"group\":");
        text_int(out, (int64_t)s->found.groups[i] + 1);
    }
    kith_status status = write_row(s, c, s->found.keys[i], out, err);
    text_put(out, "}");
    return status;
}

static kith_status write_answer(const request *r, const searching *s, const kith_collection_query *q,
                                kith_collection *c, text *out, kith_error *err)
{
    const kith_found *f = &s->found;
    size_t n = 0;
    text_put(out, "{\"results\":[");
    for (size_t i = 0; i < f->n; i++) {
        /* As floats: what an answer shows can be asked for. */
        if ((float)score_of(s, i) < (float)s->shown.min_score) continue;
        if (n++ > 0) text_put(out, ",");
        kith_status status = write_result(s, c, i, q->offset + n, out, err);
        if (status != KITH_OK || http_is_too_long(r, out))
            return status; /* it is refused when it is to go out */
    }
    text_put(out, f->answer.complete ? "],\"complete\":true" : "],\"complete\":false");
    text_put(out, f->answer.exact ? ",\"exact\":true" : ",\"exact\":false");
    text_put(out, f->more ? ",\"more\":true" : ",\"more\":false");
    text_put(out, ",\"version\":");
    text_int(out, (int64_t)f->answer.version);
    if (q->plan) {
        text_put(out, ",\"plan\":");
        write_plan(&s->plan, out);
    }
    text_put(out, "}");
    return KITH_OK;
}

/* What a search may ask for at most. */
static kith_status check_limits(const request *r, kith_collection_query *q, kith_error *err)
{
    size_t most = r->server->options.max_k;
    uint64_t deadline = (uint64_t)r->server->options.deadline_ms * 1000;
    if (q->k > most || q->offset > most - q->k)
        return common_fail(err, KITH_INVALID, "k and offset are at most %zu together", most);
    if (q->max_microseconds == 0 || q->max_microseconds > deadline) q->max_microseconds = deadline;
    return KITH_OK;
}

/* One state answers all of it: rows and dim may change between two reads. Beginning and ending the read counts as search. */
static kith_status run_json(request *r, searching *s, kith_request *q, kith_collection *c, text *out,
                            kith_error *err)
{
    kith_collection_query *query = kith_request_query(q);
    uint64_t began = r->searching_ns = server_thread_ns();
    kith_status status = kith_collection_pin(c, err);
    if (status != KITH_OK) return status;
    if (s->shown.explain) query->plan = &s->plan;
    s->field = query->field;
    s->metric = metric_of(c, s->field);
    status = kith_request_search(c, q, &s->found, err);
    if (!s->shown.payload && !s->shown.vector) kith_collection_unpin(c); /* nothing more is read */
    atomic_fetch_add(&r->server->search_ns, server_thread_ns() - began);
    if (s->found.scored) query->plan = NULL; /* one plan cannot tell of several searches */
    return status == KITH_OK ? write_answer(r, s, query, c, out, err) : status;
}

static void search_json(request *r)
{
    loan l;
    text out = {0};
    kith_error err = {0};
    kith_request *q;
    searching s = {.plan = {.struct_size = sizeof s.plan}, .found = {.struct_size = sizeof s.found}};
    if (!read_shown(r, &s.shown) || !http_json_is_modest(r)) return;
    kith_status status = kith_request_parse(r->body ? r->body : "", r->body_size, NULL, &q, &err);
    if (status == KITH_OK) status = check_limits(r, kith_request_query(q), &err);
    if (status != KITH_OK) {
        http_fail(r, &err);
    } else if (borrow_named(r, LOAN_READ, &l)) {
        status = run_json(r, &s, q, l.collection, &out, &err);
        shelf_return(r->server->shelf, &l);
        if (status == KITH_OK)
            http_reply_rows(r, &out);
        else
            http_fail(r, &err);
    }
    text_clear(&out);
    kith_request_free(q);
}

/* ---- By floats ---- */

/* Keys (64 bits) and distances (float32), little-endian, 12 bytes a row. */
static void reply_hits_raw(request *r, const int64_t *keys, const float *distances, size_t n)
{
    unsigned char *bytes = malloc(12 * n + 1);
    if (!bytes) {
        http_problem(r, 503, "out of memory");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(bytes + 12 * i, &keys[i], 8);
        memcpy(bytes + 12 * i + 8, &distances[i], 4);
    }
    http_reply_bytes(r, TYPE_HITS, bytes, 12 * n, NULL);
    free(bytes);
}

static kith_status run_floats(request *r, kith_collection_query *q, const float *x, size_t dim, int64_t *keys,
                              float *distances, kith_error *err)
{
    loan l;
    kith_status status = shelf_borrow(r->server->shelf, r->args[0], LOAN_READ, &l, err);
    if (status != KITH_OK) return status;
    uint64_t began = r->searching_ns = server_thread_ns();
    status = kith_collection_search(l.collection, 1, dim, x, q, keys, distances, NULL, err);
    atomic_fetch_add(&r->server->search_ns, server_thread_ns() - began);
    shelf_return(r->server->shelf, &l);
    return status;
}

/* The body is dim floats, little-endian; the rest is in the address. */
static void search_floats(request *r)
{
    uint64_t k;
    kith_error err = {0};
    kith_collection_query q;
    const float *x = (const float *)(const void *)r->body;
    size_t dim = r->body_size / sizeof *x, n = 0;
    if (!http_count(r, "k", 1, r->server->options.max_k, 10, &k)) return;
    if (dim == 0 || r->body_size % sizeof *x != 0) {
        http_problem(r, 400, "the body must be floats of 4 bytes");
        return;
    }
    kith_collection_query_init(&q);
    q.k = (size_t)k;
    q.expression = http_query(r, "filter");
    kith_status status = check_limits(r, &q, &err);
    int64_t *keys = calloc(q.k, sizeof *keys);
    float *distances = calloc(q.k, sizeof *distances);
    if (status == KITH_OK && (!keys || !distances)) status = common_fail_nomem(&err);
    if (status == KITH_OK) status = run_floats(r, &q, x, dim, keys, distances, &err);
    while (status == KITH_OK && n < q.k && keys[n]) n++;
    if (status == KITH_OK)
        reply_hits_raw(r, keys, distances, n);
    else
        http_fail(r, &err);
    free(keys);
    free(distances);
}

void post_search(request *r)
{
    if (http_is(r, TYPE_FLOATS))
        search_floats(r);
    else
        search_json(r);
}
