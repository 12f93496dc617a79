#include "engine/content.h"

#include "base/checksum.h"

const ki_content ki_contents[KI_CONTENT_COUNT] = {
#define X(name, called, schema, number) \
    {called,                            \
     schema,                            \
     number,                            \
     KI_SQL_##name##_SCAN,              \
     KI_SQL_##name##_OF,                \
     KI_SQL_##name##_EMPTY,             \
     KI_SQL_##name##_DELETE,            \
     KI_SQL_##name##_PUT,               \
     KI_SQL_##name##_STRAY},
#include "engine/content.def"
#undef X
};

kith_status ki_contents_prove(kith_collection *c, kith_error *err)
{
    for (size_t i = 0; i < KI_CONTENT_COUNT; i++) {
        sqlite3_stmt *stmt;
        int row;
        const ki_content *content = &ki_contents[i];
        if (c->schema < content->schema) continue;
        KI_TRY(ki_db_prepare(c, content->stray, &stmt, err));
        KI_TRY(ki_db_step(c, content->stray, &row, err));
        if (!row) continue;
        int64_t key = sqlite3_column_int64(stmt, 0);
        ki_db_reset(c, content->stray);
        return ki_corrupt(c, err, "row %lld is not there, and its %s is", (long long)key, content->name);
    }
    return KITH_OK;
}

const void *ki_content_bytes(sqlite3_stmt *stmt, size_t *size)
{
    /* A text is asked for as one, so that a file in UTF-16 has the same content as one in UTF-8. */
    const void *bytes = sqlite3_column_type(stmt, 1) == SQLITE_TEXT
                            ? (const void *)sqlite3_column_text(stmt, 1)
                            : sqlite3_column_blob(stmt, 1);
    *size = (size_t)sqlite3_column_bytes(stmt, 1);
    return *size > 0 ? bytes : "";
}

kith_status ki_content_step(kith_collection *c, const ki_content *content, int *row, int64_t *key,
                            kith_error *err)
{
    size_t size;
    KI_TRY(ki_db_step(c, content->scan, row, err));
    if (!*row) return KITH_OK;
    sqlite3_stmt *stmt = c->stmt[content->scan];
    *key = sqlite3_column_int64(stmt, 0);
    if (*key < 1 || *key > c->state.last_key)
        return ki_corrupt(c, err, "row %lld is not there, and its %s is", (long long)*key, content->name);
    if (sqlite3_column_type(stmt, 1) == SQLITE_INTEGER) return KITH_OK;
    return ki_content_bytes(stmt, &size) ? KITH_OK : ki_fail_nomem(err, size);
}

/* The numbers before the bytes say how many follow; an integer stands in their place. */
static void hash_value(sqlite3_stmt *stmt, const ki_content *content, int64_t key, uint64_t *hash)
{
    size_t size = 0;
    int integer = sqlite3_column_type(stmt, 1) == SQLITE_INTEGER;
    const void *bytes = integer ? NULL : ki_content_bytes(stmt, &size);
    uint64_t head[3] = {(uint64_t)key, content->number,
                        integer ? (uint64_t)sqlite3_column_int64(stmt, 1) : size};
    *hash = ki_checksum_seeded(head, sizeof head, *hash);
    if (!integer) *hash = ki_checksum_seeded(bytes, size, *hash);
}

kith_status ki_contents_hash(kith_collection *c, uint64_t *hash, kith_error *err)
{
    for (size_t i = 0; i < KI_CONTENT_COUNT; i++) {
        sqlite3_stmt *stmt;
        int row;
        int64_t key;
        const ki_content *content = &ki_contents[i];
        if (c->schema < content->schema) continue;
        KI_TRY(ki_db_prepare(c, content->scan, &stmt, err));
        kith_status status;
        while ((status = ki_content_step(c, content, &row, &key, err)) == KITH_OK && row)
            hash_value(stmt, content, key, hash);
        ki_db_reset(c, content->scan);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

kith_status ki_content_remove(kith_collection *c, const ki_content *content, int64_t key, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, content->remove, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    return ki_db_run(c, content->remove, err);
}

kith_status ki_content_put(kith_collection *c, const ki_content *content, int64_t key, sqlite3_stmt *from,
                           int column, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, content->put, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    if (sqlite3_bind_value(stmt, 2, sqlite3_column_value(from, column)) != SQLITE_OK)
        return ki_fail_nomem(err, 0);
    kith_status status = ki_db_run(c, content->put, err);
    sqlite3_clear_bindings(stmt);
    return status;
}
