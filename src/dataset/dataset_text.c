/* Text: a row a line.
 *
 * Fields are separated by spaces and tabs, or by commas (with spaces around them): by commas when the last two
 * fields of the first row are. Lines without a field are passed over. Two habits of word-vector files are known:
 * a word before the numbers (GloVe; it may hold spaces, the numbers are counted from the right), and a first line
 * with the number of rows and the dim (word2vec), which must tell the truth.
 *
 * Opening passes over the file once to count rows, and notes where every 256th begins, so that any row is found
 * again by reading at most 256 lines. Numbers are parsed when rows are read. */
#include "dataset/dataset_internal.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define STRIDE 256                        /* rows from one noted place to the next */
#define LINE_MAX_BYTES ((size_t)64 << 20) /* 64 bytes for each component of the largest dim */

typedef struct text {
    const ki_dataset_file *file;
    int commas; /* fields are separated by commas */
    int words;  /* a word stands before the numbers */
    size_t dim;
    uint64_t rows, lines; /* lines that are not blank; rows, or one more with a word2vec head */

    uint64_t *places; /* [place_n], the offset of every STRIDE-th line */
    size_t place_n, place_room;

    char *buffer; /* [room]: bytes [at, at + used) of the file */
    size_t room, used;
    uint64_t at;
    uint64_t line, offset; /* the next line to be read, and where it begins (or blank lines before it) */
} text;

typedef struct field {
    const char *at;
    size_t length;
} field;

static int is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* ---- fields of a line ---- */

/* The next field of [*at, end): 1, or 0 at the end of the line. Between commas a field may be empty. */
static int next_field(const char **at, const char *end, int commas, field *f)
{
    const char *p = *at;
    while (p < end && is_space(*p)) p++;
    if (p == end) return 0;
    const char *start = p;
    while (p < end && (commas ? *p != ',' : !is_space(*p))) p++;
    const char *stop = p;
    while (stop > start && is_space(stop[-1])) stop--;
    *f = (field){start, (size_t)(stop - start)};
    *at = p < end ? p + 1 : end;
    return 1;
}

static size_t count_fields(const char *at, const char *end, int commas)
{
    field f;
    size_t n = 0;
    while (next_field(&at, end, commas, &f)) n++;
    return n;
}

/* Whether the separator before the last field holds a comma. */
static int ends_in_commas(const char *at, const char *end)
{
    while (end > at && is_space(end[-1])) end--;
    while (end > at && !is_space(end[-1]) && end[-1] != ',') end--;
    while (end > at && is_space(end[-1])) end--;
    /* A comma that is glued to a word before it, "a, 1", separates; one that stands alone at the start is a
     * word (GloVe's first row). */
    if (end == at || end[-1] != ',') return 0;
    while (is_space(*at)) at++;
    return at < end - 1;
}

static int is_number(field f)
{
    float value;
    return ki_text_parse(f.at, f.length, &value);
}

/* A whole number, for a word2vec head. */
static int is_count(field f, uint64_t *count)
{
    *count = 0;
    if (f.length == 0 || f.length > 18) return 0;
    for (size_t i = 0; i < f.length; i++) {
        if (f.at[i] < '0' || f.at[i] > '9') return 0;
        *count = *count * 10 + (uint64_t)(f.at[i] - '0');
    }
    return 1;
}

/* ---- lines of the file ---- */

/* Have the bytes from `offset` on in the buffer: as many as fit, up to the end of the file. */
static kith_status fill(text *t, uint64_t offset, kith_error *err)
{
    uint64_t left = t->file->bytes - offset;
    size_t size = left < t->room ? (size_t)left : t->room;
    t->used = 0;
    KI_TRY(ki_dataset_file_read(t->file, offset, t->buffer, size, err));
    t->at = offset;
    t->used = size;
    return KITH_OK;
}

static kith_status widen(text *t, kith_error *err)
{
    if (t->room >= LINE_MAX_BYTES)
        return ki_fail(err, KITH_UNSUPPORTED, "%s: line %llu is longer than %zu bytes", t->file->path,
                       (unsigned long long)t->line, LINE_MAX_BYTES);
    char *wider = ki_alloc(t->file->allocator, t->room * 2, 1);
    if (!wider) return ki_fail_nomem(err, t->room * 2);
    ki_free(t->file->allocator, t->buffer);
    t->buffer = wider;
    t->room *= 2;
    t->used = 0;
    return KITH_OK;
}

