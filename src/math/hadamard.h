/* hadamard.h - a fast random rotation: random signs and Walsh-Hadamard transforms in turn.
 *
 *     y = H_r D_r ... H_1 D_1 x        D: random signs, H: an orthonormal Walsh-Hadamard matrix
 *
 * One round of signs and transform makes every component of a vector that has few non-zero ones a sum of all of them
 * (N. Ailon, B. Chazelle, "The fast Johnson-Lindenstrauss transform and approximate nearest neighbors", SIAM J. Comput.
 * 39(1), 2009); three rounds serve as a uniformly distributed rotation for all that is asked of one here (A. Andoni,
 * P. Indyk, T. Laarhoven, I. Razenshteyn, L. Schmidt, "Practical and optimal LSH for angular distance", NIPS 2015,
 * section 3.1). dim log dim additions instead of dim * dim multiply-adds, no matrix to read.
 *
 * Where dim is no power of two, a round is: signs; a transform of the first or, in turn, the last 2^l components, 2^l the
 * largest power below dim; and a rotation by 45 degrees of each component of the first half with one of the second, as
 * in a step of Kac's walk (V. Jain, N. S. Pillai, A. Sah, M. Sawhney, A. Smith, "Fast and memory-optimal dimension
 * reduction using Kac's walk", Ann. Appl. Probab. 32(5), 2022). So nothing is padded, and the map stays orthogonal.
 *
 * When not: below some 16 components, where few signs are drawn and a random matrix (RR) is cheap and truly uniform.
 * Threads:  a rotation is not changed after its creation. Values are the same, bit for bit, at every SIMD level. */
#ifndef KI_MATH_HADAMARD_H
#define KI_MATH_HADAMARD_H

#include <stddef.h>
#include <stdint.h>

#include <kith/allocator.h>
#include <kith/status.h>

typedef struct ki_hadamard ki_hadamard;

/* Bytes of the signs that make the rotation of a dim. */
size_t ki_hadamard_sign_bytes(size_t dim);

/* In:       dim 1..; signs[ki_hadamard_sign_bytes(dim)], bit d % 8 of byte d / 8 of each round, or NULL: drawn from
 *           seed. Every string of bytes is one of signs.
 * Out:      *rotation, NULL on failure.
 * Errors:   KITH_NOMEM.
 * Memory:   about 16 dim bytes. */
kith_status ki_hadamard_create(size_t dim, const uint8_t *signs, uint64_t seed,
                               const kith_allocator *allocator, ki_hadamard **rotation, kith_error *err);
void ki_hadamard_free(ki_hadamard *rotation); /* NULL is allowed */

const uint8_t *ki_hadamard_signs(const ki_hadamard *rotation);
uint64_t ki_hadamard_bytes(const ki_hadamard *rotation);

/* Rotate x[dim] in place, and back. Lengths are kept but for rounding: some log2(dim) units in the last place. */
void ki_hadamard_apply(const ki_hadamard *rotation, float *x);
void ki_hadamard_reverse(const ki_hadamard *rotation, float *x);

#endif
