/* Filters: what is refused and where; what each part of the language means, by a table; random filters over random
 * payloads against a plain evaluator that knows nothing of SQL; and that remembered answers follow every change. */
#include "collections.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

/* ---- What is refused ---- */

static const struct {
    const char *filter, *says;
} refused[] = {
    {"", "at byte 0: it is empty"},
    {"  ", "at byte 2: it is empty"},
    {"a >", "at byte 3: a field, a value or '(' expected, but it ends here"},
    {"a = 1", "at byte 2: '=' is no operator here"},
    {"a == 1 b", "at byte 7: and, or, or the end expected, found b"},
    {"a == 1)", "at byte 6: and, or, or the end expected, found )"},
    {"(a == 1", "at byte 7: ')' expected, but it ends here"},
    {"a == \"x", "at byte 5: a string begins here and does not end"},
    {"a == \"\\q\"", "at byte 6: no escape"},
    {"a == \"\\ud800\"", "at byte 6: half of a surrogate pair"},
    {"a == \"\\u0000\"", "at byte 6: no string holds the character NUL"},
    {"a == 12x", "at byte 5: a number runs into what follows it"},
    {"a == 9223372036854775808", "at byte 5: an integer beyond 64 bits"},
    {"a == 1e999", "at byte 5: a number beyond the range of a double"},
    {"a # 1", "at byte 2: a character that has no meaning here"},
    {"a == 1 and", "at byte 10: a field, a value or '(' expected"},
    {"a in 1", "at byte 5: '[' expected, found 1"},
    {"a in [1, ]", "at byte 9: a number, a string, true or false expected, found ]"},
    {"a in [1 2]", "at byte 8: ',' or ']' expected, found 2"},
    {"a in [b]", "at byte 6: a number, a string, true or false expected, found b"},
    {"a like 5", "at byte 7: a string expected, found 5"},
    {"a is 5", "at byte 5: null expected, found 5"},
    {"a.5 == 1", "at byte 1: and, or, or the end expected, found .5"},
    {"a[-1] == 1", "at byte 2: a name in quotes or the number of an element expected, found -"},
    {"a[b] == 1", "at byte 2: a name in quotes"},
    {"5", "at byte 0: a condition is expected here"},
    {"a + 1", "at byte 0: a condition is expected here"},
    {"not 5", "at byte 4: a condition is expected here"},
    {"a == 1 and 5", "at byte 11: a condition is expected here"},
    {"(a == 1) + 2 > 3", "at byte 0: a value is expected here, not a condition"},
    {"a + \"x\" > 3", "at byte 4: a number is expected here"},
    {"a < true", "at byte 2: true and false have no order"},
    {"\"x\" < 5", "at byte 4: a string and a number are compared"},
    {"1 < a > 5", "at byte 6: only a range may have two signs"},
    {"nothing(a, 1)", "at byte 7: there is no function of this name"},
    {"array_contains(a, [1])", "at byte 18: one value"},
    {"json_contains_any(a, 1)", "at byte 21: '[' expected, found 1"},
    {"array_contains(1, 1)", "at byte 15: the name of a field expected, found 1"},
    {"exists 5", "at byte 7: the name of a field expected"},
    {"exists $key", "at byte 7: a field of the payload is expected"},
    {"$foo == 1", "at byte 1: $key, $partition, $.name or $[\"name\"] expected, found foo"},
    {"and == 1", "at byte 0: a field, a value or '(' expected, found and"},
    {"a == \xff", "at byte 5: not UTF-8"},
    {"a == 1; drop table record", "at byte 6: a character that has no meaning here"},
};

static void says_what_is_wrong(void **state)
{
    (void)state;
    kith_error err;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        kith_status status = kith_collection_filter_check(refused[i].filter, &err);
        if (status != KITH_INVALID || !strstr(err.message, refused[i].says))
            fail_msg("%s: %s: %s, expected %s", refused[i].filter, kith_status_name(status), err.message,
                     refused[i].says);
    }
    assert_int_equal(kith_collection_filter_check(NULL, &err), KITH_INVALID);
}

