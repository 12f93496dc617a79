/* Links that are left out only where another leads alpha times nearer: the rule under every metric, what HNSW, Vamana and QG make of
 * it, and files that were written before HNSW and QG knew it. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/index.h>

#include "base/rng.h"
#include "index/front.h"
#include "index/graph_flat.h"
#include "index/graph_prune.h"
#include "index/hnsw_internal.h"
#include "index/qg_internal.h"

static kith_error err;

enum { N = 2000, DIM = 12 };

/* ---- The rule ---- */

/* Distances as they are, and as scorers give them. */
static void test_rule(void **state)
{
    (void)state;
    static const struct {
        kith_metric metric;
        int unit;
        double power, scale, offset; /* what is given is scale * distance^power + offset */
    } metrics[] = {{KITH_L2SQ, 0, 2, 1, 0},
                   {KITH_DOT, 1, 2, 0.5, -1}, /* -cos of unit vectors */
                   {KITH_L1, 0, 1, 1, 0},
                   {KITH_HAMMING, 0, 1, 1, 0}};
    const double alpha = 1.3;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 1);
    for (size_t m = 0; m < sizeof metrics / sizeof *metrics; m++) {
        ki_structure_env env = {.metric = metrics[m].metric, .unit = metrics[m].unit};
        ki_alpha a = ki_alpha_of(&env, alpha);
        size_t hidden = 0, by_alpha = 0;
        for (size_t i = 0; i < 1000; i++) {
            double to = 0.01 + ki_rng_uniform(&rng), between = 0.01 + ki_rng_uniform(&rng);
            if (fabs(alpha * between - to) < 1e-4) continue; /* rounding may tell */
            double given[2] = {to, between};
            for (size_t j = 0; j < 2; j++)
                given[j] = metrics[m].scale * pow(given[j], metrics[m].power) + metrics[m].offset;
            int hides = ki_alpha_hides(a, (float)given[1], (float)given[0]);
            assert_int_equal(hides, alpha * between < to);
            hidden += (size_t)hides;
            by_alpha += between < to && !hides;
        }
        assert_true(hidden > 100 && by_alpha > 50);
    }
    ki_structure_env env = {.metric = KITH_DOT};
    assert_true(ki_alpha_hides(ki_alpha_of(&env, 2), -3, -2)); /* a product knows no factor */
    assert_false(ki_alpha_hides(ki_alpha_of(&env, 2), -2, -3));
}

/* ---- Graphs ---- */

static kith_index *graph_of(const char *spec, kith_metric metric, double alpha)
{
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    kith_index *index;
    float *x = test_vectors(N, DIM, 0, 5);
    assert_ok(kith_index_create(spec, DIM, &options, &index, &err), &err);
    assert_ok(kith_index_set(index, "ef_construction", 48, &err), &err);
    if (alpha >= 0) assert_ok(kith_index_set(index, "alpha", alpha, &err), &err);
    assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    free(x);
    return index;
}

/* Links in a graph; of QG those that are no fillers. */
static size_t links_in(const char *spec, kith_metric metric, double alpha)
{
    kith_index *index = graph_of(spec, metric, alpha);
    size_t n = 0;
    if (strncmp(spec, "QG", 2) == 0) {
        const ki_qg *g = (const ki_qg *)index->structure;
        for (uint32_t slot = 0; slot < N; slot++)
            for (size_t i = 0; i < g->at.degree && ki_qg_links(g, slot)[i] != KI_GRAPH_NONE; i++)
                n += !(ki_qg_links(g, slot)[i] & KI_QG_FILLER);
    } else {
        ki_graph graph = strncmp(spec, "HNSW", 4) == 0 ? ki_hnsw_graph((const ki_hnsw *)index->structure, 0)
                                                       : ki_flat_graph((const ki_flat *)index->structure);
        for (uint32_t node = 0; node < N; node++)
            n += ki_graph_degree(ki_graph_links(&graph, node), graph.degree);
    }
    kith_index_free(index);
    return n;
}

static void test_links(void **state)
{
    (void)state;
    static const char *const specs[] = {"HNSW8", "Vamana24", "QG32,SQ8"};
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        for (size_t m = 0; m < 2; m++) {
            kith_metric metric = m ? KITH_COSINE : KITH_L2SQ;
            size_t one = links_in(specs[s], metric, 1), some = links_in(specs[s], metric, 1.1),
                   many = links_in(specs[s], metric, 1.5);
            print_message("%s, %s: %zu, %zu, %zu links\n", specs[s], m ? "cosine" : "l2", one, some, many);
            assert_true(one + one / 50 < some && some + some / 50 < many);
        }
        assert_int_equal(links_in(specs[s], KITH_DOT, 1), links_in(specs[s], KITH_DOT, 1.5));
    }
}

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(links_in("HNSW8", KITH_L2SQ, -1), links_in("HNSW8", KITH_L2SQ, 1));
    assert_int_equal(links_in("QG32,SQ8", KITH_L2SQ, -1), links_in("QG32,SQ8", KITH_L2SQ, 1.05));
    assert_int_equal(links_in("QG32,SQ8", KITH_L2SQ, 0.5), links_in("QG32,SQ8", KITH_L2SQ, 1.05));
    assert_int_equal(links_in("QG16,SQ8", KITH_L2SQ, -1), links_in("QG16,SQ8", KITH_L2SQ, 1));
    assert_true(links_in("QG16,SQ8", KITH_L2SQ, 1) < links_in("QG16,SQ8", KITH_L2SQ, 1.05));
}

/* ---- Files of before ---- */

static void check_old(const char *name, size_t alpha)
{
    char path[1024], again[1024];
    kith_index *index;
    size_t removed;
    snprintf(path, sizeof path, "%s/tests/golden/index-%s.kidx", KITH_SOURCE_DIR, name);
    snprintf(again, sizeof again, "%s/again.kidx", test_folder());
    assert_ok(kith_index_open(path, KITH_OPEN_READ, NULL, NULL, &index, &err), &err);
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    size_t n = info.n;
    float *x = test_vectors(50, info.dim, 0, 3);
    uint64_t ids[50];
    for (size_t i = 0; i < 50; i++) ids[i] = 1000000 + i;
    assert_true(index->env.params[alpha] == 1); /* as they were made */
    assert_ok(kith_index_add(index, x, ids, 50, NULL, &err), &err);
    assert_ok(kith_index_remove(index, ids, 20, &removed, &err), &err);
    assert_int_equal(removed, 20);
    assert_ok(kith_index_check(index, &err), &err);
    assert_ok(kith_index_save(index, again, NULL, &err), &err);
    kith_index_free(index);
    assert_ok(kith_index_open(again, KITH_OPEN_READ, NULL, NULL, &index, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    assert_int_equal(info.n, n + 30);
    assert_true(index->env.params[alpha] == 1);
    kith_index_free(index);
    free(x);
}
static void test_old_files(void **state)
{
    (void)state;
    check_old("hnsw-v1", KI_HNSW_ALPHA);
    check_old("qg-v1", KI_QG_ALPHA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rule),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_old_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
