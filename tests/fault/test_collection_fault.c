/* Collections when memory runs out and when the disk fails: allocation, then I/O call, number 0, 1, 2, ... fails, once
 * alone and once with all that follow, in our own memory, in SQLite's and in jansson's alike. Each call answers with a
 * documented code, nothing is leaked, the collection is sound afterwards and holds a batch wholly or not at all, wholly
 * if its commit was acknowledged. Copies are whole, or are not there. After a sync that failed the handle refuses to go on.
 *
 * KITH_FAULT_STRIDE=1 lets every single allocation fail, KITH_FAULT_IO_STRIDE=1 every I/O call; the suite takes every
 * 499th and every 23rd, beginning with the seed. */
#include "batches.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kith/copies.h>
#include <kith/fusion.h>
#include <kith/request.h>
#include <kith/writers.h>

#include "engine/engine.h"

enum { N = 60, DIM = 5 };

/* ---- When to fail ---- */

typedef struct faults {
    size_t calls, fail_at;
    int for_ever, struck;
} faults;

static faults memory = {.fail_at = SIZE_MAX}, disk = {.fail_at = SIZE_MAX};

static int fails(faults *f)
{
    size_t call = f->calls++;
    if (call != f->fail_at && !(f->for_ever && call > f->fail_at)) return 0;
    f->struck = 1;
    return 1;
}

/* ---- Memory ---- */

static size_t live; /* blocks of our own allocator */

static void *own_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    void *block = NULL;
    if (fails(&memory) || posix_memalign(&block, align, size) != 0) return NULL;
    live++;
    return block;
}

static void own_free(void *ctx, void *block)
{
    (void)ctx;
    live--;
    free(block);
}

static const kith_allocator own = {.alloc = own_alloc, .free = own_free};

static void *json_alloc(size_t size)
{
    return fails(&memory) ? NULL : malloc(size);
}

/* SQLite wants to know the size of a block: it stands in front of it. */
static void *sqlite_alloc(int size)
{
    int64_t *block = fails(&memory) ? NULL : malloc((size_t)size + 8);
    if (!block) return NULL;
    *block = size;
    return block + 1;
}

static void sqlite_free(void *block)
{
    free((int64_t *)block - 1);
}

static void *sqlite_realloc(void *block, int size)
{
    int64_t *moved = fails(&memory) ? NULL : realloc((int64_t *)block - 1, (size_t)size + 8);
    if (!moved) return NULL;
    *moved = size;
    return moved + 1;
}

static int sqlite_size(void *block)
{
    return block ? (int)((int64_t *)block)[-1] : 0;
}

static int sqlite_roundup(int size)
{
    return (size + 7) & ~7;
}

static int sqlite_start(void *ctx)
{
    (void)ctx;
    return SQLITE_OK;
}

static void sqlite_stop(void *ctx)
{
    (void)ctx;
}

static const sqlite3_mem_methods sqlite_memory = {.xMalloc = sqlite_alloc,
                                                  .xFree = sqlite_free,
                                                  .xRealloc = sqlite_realloc,
                                                  .xSize = sqlite_size,
                                                  .xRoundup = sqlite_roundup,
                                                  .xInit = sqlite_start,
                                                  .xShutdown = sqlite_stop};

/* ---- The disk under SQLite: a VFS in front of the system's ---- */

typedef struct shim_file {
    sqlite3_file base;
    sqlite3_file *real; /* behind this struct */
} shim_file;

static sqlite3_vfs *system_vfs;

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((shim_file *)file)->real;
}

static int shim_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int shim_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    if (fails(&disk)) return SQLITE_IOERR_READ;
    return real_of(file)->pMethods->xRead(real_of(file), to, n, at);
}

/* A write that fails may have written half. */
static int shim_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    if (!fails(&disk)) return real_of(file)->pMethods->xWrite(real_of(file), from, n, at);
    if (disk.calls % 2) real_of(file)->pMethods->xWrite(real_of(file), from, n / 2, at);
    return disk.calls % 3 ? SQLITE_IOERR_WRITE : SQLITE_FULL;
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return fails(&disk) ? SQLITE_IOERR_TRUNCATE : real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int syncs_fail; /* all of them, and nothing else */

static int shim_sync(sqlite3_file *file, int flags)
{
    return syncs_fail || fails(&disk) ? SQLITE_IOERR_FSYNC
                                      : real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int shim_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return fails(&disk) ? SQLITE_IOERR_FSTAT : real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int shim_lock(sqlite3_file *file, int level)
{
    return fails(&disk) ? SQLITE_IOERR_LOCK : real_of(file)->pMethods->xLock(real_of(file), level);
}

static int shim_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int shim_reserved(sqlite3_file *file, int *held)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), held);
}

static int shim_control(sqlite3_file *file, int op, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int shim_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int shim_device(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int shim_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **map)
{
    if (fails(&disk)) return SQLITE_IOERR_SHMMAP;
    return real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, map);
}

static int shim_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    if ((flags & SQLITE_SHM_LOCK) && fails(&disk)) return SQLITE_IOERR_SHMLOCK;
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, n, flags);
}

