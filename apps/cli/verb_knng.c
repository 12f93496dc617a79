/* verb_knng.c - `kith knng`: of every row of a file, the rows nearest to it. */
#include "cli_options.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include <kith/knng.h>

struct options {
    const char *output, *metric;
    uint64_t k, limit, seed, trees, rounds, check;
};

typedef struct graph {
    uint64_t *ids; /* [n][k] */
    float *dist;   /* [n][k] */
    kith_knng_result result;
    double wall, cpu; /* seconds */
    double recall;    /* of the rows checked; NaN: none were */
} graph;

static double clock_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int make(cli_context *cli, const struct options *o, kith_metric metric, const cli_vectors *base,
                graph *g)
{
    kith_error err;
    kith_knng_options options;
    kith_knng_options_init(&options);
    options.metric = metric;
    options.seed = o->seed;
    options.trees = o->trees;
    options.rounds = o->rounds;
    g->ids = malloc(base->n * o->k * sizeof *g->ids);
    g->dist = malloc(base->n * o->k * sizeof *g->dist);
    if (!g->ids || !g->dist) return cli_fail(cli, NULL, "out of memory");
    double wall = clock_of(CLOCK_MONOTONIC), cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    if (kith_knng(base->x, base->n, base->dim, o->k, &options, &cli->run, g->ids, g->dist, &g->result,
                  &err) != KITH_OK)
        return cli_fail_error(cli, cli->args[0], &err);
    g->wall = clock_of(CLOCK_MONOTONIC) - wall;
    g->cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    return CLI_OK;
}

/* The share of the true neighbours that are listed, of one row; a neighbour counts that is as near as the true k-th. */
static double recall_of(const struct options *o, const graph *g, size_t row, const uint64_t *ids,
                        const float *dist)
{
    size_t right = 0, others = 0;
    float worst = 0;
    for (size_t i = 0; i < o->k + 1 && ids[i] != KITH_NO_ID && others < o->k; i++)
        if (ids[i] != row) {
            others++;
            worst = dist[i];
        }
    for (size_t i = 0; i < others; i++)
        right +=
            g->ids[row * o->k + i] != KITH_NO_ID && g->dist[row * o->k + i] <= worst + 1e-6f * fabsf(worst);
    return others > 0 ? (double)right / (double)others : 1;
}

/* Compare some rows, at equal distances, with all. */
static int check(cli_context *cli, const struct options *o, kith_metric metric, const cli_vectors *base,
                 graph *g)
{
    kith_error err;
    size_t n = o->check < base->n ? o->check : base->n, k = o->k + 1;
    kith_index *flat = NULL;
    kith_searcher *searcher = NULL;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    kith_search_options search;
    kith_search_options_init(&search);
    search.pool = cli->run.pool;
    search.cancel = cli->run.cancel;
    uint64_t *ids = malloc(k * sizeof *ids);
    float *dist = malloc(k * sizeof *dist);
    int status = ids && dist ? CLI_OK : cli_fail(cli, NULL, "out of memory");
    if (status == CLI_OK && (kith_index_create("Flat", base->dim, &options, &flat, &err) != KITH_OK ||
                             cli_index_add(flat, base, &cli->run, &err) != KITH_OK ||
                             kith_searcher_create(flat, &searcher, &err) != KITH_OK))
        status = cli_fail_error(cli, cli->args[0], &err);
    g->recall = 0;
    for (size_t i = 0; status == CLI_OK && i < n; i++) {
        size_t row = (size_t)((double)i * (double)base->n / (double)n);
        if (cli_search(searcher, base, row, 1, k, &search, ids, dist, NULL, &err) != KITH_OK)
            status = cli_fail_error(cli, cli->args[0], &err);
        else if (cli_cancelled(cli))
            status = cli_fail(cli, NULL, "interrupted");
        else
            g->recall += recall_of(o, g, row, ids, dist) / (double)n;
        if (cli->run.progress) cli->run.progress(cli->run.progress_ctx, "checking", i + 1, n);
    }
    kith_searcher_free(searcher);
    kith_index_free(flat);
    free(ids);
    free(dist);
    return status;
}

