/* milvus_schema.c - what a collection's fields are: as clients say it, as it is kept, as describe tells it.
 *
 * Kept as JSON, the named value "milvus" of the collection:
 *     {"description": "", "autoID": false, "dynamic": true, "loaded": true, "next_id": 1, "properties": {..},
 *      "fields":  [{"name", "type", "primary", "nullable", "partitionKey", "clusteringKey", "default", "element", "params": {..}}],
 *      "indexes": [{"fieldName", "indexName", "indexType", "metricType", "params": {..}}]}
 * The first vector field is that of the engine's rows; others are fields of kith/fusion.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <kith/fusion.h>
#include <kith/metric.h>

#include "milvus_call.h"

#define META "milvus"

/* ---- Types and metrics ---- */

static const char *const type_words[] = {
#define MV_TYPE_WORD(name, word) word,
    MV_TYPES(MV_TYPE_WORD)
#undef MV_TYPE_WORD
};

const char *mv_type_name(mv_type type)
{
    return type_words[type];
}

/* Clients write dataType as "Int64", some as "int64". */
static int parse_type(const char *word, mv_type *type)
{
    for (int t = 0; word && t < MV_N_TYPES; t++) {
        if (strcasecmp(type_words[t], word) != 0) continue;
        *type = (mv_type)t;
        return 1;
    }
    return 0;
}

int mv_is_vector(mv_type type)
{
    return type >= MV_FLOAT_VECTOR;
}

const char *mv_metric_word(kith_metric metric)
{
    switch (metric) {
    case KITH_L2SQ: return "L2";
    case KITH_DOT: return "IP";
    case KITH_L1: return "L1";
    default: return "COSINE";
    }
}

int mv_metric(mv_call *c, const char *word, kith_metric *metric)
{
    static const kith_metric known[] = {KITH_L2SQ, KITH_DOT, KITH_COSINE, KITH_L1};
    for (size_t i = 0; word && i < sizeof known / sizeof *known; i++) {
        if (strcasecmp(word, mv_metric_word(known[i])) != 0) continue;
        *metric = known[i];
        return 1;
    }
    mv_fail(c, MV_PARAMETER_INVALID, "metricType must be L2, IP, COSINE or L1");
    return 0;
}

const mv_field *mv_field_find(const mv_schema *schema, const char *name)
{
    for (size_t i = 0; i < schema->n; i++)
        if (strcmp(schema->fields[i].name, name) == 0) return &schema->fields[i];
    return NULL;
}

json_t *mv_index_of(const mv_schema *schema, const char *field)
{
    size_t i;
    json_t *index;
    json_array_foreach(json_object_get(schema->json, "indexes"), i, index)
    {
        const char *name = json_string_value(json_object_get(index, "fieldName"));
        if (name && strcmp(name, field) == 0) return index;
    }
    return NULL;
}

size_t mv_forget_indexes(mv_schema *schema, const char *member, const char *value)
{
    json_t *indexes = json_object_get(schema->json, "indexes");
    size_t before = json_array_size(indexes);
    for (size_t i = before; i-- > 0;) {
        const char *has = json_string_value(json_object_get(json_array_get(indexes, i), member));
        if (has && strcmp(has, value) == 0) json_array_remove(indexes, i);
    }
    return before - json_array_size(indexes);
}

