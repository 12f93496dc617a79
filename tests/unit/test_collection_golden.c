/* The collection files of released versions open and hold what they held. KITH_WRITE_GOLDEN=FILE writes the one of the
 * present version anew: only before its release. */
#include "collections.h"

#include <kith/fusion.h>

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

enum { N = 25, DIM = 3 };

static const uint64_t v1_hash = 0xd49084af10451e7a, v2_hash = 0x8fe28247be63a775,
                      v3_hash = 0x79478eb416a0f0a3;

static void golden_vector(int64_t key, float *vector)
{
    for (int d = 0; d < DIM; d++) vector[d] = (float)(key * (d + 1) % 17) / 4;
}

static void write_golden(const char *path)
{
    kith_error err;
    kith_collection *c;
    assert_ok(kith_collection_create(path, DIM, KITH_COSINE, NULL, &c, &err), &err);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int64_t key = 1; key <= N; key++) {
        float vector[DIM];
        golden_vector(key, vector);
        kith_row row = {.key = key * 3,
                        .payload = "{\"z\":[1,2.50,null],\"name\":\"\\u00e9\\t\"}",
                        .vector = key % 5 ? vector : NULL,
                        .dim = DIM,
                        .attachment = "thumbnail",
                        .attachment_size = (size_t)key % 10};
        assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_delete(c, 6, &err), &err);
    assert_ok(kith_collection_meta_set(c, "descriptor", "classic", 7, &err), &err);
    kith_row known = {.payload =
                          "{\"at\":\"2024-02-29\",\"name\":\"b\",\"pos\":{\"lat\":48.5,\"lon\":2.25}}"};
    assert_ok(kith_collection_put_text(c, "text \xc3\xa9", KITH_ROW_PAYLOAD, &known, NULL, &err), &err);
    assert_ok(kith_collection_set_expiry(c, 3, 4000000000, &err), &err);
    assert_ok(kith_collection_field_add(c, "name", KITH_FIELD_TEXT, &err), &err);
    assert_ok(kith_collection_field_add(c, "at", KITH_FIELD_TIME, &err), &err);
    assert_ok(kith_collection_field_add(c, "pos", KITH_FIELD_GEO, &err), &err);
    assert_ok(kith_collection_partition_add(c, "old \xc3\xa9", &err), &err);
    assert_ok(kith_collection_set_partition(c, 9, "old \xc3\xa9", &err), &err);
    assert_ok(kith_collection_vector_field_add(c, "title", 2, KITH_DOT, "Flat", &err), &err);
    assert_ok(kith_collection_put_vector(c, 12, "title", (const float[]){0.5f, -2}, 2, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    kith_collection_close(c);
}

static void version_1_opens(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c;
    const char *path = test_path("golden.kith");
    test_copy_file(KITH_SOURCE_DIR "/tests/golden/collection-v1.kith", path);
    for (int writing = 0; writing < 2; writing++) {
        kith_collection_options options;
        kith_collection_options_init(&options);
        options.read_only = !writing;
        assert_ok(kith_collection_open(path, &options, &c, &err), &err);
        assert_ok(kith_collection_check(c, NULL, &err), &err);
        uint64_t hash, rows, vectors;
        assert_ok(kith_collection_hash(c, NULL, &hash, &err), &err);
        if (hash != v1_hash) fail_msg("content hash 0x%016llx", (unsigned long long)hash);
        assert_ok(kith_collection_count(c, &rows, &vectors, &err), &err);
        assert_int_equal(rows, N - 1);
        assert_int_equal(vectors, N - 1 - N / 5);
        assert_int_equal(kith_collection_dim(c), DIM);
        assert_int_equal(kith_collection_metric(c), KITH_COSINE);
        kith_row row = {0};
        for (int64_t key = 1; key <= N; key++) {
            float vector[DIM];
            if (key == 2) continue;
            golden_vector(key, vector);
            assert_ok(kith_collection_next(c, row.key, KITH_ROW_ALL, &row, &err), &err);
            assert_int_equal(row.key, key * 3);
            assert_string_equal(row.payload, "{\"name\":\"\xc3\xa9\\t\",\"z\":[1,2.5,null]}");
            assert_int_equal(row.vector != NULL, key % 5 != 0);
            if (row.vector) assert_memory_equal(row.vector, vector, sizeof vector);
            assert_int_equal(row.attachment_size, key % 10);
            assert_memory_equal(row.attachment, "thumbnail", row.attachment_size);
        }
        kith_meta meta;
        assert_ok(kith_collection_meta_get(c, "descriptor", &meta, &err), &err);
        assert_int_equal(meta.size, 7);
        assert_memory_equal(meta.value, "classic", 7);
        if (writing) { /* the free slot is used, the next key follows the largest */
            kith_row added = {.payload = "{}"};
            int64_t key;
            assert_ok(kith_collection_begin(c, &err), &err);
            assert_ok(kith_collection_put(c, KITH_ROW_ALL, &added, &key, &err), &err);
            assert_ok(kith_collection_commit(c, &err), &err);
            assert_int_equal(key, 3 * N + 1);
            assert_ok(kith_collection_check(c, NULL, &err), &err);
        }
        kith_collection_close(c);
    }
}

/* What version 2 brought; the rows are those of version 1 and one more. */
static void version_2_opens(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c;
    const char *path = test_path("golden.kith"), *text;
    test_collection_remove(path);
    test_copy_file(KITH_SOURCE_DIR "/tests/golden/collection-v2.kith", path);
    for (int writing = 0; writing < 2; writing++) {
        kith_collection_options options;
        kith_collection_options_init(&options);
        options.read_only = !writing;
        uint64_t hash, n;
        int64_t key, at;
        kith_field fields[3];
        size_t n_fields = 3;
        assert_ok(kith_collection_open(path, &options, &c, &err), &err);
        assert_ok(kith_collection_check(c, NULL, &err), &err);
        assert_ok(kith_collection_hash(c, NULL, &hash, &err), &err);
        if (hash != v2_hash) fail_msg("content hash 0x%016llx", (unsigned long long)hash);
        assert_ok(kith_collection_key_of(c, "text \xc3\xa9", &key, &err), &err);
        assert_int_equal(key, 3 * N + 1);
        assert_ok(kith_collection_text_of(c, key, &text, &err), &err);
        assert_string_equal(text, "text \xc3\xa9");
        assert_ok(kith_collection_get_expiry(c, 3, &at, &err), &err);
        assert_int_equal(at, 4000000000);
        assert_ok(kith_collection_fields(c, fields, &n_fields, &err), &err);
        assert_int_equal(n_fields, 3);
        assert_string_equal(fields[2].name, "pos");
        assert_ok(
            kith_collection_count_where(
                c, "name > \"a\" and at == \"2024-02-29\" and geo_distance(pos, 48.5, 2.25) < 1", &n, &err),
            &err);
        assert_int_equal(n, 1);
        assert_ok(kith_collection_count_where(c, "name == \"\\u00e9\\t\"", &n, &err), &err);
        assert_int_equal(n, N - 1);
        kith_collection_close(c);
    }
}

/* What version 3 brought. */
static void version_3_opens(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c;
    const char *given = getenv("KITH_WRITE_GOLDEN"), *path = test_path("golden.kith"), *name;
    if (given) write_golden(given);
    test_collection_remove(path);
    test_copy_file(given ? given : KITH_SOURCE_DIR "/tests/golden/collection-v3.kith", path);
    for (int writing = 0; writing < 2; writing++) {
        kith_collection_options options;
        kith_collection_options_init(&options);
        options.read_only = !writing;
        uint64_t hash;
        kith_partition part;
        kith_vector_field field;
        size_t parts = 1, fields = 1, dim;
        const float *vector;
        assert_ok(kith_collection_open(path, &options, &c, &err), &err);
        assert_ok(kith_collection_check(c, NULL, &err), &err);
        assert_ok(kith_collection_hash(c, NULL, &hash, &err), &err);
        if (hash != v3_hash) fail_msg("content hash 0x%016llx", (unsigned long long)hash);
        assert_ok(kith_collection_partitions(c, &part, &parts, &err), &err);
        assert_true(parts == 1 && part.rows == 1);
        assert_ok(kith_collection_get_partition(c, 9, &name, &err), &err);
        assert_string_equal(name, "old \xc3\xa9");
        assert_ok(kith_collection_vector_fields(c, &field, &fields, &err), &err);
        assert_true(fields == 1 && field.dim == 2 && field.metric == KITH_DOT && field.vectors == 1);
        assert_string_equal(field.spec, "Flat");
        assert_ok(kith_collection_get_vector(c, 12, "title", &vector, &dim, &err), &err);
        assert_true(vector && vector[0] == 0.5f && vector[1] == -2);
        kith_collection_close(c);
    }
}

/* An older file, read as it is and brought up to date, has neither partitions nor vector fields, and takes both. */
static void version_2_is_brought_up_to_date(void **state)
{
    (void)state;
    kith_error err;
    const char *path = test_path("older.kith"), *name;
    kith_collection *reader, *writer;
    kith_collection_options options;
    size_t n = 0, dim;
    const float *vector;
    uint64_t rows;
    test_copy_file(KITH_SOURCE_DIR "/tests/golden/collection-v2.kith", path);
    kith_collection_options_init(&options);
    options.read_only = 1;
    assert_ok(kith_collection_open(path, &options, &reader, &err), &err);
    assert_ok(kith_collection_partitions(reader, NULL, &n, &err), &err);
    assert_int_equal(n, 0);
    assert_ok(kith_collection_vector_fields(reader, NULL, &n, &err), &err);
    assert_int_equal(n, 0);
    assert_ok(kith_collection_get_partition(reader, 9, &name, &err), &err);
    assert_null(name);
    assert_int_equal(kith_collection_count_where(reader, "$partition == \"a\"", &rows, &err), KITH_VERSION);
    assert_ok(kith_collection_open(path, NULL, &writer, &err), &err);
    assert_ok(kith_collection_begin(writer, &err), &err);
    assert_ok(kith_collection_partition_add(writer, "a", &err), &err);
    assert_ok(kith_collection_set_partition(writer, 9, "a", &err), &err);
    assert_ok(kith_collection_vector_field_add(writer, "title", 1, KITH_L2SQ, NULL, &err), &err);
    assert_ok(kith_collection_put_vector(writer, 9, "title", (const float[]){3}, 1, &err), &err);
    assert_ok(kith_collection_commit(writer, &err), &err);
    assert_ok(kith_collection_check(writer, NULL, &err), &err);
    assert_ok(kith_collection_count_where(reader, "$partition == \"a\"", &rows, &err), &err);
    assert_int_equal(rows, 1);
    assert_ok(kith_collection_get_vector(reader, 9, "title", &vector, &dim, &err), &err);
    assert_true(vector && vector[0] == 3);
    kith_collection_close(reader);
    kith_collection_close(writer);
}

/* Handles that were open when another one brought the file up to date, or when a newer kith did. */
static void versions_are_followed(void **state)
{
    (void)state;
    kith_error err;
    const char *path = test_path("followed.kith");
    kith_collection *reader, *writer;
    kith_collection_options options;
    kith_row row = {0};
    int64_t key;
    sqlite3 *db;
    test_copy_file(KITH_SOURCE_DIR "/tests/golden/collection-v1.kith", path);
    kith_collection_options_init(&options);
    options.read_only = 1;
    assert_ok(kith_collection_open(path, &options, &reader, &err), &err);
    assert_ok(kith_collection_next(reader, 0, 0, &row, &err), &err);
    assert_ok(kith_collection_open(path, NULL, &writer, &err), &err);
    assert_ok(kith_collection_begin(writer, &err), &err);
    assert_ok(kith_collection_set_expiry(writer, row.key, 1, &err), &err);
    assert_ok(kith_collection_put_text(writer, "a", 0, &(kith_row){0}, &key, &err), &err);
    assert_ok(kith_collection_commit(writer, &err), &err);
    assert_int_equal(kith_collection_get(reader, row.key, 0, &row, &err), KITH_NOTFOUND);
    assert_ok(kith_collection_key_of(reader, "a", &key, &err), &err);
    uint64_t hashes[2];
    assert_ok(kith_collection_hash(reader, NULL, &hashes[0], &err), &err);
    assert_ok(kith_collection_hash(writer, NULL, &hashes[1], &err), &err);
    assert_true(hashes[0] == hashes[1]);

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version=4", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(kith_collection_next(reader, 0, 0, &row, &err), KITH_VERSION);
    assert_int_equal(kith_collection_next(writer, 0, 0, &row, &err), KITH_VERSION);
    assert_int_equal(kith_collection_begin(writer, &err), KITH_VERSION);
    kith_collection_close(reader);
    kith_collection_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1_opens), cmocka_unit_test(versions_are_followed),
        cmocka_unit_test(version_2_opens), cmocka_unit_test(version_2_is_brought_up_to_date),
        cmocka_unit_test(version_3_opens),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
