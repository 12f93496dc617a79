/* How well pictures find each other: the figures of docs/quality.md.
 *
 *   picture_quality [--data DIR] [--kind classic|plain|model] [--model FILE.onnx[:layer]] [--input N]
 *                   [--threads N] [--only corel|copies] [--every N]
 *
 * Corel-1k: every picture is a query, itself left out; a picture of the same class is right. Printed are P@20,
 * the share of right ones among the first 20, and mAP, the mean over queries of the mean precision at each right one.
 * Copies: every photo is changed in five ways and queried among all 1,000; printed is how often the
 * original is alone in first place. Both with the features' defaults; the codebook of CLASSIC is learnt from the
 * collection that is searched, without classes. --every N takes every Nth picture as a query of the copies. */
#include <dirent.h>
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <vips/vips.h>

#include <kith/features.h>
#include <kith/image.h>
#include <kith/run.h>

static const char *const changes[] = {"crop to 70 % of the area", "scale to 50 %", "rotate by 5 degrees",
                                      "JPEG quality 20", "mirror"};
enum { N_CHANGES = 5, ORIGINAL = N_CHANGES, MAX_THREADS = 64 };

typedef struct picture {
    char *path, *folder;
} picture;

/* One pass over pictures: each is decoded, changed, and made into a sample or a vector. */
typedef struct pass {
    const picture *pictures;
    size_t n, step;
    int change;
    const uint8_t *saved; /* trained features; NULL: make samples */
    size_t saved_size;
    const char *model;
    size_t dim;
    float *vectors; /* [n][dim] */
    uint8_t **samples;
    size_t *sizes;
    size_t next; /* taken by the threads, one after the other */
    double decode_seconds, feature_seconds;
    pthread_mutex_t lock;
} pass;

static void die(const char *what, const kith_error *err)
{
    fprintf(stderr, "picture_quality: %s: %s\n", what, err ? err->message : "failed");
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the pictures ---- */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const picture *)a)->path, ((const picture *)b)->path);
}

static void walk(const char *folder, picture **list, size_t *n)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    if (!dir) return;
    while ((entry = readdir(dir)) != NULL) {
        char path[4096];
        struct stat st;
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (stat(path, &st) != 0) continue;
        if (S_ISDIR(st.st_mode)) {
            walk(path, list, n);
            continue;
        }
        *list = realloc(*list, (*n + 1) * sizeof **list);
        (*list)[*n].path = strdup(path);
        (*list)[(*n)++].folder = strdup(folder);
    }
    closedir(dir);
}

static picture *find_pictures(const char *data, const char *below, size_t *n)
{
    char folder[4096];
    picture *list = NULL;
    *n = 0;
    snprintf(folder, sizeof folder, "%s/images/%s", data, below);
    walk(folder, &list, n);
    if (*n == 0) {
        fprintf(stderr, "picture_quality: no pictures in %s (--data, or set KITH_DATA)\n", folder);
        exit(1);
    }
    qsort(list, *n, sizeof *list, by_path);
    return list;
}

/* ---- the changes ---- */

/* Turn by 5 degrees, enlarged just so much that no corner shows. */
static int rotate(VipsImage *in, VipsImage **out)
{
    double w = in->Xsize, h = in->Ysize, angle = 5 * M_PI / 180;
    double grow = cos(angle) + fmax(w / h, h / w) * sin(angle);
    VipsImage *turned;
    VipsInterpolate *bicubic = vips_interpolate_new("bicubic");
    if (vips_similarity(in, &turned, "angle", 5.0, "scale", grow, "interpolate", bicubic, NULL)) return -1;
    g_object_unref(bicubic);
    int left = (turned->Xsize - in->Xsize) / 2, top = (turned->Ysize - in->Ysize) / 2;
    int failed = vips_extract_area(turned, out, left, top, in->Xsize, in->Ysize, NULL);
    g_object_unref(turned);
    return failed;
}

static int apply(VipsImage *in, int change, VipsImage **out)
{
    int w = in->Xsize, h = in->Ysize;
    int cw = (int)lround(w * sqrt(0.7)), ch = (int)lround(h * sqrt(0.7));
    switch (change) {
    case 0: return vips_extract_area(in, out, (w - cw) / 2, (h - ch) / 2, cw, ch, NULL);
    case 1: return vips_resize(in, out, 0.5, NULL);
    case 2: return rotate(in, out);
    case 4: return vips_flip(in, out, VIPS_DIRECTION_HORIZONTAL, NULL);
    default: return vips_copy(in, out, NULL);
    }
}