static int report(cli_context *cli, const struct options *o, const cli_vectors *base, const graph *g)
{
    if (cli->json)
        return cli_json_line(cli, json_pack("{s:o, s:I, s:I, s:I, s:s, s:I, s:o, s:o, s:o}", "file",
                                            cli_json_text(o->output), "n", (json_int_t)base->n, "dim",
                                            (json_int_t)base->dim, "k", (json_int_t)o->k, "metric", o->metric,
                                            "rounds", (json_int_t)g->result.rounds, "seconds",
                                            cli_json_number(g->wall), "cpu_seconds", cli_json_number(g->cpu),
                                            "recall", cli_json_number(g->recall)));
    printf("%s: %s of %s of %zu, %s, %s, in %.2f s (%.2f s of processor time)\n", o->output,
           cli_counted(o->k, "neighbour"), cli_counted(base->n, "row"), base->dim, o->metric,
           cli_counted(g->result.rounds, "round"), g->wall, g->cpu);
    if (!isnan(g->recall)) printf("recall@%llu %.4f\n", (unsigned long long)o->k, g->recall);
    return cli_flush(cli);
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_metric metric;
    kith_error err;
    if (!o->output) return cli_usage(cli, "--output", "missing: the .ivecs file to write");
    if (kith_metric_parse(o->metric, &metric, &err) != KITH_OK)
        return cli_usage(cli, "--metric", "%s", err.message);
    if (metric == KITH_HAMMING) return cli_usage(cli, "--metric", "hamming is not for graphs of neighbours");
    int status = cli_output_check(cli, o->output);
    if (status != CLI_OK) return status;
    cli_vectors base = {0};
    graph g = {.recall = NAN};
    status = cli_vectors_load(cli, cli->args[0], CLI_ROLE_BASE, metric, o->limit, &base);
    if (status == CLI_OK && o->k >= base.n)
        status = cli_fail(cli, "-k", "%llu, and %s has %zu rows: each has fewer neighbours",
                          (unsigned long long)o->k, cli->args[0], base.n);
    if (status == CLI_OK) status = make(cli, o, metric, &base, &g);
    if (status == CLI_OK) status = cli_ids_save(cli, o->output, g.ids, base.n, o->k);
    if (status == CLI_OK && o->check > 0) status = check(cli, o, metric, &base, &g);
    if (status == CLI_OK) status = report(cli, o, &base, &g);
    free(g.ids);
    free(g.dist);
    cli_vectors_clear(&base);
    return status;
}

const cli_verb verb_knng = {
    .name = "knng",
    .group = CLI_VECTORS,
    .summary = "find the neighbours of every row among the others",
    .description =
        "Writes, for each vector of BASE, the positions (from 0) of the K other vectors nearest to it, "
        "nearest "
        "first: the k-nearest-neighbour graph. It is nearly exact (NN-descent of Dong et al. 2011, begun "
        "from random trees) at a small part of the comparisons; --check measures how nearly. The same "
        "file comes out whatever the number of threads.",
    .arguments =
        (const cli_argument[]){{.name = "BASE", .help = "the vectors, in any format that kith reads"}, {0}},
    .options =
        (const cli_option[]){CLI_OPTION_OUTPUT("the .ivecs file to write"),
                             CLI_OPTION_NEIGHBOURS("20", KITH_KNNG_MAX_K, "how many neighbours of each row"),
                             {.name = "metric",
                              .letter = 'm',
                              .kind = CLI_TEXT,
                              .argument = "METRIC",
                              .fallback = "l2",
                              .choices = "l2|dot|cosine|l1",
                              .into = offsetof(struct options, metric),
                              .help = "the distance"},
                             {.name = "trees",
                              .kind = CLI_COUNT,
                              .argument = "N",
                              .fallback = "4",
                              .low = 1,
                              .high = 256,
                              .into = offsetof(struct options, trees),
                              .help = "random partitions to begin with; more is slower and better"},
                             {.name = "rounds",
                              .kind = CLI_COUNT,
                              .argument = "N",
                              .fallback = "10",
                              .high = 100,
                              .into = offsetof(struct options, rounds),
                              .help = "of comparing neighbours of neighbours, at most"},
                             {.name = "check",
                              .kind = CLI_COUNT,
                              .argument = "N",
                              .fallback = "0",
                              .into = offsetof(struct options, check),
                              .help = "compare N rows with all others and tell the recall"},
                             CLI_OPTION_SEED("of the random partitions"),
                             CLI_OPTION_LIMIT,
                             {0}},
    .common = CLI_JSON | CLI_THREADS,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith knng base.fvecs -k 20 -o neighbours.ivecs", "the 20 nearest rows of each row"},
            {"kith knng base.npy -k 10 -o neighbours.ivecs --metric cosine --threads 4 --check 1000",
             "by cosine, with four threads; how many are right, measured on 1,000 rows"},
            {0}},
    .run = run,
};
