/* hnsw_internal.h - what the files of the HNSW family share; the essay is in hnsw.c. */
#ifndef KI_INDEX_HNSW_INTERNAL_H
#define KI_INDEX_HNSW_INTERNAL_H

#include "index/graph_nodes.h"
#include "index/graph_prune.h"

#define KI_HNSW_MAX_LEVEL 30

/* The parameters, in the order of the table. */
enum { KI_HNSW_EF, KI_HNSW_EF_CONSTRUCTION, KI_HNSW_KEEP_PRUNED, KI_HNSW_EXTEND, KI_HNSW_ALPHA };

typedef struct ki_hnsw_remover ki_hnsw_remover;

typedef struct ki_hnsw {
    ki_structure base;
    size_t m; /* links of a node on the upper levels; twice as many on level 0 */
    ki_nodes
        nodes; /* what searches read of all this while rows come is atomic, or was written before what leads to it */
    size_t n_upper;         /* rows of upper links */
    _Atomic uint32_t entry; /* where every walk begins; KI_GRAPH_NONE in an empty graph */
    int top;                /* its level; -1 in an empty graph */
    const uint32_t *links;  /* [nodes][2m] level 0 */
    const uint32_t *upper;  /* [n_upper][m] levels 1.. of each node in turn */
    const uint32_t *parent; /* [nodes] in the tree; KI_GRAPH_NONE: the root, or a free node */
    uint32_t *upper_row;    /* [nodes] where the upper rows of a node begin */
    uint32_t *own_links, *own_upper, *own_parent; /* the same where they are ours, else NULL */
    uint16_t *children;                           /* [nodes] in the tree */
    size_t room, upper_room;
    int shared;               /* room is reserved: searches may run beside an add */
    ki_hnsw_remover *remover; /* between prepare_remove and remove */
} ki_hnsw;

/* The level of a node, drawn from its number: P(level >= l) = m^-l. */
int ki_hnsw_level(const ki_hnsw *h, uint32_t node);

static inline ki_graph ki_hnsw_graph(const ki_hnsw *h, int level)
{
    if (level == 0) return (ki_graph){h->links, 2 * h->m, NULL, 0};
    return (ki_graph){h->upper, h->m, h->upper_row, (size_t)level - 1};
}

/* A row of links to be changed. */
static inline uint32_t *ki_hnsw_row(ki_hnsw *h, uint32_t node, int level)
{
    if (level == 0) return h->own_links + (size_t)node * 2 * h->m;
    return h->own_upper + (h->upper_row[node] + (size_t)level - 1) * h->m;
}
static inline size_t ki_hnsw_degree(const ki_hnsw *h, int level)
{
    return level == 0 ? 2 * h->m : h->m;
}

/* Children of a node in the tree at most: there is always room for a link that is none of the tree's. */
static inline size_t ki_hnsw_children(const ki_hnsw *h)
{
    return h->m;
}

/* A node in the tree below (or at) `node` that has room for a child. fresh[n_fresh]: nodes that have parents, but are not
 * linked back from them yet. */
uint32_t ki_hnsw_roomy(const ki_hnsw *h, uint32_t node, const uint32_t *fresh, size_t n_fresh);

/* Back to an empty graph; memory is kept. */
void ki_hnsw_reset(ki_hnsw *h);

/* The parts of the vtable in hnsw_build.c, hnsw_remove.c, hnsw_search.c. */
kith_status ki_hnsw_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                        uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err);
kith_status ki_hnsw_reserve(ki_structure *structure, size_t rows, size_t n_slots, kith_error *err);
kith_status ki_hnsw_prepare_remove(ki_structure *structure, const ki_rows *rows, kith_error *err);
void ki_hnsw_remove(ki_structure *structure, const uint32_t *slots, size_t n);

/* Take slots out, between prepare_remove and remover_free (slots NULL: first_slot, first_slot + 1, ...). */
void ki_hnsw_drop(ki_hnsw *h, const uint32_t *slots, uint32_t first_slot, size_t n);
void ki_hnsw_remover_free(ki_hnsw *h);
kith_status ki_hnsw_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                            const double *settings, kith_error *err);
void ki_hnsw_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query);
kith_status ki_hnsw_next(const ki_structure *structure, ki_scratch *scratch, ki_query *query, size_t n,
                         int anew, kith_error *err);

#endif
