/* Vector files: the published layouts as literal bytes, round trips, and everything that can be wrong with them. */
#include "support.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/dataset.h>

#include "dataset/dataset_internal.h"

static const char *put_file(const char *name, const void *data, size_t bytes)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
    return path;
}

static kith_dataset *open_bytes(const char *name, const void *data, size_t bytes)
{
    kith_error err;
    kith_dataset *ds;
    assert_ok(kith_dataset_open(put_file(name, data, bytes), NULL, &ds, &err), &err);
    return ds;
}

/* Opening, or reading all rows, is refused with that status and a message that holds `says`. */
static void refused(const char *name, const void *data, size_t bytes, kith_status expected, const char *says)
{
    kith_error err = {0};
    float *rows;
    size_t n, dim;
    const char *path = put_file(name, data, bytes);
    kith_status status = kith_dataset_load_f32(path, NULL, NULL, &rows, &n, &dim, &err);
    if (status != expected || !strstr(err.message, says) || strncmp(err.message, path, strlen(path)) != 0)
        fail_msg("%s: %s '%s', expected %s with '%s'", name, kith_status_name(status), err.message,
                 kith_status_name(expected), says);
    assert_null(rows);
}

#define BYTES(literal) literal, sizeof(literal) - 1

/* ---- the layouts ---- */

#define F1 "\0\0\x80\x3f" /* 1.0f */
#define F2 "\0\0\0\x40"   /* 2.0f */
#define F3 "\0\0\x40\x40" /* 3.0f */
#define F4 "\0\0\x80\x40" /* 4.0f */
#define I2 "\2\0\0\0"
#define NPY(dictionary, length) "\x93NUMPY\1\0" length "\0" dictionary

static const struct layout {
    const char *name;
    const char *data;
    size_t bytes;
    kith_element element;
} layouts[] = {
    /* two rows, (1 2) and (3 4), in each format */
    {"a.fvecs", BYTES(I2 F1 F2 I2 F3 F4), KITH_ELEMENT_F32},
    {"a.bvecs", BYTES(I2 "\1\2" I2 "\3\4"), KITH_ELEMENT_U8},
    {"a.ivecs", BYTES(I2 "\1\0\0\0\2\0\0\0" I2 "\3\0\0\0\4\0\0\0"), KITH_ELEMENT_I32},
    {"a.fbin", BYTES(I2 I2 F1 F2 F3 F4), KITH_ELEMENT_F32},
    {"a.u8bin", BYTES(I2 I2 "\1\2\3\4"), KITH_ELEMENT_U8},
    {"f4.npy", BYTES(NPY("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", "\x3b") F1 F2 F3 F4),
     KITH_ELEMENT_F32},
    {"u1.npy", BYTES(NPY("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }\n", "\x3c") "\1\2\3\4"),
     KITH_ELEMENT_U8},
    {"i1.npy", BYTES(NPY("{'descr': '|i1', 'fortran_order': False, 'shape': (2,2)}", "\x38") "\1\2\3\4"),
     KITH_ELEMENT_I8},
    {"f2.npy",
     BYTES(NPY("{\"shape\": (2, 1, 2), \"fortran_order\": False, \"descr\": \"<f2\"}",
               "\x3c") "\0\x3c\0\x40\0\x42\0\x44"),
     KITH_ELEMENT_F16},
    {"i4.npy",
     BYTES(NPY("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2), }",
               "\x3b") "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0"),
     KITH_ELEMENT_I32},
    {"i8.npy",
     BYTES(NPY("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 2), }",
               "\x3b") "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0"),
     KITH_ELEMENT_I64},
    {"f8.npy",
     BYTES(NPY("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }",
               "\x3b") "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\x08\x40\0\0\0\0\0\0\x10\x40"),
     KITH_ELEMENT_F64},
    {"v2.npy",
     BYTES("\x93NUMPY\2\0\x38\0\0\0{'descr': '|u1', 'fortran_order': False, 'shape': (2,2)}\1\2\3\4"),
     KITH_ELEMENT_U8},
    {"spaces.txt", BYTES("1 2\n3 4\n"), KITH_ELEMENT_F32},
    {"tabs.tsv", BYTES("\n1.0\t2\r\n \n+3e0\t40e-1"), KITH_ELEMENT_F32},
    {"commas.csv", BYTES("1,2\n3, 4\n\n"), KITH_ELEMENT_F32},
    {"glove.txt", BYTES(", 1 2\n3 3 4\n"), KITH_ELEMENT_F32},
    {"spaced.txt", BYTES("the 1 2\nat home . 3 4\n"), KITH_ELEMENT_F32},
    {"labelled.csv", BYTES("x y, 1, 2\nz, 3, 4\n"), KITH_ELEMENT_F32},
    {"word2vec.vec", BYTES("2 2\n</s> 1 2\n4 3 4\n"), KITH_ELEMENT_F32},
};

