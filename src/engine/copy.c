/* copy.c - copies of collections: the files they grow in, and when one of them becomes a collection.
 *
 *     PATH.part     a first copy that is not finished: a database like a collection's, but with another application_id, so
 *                   that nothing opens it as one. SQLite's lock on it is held as long as a process works on it, and goes
 *                   with the process.
 *     PATH          the same file, renamed when its last transaction, which gives it the application_id of a collection,
 *                   has been moved from the log into it and is on the disk.
 *
 * A copy that exists is changed by one transaction, of which SQLite makes sure that it is there wholly or not at all. */
#include <kith/copies.h>

#include "base/io.h"
#include "base/options.h"
#include "engine/copy.h"
#include "engine/fields.h"
#include "engine/vectors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *part_path(const kith_collection *c, const char *path)
{
    size_t size = strlen(path) + sizeof ".part";
    char *part = ki_alloc(c->allocator, size, 1);
    if (part) snprintf(part, size, "%s.part", path);
    return part;
}

/* ---- The file of a first copy ---- */

static kith_status open_file(kith_collection *to, int flags, kith_error *err)
{
    KI_TRY(ki_db_open(to, to->path, SQLITE_OPEN_READWRITE | flags, 0, err));
    /* Held from the first read on until the file is closed, so that no two processes fill it. */
    return ki_db_exec(to, "PRAGMA locking_mode=EXCLUSIVE", "cannot be opened", err);
}

/* A part that was finished but not renamed is a part again; what it was declared to have does not hold for what comes. */
static kith_status open_again(ki_copy *x)
{
    char pragma[64];
    snprintf(pragma, sizeof pragma, "PRAGMA application_id=%d", KI_PART_ID);
    KI_TRY(kith_collection_begin(x->to, x->err));
    kith_status status = ki_db_exec(x->to, pragma, "cannot be written", x->err);
    while (status == KITH_OK && x->to->fields->n > 0) {
        char name[KITH_COLLECTION_MAX_FIELD_NAME + 1];
        strcpy(name, x->to->fields->items[0].name);
        status = kith_collection_field_drop(x->to, name, x->err);
    }
    if (status == KITH_OK) return kith_collection_commit(x->to, x->err);
    kith_collection_rollback(x->to);
    return status;
}

/* Open what an earlier call left behind. *usable 0: it is not a part of this copy, or was killed when it was made. */
static kith_status open_part(ki_copy *x, int *usable)
{
    kith_error why;
    *usable = 0;
    kith_status status = open_file(x->to, 0, &why);
    if (status == KITH_OK) status = ki_schema_open(x->to, &why);
    if (status == KITH_OK) status = ki_use_log(x->to, &why);
    if (status == KITH_OK) {
        *usable = memcmp(x->to->state.id, x->from->state.id, sizeof x->to->state.id) == 0;
        x->report.resumed_rows = x->to->state.rows;
        return *usable ? open_again(x) : KITH_OK;
    }
    if (status == KITH_FORMAT || status == KITH_CORRUPT || status == KITH_VERSION) return KITH_OK;
    if (x->err) *x->err = why;
    return status;
}

static kith_status make_part(ki_copy *x)
{
    x->to->state = (ki_state){.dim = x->from->state.dim, .metric = x->from->state.metric, .oldest = 1};
    KI_TRY(open_file(x->to, SQLITE_OPEN_CREATE, x->err));
    KI_TRY(ki_schema_create(x->to, x->err));
    KI_TRY(ki_use_log(x->to, x->err));
    KI_TRY(kith_collection_begin(x->to, x->err));
    kith_status status = ki_copy_begin(x);
    if (status == KITH_OK) return kith_collection_commit(x->to, x->err);
    kith_collection_rollback(x->to);
    return status;
}

/* x->to, open: what was there, or new. */
static kith_status take_part(ki_copy *x)
{
    struct stat info;
    int usable = 0, there = stat(x->to->path, &info) == 0;
    if (there) KI_TRY(open_part(x, &usable));
    if (usable) return KITH_OK;
    ki_db_close(x->to);
    ki_fields_clear(x->to);
    x->report.resumed_rows = 0;
    ki_remove_database(x->to->path, x->to->allocator); /* a log without its database, too */
    return make_part(x);
}

/* Everything into the one file, which is closed. */
static kith_status settle(kith_collection *to, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(to, KI_SQL_CHECKPOINT, &stmt, err));
    KI_TRY(ki_db_step(to, KI_SQL_CHECKPOINT, &row, err));
    int left = row ? sqlite3_column_int(stmt, 0) != 0 || sqlite3_column_int(stmt, 1) > 0 : 1;
    if (row) ki_db_reset(to, KI_SQL_CHECKPOINT);
    if (left) return ki_fail(err, KITH_BUSY, "%s: its log cannot be worked in", to->path);
    ki_db_close(to);
    return KITH_OK;
}

