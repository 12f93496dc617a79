#include "base/rng.h"

#include <math.h>

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void ki_rng_init(ki_rng *rng, uint64_t seed, uint64_t stream)
{
    uint64_t state = ki_mix64(seed + 0x9e3779b97f4a7c15u) ^ ki_mix64(~stream);
    for (int i = 0; i < 4; i++) {
        state += 0x9e3779b97f4a7c15u;
        rng->s[i] = ki_mix64(state);
    }
}

uint64_t ki_rng_u64(ki_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t ki_rng_below(ki_rng *rng, uint64_t n)
{
    unsigned __int128 product = (unsigned __int128)ki_rng_u64(rng) * n;
    uint64_t low = (uint64_t)product;
    if (low < n) {
        uint64_t floor = (0 - n) % n; /* the low words below this would make some results likelier */
        while (low < floor) {
            product = (unsigned __int128)ki_rng_u64(rng) * n;
            low = (uint64_t)product;
        }
    }
    return (uint64_t)(product >> 64);
}

double ki_rng_uniform(ki_rng *rng)
{
    return (double)(ki_rng_u64(rng) >> 11) * 0x1p-53;
}

double ki_rng_gauss(ki_rng *rng)
{
    for (;;) {
        double u = 2 * ki_rng_uniform(rng) - 1, v = 2 * ki_rng_uniform(rng) - 1;
        double r = u * u + v * v;
        if (r > 0 && r < 1) return u * sqrt(-2 * log(r) / r);
    }
}

void ki_rng_sample(ki_rng *rng, uint64_t n, uint64_t m, uint64_t *picked)
{
    uint64_t found = 0;
    for (uint64_t i = 0; found < m; i++)
        if (ki_rng_below(rng, n - i) < m - found) picked[found++] = i;
}
