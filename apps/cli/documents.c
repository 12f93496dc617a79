#include "documents.h"

#include <ctype.h>
#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    BATCH = 4096,           /* documents shingled at once */
    BATCH_BYTES = 64 << 20, /* or so many bytes of them */
    MAX_COLUMNS = 64,       /* that a text may be put together from */
    SNIFFED = 8192          /* bytes of a file that are looked at for zeros, which no text has */
};

/* Documents on their way into texts. */
typedef struct batch {
    cli_context *cli;
    documents *docs;
    const char *text[BATCH];
    size_t size[BATCH], n, bytes;
    char *owned[BATCH]; /* to be freed with the batch, or NULL */
} batch;

static void batch_drop(batch *b)
{
    for (size_t i = 0; i < b->n; i++) free(b->owned[i]);
    b->n = b->bytes = 0;
}

static int batch_flush(batch *b)
{
    kith_error err;
    kith_run quiet = b->cli->run;
    quiet.progress = NULL; /* it is told in bytes or files, not in batches */
    int status = CLI_OK;
    if (kith_texts_add(b->docs->texts, b->n, b->text, b->size, &quiet, &err) != KITH_OK)
        status = err.code == KITH_CANCELLED ? cli_fail(b->cli, NULL, "interrupted")
                                            : cli_fail_error(b->cli, b->cli->args[0], &err);
    batch_drop(b);
    return status;
}

static int add_id(batch *b, const char *id, size_t size)
{
    documents *d = b->docs;
    if (d->n == d->room) {
        size_t room = 2 * d->room + 1024, *grown = realloc(d->id_start, room * sizeof *grown);
        if (!grown) return cli_fail(b->cli, NULL, "out of memory");
        d->id_start = grown;
        d->room = room;
    }
    if (!d->numbered && d->ids_size + size + 1 > d->ids_room) {
        size_t room = 2 * d->ids_room + size + 4096;
        char *grown = realloc(d->ids, room);
        if (!grown) return cli_fail(b->cli, NULL, "out of memory");
        d->ids = grown;
        d->ids_room = room;
    }
    if (d->numbered) return CLI_OK;
    d->id_start[d->n] = d->ids_size;
    memcpy(d->ids + d->ids_size, id, size);
    d->ids[d->ids_size + size] = 0;
    d->ids_size += size + 1;
    return CLI_OK;
}

/* A document; `owned` is freed when its text is not needed any more. line: its number, where ids are those. */
static int batch_add(batch *b, const char *id, size_t id_size, size_t line, const char *text, size_t size,
                     char *owned)
{
    int status = add_id(b, id, id_size);
    if (status != CLI_OK) {
        free(owned);
        return status;
    }
    if (b->docs->numbered) b->docs->id_start[b->docs->n] = line;
    b->docs->n++;
    b->text[b->n] = text;
    b->size[b->n] = size;
    b->owned[b->n++] = owned;
    b->bytes += size;
    return b->n == BATCH || b->bytes > BATCH_BYTES ? batch_flush(b) : CLI_OK;
}

/* All bytes of a stream; NULL with errno set. */
static char *read_stream(FILE *file, size_t guess, size_t *size)
{
    size_t room = guess + 1, n = 0;
    char *bytes = malloc(room);
    while (bytes) {
        n += fread(bytes + n, 1, room - n, file);
        if (n < room) break;
        char *grown = realloc(bytes, room = 2 * room + 65536);
        if (!grown) {
            free(bytes);
            errno = ENOMEM;
            return NULL;
        }
        bytes = grown;
    }
    if (bytes && ferror(file)) {
        free(bytes);
        return NULL;
    }
    *size = n;
    return bytes;
}

static char *read_file(const char *path, size_t guess, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *bytes = read_stream(file, guess, size);
    int why = errno;
    fclose(file);
    errno = why;
    return bytes;
}

/* ---- Columns of a TSV ---- */

typedef struct columns {
    size_t id;
    size_t text[MAX_COLUMNS], n; /* n 0: all but the id */
    bool header;                 /* the first line names them */
} columns;

typedef struct field {
    const char *start;
    size_t size;
} field;

