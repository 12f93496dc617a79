/* pstable.c - hash tables by p-stable projections, for L2 and L1 (and for cosine, on the unit sphere).
 *
 * The idea. A random direction and a width w cut space into parallel slabs; near rows lie in the same slab or in one beside
 * it. K such cuts make the buckets of a table, L tables give each row L chances. A query looks into its own bucket of
 * each table and then into those beside it in the order of how likely they hold its neighbours; rows found there are compared
 * by the codec's scorer, each once.
 *
 * Papers. M. Datar, N. Immorlica, P. Indyk, V. Mirrokni, "Locality-Sensitive Hashing Scheme Based on p-Stable
 * Distributions", SoCG 2004: the hash functions (hash/pstable.h). Q. Lv, W. Josephson, Z. Wang, M. Charikar, K. Li,
 * "Multi-Probe LSH", VLDB 2007: the sequence of buckets (hash/probes.h). Our ways apart from them:
 *   - w is measured, not computed from a model: training takes 64 rows of a sample with their 10 nearest, and
 *     bisects for the smallest w with which the share `target_recall` of these neighbours lies in the buckets that the initial
 *     number of probes looks into. (The model of the papers needs the distribution of distances, and independence of
 *     the K cuts, which low-dimensional data does not give.)
 *   - The number of probes is for all tables together, shared out by cost; see hash/probes.h.
 *   - A query that finds fewer than k rows that may be returned goes on to compare all others: an answer is short only when
 *     no more rows match, as in every family. Range search has no such number and is what the buckets hold.
 *
 * Layout:      directions[L * K][dim] and the same packed in panels for the product (a query's projections are one product
 *              of a matrix and a vector); codes by slot; tables as hash_tables.h draws them.
 *
 * Invariants:
 *   P1  directions are finite, offsets in [0, 1), w finite and above 0
 *   P2  every slot in use stands in every table exactly once, no other slot does; the tables are in order
 *   P3  every code is one that its codec can score; float32 rows are finite
 *
 * Cost:        train  65,536 rows x 64 x dim for the neighbours
 *              add    rows x L x K x dim multiply-adds, and sorting L x rows keys
 *              search L x K x dim, L x probes steps on a heap, scored x dim; n / 8 bytes of marks are cleared
 *              memory code_size + L x (4 + about 10 a bucket) bytes a row; directions twice
 *              remove the next add reads every table once
 *              open   mapped: nothing is read
 * Sections:    "pstable" (record: w), "pstable.directions", "pstable.offsets", "pstable.sizes", ".cells", ".buckets",
 *              ".slots", ".codes", ".factors".
 */
#include "hash/pstable.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/run.h"
#include "index/gather.h"
#include "index/hash_tables.h"
#include "index/rowcodes.h"
#include "math/product.h"

#define PREFIX "pstable"
#define MAX_TABLES 1024
#define MAX_PROBES 65536

enum { PROBES, WIDTH, TARGET };

#define PROBES_INITIAL 16

static const kith_param_info params[] = {
    [PROBES] =
        {"probes", KITH_PARAM_INT, KITH_AT_SEARCH, 0, MAX_PROBES, PROBES_INITIAL,
         "buckets looked into beside the query's own, per table on average; more is slower and finds more"},
    [WIDTH] = {"w", KITH_PARAM_FLOAT, KITH_AT_BUILD, 0, 1e12, 0,
               "width of a bucket in units of distance (not squared); 0: chosen from the training rows"},
    [TARGET] = {"target_recall", KITH_PARAM_FLOAT, KITH_AT_BUILD, 0.01, 0.999, 0.9,
                "share of the 10 nearest that the initial probes should find, for choosing w"},
};

/* Training: rows to choose w by, rows that are asked for their neighbours, neighbours each, the fewest rows that say
 * anything about distances; projections kept at a time (floats). */
