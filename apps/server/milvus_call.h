/* milvus_call.h - one request of the Milvus adapter on its way, and what its handlers share.
 *
 * A handler returns the value of "data" (json_null() counts), or NULL after mv_fail. What it borrowed is given back
 * by the dispatcher: handlers have nothing to clean up but their own memory. */
#ifndef KITH_SERVER_MILVUS_CALL_H
#define KITH_SERVER_MILVUS_CALL_H

#include <jansson.h>

#include <kith/collection.h>

#include "milvus.h"
#include "server_state.h"

/* The codes of answers, Milvus' numbers. X(NAME, number). */
#define MV_CODES(X)              \
    X(OK, 0)                     \
    X(OVERLOADED, 4)             \
    X(INTERNAL, 5)               \
    X(UNIMPLEMENTED, 10)         \
    X(COLLECTION_NOT_FOUND, 100) \
    X(PARTITION_NOT_FOUND, 200)  \
    X(INDEX_NOT_FOUND, 700)      \
    X(DATABASE_NOT_FOUND, 800)   \
    X(DATABASE_INVALID, 802)     \
    X(PARAMETER_INVALID, 1100)   \
    X(NOT_AUTHENTICATED, 1400)   \
    X(NOT_PERMITTED, 1401)       \
    X(ALIAS_NOT_FOUND, 1600)     \
    X(ALIAS_EXISTS, 1602)        \
    X(FIELD_NOT_FOUND, 1700)     \
    X(NEEDS_LOGIN, 1800)         \
    X(BAD_FORMAT, 1801)          \
    X(PARAMETER_MISSING, 1802)   \
    X(BAD_ROW, 1804)             \
    X(UNEXPECTED, 65535)

enum mv_code {
#define MV_CODE(name, number) MV_##name = number,
    MV_CODES(MV_CODE)
#undef MV_CODE
};

enum {
    MV_MAX_NAME = 160, /* of a collection, database, user, ... */
    MV_MAX_FILE = 2 * MV_MAX_NAME + 2,
    MV_MAX_FIELDS = 64,
    MV_MAX_LIMIT = 16384, /* offset + limit */
    MV_MAX_VARCHAR = 65535,
    MV_MAX_NQ = 1024,
    MV_MAX_GROUPED = 10000 /* rows of a grouped search */
};

/* ---- A collection's schema ---- */

/* X(NAME, word) in the order of Milvus' enumeration. */
#define MV_TYPES(X)                    \
    X(BOOL, "Bool")                    \
    X(INT8, "Int8")                    \
    X(INT16, "Int16")                  \
    X(INT32, "Int32")                  \
    X(INT64, "Int64")                  \
    X(FLOAT, "Float")                  \
    X(DOUBLE, "Double")                \
    X(VARCHAR, "VarChar")              \
    X(ARRAY, "Array")                  \
    X(JSON, "JSON")                    \
    X(FLOAT_VECTOR, "FloatVector")     \
    X(FLOAT16_VECTOR, "Float16Vector") \
    X(BFLOAT16_VECTOR, "BFloat16Vector")

typedef enum mv_type {
#define MV_TYPE(name, word) MV_##name,
    MV_TYPES(MV_TYPE)
#undef MV_TYPE
        MV_N_TYPES
} mv_type;

typedef struct mv_field {
    const char *name; /* of the schema's JSON */
    mv_type type, element;
    int primary, nullable;
    json_t *fallback; /* borrowed; NULL: none */
    size_t dim, max_length, max_capacity;
    int main; /* this vector field is that of the engine's rows, not one beside it */
} mv_field;

/* As the collection's named value "milvus" has it:
 *     {"description","autoID","dynamic","fields":[{"name","type",..}],"indexes":[..],"properties":{},"loaded"} */
typedef struct mv_schema {
    json_t *json;
    mv_field fields[MV_MAX_FIELDS];
    size_t n;
    const mv_field *primary;
    int dynamic, auto_id;
    int foreign; /* the collection was not made here: "id" is the engine's key, "vector" the vector of its rows */
} mv_schema;

/* ---- A request ---- */

