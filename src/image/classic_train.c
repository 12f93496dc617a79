/* Training of CLASSIC: samples of pictures in, codebooks and joint projection out.
 *
 * A sample holds some of a picture's local descriptors, drawn at random, and its histogram. The codebooks are
 * learnt from the descriptors of all samples; then each sample is made into a joint vector as if it were a
 * whole picture, and the principal directions of these are the projection. That a sample has a seventh of the
 * picture's descriptors makes its vector noisy, but not the directions: mAP on Corel-1k is the same as with all
 * descriptors (docs/quality.md), and the picture is decoded once.
 *
 * There are more components (KI_JOINT_DIM) than samples, so the directions come from the n x n matrix of inner
 * products T T' of the centred vectors T[n][KI_JOINT_DIM]: if u is its eigenvector for s^2, T' u / s is
 * the direction. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/run.h"
#include "image/classic_parts.h"
#include "image/eigen.h"

enum {
    SAMPLE_MAGIC = 0x6c706d73, /* "smpl" */
    SAMPLE_GRADIENTS = 512,
    SAMPLE_COLOURS = 192,
    CODEBOOK_POINTS = 16384, /* 256 a word */
    GRAM_ROWS = 8,           /* rows of the product matrix a block */
    PROJECTION_ROWS = 64     /* rows of the projection a block */
};

/* Scale of direction k: (lambda_k / lambda_1) to this power. 0 would be plain PCA, -0.5 whitening. On Corel-1k
 * mAP rises up to 0.25 and falls after 0.4; what tells copies apart loses slowly. */
static const double emphasis = 0.15;

/* Directions with less than this share of the largest variance are rounding noise. */
static const double least_share = 1e-7;

/* A sample travels between processes of one machine: native byte order, checked for size and range. */
typedef struct sample_header {
    uint32_t magic, n_gradients, n_colours, reserved;
} sample_header;

static const float gradient_quantum = 255 / 1.5f; /* folded components are at most sqrt(2) */
static const float colour_quantum = 65535 / 1.5f;

static size_t sample_size(size_t n_gradients, size_t n_colours)
{
    return sizeof(sample_header) + KI_HISTOGRAM_DIM * sizeof(float) +
           n_colours * KI_COLOUR_DIM * sizeof(uint16_t) + n_gradients * KI_GRADIENT_DIM;
}

kith_status ki_classic_sample(const ki_local *local, uint64_t seed, const kith_allocator *allocator,
                              uint8_t **sample, size_t *size, kith_error *err)
{
    uint64_t picked[SAMPLE_GRADIENTS];
    size_t n_gradients = local->n_gradients < SAMPLE_GRADIENTS ? local->n_gradients : SAMPLE_GRADIENTS;
    size_t n_colours = local->n_colours < SAMPLE_COLOURS ? local->n_colours : SAMPLE_COLOURS;
    sample_header header = {SAMPLE_MAGIC, (uint32_t)n_gradients, (uint32_t)n_colours, 0};
    *size = sample_size(n_gradients, n_colours);
    *sample = ki_alloc(allocator, *size, 1);
    if (!*sample) return ki_fail_nomem(err, *size);

    uint8_t *p = *sample;
    memcpy(p, &header, sizeof header);
    p += sizeof header;
    memcpy(p, local->histogram, sizeof local->histogram);
    p += sizeof local->histogram;
    ki_rng rng;
    ki_rng_init(&rng, seed, 0);
    ki_rng_sample(&rng, local->n_colours, n_colours, picked);
    for (size_t i = 0; i < n_colours; i++)
        for (size_t d = 0; d < KI_COLOUR_DIM; d++, p += 2) {
            uint16_t level =
                (uint16_t)(local->colours[picked[i] * KI_COLOUR_DIM + d] * colour_quantum + 0.5f);
            memcpy(p, &level, 2);
        }
    ki_rng_sample(&rng, local->n_gradients, n_gradients, picked);
    for (size_t i = 0; i < n_gradients; i++)
        for (size_t d = 0; d < KI_GRADIENT_DIM; d++)
            *p++ = (uint8_t)(local->gradients[picked[i] * KI_GRADIENT_DIM + d] * gradient_quantum + 0.5f);
    return KITH_OK;
}

