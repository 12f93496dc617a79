/* keep_rows.c - a collection: rows with a payload and a vector that survive the program, found by vector. */
#include <inttypes.h>
#include <stdio.h>

#include <kith/collection.h>

static kith_error err;

static int failed(kith_status status)
{
    if (status != KITH_OK) fprintf(stderr, "%s: %s\n", kith_status_name(status), err.message);
    return status != KITH_OK;
}

/* One batch: when commit answers KITH_OK, all of it is on the disk. */
static int put_cities(kith_collection *collection)
{
    static const struct {
        const char *payload;
        float place[2]; /* latitude, longitude */
    } cities[] = {
        {"{\"city\":\"Lyon\",\"country\":\"France\"}", {45.76f, 4.84f}},
        {"{\"city\":\"Genoa\",\"country\":\"Italy\"}", {44.41f, 8.93f}},
        {"{\"city\":\"Bern\",\"country\":\"Switzerland\"}", {46.95f, 7.45f}},
        {"{\"city\":\"Turin\",\"country\":\"Italy\"}", {45.07f, 7.69f}},
    };
    if (failed(kith_collection_begin(collection, &err))) return 1;
    for (size_t i = 0; i < sizeof cities / sizeof *cities; i++) {
        kith_row row = {.payload = cities[i].payload, .vector = cities[i].place, .dim = 2};
        if (failed(kith_collection_put(collection, KITH_ROW_ALL, &row, NULL, &err))) return 1;
    }
    return failed(kith_collection_commit(collection, &err));
}

static int show_nearest(kith_collection *collection, const float place[2])
{
    int64_t keys[2];
    float distances[2];
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = 2;
    if (failed(kith_collection_search(collection, 1, 2, place, &query, keys, distances, NULL, &err)))
        return 1;
    for (int i = 0; i < 2; i++) {
        kith_row row;
        if (failed(kith_collection_get(collection, keys[i], KITH_ROW_PAYLOAD, &row, &err))) return 1;
        printf("row %" PRId64 " at squared distance %.3f: %s\n", row.key, distances[i], row.payload);
    }
    return 0;
}

int main(void)
{
    static const float milan[2] = {45.46f, 9.19f};
    const char *path = "example_rows.kith";
    kith_collection *collection = NULL;
    remove(path);
    int bad =
        failed(kith_collection_create(path, 2, KITH_L2SQ, NULL, &collection, &err)) || put_cities(collection);
    kith_collection_close(collection);
    collection = NULL;
    bad =
        bad || failed(kith_collection_open(path, NULL, &collection, &err)) || show_nearest(collection, milan);
    kith_collection_close(collection);
    remove(path);
    return bad;
}
