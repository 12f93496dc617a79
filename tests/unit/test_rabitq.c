/* RaBitQ: the estimator's expectation and bound against exact distances, its kernels and answers at every SIMD level. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/index.h>
#include <kith/simd.h>

#include "base/rng.h"
#include "quant/codec.h"
#include "quant/layout.h"
#include "simd/kernels.h"

static kith_error err;
static ki_rng rng;

/* ---- Kernels ---- */

/* Exactly as many bytes as are asked for, so that the sanitizer sees an over-read. */
static uint8_t *random_bytes(size_t n)
{
    uint8_t *bytes = malloc(n ? n : 1);
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)ki_rng_u64(&rng);
    return bytes;
}

typedef struct prepared {
    ki_rabitq_query q;
    int8_t *weights; /* [3][padded] */
    uint8_t *tables;
} prepared;

static prepared prepare(const ki_kernels *k, const float *x, size_t dim)
{
    size_t padded = (dim + 63) / 64 * 64, bytes = (dim + 7) / 8;
    prepared p = {.weights = calloc(3, padded), .tables = malloc((bytes + 1) / 2 * 128)};
    float *wide = calloc(padded, sizeof *wide), most = k->absmax_f32(x, dim);
    memcpy(wide, x, dim * sizeof *wide);
    int8_t *high = p.weights + padded, *low = high + padded;
    ki_rabitq_sums sums = k->rabitq_weights(wide, padded, 31 / most, 8000 / most, p.weights, high, low);
    k->rabitq_tables(p.weights, bytes, p.tables);
    int32_t total = 0, negative = 0;
    for (size_t i = 0; i < padded; i++) {
        assert_int_equal(p.weights[i], lrintf(wide[i] * (31 / most)));
        assert_int_equal(128 * high[i] + low[i], lrintf(wide[i] * (8000 / most)));
        total += abs(p.weights[i]);
        negative += p.weights[i] < 0 ? p.weights[i] : 0;
    }
    assert_int_equal(total, sums.total);
    assert_int_equal(negative, sums.negative);
    p.q = (ki_rabitq_query){.tables = p.tables,
                            .weights = p.weights,
                            .high = high,
                            .low = low,
                            .bytes = bytes,
                            .total = total,
                            .negative = negative,
                            .step = most / 31,
                            .base = 7,
                            .norm = 3};
    free(wide);
    return p;
}

static void drop(prepared *p)
{
    free(p->weights);
    free(p->tables);
}

/* Three blocks that lie apart as codes of several bits do: the same as one, whatever is asked for. */
static void check_blocks(const ki_kernels *k, const ki_rabitq_query *q, const uint8_t *codes,
                         const float *factors, uint32_t mask, const float *estimate, const float *lower,
                         uint32_t three[3])
{
    size_t size = 32 * q->bytes, stride = size + 77;
    uint8_t *apart = malloc(2 * stride + size);
    float *all = malloc(3 * 64 * sizeof *all), got[2][96];
    for (size_t i = 0; i < 3; i++) {
        memcpy(apart + i * stride, codes, size);
        memcpy(all + i * 64, factors, 64 * sizeof *all);
    }
    for (int ask = 0; ask < 4; ask++) {
        k->rabitq_blocks(q, apart, stride, all, 3, (ki_rabitq_ahead){apart, all, 2}, 5,
                         ask & 1 ? got[0] : NULL, ask & 2 ? got[1] : NULL, three);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(three[i], mask);
            if (ask & 1) assert_memory_equal(got[0] + 32 * i, estimate, 32 * sizeof *estimate);
            if (ask & 2) assert_memory_equal(got[1] + 32 * i, lower, 32 * sizeof *lower);
        }
    }
    free(apart);
    free(all);
}

