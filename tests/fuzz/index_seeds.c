/* Seeds of the fuzz target `index`. `index_seeds FILE...` fails unless every part that a spec may have (kith_families) stands in the
 * spec of one of the files, and every metric that there is: the ordinary tests ask that of corpus/index and of the golden files, so
 * that a new family comes with both. `index_seeds --make FOLDER` writes those of the table below that are not there yet, by the
 * scalar kernels and in a build with LAPACK.
 *
 * They are small, for a fuzzer turns over every byte, and hold what makes sections appear: ids in disorder, a hole, rows that
 * are equal (rings of graphs), cells that were split (origins), a calibration. */
#include "fuzz.h"

#include <string.h>

#include <kith/index.h>
#include <kith/simd.h>
#include <kith/tune.h>

#include "base/rng.h"
#include "index/family.h"
#include "index/spec.h"

enum { TRAINING = 600, MOST_ROWS = 40, MOST_DIM = 64, TOKENS = 12 };

enum { SPLIT = 1, CALIBRATED = 2 }; /* what is done to an index before it is saved */

static const struct seed {
    const char *name, *spec;
    kith_metric metric;
    size_t dim, rows;
    int done;
} seeds[] = {
    /* Graphs. */
    {"hnsw3-equal-cosine", "HNSW3,Flat", KITH_COSINE, 3, 18, CALIBRATED},
    {"hnsw2-rabitq2-rflat", "HNSW2,RaBitQ2,RFlat", KITH_L2SQ, 3, 12, 0},
    {"nsw2", "NSW2,Flat", KITH_L2SQ, 2, 14, 0},
    {"nndescent4", "NNDescent4,Flat", KITH_L2SQ, 2, 14, 0},
    {"nsg4-dot", "NSG4,Flat", KITH_DOT, 2, 14, 0},
    {"vamana4-sq8-rflat", "Vamana4,SQ8,RFlat", KITH_L2SQ, 3, 14, 0},
    {"vamana4-pq2x4", "Vamana4,PQ2x4,Refine(F16)", KITH_COSINE, 2, 14, 0},
    {"qg16", "QG16,Flat", KITH_L2SQ, 3, 8, 0},
    {"qg16-sq8-rflat", "QG16,SQ8,RFlat", KITH_L2SQ, 4, 6, 0},
    {"qg16-f16", "QG16,F16", KITH_DOT, 4, 6, 0},
    /* (these have alpha in the file, which older ones lack) */
    {"qg32x32-cosine", "QG32x32,SQ8", KITH_COSINE, 3, 6, 0},
    {"hnsw3-sq8", "HNSW3,SQ8", KITH_L2SQ, 2, 12, 0},
    {"qg16x64", "QG16x64,Flat", KITH_COSINE, 40, 6, 0},
    /* Trees. */
    {"kdtree", "KDTree,Flat", KITH_L2SQ, 2, 12, 0},
    {"balltree-l1", "BallTree,Flat", KITH_L1, 2, 12, 0},
    {"rkdforest2", "RKDForest2,Flat", KITH_L2SQ, 2, 12, 0},
    {"rpforest2-pq2x4-rflat", "RPForest2,PQ2x4,RFlat", KITH_COSINE, 2, 12, 0},
    /* Bits and sets. */
    {"bflat", "BFlat", KITH_HAMMING, 20, 12, 0},
    {"bivf3", "BIVF3", KITH_HAMMING, 20, 12, 0},
    {"bmih2", "BMIH2", KITH_HAMMING, 16, 12, 0},
    {"bhnsw2", "BHNSW2", KITH_HAMMING, 20, 14, 0},
    {"simhash64-bmih8", "SimHash64,BMIH8", KITH_HAMMING, 64, 10, 0},
    {"minhash16", "MinHash16", KITH_JACCARD, 1, 10, 0},
    /* Codecs. */
    {"f16-l1", "Flat,F16", KITH_L1, 3, 10, 0},
    {"sq8", "Flat,SQ8", KITH_L2SQ, 3, 10, CALIBRATED},
    {"sq4-refine-f16", "Flat,SQ4,Refine(F16)", KITH_DOT, 3, 10, 0},
    {"pq2", "PQ2", KITH_L2SQ, 2, 8, 0},
    {"pq1x9-l1", "PQ1x9", KITH_L1, 1, 8, 0},
    {"pq3x4fs", "PQ3x4fs", KITH_L2SQ, 3, 36, 0},
    {"rabitq-cosine", "RaBitQ", KITH_COSINE, 3, 10, 0},
    {"rabitq3", "RaBitQ3", KITH_L2SQ, 3, 10, 0},
    {"rabitq8-dot", "RaBitQ8,Refine(SQ8)", KITH_DOT, 3, 10, 0},
    {"rh16", "Flat,RH16", KITH_L2SQ, 3, 10, 0},
    {"pcah3-cosine", "Flat,PCAH3", KITH_COSINE, 3, 10, 0},
    {"itq3-rflat", "Flat,ITQ3,RFlat", KITH_L2SQ, 3, 10, 0},
    {"sh16", "Flat,SH16", KITH_L2SQ, 3, 10, 0},
    /* Cells. */
    {"ivf4-hkm2-sq4", "IVF4_HKM2,SQ4", KITH_L2SQ, 2, 14, 0},
    {"ivf6-hnsw2", "IVF6_HNSW2,Flat", KITH_L2SQ, 2, 14, CALIBRATED},
    {"ivf2-pq2x4fs-rflat", "IVF2,PQ2x4fs,RFlat", KITH_L2SQ, 2, 40, 0},
    {"ivf2-rabitq-rflat", "IVF2,RaBitQ,RFlat", KITH_L2SQ, 3, 12, 0},
    {"ivf2-rabitq5-cosine", "IVF2,RaBitQ5", KITH_COSINE, 3, 12, 0},
    {"ivf3-sq8-dot", "IVF3,SQ8", KITH_DOT, 2, 14, 0},
    {"ivf3-rh8", "IVF3,RH8,RFlat", KITH_COSINE, 3, 12, 0},
    {"ivf2-split-flat", "IVF2,Flat", KITH_L2SQ, 2, 30, SPLIT},
    {"ivf2-split-pq2x4fs", "IVF2,PQ2x4fs", KITH_L2SQ, 2, 40, SPLIT},
    {"ivf2-split-sq4", "IVF2,SQ4", KITH_L2SQ, 2, 30, SPLIT},
    {"ivf2-split-rabitq2", "IVF2,RaBitQ2", KITH_L2SQ, 2, 30, SPLIT},
    {"ivf3-hnsw2-split-pq2x4", "IVF3_HNSW2,PQ2x4", KITH_L2SQ, 2, 30, SPLIT},
    /* Transforms. */
    {"pca2-rflat", "PCA2,Flat,RFlat", KITH_L2SQ, 3, 10, 0},
    {"rr3-ivf2-cosine", "RR3,IVF2,Flat", KITH_COSINE, 4, 10, 0},
    {"hr-sq4", "HR,Flat,SQ4", KITH_L2SQ, 5, 10, 0},
    {"opq2-pq2x4", "OPQ2,PQ2x4", KITH_DOT, 4, 10, 0},
    {"opq1-2-ivf2-pq1x4fs", "OPQ1_2,IVF2,PQ1x4fs,Refine(SQ8)", KITH_L2SQ, 4, 10, 0},
    {"opqp2-pq2x4-refine", "OPQP2,PQ2x4,Refine(F16)", KITH_L2SQ, 4, 10, 0},
};
#define N_SEEDS (sizeof seeds / sizeof *seeds)

