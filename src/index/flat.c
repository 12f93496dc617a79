/* flat.c - every row is compared.
 *
 * The idea. Codes lie one after the other, in the order of slots. A query goes through all of them, 256 at a
 * time, and keeps the k best. With float32 rows the answer is exact, and it is the yardstick for all other
 * families; with compressed rows (PQ16) it is a scan of much less memory with estimated distances.
 *
 * One query is limited by how fast memory can be read. A batch is not: each block of rows is compared with
 * every query while it is in the cache, as a product of matrices, |x|^2 - 2 q.x + |q|^2, which runs near the
 * arithmetic limit. That formula cancels digits, so here it only proposes: a row whose value lies within the
 * error bound of a query's k-th distance is computed again by the kernel that a single query uses. A batch
 * therefore gives the same answers as its queries one by one, bit for bit, and ties are decided by true
 * distances. (Deviation from the usual practice of returning the expanded form; the second look costs some
 * hundred rows a query.)
 *
 * Layout:      code[n_slots][code_size], factor[n_slots][n_factors], in blocks where the codec wants them
 *              (quant/layout.h); removed rows are zeroed holes.
 *
 * Invariants:
 *   F1  there are as many codes as slots
 *   F2  every code is one that its codec can score; float32 rows are finite
 *   F3  no row is longer than max_norm (float32 rows; the bound of the batch search rests on it)
 *
 * Cost:        one query: n * code_size bytes read once; batch: n * nq * dim multiply-adds; memory: the codes;
 *              open: nothing is read but, for READ, everything once.
 * Sections:    "flat" (record: max_norm), "flat.codes", "flat.factors".
 */
#include "index/rowcodes.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "math/product.h"
#include "quant/layout.h"

#define PREFIX "flat"

/* Rows from which on a batch is a product of matrices. Below, packing the base would cost more than it saves. */
#define BATCH_QUERIES 8

typedef struct flat {
    ki_structure base;
    ki_row_codes rows;
    double max_norm; /* length of the longest float32 row that was ever added */
} flat;

struct ki_scratch {
    ki_scorer *scorer;
};

static kith_status flat_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    flat *f = ki_alloc_zero(env->allocator, 1, sizeof *f);
    if (!f) return ki_fail_nomem(err, sizeof *f);
    f->base.env = env;
    ki_row_codes_init(&f->rows, env->allocator);
    *structure = &f->base;
    return KITH_OK;
}

static void flat_free(ki_structure *structure)
{
    flat *f = (flat *)structure;
    ki_row_codes_clear(&f->rows);
    ki_free(structure->env->allocator, f);
}

/* Whether the codes are float32 rows. */
static int is_f32(const flat *f)
{
    return strcmp(f->base.env->codec->ops->name, "f32") == 0;
}

/* ---- Rows in and out ---- */

/* The largest of the squared lengths of rows in slots first.. or slots[]. */
static double longest(const flat *f, const uint32_t *slots, uint32_t first, size_t n)
{
    const ki_structure_env *env = f->base.env;
    double norm2 = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = slots ? slots[i] : first + (uint32_t)i;
        double row = env->kernels->norm2_f32(
            (const float *)(const void *)ki_row_code(&f->rows, env->codec, slot), env->dim);
        if (row > norm2) norm2 = row;
    }
    return norm2;
}

/* A length that is not below the true one, from a float32 sum of squares. */
static double rounded_up(double norm2, size_t dim)
{
    return sqrt(norm2 * (1 + ((double)dim + 2) * 0x1p-24));
}

static kith_status flat_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                            uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    flat *f = (flat *)structure;
    KI_TRY(ki_row_codes_put(&f->rows, structure->env->codec, input, slots, first_slot, n_slots, run, err));
    if (is_f32(f)) {
        double norm = rounded_up(longest(f, slots, first_slot, input->n), structure->env->dim);
        if (norm > f->max_norm) f->max_norm = norm;
    }
    return KITH_OK;
}

static void flat_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    ki_row_codes_erase(&((flat *)structure)->rows, structure->env->codec, slots, n);
}

static void flat_decode(const ki_structure *structure, uint32_t slot, float *out)
{
    const flat *f = (const flat *)structure;
    ki_layout_decode(structure->env->codec, f->rows.codes, slot, NULL, out);
}

/* ---- Search ---- */

static kith_status flat_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    return ki_scratch_make(structure, sizeof **scratch, scratch, err);
}

static void flat_scratch_free(const ki_structure *structure, ki_scratch *scratch)
{
    ki_scorer_free(scratch->scorer);
    ki_free(structure->env->allocator, scratch);
}

static void flat_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query)
{
    const flat *f = (const flat *)structure;
    scratch->scorer->ops->query(scratch->scorer, query->vector);
    ki_query_scan(query, scratch->scorer, f->rows.codes, NULL, 0, query->rows->n_slots);
}

/* ---- A batch ---- */

/* What the visitor of a batch's tiles needs. */
typedef struct flat_batch {
    const flat *f;
    ki_query *queries;
    float *limit;  /* [nq], what the product compares with: the query's limit and the margin */
    float *margin; /* [nq] */
} flat_batch;

