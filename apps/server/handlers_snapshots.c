/* handlers_snapshots.c - copies of a collection that the server keeps, in the folder snapshots/NAME beside it. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <kith/copies.h>

#include "../common/fail.h"
#include "handlers.h"

#define FOLDER SHELF_SNAPSHOTS
#define ENDING ".kith"

/* FOLDER/snapshots[/COLLECTION[/NAME.kith]] (see shelf.h), malloc. */
static char *path_of(const request *r, int with_collection, const char *name)
{
    const char *folder = shelf_folder(r->server->shelf), *collection = with_collection ? r->args[0] : "";
    size_t size = strlen(folder) + strlen(collection) + (name ? strlen(name) : 0) + sizeof FOLDER + 16;
    char *path = malloc(size);
    if (!path) return NULL;
    snprintf(path, size, "%s/%s%s%s%s%s%s", folder, FOLDER, with_collection ? "/" : "", collection,
             name ? "/" : "", name ? name : "", name ? ENDING : "");
    return path;
}

/* Make the folders that the snapshots of the named collection are in. */
static kith_status make_folders(const request *r, kith_error *err)
{
    for (int with_collection = 0; with_collection < 2; with_collection++) {
        char *path = path_of(r, with_collection, NULL);
        if (!path) return common_fail_nomem(err);
        int made = mkdir(path, 0777) == 0 || errno == EEXIST;
        int why = errno;
        free(path);
        if (made) continue;
        common_fail(err, why == EACCES || why == EROFS ? KITH_READONLY : KITH_IO,
                    "the folder for snapshots cannot be made: %s", strerror(why));
        if (err) err->sys_errno = why;
        return err ? err->code : KITH_IO;
    }
    return KITH_OK;
}

/* Both parts of the path are names that stay inside the folder: that of a collection which is there is the name of a file, by
 * whatever rule, and so has no slash in it. */
static int check_names(request *r, const char *snapshot)
{
    if (r->args[0][0] == '.' || !shelf_has(r->server->shelf, r->args[0]))
        http_problem(r, 404, "there is no collection of this name");
    else if (snapshot && !shelf_name_is_good(snapshot))
        http_problem(r, 400, "a name has %s", SHELF_NAME_RULE);
    else
        return 1;
    return 0;
}

/* ---- Making, restoring ---- */

static json_t *report_json(const char *name, const kith_copy_report *report)
{
    return json_pack("{ss sI sI}", "snapshot", name, "version", (json_int_t)report->version, "rows",
                     (json_int_t)report->rows);
}

/* The path is a member of the order, put there by begin_copy: clients cannot name one. */
static kith_status snapshot_work(job *j, kith_collection *c, json_t *json, json_t **result, kith_error *err)
{
    kith_run run = job_run(j);
    kith_copy_options options;
    kith_copy_report report = {.struct_size = sizeof report};
    kith_copy_options_init(&options);
    options.run = &run;
    const char *path = json_string_value(json_object_get(json, "path"));
    kith_status status = kith_collection_snapshot(c, path, &options, &report, err);
    if (status == KITH_OK)
        *result = report_json(json_string_value(json_object_get(json, "snapshot")), &report);
    return status;
}

static kith_status restore_work(job *j, kith_collection *c, json_t *json, json_t **result, kith_error *err)
{
    kith_run run = job_run(j);
    kith_copy_options options;
    kith_copy_report report = {.struct_size = sizeof report};
    kith_copy_options_init(&options);
    options.run = &run;
    options.replace = 1;
    const char *path = json_string_value(json_object_get(json, "path"));
    kith_status status = kith_collection_restore(path, kith_collection_path(c), &options, &report, err);
    if (status == KITH_OK)
        *result = report_json(json_string_value(json_object_get(json, "snapshot")), &report);
    return status;
}

/* Begin a job over the snapshot of a name. */
static void begin_copy(request *r, const char *kind, collection_work what, const char *name)
{
    char *path = path_of(r, 1, name);
    json_t *order = path ? json_pack("{ss ss}", "path", path, "snapshot", name) : NULL;
    free(path);
    if (order)
        begin_job(r, kind, what, order);
    else
        http_problem(r, 503, "out of memory");
    json_decref(order);
}

void post_snapshot(request *r)
{
    char usual[40];
    time_t now = time(NULL);
    struct tm utc;
    kith_error err = {0};
    json_t *json = http_json_or_nothing(r);
    if (!json) return;
    strftime(usual, sizeof usual, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &utc));
    json_t *name = json_object_get(json, "name");
    if (name && !json_is_string(name))
        http_problem(r, 400, "name must be a text");
    else if (only_members(r, json, "name", NULL) && check_names(r, name ? json_string_value(name) : NULL)) {
        if (make_folders(r, &err) != KITH_OK)
            http_fail(r, &err);
        else
            begin_copy(r, "snapshot", snapshot_work, name ? json_string_value(name) : usual);
    }
    json_decref(json);
}

static int snapshot_is_there(request *r, const char *name)
{
    char *path = path_of(r, 1, name);
    int there = path && access(path, F_OK) == 0;
    free(path);
    if (!there) http_problem(r, 404, "there is no snapshot of this name");
    return there;
}

void post_restore(request *r)
{
    if (check_names(r, r->args[1]) && snapshot_is_there(r, r->args[1]))
        begin_copy(r, "restore", restore_work, r->args[1]);
}

/* ---- Listing, deleting ---- */

static int is_snapshot(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name), ending = strlen(ENDING);
    return entry->d_name[0] != '.' && length > ending && strcmp(entry->d_name + length - ending, ENDING) == 0;
}

static json_t *entry_json(const char *folder, char *file)
{
    struct stat st = {0};
    char *path = malloc(strlen(folder) + strlen(file) + 2);
    if (path) {
        sprintf(path, "%s/%s", folder, file);
        (void)stat(path, &st);
    }
    free(path);
    file[strlen(file) - strlen(ENDING)] = 0;
    return json_pack("{ss sI sI}", "name", file, "bytes", (json_int_t)st.st_size, "made",
                     (json_int_t)st.st_mtime);
}

void get_snapshots(request *r)
{
    if (!check_names(r, NULL)) return;
    struct dirent **entries;
    char *folder = path_of(r, 1, NULL);
    int n = folder ? scandir(folder, &entries, is_snapshot, alphasort) : -1;
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(list, entry_json(folder, entries[i]->d_name));
        free(entries[i]);
    }
    if (n >= 0) free(entries);
    free(folder);
    http_reply_json(r, 200, json_pack("{so}", "snapshots", list));
}

void delete_snapshot(request *r)
{
    kith_error err = {0};
    if (!check_names(r, r->args[1]) || !snapshot_is_there(r, r->args[1])) return;
    char *path = path_of(r, 1, r->args[1]);
    kith_status status = path ? shelf_remove_files(path, &err) : common_fail_nomem(&err);
    free(path);
    if (status == KITH_OK)
        http_reply_nothing(r);
    else
        http_fail(r, &err);
}
