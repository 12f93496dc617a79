/* Estimated distances of a quantized graph: plain loops, the reference. */
#include <string.h>

#include "simd/levels.h"

static unsigned sum_of(const ki_qg_query *q, const uint8_t *codes, size_t j)
{
    unsigned sum = 0;
    for (size_t t = 0; t < q->steps; t++) {
        const uint8_t *table = q->table + t * KI_QG_STEP_TABLE;
        for (size_t lane = 0; lane < 4; lane++) {
            unsigned byte = codes[t * KI_QG_STEP_BYTES + lane * 16 + j];
            sum += (unsigned)table[lane * 16 + (byte & 15)] + table[64 + lane * 16 + (byte >> 4)];
        }
    }
    return sum;
}

static size_t near(const ki_qg_query *q, const uint8_t *codes, const uint16_t *add, const uint16_t *mul,
                   size_t blocks, float base, float limit, float *dist, uint32_t *place)
{
    size_t n = 0;
    for (size_t i = 0; i < blocks * KI_QG_BLOCK; i++) {
        const uint8_t *block = codes + i / KI_QG_BLOCK * q->steps * KI_QG_STEP_BYTES;
        float along = q->bias + q->scale * (float)sum_of(q, block, i % KI_QG_BLOCK);
        float value = base + q->unit * (ki_f16_decode(add[i]) + ki_f16_decode(mul[i]) * along);
        dist[n] = value;
        place[n] = (uint32_t)i;
        n += value < limit;
    }
    return n;
}

/* How many of the pool are no farther: halves while it is large, then all are compared side by side. */
static size_t rank(const float *pool, size_t n, float dist)
{
    size_t first = 0, before = 0;
    while (n > 32) {
        size_t half = n / 2;
        first += half * (size_t)(pool[first + half - 1] <= dist);
        n -= half;
    }
    for (size_t i = 0; i < n; i++) before += pool[first + i] <= dist;
    return first + before;
}

static size_t merge(float *dist, uint32_t *node, size_t *n, size_t limit, const float *new_dist,
                    const uint32_t *new_node, size_t m)
{
    float d[KI_QG_MERGED];
    uint32_t number[KI_QG_MERGED];
    size_t place[KI_QG_MERGED];
    for (size_t i = 0; i < m; i++) {
        size_t j = i;
        for (; j > 0 && d[j - 1] > new_dist[i]; j--) {
            d[j] = d[j - 1];
            number[j] = number[j - 1];
        }
        d[j] = new_dist[i];
        number[j] = new_node[i];
    }
    for (size_t i = 0; i < m; i++) place[i] = rank(dist, *n, d[i]);
    while (m > 0 && place[m - 1] + m > limit) m--;
    if (m == 0) return *n;
    size_t end = *n + m > limit ? limit - m : *n; /* old ones from here on are lost */
    *n = end + m;
    for (size_t i = m; i-- > 0;) {
        size_t moved = place[i] < end ? end - place[i] : 0;
        memmove(dist + place[i] + i + 1, dist + place[i], moved * sizeof *dist);
        memmove(node + place[i] + i + 1, node + place[i], moved * sizeof *node);
        dist[place[i] + i] = d[i];
        node[place[i] + i] = number[i];
        if (place[i] < end) end = place[i];
    }
    return place[0];
}

void ki_simd_qg_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->qg_near = near;
    table->qg_merge = merge;
}
