/* product.h - many rows against many columns: distances by a tiled matrix product, and what is done with
 * them.
 *
 * The heart of k-means, coarse quantisation, product-quantiser training and encoding, and flat search of a
 * batch of queries. With ||x - c||^2 = ||c||^2 - 2 x.c + ||x||^2 nearly all work is a product of matrices,
 * which runs near the arithmetic limit of the machine when it is cut into tiles that live in registers and
 * blocks that live in the caches (Goto & van de Geijn, "Anatomy of high-performance matrix multiplication",
 * 2008). The n x m matrix is never written to memory: each tile is reduced while it is still in registers.
 *
 * One side, the "columns" (centroids, codebook, a block of the base), is packed once and used for any number
 * of rows:
 *
 *     ki_packed *packed;
 *     KI_TRY(ki_packed_create(centroids, dim, m, dim, KITH_L2SQ, allocator, &packed, err));
 *     ki_product_argmin(pool, x, dim, n, packed, nearest, NULL, err);        nearest centroid of every row
 *     ki_product_topk(pool, x, dim, n, packed, nprobe, dist, cell, err);     the nprobe nearest, sorted
 *     ki_product_row(packed, query, dist);                                   one row, every distance, no allocation
 *     ki_packed_free(packed);
 *
 * Which one: many rows, nearest only: argmin. Many rows, k nearest: topk. A base that is not packed (flat
 * batch search): ki_product_search. One row: ki_product_row. A single pass over unpacked rows for one or two
 * queries: the `rows` kernels of simd/kernels.h, which need no packing and have no cancellation.
 *
 * Metrics: KITH_L2SQ, KITH_DOT, KITH_COSINE; distances as in kith/metric.h, smaller is nearer.
 *
 * Same answer every time: the value for a row and a column is one chain of fused multiply-adds over the
 * components in their order, begun with ||c||^2 (0 for DOT, 1 for COSINE); ||x||^2 is added last and the sum
 * clamped at 0. It depends on the row, the column and the SIMD level alone; never on the pool, the position,
 * the number of rows or columns, or which function asks. A ki_packed keeps the level that it was made with.
 *
 * Error: the expansion cancels: |computed - true| <= about (dim + 3) 2^-24 (||x|| + ||c||)^2. Distances far
 * below
 * ||x||^2 have few good digits (a copy of x may come out at 1e-6 ||x||^2 instead of 0). Where the digits
 * count (final results), propose with the product and recompute the few survivors with the pair kernels of
 * simd/kernels.h. Overflow: squared norms and products must stay below 3.4e38, components below about 1e18.
 *
 * Everywhere: rows x[n][dim] begin ldx floats apart (ldx >= dim; a subspace of longer rows needs no copy),
 * finite. pool NULL: this thread. Scratch memory (about 1 MiB a thread; topk at least 230 bytes times k) comes from the packed object's
 * allocator: KITH_NOMEM is the only error unless others are named; outputs are then undefined. A ki_packed is
 * read-only in all of them: any number of threads may use one at once.
 */
#ifndef KI_MATH_PRODUCT_H
#define KI_MATH_PRODUCT_H

#include <kith/allocator.h>
#include <kith/metric.h>
#include <kith/run.h>

typedef struct ki_packed ki_packed;

/* Pack columns.
 * In:       y[m][dim], rows ldy floats apart, finite; m 1..2^32 - 32, dim >= 1; copied.
 * Out:      *packed, NULL on failure.
 * Errors:   KITH_NOMEM; KITH_INVALID for another metric, m or dim of 0.
 * Memory:   about 4 * dim * (m rounded up to 16) bytes. */
kith_status ki_packed_create(const float *y, size_t ldy, size_t m, size_t dim, kith_metric metric,
                             const kith_allocator *allocator, ki_packed **packed, kith_error *err);

/* The same for an affine map: the "distance" of a row is bias[c] + x . w[c], as it is, no sign, nothing
 * clamped. bias NULL: zeros. For rotations, PCA and plain matrix products (ki_product_store, ki_product_row), and
 * for an argmin of a form of one's own. */
kith_status ki_packed_create_affine(const float *w, size_t ldw, size_t m, size_t dim, const float *bias,
                                    const kith_allocator *allocator, ki_packed **packed, kith_error *err);

