/* A decoder that was taken over by the file that it read: it answers in due form, with lies. The program's side
 * must refuse what cannot be, list the file as bad and go on. The linker puts forged_job in the place of the
 * decoder's job (--wrap in tests/CMakeLists.txt); the workers are forked from this process, and so inherit the
 * lie that was chosen before the gallery was opened. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kith/gallery.h>

#include "base/rng.h"
#include "gallery/decoder.h"

enum { N = 4, SIDE = 48 };

/* Where the parts of an answer lie (put_head in decoder.c). */
enum {
    AT_HASH = 0,
    AT_DECODED = 16,
    AT_WIDTH = 28,
    AT_FORMAT = 36,
    AT_DATE = 40,
    AT_CAMERA = 60,
    AT_VECTOR = 188
};

/* ---- The lies ---- */

#define ALL_BUT_HEAD (-1)

typedef struct forgery {
    const char *name, *reason; /* reason: what is said of it */
    size_t at, size;           /* bytes of the answer that are written over */
    uint8_t bytes[8];
    int cut, more; /* bytes taken from, or put at, the end */
} forgery;

static const forgery *lie; /* NULL: the truth */

extern const ki_worker_job __real_ki_decoder_job;

static kith_status forged_start(const uint8_t *setup, size_t size, void **state, kith_error *err)
{
    return __real_ki_decoder_job.start(setup, size, state, err);
}

static kith_status forged_run(void *state, const uint8_t *request, size_t size, int fd, ki_bytes *reply,
                              kith_error *err)
{
    kith_status status = __real_ki_decoder_job.run(state, request, size, fd, reply, err);
    if (status != KITH_OK || !lie) return status;
    if (lie->at + lie->size <= reply->size) memcpy(reply->data + lie->at, lie->bytes, lie->size);
    size_t cut = lie->cut == ALL_BUT_HEAD ? reply->size - AT_VECTOR : (size_t)lie->cut;
    reply->size -= cut < reply->size ? cut : reply->size;
    for (int i = 0; i < lie->more; i++) ki_bytes_put(reply, "", 1);
    return status;
}

const ki_worker_job __wrap_ki_decoder_job = {.start = forged_start, .run = forged_run};

/* ---- Pictures and collections ---- */

static char folder[900], sound[900];

/* In a process of its own: the decoders cannot be forked from one in which libvips runs. */
static int make_pictures(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        uint8_t pixels[SIDE * SIDE * 3];
        kith_image image = {.width = SIDE, .height = SIDE, .pixels = pixels};
        kith_error err;
        for (size_t n = 0; n < N; n++) {
            ki_rng rng;
            char path[1000];
            ki_rng_init(&rng, 5, n);
            for (size_t i = 0; i < sizeof pixels; i++)
                pixels[i] = (uint8_t)(128 + 100 * sin(0.01 * (double)(n + 1) * (double)i) +
                                      20 * ki_rng_uniform(&rng));
            snprintf(path, sizeof path, "%s/%zu.png", folder, n);
            if (kith_image_save(&image, path, &err) != KITH_OK) _exit(1);
        }
        _exit(0);
    }
    int status = 0;
    return pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0;
}

static kith_gallery *open_gallery(const char *path, const forgery *told)
{
    kith_gallery *gallery;
    kith_gallery_options options;
    kith_error err;
    kith_gallery_options_init(&options);
    options.jobs = 1;
    lie = told;
    assert_ok(kith_gallery_open(path, &options, &gallery, &err), &err);
    lie = NULL;
    return gallery;
}

static kith_gallery_report index_with(kith_gallery *gallery)
{
    kith_gallery_report report;
    kith_error err;
    kith_gallery_report_init(&report);
    assert_ok(kith_gallery_index(gallery, folder, NULL, NULL, &report, &err), &err);
    assert_int_equal(report.found, N);
    return report;
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/pictures", test_folder());
    snprintf(sound, sizeof sound, "%s/sound.kith", test_folder());
    if (mkdir(folder, 0700) != 0 || make_pictures() != 0) return -1;
    kith_gallery *gallery = open_gallery(sound, NULL);
    kith_gallery_report report = index_with(gallery);
    kith_gallery_close(gallery);
    return report.added != N || report.bad != 0;
}

/* A path for a collection that was never there. */
static const char *fresh(void)
{
    static char path[1000];
    static int number;
    snprintf(path, sizeof path, "%s/forged%d.kith", test_folder(), number++);
    return path;
}

/* ---- The tests ---- */

