/* vearch_spaces.c - /dbs/..., /dbs/.../spaces/... and /index/...: databases, spaces, and the upkeep of their indexes. */
#include <string.h>

#include "vearch.h"

/* ---- Dbs ---- */

static json_t *named_db(const char *name)
{
    return json_pack("{ss}", "name", name);
}

json_t *vearch_dbs_list(mv_call *c)
{
    size_t i;
    json_t *name, *names = mv_databases_list(c), *list = names ? json_array() : NULL;
    json_array_foreach(names, i, name)
    {
        json_array_append_new(list, named_db(json_string_value(name)));
    }
    json_decref(names);
    return list;
}

json_t *vearch_dbs_create(mv_call *c)
{
    json_t *done = mv_databases_create(c);
    json_decref(done);
    return done ? named_db(c->db) : NULL;
}

json_t *vearch_dbs_get(mv_call *c)
{
    json_t *told = mv_databases_describe(c);
    if (!told) return NULL;
    json_object_set_new(told, "name", json_string(c->db));
    json_object_set(told, "id", json_object_get(told, "dbId"));
    return told;
}

json_t *vearch_dbs_drop(mv_call *c)
{
    if (mv_has_database(c, c->db)) return mv_databases_drop(c);
    return c->code == MV_OK ? mv_fail(c, MV_DATABASE_NOT_FOUND, "there is no db %s", c->db) : NULL;
}

/* ---- Making a space ---- */

static const struct {
    const char *theirs, *ours, *element;
} types[] = {
    {"integer", "Int32", NULL},          {"long", "Int64", NULL}, {"float", "Float", NULL},
    {"double", "Double", NULL},          {"bool", "Bool", NULL},  {"string", "VarChar", NULL},
    {"stringArray", "Array", "VarChar"}, {"date", "JSON", NULL},  {"vector", "FloatVector", NULL},
};

static json_t *field_of(mv_call *c, const json_t *given)
{
    const char *name = json_string_value(json_object_get(given, "name"));
    const char *type = json_string_value(json_object_get(given, "type"));
    const json_t *dim = json_object_get(given, "dimension");
    size_t i = 0;
    while (type && i < sizeof types / sizeof *types && strcasecmp(types[i].theirs, type) != 0) i++;
    if (!name || !type || i == sizeof types / sizeof *types)
        return mv_fail(c, MV_PARAMETER_INVALID,
                       "a field has a name and a type: integer, long, float, double, bool, string, "
                       "stringArray, date, vector");
    json_t *field = json_pack("{ss ss sb}", "fieldName", name, "dataType", types[i].ours, "nullable", 1);
    if (types[i].element) json_object_set_new(field, "elementDataType", json_string(types[i].element));
    if (dim) json_object_set_new(field, "elementTypeParams", json_pack("{sO}", "dim", dim));
    return field;
}

/* The metric of an index: "InnerProduct" (the usual one), "L2", "Cosine". */
static json_t *index_of(mv_call *c, const json_t *given)
{
    const json_t *index = json_object_get(given, "index"), *params = json_object_get(index, "params");
    const char *metric = json_string_value(json_object_get(params, "metric_type"));
    const char *type = json_string_value(json_object_get(index, "type"));
    const char *name = json_string_value(json_object_get(given, "name"));
    if (!metric || strcasecmp(metric, "InnerProduct") == 0) metric = "IP";
    json_t *told =
        json_pack("{ss ss ss ss so}", "fieldName", name, "indexName", name, "indexType", type ? type : "FLAT",
                  "metricType", metric, "params", params ? json_deep_copy(params) : json_object());
    return told ? told : mv_fail(c, MV_PARAMETER_INVALID, "a name is not UTF-8");
}

/* Clients send fields as an array, older ones as an object of the names. */
static json_t *listed(const json_t *fields)
{
    const char *name;
    json_t *field, *list = json_is_array(fields) ? json_deep_copy(fields) : json_array();
    json_object_foreach((json_t *)fields, name, field)
    {
        json_t *copy = json_deep_copy(field);
        json_object_set_new(copy, "name", json_string(name));
        json_array_append_new(list, copy);
    }
    return list;
}