/* ---- Making ---- */

static void demand(kith_status status, const char *what, const kith_error *err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "%s: %s\n", what, err->message);
    exit(1);
}

/* n rows around three centres, of every metric's kind: float32, their signs as bits, the numbers of positive ones as sets. */
typedef struct rows {
    float x[TRAINING * MOST_DIM];
    uint8_t bits[TRAINING * MOST_DIM];
    uint64_t tokens[TRAINING * TOKENS], starts[TRAINING + 1];
    kith_sets sets;
} rows;

static void fill(rows *r, size_t dim)
{
    ki_rng rng;
    size_t bytes = kith_bit_bytes(dim), token = 0;
    memset(r, 0, sizeof *r);
    ki_rng_init(&rng, 5, 0);
    for (size_t i = 0; i < TRAINING; i++) {
        for (size_t d = 0; d < dim; d++) {
            float v = (float)(ki_rng_gauss(&rng) + (double)(i % 3) * (d % 2 ? 3 : -2));
            r->x[i * dim + d] = v;
            if (v > 0) r->bits[i * bytes + d / 8] |= (uint8_t)(1 << d % 8);
        }
        for (uint64_t t = 0; t < TOKENS; t++)
            if (ki_rng_below(&rng, 2)) r->tokens[token++] = t + 5 * (i % 3);
        r->starts[i + 1] = token;
    }
    memcpy(r->x + 5 * dim, r->x + 2 * dim, dim * sizeof *r->x); /* the rows that are equal */
    memcpy(r->bits + 5 * bytes, r->bits + 2 * bytes, bytes);
    r->sets = (kith_sets){r->tokens, r->starts, TRAINING, NULL};
}

static kith_status train(kith_index *index, const struct seed *s, const rows *r, kith_error *err)
{
    if (strncmp(s->spec, "SimHash", 7) == 0 || s->metric == KITH_JACCARD)
        return kith_index_train_sets(index, &r->sets, NULL, err);
    if (s->metric == KITH_HAMMING) return kith_index_train_bits(index, r->bits, TRAINING, NULL, err);
    return kith_index_train(index, r->x, TRAINING, NULL, err);
}

