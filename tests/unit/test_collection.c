/* Collections: what is put comes back, batches are whole or nothing, bad input is refused by name. */
#include "collections.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"

static void refuse(kith_status got, kith_status expected, const kith_error *err, const char *word)
{
    if (got != expected || err->code != expected || !strstr(err->message, word))
        fail_msg("expected %s with \"%s\", got %s: %s", kith_status_name(expected), word,
                 kith_status_name(got), err->message);
    assert_null(strchr(err->message, '\n'));
}

/* ---- Rows ---- */

static void rows_come_back(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c = test_collection("rows.kith", 3, KITH_L2SQ);
    const float vector[3] = {1, -2, 0.5f};
    kith_row row = {.payload = " { \"b\" : 1.50, \"a\":[true,null,\"\\u00e4\\n\"] } ",
                    .vector = vector,
                    .dim = 3,
                    .attachment = "\0thumb",
                    .attachment_size = 6};
    int64_t key = -1;
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, &key, &err), &err);
    assert_int_equal(key, 1);
    row = (kith_row){.key = 100};
    assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, &key, &err), &err);
    assert_int_equal(key, 100);
    row = (kith_row){.payload = "{\"c\":2}", .attachment = "", .attachment_size = 0};
    assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, &key, &err), &err);
    assert_int_equal(key, 101);
    assert_ok(kith_collection_commit(c, &err), &err);
    for (int round = 0; round < 2; round++) { /* before and after closing */
        kith_row got;
        assert_ok(kith_collection_get(c, 1, KITH_ROW_ALL, &got, &err), &err);
        assert_string_equal(got.payload, "{\"a\":[true,null,\"\xc3\xa4\\n\"],\"b\":1.5}");
        assert_int_equal(got.payload_size, strlen(got.payload));
        assert_int_equal(got.dim, 3);
        assert_memory_equal(got.vector, vector, sizeof vector);
        assert_int_equal(got.attachment_size, 6);
        assert_memory_equal(got.attachment, "\0thumb", 6);
        assert_ok(kith_collection_get(c, 1, KITH_ROW_VECTOR, &got, &err), &err);
        assert_null(got.payload);
        assert_null(got.attachment);
        assert_non_null(got.vector);
        assert_ok(kith_collection_get(c, 100, KITH_ROW_ALL, &got, &err), &err);
        assert_string_equal(got.payload, "{}");
        assert_null(got.vector);
        assert_int_equal(got.dim, 0);
        assert_null(got.attachment);
        assert_ok(kith_collection_get(c, 101, KITH_ROW_ALL, &got, &err), &err);
        assert_non_null(got.attachment); /* empty is not absent */
        assert_int_equal(got.attachment_size, 0);
        refuse(kith_collection_get(c, 2, KITH_ROW_ALL, &got, &err), KITH_NOTFOUND, &err, "no row 2");
        uint64_t rows, vectors;
        assert_ok(kith_collection_count(c, &rows, &vectors, &err), &err);
        assert_int_equal(rows, 3);
        assert_int_equal(vectors, 1);
        assert_ok(kith_collection_check(c, NULL, &err), &err);
        kith_collection_close(c);
        assert_ok(kith_collection_open(test_path("rows.kith"), NULL, &c, &err), &err);
    }
    kith_collection_close(c);
}

