/* tree_rows.c - see the header.
 *
 * Invariants:
 *   T1  parts follow one another from position 0 on, their leaves hold 1..KI_TREE_MAX_LEAF positions
 *   T2  every slot in use has one position, which names it back; a position that names no slot is empty
 *   T3  the dead of a part are its empty positions, whose codes are zero
 *   T4  every code is one that its codec can score; float32 rows are finite */
#include "index/tree_rows.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* Rows that are scaled and encoded at a time. */
#define ADD_BLOCK 16384

void ki_tree_rows_init(ki_tree_rows *rows, const ki_structure_env *env)
{
    memset(rows, 0, sizeof *rows);
    rows->env = env;
}

void ki_tree_rows_clear(ki_tree_rows *rows)
{
    const kith_allocator *allocator = rows->env->allocator;
    ki_free(allocator, rows->own_slots);
    ki_free(allocator, rows->own_places);
    ki_free(allocator, rows->own_code);
    ki_free(allocator, rows->own_factor);
    ki_free(allocator, rows->spare);
    ki_tree_rows_init(rows, rows->env);
}

const float *ki_tree_vector(const ki_tree_rows *rows, size_t position, float *out)
{
    const ki_codec *codec = rows->env->codec;
    const float *x = ki_codec_f32_rows(codec, rows->codes);
    if (x) return x + position * codec->dim;
    codec->ops->decode(codec, ki_tree_code(rows, position),
                       rows->codes.factor ? rows->codes.factor + position * codec->n_factors : NULL, NULL,
                       out);
    return out;
}

/* ---- Adding ---- */

/* Let one array have room for `capacity` elements. */
static kith_status grow(const ki_tree_rows *rows, void **array, size_t used, size_t capacity, size_t size,
                        kith_error *err)
{
    void *grown = ki_realloc(rows->env->allocator, *array, used, capacity, size);
    if (!grown) return ki_fail_nomem(err, capacity * size);
    *array = grown;
    return KITH_OK;
}

static size_t room(size_t capacity, size_t need)
{
    return capacity == 0 ? need : ki_grown(capacity, need);
}

static kith_status reserve(ki_tree_rows *rows, size_t n, size_t n_slots, kith_error *err)
{
    const ki_codec *codec = rows->env->codec;
    if (n >= KI_TREE_NOWHERE)
        return ki_fail(err, KITH_UNSUPPORTED, "%zu rows and removed ones, trees take %u", n,
                       KI_TREE_NOWHERE - 1);
    if (!rows->spare) {
        rows->spare = ki_alloc(rows->env->allocator, 1, codec->code_size + codec->n_factors * sizeof(float));
        if (!rows->spare) return ki_fail_nomem(err, codec->code_size);
    }
    if (n > rows->capacity) {
        size_t capacity = room(rows->capacity, n);
        void *slots = rows->own_slots, *code = rows->own_code, *factor = rows->own_factor;
        kith_status status = grow(rows, &slots, rows->n, capacity, sizeof *rows->slots, err);
        rows->slots = rows->own_slots = slots;
        if (status == KITH_OK) status = grow(rows, &code, rows->n, capacity, codec->code_size, err);
        rows->codes.code = rows->own_code = code;
        if (status == KITH_OK && codec->n_factors > 0)
            status = grow(rows, &factor, rows->n, capacity, codec->n_factors * sizeof(float), err);
        rows->codes.factor = rows->own_factor = factor;
        if (status != KITH_OK) return status;
        rows->capacity = capacity;
    }
    if (n_slots > rows->slot_capacity) {
        size_t capacity = room(rows->slot_capacity, n_slots);
        void *places = rows->own_places;
        KI_TRY(grow(rows, &places, rows->n_slots, capacity, sizeof *rows->places, err));
        rows->places = rows->own_places = places;
        rows->slot_capacity = capacity;
    }
    return KITH_OK;
}

