/* sqlite_db.c - SQLite as the engine uses it: opened with every safety setting on, statements prepared once, its
 * result codes turned into ours.
 *
 * A collection may come from anywhere, so the file is treated as hostile: triggers and views are switched off,
 * functions with side effects cannot be named by its schema (trusted_schema), cells are checked when a page is read,
 * and it is never mapped into memory, where a change of the file under us would be a change of our memory. */
#include "base/run.h"
#include "engine/filter_rows.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Pages kept in memory by a handle, KiB. Arbitrary: enough for the inner pages of a million rows. */
#define CACHE_KIB 16384

static const char *const sql_text[KI_SQL_COUNT] = {
#define X(name, text) [KI_SQL_##name] = text,
#include "engine/sql.def"
#undef X
};

static kith_status status_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK: return KITH_OK;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return KITH_BUSY;
    case SQLITE_NOMEM: return KITH_NOMEM;
    case SQLITE_READONLY:
    case SQLITE_PERM: return KITH_READONLY;
    case SQLITE_IOERR: return rc == SQLITE_IOERR_NOMEM ? KITH_NOMEM : KITH_IO;
    case SQLITE_FULL:
    case SQLITE_CANTOPEN:
    case SQLITE_PROTOCOL: return KITH_IO;
    case SQLITE_NOTADB: return KITH_FORMAT;
    case SQLITE_INTERRUPT: return KITH_CANCELLED;
    case SQLITE_TOOBIG: return KITH_INVALID;
    /* The tables were compared with the schema when the file was opened and statements name only those, so what
     * does not fit any more was changed or damaged since. */
    case SQLITE_CORRUPT:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_SCHEMA:
    case SQLITE_ERROR: return KITH_CORRUPT;
    }
    return KITH_INTERNAL;
}

kith_status ki_db_fail(const kith_collection *c, int rc, kith_error *err, const char *what)
{
    kith_status status = status_of(rc);
    const char *text =
        c->db && sqlite3_errcode(c->db) != SQLITE_OK ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc);
    if (status == KITH_BUSY)
        ki_fail(err, status, "%s: %s: another handle or process was writing for all of the %u ms waited",
                c->path, what, c->wait_ms);
    else if (status == KITH_FORMAT)
        ki_fail(err, status, "%s is not a collection", c->path);
    else
        ki_fail(err, status, "%s: %s: %s", c->path, what, text);
    if (err && c->db && status == KITH_IO) err->sys_errno = sqlite3_system_errno(c->db);
    return status;
}

kith_status ki_corrupt(const kith_collection *c, kith_error *err, const char *fmt, ...)
{
    char message[sizeof((kith_error *)0)->message];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    return ki_fail(err, KITH_CORRUPT, "%s: %s", c->path, message);
}

/* The path as a URI, so that no character of it has a meaning to SQLite, and so that `immutable` can be said. */
static kith_status make_uri(const kith_collection *c, const char *path, int immutable, ki_buffer *uri,
                            kith_error *err)
{
    static const char hex[] = "0123456789ABCDEF";
    /* "file:///abs" or "file:relative": after "file:" two slashes would begin a host name. */
    const char *start = path[0] == '/' ? "file://" : "file:";
    KI_TRY(ki_buffer_append(uri, start, strlen(start), c->allocator, err));
    for (const char *p = path; *p; p++) {
        unsigned char b = (unsigned char)*p;
        int plain = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') ||
                    strchr("/-_.~", b) != NULL;
        char escaped[3] = {'%', hex[b >> 4], hex[b & 15]};
        if (plain)
            KI_TRY(ki_buffer_append(uri, p, 1, c->allocator, err));
        else
            KI_TRY(ki_buffer_append(uri, escaped, 3, c->allocator, err));
    }
    const char *end = immutable ? "?immutable=1" : "";
    return ki_buffer_append(uri, end, strlen(end) + 1, c->allocator, err);
}