static void parts_not_named_stay(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c = test_collection("parts.kith", 2, KITH_COSINE);
    const float a[2] = {1, 2}, b[2] = {3, 4};
    kith_row row = {
        .key = 7, .payload = "{\"v\":1}", .vector = a, .dim = 2, .attachment = "x", .attachment_size = 1};
    kith_row got;
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
    row = (kith_row){.key = 7, .payload = "{\"v\":2}"};
    assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
    assert_ok(kith_collection_get(c, 7, KITH_ROW_ALL, &got, &err), &err); /* a batch sees its own changes */
    assert_string_equal(got.payload, "{\"v\":2}");
    assert_memory_equal(got.vector, a, sizeof a);
    assert_int_equal(got.attachment_size, 1);
    row = (kith_row){.key = 7, .vector = b, .dim = 2};
    assert_ok(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err);
    row = (kith_row){.key = 7};
    assert_ok(kith_collection_put(c, KITH_ROW_ATTACHMENT, &row, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_get(c, 7, KITH_ROW_ALL, &got, &err), &err);
    assert_string_equal(got.payload, "{\"v\":2}");
    assert_memory_equal(got.vector, b, sizeof b);
    assert_null(got.attachment);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err); /* vector NULL: taken away */
    assert_ok(kith_collection_commit(c, &err), &err);
    uint64_t vectors;
    assert_ok(kith_collection_count(c, NULL, &vectors, &err), &err);
    assert_int_equal(vectors, 0);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

/* A collection against a plain array under random puts and deletes, in batches of which some are rolled back. */
static void random_changes(void **state)
{
    (void)state;
    enum { KEYS = 300, DIM = 5 };
    typedef struct {
        int exists, has_vector;
        float vector[DIM];
        int value;
    } model;
    static model now[KEYS + 1], before[KEYS + 1];
    kith_error err;
    kith_collection *c = test_collection("random.kith", DIM, KITH_L2SQ);
    srand((unsigned)test_seed());
    for (int batch = 0; batch < 60; batch++) {
        memcpy(before, now, sizeof now);
        assert_ok(kith_collection_begin(c, &err), &err);
        for (int change = rand() % 50; change > 0; change--) {
            int64_t key = 1 + rand() % KEYS;
            model *m = &now[key];
            if (rand() % 3 == 0) {
                kith_status status = kith_collection_delete(c, key, &err);
                assert_int_equal(status, m->exists ? KITH_OK : KITH_NOTFOUND);
                *m = (model){0};
                continue;
            }
            char payload[32];
            m->exists = 1;
            m->value = rand();
            m->has_vector = rand() % 4 != 0;
            for (int d = 0; d < DIM; d++) m->vector[d] = (float)rand() / 1000;
            snprintf(payload, sizeof payload, "{\"value\":%d}", m->value);
            kith_row row = {
                .key = key, .payload = payload, .vector = m->has_vector ? m->vector : NULL, .dim = DIM};
            assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
        }
        if (rand() % 3 == 0) {
            kith_collection_rollback(c);
            memcpy(now, before, sizeof now);
        } else {
            assert_ok(kith_collection_commit(c, &err), &err);
        }
    }
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_row row = {0};
    for (int64_t key = 1; key <= KEYS; key++) {
        if (!now[key].exists) continue;
        char payload[32];
        assert_ok(kith_collection_next(c, row.key, KITH_ROW_ALL, &row, &err), &err);
        assert_int_equal(row.key, key); /* in order, none left out, none too many */
        snprintf(payload, sizeof payload, "{\"value\":%d}", now[key].value);
        assert_string_equal(row.payload, payload);
        assert_int_equal(row.vector != NULL, now[key].has_vector);
        if (row.vector) assert_memory_equal(row.vector, now[key].vector, sizeof now[key].vector);
    }
    assert_ok(kith_collection_next(c, row.key, KITH_ROW_ALL, &row, &err), &err);
    assert_int_equal(row.key, 0);
    kith_collection_close(c);
}

/* Deleted space is used again: ten rounds of deleting half and filling up leave the file nearly as large as it was. */
static void slots_are_used_again(void **state)
{
    (void)state;
    enum { N = 2000, DIM = 64 };
    kith_error err;
    kith_collection *c = test_collection("slots.kith", DIM, KITH_L2SQ);
    float *x = test_vectors(N * 12, DIM, 0, test_seed());
    kith_collection_stats stats = {.struct_size = sizeof stats};
    test_put_rows(c, 1, N, x, DIM);
    assert_ok(kith_collection_optimize(c, NULL, &err), &err);
    assert_ok(kith_collection_get_stats(c, &stats, &err), &err);
    uint64_t at_first = stats.database_bytes;
    int64_t next = N + 1;
    kith_row row;
    for (int round = 0; round < 10; round++) {
        assert_ok(kith_collection_begin(c, &err), &err);
        row = (kith_row){0};
        for (int i = 0; i < N; i++) { /* every second row, in key order */
            assert_ok(kith_collection_next(c, row.key, 0, &row, &err), &err);
            if (i % 2 == 0) assert_ok(kith_collection_delete(c, row.key, &err), &err);
        }
        assert_ok(kith_collection_commit(c, &err), &err);
        assert_ok(kith_collection_get_stats(c, &stats, &err), &err);
        assert_int_equal(stats.free_slots, N / 2);
        test_put_rows(c, next, N / 2, x, DIM);
        next += N / 2;
    }
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    assert_ok(kith_collection_optimize(c, NULL, &err), &err);
    assert_ok(kith_collection_get_stats(c, &stats, &err), &err);
    assert_int_equal(stats.free_slots, 0);
    assert_int_equal(stats.rows, N);
    assert_true((double)stats.database_bytes <= 1.2 * (double)at_first);
    free(x);
    kith_collection_close(c);
}

static void pinned_reads_see_one_state(void **state)
{
    (void)state;
    kith_error err;
    const float x[4] = {1, 2, 3, 4};
    kith_collection *writer = test_collection("pin.kith", 1, KITH_L2SQ), *reader;
    test_put_rows(writer, 1, 2, x, 1);
    assert_ok(kith_collection_open(test_path("pin.kith"), NULL, &reader, &err), &err);
    assert_ok(kith_collection_pin(reader, &err), &err);
    test_put_rows(writer, 3, 2, x, 1);
    uint64_t rows;
    int64_t keys[4];
    float distances[4];
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = 4;
    for (int pinned = 1; pinned >= 0; pinned--) {
        assert_ok(kith_collection_count(reader, &rows, NULL, &err), &err);
        assert_int_equal(rows, pinned ? 2 : 4);
        assert_ok(kith_collection_search(reader, 1, 1, x, &query, keys, distances, NULL, &err), &err);
        assert_int_equal(keys[2], pinned ? 0 : 3);
        if (!pinned) break;
        refuse(kith_collection_begin(reader, &err), KITH_INVALID, &err, "pinned");
        refuse(kith_collection_pin(reader, &err), KITH_INVALID, &err, "pinned");
        kith_collection_unpin(reader);
    }
    kith_collection_unpin(reader);
    kith_collection_close(reader);
    kith_collection_close(writer);
}

/* ---- Payloads ---- */

static void payloads_are_canonical(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{}", "{}"},
        {" {\t} ", "{}"},
        {"{\"b\":1,\"a\":{\"d\":[],\"c\":{}}}", "{\"a\":{\"c\":{},\"d\":[]},\"b\":1}"},
        {"{\"B\":1,\"a\":2,\"\xc3\xa4\":3,\"aa\":4}", "{\"B\":1,\"a\":2,\"aa\":4,\"\xc3\xa4\":3}"},
        {"{\"x\":0.1,\"y\":1e2,\"z\":-0.0}", "{\"x\":0.1,\"y\":100.0,\"z\":-0.0}"},
        {"{\"x\":1e300,\"y\":0.30000000000000004}", "{\"x\":1e+300,\"y\":0.30000000000000004}"},
        {"{\"x\":9223372036854775807,\"y\":-9223372036854775808}",
         "{\"x\":9223372036854775807,\"y\":-9223372036854775808}"},
        {"{\"s\":\"\\u0041\\/\\u001f\\t\\\"\\\\\\u20ac\"}", "{\"s\":\"A/\\u001f\\t\\\"\\\\\xe2\x82\xac\"}"},
        {"{\"s\":\"\\b\\f\\n\\r\\u000b\"}", "{\"s\":\"\\b\\f\\n\\r\\u000b\"}"},
    };
    ki_buffer out = {0};
    kith_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_ok(ki_payload_canonical(cases[i][0], strlen(cases[i][0]), &out, NULL, &err), &err);
        assert_int_equal(out.size, strlen(cases[i][1]));
        assert_memory_equal(out.data, cases[i][1], out.size);
        char again[256]; /* the canonical form of the canonical form is itself */
        size_t size = out.size;
        memcpy(again, out.data, size);
        assert_ok(ki_payload_canonical(again, size, &out, NULL, &err), &err);
        assert_int_equal(out.size, size);
        assert_memory_equal(out.data, again, size);
    }
    ki_buffer_clear(&out, NULL);
}

