/* kmajority.h - k-means over rows of bits: centroids are bits, distances count those that differ.
 *
 * C. Grana, D. Borghesani, M. Manfredi, R. Cucchiara, "A fast approach for integrating ORB descriptors in the bag of words
 * model", SPIE 8667, 2013 ("k-majority"): Lloyd's algorithm where the new centroid of a cell has each bit that most of
 * its rows have. That is the point with the least sum of Hamming distances to them, so the objective never rises, as
 * with k-means; a cell that lost all its rows takes the row of the largest cell that is farthest from its centroid.
 * Deterministic with any number of threads. */
#ifndef KI_CLUSTER_KMAJORITY_H
#define KI_CLUSTER_KMAJORITY_H

#include <kith/run.h>

#include "simd/kernels.h"

/* Rows and centroids of `bytes` bytes each. */
typedef struct ki_kmajority {
    const kith_allocator *allocator;
    const ki_kernels *kernels;
    size_t bytes, k;
} ki_kmajority;

/* Learn from x[n][bytes], n >= k, starting from k random rows, until nothing moves, `iterations` at the most.
 * Out:      centroids[k][bytes]; *objective (may be NULL): the sum of distances at the last assignment.
 * Errors:   KITH_NOMEM, KITH_CANCELLED; centroids are then undefined.
 * Cost:     iterations x n x k x bytes. */
kith_status ki_kmajority_train(const ki_kmajority *how, const uint8_t *x, size_t n, size_t iterations,
                               uint64_t seed, const kith_run *run, uint8_t *centroids, uint64_t *objective,
                               kith_error *err);

/* The nearest centroid of each row (ties: the lower number), into cell[n]; dist[n] may be NULL. On the pool of run; when
 * its cancel flag is up rows are left out. */
void ki_kmajority_assign(const ki_kmajority *how, const uint8_t *x, size_t n, const uint8_t *centroids,
                         const kith_run *run, uint32_t *cell, uint32_t *dist);

#endif
