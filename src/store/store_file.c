/* The public look inside an index file: a thin coat over ki_store. */
#include <kith/file.h>

#include <string.h>

#include "base/error.h"
#include "store/index_file.h"

/* A kith_file is a ki_store under another name: the cast keeps the internal type out of the header. */
static ki_store *store_of(const kith_file *file)
{
    return (ki_store *)file;
}

kith_status kith_file_open(const char *path, const kith_io *io, const kith_allocator *allocator,
                           kith_file **file, kith_error *err)
{
    if (!file) return ki_fail(err, KITH_INVALID, "file is NULL");
    *file = NULL;
    if (!path) return ki_fail(err, KITH_INVALID, "path is NULL");
    ki_store *store;
    KI_TRY(ki_store_open(path, KI_STORE_READ, io, allocator, &store, err));
    *file = (kith_file *)store;
    return KITH_OK;
}

void kith_file_close(kith_file *file)
{
    ki_store_close(store_of(file));
}

/* Hand out the part of a struct that the caller's version of it has. */
static kith_status give(void *theirs, const void *ours, size_t ours_bytes, const char *what, kith_error *err)
{
    size_t known;
    memcpy(&known, theirs, sizeof known);
    if (known < ours_bytes) /* grows with the first field that a later version adds */
        return ki_fail(err, KITH_INVALID, "%s->struct_size is %zu, at least %zu is needed", what, known,
                       ours_bytes);
    memcpy(theirs, ours, ours_bytes);
    memcpy(theirs, &known, sizeof known);
    return KITH_OK;
}

kith_status kith_file_get_info(const kith_file *file, kith_file_info *info, kith_error *err)
{
    const ki_store *store = store_of(file);
    const ki_store_header *head = ki_store_head(store);
    kith_file_info found = {
        .spec = head->spec,
        .metric = head->metric,
        .version = ki_store_version(store),
        .simd = head->simd,
        .rows = head->rows,
        .dim = head->dim,
        .seed = head->seed,
        .bytes = ki_store_file_bytes(store),
        .sections = ki_store_section_count(store),
    };
    return give(info, &found, sizeof found, "info", err);
}

kith_status kith_file_get_section(const kith_file *file, size_t i, kith_file_section *section,
                                  kith_error *err)
{
    const ki_disk_section *disk = ki_store_section(store_of(file), i);
    if (!disk)
        return ki_fail(err, KITH_INVALID, "i is %zu, the file has %zu sections", i,
                       ki_store_section_count(store_of(file)));
    kith_file_section found = {
        .name = disk->name,
        .offset = disk->offset,
        .bytes = disk->bytes,
        .checksum = disk->checksum,
        .element_bytes = disk->element_bytes,
    };
    return give(section, &found, sizeof found, "section", err);
}

kith_status kith_file_verify(kith_file *file, const kith_run *run, uint64_t *content_hash, kith_error *err)
{
    ki_store_proof proof;
    kith_status status = ki_store_verify(store_of(file), run, &proof, err);
    if (status == KITH_OK || status == KITH_CORRUPT) *content_hash = proof.content_hash;
    return status;
}
