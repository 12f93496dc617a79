/* JSON that is written as it comes (apps/common/text.h): numbers are those of printf, strings are quoted. */
#include "support.h"

#include "../../apps/common/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void prints(double value)
{
    char wanted[40];
    text t = {0};
    snprintf(wanted, sizeof wanted, "%.9g", value);
    text_double(&t, value);
    assert_false(t.failed);
    if (t.size != strlen(wanted) || memcmp(t.bytes, wanted, t.size) != 0)
        fail_msg("%.17g is printed as %.*s instead of %s", value, (int)t.size, t.bytes, wanted);
    text_clear(&t);
}

static void numbers_are_those_of_printf(void **state)
{
    (void)state;
    static const double some[] = {0,
                                  1,
                                  0.5,
                                  0.1,
                                  1e-4,
                                  9.99999999e-5,
                                  99999999.95,
                                  999999999.4,
                                  1e8,
                                  1e9,
                                  123456789,
                                  1234567890,
                                  1e-5,
                                  1e300,
                                  1e-300,
                                  0.9999999999,
                                  0.99999999949,
                                  0.0001234567895,
                                  12345678.95,
                                  3.0000000005,
                                  2.5e-4,
                                  100,
                                  1e5,
                                  0.00099999999995};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        prints(some[i]);
        prints(-some[i]);
    }
    uint64_t chance = test_seed();
    for (size_t i = 0; i < 300000; i++) {
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        double x = ldexp((double)(int32_t)(chance >> 32), (int)(chance >> 20 & 63) - 50);
        prints(i % 2 ? x : (double)(float)x);
        prints((double)((int64_t)(chance >> 30) % 2000000000) / 1000); /* ends on 5 often enough */
        prints((double)((int64_t)(chance >> 24) % 20000000000) / 10);
    }
}

static void what_is_no_number_is_0(void **state)
{
    (void)state;
    text t = {0};
    text_double(&t, NAN);
    text_double(&t, INFINITY);
    text_float(&t, -INFINITY);
    assert_int_equal(t.size, 3);
    assert_memory_equal(t.bytes, "000", 3);
    text_clear(&t);
}

static void strings_are_quoted(void **state)
{
    (void)state;
    static const char wanted[] = "\"a\\\"b\\\\\\u000a\xc3\xa9\\ufffd\"[1,-2.5]-9223372036854775808";
    text t = {0};
    text_string(&t, "a\"b\\\n\xc3\xa9\xff");
    text_floats(&t, (const float[]){1, -2.5f}, 2);
    text_int(&t, INT64_MIN);
    assert_int_equal(t.size, sizeof wanted - 1);
    assert_memory_equal(t.bytes, wanted, t.size);
    text_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_printf),
        cmocka_unit_test(what_is_no_number_is_0),
        cmocka_unit_test(strings_are_quoted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
