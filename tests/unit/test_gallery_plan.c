/* What an index has to do: rows and notes as JSON and back, and the comparison of a walk with what is known. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gallery/decoder.h"
#include "gallery/plan.h"
#include "gallery/row.h"
#include "gallery/utf8.h"

/* ---- Payloads ---- */

static void round_trip(const ki_walk_file *file)
{
    json_t *payload = json_object();
    ki_picture picture = {.hash = 0xfedcba9876543210u,
                          .phash = 7,
                          .width = 640,
                          .height = 480,
                          .format = KITH_IMAGE_PNG,
                          .date = "2004-07-11 09:26:53",
                          .camera = "Canon"};
    assert_true(ki_row_set_file(payload, file));
    assert_true(ki_row_set_picture(payload, &picture));
    char *text = json_dumps(payload, JSON_COMPACT);
    json_decref(payload);
    payload = ki_row_parse(text, strlen(text));
    ki_row_file back;
    assert_int_equal(ki_row_get_file(payload, &back), 1);
    assert_string_equal(back.path, file->path);
    assert_true(back.size == file->size && back.mtime_ns == file->mtime_ns && back.hash == picture.hash);
    free(back.path);
    free(text);
    json_decref(payload);
}

static void payloads_round_trip(void **state)
{
    (void)state;
    round_trip(&(ki_walk_file){.path = "a.jpg", .size = 1, .mtime_ns = 1});
    round_trip(&(ki_walk_file){
        .path = "a/b/\"c\\\n.jpg", .size = UINT32_MAX + 7ull, .mtime_ns = 1700000000123456789});
    round_trip(&(ki_walk_file){.path = "caf\xc3\xa9.jpg", .size = 0, .mtime_ns = 0});
    round_trip(&(ki_walk_file){.path = "caf\xe9/\xff\xfe.jpg", .size = 0, .mtime_ns = -1});
    round_trip(&(ki_walk_file){.path = "old.jpg", .size = 0, .mtime_ns = -1234567890123456789});
}

static void payloads_say_what_is_known(void **state)
{
    (void)state;
    json_t *payload = json_pack("{s:s, s:s, s:s}", "tag", "mine", "taken", "old", "path_hex", "ff");
    ki_picture picture = {.hash = 1, .phash = 0xa, .width = 2, .height = 3, .format = KITH_IMAGE_JPEG};
    assert_true(
        ki_row_set_file(payload, &(ki_walk_file){.path = "x/\xe9.jpg", .size = 5, .mtime_ns = 2500000000}));
    assert_true(ki_row_set_picture(payload, &picture));
    char *text = json_dumps(payload, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text,
                        "{\"folder\":\"x\",\"format\":\"JPEG\",\"hash\":\"0000000000000001\",\"height\":3,"
                        "\"mtime\":2,\"mtime_ns\":500000000,\"path\":\"x/\xef\xbf\xbd.jpg\","
                        "\"path_hex\":\"782fe92e6a7067\",\"phash\":\"000000000000000a\",\"size\":5,"
                        "\"tag\":\"mine\",\"width\":2}");
    free(text);
    json_decref(payload);
}

static void other_payloads_are_not_ours(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "[]",
        "{",
        "{\"path\":\"a\"}",
        "{\"path\":7,\"size\":1,\"mtime\":1,\"mtime_ns\":1,\"hash\":\"0000000000000001\"}",
        "{\"path\":\"a\",\"size\":-1,\"mtime\":1,\"mtime_ns\":1,\"hash\":\"0000000000000001\"}",
        "{\"path\":\"a\",\"size\":1,\"mtime\":9223372036854775807,\"mtime_ns\":1,\"hash\":"
        "\"0000000000000001\"}",
        "{\"path\":\"a\",\"size\":1,\"mtime\":1,\"mtime_ns\":1,\"hash\":\"1\"}",
        "{\"path\":\"a\",\"size\":1,\"mtime\":1,\"mtime_ns\":1,\"hash\":\"000000000000000g\"}",
        "{\"path\":\"a\",\"path_hex\":\"zz\",\"size\":1,\"mtime\":1,\"mtime_ns\":1,\"hash\":"
        "\"0000000000000001\"}",
        "{\"path\":\"a\",\"path_hex\":\"00\",\"size\":1,\"mtime\":1,\"mtime_ns\":1,\"hash\":"
        "\"0000000000000001\"}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ki_row_file file;
        json_t *payload = ki_row_parse(texts[i], strlen(texts[i]));
        assert_int_equal(ki_row_get_file(payload, &file), 0);
        json_decref(payload);
    }
}

