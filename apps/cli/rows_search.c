/* rows_search.c - `kith search` by vectors and by keys: the nearest rows of any collection. */
#include "rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/fusion.h>
#include <kith/request.h>

/* Vectors for one vector field. */
typedef struct query_part {
    const char *field; /* NULL: the vectors of the rows */
    float *x;          /* [n][dim] */
    size_t n, dim;
    double weight;
} query_part;

/* What is searched by, and what was found. */
typedef struct search {
    const rows_query *q;
    kith_collection *collection;
    kith_collection_query how;
    kith_collection_plan plan;
    query_part parts[KITH_COLLECTION_MAX_FUSED];
    size_t n_parts, n; /* n: queries */
    int64_t *like;     /* [like.n + unlike.n] */
    size_t room;       /* k, or with groups k times their size */
    int64_t *keys;     /* [room] */
    float *distances;  /* [room] */
    double *values;    /* [room] */
    kith_found found;
} search;

/* --vector '[0.1, 2]' */
static int parse_vector(cli_context *cli, const char *text, query_part *p)
{
    json_error_t fault;
    json_t *array = json_loads(text, 0, &fault);
    if (!json_is_array(array) || json_array_size(array) == 0) {
        json_decref(array);
        return cli_usage(cli, "--vector", "not a JSON array of numbers, such as [0.5, 1, -2]");
    }
    p->n = 1;
    p->dim = json_array_size(array);
    p->x = malloc(p->dim * sizeof *p->x);
    int status = p->x ? CLI_OK : cli_fail(cli, NULL, "out of memory");
    for (size_t d = 0; d < p->dim && status == CLI_OK; d++) {
        json_t *component = json_array_get(array, d);
        if (!json_is_number(component)) status = cli_usage(cli, "--vector", "element %zu is not a number", d);
        p->x[d] = (float)json_number_value(component);
    }
    json_decref(array);
    return status;
}

static int load_vectors(cli_context *cli, const char *path, query_part *p)
{
    cli_vectors loaded;
    int status = cli_vectors_load(cli, path, CLI_ROLE_QUERIES, KITH_L2SQ, 0, &loaded);
    if (status == CLI_OK) { /* taken over */
        p->x = malloc(loaded.n * loaded.dim * sizeof *p->x);
        if (!p->x) status = cli_fail(cli, NULL, "out of memory");
        if (p->x) memcpy(p->x, loaded.x, loaded.n * loaded.dim * sizeof *p->x);
        p->n = loaded.n;
        p->dim = loaded.dim;
    }
    cli_vectors_clear(&loaded);
    return status;
}

/* "-" stands for the vectors of the rows. */
static const char *field_name(const char *text)
{
    return strcmp(text, "-") == 0 ? NULL : text;
}

static int take_part(cli_context *cli, search *s, size_t i)
{
    query_part *p = &s->parts[i];
    const rows_query *q = s->q;
    *p = (query_part){.weight = 1};
    s->n_parts = i + 1;
    if (i < q->fields.n) p->field = field_name(q->fields.items[i]);
    if (i < q->weights.n && (!cli_parse_number(q->weights.items[i], &p->weight) || !(p->weight > 0)))
        return cli_usage(cli, "--weight", "'%s' is no number above 0", q->weights.items[i]);
    int status = q->vector.n > 0 ? parse_vector(cli, q->vector.items[i], p)
                                 : load_vectors(cli, q->vectors.items[i], p);
    if (status == CLI_OK && i > 0 && p->n != s->n)
        return cli_usage(cli, "--vectors", "%s has %zu vectors, %s %zu", q->vectors.items[i], p->n,
                         q->vectors.items[0], s->n);
    s->n = p->n;
    return status;
}