static const forgery forgeries[] = {
    {"not decoded, though unknown", "of no picture", AT_DECODED, 4, {0}, ALL_BUT_HEAD, 0},
    {"half decoded", "of no picture", AT_DECODED, 4, {2}, 0, 0},
    {"no width", "of no picture", AT_WIDTH, 4, {0}, 0, 0},
    {"a format of its own", "of no picture", AT_FORMAT, 4, {77}, 0, 0},
    {"a date that is none", "no text", AT_DATE, 4, {'2', '0', 0x1b, '['}, 0, 0},
    {"a camera with an escape sequence", "no text", AT_CAMERA, 4, {0x1b, '[', 'H', 0}, 0, 0},
    {"a camera that is no UTF-8", "no text", AT_CAMERA, 3, {0xff, 0xfe, 0}, 0, 0},
    {"no vector", "components, due are", AT_VECTOR, 4, {0}, 0, 0},
    {"a vector of 2^30 numbers", "components, due are", AT_VECTOR, 4, {0xff, 0xff, 0xff, 0xff}, 0, 0},
    {"not a number", "has a component of", AT_VECTOR + 4, 4, {0, 0, 0xc0, 0x7f}, 0, 0},
    {"infinity", "has a component of", AT_VECTOR + 8, 4, {0, 0, 0x80, 0xff}, 0, 0},
    {"less than was promised", "cut short", 0, 0, {0}, 1, 0},
    {"half a head", "cut short", 0, 0, {0}, 1 << 28, 0},
    {"more than was promised", "too long", 0, 0, {0}, 0, 7},
};

static int names_reason(void *ctx, const kith_gallery_bad *bad)
{
    const forgery *told = ctx;
    assert_int_equal(bad->status, KITH_CORRUPT);
    if (!strstr(bad->reason, told->reason)) fail_msg("%s: %s", told->name, bad->reason);
    return 0;
}

static void a_lie_costs_the_file_it_is_about(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
        kith_error err;
        kith_gallery *gallery = open_gallery(fresh(), &forgeries[i]);
        kith_gallery_report report = index_with(gallery);
        if (report.bad != N || report.added != 0)
            fail_msg("%s: %d bad, %d added", forgeries[i].name, (int)report.bad, (int)report.added);
        assert_ok(kith_gallery_list_bad(gallery, names_reason, (void *)&forgeries[i], &err), &err);
        kith_gallery_close(gallery);
    }
}

static void a_lie_answers_no_query(void **state)
{
    (void)state;
    char picture[1000];
    snprintf(picture, sizeof picture, "%s/3.png", folder);
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
        kith_error err;
        kith_gallery_answer *answer;
        kith_gallery *gallery = open_gallery(sound, &forgeries[i]);
        assert_int_equal(kith_gallery_search(gallery, picture, NULL, &answer, &err), KITH_CORRUPT);
        assert_null(answer);
        if (!strstr(err.message, forgeries[i].reason)) fail_msg("%s: %s", forgeries[i].name, err.message);
        kith_gallery_close(gallery);
    }
    kith_error err;
    kith_gallery_answer *answer;
    kith_gallery *gallery = open_gallery(sound, NULL); /* and the truth does */
    assert_ok(kith_gallery_search(gallery, picture, NULL, &answer, &err), &err);
    assert_int_equal(answer->n, N);
    assert_string_equal(strrchr(answer->hits[0].path, '/'), "/3.png");
    kith_gallery_answer_free(answer);
    kith_gallery_close(gallery);
}

/* A known file that was touched is told to be known without decoding. That it is another known file is a lie
 * that the program cannot see through; it may cost the row of the file that lied, and no other. */
static void a_false_hash_spares_the_others(void **state)
{
    (void)state;
    const char *path = fresh();
    kith_gallery *gallery = open_gallery(path, NULL);
    index_with(gallery);
    kith_gallery_close(gallery);
    char picture[1000];
    snprintf(picture, sizeof picture, "%s/2.png", folder);
    struct timespec times[2] = {{.tv_sec = 1500000000}, {.tv_sec = 1500000000}};
    assert_int_equal(utimensat(0, picture, times, 0), 0);
    static const forgery elsewhere = {"a hash of nothing", "", AT_HASH, 8, {1, 2, 3, 4, 5, 6, 7, 8}, 0, 0};
    gallery = open_gallery(path, &elsewhere);
    kith_gallery_report report = index_with(gallery);
    assert_int_equal(report.unchanged + report.changed + report.bad, N);
    assert_true(report.unchanged >= N - 1);
    assert_int_equal(report.removed, report.bad);
    kith_gallery_close(gallery);
}

/* Whatever is changed in an answer: each file ends as a row or as a bad file, and the run goes through. */
static void any_answer_is_survived(void **state)
{
    (void)state;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 3);
    for (int round = 0; round < 20; round++) {
        forgery told = {.name = "random", .reason = "", .size = 1 + ki_rng_below(&rng, 8)};
        told.at = ki_rng_below(&rng, round % 2 ? 200 : 10000);
        for (size_t i = 0; i < told.size; i++) told.bytes[i] = (uint8_t)ki_rng_below(&rng, 256);
        if (round % 5 == 0) told.cut = (int)ki_rng_below(&rng, 300);
        kith_gallery *gallery = open_gallery(fresh(), &told);
        kith_gallery_report report = index_with(gallery);
        assert_int_equal(report.added + report.bad, N);
        kith_gallery_close(gallery);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lie_costs_the_file_it_is_about),
        cmocka_unit_test(a_lie_answers_no_query),
        cmocka_unit_test(a_false_hash_spares_the_others),
        cmocka_unit_test(any_answer_is_survived),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
