/* fields.c - declared fields: what they are, and their values kept in step with the payloads.
 *
 * `field_value` is an index made by hand: SQLite's own would be part of the schema, which must stay the same to the
 * letter in every file (schema.c), and would need our functions to be trusted. Its rows change in the same transaction
 * as the payloads, invariant C9 says how the two belong together, and kith_collection_check proves it. */
#include "engine/fields.h"

#include "engine/expr.h"

#include <string.h>

static int is_kind(int64_t kind)
{
    return kind >= KITH_FIELD_INT && kind <= KITH_FIELD_GEO;
}

const char *kith_field_kind_name(kith_field_kind kind)
{
    static const char *const names[] = {"int", "float", "text", "bool", "time", "geo"};
    return is_kind((int64_t)kind) ? names[kind - KITH_FIELD_INT] : "?";
}

kith_status kith_field_kind_parse(const char *name, kith_field_kind *kind, kith_error *err)
{
    for (int k = KITH_FIELD_INT; name && k <= KITH_FIELD_GEO; k++) {
        if (strcmp(name, kith_field_kind_name((kith_field_kind)k)) != 0) continue;
        *kind = (kith_field_kind)k;
        return KITH_OK;
    }
    return ki_fail(err, KITH_INVALID, "'%.40s' is no kind of field: int, float, text, bool, time, geo",
                   name ? name : "");
}

/* ---- What is declared ---- */

/* The encoded path of a name. KITH_INVALID for what is no path. */
static kith_status set_path(ki_field *f, const char *name, const kith_allocator *allocator, kith_error *err)
{
    ki_expr expr = {0};
    if (!name || strlen(name) > KITH_COLLECTION_MAX_FIELD_NAME)
        return ki_fail(err, KITH_INVALID, "the name of a field has 1..%d bytes",
                       KITH_COLLECTION_MAX_FIELD_NAME);
    kith_status status = ki_expr_parse_path(name, allocator, &expr, err);
    if (status == KITH_OK) {
        const ki_expr_node *node = ki_expr_at(&expr, expr.root);
        f->path_size = node->text.size;
        if (f->path_size <= sizeof f->path)
            memcpy(f->path, expr.texts.data + node->text.offset, f->path_size);
        else
            status = ki_fail(err, KITH_INVALID, "'%.40s': the name of a field with too many steps", name);
        strcpy(f->name, name);
    }
    ki_expr_clear(&expr);
    return status;
}

static kith_status append_field(kith_collection *c, sqlite3_stmt *stmt, ki_field *f, kith_error *err)
{
    const char *name = (const char *)sqlite3_column_text(stmt, 1);
    *f = (ki_field){.id = sqlite3_column_int64(stmt, 0)};
    int64_t kind = sqlite3_column_int64(stmt, 2);
    if (!name && sqlite3_errcode(c->db) == SQLITE_NOMEM) return ki_fail_nomem(err, 0);
    kith_error why;
    kith_status status = is_kind(kind) ? set_path(f, name, c->allocator, &why) : KITH_INVALID;
    if (status == KITH_INVALID)
        return ki_corrupt(c, err, "field %lld is not well declared", (long long)f->id);
    if (status != KITH_OK) return ki_fail_nomem(err, 0);
    f->kind = (kith_field_kind)kind;
    return KITH_OK;
}

/* The list as it stands in the file, into fields->spare[*n]. */
static kith_status read_list(kith_collection *c, ki_fields *fields, size_t *n, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    kith_status status;
    *n = 0;
    if (c->schema < 2) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_FIELD_LIST, &stmt, err));
    while ((status = ki_db_step(c, KI_SQL_FIELD_LIST, &row, err)) == KITH_OK && row) {
        status = *n < KITH_COLLECTION_MAX_FIELDS ? append_field(c, stmt, &fields->spare[*n], err)
                                                 : ki_corrupt(c, err, "too many fields");
        if (status != KITH_OK) break;
        ++*n;
    }
    ki_db_reset(c, KI_SQL_FIELD_LIST);
    return status;
}

static ki_fields *make_fields(const kith_allocator *allocator)
{
    ki_fields *made = ki_alloc_zero(allocator, 1, sizeof *made);
    if (made) made->items = ki_alloc(allocator, KITH_COLLECTION_MAX_FIELDS, sizeof *made->items);
    if (made) made->spare = ki_alloc(allocator, KITH_COLLECTION_MAX_FIELDS, sizeof *made->spare);
    if (made && made->items && made->spare) return made;
    if (made) ki_free(allocator, made->items);
    if (made) ki_free(allocator, made->spare);
    ki_free(allocator, made);
    return NULL;
}

