/* engine.h - what the files of src/engine share: the handle, its database, its in-memory vectors. */
#ifndef KI_ENGINE_ENGINE_H
#define KI_ENGINE_ENGINE_H

#include <kith/collection.h>

#include <sqlite3.h>

#include "base/error.h"
#include "base/memory.h"

/* "kith", at offset 68 of the database file: tells `file` and us whose it is. */
#define KI_APPLICATION_ID 0x6b697468

/* "kitp": a copy that is not finished, and no collection yet. */
#define KI_PART_ID 0x6b697470

/* ---- When a search has to end ---- */

typedef struct ki_limit {
    const kith_cancel *cancel; /* NULL: none */
    uint64_t deadline_ns;      /* of ki_now_ns; 0: none */
} ki_limit;

int ki_limit_reached(const ki_limit *limit);

/* The deadline of a budget that begins now; one too long for the clock never ends. 0: none. */
uint64_t ki_deadline_ns(uint64_t max_microseconds);

/* While SQLite works on a statement it asks for the limit, which may be NULL; its answer is then KITH_CANCELLED.
 * ki_limit_end when it is done. */
void ki_limit_begin(kith_collection *c, const ki_limit *limit);
void ki_limit_end(kith_collection *c);

/* ---- A block of bytes that grows ---- */

typedef struct ki_buffer {
    unsigned char *data;
    size_t size, capacity;
} ki_buffer;

/* Make room for `capacity` bytes; contents up to size are kept. */
kith_status ki_buffer_reserve(ki_buffer *buffer, size_t capacity, const kith_allocator *allocator,
                              kith_error *err);
kith_status ki_buffer_append(ki_buffer *buffer, const void *data, size_t size,
                             const kith_allocator *allocator, kith_error *err);
void ki_buffer_clear(ki_buffer *buffer, const kith_allocator *allocator);

/* ---- The database ---- */

enum ki_sql {
#define X(name, text) KI_SQL_##name,
#include "engine/sql.def"
#undef X
    KI_SQL_COUNT
};

/* The row of table `collection`. */
typedef struct ki_state {
    unsigned char id[16];   /* random, made at creation */
    size_t dim;             /* 0: not known yet */
    kith_metric metric;     /* of the vectors */
    uint64_t version;       /* of the last change */
    uint64_t oldest;        /* first version that the change log still holds */
    uint64_t reset_version; /* of the last reset of all vectors; segments and caches from before are void */
    uint64_t stamp;         /* random number of the last batch */
    uint64_t rows, vectors;
    int64_t last_key, last_slot; /* the largest ever used */
} ki_state;

/* What a change was, in the change log: the KITH_ROW_* bits of the parts, or one of these. */
enum {
    KI_CHANGE_DELETED = 8,  /* together with the parts that the row had */
    KI_CHANGE_NAMED = 16,   /* a named value; key is 0 */
    KI_CHANGE_RESET = 32,   /* all vectors; key is 0 */
    KI_CHANGE_FIELDS = 64,  /* the declared fields; key is 0 */
    KI_CHANGE_EXPIRY = 128, /* when a row expires */
    KI_CHANGE_MEMBER = 256, /* the partition of a row */
    KI_CHANGE_LISTS = 512   /* which partitions or vector fields there are; key is 0 */
};

/* The vector of a row in a vector field, id 1..KITH_COLLECTION_MAX_VECTOR_FIELDS. */
#define KI_CHANGE_SPACE(id) (1u << (15 + (id)))
#define KI_CHANGE_SPACES 0xffff0000u /* those of all */

/* Vectors in memory and the segment: engine/vectors.h */
struct ki_vectors;

typedef enum ki_mode {
    KI_IDLE,   /* every read is a transaction of its own */
    KI_PINNED, /* one read transaction spans the calls */
    KI_BATCH   /* the write transaction is open */
} ki_mode;

