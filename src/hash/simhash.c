/* simhash.c - SimHash fingerprints and the block index that finds all within a Hamming distance.
 *
 * Fingerprint. The sign of a feature for bit i is bit i of its hash. With weights of 1 the sum of signs is twice the
 * number of set bits less n; the numbers for 64 bits at once are kept as bit planes, to which a hash is added as 64
 * one-bit numbers by a ripple of and and xor.
 *
 * Index (Manku et al. 2007, section 3). The bits are cut in `blocks` blocks; for each choice of blocks - radius of them a
 * table orders the rows by these bits. Two fingerprints within the radius differ in at most radius blocks, so they
 * agree in all bits of one table's key at least. Deviation: the tables are not sorted permuted fingerprints searched by
 * interpolation but buckets by a hash of the key, which costs one read and finds every row of an equal key as well.
 *
 *     start[2^width + 1], row[n]     a table: the rows of bucket h are row[start[h]] .. row[start[h + 1] - 1], ascending
 *
 * A row that shares several tables' buckets with the query is reported by the first of them.
 */
#include <kith/simhash.h>

#include "base/blocks.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "hash/pairs.h"
#include "simd/kernels.h"

#include <math.h>
#include <string.h>

#define BLOCK 256 /* sets or rows a block of parallel work: arbitrary */
#define PLANES 32 /* a feature list has fewer than 2^32 features */
#define SCAN 512  /* rows compared at once where there are no tables: 2 KB of distances */
#define MAX_TABLES 1024
#define AUTO_TABLES 128  /* as many as are made unasked: 512 bytes and more a row */
#define PROBE_COST 100.0 /* a table's probe in rows scanned: a cache miss or two */
#define ROW_COST 10.0    /* a row of a bucket in rows scanned */

/* ---- Fingerprints ---- */

static uint64_t hash_word(uint64_t feature, size_t word)
{
    return ki_mix64(feature + (word + 1) * 0x9e3779b97f4a7c15u);
}

static uint64_t majority(const uint64_t *features, size_t n, size_t word)
{
    uint64_t planes[PLANES] = {0}, result = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t carry = hash_word(features[i], word);
        for (size_t p = 0; carry && p < PLANES; p++) {
            uint64_t both = planes[p] & carry;
            planes[p] ^= carry;
            carry = both;
        }
    }
    for (size_t bit = 0; bit < 64; bit++) {
        uint64_t count = 0;
        for (size_t p = 0; p < PLANES; p++) count |= (planes[p] >> bit & 1) << p;
        if (2 * count > n) result |= (uint64_t)1 << bit;
    }
    return result;
}

static uint64_t weighted(const uint64_t *features, const float *weights, size_t n, size_t word)
{
    double sums[64] = {0};
    uint64_t result = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = hash_word(features[i], word);
        double w = (double)weights[i];
        for (size_t bit = 0; bit < 64; bit++) sums[bit] += hash >> bit & 1 ? w : -w;
    }
    for (size_t bit = 0; bit < 64; bit++)
        if (sums[bit] > 0) result |= (uint64_t)1 << bit;
    return result;
}

static kith_status check_bits(size_t bits, kith_error *err)
{
    if (bits == 64 || bits == 128) return KITH_OK;
    return ki_fail(err, KITH_INVALID, "bits is %zu, allowed 64 and 128", bits);
}

kith_status kith_simhash(size_t bits, const uint64_t *features, const float *weights, size_t n,
                         uint64_t *fingerprint, kith_error *err)
{
    KI_TRY(check_bits(bits, err));
    if (n > UINT32_MAX) return ki_fail(err, KITH_INVALID, "n is %zu, allowed 0..%u", n, UINT32_MAX);
    for (size_t i = 0; weights && i < n; i++)
        if (!isfinite(weights[i])) return ki_fail(err, KITH_INVALID, "weights[%zu] is not finite", i);
    for (size_t word = 0; word < bits / 64; word++)
        fingerprint[word] = weights ? weighted(features, weights, n, word) : majority(features, n, word);
    return KITH_OK;
}

typedef struct signing {
    const kith_sets *sets;
    size_t words;
    uint64_t *fingerprints;
} signing;

static void sign_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const signing *s = ctx;
    const uint64_t *starts = s->sets->starts;
    const float *weights = s->sets->weights;
    size_t end = (block + 1) * BLOCK < s->sets->n ? (block + 1) * BLOCK : s->sets->n;
    for (size_t i = block * BLOCK; i < end; i++)
        for (size_t word = 0; word < s->words; word++) {
            const uint64_t *features = s->sets->tokens + starts[i];
            size_t n = (size_t)(starts[i + 1] - starts[i]);
            s->fingerprints[i * s->words + word] =
                weights ? weighted(features, weights + starts[i], n, word) : majority(features, n, word);
        }
}

