/* collection.c - making, opening and closing a collection, and the transactions around its reads. */
#include <kith/collection.h>

#include "engine/engine.h"
#include "base/options.h"
#include "engine/budget.h"
#include "engine/expiry.h"
#include "engine/fields.h"
#include "engine/recent.h"
#include "engine/rowset.h"
#include "engine/spaces.h"
#include "engine/vectors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- The handle ---- */

static char *joined(const kith_allocator *allocator, const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b) + 1;
    char *text = ki_alloc(allocator, n + m, 1);
    if (!text) return NULL;
    memcpy(text, a, n);
    memcpy(text + n, b, m);
    return text;
}

kith_status ki_handle_create(const char *path, const kith_collection_options *given, kith_collection **out,
                             kith_error *err)
{
    kith_collection_options options;
    kith_collection_options_init(&options);
    KI_TRY(ki_options_read(&options, sizeof options, given, "options", err));
    if (!path || !*path) return ki_fail(err, KITH_INVALID, "path is empty");
    kith_collection *c = ki_alloc_zero(options.allocator, 1, sizeof *c);
    if (!c) return ki_fail_nomem(err, sizeof *c);
    c->allocator = c->owner = options.allocator;
    if (options.max_bytes > 0) {
        c->budget = ki_alloc_zero(c->owner, 1, sizeof *c->budget);
        if (!c->budget) {
            kith_collection_close(c);
            return ki_fail_nomem(err, sizeof *c->budget);
        }
        ki_budget_init(c->budget, options.max_bytes, c->owner);
        c->allocator = &c->budget->allocator;
    }
    c->io = options.io ? options.io : kith_io_posix();
    c->read_only = options.read_only != 0;
    c->wait_ms = options.wait_ms;
    c->exact_rows = options.exact_rows;
    c->log_bytes = options.log_bytes;
    c->path = ki_strdup(c->allocator, path);
    c->folder = joined(c->allocator, path, ".d");
    if (!c->path || !c->folder) {
        kith_collection_close(c);
        return ki_fail_nomem(err, strlen(path));
    }
    *out = c;
    return KITH_OK;
}

void kith_collection_close(kith_collection *c)
{
    if (!c) return;
    const kith_allocator *allocator = c->allocator;
    kith_collection_rollback(c);
    kith_collection_unpin(c);
    ki_spaces_free(c);
    ki_vectors_free(c);
    ki_rowsets_free(c);
    ki_fields_clear(c);
    ki_expired_clear(c);
    ki_recent_free(c);
    ki_db_close(c);
    ki_buffer *buffers[] = {&c->payload,   &c->vector,  &c->attachment, &c->meta_name, &c->meta_value,
                            &c->canonical, &c->aligned, &c->text_key,   &c->part_name, &c->field_vector};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) ki_buffer_clear(buffers[i], allocator);
    ki_free(allocator, c->path);
    ki_free(allocator, c->folder);
    const kith_allocator *owner = c->owner;
    ki_free(owner, c->budget);
    ki_free(owner, c);
}

/* ---- Open for writing ---- */