/* Candidates of one query in a run of slots: computed again, and offered. */
static void visit(void *ctx, size_t q, size_t column, const float *dist, uint32_t mask)
{
    (void)dist;
    flat_batch *b = ctx;
    ki_query *query = &b->queries[q];
    const ki_structure_env *env = b->f->base.env;
    for (; mask; mask &= mask - 1) {
        uint32_t slot = (uint32_t)column + (uint32_t)__builtin_ctz(mask);
        if (query->holes && !ki_rows_used(query->rows, slot)) continue;
        const float *row = (const float *)(const void *)ki_row_code(&b->f->rows, env->codec, slot);
        float exact = ki_distance(env->kernels, env->metric, query->vector, row, env->dim);
        if (exact <= ki_query_limit(query)) ki_query_offer(query, exact, slot);
    }
    b->limit[q] = ki_query_limit(query) + b->margin[q];
}

/* How far a value of the product may be from that of the pair kernel: both bounds of math/product.h and
 * kernels.def, with a factor for the additions here. Not finite where numbers are too large for the product. */
static float margin_of(const flat *f, const float *query)
{
    size_t dim = f->base.env->dim;
    double norm = rounded_up(f->base.env->kernels->norm2_f32(query, dim), dim);
    double length = norm + f->max_norm;
    return (float)(3 * ((double)dim + 4) * 0x1p-24 * length * length);
}

static kith_status flat_search_batch(const ki_structure *structure, ki_query *queries, size_t nq,
                                     kith_pool *pool, int *done, kith_error *err)
{
    const flat *f = (const flat *)structure;
    const ki_structure_env *env = structure->env;
    size_t n = queries[0].rows->n_slots;
    *done = 0;
    if (nq < BATCH_QUERIES || !is_f32(f) || env->metric == KITH_L1 || n == 0) return KITH_OK;
    float *limit = ki_alloc(env->allocator, 2 * nq, sizeof *limit);
    if (!limit) return ki_fail_nomem(err, 2 * nq * sizeof *limit);
    flat_batch batch = {f, queries, limit, limit + nq};
    int usable = 1;
    for (size_t q = 0; q < nq; q++) {
        limit[q] = INFINITY;
        batch.margin[q] = margin_of(f, queries[q].vector);
        usable = usable && isfinite(batch.margin[q]);
        queries[q].scored = queries[q].rows->n;
    }
    kith_status status = KITH_OK;
    if (usable)
        status = ki_product_search(pool, queries[0].vector, env->dim, nq,
                                   (const float *)(const void *)f->rows.codes.code, env->dim, n, env->dim,
                                   env->metric, limit, visit, &batch, env->allocator, err);
    *done = usable;
    for (size_t q = 0; !usable && q < nq; q++) queries[q].scored = 0;
    ki_free(env->allocator, limit);
    return status;
}

/* ---- Save, load, check ---- */

static kith_status flat_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                             kith_error *err)
{
    const flat *f = (const flat *)structure;
    ki_record record;
    ki_record_init(&record, structure->env->allocator);
    ki_record_put_f64(&record, "max_norm", f->max_norm);
    kith_status status = ki_store_put_record(writer, PREFIX, &record, err);
    ki_record_clear(&record);
    if (status != KITH_OK) return status;
    return ki_row_codes_save(&f->rows, structure->env->codec, PREFIX, n_slots, writer, err);
}

static kith_status flat_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                             kith_error *err)
{
    flat *f = (flat *)structure;
    ki_record_view record;
    KI_TRY(ki_store_record_open(store, PREFIX, &record, err));
    KI_TRY(ki_record_get_f64(&record, "max_norm", 0, HUGE_VAL, &f->max_norm, err));
    return ki_row_codes_load(&f->rows, structure->env->codec, PREFIX, rows->n_slots, mapped, store, err);
}

static kith_status flat_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const flat *f = (const flat *)structure;
    kith_status status = ki_row_codes_check(&f->rows, structure->env->codec, rows->n_slots, err);
    if (status != KITH_OK) {
        ki_error_prefix(err, "F1, F2");
        return status;
    }
    if (is_f32(f)) {
        double norm = sqrt(longest(f, NULL, 0, rows->n_slots));
        if (norm > f->max_norm)
            return ki_fail(err, KITH_CORRUPT, "F3: a row is %g long, max_norm is %g", norm, f->max_norm);
    }
    return KITH_OK;
}

static uint64_t flat_bytes(const ki_structure *structure)
{
    return ki_row_codes_bytes(&((const flat *)structure)->rows, structure->env->codec);
}

static const ki_structure_ops flat_ops = {
    .create = flat_create,
    .free = flat_free,
    .add = flat_add,
    .remove = flat_remove,
    .decode = flat_decode,
    .scratch_create = flat_scratch_create,
    .scratch_free = flat_scratch_free,
    .search = flat_search,
    .search_batch = flat_search_batch,
    .save = flat_save,
    .load = flat_load,
    .check = flat_check,
    .bytes = flat_bytes,
};

const ki_structure_part ki_structure_flat = {
    .part = {.info = {.pattern = "Flat",
                      .about =
                          "structure: every row is compared; exact with float32 rows, best below some ten "
                          "thousand rows and as the yardstick of recall"}},
    .metrics = KI_FLOAT_METRICS,
    .ops = &flat_ops,
    .blocks = 1,
    .scans = 1,
};
