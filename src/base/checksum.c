#include "base/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t ki_checksum(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

uint64_t ki_checksum_seeded(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}
