/* vectors.c - the vectors of a collection in memory, kept in step with the change log. */
#include "engine/vectors.h"

#include <string.h>

/* Vectors are handed to the index in blocks of about so many bytes: enough to make a call cheap, little beside the
 * vectors themselves. Arbitrary. */
#define BLOCK_BYTES ((size_t)1 << 20)

static void clear(kith_collection *c, ki_vectors *v)
{
    kith_searcher_free(v->searcher);
    kith_index_free(v->tail);
    ki_segment_close(&v->segment);
    ki_keyset_clear(&v->changed, c->allocator);
    v->searcher = NULL;
    v->tail = NULL;
}

void ki_vectors_free(kith_collection *c)
{
    if (!c->vectors) return;
    clear(c, c->vectors);
    ki_buffer_clear(&c->vectors->bad, c->allocator);
    ki_free(c->allocator, c->vectors);
    c->vectors = NULL;
}

void ki_vectors_committed(kith_collection *c)
{
    if (!c->vectors || !c->vectors->uncommitted) return;
    /* The last changes were read while the batch had no stamp yet. */
    if (c->vectors->version == c->state.version) c->vectors->stamp = c->state.stamp;
    c->vectors->uncommitted = 0;
}

void ki_vectors_rolled_back(kith_collection *c)
{
    if (c->vectors && c->vectors->uncommitted) ki_vectors_free(c);
}

/* ---- A block of vectors on its way into the tail ---- */

typedef struct block {
    kith_index *index;
    float *x;      /* [room][dim] */
    uint64_t *ids; /* [room] */
    size_t n, room, dim;
} block;

static kith_status block_init(block *b, kith_collection *c, kith_index *index, kith_error *err)
{
    size_t bytes = c->state.dim * sizeof(float);
    *b = (block){.index = index, .dim = c->state.dim, .room = bytes < BLOCK_BYTES ? BLOCK_BYTES / bytes : 1};
    b->x = ki_alloc(c->allocator, b->room, bytes);
    b->ids = ki_alloc(c->allocator, b->room, sizeof *b->ids);
    return b->x && b->ids ? KITH_OK : ki_fail_nomem(err, b->room * bytes);
}

static void block_clear(block *b, const kith_allocator *allocator)
{
    ki_free(allocator, b->x);
    ki_free(allocator, b->ids);
}

static kith_status block_flush(block *b, const kith_collection *c, kith_error *err)
{
    if (b->n == 0) return KITH_OK;
    kith_status status = kith_index_add(b->index, b->x, b->ids, b->n, NULL, err);
    b->n = 0;
    if (status == KITH_EXISTS) return ki_corrupt(c, err, "two rows have the same key");
    return status;
}

static kith_status block_add(block *b, const kith_collection *c, int64_t key, const float *x, kith_error *err)
{
    if (key < 1) return ki_corrupt(c, err, "a row has the key %lld", (long long)key);
    memcpy(b->x + b->n * b->dim, x, b->dim * sizeof *x);
    b->ids[b->n++] = (uint64_t)key;
    return b->n == b->room ? block_flush(b, c, err) : KITH_OK;
}

/* ---- Loading ---- */

/* All vectors there are. */
static kith_status load_all(kith_collection *c, block *b, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_VECTOR_SCAN, &stmt, err));
    kith_status status;
    while ((status = ki_db_step(c, KI_SQL_VECTOR_SCAN, &row, err)) == KITH_OK && row) {
        int64_t key = sqlite3_column_int64(stmt, 0);
        const float *x;
        status = ki_row_vector(c, stmt, 1, key, &x, err);
        if (status == KITH_OK && x) status = block_add(b, c, key, x, err);
        if (status != KITH_OK) break;
    }
    ki_db_reset(c, KI_SQL_VECTOR_SCAN);
    return status == KITH_OK ? block_flush(b, c, err) : status;
}

/* The present vector of one row, if it has one. */
static kith_status load_one(kith_collection *c, block *b, int64_t key, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_VECTOR_GET, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    KI_TRY(ki_db_step(c, KI_SQL_VECTOR_GET, &row, err));
    if (!row) return KITH_OK;
    const float *x;
    kith_status status = ki_row_vector(c, stmt, 0, key, &x, err);
    if (status == KITH_OK && x) status = block_add(b, c, key, x, err);
    ki_db_reset(c, KI_SQL_VECTOR_GET);
    return status;
}

