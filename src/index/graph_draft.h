/* graph_draft.h - a copy of float32 rows, a byte a component, by which a graph is built.
 *
 * Building reads rows at random places some thousand times a row; a quarter of the bytes and products of whole numbers
 * halve the time and more. Nothing of the draft stays when the graph is there. It is made only where it pays and where it can be
 * trusted: the nearest rows of some, in a sample, must be nearly the same by the draft as by the rows themselves (they
 * are not where rows lie in heaps that are narrow beside the range of a component). */
#ifndef KI_INDEX_GRAPH_DRAFT_H
#define KI_INDEX_GRAPH_DRAFT_H

#include "index/rowcodes.h"

typedef struct ki_draft {
    ki_codec *codec;    /* NULL: there is none; build by the rows themselves */
    ki_row_codes codes; /* by node */
    uint8_t *block;     /* codes of rows on their way */
    size_t block_room;
} ki_draft;

void ki_draft_init(ki_draft *draft, const kith_allocator *allocator);
void ki_draft_clear(ki_draft *draft);

/* Make a draft for rows that come to `had` others, whose codes by node are given, and room for `nodes` in all.
 * Out:      draft->codec NULL where there is to be none.
 * Errors:   KITH_NOMEM, KITH_CANCELLED. */
kith_status ki_draft_make(ki_draft *draft, const ki_structure_env *env, const ki_input *input, ki_codes codes,
                          size_t had, size_t nodes, const kith_run *run, kith_error *err);

/* Encode rows x[n] on their way in; then put one of them where its node is. */
kith_status ki_draft_encode(ki_draft *draft, const float *x, size_t n, const kith_run *run, kith_error *err);
void ki_draft_put(ki_draft *draft, size_t row, uint32_t node);

#endif
