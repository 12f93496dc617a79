/* lshforest.c - trees of hash bits: each query goes as deep as there are rows near it.
 *
 * The idea. A hash table asks for K before the data is known: too few bits and buckets are full, too many and they are empty.
 * A forest keeps rows sorted by a long string of bits, the sides of random hyperplanes. A prefix of it is a bucket,
 * a prefix of one bit less the bucket around it: the sorted array is a binary tree of buckets of all depths at once, and a
 * query takes from each tree what lies nearest to its own string, in dense places from deep down, in sparse ones from
 * high up. Rows found are compared by the codec's scorer, each once.
 *
 * Paper. M. Bawa, T. Condie, P. Ganesan, "LSH Forest: Self-Tuning Indexes for Similarity Search", WWW 2005. Our ways
 * apart from it:
 *   - The trees are sorted arrays (hash_tables.h with keys in the order of the bits), not nodes and pointers.
 *   - The paper ascends all trees together, level by level (SYNCHASCEND): a step up takes in the whole subtree on the other side of
 *     one hyperplane, of whichever tree. Here subtrees are taken in the order of what separates them from the query: the
 *     sum of the squares of its distances from the hyperplanes between, the measure of multi-probe LSH (Lv et al., VLDB
 *     2007), over all trees and depths at once. docs/families/lshforest.md has the measurement.
 *   - Hyperplanes go through the mean of the training rows, as in hyperplane.c. With that, L2 is served as well as
 *     cosine: the bits tell the side of cuts through the middle of the data.
 *   - A query that finds fewer than k rows that may be returned goes on to compare all others: an answer is short only when
 *     no more rows match, as in every family. Range search has no such number and is what was collected.
 *
 * Layout:      as lsh.h and hash_tables.h have it; bit i of a row's string is bit 31 - i of its key.
 *
 * Invariants:  H1 to H3 of lsh.h.
 *
 * Cost:        train  the mean of 65,536 rows
 *              add    rows x L x depth x dim multiply-adds, and sorting L x rows keys
 *              search L x depth x dim, a heap of subtrees, scored x dim; n / 8 bytes of marks are cleared
 *              memory code_size + L x (4 + 8 to 12 a distinct string) bytes a row; directions twice
 *              remove the next add reads every tree once
 *              open   mapped: nothing is read
 * Sections:    those of lsh.h.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "hash/hyperplane.h"
#include "index/gather.h"
#include "index/lsh.h"

enum { CANDIDATES, DEPTH, CENTRED };

#define MAX_DEPTH 32 /* bits of a key */

static const kith_param_info params[] = {
    [CANDIDATES] = {"candidates", KITH_PARAM_INT, KITH_AT_SEARCH, 1, (double)(1 << 30), 1000,
                    "rows that a query collects before it stops; more is slower and finds more"},
    [DEPTH] = {"depth", KITH_PARAM_INT, KITH_AT_BUILD, 1, MAX_DEPTH, 24,
               "bits of a row's string: the deepest that trees can be"},
    [CENTRED] = {"centred", KITH_PARAM_BOOL, KITH_AT_BUILD, 0, 1, 1,
                 "whether hyperplanes go through the mean of the training rows instead of the origin"},
};

/* A subtree of so few rows is taken as it is: to compare them costs less than to choose among them. */
#define LEAF 16

/* Subtrees that wait for each row wanted, at most: a leaf of 16 rows is reached over some 10 others. */
#define WAITING 4

/* A subtree that waits: buckets lo..hi-1 of a tree of a run, whose first `depth` bits are one prefix. */
typedef struct subtree {
    float cost;
    uint32_t order; /* when it was found: decides between equal costs */
    uint32_t tree;  /* run * n_tables + table */
    uint32_t lo, hi, depth;
} subtree;

struct ki_scratch {
    ki_scorer *scorer;
    float *values; /* [functions], of the query */
    ki_gather gather;
    subtree *heap; /* [room], the cheapest first */
    size_t n, room;
    uint32_t found;
};

