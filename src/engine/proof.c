/* proof.c - is the file sound, what does it hold, what is its content hash. The invariants C1 to C12 are those of
 * docs/collection-format.md. */
#include "base/checksum.h"
#include "base/run.h"
#include "engine/content.h"
#include "engine/fields.h"
#include "engine/spaces.h"
#include "engine/vectors.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- One pass over all rows ---- */

typedef struct pass {
    kith_collection *c;
    const kith_run *run;
    kith_error *err;
    uint64_t rows, vectors;
    int64_t last_key, last_slot;
    uint64_t hash;
} pass;

/* One row, its vector checked and its payload as it is stored. */
typedef kith_status (*visit_row)(pass *p, int64_t key, const float *vector, const char *payload, size_t size);

static kith_status scan(pass *p, enum ki_sql which, const char *stage_name, visit_row visit)
{
    sqlite3_stmt *stmt;
    int row;
    kith_collection *c = p->c;
    ki_stage stage;
    ki_stage_begin(&stage, p->run, stage_name, c->state.rows);
    KI_TRY(ki_db_prepare(c, which, &stmt, p->err));
    kith_status status;
    while ((status = ki_db_step(c, which, &row, p->err)) == KITH_OK && row) {
        int64_t slot = sqlite3_column_int64(stmt, 0), key = sqlite3_column_int64(stmt, 1);
        const char *payload = (const char *)sqlite3_column_text(stmt, 2);
        size_t size = (size_t)sqlite3_column_bytes(stmt, 2);
        const float *vector = NULL;
        if (slot < 1 || slot > c->state.last_slot || key < 1 || key > c->state.last_key) /* C1 */
            status = ki_corrupt(c, p->err, "row %lld in slot %lld is outside of what was ever used",
                                (long long)key, (long long)slot);
        else if (!payload && sqlite3_errcode(c->db) == SQLITE_NOMEM)
            status = ki_fail_nomem(p->err, size);
        else if (!payload)
            status = ki_corrupt(c, p->err, "the payload of row %lld cannot be read", (long long)key);
        else
            status = ki_row_vector(c, stmt, 3, key, &vector, p->err); /* C2 */
        if (status == KITH_OK) status = visit(p, key, vector, payload, size);
        p->rows++;
        p->vectors += vector != NULL;
        if (status == KITH_OK && p->rows % 1024 == 0) status = ki_run_check(p->run, p->err);
        if (status != KITH_OK) break;
        ki_stage_report(&stage, p->rows);
    }
    ki_db_reset(c, which);
    return status;
}

/* ---- Check ---- */

/* C3: the payload is in canonical form. */
static kith_status check_payload(pass *p, int64_t key, const float *vector, const char *payload, size_t size)
{
    kith_collection *c = p->c;
    kith_error why;
    (void)vector;
    kith_status status = ki_payload_canonical(payload, size, &c->canonical, c->allocator, &why);
    if (status == KITH_INVALID) return ki_corrupt(c, p->err, "row %lld: %s", (long long)key, why.message);
    if (status != KITH_OK) {
        if (p->err) *p->err = why;
        return status;
    }
    if (c->canonical.size != size || memcmp(c->canonical.data, payload, size) != 0)
        return ki_corrupt(c, p->err, "the payload of row %lld is not in canonical form", (long long)key);
    return KITH_OK;
}

/* The integers of the first row of a statement, none of which has parameters but perhaps ?1 = last_slot. */
static kith_status query_integers(kith_collection *c, enum ki_sql which, int *found, int64_t *values, int n,
                                  kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, which, &stmt, err));
    if (sqlite3_bind_parameter_count(stmt) > 0) sqlite3_bind_int64(stmt, 1, c->state.last_slot);
    KI_TRY(ki_db_step(c, which, found, err));
    for (int i = 0; *found && i < n; i++) values[i] = sqlite3_column_int64(stmt, i);
    if (*found) ki_db_reset(c, which);
    return KITH_OK;
}

