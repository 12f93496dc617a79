/* collection.h - rows that are kept: a key, a JSON payload, a vector and an attachment, searched by vector.
 *
 * A collection is one SQLite database, NAME.kith, and a folder NAME.kith.d/ beside it. The database is the
 * only truth; the folder holds index segments, a cache that is rebuilt when it is missing, stale or damaged.
 *
 * When to use:     rows come and go, must survive a crash, and are read by several processes.
 * When not to use: a fixed set of vectors that is built once and searched often; that is an index file
 *                  (kith/index.h): smaller, opened without reading it, and faster to build.
 *
 * Durability. Changes are made in batches: kith_collection_begin, any number of puts and deletes,
 * kith_collection_commit. When commit answers KITH_OK the batch is on the disk (WAL, fsync at every commit);
 * when the process or the machine dies before, nothing of the batch is there. One fsync costs milliseconds: a
 * batch of hundreds of rows costs hardly more than a batch of one.
 *
 * Concurrency. Any number of processes, and of handles in one process, read while one writes. The writer's
 * lock is held from begin to commit; another begin waits for it up to `wait_ms`, then answers KITH_BUSY. Threads that write
 * small batches share their commits: kith/writers.h.
 * Every read sees a committed state; what a commit wrote is found by the next search of every handle.
 *
 * Search. The vectors are scanned exactly, until kith_collection_fold builds a segment (IVFADC with
 * re-ranking) for those there are; the rows changed since then are scanned exactly and merged, the deleted
 * ones masked, so an answer never lags behind the rows.
 *
 * Threads: a kith_collection belongs to one thread at a time; it may move from thread to thread. Open one
 * for each thread that works at the same time. A handle must not be used on both sides of a fork.
 *
 * Memory: the handle's own memory comes from the allocator of the options; SQLite and jansson use theirs. The
 * first search reads the vectors that no segment covers into memory and keeps them (4 * dim bytes each). From the first payload or
 * text of a row that is read, a handle without max_bytes keeps those read lately, in some 4 MB.
 */
#ifndef KITH_COLLECTION_H
#define KITH_COLLECTION_H

#include <kith/allocator.h>
#include <kith/filter.h>
#include <kith/io.h>
#include <kith/metric.h>
#include <kith/run.h>
#include <kith/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kith_collection kith_collection;

/* What a collection may hold. A value beyond its limit is KITH_INVALID. */
#define KITH_COLLECTION_MAX_DIM 65536              /* components of a vector */
#define KITH_COLLECTION_MAX_PAYLOAD (1u << 20)     /* bytes of JSON of a row, 64 levels deep */
#define KITH_COLLECTION_MAX_ATTACHMENT (64u << 20) /* bytes */
#define KITH_COLLECTION_MAX_META (256u << 20)      /* bytes of a named value */
#define KITH_COLLECTION_MAX_META_NAME 255          /* bytes of its name */
#define KITH_COLLECTION_MAX_K 1000000              /* results of a query */
#define KITH_COLLECTION_MAX_TEXT_KEY 1024          /* bytes of a key that is a text */
#define KITH_COLLECTION_MAX_EXAMPLES 1000          /* of each kind, to search by */
#define KITH_COLLECTION_MAX_FIELDS 64              /* declared fields */
#define KITH_COLLECTION_MAX_FIELD_NAME 255         /* bytes of the name of one */
#define KITH_COLLECTION_MAX_PARTITION_NAME 255     /* bytes of the name of a partition */
#define KITH_COLLECTION_MAX_QUERY_PARTITIONS 1000  /* partitions that one query searches */

typedef struct kith_collection_options {
    size_t struct_size;
    const kith_allocator *allocator; /* NULL: the C library's */
    const kith_io *io; /* for segment files; NULL: POSIX. SQLite does its own input and output */
    int read_only;     /* non-zero: every change is refused with KITH_READONLY */
    unsigned wait_ms;  /* how long to wait for another writer, milliseconds; 5,000 */
    size_t exact_rows; /* kith_collection_fold builds no segment for so many vectors or fewer; 20,000 */
    uint64_t
        max_bytes; /* 0: no limit. The handle never holds more bytes than that, its building of indexes included (SQLite's
                         * page cache of 16 MiB, and mapped segments, which the system may drop, are apart). Indexes are chosen
                         * to fit; where vectors do not, they are read from the database for each search; what cannot
                         * be done within it is refused with KITH_NOMEM, before it begins where that can be known */
    /* A commit that leaves about so much in the write-ahead log moves it into the file, which takes time; 16 MiB. See
     * kith_collection_settle. */
    uint64_t log_bytes;
} kith_collection_options;

static inline void kith_collection_options_init(kith_collection_options *options)
{
    options->struct_size = sizeof *options;
    options->allocator = NULL;
    options->io = NULL;
    options->read_only = 0;
    options->wait_ms = 5000;
    options->exact_rows = 20000;
    options->max_bytes = 0;
    options->log_bytes = (uint64_t)16 << 20;
}

/* ---- Create, open, close ---- */

/* Make a new collection and open it for writing.
 * In:       path, by custom ending in .kith; its folder exists.
 *           dim, 1..KITH_COLLECTION_MAX_DIM, or 0: not known yet, kith_collection_reset_vectors sets it
 *           later.
 *           metric, KITH_L2SQ, KITH_DOT, KITH_COSINE or KITH_L1.
 *           options, NULL for the defaults; read_only must be 0.
 * Out:      *collection, NULL on failure; then no file is left behind either.
 * Errors:   KITH_EXISTS when there is a file at `path`, KITH_INVALID, KITH_NOMEM, KITH_IO, KITH_NOTFOUND and
 *           KITH_READONLY for its folder. The file appears whole or not at all, even when the process is
 *           killed. */
