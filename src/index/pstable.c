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
 *     bisects for the smallest w with which the share `w_recall` of these neighbours lies in the buckets that the initial
 *     number of probes looks into. (The model of the papers needs the distribution of distances, and independence of
 *     the K cuts, which low-dimensional data does not give.)
 *   - A query that finds fewer than k rows that may be returned goes on to compare all others: an answer is short only when
 *     no more rows match, as in every family. Range search has no such number and is what the buckets hold.
 *
 * Layout:      as lsh.h and hash_tables.h have it. Directions are kept divided by w, with b / w as bias: a value is a
 *              place in units of w.
 *
 * Invariants:  H1 to H3 of lsh.h.
 *
 * Cost:        train  65,536 rows x 64 x dim for the neighbours
 *              add    rows x L x K x dim multiply-adds, and sorting L x rows keys
 *              search L x K x dim, L x probes steps on a heap, scored x dim; n / 8 bytes of marks are cleared
 *              memory code_size + L x (4 + about 10 a bucket) bytes a row; directions twice
 *              remove the next add reads every table once
 *              open   mapped: nothing is read
 * Sections:    "pstable" (record: w, for people), and those of lsh.h.
 */
#include "hash/pstable.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/run.h"
#include "index/lsh.h"

#define PREFIX "pstable"

enum { PROBES, WIDTH, TARGET };

#define PROBES_INITIAL 16

static const kith_param_info params[] = {
    [PROBES] = {"probes", KITH_PARAM_INT, KITH_AT_SEARCH, 0, KI_LSH_MAX_PROBES, PROBES_INITIAL,
                "buckets looked into beside the query's own, per table; more is slower and finds more"},
    [WIDTH] = {"w", KITH_PARAM_FLOAT, KITH_AT_BUILD, 0, 1e12, 0,
               "width of a bucket in units of distance (not squared); 0: chosen from the training rows"},
    [TARGET] = {"w_recall", KITH_PARAM_FLOAT, KITH_AT_BUILD, 0.01, 0.999, 0.9,
                "share of the 10 nearest that the initial probes should find, for choosing w"},
};

/* Training: rows to choose w by, rows that are asked for their neighbours, neighbours each, the fewest rows that say
 * anything about distances; values kept at a time. */
#define TRAIN_ROWS 65536
#define TRAIN_QUERIES 64
#define TRAIN_NEAR 10
#define TRAIN_LEAST 16
#define TRAIN_FLOATS ((size_t)8 << 20)

typedef struct pstable {
    ki_lsh lsh;
    double w;
} pstable;

static const ki_lsh_kind kind = {
    .prefix = PREFIX, .moves = 2, .bucket = ki_pstable_bucket, .aim = ki_pstable_moves};

static kith_status pstable_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    pstable *p = ki_alloc_zero(env->allocator, 1, sizeof *p);
    if (!p) return ki_fail_nomem(err, sizeof *p);
    ki_lsh_init(&p->lsh, &kind, env, (size_t)env->args[1]);
    *structure = &p->lsh.base;
    return KITH_OK;
}

static void pstable_free(ki_structure *structure)
{
    ki_lsh_clear((ki_lsh *)structure);
    ki_row_codes_clear(&((ki_lsh *)structure)->rows);
    ki_free(structure->env->allocator, structure);
}

/* ---- Training: w ---- */

/* Rows of a sample with their neighbours. */
typedef struct tuning {
    const ki_lsh *lsh;
    const float *x; /* [n][dim] */
    size_t n, n_queries;
    const kith_run *run;
    float *dist;  /* [n_queries][TRAIN_NEAR] */
    uint64_t *id; /* the neighbours' rows */
    float
        *near; /* [n_queries][1 + TRAIN_NEAR][functions]: values with w = 1, of a row and of its neighbours */
    float *places; /* [1 + TRAIN_NEAR][functions]: the same of one row with another w */
    ki_probes *probes;
} tuning;

static size_t query_row(const tuning *t, size_t q)
{
    return q * t->n / t->n_queries;
}

#define QUERY_GROUP 8
#define BLOCK_ROWS 64

