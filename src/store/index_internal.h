/* index_internal.h - what the writer and the reader of index files share. */
#ifndef KI_STORE_INDEX_INTERNAL_H
#define KI_STORE_INDEX_INTERNAL_H

#include "store/index_file.h"

/* Whether name[24] is a section or parameter name: 1..23 of a-z 0-9 _ . - and zeros to the end. */
int ki_store_name_valid(const char name[KI_STORE_NAME_BYTES]);

/* Whether spec[256] is one: printable ASCII, at least one character, zeros to the end. */
int ki_store_spec_valid(const char spec[KI_STORE_SPEC_BYTES]);

/* Copy a name into its 24 bytes; 0 when it is not a valid one. */
int ki_store_name_set(char name[KI_STORE_NAME_BYTES], const char *text);

/* What a section of that many bytes must start at a multiple of. */
static inline uint64_t ki_store_align_of(uint64_t bytes)
{
    return bytes >= KI_STORE_BIG_BYTES ? KI_STORE_BIG_ALIGN : KI_STORE_ALIGN;
}

#endif
