/* copy_rows.c - rows, and all that belongs to them, from one collection into another.
 *
 * A copy is at a point (version, stamp) of its source's history. If the source's change log still knows all changes since then,
 * their keys are all that has to be looked at. A copy that is being made for the first time takes the point of its beginning;
 * rows are copied in the order of their keys, each from the state that there is then, and what changed behind the place that was
 * reached is caught up with by the log in the end. So the source is pinned for a batch at a time, and it does not matter how
 * often the copying dies. Where the log does not help, both collections are gone through side by side.
 *
 * What the copy takes is proved on the way, as every row that is put is: a damaged row ends the copying. */
#include "engine/content.h"
#include "engine/copy.h"
#include "engine/spaces.h"
#include "engine/vectors.h"

#include <stdio.h>
#include <string.h>

/* Rows and bytes of a batch of a first copy: what a killed copy loses. Arbitrary; the sync at the end of a batch should be
 * small beside it. */
#define BATCH_ROWS 4096
#define BATCH_BYTES ((size_t)32 << 20)

/* ---- One row ---- */

static kith_status put_row(ki_copy *x, const kith_row *row)
{
    kith_error why;
    kith_status status = kith_collection_put(x->to, KITH_ROW_ALL, row, NULL, &why);
    if (status == KITH_INVALID)
        return ki_corrupt(x->from, x->err, "row %lld: %s", (long long)row->key, why.message);
    if (status != KITH_OK && x->err) *x->err = why;
    x->report.rows += status == KITH_OK;
    return status;
}

static kith_status delete_row(ki_copy *x, int64_t key)
{
    kith_status status = kith_collection_delete(x->to, key, x->err);
    if (status == KITH_NOTFOUND) return KITH_OK;
    x->report.deleted += status == KITH_OK;
    return status;
}

static int same_row(const kith_row *a, const kith_row *b)
{
    return a->payload_size == b->payload_size && memcmp(a->payload, b->payload, a->payload_size) == 0 &&
           a->dim == b->dim &&
           (a->dim == 0 || memcmp(a->vector, b->vector, a->dim * sizeof *a->vector) == 0) &&
           !a->attachment == !b->attachment && a->attachment_size == b->attachment_size &&
           (a->attachment_size == 0 || memcmp(a->attachment, b->attachment, a->attachment_size) == 0);
}

/* The vector of a row in the field that a collection has gone over to, NULL: none; valid until the statement is reset. */
static kith_status fetch(kith_collection *c, int64_t key, enum ki_sql *which, const float **vector,
                         kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    *vector = NULL;
    KI_TRY(ki_space_get(c, key, which, &stmt, err));
    KI_TRY(ki_db_step(c, *which, &row, err));
    return row ? ki_row_vector(c, stmt, 0, key, vector, err) : KITH_OK;
}

static kith_status copy_vector(ki_copy *x, int64_t key, const ki_space *space)
{
    enum ki_sql ours = KI_SQL_COUNT, theirs = KI_SQL_COUNT;
    const float *from = NULL, *to = NULL;
    size_t dim = space->dim; /* exchanged once the field is entered */
    KI_TRY(ki_space_enter(x->from, space->name, x->err));
    kith_status status = fetch(x->from, key, &ours, &from, x->err);
    ki_space_leave(x->from);
    if (status == KITH_OK) status = ki_space_enter(x->to, space->name, x->err);
    if (status == KITH_OK) status = fetch(x->to, key, &theirs, &to, x->err);
    ki_space_leave(x->to);
    int same = status == KITH_OK && (from && to ? memcmp(from, to, dim * sizeof *from) == 0 : !from && !to);
    if (theirs != KI_SQL_COUNT) ki_db_reset(x->to, theirs);
    if (status == KITH_OK && !same)
        status = kith_collection_put_vector(x->to, key, space->name, from, from ? dim : 0, x->err);
    if (ours != KI_SQL_COUNT) ki_db_reset(x->from, ours);
    return status;
}

/* The vectors that a row has in vector fields, which are the same in both. */
static kith_status copy_vectors(ki_copy *x, int64_t key)
{
    for (size_t i = 0; i < x->from->spaces->n; i++) KI_TRY(copy_vector(x, key, x->from->spaces->items[i]));
    return KITH_OK;
}

