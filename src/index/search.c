/* search.c - the front door's part of a search: settings, budgets, filters, threads, refinement. */
#include <kith/index.h>

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/run.h"
#include "index/front.h"

/* Queries of a batch that are prepared together, for structures that search batches: enough for a product of
 * matrices to be worth its packing, and a few MB of queries. */
#define BATCH 4096

/* Fewer queries than this are searched one by one: a product of so few rows would not pay for its packing. */
#define BATCH_MIN 8

/* Routes of a part that are kept at a time. */
#define ROUTE_BYTES ((size_t)16 << 20)

/* Queries that one thread takes at a time. */
#define QUERY_BLOCK 8

/* What one thread needs. */
typedef struct worker {
    ki_scratch *scratch;
    ki_scorer *refine; /* NULL without a refinement */
    float *unit;       /* [the index's dim], the scaled query */
    float *inner;      /* [dim], the transformed one; NULL without a transform */
    size_t candidates; /* room of the arrays below */
    float *dist;       /* candidates of the structure, then their better distances */
    uint64_t *id;      /* their slots, as the heap keeps them */
    uint32_t *slot;    /* the same as the scorer takes them */
} worker;

struct kith_searcher {
    const kith_index *index;
    double *settings; /* of this call, in the order of the parameters */
    worker *workers;
    size_t n_workers;
    ki_found found;    /* of range searches */
    ki_found refined;  /* the same after refinement */
    size_t proposed;   /* rows, by a search that goes on */
    ki_query *batch;   /* [batch_room], of a part of a batch */
    float *batch_unit; /* [batch_room][dim], its scaled vectors */
    size_t batch_room;
    char *routes; /* [route_room] bytes */
    size_t route_room;
};

/* ---- Searchers ---- */

static void worker_clear(const kith_index *index, worker *w)
{
    if (w->scratch) index->structure->ops->scratch_free(index->structure, w->scratch);
    ki_scorer_free(w->refine);
    ki_free(index->allocator, w->unit);
    ki_free(index->allocator, w->inner);
    ki_free(index->allocator, w->dist);
    ki_free(index->allocator, w->id);
    ki_free(index->allocator, w->slot);
    memset(w, 0, sizeof *w);
}

static kith_status worker_init(const kith_index *index, worker *w, kith_error *err)
{
    KI_TRY(index->structure->ops->scratch_create(index->structure, &w->scratch, err));
    if (index->refine_codec)
        KI_TRY(index->refine_codec->ops->scorer(index->refine_codec, index->allocator, &w->refine, err));
    w->unit = ki_alloc(index->allocator, index->dim, sizeof *w->unit);
    if (w->unit && index->transform) w->inner = ki_alloc(index->allocator, index->env.dim, sizeof *w->inner);
    return w->unit && (w->inner || !index->transform) ? KITH_OK
                                                      : ki_fail_nomem(err, index->dim * sizeof *w->unit);
}

/* Workers for n threads. */
static kith_status workers_reserve(kith_searcher *s, size_t n, kith_error *err)
{
    if (n <= s->n_workers) return KITH_OK;
    worker *workers = ki_realloc(s->index->allocator, s->workers, s->n_workers, n, sizeof *workers);
    if (!workers) return ki_fail_nomem(err, n * sizeof *workers);
    s->workers = workers;
    while (s->n_workers < n) {
        worker *w = &workers[s->n_workers];
        memset(w, 0, sizeof *w);
        kith_status status = worker_init(s->index, w, err);
        if (status != KITH_OK) {
            worker_clear(s->index, w);
            return status;
        }
        s->n_workers++;
    }
    return KITH_OK;
}

/* Room for the candidates that are to be refined. */
static kith_status worker_reserve(const kith_index *index, worker *w, size_t candidates, kith_error *err)
{
    if (candidates <= w->candidates) return KITH_OK;
    size_t room = ki_grown(w->candidates, candidates);
    float *dist = ki_alloc(index->allocator, room, sizeof *dist);
    uint64_t *id = ki_alloc(index->allocator, room, sizeof *id);
    uint32_t *slot = ki_alloc(index->allocator, room, sizeof *slot);
    if (!dist || !id || !slot) {
        ki_free(index->allocator, dist);
        ki_free(index->allocator, id);
        ki_free(index->allocator, slot);
        return ki_fail_nomem(err, room * (sizeof *dist + sizeof *id + sizeof *slot));
    }
    ki_free(index->allocator, w->dist);
    ki_free(index->allocator, w->id);
    ki_free(index->allocator, w->slot);
    w->dist = dist;
    w->id = id;
    w->slot = slot;
    w->candidates = room;
    return KITH_OK;
}

