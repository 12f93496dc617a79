/* contact_sheet.h - search results as one HTML file that needs nothing else. */
#ifndef KITH_CLI_CONTACT_SHEET_H
#define KITH_CLI_CONTACT_SHEET_H

#include "cli.h"

#include <kith/gallery.h>

typedef struct contact_sheet {
    FILE *file; /* NULL: not open */
    char *path, *temporary;
} contact_sheet;

/* Begin a sheet. It is written to a temporary file beside `path`, which appears whole or not at all.
 * Returns CLI_OK, or CLI_FAILED with a message; so do the others. */
int contact_sheet_begin(cli_context *cli, contact_sheet *sheet, const char *path, const char *collection,
                        const char *description);

/* Add a query and what was found for it. */
int contact_sheet_add(cli_context *cli, contact_sheet *sheet, const char *query,
                      const kith_gallery_answer *answer);

/* Add a group of duplicates: the one to keep, and its copies. */
int contact_sheet_add_group(cli_context *cli, contact_sheet *sheet, const kith_gallery_group *group,
                            size_t number);

/* End it and put it in its place. */
int contact_sheet_end(cli_context *cli, contact_sheet *sheet);

/* Give up on it, if it was not ended. */
void contact_sheet_drop(contact_sheet *sheet);

#endif
