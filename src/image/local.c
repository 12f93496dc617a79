/* The parts of the classic descriptors; see local.h. */
#include "image/local.h"

#include <math.h>
#include <string.h>

#include <vl/dsift.h>
#include <vl/imopv.h>

#include "base/error.h"
#include "base/memory.h"
#include "image/vips.h"

/* All numbers from trials on Corel-1k and the copies (docs/quality.md); results move little around them. */
enum {
    AREA = 256 * 256, /* pixels that every picture is brought to */
    SHORTEST = 16,    /* sides, for strips */
    LONGEST = 1024,
    STEP = 8, /* of both grids */
    CELLS = 4 /* patches of 4 x 4 cells */
};
static const int gradient_cells[] = {4, 6, 8, 11}; /* sides of a cell, pixels */
static const int colour_cells[] = {4, 8};
#define N_GRADIENT_SIZES (sizeof gradient_cells / sizeof *gradient_cells)
#define N_COLOUR_SIZES (sizeof colour_cells / sizeof *colour_cells)

/* Patches whose mean gradient is below this, in grey levels, are flat: what they hold is noise. */
static const double flat_norm = 0.005;

/* SIFT is built on a picture smoothed to 1/6 of its cells; a camera's own blur counts for half a pixel. */
static double smoothing(int cell)
{
    return sqrt(fmax((double)cell * cell / 36 - 0.25, 0));
}

/* The first position of a grid of windows of `window` pixels, so that what is left over is the same on both
 * sides (which mirroring needs); the number of positions in *n. */
static int grid_start(int size, int window, int *n)
{
    *n = size < window ? 0 : (size - window) / STEP + 1;
    return size < window ? 0 : (size - window) % STEP / 2;
}

/* ---- gradients ---- */

/* A RootSIFT (Arandjelovic & Zisserman 2012: divided by its sum, square-rooted), folded. VLFeat orders a
 * descriptor by rows of cells, cells, 8 orientations; mirroring turns orientation o into 4 - o modulo 8. */
static void root_and_fold(const float *sift, float *out)
{
    float root[KI_GRADIENT_DIM], sum = 0;
    for (size_t i = 0; i < KI_GRADIENT_DIM; i++) sum += sift[i];
    float scale = sum > 0 ? 1 / sum : 0;
    for (size_t i = 0; i < KI_GRADIENT_DIM; i++) root[i] = sqrtf(sift[i] * scale);
    float *even = out, *odd = out + KI_GRADIENT_DIM / 2;
    for (size_t row = 0; row < CELLS; row++)
        for (size_t cell = 0; cell < CELLS / 2; cell++) {
            const float *left = root + (row * CELLS + cell) * 8;
            const float *right = root + (row * CELLS + CELLS - 1 - cell) * 8;
            for (size_t o = 0; o < 8; o++) {
                float a = left[o], b = right[(12 - o) % 8];
                *even++ = (a + b) * (float)M_SQRT1_2;
                *odd++ = fabsf(a - b) * (float)M_SQRT1_2;
            }
        }
}

/* The descriptors of one size of patch, appended to `local`. */
static void gradients_of_size(ki_local *local, const float *smoothed, int width, int height, int cell)
{
    /* VLFeat counts a window as its outermost bin centres plus one pixel. */
    int window = (CELLS - 1) * cell + 1, nx, ny;
    int left = grid_start(width, window, &nx), top = grid_start(height, window, &ny);
    if (nx == 0 || ny == 0) return;
    VlDsiftFilter *filter = vl_dsift_new_basic(width, height, STEP, cell);
    vl_dsift_set_flat_window(filter, 1); /* boxes for the Gaussian weights: five times as fast */
    vl_dsift_set_bounds(filter, left, top, width - 1, height - 1);
    vl_dsift_process(filter, smoothed);
    const float *sift = vl_dsift_get_descriptors(filter);
    const VlDsiftKeypoint *point = vl_dsift_get_keypoints(filter);
    for (int i = 0; i < vl_dsift_get_keypoint_num(filter); i++) {
        if (point[i].norm <= flat_norm) continue;
        root_and_fold(sift + (size_t)i * KI_GRADIENT_DIM,
                      local->gradients + local->n_gradients * KI_GRADIENT_DIM);
        local->heights[local->n_gradients++] = (float)(point[i].y / (height - 1));
    }
    vl_dsift_delete(filter);
}

