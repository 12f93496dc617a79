/* simhash.h - SimHash: fingerprints of weighted features that differ in few bits where the features are alike.
 *
 * M. S. Charikar, "Similarity estimation techniques from rounding algorithms" (STOC 2002); for documents G. S. Manku,
 * A. Jain, A. Das Sarma, "Detecting near-duplicates for web crawling" (WWW 2007). Each feature has a random sign for
 * each bit; a bit of the fingerprint is the sign of the weighted sum. The part of the bits that differ estimates the
 * angle between two vectors of weights, over pi. Manku et al. take 64 bits and a distance of 3 for near-duplicate pages.
 *
 * The index finds all fingerprints within a Hamming distance exactly: of `blocks` blocks of bits, `radius` differing bits
 * can touch at most radius; so in one of the tables, keyed by each choice of blocks - radius blocks, the fingerprints
 * agree. 64 bits, radius 3, 4 blocks: 4 tables of 16 bits; more blocks give more tables with longer keys.
 *
 * When to use:     8 bytes a document; near-duplicates only (distance 3..6 of 64); perceptual hashes of pictures.
 * When not to use: pairs of Jaccard similarity 0.5, which differ in some 20 bits of 64 as strangers do by chance
 *                  now and then: MinHash (kith/minhash.h).
 */
#ifndef KITH_SIMHASH_H
#define KITH_SIMHASH_H

#include <kith/sets.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A fingerprint is bits / 64 words; bit i is bit i % 64 of word i / 64. bits is 64 or 128. */

/* The fingerprint of features[n] with weights[n] (finite, of any sign; NULL: 1 each). No features: 0.
 * Out:      fingerprint[bits / 64].
 * Errors:   KITH_INVALID for other bits or a weight that is not finite.
 * Cost:     n x bits additions. Equal on every machine: sums are formed in the order given. */
KITH_API kith_status kith_simhash(size_t bits, const uint64_t *features, const float *weights, size_t n,
                                  uint64_t *fingerprint, kith_error *err);

/* Those of many sets, with their weights where they have some.
 * Out:      fingerprints[sets->n][bits / 64].
 * Errors:   KITH_INVALID for other bits or a weight that is not finite; KITH_CANCELLED. Stage "signing", counted in sets. */
KITH_API kith_status kith_simhash_sets(size_t bits, const kith_sets *sets, const kith_run *run,
                                       uint64_t *fingerprints, kith_error *err);

/* How many bits differ. */
KITH_API size_t kith_simhash_distance(const uint64_t *a, const uint64_t *b, size_t bits);

/* ---- The block index ---- */

/* Immutable once made; any number of threads search it. */
typedef struct kith_simhash_index kith_simhash_index;

/* Index fingerprints for searches within a radius.
 * In:       fingerprints[n][bits / 64], not copied: they must outlive the index. bits 64 or 128; radius, 0..bits - 1.
 *           blocks, radius + 1 .. radius + 4, with at most 1,024 tables; 0: as n suggests, no tables where comparing with every
 *           fingerprint is quicker (few rows, large radius).
 * Out:      *index, NULL on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_CANCELLED.
 * Memory:   tables x (4 n bytes and up to as much again). */
KITH_API kith_status kith_simhash_index_create(const uint64_t *fingerprints, size_t n, size_t bits,
                                               size_t radius, size_t blocks, const kith_allocator *allocator,
                                               const kith_run *run, kith_simhash_index **index,
                                               kith_error *err);
KITH_API void kith_simhash_index_free(kith_simhash_index *index); /* NULL is allowed */

/* How many tables there are; 0 where everything is compared. */
KITH_API size_t kith_simhash_index_tables(const kith_simhash_index *index);

/* All rows within `radius` bits of a fingerprint, ascending, exactly.
 * In:       radius, at most the index's.
 * Out:      rows[room], distances[room] (may be NULL); *n how many there are; what is beyond room is not written.
 * Errors:   KITH_INVALID. Memory: none. */
KITH_API kith_status kith_simhash_index_near(const kith_simhash_index *index, const uint64_t *fingerprint,
                                             size_t radius, uint32_t *rows, uint32_t *distances, size_t room,
                                             size_t *n, kith_error *err);

/* All pairs of rows within the index's radius, exactly; a pair's similarity is 1 - distance / bits.
 * Out:      *pairs; zeroed on failure.
 * Errors:   KITH_NOMEM, KITH_CANCELLED. Stage "comparing", counted in rows.
 * Threads:  run's pool; the result is the same with any number. */
KITH_API kith_status kith_simhash_index_pairs(const kith_simhash_index *index, const kith_run *run,
                                              kith_pairs *pairs, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
