/* verb_text_dups.c - `kith text dups`: near-duplicate documents of a file or a folder. */
#include "cli_options.h"

#include <stdlib.h>
#include <string.h>

#include <kith/minhash.h>
#include <kith/text.h>

#include "documents.h"

struct options {
    const char *format, *columns, *id, *shingles, *method, *show, *bits;
    uint64_t min_words, hashes, distance, seed;
    double threshold, recall;
    int curve;
};

/* ---- What is printed ---- */

static int by_similarity(const void *a, const void *b)
{
    const kith_pair *x = a, *y = b;
    if (x->similarity != y->similarity) return x->similarity > y->similarity ? -1 : 1;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    return x->b < y->b ? -1 : x->b > y->b;
}

static int print_pairs(cli_context *cli, const documents *docs, kith_pairs *pairs)
{
    static const char *const headings[] = {">jaccard", "a", "b"};
    cli_table table;
    if (pairs->n) qsort(pairs->items, pairs->n, sizeof *pairs->items, by_similarity);
    if (!cli->json) cli_table_init(&table, headings, 3);
    for (size_t i = 0; i < pairs->n; i++) {
        const kith_pair *pair = &pairs->items[i];
        if (cli->json) {
            int status = cli_json_line(cli, json_pack("{so so so}", "a", documents_id_json(docs, pair->a),
                                                      "b", documents_id_json(docs, pair->b), "jaccard",
                                                      cli_json_number(pair->similarity)));
            if (status != CLI_OK) return status;
            continue;
        }
        cli_table_cell(&table, "%.4f", pair->similarity);
        cli_table_cell(&table, "%s", documents_id(docs, pair->a));
        cli_table_cell(&table, "%s", documents_id(docs, pair->b));
    }
    return cli->json ? cli_flush(cli) : cli_table_print(cli, &table);
}

/* Documents by group: links from one member to the next, so that printing is linear. */
typedef struct groups {
    uint32_t *of;   /* [n]: the first member */
    uint32_t *next; /* [n]: the next member, 0 after the last */
    uint32_t *last; /* [n]: of a first member: the last so far */
    size_t n, members;
} groups;

static int find_groups(cli_context *cli, const documents *docs, const kith_pairs *pairs, groups *g)
{
    size_t n = docs->n + 1;
    g->of = malloc(n * sizeof *g->of);
    g->next = calloc(n, sizeof *g->next);
    g->last = malloc(n * sizeof *g->last);
    if (!g->of || !g->next || !g->last) return cli_fail(cli, NULL, "out of memory");
    kith_pairs_groups(pairs, docs->n, g->of);
    for (uint32_t i = 0; i < docs->n; i++) {
        uint32_t first = g->of[i];
        if (first != i) {
            g->n += g->last[first] == first;
            g->members += 1 + (g->last[first] == first);
            g->next[g->last[first]] = i;
        }
        g->last[first] = i;
    }
    return CLI_OK;
}

static int print_group(cli_context *cli, const documents *docs, const groups *g, size_t number,
                       uint32_t first, cli_table *table)
{
    json_t *ids = cli->json ? json_array() : NULL;
    for (uint32_t i = first;; i = g->next[i]) {
        if (cli->json) {
            json_array_append_new(ids, documents_id_json(docs, i));
        } else {
            cli_table_cell(table, "%zu", number);
            cli_table_cell(table, "%s", documents_id(docs, i));
        }
        if (!g->next[i]) break;
    }
    if (!cli->json) return CLI_OK;
    return cli_json_line(cli, ids ? json_pack("{sI so}", "group", (json_int_t)number, "ids", ids) : NULL);
}

static int print_groups(cli_context *cli, const documents *docs, const groups *g)
{
    static const char *const headings[] = {">group", "document"};
    cli_table table;
    size_t number = 0;
    int status = CLI_OK;
    if (!cli->json) cli_table_init(&table, headings, 2);
    for (uint32_t i = 0; i < docs->n && status == CLI_OK; i++)
        if (g->of[i] == i && g->next[i]) status = print_group(cli, docs, g, ++number, i, &table);
    if (status != CLI_OK) return status;
    return cli->json ? cli_flush(cli) : cli_table_print(cli, &table);
}

/* The S-curve of the bands that the options make. */
static int print_curve(cli_context *cli, const struct options *o)
{
    static const char *const headings[] = {">jaccard", ">found"};
    kith_error err;
    cli_table table;
    size_t bands, rows;
    if (kith_bands_choose((size_t)o->hashes, o->threshold, o->recall, &bands, &rows, &err) != KITH_OK)
        return cli_fail_error(cli, NULL, &err);
    cli_note(cli, "%zu bands of %zu values", bands, rows);
    if (!cli->json) cli_table_init(&table, headings, 2);
    for (int i = 0; i <= 20; i++) {
        double jaccard = 0.05 * i, found = kith_bands_probability(bands, rows, jaccard);
        if (!cli->json) {
            cli_table_cell(&table, "%.2f", jaccard);
            cli_table_cell(&table, "%.4f", found);
            continue;
        }
        int status = cli_json_line(cli, json_pack("{so so sI sI}", "jaccard", cli_json_number(jaccard),
                                                  "probability", cli_json_number(found), "bands",
                                                  (json_int_t)bands, "rows", (json_int_t)rows));
        if (status != CLI_OK) return status;
    }
    return cli->json ? CLI_OK : cli_table_print(cli, &table);
}

