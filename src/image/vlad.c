/* VLAD: the codebook and the aggregation; see vlad.h. */
#include "image/vlad.h"

#include <math.h>
#include <string.h>

#include <kith/kmeans.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/run.h"
#include "image/eigen.h"

enum { MAX_LOW = 64 };

static const float power = 0.3f;

size_t ki_codebook_floats(size_t dim, size_t low)
{
    return dim * low + low + low * KI_VLAD_WORDS + KI_VLAD_WORDS;
}

ki_codebook ki_codebook_over(const float *block, size_t dim, size_t low)
{
    ki_codebook book = {.dim = dim, .low = low, .projection = block};
    book.offset = book.projection + dim * low;
    book.words = book.offset + low;
    book.halves = book.words + low * KI_VLAD_WORDS;
    return book;
}

/* y[width] += x[n] m[n][width], width a multiple of 32. For 32 columns at a time the sums stay in registers, and as
 * each has its own, the loop vectorises without reordering any. */
static void multiply(const float *x, size_t n, const float *m, size_t width, float *y)
{
    for (size_t first = 0; first < width; first += 32) {
        float sum[32];
        memcpy(sum, y + first, sizeof sum);
        for (size_t d = 0; d < n; d++) {
            const float *row = m + d * width + first;
            float weight = x[d];
            for (size_t j = 0; j < 32; j++) sum[j] += weight * row[j];
        }
        memcpy(y + first, sum, sizeof sum);
    }
}

/* y[low] = projection' x - offset. */
static void project(const ki_codebook *book, const float *x, float *y)
{
    for (size_t j = 0; j < book->low; j++) y[j] = -book->offset[j];
    multiply(x, book->dim, book->projection, book->low, y);
}

/* The word nearest to y: the one with the largest y.c - c.c / 2; ties: the lower. */
static size_t nearest_word(const ki_codebook *book, const float *y)
{
    float score[KI_VLAD_WORDS];
    for (size_t k = 0; k < KI_VLAD_WORDS; k++) score[k] = -book->halves[k];
    multiply(y, book->low, book->words, KI_VLAD_WORDS, score);
    size_t best = 0;
    for (size_t k = 1; k < KI_VLAD_WORDS; k++)
        if (score[k] > score[best]) best = k;
    return best;
}

void ki_vlad(const ki_codebook *book, const float *x, size_t n, float weight, float *out)
{
    size_t low = book->low, size = low * KI_VLAD_WORDS;
    memset(out, 0, size * sizeof *out);
    for (size_t i = 0; i < n; i++) {
        float y[MAX_LOW], squares = 0;
        project(book, x + i * book->dim, y);
        size_t word = nearest_word(book, y);
        for (size_t d = 0; d < low; d++) {
            y[d] -= book->words[d * KI_VLAD_WORDS + word];
            squares += y[d] * y[d];
        }
        float scale = squares > 1e-12f ? 1 / sqrtf(squares) : 0;
        float *sum = out + word * low;
        for (size_t d = 0; d < low; d++) sum[d] += y[d] * scale;
    }
    double squares = 0;
    for (size_t i = 0; i < size; i++) {
        out[i] = copysignf(powf(fabsf(out[i]), power), out[i]);
        squares += (double)out[i] * out[i];
    }
    float scale = squares > 0 ? weight / (float)sqrt(squares) : 0;
    for (size_t i = 0; i < size; i++) out[i] *= scale;
}

/* ---- training ---- */

/* The mean of x[n][dim] and its covariance. */
static void moments(const float *x, size_t n, size_t dim, double *mean, double *covariance)
{
    memset(mean, 0, dim * sizeof *mean);
    memset(covariance, 0, dim * dim * sizeof *covariance);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dim; d++) mean[d] += x[i * dim + d];
    for (size_t d = 0; d < dim; d++) mean[d] /= (double)n;
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dim; d++) {
            double centred = x[i * dim + d] - mean[d], *row = covariance + d * dim;
            for (size_t e = d; e < dim; e++) row[e] += centred * (x[i * dim + e] - mean[e]);
        }
    for (size_t d = 0; d < dim; d++)
        for (size_t e = d; e < dim; e++)
            covariance[d * dim + e] = covariance[e * dim + d] = covariance[d * dim + e] / (double)n;
}

/* The projection to the `low` principal directions and the projected mean. */
static kith_status train_projection(const float *x, size_t n, size_t dim, size_t low,
                                    const kith_allocator *allocator, kith_pool *pool, float *block,
                                    kith_error *err)
{
    size_t doubles = dim + dim * dim + low + low * dim;
    double *mean = ki_alloc(allocator, doubles, sizeof *mean);
    if (!mean) return ki_fail_nomem(err, doubles * sizeof *mean);
    double *covariance = mean + dim, *values = covariance + dim * dim, *vectors = values + low;
    moments(x, n, dim, mean, covariance);
    kith_status status = ki_eigen_largest(covariance, dim, low, allocator, pool, values, vectors, err);
    for (size_t j = 0; status == KITH_OK && j < low; j++) {
        double along = 0;
        for (size_t d = 0; d < dim; d++) {
            block[d * low + j] = (float)vectors[j * dim + d];
            along += mean[d] * vectors[j * dim + d];
        }
        block[dim * low + j] = (float)along;
    }
    ki_free(allocator, mean);
    return status;
}

kith_status ki_codebook_train(const float *x, size_t n, size_t dim, size_t low, uint64_t seed,
                              const kith_allocator *allocator, const kith_run *run, float *block,
                              kith_error *err)
{
    KI_TRY(ki_run_check(run, err));
    memset(block, 0, ki_codebook_floats(dim, low) * sizeof *block);
    KI_TRY(train_projection(x, n, dim, low, allocator, ki_run_pool(run), block, err));

    ki_codebook book = ki_codebook_over(block, dim, low);
    float *projected = ki_alloc(allocator, n * low, sizeof *projected);
    float *centroids = ki_alloc(allocator, KI_VLAD_WORDS * low, sizeof *centroids);
    kith_status status = KITH_OK;
    if (!projected || !centroids)
        status = ki_fail_nomem(err, n * low * sizeof *projected);
    else {
        for (size_t i = 0; i < n; i++) project(&book, x + i * dim, projected + i * low);
        kith_kmeans_options options;
        kith_kmeans_options_init(&options);
        options.seed = seed;
        options.max_points_per_centroid = 0;
        options.allocator = allocator;
        status = kith_kmeans_train(projected, n, low, KI_VLAD_WORDS, &options, run, centroids, NULL, err);
    }
    float *words = block + dim * low + low, *halves = words + low * KI_VLAD_WORDS;
    for (size_t k = 0; status == KITH_OK && k < KI_VLAD_WORDS; k++) {
        float squares = 0;
        for (size_t d = 0; d < low; d++) {
            float c = centroids[k * low + d];
            words[d * KI_VLAD_WORDS + k] = c;
            squares += c * c;
        }
        halves[k] = squares / 2;
    }
    ki_free(allocator, projected);
    ki_free(allocator, centroids);
    return status;
}
