/* compare.c - the first difference of two collections, in the order of the keys.
 *
 * Rows are gone through side by side, and then each table beside them, up to the key where the first difference so far is. */
#include <kith/copies.h>

#include <jansson.h>

#include "base/options.h"
#include "base/run.h"
#include "engine/content.h"
#include "engine/spaces.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct comparison {
    kith_collection *side[2];
    const kith_run *run;
    int everything;
    kith_difference found; /* found.different: up to its key nothing else may differ */
    kith_error *err;
} comparison;

/* ---- What to say ---- */

static void say(char *out, size_t size, const char *fmt, ...) KI_PRINTF(3, 4);
static void say(char *out, size_t size, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(out, size, fmt, args);
    va_end(args);
}

static char *value_of(comparison *x, int side)
{
    return side == 0 ? x->found.first : x->found.second;
}

#define VALUE_BYTES sizeof((kith_difference *)0)->first

static void differ(comparison *x, int64_t key, const char *field)
{
    x->found.different = 1;
    x->found.key = key;
    say(x->found.field, sizeof x->found.field, "%s", field);
    for (int side = 0; side < 2; side++) say(value_of(x, side), VALUE_BYTES, "nothing");
}

static void differ_in_row(comparison *x, int64_t key, int there)
{
    differ(x, key, "row");
    say(value_of(x, there), VALUE_BYTES, "there");
}

/* ---- Payloads ---- */

static void describe(comparison *x, int side, const json_t *value)
{
    char *text = value ? ki_json_dump(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS, NULL) : NULL;
    if (text) say(value_of(x, side), VALUE_BYTES, "%s", text);
    ki_free(NULL, text);
}

static void append(char *field, size_t size, const char *fmt, ...) KI_PRINTF(3, 4);
static void append(char *field, size_t size, const char *fmt, ...)
{
    size_t used = strlen(field);
    va_list args;
    va_start(args, fmt);
    vsnprintf(field + used, size - used, fmt, args);
    va_end(args);
}

/* The smallest name among those whose values differ. */
static const char *first_member(const json_t *a, const json_t *b)
{
    const char *best = NULL, *name;
    json_t *value;
    const json_t *sides[2] = {a, b};
    for (int side = 0; side < 2; side++) {
        json_object_foreach((json_t *)(uintptr_t)sides[side], name, value)
        {
            const json_t *other = json_object_get(sides[1 - side], name);
            if ((!other || !json_equal(value, other)) && (!best || strcmp(name, best) < 0)) best = name;
        }
    }
    return best;
}

/* Where the payloads part: down through what both have. */
static void describe_payloads(comparison *x, const json_t *a, const json_t *b)
{
    char *field = x->found.field;
    size_t size = sizeof x->found.field;
    for (;;) {
        const char *name = json_is_object(a) && json_is_object(b) ? first_member(a, b) : NULL;
        if (name) {
            append(field, size, ".%s", name);
            a = json_object_get(a, name);
            b = json_object_get(b, name);
            continue;
        }
        size_t i = 0, n = json_is_array(a) && json_is_array(b) ? json_array_size(a) : 0;
        size_t most = n > json_array_size(b) ? n : json_array_size(b);
        if (!json_is_array(a) || !json_is_array(b)) most = 0;
        while (i < most && json_equal(json_array_get(a, i), json_array_get(b, i))) i++;
        if (i == most) break;
        append(field, size, "[%zu]", i);
        a = json_array_get(a, i);
        b = json_array_get(b, i);
    }
    describe(x, 0, a);
    describe(x, 1, b);
}

static kith_status differ_in_payload(comparison *x, const kith_row *a, const kith_row *b)
{
    json_t *first = json_loadb(a->payload, a->payload_size, JSON_DECODE_ANY, NULL);
    json_t *second = json_loadb(b->payload, b->payload_size, JSON_DECODE_ANY, NULL);
    kith_status status = first && second ? KITH_OK : ki_fail_nomem(x->err, a->payload_size + b->payload_size);
    differ(x, a->key, "payload");
    if (status == KITH_OK) describe_payloads(x, first, second);
    json_decref(first);
    json_decref(second);
    return status;
}

