/* milvus_store.c - which file a collection of a client is, and borrowing it. */
#include <stdlib.h>
#include <string.h>

#include "milvus_call.h"

int mv_file_of(mv_call *c, const char *db, const char *name, char file[MV_MAX_FILE])
{
    int is_default = strcmp(db, "default") == 0;
    snprintf(file, MV_MAX_FILE, "%s%s%s", is_default ? "" : db, is_default ? "" : ".", name);
    if (shelf_name_is_good(file)) return 1;
    mv_fail(c, MV_PARAMETER_INVALID, "the names of database and collection together: %s", SHELF_NAME_RULE);
    return 0;
}

static json_t *no_collection(mv_call *c, const char *name)
{
    return mv_fail(c, MV_COLLECTION_NOT_FOUND, "collection not found[database=%s][collection=%.200s]", c->db,
                   name);
}

/* The name that an alias stands for, or the name itself; to be freed. NULL: out of memory. */
static char *behind_alias(mv_call *c, const char *name)
{
    json_t *alias = mv_record_get(c, "alias", c->db, name);
    const char *target = json_string_value(json_object_get(alias, "collectionName"));
    char *found = strdup(target ? target : name);
    json_decref(alias);
    return found;
}

int mv_use_named(mv_call *c, const char *name, loan_kind kind)
{
    if (!mv_has_database(c, c->db)) {
        mv_fail(c, MV_DATABASE_NOT_FOUND, "database not found[database=%s]", c->db);
        return 0;
    }
    int good = mv_file_of(c, c->db, name, c->file);
    if (good && !shelf_has(c->server->shelf, c->file) && mv_is_identifier(name)) {
        char *target = behind_alias(c, name);
        good = target && mv_file_of(c, c->db, target, c->file);
        free(target);
    }
    kith_status status =
        good ? shelf_borrow(c->server->shelf, c->file, kind, &c->loan, &c->err) : KITH_NOTFOUND;
    c->collection = c->loan.collection;
    if (status == KITH_OK) return mv_schema_load(c);
    if (status == KITH_NOTFOUND)
        no_collection(c, name);
    else
        mv_fail_engine(c);
    return 0;
}

int mv_use(mv_call *c, loan_kind kind)
{
    const char *name = mv_text(c, "collectionName");
    return name && mv_use_named(c, name, kind);
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
