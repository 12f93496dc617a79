/* kmeans_balance.h - centroids moved until no cell is too large: the last step of balanced k-means (kmeans_balance.c). */
#ifndef KI_CLUSTER_KMEANS_BALANCE_H
#define KI_CLUSTER_KMEANS_BALANCE_H

#include <kith/kmeans.h>

/* Points x[n][dim] and centroids[k][dim] that were trained on them, or otherwise. options: allocator, seed, spherical and
 * max_cell, which is not 0, are looked at. result: largest and objective are set, moved is added to.
 * Errors:   KITH_NOMEM, KITH_CANCELLED; centroids are then undefined. */
kith_status ki_kmeans_balance(const float *x, size_t n, size_t dim, size_t k,
                              const kith_kmeans_options *options, const kith_run *run, float *centroids,
                              kith_kmeans_result *result, kith_error *err);

#endif
