/* Every kernel of every SIMD level that this machine has, against plain float64 arithmetic or the scalar level. Operands lie
 * in blocks of exact size at odd offsets, so that AddressSanitizer sees an over-read of a single byte. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "simd/kernels.h"

/* --- Helpers -------------------------------------------------------------------------------------------------------*/

static ki_rng rng;

/* `bytes` random bytes that end where their malloc block ends and begin `skew` bytes after its start. */
typedef struct block {
    char *memory;
    void *data;
} block;

static block block_make(size_t bytes, size_t skew)
{
    block b = {malloc(bytes + skew), NULL};
    assert_non_null(b.memory);
    b.data = b.memory + skew;
    for (size_t i = 0; i < bytes; i++) ((uint8_t *)b.data)[i] = (uint8_t)ki_rng_u64(&rng);
    return b;
}

/* n floats from N(0,1), `skew` floats into the block. */
static block floats_make(size_t n, size_t skew)
{
    block b = block_make(n * sizeof(float), skew * sizeof(float));
    for (size_t i = 0; i < n; i++) ((float *)b.data)[i] = (float)ki_rng_gauss(&rng);
    return b;
}

static void for_every_level(void (*test)(const ki_kernels *))
{
    ki_rng_init(&rng, test_seed(), 0);
    for (int level = 0; level < 4; level++)
        if (ki_kernels_at((kith_simd)level)) test(ki_kernels_at((kith_simd)level));
}

static size_t dim_at(size_t i)
{
    static const size_t large[] = {384, 511, 960, 1025, 3000, 4099};
    return i <= 257 ? i : large[i - 258];
}
#define DIMS (258 + 6)

/* --- Distances -----------------------------------------------------------------------------------------------------*/

typedef struct exact_sums {
    double l2, dot, l1, aa, bb, absolute;
} exact_sums;

static exact_sums exact_of(const float *a, const float *b, size_t dim)
{
    exact_sums s = {0};
    for (size_t d = 0; d < dim; d++) {
        double x = (double)a[d], y = (double)b[d];
        s.l2 += (x - y) * (x - y);
        s.l1 += fabs(x - y);
        s.dot += x * y;
        s.aa += x * x;
        s.bb += y * y;
        s.absolute += fabs(x * y);
    }
    return s;
}

static void assert_near(const ki_kernels *k, const char *what, size_t dim, float got, double want,
                        double slack)
{
    if (!(fabs((double)got - want) <= slack))
        fail_msg("%s %s dim %zu: %.9g, should be %.9g within %g", kith_simd_name(k->level), what, dim,
                 (double)got, want, slack);
}

static void pair_distances(const ki_kernels *k)
{
    for (size_t i = 0; i < DIMS; i++) {
        size_t dim = dim_at(i);
        block a = floats_make(dim, i % 3), b = floats_make(dim, i % 5);
        exact_sums s = exact_of(a.data, b.data, dim);
        double u = (double)(dim + 2) * 0x1p-24;
        assert_near(k, "l2sq", dim, k->l2sq_f32(a.data, b.data, dim), s.l2, u * s.l2);
        assert_near(k, "dot", dim, k->dot_f32(a.data, b.data, dim), s.dot, u * s.absolute);
        assert_near(k, "l1", dim, k->l1_f32(a.data, b.data, dim), s.l1, u * s.l1);
        assert_near(k, "norm2", dim, k->norm2_f32(a.data, dim), s.aa, u * s.aa);
        double cosine = dim ? 1 - s.dot / sqrt(s.aa * s.bb) : 1;
        assert_near(k, "cosine", dim, k->cosine_f32(a.data, b.data, dim), cosine, 3 * u);
        assert_true(k->l2sq_f32(a.data, a.data, dim) == 0);
        free(a.memory), free(b.memory);
    }
}

static void pairs_agree_with_float64(void **state)
{
    (void)state;
    for_every_level(pair_distances);
}

/* rows, gather and pair give the same bits, for every number of rows around the unrolling. */
static void check_shapes(const ki_kernels *k, kith_metric metric, size_t n, size_t dim)
{
    size_t stride = dim + 3;
    block q = floats_make(dim, 1), x = floats_make(n * dim, 1), spread = floats_make(n * stride, 2);
    block out = floats_make(n, 1);
    uint32_t *rows = malloc((n ? n : 1) * sizeof *rows);
    for (size_t i = 0; i < n; i++) rows[i] = (uint32_t)ki_rng_below(&rng, n);
    float *o = out.data;
    ki_rows_of(k, metric)(q.data, x.data, n, dim, o);
    for (size_t i = 0; i < n; i++)
        assert_true(o[i] == ki_distance(k, metric, q.data, (const float *)x.data + i * dim, dim));
    ki_gather_of(k, metric)(q.data, spread.data, stride * sizeof(float), rows, n, dim, o);
    for (size_t i = 0; i < n; i++)
        assert_true(o[i] ==
                    ki_distance(k, metric, q.data, (const float *)spread.data + rows[i] * stride, dim));
    if (metric == KITH_DOT) {
        k->dot_f32_rows(q.data, x.data, n, dim, o);
        for (size_t i = 0; i < n; i++)
            assert_true(o[i] == k->dot_f32(q.data, (const float *)x.data + i * dim, dim));
    }
    k->norm2_f32_rows(spread.data, stride, n, dim, o);
    for (size_t i = 0; i < n; i++)
        assert_true(o[i] == k->norm2_f32((const float *)spread.data + i * stride, dim));
    free(q.memory), free(x.memory), free(spread.memory), free(out.memory), free(rows);
}

