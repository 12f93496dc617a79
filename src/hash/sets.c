/* sets.c - sets of tokens compared, and the exact join of all similar pairs.
 *
 * The join. Tokens are numbered by how many sets have them, the rarest first, and each set's tokens are sorted by that
 * number. If J(x, y) >= t with |y| <= |x|, they share at least o = ceil(t |x|) tokens of x and at least ceil(t |y|) of y;
 * were the first |x| - o + 1 of x and the first |y| - ceil(t |y|) + 1 of y disjoint, they could not (Bayardo et al., AllPairs;
 * Chaudhuri et al. 2006 for the prefix filter). So an inverted index over those prefixes proposes all pairs there are, and
 * since they hold the rarest tokens, few others. Sets are taken by size, so that the length filter |y| >= t |x| is a
 * lower bound on the place in a posting list. A pair is compared in full when its first shared prefix token is met.
 *
 * Deviation: the index is built before any set is looked up, not along the way, so that blocks of sets run in parallel;
 * set i then looks only at those before it in the order of sizes.
 */
#include <kith/sets.h>

#include "base/blocks.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/select.h"
#include "hash/pairs.h"

#include <math.h>
#include <string.h>

#define BLOCK 64 /* sets a block: arbitrary; a block's cost varies */

size_t kith_set_normalise(uint64_t *tokens, size_t n)
{
    size_t kept = 0;
    ki_keys_sort(tokens, n);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || tokens[i] != tokens[i - 1]) tokens[kept++] = tokens[i];
    return kept;
}

size_t kith_set_common(const uint64_t *a, size_t na, const uint64_t *b, size_t nb)
{
    size_t i = 0, j = 0, common = 0;
    while (i < na && j < nb) { /* without a branch that the data decides */
        uint64_t x = a[i], y = b[j];
        common += x == y;
        i += x <= y;
        j += y <= x;
    }
    return common;
}

double kith_set_jaccard(const uint64_t *a, size_t na, const uint64_t *b, size_t nb)
{
    size_t common = kith_set_common(a, na, b, nb), all = na + nb - common;
    return all ? (double)common / (double)all : 1;
}

double kith_set_containment(const uint64_t *a, size_t na, const uint64_t *b, size_t nb)
{
    return na ? (double)kith_set_common(a, na, b, nb) / (double)na : 1;
}

/* ---- The join ---- */

typedef struct join {
    const kith_sets *sets;
    const kith_allocator *allocator;
    double threshold;
    size_t n, n_tokens, n_ranks;
    uint64_t *keys;     /* [n_tokens]: scratch; then set numbers by (size, number), packed */
    uint64_t *distinct; /* [n_ranks]: the tokens there are, ascending */
    uint32_t *rank;     /* [n_ranks]: of each of them, the rarest 0 */
    uint32_t *ranks;    /* [n_tokens]: each set's tokens as ranks, ascending, sets by size */
    uint64_t *starts;   /* [n + 1]: into ranks, sets by size */
    uint32_t *set;      /* [n]: which set is at a place in the order of sizes */
    uint64_t *lists;    /* [n_ranks + 1]: into postings */
    uint32_t *postings; /* places of the sets whose prefix has the rank, ascending */
    uint32_t *scratch;  /* [workers][n]: the last set that met this one, plus 1 */
    ki_pair_list *found;
} join;

static size_t size_at(const join *j, size_t place)
{
    return (size_t)(j->starts[place + 1] - j->starts[place]);
}

/* The least number of shared tokens that J >= t needs of a set of this size; guarded against t * size rounding up. */
static size_t least_common(double threshold, size_t size)
{
    double least = ceil(threshold * (double)size - 1e-9);
    return least < 1 ? 1 : (size_t)least;
}

static size_t prefix_at(const join *j, size_t place)
{
    size_t size = size_at(j, place);
    return size ? size - least_common(j->threshold, size) + 1 : 0;
}

