/* verb_query.c - `kith query`: the answers of an index to a file of queries. */
#include "cli_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct options {
    const char *output, *truth, *base;
    uint64_t k, limit;
    cli_list set;
};

/* What is known about a run of queries. */
typedef struct answers {
    const char *index_path, *queries_path;
    kith_index_info info;
    cli_vectors queries;
    size_t k;
    uint64_t *ids; /* ids[nq][k] */
    float *dist;
    kith_search_stats *stats;
    double seconds;
} answers;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What a search is to blame on: a setting that its message begins with, or else the queries. */
static const char *blamed(const cli_settings *settings, const answers *a, const kith_error *err)
{
    for (size_t i = 0; i < settings->n; i++) {
        size_t size = strlen(settings->items[i].name);
        if (strncmp(err->message, settings->items[i].name, size) == 0 && err->message[size] == ' ')
            return "--set";
    }
    return a->queries_path;
}

static int search(cli_context *cli, kith_index *index, const cli_settings *settings, answers *a)
{
    kith_error err;
    kith_searcher *searcher = NULL;
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = settings->items;
    options.n_settings = settings->n;
    options.cancel = cli->run.cancel;
    options.pool = cli->run.pool;
    size_t nq = a->queries.n;
    a->ids = malloc(nq * a->k * sizeof *a->ids);
    a->dist = malloc(nq * a->k * sizeof *a->dist);
    a->stats = calloc(nq, sizeof *a->stats);
    if (!a->ids || !a->dist || !a->stats) return cli_fail(cli, NULL, "out of memory");
    if (kith_searcher_create(index, &searcher, &err) != KITH_OK)
        return cli_fail_error(cli, a->index_path, &err);
    double begun = now();
    kith_status status =
        cli_search(searcher, &a->queries, 0, nq, a->k, &options, a->ids, a->dist, a->stats, &err);
    a->seconds = now() - begun;
    kith_searcher_free(searcher);
    if (status != KITH_OK) return cli_fail_error(cli, blamed(settings, a, &err), &err);
    return cli_cancelled(cli) ? cli_fail(cli, NULL, "interrupted") : CLI_OK;
}

static json_t *result_json(const answers *a, size_t q)
{
    json_t *results = json_array();
    for (size_t i = 0; results && i < a->k && a->ids[q * a->k + i] != KITH_NO_ID; i++) {
        float d = a->dist[q * a->k + i];
        json_array_append_new(
            results, json_pack("{s:I, s:I, s:o, s:o}", "rank", (json_int_t)i + 1, "id",
                               (json_int_t)a->ids[q * a->k + i], "distance", cli_json_float(d), "score",
                               cli_json_float(kith_metric_score(a->info.metric, d, a->info.dim))));
    }
    return json_pack("{s:I, s:o, s:b}", "query", (json_int_t)q, "results", results, "complete",
                     a->stats[q].complete);
}

static int print_answers(cli_context *cli, const answers *a)
{
    if (cli->json) {
        for (size_t q = 0; q < a->queries.n; q++) {
            int status = cli_json_line(cli, result_json(a, q));
            if (status != CLI_OK) return status;
        }
        return CLI_OK;
    }
    cli_table table;
    cli_table_init(&table, (const char *const[]){">QUERY", ">RANK", ">ID", ">DISTANCE"}, 4);
    for (size_t q = 0; q < a->queries.n; q++)
        for (size_t i = 0; i < a->k && a->ids[q * a->k + i] != KITH_NO_ID; i++) {
            cli_table_cell(&table, "%zu", q);
            cli_table_cell(&table, "%zu", i + 1);
            cli_table_cell(&table, "%llu", (unsigned long long)a->ids[q * a->k + i]);
            cli_table_cell(&table, "%.7g", (double)a->dist[q * a->k + i]);
        }
    return cli_table_print(cli, &table);
}

/* Recall against a file of true neighbours, and the speed. */
static int judge(cli_context *cli, const struct options *o, const answers *a)
{
    cli_truth truth = {0};
    cli_vectors base = {0};
    double recall = 0;
    int status = cli_truth_load(cli, o->truth, &truth);
    if (status == CLI_OK && (truth.n < a->queries.n || truth.k < a->k))
        status = cli_fail(cli, o->truth, "holds %zu x %zu neighbours, %zu x %zu are needed", truth.n, truth.k,
                          a->queries.n, a->k);
    if (status == CLI_OK && o->base) {
        status = cli_vectors_load(cli, o->base, CLI_ROLE_BASE, a->info.metric, 0, &base);
        if (status == CLI_OK && (base.dim != a->info.dim || base.n == 0))
            status = cli_fail(cli, o->base, "is %zu x %zu, the index has %zu dimensions", base.n, base.dim,
                              a->info.dim);
        if (status == CLI_OK) status = cli_truth_check(cli, o->truth, &truth, base.n);
        if (status == CLI_OK) recall = cli_recall(a->info.metric, &base, &a->queries, &truth, a->ids, a->k);
    } else if (status == CLI_OK) {
        recall = cli_recall_by_id(&truth, a->ids, a->queries.n, a->k);
    }
    uint64_t scored = 0;
    for (size_t q = 0; q < a->queries.n; q++) scored += a->stats[q].scored;
    double nq = (double)a->queries.n, qps = a->seconds > 0 ? nq / a->seconds : INFINITY;
    if (status == CLI_OK && cli->json)
        status = cli_json_line(
            cli, json_pack("{s:s, s:I, s:I, s:I, s:o, s:s, s:o, s:o, s:I}", "spec", a->info.spec, "n",
                           (json_int_t)a->info.n, "queries", (json_int_t)a->queries.n, "k", (json_int_t)a->k,
                           "recall", cli_json_number(recall), "recall_by", o->base ? "distance" : "id", "qps",
                           cli_json_number(qps), "scored_per_query", cli_json_number((double)scored / nq),
                           "threads", (json_int_t)cli_threads(cli)));
    else if (status == CLI_OK) {
        printf("recall@%zu %.4f (by %s), %.0f queries/s with %zu thread%s, %.0f rows scored a query\n", a->k,
               recall, o->base ? "distance" : "id", qps, cli_threads(cli), cli_threads(cli) == 1 ? "" : "s",
               (double)scored / nq);
        status = cli_flush(cli);
    }
    cli_vectors_clear(&base);
    cli_truth_clear(&truth);
    return status;
}