struct kith_collection {
    sqlite3 *db;
    const kith_allocator *allocator; /* of all that the handle holds: the budget's, or the owner's */
    const kith_allocator *owner;     /* of the handle itself */
    struct ki_budget *budget;        /* engine/budget.h; NULL: no max_bytes */
    ki_state state;                  /* as of the transaction that is open, or the last one */
    ki_mode mode;                    /* what transaction is open between calls */
    int64_t now; /* seconds since 1970 for all that one state shows: of its read, or of its pin */
    kith_status batch_status; /* KI_BATCH: why the batch can no longer be committed */
    int read_only;            /* asked for by the caller */
    int immutable;            /* opened without locks, from a folder that cannot be written */
    int broken;               /* an I/O error in commit: nothing more is done with this handle */
    unsigned wait_ms;
    size_t exact_rows;
    uint64_t log_bytes;
    int half;   /* a copy that is not finished may be opened by this handle */
    int adopts; /* changes are not logged: the log of another collection is taken over after them */
    int schema; /* version of the file's tables; KI_SCHEMA_VERSION when it may be written */
    const kith_io *io;
    uint64_t begin_version;  /* KI_BATCH: version before the batch */
    int shared;              /* the open transaction is shared by batches: ki_share_begin */
    unsigned shared_batches; /* that are done in it */
    char *path, *folder;     /* NAME.kith, NAME.kith.d */
    struct ki_vectors *vectors;
    struct ki_rowsets *rowsets; /* what filters let through: engine/rowset.h */
    struct ki_fields *fields;   /* declared fields: engine/fields.h; NULL: not read yet */
    struct ki_spaces *spaces;   /* vector fields: engine/spaces.h; NULL: not read yet */
    struct ki_space *at;        /* the vector field that a call is about; NULL: that of the record */
    struct ki_recent *recent;   /* what was read of rows lately: engine/recent.h; NULL: nothing yet */
    struct ki_expired *expired; /* rows past their time: engine/expiry.h; NULL: not read yet */
    struct ki_rowset *collects; /* where kith_collect puts keys: engine/rowset.c */
    ki_buffer payload, vector, attachment, meta_name, meta_value; /* what the last read returned */
    ki_buffer field_vector;                                       /* what kith_collection_get_vector gave */
    ki_buffer text_key, part_name; /* what ..._text_of and ..._get_partition gave */
    ki_buffer canonical, aligned;  /* scratch of put and of reads */
    sqlite3_stmt *stmt[KI_SQL_COUNT];
};

/* ---- sqlite_db.c ---- */

/* Fill err from the last failure of the database; rc is what SQLite returned. */
kith_status ki_db_fail(const kith_collection *c, int rc, kith_error *err, const char *what);

/* Open c->db at `path` (not c->path while creating) with every safety setting on. flags as sqlite3_open_v2. */
kith_status ki_db_open(kith_collection *c, const char *path, int flags, int immutable, kith_error *err);

/* Finalise all statements and close. */
void ki_db_close(kith_collection *c);

/* Whether the file that is open is no longer the one of its path: removed, renamed or replaced. With the writer's lock, or for
 * what it is worth. */
int ki_db_moved(kith_collection *c);

/* How long locks of others are waited for; c->wait_ms from the opening on. */
void ki_db_patience(kith_collection *c, unsigned wait_ms);

/* Run SQL text that returns no rows and is not in sql.def. */
kith_status ki_db_exec(kith_collection *c, const char *sql, const char *what, kith_error *err);

/* A PRAGMA that returns one integer. */
kith_status ki_db_pragma(kith_collection *c, const char *name, int64_t *value, kith_error *err);

/* The prepared statement, reset, ready to be bound. */
kith_status ki_db_prepare(kith_collection *c, enum ki_sql which, sqlite3_stmt **stmt, kith_error *err);

/* Step once. *row says whether there is a row; when there is none, and on failure, the statement is reset. */
kith_status ki_db_step(kith_collection *c, enum ki_sql which, int *row, kith_error *err);

/* Step a statement that returns no rows, and reset it. */
kith_status ki_db_run(kith_collection *c, enum ki_sql which, kith_error *err);

/* ki_db_prepare and ki_db_run of a statement without parameters. */
kith_status ki_db_do(kith_collection *c, enum ki_sql which, kith_error *err);

void ki_db_reset(kith_collection *c, enum ki_sql which);

/* KITH_CORRUPT about this collection. */
kith_status ki_corrupt(const kith_collection *c, kith_error *err, const char *fmt, ...) KI_PRINTF(3, 4);

/* ---- schema.c ---- */

/* Bytes of a page of a database that was made here. 16 KiB: several rows of a few kilobytes to a page. With 4 KiB a 960-d vector
 * would take two pages. */
#define KI_PAGE_BYTES 16384

/* The version of the schema that this library writes. */
#define KI_SCHEMA_VERSION 3

/* Make the tables in an empty database, with the id and the shape of c->state. In one transaction. c->half: as a copy that
 * is not finished. */
kith_status ki_schema_create(kith_collection *c, kith_error *err);

/* Whose file is it, which version, are its tables exactly those of that version? Brings an older one up to date
 * when the handle may write. */
kith_status ki_schema_open(kith_collection *c, kith_error *err);

/* Within a transaction: c->schema as the file has it now, which another process may have brought up to date since it was
 * opened. KITH_VERSION when it is one that this library does not know. */
kith_status ki_schema_follow(kith_collection *c, kith_error *err);

/* Read and write c->state. */
kith_status ki_state_read(kith_collection *c, kith_error *err);
kith_status ki_state_write(kith_collection *c, kith_error *err);

/* ---- collection.c ---- */

/* A handle without a database, to be closed by kith_collection_close. */
kith_status ki_handle_create(const char *path, const kith_collection_options *options, kith_collection **out,
                             kith_error *err);

/* Put the database into WAL mode, where a file made by us is already. The mode is a property of the file. */
kith_status ki_use_log(kith_collection *c, kith_error *err);

/* Give a finished file, closed, the name c->path, unless there is one by that name (KITH_EXISTS), and sync the folder.
 * *published: it has it, even on failure. */
