/* minhash.c - MinHash signatures and the pairs that banding proposes.
 *
 * A random order of the tokens is a hash function, h(x) = high 32 bits of (a x + b) modulo 2^64 with random odd a, of
 * the token mixed once (ki_mix64): multiply-shift is universal within a factor of 2 (M. Dietzfelbinger et al., J. Algorithms
 * 25, 1997), and M. Mitzenmacher and S. Vadhan ("Why simple hash functions work", SODA 2008) say why such a function is as
 * good as a random order on tokens that are themselves hashes.
 * tests/unit/test_minhash.c holds the estimates against the exact values.
 *
 * 32 bits a value: two different tokens share the least value with a chance of |a u b| / 2^32, far below the standard
 * error for sets of any size that occurs.
 */
#include <kith/minhash.h>

#include "base/blocks.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/run.h"
#include "base/select.h"
#include "hash/pairs.h"

#include <math.h>
#include <string.h>

#define BLOCK 256 /* sets a block of signing: arbitrary */

struct kith_minhash {
    const kith_allocator *allocator;
    size_t hashes;
    uint64_t *a, *b; /* [hashes] */
};

kith_status kith_minhash_create(size_t hashes, uint64_t seed, const kith_allocator *allocator,
                                kith_minhash **minhash, kith_error *err)
{
    if (!minhash) return ki_fail(err, KITH_INVALID, "minhash is NULL");
    *minhash = NULL;
    if (hashes == 0 || hashes > KITH_MINHASH_MAX_HASHES)
        return ki_fail(err, KITH_INVALID, "hashes is %zu, allowed 1..%d", hashes, KITH_MINHASH_MAX_HASHES);
    kith_minhash *made = ki_alloc_zero(allocator, 1, sizeof *made);
    if (!made) return ki_fail_nomem(err, sizeof *made);
    made->allocator = allocator;
    made->hashes = hashes;
    made->a = ki_alloc(allocator, hashes, sizeof *made->a);
    made->b = ki_alloc(allocator, hashes, sizeof *made->b);
    if (!made->a || !made->b) {
        kith_minhash_free(made);
        return ki_fail_nomem(err, hashes * sizeof *made->a);
    }
    ki_rng rng;
    ki_rng_init(&rng, seed, 0);
    for (size_t i = 0; i < hashes; i++) {
        made->a[i] = ki_rng_u64(&rng) | 1;
        made->b[i] = ki_rng_u64(&rng);
    }
    *minhash = made;
    return KITH_OK;
}

void kith_minhash_free(kith_minhash *minhash)
{
    if (!minhash) return;
    ki_free(minhash->allocator, minhash->a);
    ki_free(minhash->allocator, minhash->b);
    ki_free(minhash->allocator, minhash);
}

size_t kith_minhash_hashes(const kith_minhash *minhash)
{
    return minhash->hashes;
}

void kith_minhash_sign(const kith_minhash *minhash, const uint64_t *tokens, size_t n, uint32_t *signature)
{
    const uint64_t *restrict a = minhash->a, *restrict b = minhash->b;
    uint32_t *restrict least = signature;
    size_t hashes = minhash->hashes;
    memset(least, 0xff, hashes * sizeof *least);
    for (size_t t = 0; t < n; t++) {
        uint64_t x = ki_mix64(tokens[t]);
        for (size_t i = 0; i < hashes; i++) {
            uint32_t value = (uint32_t)((a[i] * x + b[i]) >> 32);
            least[i] = value < least[i] ? value : least[i];
        }
    }
}

typedef struct signing {
    const kith_minhash *minhash;
    const kith_sets *sets;
    uint32_t *signatures;
} signing;

static void sign_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const signing *s = ctx;
    const uint64_t *starts = s->sets->starts;
    size_t end = (block + 1) * BLOCK < s->sets->n ? (block + 1) * BLOCK : s->sets->n;
    for (size_t i = block * BLOCK; i < end; i++)
        kith_minhash_sign(s->minhash, s->sets->tokens + starts[i], (size_t)(starts[i + 1] - starts[i]),
                          s->signatures + i * s->minhash->hashes);
}

kith_status kith_minhash_sign_sets(const kith_minhash *minhash, const kith_sets *sets, const kith_run *run,
                                   uint32_t *signatures, kith_error *err)
{
    signing s = {minhash, sets, signatures};
    return ki_blocks_run(run, "signing", (sets->n + BLOCK - 1) / BLOCK, BLOCK, sets->n, sign_block, &s, err);
}

double kith_minhash_similarity(const uint32_t *a, const uint32_t *b, size_t hashes)
{
    size_t equal = 0;
    for (size_t i = 0; i < hashes; i++) equal += a[i] == b[i];
    return (double)equal / (double)hashes;
}

/* ---- Bands ---- */

double kith_bands_probability(size_t bands, size_t rows, double jaccard)
{
    return 1 - pow(1 - pow(jaccard, (double)rows), (double)bands);
}

