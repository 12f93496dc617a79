/* milvus_store.c - which file a collection of a client is, and borrowing it. */
#include <stdlib.h>
#include <string.h>

#include "milvus_call.h"

/* The length of the database's name in that of a file, 0 for "default": NAME.kith, and what is of no database. */
static size_t database_of(mv_call *c, const char *file)
{
    char db[MV_MAX_NAME + 1];
    size_t n = strcspn(file, ".");
    if (file[n] == 0 || file[n + 1] == 0 || n == 0 || n > MV_MAX_NAME) return 0;
    memcpy(db, file, n);
    db[n] = 0;
    return strcmp(db, "default") != 0 && mv_is_identifier(db) && mv_has_database(c, db) ? n : 0;
}

static json_t *no_collection(mv_call *c, const char *db, const char *name)
{
    return mv_fail(c, MV_COLLECTION_NOT_FOUND, "collection not found[database=%s][collection=%.200s]", db,
                   name);
}

int mv_file_of(mv_call *c, const char *db, const char *name, char file[MV_MAX_FILE])
{
    size_t length = strcmp(db, "default") == 0 ? 0 : strlen(db);
    snprintf(file, MV_MAX_FILE, "%s%s%s", length > 0 ? db : "", length > 0 ? "." : "", name);
    if (!shelf_name_is_good(file)) {
        mv_fail(c, MV_PARAMETER_INVALID, "the names of database and collection together: %s",
                SHELF_NAME_RULE);
        return 0;
    }
    if (length > 0 && !mv_has_database(c, db)) {
        if (c->code == MV_OK) mv_fail(c, MV_DATABASE_NOT_FOUND, "database not found[database=%s]", db);
        return 0;
    }
    size_t own = database_of(c, file); /* "sales.a" is not of "default" when there is a database "sales" */
    if (own != length && c->code == MV_OK) no_collection(c, db, name);
    return c->code == MV_OK;
}

int mv_find(mv_call *c, const char *name)
{
    if (!mv_file_of(c, c->db, name, c->file)) return 0;
    int there = shelf_has(c->server->shelf, c->file);
    json_t *alias = !there && mv_is_identifier(name) ? mv_record_get(c, "alias", c->db, name) : NULL;
    const char *target = json_string_value(json_object_get(alias, "collectionName"));
    snprintf(c->name, sizeof c->name, "%s", target ? target : name);
    json_decref(alias);
    return c->code == MV_OK && mv_file_of(c, c->db, c->name, c->file);
}

const char *mv_found(mv_call *c)
{
    if (*c->name) return c->name;
    mv_fail(c, MV_PARAMETER_MISSING, "missing required parameters, error: collectionName must be a text");
    return NULL;
}

int mv_use(mv_call *c, loan_kind kind)
{
    if (!mv_found(c) || !mv_file_of(c, c->db, c->name, c->file)) return 0;
    kith_status status = shelf_borrow(c->server->shelf, c->file, kind, &c->loan, &c->err);
    c->collection = c->loan.collection;
    if (status == KITH_OK) return mv_schema_load(c);
    if (status == KITH_NOTFOUND)
        no_collection(c, c->db, c->name);
    else
        mv_fail_engine(c);
    return 0;
}

void mv_give_back(mv_call *c)
{
    mv_schema_clear(&c->schema);
    shelf_return(c->server->shelf, &c->loan);
    c->collection = NULL;
}

/* The schema is read again under the writer's lock: what the batch writes rests on it. */
int mv_begin(mv_call *c)
{
    if (!mv_use(c, LOAN_WRITE)) return 0;
    if (kith_collection_begin(c->collection, &c->err) == KITH_OK) return mv_schema_load(c);
    mv_fail_engine(c);
    return 0;
}

json_t *mv_commit(mv_call *c)
{
    if (kith_collection_commit(c->collection, &c->err) == KITH_OK) return json_object();
    return mv_fail_engine(c);
}

json_t *mv_collections(mv_call *c, const char *db)
{
    size_t n, wanted = strcmp(db, "default") == 0 ? 0 : strlen(db);
    char **names = shelf_names(c->server->shelf, &n);
    json_t *list = json_array();
    if (!names) {
        json_decref(list);
        return mv_fail(c, MV_OVERLOADED, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        size_t length = database_of(c, names[i]);
        if (length == wanted && strncmp(names[i], db, wanted) == 0)
            json_array_append_new(list, json_string(names[i] + length + (length > 0)));
    }
    shelf_free_names(names, n);
    return list;
}
