/* milvus_search.c - /entities/search and /entities/hybrid_search.
 *
 * Distances are Milvus': squared for L2, the inner product for IP, the cosine itself for COSINE; the engine's are always
 * smaller-is-nearer. Radius and range_filter are brought to the engine's form first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "milvus_call.h"

/* One search: the body of search, or an element of a hybrid search. */
typedef struct probe {
    const mv_field *field;
    kith_metric metric;
    char *filter;
    size_t limit, offset, nprobe;
    const char *group_by;
    size_t group_size;
    int has_radius, has_inner;
    float radius, inner; /* as the engine's distances: inner <= d < radius */
} probe;

typedef struct hit {
    int64_t key;
    double score; /* as the client sees it */
} hit;

typedef struct hits {
    hit *list;
    size_t n, room;
} hits;

static int add_hit(mv_call *c, hits *h, int64_t key, double score)
{
    if (h->n == h->room) {
        size_t room = 2 * h->room + 128;
        hit *more = realloc(h->list, room * sizeof *more);
        if (!more) {
            mv_fail(c, MV_OVERLOADED, "out of memory");
            return 0;
        }
        h->list = more;
        h->room = room;
    }
    h->list[h->n++] = (hit){key, score};
    return 1;
}

/* ---- What is asked for ---- */

static double told_distance(kith_metric metric, float distance)
{
    switch (metric) {
    case KITH_DOT: return -(double)distance;
    case KITH_COSINE: return 1 - (double)distance;
    default: return distance;
    }
}

/* The engine's distance of a client's. */
static float own_distance(kith_metric metric, double told)
{
    switch (metric) {
    case KITH_DOT: return (float)-told;
    case KITH_COSINE: return (float)(1 - told);
    default: return (float)told;
    }
}

/* A parameter of a search, wherever a client puts it: beside params, or in it. */
static const json_t *parameter(const json_t *from, const char *name)
{
    const json_t *inside = json_object_get(json_object_get(from, "params"), name);
    return inside ? inside : json_object_get(from, name);
}

static int take_range(mv_call *c, const json_t *params, probe *p)
{
    const json_t *radius = parameter(params, "radius"), *inner = parameter(params, "range_filter");
    if ((radius && !json_is_number(radius)) || (inner && !json_is_number(inner)) || (inner && !radius)) {
        mv_fail(c, MV_PARAMETER_INVALID, "radius and range_filter are numbers; range_filter needs radius");
        return 0;
    }
    p->has_radius = radius != NULL;
    p->has_inner = inner != NULL;
    p->radius = own_distance(p->metric, json_number_value(radius));
    p->inner = own_distance(p->metric, json_number_value(inner));
    if (p->has_inner && p->inner >= p->radius) {
        mv_fail(c, MV_PARAMETER_INVALID, "range_filter must be nearer than radius");
        return 0;
    }
    return 1;
}

/* The vector field that is searched: annsField, or the only one. */
static int take_field(mv_call *c, const json_t *from, const json_t *params, probe *p)
{
    kith_metric wanted;
    size_t n = 0;
    const char *name = json_string_value(json_object_get(from, "annsField"));
    for (size_t i = 0; i < c->schema.n; i++) {
        const mv_field *field = &c->schema.fields[i];
        if (!mv_is_vector(field->type) || (name && *name && strcmp(name, field->name) != 0)) continue;
        if (n++ == 0) p->field = field;
    }
    if (n != 1) {
        mv_fail(c, MV_FIELD_NOT_FOUND,
                n == 0 ? "annsField is no vector field of the collection"
                       : "multiple anns_fields exist, please specify annsField");
        return 0;
    }
    if (!mv_field_metric(c, p->field, &p->metric)) return 0;
    const char *metric = json_string_value(json_object_get(from, "metricType"));
    if (!metric) metric = json_string_value(parameter(params, "metricType"));
    if (!metric) metric = json_string_value(parameter(params, "metric_type"));
    if (!metric || !*metric) return 1;
    if (!mv_metric(c, metric, &wanted)) return 0;
    if (wanted == p->metric) return 1;
    mv_fail(c, MV_PARAMETER_INVALID, "metric type not match: invalid parameter[expected=%s][actual=%s]",
            mv_metric_word(p->metric), mv_metric_word(wanted));
    return 0;
}

