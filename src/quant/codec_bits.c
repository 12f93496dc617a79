/* The codec that keeps rows of bits as they are and counts the bits that differ. */
#include "quant/codec.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "simd/kernels.h"

/* Distances come as integers and leave as float32: so many at a time. */
#define COUNT_BLOCK 256

typedef struct bits_codec {
    ki_codec base;
    const ki_kernels *kernels;
} bits_codec;

typedef struct bits_scorer {
    ki_scorer base;
    const ki_kernels *kernels;
    uint8_t query[]; /* [code_size] */
} bits_scorer;

/* How far ahead of a scan its lines are fetched, because the hardware stops at the end of each page of 4 KB; and in what
 * pieces, because fetching a whole block at once fills the queue of outstanding lines. Together worth a fifth of the
 * speed out of memory (8,000,000 codes of 8 bytes: 7.3 to 8.9 GB/s where a plain sum reads 8.4; 32 bytes: 8.0 to
 * 10.2). */
#define AHEAD_BYTES 4096
#define RUN_BYTES 512

/* ---- scorer ---- */

/* Rows in order, run by run, each run's counterpart further on being fetched meanwhile. Counts become floats run by run,
 * too: all at the end, and the memory idles meanwhile (32 bytes: 82 % of its speed, so 91). */
static void scan(const bits_scorer *s, const uint8_t *code, size_t n, size_t size, float *out)
{
    uint32_t count[COUNT_BLOCK];
    size_t run = RUN_BYTES / size > 8 ? RUN_BYTES / size : 8;
    if (run > COUNT_BLOCK) run = COUNT_BLOCK;
    for (size_t first = 0; first < n; first += run) {
        size_t rows = n - first < run ? n - first : run;
        const uint8_t *from = code + first * size;
        for (size_t i = 0; i < rows * size; i += KI_CACHE_LINE)
            __builtin_prefetch((const void *)((uintptr_t)from + AHEAD_BYTES + i));
        s->kernels->hamming_rows(s->query, from, rows, size, count);
        for (size_t i = 0; i < rows; i++) out[first + i] = (float)(int32_t)count[i];
    }
}

static void scorer_free(ki_scorer *scorer)
{
    ki_free(scorer->allocator, scorer);
}

static void scorer_query(ki_scorer *scorer, const uint8_t *query)
{
    memcpy(((bits_scorer *)scorer)->query, query, scorer->codec->code_size);
}

static void scorer_row(ki_scorer *scorer, const uint8_t *code, const float *factor, const float *origin)
{
    (void)factor, (void)origin;
    scorer_query(scorer, code);
}

static void scorer_score(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    (void)worst;
    const bits_scorer *s = (const bits_scorer *)scorer;
    size_t size = scorer->codec->code_size;
    uint32_t count[COUNT_BLOCK];
    if (!rows) {
        scan(s, codes.code, n, size, out);
        return;
    }
    for (size_t first = 0; first < n; first += COUNT_BLOCK) {
        size_t block = n - first < COUNT_BLOCK ? n - first : COUNT_BLOCK;
        s->kernels->hamming_gather(s->query, codes.code, size, rows + first, block, size, count);
        for (size_t i = 0; i < block; i++) out[first + i] = (float)(int32_t)count[i];
    }
}

static const ki_scorer_ops bits_scorer_ops = {
    .free = scorer_free, .query_bits = scorer_query, .row = scorer_row, .score = scorer_score};

static kith_status make_scorer(const ki_codec *codec, const kith_allocator *allocator, ki_scorer **out,
                               kith_error *err)
{
    size_t bytes = sizeof(bits_scorer) + codec->code_size;
    bits_scorer *s = ki_alloc_zero(allocator, 1, bytes);
    *out = NULL;
    if (!s) return ki_fail_nomem(err, bytes);
    s->base = (ki_scorer){&bits_scorer_ops, codec, allocator};
    s->kernels = ((const bits_codec *)codec)->kernels;
    *out = &s->base;
    return KITH_OK;
}

/* ---- codec ---- */

static void codec_free(ki_codec *codec)
{
    ki_free(codec->allocator, codec);
}

static void encode_bits(const ki_codec *codec, const uint8_t *bits, size_t n, uint8_t *code)
{
    if (n > 0) memcpy(code, bits, n * codec->code_size);
}

static void decode_bits(const ki_codec *codec, const uint8_t *code, uint8_t *out)
{
    memcpy(out, code, codec->code_size);
}

/* Unused bits of the last byte are zero: they would count as differing. */
static kith_status check(const ki_codec *codec, ki_codes codes, size_t n, int deep, kith_error *err)
{
    unsigned used = codec->dim % 8;
    for (size_t i = 0; i < n && used && deep; i++)
        if (codes.code[(i + 1) * codec->code_size - 1] >> used)
            return ki_fail(err, KITH_CORRUPT, "row %zu has bits set beyond its %zu", i, codec->dim);
    return KITH_OK;
}

static const ki_codec_ops bits_ops = {.name = "bits",
                                      .free = codec_free,
                                      .encode_bits = encode_bits,
                                      .decode_bits = decode_bits,
                                      .scorer = make_scorer,
                                      .check = check};

kith_status ki_codec_bits_create(size_t dim, const kith_allocator *allocator, ki_codec **out, kith_error *err)
{
    *out = NULL;
    if (dim == 0 || dim >= (size_t)1 << 24)
        return ki_fail(err, KITH_INVALID, "dim is %zu bits, allowed 1..%d", dim, (1 << 24) - 1);
    bits_codec *codec = ki_alloc_zero(allocator, 1, sizeof *codec);
    if (!codec) return ki_fail_nomem(err, sizeof *codec);
    codec->kernels = ki_kernels_get();
    codec->base = (ki_codec){.ops = &bits_ops,
                             .allocator = allocator,
                             .dim = dim,
                             .metric = KITH_HAMMING,
                             .trained = 1,
                             .exact = 1,
                             .code_size = kith_bit_bytes(dim)};
    *out = &codec->base;
    return KITH_OK;
}
