/* qg_search.c - the walk through a quantized graph, and queries. The essay is in qg.c.
 *
 * A walk keeps one bounded pool of rows sorted by their estimated distances, and expands them: the true distance of a row
 * is taken when it is expanded and never before, and the estimates of its neighbours enter the pool where they are below
 * its worst. What a walk waits for is memory, so a row is asked for long before it is needed: the row to be expanded next
 * is chosen, and its lines fetched, before this one is looked at. */
#include "index/qg_internal.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "index/graph_search.h"

#define EXPANDED (UINT32_C(1) << 31)

#define AHEAD 8 /* rows whose vectors are asked for before they are compared */

/* Of the root this many entries begin a walk. */
#define BEGIN 4

/* Of a scan, what it costs to see whether a row passes, in comparisons of one; below this share a filter is met by one. */
#define LOOK 0.015
#define LEAST 0.02

struct ki_scratch {
    ki_qg_walker walker;
};

/* ---- Memory ---- */

kith_status ki_qg_walker_init(const ki_qg *g, ki_qg_walker *w, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    w->near_room = 0;
    w->z = ki_alloc(allocator, g->turn.room, sizeof *w->z);
    w->table = ki_alloc(allocator, g->at.steps, KI_QG_STEP_TABLE);
    if (w->z && w->table) return KITH_OK;
    return ki_fail_nomem(err, g->turn.room * sizeof *w->z + g->at.steps * KI_QG_STEP_TABLE);
}

void ki_qg_walker_clear(const ki_qg *g, ki_qg_walker *w)
{
    const kith_allocator *allocator = g->base.env->allocator;
    ki_scorer_free(w->scorer);
    ki_free(allocator, w->z);
    ki_free(allocator, w->table);
    ki_free(allocator, w->pool);
    ki_free(allocator, w->node);
    ki_free(allocator, w->marks);
    ki_free(allocator, w->marked);
    ki_free(allocator, w->dist);
    ki_free(allocator, w->place);
    ki_free(allocator, w->met);
}

static kith_status reserve_marks(const ki_qg *g, ki_qg_walker *w, size_t nodes, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    if (nodes <= w->nodes) return KITH_OK;
    size_t words = ki_bits_words(nodes), room = words < 64 ? 64 : words;
    uint64_t *marks = ki_alloc_zero(allocator, words, sizeof *marks);
    uint32_t *marked = marks ? ki_alloc(allocator, room, sizeof *marked) : NULL;
    if (!marked) {
        ki_free(allocator, marks);
        return ki_fail_nomem(err, words * sizeof *marks + room * sizeof *marked);
    }
    ki_free(allocator, w->marks);
    ki_free(allocator, w->marked);
    w->marks = marks;
    w->marked = marked;
    w->marked_room = room;
    w->n_marked = 0;
    w->nodes = nodes;
    return KITH_OK;
}

static kith_status reserve_near(const ki_qg *g, ki_qg_walker *w, size_t n, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    n += KI_QG_BLOCK;
    if (n <= w->near_room) return KITH_OK;
    ki_free(allocator, w->dist);
    ki_free(allocator, w->place);
    w->dist = ki_alloc(allocator, n, sizeof *w->dist);
    w->place = ki_alloc(allocator, n, sizeof *w->place);
    w->near_room = w->dist && w->place ? n : 0;
    return w->near_room ? KITH_OK : ki_fail_nomem(err, n * (sizeof *w->dist + sizeof *w->place));
}

kith_status ki_qg_walker_expect(const ki_qg *g, ki_qg_walker *w, size_t entries, kith_error *err)
{
    return reserve_near(g, w, g->root.n + entries, err);
}

