/* bitset.h - bits over words of 64, caller's memory. */
#ifndef KI_BASE_BITSET_H
#define KI_BASE_BITSET_H

#include <stddef.h>
#include <stdint.h>

static inline size_t ki_bits_words(size_t bits)
{
    return bits / 64 + (bits % 64 != 0);
}
static inline int ki_bits_get(const uint64_t *words, size_t i)
{
    return (int)(words[i / 64] >> (i % 64) & 1);
}
static inline void ki_bits_set(uint64_t *words, size_t i)
{
    words[i / 64] |= (uint64_t)1 << (i % 64);
}
static inline void ki_bits_clear(uint64_t *words, size_t i)
{
    words[i / 64] &= ~((uint64_t)1 << (i % 64));
}

/* How many of the first `bits` bits are set. */
static inline size_t ki_bits_count(const uint64_t *words, size_t bits)
{
    size_t count = 0;
    for (size_t w = 0; w < bits / 64; w++) count += (size_t)__builtin_popcountll(words[w]);
    if (bits % 64)
        count += (size_t)__builtin_popcountll(words[bits / 64] & (((uint64_t)1 << (bits % 64)) - 1));
    return count;
}

#endif
