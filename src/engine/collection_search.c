/* collection_search.c - the nearest rows: the segment without the rows changed since, merged with those rows. */
#include "base/options.h"
#include "base/run.h"
#include "base/topk.h"
#include "engine/budget.h"
#include "engine/expiry.h"
#include "engine/parts.h"
#include "engine/rowblock.h"
#include "engine/rowset.h"
#include "engine/spaces.h"
#include "engine/tuning.h"
#include "engine/vectors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Up to so many wanted keys are fetched and compared one by one, or a fiftieth of the vectors, whichever is more: a
 * row fetched by key costs about fifty rows of a scan. Arbitrary. */
#define FEW_KEYS 1000
#define FEW_FRACTION 50

/* How far a segment is searched when the query does not say: cells, as a multiple of the root of their number, which
 * gives a recall@10 of about 0.97 at any size (bench/collection_speed.c), and candidates for re-ranking. */
#define LEAST_NPROBE 16
#define NPROBE_FACTOR 2
#define REFINE 10

/* With a filter: cells grow with the cube root of the rows that it takes away, and a search that has not scored so many
 * rows for each one wanted goes on with four times the cells: what a filter lets through may lie far from the query.
 * From recall on sift1m (bench/filter_sweep.c). */
#define SCORED_PER_RESULT 24
#define WIDER 4

/* What it costs to ask whether a row of a cell is let through, to compare a compressed row, and to fetch a vector by key
 * from a segment that keeps them, as parts of a comparison of full vectors. From the same command. */
#define ASK_COST 0.2
#define CODE_COST 0.3
#define FETCH_COST 8

/* Rows of the blocks in which an exact search beside a segment reads the database, bytes. Arbitrary. */
#define BLOCK_BYTES ((size_t)4 << 20)

/* ---- Which rows may be found ---- */

typedef struct gate {
    const kith_filter *user; /* NULL: all */
    const ki_keyset *passed; /* keys that are not to be found; NULL: none */
    const int64_t *only;     /* [only_n] ascending; NULL: all */
    size_t only_n;
    const ki_rowset *rows;    /* those that the expression lets through; NULL: all */
    const ki_keyset *expired; /* rows past their time; NULL: none */
    const int64_t *left_out;  /* [n_left_out]: rows that were searched by */
    size_t n_left_out;
} gate;

