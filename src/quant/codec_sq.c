/* The codec of whole numbers: a byte (SQ8) or half a byte (SQ4) a component, on a grid of its own for each component.
 *
 * Component d of a row is kept as the whole number c nearest to its place on a grid, and read as
 *
 *     middle[d] + step[d] * (c - zero)          0 <= c <= 255, zero = 128       (SQ4: 15 and 8)
 *
 * Training begins with the range of the sample and then moves each grid to where the mean squared error of the sample is
 * least, codes and grid in turn (the Lloyd iteration of a uniform quantiser): of four bits, a grid from the least to the
 * greatest value would spend half of them on outliers. Components that are bytes already (whole numbers within 0..255)
 * get the grid 0, 1, .. 255: SQ8 keeps them exactly.
 *
 * Outliers. One value a thousand times the others would make the mean squared error least by a grid of which all others
 * use a single step: its own error, squared, is more than that of all. But a row that is clamped far from its place is lost
 * once, however far. So an error counts LOST standard deviations at most, these of what remains without the ends of the
 * sample, and as many values are left outside the range by which training begins as makes the sum least. Where all but the
 * ends are equal, the ends are what there is to know, and none is an outlier.
 *
 * Scores. With u = q - middle and v = step * (c - zero)
 *
 *     L2SQ   |u - v|^2 = |u|^2 - 2 u.v + |v|^2              |v|^2 is kept behind the code, a float32
 *     DOT    -(q.middle) - q.v
 *     L1     sum |u - v|, in float32
 *
 * and u.v = sum_d (u_d step_d)(c_d - zero) is a product of whole numbers once the weights u_d step_d are: they are
 * rounded to 15 bits, the greatest of them being some 16,000. What that adds to the error is a hundredth of what the
 * rounding of the rows adds at 8 bits. Residuals r = x - o of cells with origins o, and a centre z that all share (quant/center.h):
 * |q - o - y|^2 = |q - o|^2 - 2 (q - z).y + (|y|^2 + 2 (o - z).y), where the first term is measured for each cell and the last is
 * what is kept behind the code; and -(q.o) - q.y.
 *
 * Bounds. Let P clamp to the box of the grids, half a step wider: no two points are nearer after it than they were before. A row
 * x with the code y lies within e = |step| / 2 of y once it is clamped, so |q - x| >= |P(q) - P(x)| >= |q - y| - |q - P(q)| - e, where
 * nothing depends on the row: a clamped one, too, is no nearer. Half a byte has so large an e that the bound leaves
 * nearly every row over, and DOT has no such bound: these have none.
 *
 * Layout of a row: the bytes (SQ4: component d in the low half of byte d for d < (dim + 1) / 2, the others in the high
 * halves), zeros up to a multiple of 4, the float32 under L2SQ only. The float is not one of the codec's factors because
 * graphs read rows at random: beside the code it shares a line with it, or the next one, and no other page. */
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
#include "quant/center.h"
#include "simd/kernels.h"
#include "store/index_file.h"

#define ROUNDS 10  /* of moving the grids: the error falls by less than a thousandth after some six */
#define BLOCK 1024 /* rows of a block of encoding */

#define TAIL \
    256 /* one value in so many at each end may be an outlier: arbitrary, with more they are a part of the data */
#define LOST 2 /* arbitrary, in standard deviations: of 1 to 4 all serve, see the essay */

/* Of a range: the next of 16 rows lies beyond the least or the greatest of those before once in eight times. */
#define LEAST_ROWS 16

typedef struct sq_codec {
    ki_codec base;
    const ki_kernels *kernels;
    size_t bits, half;  /* half: bytes of an SQ4 row, (dim + 1) / 2 */
    size_t bytes, tail; /* of the code; where the float stands, 0: there is none */
    int top, zero;      /* the largest code, and the one that means `middle` */
    float *middle;      /* [dim] */
    float *step;        /* [dim], >= 0; 0: the component is always the same */
    float *center;      /* [dim], z above: 0 until `origins`; NULL but of residuals under L2SQ */
} sq_codec;

typedef struct sq_scorer {
    ki_scorer base;
    ki_sq_query query;
    double bias; /* of the query but for the distance to the origin */
    float *
        row; /* [dim]: a row as the query; the query itself where cells are measured, or bounds may be asked for */
    float *centred; /* [dim]: it less the centre; NULL without one */
    float *a;       /* [padded] under L1: where code 0 is from the query; else room for weights */
    float *steps;   /* [padded] under L1 */
    int16_t *wide;
    int8_t *high, *low;
    /* A stored row as the query, where quick: its weights are first[d] + slope[d] (c - zero), in row_unit. */
    int quick;
    double away; /* what a lower bound takes off: see Bounds; below 0: not counted yet */
    float rough; /* and off the square, for rounding */
    int vague;   /* nothing is known of the rows' distances: the weights vanished, or no query was kept */
    const float *origin;  /* of the cell; NULL: none */
    float *first, *slope; /* [dim] */
    float *along;         /* [dim] middle . value is along_zero + the sum of along[d] (c - zero); under DOT */
    double row_unit, along_zero;
} sq_scorer;

