/* cli_help.c - the help of a terminal, the man pages and the completion, all made from the verbs' tables. */
#include "cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <kith/version.h>

enum { WIDTH = 79 };

/* The day of the release that the man pages carry; KITH_VERSION_STRING moves with it. */
#define RELEASE_DATE "November 21, 2026"

static const char *const environment[][2] = {
    {"KITH_SIMD",
     "the instruction set to use: scalar, avx2, avx512 or neon; without it the best one of the machine"},
    {"KITH_PLUGINS",
     "the folder of plug-ins (CNN features), instead of the one that kith was installed with"},
};

/* ---- text for a terminal
 * ----------------------------------------------------------------------------------- */

/* Print a text wrapped, the first line going on at column `at`, the next ones indented. Ends the line. */
static void wrap(FILE *out, const char *text, size_t at, size_t indent)
{
    size_t column = at;
    bool first = true;
    while (*text) {
        text += strspn(text, " ");
        size_t length = strcspn(text, " ");
        if (!first && column + 1 + length > WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
            first = true;
        }
        fprintf(out, "%s%.*s", first ? "" : " ", (int)length, text);
        column += length + !first;
        first = false;
        text += length;
    }
    fputc('\n', out);
}

/* Each paragraph of a description: a callback per paragraph, in a buffer of its own. */
static void each_paragraph(const char *text, FILE *out,
                           void (*show)(FILE *out, const char *paragraph, bool first))
{
    bool first = true;
    while (text && *text) {
        const char *end = strstr(text, "\n\n");
        size_t length = end ? (size_t)(end - text) : strlen(text);
        char *paragraph = strndup(text, length);
        if (!paragraph) return;
        show(out, paragraph, first);
        free(paragraph);
        first = false;
        text = end ? end + 2 : NULL;
    }
}

static void show_paragraph(FILE *out, const char *paragraph, bool first)
{
    (void)first;
    fputc('\n', out);
    wrap(out, paragraph, 0, 0);
}

/* What stands behind an option's sentence: its choices, its default. */
static void option_help(const cli_option *o, char *text, size_t size)
{
    int used = snprintf(text, size, "%s", o->help);
    if (o->choices && used < (int)size)
        used += snprintf(text + used, size - (size_t)used, " (%s)", o->choices);
    if (o->fallback && used < (int)size) snprintf(text + used, size - (size_t)used, " [%s]", o->fallback);
}

static void show_option(FILE *out, const cli_option *o)
{
    char left[80], help[600];
    int used = snprintf(left, sizeof left, "  %c%c%c --%s", o->letter ? '-' : ' ',
                        o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name);
    if (o->kind != CLI_FLAG) snprintf(left + used, sizeof left - (size_t)used, " %s", o->argument);
    option_help(o, help, sizeof help);
    if (strlen(left) > 26)
        fprintf(out, "%s\n%28s", left, "");
    else
        fprintf(out, "%-28s", left);
    wrap(out, help, 28, 28);
}

void cli_usage_line(const cli_verb *verb, FILE *out)
{
    fprintf(out, "kith %s [OPTIONS]", verb->name);
    for (const cli_argument *a = verb->arguments; a && a->name; a++)
        fprintf(out, " %s%s%s%s", a->optional ? "[" : "", a->name, a->many ? "..." : "",
                a->optional ? "]" : "");
}

void cli_verb_help(const cli_verb *verb, FILE *out)
{
    fprintf(out, "kith %s - %s\n\nusage: ", verb->name, verb->summary);
    cli_usage_line(verb, out);
    fputc('\n', out);
    each_paragraph(verb->description, out, show_paragraph);
    if (verb->arguments && verb->arguments->name) fputs("\narguments:\n", out);
    for (const cli_argument *a = verb->arguments; a && a->name; a++) {
        fprintf(out, "  %-26s", a->name);
        wrap(out, a->help, 28, 28);
    }
    fputs("\noptions:\n", out);
    for (const cli_option *o = verb->options; o && o->name; o++) show_option(out, o);
    size_t n;
    const cli_option *common = cli_common_options(verb, &n);
    for (size_t i = 0; i < n; i++) show_option(out, &common[i]);
    if (verb->examples) fputs("\nexamples:\n", out);
    for (const cli_example *e = verb->examples; e && e->command; e++) {
        fprintf(out, "  $ %s\n      ", e->command);
        wrap(out, e->says, 6, 6);
    }
}

