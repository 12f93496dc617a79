/* verb_info.c - `kith info`: what a file is and what is in it, without loading it (an index with cells is mapped). */
#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include <kith/dataset.h>
#include <kith/file.h>
#include <kith/index.h>
#include <kith/simd.h>
#ifdef KITH_WITH_HDF5
#include <kith/hdf5.h>
#endif
#ifdef KITH_WITH_PICTURES
#include <kith/collection.h>
#endif

static void row(cli_table *table, const char *name, const char *format, ...) CLI_PRINTF(3, 4);
static void row(cli_table *table, const char *name, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cli_table_cell(table, "%s", name);
    cli_table_cell(table, "%s", text);
}

static const char *simd_name(uint32_t simd)
{
    const char *name = simd <= INT32_MAX ? kith_simd_name((kith_simd)simd) : NULL;
    return name ? name : "unknown";
}

/* ---- index files ---- */

static json_t *section_json(const kith_file_section *s)
{
    char checksum[17];
    snprintf(checksum, sizeof checksum, "%016" PRIx64, s->checksum);
    return json_pack("{s:s, s:I, s:I, s:I, s:s}", "name", s->name, "offset", (json_int_t)s->offset, "bytes",
                     (json_int_t)s->bytes, "element_bytes", (json_int_t)s->element_bytes, "checksum",
                     checksum);
}

/* Rows that are so much farther from their centroids than those trained with, on average, come from elsewhere. */
#define DRIFTED 1.15

/* A cell of so many times the mean is worth splitting: a query that comes upon it pays for all its rows. k-means of real
 * features makes cells of 4 to 7 times the mean by itself. */
#define CROWDED 10

/* What is advised about how rows lie in cells. */
static const char *advice(const kith_cells_info *cells)
{
    if (cells->rows == 0) return "none";
    if (cells->spread_trained > 0 && cells->spread_now > DRIFTED * cells->spread_trained) return "retrain";
    return (double)cells->largest > CROWDED * cells->mean_rows && cells->mean_rows >= 1 ? "compact" : "none";
}

/* How rows lie in cells, of an index file that has any: 1, or 0. What cannot be opened is told as without cells; the rest of
 * `info` stands all the same, and `kith verify` says what is wrong. */
static int find_cells(const char *path, const kith_file_info *info, kith_cells_info *cells)
{
    kith_index *index = NULL;
    *cells = (kith_cells_info){.struct_size = sizeof *cells};
    if (!strstr(info->spec, "IVF")) return 0;
    int found = kith_index_open(path, KITH_OPEN_MAP, NULL, NULL, &index, NULL) == KITH_OK &&
                kith_index_get_cells(index, cells, NULL) == KITH_OK;
    kith_index_free(index);
    return found;
}

static json_t *cells_json(const kith_cells_info *cells)
{
    return json_pack("{s:I, s:o, s:I, s:o, s:I, s:o, s:o, s:o, s:s}", "cells", (json_int_t)cells->cells,
                     "mean_rows", cli_json_number(cells->mean_rows), "largest", (json_int_t)cells->largest,
                     "largest_over_mean", cli_json_number((double)cells->largest / cells->mean_rows), "empty",
                     (json_int_t)cells->empty, "spread_trained", cli_json_number(cells->spread_trained),
                     "spread_now", cli_json_number(cells->spread_now), "drift",
                     cli_json_number(cells->spread_now / cells->spread_trained), "advice", advice(cells));
}

static void cells_rows(cli_table *table, const kith_cells_info *cells)
{
    const char *advised = advice(cells);
    row(table, "cells", "%s, %s empty", cli_thousands(cells->cells), cli_thousands(cells->empty));
    row(table, "rows of a cell", "%.1f on average, %s at most (%.1f times that)", cells->mean_rows,
        cli_thousands(cells->largest), cells->rows ? (double)cells->largest / cells->mean_rows : 0);
    if (cells->spread_trained > 0 && cells->rows > 0)
        row(table, "distance to centroid", "%.6g squared on average, %.6g of those trained with (%.2f times)",
            cells->spread_now, cells->spread_trained, cells->spread_now / cells->spread_trained);
    if (strcmp(advised, "retrain") == 0)
        row(table, "advice", "rows are not like those trained with: build the index anew");
    else if (strcmp(advised, "compact") == 0)
        row(table, "advice", "some cells are far too large: kith compact FILE --max-cell 4");
}

