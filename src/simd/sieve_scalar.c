/* Many rows against many columns in bytes, the reference. */
#include "simd/levels.h"

static ki_sieve_sums sieve_round(const float *x, size_t n, float step, float inverse, uint8_t *out)
{
    ki_sieve_sums sums = {0};
    for (size_t d = 0; d < n; d++) {
        float scaled = x[d] * inverse;
        scaled = scaled < -128 ? -128 : scaled > 127 ? 127 : scaled;
        int32_t whole = (int32_t)lrintf(scaled);
        float rest = x[d] - (float)whole * step;
        sums.error2 += rest * rest;
        sums.squares += whole * whole;
        out[d] = (uint8_t)(whole + 128);
    }
    return sums;
}

static void sieve_tile(const uint8_t *a, size_t quads, const int8_t *b, size_t panels, const int32_t *start,
                       int32_t *out, size_t ldo, int32_t *least)
{
    for (size_t r = 0; r < KI_SIEVE_ROWS; r++) {
        least[r] = INT32_MAX;
        for (size_t c = 0; c < panels * KI_PANEL; c++) {
            const int8_t *column = b + (c / KI_PANEL * quads * KI_PANEL + c % KI_PANEL) * 4;
            int32_t sum = 0;
            for (size_t j = 0; j < quads; j++)
                for (size_t t = 0; t < 4; t++)
                    sum += a[(j * KI_SIEVE_ROWS + r) * 4 + t] * column[j * 4 * KI_PANEL + t];
            sum += start[c];
            out[r * ldo + c] = sum;
            if (sum < least[r]) least[r] = sum;
        }
    }
}

void ki_simd_sieve_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->sieve_round = sieve_round;
    table->sieve_tile = sieve_tile;
}
