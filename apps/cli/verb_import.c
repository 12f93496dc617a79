/* verb_import.c - `kith import`: a vector file, and a payload for each of its rows, into a collection.
 *
 * Rows are put in batches. With each batch the collection keeps, as a named value, how far the file has been read: so an
 * import that was interrupted, killed even, goes on where the last durable batch ended, and no row comes twice. */
#include "rows.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <kith/dataset.h>
#include <kith/fusion.h>

struct options {
    const char *payload, *key, *text_key, *metric, *partition;
    cli_list also;
    double max_bytes;
    uint64_t batch;
    int restart, fold;
};

/* --also NAME=FILE: vectors of another field, row by row. */
typedef struct beside {
    char *name;
    const char *path;
    kith_dataset *vectors;
    size_t dim;
    float *x; /* [batch][dim] */
} beside;

typedef struct importing {
    const struct options *o;
    const char *path; /* of the vectors */
    kith_dataset *vectors;
    kith_collection *collection;
    FILE *payloads; /* NULL: none */
    char *line;     /* of getline */
    char *text;     /* of --text-key, of the row at hand; NULL: none */
    size_t line_room;
    uint64_t n, done, first; /* rows in all, imported, imported when this run began */
    size_t dim;
    float *x; /* [batch][dim] */
    beside also[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n_also;
    char name[32];     /* of the named value that says how far it is */
    char source[1024]; /* what tells the files apart from changed ones */
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
    char vectors[64], payloads[64];
    char *full = realpath(m->path, NULL);
    if (!full) return cli_fail(cli, m->path, "%s", strerror(errno));
    snprintf(m->name, sizeof m->name, "import/%016" PRIx64, fnv1a(full));
    free(full);
    describe(m->path, vectors, sizeof vectors);
    describe(m->o->payload, payloads, sizeof payloads);
    const char *key = m->o->key ? m->o->key : m->o->text_key;
    snprintf(m->source, sizeof m->source, "%s, %s, %s %s", vectors, payloads,
             m->o->text_key ? "text key" : "key", key ? key : "-");
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
    const char *source = json_string_value(json_object_get(place, "source"));
    json_int_t rows = json_integer_value(json_object_get(place, "rows"));
    json_int_t bytes = json_integer_value(json_object_get(place, "bytes"));
    int same = source && strcmp(source, m->source) == 0 && rows >= 0 && (uint64_t)rows <= m->n && bytes >= 0;
    int whole = json_is_true(json_object_get(place, "whole"));
    json_decref(place);
    if (!same && whole) return CLI_OK; /* other files, or changed ones: an import of its own */
    if (!same)
        return cli_fail(cli, m->path,
                        "an import of it was interrupted, and since then the files or --key have changed; "
                        "--restart begins anew");
    if (m->payloads && fseeko(m->payloads, (off_t)bytes, SEEK_SET) != 0)
        return cli_fail(cli, m->o->payload, "%s", strerror(errno));
    m->done = m->first = (uint64_t)rows;
    if (whole)
        cli_note(cli, "%s: is in already; --restart imports it again", m->path);
    else
        cli_note(cli, "%s: goes on at row %s", m->path, cli_thousands(m->done));
    return CLI_OK;
}

/* Say in the open batch how far it is. It is kept when all is done, too: a run that is killed behind the last batch (while
 * folding, say) and started again must not import everything a second time. */
static kith_status keep_place(importing *m, kith_error *err)
{
    json_t *place = json_pack("{ss sI sI sb}", "source", m->source, "rows", (json_int_t)m->done, "bytes",
                              (json_int_t)(m->payloads ? ftello(m->payloads) : 0), "whole", m->done == m->n);
    char *text = json_dumps(place, JSON_COMPACT);
    json_decref(place);
    kith_status status = KITH_NOMEM;
    if (text)
        status = kith_collection_meta_set(m->collection, m->name, text, strlen(text), err);
    else if (err)
        *err = (kith_error){.code = KITH_NOMEM, .message = "out of memory"};
    free(text);
    return status;
}

/* ---- Rows ---- */

/* The key in a payload's member. */
static int key_of(cli_context *cli, const importing *m, uint64_t i, const char *text, size_t size,
                  int64_t *key)
{
    json_error_t fault;
    json_t *payload = json_loadb(text, size, 0, &fault), *value = json_object_get(payload, m->o->key);
    *key = json_is_integer(value) ? (int64_t)json_integer_value(value) : 0;
    int known = payload != NULL;
    json_decref(payload);
    if (*key >= 1) return CLI_OK;
    return cli_fail(cli, m->o->payload, "row %" PRIu64 ": %s", i,
                    known ? "its key must be a whole number from 1 on" : fault.text);
}

/* The text in a payload's member, in m->text. */
static int text_of(cli_context *cli, importing *m, uint64_t i, const char *text, size_t size)
{
    json_error_t fault;
    json_t *payload = json_loadb(text, size, 0, &fault);
    const char *value = json_string_value(json_object_get(payload, m->o->text_key));
    free(m->text);
    m->text = value ? strdup(value) : NULL;
    int known = payload != NULL, missing = value == NULL;
    json_decref(payload);
    if (m->text) return CLI_OK;
    return cli_fail(cli, m->o->payload, "row %" PRIu64 ": %s", i,
                    !known    ? fault.text
                    : missing ? "its key must be a string"
                              : "out of memory");
}

/* The payload and key of row i. */
static int next_payload(cli_context *cli, importing *m, uint64_t i, kith_row *row)
{
    if (!m->payloads) return CLI_OK;
    errno = 0;
    ssize_t size = getline(&m->line, &m->line_room, m->payloads);
    if (size < 0 && errno) return cli_fail(cli, m->o->payload, "%s", strerror(errno));
    if (size < 0)
        return cli_fail(cli, m->o->payload, "it ends after %" PRIu64 " lines, there are %" PRIu64 " vectors",
                        i, m->n);
    while (size > 0 && (m->line[size - 1] == '\n' || m->line[size - 1] == '\r')) size--;
    if (memchr(m->line, 0, (size_t)size) != NULL || size == 0)
        return cli_fail(cli, m->o->payload, "row %" PRIu64 ": %s", i, size ? "holds a NUL" : "an empty line");
    row->payload = m->line;
    row->payload_size = (size_t)size;
    if (m->o->text_key) return text_of(cli, m, i, m->line, (size_t)size);
    return m->o->key ? key_of(cli, m, i, m->line, (size_t)size, &row->key) : CLI_OK;
}

/* The partition and the other vectors of a row that has just been put, the i-th of its batch. */
static kith_status put_rest(importing *m, int64_t key, size_t i, kith_error *err)
{
    kith_status status = KITH_OK;
    if (m->o->partition) status = kith_collection_set_partition(m->collection, key, m->o->partition, err);
    for (size_t j = 0; j < m->n_also && status == KITH_OK; j++) {
        const beside *b = &m->also[j];
        status = kith_collection_put_vector(m->collection, key, b->name, b->x + i * b->dim, b->dim, err);
    }
    return status;
}

static int read_vectors(cli_context *cli, importing *m, size_t n)
{
    kith_error err;
    if (kith_dataset_read_f32(m->vectors, m->done, n, m->x, &err) != KITH_OK)
        return cli_fail_message(cli, m->path, &err);
    for (size_t j = 0; j < m->n_also; j++)
        if (kith_dataset_read_f32(m->also[j].vectors, m->done, n, m->also[j].x, &err) != KITH_OK)
            return cli_fail_message(cli, m->also[j].path, &err);
    return CLI_OK;
}

static int put_rows(cli_context *cli, importing *m, size_t n)
{
    kith_error err;
    int read = read_vectors(cli, m, n);
    if (read != CLI_OK) return read;
    for (size_t i = 0; i < n; i++) {
        kith_row row = {.vector = m->x + i * m->dim, .dim = m->dim};
        int status = next_payload(cli, m, m->done + i, &row);
        if (status != CLI_OK) return status;
        unsigned parts = KITH_ROW_PAYLOAD | KITH_ROW_VECTOR;
        int64_t key = 0;
        kith_status put = m->o->text_key
                              ? kith_collection_put_text(m->collection, m->text, parts, &row, &key, &err)
                              : kith_collection_put(m->collection, parts, &row, &key, &err);
        if (put == KITH_OK) put = put_rest(m, key, i, &err);
        if (put != KITH_OK)
            return cli_fail(cli, cli->args[0], "row %" PRIu64 " of %s: %s", m->done + i, m->path,
                            err.message);
    }
    m->done += n;
    return CLI_OK;
}

static int import_batch(cli_context *cli, importing *m)
{
    kith_error err;
    uint64_t left = m->n - m->done;
    if (kith_collection_begin(m->collection, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    int status = put_rows(cli, m, left < m->o->batch ? (size_t)left : (size_t)m->o->batch);
    if (status == CLI_OK &&
        (keep_place(m, &err) != KITH_OK || kith_collection_commit(m->collection, &err) != KITH_OK))
        status = cli_fail_message(cli, cli->args[0], &err);
    kith_collection_rollback(m->collection);
    return status;
}

static int import_all(cli_context *cli, importing *m)
{
    while (m->done < m->n) {
        if (cli_cancelled(cli))
            return cli_fail(cli, NULL, "interrupted after %s rows; the same command goes on there",
                            cli_thousands(m->done));
        int status = import_batch(cli, m);
        if (status != CLI_OK) return status;
        if (cli->run.progress) cli->run.progress(cli->run.progress_ctx, "importing", m->done, m->n);
    }
    for (int c; m->payloads && (c = getc(m->payloads)) != EOF;)
        if (c != '\n' && c != '\r')
            return cli_fail(cli, m->o->payload, "it has more lines than there are vectors (%" PRIu64 ")",
                            m->n);
    return CLI_OK;
}

/* ---- Opening ---- */

/* NAME=FILE, as many vectors as there are rows. */
static int open_beside(cli_context *cli, importing *m, const char *text)
{
    const char *sign = strchr(text, '=');
    if (!sign || sign == text || !sign[1])
        return cli_usage(cli, "--also", "'%s' is not of the form NAME=FILE", text);
    if (m->n_also == KITH_COLLECTION_MAX_VECTOR_FIELDS)
        return cli_usage(cli, "--also", "more than %d vector fields", KITH_COLLECTION_MAX_VECTOR_FIELDS);
    beside *b = &m->also[m->n_also++];
    b->name = strndup(text, (size_t)(sign - text));
    b->path = sign + 1;
    if (!b->name) return cli_fail(cli, NULL, "out of memory");
    int status = cli_dataset_open(cli, b->path, CLI_ROLE_BASE, &b->vectors);
    if (status != CLI_OK) return status;
    if (kith_dataset_rows(b->vectors) != m->n)
        return cli_fail(cli, b->path, "it has %" PRIu64 " vectors, %s %" PRIu64,
                        (uint64_t)kith_dataset_rows(b->vectors), m->path, m->n);
    b->dim = kith_dataset_dim(b->vectors);
    b->x = calloc((size_t)m->o->batch, b->dim * sizeof *b->x);
    return b->x ? CLI_OK : cli_fail(cli, "--batch", "out of memory");
}

static int open_sources(cli_context *cli, importing *m)
{
    int status = cli_dataset_open(cli, m->path, CLI_ROLE_BASE, &m->vectors);
    if (status != CLI_OK) return status;
    m->n = kith_dataset_rows(m->vectors);
    m->dim = kith_dataset_dim(m->vectors);
    m->x = calloc((size_t)m->o->batch, m->dim * sizeof *m->x);
    if (!m->x) return cli_fail(cli, "--batch", "out of memory");
    for (size_t i = 0; i < m->o->also.n && status == CLI_OK; i++)
        status = open_beside(cli, m, m->o->also.items[i]);
    if (status != CLI_OK || !m->o->payload) return status;
    m->payloads = fopen(m->o->payload, "r");
    return m->payloads ? CLI_OK : cli_fail(cli, m->o->payload, "%s", strerror(errno));
}

/* Open the collection, or make it for vectors of this dim. */
static int open_collection(cli_context *cli, importing *m)
{
    kith_error err;
    kith_metric metric = KITH_L2SQ;
    kith_collection_options how;
    kith_collection_options_init(&how);
    how.max_bytes = (uint64_t)m->o->max_bytes;
    kith_status status = kith_collection_open(cli->args[0], &how, &m->collection, &err);
    if (status == KITH_NOTFOUND) {
        (void)kith_metric_parse(m->o->metric ? m->o->metric : "l2", &metric, NULL);
        status = kith_collection_create(cli->args[0], m->dim, metric, &how, &m->collection, &err);
    }
    if (status != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    size_t dim = kith_collection_dim(m->collection);
    if (dim != m->dim)
        return cli_fail(cli, m->path, "its vectors have %zu components, those of the collection %zu", m->dim,
                        dim);
    if (m->o->metric && strcmp(kith_metric_name(kith_collection_metric(m->collection)), m->o->metric) != 0)
        return cli_usage(cli, "--metric", "the collection is there already, with the metric %s",
                         kith_metric_name(kith_collection_metric(m->collection)));
    return CLI_OK;
}

/* The partition and the vector fields, made where they are not there. */
static kith_status declare(importing *m, kith_error *err)
{
    kith_status status = KITH_OK;
    if (m->o->partition) status = kith_collection_partition_add(m->collection, m->o->partition, err);
    if (status == KITH_EXISTS) status = KITH_OK;
    for (size_t i = 0; i < m->n_also && status == KITH_OK; i++) {
        status = kith_collection_vector_field_add(m->collection, m->also[i].name, m->also[i].dim,
                                                  kith_collection_metric(m->collection), NULL, err);
        if (status == KITH_EXISTS) status = KITH_OK;
    }
    return status;
}

static int declare_all(cli_context *cli, importing *m)
{
    kith_error err;
    if (!m->o->partition && m->n_also == 0) return CLI_OK;
    kith_status status = kith_collection_begin(m->collection, &err);
    if (status == KITH_OK) status = declare(m, &err);
    if (status == KITH_OK) status = kith_collection_commit(m->collection, &err);
    kith_collection_rollback(m->collection);
    return status == KITH_OK ? CLI_OK : cli_fail_message(cli, cli->args[0], &err);
}

static int finish(cli_context *cli, importing *m, double seconds)
{
    kith_error err;
    kith_fold_options fold;
    kith_fold_options_init(&fold);
    fold.run = &cli->run;
    kith_fold_plan plan = {.struct_size = sizeof plan};
    if (m->o->fold && kith_collection_plan_fold(m->collection, &fold, &plan, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    if (m->o->fold && *plan.why)
        cli_note(cli, "%s %s (%s), %s of memory at most", plan.anew ? "trains" : "adds to", plan.spec,
                 plan.why, cli_bytes(plan.peak_bytes));
    if (m->o->fold && kith_collection_optimize(m->collection, &fold, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    uint64_t rows = m->n - m->first;
    double rate = seconds > 0 ? (double)rows / seconds : 0;
    if (cli->json)
        return cli_json_line(cli, json_pack("{so sI so so}", "collection", cli_json_text(cli->args[0]),
                                            "imported", (json_int_t)rows, "seconds", cli_json_number(seconds),
                                            "rows_per_second", cli_json_number(rate)));
    cli_note(cli, "%s rows in %.1f s, %s a second", cli_thousands(rows), seconds,
             cli_thousands((uint64_t)rate));
    return CLI_OK;
}

static int import_file(cli_context *cli, importing *m)
{
    int status = open_sources(cli, m);
    if (status == CLI_OK) status = name_place(cli, m);
    if (status == CLI_OK) status = open_collection(cli, m);
    if (status == CLI_OK) status = declare_all(cli, m);
    if (status == CLI_OK) status = find_place(cli, m);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (status == CLI_OK) status = import_all(cli, m);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9;
    return status == CLI_OK ? finish(cli, m, seconds) : status;
}

static int run(cli_context *cli, void *options)
{
    importing m = {.o = options, .path = cli->args[1]};
    if (m.o->key && !m.o->payload)
        return cli_usage(cli, "--key", "needs --payload: it names a member of the payloads");
    if (m.o->text_key && (!m.o->payload || m.o->key))
        return cli_usage(cli, "--text-key", "needs --payload, and goes not together with --key");
    int status = import_file(cli, &m);
    kith_collection_close(m.collection);
    kith_dataset_close(m.vectors);
    if (m.payloads) fclose(m.payloads);
    free(m.line);
    free(m.text);
    free(m.x);
    for (size_t i = 0; i < m.n_also; i++) {
        kith_dataset_close(m.also[i].vectors);
        free(m.also[i].name);
        free(m.also[i].x);
    }
    return status;
}

const cli_verb verb_import = {
    .name = "import",
    .group = CLI_ROWS,
    .summary = "put the vectors of a file into a collection, with a payload each",
    .description = "Puts a row into COLLECTION for each vector of VECTORS (fvecs, fbin, npy, HDF5, ...; "
                   "`kith info` lists what is "
                   "read); the collection is made if it is not there. Line i of ROWS.jsonl, a JSON object, "
                   "is the payload of "
                   "row i. "
                   "With --key the payload's member FIELD, a whole number from 1 on, is the key of the row, "
                   "and a row that has this "
                   "key already is replaced; without it rows get the next free keys.\n\n"
                   "Rows are put in batches of N, each durable when it is done. An import that was "
                   "interrupted goes on where it "
                   "stopped when the same command is given again.",
    .arguments = (const cli_argument[]){ROWS_ARGUMENT_COLLECTION,
                                        {.name = "VECTORS", .help = "a vector file of any format"},
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
             .help = "the member of the payloads that is the key"},
            {.name = "text-key",
             .kind = CLI_TEXT,
             .argument = "FIELD",
             .into = offsetof(struct options, text_key),
             .help = "the member of the payloads, a string, that the row is known by"},
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
    .common = CLI_JSON | CLI_THREADS,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith import X.kith base.fvecs", "vectors alone"},
                                      {"kith import X.kith base.npy --payload rows.jsonl --key id --fold",
                                       "with payloads and keys of one's own, then the index"},
                                      {0}},
    .run = run,
};
