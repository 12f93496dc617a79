/* texts_pairs.c - near-duplicates: texts of the very same set are found first and stand as one, then MinHash, SimHash or
 * the exact join proposes pairs of distinct sets, and the sets themselves decide.
 */
#include "text/texts_state.h"

#include <kith/minhash.h>
#include <kith/simhash.h>

#include "base/blocks.h"
#include "base/checksum.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/select.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 256 /* sets a block of signing: arbitrary */

typedef struct pairing {
    const kith_texts *texts;
    const kith_texts_pairs_options *options;
    const kith_allocator *allocator;
    uint32_t *first;      /* [n]: the first text with the same set */
    uint32_t *kept;       /* [m]: texts that are the first of their set, ascending */
    uint32_t *members;    /* [n]: texts that have a set, those of kept[0] first, ascending within */
    size_t *member_start; /* [m + 1] */
    size_t m;
    const kith_minhash *minhash;
    uint32_t *signatures; /* [m][hashes] */
    uint64_t *prints;     /* [m][bits / 64] */
} pairing;

static const uint64_t *set_of(const kith_texts *texts, size_t i, size_t *n)
{
    *n = (size_t)(texts->starts[i + 1] - texts->starts[i]);
    return texts->tokens + texts->starts[i];
}

static int same_set(const kith_texts *texts, size_t i, size_t k)
{
    size_t ni, nk;
    const uint64_t *a = set_of(texts, i, &ni), *b = set_of(texts, k, &nk);
    return ni == nk && memcmp(a, b, ni * sizeof *a) == 0;
}

/* ---- Copies ---- */

/* first[i] for all texts; those without a set are UINT32_MAX. keys[n] is scratch. */
static void find_copies(const pairing *p, uint64_t *keys)
{
    const kith_texts *texts = p->texts;
    size_t n_keys = 0;
    for (size_t i = 0; i < texts->n; i++) {
        size_t n;
        const uint64_t *set = set_of(texts, i, &n);
        p->first[i] = n ? (uint32_t)i : UINT32_MAX;
        if (n) keys[n_keys++] = (ki_checksum(set, n * sizeof *set) & ~(uint64_t)UINT32_MAX) | i;
    }
    ki_keys_sort(keys, n_keys);
    for (size_t i = 1, from = 0; i < n_keys; i++) {
        if (keys[i] >> 32 != keys[from] >> 32) from = i;
        for (size_t k = from; k < i; k++) { /* the first in nearly every case: 32 bits seldom collide */
            uint32_t own = (uint32_t)keys[i], other = (uint32_t)keys[k];
            if (p->first[other] != other || !same_set(texts, own, other)) continue;
            p->first[own] = other;
            break;
        }
    }
}

static kith_status group_copies(pairing *p, kith_error *err)
{
    size_t n = p->texts->n;
    uint64_t *keys = ki_alloc(p->allocator, n, sizeof *keys);
    p->first = ki_alloc(p->allocator, n, sizeof *p->first);
    p->kept = ki_alloc(p->allocator, n, sizeof *p->kept);
    p->members = ki_alloc(p->allocator, n, sizeof *p->members);
    p->member_start = ki_alloc_zero(p->allocator, n + 2, sizeof *p->member_start);
    if (!keys || !p->first || !p->kept || !p->members || !p->member_start) {
        ki_free(p->allocator, keys);
        return ki_fail_nomem(err, n * sizeof *keys);
    }
    find_copies(p, keys);
    uint32_t *place = (uint32_t *)keys; /* of a first text among kept */
    for (size_t i = 0; i < n; i++) {
        if (p->first[i] == UINT32_MAX) continue;
        if (p->first[i] == i) {
            place[i] = (uint32_t)p->m;
            p->kept[p->m++] = (uint32_t)i;
        }
        p->member_start[place[p->first[i]] + 2]++;
    }
    for (size_t c = 2; c <= p->m + 1; c++) p->member_start[c] += p->member_start[c - 1];
    for (size_t i = 0; i < n; i++)
        if (p->first[i] != UINT32_MAX) p->members[p->member_start[place[p->first[i]] + 1]++] = (uint32_t)i;
    ki_free(p->allocator, keys);
    return KITH_OK;
}

/* ---- Pairs of distinct sets, as numbers into kept ---- */

static double exact(void *ctx, size_t a, size_t b)
{
    const pairing *p = ctx;
    size_t na, nb;
    const uint64_t *x = set_of(p->texts, p->kept[a], &na), *y = set_of(p->texts, p->kept[b], &nb);
    size_t least = na < nb ? na : nb, most = na < nb ? nb : na;
    if ((double)least / (double)most < p->options->threshold) return 0; /* sizes alone forbid it */
    return kith_set_jaccard(x, na, y, nb);
}

