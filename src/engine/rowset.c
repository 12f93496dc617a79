/* rowset.c - which rows a filter lets through: found by SQLite, remembered by the handle.
 *
 * A set belongs to a filter's text and a state of the collection, (version, stamp). When the collection has moved on,
 * the change log says which rows to look at again; only when it does not reach back, or says that too much changed, are
 * all rows looked at. */
#include "engine/rowset.h"

#include "engine/expiry.h"
#include "engine/fields.h"
#include "engine/filter_rows.h"
#include "engine/spaces.h"
#include "engine/vectors.h"

#include <stdlib.h>
#include <string.h>

#define REMEMBERED 8 /* sets of a handle; arbitrary */

/* Keys are kept as a bitmap if that costs no more than an array of all keys would, or little anyway. */
#define SMALL_BITMAP ((uint64_t)1 << 23) /* bits: a megabyte */

/* More changes than this part of the rows: looking at all rows is cheaper than looking each one up. Arbitrary. */
#define CHANGED_PART 20

typedef struct remembered {
    char *filter;    /* NULL: empty */
    int64_t vectors; /* 0: all rows; else those with a vector, 1 + id of the vector field */
    int uncommitted; /* found inside an open batch */
    uint64_t version, stamp, used;
    ki_rowset set;
} remembered;

struct ki_rowsets {
    remembered items[REMEMBERED];
    uint64_t clock;
};

/* ---- The set ---- */

static const int64_t *sorted_keys(const ki_rowset *set)
{
    return (const int64_t *)(const void *)set->keys.data;
}

