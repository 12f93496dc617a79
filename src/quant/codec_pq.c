/* The codec of product-quantised rows, plain or as residuals to the centroid of their cell (IVFADC: Jegou, Douze &
 * Schmid, TPAMI 2011, section IV).
 *
 * Plain: a row's score is the sum of m table entries, the tables are those of kith/pq.h.
 *
 * Residual, L2SQ. With cell centroid c, reconstruction y of the residual, and a centre o that all cells share (quant/center.h),
 *
 *     |q - c - y|^2 = |q - c|^2  -  2 (q - o).y  +  (|y|^2 + 2 (c - o).y)
 *                     rebase        tables          factor
 *
 * The last term knows no query: it is computed once, when the row is encoded, and kept as the row's factor, one float32.
 * The tables of -2 (q - o).y know no cell: they serve all cells of a query, where the paper's tables of |q - c - y|^2 are made
 * anew for each. Tables and factor cancel where q and c are far from o; what is lost is about 2^-23 |q - o| |y|, far below the
 * error of the quantiser. The first term is measured anew where the query is long: the one by which the cell was chosen may be off by
 * 2^-23 |q|^2.
 *
 * Residual, DOT: -(q.(c + y)) = -(q.c) - q.y, no factor.
 *
 * Bounds. With 8 bits and AVX-512 whole numbers are looked up faster than floats (kernel pq8_sums): entries
 *
 *     e[j][c] = floor((t[j][c] - min_c t[j]) / s),     s = the widest range of a segment / 255,
 *
 * whose sums bound a row's score from below, sum_j min t[j] + s * sum_j e[j][code[j]] <= score, up to rounding, for which a slack
 * is added to what is compared. Once a query has scored some rows and has a worst so far, only rows whose bound is not beyond
 * it are scored by the float32 tables: the same scores, bit for bit, as without. (After F. Andre, A.-M. Kermarrec, N. Le
 * Scouarnec, PVLDB 9(4), 2015, where the bounds come from small tables of minima.)
 *
 * Residual, L1: |q - c - y| does not come apart into a part of the cell and a part of the row, so tables would have to
 * be made per cell. Refused: structures encode plainly under L1. */
#include "quant/codec.h"

#include <kith/pq.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/run.h"
#include "quant/center.h"
#include "quant/codec_pq.h"
#include "quant/pq_internal.h"
#include "store/index_file.h"

typedef struct pq_codec {
    ki_codec base;
    kith_pq *pq;
    size_t iterations;
    float *center; /* [dim], o above: 0 until `origins`; NULL where there is no factor */
} pq_codec;

typedef struct pq_scorer {
    ki_scorer base;
    float distance; /* of the query to the origin; 0 in plain codecs */
    float length2;  /* of the query, where there are factors */
    float *tables;  /* [m][ks] */
    float *query;   /* [dim] */
    float *centred; /* [dim]: less the centre */

    /* Bounds: made once a query has scored BOUND_AFTER rows; entries NULL: never. */
    uint8_t *entries; /* [m][256] */
    float scale, bias;
    float slack;   /* relative to what is below */
    size_t scored; /* rows of this query */
    enum { BOUNDS_LATER, BOUNDS_MADE, BOUNDS_USELESS } bounds;
} pq_scorer;

/* Making entries costs as much as scoring some hundred rows. */
#define BOUND_AFTER 1024

#define BOUND_BLOCK 256

const kith_pq *ki_pq_codec_pq(const ki_codec *codec)
{
    return ((const pq_codec *)codec)->pq;
}

/* ---- scorer ---- */

static void scorer_free(ki_scorer *scorer)
{
    pq_scorer *s = (pq_scorer *)scorer;
    ki_free(scorer->allocator, s->tables);
    ki_free(scorer->allocator, s->query);
    ki_free(scorer->allocator, s->centred);
    ki_free(scorer->allocator, s->entries);
    ki_free(scorer->allocator, s);
}

