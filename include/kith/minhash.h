/* minhash.h - MinHash: short signatures of sets, from which their similarity can be told.
 *
 * A. Z. Broder, "On the resemblance and containment of documents" (SEQUENCES 1997). The tokens of a set are put in a
 * random order; the chance that two sets have the same first token is their Jaccard similarity J. A signature keeps the
 * first tokens (their hash values) under `hashes` random orders; the part of them in which two signatures agree
 * estimates J without bias, with standard error sqrt(J (1 - J) / hashes): 0.044 at most for 128.
 *
 * Banding (J. Leskovec, A. Rajaraman, J. Ullman, "Mining of Massive Datasets", 3.4): cut a signature into b bands of r
 * values; two sets are candidates when they agree in a whole band. They do with probability 1 - (1 - J^r)^b, an S-curve
 * that is steep near (1/b)^(1/r); kith_bands_choose places it for a wanted threshold.
 *
 * An index keeps the signatures sorted by each band, so that any number of leading values of a band can be asked for
 * (M. Bawa, T. Condie, P. Ganesan, "LSH Forest", WWW 2005): whole bands for one threshold, ever shorter prefixes
 * until k candidates are found, and, with the sets' sizes known, a prefix and a number of bands that fit a wanted
 * containment (E. Zhu, F. Nargesian, K. Q. Pu, R. J. Miller, "LSH Ensemble", VLDB 2016).
 *
 * When to use:     sets of hundreds of tokens and more, where sets are many and pairs that are alike are few.
 * When not to use: small collections, or high thresholds on rare tokens (kith_sets_join is exact and quick there);
 *                  similarity below 0.2, which no banding separates from chance; weighted features (kith/simhash.h).
 */
#ifndef KITH_MINHASH_H
#define KITH_MINHASH_H

#include <kith/sets.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KITH_MINHASH_MAX_HASHES 4096

/* ---- Signatures ---- */

/* The random orders: a family of hash functions. Immutable, for any number of threads. */
typedef struct kith_minhash kith_minhash;

/* In:       hashes, 1..KITH_MINHASH_MAX_HASHES; signatures compare only between equal hashes and seed.
 * Out:      *minhash, NULL on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM. */
KITH_API kith_status kith_minhash_create(size_t hashes, uint64_t seed, const kith_allocator *allocator,
                                         kith_minhash **minhash, kith_error *err);
KITH_API void kith_minhash_free(kith_minhash *minhash); /* NULL is allowed */
KITH_API size_t kith_minhash_hashes(const kith_minhash *minhash);

/* The signature of a set.
 * In:       tokens[n] in any order, repetitions do not matter.
 * Out:      signature[hashes]; all UINT32_MAX for the empty set.
 * Memory:   none.  Cost: n x hashes multiplications. */
KITH_API void kith_minhash_sign(const kith_minhash *minhash, const uint64_t *tokens, size_t n,
                                uint32_t *signature);

/* The signatures of many.
 * Out:      signatures[sets->n][hashes].
 * Errors:   KITH_CANCELLED. Stage "signing", counted in sets. */
KITH_API kith_status kith_minhash_sign_sets(const kith_minhash *minhash, const kith_sets *sets,
                                            const kith_run *run, uint32_t *signatures, kith_error *err);

/* The part of the values in which two signatures agree: the estimate of the Jaccard similarity. */
KITH_API double kith_minhash_similarity(const uint32_t *a, const uint32_t *b, size_t hashes);

/* ---- Bands ---- */

/* The chance that two sets of a Jaccard similarity become candidates: 1 - (1 - jaccard^rows)^bands. */
KITH_API double kith_bands_probability(size_t bands, size_t rows, double jaccard);

/* The longest rows, and so the fewest candidates, with which two sets of just the threshold become candidates with
 * probability `recall` or more; all bands that then fit. Where not even single values do, rows is 1.
 * In:       hashes of a signature; threshold in (0, 1]; recall in (0, 1), 0.99 say.
 * Errors:   KITH_INVALID. */
KITH_API kith_status kith_bands_choose(size_t hashes, double threshold, double recall, size_t *bands,
                                       size_t *rows, kith_error *err);

/* How similar two rows really are. Called from the threads of the pool, any number at once. */
typedef double (*kith_similarity_fn)(void *ctx, size_t a, size_t b);