/* Number the tokens, the rarest first. keys[n_tokens] is scratch. */
static kith_status number_tokens(join *j, kith_error *err)
{
    size_t n = j->n_tokens;
    memcpy(j->keys, j->sets->tokens + j->sets->starts[0], n * sizeof *j->keys);
    ki_keys_sort(j->keys, n);
    for (size_t i = 0; i < n; i++) j->n_ranks += i == 0 || j->keys[i] != j->keys[i - 1];
    j->distinct = ki_alloc(j->allocator, j->n_ranks, sizeof *j->distinct);
    j->rank = ki_alloc(j->allocator, j->n_ranks, sizeof *j->rank);
    if (!j->distinct || !j->rank) return ki_fail_nomem(err, j->n_ranks * sizeof *j->distinct);
    size_t at = 0;
    for (size_t i = 0, from = 0; i < n; i++) {
        if (i + 1 < n && j->keys[i + 1] == j->keys[i]) continue;
        j->distinct[at] = j->keys[i];
        j->keys[at] = (uint64_t)(i + 1 - from) << 32 | at; /* at <= from: not yet to be read */
        from = i + 1;
        at++;
    }
    ki_keys_sort(j->keys, j->n_ranks);
    for (size_t i = 0; i < j->n_ranks; i++) j->rank[(uint32_t)j->keys[i]] = (uint32_t)i;
    return KITH_OK;
}

static uint32_t rank_of(const join *j, uint64_t token)
{
    size_t low = 0, high = j->n_ranks;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (j->distinct[middle] <= token)
            low = middle;
        else
            high = middle;
    }
    return j->rank[low];
}

/* The sets by size, their starts and numbers. */
static void order_sets(join *j)
{
    const uint64_t *starts = j->sets->starts;
    for (size_t i = 0; i < j->n; i++) j->keys[i] = (starts[i + 1] - starts[i]) << 32 | i;
    ki_keys_sort(j->keys, j->n);
    j->starts[0] = 0;
    for (size_t i = 0; i < j->n; i++) {
        j->set[i] = (uint32_t)j->keys[i];
        j->starts[i + 1] = j->starts[i] + (j->keys[i] >> 32);
    }
}

static void rank_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    join *j = ctx;
    size_t end = (block + 1) * BLOCK < j->n ? (block + 1) * BLOCK : j->n;
    for (size_t place = block * BLOCK; place < end; place++) {
        const uint64_t *tokens = j->sets->tokens + j->sets->starts[j->set[place]];
        size_t first = j->starts[place], size = size_at(j, place);
        uint64_t *sorted = j->keys + first; /* the order of sizes is in set[] by now */
        for (size_t i = 0; i < size; i++) sorted[i] = rank_of(j, tokens[i]);
        ki_keys_sort(sorted, size);
        for (size_t i = 0; i < size; i++) j->ranks[first + i] = (uint32_t)sorted[i];
    }
}

static kith_status build_postings(join *j, kith_error *err)
{
    j->lists = ki_alloc_zero(j->allocator, j->n_ranks + 1, sizeof *j->lists);
    if (!j->lists) return ki_fail_nomem(err, j->n_ranks * sizeof *j->lists);
    for (size_t place = 0; place < j->n; place++)
        for (size_t i = 0, end = prefix_at(j, place); i < end; i++)
            j->lists[j->ranks[j->starts[place] + i]]++;
    uint64_t total = 0;
    for (size_t r = 0; r <= j->n_ranks;
         r++) { /* counts to ends, which filling from behind turns into starts */
        total += j->lists[r];
        j->lists[r] = total;
    }
    j->postings = ki_alloc(j->allocator, total, sizeof *j->postings);
    if (!j->postings) return ki_fail_nomem(err, total * sizeof *j->postings);
    for (size_t place = j->n; place-- > 0;)
        for (size_t i = 0, end = prefix_at(j, place); i < end; i++)
            j->postings[--j->lists[j->ranks[j->starts[place] + i]]] = (uint32_t)place;
    return KITH_OK;
}

static size_t common_ranks(const uint32_t *a, size_t na, const uint32_t *b, size_t nb)
{
    size_t i = 0, k = 0, common = 0;
    while (i < na && k < nb) {
        uint32_t x = a[i], y = b[k];
        common += x == y;
        i += x <= y;
        k += y <= x;
    }
    return common;
}

