/* Linear maps: what each kind promises, and OPQ's error falling, on made and on real data. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/dataset.h>
#include <kith/index.h>
#include <kith/pq.h>

#include "base/rng.h"
#include "index/front.h"
#include "math/linalg.h"
#include "quant/transform.h"
#include "quant/transform_internal.h"

static kith_error err;

static ki_transform *trained(ki_transform_kind kind, size_t dim, size_t dim_out, size_t m, int centred,
                             const float *x, size_t n)
{
    ki_transform_options options = {
        .kind = kind, .dim = dim, .dim_out = dim_out, .m = m, .iterations = 8, .centred = centred};
    ki_transform *t;
    assert_ok(ki_transform_create(&options, NULL, &t, &err), &err);
    assert_false(ki_transform_trained(t));
    assert_ok(ki_transform_train(t, x, n, 1, NULL, &err), &err);
    assert_true(ki_transform_trained(t));
    return t;
}

static double apart(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) sum += pow((double)a[d] - (double)b[d], 2);
    return sum;
}

/* Rows whose components depend on each other and have variances of their own, far from the origin. */
static float *mixed_rows(size_t n, size_t dim)
{
    float *x = test_vectors(n, dim, 8, test_seed());
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dim; d++)
            x[i * dim + d] = x[i * dim + d] / (float)(1 + d) + 0.7f * x[i * dim + (d + 3) % dim] + 3;
    return x;
}

/* Rotations keep all distances, projections make none larger; a row's image does not depend on the others; the way back. */
static void test_kinds(void **state)
{
    (void)state;
    enum { N = 700, DIM = 24 };
    static const struct {
        ki_transform_kind kind;
        size_t dim_out, m;
    } kinds[] = {{KI_PCA, 0, 0},  {KI_PCA, 7, 0}, {KI_ROTATION, 0, 0}, {KI_ROTATION, 5, 0},
                 {KI_OPQP, 0, 6}, {KI_OPQ, 0, 6}, {KI_OPQ, 12, 4},     {KI_HADAMARD, 0, 0}};
    float *x = mixed_rows(N, DIM), *y = malloc(N * DIM * sizeof *y), one[DIM], back[DIM];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int centred = 0; centred < 2; centred++) {
            ki_transform *t = trained(kinds[k].kind, DIM, kinds[k].dim_out, kinds[k].m, centred, x, N);
            size_t out = kinds[k].dim_out ? kinds[k].dim_out : DIM;
            assert_int_equal(ki_transform_dim_out(t), out);
            ki_transform_apply(t, x, N, y);
            for (size_t i = 0; i + 1 < N; i++) {
                double before = apart(x + i * DIM, x + (i + 1) * DIM, DIM),
                       after = apart(y + i * out, y + (i + 1) * out, out);
                assert_true(after <= before * 1.0001);
                if (out == DIM) assert_true(after >= before * 0.9999);
                ki_transform_apply(t, x + i * DIM, 1, one);
                assert_memory_equal(one, y + i * out, out * sizeof *one);
                ki_transform_reverse(t, one, back);
                if (out == DIM) assert_true(apart(back, x + i * DIM, DIM) < 1e-6);
            }
            ki_transform_free(t);
        }
    free(x);
    free(y);
}

/* Section 3.2: products of variances as equal as can be, every segment full. */
static void test_allocation(void **state)
{
    (void)state;
    const float variances[8] = {256, 64, 32, 16, 8, 4, 2, 1};
    double logs[4];
    size_t room[4], order[8], seen = 0;
    ki_opq_allocate(variances, 8, 2, logs, room, order);
    for (size_t i = 0; i < 8; i++) seen |= (size_t)1 << order[i];
    assert_int_equal(seen, 255);
    assert_int_equal(room[0], 0);
    assert_int_equal(room[1], 0);
    assert_true(fabs(logs[0] - logs[1]) < 0.75);
    const float none[4] = {0};
    ki_opq_allocate(none, 4, 4, logs, room, order); /* a constant data set */
}

static double pq_error(const float *x, size_t n, size_t dim, size_t m)
{
    kith_pq *pq;
    double error;
    assert_ok(kith_pq_create(dim, m, 8, KITH_L2SQ, NULL, &pq, &err), &err);
    assert_ok(kith_pq_train(pq, x, n, 12, 1, NULL, &err), &err);
    assert_ok(kith_pq_error(pq, x, n, NULL, &error, &err), &err);
    kith_pq_free(pq);
    return error;
}

