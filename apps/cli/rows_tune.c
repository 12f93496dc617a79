/* rows_tune.c - `kith tune X.kith`: the parameters of a collection's searches, for a recall. */
#include "rows.h"

static json_t *tuning_json(cli_context *cli, const kith_collection_tuning *t)
{
    return json_pack("{so so so ss so so so sI}", "collection", cli_json_text(cli->args[0]), "target_recall",
                     cli_json_number(t->target_recall), "recall", cli_json_number(t->recall), "param",
                     t->param, "value", cli_json_number(t->value), "refine_k", cli_json_number(t->refine_k),
                     "ms", cli_json_number(t->seconds * 1e3), "points", (json_int_t)t->points);
}

int rows_tune(cli_context *cli, double target, size_t k, size_t queries, uint64_t seed, const char *field)
{
    kith_error err;
    kith_collection *collection;
    kith_collection_tuning tuning = {.struct_size = sizeof tuning};
    kith_collection_tune_options options;
    kith_collection_tune_options_init(&options);
    options.target_recall = target;
    options.k = k;
    options.queries = queries;
    options.seed = seed;
    options.field = field;
    options.run = &cli->run;
    int status = rows_open(cli, false, &collection);
    if (status != CLI_OK) return status;
    kith_status tuned = kith_collection_tune(collection, &options, &tuning, &err);
    kith_collection_close(collection);
    if (tuned != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    if (tuning.recall < target)
        cli_note(cli, "no parameters reach %g: the best measured is %.4f", target, tuning.recall);
    if (cli->json) return cli_json_line(cli, tuning_json(cli, &tuning));
    cli_progress_clear(cli);
    if (!tuning.param[0])
        printf("there is no index, so every search is exact and reaches any recall; tune again when one has "
               "been "
               "built (kith import --fold)\n");
    else
        printf("%s %g, refine_k %g: recall@%zu %.4f at least, %.3f ms a search; %zu points kept\n",
               tuning.param, tuning.value, tuning.refine_k, k, tuning.recall, tuning.seconds * 1e3,
               tuning.points);
    return cli_flush(cli);
}