static void sign_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const pairing *p = ctx;
    size_t end = (block + 1) * BLOCK < p->m ? (block + 1) * BLOCK : p->m, n;
    for (size_t i = block * BLOCK; i < end; i++) {
        const uint64_t *set = set_of(p->texts, p->kept[i], &n);
        if (p->signatures)
            kith_minhash_sign(p->minhash, set, n, p->signatures + i * p->options->hashes);
        else
            kith_simhash(p->options->bits, set, NULL, n, p->prints + i * (p->options->bits / 64), NULL);
    }
}

static kith_status sign_kept(pairing *p, const kith_run *run, kith_error *err)
{
    return ki_blocks_run(run, "signing", (p->m + BLOCK - 1) / BLOCK, BLOCK, p->m, sign_block, p, err);
}

static kith_status minhash_pairs(pairing *p, const kith_run *run, kith_pairs *pairs, kith_error *err)
{
    const kith_texts_pairs_options *o = p->options;
    size_t bands, rows;
    kith_minhash *minhash;
    KI_TRY(kith_bands_choose(o->hashes, o->threshold, o->recall, &bands, &rows, err));
    KI_TRY(kith_minhash_create(o->hashes, o->seed, p->allocator, &minhash, err));
    p->minhash = minhash;
    p->signatures = ki_alloc(p->allocator, p->m * o->hashes, sizeof *p->signatures);
    kith_status status = p->signatures ? sign_kept(p, run, err) : ki_fail_nomem(err, p->m * o->hashes * 4);
    kith_minhash_free(minhash);
    if (status != KITH_OK) return status;
    return kith_minhash_pairs(p->signatures, p->m, o->hashes, bands, rows, exact, p, o->threshold,
                              p->allocator, run, pairs, err);
}

static kith_status simhash_pairs(pairing *p, const kith_run *run, kith_pairs *pairs, kith_error *err)
{
    const kith_texts_pairs_options *o = p->options;
    kith_simhash_index *index;
    p->prints = ki_alloc(p->allocator, p->m * (o->bits / 64), sizeof *p->prints);
    if (!p->prints) return ki_fail_nomem(err, p->m * o->bits / 8);
    KI_TRY(sign_kept(p, run, err));
    KI_TRY(
        kith_simhash_index_create(p->prints, p->m, o->bits, o->distance, 0, p->allocator, run, &index, err));
    kith_status status = kith_simhash_index_pairs(index, run, pairs, err);
    kith_simhash_index_free(index);
    size_t kept = 0;
    for (size_t i = 0; status == KITH_OK && i < pairs->n; i++) {
        pairs->items[i].similarity = exact(p, pairs->items[i].a, pairs->items[i].b);
        if (pairs->items[i].similarity >= o->threshold) pairs->items[kept++] = pairs->items[i];
    }
    pairs->n = kept;
    return status;
}

static kith_status join_pairs(pairing *p, const kith_run *run, kith_pairs *pairs, kith_error *err)
{
    size_t total = 0, n;
    for (size_t i = 0; i < p->m; i++) {
        set_of(p->texts, p->kept[i], &n);
        total += n;
    }
    uint64_t *tokens = ki_alloc(p->allocator, total, sizeof *tokens);
    uint64_t *starts = ki_alloc_zero(p->allocator, p->m + 1, sizeof *starts);
    kith_status status = tokens && starts ? KITH_OK : ki_fail_nomem(err, total * sizeof *tokens);
    for (size_t i = 0; status == KITH_OK && i < p->m; i++) {
        const uint64_t *set = set_of(p->texts, p->kept[i], &n);
        memcpy(tokens + starts[i], set, n * sizeof *set);
        starts[i + 1] = starts[i] + n;
    }
    const kith_sets sets = {tokens, starts, p->m, NULL};
    if (status == KITH_OK)
        status = kith_sets_join(&sets, p->options->threshold, p->allocator, run, pairs, err);
    ki_free(p->allocator, tokens);
    ki_free(p->allocator, starts);
    return status;
}

/* ---- Pairs of texts ---- */

static size_t members_of(const pairing *p, size_t c)
{
    return p->member_start[c + 1] - p->member_start[c];
}

static int by_numbers(const void *a, const void *b)
{
    const kith_pair *x = a, *y = b;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    return x->b < y->b ? -1 : x->b > y->b;
}

