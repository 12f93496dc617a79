/* csv.c - tables of comma separated values.
 *
 * RFC 4180 as it is written, and what spreadsheets do besides: lines may end in LF alone, the file may begin with a byte
 * order mark, and the last line need not end. Whatever is not clear is a fault: a quote within a field that did not begin
 * with one, text behind a closing quote, a zero byte, a quote that is never closed. */
#include "csv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void csv_begin(csv_reader *r, FILE *file, char separator, uint64_t bytes)
{
    *r = (csv_reader){.file = file, .separator = separator, .bytes = bytes};
}

void csv_clear(csv_reader *r)
{
    free(r->text);
    free(r->fields);
    *r = (csv_reader){0};
}

static int fail(csv_reader *r, const char *fault)
{
    r->fault = fault;
    return -1;
}

static int take(csv_reader *r)
{
    int c = getc_unlocked(r->file);
    r->bytes += c != EOF;
    return c;
}

static int keep(csv_reader *r, int c)
{
    if (r->size == r->room) {
        size_t room = r->room ? 2 * r->room : 4096;
        if (room > 2 * (size_t)CSV_MAX_RECORD) return fail(r, "a record of more than 64 MiB");
        char *text = realloc(r->text, room);
        if (!text) return fail(r, "out of memory");
        r->text = text;
        r->room = room;
    }
    r->text[r->size++] = (char)c;
    return 0;
}

/* The texts are found when the record is whole: until then they move. `size` holds the offset. */
static int begin_field(csv_reader *r)
{
    if (r->n == CSV_MAX_FIELDS) return fail(r, "more than 70000 fields");
    if (r->n == r->fields_room) {
        size_t room = r->fields_room ? 2 * r->fields_room : 64;
        csv_field *fields = realloc(r->fields, room * sizeof *fields);
        if (!fields) return fail(r, "out of memory");
        r->fields = fields;
        r->fields_room = room;
    }
    r->fields[r->n++] = (csv_field){.size = r->size};
    return 0;
}

/* Behind the opening quote. Returns what stands behind the closing one, or -2. */
static int read_quoted(csv_reader *r)
{
    for (;;) {
        int c = take(r);
        if (c == '"') {
            c = take(r);
            if (c != '"') return c == EOF ? '\n' : c;
        }
        if (c == EOF) return fail(r, "a quote is never closed"), -2;
        if (c == 0) return fail(r, "a zero byte"), -2;
        r->lines += c == '\n';
        if (keep(r, c) != 0) return -2;
    }
}

/* Behind its first character, which is c. Returns what ended it, or -2. */
static int read_plain(csv_reader *r, int c)
{
    for (; c != r->separator && c != '\n' && c != '\r' && c != EOF; c = take(r)) {
        if (c == '"') return fail(r, "a quote within a field that does not begin with one"), -2;
        if (c == 0) return fail(r, "a zero byte"), -2;
        if (keep(r, c) != 0) return -2;
    }
    return c == EOF ? '\n' : c;
}

/* A record whose first character is c. Returns 1 or -1. */
static int read_record(csv_reader *r, int c)
{
    for (;; c = take(r)) {
        if (begin_field(r) != 0) return -1;
        r->fields[r->n - 1].quoted = c == '"';
        int end = c == '"' ? read_quoted(r) : read_plain(r, c);
        if (end == -2 || keep(r, 0) != 0) return -1;
        if (end == '\r') {
            end = take(r);
            if (end == EOF) end = '\n';
            if (end != '\n') return fail(r, "a carriage return within a line");
        }
        if (end == '\n') return 1;
        if (end != r->separator) return fail(r, "text behind a closing quote");
    }
}

static void find_texts(csv_reader *r)
{
    for (size_t i = 0; i < r->n; i++) {
        size_t from = r->fields[i].size, to = i + 1 < r->n ? r->fields[i + 1].size : r->size;
        r->fields[i].text = r->text + from;
        r->fields[i].size = to - from - 1;
    }
}

int csv_read(csv_reader *r)
{
    static const unsigned char mark[] = {0xef, 0xbb, 0xbf};
    r->n = r->size = 0;
    r->fault = NULL;
    errno = 0;
    int c = take(r);
    if (r->bytes == 1 && c == mark[0]) {
        if (take(r) != mark[1] || take(r) != mark[2]) return fail(r, "not UTF-8");
        c = take(r);
    }
    for (; c == '\n' || c == '\r'; c = take(r)) r->lines += c == '\n';
    if (c == EOF) return ferror(r->file) ? fail(r, strerror(errno)) : 0;
    r->line = ++r->lines;
    if (read_record(r, c) != 1) return -1;
    if (ferror(r->file)) return fail(r, strerror(errno));
    find_texts(r);
    return 1;
}

int csv_write(FILE *file, char separator, const char *text, size_t size, int quote)
{
    for (size_t i = 0; i < size && !quote; i++)
        quote = text[i] == separator || text[i] == '"' || text[i] == '\n' || text[i] == '\r';
    if (!quote) return fwrite(text, 1, size, file) == size ? 0 : -1;
    if (putc_unlocked('"', file) == EOF) return -1;
    for (size_t i = 0; i < size; i++)
        if ((text[i] == '"' && putc_unlocked('"', file) == EOF) || putc_unlocked(text[i], file) == EOF)
            return -1;
    return putc_unlocked('"', file) == EOF ? -1 : 0;
}