static void shim_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int shim_shm_unmap(sqlite3_file *file, int delete)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), delete);
}

static const sqlite3_io_methods shim_methods = {.iVersion = 2,
                                                .xClose = shim_close,
                                                .xRead = shim_read,
                                                .xWrite = shim_write,
                                                .xTruncate = shim_truncate,
                                                .xSync = shim_sync,
                                                .xFileSize = shim_size,
                                                .xLock = shim_lock,
                                                .xUnlock = shim_unlock,
                                                .xCheckReservedLock = shim_reserved,
                                                .xFileControl = shim_control,
                                                .xSectorSize = shim_sector,
                                                .xDeviceCharacteristics = shim_device,
                                                .xShmMap = shim_shm_map,
                                                .xShmLock = shim_shm_lock,
                                                .xShmBarrier = shim_shm_barrier,
                                                .xShmUnmap = shim_shm_unmap};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    shim_file *shim = (shim_file *)file;
    shim->base.pMethods = NULL;
    shim->real = (sqlite3_file *)(shim + 1);
    if (fails(&disk)) return SQLITE_CANTOPEN;
    int rc = system_vfs->xOpen(system_vfs, name, shim->real, flags, out);
    if (rc == SQLITE_OK) shim->base.pMethods = &shim_methods;
    return rc;
}

static int shim_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs;
    return fails(&disk) ? SQLITE_IOERR_DELETE : system_vfs->xDelete(system_vfs, name, sync);
}

static sqlite3_vfs shim_vfs;

static void install(void)
{
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &sqlite_memory), SQLITE_OK);
    assert_int_equal(sqlite3_initialize(), SQLITE_OK);
    json_set_alloc_funcs(json_alloc, free);
    system_vfs = sqlite3_vfs_find(NULL);
    shim_vfs = *system_vfs;
    shim_vfs.pNext = NULL;
    shim_vfs.zName = "kith-shim";
    shim_vfs.szOsFile = (int)sizeof(shim_file) + system_vfs->szOsFile;
    shim_vfs.xOpen = shim_open;
    shim_vfs.xDelete = shim_delete;
    assert_int_equal(sqlite3_vfs_register(&shim_vfs, 1), SQLITE_OK);
}

/* ---- The disk under segments ---- */

#define PASS(name) kith_io_posix()->name(kith_io_posix()->ctx
static int io_open(void *ctx, const char *path, int flags, unsigned mode)
{
    (void)ctx;
    return fails(&disk) ? -EMFILE : PASS(open), path, flags, mode);
}
static int io_close(void *ctx, int fd)
{
    (void)ctx;
    return PASS(close), fd);
}
static int64_t io_read(void *ctx, int fd, void *buf, size_t size, uint64_t offset)
{
    (void)ctx;
    return fails(&disk) ? -EIO : PASS(read), fd, buf, size, offset);
}
static int64_t io_write(void *ctx, int fd, const void *buf, size_t size, uint64_t offset)
{
    (void)ctx;
    return fails(&disk) ? -ENOSPC : PASS(write), fd, buf, size, offset);
}
static int io_size(void *ctx, int fd, uint64_t *bytes)
{
    (void)ctx;
    return fails(&disk) ? -EIO : PASS(size), fd, bytes);
}
static int io_sync(void *ctx, int fd)
{
    (void)ctx;
    return fails(&disk) ? -EIO : PASS(sync), fd);
}
static int io_map(void *ctx, int fd, size_t size, void **address)
{
    (void)ctx;
    return fails(&disk) ? -ENOMEM : PASS(map), fd, size, address);
}
static int io_unmap(void *ctx, void *address, size_t size)
{
    (void)ctx;
    return PASS(unmap), address, size);
}
static int io_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    return fails(&disk) ? -EIO : PASS(rename), from, to);
}
static int io_unlink(void *ctx, const char *path)
{
    (void)ctx;
    return fails(&disk) ? -EIO : PASS(unlink), path);
}
static int io_sync_dir(void *ctx, const char *path)
{
    (void)ctx;
    return fails(&disk) ? -EIO : PASS(sync_dir), path);
}

static const kith_io shim_io = {.struct_size = sizeof(kith_io),
                                .open = io_open,
                                .close = io_close,
                                .read = io_read,
                                .write = io_write,
                                .size = io_size,
                                .sync = io_sync,
                                .map = io_map,
                                .unmap = io_unmap,
                                .rename = io_rename,
                                .unlink = io_unlink,
                                .sync_dir = io_sync_dir};

/* ---- Scenarios ---- */

static float *x;
static char path[512], copy_path[512], restored_path[512];

/* What one run did to the collection at `path`: its batches that were acknowledged are there, and those after them as far as
 * a commit was called. */
typedef struct outcome {
    int acknowledged, tried;
    int together; /* those behind the acknowledged ones are of one commit: all are there, or none */
} outcome;

typedef kith_status (*scenario)(const kith_collection_options *options, outcome *out, kith_error *err);

static kith_status create(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    kith_collection *c;
    kith_status status = kith_collection_create(test_path("created.kith"), DIM, KITH_L2SQ, options, &c, err);
    assert_true((status == KITH_OK) == (c != NULL));
    return status == KITH_OK ? kith_collection_discard(c, err) : status;
}