typedef struct mv_call {
    request *request;
    server *server;
    milvus *milvus;
    json_t *body;
    const char *db;             /* of the body, a header, or "default" */
    char name[MV_MAX_FILE];     /* the collection in it that the request is about, behind its alias; "" */
    int int64_numbers;          /* the client takes integers of 64 bits as numbers, not as strings */
    role role;                  /* of the one who asks: of a token; ROLE_ADMIN when nobody need be known */
    char user[MV_MAX_NAME + 1]; /* who asks, when it is a user and not a token; "" */
    json_t *extra;              /* members beside "data" */
    size_t shown;               /* bytes of the rows that the answer has so far */
    /* The collection that mv_use has borrowed. */
    loan loan;
    kith_collection *collection;
    char file[MV_MAX_FILE]; /* its name on the shelf */
    mv_schema schema;
    /* Why it failed. */
    int code;
    char message[700];
    kith_error err;
} mv_call;

/* Fail with a code and a message; always NULL. */
json_t *mv_fail(mv_call *c, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Fail with what the engine said in c->err. */
json_t *mv_fail_engine(mv_call *c);

/* ---- Members of the body ---- */

/* A text that must be there and not be empty. NULL: failed. */
const char *mv_text(mv_call *c, const char *name);

/* A whole number of an object in low..high, as a number or as digits; absent: fallback. 0: failed. */
int mv_count(mv_call *c, const json_t *object, const char *name, size_t low, size_t high, size_t fallback,
             size_t *value);

/* A boolean, true or "true". */
int mv_flag(const json_t *object, const char *name, int fallback);

/* A name that is harmless in file names and filters: letters, digits, _, not beginning with a digit. NULL: failed. */
int mv_is_identifier(const char *words);
const char *mv_identifier(mv_call *c, const char *name);

/* An integer of 64 bits, as a number or as digits in a string. */
int mv_int64(const json_t *value, int64_t *number);

/* An integer as the client takes it: a number, or a string of digits. */
json_t *mv_int64_json(const mv_call *c, int64_t number);

/* ---- Collections (milvus_store.c) ---- */

/* The collection NAME of the database "default" is NAME.kith of the folder, that of another one DATABASE.NAME.kith. */

/* The name on the shelf of a collection of a database. 0: failed: no such database; the name is none, or the file that it would
 * come to is of another database. */
int mv_file_of(mv_call *c, const char *db, const char *name, char file[MV_MAX_FILE]);

/* Make a name, or what it is an alias of, the collection that the request is about: c->name. 0: failed. */
int mv_find(mv_call *c, const char *name);

/* The name that was found. NULL: failed, the body names none. */
const char *mv_found(mv_call *c);

/* Borrow the collection that was found, and read its schema; it is given back when the handler has returned, and a batch that
 * is open then is undone. 0: failed. */
int mv_use(mv_call *c, loan_kind kind);
void mv_give_back(mv_call *c);

/* Borrow it for writing and begin a batch. 0: failed. */
int mv_begin(mv_call *c);

/* Commit the batch. NULL: failed, else {}. */
json_t *mv_commit(mv_call *c);

/* The names of the collections of a database, an array. NULL: failed. */
json_t *mv_collections(mv_call *c, const char *db);

/* ---- Schemas (milvus_schema.c) ---- */

/* Bring what a client sent for a new collection into the kept form. NULL: failed. */
json_t *mv_schema_of_request(mv_call *c);

/* A field of a client (FieldSchema) in the kept form. NULL: failed. */
json_t *mv_field_of_request(mv_call *c, const json_t *given);

/* Take the kept form apart; *schema keeps the reference. 0: failed. */
int mv_schema_parse(mv_call *c, json_t *json, mv_schema *schema);
void mv_schema_clear(mv_schema *schema);

/* The schema of a borrowed collection, from its named value or, without one, from what it is. 0: failed. */
int mv_schema_load(mv_call *c);

/* Write c->schema.json back, inside a batch. 0: failed. */
int mv_schema_save(mv_call *c);

const mv_field *mv_field_find(const mv_schema *schema, const char *name);
int mv_is_vector(mv_type type);
const char *mv_type_name(mv_type type);

/* The definition of the index of a vector field, NULL for none; its metric. */
json_t *mv_index_of(const mv_schema *schema, const char *field);

/* Take away the definitions that have this value there; how many there were. */
size_t mv_forget_indexes(mv_schema *schema, const char *member, const char *value);

const char *mv_metric_word(kith_metric metric);
int mv_metric(mv_call *c, const char *word, kith_metric *metric);
int mv_field_metric(mv_call *c, const mv_field *field, kith_metric *metric);

/* What describe tells. */
json_t *mv_describe(mv_call *c);

/* An IndexParam of a client in the kept form. NULL: failed. */
json_t *mv_index_of_request(mv_call *c, const mv_schema *schema, const json_t *given);

/* Members of an object as [{"key","value"}]. */
json_t *mv_key_values(const json_t *object);

/* ---- Rows (milvus_rows.c) ---- */

/* Which fields an answer has. */
typedef struct mv_selection {
    const json_t *names; /* an array; NULL: none but the primary key */
    int all;             /* "*" is among them */
    int vectors;         /* a vector field is wanted */
} mv_selection;

/* Read outputFields; fallback "*": all when absent. 0: failed. */
int mv_select(mv_call *c, const json_t *names, int all_when_absent, mv_selection *selection);

/* Put one row of a client, inside a batch. *id is the id that it has then, a new reference. 0: failed. */
int mv_put_row(mv_call *c, json_t *row, const char *partition, int is_new, json_t **id);

/* The engine's key of an id; 0 in *key when there is no such row. 0: failed. */
int mv_key_of_id(mv_call *c, const json_t *id, int64_t *key);

/* A row as the client sees it. NULL without failing: it is gone. */
json_t *mv_row(mv_call *c, int64_t key, const mv_selection *selection);

/* Append a row, which is given up, to those of the answer. 0: failed: it is longer than the server shows (--max-answer). */
int mv_show(mv_call *c, json_t *rows, json_t *row);

/* Read a vector of a field's dim. 0: failed. */
int mv_vector(mv_call *c, const json_t *list, const mv_field *field, float *x);

/* ---- Filters (milvus_filter.c) ---- */

/* The engine's form of a filter: templates filled in, $meta and (in foreign collections) the primary key renamed,
 * partitions added. *expression is NULL when every row may pass, else to be freed. 0: failed. */
int mv_filter(mv_call *c, const json_t *object, const json_t *partitions, char **expression);

/* partitionNames or partitionName of an object, NULL: none. Each must exist. 0: failed. */
int mv_partitions(mv_call *c, const json_t *object, json_t **names);

/* 0: failed. */
int mv_has_partition(mv_call *c, const char *name, int *has);

/* ---- What no collection holds (milvus_catalog.c) ---- */

/* A record has a kind, a database ("" for those of the whole server) and a name. */
json_t *mv_record_get(mv_call *c, const char *kind, const char *db,
                      const char *name);                              /* NULL: none, or failed */
json_t *mv_record_list(mv_call *c, const char *kind, const char *db); /* NULL: failed */

/* Keep an object under a name; it is given up. is_new: -1 when there is one already. 0: failed. */
int mv_record_put(mv_call *c, const char *kind, const char *db, const char *name, json_t *value, int is_new);

/* -1: there was none. 0: failed. */
int mv_record_drop(mv_call *c, const char *kind, const char *db, const char *name);

int mv_has_database(mv_call *c, const char *db);

/* ---- Rights (milvus_rights.c) ---- */

typedef enum mv_right {
    MV_ANYONE, /* that every user has */
#define PRIVILEGE(name, level, rank) MV_##name,
#include "milvus_privileges.def"
#undef PRIVILEGE
} mv_right;

/* Whether there is a privilege, or a group of Milvus' own, of this name. */
int mv_is_privilege(const char *word);

/* Whether the one who asks has a token of this role, or is a user with a right to a collection. */
int mv_has_right(mv_call *c, role access, mv_right right, const char *db, const char *name);

/* Fail: not permitted. Always NULL. */
json_t *mv_refuse(mv_call *c);

/* ---- Handlers, one for each line of milvus_routes.def ---- */

#define MILVUS(path, access, about, right, handler) json_t *handler(mv_call *c);
#include "milvus_routes.def"
#undef MILVUS

#endif
