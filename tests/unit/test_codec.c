/* Codecs and their scorers: scores equal the distance to what decode gives back. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/pq.h>
#include <kith/simd.h>

#include "base/rng.h"
#include "quant/codec.h"
#include "quant/layout.h"
#include "store/index_file.h"
#include "support.h"

enum { N = 400, CELLS = 7 };

static double pair(kith_metric metric, const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) {
        double difference = (double)a[d] - (double)b[d];
        sum += metric == KITH_L2SQ  ? difference * difference
               : metric == KITH_DOT ? -(double)a[d] * (double)b[d]
                                    : fabs(difference);
    }
    return sum;
}

/* What a structure has: rows in cells, their codes, a query. */
typedef struct world {
    size_t dim;
    float *x, *origins, *query;
    uint32_t which[N];
    ki_origins from; /* empty when the codec is plain */
    uint8_t *code;
    float factor[N];
    ki_codes codes;
} world;

static void world_init(world *w, const ki_codec *codec, uint64_t seed)
{
    size_t dim = codec->dim;
    *w = (world){.dim = dim};
    w->x = test_vectors(N, dim, 5, seed);
    w->origins = test_vectors(CELLS, dim, 0, seed + 1);
    w->query = test_vectors(1, dim, 0, seed + 2);
    for (size_t i = 0; i < N; i++) w->which[i] = (uint32_t)(i % CELLS);
    if (codec->residual) w->from = (ki_origins){w->origins, w->which};
    w->code = malloc(N * codec->code_size);
    w->codes = (ki_codes){w->code, codec->n_factors ? w->factor : NULL};
}

static void world_clear(world *w)
{
    free(w->x);
    free(w->origins);
    free(w->query);
    free(w->code);
}

static void train(ki_codec *codec, const world *w, const kith_run *run)
{
    if (codec->residual && codec->ops->origins && w->dim % 2 == 0)
        codec->ops->origins(codec, w->origins, CELLS); /* odd: a codec that was never told */
    if (!codec->ops->train) return;
    float *r = malloc(N * w->dim * sizeof *r);
    for (size_t i = 0; i < N; i++)
        for (size_t d = 0; d < w->dim; d++)
            r[i * w->dim + d] =
                w->x[i * w->dim + d] - (codec->residual ? w->origins[w->which[i] * w->dim + d] : 0);
    kith_error err;
    assert_ok(codec->ops->train(codec, r, N, test_seed(), run, &err), &err);
    free(r);
}

static const float *origin_of(const ki_codec *codec, const world *w, size_t row)
{
    return codec->residual ? w->origins + w->which[row] * w->dim : NULL;
}

/* Relative to the longest vectors: rounding of float32; codecs of whole numbers round the query as well. */
static double slack = 2e-5;

static void assert_score(double got, double expected, double scale)
{
    if (!(fabs(got - expected) <= slack * scale)) fail_msg("score %.9g, expected %.9g", got, expected);
}

/* Every row scored as a structure does it: cell by cell, by batches of numbers, and all in a row. */
static void assert_scores(ki_scorer *scorer, const world *w, const float *query)
{
    const ki_codec *codec = scorer->codec;
    float out[N], *back = malloc(w->dim * sizeof *back);
    uint32_t rows[N];
    double scale = 1;
    for (size_t i = 0; i < N * w->dim; i++) scale = fmax(scale, fabs((double)w->x[i]));
    scale *= scale * (double)w->dim;
    for (size_t cell = 0; cell < CELLS; cell++) {
        size_t n = 0;
        for (uint32_t i = 0; i < N; i++)
            if (w->which[i] == cell) rows[n++] = i;
        if (codec->residual) {
            const float *origin = w->origins + cell * w->dim;
            scorer->ops->rebase(scorer, origin, (float)pair(codec->metric, query, origin, w->dim));
        }
        scorer->ops->score(scorer, w->codes, rows, n, INFINITY, out);
        for (size_t i = 0; i < n; i++) {
            const float *factor = w->codes.factor ? w->factor + rows[i] : NULL;
            codec->ops->decode(codec, w->code + rows[i] * codec->code_size, factor,
                               origin_of(codec, w, rows[i]), back);
            assert_score((double)out[i], pair(codec->metric, query, back, w->dim), scale);
            /* The same row alone and without a number. */
            float alone;
            ki_codes at = {w->code + rows[i] * codec->code_size, factor};
            scorer->ops->score(scorer, at, NULL, 1, INFINITY, &alone);
            assert_true(fabsf(alone - out[i]) <= 1e-5f * (float)scale);
        }
    }
    if (codec->residual) scorer->ops->rebase(scorer, w->origins, 0);
    float few[N];
    for (uint32_t i = 0; i < N; i++) rows[i] = N - 1 - i;
    scorer->ops->score(scorer, w->codes, NULL, N, INFINITY, out);
    scorer->ops->score(scorer, w->codes, rows, N, INFINITY, few);
    for (size_t i = 0; i < N; i++) assert_true(fabsf(out[i] - few[N - 1 - i]) <= 1e-5f * (float)scale);
    free(back);
}