/* The neighbours of a few rows: the sample goes by in blocks that stay in the cache. */
static void find_neighbours(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    tuning *t = ctx;
    const ki_structure_env *env = t->lsh->base.env;
    ki_rows_fn distances = ki_rows_of(env->kernels, env->metric == KITH_L1 ? KITH_L1 : KITH_L2SQ);
    size_t first = block * QUERY_GROUP,
           end = first + QUERY_GROUP < t->n_queries ? first + QUERY_GROUP : t->n_queries;
    ki_topk top[QUERY_GROUP];
    float dist[BLOCK_ROWS];
    for (size_t q = first; q < end; q++)
        ki_topk_init(&top[q - first], TRAIN_NEAR, t->dist + q * TRAIN_NEAR, t->id + q * TRAIN_NEAR);
    for (size_t i = 0; i < t->n; i += BLOCK_ROWS) {
        size_t n = t->n - i < BLOCK_ROWS ? t->n - i : BLOCK_ROWS;
        if (t->run && kith_cancel_raised(t->run->cancel)) break;
        for (size_t q = first; q < end; q++) {
            distances(t->x + query_row(t, q) * env->dim, t->x + i * env->dim, n, env->dim, dist);
            for (size_t j = 0; j < n; j++)
                if (i + j != query_row(t, q)) ki_topk_push(&top[q - first], dist[j], i + j);
        }
    }
    for (size_t q = first; q < end; q++) ki_topk_sort(&top[q - first]);
}

/* Values of the rows that are asked, and of their neighbours. */
static void project_neighbours(const tuning *t)
{
    const ki_lsh *lsh = t->lsh;
    size_t dim = lsh->base.env->dim;
    for (size_t q = 0; q < t->n_queries; q++)
        for (size_t i = 0; i <= TRAIN_NEAR; i++) {
            size_t row = i == 0 ? query_row(t, q) : t->id[q * TRAIN_NEAR + i - 1];
            ki_product_row(lsh->packed, t->x + row * dim,
                           t->near + (q * (TRAIN_NEAR + 1) + i) * ki_lsh_functions(lsh));
        }
}

