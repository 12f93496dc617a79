/* gallery.c - index a folder of pictures and search it by picture.
 *
 *   example_gallery [FOLDER PICTURE]    without arguments: two pictures that it draws itself
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kith/gallery.h>

static int fail(const char *what, const kith_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->message);
    return 1;
}

/* A picture of stripes, so that there is something to find. */
static int draw(const char *path, int width_of_stripe)
{
    enum { SIDE = 96 };
    static uint8_t pixels[SIDE * SIDE * 3];
    for (int i = 0; i < SIDE * SIDE; i++) {
        int stripe = i % SIDE / width_of_stripe % 2;
        pixels[3 * i] = (uint8_t)(stripe ? 220 : 30);
        pixels[3 * i + 1] = (uint8_t)(i / SIDE * 2);
        pixels[3 * i + 2] = (uint8_t)(255 - width_of_stripe * 8);
    }
    kith_image image = {.width = SIDE, .height = SIDE, .pixels = pixels};
    kith_error err;
    return kith_image_save(&image, path, &err) == KITH_OK ? 0 : fail(path, &err);
}

static int search(kith_gallery *gallery, const char *picture)
{
    kith_gallery_answer *answer;
    kith_error err;
    if (kith_gallery_search(gallery, picture, NULL, &answer, &err) != KITH_OK) return fail(picture, &err);
    printf("most like %s:\n", picture);
    for (size_t i = 0; i < answer->n; i++)
        printf("  %.4f  %s\n", (double)answer->hits[i].score, answer->hits[i].path);
    kith_gallery_answer_free(answer);
    return 0;
}

static int index_and_search(kith_gallery *gallery, const char *folder, const char *picture)
{
    kith_gallery_report report;
    kith_error err;
    kith_gallery_report_init(&report);
    if (kith_gallery_index(gallery, folder, NULL, NULL, &report, &err) != KITH_OK) return fail(folder, &err);
    printf("%llu pictures, %llu new, %llu bad; %s\n", (unsigned long long)report.found,
           (unsigned long long)report.added, (unsigned long long)report.bad,
           kith_gallery_description(gallery));
    return search(gallery, picture);
}

/* A gallery is opened before anything else is done with pictures: it forks the process that starts the decoders. */
static int with_gallery(const char *collection, const char *folder, const char *picture, int with_drawing)
{
    kith_gallery *gallery;
    kith_error err;
    if (kith_gallery_open(collection, NULL, &gallery, &err) != KITH_OK) return fail(collection, &err);
    int status = 0;
    if (with_drawing) {
        char other[100];
        snprintf(other, sizeof other, "%s/broad.png", folder);
        status = draw(picture, 3) || draw(other, 24);
    }
    if (status == 0) status = index_and_search(gallery, folder, picture);
    kith_gallery_close(gallery);
    return status;
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/kith-example-XXXXXX", pictures[64], collection[64], picture[80], remove[128];
    if (argc == 3) return with_gallery("example.kith", argv[1], argv[2], 0);
    if (!mkdtemp(folder)) return perror(folder), 1;
    snprintf(pictures, sizeof pictures, "%s/pictures", folder);
    snprintf(collection, sizeof collection, "%s/example.kith", folder);
    snprintf(picture, sizeof picture, "%s/fine.png", pictures);
    mkdir(pictures, 0777);
    int status = with_gallery(collection, pictures, picture, 1);
    snprintf(remove, sizeof remove, "rm -r %s", folder);
    return system(remove) == 0 ? status : 1;
}
