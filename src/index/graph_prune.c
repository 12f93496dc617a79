#include "index/graph_prune.h"

#include <string.h>

ki_alpha ki_alpha_of(const ki_structure_env *env, double alpha)
{
    if (env->metric == KITH_DOT && !env->unit) return (ki_alpha){1, 0};
    if (env->metric == KITH_L2SQ || env->metric == KITH_DOT) alpha *= alpha;
    return (ki_alpha){(float)alpha, env->metric == KITH_DOT ? (float)(alpha - 1) : 0};
}

/* Candidates that a kept row is compared with at a time. */
#define BLOCK 64

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

/* Those left out, nearest first, as many as there could be room for. */
typedef struct pruned {
    ki_near near[KI_GRAPH_DEGREE];
    size_t n, limit;
} pruned;

static void leave_out(pruned *p, ki_near candidate)
{
    if (p->n == p->limit && (p->n == 0 || before(p->near[p->n - 1], candidate))) return;
    size_t i = p->n < p->limit ? p->n++ : p->n - 1;
    for (; i > 0 && before(candidate, p->near[i - 1]); i--) p->near[i] = p->near[i - 1];
    p->near[i] = candidate;
}

/* Of the candidates, take those out that a row just kept is alpha times nearer to than the node is. Returns how many are left. */
static size_t hide(const ki_prune *prune, uint32_t kept, ki_near *candidates, uint8_t *must, size_t n,
                   pruned *out)
{
    uint32_t node[BLOCK];
    float dist[BLOCK];
    const ki_codec *codec = prune->scorer->codec;
    const ki_codes codes = prune->codes;
    size_t left = 0;
    prune->scorer->ops->row(prune->scorer, codes.code + kept * codec->code_size,
                            codes.factor ? codes.factor + kept * codec->n_factors : NULL, NULL);
    for (size_t first = 0; first < n; first += BLOCK) {
        size_t count = n - first < BLOCK ? n - first : BLOCK;
        for (size_t i = 0; i < count; i++) node[i] = candidates[first + i].node;
        prune->scorer->ops->score(prune->scorer, codes, node, count, INFINITY, dist);
        for (size_t i = 0; i < count; i++) {
            ki_near candidate = candidates[first + i];
            uint8_t needed = must ? must[first + i] : 0;
            if (!needed && ki_alpha_hides(prune->alpha, dist[i], candidate.dist)) {
                if (out->limit > 0) leave_out(out, candidate);
                continue;
            }
            candidates[left] = candidate;
            if (must) must[left] = needed;
            left++;
        }
    }
    return left;
}

size_t ki_prune_select(const ki_prune *prune, ki_near *candidates, size_t n, uint8_t *must, uint32_t *links)
{
    size_t n_must = 0, kept = 0;
    for (size_t i = 0; must && i < n; i++) n_must += must[i];
    size_t room = prune->limit - n_must;
    pruned out;
    out.n = 0;
    out.limit = prune->keep_pruned ? room : 0;
    while (n > 0 && (room > 0 || n_must > 0)) {
        size_t at = 0; /* the nearest that may be kept */
        while (room == 0 && !must[at]) at++;
        uint32_t node = candidates[at].node;
        if (must && must[at])
            n_must--;
        else
            room--;
        links[kept++] = node;
        candidates += at + 1;
        if (must) must += at + 1;
        n -= at + 1;
        if (room > 0) n = hide(prune, node, candidates, must, n, &out);
    }
    for (size_t i = 0; i < out.n && room > 0; i++, room--) links[kept++] = out.near[i].node;
    for (size_t i = kept; i < prune->limit; i++) links[i] = KI_GRAPH_NONE;
    return kept;
}
