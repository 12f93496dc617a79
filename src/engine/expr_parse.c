/* expr_parse.c - filter expressions: from text to a tree.
 *
 * A tokenizer that looks one token ahead, and recursive descent, one function for each level of binding, loosest first:
 *
 *     or          and { ("or" | "||") and }
 *     and         not { ("and" | "&&") not }
 *     not         { "not" | "!" } comparison
 *     comparison  sum [ compare sum [ compare sum ] | ["not"] "in" list | ["not"] "like" string | "is" ["not"] "null" ]
 *     sum         product { ("+" | "-") product }
 *     product     sign { ("*" | "/" | "%") sign }
 *     sign        "-" sign | primary
 *     primary     "(" or ")" | literal | path | "exists" path | function "(" ... ")"
 *
 * Round brackets hold a condition or a value, which only their content tells; so every level may return either, and the
 * operators check what they get. Texts come from users of a server: depth, nodes and bytes are bounded. */
#include "engine/expr.h"

#include "engine/fields.h"
#include "engine/timestamp.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- Tokens ---- */

typedef enum token_kind {
    END,
    WORD,   /* a name or keyword */
    DOLLAR, /* $ */
    NUMBER,
    STRING,
    SIGN /* an operator or bracket */
} token_kind;

typedef struct token {
    token_kind kind;
    size_t at, size; /* in the text; a string with its quotes */
} token;

typedef struct parser {
    const char *text;
    size_t size;
    token now;
    ki_expr *expr;
    size_t depth;
    kith_error *err;
} parser;

static kith_status wrong(parser *p, size_t at, const char *what)
{
    return ki_fail(p->err, KITH_INVALID, "filter: at byte %zu: %s", at, what);
}

/* "expected WHAT, found TOKEN" */
static kith_status unexpected(parser *p, const char *what)
{
    if (p->now.kind == END)
        return ki_fail(p->err, KITH_INVALID, "filter: at byte %zu: %s expected, but it ends here", p->now.at,
                       what);
    int shown = p->now.size < 40 ? (int)p->now.size : 40;
    /* No half of a character is shown: the message is UTF-8. */
    while (shown < (int)p->now.size && shown > 0 && (p->text[p->now.at + (size_t)shown] & 0xc0) == 0x80)
        shown--;
    return ki_fail(p->err, KITH_INVALID, "filter: at byte %zu: %s expected, found %.*s", p->now.at, what,
                   shown, p->text + p->now.at);
}

static int is_space(char b)
{
    return b == ' ' || b == '\t' || b == '\n' || b == '\r';
}

static int is_digit(char b)
{
    return b >= '0' && b <= '9';
}

/* Names may hold any letter beyond ASCII. */
static int is_letter(char b)
{
    return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || b == '_' || (unsigned char)b >= 0x80;
}

static size_t number_size(const char *s)
{
    size_t n = strspn(s, "0123456789");
    if (s[n] == '.') n += 1 + strspn(s + n + 1, "0123456789");
    if (s[n] == 'e' || s[n] == 'E') {
        size_t sign = s[n + 1] == '+' || s[n + 1] == '-';
        size_t digits = strspn(s + n + 1 + sign, "0123456789");
        if (digits > 0) n += 1 + sign + digits;
    }
    return n;
}

/* The size of a string with its quotes; 0: it does not end. */
static size_t string_size(const char *s)
{
    for (size_t i = 1; s[i]; i++) {
        if (s[i] == '\\' && s[i + 1]) {
            i++;
        } else if (s[i] == s[0]) {
            return i + 1;
        }
    }
    return 0;
}

static kith_status advance(parser *p)
{
    size_t at = p->now.at + p->now.size;
    while (is_space(p->text[at])) at++;
    const char *s = p->text + at;
    token t = {.kind = SIGN, .at = at, .size = 1};
    if (!*s) {
        t.kind = END;
        t.size = 0;
    } else if (is_letter(*s)) {
        t.kind = WORD;
        while (is_letter(s[t.size]) || is_digit(s[t.size])) t.size++;
    } else if (is_digit(*s) || (*s == '.' && is_digit(s[1]))) {
        t.kind = NUMBER;
        t.size = number_size(s);
        if (is_letter(s[t.size]) || is_digit(s[t.size]))
            return wrong(p, at, "a number runs into what follows it");
    } else if (*s == '"' || *s == '\'') {
        t.kind = STRING;
        t.size = string_size(s);
        if (t.size == 0) return wrong(p, at, "a string begins here and does not end");
    } else if (*s == '$') {
        t.kind = DOLLAR;
    } else if (strchr("=!<>", *s) && s[1] == '=') {
        t.size = 2;
    } else if ((*s == '&' || *s == '|') && s[1] == *s) {
        t.size = 2;
    } else if (!strchr("<>!()[],.+-*/%", *s)) {
        if (*s == '=') return wrong(p, at, "'=' is no operator here: equality is '=='");
        return wrong(p, at, "a character that has no meaning here");
    }
    p->now = t;
    return KITH_OK;
}

