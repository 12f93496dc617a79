#include "power.h"

#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- What is written down ---- */

typedef enum kind { WRITE, TRUNCATE, SYNC, CREATE, MOVE, REMOVE, SYNC_FOLDER, NOTE } kind;

typedef struct entry {
    kind kind;
    int file;        /* WRITE, TRUNCATE, SYNC, CREATE: which; NOTE: what */
    int name, other; /* CREATE, REMOVE: the name; MOVE: from and to; SYNC_FOLDER: any name in it */
    uint64_t offset; /* TRUNCATE: the new size */
    size_t size;
    unsigned char *bytes; /* WRITE */
} entry;

enum { MAX_NAMES = 4096, NAME_BYTES = 160 };

static struct {
    char folder[512];
    int on;
    entry *entries;
    size_t n, room, first;     /* first: behind what was there before */
    char (*names)[NAME_BYTES]; /* below the folder; a name never changes its number */
    int n_names, n_files;
    int file_of[MAX_NAMES]; /* as the process sees it; -1: none */
} disk;

static void *checked(void *p)
{
    if (!p) abort();
    return p;
}

static entry *add(kind k)
{
    if (disk.n == disk.room) {
        disk.room = disk.room ? 2 * disk.room : 1024;
        disk.entries = checked(realloc(disk.entries, disk.room * sizeof *disk.entries));
    }
    entry *e = &disk.entries[disk.n++];
    *e = (entry){.kind = k};
    return e;
}

/* The number of a path's name; -1 when it is not below the folder, or nothing is written down. The file that tells
 * readers from writers is not of interest: it is made anew. */
static int name_of(const char *path)
{
    size_t n = strlen(disk.folder);
    if (!disk.on || !path || strncmp(path, disk.folder, n) != 0 || path[n] != '/') return -1;
    const char *name = path + n + 1;
    size_t length = strlen(name);
    if (length > 4 && strcmp(name + length - 4, "-shm") == 0) return -1;
    for (int i = 0; i < disk.n_names; i++)
        if (strcmp(disk.names[i], name) == 0) return i;
    if (disk.n_names == MAX_NAMES || length >= NAME_BYTES) abort();
    if (!disk.names) disk.names = checked(calloc(MAX_NAMES, sizeof *disk.names));
    strcpy(disk.names[disk.n_names], name);
    disk.file_of[disk.n_names] = -1;
    return disk.n_names++;
}

static void wrote(int file, const void *bytes, size_t size, uint64_t offset)
{
    if (!disk.on || file < 0 || size == 0) return;
    entry *e = add(WRITE);
    e->file = file;
    e->offset = offset;
    e->size = size;
    e->bytes = checked(malloc(size));
    memcpy(e->bytes, bytes, size);
}

static void truncated(int file, uint64_t size)
{
    if (!disk.on || file < 0) return;
    entry *e = add(TRUNCATE);
    e->file = file;
    e->offset = size;
}

static void synced(int file)
{
    if (disk.on && file >= 0) add(SYNC)->file = file;
}

static void synced_folder(int name)
{
    if (disk.on && name >= 0) add(SYNC_FOLDER)->name = name;
}

/* The file of a name, a new one where there is none. */
static int opened(int name)
{
    if (name < 0) return -1;
    if (disk.file_of[name] >= 0) return disk.file_of[name];
    disk.file_of[name] = disk.n_files++;
    entry *e = add(CREATE);
    e->name = name;
    e->file = disk.file_of[name];
    return e->file;
}

static void removed(int name)
{
    if (name < 0 || disk.file_of[name] < 0) return;
    add(REMOVE)->name = name;
    disk.file_of[name] = -1;
}

static void moved(int from, int to)
{
    if (from < 0 || to < 0) return;
    entry *e = add(MOVE);
    e->name = from;
    e->other = to;
    disk.file_of[to] = disk.file_of[from];
    disk.file_of[from] = -1;
}

void power_note(int what)
{
    if (disk.on) add(NOTE)->file = what;
}

/* ---- SQLite's files ---- */

typedef struct power_file {
    sqlite3_file base;
    sqlite3_file *real;
    int file, name;
    int new_log; /* a log or journal that was made by opening it: its first sync syncs the folder, as SQLite's does */
} power_file;

