/* qg_build.c - rows come into the graph: batch by batch, the walks of a batch on all threads. The essay is in qg.c.
 *
 * A batch goes through the following steps. Those marked || run in parallel, and what they compute does not depend on the
 * number of threads:
 *      1. encode; rows that are equal to one in the graph, or to one that came before in the batch, take no part in 2. to 7.
 *   || 2. for each new row: walk to it in the graph as it was before the batch; what was expanded, and the rows of the
 *         batch that came earlier, are its candidates; choose its links
 *      3. the links back of those that are no fillers, sorted by the row that they start from
 *   || 4. for each such row: fit them in
 *      5. the entries, where the graph has grown by a quarter
 * and after the last batch the rows that no path leads to become entries. That is a look through all links; where few rows come
 * to many, each batch proves instead that nothing was cut off:
 *      6. every link s -> v that gave way can still be walked: over one other row, or a walk meets v; or v becomes an entry
 *      7. every new row is linked from one that was there before or was proved before; or as above
 * A path of before then has a path of now: link by link, or from the root to where the last broken link led. */
#include "index/qg_internal.h"

#include <string.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/run.h"
#include "base/select.h"

/* Rows of a batch: few beside the rows that are there, and enough to keep some threads busy. */
#define BATCH 256
#define BATCH_SHARE 64

/* What "few rows to many" is: a proof costs as much as a look at the links of a thousand rows. */
#define FEW_SHARE 1024
#define MANY 4096

#define GROUP_BLOCK 16 /* rows that links back lead from, one thread's share */

/* True distances are taken of so many rows a row of ef: of those expanded and of the rest of a pool so much larger. The
 * nearest ef of them are candidates. */
#define KEPT 2

typedef struct build_worker {
    ki_qg_walker walker;
    ki_qg_chooser chooser;
} build_worker;

typedef struct builder {
    ki_qg *g;
    size_t ef, n; /* n: rows of the batch */
    uint32_t slot[BATCH];
    uint32_t equal[BATCH]; /* the row whose vector is the same, maybe of the batch; KI_GRAPH_NONE: none */
    const float *x;        /* [n][dim] of the batch */
    build_worker *workers;
    size_t n_workers;
    float *block;
    uint8_t *code;
    float *factor;
    uint64_t
        *pairs; /* [pair_room] the row that a link back starts from, the number of its end in the batch */
    uint32_t *group; /* [pair_room] where each row's pairs begin */
    size_t n_pairs, n_groups, pair_room;
    uint64_t *seen; /* with stack: for the look through all links; NULL: batch by batch */
    uint32_t *stack;
    uint64_t *lost; /* [pair_room] a worker, in one piece */
} builder;

static kith_status worker_init(const builder *b, build_worker *w, kith_error *err)
{
    const ki_qg *g = b->g;
    const ki_structure_env *env = g->base.env;
    KI_TRY(env->codec->ops->scorer(env->codec, env->allocator, &w->walker.scorer, err));
    KI_TRY(ki_qg_walker_init(g, &w->walker, err));
    w->walker.met_room = KI_QG_CANDIDATES - BATCH;
    w->walker.met = ki_alloc(env->allocator, w->walker.met_room, sizeof *w->walker.met);
    if (!w->walker.met) return ki_fail_nomem(err, w->walker.met_room * sizeof *w->walker.met);
    return ki_qg_chooser_init(g, &w->chooser, err);
}

static void builder_clear(builder *b)
{
    const kith_allocator *allocator = b->g->base.env->allocator;
    for (size_t i = 0; i < b->n_workers; i++) {
        ki_qg_walker_clear(b->g, &b->workers[i].walker);
        ki_qg_chooser_clear(b->g, &b->workers[i].chooser);
    }
    ki_free(allocator, b->workers);
    ki_free(allocator, b->block);
    ki_free(allocator, b->code);
    ki_free(allocator, b->factor);
    ki_free(allocator, b->pairs);
    ki_free(allocator, b->group);
    ki_free(allocator, b->seen);
    ki_free(allocator, b->stack);
    ki_free(allocator, b->lost);
    ki_free(allocator, b->g->turned);
    ki_free(allocator, b->g->is_turned);
    b->g->turned = NULL;
    b->g->is_turned = NULL;
}

