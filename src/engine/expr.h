/* expr.h - filter expressions: parsed to a tree, compiled to SQL with bound parameters. The language is
 * docs/filters.md. */
#ifndef KI_ENGINE_EXPR_H
#define KI_ENGINE_EXPR_H

#include "engine/engine.h"

/* Bounds of one expression. A text within them compiles to SQL within SQLite's own bounds (32,766 parameters, 1,000
 * levels, a million bytes); they are far beyond what a person writes. */
#define KI_EXPR_MAX_BYTES ((size_t)1 << 20)
#define KI_EXPR_MAX_DEPTH 64
#define KI_EXPR_MAX_NODES 16000
#define KI_EXPR_MAX_PATTERN 1024 /* of like, bytes */

typedef enum ki_expr_op {
    /* Conditions: true, false or unknown */
    KI_EXPR_OR, /* two or more children */
    KI_EXPR_AND,
    KI_EXPR_NOT,
    KI_EXPR_EQ,
    KI_EXPR_NE,
    KI_EXPR_LT,
    KI_EXPR_LE,
    KI_EXPR_GT,
    KI_EXPR_GE,
    KI_EXPR_IN,   /* a value, then literals */
    KI_EXPR_LIKE, /* a value, then a string */
    KI_EXPR_EXISTS,
    KI_EXPR_IS_NULL,
    KI_EXPR_IS_TRUE,      /* a field by itself */
    KI_EXPR_CONTAINS_ANY, /* a field, then literals */
    KI_EXPR_CONTAINS_ALL,
    KI_EXPR_WITHIN, /* a point, then south, west, north, east */
    /* Values */
    KI_EXPR_FIELD, /* text: the path, see below */
    KI_EXPR_POINT, /* the same, of a field that is a point: only under WITHIN and DISTANCE */
    KI_EXPR_TIME,  /* the same, of a field that is a moment: seconds since 1970 */
    KI_EXPR_KEY,
    KI_EXPR_PARTITION, /* the name of the row's partition, null without one */
    KI_EXPR_DISTANCE,  /* a point, then latitude and longitude: metres */
    KI_EXPR_INT,
    KI_EXPR_REAL,
    KI_EXPR_STRING,
    KI_EXPR_BOOL,
    KI_EXPR_LENGTH, /* of the array in a field */
    KI_EXPR_ADD,
    KI_EXPR_SUB,
    KI_EXPR_MUL,
    KI_EXPR_DIV,
    KI_EXPR_MOD,
    KI_EXPR_NEG
} ki_expr_op;

/* A node of the tree; nodes are numbered, 0 stands for none. */
typedef struct ki_expr_node {
    ki_expr_op op;
    uint32_t first, next; /* its first child, and the next child of its parent */
    union {
        int64_t integer; /* INT, BOOL */
        double real;
        struct {
            size_t offset, size; /* in the texts of the expression */
        } text;                  /* STRING, FIELD, POINT, TIME */
    };
} ki_expr_node;

/* A path is a row of steps: 'n', the length as uint32 and a member's name in canonical JSON escapes, or 'i' and the
 * number of an array element as uint32; in the machine's byte order, for it lives no longer than a query. */

typedef struct ki_expr {
    ki_buffer nodes; /* ki_expr_node */
    ki_buffer texts;
    uint32_t root;
    const kith_allocator *allocator;
} ki_expr;

/* Parse. KITH_INVALID names the place ("filter: at byte 12: ...") and what was expected. Clear it even on failure. */
kith_status ki_expr_parse(const char *text, const kith_allocator *allocator, ki_expr *expr, kith_error *err);

void ki_expr_clear(ki_expr *expr);

static inline const ki_expr_node *ki_expr_at(const ki_expr *expr, uint32_t node)
{
    return (const ki_expr_node *)(const void *)expr->nodes.data + node;
}

/* Parse a path alone, as it stands in a filter; it becomes the root. */
kith_status ki_expr_parse_path(const char *text, const kith_allocator *allocator, ki_expr *expr,
                               kith_error *err);

/* Strings that are compared with a field declared as moments become moments. KITH_INVALID for one that is none. */
struct ki_fields;
kith_status ki_expr_resolve(ki_expr *expr, const struct ki_fields *fields, kith_error *err);

/* Whether $partition stands in it. */
int ki_expr_names_partition(const ki_expr *expr);

/* A condition of the tree as SQL: over the columns key and payload of `record`, or over key and value of `field_value`,
 * for the one declared field that it asks about. */
typedef struct ki_expr_part {
    const ki_expr *expr;
    uint32_t node;
    kith_field_kind kind; /* 0: over `record`; else over `field_value`, and the kind of the field */
    int negated; /* its negation is meant: over `field_value` only, a condition without AND, OR and NOT */
    const struct ki_expr_part *also; /* NULL, or what must hold, too, over the same table */
} ki_expr_part;

/* Append the SQL to *sql, without a zero; its parameters are those of ki_expr_bind. */
kith_status ki_expr_sql(const ki_expr_part *part, ki_buffer *sql, kith_error *err);

/* Bind the parameters; they refer to the memory of the expression. Returns SQLite's code. */
int ki_expr_bind(const ki_expr_part *part, sqlite3_stmt *stmt);

/* What ki_expr_field gives for conditions over $partition alone: the rows of `part` and `member` decide them. */
extern const struct ki_field ki_partition_field;

/* The declared field whose values alone decide a condition without AND, OR and NOT, so that it is unknown for rows
 * without one; NULL: there is none. */
struct ki_field;
const struct ki_field *ki_expr_field(const ki_expr *expr, uint32_t node, const struct ki_fields *fields);

/* ---- payload_sql.c ---- */

/* Give a connection the functions over canonical payloads that the SQL names. Returns SQLite's code. */
int ki_payload_functions(sqlite3 *db);

/* ---- payload.c ---- */

/* Append a string in canonical JSON escapes, without quotes. */
kith_status ki_json_escape(const char *text, size_t size, ki_buffer *out, const kith_allocator *allocator,
                           kith_error *err);

#endif
