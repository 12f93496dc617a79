/* The index file: what is written comes back, in either mode; the bytes are the ones docs/format.md states. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/file.h>

#include "base/checksum.h"
#include "base/error.h"
#include "store/index_file.h"

static const char *in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

static unsigned char *slurp(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    unsigned char *data = aligned_alloc(64, (*bytes + 127) / 64 * 64);
    assert_int_equal(fread(data, 1, *bytes, f), *bytes);
    fclose(f);
    return data;
}

static const ki_store_header head = {
    .spec = "IVF4,Flat", .metric = KITH_DOT, .simd = 1, .dim = 3, .rows = 5, .seed = 42};

#define BIG ((size_t)1 << 20)

/* Five sections: a record, a small array, an empty one, one in pieces, a big one. */
static kith_status write_sample(const char *path, kith_error *err)
{
    static const float small[15] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    ki_store_writer *writer;
    ki_record record;
    unsigned char *big = malloc(BIG);
    for (size_t i = 0; i < BIG; i++) big[i] = (unsigned char)(i * 7);
    ki_record_init(&record, NULL);
    ki_record_put_u64(&record, "nlist", 4);
    ki_record_put_f64(&record, "alpha", 1.25);
    ki_record_put_text(&record, "note", "hello");
    kith_status status = ki_store_create(path, NULL, NULL, &writer, err);
    if (!status) status = ki_store_put_record(writer, "params", &record, err);
    if (!status) status = ki_store_put(writer, "vectors", small, 15, sizeof *small, err);
    if (!status) status = ki_store_put(writer, "empty", NULL, 0, 8, err);
    if (!status) status = ki_store_begin(writer, "pieces", 2, KI_STORE_UNKNOWN, err);
    for (uint16_t i = 0; i < 1000 && !status; i++) status = ki_store_append(writer, &i, 2, err);
    if (!status) status = ki_store_end(writer, err);
    if (!status) status = ki_store_put(writer, "big", big, BIG, 1, err);
    if (!status) status = ki_store_commit(writer, &head, err);
    ki_store_writer_free(writer);
    ki_record_clear(&record);
    free(big);
    return status;
}

static void check_sample(ki_store *store)
{
    kith_error err;
    const ki_store_header *found = ki_store_head(store);
    assert_string_equal(found->spec, head.spec);
    assert_int_equal(found->metric, KITH_DOT);
    assert_int_equal(found->simd, 1);
    assert_int_equal(found->dim, 3);
    assert_int_equal(found->rows, 5);
    assert_int_equal(found->seed, 42);
    assert_int_equal(ki_store_version(store), KI_STORE_VERSION);
    assert_int_equal(ki_store_section_count(store), 5);
    assert_null(ki_store_section(store, 5));

    const void *data;
    assert_ok(ki_store_array(store, "vectors", 15, 4, &data, &err), &err);
    assert_true((uintptr_t)data % 64 == 0);
    for (int i = 0; i < 15; i++) assert_float_equal(((const float *)data)[i], i + 1, 0);
    assert_ok(ki_store_array(store, "empty", 0, 8, &data, &err), &err);
    assert_non_null(data);
    uint64_t n;
    assert_ok(ki_store_count(store, "pieces", 2, &n, &err), &err);
    assert_int_equal(n, 1000);
    uint16_t pieces[1000];
    assert_ok(ki_store_load(store, "pieces", n, 2, pieces, &err), &err);
    for (int i = 0; i < 1000; i++) assert_int_equal(pieces[i], i);
    assert_ok(ki_store_array(store, "big", BIG, 1, &data, &err), &err);
    for (size_t i = 0; i < BIG; i++) assert_int_equal(((const unsigned char *)data)[i], (i * 7) & 255);

    ki_record_view record;
    assert_ok(ki_store_record_open(store, "params", &record, &err), &err);
    uint64_t nlist = 0;
    double alpha = 0;
    char note[6];
    assert_ok(ki_record_get_u64(&record, "nlist", 1, 100, &nlist, &err), &err);
    assert_ok(ki_record_get_f64(&record, "alpha", 1, 2, &alpha, &err), &err);
    assert_ok(ki_record_get_text(&record, "note", note, sizeof note, &err), &err);
    assert_int_equal(nlist, 4);
    assert_float_equal(alpha, 1.25, 0);
    assert_string_equal(note, "hello");
    assert_true(ki_record_has(&record, "note"));
    assert_false(ki_record_has(&record, "no"));
}

