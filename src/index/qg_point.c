/* qg_point.c - vectors turned at random, and what is left of a link: one bit a component and two half floats.
 *
 * Gao & Long, "RaBitQ", SIGMOD 2024, section 3: after a random rotation the direction of a difference o - c is close to
 * that of its signs s, and <q - c, o - c> is about m <s, z(q) - z(c)> with m = |o - c|^2 / <s, z(o) - z(c)>, which is right
 * on average over rotations and exact for q = o. So
 *
 *     L2SQ   |q - o|^2 = |q - c|^2 + |o - c|^2 - 2 <q - c, o - c>
 *                      = |q - c|^2 + [ |o - c|^2 + 2 m <s, z(c)> ] + [ -2 m ] <s, z(q)>
 *     DOT    -q.o      = -q.c      + [ -c.(o - c) + m <s, z(c)> ]  + [ -m ]   <s, z(q)>
 *
 * where the brackets are known when the link is made (`add`, `mul`), the first term is the true distance of the row whose
 * neighbours are looked at, and <s, z(q)> is looked up. All is counted from the mean and in units of the mean distance to it, so that half floats do.
 *
 * Of more components than a code has bits, the principal ones are coded, as many as there are bits: what is left out is what
 * varies least. They are turned at random among themselves. |o - c|^2 stays that of all components, so that the estimate is
 * still exact for q = o.
 *
 * The product with so many components is half of what a short walk costs, so it is one of whole numbers: components of a byte, in
 * steps of their own, and a vector of 15 bits. All vectors, rows and queries alike, go through the same product. */
#include "index/qg_internal.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

#define MOST_OF_BASIS 127

/* Components in twos, as the product takes them. */
static size_t pairs(size_t dim)
{
    return (dim + 1) / 2;
}

/* The largest whole number of a vector: sums of dim products with numbers up to 127 stay below 2^31. */
static int most_of_vector(size_t dim)
{
    size_t most = ((size_t)1 << 24) / (dim + 1);
    return most > INT16_MAX ? INT16_MAX : (int)most;
}

kith_status ki_qg_turn_init(ki_qg_turn *turn, size_t dim, size_t coded, size_t planes, uint64_t seed,
                            int reduced, const kith_allocator *allocator, kith_error *err)
{
    turn->dim = dim;
    turn->coded = coded;
    turn->planes = planes;
    turn->width = reduced ? coded : (dim + KI_QG_STEP - 1) / KI_QG_STEP * KI_QG_STEP;
    if (turn->width < coded) turn->width = coded;
    turn->room = turn->width + (reduced ? dim + pairs(dim) + coded : 0); /* see turn_by_basis */
    if (turn->room < coded * planes) turn->room = coded * planes;
    turn->mean = ki_alloc_zero(allocator, dim, sizeof *turn->mean);
    turn->basis = reduced ? ki_alloc_zero(allocator, coded * dim, sizeof *turn->basis) : NULL;
    turn->panels = reduced ? ki_alloc_zero(allocator, coded, 2 * pairs(dim)) : NULL;
    turn->step = reduced ? ki_alloc_zero(allocator, coded, sizeof *turn->step) : NULL;
    if (!turn->mean || (reduced && (!turn->basis || !turn->panels || !turn->step)))
        return ki_fail_nomem(err, coded * dim * (sizeof *turn->basis + 1));
    return ki_hadamard_create(turn->width, NULL, seed, allocator, &turn->rotation, err);
}

void ki_qg_turn_clear(ki_qg_turn *turn, const kith_allocator *allocator)
{
    ki_free(allocator, turn->mean);
    ki_free(allocator, turn->basis);
    ki_free(allocator, turn->panels);
    ki_free(allocator, turn->step);
    ki_hadamard_free(turn->rotation);
    turn->mean = NULL;
    turn->basis = NULL;
    turn->panels = NULL;
    turn->step = NULL;
    turn->rotation = NULL;
}

