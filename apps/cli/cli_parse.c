/* cli_parse.c - a verb's command line against its tables, on top of getopt_long. */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/run.h>

enum { MAX_OPTIONS = 64, LONG_BASE = 256 };

/* The common options fill this instead of the verb's struct. */
struct common {
    int help, quiet, json;
    uint64_t threads;
    double wait;
};

enum { THREADS, WAIT, JSON }; /* those that not every verb has come first, in this order */

static const cli_option common_options[] = {
    {.name = "threads",
     .letter = 'j',
     .kind = CLI_COUNT,
     .argument = "N",
     .high = 1024,
     .into = offsetof(struct common, threads),
     .help = "work with N threads; 0 means all processors"},
    {.name = "wait",
     .kind = CLI_NUMBER,
     .argument = "S",
     .fallback = "5",
     .high = 1e6,
     .into = offsetof(struct common, wait),
     .help = "how long to wait for another writer of the collection, at each batch, in seconds"},
    {.name = "json",
     .kind = CLI_FLAG,
     .into = offsetof(struct common, json),
     .help = "print JSON, one object a line"},
    {.name = "quiet",
     .letter = 'q',
     .kind = CLI_FLAG,
     .into = offsetof(struct common, quiet),
     .help = "no progress and no remarks"},
    {.name = "help",
     .letter = 'h',
     .kind = CLI_FLAG,
     .into = offsetof(struct common, help),
     .help = "show this help"},
};

const cli_option *cli_common_options(const cli_verb *verb, size_t *n)
{
    enum { ALL = sizeof common_options / sizeof *common_options };
    static cli_option chosen[ALL];
    static char threads_help[160];
    *n = 0;
    for (size_t i = 0; i < ALL; i++) {
        if (i == THREADS && !(verb->common & CLI_THREADS)) continue;
        if (i == WAIT && !(verb->common & CLI_WAIT)) continue;
        if (i == JSON && !(verb->common & CLI_JSON)) continue;
        chosen[*n] = common_options[i];
        if (i == THREADS) {
            snprintf(threads_help, sizeof threads_help, "%s", common_options[i].help);
            chosen[*n].help = threads_help;
            chosen[*n].fallback = verb->threads ? verb->threads : "0";
        }
        (*n)++;
    }
    return chosen;
}

bool cli_parse_count(const char *text, uint64_t *value)
{
    if (text[0] < '0' || text[0] > '9') return false;
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    *value = n;
    return *end == 0 && errno == 0;
}

bool cli_parse_number(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == 0 && isfinite(*value);
}

int cli_next_pair(const char **text, char name[64], char value[64])
{
    const char *at = *text;
    if (*at == 0) return 0;
    size_t length = strcspn(at, "=,");
    if (length == 0 || length > 63 || at[length] != '=') return -1;
    memcpy(name, at, length);
    name[length] = 0;
    at += length + 1;
    length = strcspn(at, ",");
    if (length == 0 || length > 63) return -1;
    memcpy(value, at, length);
    value[length] = 0;
    at += length;
    if (*at == ',' && at[1] == 0) return -1;
    *text = *at == ',' ? at + 1 : at;
    return 1;
}

int cli_settings_parse(cli_context *cli, const char *option, const cli_list *list, cli_settings *settings)
{
    *settings = (cli_settings){0};
    for (size_t i = 0; i < list->n; i++) {
        const char *text = list->items[i];
        char name[64], value[64];
        int more;
        while ((more = cli_next_pair(&text, name, value)) > 0) {
            kith_setting *items = realloc(settings->items, (settings->n + 1) * sizeof *items);
            if (!items) return cli_fail(cli, option, "out of memory");
            settings->items = items;
            kith_setting *item = &items[settings->n];
            if (!cli_parse_number(value, &item->value))
                return cli_usage(cli, option, "%s is '%s', which is not a number", name, value);
            item->name = strdup(name);
            if (!item->name) return cli_fail(cli, option, "out of memory");
            settings->n++;
        }
        if (more < 0)
            return cli_usage(cli, option, "'%s' is not of the form name=value,name=value", list->items[i]);
    }
    return CLI_OK;
}

void cli_settings_clear(cli_settings *settings)
{
    for (size_t i = 0; i < settings->n; i++) free((char *)settings->items[i].name);
    free(settings->items);
    *settings = (cli_settings){0};
}

