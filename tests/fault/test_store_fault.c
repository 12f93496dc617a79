/* Index and vector files when the system fails: every call of a kith_io and every allocation, number 0, 1, 2, ... until
 * all goes well, once and for ever, with several errors. What must hold: a documented code with a message, nothing
 * leaked, the old file whole until the new one is in its place, no temporary file left behind. */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kith/dataset.h>

#include "fault_io.h"
#include "store/index_file.h"

/* Larger than the writer's buffer, so that writes happen before the end as well. */
#define BIG ((size_t)600 << 10)
#define ROWS 800 /* of dim 100: as float32 more than the buffer, too */

static const int faults[] = {EIO, ENOSPC, EMFILE, EACCES, EINTR, FAULT_SHORT};
#define FAULTS (sizeof faults / sizeof *faults)

static char folder[300], path[512];
static unsigned char *big;

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/files", test_folder());
    char command[400];
    snprintf(command, sizeof command, "mkdir -p '%s'", folder);
    assert_int_equal(system(command), 0);
    big = malloc(BIG);
    for (size_t i = 0; i < BIG; i++) big[i] = (unsigned char)(i * 31 >> 3);
    return 0;
}

static int free_big(void **state)
{
    (void)state;
    free(big);
    return 0;
}

/* How many files the folder holds, and how many of them are temporary. */
static size_t count_files(size_t *temporary)
{
    size_t n = 0;
    *temporary = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        n += entry->d_name[0] != '.';
        *temporary += strstr(entry->d_name, ".tmp-") != NULL;
    }
    closedir(dir);
    return n;
}

static void put_old_file(void)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite("the old file", 1, 12, f), 12);
    fclose(f);
}

static int is_old_file(void)
{
    char text[16];
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    size_t bytes = fread(text, 1, sizeof text, f);
    fclose(f);
    return bytes == 12 && memcmp(text, "the old file", 12) == 0;
}

/* ---- what is tried ---- */

static kith_status write_index(const kith_io *io, const kith_allocator *allocator, kith_error *err)
{
    ki_store_header head = {.spec = "Flat", .metric = KITH_L2SQ, .dim = 4, .rows = 2};
    ki_store_writer *writer;
    ki_record record;
    ki_record_init(&record, allocator);
    ki_record_put_u64(&record, "nlist", 7);
    ki_record_put_text(&record, "note", "so many words that the record must grow once more for them");
    kith_status status = ki_store_create(path, io, allocator, &writer, err);
    if (!status) status = ki_store_put_record(writer, "params", &record, err);
    if (!status) status = ki_store_put(writer, "big", big, BIG, 1, err);
    for (int i = 0; i < 20 && !status; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        status = ki_store_put(writer, name, big, 1000, 1, err);
    }
    if (!status) status = ki_store_commit(writer, &head, err);
    ki_store_writer_free(writer);
    ki_record_clear(&record);
    return status;
}

static kith_status read_index(ki_store_mode mode, const kith_io *io, const kith_allocator *allocator,
                              kith_error *err)
{
    ki_store *store;
    const void *data;
    uint64_t nlist;
    ki_record_view record;
    ki_store_proof proof;
    kith_status status = ki_store_open(path, mode, io, allocator, &store, err);
    if (!status) status = ki_store_record_open(store, "params", &record, err);
    if (!status) status = ki_record_get_u64(&record, "nlist", 7, 7, &nlist, err);
    if (!status) status = ki_store_array(store, "big", BIG, 1, &data, err);
    if (!status) assert_memory_equal(data, big, BIG);
    unsigned char *copy = malloc(BIG);
    if (!status) status = ki_store_load(store, "big", BIG, 1, copy, err);
    free(copy);
    if (!status) status = ki_store_verify(store, NULL, &proof, err);
    ki_store_close(store);
    return status;
}

static kith_status read_index_read(const kith_io *io, const kith_allocator *allocator, kith_error *err)
{
    return read_index(KI_STORE_READ, io, allocator, err);
}

