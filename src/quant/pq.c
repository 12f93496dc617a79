/* Product quantisation: the object, its training and its codes. The tables and scans are in pq_tables.c.
 *
 * H. Jegou, M. Douze, C. Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI 33(1), 2011.
 *
 * A code holds one number of `bits` bits a segment:
 *
 *     bits 8         code[j]                          m bytes
 *     bits 9..16     little-endian uint16 code[j]     2 m bytes
 *     bits 1..7      bit string, segment j in bits [j * bits, (j + 1) * bits), lowest first, zeros at the end
 *
 * Each segment has its codebook twice: as the caller sees it, and packed for the tiled product, around the middle of
 * its centroids (cluster/kmeans_nearest.c says why).
 *
 * Training: m k-means that know nothing of each other, from random seeds or those of k-means++ (SEED_LIMIT). With at least as
 * many segments as threads each thread takes whole segments; otherwise the segments come one after the other, each on all threads.
 * K-means gives the same centroids at any number of threads, so both ways give the same codebooks. */
#include <kith/pq.h>

#include <kith/kmeans.h>

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/run.h"
#include "cluster/kmeans_internal.h"
#include "quant/pq_internal.h"

/* More points a centroid change the error by less than a per cent (FAISS uses the same number); of few centroids more rows cost
 * little and take another 1 to 3 per cent off (docs/families/pq-fastscan.md). */
#define POINTS_PER_CENTROID 256
#define LEAST_POINTS ((size_t)1 << 15)

/* Seeds are random unless the error of those of k-means++ is less by more than this factor, both after one assignment. The latter
 * leave more centroids among points that lie apart, where few queries' neighbours are: of sift1m, IVF4096,PQ16, recall@10 is 0.002 to 0.004
 * less with the same error in the end. There random seeds begin within 1.05 of them. Where points are equal or in groups (pixels; few
 * rows) they begin with 1.1 to 100 times the error, and may end with 40 times. */
#define SEED_LIMIT 1.05

/* ---- the object ---- */

static kith_status check_shape(size_t dim, size_t m, size_t bits, kith_metric metric, kith_error *err)
{
    size_t floats;
    if (dim == 0) return ki_fail(err, KITH_INVALID, "dim is 0, allowed 1..");
    if (m == 0 || m > KI_PQ_MAX_SEGMENTS)
        return ki_fail(err, KITH_INVALID, "m is %zu, allowed 1..%d", m, KI_PQ_MAX_SEGMENTS);
    if (dim % m != 0) return ki_fail(err, KITH_INVALID, "m is %zu, not a divisor of dim %zu", m, dim);
    if (bits == 0 || bits > KI_PQ_MAX_BITS)
        return ki_fail(err, KITH_INVALID, "bits is %zu, allowed 1..%d", bits, KI_PQ_MAX_BITS);
    if (metric != KITH_L2SQ && metric != KITH_DOT && metric != KITH_L1) {
        const char *name = kith_metric_name(metric);
        return ki_fail(err, KITH_UNSUPPORTED, "metric is %s, product quantisation has l2, dot, l1",
                       name ? name : "unknown");
    }
    if (!ki_mul_fits(dim, (size_t)8 << bits, &floats))
        return ki_fail(err, KITH_INVALID, "dim is %zu: too many floats", dim);
    return KITH_OK;
}

