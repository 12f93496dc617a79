/* copies.h - what the verbs that copy collections, or compare them, share. */
#ifndef KITH_CLI_COPIES_H
#define KITH_CLI_COPIES_H

#include "cli.h"

#include <kith/copies.h>

/* Copy the collection of the first argument to the second by `way`, kith_collection_sync or _snapshot, and say what was
 * copied. Returns an exit status. */
typedef kith_status copies_way(kith_collection *source, const char *path, const kith_copy_options *options,
                               kith_copy_report *report, kith_error *err);
/* taken: what to do where the path has something else, for the message. */
int copies_make(cli_context *cli, copies_way *way, bool replace, bool without_segment, const char *taken);

/* A copy was not made: where the path is taken the message ends with the way out. Returns CLI_FAILED. */
int copies_fail(cli_context *cli, const kith_error *err, const char *taken);

/* What a copy was like, as a line of text or JSON. Returns an exit status. */
int copies_report(cli_context *cli, const char *copy, const kith_copy_report *report);

/* Whether two collections are the same; how they differ is said as a failure, or as a line of JSON and a failure. */
int copies_compare(cli_context *cli, const char *first, const char *second, bool everything);

/* clang-format off */
#define COPIES_OPTION_NO_SEGMENT \
    {.name = "no-index", .kind = CLI_FLAG, .into = offsetof(struct options, no_index), \
     .help = "leave the search index out; it can be built anew"}
/* clang-format on */

#endif
