/* fuzz.h - what the fuzz targets share. A target is one file fuzz_<name>.c with this one function; it is linked to
 * libFuzzer (tests/fuzz/run NAME SECONDS) and to replay.c, which feeds it the seeds of corpus/<name> and simple
 * damages of them in the ordinary tests. A property that does not hold calls FUZZ_ASSERT, which aborts. */
#ifndef KI_FUZZ_H
#define KI_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <kith/allocator.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_ASSERT(condition)                                                            \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

/* An allocator that ends the process when more is asked for than an input of that size justifies: four times its bytes
 * and 64 MB, at any one time. Where the library would get NULL, a user would have lost his memory. */
typedef struct fuzz_allocator {
    kith_allocator base;
    size_t live, most;
} fuzz_allocator;
void fuzz_allocator_init(fuzz_allocator *allocator, size_t input_bytes);

#endif
