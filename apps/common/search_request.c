#include "search_request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/fusion.h>

#include "fail.h"

enum { USUAL_K = 10, MOST_MEMBERS_SHOWN = 100 };

typedef struct examples {
    int64_t *keys;
    json_t *list; /* keys, or texts of keys; NULL: none */
    size_t n;
} examples;

struct search_request {
    kith_collection_query how;
    kith_collection_plan plan;
    kith_fused_part parts[KITH_COLLECTION_MAX_FUSED];
    float *owned[KITH_COLLECTION_MAX_FUSED]; /* vectors that were read from JSON */
    size_t n_parts;
    kith_fusion_options fusion;
    int fused;
    examples like, unlike;
    const char *group_by; /* NULL: no groups */
    size_t group_size;
    double radius, min_score; /* NaN: none */
    const char **partitions;
    int explain, with_payload, with_vector;
    json_t *members; /* of payloads that are shown; NULL: all */
    search_limits limits;
    /* What was found. */
    search_found found;
    int64_t *keys;
    float *distances;
    double *scores;
    uint32_t *groups;
};

/* ---- Members ---- */

/* Integers, numbers, flags and words of the request. Absent: *into stays. */
typedef struct count_member {
    const char *name;
    size_t low, high;
    size_t *into;
} count_member;

static kith_status read_count(json_t *json, const count_member *m, kith_error *err)
{
    json_t *value = json_object_get(json, m->name);
    if (!value) return KITH_OK;
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 0 || (uint64_t)n < m->low || (uint64_t)n > m->high)
        return common_fail(err, KITH_INVALID, "%s must be a whole number, %zu to %zu", m->name, m->low,
                           m->high);
    *m->into = (size_t)n;
    return KITH_OK;
}

static kith_status read_number(json_t *json, const char *name, double low, double high, double *into,
                               kith_error *err)
{
    json_t *value = json_object_get(json, name);
    if (!value) return KITH_OK;
    double x = json_number_value(value);
    if (!json_is_number(value) || !(x >= low && x <= high))
        return common_fail(err, KITH_INVALID, "%s must be a number, %g to %g", name, low, high);
    *into = x;
    return KITH_OK;
}

static kith_status read_flag(json_t *json, const char *name, int *into, kith_error *err)
{
    json_t *value = json_object_get(json, name);
    if (value && !json_is_boolean(value))
        return common_fail(err, KITH_INVALID, "%s must be true or false", name);
    if (value) *into = json_is_true(value);
    return KITH_OK;
}

static kith_status read_word(json_t *json, const char *name, const char **into, kith_error *err)
{
    json_t *value = json_object_get(json, name);
    if (value && (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value)))
        return common_fail(err, KITH_INVALID, "%s must be a text", name);
    if (value) *into = json_string_value(value);
    return KITH_OK;
}

static kith_status check_members(json_t *json, kith_error *err)
{
    static const char *const known[] = {"vector",  "vectors",       "fuse",        "like",      "unlike",
                                        "k",       "offset",        "filter",      "field",     "partitions",
                                        "radius",  "exact",         "nprobe",      "group_by",  "group_size",
                                        "refine",  "target_recall", "deadline_ms", "min_score", "explain",
                                        "payload", "with_vector"};
    const char *name;
    json_t *value;
    json_object_foreach(json, name, value)
    {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], name) != 0) i++;
        if (i == sizeof known / sizeof *known)
            return common_fail(err, KITH_INVALID, "a search has no member %.100s", name);
    }
    return KITH_OK;
}

/* ---- What is searched for ---- */

static kith_status read_vector(const json_t *list, const char *name, float **x, size_t *dim, kith_error *err)
{
    *dim = json_array_size(list);
    if (!json_is_array(list) || *dim == 0 || *dim > KITH_COLLECTION_MAX_DIM)
        return common_fail(err, KITH_INVALID, "%s must be an array of 1 to %d numbers", name,
                           KITH_COLLECTION_MAX_DIM);
    *x = malloc(*dim * sizeof **x);
    if (!*x) return common_fail_nomem(err);
    for (size_t d = 0; d < *dim; d++) {
        const json_t *item = json_array_get(list, d);
        (*x)[d] = (float)json_number_value(item);
        if (!json_is_number(item) || !isfinite((*x)[d]))
            return common_fail(err, KITH_INVALID, "%s: component %zu is no number that a float can hold",
                               name, d);
    }
    return KITH_OK;
}