/* A text made of `n` times `part` between two ends. */
static char *repeated(const char *before, const char *part, size_t n, const char *middle, const char *after,
                      size_t n_after)
{
    size_t size = strlen(before) + n * strlen(part) + strlen(middle) + n_after * strlen(after) + 1;
    char *text = malloc(size), *at = stpcpy(text, before);
    for (size_t i = 0; i < n; i++) at = stpcpy(at, part);
    at = stpcpy(at, middle);
    for (size_t i = 0; i < n_after; i++) at = stpcpy(at, after);
    return text;
}

static void expect_answer(char *text, kith_status expected, const char *says)
{
    kith_error err = {0};
    assert_int_equal(kith_collection_filter_check(text, &err), expected);
    if (says && !strstr(err.message, says)) fail_msg("%s, expected %s", err.message, says);
    free(text);
}

static void bounds(void **state)
{
    (void)state;
    expect_answer(repeated("", "(", 63, "a == 1", ")", 63), KITH_OK, NULL);
    expect_answer(repeated("", "(", 64, "a == 1", ")", 64), KITH_INVALID, "nested deeper than 64 levels");
    expect_answer(repeated("", "(", 1000000, "", "", 0), KITH_INVALID, "nested deeper");
    expect_answer(repeated("", "!", 1000000, "a", "", 0), KITH_INVALID, "nested deeper");
    expect_answer(repeated("a > ", "- ", 500000, "a", "", 0), KITH_INVALID, "nested deeper");
    expect_answer(repeated("a > a", " + a", 200000, "", "", 0), KITH_INVALID, "nested deeper");
    expect_answer(repeated("a", " or a", 5000, "", "", 0), KITH_OK, NULL);
    expect_answer(repeated("a in [1", ",1", 15000, "]", "", 0), KITH_OK, NULL);
    expect_answer(repeated("a in [1", ",1", 100000, "]", "", 0), KITH_INVALID, "longer than 16000 parts");
    expect_answer(repeated("a", " ", 1 << 20, "", "", 0), KITH_INVALID, "longer than 1048576 bytes");
    expect_answer(repeated("a like \"", "%", 1025, "\"", "", 0), KITH_INVALID,
                  "a pattern longer than 1024 bytes");
}

/* ---- What it means ---- */

static const char *const rows[] = {
    "{\"city\":\"Paris\",\"year\":1990,\"tags\":[\"a\",\"b\"],\"ok\":true,\"pos\":{\"x\":1.5,\"y\":[10,20]}}",
    "{\"city\":\"Pau\",\"year\":2001,\"tags\":[],\"ok\":false,\"pos\":{\"x\":2,\"y\":[]}}",
    "{\"city\":\"paris\",\"year\":\"1990\",\"tags\":\"a\",\"ok\":1,\"n\":null}",
    "{\"city\":null,\"year\":1990.5,\"tags\":[1,2.0,true,null,[\"a\"]],\"x y\":5}",
    "{}",
    ("{\"city\":\"M\\u00fcnchen \\\"50%\\\"\\n\",\"year\":-3,"
     "\"tags\":[\"\\u0001\"],\"not\":7,\"stra\\u00dfe\":8}"),
};
enum { ROWS = sizeof rows / sizeof *rows };