static void each_layout_is_read(void **state)
{
    (void)state;
    kith_error err;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        const struct layout *l = &layouts[i];
        kith_dataset *ds = open_bytes(l->name, l->data, l->bytes);
        float f[4];
        uint8_t u[4];
        int32_t n[4];
        if (kith_dataset_rows(ds) != 2 || kith_dataset_dim(ds) != 2)
            fail_msg("%s: %d x %d", l->name, (int)kith_dataset_rows(ds), (int)kith_dataset_dim(ds));
        assert_int_equal(kith_dataset_element(ds), l->element);
        assert_ok(kith_dataset_read_f32(ds, 1, 1, f + 2, &err), &err);
        assert_ok(kith_dataset_read_f32(ds, 0, 1, f, &err), &err);
        assert_ok(kith_dataset_read_u8(ds, 0, 2, u, &err), &err);
        assert_ok(kith_dataset_read_i32(ds, 0, 2, n, &err), &err);
        for (int j = 0; j < 4; j++) {
            assert_float_equal(f[j], j + 1, 0);
            assert_int_equal(u[j], j + 1);
            assert_int_equal(n[j], j + 1);
        }
        assert_ok(kith_dataset_read_f32(ds, 2, 0, f, &err), &err);
        assert_int_equal(kith_dataset_read_f32(ds, 1, 2, f, &err), KITH_INVALID);
        assert_int_equal(kith_dataset_read_f32(ds, UINT64_MAX, 2, f, &err), KITH_INVALID);
        kith_dataset_close(ds);
    }
}

/* No shorter file is one: but for text and vecs that end with a row, every cut is refused. */
static void every_truncation_is_refused_or_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        const struct layout *l = &layouts[i];
        for (size_t bytes = 0; bytes < l->bytes; bytes++) {
            kith_error err = {0};
            float *rows;
            size_t n, dim;
            char *exact = malloc(bytes + 1);
            memcpy(exact, l->data, bytes);
            kith_status status =
                kith_dataset_load_f32(put_file(l->name, exact, bytes), NULL, NULL, &rows, &n, &dim, &err);
            free(exact);
            int text = kith_dataset_format_of_path(l->name) == KITH_DATASET_TEXT;
            int whole = strstr(l->name, "vecs") && bytes == l->bytes / 2;
            if (status == KITH_OK && !text && !whole) fail_msg("%s cut to %zu bytes", l->name, bytes);
            if (status == KITH_OK) assert_in_range(n, 1, 2);
            if (status != KITH_OK) assert_true(err.message[0] && err.code == status);
            kith_dataset_unload(NULL, rows);
        }
    }
}

