/* cluster_points.c - k-means of points around three centres of the plane. */
#include <stdio.h>

#include <kith/kmeans.h>

static void show(void *ctx, size_t number, double objective)
{
    (void)ctx;
    printf("iteration %zu: objective %.3f\n", number, objective);
}

int main(void)
{
    enum { N = 300, K = 3 };
    static const float centres[K][2] = {{0, 0}, {10, 0}, {0, 10}};
    static float x[N][2];
    for (size_t i = 0; i < N; i++) { /* a small spiral around each centre */
        float r = (float)(i / K) / N;
        x[i][0] = centres[i % K][0] + r * (float)((int)(i * 37 % 11) - 5) / 5;
        x[i][1] = centres[i % K][1] + r * (float)((int)(i * 53 % 13) - 6) / 6;
    }

    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.init = KITH_KMEANS_PLUSPLUS;
    options.iteration = show;
    float centroids[K][2];
    kith_kmeans_result result;
    kith_error err;
    if (kith_kmeans_train(&x[0][0], N, 2, K, &options, NULL, &centroids[0][0], &result, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (size_t c = 0; c < K; c++)
        printf("centroid (%.2f, %.2f)\n", (double)centroids[c][0], (double)centroids[c][1]);
    printf("%s after %zu iterations\n", result.converged ? "no point changed its centroid" : "stopped",
           result.iterations);
    return result.converged && result.objective < N ? 0 : 1;
}
