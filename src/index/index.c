/* index.c - the front door: making, training and changing an index. Searching is in search.c, files are in
 * index_io.c, ids and slots in rows.c, spec strings in spec.c. */
#include <kith/index.h>
#include <kith/simhash.h>

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/pool.h"
#include "base/run.h"
#include "index/front.h"

/* ---- Rows on their way in ---- */

#define TRANSFORM_BLOCK 1024 /* rows that a thread takes at a time */

typedef struct transform_job {
    const ki_transform *transform;
    const ki_input *input;
    const kith_run *run;
    float *out;
} transform_job;

static void transform_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const transform_job *job = ctx;
    size_t first = block * TRANSFORM_BLOCK, n = job->input->n - first;
    if (job->run && kith_cancel_raised(job->run->cancel)) return;
    ki_transform_apply(job->transform, job->input->x + first * job->input->dim,
                       n < TRANSFORM_BLOCK ? n : TRANSFORM_BLOCK,
                       job->out + first * ki_transform_dim_out(job->transform));
}

kith_status ki_input_inner(const kith_index *index, const ki_input *input, const kith_run *run,
                           ki_input *inner, float **own, kith_error *err)
{
    *inner = *input;
    *own = NULL;
    if (!index->transform) return KITH_OK;
    float *y = ki_alloc(index->allocator, input->n, index->env.dim * sizeof *y);
    if (!y) return ki_fail_nomem(err, input->n * index->env.dim * sizeof *y);
    transform_job job = {index->transform, input, run, y};
    ki_pool_run(ki_run_pool(run), (input->n + TRANSFORM_BLOCK - 1) / TRANSFORM_BLOCK, transform_block, &job);
    inner->x = *own = y;
    inner->dim = index->env.dim;
    inner->unit = 0; /* under COSINE the transform has scaled them */
    kith_status status = ki_run_check(run, err);
    for (size_t i = 0; i < input->n && status == KITH_OK; i++)
        if (!index->env.kernels->finite_f32(y + i * inner->dim, inner->dim))
            status = ki_fail(err, KITH_INVALID, "row %zu is too large for the transform of %s", i,
                             index->spec.canonical);
    return status;
}

/* That the index is over rows of a kind. */
static kith_status check_kind(const kith_index *index, kith_row_kind kind, kith_error *err)
{
    static const char *const words[] = {
        [KITH_ROWS_F32] = "float32 vectors", [KITH_ROWS_BITS] = "bits", [KITH_ROWS_SETS] = "sets"};
    kith_row_kind own = kith_metric_rows(index->metric);
    if (own == kind) return KITH_OK;
    return ki_fail(err, KITH_INVALID, "this call takes %s, the index is over %s (metric %s)", words[kind],
                   words[own], kith_metric_name(index->metric));
}

kith_status ki_input_floats(const kith_index *index, const char *name, const float *x, size_t n,
                            ki_input *input, kith_error *err)
{
    KI_TRY(check_kind(index, KITH_ROWS_F32, err));
    size_t dim = index->dim;
    *input = (ki_input){.x = x, .n = n, .dim = dim, .unit = index->env.unit, .kernels = index->env.kernels};
    for (size_t i = 0; i < n; i++) {
        if (index->env.kernels->finite_f32(x + i * dim, dim)) continue;
        size_t d = 0;
        while (d < dim && __builtin_isfinite(x[i * dim + d])) d++;
        return ki_fail(err, KITH_INVALID, "%s: component %zu of row %zu is %g, it must be finite", name, d, i,
                       (double)x[i * dim + d]);
    }
    return KITH_OK;
}

kith_status ki_input_bits(const kith_index *index, const char *name, const uint8_t *bits, size_t n,
                          ki_input *input, kith_error *err)
{
    KI_TRY(check_kind(index, KITH_ROWS_BITS, err));
    size_t dim = index->dim, row = kith_bit_bytes(dim);
    *input = (ki_input){.bits = bits, .n = n, .dim = dim, .kernels = index->env.kernels};
    for (size_t i = 0; i < n && dim % 8; i++)
        if (bits[(i + 1) * row - 1] >> dim % 8)
            return ki_fail(err, KITH_INVALID,
                           "%s: the last byte of row %zu is 0x%02x, bits beyond the %zu of a row must be 0",
                           name, i, bits[(i + 1) * row - 1], dim);
    return KITH_OK;
}

