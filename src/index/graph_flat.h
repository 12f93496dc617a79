/* graph_flat.h - search graphs of one level: what NSG, Vamana, NSW and NNDescent share.
 *
 * A graph whose nodes (graph_nodes.h) have up to `degree` links each, and an entry from which every node can be reached. What
 * a family decides: how a graph is made of many rows at once, which of its candidates become a row's links, where
 * walks begin. All else is here: adding in batches, removal with repair, search with filters and radius, files, proof.
 *
 * Rows that come later are searched for, pruned, and linked back, batch by batch, as in FreshDiskANN (Singh et al. 2021, Alg. 2)
 * and HNSW: the rows of a batch search the graph as it was before it, on all threads, and take the earlier rows of their batch
 * as further candidates; so the outcome does not depend on the number of threads.
 *
 * A tree keeps every node within reach: each but the entry has a parent that links to it, at most half of a node's links lead
 * to children, and no selection may drop those. NSG repairs connectivity by such a tree once (Fu et al. 2019, Alg. 2, lines
 * 19 to 26); here it lives on through every change.
 *
 * Invariants beside N1..N3 of graph_nodes.h:
 *   G1  links name nodes in use, not the node itself, none twice; used ones come first; free nodes have none
 *   G2  the entry is in use and has no parent; every other node in use has one in use that links to it; no node has more than
 *       degree / 2 children; parents lead to the entry: so every node is reachable from it
 *
 * Layout, by node number:    links [n][degree], ends with NONE      parent [n]      and what graph_nodes.h keeps
 * Sections: "<prefix>" (record: nodes, used, rings, entry), "<prefix>.links", "<prefix>.parents", and those of graph_nodes.h. */
#ifndef KI_INDEX_GRAPH_FLAT_H
#define KI_INDEX_GRAPH_FLAT_H

#include "index/graph_answer.h"
#include "index/graph_prune.h"

/* The parameters that all have, first in the tables. */
enum { KI_FLAT_EF, KI_FLAT_EF_CONSTRUCTION, KI_FLAT_STARTS, KI_FLAT_PARAMS };

#define KI_FLAT_PARAM_EF                                                                          \
    {                                                                                             \
        "ef", KITH_PARAM_INT, KITH_AT_SEARCH, 1, 1 << 20, 64,                                     \
            "nearest nodes that a walk keeps (never fewer than k); more is slower and finds more" \
    }
#define KI_FLAT_PARAM_EF_CONSTRUCTION(usual)                               \
    {                                                                      \
        "ef_construction", KITH_PARAM_INT, KITH_AT_BUILD, 8, 4096, usual,  \
            "the same while rows are added; more builds slower and better" \
    }

#define KI_FLAT_PARAM_STARTS(usual)                                                                  \
    {                                                                                                \
        "starts", KITH_PARAM_INT, KITH_AT_SEARCH, 1, 4096, usual,                                    \
            "rows that walks begin at, all but the first drawn at random; more for data in clusters" \
    }

typedef struct ki_flat ki_flat;
typedef struct ki_flat_remover ki_flat_remover;

/* A new graph out of many rows: what bulk works on. */
typedef struct ki_flat_bulk {
    ki_flat *graph;
    const ki_input *input;
    const uint32_t *pick; /* [n] the row of the input that node i is of */
    size_t n;             /* nodes 0..n-1, numbered and encoded; links empty */
    const kith_run *run;
} ki_flat_bulk;

typedef struct ki_flat_kind {
    const char *prefix; /* of sections */
    size_t links;       /* a node has at most so many times the number of the spec */
    size_t chosen;      /* a new row chooses at most so many times that; the rest is for links back */
    int diversify;      /* links are chosen by graph_prune.h, else the nearest are */
    size_t alpha;       /* the parameter that is the alpha of pruning; 0: it is 1 */
    /* Walks begin at the entry and at `starts` - 1 nodes drawn from the seed. apart: one walk after the other, each going on with
     * what the one before found (Malkov et al. 2014), else one walk from all. */
    int apart;
    /* Make links of all nodes of a new graph: own_links, entry. The tree is made afterwards. NULL: rows are added as ever. */
    kith_status (*bulk)(const ki_flat_bulk *bulk, kith_error *err);
} ki_flat_kind;

struct ki_flat {
    ki_structure base;
    const ki_flat_kind *kind;
    ki_nodes nodes;
    size_t degree;                    /* links of a node at most */
    size_t chosen;                    /* of a new row */
    uint32_t entry;                   /* KI_GRAPH_NONE in an empty graph */
    const uint32_t *links;            /* [n][degree] */
    const uint32_t *parent;           /* [n] KI_GRAPH_NONE: the entry, or a free node */
    uint32_t *own_links, *own_parent; /* the same where they are ours, else NULL */
    uint16_t *children;               /* [n] in the tree */
    size_t room;
    ki_flat_remover *remover; /* between prepare_remove and remove */
};

static inline ki_graph ki_flat_graph(const ki_flat *g)
{
    return (ki_graph){g->links, g->degree, NULL, 0};
}
static inline uint32_t *ki_flat_row(ki_flat *g, uint32_t node)
{
    return g->own_links + (size_t)node * g->degree;
}
static inline size_t ki_flat_children(const ki_flat *g)
{
    return g->degree / 2;
}

