/* hasher.h - what a learned hash is made of, and the learners that fill it.
 *
 * Bit k of the code of x: with p = w[k] . (x - mean), whether p > 0; where frequency[k] is not zero (spectral hashing),
 * whether cos(pi frequency[k] (p - low[k])) > 0. */
#ifndef KI_HASH_HASHER_H
#define KI_HASH_HASHER_H

#include <kith/hashing.h>

#include "math/product.h"
#include "simd/kernels.h"

struct kith_hasher {
    const kith_allocator *allocator;
    kith_hash_method method;
    size_t dim, bits;
    float *mean;            /* [dim] */
    float *w;               /* [bits][dim] */
    float *frequency, *low; /* [bits] */
    float *scale;           /* [bits]: what a bit's sign says of x along w[k], for decoding */
    float *bias;            /* [bits]: -w . mean */
    ki_packed *forward;     /* w and bias */
    const ki_kernels *kernels;
};

/* An empty one, arrays zeroed. *hasher NULL on failure. */
kith_status ki_hasher_create(size_t dim, size_t bits, kith_hash_method method,
                             const kith_allocator *allocator, kith_hasher **hasher, kith_error *err);

/* After mean and w were filled: what follows from them. */
kith_status ki_hasher_ready(kith_hasher *hasher, kith_error *err);

/* One row, without an allocation: projection[bits] is scratch. */
void ki_hasher_encode_row(const kith_hasher *hasher, const float *x, float *projection, uint8_t *code);

/* The learners: fill mean, w, frequency and low from x[n][dim]. */
kith_status ki_learn_random(kith_hasher *hasher, const float *x, size_t n, uint64_t seed);
/* whitening: the power of the standard deviation that each component is divided by. */
kith_status ki_learn_pcah(kith_hasher *hasher, const float *x, size_t n, double whitening,
                          const kith_run *run, kith_error *err);
kith_status ki_learn_itq(kith_hasher *hasher, const float *x, size_t n, const kith_hasher_options *options,
                         const kith_run *run, kith_error *err);
kith_status ki_learn_spectral(kith_hasher *hasher, const float *x, size_t n, const kith_run *run,
                              kith_error *err);

#endif
