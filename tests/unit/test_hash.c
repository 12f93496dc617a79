/* Hash functions and tables: how often values agree against the closed forms of the papers; the buckets that multi-probe
 * looks into against all that there are, sorted; tables against a list. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "hash/hyperplane.h"
#include "hash/probes.h"
#include "hash/pstable.h"
#include "index/hash_tables.h"
#include "support.h"

#define PI 3.14159265358979323846

static kith_error err;

/* ---- Probabilities ---- */

enum { DIM = 12, FUNCTIONS = 40000 };

/* A share of FUNCTIONS draws must be as probable as told: within 4.5 standard errors, one test in 150,000 fails by chance. */
static void check_share(const char *what, double at, size_t agree, double probability)
{
    double share = (double)agree / FUNCTIONS;
    double error = sqrt(probability * (1 - probability) / FUNCTIONS) + 1e-9;
    if (fabs(share - probability) > 4.5 * error)
        fail_msg("%s at %g: %.4f, the closed form is %.4f +- %.4f", what, at, share, probability, error);
}

/* Datar et al., section 3.2: the integral over 0..w of the density of |distance x a stable draw| times 1 - t / w, by Simpson's rule. */
static double integral(kith_metric metric, double distance, double w)
{
    enum { STEPS = 20000 };
    double sum = 0, h = w / STEPS;
    for (int i = 0; i <= STEPS; i++) {
        double t = i * h, x = t / distance;
        double density = metric == KITH_L1 ? 2 / (PI * (1 + x * x)) : 2 / sqrt(2 * PI) * exp(-x * x / 2);
        double value = density / distance * (1 - t / w);
        sum += (i == 0 || i == STEPS ? 1 : i % 2 ? 4 : 2) * value;
    }
    return sum * h / 3;
}

static void test_pstable_probability(void **state)
{
    (void)state;
    static const kith_metric metrics[] = {KITH_L2SQ, KITH_L1};
    static const double distances[] = {0.25, 1, 2.5, 8};
    static float directions[FUNCTIONS * DIM], offsets[FUNCTIONS];
    float *step = test_vectors(1, DIM, 0, 3), *base = test_vectors(1, DIM, 0, 4);
    for (size_t m = 0; m < 2; m++) {
        ki_pstable_draw(metrics[m], FUNCTIONS, DIM, test_seed(), directions, offsets);
        double norm = 0;
        for (size_t d = 0; d < DIM; d++)
            norm += metrics[m] == KITH_L1 ? fabs((double)step[d]) : (double)step[d] * (double)step[d];
        if (metrics[m] == KITH_L2SQ) norm = sqrt(norm);
        for (size_t i = 0; i < 8; i++) {
            double distance = distances[i % 4], w = i < 4 ? 1 : 4;
            double told = metrics[m] == KITH_L1 ? ki_pstable_collision_l1(distance, w)
                                                : ki_pstable_collision_l2(distance, w);
            assert_true(fabs(told - integral(metrics[m], distance, w)) < 1e-6);
            size_t agree = 0;
            for (size_t f = 0; f < FUNCTIONS; f++) {
                double a = 0, b = 0;
                for (size_t d = 0; d < DIM; d++) {
                    double x = (double)base[d], direction = (double)directions[f * DIM + d];
                    a += x * direction;
                    b += (x + (double)step[d] / norm * distance) * direction;
                }
                float places[2] = {(float)(a / w) + offsets[f], (float)(b / w) + offsets[f]};
                agree += ki_pstable_bucket(places, 0, 1) == ki_pstable_bucket(places + 1, 0, 1);
            }
            check_share(metrics[m] == KITH_L1 ? "l1" : "l2", distance / w, agree, told);
        }
        assert_true(ki_pstable_collision_l2(0, 1) == 1 && ki_pstable_collision_l1(0, 1) == 1);
    }
    free(step);
    free(base);
}