/* The ways in: what somebody has, and what to do with it first. */
static const struct {
    const char *verb, *have, *first, *then;
} ways[] = {
    {"index", "a folder of pictures, to be searched by picture", "kith index ~/Pictures -o pictures.kith",
     "kith search pictures.kith beach.jpg --html beach.html"},
    {"import", "vectors with payloads, rows that come and go: a collection",
     "kith import places.kith rows.npy --payload rows.jsonl --key id",
     "kith search places.kith --like 7 --filter 'year >= 1990'"},
    {"build", "a file of vectors, to be indexed as it is", "kith build IVF4096,Flat base.fvecs -o base.kidx",
     "kith query base.kidx query.fvecs -k 10"},
};

void cli_help(FILE *out)
{
    static const char *const groups[] = {CLI_PICTURES, CLI_ROWS, CLI_VECTORS, CLI_TEXTS, CLI_OTHER};
    fputs("kith - nearest neighbours: of pictures, of rows with payloads, of vectors\n\n"
          "usage: kith VERB [OPTIONS] [ARGUMENTS]\n\nWhat do you have?\n",
          out);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (cli_verb_find(ways[i].verb))
            fprintf(out, "  %s\n      %s\n      %s\n", ways[i].have, ways[i].first, ways[i].then);
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        bool any = false;
        for (size_t i = 0; cli_verbs[i]; i++) {
            if (strcmp(cli_verbs[i]->group, groups[g]) != 0) continue;
            if (!any) fprintf(out, "\n%s:\n", groups[g]);
            any = true;
            fprintf(out, "  %-12s", cli_verbs[i]->name);
            wrap(out, cli_verbs[i]->summary, 14, 14);
        }
    }
    fputs("\n`kith VERB --help` shows a verb's options and examples; `kith --version` the version.\n", out);
}

/* ---- man pages, in mdoc(7)
 * --------------------------------------------------------------------------------- */

/* Text as mdoc takes it: backslashes and minus signs that are to be typed kept as they are, no line that
 * begins like a request, sentences of their own lines. `typed` text is for the keyboard. */
static void man_text(FILE *out, const char *text, bool typed)
{
    bool line_start = true;
    for (const char *at = text; *at; at++) {
        if (line_start && (*at == '.' || *at == '\'')) fputs("\\&", out);
        line_start = false;
        if (*at == '\\')
            fputs("\\e", out);
        else if (*at == '-' && typed)
            fputs("\\-", out);
        else if (*at == '`' || *at == '"' || *at == '\'')
            fputs(*at == '`' ? "\\(ga" : *at == '"' ? "\\(dq" : "\\(aq", out);
        else if (*at == '\n' ||
                 (*at == ' ' && at > text + 1 && strchr(".?!", at[-1]) && isupper((unsigned char)at[1]))) {
            fputc('\n', out);
            line_start = true;
        } else
            fputc(*at, out);
    }
}

static void man_paragraph(FILE *out, const char *paragraph, bool first)
{
    if (!first) fputs(".Pp\n", out);
    man_text(out, paragraph, false);
    fputc('\n', out);
}

static void man_option(FILE *out, const cli_option *o)
{
    char help[600];
    fputs(".It ", out);
    if (o->letter) fprintf(out, "Fl %c , ", o->letter);
    fputs("Fl \\-", out);
    man_text(out, o->name, true);
    if (o->kind != CLI_FLAG) fprintf(out, " Ar %s", o->argument);
    fputc('\n', out);
    option_help(o, help, sizeof help);
    help[0] = (char)toupper((unsigned char)help[0]);
    man_text(out, help, true);
    fputs(".\n", out);
}

static void man_head(FILE *out, const char *title, const char *name, const char *summary)
{
    fprintf(out, ".Dd %s\n.Dt %s 1\n.Os\n.Sh NAME\n.Nm ", RELEASE_DATE, title);
    man_text(out, name, true);
    fputs("\n.Nd ", out);
    man_text(out, summary, false);
    fputs("\n.Sh SYNOPSIS\n", out);
}

static void man_tail(FILE *out)
{
    fputs(".Sh ENVIRONMENT\n.Bl -tag -width Ds\n", out);
    for (size_t i = 0; i < sizeof environment / sizeof *environment; i++) {
        fprintf(out, ".It Ev %s\n", environment[i][0]);
        man_text(out, environment[i][1], false);
        fputs(".\n", out);
    }
    fputs(".El\n.Sh EXIT STATUS\n0 when all went well, 1 when the work failed, 2 for wrong usage.\n", out);
}

