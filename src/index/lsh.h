/* lsh.h - what the families of hash tables over random projections share: PStable, Hyperplane and LSHForest differ in what a
 * projection's value means and in what they learn; rows, tables and file are the same, and but for LSHForest the search.
 *
 * A row's values are an affine map, values[i] = bias[i] + x . directions[i], for all tables at once: one product of a matrix and a
 * vector for a query, one of matrices for rows that are added. The values of a table name its bucket. */
#ifndef KI_INDEX_LSH_H
#define KI_INDEX_LSH_H

#include "hash/probes.h"
#include "index/family.h"
#include "index/hash_tables.h"
#include "index/rowcodes.h"
#include "math/product.h"

#define KI_LSH_MAX_TABLES 1024
#define KI_LSH_MAX_PROBES 65536

/* What a family makes of values. */
typedef struct ki_lsh_kind {
    const char *prefix; /* of its sections */
    int ordered;        /* bucket() gives keys of 32 bits whose order matters: they are not mixed */
    size_t moves;       /* of each value: to one side, or to both (they exclude each other then) */
    uint64_t (*bucket)(const float *values, size_t table, size_t k);
    uint64_t (*aim)(const float *values, size_t table, size_t k, ki_move *moves);
} ki_lsh_kind;

/* The first member of the structures. */
typedef struct ki_lsh {
    ki_structure base;
    const ki_lsh_kind *kind;
    size_t n_tables, k;
    float *directions; /* [n_tables * k][dim]; NULL: not trained */
    float *bias;       /* [n_tables * k] */
    ki_packed *packed; /* both */
    ki_hash_tables tables;
    ki_row_codes rows;
} ki_lsh;

static inline size_t ki_lsh_functions(const ki_lsh *lsh)
{
    return lsh->n_tables * lsh->k;
}

/* A structure just allocated and zeroed; clear goes back to untrained. The codes stay: slots may outlive a training. */
void ki_lsh_init(ki_lsh *lsh, const ki_lsh_kind *kind, const ki_structure_env *env, size_t k);
void ki_lsh_clear(ki_lsh *lsh);

/* Memory for directions and bias, uninitialised. KITH_NOMEM. */
kith_status ki_lsh_alloc(ki_lsh *lsh, kith_error *err);

/* Directions and bias are as they should be: from now on rows may come. Called again after they changed. KITH_NOMEM. */
kith_status ki_lsh_pack(ki_lsh *lsh, kith_error *err);

/* A whole training: random hyperplanes (hash/hyperplane.h) through the mean of a sample of the rows, or through the origin. */
kith_status ki_lsh_train_hyperplanes(ki_lsh *lsh, const ki_input *input, int centred, const kith_run *run,
                                     kith_error *err);

/* A prober of the tables. */
kith_status ki_lsh_probes(const ki_lsh *lsh, ki_probes **probes, kith_error *err);

/* Members of the vtables. ki_lsh_prepare and ki_lsh_search: the parameter `probes` is the first of the family's table. */
kith_status ki_lsh_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                       uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err);
kith_status ki_lsh_prepare_remove(ki_structure *structure, const ki_rows *rows, kith_error *err);
void ki_lsh_remove(ki_structure *structure, const uint32_t *slots, size_t n);
void ki_lsh_decode(const ki_structure *structure, uint32_t slot, float *out);
kith_status ki_lsh_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err);
void ki_lsh_scratch_free(const ki_structure *structure, ki_scratch *scratch);
kith_status ki_lsh_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                           const double *settings, kith_error *err);
void ki_lsh_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query);
uint64_t ki_lsh_bytes(const ki_structure *structure);

/* Sections "<prefix>.directions", ".bias", ".sizes", ".cells", ".buckets", ".slots", ".codes", ".factors". */
kith_status ki_lsh_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                        kith_error *err);
kith_status ki_lsh_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                        kith_error *err);

/* Invariants:
 *   H1  directions and bias are finite
 *   H2  every slot in use stands in every table exactly once, no other slot does; the tables are in order
 *   H3  every code is one that its codec can score; float32 rows are finite */
kith_status ki_lsh_check(const ki_structure *structure, const ki_rows *rows, kith_error *err);

#endif