static int answer(cli_context *cli, const struct options *o, const cli_settings *settings)
{
    kith_error err;
    kith_index *index = NULL;
    answers a = {.index_path = cli->args[0], .queries_path = cli->args[1], .k = o->k};
    a.info.struct_size = sizeof a.info;
    int status = o->output ? cli_output_check(cli, o->output) : CLI_OK;
    if (status == CLI_OK &&
        (kith_index_open(a.index_path, KITH_OPEN_READ, NULL, NULL, &index, &err) != KITH_OK ||
         kith_index_get_info(index, &a.info, &err) != KITH_OK))
        status = cli_fail_message(cli, a.index_path, &err);
    if (status == CLI_OK)
        status = cli_vectors_load(cli, a.queries_path, CLI_ROLE_QUERIES, a.info.metric, o->limit, &a.queries);
    if (status == CLI_OK && a.queries.dim != a.info.dim)
        status =
            cli_fail(cli, a.queries_path, "has %zu dimensions, the index has %zu", a.queries.dim, a.info.dim);
    if (status == CLI_OK) status = search(cli, index, settings, &a);
    if (status == CLI_OK && o->output) status = cli_ids_save(cli, o->output, a.ids, a.queries.n, a.k);
    if (status == CLI_OK && o->truth) status = judge(cli, o, &a);
    if (status == CLI_OK && !o->output && !o->truth) status = print_answers(cli, &a);
    free(a.ids);
    free(a.dist);
    free(a.stats);
    cli_vectors_clear(&a.queries);
    kith_index_free(index);
    return status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    if (o->base && !o->truth) return cli_usage(cli, "--base", "is of use with --gt only");
    cli_settings settings;
    int status = cli_settings_parse(cli, "--set", &o->set, &settings);
    if (status == CLI_OK) status = answer(cli, o, &settings);
    cli_settings_clear(&settings);
    return status;
}

const cli_verb verb_query = {
    .name = "query",
    .group = CLI_VECTORS,
    .summary = "find the nearest rows of an index for a file of queries",
    .description = "Prints a line for each result: the query's position in QUERIES, the rank, the row's id "
                   "and its distance in the "
                   "units of the index's metric (squared for l2). With --json an object for each query.\n\n"
                   "With --output the ids go to a file instead; with --gt the recall and the speed are "
                   "printed instead. recall@k is "
                   "the part of the returned rows whose true distance is at most that of the true k-th "
                   "neighbour; that takes --base, "
                   "the vectors that the index was built from. Without it ids are compared, and a row at "
                   "equal distance counts as "
                   "wrong.",
    .arguments = (const cli_argument[]){{.name = "INDEX", .help = "a file that `kith build` wrote"},
                                        {.name = "QUERIES",
                                         .help = "the vectors to search for, in any format that kith reads"},
                                        {0}},
    .options = (const cli_option[]){CLI_OPTION_NEIGHBOURS("10", 1e9, "how many results for each query"),
                                    CLI_OPTION_SET("parameters of the search: see `kith families SPEC`"),
                                    {.name = "gt",
                                     .kind = CLI_TEXT,
                                     .argument = "FILE",
                                     .into = offsetof(struct options, truth),
                                     .help = "true neighbours (.ivecs or HDF5): print recall and speed"},
                                    {.name = "base",
                                     .kind = CLI_TEXT,
                                     .argument = "FILE",
                                     .into = offsetof(struct options, base),
                                     .help = "the vectors of the index, for recall by distance"},
                                    CLI_OPTION_OUTPUT("write the ids to this .ivecs file"),
                                    {.name = "limit",
                                     .kind = CLI_COUNT,
                                     .argument = "N",
                                     .into = offsetof(struct options, limit),
                                     .help = "take the first N queries only; 0 means all"},
                                    {0}},
    .common = CLI_JSON | CLI_THREADS,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith query base.kidx query.fvecs -k 5", "prints the five nearest rows of each query"},
            {"kith query base.kidx query.fvecs --set nprobe=64 --gt gt.ivecs --base base.fvecs",
             "prints recall@10 and queries per second"},
            {0}},
    .run = run,
};