/* How many of the sorted keys are <= key. */
static uint64_t rank(const ki_rowset *set, int64_t key)
{
    const int64_t *keys = sorted_keys(set);
    uint64_t low = 0, high = set->n;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (keys[middle] <= key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int ki_rowset_has(const ki_rowset *set, int64_t key)
{
    if (set->bits) return ki_rowset_bit(set, key);
    uint64_t i = rank(set, key);
    return i > 0 && sorted_keys(set)[i - 1] == key;
}

int64_t ki_rowset_next(const ki_rowset *set, int64_t after)
{
    if (!set->bits) {
        uint64_t i = rank(set, after);
        return i < set->n ? sorted_keys(set)[i] : 0;
    }
    uint64_t from = after < 0 ? 0 : (uint64_t)after + 1;
    if (from >= set->n_bits) return 0;
    uint64_t i = from / 64, words = (set->n_bits + 63) / 64, word = set->bits[i] & UINT64_MAX << from % 64;
    while (word == 0 && ++i < words) word = set->bits[i];
    return word ? (int64_t)(i * 64 + (uint64_t)__builtin_ctzll(word)) : 0;
}

void ki_rowset_clear(ki_rowset *set, const kith_allocator *allocator)
{
    ki_free(allocator, set->bits);
    ki_buffer_clear(&set->keys, allocator);
    *set = (ki_rowset){0};
}

/* An empty set for the collection's keys. */
kith_status ki_rowset_make(const kith_collection *c, ki_rowset *set, kith_error *err)
{
    uint64_t last = (uint64_t)c->state.last_key, most = c->state.rows * 64;
    *set = (ki_rowset){0};
    if (last >= (most > SMALL_BITMAP ? most : SMALL_BITMAP)) return KITH_OK;
    set->n_bits = last + 1;
    set->bits = ki_alloc_zero(c->allocator, (size_t)(last / 64 + 1), sizeof *set->bits);
    return set->bits ? KITH_OK : ki_fail_nomem(err, (size_t)(last / 8));
}

/* Put a key; an array is sorted afterwards. Keys beyond the bitmap are damage. */
kith_status ki_rowset_put(const kith_collection *c, ki_rowset *set, int64_t key, kith_error *err)
{
    if (key < 1 || key > c->state.last_key)
        return ki_corrupt(c, err, "a row has the key %lld", (long long)key);
    if (set->bits) {
        uint64_t bit = (uint64_t)1 << key % 64;
        set->n += !(set->bits[key / 64] & bit);
        set->bits[key / 64] |= bit;
        return KITH_OK;
    }
    set->n++;
    return ki_buffer_append(&set->keys, &key, sizeof key, c->allocator, err);
}

static int compare_keys(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Sort the array; a key that came twice counts once. */
void ki_rowset_finish(ki_rowset *set)
{
    if (set->bits || set->n == 0) return;
    int64_t *keys = (int64_t *)(void *)set->keys.data;
    qsort(keys, (size_t)set->n, sizeof *keys, compare_keys);
    uint64_t kept = 1;
    for (uint64_t i = 1; i < set->n; i++)
        if (keys[i] != keys[kept - 1]) keys[kept++] = keys[i];
    set->n = kept;
    set->keys.size = (size_t)kept * sizeof *keys;
}

static size_t words_of(const ki_rowset *set)
{
    return (size_t)((set->n_bits + 63) / 64);
}

void ki_rowset_keep(ki_rowset *set, const ki_rowset *other)
{
    uint64_t kept = 0;
    if (set->bits) {
        for (size_t i = 0; i < words_of(set); i++) {
            set->bits[i] &= other->bits[i];
            kept += (uint64_t)__builtin_popcountll(set->bits[i]);
        }
        set->n = kept;
        return;
    }
    int64_t *keys = (int64_t *)(void *)set->keys.data;
    const int64_t *others = sorted_keys(other);
    for (uint64_t i = 0, j = 0; i < set->n; i++) {
        while (j < other->n && others[j] < keys[i]) j++;
        if (j < other->n && others[j] == keys[i]) keys[kept++] = keys[i];
    }
    set->n = kept;
    set->keys.size = (size_t)kept * sizeof *keys;
}

kith_status ki_rowset_join(const kith_collection *c, ki_rowset *set, const ki_rowset *other, kith_error *err)
{
    if (set->bits) {
        set->n = 0;
        for (size_t i = 0; i < words_of(set); i++) {
            set->bits[i] |= other->bits[i];
            set->n += (uint64_t)__builtin_popcountll(set->bits[i]);
        }
        return KITH_OK;
    }
    if (other->n == 0) return KITH_OK;
    KI_TRY(ki_buffer_append(&set->keys, other->keys.data, other->keys.size, c->allocator, err));
    set->n += other->n;
    ki_rowset_finish(set);
    return KITH_OK;
}

/* ---- Following the change log ---- */

/* The keys of the rows changed after `since` as int64_t in *keys; too many of them: KITH_NOTFOUND. */
static kith_status changed_keys(kith_collection *c, uint64_t since, unsigned parts, ki_buffer *keys,
                                kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    uint64_t most = c->state.rows / CHANGED_PART + 64;
    KI_TRY(ki_db_prepare(c, KI_SQL_CHANGE_KEYS, &stmt, err));
    sqlite3_bind_int64(stmt, 1, (int64_t)since);
    sqlite3_bind_int64(stmt, 2, parts);
    sqlite3_bind_int64(stmt, 3, INT64_MAX);
    kith_status status;
    while ((status = ki_db_step(c, KI_SQL_CHANGE_KEYS, &row, err)) == KITH_OK && row) {
        int64_t key = sqlite3_column_int64(stmt, 0);
        if (key >= 1) status = ki_buffer_append(keys, &key, sizeof key, c->allocator, err);
        /* key 0: a declaration changed, and with it perhaps what the filter means */
        if (status == KITH_OK && (key == 0 || keys->size / sizeof key > most)) status = KITH_NOTFOUND;
        if (status != KITH_OK) break;
    }
    ki_db_reset(c, KI_SQL_CHANGE_KEYS);
    return status;
}

/* Whether the log tells all that has happened since: it reaches back so far, and is still that of the same history. A
 * collection that was put back to a snapshot may have come to the same versions with other rows. */
static kith_status can_follow(kith_collection *c, const remembered *r, int *can, kith_error *err)
{
    const ki_state *s = &c->state;
    *can = r->set.bits && r->version <= s->version && r->version + 1 >= s->oldest &&
           (!r->vectors || r->version >= s->reset_version);
    /* Within a batch there is no stamp yet, and no other history. Before the first one there are no rows. */
    if (!*can || r->uncommitted || r->version == 0) return KITH_OK;
    return ki_stamp_holds(c, r->version, r->stamp, can, err);
}

/* Make room for keys up to last_key, or say KITH_NOTFOUND: no bitmap any more. */
static kith_status widen(const kith_collection *c, ki_rowset *set, kith_error *err)
{
    ki_rowset wider;
    if (set->n_bits > (uint64_t)c->state.last_key) return KITH_OK;
    KI_TRY(ki_rowset_make(c, &wider, err));
    if (!wider.bits) return KITH_NOTFOUND;
    memcpy(wider.bits, set->bits, (size_t)((set->n_bits + 63) / 64) * sizeof *set->bits);
    wider.n = set->n;
    ki_rowset_clear(set, c->allocator);
    *set = wider;
    return KITH_OK;
}

/* Look at the changed rows alone. KITH_NOTFOUND: all rows must be looked at. */
static kith_status follow(kith_collection *c, const ki_expr *expr, remembered *r, const ki_limit *limit,
                          kith_error *err)
{
    int can;
    KI_TRY(can_follow(c, r, &can, err));
    if (!can) return KITH_NOTFOUND;
    ki_buffer changed = {0};
    unsigned parts =
        KITH_ROW_PAYLOAD | KI_CHANGE_DELETED | KI_CHANGE_FIELDS | KI_CHANGE_MEMBER | KI_CHANGE_LISTS;
    if (r->vectors) parts |= ki_vector_change(c);
    kith_status status = changed_keys(c, r->version, parts, &changed, err);
    if (status == KITH_OK) status = widen(c, &r->set, err);
    sqlite3_stmt *stmt = NULL;
    int wanted = 0; /* the parameter behind the filter's */
    ki_expr_part part = {.expr = expr, .node = expr->root};
    char before[KI_ROWS_BYTES];
    ki_rows_sql(c, "key", r->vectors != 0, 1, before);
    if (status == KITH_OK) status = ki_filter_prepare(c, &part, before, " AND key = $changed", &stmt, err);
    if (status == KITH_OK) wanted = sqlite3_bind_parameter_index(stmt, "$changed");
    const int64_t *keys = (const int64_t *)(const void *)changed.data;
    for (size_t i = 0; status == KITH_OK && i < changed.size / sizeof *keys; i++) {
        if (ki_rowset_bit(&r->set, keys[i])) {
            r->set.bits[keys[i] / 64] &= ~((uint64_t)1 << keys[i] % 64);
            r->set.n--;
        }
        sqlite3_bind_int64(stmt, wanted, keys[i]);
        int rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW)
            status = ki_rowset_put(c, &r->set, keys[i], err);
        else if (rc != SQLITE_DONE)
            status = ki_db_fail(c, rc, err, "cannot be filtered");
        sqlite3_reset(stmt);
        if (status == KITH_OK && limit && i % 64 == 63 && ki_limit_reached(limit))
            status = ki_fail(err, KITH_CANCELLED, "%s: the filter was cancelled", c->path);
    }
    sqlite3_finalize(stmt);
    ki_buffer_clear(&changed, c->allocator);
    return status;
}

/* ---- Remembering ---- */

static void forget(kith_collection *c, remembered *r)
{
    ki_free(c->allocator, r->filter);
    ki_rowset_clear(&r->set, c->allocator);
    *r = (remembered){0};
}

void ki_rowsets_free(kith_collection *c)
{
    for (size_t i = 0; c->rowsets && i < REMEMBERED; i++) forget(c, &c->rowsets->items[i]);
    ki_free(c->allocator, c->rowsets);
    c->rowsets = NULL;
}

void ki_rowsets_batch_ended(kith_collection *c)
{
    for (size_t i = 0; c->rowsets && i < REMEMBERED; i++)
        if (c->rowsets->items[i].uncommitted) forget(c, &c->rowsets->items[i]);
}

kith_status ki_rowset_expired(kith_collection *c, const ki_rowset *set, uint64_t *n, kith_error *err)
{
    const ki_keyset *expired;
    *n = 0;
    KI_TRY(ki_expired_load(c, &expired, err));
    for (size_t i = 0; expired && i < expired->capacity; i++)
        *n += expired->slots[i] != 0 && ki_rowset_has(set, expired->slots[i]);
    return KITH_OK;
}

/* The place of a filter: where it is remembered, else the one not used for longest. */
static remembered *place_of(struct ki_rowsets *sets, const char *filter, int64_t vectors)
{
    remembered *oldest = &sets->items[0];
    for (size_t i = 0; i < REMEMBERED; i++) {
        remembered *r = &sets->items[i];
        if (r->filter && r->vectors == vectors && strcmp(r->filter, filter) == 0) return r;
        if (r->used < oldest->used) oldest = r;
    }
    return oldest;
}

/* Bring a place up to date, whatever it holds. */
static kith_status refresh(kith_collection *c, remembered *r, const char *filter, int64_t vectors,
                           const ki_limit *limit, kith_error *err)
{
    ki_expr expr = {0};
    kith_status status = ki_expr_parse(filter, c->allocator, &expr, err), followed = KITH_NOTFOUND;
    if (status == KITH_OK) status = ki_fields_load(c, err);
    if (status == KITH_OK) status = ki_expr_resolve(&expr, c->fields, err);
    if (status == KITH_OK && c->schema < 3 && ki_expr_names_partition(&expr))
        status =
            ki_fail(err, KITH_VERSION,
                    "%s: a collection of version %d has no partitions; it is brought up to date when it is "
                    "opened for writing",
                    c->path, c->schema);
    if (status == KITH_OK && r->filter && r->vectors == vectors && strcmp(r->filter, filter) == 0)
        followed = follow(c, &expr, r, limit, err);
    if (status == KITH_OK && followed == KITH_NOTFOUND) {
        forget(c, r);
        r->vectors = vectors;
        r->filter = ki_strdup(c->allocator, filter);
        status = r->filter ? ki_filter_rows(c, &expr, vectors != 0, limit, &r->set, err)
                           : ki_fail_nomem(err, strlen(filter) + 1);
    } else if (status == KITH_OK) {
        status = followed;
    }
    ki_expr_clear(&expr);
    return status;
}

kith_status ki_rowset_find(kith_collection *c, const char *filter, int with_vector, const ki_limit *limit,
                           const ki_rowset **set, int *known, kith_error *err)
{
    if (!filter) return ki_fail(err, KITH_INVALID, "filter is NULL");
    if (!c->rowsets) {
        c->rowsets = ki_alloc_zero(c->allocator, 1, sizeof *c->rowsets);
        if (!c->rowsets) return ki_fail_nomem(err, sizeof *c->rowsets);
    }
    /* Where all have one, the two sets are the same. */
    int some = with_vector && c->state.vectors < c->state.rows;
    int64_t vectors = !some ? 0 : c->at ? 1 + c->at->id : 1;
    remembered *r = place_of(c->rowsets, filter, vectors);
    int current = r->filter && r->vectors == vectors && strcmp(r->filter, filter) == 0 &&
                  r->version == c->state.version && r->stamp == c->state.stamp;
    if (known) *known = current;
    if (!current) {
        kith_status status = refresh(c, r, filter, vectors, limit, err);
        if (status != KITH_OK) {
            forget(c, r);
            return status;
        }
        r->version = c->state.version;
        r->stamp = c->state.stamp;
        r->uncommitted |= c->mode == KI_BATCH;
    }
    r->used = ++c->rowsets->clock;
    *set = &r->set;
    return KITH_OK;
}
