/* RaBitQ, plain loops. */
#include "simd/levels.h"

#include <math.h>

static float absmax_f32(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

static ki_rabitq_sums rabitq_weights(const float *x, size_t n, float coarse, float fine, int8_t *weights,
                                     int8_t *high, int8_t *low)
{
    ki_rabitq_sums sums = {0, 0, 0};
    for (size_t i = 0; i < n; i++) {
        int weight = (int)lrintf(x[i] * coarse), wide = (int)lrintf(x[i] * fine);
        int upper = (wide + 64) >> 7; /* rounded down, of negative numbers too */
        weights[i] = (int8_t)weight;
        high[i] = (int8_t)upper;
        low[i] = (int8_t)(wide - 128 * upper);
        sums.total += weight < 0 ? -weight : weight;
        sums.negative += weight < 0 ? weight : 0;
        sums.fine += wide;
    }
    return sums;
}

static void rabitq_tables(const int8_t *weights, size_t bytes, uint8_t *tables)
{
    for (size_t j = 0; j < (bytes + 1) / 2 * 2; j++)
        for (size_t half = 0; half < 2; half++) {
            uint8_t *table = tables + j / 2 * 128 + half * 64 + j % 2 * 32;
            for (size_t value = 0; value < 16; value++) {
                int sum = 0;
                for (size_t i = 0; i < 4 && j < bytes; i++) {
                    int weight = weights[j * 8 + half * 4 + i];
                    sum += (value >> i & 1 ? weight : 0) - (weight < 0 ? weight : 0);
                }
                table[value] = table[value + 16] = (uint8_t)sum;
            }
        }
}

KI_INLINE uint32_t block(const ki_rabitq_query *q, const uint8_t *codes, const float *factors, float worst,
                         float *estimate, float *lower)
{
    uint32_t mask = 0;
    for (size_t r = 0; r < KI_RABITQ_ROWS; r++) {
        int32_t sum = 0;
        for (size_t j = 0; j < q->bytes; j++) {
            const uint8_t *table = q->tables + j / 2 * 128 + j % 2 * 32;
            uint8_t byte = codes[KI_RABITQ_ROWS * j + r];
            sum += table[byte & 15] + table[64 + (byte >> 4)];
        }
        float bound, near = ki_rabitq_estimate(q, sum, factors[r], factors[KI_RABITQ_ROWS + r], &bound);
        if (estimate) estimate[r] = near;
        if (lower) lower[r] = bound;
        mask |= (uint32_t) !(bound > worst) << r;
    }
    return mask;
}

static void rabitq_blocks(const ki_rabitq_query *q, const uint8_t *codes, size_t stride, const float *factors,
                          size_t n, ki_rabitq_ahead ahead, float worst, float *estimate, float *lower,
                          uint32_t *mask)
{
    for (size_t i = 0; i < n; i++, codes += stride, factors += 2 * KI_RABITQ_ROWS) {
        ki_rabitq_fetch(q, ahead, stride, i);
        mask[i] = block(q, codes, factors, worst, estimate ? estimate + i * KI_RABITQ_ROWS : NULL,
                        lower ? lower + i * KI_RABITQ_ROWS : NULL);
    }
}

static void rabitq_rows(const ki_rabitq_query *q, const uint8_t *codes, size_t stride, const uint32_t *rows,
                        size_t n, int32_t *sum)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = codes + (rows ? rows[i] : i) * stride;
        int32_t found = -q->negative;
        for (size_t d = 0; d < q->bytes * 8; d++) found += code[d / 8] >> d % 8 & 1 ? q->weights[d] : 0;
        sum[i] = found;
    }
}

static int32_t rabitq_extra(const ki_rabitq_query *q, const uint8_t *signs, const uint8_t *extra, size_t bits)
{
    int32_t sum = 0;
    for (size_t first = 0; first < q->bytes * 8; first += KI_RABITQ_GROUP) {
        size_t end = q->bytes * 8 - first < KI_RABITQ_GROUP ? q->bytes * 8 - first : KI_RABITQ_GROUP;
        const uint8_t *halves = extra, *pairs = halves + (bits & 4) * 8, *ones = pairs + (bits & 2) * 8;
        for (size_t i = 0; i < end; i++) {
            size_t d = first + i, shift = 0;
            int value = 0;
            if (bits & 4) value = halves[i % 32] >> (i / 32 * 4) & 15, shift = 4;
            if (bits & 2) value |= (pairs[i % 16] >> (i / 16 * 2) & 3) << shift, shift += 2;
            if (bits & 1) value |= (ones[i / 8] >> i % 8 & 1) << shift;
            value |= (signs[d / 8] >> d % 8 & 1) << bits;
            sum += value * (128 * q->high[d] + q->low[d]);
        }
        extra += bits * (KI_RABITQ_GROUP / 8);
    }
    return sum;
}

void ki_simd_rabitq_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->absmax_f32 = absmax_f32;
    table->rabitq_weights = rabitq_weights;
    table->rabitq_tables = rabitq_tables;
    table->rabitq_blocks = rabitq_blocks;
    table->rabitq_rows = rabitq_rows;
    table->rabitq_extra = rabitq_extra;
}
