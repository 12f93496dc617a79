/* records.c - reading rows. What comes out of the file is checked here: a caller never sees a vector of the wrong
 * length, a component that is not finite or a payload that is not JSON. */
#include "engine/engine.h"
#include "engine/expiry.h"
#include "engine/recent.h"

#include <string.h>

int ki_all_finite(const float *x, size_t n)
{
    /* Infinity and NaN are the floats whose exponent bits are all set. No branch: the compiler vectorises this. */
    uint32_t worst = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        worst |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return worst == 0;
}

kith_status ki_row_vector(kith_collection *c, sqlite3_stmt *stmt, int column, int64_t key,
                          const float **vector, kith_error *err)
{
    *vector = NULL;
    int type = sqlite3_column_type(stmt, column);
    if (type == SQLITE_NULL) return KITH_OK;
    const void *bytes = type == SQLITE_BLOB ? sqlite3_column_blob(stmt, column) : NULL;
    size_t size = (size_t)sqlite3_column_bytes(stmt, column), expected = c->state.dim * sizeof(float);
    if (!bytes && size > 0 && type == SQLITE_BLOB) return ki_fail_nomem(err, size);
    if (!bytes || size != expected)
        return ki_corrupt(c, err, "the vector of row %lld is %zu bytes long, expected %zu", (long long)key,
                          size, expected);
    /* SQLite aligns what it copies out of overflow pages, but not what it shows within a page. */
    if ((uintptr_t)bytes % _Alignof(float) != 0) {
        c->aligned.size = 0;
        KI_TRY(ki_buffer_append(&c->aligned, bytes, size, c->allocator, err));
        bytes = c->aligned.data;
    }
    if (!ki_all_finite(bytes, c->state.dim))
        return ki_corrupt(c, err, "the vector of row %lld has a component that is not finite",
                          (long long)key);
    *vector = bytes;
    return KITH_OK;
}

static kith_status show_payload(kith_collection *c, const void *text, size_t size, kith_row *row,
                                kith_error *err)
{
    c->payload.size = 0;
    KI_TRY(ki_buffer_append(&c->payload, text, size, c->allocator, err));
    KI_TRY(ki_buffer_append(&c->payload, "", 1, c->allocator, err));
    row->payload = (const char *)c->payload.data;
    row->payload_size = size;
    return KITH_OK;
}

/* Copy the payload of a stepped statement into the handle, prove that it is JSON. */
static kith_status take_payload(kith_collection *c, sqlite3_stmt *stmt, int column, kith_row *row,
                                kith_error *err)
{
    const void *text = sqlite3_column_text(stmt, column);
    size_t size = (size_t)sqlite3_column_bytes(stmt, column);
    if (!text && sqlite3_errcode(c->db) == SQLITE_NOMEM) return ki_fail_nomem(err, size);
    if (!text) return ki_corrupt(c, err, "the payload of row %lld cannot be read", (long long)row->key);
    c->canonical.size = 0;
    kith_error why;
    kith_status status = ki_payload_canonical(text, size, &c->canonical, c->allocator, &why);
    if (status == KITH_INVALID) return ki_corrupt(c, err, "row %lld: %s", (long long)row->key, why.message);
    if (status != KITH_OK) {
        if (err) *err = why;
        return status;
    }
    return show_payload(c, text, size, row, err);
}

static kith_status take_attachment(kith_collection *c, int64_t slot, kith_row *row, kith_error *err)
{
    sqlite3_stmt *stmt;
    int found;
    KI_TRY(ki_db_prepare(c, KI_SQL_ATTACHMENT_GET, &stmt, err));
    sqlite3_bind_int64(stmt, 1, slot);
    KI_TRY(ki_db_step(c, KI_SQL_ATTACHMENT_GET, &found, err));
    if (!found) return KITH_OK;
    const void *bytes = sqlite3_column_blob(stmt, 0);
    size_t size = (size_t)sqlite3_column_bytes(stmt, 0);
    c->attachment.size = 0;
    kith_status status;
    if (!bytes && size > 0)
        status = ki_fail_nomem(err, size);
    else /* one byte more, so that an empty attachment has an address */
        status = ki_buffer_reserve(&c->attachment, size + 1, c->allocator, err);
    if (status == KITH_OK) {
        if (size > 0) memcpy(c->attachment.data, bytes, size);
        row->attachment = c->attachment.data;
        row->attachment_size = size;
    }
    ki_db_reset(c, KI_SQL_ATTACHMENT_GET);
    return status;
}