static void batch_distances(const ki_kernels *k)
{
    static const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_COSINE, KITH_L1};
    for (size_t m = 0; m < 4; m++) {
        for (size_t n = 0; n <= 21; n++) check_shapes(k, metrics[m], n, 19);
        for (size_t i = 0; i < DIMS; i++) check_shapes(k, metrics[m], 4 + i % 5, dim_at(i));
    }
}

static void batches_give_the_bits_of_pairs(void **state)
{
    (void)state;
    for_every_level(batch_distances);
}

static void cosine_edges(const ki_kernels *k)
{
    float zero[20] = {0}, a[20], b[20];
    for (int d = 0; d < 20; d++) a[d] = (float)d - 3, b[d] = -a[d];
    assert_true(k->cosine_f32(zero, a, 20) == 1);
    assert_true(k->cosine_f32(a, zero, 20) == 1);
    assert_true(k->cosine_f32(a, a, 20) >= 0 && k->cosine_f32(a, a, 20) < 1e-6f);
    assert_true(k->cosine_f32(a, b, 20) <= 2 && k->cosine_f32(a, b, 20) > 1.99999f);
}

static void cosine_of_zero_and_opposite_vectors(void **state)
{
    (void)state;
    for_every_level(cosine_edges);
}

/* --- Bits ------------------------------------------------------------------------------------------------------------*/

static uint32_t bits_that_differ(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint32_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        for (int bit = 0; bit < 8; bit++) count += (a[i] ^ b[i]) >> bit & 1;
    return count;
}

static void hamming_distances(const ki_kernels *k)
{
    for (size_t i = 0; i < DIMS; i++) {
        size_t bytes = dim_at(i), n = 1 + i % 37, stride = bytes + i % 3;
        block q = block_make(bytes, i % 7), x = block_make(n * bytes, i % 5),
              spread = block_make(n * stride + 1, 1);
        uint32_t *out = malloc(n * sizeof *out), *rows = malloc(n * sizeof *rows);
        for (size_t r = 0; r < n; r++) rows[r] = (uint32_t)ki_rng_below(&rng, n);
        k->hamming_rows(q.data, x.data, n, bytes, out);
        for (size_t r = 0; r < n; r++) {
            const uint8_t *row = (const uint8_t *)x.data + r * bytes;
            assert_int_equal(out[r], bits_that_differ(q.data, row, bytes));
            assert_int_equal(out[r], k->hamming(q.data, row, bytes));
        }
        k->hamming_gather(q.data, spread.data, stride, rows, n, bytes, out);
        for (size_t r = 0; r < n; r++)
            assert_int_equal(
                out[r], bits_that_differ(q.data, (const uint8_t *)spread.data + rows[r] * stride, bytes));
        free(q.memory), free(x.memory), free(spread.memory), free(out), free(rows);
    }
    uint8_t zeros[5000] = {0}, ones[5000];
    memset(ones, 255, sizeof ones); /* byte counters inside the kernel must not wrap */
    assert_int_equal(k->hamming(zeros, ones, sizeof ones), 40000);
}

static void hamming_counts_bits(void **state)
{
    (void)state;
    for_every_level(hamming_distances);
}

/* --- Product quantisation ---------------------------------------------------------------------------------------------*/

static void check_scan8(const ki_kernels *k, size_t m, size_t n)
{
    size_t stride = m + n % 4;
    block tables = floats_make(m * 256, 1), codes = block_make(n * m, n % 3),
          spread = block_make(n * stride, 1);
    float *out = malloc((n ? n : 1) * sizeof *out);
    uint32_t *rows = malloc((n ? n : 1) * sizeof *rows);
    const float *t = tables.data;
    for (size_t i = 0; i < n; i++) rows[i] = (uint32_t)i;
    for (int gather = 0; gather < 2; gather++) {
        size_t step = gather ? stride : m;
        const uint8_t *at = gather ? spread.data : codes.data;
        if (gather)
            k->pq_gather8(t, m, at, stride, rows, n, 0.5f, out);
        else
            k->pq_scan8(t, m, at, n, 0.5f, out);
        for (size_t i = 0; i < n; i++) {
            double sum = 0.5, absolute = 0.5;
            for (size_t j = 0; j < m; j++) {
                double entry = (double)t[j * 256 + at[i * step + j]];
                sum += entry;
                absolute += fabs(entry);
            }
            assert_near(k, gather ? "pq_gather8" : "pq_scan8", m, out[i], sum,
                        (double)(m + 1) * 0x1p-24 * absolute);
        }
    }
    /* The same code gives the same bits wherever it stands, and by either kernel. */
    if (n) {
        float one;
        k->pq_gather8(t, m, codes.data, m, rows, n, 0.5f, out);
        for (size_t i = 0; i < n; i++) {
            k->pq_scan8(t, m, (const uint8_t *)codes.data + i * m, 1, 0.5f, &one);
            assert_true(one == out[i]);
        }
        float *all = malloc(n * sizeof *all);
        k->pq_scan8(t, m, codes.data, n, 0.5f, all);
        assert_memory_equal(all, out, n * sizeof *all);
        free(all);
    }
    free(tables.memory), free(codes.memory), free(spread.memory), free(out), free(rows);
}