static int is_sign(const parser *p, const char *sign)
{
    return p->now.kind == SIGN && p->now.size == strlen(sign) &&
           memcmp(p->text + p->now.at, sign, p->now.size) == 0;
}

static int is_word(const parser *p, const char *word)
{
    return p->now.kind == WORD && p->now.size == strlen(word) &&
           strncasecmp(p->text + p->now.at, word, p->now.size) == 0;
}

static kith_status expect(parser *p, const char *sign)
{
    char what[16];
    snprintf(what, sizeof what, "'%s'", sign);
    return is_sign(p, sign) ? advance(p) : unexpected(p, what);
}

/* Take the token if it is this one. */
static kith_status take_sign(parser *p, const char *sign, int *taken)
{
    *taken = is_sign(p, sign);
    return *taken ? advance(p) : KITH_OK;
}

static kith_status take_word(parser *p, const char *word, int *taken)
{
    *taken = is_word(p, word);
    return *taken ? advance(p) : KITH_OK;
}

/* ---- Nodes ---- */

static ki_expr_node *node(parser *p, uint32_t i)
{
    return (ki_expr_node *)(void *)p->expr->nodes.data + i;
}

/* The place in the text where the node's token stood is kept beside it only while parsing: nodes are made in the order
 * of the text, so their parent knows. */
static kith_status new_node(parser *p, ki_expr_op op, uint32_t *made)
{
    ki_buffer *nodes = &p->expr->nodes;
    size_t n = nodes->size / sizeof(ki_expr_node);
    if (n > KI_EXPR_MAX_NODES)
        return ki_fail(p->err, KITH_INVALID, "filter: at byte %zu: longer than %d parts", p->now.at,
                       KI_EXPR_MAX_NODES);
    ki_expr_node fresh;
    memset(&fresh, 0, sizeof fresh);
    fresh.op = op;
    KI_TRY(ki_buffer_append(nodes, &fresh, sizeof fresh, p->expr->allocator, p->err));
    *made = (uint32_t)n;
    return KITH_OK;
}

/* A node over one or two children, which have no siblings yet. */
static kith_status new_parent(parser *p, ki_expr_op op, uint32_t a, uint32_t b, uint32_t *made)
{
    KI_TRY(new_node(p, op, made));
    node(p, *made)->first = a;
    node(p, a)->next = b;
    return KITH_OK;
}

static int is_condition(const parser *p, uint32_t i)
{
    return ki_expr_at(p->expr, i)->op < KI_EXPR_FIELD;
}

static kith_status enter(parser *p)
{
    if (++p->depth <= KI_EXPR_MAX_DEPTH) return KITH_OK;
    return ki_fail(p->err, KITH_INVALID, "filter: at byte %zu: nested deeper than %d levels", p->now.at,
                   KI_EXPR_MAX_DEPTH);
}

/* Make a condition of what may be a value: a field stands for itself being true. */
static kith_status to_condition(parser *p, size_t at, uint32_t *i)
{
    if (is_condition(p, *i)) return KITH_OK;
    ki_expr_op op = ki_expr_at(p->expr, *i)->op;
    if (op == KI_EXPR_FIELD) return new_parent(p, KI_EXPR_IS_TRUE, *i, 0, i);
    if (op == KI_EXPR_BOOL) { /* true == true */
        uint32_t yes = 0;
        KI_TRY(new_node(p, KI_EXPR_BOOL, &yes));
        node(p, yes)->integer = 1;
        return new_parent(p, KI_EXPR_EQ, *i, yes, i);
    }
    return wrong(p, at, "a condition is expected here, such as year > 1990");
}

static kith_status need_value(parser *p, size_t at, uint32_t i)
{
    return is_condition(p, i) ? wrong(p, at, "a value is expected here, not a condition") : KITH_OK;
}

static kith_status need_number(parser *p, size_t at, uint32_t i)
{
    KI_TRY(need_value(p, at, i));
    ki_expr_op op = ki_expr_at(p->expr, i)->op;
    if (op == KI_EXPR_STRING || op == KI_EXPR_PARTITION || op == KI_EXPR_BOOL)
        return wrong(p, at, "a number is expected here: only numbers are calculated with");
    return KITH_OK;
}

/* ---- Literals ---- */

static kith_status parse_real(parser *p, const char *digits, size_t size, double *value)
{
    /* strtod wants the decimal point of whatever locale the program has set. */
    char small[64], *copy = size < sizeof small ? small : ki_alloc(p->expr->allocator, size + 1, 1);
    if (!copy) return ki_fail_nomem(p->err, size + 1);
    memcpy(copy, digits, size);
    copy[size] = 0;
    char *point = strchr(copy, '.');
    const char *locales = localeconv()->decimal_point;
    if (point && locales[0] && !locales[1]) *point = locales[0];
    *value = strtod(copy, NULL);
    if (copy != small) ki_free(p->expr->allocator, copy);
    return isfinite(*value) ? KITH_OK : wrong(p, p->now.at, "a number beyond the range of a double");
}

