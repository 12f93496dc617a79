/* A folder tree is walked breadth first with one open folder at a time, so its depth costs no file descriptors
 * and no stack. The list is sorted at the end: the order does not depend on the file system. */
#include "gallery/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/run.h"

#define TEXT_BLOCK (64u << 10) /* bytes of names that are allocated at a time */

struct ki_walk_text {
    struct ki_walk_text *next;
    size_t used, size;
    char bytes[];
};

/* The folders still to be walked, first those that were found as folders, then those found as links. */
typedef struct folder_list {
    const char **paths;
    size_t n, capacity, done;
} folder_list;

/* The folders that were entered: an open-addressing set of (device, inode). */
typedef struct folder_set {
    struct folder_id {
        uint64_t dev, ino;
        int used;
    } * slots;
    size_t n, capacity; /* capacity is a power of two or 0 */
} folder_set;

typedef struct walker {
    ki_walk *walk;
    const char *root;
    const ki_walk_options *options;
    const kith_run *run;
    ki_stage stage;
    folder_list folders, links;
    folder_set seen;
} walker;

static const char *const endings[] = {"jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "tif", "tiff"};

int ki_walk_is_picture(const char *name)
{
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name) return -1;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(dot + 1, endings[i]) == 0) return 1;
    return 0;
}

/* Whether a pattern excludes the file or folder `path`, whose last name is `name`. */
static int excluded(const ki_walk_options *options, const char *path, const char *name)
{
    for (size_t i = 0; i < options->n_exclude; i++) {
        const char *pattern = options->exclude[i];
        int matches = strchr(pattern, '/') ? fnmatch(pattern[0] == '/' ? pattern + 1 : pattern, path, 0) == 0
                                           : fnmatch(pattern, name, 0) == 0;
        if (matches) return 1;
    }
    return 0;
}

int ki_walk_excluded(const ki_walk_options *options, const char *path)
{
    char part[PATH_MAX];
    size_t size = strlen(path);
    if (size >= sizeof part) return 0;
    for (size_t end = 1; end <= size; end++) {
        if (path[end] != '/' && path[end] != 0) continue;
        memcpy(part, path, end);
        part[end] = 0;
        const char *slash = strrchr(part, '/');
        const char *name = slash ? slash + 1 : part;
        if ((name[0] == '.' && !options->hidden) || excluded(options, part, name)) return 1;
    }
    return 0;
}

/* "folder/name" (or "name" at the root), kept as long as the walk; NULL without memory. */
static const char *keep_path(ki_walk *walk, const char *folder, const char *name)
{
    size_t folder_size = strlen(folder), name_size = strlen(name);
    size_t need = folder_size + name_size + 2;
    struct ki_walk_text *text = walk->text;
    if (!text || text->size - text->used < need) {
        size_t size = need > TEXT_BLOCK ? need : TEXT_BLOCK;
        text = ki_alloc(walk->allocator, 1, sizeof *text + size);
        if (!text) return NULL;
        *text = (struct ki_walk_text){.next = walk->text, .used = 0, .size = size};
        walk->text = text;
    }
    char *path = text->bytes + text->used;
    size_t at = folder_size;
    memcpy(path, folder, folder_size);
    if (folder_size) path[at++] = '/';
    memcpy(path + at, name, name_size + 1);
    text->used += at + name_size + 1;
    return path;
}

static kith_status push_folder(walker *w, folder_list *list, const char *path, kith_error *err)
{
    if (list->n == list->capacity) {
        size_t capacity = ki_grown(list->capacity, list->n + 1);
        const char **grown =
            ki_realloc(w->walk->allocator, list->paths, list->capacity, capacity, sizeof *grown);
        if (!grown) return ki_fail_nomem(err, capacity * sizeof *grown);
        list->paths = grown;
        list->capacity = capacity;
    }
    list->paths[list->n++] = path;
    return KITH_OK;
}

