/* graph_flat_search.c - the query side of graphs of one level: where walks begin; the rest is graph_answer.h. The essay is in
 * graph_flat.h. */
#include "base/rng.h"
#include "index/graph_answer.h"
#include "index/graph_flat.h"

/* Numbers that are drawn for one start until one is a node in use: going on from a hole to the next node would begin most
 * walks behind the largest holes, after as many steps as these are long (16: one node in 16 in use is met by 2 of 3). */
#define DRAWS 16

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

/* ---- Answers ---- */

static void enter_all(const ki_answer *answer, ki_scratch *s, ki_query *query)
{
    const ki_flat *g = answer->family;
    size_t starts = (size_t)query->settings[KI_FLAT_STARTS];
    for (size_t i = 0; i < starts; i++) ki_answer_enter(answer, s, query, start(g, 0, i));
}

static void walk(const ki_answer *answer, ki_scratch *s, ki_query *query, size_t ef, int two_hop)
{
    size_t starts = (size_t)query->settings[KI_FLAT_STARTS];
    ki_flat_walk(answer->family, &answer->graph, &s->beam, s->scorer, ef, starts, 0, query, two_hop);
}

static ki_answer answer_of(const ki_structure *structure, const double *settings)
{
    const ki_flat *g = (const ki_flat *)structure;
    return (ki_answer){.family = g,
                       .nodes = &g->nodes,
                       .graph = ki_flat_graph(g),
                       .room = g->nodes.n,
                       .ef = (size_t)settings[KI_FLAT_EF],
                       .entries = (size_t)settings[KI_FLAT_STARTS],
                       .enter = enter_all,
                       .walk = walk};
}

kith_status ki_flat_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                            const double *settings, kith_error *err)
{
    ki_answer answer = answer_of(structure, settings);
    return ki_answer_prepare(&answer, scratch, k, err);
}

void ki_flat_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query)
{
    ki_answer answer = answer_of(structure, query->settings);
    ki_answer_search(&answer, scratch, query);
}

kith_status ki_flat_next(const ki_structure *structure, ki_scratch *scratch, ki_query *query, size_t n,
                         int anew, kith_error *err)
{
    ki_answer answer = answer_of(structure, query->settings);
    return ki_answer_next(&answer, scratch, query, n, anew, err);
}
