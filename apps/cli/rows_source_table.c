/* rows_source_table.c - a table (CSV, TSV) as a source and as a sink.
 *
 * The first line names the columns, and a column is a part of the row by its name or because --as says so:
 *
 *     $key $text $partition $expires   as `kith get` shows them
 *     $payload                         an object of JSON
 *     $vector, $vector.NAME            numbers, "[0.5, 1]" or "0.5 1"; several such columns make one vector
 *     any other                        a member of the payload: true, false, a number, or a text; between quotes always a text;
 *                                      missing where the field is empty */
#include "rows_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "csv.h"

typedef enum role {
    ROLE_MEMBER,
    ROLE_KEY,
    ROLE_TEXT,
    ROLE_PARTITION,
    ROLE_EXPIRES,
    ROLE_PAYLOAD,
    ROLE_VECTOR,
    ROLE_SKIP
} role;

static const char *const role_words[] = {"",        "key",    "text", "partition", "expires",
                                         "payload", "vector", "skip", NULL};

typedef struct column {
    char *name; /* of the member; of ROLE_VECTOR the vector field's, "" for that of the rows */
    role role;
} column;

typedef struct numbers {
    char *field;
    float *x;
    size_t n, room;
} numbers;

typedef struct table_source {
    rows_source base;
    const rows_reading *reading;
    FILE *file;
    csv_reader csv;
    uint64_t head; /* bytes of the first line */
    column *columns;
    size_t n_columns;
    numbers vectors[1 + KITH_COLLECTION_MAX_VECTOR_FIELDS]; /* the first are the rows' */
    size_t n_vectors;
    char *payload; /* of the row at hand */
} table_source;

static int fail(cli_context *cli, const table_source *s, const char *of, const char *why)
{
    if (!of) return cli_fail(cli, s->reading->path, "line %" PRIu64 ": %s", s->csv.line, why);
    return cli_fail(cli, s->reading->path, "line %" PRIu64 ", %.80s: %s", s->csv.line, of, why);
}

static char separator_of(const char *path)
{
    return rows_ends_in(path, ".tsv") ? '\t' : ',';
}

bool rows_is_table(const char *path)
{
    csv_reader csv;
    char *end;
    if (!rows_ends_in(path, ".csv") && !rows_ends_in(path, ".tsv")) return false;
    FILE *file = fopen(path, "r");
    if (!file) return false;
    csv_begin(&csv, file, separator_of(path), 0);
    bool table = csv_read(&csv) != 0, plain = csv.n > 0; /* what is no table is said by its reader */
    for (size_t i = 0; i < csv.n && plain && csv.fields[i].text; i++) {
        (void)strtod(csv.fields[i].text, &end);
        plain = end != csv.fields[i].text && *end == 0;
    }
    csv_clear(&csv);
    fclose(file);
    return table && !plain;
}

/* ---- Columns ---- */

/* What a word stands for: "key", "vector", "vector.title". *name is its part behind the point. */
static bool parse_role(const char *word, role *out, const char **name)
{
    size_t size = strcspn(word, ".");
    *name = word[size] ? word + size + 1 : "";
    for (size_t i = 1; role_words[i]; i++) {
        if (strlen(role_words[i]) != size || strncmp(role_words[i], word, size) != 0) continue;
        *out = (role)i;
        return !word[size] || (i == ROLE_VECTOR && **name);
    }
    return false;
}

static int set_role(cli_context *cli, column *c, role r, const char *name)
{
    char *copy = strdup(name);
    if (!copy) return cli_fail(cli, NULL, "out of memory");
    free(c->name);
    *c = (column){.name = copy, .role = r};
    return CLI_OK;
}

static size_t find_column(const table_source *s, const char *name, size_t size)
{
    size_t i = 0;
    while (i < s->n_columns &&
           (strlen(s->csv.fields[i].text) != size || strncmp(s->csv.fields[i].text, name, size)))
        i++;
    return i;
}