static kith_status check_tables(kith_collection *c, kith_error *err)
{
    const ki_state *s = &c->state;
    int64_t v[3] = {0};
    int found;
    KI_TRY(query_integers(c, KI_SQL_SLOT_BAD, &found, v, 1, err)); /* C5 */
    if (found) return ki_corrupt(c, err, "slot %lld is free and in use, or was never used", (long long)v[0]);
    KI_TRY(query_integers(c, KI_SQL_SLOT_COUNT, &found, v, 1, err));
    if ((uint64_t)v[0] + s->rows != (uint64_t)s->last_slot)
        return ki_corrupt(c, err, "%lld slots are free, %llu used, %lld there", (long long)v[0],
                          (unsigned long long)s->rows, (long long)s->last_slot);
    KI_TRY(query_integers(c, KI_SQL_ATTACHMENT_BAD, &found, v, 1, err)); /* C6 */
    if (found) return ki_corrupt(c, err, "slot %lld has an attachment but no row", (long long)v[0]);
    KI_TRY(query_integers(c, KI_SQL_CHANGE_SPAN, &found, v, 3, err)); /* C7 */
    uint64_t kept = s->version + 1 - s->oldest;
    if ((uint64_t)v[0] != kept || (kept > 0 && ((uint64_t)v[1] != s->oldest || (uint64_t)v[2] != s->version)))
        return ki_corrupt(c, err, "the change log has %lld entries, expected versions %llu to %llu",
                          (long long)v[0], (unsigned long long)s->oldest, (unsigned long long)s->version);
    KI_TRY(query_integers(c, KI_SQL_BATCH_SPAN, &found, v, 3, err)); /* C8 */
    if (s->version == 0 ? v[0] != 0
                        : (v[0] < 1 || (uint64_t)v[2] != s->version || (uint64_t)v[1] + 1 < s->oldest))
        return ki_corrupt(c, err, "the list of batches does not end with version %llu",
                          (unsigned long long)s->version);
    return KITH_OK;
}

/* The stamp of the last batch is that of the state. */
static kith_status check_stamp(kith_collection *c, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    if (c->state.version == 0 || c->mode == KI_BATCH)
        return KITH_OK; /* within a batch it is not written yet */
    KI_TRY(ki_db_prepare(c, KI_SQL_BATCH_STAMP, &stmt, err));
    sqlite3_bind_int64(stmt, 1, (int64_t)c->state.version);
    KI_TRY(ki_db_step(c, KI_SQL_BATCH_STAMP, &row, err));
    int same = row && (uint64_t)sqlite3_column_int64(stmt, 0) == c->state.stamp;
    if (row) ki_db_reset(c, KI_SQL_BATCH_STAMP);
    return same ? KITH_OK : ki_corrupt(c, err, "the stamp of the last batch is not that of the state");
}

/* Why a page could not be had, which SQLite reports as a fault of the file, with its code. */
static int code_of(const char *text)
{
    static const char before[] = "unable to get the page. error code=";
    const char *at = strstr(text, before);
    return at ? atoi(at + sizeof before - 1) : SQLITE_CORRUPT;
}

/* What SQLite itself can prove about pages, trees and indexes. */
static kith_status check_integrity(kith_collection *c, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_INTEGRITY, &stmt, err));
    KI_TRY(ki_db_step(c, KI_SQL_INTEGRITY, &row, err));
    const char *text = row ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    kith_status status = KITH_OK;
    if (row && !text && sqlite3_errcode(c->db) == SQLITE_NOMEM)
        status = ki_fail_nomem(err, 0);
    else if (!text || (strcmp(text, "ok") != 0 && code_of(text) == SQLITE_CORRUPT))
        status = ki_corrupt(c, err, "%s", text ? text : "integrity unknown");
    else if (strcmp(text, "ok") != 0)
        status = ki_db_fail(c, code_of(text), err, "cannot be checked");
    if (row) ki_db_reset(c, KI_SQL_INTEGRITY);
    return status;
}

static int interrupt_when_cancelled(void *ctx)
{
    return kith_cancel_raised(ctx);
}

static kith_status check_all(kith_collection *c, const kith_run *run, kith_error *err)
{
    KI_TRY(check_integrity(c, err));
    KI_TRY(check_tables(c, err));
    KI_TRY(check_stamp(c, err));
    pass p = {.c = c, .run = run, .err = err};
    KI_TRY(scan(&p, KI_SQL_RECORD_SCAN_SLOTS, "checking rows", check_payload));
    if (p.rows != c->state.rows || p.vectors != c->state.vectors) /* C4 */
        return ki_corrupt(c, err, "there are %llu rows and %llu vectors, counted were %llu and %llu",
                          (unsigned long long)p.rows, (unsigned long long)p.vectors,
                          (unsigned long long)c->state.rows, (unsigned long long)c->state.vectors);
    KI_TRY(ki_fields_prove(c, err));     /* C9 */
    KI_TRY(ki_contents_prove(c, err));   /* C10, C11 */
    return ki_spaces_prove(c, run, err); /* C12 */
}

kith_status kith_collection_check(kith_collection *c, const kith_run *run, kith_error *err)
{
    KI_TRY(ki_read_begin(c, err));
    /* integrity_check may run for minutes: SQLite asks every so many instructions whether to go on. */
    if (run && run->cancel)
        sqlite3_progress_handler(c->db, 10000, interrupt_when_cancelled, (void *)(uintptr_t)run->cancel);
    kith_status status = check_all(c, run, err);
    sqlite3_progress_handler(c->db, 0, NULL, NULL);
    ki_read_end(c);
    return status;
}

