/* spaces.c - vector fields: what they are, their vectors, and going over to one. */
#include "engine/spaces.h"

#include "base/checksum.h"
#include "base/run.h"
#include "engine/expiry.h"
#include "engine/vectors.h"

#include <kith/index.h>

#include <stdio.h>
#include <string.h>

/* A place is the id of the field in its highest bits, and the slot of the row. */
#define SLOT_BITS 56

static int64_t place_of(int64_t id, int64_t slot)
{
    return (id << SLOT_BITS) + slot;
}

/* ---- Which there are ---- */

static void free_space(kith_collection *c, ki_space *s)
{
    if (!s) return;
    ki_vectors *own = c->vectors; /* what frees vectors knows c->vectors alone */
    c->vectors = s->memory;
    ki_vectors_free(c);
    c->vectors = own;
    ki_free(c->allocator, s->folder);
    ki_free(c->allocator, s);
}

void ki_spaces_free(kith_collection *c)
{
    for (size_t i = 0; c->spaces && i < c->spaces->n; i++) free_space(c, c->spaces->items[i]);
    ki_free(c->allocator, c->spaces);
    c->spaces = NULL;
}

static int copy_text(sqlite3_stmt *stmt, int column, char *out, size_t room)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    if (!text || strlen(text) >= room) return 0;
    strcpy(out, text);
    return 1;
}

static kith_status take_space(kith_collection *c, sqlite3_stmt *stmt, ki_space *s, kith_error *err)
{
    int64_t dim = sqlite3_column_int64(stmt, 2), metric = sqlite3_column_int64(stmt, 3),
            made = sqlite3_column_int64(stmt, 5), vectors = sqlite3_column_int64(stmt, 6);
    s->id = sqlite3_column_int64(stmt, 0);
    int good = copy_text(stmt, 1, s->name, sizeof s->name) && copy_text(stmt, 4, s->spec, sizeof s->spec);
    if (!good && sqlite3_errcode(c->db) == SQLITE_NOMEM) return ki_fail_nomem(err, 0);
    if (!good || s->id < 1 || s->id > KITH_COLLECTION_MAX_VECTOR_FIELDS || dim < 1 ||
        dim > KITH_COLLECTION_MAX_DIM || metric < KITH_L2SQ || metric > KITH_L1 || made < 0 ||
        (uint64_t)made > c->state.version || vectors < 0 || (uint64_t)vectors > c->state.rows)
        return ki_corrupt(c, err, "vector field %lld is not well declared", (long long)s->id);
    s->dim = (size_t)dim;
    s->metric = (kith_metric)metric;
    s->made = (uint64_t)made;
    s->vectors = (uint64_t)vectors;
    return KITH_OK;
}

static kith_status read_list(kith_collection *c, ki_space **items, size_t *n, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    *n = 0;
    if (c->schema < 3) return KITH_OK;
    KI_TRY(ki_db_prepare(c, KI_SQL_SPACE_LIST, &stmt, err));
    kith_status status;
    while ((status = ki_db_step(c, KI_SQL_SPACE_LIST, &row, err)) == KITH_OK && row) {
        if (*n == KITH_COLLECTION_MAX_VECTOR_FIELDS) {
            status = ki_corrupt(c, err, "there are too many vector fields");
            break;
        }
        ki_space *s = ki_alloc_zero(c->allocator, 1, sizeof *s);
        if (s) items[(*n)++] = s;
        status = s ? take_space(c, stmt, s, err) : ki_fail_nomem(err, sizeof *s);
        if (status != KITH_OK) break;
    }
    ki_db_reset(c, KI_SQL_SPACE_LIST);
    return status;
}

/* What is in memory of a field stays with the field of the same making. */
static void keep_memory(const ki_spaces *old, ki_space *s)
{
    for (size_t i = 0; i < old->n; i++) {
        ki_space *o = old->items[i];
        if (o->id != s->id || o->made != s->made || o->dim != s->dim || o->metric != s->metric) continue;
        s->memory = o->memory;
        s->folder = o->folder;
        o->memory = NULL;
        o->folder = NULL;
    }
}

