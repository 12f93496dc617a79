/* Rows and columns in 16 bits, the reference. */
#include "simd/levels.h"

/* The value of row r at column c. */
static int32_t value_of(const int16_t *rows, size_t r, size_t pairs, const int16_t *columns,
                        const int32_t *start, size_t c)
{
    const int16_t *column = columns + (c / KI_GRID_GROUP * pairs * KI_GRID_GROUP + c % KI_GRID_GROUP) * 2;
    int32_t sum = start[c];
    for (size_t p = 0; p < pairs; p++)
        for (size_t t = 0; t < 2; t++)
            sum += rows[(p * KI_SMALL_ROWS + r) * 2 + t] * column[p * KI_GRID_GROUP * 2 + t];
    return sum;
}

static uint32_t distance2_of(int32_t squares, int32_t value)
{
    return (uint32_t)squares + 2 * ((uint32_t)value - (uint32_t)KI_GRID_OFFSET);
}

static void grid_groups(const int16_t *rows, size_t pairs, const int16_t *columns, const int32_t *start,
                        size_t groups, const int32_t *squares, const float *error, float radius, float slack,
                        uint32_t *group)
{
    for (size_t r = 0; r < KI_SMALL_ROWS; r++) {
        int32_t lowest = KI_GRID_FAR, second = KI_GRID_FAR;
        uint32_t which = 0;
        for (size_t g = 0; g < groups; g++) {
            int32_t least = KI_GRID_FAR;
            for (size_t c = 0; c < KI_GRID_GROUP; c++) {
                int32_t value = value_of(rows, r, pairs, columns, start, g * KI_GRID_GROUP + c);
                least = value < least ? value : least;
            }
            int32_t other = least < lowest ? lowest : least;
            if (least < lowest) lowest = least, which = (uint32_t)g;
            second = other < second ? other : second;
        }
        float near = sqrtf((float)distance2_of(squares[r], lowest));
        uint32_t far2 = distance2_of(squares[r], second);
        float far = sqrtf((float)(far2 > 0 ? far2 - 1 : 0));
        group[r] = far - near > error[r] + radius + (near + far) * slack ? which : KI_GRID_UNSURE;
    }
}

static void grid_nearest(const float *x, size_t n, size_t dim, const float *columns, size_t panels,
                         const uint32_t *group, uint32_t *index, float *dist)
{
    for (size_t i = 0; i < n; i++) {
        int sure = group[i] != KI_GRID_UNSURE;
        size_t c = sure ? group[i] * KI_GRID_GROUP : 0, end = sure ? c + KI_GRID_GROUP : panels * KI_PANEL;
        dist[i] = INFINITY;
        index[i] = (uint32_t)c;
        for (; c < end; c++) {
            float sum = 0;
            for (size_t d = 0; d < dim; d++) {
                float rest = x[i * dim + d] - columns[(c / KI_PANEL * dim + d) * KI_PANEL + c % KI_PANEL];
                sum += rest * rest;
            }
            if (sum < dist[i]) dist[i] = sum, index[i] = (uint32_t)c;
        }
    }
}

void ki_simd_grid_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->grid_groups = grid_groups;
    table->grid_nearest = grid_nearest;
}