KITH_API kith_status kith_collection_create(const char *path, size_t dim, kith_metric metric,
                                            const kith_collection_options *options,
                                            kith_collection **collection, kith_error *err);

/* Open a collection.
 * In:       options, NULL for the defaults.
 * Out:      *collection, NULL on failure.
 * Errors:   KITH_NOTFOUND; KITH_FORMAT when the file is no collection; KITH_VERSION when a newer kith wrote
 *           it; KITH_CORRUPT; KITH_READONLY when it cannot be written and options->read_only is 0; KITH_BUSY;
 *           KITH_IO; KITH_NOMEM.
 * Notes:    With read_only a collection opens in a folder that cannot be written, too. If a writer died there
 *           and left changes that only a process with write access can settle, that is KITH_READONLY with a
 *           message that says so. */
KITH_API kith_status kith_collection_open(const char *path, const kith_collection_options *options,
                                          kith_collection **collection, kith_error *err);

/* Close a collection and remove its file: for a program that made it and then had nothing to put into it.
 * In:       a handle that is open for writing, neither in a batch nor pinned; the collection has no rows.
 * Out:      the handle is closed, on failure, too.
 * Errors:   KITH_EXISTS when there are rows; KITH_BUSY when somebody else has it open: it stays. KITH_NOTFOUND when it is gone
 *           already. KITH_INVALID, KITH_READONLY, KITH_IO, KITH_NOMEM.
 * Notes:    Whoever opens it meanwhile loses nothing: a batch that is begun on a file that was removed or replaced is
 *           KITH_NOTFOUND. */
KITH_API kith_status kith_collection_discard(kith_collection *collection, kith_error *err);

/* Close; NULL is allowed. A batch that was not committed is rolled back. */
KITH_API void kith_collection_close(kith_collection *collection);

/* ---- Rows ---- */

/* The parts of a row, to be or-ed: which of them a put changes or a read fetches. KITH_ROW_NEW, in a put alone: there must be
 * no such row yet. */
enum {
    KITH_ROW_PAYLOAD = 1,
    KITH_ROW_VECTOR = 2,
    KITH_ROW_ATTACHMENT = 4,
    KITH_ROW_ALL = 7,
    KITH_ROW_NEW = 8
};

typedef struct kith_row {
    int64_t key;         /* 1..INT64_MAX; 0 in a put: the next free one */
    const char *payload; /* a JSON object in UTF-8, NULL in a put: {}; when read canonical and 0-terminated */
    size_t payload_size; /* bytes without the zero; in a put 0 with a payload: strlen(payload) */
    const float *vector; /* [dim]; NULL: none */
    size_t dim;          /* components of vector; in a put they must be the collection's, 0 without one */
    const void *attachment; /* any bytes, a thumbnail say; NULL: none */
    size_t attachment_size;
} kith_row;

/* Read one row.
 * In:       parts, those to fetch; the others are left NULL and 0.
 * Out:      *row; its memory belongs to the collection and is valid until the next read of a row from this
 *           handle or its close. Untouched on failure.
 * Errors:   KITH_NOTFOUND, KITH_CORRUPT, KITH_INVALID, KITH_IO, KITH_NOMEM.
 * Cost:     O(log rows). */
KITH_API kith_status kith_collection_get(kith_collection *collection, int64_t key, unsigned parts,
                                         kith_row *row, kith_error *err);

/* Read the row with the smallest key > after: visits all rows in the order of their keys, each once, whatever
 * is written meanwhile.
 *
 *     kith_row row = {0};
 *     while ((status = kith_collection_next(c, row.key, KITH_ROW_ALL, &row, &err)) == KITH_OK && row.key) ...
 *
 * In:       after, 0 to begin.
 * Out:      *row as kith_collection_get leaves it; row->key is 0 and KITH_OK is returned after the last row.
 * Errors:   as kith_collection_get, but KITH_NOTFOUND. */
KITH_API kith_status kith_collection_next(kith_collection *collection, int64_t after, unsigned parts,
                                          kith_row *row, kith_error *err);

/* How many rows there are, and how many of them have a vector. Either pointer may be NULL. Cost: O(1). */
KITH_API kith_status kith_collection_count(kith_collection *collection, uint64_t *rows, uint64_t *vectors,
                                           kith_error *err);

/* Let all reads of this handle, searches included, see one state from now on, until kith_collection_unpin: no row expires
 * meanwhile either.
 * While a handle is pinned it cannot begin a batch, and the write-ahead log of the collection cannot shrink:
 * pin for seconds, not for days. Pinning twice is KITH_INVALID; unpin without pin does nothing. */
KITH_API kith_status kith_collection_pin(kith_collection *collection, kith_error *err);
KITH_API void kith_collection_unpin(kith_collection *collection);

/* ---- Changes ---- */

/* Begin a batch: take the writer's lock.
 * Errors:   KITH_BUSY when another writer held it for all of wait_ms; KITH_READONLY; KITH_INVALID when a
 *           batch is open already or the handle is pinned; KITH_NOTFOUND when the file was removed or replaced since it
 *           was opened; KITH_IO. */
KITH_API kith_status kith_collection_begin(kith_collection *collection, kith_error *err);

