/* text_keys.c - rows that are known by a text, too.
 *
 * A row's own key stays a number: slots, segments, sets of rows and the change log know no other. A text is an entry of a
 * table beside, unique, that comes with a put and goes with its row. */
#include "engine/recent.h"

#include <string.h>

static kith_status check_text(const char *text, kith_error *err)
{
    size_t size = text ? strnlen(text, KITH_COLLECTION_MAX_TEXT_KEY + 1) : 0;
    if (size < 1 || size > KITH_COLLECTION_MAX_TEXT_KEY)
        return ki_fail(err, KITH_INVALID, "the text of a key has %zu bytes, allowed 1..%d", size,
                       KITH_COLLECTION_MAX_TEXT_KEY);
    return KITH_OK;
}

static kith_status check_utf8(const char *text, kith_error *err)
{
    const char *end = text + strlen(text);
    for (const char *at = text, *next; at < end; at = next) {
        next = ki_utf8_character(at, end);
        if (!next)
            return ki_fail(err, KITH_INVALID, "the text of a key is not UTF-8 at byte %zu",
                           (size_t)(at - text));
    }
    return KITH_OK;
}

/* The key that a text stands for; 0: none. Within a transaction. */
static kith_status find(kith_collection *c, const char *text, int64_t *key, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    *key = 0;
    if (c->schema < 2) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_TEXT_FIND, &stmt, err));
    sqlite3_bind_text(stmt, 1, text, -1, SQLITE_STATIC);
    KI_TRY(ki_db_step(c, KI_SQL_TEXT_FIND, &row, err));
    if (!row) return KITH_OK;
    *key = sqlite3_column_int64(stmt, 0);
    ki_db_reset(c, KI_SQL_TEXT_FIND);
    return *key >= 1 ? KITH_OK : ki_corrupt(c, err, "a text stands for the key %lld", (long long)*key);
}

kith_status kith_collection_key_of(kith_collection *c, const char *text, int64_t *key, kith_error *err)
{
    int64_t found = 0;
    if (!key) return ki_fail(err, KITH_INVALID, "key is NULL");
    KI_TRY(check_text(text, err));
    KI_TRY(ki_read_begin(c, err));
    kith_status status = find(c, text, &found, err);
    ki_read_end(c);
    if (status != KITH_OK) return status;
    if (!found) return ki_fail(err, KITH_NOTFOUND, "%s: there is no row '%.80s'", c->path, text);
    *key = found;
    return KITH_OK;
}

static kith_status take_text(kith_collection *c, int64_t key, const char **text, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    if (c->schema < 2) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_TEXT_OF, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    KI_TRY(ki_db_step(c, KI_SQL_TEXT_OF, &row, err));
    if (!row) return KITH_OK;
    const char *found = (const char *)sqlite3_column_text(stmt, 0);
    c->text_key.size = 0;
    kith_status status = found ? ki_buffer_append(&c->text_key, found, strlen(found) + 1, c->allocator, err)
                               : ki_fail_nomem(err, 0);
    if (status == KITH_OK) *text = (const char *)c->text_key.data;
    ki_db_reset(c, KI_SQL_TEXT_OF);
    return status;
}

/* The same, which may have been read lately: a text with its 0, nothing where there is none. */
static kith_status recent_text(kith_collection *c, int64_t key, const char **text, kith_error *err)
{
    const void *bytes;
    size_t size;
    if (!ki_recent_get(c, KI_RECENT_TEXT, key, &bytes, &size)) {
        KI_TRY(take_text(c, key, text, err));
        ki_recent_put(c, KI_RECENT_TEXT, key, *text, *text ? strlen(*text) + 1 : 0);
        return KITH_OK;
    }
    c->text_key.size = 0;
    if (size > 0) KI_TRY(ki_buffer_append(&c->text_key, bytes, size, c->allocator, err));
    if (size > 0) *text = (const char *)c->text_key.data;
    return KITH_OK;
}

kith_status kith_collection_text_of(kith_collection *c, int64_t key, const char **text, kith_error *err)
{
    const char *found = NULL;
    if (!text) return ki_fail(err, KITH_INVALID, "text is NULL");
    KI_TRY(ki_read_begin(c, err));
    kith_status status = recent_text(c, key, &found, err);
    ki_read_end(c);
    if (status == KITH_OK) *text = found;
    return status;
}

static kith_status add(kith_collection *c, int64_t key, const char *text, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, KI_SQL_TEXT_PUT, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    sqlite3_bind_text(stmt, 2, text, -1, SQLITE_STATIC);
    return ki_db_run(c, KI_SQL_TEXT_PUT, err);
}

/* Whether a new row of this text may have the key that is asked for. */
static kith_status check_key(kith_collection *c, const char *text, int64_t key, int64_t there,
                             kith_error *err)
{
    const char *other = NULL;
    if (key == 0 || key == there) return KITH_OK;
    if (there)
        return ki_fail(err, KITH_INVALID, "key is %lld, but the row '%.80s' has the key %lld", (long long)key,
                       text, (long long)there);
    KI_TRY(ki_batch_spoil(c, take_text(c, key, &other, err)));
    if (!other) return KITH_OK;
    return ki_fail(err, KITH_INVALID, "key is %lld, but that row is known by '%.80s'", (long long)key, other);
}

kith_status kith_collection_put_text(kith_collection *c, const char *text, unsigned parts,
                                     const kith_row *row, int64_t *key, kith_error *err)
{
    int64_t there = 0, used = 0;
    KI_TRY(ki_batch_check(c, err));
    KI_TRY(check_text(text, err));
    KI_TRY(check_utf8(text, err)); /* a file may hold others from before: they can be looked up */
    if (!row) return ki_fail(err, KITH_INVALID, "row is NULL");
    KI_TRY(ki_batch_spoil(c, find(c, text, &there, err)));
    KI_TRY(check_key(c, text, row->key, there, err));
    kith_row changed = *row;
    if (there) changed.key = there;
    KI_TRY(kith_collection_put(c, parts, &changed, &used, err));
    if (!there) KI_TRY(ki_batch_spoil(c, add(c, used, text, err)));
    if (key) *key = used;
    return KITH_OK;
}