/* Other columns of the same number, dimension and metric in place of the old (k-means, from one iteration to
 * the next). Nobody else may be using it. */
void ki_packed_refill(ki_packed *packed, const float *y, size_t ldy);
void ki_packed_refill_affine(ki_packed *packed, const float *w, size_t ldw, const float *bias);

void ki_packed_free(ki_packed *packed); /* NULL is allowed */
size_t ki_packed_count(const ki_packed *packed);
size_t ki_packed_dim(const ki_packed *packed);
size_t ki_packed_bytes(const ki_packed *packed);

/* The nearest column of every row; among equals the lowest.
 * Out:      index[n]; dist[n] unless NULL.
 * Cost:     n * m * dim fused multiply-adds; for dim <= 32 a kernel of its own that keeps near the peak. */
kith_status ki_product_argmin(kith_pool *pool, const float *x, size_t ldx, size_t n, const ki_packed *packed,
                              uint32_t *index, float *dist, kith_error *err);

/* The k nearest columns of every row, nearest first, ties by the lower number. When k > m the tail is filled
 * with (+infinity, UINT64_MAX).
 * Out:      dist[n][k], id[n][k]. */
kith_status ki_product_topk(kith_pool *pool, const float *x, size_t ldx, size_t n, const ki_packed *packed,
                            size_t k, float *dist, uint64_t *id, kith_error *err);

/* Every distance.
 * Out:      out[n][m], rows ldo floats apart (ldo >= m). */
kith_status ki_product_store(kith_pool *pool, const float *x, size_t ldx, size_t n, const ki_packed *packed,
                             float *out, size_t ldo, kith_error *err);

/* One row, every distance, on this thread, without any allocation: cannot fail. Runs at the speed at which
 * the packed columns come out of cache or memory. For coarse quantisation of a single query and for ADC
 * tables.
 * Out:      out[m]. */
void ki_product_row(const ki_packed *packed, const float *x, float *out);

/* The same for some of the columns only: the same values, bit for bit.
 * In:       y[m][dim], the columns as they were packed, rows ldy floats apart; columns[n]; not for COSINE and affine ones.
 * Out:      out[n]. */
void ki_product_some(const ki_packed *packed, const float *y, size_t ldy, const float *x,
                     const uint32_t *columns, size_t n, float *out);

/* Called for a row that may have new candidates in a run of columns: bit i of mask tells that dist[i], of
 * column `column` + i, is <= limit[row]. The visitor lowers limit[row] as its heap fills. Calls for one row
 * come one after the other with ascending columns; calls for different rows come from the pool's threads at
 * once. */
typedef void (*ki_product_visit)(void *ctx, size_t row, size_t column, const float *dist, uint32_t mask);

/* Offer all pairs within the limits to a visitor; most tiles cost one comparison a row.
 * In:       limit[n], one per row: +infinity until the row's heap is full (every pair is then visited), then
 * its worst. */
kith_status ki_product_below(kith_pool *pool, const float *x, size_t ldx, size_t n, const ki_packed *packed,
                             float *limit, ki_product_visit visit, void *ctx, kith_error *err);

/* The same against columns y[m][dim] that are not packed: they are packed block by block (8 MiB), in
 * parallel, and dropped. m any size: `column` counts through all blocks, ascending for each row. Worth its
 * while from about 8 rows on.
 * Errors:   KITH_NOMEM; KITH_INVALID for another metric. */
kith_status ki_product_search(kith_pool *pool, const float *x, size_t ldx, size_t n, const float *y,
                              size_t ldy, size_t m, size_t dim, kith_metric metric, float *limit,
                              ki_product_visit visit, void *ctx, const kith_allocator *allocator,
                              kith_error *err);

/* Product-quantiser encoding: in each of m subspaces the nearest column of books[j], whose dimensions lie
 * side by side in x: subspace j begins where j - 1 ends.
 * In:       books[m], KITH_L2SQ usually; at most 256 columns each when code_size is 1, 65536 when it is 2.
 * Out:      codes[n][m] of uint8_t (code_size 1) or uint16_t (code_size 2).
 * Cost:     efficient for subspaces of 2..32 components. */
kith_status ki_product_encode(kith_pool *pool, const float *x, size_t ldx, size_t n, ki_packed *const *books,
                              size_t m, size_t code_size, void *codes, kith_error *err);

#endif