static kith_status read_index_map(const kith_io *io, const kith_allocator *allocator, kith_error *err)
{
    return read_index(KI_STORE_MAP, io, allocator, err);
}

/* The format under trial; the file's name has no extension that would tell. */
static kith_dataset_format format;

static kith_status write_vectors(const kith_io *io, const kith_allocator *allocator, kith_error *err)
{
    kith_dataset_writer *writer;
    kith_dataset_writer_options options;
    kith_dataset_writer_options_init(&options);
    options.io = io;
    options.allocator = allocator;
    options.format = format;
    kith_status status = kith_dataset_writer_create(path, 100, &options, &writer, err);
    if (!status) status = kith_dataset_append_u8(writer, big, ROWS / 2, err);
    if (!status) status = kith_dataset_append_u8(writer, big + ROWS / 2 * 100, ROWS / 2, err);
    if (!status) status = kith_dataset_writer_finish(writer, err);
    kith_dataset_writer_free(writer);
    return status;
}

static kith_status read_vectors(const kith_io *io, const kith_allocator *allocator, kith_error *err)
{
    int32_t *rows;
    size_t n, dim;
    kith_dataset_options options;
    kith_dataset_options_init(&options);
    options.io = io;
    options.allocator = allocator;
    options.format = format;
    kith_status status = kith_dataset_load_i32(path, &options, NULL, &rows, &n, &dim, err);
    if (!status) {
        size_t same = 0;
        assert_int_equal(n, ROWS);
        while (same < n * dim && rows[same] == big[same]) same++;
        assert_int_equal(same, n * dim);
    } else {
        assert_null(rows);
    }
    kith_dataset_unload(allocator, rows);
    return status;
}

/* ---- the loops ---- */

typedef kith_status (*scenario)(const kith_io *io, const kith_allocator *allocator, kith_error *err);

static size_t injections; /* of all tests together, told at the end */

/* What a failure may be called. */
static void check_code(kith_status status, const kith_error *err, int fault)
{
    int known = status == KITH_IO || status == KITH_NOMEM;
    if (!known || err->code != status || strncmp(err->message, path, strlen(path)) != 0)
        fail_msg("fault %d: %s '%s'", fault, kith_status_name(status), err->message);
    assert_int_equal(err->sys_errno, fault);
    if (fault == ENOSPC) assert_non_null(strstr(err->message, "No space left on device"));
}

static void fail_io(scenario run, int writes, int fault, int for_ever)
{
    for (size_t n = 0;; n++) {
        kith_error err = {0};
        fault_io io;
        test_allocator allocator;
        size_t temporary;
        fault_io_init(&io, fault, n, for_ever);
        if (for_ever) io.which = FAULT_ANY & ~(unsigned)FAULT_UNLINK; /* what cannot be unlinked stays */
        test_allocator_init(&allocator, SIZE_MAX, 0);
        if (writes) put_old_file();
        kith_status status = run(&io.base, &allocator.base, &err);
        injections += io.injected;
        assert_int_equal(allocator.live, 0);
        assert_int_equal(io.open_files, 0);
        assert_int_equal(io.mapped, 0);
        if (status) check_code(status, &err, fault);
        assert_int_equal(count_files(&temporary), 1);
        assert_int_equal(temporary, 0);
        /* Only when nothing but the folder's fsync failed is the new file in place in spite of an error. */
        if (writes && status && !strstr(err.message, "is written, but")) assert_true(is_old_file());
        if (writes && !status) assert_false(is_old_file());
        if (io.injected == 0) {
            assert_int_equal(status, KITH_OK);
            return;
        }
    }
}