/* Field number `index` of a line; an empty one where there are fewer. Returns 0 there. */
static int field_at(const char *line, size_t size, size_t index, field *f)
{
    const char *end = line + size;
    for (; index > 0; index--) {
        const char *tab = memchr(line, '\t', (size_t)(end - line));
        if (!tab) {
            *f = (field){end, 0};
            return 0;
        }
        line = tab + 1;
    }
    const char *tab = memchr(line, '\t', (size_t)(end - line));
    *f = (field){line, (size_t)((tab ? tab : end) - line)};
    return 1;
}

static size_t count_fields(const char *line, size_t size)
{
    size_t n = 1;
    for (size_t i = 0; i < size; i++) n += line[i] == '\t';
    return n;
}

/* The next field of a line from *at on; *at is NULL behind the last. */
static bool next_field(const char **at, const char *end, field *f)
{
    if (!*at) return false;
    const char *tab = memchr(*at, '\t', (size_t)(end - *at));
    *f = (field){*at, (size_t)((tab ? tab : end) - *at)};
    *at = tab ? tab + 1 : NULL;
    return true;
}

static bool same_word(const field *f, const char *word)
{
    return strlen(word) == f->size && strncasecmp(f->start, word, f->size) == 0;
}

/* The column of a name in the first line, else SIZE_MAX. */
static size_t named_column(const char *line, size_t size, const char *name)
{
    field f;
    const char *at = line;
    for (size_t i = 0; next_field(&at, line + size, &f); i++)
        if (same_word(&f, name)) return i;
    return SIZE_MAX;
}

/* Names that need no line to name them: the id is first, the body last, the title before it. */
static size_t customary_column(size_t fields, const char *name)
{
    uint64_t number;
    if (cli_parse_count(name, &number) && number >= 1 && number <= fields) return (size_t)number - 1;
    if (strcmp(name, "id") == 0) return 0;
    if (strcmp(name, "body") == 0) return fields - 1;
    if (strcmp(name, "title") == 0 && fields >= 2) return fields - 2;
    return SIZE_MAX;
}

/* The words of a comma-separated list in place; n gets their number, at most MAX_COLUMNS + 1. */
static void split_list(char *list, char *words[MAX_COLUMNS + 1], size_t *n)
{
    *n = 0;
    for (char *save = NULL, *word = strtok_r(list, ",", &save); word && *n <= MAX_COLUMNS;
         word = strtok_r(NULL, ",", &save))
        words[(*n)++] = word;
}

/* Whether the first line names the columns: each that is wanted by a name, and there is such a one. */
static bool is_header(const char *line, size_t size, char *const *words, size_t n)
{
    uint64_t number;
    size_t names = 0;
    for (size_t i = 0; i < n; i++) {
        if (cli_parse_count(words[i], &number)) continue;
        if (named_column(line, size, words[i]) == SIZE_MAX) return false;
        names++;
    }
    return names > 0;
}

static int find_column(cli_context *cli, const char *option, const char *line, size_t size, bool header,
                       const char *word, size_t *column)
{
    size_t fields = count_fields(line, size);
    *column = header ? named_column(line, size, word) : SIZE_MAX;
    if (*column == SIZE_MAX) *column = customary_column(fields, word);
    if (*column != SIZE_MAX) return CLI_OK;
    return cli_usage(cli, option, "there is no %s: the first line of %s has %zu columns and does not name it",
                     word, cli->args[0], fields);
}

static int find_columns(cli_context *cli, const documents_format *format, const char *line, size_t size,
                        columns *c)
{
    char *list = strdup(format->columns ? format->columns : ""), *id = strdup(format->id ? format->id : "");
    char *words[MAX_COLUMNS + 2];
    int status = list && id ? CLI_OK : cli_fail(cli, NULL, "out of memory");
    if (status == CLI_OK) split_list(list, words, &c->n);
    if (status == CLI_OK && format->columns && (c->n == 0 || c->n > MAX_COLUMNS))
        status =
            cli_usage(cli, "--columns", "wants 1 to %d names or numbers, separated by commas", MAX_COLUMNS);
    if (status == CLI_OK) {
        words[c->n] = id;
        c->header = is_header(line, size, words, c->n + (format->id != NULL));
    }
    for (size_t i = 0; i < c->n && status == CLI_OK; i++)
        status = find_column(cli, "--columns", line, size, c->header, words[i], &c->text[i]);
    if (format->id && status == CLI_OK) status = find_column(cli, "--id", line, size, c->header, id, &c->id);
    free(list);
    free(id);
    return status;
}

