/* Bringing a collection in step with a folder.
 *
 *     walk -> decide how features are made -> plan -> read, in order -> remove -> fold
 *
 * Pictures come back from the workers in any order and are written in the order of their paths: a ring of
 * results waits for the first one. So the keys do not depend on the number of workers or on who was faster,
 * and a run that was killed and another that finishes its work leave what one run would have left.
 *
 * Everything that changes is written in batches; what a run would have to remember between two batches is in the
 * collection already: a file that was not reached is not known yet, a row whose vector is due has none. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/run.h"
#include "gallery/gallery_state.h"

#define RING_BATCHES 4    /* results that may wait for a slow picture, in batches */
#define COMMIT_SECONDS 2  /* a batch that is not full is written after that */
#define REMOVE_BATCH 1000 /* rows */
#define WAIT_MS 200       /* how soon a cancel is noticed */

typedef enum slot_state { SLOT_FREE, SLOT_RUNNING, SLOT_DONE } slot_state;

/* One file on its way from the folder to the collection. */
typedef struct slot {
    slot_state state;
    int gone;         /* the file has vanished since the walk */
    int decoded_only; /* it must be decoded, whatever its hash */
    kith_status status;
    char reason[sizeof((kith_error *)0)->message];
    ki_reply reply; /* owns what picture points into */
    ki_picture picture;
} slot;

typedef struct indexer {
    kith_gallery *g;
    kith_gallery_index_options options;
    const kith_run *run;
    kith_gallery_report *report;
    char root[PATH_MAX];
    int lock; /* the folder of the collection's segments, locked; -1 */
    ki_walk walk;
    ki_walk_options walk_options;
    ki_inventory inventory;
    ki_plan plan;
    int renew; /* every vector is made anew */
    /* How features are made. */
    kith_features_options wanted;
    char *model; /* absolute path of wanted.model */
    uint8_t *features;
    size_t features_size;
    size_t dim;
    /* The pictures between next_out and next_in are in the ring. */
    slot *ring;
    size_t ring_size, next_in, next_out, finished;
    uint8_t *claimed; /* [n_vanished] of the plan: turned up again elsewhere */
    float *vector;    /* [dim] aligned */
    uint64_t committed_ns;
    kith_gallery_report batch; /* what the open batch will add to the report */
    ki_stage stage;
} indexer;

/* ---- The folder and the lock ---- */

static kith_status find_root(indexer *ix, const char *folder, kith_error *err)
{
    const ki_settings *settings = &ix->g->settings;
    if (!folder) folder = settings->root;
    if (!folder) return ki_fail(err, KITH_INVALID, "folder is NULL and nothing was indexed yet");
    if (!realpath(folder, ix->root)) {
        int why = errno;
        /* Only the root that is on record can be gone for good. */
        int ours = settings->root && strcmp(folder, settings->root) == 0;
        if (why == ENOENT && ix->options.prune && ours) {
            snprintf(ix->root, sizeof ix->root, "%s", folder);
            return KITH_OK;
        }
        return ki_fail_errno(err, why, "%s", folder);
    }
    struct stat st;
    if (stat(ix->root, &st) != 0) return ki_fail_errno(err, errno, "%s", folder);
    if (!S_ISDIR(st.st_mode)) return ki_fail(err, KITH_INVALID, "%s is not a folder", folder);
    if (settings->root && strcmp(settings->root, ix->root) != 0 && !ix->options.relocate)
        return ki_fail(err, KITH_INVALID,
                       "%s holds the pictures of %s, not of %s; take another collection, or relocate if that "
                       "folder has moved",
                       ix->g->path, settings->root, ix->root);
    return KITH_OK;
}

/* One process indexes at a time: two would both add what is new. The lock ends with the process. */
static kith_status lock(indexer *ix, kith_error *err)
{
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s.d", ix->g->path) >= (int)sizeof folder)
        return ki_fail_errno(err, ENAMETOOLONG, "%s", ix->g->path);
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) return ki_fail_errno(err, errno, "%s", folder);
    ix->lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (ix->lock < 0) return ki_fail_errno(err, errno, "%s", folder);
    if (flock(ix->lock, LOCK_EX | LOCK_NB) == 0) return KITH_OK;
    if (errno == EWOULDBLOCK)
        return ki_fail(err, KITH_BUSY, "%s is being indexed by another process", ix->g->path);
    return ki_fail_errno(err, errno, "locking %s", folder);
}

