/* milvus_names.c - /aliases/... and /databases/...: names for collections, and groups of them. */
#include <string.h>
#include <time.h>

#include "milvus_call.h"

/* The names of the records of a kind. */
static json_t *names_of(mv_call *c, const char *kind, const char *db)
{
    json_t *records = mv_record_list(c, kind, db), *record, *names = records ? json_array() : NULL;
    size_t i;
    json_array_foreach(records, i, record)
    {
        json_array_append(names, json_object_get(record, "name"));
    }
    json_decref(records);
    return names;
}

/* ---- Aliases ---- */

json_t *mv_aliases_list(mv_call *c)
{
    size_t i;
    json_t *record, *records = mv_record_list(c, "alias", c->db), *names = records ? json_array() : NULL;
    const json_t *only = json_object_get(c->body, "collectionName");
    json_array_foreach(records, i, record)
    {
        json_t *target = json_object_get(json_object_get(record, "value"), "collectionName");
        if (!json_string_length(only) || json_equal(only, target))
            json_array_append(names, json_object_get(record, "name"));
    }
    json_decref(records);
    return names;
}

json_t *mv_aliases_describe(mv_call *c)
{
    const char *alias = mv_identifier(c, "aliasName");
    json_t *record = alias ? mv_record_get(c, "alias", c->db, alias) : NULL;
    if (record) {
        json_object_set_new(record, "aliasName", json_string(alias));
        json_object_set_new(record, "dbName", json_string(c->db));
        return record;
    }
    return c->code == MV_OK
               ? mv_fail(c, MV_ALIAS_NOT_FOUND, "alias not found[database=%s][alias=%s]", c->db, alias)
               : NULL;
}

static json_t *put_alias(mv_call *c, int is_new)
{
    char file[MV_MAX_FILE];
    const char *alias = mv_identifier(c, "aliasName"), *name = mv_found(c);
    if (!alias || !name || !mv_file_of(c, c->db, name, file)) return NULL;
    if (!shelf_has(c->server->shelf, file))
        return mv_fail(c, MV_COLLECTION_NOT_FOUND, "collection not found[database=%s][collection=%.200s]",
                       c->db, name);
    if (!mv_file_of(c, c->db, alias, file)) return NULL;
    if (shelf_has(c->server->shelf, file))
        return mv_fail(c, MV_ALIAS_EXISTS, "there is a collection of the name %s", alias);
    int put = mv_record_put(c, "alias", c->db, alias, json_pack("{ss}", "collectionName", name), is_new);
    if (put < 0) return mv_fail(c, MV_ALIAS_EXISTS, "%s is an alias already; alter it", alias);
    return put ? json_object() : NULL;
}

json_t *mv_aliases_create(mv_call *c)
{
    return put_alias(c, 1);
}

json_t *mv_aliases_alter(mv_call *c)
{
    json_t *known = mv_aliases_describe(c);
    json_decref(known);
    return known ? put_alias(c, 0) : NULL;
}

json_t *mv_aliases_drop(mv_call *c)
{
    const char *alias = mv_identifier(c, "aliasName");
    return alias && mv_record_drop(c, "alias", c->db, alias) != 0 ? json_object() : NULL;
}

/* ---- Databases ---- */

json_t *mv_databases_list(mv_call *c)
{
    size_t i;
    json_t *name, *known = names_of(c, "database", ""), *names = known ? json_pack("[s]", "default") : NULL;
    json_array_foreach(known, i, name)
    {
        if (strcmp(json_string_value(name), "default") != 0) json_array_append(names, name);
    }
    json_decref(known);
    return names;
}

/* The record of the body's database; "default" has one only when it has properties. NULL: failed. */
static json_t *database(mv_call *c)
{
    const char *name = mv_identifier(c, "dbName");
    json_t *record = name ? mv_record_get(c, "database", "", name) : NULL;
    if (record || c->code != MV_OK) return record;
    if (strcmp(name, "default") == 0)
        return json_pack("{si ss s{}}", "dbId", 1, "createdTime", "", "properties");
    return mv_fail(c, MV_DATABASE_NOT_FOUND, "database not found[database=%s]", name);
}

json_t *mv_databases_describe(mv_call *c)
{
    json_t *record = database(c);
    if (!record) return NULL;
    json_object_set(record, "dbName", json_object_get(c->body, "dbName"));
    json_object_set_new(record, "properties", mv_key_values(json_object_get(record, "properties")));
    return record;
}

json_t *mv_databases_create(mv_call *c)
{
    char when[32];
    const char *name = mv_identifier(c, "dbName");
    const json_t *properties = json_object_get(c->body, "properties");
    time_t now = time(NULL);
    struct tm utc;
    if (!name) return NULL;
    if (strcmp(name, "default") == 0)
        return mv_fail(c, MV_DATABASE_INVALID, "database already exist: default");
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    json_t *record = json_pack("{sI ss so}", "dbId", (json_int_t)now, "createdTime", when, "properties",
                               json_is_object(properties) ? json_deep_copy(properties) : json_object());
    int put = mv_record_put(c, "database", "", name, record, 1);
    if (put >= 0) return put ? json_object() : NULL;
    return mv_fail(c, MV_DATABASE_INVALID, "database already exist: %s", name);
}

/* Drop the aliases of a database: the next one of its name is not to have them. 0: failed. */
static int drop_aliases(mv_call *c, const char *db)
{
    size_t i;
    json_t *name, *names = names_of(c, "alias", db);
    json_array_foreach(names, i, name)
    {
        if (mv_record_drop(c, "alias", db, json_string_value(name)) == 0) break;
    }
    json_decref(names);
    return c->code == MV_OK;
}

json_t *mv_databases_drop(mv_call *c)
{
    const char *name = mv_identifier(c, "dbName");
    if (!name) return NULL;
    if (strcmp(name, "default") == 0) return mv_fail(c, MV_DATABASE_INVALID, "the default database stays");
    if (!mv_has_database(c, name)) return c->code == MV_OK ? json_object() : NULL;
    json_t *inside = mv_collections(c, name);
    size_t n = json_array_size(inside);
    json_decref(inside);
    if (!inside) return NULL;
    if (n > 0) return mv_fail(c, MV_UNEXPECTED, "database: %s is not empty, it has %zu collections", name, n);
    return drop_aliases(c, name) && mv_record_drop(c, "database", "", name) != 0 ? json_object() : NULL;
}

json_t *mv_databases_alter(mv_call *c)
{
    json_t *given = json_object_get(c->body, "properties"), *record;
    if (!json_is_object(given))
        return mv_fail(c, MV_PARAMETER_MISSING,
                       "missing required parameters, error: properties must be an object");
    if (!(record = database(c))) return NULL;
    json_object_update(json_object_get(record, "properties"), given);
    return mv_record_put(c, "database", "", c->db, record, 0) ? json_object() : NULL;
}

json_t *mv_databases_drop_properties(mv_call *c)
{
    json_t *keys = json_object_get(c->body, "propertyKeys"), *key, *record = database(c);
    size_t i;
    if (!record) return NULL;
    json_array_foreach(keys, i, key)
    {
        const char *words = json_string_value(key);
        if (words) (void)json_object_del(json_object_get(record, "properties"), words);
    }
    return mv_record_put(c, "database", "", c->db, record, 0) ? json_object() : NULL;
}
