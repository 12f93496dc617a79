/* The 64-bit perceptual hash described in kith/image.h. */
#include <kith/image.h>

#include <math.h>
#include <string.h>

#include "base/error.h"

enum { CELLS = 32, BAND = 8 };

/* Sum of weight[x] * luma over the columns of one row that a cell spans: cells of fractional width, so that
 * pictures of any size, even smaller than 32 pixels, are averaged without a jump. */
static double row_sum(const uint8_t *row, double from, double to)
{
    double sum = 0;
    for (size_t x = (size_t)from; (double)x < to; x++) {
        double share = fmin(to, (double)x + 1) - fmax(from, (double)x);
        const uint8_t *p = row + 3 * x;
        sum += share * (0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]); /* ITU-R BT.601 luma */
    }
    return sum;
}

/* The mean luma of 32 x 32 cells, less that of the first one, in 1/64 of a grey level: whole numbers, so that
 * a picture of one colour gives zeros and not rounding noise. */
static void average_cells(const kith_image *image, double cells[CELLS][CELLS])
{
    double step_x = (double)image->width / CELLS, step_y = (double)image->height / CELLS;
    for (size_t cy = 0; cy < CELLS; cy++) {
        double sums[CELLS] = {0}, top = (double)cy * step_y,
               bottom = fmin((double)cy * step_y + step_y, image->height);
        for (size_t y = (size_t)top; (double)y < bottom; y++) {
            double share = fmin(bottom, (double)y + 1) - fmax(top, (double)y);
            const uint8_t *row = image->pixels + y * image->width * 3;
            for (size_t cx = 0; cx < CELLS; cx++)
                sums[cx] += share * row_sum(row, (double)cx * step_x,
                                            fmin((double)cx * step_x + step_x, image->width));
        }
        for (size_t cx = 0; cx < CELLS; cx++) cells[cy][cx] = round(64 * sums[cx] / (step_x * step_y));
    }
    double first = cells[0][0];
    for (size_t cy = 0; cy < CELLS; cy++)
        for (size_t cx = 0; cx < CELLS; cx++) cells[cy][cx] -= first;
}

/* Rows and columns 1..8 of the two-dimensional DCT-II, row by row. */
static void low_frequencies(double cells[CELLS][CELLS], double band[BAND * BAND])
{
    double basis[BAND][CELLS], half[BAND][CELLS];
    for (size_t u = 0; u < BAND; u++)
        for (size_t x = 0; x < CELLS; x++)
            basis[u][x] = cos(M_PI * (double)(u + 1) * (2 * (double)x + 1) / (2 * CELLS));
    for (size_t v = 0; v < BAND; v++)
        for (size_t x = 0; x < CELLS; x++) {
            half[v][x] = 0;
            for (size_t y = 0; y < CELLS; y++) half[v][x] += basis[v][y] * cells[y][x];
        }
    for (size_t v = 0; v < BAND; v++)
        for (size_t u = 0; u < BAND; u++) {
            double sum = 0;
            for (size_t x = 0; x < CELLS; x++) sum += basis[u][x] * half[v][x];
            band[v * BAND + u] = sum;
        }
}

/* The mean of the two middle ones of 64 values. */
static double median(const double values[BAND * BAND])
{
    double sorted[BAND * BAND];
    for (size_t i = 0; i < BAND * BAND; i++) {
        size_t at = i;
        for (; at > 0 && sorted[at - 1] > values[i]; at--) sorted[at] = sorted[at - 1];
        sorted[at] = values[i];
    }
    return (sorted[BAND * BAND / 2 - 1] + sorted[BAND * BAND / 2]) / 2;
}

kith_status kith_image_phash(const kith_image *image, uint64_t *hash, kith_error *err)
{
    *hash = 0;
    if (!image->pixels || !image->width || !image->height)
        return ki_fail(err, KITH_INVALID, "the picture is empty");
    double cells[CELLS][CELLS], band[BAND * BAND];
    average_cells(image, cells);
    low_frequencies(cells, band);
    double middle = median(band);
    for (size_t i = 0; i < BAND * BAND; i++) *hash = *hash << 1 | (band[i] > middle);
    return KITH_OK;
}
