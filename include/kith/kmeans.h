/* kmeans.h - Lloyd's k-means.
 *
 * S. P. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2), 1982; seeding: D. Arthur
 * and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
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
}

typedef struct kith_kmeans_result {
    size_t iterations;
    int converged;      /* 1: the last iteration changed no assignment */
    double objective;   /* sum of squared distances at the last assignment, over the points trained on */
    size_t points_used; /* n, or the size of the sample */
    size_t splits;      /* how often an empty cluster took half of another */
} kith_kmeans_result;

/* Train k centroids.
 * In:       x[n][dim], finite; 1 <= k <= n; options NULL for the defaults.
 * Out:      centroids[k][dim]; result may be NULL.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_CANCELLED; centroids are then undefined.
 * Threads:  the pool of run; the result is the same with any number. run's stages: "seeding" (k-means++),
 *           "training", counted in points x iterations.
 * Memory:   two uint32 and one float a point, the centroids three times, a copy of the sample where one is
 *           taken; from 48 components and 256 centroids on, up to half of the points again, for a bound.
 * Cost:     iterations x points x k x dim multiply-adds at most; a third of it or less where a few directions
 *           hold most of the variance, as in most features. */
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
