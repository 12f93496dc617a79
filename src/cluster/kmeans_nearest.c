/* The nearest centroid of many points, the step that k-means spends its time in.
 *
 *     |x - c|^2 = |x|^2 + (|c|^2 - 2 x.c)
 *
 * so the nearest centroid is the argmin of |c|^2 - 2 x.c: a matrix product with a bias. In float32 this form
 * loses digits when the points lie far from the origin compared to their spread (pixel values, say: all about
 * 1,000 with a spread of 1). Written around a point s in the middle of the centroids, with c' = c - s,
 *
 *     argmin |x - c|^2 = argmin (|c'|^2 + 2 s.c') - 2 x.c'
 *
 * where the product is as small as the spread allows and the bias is computed in float64 once per centroid.
 * The points need no copy. What is left of the rounding is judged by l2sq_f32 where it matters. */
#include "cluster/kmeans_internal.h"

#include <math.h>

#include "base/error.h"
#include "base/memory.h"

/* A grid for the mean of a component that varies by `spread` around it: s needs only be near the mean, and on a grid of
 * an eighth of the spread the differences of whole numbers (pixels, SIFT) stay whole, so that their products are exact
 * and equal distances come out equal. */
static double grid_of(double spread)
{
    return spread > 0 ? exp2(floor(log2(spread)) - 3) : 0;
}

void ki_nearest_form(const float *centroids, size_t k, size_t dim, double *middle, float *w, float *bias)
{
    double *spread = middle + dim;
    for (size_t d = 0; d < 2 * dim; d++) middle[d] = 0;
    for (size_t j = 0; j < k; j++)
        for (size_t d = 0; d < dim; d++) middle[d] += (double)centroids[j * dim + d];
    for (size_t d = 0; d < dim; d++) middle[d] /= (double)k;
    for (size_t j = 0; j < k; j++)
        for (size_t d = 0; d < dim; d++)
            spread[d] = fmax(spread[d], fabs((double)centroids[j * dim + d] - middle[d]));
    for (size_t d = 0; d < dim; d++) {
        double grid = grid_of(spread[d]);
        if (grid > 0) middle[d] = round(middle[d] / grid) * grid;
    }
    for (size_t j = 0; j < k; j++) {
        const float *c = centroids + j * dim;
        double sum = 0; /* |c'|^2 + 2 s.c' = (c + s).c' */
        for (size_t d = 0; d < dim; d++) {
            double shifted = (double)c[d] - middle[d];
            w[j * dim + d] = (float)(-2 * shifted);
            sum += ((double)c[d] + middle[d]) * shifted;
        }
        bias[j] = (float)sum;
    }
}

kith_status ki_nearest_init(ki_nearest *nearest, size_t dim, size_t k, const kith_allocator *allocator,
                            kith_error *err)
{
    *nearest = (ki_nearest){.allocator = allocator, .kernels = ki_kernels_get(), .dim = dim, .k = k};
    nearest->w = ki_alloc_zero(allocator, k * dim, sizeof *nearest->w);
    nearest->bias = ki_alloc_zero(allocator, k, sizeof *nearest->bias);
    nearest->middle = ki_alloc(allocator, 2 * dim, sizeof *nearest->middle);
    if (!nearest->w || !nearest->bias || !nearest->middle)
        return ki_fail_nomem(err, k * dim * sizeof *nearest->w);
    return ki_packed_create_affine(nearest->w, dim, k, dim, nearest->bias, allocator, &nearest->packed, err);
}

void ki_nearest_clear(ki_nearest *nearest)
{
    ki_packed_free(nearest->packed);
    ki_free(nearest->allocator, nearest->w);
    ki_free(nearest->allocator, nearest->bias);
    ki_free(nearest->allocator, nearest->middle);
    *nearest = (ki_nearest){0};
}

void ki_nearest_set(ki_nearest *nearest, const float *centroids)
{
    nearest->centroids = centroids;
    ki_nearest_form(centroids, nearest->k, nearest->dim, nearest->middle, nearest->w, nearest->bias);
    ki_packed_refill_affine(nearest->packed, nearest->w, nearest->dim, nearest->bias);
}

kith_status ki_nearest_find(const ki_nearest *nearest, const float *x, size_t n, uint32_t *which)
{
    return ki_product_argmin(NULL, x, nearest->dim, n, nearest->packed, which, NULL, NULL);
}

size_t ki_nearest_block(size_t dim, size_t k)
{
    /* About 2^28 multiply-adds, some milliseconds: short enough for a prompt cancel, long enough that handing
     * a block out costs nothing. */
    const size_t work = (size_t)1 << 28, low = 64, high = 1024;
    size_t each = k > work / dim ? work : k * dim;
    size_t rows = work / each;
    return rows < low ? low : rows > high ? high : rows;
}
