/* Payloads: whatever the bytes, the answer is a canonical form or KITH_INVALID; the canonical form of a canonical form is
 * itself, and it is valid to another handle's eyes, so what was put can always be read. A text that is seen to be
 * canonical without being parsed is what the parser makes of it: a space in front keeps it from being so seen. */
#include "fuzz.h"

#include <string.h>

#include "engine/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_allocator allocator;
    ki_buffer once = {0}, twice = {0};
    kith_error err;
    fuzz_allocator_init(&allocator, size);
    kith_status status = ki_payload_canonical((const char *)data, size, &once, &allocator.base, &err);
    FUZZ_ASSERT(status == KITH_OK || status == KITH_INVALID);
    if (status == KITH_OK) {
        FUZZ_ASSERT(once.size >= 2 && once.data[0] == '{' && once.data[once.size - 1] == '}');
        FUZZ_ASSERT(memchr(once.data, 0, once.size) == NULL && memchr(once.data, '\n', once.size) == NULL);
        status = ki_payload_canonical((const char *)once.data, once.size, &twice, &allocator.base, &err);
        FUZZ_ASSERT(status == KITH_OK);
        FUZZ_ASSERT(twice.size == once.size && memcmp(twice.data, once.data, once.size) == 0);
    } else {
        FUZZ_ASSERT(strstr(err.message, "payload") != NULL);
    }
    char *spaced = malloc(size + 1);
    FUZZ_ASSERT(spaced);
    spaced[0] = ' ';
    if (size > 0) memcpy(spaced + 1, data, size);
    if (size < KITH_COLLECTION_MAX_PAYLOAD) {
        FUZZ_ASSERT(ki_payload_canonical(spaced, size + 1, &twice, &allocator.base, &err) == status);
        FUZZ_ASSERT(status != KITH_OK ||
                    (twice.size == once.size && memcmp(twice.data, once.data, once.size) == 0));
    }
    free(spaced);
    ki_buffer_clear(&once, &allocator.base);
    ki_buffer_clear(&twice, &allocator.base);
    FUZZ_ASSERT(allocator.live == 0);
    return 0;
}
