/* vearch_documents.c - /document/...: upsert, query, search, delete. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vearch.h"

enum { USUAL_LIMIT = 50 };

/* ---- Filters ---- */

/* A field as a filter writes it; a date is compared as a moment. */
static int put_field(mv_call *c, const char *name, FILE *out)
{
    const mv_field *field = name ? mv_field_find(&c->schema, name) : NULL;
    json_t *json = field ? json_string(name) : NULL;
    char *quoted = json ? json_dumps(json, JSON_ENCODE_ANY) : NULL;
    if (quoted)
        fprintf(out, field->type == MV_JSON ? "time($[%s])" : "$[%s]", quoted);
    else
        mv_fail(c, MV_FIELD_NOT_FOUND, "filters: there is no field %.100s", name ? name : "?");
    free(quoted);
    json_decref(json);
    return quoted != NULL;
}

static int put_value(mv_call *c, const json_t *value, FILE *out)
{
    char *words = json_is_object(value) || !value ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (words)
        fputs(words, out);
    else
        mv_fail(c, MV_PARAMETER_INVALID, "filters: a condition needs a value");
    free(words);
    return words != NULL;
}

static int put_condition(mv_call *c, const json_t *condition, FILE *out)
{
    static const char *const operators[][2] = {{"=", "=="},  {"==", "=="},        {"<>", "!="}, {"!=", "!="},
                                               {"<", "<"},   {"<=", "<="},        {">", ">"},   {">=", ">="},
                                               {"IN", "in"}, {"NOT IN", "not in"}};
    const char *name = json_string_value(json_object_get(condition, "field"));
    const char *given = json_string_value(json_object_get(condition, "operator"));
    const json_t *value = json_object_get(condition, "value");
    const mv_field *field = name ? mv_field_find(&c->schema, name) : NULL;
    size_t i = 0, n = sizeof operators / sizeof *operators;
    while (given && i < n && strcasecmp(given, operators[i][0]) != 0) i++;
    if (!given || i == n || (i >= n - 2) != json_is_array(value)) {
        mv_fail(c, MV_PARAMETER_INVALID,
                "filters: an operator is =, <>, <, <=, >, >=, or with an array IN, NOT IN");
        return 0;
    }
    int is_array = field && field->type == MV_ARRAY;
    if (is_array && i < n - 2) {
        mv_fail(c, MV_PARAMETER_INVALID, "filters: %.100s is an array, which has only IN and NOT IN", name);
        return 0;
    }
    fputs(!is_array ? "(" : i == n - 1 ? "(not array_contains_any(" : "(array_contains_any(", out);
    if (!put_field(c, name, out)) return 0;
    fprintf(out, is_array ? ", " : " %s ", operators[i][1]);
    int good = put_value(c, value, out);
    fputs(is_array ? "))" : ")", out);
    return good;
}

char *vearch_filter(mv_call *c)
{
    const json_t *filters = json_object_get(c->body, "filters"),
                 *list = json_object_get(filters, "conditions");
    const char *word = json_string_value(json_object_get(filters, "operator"));
    const char *between = word && strcasecmp(word, "OR") == 0 ? " or " : " and ";
    char *words = NULL;
    size_t size;
    if (json_array_size(list) == 0) return NULL;
    FILE *out = open_memstream(&words, &size);
    int good = out != NULL;
    if (!out) mv_fail(c, MV_OVERLOADED, "out of memory");
    for (size_t i = 0; good && i < json_array_size(list); i++) {
        if (i > 0) fputs(between, out);
        good = put_condition(c, json_array_get(list, i), out);
    }
    if (out) fclose(out);
    if (good) return words;
    free(words);
    return NULL;
}

/* The filter of a request as a member of a body for the other adapter; taken over. NULL: none. */
static void set_filter(json_t *body, char *words)
{
    if (words) json_object_set_new(body, "filter", json_string(words));
    free(words);
}

/* ---- Upsert ---- */

