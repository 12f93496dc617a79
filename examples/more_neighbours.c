/* more_neighbours.c - the nearest rows one by one, until the caller has seen enough. */
#include <inttypes.h>
#include <stdio.h>

#include <kith/iterate.h>

#define N 500

int main(void)
{
    static float x[N][2];
    for (size_t i = 0; i < N; i++) x[i][0] = (float)(i % 25), x[i][1] = (float)(i / 25);
    const float query[2] = {3.1f, 7.2f};

    kith_index *index = NULL;
    kith_iterator *iterator = NULL;
    kith_error err;
    if (kith_index_create("Flat", 2, NULL, &index, &err) ||
        kith_index_add(index, &x[0][0], NULL, N, NULL, &err) ||
        kith_iterator_create(index, query, NULL, &iterator, &err))
        return fprintf(stderr, "%s\n", err.message), 1;

    /* The three nearest rows whose number is odd: a condition that only this program knows. */
    size_t wanted = 3, seen = 0;
    while (wanted > 0) {
        uint64_t id;
        float distance;
        size_t n;
        if (kith_iterator_next(iterator, 1, &id, &distance, &n, &err))
            return fprintf(stderr, "%s\n", err.message), 1;
        if (n == 0) break; /* there are no more rows */
        seen++;
        if (id % 2 == 0) continue;
        printf("row %" PRIu64 " at squared distance %.2f\n", id, distance);
        wanted--;
    }
    printf("%zu rows were looked at\n", seen);
    kith_iterator_free(iterator);
    kith_index_free(index);
    return wanted == 0 && seen < 20 ? 0 : 1;
}