static void man_examples(FILE *out, const cli_example *examples)
{
    fputs(".Sh EXAMPLES\n", out);
    for (const cli_example *e = examples; e && e->command; e++) {
        char *says = strdup(e->says);
        if (!says) return;
        says[0] = (char)toupper((unsigned char)says[0]);
        if (e != examples) fputs(".Pp\n", out);
        man_text(out, says, false);
        fputs(":\n.Bd -literal -offset indent\n", out);
        man_text(out, e->command, true);
        fputs("\n.Ed\n", out);
        free(says);
    }
}

/* The name of a page: kith-text-dups. */
static void man_name(const cli_verb *verb, char *name, size_t size)
{
    snprintf(name, size, "kith-%s", verb->name);
    for (char *c = name; *c; c++)
        if (*c == ' ') *c = '-';
}

static void man_verb(const cli_verb *verb, FILE *out)
{
    char title[64], name[64];
    man_name(verb, name, sizeof name);
    for (size_t i = 0; i <= strlen(name); i++) title[i] = (char)toupper((unsigned char)name[i]);
    man_head(out, title, name, verb->summary);
    fprintf(out, ".Nm kith %s\n.Op Ar OPTIONS\n", verb->name);
    for (const cli_argument *a = verb->arguments; a && a->name; a++)
        fprintf(out, ".%sAr %s%s\n", a->optional ? "Op " : "", a->name, a->many ? " ..." : "");
    fputs(".Sh DESCRIPTION\n", out);
    each_paragraph(verb->description, out, man_paragraph);
    if (verb->arguments && verb->arguments->name) fputs(".Pp\nThe arguments are:\n.Bl -tag -width Ds\n", out);
    for (const cli_argument *a = verb->arguments; a && a->name; a++) {
        char *help = strdup(a->help);
        if (!help) return;
        help[0] = (char)toupper((unsigned char)help[0]);
        fprintf(out, ".It Ar %s\n", a->name);
        man_text(out, help, false);
        fputs(".\n", out);
        free(help);
    }
    if (verb->arguments && verb->arguments->name) fputs(".El\n", out);
    fputs(".Pp\nThe options are as follows; a value in brackets is the one taken without the option:\n"
          ".Bl -tag -width Ds\n",
          out);
    for (const cli_option *o = verb->options; o && o->name; o++) man_option(out, o);
    size_t n;
    const cli_option *common = cli_common_options(verb, &n);
    for (size_t i = 0; i < n; i++) man_option(out, &common[i]);
    fputs(".El\n", out);
    man_tail(out);
    man_examples(out, verb->examples);
    fputs(".Sh SEE ALSO\n.Xr kith 1\n", out);
}

static void man_kith(FILE *out)
{
    man_head(out, "KITH", "kith", "nearest neighbours: of pictures, of rows with payloads, of vectors");
    fputs(".Nm kith\n.Ar VERB\n.Op Ar OPTIONS\n.Op Ar ARGUMENTS\n"
          ".Nm kith\n.Fl \\-help | \\-version\n.Sh DESCRIPTION\n"
          ".Nm\nindexes folders of pictures, collections of rows that have a vector and a payload, and files "
          "of "
          "vectors, and finds in them what is nearest to a query.\n"
          "Each verb has a page of its own:\n.Bl -tag -width Ds\n",
          out);
    for (size_t i = 0; cli_verbs[i]; i++) {
        char page[64];
        man_name(cli_verbs[i], page, sizeof page);
        fprintf(out, ".It Xr %s 1\n", page);
        man_text(out, cli_verbs[i]->summary, false);
        fputs(".\n", out);
    }
    fputs(".El\n", out);
    man_tail(out);
    const cli_example examples[] = {
        {"kith index ~/Pictures -o pictures.kith", "make a collection of a folder of pictures"},
        {"kith search pictures.kith beach.jpg --html beach.html", "find the pictures that look like one"},
        {"kith import places.kith rows.npy --payload rows.jsonl --key id",
         "make a collection of vectors with payloads"},
        {"kith search places.kith --like 7 --filter 'year >= 1990'",
         "find the rows that are most like one of them"},
        {"kith build IVF4096,PQ16 base.fvecs -o base.kidx", "index a file of vectors"},
        {"kith query base.kidx query.fvecs -k 10 --set nprobe=64", "find the ten nearest of each query"},
        {NULL, NULL}};
    man_examples(out, examples);
    fputs(".Sh DIAGNOSTICS\nErrors are one line on the standard error, of the form\n"
          ".Ql kith VERB: what: why .\n",
          out);
}

