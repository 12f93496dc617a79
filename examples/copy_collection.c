/* copy_collection.c - a copy of a collection that is brought up to date, and the proof that it is the same. */
#include <inttypes.h>
#include <stdio.h>

#include <kith/collection.h>
#include <kith/copies.h>

static kith_error err;

static int failed(kith_status status)
{
    if (status != KITH_OK) fprintf(stderr, "%s: %s\n", kith_status_name(status), err.message);
    return status != KITH_OK;
}

static int put(kith_collection *collection, int64_t key, float at)
{
    float vector[2] = {at, -at};
    kith_row row = {.key = key, .payload = "{\"colour\":\"red\"}", .vector = vector, .dim = 2};
    if (failed(kith_collection_begin(collection, &err))) return 1;
    if (failed(kith_collection_put(collection, KITH_ROW_ALL, &row, NULL, &err))) return 1;
    return failed(kith_collection_commit(collection, &err));
}

/* The first sync copies all rows, the later ones what has changed. */
static int sync_copy(kith_collection *collection)
{
    kith_copy_report report = {.struct_size = sizeof report};
    if (failed(kith_collection_sync(collection, "example_copy.kith", NULL, &report, &err))) return 1;
    printf("version %" PRIu64 ": %" PRIu64 " rows copied\n", report.version, report.rows);
    return 0;
}

static int compare(kith_collection *collection)
{
    kith_collection *copy;
    kith_difference difference = {.struct_size = sizeof difference};
    if (failed(kith_collection_open("example_copy.kith", NULL, &copy, &err))) return 1;
    int bad = failed(kith_collection_compare(collection, copy, NULL, &difference, &err));
    if (!bad && difference.different)
        printf("row %" PRId64 ": %s is %s here and %s there\n", difference.key, difference.field,
               difference.first, difference.second);
    else if (!bad)
        printf("the same\n");
    kith_collection_close(copy);
    return bad;
}

int main(void)
{
    kith_collection *collection;
    remove("example_source.kith");
    remove("example_copy.kith");
    if (failed(kith_collection_create("example_source.kith", 2, KITH_L2SQ, NULL, &collection, &err)))
        return 1;
    int bad = 0;
    for (int64_t key = 1; key <= 3 && !bad; key++) bad = put(collection, key, (float)key);
    bad = bad || sync_copy(collection) || compare(collection);
    bad = bad || put(collection, 2, 7.5f) || compare(collection); /* not yet */
    bad = bad || sync_copy(collection) || compare(collection);
    kith_collection_close(collection);
    remove("example_source.kith");
    remove("example_copy.kith");
    return bad;
}
