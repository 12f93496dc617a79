/* keys.h - the nearest of many numbered things by their distances, faster than a heap where hundreds are wanted:
 * distance and number are put into one 64-bit key whose order is that of (distance, number). */
#ifndef KI_INDEX_KEYS_H
#define KI_INDEX_KEYS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The key of (distance, number); the order of floats is made that of unsigned numbers. Not for NaN. */
static inline uint64_t ki_key(float distance, uint32_t number)
{
    uint32_t bits;
    distance += 0.0f; /* -0 and 0 are one distance */
    memcpy(&bits, &distance, sizeof bits);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)bits << 32 | number;
}
static inline uint32_t ki_key_number(uint64_t key)
{
    return (uint32_t)key;
}
static inline float ki_key_distance(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    float distance;
    bits = bits >> 31 ? bits & 0x7fffffffu : ~bits;
    memcpy(&distance, &bits, sizeof distance);
    return distance;
}

/* Reorder keys[n] so that the `count` smallest (count <= n, all keys distinct) come first, in any order. Expected O(n). */
void ki_keys_select(uint64_t *keys, size_t n, size_t count);

/* Ascending. Expected O(n log n). */
void ki_keys_sort(uint64_t *keys, size_t n);

#endif
