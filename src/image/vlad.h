/* vlad.h - many local descriptors as one vector.
 *
 * VLAD (H. Jegou, M. Douze, C. Schmid, P. Perez, "Aggregating local descriptors into a compact image
 * representation", CVPR 2010): each descriptor is given to its nearest word of a codebook, and the differences
 * to the word are summed, word by word. With three refinements: the descriptors are first projected to their
 * principal directions; each difference is scaled to length 1 before it is summed, so that no descriptor counts
 * more than another (J. Delhumeau et al., "Revisiting the VLAD image representation", ACM MM 2013); and each
 * component x of the sum becomes sign(x) |x|^0.3, so that what occurs often does not drown the rest (their
 * power law, with their usual 0.2 .. 0.5). */
#ifndef KI_IMAGE_VLAD_H
#define KI_IMAGE_VLAD_H

#include <kith/run.h>

enum { KI_VLAD_WORDS = 64 };

/* A codebook over descriptors of `dim` components, projected to `low` of them. One block of floats, so that it
 * is saved and loaded in one piece: see ki_codebook_floats. */
typedef struct ki_codebook {
    size_t dim, low;
    const float *projection; /* [dim][low], principal directions in its columns */
    const float *offset;     /* [low], the projected mean, to be subtracted */
    const float *words;      /* [low][KI_VLAD_WORDS]: the centroids in its columns */
    const float *halves;     /* [KI_VLAD_WORDS], half of each centroid's squared length */
} ki_codebook;

/* The number of floats behind a codebook, and the codebook over such a block. */
size_t ki_codebook_floats(size_t dim, size_t low);
ki_codebook ki_codebook_over(const float *block, size_t dim, size_t low);

/* Learn a codebook from x[n][dim], n >= KI_VLAD_WORDS; fills block[ki_codebook_floats(dim, low)]. */
kith_status ki_codebook_train(const float *x, size_t n, size_t dim, size_t low, uint64_t seed,
                              const kith_allocator *allocator, const kith_run *run, float *block,
                              kith_error *err);

/* The VLAD of x[n][dim], times `weight`, into out[low * KI_VLAD_WORDS]; its length is `weight`, or 0 when n is. */
void ki_vlad(const ki_codebook *codebook, const float *x, size_t n, float weight, float *out);

#endif
