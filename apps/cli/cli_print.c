/* cli_print.c - messages on stderr, JSON lines and tables on stdout. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

/* Text that may hold anything, for a terminal: control characters would move the cursor or worse. */
static void make_printable(char *text)
{
    for (; text && *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

static void message(cli_context *cli, const char *what, const char *why, va_list rest)
{
    cli_progress_clear(cli);
    fprintf(stderr, "kith %s: ", cli->verb->name);
    char *name = what ? strdup(what) : NULL;
    make_printable(name);
    if (what) fprintf(stderr, "%s: ", name ? name : "?");
    free(name);
    vfprintf(stderr, why, rest);
    fputc('\n', stderr);
}

int cli_fail(cli_context *cli, const char *what, const char *why, ...)
{
    va_list rest;
    va_start(rest, why);
    message(cli, what, why, rest);
    va_end(rest);
    return CLI_FAILED;
}

int cli_usage(cli_context *cli, const char *what, const char *why, ...)
{
    va_list rest;
    va_start(rest, why);
    message(cli, what, why, rest);
    va_end(rest);
    return CLI_USAGE;
}

int cli_fail_error(cli_context *cli, const char *what, const kith_error *err)
{
    if (what) return cli_fail(cli, what, "%s", err->message);
    return cli_fail(cli, NULL, "%s", err->message);
}

int cli_fail_message(cli_context *cli, const char *path, const kith_error *err)
{
    bool said = strncmp(err->message, path, strlen(path)) == 0;
    for (size_t i = 0; i < cli->n_args && !said; i++) {
        size_t length = strlen(cli->args[i]);
        said = length > 0 && strncmp(err->message, cli->args[i], length) == 0 && err->message[length] == ':';
    }
    return cli_fail_error(cli, said ? NULL : path, err);
}

void cli_note(cli_context *cli, const char *format, ...)
{
    if (cli->quiet) return;
    va_list rest;
    va_start(rest, format);
    message(cli, NULL, format, rest);
    va_end(rest);
}

int cli_flush(cli_context *cli)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return CLI_OK;
    return cli_fail(cli, "standard output", "%s", strerror(errno));
}

int cli_json_line(cli_context *cli, json_t *object)
{
    if (!object) return cli_fail(cli, "JSON", "out of memory, or text that is not UTF-8");
    cli_progress_clear(cli);
    int failed = json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(object);
    if (failed) return cli_fail(cli, "standard output", "%s", strerror(errno));
    putchar('\n');
    return cli_flush(cli);
}

json_t *cli_json_float(float value)
{
    if (!isfinite(value)) return json_null();
    char text[32];
    for (int digits = 6; digits <= 9; digits++) { /* 9 digits always bring a float32 back */
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    return json_real(strtod(text, NULL));
}

json_t *cli_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* The length of the UTF-8 sequence at s, 0 when it is not one (RFC 3629: no overlong forms, no surrogates).
 */
static size_t utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

json_t *cli_json_text(const char *text)
{
    json_t *string = json_string(text);
    if (string) return string;
    char *clean = malloc(3 * strlen(text) + 1), *to = clean;
    if (!clean) return NULL;
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        size_t length = utf8_length(at);
        if (length == 0) {
            memcpy(to, "\xef\xbf\xbd", 3);
            to += 3;
            at++;
        } else {
            memcpy(to, at, length);
            to += length;
            at += length;
        }
    }
    *to = 0;
    string = json_string(clean);
    free(clean);
    return string;
}

/* ---- tables
 * ------------------------------------------------------------------------------------------------ */

static void table_put(cli_table *table, char *cell)
{
    if (table->n == table->room) {
        size_t room = table->room ? 2 * table->room : 64;
        char **cells = realloc(table->cells, room * sizeof *cells);
        if (!cells) {
            free(cell);
            table->columns = 0; /* remembered: printing fails */
            return;
        }
        table->cells = cells;
        table->room = room;
    }
    table->cells[table->n++] = cell;
}

void cli_table_init(cli_table *table, const char *const *headings, size_t columns)
{
    *table = (cli_table){.columns = columns};
    for (size_t c = 0; c < columns; c++) table_put(table, strdup(headings[c]));
}

void cli_table_cell(cli_table *table, const char *format, ...)
{
    char *cell = NULL;
    va_list rest;
    va_start(rest, format);
    if (vasprintf(&cell, format, rest) < 0) cell = NULL;
    va_end(rest);
    make_printable(cell);
    table_put(table, cell);
}

/* Columns that a text takes on a terminal; bytes where it is not text of this locale. */
static size_t width_of(const char *text)
{
    size_t n = mbstowcs(NULL, text, 0);
    if (n == (size_t)-1 || n > 4096) return strlen(text);
    wchar_t wide[4097];
    mbstowcs(wide, text, n + 1);
    int width = wcswidth(wide, n);
    return width < 0 ? strlen(text) : (size_t)width;
}

static void print_cell(const char *text, size_t width, bool right, bool last)
{
    size_t own = width_of(text);
    int pad = width > own ? (int)(width - own) : 0;
    if (right)
        printf("%*s%s", pad, "", text);
    else
        printf("%s%*s", text, last ? 0 : pad, "");
    fputs(last ? "\n" : "  ", stdout);
}

int cli_table_print(cli_context *cli, cli_table *table)
{
    size_t columns = table->columns, widths[32] = {0};
    bool right[32] = {0}, whole = columns > 0 && columns <= 32;
    for (size_t i = 0; i < table->n; i++) whole = whole && table->cells[i];
    cli_progress_clear(cli);
    for (size_t c = 0; whole && c < columns; c++) {
        right[c] = table->cells[c][0] == '>';
        if (right[c]) memmove(table->cells[c], table->cells[c] + 1, strlen(table->cells[c]));
    }
    for (size_t i = 0; whole && i < table->n; i++) {
        size_t width = width_of(table->cells[i]);
        if (width > widths[i % columns]) widths[i % columns] = width;
    }
    for (size_t i = 0; whole && i < table->n; i++) {
        size_t c = i % columns;
        print_cell(table->cells[i], widths[c], right[c], c + 1 == columns);
    }
    for (size_t i = 0; i < table->n; i++) free(table->cells[i]);
    free(table->cells);
    *table = (cli_table){0};
    return whole ? cli_flush(cli) : cli_fail(cli, "table", "out of memory");
}

/* ---- numbers for people
 * ------------------------------------------------------------------------------------ */

enum { RING_BYTES = 64 };

static char *ring(void)
{
    static char buffers[8][RING_BYTES];
    static unsigned next;
    return buffers[next++ % 8];
}

static char *with_commas(uint64_t n)
{
    char digits[24], *out = ring(), *to = out;
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return out;
}

const char *cli_thousands(uint64_t n)
{
    return with_commas(n);
}

const char *cli_counted(uint64_t n, const char *noun)
{
    char *out = with_commas(n);
    size_t length = strlen(out);
    snprintf(out + length, RING_BYTES - length, " %s%s", noun, n == 1 ? "" : "s");
    return out;
}

const char *cli_bytes(uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 999.95 && unit < 6; unit++) value /= 1000;
    char *out = ring();
    snprintf(out, RING_BYTES, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}
