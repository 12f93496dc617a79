/* family.h - what the front door asks of a family.
 *
 * The front door (index.c, rows.c, search.c, index_io.c) keeps what all families share: the spec, ids, slots,
 * settings, filters, budgets, refinement, the file. Every row has a slot, a small number that is its own until
 * the row is removed; families keep rows by slot and never see an id. A family is a file that fills a
 * description at its end, and a line in families.def.
 *
 * What a family may rely on: vectors are finite; under KITH_COSINE they are of unit length (a zero vector stays
 * zero) and the metric is DOT, so a structure knows L2SQ, DOT and L1 only; slots handed to add are free and
 * distinct, slots handed to remove are in use; calls that change the index come alone. A family over bits knows
 * HAMMING only; what it gets is bits (ki_input.bits, ki_query.bits), the unused ones of each last byte zero, and never
 * a float; its codec is the part's own (ki_structure_part.codec). A family over sets knows JACCARD only and gets
 * ki_input.sets, ki_query.tokens; what it keeps is up to its codec.
 */
#ifndef KI_INDEX_FAMILY_H
#define KI_INDEX_FAMILY_H

#include <kith/index.h>

#include "index/query.h"
#include "index/spec.h"
#include "quant/codec.h"
#include "quant/transform.h"
#include "simd/kernels.h"
#include "store/index_file.h"

#define KI_METRIC_BIT(metric) (1u << (metric))
#define KI_FLOAT_METRICS \
    (KI_METRIC_BIT(KITH_L2SQ) | KI_METRIC_BIT(KITH_DOT) | KI_METRIC_BIT(KITH_COSINE) | KI_METRIC_BIT(KITH_L1))

/* ---- Rows on their way in ---- */

/* Rows as the caller gave them: x[n][dim], bits[n][kith_bit_bytes(dim)] or sets, the others NULL. Families take float32
 * rows block by block, so that scaling to unit length costs a block of scratch and not a copy of everything. */
typedef struct ki_input {
    const float *x;
    size_t n, dim;
    int unit; /* scale each row to unit length */
    const ki_kernels *kernels;
    const uint8_t *bits;
    const kith_sets *sets;
} ki_input;

/* Rows first..first+count-1: a pointer into x, or into scratch[count][dim] where they had to be scaled. */
const float *ki_input_block(const ki_input *input, size_t first, size_t count, float *scratch);

/* Rows picked[count] (ascending numbers of rows), copied to out[count][dim]. */
void ki_input_gather(const ki_input *input, const uint64_t *picked, size_t count, float *out);

/* out[dim] = x scaled to unit length; zero stays zero. out may be x. */
void ki_unit(const ki_kernels *kernels, const float *x, size_t dim, float *out);

/* ---- Structures ---- */

typedef struct ki_structure ki_structure;
typedef struct ki_scratch ki_scratch; /* each structure has its own kind */

/* What a structure is made from. Lives as long as the index. */
typedef struct ki_structure_env {
    const kith_allocator *allocator;
    const ki_kernels *kernels;
    size_t dim;
    kith_metric metric; /* L2SQ, DOT, L1, HAMMING or JACCARD */
    int unit;           /* rows and queries are of unit length (KITH_COSINE) */
    uint64_t seed;
    const uint64_t *args; /* the numbers of the spec, in the order of the pattern */
    const double *params; /* build-time and search-time values, in the order of the part's table */
    ki_codec *codec;      /* the front door's; made anew when one of its parameters is set */
    size_t codec_rows;    /* rows that training the codec takes at most */
} ki_structure_env;