static sqlite3_vfs *system_vfs, power_vfs;

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((power_file *)file)->real;
}

#define REAL(call, ...) real_of(file)->pMethods->call(real_of(file), ##__VA_ARGS__)

static int file_close(sqlite3_file *file)
{
    return REAL(xClose);
}
static int file_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    return REAL(xRead, to, n, at);
}
static int file_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    wrote(((power_file *)file)->file, from, (size_t)n, (uint64_t)at);
    return REAL(xWrite, from, n, at);
}
static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    truncated(((power_file *)file)->file, (uint64_t)size);
    return REAL(xTruncate, size);
}
static int file_sync(sqlite3_file *file, int flags)
{
    (void)flags; /* the file is in memory: there is nothing to wait for */
    power_file *p = (power_file *)file;
    synced(p->file);
    if (p->new_log) synced_folder(p->name);
    p->new_log = 0;
    return SQLITE_OK;
}
static int file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return REAL(xFileSize, size);
}
static int file_lock(sqlite3_file *file, int level)
{
    return REAL(xLock, level);
}
static int file_unlock(sqlite3_file *file, int level)
{
    return REAL(xUnlock, level);
}
static int file_reserved(sqlite3_file *file, int *held)
{
    return REAL(xCheckReservedLock, held);
}
static int file_control(sqlite3_file *file, int op, void *arg)
{
    return REAL(xFileControl, op, arg);
}
static int file_sector(sqlite3_file *file)
{
    (void)file;
    return 512;
}
/* No promise: neither atomic writes nor that what is beside a torn write stays as it was. */
static int file_device(sqlite3_file *file)
{
    (void)file;
    return 0;
}
static int file_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **map)
{
    return REAL(xShmMap, page, size, extend, map);
}
static int file_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return REAL(xShmLock, offset, n, flags);
}
static void file_shm_barrier(sqlite3_file *file)
{
    REAL(xShmBarrier);
}
static int file_shm_unmap(sqlite3_file *file, int delete)
{
    return REAL(xShmUnmap, delete);
}

static const sqlite3_io_methods power_methods = {.iVersion = 2,
                                                 .xClose = file_close,
                                                 .xRead = file_read,
                                                 .xWrite = file_write,
                                                 .xTruncate = file_truncate,
                                                 .xSync = file_sync,
                                                 .xFileSize = file_size,
                                                 .xLock = file_lock,
                                                 .xUnlock = file_unlock,
                                                 .xCheckReservedLock = file_reserved,
                                                 .xFileControl = file_control,
                                                 .xSectorSize = file_sector,
                                                 .xDeviceCharacteristics = file_device,
                                                 .xShmMap = file_shm_map,
                                                 .xShmLock = file_shm_lock,
                                                 .xShmBarrier = file_shm_barrier,
                                                 .xShmUnmap = file_shm_unmap};

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    power_file *p = (power_file *)file;
    p->base.pMethods = NULL;
    p->real = (sqlite3_file *)(p + 1);
    int is_new = path && access(path, F_OK) != 0;
    int rc = system_vfs->xOpen(system_vfs, path, p->real, flags, out);
    if (rc != SQLITE_OK) return rc;
    p->name = name_of(path);
    p->file = opened(p->name);
    p->new_log = is_new && (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL)) != 0;
    p->base.pMethods = &power_methods;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
    (void)vfs;
    int name = name_of(path), rc = system_vfs->xDelete(system_vfs, path, 0);
    if (rc != SQLITE_OK) return rc;
    removed(name);
    if (sync) synced_folder(name);
    return SQLITE_OK;
}

void power_install(void)
{
    system_vfs = sqlite3_vfs_find(NULL);
    power_vfs = *system_vfs;
    power_vfs.pNext = NULL;
    power_vfs.zName = "kith-power";
    power_vfs.szOsFile = (int)sizeof(power_file) + system_vfs->szOsFile;
    power_vfs.xOpen = vfs_open;
    power_vfs.xDelete = vfs_delete;
    if (sqlite3_vfs_register(&power_vfs, 1) != SQLITE_OK) abort();
}

/* ---- The engine's files ---- */

enum { MAX_FDS = 1024 };
static int file_of_fd[MAX_FDS]; /* plus one; 0: not of interest */

