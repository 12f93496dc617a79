/* request.c - a search as a JSON object: read, checked, and carried out by the search call that it comes down to.
 *
 * The text is from anybody. jansson refuses what is no JSON or UTF-8, duplicate names and numbers beyond double; here each
 * member is compared with the list of those there are, and with its type and range. Names and filters stay in the tree
 * that jansson made; components are read before it (engine/request_vectors.h), or copied out of it. */
#include <kith/request.h>

#include <kith/fusion.h>

#include "engine/engine.h"
#include "engine/request_vectors.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define MOST_GROUP_ROWS 10000
#define MOST_SECONDS 86400

struct kith_request {
    const kith_allocator *allocator;
    json_t *root;
    ki_request_vectors vectors; /* what was taken out of the text; in root their places stand for them */
    kith_collection_query query;
    kith_fused_part parts[KITH_COLLECTION_MAX_FUSED];
    size_t n_parts;    /* 0: like and unlike */
    float *components; /* of all parts */
    kith_fusion_options fusion;
    const char *group_by;
    size_t group_size;
    int with_radius;
    float radius;
    const char **partitions;
    int64_t *examples; /* [like + unlike], as they are known to the collection that is searched */
    /* What was found. */
    size_t room;
    int64_t *keys;
    float *distances;
    double *values;
    size_t *groups;
};

/* ---- Members ---- */

static const char *const members[] = {
    "vector", "field",  "vectors", "fusion",        "depth",   "constant",   "like",
    "unlike", "k",      "offset",  "filter",        "radius",  "group_by",   "group_size",
    "exact",  "nprobe", "refine",  "target_recall", "seconds", "partitions", NULL};
static const char *const part_members[] = {"vector", "field", "weight", NULL};

static kith_status check_members(const json_t *object, const char *const *names, kith_error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        size_t i = 0;
        while (names[i] && strcmp(names[i], name) != 0) i++;
        if (!names[i]) return ki_fail(err, KITH_INVALID, "request: there is no member '%.80s'", name);
    }
    return KITH_OK;
}

static kith_status take_count(const json_t *root, const char *name, size_t low, size_t high, size_t *out,
                              kith_error *err)
{
    const json_t *value = json_object_get(root, name);
    if (!value) return KITH_OK;
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < (json_int_t)low || n > (json_int_t)high)
        return ki_fail(err, KITH_INVALID, "request: %s must be a whole number, %zu..%zu", name, low, high);
    *out = (size_t)n;
    return KITH_OK;
}

static kith_status take_number(const json_t *root, const char *name, double low, double high, double *out,
                               kith_error *err)
{
    const json_t *value = json_object_get(root, name);
    if (!value) return KITH_OK;
    double x = json_number_value(value);
    if (!json_is_number(value) || !(x >= low && x <= high))
        return ki_fail(err, KITH_INVALID, "request: %s must be a number, %g..%g", name, low, high);
    *out = x;
    return KITH_OK;
}

static kith_status take_text(const json_t *root, const char *name, const char **out, kith_error *err)
{
    const json_t *value = json_object_get(root, name);
    if (!value) return KITH_OK;
    *out = json_string_value(value);
    return *out ? KITH_OK : ki_fail(err, KITH_INVALID, "request: %s must be a string", name);
}

static kith_status take_flag(const json_t *root, const char *name, int *out, kith_error *err)
{
    const json_t *value = json_object_get(root, name);
    if (!value) return KITH_OK;
    *out = json_is_true(value);
    return json_is_boolean(value) ? KITH_OK
                                  : ki_fail(err, KITH_INVALID, "request: %s must be true or false", name);
}

/* An array of most values at most; *n 0 and KITH_OK when it is absent. */
static kith_status take_array(const json_t *root, const char *name, size_t most, const json_t **out,
                              size_t *n, kith_error *err)
{
    *out = json_object_get(root, name);
    *n = json_array_size(*out);
    if (!*out || (json_is_array(*out) && *n >= 1 && *n <= most)) return KITH_OK;
    return ki_fail(err, KITH_INVALID, "request: %s must be an array of 1..%zu elements", name, most);
}

