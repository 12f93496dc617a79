/* tree_exact.h - exact search by branch and bound: what the k-d tree and the ball tree share.
 *
 * Every node of a tree has a volume (a box, a ball) that holds its rows. A query descends into the nearer child
 * first; a node whose volume is farther than the worst of the k rows found so far, or than the radius, is left out
 * with all its rows. What the families add is the shape of the volume and how a node's rows are put in order before
 * they are cut in half.
 *
 * Equal to a flat scan, bit for bit. Rows are compared by the same kernel as in Flat, and a node is left out only if
 * no row of it can have a value that would enter. All values here are rounded, so the comparison has slack:
 *
 *     a kernel's value of a pair is at least  true x (1 - e) - tiny,   e = (dim + 8) 2^-23 covers it twice over
 *     a volume's value is at most             true distance to the volume x (1 + e) + tiny
 *     left out if                             volume's value > limit x (1 + 4 e) + 4 tiny
 *
 * Under COSINE rows lie on the unit sphere, where 1 - cos = |q - x|^2 / 2; volumes are those of L2 and the limit is
 * translated. Nothing is left out while the limit is so large that squares overflow.
 *
 * J. H. Friedman, J. L. Bentley, R. A. Finkel, "An algorithm for finding best matches in logarithmic expected time",
 * ACM TOMS 3(3), 1977; best-bin-first: J. S. Beis, D. G. Lowe, "Shape indexing using approximate nearest-neighbour
 * search in high-dimensional spaces", CVPR 1997. */
#ifndef KI_INDEX_TREE_EXACT_H
#define KI_INDEX_TREE_EXACT_H

#include "index/tree_rows.h"

typedef struct ki_exact_tree ki_exact_tree;

/* The rows of one node while a tree is built. */
typedef struct ki_exact_node {
    const ki_tree_rows *rows;
    const uint32_t *order; /* [n] positions */
    size_t n;
    float *scratch; /* [4][dim] of this thread */
} ki_exact_node;

/* What makes a tree a k-d tree or a ball tree. */
typedef struct ki_exact_kind {
    const char *prefix; /* of sections */
    size_t (*volume_floats)(size_t dim);

    /* The volume of a node's rows. */
    void (*volume)(const ki_exact_node *node, float *volume);

    /* key[n]: the node is cut at the median of these. */
    void (*keys)(const ki_exact_node *node, const float *volume, float *key);

    /* A lower bound of what the query's kernel gives for any row inside, less e; nodes are visited in its order, so it
     * may be negative to tell volumes that hold the query apart. norm: L1, or L2 squared. */
    float (*bound)(const float *query, const float *volume, size_t dim, int l1, const ki_kernels *kernels);

    /* Whether the volume holds a row, exactly as build saw it. */
    int (*holds)(const ki_tree_rows *rows, const float *volume, size_t position);
} ki_exact_kind;

/* The parameters, in the order of the tables of both. */
enum { KI_EXACT_LEAF_SIZE, KI_EXACT_MAX_LEAVES };

struct ki_exact_tree {
    ki_structure base;
    const ki_exact_kind *kind;
    ki_tree_rows rows;
    size_t floats;        /* of one volume */
    const float *volumes; /* [n_nodes][floats]; part by part, each level by level from its root */
    float *own_volumes;   /* the same where they are ours */
    size_t n_nodes, node_capacity;
};

/* (dim + 8) 2^-23: the relative slack of this header. */
static inline double ki_exact_slack(size_t dim)
{
    return ((double)dim + 8) * 0x1p-23;
}

/* The vtable, but for create. */
kith_status ki_exact_create(const ki_structure_env *env, const ki_exact_kind *kind, const char *name,
                            ki_structure **structure, kith_error *err);
void ki_exact_free(ki_structure *structure);
kith_status ki_exact_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                         uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err);
void ki_exact_remove(ki_structure *structure, const uint32_t *slots, size_t n);
void ki_exact_decode(const ki_structure *structure, uint32_t slot, float *out);
kith_status ki_exact_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err);
void ki_exact_scratch_free(const ki_structure *structure, ki_scratch *scratch);
kith_status ki_exact_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                             const double *settings, kith_error *err);
void ki_exact_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query);
kith_status ki_exact_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                          kith_error *err);
kith_status ki_exact_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                          kith_error *err);
kith_status ki_exact_check(const ki_structure *structure, const ki_rows *rows, kith_error *err);
uint64_t ki_exact_bytes(const ki_structure *structure);

#define KI_EXACT_OPS(create_fn)                                                                         \
    {                                                                                                   \
        .create = create_fn, .free = ki_exact_free, .add = ki_exact_add, .remove = ki_exact_remove,     \
        .decode = ki_exact_decode, .scratch_create = ki_exact_scratch_create,                           \
        .scratch_free = ki_exact_scratch_free, .prepare = ki_exact_prepare, .search = ki_exact_search,  \
        .save = ki_exact_save, .load = ki_exact_load, .check = ki_exact_check, .bytes = ki_exact_bytes, \
    }

#endif
