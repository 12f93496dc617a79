/* Declared fields: what may be declared; that filters mean the same with them and without, for random filters over random
 * rows and through every kind of change; moments and points against plain arithmetic; that a check finds damage. */
#include "collections.h"

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/geo.h"
#include "engine/timestamp.h"

static void begin(kith_collection *c)
{
    kith_error err;
    assert_ok(kith_collection_begin(c, &err), &err);
}

static void commit(kith_collection *c)
{
    kith_error err;
    assert_ok(kith_collection_commit(c, &err), &err);
}

static void put(kith_collection *c, int64_t key, const char *payload)
{
    kith_error err;
    kith_row row = {.key = key, .payload = payload};
    assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
}

static void add(kith_collection *c, const char *name, kith_field_kind kind)
{
    kith_error err;
    assert_ok(kith_collection_field_add(c, name, kind, &err), &err);
}

static uint64_t count(kith_collection *c, const char *filter)
{
    kith_error err;
    uint64_t rows = 0;
    kith_status status = kith_collection_count_where(c, filter, &rows, &err);
    if (status != KITH_OK) fail_msg("%s: %s", filter, err.message);
    return rows;
}

#define refuse(call, wanted, word)                                                                \
    do {                                                                                          \
        kith_status status_ = (call);                                                             \
        if (status_ != (wanted) || !strstr(err.message, word))                                    \
            fail_msg("%s: %s: %s", #call, kith_status_name(status_), status_ ? err.message : ""); \
    } while (0)

static void declares_and_refuses(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c = test_collection("declare.kith", 0, KITH_L2SQ);
    refuse(kith_collection_field_add(c, "a", KITH_FIELD_INT, &err), KITH_INVALID, "no batch");
    begin(c);
    put(c, 1, "{\"a\":1,\"b\":{\"c\":\"x\"}}");
    put(c, 2, "{\"a\":null,\"b\":{}}");
    refuse(kith_collection_field_add(c, "a b", KITH_FIELD_INT, &err), KITH_INVALID, "at byte 2");
    refuse(kith_collection_field_add(c, "", KITH_FIELD_INT, &err), KITH_INVALID, "a field");
    refuse(kith_collection_field_add(c, "$key", KITH_FIELD_INT, &err), KITH_INVALID, "a field");
    refuse(kith_collection_field_add(c, "a", (kith_field_kind)7, &err), KITH_INVALID, "kind is 7");
    refuse(kith_collection_field_add(c, "b.c", KITH_FIELD_INT, &err), KITH_INVALID, "in row 1");
    add(c, "b.c", KITH_FIELD_TEXT);
    refuse(kith_collection_field_add(c, "b[\"c\"]", KITH_FIELD_TEXT, &err), KITH_EXISTS, "already");
    add(c, "a", KITH_FIELD_INT);
    kith_row bad = {.key = 3, .payload = "{\"a\":1.5}"};
    refuse(kith_collection_put(c, KITH_ROW_PAYLOAD, &bad, NULL, &err), KITH_INVALID, "a is declared as int");
    commit(c);
    assert_int_equal(count(c, "a == 1"), 1);
    assert_int_equal(count(c, "b.c == \"x\""), 1);

    /* A declaration that is rolled back was none. */
    begin(c);
    assert_ok(kith_collection_field_drop(c, "a", &err), &err);
    kith_collection_rollback(c);
    kith_field fields[4];
    size_t n = 4;
    assert_ok(kith_collection_fields(c, fields, &n, &err), &err);
    assert_int_equal(n, 2);
    assert_string_equal(fields[0].name, "b.c");
    assert_int_equal(fields[1].kind, KITH_FIELD_INT);
    begin(c);
    refuse(kith_collection_field_drop(c, "x", &err), KITH_NOTFOUND, "no field x");
    assert_ok(kith_collection_field_drop(c, "a", &err), &err);
    put(c, 3, "{\"a\":1.5}"); /* and may be again what it likes */
    commit(c);
    assert_int_equal(count(c, "a > 0"), 2);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_field_kind kind;
    for (int k = KITH_FIELD_INT; k <= KITH_FIELD_GEO; k++) {
        assert_ok(kith_field_kind_parse(kith_field_kind_name((kith_field_kind)k), &kind, &err), &err);
        assert_int_equal(kind, k);
    }
    refuse(kith_field_kind_parse("number", &kind, &err), KITH_INVALID, "no kind");
    kith_collection_close(c);
}

/* ---- With and without declarations ---- */

static void random_row(ki_rng *rng, char *out, size_t room)
{
    static const char *const texts[] = {"\"\"", "\"ab\"", "\"abc\"", "\"b\\\"c\"", "\"\xc3\xa4\"", "null"};
    static const char *const bools[] = {"true", "false", "null"};
    static const char *const times[] = {"\"2024-02-29\"", "\"2024-02-29T01:00:00+01:00\"", "1709164800",
                                        "1709164800.5",   "\"1999-12-31T23:59:59.25Z\"",   "null"};
    size_t n = (size_t)snprintf(out, room, "{\"u\":%d", (int)ki_rng_below(rng, 6));
    if (ki_rng_below(rng, 5))
        n += (size_t)snprintf(out + n, room - n, ",\"i\":%d", (int)ki_rng_below(rng, 9) - 4);
    if (ki_rng_below(rng, 5))
        n += (size_t)snprintf(out + n, room - n, ",\"f\":%s%d", ki_rng_below(rng, 2) ? "" : "0.",
                              (int)ki_rng_below(rng, 9) + 1);
    n += (size_t)snprintf(out + n, room - n, ",\"t\":%s", texts[ki_rng_below(rng, 6)]);
    if (ki_rng_below(rng, 4))
        n += (size_t)snprintf(out + n, room - n, ",\"b\":%s", bools[ki_rng_below(rng, 3)]);
    n += (size_t)snprintf(out + n, room - n, ",\"at\":%s", times[ki_rng_below(rng, 6)]);
    if (ki_rng_below(rng, 4))
        n += (size_t)snprintf(out + n, room - n, ",\"pos\":{\"lat\":%d,\"lon\":%d}",
                              (int)ki_rng_below(rng, 181) - 90, (int)ki_rng_below(rng, 361) - 180);
    snprintf(out + n, room - n, "}");
}

static const char *const leaves[] = {
    "i == 2",
    "i != 2",
    "i < 1",
    "i <= -1",
    "3 > i",
    "i >= 2",
    "-2 < i <= 2",
    "i in [1, 2, 7]",
    "i not in [1, 2]",
    "i in []",
    "i == 2.0",
    "i + 1 > 2",
    "i % 2 == 0",
    "i == \"2\" or i == 3",
    "i < f",
    "i == u",
    "f > 0.5",
    "f == 3",
    "not f < 2",
    "-f < -3",
    "t == \"ab\"",
    "t != \"ab\"",
    "t > \"ab\"",
    "t like \"a%\"",
    "t not like \"_\\\"%\"",
    "t in [\"\", \"abc\"]",
    "t < 5",
    "b",
    "not b",
    "b == false",
    "b != true",
    "exists t",
    "t is null",
    "i is not null",
    "u == 3",
    "u in [1, 2]",
    "$key % 3 == 0",
    "i == $key",
    "u < 3",
    "time(at) == time(\"2024-02-29\")",
    "time(at) > 1709164800",
    "time(at) <= \"2024-02-29T00:00:00Z\"",
    "time(at) in [\"1999-12-31T23:59:59.25Z\", \"2024-02-29\"]",
    "geo_distance(pos, 48.9, 2.4) < 3000000",
    "geo_distance(pos, 48.9, -178) <= 6e6",
    "geo_distance(pos, 89, 10) < 2500000",
    "geo_distance(pos, 0, 0) > 9000000",
    "geo_within(pos, -10, -20, 40, 90)",
    "geo_within(pos, -80, 150, 60, -120)",
    "not geo_within(pos, -90, -180, 0, 180)",
    "geo_distance(pos, -90, 0) < 4000000",
};
#define LEAVES (sizeof leaves / sizeof *leaves)

static void random_filter(ki_rng *rng, int depth, FILE *out)
{
    uint64_t form = depth > 0 ? ki_rng_below(rng, 4) : 3;
    if (form == 3) {
        fprintf(out, "(%s)", leaves[ki_rng_below(rng, LEAVES)]);
        return;
    }
    fputs(form == 2 ? "not (" : "(", out);
    random_filter(rng, depth - 1, out);
    if (form != 2) fputs(form == 0 ? " and " : " or ", out);
    if (form != 2) random_filter(rng, depth - 1, out);
    fputc(')', out);
}

/* The keys that a filter lets through must be the same in both. */
static void compare(kith_collection *plain, kith_collection *declared, const char *filter)
{
    kith_error err;
    kith_row a = {0}, b = {0};
    do {
        assert_ok(kith_collection_next_where(plain, filter, a.key, 0, &a, &err), &err);
        assert_ok(kith_collection_next_where(declared, filter, b.key, 0, &b, &err), &err);
        if (a.key != b.key)
            fail_msg("%s: %lld, without declarations %lld", filter, (long long)b.key, (long long)a.key);
    } while (a.key);
}

static void declare_all(kith_collection *c)
{
    add(c, "i", KITH_FIELD_INT);
    add(c, "f", KITH_FIELD_FLOAT);
    add(c, "t", KITH_FIELD_TEXT);
    add(c, "b", KITH_FIELD_BOOL);
    add(c, "at", KITH_FIELD_TIME);
    add(c, "pos", KITH_FIELD_GEO);
}

static void mean_the_same(const char *name, int64_t step)
{
    enum { ROWS = 400, ROUNDS = 6, FILTERS = 120 };
    kith_error err;
    ki_rng rng;
    char payload[512];
    ki_rng_init(&rng, test_seed(), (uint64_t)step);
    kith_collection *plain = test_collection("plain.kith", 0, KITH_L2SQ), *declared;
    declared = test_collection(name, 0, KITH_L2SQ);
    kith_collection *both[] = {plain, declared};
    begin(declared);
    if (step == 1) declare_all(declared);
    for (int round = 0; round < ROUNDS; round++) {
        if (round > 0) begin(declared);
        begin(plain);
        for (size_t i = 0; i < ROWS / (round ? 10 : 1); i++) {
            int64_t key = (round ? (int64_t)ki_rng_below(&rng, ROWS) + 1 : (int64_t)i + 1) * step;
            random_row(&rng, payload, sizeof payload);
            int deletes = round > 0 && ki_rng_below(&rng, 3) == 0;
            for (int j = 0; j < 2; j++) {
                if (!deletes)
                    put(both[j], key, payload);
                else
                    (void)kith_collection_delete(both[j], key, NULL);
            }
        }
        if (step != 1 && round == 0) declare_all(declared); /* over rows that are there */
        commit(plain);
        commit(declared);
        for (size_t i = 0; i < LEAVES; i++) compare(plain, declared, leaves[i]);
        for (int i = 0; i < FILTERS; i++) {
            char *filter = NULL;
            size_t size;
            FILE *out = open_memstream(&filter, &size);
            random_filter(&rng, 3, out);
            fclose(out);
            compare(plain, declared, filter);
            free(filter);
        }
        assert_ok(kith_collection_check(declared, NULL, &err), &err);
    }
    kith_collection_close(plain);
    kith_collection_close(declared);
}

static void filters_mean_the_same(void **state)
{
    (void)state;
    mean_the_same("dense.kith", 1);
    mean_the_same("sparse.kith", INT64_C(9000000000000));
}

/* ---- Moments and points ---- */

static void moments(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t seconds; /* INT64_MIN: none */
        double fraction;
    } cases[] = {
        {"1970-01-01", 0, 0},
        {"1970-01-01T00:00:00Z", 0, 0},
        {"1969-12-31T23:59:59Z", -1, 0},
        {"2000-03-01", 951868800, 0},
        {"2024-02-29T23:59:60z", 1709251200, 0},
        {"2024-05-01 12:30+02:00", 1714559400, 0},
        {"2024-05-01T12:30:00.25-00:30", 1714568400, 0.25},
        {"0001-01-01", -62135596800, 0},
        {"9999-12-31T23:59:59Z", 253402300799, 0},
        {"2023-02-29", INT64_MIN, 0},
        {"1900-02-29", INT64_MIN, 0},
        {"2024-13-01", INT64_MIN, 0},
        {"2024-05-01T24:00Z", INT64_MIN, 0},
        {"2024-05-01T12:30:00.", INT64_MIN, 0},
        {"2024-05-01T12:30:00+2:00", INT64_MIN, 0},
        {"2024-05-01x", INT64_MIN, 0},
        {"2024-5-1", INT64_MIN, 0},
        {"", INT64_MIN, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t seconds;
        double fraction;
        int is = ki_timestamp_parse(cases[i].text, strlen(cases[i].text), &seconds, &fraction);
        if (is != (cases[i].seconds != INT64_MIN) ||
            (is && (seconds != cases[i].seconds || fabs(fraction - cases[i].fraction) > 1e-12)))
            fail_msg("'%s': %d %lld %g", cases[i].text, is, (long long)seconds, fraction);
    }
    kith_error err;
    kith_collection *c = test_collection("moments.kith", 0, KITH_L2SQ);
    begin(c);
    put(c, 1, "{\"at\":\"2024-05-01T12:30:00.5Z\"}");
    put(c, 2, "{\"at\":\"2024-05-01T12:30:00Z\"}");
    put(c, 3, "{\"at\":\"2024-05-01T14:30:00+02:00\"}");
    put(c, 4, "{\"at\":1714566600}");
    add(c, "at", KITH_FIELD_TIME);
    refuse(kith_collection_put(c, KITH_ROW_PAYLOAD, &(kith_row){.payload = "{\"at\":\"May\"}"}, NULL, &err),
           KITH_INVALID, "declared as time");
    commit(c);
    assert_int_equal(count(c, "at == \"2024-05-01T12:30:00Z\""), 3);
    assert_int_equal(count(c, "at > \"2024-05-01T12:30:00Z\""), 1);
    assert_int_equal(count(c, "\"2024-05-01\" <= at < \"2024-05-02\""), 4);
    assert_int_equal(count(c, "at in [\"2024-05-01T12:30:00.5Z\", 1714566600]"), 4);
    assert_int_equal(count(c, "at >= 1714566600 and not at == 1714566600"), 1);
    assert_int_equal(count(c, "at - 1714566600 == 0"), 3);
    assert_int_equal(count(c, "at like \"%Z\""), 2); /* like is of the text */
    uint64_t n;
    refuse(kith_collection_count_where(c, "at > \"May\"", &n, &err), KITH_INVALID, "'May' is no time");
    refuse(kith_collection_filter_check("time(\"x\") > 3", &err), KITH_INVALID, "is no time");
    refuse(kith_collection_filter_check("geo_distance(a, 91, 0) > 3", &err), KITH_INVALID, "degrees");
    refuse(kith_collection_filter_check("geo_within(a, 1, 2, 3)", &err), KITH_INVALID, "',' expected");
    kith_collection_close(c);
}

/* Every point of a box is in one of its ranges, and near points are not far on the earth. */
static void boxes_are_covered(void **state)
{
    (void)state;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 2);
    assert_true(fabs(ki_point_distance((ki_point){0, 0}, (ki_point){0, 180}) - 20015114) < 10);
    assert_true(fabs(ki_point_distance((ki_point){48.8566, 2.3522}, (ki_point){51.5074, -0.1278}) - 343556) <
                500);
    for (int i = 0; i < 3000; i++) {
        ki_point middle = {(double)ki_rng_below(&rng, 1801) / 10 - 90,
                           (double)ki_rng_below(&rng, 3601) / 10 - 180};
        double metres = pow(10, (double)ki_rng_below(&rng, 80) / 10);
        ki_box box = ki_box_around(middle, metres);
        ki_curve_range ranges[KI_BOX_RANGES];
        size_t n = ki_box_cover(box, ranges);
        assert_in_range(n, 1, KI_BOX_RANGES);
        for (int j = 0; j < 60; j++) {
            double far = metres / 111195 * 1.1;
            ki_point p = {middle.lat + far * ((double)ki_rng_below(&rng, 2001) / 1000 - 1),
                          middle.lon + far * ((double)ki_rng_below(&rng, 2001) / 1000 - 1)};
            if (p.lat < -90 || p.lat > 90) continue;
            while (p.lon > 180) p.lon -= 360;
            while (p.lon < -180) p.lon += 360;
            if (ki_point_distance(middle, p) > metres) continue;
            if (!ki_box_has(box, p))
                fail_msg("%g %g is not in the box around %g %g", p.lat, p.lon, middle.lat, middle.lon);
            unsigned char packed[KI_POINT_BYTES];
            uint64_t place = 0;
            ki_point_pack(p, packed);
            for (int b = 0; b < 8; b++) place = place << 8 | packed[b];
            size_t in = 0;
            for (size_t r = 0; r < n; r++) in += place >= ranges[r].first && place <= ranges[r].last;
            if (in != 1) fail_msg("%g %g is in %zu ranges", p.lat, p.lon, in);
        }
    }
}

