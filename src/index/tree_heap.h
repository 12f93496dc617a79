/* tree_heap.h - nodes of trees that wait to be looked into, and a heap of them, the cheapest first: best-first search of
 * the exact trees and of the forests. Equal costs go by root, then by index, so that the order is the same everywhere. */
#ifndef KI_INDEX_TREE_HEAP_H
#define KI_INDEX_TREE_HEAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct ki_waiting {
    float cost;    /* a lower bound of the distance, or what passing it by has added up to */
    uint32_t root; /* which tree */
    uint32_t level, index;
} ki_waiting;

static inline int ki_waiting_before(const ki_waiting *a, const ki_waiting *b)
{
    if (a->cost != b->cost) return a->cost < b->cost;
    return a->root != b->root ? a->root < b->root : a->index < b->index;
}

/* heap[*n + 1]: room for one more. */
static inline void ki_waiting_push(ki_waiting *heap, size_t *n, ki_waiting node)
{
    size_t i = (*n)++;
    while (i > 0 && ki_waiting_before(&node, &heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = node;
}

/* *n > 0. */
static inline ki_waiting ki_waiting_pop(ki_waiting *heap, size_t *n)
{
    ki_waiting top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && ki_waiting_before(&heap[child + 1], &heap[child])) child++;
        if (!ki_waiting_before(&heap[child], &last)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

#endif