/* Encode new rows behind the others. */
static kith_status encode(ki_tree_rows *rows, const ki_input *input, const uint32_t *slots,
                          uint32_t first_slot, const kith_run *run, kith_error *err)
{
    const ki_structure_env *env = rows->env;
    const ki_codec *codec = env->codec;
    size_t block = input->n < ADD_BLOCK ? input->n : ADD_BLOCK;
    float *x = ki_alloc(env->allocator, env->unit ? block * env->dim : 1, sizeof *x);
    kith_status status = x ? KITH_OK : ki_fail_nomem(err, block * env->dim * sizeof *x);
    for (size_t first = 0; first < input->n && status == KITH_OK; first += block) {
        size_t n = input->n - first < block ? input->n - first : block, at = rows->n + first;
        const float *from = ki_input_block(input, first, n, x);
        status =
            codec->ops->encode(codec, from, n, (ki_origins){0}, run, rows->own_code + at * codec->code_size,
                               rows->own_factor ? rows->own_factor + at * codec->n_factors : NULL, err);
    }
    for (size_t i = 0; i < input->n; i++)
        rows->own_slots[rows->n + i] = slots ? slots[i] : first_slot + (uint32_t)i;
    ki_free(env->allocator, x);
    return status;
}

/* From which part on everything is built anew, when `pending` rows wait. */
static size_t merge_from(const ki_tree_rows *rows, size_t pending)
{
    size_t part = rows->n_parts, merged = pending;
    while (part > 0) {
        const ki_tree_part *last = &rows->parts[part - 1];
        size_t live = last->n - last->dead;
        if (live >= 2 * merged) break;
        merged += live;
        part--;
    }
    for (size_t p = 0; p < part; p++)
        if (rows->parts[p].dead > rows->parts[p].n / 2) return p;
    return part + 1 < KI_TREE_PARTS ? part : 0;
}

kith_status ki_tree_append(ki_tree_rows *rows, const ki_input *input, const uint32_t *slots,
                           uint32_t first_slot, size_t n_slots, size_t leaf_size, const kith_run *run,
                           ki_tree_plan *plan, kith_error *err)
{
    memset(plan, 0, sizeof *plan);
    if (n_slots < rows->n_slots) n_slots = rows->n_slots;
    KI_TRY(reserve(rows, rows->n + input->n, n_slots, err));
    KI_TRY(encode(rows, input, slots, first_slot, run, err));
    size_t end = rows->n + input->n, waiting = end - ki_tree_pending(rows);
    if (waiting <= KI_TREE_PENDING) return KITH_OK; /* dead ones count: they are scanned, too */
    plan->part = merge_from(rows, waiting - rows->pending_dead);
    plan->first =
        plan->part < rows->n_parts ? rows->parts[plan->part].first : (uint32_t)ki_tree_pending(rows);
    plan->positions = end - plan->first;
    plan->order = ki_alloc(rows->env->allocator, plan->positions, sizeof *plan->order);
    if (!plan->order) return ki_fail_nomem(err, plan->positions * sizeof *plan->order);
    for (size_t p = plan->first; p < end; p++)
        if (rows->slots[p] != KI_TREE_NOWHERE) plan->order[plan->n++] = (uint32_t)p;
    plan->levels = ki_tree_levels(plan->n, leaf_size);
    return KITH_OK;
}

void ki_tree_plan_clear(const ki_tree_rows *rows, ki_tree_plan *plan)
{
    ki_free(rows->env->allocator, plan->order);
    plan->order = NULL;
}

/* ---- Moving ---- */

static void move_row(ki_tree_rows *rows, size_t to, size_t from)
{
    const ki_codec *codec = rows->env->codec;
    size_t factors = codec->n_factors;
    memcpy(rows->own_code + to * codec->code_size, rows->own_code + from * codec->code_size,
           codec->code_size);
    if (factors > 0)
        memcpy(rows->own_factor + to * factors, rows->own_factor + from * factors,
               factors * sizeof *rows->own_factor);
    rows->own_slots[to] = rows->own_slots[from];
}

