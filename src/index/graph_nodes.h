/* graph_nodes.h - which rows are which node of a graph: equal rows share one.
 *
 * A node is a number with a code. Rows with equal codes and factors (found by a hash of them) are one node, and their slots stand in a
 * ring: however many there are, they do not fill each other's links nor a query's beam. Numbers of nodes that lost their
 * last row are given out again, the lowest first.
 *
 * Rows may be taken in while others search (kith_index_reserve), where rings and room were reserved: what a search reads is
 * atomic, or was written before what leads to it.
 *
 * Invariants, proved by the functions below:
 *   N1  every slot in use stands in exactly one ring, and rings in use are those of nodes in use
 *   N2  no two nodes have the same code and factors
 *   N3  codes are such as the codec can score; float32 rows are finite
 * Sections: "<prefix>" (record: nodes, used, rings, and what the graph adds), "<prefix>.first", "<prefix>.next" (where rings
 * are), "<prefix>.codes", "<prefix>.factors". */
#ifndef KI_INDEX_GRAPH_NODES_H
#define KI_INDEX_GRAPH_NODES_H

#include "index/graph_beam.h"
#include "index/rowcodes.h"

typedef struct ki_nodes {
    const ki_structure_env *env;
    ki_row_codes codes;    /* by node */
    _Atomic size_t n;      /* numbers given out, free ones between them included */
    size_t n_used;         /* nodes in use */
    size_t n_slots;        /* that node_of covers */
    size_t lowest_free;    /* no free node is below it */
    const uint32_t *first; /* [n] a slot of the node; KI_GRAPH_NONE: free */
    const uint32_t
        *next; /* [n_slots] the next slot of the same node, in a ring; NULL: every node has one slot */
    uint32_t *node_of;              /* [n_slots] KI_GRAPH_NONE: no row */
    uint32_t *own_first, *own_next; /* the same where they are ours, else NULL */
    uint32_t *prev;                 /* [n_slots] the ring backwards; exists with own_next */
    size_t room, slot_room;
    uint32_t *table; /* [table_size] nodes by the hash of their codes; NULL until a row is added */
    size_t table_size;
} ki_nodes;

void ki_nodes_init(ki_nodes *nodes, const ki_structure_env *env);
void ki_nodes_clear(ki_nodes *nodes);

/* No node is left; memory is kept, codes are zeroed. */
void ki_nodes_reset(ki_nodes *nodes);

/* A slot of a node, or KI_GRAPH_NONE; and the next in its ring. As searches read them. */
static inline uint32_t ki_nodes_first(const ki_nodes *nodes, uint32_t node)
{
    return ki_graph_load(&nodes->first[node]);
}
static inline uint32_t ki_nodes_next(const ki_nodes *nodes, uint32_t slot)
{
    return nodes->next ? ki_graph_load(&nodes->next[slot]) : slot;
}
static inline int ki_nodes_used(const ki_nodes *nodes, uint32_t node)
{
    return ki_nodes_first(nodes, node) != KI_GRAPH_NONE;
}
static inline const uint8_t *ki_nodes_code(const ki_nodes *nodes, uint32_t node)
{
    return ki_row_code(&nodes->codes, nodes->env->codec, node);
}

static inline const float *ki_nodes_factor(const ki_nodes *nodes, uint32_t node)
{
    return ki_row_factor(&nodes->codes, nodes->env->codec, node);
}

/* The scorer's query becomes a node's row. */
static inline void ki_nodes_ask(const ki_nodes *nodes, ki_scorer *scorer, uint32_t node)
{
    scorer->ops->row(scorer, ki_nodes_code(nodes, node), ki_nodes_factor(nodes, node), NULL);
}

/* Numbers that there may be after `rows` more rows. */
size_t ki_nodes_need(const ki_nodes *nodes, size_t rows);

/* Room for `rows` more rows, slots below n_slots. KITH_NOMEM, KITH_INVALID (too many): as before. */
kith_status ki_nodes_reserve(ki_nodes *nodes, size_t rows, size_t n_slots, kith_error *err);

