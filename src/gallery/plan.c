#include "gallery/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/run.h"

/* ---- What the collection holds ---- */

void ki_bad_name(const char *path, char name[32])
{
    snprintf(name, 32, KI_BAD_PREFIX "%016llx", (unsigned long long)ki_checksum(path, strlen(path)));
}

static int compare_known(const void *a, const void *b)
{
    const ki_known *x = a, *y = b;
    int order = strcmp(x->file.path, y->file.path);
    return order ? order : (x->key > y->key) - (x->key < y->key);
}

static int compare_bad(const void *a, const void *b)
{
    return strcmp(((const ki_bad *)a)->path, ((const ki_bad *)b)->path);
}

static kith_status add_row(ki_inventory *inventory, const kith_row *row, int with_vectors, kith_error *err)
{
    ki_known known = {.key = row->key, .stale = with_vectors && !row->vector};
    json_t *payload = ki_row_parse(row->payload, row->payload_size);
    int is_picture = ki_row_get_file(payload, &known.file);
    json_decref(payload);
    if (is_picture == 0) return KITH_OK; /* somebody else's row: not ours to keep in step */
    if (is_picture > 0 && inventory->n == inventory->capacity) {
        size_t capacity = ki_grown(inventory->capacity, inventory->n + 1);
        ki_known *grown = ki_realloc(NULL, inventory->rows, inventory->capacity, capacity, sizeof *grown);
        if (grown) {
            inventory->rows = grown;
            inventory->capacity = capacity;
        }
    }
    if (is_picture < 0 || inventory->n == inventory->capacity) {
        free(known.file.path);
        return ki_fail_nomem(err, sizeof known);
    }
    inventory->rows[inventory->n++] = known;
    return KITH_OK;
}

static kith_status add_bad(ki_inventory *inventory, const kith_meta *meta, kith_error *err)
{
    ki_bad bad;
    int is_note = ki_bad_parse(meta->value, meta->size, &bad);
    if (is_note == 0) return KITH_OK;
    if (is_note > 0 && inventory->n_bad == inventory->bad_capacity) {
        size_t capacity = ki_grown(inventory->bad_capacity, inventory->n_bad + 1);
        ki_bad *grown = ki_realloc(NULL, inventory->bad, inventory->bad_capacity, capacity, sizeof *grown);
        if (grown) {
            inventory->bad = grown;
            inventory->bad_capacity = capacity;
        }
    }
    if (is_note < 0 || inventory->n_bad == inventory->bad_capacity) {
        ki_bad_clear(&bad);
        return ki_fail_nomem(err, sizeof bad);
    }
    inventory->bad[inventory->n_bad++] = bad;
    return KITH_OK;
}

static kith_status load(kith_collection *collection, const kith_run *run, ki_inventory *inventory,
                        kith_error *err)
{
    uint64_t rows, vectors;
    KI_TRY(kith_collection_count(collection, &rows, &vectors, err));
    /* Vectors are large: they are looked at only when some are missing, after a change of the features that
     * was interrupted. */
    int with_vectors = rows != vectors;
    unsigned parts = KITH_ROW_PAYLOAD | (with_vectors ? KITH_ROW_VECTOR : 0);
    ki_stage stage;
    ki_stage_begin(&stage, run, "comparing", rows);
    kith_row row = {0};
    for (uint64_t done = 0;; done++) {
        KI_TRY(kith_collection_next(collection, row.key, parts, &row, err));
        if (row.key == 0) break;
        KI_TRY(add_row(inventory, &row, with_vectors, err));
        KI_TRY(ki_run_check(run, err));
        ki_stage_report(&stage, done + 1);
    }
    kith_meta meta = {0};
    for (;;) {
        KI_TRY(kith_collection_meta_next(collection, KI_BAD_PREFIX, meta.name, &meta, err));
        if (!meta.name) break;
        KI_TRY(add_bad(inventory, &meta, err));
    }
    return KITH_OK;
}

kith_status ki_inventory_load(kith_collection *collection, const kith_run *run, ki_inventory *inventory,
                              kith_error *err)
{
    *inventory = (ki_inventory){0};
    kith_status status = load(collection, run, inventory, err);
    if (status != KITH_OK) {
        ki_inventory_clear(inventory);
        return status;
    }
    if (inventory->n) qsort(inventory->rows, inventory->n, sizeof *inventory->rows, compare_known);
    if (inventory->n_bad) qsort(inventory->bad, inventory->n_bad, sizeof *inventory->bad, compare_bad);
    return KITH_OK;
}