/* Insert a row, or change the row that has its key.
 * In:       parts: which parts of *row count. Those not named keep what the row has (nothing, for a new row). With
 *           KITH_ROW_NEW it is an insert: a row that is there already stays as it is.
 *           row->vector[dim], finite; NULL takes the vector away. row->payload is a JSON object without
 *           duplicate names, kept in canonical form (names sorted, no white space, shortest numbers).
 *           A row past its time (kith_collection_set_expiry) is no row any more: what is put at its key is a new
 *           one, which does not expire.
 * Out:      *key, may be NULL: the row's key.
 * Errors:   KITH_INVALID naming the fault; the batch stays open and without the row. KITH_EXISTS, with KITH_ROW_NEW, when
 *           there is a row of this key: the batch goes on. KITH_UNTRAINED for a
 *           vector while the collection has no dim. After any other failure (KITH_IO, KITH_NOMEM, ...) only
 *           rollback is possible: commit refuses.
 * Cost:     O(log rows + bytes). */
KITH_API kith_status kith_collection_put(kith_collection *collection, unsigned parts, const kith_row *row,
                                         int64_t *key, kith_error *err);

/* Delete the row with this key.
 * Errors:   KITH_NOTFOUND when there is none; the batch goes on. Others as in put. */
KITH_API kith_status kith_collection_delete(kith_collection *collection, int64_t key, kith_error *err);

/* Change members of a payload and leave the others: a JSON merge patch (RFC 7396). A member of `patch` that is null
 * is taken away, an object is merged into the object that is there, all else replaces what is there.
 * In:       patch, a JSON object; size, its bytes, 0: strlen(patch).
 * Errors:   KITH_NOTFOUND when there is no row; KITH_INVALID. The batch goes on after both. */
KITH_API kith_status kith_collection_merge(kith_collection *collection, int64_t key, const char *patch,
                                           size_t size, kith_error *err);

/* ---- Keys that are texts ---- */

/* A row may be known by a text, 1..KITH_COLLECTION_MAX_TEXT_KEY bytes of UTF-8, beside the number that is its key:
 * searches answer with numbers, kith_collection_text_of tells the text. */

/* Insert the row that a text stands for, or change it: kith_collection_put otherwise.
 * In:       row->key, 0: a new row gets the next free number. Another: that number, and then a row that has it already
 *           becomes known by the text. With KITH_ROW_NEW neither the text nor the number may have a row.
 * Out:      *key, may be NULL: the row's key.
 * Errors:   KITH_INVALID also when the row of the text has another key, or that of the key another text: the batch goes
 *           on. */
KITH_API kith_status kith_collection_put_text(kith_collection *collection, const char *text, unsigned parts,
                                              const kith_row *row, int64_t *key, kith_error *err);

/* The key of the row that a text stands for. KITH_NOTFOUND when there is none. Cost: O(log rows). */
KITH_API kith_status kith_collection_key_of(kith_collection *collection, const char *text, int64_t *key,
                                            kith_error *err);

/* The text that a row is known by, NULL for one that has none or is not there; valid until the next call of this
 * function. */
KITH_API kith_status kith_collection_text_of(kith_collection *collection, int64_t key, const char **text,
                                             kith_error *err);

/* ---- Rows that expire ---- */

/* Say when a row expires, inside a batch: from then on no search, get, next or filter finds it. It stays in the file,
 * and in kith_collection_count, until somebody removes it.
 * In:       at, seconds since 1970; 0: never. A put leaves it as it is, unless the row is past its time then.
 * Errors:   KITH_NOTFOUND when there is no row; the batch goes on. */
KITH_API kith_status kith_collection_set_expiry(kith_collection *collection, int64_t key, int64_t at,
                                                kith_error *err);

/* When a row expires, 0 for never and for a row that is not there. */
KITH_API kith_status kith_collection_get_expiry(kith_collection *collection, int64_t key, int64_t *at,
                                                kith_error *err);

/* Delete rows that are past their time, inside a batch, the oldest first, at most `most` (0: all).
 * Out:      *rows, may be NULL: how many there were. */
KITH_API kith_status kith_collection_remove_expired(kith_collection *collection, uint64_t most,
                                                    uint64_t *rows, kith_error *err);

/* ---- Partitions ---- */

/* A row is in one partition, or in none. Partitions are cheap to search by (kith_collection_query.partitions), to name in
 * filters ($partition == "2024"), and to delete together with their rows: for tenants, days, sources. Names have
 * 1..KITH_COLLECTION_MAX_PARTITION_NAME bytes of UTF-8 without control characters, quotes, backslashes and commas. */

/* Make a partition, inside a batch. KITH_EXISTS, KITH_INVALID: the batch goes on. */
KITH_API kith_status kith_collection_partition_add(kith_collection *collection, const char *name,
                                                   kith_error *err);

/* Delete a partition and its rows, inside a batch.
 * Out:      *rows, may be NULL: how many rows there were.
 * Errors:   KITH_NOTFOUND: the batch goes on. Others as kith_collection_delete. */
KITH_API kith_status kith_collection_partition_drop(kith_collection *collection, const char *name,
                                                    uint64_t *rows, kith_error *err);

typedef struct kith_partition {
    uint64_t rows;
    char name[KITH_COLLECTION_MAX_PARTITION_NAME + 1];
} kith_partition;

/* The partitions, in the order of their names.
 * In:       *n, room in `list`, which may be NULL.
 * Out:      list[min(room, n)]; *n, how many there are. Cost: O(rows in partitions). */
KITH_API kith_status kith_collection_partitions(kith_collection *collection, kith_partition *list, size_t *n,
                                                kith_error *err);

/* Put a row into a partition, inside a batch; it leaves the one that it was in. name NULL: into none.
 * Errors:   KITH_NOTFOUND when there is no such row or partition; the batch goes on. */
