/* expiry.c - rows with an end.
 *
 * A row past its time is passed over from that second on by every read; it goes when somebody calls
 * kith_collection_remove_expired, who has the writer's lock. Which rows these are is remembered until the collection
 * changes or the next one's time comes, so that a read costs a look at the clock. */
#include "engine/expiry.h"

#include <time.h>

static kith_status read_next(kith_collection *c, int64_t now, int64_t *next, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_EXPIRY_NEXT, &stmt, err));
    sqlite3_bind_int64(stmt, 1, now);
    KI_TRY(ki_db_step(c, KI_SQL_EXPIRY_NEXT, &row, err));
    *next = row && sqlite3_column_type(stmt, 0) == SQLITE_INTEGER ? sqlite3_column_int64(stmt, 0) : INT64_MAX;
    if (row) ki_db_reset(c, KI_SQL_EXPIRY_NEXT);
    return KITH_OK;
}

/* The keys past their time, at most `most` of them, are given to `take`. */
static kith_status visit_past(kith_collection *c, int64_t now, int64_t most,
                              kith_status (*take)(void *, int64_t, kith_error *), void *ctx, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_EXPIRY_PAST, &stmt, err));
    sqlite3_bind_int64(stmt, 1, now);
    sqlite3_bind_int64(stmt, 2, most);
    kith_status status;
    while ((status = ki_db_step(c, KI_SQL_EXPIRY_PAST, &row, err)) == KITH_OK && row) {
        int64_t key = sqlite3_column_int64(stmt, 0);
        status = key >= 1 ? take(ctx, key, err) : ki_corrupt(c, err, "row %lld expires", (long long)key);
        if (status != KITH_OK) break;
    }
    ki_db_reset(c, KI_SQL_EXPIRY_PAST);
    return status;
}

static kith_status add_key(void *ctx, int64_t key, kith_error *err)
{
    kith_collection *c = ctx;
    return ki_keyset_add(&c->expired->keys, key, c->allocator, err);
}

kith_status ki_expired_load(kith_collection *c, const ki_keyset **keys, kith_error *err)
{
    *keys = NULL;
    if (c->schema < 2) return KITH_OK;
    if (!c->expired) {
        c->expired = ki_alloc_zero(c->allocator, 1, sizeof *c->expired);
        if (!c->expired) return ki_fail_nomem(err, sizeof *c->expired);
    }
    ki_expired *e = c->expired;
    int64_t now = c->now;
    if (!e->loaded || e->version != c->state.version || e->stamp != c->state.stamp || now >= e->next ||
        now < e->at) { /* a clock that was set back brings rows back */
        e->loaded = 0;
        ki_keyset_clear(&e->keys, c->allocator);
        KI_TRY(visit_past(c, now, INT64_MAX, add_key, c, err));
        KI_TRY(read_next(c, now, &e->next, err));
        e->at = now;
        e->version = c->state.version;
        e->stamp = c->state.stamp;
        e->loaded = c->mode != KI_BATCH; /* a version of an open batch may come again with other rows */
    }
    if (e->keys.n > 0) *keys = &e->keys;
    return KITH_OK;
}

kith_status ki_is_expired(kith_collection *c, int64_t key, int *expired, kith_error *err)
{
    sqlite3_stmt *stmt;
    *expired = 0;
    if (c->schema < 2) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_EXPIRY_OF, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    int row;
    KI_TRY(ki_db_step(c, KI_SQL_EXPIRY_OF, &row, err));
    if (!row) return KITH_OK;
    *expired = sqlite3_column_int64(stmt, 0) <= (int64_t)time(NULL);
    ki_db_reset(c, KI_SQL_EXPIRY_OF);
    return KITH_OK;
}

void ki_expired_clear(kith_collection *c)
{
    if (c->expired) ki_keyset_clear(&c->expired->keys, c->allocator);
    ki_free(c->allocator, c->expired);
    c->expired = NULL;
}

/* ---- Setting and removing ---- */

kith_status ki_expiry_clear(kith_collection *c, int64_t key, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, KI_SQL_EXPIRY_DELETE, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    return ki_db_run(c, KI_SQL_EXPIRY_DELETE, err);
}

static kith_status set_expiry(kith_collection *c, int64_t key, int64_t at, kith_error *err)
{
    sqlite3_stmt *stmt;
    enum ki_sql which = at > 0 ? KI_SQL_EXPIRY_PUT : KI_SQL_EXPIRY_DELETE;
    KI_TRY(ki_db_prepare(c, which, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    if (at > 0) sqlite3_bind_int64(stmt, 2, at);
    KI_TRY(ki_db_run(c, which, err));
    return ki_log_change(c, key, KI_CHANGE_EXPIRY, err);
}

kith_status kith_collection_set_expiry(kith_collection *c, int64_t key, int64_t at, kith_error *err)
{
    sqlite3_stmt *stmt;
    int found;
    KI_TRY(ki_batch_check(c, err));
    if (at < 0)
        return ki_fail(err, KITH_INVALID, "at is %lld, allowed 0..%lld", (long long)at, (long long)INT64_MAX);
    KI_TRY(ki_db_prepare(c, KI_SQL_RECORD_FIND, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    KI_TRY(ki_batch_spoil(c, ki_db_step(c, KI_SQL_RECORD_FIND, &found, err)));
    if (!found) return ki_fail(err, KITH_NOTFOUND, "%s: there is no row %lld", c->path, (long long)key);
    ki_db_reset(c, KI_SQL_RECORD_FIND);
    return ki_batch_spoil(c, set_expiry(c, key, at, err));
}

kith_status kith_collection_get_expiry(kith_collection *c, int64_t key, int64_t *at, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row = 0;
    if (!at) return ki_fail(err, KITH_INVALID, "at is NULL");
    *at = 0;
    KI_TRY(ki_read_begin(c, err));
    kith_status status = c->schema < 2 ? KITH_OK : ki_db_prepare(c, KI_SQL_EXPIRY_OF, &stmt, err);
    if (status == KITH_OK && c->schema >= 2) {
        sqlite3_bind_int64(stmt, 1, key);
        status = ki_db_step(c, KI_SQL_EXPIRY_OF, &row, err);
        if (status == KITH_OK && row) *at = sqlite3_column_int64(stmt, 0);
        if (row) ki_db_reset(c, KI_SQL_EXPIRY_OF);
    }
    ki_read_end(c);
    return status;
}

typedef struct past {
    ki_buffer keys;
    const kith_allocator *allocator;
} past;

static kith_status keep_key(void *ctx, int64_t key, kith_error *err)
{
    past *p = ctx;
    return ki_buffer_append(&p->keys, &key, sizeof key, p->allocator, err);
}

kith_status kith_collection_remove_expired(kith_collection *c, uint64_t most, uint64_t *rows, kith_error *err)
{
    past p = {.allocator = c->allocator};
    KI_TRY(ki_batch_check(c, err));
    int64_t limit = most == 0 || most > INT64_MAX ? INT64_MAX : (int64_t)most;
    kith_status status = visit_past(c, (int64_t)time(NULL), limit, keep_key, &p, err);
    const int64_t *keys = (const int64_t *)(const void *)p.keys.data;
    uint64_t n = p.keys.size / sizeof *keys, removed = 0;
    for (; removed < n && status == KITH_OK; removed++)
        status = kith_collection_delete(c, keys[removed], err);
    ki_buffer_clear(&p.keys, c->allocator);
    if (status == KITH_NOTFOUND)
        status = ki_batch_spoil(c, ki_corrupt(c, err, "a row that is not there expires"));
    if (status == KITH_OK && rows) *rows = n;
    return status;
}
