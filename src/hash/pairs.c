#include "hash/pairs.h"

#include "base/error.h"
#include "base/memory.h"

#include <string.h>

void ki_pair_list_add(ki_pair_list *list, const kith_allocator *allocator, size_t a, size_t b,
                      double similarity)
{
    if (list->n == list->room) {
        size_t room = ki_grown(list->room, list->n + 1);
        kith_pair *grown =
            list->failed ? NULL : ki_realloc(allocator, list->items, list->n, room, sizeof *grown);
        if (!grown) {
            list->failed = 1;
            return;
        }
        list->items = grown;
        list->room = room;
    }
    list->items[list->n++] = a < b ? (kith_pair){(uint32_t)a, (uint32_t)b, similarity}
                                   : (kith_pair){(uint32_t)b, (uint32_t)a, similarity};
}

static uint64_t order_of(const kith_pair *pair)
{
    return (uint64_t)pair->a << 32 | pair->b;
}

/* Heapsort: in place, without the memory that qsort may ask the C library for. */
static void sift(kith_pair *pairs, size_t at, size_t n)
{
    kith_pair moved = pairs[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && order_of(&pairs[child]) < order_of(&pairs[child + 1])) child++;
        if (order_of(&moved) >= order_of(&pairs[child])) break;
        pairs[at] = pairs[child];
    }
    pairs[at] = moved;
}

static void sort_pairs(kith_pair *pairs, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) sift(pairs, i, n);
    while (n > 1) {
        kith_pair last = pairs[--n];
        pairs[n] = pairs[0];
        pairs[0] = last;
        sift(pairs, 0, n);
    }
}

kith_status ki_pair_lists_merge(ki_pair_list *lists, size_t n, kith_status status,
                                const kith_allocator *allocator, kith_pairs *pairs, kith_error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        total += lists[i].n;
        if (status == KITH_OK && lists[i].failed)
            status = ki_fail_nomem(err, (lists[i].n + 1) * sizeof(kith_pair));
    }
    *pairs = (kith_pairs){.allocator = allocator};
    if (status == KITH_OK && total) {
        pairs->items = ki_alloc(allocator, total, sizeof *pairs->items);
        if (!pairs->items) status = ki_fail_nomem(err, total * sizeof *pairs->items);
    }
    for (size_t i = 0; i < n; i++) {
        if (status == KITH_OK && lists[i].n) {
            memcpy(pairs->items + pairs->n, lists[i].items, lists[i].n * sizeof *pairs->items);
            pairs->n += lists[i].n;
        }
        ki_free(allocator, lists[i].items);
        lists[i] = (ki_pair_list){0};
    }
    if (status == KITH_OK) sort_pairs(pairs->items, pairs->n);
    return status;
}

void kith_pairs_clear(kith_pairs *pairs)
{
    if (!pairs) return;
    ki_free(pairs->allocator, pairs->items);
    *pairs = (kith_pairs){0};
}

static uint32_t root_of(uint32_t *parent, uint32_t row)
{
    while (parent[row] != row) row = parent[row] = parent[parent[row]];
    return row;
}

void kith_pairs_groups(const kith_pairs *pairs, size_t n, uint32_t *group)
{
    for (size_t i = 0; i < n; i++) group[i] = (uint32_t)i;
    for (size_t i = 0; i < pairs->n; i++) {
        uint32_t a = root_of(group, pairs->items[i].a), b = root_of(group, pairs->items[i].b);
        if (a < b) group[b] = a; /* the lowest row stays the root */
        if (b < a) group[a] = b;
    }
    for (size_t i = 0; i < n; i++) group[i] = root_of(group, (uint32_t)i);
}
