/* topk.h - the k nearest seen so far: a bounded binary max-heap over (distance, id).
 *
 * The order is total: by distance, ties by the smaller id, so that the result does not depend on the order in
 * which candidates came. The caller gives the two arrays, so a searcher allocates nothing per query. */
#ifndef KI_BASE_TOPK_H
#define KI_BASE_TOPK_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define KI_NO_ID UINT64_MAX

typedef struct ki_topk {
    size_t k, n;
    float *dist;  /* [k], dist[0] is the worst once n == k */
    uint64_t *id; /* [k] */
} ki_topk;

static inline void ki_topk_init(ki_topk *top, size_t k, float *dist, uint64_t *id)
{
    top->k = k;
    top->n = 0;
    top->dist = dist;
    top->id = id;
}

/* A candidate farther than this cannot enter; +infinity until k were seen. */
static inline float ki_topk_worst(const ki_topk *top)
{
    return top->n == top->k ? top->dist[0] : INFINITY;
}

/* Whether (da, a) comes after (db, b). */
static inline int ki_farther(float da, uint64_t a, float db, uint64_t b)
{
    return da > db || (da == db && a > b);
}

void ki_topk_insert(ki_topk *top, float dist, uint64_t id);

/* Offer one candidate. The test is inline: most candidates are turned away. */
static inline void ki_topk_push(ki_topk *top, float dist, uint64_t id)
{
    if (top->n < top->k || ki_farther(top->dist[0], top->id[0], dist, id)) ki_topk_insert(top, dist, id);
}

/* Sort in place, nearest first, and fill the tail up to k with (+infinity, KI_NO_ID). The heap is used up.
 * Returns how many were found. */
size_t ki_topk_sort(ki_topk *top);

#endif