kith_status kith_pq_create(size_t dim, size_t m, size_t bits, kith_metric metric,
                           const kith_allocator *allocator, kith_pq **out, kith_error *err)
{
    if (!out) return ki_fail(err, KITH_INVALID, "pq is NULL");
    *out = NULL;
    KI_TRY(check_shape(dim, m, bits, metric, err));
    kith_pq *pq = ki_alloc_zero(allocator, 1, sizeof *pq);
    if (!pq) return ki_fail_nomem(err, sizeof *pq);
    *pq = (kith_pq){.allocator = allocator, .kernels = ki_kernels_get(), .metric = metric};
    pq->dim = dim;
    pq->m = m;
    pq->bits = bits;
    pq->ks = (size_t)1 << bits;
    pq->width = dim / m;
    pq->code_size = bits == 8 ? m : bits > 8 ? 2 * m : (m * bits + 7) / 8;
    pq->wants_dots = metric == KITH_DOT;
    pq->middle = ki_alloc(allocator, dim, sizeof *pq->middle);
    pq->books = ki_alloc_zero(allocator, m, sizeof *pq->books);
    pq->dots = ki_alloc_zero(allocator, m, sizeof *pq->dots);
    if (!pq->middle || !pq->books || !pq->dots) {
        kith_pq_free(pq);
        return ki_fail_nomem(err, dim * sizeof *pq->middle);
    }
    *out = pq;
    return KITH_OK;
}

static void forget(kith_pq *pq)
{
    pq->trained = 0;
    for (size_t j = 0; j < pq->m; j++) {
        if (pq->books) ki_packed_free(pq->books[j]);
        if (pq->dots) ki_packed_free(pq->dots[j]);
        if (pq->books) pq->books[j] = NULL;
        if (pq->dots) pq->dots[j] = NULL;
    }
}

void kith_pq_free(kith_pq *pq)
{
    if (!pq) return;
    forget(pq);
    ki_free(pq->allocator, pq->codebooks);
    ki_free(pq->allocator, pq->middle);
    ki_free(pq->allocator, pq->books);
    ki_free(pq->allocator, pq->dots);
    ki_free(pq->allocator, pq);
}

size_t kith_pq_dim(const kith_pq *pq)
{
    return pq->dim;
}
size_t kith_pq_segments(const kith_pq *pq)
{
    return pq->m;
}
size_t kith_pq_centroids(const kith_pq *pq)
{
    return pq->ks;
}
size_t kith_pq_code_size(const kith_pq *pq)
{
    return pq->code_size;
}
size_t kith_pq_table_size(const kith_pq *pq)
{
    return pq->m * pq->ks;
}
const float *kith_pq_codebooks(const kith_pq *pq)
{
    return pq->trained ? pq->codebooks : NULL;
}

void ki_pq_want_dots(kith_pq *pq)
{
    pq->wants_dots = 1;
}

/* ---- codebooks ---- */

/* Room for codebooks, once there is something to fill it with: a shape may come from a file that has no codebooks, and those
 * of 16 bits can be 17 GB. */
static kith_status reserve_codebooks(kith_pq *pq, kith_error *err)
{
    if (pq->codebooks) return KITH_OK;
    pq->codebooks = ki_alloc(pq->allocator, pq->ks * pq->dim, sizeof *pq->codebooks);
    return pq->codebooks ? KITH_OK : ki_fail_nomem(err, pq->ks * pq->dim * sizeof *pq->codebooks);
}

static kith_status pack_segment(kith_pq *pq, size_t j, double *middle, float *w, float *bias, kith_error *err)
{
    const float *book = pq->codebooks + j * pq->ks * pq->width;
    ki_nearest_form(book, pq->ks, pq->width, middle, w, bias);
    for (size_t d = 0; d < pq->width; d++) pq->middle[j * pq->width + d] = (float)middle[d];
    KI_TRY(ki_packed_create_affine(w, pq->width, pq->ks, pq->width, bias, pq->allocator, &pq->books[j], err));
    if (!pq->wants_dots) return KITH_OK;
    return ki_packed_create(book, pq->width, pq->ks, pq->width, KITH_DOT, pq->allocator, &pq->dots[j], err);
}