KITH_API kith_status kith_collection_set_partition(kith_collection *collection, int64_t key, const char *name,
                                                   kith_error *err);

/* The partition of a row, NULL for one that is in none or is not there; valid until the next call of this function. */
KITH_API kith_status kith_collection_get_partition(kith_collection *collection, int64_t key,
                                                   const char **name, kith_error *err);

/* Take the vectors of all rows away and set dim and metric anew (dim 0: not known), as one change of the
 * batch: readers see the old vectors until the commit, then whatever vectors the batch has put. */
KITH_API kith_status kith_collection_reset_vectors(kith_collection *collection, size_t dim,
                                                   kith_metric metric, kith_error *err);

/* Make the batch durable and visible.
 * Out:      KITH_OK: the batch is on the disk.
 * Errors:   KITH_IO, KITH_NOMEM, ...: the batch is undone, as by rollback. Only after an I/O error of the
 *           very last step, the write and sync of the log, can nobody tell whether the disk has it: then the
 *           handle refuses to work (KITH_IO) until it is opened anew, and the batch is there wholly or not at
 *           all. */
KITH_API kith_status kith_collection_commit(kith_collection *collection, kith_error *err);

/* Undo the batch. Without a batch nothing happens. */
KITH_API void kith_collection_rollback(kith_collection *collection);

/* ---- Declared fields ---- */

/* A member of the payloads may be declared as of one kind. Then every payload must have a value of that kind there,
 * null, or nothing; a put of another one is refused. Its values are kept sorted, so that the first use of a
 * filter over declared fields takes tens of nanoseconds a row that it lets through, instead of a third of a
 * microsecond for each row that there is. A put costs a microsecond or two more for each field: declare fields
 * after a large import. */

typedef enum kith_field_kind {
    KITH_FIELD_INT = 1, /* an integer of 64 bits */
    KITH_FIELD_FLOAT,   /* any number */
    KITH_FIELD_TEXT,    /* a string */
    KITH_FIELD_BOOL,
    KITH_FIELD_TIME, /* a string of RFC 3339 ("2024-05-01T12:30:00Z", or the date alone), or a number: seconds
                      * since 1970. In filters it is compared as a moment: `at >= "2024-05-01"` */
    KITH_FIELD_GEO   /* {"lat": degrees, "lon": degrees}: geo_distance(at, 48.86, 2.35) < 500 */
} kith_field_kind;

/* "int", "float", "text", "bool", "time", "geo". */
KITH_API const char *kith_field_kind_name(kith_field_kind kind);
KITH_API kith_status kith_field_kind_parse(const char *name, kith_field_kind *kind, kith_error *err);

typedef struct kith_field {
    kith_field_kind kind;
    char name[KITH_COLLECTION_MAX_FIELD_NAME + 1];
} kith_field;

/* Declare a field, inside a batch.
 * In:       name, as a filter would write it: year, a.b, $["odd name"].
 * Errors:   KITH_EXISTS; KITH_INVALID for a name that is no path, and naming a row that has another value there:
 *           the batch goes on without the field.
 * Cost:     reads all payloads twice and sorts their values: some 3 seconds for a million rows. */
KITH_API kith_status kith_collection_field_add(kith_collection *collection, const char *name,
                                               kith_field_kind kind, kith_error *err);

/* Take the declaration back, inside a batch; payloads stay as they are. KITH_NOTFOUND when there is none. */
KITH_API kith_status kith_collection_field_drop(kith_collection *collection, const char *name,
                                                kith_error *err);

/* The declared fields, in the order of their declaration.
 * In:       *n, room in `fields`, which may be NULL.
 * Out:      fields[min(room, n)]; *n, how many there are. */
KITH_API kith_status kith_collection_fields(kith_collection *collection, kith_field *fields, size_t *n,
                                            kith_error *err);

/* ---- Filters ---- */

/* A filter is a condition over the payloads of the rows, as text: `city == "Paris" and year >= 1990 and
 * array_contains(tags, "a")`. The language is docs/filters.md: == != < <= > >=, and or not (&& || !), in, like, exists,
 * is null, a["b"][0] and a.b, array_contains (_any, _all) and array_length, + - * / %, time, geo_distance and geo_within, $key. A comparison with a
 * field that is missing or null is neither true nor false, and rows are let through for which the whole is true.
 *
 * The first use of a filter reads all payloads (about half a microsecond each); the handle remembers the rows of
 * the last eight, and follows what is changed. At most 1 MiB of text. */

/* Whether a filter is well formed: KITH_OK, or KITH_INVALID with the place of the fault ("filter: at byte 12:
 * ..."), as every function below that takes one. */
KITH_API kith_status kith_collection_filter_check(const char *filter, kith_error *err);

/* How many rows a filter lets through.
 * Errors:   KITH_INVALID, KITH_CORRUPT, KITH_IO, KITH_NOMEM. */
KITH_API kith_status kith_collection_count_where(kith_collection *collection, const char *filter,
                                                 uint64_t *rows, kith_error *err);

/* Why a filter lets nothing through, if that is the filter's own fault: for a person who gets no rows.
 * Out:      hint[size]: a sentence without a full stop, such as "no row has yeer; row 1 has city, year" or "year is a number
 *           wherever it is there, and is asked for as a string"; "" where the filter merely has no match.
 * Errors:   as kith_collection_count_where; KITH_INVALID for a size below 200.
 * Cost:     a few filters over each member that stands in it, four of them at most. */
