/* milvus_entities.c - /entities/...: rows in, out, and away. Searches are in milvus_search.c. */
#include <stdlib.h>
#include <string.h>

#include "milvus_call.h"

/* ---- Insert, upsert ---- */

/* The partition that rows go into: a name, NULL for "_default". 0: failed. */
static int target_partition(mv_call *c, const char **partition)
{
    json_t *names;
    if (!mv_partitions(c, c->body, &names)) return 0;
    json_decref(names);
    *partition = json_string_value(json_object_get(c->body, "partitionName"));
    if (*partition && (!**partition || strcmp(*partition, "_default") == 0)) *partition = NULL;
    return 1;
}

static int put_rows(mv_call *c, json_t *rows, int is_new, json_t *ids)
{
    const char *partition;
    if (!target_partition(c, &partition)) return 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *id = NULL;
        int good = mv_put_row(c, json_array_get(rows, i), partition, is_new, &id);
        if (good)
            json_array_append_new(ids, json_is_integer(id) ? mv_int64_json(c, json_integer_value(id))
                                                           : json_incref(id));
        json_decref(id);
        if (!good) return 0;
    }
    return !c->schema.auto_id || c->schema.foreign || mv_schema_save(c); /* the next id */
}

/* All of them or none. */
static json_t *put(mv_call *c, int is_new, const char *count, const char *name)
{
    json_t *rows = json_object_get(c->body, "data");
    json_t *one = json_is_object(rows) ? json_pack("[O]", rows) : json_incref(rows);
    json_t *ids = json_array(), *done = NULL;
    size_t most = c->server->options.max_batch;
    if (json_array_size(one) == 0)
        mv_fail(c, MV_PARAMETER_MISSING, "missing required parameters, error: data must be an array of rows");
    else if (json_array_size(one) > most)
        mv_fail(c, MV_PARAMETER_INVALID, "data has %zu rows, at most %zu (--max-batch)", json_array_size(one),
                most);
    else if (mv_begin(c) && put_rows(c, one, is_new, ids))
        done = mv_commit(c);
    if (done) {
        json_object_set_new(done, count, json_integer((json_int_t)json_array_size(ids)));
        json_object_set(done, name, ids);
    }
    json_decref(ids);
    json_decref(one);
    return done;
}

json_t *mv_entities_insert(mv_call *c)
{
    return put(c, 1, "insertCount", "insertIds");
}

json_t *mv_entities_upsert(mv_call *c)
{
    return put(c, 0, "upsertCount", "upsertIds");
}

/* ---- Get ---- */

/* Whether a row is in one of the partitions; an empty list: in any. 0: not, or failed. */
static int is_in(mv_call *c, int64_t key, const json_t *partitions)
{
    const char *name;
    if (json_array_size(partitions) == 0) return 1;
    if (kith_collection_get_partition(c->collection, key, &name, &c->err) != KITH_OK) {
        mv_fail_engine(c);
        return 0;
    }
    if (!name) name = "_default";
    for (size_t i = 0; i < json_array_size(partitions); i++)
        if (strcmp(name, json_string_value(json_array_get(partitions, i))) == 0) return 1;
    return 0;
}

static json_t *rows_of_ids(mv_call *c, const json_t *ids, const json_t *partitions,
                           const mv_selection *selection)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < json_array_size(ids) && c->code == MV_OK; i++) {
        int64_t key;
        if (!mv_key_of_id(c, json_array_get(ids, i), &key) || key == 0 || !is_in(c, key, partitions))
            continue;
        json_t *row = mv_row(c, key, selection);
        if (row && !mv_show(c, rows, row)) break;
    }
    if (c->code == MV_OK) return rows;
    json_decref(rows);
    return NULL;
}

/* Pin the collection, so that what follows sees one state; it is unpinned when it is given back. */
static int pin(mv_call *c)
{
    if (kith_collection_pin(c->collection, &c->err) == KITH_OK) return 1;
    mv_fail_engine(c);
    return 0;
}

