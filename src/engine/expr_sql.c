/* expr_sql.c - filter expressions: from the tree to SQL.
 *
 * One walk over the tree writes the text, and the same walk binds the parameters: they cannot disagree. Nothing of the
 * user's text gets into the SQL; names, literals and patterns are all bound. Fields are read by functions of our own
 * (payload_sql.c), which give SQL's NULL for what is missing or of the wrong kind: so the three-valued logic of the
 * language is that of SQL. Booleans, arrays and objects are blobs, that is: equal to nothing but themselves.
 *
 * A condition about one declared field can be written over its sorted values instead, `field_value`: the same text with
 * the column `value` where the payload would be read. Rows without a value are not there, and for them the condition
 * would be unknown: so it may be negated, and still lets no row through that it should not. */
#include "engine/expr.h"

#include "engine/fields.h"

#include <stdio.h>
#include <string.h>

static const unsigned char yes_and_no[2] = {0, 1};

typedef struct writer {
    const ki_expr *expr;
    kith_field_kind kind; /* 0: over payloads */
    ki_buffer *sql;       /* NULL: binding */
    sqlite3_stmt *stmt;   /* NULL: writing */
    int n;                /* parameters so far */
    int rc;               /* SQLite's, of the first bind that failed */
    kith_error *err;
} writer;

static kith_status put(writer *w, const char *text)
{
    return w->sql ? ki_buffer_append(w->sql, text, strlen(text), w->expr->allocator, w->err) : KITH_OK;
}

static const void *text_of(const writer *w, const ki_expr_node *node)
{
    return node->text.size > 0 ? (const void *)(w->expr->texts.data + node->text.offset) : "";
}

static int bind(const writer *w, const ki_expr_node *node)
{
    switch (node->op) {
    case KI_EXPR_INT: return sqlite3_bind_int64(w->stmt, w->n, node->integer);
    case KI_EXPR_REAL: return sqlite3_bind_double(w->stmt, w->n, node->real);
    case KI_EXPR_BOOL:
        return sqlite3_bind_blob(w->stmt, w->n, &yes_and_no[node->integer != 0], 1, SQLITE_STATIC);
    case KI_EXPR_STRING:
        return sqlite3_bind_text64(w->stmt, w->n, text_of(w, node), node->text.size, SQLITE_STATIC,
                                   SQLITE_UTF8);
    default: /* a path */
        return sqlite3_bind_blob64(w->stmt, w->n, text_of(w, node), node->text.size, SQLITE_STATIC);
    }
}

/* A literal or path as the next parameter. */
static kith_status parameter(writer *w, const ki_expr_node *node)
{
    char text[16];
    w->n++;
    if (w->stmt && w->rc == SQLITE_OK) w->rc = bind(w, node);
    snprintf(text, sizeof text, "?%d", w->n);
    return put(w, text);
}

/* What kinds of a field's value are wanted: others become NULL. Letters of kith_get. */
#define ANY "*"
#define NUMBERS "n"
#define STRINGS "s"
#define ORDERED "c" /* numbers and strings */
#define BOOLEANS "b"
#define EVEN_NULL "e" /* 1 for whatever is there, null too */

/* Whether the values of a declared field are among the kinds. */
static int are_wanted(kith_field_kind kind, const char *kinds)
{
    switch (kind) {
    case KITH_FIELD_TEXT: return strchr("*sc", *kinds) != NULL;
    case KITH_FIELD_BOOL: return strchr("*b", *kinds) != NULL;
    default: return strchr("*nc", *kinds) != NULL;
    }
}

static kith_status put_field(writer *w, const ki_expr_node *node, const char *kinds)
{
    if (w->kind) return put(w, are_wanted(w->kind, kinds) ? "value" : "NULL");
    KI_TRY(put(w, "kith_get(payload,"));
    KI_TRY(parameter(w, node));
    KI_TRY(put(w, ",'"));
    KI_TRY(put(w, kinds));
    return put(w, "')");
}

/* A moment or a point. */
static kith_status put_typed(writer *w, const ki_expr_node *node, kith_field_kind kind)
{
    char text[16];
    if (w->kind) return put(w, "value");
    KI_TRY(put(w, "kith_field(payload,"));
    KI_TRY(parameter(w, node));
    snprintf(text, sizeof text, ",%d)", (int)kind);
    return put(w, text);
}