#define POSIX kith_io_posix()

static int io_open(void *ctx, const char *path, int flags, unsigned mode)
{
    int fd = POSIX->open(ctx, path, flags, mode);
    if (fd >= MAX_FDS) abort();
    if (fd >= 0) file_of_fd[fd] = (flags & O_ACCMODE) == O_RDONLY ? 0 : opened(name_of(path)) + 1;
    return fd;
}
static int io_close(void *ctx, int fd)
{
    file_of_fd[fd] = 0;
    return POSIX->close(ctx, fd);
}
static int64_t io_read(void *ctx, int fd, void *buf, size_t size, uint64_t offset)
{
    return POSIX->read(ctx, fd, buf, size, offset);
}
static int64_t io_write(void *ctx, int fd, const void *buf, size_t size, uint64_t offset)
{
    wrote(file_of_fd[fd] - 1, buf, size, offset);
    return POSIX->write(ctx, fd, buf, size, offset);
}
static int io_size(void *ctx, int fd, uint64_t *bytes)
{
    return POSIX->size(ctx, fd, bytes);
}
static int io_sync(void *ctx, int fd)
{
    (void)ctx;
    synced(file_of_fd[fd] - 1);
    return 0;
}
static int io_map(void *ctx, int fd, size_t size, void **address)
{
    return POSIX->map(ctx, fd, size, address);
}
static int io_unmap(void *ctx, void *address, size_t size)
{
    return POSIX->unmap(ctx, address, size);
}
static int io_rename(void *ctx, const char *from, const char *to)
{
    int failed = POSIX->rename(ctx, from, to);
    if (!failed) moved(name_of(from), name_of(to));
    return failed;
}
static int io_unlink(void *ctx, const char *path)
{
    int failed = POSIX->unlink(ctx, path);
    if (!failed) removed(name_of(path));
    return failed;
}
static int io_sync_dir(void *ctx, const char *path)
{
    (void)ctx;
    synced_folder(name_of(path));
    return 0;
}

const kith_io *power_io(void)
{
    static const kith_io io = {.struct_size = sizeof(kith_io),
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
    return &io;
}

/* What the engine calls itself, where a collection gets its name: the linker leads it here in the tests that say so. */
int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    int failed = __real_renameat2(from_dir, from, to_dir, to, flags);
    if (!failed) moved(name_of(from), name_of(to));
    return failed;
}

/* ---- Recording ---- */

/* What is in the folder now is on the disk. */
static void take_in(const char *below)
{
    char path[1024];
    snprintf(path, sizeof path, "%s%s", disk.folder, below);
    DIR *folder = opendir(path);
    struct dirent *item;
    while (folder && (item = readdir(folder)) != NULL) {
        struct stat info;
        char name[512];
        if (item->d_name[0] == '.' || strcmp(item->d_name, "lock") == 0) continue;
        snprintf(name, sizeof name, "%s/%s", below, item->d_name);
        snprintf(path, sizeof path, "%s%s", disk.folder, name);
        if (stat(path, &info) != 0) abort();
        if (S_ISDIR(info.st_mode)) {
            take_in(name);
            continue;
        }
        int number = name_of(path), file = opened(number), fd = open(path, O_RDONLY | O_CLOEXEC);
        if (number < 0) continue;
        unsigned char *bytes = checked(malloc((size_t)info.st_size + 1));
        if (fd < 0 || read(fd, bytes, (size_t)info.st_size) != info.st_size) abort();
        wrote(file, bytes, (size_t)info.st_size, 0);
        synced(file);
        synced_folder(number);
        free(bytes);
        close(fd);
    }
    if (folder) closedir(folder);
}

void power_record(const char *folder)
{
    power_clear();
    snprintf(disk.folder, sizeof disk.folder, "%s", folder);
    disk.on = 1;
    take_in("");
    disk.first = disk.n;
}

void power_stop(void)
{
    disk.on = 0;
}

static void settled_clear(void);

void power_clear(void)
{
    settled_clear();
    for (size_t i = 0; i < disk.n; i++) free(disk.entries[i].bytes);
    free(disk.entries);
    free(disk.names);
    memset(&disk, 0, sizeof disk);
}

size_t power_moments(void)
{
    return disk.n;
}

