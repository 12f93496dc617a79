/* hnsw_internal.h - what the files of the HNSW family share; the essay is in hnsw.c. */
#ifndef KI_INDEX_HNSW_INTERNAL_H
#define KI_INDEX_HNSW_INTERNAL_H

#include "index/graph_prune.h"
#include "index/rowcodes.h"

#define KI_HNSW_MAX_LEVEL 30

/* The parameters, in the order of the table. */
enum { KI_HNSW_EF, KI_HNSW_EF_CONSTRUCTION, KI_HNSW_KEEP_PRUNED, KI_HNSW_EXTEND };

typedef struct ki_hnsw_remover ki_hnsw_remover;

typedef struct ki_hnsw {
    ki_structure base;
    size_t m;           /* links of a node on the upper levels; twice as many on level 0 */
    ki_row_codes codes; /* by node */
    /* Numbers given out, free ones between them included. What searches read while rows come is atomic, or is reached
     * by a link that was. */
    _Atomic size_t n_nodes;
    size_t n_used;          /* nodes in use */
    size_t n_upper;         /* rows of upper links */
    size_t n_slots;         /* that node_of covers */
    size_t lowest_free;     /* no free node is below it */
    _Atomic uint32_t entry; /* where every walk begins; KI_GRAPH_NONE in an empty graph */
    int top;                /* its level; -1 in an empty graph */
    const uint32_t *links;  /* [n_nodes][2m] level 0 */
    const uint32_t *upper;  /* [n_upper][m] levels 1.. of each node in turn */
    const uint32_t *parent; /* [n_nodes] in the tree; KI_GRAPH_NONE: the root, or a free node */
    const uint32_t *first;  /* [n_nodes] a slot of the node; KI_GRAPH_NONE: free */
    const uint32_t
        *next; /* [n_slots] the next slot of the same node, in a ring; NULL: every node has one slot */
    uint32_t *upper_row; /* [n_nodes] where the upper rows of a node begin */
    uint32_t *node_of;   /* [n_slots] KI_GRAPH_NONE: no row */
    uint32_t *own_links, *own_upper, *own_parent, *own_first,
        *own_next;     /* the same where they are ours, else NULL */
    uint32_t *prev;    /* [n_slots] the ring backwards; exists with own_next */
    uint8_t *children; /* [n_nodes] in the tree */
    size_t room, upper_room, slot_room;
    uint32_t *table; /* [table_size] nodes by the hash of their codes; NULL until a row is added */
    size_t table_size;
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

static inline const uint8_t *ki_hnsw_code(const ki_hnsw *h, uint32_t node)
{
    return ki_row_code(&h->codes, h->base.env->codec, node);
}

static inline const float *ki_hnsw_factor(const ki_hnsw *h, uint32_t node)
{
    return ki_row_factor(&h->codes, h->base.env->codec, node);
}

/* The scorer's query becomes a stored row. */
static inline void ki_hnsw_ask(const ki_hnsw *h, ki_scorer *scorer, uint32_t node)
{
    scorer->ops->row(scorer, ki_hnsw_code(h, node), ki_hnsw_factor(h, node), NULL);
}

/* Nodes that a search has to be prepared to meet. */
static inline size_t ki_hnsw_nodes(const ki_hnsw *h)
{
    return h->shared ? h->room : h->n_nodes;
}

/* A slot of a node, or KI_GRAPH_NONE; and the next in its ring. As searches read them. */
static inline uint32_t ki_hnsw_first(const ki_hnsw *h, uint32_t node)
{
    return ki_graph_load(&h->first[node]);
}
static inline uint32_t ki_hnsw_next(const ki_hnsw *h, uint32_t slot)
{
    return h->next ? ki_graph_load(&h->next[slot]) : slot;
}

/* Nodes by code and factors. find: the node that has just these, or KI_GRAPH_NONE. reserve: make the table fit n nodes; all that
 * can fail. */
kith_status ki_hnsw_table_reserve(ki_hnsw *h, size_t n, kith_error *err);
uint32_t ki_hnsw_table_find(const ki_hnsw *h, const uint8_t *code, const float *factor);
void ki_hnsw_table_put(ki_hnsw *h, uint32_t node);
void ki_hnsw_table_take(ki_hnsw *h, uint32_t node);

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
kith_status ki_hnsw_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err);
void ki_hnsw_scratch_free(const ki_structure *structure, ki_scratch *scratch);
kith_status ki_hnsw_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                            const double *settings, kith_error *err);
void ki_hnsw_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query);

#endif