static void notes_round_trip(void **state)
{
    (void)state;
    ki_bad bad = {.path = "caf\xe9.jpg",
                  .reason = "cut \xff short",
                  .status = KITH_CORRUPT,
                  .size = 12,
                  .mtime_ns = 5000000001,
                  .ctime_ns = 6000000002,
                  .limits = 42};
    json_t *note = ki_bad_note(&bad);
    char *text = json_dumps(note, JSON_COMPACT);
    json_decref(note);
    ki_bad back;
    assert_int_equal(ki_bad_parse(text, strlen(text), &back), 1);
    assert_string_equal(back.path, bad.path);
    assert_string_equal(back.reason, "cut \xef\xbf\xbd short");
    assert_true(back.status == bad.status && back.size == bad.size && back.mtime_ns == bad.mtime_ns &&
                back.ctime_ns == bad.ctime_ns && back.limits == bad.limits);
    ki_bad_clear(&back);
    for (size_t size = 0; size < strlen(text); size++) assert_int_equal(ki_bad_parse(text, size, &back), 0);
    free(text);
}

static void utf8_is_told(void **state)
{
    (void)state;
    assert_true(ki_utf8_valid(""));
    assert_true(ki_utf8_valid("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"));
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xe0\x80\xaf",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\xaf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xe2\x82",
                                      "a\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(ki_utf8_valid(bad[i]));
    char *clean = ki_utf8_clean("a\xff\xc3\xa9\xe2\x82");
    assert_string_equal(clean, "a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd");
    free(clean);
}

/* ---- Plans ---- */

#define LIMITS 5

static ki_walk_file files[] = {
    {.path = "bad-changed.jpg", .size = 11, .mtime_ns = 1, .ctime_ns = 1},
    {.path = "bad-same.jpg", .size = 10, .mtime_ns = 1, .ctime_ns = 1},
    {.path = "grown.jpg", .size = 8, .mtime_ns = 1},
    {.path = "new.jpg", .size = 5, .mtime_ns = 9},
    {.path = "same.jpg", .size = 5, .mtime_ns = 5},
    {.path = "stale.jpg", .size = 5, .mtime_ns = 5},
    {.path = "touched.jpg", .size = 5, .mtime_ns = 6},
};
static ki_known rows[] = {
    {.key = 7, .file = {.path = "gone-large.jpg", .size = 100, .mtime_ns = 1, .hash = 70}},
    {.key = 6, .file = {.path = "gone-small.jpg", .size = 5, .mtime_ns = 1, .hash = 60}},
    {.key = 5, .file = {.path = "gone-small2.jpg", .size = 5, .mtime_ns = 1, .hash = 50}},
    {.key = 1, .file = {.path = "grown.jpg", .size = 5, .mtime_ns = 1}},
    {.key = 2, .file = {.path = "same.jpg", .size = 5, .mtime_ns = 5}},
    {.key = 9, .file = {.path = "shut/in.jpg", .size = 5, .mtime_ns = 5}},
    {.key = 3, .file = {.path = "stale.jpg", .size = 5, .mtime_ns = 5}, .stale = 1},
    {.key = 4, .file = {.path = "touched.jpg", .size = 5, .mtime_ns = 5}},
};
static ki_bad bad[] = {
    {.path = "bad-changed.jpg", .size = 10, .mtime_ns = 1, .ctime_ns = 1, .limits = LIMITS},
    {.path = "bad-gone.jpg", .size = 10, .mtime_ns = 1, .ctime_ns = 1, .limits = LIMITS},
    {.path = "bad-same.jpg", .size = 10, .mtime_ns = 1, .ctime_ns = 1, .limits = LIMITS},
};
static ki_walk_fault faults[] = {{"shut", 13}};

static ki_walk the_walk(void)
{
    return (ki_walk){.files = files, .n = sizeof files / sizeof *files, .faults = faults, .n_faults = 1};
}

static ki_inventory the_inventory(void)
{
    return (ki_inventory){
        .rows = rows, .n = sizeof rows / sizeof *rows, .bad = bad, .n_bad = sizeof bad / sizeof *bad};
}

/* The paths of the tasks, with '|' between. */
static const char *tasks_of(const ki_plan *plan)
{
    static char text[1000];
    text[0] = 0;
    for (size_t i = 0; i < plan->n; i++) {
        strcat(text, files[plan->tasks[i].file].path);
        strcat(text, "|");
    }
    return text;
}

