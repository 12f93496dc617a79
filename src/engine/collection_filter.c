/* collection_filter.c - counting, visiting and deleting the rows that a filter lets through. */
#include <kith/collection.h>

#include "engine/expiry.h"
#include "engine/expr.h"
#include "engine/rowset.h"

kith_status kith_collection_filter_check(const char *filter, kith_error *err)
{
    ki_expr expr = {0};
    kith_status status = ki_expr_parse(filter, NULL, &expr, err);
    ki_expr_clear(&expr);
    return status;
}

kith_status kith_collection_count_where(kith_collection *c, const char *filter, uint64_t *rows,
                                        kith_error *err)
{
    const ki_rowset *set;
    uint64_t expired;
    if (!rows) return ki_fail(err, KITH_INVALID, "rows is NULL");
    KI_TRY(ki_read_begin(c, err));
    kith_status status = ki_rowset_find(c, filter, 0, NULL, &set, NULL, err);
    if (status == KITH_OK) status = ki_rowset_expired(c, set, &expired, err);
    if (status == KITH_OK) *rows = set->n - expired;
    ki_read_end(c);
    return status;
}

kith_status kith_collection_next_where(kith_collection *c, const char *filter, int64_t after, unsigned parts,
                                       kith_row *row, kith_error *err)
{
    const ki_rowset *set;
    const ki_keyset *expired;
    if (!row) return ki_fail(err, KITH_INVALID, "row is NULL");
    KI_TRY(ki_read_begin(c, err));
    kith_status status = ki_rowset_find(c, filter, 0, NULL, &set, NULL, err);
    if (status == KITH_OK) status = ki_expired_load(c, &expired, err);
    if (status == KITH_OK) {
        int64_t key = ki_rowset_next(set, after);
        while (key > 0 && expired && ki_keyset_has(expired, key)) key = ki_rowset_next(set, key);
        if (key > 0)
            status = ki_record_get(c, key, parts, row, err);
        else
            *row = (kith_row){0};
    }
    ki_read_end(c);
    return status;
}

/* The set follows every deletion, so its keys are taken out of it first. Rows past their time are not found, here as in
 * kith_collection_count_where. */
static kith_status take_keys(kith_collection *c, const char *filter, ki_buffer *keys, kith_error *err)
{
    const ki_rowset *set;
    const ki_keyset *expired;
    KI_TRY(ki_read_begin(c, err)); /* says so when the batch is spoilt */
    KI_TRY(ki_rowset_find(c, filter, 0, NULL, &set, NULL, err));
    KI_TRY(ki_expired_load(c, &expired, err));
    for (int64_t key = 0; (key = ki_rowset_next(set, key)) > 0;)
        if (!expired || !ki_keyset_has(expired, key))
            KI_TRY(ki_buffer_append(keys, &key, sizeof key, c->allocator, err));
    return KITH_OK;
}

kith_status kith_collection_delete_where(kith_collection *c, const char *filter, uint64_t *rows,
                                         kith_error *err)
{
    ki_buffer found = {0};
    if (c->mode != KI_BATCH)
        return ki_fail(err, KITH_INVALID, "there is no batch: call kith_collection_begin");
    kith_status status = take_keys(c, filter, &found, err);
    const int64_t *keys = (const int64_t *)(const void *)found.data;
    uint64_t n = found.size / sizeof *keys;
    for (uint64_t i = 0; i < n && status == KITH_OK; i++) {
        status = kith_collection_delete(c, keys[i], err);
        if (status == KITH_NOTFOUND) { /* a row that a scan finds and its key does not */
            status = ki_corrupt(c, err, "the index of keys does not know row %lld", (long long)keys[i]);
            c->batch_status = status;
        }
    }
    ki_buffer_clear(&found, c->allocator);
    if (status == KITH_OK && rows) *rows = n;
    return status;
}