/* ---- Content hash ---- */

/* The numbers before each row's bytes say how many follow, so no two collections give the same stream. */
static kith_status hash_row(pass *p, int64_t key, const float *vector, const char *payload, size_t size)
{
    uint64_t head[3] = {(uint64_t)key, vector ? p->c->state.dim : 0, size};
    p->hash = ki_checksum_seeded(head, sizeof head, p->hash);
    if (vector) p->hash = ki_checksum_seeded(vector, p->c->state.dim * sizeof *vector, p->hash);
    p->hash = ki_checksum_seeded(payload, size, p->hash);
    return KITH_OK;
}

kith_status kith_collection_hash(kith_collection *c, const kith_run *run, uint64_t *hash, kith_error *err)
{
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "vectors and hashes are little-endian");
    KI_TRY(ki_read_begin(c, err));
    pass p = {.c = c, .run = run, .err = err};
    uint64_t head[2] = {c->state.dim, (uint64_t)c->state.metric};
    p.hash = ki_checksum(head, sizeof head);
    kith_status status = scan(&p, KI_SQL_RECORD_SCAN_KEYS, "hashing", hash_row);
    if (status == KITH_OK) status = ki_contents_hash(c, &p.hash, err);
    if (status == KITH_OK) status = ki_spaces_hash(c, run, &p.hash, err);
    ki_read_end(c);
    if (status == KITH_OK) *hash = p.hash;
    return status;
}

/* ---- Stats ---- */

static kith_status segment_stats(kith_collection *c, kith_collection_stats *stats, kith_error *err)
{
    ki_buffer bad = {0};
    ki_segment found = {0};
    const ki_vectors *v = c->vectors;
    stats->uncovered = c->state.vectors;
    stats->spread_trained = stats->spread_now = NAN;
    if (c->state.dim == 0) return KITH_OK;
    kith_status status = KITH_OK;
    struct timespec seen = v ? v->folder_modified : (struct timespec){0};
    int known = v && v->tail && v->version == c->state.version && v->stamp == c->state.stamp &&
                !ki_segment_folder_changed(c, &seen);
    if (!known) status = ki_segment_find(c, 0, &bad, &found, NULL, err);
    const ki_segment *segment = known ? &v->segment : &found;
    if (status == KITH_OK && segment->index) {
        stats->segment_bytes = segment->bytes;
        stats->segment_version = segment->version;
        stats->segment_rows = segment->rows;
        memcpy(stats->segment_spec, segment->spec, sizeof stats->segment_spec);
        status = ki_segment_uncovered(c, segment->version, &stats->uncovered, err);
        kith_cells_info cells = {.struct_size = sizeof cells};
        if (kith_index_get_cells(segment->index, &cells, NULL) == KITH_OK) {
            stats->cells = cells.cells;
            stats->spread_trained = cells.spread_trained;
            stats->spread_now = cells.spread_now;
        }
    }
    ki_segment_close(&found);
    ki_buffer_clear(&bad, c->allocator);
    return status;
}

static uint64_t file_bytes(const kith_collection *c, const char *ending)
{
    struct stat info;
    size_t size = strlen(c->path) + strlen(ending) + 1;
    char *name = ki_alloc(c->allocator, size, 1);
    if (!name) return 0;
    snprintf(name, size, "%s%s", c->path, ending);
    uint64_t bytes = stat(name, &info) == 0 ? (uint64_t)info.st_size : 0;
    ki_free(c->allocator, name);
    return bytes;
}

kith_status kith_collection_get_stats(kith_collection *c, kith_collection_stats *stats, kith_error *err)
{
    if (!stats || stats->struct_size != sizeof *stats)
        return ki_fail(err, KITH_INVALID, "stats.struct_size is %zu, expected %zu",
                       stats ? stats->struct_size : 0, sizeof *stats);
    KI_TRY(ki_read_begin(c, err));
    const ki_state *s = &c->state;
    kith_collection_stats filled = {.struct_size = sizeof filled,
                                    .schema = c->schema,
                                    .dim = s->dim,
                                    .metric = s->metric,
                                    .version = s->version,
                                    .rows = s->rows,
                                    .vectors = s->vectors,
                                    .free_slots = (uint64_t)s->last_slot - s->rows,
                                    .database_bytes = file_bytes(c, "") + file_bytes(c, "-wal")};
    for (size_t i = 0; i < sizeof s->id; i++) snprintf(filled.id + 2 * i, 3, "%02x", s->id[i]);
    kith_status status = segment_stats(c, &filled, err);
    ki_read_end(c);
    if (status == KITH_OK) *stats = filled;
    return status;
}
