/* checksum.h - XXH3-64 (Collet, xxHash 0.8), the checksum of every stored section and of content hashes. */
#ifndef KI_BASE_CHECKSUM_H
#define KI_BASE_CHECKSUM_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

/* Of one block. */
uint64_t ki_checksum(const void *data, size_t size);

/* The same with a seed: chains blocks into one hash. */
uint64_t ki_checksum_seeded(const void *data, size_t size, uint64_t seed);

/* The checksum of bytes that come in pieces: the same number as ki_checksum() of all of them together. */
typedef struct ki_hasher {
    alignas(64) unsigned char state[576]; /* an XXH3_state_t */
} ki_hasher;

void ki_hasher_init(ki_hasher *hasher);
void ki_hasher_add(ki_hasher *hasher, const void *data, size_t size);
uint64_t ki_hasher_value(const ki_hasher *hasher); /* of the bytes so far */

#endif