/* That sets can be read: starts that ascend, and tokens where there are any. */
static kith_status check_sets(const char *name, const kith_sets *sets, kith_error *err)
{
    if (!sets || (sets->n > 0 && !sets->starts))
        return ki_fail(err, KITH_INVALID, "%s is NULL or has no starts", name);
    const uint64_t *starts = sets->starts;
    for (size_t i = 0; i < sets->n; i++)
        if (starts[i + 1] < starts[i] || starts[i + 1] - starts[i] >= UINT32_MAX)
            return ki_fail(err, KITH_INVALID, "%s: set %zu goes from token %llu to %llu", name, i,
                           (unsigned long long)starts[i], (unsigned long long)starts[i + 1]);
    if (sets->n > 0 && starts[sets->n] > starts[0] && !sets->tokens)
        return ki_fail(err, KITH_INVALID, "%s has no tokens", name);
    return KITH_OK;
}

static kith_status check_tokens(const char *name, const kith_sets *sets, kith_error *err)
{
    for (size_t i = 0; i < sets->n; i++)
        for (uint64_t t = sets->starts[i] + 1; t < sets->starts[i + 1]; t++)
            if (sets->tokens[t] <= sets->tokens[t - 1])
                return ki_fail(err, KITH_INVALID,
                               "%s: token %llu of set %zu is not above the one before it: kith_set_normalise "
                               "makes it so",
                               name, (unsigned long long)(t - sets->starts[i]), i);
    return KITH_OK;
}

kith_status ki_input_sets(const kith_index *index, const char *name, const kith_sets *sets,
                          const kith_run *run, ki_input *input, uint8_t **own, kith_error *err)
{
    *own = NULL;
    int fingerprint = index->spec.transform && index->spec.transform->fingerprint;
    if (!fingerprint) KI_TRY(check_kind(index, KITH_ROWS_SETS, err));
    KI_TRY(check_sets(name, sets, err));
    *input = (ki_input){.n = sets->n, .dim = index->dim, .kernels = index->env.kernels};
    if (!fingerprint) {
        input->sets = sets;
        return check_tokens(name, sets, err);
    }
    size_t bytes = kith_bit_bytes(index->dim);
    uint64_t *prints = ki_alloc(index->allocator, sets->n, bytes);
    if (!prints) return ki_fail_nomem(err, sets->n * bytes);
    *own = (uint8_t *)prints; /* little-endian words are rows of bits */
    input->bits = *own;
    return kith_simhash_sets(index->dim, sets, run, prints, err);
}

/* ---- Making ---- */

/* A structure of residuals takes them where the codec gains by it; under L1 |q - c - y| does not come apart into a part of the
 * cell and a part of the code, so codes are of whole vectors there. */
static int takes_residuals(const ki_spec *spec, kith_metric metric)
{
    return spec->structure->residual && spec->codec->residual && metric != KITH_L1;
}

/* The transform as the parameters now say, untrained; what is left of the components. */
static kith_status make_transform(kith_index *index, kith_error *err)
{
    const ki_spec *spec = &index->spec;
    if (!spec->transform || spec->transform->fingerprint) return KITH_OK;
    ki_transform_options options = {
        .dim = index->dim, .centred = index->metric == KITH_L2SQ, .unit = index->metric == KITH_COSINE};
    spec->transform->options(spec->transform_args, index->params + ki_spec_transform_params(spec), &options);
    if (takes_residuals(spec, index->metric)) options.cells = (size_t)spec->structure_args[0];
    ki_transform *transform;
    KI_TRY(ki_transform_create(&options, index->allocator, &transform, err));
    ki_transform_free(index->transform);
    index->transform = transform;
    index->env.dim = ki_transform_dim_out(transform);
    return KITH_OK;
}

