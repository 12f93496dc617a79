/* tree_forest.c - see the header; rows and parts are those of tree_rows.h.
 *
 * Invariants, beside T1..T4:
 *   O1  the order of each tree names each position of its part once
 *   O2  there are 2^levels - 1 cuts for each tree of a part, and they are such as the family makes */
#include "index/tree_forest.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bitset.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/run.h"
#include "base/select.h"
#include "index/tree_heap.h"

struct ki_scratch {
    ki_scorer *scorer;
    ki_waiting *heap;  /* as many as all trees have leaves */
    uint8_t *count;    /* [positions] leaves that held the row; zero between searches */
    uint32_t *touched; /* [positions] those that are not zero, in the order they came */
    size_t heap_room, row_room, n_touched;
};

static size_t cuts_of(unsigned levels)
{
    return ((size_t)1 << levels) - 1;
}

/* ---- Create and free ---- */

kith_status ki_forest_create(const ki_structure_env *env, const ki_forest_kind *kind,
                             ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    ki_forest *forest = ki_alloc_zero(env->allocator, 1, sizeof *forest);
    if (!forest) return ki_fail_nomem(err, sizeof *forest);
    forest->base.env = env;
    forest->kind = kind;
    forest->trees = (size_t)env->args[0];
    forest->node_floats = kind->node_floats(env);
    ki_tree_rows_init(&forest->rows, env);
    *structure = &forest->base;
    return KITH_OK;
}