kith_status ki_fields_load(kith_collection *c, kith_error *err)
{
    size_t n;
    if (!c->fields) c->fields = make_fields(c->allocator);
    if (!c->fields) return ki_fail_nomem(err, 2 * KITH_COLLECTION_MAX_FIELDS * sizeof *c->fields->items);
    ki_fields *fields = c->fields;
    if (fields->loaded && !c->adopts && fields->version == c->state.version &&
        fields->stamp == c->state.stamp)
        return KITH_OK;
    fields->loaded = 0;
    /* Read beside the list that there is: inside a batch a read may fail and the batch go on, and its puts need all
     * fields. */
    KI_TRY(read_list(c, fields, &n, err));
    ki_field *old = fields->items;
    fields->items = fields->spare;
    fields->spare = old;
    fields->n = n;
    fields->version = c->state.version;
    fields->stamp = c->state.stamp;
    fields->loaded = c->mode != KI_BATCH; /* what an open batch declares is read again after it */
    return KITH_OK;
}

void ki_fields_clear(kith_collection *c)
{
    if (c->fields) ki_free(c->allocator, c->fields->items);
    if (c->fields) ki_free(c->allocator, c->fields->spare);
    ki_free(c->allocator, c->fields);
    c->fields = NULL;
}

const ki_field *ki_field_by_path(const ki_fields *fields, const void *path, size_t size)
{
    for (size_t i = 0; i < fields->n; i++)
        if (fields->items[i].path_size == size && memcmp(fields->items[i].path, path, size) == 0)
            return &fields->items[i];
    return NULL;
}

kith_status kith_collection_fields(kith_collection *c, kith_field *list, size_t *n, kith_error *err)
{
    if (!n) return ki_fail(err, KITH_INVALID, "n is NULL");
    KI_TRY(ki_read_begin(c, err));
    kith_status status = ki_fields_load(c, err);
    ki_read_end(c);
    if (status != KITH_OK) return status;
    for (size_t i = 0; list && i < c->fields->n && i < *n; i++) {
        list[i].kind = c->fields->items[i].kind;
        memcpy(list[i].name, c->fields->items[i].name, sizeof list[i].name);
    }
    *n = c->fields->n;
    return KITH_OK;
}

/* ---- Values ---- */

kith_status ki_fields_check(const kith_collection *c, kith_error *err)
{
    for (size_t i = 0; i < c->fields->n; i++) {
        const ki_field *f = &c->fields->items[i];
        ki_fit fit = ki_payload_fit(c->canonical.data, c->canonical.size, f->path, f->path_size, f->kind);
        if (fit == KI_FIT_WRONG || fit == KI_FIT_BROKEN)
            return ki_fail(err, KITH_INVALID, "payload: %s is declared as %s, and is something else here",
                           f->name, kith_field_kind_name(f->kind));
    }
    return KITH_OK;
}

/* The parameters that the statements over fields have in common; those that a statement has not are passed over. */
static kith_status bind_field(kith_collection *c, enum ki_sql which, const ki_field *f, int64_t key,
                              sqlite3_stmt **stmt, kith_error *err)
{
    KI_TRY(ki_db_prepare(c, which, stmt, err));
    sqlite3_bind_int64(*stmt, 1, f->id);
    sqlite3_bind_int64(*stmt, 2, key);
    sqlite3_bind_blob64(*stmt, 3, f->path, f->path_size, SQLITE_STATIC);
    sqlite3_bind_int(*stmt, 4, (int)f->kind);
    return KITH_OK;
}

kith_status ki_fields_take_out(kith_collection *c, int64_t slot, int64_t key, kith_error *err)
{
    for (size_t i = 0; i < c->fields->n; i++) {
        sqlite3_stmt *stmt;
        KI_TRY(bind_field(c, KI_SQL_FIELD_TAKE_OUT, &c->fields->items[i], key, &stmt, err));
        sqlite3_bind_int64(stmt, 5, slot);
        KI_TRY(ki_db_run(c, KI_SQL_FIELD_TAKE_OUT, err));
    }
    return KITH_OK;
}

kith_status ki_fields_put_in(kith_collection *c, int64_t key, kith_error *err)
{
    for (size_t i = 0; i < c->fields->n; i++) {
        sqlite3_stmt *stmt;
        KI_TRY(bind_field(c, KI_SQL_FIELD_PUT_IN, &c->fields->items[i], key, &stmt, err));
        sqlite3_bind_text(stmt, 5, (const char *)c->canonical.data, (int)c->canonical.size, SQLITE_STATIC);
        KI_TRY(ki_db_run(c, KI_SQL_FIELD_PUT_IN, err));
    }
    return KITH_OK;
}

/* ---- Declaring ---- */

/* The first integer that a statement over a field gives; *found 0: it gives no row. */
static kith_status ask_field(kith_collection *c, enum ki_sql which, const ki_field *f, int *found,
                             int64_t *value, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(bind_field(c, which, f, 0, &stmt, err));
    KI_TRY(ki_db_step(c, which, found, err));
    if (*found) *value = sqlite3_column_int64(stmt, 0);
    if (*found) ki_db_reset(c, which);
    return KITH_OK;
}

