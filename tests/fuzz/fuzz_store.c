/* Property: any bytes, with their checksums made right, open as a store whose sections lie inside the file, or give an
 * error with a message; reading, mapping and verifying agree. */
#include "fuzz.h"

#include <string.h>

#include "base/checksum.h"
#include "fault_io.h"
#include "repair.h"
#include "store/index_file.h"

static void read_sections(ki_store *store)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < ki_store_section_count(store); i++) {
        const ki_disk_section *section = ki_store_section(store, i);
        uint64_t n;
        const void *data;
        ki_record_view record;
        char text[64];
        FUZZ_ASSERT(ki_store_count(store, section->name, section->element_bytes, &n, NULL) == KITH_OK);
        FUZZ_ASSERT(ki_store_array(store, section->name, n, section->element_bytes, &data, NULL) == KITH_OK);
        sum += ki_checksum(data, (size_t)section->bytes);
        FUZZ_ASSERT(sum || !sum); /* the bytes were read */
        if (section->element_bytes == 1 &&
            ki_store_record_open(store, section->name, &record, NULL) == KITH_OK &&
            ki_record_get_text(&record, "note", text, sizeof text, NULL) == KITH_OK)
            FUZZ_ASSERT(memchr(text, 0, sizeof text));
    }
}

static kith_status try_mode(const uint8_t *data, size_t size, ki_store_mode mode)
{
    memory_io io;
    fuzz_allocator allocator;
    ki_store *store;
    ki_store_proof proof;
    kith_error err = {0};
    memory_io_init(&io, data, size);
    fuzz_allocator_init(&allocator, size);
    kith_status status = ki_store_open("input", mode, &io.base, &allocator.base, &store, &err);
    if (status == KITH_OK) {
        read_sections(store);
        status = ki_store_verify(store, NULL, &proof, &err);
        FUZZ_ASSERT(status == KITH_OK || status == KITH_CORRUPT);
        FUZZ_ASSERT(proof.damaged == 0 && proof.content_hash == ki_checksum(data, size));
        ki_store_close(store);
    }
    FUZZ_ASSERT(status == KITH_OK || (err.code == status && err.message[0]));
    FUZZ_ASSERT(allocator.live == 0);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *forged = malloc(size + 1);
    if (size > 0) memcpy(forged, data, size);
    test_repair_checksums(forged, size);
    FUZZ_ASSERT(try_mode(forged, size, KI_STORE_READ) == try_mode(forged, size, KI_STORE_MAP));
    free(forged);
    return 0;
}