/* A document that is there keeps what is not said anew. NULL: failed. */
static json_t *completed(mv_call *c, const json_t *given)
{
    int64_t key;
    unsigned char random[8];
    const mv_selection all = {.all = 1, .vectors = 1};
    const json_t *id = json_object_get(given, "_id");
    if (!json_is_object(given)) return mv_fail(c, MV_BAD_ROW, "each of documents must be an object");
    if (!id) {
        char made[17];
        json_t *row = json_copy((json_t *)given);
        if (getrandom(random, sizeof random, 0) != sizeof random) memset(random, 0, sizeof random);
        for (size_t i = 0; i < sizeof random; i++) snprintf(made + 2 * i, 3, "%02x", random[i]);
        json_object_set_new(row, "_id", json_string(made));
        return row;
    }
    if (!mv_key_of_id(c, id, &key)) return NULL;
    json_t *row = key ? mv_row(c, key, &all) : json_object();
    if (row) json_object_update(row, (json_t *)given);
    return row;
}

static int put_documents(mv_call *c, const json_t *documents, json_t *ids)
{
    for (size_t i = 0; i < json_array_size(documents); i++) {
        json_t *id = NULL, *row = completed(c, json_array_get(documents, i));
        int good = row && mv_put_row(c, row, NULL, 0, &id);
        if (good) json_array_append_new(ids, json_pack("{sO}", "_id", id));
        json_decref(id);
        json_decref(row);
        if (!good) return 0;
    }
    return 1;
}

/* All of them or none. */
json_t *vearch_document_upsert(mv_call *c)
{
    const json_t *documents = json_object_get(c->body, "documents");
    size_t n = json_array_size(documents), most = c->server->options.max_batch;
    if (n == 0 || n > most)
        return mv_fail(c, MV_PARAMETER_MISSING, "documents must be an array of 1 to %zu objects", most);
    if (!mv_begin(c)) return NULL;
    json_t *ids = json_array();
    json_t *done = put_documents(c, documents, ids) ? mv_commit(c) : NULL;
    json_decref(done);
    if (done) return json_pack("{sI so}", "total", (json_int_t)n, "document_ids", ids);
    json_decref(ids);
    return NULL;
}

/* ---- Query ---- */

/* Which fields an answer has: those of "fields", or all but the vectors, which vector_value adds. */
static json_t *output_fields(mv_call *c)
{
    const json_t *given = json_object_get(c->body, "fields");
    int vectors = mv_flag(c->body, "vector_value", 0);
    if (json_array_size(given) > 0) return json_deep_copy(given);
    json_t *names = json_array();
    for (size_t i = 0; i < c->schema.n; i++)
        if (vectors || !mv_is_vector(c->schema.fields[i].type))
            json_array_append_new(names, json_string(c->schema.fields[i].name));
    return names;
}

json_t *vearch_document_query(mv_call *c)
{
    const json_t *ids = json_object_get(c->body, "document_ids"),
                 *filters = json_object_get(c->body, "filters");
    size_t limit, offset;
    if ((json_array_size(ids) > 0) == (json_object_get(filters, "conditions") != NULL))
        return mv_fail(c, MV_PARAMETER_INVALID, "either document_ids or filters is needed, not both");
    if (!mv_count(c, c->body, "limit", 1, MV_MAX_LIMIT, USUAL_LIMIT, &limit) ||
        !mv_count(c, c->body, "offset", 0, MV_MAX_LIMIT, 0, &offset) || !mv_use(c, LOAN_READ))
        return NULL;
    char *filter = vearch_filter(c);
    if (c->code != MV_OK) return NULL;
    json_t *body = json_pack("{so sI sI}", "outputFields", output_fields(c), "limit", (json_int_t)limit,
                             "offset", (json_int_t)offset);
    set_filter(body, filter);
    if (filters == NULL) json_object_set(body, "id", (json_t *)ids);
    json_t *rows = vearch_ask(c, filters ? mv_entities_query : mv_entities_get, body);
    return rows ? json_pack("{sI so}", "total", (json_int_t)json_array_size(rows), "documents", rows) : NULL;
}

/* ---- Delete ---- */

static int delete_one(mv_call *c, int64_t key, json_t *id, json_t *gone)
{
    kith_status status = kith_collection_delete(c->collection, key, &c->err);
    if (status == KITH_OK) json_array_append(gone, id);
    if (status == KITH_OK || status == KITH_NOTFOUND) return 1;
    mv_fail_engine(c);
    return 0;
}