/* wanted: one character a row, x for those let through. */
static const struct {
    const char *filter, *wanted;
} meanings[] = {
    {"city == \"Paris\"", "x....."},
    {"city == 'Paris'", "x....."},
    {"city != \"Paris\"", ".xx..x"}, /* row 4 is null, row 5 has none: unknown */
    {"not city == \"Paris\"", ".xx..x"},
    {"NOT (city == \"Paris\" OR city is null)", ".xx..x"},
    {"year == 1990", "x....."},
    {"year == 1990.0", "x....."},
    {"year == \"1990\"", "..x..."},
    {"year != 1990", ".xxx.x"}, /* a string is not 1990 */
    {"year > 1990", ".x.x.."},
    {"year >= 1990 && year < 2001", "x..x.."},
    {"1990 <= year < 2001", "x..x.."},
    {"2001 > year >= 1990", "x..x.."},
    {"year < 0 || year > 2000", ".x...x"},
    {"year < -2", ".....x"},
    {"- year > 2", ".....x"},
    {"year + 1 == 1991", "x....."},
    {"year * 2 - 1 > 3980.5", ".x...."},
    {"year / 2 == 995", "x....."},
    {"year % 1000 == 990", "x....."},
    {"year % 0 == 0 or year / 0 == 0", "......"},
    {"(year + 10) % 7 == 0", ".....x"}, /* 2000, 2011, none, none, none, 7 */
    {"year in [1990, 2001, \"x\"]", "xx...."},
    {"year not in [1990]", ".xxx.x"},
    {"not year in [1990]", ".xxx.x"},
    {"year in []", "......"},
    {"year not in []", "xxxxxx"},
    {"city like \"Pa%\"", "xx...."},
    {"city like \"P_u\"", ".x...."},
    {"city like \"%50\\\\%%\"", ".....x"},
    {"city like \"M_nchen%\"", ".....x"}, /* one character, two bytes */
    {"city like \"%\"", "xxx..x"},
    {"city like \"Paris\"", "x....."},
    {"city not like \"P%\"", "..x..x"},
    {"year like \"1%\"", "..x..."},
    {"exists city", "xxxx.x"},
    {"not exists city", "....x."},
    {"city is null", "...xx."},
    {"city is not null", "xxx..x"},
    {"n is null and exists n", "..x..."},
    {"ok", "x....."},
    {"ok == true", "x....."},
    {"ok == 1", "..x..."},
    {"ok != true", ".xx..."},
    {"not ok", ".x...."}, /* 1 is neither true nor false */
    {"true", "xxxxxx"},
    {"false or ok", "x....."},
    {"pos.x > 1.25", "xx...."},
    {"pos[\"x\"] == 2", ".x...."},
    {"pos[\"y\"][1] == 20", "x....."},
    {"pos.y[5] is null and exists pos", "xx...."},
    {"pos.x.z is null", "xxxxxx"},
    {"array_contains(tags, \"a\")", "x....."},
    {"not array_contains(tags, \"a\")", ".xxx.x"}, /* a string contains nothing */
    {"json_contains_all(tags, [\"b\", \"a\"])", "x....."},
    {"array_contains_all(tags, [\"a\", \"c\"])", "......"},
    {"json_contains_any(tags, [\"c\", \"b\", 2])", "x..x.."},
    {"array_contains(tags, 1.0)", "...x.."},
    {"array_contains(tags, true)", "...x.."},
    {"array_contains(tags, \"\\u0001\")", ".....x"},
    {"array_contains_any(tags, [])", "......"},
    {"array_length(tags) == 0", ".x...."},
    {"array_length(tags) >= 2", "x..x.."},
    {"tags == tags", "xxxx.x"},
    {"pos.x < year", "xx...."},
    {"year < city", "..x..."}, /* two strings; else two kinds */
    {"year >= city", "......"},
    {"$key >= 3 and $key != 5", "..xx.x"},
    {"$key in [1, \"2\"]", "x....."},
    {"$[\"x y\"] == 5", "...x.."},
    {"$[\"not\"] == 7", ".....x"},
    {"$.not == 7", ".....x"},
    {"stra\xc3\x9f"
     "e == 8",
     ".....x"},
    {"city == \"M\\u00fcnchen \\\"50%\\\"\\n\"", ".....x"},
    {"ok and year == 1990 or year == 2001 and not ok", "xx...."},
    {"not (ok and year == 1990)", ".xxx.x"}, /* unknown and false is false */
};