void ki_forest_free(ki_structure *structure)
{
    ki_forest *forest = (ki_forest *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    ki_tree_rows_clear(&forest->rows);
    ki_free(allocator, forest->own_nodes);
    ki_free(allocator, forest->own_order);
    ki_free(allocator, forest->shared);
    ki_free(allocator, forest);
}

/* ---- Build ---- */

typedef struct build {
    const ki_forest *forest;
    const ki_tree_plan *plan;
    float *nodes;    /* of this part */
    uint32_t *order; /* of this part: numbers of rows in plan->order, until all trees are built */
    uint64_t *keys;  /* [threads][plan->n] */
    float *scratch;  /* [threads][4][dim] */
    const kith_run *run;
} build;

/* Cut one node: choose a direction, order its rows so that the lower half comes first. */
static void cut_node(const build *b, size_t tree, unsigned level, size_t index, size_t worker)
{
    const ki_forest *forest = b->forest;
    const ki_structure_env *env = forest->base.env;
    size_t all = b->plan->n, first = ki_tree_begin(all, level, index),
           n = ki_tree_begin(all, level, index + 1) - first;
    uint32_t *local = b->order + tree * all + first;
    uint64_t *keys = b->keys + worker * all;
    size_t number = ((size_t)1 << level) - 1 + index;
    float *node = b->nodes + (tree * cuts_of(b->plan->levels) + number) * forest->node_floats;
    ki_rng rng;
    ki_rng_init(&rng, env->seed ^ ki_mix64(all), (uint64_t)tree << 32 | number);
    ki_forest_node rows = {&forest->rows, b->plan->order, local, n, b->scratch + worker * 4 * env->dim, &rng};
    forest->kind->choose(forest, &rows, node + 1);
    for (size_t i = 0; i < n; i++) {
        float at = forest->kind->project(forest, tree, level, node + 1, ki_forest_vector(&rows, i));
        keys[i] = ki_key(at == at ? at : 0, local[i]);
    }
    size_t half = ki_tree_begin(all, level + 1, 2 * index + 1) - first;
    ki_keys_select(keys, n, half);
    float below = -INFINITY, above = INFINITY;
    for (size_t i = 0; i < n; i++) {
        float at = ki_key_dist(keys[i]);
        local[i] = ki_key_number(keys[i]);
        if (i < half)
            below = at > below ? at : below;
        else
            above = at < above ? at : above;
    }
    node[0] = below / 2 + above / 2;
}

static void build_tree(void *ctx, size_t tree, size_t worker)
{
    const build *b = ctx;
    uint32_t *local = b->order + tree * b->plan->n;
    for (size_t i = 0; i < b->plan->n; i++) local[i] = (uint32_t)i;
    for (unsigned level = 0; level < b->plan->levels; level++)
        for (size_t index = 0; index < (size_t)1 << level; index++) {
            if (ki_run_check(b->run, NULL) != KITH_OK) return; /* the caller sees it too */
            cut_node(b, tree, level, index, worker);
        }
}

/* The rows are to lie in the order of the first tree: say so in the plan, and let all trees name positions. */
static void settle(const build *b, ki_tree_plan *plan, uint32_t *position, uint32_t *moved)
{
    size_t n = plan->n;
    for (size_t i = 0; i < n; i++) {
        position[b->order[i]] = (uint32_t)i;
        moved[i] = plan->order[b->order[i]];
    }
    memcpy(plan->order, moved, n * sizeof *moved);
    for (size_t i = 0; i < n * b->forest->trees; i++) b->order[i] = position[b->order[i]];
}

static kith_status build_trees(build *b, ki_tree_plan *plan, const kith_run *run, kith_error *err)
{
    const kith_allocator *allocator = b->forest->base.env->allocator;
    size_t threads = kith_pool_threads(ki_run_pool(run)), trees = b->forest->trees;
    b->keys = ki_alloc(allocator, threads * plan->n, sizeof *b->keys);
    b->scratch = ki_alloc(allocator, threads * 4, b->forest->base.env->dim * sizeof *b->scratch);
    uint32_t *position = ki_alloc(allocator, 2 * plan->n, sizeof *position);
    kith_status status = b->keys && b->scratch && position
                             ? KITH_OK
                             : ki_fail_nomem(err, plan->n * (threads * sizeof *b->keys + 8));
    ki_stage stage;
    ki_stage_begin(&stage, run, "building", trees);
    if (status == KITH_OK) {
        ki_pool_run(ki_run_pool(run), trees, build_tree, b);
        status = ki_run_check(run, err);
    }
    if (status == KITH_OK) {
        settle(b, plan, position, position + plan->n);
        ki_stage_report(&stage, trees);
    }
    ki_free(allocator, b->keys);
    ki_free(allocator, b->scratch);
    ki_free(allocator, position);
    return status;
}

/* How many floats a cut has, from now on. Room that an add left when it failed may be for cuts of another size. */
static void settle_cuts(ki_forest *forest)
{
    size_t floats = forest->kind->node_floats(forest->base.env);
    if (floats != forest->node_floats) {
        ki_free(forest->base.env->allocator, forest->own_nodes);
        forest->nodes = forest->own_nodes = NULL;
        forest->node_capacity = 0;
    }
    forest->node_floats = floats;
}

/* Room for the cuts and orders of a new part behind those that are there. */
static kith_status reserve(ki_forest *forest, size_t cuts, size_t positions, kith_error *err)
{
    const kith_allocator *allocator = forest->base.env->allocator;
    size_t size = forest->node_floats * sizeof *forest->nodes;
    if (forest->n_nodes + cuts > forest->node_capacity) {
        size_t capacity =
            forest->node_capacity ? ki_grown(forest->node_capacity, forest->n_nodes + cuts) : cuts;
        float *nodes = ki_realloc(allocator, forest->own_nodes, forest->n_nodes, capacity, size);
        if (!nodes) return ki_fail_nomem(err, capacity * size);
        forest->nodes = forest->own_nodes = nodes;
        forest->node_capacity = capacity;
    }
    if (forest->n_order + positions > forest->order_capacity) {
        size_t need = forest->n_order + positions;
        size_t capacity = forest->order_capacity ? ki_grown(forest->order_capacity, need) : need;
        uint32_t *order = ki_realloc(allocator, forest->own_order, forest->n_order, capacity, sizeof *order);
        if (!order) return ki_fail_nomem(err, capacity * sizeof *order);
        forest->order = forest->own_order = order;
        forest->order_capacity = capacity;
    }
    return KITH_OK;
}

static kith_status build_part(ki_forest *forest, ki_tree_plan *plan, const kith_run *run, kith_error *err)
{
    if (plan->n == 0) return KITH_OK;
    if (forest->kind->ready) KI_TRY(forest->kind->ready(forest, plan->levels, err));
    KI_TRY(reserve(forest, forest->trees * cuts_of(plan->levels), forest->trees * plan->n, err));
    build b = {.forest = forest,
               .plan = plan,
               .nodes = forest->own_nodes + forest->n_nodes * forest->node_floats,
               .order = forest->own_order + forest->n_order,
               .run = run};
    return build_trees(&b, plan, run, err);
}

/* The new part takes the place of those that it was made of. */
static void commit(ki_forest *forest, const ki_tree_plan *plan)
{
    size_t cuts = 0, positions = 0, size = forest->node_floats;
    for (size_t p = 0; p < plan->part; p++) {
        cuts += forest->trees * cuts_of(forest->rows.parts[p].levels);
        positions += forest->trees * forest->rows.parts[p].n;
    }
    size_t new_cuts = plan->n > 0 ? forest->trees * cuts_of(plan->levels) : 0,
           new_positions = forest->trees * plan->n;
    if (new_cuts > 0)
        memmove(forest->own_nodes + cuts * size, forest->own_nodes + forest->n_nodes * size,
                new_cuts * size * sizeof *forest->nodes);
    if (new_positions > 0)
        memmove(forest->own_order + positions, forest->own_order + forest->n_order,
                new_positions * sizeof *forest->order);
    forest->n_nodes = cuts + new_cuts;
    forest->n_order = positions + new_positions;
}

kith_status ki_forest_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                          uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    ki_forest *forest = (ki_forest *)structure;
    ki_tree_plan plan;
    /* The shape of a cut may depend on a parameter: it is settled by the first part. */
    if (forest->rows.n_parts == 0) settle_cuts(forest);
    size_t leaf_size = (size_t)structure->env->params[0];
    kith_status status =
        ki_tree_append(&forest->rows, input, slots, first_slot, n_slots, leaf_size, run, &plan, err);
    if (status == KITH_OK) status = build_part(forest, &plan, run, err);
    if (status == KITH_OK) {
        if (plan.positions > 0) commit(forest, &plan);
        ki_tree_commit(&forest->rows, input->n, n_slots, &plan);
    }
    ki_tree_plan_clear(&forest->rows, &plan);
    return status;
}