static int delete_ids(mv_call *c, const json_t *ids, json_t *gone)
{
    for (size_t i = 0; i < json_array_size(ids); i++) {
        int64_t key;
        json_t *id = json_array_get(ids, i);
        if (!mv_key_of_id(c, id, &key) || (key && !delete_one(c, key, id, gone))) return 0;
    }
    return 1;
}

/* At most `limit` of those that a filter lets through. */
static int delete_some(mv_call *c, const char *filter, size_t limit, json_t *gone)
{
    const mv_selection none = {0};
    kith_row row = {0};
    while (json_array_size(gone) < limit) {
        if (kith_collection_next_where(c->collection, filter, row.key, 0, &row, &c->err) != KITH_OK)
            mv_fail_engine(c);
        if (c->code != MV_OK || row.key == 0) break;
        json_t *one = mv_row(c, row.key, &none);
        int good = one && delete_one(c, row.key, json_object_get(one, c->schema.primary->name), gone);
        json_decref(one);
        if (!good) break;
    }
    return c->code == MV_OK;
}

json_t *vearch_document_delete(mv_call *c)
{
    const json_t *ids = json_object_get(c->body, "document_ids");
    size_t limit;
    if (!mv_count(c, c->body, "limit", 1, INT32_MAX, INT32_MAX, &limit) || !mv_begin(c)) return NULL;
    char *filter = vearch_filter(c);
    if (c->code != MV_OK) return NULL;
    if ((json_array_size(ids) > 0) == (filter != NULL)) {
        free(filter);
        return mv_fail(c, MV_PARAMETER_INVALID, "either document_ids or filters is needed, not both");
    }
    json_t *gone = json_array(), *done = NULL;
    if (filter ? delete_some(c, filter, limit, gone) : delete_ids(c, ids, gone)) done = mv_commit(c);
    free(filter);
    json_decref(done);
    if (done) return json_pack("{sI so}", "total", (json_int_t)json_array_size(gone), "document_ids", gone);
    json_decref(gone);
    return NULL;
}

/* ---- Search ---- */

/* min_score and max_score as a range of the other adapter, whose far end is left out. */
static json_t *range_of(mv_call *c, const json_t *from, const mv_field *field)
{
    kith_metric metric;
    const json_t *low = json_object_get(from, "min_score"), *high = json_object_get(from, "max_score");
    json_t *params = json_object(), *index = json_object_get(c->body, "index_params");
    if (json_is_object(index)) json_object_update(params, index);
    json_object_del(params, "metric_type");
    if (!json_is_number(low)) low = NULL;
    if (!json_is_number(high)) high = NULL;
    if ((!low && !high) || !mv_field_metric(c, field, &metric)) return params;
    int distance = metric == KITH_L2SQ || metric == KITH_L1;
    double end = distance ? (high ? json_number_value(high) : FLT_MAX)
                 : low    ? json_number_value(low)
                          : -FLT_MAX;
    json_object_set_new(params, "radius", json_real(nextafterf((float)end, distance ? INFINITY : -INFINITY)));
    if (distance ? low != NULL : high != NULL)
        json_object_set_new(params, "range_filter", json_copy((json_t *)(distance ? low : high)));
    return params;
}

/* The vectors of a feature, which are written one after the other. NULL: failed. */
static json_t *split(mv_call *c, const json_t *feature, size_t dim)
{
    size_t n = json_array_size(feature);
    if (n == 0 || n % dim != 0 || n / dim > MV_MAX_NQ)
        return mv_fail(c, MV_PARAMETER_INVALID, "a feature has a multiple of %zu numbers, at most %d times",
                       dim, MV_MAX_NQ);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (i % dim == 0) json_array_append_new(list, json_array());
        json_array_append(json_array_get(list, i / dim), json_array_get(feature, i));
    }
    return list;
}

