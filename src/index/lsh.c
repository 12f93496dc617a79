#include "index/lsh.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/run.h"
#include "hash/hyperplane.h"
#include "index/gather.h"

/* Values that are kept at a time while rows are added, and rows whose keys one thread makes at a time. */
#define ADD_FLOATS ((size_t)4 << 20)
#define KEY_ROWS 256

#define TRAIN_ROWS 65536 /* of which the mean is taken */
#define TRAIN_LEAST 16   /* the mean of fewer says nothing */

struct ki_scratch {
    ki_scorer *scorer;
    ki_probes *probes;
    float *values; /* [functions], of the query */
    ki_gather gather;
};

/* ---- Life ---- */

void ki_lsh_init(ki_lsh *lsh, const ki_lsh_kind *kind, const ki_structure_env *env, size_t k)
{
    lsh->base.env = env;
    lsh->kind = kind;
    lsh->n_tables = (size_t)env->args[0];
    lsh->k = k;
    ki_hash_tables_init(&lsh->tables, lsh->n_tables, env->allocator);
    ki_row_codes_init(&lsh->rows, env->allocator);
}

void ki_lsh_clear(ki_lsh *lsh)
{
    const kith_allocator *allocator = lsh->base.env->allocator;
    ki_free(allocator, lsh->directions);
    ki_free(allocator, lsh->bias);
    ki_packed_free(lsh->packed);
    ki_hash_tables_clear(&lsh->tables);
    lsh->directions = lsh->bias = NULL;
    lsh->packed = NULL;
}

kith_status ki_lsh_alloc(ki_lsh *lsh, kith_error *err)
{
    const ki_structure_env *env = lsh->base.env;
    size_t n = ki_lsh_functions(lsh), row = env->dim * sizeof *lsh->directions;
    lsh->directions = ki_alloc(env->allocator, n, row);
    lsh->bias = ki_alloc(env->allocator, n, sizeof *lsh->bias);
    return lsh->directions && lsh->bias ? KITH_OK : ki_fail_nomem(err, n * row);
}

kith_status ki_lsh_pack(ki_lsh *lsh, kith_error *err)
{
    const ki_structure_env *env = lsh->base.env;
    if (lsh->packed) {
        ki_packed_refill_affine(lsh->packed, lsh->directions, env->dim, lsh->bias);
        return KITH_OK;
    }
    return ki_packed_create_affine(lsh->directions, env->dim, ki_lsh_functions(lsh), env->dim, lsh->bias,
                                   env->allocator, &lsh->packed, err);
}

kith_status ki_lsh_probes(const ki_lsh *lsh, ki_probes **probes, kith_error *err)
{
    return ki_probes_create(lsh->kind->moves * lsh->k, lsh->kind->moves == 2, lsh->base.env->allocator,
                            probes, err);
}

/* ---- Training on random hyperplanes ---- */

/* Shift every hyperplane so that it goes through the mean of x[n][dim]. */
static kith_status centre(ki_lsh *lsh, const float *x, size_t n, kith_error *err)
{
    const ki_structure_env *env = lsh->base.env;
    double *mean = ki_alloc_zero(env->allocator, env->dim, sizeof *mean);
    if (!mean) return ki_fail_nomem(err, env->dim * sizeof *mean);
    for (size_t i = 0; i < n; i++) env->kernels->add_f64(mean, x + i * env->dim, env->dim);
    for (size_t i = 0; i < ki_lsh_functions(lsh); i++) {
        double dot = 0;
        for (size_t d = 0; d < env->dim; d++)
            dot += mean[d] / (double)n * (double)lsh->directions[i * env->dim + d];
        lsh->bias[i] = (float)-dot;
    }
    ki_free(env->allocator, mean);
    return KITH_OK;
}

