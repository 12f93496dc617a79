/* codecs.c - how spec strings name transforms, codecs and refinements. They themselves are in src/quant. */
#include "index/family.h"

/* ---- Flat: float32 as it is ---- */

static kith_status make_f32(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                            int residual, const kith_allocator *allocator, ki_codec **codec, kith_error *err)
{
    (void)args, (void)params, (void)residual;
    return ki_codec_f32_create(dim, metric, allocator, codec, err);
}

const ki_codec_part ki_codec_part_f32 = {
    .part = {.info = {.pattern = "Flat",
                      .about = "codec: float32 rows as they are; exact distances, 4 bytes a component"}},
    .metrics = KI_FLOAT_METRICS,
    .exact = 1,
    .make = make_f32,
};

/* ---- Bits as they are: the codec of structures over bits, which no spec names ---- */

static kith_status make_bits(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                             int residual, const kith_allocator *allocator, ki_codec **codec, kith_error *err)
{
    (void)args, (void)params, (void)metric, (void)residual;
    return ki_codec_bits_create(dim, allocator, codec, err);
}

const ki_codec_part ki_codec_part_bits = {
    .part = {.info = {.pattern = "Bits", .about = "codec: bits as they are"}},
    .metrics = KI_METRIC_BIT(KITH_HAMMING),
    .exact = 1,
    .make = make_bits,
};

/* ---- F16, SQ8, SQ4 ---- */

static kith_status make_f16(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                            int residual, const kith_allocator *allocator, ki_codec **codec, kith_error *err)
{
    (void)args, (void)params, (void)residual;
    return ki_codec_f16_create(dim, metric, allocator, codec, err);
}

const ki_codec_part ki_codec_part_f16 = {
    .part = {.info = {.pattern = "F16",
                      .about = "codec: half floats, 2 bytes a component; distances to a thousandth of the "
                               "vector's length"}},
    .metrics = KI_FLOAT_METRICS,
    .fine = 16,
    .make = make_f16,
};

static kith_status make_sq8(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                            int residual, const kith_allocator *allocator, ki_codec **codec, kith_error *err)
{
    (void)args, (void)params;
    return ki_codec_sq_create(dim, 8, metric, residual, allocator, codec, err);
}

static kith_status make_sq4(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                            int residual, const kith_allocator *allocator, ki_codec **codec, kith_error *err)
{
    (void)args, (void)params;
    return ki_codec_sq_create(dim, 4, metric, residual, allocator, codec, err);
}

/* Two numbers a component are learned: more rows change them by less than their rounding. */
static size_t sq_train_rows(const uint64_t *args)
{
    (void)args;
    return (size_t)1 << 15;
}

/* Rows of bytes are exact in SQ8 as they are, and no longer once a centroid is taken from them; others are within a
 * five-hundredth of the range already. So only SQ4 takes residuals. */
const ki_codec_part ki_codec_part_sq8 = {
    .part = {.info = {.pattern = "SQ8",
                      .about = "codec: a byte a component on a trained range; bytes are kept exactly"}},
    .metrics = KI_FLOAT_METRICS,
    .fine = 8,
    .make = make_sq8,
    .train_rows = sq_train_rows,
};

const ki_codec_part ki_codec_part_sq4 = {
    .part = {.info = {.pattern = "SQ4",
                      .about = "codec: half a byte a component on a trained range, of residuals in cells"}},
    .metrics = KI_FLOAT_METRICS,
    .residual = 1,
    .make = make_sq4,
    .train_rows = sq_train_rows,
};

/* ---- PQ ---- */

static const kith_param_info pq_params[] = {
    {"pq_iterations", KITH_PARAM_INT, KITH_AT_BUILD, 1, 1000, 25,
     "k-means iterations in the training of each product-quantiser codebook"},
};

static kith_status make_pq(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                           int residual, const kith_allocator *allocator, ki_codec **codec, kith_error *err)
{
    return ki_codec_pq_create(dim, (size_t)args[0], (size_t)args[1], metric, residual, (size_t)params[0],
                              allocator, codec, err);
}

/* What kith_pq_train uses: 256 points a centroid are as good as more (kith/kmeans.h has the same number), of few centroids
 * more cost little; a million rows is where training would cost more than it brings. */
static size_t pq_train_rows(const uint64_t *args)
{
    size_t rows = (size_t)256 << args[1], least = (size_t)1 << 15, most = (size_t)1 << 20;
    return rows < least ? least : rows < most ? rows : most;
}