/* The wanted columns of a line, joined by a space. A single one, or all behind an id that is the first, stay where they
 * are: tabs separate words anyway. */
static int add_row(batch *b, const columns *c, const char *line, size_t size)
{
    field id, f;
    field_at(line, size, c->id, &id);
    if (c->n == 1) {
        field_at(line, size, c->text[0], &f);
        return batch_add(b, id.start, id.size, 0, f.start, f.size, NULL);
    }
    if (c->n == 0 && c->id == 0)
        return batch_add(b, id.start, id.size, 0, id.start + id.size, size - id.size, NULL);
    char *joined = malloc(size + c->n + 1), *to = joined;
    if (!joined) return cli_fail(b->cli, NULL, "out of memory");
    size_t used = 0;
    const char *at = line;
    for (size_t i = 0; c->n ? i < c->n : next_field(&at, line + size, &f); i++) {
        if (!c->n && i == c->id) continue;
        if (c->n) field_at(line, size, c->text[i], &f);
        if (used + f.size + 1 > size + c->n + 1) break; /* the same column twice and again: enough of it */
        memcpy(to + used, f.start, f.size);
        used += f.size;
        to[used++] = ' ';
    }
    return batch_add(b, id.start, id.size, 0, joined, used, joined);
}

/* ---- A file ---- */

typedef enum layout { LINES, FIRST_WORD, TSV } layout;

static layout layout_of(const char *path, const documents_format *format)
{
    size_t n = strlen(path);
    if (format->format) return format->format[0] == 't' ? TSV : format->format[0] == 'f' ? FIRST_WORD : LINES;
    return format->columns || format->id || (n > 4 && strcasecmp(path + n - 4, ".tsv") == 0) ? TSV : LINES;
}

static int add_line(batch *b, layout how, const columns *c, const char *line, size_t size, size_t number)
{
    if (how == TSV) return add_row(b, c, line, size);
    if (how == LINES) return batch_add(b, NULL, 0, number, line, size, NULL);
    size_t word = 0;
    while (word < size && !isspace((unsigned char)line[word])) word++;
    return batch_add(b, line, word, 0, line + word, size - word, NULL);
}

static int read_lines(batch *b, const documents_format *format, const char *bytes, size_t size)
{
    cli_context *cli = b->cli;
    layout how = layout_of(cli->args[0], format);
    columns c = {0};
    int status = CLI_OK;
    if (memchr(bytes, 0, size < SNIFFED ? size : SNIFFED))
        return cli_fail(cli, cli->args[0], "holds zero bytes: it is no text");
    if (how != TSV && (format->columns || format->id))
        return cli_usage(cli, "--columns, --id", "are for --format tsv, not %s", format->format);
    b->docs->numbered = how == LINES;
    size_t number = 0;
    const size_t mark = size >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* that it is UTF-8 */
    for (const char *at = bytes + mark, *end = bytes + size; at < end && status == CLI_OK;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((newline ? newline : end) - at), own = length;
        if (own && at[own - 1] == '\r') own--;
        if (number++ == 0 && how == TSV) status = find_columns(cli, format, at, own, &c);
        if (status == CLI_OK && own && !(number == 1 && c.header))
            status = add_line(b, how, &c, at, own, number);
        at += length + (newline != NULL);
        if (cli->run.progress && number % 1024 == 0)
            cli->run.progress(cli->run.progress_ctx, "reading", (uint64_t)(at - bytes), size);
    }
    return status;
}

/* ---- A folder ---- */

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

#define MAX_FILE ((uint64_t)1 << 30) /* longer ones are no documents */

