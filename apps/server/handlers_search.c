/* handlers_search.c - search: by a picture in the body, by a JSON object, or by a vector of raw floats. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../common/fail.h"
#include "../common/search_request.h"
#include "handlers.h"

enum { USUAL_K = 20 };

#define TYPE_FLOATS "application/x-float32"
#define TYPE_HITS "application/x-kith-hits"

/* ---- By picture ---- */

static void write_hit(size_t rank, const kith_gallery_hit *hit, text *out)
{
    text_put(out, rank > 1 ? ",{\"rank\":" : "{\"rank\":");
    text_int(out, (int64_t)rank);
    text_put(out, ",\"key\":");
    text_int(out, hit->key);
    text_put(out, ",\"distance\":");
    text_float(out, hit->distance);
    text_put(out, ",\"score\":");
    text_float(out, hit->score);
    text_put(out, ",\"payload\":");
    text_put(out, hit->payload);
    text_put(out, "}");
}

static void reply_hits(request *r, const kith_gallery_answer *answer)
{
    text out = {0};
    text_put(&out, "{\"results\":[");
    for (size_t i = 0; i < answer->n; i++) write_hit(i + 1, &answer->hits[i], &out);
    text_put(&out, answer->complete ? "],\"complete\":true,\"width\":" : "],\"complete\":false,\"width\":");
    text_int(&out, answer->width);
    text_put(&out, ",\"height\":");
    text_int(&out, answer->height);
    text_put(&out, "}");
    http_reply_text(r, 200, &out);
}

void post_search_picture(request *r)
{
    loan l;
    uint64_t k;
    double min_score;
    kith_error err = {0};
    kith_gallery_answer *answer;
    kith_gallery_query query;
    kith_gallery_query_init(&query);
    if (!http_count(r, "k", 1, r->server->options.max_k, USUAL_K, &k) ||
        !http_number(r, "min_score", 0, 1, 0, &min_score))
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
    reply_hits(r, answer);
    kith_gallery_answer_free(answer);
}

/* ---- By vectors and rows ---- */

/* Keys (64 bits) and distances (float32), little-endian, 12 bytes a row. */
static void reply_raw(request *r, const search_found *found)
{
    unsigned char *bytes = malloc(12 * found->n + 1);
    if (!bytes) {
        http_problem(r, 503, "out of memory");
        return;
    }
    for (size_t i = 0; i < found->n; i++) {
        memcpy(bytes + 12 * i, &found->keys[i], 8);
        memcpy(bytes + 12 * i + 8, &found->distances[i], 4);
    }
    http_reply_bytes(r, TYPE_HITS, bytes, 12 * found->n, NULL);
    free(bytes);
}

/* One state answers all of it: rows and dim may change between two reads. */
static void run_and_reply(request *r, search_request *q, int raw)
{
    loan l;
    text out = {0};
    kith_error err = {0};
    if (!borrow_named(r, LOAN_READ, &l)) return;
    kith_status status = kith_collection_pin(l.collection, &err);
    if (status == KITH_OK) status = search_request_run(q, l.collection, &err);
    if (status == KITH_OK && !raw) status = search_request_write(q, l.collection, &out, &err);
    shelf_return(r->server->shelf, &l);
    text_put(&out, "}");
    if (status != KITH_OK)
        http_fail(r, &err);
    else if (raw)
        reply_raw(r, search_request_found(q));
    else
        http_reply_text(r, 200, &out);
    text_clear(&out);
}

static search_limits limits_of(const request *r)
{
    return (search_limits){r->server->options.max_k, r->server->options.deadline_ms};
}

static void search_json(request *r)
{
    kith_error err = {0};
    search_request *q;
    search_limits limits = limits_of(r);
    json_t *json = http_json(r);
    if (!json) return;
    if (search_request_read(json, &limits, &q, &err) == KITH_OK)
        run_and_reply(r, q, 0);
    else
        http_fail(r, &err);
    search_request_free(q);
    json_decref(json);
}

/* The body is dim floats, little-endian; the rest is in the query string. */
static void search_floats(request *r)
{
    uint64_t k;
    kith_error err = {0};
    search_request *q = NULL;
    search_limits limits = limits_of(r);
    const float *x = (const float *)(const void *)r->body;
    size_t dim = r->body_size / sizeof *x;
    if (!http_count(r, "k", 1, limits.max_k, 10, &k)) return;
    int good = dim > 0 && r->body_size % sizeof *x == 0 && dim <= KITH_COLLECTION_MAX_DIM;
    for (size_t d = 0; good && d < dim; d++) good = isfinite(x[d]);
    if (!good)
        http_problem(r, 400, "the body must be 1 to %d finite floats of 4 bytes", KITH_COLLECTION_MAX_DIM);
    else if (search_request_vector(x, dim, (size_t)k, &limits, &q, &err) != KITH_OK)
        http_fail(r, &err);
    if (good && q) {
        search_request_query(q)->expression = http_query(r, "filter");
        run_and_reply(r, q, strcmp(http_header(r, MHD_HTTP_HEADER_ACCEPT), "application/json") != 0);
    }
    search_request_free(q);
}

void post_search(request *r)
{
    if (http_is(r, TYPE_FLOATS))
        search_floats(r);
    else
        search_json(r);
}