static kith_status put_value(writer *w, uint32_t i, const char *kinds);

/* name(a,b,...) over a point and the numbers that are its siblings */
static kith_status put_of_point(writer *w, const char *name, uint32_t i)
{
    KI_TRY(put(w, name));
    for (const char *sign = "("; i; i = ki_expr_at(w->expr, i)->next, sign = ",") {
        KI_TRY(put(w, sign));
        KI_TRY(put_value(w, i, NUMBERS));
    }
    return put(w, ")");
}

/* before a middle b behind, over two values */
static kith_status put_two(writer *w, const char *before, uint32_t a, const char *middle, uint32_t b,
                           const char *behind, const char *kinds)
{
    KI_TRY(put(w, before));
    KI_TRY(put_value(w, a, kinds));
    KI_TRY(put(w, middle));
    KI_TRY(put_value(w, b, kinds));
    return put(w, behind);
}

static kith_status put_value(writer *w, uint32_t i, const char *kinds)
{
    const ki_expr_node *node = ki_expr_at(w->expr, i);
    uint32_t a = node->first, b = a ? ki_expr_at(w->expr, a)->next : 0;
    switch (node->op) {
    case KI_EXPR_FIELD: return put_field(w, node, kinds);
    case KI_EXPR_POINT: return put_typed(w, node, KITH_FIELD_GEO);
    case KI_EXPR_TIME: return put_typed(w, node, KITH_FIELD_TIME);
    case KI_EXPR_DISTANCE: return put_of_point(w, "kith_distance", a);
    case KI_EXPR_KEY: return put(w, "+key"); /* without the column's affinity, which would make 5 of "5" */
    case KI_EXPR_PARTITION:
        return put(w, w->kind ? "part.name"
                              : "(SELECT name FROM part WHERE id ="
                                " (SELECT part FROM member WHERE member.key = record.key))");
    case KI_EXPR_LENGTH:
        KI_TRY(put(w, "kith_length(payload,"));
        KI_TRY(parameter(w, ki_expr_at(w->expr, a)));
        return put(w, ")");
    case KI_EXPR_ADD: return put_two(w, "(", a, " + ", b, ")", NUMBERS);
    case KI_EXPR_SUB: return put_two(w, "(", a, " - ", b, ")", NUMBERS);
    case KI_EXPR_MUL: return put_two(w, "(", a, " * ", b, ")", NUMBERS);
    case KI_EXPR_DIV: return put_two(w, "(CAST(", a, " AS REAL) / ", b, ")", NUMBERS);
    case KI_EXPR_MOD: return put_two(w, "kith_mod(", a, ",", b, ")", NUMBERS);
    case KI_EXPR_NEG:
        KI_TRY(put(w, "(- "));
        KI_TRY(put_value(w, a, NUMBERS));
        return put(w, ")");
    default: return parameter(w, node);
    }
}

static int is_field(const writer *w, uint32_t i)
{
    return ki_expr_at(w->expr, i)->op == KI_EXPR_FIELD;
}

/* a < b and its like. Where both are fields, neither says of which kind the other must be. */
static kith_status put_order(writer *w, uint32_t a, const char *sign, uint32_t b)
{
    if (is_field(w, a) && is_field(w, b)) {
        KI_TRY(put_two(w, "iif((typeof(", a, ")='text')=(typeof(", b, ")='text'),", ORDERED));
        return put_two(w, "", a, sign, b, ",NULL)", ORDERED);
    }
    ki_expr_op other = ki_expr_at(w->expr, is_field(w, a) ? b : a)->op;
    int text = other == KI_EXPR_STRING || other == KI_EXPR_PARTITION;
    return put_two(w, "(", a, sign, b, ")", text ? STRINGS : NUMBERS);
}

static kith_status put_in(writer *w, uint32_t value)
{
    KI_TRY(put(w, "("));
    KI_TRY(put_value(w, value, ANY));
    KI_TRY(put(w, " IN ("));
    uint32_t first = ki_expr_at(w->expr, value)->next;
    for (uint32_t i = first; i; i = ki_expr_at(w->expr, i)->next) {
        if (i != first) KI_TRY(put(w, ","));
        KI_TRY(parameter(w, ki_expr_at(w->expr, i)));
    }
    return put(w, "))");
}

