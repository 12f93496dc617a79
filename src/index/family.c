/* family.c - what family.h offers to families: rows on their way in, and scratch memory. */
#include "index/family.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"

/* ---- Rows on their way in ---- */

void ki_unit(const ki_kernels *kernels, const float *x, size_t dim, float *out)
{
    /* In double, so that rows of tiny or huge components keep their direction. */
    double norm2 = 0;
    for (size_t d = 0; d < dim; d++) norm2 += (double)x[d] * x[d];
    (void)kernels;
    if (norm2 == 0) {
        memset(out, 0, dim * sizeof *out);
        return;
    }
    double scale = 1 / __builtin_sqrt(norm2);
    for (size_t d = 0; d < dim; d++) out[d] = (float)(x[d] * scale);
}

const float *ki_input_block(const ki_input *input, size_t first, size_t count, float *scratch)
{
    const float *x = input->x + first * input->dim;
    if (!input->unit) return x;
    for (size_t i = 0; i < count; i++)
        ki_unit(input->kernels, x + i * input->dim, input->dim, scratch + i * input->dim);
    return scratch;
}

void ki_input_gather(const ki_input *input, const uint64_t *picked, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) {
        float *row = out + i * input->dim;
        const float *from = ki_input_block(input, picked[i], 1, row);
        if (from != row) memcpy(row, from, input->dim * sizeof *row);
    }
}

kith_status ki_input_sample(const ki_input *input, size_t rows, uint64_t seed,
                            const kith_allocator *allocator, float **sample, const float **x, size_t *n,
                            kith_error *err)
{
    *sample = NULL;
    *x = input->x;
    *n = input->n;
    if (input->n <= rows && !input->unit) return KITH_OK;
    size_t count = input->n < rows ? input->n : rows;
    uint64_t *picked = ki_alloc(allocator, count, sizeof *picked);
    float *copy = picked ? ki_alloc(allocator, count, input->dim * sizeof *copy) : NULL;
    if (!copy) {
        ki_free(allocator, picked);
        return ki_fail_nomem(err, count * input->dim * sizeof *copy);
    }
    ki_rng rng;
    ki_rng_init(&rng, seed, 0);
    ki_rng_sample(&rng, input->n, count, picked);
    ki_input_gather(input, picked, count, copy);
    ki_free(allocator, picked);
    *sample = copy;
    *x = copy;
    *n = count;
    return KITH_OK;
}

/* ---- Scratch ---- */

struct ki_scratch {
    ki_scorer *scorer; /* all of them begin so, as far as this file cares */
};

kith_status ki_scratch_make(const ki_structure *structure, size_t size, ki_scratch **scratch, kith_error *err)
{
    const ki_structure_env *env = structure->env;
    *scratch = NULL;
    ki_scratch *s = ki_alloc_zero(env->allocator, 1, size);
    if (!s) return ki_fail_nomem(err, size);
    kith_status status = env->codec->ops->scorer(env->codec, env->allocator, &s->scorer, err);
    if (status != KITH_OK) {
        ki_free(env->allocator, s);
        return status;
    }
    *scratch = s;
    return KITH_OK;
}
