/* qg_root.c - where walks begin: a row of many more neighbours than the others, which belongs to the mean of all.
 *
 * Some rows at equal distances by number, the square root of their number, at most SAMPLE: the codes of sixteen are looked
 * at in the time of one true distance, so the upper levels of HNSW have nothing to add. Behind them stand rows that no
 * path leads to, so that every row is reached from the root. Under the dot product that may be most rows: the short ones, which are
 * nobody's neighbours. As many as the sample has are entries, the others hang on one another, in the places of fillers: what
 * would be compared at the beginning of every walk is met by those that come there. */
#include "index/qg_internal.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

#define SAMPLE 1024

static size_t padded(size_t n)
{
    return (n + KI_QG_BLOCK - 1) / KI_QG_BLOCK * KI_QG_BLOCK;
}

kith_status ki_qg_root_reserve(ki_qg *g, size_t n, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    ki_qg_root *root = &g->root;
    size_t row = g->at.bits / 8;
    n = padded(n);
    if (n <= root->room) return KITH_OK;
    size_t kept = padded(root->n);
    uint32_t *node = ki_alloc(allocator, n, sizeof *node);
    uint8_t *codes = ki_alloc(allocator, n, row);
    uint16_t *add = ki_alloc(allocator, n, sizeof *add), *mul = ki_alloc(allocator, n, sizeof *mul);
    if (!node || !codes || !add || !mul) {
        ki_free(allocator, node);
        ki_free(allocator, codes);
        ki_free(allocator, add);
        ki_free(allocator, mul);
        return ki_fail_nomem(err, n * (row + sizeof *node + 2 * sizeof *add));
    }
    if (kept > 0) {
        memcpy(node, root->node, kept * sizeof *node);
        memcpy(codes, root->codes, kept * row);
        memcpy(add, root->add, kept * sizeof *add);
        memcpy(mul, root->mul, kept * sizeof *mul);
    }
    ki_qg_root old = *root;
    *root = (ki_qg_root){node, codes, add, mul, old.n, old.n_sample, n, old.made_for};
    ki_free(allocator, old.node);
    ki_free(allocator, old.codes);
    ki_free(allocator, old.add);
    ki_free(allocator, old.mul);
    return KITH_OK;
}

void ki_qg_root_clear(ki_qg *g)
{
    const kith_allocator *allocator = g->base.env->allocator;
    ki_free(allocator, g->root.node);
    ki_free(allocator, g->root.codes);
    ki_free(allocator, g->root.add);
    ki_free(allocator, g->root.mul);
    memset(&g->root, 0, sizeof g->root);
}

/* One more entry; from: the mean. The rest of a new block is no entries. */
static void enter(ki_qg *g, const ki_qg_point *from, ki_qg_point *to, uint32_t slot)
{
    ki_qg_root *root = &g->root;
    if (root->n % KI_QG_BLOCK == 0) {
        size_t row = g->at.bits / 8;
        memset(root->codes + root->n * row, 0, KI_QG_BLOCK * row);
        for (size_t i = root->n; i < root->n + KI_QG_BLOCK; i++) {
            root->node[i] = KI_GRAPH_NONE;
            root->add[i] = KI_QG_NO_ADD;
            root->mul[i] = 0;
        }
    }
    ki_qg_point_load(g, to, slot);
    ki_qg_link(g, from, to, root->n, root->codes, root->add, root->mul);
    root->node[root->n++] = slot;
}

void ki_qg_root_enter(ki_qg *g, ki_qg_point *mean, ki_qg_point *to, uint32_t slot)
{
    ki_qg_point_mean(g, mean);
    enter(g, mean, to, slot);
}

void ki_qg_root_forget_orphans(ki_qg *g)
{
    ki_qg_root *root = &g->root;
    for (size_t i = root->n_sample; i < padded(root->n); i++) {
        uint8_t *code = root->codes + i / KI_QG_BLOCK * g->at.steps * KI_QG_STEP_BYTES + i % KI_QG_BLOCK;
        for (size_t b = 0; b < g->at.bits / 8; b++) code[b * 16] = 0;
        root->node[i] = KI_GRAPH_NONE;
        root->add[i] = KI_QG_NO_ADD;
        root->mul[i] = 0;
    }
    root->n = root->n_sample;
}

