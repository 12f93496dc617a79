/* memory.h - allocation through a kith_allocator, with the size arithmetic checked. */
#ifndef KI_BASE_MEMORY_H
#define KI_BASE_MEMORY_H

#include <kith/allocator.h>

#define KI_CACHE_LINE 64

/* n elements of `size` bytes, aligned to 64, contents undefined; NULL when there is no memory or the product
 * overflows. n == 0 gives a block that may be freed but not read. allocator NULL: the C library's. */
void *ki_alloc(const kith_allocator *allocator, size_t n, size_t size);

/* The same, zeroed. */
void *ki_alloc_zero(const kith_allocator *allocator, size_t n, size_t size);

/* Grow or shrink `block` (may be NULL) from old_n to new_n elements, contents kept. NULL on failure, and then
 * `block` is untouched. */
void *ki_realloc(const kith_allocator *allocator, void *block, size_t old_n, size_t new_n, size_t size);

/* Give a block back; NULL is allowed. */
void ki_free(const kith_allocator *allocator, void *block);

/* A copy of a string; NULL when there is no memory. */
char *ki_strdup(const kith_allocator *allocator, const char *text);

/* *out = a * b or a + b; 0 when it overflows. For sizes that come from a file or a caller. */
static inline int ki_mul_fits(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline int ki_add_fits(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* The capacity to grow to so that `need` elements fit and appending stays linear. */
static inline size_t ki_grown(size_t capacity, size_t need)
{
    size_t grown = capacity + capacity / 2 + 8;
    return grown < need ? need : grown;
}

#endif