/* A row is linked from a hundred others, and bringing a vector to its principal components costs as much as its own walk:
 * where many rows come it is done once for each. */
static kith_status reserve_turned(ki_qg *g, size_t rows, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    if (!g->turn.basis || rows < KI_QG_SINGLE) return KITH_OK;
    g->turned = ki_alloc(allocator, g->room, g->turn.width * sizeof *g->turned);
    g->is_turned = ki_alloc_zero(allocator, ki_bits_words(g->room), sizeof *g->is_turned);
    if (g->turned && g->is_turned) return KITH_OK;
    return ki_fail_nomem(err, g->room * g->turn.width * sizeof *g->turned);
}

static kith_status reserve_proof(builder *b, size_t rows, size_t threads, kith_error *err)
{
    const ki_qg *g = b->g;
    const kith_allocator *allocator = g->base.env->allocator;
    if (g->n_used >= MANY && rows <= g->n_used / FEW_SHARE && !ki_qg_root_is_due(g, g->n_used + rows)) {
        b->lost = ki_alloc(allocator, threads * b->pair_room, sizeof *b->lost);
        return b->lost ? KITH_OK : ki_fail_nomem(err, threads * b->pair_room * sizeof *b->lost);
    }
    b->seen = ki_alloc(allocator, 2 * ki_bits_words(g->room), sizeof *b->seen);
    b->stack = ki_alloc(allocator, g->room, sizeof *b->stack);
    return b->seen && b->stack ? KITH_OK : ki_fail_nomem(err, g->room * sizeof *b->stack);
}

static kith_status builder_init(builder *b, const kith_run *run, size_t rows, kith_error *err)
{
    const ki_qg *g = b->g;
    const ki_structure_env *env = g->base.env;
    const ki_codec *codec = env->codec;
    size_t threads = rows > 1 && g->n_used + rows > KI_QG_SINGLE ? kith_pool_threads(ki_run_pool(run)) : 1;
    b->ef = (size_t)env->params[KI_QG_EF_CONSTRUCTION];
    b->pair_room = BATCH * g->at.degree;
    b->block = ki_alloc(env->allocator, env->unit ? BATCH * env->dim : 1, sizeof *b->block);
    b->code = ki_alloc(env->allocator, BATCH, codec->code_size);
    b->factor = ki_alloc(env->allocator, BATCH * codec->n_factors, sizeof *b->factor);
    b->pairs = ki_alloc(env->allocator, b->pair_room, sizeof *b->pairs);
    b->group = ki_alloc(env->allocator, b->pair_room + 1, sizeof *b->group);
    b->workers = ki_alloc_zero(env->allocator, threads, sizeof *b->workers);
    if (!b->block || !b->code || !b->factor || !b->pairs || !b->group || !b->workers)
        return ki_fail_nomem(err, b->pair_room * sizeof *b->pairs);
    KI_TRY(reserve_proof(b, rows, threads, err));
    KI_TRY(reserve_turned(b->g, rows, err));
    while (b->n_workers < threads) {
        build_worker *w = &b->workers[b->n_workers++];
        KI_TRY(worker_init(b, w, err));
        if (b->lost) w->chooser.lost = b->lost + (b->n_workers - 1) * b->pair_room;
    }
    return KITH_OK;
}

static kith_status grow_rings(ki_qg *g, size_t room, kith_error *err)
{
    uint32_t **ring[] = {&g->next, &g->prev};
    for (size_t r = 0; r < 2; r++) {
        uint32_t *grown = ki_realloc(g->base.env->allocator, *ring[r], g->room, room, sizeof *grown);
        if (!grown) return ki_fail_nomem(err, room * sizeof *grown);
        for (size_t i = g->room; i < room; i++) grown[i] = (uint32_t)i;
        *ring[r] = grown;
    }
    return KITH_OK;
}