typedef struct ki_structure_ops {
    /* Make an empty one. Out: *structure, NULL on failure. */
    kith_status (*create)(const ki_structure_env *env, ki_structure **structure, kith_error *err);
    void (*free)(ki_structure *structure); /* also of one that load left half done */

    /* Learn, and train the codec where it learns. Called on an empty index; a failure leaves it untrained. NULL:
     * learns nothing itself; the front door trains the codec. */
    kith_status (*train)(ki_structure *structure, const ki_input *input, const kith_run *run,
                         kith_error *err);

    /* Take rows in: row i has slot slots[i], or first_slot + i for slots NULL. n_slots: all slots will be below
     * it. Out: all rows or none. */
    kith_status (*add)(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                       uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err);

    /* Room for so many rows and slots in all. From then on, and as long as no more come, add may run while other threads
     * search: it moves nothing, does not fail once something can be seen, and ids stand in their slots (ki_rows_stage)
     * before it begins. NULL: not in this family. */
    kith_status (*reserve)(ki_structure *structure, size_t rows, size_t n_slots, kith_error *err);

    /* In two steps, so that nothing is removed on failure: prepare may fail, remove may not. */
    kith_status (*prepare_remove)(ki_structure *structure, const ki_rows *rows,
                                  kith_error *err); /* or NULL */
    void (*remove)(ki_structure *structure, const uint32_t *slots, size_t n);

    /* The vector of a slot in use, as well as the codec can tell; NULL over bits and sets. Any number of threads. */
    void (*decode)(const ki_structure *structure, uint32_t slot, float *out);
    /* The same of a family over bits. */
    void (*decode_bits)(const ki_structure *structure, uint32_t slot, uint8_t *out);

    /* One thread's memory. */
    kith_status (*scratch_create)(const ki_structure *structure, ki_scratch **scratch, kith_error *err);
    void (*scratch_free)(const ki_structure *structure, ki_scratch *scratch);

    /* Make scratch fit for a search; all that can fail happens here. settings: as ki_query's. NULL: it always is.
     */
    kith_status (*prepare)(const ki_structure *structure, ki_scratch *scratch, size_t k,
                           const double *settings, kith_error *err);

    /* Offer the rows near query->vector to the query (query.h). Cannot fail. */
    void (*search)(const ki_structure *structure, ki_scratch *scratch, ki_query *query);

    /* A search that goes on where it was (kith/iterate.h), after prepare: offer at least n rows to query->found (no radius, no filter)
     * that were not offered since the call with `anew`, nearest first as far as is known by then; fewer: there are no more, or the
     * query was stopped. Nothing but calls of this use scratch in between. KITH_NOMEM: what was not offered comes with the
     * next call. NULL: not in this family. */
    kith_status (*next)(const ki_structure *structure, ki_scratch *scratch, ki_query *query, size_t n,
                        int anew, kith_error *err);

    /* search for a batch at once, where that is faster; NULL, or *done = 0: the front door goes query by
     * query. Vectors of the batch lie side by side; no filter, no budget, no refinement, no radius. Answers are
     * the same as one by one, bit for bit. KITH_NOMEM: one by one then. */
    kith_status (*search_batch)(const ki_structure *structure, ki_query *queries, size_t nq, kith_pool *pool,
                                int *done, kith_error *err);

    /* A first step of search that is faster for many queries at once (which cells to look into): for queries
     * x[nq][dim], route_size(...) bytes each into routes, which search then finds at query->route. Answers are
     * the same without, and a failure means without. NULL both, or a size of 0: none. */
    size_t (*route_size)(const ki_structure *structure, const double *settings);
    kith_status (*route)(const ki_structure *structure, const float *x, size_t nq, const double *settings,
                         kith_pool *pool, void *routes, kith_error *err);

    /* Sections named "<structure>.<something>"; the codec is saved by the front door. */
    kith_status (*save)(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                        kith_error *err);

    /* Into a structure just made; rows are loaded already. Everything read is checked as far as memory safety
     * needs. A mapped store: arrays stay where they are and the structure is only read from then on. */
    kith_status (*load)(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                        kith_error *err);

    /* Prove the invariants. */
    kith_status (*check)(const ki_structure *structure, const ki_rows *rows, kith_error *err);

    uint64_t (*bytes)(const ki_structure *structure);

    /* Of structures with cells: how rows lie in them, into *info, which is zero. NULL: no cells. */
    kith_status (*cells)(const ki_structure *structure, kith_cells_info *info, kith_error *err);

    /* Give room that is not used back; with max_cell above 0 split the cells that hold more than so many times the mean. In/Out:
     * args, the numbers of the spec, which may become others. All or nothing; scratch made before is of no use. NULL: not in
     * this family. */
    kith_status (*compact)(ki_structure *structure, double max_cell, const kith_run *run, uint64_t *args,
                           kith_error *err);
} ki_structure_ops;