static int compare_keys(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int user_allows(const kith_filter *f, uint64_t id)
{
    if (f->bits && (id >= f->n_bits || !(f->bits[id / 64] >> (id % 64) & 1))) return 0;
    return !f->allow || f->allow(f->ctx, id);
}

static int is_left_out(const gate *g, int64_t key)
{
    for (size_t i = 0; i < g->n_left_out; i++)
        if (g->left_out[i] == key) return 1;
    return 0;
}

/* All but the bitmap of the expression, which the index looks at itself. */
static int gate_allows(void *ctx, uint64_t id)
{
    const gate *g = ctx;
    int64_t key = (int64_t)id;
    if (is_left_out(g, key)) return 0;
    if (g->passed && ki_keyset_has(g->passed, key)) return 0;
    if (g->expired && ki_keyset_has(g->expired, key)) return 0;
    if (g->only && !bsearch(&key, g->only, g->only_n, sizeof key, compare_keys)) return 0;
    if (g->rows && !g->rows->bits && !ki_rowset_has(g->rows, key)) return 0;
    return !g->user || user_allows(g->user, id);
}

/* The gate as a filter of an index; NULL when it lets everything through. */
static const kith_filter *gate_filter(gate *g, kith_filter *filter)
{
    const ki_rowset *bitmap = g->rows && g->rows->bits ? g->rows : NULL;
    int asks = g->passed || g->expired || g->only || g->n_left_out > 0 || (g->rows && !bitmap);
    if (!asks && !bitmap) return g->user;
    kith_filter_init(filter);
    if (bitmap) {
        filter->bits = bitmap->bits;
        filter->n_bits = bitmap->n_bits;
    }
    if (asks || g->user) {
        filter->allow = gate_allows;
        filter->ctx = g;
    }
    return filter;
}

/* ---- One call ---- */

typedef struct call {
    kith_collection *c;
    kith_collection_query q;
    ki_limit limit;
    size_t nq, k; /* k: with the rows to be left out in front, at most the number of vectors */
    const float *vectors;
    gate gate;
    int64_t *only;               /* sorted copy of q.only_keys */
    uint64_t *ids, *ids2, *ids3; /* [nq][k]: best so far, of one source, merged */
    float *dist, *dist2, *dist3; /* [nq][k] */
    kith_search_stats *stats;    /* [nq] */
    float *packed;               /* [nq][dim]: queries that are searched again; NULL: never needed */
    float *fetched;              /* [dim]: the vector that a segment gave last; NULL: none is asked */
    const ki_vectors *from_segment;
    double tuned,
        tuned_refine; /* what reaches the recall wanted: of the segment's main parameter, and refine_k; 0: not known */
    double used, used_refine; /* of the first search of the segment; 0: it has no such parameter */
    ki_buffer in_parts;       /* the expression of a search in partitions */
    uint64_t matches;         /* rows that the expression lets through; without one all vectors */
    kith_collection_answer answer;
    kith_collection_plan plan;
} call;

static kith_status call_init(call *s, kith_error *err)
{
    const kith_allocator *a = s->c->allocator;
    size_t n;
    if (!ki_mul_fits(s->nq, s->k, &n)) return ki_fail_nomem(err, SIZE_MAX);
    uint64_t **ids[] = {&s->ids, &s->ids2, &s->ids3};
    float **dists[] = {&s->dist, &s->dist2, &s->dist3};
    for (size_t i = 0; i < 3; i++) {
        *ids[i] = ki_alloc(a, n, sizeof **ids[i]);
        *dists[i] = ki_alloc(a, n, sizeof **dists[i]);
        if (!*ids[i] || !*dists[i]) return ki_fail_nomem(err, n * (sizeof **ids[i] + sizeof **dists[i]));
    }
    for (size_t i = 0; i < n; i++) {
        s->ids[i] = KI_NO_ID;
        s->dist[i] = INFINITY;
    }
    s->stats = ki_alloc_zero(a, s->nq, sizeof *s->stats);
    if (!s->stats) return ki_fail_nomem(err, s->nq * sizeof *s->stats);
    if (!s->q.only_keys) return KITH_OK;
    s->only = ki_alloc(a, s->q.only_n, sizeof *s->only);
    if (!s->only) return ki_fail_nomem(err, s->q.only_n * sizeof *s->only);
    size_t kept = 0;
    memcpy(s->only, s->q.only_keys, s->q.only_n * sizeof *s->only);
    qsort(s->only, s->q.only_n, sizeof *s->only, compare_keys);
    for (size_t i = 0; i < s->q.only_n; i++) /* each once, and none that no row can have */
        if (s->only[i] >= 1 && (kept == 0 || s->only[kept - 1] != s->only[i])) s->only[kept++] = s->only[i];
    s->gate.only = s->only;
    s->gate.only_n = kept;
    return KITH_OK;
}

static void call_clear(call *s)
{
    void *blocks[] = {s->ids,   s->ids2,  s->ids3,   s->dist, s->dist2,
                      s->dist3, s->stats, s->packed, s->only, s->fetched};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) ki_free(s->c->allocator, blocks[i]);
    ki_buffer_clear(&s->in_parts, s->c->allocator);
}

/* Merge ids2/dist2 into ids/dist, query by query. */
static void merge(call *s)
{
    for (size_t query = 0; query < s->nq; query++) {
        size_t at = query * s->k, a = at, b = at;
        for (size_t i = at; i < at + s->k; i++) {
            /* Neither runs out before k are placed; the tails are all alike. */
            int second = ki_farther(s->dist[a], s->ids[a], s->dist2[b], s->ids2[b]);
            s->ids3[i] = second ? s->ids2[b] : s->ids[a];
            s->dist3[i] = second ? s->dist2[b] : s->dist[a];
            if (second)
                b++;
            else
                a++;
        }
    }
    uint64_t *ids = s->ids;
    float *dist = s->dist;
    s->ids = s->ids3;
    s->dist = s->dist3;
    s->ids3 = ids;
    s->dist3 = dist;
}

static void count_up(call *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        s->answer.rows_scored += s->stats[i].scored;
        s->answer.complete &= s->stats[i].complete != 0;
    }
}

/* Query after query, each with the time that is left; those for which there is none find nothing. */
static kith_status ask_in_time(call *s, kith_searcher *searcher, kith_search_options *options,
                               const float *vectors, size_t n, uint64_t *ids, float *dist, kith_error *err)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t now = ki_now_ns(), end = s->limit.deadline_ns;
        options->max_microseconds = now < end ? (end - now + 999) / 1000 : 1;
        KI_TRY(kith_search(searcher, vectors + i * s->c->state.dim, 1, s->k, options, ids + i * s->k,
                           dist + i * s->k, &s->stats[i], err));
    }
    count_up(s, n);
    return KITH_OK;
}

