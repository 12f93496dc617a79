/* Keys that are texts, payloads merged in part, rows that expire: what each does, what it refuses, that it goes with its
 * row, with its batch and into the content hash. */
#include "collections.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static kith_error err;

#define refuse(call, wanted, word)                                                                \
    do {                                                                                          \
        kith_status status_ = (call);                                                             \
        if (status_ != (wanted) || !strstr(err.message, word))                                    \
            fail_msg("%s: %s: %s", #call, kith_status_name(status_), status_ ? err.message : ""); \
    } while (0)

static uint64_t hash_of(kith_collection *c)
{
    uint64_t hash;
    assert_ok(kith_collection_hash(c, NULL, &hash, &err), &err);
    return hash;
}

static int64_t put_text(kith_collection *c, const char *text, const char *payload)
{
    kith_row row = {.payload = payload};
    int64_t key;
    assert_ok(kith_collection_put_text(c, text, KITH_ROW_PAYLOAD, &row, &key, &err), &err);
    return key;
}

static const char *payload_of(kith_collection *c, int64_t key)
{
    kith_row row;
    assert_ok(kith_collection_get(c, key, KITH_ROW_PAYLOAD, &row, &err), &err);
    return row.payload;
}

static void texts_are_keys(void **state)
{
    (void)state;
    int64_t key;
    const char *text;
    char longest[KITH_COLLECTION_MAX_TEXT_KEY + 2];
    kith_collection *c = test_collection("texts.kith", 0, KITH_L2SQ), *other;
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    uint64_t empty = hash_of(c);
    refuse(kith_collection_put_text(c, "a", KITH_ROW_PAYLOAD, &(kith_row){0}, NULL, &err), KITH_INVALID,
           "no batch");
    assert_ok(kith_collection_begin(c, &err), &err);
    int64_t a = put_text(c, "a", "{\"n\":1}"), b = put_text(c, "\xc3\xbc/b?", "{\"n\":2}");
    assert_int_not_equal(a, b);
    assert_int_equal(put_text(c, "a", "{\"n\":3}"), a); /* an upsert */
    refuse(kith_collection_put_text(c, "", KITH_ROW_PAYLOAD, &(kith_row){0}, NULL, &err), KITH_INVALID,
           "0 bytes");
    refuse(kith_collection_put_text(c, longest, KITH_ROW_PAYLOAD, &(kith_row){0}, NULL, &err), KITH_INVALID,
           "1025 bytes");
    refuse(kith_collection_put_text(c, "a\xff", KITH_ROW_PAYLOAD, &(kith_row){0}, NULL, &err), KITH_INVALID,
           "not UTF-8 at byte 1");
    refuse(kith_collection_put_text(c, "\xed\xa0\x80", KITH_ROW_PAYLOAD, &(kith_row){0}, NULL, &err),
           KITH_INVALID, "not UTF-8");
    refuse(kith_collection_put_text(c, "a", KITH_ROW_PAYLOAD, &(kith_row){.key = 5}, NULL, &err),
           KITH_INVALID, "key is 5, but the row 'a' has the key");
    refuse(kith_collection_put_text(c, "c", KITH_ROW_PAYLOAD, &(kith_row){.key = b}, NULL, &err),
           KITH_INVALID, "that row is known by");
    assert_ok(kith_collection_put_text(c, "at 50", KITH_ROW_PAYLOAD, &(kith_row){.key = 50}, &key, &err),
              &err);
    assert_int_equal(key, 50);
    refuse(kith_collection_put_text(c, "c", KITH_ROW_PAYLOAD, &(kith_row){.payload = "["}, NULL, &err),
           KITH_INVALID, "payload");
    refuse(kith_collection_key_of(c, "c", &key, &err), KITH_NOTFOUND, "no row 'c'");
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_open(test_path("texts.kith"), NULL, &other, &err), &err);
    assert_ok(kith_collection_key_of(other, "\xc3\xbc/b?", &key, &err), &err);
    assert_int_equal(key, b);
    assert_ok(kith_collection_text_of(other, a, &text, &err), &err);
    assert_string_equal(text, "a");
    assert_ok(kith_collection_text_of(other, 77, &text, &err), &err);
    assert_null(text);
    assert_string_equal(payload_of(other, a), "{\"n\":3}");
    assert_ok(kith_collection_check(other, NULL, &err), &err);
    kith_collection_close(other);

    /* It goes with its row, comes back with a rollback, and is part of the hash. */
    uint64_t before = hash_of(c);
    assert_int_not_equal(before, empty);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_delete(c, a, &err), &err);
    refuse(kith_collection_key_of(c, "a", &key, &err), KITH_NOTFOUND, "no row");
    kith_collection_rollback(c);
    assert_ok(kith_collection_key_of(c, "a", &key, &err), &err);
    assert_int_equal(hash_of(c), before);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_delete(c, a, &err), &err);
    a = put_text(c, "A", "{\"n\":3}");
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_int_not_equal(hash_of(c), before);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