kith_status ki_spaces_load(kith_collection *c, kith_error *err)
{
    if (!c->spaces) c->spaces = ki_alloc_zero(c->allocator, 1, sizeof *c->spaces);
    if (!c->spaces) return ki_fail_nomem(err, sizeof *c->spaces);
    ki_spaces *spaces = c->spaces, fresh = {.n = 0};
    if (spaces->loaded && spaces->version == c->state.version && spaces->stamp == c->state.stamp)
        return KITH_OK;
    kith_status status = read_list(c, fresh.items, &fresh.n, err);
    if (status != KITH_OK) { /* the old list stays: inside a batch its counts are needed */
        for (size_t i = 0; i < fresh.n; i++) free_space(c, fresh.items[i]);
        return status;
    }
    for (size_t i = 0; i < fresh.n; i++) keep_memory(spaces, fresh.items[i]);
    for (size_t i = 0; i < spaces->n; i++) free_space(c, spaces->items[i]);
    *spaces = fresh;
    spaces->version = c->state.version;
    spaces->stamp = c->state.stamp;
    spaces->loaded = 1;
    return KITH_OK;
}

static ki_space *find(const kith_collection *c, const char *name)
{
    for (size_t i = 0; i < c->spaces->n; i++)
        if (strcmp(c->spaces->items[i]->name, name) == 0) return c->spaces->items[i];
    return NULL;
}

/* The field of this name, of the state of the open transaction. A batch loads the list when it begins and keeps it. */
static kith_status look_up(kith_collection *c, const char *name, ki_space **space, kith_error *err)
{
    if (!name) return ki_fail(err, KITH_INVALID, "field is NULL");
    if (c->mode != KI_BATCH) KI_TRY(ki_spaces_load(c, err));
    *space = find(c, name);
    if (*space) return KITH_OK;
    return ki_fail(err, KITH_NOTFOUND, "%s: there is no vector field '%.80s'", c->path, name);
}

/* ---- Going over ---- */

static void exchange(kith_collection *c, ki_space *s)
{
    ki_state *state = &c->state;
    ki_space own = {.dim = state->dim,
                    .metric = state->metric,
                    .vectors = state->vectors,
                    .made = state->reset_version,
                    .memory = c->vectors,
                    .folder = c->folder};
    state->dim = s->dim;
    state->metric = s->metric;
    state->vectors = s->vectors;
    state->reset_version = s->made;
    c->vectors = s->memory;
    c->folder = s->folder;
    s->dim = own.dim;
    s->metric = own.metric;
    s->vectors = own.vectors;
    s->made = own.made;
    s->memory = own.memory;
    s->folder = own.folder;
}

static kith_status enter(kith_collection *c, ki_space *s, kith_error *err)
{
    if (!s->folder) {
        size_t size = strlen(c->folder) + 16;
        s->folder = ki_alloc(c->allocator, size, 1);
        if (!s->folder) return ki_fail_nomem(err, size);
        snprintf(s->folder, size, "%s/field-%d", c->folder, (int)s->id);
    }
    exchange(c, s);
    c->at = s;
    return KITH_OK;
}

kith_status ki_space_enter(kith_collection *c, const char *name, kith_error *err)
{
    ki_space *s;
    if (!name || !*name) return KITH_OK;
    KI_TRY(look_up(c, name, &s, err));
    return enter(c, s, err);
}

void ki_space_leave(kith_collection *c)
{
    if (!c->at) return;
    exchange(c, c->at);
    c->at = NULL;
}

void ki_spaces_each(kith_collection *c, void (*f)(kith_collection *))
{
    for (size_t i = 0; c->spaces && i < c->spaces->n; i++) {
        exchange(c, c->spaces->items[i]);
        c->at = c->spaces->items[i];
        f(c);
        ki_space_leave(c);
    }
    f(c);
}

/* ---- Statements for the vectors at hand ---- */

unsigned ki_vector_change(const kith_collection *c)
{
    return c->at ? KI_CHANGE_SPACE((unsigned)c->at->id) : (unsigned)KITH_ROW_VECTOR;
}

void ki_has_vector_sql(const kith_collection *c, char sql[KI_HAS_VECTOR_BYTES])
{
    if (c->at)
        snprintf(sql, KI_HAS_VECTOR_BYTES, "EXISTS(SELECT 1 FROM space_vector WHERE place = %lld + slot)",
                 (long long)place_of(c->at->id, 0));
    else
        snprintf(sql, KI_HAS_VECTOR_BYTES, "vector IS NOT NULL");
}