static void check_kernels(const ki_kernels *k, const ki_kernels *scalar, size_t dim)
{
    size_t bytes = (dim + 7) / 8, groups = (dim + 63) / 64;
    float *x = test_vectors(1, dim, 0, dim);
    prepared p = prepare(k, x, dim), ref = prepare(scalar, x, dim);
    assert_memory_equal(p.tables, ref.tables, (bytes + 1) / 2 * 128);
    uint8_t *codes = random_bytes(32 * bytes), *extra = random_bytes(groups * 8 * 7), row[600];
    float factors[64], estimate[2][32], lower[2][32];
    for (size_t i = 0; i < 64; i++) factors[i] = (float)ki_rng_gauss(&rng);
    uint32_t mask, again, three[3];
    k->rabitq_blocks(&p.q, codes, 0, factors, 1, (ki_rabitq_ahead){0}, 5, estimate[0], lower[0], &mask);
    scalar->rabitq_blocks(&ref.q, codes, 0, factors, 1, (ki_rabitq_ahead){0}, 5, estimate[1], lower[1],
                          &again);
    assert_int_equal(mask, again);
    check_blocks(k, &p.q, codes, factors, mask, estimate[0], lower[0], three);
    assert_memory_equal(estimate[0], estimate[1], sizeof estimate[0]);
    assert_memory_equal(lower[0], lower[1], sizeof lower[0]);
    for (uint32_t r = 0; r < 32; r++) {
        int32_t sum, other;
        float bound;
        for (size_t j = 0; j < bytes; j++) row[j] = codes[32 * j + r];
        if (dim % 8) row[bytes - 1] &= (uint8_t)((1 << dim % 8) - 1);
        uint8_t *exact = malloc(bytes);
        memcpy(exact, row, bytes);
        k->rabitq_rows(&p.q, exact, bytes, NULL, 1, &sum);
        scalar->rabitq_rows(&p.q, exact, bytes, NULL, 1, &other);
        assert_int_equal(sum, other);
        float one = ki_rabitq_estimate(&p.q, sum, factors[r], factors[32 + r], &bound);
        assert_memory_equal(&one, &estimate[0][r], sizeof one);
        for (size_t bits = 1; bits <= 7; bits++)
            assert_int_equal(k->rabitq_extra(&p.q, exact, extra, bits),
                             scalar->rabitq_extra(&p.q, exact, extra, bits));
        free(exact);
    }
    drop(&p);
    drop(&ref);
    free(codes);
    free(extra);
    free(x);
}

static void test_kernels(void **state)
{
    (void)state;
    static const size_t dims[] = {1,   3,   8,   9,   16,  31,  63,  64,   65,
                                  100, 128, 130, 200, 257, 784, 960, 2056, 4100};
    ki_rng_init(&rng, test_seed(), 0);
    for (int level = 0; level < 4; level++)
        for (size_t i = 0; ki_kernels_at((kith_simd)level) && i < sizeof dims / sizeof *dims; i++)
            check_kernels(ki_kernels_at((kith_simd)level), ki_kernels_at(KITH_SIMD_SCALAR), dims[i]);
}

/* ---- The estimator ---- */

enum { N = 320, QUERIES = 60 };

static double exact(kith_metric metric, const float *q, const float *x, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++)
        sum += metric == KITH_L2SQ ? pow((double)q[d] - (double)x[d], 2) : -(double)q[d] * (double)x[d];
    return sum;
}

/* A codec and rows in its layout; residual: all from one origin. */
typedef struct world {
    size_t dim;
    ki_codec *codec;
    float *x, *queries, *origin;
    uint8_t *code;
    float *factor;
    ki_codes codes;
} world;

static void world_make(world *w, size_t dim, size_t bits, kith_metric metric, int residual, int blocks,
                       uint64_t seed)
{
    *w = (world){.dim = dim};
    w->x = test_vectors(N, dim, 0, seed);
    w->queries = test_vectors(QUERIES, dim, 0, seed + 1);
    w->origin = test_vectors(1, dim, 0, seed + 2);
    for (size_t d = 0; d < dim; d++)
        w->origin[d] *= 0.3f; /* what all rows and queries share is one error for all */
    assert_ok(ki_codec_rabitq_create(dim, bits, 1.9, metric, residual, NULL, &w->codec, &err), &err);
    if (!blocks) w->codec->block = 0;
    float *r = malloc(N * dim * sizeof *r);
    for (size_t i = 0; i < N * dim; i++) r[i] = w->x[i] - (residual ? w->origin[i % dim] : 0);
    assert_ok(w->codec->ops->train(w->codec, r, N, seed, NULL, &err), &err);
    free(r);
    uint32_t which[N] = {0};
    size_t size = w->codec->code_size;
    uint8_t *code = malloc(N * size);
    float *factor = malloc(N * 2 * sizeof *factor);
    ki_origins from = {residual ? w->origin : NULL, residual ? which : NULL};
    assert_ok(w->codec->ops->encode(w->codec, w->x, N, from, NULL, code, factor, &err), &err);
    w->code = malloc(N * size);
    w->factor = malloc(N * 2 * sizeof *factor);
    ki_layout layout = ki_layout_of(w->codec);
    for (size_t i = 0; i < N; i++)
        ki_layout_put(&layout, w->code, w->factor, i, code + i * size, factor + i * 2);
    w->codes = (ki_codes){w->code, w->factor};
    assert_ok(w->codec->ops->check(w->codec, w->codes, N, 1, &err), &err);
    free(code);
    free(factor);
}

