/* graph_flat_search.c - the query side of graphs of one level: walks, filters, ranges. The essay is in graph_flat.h. */
#include "index/graph_flat.h"

#include "base/error.h"
#include "base/rng.h"

/* Up to this many times ef, comparing all rows is as fast as a walk and exact (as in hnsw_search.c). */
#define SCAN_BELOW 4

/* Slots that are looked at to learn how many rows a filter lets through. */
#define SAMPLE 256

/* At this share a filter is met by a wider beam; below, by two hops. */
#define WIDER_FROM 0.4

/* Numbers that are drawn for one start until one is a node in use: going on from a hole to the next node would begin most
 * walks behind the largest holes, after as many steps as these are long (16: one node in 16 in use is met by 2 of 3). */
#define DRAWS 16

/* Rows that a walk scores for each entry of the beam, about. */
#define SCORED_PER_ENTRY 10

struct ki_scratch {
    ki_scorer *scorer;
    ki_beam beam;
};

kith_status ki_flat_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    KI_TRY(ki_scratch_make(structure, sizeof **scratch, scratch, err));
    ki_beam_init(&(*scratch)->beam, structure->env->allocator);
    return KITH_OK;
}

void ki_flat_scratch_free(const ki_structure *structure, ki_scratch *scratch)
{
    ki_scorer_free(scratch->scorer);
    ki_beam_clear(&scratch->beam);
    ki_free(structure->env->allocator, scratch);
}

/* The width of the beam for k results. */
static size_t width(const ki_flat *g, size_t k, const double *settings)
{
    size_t ef = (size_t)settings[KI_FLAT_EF];
    if (ef < k) ef = k;
    return ef < g->nodes.n ? ef : g->nodes.n + 1;
}

/* The width that a filter which lets this share through asks for. */
static size_t wider(const ki_flat *g, size_t ef, double share)
{
    double wide = (double)ef / share;
    return wide < (double)g->nodes.n ? (size_t)wide : g->nodes.n + 1;
}

kith_status ki_flat_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                            const double *settings, kith_error *err)
{
    const ki_flat *g = (const ki_flat *)structure;
    return ki_beam_reserve(&scratch->beam, g->nodes.n, wider(g, width(g, k, settings), WIDER_FROM), err);
}

/* ---- The walk ---- */

/* Start number i: the entry, then nodes drawn by number. Rows of a batch that is being added are in no tree yet: nobody may
 * begin there. draw: not 0 while a new graph is made, all of whose nodes are in use and none in a tree. */
static uint32_t start(const ki_flat *g, uint64_t draw, size_t i)
{
    if (i == 0) return g->entry;
    uint64_t number = ki_mix64((g->base.env->seed + (draw << 20)) * 0x9e3779b97f4a7c15u + i);
    for (size_t drawn = 0; drawn < DRAWS; drawn++, number = ki_mix64(number + 1)) {
        uint32_t node = (uint32_t)(number % g->nodes.n);
        if (draw != 0 || (g->parent[node] != KI_GRAPH_NONE && ki_nodes_used(&g->nodes, node))) return node;
    }
    return g->entry;
}

static void enter(const ki_flat *g, ki_beam *beam, ki_scorer *scorer, uint32_t node)
{
    float dist;
    if (!ki_beam_visit(beam, node)) return;
    scorer->ops->score(scorer, g->nodes.codes.codes, &node, 1, INFINITY, &dist);
    beam->scored++;
    ki_beam_offer(beam, dist, node);
}

void ki_flat_walk(const ki_flat *g, const ki_graph *graph, ki_beam *beam, ki_scorer *scorer, size_t ef,
                  size_t starts, uint64_t draw, ki_query *query, int two_hop)
{
    ki_codes codes = g->nodes.codes.codes;
    ki_beam_start(beam, ef);
    beam->scored = beam->expanded = 0;
    for (size_t i = 0; i < starts; i++) {
        enter(g, beam, scorer, start(g, draw, i));
        if (!g->kind->apart && i + 1 < starts) continue;
        if (two_hop)
            ki_beam_walk_some(beam, graph, scorer, codes, query, ki_nodes_allowed, &g->nodes);
        else
            ki_beam_walk(beam, graph, scorer, codes, query);
    }
}

static void walk(const ki_flat *g, ki_scratch *s, ki_query *query, size_t ef, int two_hop)
{
    ki_graph graph = ki_flat_graph(g);
    size_t starts = (size_t)query->settings[KI_FLAT_STARTS];
    ki_flat_walk(g, &graph, &s->beam, s->scorer, ef, starts, 0, query, two_hop);
    query->scored += s->beam.scored;
    query->visited += s->beam.expanded;
}

/* Offer what the beam holds of nodes from number `from` on, nearest first, as long as it can enter. Also when the walk was
 * stopped: its best so far are the answer. */
