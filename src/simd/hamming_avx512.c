/* Bits that differ for AVX-512, once with VPOPCNTDQ and once without; the loops are in hamming_loops.h. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx512.h"

#define NAME(x) x##_bw

/* The set bits of each half of a byte come out of a table of 16 (Mula, Kurz & Lemire, "Faster population counts using
 * AVX2 instructions", 2018); the bytes of a lane are summed against zero. */
KI_INLINE __m512i popcount_bw(__m512i v)
{
    const __m512i table =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i low = _mm512_set1_epi8(15);
    __m512i bits =
        _mm512_add_epi8(_mm512_shuffle_epi8(table, _mm512_and_si512(v, low)),
                        _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(v, 4), low)));
    return _mm512_sad_epu8(bits, _mm512_setzero_si512());
}

#include "simd/hamming_loops.h"
#include "simd/target_end.h"
#undef NAME

#include "simd/target_avx512_popcount.h"

#define NAME(x) x##_vpopcnt

KI_INLINE __m512i popcount_vpopcnt(__m512i v)
{
    return _mm512_popcnt_epi64(v);
}

#include "simd/hamming_loops.h"
#include "simd/target_end.h"

/* Codes that are looked up one by one stay with POPCNT, inherited: no reduction across lanes. */
void ki_simd_hamming_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    table->hamming_rows = cpu->avx512_popcount ? hamming_rows_vpopcnt : hamming_rows_bw;
}
#endif
