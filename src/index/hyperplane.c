/* hyperplane.c - hash tables by the sides of random hyperplanes, for cosine.
 *
 * The idea. A hyperplane cuts the unit sphere in two; vectors at a small angle lie on the same side of most of them. K sides
 * are the bits that name a bucket of a table, L tables give each row L chances. A query looks into its own
 * bucket of each table and then into those that differ in the bits of which it is least sure: where it lies close to the
 * hyperplane. Rows found there are compared by the codec's scorer, each once.
 *
 * Papers. M. Charikar, "Similarity Estimation Techniques from Rounding Algorithms", STOC 2002: the hash functions
 * (hash/hyperplane.h). Q. Lv, W. Josephson, Z. Wang, M. Charikar, K. Li, "Multi-Probe LSH", VLDB 2007: the sequence of
 * buckets (hash/probes.h). Our ways apart from them:
 *   - Hyperplanes go through the mean of the training rows (`centred`), not through the origin. Vectors of one kind lie in a
 *     cone, most hyperplanes through the origin have all of them on one side, and bits that are the same for everybody
 *     tell nothing. On the unit sphere near by angle is near by distance, which does not depend on the origin.
 *     Charikar's probability, 1 - angle / pi, then holds for the angle seen from the mean. docs/families/hyperplane.md has
 *     the measurement; centred = 0 is the scheme as published.
 *   - A query that finds fewer than k rows that may be returned goes on to compare all others: an answer is short only when
 *     no more rows match, as in every family. Range search has no such number and is what the buckets hold.
 *
 * Layout:      as lsh.h and hash_tables.h have it. A value is a row's distance from a hyperplane, with sign.
 *
 * Invariants:  H1 to H3 of lsh.h.
 *
 * Cost:        train  the mean of 65,536 rows
 *              add    rows x L x K x dim multiply-adds, and sorting L x rows keys
 *              search L x K x dim, L x probes steps on a heap, scored x dim; n / 8 bytes of marks are cleared
 *              memory code_size + L x (4 + about 10 a bucket) bytes a row; directions twice
 *              remove the next add reads every table once
 *              open   mapped: nothing is read
 * Sections:    those of lsh.h.
 */
#include "hash/hyperplane.h"

#include "base/error.h"
#include "base/memory.h"
#include "index/lsh.h"

enum { PROBES, CENTRED };

static const kith_param_info params[] = {
    [PROBES] = {"probes", KITH_PARAM_INT, KITH_AT_SEARCH, 0, KI_LSH_MAX_PROBES, 16,
                "buckets looked into beside the query's own, per table; more is slower and finds more"},
    [CENTRED] = {"centred", KITH_PARAM_BOOL, KITH_AT_BUILD, 0, 1, 1,
                 "whether hyperplanes go through the mean of the training rows instead of the origin"},
};

static uint64_t bucket(const float *values, size_t table, size_t k)
{
    (void)table;
    return ki_hyperplane_bucket(values, k);
}

static uint64_t aim(const float *values, size_t table, size_t k, ki_move *moves)
{
    (void)table;
    return ki_hyperplane_moves(values, k, moves);
}

static const ki_lsh_kind kind = {.prefix = "hyperplane", .moves = 1, .bucket = bucket, .aim = aim};

static kith_status hyperplane_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    ki_lsh *lsh = ki_alloc_zero(env->allocator, 1, sizeof *lsh);
    if (!lsh) return ki_fail_nomem(err, sizeof *lsh);
    ki_lsh_init(lsh, &kind, env, (size_t)env->args[1]);
    *structure = &lsh->base;
    return KITH_OK;
}

static void hyperplane_free(ki_structure *structure)
{
    ki_lsh_clear((ki_lsh *)structure);
    ki_row_codes_clear(&((ki_lsh *)structure)->rows);
    ki_free(structure->env->allocator, structure);
}

/* ---- Training ---- */

static kith_status hyperplane_train(ki_structure *structure, const ki_input *input, const kith_run *run,
                                    kith_error *err)
{
    return ki_lsh_train_hyperplanes((ki_lsh *)structure, input, structure->env->params[CENTRED] > 0, run,
                                    err);
}

static const ki_structure_ops hyperplane_ops = {
    .create = hyperplane_create,
    .free = hyperplane_free,
    .train = hyperplane_train,
    .add = ki_lsh_add,
    .prepare_remove = ki_lsh_prepare_remove,
    .remove = ki_lsh_remove,
    .decode = ki_lsh_decode,
    .scratch_create = ki_lsh_scratch_create,
    .scratch_free = ki_lsh_scratch_free,
    .prepare = ki_lsh_prepare,
    .search = ki_lsh_search,
    .save = ki_lsh_save,
    .load = ki_lsh_load,
    .check = ki_lsh_check,
    .bytes = ki_lsh_bytes,
};

const ki_structure_part ki_structure_hyperplane = {
    .part = {.info = {.pattern = "Hyperplane<L>x<K>",
                      .about =
                          "structure: L hash tables of the sides of K random hyperplanes each, cosine; like "
                          "PStable for angles, with buckets named by bits",
                      .params = params,
                      .n_params = sizeof params / sizeof *params},
             .args = {{"L", 1, KI_LSH_MAX_TABLES, 0}, {"K", 1, KI_HYPERPLANE_MAX_K, 0}}},
    .main_param = "probes",
    .metrics = KI_METRIC_BIT(KITH_COSINE),
    .ops = &hyperplane_ops,
};
