/* vectors.c - the vectors of a collection in memory, kept in step with the change log. */
#include "engine/vectors.h"

#include "base/run.h"
#include "engine/budget.h"
#include "engine/rowblock.h"
#include "engine/spaces.h"

#include <string.h>

/* Vectors are handed to the index in blocks of about so many bytes: enough to make a call cheap, little beside the
 * vectors themselves. Arbitrary. */
#define BLOCK_BYTES ((size_t)1 << 20)

/* Changes that are followed between two looks at a limit: a millisecond or two of fetching rows. Arbitrary. */
#define LIMITED_CHANGES 128

/* How fast a segment is verified, bytes a nanosecond, when whether there is time for that is estimated: half of what memory
 * gave to the checksums of 546 MB (bench/collection_speed.c). */
#define VERIFIED_PER_NS 1.0

/* Arrays of an index grow by half, and the old one stands until the new one is filled. */
#define GROWN 2.5

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

/* ---- Loading ---- */

/* A block of rows goes into the tail. */
static kith_status add_to_tail(void *ctx, const ki_row_block *block, kith_error *err)
{
    const ki_vectors *v = ctx;
    return ki_row_block_add(block, v->tail, NULL, err);
}

kith_status ki_changed_keys(kith_collection *c, uint64_t since, uint64_t last, ki_buffer *keys,
                            kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_CHANGE_KEYS, &stmt, err));
    sqlite3_bind_int64(stmt, 1, (int64_t)since);
    sqlite3_bind_int64(stmt, 2, ki_vector_changes(c));
    sqlite3_bind_int64(stmt, 3, (int64_t)last);
    kith_status status;
    while ((status = ki_db_step(c, KI_SQL_CHANGE_KEYS, &row, err)) == KITH_OK && row) {
        int64_t key = sqlite3_column_int64(stmt, 0);
        if (key >= 1) status = ki_buffer_append(keys, &key, sizeof key, c->allocator, err);
        if (status != KITH_OK) break;
    }
    ki_db_reset(c, KI_SQL_CHANGE_KEYS);
    return status;
}

/* Take the rows changed after `since`, up to `last`, out of the tail, and their present vectors into it. */
static kith_status load_some(kith_collection *c, ki_vectors *v, ki_row_block *b, uint64_t since,
                             uint64_t last, kith_error *err)
{
    ki_buffer found = {0};
    kith_status status = ki_changed_keys(c, since, last, &found, err);
    const int64_t *keys = (const int64_t *)found.data;
    size_t n = found.size / sizeof *keys;
    if (status == KITH_OK && n > 0) status = kith_index_remove(v->tail, (const uint64_t *)keys, n, NULL, err);
    for (size_t i = 0; i < n && status == KITH_OK; i++) {
        if (v->segment.index) status = ki_keyset_add(&v->changed, keys[i], c->allocator, err);
        const float *x = NULL;
        if (status == KITH_OK) status = ki_vectors_fetch(c, keys[i], &x, err);
        if (status == KITH_OK && x) status = ki_row_block_put(b, i, keys[i], x, err);
    }
    ki_buffer_clear(&found, c->allocator);
    return status == KITH_OK ? ki_row_block_finish(b, err) : status;
}

/* All that changed after `since`, or as much as there is time for: v->version says how far it came. A row that is loaded is
 * what it is now, whichever of its changes is at hand; loaded again by a later one, it is the same. */
