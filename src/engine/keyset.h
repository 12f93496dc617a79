/* keyset.h - a set of row keys: a hash table with open addressing. */
#ifndef KI_ENGINE_KEYSET_H
#define KI_ENGINE_KEYSET_H

#include <kith/status.h>

#include "base/memory.h"
#include "base/rng.h"

typedef struct ki_keyset {
    int64_t *slots; /* [capacity]; 0, which is no key, marks an empty one */
    size_t capacity, n;
} ki_keyset;

/* Add a key (>= 1); adding it twice is as adding it once. KITH_NOMEM leaves the set as it was. */
kith_status ki_keyset_add(ki_keyset *set, int64_t key, const kith_allocator *allocator, kith_error *err);

void ki_keyset_clear(ki_keyset *set, const kith_allocator *allocator);

static inline int ki_keyset_has(const ki_keyset *set, int64_t key)
{
    if (set->n == 0) return 0;
    for (size_t i = (size_t)ki_mix64((uint64_t)key) & (set->capacity - 1);;
         i = (i + 1) & (set->capacity - 1)) {
        if (set->slots[i] == key) return 1;
        if (set->slots[i] == 0) return 0;
    }
}

#endif