/* Rows into the spare one and back. */
static void spare_row(ki_tree_rows *rows, size_t position, int back)
{
    const ki_codec *codec = rows->env->codec;
    size_t factors = codec->n_factors * sizeof(float);
    uint8_t *code = rows->own_code + position * codec->code_size;
    memcpy(back ? code : rows->spare, back ? rows->spare : code, codec->code_size);
    if (factors == 0) return;
    uint8_t *factor = (uint8_t *)(rows->own_factor + position * codec->n_factors);
    memcpy(back ? factor : rows->spare + codec->code_size, back ? rows->spare + codec->code_size : factor,
           factors);
}

/* Row order[i] to position first + i, in place. First the chains that end at an empty position, then the cycles;
 * a position is done when order names itself. */
static void permute(ki_tree_rows *rows, const ki_tree_plan *plan)
{
    uint32_t *order = plan->order, first = plan->first;
    size_t n = plan->n;
    for (size_t i = 0; i < n; i++) {
        if (rows->slots[first + i] != KI_TREE_NOWHERE) continue;
        for (size_t j = i; j < n;) {
            uint32_t from = order[j];
            move_row(rows, first + j, from);
            rows->own_slots[from] = KI_TREE_NOWHERE;
            order[j] = first + (uint32_t)j;
            j = from - first;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (order[i] == first + i) continue;
        uint32_t slot = rows->slots[first + i];
        spare_row(rows, first + i, 0);
        size_t j = i;
        while (order[j] != first + i) {
            size_t next = order[j] - first;
            move_row(rows, first + j, first + next);
            order[j] = first + (uint32_t)j;
            j = next;
        }
        spare_row(rows, first + j, 1);
        rows->own_slots[first + j] = slot;
        order[j] = first + (uint32_t)j;
    }
}

void ki_tree_commit(ki_tree_rows *rows, size_t added, size_t n_slots, ki_tree_plan *plan)
{
    size_t from = rows->n;
    rows->n += added;
    if (plan->positions > 0) {
        permute(rows, plan);
        from = plan->first;
        rows->n = plan->first + plan->n;
        rows->n_parts = plan->part;
        rows->pending_dead = 0;
        assert(rows->n_parts < KI_TREE_PARTS);
        if (plan->n > 0)
            rows->parts[rows->n_parts++] = (ki_tree_part){plan->first, (uint32_t)plan->n, plan->levels, 0};
    }
    for (size_t slot = rows->n_slots; slot < n_slots; slot++) rows->own_places[slot] = KI_TREE_NOWHERE;
    if (n_slots > rows->n_slots) rows->n_slots = n_slots;
    for (size_t p = from; p < rows->n; p++)
        if (rows->slots[p] != KI_TREE_NOWHERE) rows->own_places[rows->slots[p]] = (uint32_t)p;
}

/* ---- Removing ---- */

/* Count a position that lost its row. */
static void count_dead(ki_tree_rows *rows, uint32_t position)
{
    for (size_t p = 0; p < rows->n_parts; p++) {
        ki_tree_part *part = &rows->parts[p];
        if (position - part->first >= part->n) continue;
        part->dead++;
        return;
    }
    rows->pending_dead++;
}

void ki_tree_rows_remove(ki_tree_rows *rows, const uint32_t *slots, size_t n)
{
    const ki_codec *codec = rows->env->codec;
    for (size_t i = 0; i < n; i++) {
        uint32_t place = rows->places[slots[i]];
        if (place == KI_TREE_NOWHERE) continue;
        memset(rows->own_code + place * codec->code_size, 0, codec->code_size);
        if (codec->n_factors > 0)
            memset(rows->own_factor + place * codec->n_factors, 0, codec->n_factors * sizeof(float));
        rows->own_slots[place] = KI_TREE_NOWHERE;
        rows->own_places[slots[i]] = KI_TREE_NOWHERE;
        count_dead(rows, place);
    }
}

/* ---- Search ---- */

/* Those of a block that may be returned. */
static size_t admit(const ki_tree_rows *rows, const ki_query *query, size_t first, size_t n, uint32_t *pick)
{
    size_t picked = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = rows->slots[first + i];
        pick[picked] = (uint32_t)i;
        picked += slot != KI_TREE_NOWHERE && (!query->filter || ki_query_allows(query, slot));
    }
    return picked;
}