static void wrong_files_are_named(void **state)
{
    (void)state;
    kith_error err;
    kith_dataset *ds;
    assert_int_equal(kith_dataset_open("/nonexistent/x.fvecs", NULL, &ds, &err), KITH_NOTFOUND);
    assert_int_equal(kith_dataset_open(test_folder(), NULL, &ds, &err), KITH_INVALID);
    assert_int_equal(kith_dataset_open(NULL, NULL, &ds, &err), KITH_INVALID);
    kith_dataset_options options;
    kith_dataset_options_init(&options);
    options.format = KITH_DATASET_FVECS;
    assert_int_equal(kith_dataset_open(test_folder(), &options, &ds, &err), KITH_IO);
    options.format = (kith_dataset_format)9;
    assert_int_equal(kith_dataset_open(put_file("x.fvecs", "1234", 4), &options, &ds, &err), KITH_INVALID);

    refused("empty.fvecs", BYTES(""), KITH_CORRUPT, "is empty");
    refused("dim0.fvecs", BYTES("\0\0\0\0"), KITH_UNSUPPORTED, "dim 0");
    refused("minus.fvecs", BYTES("\xff\xff\xff\xff" F1), KITH_UNSUPPORTED, "dim -1");
    refused("huge.fvecs", BYTES("\xff\xff\xff\x7f" F1), KITH_UNSUPPORTED, "dim 2147483647");
    refused("dims.fvecs", BYTES(I2 F1 F2 "\3\0\0\0" F3 F4), KITH_CORRUPT,
            "row 1 has dim 3, the first row has 2");
    refused("nan.fvecs", BYTES(I2 F1 F2 I2 F3 "\0\0\xc0\x7f"), KITH_INVALID, "row 1, component 1 is nan");
    refused("inf.fbin", BYTES(I2 I2 F1 F2 "\0\0\x80\xff" F4), KITH_INVALID, "row 1, component 0 is -inf");
    refused("zero.fbin", BYTES("\0\0\0\0\2\0\0\0"), KITH_CORRUPT, "has no rows");
    refused("long.fbin", BYTES(I2 I2 F1 F2 F3 F4 F4), KITH_CORRUPT, "has 28 bytes, its header says");
    refused("big.fbin", BYTES("\xff\xff\xff\xff\0\0\x10\0" F1), KITH_CORRUPT,
            "its header says 4294967295 rows");
    refused("dim.u8bin", BYTES("\1\0\0\0\xff\xff\xff\xff" F1), KITH_UNSUPPORTED, "dim is 4294967295");

    refused("magic.npy", BYTES("\x93NUMPX\1\0\0\0"), KITH_FORMAT, "is not an npy file");
    refused("version.npy", BYTES("\x93NUMPY\4\0\0\0\0\0"), KITH_VERSION, "npy version 4.0");
    refused("length.npy", BYTES("\x93NUMPY\2\0\xff\xff\xff\xff{}"), KITH_CORRUPT,
            "its header has 4294967295");
    refused("fortran.npy",
            BYTES(NPY("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }", "\x3a") F1 F2),
            KITH_FORMAT, "Fortran order");
    refused("endian.npy",
            BYTES(NPY("{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2), }", "\x3b") F1 F2),
            KITH_FORMAT, "big-endian");
    refused("u8.npy", BYTES(NPY("{'descr': '<u8', 'fortran_order': False, 'shape': (1, 1), }", "\x3b") F1 F2),
            KITH_UNSUPPORTED, "elements '<u8'");
    refused("object.npy",
            BYTES(NPY("{'descr': '|O', 'fortran_order': False, 'shape': (1, 2), }", "\x3a") F1 F2),
            KITH_UNSUPPORTED, "elements '|O'");
    refused("twice.npy", BYTES(NPY("{'descr': '<f4', 'descr': '<f4', 'shape': (1, 2), }", "\x33") F1 F2),
            KITH_FORMAT, "malformed");
    refused("empty.npy", BYTES(NPY("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2), }", "\x3b")),
            KITH_CORRUPT, "has no rows");
    refused("scalar.npy", BYTES(NPY("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "\x37") F1),
            KITH_CORRUPT, "has no rows");
    refused(
        "wrap.npy",
        BYTES(NPY("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905, 4)}", "\x4b") F1),
        KITH_CORRUPT, "more than any file holds");
    refused(
        "digits.npy",
        BYTES(NPY("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 4)}", "\x4c") F1),
        KITH_FORMAT, "malformed");

    refused("blank.txt", BYTES(" \n\t\r\n"), KITH_CORRUPT, "has no rows");
    refused("short.txt", BYTES("1.5 2\n3\n"), KITH_CORRUPT, "row 1 has 1 numbers, expected 2");
    refused("long.txt", BYTES("1.5 2\n3 4 5\n"), KITH_CORRUPT, "row 1 has 3 numbers, expected 2");
    refused("word.txt", BYTES("1.5 2\n3 x\n"), KITH_FORMAT, "row 1, component 1 is 'x', which is no finite");
    refused("nan.txt", BYTES("1.5 2\n3 nan\n"), KITH_FORMAT, "'nan'");
    refused("inf.txt", BYTES("1.5 2\ninf 3\n"), KITH_FORMAT, "'inf'");
    refused("1e39.txt", BYTES("1.5 2\n3 1e39\n"), KITH_FORMAT, "'1e39'");
    refused("hex.txt", BYTES("1 0x2\n"), KITH_FORMAT, "'0x2'");
    refused("zero.txt", BYTES("1 2\0\n"), KITH_FORMAT, "component 1");
    refused("gap.csv", BYTES("1,2,3\n4,,5\n"), KITH_FORMAT, "row 1, component 1 is ''");
    refused("glove.txt", BYTES("a 1 2\nb 3 4 5\n"), KITH_CORRUPT, "row 1 has 3 numbers, expected 2");
    refused("only.txt", BYTES("word\n"), KITH_UNSUPPORTED, "dim is 0");
    refused("head.txt", BYTES("3 2\na 1 2\nb 3 4\n"), KITH_CORRUPT, "first line says 3 rows, it has 2");
    refused("head2.txt", BYTES("1 0\na 1 2\n"), KITH_UNSUPPORTED, "dim is 0");
    refused("head3.txt", BYTES("1 3\na 1 2 3 4\n"), KITH_CORRUPT, "row 0 has 4 numbers, expected 3");
}

/* ---- values between types ---- */

static void values_are_kept_or_refused(void **state)
{
    (void)state;
    kith_error err;
    int32_t n[2];
    uint8_t u[2];
    float f[2];
    kith_dataset *ds = open_bytes("half.txt", BYTES("0.5 255\n"));
    assert_int_equal(kith_dataset_read_u8(ds, 0, 1, u, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "row 0, component 0 is 0.5, which uint8 does not hold"));
    kith_dataset_close(ds);
    ds = open_bytes("range.txt", BYTES("255 256\n"));
    assert_int_equal(kith_dataset_read_u8(ds, 0, 1, u, &err), KITH_INVALID);
    assert_ok(kith_dataset_read_i32(ds, 0, 1, n, &err), &err);
    assert_int_equal(n[1], 256);
    kith_dataset_close(ds);
    ds = open_bytes("big.ivecs", BYTES("\2\0\0\0\0\0\0\1\1\0\0\1")); /* 2^24 and 2^24 + 1 */
    assert_int_equal(kith_dataset_read_f32(ds, 0, 1, f, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "component 1 is 16777217, which float32 does not hold"));
    assert_ok(kith_dataset_read_i32(ds, 0, 1, n, &err), &err);
    assert_int_equal(n[1], 16777217);
    kith_dataset_close(ds);
    ds = open_bytes("i8.npy", BYTES(NPY("{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }",
                                        "\x39") "\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x80\0\0\0\0"));
    assert_int_equal(kith_dataset_rows(ds), 2);
    assert_ok(kith_dataset_read_i32(ds, 0, 1, n, &err), &err);
    assert_int_equal(n[0], -1);
    assert_int_equal(kith_dataset_read_i32(ds, 1, 1, n, &err), KITH_INVALID);
    kith_dataset_close(ds);
}

static void numbers_of_text_are_exact(void **state)
{
    (void)state;
    static const char *const good[] = {"0",
                                       "-0",
                                       "1e-45",
                                       "3.4028235e38",
                                       "1e-400",
                                       "0.1",
                                       ".5",
                                       "5.",
                                       "+1e+1",
                                       "123456789012345678901234567890",
                                       "0.000000000000000000000000000001234567",
                                       "16777217",
                                       "1.17549435e-38",
                                       "9007199254740993",
                                       "00000000000000000000001"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        float value = NAN;
        assert_true(ki_text_parse(good[i], strlen(good[i]), &value));
        if (value != strtof(good[i], NULL)) fail_msg("%s: %.9g", good[i], (double)value);
    }
    static const char *const bad[] = {"",   "-",   ".",     "e5",  "1e",  "1e+",   "1 ",           " 1",
                                      "1x", "--1", "1.2.3", "nan", "inf", "0x1p3", "3.4028236e38", "1e400",
                                      "1,5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        float value = 7;
        if (ki_text_parse(bad[i], strlen(bad[i]), &value)) fail_msg("'%s' was taken", bad[i]);
    }
    ki_text_parse("1", 1, &(float){0});
}

static void any_float_survives_printing(void **state)
{
    (void)state;
    uint32_t bits = 12345;
    for (int i = 0; i < 100000; i++) {
        bits = bits * 1664525u + 1013904223u;
        float value, back = NAN;
        char text[32];
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        size_t used = ki_text_print(value, text);
        assert_int_equal(used, strlen(text));
        if (!ki_text_parse(text, used, &back) || memcmp(&back, &value, sizeof value) != 0)
            fail_msg("%.9g became %s", (double)value, text);
    }
    char text[32];
    ki_text_print(0.1f, text);
    assert_string_equal(text, "0.1");
}

/* With a decimal comma, as in half of Europe. Only where such a locale is installed; the conversions must not
 * depend on it. */
static void locales_make_no_difference(void **state)
{
    (void)state;
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8")) {
        fprintf(stderr, "skipped: no locale with a decimal comma is installed\n");
        skip();
    }
    float value = 0;
    char text[32];
    assert_true(ki_text_parse("1.2345678901234567890123", 24, &value));
    assert_float_equal(value, 1.2345679f, 0);
    ki_text_print(-2.5f, text);
    setlocale(LC_NUMERIC, "C");
    assert_string_equal(text, "-2.5");
}

/* ---- writing ---- */

static void round_trip(const char *name, kith_element element, const float *x, size_t n, size_t dim,
                       float error)
{
    kith_error err;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    kith_dataset_writer_options options;
    kith_dataset_writer_options_init(&options);
    options.element = element;
    kith_dataset_writer *writer;
    assert_ok(kith_dataset_writer_create(path, dim, &options, &writer, &err), &err);
    assert_ok(kith_dataset_append_f32(writer, x, n / 3, &err), &err);
    assert_ok(kith_dataset_append_f32(writer, x + n / 3 * dim, n - n / 3, &err), &err);
    assert_ok(kith_dataset_writer_finish(writer, &err), &err);
    kith_dataset_writer_free(writer);
    float *back;
    size_t rows, found_dim;
    assert_ok(kith_dataset_load_f32(path, NULL, NULL, &back, &rows, &found_dim, &err), &err);
    assert_int_equal(rows, n);
    assert_int_equal(found_dim, dim);
    for (size_t i = 0; i < n * dim; i++)
        if (fabsf(back[i] - x[i]) >
            error * (fabsf(x[i]) + 0x1p-14f)) /* float16: relative, absolute when subnormal */
            fail_msg("%s: %g became %g", name, x[i], back[i]);
    kith_dataset_unload(NULL, back);
    kith_dataset *ds; /* from behind, so that text must seek */
    float *row = malloc(dim * sizeof *row);
    assert_ok(kith_dataset_open(path, NULL, &ds, &err), &err);
    for (size_t i = n; i-- > 0;) {
        if (i % 7 && i + 3 < n) continue;
        assert_ok(kith_dataset_read_f32(ds, i, 1, row, &err), &err);
        for (size_t d = 0; d < dim; d++)
            assert_true(fabsf(row[d] - x[i * dim + d]) <= error * (fabsf(row[d]) + 0x1p-14f));
    }
    kith_dataset_close(ds);
    free(row);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{1, 1}, {1000, 3}, {100, 960}, {3, 100000}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t n = shapes[s][0], dim = shapes[s][1];
        float *x = test_vectors(n, dim, 0, test_seed());
        float *whole = malloc(n * dim * sizeof *whole);
        for (size_t i = 0; i < n * dim; i++) whole[i] = fminf(floorf(fabsf(x[i]) * 50), 255);
        round_trip("r.fvecs", KITH_ELEMENT_AUTO, x, n, dim, 0);
        round_trip("r.fbin", KITH_ELEMENT_F32, x, n, dim, 0);
        round_trip("r.npy", KITH_ELEMENT_AUTO, x, n, dim, 0);
        round_trip("h.npy", KITH_ELEMENT_F16, x, n, dim, 0x1p-10f);
        round_trip("r.txt", KITH_ELEMENT_AUTO, x, n, dim, 0);
        round_trip("r.csv", KITH_ELEMENT_AUTO, x, n, dim, 0);
        round_trip("r.tsv", KITH_ELEMENT_AUTO, x, n, dim, 0);
        round_trip("w.bvecs", KITH_ELEMENT_AUTO, whole, n, dim, 0);
        round_trip("w.ivecs", KITH_ELEMENT_I32, whole, n, dim, 0);
        round_trip("w.u8bin", KITH_ELEMENT_U8, whole, n, dim, 0);
        round_trip("u1.npy", KITH_ELEMENT_U8, whole, n, dim, 0);
        round_trip("i4.npy", KITH_ELEMENT_I32, whole, n, dim, 0);
        free(whole);
        free(x);
    }
}