/* Search one index for the first n of `vectors`. */
static kith_status ask_index(call *s, kith_searcher *searcher, const kith_setting *settings,
                             size_t n_settings, const float *vectors, size_t n, uint64_t *ids, float *dist,
                             kith_error *err)
{
    kith_filter filter;
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = settings;
    options.n_settings = n_settings;
    options.filter = gate_filter(&s->gate, &filter);
    options.cancel = s->q.cancel;
    options.pool = s->q.pool;
    if (s->limit.deadline_ns > 0) return ask_in_time(s, searcher, &options, vectors, n, ids, dist, err);
    KI_TRY(kith_search(searcher, vectors, n, s->k, &options, ids, dist, s->stats, err));
    count_up(s, n);
    return KITH_OK;
}

/* Search one index and merge what it finds. */
static kith_status search_index(call *s, kith_searcher *searcher, kith_error *err)
{
    KI_TRY(ask_index(s, searcher, NULL, 0, s->vectors, s->nq, s->ids2, s->dist2, err));
    merge(s);
    return KITH_OK;
}

/* ---- A segment ---- */

static double clamp(double value, double high)
{
    return value < 1 ? 1 : value > high ? high : value;
}

/* Which part of the rows may be found. */
static double selectivity(const call *s)
{
    uint64_t vectors = s->c->state.vectors;
    return s->gate.rows && vectors > 0 ? (double)s->matches / (double)vectors : 1;
}

/* The cells to look into first. */
static double first_nprobe(const call *s, const ki_segment *segment)
{
    double chosen = floor(NPROBE_FACTOR * sqrt(segment->max_nprobe));
    if (chosen < LEAST_NPROBE) chosen = LEAST_NPROBE;
    if (s->tuned > 0) chosen = ceil(s->tuned);
    if (s->gate.rows) chosen = floor(chosen / cbrt(selectivity(s)));
    return clamp(s->q.nprobe ? (double)s->q.nprobe : chosen, segment->max_nprobe);
}

static kith_status ask_segment(call *s, const ki_segment *segment, double nprobe, const float *vectors,
                               size_t n, uint64_t *ids, float *dist, kith_error *err)
{
    kith_setting settings[2];
    size_t n_settings = 0;
    double main = s->q.nprobe ? (double)s->q.nprobe : s->tuned;
    if (segment->max_nprobe > 0)
        settings[n_settings++] = (kith_setting){"nprobe", nprobe};
    else if (segment->main && main > 0)
        settings[n_settings++] =
            (kith_setting){segment->main, fmin(fmax(main, segment->main_low), segment->main_high)};
    if (s->plan.rounds == 0) s->used = n_settings > 0 ? settings[0].value : 0;
    if (segment->max_refine > 0) {
        double chosen = s->tuned_refine > 0 ? s->tuned_refine : REFINE;
        double wanted = s->q.refine ? (double)s->q.refine : chosen;
        s->used_refine = clamp(wanted, segment->max_refine);
        settings[n_settings++] = (kith_setting){"refine_k", s->used_refine};
    }
    s->plan.rounds++;
    s->plan.nprobe = (size_t)nprobe;
    return ask_index(s, segment->searcher, settings, n_settings, vectors, n, ids, dist, err);
}

/* Take the queries that have not scored enough rows: their numbers to the front of again[n], their vectors to
 * s->packed. again NULL numbers are 0..n - 1. Returns how many. */
static size_t take_short(call *s, size_t *again, size_t n, uint64_t enough)
{
    size_t kept = 0, dim = s->c->state.dim;
    for (size_t i = 0; i < n; i++) {
        if (s->stats[i].scored >= enough) continue;
        again[kept] = again[i];
        memmove(s->packed + kept * dim, s->vectors + again[i] * dim, dim * sizeof *s->packed);
        kept++;
    }
    return kept;
}

/* Search those again that have scored too few rows, each time with more cells, until there are no more. */
static kith_status widen(call *s, const ki_segment *segment, double nprobe, size_t *again, kith_error *err)
{
    uint64_t enough = (uint64_t)s->k * SCORED_PER_RESULT;
    if (enough > s->matches) enough = s->matches;
    size_t n = s->nq;
    for (size_t i = 0; i < n; i++) again[i] = i;
    while (s->answer.complete && nprobe < segment->max_nprobe && (n = take_short(s, again, n, enough)) > 0) {
        nprobe = clamp(nprobe * WIDER, segment->max_nprobe);
        KI_TRY(ask_segment(s, segment, nprobe, s->packed, n, s->ids3, s->dist3, err));
        for (size_t i = 0; i < n; i++) {
            memcpy(s->ids2 + again[i] * s->k, s->ids3 + i * s->k, s->k * sizeof *s->ids2);
            memcpy(s->dist2 + again[i] * s->k, s->dist3 + i * s->k, s->k * sizeof *s->dist2);
        }
    }
    return KITH_OK;
}

