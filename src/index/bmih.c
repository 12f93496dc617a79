/* bmih.c - multi-index hashing: exact nearest neighbours in Hamming space without a scan.
 *
 * The idea. A code is cut into m substrings. If two codes differ in at most r bits, then, by the pigeonhole principle,
 * they differ in at most r / m bits in one of the substrings at least. So each substring has a table, rows by the value
 * that they have there, and a query looks up, in each table, all values near its own: first the value itself, then those
 * that differ in one bit, in two. The rows found are compared whole. Substring by substring and radius by radius the set
 * grows that is proved to hold every row within r bits, and as soon as the k-th of those found lies within r the answer
 * is exact, and the search ends. Where neighbours are near (as good codes have it), that is after a few hundred look-ups
 * among a million rows; where they are not, the number of values to look up explodes, and the search goes over to
 * comparing what is left, so that it never costs much more than the flat scan.
 *
 * Paper. M. Norouzi, A. Punjani, D. J. Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012 (and
 * IEEE TPAMI 36(6), 2014): Propositions 1 and 2, section 3.2. After the values at radius s of substrings 0..j, and those
 * at radius s - 1 of the others, every row within r = m s + j bits was met: one that was not differs in at least
 * (j + 1)(s + 1) + (m - j - 1) s = r + 1. Our ways apart from it:
 *   - A table is indexed by t bits of its substring, at most as many as n has binary digits: the whole substring where
 *     that is shorter, its first bits else. A subset of the bits differs in no more places than all of them, so the
 *     proof stands, and no hash function is needed. The paper's rule for m makes the substring about log2 n bits too.
 *   - Rows added after the tables were made wait in a tail that every query compares; when it has grown to a quarter
 *     of the rows the tables are made anew. A removed row stays in the tables until then; a row that takes its slot goes
 *     to the tail. Files are written with tables of exactly the rows that are there.
 *   - A look-up, and a candidate compared where it lies, cost as much as comparing some 32 rows in order, a row of a list
 *     that was met before as much as one (1,000,000 rows of 64 bits: 38 and 1 ns). When they have come to what comparing
 *     all rows in order costs, or the next substring's look-ups would, that is done instead, so that no query costs
 *     much more than two flat scans.
 *
 * Choosing m: about dim / log2 n: BMIH4 for 64 bits of 100,000 rows, BMIH6 for 128 bits of a million.
 *
 * Layout, table j of t bits, the lists of all values one after the other, slots ascending in each:
 *
 *     start    | 0 | 2 | 2 | 5 | ... | n |       [2^t + 1]
 *     slots    | 4 9 | 1 3 8 | ...               [n]
 *
 * Invariants:
 *   M1  there are as many codes as slots; bits beyond dim are zero
 *   M2  the starts of a table ascend from 0 to the number of its slots; slots are below the number of slots
 *   M3  every slot in use stands in the tail, or in each table, once, under its own bits
 *
 * Cost:        build  m passes over the rows
 *              search look-ups and candidates as above; n / 8 bytes of marks are cleared; at worst the flat scan
 *              memory dim / 8 + 4 m bytes a row, and 4 m 2^t, which is at most 4 m n more
 *              open   each slot number is looked at once, mapped or not
 * Sections:    "bmih.codes", "bmih.starts", "bmih.slots".
 */
#include <math.h>
#include <string.h>

#include "base/bitset.h"
#include "base/error.h"
#include "base/memory.h"
#include "index/rowcodes.h"

#define PREFIX "bmih"
#define MAX_TABLES 1024
/* 64 MB of starts a table: beyond 16 million rows a value has several on average anyway. */
#define MAX_KEY_BITS 24
/* In rows that are compared in order (see above): a look-up or a candidate; a row of a list that was met before. */
#define LOOKUP_COST 32
#define ENTRY_COST 1
#define BATCH 64            /* candidates that are scored together */
#define TAIL_MIN 256        /* rows that may wait in the tail in any case */
#define LOOKUPS_A_CHECK 256 /* between two looks at the clock and the cancel flag */

/* The tables of all substrings, of ours or in a mapped file. */
typedef struct tables {
    size_t n;              /* slots in each */
    unsigned key_bits;     /* log2 of the rows they were made for: see key_size */
    const uint32_t *start; /* those of table j from start_at[j] on */
    const uint32_t *slots; /* [m][n] */
    uint32_t *own_start, *own_slots;
} tables;

