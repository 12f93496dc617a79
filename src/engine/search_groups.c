/* search_groups.c - the nearest rows, so many for each value of a field.
 *
 * A plain search, deep enough: which group a row belongs to its payload tells, and when the groups are not full the search
 * is done again four times as deep. */
#include "base/options.h"
#include "base/run.h"
#include "engine/expr.h"
#include "engine/fields.h"

#include <math.h>
#include <string.h>

/* How deep the first search goes beyond the rows wanted, and how deep the last one. Arbitrary. */
#define FIRST_FACTOR 2
#define FIRST_LEAST 64
#define DEEPEST ((size_t)1 << 16)

typedef struct grouping {
    kith_collection *c;
    const ki_expr_node *field;
    const unsigned char *path;
    size_t groups, group_size, n; /* wanted, rows of each; groups found */
    ki_buffer values;             /* of the groups found, one after the other */
    size_t *ends;                 /* [groups]: where each ends in values */
    size_t *sizes;                /* [groups]: rows of each */
    int64_t *keys;                /* [groups][group_size] */
    float *distances;
    ki_limit limit; /* of all rounds together */
} grouping;

/* The group of a value; groups: there is none and no room for one. */
static kith_status find_group(grouping *g, const char *value, size_t size, size_t *group, kith_error *err)
{
    size_t begin = 0;
    for (*group = 0; *group < g->n; begin = g->ends[(*group)++])
        if (g->ends[*group] - begin == size && memcmp(g->values.data + begin, value, size) == 0)
            return KITH_OK;
    if (g->n == g->groups) return KITH_OK;
    KI_TRY(ki_buffer_append(&g->values, value, size, g->c->allocator, err));
    g->ends[g->n] = g->values.size;
    g->sizes[g->n++] = 0;
    return KITH_OK;
}

/* Put the rows found, nearest first, into groups. *full: no row that is farther could be added. *cut: the limit ended
 * it, and the groups are those of the nearest rows. */
static kith_status sort_into_groups(grouping *g, const int64_t *keys, const float *distances, size_t n,
                                    int *full, int *cut, kith_error *err)
{
    size_t placed = 0;
    g->n = 0;
    g->values.size = 0;
    for (size_t i = 0; i < g->groups * g->group_size; i++) {
        g->keys[i] = 0;
        g->distances[i] = INFINITY;
    }
    for (size_t i = 0; i < n && keys[i] != 0; i++) {
        kith_row row;
        const char *value;
        size_t size, group;
        if (i % 64 == 63 && ki_limit_reached(&g->limit)) {
            *cut = 1;
            break;
        }
        KI_TRY(ki_record_get(g->c, keys[i], KITH_ROW_PAYLOAD, &row, err));
        if (!ki_payload_value(row.payload, row.payload_size, g->path, g->field->text.size, &value, &size))
            continue;
        KI_TRY(find_group(g, value, size, &group, err));
        if (group == g->groups || g->sizes[group] == g->group_size) continue;
        size_t at = group * g->group_size + g->sizes[group]++;
        g->keys[at] = keys[i];
        g->distances[at] = distances[i];
        placed++;
    }
    *full = placed == g->groups * g->group_size;
    return KITH_OK;
}

/* One search, `deep` rows deep, sorted into groups. *last: a deeper one would find no more. */
static kith_status one_round(grouping *g, size_t deep, size_t dim, const float *vector,
                             kith_collection_query *query, kith_collection_answer *answer, int *last,
                             kith_error *err)
{
    int64_t *keys = ki_alloc(g->c->allocator, deep, sizeof *keys);
    float *distances = ki_alloc(g->c->allocator, deep, sizeof *distances);
    int full = 0, cut = 0;
    query->k = deep;
    kith_status status =
        keys && distances ? kith_collection_search(g->c, 1, dim, vector, query, keys, distances, answer, err)
                          : ki_fail_nomem(err, deep * sizeof *keys);
    if (status == KITH_OK) status = sort_into_groups(g, keys, distances, deep, &full, &cut, err);
    if (status == KITH_OK && cut && !full) answer->complete = 0;
    *last = status != KITH_OK || full || keys[deep - 1] == 0 || !answer->complete;
    ki_free(g->c->allocator, keys);
    ki_free(g->c->allocator, distances);
    return status;
}