kith_status ki_space_scan(kith_collection *c, enum ki_sql *which, sqlite3_stmt **stmt, kith_error *err)
{
    *which = c->at ? KI_SQL_SPACE_SCAN : KI_SQL_VECTOR_SCAN;
    KI_TRY(ki_db_prepare(c, *which, stmt, err));
    if (!c->at) return KITH_OK;
    sqlite3_bind_int64(*stmt, 1, place_of(c->at->id, 0));
    sqlite3_bind_int64(*stmt, 2, place_of(c->at->id + 1, 0));
    return KITH_OK;
}

kith_status ki_space_get(kith_collection *c, int64_t key, enum ki_sql *which, sqlite3_stmt **stmt,
                         kith_error *err)
{
    *which = c->at ? KI_SQL_SPACE_GET : KI_SQL_VECTOR_GET;
    KI_TRY(ki_db_prepare(c, *which, stmt, err));
    sqlite3_bind_int64(*stmt, 1, key);
    if (c->at) sqlite3_bind_int64(*stmt, 2, place_of(c->at->id, 0));
    return KITH_OK;
}

/* ---- Declaring ---- */

static kith_status check_name(const char *name, kith_error *err)
{
    size_t size = name ? strnlen(name, KITH_COLLECTION_MAX_FIELD_NAME + 1) : 0;
    if (size < 1 || size > KITH_COLLECTION_MAX_FIELD_NAME)
        return ki_fail(err, KITH_INVALID, "the name of a vector field has %zu bytes, allowed 1..%d", size,
                       KITH_COLLECTION_MAX_FIELD_NAME);
    for (const char *at = name, *end = name + size, *next; at < end; at = next) {
        next = ki_utf8_character(at, end);
        if (!next || (unsigned char)*at < 32 || *at == 127)
            return ki_fail(err, KITH_INVALID,
                           "the name of a vector field has a control character or no UTF-8 at byte %zu",
                           (size_t)(at - name));
    }
    return KITH_OK;
}

/* Whether there can be such an index. */
static kith_status check_spec(const kith_collection *c, const char *spec, size_t dim, kith_metric metric,
                              kith_error *err)
{
    kith_index *index;
    kith_index_options options;
    if (!*spec) return KITH_OK;
    if (strlen(spec) > KITH_COLLECTION_MAX_SPEC)
        return ki_fail(err, KITH_INVALID, "spec is longer than %d bytes", KITH_COLLECTION_MAX_SPEC);
    kith_index_options_init(&options);
    options.metric = metric;
    options.allocator = c->allocator;
    KI_TRY(kith_index_create(spec, dim, &options, &index, err));
    kith_index_free(index);
    return KITH_OK;
}

/* The lowest id that is free. */
static int64_t free_id(const ki_spaces *spaces)
{
    int64_t id = 1;
    for (size_t i = 0; i < spaces->n; i++) /* they are in the order of their ids */
        if (spaces->items[i]->id == id) id++;
    return id;
}

/* The list of an open batch, which is never the one remembered for a state that others see. */
static kith_status load_again(kith_collection *c, kith_error *err)
{
    KI_TRY(ki_spaces_write(c, err));
    c->spaces->loaded = 0;
    return ki_spaces_load(c, err);
}

static kith_status add(kith_collection *c, const char *name, size_t dim, kith_metric metric, const char *spec,
                       kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_log_change(c, 0, KI_CHANGE_LISTS, err));
    KI_TRY(ki_db_prepare(c, KI_SQL_SPACE_ADD, &stmt, err));
    sqlite3_bind_int64(stmt, 1, free_id(c->spaces));
    sqlite3_bind_text(stmt, 2, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 3, (int64_t)dim);
    sqlite3_bind_int64(stmt, 4, (int64_t)metric);
    sqlite3_bind_text(stmt, 5, spec, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 6, (int64_t)c->state.version);
    KI_TRY(ki_db_run(c, KI_SQL_SPACE_ADD, err));
    return load_again(c, err);
}

kith_status kith_collection_vector_field_add(kith_collection *c, const char *name, size_t dim,
                                             kith_metric metric, const char *spec, kith_error *err)
{
    KI_TRY(ki_batch_check(c, err));
    KI_TRY(check_name(name, err));
    if (dim < 1 || dim > KITH_COLLECTION_MAX_DIM)
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 1..%d", dim, KITH_COLLECTION_MAX_DIM);
    if ((int)metric < KITH_L2SQ || (int)metric > KITH_L1)
        return ki_fail(err, KITH_INVALID, "metric is %d, allowed l2, dot, cosine, l1", (int)metric);
    if (!spec || strcmp(spec, "auto") == 0) spec = "";
    KI_TRY(check_spec(c, spec, dim, metric, err));
    if (find(c, name))
        return ki_fail(err, KITH_EXISTS, "%s: there is a vector field '%.80s' already", c->path, name);
    if (c->spaces->n == KITH_COLLECTION_MAX_VECTOR_FIELDS)
        return ki_fail(err, KITH_INVALID, "%d vector fields are declared, more are not possible",
                       KITH_COLLECTION_MAX_VECTOR_FIELDS);
    return ki_batch_spoil(c, add(c, name, dim, metric, spec, err));
}