static void harvest(const ki_flat *g, ki_scratch *s, ki_query *query, size_t from)
{
    for (size_t i = 0; i < s->beam.n && !(query->found && query->found->failed); i++) {
        uint32_t node = ki_beam_node(&s->beam, i);
        if (s->beam.near[i].dist > ki_query_limit(query)) break;
        if (node >= from) ki_nodes_offer(&g->nodes, query, s->beam.near[i].dist, node);
    }
    (void)ki_query_stop(query); /* time that ran out meanwhile: nothing else is begun */
}

/* ---- All rows ---- */

/* Compare every node that has a row which may be returned, by number. Up to which it came: all, unless it was stopped. */
static size_t scan(const ki_flat *g, ki_scratch *s, ki_query *query)
{
    uint32_t node[KI_SCAN_BLOCK], near[KI_SCAN_BLOCK];
    float dist[KI_SCAN_BLOCK];
    int selective = ki_query_selective(query);
    size_t first = 0;
    for (; first < g->nodes.n && !ki_query_stop(query); first += KI_SCAN_BLOCK) {
        size_t end = g->nodes.n - first < KI_SCAN_BLOCK ? g->nodes.n : first + KI_SCAN_BLOCK, n = 0;
        for (size_t i = first; i < end; i++) {
            node[n] = (uint32_t)i;
            n += ki_nodes_used(&g->nodes, (uint32_t)i) &&
                 (!selective || ki_nodes_allowed(&g->nodes, query, (uint32_t)i));
        }
        s->scorer->ops->score(s->scorer, g->nodes.codes.codes, node, n, ki_query_limit(query), dist);
        query->scored += n;
        size_t n_near = query->kernels->select_le_f32(dist, n, ki_query_limit(query), near);
        for (size_t i = 0; i < n_near; i++) ki_nodes_offer(&g->nodes, query, dist[near[i]], node[near[i]]);
    }
    return first;
}

/* ---- With a filter, within a radius ---- */

/* About the share of rows that may be returned: of some slots at equal distances. */
static double share(const ki_query *query)
{
    size_t n = query->rows->n_slots, sample = n < SAMPLE ? n : SAMPLE, used = 0, passed = 0;
    for (size_t i = 0; i < sample; i++) {
        uint32_t slot = (uint32_t)(i * n / sample);
        if (!ki_rows_used(query->rows, slot)) continue;
        used++;
        passed += (size_t)ki_query_allows(query, slot);
    }
    return used > 0 ? (double)passed / (double)used : 1;
}

/* A wider beam, two hops, or all rows that pass, whichever is least work. */
static void search_filtered(const ki_flat *g, ki_scratch *s, ki_query *query, size_t ef)
{
    double part = share(query), n = (double)g->nodes.n;
    if (SCORED_PER_ENTRY * (double)ef >= part * (part * n + n / 16)) {
        (void)scan(g, s, query);
        return;
    }
    int two_hop = part < WIDER_FROM;
    walk(g, s, query, two_hop ? ef : wider(g, ef, part), two_hop);
    harvest(g, s, query, 0);
    if (ki_query_taken(query) >= query->need || query->found || query->stopped) return;
    /* What was offered will be offered again: by the scan or, behind the place where that was stopped, from the beam. */
    query->top.n = 0;
    size_t end = scan(g, s, query);
    if (query->stopped) harvest(g, s, query, end);
}

/* The beam grows until it reaches beyond the radius. */
static void search_range(const ki_flat *g, ki_scratch *s, ki_query *query, size_t ef)
{
    size_t before = 0; /* what the walk before this one found: one that is stopped may have found less */
    for (;;) {
        if (ki_beam_reserve(&s->beam, g->nodes.n, ef, NULL) != KITH_OK) {
            query->found->failed = query->stopped = 1;
            return;
        }
        walk(g, s, query, ef, 0);
        harvest(g, s, query, 0);
        ki_graph_keep_more(query->found, before);
        before = query->found->n;
        if (query->stopped || s->beam.n < ef || query->by_slot) return;
        if (s->beam.near[s->beam.n - 1].dist > ki_query_limit(query)) return;
        ef *= 4;
        if (SCAN_BELOW * ef < g->nodes.n) continue;
        (void)scan(g, s, query);
        ki_graph_keep_more(query->found, before);
        return;
    }
}

void ki_flat_search(const ki_structure *structure, ki_scratch *s, ki_query *query)
{
    const ki_flat *g = (const ki_flat *)structure;
    query->holes = 0; /* nodes have slots in use only */
    if (g->nodes.n_used == 0) {
        (void)ki_query_stop(query);
        return;
    }
    s->scorer->ops->query(s->scorer, query->vector);
    size_t ef = width(g, query->top.k, query->settings);
    if (SCAN_BELOW * ef >= g->nodes.n) {
        (void)scan(g, s, query);
    } else if (query->found) {
        search_range(g, s, query, ef);
    } else if (ki_query_selective(query)) {
        search_filtered(g, s, query, ef);
    } else {
        walk(g, s, query, ef, 0);
        harvest(g, s, query, 0);
    }
}