/* Now and then: how far it is, and whether to go on. */
static kith_status report(ki_copy *x, uint64_t done)
{
    if (done % 256 != 0) return KITH_OK;
    ki_stage_report(&x->stage, done < x->stage.total ? done : x->stage.total);
    return ki_run_check(x->run, x->err);
}

/* ---- The first copy ---- */

kith_status ki_copy_begin(ki_copy *x)
{
    sqlite3_stmt *stmt;
    const ki_state *from = &x->from->state;
    ki_state *to = &x->to->state;
    memcpy(to->id, from->id, sizeof to->id);
    to->dim = from->dim;
    to->metric = from->metric;
    to->version = from->version;
    to->oldest = from->version + 1; /* its log is empty */
    to->reset_version = from->reset_version;
    to->stamp = from->stamp;
    KI_TRY(ki_db_prepare(x->to, KI_SQL_STATE_ID, &stmt, x->err));
    sqlite3_bind_blob(stmt, 1, to->id, sizeof to->id, SQLITE_STATIC);
    KI_TRY(ki_db_run(x->to, KI_SQL_STATE_ID, x->err));
    if (to->version > 0) {
        KI_TRY(ki_db_prepare(x->to, KI_SQL_BATCH_ADD, &stmt, x->err));
        sqlite3_bind_int64(stmt, 1, (int64_t)to->version);
        sqlite3_bind_int64(stmt, 2, (int64_t)to->stamp);
        KI_TRY(ki_db_run(x->to, KI_SQL_BATCH_ADD, x->err));
    }
    x->to->begin_version = to->version; /* there is nothing for commit to log */
    KI_TRY(ki_copy_spaces(x));
    return ki_state_write(x->to, x->err);
}

/* Rows behind the last one there is; *rows 0: there are no more. */
static kith_status copy_batch(ki_copy *x, uint64_t *rows)
{
    size_t bytes = 0;
    int found = 1;
    for (*rows = 0; *rows < BATCH_ROWS && bytes < BATCH_BYTES; ++*rows) {
        kith_row row = {0};
        KI_TRY(ki_record_find(x->from, KI_SQL_RECORD_NEXT, x->to->state.last_key, KITH_ROW_ALL, &found, &row,
                              x->err));
        if (!found) break;
        KI_TRY(put_row(x, &row));
        KI_TRY(copy_vectors(x, row.key));
        bytes += row.payload_size + row.dim * sizeof(float) + row.attachment_size;
        KI_TRY(report(x, x->to->state.rows));
    }
    KI_TRY(ki_spaces_write(x->to, x->err));
    return ki_state_write(x->to, x->err);
}

static kith_status fill_once(ki_copy *x, uint64_t *rows)
{
    const ki_state *from = &x->from->state, *to = &x->to->state;
    *rows = 0;
    /* Vectors of another kind by now: the end begins anew with what is there. */
    if (from->reset_version > to->version || from->dim != to->dim || from->metric != to->metric) {
        x->from_zero = 1;
        return KITH_OK;
    }
    KI_TRY(kith_collection_begin(x->to, x->err));
    int same;
    kith_status status = ki_copy_same_spaces(x, &same);
    if (status == KITH_OK && same) status = copy_batch(x, rows);
    x->from_zero |= status == KITH_OK && !same;
    if (status == KITH_OK) return kith_collection_commit(x->to, x->err);
    kith_collection_rollback(x->to);
    return status;
}

kith_status ki_copy_fill(ki_copy *x)
{
    uint64_t rows;
    int pinned = x->from->mode == KI_PINNED;
    do {
        if (!pinned) KI_TRY(kith_collection_pin(x->from, x->err));
        kith_status status = fill_once(x, &rows);
        if (!pinned) kith_collection_unpin(x->from);
        if (status != KITH_OK) return status;
    } while (rows > 0);
    return KITH_OK;
}

/* ---- Catching up by the log ---- */

