/* graph_prune.h - which of many candidates become the links of a node: the heuristic that all graph families share.
 *
 * Candidates are taken nearest first; one is kept when it is nearer to the node than to every one kept before (times
 * alpha): the links then point in different directions, and a link that a walk could take in two shorter steps is
 * saved. Malkov & Yashunin 2018, Alg. 4 SELECT-NEIGHBORS-HEURISTIC (alpha 1); MRNG edge selection, Fu et al. 2019; robust
 * pruning with alpha > 1, Subramanya et al. 2019, Alg. 2. */
#ifndef KI_INDEX_GRAPH_PRUNE_H
#define KI_INDEX_GRAPH_PRUNE_H

#include "index/family.h"
#include "index/graph_beam.h"

/* How many times nearer a link must lead to make another needless, in terms of the distances that scorers give. */
typedef struct ki_alpha {
    float factor, bias;
} ki_alpha;

/* Of a parameter that speaks of distances: squared ones are multiplied by its square, as is 1 - cos, which is half of one and
 * given less 1; differing bits by itself. Dot products of rows of any length know no such factor: 1 there. */
ki_alpha ki_alpha_of(const ki_structure_env *env, double alpha);

/* Whether a link to a row at `dist` is needless beside one to another row, `between` away from it. */
static inline int ki_alpha_hides(ki_alpha alpha, float between, float dist)
{
    return alpha.factor * between + alpha.bias < dist;
}

typedef struct ki_prune {
    ki_scorer *scorer; /* compares stored rows */
    ki_codes codes;    /* by node */
    size_t limit;      /* links at most */
    ki_alpha alpha;
    int keep_pruned; /* fill up with the nearest of those that were not kept */
} ki_prune;

/* The links of a node. Each row kept is compared with all that are still candidates, which is the paper's selection turned
 * round: a stored row becomes the scorer's query (dear for codecs that prepare tables) as often as there are links, not
 * as often as there are candidates.
 * In:       candidates[n], nearest first, distinct, none of them the node itself; must[n], or NULL: those that are kept in
 *           any case, fewer than limit of them. Both are used up.
 * Out:      links[limit], the rest KI_GRAPH_NONE. Returns how many. */
size_t ki_prune_select(const ki_prune *prune, ki_near *candidates, size_t n, uint8_t *must, uint32_t *links);

/* Sort by (distance, node); must[n], if given, goes along. */
void ki_near_sort(ki_near *near, size_t n, uint8_t *must);

#endif
