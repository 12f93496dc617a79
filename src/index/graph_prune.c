#include "index/graph_prune.h"

/* Kept rows that a candidate is compared with at a time: most are turned away by one of the first. */
#define BLOCK 4

static int before(ki_near a, ki_near b)
{
    return a.dist < b.dist || (a.dist == b.dist && a.node < b.node);
}

/* Sift down in a heap whose root is the last in order. */
static void sift(ki_near *near, uint8_t *must, size_t root, size_t n)
{
    ki_near moved = near[root];
    uint8_t flag = must ? must[root] : 0;
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && before(near[child], near[child + 1])) child++;
        if (!before(moved, near[child])) break;
        near[root] = near[child];
        if (must) must[root] = must[child];
    }
    near[root] = moved;
    if (must) must[root] = flag;
}

void ki_near_sort(ki_near *near, size_t n, uint8_t *must)
{
    for (size_t i = n / 2; i-- > 0;) sift(near, must, i, n);
    for (size_t end = n; end-- > 1;) {
        ki_near last = near[0];
        uint8_t flag = must ? must[0] : 0;
        near[0] = near[end];
        if (must) must[0] = must[end];
        near[end] = last;
        if (must) must[end] = flag;
        sift(near, must, 0, end);
    }
}

/* Whether a kept row is nearer to the candidate than the node is. */
static int hidden(const ki_prune *prune, ki_near candidate, const uint32_t *kept, size_t n)
{
    float dist[BLOCK];
    const ki_codec *codec = prune->scorer->codec;
    size_t at = candidate.node;
    prune->scorer->ops->row(prune->scorer, prune->codes.code + at * codec->code_size,
                            prune->codes.factor ? prune->codes.factor + at * codec->n_factors : NULL, NULL);
    for (size_t first = 0; first < n; first += BLOCK) {
        size_t count = n - first < BLOCK ? n - first : BLOCK;
        prune->scorer->ops->score(prune->scorer, prune->codes, kept + first, count, INFINITY, dist);
        for (size_t i = 0; i < count; i++)
            if (prune->alpha * dist[i] < candidate.dist) return 1;
    }
    return 0;
}

size_t ki_prune_select(const ki_prune *prune, const ki_near *candidates, size_t n, const uint8_t *must,
                       uint32_t *links)
{
    size_t n_must = 0, kept = 0, free_kept = 0;
    for (size_t i = 0; must && i < n; i++) n_must += must[i];
    size_t room = prune->limit - n_must;
    uint32_t pruned[KI_GRAPH_DEGREE];
    size_t n_pruned = 0;
    for (size_t i = 0; i < n; i++) {
        int needed = must && must[i];
        if (!needed && (free_kept == room || hidden(prune, candidates[i], links, kept))) {
            if (n_pruned < room) pruned[n_pruned++] = candidates[i].node;
            continue;
        }
        links[kept++] = candidates[i].node;
        free_kept += !needed;
    }
    for (size_t i = 0; prune->keep_pruned && i < n_pruned && free_kept < room; i++, free_kept++)
        links[kept++] = pruned[i];
    for (size_t i = kept; i < prune->limit; i++) links[i] = KI_GRAPH_NONE;
    return kept;
}