static int take_probe(mv_call *c, const json_t *from, const json_t *params, const json_t *partitions,
                      probe *p)
{
    size_t most = c->server->options.max_k < MV_MAX_LIMIT ? c->server->options.max_k : MV_MAX_LIMIT;
    size_t usual = most < 100 ? most : 100;
    *p = (probe){.group_by = json_string_value(json_object_get(from, "groupingField"))};
    if (p->group_by && !*p->group_by) p->group_by = NULL;
    if (!mv_count(c, from, "limit", 1, most, usual, &p->limit) ||
        !mv_count(c, from, "offset", 0, most, 0, &p->offset) ||
        !mv_count(c, from, "groupSize", 1, 1000, 1, &p->group_size) || !take_field(c, from, params, p))
        return 0;
    if (p->limit + p->offset > most) {
        mv_fail(c, MV_PARAMETER_INVALID, "offset + limit is %zu, at most %zu", p->limit + p->offset, most);
        return 0;
    }
    if (p->group_by && (p->limit + p->offset) * p->group_size > MV_MAX_GROUPED) {
        mv_fail(c, MV_PARAMETER_INVALID, "(offset + limit) * groupSize is at most %d", MV_MAX_GROUPED);
        return 0;
    }
    const json_t *nprobe = parameter(params, "nprobe");
    if (json_is_integer(nprobe) && json_integer_value(nprobe) > 0)
        p->nprobe = (size_t)json_integer_value(nprobe);
    return take_range(c, params, p) && mv_filter(c, from, partitions, &p->filter);
}

static void start_query(mv_call *c, const probe *p, kith_collection_query *query)
{
    kith_collection_query_init(query);
    query->max_microseconds = (uint64_t)c->server->options.deadline_ms * 1000;
    query->k = p->limit;
    query->offset = p->offset;
    query->nprobe = p->nprobe;
    query->expression = p->filter;
    query->field = p->field->main ? NULL : p->field->name;
}

/* ---- Searching ---- */

static int keep(mv_call *c, const probe *p, size_t n, const int64_t *keys, const float *distances,
                hits *found)
{
    for (size_t i = 0; i < n; i++)
        if (keys[i] && !add_hit(c, found, keys[i], told_distance(p->metric, distances[i]))) return 0;
    return 1;
}

/* Of so many groups the nearest rows; a page is some of the groups. */
static kith_status search_groups(mv_call *c, const probe *p, const float *x, int64_t *keys, float *distances)
{
    kith_collection_query query;
    start_query(c, p, &query);
    query.k = p->limit + p->offset;
    query.offset = 0;
    return kith_collection_search_groups(c->collection, p->field->dim, x, p->group_by, p->group_size, &query,
                                         keys, distances, NULL, &c->err);
}

/* Rows between inner and radius: those within the radius, deeper until enough of them are not too near. */
static kith_status search_range(mv_call *c, const probe *p, const float *x, hits *found,
                                kith_collection_answer *answer)
{
    kith_collection_query query;
    kith_status status = KITH_OK;
    int more = 1;
    start_query(c, p, &query);
    query.offset = 0;
    for (query.k = p->limit + p->offset; status == KITH_OK; query.k *= 4) {
        size_t n = 0, past = 0;
        int64_t *keys = calloc(query.k, sizeof *keys);
        float *distances = calloc(query.k, sizeof *distances);
        status = keys && distances
                     ? kith_collection_search_range(c->collection, p->field->dim, x, p->radius, &query, keys,
                                                    distances, &n, &more, answer, &c->err)
                     : (c->err.code = KITH_NOMEM);
        found->n = 0;
        for (size_t i = 0; status == KITH_OK && i < n && found->n < p->limit; i++) {
            if (distances[i] >= p->radius || (p->has_inner && distances[i] < p->inner)) continue;
            if (past++ >= p->offset && !keep(c, p, 1, &keys[i], &distances[i], found)) more = 0;
        }
        free(keys);
        free(distances);
        if (!more || found->n == p->limit || query.k > KITH_COLLECTION_MAX_K / 4) break;
    }
    return status;
}