KITH_API kith_status kith_collection_filter_hint(kith_collection *collection, const char *filter, char *hint,
                                                 size_t size, kith_error *err);

/* kith_collection_next over the rows that a filter lets through: visits them in the order of their keys, each
 * once; what is written meanwhile is taken into account from where the visit stands. */
KITH_API kith_status kith_collection_next_where(kith_collection *collection, const char *filter,
                                                int64_t after, unsigned parts, kith_row *row,
                                                kith_error *err);

/* Delete the rows that a filter lets through, inside a batch.
 * Out:      *rows, may be NULL: how many there were.
 * Errors:   KITH_INVALID for the filter: the batch goes on. Others as in kith_collection_delete. */
KITH_API kith_status kith_collection_delete_where(kith_collection *collection, const char *filter,
                                                  uint64_t *rows, kith_error *err);

/* ---- Named values ---- */

/* What the user of a collection wants to keep beside the rows, changed in the same batches: a codebook, how
 * features are made. */

/* Set a value inside a batch.
 * In:       name, 1..KITH_COLLECTION_MAX_META_NAME bytes of UTF-8; size, up to KITH_COLLECTION_MAX_META. */
KITH_API kith_status kith_collection_meta_set(kith_collection *collection, const char *name,
                                              const void *value, size_t size, kith_error *err);

/* Delete a value inside a batch. KITH_NOTFOUND when there is none; the batch goes on. */
KITH_API kith_status kith_collection_meta_delete(kith_collection *collection, const char *name,
                                                 kith_error *err);

typedef struct kith_meta {
    const char *name; /* zero-terminated; NULL: no more */
    const void *value;
    size_t size;
} kith_meta;

/* Read a value.
 * Out:      *meta; its memory belongs to the collection and is valid until the next kith_collection_meta_* of
 *           this handle or its close. Untouched on failure.
 * Errors:   KITH_NOTFOUND, KITH_CORRUPT, KITH_IO, KITH_NOMEM. */
KITH_API kith_status kith_collection_meta_get(kith_collection *collection, const char *name, kith_meta *meta,
                                              kith_error *err);

/* Read the first value whose name begins with `prefix` and comes after `after` in byte order.
 * In:       after, NULL to begin; it may be the name that the previous call returned.
 * Out:      *meta as kith_collection_meta_get leaves it; name is NULL and KITH_OK returned after the last. */
KITH_API kith_status kith_collection_meta_next(kith_collection *collection, const char *prefix,
                                               const char *after, kith_meta *meta, kith_error *err);

/* ---- Search ---- */

/* How a search went about it, for those who want to know. */
typedef struct kith_collection_plan {
    size_t struct_size; /* set by the caller: sizeof *plan */
    /* "nothing": no row can be found; "rows": the rows let through were fetched one by one and compared exactly;
     * "memory": all vectors are in memory, those let through were compared exactly; "index": a segment was
     * searched; "scan": all rows were read and compared exactly. */
    const char *method;
    uint64_t vectors; /* rows with a vector */
    uint64_t matches; /* those of them that the expression lets through; without one `vectors` */
    int remembered;   /* 1: which ones these are was known from an earlier search */
    unsigned rounds;  /* "index": how often it was searched, wider each time */
    size_t nprobe;    /* "index": cells looked into, for the query that needed most; 0: it has no cells */
    size_t cells;
    uint64_t rows_scored;
    double filter_seconds, search_seconds;
    /* 1 for an exact answer; else what kith_collection_tune measured of such searches, NaN when it has not */
    double estimated_recall;
} kith_collection_plan;

typedef struct kith_collection_query {
    size_t struct_size;
    size_t k;                  /* 1..KITH_COLLECTION_MAX_K */
    int exact;                 /* non-zero: scan every vector even if there is a segment */
    size_t nprobe;             /* cells of the segment to look into, or what an index without cells has in
                                * their place (ef of a graph); 0: chosen */
    size_t refine;             /* candidates re-ranked with the full vectors, as a multiple of k; 0: chosen */
    const kith_filter *filter; /* over keys; NULL: every row may be found. It must not use this handle, and
                                * with a pool it is asked from several threads */
    const int64_t *only_keys;  /* only_keys[only_n]: nothing but these rows, any order; NULL: all */
    size_t only_n;
    const kith_cancel *cancel;  /* NULL, or a flag that ends the search early with the best so far */
    kith_pool *pool;            /* NULL: only the calling thread */
    const char *expression;     /* a filter over payloads (docs/filters.md); NULL: every row may be found */
    kith_collection_plan *plan; /* NULL, or where to say how it was done */
    uint64_t max_microseconds; /* budget of the whole call, evaluating a filter included; 0: none. It ends the
                                 * search early with the best so far. A handle that has not searched yet reads
                                 * the database until then: call kith_collection_warm before. What others
                                 * wrote since the last search is read until then, too, and the next search
                                 * goes on with it; a new segment is taken in by a call that has time to
                                 * verify it, a second for each GB, or by kith_collection_warm */
    size_t offset; /* leave out so many of the nearest: the next page. Pin the handle, so that pages fit */
    const char *const *partitions; /* partitions[n_partitions]: only rows that are in one of these; */
    size_t n_partitions;           /* 0: all rows, in whatever partition or in none */
    const char *field; /* the vector field to search (kith/fusion.h); NULL: the vectors of the rows */
    /* Instead of nprobe and refine: the recall wanted, 1 at most, from what kith_collection_tune measured; 0: what the
     * collection is tuned to, if it is. Exact searches reach any. */
    double target_recall;
} kith_collection_query;

