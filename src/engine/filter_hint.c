/* filter_hint.c - why a filter may let no row through.
 *
 * A filter over members that no row has is a filter like any other, and so is one that compares numbers with strings: both are
 * unknown for every row. A person who gets no rows wants to hear of it all the same. The tree of the filter is gone through;
 * for each member in it, small filters over it alone ("is it there", "is it a number") are counted until one says something. */
#include <kith/collection.h>

#include "engine/expr.h"
#include "engine/fields.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Members that are looked at; each costs a few readings of all payloads. Arbitrary. */
#define MOST_MEMBERS 4

/* What a member is compared with; PROBES of them can be told apart by a filter. WORD: with another member, behind it. */
typedef enum kind { NUMBER, STRING, BOOL, LIST, PROBES, ANY, WORD } kind;

static const struct {
    const char *name;         /* in a sentence */
    const char *before, *mid; /* the filter that is true for it: before PATH, or before PATH mid PATH after */
    const char *after;
} kinds[PROBES] = {[NUMBER] = {"a number", "", " <= 0 or ", " > 0"},
                   [STRING] = {"a string", "", NULL, " >= \"\""},
                   [BOOL] = {"true or false", "", " == true or ", " == false"},
                   [LIST] = {"a list", "array_length(", NULL, ") >= 0"}};

typedef struct hinting {
    kith_collection *c;
    const ki_expr *expr;
    ki_buffer path, text, shown; /* of a member: in brackets, for filters; a filter; as a person writes it */
    size_t members;
    char *hint;
    size_t size;
    kith_error *err;
} hinting;

static kith_status add(hinting *h, ki_buffer *to, const char *text, size_t size)
{
    return ki_buffer_append(to, text, size, h->c->allocator, h->err);
}

static kith_status add_text(hinting *h, ki_buffer *to, const char *text)
{
    return add(h, to, text, strlen(text));
}

static int is_plain(const char *name, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') || name[i] == '_' ||
              (i > 0 && name[i] >= '0' && name[i] <= '9')))
            return 0;
    return size > 0;
}

/* $["a"]["odd name"][3] into h->path, a["odd name"][3] into h->shown; both with a zero behind. */
static kith_status write_path(hinting *h, const ki_expr_node *field)
{
    const unsigned char *at = h->expr->texts.data + field->text.offset, *end = at + field->text.size;
    h->path.size = h->shown.size = 0;
    KI_TRY(add_text(h, &h->path, "$"));
    while (at < end) {
        uint32_t n;
        char index[16];
        int named = *at++ == 'n';
        memcpy(&n, at, sizeof n);
        at += sizeof n;
        const char *name = (const char *)at;
        if (!named) {
            snprintf(index, sizeof index, "[%u]", (unsigned)n);
            KI_TRY(add_text(h, &h->path, index));
            KI_TRY(add_text(h, &h->shown, index));
            continue;
        }
        at += n;
        KI_TRY(add_text(h, &h->path, "[\""));
        KI_TRY(add(h, &h->path, name, n));
        KI_TRY(add_text(h, &h->path, "\"]"));
        int plain = is_plain(name, n);
        if (h->shown.size > 0 || !plain)
            KI_TRY(add_text(h, &h->shown, plain ? "." : h->shown.size > 0 ? "[\"" : "$[\""));
        KI_TRY(add(h, &h->shown, name, n));
        if (!plain) KI_TRY(add_text(h, &h->shown, "\"]"));
    }
    KI_TRY(add(h, &h->path, "", 1));
    return add(h, &h->shown, "", 1);
}

/* Whether a filter over the member alone lets any row through. */
static kith_status probe(hinting *h, const char *before, const char *mid, const char *after, int *any)
{
    uint64_t rows;
    const char *path = (const char *)h->path.data;
    h->text.size = 0;
    KI_TRY(add_text(h, &h->text, before));
    KI_TRY(add_text(h, &h->text, path));
    if (mid) KI_TRY(add_text(h, &h->text, mid));
    if (mid) KI_TRY(add_text(h, &h->text, path));
    KI_TRY(add(h, &h->text, after, strlen(after) + 1));
    KI_TRY(kith_collection_count_where(h->c, (const char *)h->text.data, &rows, h->err));
    *any = rows > 0;
    return KITH_OK;
}

/* ---- What is said ---- */

/* "; row 1 has city, year": the members of the first row, as many as there is room for. */
static kith_status say_members(hinting *h)
{
    kith_row row;
    const char *name;
    json_t *value;
    KI_TRY(kith_collection_next(h->c, 0, KITH_ROW_PAYLOAD, &row, h->err));
    json_t *payload = row.key ? json_loadb(row.payload, row.payload_size, 0, NULL) : NULL;
    size_t used = strlen(h->hint);
    int first = 1;
    json_object_foreach(payload, name, value)
    {
        char start[48] = ", ";
        if (first) snprintf(start, sizeof start, "; row %lld has ", (long long)row.key);
        if (used + strlen(start) + strlen(name) + 1 > h->size) break;
        used += (size_t)snprintf(h->hint + used, h->size - used, "%s%s", start, name);
        first = 0;
    }
    json_decref(payload);
    return KITH_OK;
}