/* The first member of every structure. */
struct ki_structure {
    const ki_structure_ops *ops;
    const ki_structure_env *env;
};

/* A scratch whose first member is a scorer of the structure's codec: size zeroed bytes and that scorer, for
 * scratch_create. *scratch NULL on failure. */
kith_status ki_scratch_make(const ki_structure *structure, size_t size, ki_scratch **scratch,
                            kith_error *err);

/* The rows that a codec should learn from: a sample of at most `rows`, in memory of the caller to be freed, or
 * the input itself (*sample NULL then). */
kith_status ki_input_sample(const ki_input *input, size_t rows, uint64_t seed,
                            const kith_allocator *allocator, float **sample, const float **x, size_t *n,
                            kith_error *err);

/* Train the codec of a structure on the rows as they are, where it learns: for structures with a training of their own. */
kith_status ki_input_train_codec(const ki_structure_env *env, const ki_input *input, const kith_run *run,
                                 kith_error *err);

/* ---- Descriptions: what a line of families.def names ---- */

typedef struct ki_transform_part {
    ki_part part;
    unsigned metrics;  /* KI_METRIC_BIT of those that survive it */
    int fingerprint;   /* 1: sets to bits (SimHash), done at the door; nothing below is used then */
    size_t train_rows; /* rows that training takes at most */
    /* What the arguments of the spec mean; front door and metric fill in the rest. */
    void (*options)(const uint64_t *args, const double *params, ki_transform_options *options);
} ki_transform_part;

typedef struct ki_structure_part {
    ki_part part;
    unsigned metrics; /* KI_METRIC_BIT of those it knows */
    const ki_structure_ops *ops;
    /* Rows are encoded relative to an origin where codec and metric allow; there are as many as the first argument says. */
    int residual;
    int blocks; /* it keeps codes in blocks of rows where the codec wants that (quant/codec.h) */
    /* The only codec it works with, not said in specs, made with the structure's own numbers; NULL: any of the list. */
    const struct ki_codec_part *codec;
    int scans; /* it offers rows by ki_query_scan alone, which refines by lower bounds where the codec has them */
    /* The search-time parameter by which it trades time for recall, more finding more (at 1 or above the low end of its
     * range): what target_recall sets (kith/tune.h). NULL: none. */
    const char *main_param;
    const char *main_param_l2; /* where it is another under KITH_L2SQ and KITH_COSINE, else NULL */
} ki_structure_part;

typedef struct ki_codec_part {
    ki_part part;
    unsigned metrics;
    int residual;                               /* codes of residuals are of use */
    int exact;                                  /* a refinement adds nothing */
    int fine;                                   /* nor does one that is not finer than this (0: not known) */
    size_t (*train_rows)(const uint64_t *args); /* rows that training takes at most */
    kith_status (*make)(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                        int residual, const kith_allocator *allocator, ki_codec **codec, kith_error *err);
} ki_codec_part;

/* The rows of bits themselves: the codec of structures over bits. */
extern const ki_codec_part ki_codec_part_bits;

/* Signatures of sets with the size of the set: the codec of MinHash<K> (signatures.c). */
extern const ki_codec_part ki_codec_part_signatures;

/* A refinement keeps a better copy of every row, by slot, in a codec of its own. Its first parameter is
 * refine_k. */
typedef struct ki_refinement_part {
    ki_part part;
    int fine;  /* bits a component, to be compared with those of codecs */
    int exact; /* it keeps the rows as they came */
    kith_status (*make)(const uint64_t *args, const double *params, size_t dim, kith_metric metric,
                        int residual, const kith_allocator *allocator, ki_codec **codec, kith_error *err);
} ki_refinement_part;

#endif