static inline void kith_collection_query_init(kith_collection_query *query)
{
    query->struct_size = sizeof *query;
    query->k = 10;
    query->exact = 0;
    query->nprobe = 0;
    query->refine = 0;
    query->filter = NULL;
    query->only_keys = NULL;
    query->only_n = 0;
    query->cancel = NULL;
    query->pool = NULL;
    query->expression = NULL;
    query->plan = NULL;
    query->max_microseconds = 0;
    query->offset = 0;
    query->partitions = NULL;
    query->n_partitions = 0;
    query->target_recall = 0;
    query->field = NULL;
}

typedef struct kith_collection_answer {
    int complete; /* 1: fewer than k rows only because no more match; 0: the cancel flag or the budget ended it */
    int exact;            /* 1: no approximation took part */
    uint64_t rows_scored; /* over all queries of the call, re-ranking left out */
    uint64_t version;     /* of the state that was searched, see kith_collection_version */
} kith_collection_answer;

/* The k rows nearest to each query vector.
 * In:       vectors[nq][dim], row-major float32, finite; dim must be the collection's (that may have changed
 *           since it was asked for). query, NULL for its defaults.
 * Out:      keys[nq][k] and distances[nq][k], nearest first, ties by the smaller key; a tail without rows is
 *           filled with key 0 and +INFINITY. *answer, may be NULL. Nothing is written unless KITH_OK is
 *           returned. Rows without a vector are never found. With an expression, and no other filter, exactly
 *           min(k, rows let through) are found: the search goes on until it has them. Only how near they are is
 *           approximate, as without one.
 * Errors:   KITH_INVALID; KITH_UNTRAINED while the collection has no dim, and for a target_recall when there is a segment
 *           and nothing was measured; KITH_CORRUPT; KITH_IO; KITH_NOMEM.
 * Cost:     exact: O(nq * vectors * dim); with a segment about 1/50 of that for large collections. The first
 *           search of a handle reads the vectors or checks the segment first, later ones what changed. */
KITH_API kith_status kith_collection_search(kith_collection *collection, size_t nq, size_t dim,
                                            const float *vectors, const kith_collection_query *query,
                                            int64_t *keys, float *distances, kith_collection_answer *answer,
                                            kith_error *err);

/* The k rows nearest to a row of the collection, which itself is left out.
 * Out:      keys[k], distances[k] and *answer as above.
 * Errors:   KITH_NOTFOUND when there is no such row or it has no vector; as above. */
KITH_API kith_status kith_collection_search_like(kith_collection *collection, int64_t key,
                                                 const kith_collection_query *query, int64_t *keys,
                                                 float *distances, kith_collection_answer *answer,
                                                 kith_error *err);

/* Rows of the collection to search by: towards some, away from others. */
typedef struct kith_collection_examples {
    const int64_t *positive; /* [n_positive], at least one */
    size_t n_positive;
    const int64_t *negative; /* [n_negative]; NULL: none */
    size_t n_negative;
} kith_collection_examples;

/* The k rows nearest to p + (p - n), p the mean of the positive examples and n that of the negative ones (without
 * those: to p). For cosine every example counts as a vector of length one. The examples are left out.
 * Out:      as kith_collection_search_like.
 * Errors:   KITH_NOTFOUND naming an example that is not there or has no vector; KITH_INVALID; as above. */
KITH_API kith_status kith_collection_search_examples(kith_collection *collection,
                                                     const kith_collection_examples *examples,
                                                     const kith_collection_query *query, int64_t *keys,
                                                     float *distances, kith_collection_answer *answer,
                                                     kith_error *err);

/* The rows within a distance of a vector, nearest first.
 * In:       vector[dim]; radius, in the units of the metric (squared for KITH_L2SQ), finite; query->k, how many rows at most;
 *           query->offset, how many of the nearest to leave out.
 * Out:      keys[k], distances[k]: *n rows, *n <= k; the rest is left alone. *answer, may be NULL; complete is 1 also when there
 *           are more than k. *more, may be NULL: 1 when rows within the radius were left out because k are there.
 * Errors:   as kith_collection_search; KITH_INVALID for a radius that is not finite.
 * Notes:    Exact with query->exact and without a segment. With a segment cells are added, twice as many each time, until
 *           that finds no further row (or query->nprobe, when it is given, once). */
KITH_API kith_status kith_collection_search_range(kith_collection *collection, size_t dim,
                                                  const float *vector, float radius,
                                                  const kith_collection_query *query, int64_t *keys,
                                                  float *distances, size_t *n, int *more,
                                                  kith_collection_answer *answer, kith_error *err);

/* The nearest rows in groups: of each of the k values of a field whose nearest rows are nearest, group_size rows.
 * In:       vector[dim]; field, as a filter would write it; query->k groups, times group_size at most 10,000. Rows where
 *           the field is missing or null belong to no group.
 * Out:      keys[k][group_size], distances[k][group_size]: groups in the order of their nearest rows, rows nearest
 *           first; tails are filled with key 0 and +INFINITY. *answer, may be NULL; complete is 0 also when the
 *           65,536 nearest rows did not fill the groups.
 * Errors:   as kith_collection_search; KITH_INVALID for a field that is no path. */
KITH_API kith_status kith_collection_search_groups(kith_collection *collection, size_t dim,
                                                   const float *vector, const char *field, size_t group_size,
                                                   const kith_collection_query *query, int64_t *keys,
                                                   float *distances, kith_collection_answer *answer,
                                                   kith_error *err);

/* Do beforehand what the first search of a handle would: verify the segment, read what it does not cover. */
KITH_API kith_status kith_collection_warm(kith_collection *collection, kith_error *err);

