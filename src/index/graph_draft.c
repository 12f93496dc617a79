#include "index/graph_draft.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/topk.h"

#define LEAST_ROWS 4096 /* rows that come, at least; fewer are built in a moment */
#define OTHERS \
    4 /* and rows that are there, at most this many times as many: they have to be encoded as well */
#define SAMPLE 16384 /* rows that are learned from */
#define BLOCK 4096   /* rows encoded at a time */
#define ASKED 32     /* rows of the sample whose nearest are compared */
#define NEAREST 10   /* so many of each */
#define AGREEING 0.8 /* the share of them that must be the same */

void ki_draft_init(ki_draft *draft, const kith_allocator *allocator)
{
    memset(draft, 0, sizeof *draft);
    ki_row_codes_init(&draft->codes, allocator);
}

void ki_draft_clear(ki_draft *draft)
{
    const kith_allocator *allocator = draft->codes.allocator;
    ki_codec_free(draft->codec);
    ki_row_codes_clear(&draft->codes);
    ki_free(allocator, draft->block);
    ki_draft_init(draft, allocator);
}

kith_status ki_draft_encode(ki_draft *draft, const float *x, size_t n, const kith_run *run, kith_error *err)
{
    if (n > draft->block_room) {
        uint8_t *block = ki_alloc(draft->codes.allocator, n, draft->codec->code_size);
        if (!block) return ki_fail_nomem(err, n * draft->codec->code_size);
        ki_free(draft->codes.allocator, draft->block);
        draft->block = block;
        draft->block_room = n;
    }
    return draft->codec->ops->encode(draft->codec, x, n, (ki_origins){0}, run, draft->block, NULL, err);
}

void ki_draft_put(ki_draft *draft, size_t row, uint32_t node)
{
    size_t size = draft->codec->code_size;
    memcpy(draft->codes.own_code + node * size, draft->block + row * size, size);
}

/* The nearest rows of x[n] to row `asked` (itself left out) by a codec of them. */
static size_t nearest_by(ki_scorer *scorer, ki_codes codes, const float *x, size_t n, size_t asked,
                         float *dist, uint64_t *id)
{
    float block[KI_SCAN_BLOCK];
    const ki_codec *codec = scorer->codec;
    ki_topk top;
    ki_topk_init(&top, NEAREST, dist, id);
    scorer->ops->query(scorer, x + asked * codec->dim);
    for (size_t first = 0; first < n; first += KI_SCAN_BLOCK) {
        size_t count = n - first < KI_SCAN_BLOCK ? n - first : KI_SCAN_BLOCK;
        ki_codes here = {codes.code + first * codec->code_size, NULL};
        scorer->ops->score(scorer, here, NULL, count, ki_topk_worst(&top), block);
        for (size_t i = 0; i < count; i++)
            if (first + i != asked) ki_topk_push(&top, block[i], first + i);
    }
    return ki_topk_sort(&top);
}

/* Whether enough of the nearest rows of the sample x[n], which lies encoded in the block, are the same by the draft. Rows
 * that have as many equals say nothing; most must say something. */
static int agrees(const ki_draft *draft, ki_scorer *exact, ki_scorer *scorer, const float *x, size_t n)
{
    float dist[NEAREST];
    uint64_t ids[NEAREST], near[NEAREST];
    size_t same = 0, all = 0;
    for (size_t i = 0; i < ASKED; i++) {
        size_t asked = i * n / ASKED;
        size_t found = nearest_by(exact, (ki_codes){(const uint8_t *)x, NULL}, x, n, asked, dist, ids);
        float first = dist[0], last = dist[found - 1];
        if (first == last) continue;
        found = nearest_by(scorer, (ki_codes){draft->block, NULL}, x, n, asked, dist, near);
        all += found;
        exact->ops->query(exact, x + asked * exact->codec->dim);
        for (size_t j = 0; j < found; j++) {
            const float *row = x + near[j] * exact->codec->dim;
            exact->ops->score(exact, (ki_codes){(const uint8_t *)row, NULL}, NULL, 1, INFINITY, dist);
            same += dist[0] <= last;
        }
    }
    return all >= NEAREST * ASKED / 2 && (double)same >= AGREEING * (double)all;
}

