/* batch.c - changing rows: batches that are on the disk when their commit answers.
 *
 * Within a batch the state (counts, versions) is kept in the handle and written once, by commit, in the same
 * transaction as the rows. Every change has an entry in the change log, which is how the in-memory vectors of this
 * and other processes, and the segments, learn what they no longer cover. */
#include "engine/engine.h"
#include "engine/expiry.h"
#include "engine/fields.h"
#include "engine/parts.h"
#include "engine/rowset.h"
#include "engine/spaces.h"
#include "engine/vectors.h"

#include <string.h>

/* How many changes the log keeps beyond one for each row: a reader that is farther behind reads everything anew,
 * which is no dearer than following so long a log. Arbitrary. */
#define LOG_SLACK 4096

/* ---- Begin, commit, rollback ---- */

/* The transaction of one batch, or of several: the writer's lock. */
static kith_status begin_writing(kith_collection *c, kith_error *err)
{
    if (c->mode != KI_IDLE)
        return ki_fail(err, KITH_INVALID, "the collection is %s already",
                       c->mode == KI_PINNED ? "pinned" : "in a batch");
    if (c->read_only) return ki_fail(err, KITH_READONLY, "%s: was opened for reading only", c->path);
    if (c->broken)
        return ki_fail(err, KITH_IO, "%s: an earlier commit failed to reach the disk; open it anew", c->path);
    if (!sqlite3_get_autocommit(c->db)) KI_TRY(ki_db_do(c, KI_SQL_ROLLBACK, err));
    KI_TRY(ki_db_do(c, KI_SQL_BEGIN_WRITE, err));
    if (!ki_db_moved(c)) return KITH_OK;
    ki_db_do(c, KI_SQL_ROLLBACK, NULL);
    return ki_fail(err, KITH_NOTFOUND, "%s: was removed or replaced since it was opened; open it anew",
                   c->path);
}

static kith_status open_batch(kith_collection *c, kith_error *err)
{
    KI_TRY(ki_schema_follow(c, err));
    KI_TRY(ki_state_read(c, err));
    KI_TRY(ki_fields_load(c, err));
    KI_TRY(ki_spaces_load(c, err));
    c->mode = KI_BATCH;
    c->batch_status = KITH_OK;
    c->begin_version = c->state.version;
    return KITH_OK;
}

kith_status kith_collection_begin(kith_collection *c, kith_error *err)
{
    KI_TRY(begin_writing(c, err));
    kith_status status = open_batch(c, err);
    if (status != KITH_OK) ki_db_do(c, KI_SQL_ROLLBACK, NULL);
    return status;
}

/* End the transaction without its changes. */
static void abandon(kith_collection *c)
{
    /* After some errors SQLite has rolled back by itself, and a second time would be an error. */
    if (!sqlite3_get_autocommit(c->db) && ki_db_do(c, KI_SQL_ROLLBACK, NULL) != KITH_OK)
        sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
}

/* What the handle knows of the batch is forgotten. */
static void forget_batch(kith_collection *c)
{
    c->mode = KI_IDLE;
    c->spaces->loaded = 0; /* its counts are those of the batch */
    ki_spaces_each(c, ki_vectors_rolled_back);
    ki_rowsets_batch_ended(c);
}

/* What the handle knows of the batch is so from now on. */
static void keep_batch(kith_collection *c)
{
    c->mode = KI_IDLE;
    c->spaces->loaded = 0;
    ki_spaces_each(c, ki_vectors_committed);
    ki_rowsets_batch_ended(c);
}

void kith_collection_rollback(kith_collection *c)
{
    if (c->mode != KI_BATCH) return;
    if (c->shared) { /* whoever began it ends it, and finds that it cannot be committed */
        ki_batch_spoil(c, KITH_INVALID);
        return;
    }
    abandon(c);
    forget_batch(c);
}

/* The version of the oldest change worth keeping. */
static uint64_t first_kept(const ki_state *s)
{
    uint64_t kept = s->rows + LOG_SLACK;
    uint64_t first = s->version > kept ? s->version - kept + 1 : 1;
    return first > s->oldest ? first : s->oldest;
}

