#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Blocks from this size on start on a huge page and ask for huge pages: on virtual machines the page walks of
 * a random read cost as much as the read itself. 4 MB: two huge pages, so that rounding up wastes at most a
 * third. */
#define HUGE_BLOCK ((size_t)4 << 20)
#define HUGE_PAGE ((size_t)2 << 20)

static void *libc_alloc(size_t size, size_t align)
{
    if (size < HUGE_BLOCK) {
        void *block = NULL;
        return posix_memalign(&block, align, size) == 0 ? block : NULL;
    }
    void *block = NULL;
    if (posix_memalign(&block, HUGE_PAGE, size) != 0) return NULL;
#ifdef MADV_HUGEPAGE
    (void)madvise(block, size, MADV_HUGEPAGE); /* a wish: without it the block works as well, only slower */
#endif
    return block;
}

void *ki_alloc(const kith_allocator *allocator, size_t n, size_t size)
{
    size_t bytes;
    if (!ki_mul_fits(n, size, &bytes) || bytes > PTRDIFF_MAX) return NULL;
    if (bytes == 0) bytes = 1;
    if (allocator) return allocator->alloc(allocator->ctx, bytes, KI_CACHE_LINE);
    return libc_alloc(bytes, KI_CACHE_LINE);
}

void *ki_alloc_zero(const kith_allocator *allocator, size_t n, size_t size)
{
    void *block = ki_alloc(allocator, n, size);
    if (block) memset(block, 0, n * size);
    return block;
}

void *ki_realloc(const kith_allocator *allocator, void *block, size_t old_n, size_t new_n, size_t size)
{
    void *moved = ki_alloc(allocator, new_n, size);
    if (!moved) return NULL;
    size_t kept = old_n < new_n ? old_n : new_n;
    if (kept > 0 && block) memcpy(moved, block, kept * size);
    ki_free(allocator, block);
    return moved;
}

void ki_free(const kith_allocator *allocator, void *block)
{
    if (!block) return;
    if (allocator)
        allocator->free(allocator->ctx, block);
    else
        free(block);
}

char *ki_strdup(const kith_allocator *allocator, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = ki_alloc(allocator, size, 1);
    if (copy) memcpy(copy, text, size);
    return copy;
}
