/* threads_and_progress.c - a long operation with two threads, a progress line and a way to stop it. */
#include <stdio.h>
#include <stdlib.h>

#include <kith/kmeans.h>
#include <kith/run.h>

static void show(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    int *calls = (int *)ctx;
    ++*calls;
    printf("%s: %llu of %llu\n", stage, (unsigned long long)done, (unsigned long long)total);
}

int main(void)
{
    enum { N = 5000, DIM = 8, K = 16 };
    float *x = (float *)malloc(sizeof(float) * N * DIM);
    if (!x) return 1;
    for (size_t i = 0; i < N * DIM; i++) x[i] = (float)((i * 7919) % 1009);

    kith_error err;
    kith_pool *pool = NULL;
    if (kith_pool_create(2, NULL, &pool, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    int calls = 0;
    kith_cancel cancel = {0}; /* a signal handler may raise it */
    kith_run run;
    kith_run_init(&run);
    run.pool = pool;
    run.progress = show;
    run.progress_ctx = &calls;
    run.cancel = &cancel;

    static float centroids[K * DIM];
    kith_status first = kith_kmeans_train(x, N, DIM, K, NULL, &run, centroids, NULL, &err);
    kith_cancel_raise(&cancel);
    kith_status second = kith_kmeans_train(x, N, DIM, K, NULL, &run, centroids, NULL, &err);
    printf("%zu threads; first %s, then %s\n", kith_pool_threads(pool), kith_status_name(first),
           kith_status_name(second));
    kith_pool_free(pool);
    free(x);
    return first == KITH_OK && second == KITH_CANCELLED && calls > 0 ? 0 : 1;
}