/* The recall wanted, if one is: what was measured to reach it. */
static kith_status take_tuned(call *s, ki_vectors *v, kith_error *err)
{
    if (s->q.nprobe && !s->q.plan) return KITH_OK;
    KI_TRY(ki_tuning_load(s->c, &v->tuning, err));
    if (s->q.nprobe) return KITH_OK;
    double target = s->q.target_recall > 0 ? s->q.target_recall : v->tuning.target;
    if (target <= 0 || ki_tuned_values(&v->tuning, &v->segment, target, &s->tuned, &s->tuned_refine))
        return KITH_OK;
    /* A target that was kept for another index is as none; and one without parameters needs none. */
    if (s->q.target_recall <= 0 || s->q.exact || !v->segment.main) return KITH_OK;
    return ki_fail(err, KITH_UNTRAINED,
                   "%s: target_recall: nothing is known of %s yet: tune the collection (kith tune)",
                   s->c->path, v->segment.spec);
}

static kith_status search_segment(call *s, ki_vectors *v, kith_error *err)
{
    const ki_segment *segment = &v->segment;
    double nprobe = segment->max_nprobe > 0 ? first_nprobe(s, segment) : 0;
    s->plan.method = "index";
    s->plan.cells = (size_t)segment->max_nprobe;
    s->answer.exact &= strcmp(segment->spec, "Flat") == 0;
    s->gate.passed = v->changed.n > 0 ? &v->changed : NULL;
    kith_status status = ask_segment(s, segment, nprobe, s->vectors, s->nq, s->ids2, s->dist2, err);
    if (status == KITH_OK && s->gate.rows && !s->q.nprobe && nprobe < segment->max_nprobe) {
        size_t *again = ki_alloc(s->c->allocator, s->nq, sizeof *again);
        s->packed = ki_alloc(s->c->allocator, s->nq, s->c->state.dim * sizeof *s->packed);
        status = again && s->packed ? widen(s, segment, nprobe, again, err)
                                    : ki_fail_nomem(err, s->nq * s->c->state.dim * sizeof *s->packed);
        ki_free(s->c->allocator, again);
    }
    s->gate.passed = NULL;
    if (status == KITH_OK) merge(s);
    return status;
}

/* ---- Other sources ---- */

/* Search a block of rows exactly, by an index that lives as long as that. */
static kith_status search_block(void *ctx, const ki_row_block *block, kith_error *err)
{
    call *s = ctx;
    kith_index *index = NULL;
    kith_searcher *searcher = NULL;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = s->c->state.metric;
    options.allocator = s->c->allocator;
    kith_status status = kith_index_create("Flat", block->dim, &options, &index, err);
    if (status == KITH_OK) status = ki_row_block_add(block, index, NULL, err);
    if (status == KITH_OK) status = kith_searcher_create(index, &searcher, err);
    if (status == KITH_OK) status = search_index(s, searcher, err);
    kith_searcher_free(searcher);
    kith_index_free(index);
    return status;
}

/* The vector of a row: from the segment where it holds it as it is, else from the database. */
static kith_status fetch(call *s, int64_t key, const float **x, kith_error *err)
{
    const ki_vectors *v = s->from_segment;
    if (v && !ki_keyset_has(&v->changed, key) &&
        kith_index_reconstruct(v->segment.index, (uint64_t)key, s->fetched, NULL) == KITH_OK) {
        *x = s->fetched;
        return KITH_OK;
    }
    return ki_vectors_fetch(s->c, key, x, err);
}

/* Vectors are fetched one by one from now on: from the segment, if it keeps them. */
static kith_status prepare_fetch(call *s, kith_error *err)
{
    const ki_vectors *v = s->c->vectors;
    int current = v && v->segment.index && v->segment.whole && v->version == s->c->state.version &&
                  v->stamp == s->c->state.stamp;
    if (!current || s->fetched) return KITH_OK;
    s->fetched = ki_alloc(s->c->allocator, s->c->state.dim, sizeof *s->fetched);
    if (!s->fetched) return ki_fail_nomem(err, s->c->state.dim * sizeof *s->fetched);
    s->from_segment = v;
    return KITH_OK;
}

/* A block, its index and what searching that takes fit into the memory that may be used. */
static size_t block_bytes(const call *s)
{
    uint64_t left = ki_budget_left(s->c) / 16;
    return left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
}

