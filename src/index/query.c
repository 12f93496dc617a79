#include "index/query.h"

#include <math.h>

#include "base/bitset.h"
#include "base/memory.h"
#include "base/run.h"
#include "base/select.h"

int ki_query_late(ki_query *query)
{
    if (ki_now_ns() >= query->deadline_ns) query->stopped = 1;
    return query->stopped;
}

static int passes(const kith_filter *filter, uint64_t id)
{
    if (filter->bits && (id >= filter->n_bits || !ki_bits_get(filter->bits, id))) return 0;
    return !filter->allow || filter->allow(filter->ctx, id) != 0;
}

int ki_query_allows(const ki_query *query, uint32_t slot)
{
    if (query->holes && !ki_rows_used(query->rows, slot)) return 0;
    return !query->filter || passes(query->filter, ki_rows_id(query->rows, slot));
}

/* Of the ids first..first+n-1 those whose bits are set, by words: one of which none is set costs one look. */
static size_t admit_run(const kith_filter *filter, uint64_t first, size_t n, uint32_t *pick)
{
    size_t picked = 0;
    if (first >= filter->n_bits) return 0;
    if (n > filter->n_bits - first) n = (size_t)(filter->n_bits - first);
    for (size_t i = 0; i < n;) {
        size_t shift = (size_t)((first + i) % 64), count = 64 - shift < n - i ? 64 - shift : n - i;
        uint64_t word = filter->bits[(first + i) / 64] >> shift;
        if (count < 64) word &= ((uint64_t)1 << count) - 1;
        for (; word; word &= word - 1) pick[picked++] = (uint32_t)(i + (size_t)__builtin_ctzll(word));
        i += count;
    }
    return picked;
}

size_t ki_query_admit(const ki_query *query, const uint32_t *slots, uint32_t first, size_t n, uint32_t *pick)
{
    size_t picked = 0;
    const kith_filter *filter = query->filter;
    uint64_t first_id;
    if (filter && filter->bits && !filter->allow && !query->holes && ki_rows_dense(query->rows, &first_id)) {
        /* Where ids are dense none is read: they lie at random, and would cost more than all the rest. */
        if (!slots) return admit_run(filter, first_id + first, n, pick);
        for (size_t i = 0; i < n; i++) {
            uint64_t id = first_id + slots[i];
            pick[picked] = (uint32_t)i;
            picked += id < filter->n_bits && ki_bits_get(filter->bits, id);
        }
        return picked;
    }
    if (filter && filter->bits && !filter->allow && !query->holes) {
        /* The common case, a bitset and nothing else, without a branch a row. */
        for (size_t i = 0; i < n; i++) {
            uint32_t slot = slots ? slots[i] : first + (uint32_t)i;
            uint64_t id = ki_rows_id(query->rows, slot);
            pick[picked] = (uint32_t)i;
            picked += id < filter->n_bits && ki_bits_get(filter->bits, id);
        }
        return picked;
    }
    for (size_t i = 0; i < n; i++)
        if (ki_query_allows(query, slots ? slots[i] : first + (uint32_t)i)) pick[picked++] = (uint32_t)i;
    return picked;
}

/* Append to what lies within the radius. */
static void found_push(ki_query *query, float distance, uint64_t id)
{
    ki_found *found = query->found;
    if (found->n == found->capacity) {
        size_t capacity = ki_grown(found->capacity, found->n + 1);
        float *dist = ki_realloc(found->allocator, found->dist, found->n, capacity, sizeof *dist);
        if (dist) found->dist = dist;
        uint64_t *ids =
            dist ? ki_realloc(found->allocator, found->id, found->n, capacity, sizeof *ids) : NULL;
        if (!ids) {
            found->failed = 1;
            query->stopped = 1;
            return;
        }
        found->id = ids;
        found->capacity = capacity;
    }
    found->dist[found->n] = distance;
    found->id[found->n++] = id;
}