/* Fill *row from a stepped RECORD_GET or RECORD_NEXT. */
static kith_status take_row(kith_collection *c, sqlite3_stmt *stmt, unsigned parts, kith_row *row,
                            int64_t *slot, kith_error *err)
{
    *slot = sqlite3_column_int64(stmt, 0);
    row->key = sqlite3_column_int64(stmt, 1);
    if (row->key < 1) return ki_corrupt(c, err, "a row has the key %lld", (long long)row->key);
    if (parts & KITH_ROW_PAYLOAD) KI_TRY(take_payload(c, stmt, 2, row, err));
    if (!(parts & KITH_ROW_VECTOR)) return KITH_OK;
    const float *vector;
    KI_TRY(ki_row_vector(c, stmt, 3, row->key, &vector, err));
    if (!vector) return KITH_OK;
    c->vector.size = 0; /* what ki_row_vector gave may point into SQLite's page, which goes with the reset */
    KI_TRY(ki_buffer_append(&c->vector, vector, c->state.dim * sizeof *vector, c->allocator, err));
    row->vector = (const float *)c->vector.data;
    row->dim = c->state.dim;
    return KITH_OK;
}

/* A damaged index may lead to another row than the one asked for. Passing that on could make a caller who goes from
 * row to row run in circles. */
static kith_status check_order(const kith_collection *c, enum ki_sql which, int64_t asked, int64_t found,
                               kith_error *err)
{
    if (which == KI_SQL_RECORD_GET ? found == asked : found > asked) return KITH_OK;
    return ki_corrupt(c, err, "the index of keys leads from %lld to %lld", (long long)asked,
                      (long long)found);
}

kith_status ki_record_find(kith_collection *c, enum ki_sql which, int64_t key, unsigned parts, int *found,
                           kith_row *row, kith_error *err)
{
    sqlite3_stmt *stmt;
    int64_t slot = 0;
    *found = 0;
    KI_TRY(ki_db_prepare(c, which, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    sqlite3_bind_int(stmt, 2, (parts & KITH_ROW_PAYLOAD) != 0);
    sqlite3_bind_int(stmt, 3, (parts & KITH_ROW_VECTOR) != 0);
    KI_TRY(ki_db_step(c, which, found, err));
    if (!*found) return KITH_OK;
    kith_status status = take_row(c, stmt, parts, row, &slot, err);
    if (status == KITH_OK) status = check_order(c, which, key, row->key, err);
    ki_db_reset(c, which);
    if (status == KITH_OK && (parts & KITH_ROW_ATTACHMENT)) status = take_attachment(c, slot, row, err);
    return status;
}

/* The row of a key, whose payload may have been read lately. */
static kith_status find_row(kith_collection *c, enum ki_sql which, int64_t key, unsigned parts, int *found,
                            kith_row *row, kith_error *err)
{
    const void *text;
    size_t size;
    int kept = which == KI_SQL_RECORD_GET && parts == KITH_ROW_PAYLOAD;
    if (kept && ki_recent_get(c, KI_RECENT_PAYLOAD, key, &text, &size)) {
        *found = 1;
        row->key = key;
        return show_payload(c, text, size, row, err);
    }
    KI_TRY(ki_record_find(c, which, key, parts, found, row, err));
    if (kept && *found) ki_recent_put(c, KI_RECENT_PAYLOAD, key, row->payload, row->payload_size);
    return KITH_OK;
}

/* Rows past their time are passed over. */
static kith_status read_row(kith_collection *c, enum ki_sql which, int64_t key, unsigned parts, int *found,
                            kith_row *row, kith_error *err)
{
    const ki_keyset *expired;
    KI_TRY(ki_read_begin(c, err));
    kith_status status = ki_expired_load(c, &expired, err);
    if (status == KITH_OK) status = find_row(c, which, key, parts, found, row, err);
    while (status == KITH_OK && expired && *found && ki_keyset_has(expired, row->key)) {
        key = row->key;
        *row = (kith_row){0};
        *found = 0;
        if (which != KI_SQL_RECORD_NEXT) break;
        status = ki_record_find(c, which, key, parts, found, row, err);
    }
    ki_read_end(c);
    return status;
}

kith_status ki_record_get(kith_collection *c, int64_t key, unsigned parts, kith_row *row, kith_error *err)
{
    int found;
    kith_row read = {0};
    KI_TRY(ki_record_find(c, KI_SQL_RECORD_GET, key, parts, &found, &read, err));
    if (!found) return ki_corrupt(c, err, "the index of keys does not know row %lld", (long long)key);
    *row = read;
    return KITH_OK;
}

kith_status kith_collection_get(kith_collection *c, int64_t key, unsigned parts, kith_row *row,
                                kith_error *err)
{
    int found;
    kith_row read = {0};
    if (!row) return ki_fail(err, KITH_INVALID, "row is NULL");
    KI_TRY(read_row(c, KI_SQL_RECORD_GET, key, parts, &found, &read, err));
    if (!found) return ki_fail(err, KITH_NOTFOUND, "%s: there is no row %lld", c->path, (long long)key);
    *row = read;
    return KITH_OK;
}

kith_status kith_collection_next(kith_collection *c, int64_t after, unsigned parts, kith_row *row,
                                 kith_error *err)
{
    int found;
    kith_row read = {0};
    if (!row) return ki_fail(err, KITH_INVALID, "row is NULL");
    KI_TRY(read_row(c, KI_SQL_RECORD_NEXT, after, parts, &found, &read, err));
    *row = read;
    return KITH_OK;
}