static kith_status say_kind(hinting *h, kind wanted, kind is)
{
    const char *shown = (const char *)h->shown.data;
    const char *also = is == LIST ? "; array_contains and array_contains_any look into lists" : "";
    snprintf(h->hint, h->size, "%.80s is %s wherever it is there, and is asked for as %s%s", shown,
             kinds[is].name, kinds[wanted].name, also);
    return KITH_OK;
}

static kith_status look(hinting *h, const ki_expr_node *field, kind wanted)
{
    int any;
    if (*h->hint || h->members == MOST_MEMBERS) return KITH_OK;
    h->members++;
    KI_TRY(write_path(h, field));
    KI_TRY(probe(h, "exists ", NULL, "", &any));
    if (!any) {
        snprintf(h->hint, h->size, "no row has %.80s", (const char *)h->shown.data);
        if (wanted != WORD) return say_members(h);
        size_t used = strlen(h->hint);
        snprintf(h->hint + used, h->size - used, "; a string stands between quotes");
        return KITH_OK;
    }
    if (wanted >= PROBES) return KITH_OK;
    KI_TRY(probe(h, kinds[wanted].before, kinds[wanted].mid, kinds[wanted].after, &any));
    for (kind k = NUMBER; k < PROBES && !any; k++) {
        if (k == wanted) continue;
        KI_TRY(probe(h, kinds[k].before, kinds[k].mid, kinds[k].after, &any));
        if (any) return say_kind(h, wanted, k);
    }
    return KITH_OK;
}

/* ---- The tree ---- */

static kind kind_of(ki_expr_op op)
{
    if (op == KI_EXPR_STRING) return STRING;
    if (op == KI_EXPR_BOOL) return BOOL;
    if (op == KI_EXPR_INT || op == KI_EXPR_REAL || (op >= KI_EXPR_LENGTH && op <= KI_EXPR_NEG)) return NUMBER;
    return ANY;
}

/* What a member under `node` is taken for; sibling: the other side of a comparison, or the first literal of a list. */
static kind wanted_under(const hinting *h, const ki_expr_node *node, const ki_expr_node *child)
{
    uint32_t other = child->next ? child->next : node->first;
    if (node->op >= KI_EXPR_EQ && node->op <= KI_EXPR_IN) {
        const ki_expr_node *side = ki_expr_at(h->expr, other);
        if (side->op == KI_EXPR_FIELD && !child->next) return WORD;
        return side == child ? ANY : kind_of(side->op);
    }
    switch (node->op) {
    case KI_EXPR_LIKE: return STRING;
    case KI_EXPR_IS_TRUE: return BOOL;
    case KI_EXPR_CONTAINS_ANY:
    case KI_EXPR_CONTAINS_ALL:
    case KI_EXPR_LENGTH: return LIST;
    default: return node->op >= KI_EXPR_ADD ? NUMBER : ANY;
    }
}

static kith_status visit(hinting *h, uint32_t number)
{
    const ki_expr_node *node = ki_expr_at(h->expr, number);
    if (node->op == KI_EXPR_IS_NULL) return KITH_OK; /* true where it is not there */
    for (uint32_t i = node->first; i; i = ki_expr_at(h->expr, i)->next) {
        const ki_expr_node *child = ki_expr_at(h->expr, i);
        if (node->op == KI_EXPR_NOT && child->op == KI_EXPR_EXISTS) continue;
        if (child->op == KI_EXPR_FIELD)
            KI_TRY(look(h, child, wanted_under(h, node, child)));
        else if (child->op == KI_EXPR_POINT || child->op == KI_EXPR_TIME)
            KI_TRY(look(h, child, ANY));
        else
            KI_TRY(visit(h, i));
    }
    return KITH_OK;
}

/* A field declared as moments is compared with what stands for one. */
static kith_status parse(kith_collection *c, const char *filter, ki_expr *expr, uint64_t *rows,
                         kith_error *err)
{
    KI_TRY(ki_expr_parse(filter, c->allocator, expr, err));
    KI_TRY(ki_read_begin(c, err));
    kith_status status = ki_fields_load(c, err);
    if (status == KITH_OK) status = ki_expr_resolve(expr, c->fields, err);
    *rows = c->state.rows;
    ki_read_end(c);
    return status;
}

kith_status kith_collection_filter_hint(kith_collection *c, const char *filter, char *hint, size_t size,
                                        kith_error *err)
{
    ki_expr expr = {0};
    if (!hint || size < 200) return ki_fail(err, KITH_INVALID, "size is %zu, allowed 200 and more", size);
    *hint = 0;
    hinting h = {.c = c, .expr = &expr, .hint = hint, .size = size, .err = err};
    uint64_t rows = 0;
    kith_status status = parse(c, filter, &expr, &rows, err);
    if (status == KITH_OK && rows == 0)
        snprintf(hint, size, "there are no rows");
    else if (status == KITH_OK)
        status = visit(&h, expr.root);
    ki_expr_clear(&expr);
    ki_buffer_clear(&h.path, c->allocator);
    ki_buffer_clear(&h.text, c->allocator);
    ki_buffer_clear(&h.shown, c->allocator);
    if (status != KITH_OK) *hint = 0;
    return status;
}