kith_status ki_qg_walker_reserve(const ki_qg *g, ki_qg_walker *w, size_t nodes, size_t limit, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    size_t near = g->root.n > g->at.degree ? g->root.n : g->at.degree;
    if (limit < BEGIN) limit = BEGIN;
    if (limit > w->room) {
        size_t room = limit + KI_QG_MERGE_ROOM;
        float *pool = ki_alloc(allocator, room, sizeof *pool);
        uint32_t *node = pool ? ki_alloc(allocator, room, sizeof *node) : NULL;
        if (!node) {
            ki_free(allocator, pool);
            return ki_fail_nomem(err, limit * (sizeof *pool + sizeof *node));
        }
        ki_free(allocator, w->pool);
        ki_free(allocator, w->node);
        w->pool = pool;
        w->node = node;
        w->room = limit;
    }
    KI_TRY(reserve_near(g, w, near, err));
    return reserve_marks(g, w, nodes, err);
}

/* ---- The pool ---- */

static void start(ki_qg_walker *w, size_t limit)
{
    if (w->n_marked < w->marked_room)
        for (size_t i = 0; i < w->n_marked; i++) w->marks[w->marked[i] / 64] = 0;
    else
        memset(w->marks, 0, ki_bits_words(w->nodes) * sizeof *w->marks);
    w->n_marked = w->entered = w->n = w->next = w->n_met = 0;
    w->limit = limit;
}

static inline float worst(const ki_qg_walker *w)
{
    return w->n == w->limit ? w->pool[w->n - 1] : INFINITY;
}

static void merge(const ki_qg *g, ki_qg_walker *w, const float *dist, const uint32_t *node, size_t n)
{
    size_t first = g->base.env->kernels->qg_merge(w->pool, w->node, &w->n, w->limit, dist, node, n);
    if (first < w->next) w->next = first;
}

/* Offer rows: those that were in the pool before are left out. There is no branch to be foreseen, so that the words of all
 * marks are asked for at once. */
static void offer(const ki_qg *g, ki_qg_walker *w, const float *dist, const uint32_t *place,
                  const uint32_t *links, size_t n)
{
    float new_dist[KI_QG_DEGREE];
    uint32_t new_node[KI_QG_DEGREE];
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t to = ki_qg_to(links[place[i]]);
        uint64_t bit = (uint64_t)1 << (to % 64), *word = &w->marks[to / 64];
        new_dist[m] = dist[i];
        new_node[m] = to;
        m += !(*word & bit);
        *word |= bit;
    }
    if (m == 0) return;
    w->entered += m;
    if (w->n_marked + m <= w->marked_room) {
        memcpy(w->marked + w->n_marked, new_node, m * sizeof *new_node);
        w->n_marked += m;
    } else {
        w->n_marked = w->marked_room;
    }
    for (size_t i = 0; i < m; i += KI_QG_MERGED)
        merge(g, w, new_dist + i, new_node + i, m - i < KI_QG_MERGED ? m - i : KI_QG_MERGED);
}

/* Ask for the lines of a part of a row. A row comes in parts (half of its codes, the others, its links and its vector), with something
 * to compute in between, because a core has room for some ten lines on their way and waits where more are asked for. */
static inline void fetch(const ki_qg *g, uint32_t node, size_t from, size_t to)
{
    const uint8_t *row = ki_qg_row(g, node);
    for (size_t i = from; i < to; i += KI_CACHE_LINE) __builtin_prefetch(row + i);
}
static inline size_t half_of_codes(const ki_qg *g)
{
    return g->at.add / 2 / KI_CACHE_LINE * KI_CACHE_LINE;
}

/* The best row that was not expanded, marked so and on its way; KI_GRAPH_NONE: there is none within the bound. */
static inline uint32_t take(const ki_qg *g, ki_qg_walker *w)
{
    size_t i = w->next, end = w->n < w->width ? w->n : w->width;
    while (i < end && w->node[i] & EXPANDED) i++;
    w->next = i;
    if (i >= end || w->pool[i] > w->bound) return KI_GRAPH_NONE;
    uint32_t node = w->node[i];
    w->node[i] |= EXPANDED;
    w->next++;
    fetch(g, node, 0, half_of_codes(g));
    return node;
}

/* ---- The walk ---- */