/* Check a sample's header against its size, and its histogram. */
static kith_status check_sample(const uint8_t *sample, size_t size, size_t i, sample_header *header,
                                kith_error *err)
{
    float histogram[KI_HISTOGRAM_DIM];
    int good = size >= sample_size(0, 0);
    if (good) {
        memcpy(header, sample, sizeof *header);
        good = header->magic == SAMPLE_MAGIC && header->n_gradients <= SAMPLE_GRADIENTS &&
               header->n_colours <= SAMPLE_COLOURS &&
               size == sample_size(header->n_gradients, header->n_colours);
    }
    if (good) {
        memcpy(histogram, sample + sizeof *header, sizeof histogram);
        for (size_t b = 0; b < KI_HISTOGRAM_DIM; b++) good &= histogram[b] >= 0 && histogram[b] <= 1;
    }
    return good ? KITH_OK : ki_fail(err, KITH_CORRUPT, "training sample %zu is damaged", i);
}

/* One descriptor of a sample as floats. */
static void read_colour(const uint8_t *sample, size_t i, float *out)
{
    const uint8_t *p = sample + sample_size(0, i);
    for (size_t d = 0; d < KI_COLOUR_DIM; d++) {
        uint16_t level;
        memcpy(&level, p + 2 * d, 2);
        out[d] = (float)level / colour_quantum;
    }
}

static void read_gradient(const uint8_t *sample, size_t n_colours, size_t i, float *out)
{
    const uint8_t *p = sample + sample_size(i, n_colours);
    for (size_t d = 0; d < KI_GRADIENT_DIM; d++) out[d] = (float)p[d] / gradient_quantum;
}

/* Everything that training holds. */
typedef struct trainer {
    const uint8_t *const *samples;
    sample_header *headers; /* [n] */
    size_t n;
    uint64_t seed;
    const kith_allocator *allocator;
    const kith_run *run;
    kith_error *err;
    ki_classic *out;
    float *joint;        /* [n][KI_JOINT_DIM], later centred */
    double *mean;        /* [KI_JOINT_DIM] */
    float *by_component; /* [KI_JOINT_DIM][n]: joint, transposed */
    double *gram;        /* [n][n] */
    double *values;      /* [KI_CLASSIC_MAX_DIM] */
    double *vectors;     /* [KI_CLASSIC_MAX_DIM][n] */
    ki_local *scratch;   /* one a worker */
} trainer;

/* Learn one codebook from at most CODEBOOK_POINTS descriptors, drawn from all samples alike. */
static kith_status train_codebook(trainer *t, int colours, float *block)
{
    size_t dim = colours ? KI_COLOUR_DIM : KI_GRADIENT_DIM, low = colours ? KI_COLOUR_LOW : KI_GRADIENT_LOW;
    size_t total = 0, row = 0, next = 0;
    for (size_t i = 0; i < t->n; i++) total += colours ? t->headers[i].n_colours : t->headers[i].n_gradients;
    size_t points = total < CODEBOOK_POINTS ? total : CODEBOOK_POINTS;
    if (total < 32 * KI_VLAD_WORDS)
        return ki_fail(t->err, KITH_UNTRAINED, "the pictures have too little detail to train on");
    uint64_t *picked = ki_alloc(t->allocator, points, sizeof *picked);
    float *x = ki_alloc(t->allocator, points * dim, sizeof *x);
    kith_status status = KITH_OK;
    if (!picked || !x)
        status = ki_fail_nomem(t->err, points * dim * sizeof *x);
    else {
        ki_rng rng;
        ki_rng_init(&rng, t->seed, 1 + (uint64_t)colours);
        ki_rng_sample(&rng, total, points, picked);
        for (size_t i = 0; i < t->n; i++) {
            size_t has = colours ? t->headers[i].n_colours : t->headers[i].n_gradients;
            for (; next < points && picked[next] < row + has; next++) {
                if (colours)
                    read_colour(t->samples[i], picked[next] - row, x + next * dim);
                else
                    read_gradient(t->samples[i], t->headers[i].n_colours, picked[next] - row, x + next * dim);
            }
            row += has;
        }
        status = ki_codebook_train(x, points, dim, low, t->seed, t->allocator, t->run, block, t->err);
    }
    ki_free(t->allocator, picked);
    ki_free(t->allocator, x);
    return status;
}

/* The joint vector of one sample. */
static void join_block(void *ctx, size_t i, size_t worker)
{
    trainer *t = ctx;
    ki_local *local = t->scratch + worker;
    const sample_header *header = t->headers + i;
    local->n_gradients = header->n_gradients;
    local->n_colours = header->n_colours;
    memcpy(local->histogram, t->samples[i] + sizeof *header, sizeof local->histogram);
    for (size_t c = 0; c < header->n_colours; c++)
        read_colour(t->samples[i], c, local->colours + c * KI_COLOUR_DIM);
    for (size_t g = 0; g < header->n_gradients; g++)
        read_gradient(t->samples[i], header->n_colours, g, local->gradients + g * KI_GRADIENT_DIM);
    ki_classic_join(t->out, local, t->joint + i * KI_JOINT_DIM);
}

