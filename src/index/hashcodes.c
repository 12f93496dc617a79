/* hashcodes.c - learned hashes as codecs: RH<b>, PCAH<b>, ITQ<b>, SH<b> (kith/hashing.h has the methods).
 *
 * A row is kept as b bits. A query is hashed too, and its distance to a row is estimated from the number h of bits that
 * differ: a + c h, in the units of the metric, where the line is the least-squares fit over pairs of training rows (c > 0,
 * so nothing changes in the order of the answers; for L2 and L1, which are never below 0, a >= 0 too). As with every
 * codec, any structure may hold the codes (ITQ64 is the scan of them, IVF256,ITQ64 looks into cells), and a
 * refinement (ITQ64,RFlat) compares the best candidates again by the vectors.
 *
 * Sections, under the codec's prefix: ".line" (record), ".mean", ".w", ".frequency", ".low", ".scale".
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <kith/hashing.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/run.h"
#include "hash/hasher.h"
#include "index/family.h"

#define TRAIN_ROWS 20000 /* mean, covariance and rotation of more are the same to three digits */
#define LINE_ROWS 512    /* all pairs of so many rows make the line */
#define COUNT_BLOCK 256  /* counts kept on the stack */

typedef struct hash_codec {
    ki_codec base;
    const ki_kernels *kernels;
    kith_hash_method method;
    size_t bits, iterations;
    double whitening;
    kith_hasher *hasher; /* NULL: untrained */
    double offset, slope;
} hash_codec;

typedef struct hash_scorer {
    ki_scorer base;
    float *projection; /* [bits] */
    uint8_t query[];   /* [code_size] */
} hash_scorer;

/* ---- scorer ---- */

static void scorer_free(ki_scorer *scorer)
{
    ki_free(scorer->allocator, ((hash_scorer *)scorer)->projection);
    ki_free(scorer->allocator, scorer);
}

static void scorer_query(ki_scorer *scorer, const float *query)
{
    hash_scorer *s = (hash_scorer *)scorer;
    ki_hasher_encode_row(((const hash_codec *)scorer->codec)->hasher, query, s->projection, s->query);
}

static void scorer_row(ki_scorer *scorer, const uint8_t *code, const float *factor, const float *origin)
{
    (void)factor, (void)origin;
    memcpy(((hash_scorer *)scorer)->query, code, scorer->codec->code_size);
}

static void scorer_score(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst,
                         float *out)
{
    (void)worst;
    const hash_scorer *s = (const hash_scorer *)scorer;
    const hash_codec *c = (const hash_codec *)scorer->codec;
    size_t size = c->base.code_size;
    float offset = (float)c->offset, slope = (float)c->slope;
    uint32_t count[COUNT_BLOCK];
    for (size_t first = 0; first < n; first += COUNT_BLOCK) {
        size_t block = n - first < COUNT_BLOCK ? n - first : COUNT_BLOCK;
        if (rows)
            c->kernels->hamming_gather(s->query, codes.code, size, rows + first, block, size, count);
        else
            c->kernels->hamming_rows(s->query, codes.code + first * size, block, size, count);
        for (size_t i = 0; i < block; i++) out[first + i] = offset + slope * (float)(int32_t)count[i];
    }
}

static const ki_scorer_ops hash_scorer_ops = {
    .free = scorer_free, .query = scorer_query, .row = scorer_row, .score = scorer_score};

static kith_status make_scorer(const ki_codec *codec, const kith_allocator *allocator, ki_scorer **out,
                               kith_error *err)
{
    const hash_codec *c = (const hash_codec *)codec;
    size_t bytes = sizeof(hash_scorer) + codec->code_size;
    hash_scorer *s = ki_alloc_zero(allocator, 1, bytes);
    *out = NULL;
    if (!s) return ki_fail_nomem(err, bytes);
    s->base = (ki_scorer){&hash_scorer_ops, codec, allocator};
    s->projection = ki_alloc(allocator, c->bits, sizeof *s->projection);
    if (!s->projection) {
        ki_free(allocator, s);
        return ki_fail_nomem(err, c->bits * sizeof *s->projection);
    }
    *out = &s->base;
    return KITH_OK;
}

/* ---- training ---- */

