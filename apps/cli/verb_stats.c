/* verb_stats.c - `kith stats`: what a collection holds, what of it is indexed, and what it costs on the disk. */
#include "rows.h"

typedef struct shown {
    kith_collection_stats s;
    kith_fold_plan plan;
    kith_collection_tuning tuning;
    int tuned;
    const char *refused; /* why there can be no plan; NULL: there is one */
    json_t *history;     /* the measurements of recall; NULL: none */
} shown;

static int print_table(cli_context *cli, const shown *v)
{
    cli_table table;
    const kith_collection_stats *s = &v->s;
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
        ROW("index", "%s over %s, %s", s->segment_spec, cli_counted(s->segment_rows, "row"),
            cli_bytes(s->segment_bytes));
        ROW("rows beside it", "%s", cli_thousands(s->uncovered));
    } else {
        ROW("index", "none: every vector is compared");
    }
    if (s->cells > 0 && s->spread_trained > 0)
        ROW("drift", "%.3f x the distance to centroids trained with; trained anew from 1.3 on",
            s->spread_now / s->spread_trained);
    if (v->refused)
        ROW("next fold", "%s", v->refused);
    else if (*v->plan.why)
        ROW("next fold", "%s%s (%s), %s of memory", v->plan.anew ? "trains " : "adds to ", v->plan.spec,
            v->plan.why, cli_bytes(v->plan.peak_bytes));
    else
        ROW("next fold", "%s",
            s->segment_bytes ? "nothing to do: the index is up to date"
                             : "nothing to do: so few vectors are compared as fast without an index");
    if (v->tuned && !s->segment_bytes)
        ROW("tuned", "to recall %g, which searches without an index exceed", v->tuning.target_recall);
    else if (v->tuned && *v->tuning.param)
        ROW("tuned", "to recall %g: %s %g, refine_k %g", v->tuning.target_recall, v->tuning.param,
            v->tuning.value, v->tuning.refine_k);
    else if (v->tuned)
        ROW("tuned", "to recall %g, but not with this index: kith tune measures it", v->tuning.target_recall);
    size_t measured = json_array_size(v->history);
    const json_t *last = measured ? json_array_get(v->history, measured - 1) : NULL;
    if (last)
        ROW("recall measured", "%.4f at version %lld, %s (kith recall --history)",
            json_number_value(json_object_get(last, "recall")),
            (long long)json_integer_value(json_object_get(last, "version")),
            cli_counted(measured, "measurement"));
#undef ROW
    return cli_table_print(cli, &table);
}

static json_t *to_json(cli_context *cli, const shown *v)
{
    const kith_collection_stats *s = &v->s;
    json_t *fold = json_pack("{ss ss sb sI}", "why", v->plan.why, "spec", v->plan.spec, "anew", v->plan.anew,
                             "peak_bytes", (json_int_t)v->plan.peak_bytes);
    json_t *tuned =
        v->tuned ? json_pack("{so ss so so}", "target_recall", cli_json_number(v->tuning.target_recall),
                             "param", v->tuning.param, "value", cli_json_number(v->tuning.value), "refine_k",
                             cli_json_number(v->tuning.refine_k))
                 : json_null();
    return json_pack("{so ss sI sI sI ss sI sI sI s{ss sI sI sI so so} so so sO*}", "collection",
                     cli_json_text(cli->args[0]), "id", s->id, "rows", (json_int_t)s->rows, "vectors",
                     (json_int_t)s->vectors, "dim", (json_int_t)s->dim, "metric", kith_metric_name(s->metric),
                     "version", (json_int_t)s->version, "free_slots", (json_int_t)s->free_slots,
                     "database_bytes", (json_int_t)s->database_bytes, "index", "spec", s->segment_spec,
                     "rows", (json_int_t)s->segment_rows, "bytes", (json_int_t)s->segment_bytes, "uncovered",
                     (json_int_t)s->uncovered, "spread_trained", cli_json_number(s->spread_trained),
                     "spread_now", cli_json_number(s->spread_now), "next_fold", fold, "tuned", tuned,
                     "recall_history", v->history);
}

/* The measurements that `kith recall` keeps. */
static json_t *recall_history(kith_collection *collection)
{
    kith_meta meta;
    if (kith_collection_meta_get(collection, "recall", &meta, NULL) != KITH_OK) return NULL;
    json_t *history = json_loadb(meta.value, meta.size, 0, NULL);
    if (json_is_array(history)) return history;
    json_decref(history);
    return NULL;
}

static int show(cli_context *cli, kith_collection *collection)
{
    kith_error err, why;
    shown v = {.s = {.struct_size = sizeof v.s},
               .plan = {.struct_size = sizeof v.plan, .why = ""},
               .tuning = {.struct_size = sizeof v.tuning}};
    if (kith_collection_get_stats(collection, &v.s, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    if (kith_collection_plan_fold(collection, NULL, &v.plan, &why) != KITH_OK) v.refused = why.message;
    v.tuned = kith_collection_get_tuning(collection, NULL, &v.tuning, NULL) == KITH_OK;
    v.history = recall_history(collection);
    int status = cli->json ? cli_json_line(cli, to_json(cli, &v)) : print_table(cli, &v);
    json_decref(v.history);
    return status;
}

static int run(cli_context *cli, void *options)
{
    (void)options;
    kith_collection *collection;
    int status = rows_open(cli, true, &collection);
    if (status != CLI_OK) return status;
    status = show(cli, collection);
    kith_collection_close(collection);
    return status;
}

const cli_verb verb_stats = {
    .name = "stats",
    .group = CLI_ROWS,
    .summary = "show how many rows a collection has, what is indexed, and its size",
    .description =
        "Prints the rows and vectors of COLLECTION, the slots of deleted rows that new ones will "
        "take, the search "
        "index and how many rows are not in it yet (they are compared one by one), how far its rows have "
        "drifted from those "
        "it was trained with, what the next fold would do and the memory it would take, the recall that "
        "searches are tuned to and those that were measured, and the bytes on the disk.",
    .arguments = (const cli_argument[]){ROWS_ARGUMENT_COLLECTION, {0}},
    .common = CLI_JSON,
    .examples = (const cli_example[]){{"kith stats X.kith", "as a table"},
                                      {"kith stats X.kith --json | jq .index.uncovered", "for a script"},
                                      {0}},
    .run = run,
};
