/* sieve.h - the nearest of many columns for many rows: by bytes first, then exactly for the few that these leave over.
 *
 * Filing rows into cells and k-means ask one question, which of some thousand centroids is nearest, and the product that answers it
 * (product.h) is all their time. On CPUs that multiply bytes four times as fast as floats the product is taken of rows and columns
 * rounded to bytes. Its error has a bound, so the columns that may be nearest are known; there are one or two of them
 * a row, and these are measured by l2sq_f32. The outcome is that of measuring all, whatever the rounding.
 *
 * Not to be confused with screen.h: one row, for which the columns come out of memory once, and the k nearest.
 *
 *     ki_sieve *sieve;
 *     if (ki_sieve_pays(m, dim)) KI_TRY(ki_sieve_create(y, m, dim, allocator, &sieve, err));
 *     KI_TRY(ki_sieve_argmin(pool, sieve, x, n, 0, which, NULL, &done, err));
 *     if (!done) ... by ki_product_argmin
 *
 * Threads: a sieve is read-only in ki_sieve_argmin; any number may use one at once. */
#ifndef KI_MATH_SIEVE_H
#define KI_MATH_SIEVE_H

#include <kith/allocator.h>
#include <kith/run.h>

typedef struct ki_sieve ki_sieve;

#define KI_SIEVE_DIM 16384 /* components at most */
#define KI_SIEVE_BLOCK 448 /* rows that share what is read of the columns */

/* For callers with blocks of their own: about so many rows, in whole blocks of the sieve. */
static inline size_t ki_sieve_blocks(size_t rows)
{
    return (rows / KI_SIEVE_BLOCK + 1) * KI_SIEVE_BLOCK;
}

/* Whether it is worth its while, on this CPU at the SIMD level in use. */
int ki_sieve_pays(size_t m, size_t dim);

/* Make one of columns y[m][dim], finite. They must live and stay as they are while the sieve is used; dim <= KI_SIEVE_DIM.
 * Errors:   KITH_NOMEM. *sieve is NULL then.
 * Memory:   dim + 8 bytes a column. */
kith_status ki_sieve_create(const float *y, size_t m, size_t dim, const kith_allocator *allocator,
                            ki_sieve **sieve, kith_error *err);
void ki_sieve_free(ki_sieve *sieve); /* NULL is allowed */
size_t ki_sieve_bytes(const ki_sieve *sieve);

/* Other columns of the same number and dimension. Nobody else may be using it. */
void ki_sieve_refill(ki_sieve *sieve, const float *y);

/* The column that is nearest to each row by l2sq_f32; among equals the lowest.
 * In:       x[n][dim], finite. index[n], where `guessed` is not 0: any column of each row, the nearer the better.
 * Out:      index[n]; dist[n] unless NULL; *done: 0 where bytes are too rough for these rows, so that too many columns were
 *           left over and the rest was not looked at: index and dist are undefined then. It depends on rows and columns alone.
 * Errors:   KITH_NOMEM.
 * Cost:     n * m * dim products of bytes, and some distances a row; memory 448 dim + 4 m bytes
 *           and some 150 KiB a thread. */
kith_status ki_sieve_argmin(kith_pool *pool, const ki_sieve *sieve, const float *x, size_t n, int guessed,
                            uint32_t *index, float *dist, int *done, kith_error *err);

#endif
