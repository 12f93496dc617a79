/* rowblock.h - vectors on their way out of the database: read one by one, gathered, handed on in blocks. */
#ifndef KI_ENGINE_ROWBLOCK_H
#define KI_ENGINE_ROWBLOCK_H

#include <kith/index.h>

#include "engine/engine.h"

/* ---- Reading ---- */

/* Called for each vector; i counts from 0 in the order of the slots, x is valid during the call. */
typedef kith_status (*ki_visit_vector)(void *ctx, uint64_t i, int64_t key, const float *x, kith_error *err);

/* Visit all vectors. Keys are >= 1, vectors of the right length and finite.
 * run: progress under the name `stage`, and cancel; may be NULL. */
kith_status ki_vectors_scan(kith_collection *c, const kith_run *run, const char *stage, ki_visit_vector visit,
                            void *ctx, kith_error *err);

/* The vector of one row, valid until the next ki_vectors_*; NULL when there is no such row or it has none. */
kith_status ki_vectors_fetch(kith_collection *c, int64_t key, const float **x, kith_error *err);

/* ---- Gathering ---- */

typedef struct ki_row_block {
    kith_collection *c;
    float *x;      /* [room][dim] */
    uint64_t *ids; /* [room] */
    size_t n, room, dim;
    /* What to do with n rows; called when the block is full and at the end, never with n == 0. */
    kith_status (*hand_on)(void *ctx, const struct ki_row_block *block, kith_error *err);
    void *ctx;
} ki_row_block;

/* Make an empty block for about `bytes` bytes of vectors and at most `rows` rows. Clear it even if this fails. */
kith_status ki_row_block_init(ki_row_block *block, kith_collection *c, size_t bytes, uint64_t rows,
                              kith_status (*hand_on)(void *, const ki_row_block *, kith_error *), void *ctx,
                              kith_error *err);

/* Put one row; its form is that of ki_visit_vector, with the block as ctx. */
kith_status ki_row_block_put(void *block, uint64_t i, int64_t key, const float *x, kith_error *err);

/* Hand on what is left. */
kith_status ki_row_block_finish(ki_row_block *block, kith_error *err);

void ki_row_block_clear(ki_row_block *block);

/* Add a block to an index. Keys that come twice are damage: the index of keys is unique. */
kith_status ki_row_block_add(const ki_row_block *block, kith_index *index, const kith_run *run,
                             kith_error *err);

#endif
