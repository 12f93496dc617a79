/* palette.h - a picture's colours, quantised by k-means: vector quantisation one can see. */
#ifndef KITH_CLI_PALETTE_H
#define KITH_CLI_PALETTE_H

#include <kith/kmeans.h>

#define PALETTE_MAX 256 /* the number of a colour is a byte, as in GIF and PNG */

typedef struct palette {
    size_t n;                       /* colours in use: k, or fewer when the picture has fewer */
    uint8_t colour[PALETTE_MAX][3]; /* RGB, by falling share */
    size_t pixels[PALETTE_MAX];     /* how many pixels took it */
    double psnr; /* of the quantised picture, in dB over all three channels; INFINITY: equal */
} palette;

/* Choose k colours for rgb[pixels][3] and give each pixel its nearest.
 * In:       pixels 1..; k 1..PALETTE_MAX; seed: another one gives another, about as good, palette.
 * Out:      *result; number[pixels], the colour of each pixel; undefined on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_CANCELLED. */
kith_status palette_make(const uint8_t (*rgb)[3], size_t pixels, size_t k, uint64_t seed, const kith_run *run,
                         palette *result, uint8_t *number, kith_error *err);

#endif