/* codebooks[] is set: pack it. */
static kith_status prepare(kith_pq *pq, kith_error *err)
{
    forget(pq);
    double *middle = ki_alloc(pq->allocator, 2 * pq->width, sizeof *middle);
    float *w = ki_alloc(pq->allocator, pq->ks * pq->width, sizeof *w);
    float *bias = ki_alloc(pq->allocator, pq->ks, sizeof *bias);
    kith_status status = KITH_OK;
    if (!middle || !w || !bias) status = ki_fail_nomem(err, pq->ks * pq->width * sizeof *w);
    for (size_t j = 0; j < pq->m && status == KITH_OK; j++)
        status = pack_segment(pq, j, middle, w, bias, err);
    ki_free(pq->allocator, middle);
    ki_free(pq->allocator, w);
    ki_free(pq->allocator, bias);
    if (status == KITH_OK)
        pq->trained = 1;
    else
        forget(pq);
    return status;
}

kith_status kith_pq_set_codebooks(kith_pq *pq, const float *codebooks, kith_error *err)
{
    if (!codebooks) return ki_fail(err, KITH_INVALID, "codebooks is NULL");
    size_t floats = pq->dim * pq->ks;
    if (!pq->kernels->finite_f32(codebooks, floats))
        return ki_fail(err, KITH_INVALID, "codebooks hold NaN or infinity");
    KI_TRY(reserve_codebooks(pq, err));
    forget(pq);
    memmove(pq->codebooks, codebooks, floats * sizeof *codebooks);
    return prepare(pq, err);
}

/* ---- training ---- */

typedef struct training {
    kith_pq *pq;
    const float *x;         /* [..][dim] */
    const uint64_t *picked; /* [n], or NULL: all rows */
    size_t n, iterations;
    uint64_t seed;
    const kith_run *run; /* the caller's */
    kith_run inner;      /* what one k-means gets */
    ki_stage *stage;
    uint64_t done; /* segments, atomic */
    int failed;    /* a kith_status, atomic */
} training;

/* book[ks][width] after the first iteration, from the better seeds; other: as much room. */
static kith_status begin_book(const training *t, const float *points, kith_kmeans_options *options,
                              float *book, float *other)
{
    const kith_pq *pq = t->pq;
    kith_kmeans_result random, careful;
    options->max_iterations = 1;
    options->init = KITH_KMEANS_RANDOM;
    KI_TRY(kith_kmeans_train(points, t->n, pq->width, pq->ks, options, &t->inner, book, &random, NULL));
    options->init = KITH_KMEANS_PLUSPLUS;
    KI_TRY(kith_kmeans_train(points, t->n, pq->width, pq->ks, options, &t->inner, other, &careful, NULL));
    if (random.objective > SEED_LIMIT * careful.objective)
        memcpy(book, other, pq->ks * pq->width * sizeof *book);
    return KITH_OK;
}

static kith_status train_book(const training *t, const float *points, uint64_t seed, float *book)
{
    const kith_pq *pq = t->pq;
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.max_points_per_centroid = 0;
    options.seed = seed;
    options.allocator = pq->allocator;
    float *other = ki_alloc(pq->allocator, pq->ks * pq->width, sizeof *other);
    if (!other) return KITH_NOMEM;
    kith_status status = begin_book(t, points, &options, book, other);
    ki_free(pq->allocator, other);
    if (status != KITH_OK || t->iterations == 1) return status;
    options.start = book;
    options.max_iterations = t->iterations - 1;
    return kith_kmeans_train(points, t->n, pq->width, pq->ks, &options, &t->inner, book, NULL, NULL);
}

static void train_segment(void *ctx, size_t j, size_t worker)
{
    training *t = ctx;
    kith_pq *pq = t->pq;
    size_t width = pq->width;
    if (__atomic_load_n(&t->failed, __ATOMIC_RELAXED) != KITH_OK) return;
    kith_status status = KITH_NOMEM;
    float *points = ki_alloc(pq->allocator, t->n * width, sizeof *points);
    if (points) {
        for (size_t i = 0; i < t->n; i++)
            memcpy(points + i * width, t->x + (t->picked ? t->picked[i] : i) * pq->dim + j * width,
                   width * sizeof *points);
        status = train_book(t, points, ki_mix64(t->seed + j), pq->codebooks + j * pq->ks * width);
        ki_free(pq->allocator, points);
    }
    if (status != KITH_OK) __atomic_store_n(&t->failed, (int)status, __ATOMIC_RELAXED);
    uint64_t done = __atomic_add_fetch(&t->done, 1, __ATOMIC_RELAXED);
    if (worker == 0) ki_stage_report(t->stage, done);
}

