/* handlers_search.c - search: by a picture in the body, or by a JSON object that names rows or holds a vector. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/metric.h>

#include "fail.h"
#include "handlers.h"

enum { USUAL_K = 20, MAX_EXAMPLES = 100 };

/* How much of the mean of the rows that the result should be unlike is taken off. */
#define UNLIKE_WEIGHT 0.5f

/* ---- By picture ---- */

static json_t *hit_json(size_t rank, int64_t key, float distance, float score, json_t *payload)
{
    json_t *path = json_object_get(payload, "path");
    return json_pack("{sI sI sO sf sf so}", "rank", (json_int_t)rank, "key", (json_int_t)key, "path",
                     path ? path : json_null(), "distance", (double)distance, "score", (double)score,
                     "payload", payload);
}

static json_t *answer_json(const kith_gallery_answer *answer)
{
    json_t *results = json_array();
    for (size_t i = 0; i < answer->n; i++) {
        const kith_gallery_hit *hit = &answer->hits[i];
        json_array_append_new(results, hit_json(i + 1, hit->key, hit->distance, hit->score,
                                                payload_json(hit->payload, strlen(hit->payload))));
    }
    return json_pack("{so sb si si}", "results", results, "complete", answer->complete, "width",
                     (int)answer->width, "height", (int)answer->height);
}

static void search_picture(request *r)
{
    uint64_t k;
    double min_score;
    size_t i;
    kith_error err = {0};
    kith_gallery_answer *answer;
    if (!http_count(r, "k", 1, r->server->options.max_k, USUAL_K, &k) ||
        !http_number(r, "min_score", 0, 1, 0, &min_score))
        return;
    if (r->body_size == 0) {
        http_problem(r, 400, "the body is empty: send the bytes of a picture, or a JSON object");
        return;
    }
    kith_gallery *gallery = borrow_named(r, &i);
    if (!gallery) return;
    kith_gallery_query query;
    kith_gallery_query_init(&query);
    query.k = (size_t)k;
    query.min_score = (float)min_score;
    kith_status status = kith_gallery_search_bytes(gallery, r->body, r->body_size, &query, &answer, &err);
    shelf_return(r->server->shelf, i, gallery);
    if (status != KITH_OK) {
        http_fail(r, &err);
        return;
    }
    http_reply_json(r, 200, answer_json(answer));
    kith_gallery_answer_free(answer);
}

/* ---- By rows and vectors ---- */

typedef struct wish {
    size_t k;
    float min_score;
    int64_t like[MAX_EXAMPLES], unlike[MAX_EXAMPLES]; /* keys */
    size_t n_like, n_unlike;
    json_t *vector; /* an array, or NULL */
} wish;

static int read_keys(request *r, json_t *json, const char *name, int64_t keys[MAX_EXAMPLES], size_t *n)
{
    json_t *list = json_object_get(json, name), *item;
    size_t i;
    *n = json_array_size(list);
    int good = !list || (json_is_array(list) && *n <= MAX_EXAMPLES);
    if (good) json_array_foreach(list, i, item)
        {
            keys[i] = json_integer_value(item);
            good &= json_is_integer(item) && keys[i] > 0;
        }
    if (!good) http_problem(r, 400, "%s must be an array of at most %d keys", name, MAX_EXAMPLES);
    return good;
}

static int read_wish(request *r, json_t *json, wish *w)
{
    json_t *k = json_object_get(json, "k"), *min_score = json_object_get(json, "min_score");
    size_t most = r->server->options.max_k;
    *w = (wish){.k = USUAL_K, .vector = json_object_get(json, "vector")};
    if (k && (!json_is_integer(k) || json_integer_value(k) < 1 || json_integer_value(k) > (json_int_t)most)) {
        http_problem(r, 400, "k must be a whole number, 1 to %zu", most);
        return 0;
    }
    if (k) w->k = (size_t)json_integer_value(k);
    if (min_score && !(json_is_number(min_score) && json_number_value(min_score) >= 0 &&
                       json_number_value(min_score) <= 1)) {
        http_problem(r, 400, "min_score must be a number, 0 to 1");
        return 0;
    }
    w->min_score = (float)json_number_value(min_score);
    if (!read_keys(r, json, "like", w->like, &w->n_like) ||
        !read_keys(r, json, "unlike", w->unlike, &w->n_unlike))
        return 0;
    if (!w->vector == (w->n_like == 0)) {
        http_problem(r, 400, "either vector or like is needed, not both");
        return 0;
    }
    return 1;
}

/* Add weight times the mean of rows' vectors to x[dim]. */
static kith_status add_rows(kith_collection *c, const int64_t *keys, size_t n, float weight, float *x,
                            size_t dim, kith_error *err)
{
    for (size_t i = 0; i < n; i++) {
        kith_row row;
        kith_status status = kith_collection_get(c, keys[i], KITH_ROW_VECTOR, &row, err);
        if (status != KITH_OK) return status;
        if (!row.vector || row.dim != dim)
            return server_fail(err, KITH_NOTFOUND, "one of the rows has no vector");
        for (size_t d = 0; d < dim; d++) x[d] += weight / (float)n * row.vector[d];
    }
    return KITH_OK;
}