/* The few best entries. */
static void begin(const ki_qg *g, ki_qg_walker *w, size_t limit)
{
    const ki_qg_root *root = &g->root;
    start(w, limit < BEGIN ? limit : BEGIN);
    float base = 0;
    size_t blocks = (root->n + KI_QG_BLOCK - 1) / KI_QG_BLOCK;
    size_t n = g->base.env->kernels->qg_near(&w->query, root->codes, root->add, root->mul, blocks, base,
                                             INFINITY, w->dist, w->place);
    for (size_t i = 0; i < n; i++) {
        if (!(w->dist[i] < worst(w))) continue;
        merge(g, w, &w->dist[i], &root->node[w->place[i]], 1);
    }
    for (size_t i = 0; i < w->n; i++) {
        uint32_t node = w->marked[w->n_marked++] = w->node[i];
        w->marks[node / 64] |= (uint64_t)1 << (node % 64);
        w->pool[i] = INFINITY; /* counted from elsewhere */
    }
    w->entered = w->n;
    w->limit = limit;
}

/* How many times the distance of the last row kept an estimate may be, for `reach` as it is set; 0: any. Distances are squared, and
 * those of unit vectors half of squared ones; dot products of others are none. */
static float slack(const ki_qg *g, const ki_query *query)
{
    float reach = (float)query->settings[KI_QG_REACH];
    if (reach <= 0 || query->found || (g->base.env->metric != KITH_L2SQ && !query->cosine)) return 0;
    return (1 + reach) * (1 + reach);
}

/* Rows that are estimated to be farther than this are not looked at. */
static float bound(const ki_qg_walker *w, const ki_query *query)
{
    float zero = query->cosine ? 1 : 0; /* distance 0 is -1 there: see query.h */
    return w->slack > 0 ? (ki_query_limit(query) + zero) * w->slack - zero : INFINITY;
}

/* The true distance of a row, which those who asked get to know. */
static float meet(const ki_qg *g, ki_qg_walker *w, uint32_t node, ki_query *query)
{
    float dist = ki_qg_distance(g, w->scorer, node);
    if (w->met && w->n_met < w->met_room) w->met[w->n_met++] = (ki_near){dist, node};
    if (query && dist <= ki_query_limit(query)) {
        ki_qg_offer(g, query, dist, node);
        w->bound = bound(w, query);
    }
    return dist;
}

static void expand(const ki_qg *g, ki_qg_walker *w, uint32_t node, uint32_t then, ki_query *query)
{
    float base = meet(g, w, node, query);
    if (then != KI_GRAPH_NONE) fetch(g, then, half_of_codes(g), g->at.add);
    float limit = w->bound < worst(w) ? w->bound : worst(w);
    w->expanded++;
    const uint8_t *row = ki_qg_row(g, node);
    size_t n = g->base.env->kernels->qg_near(&w->query, row, ki_qg_add(g, node), ki_qg_mul(g, node),
                                             g->at.blocks, base, limit, w->dist, w->place);
    if (then != KI_GRAPH_NONE) fetch(g, then, g->at.add, g->at.stride);
    offer(g, w, w->dist, w->place, ki_qg_links(g, node), n);
}

static inline void fetch_code(const ki_qg *g, uint32_t node)
{
    const uint8_t *row = ki_qg_row(g, node);
    for (size_t i = g->at.factor; i < g->at.stride; i += KI_CACHE_LINE) __builtin_prefetch(row + i);
    __builtin_prefetch(row + g->at.stride - 1);
}

/* Rows of the pool that were not expanded may be nearer than their estimates say: take their true distances, each a read
 * of some lines and not of a whole row. */
static void look_closer(const ki_qg *g, ki_qg_walker *w, ki_query *query)
{
    size_t n = w->n;
    for (size_t i = 0; i < n + AHEAD; i++) {
        if (i < n && w->pool[i] > w->bound) n = i;
        if (i < n && !(w->node[i] & EXPANDED)) fetch_code(g, w->node[i]);
        if (i < AHEAD || w->node[i - AHEAD] & EXPANDED) continue;
        uint32_t node = w->node[i - AHEAD];
        if (query && ki_query_selective(query) && !ki_qg_allowed(g, query, node)) continue;
        meet(g, w, node, query);
        w->node[i - AHEAD] |= EXPANDED;
    }
}