/* The changed picture as a JPEG file in memory, as it would travel. */
static void *change_picture(const char *path, int change, size_t *size)
{
    kith_image image;
    kith_error err;
    void *jpeg = NULL;
    if (kith_image_decode_file(path, NULL, NULL, &image, &err) != KITH_OK) die(path, &err);
    VipsImage *in = vips_image_new_from_memory(image.pixels, (size_t)image.width * image.height * 3,
                                               (int)image.width, (int)image.height, 3, VIPS_FORMAT_UCHAR);
    VipsImage *typed, *out;
    int quality = change == 3 ? 20 : 90;
    if (!in || vips_copy(in, &typed, "interpretation", VIPS_INTERPRETATION_sRGB, NULL) ||
        apply(typed, change, &out) || vips_jpegsave_buffer(out, &jpeg, size, "Q", quality, NULL)) {
        fprintf(stderr, "picture_quality: %s: %s\n", path, vips_error_buffer());
        exit(1);
    }
    g_object_unref(out);
    g_object_unref(typed);
    g_object_unref(in);
    kith_image_clear(&image);
    return jpeg;
}

/* ---- a pass ---- */

static void *work(void *ctx)
{
    pass *p = ctx;
    kith_features *features;
    kith_image_limits limits;
    kith_error err;
    double decode = 0, describe = 0;
    kith_status status = p->saved
                             ? kith_features_load(p->saved, p->saved_size, p->model, NULL, &features, &err)
                             : kith_features_create(NULL, NULL, &features, &err);
    if (status != KITH_OK) die("features", &err);
    kith_image_limits_init(&limits);
    kith_features_limits(features, &limits);
    for (;;) {
        pthread_mutex_lock(&p->lock);
        size_t i = p->next;
        p->next += p->step;
        pthread_mutex_unlock(&p->lock);
        if (i >= p->n) break;
        const char *path = p->pictures[i].path;
        kith_image image;
        size_t size;
        void *jpeg = p->change == ORIGINAL ? NULL : change_picture(path, p->change, &size);
        double start = now();
        status = jpeg ? kith_image_decode(jpeg, size, &limits, NULL, &image, &err)
                      : kith_image_decode_file(path, &limits, NULL, &image, &err);
        if (status != KITH_OK) die(path, &err);
        double decoded = now();
        status = p->saved ? kith_features_extract(features, &image, p->vectors + i * p->dim, &err)
                          : kith_features_sample(features, &image, p->samples + i, p->sizes + i, &err);
        if (status != KITH_OK) die(path, &err);
        decode += decoded - start;
        describe += now() - decoded;
        kith_image_clear(&image);
        g_free(jpeg);
    }
    kith_features_free(features);
    pthread_mutex_lock(&p->lock);
    p->decode_seconds += decode;
    p->feature_seconds += describe;
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void run_pass(pass *p, size_t threads)
{
    pthread_t ids[MAX_THREADS];
    pthread_mutex_init(&p->lock, NULL);
    for (size_t t = 0; t < threads; t++) pthread_create(ids + t, NULL, work, p);
    for (size_t t = 0; t < threads; t++) pthread_join(ids[t], NULL);
    pthread_mutex_destroy(&p->lock);
}

/* ---- a collection ---- */

typedef struct collection {
    const picture *pictures;
    size_t n, dim, saved_size;
    uint8_t *saved;
    float *vectors; /* [n][dim] */
} collection;

static void train(kith_features *features, const picture *pictures, size_t n, size_t threads)
{
    kith_error err;
    kith_run run;
    kith_pool *pool;
    size_t step = (n + KITH_FEATURES_TRAIN_MAX - 1) / KITH_FEATURES_TRAIN_MAX, m = 0;
    pass p = {.pictures = pictures, .n = n, .step = step, .change = ORIGINAL};
    p.samples = calloc(n, sizeof *p.samples);
    p.sizes = calloc(n, sizeof *p.sizes);
    run_pass(&p, threads);
    for (size_t i = 0; i < n; i += step, m++) {
        p.samples[m] = p.samples[i];
        p.sizes[m] = p.sizes[i];
    }
    kith_run_init(&run);
    if (kith_pool_create(threads, NULL, &pool, &err) != KITH_OK) die("threads", &err);
    run.pool = pool;
    double start = wall();
    if (kith_features_train(features, (const uint8_t *const *)p.samples, p.sizes, m, &run, &err) != KITH_OK)
        die("training", &err);
    printf("  trained on %zu pictures in %.1f s\n", m, wall() - start);
    kith_pool_free(pool);
    for (size_t i = 0; i < m; i++) kith_features_bytes_free(features, p.samples[i]);
    free(p.samples);
    free(p.sizes);
}

static collection describe(const picture *pictures, size_t n, const kith_features_options *options,
                           size_t threads)
{
    kith_features *features;
    kith_error err;
    collection c = {.pictures = pictures, .n = n};
    if (kith_features_create(options, NULL, &features, &err) != KITH_OK) die("features", &err);
    if (!kith_features_trained(features)) train(features, pictures, n, threads);
    if (kith_features_save(features, &c.saved, &c.saved_size, &err) != KITH_OK) die("features", &err);
    c.dim = kith_features_dim(features);
    c.vectors = malloc(n * c.dim * sizeof *c.vectors);
    pass p = {.pictures = pictures,
              .n = n,
              .step = 1,
              .change = ORIGINAL,
              .saved = c.saved,
              .saved_size = c.saved_size,
              .dim = c.dim,
              .vectors = c.vectors};
    run_pass(&p, threads);
    printf("  %s; decoding %.1f ms, features %.1f ms a picture\n", kith_features_description(features),
           1e3 * p.decode_seconds / (double)n, 1e3 * p.feature_seconds / (double)n);
    fflush(stdout);
    kith_features_free(features); /* c.saved is of the default allocator: the C library's */
    return c;
}

static float distance(const float *a, const float *b, size_t dim)
{
    float sum = 0;
    for (size_t d = 0; d < dim; d++) sum += (a[d] - b[d]) * (a[d] - b[d]);
    return sum;
}

/* ---- the two tests ---- */

typedef struct hit {
    float distance;
    size_t row;
} hit;

static int nearer(const void *a, const void *b)
{
    const hit *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static void test_corel(const char *data, const kith_features_options *options, size_t threads)
{
    size_t n;
    picture *pictures = find_pictures(data, "corel1k", &n);
    printf("Corel-1k, %zu pictures\n", n);
    collection c = describe(pictures, n, options, threads);
    hit *hits = malloc(n * sizeof *hits);
    double p20 = 0, map = 0;
    for (size_t q = 0; q < n; q++) {
        size_t m = 0, right = 0;
        double precision = 0;
        for (size_t i = 0; i < n; i++)
            if (i != q) hits[m++] = (hit){distance(c.vectors + q * c.dim, c.vectors + i * c.dim, c.dim), i};
        qsort(hits, m, sizeof *hits, nearer);
        for (size_t r = 0; r < m; r++) {
            if (strcmp(pictures[hits[r].row].folder, pictures[q].folder) != 0) continue;
            right++;
            precision += (double)right / (double)(r + 1);
            if (r < 20) p20 += 1.0 / 20;
        }
        map += precision / (double)right;
    }
    printf("  P@20 %.4f  mAP %.4f\n", p20 / (double)n, map / (double)n);
    free(hits);
    free(c.vectors);
}

static void test_copies(const char *data, const kith_features_options *options, size_t threads, size_t every)
{
    size_t n;
    picture *pictures = find_pictures(data, "photos", &n);
    printf("Copies, %zu photos\n", n);
    collection c = describe(pictures, n, options, threads);
    float *queries = malloc(n * c.dim * sizeof *queries);
    for (int change = 0; change < N_CHANGES; change++) {
        pass p = {.pictures = pictures,
                  .n = n,
                  .step = every,
                  .change = change,
                  .saved = c.saved,
                  .saved_size = c.saved_size,
                  .dim = c.dim,
                  .vectors = queries};
        run_pass(&p, threads);
        size_t first = 0, asked = 0;
        for (size_t q = 0; q < n; q += every, asked++) {
            float own = distance(queries + q * c.dim, c.vectors + q * c.dim, c.dim);
            size_t others = 0;
            for (size_t i = 0; i < n; i++)
                others += i != q && distance(queries + q * c.dim, c.vectors + i * c.dim, c.dim) <= own;
            first += others == 0;
        }
        printf("  %-25s first for %5.1f %% of %zu\n", changes[change], 100.0 * (double)first / (double)asked,
               asked);
        fflush(stdout);
    }
    free(queries);
    free(c.vectors);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"data", 1, 0, 'd'},    {"kind", 1, 0, 'k'}, {"model", 1, 0, 'm'},
                                          {"input", 1, 0, 'i'},   {"only", 1, 0, 'o'}, {"every", 1, 0, 'e'},
                                          {"threads", 1, 0, 't'}, {0, 0, 0, 0}};
    const char *data = getenv("KITH_DATA") ? getenv("KITH_DATA") : "../shared/data", *only = "";
    size_t threads = (size_t)sysconf(_SC_NPROCESSORS_ONLN), every = 1;
    kith_features_options options;
    kith_features_options_init(&options);
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'd': data = optarg; break;
        case 'k': options.kind = strcmp(optarg, "plain") ? KITH_FEATURES_CLASSIC : KITH_FEATURES_PLAIN; break;
        case 'm': {
            char *colon = strrchr(optarg, ':');
            if (colon) *colon = '\0';
            options.kind = KITH_FEATURES_MODEL;
            options.model = optarg;
            options.layer = colon ? colon + 1 : NULL;
            break;
        }
        case 'i': options.input = (uint32_t)atoi(optarg); break;
        case 'o': only = optarg; break;
        case 'e': every = (size_t)atoi(optarg); break;
        case 't': threads = (size_t)atoi(optarg); break;
        default: fprintf(stderr, "usage: see the head of bench/picture_quality.c\n"); return 2;
        }
    }
    if (threads < 1 || threads > MAX_THREADS) threads = 1;
    if (every < 1) every = 1;
    if (kith_image_start(NULL) != KITH_OK) return 1;
    if (strcmp(only, "copies") != 0) test_corel(data, &options, threads);
    if (strcmp(only, "corel") != 0) test_copies(data, &options, threads, every);
    return 0;
}
