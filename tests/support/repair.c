#include "repair.h"

#include <string.h>

#include "base/checksum.h"
#include "store/index_layout.h"

void test_repair_checksums(void *file, size_t bytes)
{
    unsigned char *base = file;
    ki_disk_header head;
    if (bytes < sizeof head) return;
    memcpy(&head, base, sizeof head);
    uint64_t directory = (uint64_t)head.section_count * sizeof(ki_disk_section);
    if (head.directory_offset <= bytes && directory <= bytes - head.directory_offset) {
        for (size_t i = 0; i < head.section_count; i++) {
            unsigned char *at = base + head.directory_offset + i * sizeof(ki_disk_section);
            ki_disk_section section;
            memcpy(&section, at, sizeof section);
            if (section.offset > bytes || section.bytes > bytes - section.offset) continue;
            section.checksum = ki_checksum(base + section.offset, (size_t)section.bytes);
            memcpy(at, &section, sizeof section);
        }
        head.directory_checksum = ki_checksum(base + head.directory_offset, (size_t)directory);
    }
    head.checksum = ki_checksum(&head, offsetof(ki_disk_header, checksum));
    memcpy(base, &head, sizeof head);
}