static kith_status put_condition(writer *w, uint32_t i);

static kith_status put_contains(writer *w, uint32_t field, uint32_t item)
{
    KI_TRY(put(w, "kith_contains(payload,"));
    KI_TRY(parameter(w, ki_expr_at(w->expr, field)));
    KI_TRY(put(w, ","));
    KI_TRY(parameter(w, ki_expr_at(w->expr, item)));
    return put(w, ")");
}

/* n children from *i on, joined in a balanced tree: SQLite bounds the depth. field: 0, or that which contains them. */
static kith_status put_joined(writer *w, uint32_t *i, size_t n, const char *sign, uint32_t field)
{
    if (n > 1) {
        KI_TRY(put(w, "("));
        KI_TRY(put_joined(w, i, n / 2, sign, field));
        KI_TRY(put(w, sign));
        KI_TRY(put_joined(w, i, n - n / 2, sign, field));
        return put(w, ")");
    }
    uint32_t child = *i;
    *i = ki_expr_at(w->expr, child)->next;
    return field ? put_contains(w, field, child) : put_condition(w, child);
}

static size_t count_siblings(const writer *w, uint32_t i)
{
    size_t n = 0;
    for (; i; i = ki_expr_at(w->expr, i)->next) n++;
    return n;
}

static kith_status put_all_contains(writer *w, ki_expr_op op, uint32_t field)
{
    uint32_t i = ki_expr_at(w->expr, field)->next;
    int all = op == KI_EXPR_CONTAINS_ALL;
    if (!i) return put(w, all ? "1" : "0");
    return put_joined(w, &i, count_siblings(w, i), all ? " AND " : " OR ", field);
}

static kith_status put_condition(writer *w, uint32_t i)
{
    const ki_expr_node *node = ki_expr_at(w->expr, i);
    uint32_t a = node->first, b = ki_expr_at(w->expr, a)->next;
    switch (node->op) {
    case KI_EXPR_OR: return put_joined(w, &a, count_siblings(w, a), " OR ", 0);
    case KI_EXPR_AND: return put_joined(w, &a, count_siblings(w, a), " AND ", 0);
    case KI_EXPR_NOT:
        KI_TRY(put(w, "(NOT "));
        KI_TRY(put_condition(w, a));
        return put(w, ")");
    case KI_EXPR_EQ: return put_two(w, "(", a, " = ", b, ")", ANY);
    case KI_EXPR_NE: return put_two(w, "(", a, " <> ", b, ")", ANY);
    case KI_EXPR_LT: return put_order(w, a, " < ", b);
    case KI_EXPR_LE: return put_order(w, a, " <= ", b);
    case KI_EXPR_GT: return put_order(w, a, " > ", b);
    case KI_EXPR_GE: return put_order(w, a, " >= ", b);
    case KI_EXPR_IN: return put_in(w, a);
    case KI_EXPR_LIKE: return put_two(w, "kith_like(", a, ",", b, ")", STRINGS);
    case KI_EXPR_EXISTS:
        KI_TRY(put(w, "("));
        KI_TRY(put_value(w, a, EVEN_NULL));
        return put(w, " IS NOT NULL)");
    case KI_EXPR_IS_NULL:
        KI_TRY(put(w, "("));
        KI_TRY(put_value(w, a, ANY));
        return put(w, " IS NULL)");
    case KI_EXPR_IS_TRUE:
        KI_TRY(put(w, "("));
        KI_TRY(put_value(w, a, BOOLEANS));
        return put(w, "=x'01')");
    case KI_EXPR_CONTAINS_ANY:
    case KI_EXPR_CONTAINS_ALL: return put_all_contains(w, node->op, a);
    case KI_EXPR_WITHIN: return put_of_point(w, "kith_within", a);
    default: return ki_fail(w->err, KITH_INTERNAL, "filter: node %u is no condition", (unsigned)i);
    }
}

