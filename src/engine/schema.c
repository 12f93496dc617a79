/* schema.c - the tables of a collection, by version, and the row that holds its state.
 *
 * A file's version is SQLite's user_version. Each version is a migration from the one before; a new file is made by
 * running them all, so there is one description of the tables, and an old file brought up to date is the same as a
 * new one. What the tables hold, and the invariants between them, is docs/collection-format.md. */
#include "engine/engine.h"
#include "engine/expiry.h"
#include "engine/fields.h"
#include "engine/spaces.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* migrations[v] makes version v + 1 of version v. A later version adds its text and nothing is ever changed. */
static const char *const migrations[KI_SCHEMA_VERSION] = {
    "CREATE TABLE collection(one INTEGER PRIMARY KEY CHECK(one = 1), id BLOB NOT NULL, dim INTEGER NOT NULL,"
    " metric INTEGER NOT NULL, version INTEGER NOT NULL, oldest INTEGER NOT NULL, reset_version INTEGER NOT "
    "NULL,"
    " stamp INTEGER NOT NULL, rows INTEGER NOT NULL, vectors INTEGER NOT NULL, last_key INTEGER NOT NULL,"
    " last_slot INTEGER NOT NULL) STRICT;"
    /* Keys are apart from slots: slots of deleted rows are used again, so that the table stays dense. */
    "CREATE TABLE record(slot INTEGER PRIMARY KEY, key INTEGER NOT NULL, payload TEXT NOT NULL, vector BLOB) "
    "STRICT;"
    "CREATE UNIQUE INDEX record_key ON record(key);"
    /* Apart from the rows, so that a scan of vectors does not read thumbnails. */
    "CREATE TABLE attachment(slot INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;"
    "CREATE TABLE free_slot(slot INTEGER PRIMARY KEY) STRICT;"
    "CREATE TABLE change(version INTEGER PRIMARY KEY, key INTEGER NOT NULL, parts INTEGER NOT NULL) STRICT;"
    "CREATE TABLE batch(version INTEGER PRIMARY KEY, stamp INTEGER NOT NULL) STRICT;"
    "CREATE TABLE named(name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;",
    /* Version 2: declared fields, keys that are texts, rows that expire. */
    "CREATE TABLE field(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL) STRICT;"
    /* One table for all fields, so that declaring one does not change the schema. In its own order it is the index: by
     * field, then value. */
    "CREATE TABLE field_value(field INTEGER NOT NULL, value ANY NOT NULL, key INTEGER NOT NULL,"
    " PRIMARY KEY(field, value, key)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE text_key(key INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;"
    "CREATE UNIQUE INDEX text_key_text ON text_key(text);"
    "CREATE TABLE expiry(key INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;"
    "CREATE INDEX expiry_at ON expiry(at);",
    /* Version 3: partitions, and vector fields beside that of the record. */
    "CREATE TABLE part(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE member(key INTEGER PRIMARY KEY, part INTEGER NOT NULL) STRICT;"
    "CREATE INDEX member_part ON member(part);"
    "CREATE TABLE space(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dim INTEGER NOT NULL,"
    " metric INTEGER NOT NULL, spec TEXT NOT NULL, made INTEGER NOT NULL, vectors INTEGER NOT NULL) STRICT;"
    /* One table for all fields, so that declaring one does not change the schema; the vectors of a field stand together,
     * in the order of the slots. */
    "CREATE TABLE space_vector(place INTEGER PRIMARY KEY, key INTEGER NOT NULL, vector BLOB NOT NULL) "
    "STRICT;",
};

static kith_status migrate(kith_collection *c, int64_t from, int64_t to, kith_error *err)
{
    for (int64_t v = from; v < to; v++) KI_TRY(ki_db_exec(c, migrations[v], "tables cannot be made", err));
    char pragma[64];
    snprintf(pragma, sizeof pragma, "PRAGMA user_version=%d", (int)to);
    return ki_db_exec(c, pragma, "tables cannot be made", err);
}

/* ---- The state ---- */

/* A number that the file claims, within the bounds given. */
static int bounded(sqlite3_stmt *stmt, int column, int64_t low, int64_t high, int64_t *value)
{
    if (sqlite3_column_type(stmt, column) != SQLITE_INTEGER) return 0;
    *value = sqlite3_column_int64(stmt, column);
    return *value >= low && *value <= high;
}