typedef struct bmih {
    ki_structure base;
    size_t m;
    ki_row_codes rows;
    tables tables;
    uint64_t *live; /* [live_room] words: slots in use */
    size_t live_room;
    uint32_t *tail; /* [n_tail] slots that the tables do not know */
    size_t n_tail, tail_room;
} bmih;

struct ki_scratch {
    ki_scorer *scorer;
    uint64_t *met; /* [met_room] words: slots that were candidates already */
    size_t met_room;
    uint32_t candidate[BATCH];
    size_t n;
    uint64_t spent, affordable; /* by this query's look-ups and candidates, in rows compared in order */
};

/* ---- Substrings ---- */

/* Substring j: the bits from substring_at(j) to substring_at(j + 1), sizes differing by one at most. */
static size_t substring_at(const bmih *h, size_t j)
{
    return j * h->base.env->dim / h->m;
}

/* The bits of it that are a table's index. */
static unsigned key_size(const bmih *h, unsigned key_bits, size_t j)
{
    size_t size = substring_at(h, j + 1) - substring_at(h, j);
    return size < key_bits ? (unsigned)size : key_bits;
}

/* What key_bits is for n rows: no more values than rows. */
static unsigned key_bits_for(size_t n)
{
    unsigned bits = 0;
    while (bits < MAX_KEY_BITS && ((size_t)2 << bits) <= n) bits++;
    return bits;
}

/* Where the starts of table j begin among all, and with j = m their number. */
static size_t starts_before(const bmih *h, unsigned key_bits, size_t j)
{
    size_t at = 0;
    for (size_t i = 0; i < j; i++) at += ((size_t)1 << key_size(h, key_bits, i)) + 1;
    return at;
}

/* `size` bits of a code from bit `at` on. */
static uint32_t key_of(const uint8_t *code, size_t at, unsigned size)
{
    uint64_t bits = 0;
    if (size == 0) return 0;
    for (size_t byte = at / 8; byte <= (at + size - 1) / 8; byte++)
        bits |= (uint64_t)code[byte] << 8 * (byte - at / 8);
    return (uint32_t)(bits >> at % 8 & (((uint64_t)1 << size) - 1));
}

/* ---- Create and free ---- */

static kith_status bmih_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    if (env->args[0] > env->dim)
        return ki_fail(err, KITH_INVALID,
                       "spec: m of BMIH<m> is %llu, allowed 1..%zu: a row has that many bits",
                       (unsigned long long)env->args[0], env->dim);
    bmih *h = ki_alloc_zero(env->allocator, 1, sizeof *h);
    if (!h) return ki_fail_nomem(err, sizeof *h);
    h->base.env = env;
    h->m = (size_t)env->args[0];
    ki_row_codes_init(&h->rows, env->allocator);
    *structure = &h->base;
    return KITH_OK;
}

static void tables_clear(const bmih *h, tables *t)
{
    ki_free(h->base.env->allocator, t->own_start);
    ki_free(h->base.env->allocator, t->own_slots);
    *t = (tables){0};
}