static int run_probe(mv_call *c, const probe *p, const float *x, hits *found)
{
    kith_collection_query query;
    kith_collection_answer answer = {.complete = 1};
    size_t rows = p->group_by ? (p->limit + p->offset) * p->group_size : p->limit;
    int64_t *keys = calloc(rows, sizeof *keys);
    float *distances = calloc(rows, sizeof *distances);
    size_t skip = p->group_by ? p->offset * p->group_size : 0;
    kith_status status = keys && distances ? KITH_OK : (c->err.code = KITH_NOMEM);
    found->n = 0;
    start_query(c, p, &query);
    if (status == KITH_OK && p->has_radius)
        status = search_range(c, p, x, found, &answer);
    else if (status == KITH_OK && p->group_by)
        status = search_groups(c, p, x, keys, distances);
    else if (status == KITH_OK)
        status = kith_collection_search(c->collection, 1, p->field->dim, x, &query, keys, distances, &answer,
                                        &c->err);
    int good =
        status == KITH_OK && (p->has_radius || keep(c, p, rows - skip, keys + skip, distances + skip, found));
    if (status != KITH_OK)
        mv_fail_engine(c);
    else if (!answer.complete)
        mv_fail(c, MV_OVERLOADED, "the search took longer than the server allows (--deadline)");
    free(keys);
    free(distances);
    return good && c->code == MV_OK;
}

/* ---- Telling it ---- */

/* Append the rows found, with "distance", and "id" whatever the primary key is called. */
static int tell(mv_call *c, const hits *found, const mv_selection *selection, json_t *rows)
{
    for (size_t i = 0; i < found->n; i++) {
        json_t *row = mv_row(c, found->list[i].key, selection);
        if (!row && c->code != MV_OK) return 0;
        if (!row) continue;
        json_object_set_new(row, "distance", json_real(found->list[i].score));
        if (!json_object_get(row, "id"))
            json_object_set(row, "id", json_object_get(row, c->schema.primary->name));
        if (!mv_show(c, rows, row)) return 0;
    }
    return 1;
}

/* Everything of a request that handlers of both kinds need. 0: failed. */
static int begin(mv_call *c, mv_selection *selection, json_t **partitions)
{
    *partitions = NULL;
    if (!mv_use(c, LOAN_READ)) return 0;
    if (kith_collection_pin(c->collection, &c->err) != KITH_OK) {
        mv_fail_engine(c);
        return 0;
    }
    return mv_select(c, json_object_get(c->body, "outputFields"), 0, selection) &&
           mv_partitions(c, c->body, partitions);
}

static int search_each(mv_call *c, const probe *p, const json_t *vectors, const mv_selection *selection,
                       json_t *rows, json_t *topks)
{
    hits found = {0};
    float *x = calloc(p->field->dim, sizeof *x);
    int good = x != NULL;
    if (!x) mv_fail(c, MV_OVERLOADED, "out of memory");
    for (size_t i = 0; good && i < json_array_size(vectors); i++) {
        good = mv_vector(c, json_array_get(vectors, i), p->field, x) && run_probe(c, p, x, &found) &&
               tell(c, &found, selection, rows);
        json_array_append_new(topks, json_integer((json_int_t)found.n));
    }
    free(found.list);
    free(x);
    return good;
}