void ki_pq_codec_tables(const ki_codec *codec, const float *query, float *centred, float *tables)
{
    const pq_codec *c = (const pq_codec *)codec;
    if (!codec->residual) {
        ki_pq_tables(c->pq, query, tables);
        return;
    }
    if (!c->center) {
        ki_pq_dot_tables(c->pq, query, tables);
        return;
    }
    c->pq->kernels->sub_f32(centred, query, c->center, codec->dim);
    ki_pq_dot_tables(c->pq, centred, tables);
    c->pq->kernels->scale_f32(tables, 2, c->pq->m * c->pq->ks);
}

float ki_pq_codec_length2(const ki_codec *codec, const float *query)
{
    return ki_pq_codec_pq(codec)->kernels->dot_f32(query, query, codec->dim);
}

float ki_pq_codec_distance(const ki_codec *codec, const float *query, float length2, const float *origin,
                           float distance)
{
    if (codec->n_factors == 0 || !ki_distance_is_rough(length2, distance)) return distance;
    return ki_pq_codec_pq(codec)->kernels->l2sq_f32(query, origin, codec->dim);
}

static void scorer_query(ki_scorer *scorer, const float *query)
{
    pq_scorer *s = (pq_scorer *)scorer;
    s->distance = 0;
    s->scored = 0;
    s->bounds = BOUNDS_LATER;
    ki_pq_codec_tables(scorer->codec, query, s->centred, s->tables);
    if (scorer->codec->n_factors == 0) return;
    memmove(s->query, query, scorer->codec->dim * sizeof *query);
    s->length2 = ki_pq_codec_length2(scorer->codec, query);
}

static void scorer_row(ki_scorer *scorer, const uint8_t *code, const float *factor, const float *origin)
{
    pq_scorer *s = (pq_scorer *)scorer;
    scorer->codec->ops->decode(scorer->codec, code, factor, origin, s->query);
    scorer_query(scorer, s->query);
}

static void scorer_rebase(ki_scorer *scorer, const float *origin, float distance)
{
    pq_scorer *s = (pq_scorer *)scorer;
    s->distance = ki_pq_codec_distance(scorer->codec, s->query, s->length2, origin, distance);
}

/* ---- bounds ---- */

/* Whether this quantiser has bounds that are faster than scores. */
static int has_bounds(const kith_pq *pq)
{
    return pq->kernels->level == KITH_SIMD_AVX512 && pq->bits == 8 && pq->m % 8 == 0 && pq->m <= 256;
}

/* The least and the greatest of 256, in eight strands that the compiler makes one of. */
static void range_of(const float *table, float *least, float *greatest)
{
    float low[8], high[8];
    memcpy(low, table, sizeof low);
    memcpy(high, table, sizeof high);
    for (size_t c = 8; c < 256; c += 8)
        for (size_t l = 0; l < 8; l++) {
            float value = table[c + l];
            low[l] = value < low[l] ? value : low[l];
            high[l] = value > high[l] ? value : high[l];
        }
    *least = low[0], *greatest = high[0];
    for (size_t l = 1; l < 8; l++) {
        *least = low[l] < *least ? low[l] : *least;
        *greatest = high[l] > *greatest ? high[l] : *greatest;
    }
}

static void make_bounds(pq_scorer *s)
{
    const kith_pq *pq = ki_pq_codec_pq(s->base.codec);
    float least[256], widest = 0;
    double base = 0, magnitude = 0;
    for (size_t j = 0; j < pq->m; j++) {
        float greatest;
        range_of(s->tables + j * 256, &least[j], &greatest);
        widest = greatest - least[j] > widest ? greatest - least[j] : widest;
        base += (double)least[j];
        magnitude += fmax(fabs((double)least[j]), fabs((double)greatest));
    }
    s->scale = widest / 255;
    s->bias = (float)base;
    float inverse = 255 / widest;
    /* Entries: some 2^-14 of a step each. Sums of floats: m + 8 roundings of what is at most `magnitude`. */
    s->slack =
        (float)((double)pq->m * (double)s->scale * 0x1p-12 + (double)(pq->m + 8) * 0x1p-23 * magnitude);
    s->bounds = isfinite(s->slack) && isfinite(inverse) ? BOUNDS_MADE : BOUNDS_USELESS;
    for (size_t j = 0; s->bounds == BOUNDS_MADE && j < pq->m; j++)
        for (size_t c = 0; c < 256; c++) {
            float value = (s->tables[j * 256 + c] - least[j]) * inverse;
            s->entries[j * 256 + c] = (uint8_t)(int)(value < 255 ? value : 255);
        }
}

