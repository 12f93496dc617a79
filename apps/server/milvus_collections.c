/* milvus_collections.c - /collections/...: make, describe, change and drop collections, and their fields.
 *
 * Collections need not be loaded: load and release only remember what was asked, for get_load_state. */
#include <string.h>

#include <kith/fusion.h>

#include "milvus_call.h"

/* ---- Which there are ---- */

json_t *mv_collections_list(mv_call *c)
{
    if (!mv_has_database(c, c->db))
        return mv_fail(c, MV_DATABASE_NOT_FOUND, "database not found[database=%s]", c->db);
    return mv_collections(c, c->db);
}

json_t *mv_collections_has(mv_call *c)
{
    int has = mv_use(c, LOAN_READ);
    if (!has && c->code != MV_COLLECTION_NOT_FOUND) return NULL;
    return json_pack("{sb}", "has", has);
}

static json_t *aliases_of(mv_call *c, const char *name)
{
    json_t *names = json_array(), *records = mv_record_list(c, "alias", c->db), *record;
    size_t i;
    json_array_foreach(records, i, record)
    {
        json_t *target = json_object_get(json_object_get(record, "value"), "collectionName");
        if (target && strcmp(json_string_value(target), name) == 0)
            json_array_append(names, json_object_get(record, "name"));
    }
    json_decref(records);
    return names;
}

json_t *mv_collections_describe(mv_call *c)
{
    json_t *told = mv_use(c, LOAN_READ) ? mv_describe(c) : NULL;
    if (!told) return NULL;
    size_t before = strcmp(c->db, "default") == 0 ? 0 : strlen(c->db) + 1;
    json_object_set_new(told, "collectionName", json_string(c->file + before));
    json_object_set_new(told, "aliases", aliases_of(c, c->file + before));
    return told;
}

json_t *mv_collections_get_stats(mv_call *c)
{
    uint64_t rows;
    if (!mv_use(c, LOAN_READ)) return NULL;
    if (kith_collection_count(c->collection, &rows, NULL, &c->err) != KITH_OK) return mv_fail_engine(c);
    return json_pack("{sI}", "rowCount", (json_int_t)rows);
}

json_t *mv_collections_get_load_state(mv_call *c)
{
    json_t *partitions;
    if (!mv_use(c, LOAN_READ) || !mv_partitions(c, c->body, &partitions)) return NULL;
    json_decref(partitions);
    int loaded = mv_flag(c->schema.json, "loaded", 1);
    return json_pack("{ss si ss}", "loadState", loaded ? "LoadStateLoaded" : "LoadStateNotLoad",
                     "loadProgress", loaded ? 100 : 0, "message", "");
}

/* ---- Making one ---- */

static kith_metric metric_of(mv_call *c, const mv_schema *schema, const mv_field *field)
{
    kith_metric metric = KITH_COSINE;
    const json_t *index = mv_index_of(schema, field->name);
    if (index) (void)mv_metric(c, json_string_value(json_object_get(index, "metricType")), &metric);
    return metric;
}

/* Filters over scalar fields are fast when the engine knows their kinds. */
static kith_status declare(mv_call *c, const mv_field *field)
{
    static const kith_field_kind kinds[] = {
        [MV_BOOL] = KITH_FIELD_BOOL,    [MV_INT8] = KITH_FIELD_INT,    [MV_INT16] = KITH_FIELD_INT,
        [MV_INT32] = KITH_FIELD_INT,    [MV_INT64] = KITH_FIELD_INT,   [MV_FLOAT] = KITH_FIELD_FLOAT,
        [MV_DOUBLE] = KITH_FIELD_FLOAT, [MV_VARCHAR] = KITH_FIELD_TEXT};
    if (mv_is_vector(field->type) || field->type == MV_ARRAY || field->type == MV_JSON) return KITH_OK;
    json_t *name = json_string(field->name);
    char *quoted = json_dumps(name, JSON_ENCODE_ANY), path[6 * KITH_COLLECTION_MAX_FIELD_NAME + 8];
    snprintf(path, sizeof path, "$[%s]", quoted ? quoted : "\"\"");
    json_decref(name);
    free(quoted);
    return kith_collection_field_add(c->collection, path, kinds[field->type], &c->err);
}