static kith_status describe_gradients(ki_local *local, const kith_image *image, kith_error *err)
{
    size_t pixels = (size_t)image->width * image->height, most = 0;
    int width = (int)image->width, height = (int)image->height;
    for (size_t s = 0; s < N_GRADIENT_SIZES; s++) {
        int nx, ny, window = (CELLS - 1) * gradient_cells[s] + 1;
        grid_start(width, window, &nx);
        grid_start(height, window, &ny);
        most += (size_t)nx * (size_t)ny;
    }
    local->gradients = ki_alloc(local->allocator, most * KI_GRADIENT_DIM, sizeof(float));
    local->heights = ki_alloc(local->allocator, most, sizeof(float));
    float *grey = ki_alloc(local->allocator, 2 * pixels, sizeof(float));
    if (!local->gradients || !local->heights || !grey) {
        ki_free(local->allocator, grey);
        return ki_fail_nomem(err, most * KI_GRADIENT_DIM * sizeof(float));
    }
    for (size_t i = 0; i < pixels; i++) {
        const uint8_t *p = image->pixels + 3 * i;
        grey[i] = 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2]; /* ITU-R BT.601 luma */
    }
    for (size_t s = 0; s < N_GRADIENT_SIZES; s++) {
        double sigma = smoothing(gradient_cells[s]);
        vl_imsmooth_f(grey + pixels, image->width, grey, image->width, image->height, image->width, sigma,
                      sigma);
        gradients_of_size(local, grey + pixels, width, height, gradient_cells[s]);
    }
    ki_free(local->allocator, grey);
    return KITH_OK;
}

/* ---- colours ---- */

/* Sums over the rectangle from the corner to each pixel, of the three bands and their squares. Unsigned
 * arithmetic wraps around, and differences come out right all the same. */
typedef struct integral {
    uint32_t sum[3], square[3];
} integral;

static void integrate(const kith_image *image, integral *table)
{
    size_t stride = image->width + 1;
    memset(table, 0, stride * sizeof *table);
    for (size_t y = 0; y < image->height; y++) {
        const uint8_t *p = image->pixels + y * image->width * 3;
        const integral *above = table + y * stride + 1;
        integral *here = table + (y + 1) * stride + 1, row = {{0}, {0}};
        memset(here - 1, 0, sizeof *here);
        for (size_t x = 0; x < image->width; x++)
            for (size_t c = 0; c < 3; c++, p++) {
                row.sum[c] += *p;
                row.square[c] += (uint32_t)*p * *p;
                here[x].sum[c] = above[x].sum[c] + row.sum[c];
                here[x].square[c] = above[x].square[c] + row.square[c];
            }
    }
}

/* Mean and standard deviation, 0..1, of the three bands over one cell. */
static void cell_statistics(const integral *table, size_t stride, size_t x, size_t y, size_t side,
                            float out[6])
{
    const integral *a = table + y * stride + x, *b = a + side, *c = a + side * stride, *d = c + side;
    float scale = 1 / (float)(side * side);
    for (size_t band = 0; band < 3; band++) {
        float mean = (float)(d->sum[band] - b->sum[band] - c->sum[band] + a->sum[band]) * scale;
        float square = (float)(d->square[band] - b->square[band] - c->square[band] + a->square[band]) * scale;
        out[band] = mean / 255;
        out[3 + band] = sqrtf(fmaxf(square - mean * mean, 0)) / 255;
    }
}

/* One patch of 4 x 4 cells, folded. */
static void colour_patch(const integral *table, size_t stride, size_t x, size_t y, size_t side, float *out)
{
    float *even = out, *odd = out + KI_COLOUR_DIM / 2;
    for (size_t row = 0; row < CELLS; row++)
        for (size_t cell = 0; cell < CELLS / 2; cell++) {
            float left[6], right[6];
            cell_statistics(table, stride, x + cell * side, y + row * side, side, left);
            cell_statistics(table, stride, x + (CELLS - 1 - cell) * side, y + row * side, side, right);
            for (size_t i = 0; i < 6; i++) {
                *even++ = (left[i] + right[i]) * (float)M_SQRT1_2;
                *odd++ = fabsf(left[i] - right[i]) * (float)M_SQRT1_2;
            }
        }
}

static kith_status describe_colours(ki_local *local, const kith_image *image, kith_error *err)
{
    size_t stride = image->width + 1, entries = stride * (image->height + 1), most = 0;
    for (size_t s = 0; s < N_COLOUR_SIZES; s++) {
        int nx, ny;
        grid_start((int)image->width, CELLS * colour_cells[s], &nx);
        grid_start((int)image->height, CELLS * colour_cells[s], &ny);
        most += (size_t)nx * (size_t)ny;
    }
    local->colours = ki_alloc(local->allocator, most * KI_COLOUR_DIM, sizeof(float));
    integral *table = ki_alloc(local->allocator, entries, sizeof *table);
    if (!local->colours || !table) {
        ki_free(local->allocator, table);
        return ki_fail_nomem(err, entries * sizeof *table);
    }
    integrate(image, table);
    for (size_t s = 0; s < N_COLOUR_SIZES; s++) {
        int nx, ny, side = colour_cells[s];
        int left = grid_start((int)image->width, CELLS * side, &nx);
        int top = grid_start((int)image->height, CELLS * side, &ny);
        for (int y = 0; y < ny; y++)
            for (int x = 0; x < nx; x++)
                colour_patch(table, stride, (size_t)(left + x * STEP), (size_t)(top + y * STEP), (size_t)side,
                             local->colours + local->n_colours++ * KI_COLOUR_DIM);
    }
    ki_free(local->allocator, table);
    return KITH_OK;
}