static kith_status read_rows(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    kith_collection *c;
    kith_row row = {0};
    kith_meta meta = {0};
    kith_status status = kith_collection_open(path, options, &c, err);
    if (status == KITH_OK) status = kith_collection_pin(c, err);
    for (int i = 0; i < 3 && status == KITH_OK; i++)
        status = kith_collection_next(c, row.key, KITH_ROW_ALL, &row, err);
    if (status == KITH_OK) kith_collection_unpin(c);
    if (status == KITH_OK) status = kith_collection_get(c, 7, KITH_ROW_ALL, &row, err);
    if (status == KITH_OK) status = kith_collection_meta_get(c, "name", &meta, err);
    if (status == KITH_OK) status = kith_collection_meta_next(c, "n", NULL, &meta, err);
    kith_collection_close(c);
    return status;
}

static kith_status search(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    kith_collection *c;
    int64_t keys[20], only[3] = {2, 4, 6};
    float distances[20];
    kith_collection_query query;
    kith_collection_query_init(&query);
    kith_status status = kith_collection_open(path, options, &c, err);
    if (status == KITH_OK) status = kith_collection_search(c, 2, DIM, x, NULL, keys, distances, NULL, err);
    if (status == KITH_OK) { /* whatever failed on the way, an answer is the right one */
        assert_int_equal(keys[0], 1);
        assert_int_equal(keys[10], 2);
    }
    query.only_keys = only;
    query.only_n = 3;
    if (status == KITH_OK) status = kith_collection_search(c, 1, DIM, x, &query, keys, distances, NULL, err);
    if (status == KITH_OK) assert_true(keys[2] != 0 && keys[3] == 0);
    query.only_keys = NULL;
    query.exact = 1;
    if (status == KITH_OK) status = kith_collection_search_like(c, 3, &query, keys, distances, NULL, err);
    kith_collection_close(c);
    return status;
}

static kith_status write_batch(const kith_collection_options *options, outcome *out, kith_error *err)
{
    kith_collection *c;
    char attachment[40000] = "large";
    kith_row row = {.payload = "{\"new\":[1,2.5,\"x\"]}",
                    .vector = x,
                    .dim = DIM,
                    .attachment = attachment,
                    .attachment_size = sizeof attachment};
    int64_t keys[20];
    float distances[20];
    kith_status status = kith_collection_open(path, options, &c, err);
    if (status == KITH_OK) status = kith_collection_begin(c, err);
    for (int i = 0; i < 10 && status == KITH_OK; i++) {
        row.key = i < 5 ? 0 : i;
        status = kith_collection_put(c, KITH_ROW_ALL, &row, NULL, err);
    }
    if (status == KITH_OK) status = kith_collection_delete(c, 20, err);
    if (status == KITH_OK)
        status = kith_collection_meta_set(c, "codebook", attachment, sizeof attachment, err);
    if (status == KITH_OK) status = kith_collection_search(c, 2, DIM, x, NULL, keys, distances, NULL, err);
    if (status == KITH_OK) {
        out->tried = 1;
        status = kith_collection_commit(c, err);
        out->acknowledged = status == KITH_OK;
    }
    if (status == KITH_OK) status = kith_collection_search(c, 2, DIM, x, NULL, keys, distances, NULL, err);
    kith_collection_close(c);
    return status;
}

static kith_status fold(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    kith_collection *c;
    kith_fold_options fold_options;
    kith_fold_options_init(&fold_options);
    fold_options.spec = "Flat";
    fold_options.always = 1;
    int64_t keys[10];
    float distances[10];
    kith_status status = kith_collection_open(path, options, &c, err);
    if (status == KITH_OK) status = kith_collection_optimize(c, &fold_options, err);
    if (status == KITH_OK) status = kith_collection_search(c, 1, DIM, x, NULL, keys, distances, NULL, err);
    kith_collection_close(c);
    return status;
}