/* Rows whose bound is beyond `worst` get +INFINITY, all others their scores. */
static void score_bounded(const pq_scorer *s, ki_codes codes, size_t n, float worst, float *out)
{
    const kith_pq *pq = ki_pq_codec_pq(s->base.codec);
    const float *factor = s->base.codec->n_factors ? codes.factor : NULL;
    float exact[BOUND_BLOCK];
    uint32_t near[BOUND_BLOCK];
    float limit =
        worst + s->slack + (float)(pq->m + 8) * 0x1p-23f * fabsf(s->distance) + 0x1p-21f * fabsf(worst);
    pq->kernels->pq8_sums(s->entries, pq->m, codes.code, n, s->scale, s->distance + s->bias, factor, out);
    size_t n_near = pq->kernels->select_le_f32(out, n, limit, near);
    pq->kernels->pq_gather8(s->tables, pq->m, codes.code, pq->code_size, near, n_near, s->distance, exact);
    for (size_t i = 0; i < n; i++) out[i] = INFINITY;
    for (size_t i = 0; i < n_near; i++) out[near[i]] = factor ? exact[i] + factor[near[i]] : exact[i];
}

static int bounds_serve(pq_scorer *s, size_t n, float worst)
{
    s->scored += n;
    if (!s->entries || s->scored <= BOUND_AFTER || !isfinite(worst)) return 0;
    if (s->bounds == BOUNDS_LATER) make_bounds(s);
    return s->bounds == BOUNDS_MADE;
}

/* ---- scores ---- */

static void scorer_score(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    pq_scorer *s = (pq_scorer *)scorer;
    const kith_pq *pq = ki_pq_codec_pq(scorer->codec);
    if (!rows && bounds_serve(s, n, worst)) {
        for (size_t i = 0; i < n; i += BOUND_BLOCK) {
            ki_codes at = {codes.code + i * pq->code_size, codes.factor ? codes.factor + i : NULL};
            score_bounded(s, at, n - i < BOUND_BLOCK ? n - i : BOUND_BLOCK, worst, out + i);
        }
        return;
    }
    ki_pq_scan(pq, s->tables, codes.code, rows, n, s->distance, out);
    if (scorer->codec->n_factors == 0) return;
    if (rows)
        for (size_t i = 0; i < n; i++) out[i] += codes.factor[rows[i]];
    else
        pq->kernels->add_f32(out, codes.factor, n);
}

static const ki_scorer_ops plain_scorer_ops = {
    .free = scorer_free, .query = scorer_query, .row = scorer_row, .score = scorer_score};
static const ki_scorer_ops residual_scorer_ops = {.free = scorer_free,
                                                  .query = scorer_query,
                                                  .row = scorer_row,
                                                  .rebase = scorer_rebase,
                                                  .score = scorer_score};

