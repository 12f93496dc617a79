/* RaBitQ: a sign a component after a random rotation, or b bits a component, with an unbiased estimate of the distance
 * and a bound of its error that holds with a known probability.
 *
 * Papers. J. Gao and C. Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
 * Nearest Neighbor Search", SIGMOD 2024 (one bit). J. Gao, Y. Gou, Y. Xu, Y. Yang, C. Long, R. C.-W. Wong, "Practical and
 * Asymptotically Optimal Quantization of High-Dimensional Vectors in Euclidean Space for Approximate Nearest Neighbor
 * Search", SIGMOD 2025 (b bits).
 *
 * The idea. Let r be a row less its origin, rotated at random, and p the query less the same origin, rotated alike. Of r
 * the signs s are kept, and two numbers. Because the rotation is random, the part of p that lies across r has no
 * preference for a direction, so that
 *
 *     <r, p>  =  <s, p> |r|^2 / <s, r>  +  error,    |error| <= epsilon |r| |p| sqrt((1 - c^2) / c^2) / sqrt(dim - 1)
 *
 * with c = <s, r> / (|s| |r|), some 0.8: the expectation of the error is 0, and epsilon 1.9 holds in 97 of 100 cases
 * on the side that matters. The same is true of any other v instead of s. With b bits v is the point of the grid
 * {.., -1.5, -0.5, 0.5, 1.5, ..}^dim, 2^b values an axis, whose direction is nearest to r's; its signs are s. Then
 *
 *     L2SQ   |q - x|^2 = |q - o|^2 + |r|^2 - 2 <r, p>        DOT   -q.x = -q.o - o.r - <r, p>
 *
 * One table for all origins. <s, p> is <s, q'> - <s, o'> with q' and o' the query and the origin less a centre that all
 * share, both rotated. The second is known when a row is encoded, and goes into the number that is added to its estimate;
 * so the query is rotated, and its look-ups are made, once a query and not once a cell. With b bits the same holds for v, and
 * the difference of the two numbers is kept with the row.
 *
 * Two stages. The signs of 32 rows are summed up by look-ups in registers (quant/layout.h draws the block). Of a code of
 * several bits only rows whose lower bound by the signs is not beyond the worst distance still of interest are
 * looked at further.
 *
 * Our ways apart from the papers
 *   - The rotation is signs and Hadamard transforms (math/hadamard.h), dim log dim operations.
 *   - Queries and origins are counted from a centre in the middle of the origins, so that data far from the zero of its coordinates
 *     loses nothing.
 *   - Weights of the look-ups are the nearest of 63 values, not rounded at random to 16: the error of that is a twentieth of
 *     the code's; where a cell is far nearer to the query than the centre is it is more, and the bound is wider by it. Those of
 *     the further bits have 14 bits.
 *   - The grid is scaled by trying some factors about one learned from a sample, not by going through all critical ones.
 *   - A row keeps 8 bytes beside its signs: K = -2 |r|^2 / <s, r> and the bound for epsilon 1 with 8 significant bits, what
 *     the first loses added to the second; |r|^2 (DOT: -o.r) - K <s, o'> as float32. With b bits 2 bytes more, <v, r> / <s, r>,
 *     and in cells 2 again, by how much the sum differs for v.
 *
 * Layout of a code: signs, bit d % 8 of byte d / 8; then, of b bits, b - 1 further bits of each component in groups of 64
 * (kernels.def), the ratio as a number of 16 bits, and in cells the difference as the upper half of a float32. In blocks the signs are interleaved, the rest lies together by row.
 * All arithmetic is in whole numbers, in unfused float32, or in float64 in one order: codes and scores have the same bits at
 * every SIMD level. */
#include "quant/codec.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/run.h"
#include "math/hadamard.h"
#include "quant/center.h"
#include "quant/layout.h"
#include "simd/kernels.h"
#include "store/index_file.h"

#define BLOCK 1024 /* rows of a block of encoding */
#define BATCH 256  /* rows of which survivors are gathered before they are looked at further */
#define SAMPLE_ROWS \
    512               /* that the grid is learned from: its scale changes by less than a percent with more */
#define LEAST_ROWS 16 /* arbitrary: fewer say nothing of where rows are */
/* The rounding of a weight is even within half a step, so that a product with signs is off by step sqrt(dim / 12); the signs
 * themselves are off by 0.6 of the query's length: as if that were longer by 1 / (0.6 sqrt(12)) step sqrt(dim), squared. */
#define ROUGH 0.48
#define HALF_ROUGH \
    0x1p-9 /* the difference is of the order of the signs' bound for the origin, and has 8 significant bits */
#define AHEAD 2 /* blocks ahead that are fetched where there are no lists */
#define LATE \
    4 /* blocks of a list that are fetched when it comes, as the one before was too short to do it meanwhile */
#define TRIES 13        /* scales about the learned one that a row is tried with, 3 % apart */
#define RATIO_ONE 65535 /* <v, r> / <s, r> is kept as a part of the largest that it can be, 2^(bits - 1) */

typedef struct rabitq_codec {
    ki_codec base;
    const ki_kernels *kernels;
    size_t bits, extra; /* extra = bits - 1 */
    size_t sign_bytes, extra_bytes, padded;
    int differs; /* a row keeps the difference of its two sums: of several bits, in cells */
    float epsilon;
    ki_hadamard *rotation; /* NULL: untrained */
    float *center; /* [dim], what plain rows, and the query and the origins of others, are counted from */
    float learned
        [2]; /* scale: of the grid, for rows of length sqrt(dim); narrow: bound of all bits / of the signs */
} rabitq_codec;

enum { SCALE, NARROW };

typedef struct rabitq_scorer {
    ki_scorer base;
    ki_rabitq_query query;
    float *raw;     /* [dim] the query */
    float *less;    /* [dim] scratch */
    float *rotated; /* [padded] */
    uint8_t *tables;
    int8_t *weights, *high, *low; /* [padded] each */
    uint8_t *signs;               /* [sign_bytes] of one row */
    float unit;                   /* of half a fine weight */
    double length;                /* of the query less the centre */
    double rough, fine_rough; /* what the rounding of weights does to products, as a length of the query */
    float narrow;             /* what bounds of all bits are measured in */
    int vague;                /* numbers were too large: bounds say nothing */
    ki_rabitq_ahead ahead;    /* blocks of the next list that are not fetched yet */
    int in_list;              /* blocks are fetched from list to list */
    int64_t fine;             /* sum of the fine weights times the doubled middle of the codes */
} rabitq_scorer;