/* Everything about the new collection's fields, inside a batch. */
static int furnish(mv_call *c)
{
    kith_status status = KITH_OK;
    for (size_t i = 0; i < c->schema.n && status == KITH_OK; i++) {
        const mv_field *field = &c->schema.fields[i];
        if (mv_is_vector(field->type) && !field->main)
            status = kith_collection_vector_field_add(c->collection, field->name, field->dim,
                                                      metric_of(c, &c->schema, field), NULL, &c->err);
        else
            status = declare(c, field);
    }
    if (status != KITH_OK) mv_fail_engine(c);
    return status == KITH_OK;
}

typedef struct new_collection {
    mv_call *call;
    const json_t *kept;
} new_collection;

/* What it is made of is there when the first other request sees it. Why it failed is in the call. */
static kith_status fill_new(kith_collection *collection, void *ctx, kith_error *err)
{
    const new_collection *of = ctx;
    mv_call *c = of->call;
    c->collection = collection;
    mv_schema_clear(&c->schema);
    json_t *done = NULL;
    kith_status status = kith_collection_begin(collection, &c->err);
    if (status != KITH_OK)
        mv_fail_engine(c);
    else if (mv_schema_parse(c, json_deep_copy(of->kept), &c->schema) && furnish(c) && mv_schema_save(c))
        done = mv_commit(c);
    if (!done && status == KITH_OK) status = c->err.code != KITH_OK ? c->err.code : KITH_INVALID;
    json_decref(done);
    kith_collection_rollback(collection);
    c->collection = NULL;
    if (err) err->code = status;
    return status;
}

/* A second create of what is there already succeeds, as with Milvus. */
static json_t *compare(mv_call *c, const char *name, const json_t *kept)
{
    static const char *const same[] = {"fields", "autoID", "dynamic"};
    if (!mv_use(c, LOAN_READ)) return NULL;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (!json_equal(json_object_get(c->schema.json, same[i]), json_object_get(kept, same[i])))
            return mv_fail(c, MV_UNEXPECTED,
                           "create duplicate collection with different parameters, collection: %s", name);
    return json_object();
}

json_t *mv_collections_create(mv_call *c)
{
    mv_schema schema = {0};
    const char *name = mv_identifier(c, "collectionName");
    if (!name) return NULL;
    if (!mv_has_database(c, c->db))
        return mv_fail(c, MV_DATABASE_NOT_FOUND, "database not found[database=%s]", c->db);
    json_t *alias = mv_record_get(c, "alias", c->db, name), *done = NULL;
    json_decref(alias);
    if (alias) return mv_fail(c, MV_ALIAS_EXISTS, "%s is an alias", name);
    json_t *kept = mv_schema_of_request(c);
    if (!kept || !mv_file_of(c, c->db, name, c->file) || !mv_schema_parse(c, json_incref(kept), &schema)) {
        mv_schema_clear(&schema);
        json_decref(kept);
        return NULL;
    }
    const mv_field *main = schema.fields;
    while (!main->main) main++;
    new_collection new = {c, kept};
    shelf_filling filling = {fill_new, &new};
    kith_status status =
        shelf_create(c->server->shelf, c->file, main->dim, metric_of(c, &schema, main), &filling, &c->err);
    if (status == KITH_OK)
        done = json_object();
    else if (c->code != MV_OK) /* said already */
        done = NULL;
    else if (status == KITH_EXISTS)
        done = compare(c, name, kept);
    else
        mv_fail_engine(c);
    mv_schema_clear(&schema);
    json_decref(kept);
    return done;
}

/* ---- Dropping, emptying, renaming ---- */

json_t *mv_collections_drop(mv_call *c)
{
    const char *name = mv_found(c);
    if (!name || !mv_file_of(c, c->db, name, c->file)) return NULL;
    json_t *aliases = aliases_of(c, name);
    size_t n = json_array_size(aliases);
    json_decref(aliases);
    if (n > 0) return mv_fail(c, MV_UNEXPECTED, "cannot drop the collection via alias, or while it has one");
    kith_status status = shelf_drop(c->server->shelf, c->file, &c->err);
    if (status == KITH_OK || status == KITH_NOTFOUND) return json_object(); /* as Milvus: gone is gone */
    return mv_fail_engine(c);
}

json_t *mv_collections_truncate(mv_call *c)
{
    if (!mv_begin(c)) return NULL;
    if (kith_collection_delete_where(c->collection, "$key > 0", NULL, &c->err) != KITH_OK)
        return mv_fail_engine(c);
    return mv_commit(c);
}

