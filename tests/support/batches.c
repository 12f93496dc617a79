#include "batches.h"

#include <stdio.h>
#include <string.h>

#include <kith/fusion.h>

/* splitmix64: what a batch does must not hang on anybody's state. */
static uint64_t draw(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void test_batch_query(uint64_t drawn, size_t dim, float *vector)
{
    for (size_t d = 0; d < dim; d++) vector[d] = (float)(draw(&drawn) % 100);
}

/* What a batch may meet: something is not there, or is there already. */
static kith_status but_for(kith_status status)
{
    return status == KITH_NOTFOUND || status == KITH_EXISTS ? KITH_OK : status;
}

/* also: KITH_ROW_NEW, or 0. */
static kith_status put_whole(kith_collection *c, uint64_t number, uint64_t r, unsigned also, kith_error *err)
{
    float vector[BATCH_DIM];
    char payload[96], attachment[900];
    test_batch_query(r, BATCH_DIM, vector);
    memset(attachment, (int)(number % 251), sizeof attachment);
    snprintf(payload, sizeof payload, "{\"batch\":%llu,\"part\":%llu}", (unsigned long long)number,
             (unsigned long long)(r % 5));
    kith_row row = {.key = 1 + (int64_t)(r % BATCH_KEYS),
                    .payload = payload,
                    .vector = r % 11 ? vector : NULL,
                    .dim = r % 11 ? BATCH_DIM : 0,
                    .attachment = attachment,
                    .attachment_size = 100 + r % 800};
    return kith_collection_put(c, KITH_ROW_ALL | also, &row, NULL, err);
}

static kith_status put_by_text(kith_collection *c, uint64_t number, uint64_t r, kith_error *err)
{
    int64_t key = 0;
    char text[32], payload[64];
    snprintf(text, sizeof text, "text %llu", (unsigned long long)(r % 12));
    snprintf(payload, sizeof payload, "{\"batch\":%llu}", (unsigned long long)number);
    kith_row row = {.payload = payload};
    if (r / 12 % 3) return kith_collection_put_text(c, text, KITH_ROW_PAYLOAD, &row, NULL, err);
    kith_status status = kith_collection_key_of(c, text, &key, err);
    return status == KITH_OK ? kith_collection_delete(c, key, err) : status;
}

/* One change of one row. */
static kith_status change_row(kith_collection *c, uint64_t number, uint64_t r, kith_error *err)
{
    static const char *const partitions[] = {BATCH_PARTITION, "blue", NULL};
    float vector[BATCH_FIELD_DIM];
    int64_t key = 1 + (int64_t)(r / 16 % BATCH_KEYS);
    switch (r % 16) {
    case 0:
    case 1: return kith_collection_delete(c, key, err);
    case 2: return kith_collection_merge(c, key, "{\"part\":null,\"more\":[1,2.5,\"x\"]}", 0, err);
    case 3: return kith_collection_set_expiry(c, key, r / 4096 % 2 ? 1000 : 5000000000, err);
    case 4:
    case 5: return kith_collection_set_partition(c, key, partitions[r / 4096 % 3], err);
    case 6:
    case 7:
        test_batch_query(r, BATCH_FIELD_DIM, vector);
        return kith_collection_put_vector(c, key, BATCH_FIELD, r / 4096 % 5 ? vector : NULL, BATCH_FIELD_DIM,
                                          err);
    case 8: return put_by_text(c, number, r / 16, err);
    case 9: return put_whole(c, number, r / 16, KITH_ROW_NEW, err);
    default: return put_whole(c, number, r / 16, 0, err);
    }
}

/* What is rarer than changes of rows. */
static kith_status change_lists(kith_collection *c, uint64_t number, uint64_t r, kith_error *err)
{
    char value[3000];
    switch (r % 24) {
    case 0:
    case 1: return kith_collection_partition_add(c, r / 32 % 2 ? BATCH_PARTITION : "blue", err);
    case 2: return kith_collection_partition_drop(c, r / 32 % 2 ? BATCH_PARTITION : "blue", NULL, err);
    case 3:
    case 4:
    case 5: return kith_collection_vector_field_add(c, BATCH_FIELD, BATCH_FIELD_DIM, KITH_L2SQ, "Flat", err);
    case 6: return kith_collection_vector_field_drop(c, BATCH_FIELD, err);
    case 7: return kith_collection_field_add(c, "batch", KITH_FIELD_INT, err);
    case 8: return kith_collection_field_drop(c, "batch", err);
    case 9: return kith_collection_remove_expired(c, 0, NULL, err);
    case 10: return kith_collection_delete_where(c, "part == 3 and batch % 4 == 1", NULL, err);
    case 11:
        memset(value, (int)(number % 251), sizeof value);
        return kith_collection_meta_set(c, "value", value, r / 32 % sizeof value, err);
    case 12: return kith_collection_meta_delete(c, "value", err);
    case 13: return r / 32 % 4 ? KITH_OK : kith_collection_reset_vectors(c, BATCH_DIM, KITH_L2SQ, err);
    default: return KITH_OK;
    }
}

kith_status test_batch_changes(kith_collection *c, uint64_t number, kith_error *err)
{
    uint64_t seed = number * 0xd1342543de82ef95u;
    kith_status status = but_for(change_lists(c, number, draw(&seed), err));
    for (int i = 0; i < BATCH_CHANGES && status == KITH_OK; i++)
        status = but_for(change_row(c, number, draw(&seed), err));
    return status == KITH_OK ? kith_collection_meta_set(c, "batch", &number, sizeof number, err) : status;
}

kith_status test_batch_next(kith_collection *c, void *ctx, kith_error *err)
{
    uint64_t *number = ctx;
    kith_status status = test_batch_number(c, number, err);
    return status == KITH_OK ? test_batch_changes(c, ++*number, err) : status;
}

kith_status test_batch_undone(kith_collection *c, void *ctx, kith_error *err)
{
    kith_status status = test_batch_next(c, ctx, err);
    return status == KITH_OK ? KITH_CANCELLED : status;
}

kith_status test_batch(kith_collection *c, uint64_t number, kith_error *err)
{
    kith_status status = kith_collection_begin(c, err);
    if (status == KITH_OK) status = test_batch_changes(c, number, err);
    if (status == KITH_OK) return kith_collection_commit(c, err);
    kith_collection_rollback(c);
    return status;
}

kith_status test_batch_number(kith_collection *c, uint64_t *number, kith_error *err)
{
    kith_meta meta;
    kith_status status = kith_collection_meta_get(c, "batch", &meta, err);
    *number = 0;
    if (status == KITH_NOTFOUND) return KITH_OK;
    if (status != KITH_OK) return status;
    if (meta.size == sizeof *number) memcpy(number, meta.value, sizeof *number);
    return KITH_OK;
}