int mv_field_metric(mv_call *c, const mv_field *field, kith_metric *metric)
{
    kith_vector_field list[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n = KITH_COLLECTION_MAX_VECTOR_FIELDS;
    if (field->main) {
        *metric = kith_collection_metric(c->collection);
        return 1;
    }
    if (kith_collection_vector_fields(c->collection, list, &n, &c->err) == KITH_OK) {
        for (size_t i = 0; i < n; i++) {
            if (strcmp(list[i].name, field->name) != 0) continue;
            *metric = list[i].metric;
            return 1;
        }
        c->err.code = KITH_INTERNAL;
    }
    mv_fail_engine(c);
    return 0;
}

/* ---- What a client sent ---- */

static int take_params(mv_call *c, const json_t *given, mv_type type, mv_type element, json_t *params)
{
    const json_t *from = json_object_get(given, "elementTypeParams");
    size_t dim, length, capacity;
    if (!mv_count(c, from, "dim", 1, c->server->options.max_dim, 0, &dim) ||
        !mv_count(c, from, "max_length", 1, MV_MAX_VARCHAR, MV_MAX_VARCHAR, &length) ||
        !mv_count(c, from, "max_capacity", 1, 4096, 4096, &capacity))
        return 0;
    if (mv_is_vector(type) && dim == 0) {
        mv_fail(c, MV_PARAMETER_INVALID, "a vector field needs elementTypeParams.dim");
        return 0;
    }
    if (mv_is_vector(type)) json_object_set_new(params, "dim", json_integer((json_int_t)dim));
    if (type == MV_VARCHAR || (type == MV_ARRAY && element == MV_VARCHAR))
        json_object_set_new(params, "max_length", json_integer((json_int_t)length));
    if (type == MV_ARRAY) json_object_set_new(params, "max_capacity", json_integer((json_int_t)capacity));
    return 1;
}

json_t *mv_field_of_request(mv_call *c, const json_t *given)
{
    const char *name = json_string_value(json_object_get(given, "fieldName"));
    const char *word = json_string_value(json_object_get(given, "dataType"));
    const char *element_word = json_string_value(json_object_get(given, "elementDataType"));
    mv_type type, element = MV_BOOL;
    if (!name || !*name || strlen(name) > KITH_COLLECTION_MAX_FIELD_NAME || !word)
        return mv_fail(c, MV_PARAMETER_MISSING, "missing required parameters, error: fieldName and dataType");
    if (!parse_type(word, &type) ||
        (type == MV_ARRAY && (!parse_type(element_word, &element) || element >= MV_ARRAY)))
        return mv_fail(c, MV_PARAMETER_INVALID,
                       "data type %.60s of field %.60s is not one that kith has (docs/adapters.md)", word,
                       name);
    json_t *params = json_object();
    json_t *fallback = json_object_get(given, "defaultValue");
    if (!take_params(c, given, type, element, params)) {
        json_decref(params);
        return NULL;
    }
    json_t *field = json_pack("{ss ss sb sb sb sb so}", "name", name, "type", type_words[type], "primary",
                              mv_flag(given, "isPrimary", 0), "nullable", mv_flag(given, "nullable", 0),
                              "partitionKey", mv_flag(given, "isPartitionKey", 0), "clusteringKey",
                              mv_flag(given, "isClusteringKey", 0), "params", params);
    if (!field) return mv_fail(c, MV_PARAMETER_INVALID, "a name is not UTF-8");
    if (type == MV_ARRAY) json_object_set_new(field, "element", json_string(type_words[element]));
    if (fallback && !json_is_null(fallback)) json_object_set(field, "default", fallback);
    return field;
}

/* Quick create: a key, a vector, whatever else. */
static json_t *quick_fields(mv_call *c)
{
    const json_t *body = c->body, *params = json_object_get(body, "params");
    const char *id_type = json_string_value(json_object_get(body, "idType"));
    const char *key = json_string_value(json_object_get(body, "primaryFieldName"));
    const char *vector = json_string_value(json_object_get(body, "vectorFieldName"));
    size_t dim, length;
    if (!mv_count(c, body, "dimension", 1, c->server->options.max_dim, 0, &dim) ||
        !mv_count(c, params, "max_length", 1, MV_MAX_VARCHAR, KITH_COLLECTION_MAX_TEXT_KEY, &length))
        return NULL;
    if (dim == 0)
        return mv_fail(c, MV_PARAMETER_MISSING, "missing required parameters, error: dimension is required");
    json_t *fields = json_pack("[{ss ss sb s{}} {ss ss s{sI}}]", "name", key && *key ? key : "id", "type",
                               id_type && strcasecmp(id_type, "VarChar") == 0 ? "VarChar" : "Int64",
                               "primary", 1, "params", "name", vector && *vector ? vector : "vector", "type",
                               "FloatVector", "params", "dim", (json_int_t)dim);
    json_t *key_params = json_object_get(json_array_get(fields, 0), "params");
    if (id_type && strcasecmp(id_type, "VarChar") == 0)
        json_object_set_new(key_params, "max_length", json_integer((json_int_t)length));
    return fields;
}

static json_t *given_fields(mv_call *c, const json_t *schema)
{
    const json_t *list = json_object_get(schema, "fields");
    json_t *fields = json_array();
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *field = mv_field_of_request(c, json_array_get(list, i));
        if (!field) {
            json_decref(fields);
            return NULL;
        }
        json_array_append_new(fields, field);
    }
    return fields;
}