/* Rings, also where no two rows are equal yet: after it ki_nodes_take does not fail. KITH_NOMEM. */
kith_status ki_nodes_reserve_rings(ki_nodes *nodes, kith_error *err);

/* Take a row in, after ki_nodes_reserve. *node: its node; *fresh: whether that is new. KITH_NOMEM. */
kith_status ki_nodes_take(ki_nodes *nodes, const uint8_t *code, const float *factor, uint32_t slot,
                          uint32_t *node, int *fresh, kith_error *err);

/* A slot leaves its node: the node if that was its last (it is free from now on, its code still there), or
 * KI_GRAPH_NONE. */
uint32_t ki_nodes_leave(ki_nodes *nodes, uint32_t slot);

/* Nothing of a free node stays: its code is zeroed, its number can be given out. Then, once for all: trim. */
void ki_nodes_erase(ki_nodes *nodes, uint32_t node);
void ki_nodes_trim(ki_nodes *nodes);

/* Slots from n_slots on do not exist any more (an add that failed). */
void ki_nodes_forget_slots(ki_nodes *nodes, size_t n_slots);

/* What a search offers. allowed: whether one of the rows of a node may be returned (a ki_beam_counts of a ki_nodes); offer:
 * offer them. */
int ki_nodes_allowed(const void *nodes, const ki_query *query, uint32_t node);
void ki_nodes_offer(const ki_nodes *nodes, ki_query *query, float dist, uint32_t node);

/* N1..N3. */
kith_status ki_nodes_check(const ki_nodes *nodes, const ki_rows *rows, kith_error *err);

/* save_record: into a record begun by the graph. load: the counts from the record, then arrays and codes, and N1. */
void ki_nodes_save_record(const ki_nodes *nodes, ki_record *record);
kith_status ki_nodes_save(const ki_nodes *nodes, const char *prefix, size_t n_slots, ki_store_writer *writer,
                          kith_error *err);
kith_status ki_nodes_load(ki_nodes *nodes, const char *prefix, ki_record_view *record, ki_store *store,
                          int mapped, const ki_rows *rows, kith_error *err);

/* What graphs prove of their links, in messages that begin with the name of the invariant. Of one row: names of nodes in use, not
 * of the node itself, used ones first, none of a free node; with seen[], bits of all nodes, all of them zero before and after: none
 * twice. And of a tree: that parents lead from every node to one that has none. KITH_CORRUPT, KITH_NOMEM. */
kith_status ki_nodes_prove_row(const ki_nodes *nodes, const ki_graph *graph, uint32_t node, uint64_t *seen,
                               const char *name, kith_error *err);
kith_status ki_nodes_prove_ways(const ki_nodes *nodes, const uint32_t *parent, const char *name,
                                kith_error *err);

/* A tree over the nodes of a graph: whoever has a parent is linked from it. */
typedef struct ki_graph_tree {
    const uint32_t *parent;
    const uint16_t *children; /* how many a node has */
    size_t most;              /* it may have */
} ki_graph_tree;

/* A node of the tree below (or at) `node` that has room for a child. fresh[n]: nodes that have parents, but are not linked
 * from them yet. */
uint32_t ki_graph_roomy(const ki_graph *graph, const ki_graph_tree *tree, uint32_t node,
                        const uint32_t *fresh, size_t n);

/* A section of n rows of `width` numbers: where they lie in the map, or a copy. */
kith_status ki_graph_load_array(const kith_allocator *allocator, ki_store *store, const char *name, size_t n,
                                size_t width, int mapped, uint32_t **own, const uint32_t **view,
                                kith_error *err);

/* An array of n rows of `width` numbers gets room for more. */
kith_status ki_graph_grow(const kith_allocator *allocator, uint32_t **array, const uint32_t **view, size_t n,
                          size_t room, size_t width, kith_error *err);

uint64_t ki_nodes_bytes(const ki_nodes *nodes);

#endif