kith_status ki_use_log(kith_collection *c, kith_error *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(c->db, "PRAGMA journal_mode=WAL", -1, &stmt, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    const char *mode = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    kith_status status = KITH_OK;
    if (rc != SQLITE_ROW)
        status = ki_db_fail(c, rc, err, "cannot be opened");
    else if (!mode || strcmp(mode, "wal") != 0)
        status = ki_fail(err, KITH_UNSUPPORTED, "%s: its file system cannot keep a write-ahead log", c->path);
    sqlite3_finalize(stmt);
    return status;
}

static kith_status open_for_writing(kith_collection *c, kith_error *err)
{
    KI_TRY(ki_db_open(c, c->path, SQLITE_OPEN_READWRITE, 0, err));
    /* Whose file it is comes first: nothing is written to a foreign one. */
    kith_status status = ki_schema_open(c, err);
    int files_failed = status == KITH_IO && (sqlite3_errcode(c->db) & 0xff) == SQLITE_CANTOPEN;
    if (files_failed || (status == KITH_OK && sqlite3_db_readonly(c->db, "main") != 0))
        return ki_fail(err, KITH_READONLY, "%s: the file or its folder cannot be written", c->path);
    return status == KITH_OK ? ki_use_log(c, err) : status;
}

/* ---- Create ---- */

/* Remove what SQLite may have put beside `path`. */
static void remove_beside(const char *path, const kith_allocator *allocator)
{
    static const char *const endings[] = {"-journal", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char *name = joined(allocator, path, endings[i]);
        if (name) unlink(name);
        ki_free(allocator, name);
    }
}

void ki_remove_database(const char *path, const kith_allocator *allocator)
{
    unlink(path);
    remove_beside(path, allocator);
}

kith_status ki_check_folder(const kith_collection *c, kith_error *err)
{
    const char *slash = strrchr(c->path, '/');
    char *folder = ki_strdup(c->allocator, slash ? c->path : ".");
    if (!folder) return ki_fail_nomem(err, strlen(c->path));
    if (slash) folder[slash == c->path ? 1 : slash - c->path] = 0;
    int error = access(folder, W_OK | X_OK) == 0 ? 0 : errno;
    ki_free(c->allocator, folder);
    if (error == EACCES || error == EPERM)
        return ki_fail(err, KITH_READONLY, "%s: cannot be made: its folder cannot be written", c->path);
    return error ? ki_fail_errno(err, error, "%s: cannot be made", c->path) : KITH_OK;
}

static kith_status make_database(kith_collection *c, const char *temporary, kith_error *err)
{
    KI_TRY(ki_db_open(c, temporary, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, 0, err));
    kith_status status = ki_schema_create(c, err);
    if (status == KITH_OK) status = ki_use_log(c, err);
    ki_db_close(c); /* moves the log into the file and removes it */
    return status;
}

kith_status ki_publish(kith_collection *c, const char *temporary, int *published, kith_error *err)
{
    /* A log whose database is gone would be replayed into the new one. A database that another process makes
     * meanwhile is not ours to remove. */
    struct stat info;
    if (stat(c->path, &info) != 0 && errno == ENOENT) remove_beside(c->path, c->allocator);
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, c->path, RENAME_NOREPLACE) != 0) {
        int error = errno;
        if (error == EINVAL || error == ENOSYS) /* a file system without it: link refuses to replace, too */
            error = link(temporary, c->path) == 0 ? 0 : errno;
        if (error == EEXIST) return ki_fail(err, KITH_EXISTS, "%s: already exists", c->path);
        if (error) return ki_fail_errno(err, error, "%s: cannot be made", c->path);
        unlink(temporary);
    }
    *published = 1;
    int failed = c->io->sync_dir(c->io->ctx, c->path);
    return failed ? ki_fail_errno(err, -failed, "%s: its folder cannot be synced", c->path) : KITH_OK;
}

kith_status kith_collection_create(const char *path, size_t dim, kith_metric metric,
                                   const kith_collection_options *options, kith_collection **collection,
                                   kith_error *err)
{
    if (!collection) return ki_fail(err, KITH_INVALID, "collection is NULL");
    *collection = NULL;
    if (dim > KITH_COLLECTION_MAX_DIM)
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 0..%d", dim, KITH_COLLECTION_MAX_DIM);
    if ((int)metric < KITH_L2SQ || (int)metric > KITH_L1)
        return ki_fail(err, KITH_INVALID, "metric is %d, allowed l2, dot, cosine, l1", (int)metric);
    if (options && options->read_only)
        return ki_fail(err, KITH_INVALID, "read_only is set, a new collection is written");
    kith_collection *c = NULL;
    KI_TRY(ki_handle_create(path, options, &c, err));
    c->state.dim = dim;
    c->state.metric = metric;
    c->state.oldest = 1;

    struct stat info;
    kith_status status = KITH_OK;
    if (stat(path, &info) == 0)
        status = ki_fail(err, KITH_EXISTS, "%s: already exists", path);
    else
        status = ki_check_folder(c, err);
    char ending[64];
    uint64_t random;
    int published = 0;
    sqlite3_randomness(sizeof random, &random);
    snprintf(ending, sizeof ending, ".new-%016llx", (unsigned long long)random);
    char *temporary = joined(c->allocator, path, ending);
    if (status == KITH_OK && !temporary) status = ki_fail_nomem(err, strlen(path) + sizeof ending);
    if (status == KITH_OK) {
        status = make_database(c, temporary, err);
        if (status == KITH_OK) status = ki_publish(c, temporary, &published, err);
        if (status != KITH_OK) ki_remove_database(temporary, c->allocator);
    }
    if (status == KITH_OK) status = open_for_writing(c, err);
    ki_free(c->allocator, temporary);
    if (status != KITH_OK) {
        ki_db_close(c);
        if (published) ki_remove_database(c->path, c->allocator);
        kith_collection_close(c);
        return status;
    }
    *collection = c;
    return KITH_OK;
}

