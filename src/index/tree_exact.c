/* tree_exact.c - see the header; rows, parts and their order are those of tree_rows.h.
 *
 * Build, level by level from the root: every node of a level gets its volume and, unless it is a leaf, the keys of its
 * rows, whose median cuts it in half (ties by position, so halves are equal however many rows coincide). Nodes of a
 * level are independent of each other: blocks of the pool. O(n log n) keys, and as many steps of selection.
 *
 * Search, depth first with a stack: the nearer child at once, the farther one onto the stack. With max_leaves: best
 * first, all nodes in one heap, until so many leaves were compared.
 *
 * Invariants, beside T1..T4:
 *   E1  there are 2^(levels + 1) - 1 volumes for each part
 *   E2  a volume holds every row below its node
 *   E3  under COSINE no row is longer than 1 + 2^-20 */
#include "index/tree_exact.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/run.h"
#include "base/select.h"
#include "index/tree_heap.h"

/* Squares of rows of unit length, as ki_unit rounds them. */
#define UNIT_NORM2 (1 + 0x1p-20)

struct ki_scratch {
    ki_scorer *scorer;
    ki_waiting *heap; /* of best-first search */
    size_t capacity;
};

static size_t nodes_of(unsigned levels)
{
    return ((size_t)2 << levels) - 1;
}

/* ---- Create and free ---- */

kith_status ki_exact_create(const ki_structure_env *env, const ki_exact_kind *kind, const char *name,
                            ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    if (strcmp(env->codec->ops->name, "f32") != 0)
        return ki_fail(err, KITH_UNSUPPORTED,
                       "spec: %s is exact and keeps float32 rows: write %s, or %s,Flat, not another codec",
                       name, name, name);
    ki_exact_tree *tree = ki_alloc_zero(env->allocator, 1, sizeof *tree);
    if (!tree) return ki_fail_nomem(err, sizeof *tree);
    tree->base.env = env;
    tree->kind = kind;
    tree->floats = kind->volume_floats(env->dim);
    ki_tree_rows_init(&tree->rows, env);
    *structure = &tree->base;
    return KITH_OK;
}

void ki_exact_free(ki_structure *structure)
{
    ki_exact_tree *tree = (ki_exact_tree *)structure;
    ki_tree_rows_clear(&tree->rows);
    ki_free(structure->env->allocator, tree->own_volumes);
    ki_free(structure->env->allocator, tree);
}

/* ---- Build ---- */

/* A part being built. */
typedef struct build {
    const ki_exact_tree *tree;
    ki_tree_plan *plan;
    float *volumes; /* of this part */
    uint64_t *keys; /* [plan->n] */
    float *key;     /* [plan->n] */
    float *scratch; /* [threads][4][dim] */
    unsigned level;
} build;

/* One node: its volume, and its rows in two halves. */
static void build_node(void *ctx, size_t index, size_t worker)
{
    const build *b = ctx;
    const ki_tree_plan *plan = b->plan;
    const ki_exact_kind *kind = b->tree->kind;
    size_t first = ki_tree_begin(plan->n, b->level, index),
           n = ki_tree_begin(plan->n, b->level, index + 1) - first;
    uint32_t *order = plan->order + first;
    ki_exact_node node = {&b->tree->rows, order, n, b->scratch + worker * 4 * b->tree->base.env->dim};
    float *volume = b->volumes + (((size_t)1 << b->level) - 1 + index) * b->tree->floats;
    kind->volume(&node, volume);
    if (b->level == plan->levels) return;
    kind->keys(&node, volume, b->key + first);
    uint64_t *keys = b->keys + first;
    for (size_t i = 0; i < n; i++) {
        float key = b->key[first + i];
        keys[i] = ki_key(key == key ? key : 0, order[i]); /* not a number: components too large to subtract */
    }
    ki_keys_select(keys, n, ki_tree_begin(plan->n, b->level + 1, 2 * index + 1) - first);
    for (size_t i = 0; i < n; i++) order[i] = ki_key_number(keys[i]);
}

static kith_status build_levels(build *b, const kith_run *run, kith_error *err)
{
    ki_stage stage;
    ki_stage_begin(&stage, run, "building", b->plan->levels + 1);
    for (b->level = 0; b->level <= b->plan->levels; b->level++) {
        KI_TRY(ki_run_check(run, err));
        ki_pool_run(ki_run_pool(run), (size_t)1 << b->level, build_node, b);
        ki_stage_report(&stage, b->level + 1);
    }
    return KITH_OK;
}

/* Nodes of the parts that stay. */
static size_t kept_nodes(const ki_exact_tree *tree, const ki_tree_plan *plan)
{
    size_t kept = 0;
    for (size_t p = 0; p < plan->part; p++) kept += nodes_of(tree->rows.parts[p].levels);
    return kept;
}

