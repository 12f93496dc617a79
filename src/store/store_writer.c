/* Writing index files: sections first, in the order they come, then the directory, then the header over the
 * space that was kept for it. */
#include "store/index_file.h"

#include <string.h>

#include "base/checksum.h"
#include "base/error.h"
#include "base/io.h"
#include "base/memory.h"
#include "store/index_internal.h"

struct ki_store_writer {
    ki_hasher hasher; /* of the open section */
    ki_outfile *out;
    const kith_allocator *allocator;
    ki_disk_section *sections;
    size_t count, capacity;
    int open;          /* the last section is still being written */
    uint64_t promised; /* bytes of the open section, or KI_STORE_UNKNOWN */
    char *path;        /* for messages */
};

int ki_store_spec_valid(const char spec[KI_STORE_SPEC_BYTES])
{
    size_t used = 0;
    while (used < KI_STORE_SPEC_BYTES && spec[used] >= 0x20 && spec[used] < 0x7f) used++;
    if (used == 0 || used == KI_STORE_SPEC_BYTES) return 0;
    for (size_t i = used; i < KI_STORE_SPEC_BYTES; i++)
        if (spec[i]) return 0;
    return 1;
}

kith_status ki_store_create(const char *path, const kith_io *io, const kith_allocator *allocator,
                            ki_store_writer **result, kith_error *err)
{
    static const ki_disk_header empty;
    *result = NULL;
    ki_store_writer *writer = ki_alloc_zero(allocator, 1, sizeof *writer);
    if (!writer) return ki_fail_nomem(err, sizeof *writer);
    writer->allocator = allocator;
    kith_status status = KITH_OK;
    writer->path = ki_strdup(allocator, path);
    if (!writer->path) status = ki_fail_nomem(err, strlen(path));
    if (!status) status = ki_outfile_create(path, io, allocator, &writer->out, err);
    if (!status) status = ki_outfile_write(writer->out, &empty, sizeof empty, err);
    if (status) {
        ki_store_writer_free(writer);
        return status;
    }
    *result = writer;
    return KITH_OK;
}

void ki_store_writer_free(ki_store_writer *writer)
{
    if (!writer) return;
    ki_outfile_free(writer->out);
    ki_free(writer->allocator, writer->path);
    ki_free(writer->allocator, writer->sections);
    ki_free(writer->allocator, writer);
}

/* Room for one more directory entry. */
static kith_status grow(ki_store_writer *writer, kith_error *err)
{
    if (writer->count < writer->capacity) return KITH_OK;
    size_t grown = ki_grown(writer->capacity, writer->count + 1);
    ki_disk_section *sections =
        ki_realloc(writer->allocator, writer->sections, writer->count, grown, sizeof *sections);
    if (!sections) return ki_fail_nomem(err, grown * sizeof *sections);
    writer->sections = sections;
    writer->capacity = grown;
    return KITH_OK;
}

kith_status ki_store_begin(ki_store_writer *writer, const char *name, size_t element_bytes, uint64_t bytes,
                           kith_error *err)
{
    ki_disk_section section = {.element_bytes = (uint32_t)element_bytes};
    if (writer->open) return ki_fail(err, KITH_INVALID, "%s: a section is still open", writer->path);
    if (writer->count == KI_STORE_MAX_SECTIONS)
        return ki_fail(err, KITH_INVALID, "%s: more than %d sections", writer->path, KI_STORE_MAX_SECTIONS);
    if (!ki_store_name_set(section.name, name) || element_bytes == 0 || element_bytes > UINT32_MAX)
        return ki_fail(err, KITH_INVALID, "%s: '%s' of %zu bytes an element cannot be a section",
                       writer->path, name, element_bytes);
    for (size_t i = 0; i < writer->count; i++)
        if (strcmp(writer->sections[i].name, name) == 0)
            return ki_fail(err, KITH_INVALID, "%s: section '%s' twice", writer->path, name);
    KI_TRY(grow(writer, err));
    KI_TRY(ki_outfile_pad(writer->out, (size_t)ki_store_align_of(bytes), err));
    section.offset = ki_outfile_size(writer->out);
    writer->sections[writer->count++] = section;
    writer->open = 1;
    writer->promised = bytes;
    ki_hasher_init(&writer->hasher);
    return KITH_OK;
}

