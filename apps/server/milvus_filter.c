/* milvus_filter.c - filters of clients, which are the engine's own language but for names that only Milvus knows.
 *
 * What is changed outside strings: {name} becomes the value of exprParams.name as JSON, $meta becomes $, and in a
 * collection that was not made here "id" becomes $key. Partitions become a condition on $partition. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milvus_call.h"

static int is_name(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* The length of the string literal at `at`, quotes included. */
static size_t literal(const char *at)
{
    size_t n = 1;
    while (at[n] && at[n] != at[0]) n += at[n] == '\\' && at[n + 1] ? 2 : 1;
    return at[n] ? n + 1 : n;
}

/* {name}: its value. The bytes taken, 0: failed. */
static size_t fill_in(mv_call *c, const char *at, const json_t *values, FILE *out)
{
    char name[256];
    size_t n = strcspn(at + 1, "}");
    if (at[n + 1] != '}' || n >= sizeof name) {
        mv_fail(c, MV_PARAMETER_INVALID, "filter: a { without its }");
        return 0;
    }
    memcpy(name, at + 1, n);
    name[n] = 0;
    const json_t *value = json_object_get(values, name);
    char *words = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    if (words)
        fputs(words, out);
    else
        mv_fail(c, MV_PARAMETER_INVALID, "filter: exprParams has no value for {%s}", name);
    free(words);
    return words ? n + 2 : 0;
}

/* A name, or a piece of a path. The bytes taken. */
static size_t rename_one(const mv_call *c, const char *at, const char *before, FILE *out)
{
    size_t n = 1;
    while (is_name(at[n])) n++;
    int whole = !before || (*before != '.' && *before != '$' && !is_name(*before));
    const char *key = c->schema.primary->name;
    if (n == 5 && memcmp(at, "$meta", 5) == 0)
        fputs("$", out);
    else if (c->schema.foreign && whole && n == strlen(key) && memcmp(at, key, n) == 0)
        fputs("$key", out);
    else
        fwrite(at, 1, n, out);
    return n;
}

static int translate(mv_call *c, const char *filter, const json_t *values, FILE *out)
{
    for (const char *at = filter; *at;) {
        size_t n = 1;
        if (*at == '"' || *at == '\'') {
            n = literal(at);
            fwrite(at, 1, n, out);
        } else if (*at == '{') {
            n = fill_in(c, at, values, out);
            if (n == 0) return 0;
        } else if (is_name(*at) || *at == '$') {
            n = rename_one(c, at, at > filter ? at - 1 : NULL, out);
        } else {
            fputc(*at, out);
        }
        at += n;
    }
    return 1;
}

/* Rows of these partitions; "_default" has those that are in none. */
static void add_partitions(const json_t *names, FILE *out)
{
    const char *between = "";
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (strcmp(name, "_default") == 0)
            fprintf(out, "%s$partition is null", between);
        else
            fprintf(out, "%s$partition == \"%s\"", between, name);
        between = " or ";
    }
}

/* The client's own filter in the engine's form, to be freed. It must be one by itself: "a) or (b" would be one only between the
 * parentheses that keep it inside its partitions. NULL: failed. */
static char *translated(mv_call *c, const char *filter, const json_t *values)
{
    char *words = NULL;
    size_t size;
    FILE *out = open_memstream(&words, &size);
    int good = out && translate(c, filter, values, out);
    if ((!out || fclose(out) != 0) && c->code == MV_OK) mv_fail(c, MV_OVERLOADED, "out of memory");
    if (good && c->code == MV_OK && kith_collection_filter_check(words, &c->err) != KITH_OK)
        mv_fail_engine(c);
    if (c->code == MV_OK) return words;
    free(words);
    return NULL;
}

/* Both conditions as one text, to be freed. NULL: failed. */
static char *within(mv_call *c, const char *filter, const json_t *partitions)
{
    char *words = NULL;
    size_t size;
    FILE *out = open_memstream(&words, &size);
    if (out && filter) fprintf(out, "(%s) and (", filter);
    if (out) add_partitions(partitions, out);
    if (out && filter) fputc(')', out);
    if (out && fclose(out) == 0) return words;
    free(words);
    mv_fail(c, MV_OVERLOADED, "out of memory");
    return NULL;
}

int mv_filter(mv_call *c, const json_t *object, const json_t *partitions, char **expression)
{
    const json_t *given = json_object_get(object, "filter");
    const char *filter = json_string_value(given);
    *expression = NULL;
    if (given && !json_is_null(given) && (!filter || strlen(filter) != json_string_length(given))) {
        mv_fail(c, MV_PARAMETER_INVALID, "filter must be a text");
        return 0;
    }
    if (filter && filter[strspn(filter, " \t\r\n")]) {
        *expression = translated(c, filter, json_object_get(object, "exprParams"));
        if (!*expression) return 0;
    }
    if (json_array_size(partitions) == 0) return 1;
    char *own = *expression;
    *expression = within(c, own, partitions);
    free(own);
    return *expression != NULL;
}

int mv_has_partition(mv_call *c, const char *name, int *has)
{
    size_t n = 0;
    *has = strcmp(name, "_default") == 0;
    if (*has) return 1;
    kith_status status = kith_collection_partitions(c->collection, NULL, &n, &c->err);
    kith_partition *list = status == KITH_OK ? calloc(n + 1, sizeof *list) : NULL;
    if (status == KITH_OK && !list) status = c->err.code = KITH_NOMEM;
    size_t room = n;
    if (status == KITH_OK) status = kith_collection_partitions(c->collection, list, &n, &c->err);
    for (size_t i = 0; status == KITH_OK && i < n && i < room; i++) *has |= strcmp(list[i].name, name) == 0;
    free(list);
    if (status != KITH_OK) mv_fail_engine(c);
    return status == KITH_OK;
}

int mv_partitions(mv_call *c, const json_t *object, json_t **names)
{
    json_t *one = json_object_get(object, "partitionName"), *many = json_object_get(object, "partitionNames");
    *names = json_is_array(many) ? json_deep_copy(many) : json_array();
    if (json_is_string(many)) one = many;
    if (json_is_string(one) && *json_string_value(one)) json_array_append(*names, one);
    for (size_t i = 0; i < json_array_size(*names); i++) {
        int has = 0;
        const char *name = json_string_value(json_array_get(*names, i));
        if (name && mv_has_partition(c, name, &has) && has) continue;
        if (c->code == MV_OK)
            mv_fail(c, MV_PARTITION_NOT_FOUND, "partition not found[partition=%.100s]", name ? name : "?");
        json_decref(*names);
        *names = NULL;
        return 0;
    }
    return 1;
}