kith_status kith_bands_choose(size_t hashes, double threshold, double recall, size_t *bands, size_t *rows,
                              kith_error *err)
{
    if (!bands || !rows) return ki_fail(err, KITH_INVALID, "bands or rows is NULL");
    if (hashes == 0 || hashes > KITH_MINHASH_MAX_HASHES)
        return ki_fail(err, KITH_INVALID, "hashes is %zu, allowed 1..%d", hashes, KITH_MINHASH_MAX_HASHES);
    if (!(threshold > 0 && threshold <= 1))
        return ki_fail(err, KITH_INVALID, "threshold is %g, allowed above 0 and up to 1", threshold);
    if (!(recall > 0 && recall < 1))
        return ki_fail(err, KITH_INVALID, "recall is %g, allowed between 0 and 1", recall);
    size_t best = 1;
    for (size_t r = 2; r <= hashes; r++)
        if (kith_bands_probability(hashes / r, r, threshold) >= recall) best = r;
    *rows = best;
    *bands = hashes / best;
    return KITH_OK;
}

/* ---- Pairs ---- */

typedef struct banding {
    const uint32_t *signatures;
    size_t n, hashes, bands, rows;
    kith_similarity_fn similarity;
    void *ctx;
    double threshold;
    const kith_allocator *allocator;
    uint64_t *keys;      /* [workers][n] */
    ki_pair_list *found; /* [bands] */
    const kith_cancel *cancel;
} banding;

static const uint32_t *slice_of(const banding *g, size_t row, size_t band)
{
    return g->signatures + row * g->hashes + band * g->rows;
}

static int slices_equal(const banding *g, size_t a, size_t b, size_t band)
{
    return memcmp(slice_of(g, a, band), slice_of(g, b, band), g->rows * sizeof(uint32_t)) == 0;
}

/* A pair that agrees in an earlier band is that band's. */
static int seen_before(const banding *g, size_t a, size_t b, size_t band)
{
    for (size_t i = 0; i < band; i++)
        if (slices_equal(g, a, b, i)) return 1;
    return 0;
}

static void consider(const banding *g, size_t a, size_t b, size_t band)
{
    if (!slices_equal(g, a, b, band) || seen_before(g, a, b, band))
        return; /* the former: 32 bits may collide */
    if (b < a) {
        size_t swapped = a;
        a = b;
        b = swapped;
    }
    double similarity = g->similarity ? g->similarity(g->ctx, a, b)
                                      : kith_minhash_similarity(g->signatures + a * g->hashes,
                                                                g->signatures + b * g->hashes, g->hashes);
    if (similarity >= g->threshold) ki_pair_list_add(&g->found[band], g->allocator, a, b, similarity);
}

/* Rows sorted by a hash of their slice; equal ones are neighbours. */
static void band_block(void *ctx, size_t band, size_t worker)
{
    const banding *g = ctx;
    uint64_t *keys = g->keys + worker * g->n;
    for (size_t row = 0; row < g->n; row++) {
        const uint32_t *slice = slice_of(g, row, band);
        uint64_t hash = band;
        for (size_t i = 0; i < g->rows; i++) hash = ki_mix64(hash ^ slice[i]) + slice[i];
        keys[row] = (hash & ~(uint64_t)UINT32_MAX) | row;
    }
    ki_keys_sort(keys, g->n);
    for (size_t i = 0; i < g->n && !kith_cancel_raised(g->cancel); i++)
        for (size_t k = i + 1; k < g->n && keys[k] >> 32 == keys[i] >> 32; k++)
            consider(g, (uint32_t)keys[i], (uint32_t)keys[k], band);
}

kith_status kith_minhash_pairs(const uint32_t *signatures, size_t n, size_t hashes, size_t bands, size_t rows,
                               kith_similarity_fn similarity, void *ctx, double threshold,
                               const kith_allocator *allocator, const kith_run *run, kith_pairs *pairs,
                               kith_error *err)
{
    if (!pairs) return ki_fail(err, KITH_INVALID, "pairs is NULL");
    *pairs = (kith_pairs){.allocator = allocator};
    if (!signatures && n) return ki_fail(err, KITH_INVALID, "signatures is NULL");
    if (n >= UINT32_MAX) return ki_fail(err, KITH_INVALID, "n is %zu, allowed 0..%u", n, UINT32_MAX - 1);
    if (bands == 0 || rows == 0 || hashes > KITH_MINHASH_MAX_HASHES || bands > hashes ||
        rows > hashes / bands)
        return ki_fail(err, KITH_INVALID, "%zu bands of %zu values do not fit signatures of %zu (1..%d)",
                       bands, rows, hashes, KITH_MINHASH_MAX_HASHES);
    banding g = {signatures, n,         hashes,    bands, rows, similarity,
                 ctx,        threshold, allocator, NULL,  NULL, run ? run->cancel : NULL};
    g.keys = ki_alloc(allocator, n * kith_pool_threads(ki_run_pool(run)), sizeof *g.keys);
    g.found = ki_alloc_zero(allocator, bands, sizeof *g.found);
    kith_status status = g.keys && g.found
                             ? ki_blocks_run(run, "comparing", bands, 1, bands, band_block, &g, err)
                             : ki_fail_nomem(err, n * sizeof *g.keys);
    if (status == KITH_OK) status = ki_run_check(run, err); /* a band that was cancelled is not whole */
    if (g.found) status = ki_pair_lists_merge(g.found, bands, status, allocator, pairs, err);
    ki_free(allocator, g.keys);
    ki_free(allocator, g.found);
    return status;
}