/* The pairs of signatures that are candidates and as similar as wanted, each once.
 * In:       signatures[n][hashes]; bands x rows <= hashes; similarity decides on a candidate and says what goes into
 *           the pair, NULL: kith_minhash_similarity.
 * Out:      *pairs, those of similarity >= threshold; zeroed on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_CANCELLED.
 * Threads:  run's pool; the result is the same with any number. Stage "comparing", counted in bands.
 * Memory:   8 n bytes a thread, and the pairs. Rows that are alike in large numbers make pairs in square numbers:
 *           take copies of a set out before.
 * Cost:     bands x n log n, and a call of similarity for each candidate. */
KITH_API kith_status kith_minhash_pairs(const uint32_t *signatures, size_t n, size_t hashes, size_t bands,
                                        size_t rows, kith_similarity_fn similarity, void *ctx,
                                        double threshold, const kith_allocator *allocator,
                                        const kith_run *run, kith_pairs *pairs, kith_error *err);

/* ---- An index of signatures ---- */

/* Answers name sets by their number, in the order in which they were added. Searches may run at once in any number of
 * threads; adding comes alone. */
typedef struct kith_minhash_index kith_minhash_index;

/* In:       bands x rows, the trees of the forest and their depth; what is left of a signature's hashes serves the
 *           estimates alone.
 * Out:      *index, NULL on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM. */
KITH_API kith_status kith_minhash_index_create(size_t hashes, size_t bands, size_t rows,
                                               const kith_allocator *allocator, kith_minhash_index **index,
                                               kith_error *err);
KITH_API void kith_minhash_index_free(kith_minhash_index *index); /* NULL is allowed */
KITH_API size_t kith_minhash_index_count(const kith_minhash_index *index);

/* Take sets in.
 * In:       signatures[n][hashes], copied; sizes[n], how many tokens each set has: for containment. NULL: not known,
 *           then and afterwards.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_CANCELLED; the index is then as before.
 * Cost:     the new rows are sorted and merged with the old: O(count) a call, so many sets a call. */
KITH_API kith_status kith_minhash_index_add(kith_minhash_index *index, size_t n, const uint32_t *signatures,
                                            const uint32_t *sizes, const kith_run *run, kith_error *err);

/* A set that was found, and its similarity as the signatures tell it: Jaccard, or containment of the query. */
typedef struct kith_set_hit {
    uint32_t set;
    float similarity;
} kith_set_hit;

/* Sets that agree with the query in one of the bands and whose estimated Jaccard similarity is at least threshold.
 * Out:      hits, the most similar first, equal ones by number; at most room of them are written, *n says how many there
 *           are.
 * Errors:   KITH_NOMEM. */
KITH_API kith_status kith_minhash_index_near(const kith_minhash_index *index, const uint32_t *signature,
                                             double threshold, kith_set_hit *hits, size_t room, size_t *n,
                                             kith_error *err);

/* The k sets most similar by estimate among those that the forest finds: prefixes of all bands are shortened together
 * (synchronous ascent, Bawa et al. 4.2) until at least `candidates` sets (k at least) agree in one, or one value.
 * Out:      hits[k]; *n how many, below k only where fewer agree with the query in any band's first value. */
KITH_API kith_status kith_minhash_index_top(const kith_minhash_index *index, const uint32_t *signature,
                                            size_t k, size_t candidates, kith_set_hit *hits, size_t *n,
                                            kith_error *err);

/* Sets that hold at least a part `containment` of the query. Sets are looked for in classes of like size; in each, a
 * containment C of a query of q tokens is a Jaccard similarity of C / (x / q + 1 - C) or more, x the class's largest size, and
 * the longest prefix is taken that still finds 95 % of those (Zhu et al. also leave bands out; here candidates in vain
 * are turned away by the estimate).
 * In:       size of the query set, 1 or more; containment in (0, 1].
 * Out:      as kith_minhash_index_near; similarity is the estimated containment. Candidates are kept when it is at
 *           least containment less twice its standard error: verify with the sets themselves where it matters.
 * Errors:   KITH_INVALID where sizes are not known; KITH_NOMEM. */
KITH_API kith_status kith_minhash_index_containing(const kith_minhash_index *index, const uint32_t *signature,
                                                   size_t size, double containment, kith_set_hit *hits,
                                                   size_t room, size_t *n, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
