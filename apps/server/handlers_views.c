/* handlers_views.c - what the page shows beside searches: pictures that are there more than once, and a map of the vectors. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../common/fail.h"
#include "handlers.h"

enum {
    MAX_POINTS = 5000,
    USUAL_POINTS = 1500,
    MAX_GROUPS = 500,
    MAX_FLOATS = 16 << 20, /* of a sample */
    TURNS = 40             /* of the iteration; the picture does not change any more long before */
};

/* ---- Duplicates ---- */

static void write_copy(const kith_gallery_hit *hit, uint32_t bits, text *out)
{
    text_put(out, "{");
    put_nearness(hit, out);
    text_put(out, ",\"bits\":");
    text_int(out, bits);
    text_put(out, ",\"payload\":");
    text_put(out, hit->payload);
    text_put(out, "}");
}

static void reply_groups(request *r, const kith_gallery_duplicates *d)
{
    text out = {0};
    text_put(&out, "{\"groups\":[");
    for (size_t g = 0; g < d->n && g < MAX_GROUPS; g++) {
        text_put(&out, g ? ",[" : "[");
        for (size_t i = 0; i < d->groups[g].n; i++) {
            if (i > 0) text_put(&out, ",");
            write_copy(&d->groups[g].hits[i], d->groups[g].bits[i], &out);
        }
        text_put(&out, "]");
    }
    text_put(&out, "],\"found\":");
    text_int(&out, (int64_t)d->n);
    text_put(&out, ",\"pictures\":");
    text_int(&out, (int64_t)d->pictures);
    text_put(&out, "}");
    http_reply_text(r, 200, &out);
}

void get_duplicates(request *r)
{
    loan l;
    uint64_t bits;
    double min_score;
    kith_error err = {0};
    kith_gallery_duplicates *found = NULL;
    kith_gallery_duplicates_options options;
    kith_gallery_duplicates_options_init(&options);
    if (!http_count(r, "bits", 0, 32, options.bits, &bits) ||
        !http_number(r, "min_score", 0, 1, (double)options.min_score, &min_score) ||
        !borrow_named(r, LOAN_READ, &l))
        return;
    options.bits = (unsigned)bits;
    options.min_score = (float)min_score;
    kith_status status = l.gallery
                             ? kith_gallery_find_duplicates(l.gallery, &options, NULL, &found, &err)
                             : common_fail(&err, KITH_UNSUPPORTED, "this collection is not one of pictures");
    shelf_return(r->server->shelf, &l);
    if (status == KITH_OK)
        reply_groups(r, found);
    else
        http_fail(r, &err);
    kith_gallery_duplicates_free(found);
}

/* ---- Map ---- */

typedef struct sample {
    int64_t *keys;
    float *x; /* [n][dim] */
    float *y; /* [n][2] */
    size_t n, dim;
} sample;

static void sample_clear(sample *s)
{
    free(s->keys);
    free(s->x);
    free(s->y);
}

/* The largest key, by halving. */
static kith_status largest_key(kith_collection *c, int64_t *key, kith_error *err)
{
    kith_row row;
    *key = 0;
    for (int64_t step = INT64_MAX / 2 + 1; step > 0; step /= 2) {
        if (*key > INT64_MAX - step) continue;
        kith_status status = kith_collection_next(c, *key + (step - 1), 0, &row, err);
        if (status != KITH_OK) return status;
        if (row.key) *key = row.key;
    }
    return KITH_OK;
}

/* Rows with a vector at even steps over the keys: all of them where there are few. */
static kith_status take_sample(kith_collection *c, size_t most, sample *s, kith_error *err)
{
    int64_t largest;
    kith_row row = {0};
    kith_status status = largest_key(c, &largest, err);
    for (size_t i = 0; status == KITH_OK && i < most; i++) {
        int64_t at = (int64_t)((double)largest / (double)most * (double)i);
        status = kith_collection_next(c, at > row.key ? at : row.key, KITH_ROW_VECTOR, &row, err);
        if (status != KITH_OK || row.key == 0) break;
        if (!row.vector || row.dim != s->dim) continue;
        s->keys[s->n] = row.key;
        memcpy(s->x + s->n++ * s->dim, row.vector, s->dim * sizeof *s->x);
    }
    return status;
}

static void take_mean_off(sample *s)
{
    for (size_t d = 0; d < s->dim; d++) {
        double mean = 0;
        for (size_t i = 0; i < s->n; i++) mean += (double)s->x[i * s->dim + d];
        mean /= (double)s->n;
        for (size_t i = 0; i < s->n; i++) s->x[i * s->dim + d] -= (float)mean;
    }
}

