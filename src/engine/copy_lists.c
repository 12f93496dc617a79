/* copy_lists.c - what a collection has beside its rows, from one into another: named values, declared fields, vector fields,
 * partitions. */
#include "engine/copy.h"
#include "engine/fields.h"
#include "engine/spaces.h"

#include <string.h>

/* ---- Named values and declared fields ---- */

kith_status ki_copy_names(ki_copy *x)
{
    kith_meta from, to;
    KI_TRY(kith_collection_meta_next(x->from, NULL, NULL, &from, x->err));
    KI_TRY(kith_collection_meta_next(x->to, NULL, NULL, &to, x->err));
    while (from.name || to.name) {
        int order = !from.name ? 1 : !to.name ? -1 : strcmp(from.name, to.name);
        char name[KITH_COLLECTION_MAX_META_NAME + 1];
        strcpy(name, order <= 0 ? from.name : to.name);
        if (order > 0) KI_TRY(kith_collection_meta_delete(x->to, name, x->err));
        if (order < 0 || (order == 0 && (from.size != to.size || memcmp(from.value, to.value, to.size) != 0)))
            KI_TRY(kith_collection_meta_set(x->to, name, from.value, from.size, x->err));
        if (order <= 0) KI_TRY(kith_collection_meta_next(x->from, NULL, name, &from, x->err));
        if (order >= 0) KI_TRY(kith_collection_meta_next(x->to, NULL, name, &to, x->err));
    }
    return KITH_OK;
}

static const ki_field *field_like(const ki_fields *fields, const ki_field *f)
{
    const ki_field *found = ki_field_by_path(fields, f->path, f->path_size);
    return found && found->kind == f->kind && strcmp(found->name, f->name) == 0 ? found : NULL;
}

kith_status ki_copy_drop_fields(ki_copy *x)
{
    KI_TRY(ki_fields_load(x->from, x->err));
    KI_TRY(ki_fields_load(x->to, x->err));
    for (size_t i = 0; i < x->to->fields->n;) {
        const ki_field *f = &x->to->fields->items[i];
        if (field_like(x->from->fields, f)) {
            i++;
            continue;
        }
        char name[KITH_COLLECTION_MAX_FIELD_NAME + 1];
        strcpy(name, f->name); /* the list is read anew */
        KI_TRY(kith_collection_field_drop(x->to, name, x->err));
    }
    return KITH_OK;
}

kith_status ki_copy_add_fields(ki_copy *x)
{
    for (size_t i = 0; i < x->from->fields->n; i++) {
        const ki_field *f = &x->from->fields->items[i];
        if (!field_like(x->to->fields, f)) KI_TRY(kith_collection_field_add(x->to, f->name, f->kind, x->err));
    }
    return KITH_OK;
}

/* ---- Vector fields ---- */

/* Of the same making: then what the change log says of the one is true of the other. */
static int same_space(const ki_space *a, const ki_space *b)
{
    return a->id == b->id && a->made == b->made && a->dim == b->dim && a->metric == b->metric &&
           strcmp(a->name, b->name) == 0 && strcmp(a->spec, b->spec) == 0;
}

static const ki_space *space_like(const ki_spaces *spaces, const ki_space *s)
{
    for (size_t i = 0; i < spaces->n; i++)
        if (same_space(spaces->items[i], s)) return spaces->items[i];
    return NULL;
}

static kith_status declare(ki_copy *x, const ki_space *s)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(x->to, KI_SQL_SPACE_ADD, &stmt, x->err));
    sqlite3_bind_int64(stmt, 1, s->id);
    sqlite3_bind_text(stmt, 2, s->name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 3, (int64_t)s->dim);
    sqlite3_bind_int64(stmt, 4, (int64_t)s->metric);
    sqlite3_bind_text(stmt, 5, s->spec, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 6, (int64_t)s->made);
    KI_TRY(ki_db_run(x->to, KI_SQL_SPACE_ADD, x->err));
    x->to->spaces->loaded = 0;
    return KITH_OK;
}

kith_status ki_copy_spaces(ki_copy *x)
{
    KI_TRY(ki_spaces_load(x->from, x->err));
    const ki_spaces *from = x->from->spaces;
    for (size_t i = 0; i < x->to->spaces->n;) {
        char name[KITH_COLLECTION_MAX_FIELD_NAME + 1];
        const ki_space *s = x->to->spaces->items[i];
        if (space_like(from, s)) {
            i++;
            continue;
        }
        strcpy(name, s->name); /* the list is read anew */
        KI_TRY(kith_collection_vector_field_drop(x->to, name, x->err));
    }
    for (size_t i = 0; i < from->n; i++)
        if (!space_like(x->to->spaces, from->items[i])) KI_TRY(declare(x, from->items[i]));
    return ki_spaces_load(x->to, x->err);
}

kith_status ki_copy_same_spaces(ki_copy *x, int *same)
{
    KI_TRY(ki_spaces_load(x->from, x->err));
    const ki_spaces *from = x->from->spaces, *to = x->to->spaces;
    *same = from->n == to->n;
    for (size_t i = 0; i < from->n && *same; i++) *same = space_like(to, from->items[i]) != NULL;
    return KITH_OK;
}

/* ---- Partitions ---- */

static kith_status has_partition(kith_collection *c, const char *name, int *has, kith_error *err)
{
    sqlite3_stmt *stmt;
    *has = 0;
    if (c->schema < 3) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_PART_FIND, &stmt, err));
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    KI_TRY(ki_db_step(c, KI_SQL_PART_FIND, has, err));
    if (*has) ki_db_reset(c, KI_SQL_PART_FIND);
    return KITH_OK;
}

/* The first partition of `a` that `b` has not; *found 0: there is none. */
static kith_status first_missing(kith_collection *a, kith_collection *b, int *found, char *name,
                                 kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    *found = 0;
    if (a->schema < 3) return KITH_OK;
    KI_TRY(ki_db_prepare(a, KI_SQL_PART_NAMES, &stmt, err));
    kith_status status;
    while ((status = ki_db_step(a, KI_SQL_PART_NAMES, &row, err)) == KITH_OK && row && !*found) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        int has = 0;
        if (!text || strlen(text) > KITH_COLLECTION_MAX_PARTITION_NAME) {
            status = text ? ki_corrupt(a, err, "the name of a partition is too long") : ki_fail_nomem(err, 0);
            break;
        }
        strcpy(name, text);
        status = has_partition(b, name, &has, err);
        if (status != KITH_OK) break;
        *found = !has;
    }
    ki_db_reset(a, KI_SQL_PART_NAMES);
    return status;
}

kith_status ki_copy_partitions(ki_copy *x)
{
    int found;
    char name[KITH_COLLECTION_MAX_PARTITION_NAME + 1];
    for (;;) {
        KI_TRY(first_missing(x->to, x->from, &found, name, x->err));
        if (!found) break;
        KI_TRY(kith_collection_partition_drop(x->to, name, NULL, x->err));
    }
    for (;;) {
        KI_TRY(first_missing(x->from, x->to, &found, name, x->err));
        if (!found) return KITH_OK;
        KI_TRY(kith_collection_partition_add(x->to, name, x->err));
    }
}