static kith_collection *payload_rows(const char *name, const char *const *payloads, size_t n)
{
    kith_error err;
    kith_collection *c = test_collection(name, 0, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (size_t i = 0; i < n; i++) {
        kith_row row = {.payload = payloads[i]};
        assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
    return c;
}

/* Keys 1..n as visited by the filter: 'x' for those let through. */
static void visited(kith_collection *c, const char *filter, char *wanted, size_t n)
{
    kith_error err;
    kith_row row = {0};
    memset(wanted, '.', n);
    wanted[n] = 0;
    for (;;) {
        int64_t before = row.key;
        assert_ok(kith_collection_next_where(c, filter, row.key, KITH_ROW_PAYLOAD, &row, &err), &err);
        if (row.key == 0) break;
        assert_true(row.key > before && (size_t)row.key <= n);
        assert_non_null(row.payload);
        wanted[row.key - 1] = 'x';
    }
    uint64_t count, marks = 0;
    for (size_t i = 0; i < n; i++) marks += wanted[i] == 'x';
    assert_ok(kith_collection_count_where(c, filter, &count, &err), &err);
    assert_int_equal(count, marks);
}

static void means_what_it_says(void **state)
{
    (void)state;
    char found[ROWS + 1];
    kith_collection *c = payload_rows("meanings.kith", rows, ROWS);
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        visited(c, meanings[i].filter, found, ROWS);
        if (strcmp(found, meanings[i].wanted) != 0)
            fail_msg("%s: %s, expected %s", meanings[i].filter, found, meanings[i].wanted);
    }
    kith_collection_close(c);
}

/* ---- A plain evaluator, over filters made at random ---- */

/* A filter is made as a tree and printed; what is evaluated is the tree. */
typedef struct tree {
    char
        op; /* o a n: or, and, not; = ! < > l g: comparisons; i: in; e z: exists, is null; c: contains; L: like */
    struct tree *left, *right;
    const char *path; /* of a value, or NULL for a literal */
    json_t *literal;  /* for i and c an array of them */
    char arithmetic;  /* + - * % or 0, with the literal */
} tree;

static const char *const paths[] = {"a", "b", "c.d", "c[\"e\"][1]", "f"};

static json_t *random_scalar(ki_rng *rng)
{
    static const char *const strings[] = {"", "x", "xy", "y\"\\", "\xc3\xa4", "\n"};
    switch (ki_rng_below(rng, 5)) {
    case 0: return json_integer((json_int_t)ki_rng_below(rng, 7) - 3);
    case 1: return json_real((double)ki_rng_below(rng, 13) / 2 - 3);
    case 2: return json_string(strings[ki_rng_below(rng, 6)]);
    case 3: return json_boolean(ki_rng_below(rng, 2));
    default: return json_integer(ki_rng_below(rng, 2) ? INT64_MAX : INT64_MIN);
    }
}

static json_t *random_list(ki_rng *rng)
{
    json_t *list = json_array();
    for (uint64_t n = ki_rng_below(rng, 4); n > 0; n--) json_array_append_new(list, random_scalar(rng));
    return list;
}

static json_t *random_value(ki_rng *rng)
{
    uint64_t kind = ki_rng_below(rng, 8);
    return kind == 0 ? json_null() : kind == 1 ? random_list(rng) : random_scalar(rng);
}

static json_t *random_payload(ki_rng *rng)
{
    json_t *row = json_object(), *inner = json_object(), *list = random_list(rng);
    if (ki_rng_below(rng, 4)) json_object_set_new(row, "a", random_value(rng));
    if (ki_rng_below(rng, 4)) json_object_set_new(row, "b", random_value(rng));
    if (ki_rng_below(rng, 4)) json_object_set_new(inner, "d", random_value(rng));
    json_object_set_new(inner, "e", list);
    if (ki_rng_below(rng, 4))
        json_object_set_new(row, "c", inner);
    else
        json_decref(inner);
    if (ki_rng_below(rng, 4)) json_object_set_new(row, "f", random_list(rng));
    return row;
}

static tree *random_tree(ki_rng *rng, int depth)
{
    tree *t = calloc(1, sizeof *t);
    if (depth > 0 && ki_rng_below(rng, 3)) {
        t->op = "oan"[ki_rng_below(rng, 3)];
        t->left = random_tree(rng, depth - 1);
        if (t->op != 'n') t->right = random_tree(rng, depth - 1);
        return t;
    }
    t->op = "=!<>lg=!<>lgiezcL"[ki_rng_below(rng, 17)];
    t->path = paths[ki_rng_below(rng, 5)];
    if (strchr("ic", t->op)) {
        t->literal = random_list(rng);
    } else if (t->op == 'L') {
        static const char *const patterns[] = {"%", "x%", "_", "%y%", "\xc3\xa4", ""};
        t->literal = json_string(patterns[ki_rng_below(rng, 6)]);
    } else if (strchr("=!<>lg", t->op)) {
        do { /* what the parser refuses is tested above */
            json_decref(t->literal);
            t->literal = random_scalar(rng);
        } while (strchr("<>lg", t->op) && json_is_boolean(t->literal));
        if (json_is_integer(t->literal) && json_integer_value(t->literal) > -9 &&
            json_integer_value(t->literal) < 9 && ki_rng_below(rng, 2))
            t->arithmetic = "+-*%"[ki_rng_below(rng, 4)];
    }
    return t;
}

static void tree_free(tree *t)
{
    if (!t) return;
    tree_free(t->left);
    tree_free(t->right);
    json_decref(t->literal);
    free(t);
}

static void print_literal(FILE *out, const json_t *value)
{
    if (json_is_array(value)) {
        fputc('[', out);
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (i > 0) fputs(", ", out);
            print_literal(out, json_array_get(value, i));
        }
        fputc(']', out);
        return;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    fputs(text, out);
    free(text);
}

static void print_tree(FILE *out, const tree *t)
{
    static const char *const signs[] = {"==", "!=", "<", ">", "<=", ">="};
    if (strchr("oan", t->op)) {
        fputs(t->op == 'n' ? "not (" : "(", out);
        print_tree(out, t->left);
        if (t->right) {
            fputs(t->op == 'o' ? ") or (" : ") and (", out);
            print_tree(out, t->right);
        }
        fputc(')', out);
    } else if (t->op == 'e') {
        fprintf(out, "exists %s", t->path);
    } else if (t->op == 'z') {
        fprintf(out, "%s is null", t->path);
    } else if (t->op == 'c') {
        fprintf(out, "array_contains_any(%s, ", t->path);
        print_literal(out, t->literal);
        fputc(')', out);
    } else {
        fputs(t->path, out);
        if (t->arithmetic) fprintf(out, " %c 2", t->arithmetic);
        const char *sign = strchr("=!<>lg", t->op) ? signs[strchr("=!<>lg", t->op) - "=!<>lg"] : NULL;
        fprintf(out, " %s ", sign ? sign : t->op == 'i' ? "in" : "like");
        print_literal(out, t->literal);
    }
}

static const json_t *at_path(const json_t *row, const char *path)
{
    const json_t *c = json_object_get(row, "c");
    if (strcmp(path, "c.d") == 0) return json_object_get(c, "d");
    if (strcmp(path, "c[\"e\"][1]") == 0) return json_array_get(json_object_get(c, "e"), 1);
    return json_object_get(row, path);
}

/* Exact, for integers and reals in any mixture: long double holds both. -1, 0, 1. */
static int compare_scalars(const json_t *x, const json_t *y)
{
    if (json_is_string(x)) {
        int order = strcmp(json_string_value(x), json_string_value(y));
        return (order > 0) - (order < 0);
    }
    long double a = json_is_integer(x) ? (long double)json_integer_value(x) : (long double)json_real_value(x);
    long double b = json_is_integer(y) ? (long double)json_integer_value(y) : (long double)json_real_value(y);
    return (a > b) - (a < b);
}

static int comparable(const json_t *x, const json_t *y)
{
    return (json_is_number(x) && json_is_number(y)) || (json_is_string(x) && json_is_string(y));
}

static int equal(const json_t *x, const json_t *y)
{
    return comparable(x, y) ? compare_scalars(x, y) == 0 : json_is_boolean(x) && json_equal(x, y);
}

/* 2: unknown */
enum { NO, YES, UNKNOWN };

static int like_plain(const char *t, const char *p)
{
    if (!*p) return !*t;
    if (*p == '%') return like_plain(t, p + 1) || (*t && like_plain(t + 1, p));
    if (!*t) return 0;
    if (*p == '_') {
        for (t++; (*t & 0xc0) == 0x80; t++) {
        }
        return like_plain(t, p + 1);
    }
    return *t == *p && like_plain(t + 1, p + 1);
}

static json_t *calculated(const json_t *x, char sign)
{
    if (!json_is_number(x)) return NULL;
    if (sign == '%') return json_is_integer(x) ? json_integer(json_integer_value(x) % 2) : NULL;
    json_int_t i = json_integer_value(x), whole;
    int over = sign == '+'   ? __builtin_add_overflow(i, 2, &whole)
               : sign == '-' ? __builtin_sub_overflow(i, 2, &whole)
                             : __builtin_mul_overflow(i, 2, &whole);
    if (json_is_integer(x) && !over) return json_integer(whole);
    double r = json_number_value(x);
    return json_real(sign == '+' ? r + 2 : sign == '-' ? r - 2 : r * 2);
}

static int compare(char op, const json_t *x, const json_t *y)
{
    if (!x || json_is_null(x)) return UNKNOWN;
    if (op == '=') return equal(x, y);
    if (op == '!') return !equal(x, y);
    if (!comparable(x, y)) return UNKNOWN;
    int order = compare_scalars(x, y);
    return op == '<' ? order < 0 : op == '>' ? order > 0 : op == 'l' ? order <= 0 : order >= 0;
}

static int evaluate(const tree *t, const json_t *row)
{
    if (t->op == 'n') {
        int value = evaluate(t->left, row);
        return value == UNKNOWN ? UNKNOWN : !value;
    }
    if (t->op == 'o' || t->op == 'a') {
        int a = evaluate(t->left, row), b = evaluate(t->right, row), decides = t->op == 'o' ? YES : NO;
        if (a == decides || b == decides) return decides;
        return a == UNKNOWN || b == UNKNOWN ? UNKNOWN : !decides;
    }
    const json_t *x = at_path(row, t->path);
    int missing = !x || json_is_null(x);
    if (t->op == 'e') return x != NULL;
    if (t->op == 'z') return missing;
    if (t->op == 'L')
        return json_is_string(x) ? like_plain(json_string_value(x), json_string_value(t->literal)) : UNKNOWN;
    if (t->op == 'i' || t->op == 'c') {
        if (json_array_size(t->literal) == 0) return NO;
        if (missing) return UNKNOWN;
        for (size_t i = 0; i < json_array_size(t->literal); i++) {
            const json_t *y = json_array_get(t->literal, i);
            if (t->op == 'i' && equal(x, y)) return YES;
            for (size_t j = 0; t->op == 'c' && j < json_array_size(x); j++)
                if (equal(json_array_get(x, j), y)) return YES;
        }
        return NO;
    }
    if (!t->arithmetic) return compare(t->op, x, t->literal);
    json_t *result = calculated(x, t->arithmetic);
    int value = compare(t->op, result, t->literal);
    json_decref(result);
    return value;
}

static void equals_plain_evaluator(void **state)
{
    (void)state;
    enum { N = 300, FILTERS = 2000 };
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 0);
    json_t *values[N];
    char *payloads[N], found[N + 1], wanted[N + 1] = {0};
    for (size_t i = 0; i < N; i++) {
        values[i] = random_payload(&rng);
        payloads[i] = json_dumps(values[i], 0);
    }
    kith_collection *c = payload_rows("random.kith", (const char *const *)payloads, N);
    size_t let_through = 0;
    for (size_t f = 0; f < FILTERS; f++) {
        tree *t = random_tree(&rng, 4);
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        print_tree(out, t);
        fclose(out);
        for (size_t i = 0; i < N; i++) wanted[i] = evaluate(t, values[i]) == YES ? 'x' : '.';
        visited(c, text, found, N);
        for (size_t i = 0; i < N; i++) {
            let_through += wanted[i] == 'x';
            if (found[i] != wanted[i])
                fail_msg("%s: row %s: %c, expected %c", text, payloads[i], found[i], wanted[i]);
        }
        free(text);
        tree_free(t);
    }
    assert_in_range(let_through, N * FILTERS / 10,
                    N * FILTERS * 9 / 10); /* the filters are worth something */
    for (size_t i = 0; i < N; i++) {
        free(payloads[i]);
        json_decref(values[i]);
    }
    kith_collection_close(c);
}

