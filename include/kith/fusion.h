/* fusion.h - several vectors a row: of its title and of its text, say, each searched by itself or together.
 *
 * A collection has one vector field by its nature, that of kith_collection_create and of kith_row. Others are declared
 * beside it, each with a name, dim, metric and index of its own; a row may have a vector in any of them. The search calls
 * of kith/collection.h work on another field when kith_collection_query.field names it.
 *
 * kith_collection_search_fused searches several fields at once, with a vector for each, and makes one list of the answers:
 *   - by rank: G. V. Cormack, C. L. A. Clarke, S. Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual
 *     rank learning methods", SIGIR 2009. A row's score is the sum over the fields of weight / (60 + rank);
 *   - by weight: the sum over the fields of weight x score, where a score is 1 - distance (cosine), -distance (dot),
 *     1 / (1 + sqrt(distance)) (l2), 1 / (1 + distance) (l1). Every row that any field proposes is compared exactly in all
 *     of them, so it does not matter which field proposed it. A row without a vector in a field gets nothing for it.
 * Take ranks when the fields' distances mean different things; weights when they are comparable and how near counts.
 *
 * Threads, memory: as kith/collection.h says.
 */
#ifndef KITH_FUSION_H
#define KITH_FUSION_H

#include <kith/collection.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KITH_COLLECTION_MAX_VECTOR_FIELDS 16 /* beside that of the rows */
#define KITH_COLLECTION_MAX_SPEC 255         /* bytes of the spec of one */
#define KITH_COLLECTION_MAX_FUSED 64         /* queries of one fused search */

/* ---- Declaring ---- */

typedef struct kith_vector_field {
    size_t dim;
    kith_metric metric;
    uint64_t vectors; /* rows that have one */
    char name[KITH_COLLECTION_MAX_FIELD_NAME + 1];
    char spec[KITH_COLLECTION_MAX_SPEC + 1]; /* of its index; "" when each fold chooses */
} kith_vector_field;

/* Declare a vector field, inside a batch.
 * In:       name, 1..KITH_COLLECTION_MAX_FIELD_NAME bytes of UTF-8 without control characters; dim, 1..KITH_COLLECTION_MAX_DIM; metric,
 *           KITH_L2SQ, KITH_DOT, KITH_COSINE or KITH_L1; spec, of the index that folds build; NULL, "" and "auto": chosen by
 *           dim, metric and number of vectors.
 * Errors:   KITH_EXISTS; KITH_INVALID. The batch goes on. */
KITH_API kith_status kith_collection_vector_field_add(kith_collection *collection, const char *name,
                                                      size_t dim, kith_metric metric, const char *spec,
                                                      kith_error *err);

/* Take a vector field and its vectors away, inside a batch. KITH_NOTFOUND; the batch goes on. Cost: O(its vectors). */
KITH_API kith_status kith_collection_vector_field_drop(kith_collection *collection, const char *name,
                                                       kith_error *err);

/* The vector fields beside that of the rows, in the order of their declaration.
 * In:       *n, room in `fields`, which may be NULL.
 * Out:      fields[min(room, n)]; *n, how many there are. */
KITH_API kith_status kith_collection_vector_fields(kith_collection *collection, kith_vector_field *fields,
                                                   size_t *n, kith_error *err);

/* ---- Rows ---- */

/* Give a row a vector in a field, inside a batch.
 * In:       vector[dim], finite; NULL takes it away.
 * Errors:   KITH_NOTFOUND when there is no such row or field; KITH_INVALID. The batch goes on after both. Others as
 *           kith_collection_put. */
KITH_API kith_status kith_collection_put_vector(kith_collection *collection, int64_t key, const char *field,
                                                const float *vector, size_t dim, kith_error *err);

/* Read the vector of a row in a field.
 * Out:      *vector, NULL for a row that has none, or is not there; valid until the next call of this function. *dim, may
 *           be NULL: that of the field.
 * Errors:   KITH_NOTFOUND for the field. */
KITH_API kith_status kith_collection_get_vector(kith_collection *collection, int64_t key, const char *field,
                                                const float **vector, size_t *dim, kith_error *err);

/* ---- Search over several fields ---- */

typedef enum kith_fusion { KITH_FUSE_RANKS = 0, KITH_FUSE_WEIGHTS = 1 } kith_fusion;

typedef struct kith_fused_part {
    const char *field; /* NULL: the vectors of the rows. A field may come twice, with another vector */
    const float *vector;
    size_t dim;
    double weight; /* above 0, 1 for a part like the others */
} kith_fused_part;

typedef struct kith_fusion_options {
    size_t struct_size;
    kith_fusion by;
    size_t
        depth; /* rows that each part proposes, 1..100000; 0: four times as many as are wanted, 100 at least */
    double constant; /* of reciprocal ranks, above 0; 60 as in the paper */
} kith_fusion_options;

static inline void kith_fusion_options_init(kith_fusion_options *options)
{
    options->struct_size = sizeof *options;
    options->by = KITH_FUSE_RANKS;
    options->depth = 0;
    options->constant = 60;
}

/* The k rows with the highest scores over several parts.
 * In:       parts[n], n 1..KITH_COLLECTION_MAX_FUSED; options, NULL for the defaults; query: k, filter, partitions and so on for
 *           every part; field must be NULL, plan is left alone. max_microseconds is that of the call.
 * Out:      keys[k], scores[k], highest first, ties by the smaller key; a tail without rows has key 0 and score 0. *answer,
 *           may be NULL. All of it is of one state.
 * Errors:   as kith_collection_search; KITH_NOTFOUND for a field.
 * Cost:     a search of each part, `depth` deep; by weight also the comparison of what they found. */
KITH_API kith_status kith_collection_search_fused(kith_collection *collection, const kith_fused_part *parts,
                                                  size_t n, const kith_fusion_options *options,
                                                  const kith_collection_query *query, int64_t *keys,
                                                  double *scores, kith_collection_answer *answer,
                                                  kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
