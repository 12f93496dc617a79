/* knng.h - the k-nearest-neighbour graph: of every row of a set, the k other rows that are nearest to it.
 *
 * W. Dong, C. Moses, K. Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", WWW 2011,
 * started from the leaves of random trees instead of random neighbours. For clustering, layouts (t-SNE, UMAP), finding near
 * duplicates and outliers, and as the beginning of search graphs.
 *
 * When to use: from some ten thousand rows on; nearly all true neighbours at a small part of n^2 distances. When not: for a few
 * thousand rows, or when every neighbour must be right, search a Flat index with the rows as queries. In very many
 * dimensions without structure (uniform random vectors) it finds less.
 */
#ifndef KITH_KNNG_H
#define KITH_KNNG_H

#include <kith/metric.h>
#include <kith/run.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KITH_KNNG_MAX_K 256

typedef struct kith_knng_options {
    size_t struct_size;
    kith_metric metric; /* L2SQ, DOT, COSINE or L1 */
    size_t trees;       /* random partitions to begin with, 1..256: more is slower and better */
    /* rows that are all compared with each other, 0 or 2k+2..65536; 0: 512, or 4 k if that is more */
    size_t leaf;
    size_t rounds; /* of joining neighbours at most, 0..100 */
    double delta;  /* 0..1: a round that changes at most this share of all neighbours is the last */
    uint64_t seed;
    const kith_allocator *allocator;
} kith_knng_options;

static inline void kith_knng_options_init(kith_knng_options *options)
{
    options->struct_size = sizeof *options;
    options->metric = KITH_L2SQ;
    options->trees = 4;
    options->leaf = 0;
    options->rounds = 10;
    options->delta = 0.002;
    options->seed = 1;
    options->allocator = NULL;
}

typedef struct kith_knng_result {
    size_t rounds;      /* that were made */
    uint64_t distances; /* that the partitions computed */
} kith_knng_result;

/* Make the graph.
 * In:       x[n][dim], row-major, finite; n >= 1; k 1..KITH_KNNG_MAX_K; options NULL for the defaults.
 * Out:      ids[n][k]: the rows nearest to row i, nearest first, ties by the lower number, the row itself left out (a row that
 *           equals it is not); distances[n][k] in the units of the metric, or NULL. With fewer than k other rows
 *           the tail is UINT64_MAX and +INFINITY. result may be NULL.
 * Errors:   KITH_INVALID, KITH_UNSUPPORTED (another metric), KITH_NOMEM, KITH_CANCELLED; outputs are then undefined.
 * Threads:  the pool of run (stages "partitioning", "joining"); the result is the same with any number.
 * Memory:   a copy of x, and some 36 k bytes a row.
 * Cost:     trees * leaf distances a row, by matrix products, then up to 4 k^2 a row for each round: a million rows of 128
 *           components, k = 20, in about two minutes of one core. */
KITH_API kith_status kith_knng(const float *x, size_t n, size_t dim, size_t k,
                               const kith_knng_options *options, const kith_run *run, uint64_t *ids,
                               float *distances, kith_knng_result *result, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