kith_status kith_simhash_sets(size_t bits, const kith_sets *sets, const kith_run *run, uint64_t *fingerprints,
                              kith_error *err)
{
    KI_TRY(check_bits(bits, err));
    for (uint64_t t = sets->n ? sets->starts[0] : 0; sets->weights && sets->n && t < sets->starts[sets->n];
         t++)
        if (!isfinite(sets->weights[t]))
            return ki_fail(err, KITH_INVALID, "weights[%llu] is not finite", (unsigned long long)t);
    signing s = {sets, bits / 64, fingerprints};
    return ki_blocks_run(run, "signing", (sets->n + BLOCK - 1) / BLOCK, BLOCK, sets->n, sign_block, &s, err);
}

static size_t distance_words(const uint64_t *a, const uint64_t *b, size_t words)
{
    size_t distance = (size_t)__builtin_popcountll(a[0] ^ b[0]);
    return words == 1 ? distance : distance + (size_t)__builtin_popcountll(a[1] ^ b[1]);
}

size_t kith_simhash_distance(const uint64_t *a, const uint64_t *b, size_t bits)
{
    return distance_words(a, b, bits / 64);
}

/* ---- The block index ---- */

typedef struct table {
    uint64_t mask[2]; /* the bits of its key */
    uint32_t *start;  /* [2^width + 1] */
    uint32_t *row;    /* [n] */
} table;

struct kith_simhash_index {
    const kith_allocator *allocator;
    const uint64_t *fingerprints;
    size_t n, bits, words, radius, width, n_tables;
    table *tables;
};

static const uint64_t *print_of(const kith_simhash_index *x, size_t row)
{
    return x->fingerprints + row * x->words;
}

/* The bucket of a fingerprint in a table: equal for equal keys. */
static size_t bucket_of(const kith_simhash_index *x, const table *t, const uint64_t *print)
{
    uint64_t key = ki_mix64((print[0] & t->mask[0]) + 0x9e3779b97f4a7c15u);
    if (x->words == 2) key = ki_mix64(key ^ (print[1] & t->mask[1]));
    return x->width ? (size_t)(key >> (64 - x->width)) : 0;
}

/* Of m things, k at a time; beyond MAX_TABLES: MAX_TABLES + 1. */
static size_t choose(size_t m, size_t k)
{
    size_t result = 1;
    for (size_t i = 1; i <= k; i++) {
        result = result * (m - k + i) / i;
        if (result > MAX_TABLES) return MAX_TABLES + 1;
    }
    return result;
}

/* The number of blocks by which a search touches least; 0: no tables. */
static size_t best_blocks(size_t n, size_t bits, size_t radius, size_t width)
{
    size_t best = 0;
    double best_cost = (double)n;
    for (size_t blocks = radius + 1; blocks <= radius + 4 && blocks <= bits; blocks++) {
        size_t tables = choose(blocks, blocks - radius), key = bits / blocks * (blocks - radius);
        double spread = ldexp(1, (int)(key < width ? key : width));
        double cost = (double)tables * (PROBE_COST + ROW_COST * (double)n / spread);
        if (tables > AUTO_TABLES || cost >= best_cost) continue;
        best = blocks;
        best_cost = cost;
    }
    return best;
}

/* Bits of block b of `blocks`. */
static void add_block(uint64_t mask[2], size_t b, size_t blocks, size_t bits)
{
    for (size_t bit = b * bits / blocks; bit < (b + 1) * bits / blocks; bit++)
        mask[bit / 64] |= (uint64_t)1 << bit % 64;
}

/* A mask for each choice of `picked` of the blocks, in lexicographic order. */
static void make_masks(kith_simhash_index *x, size_t blocks, size_t picked)
{
    size_t choice[4] = {0, 1, 2, 3}; /* picked <= 4 */
    for (size_t t = 0; t < x->n_tables; t++) {
        for (size_t i = 0; i < picked; i++) add_block(x->tables[t].mask, choice[i], blocks, x->bits);
        size_t i = picked;
        while (i > 0 && choice[i - 1] == blocks - picked + i - 1) i--;
        if (i == 0) return;
        for (choice[i - 1]++; i < picked; i++) choice[i] = choice[i - 1] + 1;
    }
}