/* The negation of a comparison is another one, for which SQLite can use the order of the values. */
static kith_status put_negated(writer *w, uint32_t i)
{
    const ki_expr_node *node = ki_expr_at(w->expr, i);
    uint32_t a = node->first, b = ki_expr_at(w->expr, a)->next;
    switch (node->op) {
    case KI_EXPR_EQ: return put_two(w, "(", a, " <> ", b, ")", ANY);
    case KI_EXPR_NE: return put_two(w, "(", a, " = ", b, ")", ANY);
    case KI_EXPR_LT: return put_order(w, a, " >= ", b);
    case KI_EXPR_LE: return put_order(w, a, " > ", b);
    case KI_EXPR_GT: return put_order(w, a, " <= ", b);
    case KI_EXPR_GE: return put_order(w, a, " < ", b);
    default: break;
    }
    KI_TRY(put(w, "(NOT "));
    KI_TRY(put_condition(w, i));
    return put(w, ")");
}

static kith_status walk(writer *w, const ki_expr_part *part)
{
    w->expr = part->expr;
    w->kind = part->kind;
    for (const ki_expr_part *p = part; p; p = p->also) {
        if (p != part) KI_TRY(put(w, " AND "));
        KI_TRY(p->negated ? put_negated(w, p->node) : put_condition(w, p->node));
    }
    return KITH_OK;
}

kith_status ki_expr_sql(const ki_expr_part *part, ki_buffer *sql, kith_error *err)
{
    writer w = {.sql = sql, .err = err};
    return walk(&w, part);
}

int ki_expr_bind(const ki_expr_part *part, sqlite3_stmt *stmt)
{
    writer w = {.stmt = stmt};
    return walk(&w, part) == KITH_OK ? w.rc : SQLITE_INTERNAL;
}

/* ---- Conditions over one declared field ---- */

const ki_field ki_partition_field = {.id = -1, .kind = KITH_FIELD_TEXT, .name = "$partition"};

/* The declared field of a leaf, if its values are what the leaf stands for. */
static const ki_field *declared(const ki_expr *expr, const ki_expr_node *node, const ki_fields *fields)
{
    if (node->op == KI_EXPR_PARTITION) return &ki_partition_field;
    const ki_field *f = ki_field_by_path(fields, expr->texts.data + node->text.offset, node->text.size);
    if (!f) return NULL;
    if (node->op == KI_EXPR_TIME) return f->kind == KITH_FIELD_TIME ? f : NULL;
    if (node->op == KI_EXPR_POINT) return f->kind == KITH_FIELD_GEO ? f : NULL;
    return f->kind != KITH_FIELD_TIME && f->kind != KITH_FIELD_GEO ? f : NULL;
}

/* Whether all fields of a value and its siblings are one declared field, which *only then is. */
static int same_field(const ki_expr *expr, uint32_t i, const ki_fields *fields, const ki_field **only)
{
    for (; i; i = ki_expr_at(expr, i)->next) {
        const ki_expr_node *node = ki_expr_at(expr, i);
        if (node->op == KI_EXPR_LENGTH) return 0;
        if (node->op == KI_EXPR_FIELD || node->op == KI_EXPR_TIME || node->op == KI_EXPR_POINT ||
            node->op == KI_EXPR_PARTITION) {
            const ki_field *f = declared(expr, node, fields);
            if (!f || (*only && *only != f)) return 0;
            *only = f;
        } else if (node->op >= KI_EXPR_FIELD && !same_field(expr, node->first, fields, only)) {
            return 0;
        }
    }
    return 1;
}

int ki_expr_names_partition(const ki_expr *expr)
{
    for (uint32_t i = 1; i < expr->nodes.size / sizeof(ki_expr_node); i++)
        if (ki_expr_at(expr, i)->op == KI_EXPR_PARTITION) return 1;
    return 0;
}

const ki_field *ki_expr_field(const ki_expr *expr, uint32_t i, const ki_fields *fields)
{
    const ki_expr_node *node = ki_expr_at(expr, i);
    const ki_field *only = NULL;
    switch (node->op) {
    case KI_EXPR_EQ:
    case KI_EXPR_NE:
    case KI_EXPR_LT:
    case KI_EXPR_LE:
    case KI_EXPR_GT:
    case KI_EXPR_GE:
    case KI_EXPR_LIKE:
    case KI_EXPR_IS_TRUE:
    case KI_EXPR_WITHIN: break;
    case KI_EXPR_IN: /* in [] is false, not unknown, where there is no value */
        if (!ki_expr_at(expr, node->first)->next) return NULL;
        break;
    default: return NULL;
    }
    return same_field(expr, node->first, fields, &only) ? only : NULL;
}