/* The error never rises from round to round, and that of PQ after the map is less than before it; after the parametric one it is
 * less than after a rotation that knows nothing of the rows. */
static void check_opq(const char *what, const float *x, size_t n, size_t dim, size_t m, double gain)
{
    float *y = malloc(n * dim * sizeof *y);
    double plain = pq_error(x, n, dim, m);
    ki_transform *t = trained(KI_ROTATION, dim, 0, 0, 1, x, n);
    ki_transform_apply(t, x, n, y);
    double random = pq_error(y, n, dim, m);
    ki_transform_free(t);
    t = trained(KI_OPQP, dim, 0, m, 1, x, n);
    ki_transform_apply(t, x, n, y);
    double parametric = pq_error(y, n, dim, m);
    ki_transform_free(t);
    t = trained(KI_OPQ, dim, 0, m, 1, x, n);
    ki_transform_apply(t, x, n, y);
    double optimised = pq_error(y, n, dim, m);
    size_t rounds;
    const double *errors = ki_transform_errors(t, &rounds);
    assert_int_equal(rounds, 8);
    for (size_t i = 1; i < rounds; i++) assert_true(errors[i] <= errors[i - 1] * 1.000001);
    assert_true(errors[rounds - 1] < errors[0]);
    fprintf(stderr,
            "%s: PQ%zu %.6g, rotated at random %.6g, OPQP%zu %.6g, OPQ%zu %.6g (rounds from %.6g to %.6g)\n",
            what, m, plain, random, m, parametric, m, optimised, errors[0], errors[rounds - 1]);
    assert_true(optimised < plain * gain);
    assert_true(optimised <= parametric * 1.01);
    assert_true(parametric < random * 0.9);
    ki_transform_free(t);
    free(y);
}

static void test_opq(void **state)
{
    (void)state;
    enum { N = 3000, DIM = 16 };
    float *x = mixed_rows(N, DIM);
    check_opq("mixed", x, N, DIM, 4, 0.9);
    free(x);
}

/* The error of the residuals of rows[n][dim] to the centres that row i has number i % centres of, when OPQ has learned for as
 * many cells; 0: from the rows themselves. */
static double residual_error(const float *x, const float *residual, size_t n, size_t dim, size_t cells)
{
    enum { M = 4 };
    ki_transform_options options = {
        .kind = KI_OPQ, .dim = dim, .m = M, .iterations = 20, .centred = 1, .cells = cells};
    ki_transform *t;
    assert_ok(ki_transform_create(&options, NULL, &t, &err), &err);
    assert_ok(ki_transform_train(t, x, n, 1, NULL, &err), &err);
    float *y = malloc(n * dim * sizeof *y);
    ki_transform_apply(t, residual, n, y); /* less what the mean becomes, which is the same for all */
    double error = pq_error(y, n, dim, M);
    size_t rounds;
    const double *errors = ki_transform_errors(t, &rounds);
    for (size_t i = 1; i < rounds; i++) assert_true(errors[i] <= errors[i - 1] * 1.000001);
    ki_transform_free(t);
    free(y);
    return error;
}

/* The same of the rotation that an index of this spec has learned from x. */
static double index_error(const char *spec, const float *x, const float *residual, size_t n, size_t dim)
{
    kith_index *index;
    assert_ok(kith_index_create(spec, dim, NULL, &index, &err), &err);
    assert_ok(kith_index_train(index, x, n, NULL, &err), &err);
    float *y = malloc(n * dim * sizeof *y);
    ki_transform_apply(index->transform, residual, n, y);
    double error = pq_error(y, n, dim, 4);
    kith_index_free(index);
    free(y);
    return error;
}

/* Centres that are far apart in directions of their own, and around them few directions that matter, others than those: what is
 * best for rows is not best for residuals, and a rotation that is learned for cells serves the latter. */
