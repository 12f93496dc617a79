/* duplicates.c - pictures that are there more than once.
 *
 * Two opinions. The perceptual hash proposes: rows are taken by their hash; those of one hash, and those of two hashes
 * within the wanted number of bits, may be the same. The features decide: a pair is one when their vectors are near, too.
 *
 * Rows of one hash may be thousands (scans of empty pages). They are not compared each with each but with leaders: a row
 * joins the first leader of its hash whose features agree, or becomes one. Leaders of near hashes are compared
 * pair by pair. What joined is a group, by union and find.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/simhash.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/run.h"
#include "base/select.h"
#include "gallery/gallery_state.h"
#include "gallery/row.h"

#define MAX_BITS 32
#define REPORT_EVERY 256 /* rows */

typedef struct item {
    int64_t key;
    ki_row_look look;
    float *vector; /* NULL until it is needed, or where the row has none */
    int asked;     /* whether the collection was asked for it */
} item;

/* What kith_gallery_duplicates_free must know. */
typedef struct duplicates_block {
    kith_gallery_duplicates duplicates; /* first: the caller's pointer is this block's */
    const kith_allocator *allocator;
} duplicates_block;

typedef struct finding {
    kith_gallery *g;
    const kith_allocator *allocator;
    const kith_gallery_duplicates_options *options;
    const kith_run *run;
    size_t dim;
    item *items; /* [n], by hash, then key */
    size_t n, room;
    uint64_t *hashes; /* [m]: the distinct ones, ascending */
    size_t *first;    /* [m + 1]: items of a hash */
    size_t m;
    uint32_t *leaders; /* [n]: items; those of hash h stand from first[h] on */
    size_t *n_leaders; /* [m] */
    kith_pairs joined;
    size_t joined_room;
} finding;

/* ---- Reading ---- */

static int by_hash(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->look.phash != y->look.phash) return x->look.phash < y->look.phash ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

static kith_status add_item(finding *f, const kith_row *row, kith_error *err)
{
    json_t *payload = ki_row_parse(row->payload, row->payload_size);
    item one = {.key = row->key};
    int there = payload && ki_row_get_look(payload, &one.look);
    json_decref(payload);
    if (!there) return KITH_OK;
    if (f->n == f->room) {
        size_t room = ki_grown(f->room, f->n + 1);
        item *grown = ki_realloc(f->allocator, f->items, f->n, room, sizeof *grown);
        if (!grown) return ki_fail_nomem(err, room * sizeof *grown);
        f->items = grown;
        f->room = room;
    }
    f->items[f->n++] = one;
    return KITH_OK;
}

static kith_status read_items(finding *f, kith_error *err)
{
    kith_row row = {0};
    uint64_t rows, done = 0;
    ki_stage stage;
    KI_TRY(kith_collection_count(f->g->collection, &rows, NULL, err));
    ki_stage_begin(&stage, f->run, "reading", rows);
    for (;;) {
        KI_TRY(kith_collection_next(f->g->collection, row.key, KITH_ROW_PAYLOAD, &row, err));
        if (!row.key) break;
        KI_TRY(add_item(f, &row, err));
        if (++done % REPORT_EVERY) continue;
        KI_TRY(ki_run_check(f->run, err));
        ki_stage_report(&stage, done < rows ? done : rows);
    }
    if (f->n) qsort(f->items, f->n, sizeof *f->items, by_hash);
    return f->n < UINT32_MAX ? KITH_OK : ki_fail(err, KITH_UNSUPPORTED, "there are %zu pictures", f->n);
}

static kith_status list_hashes(finding *f, kith_error *err)
{
    f->hashes = ki_alloc(f->allocator, f->n, sizeof *f->hashes);
    f->first = ki_alloc(f->allocator, f->n + 1, sizeof *f->first);
    f->leaders = ki_alloc(f->allocator, f->n, sizeof *f->leaders);
    f->n_leaders = ki_alloc(f->allocator, f->n, sizeof *f->n_leaders);
    if (!f->hashes || !f->first || !f->leaders || !f->n_leaders)
        return ki_fail_nomem(err, f->n * sizeof *f->first);
    for (size_t i = 0; i < f->n; i++) {
        if (i && f->items[i].look.phash == f->items[i - 1].look.phash) continue;
        f->hashes[f->m] = f->items[i].look.phash;
        f->first[f->m++] = i;
    }
    f->first[f->m] = f->n;
    return KITH_OK;
}

