/* rows.c - opening a collection, keys, and rows as JSON. */
#include "rows.h"

#include <inttypes.h>

int rows_open(cli_context *cli, bool read_only, kith_collection **collection)
{
    kith_error err;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.read_only = read_only;
    if (kith_collection_open(cli->args[0], &options, collection, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    return CLI_OK;
}

int rows_key(cli_context *cli, const char *what, const char *text, int64_t *key)
{
    uint64_t value;
    if (!cli_parse_count(text, &value) || value < 1 || value > INT64_MAX)
        return cli_usage(cli, what, "'%s' is not a key, a whole number from 1 on", text);
    *key = (int64_t)value;
    return CLI_OK;
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