kith_status kith_searcher_create(const kith_index *index, kith_searcher **searcher, kith_error *err)
{
    if (!searcher) return ki_fail(err, KITH_INVALID, "searcher is NULL");
    *searcher = NULL;
    if (!index) return ki_fail(err, KITH_INVALID, "index is NULL");
    if (!index->trained)
        return ki_fail(err, KITH_UNTRAINED, "%s must be trained before it is searched",
                       index->spec.canonical);
    kith_searcher *s = ki_alloc_zero(index->allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->index = index;
    s->found.allocator = s->refined.allocator = index->allocator;
    s->settings = ki_alloc(index->allocator, ki_spec_param_count(&index->spec), sizeof *s->settings);
    kith_status status = s->settings ? KITH_OK : ki_fail_nomem(err, sizeof *s->settings);
    if (status == KITH_OK) status = workers_reserve(s, 1, err);
    if (status != KITH_OK) {
        kith_searcher_free(s);
        return status;
    }
    *searcher = s;
    return KITH_OK;
}

void kith_searcher_free(kith_searcher *s)
{
    if (!s) return;
    const kith_allocator *allocator = s->index->allocator;
    for (size_t i = 0; i < s->n_workers; i++) worker_clear(s->index, &s->workers[i]);
    ki_free(allocator, s->workers);
    ki_free(allocator, s->settings);
    ki_free(allocator, s->found.dist);
    ki_free(allocator, s->found.id);
    ki_free(allocator, s->refined.dist);
    ki_free(allocator, s->refined.id);
    ki_free(allocator, s->batch);
    ki_free(allocator, s->batch_unit);
    ki_free(allocator, s->routes);
    ki_free(allocator, s);
}

/* ---- What all searches begin with ---- */

static const kith_setting *given(const kith_search_options *options, const char *name)
{
    for (size_t i = 0; name && i < options->n_settings; i++)
        if (strcmp(options->settings[i].name, name) == 0) return &options->settings[i];
    return NULL;
}

/* The parameters that end a query, each instead of the others: nprobe, reach and exact of IVF. Two of them, or one beside
 * target_recall, would be obeyed in part only. */
static kith_status one_end(const kith_search_options *options, const ki_spec *spec, double target,
                           kith_error *err)
{
    const char *const ends[] = {spec->structure->main_param, spec->structure->main_param_l2, "exact"};
    const char *first = target > 0 ? "target_recall" : NULL;
    if (!spec->structure->main_param_l2) return KITH_OK;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const kith_setting *setting = given(options, ends[i]);
        if (!setting || setting->value == 0) continue; /* 0: off */
        if (first)
            return ki_fail(err, KITH_INVALID, "%s is given together with %s: a query ends by one of them",
                           ends[i], first);
        first = ends[i];
    }
    return KITH_OK;
}

/* Set the parameters that reach the recall that a search asks for. They may not be set by hand as well. */
static kith_status aim(kith_searcher *s, const kith_search_options *options, size_t k, kith_error *err)
{
    const kith_index *index = s->index;
    double target = s->settings[ki_spec_target_recall(&index->spec)];
    KI_TRY(one_end(options, &index->spec, target, err));
    if (target == 0) return KITH_OK;
    const char *main_param = kith_index_main_param(index);
    for (size_t i = 0; i < options->n_settings; i++) {
        const char *name = options->settings[i].name;
        if ((main_param && strcmp(name, main_param) == 0) ||
            (index->refine_codec && strcmp(name, "refine_k") == 0))
            return ki_fail(err, KITH_INVALID, "%s is given together with target_recall, which sets it", name);
    }
    return ki_calibration_resolve(&index->calibration, &index->spec, index->metric, k, target, s->settings,
                                  err);
}