/* Where component d stands among the weights, and how many places there are. */
static size_t place(const sq_codec *c, size_t d)
{
    return c->bits == 8 || d < c->half ? d : ki_sq_padded(c->half) + d - c->half;
}
static size_t places(const sq_codec *c)
{
    return c->bits == 8 ? ki_sq_padded(c->base.dim) : 2 * ki_sq_padded(c->half);
}

static int code_at(const sq_codec *c, const uint8_t *code, size_t d)
{
    if (c->bits == 8) return code[d];
    return d < c->half ? code[d] & 15 : code[d - c->half] >> 4;
}

static float value_at(const sq_codec *c, size_t d, int code)
{
    return c->middle[d] + c->step[d] * (float)(code - c->zero);
}

/* ---- scorer ---- */

static void scorer_free(ki_scorer *scorer)
{
    sq_scorer *s = (sq_scorer *)scorer;
    ki_free(scorer->allocator, s->row);
    ki_free(scorer->allocator, s->centred);
    ki_free(scorer->allocator, s->a);
    ki_free(scorer->allocator, s->steps);
    ki_free(scorer->allocator, s->wide);
    ki_free(scorer->allocator, s->high);
    ki_free(scorer->allocator, s->low);
    ki_free(scorer->allocator, s->first);
    ki_free(scorer->allocator, s);
}

/* The unit of weights of which this is the greatest and the sum: none beyond KI_SQ_WEIGHT, and no sum of products beyond
 * 2^31. */
static double unit_for(const sq_codec *c, double most, double sum)
{
    double room = 0x1p31 / c->top - (double)c->base.dim;
    return fmax(most / KI_SQ_WEIGHT, sum / room);
}

#define LANES 4 /* sums side by side, so that they are vectors' */

/* What a query's components add up to, and their weights in places of floats: weight[d]. */
typedef struct sq_sums {
    double most, sum, length2, along; /* of |weights|; of squares from where rows count; of query . middle */
} sq_sums;

typedef struct sq_lanes {
    float most[LANES], sum[LANES];
    double length2[LANES], along[LANES];
} sq_lanes;

static inline void sum_lanes(sq_lanes *to, const float *query, const float *middle, const float *step,
                             float centred, float *weight)
{
    float u[LANES], w[LANES], size[LANES];
    for (size_t i = 0; i < LANES; i++) u[i] = query[i] - centred * middle[i];
    for (size_t i = 0; i < LANES; i++) w[i] = u[i] * step[i];
    for (size_t i = 0; i < LANES; i++) size[i] = fabsf(w[i]);
    for (size_t i = 0; i < LANES; i++) to->most[i] = size[i] > to->most[i] ? size[i] : to->most[i];
    for (size_t i = 0; i < LANES; i++) to->sum[i] += size[i];
    for (size_t i = 0; i < LANES; i++) to->length2[i] += (double)u[i] * (double)u[i];
    for (size_t i = 0; i < LANES; i++) to->along[i] += (double)query[i] * (double)middle[i];
    memcpy(weight, w, sizeof w);
}

static sq_sums sum_up(const sq_codec *c, const float *query, float *weight)
{
    float centred = c->base.metric == KITH_L2SQ && !c->base.residual ? 1 : 0;
    sq_lanes lanes = {{0}, {0}, {0}, {0}};
    size_t d = 0, rest = c->base.dim % LANES;
    for (; d + LANES <= c->base.dim; d += LANES)
        sum_lanes(&lanes, query + d, c->middle + d, c->step + d, centred, weight + d);
    if (rest > 0) {
        float q[LANES] = {0}, m[LANES] = {0}, s[LANES] = {0}, w[LANES];
        memcpy(q, query + d, rest * sizeof *q);
        memcpy(m, c->middle + d, rest * sizeof *m);
        memcpy(s, c->step + d, rest * sizeof *s);
        sum_lanes(&lanes, q, m, s, centred, w);
        memcpy(weight + d, w, rest * sizeof *w);
    }
    sq_sums all = {0, 0, 0, 0};
    for (size_t i = 0; i < LANES; i++) {
        all.most = fmax(all.most, (double)lanes.most[i]);
        all.sum += 1.001 * (double)lanes.sum[i]; /* float32 may have rounded it down */
        all.length2 += lanes.length2[i];
        all.along += lanes.along[i];
    }
    return all;
}

