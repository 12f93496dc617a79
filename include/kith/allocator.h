/* allocator.h - where memory comes from.
 *
 * Every object is made with an optional allocator (NULL: the C library's, with large blocks in huge
 * pages where the system grants them). The object keeps a pointer to it, so it must outlive the object.
 */
#ifndef KITH_ALLOCATOR_H
#define KITH_ALLOCATOR_H

#include <kith/api.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kith_allocator {
    void *ctx; /* handed to both functions */

    /* `size` bytes (at least 1) aligned to `align`, a power of two of at most 64; NULL when there are
     * none left. May be called from the threads of a kith_pool: it must be thread-safe when a pool is used.
     */
    void *(*alloc)(void *ctx, size_t size, size_t align);

    /* Give a block back. `block` is never NULL. */
    void (*free)(void *ctx, void *block);
} kith_allocator;

#ifdef __cplusplus
}
#endif
#endif
