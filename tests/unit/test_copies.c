/* Copies of collections: the same rows and all that belongs to them, whatever happened before, between and meanwhile; what is
 * refused; and that the first difference is named. */
#include "collections.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kith/copies.h>
#include <kith/fusion.h>
#include <kith/run.h>

enum { DIM = 6 };

static kith_error err;

#define refuse(call, wanted, word)                                                                \
    do {                                                                                          \
        kith_status status_ = (call);                                                             \
        if (status_ != (wanted) || !strstr(err.message, word))                                    \
            fail_msg("%s: %s: %s", #call, kith_status_name(status_), status_ ? err.message : ""); \
    } while (0)

static kith_collection *open_path(const char *path)
{
    kith_collection *c;
    assert_ok(kith_collection_open(path, NULL, &c, &err), &err);
    return c;
}

/* A new path for a copy. */
static const char *fresh(const char *name)
{
    char part[600];
    const char *path = test_path(name);
    test_collection_remove(path);
    snprintf(part, sizeof part, "%s.part", path);
    test_collection_remove(part);
    return path;
}

static void assert_same(kith_collection *a, const char *path)
{
    uint64_t ours, theirs;
    kith_difference d = {.struct_size = sizeof d};
    kith_compare_options options;
    kith_compare_options_init(&options);
    options.everything = 1;
    kith_collection *b = open_path(path);
    assert_ok(kith_collection_check(b, NULL, &err), &err);
    assert_ok(kith_collection_compare(a, b, &options, &d, &err), &err);
    if (d.different) fail_msg("row %lld: %s is %s and %s", (long long)d.key, d.field, d.first, d.second);
    assert_ok(kith_collection_hash(a, NULL, &ours, &err), &err);
    assert_ok(kith_collection_hash(b, NULL, &theirs, &err), &err);
    assert_true(ours == theirs);
    kith_collection_stats s = {.struct_size = sizeof s}, t = {.struct_size = sizeof t};
    assert_ok(kith_collection_get_stats(a, &s, &err), &err);
    assert_ok(kith_collection_get_stats(b, &t, &err), &err);
    assert_true(s.version == t.version && s.rows == t.rows && s.vectors == t.vectors);
    assert_string_equal(s.id, t.id);
    kith_meta m = {0}, n = {0};
    do {
        assert_ok(kith_collection_meta_next(a, NULL, m.name, &m, &err), &err);
        assert_ok(kith_collection_meta_next(b, NULL, n.name, &n, &err), &err);
        assert_true(!m.name == !n.name && m.size == n.size);
        if (m.name) assert_string_equal(m.name, n.name);
        if (m.name) assert_memory_equal(m.value, n.value, m.size);
    } while (m.name);
    kith_field f[8], g[8];
    size_t nf = 8, ng = 8;
    assert_ok(kith_collection_fields(a, f, &nf, &err), &err);
    assert_ok(kith_collection_fields(b, g, &ng, &err), &err);
    assert_int_equal(nf, ng);
    kith_partition p[8], q[8];
    size_t np = 8, nq = 8;
    assert_ok(kith_collection_partitions(a, p, &np, &err), &err);
    assert_ok(kith_collection_partitions(b, q, &nq, &err), &err);
    assert_int_equal(np, nq);
    for (size_t i = 0; i < np; i++) assert_true(strcmp(p[i].name, q[i].name) == 0 && p[i].rows == q[i].rows);
    kith_vector_field v[8], w[8];
    size_t nv = 8, nw = 8;
    assert_ok(kith_collection_vector_fields(a, v, &nv, &err), &err);
    assert_ok(kith_collection_vector_fields(b, w, &nw, &err), &err);
    assert_int_equal(nv, nw);
    for (size_t i = 0; i < nv; i++)
        assert_true(strcmp(v[i].name, w[i].name) == 0 && v[i].vectors == w[i].vectors);
    kith_collection_close(b);
}

/* Nothing, when there is no such partition or field. */
static void put_if_there(kith_status status)
{
    if (status != KITH_NOTFOUND) assert_ok(status, &err);
}

/* What a row may have beside its record, where that is declared. */
static void put_beside(kith_collection *c, int64_t key, unsigned r, const float *x)
{
    static const char *const partitions[] = {"red", "blue", NULL};
    if (r % 2) put_if_there(kith_collection_set_partition(c, key, partitions[r / 2 % 3], &err));
    if (r % 3) put_if_there(kith_collection_put_vector(c, key, "title", r / 3 % 4 ? x : NULL, 2, &err));
    if (r % 5) put_if_there(kith_collection_put_vector(c, key, "sound", r / 5 % 4 ? x : NULL, 3, &err));
}

/* Rows of all kinds. */
static void put_some(kith_collection *c, int64_t first, int n, unsigned seed)
{
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int64_t key = first; key < first + n; key++) {
        float x[DIM];
        char payload[100], text[40], attachment[300];
        unsigned r = (unsigned)key * 2654435761u + seed;
        for (int d = 0; d < DIM; d++) x[d] = (float)((r >> d) % 97);
        snprintf(payload, sizeof payload, "{\"n\":%u,\"a\":{\"b\":[1,%u]}}", r % 1000, r % 13);
        snprintf(text, sizeof text, "t%u-%lld", seed, (long long)key);
        memset(attachment, (int)r, sizeof attachment);
        kith_row row = {.key = key,
                        .payload = payload,
                        .vector = r % 5 ? x : NULL,
                        .dim = r % 5 ? DIM : 0,
                        .attachment = r % 3 ? NULL : attachment,
                        .attachment_size = r % 3 ? 0 : sizeof attachment};
        int64_t used = key;
        if (r % 4 == 0) {
            row.key = 0;
            assert_ok(kith_collection_put_text(c, text, KITH_ROW_ALL, &row, &used, &err), &err);
        } else {
            assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
        }
        put_beside(c, used, r, x);
        if (r % 7 == 0) assert_ok(kith_collection_set_expiry(c, used, r % 2 ? 1000 : 5000000000, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
}

static kith_copy_report synced(kith_collection *c, const char *path, int replace)
{
    kith_copy_report report = {.struct_size = sizeof report};
    kith_copy_options options;
    kith_copy_options_init(&options);
    options.replace = replace;
    assert_ok(kith_collection_sync(c, path, &options, &report, &err), &err);
    return report;
}

static void changes_travel(void **state)
{
    (void)state;
    char copy[512];
    kith_collection *c = test_collection("source.kith", DIM, KITH_L2SQ);
    snprintf(copy, sizeof copy, "%s", fresh("copy.kith"));
    kith_copy_report r = synced(c, copy, 0); /* of nothing */
    assert_same(c, copy);
    put_some(c, 1, 400, 1);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_meta_set(c, "name", "value", 5, &err), &err);
    assert_ok(kith_collection_meta_set(c, "other", "", 0, &err), &err);
    assert_ok(kith_collection_field_add(c, "n", KITH_FIELD_INT, &err), &err);
    assert_ok(kith_collection_partition_add(c, "red", &err), &err);
    assert_ok(kith_collection_partition_add(c, "blue", &err), &err);
    assert_ok(kith_collection_vector_field_add(c, "title", 2, KITH_L2SQ, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    put_some(c, 100, 100, 2);
    r = synced(c, copy, 0);
    assert_int_equal(r.whole, 0);
    assert_same(c, copy);
    /* A few changes, and a text that goes from one row to another before it. */
    assert_ok(kith_collection_begin(c, &err), &err);
    kith_row row = {.payload = "{\"n\":5}"};
    int64_t late, early;
    assert_ok(kith_collection_put_text(c, "wanders", KITH_ROW_PAYLOAD, &row, &late, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    r = synced(c, copy, 0);
    assert_true(r.rows == 1 && r.deleted == 0);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_delete(c, late, &err), &err);
    assert_ok(kith_collection_put_text(c, "wanders", KITH_ROW_PAYLOAD, &row, &early, &err), &err);
    assert_ok(kith_collection_delete(c, 17, &err), &err);
    assert_ok(kith_collection_meta_delete(c, "other", &err), &err);
    assert_ok(kith_collection_meta_set(c, "name", "changed", 7, &err), &err);
    assert_ok(kith_collection_field_drop(c, "n", &err), &err);
    assert_ok(kith_collection_merge(c, 18, "{\"n\":\"a text now\"}", 0, &err), &err);
    assert_ok(kith_collection_field_add(c, "a.b[1]", KITH_FIELD_INT, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    r = synced(c, copy, 0);
    assert_true(r.rows == 2 && r.deleted == 2 && !r.whole);
    assert_same(c, copy);
    r = synced(c, copy, 0);
    assert_true(r.rows == 0 && r.deleted == 0);
    /* Other vectors altogether. */
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_reset_vectors(c, 2, KITH_COSINE, &err), &err);
    float x[2] = {1, 2};
    row = (kith_row){.key = 30, .vector = x, .dim = 2};
    assert_ok(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    r = synced(c, copy, 0);
    assert_int_equal(r.rows, 1);
    assert_same(c, copy);
    kith_collection_close(c);
}

/* The log forgets: a copy that is too far behind is looked at row by row, when that is allowed. */
static void copies_too_far_behind(void **state)
{
    (void)state;
    char copy[512];
    kith_collection *c = test_collection("behind.kith", DIM, KITH_L2SQ);
    snprintf(copy, sizeof copy, "%s", fresh("behind-copy.kith"));
    put_some(c, 1, 50, 1);
    synced(c, copy, 0);
    for (int i = 0; i < 12; i++) put_some(c, 1, 400, 1 + (unsigned)(i % 2)); /* 4096 and one for each row */
    refuse(kith_collection_sync(c, copy, NULL, NULL, &err), KITH_EXISTS, "reaches back");
    kith_copy_report r = synced(c, copy, 1);
    assert_int_equal(r.whole, 1);
    assert_same(c, copy);
    put_some(c, 7, 1, 9);
    assert_int_equal(synced(c, copy, 0).rows, 1);
    assert_same(c, copy);
    kith_collection_close(c);
}

static void nearest(kith_collection *c, int64_t wanted)
{
    static const float origin[DIM];
    int64_t key;
    float distance;
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = 1;
    assert_ok(kith_collection_search(c, 1, DIM, origin, &query, &key, &distance, NULL, &err), &err);
    assert_int_equal(key, wanted);
}

static void count(kith_collection *c, const char *filter, uint64_t wanted)
{
    uint64_t rows;
    assert_ok(kith_collection_count_where(c, filter, &rows, &err), &err);
    assert_int_equal(rows, wanted);
}

static void put_at(kith_collection *c, int64_t key, float at)
{
    float x[DIM] = {at};
    kith_row row = {.key = key, .vector = x, .dim = DIM};
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
}

/* A copy that was written to; readers that have it open while it is made a copy again. */
static void histories_part(void **state)
{
    (void)state;
    char copy[512], snapshot[512];
    kith_collection *c = test_collection("parts.kith", DIM, KITH_L2SQ);
    put_at(c, 1, 5);
    put_at(c, 2, 6);
    snprintf(copy, sizeof copy, "%s", fresh("parts-copy.kith"));
    snprintf(snapshot, sizeof snapshot, "%s", fresh("parts-snapshot.kith"));
    assert_ok(kith_collection_snapshot(c, copy, NULL, NULL, &err), &err);
    assert_ok(kith_collection_snapshot(c, snapshot, NULL, NULL, &err), &err);
    refuse(kith_collection_snapshot(c, snapshot, NULL, NULL, &err), KITH_EXISTS, "already exists");
    kith_collection *open = open_path(copy);
    nearest(open, 1);
    put_at(open, 2, 1); /* its own change: the same version as the next one of the source */
    nearest(open, 2);
    put_at(c, 3, 2);
    refuse(kith_collection_sync(c, copy, NULL, NULL, &err), KITH_EXISTS, "changes of its own");
    nearest(open, 2);
    kith_copy_report r = synced(c, copy, 1);
    assert_int_equal(r.rows, 2);
    nearest(open, 3);
    assert_same(c, copy);
    /* Back in time, with handles that have more than the snapshot knows. */
    kith_copy_options options;
    kith_copy_options_init(&options);
    put_at(c, 4, 0);
    nearest(c, 4);
    count(c, "$key > 3", 1);
    refuse(kith_collection_restore(snapshot, kith_collection_path(c), &options, NULL, &err), KITH_EXISTS,
           "already");
    options.replace = 1;
    assert_ok(kith_collection_restore(snapshot, kith_collection_path(c), &options, &r, &err), &err);
    assert_int_equal(r.deleted, 2);
    nearest(c, 1);
    assert_same(c, snapshot);
    put_at(c, 5, 1); /* the same version as before, with another row */
    put_at(c, 6, 7);
    put_at(c, 7, 7);
    nearest(c, 5);
    count(c, "$key > 3", 3); /* remembered, of a row that is not there any more */
    kith_collection_close(open);
    kith_collection_close(c);
}

static void segments_travel(void **state)
{
    (void)state;
    char copy[512];
    kith_fold_options fold;
    kith_collection_stats s = {.struct_size = sizeof s};
    kith_collection *c = test_collection("segments.kith", DIM, KITH_L2SQ);
    put_some(c, 1, 500, 3);
    kith_fold_options_init(&fold);
    fold.spec = "Flat";
    fold.always = 1;
    assert_ok(kith_collection_fold(c, &fold, &err), &err);
    snprintf(copy, sizeof copy, "%s", fresh("segments-copy.kith"));
    kith_copy_report r = synced(c, copy, 0);
    assert_true(r.segment_bytes > 0);
    put_some(c, 600, 3, 3);
    r = synced(c, copy, 0);
    assert_int_equal(r.segment_bytes, 0);
    kith_collection *b = open_path(copy);
    assert_ok(kith_collection_get_stats(b, &s, &err), &err);
    assert_true(s.segment_rows > 300 && s.uncovered > 0);
    assert_string_equal(s.segment_spec, "Flat");
    assert_ok(kith_collection_fold(c, &fold, &err), &err);
    r = synced(c, copy, 0);
    assert_true(r.rows == 0 && r.segment_bytes > 0);
    assert_ok(kith_collection_get_stats(b, &s, &err), &err);
    assert_int_equal(s.uncovered, 0);
    kith_collection_close(b);
    assert_same(c, copy);
    kith_collection_close(c);
}

/* ---- Interrupted ---- */

typedef struct alarm_clock {
    kith_cancel cancel;
    unsigned microseconds;
} alarm_clock;

static void *ring(void *arg)
{
    alarm_clock *a = arg;
    usleep(a->microseconds);
    kith_cancel_raise(&a->cancel);
    return NULL;
}

static kith_status sync_for(kith_collection *c, const char *path, unsigned microseconds, kith_copy_report *r)
{
    alarm_clock a = {.microseconds = microseconds};
    pthread_t thread;
    kith_run run;
    kith_copy_options options;
    kith_run_init(&run);
    kith_copy_options_init(&options);
    run.cancel = &a.cancel;
    options.run = &run;
    assert_int_equal(pthread_create(&thread, NULL, ring, &a), 0);
    kith_status status = kith_collection_sync(c, path, &options, r, &err);
    pthread_join(thread, NULL);
    return status;
}

/* Cancelled again and again, the source changing in between: a part is never opened, and in the end all is there. */
static void interrupted_copies_go_on(void **state)
{
    (void)state;
    char copy[512], part[600];
    kith_collection *c = test_collection("interrupted.kith", DIM, KITH_L2SQ), *none;
    kith_copy_report r = {.struct_size = sizeof r};
    snprintf(copy, sizeof copy, "%s", fresh("interrupted-copy.kith"));
    snprintf(part, sizeof part, "%s.part", copy);
    put_some(c, 1, 12000, 1);
    kith_status status = KITH_CANCELLED;
    int cancelled = 0;
    for (unsigned round = 1; status == KITH_CANCELLED; round++) {
        assert_true(access(copy, F_OK) != 0);
        status = sync_for(c, copy, round * 20000, &r);
        cancelled += status == KITH_CANCELLED;
        if (status == KITH_CANCELLED && access(part, F_OK) == 0)
            refuse(kith_collection_open(part, NULL, &none, &err), KITH_FORMAT, "not");
        put_some(c, (int64_t)(round * 997) % 11000 + 1, 20, round);
    }
    assert_ok(status, &err);
    assert_true(cancelled > 0);
    assert_true(r.resumed_rows > 0);
    synced(c, copy, 0);
    assert_same(c, copy);
    assert_true(access(part, F_OK) != 0);
    kith_collection_close(c);
}

/* What stands where a part would be, and is none of this copy. */
static void foreign_parts_are_thrown_away(void **state)
{
    (void)state;
    char copy[512], part[600];
    kith_collection *c = test_collection("foreign.kith", DIM, KITH_L2SQ);
    kith_collection *other = test_collection("foreign-other.kith", DIM, KITH_L2SQ);
    put_some(c, 1, 100, 1);
    put_some(other, 1, 50, 2);
    kith_collection_close(other);
    assert_ok(kith_collection_optimize(c, NULL, &err), &err); /* its file alone is all of it */
    snprintf(copy, sizeof copy, "%s", fresh("foreign-copy.kith"));
    snprintf(part, sizeof part, "%s.part", copy);
    for (int kind = 0; kind < 4; kind++) {
        if (kind == 0) test_write_file(part, "", 0);
        if (kind == 1) test_write_file(part, "what is this?", 13);
        if (kind == 2) test_copy_file(test_path("foreign-other.kith"), part);
        if (kind == 3) test_copy_file(kith_collection_path(c), part); /* finished, but not renamed */
        kith_copy_report r = synced(c, copy, 0);
        assert_int_equal(r.resumed_rows > 0, kind == 3);
        assert_same(c, copy);
        assert_true(access(part, F_OK) != 0);
        test_collection_remove(copy);
    }
    /* Somebody works on it. */
    sqlite3 *db;
    test_copy_file(kith_collection_path(c), part);
    assert_int_equal(sqlite3_open(part, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT * FROM collection", NULL, NULL, NULL), SQLITE_OK);
    kith_collection_options open;
    kith_copy_options options;
    kith_collection_options_init(&open);
    kith_copy_options_init(&options);
    open.wait_ms = 0;
    options.open = &open;
    refuse(kith_collection_sync(c, copy, &options, NULL, &err), KITH_BUSY, "part");
    sqlite3_close(db);
    kith_collection_close(c);
}

/* ---- Refused ---- */

static void what_is_refused(void **state)
{
    (void)state;
    char copy[512];
    kith_copy_options options;
    kith_copy_options_init(&options);
    kith_collection *c = test_collection("refused.kith", DIM, KITH_L2SQ);
    snprintf(copy, sizeof copy, "%s", fresh("refused-copy.kith"));
    put_some(c, 1, 20, 1);
    refuse(kith_collection_sync(c, kith_collection_path(c), NULL, NULL, &err), KITH_INVALID, "its own copy");
    refuse(kith_collection_sync(c, "", NULL, NULL, &err), KITH_INVALID, "path");
    refuse(kith_collection_sync(NULL, copy, NULL, NULL, &err), KITH_INVALID, "source");
    refuse(kith_collection_sync(c, copy, NULL, &(kith_copy_report){0}, &err), KITH_INVALID, "struct_size");
    refuse(kith_collection_sync(c, "/no/such/folder/x.kith", NULL, NULL, &err), KITH_NOTFOUND, "x.kith");
    refuse(kith_collection_restore(test_path("missing.kith"), copy, NULL, NULL, &err), KITH_NOTFOUND,
           "missing");
    options.struct_size = 1;
    refuse(kith_collection_sync(c, copy, &options, NULL, &err), KITH_INVALID, "struct_size");
    assert_ok(kith_collection_begin(c, &err), &err);
    refuse(kith_collection_sync(c, copy, NULL, NULL, &err), KITH_INVALID, "batch");
    kith_collection_rollback(c);
    test_write_file(copy, "no collection", 13);
    refuse(kith_collection_sync(c, copy, NULL, NULL, &err), KITH_FORMAT, "not a");
    assert_int_equal(unlink(copy), 0);
    kith_collection *other = test_collection("refused-copy.kith", DIM, KITH_L2SQ);
    refuse(kith_collection_sync(c, copy, NULL, NULL, &err), KITH_EXISTS, "another collection");
    kith_collection_close(other);
    test_collection_remove(copy);
    /* A row that is not sound is not copied. */
    sqlite3 *db;
    assert_int_equal(sqlite3_open(kith_collection_path(c), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE record SET vector = x'00' WHERE key = 7", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    refuse(kith_collection_sync(c, copy, NULL, NULL, &err), KITH_CORRUPT, "row 7");
    assert_true(access(copy, F_OK) != 0);
    refuse(kith_collection_restore(kith_collection_path(c), copy, NULL, NULL, &err), KITH_CORRUPT, "row 7");
    kith_collection_close(c);
}

/* A pinned source is copied as it is pinned. */
static void pinned_states_are_copied(void **state)
{
    (void)state;
    char copy[512];
    kith_collection *c = test_collection("pinned.kith", DIM, KITH_L2SQ);
    put_some(c, 1, 30, 1);
    kith_collection *reader = open_path(kith_collection_path(c));
    assert_ok(kith_collection_pin(reader, &err), &err);
    put_some(c, 31, 10, 1);
    snprintf(copy, sizeof copy, "%s", fresh("pinned-copy.kith"));
    synced(reader, copy, 0);
    assert_same(reader, copy);
    kith_collection_unpin(reader);
    assert_int_equal(synced(reader, copy, 0).rows, 10);
    assert_same(c, copy);
    kith_collection_close(reader);
    kith_collection_close(c);
}

/* ---- Differences ---- */

static void differences_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *field, *second;
        int64_t key;
    } cases[] = {
        {"UPDATE record SET payload = '{\"a\":{\"b\":[1,8]},\"n\":5}' WHERE key = 2", "payload.a.b[1]", "8",
         2},
        {"UPDATE record SET payload = '{\"a\":{\"b\":[1]},\"n\":5}' WHERE key = 2", "payload.a.b[1]",
         "nothing", 2},
        {"UPDATE record SET payload = '{\"n\":5.0}' WHERE key = 3", "payload.n", "5.0", 3},
        {"UPDATE record SET payload = '{\"n\":5,\"z\":null}' WHERE key = 3", "payload.z", "null", 3},
        {"UPDATE record SET vector = x'0000803f00000040' WHERE key = 4", "vector[1]", "2", 4},
        {"UPDATE record SET vector = NULL WHERE key = 4", "vector", "nothing", 4},
        {"DELETE FROM record WHERE key = 3", "row", "nothing", 3},
        {"UPDATE record SET key = 9 WHERE key = 4; UPDATE collection SET last_key = 9", "row", "nothing", 4},
        {"UPDATE text_key SET text = 'else' WHERE key = 5", "text", "else", 5},
        {"DELETE FROM text_key", "text", "nothing", 5},
        {"UPDATE expiry SET at = 77", "expires", "77", 1},
        {"UPDATE expiry SET at = 77; DELETE FROM record WHERE key = 2", "expires", "77", 1},
        {"DELETE FROM text_key; DELETE FROM record WHERE key = 2", "row", "nothing", 2},
        {"UPDATE attachment SET value = x'00'", "attachment", "1 bytes", 1},
        {"UPDATE collection SET metric = 3", "metric", "l1", 0},
        {"DELETE FROM member", "partition", "nothing", 3},
        {"UPDATE part SET name = 'blue'", "partition", "blue", 3},
        {"UPDATE space_vector SET vector = x'0000803f00004040'", "vector title[1]", "3", 2},
        {"UPDATE space_vector SET vector = x'0000803f00004040'; DELETE FROM member; DELETE FROM expiry",
         "expires", "nothing", 1},
        {"DELETE FROM space_vector; UPDATE space SET vectors = 0", "vector title", "nothing", 2},
        {"UPDATE space SET metric = 1", "vectors title", "of 2 components, dot", 0},
    };
    kith_collection *c = test_collection("first.kith", 2, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    float x[2] = {1, 0};
    for (int64_t key = 1; key < 5; key++) {
        kith_row row = {.key = key,
                        .payload = key == 2 ? "{\"n\":5,\"a\":{\"b\":[1,2]}}" : "{\"n\":5}",
                        .vector = x,
                        .dim = 2,
                        .attachment = key == 1 ? "ab" : NULL,
                        .attachment_size = key == 1 ? 2 : 0};
        assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
    }
    kith_row row = {.payload = "{}"};
    assert_ok(kith_collection_put_text(c, "some", KITH_ROW_ALL, &row, NULL, &err), &err);
    assert_ok(kith_collection_set_expiry(c, 1, 5000000000, &err), &err);
    assert_ok(kith_collection_partition_add(c, "red", &err), &err);
    assert_ok(kith_collection_set_partition(c, 3, "red", &err), &err);
    assert_ok(kith_collection_vector_field_add(c, "title", 2, KITH_L2SQ, NULL, &err), &err);
    assert_ok(kith_collection_put_vector(c, 2, "title", x, 2, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kith_difference d = {.struct_size = sizeof d};
        kith_compare_options options;
        kith_compare_options_init(&options);
        const char *path = fresh("second.kith");
        synced(c, path, 0);
        sqlite3 *db;
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        if (sqlite3_exec(db, cases[i].sql, NULL, NULL, NULL) != SQLITE_OK) fail_msg("%s", sqlite3_errmsg(db));
        sqlite3_close(db);
        kith_collection *b = open_path(path);
        assert_ok(kith_collection_compare(c, b, &options, &d, &err), &err);
        assert_int_equal(d.different, strcmp(cases[i].field, "attachment") != 0);
        options.everything = 1;
        assert_ok(kith_collection_compare(c, b, &options, &d, &err), &err);
        if (d.key != cases[i].key || strcmp(d.field, cases[i].field) || strcmp(d.second, cases[i].second))
            fail_msg("%s: row %lld: %s is %s, there %s", cases[i].sql, (long long)d.key, d.field, d.first,
                     d.second);
        assert_true(d.different && strcmp(d.first, d.second) != 0);
        kith_collection_close(b);
    }
    kith_difference d = {.struct_size = sizeof d};
    refuse(kith_collection_compare(c, c, NULL, &d, &err), KITH_INVALID, "two");
    kith_collection_close(c);
}

/* ---- At random ---- */

/* Whatever is done to the source, and however the copy was before: in the end they are the same. */
static void at_random(void **state)
{
    (void)state;
    char copy[512];
    kith_collection *c = test_collection("random.kith", DIM, KITH_L2SQ);
    snprintf(copy, sizeof copy, "%s", fresh("random-copy.kith"));
    srand((unsigned)test_seed());
    for (int round = 0; round < 60; round++) {
        for (int i = rand() % 4; i > 0; i--) {
            switch (rand() % 9) {
            case 0:
            case 1: put_some(c, 1 + rand() % 300, 1 + rand() % 60, (unsigned)rand() % 3); break;
            case 2:
                assert_ok(kith_collection_begin(c, &err), &err);
                for (int n = rand() % 40; n > 0; n--) kith_collection_delete(c, 1 + rand() % 350, NULL);
                assert_ok(kith_collection_commit(c, &err), &err);
                break;
            case 3:
                assert_ok(kith_collection_begin(c, &err), &err);
                assert_ok(kith_collection_remove_expired(c, 0, NULL, &err), &err);
                assert_ok(kith_collection_commit(c, &err), &err);
                break;
            case 4:
                assert_ok(kith_collection_begin(c, &err), &err);
                kith_collection_meta_set(c, rand() % 2 ? "x" : "y", "value", (size_t)(rand() % 6), &err);
                assert_ok(kith_collection_commit(c, &err), &err);
                break;
            case 5:
            case 6:
                assert_ok(kith_collection_begin(c, &err), &err);
                if (rand() % 3 == 0)
                    kith_collection_partition_drop(c, rand() % 2 ? "red" : "blue", NULL, NULL);
                else
                    kith_collection_partition_add(c, rand() % 2 ? "red" : "blue", NULL);
                assert_ok(kith_collection_commit(c, &err), &err);
                break;
            case 7:
                assert_ok(kith_collection_begin(c, &err), &err);
                if (rand() % 3 == 0)
                    kith_collection_vector_field_drop(c, rand() % 2 ? "title" : "sound", NULL);
                else if (rand() % 2)
                    kith_collection_vector_field_add(c, "title", 2, KITH_L2SQ, NULL, NULL);
                else
                    kith_collection_vector_field_add(c, "sound", 3, KITH_DOT, "Flat", NULL);
                assert_ok(kith_collection_commit(c, &err), &err);
                break;
            default:
                assert_ok(kith_collection_begin(c, &err), &err);
                kith_collection_reset_vectors(c, DIM, rand() % 2 ? KITH_L2SQ : KITH_DOT, &err);
                assert_ok(kith_collection_commit(c, &err), &err);
            }
        }
        if (rand() % 12 == 0) test_collection_remove(copy);
        int own = rand() % 6 == 0 && access(copy, F_OK) == 0;
        if (own) {
            kith_collection *b = open_path(copy);
            put_some(b, 1 + rand() % 400, 5, 8);
            kith_collection_close(b);
        }
        synced(c, copy, own);
        assert_same(c, copy);
    }
    kith_collection_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_travel),           cmocka_unit_test(copies_too_far_behind),
        cmocka_unit_test(histories_part),           cmocka_unit_test(segments_travel),
        cmocka_unit_test(interrupted_copies_go_on), cmocka_unit_test(foreign_parts_are_thrown_away),
        cmocka_unit_test(what_is_refused),          cmocka_unit_test(pinned_states_are_copied),
        cmocka_unit_test(differences_are_named),    cmocka_unit_test(at_random),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