/* Weights in their unit to whole numbers, and in two parts; returns their sum. */
static int32_t split(const float *restrict weight, float inverse, size_t n, int16_t *restrict wide,
                     int8_t *restrict high, int8_t *restrict low)
{
    enum { SHIFT = KI_SQ_WEIGHT + 384 }; /* makes weights positive, so that cutting off rounds them down */
    int32_t sum = 0;
    for (size_t d = 0; d < n; d++) {
        int whole = (int)(weight[d] * inverse + (SHIFT + 0.5F)) - SHIFT, upper = (whole + 64) >> 7;
        wide[d] = (int16_t)whole;
        high[d] = (int8_t)upper;
        low[d] = (int8_t)(whole - 128 * upper);
        sum += whole;
    }
    return sum;
}

static void scorer_query(ki_scorer *scorer, const float *query)
{
    sq_scorer *s = (sq_scorer *)scorer;
    const sq_codec *c = (const sq_codec *)scorer->codec;
    size_t dim = c->base.dim, first = c->bits == 8 ? dim : c->half;
    s->away = -1;
    s->origin = NULL;
    s->vague = 0;
    if (c->base.metric == KITH_L1) {
        for (size_t d = 0; d < dim; d++) s->a[place(c, d)] = query[d] - value_at(c, d, 0);
        return;
    }
    if (c->center || c->base.bounded) memmove(s->row, query, dim * sizeof *query);
    if (c->center) {
        c->kernels->sub_f32(s->centred, query, c->center, dim);
        query = s->centred;
    }
    sq_sums sums = sum_up(c, query, s->a);
    double unit = unit_for(c, sums.most, sums.sum);
    float inverse = (float)(1 / unit);
    if (!(inverse < INFINITY) || !(sums.sum < INFINITY)) { /* weights of nothing */
        memset(s->a, 0, dim * sizeof *s->a);
        inverse = 0;
        unit = 0;
        s->vague = sums.most > 0;
    }
    int64_t weights = split(s->a, inverse, first, s->wide, s->high, s->low);
    size_t rest = ki_sq_padded(c->half);
    if (first < dim)
        weights += split(s->a + first, inverse, dim - first, s->wide + rest, s->high + rest, s->low + rest);
    double zero = unit * c->zero * (double)weights; /* what codes of `zero` make of the product */
    if (c->base.metric == KITH_L2SQ) {
        s->query.scale = (float)(-2 * unit);
        s->bias = 2 * zero + (c->base.residual ? -2 * sums.along : sums.length2);
    } else {
        s->query.scale = (float)-unit;
        s->bias = zero - sums.along;
    }
    s->query.bias = (float)s->bias;
}

/* What quick_row reads, for plain rows of 8 bits under L2SQ and DOT. */
static void quick_init(sq_scorer *s, const sq_codec *c)
{
    double most = 0, sum = 0;
    for (size_t d = 0; d < c->base.dim; d++) {
        double step = (double)c->step[d], first = c->tail ? 0 : step * (double)c->middle[d];
        double weight = fabs(first) + c->zero * step * step;
        most = fmax(most, weight);
        sum += weight;
    }
    s->row_unit = unit_for(c, most, sum);
    double inverse = 1 / s->row_unit;
    if (!isfinite(inverse)) return; /* weights of nothing */
    s->quick = 1;
    for (size_t d = 0; d < c->base.dim; d++) {
        double step = (double)c->step[d], middle = (double)c->middle[d];
        s->first[d] = c->tail ? 0 : (float)(step * middle * inverse);
        s->slope[d] = (float)(step * step * inverse);
        s->along[d] = (float)(step * middle);
        s->along_zero += middle * middle;
    }
}

/* A stored row as the query without going through float32: graphs are built by comparing rows with rows, and what
 * scorer_query takes for one query is as long as a hundred scores. */
static void quick_row(sq_scorer *s, const sq_codec *c, const uint8_t *code)
{
    for (size_t d = 0; d < c->base.dim; d++) s->a[d] = s->first[d] + s->slope[d] * (float)(code[d] - 128);
    int32_t weights = split(s->a, 1, c->base.dim, s->wide, s->high, s->low);
    double zero = s->row_unit * c->zero * (double)weights;
    if (c->tail) {
        float length2;
        memcpy(&length2, code + c->tail, sizeof length2);
        s->query.scale = (float)(-2 * s->row_unit);
        s->bias = 2 * zero + (double)length2;
    } else {
        double along = s->along_zero;
        for (size_t d = 0; d < c->base.dim; d++) along += (double)(s->along[d] * (float)(code[d] - 128));
        s->query.scale = (float)-s->row_unit;
        s->bias = zero - along;
    }
    s->query.bias = (float)s->bias;
}