/* Everything else that a batch may do, and filters and searches over it; then it is rolled back. */
static kith_status use_more(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    kith_collection *c;
    int64_t keys[10], key = 0, positive[2] = {3, 4}, negative[1] = {5};
    float distances[10];
    uint64_t rows = 0;
    kith_collection_examples examples = {positive, 2, negative, 1};
    kith_recall recall = {.struct_size = sizeof recall};
    kith_row row = {
        .payload = "{\"n\":7,\"at\":\"2024-02-29\",\"pos\":{\"lat\":1,\"lon\":2}}", .vector = x, .dim = DIM};
    kith_status status = kith_collection_open(path, options, &c, err);
    if (status == KITH_OK)
        status = kith_collection_search_examples(c, &examples, NULL, keys, distances, NULL, err);
    if (status == KITH_OK) status = kith_collection_recall(c, NULL, &recall, err);
    if (status == KITH_OK) assert_true(recall.recall == 1);
    if (status == KITH_OK) status = kith_collection_begin(c, err);
    if (status == KITH_OK) status = kith_collection_field_add(c, "n", KITH_FIELD_INT, err);
    if (status == KITH_OK) status = kith_collection_field_add(c, "at", KITH_FIELD_TIME, err);
    if (status == KITH_OK) status = kith_collection_field_add(c, "pos", KITH_FIELD_GEO, err);
    if (status == KITH_OK) status = kith_collection_put_text(c, "text", KITH_ROW_ALL, &row, &key, err);
    if (status == KITH_OK) status = kith_collection_merge(c, key, "{\"n\":8}", 0, err);
    if (status == KITH_OK) status = kith_collection_set_expiry(c, 9, 1000, err);
    if (status == KITH_OK)
        status = kith_collection_count_where(
            c,
            "(n == 8 or not n < 1000) and at < \"2025-01-01\" and geo_distance(pos, 1, 2) < 5 and exists n",
            &rows, err);
    if (status == KITH_OK) assert_int_equal(rows, 1);
    if (status == KITH_OK) status = kith_collection_key_of(c, "text", &key, err);
    if (status == KITH_OK) status = kith_collection_remove_expired(c, 0, &rows, err);
    if (status == KITH_OK) assert_int_equal(rows, 1);
    if (status == KITH_OK) status = kith_collection_field_drop(c, "at", err);
    if (c) kith_collection_rollback(c);
    kith_collection_close(c);
    return status;
}

static kith_status prove(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    kith_collection *c;
    uint64_t hash;
    kith_collection_stats stats = {.struct_size = sizeof stats};
    kith_status status = kith_collection_open(path, options, &c, err);
    if (status == KITH_OK) status = kith_collection_check(c, NULL, err);
    if (status == KITH_OK) status = kith_collection_hash(c, NULL, &hash, err);
    if (status == KITH_OK) status = kith_collection_get_stats(c, &stats, err);
    kith_collection_close(c);
    return status;
}

/* ---- Scenarios with all that a collection may have ---- */

/* The batches that are there, and those that a scenario writes: among them partitions and vector fields that are made, filled
 * and dropped. */
enum { THERE = 12, BATCHES = 4 };

static kith_status write_batches(const kith_collection_options *options, outcome *out, kith_error *err)
{
    kith_collection *c;
    kith_status status = kith_collection_open(path, options, &c, err);
    for (int i = 1; i <= BATCHES && status == KITH_OK; i++) {
        out->tried = i;
        status = test_batch(c, (uint64_t)(THERE + i), err);
        if (status == KITH_OK) out->acknowledged = i;
    }
    kith_collection_close(c);
    return status;
}

/* One by one through kith_writers, then two by one commit, as it makes them, and one that fails between them. */
static kith_status write_together(const kith_collection_options *options, outcome *out, kith_error *err)
{
    kith_collection *c;
    kith_writers *writers = NULL;
    uint64_t number;
    kith_status status = kith_collection_open(path, options, &c, err);
    if (status == KITH_OK) status = kith_writers_create(c, &writers, err);
    for (int i = 1; i <= 2 && status == KITH_OK; i++) {
        out->tried = i;
        status = kith_writers_write(writers, test_batch_next, &number, NULL, err);
        if (status == KITH_OK) out->acknowledged = i;
    }
    kith_writers_free(writers);
    if (status == KITH_OK) status = ki_share_begin(c, 0, err);
    int begun = status == KITH_OK;
    for (int i = 0; i < 3 && status == KITH_OK; i++) {
        status = ki_share_batch(c, err);
        if (status != KITH_OK) break;
        status = i == 1 ? test_batch_undone(c, &number, err) : test_batch_next(c, &number, err);
        status = ki_share_batch_end(c, status, err);
        if (i == 1 && status == KITH_CANCELLED) /* as it should; but its undoing may have cost the others */
            status = c->shared ? KITH_OK : ki_fail(err, memory.struck ? KITH_NOMEM : KITH_IO, "all undone");
    }
    out->together = begun;
    if (status == KITH_OK) {
        out->tried = 4;
        status = ki_share_commit(c, err);
        if (status == KITH_OK) out->acknowledged = 4;
    }
    kith_collection_close(c); /* what was not committed goes with it */
    return status;
}

/* What measures, plans and asks; within a budget that is large enough. */
static kith_status tune(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    kith_collection *c;
    kith_collection_options bounded = *options;
    kith_collection_tune_options tuning;
    kith_collection_tuning tuned = {.struct_size = sizeof tuned};
    kith_fold_plan plan = {.struct_size = sizeof plan};
    kith_collection_tune_options_init(&tuning);
    tuning.queries = 2;
    tuning.k = 2;
    bounded.max_bytes = 64u << 20;
    bounded.exact_rows = 20;
    kith_status status = kith_collection_open(path, &bounded, &c, err);
    if (status == KITH_OK) status = kith_collection_tune(c, &tuning, &tuned, err);
    if (status == KITH_OK) status = kith_collection_settle(c, NULL, err);
    if (status == KITH_OK) status = kith_collection_get_tuning(c, NULL, &tuned, err);
    if (status == KITH_OK) assert_true(tuned.target_recall == 0.95);
    if (status == KITH_OK) status = kith_collection_plan_fold(c, NULL, &plan, err);
    if (status == KITH_OK) status = kith_collection_fold(c, NULL, err);
    kith_collection_close(c);
    return status;
}