/* ---- Rows ---- */

static int vectors_differ(comparison *x, const kith_row *a, const kith_row *b)
{
    if (!a->vector && !b->vector) return 0;
    if (!a->vector || !b->vector) {
        differ(x, a->key, "vector");
        say(value_of(x, a->vector ? 0 : 1), VALUE_BYTES, "there");
        return 1;
    }
    /* As bytes, as they are hashed: 0 and -0 are two. */
    for (size_t d = 0; d < a->dim; d++) {
        if (memcmp(a->vector + d, b->vector + d, sizeof *a->vector) == 0) continue;
        char field[64];
        say(field, sizeof field, "vector[%zu]", d);
        differ(x, a->key, field);
        say(x->found.first, VALUE_BYTES, "%.9g", (double)a->vector[d]);
        say(x->found.second, VALUE_BYTES, "%.9g", (double)b->vector[d]);
        return 1;
    }
    return 0;
}

static int attachments_differ(comparison *x, const kith_row *a, const kith_row *b)
{
    if (!a->attachment == !b->attachment && a->attachment_size == b->attachment_size &&
        (a->attachment_size == 0 || memcmp(a->attachment, b->attachment, a->attachment_size) == 0))
        return 0;
    differ(x, a->key, "attachment");
    const kith_row *rows[2] = {a, b};
    for (int side = 0; side < 2; side++)
        if (rows[side]->attachment)
            say(value_of(x, side), VALUE_BYTES, "%zu bytes", rows[side]->attachment_size);
    return 1;
}

static kith_status compare_row(comparison *x, const kith_row *a, const kith_row *b)
{
    if (a->payload_size != b->payload_size || memcmp(a->payload, b->payload, a->payload_size) != 0)
        return differ_in_payload(x, a, b);
    if (!vectors_differ(x, a, b) && x->everything) (void)attachments_differ(x, a, b);
    return KITH_OK;
}

static kith_status compare_rows(comparison *x)
{
    ki_stage stage;
    int there[2];
    kith_row row[2] = {{0}, {0}};
    unsigned parts = x->everything ? KITH_ROW_ALL : KITH_ROW_PAYLOAD | KITH_ROW_VECTOR;
    ki_stage_begin(&stage, x->run, "comparing", x->side[0]->state.rows);
    for (uint64_t done = 0; !x->found.different; done++) {
        for (int side = 0; side < 2; side++) {
            int64_t after = row[side].key;
            row[side] = (kith_row){0};
            KI_TRY(ki_record_find(x->side[side], KI_SQL_RECORD_NEXT, after, parts, &there[side], &row[side],
                                  x->err));
        }
        if (!there[0] && !there[1]) break;
        if (!there[1] || (there[0] && row[0].key < row[1].key))
            differ_in_row(x, row[0].key, 0);
        else if (!there[0] || row[1].key < row[0].key)
            differ_in_row(x, row[1].key, 1);
        else
            KI_TRY(compare_row(x, &row[0], &row[1]));
        if (done % 1024 == 0) KI_TRY(ki_run_check(x->run, x->err));
        ki_stage_report(&stage, done < stage.total ? done : stage.total);
    }
    return KITH_OK;
}

/* ---- What belongs to rows ---- */

static void describe_content(comparison *x, int side, sqlite3_stmt *stmt)
{
    const char *text = (const char *)sqlite3_column_text(stmt, 1);
    if (sqlite3_column_type(stmt, 1) == SQLITE_BLOB)
        say(value_of(x, side), VALUE_BYTES, "%d bytes", sqlite3_column_bytes(stmt, 1));
    else if (text)
        say(value_of(x, side), VALUE_BYTES, "%s", text);
}

static int same_value(sqlite3_stmt *a, sqlite3_stmt *b)
{
    size_t n, m;
    if (sqlite3_column_type(a, 1) != sqlite3_column_type(b, 1)) return 0;
    if (sqlite3_column_type(a, 1) == SQLITE_INTEGER)
        return sqlite3_column_int64(a, 1) == sqlite3_column_int64(b, 1);
    const void *p = ki_content_bytes(a, &n), *q = ki_content_bytes(b, &m);
    return p && q && n == m && memcmp(p, q, n) == 0;
}