static void scorer_row(ki_scorer *scorer, const uint8_t *code, const float *factor, const float *origin)
{
    sq_scorer *s = (sq_scorer *)scorer;
    if (s->quick) {
        s->away = -1;
        s->vague = 1;
        quick_row(s, (const sq_codec *)scorer->codec, code);
        return;
    }
    scorer->codec->ops->decode(scorer->codec, code, factor, origin, s->row);
    scorer_query(scorer, s->row);
}

static void scorer_rebase(ki_scorer *scorer, const float *origin, float distance)
{
    sq_scorer *s = (sq_scorer *)scorer;
    const sq_codec *c = (const sq_codec *)scorer->codec;
    if (c->center) distance = c->kernels->l2sq_f32(s->row, origin, c->base.dim);
    s->query.bias = (float)(s->bias + (double)distance);
    s->away = -1;
    s->origin = origin;
}

static void scorer_score(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    (void)worst;
    const sq_scorer *s = (const sq_scorer *)scorer;
    const sq_codec *c = (const sq_codec *)scorer->codec;
    const ki_kernels *k = c->kernels;
    size_t stride = c->base.code_size, dim = c->base.dim;
    if (c->base.metric == KITH_L1)
        (c->bits == 8 ? k->sq8_l1 : k->sq4_l1)(s->a, s->steps, codes.code, stride, rows, n, dim, out);
    else
        (c->bits == 8 ? k->sq8_score : k->sq4_score)(&s->query, codes.code, stride, rows, n, dim, out);
}

/* |q - P(q)| + e: see Bounds. */
static double away_from_rows(const sq_codec *c, const float *query, const float *origin)
{
    double outside = 0, rounding = 0;
    for (size_t d = 0; d < c->base.dim; d++) {
        double step = (double)c->step[d], q = (double)query[d] - (origin ? (double)origin[d] : 0);
        double low = (double)c->middle[d] - (c->zero + 0.5) * step, high = low + (c->top + 1) * step;
        double off = q < low ? low - q : q > high ? q - high : 0;
        outside += off * off;
        rounding += step * step / 4;
    }
    return sqrt(outside) + 1.001 * sqrt(rounding);
}

/* What scores may be too large by: the weights are rounded, by half a unit at most each. Four standard deviations of the sum of
 * such errors are kept but for once in some ten thousand rows; where many weights are equal, and so their errors, it is their sum that
 * counts. And float32 sums up what nearly cancels. */
static double rough_by(const sq_scorer *s)
{
    const sq_codec *c = (const sq_codec *)s->base.codec;
    double unit = fabs((double)s->query.scale) / 2, together = 0;
    for (size_t d = 0; d < c->base.dim && unit > 0; d++)
        together += (double)s->a[d] / unit - (double)s->wide[d];
    double weights = c->zero * (4 / sqrt(12) * sqrt((double)c->base.dim) + fabs(together));
    return 2 * unit * weights + 0x1p-20 * fabs((double)s->query.bias);
}

static void scorer_bound(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    sq_scorer *s = (sq_scorer *)scorer;
    scorer_score(scorer, codes, rows, n, worst, out);
    if (s->away < 0 && !s->vague) {
        s->away = away_from_rows((const sq_codec *)scorer->codec, s->row, s->origin);
        s->rough = (float)rough_by(s);
    }
    for (size_t i = 0; i < n; i++) {
        float near = sqrtf(fmaxf(out[i] * (1 - 0x1p-20F) - s->rough, 0)) - (float)s->away;
        out[i] = s->vague || !(near < INFINITY) ? -INFINITY : near > 0 ? near * near : 0;
    }
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
                                                  .score = scorer_score,
                                                  .bound = scorer_bound};

static kith_status untrained(kith_error *err)
{
    return ki_fail(err, KITH_UNTRAINED, "the scalar quantiser has no ranges yet");
}