void ki_qg_turn_use_basis(ki_qg_turn *turn, const ki_kernels *kernels, float *scratch)
{
    for (size_t c = 0; c < turn->coded; c++) {
        int8_t *panel = turn->panels + c / KI_PANEL * pairs(turn->dim) * 2 * KI_PANEL + c % KI_PANEL * 2;
        kernels->f16_to_f32(turn->basis + c * turn->dim, turn->dim, scratch);
        float step = kernels->absmax_f32(scratch, turn->dim) / MOST_OF_BASIS;
        turn->step[c] = step;
        for (size_t d = 0; d < turn->dim && step > 0; d++)
            panel[d / 2 * 2 * KI_PANEL + d % 2] = (int8_t)lrintf(scratch[d] / step);
    }
}

kith_status ki_qg_point_init(const ki_qg *g, ki_qg_point *point, kith_error *err)
{
    point->x = ki_alloc(g->base.env->allocator, g->turn.dim, sizeof *point->x);
    point->z = ki_alloc(g->base.env->allocator, g->turn.room, sizeof *point->z);
    if (point->x && point->z) return KITH_OK;
    return ki_fail_nomem(err, (g->turn.dim + g->turn.room) * sizeof *point->x);
}

void ki_qg_point_clear(const ki_qg *g, ki_qg_point *point)
{
    ki_free(g->base.env->allocator, point->x);
    ki_free(g->base.env->allocator, point->z);
}

/* centred[dim] to z[coded]; behind centred is room for its whole numbers and for the products. */
static void turn_by_basis(const ki_qg_turn *turn, const ki_kernels *kernels, float *centred, float *z)
{
    size_t dim = turn->dim;
    int16_t *whole = (int16_t *)(void *)(centred + dim);
    int32_t *product = (int32_t *)(void *)(centred + dim + pairs(dim));
    int most = most_of_vector(dim);
    float widest = kernels->finite_f32(centred, dim) ? kernels->absmax_f32(centred, dim) : 0;
    float step = widest / (float)most, inverse = step > 0 ? 1 / step : 0;
    if (!(inverse < INFINITY)) inverse = step = 0;
    whole[2 * pairs(dim) - 1] = 0;
    for (size_t d = 0; d < dim && inverse > 0; d++)
        whole[d] = (int16_t)((int)(centred[d] * inverse + ((float)most + 0.5f)) - most);
    if (!(inverse > 0)) memset(whole, 0, dim * sizeof *whole);
    kernels->panel_dot_s8(whole, pairs(dim), turn->panels, turn->coded / KI_PANEL, product);
    for (size_t c = 0; c < turn->coded; c++) z[c] = step * turn->step[c] * (float)product[c];
}

void ki_qg_turn_vector(const ki_qg *g, const float *x, float *z)
{
    const ki_qg_turn *turn = &g->turn;
    float unit = 1 / turn->length, *centred = turn->basis ? z + turn->width : z;
    for (size_t d = 0; d < turn->dim; d++) centred[d] = (x[d] - turn->mean[d]) * unit;
    if (turn->basis)
        turn_by_basis(turn, g->base.env->kernels, centred, z);
    else
        for (size_t d = turn->dim; d < turn->width; d++) z[d] = 0;
    ki_hadamard_apply(turn->rotation, z);
}

void ki_qg_point_load(const ki_qg *g, ki_qg_point *point, uint32_t slot)
{
    const ki_codec *codec = g->base.env->codec;
    ki_codes code = ki_qg_code(g, slot);
    codec->ops->decode(codec, code.code, code.factor, NULL, point->x);
    if (g->turned && ki_bits_get(g->is_turned, slot))
        memcpy(point->z, g->turned + (size_t)slot * g->turn.width, g->turn.width * sizeof *point->z);
    else
        ki_qg_turn_vector(g, point->x, point->z);
}

void ki_qg_point_mean(const ki_qg *g, ki_qg_point *point)
{
    memcpy(point->x, g->turn.mean, g->turn.dim * sizeof *point->x);
    memset(point->z, 0, g->turn.width * sizeof *point->z);
}

/* ---- Links ---- */

#define SECOND 0.5f /* weight of the second bit of a component */

