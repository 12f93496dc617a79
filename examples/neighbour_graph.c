/* neighbour_graph.c - which points of a spiral are each other's nearest neighbours. */
#include <math.h>
#include <stdio.h>

#include <kith/knng.h>

int main(void)
{
    enum { N = 1000, K = 2 };
    static float x[N][2];
    static uint64_t ids[N][K];
    static float dist[N][K];
    for (size_t i = 0; i < N; i++) {
        float turn = (float)i / 50;
        x[i][0] = (2 + turn) * cosf(turn);
        x[i][1] = (2 + turn) * sinf(turn);
    }
    kith_error err;
    if (kith_knng(&x[0][0], N, 2, K, NULL, NULL, &ids[0][0], &dist[0][0], NULL, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    size_t beside = 0; /* links along the spiral */
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < K; j++) beside += ids[i][j] + 2 >= i && ids[i][j] <= i + 2;
    printf("point 500 is nearest to %llu and %llu; %zu of %d links lead along the spiral\n",
           (unsigned long long)ids[500][0], (unsigned long long)ids[500][1], beside, N * K);
    return beside > N * K * 9 / 10 ? 0 : 1;
}