/* Room for slots below n_slots; the new ones are holes. */
static kith_status reserve(ki_qg *g, size_t n_slots, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    if (n_slots > KI_GRAPH_NODES)
        return ki_fail(err, KITH_INVALID, "%zu rows in a graph, allowed %zu", n_slots, KI_GRAPH_NODES);
    if (n_slots > g->room) {
        size_t room = g->room == 0 ? n_slots : ki_grown(g->room, n_slots);
        uint64_t *used =
            ki_realloc(allocator, g->used, ki_bits_words(g->n_slots), ki_bits_words(room), sizeof *used);
        if (!used) return ki_fail_nomem(err, ki_bits_words(room) * sizeof *used);
        memset(used + ki_bits_words(g->n_slots), 0,
               (ki_bits_words(room) - ki_bits_words(g->n_slots)) * sizeof *used);
        g->used = used;
        uint8_t *rows = ki_realloc(allocator, g->own_rows, g->n_slots, room, g->at.stride);
        if (!rows) return ki_fail_nomem(err, room * g->at.stride);
        g->rows = g->own_rows = rows;
        if (g->next) KI_TRY(grow_rings(g, room, err));
        g->room = room;
    }
    KI_TRY(ki_qg_root_reserve(g, g->room, err));
    for (; g->n_slots < n_slots; g->n_slots++) ki_qg_erase(g, (uint32_t)g->n_slots);
    return KITH_OK;
}

/* ---- 1. New rows ---- */

static kith_status take_in(builder *b, const ki_input *input, size_t first, size_t n, const uint32_t *slots,
                           uint32_t first_slot, const kith_run *run, kith_error *err)
{
    ki_qg *g = b->g;
    const ki_codec *codec = g->base.env->codec;
    b->x = ki_input_block(input, first, n, b->block);
    KI_TRY(codec->ops->encode(codec, b->x, n, (ki_origins){0}, run, b->code, b->factor, err));
    b->n = n;
    for (size_t i = 0; i < n; i++) {
        b->slot[i] = slots ? slots[first + i] : first_slot + (uint32_t)(first + i);
        uint8_t *row = ki_qg_own_row(g, b->slot[i]);
        memcpy(row + g->at.code, b->code + i * codec->code_size, codec->code_size);
        if (codec->n_factors > 0)
            memcpy(row + g->at.factor, b->factor + i * codec->n_factors, codec->n_factors * sizeof(float));
        b->equal[i] = ki_qg_twin(g, b->slot[i]);
        if (b->equal[i] != KI_GRAPH_NONE) KI_TRY(ki_qg_rings_reserve(g, err));
    }
    return KITH_OK;
}

static void turn(void *ctx, size_t i, size_t worker)
{
    builder *b = ctx;
    ki_qg *g = b->g;
    ki_qg_point *point = &b->workers[worker].chooser.self;
    ki_qg_point_load(g, point, b->slot[i]);
    memcpy(g->turned + (size_t)b->slot[i] * g->turn.width, point->z, g->turn.width * sizeof *point->z);
}

static void turn_all(builder *b, kith_pool *pool)
{
    if (!b->g->turned) return;
    ki_pool_run(b->n_workers > 1 ? pool : NULL, b->n, turn, b);
    for (size_t i = 0; i < b->n; i++) ki_bits_set(b->g->is_turned, b->slot[i]);
}

/* ---- 2. Walking and choosing ---- */

static void connect(void *ctx, size_t i, size_t worker)
{
    builder *b = ctx;
    ki_qg *g = b->g;
    ki_qg_walker *w = &b->workers[worker].walker;
    ki_qg_chooser *c = &b->workers[worker].chooser;
    float dist[BATCH];
    size_t n = 0;
    if (b->equal[i] != KI_GRAPH_NONE) return;
    ki_qg_walk(g, w, b->x + i * g->turn.dim, b->ef, KEPT * b->ef, NULL);
    for (; n < w->n_met; n++) c->near[n] = w->met[n];
    w->scorer->ops->score(w->scorer, (ki_codes){b->code, b->factor}, NULL, i, INFINITY, dist);
    for (size_t j = 0; j < i; j++)
        if (b->equal[j] == KI_GRAPH_NONE)
            c->near[n++] = (ki_near){dist[j] < INFINITY ? dist[j] : INFINITY, b->slot[j]};
    ki_near_sort(c->near, n, NULL);
    if (n > b->ef) n = b->ef;
    ki_qg_choose(g, c, b->slot[i], n);
}