/* 2 under L2SQ, 1 under DOT: how often <r, p> enters a distance. */
static double times(const rabitq_codec *c)
{
    return c->base.metric == KITH_L2SQ ? 2 : 1;
}

/* ---- Numbers of 16 bits: the upper half of a float32 ---- */

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static float of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Finite in, finite out. */
static uint32_t half_nearest(float value)
{
    uint32_t bits = bits_of(value), rounded = bits + 0x7fffu + (bits >> 16 & 1);
    return (rounded & 0x7fffffffu) >= 0x7f800000u ? bits >> 16 : rounded >> 16;
}
static uint32_t half_above(float value) /* value >= 0 */
{
    uint32_t bits = bits_of(value), rounded = bits + 0xffffu;
    return rounded >= 0x7f800000u ? bits >> 16 : rounded >> 16;
}

/* ---- Vectors less their origins ----
 *
 * Components of up to LARGE are far from any overflow in the rotation and in sums of squares. Where one is larger all are
 * divided by UNIT, and what is measured is multiplied by it. Under L2SQ nothing is counted as longer than LONGEST, so
 * that no estimate overflows into something near: such a row is in its direction, and far from all that is not as long. */
#define LARGE 0x1p50f
#define UNIT 0x1p80f
#define LONGEST 0x1p62 /* its square is 1/16 of the largest float32 */

/* out = x - from (NULL: x), in the unit returned. */
static float less_origin(const ki_kernels *k, const float *x, const float *from, size_t dim, float *out)
{
    if (from)
        k->sub_f32(out, x, from, dim);
    else
        memcpy(out, x, dim * sizeof *out);
    if (k->absmax_f32(out, dim) <= LARGE) return 1;
    for (size_t d = 0; d < dim; d++) out[d] = x[d] / UNIT - (from ? from[d] / UNIT : 0);
    return UNIT;
}

static float clamped(double value)
{
    return (float)fmin(fmax(value, -(double)FLT_MAX), (double)FLT_MAX);
}

/* ---- A query ---- */

static void scorer_free(ki_scorer *scorer)
{
    rabitq_scorer *s = (rabitq_scorer *)scorer;
    ki_free(scorer->allocator, s->raw);
    ki_free(scorer->allocator, s->less);
    ki_free(scorer->allocator, s->rotated);
    ki_free(scorer->allocator, s->tables);
    ki_free(scorer->allocator, s->weights);
    ki_free(scorer->allocator, s->signs);
    ki_free(scorer->allocator, s);
}

/* The largest fine weight, so that sums of products with codes of 8 bits stay within 31. */
static float fine_limit(size_t padded)
{
    double most = 0x7fffffff / (255 * (double)padded) - 1;
    return (float)fmin(KI_RABITQ_FINE, floor(most));
}