static void world_clear(world *w)
{
    ki_codec_free(w->codec);
    free(w->x);
    free(w->queries);
    free(w->origin);
    free(w->code);
    free(w->factor);
}

static void ask(const world *w, ki_scorer *scorer, const float *query)
{
    scorer->ops->query(scorer, query);
    if (w->codec->residual)
        scorer->ops->rebase(scorer, w->origin, (float)exact(w->codec->metric, query, w->origin, w->dim));
}

typedef struct errors {
    double mean, deviation, beyond, spread; /* of estimates in units of spread; bounds above the truth */
} errors;

/* Over many rotations, so that rows and queries are not all measured by the same one. */
static errors measure(size_t dim, size_t bits, kith_metric metric, int residual, size_t seeds)
{
    double sum = 0, squares = 0, truth = 0, truth2 = 0, count = 0, beyond = 0;
    for (size_t seed = 0; seed < seeds; seed++) {
        world w;
        ki_scorer *scorer;
        float got[N], bound[N];
        world_make(&w, dim, bits, metric, residual, 1, test_seed() + seed);
        assert_ok(w.codec->ops->scorer(w.codec, NULL, &scorer, &err), &err);
        for (size_t q = 0; q < QUERIES; q++) {
            ask(&w, scorer, w.queries + q * dim);
            scorer->ops->score(scorer, w.codes, NULL, N, INFINITY, got);
            scorer->ops->bound(scorer, w.codes, NULL, N, INFINITY, bound);
            for (size_t i = 0; i < N; i++) {
                double want = exact(metric, w.queries + q * dim, w.x + i * dim, dim),
                       off = (double)got[i] - want;
                assert_true(bound[i] <= got[i]);
                sum += off;
                squares += off * off;
                truth += want;
                truth2 += want * want;
                beyond += (double)bound[i] > want;
                count++;
            }
        }
        ki_scorer_free(scorer);
        world_clear(&w);
    }
    double spread = sqrt(truth2 / count - truth / count * truth / count);
    return (errors){sum / count / spread, sqrt(squares / count) / spread, beyond / count, spread};
}

/* The expectation of the error is 0: its mean is within what is left of so many independent rotations and rows. The bound
 * holds in 97 of 100 cases for the signs; that of several bits is wider. Each further bit halves the error. */
static void test_estimator(void **state)
{
    (void)state;
    static const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT};
    static const size_t dims[] = {64, 100};
    for (size_t m = 0; m < 2; m++)
        for (size_t i = 0; i < 2; i++)
            for (int residual = 0; residual < 2; residual++) {
                double before = 0;
                for (size_t bits = 1; bits <= 8; bits += bits < 2 ? 1 : 2) {
                    errors e = measure(dims[i], bits, metrics[m], residual, bits == 1 ? 6 : 3);
                    fprintf(stderr,
                            "%s dim %zu %s bits %zu: mean %+.5f, deviation %.5f, beyond the bound %.4f\n",
                            m ? "dot" : "l2", dims[i], residual ? "residual" : "plain", bits, e.mean,
                            e.deviation, e.beyond);
                    assert_true(fabs(e.mean) < 0.06 * e.deviation + 1e-4);
                    assert_true(e.beyond < 0.04);
                    if (bits > 2) assert_true(e.deviation < before / 3);
                    before = e.deviation;
                }
            }
}

/* ---- Layouts, levels, pruning ---- */