/* ---- Segments ---- */

typedef struct kith_fold_options {
    size_t struct_size;
    const char *spec; /* an index spec (kith/index.h); NULL: chosen from the number of vectors and dim */
    uint64_t seed;
    int always;          /* non-zero: build even if the collection is small or its segment good enough */
    const kith_run *run; /* threads, progress, cancel; NULL: this thread, silent */
    const char *
        field; /* this vector field alone, "" for the vectors of the rows; NULL: all, where spec is that of the
                          * vectors of the rows, and every other field has the one it was declared with */
    double
        target_recall; /* what searches will ask for: a spec that is chosen keeps so much of each vector. 0: what the
                           * collection is tuned to (kith_collection_tune), else 0.95 */
} kith_fold_options;

static inline void kith_fold_options_init(kith_fold_options *options)
{
    options->struct_size = sizeof *options;
    options->spec = NULL;
    options->seed = 1;
    options->always = 0;
    options->run = NULL;
    options->field = NULL;
    options->target_recall = 0;
}

/* What a fold would do. */
typedef struct kith_fold_plan {
    size_t struct_size; /* set by the caller: sizeof *plan */
    /* "": nothing. "no index": build the first one; "changes": fold rows into the one there is, whose cells and codebooks
     * stay, and train it anew should they have drifted; "cells": the number of rows has outgrown its cells; "grown": more
     * than half of the rows are new to it; "asked for": options->always. */
    const char *why;
    int anew;            /* 1: it is trained anew */
    char spec[256];      /* of the index to be; "" when there is nothing to do */
    uint64_t peak_bytes; /* that it needs at most */
} kith_fold_plan;

/* Say what kith_collection_fold would do with the same options, and what memory it would need. options->field NULL: about
 * the vectors of the rows.
 * Errors:   KITH_NOMEM when that does not fit into max_bytes, as the fold would answer; KITH_NOTFOUND for a field. */
KITH_API kith_status kith_collection_plan_fold(kith_collection *collection, const kith_fold_options *options,
                                               kith_fold_plan *plan, kith_error *err);

/* Bring the segment up to date, in the caller's thread: build one when there are more than exact_rows vectors
 * and either there is no segment, the changes since it was built exceed a tenth of the vectors, or it has become too
 * small or too large for them (kith_collection_plan_fold says which). A tenth to a half is folded into the segment; where the
 * rows then lie far from its centroids, and in the other cases, it is trained anew. Writers and readers of all processes go on meanwhile. Call it now and then, after an import say; a search never does.
 * In:       options, NULL for the defaults.
 * Errors:   KITH_BUSY when another process is folding; KITH_READONLY; KITH_INVALID inside a batch, while
 *           pinned or for a bad spec; KITH_CANCELLED; KITH_NOMEM; KITH_IO. No failure harms the collection or
 *           the segment there was.
 * Memory:   kith_fold_plan.peak_bytes: a sample of the vectors, then the segment, about (4 * dim + code) bytes a vector, up to
 *           two and a half times while it grows. */
KITH_API kith_status kith_collection_fold(kith_collection *collection, const kith_fold_options *options,
                                          kith_error *err);

/* Fold, then tidy the database: move the write-ahead log into it. Errors as fold; KITH_BUSY also when readers
 * kept part of the log from being moved (no harm: the next writer does it). */
KITH_API kith_status kith_collection_optimize(kith_collection *collection, const kith_fold_options *options,
                                              kith_error *err);

/* Move what is in the write-ahead log into the file, as far as no reader needs it there; nobody is kept from reading or writing
 * meanwhile. Commits do it themselves whenever the log has grown by log_bytes: who writes much may give a larger one, and hand over
 * a thread, with a handle of its own, that does this behind each commit. The log begins again from its start with a batch
 * that begins when all of it has been moved.
 * Out:      *left, may be NULL: bytes of the log, about, that could not be moved, because they are read; UINT64_MAX when another is
 *           moving them, and nothing was done here.
 * Errors:   KITH_READONLY; KITH_INVALID inside a batch and while pinned; KITH_IO; KITH_NOMEM. Nothing is lost. */
KITH_API kith_status kith_collection_settle(kith_collection *collection, uint64_t *left, kith_error *err);

/* ---- What it is and whether it is sound ---- */

/* Components of a vector, 0 while not known, and the metric, as of the last read or write of this handle. */
KITH_API size_t kith_collection_dim(const kith_collection *collection);
KITH_API kith_metric kith_collection_metric(const kith_collection *collection);

/* The path it was opened by, valid until close. */
KITH_API const char *kith_collection_path(const kith_collection *collection);

/* A number that grows with every change that was committed: the position in the change log. */
KITH_API kith_status kith_collection_version(kith_collection *collection, uint64_t *version, kith_error *err);

typedef struct kith_collection_stats {
    size_t struct_size; /* set by the caller: sizeof *stats */
    int schema;         /* version of the file's format */
    char id[33];        /* of this collection, made at its creation, 32 hexadecimal digits */
    size_t dim;
    kith_metric metric;
    uint64_t version;
    uint64_t rows, vectors;
    uint64_t free_slots;      /* of deleted rows, to be used again */
    uint64_t database_bytes;  /* NAME.kith and its write-ahead log */
    uint64_t segment_bytes;   /* 0: there is no good segment */
    uint64_t segment_version; /* the version that the segment covers */
    uint64_t segment_rows;    /* vectors in it */
    uint64_t uncovered;       /* rows changed since then; without a segment the number of vectors */
    char segment_spec[256];   /* "" without a segment */
    /* Of a segment with cells: the mean squared distance of the rows that it was trained with to the centroid of their cell,
     * and of those that it holds. A fold that finds the second 1.3 times the first, or more, trains it anew. NaN: not known. */
    double spread_trained, spread_now;
    uint64_t cells; /* 0: it has none */
} kith_collection_stats;