/* One by one: the rows that the caller named, or those that the expression lets through. */
static kith_status search_few_rows(call *s, kith_error *err)
{
    const gate *g = &s->gate;
    ki_row_block block = {0};
    uint64_t most = g->only ? g->only_n : g->rows->n;
    s->plan.method = "rows";
    KI_TRY(prepare_fetch(s, err));
    kith_status status = ki_row_block_init(&block, s->c, block_bytes(s), most, search_block, s, err);
    size_t i = 0;
    int64_t key = 0;
    while (status == KITH_OK) {
        if (g->only && i == g->only_n) break;
        key = g->only ? g->only[i] : ki_rowset_next(g->rows, key);
        if (key == 0) break;
        i++;
        if (i % 64 == 0 && ki_limit_reached(&s->limit)) {
            s->answer.complete = 0;
            break;
        }
        if (g->only && g->rows && !ki_rowset_has(g->rows, key)) continue;
        if (g->expired && ki_keyset_has(g->expired, key)) continue;
        const float *x;
        status = fetch(s, key, &x, err);
        if (status == KITH_OK && x) status = ki_row_block_put(&block, i, key, x, err);
    }
    if (status == KITH_OK) status = ki_row_block_finish(&block, err);
    ki_row_block_clear(&block);
    return status;
}

/* All rows, read from the database block by block: exact, without keeping what a segment holds already. */
static kith_status search_database(call *s, kith_error *err)
{
    ki_row_block block = {0};
    s->plan.method = "scan";
    kith_status status =
        ki_row_block_init(&block, s->c, block_bytes(s), s->c->state.vectors, search_block, s, err);
    ki_limit_begin(s->c, &s->limit);
    if (status == KITH_OK) status = ki_vectors_scan(s->c, NULL, "", ki_row_block_put, &block, err);
    ki_limit_end(s->c);
    if (status == KITH_CANCELLED) { /* the best so far is the answer */
        s->answer.complete = 0;
        status = KITH_OK;
    }
    if (status == KITH_OK) status = ki_row_block_finish(&block, err);
    ki_row_block_clear(&block);
    return status;
}

/* ---- The plan ---- */

/* Whether so many rows are so few that they are fetched, before any vector is loaded. */
static int are_few(const call *s, uint64_t n)
{
    return n <= FEW_KEYS || n <= s->c->state.vectors / FEW_FRACTION;
}

/* Whether fetching the rows let through costs less than searching the segment for them; both in comparisons of full
 * vectors. */
static int rows_are_cheaper(const call *s, const ki_segment *segment)
{
    double n = (double)segment->rows, cells = segment->max_nprobe, queries = (double)s->nq;
    if (cells == 0) return are_few(s, s->matches);
    double looked_at = n * first_nprobe(s, segment) / cells;
    double index = queries * (cells + looked_at * (ASK_COST + CODE_COST * selectivity(s)));
    return (double)s->matches * ((segment->whole ? FETCH_COST : FEW_FRACTION) + queries) <= index;
}

static kith_status search_with_segment(call *s, ki_vectors *v, kith_error *err)
{
    KI_TRY(take_tuned(s, v, err));
    if (s->gate.rows && !s->gate.only && rows_are_cheaper(s, &v->segment)) return search_few_rows(s, err);
    if (s->q.exact) return search_database(s, err);
    KI_TRY(search_segment(s, v, err));
    return search_index(s, v->searcher, err);
}

/* Whether a query has found fewer rows than there must be. Where the caller has a filter of his own, nobody knows. */
static int is_short(const call *s)
{
    if (!s->gate.rows || s->gate.user || s->gate.only || !s->answer.complete) return 0;
    uint64_t left_out = 0;
    for (size_t i = 0; i < s->gate.n_left_out; i++)
        left_out += ki_rowset_has(s->gate.rows, s->gate.left_out[i]) != 0;
    if (left_out > s->matches) left_out = s->matches;
    size_t expected = s->k < s->matches - left_out ? s->k : (size_t)(s->matches - left_out);
    for (size_t i = 0; i < s->nq; i++)
        if (expected > 0 && s->ids[i * s->k + expected - 1] == KI_NO_ID) return 1;
    return 0;
}

