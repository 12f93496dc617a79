/* The Walsh-Hadamard transform and what goes with it, plain loops. */
#include "simd/levels.h"

static void fht_f32(float *x, size_t n)
{
    for (size_t h = 1; h < n; h *= 2)
        for (size_t i = 0; i < n; i += 2 * h)
            for (size_t j = i; j < i + h; j++) {
                float a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
}

static void mul_f32(float *y, const float *a, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] *= a[i];
}

static void butterfly_f32(float *a, float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float left = a[i], right = b[i];
        a[i] = left + right;
        b[i] = left - right;
    }
}

void ki_simd_hadamard_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->fht_f32 = fht_f32;
    table->mul_f32 = mul_f32;
    table->butterfly_f32 = butterfly_f32;
}