/* The same on bytes, in blocks of exact size. */
static void check_sums8(const ki_kernels *k, size_t m, size_t n)
{
    block entries = block_make(m * 256, 3), codes = block_make(n * m, n % 3), add = floats_make(n, 1),
          out = floats_make(n, 2);
    const uint8_t *e = entries.data, *c = codes.data;
    for (int with = 0; with < 2; with++) {
        k->pq8_sums(e, m, c, n, 0.25f, -3, with ? add.data : NULL, out.data);
        for (size_t i = 0; i < n; i++) {
            double sum = 0;
            for (size_t j = 0; j < m; j++) sum += e[j * 256 + c[i * m + j]];
            double value = 0.25 * sum - 3 + (with ? (double)((const float *)add.data)[i] : 0);
            assert_near(k, "pq8_sums", m, ((const float *)out.data)[i], value, 1e-6 * (sum + 8));
        }
    }
    free(entries.memory), free(codes.memory), free(add.memory), free(out.memory);
}

static void pq_scans(const ki_kernels *k)
{
    for (size_t m = 1; m <= 40; m++) check_sums8(k, m, 67);
    for (size_t n = 0; n <= 70; n++) check_sums8(k, 16, n), check_sums8(k, 8, n), check_sums8(k, 24, n);
    for (size_t n = 90; n <= 200; n += 11) check_sums8(k, 16, n), check_sums8(k, 40, n);
    check_sums8(k, 256, 64);
    for (size_t m = 1; m <= 40; m++) check_scan8(k, m, 37 + m);
    for (size_t n = 0; n <= 70; n++) check_scan8(k, 16, n), check_scan8(k, 8, n), check_scan8(k, 13, n);
    check_scan8(k, 64, 333);
    check_scan8(k, 120, 50);
    check_scan8(k, 16, 5000);
    for (size_t m = 1; m <= 33; m++) {
        size_t ks = m % 2 ? 1000 : 17, n = 21 + m;
        block tables = floats_make(m * ks, 1);
        uint16_t *codes = malloc(n * m * sizeof *codes);
        float out[64];
        for (size_t i = 0; i < n * m; i++) codes[i] = (uint16_t)ki_rng_below(&rng, ks);
        k->pq_scan16(tables.data, m, ks, codes, n, -1, out);
        for (size_t i = 0; i < n; i++) {
            double sum = -1, absolute = 1;
            for (size_t j = 0; j < m; j++) {
                double entry = (double)((const float *)tables.data)[j * ks + codes[i * m + j]];
                sum += entry;
                absolute += fabs(entry);
            }
            assert_near(k, "pq_scan16", m, out[i], sum, (double)(m + 1) * 0x1p-24 * absolute);
        }
        free(tables.memory), free(codes);
    }
}

static void pq_scans_sum_table_entries(void **state)
{
    (void)state;
    for_every_level(pq_scans);
}

/* The byte of entries that pq4_scan looks up for segment j and number c. */
static unsigned entry_at(const uint8_t *entries, size_t j, unsigned c)
{
    return entries[j / 4 * 128 + j % 2 * 64 + j / 2 % 2 * 32 + c];
}

static unsigned number_at(const uint8_t *codes, size_t bytes, size_t row, size_t j)
{
    unsigned byte = codes[row / 32 * 32 * bytes + j / 2 * 32 + row % 32];
    return j % 2 ? byte >> 4 : byte & 15;
}

/* Scans equal the sums of entries; entries are the tables up to half a step; so scores are within m half steps of theirs. */
static void check_pq4(const ki_kernels *k, size_t m, size_t n, unsigned most)
{
    size_t bytes = (m + 1) / 2, held = (bytes + 1) / 2 * 128;
    block tables = floats_make(m * 16, 1), codes = block_make((n + 31) / 32 * 32 * bytes, n % 5),
          add = floats_make(n, 2), entries = block_make(held, 3), out = floats_make(n, 1);
    const float *t = tables.data, *a = add.data, *o = out.data;
    float scale, bias;
    memset(entries.data, 0, held);
    k->pq4_tables(t, m, most, entries.data, &scale, &bias);
    double least_sum = 0, widest = 0;
    for (size_t j = 0; j < m; j++) {
        double least = INFINITY, greatest = -INFINITY;
        for (size_t c = 0; c < 16; c++) {
            least = fmin(least, (double)t[j * 16 + c]);
            greatest = fmax(greatest, (double)t[j * 16 + c]);
        }
        least_sum += least;
        widest = fmax(widest, greatest - least);
        for (unsigned c = 0; c < 16; c++) {
            unsigned entry = entry_at(entries.data, j, c);
            assert_true(entry <= most);
            assert_int_equal(entry, entry_at(entries.data, j, c + 16));
            double value = least + (double)scale * entry;
            assert_near(k, "pq4_tables", j, (float)value, (double)t[j * 16 + c],
                        (0.5 + 0x1p-17) * (double)scale + 1e-6);
        }
    }
    assert_near(k, "pq4_tables", m, scale, widest / most, 1e-6 * widest);
    assert_near(k, "pq4_tables", m, bias, least_sum, 1e-6 * (1 + fabs(least_sum)));
    for (int with = 0; with < 2; with++) {
        k->pq4_scan(entries.data, bytes, codes.data, n, scale, bias, with ? a : NULL, out.data);
        for (size_t i = 0; i < n; i++) {
            double exact = with ? (double)a[i] : 0, whole = 0;
            for (size_t j = 0; j < m; j++) {
                exact += (double)t[j * 16 + number_at(codes.data, bytes, i, j)];
                whole += entry_at(entries.data, j, number_at(codes.data, bytes, i, j));
            }
            double value = (double)bias + (double)scale * whole + (with ? (double)a[i] : 0);
            double rounding = 4e-7 * (fabs((double)bias) + (double)scale * whole + 8);
            assert_near(k, "pq4_scan", m, o[i], value, rounding);
            assert_near(k, "pq4_scan's bound", m, o[i], exact, (double)m * 0.5001 * (double)scale + rounding);
        }
    }
    free(tables.memory), free(codes.memory), free(add.memory), free(entries.memory), free(out.memory);
}