static kith_status search_all(call *s, kith_error *err)
{
    kith_collection *c = s->c;
    if (s->matches == 0) return KITH_OK;
    if (s->gate.only && are_few(s, s->gate.only_n)) return search_few_rows(s, err);
    if (s->gate.rows && !s->gate.only && s->matches <= FEW_KEYS && !c->vectors)
        return search_few_rows(s, err);
    /* Loading vectors, or verifying a segment, has no end in time: what can be compared until then is. */
    if (s->limit.deadline_ns > 0 && !(c->vectors && c->vectors->tail)) return search_database(s, err);
    int current, limited = s->limit.deadline_ns > 0 || s->limit.cancel;
    kith_status status = ki_vectors_sync(c, limited ? &s->limit : NULL, &current, err);
    if (status == KITH_NOMEM && c->budget) return search_database(s, err); /* they are not kept */
    KI_TRY(status);
    if (!current) return search_database(s, err); /* which the limit ends at its first look */
    ki_vectors *v = c->vectors;
    if (!v->segment.index) {
        s->plan.method = "memory";
        return search_index(s, v->searcher, err);
    }
    KI_TRY(search_with_segment(s, v, err));
    if (!is_short(s)) return KITH_OK;
    /* An index that gave up before it had all: the rest is found exactly. */
    for (size_t i = 0; i < s->nq * s->k; i++) {
        s->ids[i] = KI_NO_ID;
        s->dist[i] = INFINITY;
    }
    s->answer.exact = 1;
    return are_few(s, s->matches) ? search_few_rows(s, err) : search_database(s, err);
}

/* Which rows the expression lets through. A search that is cancelled meanwhile finds nothing. */
static kith_status filter_rows(call *s, kith_error *err)
{
    uint64_t begin = ki_now_ns();
    s->matches = s->c->state.vectors;
    s->answer = (kith_collection_answer){.complete = 1, .exact = 1, .version = s->c->state.version};
    s->plan = (kith_collection_plan){.method = "nothing", .vectors = s->matches};
    KI_TRY(ki_expired_load(s->c, &s->gate.expired, err));
    const char *expression = s->q.expression;
    if (s->q.n_partitions > 0) {
        KI_TRY(ki_parts_filter(s->c, s->q.partitions, s->q.n_partitions, expression, &s->in_parts, err));
        expression = (const char *)s->in_parts.data;
    }
    if (!expression) return KITH_OK;
    uint64_t expired = 0;
    kith_status status =
        ki_rowset_find(s->c, expression, 1, &s->limit, &s->gate.rows, &s->plan.remembered, err);
    if (status == KITH_OK) status = ki_rowset_expired(s->c, s->gate.rows, &expired, err);
    if (status == KITH_OK) s->matches = s->gate.rows->n - expired;
    if (status == KITH_CANCELLED) {
        s->matches = 0;
        s->answer.complete = 0;
        status = KITH_OK;
    }
    s->plan.filter_seconds = (double)(ki_now_ns() - begin) * 1e-9;
    return status;
}

/* Of a filtered search: that of the cells that it would have looked into without the filter. */
static double estimated_recall(const call *s)
{
    const ki_vectors *v = s->c->vectors;
    if (s->answer.exact && s->answer.complete) return 1;
    if (!s->answer.complete || s->plan.rounds == 0 || !v) return (double)NAN;
    double part = cbrt(selectivity(s)),
           used = s->gate.rows ? (s->used + 1) * part : s->used; /* it was rounded down */
    return ki_tuned_recall(&v->tuning, &v->segment, used, s->used_refine);
}

/* The caller may know less of the struct than we do. */
static void give_plan(call *s)
{
    kith_collection_plan *out = s->q.plan;
    if (!out) return;
    size_t size = out->struct_size < sizeof *out ? out->struct_size : sizeof *out;
    s->plan.matches = s->matches;
    s->plan.rows_scored = s->answer.rows_scored;
    s->plan.estimated_recall = estimated_recall(s);
    s->plan.struct_size = out->struct_size;
    memcpy(out, &s->plan, size);
}

/* ---- The doors ---- */