/* ---- What is done ---- */

/* "word:3", "char:5". */
static int parse_shingles(cli_context *cli, const char *text, kith_texts_options *options)
{
    uint64_t length;
    bool word = strncmp(text, "word:", 5) == 0;
    if ((!word && strncmp(text, "char:", 5) != 0) || !cli_parse_count(text + 5, &length) || length < 1 ||
        length > KITH_SHINGLE_MAX)
        return cli_usage(cli, "--shingles", "%s: wants word:N or char:N, N from 1 to %d", text,
                         KITH_SHINGLE_MAX);
    options->kind = word ? KITH_SHINGLE_WORD : KITH_SHINGLE_CHAR;
    options->length = (size_t)length;
    return CLI_OK;
}

/* Few values and a low threshold cannot keep what --recall promises: said before the search. */
static int note_recall(cli_context *cli, const struct options *o)
{
    kith_error err;
    size_t bands, rows;
    if (kith_bands_choose((size_t)o->hashes, o->threshold, o->recall, &bands, &rows, &err) != KITH_OK)
        return cli_fail_error(cli, NULL, &err);
    double found = kith_bands_probability(bands, rows, o->threshold);
    if (found < o->recall)
        cli_note(cli,
                 "%llu hashes find only %.2f %% of the pairs at %g: more --hashes, or --method exact, "
                 "find more",
                 (unsigned long long)o->hashes, 100 * found, o->threshold);
    return CLI_OK;
}

static int compare(cli_context *cli, const struct options *o, const documents *docs)
{
    kith_error err;
    kith_pairs pairs;
    kith_texts_pairs_options how;
    kith_texts_pairs_options_init(&how);
    how.method = o->method[0] == 'm'   ? KITH_TEXTS_MINHASH
                 : o->method[0] == 's' ? KITH_TEXTS_SIMHASH
                                       : KITH_TEXTS_EXACT;
    how.threshold = o->threshold;
    how.hashes = (size_t)o->hashes;
    how.recall = o->recall;
    how.bits = strcmp(o->bits, "128") == 0 ? 128 : 64;
    how.distance = (size_t)o->distance;
    how.seed = o->seed;
    how.all_copies = o->show[0] == 'p';
    if (how.distance >= how.bits) return cli_usage(cli, "--distance", "must be below the %zu bits", how.bits);
    int status = how.method == KITH_TEXTS_MINHASH ? note_recall(cli, o) : CLI_OK;
    if (status != CLI_OK) return status;
    if (kith_texts_pairs(docs->texts, &how, &cli->run, &pairs, &err) != KITH_OK) {
        if (err.code == KITH_CANCELLED) return cli_fail(cli, NULL, "interrupted");
        if (err.code == KITH_NOMEM && how.all_copies)
            return cli_fail(cli, cli->args[0], "%s; --show groups takes far less", err.message);
        return cli_fail_error(cli, cli->args[0], &err);
    }
    const char *compared = cli_thousands(kith_texts_counted(docs->texts)), *all = cli_thousands(docs->n);
    if (how.all_copies) {
        size_t found = pairs.n;
        status = print_pairs(cli, docs, &pairs);
        if (status == CLI_OK)
            cli_note(cli, "%s among %s of %s documents", cli_counted(found, "pair"), compared, all);
    } else {
        groups g = {0};
        status = find_groups(cli, docs, &pairs, &g);
        if (status == CLI_OK) status = print_groups(cli, docs, &g);
        if (status == CLI_OK)
            cli_note(cli, "%s of %s among %s of %s", cli_counted(g.n, "group"),
                     cli_counted(g.members, "document"), compared, all);
        free(g.of);
        free(g.next);
        free(g.last);
    }
    kith_pairs_clear(&pairs);
    return status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_texts_options texts;
    kith_texts_options_init(&texts);
    texts.min_words = (size_t)o->min_words;
    int status = parse_shingles(cli, o->shingles, &texts);
    if (status != CLI_OK) return status;
    if (o->threshold <= 0) return cli_usage(cli, "--threshold", "must be above 0");
    if (o->recall <= 0 || o->recall >= 1) return cli_usage(cli, "--recall", "must be between 0 and 1");
    if (o->curve) return print_curve(cli, o);
    if (cli->n_args == 0) return cli_usage(cli, "FILE", "missing: the file or folder of documents");
    const documents_format format = {o->format, o->columns, o->id};
    documents docs;
    status = documents_read(cli, cli->args[0], &format, &texts, &docs);
    if (status == CLI_OK && docs.left_out)
        cli_note(cli, "%s left out: no text, links, or longer than 1 GiB",
                 cli_counted(docs.left_out, "file"));
    if (status == CLI_OK) status = compare(cli, o, &docs);
    if (status == CLI_OK && docs.failed) status = CLI_FAILED;
    documents_clear(&docs);
    return status;
}

