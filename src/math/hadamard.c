#include "math/hadamard.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "simd/kernels.h"

/* Rounds: three where each transforms all components. Where each end is to have its turn, six: after four a vector of one or
 * two components out of 960 still has a fourth moment of 4, not 3 (tests/unit/test_hadamard.c prints it). */
#define ROUNDS_WHOLE 3
#define ROUNDS_PARTS 6

#define SIGN_STREAM 0x4852 /* of the seed */

struct ki_hadamard {
    const kith_allocator *allocator;
    const ki_kernels *kernels;
    size_t dim, block, rounds; /* block: the largest power of two that is not above dim */
    size_t sign_bytes;         /* of a round */
    uint8_t *signs;            /* [rounds][sign_bytes] */
    float *scale;              /* [rounds + 1][dim]: signs, and what makes the unscaled steps orthonormal */
};

static size_t largest_block(size_t dim)
{
    size_t block = 1;
    while (block <= dim / 2) block *= 2;
    return block;
}

static size_t rounds_for(size_t dim)
{
    return largest_block(dim) == dim ? ROUNDS_WHOLE : ROUNDS_PARTS;
}

size_t ki_hadamard_sign_bytes(size_t dim)
{
    return rounds_for(dim) * ((dim + 7) / 8);
}

/* Where the transform of a round begins. */
static size_t first_of(const ki_hadamard *h, size_t round)
{
    return round % 2 ? h->dim - h->block : 0;
}

/* The steps multiply what they touch by sqrt(block), and by sqrt(2) where pairs are rotated; a scale takes off what its
 * transform is going to put on and what the pairs before it have put on. */
static void fill_scales(ki_hadamard *h)
{
    size_t dim = h->dim, half = dim / 2;
    int pairs = h->block < dim;
    for (size_t r = 0; r <= h->rounds; r++) {
        float *scale = h->scale + r * dim;
        for (size_t d = 0; d < dim; d++) {
            double value = 1;
            if (r < h->rounds) {
                value = h->signs[r * h->sign_bytes + d / 8] >> d % 8 & 1 ? -1 : 1;
                if (d - first_of(h, r) < h->block) value /= sqrt((double)h->block);
            }
            if (pairs && r > 0 && (d < half || d >= dim - half)) value /= sqrt(2);
            scale[d] = (float)value;
        }
    }
}

kith_status ki_hadamard_create(size_t dim, const uint8_t *signs, uint64_t seed,
                               const kith_allocator *allocator, ki_hadamard **out, kith_error *err)
{
    *out = NULL;
    ki_hadamard *h = ki_alloc_zero(allocator, 1, sizeof *h);
    if (!h) return ki_fail_nomem(err, sizeof *h);
    *h = (ki_hadamard){.allocator = allocator, .kernels = ki_kernels_get(), .dim = dim};
    h->block = largest_block(dim);
    h->rounds = rounds_for(dim);
    h->sign_bytes = (dim + 7) / 8;
    h->signs = ki_alloc(allocator, h->rounds, h->sign_bytes);
    h->scale = ki_alloc(allocator, h->rounds + 1, dim * sizeof *h->scale);
    if (!h->signs || !h->scale) {
        size_t bytes = (h->rounds + 1) * dim * sizeof(float);
        ki_hadamard_free(h);
        return ki_fail_nomem(err, bytes);
    }
    ki_rng rng;
    ki_rng_init(&rng, seed, SIGN_STREAM);
    for (size_t i = 0; i < h->rounds * h->sign_bytes; i++)
        h->signs[i] = signs ? signs[i] : (uint8_t)ki_rng_u64(&rng);
    fill_scales(h);
    *out = h;
    return KITH_OK;
}

void ki_hadamard_free(ki_hadamard *h)
{
    if (!h) return;
    ki_free(h->allocator, h->signs);
    ki_free(h->allocator, h->scale);
    ki_free(h->allocator, h);
}

const uint8_t *ki_hadamard_signs(const ki_hadamard *h)
{
    return h->signs;
}

uint64_t ki_hadamard_bytes(const ki_hadamard *h)
{
    return (uint64_t)(h->rounds + 1) * h->dim * sizeof(float) + h->rounds * h->sign_bytes;
}

void ki_hadamard_apply(const ki_hadamard *h, float *x)
{
    size_t dim = h->dim, half = dim / 2;
    int pairs = h->block < dim;
    for (size_t r = 0; r < h->rounds; r++) {
        h->kernels->mul_f32(x, h->scale + r * dim, dim);
        h->kernels->fht_f32(x + first_of(h, r), h->block);
        if (pairs) h->kernels->butterfly_f32(x, x + dim - half, half);
    }
    if (pairs) h->kernels->mul_f32(x, h->scale + h->rounds * dim, dim);
}

/* Every step is a symmetric matrix, so the transposed map, which is the inverse, is the steps backwards. */
void ki_hadamard_reverse(const ki_hadamard *h, float *x)
{
    size_t dim = h->dim, half = dim / 2;
    int pairs = h->block < dim;
    if (pairs) h->kernels->mul_f32(x, h->scale + h->rounds * dim, dim);
    for (size_t r = h->rounds; r-- > 0;) {
        if (pairs) h->kernels->butterfly_f32(x, x + dim - half, half);
        h->kernels->fht_f32(x + first_of(h, r), h->block);
        h->kernels->mul_f32(x, h->scale + r * dim, dim);
    }
}
