/* cli.h - the frame that every verb of the program `kith` stands in.
 *
 * A verb is one file, verb_<name>.c, with one external symbol: a `const cli_verb verb_<name>` that describes
 * it (summary, arguments, options, examples) and points at its run function. One line in verbs.def registers
 * it. The parser, `--help`, the man page, the completion and the test of bad values all read the same
 * description.
 *
 * Verbs use the public headers (include/kith/) and this one, nothing else of the project: if that is not
 * enough, the public interface lacks something.
 */
#ifndef KITH_CLI_H
#define KITH_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include <kith/dataset.h>
#include <kith/index.h>
#include <kith/metric.h>
#include <kith/run.h>
#include <kith/status.h>
#include <kith/tune.h>

/* Exit statuses. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* ---- describing a verb ----------------------------------------------------------------------------------
 */

/* The values of an option that may be given more than once, in the order given. */
typedef struct cli_list {
    const char **items;
    size_t n;
} cli_list;

/* What an option's argument is, and so what the member that it fills must be. */
typedef enum cli_kind {
    CLI_FLAG,   /* no argument; int, 0 or 1 */
    CLI_TEXT,   /* const char *, NULL when absent */
    CLI_COUNT,  /* uint64_t, low..high */
    CLI_NUMBER, /* double, low..high */
    CLI_LIST    /* cli_list: may be repeated */
} cli_kind;

typedef struct cli_option {
    const char *name;     /* long name without the dashes; NULL ends the table */
    char letter;          /* short name, or 0 */
    cli_kind kind;        /* */
    const char *argument; /* what the argument is called in the help: "FILE", "N" */
    const char *fallback; /* the value when absent, as a user would write it; NULL: 0 or NULL */
    const char *choices;  /* CLI_TEXT: the words allowed, separated by '|'; NULL: any */
    double low, high;     /* CLI_COUNT, CLI_NUMBER: the range; both 0: any */
    size_t into;          /* offsetof the member of the verb's option struct that is filled */
    const char *help;     /* one sentence, no full stop */
} cli_option;

/* A positional argument. */
typedef struct cli_argument {
    const char *name; /* "BASE"; NULL ends the table */
    const char *help; /* one sentence, no full stop */
    bool optional;    /* may be left out; only optional ones may follow */
    bool many;        /* takes all that remain; only the last */
} cli_argument;

typedef struct cli_example {
    const char *command; /* NULL ends the table */
    const char *says;    /* what it does */
} cli_example;

/* Options that many verbs share; a verb names those that it honours. --help and --quiet come with each. */
enum {
    CLI_JSON = 1,    /* --json: cli->json */
    CLI_THREADS = 2, /* --threads N: cli->run.pool; without it cli->run.pool is NULL */
    CLI_WAIT = 4     /* --wait S: cli->wait_ms */
};

typedef struct cli_context cli_context;

typedef struct cli_verb {
    const char *name;              /* "build"; of two words: "text dups" */
    const char *group;             /* heading in `kith --help`: CLI_PICTURES, ... below */
    const char *summary;           /* half a line, no full stop: "build an index over a vector file" */
    const char *description;       /* paragraphs separated by an empty line */
    const cli_argument *arguments; /* NULL: none */
    const cli_option *options;     /* NULL: none of its own */
    const cli_example *examples;   /* at least one */
    unsigned common;               /* CLI_JSON | CLI_THREADS | CLI_WAIT */
    const char *threads;           /* what --threads is when absent; NULL: "0", all processors */
    size_t options_size;           /* sizeof the verb's option struct; 0: none */

    /* Do it. `options` is the filled option struct (zeroed first). The return value is the exit status. */
    int (*run)(cli_context *cli, void *options);
} cli_verb;

#define CLI_PICTURES "Pictures"
#define CLI_VECTORS "Vectors"
#define CLI_TEXTS "Texts"
#define CLI_ROWS "Rows of a collection"
#define CLI_OTHER "Other"