void ki_inventory_clear(ki_inventory *inventory)
{
    for (size_t i = 0; i < inventory->n; i++) free(inventory->rows[i].file.path);
    for (size_t i = 0; i < inventory->n_bad; i++) ki_bad_clear(&inventory->bad[i]);
    ki_free(NULL, inventory->rows);
    ki_free(NULL, inventory->bad);
    *inventory = (ki_inventory){0};
}

/* ---- What must be done ---- */

static int compare_vanished(const void *a, const void *b, void *rows)
{
    const ki_known *x = &((const ki_known *)rows)[*(const size_t *)a];
    const ki_known *y = &((const ki_known *)rows)[*(const size_t *)b];
    if (x->file.size != y->file.size) return x->file.size < y->file.size ? -1 : 1;
    return compare_known(x, y);
}

/* Whether the note on a bad file still holds. ctime tells of changed rights, which may be what was wrong. */
static int still_bad(const ki_bad *bad, const ki_walk_file *file, uint64_t limits)
{
    return bad->size == file->size && bad->mtime_ns == file->mtime_ns && bad->ctime_ns == file->ctime_ns &&
           bad->limits == limits;
}

static void vanish(const ki_walk *walk, const ki_known *rows, size_t i, ki_plan *plan)
{
    if (ki_walk_unknown(walk, rows[i].file.path))
        plan->unchanged++;
    else
        plan->vanished[plan->n_vanished++] = i;
}

static void forget(const ki_walk *walk, const ki_bad *bad, size_t i, ki_plan *plan)
{
    if (ki_walk_unknown(walk, bad[i].path))
        plan->still_bad++;
    else
        plan->forgotten[plan->n_forgotten++] = i;
}

kith_status ki_plan_make(const ki_walk *walk, const ki_inventory *inventory, uint64_t limits, int retry,
                         int renew, ki_plan *plan, kith_error *err)
{
    const ki_known *rows = inventory->rows;
    const ki_bad *bad = inventory->bad;
    *plan = (ki_plan){0};
    plan->tasks = ki_alloc(NULL, walk->n, sizeof *plan->tasks);
    plan->vanished = ki_alloc(NULL, inventory->n, sizeof *plan->vanished);
    plan->forgotten = ki_alloc(NULL, inventory->n_bad, sizeof *plan->forgotten);
    if (!plan->tasks || !plan->vanished || !plan->forgotten) {
        ki_plan_clear(plan);
        return ki_fail_nomem(err, (walk->n + 1) * sizeof *plan->tasks);
    }
    size_t r = 0, b = 0;
    for (size_t f = 0; f < walk->n; f++) {
        const ki_walk_file *file = &walk->files[f];
        while (r < inventory->n && strcmp(rows[r].file.path, file->path) < 0) vanish(walk, rows, r++, plan);
        while (b < inventory->n_bad && strcmp(bad[b].path, file->path) < 0) forget(walk, bad, b++, plan);
        ki_task task = {.file = f, .known = KI_NONE, .bad = KI_NONE};
        if (r < inventory->n && strcmp(rows[r].file.path, file->path) == 0) task.known = r++;
        if (b < inventory->n_bad && strcmp(bad[b].path, file->path) == 0) task.bad = b++;
        const ki_known *known = task.known != KI_NONE ? &rows[task.known] : NULL;
        if (known && !renew && !known->stale && known->file.size == file->size &&
            known->file.mtime_ns == file->mtime_ns)
            plan->unchanged++;
        else if (!known && task.bad != KI_NONE && !retry && still_bad(&bad[task.bad], file, limits))
            plan->still_bad++;
        else
            plan->tasks[plan->n++] = task;
    }
    while (r < inventory->n) vanish(walk, rows, r++, plan);
    while (b < inventory->n_bad) forget(walk, bad, b++, plan);
    if (plan->n_vanished)
        qsort_r(plan->vanished, plan->n_vanished, sizeof *plan->vanished, compare_vanished, (void *)rows);
    return KITH_OK;
}

void ki_plan_clear(ki_plan *plan)
{
    ki_free(NULL, plan->tasks);
    ki_free(NULL, plan->vanished);
    ki_free(NULL, plan->forgotten);
    *plan = (ki_plan){0};
}

size_t ki_plan_vanished(const ki_plan *plan, const ki_inventory *inventory, uint64_t size, size_t *n)
{
    size_t low = 0, high = plan->n_vanished;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (inventory->rows[plan->vanished[middle]].file.size < size)
            low = middle + 1;
        else
            high = middle;
    }
    size_t end = low;
    while (end < plan->n_vanished && inventory->rows[plan->vanished[end]].file.size == size) end++;
    *n = end - low;
    return low;
}
