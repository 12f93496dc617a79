/* The codec of product-quantised rows of 4 bits a segment, scanned by look-ups in registers.
 *
 * F. Andre, A.-M. Kermarrec, N. Le Scouarnec, "Cache locality is not enough: high-performance nearest neighbor search
 * with product quantization fast scan", PVLDB 9(4), 2015; the same, "Accelerated nearest neighbor search with Quick ADC",
 * ICMR 2017. A table of 16 bytes fits into a register, and one instruction (pshufb, tbl) looks up 16 to 64 of its entries at
 * once, given that the same segment of as many rows lies side by side: hence blocks of 32 rows (quant/layout.h).
 *
 * Whole numbers. The float32 tables t[j][c] of a query (quant/codec_pq.c: in cells they know the query alone, so they are made
 * once a query, where the usual tables of |q - c - y|^2 are made again for every cell) become
 *
 *     e[j][c] = round((t[j][c] - min_c t[j]) / s),     s = the widest range of a segment / 63,
 *
 * and a row's value is sum_j min t[j] + s * sum_j e[j][code[j]] + factor. The sum is exact: 4 entries fit into 8 bits, all of
 * them into 16 (with more than 1,040 segments the largest entry is 65535 / m instead of 63). So all that is lost against
 * float32 tables is the rounding of entries: at most s / 2 a segment, m s / 2 in all, and of the order of s sqrt(m / 12) in
 * fact. In cells the tables are of the query less a centre of all cells (quant/codec_pq.c), not less the cell's own: s grows
 * with the distance of the query to that centre, and without a refinement some thousandths of recall are lost where it is several
 * times that to the neighbours (docs/families/pq-fastscan.md). Quick ADC's saturating 8-bit sums are a little faster and lose
 * more; they need a bound of the distances before the scan, this does not. A smaller s with entries cut off at 63 would
 * bound no error.
 *
 * By residual: yes, wherever the structure has origins and the metric allows (L2SQ, DOT). It costs a float32 a row under L2SQ
 * and one addition, and codes a third to a half of the variance.
 *
 * Cost: a query's tables m * 16 * dim / m multiply-adds and m registers of rounding; a row m / 2 bytes read. Of 64 bytes, two
 * of 32 rows, 8 vector instructions, 2 of them shuffles: on cores with two vector units of 512 bits these bind, neither the
 * shuffle unit (half used) nor the second cache (bench/micro pq4). */
#include "quant/codec.h"

#include <kith/pq.h>

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "quant/codec_pq.h"
#include "quant/pq_internal.h"

#define MOST 63 /* four of them fit into a byte */

typedef struct fs_scorer {
    ki_scorer base;
    float distance; /* of the query to the origin; 0 in plain codecs */
    float length2;  /* of the query, where there are factors */
    float scale, bias;
    float *tables;    /* [m][16] */
    float *query;     /* [dim] */
    float *centred;   /* [dim]: scratch */
    uint8_t *entries; /* as pq4_scan has them */
} fs_scorer;

/* Bytes of entries: 128 for each two bytes of the code. Those of segments that are not there stay 0. */
static size_t entry_bytes(const kith_pq *pq)
{
    return (pq->code_size + 1) / 2 * 128;
}

static void scorer_free(ki_scorer *scorer)
{
    fs_scorer *s = (fs_scorer *)scorer;
    ki_free(scorer->allocator, s->tables);
    ki_free(scorer->allocator, s->query);
    ki_free(scorer->allocator, s->centred);
    ki_free(scorer->allocator, s->entries);
    ki_free(scorer->allocator, s);
}

static void scorer_query(ki_scorer *scorer, const float *query)
{
    fs_scorer *s = (fs_scorer *)scorer;
    const kith_pq *pq = ki_pq_codec_pq(scorer->codec);
    unsigned most = (unsigned)(UINT16_MAX / pq->m);
    s->distance = 0;
    ki_pq_codec_tables(scorer->codec, query, s->centred, s->tables);
    pq->kernels->pq4_tables(s->tables, pq->m, most < MOST ? most : MOST, s->entries, &s->scale, &s->bias);
    if (scorer->codec->n_factors == 0) return;
    memmove(s->query, query, pq->dim * sizeof *query);
    s->length2 = ki_pq_codec_length2(scorer->codec, query);
}

static void scorer_row(ki_scorer *scorer, const uint8_t *code, const float *factor, const float *origin)
{
    fs_scorer *s = (fs_scorer *)scorer;
    ki_pq_codec_decode(scorer->codec, code, factor, origin, s->query);
    scorer_query(scorer, s->query);
}

