/* A program outside the tree: C17 and C++17 alike. */
#include <stdio.h>
#include <stdlib.h>

#include <kith/index.h>
#include <kith/version.h>

#define N 100
#define DIM 8

int main(void)
{
    static float x[N * DIM];
    uint64_t id = 0;
    float distance = 1;
    kith_index *index = NULL;
    kith_searcher *searcher = NULL;
    kith_error err;
    for (int i = 0; i < N * DIM; i++) x[i] = (float)((i * 7919) % 1009);
    if (kith_index_create("Flat", DIM, NULL, &index, &err) != KITH_OK ||
        kith_index_add(index, x, NULL, N, NULL, &err) != KITH_OK ||
        kith_searcher_create(index, &searcher, &err) != KITH_OK ||
        kith_search(searcher, x + 42 * DIM, 1, 1, NULL, &id, &distance, NULL, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    if (distance == 0) printf("kith %s: row %d is its own nearest\n", kith_version(), (int)id);
    kith_searcher_free(searcher);
    kith_index_free(index);
    return 0;
}
