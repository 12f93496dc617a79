/* HDF5: a file in the layout of ann-benchmarks, written here by HDF5 itself. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hdf5.h>

#include <kith/hdf5.h>

static char path[512];

static const char *with(const char *name)
{
    static char joined[600];
    snprintf(joined, sizeof joined, "%s:%s", path, name);
    return joined;
}

static void put(hid_t file, const char *name, hid_t stored, hid_t memory, int rank, const hsize_t *shape,
                const void *data)
{
    hid_t space = H5Screate_simple(rank, shape, NULL);
    hid_t dataset = H5Dcreate2(file, name, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (data) assert_true(H5Dwrite(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
}

static void put_text(hid_t file, const char *text, int variable)
{
    hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, variable ? H5T_VARIABLE : strlen(text));
    if (variable) H5Tset_cset(type, H5T_CSET_UTF8);
    hid_t attribute = H5Acreate2(file, "distance", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(attribute, type, variable ? (const void *)&text : (const void *)text) >= 0);
    H5Aclose(attribute);
    H5Tclose(type);
    H5Sclose(space);
}

static int make_file(void **state)
{
    (void)state;
    static const float train[6] = {1, 2, 3, 4, 5, 6};
    static const int64_t wide[4] = {1, 2, 3, (int64_t)1 << 40};
    static const hsize_t six[2] = {3, 2}, four[2] = {2, 2}, none[2] = {0, 2}, cube[3] = {1, 2, 3},
                         line[1] = {6};
    snprintf(path, sizeof path, "%s/ann.hdf5", test_folder());
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    put(file, "train", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, six, train);
    put(file, "test", H5T_IEEE_F64BE, H5T_NATIVE_FLOAT, 2, six, train);
    put(file, "bytes", H5T_STD_U8LE, H5T_NATIVE_FLOAT, 2, six, train);
    put(file, "neighbors", H5T_STD_I32BE, H5T_NATIVE_FLOAT, 2, six, train);
    put(file, "wide", H5T_STD_I64LE, H5T_NATIVE_INT64, 2, four, wide);
    put(file, "line", H5T_STD_U16LE, H5T_NATIVE_FLOAT, 1, line, train);
    put(file, "none", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, none, NULL);
    put(file, "cube", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, cube, train);
    put(file, "text", H5T_C_S1, H5T_C_S1, 1, line, NULL);
    put_text(file, "angular", 1);
    H5Fclose(file);
    return 0;
}

static void datasets_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        kith_element element;
        size_t rows, dim;
    } all[] = {
        {"train", KITH_ELEMENT_F32, 3, 2}, {"test", KITH_ELEMENT_F64, 3, 2},
        {"bytes", KITH_ELEMENT_U8, 3, 2},  {"neighbors", KITH_ELEMENT_I32, 3, 2},
        {"line", KITH_ELEMENT_I32, 6, 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        kith_error err;
        kith_dataset *ds;
        float x[6];
        assert_ok(kith_hdf5_open(with(all[i].name), "train", NULL, &ds, &err), &err);
        assert_int_equal(kith_dataset_rows(ds), all[i].rows);
        assert_int_equal(kith_dataset_dim(ds), all[i].dim);
        assert_int_equal(kith_dataset_element(ds), all[i].element);
        assert_string_equal(kith_dataset_kind(ds), "hdf5");
        assert_ok(kith_dataset_read_f32(ds, 1, all[i].rows - 1, x + all[i].dim, &err), &err);
        assert_ok(kith_dataset_read_f32(ds, 0, 1, x, &err), &err);
        for (int j = 0; j < 6; j++) assert_float_equal(x[j], j + 1, 0);
        kith_dataset_close(ds);
    }
}

static void the_name_may_be_left_out(void **state)
{
    (void)state;
    kith_error err;
    kith_dataset *ds;
    int32_t row[2];
    assert_ok(kith_hdf5_open(path, "neighbors", NULL, &ds, &err), &err);
    assert_ok(kith_dataset_read_i32(ds, 2, 1, row, &err), &err);
    assert_int_equal(row[1], 6);
    kith_dataset_close(ds);
    assert_true(kith_hdf5_is_path("a.HDF5") && kith_hdf5_is_path("a.h5:b") && kith_hdf5_is_path("x:y.h5"));
    assert_false(kith_hdf5_is_path("a.h5.npy") || kith_hdf5_is_path("a.npy:h5") || kith_hdf5_is_path(".h5"));
}

static void wrong_files_and_names_are_refused(void **state)
{
    (void)state;
    kith_error err;
    kith_dataset *ds;
    assert_int_equal(kith_hdf5_open("/nonexistent.h5", "train", NULL, &ds, &err), KITH_NOTFOUND);
    assert_int_equal(kith_hdf5_open("x.npy", "train", NULL, &ds, &err), KITH_INVALID);
    assert_int_equal(kith_hdf5_open(path, "", NULL, &ds, &err), KITH_INVALID);
    assert_int_equal(kith_hdf5_open(with("nothing"), NULL, NULL, &ds, &err), KITH_NOTFOUND);
    assert_non_null(strstr(err.message, "has no dataset 'nothing'"));
    assert_int_equal(kith_hdf5_open(with("none"), NULL, NULL, &ds, &err), KITH_CORRUPT);
    assert_int_equal(kith_hdf5_open(with("cube"), NULL, NULL, &ds, &err), KITH_UNSUPPORTED);
    assert_int_equal(kith_hdf5_open(with("text"), NULL, NULL, &ds, &err), KITH_UNSUPPORTED);
    assert_null(ds);
    assert_ok(kith_hdf5_open(with("wide"), NULL, NULL, &ds, &err), &err);
    int32_t rows[4];
    assert_int_equal(kith_dataset_read_i32(ds, 0, 2, rows, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "row 1, component 1"));
    kith_dataset_close(ds);

    char other[512];
    snprintf(other, sizeof other, "%s/no.h5", test_folder());
    FILE *f = fopen(other, "wb");
    fputs("this is no HDF5 file", f);
    fclose(f);
    assert_int_equal(kith_hdf5_open(other, "train", NULL, &ds, &err), KITH_FORMAT);
    assert_non_null(strstr(err.message, "HDF5: "));
}

/* Cut anywhere, the file is refused or read, and nothing is left open. */
static void truncated_files_are_refused(void **state)
{
    (void)state;
    char cut[512], data[32768];
    FILE *f = fopen(path, "rb");
    size_t bytes = fread(data, 1, sizeof data, f);
    fclose(f);
    assert_in_range(bytes, 1000, sizeof data - 1);
    snprintf(cut, sizeof cut, "%s/cut.h5", test_folder());
    for (size_t n = 0; n < bytes; n += 61) {
        kith_error err;
        kith_dataset *ds;
        f = fopen(cut, "wb");
        assert_int_equal(fwrite(data, 1, n, f), n);
        fclose(f);
        assert_true(kith_hdf5_open(cut, "train", NULL, &ds, &err) != KITH_OK);
        assert_null(ds);
    }
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

static void the_metric_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        kith_status status;
        kith_metric metric;
    } all[] = {{"euclidean", KITH_OK, KITH_L2SQ},
               {"angular", KITH_OK, KITH_COSINE},
               {"jaccard", KITH_OK, KITH_JACCARD},
               {"manhattan", KITH_UNSUPPORTED, KITH_L2SQ}};
    kith_error err;
    kith_metric metric = KITH_L1;
    assert_ok(kith_hdf5_metric(with("test"), &metric, &err), &err);
    assert_int_equal(metric, KITH_COSINE);
    char other[512];
    snprintf(other, sizeof other, "%s/metric.h5", test_folder());
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        hid_t file = H5Fcreate(other, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        put_text(file, all[i].word, 0);
        H5Fclose(file);
        assert_int_equal(kith_hdf5_metric(other, &metric, &err), all[i].status);
        if (all[i].status == KITH_OK) assert_int_equal(metric, all[i].metric);
    }
    hid_t file = H5Fcreate(other, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    assert_int_equal(kith_hdf5_metric(other, &metric, &err), KITH_NOTFOUND);
}

