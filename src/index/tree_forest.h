/* tree_forest.h - forests of random trees: what RPForest and RKDForest share.
 *
 * Each tree cuts the rows in half at the median of some projection, then each half, until leaves hold leaf_size rows. Trees
 * differ by chance, so a neighbour that one of them cuts off is near the query in another. A query goes down all trees;
 * nodes that it passed by wait in one heap, the cheapest first, where the cost of a node is the sum of the squared
 * distances to the cuts on the other side of which it lies. Rows of the leaves reached are candidates, those in at
 * least `votes` leaves are compared. All that is approximate: a bound on the work ends the search, but not before k rows
 * were found where there are k.
 *
 * The trees of a part (tree_rows.h) are complete, so a tree is its cuts and an order of the part's positions:
 *
 *     nodes[trees][2^levels - 1][node_floats]    level by level; node_floats: the threshold, then what the family keeps
 *     order[trees][n]                            positions, counted from the part's first, leaf after leaf
 *
 * The rows themselves lie in the order of the first tree. */
#ifndef KI_INDEX_TREE_FOREST_H
#define KI_INDEX_TREE_FOREST_H

#include "base/rng.h"
#include "index/tree_rows.h"

typedef struct ki_forest ki_forest;

/* The rows of one node while a tree is built: row i is at position positions[local[i]]. */
typedef struct ki_forest_node {
    const ki_tree_rows *rows;
    const uint32_t *positions, *local;
    size_t n;
    float *scratch; /* [4][dim] of this thread; vector() uses the first */
    ki_rng *rng;
} ki_forest_node;

static inline const float *ki_forest_vector(const ki_forest_node *node, size_t i)
{
    return ki_tree_vector(node->rows, node->positions[node->local[i]], node->scratch);
}

typedef struct ki_forest_kind {
    const char *prefix; /* of sections */

    /* Floats of a cut with the threshold, which is the first, as the parameters now say; and whether a forest may have
     * cuts of so many (a parameter may have changed since its first part was built). */
    size_t (*node_floats)(const ki_structure_env *env);
    int (*fits)(const ki_structure_env *env, uint64_t node_floats);

    /* Choose the direction of a node's cut: cut[node_floats - 1]. */
    void (*choose)(const ki_forest *forest, const ki_forest_node *node, float *cut);

    /* Where x lies along that direction. */
    float (*project)(const ki_forest *forest, size_t tree, unsigned level, const float *cut, const float *x);

    /* Before trees of `levels` levels are built or read: make what they share. NULL: nothing. */
    kith_status (*ready)(ki_forest *forest, unsigned levels, kith_error *err);

    /* Whether a cut from a file may be used. NULL: any. */
    int (*sound)(const ki_forest *forest, const float *cut);
} ki_forest_kind;

struct ki_forest {
    ki_structure base;
    const ki_forest_kind *kind;
    ki_tree_rows rows;
    size_t trees, node_floats, leaf_size;
    const float *nodes; /* part by part */
    const uint32_t *order;
    float *own_nodes;
    uint32_t *own_order;
    size_t n_nodes, n_order;              /* elements: cuts, positions */
    size_t node_capacity, order_capacity; /* elements there is room for */
    void *shared;                         /* of the family, freed with the forest */
    unsigned shared_levels;
};

/* When a search may end. */
typedef struct ki_forest_budget {
    uint64_t leaves, rows; /* leaves reached, and rows in them, counted again in every tree */
    unsigned votes;        /* 1..255 */
} ki_forest_budget;

/* The vtable, but for create and search. leaf_size is read at each build: parameter 0 of both. */
kith_status ki_forest_create(const ki_structure_env *env, const ki_forest_kind *kind,
                             ki_structure **structure, kith_error *err);
void ki_forest_free(ki_structure *structure);
kith_status ki_forest_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                          uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err);
void ki_forest_remove(ki_structure *structure, const uint32_t *slots, size_t n);
void ki_forest_decode(const ki_structure *structure, uint32_t slot, float *out);
kith_status ki_forest_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err);
void ki_forest_scratch_free(const ki_structure *structure, ki_scratch *scratch);
kith_status ki_forest_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                              const double *settings, kith_error *err);
void ki_forest_search(const ki_forest *forest, ki_scratch *scratch, ki_query *query, ki_forest_budget budget);
kith_status ki_forest_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                           kith_error *err);
kith_status ki_forest_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                           kith_error *err);
kith_status ki_forest_check(const ki_structure *structure, const ki_rows *rows, kith_error *err);
uint64_t ki_forest_bytes(const ki_structure *structure);

#define KI_FOREST_OPS(create_fn, search_fn)                                                                 \
    {                                                                                                       \
        .create = create_fn, .free = ki_forest_free, .add = ki_forest_add, .remove = ki_forest_remove,      \
        .decode = ki_forest_decode, .scratch_create = ki_forest_scratch_create,                             \
        .scratch_free = ki_forest_scratch_free, .prepare = ki_forest_prepare, .search = search_fn,          \
        .save = ki_forest_save, .load = ki_forest_load, .check = ki_forest_check, .bytes = ki_forest_bytes, \
    }

#endif