static kith_status finish_batch(kith_collection *c, kith_error *err)
{
    sqlite3_stmt *stmt;
    ki_state *s = &c->state;
    sqlite3_randomness(sizeof s->stamp, &s->stamp);
    KI_TRY(ki_db_prepare(c, KI_SQL_BATCH_ADD, &stmt, err));
    sqlite3_bind_int64(stmt, 1, (int64_t)s->version);
    sqlite3_bind_int64(stmt, 2, (int64_t)s->stamp);
    KI_TRY(ki_db_run(c, KI_SQL_BATCH_ADD, err));
    uint64_t first = first_kept(s);
    if (first > s->oldest) {
        s->oldest = first;
        KI_TRY(ki_db_prepare(c, KI_SQL_CHANGE_TRIM, &stmt, err));
        sqlite3_bind_int64(stmt, 1, (int64_t)first);
        KI_TRY(ki_db_run(c, KI_SQL_CHANGE_TRIM, err));
        KI_TRY(ki_db_prepare(c, KI_SQL_BATCH_TRIM, &stmt, err));
        sqlite3_bind_int64(stmt, 1, (int64_t)first - 1);
        KI_TRY(ki_db_run(c, KI_SQL_BATCH_TRIM, err));
    }
    KI_TRY(ki_spaces_write(c, err));
    return ki_state_write(c, err);
}

/* All that a batch writes at its end. */
static kith_status close_batch(kith_collection *c, kith_error *err)
{
    ki_batch_notice(c);
    if (c->batch_status != KITH_OK)
        return ki_fail(err, c->batch_status, "%s: an earlier change of the batch failed (%s); it is undone",
                       c->path, kith_status_text(c->batch_status));
    return c->state.version != c->begin_version ? finish_batch(c, err) : KITH_OK;
}

static kith_status commit(kith_collection *c, kith_error *err)
{
    kith_status status = ki_db_do(c, KI_SQL_COMMIT, err);
    /* A sync that failed once may "succeed" the next time without having written (the kernel drops the dirty
     * pages), so nothing that this handle would say about the disk can be trusted any more. */
    int rc = sqlite3_extended_errcode(c->db);
    if (status == KITH_IO && (rc & 0xff) == SQLITE_IOERR) c->broken = 1;
    return status;
}

kith_status kith_collection_commit(kith_collection *c, kith_error *err)
{
    if (c->mode != KI_BATCH) return ki_fail(err, KITH_INVALID, "there is no batch to commit");
    if (c->shared) return ki_fail(err, KITH_INVALID, "the batch is committed by kith_writers_write");
    kith_status status = close_batch(c, err);
    if (status == KITH_OK) status = commit(c, err);
    if (status == KITH_OK)
        keep_batch(c);
    else
        kith_collection_rollback(c);
    return status;
}

/* ---- Batches that share a transaction ---- */

kith_status ki_share_begin(kith_collection *c, unsigned wait_ms, kith_error *err)
{
    ki_db_patience(c, wait_ms);
    kith_status status = begin_writing(c, err);
    ki_db_patience(c, c->wait_ms);
    c->shared = status == KITH_OK;
    c->shared_batches = 0;
    return status;
}

/* Undo the batch at hand; the others with it, where that is all that can be done. */
static void undo_shared(kith_collection *c)
{
    /* The first one has no savepoint: to undo it is to undo all. */
    if (c->shared_batches > 0 && !sqlite3_get_autocommit(c->db) &&
        ki_db_do(c, KI_SQL_ROLLBACK_TO, NULL) == KITH_OK && ki_db_do(c, KI_SQL_RELEASE, NULL) == KITH_OK)
        return;
    abandon(c);
    c->shared = 0;
    /* What was read within the batches that are gone with it would be taken for that of others, of the same versions. */
    if (c->shared_batches > 0) ki_spaces_each(c, ki_vectors_free);
}

kith_status ki_share_batch(kith_collection *c, kith_error *err)
{
    if (c->shared_batches > 0) {
        kith_status status = ki_db_do(c, KI_SQL_SAVEPOINT, err);
        if (status != KITH_OK) {
            if (sqlite3_get_autocommit(c->db)) undo_shared(c);
            return status;
        }
    }
    kith_status status = open_batch(c, err);
    if (status != KITH_OK) undo_shared(c);
    return status;
}