static int index_json(cli_context *cli, const char *path, const kith_file *file, const kith_file_info *info)
{
    kith_file_section section;
    kith_file_section_init(&section);
    json_t *sections = json_array();
    for (size_t i = 0; sections && i < info->sections; i++) {
        (void)kith_file_get_section(file, i, &section, NULL);
        if (json_array_append_new(sections, section_json(&section)) != 0) {
            json_decref(sections);
            sections = NULL;
        }
    }
    json_t *line = json_pack(
        "{s:o, s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:i, s:I, s:o}", "file", cli_json_text(path), "kind",
        "index", "spec", info->spec, "metric", kith_metric_name(info->metric), "rows", (json_int_t)info->rows,
        "dim", (json_int_t)info->dim, "seed", (json_int_t)info->seed, "simd", simd_name(info->simd),
        "version", (int)info->version, "bytes", (json_int_t)info->bytes, "sections", sections);
    kith_cells_info cells;
    if (line && find_cells(path, info, &cells) &&
        json_object_set_new(line, "cells", cells_json(&cells)) != 0) {
        json_decref(line);
        line = NULL;
    }
    return cli_json_line(cli, line);
}

static int index_table(cli_context *cli, const char *path, const kith_file *file, const kith_file_info *info)
{
    cli_table table;
    kith_cells_info cells;
    kith_file_section section;
    kith_file_section_init(&section);
    cli_table_init(&table, (const char *const[]){"INDEX", ""}, 2);
    row(&table, "spec", "%s", info->spec);
    row(&table, "metric", "%s", kith_metric_name(info->metric));
    row(&table, "rows", "%s", cli_thousands(info->rows));
    row(&table, "dim", "%" PRIu64, info->dim);
    row(&table, "seed", "%" PRIu64, info->seed);
    row(&table, "built with", "%s", simd_name(info->simd));
    row(&table, "format version", "%u", (unsigned)info->version);
    row(&table, "size", "%s", cli_bytes(info->bytes));
    if (find_cells(path, info, &cells)) cells_rows(&table, &cells);
    int status = cli_table_print(cli, &table);
    if (status != CLI_OK) return status;
    puts("");
    cli_table_init(&table, (const char *const[]){"SECTION", ">OFFSET", ">BYTES", ">ELEMENT", "CHECKSUM"}, 5);
    for (size_t i = 0; i < info->sections; i++) {
        (void)kith_file_get_section(file, i, &section, NULL);
        cli_table_cell(&table, "%s", section.name);
        cli_table_cell(&table, "%" PRIu64, section.offset);
        cli_table_cell(&table, "%" PRIu64, section.bytes);
        cli_table_cell(&table, "%u", (unsigned)section.element_bytes);
        cli_table_cell(&table, "%016" PRIx64, section.checksum);
    }
    return cli_table_print(cli, &table);
}

static int show_index(cli_context *cli, const char *path, const kith_file *file)
{
    kith_error err;
    kith_file_info info;
    kith_file_info_init(&info);
    if (kith_file_get_info(file, &info, &err) != KITH_OK) return cli_fail_message(cli, path, &err);
    return cli->json ? index_json(cli, path, file, &info) : index_table(cli, path, file, &info);
}

/* ---- vector files ---- */

static int show_vectors(cli_context *cli, const char *path)
{
    kith_dataset *dataset = NULL;
    int status = cli_dataset_open(cli, path, CLI_ROLE_BASE, &dataset);
    if (status != CLI_OK) return status;
    const char *metric = NULL;
#ifdef KITH_WITH_HDF5
    kith_metric meant;
    if (kith_hdf5_is_path(path) && kith_hdf5_metric(path, &meant, NULL) == KITH_OK)
        metric = kith_metric_name(meant);
#endif
    uint64_t rows = kith_dataset_rows(dataset);
    size_t dim = kith_dataset_dim(dataset);
    const char *kind = kith_dataset_kind(dataset),
               *element = kith_element_name(kith_dataset_element(dataset));
    if (cli->json) {
        json_t *line =
            json_pack("{s:o, s:s, s:s, s:I, s:I, s:s}", "file", cli_json_text(path), "kind", "vectors",
                      "format", kind, "rows", (json_int_t)rows, "dim", (json_int_t)dim, "element", element);
        if (line && metric) (void)json_object_set_new(line, "metric", json_string(metric));
        status = cli_json_line(cli, line);
    } else {
        cli_table table;
        cli_table_init(&table, (const char *const[]){"VECTORS", ""}, 2);
        row(&table, "format", "%s", kind);
        row(&table, "rows", "%s", cli_thousands(rows));
        row(&table, "dim", "%zu", dim);
        row(&table, "element", "%s", element);
        if (metric) row(&table, "metric", "%s", metric);
        status = cli_table_print(cli, &table);
    }
    kith_dataset_close(dataset);
    return status;
}

/* ---- collections ---- */