static kith_status push_fault(walker *w, const char *path, int sys_errno, kith_error *err)
{
    ki_walk *walk = w->walk;
    if (walk->n_faults == walk->fault_capacity) {
        size_t capacity = ki_grown(walk->fault_capacity, walk->n_faults + 1);
        ki_walk_fault *grown =
            ki_realloc(walk->allocator, walk->faults, walk->fault_capacity, capacity, sizeof *grown);
        if (!grown) return ki_fail_nomem(err, capacity * sizeof *grown);
        walk->faults = grown;
        walk->fault_capacity = capacity;
    }
    walk->faults[walk->n_faults++] = (ki_walk_fault){.path = path, .sys_errno = sys_errno};
    return KITH_OK;
}

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static kith_status push_file(walker *w, const char *path, const struct stat *st, int unsure, kith_error *err)
{
    ki_walk *walk = w->walk;
    if (walk->n == walk->capacity) {
        size_t capacity = ki_grown(walk->capacity, walk->n + 1);
        ki_walk_file *grown =
            ki_realloc(walk->allocator, walk->files, walk->capacity, capacity, sizeof *grown);
        if (!grown) return ki_fail_nomem(err, capacity * sizeof *grown);
        walk->files = grown;
        walk->capacity = capacity;
    }
    walk->files[walk->n++] = (ki_walk_file){.path = path,
                                            .size = (uint64_t)st->st_size,
                                            .mtime_ns = nanoseconds(st->st_mtim),
                                            .ctime_ns = nanoseconds(st->st_ctim),
                                            .unsure = unsure};
    ki_stage_report(&w->stage, walk->n);
    return KITH_OK;
}

/* The slot of an id in a set that has a free one. */
static struct folder_id *slot_of(const folder_set *set, uint64_t dev, uint64_t ino)
{
    size_t at = (size_t)ki_mix64(dev * 31 + ino) & (set->capacity - 1);
    while (set->slots[at].used && (set->slots[at].dev != dev || set->slots[at].ino != ino))
        at = (at + 1) & (set->capacity - 1);
    return &set->slots[at];
}

/* Note that a folder is entered. *again is 1 if it has been before. */
static kith_status enter(walker *w, uint64_t dev, uint64_t ino, int *again, kith_error *err)
{
    folder_set *set = &w->seen;
    if (2 * (set->n + 1) > set->capacity) {
        folder_set larger = {.capacity = set->capacity ? 2 * set->capacity : 64};
        larger.slots = ki_alloc_zero(w->walk->allocator, larger.capacity, sizeof *larger.slots);
        if (!larger.slots) return ki_fail_nomem(err, larger.capacity * sizeof *larger.slots);
        for (size_t i = 0; i < set->capacity; i++)
            if (set->slots[i].used) *slot_of(&larger, set->slots[i].dev, set->slots[i].ino) = set->slots[i];
        larger.n = set->n;
        ki_free(w->walk->allocator, set->slots);
        *set = larger;
    }
    struct folder_id *slot = slot_of(set, dev, ino);
    *again = slot->used;
    if (!slot->used) {
        *slot = (struct folder_id){.dev = dev, .ino = ino, .used = 1};
        set->n++;
    }
    return KITH_OK;
}

/* One name in a folder. Most names need no system call: the folder says what is a file and what is not. */
static kith_status visit(walker *w, int fd, const char *folder, const struct dirent *entry, kith_error *err)
{
    const char *name = entry->d_name;
    if (name[0] == '.' && (!w->options->hidden || name[1] == 0 || (name[1] == '.' && name[2] == 0)))
        return KITH_OK;
    int picture = ki_walk_is_picture(name);
    if (entry->d_type == DT_REG && !picture) return KITH_OK;
    if (entry->d_type == DT_FIFO || entry->d_type == DT_SOCK || entry->d_type == DT_CHR ||
        entry->d_type == DT_BLK)
        return KITH_OK;
    const char *path = keep_path(w->walk, folder, name);
    if (!path) return ki_fail_nomem(err, TEXT_BLOCK);
    if (excluded(w->options, path, name)) return KITH_OK;

    struct stat st;
    int is_link = entry->d_type == DT_LNK;
    if (entry->d_type == DT_DIR) return push_folder(w, &w->folders, path, err);
    if (fstatat(fd, name, &st, 0) != 0) {
        /* Gone since it was listed, or a link that leads nowhere or round in a circle: no file, no fault. */
        if (errno == ENOENT || errno == ELOOP || errno == ENOTDIR) return KITH_OK;
        return push_fault(w, path, errno, err);
    }
    if (entry->d_type == DT_UNKNOWN) {
        struct stat self;
        is_link = fstatat(fd, name, &self, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(self.st_mode);
    }
    if (S_ISDIR(st.st_mode)) return push_folder(w, is_link ? &w->links : &w->folders, path, err);
    if (S_ISREG(st.st_mode) && picture) return push_file(w, path, &st, picture < 0, err);
    return KITH_OK;
}

static kith_status walk_one(walker *w, const char *folder, kith_error *err)
{
    char full[PATH_MAX];
    size_t root_size = strlen(w->root), folder_size = strlen(folder);
    if (root_size + folder_size + 2 > sizeof full) return push_fault(w, folder, ENAMETOOLONG, err);
    memcpy(full, w->root, root_size);
    full[root_size] = '/';
    memcpy(full + root_size + 1, folder, folder_size + 1);

    int fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        int sys_errno = errno;
        if (fd >= 0) close(fd);
        if (folder[0] == 0) return ki_fail_errno(err, sys_errno, "%s", w->root);
        return sys_errno == ENOENT ? KITH_OK : push_fault(w, folder, sys_errno, err);
    }
    struct stat st;
    int again = 0;
    kith_status status = KITH_OK;
    if (fstat(fd, &st) == 0) status = enter(w, (uint64_t)st.st_dev, (uint64_t)st.st_ino, &again, err);
    while (status == KITH_OK && !again) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno) status = push_fault(w, folder, errno, err);
            break;
        }
        status = visit(w, fd, folder, entry, err);
    }
    closedir(dir);
    return status;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const ki_walk_file *)a)->path, ((const ki_walk_file *)b)->path);
}