static kith_status walk(indexer *ix, kith_error *err)
{
    const ki_settings *settings = &ix->g->settings;
    uint64_t begun = ki_now_ns();
    ix->walk_options = (ki_walk_options){
        .exclude = ix->options.exclude ? ix->options.exclude : (const char *const *)settings->exclude,
        .n_exclude = ix->options.exclude ? ix->options.n_exclude : settings->n_exclude,
        .hidden = ix->options.hidden >= 0 ? ix->options.hidden : settings->hidden};
    kith_status status =
        ki_walk_folder(ix->root, &ix->walk_options, ix->run, ix->g->allocator, &ix->walk, err);
    if (status == KITH_NOTFOUND && ix->options.prune) status = KITH_OK; /* gone for good */
    ix->report->seconds_walk = (double)(ki_now_ns() - begun) * 1e-9;
    return status;
}

/* Names without an ending: those that are not known are pictures if they begin like one. The rest goes. */
static kith_status sniff(indexer *ix, kith_error *err)
{
    size_t kept = 0, known = 0, bad = 0;
    const ki_inventory *have = &ix->inventory;
    for (size_t i = 0; i < ix->walk.n; i++) {
        ki_walk_file file = ix->walk.files[i];
        while (known < have->n && strcmp(have->rows[known].file.path, file.path) < 0) known++;
        while (bad < have->n_bad && strcmp(have->bad[bad].path, file.path) < 0) bad++;
        int is_known = (known < have->n && strcmp(have->rows[known].file.path, file.path) == 0) ||
                       (bad < have->n_bad && strcmp(have->bad[bad].path, file.path) == 0);
        if (file.unsure && !is_known) {
            uint8_t head[KITH_IMAGE_SNIFF_BYTES];
            int fd;
            kith_status status = ki_gallery_open_file(ix->root, &file, &fd, err);
            if (status == KITH_INTERNAL || status == KITH_NOMEM) return status;
            if (fd < 0) continue;
            ssize_t n = pread(fd, head, sizeof head, 0);
            close(fd);
            if (n <= 0 || kith_image_sniff(head, (size_t)n) == KITH_IMAGE_UNKNOWN) continue;
        }
        ix->walk.files[kept++] = ix->walk.files[i];
    }
    ix->walk.n = kept;
    return KITH_OK;
}

/* An empty folder is more often one that is not mounted than one whose pictures were all deleted. */
static kith_status refuse_empty(const indexer *ix, kith_error *err)
{
    if (ix->walk.n > 0) return KITH_OK;
    if (ix->inventory.n == 0)
        return ix->g->settings.root ? KITH_OK : ki_fail(err, KITH_NOTFOUND, "no pictures in %s", ix->root);
    if (ix->options.prune) return KITH_OK;
    return ki_fail(err, KITH_NOTFOUND,
                   "no pictures in %s, where there were %zu: is it mounted? prune drops them all from %s",
                   ix->root, ix->inventory.n, ix->g->path);
}

/* ---- How features are made ---- */

static kith_status copy_wanted(indexer *ix, const kith_features_options *given, kith_error *err)
{
    kith_features_options_init(&ix->wanted);
    ix->wanted.kind = ix->g->settings.kind;
    if (!given) return KITH_OK;
    KI_TRY(ki_options_read(&ix->wanted, sizeof ix->wanted, given, "features", err));
    if (ix->wanted.kind != KITH_FEATURES_MODEL || !ix->wanted.model) return KITH_OK;
    /* The collection remembers where the model is: from whatever folder it is used. */
    ix->model = realpath(ix->wanted.model, NULL);
    if (!ix->model) return ki_fail_errno(err, errno, "%s", ix->wanted.model);
    ix->wanted.model = ix->model;
    return KITH_OK;
}

/* The features become those of this run. They are freed. */
static kith_status adopt(indexer *ix, kith_features *features, kith_error *err)
{
    ki_settings *settings = &ix->g->settings;
    uint8_t *bytes;
    size_t size;
    char *description = strdup(kith_features_description(features));
    kith_status status = description ? KITH_OK : ki_fail_nomem(err, 1);
    if (status == KITH_OK) status = kith_features_save(features, &bytes, &size, err);
    if (status == KITH_OK) {
        free(ix->features);
        ix->features = malloc(size + 1);
        if (ix->features) memcpy(ix->features, bytes, size);
        kith_features_bytes_free(features, bytes);
        if (!ix->features) status = ki_fail_nomem(err, size);
    }
    if (status == KITH_OK) {
        uint64_t fingerprint = kith_features_fingerprint(features);
        ix->features_size = size;
        ix->dim = kith_features_dim(features);
        ix->renew = settings->fingerprint != fingerprint || ix->options.retrain;
        settings->fingerprint = fingerprint;
        settings->kind = ix->wanted.kind;
        free(settings->description);
        settings->description = description;
        description = NULL;
    }
    free(description);
    kith_features_free(features);
    return status;
}

