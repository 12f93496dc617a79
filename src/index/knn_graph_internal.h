/* knn_graph_internal.h - what the files that make k-NN graphs share; the essay is in knn_graph.c. */
#ifndef KI_INDEX_KNN_GRAPH_INTERNAL_H
#define KI_INDEX_KNN_GRAPH_INTERNAL_H

#include <stdatomic.h>

#include "index/knn_graph.h"

#define KI_KNN_WIDE (KI_KNN_MAX + KI_KNN_MAX / 2) /* entries of a list at most */

/* In the node of a list: it came in since the last round. */
#define KI_KNN_NEW (UINT32_C(1) << 31)

/* Rows are renumbered in the order of the first tree, so that neighbours lie close to each other: their number is their
 * position. */
typedef struct ki_knn {
    const kith_allocator *allocator;
    const ki_kernels *kernels;
    ki_knn_options options;
    size_t n, dim, k;
    float *rows;      /* [n][dim] by position */
    uint32_t *number; /* [n] which row stands at a position */
    ki_near *near;    /* [n][k] by position, sorted */
    atomic_flag *locks;
    _Atomic float *worst; /* [n] the last distance of each list, to be read without its lock */
    const kith_run *run;
    size_t threads;
    _Atomic uint64_t distances;
} ki_knn;

static inline const float *ki_knn_row(const ki_knn *g, size_t at)
{
    return g->rows + at * g->dim;
}
static inline ki_near *ki_knn_list(const ki_knn *g, size_t at)
{
    return g->near + at * g->k;
}

/* The order of a list: by distance, then by number. */
static inline int ki_knn_before(float da, uint32_t a, float db, uint32_t b)
{
    return da < db || (da == db && (a & ~KI_KNN_NEW) < (b & ~KI_KNN_NEW));
}

/* Put an entry where it belongs unless it stands there; the last falls out. */
static inline void ki_knn_insert(ki_near *list, size_t k, float dist, uint32_t node)
{
    size_t i = k;
    while (i > 0 && ki_knn_before(dist, node, list[i - 1].dist, list[i - 1].node)) i--;
    if (i == k || (i > 0 && ((list[i - 1].node ^ node) & ~KI_KNN_NEW) == 0)) return;
    for (size_t j = k - 1; j > i; j--) list[j] = list[j - 1];
    list[i] = (ki_near){dist, node};
}

/* knn_partition.c: order rows by a random tree, and join its leaves. order[n]: a permutation of the positions, cut into the
 * leaves at bounds[0..*leaves]; x[n][dim] are rows by position. */
kith_status ki_knn_tree(const ki_knn *g, const float *x, size_t tree, uint32_t *order, uint32_t *bounds,
                        size_t *leaves, kith_error *err);
size_t ki_knn_leaves(const ki_knn *g); /* of every tree */
kith_status ki_knn_join_leaves(ki_knn *g, const uint32_t *order, const uint32_t *bounds, size_t leaves,
                               kith_error *err);

/* knn_descent.c: rounds of local joins. */
kith_status ki_knn_descend(ki_knn *g, size_t *rounds, kith_error *err);

#endif