static kith_status parse_number(parser *p, int negative, uint32_t *made)
{
    const char *digits = p->text + p->now.at;
    size_t size = p->now.size;
    if (strspn(digits, "0123456789") < size) {
        double value = 0;
        KI_TRY(parse_real(p, digits, size, &value));
        KI_TRY(new_node(p, KI_EXPR_REAL, made));
        node(p, *made)->real = negative ? -value : value;
        return advance(p);
    }
    int64_t value = 0;
    for (size_t i = 0; i < size; i++) { /* negative all the way: its range reaches one farther */
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, digits[i] - '0', &value))
            return wrong(p, p->now.at, "an integer beyond 64 bits");
    }
    if (!negative && value == INT64_MIN) return wrong(p, p->now.at, "an integer beyond 64 bits");
    KI_TRY(new_node(p, KI_EXPR_INT, made));
    node(p, *made)->integer = negative ? value : -value;
    return advance(p);
}

static size_t put_utf8(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* Four hexadecimal digits; -1 when they are not. */
static int32_t hex4(const char *s)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char b = s[i];
        int digit = b >= '0' && b <= '9'   ? b - '0'
                    : b >= 'a' && b <= 'f' ? b - 'a' + 10
                    : b >= 'A' && b <= 'F' ? b - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The character of \u and four digits, or of two that make a pair; *at is at the 'u' and moves to the last digit. */
static kith_status unicode_escape(parser *p, size_t *at, uint32_t *c)
{
    int32_t high = hex4(p->text + *at + 1), low;
    size_t begin = *at - 1;
    if (high < 0) return wrong(p, begin, "\\u needs four hexadecimal digits");
    if (high == 0) return wrong(p, begin, "no string holds the character NUL");
    *at += 4;
    *c = (uint32_t)high;
    if (high < 0xd800 || high > 0xdfff) return KITH_OK;
    if (high < 0xdc00 && p->text[*at + 1] == '\\' && p->text[*at + 2] == 'u' &&
        (low = hex4(p->text + *at + 3)) >= 0xdc00 && low <= 0xdfff) {
        *c = 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
        *at += 6;
        return KITH_OK;
    }
    return wrong(p, begin, "half of a surrogate pair is no character");
}

/* Append the content of the string at the current token to `out`, escapes resolved as in JSON, and \'. */
static kith_status append_string(parser *p, ki_buffer *out)
{
    static const char letters[] = "\"'\\/bfnrt", meanings[] = "\"'\\/\b\f\n\r\t";
    size_t end = p->now.at + p->now.size - 1;
    for (size_t i = p->now.at + 1; i < end; i++) {
        char bytes[4] = {p->text[i]};
        size_t n = 1;
        if (bytes[0] == '\\') {
            const char *found = strchr(letters, p->text[++i]);
            uint32_t c = 0;
            if (found && *found) {
                bytes[0] = meanings[found - letters];
            } else if (p->text[i] == 'u') {
                KI_TRY(unicode_escape(p, &i, &c));
                n = put_utf8(c, bytes);
            } else {
                return wrong(p, i - 1, "no escape: a backslash in a string is written \\\\");
            }
        }
        KI_TRY(ki_buffer_append(out, bytes, n, p->expr->allocator, p->err));
    }
    return KITH_OK;
}

static kith_status parse_string(parser *p, uint32_t *made)
{
    ki_buffer *texts = &p->expr->texts;
    size_t offset = texts->size;
    KI_TRY(append_string(p, texts));
    KI_TRY(new_node(p, KI_EXPR_STRING, made));
    node(p, *made)->text.offset = offset;
    node(p, *made)->text.size = texts->size - offset;
    return advance(p);
}

static kith_status parse_literal(parser *p, uint32_t *made)
{
    int negative;
    KI_TRY(take_sign(p, "-", &negative));
    if (p->now.kind == NUMBER) return parse_number(p, negative, made);
    if (!negative && p->now.kind == STRING) return parse_string(p, made);
    if (!negative && (is_word(p, "true") || is_word(p, "false"))) {
        int yes = is_word(p, "true");
        KI_TRY(new_node(p, KI_EXPR_BOOL, made));
        node(p, *made)->integer = yes;
        return advance(p);
    }
    return unexpected(p, negative ? "a number" : "a number, a string, true or false");
}

/* "[" literals "]", or one literal where `single` allows it; they become the siblings of `before`. */
static kith_status parse_list(parser *p, int single, uint32_t before)
{
    uint32_t item = 0;
    if (single && !is_sign(p, "[")) {
        KI_TRY(parse_literal(p, &item));
        node(p, before)->next = item;
        return KITH_OK;
    }
    KI_TRY(expect(p, "["));
    for (int more = !is_sign(p, "]"); more;) {
        KI_TRY(parse_literal(p, &item));
        node(p, before)->next = item;
        before = item;
        KI_TRY(take_sign(p, ",", &more));
    }
    return is_sign(p, "]") ? advance(p) : unexpected(p, "',' or ']'");
}

/* ---- Paths ---- */

static const char *const reserved[] = {"or", "and",  "not",    "in",   "like",
                                       "is", "null", "exists", "true", "false"};

static int is_reserved(const parser *p)
{
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (is_word(p, reserved[i])) return 1;
    return 0;
}

static kith_status append_step(parser *p, char kind, uint32_t value)
{
    ki_buffer *texts = &p->expr->texts;
    KI_TRY(ki_buffer_append(texts, &kind, 1, p->expr->allocator, p->err));
    return ki_buffer_append(texts, &value, sizeof value, p->expr->allocator, p->err);
}

static kith_status append_name(parser *p, const char *name, size_t size)
{
    ki_buffer *texts = &p->expr->texts;
    KI_TRY(append_step(p, 'n', 0));
    size_t start = texts->size;
    KI_TRY(ki_json_escape(name, size, texts, p->expr->allocator, p->err));
    uint32_t written = (uint32_t)(texts->size - start);
    memcpy(texts->data + start - sizeof written, &written, sizeof written);
    return KITH_OK;
}

/* ["name"] or [number]; the current token is behind "[". */
static kith_status parse_subscript(parser *p)
{
    if (p->now.kind == STRING) {
        ki_buffer name = {0};
        kith_status status = append_string(p, &name);
        if (status == KITH_OK) status = append_name(p, (const char *)name.data, name.size);
        ki_buffer_clear(&name, p->expr->allocator);
        if (status != KITH_OK) return status;
    } else {
        const char *digits = p->text + p->now.at;
        if (p->now.kind != NUMBER || p->now.size > 9 || strspn(digits, "0123456789") < p->now.size)
            return unexpected(p, "a name in quotes or the number of an element");
        KI_TRY(append_step(p, 'i', (uint32_t)strtoul(digits, NULL, 10)));
    }
    KI_TRY(advance(p));
    return expect(p, "]");
}

/* A field: name { "." name | "[" string "]" | "[" number "]" }, or $ and at least one step, or $key, or $partition. */
static kith_status parse_path(parser *p, uint32_t *made)
{
    ki_buffer *texts = &p->expr->texts;
    size_t offset = texts->size;
    if (p->now.kind == DOLLAR) {
        KI_TRY(advance(p));
        if (is_word(p, "key")) {
            KI_TRY(new_node(p, KI_EXPR_KEY, made));
            return advance(p);
        }
        if (is_word(p, "partition")) {
            KI_TRY(new_node(p, KI_EXPR_PARTITION, made));
            return advance(p);
        }
        if (!is_sign(p, ".") && !is_sign(p, "["))
            return unexpected(p, "$key, $partition, $.name or $[\"name\"]");
    } else {
        if (p->now.kind != WORD || is_reserved(p)) return unexpected(p, "the name of a field");
        KI_TRY(append_name(p, p->text + p->now.at, p->now.size));
        KI_TRY(advance(p));
    }
    for (;;) {
        int taken;
        KI_TRY(take_sign(p, "[", &taken));
        if (taken) {
            KI_TRY(parse_subscript(p));
            continue;
        }
        KI_TRY(take_sign(p, ".", &taken));
        if (!taken) break;
        if (p->now.kind != WORD) return unexpected(p, "a name");
        KI_TRY(append_name(p, p->text + p->now.at, p->now.size));
        KI_TRY(advance(p));
    }
    KI_TRY(new_node(p, KI_EXPR_FIELD, made));
    node(p, *made)->text.offset = offset;
    node(p, *made)->text.size = texts->size - offset;
    return KITH_OK;
}

/* A path that may not be the key: where something is asked of the payload. */
static kith_status parse_field(parser *p, uint32_t *made)
{
    size_t at = p->now.at;
    KI_TRY(parse_path(p, made));
    return ki_expr_at(p->expr, *made)->op == KI_EXPR_FIELD
               ? KITH_OK
               : wrong(p, at, "a field of the payload is expected");
}

/* ---- Moments ---- */

/* A string that stands for a moment becomes its number. */
static kith_status to_moment(ki_expr *expr, uint32_t i, kith_error *err)
{
    ki_expr_node *string = (ki_expr_node *)(void *)expr->nodes.data + i;
    const char *text = (const char *)expr->texts.data + string->text.offset;
    int64_t seconds;
    double fraction;
    if (!ki_timestamp_parse(text, string->text.size, &seconds, &fraction))
        return ki_fail(err, KITH_INVALID,
                       "filter: '%.*s' is no time: expected is 2024-05-01 or 2024-05-01T12:30:00Z",
                       string->text.size < 40 ? (int)string->text.size : 40, text);
    string->op = fraction > 0 ? KI_EXPR_REAL : KI_EXPR_INT;
    if (fraction > 0)
        string->real = (double)seconds + fraction;
    else
        string->integer = seconds;
    return KITH_OK;
}

/* The strings among i and its siblings. */
static kith_status all_to_moments(ki_expr *expr, uint32_t i, kith_error *err)
{
    for (; i; i = ki_expr_at(expr, i)->next)
        if (ki_expr_at(expr, i)->op == KI_EXPR_STRING) KI_TRY(to_moment(expr, i, err));
    return KITH_OK;
}

/* ---- Levels of binding ---- */

static kith_status parse_or(parser *p, uint32_t *made);

typedef enum function_form {
    CONTAINS_ONE,
    CONTAINS_LIST,
    LENGTH,
    MOMENT,  /* a field or a string */
    OF_POINT /* a field and numbers: 2 of DISTANCE, 4 of WITHIN */
} function_form;

static const struct {
    const char *name;
    ki_expr_op op;
    function_form form;
} functions[] = {
    {"array_contains", KI_EXPR_CONTAINS_ALL, CONTAINS_ONE},
    {"array_contains_all", KI_EXPR_CONTAINS_ALL, CONTAINS_LIST},
    {"array_contains_any", KI_EXPR_CONTAINS_ANY, CONTAINS_LIST},
    {"array_length", KI_EXPR_LENGTH, LENGTH},
    {"geo_distance", KI_EXPR_DISTANCE, OF_POINT},
    {"geo_within", KI_EXPR_WITHIN, OF_POINT},
    {"json_contains", KI_EXPR_CONTAINS_ALL, CONTAINS_ONE},
    {"json_contains_all", KI_EXPR_CONTAINS_ALL, CONTAINS_LIST},
    {"json_contains_any", KI_EXPR_CONTAINS_ANY, CONTAINS_LIST},
    {"time", KI_EXPR_TIME, MOMENT},
};
#define N_FUNCTIONS (sizeof functions / sizeof *functions)

/* Which function stands here; N_FUNCTIONS: none. A field may have such a name: the bracket decides. */
static size_t which_function(const parser *p)
{
    size_t i = 0, behind = p->now.at + p->now.size;
    while (i < N_FUNCTIONS && !is_word(p, functions[i].name)) i++;
    while (is_space(p->text[behind])) behind++;
    return p->now.kind == WORD && p->text[behind] == '(' ? i : N_FUNCTIONS;
}

/* Degrees: south and north or a latitude -90..90, the others -180..180. */
static kith_status parse_degrees(parser *p, double most, uint32_t before, uint32_t *made)
{
    int negative;
    size_t at = p->now.at;
    KI_TRY(expect(p, ","));
    KI_TRY(take_sign(p, "-", &negative));
    if (p->now.kind != NUMBER) return unexpected(p, "a number of degrees");
    KI_TRY(parse_number(p, negative, made));
    ki_expr_node *number = node(p, *made);
    if (number->op == KI_EXPR_INT) number->real = (double)number->integer;
    number->op = KI_EXPR_REAL;
    node(p, before)->next = *made;
    return fabs(number->real) <= most ? KITH_OK
                                      : wrong(p, at + 1, "degrees: latitude -90..90, longitude -180..180");
}

/* geo_distance(field, latitude, longitude), geo_within(field, south, west, north, east) */
static kith_status parse_of_point(parser *p, ki_expr_op op, uint32_t *made)
{
    uint32_t point = 0;
    KI_TRY(parse_field(p, &point));
    node(p, point)->op = KI_EXPR_POINT;
    KI_TRY(new_parent(p, op, point, 0, made));
    for (int pairs = op == KI_EXPR_WITHIN ? 2 : 1; pairs > 0; pairs--) {
        KI_TRY(parse_degrees(p, 90, point, &point));
        KI_TRY(parse_degrees(p, 180, point, &point));
    }
    return expect(p, ")");
}

/* time(field), time("2024-05-01") */
static kith_status parse_moment(parser *p, uint32_t *made)
{
    if (p->now.kind == STRING) {
        KI_TRY(parse_string(p, made));
        KI_TRY(to_moment(p->expr, *made, p->err));
    } else {
        KI_TRY(parse_field(p, made));
        node(p, *made)->op = KI_EXPR_TIME;
    }
    return expect(p, ")");
}

static kith_status parse_function(parser *p, size_t which, uint32_t *made)
{
    uint32_t field = 0;
    KI_TRY(advance(p));
    KI_TRY(expect(p, "("));
    if (functions[which].form == MOMENT) return parse_moment(p, made);
    if (functions[which].form == OF_POINT) return parse_of_point(p, functions[which].op, made);
    KI_TRY(parse_field(p, &field));
    KI_TRY(new_parent(p, functions[which].op, field, 0, made));
    if (functions[which].form != LENGTH) {
        KI_TRY(expect(p, ","));
        if (functions[which].form == CONTAINS_ONE && is_sign(p, "["))
            return unexpected(p, "one value (array_contains_all and array_contains_any take a list)");
        KI_TRY(parse_list(p, functions[which].form == CONTAINS_ONE, field));
    }
    return expect(p, ")");
}

static kith_status parse_primary(parser *p, uint32_t *made)
{
    int taken;
    uint32_t field = 0;
    KI_TRY(take_sign(p, "(", &taken));
    if (taken) {
        KI_TRY(parse_or(p, made));
        return expect(p, ")");
    }
    KI_TRY(take_word(p, "exists", &taken));
    if (taken) {
        KI_TRY(parse_field(p, &field));
        return new_parent(p, KI_EXPR_EXISTS, field, 0, made);
    }
    if (p->now.kind == NUMBER || p->now.kind == STRING || is_word(p, "true") || is_word(p, "false"))
        return parse_literal(p, made);
    size_t function = which_function(p);
    if (function < N_FUNCTIONS) return parse_function(p, function, made);
    if (p->now.kind == WORD && !is_reserved(p)) {
        KI_TRY(parse_path(p, made));
        return is_sign(p, "(") ? wrong(p, p->now.at, "there is no function of this name") : KITH_OK;
    }
    return p->now.kind == DOLLAR ? parse_path(p, made) : unexpected(p, "a field, a value or '('");
}

static kith_status parse_sign(parser *p, uint32_t *made)
{
    size_t behind = p->now.at + 1;
    while (is_sign(p, "-") && is_space(p->text[behind])) behind++;
    if (!is_sign(p, "-")) return parse_primary(p, made);
    if (is_digit(p->text[behind]) || p->text[behind] == '.') return parse_literal(p, made);
    KI_TRY(enter(p));
    KI_TRY(advance(p));
    size_t at = p->now.at;
    uint32_t operand = 0;
    KI_TRY(parse_sign(p, &operand));
    KI_TRY(need_number(p, at, operand));
    p->depth--;
    return new_parent(p, KI_EXPR_NEG, operand, 0, made);
}

/* A chain of operators that bind from the left; each makes the tree a level deeper. */
static kith_status parse_chain(parser *p, kith_status (*operand)(parser *, uint32_t *),
                               const char *const *signs, const ki_expr_op *ops, size_t n, uint32_t *made)
{
    size_t at = p->now.at, depth = p->depth;
    KI_TRY(operand(p, made));
    for (size_t i = 0; i < n;) {
        if (!is_sign(p, signs[i])) {
            i++;
            continue;
        }
        uint32_t right = 0;
        KI_TRY(need_number(p, at, *made));
        KI_TRY(enter(p));
        KI_TRY(advance(p));
        at = p->now.at;
        KI_TRY(operand(p, &right));
        KI_TRY(need_number(p, at, right));
        KI_TRY(new_parent(p, ops[i], *made, right, made));
        i = 0;
    }
    p->depth = depth;
    return KITH_OK;
}

static kith_status parse_product(parser *p, uint32_t *made)
{
    static const char *const signs[] = {"*", "/", "%"};
    static const ki_expr_op ops[] = {KI_EXPR_MUL, KI_EXPR_DIV, KI_EXPR_MOD};
    return parse_chain(p, parse_sign, signs, ops, 3, made);
}

static kith_status parse_sum(parser *p, uint32_t *made)
{
    static const char *const signs[] = {"+", "-"};
    static const ki_expr_op ops[] = {KI_EXPR_ADD, KI_EXPR_SUB};
    return parse_chain(p, parse_product, signs, ops, 2, made);
}

static int compare_op(const parser *p, ki_expr_op *op)
{
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">="};
    for (size_t i = 0; i < 6; i++)
        if (is_sign(p, signs[i])) {
            *op = (ki_expr_op)(KI_EXPR_EQ + i);
            return 1;
        }
    return 0;
}

