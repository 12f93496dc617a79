/* classic.h - the features CLASSIC and PLAIN: local parts (local.h) made into one vector.
 *
 * CLASSIC joins the VLAD of the gradients, the VLAD of the colours and the colour histograms, by weight,
 * subtracts the mean and projects to the leading principal directions of the sample. Where the literature
 * whitens, which makes all directions count the same, this does the opposite: direction k is scaled by
 * (lambda_k / lambda_1)^0.15. What many pictures share is what makes pictures alike for people, while copies are told
 * apart by any of the hundreds of directions; whitening halves the mAP on Corel-1k (docs/quality.md).
 *
 * PLAIN joins the histograms with the mean gradient descriptors of the whole and of three bands. */
#ifndef KI_IMAGE_CLASSIC_H
#define KI_IMAGE_CLASSIC_H

#include <kith/features.h>

#include "image/bytes.h"
#include "image/local.h"
#include "image/vlad.h"

enum {
    KI_CLASSIC_VERSION = 1, /* of the algorithm: to be raised when vectors change */
    KI_GRADIENT_LOW = 64,
    KI_COLOUR_LOW = 32,
    KI_JOINT_DIM = (KI_GRADIENT_LOW + KI_COLOUR_LOW) * KI_VLAD_WORDS + KI_HISTOGRAM_DIM,
    KI_CLASSIC_MAX_DIM = 256,
    KI_PLAIN_DIM = KI_HISTOGRAM_DIM + 4 * KI_GRADIENT_DIM
};

/* What is learnt. One block of floats: both codebooks, then the joint projection. */
typedef struct ki_classic {
    size_t dim;     /* of the vectors, 1..KI_CLASSIC_MAX_DIM */
    size_t trained; /* on so many pictures */
    float *block;   /* [ki_classic_floats(dim)] */
    ki_codebook gradients, colours;
    const float *projection; /* [KI_JOINT_DIM][dim] */
    const float *offset;     /* [dim], the projected mean */
} ki_classic;

void ki_classic_clear(ki_classic *classic, const kith_allocator *allocator);

/* The vector, of length 1. joint: scratch for KI_JOINT_DIM floats. */
void ki_classic_vector(const ki_classic *classic, const ki_local *local, float *joint, float *vector);
void ki_plain_vector(const ki_local *local, float *vector);

/* A sample for training: *sample, *size. */
kith_status ki_classic_sample(const ki_local *local, uint64_t seed, const kith_allocator *allocator,
                              uint8_t **sample, size_t *size, kith_error *err);

/* *out is zeroed on failure. */
kith_status ki_classic_train(const uint8_t *const *samples, const size_t *sizes, size_t n, uint64_t seed,
                             const kith_allocator *allocator, const kith_run *run, ki_classic *out,
                             kith_error *err);

void ki_classic_put(const ki_classic *classic, ki_bytes *bytes);
kith_status ki_classic_get(ki_bytes *bytes, const kith_allocator *allocator, ki_classic *classic,
                           kith_error *err);

#endif