static kith_status read_part(search_request *q, json_t *json, const char *name, kith_error *err)
{
    kith_fused_part *part = &q->parts[q->n_parts];
    *part = (kith_fused_part){.weight = 1};
    kith_status status = read_vector(json, name, &q->owned[q->n_parts], &part->dim, err);
    part->vector = q->owned[q->n_parts++];
    return status;
}

static kith_status read_parts(search_request *q, json_t *list, kith_error *err)
{
    size_t i;
    json_t *item;
    if (!json_is_array(list) || json_array_size(list) == 0 ||
        json_array_size(list) > KITH_COLLECTION_MAX_FUSED)
        return common_fail(err, KITH_INVALID, "vectors must be an array of 1 to %d objects",
                           KITH_COLLECTION_MAX_FUSED);
    json_array_foreach(list, i, item)
    {
        if (!json_is_object(item))
            return common_fail(err, KITH_INVALID, "vectors must be an array of objects");
        kith_status status = read_part(q, json_object_get(item, "vector"), "a vector of vectors", err);
        if (status == KITH_OK) status = read_word(item, "field", &q->parts[i].field, err);
        if (status == KITH_OK) status = read_number(item, "weight", 1e-9, 1e9, &q->parts[i].weight, err);
        if (status != KITH_OK) return status;
    }
    q->fused = 1;
    return KITH_OK;
}

static kith_status read_examples(json_t *json, const char *name, examples *out, kith_error *err)
{
    json_t *list = json_object_get(json, name), *item;
    size_t i;
    if (!list) return KITH_OK;
    out->n = json_array_size(list);
    if (!json_is_array(list) || out->n > KITH_COLLECTION_MAX_EXAMPLES)
        return common_fail(err, KITH_INVALID, "%s must be an array of at most %d keys", name,
                           KITH_COLLECTION_MAX_EXAMPLES);
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item) && !(json_is_integer(item) && json_integer_value(item) > 0))
            return common_fail(err, KITH_INVALID, "%s must hold keys: whole numbers from 1, or texts", name);
    }
    out->list = list;
    out->keys = calloc(out->n + 1, sizeof *out->keys);
    return out->keys ? KITH_OK : common_fail_nomem(err);
}

static kith_status read_wanted(search_request *q, json_t *json, kith_error *err)
{
    json_t *vector = json_object_get(json, "vector"), *vectors = json_object_get(json, "vectors");
    const char *fuse = NULL;
    kith_status status = read_examples(json, "like", &q->like, err);
    if (status == KITH_OK) status = read_examples(json, "unlike", &q->unlike, err);
    if (status == KITH_OK) status = read_word(json, "fuse", &fuse, err);
    if (status != KITH_OK) return status;
    if ((vector != NULL) + (vectors != NULL) + (q->like.n > 0) != 1)
        return common_fail(err, KITH_INVALID, "one of vector, vectors and like is needed");
    if (q->unlike.n > 0 && q->like.n == 0) return common_fail(err, KITH_INVALID, "unlike goes with like");
    if (fuse && (!vectors || (strcmp(fuse, "ranks") != 0 && strcmp(fuse, "weights") != 0)))
        return common_fail(err, KITH_INVALID, "fuse is ranks or weights, and goes with vectors");
    if (fuse && strcmp(fuse, "weights") == 0) q->fusion.by = KITH_FUSE_WEIGHTS;
    if (vector) return read_part(q, vector, "vector", err);
    return vectors ? read_parts(q, vectors, err) : KITH_OK;
}

/* ---- How ---- */

static kith_status read_partitions(search_request *q, json_t *list, kith_error *err)
{
    size_t i, n = json_array_size(list);
    json_t *item;
    if (!json_is_array(list) || n == 0 || n > KITH_COLLECTION_MAX_QUERY_PARTITIONS)
        return common_fail(err, KITH_INVALID, "partitions must be an array of 1 to %d names",
                           KITH_COLLECTION_MAX_QUERY_PARTITIONS);
    q->partitions = calloc(n, sizeof *q->partitions);
    if (!q->partitions) return common_fail_nomem(err);
    json_array_foreach(list, i, item)
    {
        q->partitions[i] = json_string_value(item);
        if (!q->partitions[i]) return common_fail(err, KITH_INVALID, "partitions must be an array of names");
    }
    q->how.partitions = q->partitions;
    q->how.n_partitions = n;
    return KITH_OK;
}

/* "payload": true, false, or the names of the members that are wanted. */
static kith_status read_shown(search_request *q, json_t *value, kith_error *err)
{
    size_t i;
    json_t *item;
    if (!value || json_is_boolean(value)) {
        q->with_payload = !value || json_is_true(value);
        return KITH_OK;
    }
    int good = json_is_array(value) && json_array_size(value) <= MOST_MEMBERS_SHOWN;
    json_array_foreach(value, i, item) good = good && json_is_string(item);
    if (!good)
        return common_fail(err, KITH_INVALID, "payload must be true, false, or at most %d names of members",
                           MOST_MEMBERS_SHOWN);
    q->with_payload = 1;
    q->members = value;
    return KITH_OK;
}