static int is_text(ki_expr_op op)
{
    return op == KI_EXPR_STRING || op == KI_EXPR_PARTITION;
}

static int is_number(ki_expr_op op)
{
    return op > KI_EXPR_FIELD && !is_text(op) && op != KI_EXPR_BOOL;
}

/* What can never hold is a slip of the pen: said, not searched for. */
static kith_status check_compare(parser *p, size_t at, ki_expr_op op, uint32_t a, uint32_t b)
{
    KI_TRY(need_value(p, at, a));
    KI_TRY(need_value(p, at, b));
    ki_expr_op left = ki_expr_at(p->expr, a)->op, right = ki_expr_at(p->expr, b)->op;
    if (left == KI_EXPR_TIME && right == KI_EXPR_STRING) return to_moment(p->expr, b, p->err);
    if (left == KI_EXPR_STRING && right == KI_EXPR_TIME) return to_moment(p->expr, a, p->err);
    if (op >= KI_EXPR_LT && (left == KI_EXPR_BOOL || right == KI_EXPR_BOOL))
        return wrong(p, at, "true and false have no order");
    if ((is_text(left) && is_number(right)) || (is_number(left) && is_text(right)))
        return wrong(p, at, "a string and a number are compared");
    return KITH_OK;
}

/* The second half of 1 < x <= 5: the value in the middle stands in both comparisons. */
static kith_status parse_range(parser *p, ki_expr_op first_op, uint32_t left, uint32_t middle, uint32_t *made)
{
    ki_expr_op op = KI_EXPR_EQ;
    size_t at = p->now.at;
    uint32_t copy = 0, right = 0, second = 0, lower = 0;
    int up = first_op == KI_EXPR_LT || first_op == KI_EXPR_LE;
    compare_op(p, &op);
    if (first_op < KI_EXPR_LT || op < KI_EXPR_LT || up != (op == KI_EXPR_LT || op == KI_EXPR_LE))
        return wrong(p, at, "only a range may have two signs, as in 1 < x <= 5");
    KI_TRY(advance(p));
    KI_TRY(parse_sum(p, &right));
    KI_TRY(check_compare(p, at, op, middle, right));
    /* Its children may be shared: nothing writes to them any more. */
    ki_expr_node shared = *ki_expr_at(p->expr, middle);
    KI_TRY(new_node(p, shared.op, &copy));
    shared.next = 0;
    *node(p, copy) = shared;
    KI_TRY(new_parent(p, first_op, left, middle, &lower));
    KI_TRY(new_parent(p, op, copy, right, &second));
    return new_parent(p, KI_EXPR_AND, lower, second, made);
}

