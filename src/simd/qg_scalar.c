/* Estimated distances of a quantized graph: plain loops, the reference. */
#include "simd/levels.h"

static unsigned sum_of(const ki_qg_query *q, const uint8_t *codes, size_t j)
{
    unsigned sum = 0;
    for (size_t t = 0; t < q->steps; t++) {
        const uint8_t *table = q->table + t * KI_QG_STEP_TABLE;
        for (size_t lane = 0; lane < 4; lane++) {
            unsigned byte = codes[t * KI_QG_STEP_BYTES + lane * 16 + j];
            sum += (unsigned)table[lane * 16 + (byte & 15)] + table[64 + lane * 16 + (byte >> 4)];
        }
    }
    return sum;
}

static size_t near(const ki_qg_query *q, const uint8_t *codes, const uint16_t *add, const uint16_t *mul,
                   size_t blocks, float base, float limit, float *dist, uint32_t *place)
{
    size_t n = 0;
    for (size_t i = 0; i < blocks * KI_QG_BLOCK; i++) {
        const uint8_t *block = codes + i / KI_QG_BLOCK * q->steps * KI_QG_STEP_BYTES;
        float along = q->bias + q->scale * (float)sum_of(q, block, i % KI_QG_BLOCK);
        float value = base + q->unit * (ki_f16_decode(add[i]) + ki_f16_decode(mul[i]) * along);
        dist[n] = value;
        place[n] = (uint32_t)i;
        n += value < limit;
    }
    return n;
}

void ki_simd_qg_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->qg_near = near;
}