#define VERB_PICTURES(name) extern const cli_verb verb_##name;
#define VERB_TEXT(name) extern const cli_verb verb_##name;
#define VERB_SERVER(name) extern const cli_verb verb_##name;
#define VERB(name) extern const cli_verb verb_##name;
#include "verbs.def"
#undef VERB
#undef VERB_TEXT
#undef VERB_PICTURES
#undef VERB_SERVER

/* All verbs of this build in the order of verbs.def, ended by NULL. */
extern const cli_verb *const cli_verbs[];

/* The verb of a name, or NULL. */
const cli_verb *cli_verb_find(const char *name);

/* The verb that words[n] begin with, or NULL; *used is how many of them are its name. */
const cli_verb *cli_verb_match(size_t n, char *const *words, size_t *used);

/* Whether a word is the first of verbs of two words ("text"). */
bool cli_verb_opens(const char *word);

/* ---- what a running verb gets ---------------------------------------------------------------------------
 */

struct cli_context {
    const cli_verb *verb;
    char **args;   /* the positional arguments, in order, ended by NULL */
    size_t n_args; /* their number */
    int json;      /* --json */
    int quiet;     /* --quiet */
    kith_run
        run; /* pool (CLI_THREADS), progress on a terminal, cancel by SIGINT or SIGTERM; pass &cli->run */

    unsigned wait_ms; /* CLI_WAIT: how long to wait for another writer; 0 without it */

    /* private to the frame */
    uint64_t threads;
    uint64_t given; /* bit i: option i of the verb's table was on the command line */
    struct cli_progress *progress;
};

/* The number of threads that --threads stands for: what kith_pool_threads says. */
size_t cli_threads(const cli_context *cli);

/* Whether an option of the verb's own table was on the command line. */
bool cli_given(const cli_context *cli, const char *option);

/* Whether the user asked to stop (Ctrl-C, SIGTERM). The second signal ends the process. */
bool cli_cancelled(const cli_context *cli);

/* ---- messages ---------------------------------------------------------------------------------------------
 */

#define CLI_PRINTF(string, first) __attribute__((format(printf, string, first)))

/* Print "kith VERB: what: why" on stderr; returns CLI_FAILED. */
int cli_fail(cli_context *cli, const char *what, const char *why, ...) CLI_PRINTF(3, 4);

/* The same with the message of an error. what NULL: the message alone. */
int cli_fail_error(cli_context *cli, const char *what, const kith_error *err);

/* The same for a message that may already begin with the path that it is about, this one or another argument: it is not said
 * twice. */
int cli_fail_message(cli_context *cli, const char *path, const kith_error *err);

/* The same for wrong usage: returns CLI_USAGE. */
int cli_usage(cli_context *cli, const char *what, const char *why, ...) CLI_PRINTF(3, 4);

/* A remark on stderr, "kith VERB: remark"; silent under --quiet. */
void cli_note(cli_context *cli, const char *format, ...) CLI_PRINTF(2, 3);

/* Of the candidates (ended by NULL) the one nearest to a word by edit distance, or NULL if none is near. */
const char *cli_nearest(const char *word, const char *const *candidates);

/* ---- output -----------------------------------------------------------------------------------------------
 */

/* Print one object on a line of stdout at once, and give it up. Returns CLI_OK, or CLI_FAILED with a message
 * when it is NULL (jansson ran out of memory or met invalid UTF-8) or stdout cannot be written. */
int cli_json_line(cli_context *cli, json_t *object);

/* A float as the shortest decimal that reads back as the same float; infinities and NaN become null. */
json_t *cli_json_float(float value);

/* A double with 9 significant digits; infinities and NaN become null. */
json_t *cli_json_number(double value);

/* A string that may not be UTF-8 (a path): invalid bytes become U+FFFD. */
json_t *cli_json_text(const char *text);