static kith_status parse_is_null(parser *p, size_t at, uint32_t value, uint32_t *made)
{
    int negated;
    KI_TRY(take_word(p, "not", &negated));
    if (!is_word(p, "null")) return unexpected(p, "null");
    KI_TRY(advance(p));
    ki_expr_op op = ki_expr_at(p->expr, value)->op;
    if (op != KI_EXPR_FIELD && op != KI_EXPR_PARTITION) return wrong(p, at, "only a field may be null");
    KI_TRY(new_parent(p, KI_EXPR_IS_NULL, value, 0, made));
    return negated ? new_parent(p, KI_EXPR_NOT, *made, 0, made) : KITH_OK;
}

static kith_status parse_in_or_like(parser *p, size_t at, uint32_t value, uint32_t *made)
{
    int negated, in;
    KI_TRY(take_word(p, "not", &negated));
    KI_TRY(need_value(p, at, value));
    KI_TRY(take_word(p, "in", &in));
    if (in) {
        KI_TRY(new_parent(p, KI_EXPR_IN, value, 0, made));
        KI_TRY(parse_list(p, 0, value));
        if (ki_expr_at(p->expr, value)->op == KI_EXPR_TIME)
            KI_TRY(all_to_moments(p->expr, ki_expr_at(p->expr, value)->next, p->err));
    } else {
        if (!is_word(p, "like")) return unexpected(p, "in or like");
        KI_TRY(advance(p));
        uint32_t pattern = 0;
        if (p->now.kind != STRING) return unexpected(p, "a string");
        size_t pattern_at = p->now.at;
        KI_TRY(parse_string(p, &pattern));
        if (ki_expr_at(p->expr, pattern)->text.size > KI_EXPR_MAX_PATTERN)
            return wrong(p, pattern_at, "a pattern longer than 1024 bytes");
        if (is_number(ki_expr_at(p->expr, value)->op))
            return wrong(p, at, "a number is compared with a pattern");
        KI_TRY(new_parent(p, KI_EXPR_LIKE, value, pattern, made));
    }
    return negated ? new_parent(p, KI_EXPR_NOT, *made, 0, made) : KITH_OK;
}