json_t *mv_entities_search(mv_call *c)
{
    mv_selection selection;
    probe p = {0};
    json_t *vectors = json_object_get(c->body, "data"), *rows = json_array(), *topks = json_array(),
           *partitions;
    size_t nq = json_array_size(vectors);
    int good = nq > 0 && nq <= MV_MAX_NQ;
    if (!good)
        mv_fail(c, MV_PARAMETER_MISSING,
                "missing required parameters, error: data must be an array of 1 to %d vectors", MV_MAX_NQ);
    good = good && begin(c, &selection, &partitions);
    if (good) {
        good = take_probe(c, c->body, json_object_get(c->body, "searchParams"), partitions, &p) &&
               search_each(c, &p, vectors, &selection, rows, topks);
        json_decref(partitions);
    }
    free(p.filter);
    c->extra = json_pack("{so si}", "topks", topks, "cost", 0);
    if (good) return rows;
    json_decref(rows);
    return NULL;
}

/* ---- Several searches as one ---- */

typedef struct fusion {
    int by_weight;
    double constant; /* of reciprocal ranks */
    const json_t *weights;
    int normed;
} fusion;

static int take_fusion(mv_call *c, size_t n, fusion *f)
{
    const json_t *rerank = json_object_get(c->body, "rerank"), *params = json_object_get(rerank, "params");
    const char *strategy = json_string_value(json_object_get(rerank, "strategy"));
    *f = (fusion){.constant = 60, .normed = mv_flag(params, "norm_score", 1)};
    f->by_weight = strategy && strcmp(strategy, "weighted") == 0;
    if (strategy && !f->by_weight && strcmp(strategy, "rrf") != 0) {
        mv_fail(c, MV_PARAMETER_INVALID, "rerank.strategy is rrf or weighted");
        return 0;
    }
    const json_t *k = json_object_get(params, "k");
    if (k) f->constant = json_number_value(k);
    f->weights = json_object_get(params, "weights");
    int good = f->constant > 0 && f->constant < 16384;
    for (size_t i = 0; f->by_weight && i < n; i++) {
        const json_t *weight = json_array_get(f->weights, i);
        good &= json_is_number(weight) && json_number_value(weight) >= 0 && json_number_value(weight) <= 1;
    }
    good &= !f->by_weight || json_array_size(f->weights) == n;
    if (!good)
        mv_fail(
            c, MV_PARAMETER_INVALID,
            "rerank.params: k above 0 and below 16384 (rrf), or weights, a number 0 to 1 for each search");
    return good;
}

/* A score in 0..1, larger is nearer, as Milvus' weighted ranker makes it. */
static double normed(kith_metric metric, double told)
{
    switch (metric) {
    case KITH_COSINE: return (1 + told) / 2;
    case KITH_DOT: return 0.5 + atan(told) / M_PI;
    default: return 1 - 2 * atan(told) / M_PI;
    }
}

