/* kmeans_exact.h - the judge of every fast way that k-means has to find the nearest centroids. */
#ifndef KI_TEST_KMEANS_EXACT_H
#define KI_TEST_KMEANS_EXACT_H

#include <stddef.h>

/* Assert that k-means of x[n][dim] is Lloyd's, however it finds the nearest centroids: the objective of each iteration is that of
 * the centroids before it, measured by kith_kmeans_assign; and its centroids are the same bytes on three threads. */
void assert_kmeans_exact(const float *x, size_t n, size_t dim, size_t k);

#endif