static kith_status adopt_kind(indexer *ix, kith_features_kind kind, kith_error *err)
{
    kith_features *features;
    kith_features_options options = ix->wanted;
    options.kind = kind;
    KI_TRY(kith_features_create(&options, ix->g->allocator, &features, err));
    return adopt(ix, features, err);
}

/* CLASSIC, or what stands in for it. */
static kith_status adopt_classic(indexer *ix, kith_error *err)
{
    kith_features *features;
    ki_settings *settings = &ix->g->settings;
    kith_status status =
        ki_gallery_train(ix->g, ix->root, &ix->walk, ix->wanted.seed, ix->run, ix->report, &features, err);
    if (status == KITH_OK) {
        settings->tried = 0;
        ix->report->trained = 1;
        return adopt(ix, features, err);
    }
    if (status != KITH_UNTRAINED) return status;
    ki_error_clear(err);
    settings->tried = ix->walk.n;
    return adopt_kind(ix, KITH_FEATURES_PLAIN, err);
}

/* The features that the collection has stay in use. */
static kith_status keep_features(indexer *ix, kith_error *err)
{
    kith_meta meta;
    KI_TRY(kith_collection_meta_get(ix->g->collection, "gallery/features", &meta, err));
    ix->features = malloc(meta.size + 1);
    if (!ix->features) return ki_fail_nomem(err, meta.size);
    memcpy(ix->features, meta.value, meta.size);
    ix->features_size = meta.size;
    ix->dim = kith_collection_dim(ix->g->collection);
    return KITH_OK;
}

/* The model of an earlier run, for retrain: there is nothing to learn, but all vectors are made anew. */
static kith_status adopt_stored_model(indexer *ix, kith_error *err)
{
    kith_features *features;
    KI_TRY(keep_features(ix, err));
    KI_TRY(
        kith_features_load(ix->features, ix->features_size, ix->g->model, ix->g->allocator, &features, err));
    return adopt(ix, features, err);
}

/* Whether features that were asked for are those that the collection has. */
static kith_status check_same(const indexer *ix, kith_error *err)
{
    const ki_settings *settings = &ix->g->settings;
    kith_features *features = NULL;
    int same = ix->wanted.kind == settings->kind;
    char description[200] = "the classic descriptor";
    if (ix->wanted.kind != KITH_FEATURES_CLASSIC) {
        KI_TRY(kith_features_create(&ix->wanted, ix->g->allocator, &features, err));
        same = same && kith_features_fingerprint(features) == settings->fingerprint;
        snprintf(description, sizeof description, "%s", kith_features_description(features));
        kith_features_free(features);
    }
    if (same && ix->model && !ix->g->model) { /* it may be elsewhere by now */
        ix->g->model = ki_strdup(ix->g->allocator, ix->model);
        if (!ix->g->model) return ki_fail_nomem(err, strlen(ix->model));
    }
    if (same) return KITH_OK;
    return ki_fail(err, KITH_INVALID, "%s was made with %s, not with %s; retrain makes all of it anew",
                   ix->g->path, settings->description, description);
}

static kith_status decide_features(indexer *ix, const kith_features_options *given, kith_error *err)
{
    const ki_settings *settings = &ix->g->settings;
    int is_new = settings->root == NULL;
    if (!is_new && !ix->options.retrain) {
        if (given) KI_TRY(check_same(ix, err));
        KI_TRY(keep_features(ix, err));
        int due = settings->kind == KITH_FEATURES_CLASSIC && settings->tried > 0 &&
                  ix->walk.n >= KITH_FEATURES_TRAIN_MIN && ix->walk.n >= 2 * settings->tried;
        return due ? adopt_classic(ix, err) : KITH_OK;
    }
    if (ix->wanted.kind == KITH_FEATURES_CLASSIC) return adopt_classic(ix, err);
    if (ix->wanted.kind == KITH_FEATURES_MODEL && !given) return adopt_stored_model(ix, err);
    return adopt_kind(ix, ix->wanted.kind, err);
}