int power_is_sync(size_t t)
{
    return t < disk.n && (disk.entries[t].kind == SYNC || disk.entries[t].kind == SYNC_FOLDER);
}

int power_noted(size_t t, int what, int modulus)
{
    while (t-- > 0)
        if (disk.entries[t].kind == NOTE && disk.entries[t].file % modulus == what)
            return disk.entries[t].file;
    return -1;
}

/* ---- Images ---- */

static uint64_t next_random(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

typedef struct content {
    unsigned char *bytes;
    size_t size, room;
} content;

static void put(content *c, const unsigned char *bytes, size_t size, uint64_t offset)
{
    size_t end = (size_t)offset + size;
    if (end > c->room) {
        c->room = end + end / 2;
        c->bytes = checked(realloc(c->bytes, c->room));
    }
    if (end > c->size) {
        memset(c->bytes + c->size, 0, end - c->size);
        c->size = end;
    }
    memcpy(c->bytes + offset, bytes, size);
}

/* What is on the disk for certain at moment t, which images made in the order of time bring forward; and the changes made since
 * the last sync of their file. */
static struct {
    content *files;   /* [disk.n_files]; NULL: to be begun anew */
    size_t t, newest; /* newest: the last sync before t */
    size_t *loose, n_loose, room;
} settled;

static void settled_clear(void)
{
    for (int i = 0; settled.files && i < disk.n_files; i++) free(settled.files[i].bytes);
    free(settled.files);
    free(settled.loose);
    memset(&settled, 0, sizeof settled);
}

static void apply_whole(content *c, const entry *e)
{
    if (e->kind == WRITE) put(c, e->bytes, e->size, e->offset);
    if (e->kind == TRUNCATE && e->offset < c->size) c->size = (size_t)e->offset;
}

static void settle(int file)
{
    size_t kept = 0;
    for (size_t i = 0; i < settled.n_loose; i++) {
        const entry *e = &disk.entries[settled.loose[i]];
        if (e->file == file)
            apply_whole(&settled.files[file], e);
        else
            settled.loose[kept++] = settled.loose[i];
    }
    settled.n_loose = kept;
}

static void settle_until(size_t t)
{
    if (t < settled.t) settled_clear();
    if (!settled.files) settled.files = checked(calloc((size_t)disk.n_files + 1, sizeof *settled.files));
    for (; settled.t < t; settled.t++) {
        const entry *e = &disk.entries[settled.t];
        if (e->kind == SYNC) {
            settle(e->file);
            settled.newest = settled.t;
        }
        if (e->kind != WRITE && e->kind != TRUNCATE) continue;
        if (settled.n_loose == settled.room) {
            settled.room = 2 * settled.room + 64;
            settled.loose = checked(realloc(settled.loose, settled.room * sizeof *settled.loose));
        }
        settled.loose[settled.n_loose++] = settled.t;
    }
}

static void write_at(int fd, const unsigned char *bytes, size_t size, uint64_t offset)
{
    if (fd >= 0 && pwrite(fd, bytes, size, (off_t)offset) != (ssize_t)size) abort();
}

static void write_torn(int fd, const entry *e, size_t piece, uint64_t *seed)
{
    for (size_t at = 0; at < e->size;) {
        size_t n = piece - (size_t)((e->offset + at) % piece);
        if (n > e->size - at) n = e->size - at;
        if (next_random(seed) % 2) write_at(fd, e->bytes + at, n, e->offset + at);
        at += n;
    }
}

/* A change of a file that was not synced. fd -1: the file has no name. */
static void write_loose(int fd, const entry *e, power_loss loss, int in_prefix, uint64_t *seed)
{
    struct stat info;
    int whole = loss == POWER_EVERYTHING || (loss == POWER_PREFIX && in_prefix) ||
                (loss >= POWER_SUBSET && next_random(seed) % 2);
    if (whole && e->kind == TRUNCATE) {
        if (fd < 0) return;
        if (fstat(fd, &info) != 0) abort();
        if (e->offset < (uint64_t)info.st_size && ftruncate(fd, (off_t)e->offset) != 0) abort();
    } else if (whole && e->kind == WRITE && loss < POWER_TORN_512) {
        write_at(fd, e->bytes, e->size, e->offset);
    } else if (e->kind == WRITE && loss >= POWER_TORN_512) {
        write_torn(fd, e, loss == POWER_TORN_512 ? 512 : 4096, seed);
    }
}

/* Up to the last slash. */
static size_t folder_length(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? (size_t)(slash - name) : 0;
}

static int same_folder(int a, int b)
{
    size_t n = folder_length(disk.names[a]), m = folder_length(disk.names[b]);
    return n == m && memcmp(disk.names[a], disk.names[b], n) == 0;
}

/* The file of each name. Names are changed in the order in which they were: of those not synced, the first `kept`. */
static void names_at(size_t t, power_loss loss, uint64_t *seed, int *file_of)
{
    for (int i = 0; i < disk.n_names; i++) file_of[i] = -1;
    size_t last = 0, loose = 0; /* behind the last entry that some sync of its folder covers */
    for (size_t i = 0; i < t; i++) {
        const entry *e = &disk.entries[i];
        if (e->kind != CREATE && e->kind != MOVE && e->kind != REMOVE) continue;
        size_t s = i + 1;
        while (s < t && !(disk.entries[s].kind == SYNC_FOLDER && same_folder(disk.entries[s].name, e->name)))
            s++;
        if (s < t) last = i + 1;
    }
    for (size_t i = last; i < t; i++) {
        kind k = disk.entries[i].kind;
        loose += k == CREATE || k == MOVE || k == REMOVE;
    }
    size_t kept = loss == POWER_NOTHING      ? 0
                  : loss == POWER_EVERYTHING ? loose
                                             : next_random(seed) % (loose + 1);
    for (size_t i = 0; i < t; i++) {
        const entry *e = &disk.entries[i];
        if (e->kind != CREATE && e->kind != MOVE && e->kind != REMOVE) continue;
        if (i >= last && kept-- == 0) break;
        if (e->kind == CREATE) file_of[e->name] = e->file;
        if (e->kind == MOVE) file_of[e->other] = file_of[e->name];
        if (e->kind != CREATE) file_of[e->name] = -1;
    }
}

static void make_folders(const char *path, size_t from)
{
    char part[1024];
    for (size_t i = from; path[i]; i++) {
        if (path[i] != '/') continue;
        snprintf(part, sizeof part, "%.*s", (int)i, path);
        mkdir(part, 0777);
    }
}

static int make_file(const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    make_folders(path, strlen(folder));
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) abort();
    return fd;
}