kith_status ki_share_batch_end(kith_collection *c, kith_status status, kith_error *err)
{
    if (status == KITH_OK) status = close_batch(c, err);
    if (status == KITH_OK && c->shared_batches > 0) status = ki_db_do(c, KI_SQL_RELEASE, err);
    if (status == KITH_OK) {
        keep_batch(c);
        c->shared_batches++;
    } else {
        undo_shared(c);
        forget_batch(c);
    }
    return status;
}

kith_status ki_share_commit(kith_collection *c, kith_error *err)
{
    kith_status status = commit(c, err);
    if (status != KITH_OK) {
        abandon(c);
        ki_spaces_each(c, ki_vectors_free);
    }
    c->shared = 0;
    return status;
}

/* ---- Changes ---- */

kith_status ki_batch_check(kith_collection *c, kith_error *err)
{
    ki_batch_notice(c);
    if (c->mode != KI_BATCH)
        return ki_fail(err, KITH_INVALID, "there is no batch: call kith_collection_begin");
    if (c->batch_status != KITH_OK)
        return ki_fail(err, c->batch_status, "%s: an earlier change of the batch failed (%s)", c->path,
                       kith_status_text(c->batch_status));
    return KITH_OK;
}

kith_status ki_batch_spoil(kith_collection *c, kith_status status)
{
    if (status != KITH_OK) c->batch_status = status;
    return status;
}

kith_status ki_log_change(kith_collection *c, int64_t key, unsigned parts, kith_error *err)
{
    sqlite3_stmt *stmt;
    if (c->adopts) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_CHANGE_ADD, &stmt, err));
    sqlite3_bind_int64(stmt, 1, (int64_t)c->state.version + 1);
    sqlite3_bind_int64(stmt, 2, key);
    sqlite3_bind_int64(stmt, 3, parts);
    KI_TRY(ki_db_run(c, KI_SQL_CHANGE_ADD, err));
    c->state.version++;
    return KITH_OK;
}

/* A slot for a new row: that of a deleted one, or a new one at the end. */
static kith_status take_slot(kith_collection *c, int64_t *slot, kith_error *err)
{
    sqlite3_stmt *stmt;
    int found = 0;
    if (c->state.rows < (uint64_t)c->state.last_slot) {
        KI_TRY(ki_db_prepare(c, KI_SQL_SLOT_TAKE, &stmt, err));
        KI_TRY(ki_db_step(c, KI_SQL_SLOT_TAKE, &found, err));
        if (!found) return ki_corrupt(c, err, "no slot is free where some should be");
        *slot = sqlite3_column_int64(stmt, 0);
        ki_db_reset(c, KI_SQL_SLOT_TAKE);
        KI_TRY(ki_db_prepare(c, KI_SQL_SLOT_USE, &stmt, err));
        sqlite3_bind_int64(stmt, 1, *slot);
        return ki_db_run(c, KI_SQL_SLOT_USE, err);
    }
    *slot = ++c->state.last_slot;
    return KITH_OK;
}

/* What a put found at its key. */
typedef struct target {
    int64_t key, slot;
    int exists, had_vector;
    int expired; /* no read finds the row any more: what is put at its key is a new one */
} target;

static kith_status find(kith_collection *c, int64_t key, target *t, kith_error *err)
{
    sqlite3_stmt *stmt;
    *t = (target){.key = key};
    /* A key beyond the last one ever used is new: an import in ascending order never looks. */
    if (key > c->state.last_key) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_RECORD_FIND, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    KI_TRY(ki_db_step(c, KI_SQL_RECORD_FIND, &t->exists, err));
    if (!t->exists) return KITH_OK;
    t->slot = sqlite3_column_int64(stmt, 0);
    t->had_vector = sqlite3_column_int(stmt, 1);
    ki_db_reset(c, KI_SQL_RECORD_FIND);
    return ki_is_expired(c, key, &t->expired, err);
}

