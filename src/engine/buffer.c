/* buffer.c - a block of bytes that grows. */
#include "engine/engine.h"

#include <string.h>

kith_status ki_buffer_reserve(ki_buffer *buffer, size_t capacity, const kith_allocator *allocator,
                              kith_error *err)
{
    if (capacity <= buffer->capacity) return KITH_OK;
    capacity = ki_grown(buffer->capacity, capacity);
    unsigned char *data = ki_realloc(allocator, buffer->data, buffer->size, capacity, 1);
    if (!data) return ki_fail_nomem(err, capacity);
    buffer->data = data;
    buffer->capacity = capacity;
    return KITH_OK;
}

kith_status ki_buffer_append(ki_buffer *buffer, const void *data, size_t size,
                             const kith_allocator *allocator, kith_error *err)
{
    size_t need;
    if (!ki_add_fits(buffer->size, size, &need)) return ki_fail_nomem(err, SIZE_MAX);
    KI_TRY(ki_buffer_reserve(buffer, need, allocator, err));
    if (size > 0) memcpy(buffer->data + buffer->size, data, size);
    buffer->size = need;
    return KITH_OK;
}

void ki_buffer_clear(ki_buffer *buffer, const kith_allocator *allocator)
{
    ki_free(allocator, buffer->data);
    *buffer = (ki_buffer){0};
}