int ki_db_moved(kith_collection *c)
{
    int moved = 0;
    return sqlite3_file_control(c->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved;
}

void ki_db_patience(kith_collection *c, unsigned wait_ms)
{
    sqlite3_busy_timeout(c->db, wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms);
}

static kith_status configure(kith_collection *c, kith_error *err)
{
    static const struct {
        int option, value;
    } settings[] = {
        {SQLITE_DBCONFIG_DEFENSIVE, 1},      {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
        {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0}, {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
        {SQLITE_DBCONFIG_DQS_DDL, 0},        {SQLITE_DBCONFIG_DQS_DML, 0},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        int rc = sqlite3_db_config(c->db, settings[i].option, settings[i].value, (int *)NULL);
        if (rc != SQLITE_OK) return ki_db_fail(c, rc, err, "cannot be opened");
    }
    int rc = ki_payload_functions(c->db);
    if (rc == SQLITE_OK) rc = ki_filter_functions(c);
    if (rc != SQLITE_OK) return ki_db_fail(c, rc, err, "cannot be opened");
    sqlite3_limit(c->db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_limit(c->db, SQLITE_LIMIT_LENGTH, (int)KITH_COLLECTION_MAX_META + (1 << 20));
    ki_db_patience(c, c->wait_ms);
    char pragmas[320];
    uint64_t pages = c->log_bytes / KI_PAGE_BYTES;
    pages = pages < 1 ? 1 : pages > INT32_MAX ? INT32_MAX : pages;
    /* secure_delete=FAST: Debian's library zeroes every freed page by default, which doubles the writing of a
     * delete; FAST zeroes where a page is written anyway. */
    snprintf(
        pragmas, sizeof pragmas,
        "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0; PRAGMA synchronous=FULL; PRAGMA secure_delete=FAST;"
        "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-%d; PRAGMA query_only=%d; PRAGMA wal_autocheckpoint=%d",
        CACHE_KIB, c->read_only != 0, (int)pages);
    return ki_db_exec(c, pragmas, "cannot be opened", err);
}

kith_status ki_db_open(kith_collection *c, const char *path, int flags, int immutable, kith_error *err)
{
    ki_buffer uri = {0};
    kith_status status = make_uri(c, path, immutable, &uri, err);
    if (status == KITH_OK) {
        /* One thread at a time uses a handle, so SQLite need not lock around every call. */
        int rc =
            sqlite3_open_v2((const char *)uri.data, &c->db,
                            flags | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
        if (rc == SQLITE_OK)
            sqlite3_extended_result_codes(c->db, 1);
        else
            status = ki_db_fail(c, c->db ? sqlite3_extended_errcode(c->db) : rc, err, "cannot be opened");
    }
    ki_buffer_clear(&uri, c->allocator);
    if (status == KITH_OK) status = configure(c, err);
    if (status != KITH_OK) ki_db_close(c);
    return status;
}

void ki_db_close(kith_collection *c)
{
    for (size_t i = 0; i < KI_SQL_COUNT; i++) {
        sqlite3_finalize(c->stmt[i]);
        c->stmt[i] = NULL;
    }
    sqlite3_close(c->db);
    c->db = NULL;
}

kith_status ki_db_exec(kith_collection *c, const char *sql, const char *what, kith_error *err)
{
    int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? KITH_OK : ki_db_fail(c, rc, err, what);
}

kith_status ki_db_pragma(kith_collection *c, const char *name, int64_t *value, kith_error *err)
{
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA %s", name);
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) *value = sqlite3_column_int64(stmt, 0);
    kith_status status = rc == SQLITE_ROW ? KITH_OK : ki_db_fail(c, rc, err, "cannot be read");
    sqlite3_finalize(stmt);
    return status;
}

kith_status ki_db_prepare(kith_collection *c, enum ki_sql which, sqlite3_stmt **stmt, kith_error *err)
{
    if (!c->stmt[which]) {
        int rc =
            sqlite3_prepare_v3(c->db, sql_text[which], -1, SQLITE_PREPARE_PERSISTENT, &c->stmt[which], NULL);
        if (rc != SQLITE_OK) return ki_db_fail(c, rc, err, "cannot be read");
    }
    *stmt = c->stmt[which];
    return KITH_OK;
}

void ki_db_reset(kith_collection *c, enum ki_sql which)
{
    sqlite3_reset(c->stmt[which]);
}

kith_status ki_db_step(kith_collection *c, enum ki_sql which, int *row, kith_error *err)
{
    int rc = sqlite3_step(c->stmt[which]);
    *row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW) return KITH_OK;
    kith_status status = rc == SQLITE_DONE ? KITH_OK : ki_db_fail(c, rc, err, "cannot be read or written");
    sqlite3_reset(c->stmt[which]);
    return status;
}

kith_status ki_db_run(kith_collection *c, enum ki_sql which, kith_error *err)
{
    int row;
    kith_status status = ki_db_step(c, which, &row, err);
    if (status == KITH_OK && row) ki_db_reset(c, which);
    return status;
}

kith_status ki_db_do(kith_collection *c, enum ki_sql which, kith_error *err)
{
    sqlite3_stmt *stmt;
    KI_TRY(ki_db_prepare(c, which, &stmt, err));
    return ki_db_run(c, which, err);
}

/* ---- Limits ---- */

/* Steps of SQLite's machine between two looks at the limit: some hundred rows. */
#define LIMIT_STEPS 10000

int ki_limit_reached(const ki_limit *limit)
{
    return kith_cancel_raised(limit->cancel) || (limit->deadline_ns > 0 && ki_now_ns() >= limit->deadline_ns);
}

uint64_t ki_deadline_ns(uint64_t max_microseconds)
{
    uint64_t now = ki_now_ns();
    if (max_microseconds == 0) return 0;
    return max_microseconds > (UINT64_MAX - now) / 1000 ? UINT64_MAX : now + max_microseconds * 1000;
}

static int look_at_limit(void *limit)
{
    return ki_limit_reached(limit);
}

void ki_limit_begin(kith_collection *c, const ki_limit *limit)
{
    if (limit && (limit->cancel || limit->deadline_ns > 0))
        sqlite3_progress_handler(c->db, LIMIT_STEPS, look_at_limit, (void *)(uintptr_t)limit);
}

void ki_limit_end(kith_collection *c)
{
    sqlite3_progress_handler(c->db, 0, NULL, NULL);
}