#define TRAIN_ROWS 65536
#define TRAIN_QUERIES 64
#define TRAIN_NEAR 10
#define TRAIN_LEAST 16
#define TRAIN_FLOATS ((size_t)8 << 20)

/* Rows that are projected at a time while adding. */
#define ADD_FLOATS ((size_t)4 << 20)

typedef struct pstable {
    ki_structure base;
    size_t n_tables, k;
    double w;
    float *directions; /* [n_tables * k][dim]; NULL: not trained */
    float *offsets;    /* [n_tables * k] */
    ki_packed *packed; /* the directions */
    ki_hash_tables tables;
    ki_row_codes rows;
} pstable;

struct ki_scratch {
    ki_scorer *scorer;
    ki_probes *probes;
    float *projections; /* [n_tables * k] */
    ki_gather gather;
};

static size_t functions(const pstable *p)
{
    return p->n_tables * p->k;
}

/* ---- Create and free ---- */

static kith_status pstable_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    pstable *p = ki_alloc_zero(env->allocator, 1, sizeof *p);
    if (!p) return ki_fail_nomem(err, sizeof *p);
    p->base.env = env;
    p->n_tables = (size_t)env->args[0];
    p->k = (size_t)env->args[1];
    ki_hash_tables_init(&p->tables, p->n_tables, env->allocator);
    ki_row_codes_init(&p->rows, env->allocator);
    *structure = &p->base;
    return KITH_OK;
}

/* Back to untrained. */
static void pstable_reset(pstable *p)
{
    const kith_allocator *allocator = p->base.env->allocator;
    ki_free(allocator, p->directions);
    ki_free(allocator, p->offsets);
    ki_packed_free(p->packed);
    ki_hash_tables_clear(&p->tables);
    ki_row_codes_clear(&p->rows);
    p->directions = p->offsets = NULL;
    p->packed = NULL;
}

static void pstable_free(ki_structure *structure)
{
    pstable_reset((pstable *)structure);
    ki_free(structure->env->allocator, structure);
}

static kith_status alloc_functions(pstable *p, kith_error *err)
{
    const ki_structure_env *env = p->base.env;
    size_t row = env->dim * sizeof *p->directions;
    p->directions = ki_alloc(env->allocator, functions(p), row);
    p->offsets = ki_alloc(env->allocator, functions(p), sizeof *p->offsets);
    return p->directions && p->offsets ? KITH_OK : ki_fail_nomem(err, functions(p) * row);
}

static kith_status pack(pstable *p, kith_error *err)
{
    const ki_structure_env *env = p->base.env;
    return ki_packed_create_affine(p->directions, env->dim, functions(p), env->dim, NULL, env->allocator,
                                   &p->packed, err);
}

/* ---- Training: w ---- */

/* Rows of a sample with their neighbours. */
typedef struct tuning {
    const pstable *p;
    const float *x; /* [n][dim] */
    size_t n, n_queries;
    const kith_run *run;
    float *dist;    /* [n_queries][TRAIN_NEAR] */
    uint64_t *id;   /* the neighbours' rows */
    float *near;    /* [n_queries][1 + TRAIN_NEAR][functions]: projections of a row and of its neighbours */
    uint64_t *keys; /* [n_tables][TRAIN_NEAR]: buckets of the neighbours of one row */
    ki_probes *probes;
} tuning;

static size_t query_row(const tuning *t, size_t q)
{
    return q * t->n / t->n_queries;
}

