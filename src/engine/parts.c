/* parts.c - partitions: a row is in one or in none.
 *
 * Membership is a table beside the rows, as texts and expiry are: rows in no partition cost nothing. A search in partitions
 * is a search with a filter over $partition, which is answered from the index of that table, remembered, and kept up to
 * date by the change log like any other. */
#include "engine/parts.h"

#include "engine/expiry.h"

#include <string.h>

/* A name may stand in a filter between quotes as it is, and in a list on a command line. */
static kith_status check_name(const char *name, kith_error *err)
{
    size_t size = name ? strnlen(name, KITH_COLLECTION_MAX_PARTITION_NAME + 1) : 0;
    if (size < 1 || size > KITH_COLLECTION_MAX_PARTITION_NAME)
        return ki_fail(err, KITH_INVALID, "the name of a partition has %zu bytes, allowed 1..%d", size,
                       KITH_COLLECTION_MAX_PARTITION_NAME);
    for (const char *at = name, *end = name + size, *next; at < end; at = next) {
        next = ki_utf8_character(at, end);
        if (!next || (unsigned char)*at < 32 || *at == 127 || strchr("\"\\,", *at))
            return ki_fail(err, KITH_INVALID,
                           "the name of a partition has a control character, quote, backslash, comma or no "
                           "UTF-8 at byte %zu",
                           (size_t)(at - name));
    }
    return KITH_OK;
}

/* The id of a partition; 0: there is none. Within a transaction. */
static kith_status find(kith_collection *c, const char *name, int64_t *id, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    *id = 0;
    if (c->schema < 3) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_PART_FIND, &stmt, err));
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    KI_TRY(ki_db_step(c, KI_SQL_PART_FIND, &row, err));
    if (!row) return KITH_OK;
    *id = sqlite3_column_int64(stmt, 0);
    ki_db_reset(c, KI_SQL_PART_FIND);
    return KITH_OK;
}

static kith_status no_partition(const kith_collection *c, const char *name, kith_error *err)
{
    return ki_fail(err, KITH_NOTFOUND, "%s: there is no partition '%.80s'", c->path, name);
}

/* ---- Making and dropping ---- */

static kith_status add(kith_collection *c, const char *name, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, KI_SQL_PART_ADD, &stmt, err));
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    KI_TRY(ki_db_run(c, KI_SQL_PART_ADD, err));
    return ki_log_change(c, 0, KI_CHANGE_LISTS, err);
}

kith_status kith_collection_partition_add(kith_collection *c, const char *name, kith_error *err)
{
    int64_t id;
    KI_TRY(ki_batch_check(c, err));
    KI_TRY(check_name(name, err));
    KI_TRY(ki_batch_spoil(c, find(c, name, &id, err)));
    if (id) return ki_fail(err, KITH_EXISTS, "%s: there is a partition '%.80s' already", c->path, name);
    return ki_batch_spoil(c, add(c, name, err));
}

/* Deleting changes the table that is read, so the keys are taken first. */
static kith_status take_keys(kith_collection *c, int64_t id, ki_buffer *keys, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_MEMBER_KEYS, &stmt, err));
    sqlite3_bind_int64(stmt, 1, id);
    kith_status status;
    while ((status = ki_db_step(c, KI_SQL_MEMBER_KEYS, &row, err)) == KITH_OK && row) {
        int64_t key = sqlite3_column_int64(stmt, 0);
        status = ki_buffer_append(keys, &key, sizeof key, c->allocator, err);
        if (status != KITH_OK) break;
    }
    ki_db_reset(c, KI_SQL_MEMBER_KEYS);
    return status;
}

static kith_status drop(kith_collection *c, int64_t id, uint64_t *rows, kith_error *err)
{
    sqlite3_stmt *stmt;
    ki_buffer found = {0};
    kith_status status = take_keys(c, id, &found, err);
    const int64_t *keys = (const int64_t *)(const void *)found.data;
    *rows = found.size / sizeof *keys;
    for (uint64_t i = 0; i < *rows && status == KITH_OK; i++) {
        status = kith_collection_delete(c, keys[i], err);
        if (status == KITH_NOTFOUND) status = ki_corrupt(c, err, "a row that is not there is in a partition");
    }
    ki_buffer_clear(&found, c->allocator);
    if (status != KITH_OK) return status;
    KI_TRY(ki_db_prepare(c, KI_SQL_PART_DROP, &stmt, err));
    sqlite3_bind_int64(stmt, 1, id);
    KI_TRY(ki_db_run(c, KI_SQL_PART_DROP, err));
    return ki_log_change(c, 0, KI_CHANGE_LISTS, err);
}

kith_status kith_collection_partition_drop(kith_collection *c, const char *name, uint64_t *rows,
                                           kith_error *err)
{
    int64_t id;
    uint64_t dropped = 0;
    KI_TRY(ki_batch_check(c, err));
    if (!name) return ki_fail(err, KITH_INVALID, "name is NULL");
    KI_TRY(ki_batch_spoil(c, find(c, name, &id, err)));
    if (!id) return no_partition(c, name, err);
    KI_TRY(ki_batch_spoil(c, drop(c, id, &dropped, err)));
    if (rows) *rows = dropped;
    return KITH_OK;
}

/* ---- Which there are ---- */

