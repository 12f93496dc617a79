/* pairs.h - pairs found by blocks of parallel work, put together in one order. */
#ifndef KI_HASH_PAIRS_H
#define KI_HASH_PAIRS_H

#include <kith/sets.h>

/* What one block found. */
typedef struct ki_pair_list {
    kith_pair *items;
    size_t n, room;
    int failed; /* there was no memory for a pair */
} ki_pair_list;

void ki_pair_list_add(ki_pair_list *list, const kith_allocator *allocator, size_t a, size_t b,
                      double similarity);

/* All pairs of lists[n] into *pairs, sorted by (a, b). The lists are freed, on failure, too. status: of the work that
 * filled them; anything but KITH_OK is handed on. */
kith_status ki_pair_lists_merge(ki_pair_list *lists, size_t n, kith_status status,
                                const kith_allocator *allocator, kith_pairs *pairs, kith_error *err);

#endif