static kith_status make_scorer(const ki_codec *codec, const kith_allocator *allocator, ki_scorer **out,
                               kith_error *err)
{
    const kith_pq *pq = ki_pq_codec_pq(codec);
    *out = NULL;
    if (!pq->trained) return ki_fail(err, KITH_UNTRAINED, "the product quantiser has no codebooks yet");
    pq_scorer *s = ki_alloc_zero(allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->base = (ki_scorer){codec->residual ? &residual_scorer_ops : &plain_scorer_ops, codec, allocator};
    s->tables = ki_alloc(allocator, pq->m * pq->ks, sizeof *s->tables);
    s->query = ki_alloc(allocator, pq->dim, sizeof *s->query);
    s->centred = ki_alloc(allocator, pq->dim, sizeof *s->centred);
    if (has_bounds(pq)) s->entries = ki_alloc(allocator, pq->m * pq->ks, 1);
    if (!s->tables || !s->query || !s->centred || (has_bounds(pq) && !s->entries)) {
        scorer_free(&s->base);
        return ki_fail_nomem(err, pq->m * pq->ks * sizeof *s->tables);
    }
    *out = &s->base;
    return KITH_OK;
}

/* ---- encoding residuals ---- */

typedef struct residual_job {
    const kith_pq *pq;
    const ki_codec *codec;
    const float *x;
    size_t n;
    ki_origins from;
    const kith_run *run;
    uint8_t *code;
    float *factor;     /* NULL: none */
    float *residuals;  /* [threads][KI_PQ_BLOCK][dim] */
    uint16_t *numbers; /* [threads][KI_PQ_BLOCK][m] */
    int no_memory;     /* atomic */
} residual_job;

/* |y|^2 + 2 (c - o).y = y.(y + 2 (c - o)), in float64. c NULL: 0. */
static float factor_of(const float *y, const float *c, const float *o, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++)
        sum += (double)y[d] * ((double)y[d] + 2 * ((c ? (double)c[d] : 0) - (double)o[d]));
    return (float)fmin(fmax(sum, -(double)FLT_MAX), (double)FLT_MAX); /* finite, as check wants it */
}

static void encode_block(void *ctx, size_t block, size_t worker)
{
    residual_job *job = ctx;
    const kith_pq *pq = job->pq;
    size_t dim = pq->dim, first = block * KI_PQ_BLOCK;
    size_t n = job->n - first < KI_PQ_BLOCK ? job->n - first : KI_PQ_BLOCK;
    float *residuals = job->residuals + worker * KI_PQ_BLOCK * dim;
    uint16_t *numbers = job->numbers + worker * KI_PQ_BLOCK * pq->m;
    const float *x = job->x + first * dim, *origins = job->from.origins;
    const uint32_t *which = origins ? job->from.which + first : NULL;
    if (job->run && kith_cancel_raised(job->run->cancel)) return;
    for (size_t i = 0; i < n && origins; i++)
        pq->kernels->sub_f32(residuals + i * dim, x + i * dim, origins + which[i] * dim, dim);
    uint8_t *code = job->code + first * pq->code_size;
    if (ki_pq_encode_block(pq, origins ? residuals : x, n, numbers, code) != KITH_OK) {
        __atomic_store_n(&job->no_memory, 1, __ATOMIC_RELAXED);
        return;
    }
    for (size_t i = 0; i < n && job->factor; i++) {
        ki_pq_decode(pq, code + i * pq->code_size, residuals);
        job->factor[first + i] = factor_of(residuals, origins ? origins + which[i] * dim : NULL,
                                           ((const pq_codec *)job->codec)->center, dim);
    }
}

static kith_status encode_residuals(const ki_codec *codec, const float *x, size_t n, ki_origins from,
                                    const kith_run *run, uint8_t *code, float *factor, kith_error *err)
{
    const kith_pq *pq = ki_pq_codec_pq(codec);
    kith_pool *pool = ki_run_pool(run);
    size_t rows = kith_pool_threads(pool) * KI_PQ_BLOCK;
    residual_job job = {.pq = pq, .codec = codec, .x = x, .n = n, .from = from, .run = run, .code = code};
    job.factor = codec->n_factors ? factor : NULL;
    job.residuals = ki_alloc(pq->allocator, rows * pq->dim, sizeof *job.residuals);
    job.numbers = ki_alloc(pq->allocator, pq->bits == 8 ? 0 : rows * pq->m, sizeof *job.numbers);
    kith_status status = KITH_OK;
    if (!job.residuals || !job.numbers) {
        status = ki_fail_nomem(err, rows * pq->dim * sizeof *job.residuals);
    } else {
        ki_pool_run(pool, (n + KI_PQ_BLOCK - 1) / KI_PQ_BLOCK, encode_block, &job);
        status = ki_run_check(run, err);
    }
    if (status == KITH_OK && job.no_memory)
        status = ki_fail(err, KITH_NOMEM, "out of memory for the distances of a block");
    ki_free(pq->allocator, job.residuals);
    ki_free(pq->allocator, job.numbers);
    return status;
}