/* Make the collection if need be, and write down what it is from now on. */
static kith_status write_settings(indexer *ix, kith_error *err)
{
    kith_gallery *g = ix->g;
    ki_settings *settings = &g->settings;
    free(settings->root);
    settings->root = strdup(ix->root);
    char **exclude = calloc(ix->walk_options.n_exclude + 1, sizeof *exclude);
    if (!settings->root || !exclude) {
        free(exclude);
        return ki_fail_nomem(err, PATH_MAX);
    }
    for (size_t i = 0; i < ix->walk_options.n_exclude; i++)
        if (!(exclude[i] = strdup(ix->walk_options.exclude[i]))) exclude[i] = calloc(1, 1);
    for (size_t i = 0; i < settings->n_exclude; i++) free(settings->exclude[i]);
    free(settings->exclude);
    settings->exclude = exclude;
    settings->n_exclude = ix->walk_options.n_exclude;
    settings->hidden = ix->walk_options.hidden;

    KI_TRY(kith_collection_begin(g->collection, err));
    kith_status status = KITH_OK;
    if (ix->renew) {
        status = kith_collection_reset_vectors(g->collection, ix->dim, KITH_L2SQ, err);
        if (status == KITH_OK)
            status = kith_collection_meta_set(g->collection, "gallery/features", ix->features,
                                              ix->features_size, err);
    }
    if (status == KITH_OK) status = ki_settings_save(settings, g->collection, err);
    if (status == KITH_OK) return kith_collection_commit(g->collection, err);
    kith_collection_rollback(g->collection);
    return status;
}

static kith_status create_collection(indexer *ix, kith_error *err)
{
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.allocator = ix->g->allocator;
    options.wait_ms = ix->g->options.wait_ms;
    return kith_collection_create(ix->g->path, ix->dim, KITH_L2SQ, &options, &ix->g->collection, err);
}

/* ---- Pictures in ---- */

static slot *slot_of(const indexer *ix, size_t i)
{
    return &ix->ring[i % ix->ring_size];
}

static const ki_known *known_of(const indexer *ix, const ki_task *task)
{
    return task->known == KI_NONE ? NULL : &ix->inventory.rows[task->known];
}

/* The content hashes that spare a file its decoding: that of its own row, and those of rows of its size whose
 * file is gone. */
static size_t known_hashes(const indexer *ix, const ki_task *task, uint64_t size, uint64_t *hashes)
{
    size_t n = 0, n_vanished;
    const ki_known *known = known_of(ix, task);
    if (ix->renew || (known && known->stale)) return 0;
    if (known) hashes[n++] = known->file.hash;
    size_t first = known ? 0 : ki_plan_vanished(&ix->plan, &ix->inventory, size, &n_vanished);
    for (size_t i = 0; !known && i < n_vanished && n < KI_DECODE_MAX_KNOWN; i++) {
        const ki_known *row = &ix->inventory.rows[ix->plan.vanished[first + i]];
        if (!row->stale && !ix->claimed[first + i]) hashes[n++] = row->file.hash;
    }
    return n;
}

static void finish_slot(indexer *ix, slot *s, kith_status status, const char *reason)
{
    s->state = SLOT_DONE;
    s->status = status;
    snprintf(s->reason, sizeof s->reason, "%s", reason);
    ki_stage_report(&ix->stage, ++ix->finished);
}

/* Give the file of task i to a worker. */
static kith_status submit(indexer *ix, size_t i, kith_error *err)
{
    slot *s = slot_of(ix, i);
    const ki_task *task = &ix->plan.tasks[i];
    ki_walk_file *file = &ix->walk.files[task->file];
    kith_error why = {.code = KITH_OK};
    int fd;
    kith_status status = ki_gallery_open_file(ix->root, file, &fd, &why);
    if (status == KITH_INTERNAL || status == KITH_NOMEM) {
        if (err) *err = why;
        return status;
    }
    if (fd >= 0 && !s->decoded_only) ix->report->read++;
    if (fd < 0) {
        s->gone = status == KITH_OK;
        finish_slot(ix, s, status, why.message);
        return KITH_OK;
    }
    ki_bytes request = {0};
    uint64_t *hashes = malloc(KI_DECODE_MAX_KNOWN * sizeof *hashes);
    if (hashes)
        ki_decoder_put_request(
            &request, &(ki_decode_request){
                          .kind = KI_DECODE_PICTURE,
                          .known = hashes,
                          .n_known = s->decoded_only ? 0 : known_hashes(ix, task, file->size, hashes)});
    free(hashes);
    if (!hashes || request.failed) {
        ki_bytes_clear(&request);
        close(fd);
        return ki_fail_nomem(err, KI_DECODE_MAX_KNOWN * sizeof *hashes);
    }
    s->state = SLOT_RUNNING;
    status = ki_workers_submit(ix->g->workers, i, request.data, request.size, fd, err);
    ki_bytes_clear(&request);
    return status;
}

