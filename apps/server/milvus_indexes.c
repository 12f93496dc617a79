/* milvus_indexes.c - /indexes/...: definitions, which are kept and told again. Which index is built, and when, the engine
 * decides (kith_collection_fold); rows that no index covers are searched exactly. What does count is the metric:
 * an index definition sets that of its field, for the rows that are there, too. */
#include <stdlib.h>
#include <string.h>

#include <kith/fusion.h>

#include "milvus_call.h"

static json_t *find_index(mv_call *c, const char *name)
{
    size_t i;
    json_t *index;
    json_array_foreach(json_object_get(c->schema.json, "indexes"), i, index)
    {
        const char *has = json_string_value(json_object_get(index, "indexName"));
        if (has && strcmp(has, name) == 0) return index;
    }
    return mv_fail(c, MV_INDEX_NOT_FOUND, "index not found[indexName=%.200s]", name);
}

json_t *mv_indexes_list(mv_call *c)
{
    size_t i;
    json_t *index, *names;
    if (!mv_use(c, LOAN_READ)) return NULL;
    names = json_array();
    json_array_foreach(json_object_get(c->schema.json, "indexes"), i, index)
    {
        json_array_append(names, json_object_get(index, "indexName"));
    }
    return names;
}

json_t *mv_indexes_describe(mv_call *c)
{
    uint64_t rows;
    const char *name = mv_text(c, "indexName");
    json_t *index = name && mv_use(c, LOAN_READ) ? find_index(c, name) : NULL;
    if (!index) return NULL;
    if (kith_collection_count(c->collection, &rows, NULL, &c->err) != KITH_OK) return mv_fail_engine(c);
    json_t *told = json_pack("{sI sI si ss ss}", "totalRows", (json_int_t)rows, "indexedRows",
                             (json_int_t)rows, "pendingRows", 0, "indexState", "Finished", "failReason", "");
    json_object_update(told, index);
    return json_pack("[o]", told);
}

/* ---- Another metric ---- */

/* Copy the vectors of the rows out of what was committed, into the batch that has taken them away. */
static kith_status copy_vectors(mv_call *c, kith_collection *from)
{
    kith_row row = {0};
    kith_status status = KITH_OK;
    while (status == KITH_OK) {
        status = kith_collection_next(from, row.key, KITH_ROW_VECTOR, &row, &c->err);
        if (status != KITH_OK || row.key == 0) break;
        if (row.vector) status = kith_collection_put(c->collection, KITH_ROW_VECTOR, &row, NULL, &c->err);
    }
    return status;
}

static kith_status copy_field(mv_call *c, kith_collection *from, const char *name)
{
    kith_row row = {0};
    const float *x;
    size_t dim;
    kith_status status = KITH_OK;
    while (status == KITH_OK) {
        status = kith_collection_next(from, row.key, 0, &row, &c->err);
        if (status != KITH_OK || row.key == 0) break;
        status = kith_collection_get_vector(from, row.key, name, &x, &dim, &c->err);
        if (status == KITH_OK && x)
            status = kith_collection_put_vector(c->collection, row.key, name, x, dim, &c->err);
    }
    return status;
}

static kith_status change_metric(mv_call *c, const mv_field *field, kith_metric metric)
{
    kith_collection *from;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.read_only = 1;
    kith_status status = kith_collection_open(kith_collection_path(c->collection), &options, &from, &c->err);
    if (status != KITH_OK) return status;
    if (field->main) {
        status = kith_collection_reset_vectors(c->collection, field->dim, metric, &c->err);
        if (status == KITH_OK) status = copy_vectors(c, from);
    } else {
        status = kith_collection_vector_field_drop(c->collection, field->name, &c->err);
        if (status == KITH_OK)
            status = kith_collection_vector_field_add(c->collection, field->name, field->dim, metric, NULL,
                                                      &c->err);
        if (status == KITH_OK) status = copy_field(c, from, field->name);
    }
    kith_collection_close(from);
    return status;
}

/* ---- Definitions ---- */

static int add_index(mv_call *c, const json_t *given)
{
    kith_metric metric, wanted;
    json_t *index = mv_index_of_request(c, &c->schema, given);
    if (!index) return 0;
    const char *name = json_string_value(json_object_get(index, "fieldName"));
    const mv_field *field = mv_field_find(&c->schema, name);
    const char *metric_word = json_string_value(json_object_get(index, "metricType"));
    int good = 1;
    if (mv_is_vector(field->type)) {
        good = mv_metric(c, metric_word, &wanted) && mv_field_metric(c, field, &metric);
        if (good && wanted != metric && change_metric(c, field, wanted) != KITH_OK) {
            mv_fail_engine(c);
            good = 0;
        }
    }
    mv_forget_indexes(&c->schema, "fieldName", name);
    json_array_append_new(json_object_get(c->schema.json, "indexes"), index);
    return good;
}

json_t *mv_indexes_create(mv_call *c)
{
    const json_t *given = json_object_get(c->body, "indexParams");
    if (json_array_size(given) == 0)
        return mv_fail(c, MV_PARAMETER_MISSING,
                       "missing required parameters, error: indexParams must be an array");
    if (!mv_begin(c)) return NULL;
    if (c->schema.foreign)
        return mv_fail(c, MV_PARAMETER_INVALID,
                       "the collection was not made by this interface: its metric stays");
    for (size_t i = 0; i < json_array_size(given); i++)
        if (!add_index(c, json_array_get(given, i))) return NULL;
    return mv_schema_save(c) ? mv_commit(c) : NULL;
}

json_t *mv_indexes_drop(mv_call *c)
{
    const char *name = mv_text(c, "indexName");
    if (!name || !mv_begin(c)) return NULL;
    if (c->schema.foreign) return json_object();
    mv_forget_indexes(&c->schema, "indexName", name);
    return mv_schema_save(c) ? mv_commit(c) : NULL;
}

static json_t *index_params(mv_call *c)
{
    const char *name = mv_text(c, "indexName");
    if (!name || !mv_begin(c)) return NULL;
    if (c->schema.foreign)
        return mv_fail(c, MV_PARAMETER_INVALID,
                       "the collection was not made by this interface: it has no definitions");
    json_t *index = find_index(c, name);
    return index ? json_object_get(index, "params") : NULL;
}

json_t *mv_indexes_alter_properties(mv_call *c)
{
    json_t *given = json_object_get(c->body, "properties");
    if (!json_is_object(given))
        return mv_fail(c, MV_PARAMETER_MISSING,
                       "missing required parameters, error: properties must be an object");
    json_t *params = index_params(c);
    if (!params) return NULL;
    json_object_update(params, given);
    return mv_schema_save(c) ? mv_commit(c) : NULL;
}

json_t *mv_indexes_drop_properties(mv_call *c)
{
    json_t *keys = json_object_get(c->body, "propertyKeys"), *key, *params = index_params(c);
    size_t i;
    if (!params) return NULL;
    json_array_foreach(keys, i, key)
    {
        const char *words = json_string_value(key);
        if (words) (void)json_object_del(params, words);
    }
    return mv_schema_save(c) ? mv_commit(c) : NULL;
}
