/* What was read of rows lately is shown again only as long as it is true. */
#include "collections.h"

#include "engine/recent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kith_error err;

static void put(kith_collection *c, int64_t key, const char *text, const char *payload)
{
    kith_row row = {.key = key, .payload = payload};
    assert_ok(kith_collection_begin(c, &err), &err);
    if (text)
        assert_ok(kith_collection_put_text(c, text, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
    else
        assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
}

static void shows(kith_collection *c, int64_t key, const char *text, const char *payload)
{
    for (int round = 0; round < 3; round++) {
        kith_row row = {0};
        const char *known_as = NULL;
        assert_ok(kith_collection_get(c, key, KITH_ROW_PAYLOAD, &row, &err), &err);
        assert_string_equal(row.payload, payload);
        assert_int_equal(row.payload_size, strlen(payload));
        assert_ok(kith_collection_text_of(c, key, &known_as, &err), &err);
        if (text)
            assert_string_equal(known_as, text);
        else
            assert_null(known_as);
    }
}

static void changes_are_seen(void **state)
{
    (void)state;
    kith_row row;
    kith_collection *reader, *c = test_collection("recent.kith", 0, KITH_L2SQ);
    put(c, 1, NULL, "{\"a\":1}");
    put(c, 2, "two", "{}");
    assert_ok(kith_collection_open(test_path("recent.kith"), NULL, &reader, &err), &err);
    shows(reader, 1, NULL, "{\"a\":1}");
    shows(reader, 2, "two", "{}");
    shows(c, 1, NULL, "{\"a\":1}");
    put(c, 1, NULL, "{\"a\":2}");
    shows(c, 1, NULL, "{\"a\":2}");
    shows(reader, 1, NULL, "{\"a\":2}");

    /* A pinned reader stays where it is. */
    assert_ok(kith_collection_pin(reader, &err), &err);
    shows(reader, 2, "two", "{}");
    put(c, 2, "two", "{\"b\":[true]}");
    shows(reader, 2, "two", "{}");
    kith_collection_unpin(reader);
    shows(reader, 2, "two", "{\"b\":[true]}");

    /* A batch sees its own changes, and nothing of them stays when it is undone. */
    shows(c, 1, NULL, "{\"a\":2}");
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(
        kith_collection_put(c, KITH_ROW_PAYLOAD, &(kith_row){.key = 1, .payload = "{\"a\":3}"}, NULL, &err),
        &err);
    shows(c, 1, NULL, "{\"a\":3}");
    kith_collection_rollback(c);
    shows(c, 1, NULL, "{\"a\":2}");

    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_delete(c, 2, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_int_equal(kith_collection_get(reader, 2, KITH_ROW_PAYLOAD, &row, &err), KITH_NOTFOUND);
    kith_collection_close(reader);
    kith_collection_close(c);
}

/* More than is kept, of all lengths: each row is itself, whatever went. */
static void the_oldest_go(void **state)
{
    (void)state;
    enum { ROWS = 3000, ROUNDS = 3 };
    char *payload = malloc(6000);
    kith_collection *c = test_collection("many.kith", 0, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int64_t i = 1; i <= ROWS; i++) {
        snprintf(payload, 6000, "{\"n\":%d,\"x\":\"%0*d\"}", (int)i, (int)(i * 37 % 5000), 0);
        assert_ok(
            kith_collection_put(c, KITH_ROW_PAYLOAD, &(kith_row){.key = i, .payload = payload}, NULL, &err),
            &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
    uint64_t chance = test_seed();
    for (int i = 0; i < ROUNDS * ROWS; i++) {
        kith_row row = {0};
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        int64_t key = (int64_t)(chance >> 33) % (i % 2 ? ROWS : 50) + 1;
        snprintf(payload, 6000, "{\"n\":%d,\"x\":\"%0*d\"}", (int)key, (int)(key * 37 % 5000), 0);
        assert_ok(kith_collection_get(c, key, KITH_ROW_PAYLOAD, &row, &err), &err);
        assert_string_equal(row.payload, payload);
        assert_int_equal(row.payload_size, strlen(payload));
    }
    const void *bytes;
    size_t size;
    snprintf(payload, 6000, "{\"n\":1}");
    put(c, 1, NULL, payload);
    assert_false(ki_recent_get(c, KI_RECENT_PAYLOAD, 1, &bytes, &size));
    shows(c, 1, NULL, payload);
    assert_true(ki_recent_get(c, KI_RECENT_PAYLOAD, 1, &bytes, &size));
    assert_int_equal(size, strlen(payload));
    free(payload);
    kith_collection_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_seen),
        cmocka_unit_test(the_oldest_go),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