kith_status ki_lsh_train_hyperplanes(ki_lsh *lsh, const ki_input *input, int centred, const kith_run *run,
                                     kith_error *err)
{
    const ki_structure_env *env = lsh->base.env;
    if (input->n < TRAIN_LEAST)
        return ki_fail(err, KITH_INVALID, "n is %zu, training takes at least %d rows", input->n, TRAIN_LEAST);
    float *sample;
    const float *x;
    size_t n;
    ki_lsh_clear(lsh);
    KI_TRY(ki_run_check(run, err));
    KI_TRY(ki_input_train_codec(env, input, run, err));
    KI_TRY(ki_input_sample(input, TRAIN_ROWS, env->seed, env->allocator, &sample, &x, &n, err));
    kith_status status = ki_lsh_alloc(lsh, err);
    if (status == KITH_OK) {
        ki_hyperplane_draw(ki_lsh_functions(lsh), env->dim, env->seed, lsh->directions);
        memset(lsh->bias, 0, ki_lsh_functions(lsh) * sizeof *lsh->bias);
        if (centred) status = centre(lsh, x, n, err);
    }
    if (status == KITH_OK) status = ki_lsh_pack(lsh, err);
    ki_free(env->allocator, sample);
    if (status != KITH_OK) ki_lsh_clear(lsh);
    return status;
}

/* ---- Adding and removing ---- */

/* A block of rows whose values are known. */
typedef struct keying {
    const ki_lsh *lsh;
    const float *values; /* [n][functions] */
    size_t n, first, total;
    uint32_t *keys; /* [n_tables][total] */
} keying;

static void key_rows(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const keying *b = ctx;
    const ki_lsh *lsh = b->lsh;
    size_t m = ki_lsh_functions(lsh), end = (block + 1) * KEY_ROWS;
    if (end > b->n) end = b->n;
    for (size_t t = 0; t < lsh->n_tables; t++)
        for (size_t i = block * KEY_ROWS; i < end; i++) {
            uint64_t key = lsh->kind->bucket(b->values + i * m + t * lsh->k, t, lsh->k);
            b->keys[t * b->total + b->first + i] = lsh->kind->ordered ? (uint32_t)key : ki_hash_key(key);
        }
}

/* The bucket keys of all rows, keys[n_tables][n]. */
static kith_status hash_rows(const ki_lsh *lsh, const ki_input *input, const kith_run *run, uint32_t *keys,
                             kith_error *err)
{
    const ki_structure_env *env = lsh->base.env;
    size_t m = ki_lsh_functions(lsh), rows = ADD_FLOATS / m;
    if (rows < 64) rows = 64;
    if (rows > input->n) rows = input->n;
    float *x = ki_alloc(env->allocator, env->unit ? rows * env->dim : 1, sizeof *x);
    float *values = ki_alloc(env->allocator, rows, m * sizeof *values);
    kith_status status = x && values ? KITH_OK : ki_fail_nomem(err, rows * (env->dim + m) * sizeof *x);
    keying block = {.lsh = lsh, .values = values, .total = input->n, .keys = keys};
    ki_stage stage;
    ki_stage_begin(&stage, run, "hashing", input->n);
    for (; status == KITH_OK && block.first < input->n; block.first += block.n) {
        block.n = input->n - block.first < rows ? input->n - block.first : rows;
        if ((status = ki_run_check(run, err)) != KITH_OK) break;
        status = ki_product_store(ki_run_pool(run), ki_input_block(input, block.first, block.n, x), env->dim,
                                  block.n, lsh->packed, values, m, err);
        if (status == KITH_OK)
            ki_pool_run(ki_run_pool(run), (block.n + KEY_ROWS - 1) / KEY_ROWS, key_rows, &block);
        ki_stage_report(&stage, block.first + block.n);
    }
    ki_free(env->allocator, x);
    ki_free(env->allocator, values);
    return status;
}

kith_status ki_lsh_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                       uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    ki_lsh *lsh = (ki_lsh *)structure;
    const ki_structure_env *env = structure->env;
    uint32_t *keys = ki_alloc(env->allocator, input->n, lsh->n_tables * sizeof *keys);
    if (!keys) return ki_fail_nomem(err, input->n * lsh->n_tables * sizeof *keys);
    ki_hash_staged staged;
    kith_status status = hash_rows(lsh, input, run, keys, err);
    if (status == KITH_OK)
        status = ki_hash_tables_stage(&lsh->tables, keys, slots, first_slot, input->n, run, &staged, err);
    ki_free(env->allocator, keys);
    if (status != KITH_OK) return status;
    status = ki_row_codes_put(&lsh->rows, env->codec, input, slots, first_slot, n_slots, run, err);
    if (status == KITH_OK)
        ki_hash_tables_commit(&lsh->tables, &staged);
    else
        ki_hash_tables_drop(&lsh->tables, &staged);
    return status;
}