/* ---- What is searched by ---- */

/* The components of a part, to x[room] when they are still to be read. */
static kith_status take_vector(const kith_request *r, const json_t *object, kith_fused_part *part, float *x,
                               size_t room, kith_error *err)
{
    const json_t *vector = json_object_get(object, "vector");
    size_t dim;
    KI_TRY(take_text(object, "field", &part->field, err));
    if (part->field && !*part->field) part->field = NULL;
    if (json_is_integer(vector))
        part->vector = ki_request_vectors_at(&r->vectors, json_integer_value(vector), &part->dim);
    if (part->vector) return KITH_OK;
    KI_TRY(take_array(object, "vector", KITH_COLLECTION_MAX_DIM, &vector, &dim, err));
    if (dim == 0 || dim > room) return ki_fail(err, KITH_INVALID, "request: vector is missing");
    for (size_t d = 0; d < dim; d++) {
        const json_t *component = json_array_get(vector, d);
        double value = json_number_value(component);
        if (!json_is_number(component) || !(fabs(value) <= 3.4028234663852886e38))
            return ki_fail(err, KITH_INVALID, "request: element %zu of vector is no number of a float", d);
        x[d] = (float)value;
    }
    part->vector = x;
    part->dim = dim;
    return KITH_OK;
}

static kith_status take_parts(kith_request *r, const json_t *list, size_t n, kith_error *err)
{
    size_t room = 0, used = 0;
    for (size_t i = 0; i < n; i++)
        room += json_array_size(json_object_get(json_array_get(list, i), "vector"));
    r->components = ki_alloc(r->allocator, room + 1, sizeof *r->components);
    if (!r->components) return ki_fail_nomem(err, room * sizeof *r->components);
    for (size_t i = 0; i < n; i++) {
        const json_t *object = json_array_get(list, i);
        kith_fused_part *part = &r->parts[i];
        part->weight = 1;
        if (!json_is_object(object))
            return ki_fail(err, KITH_INVALID, "request: element %zu of vectors is no object", i);
        KI_TRY(check_members(object, part_members, err));
        KI_TRY(take_vector(r, object, part, r->components + used, room - used, err));
        KI_TRY(take_number(object, "weight", 1e-300, 1e300, &part->weight, err));
        used += json_array_size(json_object_get(object, "vector"));
    }
    r->n_parts = n;
    return KITH_OK;
}

static kith_status take_fusion(kith_request *r, kith_error *err)
{
    const char *by = "ranks";
    if (r->n_parts < 2 && json_object_get(r->root, "fusion"))
        return ki_fail(err, KITH_INVALID, "request: fusion is for several vectors");
    KI_TRY(take_text(r->root, "fusion", &by, err));
    if (strcmp(by, "weights") == 0 || strcmp(by, "weighted") == 0)
        r->fusion.by = KITH_FUSE_WEIGHTS;
    else if (strcmp(by, "ranks") != 0 && strcmp(by, "rrf") != 0)
        return ki_fail(err, KITH_INVALID,
                       "request: fusion is '%.80s', allowed ranks (rrf), weights (weighted)", by);
    KI_TRY(take_count(r->root, "depth", 1, 100000, &r->fusion.depth, err));
    return take_number(r->root, "constant", 1e-300, 1e300, &r->fusion.constant, err);
}

/* A key or a text each. */
static kith_status check_examples(const json_t *list, const char *name, kith_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (json_is_string(item) || (json_is_integer(item) && json_integer_value(item) > 0)) continue;
        return ki_fail(err, KITH_INVALID,
                       "request: element %zu of %s is no key, a number from 1 on or a text", i, name);
    }
    return KITH_OK;
}

