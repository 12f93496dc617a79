/* A palette by Lloyd's k-means over the pixels, as points of RGB space: least squared error, which is what PSNR
 * measures. The training sees a sample; every pixel then takes the nearest colour, rounded to bytes first, so that the
 * PSNR is that of the picture as it will be written. */
#include "palette.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE 65536  /* pixels to train on at least: 256 a colour for the largest palette */
#define CHUNK 65536   /* pixels that are floats at a time */
#define ITERATIONS 60 /* of k-means: three components converge in some tens */

static kith_status fail(kith_error *err, kith_status code, const char *message)
{
    if (err) {
        *err = (kith_error){.code = code};
        snprintf(err->message, sizeof err->message, "%s", message);
    }
    return code;
}

static void to_floats(const uint8_t (*rgb)[3], size_t n, float *out)
{
    for (size_t i = 0; i < 3 * n; i++) out[i] = (float)rgb[i / 3][i % 3];
}

/* Every pixel-th pixel, so that the sample is spread over the picture. */
static kith_status train(const uint8_t (*rgb)[3], size_t pixels, size_t k, uint64_t seed, const kith_run *run,
                         float *colours, kith_error *err)
{
    size_t step = pixels / (4 * SAMPLE) + 1, n = (pixels + step - 1) / step;
    float *points = malloc(3 * n * sizeof *points);
    if (!points) return fail(err, KITH_NOMEM, "no memory for the sample of pixels");
    for (size_t i = 0; i < n; i++) to_floats(rgb + i * step, 1, points + 3 * i);
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.init = KITH_KMEANS_PLUSPLUS;
    options.max_iterations = ITERATIONS;
    options.max_points_per_centroid = SAMPLE / k;
    options.seed = seed;
    kith_status status = kith_kmeans_train(points, n, 3, k, &options, run, colours, NULL, err);
    free(points);
    return status;
}

static kith_status assign(const uint8_t (*rgb)[3], size_t pixels, const float *colours, size_t k,
                          const kith_run *run, uint8_t *number, kith_error *err)
{
    float *points = malloc(3 * CHUNK * sizeof *points);
    uint32_t *nearest = malloc(CHUNK * sizeof *nearest);
    kith_status status = KITH_OK;
    if (!points || !nearest) status = fail(err, KITH_NOMEM, "no memory for a chunk of pixels");
    for (size_t first = 0; first < pixels && status == KITH_OK; first += CHUNK) {
        size_t n = pixels - first < CHUNK ? pixels - first : CHUNK;
        to_floats(rgb + first, n, points);
        status = kith_kmeans_assign(points, n, 3, colours, k, NULL, run, nearest, NULL, err);
        for (size_t i = 0; i < n && status == KITH_OK; i++) number[first + i] = (uint8_t)nearest[i];
    }
    free(points);
    free(nearest);
    return status;
}

typedef struct entry {
    size_t pixels;
    size_t old; /* its number before sorting */
} entry;

static int by_share(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->pixels != y->pixels) return x->pixels > y->pixels ? -1 : 1;
    return x->old < y->old ? -1 : x->old > y->old;
}

/* Number the colours by falling share and drop those that nobody took. */
static void sort_colours(const uint8_t (*colour)[3], size_t k, uint8_t *number, size_t pixels,
                         palette *result)
{
    entry entries[PALETTE_MAX] = {0};
    uint8_t renamed[PALETTE_MAX] = {0};
    for (size_t j = 0; j < k; j++) entries[j].old = j;
    for (size_t i = 0; i < pixels; i++) entries[number[i]].pixels++;
    qsort(entries, k, sizeof *entries, by_share);
    for (size_t j = 0; j < k && entries[j].pixels > 0; j++) {
        memcpy(result->colour[j], colour[entries[j].old], 3);
        result->pixels[j] = entries[j].pixels;
        renamed[entries[j].old] = (uint8_t)j;
        result->n = j + 1;
    }
    for (size_t i = 0; i < pixels; i++) number[i] = renamed[number[i]];
}

static double psnr_of(const uint8_t (*rgb)[3], size_t pixels, const palette *p, const uint8_t *number)
{
    uint64_t error = 0;
    for (size_t i = 0; i < pixels; i++)
        for (size_t d = 0; d < 3; d++) {
            int difference = rgb[i][d] - p->colour[number[i]][d];
            error += (uint64_t)(difference * difference);
        }
    if (error == 0) return INFINITY;
    return 10 * log10(255.0 * 255.0 * 3 * (double)pixels / (double)error);
}

kith_status palette_make(const uint8_t (*rgb)[3], size_t pixels, size_t k, uint64_t seed, const kith_run *run,
                         palette *result, uint8_t *number, kith_error *err)
{
    float colours[PALETTE_MAX][3];
    uint8_t rounded[PALETTE_MAX][3];
    if (k == 0 || k > PALETTE_MAX || pixels == 0)
        return fail(err, KITH_INVALID, "a palette takes 1..256 colours of at least one pixel");
    if (k > pixels) k = pixels;
    *result = (palette){0};
    kith_status status = train(rgb, pixels, k, seed, run, colours[0], err);
    if (status != KITH_OK) return status;
    for (size_t j = 0; j < k; j++)
        for (size_t d = 0; d < 3; d++) {
            rounded[j][d] = (uint8_t)lrintf(fminf(fmaxf(colours[j][d], 0), 255));
            colours[j][d] = (float)rounded[j][d];
        }
    status = assign(rgb, pixels, colours[0], k, run, number, err);
    if (status != KITH_OK) return status;
    sort_colours((const uint8_t(*)[3])rounded, k, number, pixels, result);
    result->psnr = psnr_of(rgb, pixels, result, number);
    return KITH_OK;
}
