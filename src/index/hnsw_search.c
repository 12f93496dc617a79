/* hnsw_search.c - the query side of HNSW: down the levels, then as every graph (graph_answer.h). The essay is in hnsw.c. */
#include "index/graph_answer.h"
#include "index/hnsw_internal.h"

/* The entry of walks on level 0: down from the top (Alg. 5, lines 1 to 4). */
static void enter(const ki_answer *answer, ki_scratch *s, ki_query *query)
{
    const ki_hnsw *h = answer->family;
    uint32_t node = h->entry;
    float dist;
    s->scorer->ops->score(s->scorer, h->nodes.codes.codes, &node, 1, INFINITY, &dist);
    query->scored++;
    if (!(dist < INFINITY)) dist = INFINITY;
    for (int level = ki_hnsw_level(h, node); level > 0; level--) {
        ki_graph graph = ki_hnsw_graph(h, level);
        query->scored += ki_graph_descend(&graph, s->scorer, h->nodes.codes.codes, &node, &dist);
    }
    (void)ki_beam_visit(&s->beam, node);
    ki_beam_offer(&s->beam, dist, node);
}

static ki_answer answer_of(const ki_structure *structure, const double *settings)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    return (ki_answer){.family = h,
                       .nodes = &h->nodes,
                       .graph = ki_hnsw_graph(h, 0),
                       .room = h->shared ? h->nodes.room : h->nodes.n,
                       .ef = (size_t)settings[KI_HNSW_EF],
                       .entries = 1,
                       .enter = enter};
}

kith_status ki_hnsw_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                            const double *settings, kith_error *err)
{
    ki_answer answer = answer_of(structure, settings);
    return ki_answer_prepare(&answer, scratch, k, err);
}

void ki_hnsw_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query)
{
    ki_answer answer = answer_of(structure, query->settings);
    ki_answer_search(&answer, scratch, query);
}

kith_status ki_hnsw_next(const ki_structure *structure, ki_scratch *scratch, ki_query *query, size_t n,
                         int anew, kith_error *err)
{
    ki_answer answer = answer_of(structure, query->settings);
    return ki_answer_next(&answer, scratch, query, n, anew, err);
}
