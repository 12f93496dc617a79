/* graph_back.h - links back: while a batch of new rows is linked, what other nodes are to be offered, sorted by the node that
 * gets it, so that each node is written by one thread and in one order. What HNSW and the graphs of one level share. */
#ifndef KI_INDEX_GRAPH_BACK_H
#define KI_INDEX_GRAPH_BACK_H

#include "index/graph_beam.h"

/* A key: level, node, and the number of the link, whose order among those of one node is that of the batch. */
#define KI_BACK_LEVEL_SHIFT 58
#define KI_BACK_NODE_SHIFT 27
#define KI_BACK_LINKS ((size_t)1 << KI_BACK_NODE_SHIFT)

typedef struct ki_back {
    uint64_t *keys;   /* [n] */
    uint32_t *source; /* [n] by number: the new row that asks for the link */
    uint32_t *group;  /* [n_groups + 1] where the keys of each node begin */
    size_t n, n_groups, room;
} ki_back;

void ki_back_clear(ki_back *back, const kith_allocator *allocator);

/* Room for n links; what was in it is lost. KITH_NOMEM: as before. */
kith_status ki_back_reserve(ki_back *back, size_t n, const kith_allocator *allocator, kith_error *err);

/* Add the reverse of each link of a new node (n is set to 0 by the caller before the first); sort, once all are there. */
void ki_back_add(ki_back *back, int level, const uint32_t *links, size_t degree, uint32_t node);
void ki_back_sort(ki_back *back);

/* The keys of one node. */
static inline const uint64_t *ki_back_group(const ki_back *back, size_t group, size_t *n)
{
    *n = back->group[group + 1] - back->group[group];
    return back->keys + back->group[group];
}
static inline int ki_back_level(uint64_t key)
{
    return (int)(key >> KI_BACK_LEVEL_SHIFT);
}
static inline uint32_t ki_back_node(uint64_t key)
{
    return (uint32_t)(key >> KI_BACK_NODE_SHIFT) & (uint32_t)KI_GRAPH_NODES;
}
static inline uint32_t ki_back_source(const ki_back *back, uint64_t key)
{
    return back->source[key & (KI_BACK_LINKS - 1)];
}

#endif
