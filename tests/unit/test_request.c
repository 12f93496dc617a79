/* Searches as JSON objects: what is read, what is refused and how it is said, and that each is the search that it names. */
#include "collections.h"

#include <kith/fusion.h>
#include <kith/request.h>

#include "engine/request_vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIM 4
#define ROWS 60

static kith_error err;

static void refuse(kith_status got, kith_status wanted, const char *says)
{
    assert_int_equal(got, wanted);
    if (!strstr(err.message, says)) fail_msg("'%s' does not say '%s'", err.message, says);
}

static void put(kith_collection *c, int64_t i)
{
    char payload[64], text[16];
    const float x[DIM] = {(float)i, (float)(i * i % 17), 1, -(float)(i % 5)},
                title[2] = {(float)(ROWS - i), 1};
    snprintf(payload, sizeof payload, "{\"n\":%d,\"third\":%d}", (int)i, (int)(i % 3));
    snprintf(text, sizeof text, "row %d", (int)i);
    kith_row row = {.key = i, .payload = payload, .vector = x, .dim = DIM};
    assert_ok(kith_collection_put_text(c, text, KITH_ROW_ALL, &row, NULL, &err), &err);
    assert_ok(kith_collection_put_vector(c, i, "title", title, 2, &err), &err);
    assert_ok(kith_collection_set_partition(c, i, i % 2 ? "odd" : "even", &err), &err);
}

static kith_collection *filled(const char *name)
{
    kith_collection *c = test_collection(name, DIM, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_vector_field_add(c, "title", 2, KITH_L2SQ, NULL, &err), &err);
    assert_ok(kith_collection_partition_add(c, "odd", &err), &err);
    assert_ok(kith_collection_partition_add(c, "even", &err), &err);
    for (int64_t i = 1; i <= ROWS; i++) put(c, i);
    assert_ok(kith_collection_commit(c, &err), &err);
    return c;
}

static kith_request *parsed(const char *text)
{
    kith_request *r = NULL;
    assert_ok(kith_request_parse(text, strlen(text), NULL, &r, &err), &err);
    return r;
}

/* The keys found are these. */
static void finds(kith_collection *c, const char *text, const int64_t *keys, size_t n)
{
    kith_found found = {.struct_size = sizeof found};
    kith_request *r = parsed(text);
    for (int round = 0; round < 2; round++) { /* a request may be used again */
        assert_ok(kith_request_search(c, r, &found, &err), &err);
        assert_int_equal(found.n, n);
        assert_memory_equal(found.keys, keys, n * sizeof *keys);
        assert_true(found.answer.complete);
    }
    kith_request_free(r);
}

