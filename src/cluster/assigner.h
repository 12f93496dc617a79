/* assigner.h - the nearest of many centroids for batches of points: filing rows into cells. */
#ifndef KI_CLUSTER_ASSIGNER_H
#define KI_CLUSTER_ASSIGNER_H

#include <kith/run.h>

typedef struct ki_assigner ki_assigner;

/* In:       centroids[k][dim], finite, which must live and stay; rows: about how many points will come, which decides
 *           what preparation is worth.
 * Out:      *assigner, NULL on failure.
 * Errors:   KITH_NOMEM; KITH_INVALID for more than 2^32 - 32 centroids. */
kith_status ki_assigner_create(const float *centroids, size_t k, size_t dim, size_t rows,
                               const kith_allocator *allocator, ki_assigner **assigner, kith_error *err);
void ki_assigner_free(ki_assigner *assigner); /* NULL is allowed */

/* In:       x[n][dim], finite; run: its pool and its cancel.
 * Out:      assign[n], the nearest centroid (ties: the lower index); dist[n], squared, or NULL. A row's answer does not
 *           depend on the batch that it came in.
 * Errors:   KITH_NOMEM, KITH_CANCELLED. */
kith_status ki_assigner_find(const ki_assigner *assigner, const float *x, size_t n, const kith_run *run,
                             uint32_t *assign, float *dist, kith_error *err);

#endif