/* Room for the volumes of the new part, behind those that stay. They are written before the add is certain: a failure
 * leaves the old ones, so the new ones begin where nothing is, and move to their place at the end. */
static kith_status reserve_nodes(ki_exact_tree *tree, size_t nodes, kith_error *err)
{
    if (tree->n_nodes + nodes <= tree->node_capacity) return KITH_OK;
    size_t capacity = tree->node_capacity == 0 ? nodes : ki_grown(tree->node_capacity, tree->n_nodes + nodes);
    size_t size = tree->floats * sizeof *tree->volumes;
    float *volumes = ki_realloc(tree->base.env->allocator, tree->own_volumes, tree->n_nodes, capacity, size);
    if (!volumes) return ki_fail_nomem(err, capacity * size);
    tree->volumes = tree->own_volumes = volumes;
    tree->node_capacity = capacity;
    return KITH_OK;
}

static kith_status build_part(ki_exact_tree *tree, ki_tree_plan *plan, const kith_run *run, kith_error *err)
{
    const ki_structure_env *env = tree->base.env;
    if (plan->n == 0) return KITH_OK;
    KI_TRY(reserve_nodes(tree, nodes_of(plan->levels), err));
    size_t threads = kith_pool_threads(ki_run_pool(run));
    build b = {.tree = tree, .plan = plan, .volumes = tree->own_volumes + tree->n_nodes * tree->floats};
    b.keys = ki_alloc(env->allocator, plan->n, sizeof *b.keys);
    b.key = ki_alloc(env->allocator, plan->n, sizeof *b.key);
    b.scratch = ki_alloc(env->allocator, threads * 4, env->dim * sizeof *b.scratch);
    kith_status status = b.keys && b.key && b.scratch
                             ? KITH_OK
                             : ki_fail_nomem(err, plan->n * (sizeof *b.keys + sizeof *b.key));
    if (status == KITH_OK) status = build_levels(&b, run, err);
    ki_free(env->allocator, b.keys);
    ki_free(env->allocator, b.key);
    ki_free(env->allocator, b.scratch);
    return status;
}

kith_status ki_exact_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                         uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    ki_exact_tree *tree = (ki_exact_tree *)structure;
    ki_tree_plan plan;
    size_t leaf_size = (size_t)structure->env->params[KI_EXACT_LEAF_SIZE];
    kith_status status =
        ki_tree_append(&tree->rows, input, slots, first_slot, n_slots, leaf_size, run, &plan, err);
    if (status == KITH_OK) status = build_part(tree, &plan, run, err);
    if (status == KITH_OK) {
        if (plan.positions > 0) {
            size_t kept = kept_nodes(tree, &plan), built = plan.n > 0 ? nodes_of(plan.levels) : 0;
            if (built > 0)
                memmove(tree->own_volumes + kept * tree->floats,
                        tree->own_volumes + tree->n_nodes * tree->floats,
                        built * tree->floats * sizeof *tree->volumes);
            tree->n_nodes = kept + built;
        }
        ki_tree_commit(&tree->rows, input->n, n_slots, &plan);
    }
    ki_tree_plan_clear(&tree->rows, &plan);
    return status;
}

void ki_exact_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    ki_tree_rows_remove(&((ki_exact_tree *)structure)->rows, slots, n);
}

void ki_exact_decode(const ki_structure *structure, uint32_t slot, float *out)
{
    ki_tree_decode(&((const ki_exact_tree *)structure)->rows, slot, out);
}

/* ---- Scratch ---- */

kith_status ki_exact_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    return ki_scratch_make(structure, sizeof **scratch, scratch, err);
}

void ki_exact_scratch_free(const ki_structure *structure, ki_scratch *scratch)
{
    ki_scorer_free(scratch->scorer);
    ki_free(structure->env->allocator, scratch->heap);
    ki_free(structure->env->allocator, scratch);
}

kith_status ki_exact_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                             const double *settings, kith_error *err)
{
    const ki_exact_tree *tree = (const ki_exact_tree *)structure;
    (void)k;
    if (settings[KI_EXACT_MAX_LEAVES] == 0) return KITH_OK;
    size_t need =
        tree->n_nodes; /* a filter may let the search go on beyond max_leaves, through all of them */
    if (need <= scratch->capacity) return KITH_OK;
    ki_waiting *heap = ki_alloc(structure->env->allocator, need, sizeof *heap);
    if (!heap) return ki_fail_nomem(err, need * sizeof *heap);
    ki_free(structure->env->allocator, scratch->heap);
    scratch->heap = heap;
    scratch->capacity = need;
    return KITH_OK;
}

/* ---- Search ---- */

