/* documents.h - the documents of a file or a folder, read into a kith_texts. */
#ifndef KITH_CLI_DOCUMENTS_H
#define KITH_CLI_DOCUMENTS_H

#include "cli.h"

#include <kith/text.h>

typedef struct documents {
    kith_texts *texts;
    bool numbered;    /* ids are the numbers of the lines */
    char *ids;        /* one after the other, each 0-terminated */
    size_t *id_start; /* [n] */
    size_t n, room;   /* documents */
    size_t ids_size, ids_room;
    size_t left_out; /* files of a folder that are no text */
    int failed;      /* files of a folder that could not be read, said so */
} documents;

/* How the lines of a file are documents. */
typedef struct documents_format {
    const char *
        format; /* "lines", "first-word", "tsv", or NULL: "tsv" where columns or id are given or the name ends
                          * in .tsv, else "lines" */
    const char *columns; /* of a TSV, comma-separated names or numbers; NULL: all but the id */
    const char *id;      /* of a TSV, a name or number; NULL: the first */
} documents_format;

/* Read what `path` is: a folder with a document in each file, a file with one in each line, "-" the standard input.
 * The texts are shingled as options say and not kept. Returns CLI_OK, or an exit status with a message. Clear it in either
 * case. */
int documents_read(cli_context *cli, const char *path, const documents_format *format,
                   const kith_texts_options *options, documents *docs);
void documents_clear(documents *docs);

/* The id of a document. */
const char *documents_id(const documents *docs, size_t i);
json_t *documents_id_json(const documents *docs, size_t i); /* a number where it is that of a line */

#endif
