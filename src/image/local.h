/* local.h - what the classic descriptors see in one picture, before anything is learnt.
 *
 * Every picture is first brought to the same number of pixels, so that a copy at another size is described
 * alike. Then three sorts of parts are taken, all blind to mirroring:
 *
 *   gradients  dense SIFT (VLFeat) on a grid, at four sizes, as RootSIFT, folded
 *   colours    mean and deviation of red, green, blue in the 4 x 4 cells of patches on a grid, folded
 *   histograms hue x saturation x value of five regions of the picture, square-rooted
 *
 * Folding: let m(d) be the descriptor of the mirrored patch, a permutation of d. (d + m(d), |d - m(d)|) is the
 * same for a patch and for its mirror image, has as many numbers as d (each half repeats itself, so half of
 * each is kept), and loses only the sign of the odd part, where describing the picture twice would take
 * twice the time. On Corel-1k it is better than either (docs/quality.md). */
#ifndef KI_IMAGE_LOCAL_H
#define KI_IMAGE_LOCAL_H

#include <kith/image.h>

enum {
    KI_GRADIENT_DIM = 128,
    KI_COLOUR_DIM = 96,
    KI_HISTOGRAM_BINS = 18 * 4 * 4,
    KI_HISTOGRAM_REGIONS = 5, /* the whole, the centre, top, middle and bottom thirds */
    KI_HISTOGRAM_DIM = KI_HISTOGRAM_BINS * KI_HISTOGRAM_REGIONS
};

typedef struct ki_local {
    size_t n_gradients, n_colours;
    float *gradients; /* [n_gradients][KI_GRADIENT_DIM], each of length 1 */
    float *heights;   /* [n_gradients]: where the patch's centre is, 0 the top edge, 1 the bottom */
    float *colours;   /* [n_colours][KI_COLOUR_DIM], 0..sqrt(2) */
    float histogram[KI_HISTOGRAM_DIM]; /* of length 1 */
    const kith_allocator *allocator;
} ki_local;

/* Describe a picture. *local is cleared on failure. Flat patches have no gradient descriptor, and a picture too
 * small for any patch has none of either sort. */
kith_status ki_local_describe(const kith_image *image, const kith_allocator *allocator, ki_local *local,
                              kith_error *err);
void ki_local_clear(ki_local *local);

#endif
