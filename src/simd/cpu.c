/* cpu.c - which kernels this machine can run, and which are in use.
 *
 * Compiled for the baseline, like everything else. The tables are built once, each as a copy of the level
 * below with that level's own kernels entered; after that they only are read. The pointer to the one in use
 * is the single piece of mutable global state of the library. */
#include <kith/simd.h>

#include "simd/levels.h"
#include "base/error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define LEVELS 4

static ki_kernels tables[LEVELS];
static int available[LEVELS];
static _Atomic(const ki_kernels *) current;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const char *const names[LEVELS] = {"scalar", "avx2", "avx512", "neon"};

#ifdef KI_X86
#include <cpuid.h>

/* XCR0: which register files the operating system saves. */
static unsigned saved_registers(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}

static void detect(ki_cpu *cpu)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    unsigned need = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C | bit_POPCNT;
    if ((c & need) != need) return;
    unsigned saved = saved_registers();
    if ((saved & 0x6) != 0x6) return; /* xmm and ymm */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    cpu->avx2 = (b & bit_AVX2) && (b & bit_BMI) && (b & bit_BMI2);
    unsigned wide = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    cpu->avx512 = cpu->avx2 && (b & wide) == wide && (saved & 0xe0) == 0xe0; /* k, zmm */
    cpu->avx512_popcount = cpu->avx512 && (c & bit_AVX512VPOPCNTDQ);
    cpu->avx512_vnni = cpu->avx512 && (c & bit_AVX512VNNI);
    cpu->avx512_vbmi = cpu->avx512 && (c & bit_AVX512VBMI);
}
#elif defined(KI_ARM)
static void detect(ki_cpu *cpu)
{
    cpu->neon = 1; /* part of the AArch64 baseline */
}
#else
static void detect(ki_cpu *cpu)
{
    (void)cpu;
}
#endif

static void begin_level(kith_simd level, kith_simd below)
{
    tables[level] = tables[below];
    tables[level].level = level;
    available[level] = 1;
}

static int parse(const char *name, kith_simd *level)
{
    for (int i = 0; i < LEVELS; i++)
        if (strcmp(name, names[i]) == 0) {
            *level = (kith_simd)i;
            return 1;
        }
    return 0;
}

static kith_simd best_level(void)
{
    if (available[KITH_SIMD_AVX512]) return KITH_SIMD_AVX512;
    if (available[KITH_SIMD_AVX2]) return KITH_SIMD_AVX2;
    if (available[KITH_SIMD_NEON]) return KITH_SIMD_NEON;
    return KITH_SIMD_SCALAR;
}

static void build_tables(void)
{
    ki_cpu cpu = {0};
    detect(&cpu);
    available[KITH_SIMD_SCALAR] = 1;
#define FILL_SCALAR(topic) ki_simd_##topic##_scalar(&tables[KITH_SIMD_SCALAR], &cpu);
    KI_SCALAR_TOPICS(FILL_SCALAR)
#ifdef KI_X86
    if (cpu.avx2) {
        begin_level(KITH_SIMD_AVX2, KITH_SIMD_SCALAR);
#define FILL_AVX2(topic) ki_simd_##topic##_avx2(&tables[KITH_SIMD_AVX2], &cpu);
        KI_AVX2_TOPICS(FILL_AVX2)
    }
    if (cpu.avx512) {
        begin_level(KITH_SIMD_AVX512, KITH_SIMD_AVX2);
#define FILL_AVX512(topic) ki_simd_##topic##_avx512(&tables[KITH_SIMD_AVX512], &cpu);
        KI_AVX512_TOPICS(FILL_AVX512)
    }
#endif
#ifdef KI_ARM
    if (cpu.neon) {
        begin_level(KITH_SIMD_NEON, KITH_SIMD_SCALAR);
#define FILL_NEON(topic) ki_simd_##topic##_neon(&tables[KITH_SIMD_NEON], &cpu);
        KI_NEON_TOPICS(FILL_NEON)
    }
#endif
    kith_simd level;
    const char *wish = getenv("KITH_SIMD");
    if (!wish || !parse(wish, &level) || !available[level]) level = best_level();
    atomic_store_explicit(&current, &tables[level], memory_order_release);
}

const ki_kernels *ki_kernels_get(void)
{
    const ki_kernels *table = atomic_load_explicit(&current, memory_order_acquire);
    if (table) return table;
    pthread_once(&once, build_tables);
    return atomic_load_explicit(&current, memory_order_acquire);
}

const ki_kernels *ki_kernels_at(kith_simd level)
{
    return kith_simd_has(level) ? &tables[level] : NULL;
}

int kith_simd_has(kith_simd level)
{
    pthread_once(&once, build_tables);
    return (unsigned)level < LEVELS && available[level];
}

const char *kith_simd_name(kith_simd level)
{
    return (unsigned)level < LEVELS ? names[level] : "unknown";
}

kith_simd kith_simd_level(void)
{
    return ki_kernels_get()->level;
}

kith_status kith_simd_use(kith_simd level, kith_error *err)
{
    if (!kith_simd_has(level))
        return ki_fail(err, KITH_UNSUPPORTED, "this machine or build has no SIMD level \"%s\"",
                       kith_simd_name(level));
    atomic_store_explicit(&current, &tables[level], memory_order_release);
    return KITH_OK;
}

kith_status kith_simd_use_name(const char *name, kith_error *err)
{
    if (!name) return ki_fail(err, KITH_INVALID, "name of the SIMD level is NULL");
    pthread_once(&once, build_tables);
    kith_simd level;
    if (strcmp(name, "auto") == 0) return kith_simd_use(best_level(), err);
    if (!parse(name, &level))
        return ki_fail(err, KITH_INVALID, "SIMD level is \"%s\", allowed auto, scalar, avx2, avx512, neon",
                       name);
    return kith_simd_use(level, err);
}

kith_status kith_simd_check(kith_error *err)
{
    const char *wish = getenv("KITH_SIMD");
    kith_simd level;
    if (!wish) return KITH_OK;
    if (!parse(wish, &level))
        return ki_fail(err, KITH_INVALID, "KITH_SIMD is \"%s\", allowed scalar, avx2, avx512, neon", wish);
    if (!kith_simd_has(level))
        return ki_fail(err, KITH_UNSUPPORTED,
                       "KITH_SIMD is \"%s\", which this machine or build does not have", wish);
    return KITH_OK;
}