static void take_reply(indexer *ix, ki_reply *reply)
{
    slot *s = slot_of(ix, reply->tag);
    kith_error err = {.code = KITH_OK};
    kith_status status = reply->status;
    if (status != KITH_OK) {
        finish_slot(ix, s, status, reply->text);
        ki_reply_clear(reply);
        return;
    }
    status = ki_decoder_parse(reply->body, reply->size, KI_DECODE_PICTURE, ix->dim, &s->picture, &err);
    if (status == KITH_OK && s->decoded_only && !s->picture.decoded) /* or it would be sent for ever */
        status = ki_fail(&err, KITH_CORRUPT, "the decoder's result is of no picture");
    finish_slot(ix, s, status, err.message);
    if (status != KITH_OK) {
        ki_reply_clear(reply);
        return;
    }
    s->reply = *reply;
    ix->report->seconds_read += s->picture.seconds[KI_STAGE_READ];
    ix->report->seconds_decode += s->picture.seconds[KI_STAGE_DECODE];
    ix->report->seconds_features += s->picture.seconds[KI_STAGE_FEATURES];
    ix->report->seconds_thumbnail += s->picture.seconds[KI_STAGE_THUMBNAIL];
}

/* ---- Rows out ---- */

static void clear_slot(slot *s)
{
    ki_reply_clear(&s->reply);
    *s = (slot){.state = SLOT_FREE};
}

static kith_status forget_bad(indexer *ix, const char *path, kith_error *err)
{
    char name[32];
    ki_bad_name(path, name);
    kith_status status = kith_collection_meta_delete(ix->g->collection, name, err);
    return status == KITH_NOTFOUND ? KITH_OK : status;
}

static kith_status note_bad(indexer *ix, const ki_walk_file *file, kith_status why, const char *reason,
                            kith_error *err)
{
    char name[32];
    ki_bad bad = {.path = (char *)file->path,
                  .reason = (char *)reason,
                  .status = why,
                  .size = file->size,
                  .mtime_ns = file->mtime_ns,
                  .ctime_ns = file->ctime_ns,
                  .limits = ki_gallery_limits(ix->g)};
    ki_bad_name(file->path, name);
    json_t *note = ki_bad_note(&bad);
    char *text = note ? json_dumps(note, JSON_COMPACT) : NULL;
    json_decref(note);
    if (!text) return ki_fail_nomem(err, sizeof bad);
    kith_status status = kith_collection_meta_set(ix->g->collection, name, text, strlen(text), err);
    free(text);
    return status;
}

/* Put a picture's row: key 0 makes a new one. A picture that was not decoded keeps its vector and thumbnail. */
static kith_status put_row(indexer *ix, int64_t key, const ki_walk_file *file, const ki_picture *picture,
                           kith_error *err)
{
    json_t *payload = NULL;
    if (key) {
        kith_row old;
        KI_TRY(kith_collection_get(ix->g->collection, key, KITH_ROW_PAYLOAD, &old, err));
        payload = ki_row_parse(old.payload, old.payload_size);
    }
    if (!payload) payload = json_object();
    int done = payload && ki_row_set_file(payload, file) &&
               (!picture->decoded || ki_row_set_picture(payload, picture));
    char *text = done ? json_dumps(payload, JSON_COMPACT) : NULL;
    json_decref(payload);
    if (!text) return ki_fail_nomem(err, sizeof *picture);
    kith_row row = {.key = key, .payload = text};
    if (picture->decoded) {
        memcpy(ix->vector, picture->vector, ix->dim * sizeof *ix->vector);
        row.vector = ix->vector;
        row.dim = ix->dim;
        row.attachment = picture->thumbnail;
        row.attachment_size = picture->thumbnail_size;
    }
    kith_status status = kith_collection_put(
        ix->g->collection, picture->decoded ? KITH_ROW_ALL : KITH_ROW_PAYLOAD, &row, NULL, err);
    free(text);
    return status;
}

/* The vanished row that has a new file's bytes, if any: the file was moved. */
static size_t find_moved(const indexer *ix, const ki_picture *picture)
{
    size_t n, first = ki_plan_vanished(&ix->plan, &ix->inventory, picture->bytes, &n);
    for (size_t i = first; i < first + n; i++)
        if (!ix->claimed[i] && ix->inventory.rows[ix->plan.vanished[i]].file.hash == picture->hash) return i;
    return KI_NONE;
}

static kith_status write_bad(indexer *ix, const ki_task *task, const slot *s, kith_error *err)
{
    const ki_walk_file *file = &ix->walk.files[task->file];
    const ki_known *known = known_of(ix, task);
    KI_TRY(note_bad(ix, file, s->status, s->reason, err));
    ix->batch.bad++;
    if (task->bad == KI_NONE) ix->batch.bad_new++;
    if (!known) return KITH_OK;
    ix->batch.removed++;
    return kith_collection_delete(ix->g->collection, known->key, err);
}