int cli_man(const char *name, FILE *out)
{
    if (name) {
        char words[64]; /* a page is asked for by its name, too: text-dups */
        snprintf(words, sizeof words, "%s", name);
        for (char *c = words; *c; c++)
            if (*c == '-') *c = ' ';
        const cli_verb *verb = cli_verb_find(words);
        if (!verb) return CLI_USAGE;
        man_verb(verb, out);
    } else {
        man_kith(out);
    }
    return fflush(out) == 0 && !ferror(out) ? CLI_OK : CLI_FAILED;
}

/* ---- completion
 * -------------------------------------------------------------------------------------------- */

static const cli_option *option_of(const cli_verb *verb, const char *word)
{
    size_t n;
    const cli_option *common = cli_common_options(verb, &n);
    for (const cli_option *o = verb->options; o && o->name; o++)
        if ((word[1] == '-' && strcmp(word + 2, o->name) == 0) ||
            (word[1] == o->letter && word[1] && !word[2]))
            return o;
    for (size_t i = 0; i < n; i++)
        if ((word[1] == '-' && strcmp(word + 2, common[i].name) == 0) ||
            (word[1] == common[i].letter && word[1] && !word[2]))
            return &common[i];
    return NULL;
}

static void offer(FILE *out, const char *prefix, const char *dashes, const char *word, size_t length)
{
    char whole[128];
    snprintf(whole, sizeof whole, "%s%.*s", dashes, (int)length, word);
    if (strncmp(whole, prefix, strlen(prefix)) == 0) fprintf(out, "%s\n", whole);
}

static void offer_choices(FILE *out, const char *prefix, const char *choices)
{
    for (const char *at = choices; at && *at; at += strspn(at, "|")) {
        size_t length = strcspn(at, "|");
        offer(out, prefix, "", at, length);
        at += length;
    }
}

/* Word number `at` of the names of all verbs whose words before it are `words`, each once. */
static void offer_verbs(FILE *out, const char *prefix, char *const *words, size_t at)
{
    const char *before = "";
    size_t before_length = 0;
    for (size_t i = 0; cli_verbs[i]; i++) {
        const char *name = cli_verbs[i]->name;
        size_t w = 0;
        for (; w < at; w++) {
            size_t length = strcspn(name, " ");
            if (strlen(words[w]) != length || strncmp(words[w], name, length) != 0 || !name[length]) break;
            name += length + 1;
        }
        size_t length = strcspn(name, " ");
        if (w < at || (length == before_length && strncmp(before, name, length) == 0)) continue;
        before = name; /* verbs that share their first word stand together in verbs.def */
        before_length = length;
        offer(out, prefix, "", name, length);
    }
}

/* Nothing printed means: complete file names. */
int cli_complete(int n, char **words, FILE *out)
{
    const char *prefix = n > 0 ? words[n - 1] : "";
    size_t used = 0;
    const cli_verb *verb = n > 1 ? cli_verb_match((size_t)n - 1, words, &used) : NULL;
    if (n <= 1) {
        offer_verbs(out, prefix, words, 0);
        offer(out, prefix, "--", "help", 4);
        offer(out, prefix, "--", "version", 7);
    } else if (verb && strcmp(verb->name, "help") == 0) {
        offer_verbs(out, prefix, words + 1, (size_t)n - 2);
    } else if (!verb) {
        offer_verbs(out, prefix, words, (size_t)n - 1);
    } else {
        const char *before = words[n - 2];
        const cli_option *open = (size_t)n > used + 1 && before[0] == '-' ? option_of(verb, before) : NULL;
        if (open && open->kind != CLI_FLAG) {
            offer_choices(out, prefix, open->choices);
        } else if (prefix[0] == '-') {
            for (const cli_option *o = verb->options; o && o->name; o++)
                offer(out, prefix, "--", o->name, strlen(o->name));
            size_t n_common;
            const cli_option *common = cli_common_options(verb, &n_common);
            for (size_t i = 0; i < n_common; i++)
                offer(out, prefix, "--", common[i].name, strlen(common[i].name));
        }
    }
    return fflush(out) == 0 ? CLI_OK : CLI_FAILED;
}