/* Whether `to` is at a point of the history of `from`, and the log reaches back to it. */
static kith_status follows(ki_copy *x, int *yes)
{
    const ki_state *from = &x->from->state, *to = &x->to->state;
    *yes = memcmp(from->id, to->id, sizeof from->id) == 0 && to->version <= from->version &&
           to->version + 1 >= from->oldest;
    if (!*yes || to->version == 0) return KITH_OK;
    return ki_stamp_holds(x->from, to->version, to->stamp, yes, x->err);
}

typedef kith_status (*visit_key)(ki_copy *x, int64_t key);

/* The keys changed after `since`, ascending; 0 for changes that are of no row. */
static kith_status each_change(ki_copy *x, uint64_t since, unsigned parts, visit_key visit)
{
    sqlite3_stmt *stmt;
    int row;
    uint64_t done = 0;
    KI_TRY(ki_db_prepare(x->from, KI_SQL_CHANGE_KEYS, &stmt, x->err));
    sqlite3_bind_int64(stmt, 1, (int64_t)since);
    sqlite3_bind_int64(stmt, 2, parts);
    sqlite3_bind_int64(stmt, 3, INT64_MAX);
    kith_status status;
    while ((status = ki_db_step(x->from, KI_SQL_CHANGE_KEYS, &row, x->err)) == KITH_OK && row) {
        int64_t key = sqlite3_column_int64(stmt, 0);
        if (key > 0) status = visit(x, key);
        if (status == KITH_OK) status = report(x, ++done);
        if (status != KITH_OK) break;
    }
    ki_db_reset(x->from, KI_SQL_CHANGE_KEYS);
    return status;
}

static kith_status clear_changed(ki_copy *x, int64_t key)
{
    int found;
    kith_row row = {0};
    for (size_t i = 0; i < KI_CONTENT_COUNT; i++)
        KI_TRY(ki_content_remove(x->to, &ki_contents[i], key, x->err));
    KI_TRY(ki_record_find(x->from, KI_SQL_RECORD_GET, key, 0, &found, &row, x->err));
    return found ? KITH_OK : delete_row(x, key);
}

static kith_status put_changed(ki_copy *x, int64_t key)
{
    int found;
    kith_row row = {0};
    KI_TRY(ki_record_find(x->from, KI_SQL_RECORD_GET, key, KITH_ROW_ALL, &found, &row, x->err));
    if (!found) return KITH_OK;
    KI_TRY(put_row(x, &row));
    return copy_vectors(x, key);
}