/* Codecs as the parameters now say, untrained. */
static kith_status make_codecs(kith_index *index, kith_error *err)
{
    const ki_spec *spec = &index->spec;
    ki_structure_env *env = &index->env;
    int residual = takes_residuals(spec, env->metric);
    ki_codec *codec = NULL, *refine = NULL;
    KI_TRY(spec->codec->make(spec->codec_args, index->params + ki_spec_codec_params(spec), env->dim,
                             env->metric, residual, index->allocator, &codec, err));
    if (codec->either && !spec->structure->blocks) codec->block = 0;
    if (codec->block && !spec->structure->blocks) {
        ki_codec_free(codec);
        return ki_fail(err, KITH_UNSUPPORTED, "%s keeps rows in blocks, which %s cannot",
                       spec->codec->part.info.pattern, spec->structure->part.info.pattern);
    }
    if (spec->refinement) {
        kith_status status =
            spec->refinement->make(spec->refinement_args, index->params + ki_spec_refinement_params(spec),
                                   index->dim, env->metric, 0, index->allocator, &refine, err);
        if (status != KITH_OK) {
            ki_codec_free(codec);
            return status;
        }
    }
    ki_codec_free(env->codec);
    ki_codec_free(index->refine_codec);
    env->codec = codec;
    index->refine_codec = refine;
    env->codec_rows = spec->codec->train_rows ? spec->codec->train_rows(spec->codec_args) : 0;
    return KITH_OK;
}

int ki_index_needs_training(const kith_index *index)
{
    return index->transform || index->structure->ops->train || index->env.codec->ops->train ||
           (index->refine_codec && index->refine_codec->ops->train);
}

static kith_status check_metric(const ki_spec *spec, kith_metric metric, kith_error *err)
{
    if (!kith_metric_name(metric))
        return ki_fail(err, KITH_INVALID, "metric is %d, which is none", (int)metric);
    const char *who = NULL;
    if (!(spec->structure->metrics & KI_METRIC_BIT(metric)))
        who = spec->structure->part.info.pattern;
    else if (!(spec->codec->metrics & KI_METRIC_BIT(metric)))
        who = spec->codec->part.info.pattern;
    else if (spec->transform && !(spec->transform->metrics & KI_METRIC_BIT(metric)))
        who = spec->transform->part.info.pattern;
    if (!who) return KITH_OK;
    return ki_fail(err, KITH_UNSUPPORTED, "metric is %s, which %s does not know", kith_metric_name(metric),
                   who);
}

/* That rows of sets have their dimension: none (1), or the bits of their fingerprints. */
static kith_status check_sets_dim(const ki_spec *spec, size_t dim, kith_metric metric, kith_error *err)
{
    uint64_t bits = spec->transform && spec->transform->fingerprint ? spec->transform_args[0] : 0;
    if (bits != 0 && bits != 64 && bits != 128)
        return ki_fail(err, KITH_INVALID, "spec: b of SimHash<b> is %llu, allowed 64 and 128",
                       (unsigned long long)bits);
    if (bits != 0 && dim != bits)
        return ki_fail(err, KITH_INVALID, "dim is %zu, fingerprints of SimHash%llu have %llu bits", dim,
                       (unsigned long long)bits, (unsigned long long)bits);
    if (kith_metric_rows(metric) == KITH_ROWS_SETS && dim != 1)
        return ki_fail(err, KITH_INVALID, "dim is %zu, for rows that are sets it is 1", dim);
    return KITH_OK;
}

