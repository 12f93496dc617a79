/* bytes.h - saved features as bytes: little-endian numbers one after the other, read with every length checked. */
#ifndef KI_IMAGE_BYTES_H
#define KI_IMAGE_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Reads or writes; `failed` is set, and stays, when the block is too short. With data NULL a writer only
 * counts. */
typedef struct ki_bytes {
    uint8_t *data;
    size_t size, at;
    int failed;
} ki_bytes;

static inline void ki_bytes_put(ki_bytes *b, const void *data, size_t size)
{
    if (b->data && size <= b->size - b->at)
        memcpy(b->data + b->at, data, size);
    else if (b->data)
        b->failed = 1;
    b->at += b->failed ? 0 : size;
}

static inline void ki_bytes_put_u64(ki_bytes *b, uint64_t x)
{
    uint8_t le[8];
    for (size_t i = 0; i < 8; i++) le[i] = (uint8_t)(x >> 8 * i);
    ki_bytes_put(b, le, 8);
}

static inline void ki_bytes_put_f32(ki_bytes *b, float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    uint8_t le[4] = {(uint8_t)u, (uint8_t)(u >> 8), (uint8_t)(u >> 16), (uint8_t)(u >> 24)};
    ki_bytes_put(b, le, 4);
}

static inline int ki_bytes_get(ki_bytes *b, void *data, size_t size)
{
    if (b->failed || size > b->size - b->at) {
        b->failed = 1;
        memset(data, 0, size);
        return 0;
    }
    memcpy(data, b->data + b->at, size);
    b->at += size;
    return 1;
}

static inline uint64_t ki_bytes_get_u64(ki_bytes *b)
{
    uint8_t le[8];
    uint64_t x = 0;
    ki_bytes_get(b, le, 8);
    for (size_t i = 8; i-- > 0;) x = x << 8 | le[i];
    return x;
}

static inline float ki_bytes_get_f32(ki_bytes *b)
{
    uint8_t le[4];
    float x;
    ki_bytes_get(b, le, 4);
    uint32_t u = (uint32_t)le[0] | (uint32_t)le[1] << 8 | (uint32_t)le[2] << 16 | (uint32_t)le[3] << 24;
    memcpy(&x, &u, 4);
    return x;
}

#endif
