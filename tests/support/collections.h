/* collections.h - what the tests of collections share. */
#ifndef KI_TEST_COLLECTIONS_H
#define KI_TEST_COLLECTIONS_H

#include "support.h"

#include <kith/collection.h>

/* FOLDER/name in a static buffer; four calls may be alive at a time. */
const char *test_path(const char *name);

/* Put the test folder into memory, where there is a file system in memory: for tests that write much and for which
 * nothing depends on a disk. Before the first test_folder. */
void test_folder_in_memory(void);

/* A collection in the test folder, new: what was there by this name is removed. */
kith_collection *test_collection(const char *name, size_t dim, kith_metric metric);

/* Remove a file, or a folder with all that is in it, if it is there. */
void test_remove(const char *path);

/* Remove a closed collection, its log and its segments. */
void test_collection_remove(const char *path);

/* Put rows first..first + n - 1, key i with vector x[i - 1][dim] and payload {"n":i}, in one batch. */
void test_put_rows(kith_collection *c, int64_t first, size_t n, const float *x, size_t dim);

/* The exact answer, by plain loops over the rows with wanted[i] != 0 (NULL: all): key i + 1 has x[i][dim]. */
void test_brute_force(const float *x, const char *wanted, size_t n, size_t dim, kith_metric metric,
                      const float *query, size_t k, int64_t *keys, double *distances);

/* Copy a file. */
void test_copy_file(const char *from, const char *to);

/* The bytes of a file, to be freed. */
unsigned char *test_read_file(const char *path, size_t *size);
void test_write_file(const char *path, const void *bytes, size_t size);

/* The path of the only segment of a collection, in a static buffer; NULL when there is none. */
const char *test_segment_path(const char *collection_path);

#endif
