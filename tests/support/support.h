/* support.h - what the test programs share. Include this instead of cmocka.h. */
#ifndef KI_TEST_SUPPORT_H
#define KI_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <kith/allocator.h>
#include <kith/status.h>

/* Assert KITH_OK, showing the message otherwise. */
#define assert_ok(call, err)                                                                              \
    do {                                                                                                  \
        kith_status status_ = (call);                                                                     \
        if (status_ != KITH_OK) fail_msg("%s: %s: %s", #call, kith_status_name(status_), (err)->message); \
    } while (0)

/* The path of a file below the real test data ($KITH_DATA, else ../shared/data beside the source tree), in a
 * static buffer, or NULL, with a line on stderr, when it is not there: the test then calls skip(). */
const char *test_data(const char *relative);

/* The seed of the random tests: $KITH_TEST_SEED, else 1. Printed once. */
uint64_t test_seed(void);

/* A number that the environment may set (how many rounds, each how-manieth call fails), else the usual one. */
size_t test_number(const char *variable, size_t usual);

/* n*dim float32 from N(0,1), or around `centres` cluster centres when centres > 0; free() it. */
float *test_vectors(size_t n, size_t dim, size_t centres, uint64_t seed);

/* An allocator that counts, and fails allocation number `fail_at` (0-based; SIZE_MAX: never), or all from
 * then on. */
typedef struct test_allocator {
    kith_allocator base;
    size_t calls, live, fail_at;
    int for_ever;
} test_allocator;
void test_allocator_init(test_allocator *allocator, size_t fail_at, int for_ever);

/* A fresh folder under $TMPDIR, in a static buffer; removed at exit. */
const char *test_folder(void);

#endif
