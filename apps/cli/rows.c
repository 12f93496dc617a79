/* rows.c - opening a collection, keys, and rows as JSON. */
#include "rows.h"

#include <inttypes.h>

int rows_open(cli_context *cli, bool read_only, kith_collection **collection)
{
    kith_error err;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.read_only = read_only;
    if (cli->verb->common & CLI_WAIT) options.wait_ms = cli->wait_ms;
    if (kith_collection_open(cli->args[0], &options, collection, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    return CLI_OK;
}

int rows_key_check(cli_context *cli, const char *what, const char *text)
{
    uint64_t value;
    if (text[0] == '=' && text[1]) return CLI_OK;
    if (!cli_parse_count(text, &value) || value < 1 || value > INT64_MAX)
        return cli_usage(cli, what, "'%s' is not a key, a whole number from 1 on or =TEXT", text);
    return CLI_OK;
}

int rows_key(cli_context *cli, kith_collection *collection, const char *what, const char *text, int64_t *key)
{
    kith_error err;
    uint64_t value = 0;
    int status = rows_key_check(cli, what, text);
    if (status != CLI_OK) return status;
    if (text[0] != '=') {
        (void)cli_parse_count(text, &value);
        *key = (int64_t)value;
        return CLI_OK;
    }
    if (kith_collection_key_of(collection, text + 1, key, &err) == KITH_OK) return CLI_OK;
    return cli_fail_message(cli, cli->args[0], &err);
}

void rows_filter_hint(cli_context *cli, kith_collection *collection, const char *filter)
{
    char hint[400];
    if (!filter || cli->quiet) return;
    if (kith_collection_filter_hint(collection, filter, hint, sizeof hint, NULL) == KITH_OK && *hint)
        cli_note(cli, "--filter: %s", hint);
}

json_t *rows_add_text(kith_collection *collection, int64_t key, json_t *object)
{
    const char *text = NULL;
    if (object && kith_collection_text_of(collection, key, &text, NULL) == KITH_OK &&
        (!text || json_object_set_new(object, "text", cli_json_text(text)) == 0))
        return object;
    json_decref(object);
    return NULL;
}

json_t *rows_json(const kith_row *row)
{
    json_t *payload = json_loadb(row->payload, row->payload_size, 0, NULL);
    json_t *object = json_pack("{sI so}", "key", (json_int_t)row->key, "payload", payload);
    if (!object || !row->vector) return object;
    json_t *vector = json_array();
    int failed = json_object_set_new(object, "vector", vector);
    for (size_t d = 0; d < row->dim && !failed; d++)
        failed = json_array_append_new(vector, cli_json_float(row->vector[d]));
    if (!failed) return object;
    json_decref(object);
    return NULL;
}