/* Each allocation of ours fails once. */
static void allocations_may_fail(void **state)
{
    (void)state;
    for (size_t fail = 0;; fail++) {
        kith_error err;
        kith_dataset *ds;
        test_allocator allocator;
        test_allocator_init(&allocator, fail, 0);
        kith_status status = kith_hdf5_open(path, "train", &allocator.base, &ds, &err);
        if (status == KITH_OK) kith_dataset_close(ds);
        assert_int_equal(allocator.live, 0);
        if (status == KITH_OK) break;
        assert_int_equal(status, KITH_NOMEM);
    }
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

/* What is written is read again, over several chunks; until it is finished there is no file, and a failure leaves none. */
static void files_are_written(void **state)
{
    (void)state;
    enum { DIM = 300, ROWS = 2000 };
    kith_error err;
    kith_metric metric;
    kith_hdf5_writer *writer;
    kith_dataset *ds;
    char out[520], part[530];
    float *x = malloc(ROWS * DIM * sizeof *x), *y = malloc(ROWS * DIM * sizeof *y);
    snprintf(out, sizeof out, "%s/out.h5", test_folder());
    snprintf(part, sizeof part, "%s.part", out);
    for (size_t i = 0; i < ROWS * DIM; i++) x[i] = (float)(i % 1009) / 7;
    static const kith_metric metrics[] = {KITH_L2SQ, KITH_COSINE, KITH_DOT, KITH_L1};
    for (size_t m = 0; m < 4; m++) {
        assert_ok(kith_hdf5_writer_create(out, "train", DIM, metrics[m], NULL, &writer, &err), &err);
        for (size_t i = 0, n; i < ROWS; i += n) {
            n = ROWS - i < 700 ? ROWS - i : 700;
            assert_ok(kith_hdf5_append(writer, x + i * DIM, n, &err), &err);
        }
        if (m == 0) assert_int_not_equal(access(out, F_OK), 0);
        assert_ok(kith_hdf5_writer_finish(writer, &err), &err);
        kith_hdf5_writer_free(writer);
        assert_ok(kith_hdf5_open(out, "train", NULL, &ds, &err), &err);
        assert_int_equal(kith_dataset_rows(ds), ROWS);
        assert_ok(kith_dataset_read_f32(ds, 0, ROWS, y, &err), &err);
        assert_memory_equal(x, y, ROWS * DIM * sizeof *x);
        kith_dataset_close(ds);
        assert_ok(kith_hdf5_metric(out, &metric, &err), &err);
        assert_int_equal(metric, metrics[m]);
    }
    assert_ok(kith_hdf5_writer_create(out, "train", DIM, KITH_L1, NULL, &writer, &err), &err);
    assert_int_equal(kith_hdf5_writer_finish(writer, &err), KITH_INVALID); /* no rows: what is there stays */
    kith_hdf5_writer_free(writer);
    kith_hdf5_writer_free(NULL);
    assert_int_equal(access(out, F_OK), 0);
    assert_int_not_equal(access(part, F_OK), 0);
    assert_int_equal(kith_hdf5_writer_create("/no/folder/x.h5", "train", 2, KITH_L1, NULL, &writer, &err),
                     KITH_IO);
    assert_null(writer);
    assert_int_equal(kith_hdf5_writer_create("x.npy", "train", 2, KITH_L1, NULL, &writer, &err),
                     KITH_INVALID);
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
    free(x);
    free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_written),           cmocka_unit_test(datasets_are_read),
        cmocka_unit_test(the_name_may_be_left_out),    cmocka_unit_test(wrong_files_and_names_are_refused),
        cmocka_unit_test(truncated_files_are_refused), cmocka_unit_test(the_metric_is_told),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, make_file, NULL);
}
