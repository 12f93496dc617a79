/* The codec of half floats: IEEE binary16, 11 significant bits, half the memory of float32 and nearly its answers.
 *
 * A component is rounded to the nearest half float, within 2^-11 of its magnitude (2^-25 below 2^-14); components beyond
 * the largest half float, 65504, are kept as that: data of such size belongs into SQ8, whose ranges are learned. The query
 * stays float32; a row of it is widened in registers.
 *
 * Bounds (L2). Let P clamp to +-65504: no two points are nearer after it than they were before. A row x with the code y lies
 * within e = 2^-11 |y| + 2^-25 sqrt(dim) of y once it is clamped, and |y| <= |q| + |q - y|, so
 * |q - x| >= |P(q) - P(x)| >= |q - y| - |q - P(q)| - e. */
#include "quant/codec.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "simd/kernels.h"

#define LARGEST 65504.0f
#define ERROR 0x1.04p-11 /* of a component, and of what is summed up in float32 */
#define BLOCK 1024       /* components clamped at a time: 4 KiB of stack */

typedef void (*score_fn)(const float *q, const void *base, size_t stride_bytes, const uint32_t *rows,
                         size_t n, size_t dim, float *out);

typedef struct f16_codec {
    ki_codec base;
    const ki_kernels *kernels;
} f16_codec;

typedef struct f16_scorer {
    ki_scorer base;
    score_fn score;
    const ki_kernels *kernels;
    float away;    /* what a lower bound takes off, but for ERROR |q - y|; below 0: not counted yet */
    float query[]; /* [dim] */
} f16_scorer;

/* ---- scorer ---- */

static void scorer_free(ki_scorer *scorer)
{
    ki_free(scorer->allocator, scorer);
}

static void scorer_query(ki_scorer *scorer, const float *query)
{
    f16_scorer *s = (f16_scorer *)scorer;
    memcpy(s->query, query, scorer->codec->dim * sizeof *query);
    s->away = -1;
}

static void scorer_row(ki_scorer *scorer, const uint8_t *code, const float *factor, const float *origin)
{
    (void)factor, (void)origin;
    f16_scorer *s = (f16_scorer *)scorer;
    s->kernels->f16_to_f32((const uint16_t *)(const void *)code, scorer->codec->dim, s->query);
    s->away = -1;
}

static void scorer_score(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    (void)worst;
    const f16_scorer *s = (const f16_scorer *)scorer;
    s->score(s->query, codes.code, scorer->codec->code_size, rows, n, scorer->codec->dim, out);
}

/* |q - P(q)| + e but for the part that is the row's: see Bounds. */
static double away_from_rows(const float *query, size_t dim)
{
    double outside = 0, length2 = 0;
    for (size_t d = 0; d < dim; d++) {
        double size = fabs((double)query[d]), off = fmax(size - (double)LARGEST, 0);
        outside += off * off;
        length2 += size * size;
    }
    return sqrt(outside) + ERROR * sqrt(length2) + 0x1p-25 * sqrt((double)dim);
}

static void scorer_bound(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    f16_scorer *s = (f16_scorer *)scorer;
    scorer_score(scorer, codes, rows, n, worst, out);
    if (s->away < 0) s->away = (float)away_from_rows(s->query, scorer->codec->dim);
    for (size_t i = 0; i < n; i++) {
        float near = sqrtf(out[i]) * (1 - (float)ERROR) - s->away;
        out[i] = !(near < INFINITY) ? -INFINITY
                 : near > 0         ? near * near
                                    : 0; /* overflown: nothing is known */
    }
}

static const ki_scorer_ops f16_scorer_ops = {.free = scorer_free,
                                             .query = scorer_query,
                                             .row = scorer_row,
                                             .score = scorer_score,
                                             .bound = scorer_bound};

static kith_status make_scorer(const ki_codec *codec, const kith_allocator *allocator, ki_scorer **out,
                               kith_error *err)
{
    const ki_kernels *kernels = ((const f16_codec *)codec)->kernels;
    size_t bytes = sizeof(f16_scorer) + codec->dim * sizeof(float);
    f16_scorer *s = ki_alloc_zero(allocator, 1, bytes);
    *out = NULL;
    if (!s) return ki_fail_nomem(err, bytes);
    s->base = (ki_scorer){&f16_scorer_ops, codec, allocator};
    s->kernels = kernels;
    s->score = codec->metric == KITH_L2SQ  ? kernels->l2sq_f16
               : codec->metric == KITH_DOT ? kernels->negdot_f16
                                           : kernels->l1_f16;
    *out = &s->base;
    return KITH_OK;
}

/* ---- codec ---- */

static void codec_free(ki_codec *codec)
{
    ki_free(codec->allocator, codec);
}

static kith_status encode(const ki_codec *codec, const float *x, size_t n, ki_origins from,
                          const kith_run *run, uint8_t *code, float *factor, kith_error *err)
{
    (void)from, (void)run, (void)factor, (void)err;
    uint16_t *half = (uint16_t *)(void *)code;
    float clamped[BLOCK];
    for (size_t done = 0, all = n * codec->dim; done < all; done += BLOCK) {
        size_t count = all - done < BLOCK ? all - done : BLOCK;
        for (size_t i = 0; i < count; i++) {
            float value = x[done + i];
            clamped[i] = value > LARGEST ? LARGEST : value < -LARGEST ? -LARGEST : value;
        }
        ((const f16_codec *)codec)->kernels->f32_to_f16(clamped, count, half + done);
    }
    return KITH_OK;
}

static void decode(const ki_codec *codec, const uint8_t *code, const float *factor, const float *origin,
                   float *out)
{
    (void)factor, (void)origin;
    ((const f16_codec *)codec)->kernels->f16_to_f32((const uint16_t *)(const void *)code, codec->dim, out);
}

static kith_status check(const ki_codec *codec, ki_codes codes, size_t n, int deep, kith_error *err)
{
    const uint16_t *half = (const uint16_t *)(const void *)codes.code;
    for (size_t i = 0; i < n * codec->dim && deep; i++)
        if ((half[i] & 0x7c00) == 0x7c00)
            return ki_fail(err, KITH_CORRUPT, "row %zu holds NaN or infinity", i / codec->dim);
    return KITH_OK;
}

static const ki_codec_ops f16_ops = {.name = "f16",
                                     .free = codec_free,
                                     .encode = encode,
                                     .decode = decode,
                                     .scorer = make_scorer,
                                     .check = check};

kith_status ki_codec_f16_create(size_t dim, kith_metric metric, const kith_allocator *allocator,
                                ki_codec **out, kith_error *err)
{
    *out = NULL;
    if (dim == 0 || dim > SIZE_MAX / 4 / sizeof(float))
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 1..%zu", dim, SIZE_MAX / 4 / sizeof(float));
    if (metric != KITH_L2SQ && metric != KITH_DOT && metric != KITH_L1)
        return ki_fail(err, KITH_UNSUPPORTED, "metric %d is not one of l2, dot, l1", (int)metric);
    f16_codec *codec = ki_alloc_zero(allocator, 1, sizeof *codec);
    if (!codec) return ki_fail_nomem(err, sizeof *codec);
    codec->kernels = ki_kernels_get();
    codec->base = (ki_codec){.ops = &f16_ops,
                             .allocator = allocator,
                             .dim = dim,
                             .metric = metric,
                             .trained = 1,
                             .bounded = metric == KITH_L2SQ,
                             .code_size = dim * sizeof(uint16_t)};
    *out = &codec->base;
    return KITH_OK;
}