static kith_status drop(kith_collection *c, int64_t id, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, KI_SQL_SPACE_EMPTY, &stmt, err));
    sqlite3_bind_int64(stmt, 1, place_of(id, 0));
    sqlite3_bind_int64(stmt, 2, place_of(id + 1, 0));
    KI_TRY(ki_db_run(c, KI_SQL_SPACE_EMPTY, err));
    KI_TRY(ki_db_prepare(c, KI_SQL_SPACE_DROP, &stmt, err));
    sqlite3_bind_int64(stmt, 1, id);
    KI_TRY(ki_db_run(c, KI_SQL_SPACE_DROP, err));
    KI_TRY(ki_log_change(c, 0, KI_CHANGE_LISTS, err));
    return load_again(c, err);
}

kith_status kith_collection_vector_field_drop(kith_collection *c, const char *name, kith_error *err)
{
    ki_space *s;
    KI_TRY(ki_batch_check(c, err));
    KI_TRY(look_up(c, name, &s, err));
    return ki_batch_spoil(c, drop(c, s->id, err));
}

kith_status kith_collection_vector_fields(kith_collection *c, kith_vector_field *fields, size_t *n,
                                          kith_error *err)
{
    if (!n) return ki_fail(err, KITH_INVALID, "n is NULL");
    KI_TRY(ki_read_begin(c, err));
    kith_status status = c->mode == KI_BATCH ? KITH_OK : ki_spaces_load(c, err);
    ki_read_end(c);
    if (status != KITH_OK) return status;
    for (size_t i = 0; fields && i < *n && i < c->spaces->n; i++) {
        const ki_space *s = c->spaces->items[i];
        fields[i].dim = s->dim;
        fields[i].metric = s->metric;
        fields[i].vectors = s->vectors;
        strcpy(fields[i].name, s->name);
        strcpy(fields[i].spec, s->spec);
    }
    *n = c->spaces->n;
    return KITH_OK;
}

/* ---- Rows ---- */

/* Take the vector at a place away; *there says whether there was one. */
static kith_status take_out(kith_collection *c, int64_t place, int *there, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, KI_SQL_SPACE_DELETE, &stmt, err));
    sqlite3_bind_int64(stmt, 1, place);
    KI_TRY(ki_db_run(c, KI_SQL_SPACE_DELETE, err));
    *there = sqlite3_changes(c->db) > 0;
    return KITH_OK;
}

static kith_status has(kith_collection *c, int64_t place, int *there, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, KI_SQL_SPACE_HAS, &stmt, err));
    sqlite3_bind_int64(stmt, 1, place);
    KI_TRY(ki_db_step(c, KI_SQL_SPACE_HAS, there, err));
    if (*there) ki_db_reset(c, KI_SQL_SPACE_HAS);
    return KITH_OK;
}

kith_status ki_spaces_take_out(kith_collection *c, int64_t slot, kith_error *err)
{
    for (size_t i = 0; i < c->spaces->n; i++) {
        ki_space *s = c->spaces->items[i];
        int there;
        if (s->vectors == 0) continue;
        KI_TRY(take_out(c, place_of(s->id, slot), &there, err));
        s->vectors -= there != 0;
        s->dirty |= there;
    }
    return KITH_OK;
}

kith_status ki_spaces_write(kith_collection *c, kith_error *err)
{
    for (size_t i = 0; i < c->spaces->n; i++) {
        ki_space *s = c->spaces->items[i];
        sqlite3_stmt *stmt;
        if (!s->dirty) continue;
        KI_TRY(ki_db_prepare(c, KI_SQL_SPACE_COUNT, &stmt, err));
        sqlite3_bind_int64(stmt, 1, s->id);
        sqlite3_bind_int64(stmt, 2, (int64_t)s->vectors);
        KI_TRY(ki_db_run(c, KI_SQL_SPACE_COUNT, err));
        s->dirty = 0;
    }
    return KITH_OK;
}

