/* verb_fields.c - `kith fields`: which members of the payloads are declared, and declaring them. */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

#include <kith/fusion.h>

struct options {
    cli_list add, drop, add_vectors, drop_vectors;
};

/* NAME:KIND; the name may hold colons. */
static int add_field(cli_context *cli, kith_collection *collection, const char *text)
{
    kith_error err;
    kith_field_kind kind;
    char name[KITH_COLLECTION_MAX_FIELD_NAME + 1];
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text) return cli_usage(cli, "--add", "'%s' is not of the form NAME:KIND", text);
    size_t size = (size_t)(colon - text);
    if (size >= sizeof name) return cli_usage(cli, "--add", "a name of more than %zu bytes", sizeof name - 1);
    memcpy(name, text, size);
    name[size] = 0;
    if (kith_field_kind_parse(colon + 1, &kind, &err) != KITH_OK)
        return cli_usage(cli, "--add", "%s", err.message);
    if (kith_collection_field_add(collection, name, kind, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    return CLI_OK;
}

/* NAME:DIM[:METRIC[:SPEC]] */
static int add_vector_field(cli_context *cli, kith_collection *collection, const char *text)
{
    kith_error err;
    uint64_t dim = 0;
    kith_metric metric = kith_collection_metric(collection);
    char *copy = strdup(text), *part[4] = {copy, NULL, NULL, NULL};
    if (!copy) return cli_fail(cli, NULL, "out of memory");
    for (size_t i = 1; i < 4 && part[i - 1]; i++) {
        part[i] = strchr(part[i - 1], ':');
        if (part[i]) *part[i]++ = 0;
    }
    int status = CLI_OK;
    if (!part[1] || !cli_parse_count(part[1], &dim))
        status = cli_usage(cli, "--add-vectors", "'%s' is not of the form NAME:DIM[:METRIC[:SPEC]]", text);
    else if (part[2] && kith_metric_parse(part[2], &metric, &err) != KITH_OK)
        status = cli_usage(cli, "--add-vectors", "%s", err.message);
    else if (kith_collection_vector_field_add(collection, part[0], (size_t)dim, metric, part[3], &err) !=
             KITH_OK)
        status = cli_fail_message(cli, cli->args[0], &err);
    free(copy);
    return status;
}

/* All of them or, on any failure, none. */
static int change(cli_context *cli, kith_collection *collection, const struct options *o)
{
    kith_error err;
    int status = CLI_OK;
    if (kith_collection_begin(collection, &err) != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    for (size_t i = 0; i < o->drop.n && status == CLI_OK; i++)
        if (kith_collection_field_drop(collection, o->drop.items[i], &err) != KITH_OK)
            status = cli_fail_message(cli, cli->args[0], &err);
    for (size_t i = 0; i < o->add.n && status == CLI_OK; i++)
        status = add_field(cli, collection, o->add.items[i]);
    for (size_t i = 0; i < o->drop_vectors.n && status == CLI_OK; i++)
        if (kith_collection_vector_field_drop(collection, o->drop_vectors.items[i], &err) != KITH_OK)
            status = cli_fail_message(cli, cli->args[0], &err);
    for (size_t i = 0; i < o->add_vectors.n && status == CLI_OK; i++)
        status = add_vector_field(cli, collection, o->add_vectors.items[i]);
    if (status == CLI_OK && kith_collection_commit(collection, &err) != KITH_OK)
        status = cli_fail_message(cli, cli->args[0], &err);
    return status;
}

static int show_vector_fields(cli_context *cli, kith_collection *collection)
{
    static const char *const headings[] = {"vector field", ">dim", "metric", "index", ">vectors"};
    kith_vector_field fields[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n = KITH_COLLECTION_MAX_VECTOR_FIELDS;
    kith_error err;
    cli_table table;
    if (kith_collection_vector_fields(collection, fields, &n, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    for (size_t i = 0; cli->json && i < n; i++) {
        const char *spec = fields[i].spec[0] ? fields[i].spec : "auto";
        int status = cli_json_line(
            cli, json_pack("{so sI ss ss sI}", "vector_field", cli_json_text(fields[i].name), "dim",
                           (json_int_t)fields[i].dim, "metric", kith_metric_name(fields[i].metric), "spec",
                           spec, "vectors", (json_int_t)fields[i].vectors));
        if (status != CLI_OK) return status;
    }
    if (cli->json || n == 0) return cli_flush(cli);
    cli_table_init(&table, headings, 5);
    for (size_t i = 0; i < n; i++) {
        cli_table_cell(&table, "%s", fields[i].name);
        cli_table_cell(&table, "%zu", fields[i].dim);
        cli_table_cell(&table, "%s", kith_metric_name(fields[i].metric));
        cli_table_cell(&table, "%s", fields[i].spec[0] ? fields[i].spec : "auto");
        cli_table_cell(&table, "%s", cli_thousands(fields[i].vectors));
    }
    return cli_table_print(cli, &table);
}

static int show(cli_context *cli, kith_collection *collection)
{
    static const char *const headings[] = {"field", "kind"};
    kith_field fields[KITH_COLLECTION_MAX_FIELDS];
    size_t n = KITH_COLLECTION_MAX_FIELDS;
    kith_error err;
    cli_table table;
    if (kith_collection_fields(collection, fields, &n, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    for (size_t i = 0; cli->json && i < n; i++) {
        int status = cli_json_line(cli, json_pack("{so ss}", "field", cli_json_text(fields[i].name), "kind",
                                                  kith_field_kind_name(fields[i].kind)));
        if (status != CLI_OK) return status;
    }
    if (cli->json || n == 0) return cli_flush(cli);
    cli_table_init(&table, headings, 2);
    for (size_t i = 0; i < n; i++) {
        cli_table_cell(&table, "%s", fields[i].name);
        cli_table_cell(&table, "%s", kith_field_kind_name(fields[i].kind));
    }
    return cli_table_print(cli, &table);
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_collection *collection;
    int changes = o->add.n + o->drop.n + o->add_vectors.n + o->drop_vectors.n > 0,
        status = rows_open(cli, !changes, &collection);
    if (status != CLI_OK) return status;
    if (changes) status = change(cli, collection, o);
    if (status == CLI_OK) status = show(cli, collection);
    if (status == CLI_OK) status = show_vector_fields(cli, collection);
    kith_collection_close(collection);
    return status;
}

const cli_verb verb_fields = {
    .name = "fields",
    .group = CLI_ROWS,
    .summary = "declare members of the payloads, so that filters over them are fast",
    .description =
        "Prints the declared fields of COLLECTION. A declared field is a member of the payloads that is of "
        "one "
        "kind: int, float, text, bool, time (RFC 3339, or seconds since 1970) or geo "
        "({\"lat\":..,\"lon\":..}). "
        "Rows where it is something else are refused from then on; missing or null is allowed. Its values "
        "are "
        "kept sorted, so that a filter over declared fields need not read the payloads.\n\n"
        "A vector field holds another vector of each row (of its title, say), with a dim, a metric and an "
        "index "
        "of its own: `kith import --also NAME=FILE` fills it, `kith search --field NAME` searches it, alone "
        "or "
        "with others.\n\n"
        "Declare fields after a large import, not before: each costs a microsecond or two for every row put.",
    .arguments = (const cli_argument[]){ROWS_ARGUMENT_COLLECTION, {0}},
    .options =
        (const cli_option[]){{.name = "add",
                              .kind = CLI_LIST,
                              .argument = "NAME:KIND",
                              .into = offsetof(struct options, add),
                              .help = "declare a field; may be given more than once"},
                             {.name = "drop",
                              .kind = CLI_LIST,
                              .argument = "NAME",
                              .into = offsetof(struct options, drop),
                              .help = "take the declaration of a field back; its values stay"},
                             {.name = "add-vectors",
                              .kind = CLI_LIST,
                              .argument = "NAME:DIM[:METRIC[:SPEC]]",
                              .into = offsetof(struct options, add_vectors),
                              .help =
                                  "declare a vector field beside the vectors of the rows; SPEC is that of "
                                  "its index, auto without one"},
                             {.name = "drop-vectors",
                              .kind = CLI_LIST,
                              .argument = "NAME",
                              .into = offsetof(struct options, drop_vectors),
                              .help = "take a vector field and its vectors away"},
                             {0}},
    .common = CLI_JSON | CLI_WAIT,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith fields X.kith --add year:int --add at:time", "two more"},
                                      {"kith fields X.kith", "which there are"},
                                      {0}},
    .run = run,
};