static int add_file(batch *b, const FTSENT *entry, size_t root)
{
    size_t size;
    const char *name = entry->fts_path + root;
    if ((uint64_t)entry->fts_statp->st_size > MAX_FILE) {
        b->docs->left_out++;
        return CLI_OK;
    }
    char *bytes = read_file(entry->fts_accpath, (size_t)entry->fts_statp->st_size, &size);
    if (!bytes) {
        b->docs->failed = cli_fail(b->cli, entry->fts_path, "%s", strerror(errno));
        return CLI_OK;
    }
    if (size > MAX_FILE || memchr(bytes, 0, size < SNIFFED ? size : SNIFFED)) {
        b->docs->left_out++;
        free(bytes);
        return CLI_OK;
    }
    return batch_add(b, name, strlen(name), 0, bytes, size, bytes);
}

static int read_folder(batch *b, const char *path)
{
    char *copy = strdup(path);
    if (!copy) return cli_fail(b->cli, NULL, "out of memory");
    size_t root = strlen(copy);
    while (root > 1 && copy[root - 1] == '/') copy[--root] = 0;
    root += strcmp(copy, "/") != 0;
    char *const roots[] = {copy, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
    int status = tree ? CLI_OK : cli_fail(b->cli, path, "%s", strerror(errno));
    for (FTSENT *entry; status == CLI_OK && (errno = 0, entry = fts_read(tree));) {
        if (entry->fts_level > 0 && entry->fts_name[0] == '.') {
            fts_set(tree, entry, FTS_SKIP);
        } else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
            b->docs->failed = cli_fail(b->cli, entry->fts_path, "%s", strerror(entry->fts_errno));
        } else if (entry->fts_info == FTS_SL || entry->fts_info == FTS_SLNONE) {
            b->docs->left_out++;
        } else if (entry->fts_info == FTS_F) {
            status = add_file(b, entry, root);
            if (b->cli->run.progress)
                b->cli->run.progress(b->cli->run.progress_ctx, "reading", b->docs->n, 0);
        }
        if (status == CLI_OK && cli_cancelled(b->cli)) status = cli_fail(b->cli, NULL, "interrupted");
    }
    if (tree && status == CLI_OK && errno != 0) status = cli_fail(b->cli, path, "%s", strerror(errno));
    if (tree) fts_close(tree);
    free(copy);
    return status;
}

/* ---- Either ---- */

int documents_read(cli_context *cli, const char *path, const documents_format *format,
                   const kith_texts_options *options, documents *docs)
{
    kith_error err;
    struct stat st;
    *docs = (documents){0};
    if (kith_texts_create(options, &docs->texts, &err) != KITH_OK) return cli_fail_error(cli, NULL, &err);
    bool standard = strcmp(path, "-") == 0;
    if (!standard && stat(path, &st) != 0) return cli_fail(cli, path, "%s", strerror(errno));
    batch *b = calloc(1, sizeof *b);
    if (!b) return cli_fail(cli, NULL, "out of memory");
    b->cli = cli;
    b->docs = docs;
    char *bytes = NULL;
    int status;
    if (!standard && S_ISDIR(st.st_mode)) {
        status = read_folder(b, path);
    } else {
        size_t size;
        bytes = standard ? read_stream(stdin, 1 << 20, &size) : read_file(path, (size_t)st.st_size, &size);
        status = bytes ? read_lines(b, format, bytes, size) : cli_fail(cli, path, "%s", strerror(errno));
    }
    if (status == CLI_OK)
        status = batch_flush(b);
    else
        batch_drop(b);
    free(bytes);
    free(b);
    cli_progress_clear(cli);
    return status;
}

void documents_clear(documents *docs)
{
    kith_texts_free(docs->texts);
    free(docs->ids);
    free(docs->id_start);
    *docs = (documents){0};
}

const char *documents_id(const documents *docs, size_t i)
{
    static char numbers[4][24];
    static unsigned next;
    if (!docs->numbered) return docs->ids + docs->id_start[i];
    char *number = numbers[next++ % 4];
    snprintf(number, sizeof numbers[0], "%zu", docs->id_start[i]);
    return number;
}

json_t *documents_id_json(const documents *docs, size_t i)
{
    if (docs->numbered) return json_integer((json_int_t)docs->id_start[i]);
    return cli_json_text(docs->ids + docs->id_start[i]);
}