static kith_status put_changed_contents(ki_copy *x, int64_t key)
{
    for (size_t i = 0; i < KI_CONTENT_COUNT; i++) {
        sqlite3_stmt *stmt;
        int row;
        const ki_content *content = &ki_contents[i];
        if (x->from->schema < content->schema) continue;
        KI_TRY(ki_db_prepare(x->from, content->of, &stmt, x->err));
        sqlite3_bind_int64(stmt, 1, key);
        KI_TRY(ki_db_step(x->from, content->of, &row, x->err));
        if (!row) continue;
        kith_status status = ki_content_put(x->to, content, key, stmt, 0, x->err);
        ki_db_reset(x->from, content->of);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

/* What is to go goes first: the text of a deleted row may be that of another one now. */
static kith_status catch_up(ki_copy *x, uint64_t since)
{
    KI_TRY(each_change(x, since, UINT32_MAX, clear_changed));
    return each_change(x, since, UINT32_MAX, put_changed);
}

/* ---- Going through both ---- */

static kith_status next_key(kith_collection *c, int64_t after, int *found, int64_t *key, kith_error *err)
{
    kith_row row = {0};
    KI_TRY(ki_record_find(c, KI_SQL_RECORD_NEXT, after, 0, found, &row, err));
    *key = row.key;
    return KITH_OK;
}

static kith_status delete_foreign(ki_copy *x)
{
    int ours, theirs;
    int64_t from = 0, to = 0;
    uint64_t done = 0;
    KI_TRY(next_key(x->from, 0, &ours, &from, x->err));
    KI_TRY(next_key(x->to, 0, &theirs, &to, x->err));
    while (theirs) {
        if (ours && from < to) {
            KI_TRY(next_key(x->from, from, &ours, &from, x->err));
            continue;
        }
        if (!ours || to < from) KI_TRY(delete_row(x, to));
        KI_TRY(next_key(x->to, to, &theirs, &to, x->err));
        KI_TRY(report(x, ++done));
    }
    return KITH_OK;
}

static kith_status put_different(ki_copy *x)
{
    int found = 0, there;
    uint64_t done = 0;
    for (int64_t key = 0;; done++) {
        kith_row ours = {0}, theirs = {0};
        KI_TRY(ki_record_find(x->from, KI_SQL_RECORD_NEXT, key, KITH_ROW_ALL, &found, &ours, x->err));
        if (!found) return KITH_OK;
        key = ours.key;
        KI_TRY(ki_record_find(x->to, KI_SQL_RECORD_GET, key, KITH_ROW_ALL, &there, &theirs, x->err));
        if (!there || !same_row(&ours, &theirs)) KI_TRY(put_row(x, &ours));
        KI_TRY(copy_vectors(x, key));
        KI_TRY(report(x, done));
    }
}

static kith_status compare_all(ki_copy *x)
{
    for (size_t i = 0; i < KI_CONTENT_COUNT; i++) KI_TRY(ki_db_do(x->to, ki_contents[i].empty, x->err));
    KI_TRY(delete_foreign(x));
    return put_different(x);
}

/* All that belongs to rows, in the order of the tables. */
static kith_status copy_contents(ki_copy *x)
{
    for (size_t i = 0; i < KI_CONTENT_COUNT; i++) {
        sqlite3_stmt *stmt;
        int row;
        int64_t key;
        kith_status status;
        const ki_content *content = &ki_contents[i];
        KI_TRY(ki_db_do(x->to, content->empty, x->err));
        if (x->from->schema < content->schema) continue;
        KI_TRY(ki_db_prepare(x->from, content->scan, &stmt, x->err));
        while ((status = ki_content_step(x->from, content, &row, &key, x->err)) == KITH_OK && row) {
            status = ki_content_put(x->to, content, key, stmt, 1, x->err);
            if (status == KITH_OK) status = ki_run_check(x->run, x->err);
            if (status != KITH_OK) break;
        }
        ki_db_reset(x->from, content->scan);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

/* ---- The log ---- */

/* The integers of a scan of `from` behind a version, put into `to` by a statement with as many parameters. */
static kith_status copy_integers(ki_copy *x, enum ki_sql scan, enum ki_sql add, uint64_t since)
{
    sqlite3_stmt *from, *to;
    int row;
    KI_TRY(ki_db_prepare(x->from, scan, &from, x->err));
    KI_TRY(ki_db_prepare(x->to, add, &to, x->err));
    sqlite3_bind_int64(from, 1, (int64_t)since);
    kith_status status;
    while ((status = ki_db_step(x->from, scan, &row, x->err)) == KITH_OK && row) {
        for (int i = 0; i < sqlite3_column_count(from); i++)
            sqlite3_bind_int64(to, i + 1, sqlite3_column_int64(from, i));
        status = ki_db_run(x->to, add, x->err);
        if (status == KITH_OK) status = ki_run_check(x->run, x->err);
        if (status != KITH_OK) break;
    }
    ki_db_reset(x->from, scan);
    return status;
}

static kith_status trim(ki_copy *x, enum ki_sql which, int64_t before)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(x->to, which, &stmt, x->err));
    sqlite3_bind_int64(stmt, 1, before);
    return ki_db_run(x->to, which, x->err);
}

/* Take over the history of `from`: wholly, or what it has behind the point where `to` was. */
static kith_status adopt(ki_copy *x, uint64_t since)
{
    sqlite3_stmt *stmt;
    const ki_state *from = &x->from->state;
    ki_state *to = &x->to->state;
    if (to->rows != from->rows || to->vectors != from->vectors)
        return ki_corrupt(x->from, x->err,
                          "%llu rows and %llu vectors were copied, there should be %llu and %llu",
                          (unsigned long long)to->rows, (unsigned long long)to->vectors,
                          (unsigned long long)from->rows, (unsigned long long)from->vectors);
    int wholly = x->report.whole;
    uint64_t oldest = wholly || from->oldest > to->oldest ? from->oldest : to->oldest;
    KI_TRY(trim(x, KI_SQL_CHANGE_TRIM, wholly ? INT64_MAX : (int64_t)oldest));
    KI_TRY(trim(x, KI_SQL_BATCH_TRIM, wholly ? INT64_MAX : (int64_t)oldest - 1));
    KI_TRY(copy_integers(x, KI_SQL_CHANGE_SCAN, KI_SQL_CHANGE_ADD, wholly ? 0 : since));
    KI_TRY(copy_integers(x, KI_SQL_BATCH_SCAN, KI_SQL_BATCH_ADD, wholly ? 0 : since));
    KI_TRY(ki_db_prepare(x->to, KI_SQL_STATE_ID, &stmt, x->err));
    sqlite3_bind_blob(stmt, 1, from->id, sizeof from->id, SQLITE_STATIC);
    KI_TRY(ki_db_run(x->to, KI_SQL_STATE_ID, x->err));
    memcpy(to->id, from->id, sizeof to->id);
    to->oldest = oldest;
    to->reset_version = from->reset_version;
    to->stamp = from->stamp;
    to->last_key = from->last_key;
    x->to->begin_version = to->version; /* nothing is left for commit to log */
    KI_TRY(ki_spaces_write(x->to, x->err));
    return ki_state_write(x->to, x->err);
}

/* ---- The end ---- */

static kith_status check_history(ki_copy *x, int following)
{
    if (following || x->first || x->replace) return KITH_OK;
    if (memcmp(x->from->state.id, x->to->state.id, sizeof x->to->state.id) != 0)
        return ki_fail(x->err, KITH_EXISTS, "%s is another collection than %s", x->to->path, x->from->path);
    if (x->to->state.version + 1 < x->from->state.oldest)
        return ki_fail(x->err, KITH_EXISTS, "%s is older than the change log of %s reaches back", x->to->path,
                       x->from->path);
    return ki_fail(x->err, KITH_EXISTS,
                   "%s has changes of its own, or %s has been restored to an earlier state since",
                   x->to->path, x->from->path);
}

static kith_status bring_over(ki_copy *x)
{
    int following = 0;
    if (!x->from_zero) KI_TRY(follows(x, &following));
    KI_TRY(check_history(x, following));
    const ki_state *from = &x->from->state;
    ki_state *to = &x->to->state;
    uint64_t since = to->version;
    int reset = from->reset_version > since || from->dim != to->dim || from->metric != to->metric;
    x->report.whole = x->first || !following;
    to->version = from->version; /* what is declared bears the versions of `from` */
    KI_TRY(ki_copy_drop_fields(x));
    KI_TRY(ki_copy_spaces(x));
    if (reset) KI_TRY(kith_collection_reset_vectors(x->to, from->dim, from->metric, x->err));
    KI_TRY(following ? catch_up(x, since) : compare_all(x));
    KI_TRY(ki_copy_partitions(x));
    KI_TRY(x->report.whole ? copy_contents(x) : each_change(x, since, UINT32_MAX, put_changed_contents));
    KI_TRY(ki_copy_names(x));
    KI_TRY(ki_copy_add_fields(x));
    KI_TRY(adopt(x, since));
    char pragma[64];
    snprintf(pragma, sizeof pragma, "PRAGMA application_id=%d", KI_APPLICATION_ID);
    return x->first ? ki_db_exec(x->to, pragma, "cannot be written", x->err) : KITH_OK;
}

kith_status ki_copy_finish(ki_copy *x)
{
    KI_TRY(kith_collection_begin(x->to, x->err));
    const ki_state *from = &x->from->state, *to = &x->to->state;
    kith_status status = KITH_OK;
    int same = !x->first && from->version == to->version && from->stamp == to->stamp &&
               memcmp(from->id, to->id, sizeof to->id) == 0;
    ki_stage_begin(&x->stage, x->run, "comparing", from->rows);
    if (!same) status = bring_over(x);
    if (status == KITH_OK && !same) status = kith_collection_commit(x->to, x->err);
    if (status != KITH_OK || same) kith_collection_rollback(x->to);
    x->report.version = from->version;
    return status;
}
