#include "hash/pstable.h"

#include <math.h>

#include "base/rng.h"

#define PI 3.14159265358979323846

double ki_pstable_collision_l2(double distance, double w)
{
    if (distance <= 0) return 1;
    double r = w / distance;
    return 1 - erfc(r / sqrt(2)) - 2 / (sqrt(2 * PI) * r) * -expm1(-r * r / 2);
}

double ki_pstable_collision_l1(double distance, double w)
{
    if (distance <= 0) return 1;
    double r = w / distance;
    return 2 * atan(r) / PI - log1p(r * r) / (PI * r);
}

void ki_pstable_draw(kith_metric metric, size_t count, size_t dim, uint64_t seed, float *directions,
                     float *offsets)
{
    for (size_t i = 0; i < count; i++) {
        ki_rng rng; /* a stream for each function: they do not depend on how many there are */
        ki_rng_init(&rng, seed, i);
        offsets[i] = (float)(ki_rng_u64(&rng) >> 40) * 0x1p-24f;
        for (size_t d = 0; d < dim; d++) {
            double a = ki_rng_gauss(&rng);
            if (metric == KITH_L1) {
                a = tan(PI * (ki_rng_uniform(&rng) - 0.5));
                a = a < -0x1p20 ? -0x1p20 : a > 0x1p20 ? 0x1p20 : a;
            }
            directions[i * dim + d] = (float)a;
        }
    }
}

uint64_t ki_pstable_multiplier(size_t i)
{
    return ki_mix64((i + 1) * 0x9e3779b97f4a7c15u) | 1;
}

/* The whole part of a place. */
static double value_of(float place)
{
    return floor(place > -0x1p30f ? place < 0x1p30f ? (double)place : 0x1p30 : -0x1p30);
}

uint64_t ki_pstable_bucket(const float *places, size_t t, size_t k)
{
    uint64_t name = 0;
    for (size_t i = 0; i < k; i++)
        name += (uint64_t)(int64_t)value_of(places[i]) * ki_pstable_multiplier(t * k + i);
    return name;
}

uint64_t ki_pstable_moves(const float *places, size_t t, size_t k, ki_move *moves)
{
    uint64_t name = 0;
    for (size_t i = 0; i < k; i++) {
        double value = value_of(places[i]);
        uint64_t multiplier = ki_pstable_multiplier(t * k + i);
        double below = (double)places[i] - value; /* to the border of the value below */
        below = below > 0 ? below < 1 ? below : 1 : 0;
        int down = below < 0.5;
        float near = (float)(down ? below : 1 - below);
        uint64_t delta = down ? 0 - multiplier : multiplier;
        name += (uint64_t)(int64_t)value * multiplier;
        size_t j = i; /* insert by the nearer border; the farther ones are in the opposite order */
        for (; j > 0 && moves[j - 1].cost > near; j--) moves[j] = moves[j - 1];
        moves[j] = (ki_move){near, delta};
    }
    for (size_t j = 0; j < k; j++) {
        float far = 1 - moves[j].cost;
        moves[2 * k - 1 - j] = (ki_move){far * far, 0 - moves[j].delta};
        moves[j].cost *= moves[j].cost;
    }
    return name;
}
