/* cmocka.h - as much of cmocka as tests/unit/test_base.c, test_simd.c and test_math_product.c use, so that the same
 * tests can be built for a machine that has no cmocka: a static program for an emulator (tests/e2e/neon.sh).
 * A failed assertion ends the program with status 1. */
#ifndef KI_TEST_NEON_CMOCKA_H
#define KI_TEST_NEON_CMOCKA_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};
#define cmocka_unit_test(function) \
    {                              \
#function, function        \
    }

#define fail_msg(...)                                                                                   \
    (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), \
     exit(1))
#define assert_true(c)                \
    do {                              \
        if (!(c)) fail_msg("%s", #c); \
    } while (0)
#define assert_false(c) assert_true(!(c))
#define assert_null(p) assert_true((p) == NULL)
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_int_equal(a, b)                                                            \
    do {                                                                                  \
        long long left_ = (long long)(a), right_ = (long long)(b);                        \
        if (left_ != right_) fail_msg("%s is %lld, not %s, %lld", #a, left_, #b, right_); \
    } while (0)
#define assert_in_range(v, low, high) assert_true((v) >= (low) && (v) <= (high))
#define assert_float_equal(a, b, epsilon) assert_true(fabs((double)(a) - (double)(b)) <= (double)(epsilon))
#define assert_memory_equal(a, b, size) assert_true(memcmp(a, b, size) == 0)
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define skip() return
#define print_message(...) fprintf(stderr, __VA_ARGS__)

#define cmocka_run_group_tests(tests, setup, teardown) run_tests(tests, sizeof(tests) / sizeof *(tests))
static inline int run_tests(const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *state = NULL;
        tests[i].run(&state);
        fprintf(stderr, "ok %s\n", tests[i].name);
    }
    return 0;
}

#endif