static kith_status read_how(search_request *q, json_t *json, kith_error *err)
{
    size_t most = q->limits.max_k, deadline = (size_t)q->limits.deadline_ms;
    count_member counts[] = {{"k", 1, most, &q->how.k},
                             {"offset", 0, most, &q->how.offset},
                             {"group_size", 1, most, &q->group_size},
                             {"nprobe", 0, 1u << 30, &q->how.nprobe},
                             {"refine", 0, 1000, &q->how.refine},
                             {"deadline_ms", 1, deadline ? deadline : 86400000, &deadline}};
    kith_status status = KITH_OK;
    for (size_t i = 0; status == KITH_OK && i < sizeof counts / sizeof *counts; i++)
        status = read_count(json, &counts[i], err);
    if (status == KITH_OK) status = read_word(json, "filter", &q->how.expression, err);
    if (status == KITH_OK) status = read_word(json, "field", &q->how.field, err);
    if (status == KITH_OK) status = read_word(json, "group_by", &q->group_by, err);
    if (status == KITH_OK) status = read_flag(json, "exact", &q->how.exact, err);
    if (status == KITH_OK) status = read_flag(json, "explain", &q->explain, err);
    if (status == KITH_OK) status = read_flag(json, "with_vector", &q->with_vector, err);
    if (status == KITH_OK) status = read_number(json, "radius", -1e30, 1e30, &q->radius, err);
    if (status == KITH_OK) status = read_number(json, "min_score", -1e30, 1e30, &q->min_score, err);
    json_t *partitions = json_object_get(json, "partitions");
    if (status == KITH_OK && partitions) status = read_partitions(q, partitions, err);
    if (status == KITH_OK) status = read_shown(q, json_object_get(json, "payload"), err);
    q->how.max_microseconds = (uint64_t)deadline * 1000;
    return status;
}

/* What does not go together. */
static kith_status check_whole(const search_request *q, kith_error *err)
{
    size_t most = q->limits.max_k, rows;
    int by_radius = !isnan(q->radius);
    if (q->how.k + q->how.offset > most)
        return common_fail(err, KITH_INVALID, "k and offset are at most %zu together", most);
    if (q->group_by &&
        (__builtin_mul_overflow(q->how.k, q->group_size, &rows) || rows > most || rows > 10000))
        return common_fail(err, KITH_INVALID, "k times group_size is at most %zu",
                           most < 10000 ? most : 10000);
    if ((q->group_by || by_radius) && (q->fused || q->like.n > 0))
        return common_fail(err, KITH_INVALID, "%s goes with vector only",
                           q->group_by ? "group_by" : "radius");
    if (q->group_by && by_radius)
        return common_fail(err, KITH_INVALID, "group_by and radius do not go together");
    if (q->fused && q->how.field)
        return common_fail(err, KITH_INVALID, "with vectors each of them names its own field");
    return KITH_OK;
}

static kith_status make(const search_limits *limits, search_request **out, kith_error *err)
{
    *out = NULL;
    search_request *q = calloc(1, sizeof *q);
    if (!q) return common_fail_nomem(err);
    kith_collection_query_init(&q->how);
    kith_fusion_options_init(&q->fusion);
    q->plan.struct_size = sizeof q->plan;
    q->limits = *limits;
    q->how.k = USUAL_K < limits->max_k ? USUAL_K : limits->max_k;
    q->how.max_microseconds = limits->deadline_ms * 1000;
    q->group_size = 1;
    q->radius = q->min_score = (double)NAN;
    *out = q;
    return KITH_OK;
}

kith_status search_request_read(json_t *json, const search_limits *limits, search_request **out,
                                kith_error *err)
{
    search_request *q;
    *out = NULL;
    kith_status status = make(limits, &q, err);
    if (status != KITH_OK) return status;
    if (!json_is_object(json)) status = common_fail(err, KITH_INVALID, "a search is a JSON object");
    if (status == KITH_OK) status = check_members(json, err);
    if (status == KITH_OK) status = read_how(q, json, err);
    if (status == KITH_OK) status = read_wanted(q, json, err);
    if (status == KITH_OK) status = check_whole(q, err);
    if (status == KITH_OK)
        *out = q;
    else
        search_request_free(q);
    return status;
}