static kith_status check_declaration(kith_collection *c, const ki_field *f, kith_error *err)
{
    int found = 0;
    int64_t key = 0;
    if (!is_kind((int64_t)f->kind))
        return ki_fail(err, KITH_INVALID, "kind is %d, allowed 1..6", (int)f->kind);
    if (c->fields->n == KITH_COLLECTION_MAX_FIELDS)
        return ki_fail(err, KITH_INVALID, "%d fields are declared, more are not possible",
                       KITH_COLLECTION_MAX_FIELDS);
    if (ki_field_by_path(c->fields, f->path, f->path_size))
        return ki_fail(err, KITH_EXISTS, "field %s is declared already", f->name);
    KI_TRY(ask_field(c, KI_SQL_FIELD_MISFIT, f, &found, &key, err));
    if (found)
        return ki_fail(err, KITH_INVALID, "field %s cannot be %s: in row %lld it is something else", f->name,
                       kith_field_kind_name(f->kind), (long long)key);
    return KITH_OK;
}

static kith_status declare(kith_collection *c, ki_field *f, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, KI_SQL_FIELD_ADD, &stmt, err));
    sqlite3_bind_text(stmt, 1, f->name, -1, SQLITE_STATIC);
    sqlite3_bind_int(stmt, 2, (int)f->kind);
    KI_TRY(ki_db_run(c, KI_SQL_FIELD_ADD, err));
    f->id = sqlite3_last_insert_rowid(c->db);
    KI_TRY(bind_field(c, KI_SQL_FIELD_FILL, f, 0, &stmt, err));
    KI_TRY(ki_db_run(c, KI_SQL_FIELD_FILL, err));
    KI_TRY(ki_log_change(c, 0, KI_CHANGE_FIELDS, err));
    return ki_fields_load(c, err);
}

kith_status kith_collection_field_add(kith_collection *c, const char *name, kith_field_kind kind,
                                      kith_error *err)
{
    ki_field f = {.kind = kind};
    KI_TRY(ki_batch_check(c, err));
    KI_TRY(set_path(&f, name, c->allocator, err));
    KI_TRY(check_declaration(c, &f, err));
    return ki_batch_spoil(c, declare(c, &f, err));
}

static kith_status drop(kith_collection *c, const ki_field *f, kith_error *err)
{
    static const enum ki_sql steps[] = {KI_SQL_FIELD_EMPTY, KI_SQL_FIELD_DROP};
    int64_t id = f->id;
    for (size_t i = 0; i < 2; i++) {
        sqlite3_stmt *stmt;
        KI_TRY(ki_db_prepare(c, steps[i], &stmt, err));
        sqlite3_bind_int64(stmt, 1, id);
        KI_TRY(ki_db_run(c, steps[i], err));
    }
    KI_TRY(ki_log_change(c, 0, KI_CHANGE_FIELDS, err));
    return ki_fields_load(c, err);
}

kith_status kith_collection_field_drop(kith_collection *c, const char *name, kith_error *err)
{
    ki_field f = {0};
    KI_TRY(ki_batch_check(c, err));
    KI_TRY(set_path(&f, name, c->allocator, err));
    const ki_field *found = ki_field_by_path(c->fields, f.path, f.path_size);
    if (!found) return ki_fail(err, KITH_NOTFOUND, "%s: there is no field %s", c->path, name);
    return ki_batch_spoil(c, drop(c, found, err));
}

/* ---- Proof ---- */

kith_status ki_fields_prove(kith_collection *c, kith_error *err)
{
    int found = 0;
    int64_t key = 0, there = 0, expected = 0;
    if (c->schema < 2) return KITH_OK;
    KI_TRY(ki_fields_load(c, err));
    for (size_t i = 0; i < c->fields->n; i++) {
        const ki_field *f = &c->fields->items[i];
        KI_TRY(ask_field(c, KI_SQL_FIELD_COUNT, f, &found, &there, err));
        KI_TRY(ask_field(c, KI_SQL_FIELD_EXPECTED, f, &found, &expected, err));
        if (there != expected)
            return ki_corrupt(c, err, "field %s has %lld values, expected %lld", f->name, (long long)there,
                              (long long)expected);
        KI_TRY(ask_field(c, KI_SQL_FIELD_BAD, f, &found, &key, err));
        if (found)
            return ki_corrupt(c, err, "field %s has a value for row %lld that its payload has not", f->name,
                              (long long)key);
    }
    ki_field none = {.id = 0};
    KI_TRY(ask_field(c, KI_SQL_FIELD_STRAY, &none, &found, &key, err));
    return found ? ki_corrupt(c, err, "row %lld has a value of a field that is not declared", (long long)key)
                 : KITH_OK;
}