/* COLUMN=ROLE, FIRST..LAST=ROLE; a role that is none is the name of a member. */
static int take_as(cli_context *cli, table_source *s, const char *text)
{
    const char *sign = strrchr(text, '='), *dots = strstr(text, ".."), *name = sign ? sign + 1 : NULL;
    role r = ROLE_MEMBER;
    if (!sign || sign == text || !sign[1])
        return cli_usage(cli, "--as", "'%s' is not of the form COLUMN=ROLE", text);
    size_t size = (size_t)(sign - text), first = find_column(s, text, size), last = first;
    if (first == s->n_columns && dots && dots < sign) {
        first = find_column(s, text, (size_t)(dots - text));
        last = find_column(s, dots + 2, (size_t)(sign - dots - 2));
    }
    if (first >= s->n_columns || last >= s->n_columns || first > last)
        return cli_usage(cli, "--as", "%s has no column '%.*s'", s->reading->path, (int)size, text);
    if (!parse_role(sign + 1, &r, &name)) {
        r = ROLE_MEMBER;
        name = sign + 1;
    }
    int status = CLI_OK;
    for (size_t i = first; i <= last && status == CLI_OK; i++)
        status = set_role(cli, &s->columns[i], r, name);
    return status;
}

static int take_named(cli_context *cli, table_source *s, const char *option, const char *name, role r)
{
    if (!name) return CLI_OK;
    size_t i = find_column(s, name, strlen(name));
    if (i == s->n_columns) return cli_usage(cli, option, "%s has no column '%s'", s->reading->path, name);
    return set_role(cli, &s->columns[i], r, "");
}

/* Each part of a row once, but vectors. */
static int check_columns(cli_context *cli, table_source *s)
{
    size_t seen[ROLE_SKIP + 1] = {0};
    for (size_t i = 0; i < s->n_columns; i++) seen[s->columns[i].role]++;
    for (role r = ROLE_KEY; r <= ROLE_PAYLOAD; r++)
        if (seen[r] > 1)
            return cli_fail(cli, s->reading->path, "%zu of its columns are the %s", seen[r], role_words[r]);
    return CLI_OK;
}

static int take_columns(cli_context *cli, table_source *s)
{
    const rows_reading *r = s->reading;
    int read = csv_read(&s->csv), status = CLI_OK;
    if (read != 1) return fail(cli, s, NULL, s->csv.fault ? s->csv.fault : "there is no line of names");
    s->head = s->csv.bytes;
    s->columns = calloc(s->csv.n, sizeof *s->columns);
    if (!s->columns) return cli_fail(cli, NULL, "out of memory");
    s->n_columns = s->csv.n;
    for (size_t i = 0; i < s->n_columns && status == CLI_OK; i++) {
        const char *text = s->csv.fields[i].text, *name = text;
        role is = ROLE_MEMBER;
        if (text[0] == '$' && !parse_role(text + 1, &is, &name)) {
            is = ROLE_MEMBER;
            name = text;
        }
        status = set_role(cli, &s->columns[i], is, is == ROLE_MEMBER ? text : name);
    }
    if (status == CLI_OK) status = take_named(cli, s, "--key", r->key, ROLE_KEY);
    if (status == CLI_OK) status = take_named(cli, s, "--text-key", r->text, ROLE_TEXT);
    for (size_t i = 0; i < r->as.n && status == CLI_OK; i++) status = take_as(cli, s, r->as.items[i]);
    return status == CLI_OK ? check_columns(cli, s) : status;
}

/* ---- A row ---- */

/* What a field outside of quotes is: jansson decides what is a number. */
static json_t *value_of(const csv_field *f)
{
    if (f->quoted) return json_stringn(f->text, f->size);
    if (strcmp(f->text, "true") == 0 || strcmp(f->text, "false") == 0) return json_boolean(f->text[0] == 't');
    if ((f->text[0] >= '0' && f->text[0] <= '9') || f->text[0] == '-') {
        json_t *number = json_loadb(f->text, f->size, JSON_DECODE_ANY, NULL);
        if (json_is_number(number)) return number;
        json_decref(number);
    }
    return json_stringn(f->text, f->size);
}