kith_status ki_index_make(const ki_spec *spec, size_t dim, kith_metric metric, uint64_t seed,
                          const kith_allocator *allocator, kith_index **out, kith_error *err)
{
    if (dim < 1 || dim > KITH_MAX_DIM)
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 1..%d", dim, KITH_MAX_DIM);
    KI_TRY(check_metric(spec, metric, err));
    KI_TRY(check_sets_dim(spec, dim, metric, err));
    kith_index *index = ki_alloc_zero(allocator, 1, sizeof *index);
    if (!index) return ki_fail_nomem(err, sizeof *index);
    index->allocator = allocator;
    index->spec = *spec;
    index->metric = metric;
    index->dim = dim;
    ki_rows_init(&index->rows, allocator);
    ki_row_codes_init(&index->refine, allocator);
    index->env = (ki_structure_env){
        .allocator = allocator,
        .kernels = ki_kernels_get(),
        .dim = dim,
        .metric = metric == KITH_COSINE ? KITH_DOT : metric,
        .unit = metric == KITH_COSINE,
        .seed = seed,
        .args = index->spec.structure_args,
    };
    index->simd = (uint32_t)index->env.kernels->level;
    size_t n_params = ki_spec_param_count(spec);
    index->params = ki_alloc(allocator, n_params, sizeof *index->params);
    kith_status status = KITH_OK;
    if (!index->params) {
        status = ki_fail_nomem(err, n_params * sizeof *index->params);
        goto fail;
    }
    ki_spec_initial(&index->spec, index->params);
    index->env.params = index->params;
    if ((status = make_transform(index, err)) != KITH_OK) goto fail;
    if ((status = make_codecs(index, err)) != KITH_OK) goto fail;
    if ((status = spec->structure->ops->create(&index->env, &index->structure, err)) != KITH_OK) goto fail;
    index->structure->ops = spec->structure->ops;
    index->trained = !ki_index_needs_training(index);
    *out = index;
    return KITH_OK;
fail:
    kith_index_free(index);
    return status;
}

kith_status kith_index_create(const char *text, size_t dim, const kith_index_options *options,
                              kith_index **index, kith_error *err)
{
    if (!index) return ki_fail(err, KITH_INVALID, "index is NULL");
    *index = NULL;
    kith_index_options defaults;
    kith_index_options_init(&defaults);
    if (options && options->struct_size < sizeof defaults)
        return ki_fail(err, KITH_INVALID, "options.struct_size is %zu: use kith_index_options_init",
                       options->struct_size);
    if (!options) options = &defaults;
    ki_spec spec;
    KI_TRY(ki_spec_parse(text, &spec, err));
    return ki_index_make(&spec, dim, options->metric, options->seed, options->allocator, index, err);
}

void kith_index_free(kith_index *index)
{
    if (!index) return;
    if (index->structure) index->structure->ops->free(index->structure);
    ki_row_codes_clear(&index->refine);
    ki_rows_clear(&index->rows);
    ki_codec_free(index->env.codec);
    ki_codec_free(index->refine_codec);
    ki_transform_free(index->transform);
    ki_calibration_clear(&index->calibration, index->allocator);
    ki_store_close(index->store); /* last: the others may point into it */
    ki_free(index->allocator, index->params);
    ki_free(index->allocator, index);
}

kith_status kith_index_set(kith_index *index, const char *name, double value, kith_error *err)
{
    if (!index) return ki_fail(err, KITH_INVALID, "index is NULL");
    size_t position;
    KI_TRY(ki_spec_find(&index->spec, name, value, KITH_AT_BUILD, &position, err));
    if (index->store) return ki_fail(err, KITH_READONLY, "%s: the index is mapped", name);
    if (index->trained && ki_index_needs_training(index))
        return ki_fail(err, KITH_INVALID, "%s is set before training, and the index is trained", name);
    double before = index->params[position];
    index->params[position] = value;
    kith_status status = KITH_OK;
    if (position >= ki_spec_transform_params(&index->spec))
        status = make_transform(index, err);
    else if (position >= ki_spec_codec_params(&index->spec))
        status = make_codecs(index, err);
    if (status != KITH_OK) index->params[position] = before;
    return status;
}

/* ---- Training ---- */

static kith_status train_codec(const ki_structure_env *env, ki_codec *codec, size_t rows,
                               const ki_input *input, const kith_run *run, kith_error *err)
{
    if (!codec->ops->train) return KITH_OK;
    float *sample;
    const float *x;
    size_t n;
    KI_TRY(ki_input_sample(input, rows, env->seed, env->allocator, &sample, &x, &n, err));
    kith_status status = codec->ops->train(codec, x, n, env->seed, run, err);
    ki_free(env->allocator, sample);
    return status;
}

kith_status ki_input_train_codec(const ki_structure_env *env, const ki_input *input, const kith_run *run,
                                 kith_error *err)
{
    return train_codec(env, env->codec, env->codec_rows, input, run, err);
}

