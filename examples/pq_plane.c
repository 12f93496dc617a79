/* pq_plane.c - product quantisation small enough to check by hand: the sixteen points {1..4} x {1..4} of the plane.
 *
 * Each axis is one segment with a codebook of four centroids, two bits, so a point is four bits; and the codebooks
 * 1, 2, 3, 4 hold every point exactly. The query (17, 17) makes one table a segment; the distance of a point is the
 * sum of two entries. */
#include <stdio.h>

#include <kith/pq.h>

enum { POINTS = 16, SEGMENTS = 2, CENTROIDS = 4 };

static int failed(const char *what, const kith_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->message);
    return 1;
}

int main(void)
{
    static const float codebooks[SEGMENTS][CENTROIDS] = {{1, 2, 3, 4}, {1, 2, 3, 4}};
    static const float query[2] = {17, 17};
    float x[POINTS][2], tables[SEGMENTS][CENTROIDS], distance[POINTS];
    uint8_t codes[POINTS]; /* one byte each, the upper four bits are empty */
    for (int i = 0; i < POINTS; i++) {
        x[i][0] = (float)(i / 4 + 1);
        x[i][1] = (float)(i % 4 + 1);
    }

    kith_error err;
    kith_pq *pq;
    if (kith_pq_create(2, SEGMENTS, 2, KITH_L2SQ, NULL, &pq, &err) != KITH_OK) return failed("create", &err);
    /* kith_pq_train(pq, x, 16, ...) finds the same codebooks, in an order of its own. */
    if (kith_pq_set_codebooks(pq, codebooks[0], &err) != KITH_OK) return failed("codebooks", &err);
    if (kith_pq_encode(pq, x[0], POINTS, NULL, codes, &err) != KITH_OK) return failed("encode", &err);
    if (kith_pq_adc_tables(pq, query, tables[0], &err) != KITH_OK) return failed("tables", &err);
    if (kith_pq_scan(pq, tables[0], codes, POINTS, distance, &err) != KITH_OK) return failed("scan", &err);

    printf("tables of the query (%.0f, %.0f)\n\n    centroid  segment 0  segment 1\n", query[0], query[1]);
    for (int c = 0; c < CENTROIDS; c++) printf("    %8d  %9.0f  %9.0f\n", c, tables[0][c], tables[1][c]);
    printf("\n    point   code   sum of entries\n");
    int wrong = 0;
    for (int i = 0; i < POINTS; i++) {
        int first = codes[i] & 3, second = codes[i] >> 2 & 3;
        printf("    (%.0f, %.0f)  %d, %d   %.0f + %.0f = %.0f\n", x[i][0], x[i][1], first, second,
               tables[0][first], tables[1][second], distance[i]);
        float a = query[0] - x[i][0], b = query[1] - x[i][1];
        wrong += distance[i] != a * a + b * b;
    }
    kith_pq_free(pq);
    return wrong > 0;
}
