/* Look-ups by half bytes for AArch64: tbl over one register of 16 entries, 16 rows at a time. */
#include "simd/levels.h"

#ifdef KI_ARM
#include <arm_neon.h>

#define BLOCK 32

KI_INLINE uint8x16_t look_up(const uint8_t *codes, const uint8_t *tables)
{
    uint8x16_t both = vld1q_u8(codes);
    return vaddq_u8(vqtbl1q_u8(vld1q_u8(tables), vandq_u8(both, vdupq_n_u8(15))),
                    vqtbl1q_u8(vld1q_u8(tables + 64), vshrq_n_u8(both, 4)));
}

static void half_sums(const uint8_t *tables, size_t bytes, const uint8_t *codes, uint16_t sums[16])
{
    uint16x8_t low = vdupq_n_u16(0), high = low;
    for (size_t j = 0; j < bytes; j++) {
        uint8x16_t sum = look_up(codes + j * BLOCK, tables + j / 2 * 128 + j % 2 * 32);
        if (++j < bytes) sum = vaddq_u8(sum, look_up(codes + j * BLOCK, tables + j / 2 * 128 + j % 2 * 32));
        low = vaddw_u8(low, vget_low_u8(sum));
        high = vaddw_u8(high, vget_high_u8(sum));
    }
    vst1q_u16(sums, low);
    vst1q_u16(sums + 8, high);
}

static void pq4_scan(const uint8_t *tables, size_t bytes, const uint8_t *codes, size_t n, float scale,
                     float bias, const float *add, float *out)
{
    for (size_t i = 0; i < n; i += BLOCK, codes += BLOCK * bytes) {
        uint16_t sums[BLOCK];
        half_sums(tables, bytes, codes, sums);
        half_sums(tables, bytes, codes + 16, sums + 16);
        for (size_t r = 0; r < BLOCK && i + r < n; r++) {
            float value = bias + scale * (float)sums[r];
            out[i + r] = add ? value + add[i + r] : value;
        }
    }
}

void ki_simd_pq4scan_neon(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->pq4_scan = pq4_scan;
}
#endif