/* ---- What is remembered ---- */

static uint64_t count_where(kith_collection *c, const char *filter)
{
    kith_error err;
    uint64_t n;
    assert_ok(kith_collection_count_where(c, filter, &n, &err), &err);
    return n;
}

static void put(kith_collection *c, int64_t key, int n)
{
    kith_error err;
    char payload[32];
    snprintf(payload, sizeof payload, "{\"n\":%d}", n);
    kith_row row = {.key = key, .payload = payload};
    assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
}

/* Random changes; handles that remember, of the writer and of a reader, must count what plain loops count. step: between
 * keys, so that bitmaps and arrays of keys are both seen. */
static void follow_changes(const char *name, int64_t step)
{
    enum { KEYS = 500, ROUNDS = 60 };
    kith_error err;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 1);
    kith_collection *writer = test_collection(name, 0, KITH_L2SQ), *reader;
    assert_ok(kith_collection_open(test_path(name), NULL, &reader, &err), &err);
    int n[KEYS], before[KEYS];
    for (size_t i = 0; i < KEYS; i++) n[i] = -1;
    for (int round = 0; round < ROUNDS; round++) {
        memcpy(before, n, sizeof n);
        assert_ok(kith_collection_begin(writer, &err), &err);
        for (uint64_t changes = ki_rng_below(&rng, round % 7 == 0 ? 400 : 20); changes > 0; changes--) {
            size_t i = (size_t)ki_rng_below(&rng, KEYS);
            if (ki_rng_below(&rng, 3) == 0 && n[i] >= 0) {
                assert_ok(kith_collection_delete(writer, (int64_t)(i + 1) * step, &err), &err);
                n[i] = -1;
            } else {
                put(writer, (int64_t)(i + 1) * step, n[i] = (int)ki_rng_below(&rng, 100));
            }
        }
        uint64_t low = 0, even = 0, low_before = 0;
        for (size_t i = 0; i < KEYS; i++) low_before += before[i] >= 0 && before[i] < 30;
        for (size_t i = 0; i < KEYS; i++) low += n[i] >= 0 && n[i] < 30;
        for (size_t i = 0; i < KEYS; i++) even += n[i] >= 0 && n[i] % 2 == 0;
        assert_int_equal(count_where(writer, "n < 30"),
                         low); /* what the batch has done is seen by its own handle */
        assert_int_equal(count_where(reader, "n < 30"), low_before);
        if (ki_rng_below(&rng, 4) == 0) {
            kith_collection_rollback(writer);
            memcpy(n, before, sizeof n);
            assert_int_equal(count_where(writer, "n < 30"), low_before);
            continue;
        }
        assert_ok(kith_collection_commit(writer, &err), &err);
        assert_int_equal(count_where(reader, "n < 30"), low);
        assert_int_equal(count_where(writer, "n < 30"), low);
        assert_int_equal(count_where(writer, "n % 2 == 0"), even);
        int64_t key = 0;
        kith_row row;
        for (size_t i = 0; i < KEYS; i++) { /* the keys, not their number alone */
            if (n[i] < 0 || n[i] >= 30) continue;
            assert_ok(kith_collection_next_where(reader, "n < 30", key, 0, &row, &err), &err);
            key = row.key;
            assert_int_equal(key, (int64_t)(i + 1) * step);
        }
        assert_ok(kith_collection_next_where(reader, "n < 30", key, 0, &row, &err), &err);
        assert_int_equal(row.key, 0);
    }
    kith_collection_close(writer);
    kith_collection_close(reader);
}

