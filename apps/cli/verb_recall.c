/* verb_recall.c - `kith recall`: how good the answers of a collection are, and how good they were.
 *
 * What was measured is kept in the collection as the named value "recall", the last measurements as lines of JSON, unless it
 * is opened for reading only. */
#include "rows.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME "recall"
#define KEPT 100 /* measurements; arbitrary */

struct options {
    uint64_t k, queries, seed, nprobe;
    int dry, history;
    double target;
    const char *field;
};

static json_t *measured_json(const kith_recall *r)
{
    return json_pack("{sI so sI sI ss sI so so}", "time", (json_int_t)time(NULL), "recall",
                     cli_json_number(r->recall), "k", (json_int_t)r->k, "queries", (json_int_t)r->queries,
                     "spec", r->spec, "version", (json_int_t)r->version, "ms",
                     cli_json_number(r->seconds * 1e3 / (double)r->queries), "exact_ms",
                     cli_json_number(r->exact_seconds * 1e3 / (double)r->queries));
}

static kith_status out_of_memory(kith_error *err)
{
    *err = (kith_error){.code = KITH_NOMEM, .message = "out of memory"};
    return KITH_NOMEM;
}

/* The array of earlier measurements; an empty one when there are none. NULL on failure. */
static kith_status read_history(kith_collection *collection, json_t **history, kith_error *err)
{
    kith_meta meta;
    kith_status status = kith_collection_meta_get(collection, NAME, &meta, err);
    *history = status == KITH_OK ? json_loadb(meta.value, meta.size, 0, NULL) : NULL;
    if (status != KITH_OK && status != KITH_NOTFOUND) return status;
    if (json_is_array(*history)) return KITH_OK;
    json_decref(*history); /* what is no history of ours begins anew */
    *history = json_array();
    return *history ? KITH_OK : out_of_memory(err);
}

/* Read in the batch that writes: a measurement that another process keeps meanwhile stays. */
static kith_status append(kith_collection *collection, json_t *measured, kith_error *err)
{
    json_t *history;
    kith_status status = read_history(collection, &history, err);
    if (status != KITH_OK) return status;
    char *text = NULL;
    if (json_array_append(history, measured) == 0) {
        while (json_array_size(history) > KEPT) json_array_remove(history, 0);
        text = json_dumps(history, JSON_COMPACT);
    }
    json_decref(history);
    status = text ? kith_collection_meta_set(collection, NAME, text, strlen(text), err) : out_of_memory(err);
    free(text);
    return status;
}

static kith_status keep(kith_collection *collection, json_t *measured, kith_error *err)
{
    kith_status status = kith_collection_begin(collection, err);
    if (status != KITH_OK) return status;
    status = append(collection, measured, err);
    if (status == KITH_OK) return kith_collection_commit(collection, err);
    kith_collection_rollback(collection);
    return status;
}

static int show_history(cli_context *cli, kith_collection *collection)
{
    kith_error err;
    size_t i;
    json_t *line, *history;
    if (read_history(collection, &history, &err) != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    int status = CLI_OK;
    json_array_foreach(history, i, line)
    {
        if (status == CLI_OK) status = cli_json_line(cli, json_incref(line));
    }
    json_decref(history);
    return status == CLI_OK ? cli_flush(cli) : status;
}

static int measure(cli_context *cli, kith_collection *collection, const struct options *o)
{
    kith_error err;
    kith_recall recall = {.struct_size = sizeof recall};
    kith_recall_options how;
    kith_recall_options_init(&how);
    how.k = (size_t)o->k;
    how.queries = (size_t)o->queries;
    how.seed = o->seed;
    how.nprobe = (size_t)o->nprobe;
    how.target_recall = o->target;
    how.field = o->field;
    how.run = &cli->run;
    if (kith_collection_recall(collection, &how, &recall, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    json_t *measured = measured_json(&recall);
    if (!measured) return cli_fail(cli, NULL, "out of memory");
    if (!o->dry && !o->nprobe && !o->field && o->target <= 0 && keep(collection, measured, &err) != KITH_OK) {
        json_decref(measured);
        return cli_fail_message(cli, cli->args[0], &err);
    }
    if (cli->json) return cli_json_line(cli, measured);
    json_decref(measured);
    printf("recall@%zu %.4f over %s; %s; %.3f ms a search, exactly %.3f ms\n", recall.k, recall.recall,
           cli_counted(recall.queries, "row"), *recall.spec ? recall.spec : "without an index",
           recall.seconds * 1e3 / (double)recall.queries,
           recall.exact_seconds * 1e3 / (double)recall.queries);
    return cli_flush(cli);
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_collection *collection;
    int status =
        rows_open(cli, o->dry || o->history || o->nprobe > 0 || o->field || o->target > 0, &collection);
    if (status != CLI_OK) return status;
    status = o->history ? show_history(cli, collection) : measure(cli, collection, o);
    kith_collection_close(collection);
    return status;
}

const cli_verb verb_recall = {
    .name = "recall",
    .group = CLI_ROWS,
    .summary = "measure how good the answers of a collection are",
    .description = "Searches COLLECTION by rows of its own, drawn at random and themselves left out, and "
                   "compares what is found "
                   "with an exact search: the share of the K rows that are right. The last hundred "
                   "measurements are kept in the "
                   "collection; `--history` prints them, a line of JSON each.",
    .arguments = (const cli_argument[]){ROWS_ARGUMENT_COLLECTION, {0}},
    .options =
        (const cli_option[]){
            {.name = "results",
             .letter = 'k',
             .kind = CLI_COUNT,
             .argument = "K",
             .fallback = "10",
             .low = 1,
             .high = 1000,
             .into = offsetof(struct options, k),
             .help = "how many rows each search looks for"},
            {.name = "queries",
             .kind = CLI_COUNT,
             .argument = "N",
             .fallback = "100",
             .low = 1,
             .high = 100000,
             .into = offsetof(struct options, queries),
             .help = "how many rows to search by"},
            {.name = "seed",
             .kind = CLI_COUNT,
             .argument = "N",
             .fallback = "1",
             .into = offsetof(struct options, seed),
             .help = "which rows are drawn"},
            {.name = "nprobe",
             .kind = CLI_COUNT,
             .argument = "N",
             .fallback = "0",
             .high = 1000000,
             .into = offsetof(struct options, nprobe),
             .help = "look into so many cells of the index, and keep nothing; 0: as a search would"},
            {.name = "target-recall",
             .kind = CLI_NUMBER,
             .argument = "R",
             .fallback = "0",
             .high = 1,
             .into = offsetof(struct options, target),
             .help = "search for this recall, as `kith tune` measured it, and keep nothing"},
            {.name = "field",
             .kind = CLI_TEXT,
             .argument = "NAME",
             .into = offsetof(struct options, field),
             .help = "measure this vector field, and keep nothing"},
            {.name = "dry",
             .kind = CLI_FLAG,
             .into = offsetof(struct options, dry),
             .help = "do not keep what is measured"},
            {.name = "history",
             .kind = CLI_FLAG,
             .into = offsetof(struct options, history),
             .help = "print what was measured before"},
            {0}},
    .common = CLI_JSON | CLI_THREADS | CLI_WAIT,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith recall X.kith", "now"},
                                      {"kith recall X.kith --history", "and before"},
                                      {0}},
    .run = run,
};