static kith_status take_examples(kith_request *r, kith_error *err)
{
    const json_t *like, *unlike;
    size_t n, m;
    KI_TRY(take_array(r->root, "like", KITH_COLLECTION_MAX_EXAMPLES, &like, &n, err));
    KI_TRY(take_array(r->root, "unlike", KITH_COLLECTION_MAX_EXAMPLES, &unlike, &m, err));
    if (n == 0) return m ? ki_fail(err, KITH_INVALID, "request: unlike needs like") : KITH_OK;
    KI_TRY(check_examples(like, "like", err));
    KI_TRY(check_examples(unlike, "unlike", err));
    r->examples = ki_alloc(r->allocator, n + m, sizeof *r->examples);
    return r->examples ? KITH_OK : ki_fail_nomem(err, (n + m) * sizeof *r->examples);
}

static kith_status take_what(kith_request *r, kith_error *err)
{
    const json_t *several, *vector = json_object_get(r->root, "vector");
    size_t n;
    KI_TRY(take_array(r->root, "vectors", KITH_COLLECTION_MAX_FUSED, &several, &n, err));
    KI_TRY(take_examples(r, err));
    if ((vector != NULL) + (several != NULL) + (r->examples != NULL) != 1)
        return ki_fail(err, KITH_INVALID, "request: one of vector, vectors and like is needed");
    if (several && json_object_get(r->root, "field"))
        return ki_fail(err, KITH_INVALID, "request: field stands in the elements of vectors");
    if (several) return take_parts(r, several, n, err);
    if (!vector) return take_text(r->root, "field", &r->query.field, err);
    size_t room = json_array_size(vector);
    r->components = ki_alloc(r->allocator, room + 1, sizeof *r->components);
    if (!r->components) return ki_fail_nomem(err, room * sizeof *r->components);
    KI_TRY(take_vector(r, r->root, &r->parts[0], r->components, room, err));
    r->n_parts = 1;
    return KITH_OK;
}

/* ---- How ---- */

static kith_status take_partitions(kith_request *r, kith_error *err)
{
    const json_t *list;
    size_t n;
    KI_TRY(take_array(r->root, "partitions", KITH_COLLECTION_MAX_QUERY_PARTITIONS, &list, &n, err));
    if (n == 0) return KITH_OK;
    r->partitions = ki_alloc(r->allocator, n, sizeof *r->partitions);
    if (!r->partitions) return ki_fail_nomem(err, n * sizeof *r->partitions);
    for (size_t i = 0; i < n; i++) {
        r->partitions[i] = json_string_value(json_array_get(list, i));
        if (!r->partitions[i])
            return ki_fail(err, KITH_INVALID, "request: element %zu of partitions must be a string", i);
    }
    r->query.partitions = r->partitions;
    r->query.n_partitions = n;
    return KITH_OK;
}

static kith_status take_shape(kith_request *r, kith_error *err)
{
    double radius = 0;
    size_t most = KITH_COLLECTION_MAX_K;
    KI_TRY(take_text(r->root, "group_by", &r->group_by, err));
    KI_TRY(take_count(r->root, "group_size", 1, MOST_GROUP_ROWS, &r->group_size, err));
    KI_TRY(take_number(r->root, "radius", -3.4e38, 3.4e38, &radius, err));
    r->with_radius = json_object_get(r->root, "radius") != NULL;
    r->radius = (float)radius;
    if (r->group_by) most = MOST_GROUP_ROWS / r->group_size;
    KI_TRY(take_count(r->root, "k", 1, most, &r->query.k, err));
    if ((r->group_by || r->with_radius) && (r->n_parts != 1 || (r->group_by && r->with_radius)))
        return ki_fail(err, KITH_INVALID,
                       "request: radius and group_by are for one vector, and not together");
    return take_count(r->root, "offset", 0, KITH_COLLECTION_MAX_K - 1, &r->query.offset, err);
}