const ki_codec_part ki_codec_part_pq = {
    .part = {.info = {.pattern = "PQ<m>[x<b>]",
                      .about =
                          "codec: product quantisation, m segments of b bits (8 when left out); m * b / 8 "
                          "bytes a row, estimated distances",
                      .params = pq_params,
                      .n_params = sizeof pq_params / sizeof *pq_params},
             .args = {{"m", 1, KITH_MAX_DIM, 0}, {"b", 4, 16, 8}}},
    .metrics = KI_FLOAT_METRICS,
    .residual = 1,
    .make = make_pq,
    .train_rows = pq_train_rows,
};

static kith_status make_pqfs(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                             int residual, const kith_allocator *allocator, ki_codec **codec, kith_error *err)
{
    return ki_codec_pqfs_create(dim, (size_t)args[0], metric, residual, (size_t)params[0], allocator, codec,
                                err);
}

/* As PQ<m>x4. */
static size_t pqfs_train_rows(const uint64_t *args)
{
    (void)args;
    return (size_t)1 << 15;
}

const ki_codec_part ki_codec_part_pqfs = {
    .part = {.info = {.pattern = "PQ<m>x4fs",
                      .about =
                          "codec: product quantisation, m segments of 4 bits in blocks of 32 rows, scanned "
                          "by look-ups in registers; m / 2 bytes a row; in Flat and IVF",
                      .params = pq_params,
                      .n_params = sizeof pq_params / sizeof *pq_params},
             .args = {{"m", 1, KITH_MAX_DIM, 0}}},
    .metrics = KI_FLOAT_METRICS,
    .residual = 1,
    .make = make_pqfs,
    .train_rows = pqfs_train_rows,
};

/* ---- RaBitQ ---- */

static const kith_param_info rabitq_params[] = {
    {"rabitq_epsilon", KITH_PARAM_FLOAT, KITH_AT_BUILD, 0.5, 10, 1.9,
     "how far lower bounds of RaBitQ lie below its estimates, in standard deviations: more is slower and "
     "surer"},
};

static kith_status make_rabitq(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                               int residual, const kith_allocator *allocator, ki_codec **codec,
                               kith_error *err)
{
    return ki_codec_rabitq_create(dim, (size_t)args[0], params[0], metric, residual, allocator, codec, err);
}

const ki_codec_part ki_codec_part_rabitq = {
    .part =
        {.info =
             {.pattern = "RaBitQ[<b>]",
              .about =
                  "codec: a bit a component (b bits, up to 8) after a random rotation; unbiased distances "
                  "with error bounds",
              .params = rabitq_params,
              .n_params = sizeof rabitq_params / sizeof *rabitq_params},
         .args = {{"b", 1, 8, 1}}},
    .metrics = KI_METRIC_BIT(KITH_L2SQ) | KI_METRIC_BIT(KITH_DOT) | KI_METRIC_BIT(KITH_COSINE),
    .residual = 1,
    .make = make_rabitq,
    .train_rows = sq_train_rows,
};

/* ---- Refinements ---- */

static const kith_param_info refine_params[] = {
    {"refine_k", KITH_PARAM_FLOAT, KITH_AT_SEARCH, 1, 10000, 4,
     "the best refine_k * k candidates are compared again with the better copy; without effect where "
     "lower bounds decide (in Flat and IVF: RaBitQ, and under l2 SQ8 and F16)"},
};

const ki_refinement_part ki_refinement_f32 = {
    .part =
        {.info = {.pattern = "RFlat",
                  .about =
                      "refinement: the best candidates compared again with float32 rows; exact distances, "
                      "4 more bytes a component",
                  .params = refine_params,
                  .n_params = sizeof refine_params / sizeof *refine_params}},
    .fine = 32,
    .exact = 1,
    .make = make_f32,
};

const ki_refinement_part ki_refinement_f16 = {
    .part =
        {.info =
             {.pattern = "Refine(F16)",
              .about =
                  "refinement: the best candidates compared again with half floats, 2 more bytes a component",
              .params = refine_params,
              .n_params = sizeof refine_params / sizeof *refine_params}},
    .fine = 16,
    .make = make_f16,
};

const ki_refinement_part ki_refinement_sq8 = {
    .part = {.info = {.pattern = "Refine(SQ8)",
                      .about = "refinement: the best candidates compared again with a byte a component",
                      .params = refine_params,
                      .n_params = sizeof refine_params / sizeof *refine_params}},
    .fine = 8,
    .make = make_sq8,
};