static void bad_payloads_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "{",
        "[]",
        "1",
        "\"x\"",
        "null",
        "{\"a\":1,\"a\":2}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":1e999}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\\ud800\"}",
        "{} {}",
        "{\"a\":1}x",
        "{'a':1}",
        "{\"a\":99999999999999999999}",
        "{\"a\":\"\n\"}",
        "{\"a\":1,}",
        "{\"\\u0000\":1}",
    };
    kith_error err;
    kith_collection *c = test_collection("payload.kith", 0, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kith_row row = {.payload = cases[i]};
        kith_status status = kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err);
        if (status != KITH_INVALID) fail_msg("%s: %s", cases[i], kith_status_name(status));
        assert_non_null(strstr(err.message, "payload"));
    }
    char deep[400] = "";
    for (int i = 0; i < 63; i++) strcat(deep, "{\"a\":");
    strcat(deep, "{}");
    for (int i = 0; i < 63; i++) strcat(deep, "}");
    kith_row row = {.payload = deep};
    assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
    memmove(deep + 5, deep, strlen(deep) + 1);
    memcpy(deep, "{\"a\":", 5);
    strcat(deep, "}");
    refuse(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), KITH_INVALID, &err, "deeper than 64");
    size_t size = KITH_COLLECTION_MAX_PAYLOAD;
    char *long_text = malloc(size + 16);
    memset(long_text, ' ', size + 16);
    memcpy(long_text, "{\"a\":\"", 6);
    memset(long_text + 6, 'x', size - 8);
    memcpy(long_text + size - 2, "\"}", 2);
    row = (kith_row){.payload = long_text, .payload_size = size};
    assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
    row.payload_size++;
    refuse(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), KITH_INVALID, &err,
           "allowed 0..1048576");
    free(long_text);
    assert_ok(kith_collection_commit(c, &err), &err); /* the refused ones have spoilt nothing */
    uint64_t rows;
    assert_ok(kith_collection_count(c, &rows, NULL, &err), &err);
    assert_int_equal(rows, 2);
    kith_collection_close(c);
}

/* ---- Named values ---- */

static void named_values(void **state)
{
    (void)state;
    kith_error err;
    kith_meta meta;
    kith_collection *c = test_collection("meta.kith", 0, KITH_L2SQ);
    refuse(kith_collection_meta_set(c, "a", "x", 1, &err), KITH_INVALID, &err, "no batch");
    assert_ok(kith_collection_begin(c, &err), &err);
    static const char *const names[] = {"bad/a.jpg", "bad/b.jpg", "bad", "bad0", "codebook", "bad/", "baa"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_ok(kith_collection_meta_set(c, names[i], names[i], strlen(names[i]), &err), &err);
    assert_ok(kith_collection_meta_set(c, "empty", NULL, 0, &err), &err);
    assert_ok(kith_collection_meta_set(c, "codebook", "\0\1", 2, &err), &err);
    char name[KITH_COLLECTION_MAX_META_NAME + 2];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    refuse(kith_collection_meta_set(c, name, "x", 1, &err), KITH_INVALID, &err, "allowed 1..255");
    refuse(kith_collection_meta_set(c, "", "x", 1, &err), KITH_INVALID, &err, "allowed 1..255");
    refuse(kith_collection_meta_set(c, "x", "x", KITH_COLLECTION_MAX_META + 1ul, &err), KITH_INVALID, &err,
           "allowed");
    refuse(kith_collection_meta_delete(c, "x", &err), KITH_NOTFOUND, &err, "x");
    name[sizeof name - 2] = 0;
    assert_ok(kith_collection_meta_set(c, name, "x", 1, &err), &err);
    assert_ok(kith_collection_meta_delete(c, name, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);

    assert_ok(kith_collection_meta_get(c, "codebook", &meta, &err), &err);
    assert_int_equal(meta.size, 2);
    assert_memory_equal(meta.value, "\0\1", 2);
    assert_ok(kith_collection_meta_get(c, "empty", &meta, &err), &err);
    assert_int_equal(meta.size, 0);
    assert_non_null(meta.value);
    refuse(kith_collection_meta_get(c, name, &meta, &err), KITH_NOTFOUND, &err, "nothing is kept");

    static const char *const expected[] = {"bad/", "bad/a.jpg", "bad/b.jpg"};
    meta = (kith_meta){0};
    for (size_t i = 0; i < 3; i++) {
        assert_ok(kith_collection_meta_next(c, "bad/", meta.name, &meta, &err), &err);
        assert_string_equal(meta.name, expected[i]);
    }
    assert_ok(kith_collection_meta_next(c, "bad/", meta.name, &meta, &err), &err);
    assert_null(meta.name);
    size_t n = 0;
    while (kith_collection_meta_next(c, "", meta.name, &meta, &err) == KITH_OK && meta.name) n++;
    assert_int_equal(n, 8);
    kith_collection_close(c);
}

/* ---- Batches ---- */

static void batches_are_whole_or_nothing(void **state)
{
    (void)state;
    kith_error err;
    const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint64_t rows, version, later;
    kith_collection *c = test_collection("batch.kith", 2, KITH_L2SQ), *other;
    refuse(kith_collection_commit(c, &err), KITH_INVALID, &err, "no batch");
    refuse(kith_collection_delete(c, 1, &err), KITH_INVALID, &err, "no batch");
    test_put_rows(c, 1, 2, x, 2);
    assert_ok(kith_collection_version(c, &version, &err), &err);
    assert_ok(kith_collection_open(test_path("batch.kith"), NULL, &other, &err), &err);
    assert_ok(kith_collection_begin(c, &err), &err);
    refuse(kith_collection_begin(c, &err), KITH_INVALID, &err, "in a batch");
    assert_ok(kith_collection_delete(c, 1, &err), &err);
    assert_ok(kith_collection_meta_set(c, "x", "y", 1, &err), &err);
    assert_ok(kith_collection_count(other, &rows, NULL, &err), &err);
    assert_int_equal(rows, 2); /* others do not see it */
    assert_ok(kith_collection_count(c, &rows, NULL, &err), &err);
    assert_int_equal(rows, 1);
    kith_collection_rollback(c);
    kith_collection_rollback(c);
    assert_ok(kith_collection_count(c, &rows, NULL, &err), &err);
    assert_int_equal(rows, 2);
    assert_ok(kith_collection_version(c, &later, &err), &err);
    assert_int_equal(version, later);
    assert_ok(kith_collection_begin(c, &err), &err); /* a batch without a change changes nothing */
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_version(c, &later, &err), &err);
    assert_int_equal(version, later);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_delete(c, 1, &err), &err);
    kith_collection_close(c); /* rolls back */
    assert_ok(kith_collection_count(other, &rows, NULL, &err), &err);
    assert_int_equal(rows, 2);
    kith_collection_close(other);
}