static kith_status take_all(kith_request *r, kith_error *err)
{
    double seconds = 0;
    kith_collection_query *q = &r->query;
    KI_TRY(check_members(r->root, members, err));
    KI_TRY(take_what(r, err));
    KI_TRY(take_fusion(r, err));
    KI_TRY(take_shape(r, err));
    KI_TRY(take_partitions(r, err));
    KI_TRY(take_text(r->root, "filter", &q->expression, err));
    if (q->expression) KI_TRY(kith_collection_filter_check(q->expression, err));
    KI_TRY(take_flag(r->root, "exact", &q->exact, err));
    KI_TRY(take_count(r->root, "nprobe", 0, 1000000, &q->nprobe, err));
    KI_TRY(take_count(r->root, "refine", 0, 1000000, &q->refine, err));
    KI_TRY(take_number(r->root, "target_recall", 0, 1, &q->target_recall, err));
    KI_TRY(take_number(r->root, "seconds", 0, MOST_SECONDS, &seconds, err));
    q->max_microseconds = (uint64_t)ceil(seconds * 1e6);
    if (r->n_parts == 1) q->field = r->parts[0].field;
    if (q->field && !*q->field) q->field = NULL;
    return KITH_OK;
}

/* The tree of the text without its vectors. Where that is no JSON all of the text is looked at, for the place of the fault. */
static kith_status take_root(kith_request *r, const char *text, size_t size, kith_error *err)
{
    if (r->vectors.n > 0)
        r->root = json_loadb(r->vectors.text, r->vectors.size, JSON_REJECT_DUPLICATES, NULL);
    if (!r->root) {
        ki_request_vectors_clear(&r->vectors, r->allocator);
        KI_TRY(ki_json_parse("request: it", text, size, &r->root, err));
    }
    return json_is_object(r->root) ? KITH_OK : ki_fail(err, KITH_INVALID, "request: no object");
}

kith_status kith_request_parse(const char *text, size_t size, const kith_allocator *allocator,
                               kith_request **request, kith_error *err)
{
    if (!request) return ki_fail(err, KITH_INVALID, "request is NULL");
    *request = NULL;
    if (!text || size > KITH_REQUEST_MAX_BYTES)
        return ki_fail(err, KITH_INVALID, "request: has %zu bytes, allowed up to %u", text ? size : 0,
                       KITH_REQUEST_MAX_BYTES);
    kith_request *r = ki_alloc_zero(allocator, 1, sizeof *r);
    if (!r) return ki_fail_nomem(err, sizeof *r);
    r->allocator = allocator;
    kith_status status = ki_request_vectors_read(text, size, allocator, &r->vectors, err);
    if (status == KITH_OK) status = take_root(r, text, size, err);
    r->group_size = 1;
    kith_collection_query_init(&r->query);
    kith_fusion_options_init(&r->fusion);
    if (status == KITH_OK) status = take_all(r, err);
    if (status == KITH_OK)
        *request = r;
    else
        kith_request_free(r);
    return status;
}

void kith_request_free(kith_request *r)
{
    if (!r) return;
    ki_free(r->allocator, r->components);
    ki_free(r->allocator, r->partitions);
    ki_free(r->allocator, r->examples);
    ki_free(r->allocator, r->keys);
    ki_free(r->allocator, r->distances);
    ki_free(r->allocator, r->values);
    ki_free(r->allocator, r->groups);
    ki_request_vectors_clear(&r->vectors, r->allocator);
    json_decref(r->root);
    ki_free(r->allocator, r);
}

kith_collection_query *kith_request_query(kith_request *r)
{
    return &r->query;
}

/* ---- Searching ---- */

static kith_status make_room(kith_request *r, kith_error *err)
{
    size_t room = r->query.k * (r->group_by ? r->group_size : 1);
    if (room <= r->room) return KITH_OK;
    ki_free(r->allocator, r->keys);
    ki_free(r->allocator, r->distances);
    ki_free(r->allocator, r->values);
    ki_free(r->allocator, r->groups);
    r->room = 0;
    r->keys = ki_alloc(r->allocator, room, sizeof *r->keys);
    r->distances = ki_alloc(r->allocator, room, sizeof *r->distances);
    r->values = ki_alloc(r->allocator, room, sizeof *r->values);
    r->groups = ki_alloc(r->allocator, room, sizeof *r->groups);
    if (!r->keys || !r->distances || !r->values || !r->groups)
        return ki_fail_nomem(err, room * sizeof *r->values);
    r->room = room;
    return KITH_OK;
}