/* a . b, summed in the same order at every level. */
static double product(const float *a, const float *b, size_t dim)
{
    enum { LANES = 8 };
    double sum[LANES] = {0};
    size_t whole = dim / LANES * LANES;
    for (size_t d = 0; d < whole; d += LANES)
        for (size_t i = 0; i < LANES; i++) sum[i] += (double)a[d + i] * (double)b[d + i];
    for (size_t d = whole; d < dim; d++) sum[d - whole] += (double)a[d] * (double)b[d];
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

/* Weights and tables of the query less the centre, rotated. */
static void weigh(rabitq_scorer *s, const float *query)
{
    const rabitq_codec *c = (const rabitq_codec *)s->base.codec;
    const ki_kernels *k = c->kernels;
    size_t dim = c->base.dim;
    double unit = (double)less_origin(k, query, c->center, dim, s->rotated);
    double norm2 = product(s->rotated, s->rotated, dim), length = sqrt(norm2);
    if (c->base.metric == KITH_L2SQ && length * unit > LONGEST) unit = LONGEST / length;
    /* A vector that a forged file made up: any number will do, but no weights that do not fit into theirs. */
    if (!isfinite(norm2)) memset(s->rotated, 0, dim * sizeof *s->rotated);
    ki_hadamard_apply(c->rotation, s->rotated);
    float most = k->absmax_f32(s->rotated, dim), limit = fine_limit(c->padded);
    float coarse = most > 0 ? KI_RABITQ_WEIGHT / most : 0, fine = most > 0 ? limit / most : 0;
    if (!isfinite(coarse) || !isfinite(fine)) coarse = fine = most = 0; /* too small for weights */
    ki_rabitq_sums sums = k->rabitq_weights(s->rotated, c->padded, coarse, fine, s->weights, s->high, s->low);
    k->rabitq_tables(s->weights, c->sign_bytes, s->tables);
    s->query.step = clamped((double)(most / KI_RABITQ_WEIGHT) * unit);
    s->query.total = sums.total;
    s->query.negative = sums.negative;
    s->unit = clamped((double)(most / (2 * limit)) * unit);
    s->fine = (int64_t)sums.fine * (((int64_t)1 << c->bits) - 1);
    s->length = length * unit;
    s->rough = c->base.residual ? ROUGH * (double)s->query.step * sqrt((double)dim) : 0;
    s->fine_rough = c->base.residual ? ROUGH * 2 * (double)s->unit * sqrt((double)dim) : 0;
}

/* Where the query stands to the origin: its distance as the metric counts, and what bounds are measured in. */
static void place(rabitq_scorer *s, const float *query, const float *origin)
{
    const rabitq_codec *c = (const rabitq_codec *)s->base.codec;
    size_t dim = c->base.dim;
    double unit = (double)less_origin(c->kernels, query, origin, dim, s->less);
    double norm2 = product(s->less, s->less, dim), length = sqrt(norm2);
    int l2 = c->base.metric == KITH_L2SQ, cut = l2 && length * unit > LONGEST;
    if (cut) unit = LONGEST / length;
    double base = l2 ? norm2 * unit * unit : -product(query, origin, dim), reach = length * unit,
           norm = (double)c->epsilon * (s->rough > 0 ? sqrt(reach * reach + s->rough * s->rough) : reach);
    s->vague = cut || fabs(base) > (double)FLT_MAX || norm > (double)FLT_MAX;
    s->query.base = clamped(base);
    s->query.norm = clamped(norm);
    double narrow = reach * (double)c->learned[NARROW],
           kept = c->differs ? (s->length + reach) * HALF_ROUGH
                             : 0; /* the origin is no farther from the centre */
    if (c->base.residual) narrow = sqrt(narrow * narrow + s->fine_rough * s->fine_rough + kept * kept);
    s->narrow = clamped((double)c->epsilon * narrow);
}

static void scorer_query(ki_scorer *scorer, const float *query)
{
    rabitq_scorer *s = (rabitq_scorer *)scorer;
    const rabitq_codec *c = (const rabitq_codec *)scorer->codec;
    weigh(s, query);
    s->ahead = (ki_rabitq_ahead){0};
    s->in_list = 0;
    if (c->base.residual)
        memcpy(s->raw, query, c->base.dim * sizeof *query);
    else
        place(s, query, c->center);
}

/* The distance that the caller has, by which the cell was chosen, is |o|^2 - 2 q.o + |q|^2 under L2SQ: far from the origin
 * of the coordinates it is off by more than rows of a cell differ by. */
static void scorer_rebase(ki_scorer *scorer, const float *origin, float distance)
{
    rabitq_scorer *s = (rabitq_scorer *)scorer;
    (void)distance;
    place(s, s->raw, origin);
}

static void scorer_row(ki_scorer *scorer, const uint8_t *code, const float *factor, const float *origin)
{
    rabitq_scorer *s = (rabitq_scorer *)scorer;
    scorer->codec->ops->decode(scorer->codec, code, factor, origin, s->raw);
    weigh(s, s->raw);
    if (!scorer->codec->residual) place(s, s->raw, ((const rabitq_codec *)scorer->codec)->center);
}

/* ---- Scores ---- */

/* By how much what is added differs for all bits from what it is for the signs. */
static float difference_of(const rabitq_codec *c, const uint8_t *extra)
{
    uint16_t half;
    memcpy(&half, extra + c->extra_bytes + sizeof half, sizeof half);
    return of_bits((uint32_t)half << 16);
}

/* One row by all its bits; lower: the bound instead of the estimate. */
static float by_all_bits(const rabitq_scorer *s, const uint8_t *signs, const uint8_t *extra, float add,
                         float packed, int lower)
{
    const rabitq_codec *c = (const rabitq_codec *)s->base.codec;
    uint16_t ratio;
    memcpy(&ratio, extra + c->extra_bytes, sizeof ratio);
    int64_t sum = c->kernels->rabitq_extra(&s->query, signs, extra, c->extra);
    float along = s->unit * (float)(2 * sum - s->fine);
    float k = of_bits(bits_of(packed) & 0xffff0000u), e = of_bits(bits_of(packed) << 16);
    k *= (float)RATIO_ONE / (float)((uint32_t)(ratio ? ratio : 1) << c->extra);
    if (c->differs) add += difference_of(c, extra);
    float estimate = (s->query.base + add) + k * along;
    return lower ? estimate - e * s->narrow : estimate;
}

/* Row r of a block, by all its bits. */
static float block_row(const rabitq_scorer *s, const uint8_t *block, const float *factor, size_t r, int lower)
{
    const rabitq_codec *c = (const rabitq_codec *)s->base.codec;
    const uint8_t *extra = block + KI_BLOCK_ROWS * c->sign_bytes + r * (c->base.together);
    for (size_t j = 0; j < c->sign_bytes; j++) s->signs[j] = block[KI_BLOCK_ROWS * j + r];
    return by_all_bits(s, s->signs, extra, factor[r], factor[KI_BLOCK_ROWS + r], lower);
}

static void prefetch(const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += KI_CACHE_LINE) __builtin_prefetch((const char *)from + i);
    __builtin_prefetch((const char *)from + bytes - 1); /* of an odd address one line more */
}

/* What is left of the list that comes now is fetched at once, if that is little, and the one after it is told. */
static void scorer_next(ki_scorer *scorer, ki_codes codes, size_t n)
{
    rabitq_scorer *s = (rabitq_scorer *)scorer;
    const rabitq_codec *c = (const rabitq_codec *)scorer->codec;
    if (!c->base.block) return;
    for (size_t i = 0; i < s->ahead.n && i < LATE; i++)
        ki_rabitq_fetch(&s->query, s->ahead, KI_BLOCK_ROWS * c->base.code_size, i);
    s->ahead = (ki_rabitq_ahead){codes.code, codes.factor, (n + KI_BLOCK_ROWS - 1) / KI_BLOCK_ROWS};
    s->in_list = 1;
}

/* What is to be fetched while n blocks from code and factor on are scored: as many of the next list; where there are no lists,
 * the blocks after the next. */
static ki_rabitq_ahead fetch_ahead(rabitq_scorer *s, const uint8_t *code, const float *factor, size_t n)
{
    const rabitq_codec *c = (const rabitq_codec *)s->base.codec;
    size_t stride = KI_BLOCK_ROWS * c->base.code_size;
    if (!s->in_list) return (ki_rabitq_ahead){code + AHEAD * stride, factor + AHEAD * 2 * KI_BLOCK_ROWS, n};
    ki_rabitq_ahead ahead = s->ahead;
    if (ahead.n == 0) return ahead;
    if (ahead.n > n) ahead.n = n;
    s->ahead.codes += ahead.n * stride;
    s->ahead.factors += ahead.n * 2 * KI_BLOCK_ROWS;
    s->ahead.n -= ahead.n;
    return ahead;
}

/* n rows of one bit a component. */
static void score_signs(rabitq_scorer *s, const uint8_t *code, const float *factor, size_t n, int lower,
                        float *out)
{
    const rabitq_codec *c = (const rabitq_codec *)s->base.codec;
    size_t stride = KI_BLOCK_ROWS * c->base.code_size, whole = n / KI_BLOCK_ROWS, left = n % KI_BLOCK_ROWS;
    uint32_t mask[BATCH / KI_BLOCK_ROWS];
    float last[KI_BLOCK_ROWS];
    ki_rabitq_ahead ahead = fetch_ahead(s, code, factor, whole);
    c->kernels->rabitq_blocks(&s->query, code, stride, factor, whole, ahead, INFINITY, lower ? NULL : out,
                              lower ? out : NULL, mask);
    if (left == 0) return;
    c->kernels->rabitq_blocks(&s->query, code + whole * stride, stride, factor + whole * 2 * KI_BLOCK_ROWS, 1,
                              (ki_rabitq_ahead){0}, INFINITY, lower ? NULL : last, lower ? last : NULL, mask);
    memcpy(out + n - left, last, left * sizeof *last);
}