static kith_status train_segments(training *t, kith_error *err)
{
    kith_pq *pq = t->pq;
    kith_pool *pool = ki_run_pool(t->run);
    ki_stage stage;
    ki_stage_begin(&stage, t->run, "training codebooks", pq->m);
    t->stage = &stage;
    t->inner = ki_run_quiet(t->run);
    if (pq->m < kith_pool_threads(pool))
        pool = NULL;
    else
        t->inner.pool = NULL;
    ki_pool_run(pool, pq->m, train_segment, t);
    KI_TRY(ki_run_check(t->run, err));
    if (t->failed)
        return ki_fail(err, (kith_status)t->failed, "training of a codebook: %s",
                       kith_status_text((kith_status)t->failed));
    ki_stage_report(&stage, pq->m);
    return KITH_OK;
}

kith_status kith_pq_train(kith_pq *pq, const float *x, size_t n, size_t iterations, uint64_t seed,
                          const kith_run *run, kith_error *err)
{
    forget(pq);
    if (!x) return ki_fail(err, KITH_INVALID, "x is NULL");
    if (n < pq->ks)
        return ki_fail(err, KITH_INVALID, "n is %zu, allowed %zu.. (the centroids of a codebook)", n, pq->ks);
    if (iterations == 0) return ki_fail(err, KITH_INVALID, "iterations is 0, allowed 1..");
    KI_TRY(reserve_codebooks(pq, err));
    training t = {.pq = pq, .x = x, .n = n, .iterations = iterations, .seed = seed, .run = run};
    uint64_t *picked = NULL;
    size_t most = POINTS_PER_CENTROID * pq->ks;
    if (most < LEAST_POINTS) most = LEAST_POINTS;
    if (n > most) {
        t.n = most;
        picked = ki_alloc(pq->allocator, t.n, sizeof *picked);
        if (!picked) return ki_fail_nomem(err, t.n * sizeof *picked);
        ki_rng rng;
        ki_rng_init(&rng, seed, 0);
        ki_rng_sample(&rng, n, t.n, picked);
        t.picked = picked;
    }
    kith_status status = KITH_OK;
    for (size_t i = 0; i < t.n && status == KITH_OK; i++) {
        size_t row = picked ? picked[i] : i;
        if (!pq->kernels->finite_f32(x + row * pq->dim, pq->dim))
            status = ki_fail(err, KITH_INVALID, "x[%zu] holds NaN or infinity", row);
    }
    if (status == KITH_OK) status = train_segments(&t, err);
    ki_free(pq->allocator, picked);
    if (status == KITH_OK) status = prepare(pq, err);
    return status;
}

/* ---- codes ---- */

static void pack_row(const kith_pq *pq, const uint16_t *numbers, uint8_t *code)
{
    if (pq->bits >= 8) {
        for (size_t j = 0; j < pq->m; j++) {
            if (pq->bits == 8) {
                code[j] = (uint8_t)numbers[j];
            } else {
                code[2 * j] = (uint8_t)numbers[j];
                code[2 * j + 1] = (uint8_t)(numbers[j] >> 8);
            }
        }
        return;
    }
    uint32_t waiting = 0;
    size_t have = 0;
    for (size_t j = 0; j < pq->m; j++) {
        waiting |= (uint32_t)numbers[j] << have;
        for (have += pq->bits; have >= 8; have -= 8, waiting >>= 8) *code++ = (uint8_t)waiting;
    }
    if (have > 0) *code = (uint8_t)waiting;
}