static void pq4_scans(const ki_kernels *k)
{
    for (size_t m = 1; m <= 40; m++) check_pq4(k, m, 60 + m, 63);
    for (size_t n = 1; n <= 70; n++) check_pq4(k, 16, n, 63), check_pq4(k, 7, n, 63);
    check_pq4(k, 64, 500, 63);
    check_pq4(k, 1040, 33, 63);
    check_pq4(k, 4096, 40, 15); /* sums up to 61440 */
    /* All entries the largest: nothing saturates. */
    uint8_t *entries = malloc(520 * 64), *codes = calloc(32, 520);
    float out[32];
    memset(entries, 63, 520 * 64);
    k->pq4_scan(entries, 520, codes, 32, 1, 0, NULL, out);
    for (size_t i = 0; i < 32; i++) assert_true(out[i] == 65520);
    /* Tables without any range. */
    const float flat[16] = {3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3};
    float scale, bias;
    k->pq4_tables(flat, 1, 63, entries, &scale, &bias);
    assert_true(scale == 0 && bias == 3);
    /* Ranges whose inverse overflows: 15 is still the top, and the rest lie in between. */
    static const float widths[] = {1e-36f, 1e-38f, 1e-40f, 1e-44f};
    for (size_t w = 0; w < 4; w++) {
        float tiny[16];
        for (size_t c = 0; c < 16; c++) tiny[c] = widths[w] * ((float)c / 15);
        k->pq4_tables(tiny, 1, 63, entries, &scale, &bias);
        for (unsigned c = 0; c < 16; c++) {
            double part = (double)tiny[c] / (double)tiny[15] * 63;
            assert_true(fabs((double)entry_at(entries, 0, c) - part) <= 0.5001);
        }
    }
    free(entries), free(codes);
}

static void pq4_scans_are_within_their_bound(void **state)
{
    (void)state;
    for_every_level(pq4_scans);
}

/* --- Conversions, elementwise, reductions -----------------------------------------------------------------------------*/

static int same_half(uint16_t a, uint16_t b)
{
    int nan_a = (a & 0x7c00) == 0x7c00 && (a & 0x3ff), nan_b = (b & 0x7c00) == 0x7c00 && (b & 0x3ff);
    return nan_a || nan_b ? nan_a == nan_b : a == b;
}

