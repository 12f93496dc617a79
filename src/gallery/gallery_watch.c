/* Watching a folder: inotify tells that something has happened, an ordinary index finds out what. So nothing is
 * lost when events are (the queue overflows, a folder is made and filled before it is watched): every index
 * looks at everything, and opens only what has changed. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <dirent.h>

#include "base/error.h"
#include "base/run.h"
#include "gallery/gallery_state.h"

#define QUIET_MS 2000    /* without an event, then a burst of changes is over */
#define LONGEST_MS 30000 /* but so much later at the latest: pictures may come in all day */
#define TICK_MS 200      /* how soon a cancel is noticed */
#define MISSING_MS 5000  /* how often a folder that is away is looked for */
#define MAX_DEPTH 64     /* folders below folders that are watched */

#define EVENTS                                                                                           \
    (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | \
     IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK)

/* One pass over the folders to be watched. */
typedef struct pass {
    int fd;
    const char *root;
    ki_walk_options options;
    const kith_run *run;
    uint8_t *seen; /* [n_seen] by watch: entered in this pass */
    size_t n_seen;
} pass;

/* Whether the folder of a watch was entered already: links may lead to it more than once, or round in a circle. */
static kith_status enter(pass *p, int watch, int *seen, kith_error *err)
{
    size_t at = (size_t)watch;
    if (at >= p->n_seen) {
        size_t n = at + at / 2 + 64;
        uint8_t *grown = realloc(p->seen, n);
        if (!grown) return ki_fail_nomem(err, n);
        memset(grown + p->n_seen, 0, n - p->n_seen);
        p->seen = grown;
        p->n_seen = n;
    }
    *seen = p->seen[at];
    p->seen[at] = 1;
    return KITH_OK;
}

/* Watch a folder and those below that are walked. A folder that is watched already stays so, under the same number:
 * the kernel knows it by its inode. Folders that cannot be read are left out, as the walk leaves them out. */
static kith_status watch_below(pass *p, const char *folder, int depth, kith_error *err)
{
    KI_TRY(ki_run_check(p->run, err));
    int watch = inotify_add_watch(p->fd, folder, EVENTS), seen = 0;
    if (watch < 0) {
        if (errno == ENOSPC)
            return ki_fail(err, KITH_IO,
                           "%s: no more folders can be watched (fs.inotify.max_user_watches is too low)",
                           folder);
        if (errno == ENOMEM) return ki_fail_errno(err, errno, "%s", folder);
        return KITH_OK;
    }
    KI_TRY(enter(p, watch, &seen, err));
    DIR *dir = !seen && depth < MAX_DEPTH ? opendir(folder) : NULL;
    if (!dir) return KITH_OK;
    kith_status status = KITH_OK;
    const struct dirent *entry;
    while (status == KITH_OK && (entry = readdir(dir))) {
        char path[PATH_MAX];
        struct stat st;
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        if (entry->d_type != DT_DIR && entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN) continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) continue;
        if (ki_walk_excluded(&p->options, path + strlen(p->root) + 1)) continue;
        if (entry->d_type != DT_DIR && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))) continue;
        status = watch_below(p, path, depth + 1, err);
    }
    closedir(dir);
    return status;
}

static kith_status watch_tree(const kith_gallery *g, int fd, const char *root,
                              const kith_gallery_index_options *options, const kith_run *run, kith_error *err)
{
    const ki_settings *settings = &g->settings;
    pass p = {.fd = fd, .root = root, .run = run};
    p.options = (ki_walk_options){.exclude = options->exclude ? options->exclude
                                                              : (const char *const *)settings->exclude,
                                  .n_exclude = options->exclude ? options->n_exclude : settings->n_exclude,
                                  .hidden = options->hidden >= 0 ? options->hidden : settings->hidden};
    kith_status status = watch_below(&p, root, 0, err);
    free(p.seen);
    return status;
}

/* Read what has happened. Returns whether it may concern pictures. */
static int drain(int fd)
{
    _Alignas(struct inotify_event) char buffer[16384];
    int concerns = 0;
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n <= 0) return concerns;
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
            at += (ssize_t)sizeof *event + (ssize_t)event->len;
            /* A new file says nothing before it is closed; a new folder is to be looked into. */
            int written_later = (event->mask & IN_CREATE) && !(event->mask & IN_ISDIR);
            int of_folder = event->len == 0 || (event->mask & (IN_ISDIR | IN_Q_OVERFLOW)) != 0;
            if (!written_later && (of_folder || ki_walk_is_picture(event->name) != 0)) concerns = 1;
        }
    }
}

/* Wait until something has happened and a quiet time after it. */
static kith_status wait_for_change(int fd, int missing, const kith_run *run, kith_error *err)
{
    uint64_t begun = ki_now_ns(), first = 0, last = 0;
    for (;;) {
        KI_TRY(ki_run_check(run, err));
        struct pollfd poller = {fd, POLLIN, 0};
        if (poll(&poller, 1, TICK_MS) < 0 && errno != EINTR) return ki_fail_errno(err, errno, "watching");
        uint64_t now = ki_now_ns();
        if ((poller.revents & POLLIN) && drain(fd)) {
            last = now;
            if (!first) first = now;
        }
        if (last &&
            (now - last > (uint64_t)QUIET_MS * 1000000 || now - first > (uint64_t)LONGEST_MS * 1000000))
            return KITH_OK;
        if (missing && now - begun > (uint64_t)MISSING_MS * 1000000) return KITH_OK;
    }
}

static kith_status follow(kith_gallery *g, int fd, const char *folder,
                          const kith_gallery_index_options *options, const kith_run *run,
                          void (*told)(void *ctx, const kith_gallery_report *report), void *ctx,
                          kith_error *err)
{
    kith_gallery_index_options now;
    KI_TRY(ki_gallery_read_index_options(options, &now, err));
    for (int first = 1;; first = 0) {
        kith_gallery_report report;
        kith_gallery_report_init(&report);
        /* Watched before it is indexed: what changes meanwhile is seen. */
        KI_TRY(watch_tree(g, fd, first ? folder : g->settings.root, &now, run, err));
        kith_status status = kith_gallery_index(g, first ? folder : NULL, &now, run, &report, err);
        if (first) {
            if (status != KITH_OK) return status;
            /* What was to be done once has been done. Above all, pictures are not believed to be gone because
             * their disk is, some day. */
            now.features = NULL;
            now.exclude = NULL;
            now.hidden = -1;
            now.retrain = now.relocate = now.retry = now.prune = 0;
        }
        int missing = status == KITH_NOTFOUND, busy = status == KITH_BUSY;
        if (status != KITH_OK && !missing && !busy) return status;
        if (status == KITH_OK && told) told(ctx, &report);
        KI_TRY(wait_for_change(fd, missing || busy, run, err));
    }
}

kith_status kith_gallery_watch(kith_gallery *g, const char *folder, const kith_gallery_index_options *options,
                               const kith_run *run,
                               void (*told)(void *ctx, const kith_gallery_report *report), void *ctx,
                               kith_error *err)
{
    KI_TRY(ki_gallery_refresh(g, err));
    if (!folder) folder = g->settings.root;
    if (!folder) return ki_fail(err, KITH_INVALID, "folder is NULL and nothing was indexed yet");
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0) return ki_fail_errno(err, errno, "folders cannot be watched");
    kith_status status = follow(g, fd, folder, options, run, told, ctx, err);
    close(fd);
    if (status != KITH_CANCELLED) return status;
    ki_error_clear(err);
    return KITH_OK;
}
