/* pq.h - product quantisation.
 *
 * H. Jegou, M. Douze, C. Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI 33(1), 2011.
 *
 * A vector of dim components is cut into m segments of dim / m; each segment is replaced by the number of its
 * nearest among 2^bits centroids (k-means, one codebook a segment; nearest by squared L2, whatever the metric
 * of the tables). 1,024 components in 4 segments of 256 centroids take 4 bytes instead of 4,096. Distances are
 * sums of m table entries: asymmetric (ADC): the query stays exact, its table holds query segment against
 * centroid; section III.A, eq. 13; symmetric (SDC): the query is quantised too, the table holds centroid
 * against centroid; eq. 12.
 *
 * A code holds m numbers of `bits` bits: bits 8: m bytes; bits 9..16: m little-endian uint16; bits 1..7: one
 * string of m * bits bits, the first segment in the lowest bits of the first byte, zeros at the end. 4..16 is
 * the usual range; 1..3 make toys and very short codes.
 *
 * Threads: a trained quantiser is read-only; any number of threads may use one at once. It keeps the SIMD
 * level that it was made with.
 */
#ifndef KITH_PQ_H
#define KITH_PQ_H

#include <kith/metric.h>
#include <kith/run.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kith_pq kith_pq;

/* Make an untrained quantiser.
 * In:       dim, m 1..4096 with dim % m == 0, bits 1..16; metric KITH_L2SQ, KITH_DOT or KITH_L1 (what the
 *           tables hold).
 * Errors:   KITH_INVALID, KITH_UNSUPPORTED (metric), KITH_NOMEM. *pq is NULL then.
 * Memory:   some 8 * dim * 2^bits bytes once trained. */
KITH_API kith_status kith_pq_create(size_t dim, size_t m, size_t bits, kith_metric metric,
                                    const kith_allocator *allocator, kith_pq **pq, kith_error *err);
KITH_API void kith_pq_free(kith_pq *pq);

KITH_API size_t kith_pq_dim(const kith_pq *pq);
KITH_API size_t kith_pq_segments(const kith_pq *pq);   /* m */
KITH_API size_t kith_pq_centroids(const kith_pq *pq);  /* 2^bits, of each segment */
KITH_API size_t kith_pq_code_size(const kith_pq *pq);  /* bytes */
KITH_API size_t kith_pq_table_size(const kith_pq *pq); /* floats: m * 2^bits */

/* Train the codebooks: k-means in each segment, from random seeds or, where these are worse, k-means++ seeds, on a random sample of
 * at most 256 rows a centroid, or 32,768 where that is more.
 * In:       x[n][dim], the rows of the sample finite; n >= 2^bits; iterations 1.. (25 is usual).
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_CANCELLED; the quantiser is then untrained.
 * Threads:  the pool of run; the codebooks are the same with any number. Stage: "training codebooks".
 * Memory:   for each thread that works the sample's segment and what k-means of it takes (kmeans.h), and a codebook more.
 * Cost:     (iterations + 2) x sample x 2^bits x dim multiply-adds. */
KITH_API kith_status kith_pq_train(kith_pq *pq, const float *x, size_t n, size_t iterations, uint64_t seed,
                                   const kith_run *run, kith_error *err);

/* Use or read codebooks[m][2^bits][dim / m]. */
KITH_API kith_status kith_pq_set_codebooks(kith_pq *pq, const float *codebooks, kith_error *err);
KITH_API const float *kith_pq_codebooks(const kith_pq *pq); /* NULL when untrained; lives with pq */

/* x[n][dim] to codes[n][code_size].
 * Errors:   KITH_UNTRAINED; KITH_INVALID for NaN or infinity in x; KITH_NOMEM, KITH_CANCELLED. codes are then
 *           undefined.
 * Cost:     2^bits x dim multiply-adds a row. */
KITH_API kith_status kith_pq_encode(const kith_pq *pq, const float *x, size_t n, const kith_run *run,
                                    uint8_t *codes, kith_error *err);

/* codes[n][code_size] to x[n][dim].
 * Errors:   KITH_UNTRAINED; KITH_INVALID for a number beyond 2^bits (bits 9..15). */
KITH_API kith_status kith_pq_decode(const kith_pq *pq, const uint8_t *codes, size_t n, float *x,
                                    kith_error *err);

/* The mean over x[n][dim] of the squared distance to the reconstruction. */
KITH_API kith_status kith_pq_error(const kith_pq *pq, const float *x, size_t n, const kith_run *run,
                                   double *mean_squared_error, kith_error *err);

/* ADC: the tables of a query. Out: tables[m][2^bits]. Cost: 2^bits x dim multiply-adds. */
KITH_API kith_status kith_pq_adc_tables(const kith_pq *pq, const float *query, float *tables,
                                        kith_error *err);

/* SDC: the tables of a code against every centroid, for the same scan. Out: tables[m][2^bits]. */
KITH_API kith_status kith_pq_sdc_tables(const kith_pq *pq, const uint8_t *code, float *tables,
                                        kith_error *err);

/* Sums of table entries: the estimated distances.
 * Out:      dist[n].
 * Errors:   KITH_UNTRAINED; KITH_INVALID for a number beyond 2^bits (bits 9..15).
 * Cost:     m look-ups a code. */
KITH_API kith_status kith_pq_scan(const kith_pq *pq, const float *tables, const uint8_t *codes, size_t n,
                                  float *dist, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