/* k: 0 for a range search. */
static kith_status read_options(kith_searcher *s, const kith_search_options *options, size_t k,
                                kith_error *err)
{
    const ki_spec *spec = &s->index->spec;
    if (options->struct_size < sizeof *options)
        return ki_fail(err, KITH_INVALID, "options.struct_size is %zu: use kith_search_options_init",
                       options->struct_size);
    if (options->n_settings > 0 && !options->settings)
        return ki_fail(err, KITH_INVALID, "options.settings is NULL, n_settings is %zu", options->n_settings);
    if (options->filter && options->filter->struct_size < sizeof *options->filter)
        return ki_fail(err, KITH_INVALID, "filter.struct_size is %zu: use kith_filter_init",
                       options->filter->struct_size);
    ki_spec_initial(spec, s->settings);
    for (size_t i = 0; i < options->n_settings; i++) {
        size_t position;
        const kith_setting *setting = &options->settings[i];
        KI_TRY(ki_spec_find(spec, setting->name, setting->value, KITH_AT_SEARCH, &position, err));
        s->settings[position] = setting->value;
    }
    return aim(s, options, k, err);
}

/* Whether the better copies are looked at as the structure goes along, by lower bounds: then nothing is proposed. After a
 * projection a bound holds for L2 alone. */
static int refines_by_bounds(const kith_index *index)
{
    if (!index->refine_codec || !index->env.codec->bounded || !index->spec.structure->scans) return 0;
    return !index->transform || index->env.dim == index->dim || index->metric == KITH_L2SQ;
}

/* Candidates that a structure should propose for k results. */
static size_t candidates_for(const kith_searcher *s, size_t k)
{
    const kith_index *index = s->index;
    if (!index->refine_codec || refines_by_bounds(index)) return k;
    double wanted = (double)k * s->settings[ki_spec_refinement_params(&index->spec)];
    size_t rows = index->rows.n_slots > 0 ? index->rows.n_slots : 1;
    return wanted >= (double)rows ? rows : (size_t)wanted;
}

/* Let scratch of `threads` workers fit, so that nothing can fail later. */
static kith_status prepare(kith_searcher *s, size_t threads, size_t candidates, kith_error *err)
{
    const kith_index *index = s->index;
    KI_TRY(workers_reserve(s, threads, err));
    for (size_t i = 0; i < threads; i++) {
        if (index->structure->ops->prepare)
            KI_TRY(index->structure->ops->prepare(index->structure, s->workers[i].scratch, candidates,
                                                  s->settings, err));
        if (index->refine_codec) KI_TRY(worker_reserve(index, &s->workers[i], candidates, err));
    }
    return KITH_OK;
}

/* Query number q of those of a call before it is searched. w: where to scale and transform it, if it has to be (NULL: the
 * caller does it). */
static void query_init(const kith_searcher *s, const kith_search_options *options, const ki_input *queries,
                       size_t q, const worker *w, size_t need, ki_query *query)
{
    const kith_index *index = s->index;
    memset(query, 0, sizeof *query);
    if (queries->sets) {
        const uint64_t *starts = queries->sets->starts;
        query->tokens = queries->sets->tokens + starts[q];
        query->n_tokens = (size_t)(starts[q + 1] - starts[q]);
    } else if (queries->bits)
        query->bits = queries->bits + q * kith_bit_bytes(queries->dim);
    else
        query->vector = queries->x + q * queries->dim;
    const float *given = query->vector;
    if (queries->unit && w) {
        ki_unit(index->env.kernels, given, queries->dim, w->unit);
        query->vector = w->unit;
    }
    query->whole = query->vector;
    if (index->transform && w) { /* it scales what it makes, as it does for rows and batches */
        ki_transform_apply(index->transform, given, 1, w->inner);
        query->vector = w->inner;
    }
    query->settings = s->settings;
    query->need = need;
    query->cosine = index->metric == KITH_COSINE;
    query->clamped = index->metric != KITH_DOT;
    query->rows = &index->rows;
    const kith_filter *filter = options->filter;
    query->filter = filter && (filter->bits || filter->allow) ? filter : NULL;
    query->holes = index->rows.n < index->rows.n_slots;
    query->cancel = options->cancel;
    if (options->max_microseconds > 0) {
        uint64_t now = ki_now_ns(), budget = options->max_microseconds;
        query->deadline_ns = budget > (UINT64_MAX - now) / 1000 ? UINT64_MAX : now + budget * 1000;
    }
    query->kernels = index->env.kernels;
}

static void stats_fill(const ki_query *query, uint64_t found, kith_search_stats *stats)
{
    if (!stats) return;
    stats->scored = query->scored;
    stats->visited = query->visited;
    stats->found = found;
    stats->complete = !query->stopped;
}

/* ---- The k nearest ---- */