/* Rows first .. first + n - 1, first a multiple of 32 and n at most BATCH, in order. */
static void score_blocks(rabitq_scorer *s, ki_codes codes, size_t first, size_t n, float worst, int lower,
                         float *out)
{
    const rabitq_codec *c = (const rabitq_codec *)s->base.codec;
    size_t stride = KI_BLOCK_ROWS * c->base.code_size, blocks = (n + KI_BLOCK_ROWS - 1) / KI_BLOCK_ROWS;
    const uint8_t *code = codes.code + first / KI_BLOCK_ROWS * stride;
    const float *factor = codes.factor + first * 2;
    uint32_t masks[BATCH / KI_BLOCK_ROWS];
    uint16_t near[BATCH];
    size_t n_near = 0;
    if (c->extra == 0) {
        score_signs(s, code, factor, n, lower, out);
        return;
    }
    ki_rabitq_ahead ahead = fetch_ahead(s, code, factor, blocks);
    c->kernels->rabitq_blocks(&s->query, code, stride, factor, blocks, ahead, worst, NULL, NULL, masks);
    if (n % KI_BLOCK_ROWS) masks[blocks - 1] &= ((uint32_t)1 << n % KI_BLOCK_ROWS) - 1;
    for (size_t i = 0; i < n; i++) out[i] = INFINITY;
    for (size_t b = 0; b < blocks; b++)
        for (uint32_t mask = masks[b]; mask; mask &= mask - 1) {
            size_t r = (size_t)__builtin_ctz(mask);
            near[n_near++] = (uint16_t)(b * KI_BLOCK_ROWS + r);
            prefetch(code + b * stride + KI_BLOCK_ROWS * c->sign_bytes + r * c->base.together,
                     c->base.together);
        }
    for (size_t i = 0; i < n_near; i++) {
        size_t b = near[i] / KI_BLOCK_ROWS;
        out[near[i]] =
            block_row(s, code + b * stride, factor + b * 2 * KI_BLOCK_ROWS, near[i] % KI_BLOCK_ROWS, lower);
    }
}

/* Rows rows[n], ascending: each block once. */
static void score_picked(const rabitq_scorer *s, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         int lower, float *out)
{
    const rabitq_codec *c = (const rabitq_codec *)s->base.codec;
    float estimate[KI_BLOCK_ROWS], bound[KI_BLOCK_ROWS];
    uint32_t mask;
    size_t summed = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        size_t block = rows[i] / KI_BLOCK_ROWS, r = rows[i] % KI_BLOCK_ROWS;
        const uint8_t *code = codes.code + block * KI_BLOCK_ROWS * c->base.code_size;
        const float *factor = codes.factor + block * KI_BLOCK_ROWS * 2;
        if (block != summed)
            c->kernels->rabitq_blocks(&s->query, code, 0, factor, 1, (ki_rabitq_ahead){0}, worst, estimate,
                                      bound, &mask);
        summed = block;
        if (c->extra == 0)
            out[i] = lower ? bound[r] : estimate[r];
        else
            out[i] = bound[r] > worst ? INFINITY : block_row(s, code, factor, r, lower);
    }
}

/* Rows one after the other, or by number, not in blocks. */
static void score_rows(const rabitq_scorer *s, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                       int lower, float *out)
{
    const rabitq_codec *c = (const rabitq_codec *)s->base.codec;
    size_t code_size = c->base.code_size;
    int32_t sum[BATCH];
    for (size_t i = 0; i < n && rows; i++) {
        prefetch(codes.code + (size_t)rows[i] * code_size, c->sign_bytes);
        __builtin_prefetch(codes.factor + (size_t)rows[i] * 2);
    }
    c->kernels->rabitq_rows(&s->query, codes.code, code_size, rows, n, sum);
    for (size_t i = 0; i < n; i++) {
        size_t row = rows ? rows[i] : i;
        const uint8_t *code = codes.code + row * code_size;
        float add = codes.factor[row * 2], packed = codes.factor[row * 2 + 1], bound;
        float estimate = ki_rabitq_estimate(&s->query, sum[i], add, packed, &bound);
        if (c->extra == 0)
            out[i] = lower ? bound : estimate;
        else
            out[i] =
                bound > worst ? INFINITY : by_all_bits(s, code, code + c->sign_bytes, add, packed, lower);
    }
}

static void score_any(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                      int lower, float *out)
{
    rabitq_scorer *s = (rabitq_scorer *)scorer;
    size_t code_size = scorer->codec->code_size;
    for (size_t i = 0; i < n; i += BATCH) {
        size_t count = n - i < BATCH ? n - i : BATCH;
        if (scorer->codec->block && rows)
            score_picked(s, codes, rows + i, count, worst, lower, out + i);
        else if (scorer->codec->block)
            score_blocks(s, codes, i, count, worst, lower, out + i);
        else if (rows)
            score_rows(s, codes, rows + i, count, worst, lower, out + i);
        else
            score_rows(s, (ki_codes){codes.code + i * code_size, codes.factor + i * 2}, NULL, count, worst,
                       lower, out + i);
    }
}

static void scorer_score(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    score_any(scorer, codes, rows, n, worst, 0, out);
    /* The sum of two that overflowed is no number, and its row would be lost. */
    for (size_t i = 0; i < n && ((const rabitq_scorer *)scorer)->vague; i++)
        if (isnan(out[i])) out[i] = INFINITY;
}

static void scorer_bound(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    if (!((const rabitq_scorer *)scorer)->vague) {
        score_any(scorer, codes, rows, n, worst, 1, out);
        return;
    }
    for (size_t i = 0; i < n; i++) out[i] = -INFINITY;
}

static const ki_scorer_ops plain_scorer_ops = {.free = scorer_free,
                                               .query = scorer_query,
                                               .row = scorer_row,
                                               .score = scorer_score,
                                               .bound = scorer_bound};
static const ki_scorer_ops residual_scorer_ops = {.free = scorer_free,
                                                  .query = scorer_query,
                                                  .row = scorer_row,
                                                  .rebase = scorer_rebase,
                                                  .next = scorer_next,
                                                  .score = scorer_score,
                                                  .bound = scorer_bound};