static void conversions(const ki_kernels *k)
{
    uint16_t *half = malloc(65536 * sizeof *half), *back = malloc(65536 * sizeof *back);
    float *wide = malloc(65536 * sizeof *wide);
    for (size_t i = 0; i < 65536; i++) half[i] = (uint16_t)i;
    k->f16_to_f32(half, 65536, wide);
    assert_true(wide[0x3c00] == 1 && wide[0x0001] == 0x1p-24f && wide[0x7bff] == 65504 && wide[0xc000] == -2);
    assert_true(isinf(wide[0x7c00]) && isnan(wide[0x7e00]) && wide[0x03ff] == 0x1p-14f - 0x1p-24f);
    k->f32_to_f16(wide, 65536, back);
    for (size_t i = 0; i < 65536; i++)
        if (!same_half(half[i], back[i]))
            fail_msg("%s: half %zx comes back as %x", kith_simd_name(k->level), i, back[i]);
    /* Published rounding cases: ties to even, the largest finite value, underflow. */
    static const struct {
        float in;
        uint16_t out;
    } cases[] = {{1 + 0x1p-11f, 0x3c00}, {1 + 3 * 0x1p-11f, 0x3c02},
                 {65519.996f, 0x7bff},   {65520, 0x7c00},
                 {0x1p-25f, 0},          {0x1.8p-25f, 1},
                 {-0.0f, 0x8000},        {1e30f, 0x7c00},
                 {0x1.ffap-15f, 0x03ff}, {0x1.ffcp-15f, 0x0400},
                 {-1e-30f, 0x8000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float in[20];
        uint16_t out[20];
        for (int j = 0; j < 20; j++) in[j] = cases[i].in;
        k->f32_to_f16(in, 20, out);
        for (int j = 0; j < 20; j++) assert_int_equal(out[j], cases[i].out);
    }
    for (size_t n = 0; n < 70; n++) {
        block bytes = block_make(n, n % 5), out = floats_make(n, 1), in16 = block_make(2 * n, 2 * (n % 3));
        block again = block_make(2 * n, 2);
        k->u8_to_f32(bytes.data, n, out.data);
        for (size_t i = 0; i < n; i++)
            assert_true(((float *)out.data)[i] == (float)((uint8_t *)bytes.data)[i]);
        k->f16_to_f32(in16.data, n, out.data);
        k->f32_to_f16(out.data, n, again.data);
        for (size_t i = 0; i < n; i++)
            assert_true(same_half(((uint16_t *)in16.data)[i], ((uint16_t *)again.data)[i]));
        free(bytes.memory), free(out.memory), free(in16.memory), free(again.memory);
    }
    free(half), free(back), free(wide);
}

static void conversions_are_exact_or_round_to_even(void **state)
{
    (void)state;
    for_every_level(conversions);
}

/* ---- Rows of half floats and of whole numbers ---- */

/* The query of a kernel: weights so small that sums fit, padded with zeros. */
typedef struct whole_query {
    int16_t *wide;
    int8_t *high, *low;
    ki_sq_query q;
} whole_query;

static whole_query whole_make(size_t first, size_t second, size_t planes, int most)
{
    size_t at = ki_sq_padded(first), n = planes * at;
    whole_query w = {calloc(n + 1, sizeof *w.wide), calloc(n + 1, 1), calloc(n + 1, 1), {0}};
    for (size_t i = 0; i < n; i++) {
        if (i < at ? i >= first : i - at >= second) continue;
        int weight = (int)ki_rng_below(&rng, 2 * (uint64_t)most + 1) - most, high = (weight + 64) >> 7;
        w.wide[i] = (int16_t)weight, w.high[i] = (int8_t)high, w.low[i] = (int8_t)(weight - 128 * high);
    }
    w.q = (ki_sq_query){.wide = w.wide, .high = w.high, .low = w.low, .bias = 0.5f, .scale = 0.25f};
    return w;
}

static void check_whole(const ki_kernels *k, size_t dim)
{
    enum { n = 11 };
    size_t half = (dim + 1) / 2;
    for (int bits = 4; bits <= 8; bits += 4)
        for (int tailed = 0; tailed < (dim > 0 ? 2 : 1); tailed++) {
            size_t bytes = bits == 8 ? dim : half, tail = (bytes + 3) / 4 * 4,
                   stride = tailed ? tail + 4 : bytes + 1;
            int64_t room = ((int64_t)1 << 31) / 255 / (int64_t)(dim + 1);
            int most = room < KI_SQ_WEIGHT ? (int)room : KI_SQ_WEIGHT;
            whole_query w = bits == 8 ? whole_make(dim, 0, 1, most) : whole_make(half, dim - half, 2, most);
            block x = block_make(n * stride, 1), a = floats_make(2 * ki_sq_padded(dim), 0),
                  step = floats_make(2 * ki_sq_padded(dim), 0);
            size_t second = ki_sq_padded(half), slots = bits == 8 ? dim : second + dim - half;
            for (size_t i = 0; i < 2 * ki_sq_padded(dim); i++)
                if (i >= slots || (bits == 4 && i >= half && i < second))
                    ((float *)a.data)[i] = ((float *)step.data)[i] = 0;
            if (tailed) w.q.tail = tail;
            uint32_t rows[n];
            float out[n], direct[n];
            for (size_t i = 0; i < n; i++) {
                float plus = (float)i * 3;
                rows[i] = (uint32_t)ki_rng_below(&rng, n);
                if (tailed) memcpy((char *)x.data + i * stride + tail, &plus, 4);
            }
            (bits == 8 ? k->sq8_score : k->sq4_score)(&w.q, x.data, stride, rows, n, dim, out);
            (bits == 8 ? k->sq8_score : k->sq4_score)(&w.q, x.data, stride, NULL, n, dim, direct);
            for (size_t i = 0; i < n; i++) {
                assert_true(out[i] == direct[rows[i]]);
                const uint8_t *code = (const uint8_t *)x.data + i * stride;
                int64_t sum = 0;
                for (size_t j = 0; j < bytes; j++)
                    sum += bits == 8 ? w.wide[j] * code[j]
                                     : w.wide[j] * (code[j] & 15) + w.wide[second + j] * (code[j] >> 4);
                double want = 0.5 + 0.25 * (double)sum + (tailed ? (double)i * 3 : 0);
                assert_near(k, "sq_score", dim, direct[i], want, 0x1p-22 * (fabs(want) + 100));
            }
            (bits == 8 ? k->sq8_l1 : k->sq4_l1)(a.data, step.data, x.data, stride, rows, n, dim, out);
            (bits == 8 ? k->sq8_l1 : k->sq4_l1)(a.data, step.data, x.data, stride, NULL, n, dim, direct);
            for (size_t i = 0; i < n; i++) {
                assert_true(out[i] == direct[rows[i]]);
                const uint8_t *code = (const uint8_t *)x.data + i * stride;
                double want = 0;
                for (size_t d = 0; d < dim; d++) {
                    size_t at = bits == 8 || d < half ? d : second + d - half;
                    int c = bits == 8 ? code[d] : d < half ? code[d] & 15 : code[d - half] >> 4;
                    want += fabs((double)((float *)a.data)[at] - (double)((float *)step.data)[at] * c);
                }
                assert_near(k, "sq_l1", dim, direct[i], want, ((double)dim + 4) * 0x1p-23 * (want + 1));
            }
            free(w.wide), free(w.high), free(w.low), free(x.memory), free(a.memory), free(step.memory);
        }
}

static void check_f16(const ki_kernels *k, size_t dim)
{
    enum { n = 10 };
    size_t stride = 2 * dim + 2;
    block q = floats_make(dim, 1), x = block_make(n * stride, 2);
    float *wide = malloc((dim + 1) * sizeof *wide), out[3][n], direct[n];
    uint32_t rows[n];
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < dim; d++) wide[d] = (float)ki_rng_gauss(&rng);
        k->f32_to_f16(wide, dim, (uint16_t *)(void *)((char *)x.data + i * stride));
        rows[i] = (uint32_t)ki_rng_below(&rng, n);
    }
    k->l2sq_f16(q.data, x.data, stride, rows, n, dim, out[0]);
    k->negdot_f16(q.data, x.data, stride, rows, n, dim, out[1]);
    k->l1_f16(q.data, x.data, stride, rows, n, dim, out[2]);
    k->l2sq_f16(q.data, x.data, stride, NULL, n, dim, direct);
    for (size_t i = 0; i < n; i++) {
        k->f16_to_f32((const uint16_t *)(const void *)((char *)x.data + rows[i] * stride), dim, wide);
        exact_sums s = exact_of(q.data, wide, dim);
        double u = (double)(dim + 2) * 0x1p-24;
        assert_near(k, "l2sq_f16", dim, out[0][i], s.l2, u * s.l2);
        assert_near(k, "negdot_f16", dim, out[1][i], -s.dot, u * s.absolute);
        assert_near(k, "l1_f16", dim, out[2][i], s.l1, u * s.l1);
        assert_true(out[0][i] == direct[rows[i]]);
    }
    free(q.memory), free(x.memory), free(wide);
}

