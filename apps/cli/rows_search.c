/* rows_search.c - `kith search` by vectors and by keys: the nearest rows of any collection. */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

/* What is searched by, and what was found. */
typedef struct search {
    const rows_query *q;
    kith_collection *collection;
    kith_collection_query how;
    kith_collection_plan plan;
    kith_collection_answer answer;
    float *vectors; /* [n][dim]; NULL for --like */
    size_t n, dim;
    int64_t *like;    /* [like.n + unlike.n] */
    size_t room;      /* k, or with groups k times their size */
    int64_t *keys;    /* [room] */
    float *distances; /* [room] */
} search;

/* --vector '[0.1, 2]' */
static int parse_vector(cli_context *cli, search *s)
{
    json_error_t fault;
    json_t *array = json_loads(s->q->vector, 0, &fault);
    if (!json_is_array(array) || json_array_size(array) == 0) {
        json_decref(array);
        return cli_usage(cli, "--vector", "not a JSON array of numbers, such as [0.5, 1, -2]");
    }
    s->n = 1;
    s->dim = json_array_size(array);
    s->vectors = malloc(s->dim * sizeof *s->vectors);
    int status = s->vectors ? CLI_OK : cli_fail(cli, NULL, "out of memory");
    for (size_t d = 0; d < s->dim && status == CLI_OK; d++) {
        json_t *component = json_array_get(array, d);
        if (!json_is_number(component)) status = cli_usage(cli, "--vector", "element %zu is not a number", d);
        s->vectors[d] = (float)json_number_value(component);
    }
    json_decref(array);
    return status;
}

static int load_vectors(cli_context *cli, search *s)
{
    cli_vectors loaded;
    int status = cli_vectors_load(cli, s->q->vectors, CLI_ROLE_QUERIES, KITH_L2SQ, 0, &loaded);
    if (status == CLI_OK) { /* taken over */
        s->vectors = malloc(loaded.n * loaded.dim * sizeof *s->vectors);
        if (!s->vectors) status = cli_fail(cli, NULL, "out of memory");
        if (s->vectors) memcpy(s->vectors, loaded.x, loaded.n * loaded.dim * sizeof *s->vectors);
        s->n = loaded.n;
        s->dim = loaded.dim;
    }
    cli_vectors_clear(&loaded);
    return status;
}

static int check_keys(cli_context *cli, const char *what, const cli_list *list)
{
    int status = CLI_OK;
    for (size_t i = 0; i < list->n && status == CLI_OK; i++)
        status = rows_key_check(cli, what, list->items[i]);
    return status;
}

static int take_queries(cli_context *cli, search *s)
{
    s->n = 1;
    if (s->q->like.n == 0) return s->q->vector ? parse_vector(cli, s) : load_vectors(cli, s);
    s->like = malloc((s->q->like.n + s->q->unlike.n) * sizeof *s->like);
    if (!s->like) return cli_fail(cli, NULL, "out of memory");
    int status = check_keys(cli, "--like", &s->q->like);
    return status == CLI_OK ? check_keys(cli, "--unlike", &s->q->unlike) : status;
}

/* The rows to search by, now that the collection is open. */
static int find_examples(cli_context *cli, search *s)
{
    const cli_list *like = &s->q->like, *unlike = &s->q->unlike;
    int status = CLI_OK;
    for (size_t i = 0; i < like->n && status == CLI_OK; i++)
        status = rows_key(cli, s->collection, "--like", like->items[i], &s->like[i]);
    for (size_t i = 0; i < unlike->n && status == CLI_OK; i++)
        status = rows_key(cli, s->collection, "--unlike", unlike->items[i], &s->like[like->n + i]);
    return status;
}

json_t *rows_plan_json(const kith_collection_plan *plan)
{
    double selectivity = plan->vectors ? (double)plan->matches / (double)plan->vectors : 0;
    return json_pack(
        "{ss sI sI so sb sI sI sI sI so so}", "method", plan->method, "vectors", (json_int_t)plan->vectors,
        "matches", (json_int_t)plan->matches, "selectivity", cli_json_number(selectivity), "remembered",
        plan->remembered, "rounds", (json_int_t)plan->rounds, "nprobe", (json_int_t)plan->nprobe, "cells",
        (json_int_t)plan->cells, "rows_scored", (json_int_t)plan->rows_scored, "filter_seconds",
        cli_json_number(plan->filter_seconds), "search_seconds", cli_json_number(plan->search_seconds));
}

static json_t *results_json(search *s, kith_error *err)
{
    json_t *results = json_array();
    for (size_t i = 0; results && i < s->room && s->keys[i]; i++) {
        kith_row row;
        json_t *line = NULL;
        if (kith_collection_get(s->collection, s->keys[i], KITH_ROW_PAYLOAD, &row, err) == KITH_OK)
            line = json_pack("{sI sI so so}", "rank", (json_int_t)(s->q->offset + i + 1), "key",
                             (json_int_t)row.key, "distance", cli_json_float(s->distances[i]), "payload",
                             json_loadb(row.payload, row.payload_size, 0, NULL));
        line = rows_add_text(s->collection, s->keys[i], line);
        if (line && json_array_append_new(results, line) == 0) continue;
        json_decref(results);
        results = NULL;
    }
    return results;
}

