/* hyperplane.h - sign random projections: on which side of random hyperplanes a vector lies.
 *
 * Paper: M. Charikar, "Similarity Estimation Techniques from Rounding Algorithms", STOC 2002, section 3 (after Goemans and
 * Williamson): two vectors at the angle theta lie on the same side of a random hyperplane through the origin with
 * probability 1 - theta / pi.
 *
 * K sides, a bit each, name a bucket. The nearer a vector lies to a hyperplane (its margin), the likelier its
 * neighbours lie on the other side: that is what hash/probes.h goes by. */
#ifndef KI_HASH_HYPERPLANE_H
#define KI_HASH_HYPERPLANE_H

#include "hash/probes.h"

#define KI_HYPERPLANE_MAX_K KI_PROBE_MOVES

/* The chance that vectors at an angle (radians, 0..pi) agree in one bit. */
double ki_hyperplane_collision(double angle);

/* Draw the normals of `count` hyperplanes, uniform on the unit sphere: directions[count][dim]. */
void ki_hyperplane_draw(size_t count, size_t dim, uint64_t seed, float *directions);

/* The bucket of margins[k], the products of a vector with the normals: bit i is set where margin i is above 0. */
uint64_t ki_hyperplane_bucket(const float *margins, size_t k);

/* The same, and the k moves to the buckets beside it by rising cost, the square of the margin. k <= KI_HYPERPLANE_MAX_K. */
uint64_t ki_hyperplane_moves(const float *margins, size_t k, ki_move *moves);

#endif
