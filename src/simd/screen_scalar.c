/* Products of small integers, the reference. */
#include "simd/levels.h"

static void panel_dot_s8(const int16_t *q, size_t pairs, const int8_t *b, size_t panels, int32_t *out)
{
    for (size_t p = 0; p < panels; p++)
        for (size_t i = 0; i < KI_PANEL; i++) {
            const int8_t *column = b + p * pairs * 2 * KI_PANEL + 2 * i;
            int32_t sum = 0;
            for (size_t j = 0; j < pairs; j++)
                sum += q[2 * j] * column[j * 2 * KI_PANEL] + q[2 * j + 1] * column[j * 2 * KI_PANEL + 1];
            out[p * KI_PANEL + i] = sum;
        }
}

void ki_simd_screen_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->panel_dot_s8 = panel_dot_s8;
}