/* One query, and what of it the pruning needs. */
typedef struct search {
    const ki_exact_tree *tree;
    ki_scratch *scratch;
    ki_query *query;
    double limit; /* volumes beyond it hold nothing that would enter */
    double norm2; /* of the query, under COSINE */
    double slack; /* relative */
    double tiny;  /* absolute: squares that underflow */
    int l1;
} search;

/* The limit in terms of volumes; the header tells why it is safe. */
static void renew_limit(search *s)
{
    double limit = (double)ki_query_limit(s->query);
    if (!(limit < (double)HUGE_VALF && limit < 0x1p126)) {
        s->limit = HUGE_VAL;
        return;
    }
    if (s->tree->base.env->unit) /* -(q.x) <= limit is |q - x|^2 <= 2 limit + |q|^2 + |x|^2 */
        limit = 2 * (limit + s->slack) + s->norm2 + UNIT_NORM2;
    s->limit = limit + fabs(limit) * 4 * s->slack + 4 * s->tiny;
}

static void search_init(search *s, const ki_exact_tree *tree, ki_scratch *scratch, ki_query *query)
{
    const ki_structure_env *env = tree->base.env;
    *s = (search){.tree = tree, .scratch = scratch, .query = query, .l1 = env->metric == KITH_L1};
    s->slack = ki_exact_slack(env->dim);
    s->tiny = (double)env->dim * 0x1p-148;
    for (size_t d = 0; env->unit && d < env->dim; d++)
        s->norm2 += (double)query->vector[d] * (double)query->vector[d];
    renew_limit(s);
}

static float bound_of(const search *s, const float *volume)
{
    const ki_structure_env *env = s->tree->base.env;
    return s->tree->kind->bound(s->query->vector, volume, env->dim, s->l1, env->kernels);
}

static void scan_leaf(search *s, const ki_tree_part *part, size_t index)
{
    size_t begin = ki_tree_begin(part->n, part->levels, index),
           end = ki_tree_begin(part->n, part->levels, index + 1);
    ki_tree_scan(&s->tree->rows, s->query, s->scratch->scorer, part->first + begin, end - begin,
                 part->dead > 0);
    renew_limit(s);
}

/* The children of a node, the nearer one first. volumes: of its part. A child lies inside its parent, so a bound of
 * the parent holds for it as well. */
static void children(const search *s, const float *volumes, const ki_waiting *node, ki_waiting child[2])
{
    size_t first = ((size_t)2 << node->level) - 1 + 2 * (size_t)node->index;
    for (uint32_t c = 0; c < 2; c++) {
        float bound = bound_of(s, volumes + (first + c) * s->tree->floats);
        child[c] = (ki_waiting){bound > node->cost ? bound : node->cost, node->root, node->level + 1,
                                2 * node->index + c};
    }
    if (child[1].cost < child[0].cost) {
        ki_waiting far = child[0];
        child[0] = child[1];
        child[1] = far;
    }
}

/* Depth first through one part. */
static void search_part(search *s, size_t p, const float *volumes)
{
    const ki_tree_part *part = &s->tree->rows.parts[p];
    ki_waiting stack[KI_TREE_MAX_LEVELS + 1], child[2];
    size_t top = 0;
    stack[top++] = (ki_waiting){bound_of(s, volumes), (uint32_t)p, 0, 0};
    while (top > 0 && !s->query->stopped) {
        ki_waiting node = stack[--top];
        while (node.level < part->levels && !((double)node.cost > s->limit)) {
            children(s, volumes, &node, child);
            if (!((double)child[1].cost > s->limit)) stack[top++] = child[1];
            node = child[0];
        }
        if (!((double)node.cost > s->limit)) scan_leaf(s, part, node.index);
    }
}

/* Best first through all parts, until max_leaves leaves were compared and enough rows were found. */
static void search_best(search *s, const float *const *volumes, uint64_t max_leaves)
{
    const ki_tree_rows *rows = &s->tree->rows;
    ki_waiting *heap = s->scratch->heap, child[2];
    size_t n = 0;
    uint64_t leaves = 0;
    for (size_t p = 0; p < rows->n_parts; p++)
        ki_waiting_push(heap, &n, (ki_waiting){bound_of(s, volumes[p]), (uint32_t)p, 0, 0});
    while (n > 0 && !s->query->stopped) {
        ki_waiting node = ki_waiting_pop(heap, &n);
        const ki_tree_part *part = &rows->parts[node.root];
        while (node.level < part->levels && !((double)node.cost > s->limit)) {
            children(s, volumes[node.root], &node, child);
            if (!((double)child[1].cost > s->limit)) ki_waiting_push(heap, &n, child[1]);
            node = child[0];
        }
        if ((double)node.cost > s->limit) continue;
        scan_leaf(s, part, node.index);
        if (++leaves >= max_leaves && ki_query_taken(s->query) >= s->query->need) return;
    }
}