/* Rows that have an equal join its ring; the others come into the graph. */
static void settle(builder *b)
{
    ki_qg *g = b->g;
    for (size_t i = 0; i < b->n; i++) {
        if (b->equal[i] != KI_GRAPH_NONE) {
            ki_qg_join(g, b->equal[i], b->slot[i]);
        } else {
            ki_bits_set(g->used, b->slot[i]);
            g->n_used++;
        }
    }
}

/* ---- 3. and 4. Links back ---- */

static void find_links_back(builder *b)
{
    const ki_qg *g = b->g;
    b->n_pairs = b->n_groups = 0;
    for (size_t i = 0; i < b->n; i++) {
        const uint32_t *links = ki_qg_links(g, b->slot[i]);
        if (b->equal[i] != KI_GRAPH_NONE) continue;
        for (size_t j = 0; j < g->at.degree && links[j] != KI_GRAPH_NONE; j++)
            if (!(links[j] & KI_QG_FILLER)) b->pairs[b->n_pairs++] = (uint64_t)links[j] << 32 | i;
    }
    ki_keys_sort(b->pairs, b->n_pairs);
    for (size_t p = 0; p < b->n_pairs; p++)
        if (p == 0 || b->pairs[p] >> 32 != b->pairs[p - 1] >> 32) b->group[b->n_groups++] = (uint32_t)p;
    b->group[b->n_groups] = (uint32_t)b->n_pairs;
}

static void link_back(void *ctx, size_t block, size_t worker)
{
    builder *b = ctx;
    size_t end = (block + 1) * GROUP_BLOCK < b->n_groups ? (block + 1) * GROUP_BLOCK : b->n_groups;
    for (size_t i = block * GROUP_BLOCK; i < end; i++)
        for (size_t p = b->group[i]; p < b->group[i + 1]; p++)
            ki_qg_offer_link(b->g, &b->workers[worker].chooser, (uint32_t)(b->pairs[p] >> 32),
                             b->slot[(uint32_t)b->pairs[p]]);
}

/* ---- 6. and 7. That every row can be reached ---- */

static int leads_to(const ki_qg *g, uint32_t from, uint32_t to)
{
    const uint32_t *links = ki_qg_links(g, from);
    for (size_t i = 0; i < g->at.degree && links[i] != KI_GRAPH_NONE; i++)
        if (ki_qg_to(links[i]) == to) return 1;
    return 0;
}

static int leads_over_one(const ki_qg *g, uint32_t from, uint32_t to)
{
    const uint32_t *links = ki_qg_links(g, from);
    size_t n = ki_graph_degree(links, g->at.degree);
    for (size_t i = 0; i < n; i++) __builtin_prefetch(ki_qg_links(g, ki_qg_to(links[i])));
    for (size_t i = 0; i < n; i++)
        if (ki_qg_to(links[i]) == to || leads_to(g, ki_qg_to(links[i]), to)) return 1;
    return 0;
}

/* A walk meets the row, or it becomes an entry. */
static void reach(builder *b, uint32_t slot)
{
    ki_qg *g = b->g;
    ki_qg_walker *w = &b->workers[0].walker;
    ki_qg_chooser *c = &b->workers[0].chooser;
    ki_qg_point_load(g, &c->other, slot);
    for (size_t i = 0; i < g->root.n; i++)
        if (g->root.node[i] == slot) return;
    ki_qg_walk(g, w, c->other.x, b->ef, b->ef, NULL);
    if (!ki_bits_get(w->marks, slot)) ki_qg_root_enter(g, &c->self, &c->other, slot);
}

/* Whether a row that was there before the batch, or that was proved, links to new row i. */
static int linked_back(const builder *b, size_t i, const uint8_t *proved)
{
    const ki_qg *g = b->g;
    const uint32_t *links = ki_qg_links(g, b->slot[i]);
    for (size_t j = 0; j < g->at.degree && links[j] != KI_GRAPH_NONE; j++) {
        size_t other = 0;
        while (other < b->n && b->slot[other] != ki_qg_to(links[j])) other++;
        if ((other == b->n || proved[other]) && leads_to(g, ki_qg_to(links[j]), b->slot[i])) return 1;
    }
    return 0;
}

