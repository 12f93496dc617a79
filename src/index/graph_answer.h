/* graph_answer.h - how a graph answers a query: by a walk, or by comparing everything where that is less work; with a filter, within
 * a radius, and row after row without an end. What HNSW and the graphs of one level share on the query's side; a family
 * says where walks begin, and how one goes. */
#ifndef KI_INDEX_GRAPH_ANSWER_H
#define KI_INDEX_GRAPH_ANSWER_H

#include "index/family.h"
#include "index/graph_nodes.h"

/* One thread's memory. */
struct ki_scratch {
    ki_scorer *scorer;
    ki_beam beam;
    ki_spare spare; /* of a search that goes on: what the beam had no room for */
};

typedef struct ki_answer ki_answer;
struct ki_answer {
    const void *family;
    const ki_nodes *nodes;
    ki_graph graph; /* in which all nodes stand */
    size_t room;    /* nodes that a search has to be prepared to meet */
    size_t ef;      /* as the query's settings have it */
    /* Put the nodes where a walk begins, `entries` at most, into the beam or among the spare, and mark them. */
    size_t entries;
    void (*enter)(const ki_answer *answer, ki_scratch *scratch, ki_query *query);
    /* Fill the beam, of at most ef, by a walk; two_hop: through the filter. NULL: one walk from what enter() put into the beam. */
    void (*walk)(const ki_answer *answer, ki_scratch *scratch, ki_query *query, size_t ef, int two_hop);
};

/* Parts of the vtable as they are. */
kith_status ki_answer_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err);
void ki_answer_scratch_free(const ki_structure *structure, ki_scratch *scratch);

/* And those that want to know the graph: ki_structure_ops.prepare, search, next. */
kith_status ki_answer_prepare(const ki_answer *answer, ki_scratch *scratch, size_t k, kith_error *err);
void ki_answer_search(const ki_answer *answer, ki_scratch *scratch, ki_query *query);
kith_status ki_answer_next(const ki_answer *answer, ki_scratch *scratch, ki_query *query, size_t n, int anew,
                           kith_error *err);

/* Put a node among the spare if it was not visited, for enter(). */
void ki_answer_enter(const ki_answer *answer, ki_scratch *scratch, ki_query *query, uint32_t node);

#endif
