/* wire.h - a growing block, and a careful reader of one. Memory from the C library: both sides of a fork
 * use it. */
#ifndef KI_GALLERY_WIRE_H
#define KI_GALLERY_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct ki_bytes {
    uint8_t *data;
    size_t size, capacity;
    int failed; /* memory ran out; what was put since is missing */
} ki_bytes;

static inline void ki_bytes_put(ki_bytes *bytes, const void *data, size_t size)
{
    if (bytes->failed || size == 0) return;
    if (bytes->capacity - bytes->size < size) {
        size_t capacity = bytes->size + size + bytes->capacity / 2;
        uint8_t *grown = capacity >= size ? realloc(bytes->data, capacity) : NULL;
        if (!grown) {
            bytes->failed = 1;
            return;
        }
        bytes->data = grown;
        bytes->capacity = capacity;
    }
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

/* A block with its length in front. */
static inline void ki_bytes_put_block(ki_bytes *bytes, const void *data, uint32_t size)
{
    ki_bytes_put(bytes, &size, sizeof size);
    ki_bytes_put(bytes, data, size);
}

static inline void ki_bytes_clear(ki_bytes *bytes)
{
    free(bytes->data);
    *bytes = (ki_bytes){0};
}

/* Reads what was put. Whoever reads past the end gets zeros and `failed`. */
typedef struct ki_bytes_reader {
    const uint8_t *at;
    size_t left;
    int failed;
} ki_bytes_reader;

static inline const void *ki_bytes_skip(ki_bytes_reader *reader, size_t size)
{
    if (reader->failed || reader->left < size) {
        reader->failed = 1;
        return NULL;
    }
    const uint8_t *at = reader->at;
    reader->at += size;
    reader->left -= size;
    return at;
}

static inline void ki_bytes_take(ki_bytes_reader *reader, void *out, size_t size)
{
    const void *at = ki_bytes_skip(reader, size);
    if (at)
        memcpy(out, at, size);
    else
        memset(out, 0, size);
}

/* A block put by ki_bytes_put_block; inside the reader's bytes, of any alignment. */
static inline const uint8_t *ki_bytes_take_block(ki_bytes_reader *reader, size_t *size)
{
    uint32_t n;
    ki_bytes_take(reader, &n, sizeof n);
    const uint8_t *at = ki_bytes_skip(reader, n);
    *size = at ? n : 0;
    return at;
}

#endif
