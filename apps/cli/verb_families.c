/* verb_families.c - `kith families`: what an index can be made of, from the library's own tables. */
#include "cli.h"

#include <stdlib.h>

static const char *const kinds[] = {
    [KITH_PARAM_INT] = "integer", [KITH_PARAM_FLOAT] = "number", [KITH_PARAM_BOOL] = "0 or 1"};
static const char *const whens[] = {[KITH_AT_BUILD] = "build", [KITH_AT_SEARCH] = "search"};

static json_t *param_json(const kith_param_info *p)
{
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:s}", "name", p->name, "kind", kinds[p->kind], "when",
                     whens[p->when], "low", cli_json_number(p->low), "high", cli_json_number(p->high),
                     "default", cli_json_number(p->initial), "about", p->about);
}

static json_t *params_json(const kith_param_info *params, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, param_json(&params[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static void param_cells(cli_table *table, const kith_param_info *p)
{
    cli_table_cell(table, "%s", p->name);
    cli_table_cell(table, "%s", whens[p->when]);
    cli_table_cell(table, "%.10g", p->low);
    cli_table_cell(table, "%.10g", p->high);
    cli_table_cell(table, "%.10g", p->initial);
    cli_table_cell(table, "%s", p->about);
}

static int list_families(cli_context *cli)
{
    size_t n;
    const kith_family_info *const *families = kith_families(&n);
    if (cli->json) {
        for (size_t i = 0; i < n; i++) {
            const kith_family_info *f = families[i];
            int status =
                cli_json_line(cli, json_pack("{s:s, s:s, s:o}", "pattern", f->pattern, "about", f->about,
                                             "params", params_json(f->params, f->n_params)));
            if (status != CLI_OK) return status;
        }
        return CLI_OK;
    }
    cli_table table;
    cli_table_init(&table, (const char *const[]){"PATTERN", "USE"}, 2);
    for (size_t i = 0; i < n; i++) {
        cli_table_cell(&table, "%s", families[i]->pattern);
        cli_table_cell(&table, "%s", families[i]->about);
    }
    int status = cli_table_print(cli, &table);
    if (status == CLI_OK)
        puts(
            "\nA spec joins them: [transform,]structure[,codec][,refinement]. `kith families SPEC` lists its "
            "parameters.");
    return status == CLI_OK ? cli_flush(cli) : status;
}

static int list_params(cli_context *cli, const char *spec)
{
    kith_error err;
    size_t n = 0;
    if (kith_spec_params(spec, NULL, &n, &err) != KITH_OK) return cli_fail_error(cli, spec, &err);
    kith_param_info *params = calloc(n + 1, sizeof *params);
    if (!params) return cli_fail(cli, spec, "out of memory");
    int status;
    if (kith_spec_params(spec, params, &n, &err) != KITH_OK) {
        status = cli_fail_error(cli, spec, &err);
    } else if (cli->json) {
        status = cli_json_line(cli, json_pack("{s:s, s:o}", "spec", spec, "params", params_json(params, n)));
    } else if (n == 0) {
        printf("%s has no parameters\n", spec);
        status = cli_flush(cli);
    } else {
        cli_table table;
        cli_table_init(&table,
                       (const char *const[]){"PARAMETER", "AT", ">FROM", ">TO", ">DEFAULT", "MEANING"}, 6);
        for (size_t i = 0; i < n; i++) param_cells(&table, &params[i]);
        status = cli_table_print(cli, &table);
    }
    free(params);
    return status;
}

static int run(cli_context *cli, void *options)
{
    (void)options;
    return cli->n_args ? list_params(cli, cli->args[0]) : list_families(cli);
}

const cli_verb verb_families = {
    .name = "families",
    .group = CLI_VECTORS,
    .summary = "list what an index can be made of",
    .description =
        "An index is named by a spec, such as IVF4096,PQ16,RFlat: a structure that proposes candidates, a "
        "codec "
        "that stores the vectors, and a refinement that compares the best candidates again.\n\n"
        "Without SPEC, lists all parts with a sentence on when to use each. With SPEC, lists the parameters "
        "that such an index takes: those at build go to `kith build --set`, those at search to `kith query "
        "--set`.",
    .arguments =
        (const cli_argument[]){
            {.name = "SPEC", .help = "an index's spec, quoted from the shell if need be", .optional = true},
            {0}},
    .common = CLI_JSON,
    .examples = (const cli_example[]){{"kith families", "lists all parts"},
                                      {"kith families IVF4096,PQ16",
                                       "lists the parameters of an inverted file with product quantisation"},
                                      {0}},
    .run = run,
};
