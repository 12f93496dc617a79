/* Index files from an enemy: cut anywhere, any bit turned over, fields that lie, with the checksums made right again.
 * Whatever the bytes are, opening gives an error or a store whose sections lie inside the file; the sanitizers watch
 * the rest. The files are copied to blocks of their exact size, so that a read beyond the end is seen. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/rng.h"
#include "fault_io.h"
#include "repair.h"
#include "store/index_file.h"

static unsigned char *sample; /* the file that is damaged, in memory */
static size_t sample_bytes;

/* A record, two arrays and an empty section; small, so that every bit of it can be tried. */
static int make_sample(void **state)
{
    (void)state;
    kith_error err;
    char path[512];
    float rows[60];
    for (int i = 0; i < 60; i++) rows[i] = (float)i / 7;
    snprintf(path, sizeof path, "%s/sample.kidx", test_folder());
    ki_store_header head = {.spec = "Flat", .metric = KITH_L2SQ, .dim = 3, .rows = 20, .seed = 1};
    ki_store_writer *writer;
    ki_record record;
    ki_record_init(&record, NULL);
    ki_record_put_u64(&record, "nlist", 16);
    ki_record_put_text(&record, "note", "a text");
    ki_record_put_f64(&record, "alpha", 1.5);
    assert_ok(ki_store_create(path, NULL, NULL, &writer, &err), &err);
    assert_ok(ki_store_put_record(writer, "params", &record, &err), &err);
    assert_ok(ki_store_put(writer, "rows", rows, 20, 12, &err), &err);
    assert_ok(ki_store_put(writer, "empty", NULL, 0, 4, &err), &err);
    assert_ok(ki_store_put(writer, "ids", rows, 20, 8, &err), &err);
    assert_ok(ki_store_commit(writer, &head, &err), &err);
    ki_store_writer_free(writer);
    ki_record_clear(&record);
    FILE *f = fopen(path, "rb");
    sample = malloc(8192);
    sample_bytes = fread(sample, 1, 8192, f);
    fclose(f);
    return 0;
}

static int free_sample(void **state)
{
    (void)state;
    free(sample);
    return 0;
}

/* Use everything that an open store offers; returns a sum so that nothing is optimised away. */
static uint64_t walk(ki_store *store)
{
    uint64_t sum = strlen(ki_store_head(store)->spec) + ki_store_head(store)->rows;
    for (size_t i = 0; i < ki_store_section_count(store); i++) {
        const ki_disk_section *section = ki_store_section(store, i);
        const void *data;
        uint64_t n;
        kith_error err;
        assert_ok(ki_store_count(store, section->name, section->element_bytes, &n, &err), &err);
        if (ki_store_array(store, section->name, n, section->element_bytes, &data, &err) != KITH_OK) continue;
        assert_true((uintptr_t)data % KI_STORE_ALIGN == 0);
        sum += ki_checksum(data, (size_t)(n * section->element_bytes));
        ki_record_view record;
        if (section->element_bytes != 1 ||
            ki_store_record_open(store, section->name, &record, &err) != KITH_OK)
            continue;
        char text[16];
        uint64_t u;
        double d;
        if (ki_record_get_text(&record, "note", text, sizeof text, &err) == KITH_OK) sum += strlen(text);
        if (ki_record_get_u64(&record, "nlist", 0, 100, &u, &err) == KITH_OK) assert_in_range(u, 0, 100);
        if (ki_record_get_f64(&record, "alpha", 0, 9, &d, &err) == KITH_OK) assert_true(d >= 0 && d <= 9);
    }
    return sum;
}

/* Open bytes as a file, in a mode, walk and verify. The status of the first thing that failed. */
static kith_status try_mode(const unsigned char *file, size_t bytes, ki_store_mode mode, kith_error *err)
{
    memory_io io;
    ki_store *store;
    ki_store_proof proof;
    test_allocator allocator;
    test_allocator_init(&allocator, SIZE_MAX, 0);
    memory_io_init(&io, file, bytes);
    kith_status status = ki_store_open("hostile.kidx", mode, &io.base, &allocator.base, &store, err);
    if (status == KITH_OK) {
        walk(store);
        status = ki_store_verify(store, NULL, &proof, err);
        ki_store_close(store);
    }
    assert_int_equal(allocator.live, 0);
    assert_true(status == KITH_OK || (err->code == status && err->message[0]));
    return status;
}