static kith_status make_scorer(const ki_codec *codec, const kith_allocator *allocator, ki_scorer **out,
                               kith_error *err)
{
    const sq_codec *c = (const sq_codec *)codec;
    size_t n = places(c);
    *out = NULL;
    if (!codec->trained) return untrained(err);
    sq_scorer *s = ki_alloc_zero(allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->base = (ki_scorer){codec->residual ? &residual_scorer_ops : &plain_scorer_ops, codec, allocator};
    s->row = ki_alloc(allocator, codec->dim, sizeof *s->row);
    s->a = ki_alloc_zero(allocator, n, sizeof *s->a);
    s->steps = ki_alloc_zero(allocator, n, sizeof *s->steps);
    s->wide = ki_alloc_zero(allocator, n, sizeof *s->wide);
    s->high = ki_alloc_zero(allocator, n, 1);
    s->low = ki_alloc_zero(allocator, n, 1);
    s->first = ki_alloc_zero(allocator, 3 * codec->dim, sizeof *s->first);
    if (c->center) s->centred = ki_alloc(allocator, codec->dim, sizeof *s->centred);
    if (!s->row || (c->center && !s->centred) || !s->a || !s->steps || !s->wide || !s->high || !s->low ||
        !s->first) {
        scorer_free(&s->base);
        return ki_fail_nomem(err, n * 6 * sizeof(float));
    }
    s->slope = s->first + codec->dim;
    s->along = s->slope + codec->dim;
    if (c->bits == 8 && !codec->residual && codec->metric != KITH_L1) quick_init(s, c);
    for (size_t d = 0; d < codec->dim; d++) s->steps[place(c, d)] = c->step[d];
    s->query = (ki_sq_query){.wide = s->wide, .high = s->high, .low = s->low, .tail = c->tail};
    *out = &s->base;
    return KITH_OK;
}

/* ---- training ---- */

/* The code of a value, relative to zero. */
static float code_of(const sq_codec *c, size_t d, float inverse, float value)
{
    float code = rintf((value - c->middle[d]) * inverse), most = (float)(c->top - c->zero);
    return code > most ? most : code >= (float)-c->zero ? code : (float)-c->zero; /* NaN: the least */
}

static float inverse_of(float step)
{
    float inverse = step > 0 ? 1 / step : 0;
    return isfinite(inverse) ? inverse : 0;
}

static void grid_of_range(sq_codec *c, size_t d, double low, double high)
{
    double step = (high - low) / c->top;
    c->step[d] = (float)step;
    c->middle[d] = (float)(low + c->zero * step);
}

/* What values of the sample off by so much cost: see Outliers. */
static double cost_of(double off, double lost)
{
    return off * off < lost * lost ? off * off : lost * lost;
}

static double off_grid(const sq_codec *c, size_t d, float inverse, float value)
{
    return (double)value - (double)c->middle[d] - (double)c->step[d] * (double)code_of(c, d, inverse, value);
}

static double grid_error(const sq_codec *c, size_t d, const float *x, size_t n, double lost)
{
    float inverse = inverse_of(c->step[d]);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += cost_of(off_grid(c, d, inverse, x[i]), lost);
    return sum;
}

/* One round: codes of the values x[n] of component d on the grid as it is, then the grid that fits these codes best. */
static void move_grid(sq_codec *c, size_t d, const float *x, size_t n, double lost)
{
    float inverse = inverse_of(c->step[d]);
    double codes = 0, squares = 0, values = 0, products = 0, count = 0;
    double most = fmax(lost, (double)c->step[d]); /* of a value that is not clamped: half a step */
    for (size_t i = 0; i < n; i++) {
        double code = code_of(c, d, inverse, x[i]), value = x[i];
        if (fabs(value - (double)c->middle[d] - (double)c->step[d] * code) > most) continue;
        codes += code;
        squares += code * code;
        values += value;
        products += value * code;
        count++;
    }
    double spread = squares * count - codes * codes;
    if (!(spread > 0)) return;
    double step = (products * count - values * codes) / spread;
    double middle = (values - step * codes) / count;
    if (!(step > 0) || !isfinite((float)step) || !isfinite((float)middle)) return;
    c->step[d] = (float)step;
    c->middle[d] = (float)middle;
}

/* The range by which the rounds begin: they move a grid by little at a time, so where 16 codes are all there is, the
 * best of some shorter ranges is looked for first. */
static void first_grid(sq_codec *c, size_t d, const float *x, size_t n, double low, double high, double lost)
{
    static const double parts[] = {1, 0.8, 0.6, 0.4, 0.25};
    double mean = 0, least = INFINITY, best_low = low, best_high = high;
    for (size_t i = 0; i < n; i++) mean += fmin(fmax((double)x[i], low), high) / (double)n;
    for (size_t t = 0; t < 25 && c->bits == 4; t++) {
        double from = mean - parts[t / 5] * (mean - low), to = mean + parts[t % 5] * (high - mean);
        grid_of_range(c, d, from, to);
        double error = grid_error(c, d, x, n, lost);
        if (error < least) least = error, best_low = from, best_high = to;
    }
    grid_of_range(c, d, best_low, best_high);
}

/* ---- training: outliers ---- */

/* The ends of a component's sample: low[i] the i-th least value, high[i] the i-th greatest negated; both ascend. */
typedef struct ends {
    size_t n;
    float *low, *high;
} ends;

/* Values that ends hold: those that may be outliers, and one that may not. */
static size_t end_values(size_t rows)
{
    return (rows >= TAIL ? rows / TAIL : 1) + 1;
}

/* Keep a value, the held-th that comes, if it is among the n least. */
static void keep_least(float *least, size_t n, size_t held, float value)
{
    if (held >= n && !(value < least[n - 1])) return;
    size_t i = held < n ? held : n - 1;
    for (; i > 0 && value < least[i - 1]; i--) least[i] = least[i - 1];
    least[i] = value;
}

/* The standard deviation of what lies between the ends. */
static double spread_between(const float *x, size_t n, const ends *e)
{
    double low = (double)e->low[e->n - 1], high = -(double)e->high[e->n - 1], count = 0, sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double value = (double)x[i] - low;
        if (!(value >= 0 && (double)x[i] <= high)) continue;
        sum += value;
        squares += value * value;
        count++;
    }
    return count > 0 ? sqrt(fmax(squares / count - sum / count * (sum / count), 0)) : 0;
}

