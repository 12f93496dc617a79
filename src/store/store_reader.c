/* Reading index files. Nothing in a file is believed before it was compared with the file's real size; the
 * order of the checks is magic, version, header checksum, sizes, directory checksum, each section. */
#include "store/index_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <string.h>

#include "base/checksum.h"
#include "base/error.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/run.h"
#include "store/index_internal.h"

#define CHUNK_BYTES ((size_t)1 << 20) /* of a verification: small beside any cache of the system's */

struct ki_store {
    const kith_allocator *allocator;
    const kith_io *io;
    int fd;                    /* KI_STORE_READ; else -1 */
    int mapped;                /* bytes come from io->map */
    const unsigned char *base; /* KI_STORE_MAP and memory; else NULL */
    uint64_t file_bytes;
    ki_store_header header;
    uint32_t version;
    size_t count;
    ki_disk_section *sections; /* [count], a copy: a mapped file may change under us */
    void **blocks;             /* [count], KI_STORE_READ: what ki_store_array read */
    char *path;
};

/* ---- opening ---- */

/* Copy `size` bytes of the file from an offset that was checked. */
static kith_status fetch(const ki_store *store, uint64_t offset, void *data, size_t size, kith_error *err)
{
    if (store->base) {
        memcpy(data, store->base + offset, size);
        return KITH_OK;
    }
    int64_t got = ki_io_read(store->io, store->fd, data, size, offset);
    if (got < 0) return ki_fail_errno(err, (int)-got, "%s: cannot be read", store->path);
    if ((size_t)got < size)
        return ki_fail(err, KITH_CORRUPT, "%s: became shorter while it was read", store->path);
    return KITH_OK;
}

static kith_status check_header(const ki_store *store, const ki_disk_header *disk, kith_error *err)
{
    static const unsigned char zeros[sizeof disk->reserved];
    const char *path = store->path;
    if (disk->checksum != ki_checksum(disk, offsetof(ki_disk_header, checksum)))
        return ki_fail(err, KITH_CORRUPT, "%s: the checksum of its header is wrong", path);
    if (disk->file_bytes != store->file_bytes)
        return ki_fail(err, KITH_CORRUPT, "%s: has %llu bytes, its header says %llu", path,
                       (unsigned long long)store->file_bytes, (unsigned long long)disk->file_bytes);
    if (disk->section_count > KI_STORE_MAX_SECTIONS)
        return ki_fail(err, KITH_CORRUPT, "%s: its header says %u sections, at most %d are allowed", path,
                       (unsigned)disk->section_count, KI_STORE_MAX_SECTIONS);
    uint64_t directory_bytes = (uint64_t)disk->section_count * sizeof(ki_disk_section);
    if (disk->directory_offset < sizeof *disk || disk->directory_offset % KI_STORE_ALIGN ||
        disk->directory_offset > store->file_bytes ||
        store->file_bytes - disk->directory_offset != directory_bytes)
        return ki_fail(err, KITH_CORRUPT, "%s: its section directory is not at its end", path);
    if (!ki_store_spec_valid(disk->spec))
        return ki_fail(err, KITH_CORRUPT, "%s: the spec in its header is malformed", path);
    if (disk->metric > INT32_MAX || !kith_metric_name((kith_metric)disk->metric))
        return ki_fail(err, KITH_CORRUPT, "%s: the metric in its header is %u, which is none", path,
                       (unsigned)disk->metric);
    if (memcmp(disk->reserved, zeros, sizeof zeros) != 0)
        return ki_fail(err, KITH_CORRUPT, "%s: reserved bytes of its header are not zero", path);
    return KITH_OK;
}

