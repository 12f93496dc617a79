/* learn_hash.c - 32 bits a vector instead of 64 floats: learned codes, and how many neighbours they keep. */
#include <stdio.h>
#include <stdlib.h>

#include <kith/hashing.h>
#include <kith/index.h>

enum { N = 4000, DIM = 64, BITS = 32, ROW = BITS / 8 };

/* Points around 40 centres. */
static float *points(void)
{
    float *x = malloc(N * DIM * sizeof *x), centre[40][DIM];
    uint32_t state = 1;
    if (!x) exit(1);
    for (size_t i = 0; i < 40 * DIM; i++) {
        state = state * 1664525u + 1013904223u;
        centre[i / DIM][i % DIM] = (float)(state >> 20) / 512;
    }
    for (size_t i = 0; i < N * DIM; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = centre[i / DIM % 40][i % DIM] + (float)(state >> 20) / 4096;
    }
    return x;
}

int main(void)
{
    kith_error err;
    kith_hasher *hasher;
    kith_index *index = NULL;
    kith_searcher *searcher = NULL;
    kith_index_options options;
    float *x = points(), dist[5];
    uint8_t *codes = malloc(N * ROW);
    uint64_t ids[5], same = 0;
    kith_status status = kith_hasher_learn(x, N, DIM, BITS, NULL, NULL, &hasher, &err);
    if (status == KITH_UNSUPPORTED) { /* a build without LAPACK */
        printf("%s\n", err.message);
        return 0;
    }
    /* The codes are rows of bits: any index over KITH_HAMMING takes them. */
    kith_index_options_init(&options);
    options.metric = KITH_HAMMING;
    if (!codes || status != KITH_OK || kith_hasher_encode(hasher, x, N, NULL, codes, &err) != KITH_OK ||
        kith_index_create("BMIH4", BITS, &options, &index, &err) != KITH_OK ||
        kith_index_add_bits(index, codes, NULL, N, NULL, &err) != KITH_OK ||
        kith_searcher_create(index, &searcher, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (size_t q = 0; q < 100; q++) {
        if (kith_search_bits(searcher, codes + q * ROW, 1, 5, NULL, ids, dist, NULL, &err) != KITH_OK)
            return 1;
        for (size_t i = 0; i < 5; i++) same += ids[i] % 40 == q % 40;
    }
    printf("%d bytes a vector instead of %zu; %llu of 500 results are of the query's own cluster\n", ROW,
           DIM * sizeof *x, (unsigned long long)same);
    kith_searcher_free(searcher);
    kith_index_free(index);
    kith_hasher_free(hasher);
    free(codes);
    free(x);
    return same > 400 ? 0 : 1;
}