/* Aliases stay with the collection. */
static int turn_aliases(mv_call *c, const json_t *aliases, const char *name)
{
    for (size_t i = 0; i < json_array_size(aliases); i++) {
        const char *alias = json_string_value(json_array_get(aliases, i));
        if (!mv_record_put(c, "alias", c->db, alias, json_pack("{ss}", "collectionName", name), 0)) return 0;
    }
    return 1;
}

json_t *mv_collections_rename(mv_call *c)
{
    char from[MV_MAX_FILE], to[MV_MAX_FILE];
    const char *name = mv_found(c), *new_name = mv_identifier(c, "newCollectionName");
    const char *new_db = json_string_value(json_object_get(c->body, "newDbName"));
    if (!name || !new_name) return NULL;
    if (!new_db || !*new_db) new_db = c->db;
    if (!mv_is_identifier(new_db) || !mv_has_database(c, new_db))
        return mv_fail(c, MV_DATABASE_NOT_FOUND, "database not found[database=%.200s]", new_db);
    if (!mv_file_of(c, c->db, name, from) || !mv_file_of(c, new_db, new_name, to)) return NULL;
    json_t *aliases = aliases_of(c, name);
    if (json_array_size(aliases) > 0 && strcmp(new_db, c->db) != 0)
        mv_fail(c, MV_UNEXPECTED, "a collection that has an alias stays in its database");
    else if (shelf_rename(c->server->shelf, from, to, &c->err) != KITH_OK)
        mv_fail_engine(c);
    else
        turn_aliases(c, aliases, new_name);
    json_decref(aliases);
    return c->code == MV_OK ? json_object() : NULL;
}

/* ---- States and properties ---- */

static json_t *set_loaded(mv_call *c, int loaded)
{
    if (!mv_begin(c)) return NULL;
    if (c->schema.foreign) return json_object();
    json_object_set_new(c->schema.json, "loaded", json_boolean(loaded));
    return mv_schema_save(c) ? mv_commit(c) : NULL;
}

json_t *mv_collections_load(mv_call *c)
{
    return set_loaded(c, 1);
}

json_t *mv_collections_release(mv_call *c)
{
    return set_loaded(c, 0);
}

static json_t *foreign_is_fixed(mv_call *c)
{
    return mv_fail(c, MV_PARAMETER_INVALID,
                   "the collection was not made by this interface: it has no schema of its own");
}

json_t *mv_collections_alter_properties(mv_call *c)
{
    json_t *given = json_object_get(c->body, "properties");
    if (!json_is_object(given))
        return mv_fail(c, MV_PARAMETER_MISSING,
                       "missing required parameters, error: properties must be an object");
    if (!mv_begin(c)) return NULL;
    if (c->schema.foreign) return foreign_is_fixed(c);
    json_object_update(json_object_get(c->schema.json, "properties"), given);
    return mv_schema_save(c) ? mv_commit(c) : NULL;
}

json_t *mv_collections_drop_properties(mv_call *c)
{
    json_t *keys = json_object_get(c->body, "propertyKeys"), *key;
    size_t i;
    if (!json_is_array(keys))
        return mv_fail(c, MV_PARAMETER_MISSING,
                       "missing required parameters, error: propertyKeys must be an array");
    if (!mv_begin(c)) return NULL;
    if (c->schema.foreign) return foreign_is_fixed(c);
    json_array_foreach(keys, i, key)
    {
        const char *words = json_string_value(key);
        if (words) (void)json_object_del(json_object_get(c->schema.json, "properties"), words);
    }
    return mv_schema_save(c) ? mv_commit(c) : NULL;
}

/* ---- Upkeep (compact is in milvus_compact.c) ---- */

/* Nothing to do: what was answered is on the disk. */
json_t *mv_collections_flush(mv_call *c)
{
    return mv_use(c, LOAN_READ) ? json_object() : NULL;
}

/* ---- Fields ---- */

