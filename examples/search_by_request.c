/* search_by_request.c - searches that arrive as text: over two vector fields at once, and one that is misspelt. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <kith/collection.h>
#include <kith/fusion.h>
#include <kith/request.h>

static kith_error err;

static int failed(kith_status status)
{
    if (status != KITH_OK) fprintf(stderr, "%s: %s\n", kith_status_name(status), err.message);
    return status != KITH_OK;
}

static kith_status put(kith_collection *collection, int64_t key, const char *payload, float text, float title)
{
    const float of_text[2] = {text, 1}, of_title[2] = {title, 1};
    kith_row row = {.key = key, .payload = payload, .vector = of_text, .dim = 2};
    kith_status status = kith_collection_put(collection, KITH_ROW_ALL, &row, NULL, &err);
    return status == KITH_OK ? kith_collection_put_vector(collection, key, "title", of_title, 2, &err)
                             : status;
}

static int fill(kith_collection *collection)
{
    if (failed(kith_collection_begin(collection, &err))) return 1;
    if (failed(kith_collection_vector_field_add(collection, "title", 2, KITH_L2SQ, NULL, &err))) return 1;
    if (failed(put(collection, 1, "{\"year\":1989}", 1, 9))) return 1;
    if (failed(put(collection, 2, "{\"year\":1999}", 2, 8))) return 1;
    if (failed(put(collection, 3, "{\"year\":2009}", 3, 7))) return 1;
    return failed(kith_collection_commit(collection, &err));
}

/* What cannot be read is said to whoever asked; it is no failure of this program. */
static int answer(kith_collection *collection, const char *text)
{
    kith_request *request;
    kith_found found = {.struct_size = sizeof found};
    if (kith_request_parse(text, strlen(text), NULL, &request, &err) != KITH_OK) {
        printf("refused: %s\n", err.message);
        return 0;
    }
    kith_request_query(request)->max_microseconds = 50000; /* however long the text asks for */
    int bad = failed(kith_request_search(collection, request, &found, &err));
    for (size_t i = 0; !bad && i < found.n; i++)
        printf("%zu. row %" PRId64 ", %s %g\n", i + 1, found.keys[i], found.scored ? "score" : "distance",
               found.values[i]);
    kith_request_free(request);
    return bad;
}

int main(void)
{
    kith_collection *collection;
    remove("example_request.kith");
    if (failed(kith_collection_create("example_request.kith", 2, KITH_L2SQ, NULL, &collection, &err)))
        return 1;
    int bad =
        fill(collection) ||
        answer(collection, "{\"vectors\":[{\"vector\":[1,1]},{\"field\":\"title\",\"vector\":[8,1],"
                           "\"weight\":2}],\"fusion\":\"weighted\",\"filter\":\"year > 1980\",\"k\":2}") ||
        answer(collection, "{\"like\":[3],\"filtre\":\"year > 1990\"}");
    kith_collection_close(collection);
    remove("example_request.kith");
    return bad;
}
