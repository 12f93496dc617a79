/* checksum.h - XXH3-64 (Collet, xxHash 0.8), the checksum of every stored section and of content hashes. */
#ifndef KI_BASE_CHECKSUM_H
#define KI_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Of one block. */
uint64_t ki_checksum(const void *data, size_t size);

/* The same with a seed: chains blocks into one hash. */
uint64_t ki_checksum_seeded(const void *data, size_t size, uint64_t seed);

#endif