static void short_codes(const ki_kernels *k)
{
    for (size_t i = 0; i < DIMS; i++) check_f16(k, dim_at(i)), check_whole(k, dim_at(i));
}

static void rows_of_halves_and_whole_numbers(void **state)
{
    (void)state;
    for_every_level(short_codes);
}

static void check_elementwise(const ki_kernels *k, size_t n)
{
    block xb = floats_make(n, n % 3), yb = floats_make(n, 1), ob = floats_make(n, 1);
    float *x = xb.data, *y = yb.data, *o = ob.data;
    double *wide = calloc(n ? n : 1, sizeof *wide), sum = 0, absolute = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i], absolute += fabs((double)x[i]);
    assert_true(fabs(k->sum_f32(x, n) - sum) <= (double)n * 0x1p-52 * absolute);
    k->sub_f32(o, x, y, n);
    for (size_t i = 0; i < n; i++) assert_true(o[i] == x[i] - y[i]);
    k->add_f32(o, y, n);
    for (size_t i = 0; i < n; i++) assert_true(o[i] == (x[i] - y[i]) + y[i]);
    k->add_f64(wide, x, n), k->add_f64(wide, y, n);
    for (size_t i = 0; i < n; i++) assert_true(wide[i] == (double)x[i] + (double)y[i]);
    double *sums = calloc(3 * n + 1, sizeof *sums);
    float *rows = malloc((4 * n + 1) * sizeof *rows);
    static const uint32_t which[] = {2, 0, 2, 2};
    for (size_t i = 0; i < 4 * n; i++) rows[i] = x[i % n] + (float)(i / n);
    k->add_f64_rows(sums, rows, 4, n, which);
    for (size_t i = 0; i < n; i++) {
        assert_true(sums[i] == (double)rows[n + i] && sums[n + i] == 0);
        assert_true(sums[2 * n + i] == (double)rows[i] + (double)rows[2 * n + i] + (double)rows[3 * n + i]);
    }
    free(sums), free(rows);
    memcpy(o, y, n * sizeof *o);
    k->axpy_f32(o, 1.7f, x, n);
    for (size_t i = 0; i < n; i++) {
        double want = (double)y[i] + (double)1.7f * (double)x[i];
        assert_near(k, "axpy", n, o[i], want, 0x1p-23 * (fabs((double)y[i]) + 2 * fabs((double)x[i])));
    }
    memcpy(o, y, n * sizeof *o);
    k->scale_f32(o, -0.3f, n);
    for (size_t i = 0; i < n; i++) assert_true(o[i] == y[i] * -0.3f);
    free(wide), free(xb.memory), free(yb.memory), free(ob.memory);
}

static void check_finite_select(const ki_kernels *k, size_t n)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    block xb = floats_make(n, n % 3);
    float *x = xb.data;
    assert_true(k->finite_f32(x, n));
    for (size_t i = 0; i < n; i++) {
        float keep = x[i];
        x[i] = bad[i % 3];
        assert_false(k->finite_f32(x, n));
        x[i] = i % 3 ? 3.4028234e38f : -1e-45f;
        assert_true(k->finite_f32(x, n));
        x[i] = keep;
    }
    if (n > 5) x[3] = x[n - 1], x[1] = NAN;
    uint32_t *index = malloc((n ? n : 1) * sizeof *index);
    float limits[] = {-INFINITY, -0.5f, n ? x[n - 1] : 0, 1, INFINITY};
    for (size_t l = 0; l < 5; l++) {
        size_t count = k->select_le_f32(x, n, limits[l], index), at = 0;
        for (size_t i = 0; i < n; i++)
            if (x[i] <= limits[l]) assert_int_equal(index[at++], i);
        assert_int_equal(count, at);
    }
    free(index), free(xb.memory);
}