static void codec_case(ki_codec *codec, uint64_t seed)
{
    world w;
    kith_error err;
    world_init(&w, codec, seed);
    train(codec, &w, NULL);
    assert_true(codec->trained);
    assert_ok(codec->ops->encode(codec, w.x, N, w.from, NULL, w.code, w.factor, &err), &err);
    assert_ok(codec->ops->check(codec, w.codes, N, 1, &err), &err);

    ki_scorer *scorer;
    assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
    assert_ptr_equal(scorer->codec, codec);
    assert_true((scorer->ops->rebase != NULL) == codec->residual);
    scorer->ops->query(scorer, w.query);
    assert_scores(scorer, &w, w.query);

    /* A stored row as the query. */
    float *row = malloc(w.dim * sizeof *row);
    codec->ops->decode(codec, w.code + 3 * codec->code_size, w.factor + 3, origin_of(codec, &w, 3), row);
    scorer->ops->row(scorer, w.code + 3 * codec->code_size, w.factor + 3, origin_of(codec, &w, 3));
    assert_scores(scorer, &w, row);
    if (codec->exact) {
        assert_memory_equal(row, w.x + 3 * w.dim, w.dim * sizeof *row);
        assert_memory_equal(ki_codec_f32_rows(codec, w.codes), w.x, N * w.dim * sizeof *w.x);
    } else {
        assert_null(ki_codec_f32_rows(codec, w.codes));
        assert_true((ki_codec_pq(codec) != NULL) == (strcmp(codec->ops->name, "pq") == 0));
    }

    /* More threads, the same bytes. */
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(3, NULL, &run.pool, &err), &err);
    uint8_t *code = malloc(N * codec->code_size);
    float factor[N];
    memcpy(factor, w.factor, sizeof factor);
    assert_ok(codec->ops->encode(codec, w.x, N, w.from, &run, code, factor, &err), &err);
    assert_memory_equal(code, w.code, N * codec->code_size);
    assert_memory_equal(factor, w.factor, sizeof factor);
    kith_pool_free(run.pool);
    free(code);
    free(row);
    ki_scorer_free(scorer);
    world_clear(&w);
}

static const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_L1};

static void all_cases(uint64_t seed)
{
    kith_error err;
    ki_codec *codec;
    const size_t dims[] = {1, 3, 16, 65};
    for (size_t m = 0; m < 3; m++) {
        for (size_t d = 0; d < 4; d++) {
            assert_ok(ki_codec_f32_create(dims[d], metrics[m], NULL, &codec, &err), &err);
            assert_int_equal(codec->code_size, dims[d] * sizeof(float));
            codec_case(codec, seed);
            ki_codec_free(codec);
        }
        for (size_t d = 0; d < 4; d++) {
            assert_ok(ki_codec_f16_create(dims[d], metrics[m], NULL, &codec, &err), &err);
            assert_int_equal(codec->code_size, dims[d] * 2);
            codec_case(codec, seed);
            ki_codec_free(codec);
        }
        slack = 2e-4;
        for (size_t d = 0; d < 4; d++)
            for (size_t bits = 4; bits <= 8; bits += 4)
                for (int residual = 0; residual < (metrics[m] == KITH_L1 ? 1 : 2); residual++) {
                    assert_ok(ki_codec_sq_create(dims[d], bits, metrics[m], residual, NULL, &codec, &err),
                              &err);
                    assert_int_equal(codec->n_factors, 0);
                    codec_case(codec, seed);
                    ki_codec_free(codec);
                }
        slack = 2e-5;
        const size_t shapes[][3] = {{16, 4, 4}, {12, 6, 8}, {6, 3, 7}, {8, 2, 1}, {66, 2, 6}};
        for (size_t s = 0; s < 5; s++)
            for (int residual = 0; residual < (metrics[m] == KITH_L1 ? 1 : 2); residual++) {
                assert_ok(ki_codec_pq_create(shapes[s][0], shapes[s][1], shapes[s][2], metrics[m], residual,
                                             6, NULL, &codec, &err),
                          &err);
                assert_int_equal(codec->n_factors, residual && metrics[m] == KITH_L2SQ);
                codec_case(codec, seed);
                ki_codec_free(codec);
            }
    }
}

