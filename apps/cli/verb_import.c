/* verb_import.c - `kith import`: rows from a file or another collection into a collection.
 *
 * Rows are put in batches. With each batch the collection keeps, as a named value, how far the source has been read: so an
 * import that was interrupted, killed even, goes on where the last durable batch ended, and no row comes twice. */
#include "rows.h"
#include "rows_settle.h"
#include "rows_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct options {
    const char *payload, *key, *text_key, *metric, *partition, *filter;
    cli_list also, as;
    double max_bytes;
    uint64_t batch;
    int restart, fold;
};

typedef struct importing {
    const struct options *o;
    const char *path;
    rows_reading reading;
    rows_source *source;
    rows_target target;
    rows_settler settler;
    uint64_t bytes; /* of the batch at hand, about */
    kith_collection *collection;
    uint64_t done, first; /* rows imported, and when this run began */
    uint64_t bare;        /* of them without a vector */
    int made;             /* the collection was not there */
    int ended;            /* the source has no more */
    char name[32];        /* of the named value that says how far it is */
    char state[1024];     /* what tells the files apart from changed ones */
} importing;

/* ---- Where it is ---- */

static uint64_t fnv1a(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001b3;
    return hash;
}

/* Size and time of a file, as text. */
static void describe(const char *path, char *out, size_t room)
{
    struct stat info;
    if (path && stat(path, &info) == 0)
        snprintf(out, room, "%lld %lld.%09ld", (long long)info.st_size, (long long)info.st_mtim.tv_sec,
                 (long)info.st_mtim.tv_nsec);
    else
        snprintf(out, room, "-");
}

static int name_place(cli_context *cli, importing *m)
{
    char rows[64], payloads[64];
    char *full = realpath(m->path, NULL);
    /* "FILE.hdf5:NAME" is no file: then the name as it was given has to do. */
    if (!full && errno != ENOENT) return cli_fail(cli, m->path, "%s", strerror(errno));
    snprintf(m->name, sizeof m->name, "import/%016" PRIx64, fnv1a(full ? full : m->path));
    free(full);
    describe(m->path, rows, sizeof rows);
    describe(m->o->payload, payloads, sizeof payloads);
    const char *key = m->o->key ? m->o->key : m->o->text_key;
    snprintf(m->state, sizeof m->state, "%s, %s, %s %s%s%s", *m->source->state ? m->source->state : rows,
             payloads, m->o->text_key ? "text key" : "key", key ? key : "-", m->o->filter ? ", filter " : "",
             m->o->filter ? m->o->filter : "");
    return CLI_OK;
}