/* Score the candidates again with the better copy and keep the best k of them. */
static void refine(const kith_index *index, worker *w, ki_query *query, size_t k, float *dist, uint64_t *id)
{
    size_t n = query->top.n;
    ki_topk_sort(&query->top); /* the arrays are used for the second round */
    for (size_t i = 0; i < n; i++) w->slot[i] = (uint32_t)w->id[i];
    w->refine->ops->query(w->refine, query->whole);
    w->refine->ops->score(w->refine, index->refine.codes, w->slot, n, INFINITY, w->dist);
    query->by_slot = 0;
    ki_topk_init(&query->top, k, dist, id);
    for (size_t i = 0; i < n; i++) ki_query_offer(query, w->dist[i], w->slot[i]);
}

static void search_one(const kith_index *index, worker *w, ki_query *query, size_t k, size_t candidates,
                       uint64_t *ids, float *dist, kith_search_stats *stats)
{
    int by_bounds = refines_by_bounds(index);
    query->by_slot = index->refine_codec != NULL && !by_bounds;
    if (by_bounds) {
        w->refine->ops->query(w->refine, query->whole);
        query->refine = w->refine;
        query->refine_codes = index->refine.codes;
    }
    if (query->by_slot)
        ki_topk_init(&query->top, candidates, w->dist, w->id);
    else
        ki_topk_init(&query->top, k, dist, ids);
    index->structure->ops->search(index->structure, w->scratch, query);
    if (query->by_slot) refine(index, w, query, k, dist, ids);
    stats_fill(query, ki_topk_sort(&query->top), stats);
}

/* A batch: `first` on, n of them at a time. */
typedef struct batch {
    kith_searcher *s;
    const kith_search_options *options;
    const ki_input *queries;
    size_t nq, k, candidates;
    uint64_t *ids;
    float *dist;
    kith_search_stats *stats;
    const char *routes; /* of the part now searched, or NULL */
    size_t route_size;
    size_t first, n;
} batch;

/* Some queries of the part, one after the other, on one thread. */
static void search_block(void *ctx, size_t block, size_t number)
{
    batch *b = ctx;
    worker *w = &b->s->workers[number];
    size_t end = (block + 1) * QUERY_BLOCK;
    if (end > b->n) end = b->n;
    for (size_t i = block * QUERY_BLOCK; i < end; i++) {
        size_t q = b->first + i;
        ki_query query;
        query_init(b->s, b->options, b->queries, q, w, b->k, &query);
        if (b->routes) query.route = b->routes + i * b->route_size;
        search_one(b->s->index, w, &query, b->k, b->candidates, b->ids + q * b->k, b->dist + q * b->k,
                   b->stats ? &b->stats[q] : NULL);
    }
}

static void search_part(batch *b)
{
    ki_pool_run(b->options->pool, (b->n + QUERY_BLOCK - 1) / QUERY_BLOCK, search_block, b);
}

/* Memory for `room` queries and routes of a part. */
static kith_status batch_reserve(kith_searcher *s, size_t room, size_t route_bytes, kith_error *err)
{
    const kith_allocator *allocator = s->index->allocator;
    size_t dim = s->index->env.dim;
    if (room > s->batch_room) {
        ki_query *queries = ki_alloc(allocator, room, sizeof *queries);
        int made = s->index->env.unit || s->index->transform;
        float *unit = ki_alloc(allocator, made ? room : 1, dim * sizeof *unit);
        if (!queries || !unit) {
            ki_free(allocator, queries);
            ki_free(allocator, unit);
            return ki_fail_nomem(err, room * (sizeof *queries + dim * sizeof *unit));
        }
        ki_free(allocator, s->batch);
        ki_free(allocator, s->batch_unit);
        s->batch = queries;
        s->batch_unit = unit;
        s->batch_room = room;
    }
    if (route_bytes > s->route_room) {
        char *routes = ki_alloc(allocator, route_bytes, 1);
        if (!routes) return ki_fail_nomem(err, route_bytes);
        ki_free(allocator, s->routes);
        s->routes = routes;
        s->route_room = route_bytes;
    }
    return KITH_OK;
}

/* The vectors of the part, side by side as families see them; NULL for queries of bits and sets. */
static const float *batch_vectors(const batch *b)
{
    if (!b->queries->x) return NULL;
    const ki_input *queries = b->queries;
    if (!b->s->index->transform) return ki_input_block(queries, b->first, b->n, b->s->batch_unit);
    ki_transform_apply(b->s->index->transform, queries->x + b->first * queries->dim, b->n, b->s->batch_unit);
    return b->s->batch_unit;
}