static int state_from_row(sqlite3_stmt *stmt, ki_state *s)
{
    int64_t dim, metric, version, oldest, reset, stamp, rows, vectors, last_key, last_slot;
    /* Versions stay far from the end of int64, so that sums of them cannot overflow. */
    const int64_t far = INT64_MAX / 4;
    if (sqlite3_column_type(stmt, 0) != SQLITE_BLOB || sqlite3_column_bytes(stmt, 0) != sizeof s->id)
        return 0;
    if (!bounded(stmt, 1, 0, KITH_COLLECTION_MAX_DIM, &dim) ||
        !bounded(stmt, 2, KITH_L2SQ, KITH_L1, &metric) || !bounded(stmt, 3, 0, far, &version) ||
        !bounded(stmt, 4, 1, version + 1, &oldest) || !bounded(stmt, 5, 0, version, &reset) ||
        !bounded(stmt, 6, INT64_MIN, INT64_MAX, &stamp) || !bounded(stmt, 9, 0, INT64_MAX, &last_key) ||
        !bounded(stmt, 10, 0, far, &last_slot) || !bounded(stmt, 7, 0, last_slot, &rows) ||
        !bounded(stmt, 8, 0, rows, &vectors) || (dim == 0 && vectors > 0))
        return 0;
    *s = (ki_state){
        .dim = (size_t)dim,
        .metric = (kith_metric)metric,
        .version = (uint64_t)version,
        .oldest = (uint64_t)oldest,
        .reset_version = (uint64_t)reset,
        .stamp = (uint64_t)stamp,
        .rows = (uint64_t)rows,
        .vectors = (uint64_t)vectors,
        .last_key = last_key,
        .last_slot = last_slot,
    };
    memcpy(s->id, sqlite3_column_blob(stmt, 0), sizeof s->id);
    return 1;
}

kith_status ki_state_read(kith_collection *c, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_STATE_READ, &stmt, err));
    KI_TRY(ki_db_step(c, KI_SQL_STATE_READ, &row, err));
    ki_state state;
    int good = row && state_from_row(stmt, &state);
    ki_db_reset(c, KI_SQL_STATE_READ);
    if (!good) return ki_corrupt(c, err, "table collection does not hold a valid state");
    c->state = state;
    return KITH_OK;
}

kith_status ki_state_write(kith_collection *c, kith_error *err)
{
    sqlite3_stmt *stmt;
    const ki_state *s = &c->state;
    KI_TRY(ki_db_prepare(c, KI_SQL_STATE_WRITE, &stmt, err));
    const int64_t values[] = {(int64_t)s->dim,    (int64_t)s->metric,        (int64_t)s->version,
                              (int64_t)s->oldest, (int64_t)s->reset_version, (int64_t)s->stamp,
                              (int64_t)s->rows,   (int64_t)s->vectors,       s->last_key,
                              s->last_slot};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        sqlite3_bind_int64(stmt, (int)i + 1, values[i]);
    return ki_db_run(c, KI_SQL_STATE_WRITE, err);
}

/* ---- Making and opening ---- */

kith_status ki_schema_create(kith_collection *c, kith_error *err)
{
    char pragma[64];
    snprintf(pragma, sizeof pragma, "PRAGMA application_id=%d", c->half ? KI_PART_ID : KI_APPLICATION_ID);
    char begin[64];
    snprintf(begin, sizeof begin, "PRAGMA page_size=%d; BEGIN", KI_PAGE_BYTES);
    KI_TRY(ki_db_exec(c, begin, "cannot be made", err));
    KI_TRY(ki_db_exec(c, pragma, "cannot be made", err));
    KI_TRY(migrate(c, 0, KI_SCHEMA_VERSION, err));
    KI_TRY(ki_db_exec(c, "INSERT INTO collection VALUES(1, randomblob(16), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)",
                      "cannot be made", err));
    KI_TRY(ki_state_write(c, err));
    KI_TRY(ki_db_exec(c, "COMMIT", "cannot be made", err));
    c->schema = KI_SCHEMA_VERSION;
    return ki_state_read(c, err);
}

/* ---- Whether the tables are ours ---- */