/* The keys of the rows whose vectors changed after `since`, ascending, as int64_t in *keys. */
static kith_status changed_keys(kith_collection *c, uint64_t since, ki_buffer *keys, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_CHANGE_KEYS, &stmt, err));
    sqlite3_bind_int64(stmt, 1, (int64_t)since);
    sqlite3_bind_int64(stmt, 2, KI_VECTOR_CHANGES);
    kith_status status;
    while ((status = ki_db_step(c, KI_SQL_CHANGE_KEYS, &row, err)) == KITH_OK && row) {
        int64_t key = sqlite3_column_int64(stmt, 0);
        if (key >= 1) status = ki_buffer_append(keys, &key, sizeof key, c->allocator, err);
        if (status != KITH_OK) break;
    }
    ki_db_reset(c, KI_SQL_CHANGE_KEYS);
    return status;
}

/* Take the rows changed after `since` out of the tail, and their present vectors into it. */
static kith_status load_changes(kith_collection *c, ki_vectors *v, block *b, uint64_t since, kith_error *err)
{
    ki_buffer found = {0};
    kith_status status = changed_keys(c, since, &found, err);
    const int64_t *keys = (const int64_t *)found.data;
    size_t n = found.size / sizeof *keys;
    if (status == KITH_OK && n > 0) status = kith_index_remove(v->tail, (const uint64_t *)keys, n, NULL, err);
    for (size_t i = 0; i < n && status == KITH_OK; i++) {
        if (v->segment.index) status = ki_keyset_add(&v->changed, keys[i], c->allocator, err);
        if (status == KITH_OK) status = load_one(c, b, keys[i], err);
    }
    ki_buffer_clear(&found, c->allocator);
    return status == KITH_OK ? block_flush(b, c, err) : status;
}

static kith_status make_tail(kith_collection *c, ki_vectors *v, kith_error *err)
{
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = c->state.metric;
    options.allocator = c->allocator;
    v->dim = c->state.dim;
    v->metric = c->state.metric;
    return kith_index_create("Flat", v->dim, &options, &v->tail, err);
}

/* Whether what is in memory can be brought up to date by following the change log. */
static int can_follow(const ki_vectors *v, const ki_state *s)
{
    return v->tail && v->dim == s->dim && v->metric == s->metric && v->version >= s->reset_version &&
           v->version <= s->version && v->version + 1 >= s->oldest;
}

/* look: the folder of segments has changed. */
static kith_status bring_up_to_date(kith_collection *c, ki_vectors *v, int look, kith_error *err)
{
    uint64_t since = v->version;
    int follow = can_follow(v, &c->state);
    kith_status status = KITH_OK;
    if (look) v->bad.size = 0; /* a damaged file may have been replaced */
    if (!follow || look) {
        ki_segment found = {0};
        KI_TRY(ki_segment_find(c, follow ? v->segment.version : 0, &v->bad, &found, &v->ahead, err));
        if (!follow || found.index) {
            clear(c, v);
            v->segment = found;
            follow = found.index != NULL;
            since = found.version;
            status = make_tail(c, v, err);
        }
    }
    block b = {0};
    if (status == KITH_OK) status = block_init(&b, c, v->tail, err);
    if (status == KITH_OK) status = follow ? load_changes(c, v, &b, since, err) : load_all(c, &b, err);
    block_clear(&b, c->allocator);
    if (status != KITH_OK) return status;
    kith_searcher_free(v->searcher);
    v->searcher = NULL;
    return kith_searcher_create(v->tail, &v->searcher, err);
}

kith_status ki_vectors_sync(kith_collection *c, kith_error *err)
{
    if (!c->vectors) {
        c->vectors = ki_alloc_zero(c->allocator, 1, sizeof *c->vectors);
        if (!c->vectors) return ki_fail_nomem(err, sizeof *c->vectors);
    }
    ki_vectors *v = c->vectors;
    int look =
        ki_segment_folder_changed(c, &v->folder_modified) || (v->ahead > 0 && c->state.version >= v->ahead);
    if (!look && v->tail && v->version == c->state.version && v->stamp == c->state.stamp) return KITH_OK;
    kith_status status = bring_up_to_date(c, v, look, err);
    if (status != KITH_OK) {
        clear(c, v); /* half brought up to date is of no use */
        v->folder_modified = (struct timespec){0};
        return status;
    }
    v->version = c->state.version;
    v->stamp = c->state.stamp;
    v->uncommitted |= c->mode == KI_BATCH;
    return KITH_OK;
}
