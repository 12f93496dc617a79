#include "kmeans_exact.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/kmeans.h>
#include <kith/run.h>

#include "support.h"

void assert_kmeans_exact(const float *x, size_t n, size_t dim, size_t k)
{
    enum { ROUNDS = 4 };
    size_t bytes = sizeof(float) * k * dim, compared = 0;
    float *before = malloc(bytes), *after = malloc(bytes), *threaded = malloc(bytes);
    float *dist = malloc(sizeof *dist * n);
    uint32_t *which = malloc(sizeof *which * n);
    kith_error err;
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(3, NULL, &run.pool, &err), &err);
    for (options.max_iterations = 1; options.max_iterations <= ROUNDS; options.max_iterations++) {
        kith_kmeans_result result;
        assert_ok(kith_kmeans_train(x, n, dim, k, &options, NULL, after, &result, &err), &err);
        assert_ok(kith_kmeans_train(x, n, dim, k, &options, &run, threaded, NULL, &err), &err);
        assert_memory_equal(after, threaded, bytes);
        if (options.max_iterations > 1 && result.splits == 0) {
            assert_ok(kith_kmeans_assign(x, n, dim, before, k, NULL, NULL, which, dist, &err), &err);
            double sum = 0;
            for (size_t i = 0; i < n; i++) sum += (double)dist[i];
            assert_true(fabs(sum - result.objective) <= 1e-6 * sum);
            compared++;
        }
        memcpy(before, after, bytes);
    }
    assert_true(compared > 0);
    kith_pool_free(run.pool);
    free(before), free(after), free(threaded), free(dist), free(which);
}