static void unpack_row(const kith_pq *pq, const uint8_t *code, uint16_t *numbers)
{
    if (pq->bits >= 8) {
        for (size_t j = 0; j < pq->m; j++)
            numbers[j] = (uint16_t)(pq->bits == 8 ? code[j] : code[2 * j] | code[2 * j + 1] << 8);
        return;
    }
    uint32_t waiting = 0;
    size_t have = 0;
    for (size_t j = 0; j < pq->m; j++) {
        if (have < pq->bits) {
            waiting |= (uint32_t)*code++ << have;
            have += 8;
        }
        numbers[j] = (uint16_t)(waiting & (pq->ks - 1));
        waiting >>= pq->bits;
        have -= pq->bits;
    }
}

void ki_pq_unpack(const kith_pq *pq, const uint8_t *codes, const uint32_t *rows, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++)
        unpack_row(pq, codes + (rows ? rows[i] : i) * pq->code_size, out + i * pq->m);
}

size_t ki_pq_first_bad(const kith_pq *pq, const uint8_t *codes, size_t n)
{
    if (pq->bits <= 8 || pq->bits == 16) return n;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = codes + i * pq->code_size;
        unsigned high = 0;
        for (size_t j = 0; j < pq->m; j++) high |= code[2 * j + 1];
        if (high >> (pq->bits - 8)) return i;
    }
    return n;
}

kith_status ki_pq_encode_block(const kith_pq *pq, const float *x, size_t n, uint16_t *scratch, uint8_t *codes)
{
    if (pq->bits == 8) return ki_product_encode(NULL, x, pq->dim, n, pq->books, pq->m, 1, codes, NULL);
    KI_TRY(ki_product_encode(NULL, x, pq->dim, n, pq->books, pq->m, 2, scratch, NULL));
    for (size_t i = 0; i < n; i++) pack_row(pq, scratch + i * pq->m, codes + i * pq->code_size);
    return KITH_OK;
}

void ki_pq_decode(const kith_pq *pq, const uint8_t *code, float *out)
{
    uint16_t numbers[KI_PQ_MAX_SEGMENTS];
    size_t width = pq->width;
    unpack_row(pq, code, numbers);
    for (size_t j = 0; j < pq->m; j++) {
        size_t number = numbers[j] & (pq->ks - 1);
        memcpy(out + j * width, pq->codebooks + (j * pq->ks + number) * width, width * sizeof *out);
    }
}

/* ---- encoding by blocks ---- */

typedef struct encoding {
    const kith_pq *pq;
    const float *x;
    size_t n;
    const kith_run *run;
    ki_stage *stage;
    uint8_t *codes;      /* [n][code_size], or NULL: only the error is wanted */
    uint16_t *numbers;   /* [threads][KI_PQ_BLOCK][m] */
    uint8_t *thrown;     /* [threads][KI_PQ_BLOCK][code_size] when codes is NULL */
    float *decoded;      /* [threads][dim] when the error is wanted */
    double *block_error; /* [blocks] or NULL */
    uint64_t done;       /* rows, atomic */
    int failed;          /* a kith_status, atomic */
    uint64_t bad;        /* the first block with a row that is not finite, atomic */
} encoding;

static double error_of(const kith_pq *pq, const float *x, const uint8_t *codes, size_t n, float *decoded)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        ki_pq_decode(pq, codes + i * pq->code_size, decoded);
        sum += (double)pq->kernels->l2sq_f32(x + i * pq->dim, decoded, pq->dim);
    }
    return sum;
}