static uint64_t bucket(const float *values, size_t table, size_t k)
{
    (void)table;
    uint64_t key = 0;
    for (size_t i = 0; i < k; i++) key |= (uint64_t)(values[i] > 0) << (MAX_DEPTH - 1 - i);
    return key;
}

static const ki_lsh_kind kind = {.prefix = "lshforest", .ordered = 1, .bucket = bucket};

static kith_status forest_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    ki_lsh *lsh = ki_alloc_zero(env->allocator, 1, sizeof *lsh);
    if (!lsh) return ki_fail_nomem(err, sizeof *lsh);
    ki_lsh_init(lsh, &kind, env, 0);
    *structure = &lsh->base;
    return KITH_OK;
}

static void forest_free(ki_structure *structure)
{
    ki_lsh_clear((ki_lsh *)structure);
    ki_row_codes_clear(&((ki_lsh *)structure)->rows);
    ki_free(structure->env->allocator, structure);
}

static kith_status forest_train(ki_structure *structure, const ki_input *input, const kith_run *run,
                                kith_error *err)
{
    ki_lsh *lsh = (ki_lsh *)structure;
    lsh->k = (size_t)structure->env->params[DEPTH];
    return ki_lsh_train_hyperplanes(lsh, input, structure->env->params[CENTRED] > 0, run, err);
}

static kith_status forest_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                               kith_error *err)
{
    ((ki_lsh *)structure)->k = (size_t)structure->env->params[DEPTH];
    return ki_lsh_load(structure, store, mapped, rows, err);
}

/* ---- Search ---- */

static void forest_scratch_free(const ki_structure *structure, ki_scratch *s)
{
    const kith_allocator *allocator = structure->env->allocator;
    ki_scorer_free(s->scorer);
    ki_free(allocator, s->values);
    ki_free(allocator, s->heap);
    ki_gather_clear(&s->gather);
    ki_free(allocator, s);
}

static kith_status forest_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
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
    if (status == KITH_OK) status = env->codec->ops->scorer(env->codec, env->allocator, &s->scorer, err);
    if (status != KITH_OK) {
        forest_scratch_free(structure, s);
        return status;
    }
    *scratch = s;
    return KITH_OK;
}

