/* hnsw_search.c - the query side of HNSW: down the levels, the walk on level 0, filters, ranges. The essay is in hnsw.c. */
#include "index/hnsw_internal.h"

#include <string.h>

#include "base/error.h"

/* Up to this many times ef, comparing all rows is as fast as a walk and exact (arbitrary within a factor of two:
 * bench on 128-d float32, a walk with ef = 64 scores some 1,000 rows at a fifth of the rate of a scan). */
#define SCAN_BELOW 4

/* Nodes that are looked at to learn how many rows a filter lets through. */
#define SAMPLE 256

/* At this share a filter is met by a wider beam; below, by two hops. */
#define WIDER_FROM 0.4

/* Rows that a walk scores for each entry of the beam, about (sift1m, M = 16). */
#define SCORED_PER_ENTRY 10

/* Of a node with very many equal rows this many are offered to one query (all to a range search): the first in the
 * order in which they came. */
#define EQUALS 1024

struct ki_scratch {
    ki_scorer *scorer;
    ki_beam beam;
};

kith_status ki_hnsw_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    KI_TRY(ki_scratch_make(structure, sizeof **scratch, scratch, err));
    ki_beam_init(&(*scratch)->beam, structure->env->allocator);
    return KITH_OK;
}

void ki_hnsw_scratch_free(const ki_structure *structure, ki_scratch *scratch)
{
    ki_scorer_free(scratch->scorer);
    ki_beam_clear(&scratch->beam);
    ki_free(structure->env->allocator, scratch);
}

/* The width of the beam for k results. */
static size_t width(const ki_hnsw *h, size_t k, const double *settings)
{
    size_t ef = (size_t)settings[KI_HNSW_EF];
    if (ef < k) ef = k;
    size_t nodes = ki_hnsw_nodes(h);
    return ef < nodes ? ef : nodes + 1;
}

/* The width that a filter which lets this share through asks for. */
static size_t wider(const ki_hnsw *h, size_t ef, double share)
{
    double wide = (double)ef / share;
    size_t nodes = ki_hnsw_nodes(h);
    return wide < (double)nodes ? (size_t)wide : nodes + 1;
}

kith_status ki_hnsw_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                            const double *settings, kith_error *err)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    size_t ef = width(h, k, settings);
    return ki_beam_reserve(&scratch->beam, ki_hnsw_nodes(h), wider(h, ef, WIDER_FROM), err);
}

/* ---- Rows of a node ---- */

/* Whether one of the rows of a node may be returned. */
static int allowed(const void *ctx, const ki_query *query, uint32_t node)
{
    const ki_hnsw *h = ctx;
    uint32_t first = ki_hnsw_first(h, node), slot = first;
    do {
        if (ki_query_allows(query, slot)) return 1;
        slot = ki_hnsw_next(h, slot);
    } while (slot != first);
    return 0;
}

/* Offer the rows of a node. */
static void offer(const ki_hnsw *h, ki_query *query, float dist, uint32_t node)
{
    uint32_t first = ki_hnsw_first(h, node), slot = first;
    size_t most = query->found ? SIZE_MAX : query->top.k > EQUALS ? query->top.k : EQUALS;
    do {
        if (!ki_query_selective(query) || ki_query_allows(query, slot)) {
            ki_query_offer(query, dist, slot);
            most--;
        }
        slot = ki_hnsw_next(h, slot);
    } while (slot != first && most > 0 && !(query->found && query->found->failed));
}

/* ---- All rows ---- */

/* Compare every node that has a row which may be returned, by number. Up to which it came: all, unless it was stopped. */
static size_t scan(const ki_hnsw *h, ki_scratch *s, ki_query *query)
{
    uint32_t node[KI_SCAN_BLOCK], near[KI_SCAN_BLOCK];
    float dist[KI_SCAN_BLOCK];
    int selective = ki_query_selective(query);
    size_t nodes = h->n_nodes;
    size_t first = 0;
    for (; first < nodes && !ki_query_stop(query); first += KI_SCAN_BLOCK) {
        size_t end = nodes - first < KI_SCAN_BLOCK ? nodes : first + KI_SCAN_BLOCK, n = 0;
        for (size_t i = first; i < end; i++) {
            node[n] = (uint32_t)i;
            n += ki_hnsw_first(h, (uint32_t)i) != KI_GRAPH_NONE &&
                 (!selective || allowed(h, query, (uint32_t)i));
        }
        s->scorer->ops->score(s->scorer, h->codes.codes, node, n, ki_query_limit(query), dist);
        query->scored += n;
        size_t n_near = query->kernels->select_le_f32(dist, n, ki_query_limit(query), near);
        for (size_t i = 0; i < n_near; i++) offer(h, query, dist[near[i]], node[near[i]]);
    }
    return first;
}

/* ---- The walk ---- */