static kith_status try_bytes(const unsigned char *file, size_t bytes, kith_error *err)
{
    kith_status read = try_mode(file, bytes, KI_STORE_READ, err);
    kith_status mapped = try_mode(file, bytes, KI_STORE_MAP, err);
    assert_int_equal(read, mapped);
    return read;
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    kith_error err;
    assert_int_equal(try_bytes(sample, sample_bytes, &err), KITH_OK);
    for (size_t bytes = 0; bytes < sample_bytes; bytes++) {
        kith_status status = try_bytes(sample, bytes, &err);
        assert_int_equal(status, bytes < KI_STORE_MAGIC_BYTES ? KITH_FORMAT : KITH_CORRUPT);
        unsigned char *forged = malloc(bytes + 1);
        memcpy(forged, sample, bytes);
        test_repair_checksums(forged, bytes);
        assert_true(try_bytes(forged, bytes, &err) != KITH_OK);
        free(forged);
    }
    unsigned char *longer = calloc(1, sample_bytes + 64);
    memcpy(longer, sample, sample_bytes);
    assert_int_equal(try_bytes(longer, sample_bytes + 64, &err), KITH_CORRUPT);
    free(longer);
}

/* Not a single bit of the file may change unnoticed; with forged checksums it may, but never with harm. */
static void every_bit_counts(void **state)
{
    (void)state;
    kith_error err;
    unsigned char *file = malloc(sample_bytes);
    for (size_t bit = 0; bit < sample_bytes * 8; bit++) {
        memcpy(file, sample, sample_bytes);
        file[bit / 8] ^= (unsigned char)(1 << bit % 8);
        kith_status status = try_bytes(file, sample_bytes, &err);
        kith_status expected = bit < 8 * KI_STORE_MAGIC_BYTES ? KITH_FORMAT : KITH_CORRUPT;
        if (bit / 8 >= 8 && bit / 8 < 12) expected = KITH_VERSION;
        if (status != expected)
            fail_msg("bit %zu of byte %zu: %s", bit % 8, bit / 8, kith_status_name(status));
        test_repair_checksums(file, sample_bytes);
        (void)try_bytes(file, sample_bytes, &err);
    }
    free(file);
}

static void random_edits_do_no_harm(void **state)
{
    (void)state;
    enum { EDITS = 10000 };
    static const uint64_t spiteful[] = {0,          1,         63,         64,         UINT32_MAX,
                                        UINT64_MAX, INT64_MAX, 1ull << 63, 1ull << 32, UINT64_MAX - 63,
                                        1ull << 61, 4096,      1ull << 20};
    ki_rng rng;
    kith_error err;
    size_t opened = 0;
    ki_rng_init(&rng, test_seed(), 0);
    unsigned char *file = malloc(sample_bytes);
    for (int edit = 0; edit < EDITS; edit++) {
        memcpy(file, sample, sample_bytes);
        for (uint64_t n = 1 + ki_rng_below(&rng, 4); n > 0; n--) {
            /* Half of the edits go to header and directory, where the structure is. */
            size_t at = (size_t)ki_rng_below(&rng, sample_bytes);
            if (ki_rng_below(&rng, 4) == 0) at = (size_t)ki_rng_below(&rng, 80);
            if (ki_rng_below(&rng, 4) == 0) at = sample_bytes - 1 - (size_t)ki_rng_below(&rng, 256);
            if (ki_rng_below(&rng, 2)) {
                file[at] = (unsigned char)ki_rng_u64(&rng);
                continue;
            }
            uint64_t value = spiteful[ki_rng_below(&rng, sizeof spiteful / sizeof *spiteful)];
            at &= ~(size_t)7;
            memcpy(file + at, &value, sample_bytes - at < 8 ? sample_bytes - at : 8);
        }
        test_repair_checksums(file, sample_bytes);
        opened += try_bytes(file, sample_bytes, &err) == KITH_OK;
    }
    free(file);
    assert_in_range(opened, EDITS / 10, EDITS * 9 / 10); /* else the edits would prove nothing */
}

/* ---- lies told on purpose ---- */