static void check_transpose(const ki_kernels *k, size_t rows, size_t cols)
{
    size_t ldx = cols + rows % 3, ldo = rows + cols % 4;
    block x = floats_make((rows - 1) * ldx + cols, 1), out = floats_make((cols - 1) * ldo + rows, 2);
    float *o = out.data, *before = malloc(((cols - 1) * ldo + rows) * sizeof *before);
    memcpy(before, o, ((cols - 1) * ldo + rows) * sizeof *before);
    k->transpose_f32(x.data, ldx, rows, cols, o, ldo);
    for (size_t i = 0; i < (cols - 1) * ldo + rows; i++) {
        size_t c = i / ldo, r = i % ldo;
        assert_true(o[i] == (r < rows ? ((float *)x.data)[r * ldx + c] : before[i]));
    }
    free(x.memory), free(out.memory), free(before);
}

static void elementwise(const ki_kernels *k)
{
    for (size_t n = 0; n < 140; n++) check_elementwise(k, n), check_finite_select(k, n);
    check_elementwise(k, 4099), check_finite_select(k, 1000);
    for (size_t rows = 1; rows <= 50; rows += rows < 18 ? 1 : 5)
        for (size_t cols = 1; cols <= 50; cols += cols < 18 ? 1 : 7) check_transpose(k, rows, cols);
}

static void elementwise_kernels_and_reductions(void **state)
{
    (void)state;
    for_every_level(elementwise);
}

/* --- Dispatch ------------------------------------------------------------------------------------------------------*/

static void levels_can_be_forced(void **state)
{
    (void)state;
    kith_error err;
    kith_simd best = kith_simd_level();
    assert_ok(kith_simd_use_name("scalar", &err), &err);
    assert_int_equal(kith_simd_level(), KITH_SIMD_SCALAR);
    assert_int_equal(ki_kernels_get()->level, KITH_SIMD_SCALAR);
    assert_int_equal(kith_simd_use_name("avx1024", &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "avx1024"));
    assert_int_equal(kith_simd_use_name(NULL, &err), KITH_INVALID);
    assert_int_equal(kith_simd_level(), KITH_SIMD_SCALAR);
#ifdef __x86_64__
    assert_int_equal(kith_simd_use(KITH_SIMD_NEON, &err), KITH_UNSUPPORTED);
#endif
    assert_int_equal(kith_simd_use((kith_simd)9, &err), KITH_UNSUPPORTED);
    assert_ok(kith_simd_use_name("auto", &err), &err);
    if (!getenv("KITH_SIMD")) assert_int_equal(kith_simd_level(), best);
    setenv("KITH_SIMD", "mmx", 1);
    assert_int_equal(kith_simd_check(&err), KITH_INVALID);
    setenv("KITH_SIMD", "scalar", 1);
    assert_ok(kith_simd_check(&err), &err);
    unsetenv("KITH_SIMD");
    assert_ok(kith_simd_check(&err), &err);
    assert_string_equal(kith_simd_name(KITH_SIMD_AVX512), "avx512");
    assert_string_equal(kith_simd_name((kith_simd)9), "unknown");
}

/* A level without an entry would crash its first caller. */
static void every_table_is_complete(void **state)
{
    (void)state;
    for (int level = 0; level < 4; level++) {
        const ki_kernels *k = ki_kernels_at((kith_simd)level);
        if (!k) continue;
        assert_int_equal(k->level, level);
        assert_in_range(k->product_mr, 1, KI_MAX_MR);
#define KI_KERNEL(name, type, params) assert_true(k->name != NULL);
#include "simd/kernels.def"
#undef KI_KERNEL
    }
}

/* ---- Estimates of quantized graphs ---- */