/* The neighbours of a few rows: the sample goes by in blocks that stay in the cache. */
static void find_neighbours(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    enum { GROUP = 8, ROWS = 64 };
    tuning *t = ctx;
    const ki_structure_env *env = t->p->base.env;
    ki_rows_fn distances = ki_rows_of(env->kernels, env->metric == KITH_L1 ? KITH_L1 : KITH_L2SQ);
    size_t first = block * GROUP, end = first + GROUP < t->n_queries ? first + GROUP : t->n_queries;
    ki_topk top[GROUP];
    float dist[ROWS];
    for (size_t q = first; q < end; q++)
        ki_topk_init(&top[q - first], TRAIN_NEAR, t->dist + q * TRAIN_NEAR, t->id + q * TRAIN_NEAR);
    for (size_t i = 0; i < t->n; i += ROWS) {
        size_t n = t->n - i < ROWS ? t->n - i : ROWS;
        if (t->run && kith_cancel_raised(t->run->cancel)) break;
        for (size_t q = first; q < end; q++) {
            distances(t->x + query_row(t, q) * env->dim, t->x + i * env->dim, n, env->dim, dist);
            for (size_t j = 0; j < n; j++)
                if (i + j != query_row(t, q)) ki_topk_push(&top[q - first], dist[j], i + j);
        }
    }
    for (size_t q = first; q < end; q++) ki_topk_sort(&top[q - first]);
}

/* Projections of the rows that are asked, and of their neighbours. */
static kith_status project_neighbours(tuning *t, kith_error *err)
{
    const pstable *p = t->p;
    const ki_structure_env *env = p->base.env;
    for (size_t q = 0; q < t->n_queries; q++)
        for (size_t i = 0; i <= TRAIN_NEAR; i++) {
            size_t row = i == 0 ? query_row(t, q) : t->id[q * TRAIN_NEAR + i - 1];
            ki_product_row(p->packed, t->x + row * env->dim,
                           t->near + (q * (TRAIN_NEAR + 1) + i) * functions(p));
        }
    return ki_run_check(t->run, err);
}

/* How many neighbours of a row lie in the buckets that a search for it looks into. */
static size_t found_by(const tuning *t, size_t q, double w)
{
    const pstable *p = t->p;
    size_t m = functions(p), found = 0;
    const float *own = t->near + q * (TRAIN_NEAR + 1) * m;
    unsigned seen = 0;
    ki_move moves[KI_PROBE_MOVES];
    ki_probe probe;
    ki_probes_begin(t->probes);
    for (size_t table = 0; table < p->n_tables; table++) {
        size_t at = table * p->k;
        uint64_t key = ki_pstable_moves(own + at, p->offsets + at, w, table, p->k, moves);
        ki_probes_table(t->probes, (uint32_t)table, key, moves);
    }
    for (size_t table = 0; table < p->n_tables; table++)
        for (size_t i = 0; i < TRAIN_NEAR; i++)
            t->keys[table * TRAIN_NEAR + i] = ki_pstable_bucket(own + (i + 1) * m + table * p->k,
                                                                p->offsets + table * p->k, w, table, p->k);
    for (size_t left = p->n_tables * (1 + PROBES_INITIAL); left > 0; left--) {
        if (!ki_probes_next(t->probes, &probe)) break;
        for (size_t i = 0; i < TRAIN_NEAR; i++)
            if (t->keys[probe.table * TRAIN_NEAR + i] == probe.key) seen |= 1u << i;
    }
    for (size_t i = 0; i < TRAIN_NEAR; i++) found += seen >> i & 1;
    return found;
}

static double recall_of(const tuning *t, double w)
{
    size_t found = 0;
    for (size_t q = 0; q < t->n_queries; q++) found += found_by(t, q, w);
    return (double)found / (double)(t->n_queries * TRAIN_NEAR);
}

/* The smallest w of enough recall, to one per cent. It grows with w but for a few neighbours at the borders. */
static kith_status bisect(const tuning *t, double *w, kith_error *err)
{
    const ki_structure_env *env = t->p->base.env;
    double scale = 0, target = env->params[TARGET];
    for (size_t i = 0; i < t->n_queries * TRAIN_NEAR; i++) {
        double d = (double)t->dist[i];
        scale += env->metric == KITH_L1 ? d : sqrt(d);
    }
    scale /= (double)(t->n_queries * TRAIN_NEAR);
    *w = 1;
    if (!(scale > 0) || !(scale < 1e30))
        return KITH_OK; /* all alike, or beyond what float32 can tell apart */
    double low = scale / 64, high = scale;
    while (recall_of(t, high) < target && high < scale * 1e6) {
        low = high;
        high *= 2;
    }
    while (high > low * 1.01) {
        KI_TRY(ki_run_check(t->run, err));
        double middle = sqrt(low * high);
        if (recall_of(t, middle) < target)
            low = middle;
        else
            high = middle;
    }
    *w = high;
    return KITH_OK;
}