/* Skip what an earlier run has done. */
static int find_place(cli_context *cli, importing *m)
{
    kith_error err;
    kith_meta meta;
    kith_status status = kith_collection_meta_get(m->collection, m->name, &meta, &err);
    if (status == KITH_NOTFOUND || m->o->restart) return CLI_OK;
    if (status != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    json_t *place = json_loadb(meta.value, meta.size, 0, NULL);
    const char *state = json_string_value(json_object_get(place, "source"));
    json_int_t rows = json_integer_value(json_object_get(place, "rows"));
    json_int_t bytes = json_integer_value(json_object_get(place, "bytes"));
    int same = state && strcmp(state, m->state) == 0 && rows >= 0 && bytes >= 0;
    int whole = json_is_true(json_object_get(place, "whole"));
    json_decref(place);
    if (!same && whole) return CLI_OK; /* other files, or changed ones: an import of its own */
    if (!same)
        return cli_fail(cli, m->path,
                        "an import of it was interrupted, and since then the files or --key have changed; "
                        "--restart begins anew");
    int found = m->source->seek(cli, m->source, (uint64_t)rows, (uint64_t)bytes);
    if (found != CLI_OK) return found;
    m->done = m->first = (uint64_t)rows;
    if (whole)
        cli_note(cli, "%s: was imported before; --restart puts its rows in again", m->path);
    else
        cli_note(cli, "%s: goes on at row %s", m->path, cli_thousands(m->done));
    m->ended = whole;
    return CLI_OK;
}

/* Say in the open batch how far it is. It is kept when all is done, too: a run that is killed behind the last batch (while
 * folding, say) and started again must not import everything a second time. */
static kith_status keep_place(importing *m, kith_error *err)
{
    json_t *place = json_pack("{ss sI sI sb}", "source", m->state, "rows", (json_int_t)m->done, "bytes",
                              (json_int_t)m->source->place(m->source), "whole", m->ended);
    char *text = json_dumps(place, JSON_COMPACT);
    json_decref(place);
    kith_status status = KITH_NOMEM;
    if (text)
        status = kith_collection_meta_set(m->collection, m->name, text, strlen(text), err);
    else
        *err = (kith_error){.code = KITH_NOMEM, .message = "out of memory"};
    free(text);
    return status;
}

/* ---- Rows ---- */

/* A row that the collection refuses, by the file that it is the fault of. Vectors are what messages say is "the vector". */
static int fail_row(cli_context *cli, const importing *m, const rows_item *item, const kith_error *err)
{
    const rows_source *s = m->source;
    const char *path = s->payload_path ? s->payload_path : s->rows_path;
    int vector = strncmp(err->message, "the vector", strlen("the vector")) == 0;
    if (err->code != KITH_INVALID) return cli_fail_message(cli, cli->args[0], err);
    if (s->line && !(vector && s->payload_path))
        return cli_fail(cli, path, "line %" PRIu64 ": %s", s->line, err->message);
    if (s->whole) return cli_fail(cli, s->rows_path, "row %lld: %s", (long long)item->row.key, err->message);
    return cli_fail(cli, s->rows_path, "row %" PRIu64 ", counted from 0: %s", m->done, err->message);
}

static int put_rows(cli_context *cli, importing *m)
{
    kith_error err;
    for (uint64_t i = 0; i < m->o->batch && !m->ended; i++) {
        rows_item item;
        int status = m->source->next(cli, m->source, &item, &m->ended);
        if (status != CLI_OK) return status;
        if (m->ended) break;
        if (rows_put(&m->target, &item, &err) != KITH_OK) return fail_row(cli, m, &item, &err);
        m->bare += item.row.vector == NULL;
        m->bytes += item.row.payload_size + item.row.dim * sizeof(float) + 64;
        m->done++;
    }
    return CLI_OK;
}

static int import_batch(cli_context *cli, importing *m)
{
    kith_error err;
    if (kith_collection_begin(m->collection, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    int status = put_rows(cli, m);
    if (status == CLI_OK &&
        (keep_place(m, &err) != KITH_OK || kith_collection_commit(m->collection, &err) != KITH_OK))
        status = cli_fail_message(cli, cli->args[0], &err);
    kith_collection_rollback(m->collection);
    if (status == CLI_OK) rows_settler_wake(&m->settler, m->bytes);
    m->bytes = 0;
    return status;
}

static int import_all(cli_context *cli, importing *m)
{
    while (!m->ended) {
        if (cli_cancelled(cli))
            return cli_fail(cli, NULL, "interrupted after %s; the same command goes on there",
                            cli_counted(m->done, "row"));
        int status = import_batch(cli, m);
        if (status != CLI_OK) return status;
        if (cli->run.progress)
            cli->run.progress(cli->run.progress_ctx, "importing", m->done, m->source->total);
    }
    return CLI_OK;
}

/* ---- Opening ---- */

static void choose_options(cli_context *cli, const importing *m, kith_collection_options *how)
{
    kith_collection_options_init(how);
    how->max_bytes = (uint64_t)m->o->max_bytes;
    how->wait_ms = cli->wait_ms;
    how->log_bytes = (uint64_t)256 << 20; /* a thread works it in: rows_settle.h */
}

/* Open the collection, or make it for vectors of this dim. */
static int open_collection(cli_context *cli, importing *m)
{
    kith_error err;
    const rows_shape *shape = &m->source->shape;
    kith_metric metric = shape->has_metric ? shape->metric : KITH_L2SQ;
    kith_collection_options how;
    choose_options(cli, m, &how);
    kith_status status = kith_collection_open(cli->args[0], &how, &m->collection, &err);
    if (status == KITH_NOTFOUND) {
        if (m->o->metric) (void)kith_metric_parse(m->o->metric, &metric, NULL);
        status = kith_collection_create(cli->args[0], shape->dim, metric, &how, &m->collection, &err);
        m->made = status == KITH_OK;
        if (status == KITH_EXISTS) /* somebody else has made it just now */
            status = kith_collection_open(cli->args[0], &how, &m->collection, &err);
    }
    if (status != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    size_t dim = kith_collection_dim(m->collection);
    if (shape->dim && dim && dim != shape->dim)
        return cli_fail(cli, m->path, "its vectors have %zu components, those of the collection %zu",
                        shape->dim, dim);
    if (m->o->metric && strcmp(kith_metric_name(kith_collection_metric(m->collection)), m->o->metric) != 0)
        return cli_usage(cli, "--metric", "the collection is there already, with the metric %s",
                         kith_metric_name(kith_collection_metric(m->collection)));
    m->target = (rows_target){
        .collection = m->collection, .shape = shape, .partition = m->o->partition, .whole = m->source->whole};
    return CLI_OK;
}

/* In one batch: what rows need before they come (fields 0), or what is cheaper when they are there (1). */
static int declare(cli_context *cli, importing *m, int fields)
{
    kith_error err;
    const rows_shape *shape = &m->source->shape;
    size_t dim = kith_collection_dim(m->collection);
    if (fields ? shape->n_fields == 0
               : !m->o->partition && !shape->n_vectors && !shape->n_partitions && (dim || !shape->dim))
        return CLI_OK;
    kith_status status = kith_collection_begin(m->collection, &err);
    if (status == KITH_OK && !dim && shape->dim)
        status = kith_collection_reset_vectors(m->collection, shape->dim,
                                               kith_collection_metric(m->collection), &err);
    if (status == KITH_OK)
        status = fields ? rows_declare_fields(&m->target, &err) : rows_declare(&m->target, &err);
    if (status == KITH_OK) status = kith_collection_commit(m->collection, &err);
    kith_collection_rollback(m->collection);
    return status == KITH_OK ? CLI_OK : cli_fail_message(cli, cli->args[0], &err);
}

static int fold(cli_context *cli, importing *m)
{
    kith_error err;
    kith_fold_options how;
    kith_fold_options_init(&how);
    how.run = &cli->run;
    kith_fold_plan plan = {.struct_size = sizeof plan};
    if (kith_collection_plan_fold(m->collection, &how, &plan, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    if (*plan.why)
        cli_note(cli, "%s %s (%s), %s of memory at most", plan.anew ? "trains" : "adds to", plan.spec,
                 plan.why, cli_bytes(plan.peak_bytes));
    else
        cli_note(
            cli,
            "nothing to build: the index is up to date, or so few rows are compared as fast without one");
    kith_status status = kith_collection_optimize(m->collection, &how, &err);
    /* Busy: somebody reads, or folds. The rows are there; the next fold does what was left. */
    return status == KITH_OK || status == KITH_BUSY ? CLI_OK : cli_fail_message(cli, cli->args[0], &err);
}

static int report(cli_context *cli, const importing *m, double seconds)
{
    uint64_t rows = m->done - m->first;
    double rate = seconds > 0 ? (double)rows / seconds : 0;
    if (m->bare && kith_collection_dim(m->collection))
        cli_note(cli, "%s came without a vector: no search by vectors finds them, and what they had is gone",
                 cli_counted(m->bare, "row"));
    if (cli->json)
        return cli_json_line(cli, json_pack("{so sI sI so so}", "collection", cli_json_text(cli->args[0]),
                                            "imported", (json_int_t)rows, "without_vector",
                                            (json_int_t)m->bare, "seconds", cli_json_number(seconds),
                                            "rows_per_second", cli_json_number(rate)));
    if (rows || !m->ended || m->first == 0)
        cli_note(cli, "%s in %.1f s, %s a second", cli_counted(rows, "row"), seconds,
                 cli_thousands((uint64_t)rate));
    return CLI_OK;
}

static int import_source(cli_context *cli, importing *m)
{
    int status = rows_source_open(cli, &m->reading, &m->source);
    if (status == CLI_OK) status = name_place(cli, m);
    if (status == CLI_OK) status = open_collection(cli, m);
    if (status == CLI_OK) status = declare(cli, m, 0);
    if (status == CLI_OK) status = find_place(cli, m);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (status == CLI_OK && !m->ended) rows_settler_start(&m->settler, cli->args[0]);
    if (status == CLI_OK) status = import_all(cli, m);
    rows_settler_stop(&m->settler);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9;
    if (status == CLI_OK) status = declare(cli, m, 1);
    if (status == CLI_OK && m->o->fold) status = fold(cli, m);
    return status == CLI_OK ? report(cli, m, seconds) : status;
}

/* No source: the index alone. */
static int fold_collection(cli_context *cli, importing *m)
{
    kith_error err;
    const struct options *o = m->o;
    kith_collection_options how;
    if (!o->fold) return cli_usage(cli, "SOURCE", "missing: only --fold does without");
    if (o->payload || o->key || o->text_key || o->metric || o->partition || o->filter || o->also.n || o->as.n)
        return cli_usage(cli, "SOURCE",
                         "missing: without one --fold and --max-bytes are all there is to say");
    choose_options(cli, m, &how);
    if (kith_collection_open(cli->args[0], &how, &m->collection, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    int status = fold(cli, m);
    if (status != CLI_OK || !cli->json) return status;
    return cli_json_line(
        cli, json_pack("{so sI}", "collection", cli_json_text(cli->args[0]), "imported", (json_int_t)0));
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    importing m = {.o = o,
                   .path = cli->args[1],
                   .reading = {.path = cli->args[1],
                               .payload = o->payload,
                               .key = o->key,
                               .text = o->text_key,
                               .filter = o->filter,
                               .also = o->also,
                               .as = o->as}};
    int status = m.path ? import_source(cli, &m) : fold_collection(cli, &m);
    rows_source_close(m.source);
    if (status != CLI_OK && m.made) /* and nothing was put into it: refused, and closed, if there was */
        (void)kith_collection_discard(m.collection, NULL);
    else
        kith_collection_close(m.collection);
    return status;
}

const cli_verb verb_import = {
    .name = "import",
    .group = CLI_ROWS,
    .summary = "put rows of a file or another collection into a collection",
    .description =
        "Puts a row into COLLECTION, which is made if it is not there, for each vector of SOURCE "
        "(fvecs, fbin, npy, HDF5, ...; `kith info` lists what is read). Line i of ROWS.jsonl, a JSON "
        "object, is the payload of row i. With --key the payload's member FIELD, a whole number "
        "from 1 on, is the key of the row, and a row that has this key already is replaced; without "
        "it rows get the next free keys.\n\n"
        "SOURCE may be a table, .csv or .tsv, whose first line names the columns: $key, $text, "
        "$partition, $expires, $payload, $vector and $vector.NAME are what they say, others are "
        "members of the payload; --as names them otherwise. It may hold whole rows, an object of "
        "JSON a line (.jsonl): key, text, partition, expires, payload, vector, vectors. And it may "
        "be another collection (.kith), with all that its rows have. `kith export` writes all of "
        "these. A row of these replaces the row of its key as a whole: what it does not name, its "
        "vector, too, the row has no longer; how many came without a vector is said. `kith set --merge` "
        "changes members of the payload alone.\n\n"
        "Rows are put in batches of N, each durable when it is done. An import that was "
        "interrupted goes on where it "
        "stopped when the same command is given again. One that fails before a row got in leaves no new "
        "collection behind.",
    .arguments =
        (const cli_argument[]){ROWS_ARGUMENT_COLLECTION,
                               {.name = "SOURCE",
                                .help = "a vector file, .csv, .tsv, .jsonl or .kith; --fold alone needs none",
                                .optional = true},
                               {0}},
    .options =
        (const cli_option[]){
            {.name = "payload",
             .letter = 'p',
             .kind = CLI_TEXT,
             .argument = "ROWS.jsonl",
             .into = offsetof(struct options, payload),
             .help = "the payloads, a JSON object a line"},
            {.name = "key",
             .kind = CLI_TEXT,
             .argument = "FIELD",
             .into = offsetof(struct options, key),
             .help = "the member of the payloads, or the column, that is the key"},
            {.name = "text-key",
             .kind = CLI_TEXT,
             .argument = "FIELD",
             .into = offsetof(struct options, text_key),
             .help = "the member of the payloads, a string, or the column that the row is known by"},
            {.name = "as",
             .kind = CLI_LIST,
             .argument = "COLUMN=ROLE",
             .into = offsetof(struct options, as),
             .help =
                 "a column of a table, or FIRST..LAST, is key, text, partition, expires, payload, vector, "
                 "vector.NAME, skip, or the member of another name; may be given more than once"},
            ROWS_OPTION_FILTER("of a collection only the rows for which this is true (docs/filters.md)"),
            {.name = "partition",
             .kind = CLI_TEXT,
             .argument = "NAME",
             .into = offsetof(struct options, partition),
             .help = "put the rows into this partition, which is made if it is not there"},
            {.name = "also",
             .kind = CLI_LIST,
             .argument = "NAME=FILE",
             .into = offsetof(struct options, also),
             .help = "the vectors of FILE are those of the rows in the vector field NAME, which is "
                     "made if it is not there; may be given more than once"},
            {.name = "max-bytes",
             .kind = CLI_NUMBER,
             .argument = "B",
             .fallback = "0",
             .high = 1e18,
             .into = offsetof(struct options, max_bytes),
             .help = "hold no more bytes in memory than this, batches and SQLite's cache apart; with "
                     "--fold an index is chosen that can be built in it; 0 means any"},
            {.name = "batch",
             .kind = CLI_COUNT,
             .argument = "N",
             .fallback = "10000",
             .low = 1,
             .high = 1000000,
             .into = offsetof(struct options, batch),
             .help = "rows that become durable together"},
            {.name = "metric",
             .letter = 'm',
             .kind = CLI_TEXT,
             .argument = "METRIC",
             .choices = "l2|dot|cosine|l1",
             .into = offsetof(struct options, metric),
             .help = "the distance of a new collection; l2 when absent"},
            {.name = "fold",
             .kind = CLI_FLAG,
             .into = offsetof(struct options, fold),
             .help = "build the search index afterwards"},
            {.name = "restart",
             .kind = CLI_FLAG,
             .into = offsetof(struct options, restart),
             .help = "begin anew where an earlier import was interrupted"},
            {0}},
    .common = CLI_JSON | CLI_THREADS | CLI_WAIT,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith import X.kith base.fvecs", "vectors alone"},
                                      {"kith import X.kith base.npy --payload rows.jsonl --key id --fold",
                                       "with payloads and keys of one's own, then the index"},
                                      {"kith import X.kith t.csv --key id --as f0..f127=vector",
                                       "a table whose columns f0 to f127 are the vector"},
                                      {"kith import X.kith --fold", "the index of what is there"},
                                      {"kith import X.kith Y.kith --filter 'year >= 2020'",
                                       "rows of another collection"},
                                      {0}},
    .run = run,
};