kith_status ki_lsh_prepare_remove(ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    return ki_hash_tables_reserve_stale(&((ki_lsh *)structure)->tables, rows->n_slots, err);
}

void ki_lsh_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    ki_lsh *lsh = (ki_lsh *)structure;
    ki_hash_tables_remove(&lsh->tables, slots, n);
    ki_row_codes_erase(&lsh->rows, structure->env->codec, slots, n);
}

void ki_lsh_decode(const ki_structure *structure, uint32_t slot, float *out)
{
    const ki_lsh *lsh = (const ki_lsh *)structure;
    const ki_codec *codec = structure->env->codec;
    codec->ops->decode(codec, ki_row_code(&lsh->rows, codec, slot), ki_row_factor(&lsh->rows, codec, slot),
                       NULL, out);
}

/* ---- Search ---- */

void ki_lsh_scratch_free(const ki_structure *structure, ki_scratch *s)
{
    const kith_allocator *allocator = structure->env->allocator;
    ki_scorer_free(s->scorer);
    ki_probes_free(s->probes);
    ki_free(allocator, s->values);
    ki_gather_clear(&s->gather);
    ki_free(allocator, s);
}

kith_status ki_lsh_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    const ki_lsh *lsh = (const ki_lsh *)structure;
    const ki_structure_env *env = structure->env;
    size_t m = ki_lsh_functions(lsh);
    *scratch = NULL;
    ki_scratch *s = ki_alloc_zero(env->allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    ki_gather_init(&s->gather, env->allocator);
    s->values = ki_alloc(env->allocator, m, sizeof *s->values);
    kith_status status = s->values ? KITH_OK : ki_fail_nomem(err, m * sizeof *s->values);
    if (status == KITH_OK) status = ki_lsh_probes(lsh, &s->probes, err);
    if (status == KITH_OK) status = env->codec->ops->scorer(env->codec, env->allocator, &s->scorer, err);
    if (status != KITH_OK) {
        ki_lsh_scratch_free(structure, s);
        return status;
    }
    *scratch = s;
    return KITH_OK;
}

kith_status ki_lsh_prepare(const ki_structure *structure, ki_scratch *s, size_t k, const double *settings,
                           kith_error *err)
{
    const ki_lsh *lsh = (const ki_lsh *)structure;
    (void)k;
    KI_TRY(ki_probes_reserve(s->probes, (size_t)settings[0], err));
    return ki_gather_reserve(&s->gather, lsh->rows.n_slots, err);
}

/* The buckets of one table. */
static void search_table(const ki_lsh *lsh, ki_scratch *s, ki_query *query, size_t t)
{
    ki_move moves[KI_PROBE_MOVES];
    uint64_t key = lsh->kind->aim(s->values + t * lsh->k, t, lsh->k, moves);
    ki_probes_begin(s->probes, key, moves);
    for (size_t left = 1 + (size_t)query->settings[0]; left > 0 && !ki_query_stop(query); left--) {
        if (!ki_probes_next(s->probes, &key)) return;
        for (size_t r = 0; r < lsh->tables.n_runs; r++) {
            size_t n;
            const uint32_t *slots = ki_hash_find(&lsh->tables.runs[r], t, ki_hash_key(key), &n);
            if (n > 0) ki_gather_add(&s->gather, slots, n);
        }
        query->visited++;
    }
}

void ki_lsh_search(const ki_structure *structure, ki_scratch *s, ki_query *query)
{
    const ki_lsh *lsh = (const ki_lsh *)structure;
    ki_gather_begin(&s->gather, query, s->scorer, lsh->rows.codes);
    if (lsh->tables.n_runs > 0) {
        ki_product_row(lsh->packed, query->vector, s->values);
        for (size_t t = 0; t < lsh->n_tables && !query->stopped; t++) search_table(lsh, s, query, t);
    }
    ki_gather_flush(&s->gather);
    if (ki_query_taken(query) < query->need) ki_gather_rest(&s->gather);
}

