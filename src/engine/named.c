/* named.c - named values: bytes under a name, changed in the same batches as the rows. */
#include "engine/engine.h"

#include <string.h>

/* Within a batch, with a name that can be stored. */
static kith_status check_name(const char *name, kith_error *err)
{
    size_t length = name ? strnlen(name, KITH_COLLECTION_MAX_META_NAME + 1) : 0;
    if (length < 1 || length > KITH_COLLECTION_MAX_META_NAME)
        return ki_fail(err, KITH_INVALID, "name is %s bytes long, allowed 1..%d", length ? "too many" : "0",
                       KITH_COLLECTION_MAX_META_NAME);
    return KITH_OK;
}

static kith_status check_change(kith_collection *c, const char *name, kith_error *err)
{
    ki_batch_notice(c);
    if (c->mode != KI_BATCH)
        return ki_fail(err, KITH_INVALID, "there is no batch: call kith_collection_begin");
    if (c->batch_status != KITH_OK)
        return ki_fail(err, c->batch_status, "%s: an earlier change of the batch failed (%s)", c->path,
                       kith_status_text(c->batch_status));
    return check_name(name, err);
}

static kith_status set_value(kith_collection *c, const char *name, const void *value, size_t size,
                             kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, KI_SQL_NAMED_SET, &stmt, err));
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_blob64(stmt, 2, size > 0 ? value : "", size, SQLITE_STATIC);
    KI_TRY(ki_db_run(c, KI_SQL_NAMED_SET, err));
    return ki_log_change(c, 0, KI_CHANGE_NAMED, err);
}

kith_status kith_collection_meta_set(kith_collection *c, const char *name, const void *value, size_t size,
                                     kith_error *err)
{
    KI_TRY(check_change(c, name, err));
    if (!value && size > 0) return ki_fail(err, KITH_INVALID, "value is NULL, its size %zu", size);
    if (size > KITH_COLLECTION_MAX_META)
        return ki_fail(err, KITH_INVALID, "value is %zu bytes long, allowed 0..%u", size,
                       KITH_COLLECTION_MAX_META);
    kith_status status = set_value(c, name, value, size, err);
    if (status != KITH_OK) c->batch_status = status;
    return status;
}

kith_status kith_collection_meta_delete(kith_collection *c, const char *name, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(check_change(c, name, err));
    kith_status status = ki_db_prepare(c, KI_SQL_NAMED_DELETE, &stmt, err);
    if (status == KITH_OK) {
        sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
        status = ki_db_run(c, KI_SQL_NAMED_DELETE, err);
    }
    if (status == KITH_OK && sqlite3_changes(c->db) == 0)
        return ki_fail(err, KITH_NOTFOUND, "%s: nothing is kept under the name %s", c->path, name);
    if (status == KITH_OK) status = ki_log_change(c, 0, KI_CHANGE_NAMED, err);
    if (status != KITH_OK) c->batch_status = status;
    return status;
}

static int compare_names(const void *name, size_t length, const char *other)
{
    size_t n = strlen(other);
    int order = memcmp(name, other, length < n ? length : n);
    return order != 0 ? order : (length > n) - (length < n);
}

/* Copy name and value of a stepped statement into the handle. It was asked for by the name `asked`, and a damaged tree
 * may have led elsewhere. */
static kith_status take(kith_collection *c, sqlite3_stmt *stmt, enum ki_sql which, const char *asked,
                        kith_meta *meta, kith_error *err)
{
    const void *name = sqlite3_column_text(stmt, 0);
    size_t length = (size_t)sqlite3_column_bytes(stmt, 0);
    const void *value = sqlite3_column_blob(stmt, 1);
    size_t size = (size_t)sqlite3_column_bytes(stmt, 1);
    if (!name || (!value && size > 0)) return ki_fail_nomem(err, length + size);
    /* A file made elsewhere may hold any name; a zero byte within would cut it short. */
    if (length < 1 || length > KITH_COLLECTION_MAX_META_NAME || memchr(name, 0, length) != NULL)
        return ki_corrupt(c, err, "a named value has a name that is not allowed");
    int order = compare_names(name, length, asked);
    if (which == KI_SQL_NAMED_GET ? order != 0 : which == KI_SQL_NAMED_FROM ? order < 0 : order <= 0)
        return ki_corrupt(c, err, "the tree of named values is not in order");
    c->meta_name.size = c->meta_value.size = 0;
    KI_TRY(ki_buffer_append(&c->meta_name, name, length, c->allocator, err));
    KI_TRY(ki_buffer_append(&c->meta_name, "", 1, c->allocator, err));
    KI_TRY(ki_buffer_reserve(&c->meta_value, size + 1, c->allocator,
                             err)); /* an empty value has an address, too */
    KI_TRY(ki_buffer_append(&c->meta_value, value, size, c->allocator, err));
    *meta = (kith_meta){
        .name = (const char *)c->meta_name.data, .value = c->meta_value.data, .size = c->meta_value.size};
    return KITH_OK;
}

static kith_status read_value(kith_collection *c, enum ki_sql which, const char *name, int *found,
                              kith_meta *meta, kith_error *err)
{
    sqlite3_stmt *stmt;
    *found = 0;
    KI_TRY(ki_read_begin(c, err));
    kith_status status = ki_db_prepare(c, which, &stmt, err);
    if (status == KITH_OK) {
        sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
        status = ki_db_step(c, which, found, err);
    }
    if (status == KITH_OK && *found) {
        status = take(c, stmt, which, name, meta, err);
        ki_db_reset(c, which);
    }
    ki_read_end(c);
    return status;
}

kith_status kith_collection_meta_get(kith_collection *c, const char *name, kith_meta *meta, kith_error *err)
{
    int found;
    if (!meta) return ki_fail(err, KITH_INVALID, "meta is NULL");
    KI_TRY(check_name(name, err));
    KI_TRY(read_value(c, KI_SQL_NAMED_GET, name, &found, meta, err));
    if (!found) return ki_fail(err, KITH_NOTFOUND, "%s: nothing is kept under the name %s", c->path, name);
    return KITH_OK;
}

kith_status kith_collection_meta_next(kith_collection *c, const char *prefix, const char *after,
                                      kith_meta *meta, kith_error *err)
{
    int found;
    if (!meta) return ki_fail(err, KITH_INVALID, "meta is NULL");
    if (!prefix) prefix = "";
    /* Names with the prefix are neighbours, and the prefix itself is the smallest of them. */
    int from = !after || strcmp(after, prefix) < 0;
    kith_meta read = {0};
    KI_TRY(read_value(c, from ? KI_SQL_NAMED_FROM : KI_SQL_NAMED_NEXT, from ? prefix : after, &found, &read,
                      err));
    *meta = found && strncmp(read.name, prefix, strlen(prefix)) == 0 ? read : (kith_meta){0};
    return KITH_OK;
}