static void bmih_free(ki_structure *structure)
{
    bmih *h = (bmih *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    ki_row_codes_clear(&h->rows);
    tables_clear(h, &h->tables);
    ki_free(allocator, h->live);
    ki_free(allocator, h->tail);
    ki_free(allocator, h);
}

/* ---- Making the tables ---- */

/* Table j of the live slots: counted, then filled in their order. start[2^t + 1]. */
static void fill_table(const bmih *h, size_t n_slots, size_t j, unsigned size, uint32_t *start,
                       uint32_t *slots)
{
    const ki_codec *codec = h->base.env->codec;
    size_t at = substring_at(h, j), values = (size_t)1 << size;
    memset(start, 0, (values + 1) * sizeof *start);
    for (size_t slot = 0; slot < n_slots; slot++)
        if (ki_bits_get(h->live, slot))
            start[key_of(ki_row_code(&h->rows, codec, (uint32_t)slot), at, size) + 1]++;
    for (size_t v = 0; v < values; v++) start[v + 1] += start[v];
    for (size_t slot = 0; slot < n_slots; slot++)
        if (ki_bits_get(h->live, slot))
            slots[start[key_of(ki_row_code(&h->rows, codec, (uint32_t)slot), at, size)]++] = (uint32_t)slot;
    memmove(start + 1, start,
            values * sizeof *start); /* each start has come to its end, the next one's start */
    start[0] = 0;
}

/* New tables of the live slots below n_slots. */
static kith_status tables_make(const bmih *h, size_t n_slots, tables *out, kith_error *err)
{
    const kith_allocator *allocator = h->base.env->allocator;
    tables t = {.n = n_slots > 0 ? ki_bits_count(h->live, n_slots) : 0};
    t.key_bits = key_bits_for(t.n);
    size_t n_starts = starts_before(h, t.key_bits, h->m);
    t.own_start = ki_alloc(allocator, n_starts, sizeof *t.own_start);
    t.own_slots = ki_alloc(allocator, h->m * t.n, sizeof *t.own_slots);
    if (!t.own_start || !t.own_slots) {
        tables_clear(h, &t);
        return ki_fail_nomem(err, (n_starts + h->m * t.n) * sizeof *t.own_slots);
    }
    t.start = t.own_start;
    t.slots = t.own_slots;
    for (size_t j = 0; j < h->m; j++)
        fill_table(h, n_slots, j, key_size(h, t.key_bits, j), t.own_start + starts_before(h, t.key_bits, j),
                   t.own_slots + j * t.n);
    *out = t;
    return KITH_OK;
}

/* ---- Adding and removing ---- */

static kith_status live_reserve(bmih *h, size_t n_slots, kith_error *err)
{
    size_t words = ki_bits_words(n_slots);
    if (words <= h->live_room) return KITH_OK;
    size_t room = ki_grown(h->live_room, words);
    uint64_t *live = ki_realloc(h->base.env->allocator, h->live, h->live_room, room, sizeof *live);
    if (!live) return ki_fail_nomem(err, room * sizeof *live);
    memset(live + h->live_room, 0, (room - h->live_room) * sizeof *live);
    h->live = live;
    h->live_room = room;
    return KITH_OK;
}

static kith_status tail_reserve(bmih *h, size_t n, kith_error *err)
{
    if (n <= h->tail_room) return KITH_OK;
    size_t room = ki_grown(h->tail_room, n);
    uint32_t *tail = ki_realloc(h->base.env->allocator, h->tail, h->n_tail, room, sizeof *tail);
    if (!tail) return ki_fail_nomem(err, room * sizeof *tail);
    h->tail = tail;
    h->tail_room = room;
    return KITH_OK;
}

static kith_status bmih_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                            uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    bmih *h = (bmih *)structure;
    int remake = h->n_tail + input->n > TAIL_MIN && h->n_tail + input->n > h->tables.n / 4;
    KI_TRY(live_reserve(h, n_slots, err));
    if (!remake) KI_TRY(tail_reserve(h, h->n_tail + input->n, err));
    KI_TRY(ki_row_codes_put(&h->rows, structure->env->codec, input, slots, first_slot, n_slots, run, err));
    for (size_t i = 0; i < input->n; i++) ki_bits_set(h->live, slots ? slots[i] : first_slot + i);
    if (!remake) {
        for (size_t i = 0; i < input->n; i++)
            h->tail[h->n_tail++] = slots ? slots[i] : first_slot + (uint32_t)i;
        return KITH_OK;
    }
    tables made;
    kith_status status = tables_make(h, n_slots, &made, err);
    if (status != KITH_OK) {
        for (size_t i = 0; i < input->n; i++) ki_bits_clear(h->live, slots ? slots[i] : first_slot + i);
        if (slots) ki_row_codes_erase(&h->rows, structure->env->codec, slots, input->n); /* holes are zero */
        return status;
    }
    tables_clear(h, &h->tables);
    h->tables = made;
    h->n_tail = 0;
    return KITH_OK;
}

static void bmih_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    bmih *h = (bmih *)structure;
    for (size_t i = 0; i < n; i++) ki_bits_clear(h->live, slots[i]);
    ki_row_codes_erase(&h->rows, structure->env->codec, slots, n);
}

static void bmih_decode_bits(const ki_structure *structure, uint32_t slot, uint8_t *out)
{
    const ki_codec *codec = structure->env->codec;
    codec->ops->decode_bits(codec, ki_row_code(&((const bmih *)structure)->rows, codec, slot), out);
}

/* ---- Search ---- */

static void bmih_scratch_free(const ki_structure *structure, ki_scratch *scratch)
{
    ki_scorer_free(scratch->scorer);
    ki_free(structure->env->allocator, scratch->met);
    ki_free(structure->env->allocator, scratch);
}

static kith_status bmih_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    return ki_scratch_make(structure, sizeof **scratch, scratch, err);
}