/* A table or index, as a statement of the migrations makes it. */
typedef struct object {
    const char *type, *name, *table, *sql; /* of sizes below: they stand in the text of the migration */
    size_t name_size, table_size, sql_size;
} object;

enum { MAX_OBJECTS = 64 };

/* What the statement at `at`, up to its semicolon, makes. SQLite keeps its text to the letter. */
static object object_of(const char *at, size_t size)
{
    static const char table[] = "CREATE TABLE ", index[] = "CREATE INDEX ", unique[] = "CREATE UNIQUE INDEX ";
    object o = {.type = "index", .sql = at, .sql_size = size};
    if (strncmp(at, table, sizeof table - 1) == 0) {
        o.type = "table";
        o.name = o.table = at + sizeof table - 1;
        o.name_size = o.table_size = strcspn(o.name, "(");
        return o;
    }
    o.name = at + (strncmp(at, index, sizeof index - 1) == 0 ? sizeof index : sizeof unique) - 1;
    o.name_size = strcspn(o.name, " ");
    o.table = o.name + o.name_size + sizeof " ON " - 1;
    o.table_size = strcspn(o.table, "(");
    return o;
}

static int by_name(const void *a, const void *b)
{
    const object *x = a, *y = b;
    size_t size = x->name_size < y->name_size ? x->name_size : y->name_size;
    int order = memcmp(x->name, y->name, size);
    return order ? order : (x->name_size > y->name_size) - (x->name_size < y->name_size);
}

static kith_status append_text(const kith_collection *c, ki_buffer *out, const char *text, size_t size,
                               kith_error *err)
{
    KI_TRY(ki_buffer_append(out, text, size, c->allocator, err));
    return ki_buffer_append(out, "", 1, c->allocator, err);
}

/* All names and texts that the migrations make, as read_schema gives them. That no database is made for it halves the cost of
 * opening a collection. */
static kith_status expected_schema(const kith_collection *c, ki_buffer *out, kith_error *err)
{
    size_t n = 0;
    object objects[MAX_OBJECTS];
    for (int v = 0; v < c->schema; v++) {
        for (const char *at = migrations[v]; *at;) {
            size_t size = strcspn(at, ";");
            assert(n < MAX_OBJECTS);
            objects[n++] = object_of(at, size);
            at += size + (at[size] == ';');
        }
    }
    qsort(objects, n, sizeof *objects, by_name);
    for (size_t i = 0; i < n; i++) {
        const object *o = &objects[i];
        KI_TRY(append_text(c, out, o->type, strlen(o->type), err));
        KI_TRY(append_text(c, out, o->name, o->name_size, err));
        KI_TRY(append_text(c, out, o->table, o->table_size, err));
        KI_TRY(append_text(c, out, o->sql, o->sql_size, err));
    }
    return KITH_OK;
}

/* All names and texts of the database's schema as one text, but for SQLite's own tables and the indexes that it makes
 * for keys, which have no text. A name does not tell: a file may call anything sqlite_. */
static kith_status read_schema(const kith_collection *c, ki_buffer *out, kith_error *err)
{
    sqlite3_stmt *stmt = NULL;
    kith_status status = KITH_OK;
    int rc = sqlite3_prepare_v2(c->db,
                                "SELECT type, name, tbl_name, sql FROM sqlite_schema"
                                " WHERE sql IS NOT NULL AND NOT (type = 'table' AND"
                                " name LIKE 'sqlite\\_%' ESCAPE '\\') ORDER BY name",
                                -1, &stmt, NULL);
    while (rc == SQLITE_OK && status == KITH_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        rc = SQLITE_OK;
        for (int i = 0; i < 4 && status == KITH_OK; i++) {
            const char *text = (const char *)sqlite3_column_text(stmt, i);
            if (!text && sqlite3_errcode(c->db) == SQLITE_NOMEM) status = ki_fail_nomem(err, 0);
            if (!text) text = "";
            if (status == KITH_OK) status = append_text(c, out, text, strlen(text), err);
        }
    }
    if (status == KITH_OK && rc != SQLITE_DONE) status = ki_db_fail(c, rc, err, "tables cannot be read");
    sqlite3_finalize(stmt);
    return status;
}

/* The tables must be, to the letter, those that the migrations make: then every statement of sql.def means what it
 * says, and nothing else (a trigger, an index over an expression) runs along. */