/* ---- Transforms ---- */

#define ROTATABLE (KI_METRIC_BIT(KITH_L2SQ) | KI_METRIC_BIT(KITH_DOT) | KI_METRIC_BIT(KITH_COSINE))

/* Enough for covariances, and what codebooks of 8 bits take. */
#define TRANSFORM_ROWS ((size_t)1 << 16)

static void pca_options(const uint64_t *args, const double *params, ki_transform_options *options)
{
    (void)params;
    options->kind = KI_PCA;
    options->dim_out = (size_t)args[0];
}

const ki_transform_part ki_transform_part_pca = {
    .part =
        {.info = {.pattern = "PCA<d>",
                  .about =
                      "transform: the first d principal components; fewer numbers a row where most of the "
                      "variance is in few directions"},
         .args = {{"d", 1, KITH_MAX_DIM, 0}}},
    .metrics = ROTATABLE,
    .train_rows = TRANSFORM_ROWS,
    .options = pca_options,
};

static void rr_options(const uint64_t *args, const double *params, ki_transform_options *options)
{
    (void)params;
    options->kind = KI_ROTATION;
    options->dim_out = (size_t)args[0];
}

const ki_transform_part ki_transform_part_rr = {
    .part = {.info = {.pattern = "RR<d>",
                      .about =
                          "transform: a random rotation to d components, which spreads variance evenly over "
                          "them; fewer than the rows have: a random projection"},
             .args = {{"d", 1, KITH_MAX_DIM, 0}}},
    .metrics = ROTATABLE,
    .train_rows = 1,
    .options = rr_options,
};

static void hr_options(const uint64_t *args, const double *params, ki_transform_options *options)
{
    (void)args, (void)params;
    options->kind = KI_HADAMARD;
}

const ki_transform_part ki_transform_part_hr = {
    .part =
        {.info = {.pattern = "HR",
                  .about =
                      "transform: a random rotation by signs and Walsh-Hadamard transforms, in dim log dim "
                      "additions; all components are kept"}},
    .metrics = ROTATABLE,
    .train_rows = 1,
    .options = hr_options,
};

/* Not of vectors: the front door makes the fingerprints (ki_input_sets), which are rows of bits from then on. */
const ki_transform_part ki_transform_part_simhash = {
    .part = {.info = {.pattern = "SimHash<b>",
                      .about =
                          "transform: weighted sets to fingerprints of 64 or 128 bits, for a structure over "
                          "bits; alone BMIH4 or BMIH8; near-duplicates"},
             .args = {{"b", 64, 128, 0}}},
    .metrics = KI_METRIC_BIT(KITH_HAMMING),
    .fingerprint = 1,
};

static const kith_param_info opq_params[] = {
    {"opq_iterations", KITH_PARAM_INT, KITH_AT_BUILD, 1, 1000, 50,
     "rounds of rotation and codebooks in turn when OPQ is trained"},
};

static void opq_options(const uint64_t *args, const double *params, ki_transform_options *options)
{
    options->kind = KI_OPQ;
    options->m = (size_t)args[0];
    options->dim_out = (size_t)args[1];
    options->iterations = (size_t)params[0];
}

const ki_transform_part ki_transform_part_opq = {
    .part =
        {.info = {.pattern = "OPQ<m>[_<d>]",
                  .about =
                      "transform: the rotation (to d components) that makes PQ<m> lose least, learned with "
                      "the codebooks in turn",
                  .params = opq_params,
                  .n_params = sizeof opq_params / sizeof *opq_params},
         .args = {{"m", 1, KITH_MAX_DIM, 0}, {"d", 0, KITH_MAX_DIM, 0}}},
    .metrics = ROTATABLE,
    .train_rows = TRANSFORM_ROWS,
    .options = opq_options,
};

static void opqp_options(const uint64_t *args, const double *params, ki_transform_options *options)
{
    (void)params;
    options->kind = KI_OPQP;
    options->m = (size_t)args[0];
}

const ki_transform_part ki_transform_part_opqp = {
    .part =
        {.info =
             {.pattern = "OPQP<m>",
              .about =
                  "transform: principal components dealt out evenly to the segments of PQ<m>; quick, best "
                  "for data like a normal distribution"},
         .args = {{"m", 1, KITH_MAX_DIM, 0}}},
    .metrics = ROTATABLE,
    .train_rows = TRANSFORM_ROWS,
    .options = opqp_options,
};