static kith_status bmih_prepare(const ki_structure *structure, ki_scratch *s, size_t k,
                                const double *settings, kith_error *err)
{
    (void)k, (void)settings;
    size_t words = ki_bits_words(((const bmih *)structure)->rows.n_slots);
    if (words <= s->met_room) return KITH_OK;
    uint64_t *met = ki_alloc(structure->env->allocator, words, sizeof *met);
    if (!met) return ki_fail_nomem(err, words * sizeof *met);
    ki_free(structure->env->allocator, s->met);
    s->met = met;
    s->met_room = words;
    return KITH_OK;
}

/* Score the candidates gathered so far, and offer them. */
static void flush(const bmih *h, ki_scratch *s, ki_query *query)
{
    float dist[BATCH];
    uint32_t pick[BATCH], near[BATCH];
    size_t n = s->n;
    s->n = 0;
    if (n == 0 || ki_query_stop(query)) return;
    if (ki_query_selective(query)) {
        n = ki_query_admit(query, s->candidate, 0, n, pick);
        for (size_t i = 0; i < n; i++) s->candidate[i] = s->candidate[pick[i]];
        if (n == 0) return;
    }
    s->scorer->ops->score(s->scorer, h->rows.codes, s->candidate, n, ki_query_limit(query), dist);
    query->scored += n;
    size_t n_near = query->kernels->select_le_f32(dist, n, ki_query_limit(query), near);
    for (size_t i = 0; i < n_near; i++) ki_query_offer(query, dist[near[i]], s->candidate[near[i]]);
}

static inline void meet(const bmih *h, ki_scratch *s, ki_query *query, uint32_t slot)
{
    s->spent += ENTRY_COST;
    if (ki_bits_get(s->met, slot)) return;
    s->spent += LOOKUP_COST - ENTRY_COST;
    ki_bits_set(s->met, slot);
    s->candidate[s->n++] = slot;
    if (s->n == BATCH) flush(h, s, query);
}

/* n choose r, or more than `limit` for anything above it. */
static uint64_t choose(unsigned n, unsigned r, uint64_t limit)
{
    uint64_t c = 1;
    if (r > n) return 0;
    for (unsigned i = 1; i <= r; i++) {
        c = c * (n - r + i) / i; /* below 2^53: n is 24 at the most */
        if (c > limit) return limit + 1;
    }
    return c;
}

/* The rows whose key in table j differs in exactly `radius` bits from the query's, as far as they can be afforded. */
static void look_up(const bmih *h, ki_scratch *s, ki_query *query, size_t j, const uint32_t *start,
                    unsigned size, unsigned radius)
{
    const uint32_t *slots = h->tables.slots + j * h->tables.n;
    uint32_t key = key_of(query->bits, substring_at(h, j), size), end = (uint32_t)1 << size;
    uint32_t flips = ((uint32_t)1 << radius) - 1;
    while (flips < end) {
        uint32_t value = key ^ flips;
        if (query->visited++ % LOOKUPS_A_CHECK == 0 && ki_query_stop(query)) return;
        s->spent += LOOKUP_COST;
        for (uint32_t i = start[value]; i < start[value + 1] && s->spent <= s->affordable; i++)
            meet(h, s, query, slots[i]);
        if (s->spent > s->affordable) return;
        if (flips == 0) return;
        /* the next larger number of as many bits: carry the lowest run up, its rest down to the bottom */
        uint32_t low = flips & (~flips + 1), carried = flips + low;
        flips = carried | ((flips ^ carried) >> 2) / low;
    }
}

/* Start again with all rows in order. */
static void scan_all(const bmih *h, ki_scratch *s, ki_query *query)
{
    s->n = 0;
    query->scored = 0;
    query->top.n = 0;
    if (query->found) query->found->n = 0;
    ki_query_scan(query, s->scorer, h->rows.codes, NULL, 0, query->rows->n_slots);
}

/* Whether all that the query wants lies within r bits. */
static int satisfied(const ki_query *query, size_t r)
{
    return query->found ? query->radius <= (float)r : ki_topk_worst(&query->top) <= (float)r;
}

