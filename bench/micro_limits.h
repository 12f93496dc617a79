/* micro_limits.h - what the machine can do at most: the yardsticks of micro.c. */
#ifndef KITH_BENCH_MICRO_LIMITS_H
#define KITH_BENCH_MICRO_LIMITS_H

#include <kith/simd.h>

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* The clock of all measurements: processor time of this thread, nanoseconds. Others on the machine then cost only what they
 * take of caches, memory and shared cores, not the time in which they run instead of us. */
static inline uint64_t micro_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Fused multiply-adds on registers alone, at a level: 10^9 floating-point operations a second (two for each). About a
 * millisecond of work. */
double limit_fma(kith_simd level);

/* Reads of `bytes` at p, in order, by the widest loads of the machine: 10^9 bytes a second over one pass. */
double limit_read(const void *p, size_t bytes);

/* Dependent loads along a random cycle through `bytes`: nanoseconds each. next[] is filled by limit_chain(). */
void limit_chain(size_t *next, size_t bytes);
double limit_latency(const size_t *next, size_t steps);

/* Independent loads of floats by precomputed numbers from a 16 KiB table, summed: 10^9 a second. What a product
 * quantiser's scan could reach if its codes cost nothing. */
double limit_lookup(void);

/* Look-ups of bytes in tables of 16 by one instruction (pshufb, tbl), operands in registers: 10^9 a second. What a scan of
 * 4-bit codes could reach if taking codes apart and adding cost nothing. The level's widest; scalar: limit_lookup(). */
double limit_shuffle(kith_simd level);

#endif