/* What a thread needs to choose links. */
typedef struct ki_flat_worker {
    ki_scorer *query, *pair; /* of the row whose links are chosen; of stored rows among themselves */
    ki_beam beam;
    ki_near *near; /* [room] candidates */
    ki_near *trace;
    uint8_t *must;  /* [room] */
    float *dist;    /* [room] */
    uint32_t *node; /* [room] */
    size_t room;
} ki_flat_worker;

#define KI_FLAT_TRACE 256 /* expanded nodes that are candidates beside the beam, at most */

kith_status ki_flat_workers(const ki_flat *g, size_t nodes, size_t ef, size_t more, size_t n,
                            ki_flat_worker **workers, kith_error *err);
void ki_flat_workers_free(const ki_flat *g, ki_flat_worker *workers, size_t n);

/* The links of a node out of the worker's near[n], which is sorted here (must, if given, along with it): links[degree], at
 * most limit. fill: with the nearest of those that pruning left out. */
size_t ki_flat_select(const ki_flat *g, ki_flat_worker *w, size_t n, uint8_t *must, size_t limit, int fill,
                      uint32_t *links);

/* Walk towards what the worker's (or searcher's) scorer was asked for, in any graph over the nodes of g: the beam is left
 * filled. draw: 0; while a new graph is made another number for each walk, for rows of its own to begin at. */
void ki_flat_walk(const ki_flat *g, const ki_graph *graph, ki_beam *beam, ki_scorer *scorer, size_t ef,
                  size_t starts, uint64_t draw, ki_query *query, int two_hop);

/* Links of a node that has no room for those of new[n]: the best of all. Edges to children stay. */
void ki_flat_reselect(ki_flat *g, ki_flat_worker *w, uint32_t node, const uint32_t *fresh, size_t n);

/* A node of the tree below (or at) `node` that has room for a child. fresh[n]: nodes that have parents, but are not linked
 * from them yet. */
uint32_t ki_flat_roomy(const ki_flat *g, uint32_t node, const uint32_t *fresh, size_t n);

/* Make a link exist; where there is no room, the farthest that leads to no child gives way. gone: bits of nodes that give way
 * first, or NULL. */
void ki_flat_link(ki_flat *g, ki_scorer *scorer, uint32_t from, uint32_t to, const uint64_t *gone);

/* graph_flat_bulk.c: the links of all nodes out of a k-NN graph of k neighbours: those themselves; or, for each node, the choice
 * among what a walk towards it meets, as NSG and Vamana have it. Both with links back, and the node nearest to the mean
 * as the entry. */
kith_status ki_flat_bulk_nearest(const ki_flat_bulk *bulk, size_t k, kith_error *err);
kith_status ki_flat_bulk_refined(const ki_flat_bulk *bulk, size_t k, kith_error *err);

/* The tree of a new graph, from its entry. */
kith_status ki_flat_grow_tree(const ki_flat_bulk *bulk, kith_error *err);

/* Back to an empty graph; memory is kept. */
void ki_flat_reset(ki_flat *g);

/* Take slots out, between prepare_remove and remover_free (slots NULL: first_slot, first_slot + 1, ...). */
void ki_flat_drop(ki_flat *g, const uint32_t *slots, uint32_t first_slot, size_t n);
void ki_flat_remover_free(ki_flat *g);

/* The vtable, but for create. */
kith_status ki_flat_create(const ki_structure_env *env, const ki_flat_kind *kind, ki_structure **structure,
                           kith_error *err);
void ki_flat_free(ki_structure *structure);
kith_status ki_flat_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                        uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err);
kith_status ki_flat_prepare_remove(ki_structure *structure, const ki_rows *rows, kith_error *err);
void ki_flat_remove(ki_structure *structure, const uint32_t *slots, size_t n);
void ki_flat_decode(const ki_structure *structure, uint32_t slot, float *out);
kith_status ki_flat_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                            const double *settings, kith_error *err);
void ki_flat_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query);
kith_status ki_flat_next(const ki_structure *structure, ki_scratch *scratch, ki_query *query, size_t n,
                         int anew, kith_error *err);
kith_status ki_flat_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                         kith_error *err);
kith_status ki_flat_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                         kith_error *err);
kith_status ki_flat_check(const ki_structure *structure, const ki_rows *rows, kith_error *err);
uint64_t ki_flat_bytes(const ki_structure *structure);

#define KI_FLAT_OPS(create_fn)                                                                            \
    {                                                                                                     \
        .create = create_fn, .free = ki_flat_free, .add = ki_flat_add,                                    \
        .prepare_remove = ki_flat_prepare_remove, .remove = ki_flat_remove, .decode = ki_flat_decode,     \
        .scratch_create = ki_answer_scratch_create, .scratch_free = ki_answer_scratch_free,               \
        .prepare = ki_flat_prepare, .search = ki_flat_search, .next = ki_flat_next, .save = ki_flat_save, \
        .load = ki_flat_load, .check = ki_flat_check, .bytes = ki_flat_bytes,                             \
    }

#endif
