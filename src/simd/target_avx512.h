/* target_avx512.h - as target_avx2.h, for AVX-512 F, BW, DQ, VL. */
#if defined(__clang__)
#pragma clang attribute push(                                                                    \
    __attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl")
#endif