static void empty_folder(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *item;
    while (folder && (item = readdir(folder)) != NULL) {
        char below[1024];
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) continue;
        snprintf(below, sizeof below, "%s/%s", path, item->d_name);
        if (unlink(below) == 0) continue;
        empty_folder(below);
        rmdir(below);
    }
    if (folder) closedir(folder);
}

void power_image(size_t t, power_loss loss, uint64_t seed, const char *folder)
{
    int file_of[MAX_NAMES], lies = loss == POWER_LIES;
    int *fds = checked(malloc(((size_t)disk.n_files + 1) * sizeof *fds));
    size_t prefix = t > 0 ? next_random(&seed) % (t + 1) : 0;
    names_at(t, loss, &seed, file_of);
    settle_until(lies && disk.first < t ? disk.first : t);
    if (prefix < settled.newest)
        prefix = settled.newest + (t - settled.newest) * (size_t)(next_random(&seed) % 4) / 4;
    mkdir(folder, 0777);
    empty_folder(folder);
    for (int i = 0; i < disk.n_files; i++) fds[i] = -1;
    for (int i = 0; i < disk.n_names; i++) {
        if (file_of[i] < 0) continue;
        int fd = fds[file_of[i]] = make_file(folder, disk.names[i]);
        write_at(fd, settled.files[file_of[i]].bytes, settled.files[file_of[i]].size, 0);
    }
    for (size_t i = 0; i < settled.n_loose && !lies; i++) {
        const entry *e = &disk.entries[settled.loose[i]];
        write_loose(fds[e->file], e, loss, settled.loose[i] < prefix, &seed);
    }
    for (int i = 0; i < disk.n_files; i++)
        if (fds[i] >= 0) close(fds[i]);
    free(fds);
    if (lies) settled_clear();
}