static kith_status check_row(const kith_collection *c, unsigned parts, const kith_row *row, kith_error *err)
{
    if (!row) return ki_fail(err, KITH_INVALID, "row is NULL");
    if (parts & ~(unsigned)(KITH_ROW_ALL | KITH_ROW_NEW))
        return ki_fail(err, KITH_INVALID, "parts is %u, allowed 0..%d", parts, KITH_ROW_ALL | KITH_ROW_NEW);
    if (row->key < 0)
        return ki_fail(err, KITH_INVALID, "key is %lld, allowed 0..%lld", (long long)row->key,
                       (long long)INT64_MAX);
    if (row->key == 0 && c->state.last_key == INT64_MAX)
        return ki_fail(err, KITH_INVALID, "key is 0, but the largest key is in use: no next one is left");
    if ((parts & KITH_ROW_VECTOR) && row->vector) {
        if (c->state.dim == 0)
            return ki_fail(err, KITH_UNTRAINED, "%s: a vector cannot be put before the collection has a dim",
                           c->path);
        if (row->dim != c->state.dim)
            return ki_fail(err, KITH_INVALID, "the vector has %zu components, the collection %zu", row->dim,
                           c->state.dim);
        if (!ki_all_finite(row->vector, row->dim))
            return ki_fail(err, KITH_INVALID, "the vector has a component that is not finite");
    }
    if ((parts & KITH_ROW_ATTACHMENT) && row->attachment &&
        row->attachment_size > KITH_COLLECTION_MAX_ATTACHMENT)
        return ki_fail(err, KITH_INVALID, "attachment is %zu bytes long, allowed 0..%u", row->attachment_size,
                       KITH_COLLECTION_MAX_ATTACHMENT);
    return KITH_OK;
}

/* The canonical payload of a put, in c->canonical. */
static kith_status prepare_payload(kith_collection *c, unsigned parts, const kith_row *row, kith_error *err)
{
    c->canonical.size = 0;
    const char *text = (parts & KITH_ROW_PAYLOAD) && row->payload ? row->payload : "{}";
    size_t size = text == row->payload && row->payload_size > 0 ? row->payload_size : strlen(text);
    if (size == 2 && memcmp(text, "{}", 2) == 0)
        return ki_buffer_append(&c->canonical, "{}", 2, c->allocator, err);
    KI_TRY(ki_payload_canonical(text, size, &c->canonical, c->allocator, err));
    return ki_fields_check(c, err);
}

static void bind_vector(sqlite3_stmt *stmt, int at, const kith_collection *c, const float *vector)
{
    if (vector)
        sqlite3_bind_blob64(stmt, at, vector, c->state.dim * sizeof *vector, SQLITE_STATIC);
    else
        sqlite3_bind_null(stmt, at);
}

static kith_status insert_record(kith_collection *c, target *t, const float *vector, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(take_slot(c, &t->slot, err));
    KI_TRY(ki_db_prepare(c, KI_SQL_RECORD_INSERT, &stmt, err));
    sqlite3_bind_int64(stmt, 1, t->slot);
    sqlite3_bind_int64(stmt, 2, t->key);
    sqlite3_bind_text(stmt, 3, (const char *)c->canonical.data, (int)c->canonical.size, SQLITE_STATIC);
    bind_vector(stmt, 4, c, vector);
    KI_TRY(ki_db_run(c, KI_SQL_RECORD_INSERT, err));
    KI_TRY(ki_fields_put_in(c, t->key, err));
    c->state.rows++;
    if (t->key > c->state.last_key) c->state.last_key = t->key;
    return KITH_OK;
}

static kith_status update_record(kith_collection *c, const target *t, unsigned parts, const float *vector,
                                 kith_error *err)
{
    sqlite3_stmt *stmt;
    if (!(parts & (KITH_ROW_PAYLOAD | KITH_ROW_VECTOR))) return KITH_OK;
    if (parts & KITH_ROW_PAYLOAD) KI_TRY(ki_fields_take_out(c, t->slot, t->key, err));
    KI_TRY(ki_db_prepare(c, KI_SQL_RECORD_UPDATE, &stmt, err));
    sqlite3_bind_int64(stmt, 1, t->slot);
    sqlite3_bind_int(stmt, 2, (parts & KITH_ROW_PAYLOAD) != 0);
    sqlite3_bind_text(stmt, 3, (const char *)c->canonical.data, (int)c->canonical.size, SQLITE_STATIC);
    sqlite3_bind_int(stmt, 4, (parts & KITH_ROW_VECTOR) != 0);
    bind_vector(stmt, 5, c, vector);
    KI_TRY(ki_db_run(c, KI_SQL_RECORD_UPDATE, err));
    return parts & KITH_ROW_PAYLOAD ? ki_fields_put_in(c, t->key, err) : KITH_OK;
}