static void follows_every_change(void **state)
{
    (void)state;
    follow_changes("dense.kith", 1);
    follow_changes("sparse.kith", INT64_C(9000000000000));
}

static void more_filters_than_remembered(void **state)
{
    (void)state;
    kith_error err;
    kith_collection *c = test_collection("many.kith", 0, KITH_L2SQ);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int i = 1; i <= 50; i++) put(c, i, i);
    assert_ok(kith_collection_commit(c, &err), &err);
    char filter[32];
    for (int i = 0; i < 200; i++) {
        int least = i * 7 % 50;
        snprintf(filter, sizeof filter, "n > %d", least);
        assert_int_equal(count_where(c, filter), 50 - least);
    }
    kith_collection_close(c);
}

static void deletes(void **state)
{
    (void)state;
    kith_error err;
    uint64_t n = 77;
    kith_collection *c = test_collection("deletes.kith", 0, KITH_L2SQ);
    assert_int_equal(kith_collection_delete_where(c, "n > 1", &n, &err), KITH_INVALID); /* no batch */
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int i = 1; i <= 100; i++) put(c, i, i);
    assert_int_equal(kith_collection_delete_where(c, "n >", &n, &err), KITH_INVALID);
    assert_int_equal(n, 77);
    assert_ok(kith_collection_delete_where(c, "n % 3 == 0", &n, &err), &err);
    assert_int_equal(n, 33);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_int_equal(count_where(c, "exists n"), 67);
    assert_int_equal(count_where(c, "n % 3 == 0"), 0);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_delete_where(c, "true", &n, &err), &err);
    assert_int_equal(n, 67);
    kith_collection_rollback(c);
    assert_int_equal(count_where(c, "true"), 67);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

