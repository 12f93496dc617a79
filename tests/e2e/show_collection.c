/* show_collection.c - what is in a collection, for the tests: a line "KEY<tab>PATH" a row, then its check and its
 * content hash. */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include <kith/collection.h>

static int fail(const char *what, const kith_error *err)
{
    fprintf(stderr, "show_collection: %s: %s\n", what, err->message);
    return 1;
}

int main(int argc, char **argv)
{
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.read_only = 1;
    kith_collection *collection;
    kith_error err;
    kith_row row = {0};
    uint64_t hash, rows, vectors;
    if (argc != 2) return 2;
    if (kith_collection_open(argv[1], &options, &collection, &err) != KITH_OK) return fail(argv[1], &err);
    for (;;) {
        if (kith_collection_next(collection, row.key, KITH_ROW_ALL, &row, &err) != KITH_OK)
            return fail(argv[1], &err);
        if (!row.key) break;
        json_t *payload = json_loadb(row.payload, row.payload_size, 0, NULL);
        printf("%lld\t%s%s%s\n", (long long)row.key, json_string_value(json_object_get(payload, "path")),
               row.vector ? "" : "\tno vector", row.attachment ? "" : "\tno thumbnail");
        json_decref(payload);
    }
    if (kith_collection_check(collection, NULL, &err) != KITH_OK) return fail(argv[1], &err);
    if (kith_collection_count(collection, &rows, &vectors, &err) != KITH_OK) return fail(argv[1], &err);
    if (kith_collection_hash(collection, NULL, &hash, &err) != KITH_OK) return fail(argv[1], &err);
    printf("rows %llu vectors %llu hash %016llx\n", (unsigned long long)rows, (unsigned long long)vectors,
           (unsigned long long)hash);
    kith_collection_close(collection);
    return 0;
}