/* A vector, or a file of vectors, for each field. */
static int take_parts(cli_context *cli, search *s)
{
    const rows_query *q = s->q;
    size_t n = q->vector.n + q->vectors.n;
    if (n > KITH_COLLECTION_MAX_FUSED)
        return cli_usage(cli, "--vector", "%zu of them, at most %d", n, KITH_COLLECTION_MAX_FUSED);
    if ((q->fields.n > 0 || n > 1) && q->fields.n != n)
        return cli_usage(cli, "--field", "%zu of them for %zu --vector or --vectors", q->fields.n, n);
    if (q->weights.n > 0 && q->weights.n != n)
        return cli_usage(cli, "--weight", "%zu of them for %zu --vector or --vectors", q->weights.n, n);
    int status = CLI_OK;
    for (size_t i = 0; i < n && status == CLI_OK; i++) status = take_part(cli, s, i);
    if (status == CLI_OK && n == 1) s->how.field = s->parts[0].field;
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
    if (s->q->like.n == 0) return take_parts(cli, s);
    if (s->q->fields.n > 1) return cli_usage(cli, "--field", "with --like one field is searched");
    if (s->q->fields.n == 1) s->how.field = field_name(s->q->fields.items[0]);
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
        "{ss sI sI so sb sI sI sI sI so so so}", "method", plan->method, "vectors", (json_int_t)plan->vectors,
        "matches", (json_int_t)plan->matches, "selectivity", cli_json_number(selectivity), "remembered",
        plan->remembered, "rounds", (json_int_t)plan->rounds, "nprobe", (json_int_t)plan->nprobe, "cells",
        (json_int_t)plan->cells, "rows_scored", (json_int_t)plan->rows_scored, "filter_seconds",
        cli_json_number(plan->filter_seconds), "search_seconds", cli_json_number(plan->search_seconds),
        "estimated_recall", cli_json_number(plan->estimated_recall));
}

/* ---- Printing ---- */

/* What is printed of an answer. */
typedef struct printing {
    kith_collection *collection;
    const kith_found *found;
    size_t offset;
    const kith_collection_plan *plan; /* NULL: not wanted */
} printing;

static json_t *results_json(const printing *p, kith_error *err)
{
    const kith_found *f = p->found;
    json_t *results = json_array();
    for (size_t i = 0; results && i < f->n; i++) {
        kith_row row;
        json_t *line = NULL;
        if (kith_collection_get(p->collection, f->keys[i], KITH_ROW_PAYLOAD, &row, err) == KITH_OK)
            line = json_pack("{sI sI so so}", "rank", (json_int_t)(p->offset + i + 1), "key",
                             (json_int_t)row.key, f->scored ? "score" : "distance",
                             f->scored ? cli_json_number(f->values[i]) : cli_json_float((float)f->values[i]),
                             "payload", json_loadb(row.payload, row.payload_size, 0, NULL));
        line = rows_add_text(p->collection, f->keys[i], line);
        if (line && json_array_append_new(results, line) == 0) continue;
        json_decref(results);
        results = NULL;
    }
    return results;
}