static void bmih_search(const ki_structure *structure, ki_scratch *s, ki_query *query)
{
    const bmih *h = (const bmih *)structure;
    size_t dim = structure->env->dim, n_slots = query->rows->n_slots;
    if (n_slots > 0) memset(s->met, 0, ki_bits_words(n_slots) * sizeof *s->met);
    s->n = 0;
    s->scorer->ops->query_bits(s->scorer, query->bits);
    for (size_t i = 0; i < h->n_tail; i++) meet(h, s, query, h->tail[i]);
    s->spent = 0; /* the tail lies in order, mostly */
    s->affordable = h->tables.n;
    for (unsigned radius = 0; h->tables.n > 0 && !query->stopped; radius++) {
        const uint32_t *start = h->tables.start;
        for (size_t j = 0; j < h->m && !query->stopped; j++) {
            unsigned size = key_size(h, h->tables.key_bits, j);
            if (s->spent + LOOKUP_COST * choose(size, radius, s->affordable) > s->affordable) {
                scan_all(h, s, query);
                return;
            }
            look_up(h, s, query, j, start, size, radius);
            if (query->stopped) return; /* with the best so far */
            if (s->spent > s->affordable) {
                scan_all(h, s, query);
                return;
            }
            flush(h, s, query);
            if (satisfied(query, h->m * radius + j)) return;
            start += ((size_t)1 << size) + 1;
        }
        if (h->m * (radius + 1) > dim) return; /* no two rows differ in more bits than they have */
    }
    flush(h, s, query);
}

/* ---- Save and load ---- */

static kith_status bmih_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                             kith_error *err)
{
    const bmih *h = (const bmih *)structure;
    tables made = {0};
    const tables *t = &h->tables;
    KI_TRY(ki_row_codes_save(&h->rows, structure->env->codec, PREFIX, n_slots, writer, err));
    if (!t->start || t->own_start) { /* not as they came from a file: rows may be in the tail, or gone */
        KI_TRY(tables_make(h, n_slots, &made, err));
        t = &made;
    }
    kith_status status = ki_store_put(writer, PREFIX ".starts", t->start, starts_before(h, t->key_bits, h->m),
                                      sizeof *t->start, err);
    if (status == KITH_OK)
        status = ki_store_put(writer, PREFIX ".slots", t->slots, h->m * t->n, sizeof *t->slots, err);
    tables_clear(h, &made);
    return status;
}

/* M2, which searching rests on. */
static kith_status check_tables(const bmih *h, const tables *t, size_t n_slots, kith_error *err)
{
    const uint32_t *start = t->start;
    for (size_t j = 0; j < h->m; j++) {
        size_t values = (size_t)1 << key_size(h, t->key_bits, j);
        int sound = start[0] == 0 && start[values] == t->n;
        for (size_t v = 0; v < values && sound; v++) sound = start[v] <= start[v + 1];
        if (!sound)
            return ki_fail(err, KITH_CORRUPT, "M2: the starts of table %zu do not ascend to %zu", j, t->n);
        start += values + 1;
    }
    for (size_t i = 0; i < h->m * t->n; i++)
        if (t->slots[i] >= n_slots)
            return ki_fail(err, KITH_CORRUPT, "M2: table %zu holds slot %u of %zu", i / t->n, t->slots[i],
                           n_slots);
    return KITH_OK;
}

/* An array of n numbers: in the map, or a copy of our own. */
static kith_status load_array(const bmih *h, const char *name, size_t n, int mapped, ki_store *store,
                              const uint32_t **view, uint32_t **own, kith_error *err)
{
    const void *data;
    if (mapped) {
        KI_TRY(ki_store_array(store, name, n, sizeof **view, &data, err));
        *view = data;
        return KITH_OK;
    }
    uint64_t held; /* before anything is allocated: whether the file holds so much */
    KI_TRY(ki_store_count(store, name, sizeof **view, &held, err));
    if (held != n)
        return ki_fail(err, KITH_CORRUPT, "%s: section %s holds %llu numbers, not %zu", ki_store_path(store),
                       name, (unsigned long long)held, n);
    *own = ki_alloc(h->base.env->allocator, n, sizeof **own);
    if (!*own) return ki_fail_nomem(err, n * sizeof **own);
    *view = *own;
    return ki_store_load(store, name, n, sizeof **own, *own, err);
}

