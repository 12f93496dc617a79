/* make_vectors.c - write test vectors: make_vectors N DIM SEED OUT.fvecs [CENTRES]. Used by the e2e scripts. */
#include <stdio.h>
#include <stdlib.h>

#include "support.h"

int main(int argc, char **argv)
{
    if (argc < 5) return 2;
    size_t n = strtoul(argv[1], NULL, 10), dim = strtoul(argv[2], NULL, 10);
    size_t centres = argc > 5 ? strtoul(argv[5], NULL, 10) : 0;
    float *x = test_vectors(n, dim, centres, strtoull(argv[3], NULL, 10));
    FILE *out = fopen(argv[4], "wb");
    if (!x || !out) return 1;
    int32_t header = (int32_t)dim;
    for (size_t i = 0; i < n; i++) {
        fwrite(&header, sizeof header, 1, out);
        fwrite(x + i * dim, sizeof *x, dim, out);
    }
    free(x);
    return fclose(out) == 0 ? 0 : 1;
}