static kith_status add(kith_index *index, const struct seed *s, const rows *r, kith_error *err)
{
    uint64_t ids[MOST_ROWS];
    kith_sets sets = r->sets;
    sets.n = s->rows;
    for (size_t i = 0; i < s->rows; i++) ids[i] = i * 7 % 41; /* id 3 is among them where there are 7 rows */
    if (s->metric == KITH_JACCARD) return kith_index_add_sets(index, &sets, ids, NULL, err);
    if (s->metric == KITH_HAMMING) return kith_index_add_bits(index, r->bits, ids, s->rows, NULL, err);
    return kith_index_add(index, r->x, ids, s->rows, NULL, err);
}

static void make(const struct seed *s, const char *path, rows *r)
{
    kith_index *index;
    kith_error err;
    kith_index_options options;
    const uint64_t gone = 28; /* row 4 */
    kith_index_options_init(&options);
    options.metric = s->metric;
    fill(r, s->dim);
    demand(kith_index_create(s->spec, s->dim, &options, &index, &err), s->name, &err);
    demand(train(index, s, r, &err), s->name, &err);
    demand(add(index, s, r, &err), s->name, &err);
    demand(kith_index_remove(index, &gone, 1, NULL, &err), s->name, &err);
    if (s->done & SPLIT) {
        kith_compact_options split;
        kith_compact_options_init(&split);
        split.max_cell = 1.5;
        demand(kith_index_compact(index, &split, NULL, NULL, &err), s->name, &err);
    }
    if (s->done & CALIBRATED) {
        const size_t ks[] = {1, 3};
        kith_calibrate_options calibrate;
        uint64_t truth[30 * 3];
        kith_calibrate_options_init(&calibrate);
        calibrate.ks = ks;
        calibrate.n_ks = 2;
        for (size_t i = 0; i < 30 * 3; i++) truth[i] = i % 3 * 7;
        calibrate.truth = truth;
        calibrate.truth_k = 3;
        demand(kith_index_calibrate(index, r->x + 50 * s->dim, 30, &calibrate, NULL, &err), s->name, &err);
    }
    demand(kith_index_save(index, path, NULL, &err), s->name, &err);
    kith_index_free(index);
}

static int make_all(const char *folder)
{
    static rows r;
    demand(kith_simd_use(KITH_SIMD_SCALAR, NULL), "scalar kernels", &(kith_error){0});
    for (size_t i = 0; i < N_SEEDS; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, seeds[i].name);
        FILE *f = fopen(path, "rb");
        if (f)
            fclose(f);
        else
            make(&seeds[i], path, &r);
    }
    return 0;
}

/* ---- Looking ---- */

/* A part of a spec, by what tells them apart: the address of its description. */
static size_t part_number(const ki_part *part, const kith_family_info *const *families, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (families[i] == &part->info) return i;
    return n;
}

static int look(char **paths, size_t n_paths)
{
    size_t n, missing = 0;
    const kith_family_info *const *families = kith_families(&n);
    unsigned char *seen = calloc(n + 1, 1), metrics[KITH_JACCARD + 1] = {0};
    for (size_t i = 0; i < n_paths; i++) {
        kith_index *index;
        kith_index_info info = {.struct_size = sizeof info};
        ki_spec spec;
        kith_error err;
        if (kith_index_open(paths[i], KITH_OPEN_READ, NULL, NULL, &index, &err) != KITH_OK)
            continue; /* what a fuzzer found */
        demand(kith_index_get_info(index, &info, &err), paths[i], &err);
        demand(ki_spec_parse(info.spec, &spec, &err), paths[i], &err);
        metrics[info.metric] = 1;
        seen[part_number(&spec.structure->part, families, n)] = 1;
        if (spec.codec) seen[part_number(&spec.codec->part, families, n)] = 1;
        if (spec.transform) seen[part_number(&spec.transform->part, families, n)] = 1;
        if (spec.refinement) seen[part_number(&spec.refinement->part, families, n)] = 1;
        kith_index_free(index);
    }
    for (size_t i = 0; i < n; i++) {
        if (seen[i]) continue;
        fprintf(stderr, "no file has %s (%s)\n", families[i]->pattern, families[i]->about);
        missing++;
    }
    for (int m = 0; m <= KITH_JACCARD; m++) {
        if (metrics[m]) continue;
        fprintf(stderr, "no file has the metric %s\n", kith_metric_name((kith_metric)m));
        missing++;
    }
    free(seen);
    return missing > 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--make") == 0) return make_all(argv[2]);
    return look(argv + 1, (size_t)argc - 1);
}
