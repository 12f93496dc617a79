/* The codec that keeps float32 rows as they are. */
#include "quant/codec.h"

#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "simd/kernels.h"

static const ki_codec_ops f32_ops;

typedef struct f32_codec {
    ki_codec base;
    const ki_kernels *kernels;
} f32_codec;

typedef struct f32_scorer {
    ki_scorer base;
    ki_rows_fn rows;
    ki_gather_fn gather;
    float query[]; /* [dim] */
} f32_scorer;

/* ---- scorer ---- */

static void scorer_free(ki_scorer *scorer)
{
    ki_free(scorer->allocator, scorer);
}

static void scorer_query(ki_scorer *scorer, const float *query)
{
    f32_scorer *s = (f32_scorer *)scorer;
    memcpy(s->query, query, scorer->codec->dim * sizeof *query);
}

static void scorer_row(ki_scorer *scorer, const uint8_t *code, const float *factor, const float *origin)
{
    (void)factor, (void)origin;
    f32_scorer *s = (f32_scorer *)scorer;
    memcpy(s->query, code, scorer->codec->code_size);
}

static void scorer_score(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    (void)worst;
    const f32_scorer *s = (const f32_scorer *)scorer;
    const ki_codec *codec = scorer->codec;
    if (rows)
        s->gather(s->query, codes.code, codec->code_size, rows, n, codec->dim, out);
    else
        s->rows(s->query, ki_codec_f32_rows(codec, codes), n, codec->dim, out);
}

static const ki_scorer_ops f32_scorer_ops = {
    .free = scorer_free, .query = scorer_query, .row = scorer_row, .score = scorer_score};

static kith_status make_scorer(const ki_codec *codec, const kith_allocator *allocator, ki_scorer **out,
                               kith_error *err)
{
    const f32_codec *f32 = (const f32_codec *)codec;
    size_t bytes = sizeof(f32_scorer) + codec->code_size;
    f32_scorer *s = ki_alloc_zero(allocator, 1, bytes);
    *out = NULL;
    if (!s) return ki_fail_nomem(err, bytes);
    s->base = (ki_scorer){&f32_scorer_ops, codec, allocator};
    s->rows = ki_rows_of(f32->kernels, codec->metric);
    s->gather = ki_gather_of(f32->kernels, codec->metric);
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
    if (n > 0) memcpy(code, x, n * codec->code_size);
    return KITH_OK;
}

static void decode(const ki_codec *codec, const uint8_t *code, const float *factor, const float *origin,
                   float *out)
{
    (void)factor, (void)origin;
    memcpy(out, code, codec->code_size);
}

static kith_status check(const ki_codec *codec, ki_codes codes, size_t n, int deep, kith_error *err)
{
    const f32_codec *f32 = (const f32_codec *)codec;
    const float *x = ki_codec_f32_rows(codec, codes);
    for (size_t i = 0; i < n && deep; i++)
        if (!f32->kernels->finite_f32(x + i * codec->dim, codec->dim))
            return ki_fail(err, KITH_CORRUPT, "row %zu holds NaN or infinity", i);
    return KITH_OK;
}

const float *ki_codec_f32_rows(const ki_codec *codec, ki_codes codes)
{
    return codec->ops == &f32_ops ? (const float *)(const void *)codes.code : NULL;
}

static const ki_codec_ops f32_ops = {.name = "f32",
                                     .free = codec_free,
                                     .encode = encode,
                                     .decode = decode,
                                     .scorer = make_scorer,
                                     .check = check};

kith_status ki_codec_f32_create(size_t dim, kith_metric metric, const kith_allocator *allocator,
                                ki_codec **out, kith_error *err)
{
    *out = NULL;
    if (dim == 0 || dim > SIZE_MAX / 2 / sizeof(float))
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 1..%zu", dim, SIZE_MAX / 2 / sizeof(float));
    if (metric != KITH_L2SQ && metric != KITH_DOT && metric != KITH_L1)
        return ki_fail(err, KITH_UNSUPPORTED, "metric %d is not one of l2, dot, l1", (int)metric);
    f32_codec *codec = ki_alloc_zero(allocator, 1, sizeof *codec);
    if (!codec) return ki_fail_nomem(err, sizeof *codec);
    codec->kernels = ki_kernels_get();
    codec->base = (ki_codec){.ops = &f32_ops,
                             .allocator = allocator,
                             .dim = dim,
                             .metric = metric,
                             .trained = 1,
                             .exact = 1,
                             .code_size = dim * sizeof(float)};
    *out = &codec->base;
    return KITH_OK;
}