/* ---- Hints ---- */

static const struct {
    const char *filter, *hint;
} hints[] = {
    {"year > 5000", ""},
    {"$key == 99 or $partition == \"none\"", ""},
    {"yeer > 3 and city == \"Bern\"", "no row has yeer; row 1 has city, odd name, ok, tags, year"},
    {"time(yeer) > 3", "no row has yeer; row 1 has city, odd name, ok, tags, year"},
    {"exists $[\"odd name\"].y", "no row has $[\"odd name\"].y; row 1 has city, odd name, ok, tags, year"},
    {"not exists yeer and city == \"Nowhere\"", ""},
    {"yeer is null and city == \"Nowhere\"", ""},
    {"year == \"1990\"", "year is a number wherever it is there, and is asked for as a string"},
    {"not (\"1990\" == year)", "year is a number wherever it is there, and is asked for as a string"},
    {"year like \"19%\"", "year is a number wherever it is there, and is asked for as a string"},
    {"year > 3 and city + 1 > 2", "city is a string wherever it is there, and is asked for as a number"},
    {"city == Bern", "no row has Bern; a string stands between quotes"},
    {"town == Bern", "no row has town; row 1 has city, odd name, ok, tags, year"},
    {"city in [1, 2]", "city is a string wherever it is there, and is asked for as a number"},
    {"city", "city is a string wherever it is there, and is asked for as true or false"},
    {"array_contains(city, \"Bern\")", "city is a string wherever it is there, and is asked for as a list"},
    {"array_length(year) > 2", "year is a number wherever it is there, and is asked for as a list"},
    {"ok == 1", "ok is true or false wherever it is there, and is asked for as a number"},
    {"tags in [\"a\"]",
     "tags is a list wherever it is there, and is asked for as a string; array_contains and "
     "array_contains_any look into lists"},
    {"at > \"2030-01-01\"", ""}, /* declared as moments: numbers that are compared with strings */
};