static kith_status train_transform(kith_index *index, const ki_input *input, const kith_run *run,
                                   kith_error *err)
{
    float *sample;
    const float *x;
    size_t n;
    KI_TRY(ki_input_sample(input, index->spec.transform->train_rows, index->env.seed, index->allocator,
                           &sample, &x, &n, err));
    kith_status status = ki_transform_train(index->transform, x, n, index->env.seed, run, err);
    ki_free(index->allocator, sample);
    return status;
}

static kith_status check_changeable(const kith_index *index, kith_error *err)
{
    if (!index) return ki_fail(err, KITH_INVALID, "index is NULL");
    if (index->store)
        return ki_fail(err, KITH_READONLY, "the index is mapped from %s", ki_store_path(index->store));
    return KITH_OK;
}

/* Whether an index may be trained with n rows at `rows`, named `name`. */
static kith_status check_trainable(const kith_index *index, const char *name, const void *rows, size_t n,
                                   kith_error *err)
{
    KI_TRY(check_changeable(index, err));
    if (!rows) return ki_fail(err, KITH_INVALID, "%s is NULL", name);
    if (n == 0) return ki_fail(err, KITH_INVALID, "n is 0");
    if (index->rows.n > 0)
        return ki_fail(err, KITH_INVALID, "the index holds %zu rows already: train comes before add",
                       index->rows.n);
    return KITH_OK;
}

static kith_status train(kith_index *index, const ki_input *input, const kith_run *run, kith_error *err)
{
    if (!ki_index_needs_training(index)) return KITH_OK;
    ki_structure_env *env = &index->env;
    index->trained = 0;
    ki_calibration_clear(&index->calibration, index->allocator);
    KI_TRY(make_codecs(index, err)); /* a second training starts from nothing */
    if (index->transform) KI_TRY(train_transform(index, input, run, err));
    ki_input inner;
    float *own;
    kith_status status = ki_input_inner(index, input, run, &inner, &own, err);
    if (status == KITH_OK)
        status = index->structure->ops->train
                     ? index->structure->ops->train(index->structure, &inner, run, err)
                     : ki_input_train_codec(env, &inner, run, err);
    ki_free(index->allocator, own);
    if (status == KITH_OK && index->refine_codec)
        status = train_codec(env, index->refine_codec, (size_t)1 << 16, input, run, err);
    index->trained = status == KITH_OK;
    index->simd = (uint32_t)env->kernels->level;
    return status;
}

kith_status kith_index_train(kith_index *index, const float *x, size_t n, const kith_run *run,
                             kith_error *err)
{
    ki_input input;
    KI_TRY(check_trainable(index, "x", x, n, err));
    KI_TRY(ki_input_floats(index, "x", x, n, &input, err));
    return train(index, &input, run, err);
}

kith_status kith_index_train_bits(kith_index *index, const uint8_t *bits, size_t n, const kith_run *run,
                                  kith_error *err)
{
    ki_input input;
    KI_TRY(check_trainable(index, "bits", bits, n, err));
    KI_TRY(ki_input_bits(index, "bits", bits, n, &input, err));
    return train(index, &input, run, err);
}

kith_status kith_index_train_sets(kith_index *index, const kith_sets *sets, const kith_run *run,
                                  kith_error *err)
{
    ki_input input;
    uint8_t *own = NULL;
    KI_TRY(check_trainable(index, "sets", sets, sets ? sets->n : 1, err));
    kith_status status = ki_input_sets(index, "sets", sets, run, &input, &own, err);
    if (status == KITH_OK) status = train(index, &input, run, err);
    ki_free(index->allocator, own);
    return status;
}

/* ---- Adding and removing ---- */

/* Whether n rows at `rows`, named `name`, may be added. */
static kith_status check_addable(const kith_index *index, const char *name, const void *rows, size_t n,
                                 kith_error *err)
{
    KI_TRY(check_changeable(index, err));
    if (!index->trained)
        return ki_fail(err, KITH_UNTRAINED, "%s must be trained before rows are added",
                       index->spec.canonical);
    if (n > 0 && !rows) return ki_fail(err, KITH_INVALID, "%s is NULL", name);
    return KITH_OK;
}

