/* milvus_partitions.c - /partitions/...: the engine's own, and "_default", which has the rows that are in none. */
#include <stdlib.h>
#include <string.h>

#include "milvus_call.h"

static kith_partition *partitions(mv_call *c, size_t *n)
{
    size_t room = 0;
    kith_partition *list = NULL;
    kith_status status = kith_collection_pin(c->collection, &c->err); /* both calls see one state */
    if (status == KITH_OK) status = kith_collection_partitions(c->collection, NULL, &room, &c->err);
    if (status == KITH_OK && !(list = calloc(room + 1, sizeof *list))) status = c->err.code = KITH_NOMEM;
    *n = room;
    if (status == KITH_OK) status = kith_collection_partitions(c->collection, list, n, &c->err);
    kith_collection_unpin(c->collection);
    if (status == KITH_OK) return list;
    free(list);
    mv_fail_engine(c);
    return NULL;
}

json_t *mv_partitions_list(mv_call *c)
{
    size_t n;
    kith_partition *list = mv_use(c, LOAN_READ) ? partitions(c, &n) : NULL;
    if (!list) return NULL;
    json_t *names = json_pack("[s]", "_default");
    for (size_t i = 0; i < n; i++) json_array_append_new(names, json_string(list[i].name));
    free(list);
    return names;
}

json_t *mv_partitions_has(mv_call *c)
{
    int has;
    const char *name = mv_text(c, "partitionName");
    if (!name || !mv_use(c, LOAN_READ) || !mv_has_partition(c, name, &has)) return NULL;
    return json_pack("{sb}", "has", has);
}

/* The partition that the body names, which must be there. NULL: failed. */
static const char *named(mv_call *c)
{
    int has;
    const char *name = mv_text(c, "partitionName");
    if (!name || !mv_has_partition(c, name, &has)) return NULL;
    if (!has) mv_fail(c, MV_PARTITION_NOT_FOUND, "partition not found[partition=%.200s]", name);
    return has ? name : NULL;
}

json_t *mv_partitions_get_stats(mv_call *c)
{
    uint64_t rows;
    size_t size;
    char *filter = NULL;
    const char *name = mv_use(c, LOAN_READ) ? named(c) : NULL;
    FILE *out = name ? open_memstream(&filter, &size) : NULL;
    if (!out) return c->code == MV_OK ? mv_fail(c, MV_OVERLOADED, "out of memory") : NULL;
    if (strcmp(name, "_default") == 0)
        fputs("$partition is null", out);
    else
        fprintf(out, "$partition == \"%s\"", name);
    fclose(out);
    kith_status status = kith_collection_count_where(c->collection, filter, &rows, &c->err);
    free(filter);
    return status == KITH_OK ? json_pack("{sI}", "rowCount", (json_int_t)rows) : mv_fail_engine(c);
}

json_t *mv_partitions_create(mv_call *c)
{
    const char *name = mv_text(c, "partitionName");
    if (!name || !mv_begin(c)) return NULL;
    if (strcmp(name, "_default") == 0) return json_object();
    kith_status status = kith_collection_partition_add(c->collection, name, &c->err);
    if (status == KITH_OK) return mv_commit(c);
    return status == KITH_EXISTS ? json_object() : mv_fail_engine(c); /* as Milvus: it is there */
}

json_t *mv_partitions_drop(mv_call *c)
{
    const char *name = mv_text(c, "partitionName");
    if (!name || !mv_begin(c)) return NULL;
    if (strcmp(name, "_default") == 0)
        return mv_fail(c, MV_PARAMETER_INVALID, "default partition cannot be deleted");
    kith_status status = kith_collection_partition_drop(c->collection, name, NULL, &c->err);
    if (status == KITH_OK) return mv_commit(c);
    return status == KITH_NOTFOUND ? json_object() : mv_fail_engine(c);
}

/* Partitions need not be loaded: that they exist is all there is to say. */
json_t *mv_partitions_load(mv_call *c)
{
    json_t *names;
    if (!mv_use(c, LOAN_READ) || !mv_partitions(c, c->body, &names)) return NULL;
    size_t n = json_array_size(names);
    json_decref(names);
    return n > 0 ? json_object()
                 : mv_fail(c, MV_PARAMETER_MISSING, "missing required parameters, error: partitionNames");
}