static kith_status given_vector(const json_t *list, float *x, size_t dim, kith_error *err)
{
    if (json_array_size(list) != dim) {
        return server_fail(err, KITH_INVALID, "vector has %zu numbers, the collection's have %zu",
                           json_array_size(list), dim);
    }
    for (size_t d = 0; d < dim; d++) {
        json_t *item = json_array_get(list, d);
        x[d] = (float)json_number_value(item);
        if (!json_is_number(item) || !isfinite(x[d]))
            return server_fail(err, KITH_INVALID, "vector must be an array of numbers");
    }
    return KITH_OK;
}

/* The vector that is searched for. Several examples: their mean, less part of the mean of those that it should be
 * unlike, brought to the length of the first (Rocchio 1971). */
static kith_status wished_vector(kith_collection *c, const wish *w, float *x, size_t dim, kith_error *err)
{
    if (w->vector) return given_vector(w->vector, x, dim, err);
    kith_status status = add_rows(c, w->like, w->n_like, 1, x, dim, err);
    if (status == KITH_OK) status = add_rows(c, w->unlike, w->n_unlike, -UNLIKE_WEIGHT, x, dim, err);
    if (status != KITH_OK || w->n_like + w->n_unlike == 1) return status;
    double wanted = 0, is = 0;
    kith_row row;
    status = kith_collection_get(c, w->like[0], KITH_ROW_VECTOR, &row, err);
    if (status != KITH_OK) return status;
    for (size_t d = 0; d < dim; d++)
        wanted += (double)row.vector[d] * row.vector[d], is += (double)x[d] * x[d];
    for (size_t d = 0; is > 0 && d < dim; d++) x[d] *= (float)sqrt(wanted / is);
    return KITH_OK;
}

static int is_example(const wish *w, int64_t key)
{
    for (size_t i = 0; i < w->n_like; i++)
        if (w->like[i] == key) return 1;
    for (size_t i = 0; i < w->n_unlike; i++)
        if (w->unlike[i] == key) return 1;
    return 0;
}

/* The rows found, less the examples themselves. */
static kith_status results_json(kith_collection *c, const wish *w, const int64_t *keys,
                                const float *distances, size_t n, json_t *results, kith_error *err)
{
    for (size_t i = 0; i < n && keys[i] && json_array_size(results) < w->k; i++) {
        kith_row row;
        float score = kith_metric_score(kith_collection_metric(c), distances[i], kith_collection_dim(c));
        if (is_example(w, keys[i]) || score < w->min_score) continue;
        kith_status status = kith_collection_get(c, keys[i], KITH_ROW_PAYLOAD, &row, err);
        if (status == KITH_NOTFOUND) continue; /* deleted in between */
        if (status != KITH_OK) return status;
        json_array_append_new(results, hit_json(json_array_size(results) + 1, keys[i], distances[i], score,
                                                payload_json(row.payload, row.payload_size)));
    }
    return KITH_OK;
}

static kith_status search_rows(kith_collection *c, const wish *w, json_t **reply, kith_error *err)
{
    size_t dim = kith_collection_dim(c), k = w->k + w->n_like + w->n_unlike;
    float *x = calloc(dim + !dim, sizeof *x), *distances = calloc(k, sizeof *distances);
    int64_t *keys = calloc(k, sizeof *keys);
    json_t *results = json_array();
    kith_collection_query query;
    kith_collection_answer answer = {0};
    kith_collection_query_init(&query);
    query.k = k;
    kith_status status =
        x && distances && keys && results ? KITH_OK : server_fail(err, KITH_NOMEM, "out of memory");
    if (status == KITH_OK) status = wished_vector(c, w, x, dim, err);
    if (status == KITH_OK)
        status = kith_collection_search(c, 1, dim, x, &query, keys, distances, &answer, err);
    if (status == KITH_OK) status = results_json(c, w, keys, distances, k, results, err);
    if (status == KITH_OK)
        *reply = json_pack("{so sb}", "results", results, "complete", answer.complete);
    else
        json_decref(results);
    free(x);
    free(distances);
    free(keys);
    return status;
}

/* One state answers all of it: rows and dim may change between two reads. */
static kith_status search_pinned(kith_collection *c, const wish *w, json_t **reply, kith_error *err)
{
    kith_status status = kith_collection_pin(c, err);
    if (status != KITH_OK) return status;
    status = search_rows(c, w, reply, err);
    kith_collection_unpin(c);
    return status;
}

static void search_json(request *r)
{
    size_t i;
    wish w;
    kith_error err = {0};
    json_t *reply = NULL, *json = http_json(r);
    if (!json) return;
    kith_gallery *gallery = read_wish(r, json, &w) ? borrow_named(r, &i) : NULL;
    if (gallery) {
        kith_status status = search_pinned(kith_gallery_collection(gallery), &w, &reply, &err);
        shelf_return(r->server->shelf, i, gallery);
        if (status == KITH_OK)
            http_reply_json(r, 200, reply);
        else
            http_fail(r, &err);
    }
    json_decref(json);
}

void post_search(request *r)
{
    if (strncmp(http_header(r, MHD_HTTP_HEADER_CONTENT_TYPE), "application/json", 16) == 0)
        search_json(r);
    else
        search_picture(r);
}