static void scan_block(const ki_tree_rows *rows, ki_query *query, ki_scorer *scorer, size_t first, size_t n,
                       int dead)
{
    float dist[KI_TREE_MAX_LEAF];
    uint32_t pick[KI_TREE_MAX_LEAF], near[KI_TREE_MAX_LEAF];
    const ki_codec *codec = scorer->codec;
    size_t admitted = dead || query->filter ? admit(rows, query, first, n, pick) : n;
    const uint32_t *picked = admitted < n ? pick : NULL;
    if (admitted == 0) return;
    ki_codes codes = {ki_tree_code(rows, first),
                      rows->codes.factor ? rows->codes.factor + first * codec->n_factors : NULL};
    scorer->ops->score(scorer, codes, picked, admitted, ki_query_limit(query), dist);
    query->scored += admitted;
    size_t n_near = query->kernels->select_le_f32(dist, admitted, ki_query_limit(query), near);
    for (size_t i = 0; i < n_near; i++) {
        float distance = dist[near[i]];
        if (distance > ki_query_limit(query)) continue; /* an earlier one made it smaller */
        ki_query_offer(query, distance, rows->slots[first + (picked ? picked[near[i]] : near[i])]);
    }
}

void ki_tree_scan(const ki_tree_rows *rows, ki_query *query, ki_scorer *scorer, size_t first, size_t n,
                  int dead)
{
    query->visited++;
    for (size_t done = 0; done < n; done += KI_TREE_MAX_LEAF) {
        if (ki_query_stop(query)) return;
        scan_block(rows, query, scorer, first + done,
                   n - done < KI_TREE_MAX_LEAF ? n - done : KI_TREE_MAX_LEAF, dead);
    }
}

void ki_tree_scan_pending(const ki_tree_rows *rows, ki_query *query, ki_scorer *scorer)
{
    size_t first = ki_tree_pending(rows);
    if (rows->n > first) ki_tree_scan(rows, query, scorer, first, rows->n - first, rows->pending_dead > 0);
}

void ki_tree_decode(const ki_tree_rows *rows, uint32_t slot, float *out)
{
    uint32_t place = slot < rows->n_slots ? rows->places[slot] : KI_TREE_NOWHERE;
    if (place == KI_TREE_NOWHERE) {
        memset(out, 0, rows->env->dim * sizeof *out);
        return;
    }
    const float *x = ki_tree_vector(rows, place, out);
    if (x != out) memcpy(out, x, rows->env->dim * sizeof *out);
}

/* ---- Save and load ---- */

static kith_status put(ki_store_writer *writer, const char *prefix, const char *what, const void *data,
                       size_t n, size_t size, kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    snprintf(name, sizeof name, "%s.%s", prefix, what);
    return ki_store_put(writer, name, data, n, size, err);
}

kith_status ki_tree_rows_save(const ki_tree_rows *rows, const char *prefix, size_t n_slots,
                              ki_store_writer *writer, kith_error *err)
{
    const ki_codec *codec = rows->env->codec;
    KI_TRY(put(writer, prefix, "parts", rows->parts, rows->n_parts, sizeof *rows->parts, err));
    KI_TRY(put(writer, prefix, "slots", rows->slots, rows->n, sizeof *rows->slots, err));
    KI_TRY(put(writer, prefix, "places", rows->places, n_slots, sizeof *rows->places, err));
    KI_TRY(put(writer, prefix, "codes", rows->codes.code, rows->n, codec->code_size, err));
    if (codec->n_factors == 0) return KITH_OK;
    return put(writer, prefix, "factors", rows->codes.factor, rows->n, codec->n_factors * sizeof(float), err);
}

