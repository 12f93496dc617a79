/* What optimised product quantisation brings on SIFT, the data that the paper shows it on (test_transform.c has pixels): with as many
 * bits, less is lost after the learned rotation than without one, of the rows that it was learned from and of rows of other
 * pictures, and no round loses more than the one before. The parametric solution, which takes rows for normally distributed, loses
 * less than a random rotation, though more than SIFT's own segments: those are no normal distributions.
 *
 * The descriptors are made from photos here, at the key points that VLFeat finds. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vl/sift.h>

#include <kith/image.h>
#include <kith/pq.h>

#include "math/linalg.h"
#include "quant/transform.h"
#include "quant/transform_internal.h"

enum { DIM = 128, TRAINING = 3000, HELD_OUT = 1000, ROWS = TRAINING + HELD_OUT, ROUNDS = 8, M = 8 };

static kith_error err;

/* The descriptors of one octave, as bytes like those of sift1m. Returns how many rows there are now. */
static size_t add_octave(VlSiftFilt *filter, float *x, size_t n)
{
    vl_sift_detect(filter);
    const VlSiftKeypoint *keys = vl_sift_get_keypoints(filter);
    for (int i = 0; i < vl_sift_get_nkeypoints(filter) && n < ROWS; i++) {
        double angles[4];
        float descriptor[DIM];
        if (vl_sift_calc_keypoint_orientations(filter, angles, &keys[i]) < 1) continue;
        vl_sift_calc_keypoint_descriptor(filter, descriptor, &keys[i], angles[0]);
        for (size_t d = 0; d < DIM; d++) {
            float value = 512 * descriptor[d];
            x[n * DIM + d] = (float)(int)(value < 255 ? value : 255);
        }
        n++;
    }
    return n;
}

static size_t add_picture(const char *path, float *x, size_t n)
{
    kith_image image;
    kith_image_limits limits;
    kith_image_limits_init(&limits);
    limits.long_side = 640;
    assert_ok(kith_image_decode_file(path, &limits, NULL, &image, &err), &err);
    size_t pixels = (size_t)image.width * image.height;
    float *grey = malloc(pixels * sizeof *grey);
    for (size_t i = 0; i < pixels; i++) {
        const uint8_t *p = image.pixels + 3 * i;
        grey[i] = 0.299f * (float)p[0] + 0.587f * (float)p[1] + 0.114f * (float)p[2];
    }
    VlSiftFilt *filter = vl_sift_new((int)image.width, (int)image.height, -1, 3, 0);
    for (int left = vl_sift_process_first_octave(filter, grey); left == VL_ERR_OK && n < ROWS;
         left = vl_sift_process_next_octave(filter))
        n = add_octave(filter, x, n);
    vl_sift_delete(filter);
    free(grey);
    kith_image_clear(&image);
    return n;
}

/* x[ROWS][DIM], one picture after the other, or NULL where there are no photos. */
static float *descriptors(void)
{
    static const char *const photos[] = {
        "n01440764_tench.JPEG",       "n01980166_fiddler_crab.JPEG", "n02107908_Appenzeller.JPEG",
        "n02444819_otter.JPEG",       "n02977058_cash_machine.JPEG", "n03532672_hook.JPEG",
        "n03937543_pill_bottle.JPEG", "n04367480_swab.JPEG",
    };
    size_t n = 0;
    float *x = malloc(ROWS * DIM * sizeof *x);
    for (size_t i = 0; i < sizeof photos / sizeof *photos && n < ROWS; i++) {
        char name[256];
        snprintf(name, sizeof name, "images/photos/%s", photos[i]);
        const char *path = test_data(name);
        if (!path) break;
        n = add_picture(path, x, n);
    }
    if (n == 0) {
        free(x);
        return NULL;
    }
    assert_int_equal(n, ROWS);
    return x;
}

/* The mean squared error of the rows trained with and of those held out, in codes of M bytes. */
typedef struct loss {
    double trained, held_out;
} loss;

static loss loss_of(const float *x)
{
    kith_pq *pq;
    loss l;
    assert_ok(kith_pq_create(DIM, M, 8, KITH_L2SQ, NULL, &pq, &err), &err);
    assert_ok(kith_pq_train(pq, x, TRAINING, 12, 1, NULL, &err), &err);
    assert_ok(kith_pq_error(pq, x, TRAINING, NULL, &l.trained, &err), &err);
    assert_ok(kith_pq_error(pq, x + TRAINING * DIM, HELD_OUT, NULL, &l.held_out, &err), &err);
    kith_pq_free(pq);
    return l;
}

/* The same after a transform that was learned from the rows trained with. */
static loss loss_after(ki_transform_kind kind, const float *x)
{
    ki_transform *t;
    ki_transform_options options = {.kind = kind, .dim = DIM, .m = M, .iterations = ROUNDS, .centred = 1};
    float *y = malloc(ROWS * DIM * sizeof *y);
    assert_ok(ki_transform_create(&options, NULL, &t, &err), &err);
    assert_ok(ki_transform_train(t, x, TRAINING, 1, NULL, &err), &err);
    ki_transform_apply(t, x, ROWS, y);
    if (kind == KI_OPQ) {
        size_t rounds;
        const double *errors = ki_transform_errors(t, &rounds);
        assert_int_equal(rounds, ROUNDS);
        for (size_t i = 1; i < rounds; i++) assert_true(errors[i] <= errors[i - 1] * 1.000001);
        assert_true(errors[rounds - 1] < 0.99 * errors[0]);
    }
    loss l = loss_of(y);
    ki_transform_free(t);
    free(y);
    return l;
}

static void test_sift(void **state)
{
    (void)state;
    float *x = descriptors();
    if (!x) skip();
    loss plain = loss_of(x), optimised = loss_after(KI_OPQ, x), parametric = loss_after(KI_OPQP, x),
         random = loss_after(KI_ROTATION, x);
    fprintf(stderr,
            "sift, trained with and held out: PQ%d %.6g %.6g, OPQ %.6g %.6g, OPQP %.6g %.6g, rotated at "
            "random %.6g "
            "%.6g\n",
            M, plain.trained, plain.held_out, optimised.trained, optimised.held_out, parametric.trained,
            parametric.held_out, random.trained, random.held_out);
    assert_true(optimised.trained < 0.97 * plain.trained);
    assert_true(optimised.held_out < 0.99 * plain.held_out);
    assert_true(parametric.trained < 0.8 * random.trained);
    assert_true(parametric.held_out < 0.8 * random.held_out);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sift)};
    if (!ki_linalg_available()) {
        fprintf(stderr, "SKIPPED: a build without LAPACK trains no transforms\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