static void the_bytes_written_are_the_layouts(void **state)
{
    (void)state;
    static const uint8_t rows[4] = {1, 2, 3, 4};
    kith_error err;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        const struct layout *l = &layouts[i];
        kith_dataset_writer *writer;
        char path[512], found[512];
        if (strncmp(l->name, "a.", 2) != 0 && strcmp(l->name, "spaces.txt") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", test_folder(), l->name);
        assert_ok(kith_dataset_writer_create(path, 2, NULL, &writer, &err), &err);
        assert_int_equal(kith_dataset_writer_element(writer), l->element);
        assert_ok(kith_dataset_append_u8(writer, rows, 2, &err), &err);
        assert_ok(kith_dataset_writer_finish(writer, &err), &err);
        kith_dataset_writer_free(writer);
        FILE *f = fopen(path, "rb");
        assert_int_equal(fread(found, 1, sizeof found, f), l->bytes);
        fclose(f);
        assert_memory_equal(found, l->data, l->bytes);
    }
    /* NumPy's own header: padded with spaces so that the data begins at a multiple of 64. */
    unsigned char head[KI_NPY_HEADER_BYTES];
    ki_npy_header(KITH_ELEMENT_U8, 60000, 784, head);
    static const char start[] =
        "\x93NUMPY\1\0\x76\0{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 784), } ";
    assert_memory_equal(head, start, sizeof start - 1);
    for (size_t i = sizeof start - 1; i < 127; i++) assert_int_equal(head[i], ' ');
    assert_int_equal(head[127], '\n');
    ki_npy_header(KITH_ELEMENT_F32, UINT64_MAX, KITH_DATASET_MAX_DIM, head);
    assert_int_equal(head[127], '\n');
}