kith_status search_request_vector(const float *vector, size_t dim, size_t k, const search_limits *limits,
                                  search_request **out, kith_error *err)
{
    kith_status status = make(limits, out, err);
    if (status != KITH_OK) return status;
    (*out)->parts[0] = (kith_fused_part){.vector = vector, .dim = dim, .weight = 1};
    (*out)->n_parts = 1;
    (*out)->how.k = k;
    return KITH_OK;
}

void search_request_free(search_request *q)
{
    if (!q) return;
    for (size_t i = 0; i < q->n_parts; i++) free(q->owned[i]);
    free(q->partitions);
    free(q->like.keys);
    free(q->unlike.keys);
    free(q->keys);
    free(q->distances);
    free(q->scores);
    free(q->groups);
    free(q);
}

kith_collection_query *search_request_query(search_request *q)
{
    return &q->how;
}

/* ---- Running ---- */

static kith_status find_keys(kith_collection *c, examples *e, kith_error *err)
{
    for (size_t i = 0; i < e->n; i++) {
        const json_t *item = json_array_get(e->list, i);
        e->keys[i] = json_integer_value(item);
        kith_status status = KITH_OK;
        if (json_is_string(item))
            status = kith_collection_key_of(c, json_string_value(item), &e->keys[i], err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

static kith_status search_like(search_request *q, kith_collection *c, kith_error *err)
{
    kith_status status = find_keys(c, &q->like, err);
    if (status == KITH_OK) status = find_keys(c, &q->unlike, err);
    if (status != KITH_OK) return status;
    kith_collection_examples rows = {q->like.keys, q->like.n, q->unlike.keys, q->unlike.n};
    return kith_collection_search_examples(c, &rows, &q->how, q->keys, q->distances, &q->found.answer, err);
}

/* Groups one behind the other, without the places that were not filled. */
static void close_up(search_request *q, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < room; i++) {
        if (q->keys[i] == 0) continue;
        q->keys[n] = q->keys[i];
        q->distances[n] = q->distances[i];
        q->groups[n++] = (uint32_t)(i / q->group_size) + 1;
    }
    q->found.n = n;
}

static kith_status search(search_request *q, kith_collection *c, size_t room, kith_error *err)
{
    const kith_fused_part *p = q->parts;
    kith_collection_answer *answer = &q->found.answer;
    kith_status status;
    if (q->fused)
        status = kith_collection_search_fused(c, p, q->n_parts, &q->fusion, &q->how, q->keys, q->scores,
                                              answer, err);
    else if (q->like.n > 0)
        status = search_like(q, c, err);
    else if (q->group_by)
        status = kith_collection_search_groups(c, p->dim, p->vector, q->group_by, q->group_size, &q->how,
                                               q->keys, q->distances, answer, err);
    else if (!isnan(q->radius))
        return kith_collection_search_range(c, p->dim, p->vector, (float)q->radius, &q->how, q->keys,
                                            q->distances, &q->found.n, &q->found.more, answer, err);
    else
        status = kith_collection_search(c, 1, p->dim, p->vector, &q->how, q->keys, q->distances, answer, err);
    if (status != KITH_OK) return status;
    if (q->group_by)
        close_up(q, room);
    else
        while (q->found.n < room && q->keys[q->found.n]) q->found.n++;
    return KITH_OK;
}

/* The metric of what was searched, and its dim. */
static kith_metric metric_of(const search_request *q, kith_collection *c)
{
    kith_vector_field fields[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n = KITH_COLLECTION_MAX_VECTOR_FIELDS;
    if (q->how.field && kith_collection_vector_fields(c, fields, &n, NULL) == KITH_OK)
        for (size_t i = 0; i < n; i++)
            if (strcmp(fields[i].name, q->how.field) == 0) return fields[i].metric;
    return kith_collection_metric(c);
}

/* Leave out what scores less than is wanted. */
static void apply_min_score(search_request *q, kith_collection *c)
{
    kith_metric metric = metric_of(q, c);
    size_t n = 0;
    for (size_t i = 0; i < q->found.n; i++) {
        double score = q->scores ? q->scores[i] : (double)kith_metric_score(metric, q->distances[i], 0);
        if ((float)score < (float)q->min_score) continue; /* what an answer shows can be asked for */
        q->keys[n] = q->keys[i];
        if (q->scores)
            q->scores[n] = q->scores[i];
        else
            q->distances[n] = q->distances[i];
        if (q->groups) q->groups[n] = q->groups[i];
        n++;
    }
    q->found.n = n;
}

kith_status search_request_run(search_request *q, kith_collection *c, kith_error *err)
{
    size_t room = q->how.k * (q->group_by ? q->group_size : 1);
    q->keys = calloc(room, sizeof *q->keys);
    if (q->fused)
        q->scores = calloc(room, sizeof *q->scores);
    else
        q->distances = calloc(room, sizeof *q->distances);
    if (q->group_by) q->groups = calloc(room, sizeof *q->groups);
    if (!q->keys || (!q->scores && !q->distances) || (q->group_by && !q->groups))
        return common_fail_nomem(err);
    if (q->explain && !q->fused) q->how.plan = &q->plan;
    kith_status status = search(q, c, room, err);
    if (status == KITH_OK && !isnan(q->min_score)) apply_min_score(q, c);
    q->found.keys = q->keys;
    q->found.distances = q->distances;
    q->found.scores = q->scores;
    q->found.groups = q->groups;
    return status;
}

const search_found *search_request_found(const search_request *q)
{
    return &q->found;
}

/* ---- The answer ---- */

void search_plan_write(const kith_collection_plan *p, text *out)
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

/* The members of a payload that are wanted. */
static void write_members(const search_request *q, const char *payload, size_t size, text *out)
{
    json_t *json = json_loadb(payload, size, 0, NULL), *shown = json_object(), *name;
    size_t i;
    json_array_foreach(q->members, i, name)
    {
        json_t *value = json_object_get(json, json_string_value(name));
        if (value) json_object_set(shown, json_string_value(name), value);
    }
    char *words = json_dumps(shown, JSON_COMPACT);
    if (words)
        text_put(out, words);
    else
        out->failed = 1;
    free(words);
    json_decref(shown);
    json_decref(json);
}

/* What a result shows of its row: its text, payload, vector. */
static kith_status write_row(const search_request *q, kith_collection *c, int64_t key, text *out,
                             kith_error *err)
{
    kith_row row = {0};
    const char *known_as;
    unsigned parts =
        (q->with_payload ? KITH_ROW_PAYLOAD : 0u) | (q->with_vector && !q->how.field ? KITH_ROW_VECTOR : 0u);
    kith_status status = kith_collection_text_of(c, key, &known_as, err);
    if (status == KITH_OK && known_as) {
        text_put(out, ",\"text\":");
        text_string(out, known_as);
    }
    if (status == KITH_OK && parts) status = kith_collection_get(c, key, parts, &row, err);
    if (status != KITH_OK) return status;
    if (q->with_payload) {
        text_put(out, ",\"payload\":");
        if (q->members)
            write_members(q, row.payload, row.payload_size, out);
        else
            text_add(out, row.payload, row.payload_size);
    }
    const float *x = row.vector;
    size_t dim = row.dim;
    if (q->with_vector && q->how.field)
        status = kith_collection_get_vector(c, key, q->how.field, &x, &dim, err);
    if (status == KITH_OK && q->with_vector && x) {
        text_put(out, ",\"vector\":");
        text_floats(out, x, dim);
    }
    return status;
}

kith_status search_request_write(const search_request *q, kith_collection *c, text *out, kith_error *err)
{
    const search_found *f = &q->found;
    kith_metric metric = metric_of(q, c);
    text_put(out, "{\"results\":[");
    for (size_t i = 0; i < f->n; i++) {
        text_put(out, i ? ",{\"rank\":" : "{\"rank\":");
        text_int(out, (int64_t)(q->how.offset + i + 1));
        text_put(out, ",\"key\":");
        text_int(out, f->keys[i]);
        if (f->distances) {
            text_put(out, ",\"distance\":");
            text_float(out, f->distances[i]);
        }
        text_put(out, ",\"score\":");
        if (f->scores)
            text_double(out, f->scores[i]);
        else
            text_float(out, kith_metric_score(metric, f->distances[i], 0));
        if (f->groups) {
            text_put(out, ",\"group\":");
            text_int(out, f->groups[i]);
        }
        kith_status status = write_row(q, c, f->keys[i], out, err);
        if (status != KITH_OK) return status;
        text_put(out, "}");
    }
    text_put(out, f->answer.complete ? "],\"complete\":true" : "],\"complete\":false");
    text_put(out, f->answer.exact ? ",\"exact\":true" : ",\"exact\":false");
    text_put(out, ",\"version\":");
    text_int(out, (int64_t)f->answer.version);
    if (!isnan(q->radius)) text_put(out, f->more ? ",\"more\":true" : ",\"more\":false");
    if (q->how.plan) {
        text_put(out, ",\"plan\":");
        search_plan_write(&q->plan, out);
    }
    return out->failed ? common_fail_nomem(err) : KITH_OK;
}