/* With a worst so far, rows beyond it may be +INFINITY; all others have the bits that they have without. */
static void bounds_case(size_t dim, size_t m, kith_metric metric, int residual, uint64_t seed)
{
    kith_error err;
    ki_codec *codec;
    ki_scorer *scorer;
    world w;
    assert_ok(ki_codec_pq_create(dim, m, 8, metric, residual, 6, NULL, &codec, &err), &err);
    world_init(&w, codec, seed);
    train(codec, &w, NULL);
    assert_ok(codec->ops->encode(codec, w.x, N, w.from, NULL, w.code, w.factor, &err), &err);
    assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
    scorer->ops->query(scorer, w.query);
    float all[N], some[N];
    size_t skipped = 0;
    for (size_t round = 0; round < 12; round++) {
        const float *origin = w.origins + round % CELLS * dim;
        if (residual) scorer->ops->rebase(scorer, origin, (float)pair(metric, w.query, origin, dim));
        scorer->ops->score(scorer, w.codes, NULL, N, INFINITY, all);
        float worst = all[round * 31], least = worst;
        for (size_t i = 0; i < N; i++) least = all[i] < least ? all[i] : least;
        if (round % 2) worst = least; /* one row, and it must not be lost */
        scorer->ops->score(scorer, w.codes, NULL, N, worst, some);
        for (size_t i = 0; i < N; i++) {
            if (all[i] <= worst) assert_true(some[i] == all[i]);
            assert_true(some[i] == all[i] || some[i] == INFINITY);
            skipped += some[i] == INFINITY;
        }
    }
    if (kith_simd_level() == KITH_SIMD_AVX512 && m % 8 == 0) assert_true(skipped > N);
    ki_scorer_free(scorer);
    world_clear(&w);
    ki_codec_free(codec);
}

static void test_bounds(void **state)
{
    (void)state;
    const kith_metric all[] = {KITH_L2SQ, KITH_DOT, KITH_L1};
    for (size_t m = 0; m < 3; m++)
        for (int residual = 0; residual < (all[m] == KITH_L1 ? 1 : 2); residual++) {
            bounds_case(16, 8, all[m], residual, test_seed());
            bounds_case(48, 24, all[m], residual, test_seed() + 1);
            bounds_case(15, 5, all[m], residual, test_seed() + 2);
        }
}

/* Codes put in blocks: what was put is found again, moved and cleared, and the tail of files has zeros beyond its rows. */
static void check_layout(const ki_codec *codec, const world *w, uint8_t *codes, float *factors)
{
    ki_layout layout = ki_layout_of(codec);
    uint8_t code[KI_BLOCK_MAX_CODE];
    float factor[KI_BLOCK_MAX_FACTORS] = {0};
    size_t size = codec->code_size, held = ki_layout_padded(codec->block, N);
    assert_true(held >= N && held < N + KI_BLOCK_ROWS && held % KI_BLOCK_ROWS == 0);
    for (size_t i = 0; i < N; i++)
        ki_layout_put(&layout, codes, factors, i, w->code + i * size, w->factor + i);
    ki_layout_move(&layout, codes, factors, 40, 7);
    ki_layout_get(&layout, codes, factors, 40, code, factor);
    assert_memory_equal(code, w->code + 7 * size, size);
    if (codec->n_factors) assert_true(factor[0] == w->factor[7]);
    ki_layout_clear(&layout, codes, factors, 40, 41);
    ki_layout_get(&layout, codes, factors, 40, code, factor);
    for (size_t j = 0; j < size; j++) assert_int_equal(code[j], 0);
    ki_layout_put(&layout, codes, factors, 40, w->code + 40 * size, w->factor + 40);
    for (size_t i = 0; i < N; i++) {
        ki_layout_get(&layout, codes, factors, i, code, factor);
        assert_memory_equal(code, w->code + i * size, size);
    }
    uint8_t *tail = malloc(KI_BLOCK_ROWS * ki_layout_tail_bytes(size, codec->n_factors));
    size_t whole = N / KI_BLOCK_ROWS * KI_BLOCK_ROWS;
    ki_layout_tail(codec->block, codes + whole * size, size, codec->together, 1, N - whole, tail);
    for (size_t i = 0; i < KI_BLOCK_ROWS; i++)
        for (size_t j = 0; j < size; j++)
            assert_int_equal(tail[j * KI_BLOCK_ROWS + i],
                             whole + i < N ? w->code[(whole + i) * size + j] : 0);
    free(tail);
}

/* Scores of codes in blocks are the distances to what is decoded, up to the rounding of tables: at most half a step of a
 * 63rd of the widest range a segment. Some rows are scored as all are, bit for bit. */