static void sections_come_back_in_each_mode(void **state)
{
    (void)state;
    kith_error err;
    const char *path = in_folder("sample.kidx");
    assert_ok(write_sample(path, &err), &err);
    for (int mode = KI_STORE_READ; mode <= KI_STORE_MAP; mode++) {
        ki_store *store;
        assert_ok(ki_store_open(path, (ki_store_mode)mode, NULL, NULL, &store, &err), &err);
        check_sample(store);
        ki_store_proof proof;
        assert_ok(ki_store_verify(store, NULL, &proof, &err), &err);
        size_t bytes;
        unsigned char *data = slurp(path, &bytes);
        assert_int_equal(proof.content_hash, ki_checksum(data, bytes));
        assert_int_equal(proof.damaged, 0);
        ki_store_close(store);
        assert_ok(ki_store_open_memory("memory", data, bytes, NULL, &store, &err), &err);
        check_sample(store);
        ki_store_close(store);
        assert_int_equal(ki_store_open_memory("memory", data + 1, bytes - 1, NULL, &store, &err),
                         KITH_INVALID);
        free(data);
    }
}

static void the_same_calls_give_the_same_bytes(void **state)
{
    (void)state;
    kith_error err;
    size_t a_bytes, b_bytes;
    assert_ok(write_sample(in_folder("a.kidx"), &err), &err);
    unsigned char *a = slurp(in_folder("a.kidx"), &a_bytes);
    assert_ok(write_sample(in_folder("a.kidx"), &err), &err);
    unsigned char *b = slurp(in_folder("a.kidx"), &b_bytes);
    assert_int_equal(a_bytes, b_bytes);
    assert_memory_equal(a, b, a_bytes);
    free(a);
    free(b);
}