/* What is wrong with section i of the directory, given where the part before it ends; NULL if nothing is. */
static const char *section_fault(const ki_disk_section *sections, size_t i, uint64_t end, uint64_t limit)
{
    const ki_disk_section *section = &sections[i];
    if (!ki_store_name_valid(section->name)) return "has a malformed name";
    for (size_t j = 0; j < i; j++)
        if (memcmp(sections[j].name, section->name, sizeof section->name) == 0) return "has another's name";
    if (section->reserved[0] || section->reserved[1] || section->reserved[2])
        return "has reserved bytes that are not zero";
    if (section->offset < end) return "overlaps what is before it";
    if (section->offset - end >= KI_STORE_BIG_ALIGN) return "leaves a gap before it";
    if (section->offset > limit || section->bytes > limit - section->offset)
        return "reaches beyond its place";
    if (section->offset % ki_store_align_of(section->bytes)) return "is not aligned";
    if (section->element_bytes == 0 || section->bytes % section->element_bytes)
        return "is not a whole number of elements";
    return NULL;
}

static kith_status check_directory(const ki_store *store, uint64_t directory_offset, kith_error *err)
{
    uint64_t end = sizeof(ki_disk_header);
    for (size_t i = 0; i < store->count; i++) {
        const char *fault = section_fault(store->sections, i, end, directory_offset);
        if (fault)
            return ki_fail(err, KITH_CORRUPT, "%s: section %zu ('%.23s') %s", store->path, i,
                           store->sections[i].name, fault);
        end = store->sections[i].offset + store->sections[i].bytes;
    }
    if (directory_offset - end >= KI_STORE_ALIGN)
        return ki_fail(err, KITH_CORRUPT, "%s: leaves a gap before its section directory", store->path);
    return KITH_OK;
}

/* Read and check header and directory; the file's size is known. */
static kith_status open_structure(ki_store *store, kith_error *err)
{
    ki_disk_header disk;
    size_t head = store->file_bytes < sizeof disk ? (size_t)store->file_bytes : sizeof disk;
    memset(&disk, 0, sizeof disk);
    KI_TRY(fetch(store, 0, &disk, head, err));
    if (memcmp(disk.magic, KI_STORE_MAGIC, KI_STORE_MAGIC_BYTES) != 0)
        return ki_fail(err, KITH_FORMAT, "%s: is not a kith index file", store->path);
    if (head >= offsetof(ki_disk_header, section_count) && disk.version != KI_STORE_VERSION)
        return ki_fail(err, KITH_VERSION, "%s: is of format version %u, this program reads version %d",
                       store->path, (unsigned)disk.version, KI_STORE_VERSION);
    if (head < sizeof disk)
        return ki_fail(err, KITH_CORRUPT, "%s: has %zu bytes, too few for its header", store->path, head);
    KI_TRY(check_header(store, &disk, err));

    store->version = disk.version;
    store->header = (ki_store_header){.metric = (kith_metric)disk.metric,
                                      .simd = disk.simd,
                                      .dim = disk.dim,
                                      .rows = disk.rows,
                                      .seed = disk.seed};
    memcpy(store->header.spec, disk.spec, sizeof disk.spec);
    store->count = disk.section_count;
    size_t directory_bytes = store->count * sizeof *store->sections;
    store->sections = ki_alloc(store->allocator, store->count, sizeof *store->sections);
    store->blocks = ki_alloc_zero(store->allocator, store->count, sizeof *store->blocks);
    if (!store->sections || !store->blocks) return ki_fail_nomem(err, directory_bytes);
    KI_TRY(fetch(store, disk.directory_offset, store->sections, directory_bytes, err));
    if (disk.directory_checksum != ki_checksum(store->sections, directory_bytes))
        return ki_fail(err, KITH_CORRUPT, "%s: the checksum of its section directory is wrong", store->path);
    return check_directory(store, disk.directory_offset, err);
}