/* ---- First copy, later copy ---- */

static kith_status end_with_segment(ki_copy *x, const char *path, const kith_copy_options *options)
{
    return options->without_segment ? KITH_OK : ki_copy_segment(x, path);
}

/* x->from is pinned in the end only, unless the caller had pinned it. */
static kith_status with_pin(ki_copy *x,
                            kith_status (*act)(ki_copy *, const char *, const kith_copy_options *),
                            const char *path, const kith_copy_options *options)
{
    int pinned = x->from->mode == KI_PINNED;
    if (!pinned) KI_TRY(kith_collection_pin(x->from, x->err));
    kith_status status = act(x, path, options);
    if (!pinned) kith_collection_unpin(x->from);
    return status;
}

static kith_status open_as_part(ki_copy *x, const char *path, const kith_copy_options *options)
{
    (void)path;
    (void)options;
    return take_part(x);
}

static kith_status finish_part(ki_copy *x, const char *path, const kith_copy_options *options)
{
    int published = 0;
    kith_collection *named = NULL;
    KI_TRY(ki_copy_finish(x));
    KI_TRY(settle(x->to, x->err));
    KI_TRY(ki_handle_create(path, options->open, &named, x->err));
    kith_status status = ki_publish(named, x->to->path, &published, x->err);
    kith_collection_close(named);
    return status == KITH_OK ? end_with_segment(x, path, options) : status;
}

static kith_status copy_first(ki_copy *x, const char *path, const kith_copy_options *options)
{
    char *part = part_path(x->from, path);
    if (!part) return ki_fail_nomem(x->err, strlen(path));
    kith_status status = ki_handle_create(part, options->open, &x->to, x->err);
    ki_free(x->from->allocator, part);
    if (status != KITH_OK) return status;
    x->first = x->to->half = x->to->adopts = 1;
    status = ki_check_folder(x->to, x->err);
    if (status == KITH_OK) status = with_pin(x, open_as_part, path, options);
    if (status == KITH_OK) {
        ki_stage_begin(&x->stage, x->run, "copying", x->from->state.rows);
        status = ki_copy_fill(x);
    }
    if (status == KITH_OK) status = with_pin(x, finish_part, path, options);
    kith_collection_close(x->to);
    return status;
}

static kith_status finish_later(ki_copy *x, const char *path, const kith_copy_options *options)
{
    KI_TRY(ki_copy_finish(x));
    return end_with_segment(x, path, options);
}

static kith_status copy_later(ki_copy *x, const char *path, const kith_copy_options *options)
{
    KI_TRY(kith_collection_open(path, options->open, &x->to, x->err));
    x->to->adopts = 1;
    kith_status status = with_pin(x, finish_later, path, options);
    kith_collection_close(x->to);
    return status;
}

/* ---- The calls ---- */

static int same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static kith_status read_options(const kith_collection *source, const kith_copy_options *given,
                                kith_copy_options *options, kith_collection_options *open, kith_error *err)
{
    kith_copy_options_init(options);
    KI_TRY(ki_options_read(options, sizeof *options, given, "options", err));
    kith_collection_options_init(open);
    open->allocator = source->allocator;
    open->io = source->io;
    open->wait_ms = source->wait_ms;
    open->exact_rows = source->exact_rows;
    if (!options->open) options->open = open;
    if (options->open->read_only) return ki_fail(err, KITH_INVALID, "read_only is set, a copy is written");
    return KITH_OK;
}

static kith_status copy(kith_collection *source, const char *path, int new_only,
                        const kith_copy_options *given, kith_copy_report *report, kith_error *err)
{
    kith_copy_options options;
    kith_collection_options open;
    struct stat info;
    if (!source) return ki_fail(err, KITH_INVALID, "source is NULL");
    if (!path || !*path) return ki_fail(err, KITH_INVALID, "path is empty");
    if (report && report->struct_size != sizeof *report)
        return ki_fail(err, KITH_INVALID, "report.struct_size is %zu, expected %zu", report->struct_size,
                       sizeof *report);
    if (source->mode == KI_BATCH) return ki_fail(err, KITH_INVALID, "the collection is in a batch");
    KI_TRY(read_options(source, given, &options, &open, err));
    if (same_file(source->path, path)) return ki_fail(err, KITH_INVALID, "%s would be its own copy", path);
    ki_copy x = {.from = source, .run = options.run, .replace = options.replace, .err = err};
    int there = lstat(path, &info) == 0;
    if (there && new_only) return ki_fail(err, KITH_EXISTS, "%s: already exists", path);
    KI_TRY(there ? copy_later(&x, path, &options) : copy_first(&x, path, &options));
    x.report.struct_size = sizeof x.report;
    if (report) *report = x.report;
    return KITH_OK;
}

kith_status kith_collection_sync(kith_collection *source, const char *path, const kith_copy_options *options,
                                 kith_copy_report *report, kith_error *err)
{
    return copy(source, path, 0, options, report, err);
}