static kith_status parse_comparison(parser *p, uint32_t *made)
{
    size_t at = p->now.at;
    ki_expr_op op, other;
    KI_TRY(parse_sum(p, made));
    if (is_word(p, "in") || is_word(p, "like") || is_word(p, "not"))
        return parse_in_or_like(p, at, *made, made);
    if (is_word(p, "is")) {
        KI_TRY(advance(p));
        return parse_is_null(p, at, *made, made);
    }
    if (!compare_op(p, &op)) return KITH_OK;
    uint32_t right = 0;
    size_t sign_at = p->now.at;
    KI_TRY(advance(p));
    KI_TRY(parse_sum(p, &right));
    KI_TRY(check_compare(p, sign_at, op, *made, right));
    if (compare_op(p, &other)) return parse_range(p, op, *made, right, made);
    return new_parent(p, op, *made, right, made);
}

static kith_status parse_not(parser *p, uint32_t *made)
{
    if (!is_word(p, "not") && !is_sign(p, "!")) {
        KI_TRY(enter(p));
        KI_TRY(parse_comparison(p, made));
        p->depth--;
        return KITH_OK;
    }
    KI_TRY(enter(p));
    KI_TRY(advance(p));
    size_t at = p->now.at;
    uint32_t operand = 0;
    KI_TRY(parse_not(p, &operand));
    KI_TRY(to_condition(p, at, &operand));
    p->depth--;
    return new_parent(p, KI_EXPR_NOT, operand, 0, made);
}