const cli_verb verb_text_dups = {
    .name = "text dups",
    .group = CLI_TEXTS,
    .summary = "find near-duplicate documents",
    .description = "Compares the documents of FILE, one a line, or of a folder, one a file, and prints the "
                   "pairs that are nearly the "
                   "same, the most alike first, or groups of them. A document is the set of its shingles, "
                   "the runs of N words that "
                   "occur in it, whatever their case and punctuation; the similarity of two is the Jaccard "
                   "similarity of these sets, "
                   "what they share over what they have together. Scripts without spaces, such as Chinese, "
                   "are cut into shingles of "
                   "characters.\n\n"
                   "Candidates come from MinHash signatures, SimHash fingerprints or an exact join; each is "
                   "compared in full, so no "
                   "pair below the threshold is printed. MinHash misses a few of those just above it "
                   "(--recall; --curve shows how "
                   "many); SimHash finds only those that differ in few bits, which is near-copies; the exact "
                   "join misses none and is "
                   "slow at low thresholds.\n\n"
                   "The id of a document is the number of its line, the first column of a TSV, the first "
                   "word of its line (--format "
                   "first-word), or the path of its file in the folder. Columns are given by number or by "
                   "their names in the first "
                   "line; in a file whose first line does not name them, id is the first, body the last and "
                   "title the one before. "
                   "With --json, each pair is a line {\"a\":ID,\"b\":ID,\"jaccard\":NUMBER}, each group "
                   "{\"group\":N,\"ids\":[...]}.",
    .arguments =
        (const cli_argument[]){{.name = "FILE",
                                .help = "the documents: a file, a folder, or - for the standard input",
                                .optional = true},
                               {0}},
    .options =
        (const cli_option[]){
            {.name = "threshold",
             .letter = 't',
             .kind = CLI_NUMBER,
             .argument = "J",
             .fallback = "0.5",
             .low = 0,
             .high = 1,
             .into = offsetof(struct options, threshold),
             .help = "the least Jaccard similarity of a pair"},
            CLI_OPTION_CHOICE(show, "show", "WHAT", "pairs", "pairs|groups",
                              "pairs, or groups of documents that hang together by pairs"),
            {.name = "shingles",
             .letter = 's',
             .kind = CLI_TEXT,
             .argument = "KIND:N",
             .fallback = "word:3",
             .into = offsetof(struct options, shingles),
             .help = "runs of N words (word:N) or characters (char:N)"},
            CLI_OPTION_COUNT(min_words, "min-words", "N", "0", 0, 1e9, "leave out documents of fewer words"),
            {.name = "columns",
             .letter = 'c',
             .kind = CLI_TEXT,
             .argument = "LIST",
             .into = offsetof(struct options, columns),
             .help = "the columns of a TSV that are the text, names or numbers; all but the id without it"},
            CLI_OPTION_TEXT(id, "id", "COLUMN", "the column of a TSV that is the id; the first without it"),
            {.name = "format",
             .kind = CLI_TEXT,
             .argument = "FORMAT",
             .choices = "lines|first-word|tsv",
             .into = offsetof(struct options, format),
             .help = "what a line is: a text, an id and a text, or columns; by name and options without it"},
            {.name = "method",
             .letter = 'm',
             .kind = CLI_TEXT,
             .argument = "METHOD",
             .fallback = "minhash",
             .choices = "minhash|simhash|exact",
             .into = offsetof(struct options, method),
             .help = "where candidates come from"},
            CLI_OPTION_COUNT(hashes, "hashes", "N", "128", 1, KITH_MINHASH_MAX_HASHES,
                             "minhash: values of a signature, 4 bytes each"),
            CLI_OPTION_NUMBER(recall, "recall", "R", "0.99", 0, 1,
                              "minhash: how many of the pairs just at the threshold are to be found"),
            CLI_OPTION_COUNT(distance, "distance", "BITS", "3", 0, 127, "simhash: how many bits may differ"),
            CLI_OPTION_CHOICE(bits, "bits", "N", "64", "64|128", "simhash: bits of a fingerprint"),
            CLI_OPTION_SEED("minhash: another seed misses other pairs"),
            CLI_OPTION_FLAG(
                curve, "curve",
                "minhash: print which part of the pairs of each similarity is found, and do nothing else"),
            {0}},
    .common = CLI_JSON | CLI_THREADS,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith text dups articles.txt", "pairs of lines that are nearly the same"},
            {"kith text dups news.tsv --columns title,body --min-words 30 --json",
             "columns of a table, for a script"},
            {"kith text dups essays/ --show groups -t 0.3", "a folder with a text in each file"},
            {"kith text dups --curve -t 0.8", "what MinHash would find at this threshold"},
            {0}},
    .run = run,
};