#define FINDS(c, text, ...) \
    finds(c, text, (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static void requests_are_searches(void **state)
{
    (void)state;
    kith_collection *c = filled("requests.kith");
    FINDS(c, "{\"vector\":[30,16,1,0],\"k\":1}", 30);
    FINDS(c, "{\"vector\":[30,16,1,0],\"k\":2,\"filter\":\"n <= 2\"}", 2, 1);
    FINDS(c, "{\"vector\":[30,16,1,0],\"k\":1,\"partitions\":[\"odd\"],\"filter\":\"n >= 59\"}", 59);
    FINDS(c, "{\"vector\":[20,1],\"field\":\"title\",\"k\":3,\"exact\":true}", 40, 39, 41);
    FINDS(c, "{\"vectors\":[{\"field\":\"title\",\"vector\":[20,1]}],\"k\":1,\"offset\":1}", 39);
    FINDS(c, "{\"vector\":[20,1],\"field\":\"title\",\"radius\":1.5}", 40, 39, 41);
    FINDS(c, "{\"like\":[40],\"field\":\"title\",\"k\":2}", 39, 41);
    FINDS(c, "{\"like\":[\"row 40\"],\"field\":\"title\",\"k\":2,\"seconds\":60}", 39, 41);
    FINDS(c, "{\"vector\":[20,1],\"field\":\"title\",\"k\":2,\"group_by\":\"third\",\"group_size\":2}", 40,
          37, 39, 42);
    kith_collection_close(c);
}

static void fields_are_fused(void **state)
{
    (void)state;
    kith_collection *c = filled("fused.kith");
    const float x[DIM] = {30, 16, 1, 0}, title[2] = {20, 1};
    kith_fused_part parts[] = {{NULL, x, DIM, 1}, {"title", title, 2, 2.5}};
    static const char *const texts[] = {
        "{\"vectors\":[{\"vector\":[30,16,1,0]},{\"field\":\"title\",\"vector\":[20,1],\"weight\":2.5}],"
        "\"k\":7,\"fusion\":\"rrf\"}",
        "{\"vectors\":[{\"vector\":[30,16,1,0]},{\"field\":\"title\",\"vector\":[20,1],\"weight\":2.5}],"
        "\"k\":7,\"fusion\":\"weighted\"}"};
    for (int by = 0; by < 2; by++) {
        int64_t keys[7];
        double scores[7];
        kith_fusion_options how;
        kith_collection_query query;
        kith_found found = {.struct_size = sizeof found};
        kith_fusion_options_init(&how);
        kith_collection_query_init(&query);
        how.by = by ? KITH_FUSE_WEIGHTS : KITH_FUSE_RANKS;
        query.k = 7;
        assert_ok(kith_collection_search_fused(c, parts, 2, &how, &query, keys, scores, NULL, &err), &err);
        kith_request *r = parsed(texts[by]);
        assert_ok(kith_request_search(c, r, &found, &err), &err);
        assert_int_equal(found.n, 7);
        assert_true(found.scored);
        assert_memory_equal(found.keys, keys, sizeof keys);
        assert_memory_equal(found.values, scores, sizeof scores);
        kith_request_free(r);
    }
    kith_collection_close(c);
}

static void what_is_no_request_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "request:"},
        {"[1]", "no object"},
        {"{\"vector\":[1,2]", "'}'"},
        {"{}", "one of vector, vectors and like"},
        {"{\"vector\":[1],\"like\":[1]}", "one of vector, vectors and like"},
        {"{\"vector\":[1],\"filtre\":\"n > 1\"}", "no member 'filtre'"},
        {"{\"vector\":[1],\"k\":1,\"k\":2}", "duplicate"},
        {"{\"vector\":[1],\"filter\":\"n >\"}", "at byte"},
        {"{\"vector\":[1],\"filter\":3}", "filter must be a string"},
        {"{\"vector\":[]}", "vector must be an array of 1.."},
        {"{\"vector\":[1,\"2\"]}", "element 1 of vector"},
        {"{\"vector\":[1e39]}", "element 0 of vector"},
        {"{\"vector\":[1],\"k\":0}", "k must be a whole number, 1.."},
        {"{\"vector\":[1],\"k\":2.5}", "k must be"},
        {"{\"vector\":[1],\"exact\":1}", "exact must be true or false"},
        {"{\"vector\":[1],\"target_recall\":1.5}", "target_recall must be a number, 0..1"},
        {"{\"vector\":[1],\"partitions\":\"a\"}", "partitions must be an array"},
        {"{\"vector\":[1],\"partitions\":[1]}", "element 0 of partitions"},
        {"{\"vector\":[1],\"fusion\":\"rrf\"}", "fusion is for several"},
        {"{\"vector\":[1],\"radius\":1,\"group_by\":\"a\"}", "not together"},
        {"{\"vector\":[1],\"k\":5000,\"group_by\":\"a\",\"group_size\":3}", "k must be"},
        {"{\"like\":[0]}", "element 0 of like"},
        {"{\"unlike\":[1],\"vector\":[1]}", "unlike needs like"},
        {"{\"vectors\":[{\"vector\":[1]},{\"weight\":1}]}", "vector is missing"},
        {"{\"vectors\":[{\"vector\":[1],\"wait\":1}]}", "no member 'wait'"},
        {"{\"vectors\":[{\"vector\":[1],\"weight\":0}]}", "weight must be"},
        {"{\"vectors\":[{\"vector\":[1]}],\"field\":\"a\"}", "field stands in"},
        {"{\"vectors\":[{\"vector\":[1]},{\"vector\":[2]}],\"fusion\":\"sum\"}", "fusion is 'sum'"},
        {"{\"vectors\":[1]}", "element 0 of vectors is no object"},
        {"{\"vector\":[1],\"field\":\"a\\u0000b\"}", "request:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kith_request *r = (kith_request *)&err;
        refuse(kith_request_parse(cases[i].text, strlen(cases[i].text), NULL, &r, &err), KITH_INVALID,
               cases[i].says);
        assert_null(r);
    }
    kith_request_free(NULL);
}

static void collections_refuse_what_they_have_not(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
        kith_status status;
    } cases[] = {
        {"{\"vector\":[1]}", "components", KITH_INVALID},
        {"{\"vector\":[1],\"field\":\"titel\"}", "no vector field 'titel'", KITH_NOTFOUND},
        {"{\"like\":[\"nothing\"]}", "no row 'nothing'", KITH_NOTFOUND},
        {"{\"like\":[99]}", "no row 99", KITH_NOTFOUND},
        {"{\"like\":[1],\"partitions\":[\"x\"]}", "no partition 'x'", KITH_NOTFOUND},
    };
    kith_collection *c = filled("refused.kith");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kith_found found = {.struct_size = sizeof found, .n = 77};
        kith_request *r = parsed(cases[i].text);
        refuse(kith_request_search(c, r, &found, &err), cases[i].status, cases[i].says);
        assert_int_equal(found.n, 77);
        kith_request_free(r);
    }
    kith_collection_close(c);
}

/* Cut anywhere, or with any byte changed, a request is read or refused, and nothing else. */
static void damaged_requests_are_harmless(void **state)
{
    (void)state;
    static const char text[] =
        "{\"vectors\":[{\"vector\":[30,1.6e1,-1,0]},{\"field\":\"title\",\"vector\":[2,1],"
        "\"weight\":2}],\"k\":7,\"filter\":\"n < 5\",\"partitions\":[\"odd\"]}";
    for (size_t i = 0; i < sizeof text; i++)
        for (int byte = 0; byte < 256; byte += 7) {
            char damaged[sizeof text];
            kith_request *r = NULL;
            memcpy(damaged, text, sizeof text);
            damaged[i] = (char)byte;
            (void)kith_request_parse(damaged, byte == 0 ? i : sizeof text - 1, NULL, &r, &err);
            kith_request_free(r);
        }
}