/* ---- Open ---- */

/* Bytes in the write-ahead log, 0 when there is none. */
static uint64_t log_bytes(const kith_collection *c)
{
    char *name = joined(c->allocator, c->path, "-wal");
    struct stat info;
    uint64_t bytes = name && stat(name, &info) == 0 ? (uint64_t)info.st_size : 0;
    ki_free(c->allocator, name);
    return bytes;
}

/* In a folder that cannot be written SQLite cannot make the files by which it tells readers from writers. Without a
 * log, and with nobody else able to write, the database file is complete and may be read without locks. */
static kith_status open_immutable(kith_collection *c, kith_error *err)
{
    if (log_bytes(c) > 0)
        return ki_fail(err, KITH_READONLY,
                       "%s: its log %s-wal must be worked in first: open it once where it can be written",
                       c->path, c->path);
    KI_TRY(ki_db_open(c, c->path, SQLITE_OPEN_READONLY, 1, err));
    c->immutable = 1;
    return ki_schema_open(c, err);
}

static kith_status open_for_reading(kith_collection *c, kith_error *err)
{
    /* Opened for writing where that is possible (and then forbidden by query_only): only so can the last reader
     * work in the log that a killed writer left behind. */
    kith_error first;
    ki_error_clear(&first);
    kith_status status = ki_db_open(c, c->path, SQLITE_OPEN_READWRITE, 0, &first);
    if (status == KITH_OK) status = ki_schema_open(c, &first);
    int rc = c->db ? sqlite3_errcode(c->db) & 0xff : SQLITE_CANTOPEN;
    if (status == KITH_OK) return KITH_OK;
    if ((status == KITH_IO && rc == SQLITE_CANTOPEN) || status == KITH_READONLY) {
        ki_db_close(c);
        return open_immutable(c, err);
    }
    if (err) *err = first;
    return status;
}

kith_status kith_collection_open(const char *path, const kith_collection_options *options,
                                 kith_collection **collection, kith_error *err)
{
    if (!collection) return ki_fail(err, KITH_INVALID, "collection is NULL");
    *collection = NULL;
    kith_collection *c = NULL;
    KI_TRY(ki_handle_create(path, options, &c, err));
    struct stat info;
    kith_status status = KITH_OK;
    if (stat(path, &info) != 0)
        status = ki_fail_errno(err, errno, "%s: cannot be opened", path);
    else if (!S_ISREG(info.st_mode))
        status = ki_fail(err, KITH_FORMAT, "%s: not a file", path);
    else if (access(path, R_OK) != 0)
        status = ki_fail_errno(err, errno, "%s: cannot be read", path);
    else
        status = c->read_only ? open_for_reading(c, err) : open_for_writing(c, err);
    if (status != KITH_OK) {
        kith_collection_close(c);
        return status;
    }
    *collection = c;
    return KITH_OK;
}

/* ---- Discard ---- */

/* Only who is alone can take a database out of WAL; he then keeps its lock, and SQLite has removed the log. So whoever opens the
 * file before it loses its name gets the lock when it has none: a batch of his ends in ki_db_moved. */
static kith_status take_for_oneself(kith_collection *c, kith_error *err)
{
    KI_TRY(ki_db_exec(c, "PRAGMA locking_mode=EXCLUSIVE", "cannot be discarded", err));
    return ki_db_exec(c, "PRAGMA journal_mode=DELETE", "cannot be discarded", err);
}