static double dot(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) sum += (double)a[d] * (double)b[d];
    return sum;
}

/* Make an axis of length one, at a right angle to the one before it; 0 when nothing is left of it. */
static int make_axis(float *axis, const float *before, size_t dim)
{
    double along = before ? dot(axis, before, dim) : 0;
    for (size_t d = 0; before && d < dim; d++) axis[d] -= (float)along * before[d];
    double length = sqrt(dot(axis, axis, dim));
    if (!(length > 1e-20)) return 0;
    for (size_t d = 0; d < dim; d++) axis[d] = (float)((double)axis[d] / length);
    return 1;
}

/* The two axes along which centred rows vary most, by orthogonal iteration (G. H. Golub, C. F. Van Loan, "Matrix
 * Computations", 4th ed., section 8.2.4): two components of many need no decomposition. axes[2][dim] and one more for work. */
static void find_axes(const sample *s, float *axes)
{
    float *next = axes + 2 * s->dim;
    for (size_t d = 0; d < 2 * s->dim; d++) axes[d] = (float)((d * 2654435761u >> 7) % 2001) - 1000;
    for (int turn = 0; turn < TURNS; turn++) {
        for (size_t a = 0; a < 2; a++) {
            float *axis = axes + a * s->dim;
            memset(next, 0, s->dim * sizeof *next);
            for (size_t i = 0; i < s->n; i++) {
                const float *row = s->x + i * s->dim;
                float along = (float)dot(row, axis, s->dim);
                for (size_t d = 0; d < s->dim; d++) next[d] += along * row[d];
            }
            if (!make_axis(next, a ? axes : NULL, s->dim)) memset(next, 0, s->dim * sizeof *next);
            memcpy(axis, next, s->dim * sizeof *next);
        }
    }
}

/* Two coordinates for each row, along its principal components. Out: the part of the variance that they show. */
static kith_status project(sample *s, double *shown, kith_error *err)
{
    *shown = 0;
    if (s->n == 0) return KITH_OK;
    float *axes = calloc(3, s->dim * sizeof *axes);
    if (!axes) return common_fail_nomem(err);
    take_mean_off(s);
    find_axes(s, axes);
    double all = 0, seen = 0;
    for (size_t i = 0; i < s->n; i++) {
        const float *row = s->x + i * s->dim;
        all += dot(row, row, s->dim);
        for (size_t a = 0; a < 2; a++) {
            double along = dot(row, axes + a * s->dim, s->dim);
            s->y[2 * i + a] = (float)along;
            seen += along * along;
        }
    }
    if (all > 0) *shown = seen / all;
    free(axes);
    return KITH_OK;
}

static void reply_map(request *r, const sample *s, double shown)
{
    text out = {0};
    text_put(&out, "{\"points\":[");
    for (size_t i = 0; i < s->n; i++) {
        text_put(&out, i ? ",[" : "[");
        text_int(&out, s->keys[i]);
        for (size_t d = 0; d < 2; d++) {
            text_put(&out, ",");
            text_float(&out, s->y[2 * i + d]);
        }
        text_put(&out, "]");
    }
    text_put(&out, "],\"variance\":");
    text_double(&out, shown);
    text_put(&out, "}");
    http_reply_text(r, 200, &out);
}

void get_map(request *r)
{
    loan l;
    uint64_t most;
    double shown = 0;
    kith_error err = {0};
    sample s = {0};
    if (!http_count(r, "limit", 2, MAX_POINTS, USUAL_POINTS, &most) || !borrow_named(r, LOAN_READ, &l))
        return;
    kith_status status = kith_collection_pin(l.collection, &err);
    s.dim = kith_collection_dim(l.collection);
    if (s.dim > 0 && most > MAX_FLOATS / s.dim) most = MAX_FLOATS / s.dim;
    s.keys = calloc(most, sizeof *s.keys);
    s.x = calloc(most, (s.dim + !s.dim) * sizeof *s.x);
    s.y = calloc(most, 2 * sizeof *s.y);
    if (status == KITH_OK && (!s.keys || !s.x || !s.y)) status = common_fail_nomem(&err);
    if (status == KITH_OK) status = take_sample(l.collection, (size_t)most, &s, &err);
    shelf_return(r->server->shelf, &l);
    if (status == KITH_OK) status = project(&s, &shown, &err);
    if (status == KITH_OK)
        reply_map(r, &s, shown);
    else
        http_fail(r, &err);
    sample_clear(&s);
}