static kith_status ask(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    static const char *const texts[] = {
        "{\"vector\":[1,2,3,4],\"k\":3,\"filter\":\"batch > 0\",\"offset\":1}",
        ("{\"vectors\":[{\"vector\":[1,2,3,4]},{\"field\":\"title\",\"vector\":[1,2,3],\"weight\":2}],"
         "\"fusion\":\"weights\"}"),
        "{\"like\":[1,2],\"unlike\":[3],\"k\":2,\"exact\":true}", "{\"vector\":[1,2,3,4],\"radius\":90000}",
        "{\"vector\":[1,2,3,4],\"group_by\":\"part\",\"group_size\":2,\"k\":2}"};
    kith_collection *c;
    kith_status status = kith_collection_open(path, options, &c, err);
    for (size_t i = 0; i < sizeof texts / sizeof *texts && status == KITH_OK; i++) {
        kith_request *request = NULL;
        kith_found found = {.struct_size = sizeof found};
        status = kith_request_parse(texts[i], strlen(texts[i]), &own, &request, err);
        if (status == KITH_OK) status = kith_request_search(c, request, &found, err);
        if (status == KITH_NOTFOUND)
            status = KITH_OK; /* the examples may have no vector */
        else if (status == KITH_OK)
            assert_true(found.n > 0);
        kith_request_free(request);
    }
    kith_collection_close(c);
    return status;
}

static kith_status search_more(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    static const char *const partition = BATCH_PARTITION;
    static const float origin[BATCH_DIM];
    kith_collection *c;
    int64_t keys[20];
    float distances[20];
    double scores[20];
    size_t found = 0;
    int more;
    kith_row row = {0};
    kith_collection_query query;
    kith_fusion_options fusion;
    const kith_fused_part parts[2] = {{NULL, origin, BATCH_DIM, 1},
                                      {BATCH_FIELD, origin, BATCH_FIELD_DIM, 2}};
    kith_fusion_options_init(&fusion);
    kith_collection_query_init(&query);
    kith_status status = kith_collection_open(path, options, &c, err);
    if (status == KITH_OK) status = kith_collection_warm(c, err);
    if (status == KITH_OK)
        status = kith_collection_search_range(c, BATCH_DIM, origin, 6000, &query, keys, distances, &found,
                                              &more, NULL, err);
    if (status == KITH_OK) assert_true(found > 0);
    query.k = 4;
    if (status == KITH_OK)
        status = kith_collection_search_groups(c, BATCH_DIM, origin, "part", 2, &query, keys, distances, NULL,
                                               err);
    if (status == KITH_OK) assert_true(keys[0] != 0);
    for (int by = 0; by < 2 && status == KITH_OK; by++) {
        fusion.by = by ? KITH_FUSE_WEIGHTS : KITH_FUSE_RANKS;
        status = kith_collection_search_fused(c, parts, 2, &fusion, &query, keys, scores, NULL, err);
        if (status == KITH_OK) assert_true(keys[3] != 0);
    }
    query.partitions = &partition;
    query.n_partitions = 1;
    query.expression = "exists batch";
    if (status == KITH_OK)
        status = kith_collection_search(c, 1, BATCH_DIM, origin, &query, keys, distances, NULL, err);
    if (status == KITH_OK) assert_true(keys[0] != 0);
    if (status == KITH_OK) status = kith_collection_next_where(c, "part > 1", 0, KITH_ROW_ALL, &row, err);
    if (status == KITH_OK) assert_true(row.key != 0);
    kith_collection_close(c);
    return status;
}

/* What tells of rows and lists. */
static kith_status read_more(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    kith_collection *c;
    kith_collection_options reading = *options;
    kith_partition partitions[4];
    kith_vector_field fields[4];
    kith_field declared[4];
    size_t n = 4;
    int64_t key = 0, at;
    uint64_t rows, version;
    const char *text;
    const float *vector;
    reading.read_only = 1;
    kith_status status = kith_collection_open(path, &reading, &c, err);
    if (status == KITH_OK) status = kith_collection_partitions(c, partitions, &n, err);
    if (status == KITH_OK) assert_true(n > 0);
    n = 4;
    if (status == KITH_OK) status = kith_collection_vector_fields(c, fields, &n, err);
    if (status == KITH_OK) assert_int_equal(n, 1);
    n = 4;
    if (status == KITH_OK) status = kith_collection_fields(c, declared, &n, err);
    if (status == KITH_OK) status = kith_collection_get_partition(c, 7, &text, err);
    for (key = 1; key < 20 && status == KITH_OK; key++)
        status = kith_collection_get_vector(c, key, BATCH_FIELD, &vector, NULL, err);
    if (status == KITH_OK) status = kith_collection_get_expiry(c, 7, &at, err);
    if (status == KITH_OK) status = kith_collection_next_where(c, "$key > 100", 0, 0, &(kith_row){0}, err);
    char hint[400];
    if (status == KITH_OK)
        status = kith_collection_filter_hint(c, "missing[0] > 5 and city == 3", hint, sizeof hint, err);
    for (int i = 0; i < 12 && status == KITH_OK; i++) {
        char name[32];
        snprintf(name, sizeof name, "text %d", i);
        status = kith_collection_key_of(c, name, &key, err);
        if (status == KITH_OK) status = kith_collection_text_of(c, key, &text, err);
        if (status == KITH_OK) assert_string_equal(text, name);
        if (status == KITH_NOTFOUND) status = KITH_OK;
    }
    if (status == KITH_OK) status = kith_collection_version(c, &version, err);
    if (status == KITH_OK) status = kith_collection_count(c, &rows, NULL, err);
    kith_collection_close(c);
    return status;
}