static kith_status find_examples(kith_collection *c, const json_t *list, int64_t *keys, kith_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (json_is_string(item))
            KI_TRY(kith_collection_key_of(c, json_string_value(item), &keys[i], err));
        else
            keys[i] = (int64_t)json_integer_value(item);
    }
    return KITH_OK;
}

static kith_status search_like(kith_collection *c, kith_request *r, kith_found *f, kith_error *err)
{
    const json_t *like = json_object_get(r->root, "like"), *unlike = json_object_get(r->root, "unlike");
    size_t n = json_array_size(like);
    kith_collection_examples examples = {r->examples, n, r->examples + n, json_array_size(unlike)};
    KI_TRY(find_examples(c, like, r->examples, err));
    KI_TRY(find_examples(c, unlike, r->examples + n, err));
    return kith_collection_search_examples(c, &examples, &r->query, r->keys, r->distances, &f->answer, err);
}

static kith_status search_vector(kith_collection *c, kith_request *r, kith_found *f, kith_error *err)
{
    const kith_fused_part *p = &r->parts[0];
    size_t n = 0;
    if (r->group_by)
        return kith_collection_search_groups(c, p->dim, p->vector, r->group_by, r->group_size, &r->query,
                                             r->keys, r->distances, &f->answer, err);
    if (!r->with_radius)
        return kith_collection_search(c, 1, p->dim, p->vector, &r->query, r->keys, r->distances, &f->answer,
                                      err);
    KI_TRY(kith_collection_search_range(c, p->dim, p->vector, r->radius, &r->query, r->keys, r->distances, &n,
                                        &f->more, &f->answer, err));
    if (n < r->query.k) r->keys[n] = 0;
    return KITH_OK;
}

static kith_status search(kith_collection *c, kith_request *r, kith_found *f, kith_error *err)
{
    f->scored = r->n_parts > 1;
    if (r->n_parts == 0) return search_like(c, r, f, err);
    if (r->n_parts == 1) return search_vector(c, r, f, err);
    return kith_collection_search_fused(c, r->parts, r->n_parts, &r->fusion, &r->query, r->keys, r->values,
                                        &f->answer, err);
}

/* Without the places that were not filled, which stand between groups, too. */
static void gather(kith_request *r, kith_found *f)
{
    size_t room = r->query.k * (r->group_by ? r->group_size : 1);
    for (size_t i = 0; i < room; i++) {
        if (r->keys[i] == 0 && !r->group_by) break;
        if (r->keys[i] == 0) continue;
        r->keys[f->n] = r->keys[i];
        r->groups[f->n] = i / r->group_size;
        r->values[f->n++] = f->scored ? r->values[i] : (double)r->distances[i];
    }
    f->keys = r->keys;
    f->values = r->values;
    f->groups = r->group_by ? r->groups : NULL;
}

kith_status kith_request_search(kith_collection *c, kith_request *r, kith_found *found, kith_error *err)
{
    kith_found f = {.struct_size = sizeof f};
    if (!c || !r) return ki_fail(err, KITH_INVALID, "collection or request is NULL");
    if (!found || found->struct_size != sizeof *found)
        return ki_fail(err, KITH_INVALID, "found.struct_size is %zu, expected %zu",
                       found ? found->struct_size : 0, sizeof *found);
    KI_TRY(make_room(r, err));
    int pins = c->mode == KI_IDLE;
    if (pins) KI_TRY(kith_collection_pin(c, err));
    kith_status status = search(c, r, &f, err);
    if (pins) kith_collection_unpin(c);
    if (status != KITH_OK) return status;
    gather(r, &f);
    *found = f;
    return KITH_OK;
}