static int take_fields(mv_call *c, const json_t *given, json_t *fields, json_t *indexes)
{
    for (size_t i = 0; i < json_array_size(given); i++) {
        const json_t *one = json_array_get(given, i);
        json_t *field = field_of(c, one);
        if (!field) return 0;
        json_array_append_new(fields, field);
        if (strcmp(json_string_value(json_object_get(field, "dataType")), "FloatVector") != 0) continue;
        json_t *index = index_of(c, one);
        if (!index) return 0;
        json_array_append_new(indexes, index);
    }
    return 1;
}

json_t *vearch_spaces_create(mv_call *c)
{
    json_t *given = listed(json_object_get(c->body, "fields"));
    json_t *fields = json_pack("[{ss ss sb s{si}}]", "fieldName", "_id", "dataType", "VarChar", "isPrimary",
                               1, "elementTypeParams", "max_length", KITH_COLLECTION_MAX_TEXT_KEY);
    json_t *indexes = json_array(), *done = NULL;
    int good = take_fields(c, given, fields, indexes);
    json_t *body = json_pack("{s{so} so}", "schema", "fields", fields, "indexParams", indexes);
    if (good)
        done = vearch_ask(c, mv_collections_create, body);
    else
        json_decref(body);
    json_decref(given);
    json_decref(done);
    return done ? vearch_spaces_get(c) : NULL;
}

/* ---- Telling of spaces ---- */

static const char *their_type(const mv_field *field)
{
    const char *ours = mv_type_name(field->type);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].ours, ours) == 0) return types[i].theirs;
    return "integer"; /* Int8, Int16 of a collection that the other adapter made */
}

static json_t *told_field(mv_call *c, const mv_field *field)
{
    json_t *told = json_pack("{ss ss}", "name", field->name, "type", their_type(field));
    const json_t *index = mv_index_of(&c->schema, field->name);
    if (!mv_is_vector(field->type)) return told;
    json_object_set_new(told, "dimension", json_integer((json_int_t)field->dim));
    if (!index) return told;
    json_t *params = json_deep_copy(json_object_get(index, "params"));
    if (!json_object_get(params, "metric_type"))
        json_object_set(params, "metric_type", json_object_get(index, "metricType"));
    json_object_set_new(told, "index",
                        json_pack("{sO sO so}", "name", json_object_get(index, "indexName"), "type",
                                  json_object_get(index, "indexType"), "params", params));
    return told;
}

json_t *vearch_spaces_get(mv_call *c)
{
    uint64_t rows;
    if (!mv_use(c, LOAN_READ)) return NULL;
    if (kith_collection_count(c->collection, &rows, NULL, &c->err) != KITH_OK) return mv_fail_engine(c);
    json_t *fields = json_array();
    for (size_t i = 0; i < c->schema.n; i++)
        if (!c->schema.fields[i].primary) json_array_append_new(fields, told_field(c, &c->schema.fields[i]));
    return json_pack("{sO ss sI si si s[{si sI sI si}] s{so} ss}", "space_name",
                     json_object_get(c->body, "collectionName"), "db_name", c->db, "doc_num",
                     (json_int_t)rows, "partition_num", 1, "replica_num", 1, "partitions", "pid", 1,
                     "doc_num", (json_int_t)rows, "index_num", (json_int_t)rows, "status", 1, "schema",
                     "fields", fields, "status", "green");
}

json_t *vearch_spaces_list(mv_call *c)
{
    json_t *names = mv_collections_list(c), *list = names ? json_array() : NULL;
    for (size_t i = 0; i < json_array_size(names) && c->code == MV_OK; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (!mv_has_right(c, ROLE_READ, MV_DescribeCollection, c->db, name)) continue;
        json_object_set(c->body, "collectionName", json_array_get(names, i));
        json_t *one = mv_find(c, name) ? vearch_spaces_get(c) : NULL;
        mv_give_back(c);
        if (one) json_array_append_new(list, one);
    }
    json_decref(names);
    if (c->code == MV_OK) return list;
    json_decref(list);
    return NULL;
}

json_t *vearch_spaces_drop(mv_call *c)
{
    if (!mv_use(c, LOAN_READ)) return NULL; /* that it is there */
    mv_give_back(c);
    return mv_collections_drop(c);
}

/* ---- /index ---- */

json_t *vearch_index_flush(mv_call *c)
{
    return mv_collections_flush(c);
}

json_t *vearch_index_build(mv_call *c)
{
    return mv_collections_compact(c);
}