void ki_forest_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    ki_tree_rows_remove(&((ki_forest *)structure)->rows, slots, n);
}

void ki_forest_decode(const ki_structure *structure, uint32_t slot, float *out)
{
    ki_tree_decode(&((const ki_forest *)structure)->rows, slot, out);
}

/* ---- Scratch ---- */

kith_status ki_forest_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    return ki_scratch_make(structure, sizeof **scratch, scratch, err);
}

void ki_forest_scratch_free(const ki_structure *structure, ki_scratch *s)
{
    const kith_allocator *allocator = structure->env->allocator;
    ki_scorer_free(s->scorer);
    ki_free(allocator, s->heap);
    ki_free(allocator, s->count);
    ki_free(allocator, s->touched);
    ki_free(allocator, s);
}

kith_status ki_forest_prepare(const ki_structure *structure, ki_scratch *s, size_t k, const double *settings,
                              kith_error *err)
{
    (void)k, (void)settings;
    const ki_forest *forest = (const ki_forest *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    size_t leaves = 0, n = forest->rows.n;
    for (size_t p = 0; p < forest->rows.n_parts; p++)
        leaves += forest->trees * (cuts_of(forest->rows.parts[p].levels) + 1);
    if (leaves > s->heap_room) {
        ki_waiting *heap = ki_alloc(allocator, leaves, sizeof *heap);
        if (!heap) return ki_fail_nomem(err, leaves * sizeof *heap);
        ki_free(allocator, s->heap);
        s->heap = heap;
        s->heap_room = leaves;
    }
    if (n > s->row_room) {
        uint8_t *count = ki_alloc_zero(allocator, n, sizeof *count);
        uint32_t *touched = ki_alloc(allocator, n, sizeof *touched);
        if (!count || !touched) {
            ki_free(allocator, count);
            ki_free(allocator, touched);
            return ki_fail_nomem(err, n * (sizeof *count + sizeof *touched));
        }
        ki_free(allocator, s->count);
        ki_free(allocator, s->touched);
        s->count = count;
        s->touched = touched;
        s->row_room = n;
    }
    return KITH_OK;
}

/* ---- Search ---- */

/* One query on its way. */
typedef struct search {
    const ki_forest *forest;
    ki_scratch *scratch;
    ki_query *query;
    const float *nodes[KI_TREE_PARTS]; /* where those of a part begin */
    const uint32_t *order[KI_TREE_PARTS];
    size_t waiting;
    unsigned votes;
    size_t chosen; /* rows that were compared, or will be: pending ones do not count, for they are not near */
    size_t n_ready;
    uint32_t ready[KI_SCAN_BLOCK]; /* positions to be compared */
} search;

/* Compare what is ready. */
static void flush(search *s)
{
    float dist[KI_SCAN_BLOCK];
    uint32_t near[KI_SCAN_BLOCK];
    const ki_tree_rows *rows = &s->forest->rows;
    ki_query *query = s->query;
    size_t n = s->n_ready;
    s->n_ready = 0;
    if (n == 0 || ki_query_stop(query)) return;
    ki_scorer *scorer = s->scratch->scorer;
    scorer->ops->score(scorer, rows->codes, s->ready, n, ki_query_limit(query), dist);
    query->scored += n;
    size_t n_near = query->kernels->select_le_f32(dist, n, ki_query_limit(query), near);
    for (size_t i = 0; i < n_near; i++) ki_query_offer(query, dist[near[i]], rows->slots[s->ready[near[i]]]);
}

/* A row that is to be compared, if it may be returned. */
static void choose(search *s, uint32_t position)
{
    uint32_t slot = s->forest->rows.slots[position];
    if (slot == KI_TREE_NOWHERE || (s->query->filter && !ki_query_allows(s->query, slot))) return;
    s->chosen++;
    s->ready[s->n_ready++] = position;
    if (s->n_ready == KI_SCAN_BLOCK) flush(s);
}

/* Count a leaf's rows, and choose those that have the votes now. Returns how many rows it holds. */
static size_t visit_leaf(search *s, const ki_waiting *leaf)
{
    const ki_forest *forest = s->forest;
    size_t p = leaf->root / forest->trees, tree = leaf->root % forest->trees;
    const ki_tree_part *part = &forest->rows.parts[p];
    size_t begin = ki_tree_begin(part->n, part->levels, leaf->index),
           end = ki_tree_begin(part->n, part->levels, leaf->index + 1);
    const uint32_t *order = s->order[p] + tree * part->n;
    ki_scratch *scratch = s->scratch;
    s->query->visited++;
    for (size_t i = begin; i < end; i++) {
        uint32_t position = part->first + order[i];
        uint8_t count = scratch->count[position];
        if (count == 0) scratch->touched[scratch->n_touched++] = position;
        if (count == UINT8_MAX) continue;
        scratch->count[position] = ++count;
        if (count == s->votes) choose(s, position);
    }
    return end - begin;
}

/* Down from a node to the leaf on the query's side of every cut; the other sides wait. */
static ki_waiting descend(search *s, ki_waiting node)
{
    const ki_forest *forest = s->forest;
    size_t p = node.root / forest->trees, tree = node.root % forest->trees;
    unsigned levels = forest->rows.parts[p].levels;
    const float *cuts = s->nodes[p] + tree * cuts_of(levels) * forest->node_floats;
    while (node.level < levels) {
        const float *cut = cuts + (cuts_of(node.level) + node.index) * forest->node_floats;
        float beyond = forest->kind->project(forest, tree, node.level, cut + 1, s->query->vector) - cut[0];
        uint32_t side = beyond >= 0;
        ki_waiting other = {node.cost + beyond * beyond, node.root, node.level + 1, 2 * node.index + !side};
        ki_waiting_push(s->scratch->heap, &s->waiting, other);
        node.level++;
        node.index = 2 * node.index + side;
    }
    return node;
}

/* Leaves, cheapest first, until the budget is used up or (budget NULL) until there are enough rows. */
static void visit_leaves(search *s, const ki_forest_budget *budget)
{
    uint64_t leaves = 0, rows = 0;
    while (s->waiting > 0 && !ki_query_stop(s->query)) {
        ki_waiting leaf = descend(s, ki_waiting_pop(s->scratch->heap, &s->waiting));
        rows += visit_leaf(s, &leaf);
        leaves++;
        if (budget && (leaves >= budget->leaves || rows >= budget->rows)) break;
        if (!budget && s->chosen >= s->query->need) break;
    }
    flush(s);
}

void ki_forest_search(const ki_forest *forest, ki_scratch *scratch, ki_query *query, ki_forest_budget budget)
{
    search s = {.forest = forest, .scratch = scratch, .query = query, .votes = budget.votes};
    const float *nodes = forest->nodes;
    const uint32_t *order = forest->order;
    scratch->scorer->ops->query(scratch->scorer, query->vector);
    query->holes = 0; /* positions know which of them are empty */
    ki_tree_scan_pending(&forest->rows, query, scratch->scorer);
    for (size_t p = 0; p < forest->rows.n_parts; p++) {
        const ki_tree_part *part = &forest->rows.parts[p];
        s.nodes[p] = nodes;
        s.order[p] = order;
        if (nodes) nodes += forest->trees * cuts_of(part->levels) * forest->node_floats;
        order += forest->trees * part->n;
        for (size_t tree = 0; tree < forest->trees; tree++)
            ki_waiting_push(scratch->heap, &s.waiting,
                            (ki_waiting){0, (uint32_t)(p * forest->trees + tree), 0, 0});
    }
    visit_leaves(&s, &budget);
    if (s.chosen < query->need && !query->stopped) {
        for (size_t i = 0; i < scratch->n_touched && s.votes > 1; i++) /* then one vote is enough */
            if (scratch->count[scratch->touched[i]] < s.votes) choose(&s, scratch->touched[i]);
        flush(&s);
        s.votes = 1;
        if (s.chosen < query->need) visit_leaves(&s, NULL);
    }
    for (size_t i = 0; i < scratch->n_touched; i++) scratch->count[scratch->touched[i]] = 0;
    scratch->n_touched = 0;
}

/* ---- Save, load, check ---- */

kith_status ki_forest_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                           kith_error *err)
{
    const ki_forest *forest = (const ki_forest *)structure;
    const char *prefix = forest->kind->prefix;
    char name[KI_STORE_NAME_BYTES];
    ki_record record;
    ki_record_init(&record, structure->env->allocator);
    ki_record_put_u64(&record, "node_floats", forest->node_floats);
    kith_status status = ki_store_put_record(writer, prefix, &record, err);
    ki_record_clear(&record);
    if (status != KITH_OK) return status;
    KI_TRY(ki_tree_rows_save(&forest->rows, prefix, n_slots, writer, err));
    snprintf(name, sizeof name, "%s.nodes", prefix);
    KI_TRY(ki_store_put(writer, name, forest->nodes, forest->n_nodes * forest->node_floats,
                        sizeof *forest->nodes, err));
    snprintf(name, sizeof name, "%s.order", prefix);
    return ki_store_put(writer, name, forest->order, forest->n_order, sizeof *forest->order, err);
}