static int by_key(const void *a, const void *b)
{
    const hit *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

static int by_score(const void *a, const void *b)
{
    const hit *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : by_key(a, b);
}

/* Rows that several searches found become one each, with the sum of their scores; the best first. */
static void join(hits *all)
{
    size_t kept = 0;
    if (all->n == 0) return;
    qsort(all->list, all->n, sizeof *all->list, by_key);
    for (size_t i = 1; i < all->n; i++) {
        if (all->list[kept].key == all->list[i].key)
            all->list[kept].score += all->list[i].score;
        else
            all->list[++kept] = all->list[i];
    }
    all->n = kept + 1;
    qsort(all->list, all->n, sizeof *all->list, by_score);
}

/* Run one of the searches and add what it found to `all`. */
static int add_search(mv_call *c, const fusion *f, size_t i, const json_t *from, const json_t *partitions,
                      hits *all)
{
    probe p = {0};
    hits found = {0};
    const json_t *vectors = json_object_get(from, "data");
    int good = json_array_size(vectors) == 1;
    if (!good) mv_fail(c, MV_PARAMETER_INVALID, "each search of a hybrid search has one vector in data");
    good = good && take_probe(c, from, from, partitions, &p);
    float *x = good ? calloc(p.field->dim, sizeof *x) : NULL;
    if (good && !x) mv_fail(c, MV_OVERLOADED, "out of memory");
    good = x && mv_vector(c, json_array_get(vectors, 0), p.field, x) && run_probe(c, &p, x, &found);
    double weight = json_number_value(json_array_get(f->weights, i));
    for (size_t r = 0; good && r < found.n; r++) {
        double told = found.list[r].score;
        double near = f->normed ? normed(p.metric, told) : told;
        good = add_hit(c, all, found.list[r].key,
                       f->by_weight ? weight * near : 1 / (f->constant + (double)r + 1));
    }
    free(found.list);
    free(x);
    free(p.filter);
    return good;
}

/* Keep group_size rows of each value of a field, of so many values, and the page of them that is wanted. */
static int keep_groups(mv_call *c, const char *field, size_t group_size, size_t groups, hits *all)
{
    json_t *counts = json_object(), *names = json_pack("[s]", field);
    const mv_selection selection = {.names = names};
    size_t kept = 0;
    for (size_t i = 0; i < all->n; i++) {
        json_t *row = mv_row(c, all->list[i].key, &selection);
        char *value = row ? json_dumps(json_object_get(row, field), JSON_ENCODE_ANY) : NULL;
        json_int_t there = value ? json_integer_value(json_object_get(counts, value)) : 0;
        if (value && there < (json_int_t)group_size && (there > 0 || json_object_size(counts) < groups)) {
            json_object_set_new(counts, value, json_integer(there + 1));
            all->list[kept++] = all->list[i];
        }
        free(value);
        json_decref(row);
    }
    all->n = kept;
    json_decref(counts);
    json_decref(names);
    return c->code == MV_OK;
}

static json_t *tell_fused(mv_call *c, hits *all, const mv_selection *selection)
{
    size_t limit, offset, group_size, most = c->server->options.max_k;
    const char *field = json_string_value(json_object_get(c->body, "groupingField"));
    if (!mv_count(c, c->body, "limit", 1, most, most < 100 ? most : 100, &limit) ||
        !mv_count(c, c->body, "offset", 0, most, 0, &offset) ||
        !mv_count(c, c->body, "groupSize", 1, 1000, 1, &group_size))
        return NULL;
    join(all);
    if (field && *field) {
        if (!keep_groups(c, field, group_size, limit + offset, all)) return NULL;
        limit *= group_size, offset *= group_size;
    }
    size_t first = offset < all->n ? offset : all->n;
    hits page = {.list = all->list + first, .n = all->n - first < limit ? all->n - first : limit};
    json_t *rows = json_array();
    if (!tell(c, &page, selection, rows)) {
        json_decref(rows);
        return NULL;
    }
    c->extra = json_pack("{s[I] si}", "topks", (json_int_t)page.n, "cost", 0);
    return rows;
}

json_t *mv_entities_hybrid_search(mv_call *c)
{
    mv_selection selection;
    fusion f;
    hits all = {0};
    json_t *searches = json_object_get(c->body, "search"), *partitions = NULL, *rows = NULL;
    size_t n = json_array_size(searches);
    if (n < 1 || n > 64)
        return mv_fail(c, MV_PARAMETER_MISSING,
                       "missing required parameters, error: search must be an array of 1 to 64 searches");
    int good = begin(c, &selection, &partitions) && take_fusion(c, n, &f);
    for (size_t i = 0; good && i < n; i++)
        good = add_search(c, &f, i, json_array_get(searches, i), partitions, &all);
    if (good) rows = tell_fused(c, &all, &selection);
    free(all.list);
    json_decref(partitions);
    return rows;
}
