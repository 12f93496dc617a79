/* target_avx2.h - from here to target_end.h functions are compiled for AVX2 and what comes with it, whatever the flags of
 * the build say. Included after all other headers; included several times on purpose. */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,popcnt")
#endif