/* What memory safety needs: positions inside their part, cuts that the family can use. */
static kith_status check_ranges(const ki_forest *forest, kith_error *err)
{
    const uint32_t *order = forest->order;
    for (size_t p = 0; p < forest->rows.n_parts; p++) {
        uint32_t n = forest->rows.parts[p].n;
        for (size_t i = 0; i < forest->trees * n; i++)
            if (order[i] >= n)
                return ki_fail(err, KITH_CORRUPT, "O1: part %zu of %u positions names number %u", p, n,
                               order[i]);
        order += forest->trees * n;
    }
    for (size_t i = 0; forest->kind->sound && i < forest->n_nodes; i++) /* the threshold may be any number */
        if (!forest->kind->sound(forest, forest->nodes + i * forest->node_floats + 1))
            return ki_fail(err, KITH_CORRUPT, "O2: cut %zu is none", i);
    return KITH_OK;
}

kith_status ki_forest_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                           kith_error *err)
{
    ki_forest *forest = (ki_forest *)structure;
    const ki_structure_env *env = structure->env;
    const char *prefix = forest->kind->prefix;
    const void *data;
    void *own = NULL;
    ki_record_view record;
    uint64_t node_floats;
    KI_TRY(ki_store_record_open(store, prefix, &record, err));
    KI_TRY(ki_record_get_u64(&record, "node_floats", 1, (uint64_t)KITH_MAX_DIM + 1, &node_floats, err));
    if (!forest->kind->fits(env, node_floats))
        return ki_fail(err, KITH_CORRUPT, "%s: cuts of %llu numbers", ki_store_path(store),
                       (unsigned long long)node_floats);
    forest->node_floats = node_floats;
    KI_TRY(ki_tree_rows_load(&forest->rows, prefix, mapped, rows, store, err));
    size_t cuts = 0, positions = 0, levels = 0;
    for (size_t p = 0; p < forest->rows.n_parts; p++) {
        const ki_tree_part *part = &forest->rows.parts[p];
        cuts += forest->trees * cuts_of(part->levels);
        positions += forest->trees * part->n;
        if (part->levels > levels) levels = part->levels;
    }
    KI_TRY(ki_tree_load_array(env, prefix, "nodes", cuts * forest->node_floats, sizeof *forest->nodes, mapped,
                              store, &data, &own, err));
    forest->nodes = data, forest->own_nodes = own, own = NULL;
    KI_TRY(ki_tree_load_array(env, prefix, "order", positions, sizeof *forest->order, mapped, store, &data,
                              &own, err));
    forest->order = data, forest->own_order = own;
    forest->n_nodes = cuts;
    forest->n_order = positions;
    forest->node_capacity = mapped ? 0 : cuts;
    forest->order_capacity = mapped ? 0 : positions;
    kith_status status = check_ranges(forest, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "%s", ki_store_path(store));
    if (status == KITH_OK && forest->kind->ready) status = forest->kind->ready(forest, (unsigned)levels, err);
    return status;
}