static kith_status check_call(const call *s, size_t dim, const int64_t *keys, const float *distances,
                              kith_error *err)
{
    const kith_collection *c = s->c;
    if (!s->vectors || !keys || !distances)
        return ki_fail(err, KITH_INVALID, "vectors, keys or distances is NULL");
    if (s->q.offset > KITH_COLLECTION_MAX_K - 1)
        return ki_fail(err, KITH_INVALID, "offset is %zu, allowed 0..%d", s->q.offset,
                       KITH_COLLECTION_MAX_K - 1);
    if (s->q.k < 1 || s->q.k > KITH_COLLECTION_MAX_K)
        return ki_fail(err, KITH_INVALID, "k is %zu, allowed 1..%d", s->q.k, KITH_COLLECTION_MAX_K);
    if (s->q.n_partitions > KITH_COLLECTION_MAX_QUERY_PARTITIONS ||
        (s->q.n_partitions > 0 && !s->q.partitions))
        return ki_fail(err, KITH_INVALID, "n_partitions is %zu, allowed 0..%d and no NULL array",
                       s->q.n_partitions, KITH_COLLECTION_MAX_QUERY_PARTITIONS);
    if (!(s->q.target_recall >= 0 && s->q.target_recall <= 1))
        return ki_fail(err, KITH_INVALID, "target_recall is %g, allowed 0 (as tuned) .. 1",
                       s->q.target_recall);
    if (s->q.plan && s->q.plan->struct_size < sizeof s->q.plan->struct_size)
        return ki_fail(err, KITH_INVALID, "plan.struct_size is %zu: set it to the size of the struct",
                       s->q.plan->struct_size);
    if (s->q.only_n > SIZE_MAX / sizeof *s->q.only_keys)
        return ki_fail(err, KITH_INVALID, "only_n is %zu, more keys than memory could hold", s->q.only_n);
    if (c->state.dim == 0)
        return ki_fail(err, KITH_UNTRAINED, "%s: the collection has no vectors yet, nor a dim", c->path);
    if (dim != c->state.dim)
        return ki_fail(err, KITH_INVALID, "the query has %zu components, the collection %zu", dim,
                       c->state.dim);
    size_t n;
    if (!ki_mul_fits(s->nq, dim, &n)) return ki_fail(err, KITH_INVALID, "nq is %zu, too many queries", s->nq);
    if (!ki_all_finite(s->vectors, n))
        return ki_fail(err, KITH_INVALID, "a query has a component that is not finite");
    return KITH_OK;
}

static void give(const call *s, int64_t *keys, float *distances, kith_collection_answer *answer)
{
    size_t k = s->q.k;
    for (size_t query = 0; query < s->nq; query++) {
        for (size_t i = 0; i < k; i++) {
            size_t rank = s->q.offset + i, from = query * s->k + rank;
            int found = rank < s->k && s->ids[from] != KI_NO_ID;
            keys[query * k + i] = found ? (int64_t)s->ids[from] : 0;
            distances[query * k + i] = found ? s->dist[from] : INFINITY;
        }
    }
    if (answer) *answer = s->answer;
}

/* Within a read transaction. */
static kith_status run_call(call *s, size_t dim, const kith_collection_query *query, int64_t *keys,
                            float *distances, kith_collection_answer *answer, kith_error *err)
{
    kith_collection_query_init(&s->q);
    KI_TRY(ki_options_read(&s->q, sizeof s->q, query, "query", err));
    KI_TRY(check_call(s, dim, keys, distances, err));
    s->gate.user = s->q.filter;
    s->limit.cancel = s->q.cancel;
    s->limit.deadline_ns = ki_deadline_ns(s->q.max_microseconds);
    kith_status status = filter_rows(s, err);
    size_t deep = s->q.offset + s->q.k;
    s->k = deep < s->matches ? deep : s->matches > 0 ? (size_t)s->matches : 1;
    uint64_t begin = ki_now_ns();
    if (status == KITH_OK) status = call_init(s, err);
    if (status == KITH_OK && s->nq > 0) status = search_all(s, err);
    s->plan.search_seconds = (double)(ki_now_ns() - begin) * 1e-9;
    if (status == KITH_OK) give(s, keys, distances, answer);
    if (status == KITH_OK) give_plan(s);
    call_clear(s);
    return status;
}

/* Within a read transaction: go over to the vector field that the query names. */
static kith_status enter_field(kith_collection *c, const kith_collection_query *given, kith_error *err)
{
    kith_collection_query query;
    kith_collection_query_init(&query);
    KI_TRY(ki_options_read(&query, sizeof query, given, "query", err));
    return ki_space_enter(c, query.field, err);
}

kith_status kith_collection_search(kith_collection *c, size_t nq, size_t dim, const float *vectors,
                                   const kith_collection_query *query, int64_t *keys, float *distances,
                                   kith_collection_answer *answer, kith_error *err)
{
    call s = {.c = c, .nq = nq, .vectors = vectors};
    KI_TRY(ki_read_begin(c, err));
    kith_status status = enter_field(c, query, err);
    if (status == KITH_OK) status = run_call(&s, dim, query, keys, distances, answer, err);
    ki_space_leave(c);
    ki_read_end(c);
    return status;
}

/* Add a row's vector to sum[dim], weighted; for cosine brought to length one first. */
static kith_status add_example(kith_collection *c, int64_t key, double weight, double *sum, kith_error *err)
{
    const float *x;
    const ki_keyset *expired;
    double length = 0;
    KI_TRY(ki_expired_load(c, &expired, err));
    KI_TRY(ki_vectors_fetch(c, key, &x, err));
    if (!x || (expired && ki_keyset_has(expired, key)))
        return ki_fail(err, KITH_NOTFOUND, "%s: there is no row %lld with a vector", c->path, (long long)key);
    for (size_t d = 0; c->state.metric == KITH_COSINE && d < c->state.dim; d++)
        length += (double)x[d] * (double)x[d];
    if (length > 0) weight /= sqrt(length);
    for (size_t d = 0; d < c->state.dim; d++) sum[d] += weight * (double)x[d];
    return KITH_OK;
}

