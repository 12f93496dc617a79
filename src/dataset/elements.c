/* Elements of one type as another. The pairs that large files are read through go over kernels, the others one
 * by one through double, which holds every value that any of the targets takes. */
#include "dataset/dataset_internal.h"

#include <math.h>
#include <string.h>

#include "simd/kernels.h"

#define F32_WHOLE 16777216.0 /* 2^24: every integer up to here is a float32 */

const char *kith_element_name(kith_element element)
{
    switch (element) {
#define KI_NAME(name, number, word, bytes) \
    case KITH_ELEMENT_##name: return word;
        KITH_ELEMENT_MAP(KI_NAME)
#undef KI_NAME
    case KITH_ELEMENT_AUTO: break;
    }
    return NULL;
}

size_t kith_element_bytes(kith_element element)
{
    switch (element) {
#define KI_BYTES(name, number, word, bytes) \
    case KITH_ELEMENT_##name: return bytes;
        KITH_ELEMENT_MAP(KI_BYTES)
#undef KI_BYTES
    case KITH_ELEMENT_AUTO: break;
    }
    return 0;
}

double ki_element_value(kith_element element, const void *in, size_t i)
{
    float half;
    switch (element) {
    case KITH_ELEMENT_F32: return (double)((const float *)in)[i];
    case KITH_ELEMENT_F64: return ((const double *)in)[i];
    case KITH_ELEMENT_U8: return ((const uint8_t *)in)[i];
    case KITH_ELEMENT_I8: return ((const int8_t *)in)[i];
    case KITH_ELEMENT_I32: return ((const int32_t *)in)[i];
    case KITH_ELEMENT_I64:
        return (double)((const int64_t *)in)[i]; /* rounded only where no target takes it */
    case KITH_ELEMENT_F16:
        ki_kernels_get()->f16_to_f32((const uint16_t *)in + i, 1, &half);
        return (double)half;
    case KITH_ELEMENT_AUTO: break;
    }
    return NAN;
}

/* Store a value; 0 when the type does not hold it. whole: it comes from an integer type, and stays exact. */
static int put(kith_element to, void *out, size_t i, double value, int whole)
{
    if (to == KITH_ELEMENT_F32 || to == KITH_ELEMENT_F16) {
        float narrow = (float)value;
        if (!isfinite(narrow) || (whole && fabs(value) > F32_WHOLE)) return 0;
        if (to == KITH_ELEMENT_F32) {
            ((float *)out)[i] = narrow;
            return 1;
        }
        uint16_t *half = (uint16_t *)out + i;
        ki_kernels_get()->f32_to_f16(&narrow, 1, half);
        return (*half & 0x7c00) != 0x7c00; /* not infinite */
    }
    double low = to == KITH_ELEMENT_U8 ? 0 : (double)INT32_MIN;
    double high = to == KITH_ELEMENT_U8 ? 255 : (double)INT32_MAX;
    if (!(value >= low && value <= high) || value != trunc(value)) return 0;
    if (to == KITH_ELEMENT_U8)
        ((uint8_t *)out)[i] = (uint8_t)value;
    else
        ((int32_t *)out)[i] = (int32_t)value;
    return 1;
}

static size_t first_not_finite(const float *x, size_t n)
{
    if (ki_kernels_get()->finite_f32(x, n)) return n;
    size_t i = 0;
    while (i < n && isfinite(x[i])) i++;
    return i;
}

size_t ki_elements_convert(kith_element from, const void *in, kith_element to, void *out, size_t n)
{
    const ki_kernels *kernels = ki_kernels_get();
    if (from == to && in != out) memcpy(out, in, n * kith_element_bytes(from));
    if (from == to) return to == KITH_ELEMENT_F32 ? first_not_finite(out, n) : n;
    if (to == KITH_ELEMENT_F32 && from == KITH_ELEMENT_F16) {
        kernels->f16_to_f32(in, n, out);
        return first_not_finite(out, n);
    }
    if (to == KITH_ELEMENT_F32 && from == KITH_ELEMENT_U8) {
        kernels->u8_to_f32(in, n, out);
        return n;
    }
    int whole = from != KITH_ELEMENT_F32 && from != KITH_ELEMENT_F16 && from != KITH_ELEMENT_F64;
    for (size_t i = 0; i < n; i++)
        if (!put(to, out, i, ki_element_value(from, in, i), whole)) return i;
    return n;
}