static void test_hyperplane_probability(void **state)
{
    (void)state;
    static const double angles[] = {0, 0.05, 0.3, 1, PI / 2, 2.5, PI};
    static float directions[FUNCTIONS * DIM];
    ki_hyperplane_draw(FUNCTIONS, DIM, test_seed(), directions);
    for (size_t i = 0; i < sizeof angles / sizeof *angles; i++) {
        size_t agree = 0;
        for (size_t f = 0; f < FUNCTIONS; f++) {
            const float *a = directions + f * DIM; /* the vectors: one axis, and one turned away from it */
            float here = a[3], there = (float)(cos(angles[i]) * (double)a[3] + sin(angles[i]) * (double)a[7]);
            agree += ki_hyperplane_bucket(&here, 1) == ki_hyperplane_bucket(&there, 1);
        }
        check_share("hyperplane", angles[i], agree, ki_hyperplane_collision(angles[i]));
    }
    for (size_t f = 0; f < 100; f++) { /* normals are of unit length */
        double norm2 = 0;
        for (size_t d = 0; d < DIM; d++)
            norm2 += (double)directions[f * DIM + d] * (double)directions[f * DIM + d];
        assert_true(fabs(norm2 - 1) < 1e-5);
    }
}

/* ---- Multi-probe ---- */

enum { K = 4, BUCKETS = 81 };

typedef struct reached {
    uint64_t key;
    double cost; /* -1: given already */
} reached;

static int by_cost(const void *a, const void *b)
{
    const reached *x = a, *y = b;
    return (x->cost > y->cost) - (x->cost < y->cost);
}

/* What the prober gives must be all these buckets, each once, by rising cost, the query's own first. */
static void check_probes(int paired, size_t n, reached *all, ki_probes *probes)
{
    uint64_t key;
    qsort(all, n, sizeof *all, by_cost);
    assert_true(all[0].cost == 0);
    for (size_t i = 0; i < n; i++) {
        assert_true(ki_probes_next(probes, &key));
        size_t j = 0;
        while (j < n && all[j].key != key) j++;
        if (j == n) fail_msg("paired %d: probe %zu is no bucket beside the query's", paired, i);
        assert_true(j >= i); /* not given before */
        if (fabs(all[j].cost - all[i].cost) > 1e-4 * (1 + all[i].cost))
            fail_msg("paired %d: probe %zu costs %g, not %g", paired, i, all[j].cost, all[i].cost);
        reached given = all[j]; /* of equal costs this one came first */
        all[j] = all[i];
        all[i] = given;
    }
    assert_false(ki_probes_next(probes, &key));
}

/* Every bucket whose values are the query's or one beside (to both sides, or turned bits), with what it costs to get there. */
static size_t all_buckets(int paired, const float *values, size_t t, reached *all)
{
    size_t n = paired ? BUCKETS : 1 << K;
    for (size_t code = 0; code < n; code++) {
        double cost = 0;
        float moved[K];
        size_t rest = code;
        for (size_t i = 0; i < K; i++) {
            double value = (double)values[i], below = value - floor(value);
            int move = paired ? (int)(rest % 3) - 1 : (int)(rest % 2);
            rest /= paired ? 3 : 2;
            if (paired) {
                cost += move < 0 ? below * below : move > 0 ? (1 - below) * (1 - below) : 0;
                moved[i] = floorf(values[i]) + (float)move + 0.5f;
            } else {
                cost += move ? value * value : 0;
                moved[i] = move ? -values[i] : values[i];
            }
        }
        all[code].key = paired ? ki_pstable_bucket(moved, t, K) : ki_hyperplane_bucket(moved, K);
        all[code].cost = cost;
    }
    return n;
}

static void test_probes(void **state)
{
    (void)state;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 7);
    for (int paired = 0; paired < 2; paired++) {
        ki_probes *probes;
        ki_move moves[2 * K];
        reached all[BUCKETS];
        assert_ok(ki_probes_create(paired ? 2 * K : K, paired, NULL, &probes, &err), &err);
        assert_ok(ki_probes_reserve(probes, BUCKETS, &err), &err);
        for (size_t t = 0; t < 200; t++) {
            float values[K];
            for (size_t i = 0; i < K; i++) values[i] = (float)(ki_rng_gauss(&rng) * 3);
            uint64_t key =
                paired ? ki_pstable_moves(values, t, K, moves) : ki_hyperplane_moves(values, K, moves);
            ki_probes_begin(probes, key, moves);
            check_probes(paired, all_buckets(paired, values, t, all), all, probes);
        }
        ki_probes_free(probes);
    }
}

/* ---- Tables ---- */

enum { TABLES = 3, ROWS = 3000, KEYS = 70 };