/* Write the result of a task into the open batch. *again: it has to be decoded after all. */
static kith_status write_one(indexer *ix, const ki_task *task, const slot *s, int *again, kith_error *err)
{
    const ki_walk_file *file = &ix->walk.files[task->file];
    const ki_known *known = known_of(ix, task);
    *again = 0;
    if (s->gone) return KITH_OK; /* the next run sees to it */
    if (s->status != KITH_OK) return write_bad(ix, task, s, err);
    size_t moved = known ? KI_NONE : find_moved(ix, &s->picture);
    if (!s->picture.decoded && !known && moved == KI_NONE) {
        *again = 1; /* another copy of it has taken the row that it could have had */
        return KITH_OK;
    }
    if (task->bad != KI_NONE) KI_TRY(forget_bad(ix, file->path, err));
    int64_t key = known              ? known->key
                  : moved != KI_NONE ? ix->inventory.rows[ix->plan.vanished[moved]].key
                                     : 0;
    KI_TRY(put_row(ix, key, file, &s->picture, err));
    if (moved != KI_NONE) {
        ix->claimed[moved] = 1;
        ix->batch.moved++;
    } else if (!known) {
        ix->batch.added++;
    } else if (s->picture.decoded) {
        ix->batch.changed++;
    } else {
        ix->batch.unchanged++;
    }
    return KITH_OK;
}

static void count_batch(indexer *ix)
{
    kith_gallery_report *report = ix->report;
    report->added += ix->batch.added;
    report->changed += ix->batch.changed;
    report->moved += ix->batch.moved;
    report->removed += ix->batch.removed;
    report->unchanged += ix->batch.unchanged;
    report->bad += ix->batch.bad;
    report->bad_new += ix->batch.bad_new;
}

/* Write up to n finished tasks from next_out on, as one batch. */
static kith_status write_batch(indexer *ix, size_t n, kith_error *err)
{
    size_t from = ix->next_out, end = from + n;
    int again = 0;
    ix->batch = (kith_gallery_report){0};
    KI_TRY(kith_collection_begin(ix->g->collection, err));
    kith_status status = KITH_OK;
    for (; ix->next_out < end && status == KITH_OK; ix->next_out++) {
        status = write_one(ix, &ix->plan.tasks[ix->next_out], slot_of(ix, ix->next_out), &again, err);
        if (again) break;
    }
    if (status == KITH_OK) status = kith_collection_commit(ix->g->collection, err);
    if (status != KITH_OK) {
        kith_collection_rollback(ix->g->collection);
        return status;
    }
    count_batch(ix);
    for (size_t i = from; i < ix->next_out; i++) clear_slot(slot_of(ix, i));
    ix->committed_ns = ki_now_ns();
    if (again) {
        clear_slot(slot_of(ix, ix->next_out));
        slot_of(ix, ix->next_out)->decoded_only = 1;
        ix->finished--;
    }
    return KITH_OK;
}

/* Write what is finished and has no unfinished one before it, if that is enough for a batch. */
static kith_status write_finished(indexer *ix, int all, kith_error *err)
{
    size_t n = 0;
    while (n < ix->options.batch && ix->next_out + n < ix->next_in &&
           slot_of(ix, ix->next_out + n)->state == SLOT_DONE)
        n++;
    double waited = (double)(ki_now_ns() - ix->committed_ns) * 1e-9;
    int enough = n == ix->options.batch || ix->next_out + n == ix->plan.n || waited >= COMMIT_SECONDS || all;
    return n > 0 && enough ? write_batch(ix, n, err) : KITH_OK;
}

/* A picture at the head that has to be decoded after all comes before new ones. */
static kith_status submit_some(indexer *ix, kith_error *err)
{
    if (ix->next_out < ix->next_in && slot_of(ix, ix->next_out)->state == SLOT_FREE &&
        ki_workers_room(ix->g->workers) > 0)
        KI_TRY(submit(ix, ix->next_out, err));
    while (ix->next_in < ix->plan.n && ix->next_in - ix->next_out < ix->ring_size &&
           ki_workers_room(ix->g->workers) > 0) {
        clear_slot(slot_of(ix, ix->next_in));
        KI_TRY(submit(ix, ix->next_in++, err));
    }
    return KITH_OK;
}

static kith_status read_pictures(indexer *ix, kith_error *err)
{
    ix->committed_ns = ki_now_ns();
    ki_stage_begin(&ix->stage, ix->run, "indexing", ix->plan.n);
    while (ix->next_out < ix->plan.n) {
        kith_status status = ki_run_check(ix->run, err);
        if (status != KITH_OK) {
            /* What is done is kept. */
            kith_status written = write_finished(ix, 1, NULL);
            return written == KITH_OK ? status : written;
        }
        KI_TRY(submit_some(ix, err));
        int got;
        ki_reply reply;
        KI_TRY(ki_workers_wait(ix->g->workers, WAIT_MS, &got, &reply, err));
        if (got) take_reply(ix, &reply);
        KI_TRY(write_finished(ix, 0, err));
    }
    return KITH_OK;
}

