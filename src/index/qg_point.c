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
 * neighbours are looked at, and <s, z(q)> is looked up. All is counted from the mean and in units of the mean distance to it, so that half floats do. */
#include "index/qg_internal.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

kith_status ki_qg_turn_init(ki_qg_turn *turn, size_t dim, size_t bits, uint64_t seed,
                            const kith_allocator *allocator, kith_error *err)
{
    turn->dim = dim;
    turn->bits = bits;
    turn->width = (dim + KI_QG_STEP - 1) / KI_QG_STEP * KI_QG_STEP;
    if (turn->width < bits) turn->width = bits;
    turn->mean = ki_alloc_zero(allocator, dim, sizeof *turn->mean);
    if (!turn->mean) return ki_fail_nomem(err, dim * sizeof *turn->mean);
    return ki_hadamard_create(turn->width, NULL, seed, allocator, &turn->rotation, err);
}

void ki_qg_turn_clear(ki_qg_turn *turn, const kith_allocator *allocator)
{
    ki_free(allocator, turn->mean);
    ki_hadamard_free(turn->rotation);
    turn->mean = NULL;
    turn->rotation = NULL;
}

kith_status ki_qg_point_init(const ki_qg *g, ki_qg_point *point, kith_error *err)
{
    point->x = ki_alloc(g->base.env->allocator, g->turn.dim, sizeof *point->x);
    point->z = ki_alloc(g->base.env->allocator, g->turn.width, sizeof *point->z);
    if (point->x && point->z) return KITH_OK;
    return ki_fail_nomem(err, (g->turn.dim + g->turn.width) * sizeof *point->x);
}

void ki_qg_point_clear(const ki_qg *g, ki_qg_point *point)
{
    ki_free(g->base.env->allocator, point->x);
    ki_free(g->base.env->allocator, point->z);
}

void ki_qg_turn_vector(const ki_qg_turn *turn, const float *x, float *z)
{
    float unit = 1 / turn->length;
    for (size_t d = 0; d < turn->dim; d++) z[d] = (x[d] - turn->mean[d]) * unit;
    for (size_t d = turn->dim; d < turn->width; d++) z[d] = 0;
    ki_hadamard_apply(turn->rotation, z);
}

void ki_qg_point_load(const ki_qg *g, ki_qg_point *point, uint32_t slot)
{
    const ki_codec *codec = g->base.env->codec;
    ki_codes code = ki_qg_code(g, slot);
    codec->ops->decode(codec, code.code, code.factor, NULL, point->x);
    ki_qg_turn_vector(&g->turn, point->x, point->z);
}

void ki_qg_point_mean(const ki_qg *g, ki_qg_point *point)
{
    memcpy(point->x, g->turn.mean, g->turn.dim * sizeof *point->x);
    memset(point->z, 0, g->turn.width * sizeof *point->z);
}

/* ---- Links ---- */

static uint16_t to_half(const ki_qg *g, float value)
{
    uint16_t half;
    value = value > 65504.0f ? 65504.0f : value < -65504.0f ? -65504.0f : value;
    g->base.env->kernels->f32_to_f16(&value, 1, &half);
    return half;
}

void ki_qg_link(const ki_qg *g, const ki_qg_point *from, const ki_qg_point *to, size_t place, uint8_t *codes,
                uint16_t *add, uint16_t *mul)
{
    const ki_qg_turn *turn = &g->turn;
    const ki_kernels *kernels = g->base.env->kernels;
    uint8_t *code = codes + place / KI_QG_BLOCK * g->at.steps * KI_QG_STEP_BYTES + place % KI_QG_BLOCK;
    float along8[8] = {0}, signs8[8] = {0}, along = 0,
          signs = 0; /* eight sums each: they are added side by side */
    for (size_t d = 0; d < turn->bits; d += 8) {
        unsigned byte = 0;
        float off[8], sign[8];
        for (size_t b = 0; b < 8; b++) off[b] = to->z[d + b] - from->z[d + b];
        for (size_t b = 0; b < 8; b++) sign[b] = copysignf(1, off[b]);
        for (size_t b = 0; b < 8; b++) along8[b] += off[b] * sign[b];
        for (size_t b = 0; b < 8; b++) signs8[b] += from->z[d + b] * sign[b];
        for (size_t b = 0; b < 8; b++) byte |= (unsigned)(sign[b] > 0) << b;
        code[d / 8 * 16] = (uint8_t)byte;
    }
    for (size_t b = 0; b < 8; b++) along += along8[b], signs += signs8[b];
    float norm2 = kernels->l2sq_f32(to->z, from->z, turn->width);
    float m = along > 0 ? norm2 / along : 0;
    if (g->base.env->metric == KITH_L2SQ) {
        add[place] = to_half(g, norm2 + 2 * m * signs);
        mul[place] = to_half(g, -2 * m);
    } else {
        float unit = 1 / (turn->length * turn->length);
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

/* What four components add to the sum, for each of their 16 patterns of signs, counted from the least. */
static void fill_table(const float *z, float inverse, uint8_t *table)
{
    float value[16];
    float least = -(fabsf(z[0]) + fabsf(z[1]) + fabsf(z[2]) + fabsf(z[3]));
    value[0] = -(z[0] + z[1] + z[2] + z[3]);
    for (unsigned bits = 1; bits < 16; bits++)
        value[bits] = value[bits & (bits - 1)] + 2 * z[__builtin_ctz(bits)];
    for (unsigned bits = 0; bits < 16; bits++) {
        float place = (value[bits] - least) * inverse + 0.5f;
        table[bits] = (uint8_t)(place < 127 ? place > 0 ? place : 0 : 127);
    }
}

void ki_qg_ask_codes(const ki_qg *g, const float *query, float *z, uint8_t *table, ki_qg_query *out)
{
    ki_qg_turn_vector(&g->turn, query, z);
    float most = 0, bias = 0;
    for (size_t d = 0; d < g->turn.bits; d += 4) {
        float sum = fabsf(z[d]) + fabsf(z[d + 1]) + fabsf(z[d + 2]) + fabsf(z[d + 3]);
        bias -= sum;
        most = sum > most ? sum : most;
    }
    float inverse = most > 0 ? 127 / (2 * most) : 0;
    if (!(inverse < INFINITY)) inverse = 0;
    for (size_t d = 0; d < g->turn.bits; d += 4) {
        size_t step = d / KI_QG_STEP, lane = d % KI_QG_STEP / 8, half = d % 8 / 4;
        fill_table(z + d, inverse, table + step * KI_QG_STEP_TABLE + half * 64 + lane * 16);
    }
    *out = (ki_qg_query){table, g->at.steps, bias, inverse > 0 ? 1 / inverse : 0,
                         g->turn.length * g->turn.length};
}
