/* spectral.c - spectral hashing. Y. Weiss, A. Torralba, R. Fergus, "Spectral hashing", NIPS 2008, section 3.
 *
 * The best balanced and uncorrelated bits are eigenvectors of a graph Laplacian; for rows spread uniformly over a box they
 * are known in closed form: along side j of length r_j the functions sin(pi/2 + m pi p / r_j), m = 1, 2, ..., the
 * smoothest first, which are those of the least m / r_j. So: project onto the principal components, take the ranges
 * of the rows as the box, and give each of the `bits` smallest m / r_j a bit: the sign of its sine. A wide component
 * gets several bits, of higher and higher frequency, a narrow one none. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/pca.h>

#include "base/error.h"
#include "base/memory.h"
#include "hash/hasher.h"

#define BLOCK 1024 /* rows projected at a time */

/* A function that may become a bit. */
typedef struct mode {
    double frequency; /* m / r */
    size_t component;
} mode;

static int by_frequency(const void *a, const void *b)
{
    const mode *x = a, *y = b;
    if (x->frequency != y->frequency) return x->frequency < y->frequency ? -1 : 1;
    return (x->component > y->component) - (x->component < y->component);
}

/* low[n_components] and high: the box of the projections. p[BLOCK][n_components] is scratch. */
static kith_status measure_box(const kith_pca *pca, const float *x, size_t n, const kith_run *run, float *p,
                               float *low, float *high, kith_error *err)
{
    size_t dim = kith_pca_dim(pca), components = kith_pca_dim_out(pca);
    for (size_t j = 0; j < components; j++) {
        low[j] = INFINITY;
        high[j] = -INFINITY;
    }
    for (size_t first = 0; first < n; first += BLOCK) {
        size_t count = n - first < BLOCK ? n - first : BLOCK;
        KI_TRY(kith_pca_apply(pca, x + first * dim, count, run ? run->pool : NULL, p, err));
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j < components; j++) {
                float value = p[i * components + j];
                if (value < low[j]) low[j] = value;
                if (value > high[j]) high[j] = value;
            }
    }
    return KITH_OK;
}

/* The `bits` lowest modes of the box, into the hasher. modes[components * bits] is scratch. */
static void choose_modes(kith_hasher *h, const kith_pca *pca, const float *low, const float *high,
                         mode *modes)
{
    size_t components = kith_pca_dim_out(pca), n = 0;
    double widest = 0;
    for (size_t j = 0; j < components; j++)
        widest = (double)high[j] - low[j] > widest ? (double)high[j] - low[j] : widest;
    if (!(widest > 0)) widest = 1; /* all rows are equal */
    for (size_t j = 0; j < components; j++) {
        /* a component that is narrower than a millionth of the widest holds rounding noise */
        double range = (double)high[j] - low[j] > 1e-6 * widest ? (double)high[j] - low[j] : 1e-6 * widest;
        for (size_t m = 1; m <= h->bits; m++) modes[n++] = (mode){(double)m / range, j};
    }
    qsort(modes, n, sizeof *modes, by_frequency);
    for (size_t k = 0; k < h->bits; k++) {
        size_t j = modes[k].component, seen = 0;
        memcpy(h->w + k * h->dim, kith_pca_components(pca) + j * h->dim, h->dim * sizeof *h->w);
        h->frequency[k] = (float)modes[k].frequency;
        h->low[k] = low[j];
        for (size_t i = 0; i < k; i++) seen += modes[i].component == j;
        h->scale[k] = seen == 0; /* for decoding: the first along its component */
    }
}

kith_status ki_learn_spectral(kith_hasher *h, const float *x, size_t n, const kith_run *run, kith_error *err)
{
    kith_pca *pca;
    size_t components = h->bits < h->dim ? h->bits : h->dim;
    KI_TRY(kith_pca_train(x, n, h->dim, components, 0, h->allocator, run, &pca, err));
    memcpy(h->mean, kith_pca_mean(pca), h->dim * sizeof *h->mean);
    float *box = ki_alloc(h->allocator, components, 2 * sizeof *box);
    float *p = ki_alloc(h->allocator, components, BLOCK * sizeof *p);
    mode *modes = ki_alloc(h->allocator, components * h->bits, sizeof *modes);
    kith_status status = KITH_OK;
    if (!box || !p || !modes)
        status = ki_fail_nomem(err, components * (h->bits * sizeof *modes + BLOCK * sizeof *p));
    if (status == KITH_OK) status = measure_box(pca, x, n, run, p, box, box + components, err);
    if (status == KITH_OK) choose_modes(h, pca, box, box + components, modes);
    ki_free(h->allocator, box);
    ki_free(h->allocator, p);
    ki_free(h->allocator, modes);
    kith_pca_free(pca);
    return status;
}