static void wrong_writes_are_refused_and_leave_nothing(void **state)
{
    (void)state;
    kith_error err;
    kith_dataset_writer *writer;
    kith_dataset_writer_options options;
    kith_dataset_writer_options_init(&options);
    char path[512];
    snprintf(path, sizeof path, "%s/no.bvecs", test_folder());
    assert_int_equal(kith_dataset_writer_create("x.dat", 2, NULL, &writer, &err), KITH_INVALID);
    assert_int_equal(kith_dataset_writer_create("/nonexistent/x.npy", 2, NULL, &writer, &err), KITH_NOTFOUND);
    assert_int_equal(kith_dataset_writer_create(path, 0, NULL, &writer, &err), KITH_INVALID);
    assert_int_equal(kith_dataset_writer_create(path, SIZE_MAX, NULL, &writer, &err), KITH_INVALID);
    options.element = KITH_ELEMENT_F32;
    assert_int_equal(kith_dataset_writer_create(path, 2, &options, &writer, &err), KITH_UNSUPPORTED);
    assert_null(writer);
    assert_ok(kith_dataset_writer_create(path, 2, NULL, &writer, &err), &err);
    assert_int_equal(kith_dataset_writer_finish(writer, &err), KITH_INVALID);
    static const float bad[] = {1, 2, 3, 300};
    assert_int_equal(kith_dataset_append_f32(writer, bad, 2, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "row 1, component 1 is 300, which uint8 does not hold"));
    assert_int_equal(kith_dataset_append_f32(writer, bad, 1, &err), KITH_INVALID);
    assert_int_equal(kith_dataset_writer_finish(writer, &err), KITH_INVALID);
    kith_dataset_writer_free(writer);
    kith_dataset_writer_free(NULL);
    assert_null(fopen(path, "rb"));

    options.element = KITH_ELEMENT_F16;
    snprintf(path, sizeof path, "%s/no.npy", test_folder());
    static const float large[] = {1, 65504, 1, 65520, INFINITY, 1};
    assert_ok(kith_dataset_writer_create(path, 2, &options, &writer, &err), &err);
    assert_ok(kith_dataset_append_f32(writer, large, 1, &err), &err);
    assert_int_equal(kith_dataset_append_f32(writer, large + 2, 1, &err), KITH_INVALID);
    kith_dataset_writer_free(writer);
    options.element = KITH_ELEMENT_AUTO;
    assert_ok(kith_dataset_writer_create(path, 2, &options, &writer, &err), &err);
    assert_int_equal(kith_dataset_append_f32(writer, large + 4, 1, &err), KITH_INVALID);
    kith_dataset_writer_free(writer);
}