/* The layout of docs/format.md, byte by byte. */
static void the_layout_is_the_published_one(void **state)
{
    (void)state;
    kith_error err;
    ki_store_writer *writer;
    assert_ok(ki_store_create(in_folder("tiny.kidx"), NULL, NULL, &writer, &err), &err);
    assert_ok(ki_store_put(writer, "abc", "\1\2\3\4", 2, 2, &err), &err);
    assert_ok(ki_store_commit(writer, &head, &err), &err);
    ki_store_writer_free(writer);
    size_t bytes;
    unsigned char *data = slurp(in_folder("tiny.kidx"), &bytes);
    static const unsigned char start[] = {
        'K',  'I', 'T', 'H', 'I', 'D', 'X', 0x1a, 1,    0, 0, 0, 1, 0, 0, 0, /* magic, version, sections */
        0x80, 2,   0,   0,   0,   0,   0,   0,    0x40, 2, 0, 0, 0, 0, 0, 0, /* 640 bytes, directory at 576 */
    };
    assert_int_equal(bytes, 512 + 64 + 64);
    assert_memory_equal(data, start, sizeof start);
    uint64_t number;
    memcpy(&number, data + 32, 8);
    assert_int_equal(number, ki_checksum(data + 576, 64));
    memcpy(&number, data + 504, 8);
    assert_int_equal(number, ki_checksum(data, 504));
    static const unsigned char numbers[] = {5,  0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
                                            42, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
    assert_memory_equal(data + 40, numbers, sizeof numbers); /* rows, dim, seed, metric, simd */
    assert_string_equal((char *)data + 72, "IVF4,Flat");
    static const unsigned char section[] = {1, 2, 3, 4, 0, 0, 0, 0};
    assert_memory_equal(data + 512, section, sizeof section);
    assert_string_equal((char *)data + 576, "abc");
    static const unsigned char place[] = {0, 2, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0};
    assert_memory_equal(data + 600, place, sizeof place);
    memcpy(&number, data + 616, 8);
    assert_int_equal(number, ki_checksum("\1\2\3\4", 4));
    static const unsigned char tail[16] = {2};
    assert_memory_equal(data + 624, tail, sizeof tail);
    free(data);
}

static void wrong_use_is_refused(void **state)
{
    (void)state;
    kith_error err;
    ki_store_writer *writer;
    const char *path = in_folder("bad-use.kidx");
    assert_int_equal(ki_store_create("/nonexistent/x.kidx", NULL, NULL, &writer, &err), KITH_NOTFOUND);
    assert_null(writer);
    assert_ok(ki_store_create(path, NULL, NULL, &writer, &err), &err);
    assert_int_equal(ki_store_append(writer, "x", 1, &err), KITH_INVALID);
    assert_int_equal(ki_store_end(writer, &err), KITH_INVALID);
    assert_int_equal(ki_store_put(writer, "Upper", "x", 1, 1, &err), KITH_INVALID);
    assert_int_equal(ki_store_put(writer, "", "x", 1, 1, &err), KITH_INVALID);
    assert_int_equal(ki_store_put(writer, "a234567890123456789012345", "x", 1, 1, &err), KITH_INVALID);
    assert_int_equal(ki_store_put(writer, "x", "x", 1, 0, &err), KITH_INVALID);
    assert_int_equal(ki_store_put(writer, "x", "x", SIZE_MAX, 2, &err), KITH_INVALID);
    assert_ok(ki_store_put(writer, "x", "x", 1, 1, &err), &err);
    assert_int_equal(ki_store_put(writer, "x", "x", 1, 1, &err), KITH_INVALID);
    ki_store_header bad = head;
    bad.spec[0] = 0;
    assert_int_equal(ki_store_commit(writer, &bad, &err), KITH_INVALID);
    bad = head;
    bad.metric = (kith_metric)77;
    assert_int_equal(ki_store_commit(writer, &bad, &err), KITH_INVALID);
    assert_ok(ki_store_begin(writer, "short", 1, 2, &err), &err);
    assert_int_equal(ki_store_commit(writer, &head, &err), KITH_INVALID);
    assert_ok(ki_store_append(writer, "x", 1, &err), &err);
    assert_int_equal(ki_store_end(writer, &err), KITH_INTERNAL);
    ki_store_writer_free(writer);
    FILE *f = fopen(path, "rb");
    assert_null(f); /* not committed: nothing there */
}

static void sections_are_what_was_asked_for(void **state)
{
    (void)state;
    kith_error err;
    const char *path = in_folder("asked.kidx");
    assert_ok(write_sample(path, &err), &err);
    ki_store *store;
    const void *data = &err;
    assert_ok(ki_store_open(path, KI_STORE_MAP, NULL, NULL, &store, &err), &err);
    assert_int_equal(ki_store_array(store, "vectors", 14, 4, &data, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.message, "section 'vectors' has 15 elements, expected 14"));
    assert_int_equal(ki_store_array(store, "vectors", 15, 8, &data, &err), KITH_CORRUPT);
    assert_int_equal(ki_store_array(store, "none", 1, 1, &data, &err), KITH_CORRUPT);
    assert_int_equal(ki_store_array(store, "vectors", (uint64_t)1 << 62, 4, &data, &err), KITH_CORRUPT);
    assert_ptr_equal(data, &err);
    ki_record_view record;
    assert_int_equal(ki_store_record_open(store, "vectors", &record, &err), KITH_CORRUPT);
    assert_ok(ki_store_record_open(store, "params", &record, &err), &err);
    uint64_t nlist;
    double alpha;
    char note[5];
    assert_int_equal(ki_record_get_u64(&record, "nlist", 5, 9, &nlist, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.message, "nlist is 4, allowed 5..9"));
    assert_int_equal(ki_record_get_u64(&record, "alpha", 0, 9, &nlist, &err), KITH_CORRUPT);
    assert_int_equal(ki_record_get_f64(&record, "beta", 0, 9, &alpha, &err), KITH_CORRUPT);
    assert_int_equal(ki_record_get_text(&record, "note", note, sizeof note, &err), KITH_CORRUPT);
    ki_store_close(store);
}

static void records_refuse_bad_names_and_repeats(void **state)
{
    (void)state;
    ki_record record;
    ki_record_init(&record, NULL);
    ki_record_put_u64(&record, "x", 1);
    assert_int_equal(record.bad, KITH_OK);
    ki_record_put_u64(&record, "x", 1);
    assert_int_equal(record.bad, KITH_INVALID);
    ki_record_clear(&record);
    ki_record_put_f64(&record, "X", 1);
    assert_int_equal(record.bad, KITH_INVALID);
    ki_record_clear(&record);
    char *text = malloc(KI_RECORD_MAX_BYTES + 1);
    memset(text, 'x', KI_RECORD_MAX_BYTES);
    text[KI_RECORD_MAX_BYTES] = 0;
    ki_record_put_text(&record, "x", text);
    assert_int_equal(record.bad, KITH_INVALID);
    free(text);
    ki_record_clear(&record);
}

static void the_public_look_inside(void **state)
{
    (void)state;
    kith_error err;
    kith_file *file;
    const char *path = in_folder("public.kidx");
    assert_ok(write_sample(path, &err), &err);
    assert_int_equal(kith_file_open(in_folder("missing"), NULL, NULL, &file, &err), KITH_NOTFOUND);
    assert_null(file);
    path = in_folder("public.kidx");
    assert_ok(kith_file_open(path, NULL, NULL, &file, &err), &err);
    kith_file_info info;
    kith_file_info_init(&info);
    assert_ok(kith_file_get_info(file, &info, &err), &err);
    assert_string_equal(info.spec, "IVF4,Flat");
    assert_int_equal(info.sections, 5);
    info.struct_size = 8;
    assert_int_equal(kith_file_get_info(file, &info, &err), KITH_INVALID);
    kith_file_section section;
    kith_file_section_init(&section);
    assert_ok(kith_file_get_section(file, 4, &section, &err), &err);
    assert_string_equal(section.name, "big");
    assert_int_equal(section.bytes, BIG);
    assert_int_equal(section.offset % 4096, 0);
    assert_int_equal(kith_file_get_section(file, 5, &section, &err), KITH_INVALID);
    uint64_t hash;
    assert_ok(kith_file_verify(file, NULL, &hash, &err), &err);
    kith_file_close(file);
    kith_file_close(NULL);

    FILE *f = fopen(path, "r+b"); /* damage the big section and a byte of padding */
    fseek(f, (long)section.offset + 5, SEEK_SET);
    fputc(1, f);
    fclose(f);
    uint64_t damaged_hash;
    assert_ok(kith_file_open(path, NULL, NULL, &file, &err), &err);
    assert_int_equal(kith_file_verify(file, NULL, &damaged_hash, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.message, "section 'big'"));
    assert_true(hash != damaged_hash);
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.cancel = &cancel;
    kith_cancel_raise(&cancel);
    assert_int_equal(kith_file_verify(file, &run, &hash, &err), KITH_CANCELLED);
    kith_file_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_come_back_in_each_mode),
        cmocka_unit_test(the_same_calls_give_the_same_bytes),
        cmocka_unit_test(the_layout_is_the_published_one),
        cmocka_unit_test(wrong_use_is_refused),
        cmocka_unit_test(sections_are_what_was_asked_for),
        cmocka_unit_test(records_refuse_bad_names_and_repeats),
        cmocka_unit_test(the_public_look_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