/* That n numbers below n are all different. */
static int is_permutation(const uint32_t *order, size_t n, uint64_t *seen)
{
    memset(seen, 0, ki_bits_words(n) * sizeof *seen);
    for (size_t i = 0; i < n; i++) {
        if (ki_bits_get(seen, order[i])) return 0;
        ki_bits_set(seen, order[i]);
    }
    return 1;
}

kith_status ki_forest_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const ki_forest *forest = (const ki_forest *)structure;
    KI_TRY(ki_tree_rows_check(&forest->rows, rows, err));
    KI_TRY(check_ranges(forest, err));
    uint64_t *seen = ki_alloc(structure->env->allocator, ki_bits_words(forest->rows.n), sizeof *seen);
    if (!seen) return ki_fail_nomem(err, ki_bits_words(forest->rows.n) * sizeof *seen);
    const uint32_t *order = forest->order;
    kith_status status = KITH_OK;
    size_t cuts = 0;
    for (size_t p = 0; p < forest->rows.n_parts && status == KITH_OK; p++) {
        const ki_tree_part *part = &forest->rows.parts[p];
        cuts += forest->trees * cuts_of(part->levels);
        for (size_t tree = 0; tree < forest->trees && status == KITH_OK; tree++, order += part->n)
            if (!is_permutation(order, part->n, seen))
                status =
                    ki_fail(err, KITH_CORRUPT, "O1: tree %zu of part %zu names a position twice", tree, p);
    }
    ki_free(structure->env->allocator, seen);
    if (status == KITH_OK && cuts != forest->n_nodes)
        return ki_fail(err, KITH_CORRUPT, "O2: %zu cuts, %zu are needed", forest->n_nodes, cuts);
    return status;
}

uint64_t ki_forest_bytes(const ki_structure *structure)
{
    const ki_forest *forest = (const ki_forest *)structure;
    return ki_tree_rows_bytes(&forest->rows) +
           (uint64_t)forest->n_nodes * forest->node_floats * sizeof *forest->nodes +
           (uint64_t)forest->n_order * sizeof *forest->order;
}