static kith_status add(kith_index *index, const ki_input *input, const uint64_t *ids, const kith_run *run,
                       kith_error *err)
{
    size_t n = input->n;
    ki_rows_plan plan;
    if (n == 0) return KITH_OK;
    if (index->reserved == 0) index->changes++;
    if (index->reserved > 0 && n > index->reserved - index->rows.n)
        return ki_fail(err, KITH_INVALID, "%zu rows in addition to %zu, reserved are %llu in all", n,
                       index->rows.n, (unsigned long long)index->reserved);
    /* What may fail comes first and changes nothing that can be seen: slots are only chosen, the refinement
     * writes to slots that nobody uses, the structure takes all rows or none. */
    kith_status status = ki_rows_plan_add(&index->rows, ids, n, &plan, err);
    if (status == KITH_OK && index->refine_codec)
        status = ki_row_codes_put(&index->refine, index->refine_codec, input, plan.slots, plan.first_slot,
                                  plan.n_slots, run, err);
    if (status == KITH_OK) status = ki_run_check(run, err);
    ki_input inner;
    float *own = NULL;
    if (status == KITH_OK) status = ki_input_inner(index, input, run, &inner, &own, err);
    if (status == KITH_OK) {
        ki_rows_stage(&index->rows, &plan);
        status = index->structure->ops->add(index->structure, &inner, plan.slots, plan.first_slot,
                                            plan.n_slots, run, err);
        if (status != KITH_OK) ki_rows_unstage(&index->rows, &plan);
    }
    if (status == KITH_OK) {
        ki_rows_commit(&index->rows, &plan);
    } else if (plan.slots &&
               index->refine_codec) { /* holes are zero in files: leave no refused vector there */
        size_t holes = index->rows.n_slots - index->rows.n;
        ki_row_codes_erase(&index->refine, index->refine_codec, plan.slots, n < holes ? n : holes);
    }
    ki_free(index->allocator, own);
    ki_rows_plan_clear(&index->rows, &plan);
    return status;
}

kith_status kith_index_add(kith_index *index, const float *x, const uint64_t *ids, size_t n,
                           const kith_run *run, kith_error *err)
{
    ki_input input;
    KI_TRY(check_addable(index, "x", x, n, err));
    KI_TRY(ki_input_floats(index, "x", x, n, &input, err));
    return add(index, &input, ids, run, err);
}

kith_status kith_index_reserve(kith_index *index, uint64_t rows, kith_error *err)
{
    KI_TRY(check_changeable(index, err));
    if (!index->trained)
        return ki_fail(err, KITH_UNTRAINED, "%s must be trained before rows are reserved",
                       index->spec.canonical);
    if (!index->structure->ops->reserve)
        return ki_fail(err, KITH_UNSUPPORTED, "%s takes no rows during searches", index->spec.canonical);
    if (rows > KITH_MAX_ROWS || rows < index->rows.n || rows == 0)
        return ki_fail(err, KITH_INVALID, "rows is %llu, allowed %zu..%lu", (unsigned long long)rows,
                       index->rows.n > 0 ? index->rows.n : 1, (unsigned long)KITH_MAX_ROWS);
    size_t slots = index->rows.n_slots > rows ? index->rows.n_slots : (size_t)rows;
    index->changes++;
    KI_TRY(ki_rows_reserve(&index->rows, slots, err));
    if (index->refine_codec) KI_TRY(ki_row_codes_reserve(&index->refine, index->refine_codec, slots, err));
    KI_TRY(index->structure->ops->reserve(index->structure, (size_t)rows, slots, err));
    index->reserved = rows;
    return KITH_OK;
}

kith_status kith_index_add_bits(kith_index *index, const uint8_t *bits, const uint64_t *ids, size_t n,
                                const kith_run *run, kith_error *err)
{
    ki_input input;
    KI_TRY(check_addable(index, "bits", bits, n, err));
    KI_TRY(ki_input_bits(index, "bits", bits, n, &input, err));
    return add(index, &input, ids, run, err);
}

kith_status kith_index_add_sets(kith_index *index, const kith_sets *sets, const uint64_t *ids,
                                const kith_run *run, kith_error *err)
{
    ki_input input;
    uint8_t *own = NULL;
    KI_TRY(check_addable(index, "sets", sets, 1, err));
    kith_status status = ki_input_sets(index, "sets", sets, run, &input, &own, err);
    if (status == KITH_OK) status = add(index, &input, ids, run, err);
    ki_free(index->allocator, own);
    return status;
}