/* The part by a structure that searches batches at once. *done = 0: it does not want it. */
static kith_status search_together(batch *b, int *done, kith_error *err)
{
    kith_searcher *s = b->s;
    const ki_structure *structure = s->index->structure;
    const float *x = batch_vectors(b);
    for (size_t i = 0; i < b->n; i++) {
        size_t q = b->first + i;
        ki_query *query = &s->batch[i];
        query_init(s, b->options, b->queries, q, NULL, b->k, query);
        if (x) query->vector = x + i * s->index->env.dim;
        ki_topk_init(&query->top, b->k, b->dist + q * b->k, b->ids + q * b->k);
    }
    KI_TRY(structure->ops->search_batch(structure, s->batch, b->n, b->options->pool, done, err));
    for (size_t i = 0; *done && i < b->n; i++)
        stats_fill(&s->batch[i], ki_topk_sort(&s->batch[i].top), b->stats ? &b->stats[b->first + i] : NULL);
    return KITH_OK;
}

/* A batch part by part, with what the structure can do for many queries at once. */
static kith_status search_parts(batch *b, kith_error *err)
{
    kith_searcher *s = b->s;
    const ki_structure *structure = s->index->structure;
    const ki_structure_ops *ops = structure->ops;
    const kith_search_options *options = b->options;
    int free_hand = !options->filter && !options->cancel && options->max_microseconds == 0;
    int together = ops->search_batch && free_hand && !s->index->refine_codec;
    size_t room = b->nq < BATCH ? b->nq : BATCH;
    if (ops->route && options->max_microseconds == 0) b->route_size = ops->route_size(structure, s->settings);
    if (b->route_size > 0) {
        size_t fits = ROUTE_BYTES / b->route_size;
        if (fits < BATCH_MIN) fits = BATCH_MIN;
        if (room > fits) room = fits;
    }
    if (!together && b->route_size == 0) room = b->nq; /* nothing to be gained by parts */
    if (together || b->route_size > 0) KI_TRY(batch_reserve(s, room, room * b->route_size, err));
    for (b->first = 0; b->first < b->nq; b->first += b->n) {
        b->n = b->nq - b->first < room ? b->nq - b->first : room;
        /* Results of earlier parts are written already, so from here on nothing may fail: where memory for the
         * faster way is missing, the plain one, which needs none, gives the same answers. */
        int done = 0;
        if (together && search_together(b, &done, NULL) == KITH_OK && done) continue;
        b->routes = NULL;
        if (b->route_size > 0 && b->n >= BATCH_MIN && !kith_cancel_raised(options->cancel) &&
            ops->route(structure, batch_vectors(b), b->n, s->settings, options->pool, s->routes, NULL) ==
                KITH_OK)
            b->routes = s->routes;
        search_part(b);
    }
    return KITH_OK;
}

static kith_status check_search(const kith_searcher *s, const void *queries, size_t k, const void *ids,
                                const void *dist, kith_error *err)
{
    if (!s || !queries || !ids || !dist)
        return ki_fail(err, KITH_INVALID, "%s is NULL",
                       !s         ? "searcher"
                       : !queries ? "queries"
                       : !ids     ? "ids"
                                  : "dist");
    return k > 0 ? KITH_OK : ki_fail(err, KITH_INVALID, "k is 0, allowed are 1 and more");
}

kith_status ki_search(kith_searcher *s, const ki_input *queries, size_t k, const kith_search_options *options,
                      uint64_t *ids, float *dist, kith_search_stats *stats, kith_error *err)
{
    size_t nq = queries->n;
    kith_search_options defaults;
    kith_search_options_init(&defaults);
    if (!options) options = &defaults;
    KI_TRY(read_options(s, options, k, err));
    batch b = {.s = s,
               .options = options,
               .queries = queries,
               .nq = nq,
               .k = k,
               .candidates = candidates_for(s, k),
               .ids = ids,
               .dist = dist,
               .stats = stats,
               .n = nq};
    KI_TRY(prepare(s, nq > QUERY_BLOCK ? kith_pool_threads(options->pool) : 1, b.candidates, err));
    if (nq >= BATCH_MIN) return search_parts(&b, err);
    search_part(&b);
    return KITH_OK;
}