#ifdef KITH_WITH_PICTURES
static int collection_table(cli_context *cli, const kith_collection_stats *stats)
{
    cli_table table;
    cli_table_init(&table, (const char *const[]){"COLLECTION", ""}, 2);
    row(&table, "id", "%s", stats->id);
    row(&table, "schema", "%d", stats->schema);
    row(&table, "rows", "%s", cli_thousands(stats->rows));
    row(&table, "vectors", "%s", cli_thousands(stats->vectors));
    row(&table, "dim", "%zu", stats->dim);
    row(&table, "metric", "%s", kith_metric_name(stats->metric));
    row(&table, "version", "%" PRIu64, stats->version);
    row(&table, "size", "%s", cli_bytes(stats->database_bytes));
    if (stats->segment_bytes) {
        row(&table, "segment", "%s, %s", stats->segment_spec, cli_counted(stats->segment_rows, "row"));
        row(&table, "segment size", "%s", cli_bytes(stats->segment_bytes));
        row(&table, "rows beside it", "%s", cli_thousands(stats->uncovered));
    } else {
        row(&table, "segment", "none: searched exactly");
    }
    return cli_table_print(cli, &table);
}

static int show_collection(cli_context *cli, const char *path)
{
    kith_error err;
    kith_collection_options options;
    kith_collection *collection = NULL;
    kith_collection_stats stats = {.struct_size = sizeof stats};
    kith_collection_options_init(&options);
    options.read_only = 1;
    kith_status status = kith_collection_open(path, &options, &collection, &err);
    if (status == KITH_FORMAT)
        return cli_fail(cli, path, "neither an index, a collection nor a vector file by its extension");
    if (status == KITH_OK) status = kith_collection_get_stats(collection, &stats, &err);
    kith_collection_close(collection);
    if (status != KITH_OK) return cli_fail_message(cli, path, &err);
    if (!cli->json) return collection_table(cli, &stats);
    return cli_json_line(
        cli, json_pack("{s:o, s:s, s:s, s:i, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:s, s:I, s:I}", "file",
                       cli_json_text(path), "kind", "collection", "id", stats.id, "schema", stats.schema,
                       "rows", (json_int_t)stats.rows, "vectors", (json_int_t)stats.vectors, "dim",
                       (json_int_t)stats.dim, "metric", kith_metric_name(stats.metric), "version",
                       (json_int_t)stats.version, "bytes", (json_int_t)stats.database_bytes, "segment_bytes",
                       (json_int_t)stats.segment_bytes, "segment_spec", stats.segment_spec, "segment_rows",
                       (json_int_t)stats.segment_rows, "uncovered", (json_int_t)stats.uncovered));
}
#else
static int show_collection(cli_context *cli, const char *path)
{
    return cli_fail(cli, path, "neither an index nor a vector file by its extension");
}
#endif

/* ---- the verb ---- */

static int run(cli_context *cli, void *options)
{
    (void)options;
    kith_error err;
    kith_file *file = NULL;
    const char *path = cli->args[0];
#ifdef KITH_WITH_HDF5
    if (kith_hdf5_is_path(path)) return show_vectors(cli, path);
#endif
    kith_status status = kith_file_open(path, NULL, NULL, &file, &err);
    if (status == KITH_OK) {
        int shown = show_index(cli, path, file);
        kith_file_close(file);
        return shown;
    }
    if (status != KITH_FORMAT) return cli_fail_message(cli, path, &err);
    if (kith_dataset_format_of_path(path) != KITH_DATASET_AUTO) return show_vectors(cli, path);
    return show_collection(cli, path);
}

const cli_verb verb_info = {
    .name = "info",
    .group = CLI_OTHER,
    .summary = "show what a file is and what is in it",
    .description = "For an index file: its spec, metric, size and the sections it is made of; of one with "
                   "cells (IVF<n>) how many "
                   "rows lie in them, the largest cell, and how far rows are from their centroids against "
                   "those trained with, "
                   "with advice when to split cells or train anew. For a collection: rows, "
                   "dim and "
                   "the state of its search index. For a vector file: format, rows, dim and element type.\n\n"
                   "Reads only the beginning of an index or vector file, and of an index with cells what is "
                   "about those (a text "
                   "file is read once to count its rows); "
                   "`kith verify` reads everything.",
    .arguments =
        (const cli_argument[]){{.name = "FILE", .help = "an index, a collection or a vector file"}, {0}},
    .common = CLI_JSON,
    .examples = (const cli_example[]){{"kith info sift.kidx", "its spec and its sections"},
                                      {"kith info base.fvecs --json", "rows and dim, for a script"},
                                      {0}},
    .run = run,
};