kith_status ki_store_append(ki_store_writer *writer, const void *data, size_t bytes, kith_error *err)
{
    if (!writer->open) return ki_fail(err, KITH_INVALID, "%s: no section is open", writer->path);
    ki_hasher_add(&writer->hasher, data, bytes);
    return ki_outfile_write(writer->out, data, bytes, err);
}

kith_status ki_store_end(ki_store_writer *writer, kith_error *err)
{
    if (!writer->open) return ki_fail(err, KITH_INVALID, "%s: no section is open", writer->path);
    ki_disk_section *section = &writer->sections[writer->count - 1];
    section->bytes = ki_outfile_size(writer->out) - section->offset;
    section->checksum = ki_hasher_value(&writer->hasher);
    writer->open = 0;
    if (section->bytes % section->element_bytes ||
        (writer->promised != KI_STORE_UNKNOWN && section->bytes != writer->promised))
        return ki_fail(err, KITH_INTERNAL, "%s: section '%s' got %llu bytes, %llu were promised",
                       writer->path, section->name, (unsigned long long)section->bytes,
                       (unsigned long long)writer->promised);
    return KITH_OK;
}

kith_status ki_store_put(ki_store_writer *writer, const char *name, const void *data, size_t n,
                         size_t element_bytes, kith_error *err)
{
    size_t bytes;
    if (!ki_mul_fits(n, element_bytes, &bytes))
        return ki_fail(err, KITH_INVALID, "%s: section '%s' of %zu x %zu bytes", writer->path, name, n,
                       element_bytes);
    KI_TRY(ki_store_begin(writer, name, element_bytes, bytes, err));
    KI_TRY(ki_store_append(writer, data, bytes, err));
    return ki_store_end(writer, err);
}

kith_status ki_store_put_record(ki_store_writer *writer, const char *name, const ki_record *record,
                                kith_error *err)
{
    if (record->bad)
        return ki_fail(err, record->bad, "%s: section '%s' cannot be filled: %s", writer->path, name,
                       kith_status_text(record->bad));
    return ki_store_put(writer, name, record->data, record->bytes, 1, err);
}

kith_status ki_store_commit(ki_store_writer *writer, const ki_store_header *header, kith_error *err)
{
    if (writer->open) return ki_fail(err, KITH_INVALID, "%s: a section is still open", writer->path);
    if (!ki_store_spec_valid(header->spec))
        return ki_fail(err, KITH_INVALID, "%s: the spec is empty or not printable", writer->path);
    if (!kith_metric_name(header->metric))
        return ki_fail(err, KITH_INVALID, "%s: %d is no metric", writer->path, (int)header->metric);
    KI_TRY(ki_outfile_pad(writer->out, KI_STORE_ALIGN, err));
    size_t directory_bytes = writer->count * sizeof *writer->sections;
    ki_disk_header disk = {
        .magic = KI_STORE_MAGIC,
        .version = KI_STORE_VERSION,
        .section_count = (uint32_t)writer->count,
        .directory_offset = ki_outfile_size(writer->out),
        .directory_checksum = ki_checksum(writer->sections, directory_bytes),
        .rows = header->rows,
        .dim = header->dim,
        .seed = header->seed,
        .metric = (uint32_t)header->metric,
        .simd = header->simd,
    };
    disk.file_bytes = disk.directory_offset + directory_bytes;
    memcpy(disk.spec, header->spec, sizeof disk.spec);
    disk.checksum = ki_checksum(&disk, offsetof(ki_disk_header, checksum));
    KI_TRY(ki_outfile_write(writer->out, writer->sections, directory_bytes, err));
    KI_TRY(ki_outfile_patch(writer->out, 0, &disk, sizeof disk, err));
    return ki_outfile_commit(writer->out, err);
}