/* Counting sort by bucket. */
static void build_table(void *ctx, size_t number, size_t worker)
{
    (void)worker;
    kith_simhash_index *x = ctx;
    table *t = &x->tables[number];
    size_t buckets = (size_t)1 << x->width;
    memset(t->start, 0, (buckets + 1) * sizeof *t->start);
    for (size_t row = 0; row < x->n; row++) t->start[bucket_of(x, t, print_of(x, row))]++;
    uint32_t total = 0;
    for (size_t b = 0; b <= buckets; b++) { /* counts to ends, which filling from behind turns into starts */
        total += t->start[b];
        t->start[b] = total;
    }
    for (size_t row = x->n; row-- > 0;) t->row[--t->start[bucket_of(x, t, print_of(x, row))]] = (uint32_t)row;
}

static kith_status make_tables(kith_simhash_index *x, size_t blocks, const kith_run *run, kith_error *err)
{
    x->n_tables = choose(blocks, blocks - x->radius);
    x->tables = ki_alloc_zero(x->allocator, x->n_tables, sizeof *x->tables);
    if (!x->tables) return ki_fail_nomem(err, x->n_tables * sizeof *x->tables);
    for (size_t t = 0; t < x->n_tables; t++) {
        x->tables[t].start = ki_alloc(x->allocator, ((size_t)1 << x->width) + 1, sizeof(uint32_t));
        x->tables[t].row = ki_alloc(x->allocator, x->n, sizeof(uint32_t));
        if (!x->tables[t].start || !x->tables[t].row) return ki_fail_nomem(err, x->n * sizeof(uint32_t));
    }
    make_masks(x, blocks, blocks - x->radius);
    return ki_blocks_run(run, "indexing", x->n_tables, 1, x->n_tables, build_table, x, err);
}

kith_status kith_simhash_index_create(const uint64_t *fingerprints, size_t n, size_t bits, size_t radius,
                                      size_t blocks, const kith_allocator *allocator, const kith_run *run,
                                      kith_simhash_index **index, kith_error *err)
{
    if (!index) return ki_fail(err, KITH_INVALID, "index is NULL");
    *index = NULL;
    KI_TRY(check_bits(bits, err));
    if (!fingerprints && n) return ki_fail(err, KITH_INVALID, "fingerprints is NULL");
    if (n >= UINT32_MAX) return ki_fail(err, KITH_INVALID, "n is %zu, allowed 0..%u", n, UINT32_MAX - 1);
    if (radius >= bits) return ki_fail(err, KITH_INVALID, "radius is %zu, allowed 0..%zu", radius, bits - 1);
    if (blocks && (blocks <= radius || blocks > radius + 4 || blocks > bits))
        return ki_fail(err, KITH_INVALID, "blocks is %zu, allowed %zu..%zu and up to the bits", blocks,
                       radius + 1, radius + 4);
    if (blocks && choose(blocks, blocks - radius) > MAX_TABLES)
        return ki_fail(err, KITH_INVALID, "blocks is %zu: more than %d tables", blocks, MAX_TABLES);
    kith_simhash_index *made = ki_alloc_zero(allocator, 1, sizeof *made);
    if (!made) return ki_fail_nomem(err, sizeof *made);
    made->allocator = allocator;
    made->fingerprints = fingerprints;
    made->n = n;
    made->bits = bits;
    made->words = bits / 64;
    made->radius = radius;
    made->width = n > 1 ? 63 - (size_t)__builtin_clzll(n) : 0;
    if (blocks == 0) blocks = best_blocks(n, bits, radius, made->width);
    kith_status status = blocks ? make_tables(made, blocks, run, err) : KITH_OK;
    if (status == KITH_OK)
        *index = made;
    else
        kith_simhash_index_free(made);
    return status;
}

void kith_simhash_index_free(kith_simhash_index *index)
{
    if (!index) return;
    for (size_t t = 0; index->tables && t < index->n_tables; t++) {
        ki_free(index->allocator, index->tables[t].start);
        ki_free(index->allocator, index->tables[t].row);
    }
    ki_free(index->allocator, index->tables);
    ki_free(index->allocator, index);
}

size_t kith_simhash_index_tables(const kith_simhash_index *index)
{
    return index->tables ? index->n_tables : 0;
}

/* Call met for every row from `first` on within the radius, each once; ascending only without tables. */
typedef void (*met_fn)(void *ctx, size_t row, size_t distance);

static void scan_near(const kith_simhash_index *x, const uint64_t *print, size_t radius, size_t first,
                      met_fn met, void *ctx)
{
    const ki_kernels *kernels = ki_kernels_get();
    uint32_t distances[SCAN];
    for (size_t from = first; from < x->n; from += SCAN) {
        size_t count = x->n - from < SCAN ? x->n - from : SCAN;
        kernels->hamming_rows((const uint8_t *)print, (const uint8_t *)print_of(x, from), count, 8 * x->words,
                              distances);
        for (size_t i = 0; i < count; i++)
            if (distances[i] <= radius) met(ctx, from + i, distances[i]);
    }
}