static kith_status load_changes(kith_collection *c, ki_vectors *v, ki_row_block *b, uint64_t since,
                                const ki_limit *limit, kith_error *err)
{
    uint64_t end = c->state.version;
    for (v->version = since; v->version < end;) {
        uint64_t last = limit && end - v->version > LIMITED_CHANGES ? v->version + LIMITED_CHANGES : end;
        KI_TRY(load_some(c, v, b, v->version, last, err));
        v->version = last;
        if (limit && ki_limit_reached(limit)) break;
    }
    return KITH_OK;
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

/* Whether what is in memory can be brought up to date by following the change log: it reaches back far enough, and is still
 * the log of the same history. A collection that was made the copy of another has another's. */
static kith_status can_follow(kith_collection *c, const ki_vectors *v, int *can, kith_error *err)
{
    const ki_state *s = &c->state;
    *can = v->tail && v->dim == s->dim && v->metric == s->metric && v->version >= s->reset_version &&
           v->version <= s->version && v->version + 1 >= s->oldest;
    if (!*can || v->known_version == 0) return KITH_OK;
    return ki_stamp_holds(c, v->known_version, v->known_stamp, can, err);
}

/* Whether all vectors may be held in memory. */
static kith_status check_room(const kith_collection *c, kith_error *err)
{
    double bytes = GROWN * (double)c->state.vectors * (4.0 * (double)c->state.dim + 24);
    if (bytes <= (double)ki_budget_left(c)) return KITH_OK;
    return ki_fail(err, KITH_NOMEM, "%s: the vectors take %.0f bytes, max_bytes leaves %llu", c->path, bytes,
                   (unsigned long long)ki_budget_left(c));
}

/* Whether there is time to take in the segment that a look into the folder may find: one like that which is there. */
static int may_look(const ki_vectors *v, const ki_limit *limit)
{
    if (!limit || limit->deadline_ns == 0) return 1;
    uint64_t now = ki_now_ns();
    return now < limit->deadline_ns &&
           (double)(limit->deadline_ns - now) > (double)v->segment.bytes / VERIFIED_PER_NS;
}

/* look: the folder of segments has changed. limit: NULL, or what may end it before it is up to date. */
static kith_status bring_up_to_date(kith_collection *c, ki_vectors *v, int look, const ki_limit *limit,
                                    kith_error *err)
{
    uint64_t since = v->version;
    int follow;
    KI_TRY(can_follow(c, v, &follow, err));
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
    ki_row_block b = {0};
    if (status == KITH_OK && !follow) status = check_room(c, err);
    if (status == KITH_OK)
        status = ki_row_block_init(&b, c, BLOCK_BYTES, c->state.vectors, add_to_tail, v, err);
    if (status == KITH_OK && follow) status = load_changes(c, v, &b, since, limit, err);
    if (status == KITH_OK && !follow) {
        status = ki_vectors_scan(c, NULL, "", ki_row_block_put, &b, err);
        if (status == KITH_OK) status = ki_row_block_finish(&b, err);
        v->version = c->state.version;
    }
    ki_row_block_clear(&b);
    if (status != KITH_OK) return status;
    kith_searcher_free(v->searcher);
    v->searcher = NULL;
    return kith_searcher_create(v->tail, &v->searcher, err);
}

kith_status ki_vectors_sync(kith_collection *c, const ki_limit *limit, int *current, kith_error *err)
{
    if (!c->vectors) {
        c->vectors = ki_alloc_zero(c->allocator, 1, sizeof *c->vectors);
        if (!c->vectors) return ki_fail_nomem(err, sizeof *c->vectors);
    }
    ki_vectors *v = c->vectors;
    struct timespec seen = v->folder_modified;
    int look = ki_segment_folder_changed(c, &seen) || (v->ahead > 0 && c->state.version >= v->ahead);
    if (look && v->tail && !may_look(v, limit)) look = 0; /* a later call will */
    if (look) v->folder_modified = seen;
    *current = 1;
    if (!look && v->tail && v->version == c->state.version && v->stamp == c->state.stamp) return KITH_OK;
    kith_status status = bring_up_to_date(c, v, look, limit, err);
    if (status != KITH_OK) {
        clear(c, v); /* half brought up to date is of no use */
        v->folder_modified = (struct timespec){0};
        return status;
    }
    v->uncommitted |= c->mode == KI_BATCH;
    *current = v->version == c->state.version;
    v->stamp = *current ? c->state.stamp : 0;
    v->known_version = c->mode == KI_BATCH ? c->begin_version : c->state.version;
    v->known_stamp = c->state.stamp; /* within a batch still that of the last one */
    return KITH_OK;
}