static void fail_memory(scenario run, int writes, int for_ever)
{
    for (size_t n = 0;; n++) {
        kith_error err = {0};
        fault_io io;
        test_allocator allocator;
        size_t temporary;
        fault_io_init(&io, EIO, SIZE_MAX, 0);
        test_allocator_init(&allocator, n, for_ever);
        if (writes) put_old_file();
        kith_status status = run(&io.base, &allocator.base, &err);
        injections++;
        assert_int_equal(allocator.live, 0);
        assert_int_equal(io.open_files, 0);
        assert_int_equal(io.mapped, 0);
        assert_int_equal(count_files(&temporary), 1);
        if (status == KITH_OK && allocator.calls <= n) return;
        assert_int_equal(status, KITH_NOMEM);
        assert_int_equal(err.code, KITH_NOMEM);
        if (writes) assert_true(is_old_file());
    }
}

static void fail_all(scenario run, int writes)
{
    for (size_t f = 0; f < FAULTS; f++)
        for (int for_ever = 0; for_ever < 2; for_ever++)
            if (faults[f] != EINTR || !for_ever) fail_io(run, writes, faults[f], for_ever);
    for (int for_ever = 0; for_ever < 2; for_ever++) fail_memory(run, writes, for_ever);
}

static void index_files_survive_faults(void **state)
{
    (void)state;
    kith_error err;
    snprintf(path, sizeof path, "%s/x.kidx", folder);
    fail_all(write_index, 1);
    assert_ok(write_index(NULL, NULL, &err), &err);
    fail_all(read_index_read, 0);
    fail_all(read_index_map, 0);
    assert_int_equal(unlink(path), 0);
}

static void vector_files_survive_faults(void **state)
{
    (void)state;
    for (int f = KITH_DATASET_FVECS; f <= KITH_DATASET_TEXT; f++) {
        kith_error err;
        format = (kith_dataset_format)f;
        snprintf(path, sizeof path, "%s/x.%s", folder, kith_dataset_format_name(format));
        fail_all(write_vectors, 1);
        assert_ok(write_vectors(NULL, NULL, &err), &err);
        fail_all(read_vectors, 0);
        assert_int_equal(unlink(path), 0);
    }
    fprintf(stderr, "%zu faults injected\n", injections);
}

/* A poisoned writer says so, and does not touch the file again. */
static void a_failed_write_is_final(void **state)
{
    (void)state;
    kith_error err;
    fault_io io;
    ki_store_writer *writer;
    ki_store_header head = {.spec = "Flat", .metric = KITH_L2SQ};
    snprintf(path, sizeof path, "%s/poison.kidx", folder);
    fault_io_init(&io, ENOSPC, 0, 0);
    io.which = FAULT_WRITE;
    assert_ok(ki_store_create(path, &io.base, NULL, &writer, &err), &err);
    assert_int_equal(ki_store_put(writer, "big", big, BIG, 1, &err), KITH_IO);
    size_t calls = io.calls;
    assert_int_equal(ki_store_commit(writer, &head, &err), KITH_INVALID); /* the section is still open */
    assert_int_equal(ki_store_append(writer, big, BIG, &err), KITH_IO);
    assert_non_null(strstr(err.message, "writing failed before"));
    assert_int_equal(io.calls, calls);
    ki_store_writer_free(writer);
    size_t temporary;
    assert_int_equal(count_files(&temporary), 0);

    /* A failed fsync is not tried again. */
    fault_io_init(&io, EIO, 0, 0);
    io.which = FAULT_SYNC;
    assert_ok(ki_store_create(path, &io.base, NULL, &writer, &err), &err);
    assert_int_equal(ki_store_commit(writer, &head, &err), KITH_IO);
    assert_int_equal(ki_store_commit(writer, &head, &err), KITH_IO);
    assert_int_equal(io.calls, 1);
    ki_store_writer_free(writer);
    assert_int_equal(count_files(&temporary), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(index_files_survive_faults),
        cmocka_unit_test(vector_files_survive_faults),
        cmocka_unit_test(a_failed_write_is_final),
    };
    return cmocka_run_group_tests(tests, make_folder, free_big);
}