/* ---- The second opinion ---- */

static kith_status load_vector(finding *f, item *i, kith_error *err)
{
    kith_row row;
    if (i->asked) return KITH_OK;
    KI_TRY(kith_collection_get(f->g->collection, i->key, KITH_ROW_VECTOR, &row, err));
    i->asked = 1;
    if (!row.vector || row.dim != f->dim) return KITH_OK;
    i->vector = ki_alloc(f->allocator, f->dim, sizeof *i->vector);
    if (!i->vector) return ki_fail_nomem(err, f->dim * sizeof *i->vector);
    memcpy(i->vector, row.vector, f->dim * sizeof *i->vector);
    return KITH_OK;
}

/* Squared Euclidean; NAN where a row has no vector. */
static kith_status distance_of(finding *f, size_t a, size_t b, float *distance, kith_error *err)
{
    KI_TRY(load_vector(f, &f->items[a], err));
    KI_TRY(load_vector(f, &f->items[b], err));
    const float *x = f->items[a].vector, *y = f->items[b].vector;
    double sum = 0;
    for (size_t d = 0; x && y && d < f->dim; d++) {
        double difference = (double)x[d] - (double)y[d];
        sum += difference * difference;
    }
    *distance = x && y ? (float)sum : NAN;
    return KITH_OK;
}

static kith_status agree(finding *f, size_t a, size_t b, int *yes, kith_error *err)
{
    float distance;
    *yes = 1;
    if (f->options->min_score <= 0) return KITH_OK;
    KI_TRY(distance_of(f, a, b, &distance, err));
    *yes = kith_metric_score(KITH_L2SQ, distance, 0) >= f->options->min_score; /* no vector: not the same */
    return KITH_OK;
}

/* ---- Comparing ---- */

static kith_status join(finding *f, size_t a, size_t b, kith_error *err)
{
    if (f->joined.n == f->joined_room) {
        size_t room = ki_grown(f->joined_room, f->joined.n + 1);
        kith_pair *grown = ki_realloc(f->allocator, f->joined.items, f->joined.n, room, sizeof *grown);
        if (!grown) return ki_fail_nomem(err, room * sizeof *grown);
        f->joined.items = grown;
        f->joined_room = room;
    }
    f->joined.items[f->joined.n++] =
        a < b ? (kith_pair){(uint32_t)a, (uint32_t)b, 1} : (kith_pair){(uint32_t)b, (uint32_t)a, 1};
    return KITH_OK;
}

/* Rows of one hash find their leaders: those that are like no leader before them become one. */
static kith_status compare_within(finding *f, size_t h, kith_error *err)
{
    size_t from = f->first[h], count = 0;
    for (size_t i = from; i < f->first[h + 1]; i++) {
        int same = 0;
        if ((i - from) % REPORT_EVERY == 0) KI_TRY(ki_run_check(f->run, err));
        for (size_t l = 0; l < count && !same; l++) {
            KI_TRY(agree(f, f->leaders[from + l], i, &same, err));
            if (same) KI_TRY(join(f, f->leaders[from + l], i, err));
        }
        if (!same) f->leaders[from + count++] = (uint32_t)i;
    }
    f->n_leaders[h] = count;
    return KITH_OK;
}

static kith_status compare_between(finding *f, size_t g, size_t h, kith_error *err)
{
    for (size_t i = 0; i < f->n_leaders[g]; i++)
        for (size_t k = 0; k < f->n_leaders[h]; k++) {
            uint32_t a = f->leaders[f->first[g] + i], b = f->leaders[f->first[h] + k];
            int same;
            KI_TRY(agree(f, a, b, &same, err));
            if (same) KI_TRY(join(f, a, b, err));
        }
    return KITH_OK;
}

static kith_status compare(finding *f, kith_error *err)
{
    kith_simhash_index *index;
    kith_pairs near = {0};
    for (size_t h = 0; h < f->m; h++) {
        if (h % REPORT_EVERY == 0) KI_TRY(ki_run_check(f->run, err));
        KI_TRY(compare_within(f, h, err));
    }
    KI_TRY(kith_simhash_index_create(f->hashes, f->m, 64, f->options->bits, 0, f->allocator, f->run, &index,
                                     err));
    kith_status status = kith_simhash_index_pairs(index, f->run, &near, err);
    kith_simhash_index_free(index);
    ki_stage stage;
    ki_stage_begin(&stage, f->run, "verifying", near.n);
    for (size_t i = 0; status == KITH_OK && i < near.n; i++) {
        if (i % REPORT_EVERY == 0) status = ki_run_check(f->run, err);
        if (status == KITH_OK) status = compare_between(f, near.items[i].a, near.items[i].b, err);
        ki_stage_report(&stage, i + 1);
    }
    kith_pairs_clear(&near);
    return status;
}