/* ---- Damage ---- */

static void damage_is_found(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "DELETE FROM field_value WHERE key = 2",
        "UPDATE field_value SET value = 8 WHERE key = 2",
        "UPDATE field_value SET key = 9 WHERE key = 2",
        "INSERT INTO field_value VALUES(1, 3, 9)",
        "INSERT INTO field_value VALUES(7, 3, 1)",
        "UPDATE field SET kind = 9",
        "UPDATE field SET name = '5'",
        "DELETE FROM field",
    };
    kith_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kith_collection *c = test_collection("damage.kith", 0, KITH_L2SQ);
        begin(c);
        add(c, "a", KITH_FIELD_INT);
        put(c, 1, "{\"a\":5}");
        put(c, 2, "{\"a\":7}");
        commit(c);
        assert_ok(kith_collection_check(c, NULL, &err), &err);
        kith_collection_close(c);
        sqlite3 *db;
        assert_int_equal(sqlite3_open(test_path("damage.kith"), &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, cases[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        assert_ok(kith_collection_open(test_path("damage.kith"), NULL, &c, &err), &err);
        kith_status status = kith_collection_check(c, NULL, &err);
        if (status != KITH_CORRUPT) fail_msg("%s: %s", cases[i], kith_status_name(status));
        uint64_t n;
        status = kith_collection_count_where(c, "a > 3", &n, &err);
        assert_true(status == KITH_OK || status == KITH_CORRUPT);
        kith_collection_close(c);
    }
}

/* An allocator that fails once, or never. */
static size_t allocations, fail_at = SIZE_MAX;

static void *failing_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    void *block = NULL;
    if (allocations++ == fail_at || posix_memalign(&block, align, size) != 0) return NULL;
    return block;
}

