/* hasher.c - learned hashes: what the methods share. The learners are in pcah.c, itq.c and spectral.c. */
#include "hash/hasher.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/rng.h"

#define ENCODE_BLOCK 1024 /* rows whose projections are kept at a time */
#define MEASURE_ROWS 4096 /* rows that the scales are measured on */

/* ---- Making ---- */

kith_status ki_hasher_create(size_t dim, size_t bits, kith_hash_method method,
                             const kith_allocator *allocator, kith_hasher **out, kith_error *err)
{
    *out = NULL;
    kith_hasher *h = ki_alloc_zero(allocator, 1, sizeof *h);
    if (!h) return ki_fail_nomem(err, sizeof *h);
    h->allocator = allocator;
    h->kernels = ki_kernels_get();
    h->method = method;
    h->dim = dim;
    h->bits = bits;
    h->mean = ki_alloc_zero(allocator, dim, sizeof *h->mean);
    h->w = ki_alloc_zero(allocator, bits, dim * sizeof *h->w);
    h->frequency = ki_alloc_zero(allocator, bits, sizeof *h->frequency);
    h->low = ki_alloc_zero(allocator, bits, sizeof *h->low);
    h->scale = ki_alloc_zero(allocator, bits, sizeof *h->scale);
    h->bias = ki_alloc_zero(allocator, bits, sizeof *h->bias);
    if (!h->mean || !h->w || !h->frequency || !h->low || !h->scale || !h->bias) {
        kith_hasher_free(h);
        return ki_fail_nomem(err, bits * dim * sizeof *h->w);
    }
    *out = h;
    return KITH_OK;
}

void kith_hasher_free(kith_hasher *h)
{
    if (!h) return;
    ki_packed_free(h->forward);
    ki_free(h->allocator, h->mean);
    ki_free(h->allocator, h->w);
    ki_free(h->allocator, h->frequency);
    ki_free(h->allocator, h->low);
    ki_free(h->allocator, h->scale);
    ki_free(h->allocator, h->bias);
    ki_free(h->allocator, h);
}

kith_status ki_hasher_ready(kith_hasher *h, kith_error *err)
{
    for (size_t k = 0; k < h->bits; k++) {
        double along = 0;
        for (size_t d = 0; d < h->dim; d++) along += (double)h->w[k * h->dim + d] * (double)h->mean[d];
        h->bias[k] = (float)-along;
    }
    return ki_packed_create_affine(h->w, h->dim, h->bits, h->dim, h->bias, h->allocator, &h->forward, err);
}

size_t kith_hasher_dim(const kith_hasher *h)
{
    return h->dim;
}

size_t kith_hasher_bits(const kith_hasher *h)
{
    return h->bits;
}

kith_hash_method kith_hasher_method(const kith_hasher *h)
{
    return h->method;
}

/* ---- Codes ---- */

/* Whether bit k is set for a projection p. The sign of the cosine is that of where p lies in its period. */
static int bit_of(const kith_hasher *h, size_t k, float p)
{
    if (h->frequency[k] == 0) return p > 0;
    float turns = ((p - h->low[k]) * h->frequency[k] + 0.5f) * 0.5f;
    return turns - floorf(turns) < 0.5f;
}

static void pack(const kith_hasher *h, const float *p, uint8_t *code)
{
    memset(code, 0, kith_bit_bytes(h->bits));
    for (size_t k = 0; k < h->bits; k++) code[k / 8] |= (uint8_t)(bit_of(h, k, p[k]) << k % 8);
}

void ki_hasher_encode_row(const kith_hasher *h, const float *x, float *projection, uint8_t *code)
{
    ki_product_row(h->forward, x, projection);
    pack(h, projection, code);
}

kith_status kith_hasher_encode(const kith_hasher *h, const float *x, size_t n, kith_pool *pool,
                               uint8_t *codes, kith_error *err)
{
    if (!h || (n > 0 && (!x || !codes)))
        return ki_fail(err, KITH_INVALID, "%s is NULL", !h ? "hasher" : !x ? "x" : "codes");
    size_t block = n < ENCODE_BLOCK ? n : ENCODE_BLOCK, row = kith_bit_bytes(h->bits);
    float *p = ki_alloc(h->allocator, block, h->bits * sizeof *p);
    if (!p) return ki_fail_nomem(err, block * h->bits * sizeof *p);
    kith_status status = KITH_OK;
    for (size_t first = 0; first < n && status == KITH_OK; first += block) {
        size_t count = n - first < block ? n - first : block;
        status = ki_product_store(pool, x + first * h->dim, h->dim, count, h->forward, p, h->bits, err);
        for (size_t i = 0; status == KITH_OK && i < count; i++)
            pack(h, p + i * h->bits, codes + (first + i) * row);
    }
    ki_free(h->allocator, p);
    return status;
}

void kith_hasher_decode(const kith_hasher *h, const uint8_t *codes, size_t n, float *x)
{
    size_t row = kith_bit_bytes(h->bits);
    for (size_t i = 0; i < n; i++) {
        float *out = x + i * h->dim;
        const uint8_t *code = codes + i * row;
        memcpy(out, h->mean, h->dim * sizeof *out);
        for (size_t k = 0; k < h->bits; k++) {
            float along = code[k / 8] >> k % 8 & 1 ? h->scale[k] : -h->scale[k];
            if (along != 0) h->kernels->axpy_f32(out, along, h->w + k * h->dim, h->dim);
        }
    }
}

