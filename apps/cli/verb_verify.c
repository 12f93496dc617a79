/* verb_verify.c - `kith verify`: is a file whole, and is a copy of it the same? */
#include "cli.h"

#include <inttypes.h>
#include <string.h>

#include <kith/file.h>
#ifdef KITH_WITH_PICTURES
#include "copies.h"
#endif

struct options {
    const char *against;
    int everything;
};

/* One file, proved. */
typedef struct proof {
    const char *kind; /* "index" or "collection" */
    uint64_t hash;
} proof;

/* Every checksum, and then the structure itself: a file may be whole and yet have been written wrong. */
static kith_status prove_index(cli_context *cli, const char *path, kith_file *file, uint64_t *hash,
                               kith_error *err)
{
    kith_index *index = NULL;
    kith_status status = kith_file_verify(file, &cli->run, hash, err);
    if (status == KITH_OK) status = kith_index_open(path, KITH_OPEN_MAP, NULL, NULL, &index, err);
    if (status == KITH_OK) status = kith_index_check(index, err);
    kith_index_free(index);
    return status;
}

static kith_status prove_collection(cli_context *cli, const char *path, uint64_t *hash, kith_error *err)
{
#ifdef KITH_WITH_PICTURES
    kith_collection *collection = NULL;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.read_only = 1;
    kith_status status = kith_collection_open(path, &options, &collection, err);
    if (status == KITH_OK) status = kith_collection_check(collection, &cli->run, err);
    if (status == KITH_OK) status = kith_collection_hash(collection, &cli->run, hash, err);
    kith_collection_close(collection);
    return status;
#else
    (void)cli;
    (void)path;
    (void)hash;
    return err->code;
#endif
}

static int report_damage(cli_context *cli, const char *path, const kith_error *err)
{
    if (cli->json) {
        int status = cli_json_line(cli, json_pack("{s:o, s:b, s:o}", "file", cli_json_text(path), "sound", 0,
                                                  "error", cli_json_text(err->message)));
        if (status != CLI_OK) return status;
    }
    return cli_fail_message(cli, path, err);
}

static int prove(cli_context *cli, const char *path, proof *p)
{
    kith_error err;
    kith_file *file = NULL;
    kith_status status = kith_file_open(path, NULL, NULL, &file, &err);
    p->kind = "index";
    if (status == KITH_OK) {
        status = prove_index(cli, path, file, &p->hash, &err);
        kith_file_close(file);
    } else if (status == KITH_FORMAT) {
        p->kind = "collection";
        status = prove_collection(cli, path, &p->hash, &err);
        if (status == KITH_FORMAT) return cli_fail(cli, path, "neither an index nor a collection");
    }
    if (status == KITH_OK) return CLI_OK;
    if (status == KITH_CORRUPT) return report_damage(cli, path, &err);
    return cli_fail_message(cli, path, &err);
}

static int report(cli_context *cli, const char *path, const proof *p)
{
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, p->hash);
    if (cli->json)
        return cli_json_line(cli, json_pack("{s:o, s:s, s:b, s:s}", "file", cli_json_text(path), "kind",
                                            p->kind, "sound", 1, "hash", hash));
    printf("%s  %s\n", hash, path);
    return cli_flush(cli);
}

/* Two files that were proved, each for itself. */
static int compare(cli_context *cli, const struct options *o, const proof *ours, const proof *theirs)
{
    const char *path = cli->args[0];
    if (strcmp(ours->kind, theirs->kind) != 0)
        return cli_fail(cli, o->against, "differs from %s: one is an index, the other a collection", path);
#ifdef KITH_WITH_PICTURES
    if (strcmp(ours->kind, "collection") == 0 && (ours->hash != theirs->hash || o->everything)) {
        int status = copies_compare(cli, path, o->against, o->everything);
        if (status != CLI_OK) return status;
    }
#endif
    return ours->hash == theirs->hash ? CLI_OK : cli_fail(cli, o->against, "differs from %s", path);
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    proof ours, theirs;
    int status = prove(cli, cli->args[0], &ours);
    if (status == CLI_OK) status = report(cli, cli->args[0], &ours);
    if (status != CLI_OK || !o->against) return status;
    status = prove(cli, o->against, &theirs);
    if (status == CLI_OK) status = report(cli, o->against, &theirs);
    return status == CLI_OK ? compare(cli, o, &ours, &theirs) : status;
}

const cli_verb verb_verify = {
    .name = "verify",
    .group = CLI_OTHER,
    .summary = "prove that an index or a collection is whole",
    .description =
        "Reads everything: each checksum of an index file and the invariants of its structure; each row of a "
        "collection, and what SQLite knows of its file. Prints one content hash. Equal hashes on two "
        "machines mean "
        "equal contents: of an index file it is the hash of its bytes, of a collection that of its rows "
        "(key, "
        "vector, payload, text, expiry), in whatever order they were written.\n\n"
        "With --against, the first difference of two collections is named: the row and what of it. The exit "
        "status is 1 "
        "when a file is damaged, or differs from the other.",
    .arguments = (const cli_argument[]){{.name = "FILE", .help = "an index file or a collection"}, {0}},
    .options =
        (const cli_option[]){{.name = "against",
                              .kind = CLI_TEXT,
                              .argument = "OTHER",
                              .into = offsetof(struct options, against),
                              .help = "verify this one too, and compare"},
                             {.name = "everything",
                              .kind = CLI_FLAG,
                              .into = offsetof(struct options, everything),
                              .help = "compare the attachments of rows, too, which the hash leaves out"},
                             {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith verify sift.kidx", "its content hash, or what is damaged"},
                                      {"kith verify pictures.kith --against /backup/pictures.kith",
                                       "whether the copy holds the same rows"},
                                      {0}},
    .run = run,
};