static void encode_block(void *ctx, size_t block, size_t worker)
{
    encoding *e = ctx;
    const kith_pq *pq = e->pq;
    size_t first = block * KI_PQ_BLOCK, n = e->n - first < KI_PQ_BLOCK ? e->n - first : KI_PQ_BLOCK;
    const float *x = e->x + first * pq->dim;
    uint8_t *codes =
        e->codes ? e->codes + first * pq->code_size : e->thrown + worker * KI_PQ_BLOCK * pq->code_size;
    if (__atomic_load_n(&e->failed, __ATOMIC_RELAXED) != KITH_OK) return;
    if (e->run && kith_cancel_raised(e->run->cancel)) return;
    kith_status status = KITH_OK;
    if (!pq->kernels->finite_f32(x, n * pq->dim)) status = KITH_INVALID;
    if (status == KITH_OK)
        status = ki_pq_encode_block(pq, x, n, e->numbers + worker * KI_PQ_BLOCK * pq->m, codes);
    if (status != KITH_OK) {
        __atomic_store_n(&e->failed, (int)status, __ATOMIC_RELAXED);
        return;
    }
    if (e->block_error) e->block_error[block] = error_of(pq, x, codes, n, e->decoded + worker * pq->dim);
    uint64_t done = __atomic_add_fetch(&e->done, n, __ATOMIC_RELAXED);
    if (worker == 0) ki_stage_report(e->stage, done);
}

static kith_status explain(const encoding *e, kith_error *err)
{
    if (e->failed == KITH_NOMEM)
        return ki_fail(err, KITH_NOMEM, "out of memory for the distances of a block");
    for (size_t i = 0; i < e->n; i++)
        if (!e->pq->kernels->finite_f32(e->x + i * e->pq->dim, e->pq->dim))
            return ki_fail(err, KITH_INVALID, "x[%zu] holds NaN or infinity", i);
    return ki_fail(err, KITH_INTERNAL, "encoding failed");
}

static kith_status encode_all(encoding *e, const char *name, kith_error *err)
{
    const kith_pq *pq = e->pq;
    if (!e->x && e->n > 0) return ki_fail(err, KITH_INVALID, "x is NULL");
    if (!pq->trained) return ki_fail(err, KITH_UNTRAINED, "the product quantiser has no codebooks yet");
    kith_pool *pool = ki_run_pool(e->run);
    size_t threads = kith_pool_threads(pool), rows = threads * KI_PQ_BLOCK;
    ki_stage stage;
    ki_stage_begin(&stage, e->run, name, e->n);
    e->stage = &stage;
    e->numbers = ki_alloc(pq->allocator, pq->bits == 8 ? 0 : rows * pq->m, sizeof *e->numbers);
    e->thrown = ki_alloc(pq->allocator, e->codes ? 0 : rows * pq->code_size, 1);
    e->decoded = ki_alloc(pq->allocator, e->block_error ? threads * pq->dim : 0, sizeof *e->decoded);
    kith_status status = KITH_OK;
    if (!e->numbers || !e->thrown || !e->decoded) {
        status = ki_fail_nomem(err, rows * pq->m * sizeof *e->numbers);
    } else {
        ki_pool_run(pool, (e->n + KI_PQ_BLOCK - 1) / KI_PQ_BLOCK, encode_block, e);
        status = ki_run_check(e->run, err);
        if (status == KITH_OK && e->failed) status = explain(e, err);
        if (status == KITH_OK) ki_stage_report(&stage, e->n);
    }
    ki_free(pq->allocator, e->numbers);
    ki_free(pq->allocator, e->thrown);
    ki_free(pq->allocator, e->decoded);
    return status;
}

kith_status kith_pq_encode(const kith_pq *pq, const float *x, size_t n, const kith_run *run, uint8_t *codes,
                           kith_error *err)
{
    if (!codes) return ki_fail(err, KITH_INVALID, "codes is NULL");
    encoding e = {.pq = pq, .x = x, .n = n, .run = run, .codes = codes};
    return encode_all(&e, "encoding", err);
}