static void a_second_writer_waits(void **state)
{
    (void)state;
    kith_error err;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.wait_ms = 50;
    const float x[2] = {1, 2};
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork(); /* before this process opens the file: SQLite's locks do not go through a fork */
    if (child == 0) {
        kith_collection *mine;
        char byte;
        if (read(ready[0], &byte, 1) != 1) _exit(1);
        if (kith_collection_open(test_path("busy.kith"), NULL, &mine, &err)) _exit(2);
        if (kith_collection_begin(mine, &err)) _exit(3);
        kith_row row = {.key = 2, .vector = x + 1, .dim = 1};
        if (kith_collection_put(mine, KITH_ROW_ALL, &row, NULL, &err)) _exit(4);
        if (kith_collection_commit(mine, &err)) _exit(5);
        _exit(0);
    }
    kith_collection *first = test_collection("busy.kith", 1, KITH_L2SQ), *second;
    assert_ok(kith_collection_open(test_path("busy.kith"), &options, &second, &err), &err);
    assert_ok(kith_collection_begin(first, &err), &err);
    refuse(kith_collection_begin(second, &err), KITH_BUSY, &err, "50 ms");
    assert_ok(kith_collection_commit(first, &err), &err);
    test_put_rows(second, 1, 1, x, 1); /* the lock is free again */
    kith_collection_close(second);

    /* With time enough the second one gets its turn. */
    assert_ok(kith_collection_begin(first, &err), &err);
    assert_int_equal(write(ready[1], "", 1), 1);
    usleep(100000);
    assert_ok(kith_collection_commit(first, &err), &err);
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(ready[0]);
    close(ready[1]);
    uint64_t rows;
    assert_ok(kith_collection_count(first, &rows, NULL, &err), &err);
    assert_int_equal(rows, 2);
    kith_collection_close(first);
}

/* Of NAME.kith-shm: whoever works the log in has locked it (sqlite.org/walformat.html). */
enum { CHECKPOINT_BYTE = 121 };

/* What the log holds goes into the file, beside those who read it; of what they read, the rest later. */
static void logs_are_settled(void **state)
{
    (void)state;
    kith_error err;
    uint64_t left = 1, rows;
    float x[200 * 4] = {0};
    kith_collection_options options;
    kith_collection *c = test_collection("settled.kith", 4, KITH_L2SQ), *reader, *other;
    kith_collection_options_init(&options);
    options.read_only = 1;
    assert_ok(kith_collection_open(test_path("settled.kith"), &options, &reader, &err), &err);
    assert_ok(kith_collection_open(test_path("settled.kith"), NULL, &other, &err), &err);
    test_put_rows(c, 1, 100, x, 4);
    assert_ok(kith_collection_pin(reader, &err), &err);
    refuse(kith_collection_settle(reader, &left, &err), KITH_INVALID, &err, "pinned");
    test_put_rows(c, 101, 100, x, 4);
    assert_ok(kith_collection_settle(other, &left, &err), &err);
    assert_true(left > 0);
    assert_ok(kith_collection_begin(c, &err), &err);
    refuse(kith_collection_settle(c, &left, &err), KITH_INVALID, &err, "in a batch");
    kith_collection_rollback(c);
    assert_ok(kith_collection_count(reader, &rows, NULL, &err), &err);
    assert_int_equal(rows, 100);
    kith_collection_unpin(reader);
    refuse(kith_collection_settle(reader, &left, &err), KITH_READONLY, &err, "reading only");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = CHECKPOINT_BYTE, .l_len = 1};
    int fd = open(test_path("settled.kith-shm"), O_RDWR | O_CLOEXEC);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_ok(kith_collection_settle(other, &left, &err), &err);
    assert_true(left == UINT64_MAX);
    lock.l_type = F_UNLCK;
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_ok(kith_collection_settle(other, &left, &err), &err);
    assert_int_equal(left, 0);
    assert_ok(kith_collection_settle(c, NULL, &err), &err);
    assert_ok(kith_collection_count(reader, &rows, NULL, &err), &err);
    assert_int_equal(rows, 200);
    kith_collection_close(other);
    kith_collection_close(reader);
    kith_collection_close(c);
    close(fd); /* not before: it takes SQLite's own locks of the file along */
}

