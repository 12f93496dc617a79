#include "base/topk.h"

/* Let (dist, id) sink from slot i of a max-heap of n. */
static void sift_down(float *dists, uint64_t *ids, size_t n, size_t i, float dist, uint64_t id)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && ki_farther(dists[child + 1], ids[child + 1], dists[child], ids[child])) child++;
        if (!ki_farther(dists[child], ids[child], dist, id)) break;
        dists[i] = dists[child];
        ids[i] = ids[child];
        i = child;
    }
    dists[i] = dist;
    ids[i] = id;
}

void ki_topk_insert(ki_topk *top, float dist, uint64_t id)
{
    if (top->n == top->k) {
        sift_down(top->dist, top->id, top->n, 0, dist, id);
        return;
    }
    size_t i = top->n++;
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (!ki_farther(dist, id, top->dist[parent], top->id[parent])) break;
        top->dist[i] = top->dist[parent];
        top->id[i] = top->id[parent];
        i = parent;
    }
    top->dist[i] = dist;
    top->id[i] = id;
}

size_t ki_topk_sort(ki_topk *top)
{
    size_t found = top->n;
    for (size_t n = found; n > 1; n--) {
        float dist = top->dist[n - 1];
        uint64_t id = top->id[n - 1];
        top->dist[n - 1] = top->dist[0];
        top->id[n - 1] = top->id[0];
        sift_down(top->dist, top->id, n - 1, 0, dist, id);
    }
    for (size_t i = found; i < top->k; i++) {
        top->dist[i] = INFINITY;
        top->id[i] = KI_NO_ID;
    }
    top->n = 0;
    return found;
}