/* The joint vectors of all samples, centred, and their transpose. */
static kith_status join_samples(trainer *t)
{
    size_t workers = kith_pool_threads(ki_run_pool(t->run)), made = 0;
    t->scratch = ki_alloc_zero(t->allocator, workers, sizeof *t->scratch);
    if (!t->scratch) return ki_fail_nomem(t->err, workers * sizeof *t->scratch);
    kith_status status = KITH_OK;
    for (; made < workers && status == KITH_OK; made++) {
        ki_local *local = t->scratch + made;
        local->allocator = t->allocator;
        local->gradients = ki_alloc(t->allocator, SAMPLE_GRADIENTS * KI_GRADIENT_DIM, sizeof(float));
        local->colours = ki_alloc(t->allocator, SAMPLE_COLOURS * KI_COLOUR_DIM, sizeof(float));
        if (!local->gradients || !local->colours)
            status = ki_fail_nomem(t->err, SAMPLE_GRADIENTS * KI_GRADIENT_DIM * sizeof(float));
    }
    if (status == KITH_OK) ki_pool_run(ki_run_pool(t->run), t->n, join_block, t);
    while (made > 0) ki_local_clear(t->scratch + --made);
    ki_free(t->allocator, t->scratch);
    if (status != KITH_OK) return status;

    memset(t->mean, 0, KI_JOINT_DIM * sizeof *t->mean);
    for (size_t i = 0; i < t->n; i++)
        for (size_t d = 0; d < KI_JOINT_DIM; d++) t->mean[d] += t->joint[i * KI_JOINT_DIM + d];
    for (size_t d = 0; d < KI_JOINT_DIM; d++) t->mean[d] /= (double)t->n;
    for (size_t i = 0; i < t->n; i++)
        for (size_t d = 0; d < KI_JOINT_DIM; d++) {
            t->joint[i * KI_JOINT_DIM + d] -= (float)t->mean[d];
            t->by_component[d * t->n + i] = t->joint[i * KI_JOINT_DIM + d];
        }
    return KITH_OK;
}

/* GRAM_ROWS rows of T T', component by component: the inner loop runs over one row of outputs. */
static void gram_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    trainer *t = ctx;
    size_t first = block * GRAM_ROWS, end = first + GRAM_ROWS < t->n ? first + GRAM_ROWS : t->n;
    memset(t->gram + first * t->n, 0, (end - first) * t->n * sizeof *t->gram);
    for (size_t d = 0; d < KI_JOINT_DIM; d++) {
        const float *column = t->by_component + d * t->n;
        for (size_t i = first; i < end; i++) {
            double weight = column[i], *row = t->gram + i * t->n;
            if (weight == 0) continue;
            for (size_t j = 0; j < t->n; j++) row[j] += weight * column[j];
        }
    }
}

/* PROJECTION_ROWS rows of the projection: component d of direction k is sum_i T[i][d] u_k[i] / s_k, scaled. */
static void projection_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    trainer *t = ctx;
    size_t dim = t->out->dim, first = block * PROJECTION_ROWS, end = first + PROJECTION_ROWS;
    if (end > KI_JOINT_DIM) end = KI_JOINT_DIM;
    float *projection = t->out->block + (t->out->projection - t->out->block);
    for (size_t k = 0; k < dim; k++) {
        const double *u = t->vectors + k * t->n;
        double scale = pow(t->values[k] / t->values[0], emphasis) / sqrt(t->values[k]);
        for (size_t d = first; d < end; d++) {
            const float *column = t->by_component + d * t->n;
            double sum[4] = {0};
            for (size_t i = 0; i < t->n; i++) sum[i % 4] += column[i] * u[i];
            projection[d * dim + k] = (float)(((sum[0] + sum[1]) + (sum[2] + sum[3])) * scale);
        }
    }
}