/* Two processes read while one writes: each sees whole batches only. Every batch moves all rows of one value. */
static void readers_see_whole_batches(void **state)
{
    (void)state;
    enum { ROWS = 40, BATCHES = 60 };
    kith_error err;
    kith_collection *c = test_collection("readers.kith", 1, KITH_L2SQ);
    float zero[ROWS] = {0};
    test_put_rows(c, 1, ROWS, zero, 1);
    kith_collection_close(c); /* SQLite's locks do not go through a fork */
    pid_t readers[2];
    for (int r = 0; r < 2; r++) {
        if ((readers[r] = fork()) != 0) continue;
        kith_collection *mine;
        kith_collection_options options;
        kith_collection_options_init(&options);
        options.read_only = 1;
        if (kith_collection_open(test_path("readers.kith"), &options, &mine, &err)) _exit(1);
        kith_collection_query query;
        kith_collection_query_init(&query);
        query.k = ROWS;
        float last = 0;
        do {
            int64_t keys[ROWS];
            float distances[ROWS];
            if (kith_collection_search(mine, 1, 1, zero, &query, keys, distances, NULL, &err)) _exit(2);
            if (distances[0] != distances[ROWS - 1]) _exit(3); /* half a batch */
            if (distances[0] < last) _exit(4);                 /* back in time */
            last = distances[0];
        } while (last < (float)(BATCHES * BATCHES));
        kith_collection_close(mine);
        _exit(0);
    }
    assert_ok(kith_collection_open(test_path("readers.kith"), NULL, &c, &err), &err);
    for (int batch = 1; batch <= BATCHES; batch++) {
        float value = (float)batch;
        assert_ok(kith_collection_begin(c, &err), &err);
        for (int64_t key = 1; key <= ROWS; key++) {
            kith_row row = {.key = key, .vector = &value, .dim = 1};
            assert_ok(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err);
        }
        assert_ok(kith_collection_commit(c, &err), &err);
    }
    for (int r = 0; r < 2; r++) {
        int status;
        waitpid(readers[r], &status, 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    kith_collection_close(c);
}

static void vectors_can_be_replaced_as_a_whole(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c = test_collection("reset.kith", 0, KITH_L2SQ), *other;
    const float x[6] = {1, 2, 3, 4, 5, 6};
    int64_t keys[3];
    float distances[3];
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = 3;
    test_put_rows(c, 1, 3, NULL, 0);
    assert_ok(kith_collection_begin(c, &err), &err);
    kith_row row = {.key = 1, .vector = x, .dim = 2};
    refuse(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), KITH_UNTRAINED, &err, "dim");
    kith_collection_rollback(c);
    refuse(kith_collection_search(c, 1, 2, x, &query, keys, distances, NULL, &err), KITH_UNTRAINED, &err,
           "no vectors");
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_reset_vectors(c, 2, KITH_L1, &err), &err);
    for (row.key = 1; row.key <= 3; row.key++, row.vector += 2)
        assert_ok(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_open(test_path("reset.kith"), NULL, &other, &err), &err);
    assert_int_equal(kith_collection_dim(other), 2);
    assert_int_equal(kith_collection_metric(other), KITH_L1);
    assert_ok(kith_collection_search(other, 1, 2, x, &query, keys, distances, NULL, &err), &err);
    assert_true(distances[2] == 8);
    /* Replace by vectors of another length; the other handle follows, and refuses queries of the old length. */
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_reset_vectors(c, 3, KITH_L2SQ, &err), &err);
    row = (kith_row){.key = 2, .vector = x, .dim = 2};
    refuse(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), KITH_INVALID, &err, "2 components");
    row.dim = 3;
    assert_ok(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err);
    assert_ok(kith_collection_search(other, 1, 2, x, &query, keys, distances, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    refuse(kith_collection_search(other, 1, 2, x, &query, keys, distances, NULL, &err), KITH_INVALID, &err,
           "2 comp");
    for (int i = 0; i < 2; i++) {
        assert_ok(kith_collection_search(i ? c : other, 1, 3, x, &query, keys, distances, NULL, &err), &err);
        assert_int_equal(keys[0], 2);
        assert_int_equal(keys[1], 0);
    }
    refuse(kith_collection_reset_vectors(c, 3, KITH_L2SQ, &err), KITH_INVALID, &err, "no batch");
    assert_ok(kith_collection_begin(c, &err), &err);
    refuse(kith_collection_reset_vectors(c, 1 << 17, KITH_L2SQ, &err), KITH_INVALID, &err,
           "allowed 0..65536");
    refuse(kith_collection_reset_vectors(c, 3, KITH_HAMMING, &err), KITH_INVALID, &err, "metric");
    kith_collection_rollback(c);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(other);
    kith_collection_close(c);
}

static void bad_rows_are_refused(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c = test_collection("badrows.kith", 2, KITH_L2SQ);
    const float nan_at_end[2] = {1, NAN}, infinite[2] = {INFINITY, 0}, good[2] = {1, 2};
    assert_ok(kith_collection_begin(c, &err), &err);
    kith_row row = {.vector = nan_at_end, .dim = 2};
    refuse(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), KITH_INVALID, &err, "not finite");
    row.vector = infinite;
    refuse(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), KITH_INVALID, &err, "not finite");
    row = (kith_row){.vector = good, .dim = 1};
    refuse(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), KITH_INVALID, &err, "1 components");
    row = (kith_row){.key = -1};
    refuse(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), KITH_INVALID, &err, "key is -1");
    row = (kith_row){.attachment = "x", .attachment_size = KITH_COLLECTION_MAX_ATTACHMENT + 1ul};
    refuse(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), KITH_INVALID, &err, "attachment");
    refuse(kith_collection_put(c, 16, &row, NULL, &err), KITH_INVALID, &err, "parts is 16");
    refuse(kith_collection_put(c, KITH_ROW_ALL, NULL, NULL, &err), KITH_INVALID, &err, "row");
    row = (kith_row){.key = INT64_MAX};
    assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
    row.key = 0;
    refuse(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), KITH_INVALID, &err, "largest key");
    assert_ok(kith_collection_commit(c, &err), &err);
    kith_row last = {.key = 5};
    assert_ok(kith_collection_next(c, 5, 0, &last, &err), &err);
    assert_true(last.key == INT64_MAX);
    assert_ok(kith_collection_next(c, INT64_MAX, 0, &last, &err), &err);
    assert_int_equal(last.key, 0);
    kith_collection_close(c);
}

