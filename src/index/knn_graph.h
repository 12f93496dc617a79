/* knn_graph.h - the k nearest neighbours of every row of a set, nearly all of them, in far less than n^2 distances.
 *
 * W. Dong, C. Moses, K. Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", WWW 2011: a
 * neighbour of a neighbour is likely a neighbour. Where graphs of other kinds begin (NSG, Vamana), and an output of its
 * own (kith/knng.h). How it is done, and how it differs from the paper, stands in knn_graph.c. */
#ifndef KI_INDEX_KNN_GRAPH_H
#define KI_INDEX_KNN_GRAPH_H

#include "index/family.h"
#include "index/graph_beam.h"

#define KI_KNN_MAX 256 /* neighbours of a row at most */

typedef struct ki_knn_options {
    size_t k;           /* neighbours of a row, 1..KI_KNN_MAX */
    kith_metric metric; /* L2SQ, DOT or L1 */
    size_t spare;       /* this many more are kept while it is made, 0..KI_KNN_MAX / 2: they lead to others */
    size_t trees;       /* random partitions to begin with, 1.. */
    size_t leaf;        /* rows that are all compared with each other, at most; more than k */
    size_t rounds;      /* of local joins at most; 0: none */
    size_t sample; /* neighbours of a row, and rows it is a neighbour of, that a round takes at most; 0: k */
    double delta;  /* a round that changes at most this share of all neighbours is the last */
    uint64_t seed;
} ki_knn_options;

/* The defaults for k neighbours: what reaches a recall of 0.95 on sift1m with k = 20. */
void ki_knn_options_init(ki_knn_options *options, size_t k, kith_metric metric, uint64_t seed);

/* How it went. */
typedef struct ki_knn_result {
    size_t rounds;
    uint64_t distances;
} ki_knn_result;

/* Make the graph.
 * In:       n rows of the input: those that pick[n] numbers, or all of them (pick NULL). Of unit length where input->unit
 *           says so. n at most KI_GRAPH_NODES.
 * Out:      near[n][k]: the neighbours of row i, by their place among the n, nearest first, ties by the lower number,
 *           the row itself left out. Where there are fewer than k: (INFINITY, KI_GRAPH_NONE). result may be NULL.
 * Errors:   KITH_NOMEM, KITH_CANCELLED.
 * Threads:  the pool of run (stages "partitioning", "joining"); the same result with any number.
 * Memory:   a copy of the rows in float32, and some 28 (k + spare) bytes a row.
 * Cost:     trees * leaf distances a row by matrix products, then some 4 sample^2 a row and round. */
kith_status ki_knn_graph(const ki_input *input, const uint32_t *pick, size_t n, const ki_knn_options *options,
                         const kith_allocator *allocator, const kith_run *run, ki_near *near,
                         ki_knn_result *result, kith_error *err);

#endif