/* ---- codec ---- */

void ki_pq_codec_free(ki_codec *codec)
{
    kith_pq_free(((pq_codec *)codec)->pq);
    ki_free(codec->allocator, ((pq_codec *)codec)->center);
    ki_free(codec->allocator, codec);
}

void ki_pq_codec_origins(ki_codec *codec, const float *origins, size_t n)
{
    float *center = ((pq_codec *)codec)->center;
    if (center && n > 0) ki_center_of_origins(center, origins, n, codec->dim);
}

kith_status ki_pq_codec_train(ki_codec *codec, const float *x, size_t n, uint64_t seed, const kith_run *run,
                              kith_error *err)
{
    pq_codec *c = (pq_codec *)codec;
    kith_status status = kith_pq_train(c->pq, x, n, c->iterations, seed, run, err);
    codec->trained = status == KITH_OK;
    return status;
}

kith_status ki_pq_codec_encode(const ki_codec *codec, const float *x, size_t n, ki_origins from,
                               const kith_run *run, uint8_t *code, float *factor, kith_error *err)
{
    if (!codec->trained) return ki_fail(err, KITH_UNTRAINED, "the product quantiser has no codebooks yet");
    if (codec->residual) return encode_residuals(codec, x, n, from, run, code, factor, err);
    return kith_pq_encode(ki_pq_codec_pq(codec), x, n, run, code, err);
}

void ki_pq_codec_decode(const ki_codec *codec, const uint8_t *code, const float *factor, const float *origin,
                        float *out)
{
    (void)factor;
    const kith_pq *pq = ki_pq_codec_pq(codec);
    ki_pq_decode(pq, code, out);
    if (origin) pq->kernels->add_f32(out, origin, codec->dim);
}

static kith_status check(const ki_codec *codec, ki_codes codes, size_t n, int deep, kith_error *err)
{
    const kith_pq *pq = ki_pq_codec_pq(codec);
    size_t bad = ki_pq_first_bad(pq, codes.code, n);
    if (bad < n)
        return ki_fail(err, KITH_CORRUPT, "the code of row %zu has a number beyond %zu centroids", bad,
                       pq->ks);
    if (deep && codec->n_factors && n > 0 && !pq->kernels->finite_f32(codes.factor, n))
        return ki_fail(err, KITH_CORRUPT, "the factors hold NaN or infinity");
    return KITH_OK;
}

/* ---- save and load: PREFIX.codebooks, float32 [m][2^bits][dim / m]; with factors .cellbooks instead, and .center ---- */

/* Factors were once counted from 0, in as many bytes: the section's name tells them apart, and such files go on with that. */
static void section_name(const char *prefix, int centred, char name[KI_STORE_NAME_BYTES])
{
    snprintf(name, KI_STORE_NAME_BYTES, "%s.%s", prefix, centred ? "cellbooks" : "codebooks");
}

kith_status ki_pq_codec_save(const ki_codec *codec, const char *prefix, struct ki_store_writer *writer,
                             kith_error *err)
{
    const pq_codec *c = (const pq_codec *)codec;
    char name[KI_STORE_NAME_BYTES];
    if (!codec->trained) return ki_fail(err, KITH_UNTRAINED, "the product quantiser has no codebooks yet");
    section_name(prefix, c->center != NULL, name);
    KI_TRY(ki_store_put(writer, name, c->pq->codebooks, c->pq->ks * c->pq->dim, sizeof(float), err));
    return c->center ? ki_center_save(c->center, codec->dim, prefix, writer, err) : KITH_OK;
}

/* books[ks * dim], and the centre behind them. */
static kith_status load_books(ki_codec *codec, const char *name, int centred, const char *prefix,
                              struct ki_store *store, float *books, kith_error *err)
{
    pq_codec *c = (pq_codec *)codec;
    size_t n = c->pq->ks * c->pq->dim;
    KI_TRY(ki_store_load(store, name, n, sizeof *books, books, err));
    if (centred) KI_TRY(ki_center_load(books + n, codec->dim, prefix, store, err));
    kith_status status = kith_pq_set_codebooks(c->pq, books, err);
    codec->trained = c->pq->trained;
    if (status == KITH_INVALID) return ki_fail(err, KITH_CORRUPT, "section %s holds NaN or infinity", name);
    if (status == KITH_OK && c->center) memcpy(c->center, books + n, codec->dim * sizeof *books);
    return status;
}

