#include "math/screen.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "simd/kernels.h"

struct ki_screen {
    const ki_kernels *kernels;
    const kith_allocator *allocator;
    size_t m, dim, pairs, panels;
    float *mean;   /* [dim], the middle of each component's range */
    int8_t *b;     /* [panels][pairs][16][2] */
    float *norm2;  /* [panels * 16] |c' - mean|^2 */
    double step;   /* of the whole numbers of columns */
    double radius; /* the largest |c - c'| */
    double reach;  /* the largest |c - mean| */
    double length; /* the largest |c| */
};

/* The ranges of all components: their middles, and the largest half of one. */
static double find_middles(ki_screen *s, const float *y, size_t ldy)
{
    double half = 0;
    for (size_t d = 0; d < s->dim; d++) {
        float low = y[d], high = y[d];
        for (size_t c = 1; c < s->m; c++) {
            float value = y[c * ldy + d];
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
        s->mean[d] = low / 2 + high / 2;
        double up = (double)high - (double)s->mean[d], down = (double)s->mean[d] - (double)low;
        half = fmax(half, fmax(up, down));
    }
    return half;
}

/* Column c as whole numbers into its place. */
static void put_column(ki_screen *s, const float *y, size_t c)
{
    int8_t *b = s->b + c / KI_PANEL * s->pairs * 2 * KI_PANEL + c % KI_PANEL * 2;
    double norm2 = 0, error2 = 0, reach2 = 0, length2 = 0;
    for (size_t d = 0; d < s->dim; d++) {
        double value = (double)y[d] - (double)s->mean[d],
               whole = s->step > 0 ? nearbyint(value / s->step) : 0;
        whole = whole > 127 ? 127 : whole < -127 ? -127 : whole;
        b[d / 2 * 2 * KI_PANEL + d % 2] = (int8_t)whole;
        norm2 += whole * whole;
        error2 += (value - whole * s->step) * (value - whole * s->step);
        reach2 += value * value;
        length2 += (double)y[d] * (double)y[d];
    }
    s->norm2[c] = (float)(norm2 * s->step * s->step);
    s->radius = fmax(s->radius, sqrt(error2));
    s->reach = fmax(s->reach, sqrt(reach2));
    s->length = fmax(s->length, sqrt(length2));
}

kith_status ki_screen_create(const float *y, size_t ldy, size_t m, size_t dim,
                             const kith_allocator *allocator, ki_screen **out, kith_error *err)
{
    *out = NULL;
    ki_screen *s = ki_alloc_zero(allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->kernels = ki_kernels_get();
    s->allocator = allocator;
    s->m = m;
    s->dim = dim;
    s->pairs = (dim + 1) / 2;
    s->panels = (m + KI_PANEL - 1) / KI_PANEL;
    s->mean = ki_alloc(allocator, dim, sizeof *s->mean);
    s->b = ki_alloc_zero(allocator, s->panels * KI_PANEL, 2 * s->pairs);
    s->norm2 = ki_alloc_zero(allocator, s->panels * KI_PANEL, sizeof *s->norm2);
    if (!s->mean || !s->b || !s->norm2) {
        ki_screen_free(s);
        return ki_fail_nomem(err, s->panels * KI_PANEL * 2 * s->pairs);
    }
    s->step = find_middles(s, y, ldy) / 127;
    for (size_t c = 0; c < m; c++) put_column(s, y + c * ldy, c);
    *out = s;
    return KITH_OK;
}

void ki_screen_free(ki_screen *s)
{
    if (!s) return;
    ki_free(s->allocator, s->mean);
    ki_free(s->allocator, s->b);
    ki_free(s->allocator, s->norm2);
    ki_free(s->allocator, s);
}

size_t ki_screen_bytes(const ki_screen *s)
{
    return sizeof *s + s->dim * sizeof *s->mean + s->panels * KI_PANEL * (2 * s->pairs + sizeof *s->norm2);
}

/* Scratch holds the products of all columns, then the row as whole numbers. */
size_t ki_screen_scratch(const ki_screen *s)
{
    return s->panels * KI_PANEL * sizeof(int32_t) + 2 * s->pairs * sizeof(int16_t);
}

/* The largest whole number of a row: sums of dim products with numbers up to 127 stay below 2^31. */
static double most(size_t dim)
{
    double bound = 0x1p31 / (128 * ((double)dim + 1));
    return bound > 32767 ? 32767 : floor(bound);
}

ki_screen_error ki_screen_row(const ki_screen *s, const float *x, void *scratch, float *out)
{
    int32_t *products = scratch;
    int16_t *q = (int16_t *)(void *)(products + s->panels * KI_PANEL);
    float widest = 0;
    for (size_t d = 0; d < s->dim; d++) {
        float size = fabsf(x[d] - s->mean[d]);
        widest = size > widest ? size : widest;
    }
    if (!isfinite(widest)) { /* nothing can be said: every column may be near, and is measured */
        memset(out, 0, s->m * sizeof *out);
        return (ki_screen_error){INFINITY, INFINITY};
    }
    float step = (float)(widest / most(s->dim)), inverse = step > 0 ? 1 / step : 0;
    if (!isfinite(inverse)) inverse = step = 0; /* x is the mean but for a trifle, which is all error then */
    float error2 = 0, norm2 = 0, reach2 = 0;
    q[2 * s->pairs - 1] = 0;
    for (size_t d = 0; d < s->dim; d++) {
        float value = x[d] - s->mean[d], whole = (float)lrintf(value * inverse);
        float kept = whole * step, rest = value - kept;
        q[d] = (int16_t)whole;
        error2 += rest * rest;
        norm2 += kept * kept;
        reach2 += value * value;
    }
    s->kernels->panel_dot_s8(q, s->pairs, s->b, s->panels, products);
    float scale = (float)(-2 * (double)step * s->step);
    for (size_t c = 0; c < s->m; c++) out[c] = norm2 + s->norm2[c] + scale * (float)products[c];
    double reach = 1.01 * (sqrt((double)reach2) + s->reach + s->radius);
    double length = 1.01 * (sqrt((double)s->kernels->norm2_f32(x, s->dim)) + s->length);
    double longest = fmax(reach, length),
           terms = (double)s->dim + 8; /* of each sum; 2^-126: what underflow loses */
    return (ki_screen_error){.distance = 1.01 * (sqrt((double)error2) + s->radius),
                             .squared = longest < 0x1p61
                                            ? 4 * terms * (0x1p-24 * longest * longest + 0x1p-126)
                                            : INFINITY}; /* beyond, sums may overflow */
}

float ki_screen_limit(ki_screen_error error, float worst)
{
    /* That of `worst` is truly at most sqrt(worst + s) + e away, and its exact value at most the square of that and s
     * more; a column whose exact value is no larger has a rough one within the same errors once more. */
    double s = error.squared, near = sqrt(fmax(worst, 0) + s) + error.distance;
    double far = sqrt(near * near + 2 * s) + error.distance;
    double limit = (far * far + s) * (1 + 0x1p-22);
    return isfinite(limit) ? (float)limit : INFINITY;
}
