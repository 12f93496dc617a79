/* filter_rows.c - which rows a filter lets through: by the sorted values of declared fields where they decide it, by
 * reading payloads where not.
 *
 * Only conditions that are true count, and De Morgan's laws hold in a logic of three values: so `not` is pushed down to
 * the conditions over single fields, each of these becomes a set of rows, and `and` and `or` are intersection and union
 * of sets. Of an `and` whose parts are decided by values and by payloads, the first are done first; of the rows that
 * are left, the payloads are read one by one if they are few. */
#include "engine/filter_rows.h"

#include "engine/fields.h"
#include "engine/geo.h"
#include "engine/spaces.h"

#include <stdio.h>
#include <string.h>

/* Payloads of fewer rows than this part of all are read one by one, by key; else all are read. A row by key costs about
 * three of a scan (bench/filtered_search.c). */
#define FEW_PART 4

/* Conditions of an `and` that are looked at together; of more, each gets a set of its own. Arbitrary. */
#define MOST_PARTS 32

/* ---- Running a statement ---- */

kith_status ki_filter_prepare(kith_collection *c, const ki_expr_part *part, const char *before,
                              const char *behind, sqlite3_stmt **stmt, kith_error *err)
{
    ki_buffer sql = {0};
    *stmt = NULL;
    kith_status status = ki_buffer_append(&sql, before, strlen(before), c->allocator, err);
    if (status == KITH_OK && part->node) status = ki_expr_sql(part, &sql, err);
    if (status == KITH_OK) status = ki_buffer_append(&sql, behind, strlen(behind) + 1, c->allocator, err);
    if (status == KITH_OK) {
        int rc = sqlite3_prepare_v2(c->db, (const char *)sql.data, -1, stmt, NULL);
        if (rc == SQLITE_ERROR || rc == SQLITE_TOOBIG)
            status = ki_fail(err, KITH_INVALID, "filter: too large: %s", sqlite3_errmsg(c->db));
        else if (rc != SQLITE_OK || (part->node && (rc = ki_expr_bind(part, *stmt)) != SQLITE_OK))
            status = ki_db_fail(c, rc, err, "cannot be read");
    }
    if (status != KITH_OK) {
        sqlite3_finalize(*stmt);
        *stmt = NULL;
    }
    ki_buffer_clear(&sql, c->allocator);
    return status;
}

void ki_rows_sql(const kith_collection *c, const char *what, int vectors, int and, char sql[KI_ROWS_BYTES])
{
    char has[KI_HAS_VECTOR_BYTES] = "";
    if (vectors) ki_has_vector_sql(c, has);
    snprintf(sql, KI_ROWS_BYTES, "SELECT %s FROM record WHERE %s%s", what, has, vectors && and? " AND " : "");
}

/* An aggregate, so that SQLite's machine does not stop for each row: half the time of stepping. */
static void collect(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    kith_collection *c = sqlite3_user_data(context);
    kith_error err;
    (void)n;
    kith_status status = ki_rowset_put(c, c->collects, sqlite3_value_int64(arguments[0]), &err);
    if (status == KITH_NOMEM)
        sqlite3_result_error_nomem(context);
    else if (status != KITH_OK)
        sqlite3_result_error(context, "a row has a key that was never used", -1);
}

static void collected(sqlite3_context *context)
{
    sqlite3_result_int(context, 1);
}

int ki_filter_functions(kith_collection *c)
{
    return sqlite3_create_function_v2(c->db, "kith_collect", 1, SQLITE_UTF8 | SQLITE_DIRECTONLY, c, NULL,
                                      collect, collected, NULL);
}

/* Run a SELECT kith_collect(key) to its end, into *set, which it empties first; finalizes the statement. */
static kith_status run(kith_collection *c, sqlite3_stmt *stmt, const ki_limit *limit, ki_rowset *set,
                       kith_error *err)
{
    c->collects = set;
    ki_limit_begin(c, limit);
    int rc = sqlite3_step(stmt);
    kith_status status = rc == SQLITE_ROW ? KITH_OK : ki_db_fail(c, rc, err, "cannot be filtered");
    sqlite3_finalize(stmt);
    ki_limit_end(c);
    c->collects = NULL;
    return status;
}

/* ---- Sets ---- */

typedef struct solver {
    kith_collection *c;
    const ki_expr *expr;
    const ki_limit *limit;
    kith_error *err;
} solver;