static kith_status make(const char *path, const kith_io *io, const kith_allocator *allocator,
                        ki_store **store, kith_error *err)
{
    ki_store *made = ki_alloc_zero(allocator, 1, sizeof *made);
    if (!made) return ki_fail_nomem(err, sizeof *made);
    made->allocator = allocator;
    made->io = ki_io(io);
    made->fd = -1;
    made->path = ki_strdup(allocator, path);
    if (!made->path) {
        ki_free(allocator, made);
        return ki_fail_nomem(err, strlen(path) + 1);
    }
    *store = made;
    return KITH_OK;
}

static kith_status open_file(ki_store *store, ki_store_mode mode, kith_error *err)
{
    const kith_io *io = store->io;
    int fd;
    do fd = io->open(io->ctx, store->path, O_RDONLY, 0);
    while (fd == -EINTR);
    if (fd < 0) return ki_fail_errno(err, -fd, "%s: cannot be opened", store->path);
    store->fd = fd;
    int failed = io->size(io->ctx, fd, &store->file_bytes);
    if (failed) return ki_fail_errno(err, -failed, "%s: cannot be read", store->path);
    if (store->file_bytes > PTRDIFF_MAX)
        return ki_fail(err, KITH_UNSUPPORTED, "%s: has %llu bytes, more than this machine can hold",
                       store->path, (unsigned long long)store->file_bytes);
    if (mode == KI_STORE_MAP && store->file_bytes > 0) {
        void *base;
        failed = io->map(io->ctx, fd, (size_t)store->file_bytes, &base);
        if (failed) return ki_fail_errno(err, -failed, "%s: cannot be mapped", store->path);
        store->base = base;
        store->mapped = 1;
        (void)io->close(io->ctx, fd);
        store->fd = -1;
    }
    return open_structure(store, err);
}

kith_status ki_store_open(const char *path, ki_store_mode mode, const kith_io *io,
                          const kith_allocator *allocator, ki_store **result, kith_error *err)
{
    *result = NULL;
    ki_store *store = NULL;
    KI_TRY(make(path, io, allocator, &store, err));
    kith_status status = open_file(store, mode, err);
    if (status) {
        ki_store_close(store);
        return status;
    }
    *result = store;
    return KITH_OK;
}

kith_status ki_store_open_memory(const char *name, const void *data, size_t bytes,
                                 const kith_allocator *allocator, ki_store **result, kith_error *err)
{
    *result = NULL;
    if (!data || (uintptr_t)data % KI_STORE_ALIGN)
        return ki_fail(err, KITH_INVALID, "%s: data is at %p, which is not aligned to %d", name, data,
                       KI_STORE_ALIGN);
    ki_store *store = NULL;
    KI_TRY(make(name, NULL, allocator, &store, err));
    store->base = data;
    store->file_bytes = bytes;
    kith_status status = open_structure(store, err);
    if (status) {
        ki_store_close(store);
        return status;
    }
    *result = store;
    return KITH_OK;
}

void ki_store_close(ki_store *store)
{
    if (!store) return;
    if (store->mapped) (void)store->io->unmap(store->io->ctx, (void *)store->base, (size_t)store->file_bytes);
    if (store->fd >= 0) (void)store->io->close(store->io->ctx, store->fd);
    for (size_t i = 0; store->blocks && i < store->count; i++) ki_free(store->allocator, store->blocks[i]);
    ki_free(store->allocator, store->blocks);
    ki_free(store->allocator, store->sections);
    ki_free(store->allocator, store->path);
    ki_free(store->allocator, store);
}

/* ---- looking inside ---- */

const ki_store_header *ki_store_head(const ki_store *store)
{
    return &store->header;
}

const char *ki_store_path(const ki_store *store)
{
    return store->path;
}

uint32_t ki_store_version(const ki_store *store)
{
    return store->version;
}

uint64_t ki_store_file_bytes(const ki_store *store)
{
    return store->file_bytes;
}

size_t ki_store_section_count(const ki_store *store)
{
    return store->count;
}

const ki_disk_section *ki_store_section(const ki_store *store, size_t i)
{
    return i < store->count ? &store->sections[i] : NULL;
}

