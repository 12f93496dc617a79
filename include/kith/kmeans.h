/* kmeans.h - Lloyd's k-means, and its spherical, mini-batch and balanced forms.
 *
 * S. P. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2), 1982; seeding: D. Arthur
 * and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; spherical: I. S. Dhillon and D. S. Modha,
 * "Concept decompositions for large sparse text data using clustering", Machine Learning 42, 2001; mini-batch: D. Sculley,
 * "Web-scale k-means clustering", WWW 2010, algorithm 1; balanced: cells that are too large are split and small ones are
 * given up, as in ISODATA (G. H. Ball and D. J. Hall, Stanford Research Institute, 1965).
 *
 * Choose k seeds; assign each point to its nearest centroid (ties: the lower index); move each centroid to
 * the mean of its points; stop when no point changes its centroid, or at the iteration limit. A centroid that
 * lost all points takes half of the largest cluster. The objective never rises from one iteration to the
 * next, but for such splits, which may raise it by a ten-thousandth. Deterministic with any number of
 * threads.
 */
#ifndef KITH_KMEANS_H
#define KITH_KMEANS_H

#include <kith/run.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kith_kmeans_init {
    KITH_KMEANS_RANDOM = 0,  /* k distinct points */
    KITH_KMEANS_PLUSPLUS = 1 /* each next seed with probability proportional to its squared distance to the
                              * nearest seed so far; costs about one iteration more */
} kith_kmeans_init;

typedef struct kith_kmeans_options {
    size_t struct_size;
    kith_kmeans_init init;
    size_t max_iterations;          /* 1.. */
    size_t max_points_per_centroid; /* train on a random sample of at most this many points x k; 0: on all */
    uint64_t seed;
    const float *start; /* [k][dim] to start from instead of seeding, or NULL */
    /* Told after each iteration: its number from 1 and the objective, the sum of squared distances of the
     * (sampled) points to their centroids at the assignment. NULL: silent. */
    void (*iteration)(void *ctx, size_t number, double objective);
    void *iteration_ctx;
    const kith_allocator *allocator;
    /* Centroids are scaled to unit length: for points of unit length that are compared by cosine. The objective is the same,
     * and for such points it is the sum of 2 - 2 cos. */
    int spherical;
    /* Mini-batch: each iteration looks at this many points only, drawn at random, and centroids move towards them by a
     * rate that falls with the number of points that each has seen. Some per cent worse than Lloyd for a small part of
     * the work, where points are many. 0: off. iteration() is told the batch's objective times points / batch. */
    size_t mini_batch;
    /* Balanced: when training has ended, cells are split and others given up until no centroid is the nearest of more than
     * max_cell * points / k (1 .. 1e6; 2 is reached easily, below 1.5 hardly ever). Two things may stand in the way,
     * and result.largest tells: points that are equal cannot be parted; and after 64 rounds it ends with the best so far.
     * 0: off. */
    double max_cell;
} kith_kmeans_options;

static inline void kith_kmeans_options_init(kith_kmeans_options *options)
{
    options->struct_size = sizeof *options;
    options->init = KITH_KMEANS_RANDOM;
    options->max_iterations = 25;
    options->max_points_per_centroid = 256;
    options->seed = 1;
    options->start = NULL;
    options->iteration = NULL;
    options->iteration_ctx = NULL;
    options->allocator = NULL;
    options->spherical = 0;
    options->mini_batch = 0;
    options->max_cell = 0;
}

typedef struct kith_kmeans_result {
    size_t iterations;
    int converged;      /* 1: the last iteration changed no assignment */
    double objective;   /* sum of squared distances at the last assignment, over the points trained on */
    size_t points_used; /* n, or the size of the sample */
    size_t splits;      /* how often an empty cluster took half of another */
    size_t
        largest; /* points of the largest cell at the last assignment, which is the final one with max_cell; mini-batch
                     * without max_cell: not known, 0 */
    size_t moved; /* centroids given up and put into cells that were too large (max_cell) */
} kith_kmeans_result;

/* Train k centroids.
 * In:       x[n][dim], finite; 1 <= k <= n; options NULL for the defaults.
 * Out:      centroids[k][dim]; result may be NULL.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_CANCELLED; centroids are then undefined.
 * Threads:  the pool of run; the result is the same with any number. run's stages: "seeding" (k-means++),
 *           "training", counted in points x iterations.
 * Memory:   two uint32 and one float a point, the centroids three times, a copy of the sample where one is
 *           taken; from 48 components and 256 centroids on, up to half of the points again, for a bound, or a byte a
 *           component of the centroids; from 64 centroids on and up to 16 components, 2 bytes a component (of an even
 *           number) and 8 a point, with AVX-512 VNNI. Mini-batch: a copy of the batch instead. max_cell: two uint32
 *           and a float a point, the points of the cells being split.
 * Cost:     iterations x points x k x dim multiply-adds at most; a third of it or less where a few directions
 *           hold most of the variance, as in most features, or the CPU multiplies bytes (AVX-512 with VNNI);
 *           two thirds of the time for few components there.
 *           Mini-batch: the batch instead of the points. max_cell: one
 *           assignment more, and for each round the points times the centroids that were put elsewhere. */
KITH_API kith_status kith_kmeans_train(const float *x, size_t n, size_t dim, size_t k,
                                       const kith_kmeans_options *options, const kith_run *run,
                                       float *centroids, kith_kmeans_result *result, kith_error *err);

/* The nearest centroid of each point.
 * In:       x[n][dim], centroids[k][dim].
 * Out:      assign[n] (ties: the lower index); dist[n] squared distances, may be NULL.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_CANCELLED. */
KITH_API kith_status kith_kmeans_assign(const float *x, size_t n, size_t dim, const float *centroids,
                                        size_t k, const kith_allocator *allocator, const kith_run *run,
                                        uint32_t *assign, float *dist, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