json_t *mv_index_of_request(mv_call *c, const mv_schema *schema, const json_t *given)
{
    const json_t *params = json_object_get(given, "params");
    const char *field = json_string_value(json_object_get(given, "fieldName"));
    const char *name = json_string_value(json_object_get(given, "indexName"));
    const char *type = json_string_value(json_object_get(given, "indexType"));
    const char *metric = json_string_value(json_object_get(given, "metricType"));
    const mv_field *of = field ? mv_field_find(schema, field) : NULL;
    kith_metric parsed = KITH_COSINE;
    if (!of)
        return mv_fail(c, MV_FIELD_NOT_FOUND, "cannot create index on non-existed field: %.100s",
                       field ? field : "");
    if (!type) type = json_string_value(json_object_get(params, "index_type"));
    if (!metric) metric = json_string_value(json_object_get(params, "metric_type"));
    if (mv_is_vector(of->type) && metric && *metric && !mv_metric(c, metric, &parsed)) return NULL;
    json_t *index = json_pack("{ss ss ss ss so}", "fieldName", field, "indexName",
                              name && *name ? name : field, "indexType", type && *type ? type : "AUTOINDEX",
                              "metricType", mv_is_vector(of->type) ? mv_metric_word(parsed) : "", "params",
                              params ? json_deep_copy(params) : json_object());
    return index ? index : mv_fail(c, MV_PARAMETER_INVALID, "a name is not UTF-8");
}

/* The index definitions of a new collection: those given; quick create has one of its own. */
static int take_indexes(mv_call *c, json_t *kept, int quick)
{
    mv_schema schema = {0};
    const json_t *list = json_object_get(c->body, "indexParams");
    json_t *indexes = json_object_get(kept, "indexes");
    int good = mv_schema_parse(c, json_incref(kept), &schema);
    for (size_t i = 0; good && i < json_array_size(list); i++) {
        json_t *index = mv_index_of_request(c, &schema, json_array_get(list, i));
        good = index && json_array_append_new(indexes, index) == 0;
    }
    if (good && quick && json_array_size(indexes) == 0) {
        json_t *metric = json_object_get(c->body, "metricType");
        json_t *own = json_pack("{sO sO}", "fieldName",
                                json_object_get(json_array_get(json_object_get(kept, "fields"), 1), "name"),
                                "metricType", json_is_string(metric) ? metric : json_null());
        json_t *index = mv_index_of_request(c, &schema, own);
        json_decref(own);
        good = index && json_array_append_new(indexes, index) == 0;
    }
    mv_schema_clear(&schema);
    return good;
}

json_t *mv_schema_of_request(mv_call *c)
{
    const json_t *schema = json_object_get(c->body, "schema"), *params = json_object_get(c->body, "params");
    const char *description = json_string_value(json_object_get(c->body, "description"));
    int quick = !json_is_object(schema);
    size_t ttl;
    json_t *fields = quick ? quick_fields(c) : given_fields(c, schema);
    if (!fields) return NULL;
    int auto_id = mv_flag(quick ? c->body : schema, "autoID", mv_flag(schema, "autoId", 0));
    int dynamic = quick ? mv_flag(params, "enableDynamicField", 1)
                        : mv_flag(schema, "enableDynamicField", mv_flag(schema, "enabledDynamicField", 0));
    json_t *kept = json_pack("{ss sb sb sb sI so s[] s{}}", "description", description ? description : "",
                             "autoID", auto_id, "dynamic", dynamic, "loaded", quick, "next_id", (json_int_t)1,
                             "fields", fields, "indexes", "properties");
    int good =
        kept && mv_count(c, params, "ttlSeconds", 0, INT32_MAX, 0, &ttl) && take_indexes(c, kept, quick);
    if (good && ttl > 0)
        json_object_set_new(json_object_get(kept, "properties"), "collection.ttl.seconds",
                            json_sprintf("%zu", ttl));
    if (good && json_array_size(json_object_get(kept, "indexes")) > 0)
        json_object_set_new(kept, "loaded", json_true()); /* as Milvus: with an index it is loaded at once */
    if (good) return kept;
    json_decref(kept);
    return NULL;
}