static kith_status put(kith_collection *c, ki_space *s, int64_t slot, int64_t key, const float *vector,
                       kith_error *err)
{
    sqlite3_stmt *stmt;
    int there;
    int64_t place = place_of(s->id, slot);
    if (vector) {
        KI_TRY(has(c, place, &there, err));
        KI_TRY(ki_db_prepare(c, KI_SQL_SPACE_PUT, &stmt, err));
        sqlite3_bind_int64(stmt, 1, place);
        sqlite3_bind_int64(stmt, 2, key);
        sqlite3_bind_blob64(stmt, 3, vector, s->dim * sizeof *vector, SQLITE_STATIC);
        KI_TRY(ki_db_run(c, KI_SQL_SPACE_PUT, err));
    } else {
        KI_TRY(take_out(c, place, &there, err));
    }
    s->vectors += vector != NULL;
    s->vectors -= there != 0;
    s->dirty = 1;
    return ki_log_change(c, key, KI_CHANGE_SPACE((unsigned)s->id), err);
}

kith_status kith_collection_put_vector(kith_collection *c, int64_t key, const char *field,
                                       const float *vector, size_t dim, kith_error *err)
{
    ki_space *s;
    sqlite3_stmt *stmt;
    int found, expired;
    int64_t slot = 0;
    KI_TRY(ki_batch_check(c, err));
    KI_TRY(look_up(c, field, &s, err));
    if (vector && dim != s->dim)
        return ki_fail(err, KITH_INVALID, "the vector has %zu components, the field %s %zu", dim, s->name,
                       s->dim);
    if (vector && !ki_all_finite(vector, dim))
        return ki_fail(err, KITH_INVALID, "the vector has a component that is not finite");
    KI_TRY(ki_db_prepare(c, KI_SQL_RECORD_FIND, &stmt, err));
    sqlite3_bind_int64(stmt, 1, key);
    KI_TRY(ki_batch_spoil(c, ki_db_step(c, KI_SQL_RECORD_FIND, &found, err)));
    if (found) {
        slot = sqlite3_column_int64(stmt, 0);
        ki_db_reset(c, KI_SQL_RECORD_FIND);
    }
    KI_TRY(ki_batch_spoil(c, ki_is_expired(c, key, &expired, err)));
    if (!found || expired)
        return ki_fail(err, KITH_NOTFOUND, "%s: there is no row %lld", c->path, (long long)key);
    return ki_batch_spoil(c, put(c, s, slot, key, vector, err));
}

/* Within a read transaction, gone over to the field. */
static kith_status get_vector(kith_collection *c, int64_t key, const float **vector, kith_error *err)
{
    enum ki_sql which;
    sqlite3_stmt *stmt;
    int row;
    const float *found = NULL;
    const ki_keyset *expired;
    KI_TRY(ki_expired_load(c, &expired, err));
    if (expired && ki_keyset_has(expired, key)) return KITH_OK;
    KI_TRY(ki_space_get(c, key, &which, &stmt, err));
    KI_TRY(ki_db_step(c, which, &row, err));
    if (!row) return KITH_OK;
    kith_status status = ki_row_vector(c, stmt, 0, key, &found, err);
    c->field_vector.size = 0;
    if (status == KITH_OK && found)
        status = ki_buffer_append(&c->field_vector, found, c->state.dim * sizeof *found, c->allocator, err);
    if (status == KITH_OK && found) *vector = (const float *)(const void *)c->field_vector.data;
    ki_db_reset(c, which);
    return status;
}

kith_status kith_collection_get_vector(kith_collection *c, int64_t key, const char *field,
                                       const float **vector, size_t *dim, kith_error *err)
{
    const float *found = NULL;
    if (!vector) return ki_fail(err, KITH_INVALID, "vector is NULL");
    KI_TRY(ki_read_begin(c, err));
    kith_status status = ki_space_enter(c, field, err);
    size_t components = c->state.dim;
    if (status == KITH_OK) status = get_vector(c, key, &found, err);
    ki_space_leave(c);
    ki_read_end(c);
    if (status != KITH_OK) return status;
    *vector = found;
    if (dim) *dim = components;
    return KITH_OK;
}

/* ---- Proof and hash ---- */

