/* write_vectors.c - vectors to a file and back, in a format told by the file's extension. */
#include <stdio.h>
#include <unistd.h>

#include <kith/dataset.h>

enum { N = 3, DIM = 4 };

static int fail(const kith_error *err)
{
    fprintf(stderr, "%s\n", err->message);
    return 1;
}

int main(void)
{
    const float rows[N][DIM] = {{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10, 11, 12}};
    const char *path = "write_vectors_example.npy"; /* numpy.load reads it */
    kith_dataset_writer *writer = NULL;
    kith_dataset *dataset = NULL;
    kith_error err;

    /* The file appears under its name when it is finished, and not before. */
    if (kith_dataset_writer_create(path, DIM, NULL, &writer, &err) != KITH_OK) return fail(&err);
    if (kith_dataset_append_f32(writer, &rows[0][0], N, &err) != KITH_OK ||
        kith_dataset_writer_finish(writer, &err) != KITH_OK) {
        kith_dataset_writer_free(writer);
        return fail(&err);
    }
    kith_dataset_writer_free(writer);

    /* Rows are read where they are wanted: a file may be larger than memory. */
    float row[DIM];
    int failed = kith_dataset_open(path, NULL, &dataset, &err) != KITH_OK ||
                 kith_dataset_read_f32(dataset, 1, 1, row, &err) != KITH_OK;
    if (failed)
        fail(&err);
    else
        printf("%s: %llu x %zu, %s; row 1 begins with %g\n", kith_dataset_kind(dataset),
               (unsigned long long)kith_dataset_rows(dataset), kith_dataset_dim(dataset),
               kith_element_name(kith_dataset_element(dataset)), (double)row[0]);
    kith_dataset_close(dataset);
    unlink(path);
    return failed || row[0] != 5;
}
