/* One self-contained page: no script, no link to anywhere, thumbnails as data URIs. Whatever comes from outside
 * (names, camera makers) goes through put_text, so a file called <script>.jpg is shown as just that. */
#include "contact_sheet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char head[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\">\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'\">\n";

static const char style[] =
    "<style>\n"
    ":root { --paper: #fafafa; --card: #fff; --ink: #1c1c1e; --soft: #6a6a70; --line: #dddde2; --mark: "
    "#2563a8 }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  :root { --paper: #141416; --card: #1f1f23; --ink: #ececf0; --soft: #9b9ba3; --line: #34343a; --mark: "
    "#7db3ec } }\n"
    "* { box-sizing: border-box }\n"
    "body { margin: 0 auto; max-width: 1500px; padding: 1.5rem; background: var(--paper); color: "
    "var(--ink);\n"
    "  font: 15px/1.45 system-ui, sans-serif }\n"
    "h1 { font-size: 1.3rem; margin: 0 } h1 + p { margin: .2rem 0 0; color: var(--soft) }\n"
    "section { margin-top: 1.5rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }\n"
    ".query { display: flex; gap: 1rem; align-items: center; margin-bottom: 1rem }\n"
    ".query img { max-width: 160px; max-height: 160px; border: 3px solid var(--mark); border-radius: 8px }\n"
    ".query h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere } .query p { margin: .2rem 0 0; "
    "color: "
    "var(--soft) }\n"
    "ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;\n"
    "  grid-template-columns: repeat(auto-fill, minmax(min(180px, 44vw), 1fr)) }\n"
    "li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden }\n"
    ".frame { position: relative; display: grid; place-items: center; aspect-ratio: 1; background: "
    "var(--paper) }\n"
    ".frame img { position: absolute; width: 100%; height: 100%; object-fit: contain }\n"
    ".frame span { color: var(--soft) }\n"
    ".about { padding: .6rem .7rem .7rem; font-size: .85rem }\n"
    ".score { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums }\n"
    ".score b { font-size: 1rem } .score span { color: var(--soft) }\n"
    "meter { width: 100%; height: .5rem; margin: .25rem 0 }\n"
    ".path { overflow-wrap: anywhere } .about small { color: var(--soft) }\n"
    "footer { margin-top: 2rem; color: var(--soft); font-size: .85rem }\n"
    "@media print { body { max-width: none; padding: 0 } li, .query { break-inside: avoid } }\n"
    "</style>\n";

/* The length of the UTF-8 character at `s`, 0 when it is none that a page may hold. */
static size_t character(const unsigned char *s)
{
    if (s[0] < 0x80) return s[0] >= 0x20 && s[0] != 0x7f;
    size_t n = s[0] >= 0xc2 && s[0] < 0xe0   ? 2
               : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

/* Text, or the value of an attribute in double quotes. */
static void put_text(FILE *file, const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t n = character(s);
        if (n == 0)
            fputs("\xef\xbf\xbd", file);
        else if (*s == '&')
            fputs("&amp;", file);
        else if (*s == '<')
            fputs("&lt;", file);
        else if (*s == '>')
            fputs("&gt;", file);
        else if (*s == '"')
            fputs("&quot;", file);
        else if (*s == '\'')
            fputs("&#39;", file);
        else
            fwrite(s, 1, n, file);
        s += n ? n : 1;
    }
}

static void put_base64(FILE *file, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t n = size - i < 3 ? size - i : 3;
        uint32_t three = (uint32_t)bytes[i] << 16;
        if (n > 1) three |= (uint32_t)bytes[i + 1] << 8;
        if (n > 2) three |= bytes[i + 2];
        for (size_t d = 0; d < 4; d++) fputc(d <= n ? digits[three >> (18 - 6 * d) & 63] : '=', file);
    }
}

static void put_image(FILE *file, const uint8_t *jpeg, size_t size, const char *path)
{
    if (!jpeg || size == 0) {
        fputs("<span>no thumbnail</span>", file);
        return;
    }
    fputs("<img loading=\"lazy\" src=\"data:image/jpeg;base64,", file);
    put_base64(file, jpeg, size);
    fputs("\" alt=\"", file);
    put_text(file, path);
    fputs("\">", file);
}

/* "640 x 480 · 2004-07-11 · Canon PowerShot", as far as it is known. */
static void put_facts(FILE *file, const char *payload)
{
    json_t *json = json_loads(payload, 0, NULL);
    const char *taken = json_string_value(json_object_get(json, "taken"));
    const char *camera = json_string_value(json_object_get(json, "camera"));
    json_int_t width = json_integer_value(json_object_get(json, "width"));
    json_int_t height = json_integer_value(json_object_get(json, "height"));
    fputs("<small>", file);
    if (width > 0 && height > 0) fprintf(file, "%lld × %lld", (long long)width, (long long)height);
    if (taken) {
        fputs(" · ", file);
        put_text(file, taken);
    }
    if (camera) {
        fputs(" · ", file);
        put_text(file, camera);
    }
    fputs("</small>", file);
    json_decref(json);
}