static int take_whole(cli_context *cli, const table_source *s, const csv_field *f, json_t *payload)
{
    json_error_t fault;
    json_t *object = json_loadb(f->text, f->size, JSON_REJECT_DUPLICATES, &fault);
    int good = json_is_object(object) && json_object_update(payload, object) == 0;
    const char *why = object ? "the payload must be an object" : fault.text;
    json_decref(object);
    return good ? CLI_OK : fail(cli, s, "$payload", why);
}

static int take_numbers(cli_context *cli, table_source *s, const column *c, const csv_field *f)
{
    size_t i = 0;
    while (i < s->n_vectors && strcmp(s->vectors[i].field, c->name) != 0) i++;
    if (i == s->n_vectors) {
        if (i == 1 + KITH_COLLECTION_MAX_VECTOR_FIELDS)
            return fail(cli, s, c->name, "too many vector fields");
        s->vectors[i] = (numbers){.field = c->name};
        s->n_vectors++;
    }
    numbers *v = &s->vectors[i];
    if (rows_numbers(f->text, &v->x, &v->n, &v->room) != 0)
        return fail(cli, s, *c->name ? c->name : "$vector", "not a list of numbers");
    return CLI_OK;
}

static int take_whole_number(cli_context *cli, const table_source *s, const char *of, const char *text,
                             int64_t low, int64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (end == text || *end || errno || *out < low) return fail(cli, s, of, "not a whole number from 1 on");
    return CLI_OK;
}

static int take_field(cli_context *cli, table_source *s, rows_item *item, size_t i, json_t *payload)
{
    const csv_field *f = &s->csv.fields[i];
    const column *c = &s->columns[i];
    if (f->size == 0 && !(f->quoted && c->role == ROLE_MEMBER)) return CLI_OK; /* missing */
    switch (c->role) {
    case ROLE_KEY: return take_whole_number(cli, s, "$key", f->text, 1, &item->row.key);
    case ROLE_EXPIRES: return take_whole_number(cli, s, "$expires", f->text, 1, &item->expires);
    case ROLE_TEXT: item->text = f->text; return CLI_OK;
    case ROLE_PARTITION: item->partition = f->text; return CLI_OK;
    case ROLE_PAYLOAD: return take_whole(cli, s, f, payload);
    case ROLE_VECTOR: return take_numbers(cli, s, c, f);
    case ROLE_SKIP: return CLI_OK;
    case ROLE_MEMBER: break;
    }
    if (json_object_set_new(payload, c->name, value_of(f)) == 0) return CLI_OK;
    return fail(cli, s, c->name, "not UTF-8");
}

