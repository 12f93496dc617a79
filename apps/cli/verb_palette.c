/* verb_palette.c - `kith palette`: a picture in a few colours, which is vector quantisation one can see. */
#include "cli_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/gallery.h>

#include "palette.h"

struct options {
    uint64_t k, seed;
};

static int print_palette(cli_context *cli, const palette *p, size_t pixels)
{
    if (cli->json) {
        json_t *colours = json_array();
        for (size_t i = 0; colours && i < p->n; i++) {
            char hex[8];
            snprintf(hex, sizeof hex, "#%02x%02x%02x", p->colour[i][0], p->colour[i][1], p->colour[i][2]);
            json_array_append_new(colours,
                                  json_pack("{ss sI}", "colour", hex, "pixels", (json_int_t)p->pixels[i]));
        }
        if (!colours) return cli_json_line(cli, NULL);
        return cli_json_line(cli, json_pack("{so so so so}", "input", cli_json_text(cli->args[0]), "output",
                                            cli_json_text(cli->args[1]), "psnr", cli_json_number(p->psnr),
                                            "colours", colours));
    }
    if (isinf(p->psnr))
        printf("%s: %zu colours, every pixel as it was\n", cli->args[1], p->n);
    else
        printf("%s: %zu colours, PSNR %.2f dB\n", cli->args[1], p->n, p->psnr);
    if (cli->quiet) return cli_flush(cli);
    static const char *const headings[] = {"colour", ">share"};
    cli_table table;
    cli_table_init(&table, headings, 2);
    for (size_t i = 0; i < p->n; i++) {
        cli_table_cell(&table, "#%02x%02x%02x", p->colour[i][0], p->colour[i][1], p->colour[i][2]);
        cli_table_cell(&table, "%.1f %%", 100 * (double)p->pixels[i] / (double)pixels);
    }
    return cli_table_print(cli, &table);
}

static int quantise(cli_context *cli, const struct options *o, kith_image *image)
{
    kith_error err;
    palette colours;
    size_t pixels = (size_t)image->width * image->height;
    uint8_t *number = malloc(pixels);
    if (!number) return cli_fail(cli, NULL, "out of memory");
    int status = CLI_OK;
    if (palette_make((const uint8_t(*)[3])image->pixels, pixels, (size_t)o->k, o->seed, &cli->run, &colours,
                     number, &err) != KITH_OK) {
        status = cli_fail_error(cli, cli->args[0], &err);
    } else {
        for (size_t i = 0; i < pixels; i++) memcpy(image->pixels + 3 * i, colours.colour[number[i]], 3);
        if (kith_image_save(image, cli->args[1], &err) != KITH_OK)
            status = cli_fail_message(cli, cli->args[1], &err);
    }
    free(number);
    return status == CLI_OK ? print_palette(cli, &colours, pixels) : status;
}

/* The decoder process is forked before the threads are started. */
static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_error err;
    kith_gallery *gallery;
    kith_gallery_options how;
    kith_gallery_options_init(&how);
    how.jobs = 1;
    kith_image image;
    int status = cli_output_check(cli, cli->args[1]);
    if (status != CLI_OK) return status;
    if (kith_gallery_open(NULL, &how, &gallery, &err) != KITH_OK) return cli_fail_error(cli, NULL, &err);
    kith_status decoded = kith_gallery_decode(gallery, cli->args[0], 0, &image, &err);
    kith_gallery_close(gallery);
    if (decoded != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    if (kith_pool_create(0, NULL, &cli->run.pool, &err) != KITH_OK)
        status = cli_fail_error(cli, NULL, &err);
    else
        status = quantise(cli, o, &image);
    kith_image_clear(&image);
    return status;
}

const cli_verb verb_palette = {
    .name = "palette",
    .group = CLI_PICTURES,
    .summary = "reduce a picture to its K colours",
    .description = "Finds the K colours that stand best for all pixels of the picture IN, by k-means in RGB "
                   "space, and writes "
                   "the picture in these colours as OUT. Prints the peak signal-to-noise ratio of the result "
                   "and the colours "
                   "with their share of the pixels. This is vector quantisation, the idea under product "
                   "quantisation, where "
                   "one can see it.",
    .arguments =
        (const cli_argument[]){
            {.name = "IN", .help = "the picture"},
            {.name = "OUT",
             .help = "what to write; .png, .webp and .tif keep the colours exactly, .jpg does not"},
            {0}},
    .options = (const cli_option[]){{.name = "colours",
                                     .letter = 'k',
                                     .kind = CLI_COUNT,
                                     .argument = "K",
                                     .fallback = "16",
                                     .low = 1,
                                     .high = PALETTE_MAX,
                                     .into = offsetof(struct options, k),
                                     .help = "how many colours"},
                                    CLI_OPTION_SEED("another seed finds another palette, about as good"),
                                    {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith palette cat.jpg cat16.png -k 16", "sixteen colours"}, {0}},
    .run = run,
};