static kith_status put_attachment(kith_collection *c, int64_t slot, const kith_row *row, kith_error *err)
{
    sqlite3_stmt *stmt;
    enum ki_sql which = row->attachment ? KI_SQL_ATTACHMENT_PUT : KI_SQL_ATTACHMENT_DELETE;
    KI_TRY(ki_db_prepare(c, which, &stmt, err));
    sqlite3_bind_int64(stmt, 1, slot);
    if (row->attachment) sqlite3_bind_blob64(stmt, 2, row->attachment, row->attachment_size, SQLITE_STATIC);
    return ki_db_run(c, which, err);
}

static kith_status put_row(kith_collection *c, unsigned parts, const kith_row *row, target t, kith_error *err)
{
    const float *vector = (parts & KITH_ROW_VECTOR) ? row->vector : NULL;
    const kith_row no_attachment = {0};
    const kith_row *with_attachment = parts & KITH_ROW_ATTACHMENT ? row : &no_attachment;
    if (t.expired) {
        KI_TRY(ki_expiry_clear(c, t.key, err));
        KI_TRY(ki_part_clear(c, t.key, err));
        KI_TRY(ki_spaces_take_out(c, t.slot, err));
        parts = KITH_ROW_ALL; /* the parts that are not put are those of a new row: nothing */
    }
    if (t.exists)
        KI_TRY(update_record(c, &t, parts, vector, err));
    else
        KI_TRY(insert_record(c, &t, vector, err));
    /* A new row takes a slot that has no attachment: delete_row saw to that. */
    if ((parts & KITH_ROW_ATTACHMENT) && (t.exists || row->attachment))
        KI_TRY(put_attachment(c, t.slot, with_attachment, err));
    if (parts & KITH_ROW_VECTOR) {
        c->state.vectors += vector != NULL;
        c->state.vectors -= t.had_vector != 0;
    }
    if (t.expired) parts |= KI_CHANGE_MEMBER | KI_CHANGE_SPACES; /* gone with the row that was there */
    return ki_log_change(c, t.key, t.exists ? parts : KITH_ROW_ALL, err);
}

kith_status kith_collection_put(kith_collection *c, unsigned parts, const kith_row *row, int64_t *key,
                                kith_error *err)
{
    KI_TRY(ki_batch_check(c, err));
    KI_TRY(check_row(c, parts, row, err));
    KI_TRY(prepare_payload(c, parts, row, err)); /* touches no row yet: nothing is spoilt when it fails */
    target t;
    KI_TRY(ki_batch_spoil(c, find(c, row->key > 0 ? row->key : c->state.last_key + 1, &t, err)));
    if ((parts & KITH_ROW_NEW) && t.exists && !t.expired)
        return ki_fail(err, KITH_EXISTS, "%s: there is a row %lld already", c->path, (long long)t.key);
    KI_TRY(ki_batch_spoil(c, put_row(c, parts & KITH_ROW_ALL, row, t, err)));
    if (key) *key = t.key;
    return KITH_OK;
}

/* What else is kept of a row, by slot and by key. */
static kith_status delete_row(kith_collection *c, const target *t, kith_error *err)
{
    static const struct {
        enum ki_sql step;
        int by_key;
    } steps[] = {{KI_SQL_RECORD_DELETE, 0}, {KI_SQL_ATTACHMENT_DELETE, 0}, {KI_SQL_SLOT_FREE, 0},
                 {KI_SQL_TEXT_DELETE, 1},   {KI_SQL_EXPIRY_DELETE, 1},     {KI_SQL_MEMBER_DELETE, 1}};
    sqlite3_stmt *stmt;
    KI_TRY(ki_fields_take_out(c, t->slot, t->key, err));
    KI_TRY(ki_spaces_take_out(c, t->slot, err));
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        KI_TRY(ki_db_prepare(c, steps[i].step, &stmt, err));
        sqlite3_bind_int64(stmt, 1, steps[i].by_key ? t->key : t->slot);
        KI_TRY(ki_db_run(c, steps[i].step, err));
    }
    c->state.rows--;
    c->state.vectors -= t->had_vector != 0;
    return ki_log_change(c, t->key, KI_CHANGE_DELETED | KITH_ROW_ALL, err);
}

