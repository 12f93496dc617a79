/* look_inside.c - what an index file holds, without loading the index, and the proof that it is whole. */
#include <stdio.h>
#include <unistd.h>

#include <kith/file.h>
#include <kith/index.h>

static int make(const char *path, kith_error *err)
{
    enum { N = 500, DIM = 8 };
    static float x[N * DIM];
    for (size_t i = 0; i < N * DIM; i++) x[i] = (float)((i * 7919) % 1009);
    kith_index *index = NULL;
    int failed = kith_index_create("Flat", DIM, NULL, &index, err) != KITH_OK ||
                 kith_index_add(index, x, NULL, N, NULL, err) != KITH_OK ||
                 kith_index_save(index, path, NULL, err) != KITH_OK;
    kith_index_free(index);
    return failed;
}

int main(void)
{
    const char *path = "look_inside_example.kidx";
    kith_error err;
    kith_file *file = NULL;
    kith_file_info info;
    kith_file_info_init(&info);
    uint64_t hash = 0;
    int failed = make(path, &err) || kith_file_open(path, NULL, NULL, &file, &err) != KITH_OK ||
                 kith_file_get_info(file, &info, &err) != KITH_OK;
    if (!failed)
        printf("%s, %llu rows of %llu, %s, %llu bytes\n", info.spec, (unsigned long long)info.rows,
               (unsigned long long)info.dim, kith_metric_name(info.metric), (unsigned long long)info.bytes);
    for (size_t i = 0; !failed && i < info.sections; i++) {
        kith_file_section section;
        kith_file_section_init(&section);
        failed = kith_file_get_section(file, i, &section, &err) != KITH_OK;
        if (!failed) printf("  %-24s %8llu bytes\n", section.name, (unsigned long long)section.bytes);
    }
    failed = failed || kith_file_verify(file, NULL, &hash, &err) != KITH_OK;
    if (failed)
        fprintf(stderr, "%s\n", err.message);
    else
        printf("every checksum is right; content hash %016llx\n", (unsigned long long)hash);
    kith_file_close(file);
    unlink(path);
    return failed;
}