/* Blocks, picks and single rows give the same numbers; what a worst distance leaves out has a bound beyond it. */
static void check_ways(size_t dim, size_t bits, int residual)
{
    world blocks, rows;
    ki_scorer *a, *b;
    float whole[N], single[N], picked[N], pruned[N], bound[N];
    uint32_t pick[N];
    world_make(&blocks, dim, bits, KITH_L2SQ, residual, 1, 5);
    world_make(&rows, dim, bits, KITH_L2SQ, residual, 0, 5);
    assert_ok(blocks.codec->ops->scorer(blocks.codec, NULL, &a, &err), &err);
    assert_ok(rows.codec->ops->scorer(rows.codec, NULL, &b, &err), &err);
    ask(&blocks, a, blocks.queries);
    ask(&rows, b, rows.queries);
    a->ops->score(a, blocks.codes, NULL, N - 5, INFINITY, whole);
    b->ops->score(b, rows.codes, NULL, N - 5, INFINITY, single);
    assert_memory_equal(whole, single, (N - 5) * sizeof *whole);
    size_t n = 0;
    for (uint32_t i = 0; i < N - 5; i += 1 + i % 3) pick[n++] = i;
    a->ops->score(a, blocks.codes, pick, n, INFINITY, picked);
    b->ops->score(b, rows.codes, pick, n, INFINITY, single);
    for (size_t i = 0; i < n; i++) {
        assert_true(picked[i] == whole[pick[i]]);
        assert_true(single[i] == whole[pick[i]]);
    }
    float worst = whole[7];
    a->ops->score(a, blocks.codes, NULL, N - 5, worst, pruned);
    a->ops->bound(a, blocks.codes, NULL, N - 5, INFINITY, bound);
    size_t left = 0;
    for (size_t i = 0; i < N - 5; i++) {
        left += pruned[i] == whole[i];
        assert_true(pruned[i] == whole[i] || isinf(pruned[i]));
        if (bits == 1) assert_true(pruned[i] == whole[i]);
        assert_true(bound[i] <= whole[i]);
    }
    assert_true(left > 0);
    ki_scorer_free(a);
    ki_scorer_free(b);
    world_clear(&blocks);
    world_clear(&rows);
}

static void test_ways(void **state)
{
    (void)state;
    static const size_t dims[] = {1, 5, 100};
    for (size_t i = 0; i < 3; i++)
        for (size_t bits = 1; bits <= 8; bits++)
            for (int residual = 0; residual < 2; residual++) check_ways(dims[i], bits, residual);
}

static void test_levels(void **state)
{
    (void)state;
    kith_simd best = kith_simd_level();
    for (size_t bits = 1; bits <= 7; bits++) {
        kith_metric metric = bits % 3 ? KITH_L2SQ : KITH_DOT;
        float first[N], got[N];
        uint8_t *code = NULL;
        for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
            world w;
            ki_scorer *scorer;
            if (!kith_simd_has((kith_simd)level)) continue;
            assert_ok(kith_simd_use((kith_simd)level, &err), &err);
            world_make(&w, 100, bits, metric, bits % 2, 1, 9);
            assert_ok(w.codec->ops->scorer(w.codec, NULL, &scorer, &err), &err);
            ask(&w, scorer, w.queries);
            scorer->ops->score(scorer, w.codes, NULL, N, INFINITY, got);
            if (!code) {
                memcpy(first, got, sizeof first);
                code = malloc(N * w.codec->code_size);
                memcpy(code, w.code, N * w.codec->code_size);
            }
            assert_memory_equal(first, got, sizeof first);
            assert_memory_equal(code, w.code, N * w.codec->code_size);
            ki_scorer_free(scorer);
            world_clear(&w);
        }
        free(code);
    }
    assert_ok(kith_simd_use(best, &err), &err);
}

/* What is decoded is nearer to the row the more bits there are. */
static void test_decode(void **state)
{
    (void)state;
    double before = INFINITY;
    for (size_t bits = 1; bits <= 8; bits++) {
        world w;
        double lost = 0, length = 0;
        world_make(&w, 100, bits, KITH_DOT, 1, 1, 3);
        float back[100];
        for (size_t i = 0; i < N; i++) {
            ki_layout_decode(w.codec, w.codes, i, w.origin, back);
            lost += exact(KITH_L2SQ, back, w.x + i * 100, 100);
            length += exact(KITH_L2SQ, w.origin, w.x + i * 100, 100);
        }
        fprintf(stderr, "decoded from %zu bits: %.6f of the squared length is lost\n", bits, lost / length);
        assert_true(lost / length < (bits == 1 ? 0.4 : before / 2));
        before = lost / length;
        world_clear(&w);
    }
}