kith_status kith_collection_delete(kith_collection *c, int64_t key, kith_error *err)
{
    target t;
    KI_TRY(ki_batch_check(c, err));
    KI_TRY(ki_batch_spoil(c, find(c, key, &t, err)));
    if (!t.exists) return ki_fail(err, KITH_NOTFOUND, "%s: there is no row %lld", c->path, (long long)key);
    return ki_batch_spoil(c, delete_row(c, &t, err));
}

/* The payload with the patch in c->canonical merged into it, in *out. */
static kith_status merged(kith_collection *c, int64_t key, ki_buffer *out, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row, expired;
    KI_TRY(ki_batch_spoil(c, ki_is_expired(c, key, &expired, err)));
    if (expired) return ki_fail(err, KITH_NOTFOUND, "%s: there is no row %lld", c->path, (long long)key);
    KI_TRY(ki_db_prepare(c, KI_SQL_PAYLOAD_OF, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    KI_TRY(ki_batch_spoil(c, ki_db_step(c, KI_SQL_PAYLOAD_OF, &row, err)));
    if (!row) return ki_fail(err, KITH_NOTFOUND, "%s: there is no row %lld", c->path, (long long)key);
    const char *text = (const char *)sqlite3_column_text(stmt, 0);
    size_t size = (size_t)sqlite3_column_bytes(stmt, 0);
    kith_error why;
    kith_status status = text ? ki_payload_merge(text, size, (const char *)c->canonical.data,
                                                 c->canonical.size, out, c->allocator, &why)
                              : ki_fail_nomem(&why, 0);
    ki_db_reset(c, KI_SQL_PAYLOAD_OF);
    if (status == KITH_INVALID) /* the patch is canonical: it is the row that is not */
        return ki_batch_spoil(c, ki_corrupt(c, err, "row %lld: %s", (long long)key, why.message));
    if (status != KITH_OK && err) *err = why;
    return status;
}

kith_status kith_collection_merge(kith_collection *c, int64_t key, const char *patch, size_t size,
                                  kith_error *err)
{
    ki_buffer text = {0};
    KI_TRY(ki_batch_check(c, err));
    if (!patch) return ki_fail(err, KITH_INVALID, "patch is NULL");
    if (key < 1)
        return ki_fail(err, KITH_INVALID, "key is %lld, allowed 1..%lld", (long long)key,
                       (long long)INT64_MAX);
    c->canonical.size = 0;
    KI_TRY(ki_payload_canonical(patch, size ? size : strlen(patch), &c->canonical, c->allocator, err));
    kith_status status = merged(c, key, &text, err);
    if (status == KITH_OK) {
        kith_row row = {.key = key, .payload = (const char *)text.data, .payload_size = text.size};
        status = kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, err);
    }
    ki_buffer_clear(&text, c->allocator);
    return status;
}

static kith_status reset_vectors(kith_collection *c, size_t dim, kith_metric metric, kith_error *err)
{
    KI_TRY(ki_db_do(c, KI_SQL_RECORD_RESET, err));
    KI_TRY(ki_log_change(c, 0, KI_CHANGE_RESET, err));
    c->state.dim = dim;
    c->state.metric = metric;
    c->state.vectors = 0;
    c->state.reset_version = c->state.version;
    return KITH_OK;
}

kith_status kith_collection_reset_vectors(kith_collection *c, size_t dim, kith_metric metric, kith_error *err)
{
    KI_TRY(ki_batch_check(c, err));
    if (dim > KITH_COLLECTION_MAX_DIM)
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 0..%d", dim, KITH_COLLECTION_MAX_DIM);
    if ((int)metric < KITH_L2SQ || (int)metric > KITH_L1)
        return ki_fail(err, KITH_INVALID, "metric is %d, allowed l2, dot, cosine, l1", (int)metric);
    return ki_batch_spoil(c, reset_vectors(c, dim, metric, err));
}
