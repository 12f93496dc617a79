/* csv.h - tables of comma separated values (RFC 4180), read record by record from files that may be larger than memory. */
#ifndef KITH_CLI_CSV_H
#define KITH_CLI_CSV_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CSV_MAX_FIELDS 70000u      /* of a record: a vector may have a column for each component */
#define CSV_MAX_RECORD (64u << 20) /* bytes */

typedef struct csv_field {
    const char *text; /* zero-terminated; it holds no other zero */
    size_t size;
    int quoted; /* it stood between quotes */
} csv_field;

typedef struct csv_reader {
    FILE *file;
    char separator;
    uint64_t bytes, line; /* read so far; of the record read last */
    csv_field *fields;    /* [n], of the record read last */
    size_t n;
    const char *fault; /* what is wrong, when csv_read says so */
    /* private */
    uint64_t lines;
    char *text;
    size_t size, room, fields_room;
} csv_reader;

/* Begin with a file that stands at a record's beginning, `bytes` behind its own. The reader does not own the file. */
void csv_begin(csv_reader *reader, FILE *file, char separator, uint64_t bytes);

/* Read a record; empty lines are passed over. Returns 1, 0 at the end, or -1 with reader->fault. */
int csv_read(csv_reader *reader);

void csv_clear(csv_reader *reader);

/* Write a field, between quotes when it has to be or `quote` says so. Returns 0, or -1: the file cannot be written. */
int csv_write(FILE *file, char separator, const char *text, size_t size, int quote);

#endif