/* ---- Save, load, check ---- */

static const char *section(const ki_lsh *lsh, const char *what, char name[KI_STORE_NAME_BYTES])
{
    snprintf(name, KI_STORE_NAME_BYTES, "%s.%s", lsh->kind->prefix, what);
    return name;
}

kith_status ki_lsh_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                        kith_error *err)
{
    const ki_lsh *lsh = (const ki_lsh *)structure;
    const ki_structure_env *env = structure->env;
    char name[KI_STORE_NAME_BYTES];
    size_t m = ki_lsh_functions(lsh);
    KI_TRY(ki_store_put(writer, section(lsh, "directions", name), lsh->directions, m,
                        env->dim * sizeof *lsh->directions, err));
    KI_TRY(ki_store_put(writer, section(lsh, "bias", name), lsh->bias, m, sizeof *lsh->bias, err));
    KI_TRY(ki_hash_tables_save(&lsh->tables, lsh->kind->prefix, writer, err));
    return ki_row_codes_save(&lsh->rows, env->codec, lsh->kind->prefix, n_slots, writer, err);
}

static kith_status check_functions(const ki_lsh *lsh, kith_error *err)
{
    const ki_structure_env *env = lsh->base.env;
    for (size_t i = 0; i < ki_lsh_functions(lsh); i++)
        if (!env->kernels->finite_f32(lsh->directions + i * env->dim, env->dim) || !isfinite(lsh->bias[i]))
            return ki_fail(err, KITH_CORRUPT, "H1: direction or bias %zu is not finite", i);
    return KITH_OK;
}

kith_status ki_lsh_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                        kith_error *err)
{
    ki_lsh *lsh = (ki_lsh *)structure;
    const ki_structure_env *env = structure->env;
    char name[KI_STORE_NAME_BYTES];
    size_t m = ki_lsh_functions(lsh), row = env->dim * sizeof *lsh->directions;
    uint64_t n; /* before anything is allocated: whether the file holds so much */
    KI_TRY(ki_store_count(store, section(lsh, "directions", name), row, &n, err));
    if (n != m)
        return ki_fail(err, KITH_CORRUPT, "%s: %llu directions for %zu x %zu", ki_store_path(store),
                       (unsigned long long)n, lsh->n_tables, lsh->k);
    KI_TRY(ki_lsh_alloc(lsh, err));
    KI_TRY(ki_store_load(store, name, m, row, lsh->directions, err));
    KI_TRY(ki_store_load(store, section(lsh, "bias", name), m, sizeof *lsh->bias, lsh->bias, err));
    KI_TRY(check_functions(lsh, err));
    KI_TRY(ki_lsh_pack(lsh, err));
    KI_TRY(ki_hash_tables_load(&lsh->tables, lsh->kind->prefix, mapped, rows, store, err));
    return ki_row_codes_load(&lsh->rows, env->codec, lsh->kind->prefix, rows->n_slots, mapped, store, err);
}

kith_status ki_lsh_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const ki_lsh *lsh = (const ki_lsh *)structure;
    KI_TRY(check_functions(lsh, err));
    kith_status status = ki_hash_tables_check(&lsh->tables, rows, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "H2");
    if (status != KITH_OK) return status;
    status = ki_row_codes_check(&lsh->rows, structure->env->codec, rows->n_slots, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "H3");
    return status;
}

uint64_t ki_lsh_bytes(const ki_structure *structure)
{
    const ki_lsh *lsh = (const ki_lsh *)structure;
    if (!lsh->directions) return 0;
    uint64_t bytes = (uint64_t)ki_lsh_functions(lsh) * (structure->env->dim + 1) * sizeof *lsh->directions;
    return bytes + ki_packed_bytes(lsh->packed) + ki_hash_tables_bytes(&lsh->tables) +
           ki_row_codes_bytes(&lsh->rows, structure->env->codec);
}