static ki_disk_header *head_of(unsigned char *file)
{
    return (ki_disk_header *)file;
}

static ki_disk_section *section_of(unsigned char *file, size_t i)
{
    return (ki_disk_section *)(file + head_of(file)->directory_offset) + i;
}

/* The lie, told with right checksums, is refused with that status and a message that holds `says`. */
static void lie(unsigned char *file, kith_status expected, const char *says)
{
    kith_error err;
    test_repair_checksums(file, sample_bytes);
    kith_status status = try_bytes(file, sample_bytes, &err);
    if (status != expected || !strstr(err.message, says))
        fail_msg("%s '%s', expected %s with '%s'", kith_status_name(status), err.message,
                 kith_status_name(expected), says);
    memcpy(file, sample, sample_bytes);
}

static void lies_of_the_header_are_named(void **state)
{
    (void)state;
    unsigned char *file = aligned_alloc(64, (sample_bytes + 63) / 64 * 64);
    memcpy(file, sample, sample_bytes);
    ki_disk_header *head = head_of(file);
    head->version = 2;
    lie(file, KITH_VERSION, "is of format version 2, this program reads version 1");
    head->magic[7] = 0;
    lie(file, KITH_FORMAT, "is not a kith index file");
    head->file_bytes++;
    lie(file, KITH_CORRUPT, "its header says");
    head->section_count = 5;
    lie(file, KITH_CORRUPT, "directory is not at its end");
    head->section_count = UINT32_MAX;
    lie(file, KITH_CORRUPT, "4294967295 sections, at most 1024");
    head->directory_offset = UINT64_MAX - 63;
    lie(file, KITH_CORRUPT, "directory is not at its end");
    head->directory_offset = 0;
    lie(file, KITH_CORRUPT, "directory is not at its end");
    head->directory_offset += 32;
    lie(file, KITH_CORRUPT, "directory is not at its end");
    head->metric = 6;
    lie(file, KITH_CORRUPT, "metric in its header is 6");
    head->metric = UINT32_MAX;
    lie(file, KITH_CORRUPT, "metric in its header is 4294967295");
    memset(head->spec, 'x', sizeof head->spec);
    lie(file, KITH_CORRUPT, "spec in its header is malformed");
    head->spec[0] = 0;
    lie(file, KITH_CORRUPT, "spec in its header is malformed");
    head->spec[1] = '\n';
    lie(file, KITH_CORRUPT, "spec in its header is malformed");
    head->spec[100] = 'x';
    lie(file, KITH_CORRUPT, "spec in its header is malformed");
    head->reserved[175] = 1;
    lie(file, KITH_CORRUPT, "reserved bytes of its header");
    free(file);
}

static void lies_of_the_directory_are_named(void **state)
{
    (void)state;
    unsigned char *file = aligned_alloc(64, (sample_bytes + 63) / 64 * 64);
    memcpy(file, sample, sample_bytes);
    ki_disk_section *rows = section_of(file, 1);
    rows->offset = section_of(file, 0)->offset;
    lie(file, KITH_CORRUPT, "overlaps what is before it");
    rows->offset = 0;
    lie(file, KITH_CORRUPT, "overlaps what is before it");
    rows->bytes = UINT64_MAX - 15;
    lie(file, KITH_CORRUPT, "reaches beyond its place");
    rows->bytes += 240 * 5;
    lie(file, KITH_CORRUPT, "reaches beyond its place");
    rows->bytes += 120;
    lie(file, KITH_CORRUPT, "section 2 ('empty') overlaps what is before it");
    rows->offset = UINT64_MAX - 63;
    lie(file, KITH_CORRUPT, "leaves a gap");
    rows->offset += 1 << 20;
    lie(file, KITH_CORRUPT, "leaves a gap");
    rows->offset += 12;
    rows->bytes -= 12;
    lie(file, KITH_CORRUPT, "is not aligned");
    rows->element_bytes = 0;
    lie(file, KITH_CORRUPT, "not a whole number of elements");
    rows->element_bytes = 7;
    lie(file, KITH_CORRUPT, "not a whole number of elements");
    rows->bytes--;
    lie(file, KITH_CORRUPT, "not a whole number of elements");
    memcpy(rows->name, section_of(file, 0)->name, sizeof rows->name);
    lie(file, KITH_CORRUPT, "has another's name");
    memset(rows->name, 'x', sizeof rows->name);
    lie(file, KITH_CORRUPT, "has a malformed name");
    rows->name[0] = 0;
    lie(file, KITH_CORRUPT, "has a malformed name");
    rows->name[0] = 'R';
    lie(file, KITH_CORRUPT, "has a malformed name");
    rows->name[20] = 'x';
    lie(file, KITH_CORRUPT, "has a malformed name");
    rows->reserved[2] = 1;
    lie(file, KITH_CORRUPT, "reserved bytes that are not zero");
    section_of(file, 3)->bytes = 0;
    lie(file, KITH_CORRUPT, "leaves a gap before its section directory");
    section_of(file, 0)->offset += 64;
    section_of(file, 0)->bytes -= 64;
    file[KI_STORE_ALIGN * 8]++; /* a byte that is now padding */
    lie(file, KITH_CORRUPT, "bytes between sections are not zero");
    free(file);
}

