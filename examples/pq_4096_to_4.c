/* pq_4096_to_4.c - vectors of 1,024 components, 4,096 bytes, kept in 4 bytes each: four segments of 256 components, a
 * codebook of 256 centroids for each. How good are the distances that are left? */
#include <stdio.h>
#include <stdlib.h>

#include <kith/pq.h>

enum { N = 2000, DIM = 1024, SEGMENTS = 4, BITS = 8, GROUPS = 50 };

static float noise(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / (1 << 24) - 0.5f;
}

/* Vectors in groups, as features of pictures are: a member is its group's centre and a little of its own. */
static void make_vectors(float (*x)[DIM])
{
    static float centre[GROUPS][DIM];
    for (size_t g = 0; g < GROUPS; g++)
        for (size_t d = 0; d < DIM; d++) centre[g][d] = noise();
    for (size_t i = 0; i < N; i++)
        for (size_t d = 0; d < DIM; d++) x[i][d] = centre[i % GROUPS][d] + 0.3f * noise();
}

static int failed(const char *what, const kith_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->message);
    return 1;
}

int main(void)
{
    static float x[N][DIM], tables[SEGMENTS][1 << BITS], asymmetric[N], symmetric[N];
    static uint8_t codes[N][SEGMENTS];
    make_vectors(x);

    kith_error err;
    kith_pq *pq;
    double error, length = 0;
    if (kith_pq_create(DIM, SEGMENTS, BITS, KITH_L2SQ, NULL, &pq, &err) != KITH_OK)
        return failed("create", &err);
    if (kith_pq_train(pq, x[0], N, 10, 1, NULL, &err) != KITH_OK) return failed("train", &err);
    if (kith_pq_encode(pq, x[0], N, NULL, codes[0], &err) != KITH_OK) return failed("encode", &err);
    if (kith_pq_error(pq, x[0], N, NULL, &error, &err) != KITH_OK) return failed("error", &err);
    for (size_t i = 0; i < N; i++)
        for (size_t d = 0; d < DIM; d++) length += (double)x[i][d] * (double)x[i][d];
    printf("a vector: %zu bytes, its code: %zu bytes\n", sizeof x[0], kith_pq_code_size(pq));
    printf("mean squared length %.1f, mean squared error %.1f\n", length / N, error);

    /* Vector 0 as the query: as it is (ADC), and by its code alone (SDC). */
    if (kith_pq_adc_tables(pq, x[0], tables[0], &err) != KITH_OK) return failed("tables", &err);
    if (kith_pq_scan(pq, tables[0], codes[0], N, asymmetric, &err) != KITH_OK) return failed("scan", &err);
    if (kith_pq_sdc_tables(pq, codes[0], tables[0], &err) != KITH_OK) return failed("tables", &err);
    if (kith_pq_scan(pq, tables[0], codes[0], N, symmetric, &err) != KITH_OK) return failed("scan", &err);

    printf("\n    row  group     exact       ADC       SDC\n");
    int confused = 0;
    for (size_t i = 0; i < N; i++) {
        double exact = 0;
        for (size_t d = 0; d < DIM; d++) {
            double difference = (double)x[0][d] - (double)x[i][d];
            exact += difference * difference;
        }
        if (i % GROUPS < 3 && i < 2 * GROUPS)
            printf("   %4zu  %5zu  %8.1f  %8.1f  %8.1f\n", i, i % GROUPS, exact, (double)asymmetric[i],
                   (double)symmetric[i]);
        confused += (i % GROUPS == 0) != (asymmetric[i] < 100); /* the groups are some 170 apart */
    }
    printf("\n%d of %d rows on the wrong side of distance 100\n", confused, N);
    kith_pq_free(pq);
    return confused > 0;
}