json_t *mv_entities_get(mv_call *c)
{
    mv_selection selection;
    json_t *partitions, *given = json_object_get(c->body, "id");
    if (!given) return mv_fail(c, MV_PARAMETER_MISSING, "missing required parameters, error: id");
    if (!mv_use(c, LOAN_READ) || !pin(c) || !mv_partitions(c, c->body, &partitions)) return NULL;
    json_t *ids = json_is_array(given) ? json_incref(given) : json_pack("[O]", given), *rows = NULL;
    if (mv_select(c, json_object_get(c->body, "outputFields"), 1, &selection))
        rows = rows_of_ids(c, ids, partitions, &selection);
    json_decref(ids);
    json_decref(partitions);
    return rows;
}

/* ---- Query ---- */

static int is_count(const json_t *names)
{
    const char *only = json_array_size(names) == 1 ? json_string_value(json_array_get(names, 0)) : NULL;
    return only && strcmp(only, "count(*)") == 0;
}

static json_t *count_rows(mv_call *c, const char *filter)
{
    uint64_t rows;
    if (kith_collection_count_where(c->collection, filter ? filter : "$key > 0", &rows, &c->err) != KITH_OK)
        return mv_fail_engine(c);
    return json_pack("[{so}]", "count(*)", mv_int64_json(c, (int64_t)rows));
}

static kith_status next_row(mv_call *c, const char *filter, kith_row *row)
{
    return filter ? kith_collection_next_where(c->collection, filter, row->key, 0, row, &c->err)
                  : kith_collection_next(c->collection, row->key, 0, row, &c->err);
}

/* In the order in which the rows came. */
static json_t *visit(mv_call *c, const char *filter, size_t offset, size_t limit,
                     const mv_selection *selection)
{
    json_t *rows = json_array();
    kith_row row = {0};
    for (size_t i = 0; json_array_size(rows) < limit; i++) {
        if (next_row(c, filter, &row) != KITH_OK) mv_fail_engine(c);
        if (c->code != MV_OK || row.key == 0) break;
        json_t *one = i >= offset ? mv_row(c, row.key, selection) : NULL;
        if (one && !mv_show(c, rows, one)) break;
    }
    if (c->code == MV_OK) return rows;
    json_decref(rows);
    return NULL;
}

json_t *mv_entities_query(mv_call *c)
{
    size_t limit, offset;
    char *filter = NULL;
    mv_selection selection;
    json_t *partitions = NULL, *rows = NULL, *names = json_object_get(c->body, "outputFields");
    if (!mv_count(c, c->body, "limit", 1, MV_MAX_LIMIT, 100, &limit) ||
        !mv_count(c, c->body, "offset", 0, MV_MAX_LIMIT, 0, &offset) || !mv_use(c, LOAN_READ) || !pin(c) ||
        !mv_partitions(c, c->body, &partitions))
        return NULL;
    if (mv_filter(c, c->body, partitions, &filter)) {
        if (is_count(names))
            rows = count_rows(c, filter);
        else if (mv_select(c, names, 1, &selection))
            rows = visit(c, filter, offset, limit, &selection);
    }
    free(filter);
    json_decref(partitions);
    return rows;
}

/* ---- Delete ---- */

json_t *mv_entities_delete(mv_call *c)
{
    char *filter = NULL;
    json_t *partitions, *done = NULL;
    const char *given = mv_text(c, "filter");
    if (given && given[strspn(given, " \t\r\n")] == 0) /* it would be all of a partition */
        return mv_fail(c, MV_PARAMETER_INVALID, "filter: there is no condition in it");
    if (!given || !mv_begin(c) || !mv_partitions(c, c->body, &partitions)) return NULL;
    if (mv_filter(c, c->body, partitions, &filter)) {
        if (kith_collection_delete_where(c->collection, filter, NULL, &c->err) == KITH_OK)
            done = mv_commit(c);
        else
            mv_fail_engine(c);
    }
    free(filter);
    json_decref(partitions);
    return done;
}