/* ---- Vectors are read before the rest ---- */

/* What is left of a text, and its components; "": it is left as it is. */
static void leaves(const char *text, const char *wanted, const float *x, size_t n)
{
    ki_request_vectors v;
    assert_ok(ki_request_vectors_read(text, strlen(text), NULL, &v, &err), &err);
    if (!*wanted) assert_int_equal(v.n, 0);
    if (*wanted) {
        assert_true(v.n > 0);
        assert_int_equal(v.size, strlen(wanted));
        assert_memory_equal(v.text, wanted, v.size);
        assert_int_equal(v.ends[v.n - 1], n);
        assert_memory_equal(v.x, x, n * sizeof *x);
    }
    ki_request_vectors_clear(&v, NULL);
}

#define LEAVES(text, wanted, ...) \
    leaves(text, wanted, (const float[]){__VA_ARGS__}, sizeof((const float[]){__VA_ARGS__}) / sizeof(float))

static void vectors_are_taken_out(void **state)
{
    (void)state;
    LEAVES("{\"vector\":[1,-2.5,3e2],\"k\":3}", "{\"vector\":0,\"k\":3}", 1, -2.5f, 300);
    LEAVES(" { \"vector\" : [ 1 ,\t2\n] } ", " { \"vector\":0 } ", 1, 2);
    LEAVES("{\"a\":\"\\\"vector\\\":[1]\",\"vector\":[7]}", "{\"a\":\"\\\"vector\\\":[1]\",\"vector\":0}", 7);
    LEAVES("[{\"vector\":[1]},{\"vector\":[2,3]}]", "[{\"vector\":0},{\"vector\":1}]", 1, 2, 3);
    LEAVES("{\"vector\":[-0,0.0,1E-3,0.5e+1]}", "{\"vector\":0}", 0, 0, 0.001f, 5);
    static const char *const left[] = {
        "",
        "{\"k\":1}",
        "[\"vector\",[1]]",
        "{\"vector\":[]}",
        "{\"vector\":[1,]}",
        "{\"vector\":[,1]}",
        "{\"vector\":[01]}",
        "{\"vector\":[1.]}",
        "{\"vector\":[.5]}",
        "{\"vector\":[+1]}",
        "{\"vector\":[1e]}",
        "{\"vector\":[1e+]}",
        "{\"vector\":[-]}",
        "{\"vector\":[1 2]}",
        "{\"vector\":[1}",
        "{\"vector\":[1",
        "{\"vector\":[",
        "{\"vector\":",
        "{\"vector\"",
        "{\"vector\":3}",
        "{\"vector\":[\"1\"]}",
        "{\"vector\":[[1]]}",
        "{\"vector\":[null]}",
        "{\"vector\":[NaN]}",
        "{\"vector\":[1e39]}",
        "{\"vector\":[1e-45]}",
        "{\"vector\":[99999999999999999999]}",
        "{\"vector\":[1],\"\\u0076ector\":[2]}",
        "{\"vector\":[1],\"k",
        "{\"vector\":[1],\"k\\",
    };
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) leaves(left[i], "", NULL, 0);
}

/* A number is the float that the C library makes of it, or is left alone, which few are. */
static void numbers_are_read_as_the_library_reads_them(void **state)
{
    (void)state;
    static const char *const forms[] = {"%.9g", "%.17g", "%.6f", "%.25g", "%.3e", "%.0f", "%g"};
    uint64_t chance = test_seed();
    size_t taken = 0, all = 0;
    for (size_t i = 0; i < 200000; i++) {
        char text[400], number[360];
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        double x = ldexp((double)(int32_t)(chance >> 32), (int)(chance >> 20 & 63) - 60);
        if (i % 3 == 0)
            x = (double)(float)x + ldexp((double)(float)x, -25); /* next to a half between floats */
        snprintf(number, sizeof number, forms[i % 7], x);
        snprintf(text, sizeof text, "{\"vector\":[%s]}", number);
        ki_request_vectors v;
        assert_ok(ki_request_vectors_read(text, strlen(text), NULL, &v, &err), &err);
        float wanted = (float)strtod(number, NULL);
        if (v.n && v.x[0] != wanted) fail_msg("%s is read as %.9g", number, (double)v.x[0]);
        taken += v.n;
        all += i % 3 != 0;
        ki_request_vectors_clear(&v, NULL);
    }
    if (taken < all * 9 / 10) fail_msg("only %zu numbers of %zu were read", taken, all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_searches),
        cmocka_unit_test(vectors_are_taken_out),
        cmocka_unit_test(numbers_are_read_as_the_library_reads_them),
        cmocka_unit_test(fields_are_fused),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(collections_refuse_what_they_have_not),
        cmocka_unit_test(damaged_requests_are_harmless),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