static kith_status count_all(kith_collection *c, const kith_run *run, uint64_t *n, kith_error *err)
{
    enum ki_sql which;
    sqlite3_stmt *stmt;
    int row;
    *n = 0;
    KI_TRY(ki_space_scan(c, &which, &stmt, err));
    kith_status status;
    while ((status = ki_db_step(c, which, &row, err)) == KITH_OK && row) {
        const float *x;
        status = ki_row_vector(c, stmt, 1, sqlite3_column_int64(stmt, 0), &x, err);
        if (status == KITH_OK && ++*n % 1024 == 0) status = ki_run_check(run, err);
        if (status != KITH_OK) break;
    }
    ki_db_reset(c, which);
    return status;
}

kith_status ki_spaces_prove(kith_collection *c, const kith_run *run, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    if (c->schema < 3) return KITH_OK;
    if (c->mode != KI_BATCH) KI_TRY(ki_spaces_load(c, err));
    KI_TRY(ki_db_prepare(c, KI_SQL_SPACE_STRAY, &stmt, err));
    KI_TRY(ki_db_step(c, KI_SQL_SPACE_STRAY, &row, err));
    if (row) {
        int64_t key = sqlite3_column_int64(stmt, 0);
        ki_db_reset(c, KI_SQL_SPACE_STRAY);
        return ki_corrupt(c, err, "row %lld has a vector in a field, and one of the two is not there",
                          (long long)key);
    }
    for (size_t i = 0; i < c->spaces->n; i++) {
        const ki_space *s = c->spaces->items[i];
        uint64_t n = 0, expected = s->vectors;
        KI_TRY(enter(c, c->spaces->items[i], err));
        kith_status status = count_all(c, run, &n, err);
        ki_space_leave(c);
        KI_TRY(status);
        if (n != expected)
            return ki_corrupt(c, err, "field %s has %llu vectors, counted were %llu", s->name,
                              (unsigned long long)n, (unsigned long long)expected);
    }
    return KITH_OK;
}

kith_status ki_space_scan_keys(kith_collection *c, sqlite3_stmt **stmt, kith_error *err)
{
    KI_TRY(ki_db_prepare(c, KI_SQL_SPACE_SCAN_KEYS, stmt, err));
    sqlite3_bind_int64(*stmt, 1, place_of(c->at->id, 0));
    return KITH_OK;
}

static kith_status hash_space(kith_collection *c, const kith_run *run, uint64_t *hash, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    uint64_t n = 0;
    KI_TRY(ki_space_scan_keys(c, &stmt, err));
    kith_status status;
    while ((status = ki_db_step(c, KI_SQL_SPACE_SCAN_KEYS, &row, err)) == KITH_OK && row) {
        uint64_t key = (uint64_t)sqlite3_column_int64(stmt, 0);
        const float *x;
        status = ki_row_vector(c, stmt, 1, (int64_t)key, &x, err);
        if (status == KITH_OK && ++n % 1024 == 0) status = ki_run_check(run, err);
        if (status != KITH_OK) break;
        *hash = ki_checksum_seeded(&key, sizeof key, *hash);
        if (x) *hash = ki_checksum_seeded(x, c->state.dim * sizeof *x, *hash);
    }
    ki_db_reset(c, KI_SQL_SPACE_SCAN_KEYS);
    return status;
}

/* The next field in the order of the names, which is the same in every copy. */
static ki_space *next_by_name(const ki_spaces *spaces, const char *after)
{
    ki_space *best = NULL;
    for (size_t i = 0; i < spaces->n; i++) {
        ki_space *s = spaces->items[i];
        if ((!after || strcmp(s->name, after) > 0) && (!best || strcmp(s->name, best->name) < 0)) best = s;
    }
    return best;
}

kith_status ki_spaces_hash(kith_collection *c, const kith_run *run, uint64_t *hash, kith_error *err)
{
    if (c->schema < 3) return KITH_OK;
    if (c->mode != KI_BATCH) KI_TRY(ki_spaces_load(c, err));
    const char *after = NULL;
    for (ki_space *s; (s = next_by_name(c->spaces, after)) != NULL; after = s->name) {
        uint64_t head[5] = {0, 3, strlen(s->name), s->dim, (uint64_t)s->metric};
        *hash = ki_checksum_seeded(head, sizeof head, *hash);
        *hash = ki_checksum_seeded(s->name, head[2], *hash);
        KI_TRY(enter(c, s, err));
        kith_status status = hash_space(c, run, hash, err);
        ki_space_leave(c);
        KI_TRY(status);
    }
    return KITH_OK;
}