/* The joint projection. Replaces out->block, which so far holds the codebooks alone, by one with room for it. */
static kith_status train_projection(trainer *t)
{
    kith_pool *pool = ki_run_pool(t->run);
    KI_TRY(join_samples(t));
    KI_TRY(ki_run_check(t->run, t->err));
    ki_pool_run(pool, (t->n + GRAM_ROWS - 1) / GRAM_ROWS, gram_block, t);
    KI_TRY(ki_run_check(t->run, t->err));
    size_t most = t->n - 1 < KI_CLASSIC_MAX_DIM ? t->n - 1 : KI_CLASSIC_MAX_DIM, dim = 0;
    KI_TRY(ki_eigen_largest(t->gram, t->n, most, t->allocator, pool, t->values, t->vectors, t->err));
    while (dim < most && t->values[dim] > least_share * t->values[0]) dim++;
    if (dim == 0)
        return ki_fail(t->err, KITH_UNTRAINED, "the pictures are all the same: nothing to train on");

    size_t old = ki_classic_floats(0), floats = ki_classic_floats(dim);
    float *block = ki_realloc(t->allocator, t->out->block, old, floats, sizeof *block);
    if (!block) return ki_fail_nomem(t->err, floats * sizeof *block);
    t->out->block = block;
    t->out->dim = dim;
    ki_classic_lay_out(t->out);
    ki_pool_run(pool, (KI_JOINT_DIM + PROJECTION_ROWS - 1) / PROJECTION_ROWS, projection_block, t);
    float *offset = block + (t->out->offset - block);
    for (size_t k = 0; k < dim; k++) {
        double along = 0;
        for (size_t d = 0; d < KI_JOINT_DIM; d++) along += t->mean[d] * t->out->projection[d * dim + k];
        offset[k] = (float)along;
    }
    return KITH_OK;
}

static kith_status train(trainer *t, const size_t *sizes)
{
    size_t detailed = 0;
    for (size_t i = 0; i < t->n; i++) {
        KI_TRY(check_sample(t->samples[i], sizes[i], i, t->headers + i, t->err));
        detailed += t->headers[i].n_gradients > 0;
    }
    if (detailed < KITH_FEATURES_TRAIN_MIN)
        return ki_fail(t->err, KITH_UNTRAINED, "%zu pictures with detail in them, at least %d are needed",
                       detailed, KITH_FEATURES_TRAIN_MIN);
    ki_stage stage;
    ki_stage_begin(&stage, t->run, "training", 4);
    KI_TRY(train_codebook(t, 0, t->out->block));
    ki_stage_report(&stage, 1);
    KI_TRY(train_codebook(t, 1, t->out->block + ki_codebook_floats(KI_GRADIENT_DIM, KI_GRADIENT_LOW)));
    ki_stage_report(&stage, 2);
    ki_classic_lay_out(t->out);
    KI_TRY(train_projection(t));
    ki_stage_report(&stage, 4);
    t->out->trained = t->n;
    return KITH_OK;
}

kith_status ki_classic_train(const uint8_t *const *samples, const size_t *sizes, size_t n, uint64_t seed,
                             const kith_allocator *allocator, const kith_run *run, ki_classic *out,
                             kith_error *err)
{
    memset(out, 0, sizeof *out);
    if (n < KITH_FEATURES_TRAIN_MIN)
        return ki_fail(err, KITH_UNTRAINED, "%zu pictures to train on, at least %d are needed", n,
                       KITH_FEATURES_TRAIN_MIN);
    if (n > KITH_FEATURES_TRAIN_MAX) n = KITH_FEATURES_TRAIN_MAX;
    trainer t = {
        .samples = samples, .n = n, .seed = seed, .allocator = allocator, .run = run, .err = err, .out = out};
    t.headers = ki_alloc(allocator, n, sizeof *t.headers);
    t.joint = ki_alloc(allocator, n * KI_JOINT_DIM, sizeof *t.joint);
    t.by_component = ki_alloc(allocator, n * KI_JOINT_DIM, sizeof *t.by_component);
    t.mean = ki_alloc(allocator, KI_JOINT_DIM, sizeof *t.mean);
    t.gram = ki_alloc(allocator, n * n, sizeof *t.gram);
    t.values = ki_alloc(allocator, KI_CLASSIC_MAX_DIM, sizeof *t.values);
    t.vectors = ki_alloc(allocator, KI_CLASSIC_MAX_DIM * n, sizeof *t.vectors);
    out->block = ki_alloc(allocator, ki_classic_floats(0), sizeof *out->block);
    kith_status status = KITH_OK;
    if (!t.headers || !t.joint || !t.by_component || !t.mean || !t.gram || !t.values || !t.vectors ||
        !out->block)
        status = ki_fail_nomem(err, n * KI_JOINT_DIM * sizeof *t.joint);
    else
        status = train(&t, sizes);
    ki_free(allocator, t.headers);
    ki_free(allocator, t.joint);
    ki_free(allocator, t.by_component);
    ki_free(allocator, t.mean);
    ki_free(allocator, t.gram);
    ki_free(allocator, t.values);
    ki_free(allocator, t.vectors);
    if (status != KITH_OK) ki_classic_clear(out, allocator);
    return status;
}