json_t *mv_fields_add(mv_call *c)
{
    if (!mv_begin(c)) return NULL;
    if (c->schema.foreign) return foreign_is_fixed(c);
    json_t *field = mv_field_of_request(c, json_object_get(c->body, "schema"));
    if (!field) return NULL;
    mv_schema changed = {0};
    json_array_append_new(json_object_get(c->schema.json, "fields"), field);
    int good = mv_schema_parse(c, json_incref(c->schema.json), &changed);
    const mv_field *added = good ? &changed.fields[changed.n - 1] : NULL;
    if (good && !added->nullable)
        mv_fail(c, MV_PARAMETER_INVALID, "a field that is added must be nullable: %.100s", added->name),
            good = 0;
    if (good && mv_is_vector(added->type)) {
        if (kith_collection_vector_field_add(c->collection, added->name, added->dim, KITH_COSINE, NULL,
                                             &c->err) != KITH_OK)
            mv_fail_engine(c), good = 0;
    } else if (good && declare(c, added) != KITH_OK) {
        mv_fail_engine(c), good = 0;
    }
    mv_schema_clear(&changed);
    return good && mv_schema_save(c) ? mv_commit(c) : NULL;
}

/* Take a member out of every payload. */
static int forget_values(mv_call *c, const char *name)
{
    kith_row row = {0};
    json_t *patch = json_pack("{sn}", name);
    char *words = json_dumps(patch, JSON_COMPACT);
    kith_status status = words ? KITH_OK : (c->err.code = KITH_NOMEM);
    while (status == KITH_OK) {
        status = kith_collection_next(c->collection, row.key, 0, &row, &c->err);
        if (status != KITH_OK || row.key == 0) break;
        status = kith_collection_merge(c->collection, row.key, words, 0, &c->err);
    }
    free(words);
    json_decref(patch);
    if (status != KITH_OK) mv_fail_engine(c);
    return status == KITH_OK;
}

static int undeclare(mv_call *c, const mv_field *field)
{
    kith_status status;
    if (mv_is_vector(field->type)) {
        status = kith_collection_vector_field_drop(c->collection, field->name, &c->err);
    } else {
        char path[6 * KITH_COLLECTION_MAX_FIELD_NAME + 8];
        json_t *name = json_string(field->name);
        char *quoted = json_dumps(name, JSON_ENCODE_ANY);
        snprintf(path, sizeof path, "$[%s]", quoted ? quoted : "\"\"");
        status = kith_collection_field_drop(c->collection, path, &c->err);
        free(quoted);
        json_decref(name);
    }
    if (status == KITH_OK || status == KITH_NOTFOUND) return 1;
    mv_fail_engine(c);
    return 0;
}

json_t *mv_fields_drop(mv_call *c)
{
    const char *name = mv_text(c, "fieldName");
    if (!name || !mv_begin(c)) return NULL;
    if (c->schema.foreign) return foreign_is_fixed(c);
    const mv_field *field = mv_field_find(&c->schema, name);
    if (!field) return mv_fail(c, MV_FIELD_NOT_FOUND, "field not found[field=%.100s]", name);
    if (field->primary || field->main)
        return mv_fail(c, MV_PARAMETER_INVALID, "the primary key and the first vector field stay");
    if (!undeclare(c, field)) return NULL;
    if (!mv_is_vector(field->type) && !forget_values(c, name)) return NULL;
    mv_forget_indexes(&c->schema, "fieldName", name);
    json_array_remove(json_object_get(c->schema.json, "fields"), (size_t)(field - c->schema.fields));
    return mv_schema_save(c) ? mv_commit(c) : NULL;
}

json_t *mv_fields_alter(mv_call *c)
{
    const char *name = mv_text(c, "fieldName");
    const json_t *given = json_object_get(c->body, "fieldParams");
    size_t length, capacity;
    if (!name || !mv_count(c, given, "max_length", 1, MV_MAX_VARCHAR, 0, &length) ||
        !mv_count(c, given, "max_capacity", 1, 4096, 0, &capacity) || !mv_begin(c))
        return NULL;
    if (c->schema.foreign) return foreign_is_fixed(c);
    const mv_field *field = mv_field_find(&c->schema, name);
    if (!field) return mv_fail(c, MV_FIELD_NOT_FOUND, "field not found[field=%.100s]", name);
    json_t *kept =
        json_array_get(json_object_get(c->schema.json, "fields"), (size_t)(field - c->schema.fields));
    json_t *params = json_object_get(kept, "params");
    if (length > 0) json_object_set_new(params, "max_length", json_integer((json_int_t)length));
    if (capacity > 0) json_object_set_new(params, "max_capacity", json_integer((json_int_t)capacity));
    if (json_object_get(given, "mmap_enabled"))
        json_object_set(params, "mmap_enabled", json_object_get(given, "mmap_enabled"));
    return mv_schema_save(c) ? mv_commit(c) : NULL;
}
