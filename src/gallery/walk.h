/* walk.h - the pictures below a folder, sorted.
 *
 * What counts as a picture is told by the ending of the name alone (jpg jpeg jpe jfif png webp gif tif tiff,
 * any case), so that a walk opens no file. A name without any ending is listed as `unsure`: its first bytes
 * must tell, and the caller reads them only if it does not know the file already.
 *
 * Links: a link to a file is a file of its own. A link to a folder is followed after all real folders have
 * been walked, and no folder is entered twice (told by device and inode): loops end, and a folder that can be
 * reached both ways keeps its real name.
 */
#ifndef KI_GALLERY_WALK_H
#define KI_GALLERY_WALK_H

#include <kith/allocator.h>
#include <kith/run.h>
#include <kith/status.h>

typedef struct ki_walk_file {
    const char *path; /* below the root, without a leading slash; bytes as the file system has them */
    uint64_t size;    /* bytes */
    int64_t mtime_ns; /* since 1970 */
    int64_t ctime_ns;
    int unsure;
} ki_walk_file;

/* A folder that could not be read, or a file that could not be looked at. "" is the root. */
typedef struct ki_walk_fault {
    const char *path;
    int sys_errno;
} ki_walk_fault;

typedef struct ki_walk_options {
    const char *const *exclude; /* exclude[n_exclude], shell patterns: one with a slash is matched with the
                                 * path below the root, one without with each name on it */
    size_t n_exclude;
    int hidden; /* nonzero: names with a leading dot, too */
} ki_walk_options;

typedef struct ki_walk {
    ki_walk_file *files; /* ascending by path, byte by byte */
    size_t n, capacity;
    ki_walk_fault *faults; /* ascending, too */
    size_t n_faults, fault_capacity;
    const kith_allocator *allocator;
    struct ki_walk_text *text; /* where the paths live */
} ki_walk;

/* Walk.
 * In:       root, a folder; run for progress ("finding") and cancel, may be NULL.
 * Out:      *walk, to be cleared; empty on failure.
 * Errors:   KITH_NOTFOUND, KITH_IO the root cannot be read; KITH_NOMEM; KITH_CANCELLED. */
kith_status ki_walk_folder(const char *root, const ki_walk_options *options, const kith_run *run,
                           const kith_allocator *allocator, ki_walk *walk, kith_error *err);
void ki_walk_clear(ki_walk *walk);

/* Whether `path` is in a folder that could not be read: nothing is known about it. */
int ki_walk_unknown(const ki_walk *walk, const char *path);

/* Whether a name is one of a picture (1), may be one (-1, no ending), or not (0). */
int ki_walk_is_picture(const char *name);

/* Whether the options exclude a path; each of its folders is asked, too. */
int ki_walk_excluded(const ki_walk_options *options, const char *path);

#endif
