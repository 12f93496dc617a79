/* first_search.c - the README's first program: rows in, nearest rows out. */
#include <stdio.h>

#include <kith/kith.h>

int main(void)
{
    const float rows[4][2] = {{0, 0}, {1, 0}, {0, 2}, {5, 5}};
    const float query[2] = {0.9f, 0.2f};
    kith_index *index = NULL;
    kith_searcher *searcher = NULL;
    kith_error err;
    uint64_t ids[2];
    float dist[2];
    if (kith_index_create("Flat", 2, NULL, &index, &err) != KITH_OK ||
        kith_index_add(index, &rows[0][0], NULL, 4, NULL, &err) != KITH_OK ||
        kith_searcher_create(index, &searcher, &err) != KITH_OK ||
        kith_search(searcher, query, 1, 2, NULL, ids, dist, NULL, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (int i = 0; i < 2; i++) printf("row %d at squared distance %g\n", (int)ids[i], (double)dist[i]);
    kith_searcher_free(searcher);
    kith_index_free(index);
    return ids[0] == 1 ? 0 : 1;
}
