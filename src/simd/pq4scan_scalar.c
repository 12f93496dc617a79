/* Tables of 16 small numbers, looked up by half bytes of 32 rows: plain loops. What the numbers are, quant/codec_pqfs.c. */
#include "simd/levels.h"

#include <float.h>

#define BLOCK 32

/* The entry of byte j's low (half 0) or high half, see pq4_scan in kernels.def. */
static unsigned entry(const uint8_t *tables, size_t j, size_t half, unsigned number)
{
    return tables[j / 2 * 128 + half * 64 + j % 2 * 32 + number];
}

static void pq4_scan(const uint8_t *tables, size_t bytes, const uint8_t *codes, size_t n, float scale,
                     float bias, const float *add, float *out)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = codes + i / BLOCK * BLOCK * bytes + i % BLOCK;
        unsigned sum = 0;
        for (size_t j = 0; j < bytes; j++) {
            unsigned byte = code[j * BLOCK];
            sum += entry(tables, j, 0, byte & 15) + entry(tables, j, 1, byte >> 4);
        }
        float value = bias + scale * (float)sum;
        out[i] = add ? value + add[i] : value;
    }
}

static void pq4_tables(const float *tables, size_t m, unsigned most, uint8_t *out, float *scale, float *bias)
{
    float widest = 0;
    double base = 0;
    for (size_t j = 0; j < m; j++) {
        float least = tables[j * 16], greatest = least;
        for (size_t c = 1; c < 16; c++) {
            float value = tables[j * 16 + c];
            least = value < least ? value : least;
            greatest = value > greatest ? value : greatest;
        }
        widest = greatest - least > widest ? greatest - least : widest;
        base += (double)least;
    }
    *scale = widest / (float)most;
    *bias = (float)base;
    /* Of ranges so small that the inverse of a step overflows, entries are parts of the widest. */
    float inverse = widest > 0 ? (float)most / widest : 0, part = 1;
    if (inverse > FLT_MAX) inverse = (float)most, part = widest;
    for (size_t j = 0; j < m; j++) {
        uint8_t *to = out + j / 4 * 128 + j % 2 * 64 + j / 2 % 2 * 32;
        float least = tables[j * 16];
        for (size_t c = 1; c < 16; c++) least = tables[j * 16 + c] < least ? tables[j * 16 + c] : least;
        for (size_t c = 0; c < 16; c++) {
            float value = (tables[j * 16 + c] - least) / part * inverse + 0.5f;
            to[c] = to[c + 16] = (uint8_t)(value < (float)most ? value : (float)most);
        }
    }
}

void ki_simd_pq4scan_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->pq4_scan = pq4_scan;
    table->pq4_tables = pq4_tables;
}