static void failing_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

/* A read that runs out of memory inside a batch leaves the batch as it is: what is put afterwards is in the index of
 * every field. */
static void failed_reads_lose_no_field(void **state)
{
    (void)state;
    static const kith_allocator allocator = {.alloc = failing_alloc, .free = failing_free};
    kith_error err;
    kith_collection *c = test_collection("failed_reads.kith", 0, KITH_L2SQ);
    begin(c);
    add(c, "a", KITH_FIELD_INT);
    add(c, "b.c", KITH_FIELD_TEXT);
    commit(c);
    kith_collection_close(c);
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.allocator = &allocator;
    int failed = 1;
    for (size_t at = 0; failed; at++) {
        size_t n = 0;
        assert_ok(kith_collection_open(test_path("failed_reads.kith"), &options, &c, &err), &err);
        begin(c);
        put(c, 2 * (int64_t)at + 1, "{\"a\":1,\"b\":{\"c\":\"x\"}}"); /* the list is read anew after it */
        allocations = 0;
        fail_at = at;
        kith_status status = kith_collection_fields(c, NULL, &n, &err);
        fail_at = SIZE_MAX;
        failed = status != KITH_OK;
        if (failed) assert_int_equal(status, KITH_NOMEM);
        put(c, 2 * (int64_t)at + 2, "{\"a\":2,\"b\":{\"c\":\"y\"}}");
        commit(c);
        assert_ok(kith_collection_check(c, NULL, &err), &err);
        assert_int_equal(count(c, "a == 2 and b.c == \"y\""), at + 1);
        kith_collection_close(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(declares_and_refuses),  cmocka_unit_test(failed_reads_lose_no_field),
        cmocka_unit_test(filters_mean_the_same), cmocka_unit_test(moments),
        cmocka_unit_test(boxes_are_covered),     cmocka_unit_test(damage_is_found),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