int ki_qg_root_is_due(const ki_qg *g, size_t rows)
{
    return rows >= g->root.made_for + g->root.made_for / 4 + 1;
}

void ki_qg_root_sample(ki_qg *g, ki_qg_point *from, ki_qg_point *to, int always)
{
    ki_qg_root *root = &g->root;
    if (!always && !ki_qg_root_is_due(g, g->n_used)) return;
    size_t wanted = padded((size_t)sqrt((double)g->n_used)), n = 0, done = 0;
    if (wanted > SAMPLE) wanted = SAMPLE;
    if (wanted > g->n_used) wanted = g->n_used;
    root->n = 0;
    root->made_for = g->n_used;
    ki_qg_point_mean(g, from);
    for (size_t i = 0; i < g->n_slots && done < wanted; i++) {
        if (!ki_bits_get(g->used, i)) continue;
        if (n++ * wanted < done * g->n_used) continue;
        enter(g, from, to, (uint32_t)i);
        done++;
    }
    root->n_sample = root->n;
}

void ki_qg_root_follow(const ki_qg *g, uint32_t slot, uint64_t *seen, uint32_t *stack)
{
    size_t n = 0;
    if (ki_bits_get(seen, slot)) return;
    ki_bits_set(seen, slot);
    stack[n++] = slot;
    while (n > 0) {
        const uint32_t *links = ki_qg_links(g, stack[--n]);
        for (size_t i = 0; i < g->at.degree; i++) {
            uint32_t to = ki_qg_to(links[i]);
            if (links[i] == KI_GRAPH_NONE || ki_bits_get(seen, to)) continue;
            ki_bits_set(seen, to);
            stack[n++] = to;
        }
    }
}

/* Rows that are short under the dot product are hardly ever looked for: it does not matter where they hang. All others had
 * better be entries. */
static int may_hang(const ki_qg *g)
{
    return g->base.env->metric == KITH_DOT && !g->base.env->unit && g->n_used > KI_QG_SINGLE;
}

/* A place of a row in use that may be had for another link: an empty one, or a filler that leads to a row within reach of the
 * sample, which does not need it. degree: there is none. */
static size_t place_to_hang(const ki_qg *g, uint32_t slot, const uint64_t *near)
{
    const uint32_t *links = ki_qg_links(g, slot);
    for (size_t i = 0; i < g->at.degree; i++)
        if (links[i] == KI_GRAPH_NONE || (links[i] & KI_QG_FILLER && ki_bits_get(near, ki_qg_to(links[i]))))
            return i;
    return g->at.degree;
}

void ki_qg_root_orphans(ki_qg *g, ki_qg_point *from, ki_qg_point *to, uint64_t *seen, uint32_t *stack)
{
    size_t words = ki_bits_words(g->n_slots), most = g->root.n_sample, host = 0;
    uint64_t *near = seen + words;
    ki_qg_root_forget_orphans(g);
    memset(seen, 0, words * sizeof *seen);
    for (size_t i = 0; i < g->root.n; i++) ki_qg_root_follow(g, g->root.node[i], seen, stack);
    memcpy(near, seen, words * sizeof *near);
    if (!may_hang(g)) most = SIZE_MAX;
    for (size_t i = 0; i < g->n_slots; i++) {
        if (!ki_bits_get(g->used, i) || ki_bits_get(seen, i)) continue;
        size_t place = g->at.degree;
        for (; g->root.n - g->root.n_sample >= most && host < i; host++) {
            if (!ki_bits_get(g->used, host) || ki_bits_get(near, host)) continue;
            place = place_to_hang(g, (uint32_t)host, near);
            if (place < g->at.degree) break;
        }
        if (place < g->at.degree) {
            ki_qg_point_load(g, from, (uint32_t)host);
            ki_qg_point_load(g, to, (uint32_t)i);
            ki_qg_put(g, (uint32_t)host, from, to, place, (uint32_t)i);
        } else {
            ki_qg_root_enter(g, from, to, (uint32_t)i);
        }
        ki_qg_root_follow(g, (uint32_t)i, seen, stack);
    }
}