kith_status ki_publish(kith_collection *c, const char *temporary, int *published, kith_error *err);

/* Remove a database and what SQLite may have put beside it. */
void ki_remove_database(const char *path, const kith_allocator *allocator);

/* Say why there can be no file at c->path before SQLite says that it is "unable to open database file". */
kith_status ki_check_folder(const kith_collection *c, kith_error *err);

/* A read that ran out of memory, or could not read, inside a batch: SQLite has undone the transaction then, and what
 * follows would not be part of the batch. Takes note of it: the batch can only be rolled back. */
void ki_batch_notice(kith_collection *c);

/* Open and close the transaction of one read: between them c->state and all rows belong together. Inside a batch
 * or while pinned they do nothing, the transaction is there already. */
kith_status ki_read_begin(kith_collection *c, kith_error *err);
void ki_read_end(kith_collection *c);

/* ---- batch.c ---- */

/* Whether a batch is open that can still be committed. */
kith_status ki_batch_check(kith_collection *c, kith_error *err);

/* After a failure in the middle of a change the batch may hold half of it: it can only be undone. Returns `status`. */
kith_status ki_batch_spoil(kith_collection *c, kith_status status);

/* Several batches in one transaction, which a single commit makes durable. To each it is as if it were alone: it has a stamp of
 * its own, and fails alone. Between ki_share_batch and ki_share_batch_end c->mode is KI_BATCH, and those who change
 * rows notice nothing. */

/* Take the writer's lock, waiting wait_ms at most. Errors as kith_collection_begin. */
kith_status ki_share_begin(kith_collection *c, unsigned wait_ms, kith_error *err);

/* Begin a batch. On failure c->shared may be 0: see below. */
kith_status ki_share_batch(kith_collection *c, kith_error *err);

/* End it: undo it unless `status` is KITH_OK. Returns `status`, or why it could not be ended.
 * Notes:    On failure c->shared is 0 when the transaction is gone, with all batches that were done in it. */
kith_status ki_share_batch_end(kith_collection *c, kith_status status, kith_error *err);

/* Make all batches durable. Errors as kith_collection_commit; in any case c->shared is 0 afterwards. */
kith_status ki_share_commit(kith_collection *c, kith_error *err);

/* Add an entry to the change log: the collection's version goes up by one. parts: KITH_ROW_* and KI_CHANGE_*. */
kith_status ki_log_change(kith_collection *c, int64_t key, unsigned parts, kith_error *err);

/* ---- records.c ---- */

/* The float32 vector in column `column` of a stepped statement, NULL for SQL NULL: *vector is valid until the next
 * step or ki_row_vector. KITH_CORRUPT when it has not exactly dim finite components. */
kith_status ki_row_vector(kith_collection *c, sqlite3_stmt *stmt, int column, int64_t key,
                          const float **vector, kith_error *err);

/* The row of a key, or with KI_SQL_RECORD_NEXT in place of KI_SQL_RECORD_GET the first one behind it, within a transaction.
 * Rows past their time are rows, too. *found 0: there is none, and *row is untouched. */
kith_status ki_record_find(kith_collection *c, enum ki_sql which, int64_t key, unsigned parts, int *found,
                           kith_row *row, kith_error *err);

/* kith_collection_get within a read transaction, of a row that must be there. */
kith_status ki_record_get(kith_collection *c, int64_t key, unsigned parts, kith_row *row, kith_error *err);

/* 1 when all n components are finite. */
int ki_all_finite(const float *x, size_t n);

/* ---- payload.c ---- */

/* Parse a JSON object and leave its canonical form in *out: names sorted by their bytes, no white space, strings
 * with the fewest escapes, reals with the fewest of 15, 16 or 17 digits that read back the same.
 * KITH_INVALID with the place of the fault. */
kith_status ki_payload_canonical(const char *text, size_t size, ki_buffer *out,
                                 const kith_allocator *allocator, kith_error *err);

/* An object or array of JSON without duplicate names, to be given back to jansson. KITH_INVALID says what it is and the place of
 * the fault. */
struct json_t;
kith_status ki_json_parse(const char *what, const char *text, size_t size, struct json_t **value,
                          kith_error *err);
/* The text of a value, for ki_free; NULL: no memory. Not json_dumps, which forgets a name of an object where its buffer cannot
 * grow to hold it, and calls that success. */
char *ki_json_dump(const struct json_t *value, size_t flags, const kith_allocator *allocator);

/* The payload with a JSON merge patch (RFC 7396) merged into it, in canonical form in *out. Both are JSON objects in
 * canonical form, else KITH_INVALID. Cost: O(both texts), the sorting of names left out. */
kith_status ki_payload_merge(const char *text, size_t size, const char *patch, size_t patch_size,
                             ki_buffer *out, const kith_allocator *allocator, kith_error *err);

/* The place behind the character of UTF-8 at `at`, which is before `end`; NULL: it is none. */
const char *ki_utf8_character(const char *at, const char *end);

#endif
