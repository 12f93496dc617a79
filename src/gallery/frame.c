#include "gallery/frame.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

kith_status ki_frame_check(const ki_frame_header *header, uint32_t kind, size_t max_body, kith_error *err)
{
    if (header->magic != KI_FRAME_MAGIC)
        return ki_fail(err, KITH_CORRUPT, "a message begins with %08x", header->magic);
    if (header->kind != kind)
        return ki_fail(err, KITH_CORRUPT, "a message of kind %u came where one of kind %u was due",
                       header->kind, kind);
    if (header->status > KITH_INTERNAL)
        return ki_fail(err, KITH_CORRUPT, "a message has status %u", header->status);
    if (header->text_size > KI_FRAME_MAX_TEXT || header->body_size > max_body)
        return ki_fail(err, KITH_CORRUPT,
                       "a message has a text of %u and a body of %u bytes, allowed %d and %zu",
                       header->text_size, header->body_size, KI_FRAME_MAX_TEXT, max_body);
    return KITH_OK;
}

void ki_frame_reader_init(ki_frame_reader *reader, uint32_t kind, size_t max_body,
                          const kith_allocator *allocator)
{
    *reader = (ki_frame_reader){.kind = kind, .max_body = max_body, .allocator = allocator};
}

void ki_frame_reader_clear(ki_frame_reader *reader)
{
    ki_free(reader->allocator, reader->bytes);
    ki_frame_reader_init(reader, reader->kind, reader->max_body, reader->allocator);
}

size_t ki_frame_wanted(const ki_frame_reader *reader, void **into)
{
    const size_t head = sizeof reader->header;
    if (reader->got < head) {
        *into = (uint8_t *)&reader->header + reader->got;
        return head - reader->got;
    }
    size_t at = reader->got - head, text = reader->header.text_size;
    if (at < text) {
        *into = reader->bytes + at;
        return text - at;
    }
    *into = reader->bytes + at + 1;
    return text + reader->header.body_size - at;
}

kith_status ki_frame_took(ki_frame_reader *reader, size_t n, kith_error *err)
{
    reader->got += n;
    if (reader->got != sizeof reader->header) return KITH_OK;
    KI_TRY(ki_frame_check(&reader->header, reader->kind, reader->max_body, err));
    size_t size = (size_t)reader->header.text_size + reader->header.body_size + 1;
    reader->bytes = ki_alloc(reader->allocator, size, 1);
    if (!reader->bytes) return ki_fail_nomem(err, size);
    reader->bytes[reader->header.text_size] = 0;
    return KITH_OK;
}

const char *ki_frame_text(const ki_frame_reader *reader)
{
    for (uint8_t *c = reader->bytes; *c; c++)
        if (*c < 0x20 || *c == 0x7f) *c = '?';
    return (const char *)reader->bytes;
}

const uint8_t *ki_frame_body(const ki_frame_reader *reader)
{
    return reader->bytes + reader->header.text_size + 1;
}