kith_status kith_collection_snapshot(kith_collection *source, const char *path,
                                     const kith_copy_options *options, kith_copy_report *report,
                                     kith_error *err)
{
    return copy(source, path, 1, options, report, err);
}

kith_status kith_collection_restore(const char *snapshot, const char *path, const kith_copy_options *given,
                                    kith_copy_report *report, kith_error *err)
{
    kith_copy_options options;
    kith_copy_options_init(&options);
    KI_TRY(ki_options_read(&options, sizeof options, given, "options", err));
    kith_collection_options open;
    kith_collection_options_init(&open);
    KI_TRY(ki_options_read(&open, sizeof open, options.open, "options.open", err));
    open.read_only = 1;
    kith_collection *c;
    KI_TRY(kith_collection_open(snapshot, &open, &c, err));
    kith_status status = kith_collection_pin(c, err); /* what is proved is what is copied */
    if (status == KITH_OK) status = kith_collection_check(c, options.run, err);
    if (status == KITH_OK) status = copy(c, path, !options.replace, &options, report, err);
    kith_collection_close(c);
    return status;
}

/* ---- Segments ---- */

typedef struct segment_copy {
    ki_copy *x;
    const char *from;
    uint64_t bytes;
} segment_copy;

#define BLOCK_BYTES ((size_t)1 << 20)

static kith_status copy_bytes(segment_copy *s, int fd, ki_outfile *out, unsigned char *block, kith_error *err)
{
    const kith_io *io = s->x->from->io;
    for (;;) {
        int64_t got = ki_io_read(io, fd, block, BLOCK_BYTES, s->bytes);
        if (got < 0) return ki_fail_errno(err, (int)-got, "%s: cannot be read", s->from);
        if (got == 0) return KITH_OK;
        KI_TRY(ki_outfile_write(out, block, (size_t)got, err));
        s->bytes += (uint64_t)got;
        ki_stage_report(&s->x->stage, s->bytes < s->x->stage.total ? s->bytes : s->x->stage.total);
        KI_TRY(ki_run_check(s->x->run, err));
    }
}

static kith_status copy_file(void *ctx, const char *path, kith_error *err)
{
    segment_copy *s = ctx;
    const kith_collection *from = s->x->from;
    ki_outfile *out = NULL;
    int fd = from->io->open(from->io->ctx, s->from, O_RDONLY, 0);
    if (fd < 0) return ki_fail_errno(err, -fd, "%s: cannot be opened", s->from);
    unsigned char *block = ki_alloc(from->allocator, BLOCK_BYTES, 1);
    kith_status status = block ? ki_outfile_create(path, from->io, from->allocator, &out, err)
                               : ki_fail_nomem(err, BLOCK_BYTES);
    if (status == KITH_OK) status = copy_bytes(s, fd, out, block, err);
    if (status == KITH_OK) status = ki_outfile_commit(out, err);
    ki_outfile_free(out);
    ki_free(from->allocator, block);
    from->io->close(from->io->ctx, fd);
    return status;
}

static kith_status copy_found(ki_copy *x, kith_collection *named, const ki_segment *segment)
{
    struct stat info;
    char *from = ki_segment_path(x->from, segment->version, segment->stamp);
    char *to = ki_segment_path(named, segment->version, segment->stamp);
    segment_copy s = {.x = x, .from = from};
    kith_status status = from && to ? KITH_OK : ki_fail_nomem(x->err, strlen(named->folder));
    int there = to && stat(to, &info) == 0 && (uint64_t)info.st_size == segment->bytes;
    if (status == KITH_OK && !there) {
        ki_stage_begin(&x->stage, x->run, "copying the index", segment->bytes);
        status = ki_segment_adopt(named, segment->version, segment->stamp, copy_file, &s, x->err);
    }
    if (status == KITH_OK) x->report.segment_bytes = s.bytes;
    ki_free(x->from->allocator, from);
    ki_free(x->from->allocator, to);
    /* A fold of the copy that is under way is as good. */
    return status == KITH_BUSY || status == KITH_NOTFOUND ? KITH_OK : status;
}

kith_status ki_copy_segment(ki_copy *x, const char *path)
{
    ki_buffer bad = {0};
    ki_segment segment = {0};
    kith_collection *named = NULL;
    kith_collection_options open;
    if (x->from->state.dim == 0) return KITH_OK;
    kith_collection_options_init(&open);
    open.allocator = x->from->allocator;
    open.io = x->from->io;
    KI_TRY(ki_handle_create(path, &open, &named, x->err));
    kith_status status = ki_segment_find(x->from, 0, &bad, &segment, NULL, x->err);
    if (status == KITH_OK && segment.index) status = copy_found(x, named, &segment);
    ki_segment_close(&segment);
    ki_buffer_clear(&bad, x->from->allocator);
    kith_collection_close(named);
    return status;
}
