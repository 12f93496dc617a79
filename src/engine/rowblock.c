/* rowblock.c - vectors on their way out of the database. */
#include "engine/rowblock.h"

#include "engine/spaces.h"

#include <string.h>

#include "base/run.h"

kith_status ki_vectors_scan(kith_collection *c, const kith_run *run, const char *stage_name,
                            ki_visit_vector visit, void *ctx, kith_error *err)
{
    sqlite3_stmt *stmt;
    enum ki_sql which;
    int row;
    uint64_t i = 0;
    ki_stage stage;
    ki_stage_begin(&stage, run, stage_name, c->state.vectors);
    KI_TRY(ki_space_scan(c, &which, &stmt, err));
    kith_status status;
    while ((status = ki_db_step(c, which, &row, err)) == KITH_OK && row) {
        int64_t key = sqlite3_column_int64(stmt, 0);
        const float *x = NULL;
        if (key < 1) status = ki_corrupt(c, err, "a row has the key %lld", (long long)key);
        if (status == KITH_OK) status = ki_row_vector(c, stmt, 1, key, &x, err);
        if (status == KITH_OK && x) status = visit(ctx, i++, key, x, err);
        if (status == KITH_OK && i % 1024 == 0) {
            status = ki_run_check(run, err);
            ki_stage_report(&stage, i);
        }
        if (status != KITH_OK) break;
    }
    ki_db_reset(c, which);
    if (status == KITH_OK) ki_stage_report(&stage, i);
    return status;
}

kith_status ki_vectors_fetch(kith_collection *c, int64_t key, const float **x, kith_error *err)
{
    sqlite3_stmt *stmt;
    enum ki_sql which;
    int row;
    *x = NULL;
    KI_TRY(ki_space_get(c, key, &which, &stmt, err));
    KI_TRY(ki_db_step(c, which, &row, err));
    if (!row) return KITH_OK;
    const float *found;
    kith_status status = ki_row_vector(c, stmt, 0, key, &found, err);
    if (status == KITH_OK && found && (const void *)found != c->aligned.data) { /* keep it beyond the reset */
        c->aligned.size = 0;
        status = ki_buffer_append(&c->aligned, found, c->state.dim * sizeof *found, c->allocator, err);
    }
    if (status == KITH_OK && found) *x = (const float *)c->aligned.data;
    ki_db_reset(c, which);
    return status;
}

kith_status ki_row_block_init(ki_row_block *b, kith_collection *c, size_t bytes, uint64_t rows,
                              kith_status (*hand_on)(void *, const ki_row_block *, kith_error *), void *ctx,
                              kith_error *err)
{
    size_t row_bytes = c->state.dim * sizeof(float), room = bytes / row_bytes;
    if (room > rows) room = (size_t)rows;
    if (room < 1) room = 1;
    *b = (ki_row_block){.c = c, .room = room, .dim = c->state.dim, .hand_on = hand_on, .ctx = ctx};
    b->x = ki_alloc(c->allocator, room, row_bytes);
    b->ids = ki_alloc(c->allocator, room, sizeof *b->ids);
    return b->x && b->ids ? KITH_OK : ki_fail_nomem(err, room * row_bytes);
}

kith_status ki_row_block_put(void *block, uint64_t i, int64_t key, const float *x, kith_error *err)
{
    ki_row_block *b = block;
    (void)i;
    memcpy(b->x + b->n * b->dim, x, b->dim * sizeof *x);
    b->ids[b->n++] = (uint64_t)key;
    return b->n == b->room ? ki_row_block_finish(b, err) : KITH_OK;
}

kith_status ki_row_block_finish(ki_row_block *b, kith_error *err)
{
    kith_status status = b->n > 0 ? b->hand_on(b->ctx, b, err) : KITH_OK;
    b->n = 0;
    return status;
}

void ki_row_block_clear(ki_row_block *b)
{
    if (!b->c) return;
    ki_free(b->c->allocator, b->x);
    ki_free(b->c->allocator, b->ids);
    *b = (ki_row_block){0};
}

kith_status ki_row_block_add(const ki_row_block *b, kith_index *index, const kith_run *run, kith_error *err)
{
    kith_status status = kith_index_add(index, b->x, b->ids, b->n, run, err);
    return status == KITH_EXISTS ? ki_corrupt(b->c, err, "two rows have the same key") : status;
}