kith_status kith_pq_error(const kith_pq *pq, const float *x, size_t n, const kith_run *run,
                          double *mean_squared_error, kith_error *err)
{
    if (!mean_squared_error) return ki_fail(err, KITH_INVALID, "mean_squared_error is NULL");
    if (n == 0) return ki_fail(err, KITH_INVALID, "n is 0, allowed 1..");
    size_t blocks = (n + KI_PQ_BLOCK - 1) / KI_PQ_BLOCK;
    encoding e = {.pq = pq, .x = x, .n = n, .run = run};
    e.block_error = ki_alloc(pq->allocator, blocks, sizeof *e.block_error);
    if (!e.block_error) return ki_fail_nomem(err, blocks * sizeof *e.block_error);
    kith_status status = encode_all(&e, "measuring", err);
    if (status == KITH_OK) {
        double sum = 0;
        for (size_t block = 0; block < blocks; block++) sum += e.block_error[block];
        *mean_squared_error = sum / (double)n;
    }
    ki_free(pq->allocator, e.block_error);
    return status;
}

static kith_status check_codes(const kith_pq *pq, const uint8_t *codes, size_t n, kith_error *err)
{
    if (!codes && n > 0) return ki_fail(err, KITH_INVALID, "codes is NULL");
    if (!pq->trained) return ki_fail(err, KITH_UNTRAINED, "the product quantiser has no codebooks yet");
    size_t bad = ki_pq_first_bad(pq, codes, n);
    if (bad < n)
        return ki_fail(err, KITH_INVALID, "codes[%zu] holds a number beyond %zu centroids", bad, pq->ks);
    return KITH_OK;
}

kith_status kith_pq_decode(const kith_pq *pq, const uint8_t *codes, size_t n, float *x, kith_error *err)
{
    if (!x && n > 0) return ki_fail(err, KITH_INVALID, "x is NULL");
    KI_TRY(check_codes(pq, codes, n, err));
    for (size_t i = 0; i < n; i++) ki_pq_decode(pq, codes + i * pq->code_size, x + i * pq->dim);
    return KITH_OK;
}

/* ---- the public face of pq_tables.c ---- */

kith_status kith_pq_adc_tables(const kith_pq *pq, const float *query, float *tables, kith_error *err)
{
    if (!query) return ki_fail(err, KITH_INVALID, "query is NULL");
    if (!tables) return ki_fail(err, KITH_INVALID, "tables is NULL");
    if (!pq->trained) return ki_fail(err, KITH_UNTRAINED, "the product quantiser has no codebooks yet");
    if (!pq->kernels->finite_f32(query, pq->dim))
        return ki_fail(err, KITH_INVALID, "query holds NaN or infinity");
    ki_pq_tables(pq, query, tables);
    return KITH_OK;
}

kith_status kith_pq_sdc_tables(const kith_pq *pq, const uint8_t *code, float *tables, kith_error *err)
{
    if (!tables) return ki_fail(err, KITH_INVALID, "tables is NULL");
    KI_TRY(check_codes(pq, code, 1, err));
    float *query = ki_alloc(pq->allocator, pq->dim, sizeof *query);
    if (!query) return ki_fail_nomem(err, pq->dim * sizeof *query);
    ki_pq_decode(pq, code, query);
    ki_pq_tables(pq, query, tables);
    ki_free(pq->allocator, query);
    /* A centroid's distance to itself: the product leaves its rounding there. */
    uint16_t numbers[KI_PQ_MAX_SEGMENTS];
    ki_pq_unpack(pq, code, NULL, 1, numbers);
    for (size_t j = 0; j < pq->m && pq->metric != KITH_DOT; j++) tables[j * pq->ks + numbers[j]] = 0;
    return KITH_OK;
}

kith_status kith_pq_scan(const kith_pq *pq, const float *tables, const uint8_t *codes, size_t n, float *dist,
                         kith_error *err)
{
    if (!tables) return ki_fail(err, KITH_INVALID, "tables is NULL");
    if (!dist && n > 0) return ki_fail(err, KITH_INVALID, "dist is NULL");
    KI_TRY(check_codes(pq, codes, n, err));
    ki_pq_scan(pq, tables, codes, NULL, n, 0, dist);
    return KITH_OK;
}
