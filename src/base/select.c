/* select.c - quickselect and quicksort (Hoare, Algorithms 63-65, 1961) on integers.
 *
 * The partition has no branch that depends on the data: each key is written to both places it may belong to. Pivots are
 * picked by a hash of the range, so that no order of the input is a bad one by construction, and the same input
 * always takes the same steps. */
#include "base/select.h"

#include "base/rng.h"

#define SMALL 24 /* below, insertion sort; arbitrary between 16 and 32 */

static uint64_t pick_pivot(const uint64_t *keys, size_t n)
{
    uint64_t random = ki_mix64(n + keys[n / 2]);
    uint64_t a = keys[(random & 0xffff) * n >> 16], b = keys[n / 2],
             c = keys[(random >> 16 & 0xffff) * n >> 16];
    uint64_t low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* Keys less than the pivot to the front; returns how many. */
static size_t partition(uint64_t *keys, size_t n, uint64_t pivot)
{
    size_t less = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = keys[i];
        keys[i] = keys[less];
        keys[less] = key;
        less += key < pivot;
    }
    return less;
}

static void insertion_sort(uint64_t *keys, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        uint64_t key = keys[i];
        size_t j = i;
        for (; j > 0 && keys[j - 1] > key; j--) keys[j] = keys[j - 1];
        keys[j] = key;
    }
}

/* Split a range in two that are both shorter: less than the pivot and not, where one of them may be all copies of it.
 * Returns the length of the first; 0 when all keys are equal. */
static size_t split(uint64_t *keys, size_t n)
{
    uint64_t pivot = pick_pivot(keys, n);
    size_t less = partition(keys, n, pivot);
    /* The pivot was the least: take it and its copies for the first part. No key is beyond UINT64_MAX. */
    if (less == 0 && pivot < UINT64_MAX) less = partition(keys, n, pivot + 1);
    return less < n ? less : 0;
}

void ki_keys_select(uint64_t *keys, size_t n, size_t k)
{
    while (k > 0 && k < n) {
        if (n <= SMALL) {
            insertion_sort(keys, n);
            return;
        }
        size_t less = split(keys, n);
        if (less == 0) return;
        if (less > k) {
            n = less;
        } else {
            keys += less;
            n -= less;
            k -= less;
        }
    }
}

void ki_keys_sort(uint64_t *keys, size_t n)
{
    while (n > SMALL) {
        size_t less = split(keys, n);
        if (less == 0) return;
        /* Recurse into the shorter part: the depth stays below log2(n). */
        if (less < n - less) {
            ki_keys_sort(keys, less);
            keys += less;
            n -= less;
        } else {
            ki_keys_sort(keys + less, n - less);
            n = less;
        }
    }
    insertion_sort(keys, n);
}
