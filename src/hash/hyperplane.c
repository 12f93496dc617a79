#include "hash/hyperplane.h"

#include <math.h>

#include "base/rng.h"

double ki_hyperplane_collision(double angle)
{
    return 1 - angle / 3.14159265358979323846;
}

void ki_hyperplane_draw(size_t count, size_t dim, uint64_t seed, float *directions)
{
    for (size_t i = 0; i < count; i++) {
        float *direction = directions + i * dim;
        ki_rng rng; /* a stream for each hyperplane: they do not depend on how many there are */
        ki_rng_init(&rng, seed, i);
        double norm2 = 0;
        while (!(norm2 > 0)) {
            norm2 = 0;
            for (size_t d = 0; d < dim; d++) {
                direction[d] = (float)ki_rng_gauss(&rng);
                norm2 += (double)direction[d] * (double)direction[d];
            }
        }
        for (size_t d = 0; d < dim; d++) direction[d] = (float)((double)direction[d] / sqrt(norm2));
    }
}

uint64_t ki_hyperplane_bucket(const float *margins, size_t k)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < k; i++) bits |= (uint64_t)(margins[i] > 0) << i;
    return bits;
}

uint64_t ki_hyperplane_moves(const float *margins, size_t k, ki_move *moves)
{
    uint64_t bits = ki_hyperplane_bucket(margins, k);
    for (size_t i = 0; i < k; i++) {
        uint64_t bit = (uint64_t)1 << i;
        float cost = margins[i] * margins[i];
        cost = cost >= 0 ? cost : 0; /* not a number where a product overflowed */
        size_t j = i;
        for (; j > 0 && moves[j - 1].cost > cost; j--) moves[j] = moves[j - 1];
        moves[j] = (ki_move){cost, bits & bit ? 0 - bit : bit}; /* turned by adding: each bit once at most */
    }
    return bits;
}