/* The number of a section; the count when there is none of that name. */
static size_t section_index(const ki_store *store, const char *name)
{
    size_t i = 0;
    while (i < store->count && strcmp(store->sections[i].name, name) != 0) i++;
    return i;
}

int ki_store_has(const ki_store *store, const char *name)
{
    return section_index(store, name) < store->count;
}

kith_status ki_store_count(const ki_store *store, const char *name, size_t element_bytes, uint64_t *n,
                           kith_error *err)
{
    size_t i = section_index(store, name);
    if (i == store->count) return ki_fail(err, KITH_CORRUPT, "%s: has no section '%s'", store->path, name);
    if (store->sections[i].element_bytes != element_bytes)
        return ki_fail(err, KITH_CORRUPT, "%s: section '%s' has elements of %u bytes, expected %zu",
                       store->path, name, (unsigned)store->sections[i].element_bytes, element_bytes);
    *n = store->sections[i].bytes / element_bytes;
    return KITH_OK;
}

/* Find the section that must hold n elements. */
static kith_status expect(const ki_store *store, const char *name, uint64_t n, size_t element_bytes,
                          size_t *i, kith_error *err)
{
    uint64_t found;
    KI_TRY(ki_store_count(store, name, element_bytes, &found, err));
    if (found != n)
        return ki_fail(err, KITH_CORRUPT, "%s: section '%s' has %llu elements, expected %llu", store->path,
                       name, (unsigned long long)found, (unsigned long long)n);
    *i = section_index(store, name);
    return KITH_OK;
}

static kith_status load_section(const ki_store *store, size_t i, void *data, kith_error *err)
{
    const ki_disk_section *section = &store->sections[i];
    KI_TRY(fetch(store, section->offset, data, (size_t)section->bytes, err));
    if (ki_checksum(data, (size_t)section->bytes) != section->checksum)
        return ki_fail(err, KITH_CORRUPT, "%s: the checksum of section '%s' is wrong", store->path,
                       section->name);
    return KITH_OK;
}

kith_status ki_store_array(ki_store *store, const char *name, uint64_t n, size_t element_bytes,
                           const void **data, kith_error *err)
{
    static const alignas(KI_STORE_ALIGN) unsigned char nothing[KI_STORE_ALIGN];
    size_t i = 0;
    KI_TRY(expect(store, name, n, element_bytes, &i, err));
    const ki_disk_section *section = &store->sections[i];
    if (section->bytes == 0) {
        *data = nothing;
        return KITH_OK;
    }
    if (store->base) {
        *data = store->base + section->offset;
        return KITH_OK;
    }
    if (!store->blocks[i]) {
        void *block = ki_alloc(store->allocator, (size_t)section->bytes, 1);
        if (!block) return ki_fail_nomem(err, (size_t)section->bytes);
        kith_status status = load_section(store, i, block, err);
        if (status) {
            ki_free(store->allocator, block);
            return status;
        }
        store->blocks[i] = block;
    }
    *data = store->blocks[i];
    return KITH_OK;
}

kith_status ki_store_load(ki_store *store, const char *name, uint64_t n, size_t element_bytes, void *data,
                          kith_error *err)
{
    size_t i = 0;
    KI_TRY(expect(store, name, n, element_bytes, &i, err));
    return load_section(store, i, data, err);
}

kith_status ki_store_record_open(ki_store *store, const char *name, ki_record_view *record, kith_error *err)
{
    uint64_t bytes;
    const void *data;
    KI_TRY(ki_store_count(store, name, 1, &bytes, err));
    if (bytes > KI_RECORD_MAX_BYTES)
        return ki_fail(err, KITH_CORRUPT, "%s: section '%s' has %llu bytes, a record has at most %d",
                       store->path, name, (unsigned long long)bytes, KI_RECORD_MAX_BYTES);
    KI_TRY(ki_store_array(store, name, bytes, 1, &data, err));
    size_t i = section_index(store, name);
    *record = (ki_record_view){
        .data = data, .bytes = (size_t)bytes, .file = store->path, .section = store->sections[i].name};
    return ki_record_check(record, err);
}