static kith_status fold_fields(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    kith_collection *c;
    kith_fold_options fold_options;
    kith_fold_options_init(&fold_options);
    fold_options.spec = "IVF4,Flat";
    fold_options.always = 1;
    kith_status status = kith_collection_open(path, options, &c, err);
    if (status == KITH_OK) status = kith_collection_fold(c, &fold_options, err);
    kith_collection_close(c);
    return status;
}

/* A first copy, a later one, a restored one; and they are compared. */
static kith_status copy(const kith_collection_options *options, outcome *out, kith_error *err)
{
    kith_collection *c, *b = NULL;
    kith_difference d = {.struct_size = sizeof d};
    kith_copy_options copying;
    kith_copy_options_init(&copying);
    copying.open = options;
    kith_status status = kith_collection_open(path, options, &c, err);
    if (status == KITH_OK) status = kith_collection_snapshot(c, copy_path, &copying, NULL, err);
    if (status == KITH_OK) {
        out->tried = 1;
        status = test_batch(c, THERE + 1, err);
        out->acknowledged = status == KITH_OK;
    }
    if (status == KITH_OK) status = kith_collection_sync(c, copy_path, &copying, NULL, err);
    if (status == KITH_OK) status = kith_collection_open(copy_path, options, &b, err);
    if (status == KITH_OK) status = kith_collection_compare(c, b, NULL, &d, err);
    if (status == KITH_OK) assert_int_equal(d.different, 0);
    kith_collection_close(b);
    if (status == KITH_OK) status = kith_collection_restore(copy_path, restored_path, &copying, NULL, err);
    kith_collection_close(c);
    return status;
}

static const struct {
    const char *name;
    scenario run;
    int model; /* which collection stands at `path` */
} scenarios[] = {{"create", create, 0},
                 {"read_rows", read_rows, 0},
                 {"search", search, 0},
                 {"write_batch", write_batch, 0},
                 {"fold", fold, 0},
                 {"prove", prove, 0},
                 {"use_more", use_more, 0},
                 {"write_batches", write_batches, 1},
                 {"write_together", write_together, 1},
                 {"tune", tune, 1},
                 {"ask", ask, 1},
                 {"search_more", search_more, 1},
                 {"read_more", read_more, 1},
                 {"fold_fields", fold_fields, 1},
                 {"copy", copy, 1},
                 {"prove_more", prove, 1},
                 {"upgrade", prove, 2}};

/* ---- The loop ---- */

/* The collections that scenarios begin with, and the hashes that they have then and after each batch. */
static struct {
    char path[512];
    uint64_t hashes[1 + BATCHES];
} models[3];

static void copy_tree(const char *from, const char *to)
{
    DIR *folder = opendir(from);
    struct dirent *entry;
    if (!folder) return;
    assert_int_equal(mkdir(to, 0777), 0);
    while ((entry = readdir(folder)) != NULL) {
        char source[800], target[800];
        struct stat info;
        if (entry->d_name[0] == '.') continue;
        snprintf(source, sizeof source, "%s/%s", from, entry->d_name);
        snprintf(target, sizeof target, "%s/%s", to, entry->d_name);
        assert_int_equal(stat(source, &info), 0);
        if (S_ISDIR(info.st_mode))
            copy_tree(source, target);
        else
            test_copy_file(source, target);
    }
    closedir(folder);
}

static void remove_copy(const char *name)
{
    char part[600];
    snprintf(part, sizeof part, "%s.part", name);
    test_collection_remove(part);
    test_collection_remove(name);
}

static void put_in_place(int model)
{
    char from[600], to[600];
    test_collection_remove(path);
    test_collection_remove(test_path("created.kith"));
    remove_copy(copy_path);
    remove_copy(restored_path);
    test_copy_file(models[model].path, path);
    snprintf(from, sizeof from, "%s.d", models[model].path);
    snprintf(to, sizeof to, "%s.d", path);
    copy_tree(from, to);
}

static uint64_t hash_of(const char *name)
{
    kith_error err;
    uint64_t hash;
    kith_collection *c;
    assert_ok(kith_collection_open(name, NULL, &c, &err), &err);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    assert_ok(kith_collection_hash(c, NULL, &hash, &err), &err);
    kith_collection_close(c);
    return hash;
}

static int hash_is_among(uint64_t hash, int model, int from, int to)
{
    for (int i = from; i <= to; i++)
        if (hash == models[model].hashes[i]) return 1;
    return 0;
}