/* A table on stdout: columns padded to their widest cell, which a terminal reads easily and cut(1) and awk(1)
 * too. A heading that begins with '>' has its column set flush right. */
typedef struct cli_table {
    size_t columns;
    char **cells; /* row by row, the headings first */
    size_t n, room;
} cli_table;

void cli_table_init(cli_table *table, const char *const *headings, size_t columns);
void cli_table_cell(cli_table *table, const char *format, ...) CLI_PRINTF(2, 3);
/* Print and clear. Returns CLI_OK, or CLI_FAILED with a message. */
int cli_table_print(cli_context *cli, cli_table *table);

/* Flush stdout and see whether all was written: the last call of a verb that prints. */
int cli_flush(cli_context *cli);

/* Take the progress line off the terminal; the functions above do so by themselves. */
void cli_progress_clear(cli_context *cli);

/* "1,234,567" in a static ring of buffers, for messages and tables. */
const char *cli_thousands(uint64_t n);

/* "1 pair", "1,234 pairs", likewise: for nouns that take an s. */
const char *cli_counted(uint64_t n, const char *noun);
/* "12.3 MB", "4.1 GB" in a static ring of buffers. */
const char *cli_bytes(uint64_t bytes);

/* ---- parsing ----------------------------------------------------------------------------------------------
 */

/* Take the next name=value of "name=value,name=value"; both are copied into the caller's buffers of 64 bytes.
 * *text advances. Returns 1, 0 at the end, or -1 when the text is not of that form (or longer than 63 bytes).
 */
int cli_next_pair(const char **text, char name[64], char value[64]);

/* A whole number or a number in range, as the option parser reads it: false when it is not one. */
bool cli_parse_count(const char *text, uint64_t *value);
bool cli_parse_number(const char *text, double *value);

/* The settings of all --set options (each "name=value,name=value"), in order. Returns CLI_OK or an exit status with a
 * message. */
typedef struct cli_settings {
    kith_setting *items; /* names are owned */
    size_t n;
} cli_settings;
int cli_settings_parse(cli_context *cli, const char *option, const cli_list *list, cli_settings *settings);
void cli_settings_clear(cli_settings *settings);

/* ---- vectors ---------------------------------------------------------------------------------------------- */

/* A vector file in memory: as float32, whatever its format was, or, for the metric hamming, as bits. */
typedef struct cli_vectors {
    float *x;      /* x[n][dim]; NULL for bits */
    uint8_t *bits; /* bits[n][dim / 8], or NULL: each component of the file is a byte, 8 bits */
    size_t n, dim;
} cli_vectors;

/* The metrics that an option takes. */
#define CLI_METRICS "l2|dot|cosine|l1|hamming"

/* Which of the arrays of an HDF5 file (ann-benchmarks' layout) is meant; other formats hold one. */
typedef enum cli_role {
    CLI_ROLE_BASE,    /* "train" */
    CLI_ROLE_QUERIES, /* "test" */
    CLI_ROLE_TRUTH    /* "neighbors" */
} cli_role;

/* Open a vector file of any format that kith reads. Returns CLI_OK, or CLI_FAILED with a message. */
int cli_dataset_open(cli_context *cli, const char *path, cli_role role, kith_dataset **dataset);

/* The same, the format given; KITH_DATASET_AUTO: by the path. */
int cli_dataset_open_as(cli_context *cli, const char *path, cli_role role, kith_dataset_format format,
                        kith_dataset **dataset);

/* Load such a file as rows of the kind that a metric compares; limit 0: all rows, else the first `limit`. Returns CLI_OK
 * or CLI_FAILED with a message. Clear it in either case. */
int cli_vectors_load(cli_context *cli, const char *path, cli_role role, kith_metric metric, size_t limit,
                     cli_vectors *vectors);
void cli_vectors_clear(cli_vectors *vectors);

/* kith_index_train, kith_index_add, kith_index_calibrate and kith_search, or their counterparts for bits. The search takes rows first ..
 * first + n - 1 of the queries. */