static int take_fields(cli_context *cli, table_source *s, rows_item *item)
{
    int status = CLI_OK;
    json_t *payload = json_object();
    if (!payload) return cli_fail(cli, NULL, "out of memory");
    for (size_t i = 0; i < s->n_vectors; i++) s->vectors[i].n = 0;
    for (size_t i = 0; i < s->n_columns && status == CLI_OK; i++)
        status = take_field(cli, s, item, i, payload);
    free(s->payload);
    s->payload = status == CLI_OK ? json_dumps(payload, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(payload);
    if (status == CLI_OK && !s->payload) return fail(cli, s, NULL, "the name of a column is not UTF-8");
    return status;
}

static int next(cli_context *cli, rows_source *base, rows_item *item, int *end)
{
    table_source *s = (table_source *)base;
    *item = (rows_item){.parts = KITH_ROW_PAYLOAD | KITH_ROW_VECTOR};
    int read = csv_read(&s->csv);
    *end = read == 0;
    base->line = s->csv.line;
    if (read == 0) return CLI_OK;
    if (read < 0) return fail(cli, s, NULL, s->csv.fault);
    if (s->csv.n != s->n_columns)
        return cli_fail(cli, s->reading->path, "line %" PRIu64 ": %zu fields, the first line names %zu",
                        s->csv.line, s->csv.n, s->n_columns);
    int status = take_fields(cli, s, item);
    if (status != CLI_OK) return status;
    item->row.payload = s->payload;
    item->row.payload_size = strlen(s->payload);
    for (size_t i = 0; i < s->n_vectors; i++) {
        const numbers *v = &s->vectors[i];
        if (v->n > 0 && *v->field)
            item->vectors[item->n_vectors++] = (rows_vector){v->field, v->x, v->n};
        else if (v->n > 0) {
            item->row.vector = v->x;
            item->row.dim = v->n;
        }
    }
    return CLI_OK;
}

static uint64_t place(rows_source *base)
{
    return ((table_source *)base)->csv.bytes;
}

static int seek(cli_context *cli, rows_source *base, uint64_t rows, uint64_t bytes)
{
    table_source *s = (table_source *)base;
    if (rows == 0) bytes = s->head;
    if (fseeko(s->file, (off_t)bytes, SEEK_SET) != 0)
        return cli_fail(cli, s->reading->path, "%s", strerror(errno));
    csv_clear(&s->csv);
    csv_begin(&s->csv, s->file, separator_of(s->reading->path), bytes);
    s->csv.lines = rows + 1; /* but for those within quotes */
    return CLI_OK;
}

static void close_source(rows_source *base)
{
    table_source *s = (table_source *)base;
    csv_clear(&s->csv);
    if (s->file) fclose(s->file);
    for (size_t i = 0; i < s->n_columns; i++) free(s->columns[i].name);
    for (size_t i = 0; i < s->n_vectors; i++) free(s->vectors[i].x);
    free(s->columns);
    free(s->payload);
    free(s);
}

/* The columns, and the number of components of the first vector. */
static int learn(cli_context *cli, table_source *s)
{
    int end = 0, vectors = 0;
    rows_item item = {0};
    int status = take_columns(cli, s);
    for (size_t i = 0; i < s->n_columns; i++)
        vectors |= s->columns[i].role == ROLE_VECTOR && !*s->columns[i].name;
    while (status == CLI_OK && vectors && !end && s->base.shape.dim == 0) {
        status = next(cli, &s->base, &item, &end);
        s->base.shape.dim = status == CLI_OK ? item.row.dim : 0;
    }
    return status == CLI_OK ? seek(cli, &s->base, 0, 0) : status;
}

int rows_open_table(cli_context *cli, const rows_reading *reading, rows_source **source)
{
    table_source *s = calloc(1, sizeof *s);
    if (!s) return cli_fail(cli, NULL, "out of memory");
    s->base.next = next;
    s->base.place = place;
    s->base.seek = seek;
    s->base.close = close_source;
    s->base.rows_path = reading->path;
    s->base.whole = 1;
    s->reading = reading;
    s->file = fopen(reading->path, "r");
    if (s->file) csv_begin(&s->csv, s->file, separator_of(reading->path), 0);
    int status = s->file ? learn(cli, s) : cli_fail(cli, reading->path, "%s", strerror(errno));
    if (status == CLI_OK)
        *source = &s->base;
    else
        close_source(&s->base);
    return status;
}

/* ---- Writing ---- */

typedef struct table_sink {
    rows_sink base;
    const rows_writing *writing;
    rows_file file;
    char separator;
    size_t n; /* fields of the row at hand */
    int failed;
} table_sink;

static void write_field(table_sink *s, const char *text, int quote)
{
    if (s->n++ > 0) s->failed |= putc_unlocked(s->separator, s->file.file) == EOF;
    if (text) s->failed |= csv_write(s->file.file, s->separator, text, strlen(text), quote) != 0;
}

static int end_line(cli_context *cli, table_sink *s)
{
    s->n = 0;
    s->failed |= putc_unlocked('\n', s->file.file) == EOF;
    return s->failed ? cli_fail(cli, s->writing->path, "%s", strerror(errno)) : CLI_OK;
}

static void write_vector(table_sink *s, const float *x, size_t dim)
{
    json_t *array = x ? rows_vector_json(x, dim) : NULL;
    char *text = array ? json_dumps(array, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    s->failed |= x && !text;
    write_field(s, text, 0);
    json_decref(array);
    free(text);
}

/* Texts stand between quotes, so that "12" comes in again as one. */
static void write_member(table_sink *s, const json_t *payload, const char *name)
{
    const json_t *value = json_object_get(payload, name);
    if (!value || json_is_null(value)) {
        write_field(s, NULL, 0);
    } else if (json_is_string(value)) {
        write_field(s, json_string_value(value), 1);
    } else {
        char *text =
            json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        s->failed |= !text;
        write_field(s, text, 0);
        free(text);
    }
}

static const rows_vector *vector_of(const rows_item *item, const char *field)
{
    for (size_t i = 0; i < item->n_vectors; i++)
        if (strcmp(item->vectors[i].field, field) == 0) return &item->vectors[i];
    return NULL;
}

static int put(cli_context *cli, rows_sink *base, const rows_item *item)
{
    table_sink *s = (table_sink *)base;
    const rows_writing *w = s->writing;
    char number[32];
    snprintf(number, sizeof number, "%" PRId64, item->row.key);
    write_field(s, number, 0);
    write_field(s, item->text, 0);
    write_field(s, item->partition, 0);
    snprintf(number, sizeof number, "%" PRId64, item->expires);
    write_field(s, item->expires ? number : NULL, 0);
    if (w->columns.n == 0) write_field(s, item->row.payload, 0);
    json_t *payload =
        w->columns.n > 0 ? json_loadb(item->row.payload, item->row.payload_size, 0, NULL) : NULL;
    for (size_t i = 0; i < w->columns.n; i++) write_member(s, payload, w->columns.items[i]);
    json_decref(payload);
    write_vector(s, item->row.vector, item->row.dim);
    for (size_t i = 0; i < w->shape->n_vectors; i++) {
        const rows_vector *v = vector_of(item, w->shape->vectors[i].name);
        write_vector(s, v ? v->x : NULL, v ? v->dim : 0);
    }
    base->rows++;
    return end_line(cli, s);
}

static int write_head(cli_context *cli, table_sink *s)
{
    static const char *const names[] = {"$key", "$text", "$partition", "$expires"};
    const rows_writing *w = s->writing;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) write_field(s, names[i], 0);
    if (w->columns.n == 0) write_field(s, "$payload", 0);
    for (size_t i = 0; i < w->columns.n; i++) write_field(s, w->columns.items[i], 0);
    write_field(s, "$vector", 0);
    for (size_t i = 0; i < w->shape->n_vectors; i++) {
        char name[KITH_COLLECTION_MAX_FIELD_NAME + 16];
        snprintf(name, sizeof name, "$vector.%s", w->shape->vectors[i].name);
        write_field(s, name, 0);
    }
    return end_line(cli, s);
}

static int finish(cli_context *cli, rows_sink *base)
{
    return rows_file_finish(cli, &((table_sink *)base)->file);
}

static void close_sink(rows_sink *base)
{
    rows_file_close(&((table_sink *)base)->file);
    free(base);
}

int rows_write_table(cli_context *cli, const rows_writing *writing, rows_sink **sink)
{
    table_sink *s = calloc(1, sizeof *s);
    if (!s) return cli_fail(cli, NULL, "out of memory");
    s->base.put = put;
    s->base.finish = finish;
    s->base.close = close_sink;
    s->writing = writing;
    s->separator = separator_of(writing->path);
    int status = rows_file_open(cli, writing->path, &s->file);
    if (status == CLI_OK) status = write_head(cli, s);
    if (status == CLI_OK)
        *sink = &s->base;
    else
        close_sink(&s->base);
    return status;
}