static int sheet_failed(cli_context *cli, contact_sheet *sheet)
{
    int status = cli_fail(cli, sheet->path, "%s", strerror(errno));
    contact_sheet_drop(sheet);
    return status;
}

int contact_sheet_begin(cli_context *cli, contact_sheet *sheet, const char *path, const char *collection,
                        const char *description)
{
    *sheet = (contact_sheet){.path = strdup(path), .temporary = malloc(strlen(path) + 32)};
    if (!sheet->path || !sheet->temporary) return cli_fail(cli, NULL, "out of memory");
    sprintf(sheet->temporary, "%s.%ld.tmp", path, (long)getpid());
    sheet->file = fopen(sheet->temporary, "wxe");
    if (!sheet->file) return sheet_failed(cli, sheet);
    FILE *file = sheet->file;
    fputs(head, file);
    fputs("<title>kith: ", file);
    put_text(file, collection);
    fputs("</title>\n", file);
    fputs(style, file);
    fputs("</head>\n<body>\n<header><h1>", file);
    put_text(file, collection);
    fputs("</h1><p>", file);
    put_text(file, description);
    fputs("</p></header>\n", file);
    return CLI_OK;
}

/* One card: the number stands beside the score. */
static void put_hit(FILE *file, const kith_gallery_hit *hit, size_t number)
{
    fputs("<li><div class=\"frame\">", file);
    put_image(file, hit->thumbnail, hit->thumbnail_size, hit->path);
    fprintf(file,
            "</div><div class=\"about\"><div class=\"score\"><b>%.3f</b><span>%zu</span></div>"
            "<meter min=\"0\" max=\"1\" value=\"%.3f\">%.3f</meter><div class=\"path\">",
            (double)hit->score, number, (double)hit->score, (double)hit->score);
    put_text(file, hit->path);
    fputs("</div>", file);
    put_facts(file, hit->payload);
    fputs("</div></li>\n", file);
}

int contact_sheet_add(cli_context *cli, contact_sheet *sheet, const char *query,
                      const kith_gallery_answer *answer)
{
    FILE *file = sheet->file;
    fputs("<section>\n<div class=\"query\">", file);
    put_image(file, answer->thumbnail, answer->thumbnail_size, query);
    fputs("<div><h2>", file);
    put_text(file, query);
    fprintf(file, "</h2><p>%u × %u pixels; %zu most similar pictures</p></div></div>\n<ol>\n", answer->width,
            answer->height, answer->n);
    for (size_t i = 0; i < answer->n; i++) put_hit(file, &answer->hits[i], i + 1);
    fputs("</ol>\n</section>\n", file);
    return ferror(file) ? sheet_failed(cli, sheet) : CLI_OK;
}

int contact_sheet_add_group(cli_context *cli, contact_sheet *sheet, const kith_gallery_group *group,
                            size_t number)
{
    FILE *file = sheet->file;
    const kith_gallery_hit *keep = &group->hits[0];
    fputs("<section>\n<div class=\"query\">", file);
    put_image(file, keep->thumbnail, keep->thumbnail_size, keep->path);
    fprintf(file, "<div><h2>%zu. Keep ", number);
    put_text(file, keep->path);
    fputs("</h2><p>", file);
    put_facts(file, keep->payload);
    fprintf(file, "; %zu %s</p></div></div>\n<ol>\n", group->n - 1, group->n == 2 ? "copy" : "copies");
    for (size_t i = 1; i < group->n; i++) put_hit(file, &group->hits[i], i);
    fputs("</ol>\n</section>\n", file);
    return ferror(file) ? sheet_failed(cli, sheet) : CLI_OK;
}

int contact_sheet_end(cli_context *cli, contact_sheet *sheet)
{
    fputs("<footer>Made by kith. The score is 1 for the same picture and falls towards 0.</footer>\n</body>\n"
          "</html>\n",
          sheet->file);
    int failed = fflush(sheet->file) != 0 || ferror(sheet->file);
    if (!failed) {
        FILE *file = sheet->file;
        sheet->file = NULL;
        failed = fclose(file) != 0 || rename(sheet->temporary, sheet->path) != 0;
    }
    if (failed) {
        int why = errno;
        unlink(sheet->temporary);
        errno = why;
        return sheet_failed(cli, sheet);
    }
    free(sheet->temporary);
    sheet->temporary = NULL;
    contact_sheet_drop(sheet);
    return CLI_OK;
}

void contact_sheet_drop(contact_sheet *sheet)
{
    if (sheet->file) {
        fclose(sheet->file);
        unlink(sheet->temporary);
    }
    free(sheet->path);
    free(sheet->temporary);
    *sheet = (contact_sheet){0};
}
