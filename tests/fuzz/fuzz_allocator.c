#include "fuzz.h"

#include <string.h>

#define HEAD 64 /* keeps the block aligned; holds its size */

static void *fuzz_alloc(void *ctx, size_t size, size_t align)
{
    fuzz_allocator *a = ctx;
    void *block;
    FUZZ_ASSERT(align <= HEAD);
    FUZZ_ASSERT(size <= a->most && a->live <= a->most - size);
    if (posix_memalign(&block, HEAD, HEAD + size) != 0) return NULL;
    memcpy(block, &size, sizeof size);
    a->live += size;
    return (char *)block + HEAD;
}

static void fuzz_free(void *ctx, void *block)
{
    fuzz_allocator *a = ctx;
    size_t size;
    memcpy(&size, (char *)block - HEAD, sizeof size);
    FUZZ_ASSERT(size <= a->live);
    a->live -= size;
    free((char *)block - HEAD);
}

void fuzz_allocator_init(fuzz_allocator *allocator, size_t input_bytes)
{
    *allocator = (fuzz_allocator){
        .base = {.ctx = allocator, .alloc = fuzz_alloc, .free = fuzz_free},
        .most = input_bytes * 4 + ((size_t)64 << 20),
    };
}