/* ---- Opening ---- */

static void creating_and_opening(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c = test_collection("open ?#%25 ü.kith", 4, KITH_DOT), *none = (kith_collection *)&err;
    const char *path = test_path("open ?#%25 ü.kith");
    kith_collection_close(c);
    refuse(kith_collection_create(path, 4, KITH_DOT, NULL, &none, &err), KITH_EXISTS, &err, "exists");
    assert_null(none);
    assert_ok(kith_collection_open(path, NULL, &c, &err), &err);
    assert_string_equal(kith_collection_path(c), path);
    kith_collection_stats stats = {.struct_size = sizeof stats};
    assert_ok(kith_collection_get_stats(c, &stats, &err), &err);
    assert_int_equal(strspn(stats.id, "0123456789abcdef"), 32);
    assert_int_equal(stats.schema, 3);
    kith_collection_close(c);
    kith_collection_close(NULL);
    refuse(kith_collection_open(test_path("nothing.kith"), NULL, &none, &err), KITH_NOTFOUND, &err,
           "nothing.kith");
    refuse(kith_collection_create(test_path("no/folder.kith"), 4, KITH_DOT, NULL, &none, &err), KITH_NOTFOUND,
           &err, "folder.kith");
    refuse(kith_collection_create(test_path("a.kith"), 65537, KITH_DOT, NULL, &none, &err), KITH_INVALID,
           &err, "dim");
    refuse(kith_collection_create(test_path("a.kith"), 1, KITH_JACCARD, NULL, &none, &err), KITH_INVALID,
           &err, "metric");
    refuse(kith_collection_open("", NULL, &none, &err), KITH_INVALID, &err, "path");
    refuse(kith_collection_open(test_folder(), NULL, &none, &err), KITH_FORMAT, &err, "not a file");
    test_write_file(test_path("text.kith"),
                    "This is a text and not a database at all. It is long enough, too.\n", 66);
    refuse(kith_collection_open(test_path("text.kith"), NULL, &none, &err), KITH_FORMAT, &err, "text.kith");
    test_write_file(test_path("empty.kith"), "", 0);
    refuse(kith_collection_open(test_path("empty.kith"), NULL, &none, &err), KITH_FORMAT, &err, "not a kith");
    /* No temporary file is left beside any of these. */
    char command[600];
    snprintf(command, sizeof command, "! ls '%s' | grep -e new-", test_folder());
    assert_int_equal(system(command), 0);
}

static void only_what_is_empty_is_discarded(void **state)
{
    (void)state;
    kith_error err;
    const char *path = test_path("discarded.kith");
    kith_collection *c = test_collection("discarded.kith", 2, KITH_L2SQ), *other;
    assert_ok(kith_collection_open(path, NULL, &other, &err), &err);
    refuse(kith_collection_discard(c, &err), KITH_BUSY, &err,
           "discarded.kith"); /* somebody else has it open */
    kith_row row = {.key = 7};
    assert_ok(kith_collection_begin(other, &err), &err);
    assert_ok(kith_collection_put(other, 0, &row, NULL, &err), &err);
    assert_ok(kith_collection_commit(other, &err), &err);
    refuse(kith_collection_discard(other, &err), KITH_EXISTS, &err, "has rows");
    assert_ok(kith_collection_open(path, NULL, &c, &err), &err);
    assert_ok(kith_collection_get(c, 7, 0, &row, &err), &err);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_delete(c, 7, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_discard(c, &err), &err);
    char command[600];
    snprintf(command, sizeof command, "! ls '%s' | grep discarded", test_folder());
    assert_int_equal(system(command), 0);
    /* What is written into a file without a name would be lost. */
    c = test_collection("discarded.kith", 2, KITH_L2SQ);
    assert_int_equal(unlink(path), 0);
    refuse(kith_collection_begin(c, &err), KITH_NOTFOUND, &err, "removed or replaced");
    other = test_collection("discarded.kith", 2, KITH_L2SQ);
    refuse(kith_collection_begin(c, &err), KITH_NOTFOUND, &err, "removed or replaced");
    refuse(kith_collection_discard(c, &err), KITH_NOTFOUND, &err, "removed");
    assert_ok(kith_collection_begin(other, &err), &err);
    kith_collection_close(other);
}

static void run_sql(const char *path, const char *sql)
{
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) fail_msg("%s: %s", sql, why);
    sqlite3_close(db);
}

