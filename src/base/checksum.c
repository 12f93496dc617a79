#include "base/checksum.h"

#include <assert.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static_assert(sizeof(XXH3_state_t) <= sizeof(ki_hasher), "an XXH3 state fits a ki_hasher");
static_assert(alignof(XXH3_state_t) <= alignof(ki_hasher), "a ki_hasher is aligned as an XXH3 state");

uint64_t ki_checksum(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

uint64_t ki_checksum_seeded(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

void ki_hasher_init(ki_hasher *hasher)
{
    XXH3_state_t *state = (XXH3_state_t *)hasher->state;
    XXH3_INITSTATE(state);
    (void)XXH3_64bits_reset(state);
}

void ki_hasher_add(ki_hasher *hasher, const void *data, size_t size)
{
    if (size > 0) (void)XXH3_64bits_update((XXH3_state_t *)hasher->state, data, size);
}

uint64_t ki_hasher_value(const ki_hasher *hasher)
{
    return XXH3_64bits_digest((const XXH3_state_t *)hasher->state);
}