static bool one_of(const char *choices, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = choices; *at; at += strspn(at, "|")) {
        size_t span = strcspn(at, "|");
        if (span == length && memcmp(at, word, span) == 0) return true;
        at += span;
    }
    return false;
}

/* "--name": what the message is about. */
static const char *shown(const cli_option *option)
{
    static char text[80];
    snprintf(text, sizeof text, "--%s", option->name);
    return text;
}

static int store_count(cli_context *cli, const cli_option *option, const char *text, void *member)
{
    uint64_t value;
    double low = option->low, high = option->high > 0 ? option->high : 0x1p64;
    if (!cli_parse_count(text, &value))
        return cli_usage(cli, shown(option), "'%s' is not a whole number, 0 or more", text);
    if ((double)value < low || (double)value > high)
        return high < 0x1p53
                   ? cli_usage(cli, shown(option), "%s is not in the range %.0f..%.0f", text, low, high)
                   : cli_usage(cli, shown(option), "%s is less than %.0f", text, low);
    *(uint64_t *)member = value;
    return -1;
}

static int store_number(cli_context *cli, const cli_option *option, const char *text, void *member)
{
    double value;
    if (!cli_parse_number(text, &value)) return cli_usage(cli, shown(option), "'%s' is not a number", text);
    bool ranged = option->low != 0 || option->high != 0;
    if (ranged && (value < option->low || value > option->high))
        return cli_usage(cli, shown(option), "%s is not in the range %g..%g", text, option->low,
                         option->high);
    *(double *)member = value;
    return -1;
}

/* Put an argument where its option says. Returns -1, or an exit status. */
static int store(cli_context *cli, const cli_option *option, const char *text, void *base)
{
    void *member = (char *)base + option->into;
    switch (option->kind) {
    case CLI_FLAG: *(int *)member = 1; return -1;
    case CLI_COUNT: return store_count(cli, option, text, member);
    case CLI_NUMBER: return store_number(cli, option, text, member);
    case CLI_TEXT:
        if (option->choices && !one_of(option->choices, text))
            return cli_usage(cli, shown(option), "'%s' is none of %s", text, option->choices);
        *(const char **)member = text;
        return -1;
    case CLI_LIST: {
        cli_list *list = member;
        const char **items = realloc(list->items, (list->n + 1) * sizeof *items);
        if (!items) return cli_fail(cli, shown(option), "out of memory");
        list->items = items;
        list->items[list->n++] = text;
        return -1;
    }
    }
    return -1;
}

/* The two tables in the form that getopt_long takes; value LONG_BASE + i stands for option i. */
typedef struct parser {
    const cli_option *options[MAX_OPTIONS];
    size_t n_own, n;
    struct option longs[MAX_OPTIONS + 1];
    char letters[2 * MAX_OPTIONS + 2];
} parser;

static void parser_init(parser *p, const cli_verb *verb)
{
    memset(p, 0, sizeof *p);
    for (const cli_option *o = verb->options; o && o->name; o++) p->options[p->n++] = o;
    p->n_own = p->n;
    size_t n_common;
    const cli_option *common = cli_common_options(verb, &n_common);
    for (size_t i = 0; i < n_common; i++) p->options[p->n++] = &common[i];
    char *letter = p->letters;
    *letter++ = ':'; /* getopt_long tells a missing argument from an unknown option */
    for (size_t i = 0; i < p->n; i++) {
        const cli_option *o = p->options[i];
        int argument = o->kind == CLI_FLAG ? no_argument : required_argument;
        p->longs[i] = (struct option){o->name, argument, NULL, LONG_BASE + (int)i};
        if (!o->letter) continue;
        *letter++ = o->letter;
        if (argument == required_argument) *letter++ = ':';
    }
}

static const cli_option *parser_find(const parser *p, int found, size_t *index)
{
    for (size_t i = 0; i < p->n; i++)
        if (found == LONG_BASE + (int)i || (found > 0 && found == p->options[i]->letter)) {
            *index = i;
            return p->options[i];
        }
    return NULL;
}