/* Rows at the origin, rows all alike, rows too large for their squares, none. */
static void test_edges(void **state)
{
    (void)state;
    for (size_t bits = 1; bits <= 8; bits += 7) {
        float x[3][4] = {{0, 0, 0, 0}, {1, 1, 1, 1}, {3e38f, -3e38f, 3e38f, 3e38f}}, factor[6], out[3],
              zeros[16 * 4] = {0};
        ki_codec *codec;
        ki_scorer *scorer;
        uint8_t code[3 * 64];
        assert_ok(ki_codec_rabitq_create(4, bits, 1.9, KITH_L2SQ, 0, NULL, &codec, &err), &err);
        codec->block = 0;
        assert_int_equal(codec->ops->train(codec, zeros, 15, 1, NULL, &err), KITH_INVALID);
        assert_int_equal(codec->ops->scorer(codec, NULL, &scorer, &err), KITH_UNTRAINED);
        assert_ok(codec->ops->train(codec, zeros, 16, 1, NULL, &err), &err);
        assert_ok(codec->ops->encode(codec, x[0], 3, (ki_origins){0}, NULL, code, factor, &err), &err);
        assert_ok(codec->ops->check(codec, (ki_codes){code, factor}, 3, 1, &err), &err);
        assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
        scorer->ops->query(scorer, x[0]);
        scorer->ops->score(scorer, (ki_codes){code, factor}, NULL, 3, INFINITY, out);
        assert_true(out[0] == 0);
        assert_true(fabsf(out[1] - 4) < 1e-5f);
        ki_scorer_free(scorer);
        ki_codec_free(codec);
    }
    ki_codec *codec;
    assert_int_equal(ki_codec_rabitq_create(4, 9, 1.9, KITH_L2SQ, 0, NULL, &codec, &err), KITH_INVALID);
    assert_int_equal(ki_codec_rabitq_create(4, 1, 1.9, KITH_L1, 0, NULL, &codec, &err), KITH_UNSUPPORTED);
}

/* ---- Refinement ---- */

/* The part of the true k nearest that a spec finds, at its least refine_k. */
static double recall(const char *spec, const float *x, size_t n, size_t dim, const float *queries, size_t nq)
{
    enum { K = 10 };
    kith_index *index, *flat;
    kith_searcher *searcher, *judge;
    kith_search_options options;
    kith_setting least = {"refine_k", 1};
    uint64_t ids[K], truth[K];
    float dist[K], exact_dist[K];
    size_t hits = 0;
    kith_search_options_init(&options);
    if (strstr(spec, "R")) options.settings = &least, options.n_settings = 1;
    assert_ok(kith_index_create(spec, dim, NULL, &index, &err), &err);
    assert_ok(kith_index_create("Flat", dim, NULL, &flat, &err), &err);
    assert_ok(kith_index_train(index, x, n, NULL, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, n, NULL, &err), &err);
    assert_ok(kith_index_add(flat, x, NULL, n, NULL, &err), &err);
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(kith_searcher_create(flat, &judge, &err), &err);
    for (size_t q = 0; q < nq; q++) {
        assert_ok(kith_search(searcher, queries + q * dim, 1, K, &options, ids, dist, NULL, &err), &err);
        assert_ok(kith_search(judge, queries + q * dim, 1, K, NULL, truth, exact_dist, NULL, &err), &err);
        for (size_t i = 0; i < K; i++) hits += dist[i] <= exact_dist[K - 1];
    }
    kith_searcher_free(searcher);
    kith_searcher_free(judge);
    kith_index_free(index);
    kith_index_free(flat);
    return (double)hits / (double)(nq * K);
}

/* With bounds the better copy is asked for every row that may belong to the answer, whatever refine_k says: nearly all
 * are found by signs alone, where candidates of a fixed number would miss most. A copy that is not better is refused. */