static void other_databases_are_refused(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c;
    run_sql(test_path("foreign.kith"), "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    refuse(kith_collection_open(test_path("foreign.kith"), NULL, &c, &err), KITH_FORMAT, &err, "not a kith");
    static const struct {
        const char *sql, *word;
        kith_status status;
    } cases[] = {
        {"PRAGMA user_version=4", "version 4", KITH_VERSION},
        {"PRAGMA user_version=2000000000", "version 2000000000", KITH_VERSION},
        {"PRAGMA user_version=0", "version is 0", KITH_CORRUPT},
        {"PRAGMA user_version=-1", "version is -1", KITH_CORRUPT},
        {"PRAGMA application_id=7", "not a kith", KITH_FORMAT},
        {"CREATE TABLE more(x)", "tables", KITH_CORRUPT},
        {"CREATE TRIGGER t AFTER INSERT ON record BEGIN DELETE FROM record; END", "tables", KITH_CORRUPT},
        {"CREATE INDEX i ON record(abs(key))", "tables", KITH_CORRUPT},
        {"CREATE INDEX i ON record(abs(key)); PRAGMA writable_schema=1;"
         "UPDATE sqlite_schema SET name = 'sqlite_i', sql = 'CREATE INDEX sqlite_i ON record(abs(key))'"
         " WHERE name = 'i'",
         "tables", KITH_CORRUPT},
        {"CREATE VIEW v AS SELECT 1", "tables", KITH_CORRUPT},
        {"DROP TABLE named", "tables", KITH_CORRUPT},
        {"DROP TABLE record; CREATE VIEW record AS SELECT 1 AS slot, 2 AS key, 3 AS payload, 4 AS vector",
         "tables", KITH_CORRUPT},
        {"ALTER TABLE record ADD COLUMN x", "", KITH_CORRUPT},
        {"DELETE FROM collection", "state", KITH_CORRUPT},
        {"UPDATE collection SET dim = -1", "state", KITH_CORRUPT},
        {"UPDATE collection SET dim = 1000000000", "state", KITH_CORRUPT},
        {"UPDATE collection SET metric = 9", "state", KITH_CORRUPT},
        {"UPDATE collection SET version = -1", "state", KITH_CORRUPT},
        {"UPDATE collection SET version = 9223372036854775807", "state", KITH_CORRUPT},
        {"UPDATE collection SET oldest = 0", "state", KITH_CORRUPT},
        {"UPDATE collection SET vectors = rows + 1", "state", KITH_CORRUPT},
        {"UPDATE collection SET rows = last_slot + 1", "state", KITH_CORRUPT},
        {"UPDATE collection SET id = x'00'", "state", KITH_CORRUPT},
    };
    const float x[2] = {1, 2};
    c = test_collection("model.kith", 1, KITH_L2SQ);
    test_put_rows(c, 1, 2, x, 1);
    kith_collection_close(c);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_collection_remove(test_path("other.kith"));
        test_copy_file(test_path("model.kith"), test_path("other.kith"));
        if (strstr(cases[i].sql, "ADD COLUMN x") != NULL) /* STRICT wants a type */
            run_sql(test_path("other.kith"), "ALTER TABLE record ADD COLUMN x INTEGER");
        else
            run_sql(test_path("other.kith"), cases[i].sql);
        kith_status status = kith_collection_open(test_path("other.kith"), NULL, &c, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].word))
            fail_msg("%s: %s: %s", cases[i].sql, kith_status_name(status), status ? err.message : "");
        assert_null(c);
    }
}

/* What only a check of the rows can find. */
static void check_finds_what_is_wrong(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "UPDATE record SET vector = x'0000' WHERE key = 2",
        "UPDATE record SET vector = x'0000c07f' WHERE key = 2", /* NaN */
        "UPDATE record SET vector = x'0000807f' WHERE key = 2", /* infinity */
        "UPDATE record SET vector = NULL WHERE key = 2",
        "UPDATE record SET payload = '{' WHERE key = 2",
        "UPDATE record SET payload = '[]' WHERE key = 2",
        "UPDATE record SET payload = '{ }' WHERE key = 2",
        "UPDATE record SET key = 99 WHERE key = 2",
        "UPDATE record SET key = -2 WHERE key = 2",
        "UPDATE record SET slot = 99 WHERE key = 2",
        "UPDATE record SET slot = -5 WHERE key = 2",
        "DELETE FROM record WHERE key = 2",
        "INSERT INTO free_slot VALUES(2)",
        "INSERT INTO free_slot VALUES(7)",
        "INSERT INTO attachment VALUES(7, x'00')",
        "DELETE FROM change WHERE version = 1",
        "INSERT INTO change VALUES(9, 1, 7)",
        "DELETE FROM batch",
        "UPDATE batch SET stamp = stamp + 1",
        "UPDATE collection SET last_slot = 7",
    };
    kith_error err;
    kith_collection *c = test_collection("sound.kith", 1, KITH_L2SQ);
    const float x[3] = {1, 2, 3};
    test_put_rows(c, 1, 3, x, 1);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_collection_remove(test_path("unsound.kith"));
        test_copy_file(test_path("sound.kith"), test_path("unsound.kith"));
        run_sql(test_path("unsound.kith"), cases[i]);
        assert_ok(kith_collection_open(test_path("unsound.kith"), NULL, &c, &err), &err);
        kith_status status = kith_collection_check(c, NULL, &err);
        if (status != KITH_CORRUPT) fail_msg("%s: %s", cases[i], kith_status_name(status));
        kith_row row;
        int64_t keys[2];
        float distances[2];
        kith_collection_query query;
        kith_collection_query_init(&query);
        query.k = 2;
        status = kith_collection_get(c, 2, KITH_ROW_ALL, &row, &err);
        assert_true(status == KITH_OK || status == KITH_CORRUPT || status == KITH_NOTFOUND);
        status = kith_collection_search(c, 1, 1, x, &query, keys, distances, NULL, &err);
        assert_true(status == KITH_OK || status == KITH_CORRUPT);
        kith_collection_close(c);
    }
}

