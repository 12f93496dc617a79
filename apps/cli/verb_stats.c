/* verb_stats.c - `kith stats`: what a collection holds, what of it is indexed, and what it costs on the disk. */
#include "rows.h"

static int print_table(cli_context *cli, const kith_collection_stats *s)
{
    cli_table table;
    double vectors = (double)s->vectors * (double)s->dim * 4;
    cli_table_init(&table, (const char *const[]){"STATS", ""}, 2);
#define ROW(name, ...) (cli_table_cell(&table, name), cli_table_cell(&table, __VA_ARGS__))
    ROW("rows", "%s", cli_thousands(s->rows));
    ROW("vectors", "%s of %zu components, %s", cli_thousands(s->vectors), s->dim,
        kith_metric_name(s->metric));
    ROW("free row slots", "%s", cli_thousands(s->free_slots));
    ROW("version", "%llu", (unsigned long long)s->version);
    ROW("database", "%s", cli_bytes(s->database_bytes));
    if (vectors > 0) ROW("database to vectors", "%.2f x", (double)s->database_bytes / vectors);
    if (s->segment_bytes) {
        ROW("index", "%s over %s rows, %s", s->segment_spec, cli_thousands(s->segment_rows),
            cli_bytes(s->segment_bytes));
        ROW("rows beside it", "%s", cli_thousands(s->uncovered));
    } else {
        ROW("index", "none: every vector is compared");
    }
#undef ROW
    return cli_table_print(cli, &table);
}

static int run(cli_context *cli, void *options)
{
    (void)options;
    kith_error err;
    kith_collection *collection;
    kith_collection_stats s = {.struct_size = sizeof s};
    int status = rows_open(cli, true, &collection);
    if (status != CLI_OK) return status;
    kith_status got = kith_collection_get_stats(collection, &s, &err);
    kith_collection_close(collection);
    if (got != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    if (!cli->json) return print_table(cli, &s);
    return cli_json_line(cli, json_pack("{so ss sI sI sI ss sI sI sI s{ss sI sI sI}}", "collection",
                                        cli_json_text(cli->args[0]), "id", s.id, "rows", (json_int_t)s.rows,
                                        "vectors", (json_int_t)s.vectors, "dim", (json_int_t)s.dim, "metric",
                                        kith_metric_name(s.metric), "version", (json_int_t)s.version,
                                        "free_slots", (json_int_t)s.free_slots, "database_bytes",
                                        (json_int_t)s.database_bytes, "index", "spec", s.segment_spec, "rows",
                                        (json_int_t)s.segment_rows, "bytes", (json_int_t)s.segment_bytes,
                                        "uncovered", (json_int_t)s.uncovered));
}

const cli_verb verb_stats = {
    .name = "stats",
    .group = CLI_ROWS,
    .summary = "show how many rows a collection has, what is indexed, and its size",
    .description = "Prints the rows and vectors of COLLECTION, the slots of deleted rows that new ones will "
                   "take, the search "
                   "index and how many rows are not in it yet (they are compared one by one), and the bytes "
                   "on the disk.",
    .arguments = (const cli_argument[]){ROWS_ARGUMENT_COLLECTION, {0}},
    .common = CLI_JSON,
    .examples = (const cli_example[]){{"kith stats X.kith", "as a table"},
                                      {"kith stats X.kith --json | jq .index.uncovered", "for a script"},
                                      {0}},
    .run = run,
};