/* ---- Groups ---- */

static int keeps_better(const item *a, const item *b)
{
    if (a->look.pixels != b->look.pixels) return a->look.pixels > b->look.pixels;
    if (a->look.size != b->look.size) return a->look.size > b->look.size;
    if (a->look.mtime_ns != b->look.mtime_ns) return a->look.mtime_ns < b->look.mtime_ns;
    return a->key < b->key;
}

/* Members of a group, the keeper among them, to hits. members[n]: numbers of items. */
static kith_status fill_group(finding *f, const uint32_t *members, size_t n, kith_gallery_group *group,
                              kith_error *err)
{
    unsigned parts = KITH_ROW_PAYLOAD | (f->options->thumbnails ? KITH_ROW_ATTACHMENT : 0);
    size_t keeper = members[0];
    for (size_t i = 1; i < n; i++)
        if (keeps_better(&f->items[members[i]], &f->items[keeper])) keeper = members[i];
    group->hits = ki_alloc_zero(f->allocator, n, sizeof *group->hits);
    group->bits = ki_alloc_zero(f->allocator, n, sizeof *group->bits);
    uint64_t *order = ki_alloc(f->allocator, n, sizeof *order);
    kith_status status =
        group->hits && group->bits && order ? KITH_OK : ki_fail_nomem(err, n * sizeof *group->hits);
    for (size_t i = 0; i < n && status == KITH_OK; i++) {
        float distance = 0;
        if (members[i] != keeper) status = distance_of(f, keeper, members[i], &distance, err);
        if (isnan(distance)) distance = 4; /* as far as unit vectors can be */
        order[i] = members[i] == keeper ? 0 : ki_key(distance, (uint32_t)i + 1);
    }
    if (status == KITH_OK) ki_keys_sort(order, n);
    for (size_t i = 0; i < n && status == KITH_OK; i++) {
        const item *one = &f->items[order[i] ? members[ki_key_number(order[i]) - 1] : keeper];
        float distance = order[i] ? ki_key_dist(order[i]) : 0;
        group->hits[i] = (kith_gallery_hit){
            .key = one->key, .distance = distance, .score = kith_metric_score(KITH_L2SQ, distance, 0)};
        group->bits[i] = (uint32_t)__builtin_popcountll(one->look.phash ^ f->items[keeper].look.phash);
        group->n = i + 1; /* so many hits are to be cleared */
        status = ki_gallery_fill_hit(f->g, one->key, parts, &group->hits[i], err);
    }
    ki_free(f->allocator, order);
    return status;
}

/* A group of two and more on its way out. */
typedef struct span {
    int64_t least;     /* key, which the order of the groups goes by */
    uint32_t begin, n; /* among members */
} span;

static int by_least(const void *a, const void *b)
{
    const span *x = a, *y = b;
    return x->least < y->least ? -1 : x->least > y->least;
}

/* Items by group: members[n], those of a group side by side. keys[n] and group[n] are scratch. Returns how many spans. */
static size_t find_spans(const finding *f, uint32_t *group, uint64_t *keys, uint32_t *members, span *spans)
{
    size_t count = 0;
    kith_pairs_groups(&f->joined, f->n, group);
    for (size_t i = 0; i < f->n; i++) keys[i] = (uint64_t)group[i] << 32 | i;
    ki_keys_sort(keys, f->n);
    for (size_t i = 0; i < f->n; i++) members[i] = (uint32_t)keys[i];
    for (size_t i = 0, end; i < f->n; i = end) {
        int64_t key = f->items[members[i]].key;
        for (end = i + 1; end < f->n && group[members[end]] == group[members[i]]; end++)
            if (f->items[members[end]].key < key) key = f->items[members[end]].key;
        if (end - i >= 2) spans[count++] = (span){key, (uint32_t)i, (uint32_t)(end - i)};
    }
    if (count) qsort(spans, count, sizeof *spans, by_least);
    return count;
}

