/* filter_search.c - search only among some rows: by a bitset over ids, and by a function. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/filter.h>
#include <kith/index.h>

#define N 1000
#define DIM 8
#define K 5

static int multiple_of_seven(void *ctx, uint64_t id)
{
    (void)ctx;
    return id % 7 == 0;
}

int main(void)
{
    static float x[N][DIM];
    for (size_t i = 0; i < N; i++)
        for (size_t d = 0; d < DIM; d++) x[i][d] = (float)rand() / (float)RAND_MAX;

    kith_error err;
    kith_index *index = NULL;
    kith_searcher *searcher = NULL;
    if (kith_index_create("Flat", DIM, NULL, &index, &err) != KITH_OK ||
        kith_index_add(index, &x[0][0], NULL, N, NULL, &err) != KITH_OK ||
        kith_searcher_create(index, &searcher, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        kith_index_free(index);
        return 1;
    }

    /* Both at once: a row must be in the first half and a multiple of seven. */
    uint64_t bits[(N + 63) / 64];
    memset(bits, 0, sizeof bits);
    for (size_t id = 0; id < N / 2; id++) bits[id / 64] |= (uint64_t)1 << (id % 64);
    kith_filter filter;
    kith_filter_init(&filter);
    filter.bits = bits;
    filter.n_bits = N;
    filter.allow = multiple_of_seven;

    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = &filter;
    uint64_t ids[K];
    float dist[K];
    kith_search_stats stats;
    int bad = kith_search(searcher, &x[0][0], 1, K, &options, ids, dist, &stats, &err) != KITH_OK;
    if (bad) fprintf(stderr, "%s\n", err.message);
    for (int i = 0; i < K && !bad; i++) {
        printf("row %" PRIu64 " at squared distance %.4f\n", ids[i], dist[i]);
        bad = ids[i] % 7 != 0 || ids[i] >= N / 2;
    }
    if (!bad) printf("%" PRIu64 " of %d rows were compared\n", stats.scored, N);
    kith_searcher_free(searcher);
    kith_index_free(index);
    return bad;
}