/* Rows whose payload fulfils a condition (node 0: any), vectors: and which have a vector. */
static kith_status by_payload(const solver *s, uint32_t node, int vectors, ki_rowset *set)
{
    ki_expr_part part = {.expr = s->expr, .node = node};
    sqlite3_stmt *stmt;
    char before[KI_ROWS_BYTES];
    ki_rows_sql(s->c, "kith_collect(key)", vectors, node != 0, before);
    KI_TRY(ki_rowset_make(s->c, set, s->err));
    KI_TRY(ki_filter_prepare(s->c, &part, before, "", &stmt, s->err));
    KI_TRY(run(s->c, stmt, s->limit, set, s->err));
    ki_rowset_finish(set);
    return KITH_OK;
}

/* Of the rows of a set those whose payload fulfils the condition, one by one. */
static kith_status keep_by_key(const solver *s, uint32_t node, int vectors, ki_rowset *set)
{
    kith_collection *c = s->c;
    ki_expr_part part = {.expr = s->expr, .node = node};
    ki_rowset kept;
    sqlite3_stmt *stmt = NULL;
    uint64_t looked = 0;
    kith_status status = ki_rowset_make(c, &kept, s->err);
    char before[KI_ROWS_BYTES];
    ki_rows_sql(c, "1", vectors, 1, before);
    if (status == KITH_OK)
        status = ki_filter_prepare(c, &part, before, node ? " AND key = $key" : "key = $key", &stmt, s->err);
    int wanted = stmt ? sqlite3_bind_parameter_index(stmt, "$key") : 0;
    for (int64_t key = 0; status == KITH_OK && (key = ki_rowset_next(set, key)) > 0;) {
        sqlite3_bind_int64(stmt, wanted, key);
        int rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW)
            status = ki_rowset_put(c, &kept, key, s->err);
        else if (rc != SQLITE_DONE)
            status = ki_db_fail(c, rc, s->err, "cannot be filtered");
        sqlite3_reset(stmt);
        if (status == KITH_OK && s->limit && ++looked % 64 == 0 && ki_limit_reached(s->limit))
            status = ki_fail(s->err, KITH_CANCELLED, "cancelled");
    }
    sqlite3_finalize(stmt);
    ki_rowset_clear(status == KITH_OK ? set : &kept, c->allocator);
    if (status == KITH_OK) *set = kept;
    return status;
}

/* ---- By values ---- */

/* A point's condition that a box bounds: within it, or nearer than some metres. */
static int box_of(const ki_expr *expr, uint32_t i, ki_box *box)
{
    const ki_expr_node *node = ki_expr_at(expr, i), *a = ki_expr_at(expr, node->first);
    double numbers[4] = {0};
    const ki_expr_node *point = node->op == KI_EXPR_WITHIN ? a : ki_expr_at(expr, a->first);
    if (node->op != KI_EXPR_WITHIN) {
        const ki_expr_node *b = ki_expr_at(expr, a->next);
        if ((node->op != KI_EXPR_LT && node->op != KI_EXPR_LE) || a->op != KI_EXPR_DISTANCE ||
            (b->op != KI_EXPR_INT && b->op != KI_EXPR_REAL))
            return 0;
        numbers[2] = b->op == KI_EXPR_INT ? (double)b->integer : b->real;
        if (numbers[2] < 0) numbers[2] = 0;
    }
    for (uint32_t j = point->next, n = 0; j && n < 4; j = ki_expr_at(expr, j)->next)
        numbers[n++] = ki_expr_at(expr, j)->real;
    if (node->op == KI_EXPR_WITHIN)
        *box = (ki_box){numbers[0], numbers[1], numbers[2], numbers[3]};
    else
        *box = ki_box_around((ki_point){numbers[0], numbers[1]}, numbers[2]);
    return 1;
}

static void put_place(uint64_t place, unsigned char out[8])
{
    for (int i = 0; i < 8; i++) out[i] = (unsigned char)(place >> (56 - 8 * i));
}

/* One range of the curve after the other. */
static kith_status by_ranges(const solver *s, const ki_expr_part *part, int64_t field, ki_box box,
                             ki_rowset *set)
{
    ki_curve_range ranges[KI_BOX_RANGES];
    size_t n = ki_box_cover(box, ranges);
    for (size_t i = 0; i < n; i++) {
        char before[96];
        unsigned char first[8], behind[8];
        sqlite3_stmt *stmt;
        snprintf(before, sizeof before, "SELECT kith_collect(key) FROM field_value WHERE field = %lld AND ",
                 (long long)field);
        /* Behind the part, whose parameters are ?1, ?2, ... */
        const char *rest = ranges[i].last == UINT64_MAX ? " AND value >= $first"
                                                        : " AND value >= $first AND value < $behind";
        KI_TRY(ki_filter_prepare(s->c, part, before, rest, &stmt, s->err));
        put_place(ranges[i].first, first);
        put_place(ranges[i].last + 1, behind);
        sqlite3_bind_blob(stmt, sqlite3_bind_parameter_index(stmt, "$first"), first, 8, SQLITE_STATIC);
        sqlite3_bind_blob(stmt, sqlite3_bind_parameter_index(stmt, "$behind"), behind, 8, SQLITE_STATIC);
        KI_TRY(run(s->c, stmt, s->limit, set, s->err));
    }
    return KITH_OK;
}