static uint16_t to_half(const ki_qg *g, float value)
{
    uint16_t half;
    value = value > 65504.0f ? 65504.0f : value < -65504.0f ? -65504.0f : value;
    g->base.env->kernels->f32_to_f16(&value, 1, &half);
    return half;
}

/* One plane of a code: its sign is that of how far `to` is from `from`, and that of the second plane says whether by more than
 * `beyond`: a component stands for its sign, or for 1.5 and 0.5 of it. Adds <s, z(to) - z(from)> and <s, z(from)>, of eight
 * components at a time side by side. */
static void write_plane(const float *to, const float *from, size_t n, float beyond, float weight,
                        uint8_t *code, float along[8], float signs[8])
{
    for (size_t d = 0; d < n; d += 8) {
        unsigned byte = 0;
        float off[8], sign[8];
        for (size_t b = 0; b < 8; b++) off[b] = to[d + b] - from[d + b];
        for (size_t b = 0; b < 8; b++) sign[b] = copysignf(weight, (fabsf(off[b]) - beyond) * off[b]);
        for (size_t b = 0; b < 8; b++) along[b] += off[b] * sign[b];
        for (size_t b = 0; b < 8; b++) signs[b] += from[d + b] * sign[b];
        for (size_t b = 0; b < 8; b++) byte |= (unsigned)(sign[b] > 0) << b;
        code[d / 8 * 16] = (uint8_t)byte;
    }
}

void ki_qg_link(const ki_qg *g, const ki_qg_point *from, const ki_qg_point *to, size_t place, uint8_t *codes,
                uint16_t *add, uint16_t *mul)
{
    const ki_qg_turn *turn = &g->turn;
    const ki_kernels *kernels = g->base.env->kernels;
    uint8_t *code = codes + place / KI_QG_BLOCK * g->at.steps * KI_QG_STEP_BYTES + place % KI_QG_BLOCK;
    float along8[8] = {0}, signs8[8] = {0}, along = 0, signs = 0;
    write_plane(to->z, from->z, turn->coded, 0, 1, code, along8, signs8);
    if (turn->planes > 1) {
        float common = sqrtf(kernels->l2sq_f32(to->z, from->z, turn->coded) / (float)turn->coded);
        write_plane(to->z, from->z, turn->coded, common, SECOND, code + turn->coded / 8 * 16, along8, signs8);
    }
    for (size_t b = 0; b < 8; b++) along += along8[b], signs += signs8[b];
    float unit = 1 / (turn->length * turn->length);
    float norm2 = turn->basis ? kernels->l2sq_f32(to->x, from->x, turn->dim) * unit
                              : kernels->l2sq_f32(to->z, from->z, turn->width);
    float m = along > 0 ? norm2 / along : 0;
    if (g->base.env->metric == KITH_L2SQ) {
        add[place] = to_half(g, norm2 + 2 * m * signs);
        mul[place] = to_half(g, -2 * m);
    } else {
        float c_o = kernels->dot_f32(from->x, to->x, turn->dim), c_c = kernels->norm2_f32(from->x, turn->dim);
        add[place] = to_half(g, (c_c - c_o) * unit + m * signs);
        mul[place] = to_half(g, -m);
    }
}

void ki_qg_put(ki_qg *g, uint32_t slot, const ki_qg_point *from, const ki_qg_point *to, size_t place,
               uint32_t link)
{
    uint8_t *row = ki_qg_own_row(g, slot);
    ki_qg_link(g, from, to, place, row, (uint16_t *)(void *)(row + g->at.add),
               (uint16_t *)(void *)(row + g->at.mul));
    ki_qg_own_links(g, slot)[place] = link;
}

void ki_qg_unput(ki_qg *g, uint32_t slot, size_t place)
{
    uint8_t *row = ki_qg_own_row(g, slot);
    uint8_t *code = row + place / KI_QG_BLOCK * g->at.steps * KI_QG_STEP_BYTES + place % KI_QG_BLOCK;
    for (size_t i = 0; i < g->at.bits / 8; i++) code[i * 16] = 0;
    ((uint16_t *)(void *)(row + g->at.add))[place] = KI_QG_NO_ADD;
    ((uint16_t *)(void *)(row + g->at.mul))[place] = 0;
    ki_qg_own_links(g, slot)[place] = KI_GRAPH_NONE;
}