/* One of `vectors` as a search of the other adapter. NULL: failed. */
static json_t *probe_of(mv_call *c, const json_t *from, size_t limit)
{
    const char *name = json_string_value(json_object_get(from, "field"));
    const mv_field *field = name ? mv_field_find(&c->schema, name) : NULL;
    if (!field || !mv_is_vector(field->type))
        return mv_fail(c, MV_FIELD_NOT_FOUND, "vectors: %.100s is no vector field", name ? name : "?");
    json_t *data = split(c, json_object_get(from, "feature"), field->dim);
    char *filter = data ? vearch_filter(c) : NULL;
    json_t *params = data && c->code == MV_OK ? range_of(c, from, field) : NULL;
    if (c->code != MV_OK) {
        json_decref(data);
        json_decref(params);
        free(filter);
        return NULL;
    }
    json_t *probe = json_pack("{ss so sI so}", "annsField", name, "data", data, "limit", (json_int_t)limit,
                              "params", params);
    set_filter(probe, filter);
    return probe;
}

/* Several vectors: their likenesses, brought to 0..1, are added with the weights of the ranker. */
static json_t *fused(mv_call *c, const json_t *vectors, size_t limit, json_t *names)
{
    json_t *searches = json_array(),
           *weights = json_deep_copy(json_object_get(json_object_get(c->body, "ranker"), "params"));
    for (size_t i = 0; i < json_array_size(vectors) && c->code == MV_OK; i++) {
        json_t *probe = probe_of(c, json_array_get(vectors, i), limit);
        if (probe) json_array_append_new(searches, probe);
    }
    if (!json_is_array(weights)) {
        json_decref(weights);
        weights = json_array();
        for (size_t i = 0; i < json_array_size(vectors); i++) json_array_append_new(weights, json_real(1));
    }
    json_t *body = json_pack("{so s{ss s{so}} sI so}", "search", searches, "rerank", "strategy", "weighted",
                             "params", "weights", weights, "limit", (json_int_t)limit, "outputFields", names);
    if (c->code == MV_OK) return vearch_ask(c, mv_entities_hybrid_search, body);
    json_decref(body);
    return NULL;
}

static json_t *single(mv_call *c, const json_t *vector, size_t limit, json_t *names)
{
    json_t *probe = probe_of(c, vector, limit);
    if (!probe) {
        json_decref(names);
        return NULL;
    }
    json_object_set_new(probe, "outputFields", names);
    json_object_set_new(probe, "searchParams", json_pack("{sO}", "params", json_object_get(probe, "params")));
    return vearch_ask(c, mv_entities_search, probe);
}

/* The rows of each query by themselves, "distance" called "_score". */
static json_t *by_query(mv_call *c, json_t *rows, int has_id)
{
    const json_t *topks = json_object_get(c->extra, "topks");
    json_t *all = json_array();
    size_t at = 0;
    for (size_t q = 0; q < json_array_size(topks); q++) {
        json_t *some = json_array();
        for (json_int_t i = json_integer_value(json_array_get(topks, q)); i > 0; i--) {
            json_t *row = json_array_get(rows, at++);
            json_object_set(row, "_score", json_object_get(row, "distance"));
            json_object_del(row, "distance");
            if (!has_id) json_object_del(row, "id");
            json_array_append(some, row);
        }
        json_array_append_new(all, some);
    }
    json_decref(rows);
    return json_pack("{so}", "documents", all);
}

json_t *vearch_document_search(mv_call *c)
{
    const json_t *vectors = json_object_get(c->body, "vectors");
    size_t limit, most = c->server->options.max_k, n = json_array_size(vectors);
    if (n < 1 || n > 16)
        return mv_fail(c, MV_PARAMETER_MISSING, "vectors must be an array of 1 to 16 objects");
    if (!mv_count(c, c->body, "limit", 1, most, most < USUAL_LIMIT ? most : USUAL_LIMIT, &limit) ||
        !mv_use(c, LOAN_READ))
        return NULL;
    int has_id = mv_field_find(&c->schema, "id") != NULL; /* else the other adapter has added one */
    json_t *names = output_fields(c);
    json_t *rows =
        n == 1 ? single(c, json_array_get(vectors, 0), limit, names) : fused(c, vectors, limit, names);
    return rows ? by_query(c, rows, has_id) : NULL;
}
