/* signatures.c - the codec of MinHash<K>: signatures of sets (kith/minhash.h) as codes.
 *
 *     code    | value 0 | value 1 | ... | value K-1 | tokens of the set |      uint32 each
 *
 * The distance is 1 - the part of the values in which two signatures agree, the estimate of 1 - J. Codes are made by the
 * structure, which owns the hash functions (they follow from the seed), and come in as rows of bits.
 */
#include <string.h>

#include <kith/minhash.h>

#include "base/error.h"
#include "base/memory.h"
#include "index/family.h"

typedef struct signature_scorer {
    ki_scorer base;
    uint32_t query[]; /* [K] */
} signature_scorer;

static void scorer_free(ki_scorer *scorer)
{
    ki_free(scorer->allocator, scorer);
}

static void scorer_query(ki_scorer *scorer, const uint8_t *query)
{
    memcpy(((signature_scorer *)scorer)->query, query, scorer->codec->dim * sizeof(uint32_t));
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
    const uint32_t *query = ((const signature_scorer *)scorer)->query;
    size_t hashes = scorer->codec->dim;
    for (size_t i = 0; i < n; i++) {
        const void *code = codes.code + (rows ? rows[i] : i) * scorer->codec->code_size;
        out[i] = (float)(1 - kith_minhash_similarity(query, code, hashes));
    }
}

static const ki_scorer_ops signature_scorer_ops = {
    .free = scorer_free, .query_bits = scorer_query, .row = scorer_row, .score = scorer_score};

static kith_status make_scorer(const ki_codec *codec, const kith_allocator *allocator, ki_scorer **out,
                               kith_error *err)
{
    size_t bytes = sizeof(signature_scorer) + codec->dim * sizeof(uint32_t);
    signature_scorer *s = ki_alloc_zero(allocator, 1, bytes);
    *out = NULL;
    if (!s) return ki_fail_nomem(err, bytes);
    s->base = (ki_scorer){&signature_scorer_ops, codec, allocator};
    *out = &s->base;
    return KITH_OK;
}

static void codec_free(ki_codec *codec)
{
    ki_free(codec->allocator, codec);
}

static void encode_bits(const ki_codec *codec, const uint8_t *bits, size_t n, uint8_t *code)
{
    if (n > 0) memcpy(code, bits, n * codec->code_size);
}

static const ki_codec_ops signature_ops = {
    .name = "signatures", .free = codec_free, .encode_bits = encode_bits, .scorer = make_scorer};

static kith_status make(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                        int residual, const kith_allocator *allocator, ki_codec **out, kith_error *err)
{
    (void)params, (void)dim, (void)residual;
    *out = NULL;
    ki_codec *codec = ki_alloc_zero(allocator, 1, sizeof *codec);
    if (!codec) return ki_fail_nomem(err, sizeof *codec);
    *codec = (ki_codec){.ops = &signature_ops,
                        .allocator = allocator,
                        .dim = (size_t)args[0],
                        .metric = metric,
                        .trained = 1,
                        .code_size = ((size_t)args[0] + 1) * sizeof(uint32_t)};
    *out = codec;
    return KITH_OK;
}

const ki_codec_part ki_codec_part_signatures = {
    .part = {.info = {.pattern = "Signatures<K>", .about = "codec: MinHash signatures"}},
    .metrics = KI_METRIC_BIT(KITH_JACCARD),
    .exact = 1, /* a refinement would have to keep the sets */
    .make = make,
};