void ki_qg_take_out(ki_qg *g, uint32_t slot, size_t place)
{
    uint8_t *row = ki_qg_own_row(g, slot);
    uint16_t *add = (uint16_t *)(void *)(row + g->at.add), *mul = (uint16_t *)(void *)(row + g->at.mul);
    uint32_t *links = ki_qg_own_links(g, slot);
    size_t last = ki_graph_degree(links, g->at.degree) - 1;
    for (size_t i = 0; i < g->at.bits / 8; i++) {
        size_t step = g->at.steps * KI_QG_STEP_BYTES;
        row[place / KI_QG_BLOCK * step + place % KI_QG_BLOCK + i * 16] =
            row[last / KI_QG_BLOCK * step + last % KI_QG_BLOCK + i * 16];
    }
    add[place] = add[last];
    mul[place] = mul[last];
    links[place] = links[last];
    ki_qg_unput(g, slot, last);
}

void ki_qg_erase(ki_qg *g, uint32_t slot)
{
    memset(ki_qg_own_row(g, slot), 0, g->at.stride);
    for (size_t i = 0; i < g->at.degree; i++) ki_qg_unput(g, slot, i);
}

/* ---- Queries ---- */

/* What four components add to the sum, for each of their 16 patterns of signs, counted from the least and in halves: the
 * weights of those that are positive. */
static void fill_table(const int8_t *weight, uint8_t *table)
{
    static const uint8_t picks[4][16] = {
        {0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255},
        {0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 255, 255},
        {0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255},
        {0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255},
    };
    uint8_t w[4], least = 0;
    for (size_t i = 0; i < 4; i++) {
        w[i] = (uint8_t)weight[i];
        least = (uint8_t)(least + (weight[i] < 0 ? -weight[i] : 0));
    }
    for (size_t b = 0; b < 16; b++)
        table[b] = (uint8_t)(least + (w[0] & picks[0][b]) + (w[1] & picks[1][b]) + (w[2] & picks[2][b]) +
                             (w[3] & picks[3][b]));
}

void ki_qg_ask_codes(const ki_qg *g, const float *query, float *z, uint8_t *table, ki_qg_query *out)
{
    enum { MOST = 31 }; /* four of them stay within the seven bits of an entry */
    const ki_kernels *kernels = g->base.env->kernels;
    size_t coded = g->turn.coded, bits = g->at.bits;
    ki_qg_turn_vector(g, query, z);
    for (size_t d = coded; d < bits; d++) z[d] = SECOND * z[d - coded];
    float most = kernels->finite_f32(z, bits) ? kernels->absmax_f32(z, bits) : 0;
    float inverse = most > 0 ? MOST / most : 0, unit = inverse > 0 ? most / MOST : 0;
    int sum = 0;
    if (!(inverse < INFINITY)) inverse = unit = 0;
    for (size_t d = 0; d < bits; d += KI_QG_STEP) {
        int8_t weight[KI_QG_STEP] = {0};
        for (size_t i = 0; i < KI_QG_STEP && inverse > 0; i++)
            weight[i] = (int8_t)((int)(z[d + i] * inverse + (MOST + 0.5f)) - MOST);
        for (size_t i = 0; i < KI_QG_STEP; i++) sum += weight[i] < 0 ? -weight[i] : weight[i];
        for (size_t i = 0; i < KI_QG_STEP; i += 4)
            fill_table(weight + i, table + d / KI_QG_STEP * KI_QG_STEP_TABLE + i % 8 / 4 * 64 + i / 8 * 16);
    }
    /* The least sum is that of all weights taken against their signs; an entry counts weights once, a sign twice. */
    *out = (ki_qg_query){table, g->at.steps, -unit * (float)sum, 2 * unit, g->turn.length * g->turn.length};
}
