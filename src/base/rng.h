/* rng.h - reproducible random numbers: xoshiro256** (Blackman & Vigna, "Scrambled linear pseudorandom number
 * generators", 2021), seeded by splitmix64 (Steele, Lea & Flood 2014). The same seed gives the same numbers
 * on every machine. Not for secrets. */
#ifndef KI_BASE_RNG_H
#define KI_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct ki_rng {
    uint64_t s[4];
} ki_rng;

/* Start the stream `stream` of a seed. Streams of one seed are independent for all practical purposes:
 * parallel work takes one stream a block, so that the numbers do not depend on the number of threads. */
void ki_rng_init(ki_rng *rng, uint64_t seed, uint64_t stream);

uint64_t ki_rng_u64(ki_rng *rng);

/* Uniform in [0, n), without bias (Lemire 2019). n >= 1. */
uint64_t ki_rng_below(ki_rng *rng, uint64_t n);

/* Uniform in [0, 1), 53 bits. */
double ki_rng_uniform(ki_rng *rng);

/* Standard normal (Marsaglia's polar method). */
double ki_rng_gauss(ki_rng *rng);

/* A uniform sample without replacement of m of the numbers 0..n-1, ascending, into picked[m]. m <= n.
 * Vitter's selection sampling: O(n), no memory. */
void ki_rng_sample(ki_rng *rng, uint64_t n, uint64_t m, uint64_t *picked);

/* Mix 64 bits well (the finaliser of splitmix64): for hash tables and derived seeds. */
static inline uint64_t ki_mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

#endif