void ki_qg_walk(const ki_qg *g, ki_qg_walker *w, const float *vector, size_t ef, size_t limit,
                ki_query *query)
{
    w->scorer->ops->query(w->scorer, vector);
    ki_qg_ask_codes(g, vector, w->z, w->table, &w->query);
    w->expanded = 0;
    w->width = ef;
    w->bound = INFINITY;
    w->slack = query ? slack(g, query) : 0;
    begin(g, w, limit);
    uint32_t now = take(g, w), then;
    while (now != KI_GRAPH_NONE && !(query && ki_query_stop(query))) {
        then = take(g, w);
        expand(g, w, now, then, query);
        now = then != KI_GRAPH_NONE ? then : take(g, w);
    }
    if (limit > ef && !(query && ki_query_stop(query))) look_closer(g, w, query);
}

/* ---- Queries ---- */

kith_status ki_qg_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    const ki_qg *g = (const ki_qg *)structure;
    KI_TRY(ki_scratch_make(structure, sizeof **scratch, scratch, err));
    kith_status status = ki_qg_walker_init(g, &(*scratch)->walker, err);
    if (status == KITH_OK) return status;
    ki_qg_scratch_free(structure, *scratch);
    *scratch = NULL;
    return status;
}

void ki_qg_scratch_free(const ki_structure *structure, ki_scratch *scratch)
{
    ki_qg_walker_clear((const ki_qg *)structure, &scratch->walker);
    ki_free(structure->env->allocator, scratch);
}

static size_t width(const ki_qg *g, size_t k, const double *settings)
{
    size_t ef = (size_t)settings[KI_QG_EF];
    if (ef < k) ef = k;
    return ef < g->n_slots ? ef : g->n_slots + 1;
}

/* Rows of the pool of a walk of that width. */
static size_t kept(const ki_qg *g, size_t ef, const double *settings)
{
    double spare = settings[KI_QG_SPARE];
    if (spare < 0) spare = 2 * g->at.bits < g->turn.dim;
    double n = (double)ef * (1 + spare);
    return n < (double)g->n_slots ? (size_t)n : g->n_slots + 1;
}

/* A step of a walk costs as much as scan_below (ten) distances of rows that lie side by side; there is no walk in two hops. */
static ki_graph_costs costs(const double *settings)
{
    return (ki_graph_costs){.slot = LOOK, .entry = settings[KI_QG_SCAN_BELOW], .least = LEAST};
}

kith_status ki_qg_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                          const double *settings, kith_error *err)
{
    const ki_qg *g = (const ki_qg *)structure;
    ki_graph_costs cost = costs(settings);
    size_t widest = ki_graph_widest(&cost, g->n_slots, width(g, k, settings));
    return ki_qg_walker_reserve(g, &scratch->walker, g->n_slots, kept(g, widest, settings), err);
}

/* Of the slots first..end-1, a block at most, those in the graph of which a row may be returned: into node[]; how many. */
static size_t admit(const ki_qg *g, const ki_query *query, size_t first, size_t end, uint32_t *node)
{
    uint32_t pick[KI_SCAN_BLOCK];
    size_t n = 0, at = 0, n_pick = end - first;
    int selective = ki_query_selective(query);
    if (selective) n_pick = ki_query_admit(query, NULL, (uint32_t)first, end - first, pick);
    if (!g->next || !selective) {
        for (size_t i = 0; i < n_pick; i++) {
            node[n] = (uint32_t)first + (selective ? pick[i] : (uint32_t)i);
            n += (size_t)ki_bits_get(g->used, node[n]);
        }
        return n;
    }
    for (size_t i = first; i < end; i++) {
        int passes = at < n_pick && pick[at] == i - first;
        at += (size_t)passes;
        if (!ki_bits_get(g->used, i)) continue;
        /* Another row of the ring may pass where this one does not. */
        if (passes || (g->next[i] != i && ki_qg_allowed(g, query, (uint32_t)i))) node[n++] = (uint32_t)i;
    }
    return n;
}

