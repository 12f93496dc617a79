/* Micro kernels of the tiled product, plain loops. */
#include "simd/levels.h"

#include <math.h>

#define MR 4

/* One panel against one row: value[16]. */
static void row_panel(const ki_tiles *t, size_t r, size_t panel, float value[KI_PANEL])
{
    const float *b = t->b + panel * t->b_stride;
    const float *start = t->start ? t->start + panel * KI_PANEL : t->c + r * t->ldc + panel * KI_PANEL;
    for (size_t i = 0; i < KI_PANEL; i++) value[i] = start[i];
    for (size_t d = 0; d < t->k; d++)
        for (size_t i = 0; i < KI_PANEL; i++) value[i] += t->a[d * MR + r] * b[d * KI_PANEL + i];
}

static void product_store(const ki_tiles *t)
{
    float value[KI_PANEL];
    for (size_t panel = 0; panel < t->panels; panel++)
        for (size_t r = 0; r < t->rows; r++) {
            row_panel(t, r, panel, value);
            for (size_t i = 0; i < KI_PANEL; i++) t->c[r * t->ldc + panel * KI_PANEL + i] = value[i];
        }
}

static void product_argmin(const ki_tiles *t, uint32_t first, float *best, uint32_t *index)
{
    float value[KI_PANEL];
    for (size_t panel = 0; panel < t->panels; panel++)
        for (size_t r = 0; r < t->rows; r++) {
            row_panel(t, r, panel, value);
            for (size_t i = 0; i < KI_PANEL; i++)
                if (value[i] < best[r]) {
                    best[r] = value[i];
                    index[r] = first + (uint32_t)(panel * KI_PANEL + i);
                }
        }
}

static void product_below(const ki_tiles *t, uint32_t first, const float *add, const float *limit,
                          ki_tile_visit visit, void *ctx)
{
    float value[KI_PANEL];
    for (size_t panel = 0; panel < t->panels; panel++)
        for (size_t r = 0; r < t->rows; r++) {
            row_panel(t, r, panel, value);
            uint32_t mask = 0;
            for (size_t i = 0; i < KI_PANEL; i++) {
                value[i] += add[r];
                mask |= (uint32_t)(value[i] <= limit[r]) << i;
            }
            if (mask) visit(ctx, r, first + (uint32_t)(panel * KI_PANEL), value, mask);
        }
}

static void product_row(const float *x, size_t k, const float *b, size_t b_stride, size_t panels,
                        const float *start, float *out)
{
    for (size_t panel = 0; panel < panels; panel++, b += b_stride, start += KI_PANEL, out += KI_PANEL) {
        for (size_t i = 0; i < KI_PANEL; i++) out[i] = start[i];
        for (size_t d = 0; d < k; d++)
            for (size_t i = 0; i < KI_PANEL; i++) out[i] += x[d] * b[d * KI_PANEL + i];
    }
}

static void product_small(const float *xt, size_t k, const float *b, size_t b_stride, size_t panels,
                          const float *start, float *best, uint32_t *index)
{
    for (size_t r = 0; r < KI_SMALL_ROWS; r++) {
        best[r] = INFINITY;
        index[r] = 0;
        for (size_t c = 0; c < panels * KI_PANEL; c++) {
            const float *column = b + c / KI_PANEL * b_stride + c % KI_PANEL;
            float value = start[c];
            for (size_t d = 0; d < k; d++) value += xt[d * KI_SMALL_ROWS + r] * column[d * KI_PANEL];
            if (value < best[r]) {
                best[r] = value;
                index[r] = (uint32_t)c;
            }
        }
    }
}

void ki_simd_product_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->product_mr = MR;
    table->product_store = product_store;
    table->product_argmin = product_argmin;
    table->product_below = product_below;
    table->product_row = product_row;
    table->product_small = product_small;
}