static kith_status choose_w(pstable *p, const float *x, size_t n, const kith_run *run, kith_error *err)
{
    const kith_allocator *allocator = p->base.env->allocator;
    tuning t = {.p = p, .x = x, .n = n, .n_queries = n < TRAIN_QUERIES ? n : TRAIN_QUERIES, .run = run};
    size_t fits = TRAIN_FLOATS / ((TRAIN_NEAR + 1) * functions(p));
    if (t.n_queries > fits) t.n_queries = fits > 8 ? fits : 8;
    size_t near = t.n_queries * TRAIN_NEAR;
    t.dist = ki_alloc(allocator, near, sizeof *t.dist);
    t.id = ki_alloc(allocator, near, sizeof *t.id);
    t.near = ki_alloc(allocator, t.n_queries * (TRAIN_NEAR + 1), functions(p) * sizeof *t.near);
    t.keys = ki_alloc(allocator, p->n_tables, TRAIN_NEAR * sizeof *t.keys);
    kith_status status =
        t.dist && t.id && t.near && t.keys
            ? KITH_OK
            : ki_fail_nomem(err, t.n_queries * (TRAIN_NEAR + 1) * functions(p) * sizeof *t.near);
    if (status == KITH_OK) status = ki_probes_create(p->n_tables, 2 * p->k, 1, allocator, &t.probes, err);
    if (status == KITH_OK) status = ki_probes_reserve(t.probes, p->n_tables * PROBES_INITIAL, err);
    if (status == KITH_OK) {
        ki_pool_run(ki_run_pool(run), (t.n_queries + 7) / 8, find_neighbours, &t);
        status = ki_run_check(run, err);
    }
    if (status == KITH_OK) status = project_neighbours(&t, err);
    if (status == KITH_OK) status = bisect(&t, &p->w, err);
    ki_free(allocator, t.dist);
    ki_free(allocator, t.id);
    ki_free(allocator, t.near);
    ki_free(allocator, t.keys);
    ki_probes_free(t.probes);
    return status;
}

static kith_status pstable_train(ki_structure *structure, const ki_input *input, const kith_run *run,
                                 kith_error *err)
{
    pstable *p = (pstable *)structure;
    const ki_structure_env *env = structure->env;
    if (input->n < TRAIN_LEAST)
        return ki_fail(err, KITH_INVALID, "n is %zu, choosing w takes at least %d rows", input->n,
                       TRAIN_LEAST);
    float *sample;
    const float *x;
    size_t n;
    pstable_reset(p);
    KI_TRY(ki_run_check(run, err));
    KI_TRY(ki_input_train_codec(env, input, run, err));
    KI_TRY(ki_input_sample(input, TRAIN_ROWS, env->seed, env->allocator, &sample, &x, &n, err));
    kith_status status = alloc_functions(p, err);
    if (status == KITH_OK) {
        ki_pstable_draw(env->metric, functions(p), env->dim, env->seed, p->directions, p->offsets);
        status = pack(p, err);
    }
    p->w = env->params[WIDTH];
    if (status == KITH_OK && !(p->w > 0)) status = choose_w(p, x, n, run, err);
    ki_free(env->allocator, sample);
    if (status != KITH_OK) pstable_reset(p);
    return status;
}

/* ---- Adding and removing ---- */

