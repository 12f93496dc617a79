/* search_index.c - make an index, add rows, search, save, map the file and search again. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <kith/index.h>

#define N 2000
#define DIM 16
#define K 3

static kith_error err;

static int failed(kith_status status)
{
    if (status != KITH_OK) fprintf(stderr, "%s: %s\n", kith_status_name(status), err.message);
    return status != KITH_OK;
}

static int show(const kith_index *index, const float *query)
{
    kith_searcher *searcher;
    if (failed(kith_searcher_create(index, &searcher, &err))) return 1;
    uint64_t ids[K];
    float dist[K];
    int bad = failed(kith_search(searcher, query, 1, K, NULL, ids, dist, NULL, &err));
    for (int i = 0; i < K && !bad; i++)
        printf("  row %" PRIu64 " at squared distance %.4f\n", ids[i], dist[i]);
    kith_searcher_free(searcher);
    return bad || ids[0] != 42; /* the query below is a little off row 42 */
}

int main(void)
{
    static float x[N][DIM];
    for (size_t i = 0; i < N; i++)
        for (size_t d = 0; d < DIM; d++) x[i][d] = (float)rand() / (float)RAND_MAX;
    float query[DIM];
    for (size_t d = 0; d < DIM; d++) query[d] = x[42][d] + 0.01f;

    const char *path = "example_search.kidx";
    kith_index *index = NULL, *mapped = NULL;
    int bad = failed(kith_index_create("Flat", DIM, NULL, &index, &err)) ||
              failed(kith_index_train(index, &x[0][0], N, NULL, &err)) || /* Flat has nothing to learn */
              failed(kith_index_add(index, &x[0][0], NULL, N, NULL, &err));
    if (!bad) printf("in memory:\n");
    bad = bad || show(index, query) || failed(kith_index_save(index, path, NULL, &err)) ||
          failed(kith_index_open(path, KITH_OPEN_MAP, NULL, NULL, &mapped, &err));
    if (!bad) printf("mapped from %s:\n", path);
    bad = bad || show(mapped, query);
    kith_index_free(mapped);
    kith_index_free(index);
    remove(path);
    return bad;
}