static kith_status untrained(kith_error *err)
{
    return ki_fail(err, KITH_UNTRAINED, "the RaBitQ codec is not trained");
}

static kith_status make_scorer(const ki_codec *codec, const kith_allocator *allocator, ki_scorer **out,
                               kith_error *err)
{
    const rabitq_codec *c = (const rabitq_codec *)codec;
    *out = NULL;
    if (!codec->trained) return untrained(err);
    rabitq_scorer *s = ki_alloc_zero(allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->base = (ki_scorer){codec->residual ? &residual_scorer_ops : &plain_scorer_ops, codec, allocator};
    s->raw = ki_alloc(allocator, codec->dim, sizeof *s->raw);
    s->less = ki_alloc(allocator, codec->dim, sizeof *s->less);
    s->rotated = ki_alloc_zero(allocator, c->padded, sizeof *s->rotated);
    s->tables = ki_alloc_zero(allocator, (c->sign_bytes + 1) / 2, 128);
    s->weights = ki_alloc_zero(allocator, 3, c->padded);
    s->signs = ki_alloc_zero(allocator, c->sign_bytes, 1);
    if (!s->raw || !s->less || !s->rotated || !s->tables || !s->weights || !s->signs) {
        scorer_free(&s->base);
        return ki_fail_nomem(err, c->padded * 16);
    }
    s->high = s->weights + c->padded;
    s->low = s->high + c->padded;
    s->query = (ki_rabitq_query){
        .tables = s->tables, .weights = s->weights, .high = s->high, .low = s->low, .bytes = c->sign_bytes};
    *out = &s->base;
    return KITH_OK;
}

/* ---- Encoding ---- */

#define SENSIBLE 0x1p120 /* of a sum that an origin makes: far from overflow */

/* What is found out about a rotated row r on its way to a code. */
typedef struct found {
    double norm2, signs, grid; /* |r|^2, <s, r>, <v, r> */
    double length2;            /* |v|^2 */
} found;

/* The grid point of a scale: magnitudes m (of v = m + 0.5) of the components' absolute values a[dim], or only how good. */
static double grid_at(const rabitq_codec *c, const float *a, float scale, found *f, uint8_t *m)
{
    int most = (1 << c->extra) - 1;
    double along = 0;
    int64_t squares = 0; /* of 2 m + 1 */
    for (size_t d = 0; d < c->base.dim; d++) {
        float at = a[d] * scale;
        int code = at < (float)most ? (int)at : most;
        if (m) m[d] = (uint8_t)code;
        along += (double)a[d] * (2 * code + 1);
        squares += (int64_t)(2 * code + 1) * (2 * code + 1);
    }
    f->grid = along / 2;
    f->length2 = (double)squares / 4;
    return squares > 0 ? along * along / (double)squares : 0;
}

/* The magnitudes whose direction is nearest to a's. */
static void best_grid(const rabitq_codec *c, const float *a, float scale, found *f, uint8_t *m)
{
    double best = -1;
    float chosen = scale;
    for (int i = -(TRIES / 2); i <= TRIES / 2; i++) {
        float at = scale * (1 + 0.03f * (float)i);
        double good = grid_at(c, a, at, f, NULL);
        if (good > best) best = good, chosen = at;
    }
    grid_at(c, a, chosen, f, m);
}

/* What scale stands for in a row: the learned one is for rows of length sqrt(dim). */
static float row_scale(const rabitq_codec *c, double norm2)
{
    double scale = norm2 > 0 ? (double)c->learned[SCALE] * sqrt((double)c->base.dim / norm2) : 0;
    return isfinite((float)scale) ? (float)scale : 0;
}

static void measure(const rabitq_codec *c, const float *r, float *a, found *f)
{
    *f = (found){0, 0, 0, 0};
    for (size_t d = 0; d < c->base.dim; d++) {
        a[d] = fabsf(r[d]);
        f->norm2 += (double)r[d] * (double)r[d];
        f->signs += (double)a[d];
    }
}

/* The bound for epsilon 1 and a query of length 1, of an estimate by a vector with this product and squared length. */
static double bound_of(const rabitq_codec *c, double norm2, double product, double length2)
{
    double c2 = product * product / (length2 * norm2),
           freedom = c->base.dim > 1 ? (double)c->base.dim - 1 : 1;
    return c2 > 0 && c2 < 1 ? times(c) * sqrt(norm2 * (1 / c2 - 1) / freedom) : 0;
}

/* One bit a component, or several: see the layout in kernels.def. */
static void put_extra(const rabitq_codec *c, const float *r, const uint8_t *m, uint8_t *extra)
{
    int most = (1 << c->extra) - 1;
    for (size_t d = 0; d < c->base.dim; d++) {
        uint8_t *group = extra + d / KI_RABITQ_GROUP * (c->extra * KI_RABITQ_GROUP / 8);
        size_t i = d % KI_RABITQ_GROUP;
        unsigned value = (unsigned)(signbit(r[d]) ? most - m[d] : m[d]);
        if (c->extra & 4) {
            group[i % 32] |= (uint8_t)((value & 15) << (i / 32 * 4));
            group += 32;
            value >>= 4;
        }
        if (c->extra & 2) {
            group[i % 16] |= (uint8_t)((value & 3) << (i / 16 * 2));
            group += 16;
            value >>= 2;
        }
        if (c->extra & 1) group[i / 8] |= (uint8_t)((value & 1) << i % 8);
    }
}

/* The part of a sum that the origin makes, for the sums of the signs and of all bits: K <s, o'> and K_v <v, o'>; 0 where
 * numbers are so large that it says nothing. o[dim]: the origin less the centre, rotated. */
static void origin_sums(const rabitq_codec *c, const float *o, const float *r, const uint8_t *m,
                        double k_signs, double k_grid, double *signs, double *grid)
{
    double by_signs = 0, by_grid = 0;
    for (size_t d = 0; d < c->base.dim; d++) {
        double value = signbit(r[d]) ? -(double)o[d] : (double)o[d];
        by_signs += value;
        if (c->extra > 0) by_grid += value * (m[d] + 0.5);
    }
    *signs = k_signs * by_signs;
    *grid = k_grid * by_grid;
    if (!(fabs(*signs) < SENSIBLE && fabs(*grid) < SENSIBLE)) *signs = *grid = 0;
}

/* scratch[3][dim] */
static void encode_row(const rabitq_codec *c, const float *x, const float *origin, float *scratch, uint8_t *m,
                       uint8_t *code, float *factor)
{
    size_t dim = c->base.dim;
    float *r = scratch, *a = scratch + dim, *o = scratch + 2 * dim;
    const float *from = c->base.residual ? origin : c->center;
    double unit = (double)less_origin(c->kernels, x, from, dim, r), along = 0; /* o.r */
    for (size_t d = 0; d < dim && from; d++) along += (double)from[d] * (double)r[d];
    along *= unit;
    ki_hadamard_apply(c->rotation, r);
    found f;
    measure(c, r, a, &f);
    if (c->base.metric == KITH_L2SQ && sqrt(f.norm2) * unit > LONGEST) unit = LONGEST / sqrt(f.norm2);
    memset(code, 0, c->base.code_size);
    for (size_t d = 0; d < dim; d++) code[d / 8] |= (uint8_t)(!signbit(r[d]) << d % 8);
    double k = f.signs > 0 ? -times(c) * f.norm2 / f.signs * unit : 0;
    uint32_t k_half = half_nearest(clamped(k));
    double kept = (double)of_bits(k_half << 16), k_grid = 0, by_signs = 0, by_grid = 0;
    double e = bound_of(c, f.norm2, f.signs, (double)dim) * unit +
               fabs(kept - (double)clamped(k)) * sqrt((double)dim);
    factor[1] = of_bits(k_half << 16 | half_above(clamped(e)));
    if (c->extra > 0) {
        best_grid(c, a, row_scale(c, f.norm2), &f, m);
        put_extra(c, r, m, code + c->sign_bytes);
        double wanted = f.grid > 0 ? -times(c) * f.norm2 / f.grid * unit : 0;
        double ratio = wanted < 0 ? rint(kept / wanted * RATIO_ONE / (1 << c->extra)) : RATIO_ONE;
        uint16_t number = (uint16_t)fmin(fmax(ratio, 1), RATIO_ONE);
        memcpy(code + c->sign_bytes + c->extra_bytes, &number, sizeof number);
        k_grid = kept * RATIO_ONE / ((double)number * (1 << c->extra));
    }
    if (c->base.residual && origin) {
        double o_unit = (double)less_origin(c->kernels, origin, c->center, dim, o);
        ki_hadamard_apply(c->rotation, o);
        origin_sums(c, o, r, m, kept * o_unit, k_grid * o_unit, &by_signs, &by_grid);
    }
    factor[0] = clamped((c->base.metric == KITH_L2SQ ? f.norm2 * unit * unit : -along) - by_signs);
    if (!c->differs) return;
    uint16_t half = (uint16_t)half_nearest(clamped(by_signs - by_grid));
    memcpy(code + c->sign_bytes + c->extra_bytes + sizeof half, &half, sizeof half);
}

typedef struct encode_job {
    const rabitq_codec *c;
    const float *x;
    size_t n;
    ki_origins from;
    const kith_run *run;
    uint8_t *code;
    float *factor;
    float *scratch; /* [threads][4][dim], the last for bytes */
} encode_job;

static void encode_block(void *ctx, size_t block, size_t worker)
{
    const encode_job *job = ctx;
    const rabitq_codec *c = job->c;
    size_t dim = c->base.dim, end = (block + 1) * BLOCK < job->n ? (block + 1) * BLOCK : job->n;
    float *scratch = job->scratch + worker * 4 * dim;
    if (job->run && kith_cancel_raised(job->run->cancel)) return;
    for (size_t i = block * BLOCK; i < end; i++)
        encode_row(c, job->x + i * dim,
                   job->from.origins ? job->from.origins + job->from.which[i] * dim : NULL, scratch,
                   (uint8_t *)(scratch + 3 * dim), job->code + i * c->base.code_size, job->factor + i * 2);
}

static kith_status encode(const ki_codec *codec, const float *x, size_t n, ki_origins from,
                          const kith_run *run, uint8_t *code, float *factor, kith_error *err)
{
    if (!codec->trained) return untrained(err);
    kith_pool *pool = ki_run_pool(run);
    size_t floats = kith_pool_threads(pool) * 4 * codec->dim;
    encode_job job = {(const rabitq_codec *)codec, x, n, from, run, code, factor, NULL};
    job.scratch = ki_alloc(codec->allocator, floats, sizeof *job.scratch);
    if (!job.scratch) return ki_fail_nomem(err, floats * sizeof *job.scratch);
    ki_pool_run(pool, (n + BLOCK - 1) / BLOCK, encode_block, &job);
    ki_free(codec->allocator, job.scratch);
    return ki_run_check(run, err);
}

/* ---- Decoding ---- */

/* The number of b bits of a component, signs in front. */
static unsigned code_at(const rabitq_codec *c, const uint8_t *code, size_t d)
{
    const uint8_t *group = code + c->sign_bytes + d / KI_RABITQ_GROUP * (c->extra * KI_RABITQ_GROUP / 8);
    size_t i = d % KI_RABITQ_GROUP, shift = 0;
    unsigned value = 0;
    if (c->extra & 4) value = group[i % 32] >> (i / 32 * 4) & 15u, shift = 4, group += 32;
    if (c->extra & 2) value |= (group[i % 16] >> (i / 16 * 2) & 3u) << shift, shift += 2, group += 16;
    if (c->extra & 1) value |= (group[i / 8] >> i % 8 & 1u) << shift;
    return value | (code[d / 8] >> d % 8 & 1u) << c->extra;
}

/* The multiple of v that is nearest to r, <v, r> / |v|^2; |r|^2 / <v, r> where v is so near that they are alike. Of r only what the factors tell is known: with K = |r|^2 / <s, r> and the bound e
 * of the signs, 1 - c^2 = e^2 (dim - 1) / (K^2 dim), and |r| = K c sqrt(dim). */
static void decode(const ki_codec *codec, const uint8_t *code, const float *factor, const float *origin,
                   float *out)
{
    const rabitq_codec *c = (const rabitq_codec *)codec;
    size_t dim = codec->dim;
    double k = -(double)of_bits(bits_of(factor[1]) & 0xffff0000u) / times(c),
           e = (double)of_bits(bits_of(factor[1]) << 16) / times(c), n = (double)dim;
    double c2 = k > 0 ? 1 - e * e * (n - 1) / (k * k * n) : 0, length2 = 0,
           middle = ((1 << c->bits) - 1) / 2.0;
    double norm2 = k * k * fmax(c2, 0) * n;
    for (size_t d = 0; d < dim; d++) {
        double v = (double)code_at(c, code, d) - middle;
        out[d] = (float)v;
        length2 += v * v;
    }
    if (c->extra > 0) {
        uint16_t ratio;
        memcpy(&ratio, code + c->sign_bytes + c->extra_bytes, sizeof ratio);
        k *= (double)RATIO_ONE / ((ratio ? ratio : 1) * (double)(1 << c->extra));
    } else {
        k *= 2; /* v is half of the signs here */
    }
    double scale = c->extra >= 3 ? k : k * length2 > 0 ? norm2 / (k * length2) : 0;
    const float *from = codec->residual ? origin : c->center;
    if (scale > (double)LARGE) { /* the rotation might overflow */
        ki_hadamard_reverse(c->rotation, out);
        for (size_t d = 0; d < dim; d++)
            out[d] = clamped((double)out[d] * scale + (from ? (double)from[d] : 0));
        return;
    }
    c->kernels->scale_f32(out, (float)scale, dim);
    ki_hadamard_reverse(c->rotation, out);
    if (from) c->kernels->add_f32(out, from, dim);
}

/* ---- Training ---- */

static void forget(rabitq_codec *c)
{
    ki_hadamard_free(c->rotation);
    c->rotation = NULL;
    c->base.trained = 0;
}

/* Row i of the sample rotated, and what measure finds; 0 for one without direction. */
static int sample_row(const rabitq_codec *c, const float *x, size_t i, float *r, float *a, found *f)
{
    /* Lengths do not matter. */
    less_origin(c->kernels, x + i * c->base.dim, c->base.residual ? NULL : c->center, c->base.dim, r);
    ki_hadamard_apply(c->rotation, r);
    measure(c, r, a, f);
    return f->norm2 > 0;
}

/* The scale that is best on average, and the largest part of the signs' bound that the bound of all bits was; some tenth
 * more, since it is a sample. The largest component of a row is 1 to 7 times its root mean square. */
static void learn_from(rabitq_codec *c, const float *x, size_t n, float *r, float *a, uint8_t *m)
{
    enum { STEPS = 64 };
    double good[STEPS] = {0}, dim = (double)c->base.dim, widest = 0;
    size_t step = n > SAMPLE_ROWS ? n / SAMPLE_ROWS : 1, best = 0;
    found f;
    float scale[STEPS];
    for (size_t t = 0; t < STEPS; t++) scale[t] = (float)(1 << c->extra) / (1 + 0.1f * (float)t);
    for (size_t i = 0; i < n; i += step)
        for (size_t t = 0; t < STEPS && sample_row(c, x, i, r, a, &f); t++)
            good[t] += grid_at(c, a, scale[t] * (float)sqrt(dim / f.norm2), &f, NULL) / f.norm2;
    for (size_t t = 1; t < STEPS; t++) best = good[t] > good[best] ? t : best;
    c->learned[SCALE] = scale[best];
    for (size_t i = 0; i < n; i += step) {
        if (!sample_row(c, x, i, r, a, &f)) continue;
        best_grid(c, a, row_scale(c, f.norm2), &f, m);
        double signs = bound_of(c, f.norm2, f.signs, dim);
        if (signs > 0) widest = fmax(widest, bound_of(c, f.norm2, f.grid, f.length2) / signs);
    }
    /* No row of the sample had a bound, as when all were alike: nothing is known, and the signs' bound holds. */
    c->learned[NARROW] = widest > 0 ? (float)fmin(widest * 1.1, 1) : 1;
}

static void origins(ki_codec *codec, const float *x, size_t n)
{
    if (n > 0) ki_center_of_origins(((rabitq_codec *)codec)->center, x, n, codec->dim);
}

static kith_status train(ki_codec *codec, const float *x, size_t n, uint64_t seed, const kith_run *run,
                         kith_error *err)
{
    rabitq_codec *c = (rabitq_codec *)codec;
    size_t dim = codec->dim;
    forget(c);
    if (!x) return ki_fail(err, KITH_INVALID, "x is NULL");
    if (n < LEAST_ROWS)
        return ki_fail(err, KITH_INVALID, "n is %zu, RaBitQ takes %d rows and more to train", n, LEAST_ROWS);
    ki_stage stage;
    ki_stage_begin(&stage, run, "training RaBitQ", 1);
    KI_TRY(ki_run_check(run, err));
    float *scratch = ki_alloc(codec->allocator, 3 * dim, sizeof *scratch);
    if (!scratch) return ki_fail_nomem(err, 3 * dim * sizeof *scratch);
    kith_status status = ki_hadamard_create(dim, NULL, seed, codec->allocator, &c->rotation, err);
    if (status == KITH_OK) {
        if (!c->base.residual) ki_center_of_rows(c->center, x, n, dim);
        c->learned[SCALE] = c->learned[NARROW] = 1;
        if (c->extra > 0) learn_from(c, x, n, scratch, scratch + dim, (uint8_t *)(scratch + 2 * dim));
        codec->trained = 1;
        ki_stage_report(&stage, 1);
    }
    ki_free(codec->allocator, scratch);
    return status;
}

/* ---- Save, load, check: PREFIX.signs, u8, of the rotation; PREFIX.center, f32 [dim]; PREFIX.grid or .cellgrid, f32 [2] ---- */

/* Codes in cells were once taken relative to another origin, in as many bytes: the section's name tells them apart. */
static const char *grid_section(const rabitq_codec *c)
{
    return c->base.residual ? "cellgrid" : "grid";
}

static void section_name(const char *prefix, const char *what, char name[KI_STORE_NAME_BYTES])
{
    snprintf(name, KI_STORE_NAME_BYTES, "%s.%s", prefix, what);
}

static kith_status save(const ki_codec *codec, const char *prefix, struct ki_store_writer *writer,
                        kith_error *err)
{
    const rabitq_codec *c = (const rabitq_codec *)codec;
    char name[KI_STORE_NAME_BYTES];
    if (!codec->trained) return untrained(err);
    section_name(prefix, "signs", name);
    KI_TRY(ki_store_put(writer, name, ki_hadamard_signs(c->rotation), ki_hadamard_sign_bytes(codec->dim), 1,
                        err));
    KI_TRY(ki_center_save(c->center, codec->dim, prefix, writer, err));
    section_name(prefix, grid_section(c), name);
    return ki_store_put(writer, name, c->learned, 2, sizeof *c->learned, err);
}

static kith_status load_rotation(rabitq_codec *c, const char *prefix, struct ki_store *store, kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    size_t bytes = ki_hadamard_sign_bytes(c->base.dim);
    uint8_t *signs = ki_alloc(c->base.allocator, bytes, 1);
    if (!signs) return ki_fail_nomem(err, bytes);
    section_name(prefix, "signs", name);
    kith_status status = ki_store_load(store, name, bytes, 1, signs, err);
    if (status == KITH_OK)
        status = ki_hadamard_create(c->base.dim, signs, 0, c->base.allocator, &c->rotation, err);
    ki_free(c->base.allocator, signs);
    return status;
}

static kith_status load(ki_codec *codec, const char *prefix, struct ki_store *store, kith_error *err)
{
    rabitq_codec *c = (rabitq_codec *)codec;
    char name[KI_STORE_NAME_BYTES];
    forget(c);
    KI_TRY(ki_center_load(c->center, codec->dim, prefix, store, err));
    section_name(prefix, "grid", name);
    if (c->base.residual && ki_store_has(store, name))
        return ki_fail(err, KITH_UNSUPPORTED, "%s: its RaBitQ codes are of an older form: build it anew",
                       ki_store_path(store));
    section_name(prefix, grid_section(c), name);
    KI_TRY(ki_store_load(store, name, 2, sizeof *c->learned, c->learned, err));
    if (!(c->learned[SCALE] > 0 && isfinite(c->learned[SCALE]) && c->learned[NARROW] >= 0 &&
          c->learned[NARROW] <= 1))
        return ki_fail(err, KITH_CORRUPT, "section %s: no scale of a grid", name);
    KI_TRY(load_rotation(c, prefix, store, err));
    codec->trained = 1;
    return KITH_OK;
}

/* Where the further bits of row i begin, in either layout. */
static const uint8_t *extra_of(const rabitq_codec *c, ki_codes codes, size_t i)
{
    size_t size = c->base.code_size;
    if (!c->base.block) return codes.code + i * size + c->sign_bytes;
    const uint8_t *block = codes.code + i / KI_BLOCK_ROWS * KI_BLOCK_ROWS * size;
    return block + KI_BLOCK_ROWS * c->sign_bytes + i % KI_BLOCK_ROWS * c->base.together;
}

static kith_status check(const ki_codec *codec, ki_codes codes, size_t n, int deep, kith_error *err)
{
    const rabitq_codec *c = (const rabitq_codec *)codec;
    for (size_t i = 0; i < n && deep; i++) {
        size_t at = codec->block ? i / KI_BLOCK_ROWS * KI_BLOCK_ROWS * 2 + i % KI_BLOCK_ROWS : 2 * i;
        float add = codes.factor[at], packed = codes.factor[at + (codec->block ? KI_BLOCK_ROWS : 1)];
        if (!isfinite(add) || !isfinite(of_bits(bits_of(packed) & 0xffff0000u)) ||
            !isfinite(of_bits(bits_of(packed) << 16)))
            return ki_fail(err, KITH_CORRUPT, "the factors of row %zu are not finite", i);
        if (c->differs && !isfinite(difference_of(c, extra_of(c, codes, i))))
            return ki_fail(err, KITH_CORRUPT, "the difference of row %zu is not finite", i);
    }
    return KITH_OK;
}

/* ---- The codec ---- */

static void codec_free(ki_codec *codec)
{
    rabitq_codec *c = (rabitq_codec *)codec;
    ki_hadamard_free(c->rotation);
    ki_free(codec->allocator, c->center);
    ki_free(codec->allocator, c);
}

static const ki_codec_ops rabitq_ops = {.name = "rabitq",
                                        .free = codec_free,
                                        .origins = origins,
                                        .train = train,
                                        .encode = encode,
                                        .decode = decode,
                                        .scorer = make_scorer,
                                        .save = save,
                                        .load = load,
                                        .check = check};

kith_status ki_codec_rabitq_create(size_t dim, size_t bits, double epsilon, kith_metric metric, int residual,
                                   const kith_allocator *allocator, ki_codec **out, kith_error *err)
{
    *out = NULL;
    if (dim == 0 || dim > KI_RABITQ_MAX_DIM)
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 1..%d", dim, KI_RABITQ_MAX_DIM);
    if (bits < 1 || bits > 8) return ki_fail(err, KITH_INVALID, "bits is %zu, allowed 1..8", bits);
    if (metric != KITH_L2SQ && metric != KITH_DOT)
        return ki_fail(err, KITH_UNSUPPORTED, "metric %d is not one of l2, dot", (int)metric);
    rabitq_codec *c = ki_alloc_zero(allocator, 1, sizeof *c);
    if (!c) return ki_fail_nomem(err, sizeof *c);
    c->base = (ki_codec){.ops = &rabitq_ops, .allocator = allocator, .dim = dim, .metric = metric};
    c->base.residual = residual != 0;
    c->kernels = ki_kernels_get();
    c->bits = bits;
    c->extra = bits - 1;
    c->epsilon = (float)epsilon;
    c->sign_bytes = (dim + 7) / 8;
    c->padded = (dim + KI_RABITQ_GROUP - 1) / KI_RABITQ_GROUP * KI_RABITQ_GROUP;
    c->extra_bytes = c->padded / 8 * c->extra;
    c->differs = c->extra > 0 && c->base.residual;
    c->base.code_size =
        c->sign_bytes + c->extra_bytes + (c->extra > 0 ? sizeof(uint16_t) : 0) * (c->differs ? 2 : 1);
    c->base.n_factors = 2;
    c->base.bounded = c->base.either = 1;
    c->base.block = c->base.code_size <= KI_BLOCK_MAX_CODE ? KI_BLOCK_ROWS : 0;
    c->base.together = c->base.code_size - c->sign_bytes;
    c->center = ki_alloc_zero(allocator, dim, sizeof *c->center);
    if (!c->center) {
        codec_free(&c->base);
        return ki_fail_nomem(err, dim * sizeof *c->center);
    }
    *out = &c->base;
    return KITH_OK;
}