static void codec_free(ki_codec *codec)
{
    kith_hasher_free(((hash_codec *)codec)->hasher);
    ki_free(codec->allocator, codec);
}

/* The line from pairs (h, d) by their sums. Distances of L2 and L1 are not below 0, so the line is not either; where
 * distances do not grow with h (rows without a pattern), a slope as good as flat keeps the order. */
static void fit(hash_codec *c, double n, double h, double d, double hh, double hd)
{
    double spread = n * hh - h * h;
    c->slope = n > 0 && spread > 0 ? (n * hd - h * d) / spread : 0;
    c->offset = n > 0 ? (d - c->slope * h) / n : 0;
    if (c->base.metric != KITH_DOT && c->offset < 0) {
        c->slope = hh > 0 ? hd / hh : 0;
        c->offset = 0;
    }
    if (!(c->slope > 1e-6 * fabs(c->offset)) || !isfinite(c->slope)) /* float32 tells a + c h apart */
        c->slope = c->offset != 0 && isfinite(c->offset) ? 1e-6 * fabs(c->offset) : 1;
    if (!isfinite(c->offset)) c->offset = 0;
}

/* Measure the line on all pairs of some rows spread over x. */
static kith_status measure_line(hash_codec *c, const float *x, size_t n, kith_error *err)
{
    size_t count = n < LINE_ROWS ? n : LINE_ROWS, step = n / count, dim = c->base.dim,
           size = c->base.code_size;
    uint8_t *codes = ki_alloc(c->base.allocator, count, size);
    float *projection = ki_alloc(c->base.allocator, c->bits, sizeof *projection);
    double pairs = 0, h = 0, d = 0, hh = 0, hd = 0;
    if (!codes || !projection) {
        ki_free(c->base.allocator, codes);
        ki_free(c->base.allocator, projection);
        return ki_fail_nomem(err, count * size);
    }
    for (size_t i = 0; i < count; i++)
        ki_hasher_encode_row(c->hasher, x + i * step * dim, projection, codes + i * size);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++) {
            double differing = c->kernels->hamming(codes + i * size, codes + j * size, size);
            double distance =
                (double)ki_distance(c->kernels, c->base.metric, x + i * step * dim, x + j * step * dim, dim);
            pairs++;
            h += differing;
            d += distance;
            hh += differing * differing;
            hd += differing * distance;
        }
    fit(c, pairs, h, d, hh, hd);
    ki_free(c->base.allocator, codes);
    ki_free(c->base.allocator, projection);
    return KITH_OK;
}

static kith_status train(ki_codec *codec, const float *x, size_t n, uint64_t seed, const kith_run *run,
                         kith_error *err)
{
    hash_codec *c = (hash_codec *)codec;
    kith_hasher_options options;
    kith_hasher_options_init(&options);
    options.method = c->method;
    options.iterations = c->iterations;
    options.whitening = c->whitening;
    options.seed = seed;
    options.allocator = codec->allocator;
    kith_hasher_free(c->hasher);
    c->hasher = NULL;
    codec->trained = 0;
    KI_TRY(ki_run_check(run, err));
    KI_TRY(kith_hasher_learn(x, n, codec->dim, c->bits, &options, run, &c->hasher, err));
    KI_TRY(measure_line(c, x, n, err));
    codec->trained = 1;
    return KITH_OK;
}

/* ---- codes ---- */

static kith_status encode(const ki_codec *codec, const float *x, size_t n, ki_origins from,
                          const kith_run *run, uint8_t *code, float *factor, kith_error *err)
{
    (void)from, (void)factor;
    return kith_hasher_encode(((const hash_codec *)codec)->hasher, x, n, ki_run_pool(run), code, err);
}

static void decode(const ki_codec *codec, const uint8_t *code, const float *factor, const float *origin,
                   float *out)
{
    (void)factor, (void)origin;
    kith_hasher_decode(((const hash_codec *)codec)->hasher, code, 1, out);
}

static kith_status check(const ki_codec *codec, ki_codes codes, size_t n, int deep, kith_error *err)
{
    size_t bits = ((const hash_codec *)codec)->bits;
    for (size_t i = 0; i < n && bits % 8 && deep; i++)
        if (codes.code[(i + 1) * codec->code_size - 1] >> bits % 8)
            return ki_fail(err, KITH_CORRUPT, "row %zu has bits set beyond its %zu", i, bits);
    return KITH_OK;
}

