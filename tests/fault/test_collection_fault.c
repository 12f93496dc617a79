/* Collections when memory runs out and when the disk fails: allocation, then I/O call, number 0, 1, 2, ... fails, once
 * alone and once with all that follow, in our own memory, in SQLite's and in jansson's alike. Each call answers with a
 * documented code, nothing is leaked, the collection is sound afterwards and holds a batch wholly or not at all, wholly
 * if its commit was acknowledged.
 *
 * KITH_FAULT_STRIDE=1 lets every single allocation fail, KITH_FAULT_IO_STRIDE=1 every I/O call; the suite takes every
 * 151st and every 7th, beginning with the seed. */
#include "collections.h"

#include <errno.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static int shim_sync(sqlite3_file *file, int flags)
{
    return fails(&disk) ? SQLITE_IOERR_FSYNC : real_of(file)->pMethods->xSync(real_of(file), flags);
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
static char path[512], model_path[512], model_segment[1024], segment[1100];
static uint64_t hash_before, hash_after;

/* What one run did. */
typedef struct outcome {
    int committed;     /* commit answered KITH_OK */
    int commit_failed; /* commit was called and did not */
} outcome;

typedef kith_status (*scenario)(const kith_collection_options *options, outcome *out, kith_error *err);

static kith_status create(const kith_collection_options *options, outcome *out, kith_error *err)
{
    (void)out;
    kith_collection *c;
    kith_status status = kith_collection_create(test_path("created.kith"), DIM, KITH_L2SQ, options, &c, err);
    assert_true((status == KITH_OK) == (c != NULL));
    kith_collection_close(c);
    return status;
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
        status = kith_collection_commit(c, err);
        out->committed = status == KITH_OK;
        out->commit_failed = status != KITH_OK;
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
    if (status == KITH_OK) assert_true(hash == hash_before);
    if (status == KITH_OK) status = kith_collection_get_stats(c, &stats, err);
    kith_collection_close(c);
    return status;
}

static const struct {
    const char *name;
    scenario run;
} scenarios[] = {{"create", create},           {"read_rows", read_rows}, {"search", search},
                 {"write_batch", write_batch}, {"fold", fold},           {"prove", prove},
                 {"use_more", use_more}};

/* ---- The loop ---- */

static void put_model_in_place(void)
{
    char folder[600];
    test_collection_remove(path);
    test_collection_remove(test_path("created.kith"));
    test_copy_file(model_path, path);
    snprintf(folder, sizeof folder, "mkdir '%s.d'", path);
    assert_int_equal(system(folder), 0);
    test_copy_file(model_segment, segment);
}

static uint64_t hash_of(const char *name, const kith_collection_options *options)
{
    kith_error err;
    uint64_t hash;
    kith_collection *c;
    assert_ok(kith_collection_open(name, options, &c, &err), &err);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    assert_ok(kith_collection_hash(c, NULL, &hash, &err), &err);
    kith_collection_close(c);
    return hash;
}

static void check_outcome(const char *name, kith_status status, const outcome *out, const kith_error *err)
{
    if (status != KITH_OK) {
        assert_int_equal(err->code, status);
        assert_true(strlen(err->message) > 5);
    }
    if (live != 0) fail_msg("%s: %zu blocks leaked", name, live);
    uint64_t hash = hash_of(path, NULL);
    assert_true(hash == hash_before || hash == hash_after); /* a batch is there wholly or not at all */
    if (out->committed) assert_true(hash == hash_after);
    if (!out->committed && !out->commit_failed) assert_true(hash == hash_before);
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
        for (int for_ever = 0; for_ever < 2; for_ever++) {
            for (size_t at = test_seed() % step;; at += step) {
                kith_error err;
                outcome out = {0};
                put_model_in_place();
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
                check_outcome(scenarios[s].name, status, &out, &err);
            }
        }
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
    strike(&memory, test_number("KITH_FAULT_STRIDE", 151), is_nomem);
}

static void the_disk_fails(void **state)
{
    (void)state;
    strike(&disk, test_number("KITH_FAULT_IO_STRIDE", 7), is_io);
}

static int make_model(void **state)
{
    (void)state;
    kith_error err;
    test_folder_in_memory();
    install();
    snprintf(model_path, sizeof model_path, "%s", test_path("model.kith"));
    snprintf(path, sizeof path, "%s", test_path("struck.kith"));
    x = test_vectors(N + 1, DIM, 0, 1);
    kith_collection *c = test_collection("model.kith", DIM, KITH_L2SQ);
    test_put_rows(c, 1, N - 10, x, DIM);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_meta_set(c, "name", "value", 5, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    kith_fold_options fold_options;
    kith_fold_options_init(&fold_options);
    fold_options.spec = "Flat";
    fold_options.always = 1;
    assert_ok(kith_collection_fold(c, &fold_options, &err), &err);
    test_put_rows(c, N - 9, 10, x, DIM); /* rows beside the segment */
    kith_collection_close(c);
    snprintf(model_segment, sizeof model_segment, "%s", test_segment_path(model_path));
    snprintf(segment, sizeof segment, "%s.d%s", path, strrchr(model_segment, '/'));
    hash_before = hash_of(model_path, NULL);
    put_model_in_place();
    outcome out = {0};
    assert_ok(write_batch(NULL, &out, &err), &err);
    hash_after = hash_of(path, NULL);
    assert_true(hash_before != hash_after);
    return 0;
}

static int drop_model(void **state)
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
    };
    return cmocka_run_group_tests(tests, make_model, drop_model);
}