/* Conditions joined by one operator become the children of one node, so that a long chain is not deep. */
static kith_status parse_joined(parser *p, ki_expr_op op, const char *word, const char *sign,
                                kith_status (*operand)(parser *, uint32_t *), uint32_t *made)
{
    size_t at = p->now.at;
    KI_TRY(operand(p, made));
    if (!is_word(p, word) && !is_sign(p, sign)) return KITH_OK;
    uint32_t last = *made, parent = 0;
    KI_TRY(to_condition(p, at, &last));
    KI_TRY(new_parent(p, op, last, 0, &parent));
    while (is_word(p, word) || is_sign(p, sign)) {
        uint32_t next = 0;
        KI_TRY(advance(p));
        at = p->now.at;
        KI_TRY(operand(p, &next));
        KI_TRY(to_condition(p, at, &next));
        node(p, last)->next = next;
        last = next;
    }
    *made = parent;
    return KITH_OK;
}

static kith_status parse_and(parser *p, uint32_t *made)
{
    return parse_joined(p, KI_EXPR_AND, "and", "&&", parse_not, made);
}

static kith_status parse_or(parser *p, uint32_t *made)
{
    return parse_joined(p, KI_EXPR_OR, "or", "||", parse_and, made);
}

/* ---- The whole ---- */