static void blocks_case(size_t dim, size_t m, kith_metric metric, int residual, uint64_t seed)
{
    kith_error err;
    ki_codec *codec;
    ki_scorer *scorer;
    world w;
    assert_ok(ki_codec_pqfs_create(dim, m, metric, residual, 6, NULL, &codec, &err), &err);
    assert_int_equal(codec->block, KI_BLOCK_ROWS);
    assert_int_equal(codec->n_factors, residual && metric == KITH_L2SQ);
    world_init(&w, codec, seed);
    train(codec, &w, NULL);
    assert_ok(codec->ops->encode(codec, w.x, N, w.from, NULL, w.code, w.factor, &err), &err);
    size_t held = ki_layout_padded(codec->block, N);
    uint8_t *codes = malloc(held * codec->code_size);
    float *factors = codec->n_factors ? malloc(held * sizeof *factors) : NULL;
    memset(codes, 0xa5, held * codec->code_size);
    check_layout(codec, &w, codes, factors);
    ki_codes blocks = {codes, factors};
    assert_ok(codec->ops->check(codec, blocks, N, 1, &err), &err);
    assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
    scorer->ops->query(scorer, w.query);
    float all[N], some[N], *back = malloc(dim * sizeof *back);
    /* The widest range of a segment's table, by what the centroids can make of the query: bounded from the data. */
    double reach = 1;
    for (size_t d = 0; d < dim; d++) reach = fmax(reach, fabs((double)w.query[d]));
    for (size_t i = 0; i < N * dim; i++) reach = fmax(reach, 2 * fabs((double)w.x[i]));
    for (size_t i = 0; i < CELLS * dim; i++) reach = fmax(reach, 2 * fabs((double)w.origins[i]));
    double bound =
        (double)m * (4 * reach * reach * (double)(dim / m)) / 63 / 2 + 1e-4 * reach * reach * (double)dim;
    for (size_t cell = 0; cell < CELLS; cell++) {
        const float *origin = residual ? w.origins + cell * dim : NULL;
        if (residual) scorer->ops->rebase(scorer, origin, (float)pair(metric, w.query, origin, dim));
        scorer->ops->score(scorer, blocks, NULL, N, INFINITY, all);
        uint32_t rows[N];
        size_t n = 0;
        for (uint32_t i = 0; i < N; i++)
            if (w.which[i] == cell && i % 3) rows[n++] = i;
        scorer->ops->score(scorer, blocks, rows, n, INFINITY, some);
        for (size_t i = 0; i < n; i++) {
            assert_true(some[i] == all[rows[i]]);
            ki_layout_decode(codec, blocks, rows[i], origin, back);
            double exact = pair(metric, w.query, back, dim);
            if (!(fabs((double)some[i] - exact) <= bound))
                fail_msg("score %.9g, distance %.9g, bound %.9g", (double)some[i], exact, bound);
        }
    }
    free(back), free(codes), free(factors);
    ki_scorer_free(scorer);
    world_clear(&w);
    ki_codec_free(codec);
}

static void test_blocks(void **state)
{
    (void)state;
    const size_t shapes[][2] = {{16, 4}, {12, 6}, {6, 3}, {8, 1}, {66, 33}};
    const kith_metric all[] = {KITH_L2SQ, KITH_DOT, KITH_L1};
    kith_simd best = kith_simd_level();
    for (int level = 0; level < 4; level++) {
        if (kith_simd_use((kith_simd)level, NULL) != KITH_OK) continue;
        for (size_t m = 0; m < 3; m++)
            for (size_t s = 0; s < 5; s++)
                for (int residual = 0; residual < (all[m] == KITH_L1 ? 1 : 2); residual++)
                    blocks_case(shapes[s][0], shapes[s][1], all[m], residual, test_seed() + s);
    }
    kith_simd_use(best, NULL);
}

static void test_scores(void **state)
{
    (void)state;
    for (kith_simd level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        if (!kith_simd_has(level)) continue;
        assert_int_equal(kith_simd_use(level, NULL), KITH_OK);
        all_cases(test_seed() + level);
    }
    kith_simd_use_name("auto", NULL);
}

