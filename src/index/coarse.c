#include "index/coarse.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/select.h"

struct ki_coarse {
    const kith_allocator *allocator;
    ki_spec spec;
    ki_structure_env env;
    double *params; /* the initial ones, but for ef, which each search brings */
    size_t ef;      /* where it stands among them */
    ki_rows rows;   /* row j has slot j and id j */
    ki_structure *structure;
};

struct ki_coarse_scratch {
    ki_scratch *scratch;
    double *settings;
    float *dist;  /* [room] */
    uint64_t *id; /* [room] */
    size_t room;
};

kith_status ki_coarse_create(size_t m, size_t dim, kith_metric metric, uint64_t seed,
                             const kith_allocator *allocator, ki_coarse **out, kith_error *err)
{
    *out = NULL;
    char text[32];
    snprintf(text, sizeof text, "HNSW%zu,Flat", m);
    ki_coarse *c = ki_alloc_zero(allocator, 1, sizeof *c);
    if (!c) return ki_fail_nomem(err, sizeof *c);
    c->allocator = allocator;
    ki_rows_init(&c->rows, allocator);
    kith_status status = ki_spec_parse(text, &c->spec, err);
    if (status == KITH_OK) {
        size_t n = ki_spec_param_count(&c->spec);
        c->params = ki_alloc(allocator, n, sizeof *c->params);
        if (!c->params) status = ki_fail_nomem(err, n * sizeof *c->params);
    }
    if (status == KITH_OK) {
        ki_spec_initial(&c->spec, c->params);
        status = ki_spec_find(&c->spec, "ef", c->params[0], KITH_AT_SEARCH, &c->ef, err);
    }
    c->env = (ki_structure_env){.allocator = allocator,
                                .kernels = ki_kernels_get(),
                                .dim = dim,
                                .metric = metric,
                                .seed = seed,
                                .args = c->spec.structure_args,
                                .params = c->params};
    if (status == KITH_OK)
        status = c->spec.codec->make(c->spec.codec_args, c->params + ki_spec_codec_params(&c->spec), dim,
                                     metric, 0, allocator, &c->env.codec, err);
    if (status == KITH_OK) status = c->spec.structure->ops->create(&c->env, &c->structure, err);
    if (status == KITH_OK) {
        c->structure->ops = c->spec.structure->ops;
        *out = c;
    } else {
        ki_coarse_free(c);
    }
    return status;
}

void ki_coarse_free(ki_coarse *c)
{
    if (!c) return;
    if (c->structure) c->structure->ops->free(c->structure);
    ki_codec_free(c->env.codec);
    ki_rows_clear(&c->rows);
    ki_free(c->allocator, c->params);
    ki_free(c->allocator, c);
}

static void set_rows(ki_coarse *c, size_t n)
{
    c->rows.n = n;
    c->rows.n_slots = n;
    c->rows.next_id = n;
}

kith_status ki_coarse_build(ki_coarse *c, const float *centroids, size_t n, const kith_run *run,
                            kith_error *err)
{
    ki_input input = {.x = centroids, .n = n, .dim = c->env.dim, .kernels = c->env.kernels};
    set_rows(c, n);
    return c->structure->ops->add(c->structure, &input, NULL, 0, n, run, err);
}

/* ---- Files ---- */

kith_status ki_coarse_save(const ki_coarse *c, ki_store_writer *writer, kith_error *err)
{
    return c->structure->ops->save(c->structure, c->rows.n_slots, writer, err);
}

kith_status ki_coarse_load(ki_coarse *c, size_t n, ki_store *store, int mapped, kith_error *err)
{
    set_rows(c, n);
    return c->structure->ops->load(c->structure, store, mapped, &c->rows, err);
}

kith_status ki_coarse_check(const ki_coarse *c, const float *centroids, kith_error *err)
{
    size_t dim = c->env.dim;
    KI_TRY(c->structure->ops->check(c->structure, &c->rows, err));
    float *row = ki_alloc(c->allocator, dim, sizeof *row);
    if (!row) return ki_fail_nomem(err, dim * sizeof *row);
    kith_status status = KITH_OK;
    for (size_t j = 0; j < c->rows.n && status == KITH_OK; j++) {
        c->structure->ops->decode(c->structure, (uint32_t)j, row);
        if (memcmp(row, centroids + j * dim, dim * sizeof *row) != 0)
            status = ki_fail(err, KITH_CORRUPT, "row %zu of the graph is not centroid %zu", j, j);
    }
    ki_free(c->allocator, row);
    return status;
}

uint64_t ki_coarse_bytes(const ki_coarse *c)
{
    return c->structure->ops->bytes(c->structure);
}

/* ---- Search ---- */

kith_status ki_coarse_scratch_create(const ki_coarse *c, ki_coarse_scratch **out, kith_error *err)
{
    *out = NULL;
    size_t n = ki_spec_param_count(&c->spec);
    ki_coarse_scratch *s = ki_alloc_zero(c->allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->settings = ki_alloc(c->allocator, n, sizeof *s->settings);
    kith_status status = s->settings ? KITH_OK : ki_fail_nomem(err, n * sizeof *s->settings);
    if (status == KITH_OK) status = c->structure->ops->scratch_create(c->structure, &s->scratch, err);
    if (status == KITH_OK) {
        memcpy(s->settings, c->params, n * sizeof *s->settings);
        *out = s;
    } else {
        ki_coarse_scratch_free(c, s);
    }
    return status;
}

void ki_coarse_scratch_free(const ki_coarse *c, ki_coarse_scratch *s)
{
    if (!s) return;
    if (s->scratch) c->structure->ops->scratch_free(c->structure, s->scratch);
    ki_free(c->allocator, s->settings);
    ki_free(c->allocator, s->dist);
    ki_free(c->allocator, s->id);
    ki_free(c->allocator, s);
}

kith_status ki_coarse_reserve(const ki_coarse *c, ki_coarse_scratch *s, size_t count, size_t ef,
                              kith_error *err)
{
    if (count > s->room) {
        float *dist = ki_alloc(c->allocator, count, sizeof *dist);
        uint64_t *id = ki_alloc(c->allocator, count, sizeof *id);
        if (!dist || !id) {
            ki_free(c->allocator, dist);
            ki_free(c->allocator, id);
            return ki_fail_nomem(err, count * (sizeof *dist + sizeof *id));
        }
        ki_free(c->allocator, s->dist);
        ki_free(c->allocator, s->id);
        s->dist = dist;
        s->id = id;
        s->room = count;
    }
    s->settings[c->ef] = (double)ef;
    if (!c->structure->ops->prepare) return KITH_OK;
    return c->structure->ops->prepare(c->structure, s->scratch, count, s->settings, err);
}

size_t ki_coarse_find(const ki_coarse *c, ki_coarse_scratch *s, const float *vector, size_t count, size_t ef,
                      uint64_t *keys)
{
    s->settings[c->ef] = (double)ef;
    ki_query query = {.vector = vector,
                      .whole = vector,
                      .settings = s->settings,
                      .need = count,
                      .clamped = c->env.metric != KITH_DOT,
                      .rows = &c->rows,
                      .kernels = c->env.kernels};
    ki_topk_init(&query.top, count, s->dist, s->id);
    c->structure->ops->search(c->structure, s->scratch, &query);
    size_t n = ki_topk_sort(&query.top);
    for (size_t i = 0; i < n; i++) keys[i] = ki_key(s->dist[i], (uint32_t)s->id[i]);
    return n;
}