void ki_exact_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query)
{
    const ki_exact_tree *tree = (const ki_exact_tree *)structure;
    const float *volumes[KI_TREE_PARTS], *next = tree->volumes;
    search s;
    scratch->scorer->ops->query(scratch->scorer, query->vector);
    query->holes = 0; /* positions know which of them are empty */
    ki_tree_scan_pending(&tree->rows, query, scratch->scorer);
    search_init(&s, tree, scratch, query);
    for (size_t p = 0; p < tree->rows.n_parts; p++) {
        volumes[p] = next;
        next += nodes_of(tree->rows.parts[p].levels) * tree->floats;
    }
    double max_leaves = query->settings[KI_EXACT_MAX_LEAVES];
    if (max_leaves > 0) {
        search_best(&s, volumes, (uint64_t)max_leaves);
        return;
    }
    for (size_t p = 0; p < tree->rows.n_parts && !query->stopped; p++) search_part(&s, p, volumes[p]);
}

/* ---- Save, load, check ---- */

kith_status ki_exact_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                          kith_error *err)
{
    const ki_exact_tree *tree = (const ki_exact_tree *)structure;
    char name[KI_STORE_NAME_BYTES];
    KI_TRY(ki_tree_rows_save(&tree->rows, tree->kind->prefix, n_slots, writer, err));
    snprintf(name, sizeof name, "%s.volumes", tree->kind->prefix);
    return ki_store_put(writer, name, tree->volumes, tree->n_nodes, tree->floats * sizeof *tree->volumes,
                        err);
}

kith_status ki_exact_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                          kith_error *err)
{
    ki_exact_tree *tree = (ki_exact_tree *)structure;
    const void *data;
    void *own = NULL;
    KI_TRY(ki_tree_rows_load(&tree->rows, tree->kind->prefix, mapped, rows, store, err));
    size_t n = 0; /* leaves hold rows, so there are fewer than four nodes a row */
    for (size_t p = 0; p < tree->rows.n_parts; p++) n += nodes_of(tree->rows.parts[p].levels);
    KI_TRY(ki_tree_load_array(structure->env, tree->kind->prefix, "volumes", n,
                              tree->floats * sizeof *tree->volumes, mapped, store, &data, &own, err));
    tree->volumes = data;
    tree->own_volumes = own;
    tree->n_nodes = n;
    tree->node_capacity = mapped ? 0 : n;
    return KITH_OK;
}

/* Every row of a part in the volume of its node on one level. */
static kith_status check_level(const ki_exact_tree *tree, const ki_tree_part *part, const float *volumes,
                               unsigned level, kith_error *err)
{
    for (size_t index = 0; index < (size_t)1 << level; index++) {
        const float *volume = volumes + (((size_t)1 << level) - 1 + index) * tree->floats;
        size_t begin = ki_tree_begin(part->n, level, index), end = ki_tree_begin(part->n, level, index + 1);
        for (size_t p = part->first + begin; p < part->first + end; p++)
            if (tree->rows.slots[p] != KI_TREE_NOWHERE && !tree->kind->holds(&tree->rows, volume, p))
                return ki_fail(err, KITH_CORRUPT,
                               "E2: the row at position %zu is not in node %zu of level %u", p, index, level);
    }
    return KITH_OK;
}

kith_status ki_exact_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const ki_exact_tree *tree = (const ki_exact_tree *)structure;
    const ki_structure_env *env = structure->env;
    KI_TRY(ki_tree_rows_check(&tree->rows, rows, err));
    const float *volumes = tree->volumes;
    size_t n = 0;
    for (size_t p = 0; p < tree->rows.n_parts; p++) {
        const ki_tree_part *part = &tree->rows.parts[p];
        n += nodes_of(part->levels);
        for (unsigned level = 0; level <= part->levels; level++)
            KI_TRY(check_level(tree, part, volumes, level, err));
        volumes += nodes_of(part->levels) * tree->floats;
    }
    if (n != tree->n_nodes)
        return ki_fail(err, KITH_CORRUPT, "E1: %zu volumes for %zu nodes", tree->n_nodes, n);
    for (size_t p = 0; env->unit && p < tree->rows.n; p++) {
        const float *x = ki_tree_vector(&tree->rows, p, NULL);
        double norm2 = 0;
        for (size_t d = 0; d < env->dim; d++) norm2 += (double)x[d] * (double)x[d];
        if (norm2 > UNIT_NORM2)
            return ki_fail(err, KITH_CORRUPT, "E3: the row at position %zu is %g long", p, sqrt(norm2));
    }
    return KITH_OK;
}

uint64_t ki_exact_bytes(const ki_structure *structure)
{
    const ki_exact_tree *tree = (const ki_exact_tree *)structure;
    return ki_tree_rows_bytes(&tree->rows) + (uint64_t)tree->n_nodes * tree->floats * sizeof *tree->volumes;
}