/* Codes of 9..16 bits and a residual codec that is given no origins: from 0. */
static void test_wide_codes(void **state)
{
    (void)state;
    enum { n = 600, dim = 8 };
    kith_error err;
    ki_codec *codec;
    float *x = test_vectors(n, dim, 0, test_seed()), out[n], back[dim], factor[n];
    uint8_t code[n * 4];
    assert_ok(ki_codec_pq_create(dim, 2, 9, KITH_L2SQ, 1, 5, NULL, &codec, &err), &err);
    assert_int_equal(codec->code_size, 4);
    assert_ok(codec->ops->train(codec, x, n, 1, NULL, &err), &err);
    assert_ok(codec->ops->encode(codec, x, n, (ki_origins){NULL, NULL}, NULL, code, factor, &err), &err);
    ki_scorer *scorer;
    assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
    scorer->ops->query(scorer, x);
    const float origin[dim] = {0};
    scorer->ops->rebase(scorer, origin, (float)pair(KITH_L2SQ, x, origin, dim));
    scorer->ops->score(scorer, (ki_codes){code, factor}, NULL, n, INFINITY, out);
    for (size_t i = 0; i < n; i++) {
        codec->ops->decode(codec, code + 4 * i, factor + i, NULL, back);
        assert_score((double)out[i], pair(KITH_L2SQ, x, back, dim), 40);
    }
    /* A code that no encoder wrote. */
    code[5 * 4 + 3] = 2;
    assert_int_equal(codec->ops->check(codec, (ki_codes){code, factor}, n, 0, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.message, "row 5"));
    code[5 * 4 + 3] = 1;
    assert_ok(codec->ops->check(codec, (ki_codes){code, factor}, n, 0, &err), &err);
    factor[9] = NAN;
    assert_ok(codec->ops->check(codec, (ki_codes){code, factor}, n, 0, &err), &err);
    assert_int_equal(codec->ops->check(codec, (ki_codes){code, factor}, n, 1, &err), KITH_CORRUPT);
    ki_scorer_free(scorer);
    ki_codec_free(codec);

    assert_ok(ki_codec_f32_create(dim, KITH_L2SQ, NULL, &codec, &err), &err);
    x[dim * 7] = INFINITY;
    assert_ok(codec->ops->check(codec, (ki_codes){(const uint8_t *)x, NULL}, n, 0, &err), &err);
    assert_int_equal(codec->ops->check(codec, (ki_codes){(const uint8_t *)x, NULL}, n, 1, &err),
                     KITH_CORRUPT);
    ki_codec_free(codec);
    free(x);
}

/* How far decoded rows are from the rows, relative to their spread; bytes are kept. */
static double loss(ki_codec *codec, const float *x, size_t n)
{
    kith_error err;
    size_t dim = codec->dim;
    uint8_t *code = malloc(n * codec->code_size);
    float *back = malloc(dim * sizeof *back);
    double error = 0, spread = 0;
    if (codec->ops->train) assert_ok(codec->ops->train(codec, x, n, 1, NULL, &err), &err);
    assert_ok(codec->ops->encode(codec, x, n, (ki_origins){0}, NULL, code, NULL, &err), &err);
    for (size_t i = 0; i < n; i++) {
        codec->ops->decode(codec, code + i * codec->code_size, NULL, NULL, back);
        for (size_t d = 0; d < dim; d++) {
            error += pow((double)x[i * dim + d] - (double)back[d], 2);
            spread += pow((double)x[i * dim + d], 2);
        }
    }
    free(code);
    free(back);
    return error / spread;
}

static void test_loss(void **state)
{
    (void)state;
    enum { n = 2000, dim = 9 };
    kith_error err;
    ki_codec *codec;
    float *x = test_vectors(n, dim, 0, test_seed());
    for (size_t i = 0; i < n; i++)
        x[i * dim + 3] = 7, x[i * dim + 4] *= 1000, x[i * dim + 5] *= 1e-20f; /* scales of their own */
    assert_ok(ki_codec_sq_create(dim, 8, KITH_L2SQ, 0, NULL, &codec, &err), &err);
    assert_true(loss(codec, x, n) < 1.0 / 12 / 255 / 255 * 60); /* a range of some 7 sigma */
    ki_codec_free(codec);
    assert_ok(ki_codec_sq_create(dim, 4, KITH_L2SQ, 0, NULL, &codec, &err), &err);
    /* Max (1960): the best uniform quantiser of 16 levels of a normal distribution has an error of 0.01154; one
     * from the least to the greatest of 2,000 values 0.017. */
    assert_true(loss(codec, x, n) < 0.0135);
    ki_codec_free(codec);
    assert_ok(ki_codec_f16_create(dim, KITH_L2SQ, NULL, &codec, &err), &err);
    assert_true(loss(codec, x, n) < 0x1p-22);
    x[4] = 1e30f; /* beyond half floats: kept finite */
    uint16_t half[dim];
    assert_ok(codec->ops->encode(codec, x, 1, (ki_origins){0}, NULL, (uint8_t *)half, NULL, &err), &err);
    assert_int_equal(half[4], 0x7bff);
    assert_ok(codec->ops->check(codec, (ki_codes){(uint8_t *)half, NULL}, 1, 1, &err), &err);
    half[2] = 0x7c00;
    assert_int_equal(codec->ops->check(codec, (ki_codes){(uint8_t *)half, NULL}, 1, 1, &err), KITH_CORRUPT);
    ki_codec_free(codec);
    for (size_t i = 0; i < n * dim; i++) x[i] = (float)(i * 7919 % 251);
    assert_ok(ki_codec_sq_create(dim, 8, KITH_L2SQ, 0, NULL, &codec, &err), &err);
    assert_true(loss(codec, x, n) == 0);
    ki_codec_free(codec);
    free(x);
}