/* ---- other sources, other names ---- */

static int closed;

static kith_status count_up(void *ctx, uint64_t first, size_t n, void *rows, kith_error *err)
{
    (void)ctx;
    (void)err;
    for (size_t i = 0; i < n * 2; i++) ((int64_t *)rows)[i] = (int64_t)(first * 2 + i);
    return KITH_OK;
}

static void note_close(void *ctx)
{
    (void)ctx;
    closed++;
}

static void rows_may_come_from_elsewhere(void **state)
{
    (void)state;
    kith_error err;
    kith_dataset *ds;
    kith_dataset_source source;
    kith_dataset_source_init(&source);
    source.path = "numbers";
    source.kind = "made";
    source.rows = 1000000;
    source.dim = 2;
    source.element = KITH_ELEMENT_I64;
    assert_int_equal(kith_dataset_from_source(&source, NULL, &ds, &err), KITH_INVALID);
    source.read = count_up;
    source.close = note_close;
    source.rows = 0;
    assert_int_equal(kith_dataset_from_source(&source, NULL, &ds, &err), KITH_INVALID);
    source.rows = 1000000;
    assert_ok(kith_dataset_from_source(&source, NULL, &ds, &err), &err);
    assert_string_equal(kith_dataset_kind(ds), "made");
    assert_string_equal(kith_dataset_path(ds), "numbers");
    float *x = malloc(2000000 * sizeof *x);
    assert_ok(kith_dataset_read_f32(ds, 0, 1000000, x, &err), &err);
    for (int i = 0; i < 2000000; i++) assert_true(x[i] == (float)i);
    free(x);
    kith_dataset_close(ds);
    assert_int_equal(closed, 1);
}