static void test_refinement(void **state)
{
    (void)state;
    enum { ROWS = 2000, DIM = 64, NQ = 30 };
    float *x = test_vectors(ROWS, DIM, 20, 1), *queries = test_vectors(NQ, DIM, 20, 2);
    for (size_t i = 0; i < NQ * DIM; i++) queries[i] = 0.5f * queries[i] + x[i * 7 % (ROWS * DIM)];
    double bounds = recall("RaBitQ,RFlat", x, ROWS, DIM, queries, NQ),
           cells = recall("IVF1,RaBitQ2,RFlat", x, ROWS, DIM, queries, NQ),
           rotated = recall("HR,RaBitQ,RFlat", x, ROWS, DIM, queries, NQ),
           factor = recall("SQ4,RFlat", x, ROWS, DIM, queries, NQ);
    fprintf(stderr, "recall at refine_k 1: RaBitQ %.4f, RaBitQ2 %.4f, HR,RaBitQ %.4f, SQ4 %.4f\n", bounds,
            cells, rotated, factor);
    assert_true(bounds > 0.97 && cells > 0.97 && rotated > 0.97);
    static const char *const sure[] = {"SQ8,RFlat", "IVF1,SQ8,RFlat", "F16,RFlat"};
    for (size_t i = 0; i < sizeof sure / sizeof *sure; i++) {
        double all = recall(sure[i], x, ROWS, DIM, queries, NQ);
        if (all != 1) fail_msg("%s finds %.4f", sure[i], all);
    }
    static const char *const refused[] = {"F16,Refine(SQ8)", "SQ8,Refine(SQ8)", "F16,Refine(F16)"};
    static const char *const taken[] = {"SQ8,Refine(F16)", "SQ4,Refine(SQ8)", "PCA8,F16,Refine(SQ8)"};
    for (size_t i = 0; i < 3; i++) {
        kith_index *index;
        assert_int_equal(kith_index_create(refused[i], DIM, NULL, &index, &err), KITH_INVALID);
        assert_non_null(strstr(err.message, "no better copy"));
        assert_ok(kith_index_create(taken[i], DIM, NULL, &index, &err), &err);
        kith_index_free(index);
    }
    free(x);
    free(queries);
}

/* The distance that comes with an origin may be rounded; scores and bounds do not rest on it. Far from the centre estimates are
 * rougher, and bounds say so; with the centre where it belongs they are as good as anywhere. */
static void test_far_cell(void **state)
{
    (void)state;
    enum { DIM = 64 };
    for (size_t bits = 1, told = 0; bits <= 8; bits += told ? 7 : 0, told = !told) {
        ki_codec *codec;
        ki_scorer *scorer;
        float *x = test_vectors(N, DIM, 0, 1), *query = test_vectors(1, DIM, 0, 2), origin[DIM], out[2][N],
              factor[2 * N], bound[N];
        uint32_t which[N] = {0};
        assert_ok(ki_codec_rabitq_create(DIM, bits, 1.9, KITH_L2SQ, 1, NULL, &codec, &err), &err);
        codec->block = 0;
        assert_ok(codec->ops->train(codec, x, N, 1, NULL, &err), &err);
        for (size_t i = 0; i < N * DIM; i++) x[i] += 1000;
        for (size_t d = 0; d < DIM; d++) query[d] += 1000, origin[d] = 1000;
        if (told) codec->ops->origins(codec, origin, 1);
        uint8_t *code = malloc(N * codec->code_size);
        ki_codes codes = {code, factor};
        assert_ok(codec->ops->encode(codec, x, N, (ki_origins){origin, which}, NULL, code, factor, &err),
                  &err);
        assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
        scorer->ops->query(scorer, query);
        for (int rounded = 0; rounded < 2; rounded++) {
            float distance = (float)exact(KITH_L2SQ, query, origin, DIM);
            scorer->ops->rebase(scorer, origin, rounded ? distance + 50 : distance);
            scorer->ops->score(scorer, codes, NULL, N, INFINITY, out[rounded]);
        }
        assert_memory_equal(out[0], out[1], sizeof out[0]);
        scorer->ops->bound(scorer, codes, NULL, N, INFINITY, bound);
        size_t beyond = 0;
        double off = 0;
        for (size_t i = 0; i < N; i++) {
            double want = exact(KITH_L2SQ, query, x + i * DIM, DIM);
            beyond += (double)bound[i] > want;
            off += fabs((double)out[0][i] - want) / N;
        }
        fprintf(stderr, "far cell, bits %zu, centre %s: off by %.3f, %zu of %d beyond the bound\n", bits,
                told ? "there" : "at 0", off, beyond, N);
        assert_true(beyond < N / 10);
        if (told) assert_true(off < (bits == 1 ? 20 : 0.5));
        ki_scorer_free(scorer);
        ki_codec_free(codec);
        free(code);
        free(x);
        free(query);
    }
}

