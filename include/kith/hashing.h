/* hashing.h - learning to hash: short binary codes whose Hamming distances follow the distances of the vectors.
 *
 * | method               | the bits are                                                     | paper                         |
 * |----------------------|------------------------------------------------------------------|-------------------------------|
 * | KITH_HASH_RANDOM     | signs of random projections: no learning but the mean            | Charikar, STOC 2002           |
 * | KITH_HASH_PCAH       | signs along the principal components                             | Wang et al., CVPR 2010        |
 * | KITH_HASH_ITQ        | the same after a rotation that brings the rows near the corners  | Gong & Lazebnik, CVPR 2011    |
 * |                      | of a cube (iterative quantisation)                               |                               |
 * | KITH_HASH_SPECTRAL   | signs of sines along the principal components, more of them      | Weiss, Torralba & Fergus,     |
 * |                      | along the wider ones (spectral hashing)                          | NIPS 2008                     |
 *
 * Two steps, as the field does it: project, then binarise. ITQ is the one to begin with; PCAH wastes bits on components
 * of little variance; spectral hashing gives more bits than there are components. Codes are rows of bits as
 * kith/index.h searches them under KITH_HAMMING (BFlat, BMIH<m>, BIVF<n>). As part of an index the same methods are the
 * codecs RH<b>, PCAH<b>, ITQ<b> and SH<b> of float32 indexes.
 *
 * All but KITH_HASH_RANDOM need LAPACK: a build without it answers KITH_UNSUPPORTED to learning.
 * Threads: a hasher is read-only once learned; any number of threads may use one at once.
 */
#ifndef KITH_HASHING_H
#define KITH_HASHING_H

#include <kith/metric.h>
#include <kith/run.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KITH_HASH_MAX_BITS 4096
#define KITH_HASH_MIN_ROWS 16 /* fewer say nothing about their distribution */

typedef enum kith_hash_method {
    KITH_HASH_RANDOM = 0,
    KITH_HASH_PCAH = 1,
    KITH_HASH_ITQ = 2,
    KITH_HASH_SPECTRAL = 3
} kith_hash_method;

typedef struct kith_hasher kith_hasher;

typedef struct kith_hasher_options {
    size_t struct_size;
    kith_hash_method method;
    size_t iterations; /* of ITQ, 1..; the paper has 50 */
    uint64_t seed;
    /* ITQ tells after each iteration its number, from 1, and the quantisation loss: the mean over rows of
     * |sign(v R) - v R|^2, v scaled to the mean length of the corners. It falls at every iteration. NULL: silent. */
    void (*iteration)(void *ctx, size_t number, double loss);
    void *iteration_ctx;
    const kith_allocator *allocator;
    double
        whitening; /* of ITQ, 0..1: each component is divided by its standard deviation to this power before rotating;
                       * 0 is the paper's way, 1 gives all components the same weight */
} kith_hasher_options;

static inline void kith_hasher_options_init(kith_hasher_options *options)
{
    options->struct_size = sizeof *options;
    options->method = KITH_HASH_ITQ;
    options->iterations = 50;
    options->seed = 1;
    options->iteration = NULL;
    options->iteration_ctx = NULL;
    options->allocator = NULL;
    options->whitening = 0.5;
}

/* Learn from all of x.
 * In:       x[n][dim], row-major, finite, n >= KITH_HASH_MIN_ROWS (some ten thousand rows are enough; sample more);
 *           bits 1..KITH_HASH_MAX_BITS, at most dim for PCAH and ITQ; options NULL for the defaults.
 * Out:      *hasher, NULL on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_CANCELLED, KITH_UNSUPPORTED (no LAPACK), KITH_INTERNAL (no convergence).
 * Threads:  the pool of run; the result is the same with any number. Stage "training".
 * Cost:     PCA: n dim^2; ITQ: 2 n bits^2 an iteration besides. */
KITH_API kith_status kith_hasher_learn(const float *x, size_t n, size_t dim, size_t bits,
                                       const kith_hasher_options *options, const kith_run *run,
                                       kith_hasher **hasher, kith_error *err);
KITH_API void kith_hasher_free(kith_hasher *hasher); /* NULL is allowed */

KITH_API size_t kith_hasher_dim(const kith_hasher *hasher);
KITH_API size_t kith_hasher_bits(const kith_hasher *hasher);
KITH_API kith_hash_method kith_hasher_method(const kith_hasher *hasher);

/* x[n][dim], finite, to codes[n][kith_bit_bytes(bits)], unused bits zero. A row's code does not depend on the others.
 * Errors:   KITH_NOMEM; codes are then undefined.
 * Cost:     bits x dim multiply-adds a row. */
KITH_API kith_status kith_hasher_encode(const kith_hasher *hasher, const float *x, size_t n, kith_pool *pool,
                                        uint8_t *codes, kith_error *err);

/* The way back, as well as signs can tell: codes[n][kith_bit_bytes(bits)] to x[n][dim]. */
KITH_API void kith_hasher_decode(const kith_hasher *hasher, const uint8_t *codes, size_t n, float *x);

#ifdef __cplusplus
}
#endif
#endif