/* What the first `cut` values of an end cost where the range begins at the next. */
static double cost_of_cut(const float *end, size_t cut, double lost)
{
    double sum = 0;
    for (size_t i = 0; i < cut; i++) sum += cost_of((double)end[cut] - (double)end[i], lost);
    return sum;
}

/* The range without outliers: the ends cut where their cost and that of the rounding of all n values, a step squared / 12
 * each, are least. Returns what a value that is lost is off by. */
static double range_without_outliers(const sq_codec *c, const ends *e, double spread, size_t n, double *low,
                                     double *high)
{
    double least = INFINITY, lost = LOST * spread;
    *low = (double)e->low[0];
    *high = -(double)e->high[0];
    if (!(spread > 0)) return INFINITY;
    for (size_t i = 0; i < e->n; i += i / 4 + 1) {
        double below = cost_of_cut(e->low, i, lost);
        for (size_t j = 0; j < e->n; j += j / 4 + 1) {
            double from = (double)e->low[i], to = -(double)e->high[j];
            double rounding = cost_of((to - from) / c->top / sqrt(12), spread);
            double cost = below + cost_of_cut(e->high, j, lost) + (double)n * rounding;
            if (cost < least) least = cost, *low = from, *high = to;
        }
    }
    return lost;
}

/* ---- training: components ---- */

typedef struct training {
    sq_codec *c;
    const float *x;
    size_t n;
    const kith_run *run;
    float *column; /* [threads][n + 2 * end_values(n)] */
} training;

static void train_component(void *ctx, size_t d, size_t worker)
{
    training *t = ctx;
    ends e = {.n = end_values(t->n)};
    float *x = t->column + worker * (t->n + 2 * e.n);
    int bytes = t->c->bits == 8;
    if (t->run && kith_cancel_raised(t->run->cancel)) return;
    e.low = x + t->n;
    e.high = e.low + e.n;
    for (size_t i = 0; i < t->n; i++) {
        x[i] = t->x[i * t->c->base.dim + d];
        keep_least(e.low, e.n, i, x[i]);
        keep_least(e.high, e.n, i, -x[i]);
        bytes = bytes && x[i] >= 0 && x[i] <= 255 && x[i] == (float)(int)x[i];
    }
    if (bytes) {
        grid_of_range(t->c, d, 0, 255);
        return;
    }
    double low, high, spread = spread_between(x, t->n, &e);
    double lost = range_without_outliers(t->c, &e, spread, t->n, &low, &high);
    first_grid(t->c, d, x, t->n, low, high, lost);
    for (size_t round = 0; round < ROUNDS; round++) move_grid(t->c, d, x, t->n, lost);
}