/* The next line that is not blank, without its end; it stays until the next call. Not to be called at the end. */
static kith_status next_line(text *t, const char **line, const char **end, kith_error *err)
{
    for (;;) {
        if (t->offset >= t->file->bytes)
            return ki_fail(err, KITH_CORRUPT, "%s: became shorter while it was read", t->file->path);
        if (t->offset < t->at || t->offset >= t->at + t->used) KI_TRY(fill(t, t->offset, err));
        const char *start = t->buffer + (t->offset - t->at);
        size_t size = t->used - (size_t)(t->offset - t->at);
        const char *stop = memchr(start, '\n', size);
        if (!stop && t->at + t->used < t->file->bytes) { /* the line goes on beyond the buffer */
            if (t->offset == t->at && t->used == t->room) KI_TRY(widen(t, err));
            KI_TRY(fill(t, t->offset, err));
            continue;
        }
        t->offset += stop ? (size_t)(stop - start) + 1 : size;
        if (!stop) stop = start + size;
        const char *p = start;
        while (p < stop && is_space(*p)) p++;
        if (p == stop) continue;
        t->line++;
        *line = start;
        *end = stop;
        return KITH_OK;
    }
}

/* Go to line i, counted without blank ones. */
static kith_status seek(text *t, uint64_t i, kith_error *err)
{
    const char *line, *end;
    if (i < t->line || i / STRIDE > t->line / STRIDE) {
        t->line = i / STRIDE * STRIDE;
        t->offset = t->places[i / STRIDE];
    }
    while (t->line < i) KI_TRY(next_line(t, &line, &end, err));
    return KITH_OK;
}

/* ---- reading ---- */

static kith_status bad_row(const text *t, uint64_t row, size_t found, kith_error *err)
{
    return ki_fail(err, KITH_CORRUPT, "%s: row %llu has %zu numbers, expected %zu", t->file->path,
                   (unsigned long long)row, found, t->dim);
}

/* One line's numbers into out[dim]. */
static kith_status parse_row(const text *t, uint64_t row, const char *at, const char *end, float *out,
                             kith_error *err)
{
    field f = {at, 0};
    size_t n = count_fields(at, end, t->commas);
    if (n < t->dim + (size_t)t->words) return bad_row(t, row, n - (n > 0 && t->words), err);
    /* What is before the last dim fields is the word; a second number there is a row that is too long. */
    size_t extra = n - t->dim;
    for (size_t i = 0; i < extra; i++) next_field(&at, end, t->commas, &f);
    if (extra > (size_t)t->words && (!t->words || t->commas || is_number(f)))
        return bad_row(t, row, n - (size_t)t->words, err);
    for (size_t d = 0; d < t->dim; d++) {
        next_field(&at, end, t->commas, &f);
        if (!ki_text_parse(f.at, f.length, &out[d]))
            return ki_fail(err, KITH_FORMAT,
                           "%s: row %llu, component %zu is '%.*s', which is no finite float32", t->file->path,
                           (unsigned long long)row, d, (int)(f.length < 24 ? f.length : 24), f.at);
    }
    return KITH_OK;
}

static kith_status text_read(void *ctx, uint64_t first, size_t n, void *rows, kith_error *err)
{
    text *t = ctx;
    uint64_t head = t->lines - t->rows;
    KI_TRY(seek(t, first + head, err));
    for (size_t i = 0; i < n; i++) {
        const char *line, *end;
        KI_TRY(next_line(t, &line, &end, err));
        KI_TRY(parse_row(t, first + i, line, end, (float *)rows + i * t->dim, err));
    }
    return KITH_OK;
}

static void text_close(void *ctx)
{
    text *t = ctx;
    const kith_allocator *allocator = t->file->allocator;
    ki_free(allocator, t->buffer);
    ki_free(allocator, t->places);
    ki_free(allocator, t);
}

/* ---- opening ---- */

/* Note where the line that begins at `offset` is, if it is one of every STRIDE. */
static kith_status note_place(text *t, uint64_t offset, kith_error *err)
{
    if (t->lines++ % STRIDE) return KITH_OK;
    if (t->place_n == t->place_room) {
        size_t room = ki_grown(t->place_room, t->place_n + 1);
        uint64_t *places = ki_realloc(t->file->allocator, t->places, t->place_n, room, sizeof *places);
        if (!places) return ki_fail_nomem(err, room * sizeof *places);
        t->places = places;
        t->place_room = room;
    }
    t->places[t->place_n++] = offset;
    return KITH_OK;
}