static int compare_faults(const void *a, const void *b)
{
    return strcmp(((const ki_walk_fault *)a)->path, ((const ki_walk_fault *)b)->path);
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static kith_status walk_all(walker *w, kith_error *err)
{
    const char *root = keep_path(w->walk, "", "");
    if (!root) return ki_fail_nomem(err, TEXT_BLOCK);
    KI_TRY(push_folder(w, &w->folders, root, err));
    size_t sorted = 0; /* links before this one are in order */
    while (w->folders.done < w->folders.n || w->links.done < w->links.n) {
        KI_TRY(ki_run_check(w->run, err));
        if (w->folders.done < w->folders.n) {
            KI_TRY(walk_one(w, w->folders.paths[w->folders.done++], err));
        } else {
            /* The order decides which of two links to one folder gives its pictures their names. */
            if (w->links.done == sorted) {
                qsort(w->links.paths + sorted, w->links.n - sorted, sizeof *w->links.paths, compare_text);
                sorted = w->links.n;
            }
            KI_TRY(walk_one(w, w->links.paths[w->links.done++], err));
        }
    }
    return KITH_OK;
}

kith_status ki_walk_folder(const char *root, const ki_walk_options *options, const kith_run *run,
                           const kith_allocator *allocator, ki_walk *walk, kith_error *err)
{
    *walk = (ki_walk){.allocator = allocator};
    walker w = {.walk = walk, .root = root, .options = options, .run = run};
    ki_stage_begin(&w.stage, run, "finding", 0);
    kith_status status = walk_all(&w, err);
    ki_free(allocator, w.folders.paths);
    ki_free(allocator, w.links.paths);
    ki_free(allocator, w.seen.slots);
    if (status != KITH_OK) {
        ki_walk_clear(walk);
        return status;
    }
    if (walk->n) qsort(walk->files, walk->n, sizeof *walk->files, compare_files);
    if (walk->n_faults) qsort(walk->faults, walk->n_faults, sizeof *walk->faults, compare_faults);
    return KITH_OK;
}

void ki_walk_clear(ki_walk *walk)
{
    for (struct ki_walk_text *text = walk->text; text;) {
        struct ki_walk_text *next = text->next;
        ki_free(walk->allocator, text);
        text = next;
    }
    ki_free(walk->allocator, walk->files);
    ki_free(walk->allocator, walk->faults);
    *walk = (ki_walk){.allocator = walk->allocator};
}

int ki_walk_unknown(const ki_walk *walk, const char *path)
{
    for (size_t i = 0; i < walk->n_faults; i++) {
        const char *fault = walk->faults[i].path;
        size_t size = strlen(fault);
        if (size == 0) return 1;
        if (strncmp(path, fault, size) == 0 && (path[size] == '/' || path[size] == 0)) return 1;
    }
    return 0;
}