/* The next entry of a side that has the table. */
static kith_status step(comparison *x, int side, const ki_content *content, int *row, int64_t *key)
{
    kith_collection *c = x->side[side];
    *row = 0;
    return c->schema < content->schema ? KITH_OK : ki_content_step(c, content, row, key, x->err);
}

static kith_status walk_content(comparison *x, const ki_content *content)
{
    int row[2];
    int64_t key[2] = {0, 0};
    for (;;) {
        for (int side = 0; side < 2; side++) KI_TRY(step(x, side, content, &row[side], &key[side]));
        if (!row[0] && !row[1]) return KITH_OK;
        int lead = !row[0] || (row[1] && key[1] < key[0]);
        if (x->found.different && key[lead] >= x->found.key) return KITH_OK;
        int both = row[0] && row[1] && key[0] == key[1];
        if (both && same_value(x->side[0]->stmt[content->scan], x->side[1]->stmt[content->scan])) continue;
        differ(x, key[lead], content->name);
        for (int side = 0; side < 2; side++)
            if (both || side == lead) describe_content(x, side, x->side[side]->stmt[content->scan]);
        return KITH_OK;
    }
}

static kith_status compare_contents(comparison *x)
{
    for (size_t i = 0; i < KI_CONTENT_COUNT; i++) {
        sqlite3_stmt *stmt;
        const ki_content *content = &ki_contents[i];
        for (int side = 0; side < 2; side++)
            if (x->side[side]->schema >= content->schema)
                KI_TRY(ki_db_prepare(x->side[side], content->scan, &stmt, x->err));
        kith_status status = walk_content(x, content);
        for (int side = 0; side < 2; side++) ki_db_reset(x->side[side], content->scan);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

/* ---- Vector fields ---- */

static const ki_space *space_named(const kith_collection *c, const char *name)
{
    for (size_t i = 0; i < c->spaces->n; i++)
        if (strcmp(c->spaces->items[i]->name, name) == 0) return c->spaces->items[i];
    return NULL;
}

static void describe_space(comparison *x, int side, const ki_space *s)
{
    if (s) say(value_of(x, side), VALUE_BYTES, "of %zu components, %s", s->dim, kith_metric_name(s->metric));
}

/* Whether both have the same fields. */
static int same_spaces(comparison *x)
{
    for (int side = 0; side < 2; side++) {
        const ki_spaces *spaces = x->side[side]->spaces;
        for (size_t i = 0; i < spaces->n; i++) {
            const ki_space *ours = spaces->items[i], *theirs = space_named(x->side[1 - side], ours->name);
            if (theirs && theirs->dim == ours->dim && theirs->metric == ours->metric) continue;
            differ(x, 0, "vectors ");
            append(x->found.field, sizeof x->found.field, "%s", ours->name);
            describe_space(x, side, ours);
            describe_space(x, 1 - side, theirs);
            return 0;
        }
    }
    return 1;
}

/* The next vector of a side, which has gone over to the field; its key, INT64_MAX behind the last one with *row 0. */
static kith_status next_vector(comparison *x, int side, int *row, kith_row *at)
{
    kith_collection *c = x->side[side];
    KI_TRY(ki_db_step(c, KI_SQL_SPACE_SCAN_KEYS, row, x->err));
    *at = (kith_row){0};
    if (!*row) return KITH_OK;
    sqlite3_stmt *stmt = c->stmt[KI_SQL_SPACE_SCAN_KEYS];
    at->key = sqlite3_column_int64(stmt, 0);
    at->dim = c->state.dim;
    return ki_row_vector(c, stmt, 1, at->key, &at->vector, x->err);
}

static kith_status walk_space(comparison *x, const char *name)
{
    int row[2];
    kith_row at[2];
    for (;;) {
        for (int side = 0; side < 2; side++) KI_TRY(next_vector(x, side, &row[side], &at[side]));
        if (!row[0] && !row[1]) return KITH_OK;
        int lead = !row[0] || (row[1] && at[1].key < at[0].key);
        if (x->found.different && at[lead].key >= x->found.key) return KITH_OK;
        kith_row missing = {.key = at[lead].key};
        int both = row[0] && row[1] && at[0].key == at[1].key;
        if (!vectors_differ(x, both || lead == 0 ? &at[0] : &missing, both || lead == 1 ? &at[1] : &missing))
            continue;
        char part[64];
        say(part, sizeof part, "%s", x->found.field + strlen("vector"));
        say(x->found.field, sizeof x->found.field, "vector %.180s%s", name, part);
        return KITH_OK;
    }
}

static kith_status compare_space(comparison *x, const char *name)
{
    kith_status status = KITH_OK;
    for (int side = 0; side < 2 && status == KITH_OK; side++) {
        sqlite3_stmt *stmt;
        status = ki_space_enter(x->side[side], name, x->err);
        if (status == KITH_OK) status = ki_space_scan_keys(x->side[side], &stmt, x->err);
    }
    if (status == KITH_OK) status = walk_space(x, name);
    for (int side = 0; side < 2; side++) {
        ki_db_reset(x->side[side], KI_SQL_SPACE_SCAN_KEYS);
        ki_space_leave(x->side[side]);
    }
    return status;
}

static kith_status compare_spaces(comparison *x)
{
    for (size_t i = 0; i < x->side[0]->spaces->n; i++) {
        char name[KITH_COLLECTION_MAX_FIELD_NAME + 1];
        strcpy(name, x->side[0]->spaces->items[i]->name);
        KI_TRY(compare_space(x, name));
    }
    return KITH_OK;
}

/* ---- The whole ---- */

static kith_status compare(comparison *x)
{
    const ki_state *a = &x->side[0]->state, *b = &x->side[1]->state;
    if (a->dim != b->dim) {
        differ(x, 0, "dim");
        say(x->found.first, VALUE_BYTES, "%zu", a->dim);
        say(x->found.second, VALUE_BYTES, "%zu", b->dim);
        return KITH_OK;
    }
    if (a->metric != b->metric) {
        differ(x, 0, "metric");
        say(x->found.first, VALUE_BYTES, "%s", kith_metric_name(a->metric));
        say(x->found.second, VALUE_BYTES, "%s", kith_metric_name(b->metric));
        return KITH_OK;
    }
    for (int side = 0; side < 2; side++) KI_TRY(ki_spaces_load(x->side[side], x->err));
    if (!same_spaces(x)) return KITH_OK;
    KI_TRY(compare_rows(x));
    KI_TRY(compare_contents(x));
    return compare_spaces(x);
}

kith_status kith_collection_compare(kith_collection *first, kith_collection *second,
                                    const kith_compare_options *given, kith_difference *difference,
                                    kith_error *err)
{
    kith_compare_options options;
    kith_compare_options_init(&options);
    KI_TRY(ki_options_read(&options, sizeof options, given, "options", err));
    if (!first || !second || first == second)
        return ki_fail(err, KITH_INVALID, "two handles are needed to compare two collections");
    if (first->mode == KI_BATCH || second->mode == KI_BATCH)
        return ki_fail(err, KITH_INVALID, "a collection in a batch cannot be compared");
    if (!difference || difference->struct_size != sizeof *difference)
        return ki_fail(err, KITH_INVALID, "difference.struct_size is %zu, expected %zu",
                       difference ? difference->struct_size : 0, sizeof *difference);
    comparison x = {
        .side = {first, second}, .run = options.run, .everything = options.everything, .err = err};
    x.found.struct_size = sizeof x.found;
    KI_TRY(ki_read_begin(first, err));
    kith_status status = ki_read_begin(second, err);
    if (status == KITH_OK) {
        status = compare(&x);
        ki_read_end(second);
    }
    ki_read_end(first);
    if (status == KITH_OK) *difference = x.found;
    return status;
}
