/* segment.c - finding and opening segments: index files that make search fast and may vanish at any time.
 *
 * A segment is built from one state of the database and named after it. It is used only as long as the change log
 * still knows all later changes, its name carries the stamp of that state, every checksum of the file holds, and dim
 * and metric fit. Whatever else is found in the folder is left alone by readers and removed by the next fold. The
 * database knows nothing of segments: building one writes no row, so it disturbs no writer. */
#include "engine/vectors.h"

#include "engine/spaces.h"

#include <kith/file.h>
#include <kith/tune.h>

#include "base/options.h"
#include "base/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_LENGTH 38 /* 16 digits, '-', 16 digits, ".kidx" */

/* ---- Names ---- */

static int parse_name(const char *name, uint64_t *version, uint64_t *stamp)
{
    int end = 0;
    if (strlen(name) != NAME_LENGTH || strspn(name, "0123456789abcdef") != 16 ||
        strspn(name + 17, "0123456789abcdef") != 16)
        return 0;
    return sscanf(name, "%16" SCNx64 "-%16" SCNx64 ".kidx%n", version, stamp, &end) == 2 &&
           end == NAME_LENGTH;
}

void ki_segment_name(char name[KI_SEGMENT_NAME_BYTES], uint64_t version, uint64_t stamp)
{
    snprintf(name, KI_SEGMENT_NAME_BYTES, "%016" PRIx64 "-%016" PRIx64 ".kidx", version, stamp);
}

char *ki_folder_path(const kith_collection *c, const char *name)
{
    size_t size = strlen(c->folder) + strlen(name) + 2;
    char *path = ki_alloc(c->allocator, size, 1);
    if (path) snprintf(path, size, "%s/%s", c->folder, name);
    return path;
}

char *ki_segment_path(const kith_collection *c, uint64_t version, uint64_t stamp)
{
    char name[KI_SEGMENT_NAME_BYTES];
    ki_segment_name(name, version, stamp);
    return ki_folder_path(c, name);
}

int ki_segment_folder_changed(const kith_collection *c, struct timespec *seen)
{
    struct stat info;
    struct timespec now = {0};
    if (stat(c->folder, &info) == 0) now = info.st_mtim;
    int changed = now.tv_sec != seen->tv_sec || now.tv_nsec != seen->tv_nsec;
    *seen = now;
    return changed;
}

/* ---- Finding and opening ---- */

static int is_bad(const ki_buffer *bad, const char *name)
{
    for (size_t at = 0; at < bad->size; at += KI_SEGMENT_NAME_BYTES)
        if (strncmp((const char *)bad->data + at, name, KI_SEGMENT_NAME_BYTES) == 0) return 1;
    return 0;
}

kith_status ki_stamp_holds(kith_collection *c, uint64_t version, uint64_t stamp, int *holds, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_BATCH_STAMP, &stmt, err));
    sqlite3_bind_int64(stmt, 1, (int64_t)version);
    KI_TRY(ki_db_step(c, KI_SQL_BATCH_STAMP, &row, err));
    *holds = row && (uint64_t)sqlite3_column_int64(stmt, 0) == stamp;
    ki_db_reset(c, KI_SQL_BATCH_STAMP);
    return KITH_OK;
}

/* What is looked for in the folder, and what was found. */
typedef struct hunt {
    uint64_t newer_than;
    const ki_buffer *bad;
    char name[KI_SEGMENT_NAME_BYTES]; /* "": none */
    uint64_t version, stamp;
    uint64_t ahead; /* the lowest version that is still to come; 0: none */
} hunt;

/* Compare one name with the best so far. */
static kith_status consider(kith_collection *c, hunt *h, const char *name, kith_error *err)
{
    const ki_state *s = &c->state;
    uint64_t version, stamp;
    int holds = 0;
    if (!parse_name(name, &version, &stamp) || version <= h->version) return KITH_OK;
    if (version > s->version && (h->ahead == 0 || version < h->ahead)) h->ahead = version;
    if (version > s->version || version < s->reset_version || version + 1 < s->oldest || is_bad(h->bad, name))
        return KITH_OK;
    KI_TRY(ki_stamp_holds(c, version, stamp, &holds, err));
    if (!holds) return KITH_OK;
    memcpy(h->name, name, NAME_LENGTH + 1);
    h->version = version;
    h->stamp = stamp;
    return KITH_OK;
}

/* The newest segment whose state fits and which is not known to be bad. */
static kith_status newest(kith_collection *c, hunt *h, kith_error *err)
{
    kith_status status = KITH_OK;
    h->name[0] = 0;
    h->version = h->newer_than;
    DIR *folder = opendir(c->folder);
    if (!folder) return errno == ENOMEM ? ki_fail_nomem(err, 0) : KITH_OK;
    struct dirent *entry;
    while (status == KITH_OK && (entry = readdir(folder)) != NULL)
        status = consider(c, h, entry->d_name, err);
    closedir(folder);
    return status;
}