static void check_outcome(size_t s, kith_status status, const outcome *out, const kith_error *err)
{
    int model = scenarios[s].model;
    if (status != KITH_OK) {
        assert_int_equal(err->code, status);
        assert_true(strlen(err->message) > 5);
    }
    if (live != 0) fail_msg("%s: %zu blocks leaked", scenarios[s].name, live);
    /* A batch is there wholly or not at all. */
    uint64_t hash = hash_of(path);
    if (out->together)
        assert_true(hash == models[model].hashes[out->acknowledged] ||
                    hash == models[model].hashes[out->tried]);
    assert_true(hash_is_among(hash, model, out->acknowledged, out->tried));
    if (scenarios[s].run != copy) return;
    if (access(copy_path, F_OK) == 0)
        assert_true(hash_is_among(hash_of(copy_path), model, 0, out->acknowledged));
    if (access(restored_path, F_OK) == 0) assert_true(hash_is_among(hash_of(restored_path), model, 1, 1));
}

/* Let every step-th call of `f` fail in every scenario; `allowed` says which codes may come of it. */
static void strike(faults *f, size_t step, int (*allowed)(kith_status))
{
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.allocator = &own;
    options.io = &shim_io;
    options.wait_ms = 0;
    size_t strikes = 0;
    for (size_t s = 0; s < sizeof scenarios / sizeof *scenarios; s++) {
        size_t before = strikes;
        for (int for_ever = 0; for_ever < 2; for_ever++) {
            for (size_t at = test_seed() % step;; at += step) {
                kith_error err;
                outcome out = {0};
                put_in_place(scenarios[s].model);
                *f = (faults){.fail_at = at, .for_ever = for_ever};
                kith_status status = scenarios[s].run(&options, &out, &err);
                int struck = f->struck;
                *f = (faults){.fail_at = SIZE_MAX};
                if (!struck) {
                    assert_ok(status, &err);
                    break;
                }
                strikes++;
                if (status != KITH_OK && !allowed(status))
                    fail_msg("%s, call %zu%s: %s: %s", scenarios[s].name, at,
                             for_ever ? " and all after it" : "", kith_status_name(status), err.message);
                check_outcome(s, status, &out, &err);
            }
        }
        fprintf(stderr, "%s: %zu\n", scenarios[s].name, strikes - before);
    }
    fprintf(stderr, "%zu failures\n", strikes);
    assert_true(strikes > 10);
}

static int is_nomem(kith_status status)
{
    return status == KITH_NOMEM;
}

static int is_io(kith_status status)
{
    /* A page that cannot be read may show as damage, a file that cannot be opened as one that is not there. */
    return status == KITH_IO || status == KITH_NOMEM || status == KITH_READONLY || status == KITH_BUSY ||
           status == KITH_CORRUPT;
}

static void memory_runs_out(void **state)
{
    (void)state;
    strike(&memory, test_number("KITH_FAULT_STRIDE", 499), is_nomem);
}

static void the_disk_fails(void **state)
{
    (void)state;
    strike(&disk, test_number("KITH_FAULT_IO_STRIDE", 23), is_io);
}

static kith_status write_through_writers(kith_collection *c, kith_error *err)
{
    uint64_t number;
    kith_writers *writers;
    assert_ok(kith_writers_create(c, &writers, err), err);
    kith_status status = kith_writers_write(writers, test_batch_next, &number, NULL, err);
    kith_writers_free(writers);
    return status;
}

/* A commit whose sync fails: the handle does nothing any more, whatever it is asked; opened anew, the collection has the batch
 * wholly or not at all, and goes on. */
static void prove_failed_sync(int together)
{
    kith_error err;
    kith_collection *c;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.io = &shim_io;
    put_in_place(1);
    assert_ok(kith_collection_open(path, &options, &c, &err), &err);
    assert_ok(kith_collection_warm(c, &err), &err);
    syncs_fail = 1;
    kith_status failed = together ? write_through_writers(c, &err) : test_batch(c, THERE + 1, &err);
    syncs_fail = 0;
    assert_int_equal(failed, KITH_IO);
    static const float origin[BATCH_DIM];
    int64_t keys[10];
    float distances[10];
    uint64_t number, hash;
    kith_row row;
    kith_collection_stats stats = {.struct_size = sizeof stats};
    assert_int_equal(kith_collection_begin(c, &err), KITH_IO);
    assert_non_null(strstr(err.message, "open it anew"));
    assert_int_equal(kith_collection_pin(c, &err), KITH_IO);
    assert_int_equal(kith_collection_get(c, 1, KITH_ROW_ALL, &row, &err), KITH_IO);
    assert_int_equal(kith_collection_count(c, &number, NULL, &err), KITH_IO);
    assert_int_equal(kith_collection_search(c, 1, BATCH_DIM, origin, NULL, keys, distances, NULL, &err),
                     KITH_IO);
    assert_int_equal(kith_collection_hash(c, NULL, &hash, &err), KITH_IO);
    assert_int_equal(kith_collection_check(c, NULL, &err), KITH_IO);
    assert_int_equal(kith_collection_get_stats(c, &stats, &err), KITH_IO);
    assert_int_equal(kith_collection_fold(c, NULL, &err), KITH_IO);
    assert_int_equal(kith_collection_optimize(c, NULL, &err), KITH_IO);
    assert_int_equal(kith_collection_sync(c, copy_path, NULL, NULL, &err), KITH_IO);
    kith_writers *writers;
    assert_ok(kith_writers_create(c, &writers, &err), &err);
    assert_int_equal(kith_writers_write(writers, test_batch_next, &number, NULL, &err), KITH_IO);
    kith_writers_free(writers);
    kith_collection_close(c);
    assert_true(access(copy_path, F_OK) != 0);
    assert_true(hash_is_among(hash_of(path), 1, 0, 1));
    assert_ok(kith_collection_open(path, &options, &c, &err), &err);
    assert_ok(test_batch_number(c, &number, &err), &err);
    assert_ok(test_batch(c, number + 1, &err), &err);
    kith_collection_close(c);
    assert_true(hash_of(path) == models[1].hashes[number + 1 - THERE]);
}

