/* search_fields.c - two vectors a row, of what a thing looks like and of what it is called, and a search by both. */
#include <inttypes.h>
#include <stdio.h>

#include <kith/collection.h>
#include <kith/fusion.h>

static kith_error err;

static int failed(kith_status status)
{
    if (status != KITH_OK) fprintf(stderr, "%s: %s\n", kith_status_name(status), err.message);
    return status != KITH_OK;
}

static int put_things(kith_collection *collection)
{
    static const struct {
        const char *payload;
        float looks[3], name[2];
    } things[] = {
        {"{\"name\":\"red apple\"}", {1, 0, 0}, {1, 0}},
        {"{\"name\":\"green apple\"}", {0, 1, 0}, {1, 0.1f}},
        {"{\"name\":\"red ball\"}", {1, 0.1f, 0}, {0, 1}},
    };
    if (failed(kith_collection_begin(collection, &err)) ||
        failed(kith_collection_vector_field_add(collection, "name", 2, KITH_COSINE, "auto", &err)))
        return 1;
    for (size_t i = 0; i < sizeof things / sizeof *things; i++) {
        int64_t key;
        kith_row row = {.payload = things[i].payload, .vector = things[i].looks, .dim = 3};
        if (failed(kith_collection_put(collection, KITH_ROW_ALL, &row, &key, &err)) ||
            failed(kith_collection_put_vector(collection, key, "name", things[i].name, 2, &err)))
            return 1;
    }
    return failed(kith_collection_commit(collection, &err));
}

/* Something green that is called an apple. */
static int show_best(kith_collection *collection)
{
    static const float looks[3] = {0, 1, 0}, name[2] = {1, 0};
    const kith_fused_part parts[] = {{.vector = looks, .dim = 3, .weight = 1},
                                     {.field = "name", .vector = name, .dim = 2, .weight = 1}};
    int64_t keys[3];
    double scores[3];
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = 3;
    if (failed(kith_collection_search_fused(collection, parts, 2, NULL, &query, keys, scores, NULL, &err)))
        return 1;
    for (int i = 0; i < 3; i++) {
        kith_row row;
        if (failed(kith_collection_get(collection, keys[i], KITH_ROW_PAYLOAD, &row, &err))) return 1;
        printf("row %" PRId64 ", score %.4f: %s\n", row.key, scores[i], row.payload);
    }
    return 0;
}

int main(void)
{
    const char *path = "example_fields.kith";
    kith_collection *collection = NULL;
    remove(path);
    int bad = failed(kith_collection_create(path, 3, KITH_L2SQ, NULL, &collection, &err)) ||
              put_things(collection) || show_best(collection);
    kith_collection_close(collection);
    remove(path);
    return bad;
}
