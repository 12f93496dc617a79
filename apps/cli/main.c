/* main.c - find the verb, parse its options, run it. */
#include "cli.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include <kith/simd.h>
#include <kith/version.h>

#ifdef KITH_WITH_PICTURES
#define VERB_PICTURES(name) &verb_##name,
#else
#define VERB_PICTURES(name)
#endif
#ifdef KITH_WITH_TEXT
#define VERB_TEXT(name) &verb_##name,
#else
#define VERB_TEXT(name)
#endif
#ifdef KITH_WITH_SERVER
#define VERB_SERVER(name) &verb_##name,
#else
#define VERB_SERVER(name)
#endif
#define VERB(name) &verb_##name,
const cli_verb *const cli_verbs[] = {
#include "verbs.def"
    NULL};
#undef VERB
#undef VERB_TEXT
#undef VERB_PICTURES
#undef VERB_SERVER

const cli_verb *cli_verb_find(const char *name)
{
    for (size_t i = 0; cli_verbs[i]; i++)
        if (strcmp(cli_verbs[i]->name, name) == 0) return cli_verbs[i];
    return NULL;
}

/* Whether a name is these words, and nothing behind them but perhaps more words. */
static size_t words_of_name(const char *name, size_t n, char *const *words)
{
    size_t used = 0;
    while (used < n) {
        size_t length = strcspn(name, " ");
        if (strlen(words[used]) != length || strncmp(words[used], name, length) != 0) return 0;
        used++;
        if (!name[length]) return used;
        name += length + 1;
    }
    return 0;
}

const cli_verb *cli_verb_match(size_t n, char *const *words, size_t *used)
{
    for (size_t i = 0; cli_verbs[i]; i++)
        if ((*used = words_of_name(cli_verbs[i]->name, n, words)) > 0) return cli_verbs[i];
    return NULL;
}

bool cli_verb_opens(const char *word)
{
    size_t length = strlen(word);
    for (size_t i = 0; cli_verbs[i]; i++)
        if (strncmp(cli_verbs[i]->name, word, length) == 0 && cli_verbs[i]->name[length] == ' ') return true;
    return false;
}

/* `kith text`: which verbs there are. --help asks for it, else it is wrong usage. */
static int incomplete_verb(const char *word, const char *next)
{
    size_t length = strlen(word);
    bool asked = next && (strcmp(next, "--help") == 0 || strcmp(next, "-h") == 0);
    if (!asked)
        fprintf(stderr, "kith %s: %s%sunknown verb; there is", word, next ? next : "", next ? ": " : "");
    for (size_t i = 0; cli_verbs[i]; i++) {
        if (strncmp(cli_verbs[i]->name, word, length) != 0 || cli_verbs[i]->name[length] != ' ') continue;
        if (asked)
            printf("kith %s - %s\n", cli_verbs[i]->name, cli_verbs[i]->summary);
        else
            fprintf(stderr, " `kith %s`", cli_verbs[i]->name);
    }
    if (!asked) fputc('\n', stderr);
    return asked && fflush(stdout) == 0 ? CLI_OK : CLI_USAGE;
}

static int unknown_verb(const char *word)
{
    size_t n = 0;
    while (cli_verbs[n]) n++;
    const char **names = calloc(n + 1, sizeof *names);
    for (size_t i = 0; names && i < n; i++) names[i] = cli_verbs[i]->name;
    const char *near = names ? cli_nearest(word, names) : NULL;
    if (word[0] == '-')
        fprintf(stderr, "kith: %s: unknown option; `kith --help` lists what there is\n", word);
    else if (near)
        fprintf(stderr, "kith: %s: unknown verb; did you mean `kith %s`?\n", word, near);
    else
        fprintf(stderr, "kith: %s: unknown verb; `kith --help` lists them\n", word);
    free(names);
    return CLI_USAGE;
}

static int run_verb(const cli_verb *verb, int argc, char **argv)
{
    cli_context cli = {.verb = verb};
    kith_run_init(&cli.run);
    kith_error err;
    if (kith_simd_check(&err) != KITH_OK) return cli_usage(&cli, "KITH_SIMD", "%s", err.message);
    void *options = calloc(1, verb->options_size + 1);
    if (!options) return cli_fail(&cli, verb->name, "out of memory");
    int status = cli_parse(&cli, argc, argv, options);
    if (status < 0) {
        status = cli_run_init(&cli);
        if (status == CLI_OK) status = verb->run(&cli, options);
        cli_run_clear(&cli);
    }
    cli_parse_clear(&cli, options);
    free(options);
    return status;
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, ""); /* how wide a file name is on the terminal; numbers stay as C writes them */
    if (argc < 2) {
        cli_help(stderr);
        return CLI_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        cli_help(stdout);
        return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
    }
    if (strcmp(word, "--version") == 0) {
        printf("kith %s\n", kith_version());
        return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
    }
    if (strcmp(word, "--man") == 0) return cli_man(argv[2], stdout);
    if (strcmp(word, "--complete") == 0) return cli_complete(argc - 2, argv + 2, stdout);
    size_t used;
    const cli_verb *verb = cli_verb_match((size_t)argc - 1, argv + 1, &used);
    if (verb) return run_verb(verb, argc - (int)used, argv + used);
    return cli_verb_opens(word) ? incomplete_verb(word, argv[2]) : unknown_verb(word);
}
