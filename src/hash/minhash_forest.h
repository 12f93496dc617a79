/* minhash_forest.h - the LSH forest over MinHash signatures, without the memory that the signatures lie in: what
 * kith_minhash_index (kith/minhash.h) and the family MinHash<K> (src/index) share.
 *
 * A tree of the forest (Bawa et al. 2005) is a sorted array: the rows in the order of one band of their signatures, so
 * that those which agree with a query in the first d values of the band are a range, found by two binary searches.
 * Before the band, rows are ordered by the class of their set's size (two classes an octave), and every search goes class by
 * class: that is what containment needs (Zhu et al. 2016 cut by equal numbers of sets, which must be known beforehand; classes
 * of fixed bounds are within a factor of sqrt(2) in size and let sets be added).
 *
 *     order[band][n]     rows by (class, band's values as bytes, row)
 *     class_start[65]    the range of a class, the same in every band
 *
 * I1  each order[band] holds the same rows, each once, sorted as said.
 */
#ifndef KI_HASH_MINHASH_FOREST_H
#define KI_HASH_MINHASH_FOREST_H

#include <kith/minhash.h>

#define KI_FOREST_CLASSES 64

typedef struct ki_minhash_forest {
    size_t bands, rows;     /* trees, and the values of a band: their depth */
    const uint32_t *values; /* row r's signature from values[r * stride] on */
    size_t stride;
    const uint32_t *sizes; /* row r's set has sizes[r * size_stride] tokens; 0 where not known */
    size_t size_stride;
    const uint32_t *order; /* [bands][n] */
    size_t n;
    size_t class_start[KI_FOREST_CLASSES + 1];
} ki_minhash_forest;

/* The order with `added` rows more, rows[added] or (NULL) first, first + 1, ..., whose values and sizes are there already:
 * order[bands][n + added], the caller's; the forest is as before.
 * Errors:   KITH_NOMEM, KITH_CANCELLED. Stage "adding", counted in bands. */
kith_status ki_minhash_forest_merge(const ki_minhash_forest *forest, const uint32_t *rows, uint32_t first,
                                    size_t added, const kith_allocator *allocator, const kith_run *run,
                                    uint32_t **order, kith_error *err);

/* Take an order[bands][n] over: a merged one, or one from a file. Every row in it must have values and a size. */
void ki_minhash_forest_take(ki_minhash_forest *forest, const uint32_t *order, size_t n);

/* Rows gone[n_gone], ascending, out of an order[bands][n] in place; how many rows it has now. */
size_t ki_minhash_forest_drop(uint32_t *order, size_t bands, size_t n, const uint32_t *gone, size_t n_gone);

/* The rows of a class whose first `depth` values of a band are the signature's: order[band * n + from] to to - 1. */
void ki_minhash_forest_range(const ki_minhash_forest *forest, const uint32_t *signature, size_t class,
                             size_t band, size_t depth, size_t *from, size_t *to);

/* Whether this band is the first in which the row agrees to `depth`, and, where `deepest`, no band agrees further: a row
 * found in several bands is the first one's. */
int ki_minhash_forest_first(const ki_minhash_forest *forest, const uint32_t *signature, size_t row,
                            size_t band, size_t depth, int deepest);

/* The longest prefix with which a set of this similarity is found with probability `recall` or more; at least 1. */
size_t ki_minhash_forest_depth(const ki_minhash_forest *forest, double jaccard, double recall);

/* The largest size in a class. */
double ki_minhash_class_end(size_t class);

/* The containment of the query that a Jaccard similarity means, and its standard error (NULL: not wanted). */
double ki_minhash_containment(double jaccard, double query, double other, size_t hashes, double *deviation);

/* I1, but for which rows there are. KITH_CORRUPT. */
kith_status ki_minhash_forest_check(const ki_minhash_forest *forest, kith_error *err);

#endif