/* The bucket keys of all rows, keys[n_tables][n]. */
static kith_status hash_rows(const pstable *p, const ki_input *input, const kith_run *run, uint32_t *keys,
                             kith_error *err)
{
    const ki_structure_env *env = p->base.env;
    size_t m = functions(p), rows = ADD_FLOATS / m, n;
    if (rows < 64) rows = 64;
    if (rows > input->n) rows = input->n;
    float *x = ki_alloc(env->allocator, env->unit ? rows * env->dim : 1, sizeof *x);
    float *projections = ki_alloc(env->allocator, rows, m * sizeof *projections);
    kith_status status = x && projections ? KITH_OK : ki_fail_nomem(err, rows * (env->dim + m) * sizeof *x);
    ki_stage stage;
    ki_stage_begin(&stage, run, "hashing", input->n);
    for (size_t first = 0; status == KITH_OK && first < input->n; first += n) {
        n = input->n - first < rows ? input->n - first : rows;
        if ((status = ki_run_check(run, err)) != KITH_OK) break;
        status = ki_product_store(ki_run_pool(run), ki_input_block(input, first, n, x), env->dim, n,
                                  p->packed, projections, m, err);
        for (size_t t = 0; status == KITH_OK && t < p->n_tables; t++)
            for (size_t i = 0; i < n; i++)
                keys[t * input->n + first + i] = ki_hash_key(
                    ki_pstable_bucket(projections + i * m + t * p->k, p->offsets + t * p->k, p->w, t, p->k));
        ki_stage_report(&stage, first + n);
    }
    ki_free(env->allocator, x);
    ki_free(env->allocator, projections);
    return status;
}

static kith_status pstable_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                               uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    pstable *p = (pstable *)structure;
    const ki_structure_env *env = structure->env;
    uint32_t *keys = ki_alloc(env->allocator, input->n, p->n_tables * sizeof *keys);
    if (!keys) return ki_fail_nomem(err, input->n * p->n_tables * sizeof *keys);
    ki_hash_staged staged;
    kith_status status = hash_rows(p, input, run, keys, err);
    if (status == KITH_OK)
        status = ki_hash_tables_stage(&p->tables, keys, slots, first_slot, input->n, run, &staged, err);
    ki_free(env->allocator, keys);
    if (status != KITH_OK) return status;
    status = ki_row_codes_put(&p->rows, env->codec, input, slots, first_slot, n_slots, run, err);
    if (status == KITH_OK)
        ki_hash_tables_commit(&p->tables, &staged);
    else
        ki_hash_tables_drop(&p->tables, &staged);
    return status;
}

static kith_status pstable_prepare_remove(ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    return ki_hash_tables_reserve_stale(&((pstable *)structure)->tables, rows->n_slots, err);
}

static void pstable_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    pstable *p = (pstable *)structure;
    ki_hash_tables_remove(&p->tables, slots, n);
    ki_row_codes_erase(&p->rows, structure->env->codec, slots, n);
}

static void pstable_decode(const ki_structure *structure, uint32_t slot, float *out)
{
    const pstable *p = (const pstable *)structure;
    const ki_codec *codec = structure->env->codec;
    codec->ops->decode(codec, ki_row_code(&p->rows, codec, slot), ki_row_factor(&p->rows, codec, slot), NULL,
                       out);
}

/* ---- Search ---- */

static void pstable_scratch_free(const ki_structure *structure, ki_scratch *s)
{
    const kith_allocator *allocator = structure->env->allocator;
    ki_scorer_free(s->scorer);
    ki_probes_free(s->probes);
    ki_free(allocator, s->projections);
    ki_gather_clear(&s->gather);
    ki_free(allocator, s);
}

