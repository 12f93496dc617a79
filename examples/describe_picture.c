/* describe_picture.c - pictures as vectors: what looks alike lies near. These are the features that need no training. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/features.h>
#include <kith/image.h>

enum { SIDE = 128 };

/* Stripes of a colour, `period` pixels apart. */
static kith_image stripes(uint8_t *pixels, int period, uint8_t red, uint8_t green, uint8_t blue)
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            uint8_t *p = pixels + 3 * (y * SIDE + x);
            int on = (x + y) / period % 2;
            p[0] = on ? red : 250;
            p[1] = on ? green : 250;
            p[2] = on ? blue : 250;
        }
    kith_image image;
    memset(&image, 0, sizeof image);
    image.width = image.height = SIDE;
    image.pixels = pixels;
    return image;
}

static float squared_distance(const float *a, const float *b, size_t dim)
{
    float sum = 0;
    for (size_t d = 0; d < dim; d++) sum += (a[d] - b[d]) * (a[d] - b[d]);
    return sum;
}

int main(void)
{
    static uint8_t pixels[3][SIDE * SIDE * 3];
    const kith_image pictures[3] = {
        stripes(pixels[0], 16, 200, 30, 30),
        stripes(pixels[1], 17, 190, 40, 30), /* nearly the same */
        stripes(pixels[2], 5, 20, 60, 200),
    };
    kith_features_options options;
    kith_features_options_init(&options);
    options.kind = KITH_FEATURES_PLAIN;
    kith_features *features = NULL;
    kith_error err;
    if (kith_features_create(&options, NULL, &features, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    size_t dim = kith_features_dim(features);
    float *vectors = (float *)calloc(3 * dim, sizeof *vectors);
    int failed = !vectors;
    for (int i = 0; i < 3 && !failed; i++)
        failed = kith_features_extract(features, &pictures[i], vectors + (size_t)i * dim, &err) != KITH_OK;
    if (!failed) {
        float alike = squared_distance(vectors, vectors + dim, dim);
        float other = squared_distance(vectors, vectors + 2 * dim, dim);
        printf("%s\nalike: %.3f, different: %.3f\n", kith_features_description(features), (double)alike,
               (double)other);
        failed = alike >= other;
    } else if (vectors) {
        fprintf(stderr, "%s\n", err.message);
    }
    free(vectors);
    kith_features_free(features);
    return failed;
}
