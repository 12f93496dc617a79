/* sets.h - sets of 64-bit tokens: how much two share, and which pairs of many share enough.
 *
 * A token is any 64-bit number that stands for an element: a hash of a shingle of words (kith/text.h), of a tag, of a
 * customer. A set is an array of tokens, ascending, each once; kith_set_normalise makes it so.
 *
 *     Jaccard      J(a, b) = |a n b| / |a u b|          (KITH_JACCARD is 1 - J)
 *     containment  C(q, x) = |q n x| / |q|               how much of q is in x
 *
 * Two empty sets are alike: J = 1; C of an empty q is 1.
 *
 * kith_sets_join finds all pairs of at least some Jaccard similarity exactly. It is quick where tokens are many and
 * most of them rare (shingles of words), and slow where a few tokens are in every set or the threshold is low; there
 * MinHash (kith/minhash.h) finds nearly all pairs in time that does not depend on the tokens.
 */
#ifndef KITH_SETS_H
#define KITH_SETS_H

#include <kith/run.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Many sets: set i is tokens[starts[i]] .. tokens[starts[i + 1] - 1]. Set numbers are below 2^32 - 1. Weights are for
 * fingerprints (kith/simhash.h), where tokens are features; everything else passes them over. */
typedef struct kith_sets {
    const uint64_t *tokens;
    const uint64_t *starts; /* [n + 1], ascending */
    size_t n;
    const float *weights; /* beside tokens, finite; NULL: 1 each */
} kith_sets;

/* Sort, and leave out what is there twice. In place; returns how many tokens are left. Cost: O(n log n). */
KITH_API size_t kith_set_normalise(uint64_t *tokens, size_t n);

/* How many tokens two sets share. Cost: O(na + nb). */
KITH_API size_t kith_set_common(const uint64_t *a, size_t na, const uint64_t *b, size_t nb);

/* J(a, b) and C(a, b) of above, 0..1. */
KITH_API double kith_set_jaccard(const uint64_t *a, size_t na, const uint64_t *b, size_t nb);
KITH_API double kith_set_containment(const uint64_t *a, size_t na, const uint64_t *b, size_t nb);

/* ---- Pairs ---- */

typedef struct kith_pair {
    uint32_t a, b;     /* a < b */
    double similarity; /* 0..1 */
} kith_pair;

/* Pairs that were found, by a, then b, each once. Give them back with kith_pairs_clear. */
typedef struct kith_pairs {
    kith_pair *items;
    size_t n;
    const kith_allocator *allocator;
} kith_pairs;

/* Give the memory back and zero the struct; NULL and zeroed structs are allowed. */
KITH_API void kith_pairs_clear(kith_pairs *pairs);

/* Which rows hang together: rows are in one group when a chain of pairs leads from one to the other.
 * In:       pairs of rows 0..n-1.
 * Out:      group[n], the lowest row of each row's group: its own number where it is in no pair.
 * Memory:   none.  Cost: O(n + pairs) but for a slowly growing factor (union-find with path halving). */
KITH_API void kith_pairs_groups(const kith_pairs *pairs, size_t n, uint32_t *group);

/* All pairs of sets with J >= threshold, exactly: an inverted index over the rarest tokens of each set, so few of
 * them that two sets which share none cannot be similar enough; what shares one is compared in full.
 * Paper:    R. J. Bayardo, Y. Ma, R. Srikant, "Scaling up all pairs similarity search" (WWW 2007), section 3;
 *           C. Xiao et al., "Efficient similarity joins for near duplicate detection" (WWW 2008), prefix and length filters.
 * In:       threshold in (0, 1]. Empty sets are in no pair.
 * Out:      *pairs with their Jaccard similarity; zeroed on failure.
 * Errors:   KITH_INVALID; KITH_NOMEM; KITH_CANCELLED.
 * Threads:  run's pool; the result is the same with any number. Stage "comparing", counted in sets.
 * Memory:   about 28 bytes a token.
 * Cost:     for n sets of m tokens, n m log(n m) for the order, and the sum over the tokens looked at of how many sets
 *           have them among their rarest: quick for threshold 0.5 and above, up to n^2 m towards 0. */
KITH_API kith_status kith_sets_join(const kith_sets *sets, double threshold, const kith_allocator *allocator,
                                    const kith_run *run, kith_pairs *pairs, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
