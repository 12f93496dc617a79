/* ask_for_recall.c - calibrate an index once, then ask for a recall instead of for its parameters. */
#include <stdio.h>
#include <stdlib.h>

#include <kith/tune.h>

enum { N = 20000, NQ = 400, DIM = 16, K = 10 };

static void check(kith_status status, const kith_error *err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

int main(void)
{
    static float rows[N * DIM], queries[NQ * DIM];
    kith_error err;
    kith_index *index;
    kith_searcher *searcher;
    srand(1);
    for (size_t i = 0; i < N * DIM; i++) rows[i] = (float)rand() / (float)RAND_MAX;
    for (size_t i = 0; i < NQ * DIM; i++) queries[i] = (float)rand() / (float)RAND_MAX;
    check(kith_index_create("IVF128,Flat", DIM, NULL, &index, &err), &err);
    check(kith_index_train(index, rows, N, NULL, &err), &err);
    check(kith_index_add(index, rows, NULL, N, NULL, &err), &err);

    /* The queries to learn from should be like those to come. The curve is saved with the index. */
    check(kith_index_calibrate(index, queries, NQ - 1, NULL, NULL, &err), &err);

    kith_setting wanted = {"target_recall", 0.95};
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = &wanted;
    options.n_settings = 1;
    uint64_t ids[K];
    float dist[K];
    kith_search_stats stats;
    check(kith_searcher_create(index, &searcher, &err), &err);
    check(kith_search(searcher, queries + (NQ - 1) * DIM, 1, K, &options, ids, dist, &stats, &err), &err);
    printf("nearest: row %llu at %g, %llu of %d rows compared\n", (unsigned long long)ids[0], (double)dist[0],
           (unsigned long long)stats.scored, N);
    kith_searcher_free(searcher);
    kith_index_free(index);
    return 0;
}
