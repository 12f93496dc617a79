/* kmeans_internal.h - what the files of src/cluster share: the nearest centroid of many points, and the seeds. */
#ifndef KI_CLUSTER_KMEANS_INTERNAL_H
#define KI_CLUSTER_KMEANS_INTERNAL_H

#include <kith/kmeans.h>

#include "base/run.h"
#include "math/product.h"
#include "math/sieve.h"
#include "simd/kernels.h"

/* The arguments that training and assigning share; whether rows are finite (`name` is the argument's). KITH_INVALID. */
kith_status ki_kmeans_check(const float *x, size_t n, size_t dim, const float *centroids, size_t k,
                            kith_error *err);
kith_status ki_kmeans_check_finite(const float *rows, size_t n, size_t dim, const char *name,
                                   kith_error *err);

/* Scale centroid number j to unit length; one of zeros becomes a unit vector, or it would be near to everything. */
void ki_kmeans_scale(float *centroid, size_t dim, size_t j);

/* Mini-batch k-means from centroids[k][dim], which are the seeds; arguments are checked. See kmeans_batch.c. */
kith_status ki_kmeans_batches(const float *x, size_t n, size_t dim, size_t k,
                              const kith_kmeans_options *options, const kith_run *run, float *centroids,
                              kith_kmeans_result *result, kith_error *err);

/* Centroids made ready for being searched; read-only while they are. */
typedef struct ki_nearest {
    const kith_allocator *allocator;
    const ki_kernels *kernels; /* one table for the life of an operation */
    size_t dim, k;
    const float *centroids; /* [k][dim], the caller's */
    float *w;               /* [k][dim]: see kmeans_nearest.c */
    float *bias;            /* [k] */
    double *middle;         /* [2][dim]: scratch */
    ki_packed *packed;      /* w and bias, for the product */
} ki_nearest;

/* Allocate for k centroids. ki_nearest_clear is allowed after a failure. */
kith_status ki_nearest_init(ki_nearest *nearest, size_t dim, size_t k, const kith_allocator *allocator,
                            kith_error *err);
void ki_nearest_clear(ki_nearest *nearest);

/* Take centroids[k][dim]; they must live and stay as they are while searched. */
void ki_nearest_set(ki_nearest *nearest, const float *centroids);

/* The nearest centroid of each of x[n][dim] (ties: the lower index), into which[n]. KITH_NOMEM. */
kith_status ki_nearest_find(const ki_nearest *nearest, const float *x, size_t n, uint32_t *which);

/* The coefficients of ki_nearest for packing them elsewhere: argmin of bias[j] + x . w[j] is the nearest
 * centroid. Out: w[k][dim], bias[k]; middle[2][dim], of which the first [dim] is the point that they are written
 * around: bias[j] + x . w[j] = |x - c[j]|^2 - |x - middle|^2. */
void ki_nearest_form(const float *centroids, size_t k, size_t dim, double *middle, float *w, float *bias);

/* How many points one block of parallel work takes: a function of the shape alone. */
size_t ki_nearest_block(size_t dim, size_t k);

/* ---- The same answer by a bound that spares most of the product: see kmeans_bound.c ---- */

/* A map of vectors into fewer components that never makes a distance longer. Read-only once made. */
typedef struct ki_map ki_map;

/* Learn it from x[n][dim], for points like these against k centroids.
 * Out:      *map; NULL when it would not pay: small shapes, no directions to prefer.
 * Errors:   KITH_NOMEM. */
kith_status ki_map_create(const float *x, size_t n, size_t dim, size_t k, uint64_t seed,
                          const kith_allocator *allocator, ki_map **map, kith_error *err);
void ki_map_free(ki_map *map);
size_t ki_map_depth(const ki_map *map);

/* x[n][dim] to e[n][depth], on this thread with scratch[ki_map_scratch], or on the pool of run.
 * KITH_NOMEM, KITH_CANCELLED. */
size_t ki_map_scratch(const ki_map *map);
kith_status ki_map_rows(const ki_map *map, const float *x, size_t n, float *scratch, float *e);
kith_status ki_map_all(const ki_map *map, const float *x, size_t n, const kith_run *run, float *e,
                       kith_error *err);

/* Centroids in the map, which must outlive it. Read-only while searched. */
typedef struct ki_filter ki_filter;
kith_status ki_filter_create(const ki_map *map, size_t k, ki_filter **filter, kith_error *err);
void ki_filter_free(ki_filter *filter);

/* Take centroids[k][dim], as ki_nearest_set. KITH_NOMEM. */
kith_status ki_filter_set(ki_filter *filter, const float *centroids, kith_error *err);

/* For points e[n] of the map: the centroid that is nearest in the map, a good first guess. KITH_NOMEM. */
kith_status ki_filter_guess(const ki_filter *filter, const float *e, size_t n, uint32_t *assign);

/* Points x[n][dim] with e[n][depth]. In: assign[n], of each any centroid, the nearer the better. Out: the nearest
 * (ties: the lower index), dist[n], and how many other centroids were looked at. limit[n] is scratch. KITH_NOMEM. */
kith_status ki_filter_find(const ki_filter *filter, const float *x, const float *e, size_t n,
                           uint32_t *assign, float *dist, float *limit, size_t *looked_at);

/* ---- The same answer for few components, by products of whole numbers: see kmeans_grid.c ---- */

#define KI_GRID_ROWS 48 /* points of a block */

/* Points on a grid, and centroids that change. Read-only while searched. */
typedef struct ki_grid ki_grid;

/* Put x[n][dim], finite, on a grid, to be searched against k centroids. They must live and stay as they are.
 * Out:      *grid; NULL when it would not pay: other shapes, other CPUs, points that are all the same, or of sizes whose squares
 *           leave float32.
 * Errors:   KITH_NOMEM, KITH_CANCELLED.
 * Threads:  the pool of run.
 * Memory:   2 bytes a component, of an even number, and 8 a point. */
kith_status ki_grid_create(const float *x, size_t n, size_t dim, size_t k, const kith_allocator *allocator,
                           const kith_run *run, ki_grid **grid, kith_error *err);
void ki_grid_free(ki_grid *grid); /* NULL is allowed */

/* Take centroids[k][dim]. */
void ki_grid_set(ki_grid *grid, const float *centroids);

/* The nearest centroid (ties: the lower index) of the points first, first + 1, ..., n of them, and its distance; `first` is a multiple of
 * KI_GRID_ROWS. *unsure: how many took the long way, past all centroids. */
void ki_grid_find(const ki_grid *grid, size_t first, size_t n, uint32_t *index, float *dist, size_t *unsure);

/* The seeds of k-means: centroids[k][dim] from x[n][dim]. distance[n] is scratch. */
kith_status ki_kmeans_seed(const float *x, size_t n, size_t dim, size_t k, kith_kmeans_init init,
                           uint64_t seed, const kith_allocator *allocator, const kith_run *run,
                           float *centroids, float *distance, kith_error *err);

#endif
