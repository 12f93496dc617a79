/* pcah.c - PCA hashing: the signs of the principal components. J. Wang, S. Kumar, S.-F. Chang, "Semi-supervised hashing for
 * scalable image retrieval", CVPR 2010, without the labels: each bit splits the rows along a direction of large variance,
 * and the bits are uncorrelated. The components of small variance get a bit each as the large ones do, which is
 * what ITQ mends. */
#include <math.h>
#include <string.h>

#include <kith/pca.h>

#include "hash/hasher.h"

/* Variances below this part of the largest are rounding noise, which is not to be blown up. */
#define WHITEN_FLOOR 1e-6

kith_status ki_learn_pcah(kith_hasher *h, const float *x, size_t n, double whitening, const kith_run *run,
                          kith_error *err)
{
    kith_pca *pca;
    kith_status status = kith_pca_train(x, n, h->dim, h->bits, 0, h->allocator, run, &pca, err);
    if (status != KITH_OK) return status;
    memcpy(h->mean, kith_pca_mean(pca), h->dim * sizeof *h->mean);
    memcpy(h->w, kith_pca_components(pca), h->bits * h->dim * sizeof *h->w);
    const float *variances = kith_pca_variances(pca);
    double floor = WHITEN_FLOOR * (double)variances[0];
    for (size_t k = 0; k < h->bits && whitening > 0 && floor > 0; k++) {
        double variance = (double)variances[k] > floor ? (double)variances[k] : floor;
        h->kernels->scale_f32(h->w + k * h->dim, (float)pow(variance, -whitening / 2), h->dim);
    }
    kith_pca_free(pca);
    return KITH_OK;
}