kith_status kith_index_remove(kith_index *index, const uint64_t *ids, size_t n, size_t *removed,
                              kith_error *err)
{
    KI_TRY(check_changeable(index, err));
    if (n > 0 && !ids) return ki_fail(err, KITH_INVALID, "ids is NULL");
    size_t found = 0;
    uint32_t *slots = ki_alloc(index->allocator, n, sizeof *slots);
    if (!slots) return ki_fail_nomem(err, n * sizeof *slots);
    const ki_structure_ops *ops = index->structure->ops;
    kith_status status = ki_rows_plan_remove(&index->rows, ids, n, slots, &found, err);
    if (status == KITH_OK && found > 0 && ops->prepare_remove)
        status = ops->prepare_remove(index->structure, &index->rows, err);
    if (status == KITH_OK && found > 0) {
        index->changes++;
        ops->remove(index->structure, slots, found);
        if (index->refine_codec) ki_row_codes_erase(&index->refine, index->refine_codec, slots, found);
        ki_rows_remove(&index->rows, slots, found);
    }
    ki_free(index->allocator, slots);
    if (status == KITH_OK && removed) *removed = found;
    return status;
}

/* ---- Looking inside ---- */

/* The slot of an id whose row is to be written to `out`. */
static kith_status find_row(const kith_index *index, kith_row_kind kind, uint64_t id, const void *out,
                            uint32_t *slot, kith_error *err)
{
    if (!index || !out) return ki_fail(err, KITH_INVALID, "%s is NULL", index ? "out" : "index");
    KI_TRY(check_kind(index, kind, err));
    if (ki_rows_find(&index->rows, id, slot)) return KITH_OK;
    return ki_fail(err, KITH_NOTFOUND, "there is no row with id %llu", (unsigned long long)id);
}

kith_status kith_index_reconstruct_bits(const kith_index *index, uint64_t id, uint8_t *out, kith_error *err)
{
    uint32_t slot;
    KI_TRY(find_row(index, KITH_ROWS_BITS, id, out, &slot, err));
    index->structure->ops->decode_bits(index->structure, slot, out);
    return KITH_OK;
}

void ki_index_exact_row(const kith_index *index, uint32_t slot, float *out)
{
    const ki_codec *refine = index->refine_codec;
    if (refine)
        refine->ops->decode(refine, ki_row_code(&index->refine, refine, slot),
                            ki_row_factor(&index->refine, refine, slot), NULL, out);
    else
        index->structure->ops->decode(index->structure, slot, out);
}

kith_status kith_index_reconstruct(const kith_index *index, uint64_t id, float *out, kith_error *err)
{
    uint32_t slot;
    KI_TRY(find_row(index, KITH_ROWS_F32, id, out, &slot, err));
    if (index->refine_codec || !index->transform) {
        ki_index_exact_row(index, slot, out);
        return KITH_OK;
    }
    float *inner = ki_alloc(index->allocator, index->env.dim, sizeof *inner);
    if (!inner) return ki_fail_nomem(err, index->env.dim * sizeof *inner);
    index->structure->ops->decode(index->structure, slot, inner);
    ki_transform_reverse(index->transform, inner, out);
    ki_free(index->allocator, inner);
    return KITH_OK;
}

int kith_index_has(const kith_index *index, uint64_t id)
{
    uint32_t slot;
    return index && ki_rows_find(&index->rows, id, &slot);
}

kith_status kith_index_get_info(const kith_index *index, kith_index_info *info, kith_error *err)
{
    if (!index || !info) return ki_fail(err, KITH_INVALID, "%s is NULL", index ? "info" : "index");
    if (info->struct_size < sizeof *info)
        return ki_fail(err, KITH_INVALID, "info.struct_size is %zu, it must be sizeof(kith_index_info), %zu",
                       info->struct_size, sizeof *info);
    info->spec = index->spec.canonical;
    info->metric = index->metric;
    info->dim = index->dim;
    info->n = index->rows.n;
    info->seed = index->env.seed;
    info->trained = index->trained;
    info->mapped = index->store != NULL;
    info->bytes = ki_rows_bytes(&index->rows) + index->structure->ops->bytes(index->structure);
    if (index->transform) info->bytes += ki_transform_bytes(index->transform);
    if (index->refine_codec) info->bytes += ki_row_codes_bytes(&index->refine, index->refine_codec);
    return KITH_OK;
}