static kith_status train(ki_codec *codec, const float *x, size_t n, uint64_t seed, const kith_run *run,
                         kith_error *err)
{
    (void)seed;
    codec->trained = 0;
    if (!x) return ki_fail(err, KITH_INVALID, "x is NULL");
    if (n < LEAST_ROWS)
        return ki_fail(err, KITH_INVALID, "n is %zu, ranges take %d rows and more", n, LEAST_ROWS);
    kith_pool *pool = ki_run_pool(run);
    training t = {(sq_codec *)codec, x, n, run, NULL};
    size_t floats = kith_pool_threads(pool) * (n + 2 * end_values(n));
    t.column = ki_alloc(codec->allocator, floats, sizeof *t.column);
    if (!t.column) return ki_fail_nomem(err, floats * sizeof *t.column);
    ki_stage stage;
    ki_stage_begin(&stage, run, "training ranges", codec->dim);
    ki_pool_run(pool, codec->dim, train_component, &t);
    ki_free(codec->allocator, t.column);
    KI_TRY(ki_run_check(run, err));
    ki_stage_report(&stage, codec->dim);
    codec->trained = 1;
    return KITH_OK;
}

/* ---- encoding ---- */

typedef struct encode_job {
    const sq_codec *c;
    const float *x;
    size_t n;
    ki_origins from;
    const kith_run *run;
    uint8_t *code;
} encode_job;

/* |v|^2 of a plain row, |y|^2 + 2 (o - z).y of a residual. */
static float tail_of(const sq_codec *c, const uint8_t *code, const float *origin)
{
    double sum = 0;
    for (size_t d = 0; d < c->base.dim; d++) {
        int at = code_at(c, code, d);
        double v = (double)c->step[d] * (at - c->zero), y = (double)value_at(c, d, at);
        sum += c->center ? y * (y + 2 * ((origin ? (double)origin[d] : 0) - (double)c->center[d])) : v * v;
    }
    return (float)fmin(fmax(sum, -(double)FLT_MAX), (double)FLT_MAX); /* finite, however large the row */
}

static void encode_row(const sq_codec *c, const float *x, const float *origin, uint8_t *code)
{
    memset(code, 0, c->base.code_size);
    for (size_t d = 0; d < c->base.dim; d++) {
        float value = origin ? x[d] - origin[d] : x[d];
        int whole = (int)code_of(c, d, inverse_of(c->step[d]), value) + c->zero;
        if (c->bits == 8)
            code[d] = (uint8_t)whole;
        else if (d < c->half)
            code[d] = (uint8_t)whole;
        else
            code[d - c->half] |= (uint8_t)(whole << 4);
    }
    if (!c->tail) return;
    float tail = tail_of(c, code, origin);
    memcpy(code + c->tail, &tail, sizeof tail);
}

static void encode_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const encode_job *job = ctx;
    size_t dim = job->c->base.dim, end = (block + 1) * BLOCK < job->n ? (block + 1) * BLOCK : job->n;
    if (job->run && kith_cancel_raised(job->run->cancel)) return;
    for (size_t i = block * BLOCK; i < end; i++)
        encode_row(job->c, job->x + i * dim,
                   job->from.origins ? job->from.origins + job->from.which[i] * dim : NULL,
                   job->code + i * job->c->base.code_size);
}

static kith_status encode(const ki_codec *codec, const float *x, size_t n, ki_origins from,
                          const kith_run *run, uint8_t *code, float *factor, kith_error *err)
{
    (void)factor;
    if (!codec->trained) return untrained(err);
    encode_job job = {(const sq_codec *)codec, x, n, from, run, code};
    ki_pool_run(ki_run_pool(run), (n + BLOCK - 1) / BLOCK, encode_block, &job);
    return ki_run_check(run, err);
}

static void decode(const ki_codec *codec, const uint8_t *code, const float *factor, const float *origin,
                   float *out)
{
    (void)factor;
    const sq_codec *c = (const sq_codec *)codec;
    for (size_t d = 0; d < codec->dim; d++) out[d] = value_at(c, d, code_at(c, code, d));
    if (origin) c->kernels->add_f32(out, origin, codec->dim);
}

static kith_status check(const ki_codec *codec, ki_codes codes, size_t n, int deep, kith_error *err)
{
    const sq_codec *c = (const sq_codec *)codec;
    for (size_t i = 0; i < n && deep && c->tail; i++) {
        float tail;
        memcpy(&tail, codes.code + i * codec->code_size + c->tail, sizeof tail);
        if (!isfinite(tail)) return ki_fail(err, KITH_CORRUPT, "the length of row %zu is not finite", i);
    }
    return KITH_OK;
}

/* ---- save and load: PREFIX.ranges, float32 [2][dim]: middle, step; with a centre .cellranges instead, and .center ---- */

/* What is kept behind a code was once counted from 0: the section's name tells them apart, and such files go on with that. */
static void section_name(const char *prefix, int centred, char name[KI_STORE_NAME_BYTES])
{
    snprintf(name, KI_STORE_NAME_BYTES, "%s.%s", prefix, centred ? "cellranges" : "ranges");
}