kith_status ki_tree_load_array(const ki_structure_env *env, const char *prefix, const char *what, size_t n,
                               size_t size, int mapped, ki_store *store, const void **data, void **own,
                               kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    uint64_t count; /* before anything is allocated: whether the file holds so much */
    snprintf(name, sizeof name, "%s.%s", prefix, what);
    KI_TRY(ki_store_count(store, name, size, &count, err));
    if (count != n)
        return ki_fail(err, KITH_CORRUPT, "%s: section %s holds %llu elements, not %zu", ki_store_path(store),
                       name, (unsigned long long)count, n);
    if (mapped) return ki_store_array(store, name, n, size, data, err);
    void *copy = ki_alloc(env->allocator, n, size);
    if (!copy) return ki_fail_nomem(err, n * size);
    kith_status status = ki_store_load(store, name, n, size, copy, err);
    if (status != KITH_OK) {
        ki_free(env->allocator, copy);
        return status;
    }
    *data = *own = copy;
    return KITH_OK;
}

static kith_status check_parts(const ki_tree_rows *rows, kith_error *err)
{
    uint64_t end = 0;
    for (size_t p = 0; p < rows->n_parts; p++) {
        const ki_tree_part *part = &rows->parts[p];
        end += part->n;
        if (part->first != end - part->n || end > rows->n || part->levels > KI_TREE_MAX_LEVELS ||
            part->n >> part->levels == 0 || ki_tree_levels(part->n, KI_TREE_MAX_LEAF) > part->levels)
            return ki_fail(err, KITH_CORRUPT, "T1: part %zu is %u positions from %u on in 2^%u leaves", p,
                           part->n, part->first, part->levels);
    }
    return KITH_OK;
}

/* Positions and slots name each other. */
static kith_status check_places(const ki_tree_rows *rows, const ki_rows *known, kith_error *err)
{
    size_t live = 0;
    for (size_t p = 0; p < rows->n; p++) {
        uint32_t slot = rows->slots[p];
        if (slot == KI_TREE_NOWHERE) continue;
        if (slot >= known->n_slots || !ki_rows_used(known, slot) || rows->places[slot] != p)
            return ki_fail(err, KITH_CORRUPT, "T2: position %zu holds slot %u, which is not there", p, slot);
        live++;
    }
    if (live != known->n)
        return ki_fail(err, KITH_CORRUPT, "T2: %zu rows in the trees, %zu in the index", live, known->n);
    for (size_t slot = 0; slot < known->n_slots; slot++)
        if (!ki_rows_used(known, (uint32_t)slot) && rows->places[slot] != KI_TREE_NOWHERE)
            return ki_fail(err, KITH_CORRUPT, "T2: slot %zu has a place and no row", slot);
    return KITH_OK;
}

static size_t dead_in(const ki_tree_rows *rows, size_t first, size_t n)
{
    size_t dead = 0;
    for (size_t p = first; p < first + n; p++) dead += rows->slots[p] == KI_TREE_NOWHERE;
    return dead;
}

static kith_status load_arrays(ki_tree_rows *rows, const char *prefix, int mapped, const ki_rows *known,
                               ki_store *store, kith_error *err)
{
    const ki_structure_env *env = rows->env;
    const ki_codec *codec = env->codec;
    const void *data;
    void *own = NULL;
    uint64_t n;
    char name[KI_STORE_NAME_BYTES];
    snprintf(name, sizeof name, "%s.slots", prefix);
    KI_TRY(ki_store_count(store, name, sizeof *rows->slots, &n, err));
    KI_TRY(ki_tree_load_array(env, prefix, "slots", n, sizeof *rows->slots, mapped, store, &data, &own, err));
    rows->slots = data, rows->own_slots = own, own = NULL;
    KI_TRY(ki_tree_load_array(env, prefix, "places", known->n_slots, sizeof *rows->places, mapped, store,
                              &data, &own, err));
    rows->places = data, rows->own_places = own, own = NULL;
    KI_TRY(ki_tree_load_array(env, prefix, "codes", n, codec->code_size, mapped, store, &data, &own, err));
    rows->codes.code = data, rows->own_code = own, own = NULL;
    if (codec->n_factors > 0) {
        KI_TRY(ki_tree_load_array(env, prefix, "factors", n, codec->n_factors * sizeof(float), mapped, store,
                                  &data, &own, err));
        rows->codes.factor = data, rows->own_factor = own;
    }
    rows->n = n;
    rows->n_slots = known->n_slots;
    rows->capacity = mapped ? 0 : n;
    rows->slot_capacity = mapped ? 0 : known->n_slots;
    return KITH_OK;
}