static int print_json(cli_context *cli, search *s, size_t query)
{
    kith_error err = {.code = KITH_OK};
    json_t *results = results_json(s, &err);
    if (!results && err.code != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    json_t *line = json_pack("{sI so sb}", "query", s->like ? (json_int_t)s->like[0] : (json_int_t)query,
                             "results", results, "complete", s->answer.complete);
    if (line && s->q->explain && json_object_set_new(line, "plan", rows_plan_json(&s->plan)) != 0) {
        json_decref(line);
        line = NULL;
    }
    return cli_json_line(cli, line);
}

void rows_plan_print(cli_context *cli, const kith_collection_plan *p)
{
    cli_progress_clear(cli);
    double part = p->vectors ? 100 * (double)p->matches / (double)p->vectors : 0;
    printf("plan: %s; %s of %s rows may be found (%.4g %%)%s; %s scored", p->method,
           cli_thousands(p->matches), cli_thousands(p->vectors), part,
           p->remembered ? ", known from before" : "", cli_thousands(p->rows_scored));
    if (p->cells) printf("; %zu of %zu cells, rounds: %u", p->nprobe, p->cells, p->rounds);
    printf("; filter %.2f ms, search %.2f ms\n", p->filter_seconds * 1e3, p->search_seconds * 1e3);
}

static int print_table(cli_context *cli, search *s, size_t query)
{
    static const char *const headings[] = {">rank", ">key", ">distance", "payload"};
    kith_error err;
    cli_table table;
    cli_progress_clear(cli);
    if (s->n > 1) printf("query %zu:\n", query);
    if (s->q->explain) rows_plan_print(cli, &s->plan);
    cli_table_init(&table, headings, 4);
    for (size_t i = 0; i < s->room && s->keys[i]; i++) {
        kith_row row;
        if (kith_collection_get(s->collection, s->keys[i], KITH_ROW_PAYLOAD, &row, &err) != KITH_OK) {
            (void)cli_table_print(cli, &table);
            return cli_fail_message(cli, cli->args[0], &err);
        }
        cli_table_cell(&table, "%zu", s->q->offset + i + 1);
        cli_table_cell(&table, "%lld", (long long)row.key);
        cli_table_cell(&table, "%g", (double)s->distances[i]);
        cli_table_cell(&table, "%s", row.payload);
    }
    return cli_table_print(cli, &table);
}

/* Groups one behind the other, without the places that were not filled. */
static kith_status search_groups(search *s, const float *vector, kith_error *err)
{
    kith_status status =
        kith_collection_search_groups(s->collection, s->dim, vector, s->q->group_by, s->q->group_size,
                                      &s->how, s->keys, s->distances, &s->answer, err);
    size_t kept = 0;
    for (size_t i = 0; status == KITH_OK && i < s->room; i++) {
        if (s->keys[i] == 0) continue;
        s->keys[kept] = s->keys[i];
        s->distances[kept++] = s->distances[i];
    }
    if (status == KITH_OK && kept < s->room) s->keys[kept] = 0;
    return status;
}

/* One state answers all queries, and the rows that they find are of it. */
static int search_all(cli_context *cli, search *s)
{
    kith_error err;
    int status = CLI_OK;
    for (size_t i = 0; i < s->n && status == CLI_OK; i++) {
        kith_collection_examples examples = {s->like, s->q->like.n, s->like ? s->like + s->q->like.n : NULL,
                                             s->q->unlike.n};
        kith_status found = s->q->group_by ? search_groups(s, s->vectors + i * s->dim, &err)
                            : s->like
                                ? kith_collection_search_examples(s->collection, &examples, &s->how, s->keys,
                                                                  s->distances, &s->answer, &err)
                                : kith_collection_search(s->collection, 1, s->dim, s->vectors + i * s->dim,
                                                         &s->how, s->keys, s->distances, &s->answer, &err);
        if (found != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
        status = cli->json ? print_json(cli, s, i) : print_table(cli, s, i);
        if (cli_cancelled(cli)) return cli_fail(cli, NULL, "interrupted");
    }
    return status != CLI_OK ? status : cli_flush(cli);
}

int rows_search(cli_context *cli, const rows_query *query)
{
    kith_error err;
    search s = {.q = query, .plan = {.struct_size = sizeof s.plan}};
    kith_collection_query_init(&s.how);
    s.how.k = query->k;
    s.how.exact = query->exact;
    s.how.expression = query->filter;
    s.how.plan = &s.plan;
    s.how.offset = query->offset;
    s.how.max_microseconds = (uint64_t)(query->seconds * 1e6);
    s.how.cancel = cli->run.cancel;
    s.room = query->k * (query->group_by ? query->group_size : 1);
    s.keys = malloc(s.room * sizeof *s.keys);
    s.distances = malloc(s.room * sizeof *s.distances);
    int status = s.keys && s.distances ? take_queries(cli, &s) : cli_fail(cli, NULL, "out of memory");
    if (status == CLI_OK) status = rows_open(cli, true, &s.collection);
    if (status == CLI_OK && kith_collection_pin(s.collection, &err) != KITH_OK)
        status = cli_fail_message(cli, cli->args[0], &err);
    if (status == CLI_OK) status = find_examples(cli, &s);
    if (status == CLI_OK && query->seconds > 0 && kith_collection_warm(s.collection, &err) != KITH_OK)
        status = cli_fail_message(cli, cli->args[0], &err);
    if (status == CLI_OK) status = search_all(cli, &s);
    kith_collection_close(s.collection);
    free(s.keys);
    free(s.distances);
    free(s.vectors);
    free(s.like);
    return status;
}