/* Conditions over one declared field, all of which must hold. */
static kith_status by_value(const solver *s, const ki_field *f, const ki_expr_part *part, ki_rowset *set)
{
    ki_box box;
    KI_TRY(ki_rowset_make(s->c, set, s->err));
    if (!part->negated && f->kind == KITH_FIELD_GEO && box_of(s->expr, part->node, &box)) {
        KI_TRY(by_ranges(s, part, f->id, box, set));
    } else {
        char before[96];
        sqlite3_stmt *stmt;
        if (f == &ki_partition_field)
            snprintf(before, sizeof before,
                     "SELECT kith_collect(key) FROM part JOIN member ON part = part.id WHERE ");
        else
            snprintf(before, sizeof before,
                     "SELECT kith_collect(key) FROM field_value WHERE field = %lld AND ", (long long)f->id);
        KI_TRY(ki_filter_prepare(s->c, part, before, "", &stmt, s->err));
        KI_TRY(run(s->c, stmt, s->limit, set, s->err));
    }
    ki_rowset_finish(set);
    return KITH_OK;
}

/* Whether values of declared fields, or partitions, decide a condition. */
static int is_decided(const solver *s, uint32_t i)
{
    const ki_expr_node *node = ki_expr_at(s->expr, i);
    if (node->op > KI_EXPR_NOT) return ki_expr_field(s->expr, i, s->c->fields) != NULL;
    for (uint32_t j = node->first; j; j = ki_expr_at(s->expr, j)->next)
        if (!is_decided(s, j)) return 0;
    return 1;
}

static kith_status solve(const solver *s, uint32_t i, int negated, ki_rowset *set);

/* What an `and` (or a negated `or`) asks for: its conditions, those of an `and` within it, too. */
typedef struct conjunction {
    ki_expr_part parts[MOST_PARTS];
    const ki_field *fields[MOST_PARTS]; /* NULL: not over one field */
    char done[MOST_PARTS];
    size_t n;
} conjunction;

static void gather(const solver *s, uint32_t i, int negated, conjunction *all)
{
    for (uint32_t j = ki_expr_at(s->expr, i)->first; j; j = ki_expr_at(s->expr, j)->next) {
        uint32_t child = j;
        int turned = negated;
        for (; ki_expr_at(s->expr, child)->op == KI_EXPR_NOT; child = ki_expr_at(s->expr, child)->first)
            turned = !turned;
        ki_expr_op op = ki_expr_at(s->expr, child)->op;
        if (op == (turned ? KI_EXPR_OR : KI_EXPR_AND)) {
            gather(s, child, turned, all);
            continue;
        }
        if (all->n < MOST_PARTS) {
            const ki_field *f = op > KI_EXPR_NOT ? ki_expr_field(s->expr, child, s->c->fields) : NULL;
            all->fields[all->n] = f;
            all->parts[all->n] =
                (ki_expr_part){.expr = s->expr, .node = child, .kind = f ? f->kind : 0, .negated = turned};
        }
        all->n++;
    }
}