static void a_read_only_folder_opens(void **state)
{
    (void)state;
    kith_error err;
    char folder[600], path[700];
    snprintf(folder, sizeof folder, "%s", test_path("readonly"));
    snprintf(path, sizeof path, "%s/c.kith", folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    assert_int_equal(chmod(test_folder(), 0755), 0);
    const float x[2] = {1, 2};
    kith_collection *c;
    assert_ok(kith_collection_create(path, 1, KITH_L2SQ, NULL, &c, &err), &err);
    test_put_rows(c, 1, 2, x, 1);
    kith_collection_close(c);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(folder, 0555), 0);
    pid_t child = fork();
    if (child == 0) { /* root may write anywhere, so become somebody else */
        if (geteuid() == 0 && seteuid(65534) != 0) _exit(9);
        kith_collection_options options;
        kith_collection_options_init(&options);
        if (kith_collection_open(path, &options, &c, &err) != KITH_READONLY) _exit(1);
        options.read_only = 1;
        if (kith_collection_open(path, &options, &c, &err) != KITH_OK) _exit(2);
        kith_collection_query query;
        kith_collection_query_init(&query);
        int64_t keys[10];
        float distances[10];
        if (kith_collection_search(c, 1, 1, x + 1, &query, keys, distances, NULL, &err) != KITH_OK) _exit(3);
        if (keys[0] != 2 || keys[1] != 1 || keys[2] != 0) _exit(4);
        if (kith_collection_check(c, NULL, &err) != KITH_OK) _exit(5);
        if (kith_collection_begin(c, &err) != KITH_READONLY) _exit(6);
        if (kith_collection_fold(c, NULL, &err) != KITH_READONLY) _exit(7);
        kith_collection_close(c);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    chmod(folder, 0755);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A writer that is killed leaves a log; whoever may not write beside it must not pass it over. */
static void a_log_in_a_read_only_folder_is_not_passed_over(void **state)
{
    (void)state;
    kith_error err;
    char folder[600], path[700];
    snprintf(folder, sizeof folder, "%s", test_path("leftover"));
    snprintf(path, sizeof path, "%s/c.kith", folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    const float x[2] = {1, 2};
    kith_collection *c;
    pid_t child = fork();
    if (child == 0) {
        if (kith_collection_create(path, 1, KITH_L2SQ, NULL, &c, &err)) _exit(1);
        test_put_rows(c, 1, 2, x, 1);
        _exit(0); /* without closing: as if killed */
    }
    int status;
    waitpid(child, &status, 0);
    char name[800];
    snprintf(name, sizeof name, "%s-shm", path);
    unlink(name);
    chmod(folder, 0555);
    child = fork();
    if (child == 0) {
        if (geteuid() == 0 && seteuid(65534) != 0) _exit(9);
        kith_collection_options options;
        kith_collection_options_init(&options);
        options.read_only = 1;
        if (kith_collection_open(path, &options, &c, &err) != KITH_READONLY) _exit(1);
        _exit(strstr(err.message, "log") ? 0 : 2);
    }
    waitpid(child, &status, 0);
    chmod(folder, 0755);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_ok(kith_collection_open(path, NULL, &c, &err), &err); /* with write access it is settled */
    uint64_t rows;
    assert_ok(kith_collection_count(c, &rows, NULL, &err), &err);
    assert_int_equal(rows, 2);
    kith_collection_close(c);
}

/* ---- Content hash ---- */

static void equal_content_gives_equal_hashes(void **state)
{
    (void)state;
    kith_error err;
    const float x[6] = {1, 2, 3, 4, 5, 6};
    uint64_t a, b;
    kith_collection *first = test_collection("hash1.kith", 2, KITH_L2SQ);
    kith_collection *second = test_collection("hash2.kith", 2, KITH_L2SQ);
    test_put_rows(first, 1, 3, x, 2);
    assert_ok(kith_collection_begin(second, &err), &err);
    for (int64_t key = 4; key >= 1; key--) { /* another history, other slots, the same rows in the end */
        char payload[32];
        snprintf(payload, sizeof payload, " {\"n\" :%lld}", (long long)key);
        kith_row row = {.key = key, .payload = payload, .vector = x + 2 * (key % 4 ? key - 1 : 0), .dim = 2};
        assert_ok(kith_collection_put(second, KITH_ROW_ALL, &row, NULL, &err), &err);
    }
    assert_ok(kith_collection_delete(second, 4, &err), &err);
    assert_ok(kith_collection_meta_set(second, "name", "v", 1, &err), &err);
    assert_ok(kith_collection_commit(second, &err), &err);
    assert_ok(kith_collection_hash(first, NULL, &a, &err), &err);
    assert_ok(kith_collection_hash(second, NULL, &b, &err), &err);
    assert_true(a == b);
    kith_row row = {.key = 2};
    for (unsigned part = KITH_ROW_PAYLOAD; part <= KITH_ROW_VECTOR; part *= 2) {
        assert_ok(kith_collection_begin(second, &err), &err);
        assert_ok(kith_collection_put(second, part, &row, NULL, &err), &err);
        assert_ok(kith_collection_hash(second, NULL, &b, &err), &err);
        assert_true(a != b);
        kith_collection_rollback(second);
    }
    assert_ok(kith_collection_hash(second, NULL, &b, &err), &err);
    assert_true(a == b);
    kith_collection_close(first);
    kith_collection_close(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(parts_not_named_stay),
        cmocka_unit_test(random_changes),
        cmocka_unit_test(slots_are_used_again),
        cmocka_unit_test(pinned_reads_see_one_state),
        cmocka_unit_test(payloads_are_canonical),
        cmocka_unit_test(bad_payloads_are_refused),
        cmocka_unit_test(named_values),
        cmocka_unit_test(batches_are_whole_or_nothing),
        cmocka_unit_test(a_second_writer_waits),
        cmocka_unit_test(readers_see_whole_batches),
        cmocka_unit_test(logs_are_settled),
        cmocka_unit_test(vectors_can_be_replaced_as_a_whole),
        cmocka_unit_test(bad_rows_are_refused),
        cmocka_unit_test(creating_and_opening),
        cmocka_unit_test(only_what_is_empty_is_discarded),
        cmocka_unit_test(other_databases_are_refused),
        cmocka_unit_test(check_finds_what_is_wrong),
        cmocka_unit_test(a_read_only_folder_opens),
        cmocka_unit_test(a_log_in_a_read_only_folder_is_not_passed_over),
        cmocka_unit_test(equal_content_gives_equal_hashes),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
