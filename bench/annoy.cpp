// annoy - RPForest beside Spotify's Annoy, taking turns in one process.
//
//     g++ -std=c++17 -O3 -march=native -ffast-math -fno-associative-math -I ANNOY/src bench/annoy.cpp -o annoy $(pkg-config --cflags --libs kith)
//     annoy BASE QUERIES GT [NQ]                     vector files; GT: ids, the nearest first, at least 10 a query
//
// ANNOY is a clone of https://github.com/spotify/annoy; the flags are those of its setup.py. L2, k = 10, one query a call, one
// thread; each operating point is the best of three passes that take turns (A B A B), in CPU time of the thread. Annoy gets 15,
// 30 and 50 trees, kith 15 and 30. The last line is what counts: the best of each at recall@10 0.9, interpolated.
#include <kith/dataset.h>
#include <kith/index.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "annoylib.h"
#include "kissrandom.h"

typedef Annoy::AnnoyIndex<int, float, Annoy::Euclidean, Annoy::Kiss64Random,
                          Annoy::AnnoyIndexSingleThreadedBuildPolicy>
    annoy_index;

static const size_t K = 10;

struct data {
    float *base, *queries;
    int32_t *truth;
    size_t n, nq, dim, depth;
};

struct point {
    double recall, us;
};

static void must(kith_status status, const kith_error &err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "annoy: %s\n", err.message);
    exit(1);
}

static double cpu_seconds()
{
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Recall and time of one pass; ask(query, ids) fills ids with at most K rows.
static point pass(const data &d, const std::function<size_t(const float *, int64_t *)> &ask)
{
    size_t hits = 0;
    double seconds = 0;
    for (size_t q = 0; q < d.nq; q++) {
        int64_t ids[K];
        double start = cpu_seconds();
        size_t found = ask(d.queries + q * d.dim, ids);
        seconds += cpu_seconds() - start;
        for (size_t i = 0; i < found; i++)
            hits += std::count(d.truth + q * d.depth, d.truth + q * d.depth + K, (int32_t)ids[i]) > 0;
    }
    return {(double)hits / (double)(d.nq * K), 1e6 * seconds / (double)d.nq};
}

// One index of either program, with its operating points.
struct contender {
    std::string name;
    std::vector<int> budgets;
    std::function<size_t(const float *, int64_t *, int)> ask;
    std::vector<point> points;
};

static contender make_annoy(const data &d, int trees)
{
    auto *index = new annoy_index((int)d.dim);
    index->set_seed(1);
    for (size_t i = 0; i < d.n; i++) index->add_item((int)i, d.base + i * d.dim);
    index->build(trees);
    auto ask = [index](const float *query, int64_t *ids, int budget) {
        std::vector<int> found;
        std::vector<float> dist;
        index->get_nns_by_vector(query, K, budget, &found, &dist);
        std::copy(found.begin(), found.end(), ids);
        return found.size();
    };
    return {"Annoy, " + std::to_string(trees) + " trees", {100, 300, 600, 1000, 2000, 4000}, ask, {}};
}

static contender make_kith(const data &d, int trees)
{
    kith_error err;
    kith_index *index;
    kith_searcher *searcher;
    std::string spec = "RPForest" + std::to_string(trees);
    must(kith_index_create(spec.c_str(), d.dim, nullptr, &index, &err), err);
    must(kith_index_add(index, d.base, nullptr, d.n, nullptr, &err), err);
    must(kith_searcher_create(index, &searcher, &err), err);
    auto ask = [searcher](const float *query, int64_t *ids, int budget) {
        kith_error why;
        kith_setting setting = {"search_nodes", (double)budget};
        kith_search_options options;
        kith_search_options_init(&options);
        options.settings = &setting;
        options.n_settings = 1;
        float dist[K];
        must(kith_search(searcher, query, 1, K, &options, (uint64_t *)ids, dist, nullptr, &why), why);
        return K;
    };
    return {spec, {300, 400, 600, 1000, 2000, 4000}, ask, {}};
}

// Microseconds at a recall, between the two points around it on a logarithmic scale; infinite where there are none.
static double at_recall(const contender &c, double recall)
{
    double best = INFINITY;
    for (size_t i = 0; i < c.points.size(); i++) {
        const point &b = c.points[i];
        if (b.recall < recall) continue;
        double us = b.us;
        if (i > 0 && c.points[i - 1].recall < recall) {
            const point &a = c.points[i - 1];
            double share = (recall - a.recall) / (b.recall - a.recall);
            us = std::exp(std::log(a.us) + share * (std::log(b.us) - std::log(a.us)));
        }
        best = std::min(best, us);
    }
    return best;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: annoy BASE QUERIES GT [NQ]\n");
        return 2;
    }
    kith_error err;
    data d = {};
    size_t dim, rows;
    must(kith_dataset_load_f32(argv[1], nullptr, nullptr, &d.base, &d.n, &d.dim, &err), err);
    must(kith_dataset_load_f32(argv[2], nullptr, nullptr, &d.queries, &d.nq, &dim, &err), err);
    must(kith_dataset_load_i32(argv[3], nullptr, nullptr, &d.truth, &rows, &d.depth, &err), err);
    if (dim != d.dim || rows < d.nq || d.depth < K) {
        fprintf(stderr, "annoy: the files do not belong together\n");
        return 1;
    }
    if (argc > 4) d.nq = std::min(d.nq, (size_t)strtoull(argv[4], nullptr, 10));
    std::vector<contender> all;
    for (int trees : {15, 30, 50}) all.push_back(make_annoy(d, trees));
    for (int trees : {15, 30}) all.push_back(make_kith(d, trees));
    printf("| index | budget | recall@10 | us a query |\n|---|--:|--:|--:|\n");
    for (size_t b = 0; b < all[0].budgets.size(); b++)
        for (int turn = 0; turn < 3; turn++)
            for (contender &c : all) {
                point p = pass(
                    d, [&](const float *query, int64_t *ids) { return c.ask(query, ids, c.budgets[b]); });
                if (turn == 0)
                    c.points.push_back(p);
                else
                    c.points[b].us = std::min(c.points[b].us, p.us);
            }
    double best[2] = {INFINITY, INFINITY};
    for (const contender &c : all) {
        for (size_t b = 0; b < c.points.size(); b++)
            printf("| %s | %d | %.4f | %.0f |\n", c.name.c_str(), c.budgets[b], c.points[b].recall,
                   c.points[b].us);
        double &mine = best[c.name[0] == 'R'];
        mine = std::min(mine, at_recall(c, 0.9));
    }
    printf("at recall 0.9: Annoy %.0f us, kith %.0f us, ratio %.2f\n", best[0], best[1], best[0] / best[1]);
    return 0;
}
