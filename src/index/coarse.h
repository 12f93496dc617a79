/* coarse.h - which of many centroids are near a query, by a graph over them: HNSW inside another structure.
 *
 * An inverted file of 65,536 cells would read 32 MB of 128-d centroids for every query; a graph reads some hundred of them.
 * The graph is the family of that name, used through its description (family.h) as the front door uses it, with the centroids as
 * its rows: row j is centroid j, as float32. So everything that family proves holds here too: the same bytes with any number of
 * threads, files checked when they are loaded. What is found is nearly always what is nearest; how nearly, is said by ef. */
#ifndef KI_INDEX_COARSE_H
#define KI_INDEX_COARSE_H

#include "index/family.h"

typedef struct ki_coarse ki_coarse;
typedef struct ki_coarse_scratch ki_coarse_scratch; /* one thread's */

/* An empty HNSW<m>. metric: KITH_L2SQ or KITH_DOT. *coarse NULL on failure. Errors: KITH_INVALID (m), KITH_NOMEM. */
kith_status ki_coarse_create(size_t m, size_t dim, kith_metric metric, uint64_t seed,
                             const kith_allocator *allocator, ki_coarse **coarse, kith_error *err);
void ki_coarse_free(ki_coarse *coarse);

/* Build it of centroids[n][dim], which are copied; once. KITH_NOMEM, KITH_CANCELLED. */
kith_status ki_coarse_build(ki_coarse *coarse, const float *centroids, size_t n, const kith_run *run,
                            kith_error *err);

/* The sections of the family, "hnsw" and so on; load instead of build, of n centroids. */
kith_status ki_coarse_save(const ki_coarse *coarse, ki_store_writer *writer, kith_error *err);
kith_status ki_coarse_load(ki_coarse *coarse, size_t n, ki_store *store, int mapped, kith_error *err);

/* The invariants of the family, and that row j is centroids[j][dim]. KITH_CORRUPT. */
kith_status ki_coarse_check(const ki_coarse *coarse, const float *centroids, kith_error *err);
uint64_t ki_coarse_bytes(const ki_coarse *coarse);

kith_status ki_coarse_scratch_create(const ki_coarse *coarse, ki_coarse_scratch **scratch, kith_error *err);
void ki_coarse_scratch_free(const ki_coarse *coarse, ki_coarse_scratch *scratch);

/* Room for finding `count` centroids with ef. KITH_NOMEM. */
kith_status ki_coarse_reserve(const ki_coarse *coarse, ki_coarse_scratch *scratch, size_t count, size_t ef,
                              kith_error *err);

/* Up to `count` centroids near query[dim], nearest first, as keys (base/select.h) of distance and number; ef: nearest that the
 * walk keeps, `count` at least. count and ef are not above those reserved. Returns how many. */
size_t ki_coarse_find(const ki_coarse *coarse, ki_coarse_scratch *scratch, const float *query, size_t count,
                      size_t ef, uint64_t *keys);

#endif
