/* verb_serve.c - `kith serve`: collections over HTTP, and the page that searches them by picture. */
#include "cli_options.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../server/server.h"

struct options {
    const char *host, *token_file, *certificate, *key, *log, *role;
    uint64_t port, connections, max_head_kb, max_body_mb, max_answer_mb, idle, max_k, serve_threads, max_dim,
        max_batch, json_depth, json_parts, deadline, head, least_rate, jobs;
    double max_megapixels;
    int make_token, writable;
};

static int make_token(cli_context *cli, const char *role)
{
    char token[33], line[80];
    kith_error err;
    if (server_make_token(role, token, line, &err) != KITH_OK) return cli_fail_error(cli, NULL, &err);
    printf("%s\n%s\n", token, line);
    cli_note(cli,
             "the first line is the token, for the one who asks; the second belongs into the token file");
    return cli_flush(cli);
}

static volatile sig_atomic_t hung_up; /* a signal handler has no argument to carry it */

static void on_hang_up(int number)
{
    (void)number;
    hung_up = 1;
}

static void reload(cli_context *cli, server *s)
{
    kith_error err;
    hung_up = 0;
    if (server_reload(s, &err) == KITH_OK)
        cli_note(cli, "certificate and key were read again");
    else
        cli_note(cli, "the old certificate stays: %s", err.message);
}