/* ---- The kept form ---- */

static int parse_field(const json_t *json, mv_field *field)
{
    const json_t *params = json_object_get(json, "params");
    const char *word = json_string_value(json_object_get(json, "type"));
    *field = (mv_field){.name = json_string_value(json_object_get(json, "name"))};
    field->primary = mv_flag(json, "primary", 0);
    field->nullable = mv_flag(json, "nullable", 0);
    field->fallback = json_object_get(json, "default");
    field->dim = (size_t)json_integer_value(json_object_get(params, "dim"));
    field->max_length = (size_t)json_integer_value(json_object_get(params, "max_length"));
    field->max_capacity = (size_t)json_integer_value(json_object_get(params, "max_capacity"));
    (void)parse_type(json_string_value(json_object_get(json, "element")), &field->element);
    return field->name && parse_type(word, &field->type);
}

/* What must hold of the fields together. */
static int check_fields(mv_call *c, mv_schema *schema)
{
    size_t keys = 0, vectors = 0;
    for (size_t i = 0; i < schema->n; i++) {
        mv_field *field = &schema->fields[i];
        if (mv_field_find(schema, field->name) != field) {
            mv_fail(c, MV_PARAMETER_INVALID, "duplicated field name: %.100s", field->name);
            return 0;
        }
        if (field->primary) keys++, schema->primary = field;
        if (mv_is_vector(field->type)) field->main = vectors++ == 0;
    }
    if (keys != 1 || (schema->primary->type != MV_INT64 && schema->primary->type != MV_VARCHAR))
        mv_fail(c, MV_PARAMETER_INVALID, "the schema needs one primary key, of type Int64 or VarChar");
    else if (vectors < 1 || vectors > KITH_COLLECTION_MAX_VECTOR_FIELDS + 1)
        mv_fail(c, MV_PARAMETER_INVALID, "the schema needs a vector field, and has at most %d",
                KITH_COLLECTION_MAX_VECTOR_FIELDS + 1);
    else
        return 1;
    return 0;
}

int mv_schema_parse(mv_call *c, json_t *json, mv_schema *schema)
{
    const json_t *fields = json_object_get(json, "fields");
    *schema = (mv_schema){.json = json, .n = json_array_size(fields)};
    schema->dynamic = mv_flag(json, "dynamic", 0);
    schema->auto_id = mv_flag(json, "autoID", 0);
    if (schema->n > MV_MAX_FIELDS) {
        mv_fail(c, MV_PARAMETER_INVALID, "a schema has at most %d fields", MV_MAX_FIELDS);
        return 0;
    }
    for (size_t i = 0; i < schema->n; i++) {
        if (parse_field(json_array_get(fields, i), &schema->fields[i])) continue;
        mv_fail(c, MV_INTERNAL, "the kept schema is damaged");
        return 0;
    }
    return check_fields(c, schema);
}

void mv_schema_clear(mv_schema *schema)
{
    json_decref(schema->json);
    *schema = (mv_schema){0};
}