kith_status kith_search(kith_searcher *s, const float *queries, size_t nq, size_t k,
                        const kith_search_options *options, uint64_t *ids, float *dist,
                        kith_search_stats *stats, kith_error *err)
{
    ki_input input;
    KI_TRY(check_search(s, queries, k, ids, dist, err));
    KI_TRY(ki_input_floats(s->index, "queries", queries, nq, &input, err));
    return ki_search(s, &input, k, options, ids, dist, stats, err);
}

kith_status kith_search_bits(kith_searcher *s, const uint8_t *queries, size_t nq, size_t k,
                             const kith_search_options *options, uint64_t *ids, float *dist,
                             kith_search_stats *stats, kith_error *err)
{
    ki_input input;
    KI_TRY(check_search(s, queries, k, ids, dist, err));
    KI_TRY(ki_input_bits(s->index, "queries", queries, nq, &input, err));
    return ki_search(s, &input, k, options, ids, dist, stats, err);
}

kith_status kith_search_sets(kith_searcher *s, const kith_sets *queries, size_t k,
                             const kith_search_options *options, uint64_t *ids, float *dist,
                             kith_search_stats *stats, kith_error *err)
{
    ki_input input;
    uint8_t *own = NULL;
    KI_TRY(check_search(s, queries, k, ids, dist, err));
    kith_run run;
    kith_run_init(&run);
    run.pool = options && options->struct_size >= sizeof *options ? options->pool : NULL;
    kith_status status = ki_input_sets(s->index, "queries", queries, &run, &input, &own, err);
    if (status == KITH_OK) status = ki_search(s, &input, k, options, ids, dist, stats, err);
    ki_free(s->index->allocator, own);
    return status;
}

/* ---- Row after row ---- */

/* Decide again by the better copy: everything that the structure looked at was kept, under its slot. */
static void refine_range(const kith_index *index, kith_searcher *s, ki_query *query, float radius)
{
    worker *w = &s->workers[0];
    ki_found *seen = &s->found;
    w->refine->ops->query(w->refine, query->whole);
    query->by_slot = 0;
    query->radius = radius;
    query->found = &s->refined;
    for (size_t first = 0; first < seen->n; first += KI_SCAN_BLOCK) {
        uint32_t slots[KI_SCAN_BLOCK];
        float dist[KI_SCAN_BLOCK];
        size_t n = seen->n - first < KI_SCAN_BLOCK ? seen->n - first : KI_SCAN_BLOCK;
        for (size_t i = 0; i < n; i++) slots[i] = (uint32_t)seen->id[first + i];
        w->refine->ops->score(w->refine, index->refine.codes, slots, n, INFINITY, dist);
        for (size_t i = 0; i < n; i++) ki_query_offer(query, dist[i], slots[i]);
    }
}

int ki_search_goes_on(const kith_searcher *s)
{
    return s->index->structure->ops->next != NULL;
}

kith_status ki_search_next(kith_searcher *s, const ki_input *input, size_t total, int anew,
                           const kith_search_options *options, const ki_found **rows, int *more,
                           kith_search_stats *stats, kith_error *err)
{
    const kith_index *index = s->index;
    worker *w = &s->workers[0];
    if (anew) {
        KI_TRY(read_options(s, options, total, err));
        KI_TRY(prepare(s, 1, 1, err));
        s->found.n = s->proposed = 0;
    }
    ki_query query;
    query_init(s, options, input, 0, w, 0, &query);
    query.found = &s->found;
    query.by_slot = index->refine_codec != NULL;
    query.radius = INFINITY;
    if (!query.by_slot) s->found.n = 0; /* with a refinement there may be some that memory ran out for */
    s->found.failed = s->refined.failed = 0;
    s->refined.n = 0;
    size_t wanted = candidates_for(s, total), left = s->found.n;
    wanted = wanted > s->proposed ? wanted - s->proposed : 0;
    kith_status status = index->structure->ops->next(index->structure, w->scratch, &query, wanted, anew, err);
    size_t got = s->found.n - left;
    s->proposed += got;
    if (query.by_slot) {
        refine_range(index, s, &query, INFINITY);
        if (s->refined.failed) {
            s->refined.n = 0;
            return ki_fail_nomem(err, s->found.n * (sizeof(float) + sizeof(uint64_t)));
        }
        s->found.n = 0;
    }
    *rows = query.found;
    *more = status != KITH_OK || query.stopped || (wanted > 0 && got >= wanted);
    stats_fill(&query, query.found->n, stats);
    return status;
}