/* ---- verifying ---- */

/* One pass over the file. */
typedef struct proof_pass {
    ki_hasher whole, part;
    ki_store *store;
    unsigned char *buffer; /* NULL when the bytes are in memory */
    ki_stage stage;
    uint64_t at;
} proof_pass;

static int all_zero(const unsigned char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (data[i]) return 0;
    return 1;
}

/* Go on to `end`; *zero tells whether all bytes passed were zero. */
static kith_status advance(proof_pass *pass, uint64_t end, int *zero, kith_error *err)
{
    *zero = 1;
    ki_hasher_init(&pass->part);
    while (pass->at < end) {
        size_t size = end - pass->at < CHUNK_BYTES ? (size_t)(end - pass->at) : CHUNK_BYTES;
        const unsigned char *data = pass->buffer ? pass->buffer : pass->store->base + pass->at;
        KI_TRY(ki_run_check(pass->stage.run, err));
        if (pass->buffer) KI_TRY(fetch(pass->store, pass->at, pass->buffer, size, err));
        ki_hasher_add(&pass->whole, data, size);
        ki_hasher_add(&pass->part, data, size);
        *zero = *zero && all_zero(data, size);
        pass->at += size;
        ki_stage_report(&pass->stage, pass->at);
    }
    return KITH_OK;
}

static kith_status prove(proof_pass *pass, ki_store_proof *proof, kith_error *err)
{
    const ki_store *store = pass->store;
    const char *first = NULL;
    int padded = 1, zero;
    KI_TRY(advance(pass, sizeof(ki_disk_header), &zero, err));
    for (size_t i = 0; i < store->count; i++) {
        const ki_disk_section *section = &store->sections[i];
        KI_TRY(advance(pass, section->offset, &zero, err));
        padded = padded && zero;
        KI_TRY(advance(pass, section->offset + section->bytes, &zero, err));
        if (ki_hasher_value(&pass->part) == section->checksum) continue;
        if (proof->damaged++ == 0) first = section->name;
    }
    uint64_t directory = store->file_bytes - store->count * sizeof *store->sections;
    KI_TRY(advance(pass, directory, &zero, err));
    padded = padded && zero;
    KI_TRY(advance(pass, store->file_bytes, &zero, err));
    proof->content_hash = ki_hasher_value(&pass->whole);
    if (first)
        return ki_fail(err, KITH_CORRUPT, "%s: the checksum of section '%s' is wrong (%zu of %zu damaged)",
                       store->path, first, proof->damaged, store->count);
    if (!padded) return ki_fail(err, KITH_CORRUPT, "%s: bytes between sections are not zero", store->path);
    return KITH_OK;
}

kith_status ki_store_verify(ki_store *store, const kith_run *run, ki_store_proof *proof, kith_error *err)
{
    *proof = (ki_store_proof){0};
    proof_pass *pass = ki_alloc_zero(store->allocator, 1, sizeof *pass);
    if (!pass) return ki_fail_nomem(err, sizeof *pass);
    kith_status status = KITH_OK;
    pass->store = store;
    ki_hasher_init(&pass->whole);
    if (!store->base) {
        size_t bytes = store->file_bytes < CHUNK_BYTES ? (size_t)store->file_bytes : CHUNK_BYTES;
        pass->buffer = ki_alloc(store->allocator, bytes, 1);
        if (!pass->buffer) status = ki_fail_nomem(err, bytes);
    }
    if (!status) {
        ki_stage_begin(&pass->stage, run, "verifying", store->file_bytes);
        status = prove(pass, proof, err);
    }
    ki_free(store->allocator, pass->buffer);
    ki_free(store->allocator, pass);
    return status;
}