static void test_residuals(void **state)
{
    (void)state;
    enum { N = 4096, DIM = 16, CENTRES = 32 };
    float centres[CENTRES * DIM], *x = malloc(N * DIM * sizeof *x), *residual = malloc(N * DIM * sizeof *x);
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 3);
    for (size_t i = 0; i < CENTRES * DIM; i++) centres[i] = 20 * (float)ki_rng_gauss(&rng);
    for (size_t i = 0; i < N; i++)
        for (size_t d = 0; d < DIM; d++)
            residual[i * DIM + d] = (d < DIM / 4 ? 1.0f : 0.1f) * (float)ki_rng_gauss(&rng);
    for (size_t i = 0; i < N * DIM; i++) x[i] = residual[i] + centres[i / DIM % CENTRES * DIM + i % DIM];
    double of_rows = residual_error(x, residual, N, DIM, 0),
           of_residuals = residual_error(x, residual, N, DIM, CENTRES);
    fprintf(stderr, "residuals: OPQ learned from rows %.6g, for cells %.6g\n", of_rows, of_residuals);
    assert_true(of_residuals < 0.8 * of_rows);
    assert_true(index_error("OPQ4,PQ4", x, residual, N, DIM) > 0.9 * of_rows);
    assert_true(index_error("OPQ4,IVF32,PQ4", x, residual, N, DIM) < 0.8 * of_rows);
    assert_true(index_error("OPQ4,IVF32,SQ8", x, residual, N, DIM) > 0.9 * of_rows); /* codes of whole rows */
    free(x);
    free(residual);
}

/* Pixels: segments of PQ are rows of a picture, some of them nearly empty; the rotation shares what is there. */
static void test_real(void **state)
{
    (void)state;
    enum { ROWS = 3000, WIDE = 784, DIM = 196 };
    const char *path = test_data("fashion-mnist/train_u8.npy");
    if (!path) skip();
    kith_dataset *set;
    assert_ok(kith_dataset_open(path, NULL, &set, &err), &err);
    float *x = malloc(ROWS * WIDE * sizeof *x), *small = malloc(ROWS * DIM * sizeof *small);
    assert_ok(kith_dataset_read_f32(set, 0, ROWS, x, &err), &err);
    for (size_t i = 0; i < ROWS * DIM;
         i++) { /* every second pixel of every second row: the test takes seconds */
        size_t row = i % DIM / 14, column = i % 14;
        small[i] = x[i / DIM * WIDE + row * 56 + column * 2];
    }
    check_opq("fashion-mnist", small, ROWS, DIM, 14, 0.99);
    free(x);
    free(small);
    kith_dataset_close(set);
}

static void test_refused(void **state)
{
    (void)state;
    ki_transform *t;
    float x[64] = {0};
    ki_transform_options options = {.kind = KI_PCA, .dim = 4, .dim_out = 5};
    assert_int_equal(ki_transform_create(&options, NULL, &t, &err), KITH_INVALID);
    assert_null(t);
    options = (ki_transform_options){.kind = KI_HADAMARD, .dim = 4, .dim_out = 3};
    assert_int_equal(ki_transform_create(&options, NULL, &t, &err), KITH_INVALID);
    options = (ki_transform_options){.kind = KI_OPQ, .dim = 4, .m = 3, .iterations = 1};
    assert_int_equal(ki_transform_create(&options, NULL, &t, &err), KITH_INVALID);
    options.m = 2;
    assert_ok(ki_transform_create(&options, NULL, &t, &err), &err);
    assert_int_equal(ki_transform_train(t, x, 16, 1, NULL, &err), KITH_INVALID);
    assert_false(ki_transform_trained(t));
    ki_transform_free(t);
    ki_transform_free(NULL);
    options.kind = KI_PCA;
    assert_ok(ki_transform_create(&options, NULL, &t, &err), &err);
    assert_int_equal(ki_transform_train(t, x, 3, 1, NULL, &err), KITH_INVALID);
    assert_ok(ki_transform_train(t, x, 16, 1, NULL, &err), &err); /* all rows the same */
    ki_transform_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),     cmocka_unit_test(test_allocation), cmocka_unit_test(test_opq),
        cmocka_unit_test(test_residuals), cmocka_unit_test(test_real),       cmocka_unit_test(test_refused),
    };
    if (!ki_linalg_available()) {
        fprintf(stderr, "SKIPPED: a build without LAPACK trains no transforms\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