/* How many neighbours of a row lie in the buckets that a search for it looks into. */
static size_t found_by(const tuning *t, size_t q, double w)
{
    const ki_lsh *lsh = t->lsh;
    size_t m = ki_lsh_functions(lsh), found = 0;
    const float *values = t->near + q * (TRAIN_NEAR + 1) * m;
    for (size_t i = 0; i <= TRAIN_NEAR; i++)
        for (size_t f = 0; f < m; f++)
            t->places[i * m + f] = (float)((double)(values[i * m + f] - lsh->bias[f]) / w) + lsh->bias[f];
    unsigned seen = 0;
    ki_move moves[KI_PROBE_MOVES];
    uint64_t keys[TRAIN_NEAR];
    for (size_t table = 0; table < lsh->n_tables; table++) {
        uint64_t key = ki_pstable_moves(t->places + table * lsh->k, table, lsh->k, moves);
        for (size_t i = 0; i < TRAIN_NEAR; i++)
            keys[i] = ki_pstable_bucket(t->places + (i + 1) * m + table * lsh->k, table, lsh->k);
        ki_probes_begin(t->probes, key, moves);
        for (size_t left = 1 + PROBES_INITIAL; left > 0 && ki_probes_next(t->probes, &key); left--)
            for (size_t i = 0; i < TRAIN_NEAR; i++)
                if (keys[i] == key) seen |= 1u << i;
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
    const ki_structure_env *env = t->lsh->base.env;
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

/* Directions and bias are drawn and packed, with w = 1. */
static kith_status choose_w(pstable *p, const float *x, size_t n, const kith_run *run, kith_error *err)
{
    ki_lsh *lsh = &p->lsh;
    const kith_allocator *allocator = lsh->base.env->allocator;
    size_t m = ki_lsh_functions(lsh), fits = TRAIN_FLOATS / ((TRAIN_NEAR + 1) * m);
    tuning t = {.lsh = lsh, .x = x, .n = n, .n_queries = n < TRAIN_QUERIES ? n : TRAIN_QUERIES, .run = run};
    if (t.n_queries > fits) t.n_queries = fits > 8 ? fits : 8;
    t.dist = ki_alloc(allocator, t.n_queries * TRAIN_NEAR, sizeof *t.dist);
    t.id = ki_alloc(allocator, t.n_queries * TRAIN_NEAR, sizeof *t.id);
    t.near = ki_alloc(allocator, t.n_queries * (TRAIN_NEAR + 1), m * sizeof *t.near);
    t.places = ki_alloc(allocator, TRAIN_NEAR + 1, m * sizeof *t.places);
    kith_status status = t.dist && t.id && t.near && t.places
                             ? KITH_OK
                             : ki_fail_nomem(err, (t.n_queries + 1) * (TRAIN_NEAR + 1) * m * sizeof *t.near);
    if (status == KITH_OK) status = ki_lsh_probes(lsh, &t.probes, err);
    if (status == KITH_OK) status = ki_probes_reserve(t.probes, PROBES_INITIAL, err);
    if (status == KITH_OK) {
        ki_pool_run(ki_run_pool(run), (t.n_queries + QUERY_GROUP - 1) / QUERY_GROUP, find_neighbours, &t);
        status = ki_run_check(run, err);
    }
    if (status == KITH_OK) {
        project_neighbours(&t);
        status = bisect(&t, &p->w, err);
    }
    ki_free(allocator, t.dist);
    ki_free(allocator, t.id);
    ki_free(allocator, t.near);
    ki_free(allocator, t.places);
    ki_probes_free(t.probes);
    return status;
}

/* Directions in units of w. */
static kith_status divide(pstable *p, kith_error *err)
{
    const ki_structure_env *env = p->lsh.base.env;
    for (size_t i = 0; i < ki_lsh_functions(&p->lsh); i++) {
        float *direction = p->lsh.directions + i * env->dim;
        for (size_t d = 0; d < env->dim; d++) direction[d] = (float)((double)direction[d] / p->w);
        if (!env->kernels->finite_f32(direction, env->dim))
            return ki_fail(err, KITH_INVALID, "w is %g, which is too small for float32", p->w);
    }
    return ki_lsh_pack(&p->lsh, err);
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
    ki_lsh_clear(&p->lsh);
    KI_TRY(ki_run_check(run, err));
    KI_TRY(ki_input_train_codec(env, input, run, err));
    KI_TRY(ki_input_sample(input, TRAIN_ROWS, env->seed, env->allocator, &sample, &x, &n, err));
    kith_status status = ki_lsh_alloc(&p->lsh, err);
    if (status == KITH_OK) {
        ki_pstable_draw(env->metric, ki_lsh_functions(&p->lsh), env->dim, env->seed, p->lsh.directions,
                        p->lsh.bias);
        status = ki_lsh_pack(&p->lsh, err);
    }
    p->w = env->params[WIDTH];
    if (status == KITH_OK && !(p->w > 0)) status = choose_w(p, x, n, run, err);
    if (status == KITH_OK) status = divide(p, err);
    ki_free(env->allocator, sample);
    if (status != KITH_OK) ki_lsh_clear(&p->lsh);
    return status;
}

/* ---- Save and load ---- */

static kith_status pstable_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                                kith_error *err)
{
    ki_record record;
    ki_record_init(&record, structure->env->allocator);
    ki_record_put_f64(&record, "w", ((const pstable *)structure)->w);
    kith_status status = ki_store_put_record(writer, PREFIX, &record, err);
    ki_record_clear(&record);
    return status == KITH_OK ? ki_lsh_save(structure, n_slots, writer, err) : status;
}

static kith_status pstable_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                                kith_error *err)
{
    ki_record_view record;
    KI_TRY(ki_store_record_open(store, PREFIX, &record, err));
    KI_TRY(ki_record_get_f64(&record, "w", 1e-300, 1e300, &((pstable *)structure)->w, err));
    return ki_lsh_load(structure, store, mapped, rows, err);
}

static const ki_structure_ops pstable_ops = {
    .create = pstable_create,
    .free = pstable_free,
    .train = pstable_train,
    .add = ki_lsh_add,
    .prepare_remove = ki_lsh_prepare_remove,
    .remove = ki_lsh_remove,
    .decode = ki_lsh_decode,
    .scratch_create = ki_lsh_scratch_create,
    .scratch_free = ki_lsh_scratch_free,
    .prepare = ki_lsh_prepare,
    .search = ki_lsh_search,
    .save = pstable_save,
    .load = pstable_load,
    .check = ki_lsh_check,
    .bytes = ki_lsh_bytes,
};

const ki_structure_part ki_structure_pstable = {
    .part =
        {.info = {.pattern = "PStable<L>x<K>",
                  .about =
                      "structure: L hash tables of K random projections each, l2, l1 or cosine; for rows "
                      "that come and go at high rates and when a miss rate by theory matters more than speed",
                  .params = params,
                  .n_params = sizeof params / sizeof *params},
         .args = {{"L", 1, KI_LSH_MAX_TABLES, 0}, {"K", 1, KI_PSTABLE_MAX_K, 0}}},
    .main_param = "probes",
    .metrics = KI_METRIC_BIT(KITH_L2SQ) | KI_METRIC_BIT(KITH_L1) | KI_METRIC_BIT(KITH_COSINE),
    .ops = &pstable_ops,
};