kith_status cli_index_train(kith_index *index, const cli_vectors *rows, const kith_run *run, kith_error *err);
kith_status cli_index_add(kith_index *index, const cli_vectors *rows, const kith_run *run, kith_error *err);
kith_status cli_index_calibrate(kith_index *index, const cli_vectors *queries,
                                const kith_calibrate_options *options, const kith_run *run, kith_error *err);
kith_status cli_search(kith_searcher *searcher, const cli_vectors *queries, size_t first, size_t n, size_t k,
                       const kith_search_options *options, uint64_t *ids, float *dist,
                       kith_search_stats *stats, kith_error *err);

/* The ids of true neighbours, nearest first: ids[n][k]. */
typedef struct cli_truth {
    int32_t *ids;
    size_t n, k;
} cli_truth;
int cli_truth_load(cli_context *cli, const char *path, cli_truth *truth);
void cli_truth_clear(cli_truth *truth);

/* That every id is a row of a base of n. Returns CLI_OK, or CLI_FAILED with a message. */
int cli_truth_check(cli_context *cli, const char *path, const cli_truth *truth, size_t n);

/* The true neighbours: ids[queries->n][k] of the k rows of base, numbered from 0, that are nearest to each query, by comparing all, with
 * progress. k is not above base->n. Returns CLI_OK, or CLI_FAILED with a message. */
int cli_neighbours(cli_context *cli, kith_metric metric, const cli_vectors *base, const cli_vectors *queries,
                   size_t k, uint64_t *ids);

/* Write ids[n][k] as .ivecs; rows that are not there (KITH_NO_ID) become -1. */
int cli_ids_save(cli_context *cli, const char *path, const uint64_t *ids, size_t n, size_t k);

/* Refuse an output file before hours are spent on its content: one whose folder is missing or cannot be written, and one
 * that an argument of the command names, too, however it is spelt. */
int cli_output_check(cli_context *cli, const char *path);

/* The distance of row i of a and row j of b under the metric, in double precision: the judge of recall. */
double cli_distance(kith_metric metric, const cli_vectors *a, size_t i, const cli_vectors *b, size_t j);

/* recall@k: the part of the returned rows whose true distance is at most that of the true k-th neighbour. The truth
 * has one row per query and at least k columns; ids refer to rows of base. */
double cli_recall(kith_metric metric, const cli_vectors *base, const cli_vectors *queries,
                  const cli_truth *truth, const uint64_t *ids, size_t k);

/* recall@k by ids alone, where the base is not at hand: the part of the returned ids among the first k of the truth.
 * Rows at equal distance count as wrong when the truth names another. */
double cli_recall_by_id(const cli_truth *truth, const uint64_t *ids, size_t nq, size_t k);

/* ---- the frame itself: main.c calls these
 * ------------------------------------------------------------------ */

/* Parse what stands behind the verb. Returns -1 to go on, or an exit status (--help, wrong usage). */
int cli_parse(cli_context *cli, int argc, char **argv, void *options);
void cli_parse_clear(cli_context *cli, void *options);

/* Options that stand before the table's own: --help, --quiet and the common ones the verb honours. n gets
 * their number. */
const cli_option *cli_common_options(const cli_verb *verb, size_t *n);

/* Signals, threads, progress. */
int cli_run_init(cli_context *cli);
void cli_run_clear(cli_context *cli);

void cli_help(FILE *out);                             /* kith --help */
void cli_verb_help(const cli_verb *verb, FILE *out);  /* kith VERB --help */
void cli_usage_line(const cli_verb *verb, FILE *out); /* "kith build [OPTIONS] SPEC BASE" */
int cli_man(const char *verb, FILE *out);             /* kith --man [VERB]: an mdoc page */
int cli_complete(int n, char **words, FILE *out); /* kith --complete WORD...: candidates for the last word */

#endif