/* Bounds of a codec that was trained on rows all alike, which say nothing of how good its codes are. */
static void test_alike(void **state)
{
    (void)state;
    enum { DIM = 64 };
    for (size_t bits = 2; bits <= 8; bits += 3) {
        ki_codec *codec;
        ki_scorer *scorer;
        float *x = test_vectors(N, DIM, 0, 1), *query = test_vectors(1, DIM, 0, 2), *alike, factor[2 * N],
              bound[N];
        alike = calloc(16 * DIM, sizeof *alike);
        assert_ok(ki_codec_rabitq_create(DIM, bits, 1.9, KITH_L2SQ, 0, NULL, &codec, &err), &err);
        codec->block = 0;
        assert_ok(codec->ops->train(codec, alike, 16, 1, NULL, &err), &err);
        uint8_t *code = malloc(N * codec->code_size);
        assert_ok(codec->ops->encode(codec, x, N, (ki_origins){0}, NULL, code, factor, &err), &err);
        assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
        scorer->ops->query(scorer, query);
        scorer->ops->bound(scorer, (ki_codes){code, factor}, NULL, N, INFINITY, bound);
        size_t beyond = 0;
        for (size_t i = 0; i < N; i++) beyond += (double)bound[i] > exact(KITH_L2SQ, query, x + i * DIM, DIM);
        assert_true(beyond < N / 10);
        ki_scorer_free(scorer);
        ki_codec_free(codec);
        free(code);
        free(alike);
        free(x);
        free(query);
    }
}

/* Rows too large for squares or for the rotation are far away, and come back finite and in their direction. */
static void test_huge_rows(void **state)
{
    (void)state;
    enum { DIM = 64, HUGE_ROWS = 4 };
    static const float sizes[HUGE_ROWS] = {1e15f, 1e20f, 1e37f, 3.4e38f};
    for (int metric = 0; metric < 2; metric++)
        for (size_t bits = 1; bits <= 8; bits += 7) {
            ki_codec *codec;
            ki_scorer *scorer;
            float *x = test_vectors(N, DIM, 0, 1), *queries = test_vectors(QUERIES, DIM, 0, 2), factor[2 * N],
                  out[N], bound[N], back[DIM];
            kith_metric m = metric ? KITH_DOT : KITH_L2SQ;
            assert_ok(ki_codec_rabitq_create(DIM, bits, 1.9, m, 0, NULL, &codec, &err), &err);
            codec->block = 0;
            assert_ok(codec->ops->train(codec, x, N, 1, NULL, &err), &err);
            for (size_t i = 0; i < HUGE_ROWS; i++)
                for (size_t d = 0; d < DIM; d++)
                    x[i * DIM + d] = x[i * DIM + d] < 0 || i == 3 ? -sizes[i] : sizes[i];
            uint8_t *code = malloc(N * codec->code_size);
            ki_codes codes = {code, factor};
            assert_ok(codec->ops->encode(codec, x, N, (ki_origins){0}, NULL, code, factor, &err), &err);
            assert_ok(codec->ops->check(codec, codes, N, 1, &err), &err);
            assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
            for (size_t q = 0; q < QUERIES; q++) {
                scorer->ops->query(scorer, queries + q * DIM);
                scorer->ops->score(scorer, codes, NULL, N, INFINITY, out);
                scorer->ops->bound(scorer, codes, NULL, N, INFINITY, bound);
                for (size_t i = 0; i < HUGE_ROWS; i++) {
                    /* a product may overflow, as the true one does */
                    assert_false((m == KITH_L2SQ || i < 2) && (isnan(out[i]) || isnan(bound[i])));
                    if (m == KITH_L2SQ) assert_true(out[i] > 1e28f);
                }
            }
            for (size_t i = 0; i < HUGE_ROWS; i++) {
                double inner = 0, xx = 0, bb = 0;
                codec->ops->decode(codec, code + i * codec->code_size, factor + 2 * i, NULL, back);
                for (size_t d = 0; d < DIM; d++) {
                    assert_true(isfinite(back[d]));
                    inner += (double)x[i * DIM + d] * (double)back[d];
                    xx += (double)x[i * DIM + d] * (double)x[i * DIM + d];
                    bb += (double)back[d] * (double)back[d];
                }
                assert_true(inner > (bits == 1 ? 0.6 : 0.99) * sqrt(xx * bb));
            }
            ki_scorer_free(scorer);
            ki_codec_free(codec);
            free(code);
            free(x);
            free(queries);
        }
}