static void prove(builder *b)
{
    ki_qg *g = b->g;
    uint8_t proved[BATCH] = {0};
    size_t n = 0;
    for (size_t i = 0; i < b->n_workers; i++) {
        ki_qg_chooser *c = &b->workers[i].chooser;
        memmove(b->lost + n, c->lost, c->n_lost * sizeof *c->lost);
        n += c->n_lost;
        c->n_lost = 0;
    }
    ki_keys_sort(b->lost, n);
    for (size_t i = 0; i < n; i++)
        if (!leads_over_one(g, (uint32_t)(b->lost[i] >> 32), (uint32_t)b->lost[i]))
            reach(b, (uint32_t)b->lost[i]);
    for (size_t i = 0; i < b->n; i++) {
        if (b->equal[i] == KI_GRAPH_NONE && !linked_back(b, i, proved)) reach(b, b->slot[i]);
        proved[i] = 1;
    }
}

/* ---- All of it ---- */

/* Rows of the next batch. */
static size_t batch_of(const ki_qg *g, size_t rows)
{
    size_t most = g->n_used < KI_QG_SINGLE ? 1 : g->n_used / BATCH_SHARE;
    if (most > BATCH) most = BATCH;
    return rows < most ? rows : most;
}

static kith_status add_batch(builder *b, kith_pool *pool, kith_error *err)
{
    ki_qg *g = b->g;
    for (size_t i = 0; i < b->n_workers; i++)
        KI_TRY(ki_qg_walker_reserve(g, &b->workers[i].walker, g->room, KEPT * b->ef, err));
    /* Each row of the batch, and the end of each link that gives way to a link back, may become an entry while it is proved. */
    if (b->lost) KI_TRY(ki_qg_walker_expect(g, &b->workers[0].walker, b->n * (1 + g->at.degree), err));
    turn_all(b, pool);
    ki_pool_run(b->n_workers > 1 ? pool : NULL, b->n, connect, b);
    settle(b);
    find_links_back(b);
    ki_pool_run(b->n_workers > 1 ? pool : NULL, (b->n_groups + GROUP_BLOCK - 1) / GROUP_BLOCK, link_back, b);
    ki_qg_chooser *c = &b->workers[0].chooser;
    ki_qg_root_sample(g, &c->self, &c->other, 0);
    if (b->lost) prove(b);
    return KITH_OK;
}

kith_status ki_qg_add_rows(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                           uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    ki_qg *g = (ki_qg *)structure;
    if (input->n == 0) return KITH_OK;
    size_t slots_before = g->n_slots;
    KI_TRY(reserve(g, n_slots, err));
    builder b = {.g = g};
    ki_stage stage;
    size_t done = 0;
    kith_status status = builder_init(&b, run, input->n, err);
    if (status == KITH_OK) status = ki_qg_twins_reserve(g, g->n_used + input->n, err);
    if (status == KITH_OK) status = ki_qg_prepare_remove(structure, NULL, err);
    /* Small graphs do not depend on how the calls are cut. */
    if (status == KITH_OK && !b.lost) ki_qg_root_forget_orphans(g);
    ki_stage_begin(&stage, run, "linking", input->n);
    while (status == KITH_OK && done < input->n) {
        status = ki_run_check(run, err);
        size_t n = batch_of(g, input->n - done);
        if (status == KITH_OK) status = take_in(&b, input, done, n, slots, first_slot, run, err);
        if (status == KITH_OK) status = add_batch(&b, ki_run_pool(run), err);
        if (status == KITH_OK) ki_stage_report(&stage, done += n);
    }
    if (status == KITH_OK) {
        ki_qg_chooser *c = &b.workers[0].chooser;
        if (!b.lost) ki_qg_root_orphans(g, &c->self, &c->other, b.seen, b.stack);
    } else if (g->remover) {
        ki_qg_drop(g, slots, first_slot, done);
        /* of the batch that failed, some may have their links already */
        for (size_t i = done; i < input->n && i < done + BATCH; i++)
            ki_qg_erase(g, slots ? slots[i] : first_slot + (uint32_t)i);
    }
    if (status != KITH_OK) {
        ki_qg_twins_forget(g);
        g->n_slots = slots_before;
    }
    ki_qg_remover_free(g);
    builder_clear(&b);
    return status;
}