static kith_status read_list(kith_collection *c, kith_partition *list, size_t room, size_t *n,
                             kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    *n = 0;
    if (c->schema < 3) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_PART_LIST, &stmt, err));
    kith_status status;
    while ((status = ki_db_step(c, KI_SQL_PART_LIST, &row, err)) == KITH_OK && row) {
        const char *name = (const char *)sqlite3_column_text(stmt, 0);
        if (!name || strlen(name) > KITH_COLLECTION_MAX_PARTITION_NAME) {
            status = name ? ki_corrupt(c, err, "the name of a partition is too long") : ki_fail_nomem(err, 0);
            break;
        }
        if (*n < room && list) {
            list[*n].rows = (uint64_t)sqlite3_column_int64(stmt, 1);
            strcpy(list[*n].name, name);
        }
        ++*n;
    }
    ki_db_reset(c, KI_SQL_PART_LIST);
    return status;
}

kith_status kith_collection_partitions(kith_collection *c, kith_partition *list, size_t *n, kith_error *err)
{
    size_t found = 0;
    if (!n) return ki_fail(err, KITH_INVALID, "n is NULL");
    KI_TRY(ki_read_begin(c, err));
    kith_status status = read_list(c, list, *n, &found, err);
    ki_read_end(c);
    if (status == KITH_OK) *n = found;
    return status;
}

/* ---- Rows ---- */

kith_status ki_part_clear(kith_collection *c, int64_t key, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, KI_SQL_MEMBER_DELETE, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    return ki_db_run(c, KI_SQL_MEMBER_DELETE, err);
}

static kith_status set(kith_collection *c, int64_t key, int64_t id, kith_error *err)
{
    sqlite3_stmt *stmt;
    if (id) {
        KI_TRY(ki_db_prepare(c, KI_SQL_MEMBER_SET, &stmt, err));
        sqlite3_bind_int64(stmt, 1, key);
        sqlite3_bind_int64(stmt, 2, id);
        KI_TRY(ki_db_run(c, KI_SQL_MEMBER_SET, err));
    } else {
        KI_TRY(ki_part_clear(c, key, err));
    }
    return ki_log_change(c, key, KI_CHANGE_MEMBER, err);
}

kith_status kith_collection_set_partition(kith_collection *c, int64_t key, const char *name, kith_error *err)
{
    sqlite3_stmt *stmt;
    int found, expired;
    int64_t id = 0;
    KI_TRY(ki_batch_check(c, err));
    if (name) {
        KI_TRY(ki_batch_spoil(c, find(c, name, &id, err)));
        if (!id) return no_partition(c, name, err);
    }
    KI_TRY(ki_db_prepare(c, KI_SQL_RECORD_FIND, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    KI_TRY(ki_batch_spoil(c, ki_db_step(c, KI_SQL_RECORD_FIND, &found, err)));
    if (found) ki_db_reset(c, KI_SQL_RECORD_FIND);
    KI_TRY(ki_batch_spoil(c, ki_is_expired(c, key, &expired, err)));
    if (!found || expired)
        return ki_fail(err, KITH_NOTFOUND, "%s: there is no row %lld", c->path, (long long)key);
    return ki_batch_spoil(c, set(c, key, id, err));
}

static kith_status take_name(kith_collection *c, int64_t key, const char **name, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    if (c->schema < 3) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_MEMBER_OF, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    KI_TRY(ki_db_step(c, KI_SQL_MEMBER_OF, &row, err));
    if (!row) return KITH_OK;
    const char *found = (const char *)sqlite3_column_text(stmt, 0);
    c->part_name.size = 0;
    kith_status status = found ? ki_buffer_append(&c->part_name, found, strlen(found) + 1, c->allocator, err)
                               : ki_fail_nomem(err, 0);
    if (status == KITH_OK) *name = (const char *)c->part_name.data;
    ki_db_reset(c, KI_SQL_MEMBER_OF);
    return status;
}

kith_status kith_collection_get_partition(kith_collection *c, int64_t key, const char **name, kith_error *err)
{
    const char *found = NULL;
    if (!name) return ki_fail(err, KITH_INVALID, "name is NULL");
    KI_TRY(ki_read_begin(c, err));
    kith_status status = take_name(c, key, &found, err);
    ki_read_end(c);
    if (status == KITH_OK) *name = found;
    return status;
}

/* ---- Searching ---- */

kith_status ki_parts_filter(kith_collection *c, const char *const *names, size_t n, const char *expression,
                            ki_buffer *text, kith_error *err)
{
    static const char condition[] = "$partition in [";
    if (expression) {
        /* By itself, so that places in messages are places in what the caller wrote. */
        KI_TRY(kith_collection_filter_check(expression, err));
        KI_TRY(ki_buffer_append(text, "(", 1, c->allocator, err));
        KI_TRY(ki_buffer_append(text, expression, strlen(expression), c->allocator, err));
        KI_TRY(ki_buffer_append(text, ") and ", 6, c->allocator, err));
    }
    KI_TRY(ki_buffer_append(text, condition, strlen(condition), c->allocator, err));
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        KI_TRY(check_name(names[i], err));
        KI_TRY(find(c, names[i], &id, err));
        if (!id) return no_partition(c, names[i], err);
        KI_TRY(ki_buffer_append(text, i ? ",\"" : "\"", i ? 2 : 1, c->allocator, err));
        KI_TRY(ki_buffer_append(text, names[i], strlen(names[i]), c->allocator, err));
        KI_TRY(ki_buffer_append(text, "\"", 1, c->allocator, err));
    }
    return ki_buffer_append(text, "]", 2, c->allocator, err);
}