/* ---- Learning ---- */

kith_status ki_learn_random(kith_hasher *h, const float *x, size_t n, uint64_t seed)
{
    for (size_t d = 0; d < h->dim; d++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)x[i * h->dim + d];
        h->mean[d] = (float)(sum / (double)n);
    }
    ki_rng rng;
    ki_rng_init(&rng, seed, 0);
    for (size_t i = 0; i < h->bits * h->dim; i++) h->w[i] = (float)ki_rng_gauss(&rng);
    return KITH_OK;
}

/* What each sign says: the mean of p sign(p) over rows, in units of w. Of several bits along one direction only the one
 * of the lowest frequency, which splits it once, counts. */
static kith_status measure(kith_hasher *h, const float *x, size_t n, kith_error *err)
{
    float *p = ki_alloc(h->allocator, h->bits, sizeof *p);
    double *sum = ki_alloc_zero(h->allocator, h->bits, sizeof *sum);
    size_t step = n > MEASURE_ROWS ? n / MEASURE_ROWS : 1, count = 0;
    for (size_t i = 0; p && sum && i < n; i += step, count++) {
        ki_product_row(h->forward, x + i * h->dim, p);
        for (size_t k = 0; k < h->bits; k++) sum[k] += (double)(bit_of(h, k, p[k]) ? p[k] : -p[k]);
    }
    /* Random directions overlap: each takes its share of what all of them say together. */
    double share = h->method == KITH_HASH_RANDOM ? (double)h->dim / (double)(h->dim + h->bits) : 1;
    for (size_t k = 0; p && sum && k < h->bits; k++) {
        double norm2 = (double)h->kernels->norm2_f32(h->w + k * h->dim, h->dim);
        double lowest = h->method == KITH_HASH_SPECTRAL ? h->scale[k] : 1; /* the learner marked it */
        h->scale[k] = norm2 > 0 ? (float)(lowest * share * sum[k] / (double)count / norm2) : 0;
    }
    kith_status status = p && sum ? KITH_OK : ki_fail_nomem(err, h->bits * sizeof *sum);
    ki_free(h->allocator, p);
    ki_free(h->allocator, sum);
    return status;
}

static kith_status check_arguments(const float *x, size_t n, size_t dim, size_t bits,
                                   const kith_hasher_options *options, kith_error *err)
{
    if (!x) return ki_fail(err, KITH_INVALID, "x is NULL");
    if (dim < 1 || dim > SIZE_MAX / sizeof(double) / KITH_HASH_MAX_BITS)
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 1..", dim);
    int projects = options->method == KITH_HASH_PCAH || options->method == KITH_HASH_ITQ;
    size_t most = projects && dim < KITH_HASH_MAX_BITS ? dim : KITH_HASH_MAX_BITS;
    if (bits < 1 || bits > most) return ki_fail(err, KITH_INVALID, "bits is %zu, allowed 1..%zu", bits, most);
    if (n < KITH_HASH_MIN_ROWS)
        return ki_fail(err, KITH_INVALID, "n is %zu, learning to hash takes %d rows or more", n,
                       KITH_HASH_MIN_ROWS);
    if (options->iterations < 1) return ki_fail(err, KITH_INVALID, "iterations is 0, allowed 1..");
    if (!(options->whitening >= 0 && options->whitening <= 1))
        return ki_fail(err, KITH_INVALID, "whitening is %g, allowed 0..1", options->whitening);
    if ((int)options->method < KITH_HASH_RANDOM || options->method > KITH_HASH_SPECTRAL)
        return ki_fail(err, KITH_INVALID, "method is %d, which is none", (int)options->method);
    const ki_kernels *kernels = ki_kernels_get();
    for (size_t i = 0; i < n; i++)
        if (!kernels->finite_f32(x + i * dim, dim))
            return ki_fail(err, KITH_INVALID, "x: row %zu holds NaN or infinity", i);
    return KITH_OK;
}

kith_status kith_hasher_learn(const float *x, size_t n, size_t dim, size_t bits,
                              const kith_hasher_options *options, const kith_run *run, kith_hasher **out,
                              kith_error *err)
{
    if (!out) return ki_fail(err, KITH_INVALID, "hasher is NULL");
    *out = NULL;
    kith_hasher_options defaults;
    kith_hasher_options_init(&defaults);
    KI_TRY(ki_options_read(&defaults, sizeof defaults, options, "options", err));
    options = &defaults;
    KI_TRY(check_arguments(x, n, dim, bits, options, err));
    kith_hasher *h;
    KI_TRY(ki_hasher_create(dim, bits, options->method, options->allocator, &h, err));
    kith_status status = KITH_OK;
    switch (options->method) {
    case KITH_HASH_RANDOM: status = ki_learn_random(h, x, n, options->seed); break;
    case KITH_HASH_PCAH: status = ki_learn_pcah(h, x, n, 0, run, err); break;
    case KITH_HASH_ITQ: status = ki_learn_itq(h, x, n, options, run, err); break;
    case KITH_HASH_SPECTRAL: status = ki_learn_spectral(h, x, n, run, err); break;
    }
    if (status == KITH_OK) status = ki_hasher_ready(h, err);
    if (status == KITH_OK) status = measure(h, x, n, err);
    if (status == KITH_OK)
        *out = h;
    else
        kith_hasher_free(h);
    return status;
}
