#include "collections.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void test_folder_in_memory(void)
{
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 0);
}

const char *test_path(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder(), name);
    return path;
}

void test_remove(const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT) return;
    DIR *folder = opendir(path);
    if (!folder) fail_msg("%s cannot be removed", path);
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        char below[1024];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        test_remove(below);
    }
    closedir(folder);
    assert_int_equal(rmdir(path), 0);
}

void test_collection_remove(const char *path)
{
    static const char *const endings[] = {"", "-wal", "-shm", ".d"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char name[600];
        snprintf(name, sizeof name, "%s%s", path, endings[i]);
        test_remove(name);
    }
}

kith_collection *test_collection(const char *name, size_t dim, kith_metric metric)
{
    kith_error err;
    kith_collection *c;
    const char *path = test_path(name);
    test_collection_remove(path);
    assert_ok(kith_collection_create(path, dim, metric, NULL, &c, &err), &err);
    return c;
}

void test_put_rows(kith_collection *c, int64_t first, size_t n, const float *x, size_t dim)
{
    kith_error err;
    assert_ok(kith_collection_begin(c, &err), &err);
    for (size_t i = 0; i < n; i++) {
        char payload[64];
        int64_t key = first + (int64_t)i;
        snprintf(payload, sizeof payload, "{\"n\":%lld}", (long long)key);
        kith_row row = {
            .key = key, .payload = payload, .vector = x ? x + (size_t)(key - 1) * dim : NULL, .dim = dim};
        assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, NULL, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
}

static double distance(const float *a, const float *b, size_t dim, kith_metric metric)
{
    double dot = 0, aa = 0, bb = 0, l1 = 0, l2 = 0;
    for (size_t d = 0; d < dim; d++) {
        dot += (double)a[d] * b[d];
        aa += (double)a[d] * a[d];
        bb += (double)b[d] * b[d];
        l1 += fabs((double)a[d] - b[d]);
        l2 += ((double)a[d] - b[d]) * ((double)a[d] - b[d]);
    }
    switch (metric) {
    case KITH_DOT: return -dot;
    case KITH_COSINE: return aa > 0 && bb > 0 ? 1 - dot / sqrt(aa * bb) : 1;
    case KITH_L1: return l1;
    default: return l2;
    }
}

void test_brute_force(const float *x, const char *wanted, size_t n, size_t dim, kith_metric metric,
                      const float *query, size_t k, int64_t *keys, double *distances)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (wanted && !wanted[i]) continue;
        double d = distance(query, x + i * dim, dim, metric);
        if (found == k && d >= distances[k - 1]) continue;
        size_t at = found < k ? found++ : k - 1;
        while (at > 0 && distances[at - 1] > d) { /* rows come by ascending key, so ties keep their order */
            distances[at] = distances[at - 1];
            keys[at] = keys[at - 1];
            at--;
        }
        distances[at] = d;
        keys[at] = (int64_t)i + 1;
    }
    for (size_t i = found; i < k; i++) {
        keys[i] = 0;
        distances[i] = INFINITY;
    }
}

unsigned char *test_read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*size + 1);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    fclose(f);
    return bytes;
}

void test_write_file(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

void test_copy_file(const char *from, const char *to)
{
    size_t size;
    unsigned char *bytes = test_read_file(from, &size);
    test_write_file(to, bytes, size);
    free(bytes);
}

const char *test_segment_path(const char *collection_path)
{
    static char path[1024];
    char folder[600];
    const char *found = NULL;
    snprintf(folder, sizeof folder, "%s.d", collection_path);
    DIR *dir = opendir(folder);
    if (!dir) return NULL;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        size_t n = strlen(entry->d_name);
        if (n < 5 || strcmp(entry->d_name + n - 5, ".kidx") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        found = path;
    }
    closedir(dir);
    return found;
}