static void a_failed_sync_ends_the_handle(void **state)
{
    (void)state;
    prove_failed_sync(0);
    prove_failed_sync(1);
}

/* ---- The collections ---- */

static void fold_all(kith_collection *c)
{
    kith_error err;
    kith_fold_options fold_options;
    kith_fold_options_init(&fold_options);
    fold_options.spec = "Flat";
    fold_options.always = 1;
    assert_ok(kith_collection_fold(c, &fold_options, &err), &err);
}

static void make_rows(void)
{
    kith_error err;
    x = test_vectors(N + 1, DIM, 0, 1);
    snprintf(models[0].path, sizeof models[0].path, "%s", test_path("model.kith"));
    kith_collection *c = test_collection("model.kith", DIM, KITH_L2SQ);
    test_put_rows(c, 1, N - 10, x, DIM);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_meta_set(c, "name", "value", 5, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    fold_all(c);
    test_put_rows(c, N - 9, 10, x, DIM); /* rows beside the segment */
    kith_collection_close(c);
    models[0].hashes[0] = hash_of(models[0].path);
    put_in_place(0);
    outcome out = {0};
    assert_ok(write_batch(NULL, &out, &err), &err);
    models[0].hashes[1] = hash_of(path);
    assert_true(models[0].hashes[0] != models[0].hashes[1]);
}

static void make_batches(void)
{
    kith_error err;
    snprintf(models[1].path, sizeof models[1].path, "%s", test_path("batches.kith"));
    kith_collection *c = test_collection("batches.kith", BATCH_DIM, KITH_L2SQ);
    for (uint64_t number = 1; number < THERE; number++) assert_ok(test_batch(c, number, &err), &err);
    assert_ok(kith_collection_begin(c, &err), &err); /* what the scenarios ask for is there */
    kith_collection_vector_field_add(c, BATCH_FIELD, BATCH_FIELD_DIM, KITH_L2SQ, NULL, NULL);
    kith_collection_partition_add(c, BATCH_PARTITION, NULL);
    for (int64_t key = 1; key <= BATCH_KEYS / 2; key++) {
        float vector[BATCH_DIM];
        kith_row row = {
            .key = key, .payload = "{\"batch\":1,\"part\":2}", .vector = vector, .dim = BATCH_DIM};
        test_batch_query((uint64_t)key, BATCH_DIM, vector);
        assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, NULL, &err), &err);
        assert_ok(kith_collection_put_vector(c, key, BATCH_FIELD, vector, BATCH_FIELD_DIM, &err), &err);
        assert_ok(kith_collection_set_partition(c, key, BATCH_PARTITION, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
    fold_all(c);
    assert_ok(test_batch(c, THERE, &err), &err);
    kith_collection_close(c);
    models[1].hashes[0] = hash_of(models[1].path);
    put_in_place(1);
    assert_ok(kith_collection_open(path, NULL, &c, &err), &err);
    for (int i = 1; i <= BATCHES; i++) {
        assert_ok(test_batch(c, (uint64_t)(THERE + i), &err), &err);
        assert_ok(kith_collection_hash(c, NULL, &models[1].hashes[i], &err), &err);
    }
    kith_collection_close(c);
}

static int make_models(void **state)
{
    (void)state;
    test_folder_in_memory();
    install();
    snprintf(path, sizeof path, "%s", test_path("struck.kith"));
    snprintf(copy_path, sizeof copy_path, "%s", test_path("copy.kith"));
    snprintf(restored_path, sizeof restored_path, "%s", test_path("restored.kith"));
    make_rows();
    make_batches();
    snprintf(models[2].path, sizeof models[2].path, "%s/tests/golden/collection-v1.kith", KITH_SOURCE_DIR);
    put_in_place(2);
    models[2].hashes[0] = hash_of(path);
    return 0;
}

static int drop_models(void **state)
{
    (void)state;
    free(x);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(the_disk_fails),
        cmocka_unit_test(a_failed_sync_ends_the_handle),
    };
    return cmocka_run_group_tests(tests, make_models, drop_models);
}
