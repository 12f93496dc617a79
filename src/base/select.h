/* select.h - the k nearest of many, when all of them are at hand: linear-time selection on packed keys.
 *
 * A key is a distance and a 32-bit number in one integer whose order is (distance, number): selecting and sorting are then
 * exact about ties without looking at them. Against the heap of base/topk.h: the heap when most candidates are
 * turned away at the door, selection when many enter (nprobe of some thousand cells). */
#ifndef KI_BASE_SELECT_H
#define KI_BASE_SELECT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* dist is not NaN; -0 counts as 0. */
static inline uint64_t ki_key(float dist, uint32_t number)
{
    uint32_t bits;
    dist += 0.0f; /* -0 to 0 */
    memcpy(&bits, &dist, sizeof bits);
    bits ^= bits >> 31 ? UINT32_MAX
                       : UINT32_C(1) << 31; /* negative: all bits turned, so that order is that of integers */
    return (uint64_t)bits << 32 | number;
}

static inline float ki_key_dist(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    float dist;
    bits ^= bits >> 31 ? UINT32_C(1) << 31 : UINT32_MAX;
    memcpy(&dist, &bits, sizeof dist);
    return dist;
}

static inline uint32_t ki_key_number(uint64_t key)
{
    return (uint32_t)key;
}

/* Move the k least of keys[n] to the front, in no order; k <= n. Expected time linear in n for any input. */
void ki_keys_select(uint64_t *keys, size_t n, size_t k);

/* Sort ascending. Expected time n log n for any input; no memory. */
void ki_keys_sort(uint64_t *keys, size_t n);

#endif