static void test_refused(void **state)
{
    (void)state;
    ki_codec *codec;
    kith_error err;
    assert_int_equal(ki_codec_f32_create(0, KITH_L2SQ, NULL, &codec, &err), KITH_INVALID);
    assert_int_equal(ki_codec_f32_create(4, KITH_COSINE, NULL, &codec, &err), KITH_UNSUPPORTED);
    assert_int_equal(ki_codec_pq_create(4, 2, 8, KITH_L1, 1, 5, NULL, &codec, &err), KITH_UNSUPPORTED);
    assert_int_equal(ki_codec_pq_create(4, 3, 8, KITH_L2SQ, 1, 5, NULL, &codec, &err), KITH_INVALID);
    assert_int_equal(ki_codec_pq_create(4, 2, 8, KITH_L2SQ, 1, 0, NULL, &codec, &err), KITH_INVALID);
    assert_int_equal(ki_codec_f16_create(0, KITH_L2SQ, NULL, &codec, &err), KITH_INVALID);
    assert_int_equal(ki_codec_f16_create(4, KITH_COSINE, NULL, &codec, &err), KITH_UNSUPPORTED);
    assert_int_equal(ki_codec_sq_create(4, 5, KITH_L2SQ, 0, NULL, &codec, &err), KITH_INVALID);
    assert_int_equal(ki_codec_sq_create(4, 8, KITH_L1, 1, NULL, &codec, &err), KITH_UNSUPPORTED);
    assert_null(codec);
    assert_ok(ki_codec_pq_create(4, 2, 4, KITH_L2SQ, 1, 5, NULL, &codec, &err), &err);
    ki_scorer *scorer;
    uint8_t code[4];
    float x[4] = {0}, factor[1];
    assert_false(codec->trained);
    assert_int_equal(codec->ops->scorer(codec, NULL, &scorer, &err), KITH_UNTRAINED);
    assert_int_equal(codec->ops->encode(codec, x, 1, (ki_origins){NULL, NULL}, NULL, code, factor, &err),
                     KITH_UNTRAINED);
    assert_int_equal(codec->ops->train(codec, x, 1, 1, NULL, &err), KITH_INVALID);
    assert_false(codec->trained);
    ki_codec_free(codec);
    ki_codec_free(NULL);
    ki_scorer_free(NULL);
}

/* ---- save and load ---- */

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

static void write_file(const char *path, const ki_codec *codec, const char *section, const float *books,
                       size_t n)
{
    kith_error err;
    ki_store_writer *writer;
    assert_ok(ki_store_create(path, NULL, NULL, &writer, &err), &err);
    if (codec)
        assert_ok(codec->ops->save(codec, "codec", writer, &err), &err);
    else
        assert_ok(ki_store_put(writer, section, books, n, sizeof *books, &err), &err);
    ki_store_header header = {.spec = "PQ4x5", .metric = KITH_L2SQ, .dim = 8, .rows = 0};
    assert_ok(ki_store_commit(writer, &header, &err), &err);
    ki_store_writer_free(writer);
}

static kith_status read_file(const char *path, ki_codec *codec, kith_error *err)
{
    ki_store *store;
    assert_ok(ki_store_open(path, KI_STORE_READ, NULL, NULL, &store, err), err);
    kith_status status = codec->ops->load(codec, "codec", store, err);
    ki_store_close(store);
    return status;
}

