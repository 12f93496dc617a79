/* simd.h - which instruction set the kernels use.
 *
 * The library is built for the baseline of its architecture and picks the best level of the machine at
 * the first use; the environment variable KITH_SIMD=scalar|avx2|avx512|neon forces a level for a whole
 * process, kith_simd_use() from inside a program. Answers may differ between levels in the last bits of
 * a float32 (the order of summation differs); within a level they are the same on every machine.
 */
#ifndef KITH_SIMD_H
#define KITH_SIMD_H

#include <kith/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kith_simd {
    KITH_SIMD_SCALAR = 0,
    KITH_SIMD_AVX2 = 1,   /* AVX2, FMA, F16C, POPCNT */
    KITH_SIMD_AVX512 = 2, /* AVX-512 F, BW, DQ, VL (VNNI, VPOPCNTDQ used where present) */
    KITH_SIMD_NEON = 3
} kith_simd;

/* Use one level from now on.
 * Errors:   KITH_UNSUPPORTED when the machine or the build does not have it.
 * Threads:  atomic; calls that already run finish with the level that they began with. */
KITH_API kith_status kith_simd_use(kith_simd level, kith_error *err);

/* The same by name; "auto" picks the best. An unknown name is KITH_INVALID. */
KITH_API kith_status kith_simd_use_name(const char *name, kith_error *err);

/* The level in use. The first call reads KITH_SIMD; a value there that is unknown or not supported is
 * reported by kith_simd_check() and otherwise ignored. */
KITH_API kith_simd kith_simd_level(void);

/* KITH_OK, or what is wrong with the environment variable KITH_SIMD. Programs call it once at their start. */
KITH_API kith_status kith_simd_check(kith_error *err);

/* Whether this machine and this build have a level (1) or not (0). */
KITH_API int kith_simd_has(kith_simd level);

/* "scalar", "avx2", "avx512", "neon"; static. */
KITH_API const char *kith_simd_name(kith_simd level);

#ifdef __cplusplus
}
#endif
#endif
