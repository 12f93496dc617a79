/* index_io.c - an index as a file: the sections that all families share. docs/format.md tells what they hold.
 *
 * Section "index" (record): each build-time parameter under its name. Then the sections of the rows ("rows"), of
 * the transform ("transform."), of the codec ("codec."), of the structure, and of the refinement ("refine."). */
#include <kith/index.h>

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "index/front.h"

#define CODEC "codec"
#define REFINE "refine"

/* ---- Saving ---- */

static kith_status save_params(const kith_index *index, ki_store_writer *writer, kith_error *err)
{
    ki_record record;
    ki_record_init(&record, index->allocator);
    for (size_t i = 0; i < ki_spec_param_count(&index->spec); i++) {
        const kith_param_info *info = ki_spec_param(&index->spec, i);
        if (info->when == KITH_AT_BUILD) ki_record_put_f64(&record, info->name, index->params[i]);
    }
    kith_status status = ki_store_put_record(writer, "index", &record, err);
    ki_record_clear(&record);
    return status;
}

static kith_status save_sections(const kith_index *index, ki_store_writer *writer, kith_error *err)
{
    const ki_codec *codec = index->env.codec, *refine = index->refine_codec;
    KI_TRY(save_params(index, writer, err));
    KI_TRY(ki_rows_save(&index->rows, writer, err));
    if (index->transform) KI_TRY(ki_transform_save(index->transform, writer, err));
    if (codec->ops->save) KI_TRY(codec->ops->save(codec, CODEC, writer, err));
    KI_TRY(index->structure->ops->save(index->structure, index->rows.n_slots, writer, err));
    KI_TRY(ki_calibration_save(&index->calibration, writer, err));
    if (!refine) return KITH_OK;
    if (refine->ops->save) KI_TRY(refine->ops->save(refine, REFINE, writer, err));
    return ki_row_codes_save(&index->refine, refine, REFINE, index->rows.n_slots, writer, err);
}

kith_status kith_index_save(const kith_index *index, const char *path, const kith_io *io, kith_error *err)
{
    if (!index || !path) return ki_fail(err, KITH_INVALID, "%s is NULL", index ? "path" : "index");
    if (!index->trained)
        return ki_fail(err, KITH_UNTRAINED, "%s must be trained before it is saved", index->spec.canonical);
    ki_store_header header = {
        .metric = index->metric,
        .simd = index->simd,
        .dim = index->dim,
        .rows = index->rows.n,
        .seed = index->env.seed,
    };
    snprintf(header.spec, sizeof header.spec, "%s", index->spec.canonical);
    ki_store_writer *writer;
    KI_TRY(ki_store_create(path, io, index->allocator, &writer, err));
    kith_status status = save_sections(index, writer, err);
    if (status == KITH_OK) status = ki_store_commit(writer, &header, err);
    ki_store_writer_free(writer);
    return status;
}

/* ---- Opening ---- */

/* An empty index as the header describes it. */
static kith_status make_as_headed(ki_store *store, const kith_allocator *allocator, kith_index **index,
                                  kith_error *err)
{
    const ki_store_header *head = ki_store_head(store);
    ki_spec spec;
    kith_status status = ki_spec_parse(head->spec, &spec, err);
    if (status == KITH_OK && strcmp(spec.canonical, head->spec) != 0)
        status = ki_fail(err, KITH_INVALID, "spec \"%s\" is not as it would be written", head->spec);
    if (status == KITH_OK && head->dim > KITH_MAX_DIM)
        status = ki_fail(err, KITH_INVALID, "dim is %llu, allowed 1..%d", (unsigned long long)head->dim,
                         KITH_MAX_DIM);
    if (status == KITH_OK)
        status = ki_index_make(&spec, (size_t)head->dim, head->metric, head->seed, allocator, index, err);
    if (status == KITH_OK) return KITH_OK;
    ki_error_prefix(err, "%s", ki_store_path(store));
    if (status == KITH_NOMEM) return status;
    /* What a caller could not have asked for did not come out of this library. */
    if (err) err->code = KITH_CORRUPT;
    return KITH_CORRUPT;
}