/* Queries too large for squares or for the rotation lose no row. Under DOT the answer is that of Flat. */
static void test_huge_queries(void **state)
{
    (void)state;
    enum { ROWS = 500, DIM = 64, K = 10 };
    static const float sizes[] = {1e15f, 1e20f, 1e36f, 3e38f};
    static const char *const specs[] = {"RaBitQ", "RaBitQ4", "RaBitQ,RFlat", "IVF1,RaBitQ4,RFlat"};
    float *x = test_vectors(ROWS, DIM, 0, 1), query[DIM];
    for (size_t i = 0; i < 2 * 4 * 4; i++) {
        kith_index *index, *flat;
        kith_searcher *searcher, *judge;
        kith_index_options options;
        uint64_t ids[K], truth[K];
        float dist[K], exact_dist[K];
        const char *spec = specs[i / 2 % 4];
        kith_index_options_init(&options);
        options.metric = i % 2 ? KITH_DOT : KITH_L2SQ;
        assert_ok(kith_index_create(spec, DIM, &options, &index, &err), &err);
        assert_ok(kith_index_create("Flat", DIM, &options, &flat, &err), &err);
        assert_ok(kith_index_train(index, x, ROWS, NULL, &err), &err);
        assert_ok(kith_index_add(index, x, NULL, ROWS, NULL, &err), &err);
        assert_ok(kith_index_add(flat, x, NULL, ROWS, NULL, &err), &err);
        assert_ok(kith_searcher_create(index, &searcher, &err), &err);
        assert_ok(kith_searcher_create(flat, &judge, &err), &err);
        for (size_t d = 0; d < DIM; d++) query[d] = x[7 * DIM + d] < 0 ? -sizes[i / 8] : sizes[i / 8];
        assert_ok(kith_search(searcher, query, 1, K, NULL, ids, dist, NULL, &err), &err);
        assert_ok(kith_search(judge, query, 1, K, NULL, truth, exact_dist, NULL, &err), &err);
        size_t hits = 0;
        for (size_t a = 0; a < K; a++) {
            if (ids[a] == UINT64_MAX)
                fail_msg("%s, metric %d, size %g", spec, options.metric, (double)sizes[i / 8]);
            for (size_t b = 0; b < K; b++) hits += ids[a] == truth[b];
        }
        if (options.metric == KITH_DOT && i / 2 % 4 >= 2 && sizes[i / 8] < 1e37f) assert_true(hits >= K - 1);
        kith_searcher_free(searcher);
        kith_searcher_free(judge);
        kith_index_free(index);
        kith_index_free(flat);
    }
    free(x);
}

/* Rows far from the origin: the distance to a centroid, taken as a difference of squares, would be off by more than
 * rows differ by. */
static void test_far_from_the_origin(void **state)
{
    (void)state;
    enum { ROWS = 2000, DIM = 64, NQ = 30 };
    float *x = test_vectors(ROWS, DIM, 0, 1), *queries = test_vectors(NQ, DIM, 0, 2);
    for (size_t i = 0; i < ROWS * DIM; i++) x[i] += 1000;
    for (size_t i = 0; i < NQ * DIM; i++) queries[i] += 1000;
    double signs = recall("IVF1,RaBitQ,RFlat", x, ROWS, DIM, queries, NQ);
    fprintf(stderr, "recall far from the origin: %.4f\n", signs);
    assert_true(signs > 0.98);
    free(x);
    free(queries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels),    cmocka_unit_test(test_estimator),
        cmocka_unit_test(test_ways),       cmocka_unit_test(test_levels),
        cmocka_unit_test(test_decode),     cmocka_unit_test(test_edges),
        cmocka_unit_test(test_refinement), cmocka_unit_test(test_far_from_the_origin),
        cmocka_unit_test(test_far_cell),   cmocka_unit_test(test_huge_queries),
        cmocka_unit_test(test_huge_rows),  cmocka_unit_test(test_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