kith_status kith_index_get_cells(const kith_index *index, kith_cells_info *info, kith_error *err)
{
    if (!index || !info) return ki_fail(err, KITH_INVALID, "%s is NULL", index ? "info" : "index");
    if (info->struct_size < sizeof *info)
        return ki_fail(err, KITH_INVALID, "info.struct_size is %zu, it must be sizeof(kith_cells_info), %zu",
                       info->struct_size, sizeof *info);
    if (!index->structure->ops->cells)
        return ki_fail(err, KITH_UNSUPPORTED, "%s has no cells", index->spec.canonical);
    if (!index->trained)
        return ki_fail(err, KITH_UNTRAINED, "%s must be trained before it has cells", index->spec.canonical);
    *info = (kith_cells_info){.struct_size = info->struct_size};
    return index->structure->ops->cells(index->structure, info, err);
}

static kith_status check_compact(const kith_index *index, const kith_compact_options *options,
                                 kith_error *err)
{
    KI_TRY(check_changeable(index, err));
    if (!index->structure->ops->compact)
        return ki_fail(err, KITH_UNSUPPORTED, "%s has no cells to put in order", index->spec.canonical);
    if (!index->trained)
        return ki_fail(err, KITH_UNTRAINED, "%s must be trained before it has cells", index->spec.canonical);
    if (options->max_cell != 0 && !(options->max_cell >= 1.5 && options->max_cell <= 1e6))
        return ki_fail(err, KITH_INVALID, "max_cell is %g, allowed 0 and 1.5..1e6", options->max_cell);
    return KITH_OK;
}

/* Cells and bytes as they are now. */
static kith_status look(const kith_index *index, kith_cells_info *cells, uint64_t *bytes, kith_error *err)
{
    kith_index_info info = {.struct_size = sizeof info};
    *cells = (kith_cells_info){.struct_size = sizeof *cells};
    KI_TRY(kith_index_get_cells(index, cells, err));
    KI_TRY(kith_index_get_info(index, &info, err));
    *bytes = info.bytes;
    return KITH_OK;
}

kith_status kith_index_compact(kith_index *index, const kith_compact_options *given, const kith_run *run,
                               kith_compact_result *result, kith_error *err)
{
    kith_compact_options own, *options = &own;
    kith_compact_options_init(options);
    KI_TRY(ki_options_read(options, sizeof *options, given, "options", err));
    KI_TRY(check_compact(index, options, err));
    kith_cells_info before, after;
    kith_compact_result found = {0};
    KI_TRY(look(index, &before, &found.bytes_before, err));
    uint64_t args[KI_SPEC_ARGS];
    memcpy(args, index->spec.structure_args, sizeof args);
    KI_TRY(index->structure->ops->compact(index->structure, options->max_cell, run, args, err));
    if (memcmp(args, index->spec.structure_args, sizeof args) != 0) {
        memcpy(index->spec.structure_args, args, sizeof args);
        ki_spec_rename(&index->spec);
        ki_calibration_clear(&index->calibration, index->allocator);
    }
    KI_TRY(look(index, &after, &found.bytes_after, err));
    found.cells_before = before.cells, found.cells_after = after.cells;
    found.largest_before = before.largest, found.largest_after = after.largest;
    if (result) *result = found;
    return KITH_OK;
}

kith_status kith_index_check(const kith_index *index, kith_error *err)
{
    if (!index) return ki_fail(err, KITH_INVALID, "index is NULL");
    KI_TRY(ki_rows_check(&index->rows, err));
    if (!index->trained) return KITH_OK;
    KI_TRY(index->structure->ops->check(index->structure, &index->rows, err));
    if (!index->refine_codec) return KITH_OK;
    kith_status status = ki_row_codes_check(&index->refine, index->refine_codec, index->rows.n_slots, err);
    if (status != KITH_OK) ki_error_prefix(err, "refinement");
    return status;
}