static void payloads_are_merged(void **state)
{
    (void)state;
    static const struct {
        const char *payload, *patch, *wanted;
    } cases[] = {
        {"{\"a\":1}", "{\"b\":2}", "{\"a\":1,\"b\":2}"},
        {"{\"a\":1,\"b\":2}", "{\"a\":null}", "{\"b\":2}"},
        {"{\"a\":{\"b\":1,\"c\":2}}", "{\"a\":{\"b\":3,\"d\":null}}", "{\"a\":{\"b\":3,\"c\":2}}"},
        {"{\"a\":[1,2]}", "{\"a\":[3]}", "{\"a\":[3]}"},
        {"{\"a\":{\"b\":1}}", "{\"a\":[{\"b\":null}]}", "{\"a\":[{\"b\":null}]}"},
        {"{\"a\":{\"b\":{\"c\":1}}}", "{\"a\":{\"b\":{\"c\":null}},\"x\":null}", "{\"a\":{\"b\":{}}}"},
        {"{\"a\":1}", "{\"a\":{\"b\":{\"c\":null}}}", "{\"a\":{\"b\":{}}}"},
        {"{\"a\":1}", "{\"a\":{\"b\":null,\"c\":1.50}}", "{\"a\":{\"c\":1.5}}"},
        {"{\"\\u00e9\":\"x\\n\"}", "{\"z\":\"\\u20ac\"}", "{\"z\":\"\xe2\x82\xac\",\"\xc3\xa9\":\"x\\n\"}"},
        {"{\"n\":9007199254740993}", "{}", "{\"n\":9007199254740993}"},
    };
    kith_collection *c = test_collection("merge.kith", 0, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_field_add(c, "n", KITH_FIELD_INT, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kith_row row = {.key = 1, .payload = cases[i].payload};
        assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
        assert_ok(kith_collection_merge(c, 1, cases[i].patch, 0, &err), &err);
        assert_string_equal(payload_of(c, 1), cases[i].wanted);
    }
    refuse(kith_collection_merge(c, 2, "{}", 0, &err), KITH_NOTFOUND, "no row 2");
    refuse(kith_collection_merge(c, 0, "{}", 0, &err), KITH_INVALID, "key is 0");
    refuse(kith_collection_merge(c, 1, "[]", 0, &err), KITH_INVALID, "payload");
    refuse(kith_collection_merge(c, 1, NULL, 0, &err), KITH_INVALID, "NULL");
    refuse(kith_collection_merge(c, 1, "{\"n\":\"x\"}", 0, &err), KITH_INVALID, "n is declared as int");
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_string_equal(payload_of(c, 1), "{\"n\":9007199254740993}");
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

/* Merging costs what the two texts cost, however many members there are: 30,000 in well under the time that a patch
 * applied member by member to a text would take. */
static void merges_are_linear(void **state)
{
    (void)state;
    enum { MEMBERS = 30000 };
    size_t room = (size_t)MEMBERS * 24, size;
    char *text = malloc(room), *patch = malloc(room);
    kith_row row;
    for (int which = 0; which < 2; which++) {
        char *out = which ? patch : text;
        size = 0;
        for (int i = 0; i < MEMBERS; i++)
            size +=
                (size_t)snprintf(out + size, room - size, "%c\"m%d\":%d", i ? ',' : '{', 2 * i + which, i);
        snprintf(out + size, room - size, "}");
    }
    kith_collection *c = test_collection("linear.kith", 0, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    row = (kith_row){.key = 1, .payload = text};
    assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
    clock_t begin = clock();
    kith_status status = kith_collection_merge(c, 1, patch, 0, &err);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    assert_ok(status, &err);
    assert_ok(kith_collection_get(c, 1, KITH_ROW_PAYLOAD, &row, &err), &err);
    assert_non_null(strstr(row.payload, "\"m59999\":29999"));
    assert_non_null(strstr(row.payload, "\"m59998\":29999"));
    if (seconds > 3) fail_msg("%.1f s", seconds);
    kith_collection_close(c);
    free(patch);
    free(text);
}

static void rows_expire(void **state)
{
    (void)state;
    enum { N = 40, K = 12 };
    int64_t now = (int64_t)time(NULL), at, keys[N], seen = 0;
    float x[N][2], distances[N];
    uint64_t n;
    kith_row row = {0};
    kith_collection *c = test_collection("expiry.kith", 2, KITH_L2SQ);
    for (int i = 0; i < N; i++) x[i][0] = (float)i, x[i][1] = 1;
    test_put_rows(c, 1, N, x[0], 2);
    uint64_t before = hash_of(c);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int64_t key = 1; key <= N; key += 2)
        assert_ok(kith_collection_set_expiry(c, key, now - key, &err), &err);
    assert_ok(kith_collection_set_expiry(c, 2, now + 3600, &err), &err);
    refuse(kith_collection_set_expiry(c, N + 1, now, &err), KITH_NOTFOUND, "no row");
    refuse(kith_collection_set_expiry(c, 2, -1, &err), KITH_INVALID, "at is -1");
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_int_not_equal(hash_of(c), before);
    assert_ok(kith_collection_get_expiry(c, 2, &at, &err), &err);
    assert_int_equal(at, now + 3600);

    /* No read finds them: get, next, filters, searches of every kind. */
    refuse(kith_collection_get(c, 3, 0, &row, &err), KITH_NOTFOUND, "no row 3");
    for (row.key = 0;;) {
        assert_ok(kith_collection_next(c, row.key, 0, &row, &err), &err);
        if (!row.key) break;
        assert_int_equal(row.key % 2, 0);
        seen++;
    }
    assert_int_equal(seen, N / 2);
    assert_ok(kith_collection_count_where(c, "n <= 10", &n, &err), &err);
    assert_int_equal(n, 5);
    assert_ok(kith_collection_next_where(c, "n >= 3", 0, 0, &row, &err), &err);
    assert_int_equal(row.key, 4);
    const char *filters[] = {NULL, "n <= 10", "n > 0"};
    for (int folded = 0; folded < 2; folded++) {
        for (size_t i = 0; i < 3; i++) {
            kith_collection_query query;
            kith_collection_query_init(&query);
            query.k = K;
            query.expression = filters[i];
            assert_ok(kith_collection_search(c, 1, 2, x[0], &query, keys, distances, NULL, &err), &err);
            for (int j = 0; j < (i == 1 ? 5 : K); j++) assert_int_equal(keys[j], 2 * j + 2);
            if (i == 1) assert_int_equal(keys[5], 0);
        }
        refuse(kith_collection_search_like(c, 3, NULL, keys, distances, NULL, &err), KITH_NOTFOUND,
               "no row 3");
        kith_fold_options fold;
        kith_fold_options_init(&fold);
        fold.always = 1;
        assert_ok(kith_collection_fold(c, &fold, &err), &err);
    }
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_remove_expired(c, 3, &n, &err), &err);
    assert_int_equal(n, 3);
    assert_ok(kith_collection_remove_expired(c, 0, &n, &err), &err);
    assert_int_equal(n, N / 2 - 3);
    assert_ok(kith_collection_set_expiry(c, 2, 0, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_count(c, &n, NULL, &err), &err);
    assert_int_equal(n, N / 2);
    assert_ok(kith_collection_get_expiry(c, 2, &at, &err), &err);
    assert_int_equal(at, 0);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

/* A put over a row past its time is a new row: it is found, it has nothing of the old one, and it does not expire. */
static void puts_replace_expired_rows(void **state)
{
    (void)state;
    int64_t now = (int64_t)time(NULL), key, at;
    uint64_t rows, vectors, n;
    const float x[2] = {1, 2};
    kith_row row = {
        .payload = "{\"n\":1,\"y\":1}", .vector = x, .dim = 2, .attachment = "a", .attachment_size = 1};
    kith_collection *c = test_collection("replaced.kith", 2, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_field_add(c, "y", KITH_FIELD_INT, &err), &err);
    for (int i = 0; i < 4; i++) {
        assert_ok(kith_collection_put_text(c, (const char *[]){"a", "b", "c", "d"}[i], KITH_ROW_ALL, &row,
                                           &key, &err),
                  &err);
        assert_ok(kith_collection_set_expiry(c, key, i < 3 ? now - 5 : now + 3600, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);

    assert_ok(kith_collection_begin(c, &err), &err);
    refuse(kith_collection_merge(c, 3, "{\"y\":5}", 0, &err), KITH_NOTFOUND, "no row 3");
    row.payload = "{\"y\":2}";
    assert_ok(kith_collection_put_text(c, "a", KITH_ROW_PAYLOAD, &row, &key, &err), &err);
    assert_int_equal(key, 1);
    row.key = 2;
    assert_ok(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err);
    row.key = 4;
    assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err),
              &err); /* not past its time: changed */
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_get(c, 1, KITH_ROW_ALL, &row, &err), &err);
    assert_string_equal(row.payload, "{\"y\":2}");
    assert_null(row.vector);
    assert_null(row.attachment);
    assert_ok(kith_collection_get(c, 2, KITH_ROW_ALL, &row, &err), &err);
    assert_string_equal(row.payload, "{}");
    assert_non_null(row.vector);
    assert_null(row.attachment);
    assert_ok(kith_collection_get(c, 4, KITH_ROW_ALL, &row, &err), &err);
    assert_true(row.vector && row.attachment);
    for (key = 1; key <= 4; key++) {
        assert_ok(kith_collection_get_expiry(c, key, &at, &err), &err);
        assert_int_equal(at, key < 3 ? 0 : key == 3 ? now - 5 : now + 3600);
    }
    assert_ok(kith_collection_key_of(c, "a", &key, &err), &err);
    assert_int_equal(key, 1);
    assert_ok(kith_collection_count(c, &rows, &vectors, &err), &err);
    assert_int_equal(rows, 4);
    assert_int_equal(vectors, 3);

    /* Deleting by a filter takes the rows that counting by it tells; the others go with the expired ones. */
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_count_where(c, "y > 0", &rows, &err), &err);
    assert_ok(kith_collection_delete_where(c, "y > 0", &n, &err), &err);
    assert_int_equal(rows, 2);
    assert_int_equal(n, rows);
    assert_ok(kith_collection_remove_expired(c, 0, &n, &err), &err);
    assert_int_equal(n, 1);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_get(c, 2, 0, &row, &err), &err);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

/* With KITH_ROW_NEW a put inserts: what is there stays, the batch goes on, and a row past its time is not there. */
static void inserts_leave_what_is_there(void **state)
{
    (void)state;
    const unsigned insert = KITH_ROW_PAYLOAD | KITH_ROW_NEW;
    int64_t key, now = (int64_t)time(NULL), at;
    kith_row row = {.key = 5, .payload = "{\"n\":1}"};
    kith_collection *c = test_collection("inserts.kith", 0, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_put(c, insert, &row, &key, &err), &err);
    assert_int_equal(key, 5);
    row.payload = "{\"n\":2}";
    refuse(kith_collection_put(c, insert, &row, &key, &err), KITH_EXISTS, "a row 5 already");
    row.key = 0;
    assert_ok(kith_collection_put(c, insert, &row, &key, &err), &err); /* the next free key never exists */
    assert_int_equal(key, 6);
    assert_ok(kith_collection_put_text(c, "a", insert, &row, &key, &err), &err);
    row.payload = "{\"n\":3}";
    refuse(kith_collection_put_text(c, "a", insert, &row, NULL, &err), KITH_EXISTS, "a row 7 already");
    row.key = 6;
    refuse(kith_collection_put_text(c, "b", insert, &row, NULL, &err), KITH_EXISTS, "a row 6 already");
    refuse(kith_collection_key_of(c, "b", &key, &err), KITH_NOTFOUND, "no row 'b'");
    refuse(kith_collection_put(c, 16, &row, NULL, &err), KITH_INVALID, "parts is 16, allowed 0..15");
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_string_equal(payload_of(c, 5), "{\"n\":1}");
    assert_string_equal(payload_of(c, 6), "{\"n\":2}");
    assert_string_equal(payload_of(c, 7), "{\"n\":2}");
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_set_expiry(c, 6, now - 5, &err), &err);
    assert_ok(kith_collection_put(c, insert, &row, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_string_equal(payload_of(c, 6), "{\"n\":3}");
    assert_ok(kith_collection_get_expiry(c, 6, &at, &err), &err);
    assert_int_equal(at, 0);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

/* A pinned handle sees one state, rows that expire meanwhile included: pages fit, and what was found can be read. */
static void pins_hold_the_clock(void **state)
{
    (void)state;
    int64_t keys[2], end = (int64_t)time(NULL) + 2;
    float x[6][2] = {{0, 0}, {1, 0}, {2, 0}, {3, 0}, {4, 0}, {5, 0}}, distances[2];
    uint64_t n;
    kith_row row;
    kith_collection_query query;
    kith_collection *c = test_collection("clock.kith", 2, KITH_L2SQ);
    test_put_rows(c, 1, 6, x[0], 2);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int64_t key = 1; key <= 2; key++) assert_ok(kith_collection_set_expiry(c, key, end, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    kith_collection_query_init(&query);
    query.k = 2;
    assert_ok(kith_collection_pin(c, &err), &err);
    if ((int64_t)time(NULL) >= end) skip(); /* too slow a machine to say anything */
    assert_ok(kith_collection_search(c, 1, 2, x[0], &query, keys, distances, NULL, &err), &err);
    if (keys[0] != 1) skip();
    while ((int64_t)time(NULL) < end) usleep(20000);
    assert_ok(kith_collection_get(c, keys[0], 0, &row, &err), &err);
    assert_ok(kith_collection_count_where(c, "n <= 2", &n, &err), &err);
    assert_int_equal(n, 2);
    query.offset = 2;
    assert_ok(kith_collection_search(c, 1, 2, x[0], &query, keys, distances, NULL, &err), &err);
    assert_true(keys[0] == 3 && keys[1] == 4);
    kith_collection_unpin(c);
    query.offset = 0;
    assert_ok(kith_collection_search(c, 1, 2, x[0], &query, keys, distances, NULL, &err), &err);
    assert_true(keys[0] == 3 && keys[1] == 4);
    refuse(kith_collection_get(c, 1, 0, &row, &err), KITH_NOTFOUND, "no row 1");
    kith_collection_close(c);
}

static void strays_are_found(void **state)
{
    (void)state;
    static const char *const cases[] = {"INSERT INTO text_key VALUES(9, 'x')",
                                        "INSERT INTO expiry VALUES(9, 1)"};
    for (size_t i = 0; i < 2; i++) {
        kith_collection *c = test_collection("strays.kith", 1, KITH_L2SQ);
        const float x[2] = {1, 2};
        sqlite3 *db;
        test_put_rows(c, 1, 2, x, 1);
        assert_int_equal(sqlite3_open(test_path("strays.kith"), &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, cases[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        refuse(kith_collection_check(c, NULL, &err), KITH_CORRUPT, "row 9");
        kith_collection_close(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_keys),      cmocka_unit_test(payloads_are_merged),
        cmocka_unit_test(merges_are_linear),   cmocka_unit_test(rows_expire),
        cmocka_unit_test(pins_hold_the_clock), cmocka_unit_test(puts_replace_expired_rows),
        cmocka_unit_test(strays_are_found),    cmocka_unit_test(inserts_leave_what_is_there),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