/* Cost: the first call of a handle checks the checksums of the segment, later ones are cheap. */
KITH_API kith_status kith_collection_get_stats(kith_collection *collection, kith_collection_stats *stats,
                                               kith_error *err);

typedef struct kith_recall_options {
    size_t struct_size;
    size_t k;             /* 1..1000; 10 */
    size_t queries;       /* rows to search by, 1..100000; 100 */
    size_t nprobe;        /* as in kith_collection_query; 0: what a search would choose */
    uint64_t seed;        /* which rows */
    const kith_run *run;  /* threads, cancel; NULL: this thread */
    const char *field;    /* the vector field; NULL: the vectors of the rows */
    double target_recall; /* as in kith_collection_query */
} kith_recall_options;

static inline void kith_recall_options_init(kith_recall_options *options)
{
    options->struct_size = sizeof *options;
    options->k = 10;
    options->queries = 100;
    options->nprobe = 0;
    options->seed = 1;
    options->run = NULL;
    options->field = NULL;
    options->target_recall = 0;
}

typedef struct kith_recall {
    size_t struct_size; /* set by the caller: sizeof *recall */
    double recall;      /* rows found that are not farther than the k-th true one, over k; 0..1 */
    size_t queries, k;
    double seconds, exact_seconds; /* of all queries together */
    uint64_t version;              /* of the state that was searched */
    char spec[256];                /* of the segment; "" when there is none, and every answer exact */
} kith_recall;

/* Measure how good searches are now: rows drawn at random are searched by, themselves left out, and what is found is
 * compared with an exact search. Queries that are not like the rows may find less.
 * Errors:   KITH_UNTRAINED with fewer than two vectors; KITH_CANCELLED; KITH_INVALID; as kith_collection_search.
 * Cost:     reads all vectors twice, and compares each with every query. */
KITH_API kith_status kith_collection_recall(kith_collection *collection, const kith_recall_options *options,
                                            kith_recall *recall, kith_error *err);

typedef struct kith_collection_tune_options {
    size_t struct_size;
    double target_recall; /* above 0, 1 at most; 0.95: what searches aim at from now on that say nothing */
    size_t k;             /* 1..1000; 10 */
    size_t queries;       /* rows to search by, 1..100000; 500 */
    uint64_t seed;        /* which rows */
    const kith_run *run;  /* threads, progress, cancel; NULL: this thread */
    const char *field;    /* the vector field; NULL: the vectors of the rows */
} kith_collection_tune_options;

static inline void kith_collection_tune_options_init(kith_collection_tune_options *options)
{
    options->struct_size = sizeof *options;
    options->target_recall = 0.95;
    options->k = 10;
    options->queries = 500;
    options->seed = 1;
    options->run = NULL;
    options->field = NULL;
}

typedef struct kith_collection_tuning {
    size_t struct_size; /* set by the caller: sizeof *tuning */
    double target_recall;
    double recall;          /* that the values below were measured to have, less its standard error; below the
                             * target when nothing reaches it */
    char param[32];         /* "nprobe", "ef", ...; "": there is no index, every search is exact */
    double value, refine_k; /* refine_k 0: there is no refinement */
    double seconds;         /* of a search with them; 0 from kith_collection_get_tuning */
    size_t points;          /* of the curve that is kept for other targets */
} kith_collection_tuning;

/* Measure recall and time of searches against their parameters, as kith_collection_recall does, and keep the curve in
 * the collection: from then on a search reaches `target_recall`, or the one that its query asks for, by the cheapest
 * values measured, for k up to the one given here. After a fold the number of cells is followed; an index of another
 * family has to be tuned anew.
 * Out:      *tuning, may be NULL.
 * Errors:   KITH_INVALID, also in a batch or pinned; KITH_READONLY; KITH_UNTRAINED with fewer than two vectors; KITH_BUSY;
 *           KITH_CANCELLED.
 * Cost:     an exact search, and some thirty others, of all queries. */
KITH_API kith_status kith_collection_tune(kith_collection *collection,
                                          const kith_collection_tune_options *options,
                                          kith_collection_tuning *tuning, kith_error *err);

/* What a field (NULL: the vectors of the rows) is tuned to. KITH_NOTFOUND when it is not. */
KITH_API kith_status kith_collection_get_tuning(kith_collection *collection, const char *field,
                                                kith_collection_tuning *tuning, kith_error *err);

/* Prove that the file is sound: SQLite's integrity check, then the invariants of docs/collection-format.md
 * (every vector of the right length and finite, every payload canonical, slots and keys one to one, counts
 * equal).
 * In:       run, may be NULL.
 * Errors:   KITH_CORRUPT with the first fault found. Cost: reads everything. */
KITH_API kith_status kith_collection_check(kith_collection *collection, const kith_run *run, kith_error *err);

/* The content hash: XXH3-64 over the key, vector and canonical payload of every row in key order, and dim and
 * metric. Two collections with the same hash hold the same rows, however they came by them. Attachments and
 * named values are left out: they can be made anew. Texts, expiry, partitions and vector fields count where there are any. */
KITH_API kith_status kith_collection_hash(kith_collection *collection, const kith_run *run, uint64_t *hash,
                                          kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