/* ---- histograms ---- */

/* The bin of a colour: 18 of hue, 4 of saturation, 4 of value. Grey counts as hue 0. */
static size_t hsv_bin(const uint8_t *p)
{
    int r = p[0], g = p[1], b = p[2];
    int high = r > g ? (r > b ? r : b) : (g > b ? g : b), low = r < g ? (r < b ? r : b) : (g < b ? g : b);
    int span = high - low;
    size_t hue = 0, saturation = high ? (size_t)(4 * span / high) : 0, value = (size_t)high / 64;
    if (span) {
        /* In eighteenths of the circle: three from each primary colour to the next mixed one. */
        int turn = high == r ? 3 * (g - b) : high == g ? 3 * (b - r) + 6 * span : 3 * (r - g) + 12 * span;
        if (turn < 0) turn += 18 * span;
        hue = (size_t)(turn / span) % 18;
    }
    return (hue * 4 + (saturation > 3 ? 3 : saturation)) * 4 + value;
}

static void describe_histograms(ki_local *local, const kith_image *image)
{
    uint32_t width = image->width, height = image->height,
             counts[KI_HISTOGRAM_REGIONS][KI_HISTOGRAM_BINS] = {{0}};
    for (uint32_t y = 0; y < height; y++) {
        const uint8_t *p = image->pixels + (size_t)y * width * 3;
        uint32_t *third = counts[2 + (size_t)y * 3 / height];
        int central = y >= height / 4 && y < height - height / 4;
        for (uint32_t x = 0; x < width; x++, p += 3) {
            size_t bin = hsv_bin(p);
            third[bin]++;
            if (central && x >= width / 4 && x < width - width / 4) counts[1][bin]++;
        }
    }
    for (size_t region = 0; region < KI_HISTOGRAM_REGIONS; region++) {
        double total = 0;
        for (size_t bin = 0; bin < KI_HISTOGRAM_BINS; bin++) {
            if (region == 0) counts[0][bin] = counts[2][bin] + counts[3][bin] + counts[4][bin];
            total += counts[region][bin];
        }
        for (size_t bin = 0; bin < KI_HISTOGRAM_BINS; bin++)
            local->histogram[region * KI_HISTOGRAM_BINS + bin] =
                (float)sqrt(counts[region][bin] / (total * KI_HISTOGRAM_REGIONS));
    }
}

/* ---- the whole ---- */

/* The size that every picture is described at: AREA pixels in its own proportions, as far as strips allow. */
static void standard_size(const kith_image *image, uint32_t *width, uint32_t *height)
{
    double factor = sqrt((double)AREA / ((double)image->width * image->height));
    *width = (uint32_t)fmin(fmax(round(image->width * factor), SHORTEST), LONGEST);
    *height = (uint32_t)fmin(fmax(round(image->height * factor), SHORTEST), LONGEST);
}

kith_status ki_local_describe(const kith_image *image, const kith_allocator *allocator, ki_local *local,
                              kith_error *err)
{
    memset(local, 0, sizeof *local);
    local->allocator = allocator;
    if (!image->pixels || !image->width || !image->height)
        return ki_fail(err, KITH_INVALID, "the picture is empty");
    uint32_t width, height;
    kith_image resized = {0};
    standard_size(image, &width, &height);
    if (width != image->width || height != image->height) {
        KI_TRY(ki_image_resize(image, width, height, &resized, err));
        image = &resized;
    }
    kith_status status = describe_gradients(local, image, err);
    if (status == KITH_OK) status = describe_colours(local, image, err);
    if (status == KITH_OK) describe_histograms(local, image);
    kith_image_clear(&resized);
    if (status != KITH_OK) ki_local_clear(local);
    return status;
}

void ki_local_clear(ki_local *local)
{
    ki_free(local->allocator, local->gradients);
    ki_free(local->allocator, local->heights);
    ki_free(local->allocator, local->colours);
    local->gradients = local->heights = local->colours = NULL;
    local->n_gradients = local->n_colours = 0;
}