static int print_json(cli_context *cli, const printing *p, int64_t query)
{
    kith_error err = {.code = KITH_OK};
    json_t *results = results_json(p, &err);
    if (!results && err.code != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    return cli_json_line(cli, json_pack("{sI so sb so*}", "query", (json_int_t)query, "results", results,
                                        "complete", p->found->answer.complete, "plan",
                                        p->plan ? rows_plan_json(p->plan) : NULL));
}

void rows_plan_print(cli_context *cli, const kith_collection_plan *p)
{
    cli_progress_clear(cli);
    double part = p->vectors ? 100 * (double)p->matches / (double)p->vectors : 0;
    printf("plan: %s; %s of %s may be found (%.4g %%)%s; %s scored", p->method, cli_thousands(p->matches),
           cli_counted(p->vectors, "row"), part, p->remembered ? ", known from before" : "",
           cli_thousands(p->rows_scored));
    if (p->cells) printf("; %zu of %s, rounds: %u", p->nprobe, cli_counted(p->cells, "cell"), p->rounds);
    if (!isnan(p->estimated_recall)) printf("; recall about %.3f", p->estimated_recall);
    printf("; filter %.2f ms, search %.2f ms\n", p->filter_seconds * 1e3, p->search_seconds * 1e3);
}

/* many: there are other queries, so say which one this is. */
static int print_table(cli_context *cli, const printing *p, size_t query, int many)
{
    const kith_found *f = p->found;
    const char *const headings[] = {">rank", ">key", f->scored ? ">score" : ">distance", "payload"};
    kith_error err;
    cli_table table;
    cli_progress_clear(cli);
    if (many) printf("query %zu:\n", query);
    if (p->plan) rows_plan_print(cli, p->plan);
    cli_table_init(&table, headings, 4);
    for (size_t i = 0; i < f->n; i++) {
        kith_row row;
        if (kith_collection_get(p->collection, f->keys[i], KITH_ROW_PAYLOAD, &row, &err) != KITH_OK) {
            (void)cli_table_print(cli, &table);
            return cli_fail_message(cli, cli->args[0], &err);
        }
        cli_table_cell(&table, "%zu", p->offset + i + 1);
        cli_table_cell(&table, "%lld", (long long)row.key);
        cli_table_cell(&table, "%g", f->values[i]);
        cli_table_cell(&table, "%s", row.payload);
    }
    return cli_table_print(cli, &table);
}

/* ---- Searching ---- */

static kith_status search_range(search *s, const float *vector, kith_error *err)
{
    size_t n = 0;
    kith_status status =
        kith_collection_search_range(s->collection, s->parts[0].dim, vector, (float)s->q->radius, &s->how,
                                     s->keys, s->distances, &n, NULL, &s->found.answer, err);
    if (status == KITH_OK && n < s->room) s->keys[n] = 0;
    return status;
}

static kith_status search_fused(search *s, size_t query, kith_error *err)
{
    kith_fused_part parts[KITH_COLLECTION_MAX_FUSED];
    kith_fusion_options options;
    kith_fusion_options_init(&options);
    options.by = strcmp(s->q->fuse, "weights") == 0 ? KITH_FUSE_WEIGHTS : KITH_FUSE_RANKS;
    for (size_t i = 0; i < s->n_parts; i++) {
        const query_part *p = &s->parts[i];
        parts[i] = (kith_fused_part){p->field, p->x + query * p->dim, p->dim, p->weight};
    }
    return kith_collection_search_fused(s->collection, parts, s->n_parts, &options, &s->how, s->keys,
                                        s->values, &s->found.answer, err);
}

static kith_status search_one(search *s, size_t query, kith_error *err)
{
    kith_collection_answer *answer = &s->found.answer;
    if (s->like) {
        kith_collection_examples examples = {s->like, s->q->like.n, s->like + s->q->like.n, s->q->unlike.n};
        return kith_collection_search_examples(s->collection, &examples, &s->how, s->keys, s->distances,
                                               answer, err);
    }
    size_t dim = s->parts[0].dim;
    const float *vector = s->parts[0].x + query * dim;
    if (s->n_parts > 1) return search_fused(s, query, err);
    if (s->q->group_by)
        return kith_collection_search_groups(s->collection, dim, vector, s->q->group_by, s->q->group_size,
                                             &s->how, s->keys, s->distances, answer, err);
    if (s->q->with_radius) return search_range(s, vector, err);
    return kith_collection_search(s->collection, 1, dim, vector, &s->how, s->keys, s->distances, answer, err);
}

/* What was found, without the places that were not filled; groups one behind the other. */
static void gather(search *s)
{
    s->found.n = 0;
    s->found.scored = s->n_parts > 1;
    for (size_t i = 0; i < s->room; i++) {
        if (s->keys[i] == 0) {
            if (s->q->group_by) continue;
            break;
        }
        s->keys[s->found.n] = s->keys[i];
        s->values[s->found.n++] = s->found.scored ? s->values[i] : (double)s->distances[i];
    }
    s->found.keys = s->keys;
    s->found.values = s->values;
}

/* One state answers all queries, and the rows that they find are of it. */
static int search_all(cli_context *cli, search *s)
{
    kith_error err;
    int status = CLI_OK;
    size_t total = 0;
    const printing p = {.collection = s->collection,
                        .found = &s->found,
                        .offset = s->q->offset,
                        .plan = s->q->explain && s->n_parts < 2 ? &s->plan : NULL};
    for (size_t i = 0; i < s->n && status == CLI_OK; i++) {
        if (search_one(s, i, &err) != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
        gather(s);
        total += s->found.n;
        status = cli->json ? print_json(cli, &p, s->like ? s->like[0] : (int64_t)i)
                           : print_table(cli, &p, i, s->n > 1);
        if (cli_cancelled(cli)) return cli_fail(cli, NULL, "interrupted");
    }
    if (status == CLI_OK && total == 0 && s->q->offset == 0)
        rows_filter_hint(cli, s->collection, s->q->filter);
    return status != CLI_OK ? status : cli_flush(cli);
}

static int open_pinned(cli_context *cli, kith_collection **collection)
{
    kith_error err;
    int status = rows_open(cli, true, collection);
    if (status == CLI_OK && kith_collection_pin(*collection, &err) != KITH_OK)
        status = cli_fail_message(cli, cli->args[0], &err);
    return status;
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
    s.how.target_recall = query->target_recall;
    s.how.partitions = query->partitions.items;
    s.how.n_partitions = query->partitions.n;
    s.room = query->k * (query->group_by ? query->group_size : 1);
    s.keys = malloc(s.room * sizeof *s.keys);
    s.distances = malloc(s.room * sizeof *s.distances);
    s.values = malloc(s.room * sizeof *s.values);
    int status =
        s.keys && s.distances && s.values ? take_queries(cli, &s) : cli_fail(cli, NULL, "out of memory");
    if (status == CLI_OK) status = open_pinned(cli, &s.collection);
    if (status == CLI_OK) status = find_examples(cli, &s);
    if (status == CLI_OK && query->seconds > 0 && kith_collection_warm(s.collection, &err) != KITH_OK)
        status = cli_fail_message(cli, cli->args[0], &err);
    if (status == CLI_OK) status = search_all(cli, &s);
    kith_collection_close(s.collection);
    free(s.keys);
    free(s.distances);
    free(s.values);
    for (size_t i = 0; i < s.n_parts; i++) free(s.parts[i].x);
    free(s.like);
    return status;
}

/* ---- Requests ---- */

typedef struct asking {
    const char *path;
    FILE *file;
    kith_collection *collection;
    int explain;
    char *line; /* of getline */
    size_t room;
} asking;

static int answer_request(cli_context *cli, asking *a, kith_request *request, size_t number)
{
    kith_error err;
    kith_collection_plan plan = {.struct_size = sizeof plan, .method = ""};
    kith_found found = {.struct_size = sizeof found};
    kith_collection_query *query = kith_request_query(request);
    query->cancel = cli->run.cancel;
    query->plan = &plan;
    if (kith_request_search(a->collection, request, &found, &err) != KITH_OK)
        return cli_fail(cli, a->path, "line %zu: %s", number + 1, err.message);
    const printing p = {.collection = a->collection,
                        .found = &found,
                        .offset = query->offset,
                        .plan = a->explain && *plan.method ? &plan : NULL};
    return cli->json ? print_json(cli, &p, (int64_t)number) : print_table(cli, &p, number, 1);
}

/* A request a line; a line that is none ends it. */
static int answer_all(cli_context *cli, asking *a)
{
    kith_error err;
    ssize_t size;
    for (size_t number = 0; (size = getline(&a->line, &a->room, a->file)) >= 0; number++) {
        kith_request *request;
        if (strspn(a->line, " \t\r\n") == (size_t)size) continue;
        if (kith_request_parse(a->line, (size_t)size, NULL, &request, &err) != KITH_OK)
            return cli_fail(cli, a->path, "line %zu: %s", number + 1, err.message);
        int status = answer_request(cli, a, request, number);
        kith_request_free(request);
        if (status != CLI_OK) return status;
        if (cli_cancelled(cli)) return cli_fail(cli, NULL, "interrupted");
    }
    if (ferror(a->file)) return cli_fail(cli, a->path, "%s", strerror(errno));
    return cli_flush(cli);
}

int rows_requests(cli_context *cli, const char *path, int explain)
{
    asking a = {.path = path, .explain = explain};
    a.file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    if (!a.file) return cli_fail(cli, path, "%s", strerror(errno));
    int status = open_pinned(cli, &a.collection);
    if (status == CLI_OK) status = answer_all(cli, &a);
    kith_collection_close(a.collection);
    free(a.line);
    if (a.file != stdin) fclose(a.file);
    return status;
}