static kith_status pstable_scratch_create(const ki_structure *structure, ki_scratch **scratch,
                                          kith_error *err)
{
    const pstable *p = (const pstable *)structure;
    const ki_structure_env *env = structure->env;
    *scratch = NULL;
    ki_scratch *s = ki_alloc_zero(env->allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    ki_gather_init(&s->gather, env->allocator);
    s->projections = ki_alloc(env->allocator, functions(p), sizeof *s->projections);
    kith_status status = s->projections ? KITH_OK : ki_fail_nomem(err, functions(p) * sizeof *s->projections);
    if (status == KITH_OK)
        status = ki_probes_create(p->n_tables, 2 * p->k, 1, env->allocator, &s->probes, err);
    if (status == KITH_OK) status = env->codec->ops->scorer(env->codec, env->allocator, &s->scorer, err);
    if (status != KITH_OK) {
        pstable_scratch_free(structure, s);
        return status;
    }
    *scratch = s;
    return KITH_OK;
}

static kith_status pstable_prepare(const ki_structure *structure, ki_scratch *s, size_t k,
                                   const double *settings, kith_error *err)
{
    const pstable *p = (const pstable *)structure;
    (void)k;
    KI_TRY(ki_probes_reserve(s->probes, p->n_tables * (size_t)settings[PROBES], err));
    return ki_gather_reserve(&s->gather, p->rows.n_slots, err);
}

/* Name the query's buckets and their neighbours. */
static void aim(const pstable *p, ki_scratch *s, const float *query)
{
    ki_move moves[KI_PROBE_MOVES];
    ki_product_row(p->packed, query, s->projections);
    ki_probes_begin(s->probes);
    for (size_t t = 0; t < p->n_tables; t++) {
        size_t at = t * p->k;
        uint64_t key = ki_pstable_moves(s->projections + at, p->offsets + at, p->w, t, p->k, moves);
        ki_probes_table(s->probes, (uint32_t)t, key, moves);
    }
}

static void pstable_search(const ki_structure *structure, ki_scratch *s, ki_query *query)
{
    const pstable *p = (const pstable *)structure;
    ki_gather *gather = &s->gather;
    ki_gather_begin(gather, query, s->scorer, p->rows.codes);
    if (p->tables.n_runs == 0) return;
    aim(p, s, query->vector);
    ki_probe probe;
    size_t left = p->n_tables * (1 + (size_t)query->settings[PROBES]);
    for (; left > 0 && !ki_query_stop(query) && ki_probes_next(s->probes, &probe); left--) {
        uint32_t key = ki_hash_key(probe.key);
        for (size_t r = 0; r < p->tables.n_runs; r++) {
            size_t n;
            const uint32_t *slots = ki_hash_find(&p->tables.runs[r], probe.table, key, &n);
            if (n > 0) ki_gather_add(gather, slots, n);
        }
        query->visited++;
    }
    ki_gather_flush(gather);
    if (ki_query_taken(query) < query->need) ki_gather_rest(gather);
}

/* ---- Save, load, check ---- */

static kith_status pstable_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                                kith_error *err)
{
    const pstable *p = (const pstable *)structure;
    const ki_structure_env *env = structure->env;
    ki_record record;
    ki_record_init(&record, env->allocator);
    ki_record_put_f64(&record, "w", p->w);
    kith_status status = ki_store_put_record(writer, PREFIX, &record, err);
    ki_record_clear(&record);
    if (status != KITH_OK) return status;
    KI_TRY(ki_store_put(writer, PREFIX ".directions", p->directions, functions(p),
                        env->dim * sizeof *p->directions, err));
    KI_TRY(ki_store_put(writer, PREFIX ".offsets", p->offsets, functions(p), sizeof *p->offsets, err));
    KI_TRY(ki_hash_tables_save(&p->tables, PREFIX, writer, err));
    return ki_row_codes_save(&p->rows, env->codec, PREFIX, n_slots, writer, err);
}