static void check_near(const ki_kernels *k, size_t steps, size_t blocks)
{
    size_t n = blocks * KI_QG_BLOCK, row = steps * KI_QG_STEP_BYTES;
    block codes = block_make(blocks * row, 1), table = block_make(steps * KI_QG_STEP_TABLE, 1),
          add = block_make(n * 2, 2), mul = block_make(n * 2, 2), dist = floats_make(n, 0),
          place = block_make(n * 4, 4);
    for (size_t i = 0; i < blocks * row; i++) ((uint8_t *)codes.data)[i] = (uint8_t)ki_rng_u64(&rng);
    for (size_t i = 0; i < steps * KI_QG_STEP_TABLE; i++)
        ((uint8_t *)table.data)[i] = i % 5 == 0 ? 127 : (uint8_t)ki_rng_below(&rng, 128);
    for (size_t i = 0; i < n; i++) {
        float factor[2] = {(float)ki_rng_gauss(&rng), (float)ki_rng_gauss(&rng)};
        k->f32_to_f16(&factor[0], 1, (uint16_t *)add.data + i);
        k->f32_to_f16(&factor[1], 1, (uint16_t *)mul.data + i);
    }
    if (n > 3) ((uint16_t *)add.data)[3] = 0x7c00; /* no link */
    ki_qg_query q = {table.data, steps, -1.5f, 0.001f, 2};
    double *want = calloc(n + 1, sizeof *want);
    for (size_t i = 0; i < n; i++) {
        unsigned sum = 0;
        const uint8_t *code = (const uint8_t *)codes.data + i / KI_QG_BLOCK * row, *entry = table.data;
        for (size_t c = 0; c < steps * 8; c++) { /* four components at a time */
            unsigned byte = code[c / 8 * 64 + c % 8 / 2 * 16 + i % KI_QG_BLOCK],
                     bits = c % 2 ? byte >> 4 : byte & 15;
            sum += entry[c / 8 * 128 + c % 2 * 64 + c % 8 / 2 * 16 + bits];
        }
        float a, m;
        k->f16_to_f32((uint16_t *)add.data + i, 1, &a);
        k->f16_to_f32((uint16_t *)mul.data + i, 1, &m);
        want[i] = 3 + 2 * ((double)a + (double)m * (-1.5 + 0.001 * sum));
    }
    for (int all = 0; all < 2; all++) {
        float limit = all ? INFINITY : 3;
        size_t found =
                   k->qg_near(&q, codes.data, add.data, mul.data, blocks, 3, limit, dist.data, place.data),
               at = 0;
        for (size_t i = 0; i < n; i++) {
            double slack = 1e-4 * (fabs(want[i]) + 30);
            int named = at < found && ((uint32_t *)place.data)[at] == i;
            if (isinf(want[i])) assert_false(named);
            if (isinf(want[i])) continue;
            if (named) assert_near(k, "qg_near", steps, ((float *)dist.data)[at++], want[i], slack);
            assert_true(named ? want[i] < (double)limit + slack : want[i] >= (double)limit - slack);
        }
        assert_int_equal(at, found);
    }
    free(want), free(codes.memory), free(table.memory), free(add.memory), free(mul.memory), free(dist.memory),
        free(place.memory);
}

static void check_all_near(const ki_kernels *k)
{
    for (size_t steps = 1; steps <= KI_QG_STEPS; steps += steps < 5 ? 1 : KI_QG_STEPS - 5)
        for (size_t blocks = 0; blocks < 4; blocks++) check_near(k, steps, blocks);
}

static void estimates_of_quantized_graphs(void **state)
{
    (void)state;
    for_every_level(check_all_near);
}

/* One by one, each behind its equals. */
static void check_merge(const ki_kernels *k, size_t n, size_t limit, size_t m)
{
    block dist = floats_make(limit + KI_QG_MERGE_ROOM, 0),
          node = block_make((limit + KI_QG_MERGE_ROOM) * 4, 4);
    float *d = dist.data, *want = calloc(n + m + 1, sizeof *want), new_dist[KI_QG_MERGED];
    uint32_t *number = node.data, *want_number = calloc(n + m + 1, sizeof *want_number),
             new_number[KI_QG_MERGED];
    size_t kept = 0, first = limit, found = n;
    for (size_t i = 0; i < n; i++) {
        d[i] = want[i] = (float)(i / 3);
        if (i + 2 > limit) d[i] = want[i] = INFINITY;
        number[i] = want_number[i] = (uint32_t)i;
    }
    for (size_t i = 0; i < m; i++) {
        new_dist[i] = (float)ki_rng_below(&rng, n + 2) / 2;
        new_number[i] = (uint32_t)(1000 + i);
    }
    kept = n;
    for (size_t i = 0; i < m; i++) {
        size_t at = kept++;
        for (; at > 0 && want[at - 1] > new_dist[i]; at--) {
            want[at] = want[at - 1];
            want_number[at] = want_number[at - 1];
        }
        want[at] = new_dist[i];
        want_number[at] = new_number[i];
    }
    if (kept > limit) kept = limit;
    for (size_t i = kept; i-- > 0;)
        if (want_number[i] >= 1000) first = i;
    if (first == limit) first = kept;
    assert_int_equal(k->qg_merge(d, number, &found, limit, new_dist, new_number, m), first);
    assert_int_equal(found, kept);
    assert_memory_equal(d, want, kept * sizeof *d);
    assert_memory_equal(number, want_number, kept * sizeof *number);
    free(want), free(want_number), free(dist.memory), free(node.memory);
}

static void check_all_merges(const ki_kernels *k)
{
    static const size_t limits[] = {1, 4, 15, 16, 17, 40, 100};
    for (size_t l = 0; l < sizeof limits / sizeof *limits; l++)
        for (size_t n = 0; n <= limits[l]; n += 1 + n / 5)
            for (size_t m = 1; m <= KI_QG_MERGED; m += 1 + m / 4) check_merge(k, n, limits[l], m);
}

static void pools_of_walks_take_in_what_is_new(void **state)
{
    (void)state;
    for_every_level(check_all_merges);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_is_complete),
        cmocka_unit_test(pairs_agree_with_float64),
        cmocka_unit_test(batches_give_the_bits_of_pairs),
        cmocka_unit_test(cosine_of_zero_and_opposite_vectors),
        cmocka_unit_test(hamming_counts_bits),
        cmocka_unit_test(pq_scans_sum_table_entries),
        cmocka_unit_test(pq4_scans_are_within_their_bound),
        cmocka_unit_test(conversions_are_exact_or_round_to_even),
        cmocka_unit_test(rows_of_halves_and_whole_numbers),
        cmocka_unit_test(estimates_of_quantized_graphs),
        cmocka_unit_test(pools_of_walks_take_in_what_is_new),
        cmocka_unit_test(elementwise_kernels_and_reductions),
        cmocka_unit_test(levels_can_be_forced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