/* What is found under each key in all runs is what a list of rows says; stale slots aside. */
static void check_tables(const ki_hash_tables *tables, const uint32_t *keys, const unsigned char *alive)
{
    for (size_t t = 0; t < tables->n_tables; t++) {
        size_t expected = 0, got = 0;
        for (uint32_t row = 0; row < ROWS; row++) expected += alive[row];
        for (uint32_t key = 0; key < KEYS + 1; key++)
            for (size_t r = 0; r < tables->n_runs; r++) {
                size_t n;
                const uint32_t *slots = ki_hash_find(&tables->runs[r], t, ki_hash_key(key), &n);
                for (size_t i = 0; i < n; i++) {
                    assert_int_equal(keys[t * ROWS + slots[i]], ki_hash_key(key));
                    if (i > 0) assert_true(slots[i] > slots[i - 1]);
                    got += alive[slots[i]];
                }
            }
        assert_int_equal(got, expected);
    }
}

static void test_tables(void **state)
{
    (void)state;
    static uint32_t keys[TABLES * ROWS], part[TABLES * ROWS];
    static unsigned char alive[ROWS];
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 8);
    /* Table 0: all different; 1: few buckets, some of them large; 2: one bucket. */
    for (uint32_t row = 0; row < ROWS; row++) {
        keys[row] = ki_hash_key(row % KEYS);
        keys[ROWS + row] = ki_hash_key(ki_rng_below(&rng, KEYS) * ki_rng_below(&rng, KEYS) / KEYS);
        keys[2 * ROWS + row] = ki_hash_key(5);
    }
    ki_hash_tables tables;
    ki_hash_tables_init(&tables, TABLES, NULL);
    for (uint32_t first = 0; first < ROWS;) { /* one row, then more and more at a time */
        uint32_t m = first < 300 ? 1 : 1 + (uint32_t)ki_rng_below(&rng, 400);
        if (m > ROWS - first) m = ROWS - first;
        for (size_t t = 0; t < TABLES; t++) memcpy(part + t * m, keys + t * ROWS + first, m * sizeof *part);
        ki_hash_staged staged;
        assert_ok(ki_hash_tables_stage(&tables, part, NULL, first, m, NULL, &staged, &err), &err);
        if (first % 7 == 3) { /* thought better of it */
            ki_hash_tables_drop(&tables, &staged);
            check_tables(&tables, keys, alive);
            assert_ok(ki_hash_tables_stage(&tables, part, NULL, first, m, NULL, &staged, &err), &err);
        }
        ki_hash_tables_commit(&tables, &staged);
        memset(alive + first, 1, m);
        first += m;
        for (size_t r = 1; r < tables.n_runs; r++) assert_true(tables.runs[r - 1].n > 4 * tables.runs[r].n);
    }
    check_tables(&tables, keys, alive);
    for (int round = 0; round < 20; round++) { /* rows go, and others come into their slots */
        uint32_t slots[50], n = 0;
        for (uint32_t row = (uint32_t)ki_rng_below(&rng, 60); row < ROWS && n < 50;
             row += 1 + (uint32_t)ki_rng_below(&rng, 110))
            slots[n++] = row;
        assert_ok(ki_hash_tables_reserve_stale(&tables, ROWS, &err), &err);
        ki_hash_tables_remove(&tables, slots, n);
        for (uint32_t i = 0; i < n; i++) alive[slots[i]] = 0;
        check_tables(&tables, keys, alive);
        for (size_t t = 0; t < TABLES; t++)
            for (uint32_t i = 0; i < n; i++)
                part[t * n + i] = keys[t * ROWS + slots[i]] =
                    ki_hash_key(t == 2 ? 5 : ki_rng_below(&rng, KEYS));
        ki_hash_staged staged;
        assert_ok(ki_hash_tables_stage(&tables, part, slots, 0, n, NULL, &staged, &err), &err);
        ki_hash_tables_commit(&tables, &staged);
        assert_int_equal(tables.n_stale, 0);
        for (uint32_t i = 0; i < n; i++) alive[slots[i]] = 1;
        check_tables(&tables, keys, alive);
    }
    ki_hash_tables_clear(&tables);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pstable_probability),
        cmocka_unit_test(test_hyperplane_probability),
        cmocka_unit_test(test_probes),
        cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