static void formats_have_names(void **state)
{
    (void)state;
    kith_error err;
    kith_dataset_format format;
    assert_ok(kith_dataset_format_parse("u8bin", &format, &err), &err);
    assert_int_equal(format, KITH_DATASET_U8BIN);
    assert_int_equal(kith_dataset_format_parse("hdf5", &format, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "fvecs bvecs ivecs fbin u8bin npy text"));
    assert_int_equal(kith_dataset_format_of_path("a/b.c/x.NPY"), KITH_DATASET_NPY);
    assert_int_equal(kith_dataset_format_of_path("a/b.npy/x"), KITH_DATASET_AUTO);
    assert_string_equal(kith_element_name(KITH_ELEMENT_F16), "float16");
    assert_null(kith_element_name((kith_element)8));
    assert_int_equal(kith_element_bytes(KITH_ELEMENT_I64), 8);
}

static void real_files_are_read(void **state)
{
    (void)state;
    kith_error err;
    kith_dataset *ds;
    const char *path = test_data("fashion-mnist/train_u8.npy");
    if (!path) skip();
    assert_ok(kith_dataset_open(path, NULL, &ds, &err), &err);
    assert_int_equal(kith_dataset_rows(ds), 60000);
    assert_int_equal(kith_dataset_dim(ds), 784);
    kith_dataset_close(ds);
    path = test_data("words/words_100_f16.npy");
    if (!path) skip();
    float *x;
    size_t n, dim;
    assert_ok(kith_dataset_load_f32(path, NULL, NULL, &x, &n, &dim, &err), &err);
    assert_int_equal(n, 52876);
    assert_int_equal(dim, 100);
    double norm = 0;
    for (size_t d = 0; d < dim; d++) norm += (double)x[d] * (double)x[d];
    assert_float_equal(norm, 1, 1e-3); /* unit length, as its README says */
    kith_dataset_unload(NULL, x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_layout_is_read),
        cmocka_unit_test(every_truncation_is_refused_or_whole),
        cmocka_unit_test(wrong_files_are_named),
        cmocka_unit_test(values_are_kept_or_refused),
        cmocka_unit_test(numbers_of_text_are_exact),
        cmocka_unit_test(any_float_survives_printing),
        cmocka_unit_test(locales_make_no_difference),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_bytes_written_are_the_layouts),
        cmocka_unit_test(wrong_writes_are_refused_and_leave_nothing),
        cmocka_unit_test(rows_may_come_from_elsewhere),
        cmocka_unit_test(formats_have_names),
        cmocka_unit_test(real_files_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