static kith_status save(const ki_codec *codec, const char *prefix, struct ki_store_writer *writer,
                        kith_error *err)
{
    const sq_codec *c = (const sq_codec *)codec;
    char name[KI_STORE_NAME_BYTES];
    if (!codec->trained) return untrained(err);
    section_name(prefix, c->center != NULL, name);
    KI_TRY(ki_store_put(writer, name, c->middle, 2 * codec->dim, sizeof(float), err));
    return c->center ? ki_center_save(c->center, codec->dim, prefix, writer, err) : KITH_OK;
}

static kith_status load(ki_codec *codec, const char *prefix, struct ki_store *store, kith_error *err)
{
    sq_codec *c = (sq_codec *)codec;
    char name[KI_STORE_NAME_BYTES];
    codec->trained = 0;
    section_name(prefix, 0, name);
    if (c->center && ki_store_has(store, name)) {
        memset(c->center, 0, codec->dim * sizeof *c->center);
    } else if (c->center) {
        section_name(prefix, 1, name);
        KI_TRY(ki_center_load(c->center, codec->dim, prefix, store, err));
    }
    KI_TRY(ki_store_load(store, name, 2 * codec->dim, sizeof(float), c->middle, err));
    for (size_t d = 0; d < codec->dim; d++)
        if (!isfinite(c->middle[d]) || !isfinite(c->step[d]) || c->step[d] < 0)
            return ki_fail(err, KITH_CORRUPT, "section %s: component %zu has no range", name, d);
    codec->trained = 1;
    return KITH_OK;
}

/* ---- codec ---- */

static void codec_free(ki_codec *codec)
{
    ki_free(codec->allocator, ((sq_codec *)codec)->middle);
    ki_free(codec->allocator, ((sq_codec *)codec)->center);
    ki_free(codec->allocator, codec);
}

static void origins(ki_codec *codec, const float *x, size_t n)
{
    float *center = ((sq_codec *)codec)->center;
    if (center && n > 0) ki_center_of_origins(center, x, n, codec->dim);
}

static const ki_codec_ops sq_ops = {.name = "sq",
                                    .free = codec_free,
                                    .origins = origins,
                                    .train = train,
                                    .encode = encode,
                                    .decode = decode,
                                    .scorer = make_scorer,
                                    .save = save,
                                    .load = load,
                                    .check = check};

kith_status ki_codec_sq_create(size_t dim, size_t bits, kith_metric metric, int residual,
                               const kith_allocator *allocator, ki_codec **out, kith_error *err)
{
    *out = NULL;
    if (dim == 0 || dim > KI_SQ_MAX_DIM)
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 1..%d", dim, KI_SQ_MAX_DIM);
    if (bits != 4 && bits != 8) return ki_fail(err, KITH_INVALID, "bits is %zu, allowed 4 and 8", bits);
    if (metric != KITH_L2SQ && metric != KITH_DOT && metric != KITH_L1)
        return ki_fail(err, KITH_UNSUPPORTED, "metric %d is not one of l2, dot, l1", (int)metric);
    if (residual && metric == KITH_L1)
        return ki_fail(err, KITH_UNSUPPORTED, "whole numbers of residuals have no l1 distance");
    sq_codec *c = ki_alloc_zero(allocator, 1, sizeof *c);
    if (!c) return ki_fail_nomem(err, sizeof *c);
    c->base = (ki_codec){.ops = &sq_ops, .allocator = allocator, .dim = dim, .metric = metric};
    c->base.residual = residual != 0;
    c->base.bounded = bits == 8 && metric == KITH_L2SQ;
    c->kernels = ki_kernels_get();
    c->bits = bits;
    c->half = (dim + 1) / 2;
    c->bytes = bits == 8 ? dim : c->half;
    c->top = bits == 8 ? 255 : 15;
    c->zero = bits == 8 ? 128 : 8;
    c->tail = metric == KITH_L2SQ ? (c->bytes + 3) / 4 * 4 : 0;
    c->base.code_size = c->tail ? c->tail + sizeof(float) : c->bytes;
    c->middle = ki_alloc_zero(allocator, 2 * dim, sizeof *c->middle);
    if (residual && c->tail) c->center = ki_alloc_zero(allocator, dim, sizeof *c->center);
    if (!c->middle || (residual && c->tail && !c->center)) {
        codec_free(&c->base);
        return ki_fail_nomem(err, 2 * dim * sizeof(float));
    }
    c->step = c->middle + dim;
    *out = &c->base;
    return KITH_OK;
}