/* Serve until SIGINT or SIGTERM. */
static int serve(cli_context *cli, const server_options *how)
{
    server *s;
    kith_error err;
    if (server_start(how, &s, &err) != KITH_OK) return cli_fail_message(cli, how->path, &err);
    const char *colon = strchr(how->host, ':');
    /* Without a certificate there is nothing to read again: a terminal that goes away ends the server. */
    if (how->certificate) sigaction(SIGHUP, &(struct sigaction){.sa_handler = on_hang_up}, NULL);
    printf("%s://%s%s%s:%u/\n", how->certificate ? "https" : "http", colon ? "[" : "", how->host,
           colon ? "]" : "", server_port(s));
    int status = cli_flush(cli);
    cli_note(cli, "serving %zu collection%s; Ctrl-C ends", server_collections(s),
             server_collections(s) == 1 ? "" : "s");
    while (status == CLI_OK && !cli_cancelled(cli)) {
        if (hung_up) reload(cli, s);
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    server_stop(s);
    return status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    if (o->make_token) return make_token(cli, o->role);
    if (cli->n_args == 0) return cli_usage(cli, "PATH", "missing: a collection, or a folder of collections");
    if (!o->certificate != !o->key) return cli_usage(cli, "--cert", "--cert and --key go together");
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    server_options how = {
        .path = cli->args[0],
        .host = o->host,
        .port = (uint16_t)o->port,
        .token_file = o->token_file,
        .certificate = o->certificate,
        .key = o->key,
        .threads = o->serve_threads ? (unsigned)o->serve_threads
                   : processors > 0 ? (unsigned)processors
                                    : 1,
        .connections = (unsigned)o->connections,
        .max_head = (size_t)o->max_head_kb << 10,
        .max_body = (size_t)o->max_body_mb << 20,
        .max_answer = (size_t)o->max_answer_mb << 20,
        .idle_seconds = (unsigned)o->idle,
        .max_k = (size_t)o->max_k,
        .max_megapixels = o->max_megapixels,
        .writable = o->writable,
        .max_dim = (size_t)o->max_dim,
        .max_batch = (size_t)o->max_batch,
        .max_json_depth = (size_t)o->json_depth,
        .max_json_parts = (size_t)o->json_parts,
        .deadline_ms = (unsigned)o->deadline,
        .head_seconds = (unsigned)o->head,
        .least_rate = (unsigned)o->least_rate,
        .max_jobs = (unsigned)o->jobs,
    };
    if (o->log && strcmp(o->log, "-") == 0) how.log = stderr;
    FILE *log = o->log && !how.log ? fopen(o->log, "ae") : NULL;
    if (o->log && !how.log && !log) return cli_fail(cli, o->log, "cannot be written");
    if (log) how.log = log;
    int status = serve(cli, &how);
    if (log) fclose(log);
    return status;
}

const cli_verb verb_serve = {
    .name = "serve",
    .group = CLI_PICTURES,
    .summary = "search by picture in a browser, and collections over HTTP",
    .description =
        "Serves a collection, or every collection (NAME.kith) of a folder, over HTTP: a page to search by "
        "picture, and the interface behind it (docs/server.md), which also makes collections and changes "
        "rows "
        "when --write or a token allows it. The first line printed is the address.\n\n"
        "It listens to this machine alone. Another --host needs --token-file: then every request but that "
        "for the "
        "page itself must name a token of it. The file holds hashes of tokens; --make-token makes one.\n\n"
        "Pictures that are sent are decoded in processes of their own. Ctrl-C and SIGTERM let requests "
        "finish.",
    .arguments = (const cli_argument[]){{.name = "PATH",
                                         .help = "a collection made by `kith index`, or a folder of them",
                                         .optional = true},
                                        {0}},
    .options =
        (const cli_option[]){
            CLI_OPTION_USUAL(host, "host", "ADDRESS", "127.0.0.1", "where to listen"),
            {.name = "port",
             .letter = 'p',
             .kind = CLI_COUNT,
             .argument = "N",
             .fallback = "7700",
             .low = 0,
             .high = 65535,
             .into = offsetof(struct options, port),
             .help = "the port; 0 means any that is free"},
            {.name = "threads",
             .letter = 'j',
             .kind = CLI_COUNT,
             .argument = "N",
             .fallback = "0",
             .low = 0,
             .high = 256,
             .into = offsetof(struct options, serve_threads),
             .help = "requests that are answered at the same time; 0 means as many as there are processors"},
            CLI_OPTION_TEXT(
                token_file, "token-file", "FILE",
                "who may ask: a line `ROLE SHA256` for each token, ROLE one of read, write, admin"),
            CLI_OPTION_FLAG(make_token, "make-token",
                            "print a new token and its line for the token file, and end"),
            CLI_OPTION_USUAL(
                role, "role", "ROLE", "read",
                "with --make-token: what it allows: read, write (rows), or admin (collections, too)"),
            CLI_OPTION_FLAG(writable, "write",
                            "without --token-file: everybody on this machine may write, not only read"),
            CLI_OPTION_TEXT(
                certificate, "cert", "FILE",
                "serve https with this certificate (PEM, its chain behind it); SIGHUP reads it again"),
            CLI_OPTION_TEXT(key, "key", "FILE", "the certificate's key (PEM, no password)"),
            CLI_OPTION_TEXT(log, "log", "FILE",
                            "append a line of JSON for each request; - is standard error"),
            CLI_OPTION_COUNT(connections, "max-connections", "N", "1024", 1, 65536,
                             "connections at the same time; those beyond are answered 503"),
            CLI_OPTION_COUNT(
                max_head_kb, "max-head", "KB", "8", 2, 1024,
                "refuse requests whose line and headers are longer; a connection takes so much memory"),
            CLI_OPTION_COUNT(max_body_mb, "max-body", "MB", "64", 1, 1024, "refuse longer requests"),
            CLI_OPTION_COUNT(max_answer_mb, "max-answer", "MB", "64", 1, 1024,
                             "refuse searches whose rows make a longer answer; a page of rows ends early"),
            CLI_OPTION_NUMBER(max_megapixels, "max-megapixels", "N", "150", 0.001, 10000,
                              "refuse larger pictures"),
            CLI_OPTION_COUNT(max_k, "max-k", "K", "10000", 1, 1000000, "results of one search at the most"),
            CLI_OPTION_COUNT(idle, "idle", "SECONDS", "30", 1, 3600,
                             "close a connection that is silent for so long"),
            CLI_OPTION_COUNT(head, "head-time", "SECONDS", "10", 1, 3600,
                             "close a connection on which the head of a request takes longer"),
            CLI_OPTION_COUNT(least_rate, "least-rate", "BYTES", "1024", 0, 1 << 30,
                             "close a connection on which a body comes, or an answer goes, in fewer bytes a "
                             "second; 0: any"),
            CLI_OPTION_COUNT(max_dim, "max-dim", "N", "16384", 1, 65536,
                             "components of the vectors of a collection that is made"),
            CLI_OPTION_COUNT(max_batch, "max-batch", "ROWS", "10000", 1, 1000000,
                             "rows of one request at the most"),
            CLI_OPTION_COUNT(json_depth, "max-json-depth", "N", "64", 4, 1000, "levels of JSON"),
            CLI_OPTION_COUNT(json_parts, "max-json-parts", "N", "2000000", 100, 100000000,
                             "values, names and brackets in one body"),
            CLI_OPTION_COUNT(deadline, "deadline", "MS", "10000", 1, 3600000,
                             "milliseconds that a search may take; then it answers with the best so far"),
            CLI_OPTION_COUNT(jobs, "max-jobs", "N", "4", 1, 64,
                             "imports and jobs at work at the same time; those beyond are answered 503"),
            {0}},
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith serve Pictures.kith", "then open http://127.0.0.1:7700/ in a browser"},
            {"kith serve ~/collections --host 0.0.0.0 --token-file tokens --log access.jsonl",
             "every collection of a folder, for others, too"},
            {"kith serve X.kith --host 0.0.0.0 --token-file tokens --cert fullchain.pem --key privkey.pem",
             "encrypted; kill -HUP after the certificate was renewed"},
            {0}},
    .run = run,
};