/* The conditions over one field become one statement: the two ends of a range are looked for together. */
static kith_status solve_all(const solver *s, conjunction *all, ki_rowset *set)
{
    int first = 1;
    for (size_t i = 0; i < all->n; i++) {
        ki_rowset other = {0};
        ki_expr_part *last = &all->parts[i];
        const ki_field *f = all->fields[i];
        if (all->done[i]) continue; /* together with an earlier one */
        if (!first && set->n == 0) break;
        for (size_t j = i + 1; f && j < all->n; j++) {
            if (all->fields[j] != f) continue;
            last->also = &all->parts[j];
            last = &all->parts[j];
            all->done[j] = 1;
        }
        kith_status status = f ? by_value(s, f, &all->parts[i], &other)
                               : solve(s, all->parts[i].node, all->parts[i].negated, &other);
        if (status == KITH_OK && first) {
            *set = other;
            first = 0;
            continue;
        }
        if (status == KITH_OK) ki_rowset_keep(set, &other);
        ki_rowset_clear(&other, s->c->allocator);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

/* One after the other, for conjunctions of more parts than are taken together, and for disjunctions. */
static kith_status solve_each(const solver *s, uint32_t i, int negated, int all, ki_rowset *set)
{
    uint32_t first = ki_expr_at(s->expr, i)->first;
    KI_TRY(solve(s, first, negated, set));
    for (uint32_t j = ki_expr_at(s->expr, first)->next; j; j = ki_expr_at(s->expr, j)->next) {
        ki_rowset other = {0};
        if (all && set->n == 0) break;
        kith_status status = solve(s, j, negated, &other);
        if (status == KITH_OK && all) ki_rowset_keep(set, &other);
        if (status == KITH_OK && !all) status = ki_rowset_join(s->c, set, &other, s->err);
        ki_rowset_clear(&other, s->c->allocator);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

/* The set of a condition that values decide. The caller clears it even on failure. */
static kith_status solve(const solver *s, uint32_t i, int negated, ki_rowset *set)
{
    const ki_expr_node *node = ki_expr_at(s->expr, i);
    if (node->op == KI_EXPR_NOT) return solve(s, node->first, !negated, set);
    if (node->op > KI_EXPR_NOT) {
        const ki_field *f = ki_expr_field(s->expr, i, s->c->fields);
        ki_expr_part part = {.expr = s->expr, .node = i, .kind = f->kind, .negated = negated};
        return by_value(s, f, &part, set);
    }
    int all = (node->op == KI_EXPR_AND) != negated;
    conjunction parts = {.n = 0};
    if (all) gather(s, i, negated, &parts);
    return all && parts.n <= MOST_PARTS ? solve_all(s, &parts, set) : solve_each(s, i, negated, all, set);
}

/* ---- The whole ---- */

/* The conditions of an `and` that values decide, and the others: two nodes, 0 for none. The root becomes the `and` of
 * both, which means the same. */
static kith_status split(solver *s, ki_expr *expr, uint32_t *decided, uint32_t *rest)
{
    uint32_t *ends[2], heads[2] = {0, 0};
    const ki_expr_node *root = ki_expr_at(expr, expr->root);
    *decided = *rest = 0;
    if (root->op != KI_EXPR_AND || is_decided(s, expr->root)) {
        *(is_decided(s, expr->root) ? decided : rest) = expr->root;
        return KITH_OK;
    }
    /* Room first: growing moves the nodes. */
    KI_TRY(ki_buffer_reserve(&expr->nodes, expr->nodes.size + 2 * sizeof *root, expr->allocator, s->err));
    ki_expr_node *nodes = (ki_expr_node *)(void *)expr->nodes.data;
    ends[0] = &heads[0];
    ends[1] = &heads[1];
    for (uint32_t i = nodes[expr->root].first, next; i; i = next) {
        next = nodes[i].next;
        int which = is_decided(s, i) ? 0 : 1;
        *ends[which] = i;
        ends[which] = &nodes[i].next;
    }
    *ends[0] = *ends[1] = 0;
    uint32_t n = (uint32_t)(expr->nodes.size / sizeof *nodes), parts[2];
    for (int which = 0; which < 2; which++) {
        parts[which] = heads[which] ? n : 0;
        if (!heads[which]) continue;
        nodes[n] = (ki_expr_node){.op = KI_EXPR_AND, .first = heads[which]};
        expr->nodes.size += sizeof *nodes;
        n++;
    }
    *decided = parts[0];
    *rest = parts[1];
    nodes[expr->root].first = parts[0] ? parts[0] : parts[1];
    if (parts[0]) nodes[parts[0]].next = parts[1];
    return KITH_OK;
}

kith_status ki_filter_rows(kith_collection *c, ki_expr *expr, int vectors, const ki_limit *limit,
                           ki_rowset *set, kith_error *err)
{
    solver s = {.c = c, .expr = expr, .limit = limit, .err = err};
    uint32_t decided = 0, rest = 0;
    KI_TRY(split(&s, expr, &decided, &rest));
    if (!decided) return by_payload(&s, rest, vectors, set);
    KI_TRY(solve(&s, decided, 0, set));
    if (set->n == 0 || (!rest && !vectors)) return KITH_OK;
    if (set->n < c->state.rows / FEW_PART) return keep_by_key(&s, rest, vectors, set);
    ki_rowset other = {0};
    kith_status status = by_payload(&s, rest, vectors, &other);
    if (status == KITH_OK) ki_rowset_keep(set, &other);
    ki_rowset_clear(&other, c->allocator);
    return status;
}