kith_status ki_tree_rows_load(ki_tree_rows *rows, const char *prefix, int mapped, const ki_rows *known,
                              ki_store *store, kith_error *err)
{
    const ki_codec *codec = rows->env->codec;
    char name[KI_STORE_NAME_BYTES];
    uint64_t n_parts;
    KI_TRY(load_arrays(rows, prefix, mapped, known, store, err));
    snprintf(name, sizeof name, "%s.parts", prefix);
    KI_TRY(ki_store_count(store, name, sizeof *rows->parts, &n_parts, err));
    if (n_parts >= KI_TREE_PARTS)
        return ki_fail(err, KITH_CORRUPT, "%s: %llu parts", ki_store_path(store),
                       (unsigned long long)n_parts);
    KI_TRY(ki_store_load(store, name, n_parts, sizeof *rows->parts, rows->parts, err));
    rows->n_parts = n_parts;
    kith_status status = check_parts(rows, err);
    if (status == KITH_OK) status = check_places(rows, known, err);
    if (status == KITH_OK && codec->ops->check)
        status = codec->ops->check(codec, rows->codes, rows->n, 0, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "%s", ki_store_path(store));
    if (status != KITH_OK) {
        rows->n_parts = 0;
        return status;
    }
    for (size_t p = 0; p < rows->n_parts;
         p++) /* counted, not believed: a wrong number would show empty rows */
        rows->parts[p].dead = (uint32_t)dead_in(rows, rows->parts[p].first, rows->parts[p].n);
    rows->pending_dead = dead_in(rows, ki_tree_pending(rows), rows->n - ki_tree_pending(rows));
    return KITH_OK;
}

/* ---- Check ---- */

static int is_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i]) return 0;
    return 1;
}

kith_status ki_tree_rows_check(const ki_tree_rows *rows, const ki_rows *known, kith_error *err)
{
    const ki_codec *codec = rows->env->codec;
    KI_TRY(check_parts(rows, err));
    KI_TRY(check_places(rows, known, err));
    for (size_t p = 0; p < rows->n_parts; p++) {
        const ki_tree_part *part = &rows->parts[p];
        if (dead_in(rows, part->first, part->n) != part->dead)
            return ki_fail(err, KITH_CORRUPT, "T3: part %zu counts %u empty positions", p, part->dead);
    }
    for (size_t p = 0; p < rows->n; p++)
        if (rows->slots[p] == KI_TREE_NOWHERE && !is_zero(ki_tree_code(rows, p), codec->code_size))
            return ki_fail(err, KITH_CORRUPT, "T3: position %zu is empty, its code is not zero", p);
    if (!codec->ops->check) return KITH_OK;
    kith_status status = codec->ops->check(codec, rows->codes, rows->n, 1, err);
    if (status != KITH_OK) ki_error_prefix(err, "T4");
    return status;
}

uint64_t ki_tree_rows_bytes(const ki_tree_rows *rows)
{
    const ki_codec *codec = rows->env->codec;
    return (uint64_t)rows->n * (sizeof *rows->slots + codec->code_size + codec->n_factors * sizeof(float)) +
           (uint64_t)rows->n_slots * sizeof *rows->places;
}