/* Compare every row that may be returned. Up to which slot it came: all, unless it was stopped. */
static size_t scan(const ki_qg *g, ki_scorer *scorer, ki_query *query)
{
    uint32_t node[KI_SCAN_BLOCK];
    size_t first = 0;
    scorer->ops->query(scorer, query->vector);
    for (; first < g->n_slots && !ki_query_stop(query); first += KI_SCAN_BLOCK) {
        size_t end = g->n_slots - first < KI_SCAN_BLOCK ? g->n_slots : first + KI_SCAN_BLOCK;
        size_t n = admit(g, query, first, end, node);
        query->scored += n;
        for (size_t i = 0; i < n + AHEAD; i++) {
            if (i < n) fetch_code(g, node[i]);
            if (i < AHEAD) continue;
            float dist = ki_qg_distance(g, scorer, node[i - AHEAD]);
            if (dist <= ki_query_limit(query)) ki_qg_offer(g, query, dist, node[i - AHEAD]);
        }
    }
    return first < g->n_slots ? first : g->n_slots;
}

/* Offer again what a walk expanded of slots from `from` on, as much of it as a block of a scan: where that was stopped. */
static void recall(const ki_qg *g, const ki_qg_walker *w, ki_query *query, size_t from)
{
    size_t most = KI_SCAN_BLOCK;
    for (size_t i = 0; i < w->n && most > 0; i++) {
        uint32_t node = w->node[i] & ~EXPANDED;
        if (!(w->node[i] & EXPANDED) || node < from) continue;
        float dist = ki_qg_distance(g, w->scorer, node);
        if (dist <= ki_query_limit(query)) ki_qg_offer(g, query, dist, node);
        most--;
    }
}

static void walk(const ki_qg *g, ki_qg_walker *w, ki_query *query, size_t ef)
{
    ki_qg_walk(g, w, query->vector, ef, kept(g, ef, query->settings), query);
    query->scored += ki_query_selective(query) ? w->expanded : w->entered;
    query->visited += w->expanded;
}

/* ---- The ways to the rows: graph_search.h ---- */

typedef struct asked {
    const ki_qg *g;
    ki_qg_walker *walker;
    const double *settings;
} asked;

static uint32_t slot_of(const void *ctx, uint32_t slot)
{
    return ki_bits_get(((const asked *)ctx)->g->used, slot) ? slot : KI_GRAPH_NONE;
}

static kith_status way_reserve(void *ctx, size_t ef)
{
    asked *w = ctx;
    return ki_qg_walker_reserve(w->g, w->walker, w->g->n_slots, kept(w->g, ef, w->settings), NULL);
}

static void way_walk(void *ctx, ki_query *query, size_t ef, int two_hop)
{
    (void)two_hop;
    walk(((asked *)ctx)->g, ((asked *)ctx)->walker, query, ef);
}

static int way_reached(const void *ctx, const ki_query *query, size_t ef)
{
    const ki_qg_walker *walker = ((const asked *)ctx)->walker;
    (void)ef;
    return walker->n < walker->limit || walker->pool[walker->n - 1] > ki_query_limit(query);
}

static size_t way_scan(void *ctx, ki_query *query)
{
    return scan(((asked *)ctx)->g, ((asked *)ctx)->walker->scorer, query);
}

static void way_again(void *ctx, ki_query *query, size_t from)
{
    recall(((asked *)ctx)->g, ((asked *)ctx)->walker, query, from);
}

void ki_qg_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query)
{
    const ki_qg *g = (const ki_qg *)structure;
    ki_qg_walker *w = &scratch->walker;
    query->holes = 0; /* only slots in use are met */
    if (g->n_used == 0) {
        (void)ki_query_stop(query);
        return;
    }
    size_t ef = width(g, query->top.k, query->settings);
    asked ctx = {g, w, query->settings};
    const ki_graph_ways ways = {.ctx = &ctx,
                                .n = g->n_slots,
                                .used = g->n_used,
                                .scan_below = query->settings[KI_QG_SCAN_BELOW],
                                .costs = costs(query->settings),
                                .slot = slot_of,
                                .reserve = way_reserve,
                                .walk = way_walk,
                                .reached = way_reached,
                                .scan = way_scan,
                                .again = way_again};
    ki_graph_search(&ways, query, ef);
}
