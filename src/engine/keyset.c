/* keyset.c - a set of row keys. The table is at most half full, so a search ends after one or two steps. */
#include "engine/keyset.h"

#include "base/error.h"

static void place(ki_keyset *set, int64_t key)
{
    size_t i = (size_t)ki_mix64((uint64_t)key) & (set->capacity - 1);
    while (set->slots[i] != 0 && set->slots[i] != key) i = (i + 1) & (set->capacity - 1);
    set->n += set->slots[i] == 0;
    set->slots[i] = key;
}

kith_status ki_keyset_add(ki_keyset *set, int64_t key, const kith_allocator *allocator, kith_error *err)
{
    if (2 * (set->n + 1) > set->capacity) {
        ki_keyset grown = {.capacity = set->capacity ? 2 * set->capacity : 64};
        grown.slots = ki_alloc_zero(allocator, grown.capacity, sizeof *grown.slots);
        if (!grown.slots) return ki_fail_nomem(err, grown.capacity * sizeof *grown.slots);
        for (size_t i = 0; i < set->capacity; i++)
            if (set->slots[i] != 0) place(&grown, set->slots[i]);
        ki_keyset_clear(set, allocator);
        *set = grown;
    }
    place(set, key);
    return KITH_OK;
}

void ki_keyset_clear(ki_keyset *set, const kith_allocator *allocator)
{
    ki_free(allocator, set->slots);
    *set = (ki_keyset){0};
}