/* The entries of a walk on level 0: down from the top (Alg. 5, lines 1 to 4). */
static void enter(const ki_hnsw *h, ki_scratch *s, ki_query *query)
{
    uint32_t node = h->entry;
    float dist;
    s->scorer->ops->score(s->scorer, h->codes.codes, &node, 1, INFINITY, &dist);
    query->scored++;
    if (!(dist < INFINITY)) dist = INFINITY;
    for (int level = ki_hnsw_level(h, node); level > 0; level--) {
        ki_graph graph = ki_hnsw_graph(h, level);
        query->scored += ki_graph_descend(&graph, s->scorer, h->codes.codes, &node, &dist);
    }
    (void)ki_beam_visit(&s->beam, node);
    ki_beam_offer(&s->beam, dist, node);
}

/* Walk level 0 with a beam of ef; two_hop: through a filter. */
static void walk(const ki_hnsw *h, ki_scratch *s, ki_query *query, size_t ef, int two_hop)
{
    ki_graph graph = ki_hnsw_graph(h, 0);
    ki_beam_start(&s->beam, ef);
    s->beam.scored = s->beam.expanded = 0;
    enter(h, s, query);
    if (two_hop)
        ki_beam_walk_some(&s->beam, &graph, s->scorer, h->codes.codes, query, allowed, h);
    else
        ki_beam_walk(&s->beam, &graph, s->scorer, h->codes.codes, query);
    query->scored += s->beam.scored;
    query->visited += s->beam.expanded;
}

/* Offer what the beam holds of nodes from number `from` on, nearest first, as long as it can enter. Also when the walk was
 * stopped: its best so far are the answer. */
static void harvest(const ki_hnsw *h, ki_scratch *s, ki_query *query, size_t from)
{
    for (size_t i = 0; i < s->beam.n && !(query->found && query->found->failed); i++) {
        uint32_t node = ki_beam_node(&s->beam, i);
        if (s->beam.near[i].dist > ki_query_limit(query)) break;
        if (node >= from) offer(h, query, s->beam.near[i].dist, node);
    }
    (void)ki_query_stop(query); /* time that ran out meanwhile: nothing else is begun */
}

/* About the share of rows that may be returned: of some nodes at equal distances. */
static double share(const ki_hnsw *h, const ki_query *query)
{
    size_t n = h->n_nodes, sample = n < SAMPLE ? n : SAMPLE, used = 0, passed = 0;
    for (size_t i = 0; i < sample; i++) {
        uint32_t slot = ki_hnsw_first(h, (uint32_t)(i * n / sample));
        if (slot == KI_GRAPH_NONE) continue;
        used++;
        passed += (size_t)ki_query_allows(query, slot);
    }
    return used > 0 ? (double)passed / (double)used : 1;
}

/* With a filter: a wider beam, two hops, or all rows that pass, whichever is least work. */
static void search_filtered(const ki_hnsw *h, ki_scratch *s, ki_query *query, size_t ef)
{
    double part = share(h, query), n = (double)h->n_nodes;
    if (SCORED_PER_ENTRY * (double)ef >= part * (part * n + n / 16)) {
        (void)scan(h, s, query);
        return;
    }
    int two_hop = part < WIDER_FROM;
    walk(h, s, query, two_hop ? ef : wider(h, ef, part), two_hop);
    harvest(h, s, query, 0);
    if (ki_query_taken(query) >= query->need || query->found || query->stopped) return;
    /* What was offered will be offered again: by the scan or, behind the place where that was stopped, from the beam. */
    query->top.n = 0;
    size_t end = scan(h, s, query);
    if (query->stopped) harvest(h, s, query, end);
}

/* Within a radius: the beam grows until it reaches beyond. */
static void search_range(const ki_hnsw *h, ki_scratch *s, ki_query *query, size_t ef)
{
    size_t before = 0; /* what the walk before this one found: one that is stopped may have found less */
    for (;;) {
        kith_status status = ki_beam_reserve(&s->beam, ki_hnsw_nodes(h), ef, NULL);
        if (status != KITH_OK) {
            query->found->failed = query->stopped = 1;
            return;
        }
        walk(h, s, query, ef, 0);
        harvest(h, s, query, 0);
        ki_graph_keep_more(query->found, before);
        before = query->found->n;
        if (query->stopped || s->beam.n < ef || query->by_slot) return;
        if (s->beam.near[s->beam.n - 1].dist > ki_query_limit(query)) return;
        ef *= 4;
        if (SCAN_BELOW * ef < h->n_nodes) continue;
        (void)scan(h, s, query);
        ki_graph_keep_more(query->found, before);
        return;
    }
}

void ki_hnsw_search(const ki_structure *structure, ki_scratch *s, ki_query *query)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    query->holes = 0; /* nodes have slots in use only */
    if (h->entry == KI_GRAPH_NONE) {
        (void)ki_query_stop(query);
        return;
    }
    if (query->bits)
        s->scorer->ops->query_bits(s->scorer, query->bits);
    else
        s->scorer->ops->query(s->scorer, query->vector);
    size_t ef = width(h, query->top.k, query->settings);
    if (SCAN_BELOW * ef >= h->n_nodes) {
        (void)scan(h, s, query);
    } else if (query->found) {
        search_range(h, s, query, ef);
    } else if (ki_query_selective(query)) {
        search_filtered(h, s, query, ef);
    } else {
        walk(h, s, query, ef, 0);
        harvest(h, s, query, 0);
    }
}