/* Whether an index of this spec keeps float32 vectors, not seen through a transform. */
static int keeps_vectors(const char *spec)
{
    static const char *const structures[] = {"Flat", "IVF", "HNSW"};
    size_t size = strlen(spec);
    int plain = 0;
    for (size_t i = 0; i < sizeof structures / sizeof *structures; i++)
        plain |= strncmp(spec, structures[i], strlen(structures[i])) == 0;
    return plain && size >= 4 && strcmp(spec + size - 4, "Flat") == 0;
}

/* Which search parameters the index takes, and how far. */
static kith_status read_parameters(ki_segment *segment, const kith_allocator *allocator, kith_error *err)
{
    size_t n = 0;
    KI_TRY(kith_spec_params(segment->spec, NULL, &n, err));
    kith_param_info *infos = ki_alloc_zero(allocator, n, sizeof *infos);
    if (!infos) return ki_fail_nomem(err, n * sizeof *infos);
    kith_status status = kith_spec_params(segment->spec, infos, &n, err);
    segment->main = kith_index_main_param(segment->index);
    for (size_t i = 0; status == KITH_OK && i < n; i++) {
        if (infos[i].when != KITH_AT_SEARCH) continue;
        if (segment->main && strcmp(infos[i].name, segment->main) == 0) {
            segment->main_low = infos[i].low;
            segment->main_high = infos[i].high;
        }
        if (strcmp(infos[i].name, "nprobe") == 0) segment->max_nprobe = infos[i].high;
        if (strcmp(infos[i].name, "refine_k") == 0) segment->max_refine = infos[i].high;
    }
    ki_free(allocator, infos);
    unsigned cells; /* the table's bound is that of the family, this index has so many */
    if (sscanf(segment->spec, "IVF%u", &cells) == 1 && cells < segment->max_nprobe)
        segment->max_nprobe = cells;
    if (segment->max_nprobe > 0) { /* a number of cells, which can be followed when there are more of them */
        segment->main = "nprobe";
        segment->main_low = 1;
        segment->main_high = segment->max_nprobe;
    }
    return status;
}

/* Compare every checksum of the file: what is in it counts as much as the rows themselves. */
static kith_status verify_file(const kith_collection *c, const char *path, kith_error *err)
{
    kith_file *file = NULL;
    uint64_t hash;
    KI_TRY(kith_file_open(path, c->io, c->allocator, &file, err));
    kith_status status = kith_file_verify(file, NULL, &hash, err);
    kith_file_close(file);
    return status;
}

static kith_status open_segment(const kith_collection *c, const char *path, ki_segment *segment,
                                kith_error *err)
{
    struct stat info;
    kith_index_info index_info = {.struct_size = sizeof index_info};
    KI_TRY(verify_file(c, path, err));
    KI_TRY(kith_index_open(path, KITH_OPEN_MAP, c->allocator, c->io, &segment->index, err));
    KI_TRY(kith_index_get_info(segment->index, &index_info, err));
    if (index_info.dim != c->state.dim || index_info.metric != c->state.metric)
        return ki_fail(err, KITH_CORRUPT, "%s: dim or metric is not that of the collection", path);
    snprintf(segment->spec, sizeof segment->spec, "%s", index_info.spec);
    segment->rows = index_info.n;
    segment->bytes = stat(path, &info) == 0 ? (uint64_t)info.st_size : 0;
    segment->whole = keeps_vectors(segment->spec);
    KI_TRY(read_parameters(segment, c->allocator, err));
    return kith_searcher_create(segment->index, &segment->searcher, err);
}

void ki_segment_close(ki_segment *segment)
{
    kith_searcher_free(segment->searcher);
    kith_index_free(segment->index);
    *segment = (ki_segment){0};
}

kith_status ki_segment_find(kith_collection *c, uint64_t newer_than, ki_buffer *bad, ki_segment *segment,
                            uint64_t *ahead, kith_error *err)
{
    hunt h = {.newer_than = newer_than, .bad = bad};
    *segment = (ki_segment){0};
    for (;;) {
        KI_TRY(newest(c, &h, err));
        if (ahead) *ahead = h.ahead;
        if (!h.name[0]) return KITH_OK;
        char *path = ki_folder_path(c, h.name);
        if (!path) return ki_fail_nomem(err, strlen(c->folder));
        kith_status status = open_segment(c, path, segment, err);
        ki_free(c->allocator, path);
        if (status == KITH_OK) {
            segment->version = h.version;
            segment->stamp = h.stamp;
            return KITH_OK;
        }
        ki_segment_close(segment);
        if (status == KITH_NOMEM) return status;
        KI_TRY(ki_buffer_append(bad, h.name, KI_SEGMENT_NAME_BYTES, c->allocator, err));
    }
}

kith_status ki_segment_uncovered(kith_collection *c, uint64_t version, uint64_t *rows, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_CHANGE_COUNT, &stmt, err));
    sqlite3_bind_int64(stmt, 1, (int64_t)version);
    sqlite3_bind_int64(stmt, 2, ki_vector_changes(c));
    KI_TRY(ki_db_step(c, KI_SQL_CHANGE_COUNT, &row, err));
    *rows = row ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
    if (row) ki_db_reset(c, KI_SQL_CHANGE_COUNT);
    return KITH_OK;
}
