/* The vectors of CLASSIC and PLAIN, and what is learnt as bytes; see classic.h. Training is in classic_train.c. */
#include "image/classic.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "image/classic_parts.h"

/* The parts' shares of the squared length, from trials on Corel-1k: gradients 1/2, colours 1/4, histograms 1/4. */
static const float gradient_weight = 0.70710678f, colour_weight = 0.5f, histogram_weight = 0.5f;

size_t ki_classic_floats(size_t dim)
{
    return ki_codebook_floats(KI_GRADIENT_DIM, KI_GRADIENT_LOW) +
           ki_codebook_floats(KI_COLOUR_DIM, KI_COLOUR_LOW) + (KI_JOINT_DIM + 1) * dim;
}

void ki_classic_lay_out(ki_classic *classic)
{
    const float *block = classic->block;
    classic->gradients = ki_codebook_over(block, KI_GRADIENT_DIM, KI_GRADIENT_LOW);
    block += ki_codebook_floats(KI_GRADIENT_DIM, KI_GRADIENT_LOW);
    classic->colours = ki_codebook_over(block, KI_COLOUR_DIM, KI_COLOUR_LOW);
    block += ki_codebook_floats(KI_COLOUR_DIM, KI_COLOUR_LOW);
    classic->projection = block;
    classic->offset = block + KI_JOINT_DIM * classic->dim;
}

void ki_classic_clear(ki_classic *classic, const kith_allocator *allocator)
{
    ki_free(allocator, classic->block);
    memset(classic, 0, sizeof *classic);
}

void ki_classic_join(const ki_classic *classic, const ki_local *local, float *joint)
{
    ki_vlad(&classic->gradients, local->gradients, local->n_gradients, gradient_weight, joint);
    joint += KI_GRADIENT_LOW * KI_VLAD_WORDS;
    ki_vlad(&classic->colours, local->colours, local->n_colours, colour_weight, joint);
    joint += KI_COLOUR_LOW * KI_VLAD_WORDS;
    for (size_t i = 0; i < KI_HISTOGRAM_DIM; i++) joint[i] = histogram_weight * local->histogram[i];
}

/* Scale to length 1. What has no length becomes the first axis: a vector that everything may be compared with. */
static void normalise(float *vector, size_t dim)
{
    double squares = 0;
    for (size_t i = 0; i < dim; i++) squares += (double)vector[i] * vector[i];
    if (squares < 1e-20) {
        memset(vector, 0, dim * sizeof *vector);
        vector[0] = 1;
        return;
    }
    float scale = (float)(1 / sqrt(squares));
    for (size_t i = 0; i < dim; i++) vector[i] *= scale;
}

void ki_classic_vector(const ki_classic *classic, const ki_local *local, float *joint, float *vector)
{
    size_t dim = classic->dim;
    ki_classic_join(classic, local, joint);
    for (size_t j = 0; j < dim; j++) vector[j] = -classic->offset[j];
    for (size_t d = 0; d < KI_JOINT_DIM; d++) {
        const float *row = classic->projection + d * dim;
        float weight = joint[d];
        if (weight == 0) continue; /* most bins of the histograms */
        for (size_t j = 0; j < dim; j++) vector[j] += weight * row[j];
    }
    normalise(vector, dim);
}

void ki_plain_vector(const ki_local *local, float *vector)
{
    for (size_t i = 0; i < KI_HISTOGRAM_DIM; i++) vector[i] = local->histogram[i];
    float *bands = vector + KI_HISTOGRAM_DIM;
    memset(bands, 0, 4 * KI_GRADIENT_DIM * sizeof *bands);
    for (size_t i = 0; i < local->n_gradients; i++) {
        const float *descriptor = local->gradients + i * KI_GRADIENT_DIM;
        size_t third = (size_t)fminf(2, 3 * local->heights[i]);
        float *band = bands + (1 + third) * KI_GRADIENT_DIM;
        for (size_t d = 0; d < KI_GRADIENT_DIM; d++) bands[d] += descriptor[d], band[d] += descriptor[d];
    }
    for (size_t band = 0; band < 4; band++) { /* each to length 1/2, the four together to 1 */
        float squares = 0, *b = bands + band * KI_GRADIENT_DIM;
        for (size_t d = 0; d < KI_GRADIENT_DIM; d++) squares += b[d] * b[d];
        float scale = squares > 0 ? 0.5f / sqrtf(squares) : 0;
        for (size_t d = 0; d < KI_GRADIENT_DIM; d++) b[d] *= scale;
    }
    normalise(vector, KI_PLAIN_DIM);
}

/* ---- as bytes ---- */

void ki_classic_put(const ki_classic *classic, ki_bytes *bytes)
{
    ki_bytes_put_u64(bytes, KI_CLASSIC_VERSION);
    ki_bytes_put_u64(bytes, classic->dim);
    ki_bytes_put_u64(bytes, classic->trained);
    for (size_t i = 0; i < ki_classic_floats(classic->dim); i++) ki_bytes_put_f32(bytes, classic->block[i]);
}

kith_status ki_classic_get(ki_bytes *bytes, const kith_allocator *allocator, ki_classic *classic,
                           kith_error *err)
{
    memset(classic, 0, sizeof *classic);
    uint64_t version = ki_bytes_get_u64(bytes), dim = ki_bytes_get_u64(bytes),
             trained = ki_bytes_get_u64(bytes);
    if (version != KI_CLASSIC_VERSION)
        return ki_fail(err, KITH_VERSION, "classic features of version %llu, this program makes version %d",
                       (unsigned long long)version, KI_CLASSIC_VERSION);
    if (dim < 1 || dim > KI_CLASSIC_MAX_DIM || trained > UINT32_MAX ||
        bytes->size - bytes->at != ki_classic_floats((size_t)dim) * sizeof(float))
        return ki_fail(err, KITH_CORRUPT, "saved features are damaged");
    classic->dim = (size_t)dim;
    classic->trained = (size_t)trained;
    size_t floats = ki_classic_floats(classic->dim);
    classic->block = ki_alloc(allocator, floats, sizeof(float));
    if (!classic->block) return ki_fail_nomem(err, floats * sizeof(float));
    int finite = 1;
    for (size_t i = 0; i < floats; i++) {
        classic->block[i] = ki_bytes_get_f32(bytes);
        finite &= fabsf(classic->block[i]) < 1e6f; /* what is learnt is of the order of 1; sums stay finite */
    }
    if (!finite) {
        ki_classic_clear(classic, allocator);
        return ki_fail(err, KITH_CORRUPT, "saved features hold numbers out of range");
    }
    ki_classic_lay_out(classic);
    return KITH_OK;
}