static void scorer_rebase(ki_scorer *scorer, const float *origin, float distance)
{
    fs_scorer *s = (fs_scorer *)scorer;
    s->distance = ki_pq_codec_distance(scorer->codec, s->query, s->length2, origin, distance);
}

static void scan(const fs_scorer *s, ki_codes codes, size_t first, size_t n, float *out)
{
    const kith_pq *pq = ki_pq_codec_pq(s->base.codec);
    pq->kernels->pq4_scan(s->entries, pq->code_size, codes.code + first * pq->code_size, n, s->scale,
                          s->distance + s->bias, s->base.codec->n_factors ? codes.factor + first : NULL, out);
}

static void scorer_score(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    (void)worst;
    const fs_scorer *s = (const fs_scorer *)scorer;
    if (!rows) {
        scan(s, codes, 0, n, out);
        return;
    }
    /* Some rows only: the blocks that hold them, and no factor beyond the last of these rows is read. */
    float all[KI_BLOCK_ROWS];
    for (size_t i = 0; i < n;) {
        size_t first = rows[i] / KI_BLOCK_ROWS * KI_BLOCK_ROWS, end = i, last = rows[i];
        for (; end < n && rows[end] / KI_BLOCK_ROWS == first / KI_BLOCK_ROWS; end++)
            last = rows[end] > last ? rows[end] : last;
        scan(s, codes, first, last + 1 - first, all);
        for (; i < end; i++) out[i] = all[rows[i] - first];
    }
}

static const ki_scorer_ops plain_scorer_ops = {
    .free = scorer_free, .query = scorer_query, .row = scorer_row, .score = scorer_score};
static const ki_scorer_ops residual_scorer_ops = {.free = scorer_free,
                                                  .query = scorer_query,
                                                  .row = scorer_row,
                                                  .rebase = scorer_rebase,
                                                  .score = scorer_score};

static kith_status make_scorer(const ki_codec *codec, const kith_allocator *allocator, ki_scorer **out,
                               kith_error *err)
{
    const kith_pq *pq = ki_pq_codec_pq(codec);
    *out = NULL;
    if (!pq->trained) return ki_fail(err, KITH_UNTRAINED, "the product quantiser has no codebooks yet");
    fs_scorer *s = ki_alloc_zero(allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->base = (ki_scorer){codec->residual ? &residual_scorer_ops : &plain_scorer_ops, codec, allocator};
    s->tables = ki_alloc(allocator, pq->m * pq->ks, sizeof *s->tables);
    s->query = ki_alloc(allocator, pq->dim, sizeof *s->query);
    s->centred = ki_alloc(allocator, pq->dim, sizeof *s->centred);
    s->entries = ki_alloc_zero(allocator, entry_bytes(pq), 1);
    if (!s->tables || !s->query || !s->centred || !s->entries) {
        scorer_free(&s->base);
        return ki_fail_nomem(err, pq->m * pq->ks * sizeof *s->tables + entry_bytes(pq));
    }
    *out = &s->base;
    return KITH_OK;
}

/* Every string of bytes is a code; one factor a row lies where it does without blocks. */
static kith_status check(const ki_codec *codec, ki_codes codes, size_t n, int deep, kith_error *err)
{
    const kith_pq *pq = ki_pq_codec_pq(codec);
    if (deep && codec->n_factors && n > 0 && !pq->kernels->finite_f32(codes.factor, n))
        return ki_fail(err, KITH_CORRUPT, "the factors hold NaN or infinity");
    return KITH_OK;
}

static const ki_codec_ops pqfs_ops = {.name = "pqfs",
                                      .free = ki_pq_codec_free,
                                      .origins = ki_pq_codec_origins,
                                      .train = ki_pq_codec_train,
                                      .encode = ki_pq_codec_encode,
                                      .decode = ki_pq_codec_decode,
                                      .scorer = make_scorer,
                                      .save = ki_pq_codec_save,
                                      .load = ki_pq_codec_load,
                                      .check = check};

kith_status ki_codec_pqfs_create(size_t dim, size_t m, kith_metric metric, int residual, size_t iterations,
                                 const kith_allocator *allocator, ki_codec **codec, kith_error *err)
{
    KI_TRY(ki_pq_codec_make(&pqfs_ops, dim, m, 4, metric, residual, iterations, allocator, codec, err));
    (*codec)->block = KI_BLOCK_ROWS;
    return KITH_OK;
}