static void test_files(void **state)
{
    (void)state;
    kith_error err;
    ki_codec *codec, *again;
    world w;
    assert_ok(ki_codec_pq_create(8, 4, 5, KITH_L2SQ, 1, 6, NULL, &codec, &err), &err);
    ki_store_writer *writer;
    assert_ok(ki_store_create(path_of("untrained"), NULL, NULL, &writer, &err), &err);
    assert_int_equal(codec->ops->save(codec, "codec", writer, &err), KITH_UNTRAINED);
    ki_store_writer_free(writer);

    world_init(&w, codec, test_seed());
    train(codec, &w, NULL);
    write_file(path_of("pq"), codec, NULL, NULL, 0);
    assert_ok(ki_codec_pq_create(8, 4, 5, KITH_L2SQ, 1, 6, NULL, &again, &err), &err);
    assert_ok(read_file(path_of("pq"), again, &err), &err);
    assert_true(again->trained);
    uint8_t *code = malloc(N * again->code_size);
    float factor[N];
    assert_ok(codec->ops->encode(codec, w.x, N, w.from, NULL, w.code, w.factor, &err), &err);
    assert_ok(again->ops->encode(again, w.x, N, w.from, NULL, code, factor, &err), &err);
    assert_memory_equal(code, w.code, N * codec->code_size);
    assert_memory_equal(factor, w.factor, sizeof factor);
    free(code);
    ki_codec_free(again);

    /* A file from before factors were counted from a centre: they go on being counted from 0. */
    write_file(path_of("older"), NULL, "codec.codebooks", kith_pq_codebooks(ki_codec_pq(codec)), 256);
    assert_ok(ki_codec_pq_create(8, 4, 5, KITH_L2SQ, 1, 6, NULL, &again, &err), &err);
    again->ops->origins(again, w.origins, CELLS);
    assert_ok(read_file(path_of("older"), again, &err), &err);
    float plain[N], y[8];
    assert_ok(again->ops->encode(again, w.x, N, w.from, NULL, w.code, plain, &err), &err);
    assert_memory_not_equal(plain, factor, sizeof factor);
    for (size_t i = 0; i < N; i++) {
        const float *c = w.origins + w.which[i] * 8;
        double expected = 0;
        again->ops->decode(again, w.code + i * again->code_size, NULL, NULL, y);
        for (size_t d = 0; d < 8; d++) expected += (double)y[d] * ((double)y[d] + 2 * (double)c[d]);
        assert_true(fabs((double)plain[i] - expected) <= 1e-4 * (1 + fabs(expected)));
    }
    ki_codec_free(again);

    /* Another shape, no section, numbers that are none. */
    const struct {
        const char *section;
        size_t n, bad;
        kith_status status;
    } cases[] = {{"codec.codebooks", 256, 256, KITH_OK},      {"codec.codebooks", 255, 255, KITH_CORRUPT},
                 {"codec.codebooks", 257, 257, KITH_CORRUPT}, {"codec.codebooks", 0, 0, KITH_CORRUPT},
                 {"other.codebooks", 256, 256, KITH_CORRUPT}, {"codec.codebooks", 256, 200, KITH_CORRUPT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float books[257] = {0};
        if (cases[i].bad < cases[i].n) books[cases[i].bad] = NAN;
        write_file(path_of("hostile"), NULL, cases[i].section, books, cases[i].n);
        assert_ok(ki_codec_pq_create(8, 4, 5, KITH_L2SQ, 1, 6, NULL, &again, &err), &err);
        assert_int_equal(read_file(path_of("hostile"), again, &err), cases[i].status);
        assert_int_equal(again->trained, cases[i].status == KITH_OK);
        ki_codec_free(again);
    }
    ki_codec_free(codec);
    world_clear(&w);
}

/* ---- Lower bounds ---- */

/* No row is nearer than its bound, whether it or the query lies far outside of what the codec was trained for; and the bounds of the
 * others are of use. */
static void lower_bounds_case(ki_codec *codec, uint64_t seed)
{
    kith_error err;
    ki_scorer *scorer;
    world w;
    float bound[N];
    double nearness = 0, within = 0;
    world_init(&w, codec, seed);
    train(codec, &w, NULL);
    for (size_t i = 0; i < N; i += 5) /* outliers, in some components and in all */
        for (size_t d = i % 2; d < w.dim; d += 1 + i % 3) w.x[i * w.dim + d] *= i % 4 ? 40 : 3e6f;
    assert_ok(codec->ops->encode(codec, w.x, N, w.from, NULL, w.code, w.factor, &err), &err);
    assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
    for (size_t round = 0; round < 8; round++) {
        const float *query = round % 4 == 3 ? w.x + round * 5 * w.dim : w.query; /* a row: an outlier */
        if (round == 5)
            for (size_t d = 0; d < w.dim; d += 2) w.query[d] *= 60;
        scorer->ops->query(scorer, query);
        for (size_t cell = 0; cell < (codec->residual ? CELLS : 1); cell++) {
            const float *origin = w.origins + cell * w.dim;
            if (codec->residual)
                scorer->ops->rebase(scorer, origin, (float)pair(KITH_L2SQ, query, origin, w.dim));
            scorer->ops->bound(scorer, w.codes, NULL, N, INFINITY, bound);
            for (size_t i = 0; i < N; i++) {
                double truth = pair(KITH_L2SQ, query, w.x + i * w.dim, w.dim);
                if (codec->residual && w.which[i] != cell) continue;
                if (!((double)bound[i] <= truth))
                    fail_msg("row %zu: %.9g, bound %.9g", i, truth, (double)bound[i]);
                if (round > 2 || i % 5 == 0) continue;
                nearness += sqrt((double)bound[i]) / sqrt(truth);
                within++;
            }
        }
    }
    if (!(nearness / within > 0.9)) fail_msg("bounds are %.3f of the distances", nearness / within);
    ki_scorer_free(scorer);
    world_clear(&w);
    ki_codec_free(codec);
}

/* Queries whose weights are all rounded the same way, of many components. */
static void equal_weights_case(void)
{
    enum { DIM = 1024 };
    kith_error err;
    ki_codec *codec;
    ki_scorer *scorer;
    ki_rng rng;
    float *x = malloc(N * DIM * sizeof *x), query[DIM], bound[N];
    ki_rng_init(&rng, test_seed(), 1);
    for (size_t i = 0; i < N * DIM; i++) x[i] = (float)(i % 97 == 0 ? 0 : 250 + ki_rng_below(&rng, 6));
    assert_ok(ki_codec_sq_create(DIM, 8, KITH_L2SQ, 0, NULL, &codec, &err), &err);
    assert_ok(codec->ops->train(codec, x, N, 1, NULL, &err), &err);
    uint8_t *code = malloc(N * codec->code_size);
    assert_ok(codec->ops->encode(codec, x, N, (ki_origins){NULL, NULL}, NULL, code, NULL, &err), &err);
    assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
    for (int step = 0; step < 40; step++) {
        for (size_t d = 0; d < DIM; d++) query[d] = d == 0 ? 255 : 254.2f + (float)step * 0.017f;
        scorer->ops->query(scorer, query);
        scorer->ops->bound(scorer, (ki_codes){code, NULL}, NULL, N, INFINITY, bound);
        for (size_t i = 0; i < N; i++)
            assert_true((double)bound[i] <= pair(KITH_L2SQ, query, x + i * DIM, DIM));
    }
    ki_scorer_free(scorer);
    ki_codec_free(codec);
    free(code), free(x);
}

/* Rows whose scores overflow or vanish may be anywhere: their bounds say so. */
static void extreme_case(ki_codec *codec, float size)
{
    kith_error err;
    ki_scorer *scorer;
    world w;
    float bound[N];
    world_init(&w, codec, test_seed());
    for (size_t i = 0; i < N * w.dim; i++) w.x[i] *= size;
    train(codec, &w, NULL);
    assert_ok(codec->ops->encode(codec, w.x, N, w.from, NULL, w.code, w.factor, &err), &err);
    assert_ok(codec->ops->scorer(codec, NULL, &scorer, &err), &err);
    for (size_t q = 0; q < 20; q++) {
        scorer->ops->query(scorer, w.x + q * w.dim);
        scorer->ops->bound(scorer, w.codes, NULL, N, INFINITY, bound);
        for (size_t i = 0; i < N; i++)
            assert_true((double)bound[i] <= pair(KITH_L2SQ, w.x + q * w.dim, w.x + i * w.dim, w.dim));
    }
    ki_scorer_free(scorer);
    world_clear(&w);
    ki_codec_free(codec);
}

static void test_lower_bounds(void **state)
{
    (void)state;
    static const size_t dims[] = {8, 15, 48, 130};
    static const float sizes[] = {1e-25f, 1e-18f, 1e17f, 1e18f, 1e19f};
    kith_error err;
    ki_codec *codec;
    equal_weights_case();
    for (size_t i = 0; i < 5; i++) {
        assert_ok(ki_codec_f16_create(16, KITH_L2SQ, NULL, &codec, &err), &err);
        extreme_case(codec, sizes[i]);
        assert_ok(ki_codec_sq_create(16, 8, KITH_L2SQ, 0, NULL, &codec, &err), &err);
        extreme_case(codec, sizes[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        for (int residual = 0; residual < 2; residual++) {
            assert_ok(ki_codec_sq_create(dims[i], 8, KITH_L2SQ, residual, NULL, &codec, &err), &err);
            lower_bounds_case(codec, test_seed() + i);
        }
        assert_ok(ki_codec_f16_create(dims[i], KITH_L2SQ, NULL, &codec, &err), &err);
        lower_bounds_case(codec, test_seed() + i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores), cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_bounds), cmocka_unit_test(test_wide_codes),
        cmocka_unit_test(test_loss),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_files),  cmocka_unit_test(test_lower_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