static kith_status bmih_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                             kith_error *err)
{
    bmih *h = (bmih *)structure;
    tables *t = &h->tables;
    KI_TRY(ki_row_codes_load(&h->rows, structure->env->codec, PREFIX, rows->n_slots, mapped, store, err));
    t->n = rows->n;
    t->key_bits = key_bits_for(rows->n);
    KI_TRY(load_array(h, PREFIX ".starts", starts_before(h, t->key_bits, h->m), mapped, store, &t->start,
                      &t->own_start, err));
    KI_TRY(load_array(h, PREFIX ".slots", h->m * t->n, mapped, store, &t->slots, &t->own_slots, err));
    kith_status status = check_tables(h, t, rows->n_slots, err);
    if (status != KITH_OK) {
        ki_error_prefix(err, "%s", ki_store_path(store));
        return status;
    }
    if (mapped) return KITH_OK;
    KI_TRY(live_reserve(h, rows->n_slots, err));
    for (size_t slot = 0; slot < rows->n_slots; slot++)
        if (ki_rows_used(rows, (uint32_t)slot)) ki_bits_set(h->live, slot);
    return KITH_OK;
}

/* ---- Check and stats ---- */

/* That a table and the tail together hold every row in use; seen[] is scratch. */
static kith_status check_table(const bmih *h, const ki_rows *rows, size_t j, const uint32_t *start,
                               uint64_t *seen, kith_error *err)
{
    const tables *t = &h->tables;
    const uint32_t *slots = t->slots + j * t->n;
    unsigned size = key_size(h, t->key_bits, j);
    memset(seen, 0, ki_bits_words(rows->n_slots) * sizeof *seen);
    for (size_t i = 0; i < h->n_tail; i++)
        if (ki_rows_used(rows, h->tail[i])) ki_bits_set(seen, h->tail[i]);
    for (size_t v = 0; v < (size_t)1 << size; v++)
        for (uint32_t i = start[v]; i < start[v + 1]; i++) {
            const uint8_t *code = ki_row_code(&h->rows, h->base.env->codec, slots[i]);
            if (ki_rows_used(rows, slots[i]) && key_of(code, substring_at(h, j), size) == v)
                ki_bits_set(seen, slots[i]);
        }
    if (ki_bits_count(seen, rows->n_slots) == rows->n) return KITH_OK;
    return ki_fail(err, KITH_CORRUPT, "M3: table %zu misses rows", j);
}

static kith_status bmih_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const bmih *h = (const bmih *)structure;
    kith_status status = ki_row_codes_check(&h->rows, structure->env->codec, rows->n_slots, err);
    if (status != KITH_OK) {
        ki_error_prefix(err, "M1");
        return status;
    }
    if (!h->tables.start) /* nothing but a tail yet */
        return h->n_tail >= rows->n ? KITH_OK : ki_fail(err, KITH_CORRUPT, "M3: rows without a table");
    KI_TRY(check_tables(h, &h->tables, h->rows.n_slots, err));
    uint64_t *seen = ki_alloc(structure->env->allocator, ki_bits_words(rows->n_slots), sizeof *seen);
    if (!seen) return ki_fail_nomem(err, ki_bits_words(rows->n_slots) * sizeof *seen);
    for (size_t j = 0; j < h->m && status == KITH_OK; j++)
        status =
            check_table(h, rows, j, h->tables.start + starts_before(h, h->tables.key_bits, j), seen, err);
    ki_free(structure->env->allocator, seen);
    return status;
}

static uint64_t bmih_bytes(const ki_structure *structure)
{
    const bmih *h = (const bmih *)structure;
    uint64_t bytes = ki_row_codes_bytes(&h->rows, structure->env->codec);
    if (h->tables.start)
        bytes +=
            (starts_before(h, h->tables.key_bits, h->m) + (uint64_t)h->m * h->tables.n) * sizeof(uint32_t);
    return bytes + h->tail_room * sizeof *h->tail + h->live_room * sizeof *h->live;
}

static const ki_structure_ops bmih_ops = {
    .create = bmih_create,
    .free = bmih_free,
    .add = bmih_add,
    .remove = bmih_remove,
    .decode_bits = bmih_decode_bits,
    .scratch_create = bmih_scratch_create,
    .scratch_free = bmih_scratch_free,
    .prepare = bmih_prepare,
    .search = bmih_search,
    .save = bmih_save,
    .load = bmih_load,
    .check = bmih_check,
    .bytes = bmih_bytes,
};

const ki_structure_part ki_structure_bmih = {
    .part = {.info = {.pattern = "BMIH<m>",
                      .about =
                          "structure over bits: multi-index hashing, m tables by substrings; exact, for "
                          "hundreds of thousands of rows and more whose neighbours are near; m about dim / "
                          "log2 n"},
             .args = {{"m", 1, MAX_TABLES, 0}}},
    .metrics = KI_METRIC_BIT(KITH_HAMMING),
    .ops = &bmih_ops,
    .codec = &ki_codec_part_bits,
};