static kith_status forest_prepare(const ki_structure *structure, ki_scratch *s, size_t k,
                                  const double *settings, kith_error *err)
{
    const ki_lsh *lsh = (const ki_lsh *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    (void)k;
    size_t rows = lsh->rows.n_slots;
    if (settings[CANDIDATES] < (double)rows) rows = (size_t)settings[CANDIDATES];
    size_t room = lsh->tables.n_runs * lsh->n_tables + WAITING * rows + 1024;
    if (room > s->room) {
        subtree *heap = ki_alloc(allocator, room, sizeof *heap);
        if (!heap) return ki_fail_nomem(err, room * sizeof *heap);
        ki_free(allocator, s->heap);
        s->heap = heap;
        s->room = room;
    }
    return ki_gather_reserve(&s->gather, lsh->rows.n_slots, err);
}

static int before(const subtree *a, const subtree *b)
{
    return a->cost < b->cost || (a->cost == b->cost && a->order < b->order);
}

/* A subtree for which there is no room is dropped: the heap is then full of cheaper ones or of nearly as cheap. */
static void push(ki_scratch *s, subtree added)
{
    if (s->n == s->room) return;
    added.order = s->found++;
    size_t i = s->n++;
    for (; i > 0 && before(&added, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = added;
}

static subtree pop(ki_scratch *s)
{
    subtree top = s->heap[0], moved = s->heap[--s->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < s->n; i = child) {
        if (child + 1 < s->n && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &moved)) break;
        s->heap[i] = s->heap[child];
    }
    if (s->n > 0) s->heap[i] = moved;
    return top;
}

/* The first of buckets lo..hi-1, which agree in the bits before it, whose bit `depth` is set; hi when there is none. */
static uint32_t split(const ki_hash_table *table, uint32_t lo, uint32_t hi, uint32_t depth)
{
    uint32_t bit = (uint32_t)1 << (MAX_DEPTH - 1 - depth);
    while (lo < hi) {
        uint32_t middle = lo + (hi - lo) / 2;
        if (table->buckets[middle].key & bit)
            hi = middle;
        else
            lo = middle + 1;
    }
    return lo;
}

/* Go down from a subtree on the query's side of each hyperplane; what is on the other side waits. At the end the
 * slots of a leaf are collected. */
static void descend(const ki_lsh *lsh, ki_scratch *s, subtree at)
{
    const ki_hash_run *run = &lsh->tables.runs[at.tree / lsh->n_tables];
    const ki_hash_table *table = &run->tables[at.tree % lsh->n_tables];
    const float *values = s->values + at.tree % lsh->n_tables * lsh->k;
    while (at.lo < at.hi) {
        uint32_t start = at.lo ? table->buckets[at.lo - 1].end : 0, end = table->buckets[at.hi - 1].end;
        if (end > run->n || start >= end) return; /* a damaged file */
        if (end - start <= LEAF || at.depth == lsh->k) {
            ki_gather_add(&s->gather, table->slots + start, end - start);
            return;
        }
        uint32_t middle = split(table, at.lo, at.hi, at.depth);
        float value = values[at.depth++];
        subtree other = at;
        if (value > 0)
            other.hi = at.lo = middle;
        else
            other.lo = at.hi = middle;
        other.cost += value * value;
        if (other.lo < other.hi) push(s, other);
    }
}

static void forest_search(const ki_structure *structure, ki_scratch *s, ki_query *query)
{
    const ki_lsh *lsh = (const ki_lsh *)structure;
    ki_gather_begin(&s->gather, query, s->scorer, lsh->rows.codes);
    s->n = 0;
    s->found = 0;
    if (lsh->tables.n_runs > 0) ki_product_row(lsh->packed, query->vector, s->values);
    for (size_t r = 0; r < lsh->tables.n_runs; r++)
        for (size_t t = 0; t < lsh->n_tables; t++)
            push(s, (subtree){.tree = (uint32_t)(r * lsh->n_tables + t),
                              .hi = lsh->tables.runs[r].tables[t].n_buckets});
    while (s->n > 0 && (double)s->gather.distinct < query->settings[CANDIDATES] && !ki_query_stop(query)) {
        descend(lsh, s, pop(s));
        query->visited++;
    }
    ki_gather_flush(&s->gather);
    if (ki_query_taken(query) < query->need) ki_gather_rest(&s->gather);
}

static const ki_structure_ops forest_ops = {
    .create = forest_create,
    .free = forest_free,
    .train = forest_train,
    .add = ki_lsh_add,
    .prepare_remove = ki_lsh_prepare_remove,
    .remove = ki_lsh_remove,
    .decode = ki_lsh_decode,
    .scratch_create = forest_scratch_create,
    .scratch_free = forest_scratch_free,
    .prepare = forest_prepare,
    .search = forest_search,
    .save = ki_lsh_save,
    .load = forest_load,
    .check = ki_lsh_check,
    .bytes = ki_lsh_bytes,
};

const ki_structure_part ki_structure_lshforest = {
    .part = {.info = {.pattern = "LSHForest<L>",
                      .about =
                          "structure: L trees of hash bits whose depth adapts to the data, cosine and l2; "
                          "one number to choose, for rows of uneven density",
                      .params = params,
                      .n_params = sizeof params / sizeof *params},
             .args = {{"L", 1, KI_LSH_MAX_TABLES, 0}}},
    .main_param = "candidates",
    .metrics = KI_METRIC_BIT(KITH_COSINE) | KI_METRIC_BIT(KITH_L2SQ),
    .ops = &forest_ops,
};
