/* verb_gt.c - `kith gt`: the exact neighbours of a file of queries. */
#include "cli_options.h"

#include <stdlib.h>

struct options {
    const char *output, *metric;
    uint64_t k, limit;
};

static int find(cli_context *cli, const struct options *o, kith_metric metric, const cli_vectors *base,
                const cli_vectors *queries)
{
    uint64_t *ids = calloc(queries->n * o->k, sizeof *ids);
    int status =
        ids ? cli_neighbours(cli, metric, base, queries, o->k, ids) : cli_fail(cli, NULL, "out of memory");
    if (status == CLI_OK) status = cli_ids_save(cli, o->output, ids, queries->n, o->k);
    free(ids);
    return status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_metric metric;
    kith_error err;
    if (!o->output) return cli_usage(cli, "--output", "missing: the .ivecs file to write");
    if (kith_metric_parse(o->metric, &metric, &err) != KITH_OK)
        return cli_usage(cli, "--metric", "%s", err.message);
    int status = cli_output_check(cli, o->output);
    if (status != CLI_OK) return status;
    cli_vectors base = {0}, queries = {0};
    status = cli_vectors_load(cli, cli->args[0], CLI_ROLE_BASE, metric, o->limit, &base);
    if (status == CLI_OK) status = cli_vectors_load(cli, cli->args[1], CLI_ROLE_QUERIES, metric, 0, &queries);
    if (status == CLI_OK && base.dim != queries.dim)
        status = cli_fail(cli, cli->args[1], "has %zu dimensions, %s has %zu", queries.dim, cli->args[0],
                          base.dim);
    if (status == CLI_OK && o->k > base.n)
        status = cli_fail(cli, "-k", "%llu is more than the %zu rows of %s", (unsigned long long)o->k, base.n,
                          cli->args[0]);
    if (status == CLI_OK) status = find(cli, o, metric, &base, &queries);
    cli_vectors_clear(&base);
    cli_vectors_clear(&queries);
    return status;
}

const cli_verb verb_gt = {
    .name = "gt",
    .group = CLI_VECTORS,
    .summary = "find the exact neighbours of queries, by comparing all",
    .description = "Writes, for each vector of QUERIES, the positions in BASE (from 0) of its K nearest "
                   "vectors, nearest "
                   "first, ties by the smaller position: the ground truth that recall is measured by. With "
                   "--metric hamming each component of the files is a byte of 8 bits.",
    .arguments = (const cli_argument[]){{.name = "BASE",
                                         .help = "the vectors to search, in any format that kith reads"},
                                        {.name = "QUERIES", .help = "the vectors to search for"},
                                        {0}},
    .options = (const cli_option[]){CLI_OPTION_OUTPUT("the .ivecs file to write"),
                                    CLI_OPTION_NEIGHBOURS("100", 65536, "how many neighbours of each query"),
                                    CLI_OPTION_METRIC,
                                    CLI_OPTION_LIMIT,
                                    {0}},
    .common = CLI_THREADS,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith gt base.fvecs query.fvecs -k 100 -o gt.ivecs", "the 100 nearest of each query"}, {0}},
    .run = run,
};