static kith_status compare_schema(kith_collection *c, kith_error *err)
{
    ki_buffer ours = {0}, theirs = {0};
    kith_status status = expected_schema(c, &ours, err);
    if (status == KITH_OK) status = read_schema(c, &theirs, err);
    if (status == KITH_OK && (ours.size != theirs.size || memcmp(ours.data, theirs.data, ours.size) != 0))
        status = ki_corrupt(c, err, "its tables are not those of a collection of version %d", c->schema);
    ki_buffer_clear(&ours, c->allocator);
    ki_buffer_clear(&theirs, c->allocator);
    return status;
}

/* Bring an older file up to date, in one transaction. Another process may have done it while we waited. */
static kith_status upgrade(kith_collection *c, kith_error *err)
{
    int64_t version = 0;
    KI_TRY(ki_db_exec(c, "BEGIN IMMEDIATE", "cannot be brought up to date", err));
    kith_status status = ki_db_pragma(c, "user_version", &version, err);
    if (status == KITH_OK && version < KI_SCHEMA_VERSION)
        status = migrate(c, version, KI_SCHEMA_VERSION, err);
    if (status == KITH_OK) status = ki_db_exec(c, "COMMIT", "cannot be brought up to date", err);
    if (status != KITH_OK) sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

static kith_status check_version(const kith_collection *c, int64_t version, kith_error *err)
{
    if (version > KI_SCHEMA_VERSION)
        return ki_fail(err, KITH_VERSION, "%s: a collection of version %lld, this kith knows 1..%d", c->path,
                       (long long)version, KI_SCHEMA_VERSION);
    return version < 1 ? ki_corrupt(c, err, "version is %lld", (long long)version) : KITH_OK;
}

/* Whose file it is and its version; a transaction of reads is open afterwards, so that what is read next is of the same
 * state. On failure it is left to the closing of the database: ending it here would wipe out SQLite's error code, which
 * callers look at. */
static kith_status begin_opening(kith_collection *c, int64_t *version, kith_error *err)
{
    int64_t application = 0;
    KI_TRY(ki_db_exec(c, "BEGIN", "cannot be opened", err));
    KI_TRY(ki_db_pragma(c, "application_id", &application, err));
    if (application == KI_PART_ID && !c->half)
        return ki_fail(err, KITH_FORMAT,
                       "%s: a copy that was not finished; a sync or snapshot goes on with it", c->path);
    if (application != KI_APPLICATION_ID && application != KI_PART_ID)
        return ki_fail(err, KITH_FORMAT, "%s: not a kith collection", c->path);
    KI_TRY(ki_db_pragma(c, "user_version", version, err));
    return check_version(c, *version, err);
}

kith_status ki_schema_open(kith_collection *c, kith_error *err)
{
    int64_t version = 0;
    KI_TRY(begin_opening(c, &version, err));
    if (!c->read_only && version < KI_SCHEMA_VERSION) { /* for reading alone it is taken as it is */
        KI_TRY(ki_db_exec(c, "COMMIT", "cannot be opened", err));
        KI_TRY(upgrade(c, err));
        KI_TRY(begin_opening(c, &version, err));
    }
    c->schema = (int)version;
    KI_TRY(compare_schema(c, err));
    KI_TRY(ki_state_read(c, err));
    return ki_db_exec(c, "COMMIT", "cannot be opened", err);
}

kith_status ki_schema_follow(kith_collection *c, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_SCHEMA_VERSION, &stmt, err));
    KI_TRY(ki_db_step(c, KI_SQL_SCHEMA_VERSION, &row, err));
    int64_t version = row ? sqlite3_column_int64(stmt, 0) : 0;
    if (row) ki_db_reset(c, KI_SQL_SCHEMA_VERSION);
    if (version == c->schema) return KITH_OK;
    KI_TRY(check_version(c, version, err));
    if (version < c->schema) return ki_corrupt(c, err, "its version went back to %lld", (long long)version);
    int before = c->schema;
    c->schema = (int)version;
    kith_status status = compare_schema(c, err);
    if (status != KITH_OK) c->schema = before; /* looked at again by the next transaction */
    /* What the new tables hold was not looked for before. */
    if (c->fields) c->fields->loaded = 0;
    if (c->expired) c->expired->loaded = 0;
    if (c->spaces) c->spaces->loaded = 0;
    return status;
}