static kith_status fill_groups(finding *f, kith_gallery_duplicates *out, kith_error *err)
{
    uint32_t *group = ki_alloc(f->allocator, f->n, sizeof *group);
    uint32_t *members = ki_alloc(f->allocator, f->n, sizeof *members);
    uint64_t *keys = ki_alloc(f->allocator, f->n, sizeof *keys);
    span *spans = ki_alloc(f->allocator, f->n / 2, sizeof *spans);
    kith_status status =
        group && members && keys && spans ? KITH_OK : ki_fail_nomem(err, f->n * sizeof *keys);
    size_t count = status == KITH_OK ? find_spans(f, group, keys, members, spans) : 0;
    if (status == KITH_OK) {
        out->groups = ki_alloc_zero(f->allocator, count, sizeof *out->groups);
        if (!out->groups) status = ki_fail_nomem(err, count * sizeof *out->groups);
    }
    for (size_t c = 0; status == KITH_OK && c < count; c++) {
        out->n = c + 1;
        status = fill_group(f, members + spans[c].begin, spans[c].n, &out->groups[c], err);
    }
    ki_free(f->allocator, group);
    ki_free(f->allocator, members);
    ki_free(f->allocator, keys);
    ki_free(f->allocator, spans);
    return status;
}

static kith_status find_pinned(finding *f, duplicates_block **block, kith_error *err)
{
    KI_TRY(read_items(f, err));
    KI_TRY(list_hashes(f, err));
    KI_TRY(compare(f, err));
    duplicates_block *made = ki_alloc_zero(f->allocator, 1, sizeof *made);
    if (!made) return ki_fail_nomem(err, sizeof *made);
    made->allocator = f->allocator;
    made->duplicates.pictures = f->n;
    kith_status status = fill_groups(f, &made->duplicates, err);
    if (status == KITH_OK)
        *block = made;
    else
        kith_gallery_duplicates_free(&made->duplicates);
    return status;
}

kith_status kith_gallery_find_duplicates(kith_gallery *g, const kith_gallery_duplicates_options *options,
                                         const kith_run *run, kith_gallery_duplicates **duplicates,
                                         kith_error *err)
{
    kith_gallery_duplicates_options own;
    if (!duplicates) return ki_fail(err, KITH_INVALID, "duplicates is NULL");
    *duplicates = NULL;
    kith_gallery_duplicates_options_init(&own);
    KI_TRY(ki_options_read(&own, sizeof own, options, "options", err));
    if (own.bits > MAX_BITS)
        return ki_fail(err, KITH_INVALID, "bits is %u, allowed 0..%d", own.bits, MAX_BITS);
    if (!(own.min_score >= 0 && own.min_score <= 1))
        return ki_fail(err, KITH_INVALID, "min_score is %g, allowed 0..1", (double)own.min_score);
    KI_TRY(ki_gallery_refresh(g, err));
    if (!g->collection)
        return ki_fail(err, KITH_NOTFOUND, "%s: no such collection", g->path ? g->path : "NULL");
    if (!g->settings.root)
        return ki_fail(err, KITH_UNTRAINED, "%s: nothing was indexed into it yet", g->path);
    finding f = {.g = g, .allocator = g->allocator, .options = &own, .run = run};
    f.dim = kith_collection_dim(g->collection);
    duplicates_block *block = NULL;
    KI_TRY(kith_collection_pin(g->collection, err));
    kith_status status = find_pinned(&f, &block, err);
    kith_collection_unpin(g->collection);
    for (size_t i = 0; i < f.n; i++) ki_free(f.allocator, f.items[i].vector);
    ki_free(f.allocator, f.items);
    ki_free(f.allocator, f.hashes);
    ki_free(f.allocator, f.first);
    ki_free(f.allocator, f.leaders);
    ki_free(f.allocator, f.n_leaders);
    ki_free(f.allocator, f.joined.items);
    if (status == KITH_OK) *duplicates = &block->duplicates;
    return status;
}

void kith_gallery_duplicates_free(kith_gallery_duplicates *duplicates)
{
    if (!duplicates) return;
    duplicates_block *block = (duplicates_block *)duplicates;
    for (size_t c = 0; c < duplicates->n; c++) {
        kith_gallery_group *group = &duplicates->groups[c];
        for (size_t i = 0; i < group->n; i++) ki_gallery_clear_hit(block->allocator, &group->hits[i]);
        ki_free(block->allocator, group->hits);
        ki_free(block->allocator, group->bits);
    }
    ki_free(block->allocator, duplicates->groups);
    ki_free(block->allocator, block);
}