kith_status ki_pq_codec_load(ki_codec *codec, const char *prefix, struct ki_store *store, kith_error *err)
{
    const pq_codec *c = (const pq_codec *)codec;
    size_t n = c->pq->ks * c->pq->dim;
    char name[KI_STORE_NAME_BYTES];
    section_name(prefix, 0, name);
    int centred = c->center && !ki_store_has(store, name);
    section_name(prefix, centred, name);
    uint64_t held; /* asked before anything of the size that the spec claims is allocated */
    KI_TRY(ki_store_count(store, name, sizeof(float), &held, err));
    if (held != n)
        return ki_fail(err, KITH_CORRUPT, "%s: section %s holds %llu floats, expected %zu",
                       ki_store_path(store), name, (unsigned long long)held, n);
    float *books = ki_alloc_zero(codec->allocator, n + codec->dim, sizeof *books);
    if (!books) return ki_fail_nomem(err, (n + codec->dim) * sizeof *books);
    kith_status status = load_books(codec, name, centred, prefix, store, books, err);
    ki_free(codec->allocator, books);
    return status;
}

static const ki_codec_ops pq_ops = {.name = "pq",
                                    .free = ki_pq_codec_free,
                                    .origins = ki_pq_codec_origins,
                                    .train = ki_pq_codec_train,
                                    .encode = ki_pq_codec_encode,
                                    .decode = ki_pq_codec_decode,
                                    .scorer = make_scorer,
                                    .save = ki_pq_codec_save,
                                    .load = ki_pq_codec_load,
                                    .check = check};

const kith_pq *ki_codec_pq(const ki_codec *codec)
{
    return codec->ops == &pq_ops ? ki_pq_codec_pq(codec) : NULL;
}

kith_status ki_pq_codec_make(const ki_codec_ops *ops, size_t dim, size_t m, size_t bits, kith_metric metric,
                             int residual, size_t iterations, const kith_allocator *allocator, ki_codec **out,
                             kith_error *err)
{
    *out = NULL;
    if (residual && metric == KITH_L1)
        return ki_fail(err, KITH_UNSUPPORTED, "product quantisation of residuals has no l1 distance");
    if (iterations == 0) return ki_fail(err, KITH_INVALID, "iterations is 0, allowed 1..");
    pq_codec *codec = ki_alloc_zero(allocator, 1, sizeof *codec);
    if (!codec) return ki_fail_nomem(err, sizeof *codec);
    codec->base = (ki_codec){.ops = ops, .allocator = allocator, .dim = dim, .metric = metric};
    codec->base.residual = residual != 0;
    codec->base.n_factors = residual && metric == KITH_L2SQ;
    codec->iterations = iterations;
    kith_status status = kith_pq_create(dim, m, bits, metric, allocator, &codec->pq, err);
    if (status == KITH_OK && codec->base.n_factors) {
        codec->center = ki_alloc_zero(allocator, dim, sizeof *codec->center);
        if (!codec->center) status = ki_fail_nomem(err, dim * sizeof *codec->center);
    }
    if (status != KITH_OK) {
        ki_pq_codec_free(&codec->base);
        return status;
    }
    if (residual) ki_pq_want_dots(codec->pq);
    codec->base.code_size = codec->pq->code_size;
    *out = &codec->base;
    return KITH_OK;
}

kith_status ki_codec_pq_create(size_t dim, size_t m, size_t bits, kith_metric metric, int residual,
                               size_t iterations, const kith_allocator *allocator, ki_codec **codec,
                               kith_error *err)
{
    return ki_pq_codec_make(&pq_ops, dim, m, bits, metric, residual, iterations, allocator, codec, err);
}