/* Within a read transaction. The query is p + (p - n): the mean of the positive examples, moved away from the mean of the
 * negative ones by as much as it is apart from it. One example alone is its vector, to the bit. */
static kith_status search_examples(kith_collection *c, const kith_collection_examples *e, double *sum,
                                   float *vector, int64_t *left_out, const kith_collection_query *query,
                                   int64_t *keys, float *distances, kith_collection_answer *answer,
                                   kith_error *err)
{
    size_t n = e->n_positive + e->n_negative;
    double positive = (e->n_negative > 0 ? 2.0 : 1.0) / (double)e->n_positive;
    for (size_t i = 0; i < n; i++) {
        int is_positive = i < e->n_positive;
        left_out[i] = is_positive ? e->positive[i] : e->negative[i - e->n_positive];
        double weight = is_positive ? positive : -1.0 / (double)e->n_negative;
        KI_TRY(add_example(c, left_out[i], weight, sum, err));
    }
    for (size_t d = 0; d < c->state.dim; d++) vector[d] = (float)sum[d];
    if (n == 1) { /* not scaled */
        const float *x;
        KI_TRY(ki_vectors_fetch(c, left_out[0], &x, err));
        if (x) memcpy(vector, x, c->state.dim * sizeof *x);
    }
    call s = {.c = c, .nq = 1, .vectors = vector, .gate = {.left_out = left_out, .n_left_out = n}};
    return run_call(&s, c->state.dim, query, keys, distances, answer, err);
}

static kith_status by_examples(kith_collection *c, const kith_collection_examples *e,
                               const kith_collection_query *query, int64_t *keys, float *distances,
                               kith_collection_answer *answer, kith_error *err)
{
    size_t n = e->n_positive + e->n_negative, dim = c->state.dim > 0 ? c->state.dim : 1;
    double *sum = ki_alloc_zero(c->allocator, dim, sizeof *sum);
    float *vector = ki_alloc(c->allocator, dim, sizeof *vector);
    int64_t *left_out = ki_alloc(c->allocator, n, sizeof *left_out);
    kith_status status = sum && vector && left_out ? search_examples(c, e, sum, vector, left_out, query, keys,
                                                                     distances, answer, err)
                                                   : ki_fail_nomem(err, dim * sizeof *sum);
    ki_free(c->allocator, sum);
    ki_free(c->allocator, vector);
    ki_free(c->allocator, left_out);
    return status;
}

kith_status kith_collection_search_examples(kith_collection *c, const kith_collection_examples *e,
                                            const kith_collection_query *query, int64_t *keys,
                                            float *distances, kith_collection_answer *answer, kith_error *err)
{
    if (!e || e->n_positive < 1 || !e->positive || (e->n_negative > 0 && !e->negative))
        return ki_fail(err, KITH_INVALID, "examples: at least one positive one is needed");
    if (e->n_positive > KITH_COLLECTION_MAX_EXAMPLES || e->n_negative > KITH_COLLECTION_MAX_EXAMPLES)
        return ki_fail(err, KITH_INVALID, "examples: %zu positive, %zu negative, allowed %d of each",
                       e->n_positive, e->n_negative, KITH_COLLECTION_MAX_EXAMPLES);
    KI_TRY(ki_read_begin(c, err));
    kith_status status = enter_field(c, query, err);
    if (status == KITH_OK) status = by_examples(c, e, query, keys, distances, answer, err);
    ki_space_leave(c);
    ki_read_end(c);
    return status;
}

kith_status kith_collection_search_like(kith_collection *c, int64_t key, const kith_collection_query *query,
                                        int64_t *keys, float *distances, kith_collection_answer *answer,
                                        kith_error *err)
{
    kith_collection_examples one = {.positive = &key, .n_positive = 1};
    return kith_collection_search_examples(c, &one, query, keys, distances, answer, err);
}

kith_status kith_collection_warm(kith_collection *c, kith_error *err)
{
    KI_TRY(ki_read_begin(c, err));
    int current;
    kith_status status = c->state.dim > 0 ? ki_vectors_sync(c, NULL, &current, err) : KITH_OK;
    if (status == KITH_NOMEM && c->budget) status = KITH_OK; /* each search will read them */
    ki_read_end(c);
    return status;
}