void ki_query_offer(ki_query *query, float distance, uint32_t slot)
{
    if (isnan(distance)) distance = INFINITY; /* an overflow: a row all the same */
    uint64_t id = query->by_slot ? slot : ki_rows_id(query->rows, slot);
    if (query->cosine) distance = 1 + distance;
    if (distance < 0 && query->clamped) distance = 0; /* rounding, of codes or of two equal unit vectors */
    if (!query->found)
        ki_topk_push(&query->top, distance, id);
    else if (distance <= query->radius)
        found_push(query, distance, id);
}

/* Rows of the better copy that are fetched and compared at a time: enough for their fetching to overlap, few enough that
 * the worst distance has come down before the next are looked at. */
#define REFINE_ROWS 8

/* The rows near[n] of a block by the better copy: bound[] holds their lower bounds. */
static void refine_near(ki_query *query, const float *bound, const uint32_t *near, size_t n,
                        const uint32_t *rows, const uint32_t *slots, uint32_t first)
{
    uint64_t keys[KI_SCAN_BLOCK];
    for (size_t i = 0; i < n; i++) keys[i] = ki_key(bound[near[i]], near[i]);
    ki_keys_sort(keys, n);
    for (size_t done = 0; done < n;) {
        uint32_t picked[REFINE_ROWS];
        float dist[REFINE_ROWS], limit = ki_query_limit(query);
        size_t count = 0;
        for (; count < REFINE_ROWS && done + count < n && ki_key_dist(keys[done + count]) <= limit; count++) {
            uint32_t at = ki_key_number(keys[done + count]), row = rows ? rows[at] : at;
            picked[count] = slots ? slots[row] : first + row;
        }
        if (count == 0) return; /* all bounds to come are farther */
        query->refine->ops->score(query->refine, query->refine_codes, picked, count, INFINITY, dist);
        for (size_t i = 0; i < count; i++) ki_query_offer(query, dist[i], picked[i]);
        done += count;
    }
}

void ki_query_scan(ki_query *query, ki_scorer *scorer, ki_codes codes, const uint32_t *slots, uint32_t first,
                   size_t n)
{
    float dist[KI_SCAN_BLOCK];
    uint32_t pick[KI_SCAN_BLOCK], near[KI_SCAN_BLOCK];
    size_t code_size = scorer->codec->code_size, n_factors = scorer->codec->n_factors;
    int selective = ki_query_selective(query);
    for (size_t done = 0; done < n; done += KI_SCAN_BLOCK) {
        size_t block = n - done < KI_SCAN_BLOCK ? n - done : KI_SCAN_BLOCK;
        if (ki_query_stop(query)) return;
        const uint32_t *block_slots = slots ? slots + done : NULL;
        uint32_t block_first = first + (uint32_t)done;
        size_t admitted = block;
        if (selective) {
            admitted = ki_query_admit(query, block_slots, block_first, block, pick);
            if (admitted == 0) continue;
        }
        ki_codes here = {codes.code + done * code_size,
                         codes.factor ? codes.factor + done * n_factors : NULL};
        const uint32_t *rows = admitted < block ? pick : NULL;
        (query->refine ? scorer->ops->bound : scorer->ops->score)(scorer, here, rows, admitted,
                                                                  ki_query_limit(query), dist);
        query->scored += admitted;
        /* Where every row is wanted, those whose distance overflowed to no number are as well: as far as can be. */
        if (ki_query_limit(query) == INFINITY)
            for (size_t i = 0; i < admitted; i++) dist[i] = isnan(dist[i]) ? INFINITY : dist[i];
        size_t n_near = query->kernels->select_le_f32(dist, admitted, ki_query_limit(query), near);
        if (query->refine) refine_near(query, dist, near, n_near, rows, block_slots, block_first);
        for (size_t i = 0; i < n_near && !query->refine; i++) {
            size_t row = rows ? rows[near[i]] : near[i];
            ki_query_offer(query, dist[near[i]],
                           block_slots ? block_slots[row] : block_first + (uint32_t)row);
        }
    }
}