static void lies_of_a_record_are_named(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        unsigned char value;
        const char *says;
    } lies[] = {
        {0, 'N', "malformed parameter name"},
        {24, 4, "parameter of unknown kind"},
        {24, 0, "parameter of unknown kind"},
        {28, 9, "a number that is not 8 bytes"},
        {40 + 28, 255, "ends inside a parameter"},
        {40 + 31, 255, "ends inside a parameter"},
        {40 + 39, 1, "padding that is not zero"},
        {40 + 28, 49, "ends inside a parameter"},
        {80 + 24, 3, NULL},
    };
    kith_error err;
    ki_record_view record;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        unsigned char *file = aligned_alloc(64, (sample_bytes + 63) / 64 * 64);
        ki_store *store;
        memcpy(file, sample, sample_bytes);
        file[sizeof(ki_disk_header) + lies[i].at] = lies[i].value;
        assert_ok(ki_store_open_memory("lies", file, sample_bytes, NULL, &store, &err), &err);
        kith_status status = ki_store_record_open(store, "params", &record, &err);
        if (lies[i].says) {
            assert_int_equal(status, KITH_CORRUPT);
            if (!strstr(err.message, lies[i].says))
                fail_msg("'%s', expected '%s'", err.message, lies[i].says);
        } else {
            assert_int_equal(status, KITH_OK);
        }
        ki_store_close(store);
        free(file);
    }
}

/* A name twice, and a record that would take for ever to compare with itself. */
static void records_are_unique_and_bounded(void **state)
{
    (void)state;
    kith_error err;
    unsigned char twice[80] = {0};
    for (int i = 0; i < 2; i++) {
        memcpy(twice + i * 40, "x", 1);
        twice[i * 40 + 24] = KI_RECORD_U64;
        twice[i * 40 + 28] = 8;
    }
    ki_record_view view = {twice, sizeof twice, "file", "params"};
    assert_int_equal(ki_record_check(&view, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.message, "has a parameter twice"));

    char path[512];
    unsigned char *zeros = calloc(1, KI_RECORD_MAX_BYTES + 8);
    ki_store_writer *writer;
    ki_store *store;
    ki_store_header head = {.spec = "Flat", .metric = KITH_L2SQ};
    snprintf(path, sizeof path, "%s/record.kidx", test_folder());
    assert_ok(ki_store_create(path, NULL, NULL, &writer, &err), &err);
    assert_ok(ki_store_put(writer, "params", zeros, KI_RECORD_MAX_BYTES + 8, 1, &err), &err);
    assert_ok(ki_store_commit(writer, &head, &err), &err);
    ki_store_writer_free(writer);
    free(zeros);
    assert_ok(ki_store_open(path, KI_STORE_MAP, NULL, NULL, &store, &err), &err);
    assert_int_equal(ki_store_record_open(store, "params", &view, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.message, "a record has at most"));
    ki_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_is_refused),     cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(random_edits_do_no_harm),         cmocka_unit_test(lies_of_the_header_are_named),
        cmocka_unit_test(lies_of_the_directory_are_named), cmocka_unit_test(lies_of_a_record_are_named),
        cmocka_unit_test(records_are_unique_and_bounded),
    };
    return cmocka_run_group_tests(tests, make_sample, free_sample);
}