/* ---- save and load ---- */

/* What was learned: name, array, floats of one element, elements. */
typedef struct part {
    const char *name;
    float *data;
    size_t width, n;
} part;

enum { PARTS = 5 };

static void parts_of(const kith_hasher *h, part parts[PARTS])
{
    parts[0] = (part){"mean", h->mean, 1, h->dim};
    parts[1] = (part){"w", h->w, h->dim, h->bits};
    parts[2] = (part){"frequency", h->frequency, 1, h->bits};
    parts[3] = (part){"low", h->low, 1, h->bits};
    parts[4] = (part){"scale", h->scale, 1, h->bits};
}

static kith_status save(const ki_codec *codec, const char *prefix, ki_store_writer *writer, kith_error *err)
{
    const hash_codec *c = (const hash_codec *)codec;
    char name[KI_STORE_NAME_BYTES];
    part parts[PARTS];
    ki_record record;
    ki_record_init(&record, codec->allocator);
    ki_record_put_f64(&record, "offset", c->offset);
    ki_record_put_f64(&record, "slope", c->slope);
    snprintf(name, sizeof name, "%s.line", prefix);
    kith_status status = ki_store_put_record(writer, name, &record, err);
    ki_record_clear(&record);
    parts_of(c->hasher, parts);
    for (size_t i = 0; i < PARTS && status == KITH_OK; i++) {
        snprintf(name, sizeof name, "%s.%s", prefix, parts[i].name);
        status = ki_store_put(writer, name, parts[i].data, parts[i].n, parts[i].width * sizeof(float), err);
    }
    return status;
}

static kith_status load_parts(const hash_codec *c, kith_hasher *h, const char *prefix, ki_store *store,
                              kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    part parts[PARTS];
    parts_of(h, parts);
    for (size_t i = 0; i < PARTS; i++) {
        snprintf(name, sizeof name, "%s.%s", prefix, parts[i].name);
        KI_TRY(ki_store_load(store, name, parts[i].n, parts[i].width * sizeof(float), parts[i].data, err));
        if (!c->kernels->finite_f32(parts[i].data, parts[i].n * parts[i].width))
            return ki_fail(err, KITH_CORRUPT, "%s: section %s holds NaN or infinity", ki_store_path(store),
                           name);
    }
    return ki_hasher_ready(h, err);
}

static kith_status load(ki_codec *codec, const char *prefix, ki_store *store, kith_error *err)
{
    hash_codec *c = (hash_codec *)codec;
    char name[KI_STORE_NAME_BYTES];
    ki_record_view record;
    uint64_t held; /* before anything is allocated: whether the file holds so much */
    snprintf(name, sizeof name, "%s.w", prefix);
    KI_TRY(ki_store_count(store, name, codec->dim * sizeof(float), &held, err));
    if (held != c->bits)
        return ki_fail(err, KITH_CORRUPT, "%s: %llu projections for %zu bits", ki_store_path(store),
                       (unsigned long long)held, c->bits);
    snprintf(name, sizeof name, "%s.line", prefix);
    KI_TRY(ki_store_record_open(store, name, &record, err));
    KI_TRY(ki_record_get_f64(&record, "offset", -FLT_MAX, FLT_MAX, &c->offset, err));
    KI_TRY(ki_record_get_f64(&record, "slope", 0, FLT_MAX, &c->slope, err));
    kith_hasher *h;
    KI_TRY(ki_hasher_create(codec->dim, c->bits, c->method, codec->allocator, &h, err));
    kith_status status = load_parts(c, h, prefix, store, err);
    if (status != KITH_OK) {
        kith_hasher_free(h);
        return status;
    }
    kith_hasher_free(c->hasher);
    c->hasher = h;
    codec->trained = 1;
    return KITH_OK;
}

/* ---- what specs name ---- */

static const ki_codec_ops hash_ops = {.name = "hash",
                                      .free = codec_free,
                                      .train = train,
                                      .encode = encode,
                                      .decode = decode,
                                      .scorer = make_scorer,
                                      .save = save,
                                      .load = load,
                                      .check = check};