static void hints_say_whose_fault_it_is(void **state)
{
    (void)state;
    kith_error err;
    char hint[400];
    kith_collection *c = test_collection("hints.kith", 2, KITH_L2SQ);
    assert_ok(kith_collection_filter_hint(c, "year > 3", hint, sizeof hint, &err), &err);
    assert_string_equal(hint, "there are no rows");
    assert_ok(kith_collection_begin(c, &err), &err);
    kith_row row = {
        .payload = "{\"city\":\"Bern\",\"year\":1990,\"tags\":[\"a\"],\"ok\":true,\"odd name\":{\"x\":1}}"};
    assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
    row.payload = "{\"city\":\"Rome\",\"at\":1700000000}";
    assert_ok(kith_collection_put(c, KITH_ROW_PAYLOAD, &row, NULL, &err), &err);
    assert_ok(kith_collection_field_add(c, "at", KITH_FIELD_TIME, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        assert_ok(kith_collection_filter_hint(c, hints[i].filter, hint, sizeof hint, &err), &err);
        if (strcmp(hint, hints[i].hint) != 0)
            fail_msg("%s: \"%s\" instead of \"%s\"", hints[i].filter, hint, hints[i].hint);
    }
    assert_int_equal(kith_collection_filter_hint(c, "year >", hint, sizeof hint, &err), KITH_INVALID);
    assert_int_equal(kith_collection_filter_hint(c, "year > 3", hint, 199, &err), KITH_INVALID);
    kith_collection_close(c);
}

int main(void)
{
    test_folder_in_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(bounds),
        cmocka_unit_test(means_what_it_says),
        cmocka_unit_test(equals_plain_evaluator),
        cmocka_unit_test(follows_every_change),
        cmocka_unit_test(more_filters_than_remembered),
        cmocka_unit_test(deletes),
        cmocka_unit_test(hints_say_whose_fault_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