static kith_status check_functions(const pstable *p, kith_error *err)
{
    const ki_structure_env *env = p->base.env;
    for (size_t i = 0; i < functions(p); i++) {
        if (!env->kernels->finite_f32(p->directions + i * env->dim, env->dim))
            return ki_fail(err, KITH_CORRUPT, "P1: direction %zu is not finite", i);
        if (!(p->offsets[i] >= 0 && p->offsets[i] < 1))
            return ki_fail(err, KITH_CORRUPT, "P1: offset %zu is %g", i, (double)p->offsets[i]);
    }
    return KITH_OK;
}

static kith_status pstable_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                                kith_error *err)
{
    pstable *p = (pstable *)structure;
    const ki_structure_env *env = structure->env;
    size_t row = env->dim * sizeof *p->directions;
    ki_record_view record;
    uint64_t n; /* before anything is allocated: whether the file holds so much */
    KI_TRY(ki_store_record_open(store, PREFIX, &record, err));
    KI_TRY(ki_record_get_f64(&record, "w", 1e-300, 1e300, &p->w, err));
    KI_TRY(ki_store_count(store, PREFIX ".directions", row, &n, err));
    if (n != functions(p))
        return ki_fail(err, KITH_CORRUPT, "%s: %llu directions for %zu x %zu", ki_store_path(store),
                       (unsigned long long)n, p->n_tables, p->k);
    KI_TRY(alloc_functions(p, err));
    KI_TRY(ki_store_load(store, PREFIX ".directions", functions(p), row, p->directions, err));
    KI_TRY(ki_store_load(store, PREFIX ".offsets", functions(p), sizeof *p->offsets, p->offsets, err));
    KI_TRY(check_functions(p, err));
    KI_TRY(pack(p, err));
    KI_TRY(ki_hash_tables_load(&p->tables, PREFIX, mapped, rows, store, err));
    return ki_row_codes_load(&p->rows, env->codec, PREFIX, rows->n_slots, mapped, store, err);
}

static kith_status pstable_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const pstable *p = (const pstable *)structure;
    KI_TRY(check_functions(p, err));
    kith_status status = ki_hash_tables_check(&p->tables, rows, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "P2");
    if (status != KITH_OK) return status;
    status = ki_row_codes_check(&p->rows, structure->env->codec, rows->n_slots, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "P3");
    return status;
}

static uint64_t pstable_bytes(const ki_structure *structure)
{
    const pstable *p = (const pstable *)structure;
    if (!p->directions) return 0;
    uint64_t bytes = (uint64_t)functions(p) * (structure->env->dim + 1) * sizeof *p->directions;
    return bytes + ki_packed_bytes(p->packed) + ki_hash_tables_bytes(&p->tables) +
           ki_row_codes_bytes(&p->rows, structure->env->codec);
}

static const ki_structure_ops pstable_ops = {
    .create = pstable_create,
    .free = pstable_free,
    .train = pstable_train,
    .add = pstable_add,
    .prepare_remove = pstable_prepare_remove,
    .remove = pstable_remove,
    .decode = pstable_decode,
    .scratch_create = pstable_scratch_create,
    .scratch_free = pstable_scratch_free,
    .prepare = pstable_prepare,
    .search = pstable_search,
    .save = pstable_save,
    .load = pstable_load,
    .check = pstable_check,
    .bytes = pstable_bytes,
};

const ki_structure_part ki_structure_pstable = {
    .part =
        {.info = {.pattern = "PStable<L>x<K>",
                  .about =
                      "structure: L hash tables of K random projections each, l2, l1 or cosine; for rows "
                      "that come and go at high rates and when a miss rate by theory matters more than speed",
                  .params = params,
                  .n_params = sizeof params / sizeof *params},
         .args = {{"L", 1, MAX_TABLES, 0}, {"K", 1, KI_PSTABLE_MAX_K, 0}}},
    .metrics = KI_METRIC_BIT(KITH_L2SQ) | KI_METRIC_BIT(KITH_L1) | KI_METRIC_BIT(KITH_COSINE),
    .ops = &pstable_ops,
};