static void add_pair(kith_pairs *out, uint32_t a, uint32_t b, double similarity)
{
    out->items[out->n++] = a < b ? (kith_pair){a, b, similarity} : (kith_pair){b, a, similarity};
}

static size_t count_pairs(const pairing *p, const kith_pairs *sets)
{
    int all = p->options->all_copies;
    size_t total = all ? 0 : sets->n;
    for (size_t c = 0; c < p->m; c++)
        total += all ? members_of(p, c) * (members_of(p, c) - 1) / 2 : members_of(p, c) - 1;
    for (size_t i = 0; all && i < sets->n; i++)
        total += members_of(p, sets->items[i].a) * members_of(p, sets->items[i].b);
    return total;
}

/* Pairs of sets to pairs of texts, copies among them. */
static kith_status expand(const pairing *p, const kith_pairs *sets, kith_pairs *out, kith_error *err)
{
    int all = p->options->all_copies;
    size_t total = count_pairs(p, sets), most = p->options->max_pairs;
    *out = (kith_pairs){.allocator = p->allocator};
    if (total == 0) return KITH_OK;
    if (most && total > most)
        return ki_fail(err, KITH_NOMEM, "%zu pairs, most of them copies of the same texts, are more than %zu",
                       total, most);
    out->items = ki_alloc(p->allocator, total, sizeof *out->items);
    if (!out->items) return ki_fail_nomem(err, total * sizeof *out->items);
    for (size_t c = 0; c < p->m; c++) {
        const uint32_t *members = p->members + p->member_start[c];
        for (size_t i = 0; i < (all ? members_of(p, c) : 1); i++)
            for (size_t k = i + 1; k < members_of(p, c); k++) add_pair(out, members[i], members[k], 1);
    }
    for (size_t i = 0; i < sets->n; i++) {
        size_t a = sets->items[i].a, b = sets->items[i].b;
        size_t na = all ? members_of(p, a) : 1, nb = all ? members_of(p, b) : 1;
        for (size_t x = 0; x < na; x++)
            for (size_t y = 0; y < nb; y++)
                add_pair(out, p->members[p->member_start[a] + x], p->members[p->member_start[b] + y],
                         sets->items[i].similarity);
    }
    qsort(out->items, out->n, sizeof *out->items, by_numbers);
    return KITH_OK;
}

static kith_status check(const kith_texts_pairs_options *o, kith_error *err)
{
    if (!(o->threshold > 0 && o->threshold <= 1))
        return ki_fail(err, KITH_INVALID, "threshold is %g, allowed above 0 and up to 1", o->threshold);
    if (o->method > KITH_TEXTS_EXACT)
        return ki_fail(err, KITH_INVALID, "method is %d, allowed 0..%d", (int)o->method, KITH_TEXTS_EXACT);
    if (o->bits != 64 && o->bits != 128)
        return ki_fail(err, KITH_INVALID, "bits is %zu, allowed 64 and 128", o->bits);
    if (o->distance >= o->bits)
        return ki_fail(err, KITH_INVALID, "distance is %zu, allowed 0..%zu", o->distance, o->bits - 1);
    return KITH_OK;
}

kith_status kith_texts_pairs(const kith_texts *texts, const kith_texts_pairs_options *options,
                             const kith_run *run, kith_pairs *pairs, kith_error *err)
{
    kith_texts_pairs_options own;
    if (!pairs) return ki_fail(err, KITH_INVALID, "pairs is NULL");
    if (!texts) return ki_fail(err, KITH_INVALID, "texts is NULL");
    *pairs = (kith_pairs){.allocator = texts->allocator};
    kith_texts_pairs_options_init(&own);
    KI_TRY(ki_options_read(&own, sizeof own, options, "options", err));
    KI_TRY(check(&own, err));
    pairing p = {.texts = texts, .options = &own, .allocator = texts->allocator};
    kith_pairs sets = {0};
    kith_status status = group_copies(&p, err);
    if (status == KITH_OK)
        status = own.method == KITH_TEXTS_MINHASH   ? minhash_pairs(&p, run, &sets, err)
                 : own.method == KITH_TEXTS_SIMHASH ? simhash_pairs(&p, run, &sets, err)
                                                    : join_pairs(&p, run, &sets, err);
    if (status == KITH_OK) status = expand(&p, &sets, pairs, err);
    kith_pairs_clear(&sets);
    ki_free(p.allocator, p.first);
    ki_free(p.allocator, p.kept);
    ki_free(p.allocator, p.members);
    ki_free(p.allocator, p.member_start);
    ki_free(p.allocator, p.signatures);
    ki_free(p.allocator, p.prints);
    return status;
}
