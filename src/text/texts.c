/* texts.c - many texts as their sets of shingles. */
#include "text/texts_state.h"

#include "base/blocks.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "text/shingle.h"

#include <string.h>

#define BLOCK 64 /* texts a block: arbitrary */

kith_status kith_texts_create(const kith_texts_options *options, kith_texts **texts, kith_error *err)
{
    kith_texts_options own;
    if (!texts) return ki_fail(err, KITH_INVALID, "texts is NULL");
    *texts = NULL;
    kith_texts_options_init(&own);
    KI_TRY(ki_options_read(&own, sizeof own, options, "options", err));
    if (own.kind != KITH_SHINGLE_WORD && own.kind != KITH_SHINGLE_CHAR)
        return ki_fail(err, KITH_INVALID, "kind is %d, allowed 0 and 1", (int)own.kind);
    if (own.length == 0 || own.length > KITH_SHINGLE_MAX)
        return ki_fail(err, KITH_INVALID, "length is %zu, allowed 1..%d", own.length, KITH_SHINGLE_MAX);
    kith_texts *made = ki_alloc_zero(own.allocator, 1, sizeof *made);
    if (!made) return ki_fail_nomem(err, sizeof *made);
    made->options = own;
    made->allocator = own.allocator;
    made->starts = ki_alloc_zero(own.allocator, 1, sizeof *made->starts);
    made->starts_room = 1;
    if (!made->starts) {
        kith_texts_free(made);
        return ki_fail_nomem(err, sizeof *made->starts);
    }
    *texts = made;
    return KITH_OK;
}

void kith_texts_free(kith_texts *texts)
{
    if (!texts) return;
    ki_free(texts->allocator, texts->tokens);
    ki_free(texts->allocator, texts->starts);
    ki_free(texts->allocator, texts);
}

/* What a block of texts came to. */
typedef struct shingled {
    uint64_t *tokens;
    size_t n, room;
    size_t sizes[BLOCK];
    kith_status status;
    kith_error err;
} shingled;

typedef struct adding {
    const kith_allocator *allocator;
    const char *const *text;
    const size_t *size;
    size_t n;
    ki_shingler *shinglers; /* [workers] */
    shingled *blocks;
} adding;

static kith_status shingle_text(const adding *a, ki_shingler *shingler, size_t i, shingled *out)
{
    size_t n;
    KI_TRY(ki_shingle(shingler, a->text[i], a->size[i], &n, &out->err));
    if (out->n + n > out->room) {
        size_t room = ki_grown(out->room, out->n + n);
        uint64_t *grown = ki_realloc(a->allocator, out->tokens, out->n, room, sizeof *grown);
        if (!grown) return ki_fail_nomem(&out->err, room * sizeof *grown);
        out->tokens = grown;
        out->room = room;
    }
    if (n) memcpy(out->tokens + out->n, shingler->items, n * sizeof *out->tokens);
    out->n += n;
    out->sizes[i % BLOCK] = n;
    return KITH_OK;
}

static void shingle_block(void *ctx, size_t block, size_t worker)
{
    const adding *a = ctx;
    shingled *out = &a->blocks[block];
    size_t end = (block + 1) * BLOCK < a->n ? (block + 1) * BLOCK : a->n;
    for (size_t i = block * BLOCK; i < end && out->status == KITH_OK; i++)
        out->status = shingle_text(a, &a->shinglers[worker], i, out);
}

static kith_status grow(const kith_allocator *allocator, uint64_t **array, size_t *room, size_t used,
                        size_t need, kith_error *err)
{
    if (need <= *room) return KITH_OK;
    size_t wanted = ki_grown(*room, need);
    uint64_t *grown = ki_realloc(allocator, *array, used, wanted, sizeof *grown);
    if (!grown) return ki_fail_nomem(err, wanted * sizeof *grown);
    *array = grown;
    *room = wanted;
    return KITH_OK;
}

static kith_status append(kith_texts *texts, const adding *a, size_t n_blocks, kith_error *err)
{
    size_t tokens = 0, used = (size_t)texts->starts[texts->n];
    for (size_t b = 0; b < n_blocks; b++) {
        if (a->blocks[b].status != KITH_OK) {
            if (err) *err = a->blocks[b].err;
            return a->blocks[b].status;
        }
        tokens += a->blocks[b].n;
    }
    KI_TRY(grow(texts->allocator, &texts->tokens, &texts->tokens_room, used, used + tokens, err));
    KI_TRY(
        grow(texts->allocator, &texts->starts, &texts->starts_room, texts->n + 1, texts->n + 1 + a->n, err));
    for (size_t i = 0; i < a->n; i++) {
        const shingled *block = &a->blocks[i / BLOCK];
        size_t size = block->sizes[i % BLOCK];
        if (i % BLOCK == 0 && block->n)
            memcpy(texts->tokens + texts->starts[texts->n], block->tokens, block->n * sizeof *texts->tokens);
        texts->starts[texts->n + 1] = texts->starts[texts->n] + size;
        texts->n++;
        texts->counted += size > 0;
    }
    return KITH_OK;
}

kith_status kith_texts_add(kith_texts *texts, size_t n, const char *const *text, const size_t *size,
                           const kith_run *run, kith_error *err)
{
    size_t n_blocks = (n + BLOCK - 1) / BLOCK, workers = kith_pool_threads(ki_run_pool(run));
    if (n == 0) return KITH_OK;
    if (!text || !size) return ki_fail(err, KITH_INVALID, "text or size is NULL");
    if (n >= UINT32_MAX - texts->n)
        return ki_fail(err, KITH_INVALID, "n is %zu beside %zu, allowed are %u", n, texts->n, UINT32_MAX - 1);
    adding a = {texts->allocator, text, size, n, NULL, NULL};
    a.shinglers = ki_alloc_zero(a.allocator, workers, sizeof *a.shinglers);
    a.blocks = ki_alloc_zero(a.allocator, n_blocks, sizeof *a.blocks);
    kith_status status = a.shinglers && a.blocks ? KITH_OK : ki_fail_nomem(err, n_blocks * sizeof *a.blocks);
    for (size_t w = 0; status == KITH_OK && w < workers; w++)
        a.shinglers[w] = (ki_shingler){.kind = texts->options.kind,
                                       .length = texts->options.length,
                                       .min_words = texts->options.min_words,
                                       .normaliser = {.allocator = a.allocator}};
    if (status == KITH_OK)
        status = ki_blocks_run(run, "shingling", n_blocks, BLOCK, n, shingle_block, &a, err);
    if (status == KITH_OK) status = append(texts, &a, n_blocks, err);
    for (size_t w = 0; a.shinglers && w < workers; w++) ki_shingler_clear(&a.shinglers[w]);
    for (size_t b = 0; a.blocks && b < n_blocks; b++) ki_free(a.allocator, a.blocks[b].tokens);
    ki_free(a.allocator, a.shinglers);
    ki_free(a.allocator, a.blocks);
    return status;
}

kith_sets kith_texts_sets(const kith_texts *texts)
{
    return (kith_sets){texts->tokens, texts->starts, texts->n, NULL};
}

size_t kith_texts_counted(const kith_texts *texts)
{
    return texts->counted;
}