static void plans_only_what_changed(void **state)
{
    (void)state;
    ki_walk walk = the_walk();
    ki_inventory inventory = the_inventory();
    ki_plan plan;
    kith_error err;
    assert_ok(ki_plan_make(&walk, &inventory, LIMITS, 0, 0, &plan, &err), &err);
    assert_string_equal(tasks_of(&plan), "bad-changed.jpg|grown.jpg|new.jpg|stale.jpg|touched.jpg|");
    assert_int_equal(plan.tasks[0].bad, 0);
    assert_true(plan.tasks[0].known == KI_NONE);
    assert_int_equal(plan.tasks[1].known, 3);
    assert_true(plan.tasks[2].known == KI_NONE && plan.tasks[2].bad == KI_NONE);
    assert_int_equal(plan.unchanged, 2); /* same.jpg, and what is in the folder that cannot be read */
    assert_int_equal(plan.still_bad, 1);
    assert_int_equal(plan.n_forgotten, 1);
    assert_string_equal(bad[plan.forgotten[0]].path, "bad-gone.jpg");
    assert_int_equal(plan.n_vanished, 3);
    assert_int_equal(plan.vanished[0], 1); /* by size, then path */
    assert_int_equal(plan.vanished[1], 2);
    assert_int_equal(plan.vanished[2], 0);
    size_t n;
    assert_int_equal(ki_plan_vanished(&plan, &inventory, 5, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(ki_plan_vanished(&plan, &inventory, 100, &n), 2);
    assert_int_equal(n, 1);
    ki_plan_vanished(&plan, &inventory, 50, &n);
    assert_int_equal(n, 0);
    ki_plan_clear(&plan);
}

static void plans_retries_and_renewals(void **state)
{
    (void)state;
    ki_walk walk = the_walk();
    ki_inventory inventory = the_inventory();
    ki_plan plan;
    kith_error err;
    assert_ok(ki_plan_make(&walk, &inventory, LIMITS, 1, 0, &plan, &err), &err);
    assert_string_equal(tasks_of(&plan),
                        "bad-changed.jpg|bad-same.jpg|grown.jpg|new.jpg|stale.jpg|touched.jpg|");
    ki_plan_clear(&plan);
    assert_ok(ki_plan_make(&walk, &inventory, LIMITS + 1, 0, 0, &plan, &err), &err); /* other limits */
    assert_string_equal(tasks_of(&plan),
                        "bad-changed.jpg|bad-same.jpg|grown.jpg|new.jpg|stale.jpg|touched.jpg|");
    ki_plan_clear(&plan);
    assert_ok(ki_plan_make(&walk, &inventory, LIMITS, 0, 1, &plan, &err), &err);
    assert_string_equal(tasks_of(&plan), "bad-changed.jpg|grown.jpg|new.jpg|same.jpg|stale.jpg|touched.jpg|");
    ki_plan_clear(&plan);
}

static void plans_for_nothing(void **state)
{
    (void)state;
    ki_walk none = {0}, walk = the_walk();
    ki_inventory empty = {0}, inventory = the_inventory();
    ki_plan plan;
    kith_error err;
    assert_ok(ki_plan_make(&none, &empty, LIMITS, 0, 0, &plan, &err), &err);
    assert_true(plan.n == 0 && plan.n_vanished == 0 && plan.unchanged == 0);
    ki_plan_clear(&plan);
    assert_ok(ki_plan_make(&walk, &empty, LIMITS, 0, 0, &plan, &err), &err);
    assert_int_equal(plan.n, walk.n);
    ki_plan_clear(&plan);
    assert_ok(ki_plan_make(&none, &inventory, LIMITS, 0, 0, &plan, &err), &err);
    assert_int_equal(plan.n_vanished, inventory.n);
    assert_int_equal(plan.n_forgotten, inventory.n_bad);
    ki_plan_clear(&plan);
}

/* ---- What decoders say ---- */

/* A good result of a picture with a vector of 3, as a decoder writes it. */
static void put_result(ki_bytes *bytes, float middle, uint32_t dim, const char *date, uint32_t format)
{
    uint64_t hash = 1, size = 2, phash = 3;
    int32_t decoded = 1;
    uint32_t width = 4, height = 5;
    char date_bytes[20] = "", camera[96] = "Canon";
    double seconds[KI_STAGES] = {0};
    float vector[8] = {0.5f, middle, 0.5f};
    snprintf(date_bytes, sizeof date_bytes, "%s", date);
    ki_bytes_put(bytes, &hash, 8);
    ki_bytes_put(bytes, &size, 8);
    ki_bytes_put(bytes, &decoded, 4);
    ki_bytes_put(bytes, &phash, 8);
    ki_bytes_put(bytes, &width, 4);
    ki_bytes_put(bytes, &height, 4);
    ki_bytes_put(bytes, &format, 4);
    ki_bytes_put(bytes, date_bytes, 20);
    ki_bytes_put(bytes, camera, 96);
    ki_bytes_put(bytes, seconds, sizeof seconds);
    ki_bytes_put_block(bytes, vector, dim * 4);
    ki_bytes_put_block(bytes, "\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1", 16);
}

static kith_status parse(float middle, uint32_t dim, const char *date, uint32_t format, ki_picture *picture)
{
    static ki_bytes bytes;
    ki_bytes_clear(&bytes);
    put_result(&bytes, middle, dim, date, format);
    return ki_decoder_parse(bytes.data, bytes.size, KI_DECODE_PICTURE, 3, picture, NULL);
}

static void results_are_checked(void **state)
{
    (void)state;
    ki_picture picture;
    assert_int_equal(parse(0.5f, 3, "2004-07-11 09:26:53", KITH_IMAGE_PNG, &picture), KITH_OK);
    assert_true(picture.hash == 1 && picture.bytes == 2 && picture.phash == 3 && picture.width == 4);
    assert_string_equal(picture.camera, "Canon");
    assert_int_equal(picture.thumbnail_size, 16);
    assert_int_equal(parse(0.5f, 3, "", KITH_IMAGE_PNG, &picture), KITH_OK);
    assert_int_equal(parse(0.5f, 4, "", KITH_IMAGE_PNG, &picture), KITH_CORRUPT);
    assert_int_equal(parse(0.5f, 0, "", KITH_IMAGE_PNG, &picture), KITH_CORRUPT);
    assert_int_equal(parse(__builtin_nanf(""), 3, "", KITH_IMAGE_PNG, &picture), KITH_CORRUPT);
    assert_int_equal(parse(__builtin_inff(), 3, "", KITH_IMAGE_PNG, &picture), KITH_CORRUPT);
    assert_int_equal(parse(0.5f, 3, "yesterday", KITH_IMAGE_PNG, &picture), KITH_CORRUPT);
    assert_int_equal(parse(0.5f, 3, "2004-07-11T09:26:53", KITH_IMAGE_PNG, &picture), KITH_CORRUPT);
    assert_int_equal(parse(0.5f, 3, "", 17, &picture), KITH_CORRUPT);
}

/* Each length of a result, and each byte of it replaced by others: no crash, no read beyond (the sanitizers
 * watch), and whatever is taken is within bounds. */
static void results_may_be_anything(void **state)
{
    (void)state;
    ki_bytes bytes = {0};
    put_result(&bytes, 0.5f, 3, "", KITH_IMAGE_JPEG);
    for (size_t size = 0; size < bytes.size; size++) {
        ki_picture picture;
        uint8_t *exact = malloc(size + 1);
        memcpy(exact, bytes.data, size);
        for (int kind = KI_DECODE_PICTURE; kind <= KI_DECODE_PIXELS; kind++)
            assert_int_not_equal(ki_decoder_parse(exact, size, (ki_decode_kind)kind, 3, &picture, NULL) ==
                                         KITH_OK &&
                                     kind == KI_DECODE_PICTURE,
                                 1);
        free(exact);
    }
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    for (size_t at = 0; at < bytes.size; at++) {
        uint8_t was = bytes.data[at];
        for (size_t v = 0; v < sizeof values; v++) {
            ki_picture picture;
            bytes.data[at] = values[v];
            for (int kind = KI_DECODE_PICTURE; kind <= KI_DECODE_PIXELS; kind++) {
                if (ki_decoder_parse(bytes.data, bytes.size, (ki_decode_kind)kind, 3, &picture, NULL) !=
                    KITH_OK)
                    continue;
                const uint8_t *end = bytes.data + bytes.size;
                assert_true(!picture.vector || picture.vector + 4 * picture.dim <= end);
                assert_true(!picture.thumbnail || picture.thumbnail + picture.thumbnail_size <= end);
                assert_true(!picture.sample || picture.sample + picture.sample_size <= end);
                assert_true(!picture.pixels ||
                            picture.pixels + 3 * (size_t)picture.pixel_width * picture.pixel_height <= end);
            }
        }
        bytes.data[at] = was;
    }
    ki_bytes_clear(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(payloads_round_trip),
        cmocka_unit_test(payloads_say_what_is_known),
        cmocka_unit_test(other_payloads_are_not_ours),
        cmocka_unit_test(notes_round_trip),
        cmocka_unit_test(utf8_is_told),
        cmocka_unit_test(plans_only_what_changed),
        cmocka_unit_test(plans_retries_and_renewals),
        cmocka_unit_test(plans_for_nothing),
        cmocka_unit_test(results_are_checked),
        cmocka_unit_test(results_may_be_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