/* All sets before this one in the order of sizes that are similar to it. */
static void join_one(const join *j, size_t place, uint32_t *met, ki_pair_list *found)
{
    size_t size = size_at(j, place), least = least_common(j->threshold, size);
    const uint32_t *ranks = j->ranks + j->starts[place];
    for (size_t i = 0, end = prefix_at(j, place); i < end; i++) {
        for (uint64_t p = j->lists[ranks[i] + 1]; p-- > j->lists[ranks[i]];) { /* from the largest down */
            size_t other = j->postings[p], size_other = size_at(j, other);
            if (other >= place) continue;
            if (size_other < least) break;
            if (met[other] == (uint32_t)place + 1) continue;
            met[other] = (uint32_t)place + 1;
            size_t common = common_ranks(ranks, size, j->ranks + j->starts[other], size_other);
            double similarity = (double)common / (double)(size + size_other - common);
            if (similarity >= j->threshold)
                ki_pair_list_add(found, j->allocator, j->set[place], j->set[other], similarity);
        }
    }
}

static void join_block(void *ctx, size_t block, size_t worker)
{
    join *j = ctx;
    size_t end = (block + 1) * BLOCK < j->n ? (block + 1) * BLOCK : j->n;
    for (size_t place = block * BLOCK; place < end; place++)
        join_one(j, place, j->scratch + worker * j->n, &j->found[block]);
}

static kith_status run_join(join *j, const kith_run *run, kith_pairs *pairs, kith_error *err)
{
    size_t blocks = (j->n + BLOCK - 1) / BLOCK, workers = kith_pool_threads(ki_run_pool(run));
    size_t room = j->n_tokens > j->n ? j->n_tokens : j->n;
    j->keys = ki_alloc(j->allocator, room, sizeof *j->keys);
    j->ranks = ki_alloc(j->allocator, j->n_tokens, sizeof *j->ranks);
    j->starts = ki_alloc(j->allocator, j->n + 1, sizeof *j->starts);
    j->set = ki_alloc(j->allocator, j->n, sizeof *j->set);
    j->scratch = ki_alloc_zero(j->allocator, workers * j->n, sizeof *j->scratch);
    j->found = ki_alloc_zero(j->allocator, blocks, sizeof *j->found);
    if (!j->keys || !j->ranks || !j->starts || !j->set || !j->scratch || !j->found)
        return ki_fail_nomem(err, room * sizeof *j->keys);
    KI_TRY(number_tokens(j, err));
    order_sets(j);
    KI_TRY(ki_blocks_run(run, "ordering", blocks, BLOCK, j->n, rank_block, j, err));
    KI_TRY(build_postings(j, err));
    kith_status status = ki_blocks_run(run, "comparing", blocks, BLOCK, j->n, join_block, j, err);
    return ki_pair_lists_merge(j->found, blocks, status, j->allocator, pairs, err);
}

kith_status kith_sets_join(const kith_sets *sets, double threshold, const kith_allocator *allocator,
                           const kith_run *run, kith_pairs *pairs, kith_error *err)
{
    if (!pairs) return ki_fail(err, KITH_INVALID, "pairs is NULL");
    *pairs = (kith_pairs){.allocator = allocator};
    if (!sets || (sets->n && !sets->starts))
        return ki_fail(err, KITH_INVALID, "sets is NULL or has no starts");
    if (!(threshold > 0 && threshold <= 1))
        return ki_fail(err, KITH_INVALID, "threshold is %g, allowed above 0 and up to 1", threshold);
    if (sets->n == 0 || sets->starts[sets->n] == sets->starts[0]) return KITH_OK;
    join j = {.sets = sets, .allocator = allocator, .threshold = threshold, .n = sets->n};
    j.n_tokens = (size_t)(sets->starts[sets->n] - sets->starts[0]);
    if (j.n >= UINT32_MAX || j.n_tokens >= UINT32_MAX)
        return ki_fail(err, KITH_INVALID, "there are %zu sets of %zu tokens, allowed are 4294967294", j.n,
                       j.n_tokens);
    kith_status status = run_join(&j, run, pairs, err);
    ki_free(allocator, j.keys);
    ki_free(allocator, j.distinct);
    ki_free(allocator, j.rank);
    ki_free(allocator, j.ranks);
    ki_free(allocator, j.starts);
    ki_free(allocator, j.set);
    ki_free(allocator, j.lists);
    ki_free(allocator, j.postings);
    ki_free(allocator, j.scratch);
    ki_free(allocator, j.found);
    return status;
}