static kith_status make(kith_hash_method method, size_t bits, size_t iterations, double whitening, size_t dim,
                        kith_metric metric, const kith_allocator *allocator, ki_codec **out, kith_error *err)
{
    *out = NULL;
    if ((method == KITH_HASH_PCAH || method == KITH_HASH_ITQ) && bits > dim)
        return ki_fail(err, KITH_INVALID, "spec: b of %s is %zu, allowed 1..%zu: a bit for each component",
                       method == KITH_HASH_ITQ ? "ITQ<b>" : "PCAH<b>", bits, dim);
    hash_codec *c = ki_alloc_zero(allocator, 1, sizeof *c);
    if (!c) return ki_fail_nomem(err, sizeof *c);
    c->kernels = ki_kernels_get();
    c->method = method;
    c->bits = bits;
    c->iterations = iterations;
    c->whitening = whitening;
    c->base = (ki_codec){.ops = &hash_ops,
                         .allocator = allocator,
                         .dim = dim,
                         .metric = metric,
                         .code_size = kith_bit_bytes(bits)};
    *out = &c->base;
    return KITH_OK;
}

static size_t train_rows(const uint64_t *args)
{
    (void)args;
    return TRAIN_ROWS;
}

/* One function a method: the front door does not say which part it asks. */
#define MAKE(name, method, iterations, whitening)                                                        \
    static kith_status make_##name(const uint64_t *args, const double *params, size_t dim,               \
                                   kith_metric metric, int residual, const kith_allocator *allocator,    \
                                   ki_codec **codec, kith_error *err)                                    \
    {                                                                                                    \
        (void)params, (void)residual;                                                                    \
        return make(method, (size_t)args[0], iterations, whitening, dim, metric, allocator, codec, err); \
    }
MAKE(rh, KITH_HASH_RANDOM, 1, 0)
MAKE(pcah, KITH_HASH_PCAH, 1, 0)
MAKE(itq, KITH_HASH_ITQ, (size_t)params[0], params[1])
MAKE(sh, KITH_HASH_SPECTRAL, 1, 0)

static const kith_param_info itq_params[] = {
    {"itq_iterations", KITH_PARAM_INT, KITH_AT_BUILD, 1, 1000, 50,
     "turns of rotation and sign in the training of ITQ; most of the gain comes in the first ten"},
    {"itq_whitening", KITH_PARAM_FLOAT, KITH_AT_BUILD, 0, 1, 0.5,
     "power of the standard deviation by which ITQ divides each component first: 0 the paper's way, 1 equal "
     "weights"},
};

const ki_codec_part ki_codec_part_rh = {
    .part = {.info = {.pattern = "RH<b>",
                      .about = "codec: b bits, signs of random projections; the baseline of learned hashes"},
             .args = {{"b", 1, KITH_HASH_MAX_BITS, 0}}},
    .metrics = KI_FLOAT_METRICS,
    .make = make_rh,
    .train_rows = train_rows,
};

const ki_codec_part ki_codec_part_pcah = {
    .part =
        {.info = {.pattern = "PCAH<b>",
                  .about =
                      "codec: b bits, signs of the b principal components; ITQ is better at the same size"},
         .args = {{"b", 1, KITH_HASH_MAX_BITS, 0}}},
    .metrics = KI_FLOAT_METRICS,
    .make = make_pcah,
    .train_rows = train_rows,
};

const ki_codec_part ki_codec_part_itq = {
    .part = {.info = {.pattern = "ITQ<b>",
                      .about =
                          "codec: b bits by iterative quantisation, the rotation of the principal components "
                          "whose signs lose least; b / 8 bytes a row, the fastest scan there is",
                      .params = itq_params,
                      .n_params = sizeof itq_params / sizeof *itq_params},
             .args = {{"b", 1, KITH_HASH_MAX_BITS, 0}}},
    .metrics = KI_FLOAT_METRICS,
    .make = make_itq,
    .train_rows = train_rows,
};

const ki_codec_part ki_codec_part_sh = {
    .part = {.info = {.pattern = "SH<b>",
                      .about =
                          "codec: b bits by spectral hashing, several a component where it is wide; for more "
                          "bits than components"},
             .args = {{"b", 1, KITH_HASH_MAX_BITS, 0}}},
    .metrics = KI_FLOAT_METRICS,
    .make = make_sh,
    .train_rows = train_rows,
};