/* Learn the grid from a sample and compare. *trusted: whether the draft may be used. */
static kith_status learn(ki_draft *draft, const ki_structure_env *env, const float *x, size_t n,
                         const kith_run *run, int *trusted, kith_error *err)
{
    ki_scorer *exact = NULL, *scorer = NULL;
    KI_TRY(draft->codec->ops->train(draft->codec, x, n, env->seed, run, err));
    KI_TRY(ki_draft_encode(draft, x, n, run, err));
    kith_status status = env->codec->ops->scorer(env->codec, env->allocator, &exact, err);
    if (status == KITH_OK) status = draft->codec->ops->scorer(draft->codec, env->allocator, &scorer, err);
    if (status == KITH_OK) *trusted = agrees(draft, exact, scorer, x, n);
    ki_scorer_free(exact);
    ki_scorer_free(scorer);
    return status;
}

/* The rows that are there already. */
static kith_status encode_nodes(ki_draft *draft, const float *x, size_t n, const kith_run *run,
                                kith_error *err)
{
    for (size_t first = 0; first < n; first += BLOCK) {
        size_t count = n - first < BLOCK ? n - first : BLOCK;
        KI_TRY(ki_draft_encode(draft, x + first * draft->codec->dim, count, run, err));
        memcpy(draft->codes.own_code + first * draft->codec->code_size, draft->block,
               count * draft->codec->code_size);
    }
    return KITH_OK;
}

/* A sample of all, had rows that are there and those that come: (*x)[*n], to be freed. */
static kith_status take_sample(const ki_structure_env *env, const ki_input *input, const float *had_rows,
                               size_t had, float **x, size_t *n, kith_error *err)
{
    size_t dim = env->dim, all = had + input->n, rows = all < SAMPLE ? all : SAMPLE;
    size_t old = rows * had / all, fresh;
    float *sample;
    const float *from;
    *x = ki_alloc(env->allocator, rows, dim * sizeof **x);
    if (!*x) return ki_fail_nomem(err, rows * dim * sizeof **x);
    for (size_t i = 0; i < old; i++) memcpy(*x + i * dim, had_rows + i * had / old * dim, dim * sizeof **x);
    KI_TRY(ki_input_sample(input, rows - old, env->seed, env->allocator, &sample, &from, &fresh, err));
    memcpy(*x + old * dim, from, fresh * dim * sizeof **x);
    ki_free(env->allocator, sample);
    *n = old + fresh;
    return KITH_OK;
}

kith_status ki_draft_make(ki_draft *draft, const ki_structure_env *env, const ki_input *input, ki_codes codes,
                          size_t had, size_t nodes, const kith_run *run, kith_error *err)
{
    int plain = input->x && ki_codec_f32_rows(env->codec, (ki_codes){(const uint8_t *)input->x, NULL});
    if (!plain || env->metric == KITH_L1 || input->n < LEAST_ROWS || had / OTHERS > input->n) return KITH_OK;
    const float *rows = ki_codec_f32_rows(env->codec, codes);
    float *x = NULL;
    size_t n = 0;
    int trusted = 0;
    kith_status status = ki_codec_sq_create(env->dim, 8, env->metric, 0, env->allocator, &draft->codec, err);
    if (status == KITH_OK) status = take_sample(env, input, rows, had, &x, &n, err);
    if (status == KITH_OK) status = learn(draft, env, x, n, run, &trusted, err);
    ki_free(env->allocator, x);
    if (status == KITH_OK && trusted) {
        status = ki_row_codes_reserve(&draft->codes, draft->codec, nodes, err);
        if (status == KITH_OK) status = encode_nodes(draft, rows, had, run, err);
    }
    if (status != KITH_OK || !trusted) ki_draft_clear(draft);
    return status;
}