static kith_status index_pictures(indexer *ix, kith_error *err)
{
    if (ix->plan.n == 0) return KITH_OK;
    const kith_allocator *allocator = ix->g->allocator;
    ix->ring_size = RING_BATCHES * ix->options.batch;
    if (ix->ring_size > ix->plan.n) ix->ring_size = ix->plan.n;
    ix->ring = ki_alloc_zero(allocator, ix->ring_size, sizeof *ix->ring);
    ix->claimed = ki_alloc_zero(allocator, ix->plan.n_vanished, 1);
    ix->vector = ki_alloc(allocator, ix->dim, sizeof *ix->vector);
    if (!ix->ring || !ix->claimed || !ix->vector) return ki_fail_nomem(err, ix->ring_size * sizeof *ix->ring);
    KI_TRY(ki_gallery_staff(ix->g, ix->features, ix->features_size, 0, err));
    kith_status status = read_pictures(ix, err);
    if (status != KITH_OK) ki_workers_abandon(ix->g->workers, NULL);
    return status;
}

/* ---- What is gone ---- */

/* Step i of n: delete a row, or a note on a bad file, or write one on a folder that cannot be read. */
static kith_status remove_one(indexer *ix, size_t i, kith_error *err)
{
    const ki_plan *plan = &ix->plan;
    if (i < plan->n_vanished) {
        if (ix->claimed && ix->claimed[i]) return KITH_OK;
        ix->batch.removed++;
        kith_status status =
            kith_collection_delete(ix->g->collection, ix->inventory.rows[plan->vanished[i]].key, err);
        return status == KITH_NOTFOUND ? KITH_OK : status;
    }
    i -= plan->n_vanished;
    if (i < plan->n_forgotten) return forget_bad(ix, ix->inventory.bad[plan->forgotten[i]].path, err);
    const ki_walk_fault *fault = &ix->walk.faults[i - plan->n_forgotten];
    char reason[200];
    snprintf(reason, sizeof reason, "cannot be entered: %s", strerror(fault->sys_errno));
    return note_bad(ix, &(ki_walk_file){.path = fault->path}, KITH_IO, reason, err);
}

/* Faults are found by every walk: they are only written when they are news. */
static int fault_is_known(const indexer *ix, const ki_walk_fault *fault)
{
    for (size_t i = 0; i < ix->inventory.n_bad; i++)
        if (strcmp(ix->inventory.bad[i].path, fault->path) == 0) return 1;
    return 0;
}

static kith_status remove_gone(indexer *ix, kith_error *err)
{
    size_t n_faults = 0;
    for (size_t i = 0; i < ix->walk.n_faults; i++)
        if (!fault_is_known(ix, &ix->walk.faults[i])) ix->walk.faults[n_faults++] = ix->walk.faults[i];
    ix->report->bad += n_faults;
    ix->report->bad_new += n_faults;
    size_t n = ix->plan.n_vanished + ix->plan.n_forgotten + n_faults;
    if (n == 0) return KITH_OK;
    ki_stage stage;
    ki_stage_begin(&stage, ix->run, "removing", n);
    for (size_t from = 0; from < n; from += REMOVE_BATCH) {
        KI_TRY(ki_run_check(ix->run, err));
        size_t end = from + REMOVE_BATCH < n ? from + REMOVE_BATCH : n;
        ix->batch = (kith_gallery_report){0};
        KI_TRY(kith_collection_begin(ix->g->collection, err));
        kith_status status = KITH_OK;
        for (size_t i = from; i < end && status == KITH_OK; i++) status = remove_one(ix, i, err);
        if (status == KITH_OK) status = kith_collection_commit(ix->g->collection, err);
        if (status != KITH_OK) {
            kith_collection_rollback(ix->g->collection);
            return status;
        }
        count_batch(ix);
        ki_stage_report(&stage, end);
    }
    return KITH_OK;
}

/* ---- All of it ---- */

static kith_status fold(indexer *ix, kith_error *err)
{
    kith_fold_options options;
    kith_fold_options_init(&options);
    options.run = ix->run;
    uint64_t begun = ki_now_ns();
    kith_status status = kith_collection_fold(ix->g->collection, &options, err);
    ix->report->seconds_fold = (double)(ki_now_ns() - begun) * 1e-9;
    /* Another process folds already: then it is being done. */
    return status == KITH_BUSY ? KITH_OK : status;
}