/* Count the lines that are not blank, whatever their length. */
static kith_status count_lines(text *t, kith_error *err)
{
    uint64_t start = 0; /* of the line that is being looked at */
    int blank = 1;
    for (uint64_t at = 0; at < t->file->bytes; at += t->used) {
        KI_TRY(fill(t, at, err));
        const char *p = t->buffer, *end = p + t->used;
        while (p < end) {
            const char *stop = memchr(p, '\n', (size_t)(end - p));
            const char *limit = stop ? stop : end;
            const char *q = p;
            while (blank && q < limit && is_space(*q)) q++;
            if (blank && q < limit) {
                blank = 0;
                KI_TRY(note_place(t, start, err));
            }
            if (!stop) break;
            p = stop + 1;
            start = at + (uint64_t)(p - t->buffer);
            blank = 1;
        }
    }
    t->rows = t->lines;
    if (t->lines == 0) return ki_fail(err, KITH_CORRUPT, "%s: has no rows", t->file->path);
    return KITH_OK;
}

/* Take the first line for a word2vec head if it looks like one: two counts, and the second line has not two
 * numbers. It is no row then; head[2]: the rows and dim that it tells. */
static kith_status look_for_head(text *t, uint64_t head[2], kith_error *err)
{
    const char *at, *end;
    field f[2] = {{0}};
    KI_TRY(next_line(t, &at, &end, err));
    if (t->lines < 2 || count_fields(at, end, 0) != 2) return KITH_OK;
    for (int i = 0; i < 2; i++) {
        next_field(&at, end, 0, &f[i]);
        if (!is_count(f[i], &head[i])) return KITH_OK;
    }
    KI_TRY(next_line(t, &at, &end, err));
    if (count_fields(at, end, 0) == 2) {
        next_field(&at, end, 0, &f[0]);
        next_field(&at, end, 0, &f[1]);
        if (is_number(f[0]) && is_number(f[1])) return KITH_OK;
    }
    t->rows--;
    return KITH_OK;
}

/* Learn separator, word and dim from the first row. */
static kith_status look_at_first_row(text *t, const uint64_t head[2], kith_error *err)
{
    const char *at, *end;
    field first = {0};
    int told = t->rows < t->lines;
    KI_TRY(seek(t, t->lines - t->rows, err));
    KI_TRY(next_line(t, &at, &end, err));
    t->commas = ends_in_commas(at, end);
    size_t n = count_fields(at, end, t->commas);
    const char *again = at;
    next_field(&again, end, t->commas, &first);
    t->words = told ? n > head[1] : !is_number(first);
    t->dim = told ? (size_t)head[1] : n - (size_t)t->words;
    KI_TRY(ki_dataset_check_dim(t->file->path, t->dim, err));
    if (told && head[0] != t->rows)
        return ki_fail(err, KITH_CORRUPT, "%s: its first line says %llu rows, it has %llu", t->file->path,
                       (unsigned long long)head[0], (unsigned long long)t->rows);
    return KITH_OK;
}

kith_status ki_dataset_open_text(const ki_dataset_file *file, kith_dataset_source *source, kith_error *err)
{
    uint64_t head[2] = {0, 0};
    text *t = ki_alloc_zero(file->allocator, 1, sizeof *t);
    if (!t) return ki_fail_nomem(err, sizeof *t);
    t->file = file;
    t->room = file->bytes < KI_DATASET_CHUNK ? (size_t)file->bytes : KI_DATASET_CHUNK;
    t->buffer = ki_alloc(file->allocator, t->room, 1);
    kith_status status = t->buffer ? KITH_OK : ki_fail_nomem(err, t->room);
    if (!status) status = count_lines(t, err);
    if (!status) status = look_for_head(t, head, err);
    if (!status) status = look_at_first_row(t, head, err);
    if (status) {
        text_close(t);
        return status;
    }
    source->ctx = t;
    source->rows = t->rows;
    source->dim = t->dim;
    source->element = KITH_ELEMENT_F32;
    source->read = text_read;
    source->close = text_close;
    return KITH_OK;
}