static void each_near(const kith_simhash_index *x, const uint64_t *print, size_t radius, size_t first,
                      met_fn met, void *ctx)
{
    if (!x->tables) {
        scan_near(x, print, radius, first, met, ctx);
        return;
    }
    for (size_t t = 0; t < x->n_tables; t++) {
        const table *own = &x->tables[t];
        size_t bucket = bucket_of(x, own, print);
        for (uint32_t at = own->start[bucket]; at < own->start[bucket + 1]; at++) {
            size_t row = own->row[at], distance;
            if (row < first || (distance = distance_words(print, print_of(x, row), x->words)) > radius)
                continue;
            size_t before = 0;
            while (before < t && bucket_of(x, &x->tables[before], print) !=
                                     bucket_of(x, &x->tables[before], print_of(x, row)))
                before++;
            if (before == t) met(ctx, row, distance);
        }
    }
}

typedef struct near_rows {
    uint32_t *rows;
    size_t room, n;
} near_rows;

static void sift_down(uint32_t *rows, size_t n, size_t at, uint32_t row)
{
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && rows[child + 1] > rows[child]) child++;
        if (rows[child] <= row) break;
        rows[at] = rows[child];
    }
    rows[at] = row;
}

/* Keeps the lowest `room` rows: a heap, the highest on top. */
static void near_met(void *ctx, size_t row, size_t distance)
{
    (void)distance;
    near_rows *f = ctx;
    size_t at = f->n++;
    if (at < f->room) {
        for (; at > 0 && f->rows[(at - 1) / 2] < row; at = (at - 1) / 2) f->rows[at] = f->rows[(at - 1) / 2];
        f->rows[at] = (uint32_t)row;
    } else if (f->room > 0 && row < f->rows[0]) {
        sift_down(f->rows, f->room, 0, (uint32_t)row);
    }
}

static void sort_heap(uint32_t *rows, size_t n)
{
    while (n > 1) {
        uint32_t last = rows[--n];
        rows[n] = rows[0];
        sift_down(rows, n, 0, last);
    }
}

kith_status kith_simhash_index_near(const kith_simhash_index *index, const uint64_t *fingerprint,
                                    size_t radius, uint32_t *rows, uint32_t *distances, size_t room,
                                    size_t *n, kith_error *err)
{
    if (radius > index->radius)
        return ki_fail(err, KITH_INVALID, "radius is %zu, the index was made for 0..%zu", radius,
                       index->radius);
    near_rows f = {rows, room, 0};
    each_near(index, fingerprint, radius, 0, near_met, &f);
    size_t given = f.n < room ? f.n : room;
    sort_heap(rows, given);
    for (size_t i = 0; distances && i < given; i++)
        distances[i] = (uint32_t)distance_words(fingerprint, print_of(index, rows[i]), index->words);
    *n = f.n;
    return KITH_OK;
}

typedef struct pairing {
    const kith_simhash_index *index;
    ki_pair_list *found; /* [blocks] */
} pairing;

typedef struct pairing_row {
    const kith_simhash_index *index;
    ki_pair_list *list;
    size_t row;
} pairing_row;

static void pair_met(void *ctx, size_t row, size_t distance)
{
    const pairing_row *p = ctx;
    ki_pair_list_add(p->list, p->index->allocator, p->row, row,
                     1 - (double)distance / (double)p->index->bits);
}

static void pair_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const pairing *p = ctx;
    const kith_simhash_index *x = p->index;
    size_t end = (block + 1) * BLOCK < x->n ? (block + 1) * BLOCK : x->n;
    pairing_row one = {x, &p->found[block], 0};
    for (one.row = block * BLOCK; one.row < end; one.row++)
        each_near(x, print_of(x, one.row), x->radius, one.row + 1, pair_met, &one);
}

kith_status kith_simhash_index_pairs(const kith_simhash_index *index, const kith_run *run, kith_pairs *pairs,
                                     kith_error *err)
{
    size_t blocks = (index->n + BLOCK - 1) / BLOCK;
    *pairs = (kith_pairs){.allocator = index->allocator};
    pairing p = {index, ki_alloc_zero(index->allocator, blocks, sizeof(ki_pair_list))};
    if (!p.found) return ki_fail_nomem(err, blocks * sizeof *p.found);
    kith_status status = ki_blocks_run(run, "comparing", blocks, BLOCK, index->n, pair_block, &p, err);
    status = ki_pair_lists_merge(p.found, blocks, status, index->allocator, pairs, err);
    ki_free(index->allocator, p.found);
    return status;
}