/* A collection that was not made here: its rows have a key, a vector, and whatever else. */
static json_t *foreign_schema(mv_call *c)
{
    kith_vector_field list[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n = KITH_COLLECTION_MAX_VECTOR_FIELDS;
    if (kith_collection_vector_fields(c->collection, list, &n, &c->err) != KITH_OK) return mv_fail_engine(c);
    json_t *json = json_pack(
        "{ss sb sb sb s[{ss ss sb s{}} {ss ss s{sI}}] s[{ss ss ss ss s{}}] s{}}", "description", "", "autoID",
        1, "dynamic", 1, "loaded", 1, "fields", "name", "id", "type", "Int64", "primary", 1, "params", "name",
        "vector", "type", "FloatVector", "params", "dim", (json_int_t)kith_collection_dim(c->collection),
        "indexes", "fieldName", "vector", "indexName", "vector", "indexType", "AUTOINDEX", "metricType",
        mv_metric_word(kith_collection_metric(c->collection)), "params", "properties");
    for (size_t i = 0; i < n; i++) {
        json_t *field = json_pack("{ss ss s{sI}}", "name", list[i].name, "type", "FloatVector", "params",
                                  "dim", (json_int_t)list[i].dim);
        json_array_append_new(json_object_get(json, "fields"), field);
    }
    return json;
}

int mv_schema_load(mv_call *c)
{
    kith_meta meta;
    json_t *json;
    kith_status status = kith_collection_meta_get(c->collection, META, &meta, &c->err);
    if (status != KITH_OK && status != KITH_NOTFOUND) {
        mv_fail_engine(c);
        return 0;
    }
    mv_schema_clear(&c->schema);
    json = status == KITH_OK ? json_loadb(meta.value, meta.size, 0, NULL) : foreign_schema(c);
    if (!json || !mv_schema_parse(c, json, &c->schema)) {
        if (c->code == MV_OK) mv_fail(c, MV_INTERNAL, "the kept schema is damaged");
        return 0;
    }
    c->schema.foreign = status == KITH_NOTFOUND;
    return 1;
}

int mv_schema_save(mv_call *c)
{
    char *words = json_dumps(c->schema.json, JSON_COMPACT);
    kith_status status = words ? kith_collection_meta_set(c->collection, META, words, strlen(words), &c->err)
                               : (c->err.code = KITH_NOMEM);
    free(words);
    if (status != KITH_OK) mv_fail_engine(c);
    return status == KITH_OK;
}

/* ---- Telling it ---- */

json_t *mv_key_values(const json_t *object)
{
    const char *key;
    json_t *value, *list = json_array();
    json_object_foreach((json_t *)object, key, value)
    {
        char *words = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        json_array_append_new(
            list, json_pack("{ss ss}", "key", key, "value", words ? words : json_string_value(value)));
        free(words);
    }
    return list;
}

static json_t *describe_field(mv_call *c, size_t i)
{
    const mv_field *field = &c->schema.fields[i];
    const json_t *json = json_array_get(json_object_get(c->schema.json, "fields"), i);
    json_t *told =
        json_pack("{sb ss si ss sb sb sb sb ss so}", "autoId", field->primary && c->schema.auto_id,
                  "description", "", "id", 100 + (int)i, "name", field->name, "partitionKey",
                  mv_flag(json, "partitionKey", 0), "clusteringKey", mv_flag(json, "clusteringKey", 0),
                  "primaryKey", field->primary, "nullable", field->nullable, "type", type_words[field->type],
                  "params", mv_key_values(json_object_get(json, "params")));
    if (field->type == MV_ARRAY)
        json_object_set_new(told, "elementType", json_string(type_words[field->element]));
    if (field->fallback) json_object_set(told, "defaultValue", field->fallback);
    return told;
}

json_t *mv_describe(mv_call *c)
{
    kith_collection_stats stats = {.struct_size = sizeof stats};
    size_t partitions = 0, i;
    json_t *fields = json_array(), *indexes = json_array(), *index;
    if (kith_collection_get_stats(c->collection, &stats, &c->err) != KITH_OK ||
        kith_collection_partitions(c->collection, NULL, &partitions, &c->err) != KITH_OK) {
        json_decref(fields);
        json_decref(indexes);
        return mv_fail_engine(c);
    }
    for (i = 0; i < c->schema.n; i++) json_array_append_new(fields, describe_field(c, i));
    json_array_foreach(json_object_get(c->schema.json, "indexes"), i, index)
    {
        json_array_append_new(indexes,
                              json_pack("{sO sO sO}", "fieldName", json_object_get(index, "fieldName"),
                                        "indexName", json_object_get(index, "indexName"), "metricType",
                                        json_object_get(index, "metricType")));
    }
    stats.id[13] = 0; /* 52 bits: every client has them as a number */
    return json_pack(
        "{sI sO sb so s[] so ss si sI ss sb so}", "collectionID", (json_int_t)strtoll(stats.id, NULL, 16),
        "description", json_object_get(c->schema.json, "description"), "autoId", c->schema.auto_id, "fields",
        fields, "functions", "indexes", indexes, "load",
        mv_flag(c->schema.json, "loaded", 1) ? "LoadStateLoaded" : "LoadStateNotLoad", "shardsNum", 1,
        "partitionsNum", (json_int_t)partitions + 1, "consistencyLevel", "Strong", "enableDynamicField",
        c->schema.dynamic, "properties", mv_key_values(json_object_get(c->schema.json, "properties")));
}
