/* front.h - what the files of the front door share: the index itself. */
#ifndef KI_INDEX_FRONT_H
#define KI_INDEX_FRONT_H

#include "index/calibration.h"
#include "index/family.h"
#include "index/rowcodes.h"

struct kith_index {
    const kith_allocator *allocator;
    ki_spec spec;
    kith_metric metric;      /* as the caller sees it; env.metric is what families see */
    uint32_t simd;           /* the level that made it, kept through open and save */
    double *params;          /* of every part, in the order of ki_spec_param */
    size_t dim;              /* as the caller sees it; env.dim is what families see */
    ki_transform *transform; /* NULL: none */
    ki_structure_env env;
    ki_structure *structure;
    int trained;
    ki_rows rows;
    ki_codec *refine_codec; /* NULL: no refinement */
    ki_row_codes refine;
    ki_calibration calibration;
    ki_store *store;   /* a mapped file, else NULL */
    uint64_t reserved; /* rows that may come beside searches, in all; 0: none */
    uint64_t changes;  /* that a search which goes on does not survive */
};

/* Make an index of a parsed spec, empty and untrained. *index NULL on failure. */
kith_status ki_index_make(const ki_spec *spec, size_t dim, kith_metric metric, uint64_t seed,
                          const kith_allocator *allocator, kith_index **index, kith_error *err);

/* Rows as a call brought them, checked: that the index is over rows of this kind, that float32 rows are finite and
 * unused bits zero; KITH_INVALID names the row. name: what the caller's argument is called. */
kith_status ki_input_floats(const kith_index *index, const char *name, const float *x, size_t n,
                            ki_input *input, kith_error *err);
kith_status ki_input_bits(const kith_index *index, const char *name, const uint8_t *bits, size_t n,
                          ki_input *input, kith_error *err);

/* The same for sets: as they are under KITH_JACCARD; their fingerprints, in *own (else NULL), where the spec begins with
 * SimHash<b>. *own is the caller's to free in any case. */
kith_status ki_input_sets(const kith_index *index, const char *name, const kith_sets *sets,
                          const kith_run *run, ki_input *input, uint8_t **own, kith_error *err);

/* The same rows as the structure takes them: through the transform, where there is one, into *own (NULL without). *own is
 * the caller's to free. Errors: KITH_NOMEM, KITH_CANCELLED. */
kith_status ki_input_inner(const kith_index *index, const ki_input *input, const kith_run *run,
                           ki_input *inner, float **own, kith_error *err);

/* The row of a slot in use, of an index whose refinement, or else codec without a transform, keeps float32 rows. */
void ki_index_exact_row(const kith_index *index, uint32_t slot, float *out);

/* kith_search without its checks of arrays and rows: queries of the kind of the index, k >= 1. */
kith_status ki_search(kith_searcher *searcher, const ki_input *queries, size_t k,
                      const kith_search_options *options, uint64_t *ids, float *dist,
                      kith_search_stats *stats, kith_error *err);

/* Whether searches go on where they were; and one that does (kith/iterate.h), without a filter: rows that were not found since the
 * call with `anew`, so many that those of all calls are `total` (or as many as a refinement wants for that), in no order.
 * Out:    *rows, good until the next call, also with KITH_NOMEM from the structure (else none are lost: they come with the next
 *         call); *more: whether there may be others.
 * Errors: those of kith_search. */
int ki_search_goes_on(const kith_searcher *searcher);
kith_status ki_search_next(kith_searcher *searcher, const ki_input *query, size_t total, int anew,
                           const kith_search_options *options, const ki_found **rows, int *more,
                           kith_search_stats *stats, kith_error *err);

/* Whether nothing has to be learned before rows can be added. */
int ki_index_needs_training(const kith_index *index);

#endif
