/* The Walsh-Hadamard transform for AVX2. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx2.h"

#define LANES ((size_t)8)
typedef __m256 vec;

KI_INLINE vec load(const float *p)
{
    return _mm256_loadu_ps(p);
}
KI_INLINE void store(float *p, vec v)
{
    _mm256_storeu_ps(p, v);
}
KI_INLINE vec add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
KI_INLINE vec sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}
KI_INLINE vec mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

/* Each float and its partner: the lower of them gets the sum, the upper the difference lower - upper. Multiplying by -1
 * is exact, so the fused operation rounds what add and sub round. */
KI_INLINE vec within(vec v)
{
    const vec sign1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1),
              sign2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1),
              sign4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
    v = _mm256_fmadd_ps(v, sign1, _mm256_permute_ps(v, 0xb1));
    v = _mm256_fmadd_ps(v, sign2, _mm256_permute_ps(v, 0x4e));
    return _mm256_fmadd_ps(v, sign4, _mm256_permute2f128_ps(v, v, 0x01));
}

#include "simd/hadamard_loops.h"
#include "simd/target_end.h"

void ki_simd_hadamard_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