static kith_status deepen(grouping *g, size_t dim, const float *vector, kith_collection_query *query,
                          kith_collection_answer *answer, kith_error *err)
{
    size_t deep = FIRST_FACTOR * g->groups * g->group_size;
    if (deep < FIRST_LEAST) deep = FIRST_LEAST;
    for (;; deep *= 4) {
        int last;
        if (deep > DEEPEST) deep = DEEPEST;
        if (g->limit.deadline_ns > 0) { /* the budget is that of the call: a round has what the others left */
            uint64_t now = ki_now_ns(), end = g->limit.deadline_ns;
            query->max_microseconds = now < end ? (end - now) / 1000 + 1 : 1;
        }
        KI_TRY(one_round(g, deep, dim, vector, query, answer, &last, err));
        if (last) return KITH_OK;
        if (deep == DEEPEST || ki_limit_reached(&g->limit)) { /* what the round found is the answer */
            answer->complete = 0;
            return KITH_OK;
        }
    }
}

static kith_status search(grouping *g, const char *field, size_t dim, const float *vector,
                          kith_collection_query *query, kith_collection_answer *answer, kith_error *err)
{
    ki_expr expr = {0};
    size_t rows = g->groups * g->group_size;
    g->ends = ki_alloc(g->c->allocator, g->groups, sizeof *g->ends);
    g->sizes = ki_alloc(g->c->allocator, g->groups, sizeof *g->sizes);
    g->keys = ki_alloc(g->c->allocator, rows, sizeof *g->keys);
    g->distances = ki_alloc(g->c->allocator, rows, sizeof *g->distances);
    kith_status status =
        g->ends && g->sizes && g->keys && g->distances ? KITH_OK : ki_fail_nomem(err, rows * 16);
    if (status == KITH_OK) status = ki_expr_parse_path(field, g->c->allocator, &expr, err);
    if (status == KITH_OK) {
        g->field = ki_expr_at(&expr, expr.root);
        g->path = expr.texts.data + g->field->text.offset;
        status = deepen(g, dim, vector, query, answer, err);
    }
    ki_expr_clear(&expr);
    return status;
}

kith_status kith_collection_search_groups(kith_collection *c, size_t dim, const float *vector,
                                          const char *field, size_t group_size,
                                          const kith_collection_query *given, int64_t *keys, float *distances,
                                          kith_collection_answer *answer, kith_error *err)
{
    kith_collection_query query;
    kith_collection_answer found;
    kith_collection_query_init(&query);
    KI_TRY(ki_options_read(&query, sizeof query, given, "query", err));
    if (!keys || !distances) return ki_fail(err, KITH_INVALID, "keys or distances is NULL");
    if (group_size < 1 || query.k < 1 || query.k > 10000 || group_size > 10000 / query.k)
        return ki_fail(err, KITH_INVALID, "%zu groups of %zu rows, allowed 1..10000 rows together", query.k,
                       group_size);
    if (query.offset > 0)
        return ki_fail(err, KITH_INVALID, "offset is %zu, groups have no pages", query.offset);
    grouping g = {.c = c, .groups = query.k, .group_size = group_size, .limit.cancel = query.cancel};
    g.limit.deadline_ns = ki_deadline_ns(query.max_microseconds);
    int pins = c->mode == KI_IDLE;
    if (pins) KI_TRY(kith_collection_pin(c, err));
    kith_status status = search(&g, field, dim, vector, &query, &found, err);
    if (pins) kith_collection_unpin(c);
    if (status == KITH_OK) {
        memcpy(keys, g.keys, g.groups * group_size * sizeof *keys);
        memcpy(distances, g.distances, g.groups * group_size * sizeof *distances);
        if (answer) *answer = found;
    }
    void *blocks[] = {g.ends, g.sizes, g.keys, g.distances};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) ki_free(c->allocator, blocks[i]);
    ki_buffer_clear(&g.values, c->allocator);
    return status;
}