/* A collection that exists but was never indexed into: one that died young is ours, one with rows is not. */
static kith_status check_virgin(const indexer *ix, kith_error *err)
{
    uint64_t rows;
    if (!ix->g->collection || ix->g->settings.root) return KITH_OK;
    KI_TRY(kith_collection_count(ix->g->collection, &rows, NULL, err));
    if (rows == 0) return KITH_OK;
    return ki_fail(err, KITH_INVALID, "%s holds %llu rows that are not of a folder of pictures; take another",
                   ix->g->path, (unsigned long long)rows);
}

static kith_status index_folder(indexer *ix, const char *folder, const kith_features_options *features,
                                kith_error *err)
{
    kith_gallery *g = ix->g;
    KI_TRY(ki_gallery_refresh(g, err));
    if (g->options.read_only) return ki_fail(err, KITH_READONLY, "%s was opened for reading only", g->path);
    KI_TRY(check_virgin(ix, err));
    KI_TRY(find_root(ix, folder, err));
    KI_TRY(copy_wanted(ix, features, err));
    if (g->collection) {
        KI_TRY(lock(ix, err));
        KI_TRY(ki_gallery_refresh(g, err)); /* as the last one left it */
        KI_TRY(ki_inventory_load(g->collection, ix->run, &ix->inventory, err));
    }
    KI_TRY(walk(ix, err));
    KI_TRY(sniff(ix, err));
    KI_TRY(refuse_empty(ix, err));
    ix->report->found = ix->walk.n;
    uint64_t tried = g->settings.tried;
    KI_TRY(decide_features(ix, features, err));
    if (!g->collection) {
        KI_TRY(create_collection(ix, err));
        KI_TRY(lock(ix, err));
    }
    if (ix->renew || tried != g->settings.tried || !g->settings.root ||
        strcmp(g->settings.root, ix->root) != 0 || ix->options.exclude || ix->options.hidden >= 0)
        KI_TRY(write_settings(ix, err));
    KI_TRY(ki_plan_make(&ix->walk, &ix->inventory, ki_gallery_limits(g), ix->options.retry, ix->renew,
                        &ix->plan, err));
    ix->report->unchanged = ix->plan.unchanged;
    ix->report->bad = ix->plan.still_bad;
    KI_TRY(index_pictures(ix, err));
    KI_TRY(remove_gone(ix, err));
    return fold(ix, err);
}

kith_status ki_gallery_read_index_options(const kith_gallery_index_options *given,
                                          kith_gallery_index_options *own, kith_error *err)
{
    kith_gallery_index_options_init(own);
    KI_TRY(ki_options_read(own, sizeof *own, given, "options", err));
    if (own->batch < 1 || own->batch > 100000)
        return ki_fail(err, KITH_INVALID, "batch is %zu, allowed 1..100000", own->batch);
    if (own->hidden < -1 || own->hidden > 1)
        return ki_fail(err, KITH_INVALID, "hidden is %d, allowed -1..1", own->hidden);
    for (size_t i = 0; own->exclude && i < own->n_exclude; i++)
        if (!own->exclude[i]) return ki_fail(err, KITH_INVALID, "exclude[%zu] is NULL", i);
    return KITH_OK;
}

static void clear_indexer(indexer *ix)
{
    const kith_allocator *allocator = ix->g->allocator;
    for (size_t i = 0; ix->ring && i < ix->ring_size; i++) clear_slot(&ix->ring[i]);
    ki_free(allocator, ix->ring);
    ki_free(allocator, ix->claimed);
    ki_free(allocator, ix->vector);
    ki_plan_clear(&ix->plan);
    ki_inventory_clear(&ix->inventory);
    ki_walk_clear(&ix->walk);
    free(ix->features);
    free(ix->model);
    if (ix->lock >= 0) close(ix->lock);
}

kith_status kith_gallery_index(kith_gallery *g, const char *folder, const kith_gallery_index_options *options,
                               const kith_run *run, kith_gallery_report *report, kith_error *err)
{
    kith_gallery_report own;
    kith_gallery_report_init(&own);
    indexer ix = {.g = g, .run = run, .report = &own, .lock = -1};
    ix.walk.allocator = g->allocator;
    uint64_t begun = ki_now_ns();
    kith_status status = ki_gallery_read_index_options(options, &ix.options, err);
    /* The caller's may be kith_gallery_folder's, which goes when the settings are read anew. */
    char *copy = folder ? strdup(folder) : NULL;
    if (status == KITH_OK && folder && !copy) status = ki_fail_nomem(err, strlen(folder));
    if (status == KITH_OK) status = index_folder(&ix, copy, ix.options.features, err);
    clear_indexer(&ix);
    free(copy);
    own.seconds = (double)(ki_now_ns() - begun) * 1e-9;
    if (report) {
        size_t size = report->struct_size;
        if (size > sizeof own) size = sizeof own;
        own.struct_size = report->struct_size;
        memcpy(report, &own, size);
    }
    return status;
}
