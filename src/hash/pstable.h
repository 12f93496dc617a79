/* pstable.h - hash functions of p-stable distributions for L2 and L1.
 *
 * Paper: M. Datar, N. Immorlica, P. Indyk, V. Mirrokni, "Locality-Sensitive Hashing Scheme Based on p-Stable
 * Distributions", SoCG 2004. h(v) = floor((a . v + b) / w), with b uniform in [0, w) and the components of a drawn from the
 * normal distribution for L2, from Cauchy's for L1. a . x - a . y is then distributed as |x - y| times one such draw, so two
 * vectors agree in h the more likely the nearer they are; section 3.2 of the paper gives the probability in closed form.
 *
 * K values of h name a bucket: each has a multiplier of its own, and the sum over the values times their multipliers, modulo
 * 2^64, is the bucket's name. A value that goes up or down by one adds or subtracts its multiplier, so the buckets around
 * one are named without hashing again (hash/probes.h). */
#ifndef KI_HASH_PSTABLE_H
#define KI_HASH_PSTABLE_H

#include <kith/metric.h>

#include "hash/probes.h"

#define KI_PSTABLE_MAX_K (KI_PROBE_MOVES / 2)

/* The chance that vectors at a distance (not squared; L1's for Cauchy) agree in one hash value. 1 at distance 0.
 * l2:  1 - 2 Phi(-r) - 2 / (sqrt(2 pi) r) (1 - exp(-r^2 / 2)),        r = w / distance
 * l1:  2 atan(r) / pi - ln(1 + r^2) / (pi r) */
double ki_pstable_collision_l2(double distance, double w);
double ki_pstable_collision_l1(double distance, double w);

/* Draw `count` functions. metric KITH_L1: Cauchy, else normal.
 * Out:      directions[count][dim]; offsets[count], b / w, in [0, 1). Cauchy's draws are cut off at 2^20 on both sides (one
 *           in 1.6 million), for a float32 sum would lose all else beside a larger one. */
void ki_pstable_draw(kith_metric metric, size_t count, size_t dim, uint64_t seed, float *directions,
                     float *offsets);

/* The place of a vector under a function is a . v / w + b / w; its whole part is the hash value. Places beyond 2^30 (or not
 * numbers) count as at that border. */

/* The multiplier of function i of all. */
uint64_t ki_pstable_multiplier(size_t i);

/* The name of the bucket of table t, from the places[k] under its functions. */
uint64_t ki_pstable_bucket(const float *places, size_t t, size_t k);

/* The same, and the 2 k moves to the buckets beside it by rising cost: z^2, z the distance to the border that is crossed in
 * units of w; move j and move 2 k - 1 - j are the two directions of one value. k <= KI_PSTABLE_MAX_K. */
uint64_t ki_pstable_moves(const float *places, size_t t, size_t k, ki_move *moves);

#endif