/* What a parameter was called in files of earlier builds, or its name. */
static const char *name_in(const ki_record_view *record, const char *name)
{
    static const struct {
        const char *now, *before;
    } renamed[] = {{"w_recall", "target_recall"}};
    for (size_t i = 0; i < sizeof renamed / sizeof *renamed && !ki_record_has(record, name); i++)
        if (strcmp(name, renamed[i].now) == 0) return renamed[i].before;
    return name;
}

/* Some parameters came into being after files were written that have the others. The value that those were made by; NULL: no
 * file lacks the parameter. (Vamana always had its alpha: a file of it that has none is taken as well.) */
static const double *before_it_came(const char *name)
{
    static const struct {
        const char *name;
        double value;
    } later[] = {{"mini_batch", 0}, {"spherical", 0}, {"max_cell", 0}, {"alpha", 1}};
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (strcmp(name, later[i].name) == 0) return &later[i].value;
    return NULL;
}

static kith_status load_params(kith_index *index, ki_store *store, kith_error *err)
{
    ki_record_view record;
    KI_TRY(ki_store_record_open(store, "index", &record, err));
    for (size_t i = 0; i < ki_spec_param_count(&index->spec); i++) {
        const kith_param_info *info = ki_spec_param(&index->spec, i);
        if (info->when != KITH_AT_BUILD) continue;
        const double *before = before_it_came(info->name);
        double value;
        if (before && !ki_record_has(&record, info->name))
            value = *before;
        else
            KI_TRY(
                ki_record_get_f64(&record, name_in(&record, info->name), info->low, info->high, &value, err));
        kith_status status = kith_index_set(index, info->name, value, err);
        if (status == KITH_NOMEM) return status;
        if (status != KITH_OK) {
            ki_error_prefix(err, "%s", ki_store_path(store));
            if (err) err->code = KITH_CORRUPT;
            return KITH_CORRUPT;
        }
    }
    return KITH_OK;
}

static kith_status load_sections(kith_index *index, ki_store *store, int mapped, kith_error *err)
{
    KI_TRY(load_params(index, store, err));
    KI_TRY(ki_rows_load(&index->rows, store, mapped, err));
    if (index->transform) KI_TRY(ki_transform_load(index->transform, store, err));
    ki_codec *codec = index->env.codec, *refine = index->refine_codec;
    if (codec->ops->load) KI_TRY(codec->ops->load(codec, CODEC, store, err));
    KI_TRY(index->structure->ops->load(index->structure, store, mapped, &index->rows, err));
    KI_TRY(
        ki_calibration_load(&index->calibration, &index->spec, index->metric, store, index->allocator, err));
    if (!refine) return KITH_OK;
    if (refine->ops->load) KI_TRY(refine->ops->load(refine, REFINE, store, err));
    return ki_row_codes_load(&index->refine, refine, REFINE, index->rows.n_slots, mapped, store, err);
}

kith_status kith_index_open(const char *path, kith_open_mode mode, const kith_allocator *allocator,
                            const kith_io *io, kith_index **out, kith_error *err)
{
    if (!out) return ki_fail(err, KITH_INVALID, "index is NULL");
    *out = NULL;
    if (!path) return ki_fail(err, KITH_INVALID, "path is NULL");
    if (mode != KITH_OPEN_READ && mode != KITH_OPEN_MAP)
        return ki_fail(err, KITH_INVALID, "mode is %d, allowed KITH_OPEN_READ and KITH_OPEN_MAP", (int)mode);
    int mapped = mode == KITH_OPEN_MAP;
    ki_store *store;
    KI_TRY(ki_store_open(path, mapped ? KI_STORE_MAP : KI_STORE_READ, io, allocator, &store, err));
    kith_index *index = NULL;
    kith_status status = make_as_headed(store, allocator, &index, err);
    if (status == KITH_OK) status = load_sections(index, store, mapped, err);
    if (status == KITH_OK) {
        index->trained = 1;
        index->simd = ki_store_head(store)->simd;
        if (mapped) index->store = store;
        *out = index;
    } else {
        kith_index_free(index);
    }
    if (!*out || !mapped) ki_store_close(store);
    return status;
}
