/* index_layout.h - the bytes of an index file's header and directory. docs/format.md is the specification;
 * these structs are its tables. Everything is little-endian, every reserved byte is zero. */
#ifndef KI_STORE_INDEX_LAYOUT_H
#define KI_STORE_INDEX_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "kith maps its files into memory as they are: it needs a little-endian machine"
#endif

#define KI_STORE_MAGIC "KITHIDX\x1a" /* the last byte stops a text tool that prints the file */
#define KI_STORE_MAGIC_BYTES 8
#define KI_STORE_VERSION 1

#define KI_STORE_SPEC_BYTES 256 /* with the terminating zero */
#define KI_STORE_NAME_BYTES 24  /* with the terminating zero */

#define KI_STORE_ALIGN 64       /* of every section: a cache line, and any vector register */
#define KI_STORE_BIG_ALIGN 4096 /* of big ones: a page, so that they can be mapped alone */
#define KI_STORE_BIG_BYTES ((uint64_t)1 << 20)
#define KI_STORE_MAX_SECTIONS 1024 /* far above need: bounds what a hostile header makes us read */

typedef struct ki_disk_header {
    char magic[KI_STORE_MAGIC_BYTES];
    uint32_t version;
    uint32_t section_count;
    uint64_t file_bytes;
    uint64_t directory_offset; /* the directory is the end of the file */
    uint64_t directory_checksum;
    uint64_t rows;
    uint64_t dim;
    uint64_t seed;
    uint32_t metric;
    uint32_t simd; /* the instruction set that built it: same input and same level, same bytes */
    char spec[KI_STORE_SPEC_BYTES];
    unsigned char reserved[176];
    uint64_t checksum; /* XXH3-64 of all bytes before it */
} ki_disk_header;

typedef struct ki_disk_section {
    char name[KI_STORE_NAME_BYTES];
    uint64_t offset;
    uint64_t bytes;
    uint64_t checksum; /* XXH3-64 */
    uint32_t element_bytes;
    uint32_t reserved[3];
} ki_disk_section;

static_assert(sizeof(ki_disk_header) == 512, "the header is 512 bytes");
static_assert(offsetof(ki_disk_header, spec) == 72, "the spec follows the numbers without a gap");
static_assert(offsetof(ki_disk_header, checksum) == 504, "the checksum is the header's last field");
static_assert(sizeof(ki_disk_section) == 64, "a directory entry is 64 bytes");

/* A parameter record: entries one after the other, each this head and then its value, padded with zeros to a
 * multiple of 8. */
#define KI_RECORD_MAX_BYTES 65536 /* bounds the quadratic search for names that stand twice */

typedef struct ki_disk_entry {
    char name[KI_STORE_NAME_BYTES];
    uint32_t kind;  /* KI_RECORD_* */
    uint32_t bytes; /* of the value: 8 for numbers, the length of a text without a terminating zero */
} ki_disk_entry;

static_assert(sizeof(ki_disk_entry) == 32, "an entry's head is 32 bytes");

#endif