static int complain_unknown(cli_context *cli, const parser *p, const char *word)
{
    if (optopt > 0 && optopt < LONG_BASE) {
        char letter[3] = {'-', (char)optopt, 0};
        bool digit = optopt >= '0' && optopt <= '9';
        return cli_usage(cli, letter, "unknown option%s",
                         digit ? "; an argument that begins with '-' is written behind --" : "");
    }
    size_t index;
    const cli_option *known = optopt ? parser_find(p, optopt, &index) : NULL;
    if (known) return cli_usage(cli, shown(known), "takes no argument");
    const char *names[MAX_OPTIONS + 1] = {0};
    for (size_t i = 0; i < p->n; i++) names[i] = p->options[i]->name;
    char typed[64];
    snprintf(typed, sizeof typed, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    int matches = 0;
    for (size_t i = 0; i < p->n; i++) matches += strncmp(names[i], typed, strlen(typed)) == 0;
    if (matches > 1) return cli_usage(cli, word, "short for more than one option");
    const char *near = cli_nearest(typed, names);
    if (near) return cli_usage(cli, word, "unknown option; did you mean --%s?", near);
    return cli_usage(cli, word, "unknown option");
}

static int parse_defaults(cli_context *cli, const parser *p, void *options, struct common *common)
{
    for (size_t i = 0; i < p->n; i++) {
        const cli_option *o = p->options[i];
        if (!o->fallback) continue;
        int status = store(cli, o, o->fallback, i < p->n_own ? options : common);
        if (status >= 0) return status;
    }
    return -1;
}

static int parse_options(cli_context *cli, const parser *p, int argc, char **argv, void *options,
                         struct common *common)
{
    optind = 1;
    opterr = 0;
    for (;;) {
        optopt = 0;
        int found = getopt_long(argc, argv, p->letters, p->longs, NULL);
        if (found == -1) return -1;
        if (found == '?') return complain_unknown(cli, p, argv[optind - 1]);
        size_t index;
        const cli_option *option = parser_find(p, found == ':' ? optopt : found, &index);
        if (!option) return cli_usage(cli, argv[optind - 1], "unknown option");
        if (found == ':') return cli_usage(cli, shown(option), "needs an argument: %s", option->argument);
        int status = store(cli, option, optarg, index < p->n_own ? options : common);
        if (status >= 0) return status;
        if (index < p->n_own) cli->given |= UINT64_C(1) << index;
    }
}

static int check_arguments(cli_context *cli)
{
    size_t n = 0;
    for (const cli_argument *a = cli->verb->arguments; a && a->name; a++) {
        if (n >= cli->n_args && !a->optional) return cli_usage(cli, a->name, "missing: %s", a->help);
        n = a->many ? cli->n_args : n + 1;
    }
    if (n < cli->n_args) return cli_usage(cli, cli->args[n], "one argument too many");
    return -1;
}

int cli_parse(cli_context *cli, int argc, char **argv, void *options)
{
    parser p;
    struct common common = {0};
    parser_init(&p, cli->verb);
    int status = parse_defaults(cli, &p, options, &common);
    if (status < 0) status = parse_options(cli, &p, argc, argv, options, &common);
    if (status >= 0) return status;
    if (common.help) {
        cli_verb_help(cli->verb, stdout);
        return cli_flush(cli);
    }
    cli->json = common.json;
    cli->quiet = common.quiet;
    cli->threads = common.threads;
    cli->wait_ms = (unsigned)(common.wait * 1000);
    cli->args = argv + optind; /* argv ends with NULL */
    cli->n_args = (size_t)(argc - optind);
    return check_arguments(cli);
}

void cli_parse_clear(cli_context *cli, void *options)
{
    for (const cli_option *o = cli->verb->options; o && o->name; o++)
        if (o->kind == CLI_LIST) free(((cli_list *)((char *)options + o->into))->items);
}

bool cli_given(const cli_context *cli, const char *option)
{
    const cli_option *o = cli->verb->options;
    for (size_t i = 0; o && o[i].name; i++)
        if (strcmp(o[i].name, option) == 0) return cli->given >> i & 1;
    return false;
}

/* Levenshtein's distance, one row at a time; words of a command line are short. */
static size_t edits(const char *a, const char *b)
{
    size_t row[65];
    size_t n = strlen(b);
    if (n > 64 || strlen(a) > 64) return 64;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            corner = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *word, const char *const *candidates)
{
    const char *nearest = NULL;
    size_t least = strlen(word) / 3 + 1; /* a third of the letters wrong is a slip, more is another word */
    for (size_t i = 0; candidates[i]; i++) {
        size_t distance = edits(word, candidates[i]);
        if (distance > least || (nearest && distance == least)) continue;
        least = distance;
        nearest = candidates[i];
    }
    return nearest;
}