kith_status kith_collection_discard(kith_collection *c, kith_error *err)
{
    uint64_t rows = 0;
    kith_status status = KITH_OK;
    if (c->mode != KI_IDLE)
        status = ki_fail(err, KITH_INVALID, "the collection is %s",
                         c->mode == KI_PINNED ? "pinned" : "in a batch");
    else if (c->read_only)
        status = ki_fail(err, KITH_READONLY, "%s: was opened for reading only", c->path);
    else if (ki_db_moved(c))
        status = ki_fail(err, KITH_NOTFOUND, "%s: was removed or replaced since it was opened", c->path);
    if (status == KITH_OK) status = kith_collection_count(c, &rows, NULL, err);
    if (status == KITH_OK && rows == 0) status = take_for_oneself(c, err);
    if (status == KITH_OK) status = kith_collection_count(c, &rows, NULL, err);
    if (status == KITH_OK && rows > 0) status = ki_fail(err, KITH_EXISTS, "%s: has rows", c->path);
    int failed = status == KITH_OK ? c->io->unlink(c->io->ctx, c->path) : 0;
    if (failed) status = ki_fail_errno(err, -failed, "%s: cannot be removed", c->path);
    kith_collection_close(c);
    return status;
}

/* ---- Transactions of reads ---- */

void ki_batch_notice(kith_collection *c)
{
    if (c->mode == KI_BATCH && c->batch_status == KITH_OK && sqlite3_get_autocommit(c->db))
        c->batch_status = KITH_IO;
}

kith_status ki_read_begin(kith_collection *c, kith_error *err)
{
    ki_batch_notice(c);
    if (c->broken)
        return ki_fail(err, KITH_IO, "%s: an earlier commit failed to reach the disk; open it anew", c->path);
    if (c->mode == KI_BATCH && c->batch_status != KITH_OK)
        return ki_fail(err, c->batch_status, "%s: a change of the batch failed (%s); roll it back", c->path,
                       kith_status_text(c->batch_status));
    if (c->mode != KI_PINNED) c->now = (int64_t)time(NULL);
    if (c->mode != KI_IDLE) return KITH_OK;
    if (c->immutable && log_bytes(c) > 0)
        return ki_fail(err, KITH_BUSY,
                       "%s: is being written since it was opened in a read-only folder; open it anew",
                       c->path);
    /* A transaction that could not be ended for want of memory is ended now. */
    if (!sqlite3_get_autocommit(c->db)) KI_TRY(ki_db_do(c, KI_SQL_ROLLBACK, err));
    KI_TRY(ki_db_do(c, KI_SQL_BEGIN_READ, err));
    kith_status status = ki_schema_follow(c, err);
    if (status == KITH_OK) status = ki_state_read(c, err);
    if (status != KITH_OK) ki_read_end(c);
    return status;
}

void ki_read_end(kith_collection *c)
{
    if (c->mode != KI_IDLE || !c->stmt[KI_SQL_BEGIN_READ]) return;
    /* Nothing was written, so nothing can be lost here; a failing COMMIT is answered by a ROLLBACK. */
    if (ki_db_do(c, KI_SQL_COMMIT, NULL) != KITH_OK) sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
}

kith_status kith_collection_pin(kith_collection *c, kith_error *err)
{
    if (c->mode != KI_IDLE)
        return ki_fail(err, KITH_INVALID, "the collection is %s already",
                       c->mode == KI_PINNED ? "pinned" : "in a batch");
    KI_TRY(ki_read_begin(c, err));
    c->mode = KI_PINNED;
    return KITH_OK;
}

void kith_collection_unpin(kith_collection *c)
{
    if (c->mode != KI_PINNED) return;
    c->mode = KI_IDLE;
    ki_read_end(c);
}

/* ---- What it is ---- */

size_t kith_collection_dim(const kith_collection *c)
{
    return c->state.dim;
}

kith_metric kith_collection_metric(const kith_collection *c)
{
    return c->state.metric;
}

const char *kith_collection_path(const kith_collection *c)
{
    return c->path;
}

kith_status kith_collection_version(kith_collection *c, uint64_t *version, kith_error *err)
{
    KI_TRY(ki_read_begin(c, err));
    *version = c->state.version;
    ki_read_end(c);
    return KITH_OK;
}

kith_status kith_collection_count(kith_collection *c, uint64_t *rows, uint64_t *vectors, kith_error *err)
{
    KI_TRY(ki_read_begin(c, err));
    if (rows) *rows = c->state.rows;
    if (vectors) *vectors = c->state.vectors;
    ki_read_end(c);
    return KITH_OK;
}
