#include "index/keys.h"

/* Below this length insertion is faster than another partition. */
#define SMALL 24

static void insertion_sort(uint64_t *keys, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        uint64_t key = keys[i];
        size_t j = i;
        for (; j > 0 && keys[j - 1] > key; j--) keys[j] = keys[j - 1];
        keys[j] = key;
    }
}

static uint64_t median(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* Move the keys below the pivot to the front; how many they are. Without a branch on the keys: their order is as good as
 * random, and a branch would be guessed wrong every other time. */
static size_t partition(uint64_t *keys, size_t n, uint64_t pivot)
{
    size_t below = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = keys[i];
        keys[i] = keys[below];
        keys[below] = key;
        below += key < pivot;
    }
    return below;
}

/* A pivot from three places. Keys are distinct, so at least one is below it when n > 2, and it is not itself. */
static uint64_t pivot_of(const uint64_t *keys, size_t n)
{
    return median(keys[n / 4], keys[n / 2], keys[n - 1 - n / 4]);
}

void ki_keys_select(uint64_t *keys, size_t n, size_t count)
{
    while (n > SMALL) {
        size_t below = partition(keys, n, pivot_of(keys, n));
        if (below >= count) {
            n = below;
        } else {
            keys += below;
            n -= below;
            count -= below;
        }
    }
    if (count < n) insertion_sort(keys, n);
}

void ki_keys_sort(uint64_t *keys, size_t n)
{
    while (n > SMALL) {
        size_t below = partition(keys, n, pivot_of(keys, n));
        if (below < n - below) { /* the shorter side by recursion: depth is at most log2 n */
            ki_keys_sort(keys, below);
            keys += below;
            n -= below;
        } else {
            ki_keys_sort(keys + below, n - below);
            n = below;
        }
    }
    insertion_sort(keys, n);
}