/* ---- All within a radius ---- */

/* Order what was found by (distance, id): a heap of everything, sorted in place. */
static void found_sort(ki_found *found)
{
    ki_topk all;
    size_t n = found->n;
    if (n == 0) return;
    ki_topk_init(&all, n, found->dist, found->id);
    for (size_t i = 0; i < n; i++) { /* entry i is read before the heap, which has i entries, reaches it */
        float dist = found->dist[i];
        uint64_t id = found->id[i];
        ki_topk_push(&all, dist, id);
    }
    ki_topk_sort(&all);
}

static kith_status check_range(const kith_searcher *s, const void *query, float radius, const void *n,
                               const void *ids, const void *dist, kith_error *err)
{
    if (!s || !query || !n || !ids || !dist)
        return ki_fail(err, KITH_INVALID, "%s is NULL",
                       !s       ? "searcher"
                       : !query ? "query"
                       : !n     ? "n"
                       : !ids   ? "ids"
                                : "dist");
    return isnan(radius) ? ki_fail(err, KITH_INVALID, "radius is not a number") : KITH_OK;
}

static kith_status search_range(kith_searcher *s, const ki_input *input, float radius,
                                const kith_search_options *options, size_t *n, const uint64_t **ids,
                                const float **dist, kith_search_stats *stats, kith_error *err)
{
    kith_search_options defaults;
    kith_search_options_init(&defaults);
    if (!options) options = &defaults;
    const kith_index *index = s->index;
    KI_TRY(read_options(s, options, 0, err));
    KI_TRY(prepare(s, 1, 1, err));
    ki_query query;
    query_init(s, options, input, 0, &s->workers[0], 0, &query);
    s->found.n = s->refined.n = 0;
    s->found.failed = s->refined.failed = 0;
    query.found = &s->found;
    query.by_slot = index->refine_codec != NULL;
    query.radius = query.by_slot ? INFINITY : radius;
    index->structure->ops->search(index->structure, s->workers[0].scratch, &query);
    if (query.by_slot && !s->found.failed) refine_range(index, s, &query, radius);
    if (s->found.failed || s->refined.failed)
        return ki_fail_nomem(err, (s->found.n + s->refined.n) * (sizeof **ids + sizeof **dist));
    found_sort(query.found);
    *n = query.found->n;
    *ids = query.found->id;
    *dist = query.found->dist;
    stats_fill(&query, query.found->n, stats);
    return KITH_OK;
}

kith_status kith_search_range(kith_searcher *s, const float *query, float radius,
                              const kith_search_options *options, size_t *n, const uint64_t **ids,
                              const float **dist, kith_search_stats *stats, kith_error *err)
{
    ki_input input;
    KI_TRY(check_range(s, query, radius, n, ids, dist, err));
    KI_TRY(ki_input_floats(s->index, "query", query, 1, &input, err));
    return search_range(s, &input, radius, options, n, ids, dist, stats, err);
}

kith_status kith_search_range_bits(kith_searcher *s, const uint8_t *query, float radius,
                                   const kith_search_options *options, size_t *n, const uint64_t **ids,
                                   const float **dist, kith_search_stats *stats, kith_error *err)
{
    ki_input input;
    KI_TRY(check_range(s, query, radius, n, ids, dist, err));
    KI_TRY(ki_input_bits(s->index, "query", query, 1, &input, err));
    return search_range(s, &input, radius, options, n, ids, dist, stats, err);
}

kith_status kith_search_range_sets(kith_searcher *s, const kith_sets *query, float radius,
                                   const kith_search_options *options, size_t *n, const uint64_t **ids,
                                   const float **dist, kith_search_stats *stats, kith_error *err)
{
    ki_input input;
    uint8_t *own = NULL;
    KI_TRY(check_range(s, query, radius, n, ids, dist, err));
    if (query->n != 1) return ki_fail(err, KITH_INVALID, "query holds %zu sets, it must be 1", query->n);
    kith_status status = ki_input_sets(s->index, "query", query, NULL, &input, &own, err);
    if (status == KITH_OK) status = search_range(s, &input, radius, options, n, ids, dist, stats, err);
    ki_free(s->index->allocator, own);
    return status;
}