/* The place of the first byte that is not UTF-8, or size. */
static size_t utf8_until(const char *text, size_t size)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < size;) {
        unsigned char b = (unsigned char)text[i];
        size_t n = b < 0x80 ? 1 : b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : 0;
        if (n == 0 || i + n > size) return i;
        uint32_t c = n == 1 ? b : b & (0x7fu >> n);
        for (size_t j = 1; j < n; j++) {
            if ((text[i + j] & 0xc0) != 0x80) return i;
            c = c << 6 | ((unsigned char)text[i + j] & 63);
        }
        if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return i;
        i += n;
    }
    return size;
}

static kith_status parse_all(parser *p)
{
    ki_expr *expr = p->expr;
    uint32_t none = 0;
    KI_TRY(new_node(p, KI_EXPR_INT, &none)); /* number 0 */
    KI_TRY(advance(p));
    size_t at = p->now.at;
    if (p->now.kind == END) return wrong(p, at, "it is empty; a condition is expected, such as year > 1990");
    KI_TRY(parse_or(p, &expr->root));
    KI_TRY(to_condition(p, at, &expr->root));
    return p->now.kind == END ? KITH_OK : unexpected(p, "and, or, or the end");
}

static kith_status begin(parser *p, const char *text, ki_expr *expr, kith_error *err)
{
    if (!text) return ki_fail(err, KITH_INVALID, "filter is NULL");
    *p = (parser){.text = text, .size = strnlen(text, KI_EXPR_MAX_BYTES + 1), .expr = expr, .err = err};
    if (p->size > KI_EXPR_MAX_BYTES)
        return ki_fail(err, KITH_INVALID, "filter: longer than %zu bytes", KI_EXPR_MAX_BYTES);
    size_t valid = utf8_until(text, p->size);
    return valid < p->size ? wrong(p, valid, "not UTF-8") : KITH_OK;
}

kith_status ki_expr_parse(const char *text, const kith_allocator *allocator, ki_expr *expr, kith_error *err)
{
    parser p;
    *expr = (ki_expr){.allocator = allocator};
    KI_TRY(begin(&p, text, expr, err));
    return parse_all(&p);
}

kith_status ki_expr_parse_path(const char *text, const kith_allocator *allocator, ki_expr *expr,
                               kith_error *err)
{
    parser p;
    *expr = (ki_expr){.allocator = allocator};
    KI_TRY(begin(&p, text, expr, err));
    KI_TRY(new_node(&p, KI_EXPR_INT, &expr->root)); /* number 0 */
    KI_TRY(advance(&p));
    KI_TRY(parse_field(&p, &expr->root));
    return p.now.kind == END ? KITH_OK : unexpected(&p, "the end of the field's name");
}

kith_status ki_expr_resolve(ki_expr *expr, const ki_fields *fields, kith_error *err)
{
    ki_expr_node *nodes = (ki_expr_node *)(void *)expr->nodes.data;
    for (size_t i = 1; i < expr->nodes.size / sizeof *nodes; i++) {
        int compares = (nodes[i].op >= KI_EXPR_EQ && nodes[i].op <= KI_EXPR_IN), moment = 0;
        if (!compares && (nodes[i].op < KI_EXPR_ADD || nodes[i].op > KI_EXPR_NEG)) continue;
        for (uint32_t j = nodes[i].first; j; j = nodes[j].next) {
            if (nodes[j].op != KI_EXPR_FIELD) continue;
            const ki_field *f =
                ki_field_by_path(fields, expr->texts.data + nodes[j].text.offset, nodes[j].text.size);
            if (!f || f->kind != KITH_FIELD_TIME) continue;
            nodes[j].op = KI_EXPR_TIME;
            moment = 1;
        }
        if (compares && moment) KI_TRY(all_to_moments(expr, nodes[i].first, err));
    }
    return KITH_OK;
}

void ki_expr_clear(ki_expr *expr)
{
    ki_buffer_clear(&expr->nodes, expr->allocator);
    ki_buffer_clear(&expr->texts, expr->allocator);
    expr->root = 0;
}
