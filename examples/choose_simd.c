/* choose_simd.c - which instruction sets this machine has, and how to force one. */
#include <stdio.h>

#include <kith/simd.h>

int main(void)
{
    kith_error err;
    if (kith_simd_check(&err) != KITH_OK) fprintf(stderr, "KITH_SIMD: %s\n", err.message);
    printf("in use: %s\n", kith_simd_name(kith_simd_level()));
    for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++)
        printf("  %-7s %s\n", kith_simd_name((kith_simd)level),
               kith_simd_has((kith_simd)level) ? "yes" : "no");

    /* The reference, slow and readable; answers may differ from the others' in the last bits. */
    if (kith_simd_use(KITH_SIMD_SCALAR, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    return kith_simd_level() == KITH_SIMD_SCALAR ? 0 : 1;
}
