/* milvus_imports.c - /jobs/import/...: rows from files below the folder that is served.
 *
 * A job is done when it was made: create answers when all its rows are in, or none of them. What became of it is kept and
 * told again. Files are .json ({"rows": [..]}, or [..]) and .jsonl or .ndjson (a row a line). */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "milvus_call.h"

#define MOST_BYTES ((off_t)1 << 30)

typedef struct progress {
    uint64_t rows, bytes;
} progress;

/* Open a file below the folder: no "..", no link that leads out, no device. NULL: failed. */
static FILE *open_file(mv_call *c, const char *path, progress *p)
{
    struct stat st;
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    const char *shown = path;
    while (*path == '/') path++; /* the folder is their root */
    int root = open(shelf_folder(c->server->shelf), O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = root < 0 ? -1 : (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    if (root >= 0) close(root);
    int good = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= MOST_BYTES;
    FILE *file = good ? fdopen(fd, "r") : NULL;
    if (file) {
        p->bytes += (uint64_t)st.st_size;
        return file;
    }
    if (fd >= 0) close(fd);
    mv_fail(c, MV_PARAMETER_INVALID, "%.200s: no such file below the folder that is served", shown);
    return NULL;
}

static int put(mv_call *c, json_t *row, progress *p)
{
    json_t *id = NULL;
    int good = mv_put_row(c, row, NULL, 1, &id);
    json_decref(id);
    p->rows += (uint64_t)good;
    return good;
}

static int take_lines(mv_call *c, FILE *file, progress *p)
{
    char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t length;
    int good = 1;
    while (good && (length = getline(&line, &room, file)) >= 0) {
        number++;
        if (line[strspn(line, " \t\r\n")] == 0) continue;
        json_t *row = json_loadb(line, (size_t)length, JSON_REJECT_DUPLICATES, NULL);
        good = row && put(c, row, p);
        if (!row) mv_fail(c, MV_BAD_ROW, "line %zu is no JSON", number);
        json_decref(row);
    }
    free(line);
    return good;
}

static int take_array(mv_call *c, FILE *file, progress *p)
{
    json_error_t error;
    json_t *all = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
    const json_t *rows = json_is_object(all) ? json_object_get(all, "rows") : all;
    int good = json_is_array(rows);
    if (!good) mv_fail(c, MV_BAD_ROW, "no array of rows in it: %s", all ? "" : error.text);
    for (size_t i = 0; good && i < json_array_size(rows); i++) good = put(c, json_array_get(rows, i), p);
    json_decref(all);
    return good;
}

static int take_file(mv_call *c, const char *path, progress *p)
{
    const char *dot = strrchr(path, '.');
    int lines = dot && (strcmp(dot, ".jsonl") == 0 || strcmp(dot, ".ndjson") == 0);
    if (!lines && !(dot && strcmp(dot, ".json") == 0)) {
        mv_fail(c, MV_PARAMETER_INVALID, "%.200s: .json, .jsonl and .ndjson can be imported", path);
        return 0;
    }
    FILE *file = open_file(c, path, p);
    if (!file) return 0;
    int good = lines ? take_lines(c, file, p) : take_array(c, file, p);
    fclose(file);
    return good;
}

/* files is [["a.json"], ["b.json"]]; some clients leave the inner arrays away. */
static int take_files(mv_call *c, const json_t *files, progress *p)
{
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *group = json_array_get(files, i);
        size_t n = json_is_array(group) ? json_array_size(group) : 1;
        for (size_t f = 0; f < n; f++) {
            const char *path = json_string_value(json_is_array(group) ? json_array_get(group, f) : group);
            if (!path) {
                mv_fail(c, MV_PARAMETER_INVALID, "files must be arrays of texts");
                return 0;
            }
            if (!take_file(c, path, p)) return 0;
        }
    }
    return !c->schema.auto_id || c->schema.foreign || mv_schema_save(c);
}

static json_t *job_record(mv_call *c, const char *id, const progress *p, const char *reason)
{
    char when[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    json_t *why = json_string(reason);
    return json_pack("{ss ss ss ss si sI sI sI ss so s[]}", "jobId", id, "dbName", c->db, "collectionName",
                     c->name, "state", *reason ? "Failed" : "Completed", "progress", *reason ? 0 : 100,
                     "totalRows", (json_int_t)p->rows, "importedRows", (json_int_t)(*reason ? 0 : p->rows),
                     "fileSize", (json_int_t)p->bytes, "completeTime", when, "reason",
                     why ? why : json_string("(not UTF-8)"), "details");
}

json_t *mv_imports_create(mv_call *c)
{
    char id[24], reason[sizeof c->message] = "";
    struct timespec now;
    progress p = {0};
    const json_t *files = json_object_get(c->body, "files");
    if (json_array_size(files) == 0)
        return mv_fail(c, MV_PARAMETER_MISSING, "missing required parameters, error: files must be an array");
    if (!mv_begin(c)) return NULL;
    json_t *done = take_files(c, files, &p) ? mv_commit(c) : NULL;
    json_decref(done);
    if (!done) {
        kith_collection_rollback(c->collection);
        snprintf(reason, sizeof reason, "%s", c->message);
        c->code = MV_OK;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(id, sizeof id, "%lld", (long long)now.tv_sec * 1000000000 + now.tv_nsec);
    json_t *record = job_record(c, id, &p, reason);
    return mv_record_put(c, "import", "", id, record, 0) ? json_pack("{ss}", "jobId", id) : NULL;
}

/* A job is seen by those who may import into its collection. */
static int may_see(mv_call *c, const json_t *record)
{
    return mv_has_right(c, ROLE_READ, MV_Import, json_string_value(json_object_get(record, "dbName")),
                        json_string_value(json_object_get(record, "collectionName")));
}

json_t *mv_imports_describe(mv_call *c)
{
    const json_t *given = json_object_get(c->body, "jobId");
    int64_t number;
    char id[24];
    if (!mv_int64(given, &number))
        return mv_fail(c, MV_PARAMETER_MISSING, "missing required parameters, error: jobId");
    snprintf(id, sizeof id, "%lld", (long long)number);
    json_t *record = mv_record_get(c, "import", "", id);
    if (!record && c->code == MV_OK) mv_fail(c, MV_PARAMETER_INVALID, "there is no import job %s", id);
    if (!record || may_see(c, record)) return record;
    json_decref(record);
    return mv_refuse(c);
}

json_t *mv_imports_list(mv_call *c)
{
    size_t i;
    json_t *record, *records = mv_record_list(c, "import", ""), *list;
    const char *only = json_string_value(json_object_get(c->body, "collectionName"));
    if (!records) return NULL;
    list = json_array();
    json_array_foreach(records, i, record)
    {
        json_t *value = json_object_get(record, "value");
        const char *name = json_string_value(json_object_get(value, "collectionName"));
        const char *db = json_string_value(json_object_get(value, "dbName"));
        if (!name || !db || strcmp(db, c->db) != 0 || (only && *only && strcmp(name, only) != 0) ||
            !may_see(c, value))
            continue;
        json_array_append_new(
            list, json_pack("{sO sO sO sO}", "collectionName", json_object_get(value, "collectionName"),
                            "jobId", json_object_get(value, "jobId"), "progress",
                            json_object_get(value, "progress"), "state", json_object_get(value, "state")));
    }
    json_decref(records);
    return json_pack("{so}", "records", list);
}
