/* rows.c - ids and slots; see rows.h.
 *
 * Invariants:
 *   R1  n <= n_slots; without an ids array n == n_slots
 *   R2  with an ids array, n of its n_slots entries are not KITH_NO_ID
 *   R3  no id stands in two slots
 *   R4  `ascending` is set only if every id is smaller than that of the next slot (so there are no holes)
 */
#include "index/rows.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"

#define EMPTY UINT32_MAX /* a free place of the hash table; slots are below it */

static_assert(KITH_MAX_ROWS <= EMPTY, "no slot may look like a free place");

void ki_rows_init(ki_rows *rows, const kith_allocator *allocator)
{
    memset(rows, 0, sizeof *rows);
    rows->allocator = allocator;
    rows->ascending = 1;
}

static uint32_t *table_of(const ki_rows *rows)
{
    return atomic_load_explicit(&rows->table, memory_order_acquire);
}

static void table_drop(ki_rows *rows)
{
    ki_free(rows->allocator, table_of(rows));
    atomic_store_explicit(&rows->table, NULL, memory_order_release);
}

void ki_rows_clear(ki_rows *rows)
{
    table_drop(rows);
    ki_free(rows->allocator, rows->owned);
    ki_rows_init(rows, rows->allocator);
}

/* ---- The hash table ---- */

/* Places for n ids: a power of two at least half again as large, so that probes stay short. */
static size_t table_places(size_t n)
{
    size_t places = 16;
    while (places < n + n / 2) places *= 2;
    return places;
}

static void table_put(uint32_t *table, size_t places, uint64_t id, uint32_t slot)
{
    size_t i = ki_mix64(id) & (places - 1);
    while (table[i] != EMPTY) i = (i + 1) & (places - 1);
    table[i] = slot;
}

/* A table of all rows with room for `n`; NULL when there is no memory. */
static uint32_t *table_build(const ki_rows *rows, size_t places)
{
    uint32_t *table = ki_alloc(rows->allocator, places, sizeof *table);
    if (!table) return NULL;
    memset(table, 0xff, places * sizeof *table);
    for (size_t slot = 0; slot < rows->n_slots; slot++)
        if (ki_rows_used(rows, (uint32_t)slot))
            table_put(table, places, ki_rows_id(rows, (uint32_t)slot), (uint32_t)slot);
    return table;
}

/* The place of an id, or -1. */
static ptrdiff_t table_find(const ki_rows *rows, const uint32_t *table, uint64_t id)
{
    size_t mask = rows->table_size - 1;
    for (size_t i = ki_mix64(id) & mask; table[i] != EMPTY; i = (i + 1) & mask)
        if (ki_rows_id(rows, table[i]) == id) return (ptrdiff_t)i;
    return -1;
}

/* Make sure that there is a table with room for n ids. */
static kith_status table_reserve(ki_rows *rows, size_t n, kith_error *err)
{
    if (table_of(rows) && rows->table_size >= table_places(n)) return KITH_OK;
    size_t places = table_places(n);
    uint32_t *table = table_build(rows, places);
    if (!table) return ki_fail_nomem(err, places * sizeof *table);
    table_drop(rows);
    rows->table_size = places;
    atomic_store_explicit(&rows->table, table, memory_order_release);
    return KITH_OK;
}

/* ---- Finding ---- */

static int find_ascending(const ki_rows *rows, uint64_t id, uint32_t *slot)
{
    size_t low = 0, high = rows->n_slots;
    uint64_t first;
    if (ki_rows_dense(rows, &first)) {
        if (id < first || id - first >= rows->n_slots) return 0;
        *slot = (uint32_t)(id - first);
        return 1;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rows->ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == rows->n_slots || rows->ids[low] != id) return 0;
    *slot = (uint32_t)low;
    return 1;
}

/* The table for readers: several may build one at the same time, the first to finish publishes. The size is
 * the same for all, so table_size was set when the rows last changed. */
static const uint32_t *table_for_reading(const ki_rows *rows)
{
    uint32_t *table = table_of(rows);
    if (table) return table;
    table = table_build(rows, rows->table_size);
    if (!table) return NULL;
    uint32_t *none = NULL;
    ki_rows *shared = (ki_rows *)(uintptr_t)rows; /* a cache: what readers can see does not change */
    if (atomic_compare_exchange_strong_explicit(&shared->table, &none, table, memory_order_acq_rel,
                                                memory_order_acquire))
        return table;
    ki_free(rows->allocator, table);
    return none;
}

int ki_rows_find(const ki_rows *rows, uint64_t id, uint32_t *slot)
{
    if (id == KITH_NO_ID) return 0;
    if (!rows->ids) {
        if (id >= rows->n_slots) return 0;
        *slot = (uint32_t)id;
        return 1;
    }
    if (rows->ascending) return find_ascending(rows, id, slot);
    const uint32_t *table = table_for_reading(rows);
    if (table) {
        ptrdiff_t place = table_find(rows, table, id);
        if (place >= 0) *slot = table[place];
        return place >= 0;
    }
    for (size_t i = 0; i < rows->n_slots; i++) { /* no memory for a table: slow, but still the answer */
        if (rows->ids[i] != id) continue;
        *slot = (uint32_t)i;
        return 1;
    }
    return 0;
}

/* ---- Adding ---- */

/* Whether the new ids simply go on: ascending, above all that are there. Then none is there twice. */
static int goes_on(const ki_rows *rows, const uint64_t *ids, size_t n)
{
    if (!rows->ascending) return 0;
    for (size_t i = 1; i < n; i++)
        if (ids[i] <= ids[i - 1]) return 0;
    if (rows->n_slots == 0) return 1;
    return ids[0] > ki_rows_id(rows, (uint32_t)(rows->n_slots - 1));
}

/* Whether the new ids are the numbers of the slots at the end, so that no array is needed. */
static int is_identity(const ki_rows *rows, const ki_rows_plan *plan)
{
    if (rows->ids) return 0;
    if (!plan->ids) return rows->next_id == rows->n_slots;
    for (size_t i = 0; i < plan->n; i++)
        if (plan->ids[i] != rows->n_slots + i) return 0;
    return 1;
}

static uint64_t plan_id(const ki_rows *rows, const ki_rows_plan *plan, size_t i)
{
    return plan->ids ? plan->ids[i] : rows->next_id + i;
}

/* That no new id is there already, nor twice among the new. The table of the rows is there. */
static kith_status check_distinct(ki_rows *rows, const ki_rows_plan *plan, kith_error *err)
{
    uint32_t *table = table_of(rows);
    for (size_t i = 0; i < plan->n; i++) {
        uint64_t id = plan_id(rows, plan, i);
        if (table_find(rows, table, id) >= 0)
            return ki_fail(err, KITH_EXISTS, "ids[%zu] is %llu, which the index holds already", i,
                           (unsigned long long)id);
    }
    if (!plan->ids) return KITH_OK;
    /* Among themselves: a table of positions in ids, of its own. */
    size_t places = table_places(plan->n);
    uint32_t *own = ki_alloc(rows->allocator, places, sizeof *own);
    if (!own) return ki_fail_nomem(err, places * sizeof *own);
    memset(own, 0xff, places * sizeof *own);
    size_t mask = places - 1;
    kith_status status = KITH_OK;
    for (size_t i = 0; i < plan->n && status == KITH_OK; i++) {
        size_t place = ki_mix64(plan->ids[i]) & mask;
        while (own[place] != EMPTY && plan->ids[own[place]] != plan->ids[i]) place = (place + 1) & mask;
        if (own[place] != EMPTY)
            status = ki_fail(err, KITH_EXISTS, "ids[%zu] and ids[%zu] are both %llu", (size_t)own[place], i,
                             (unsigned long long)plan->ids[i]);
        own[place] = (uint32_t)i;
    }
    ki_free(rows->allocator, own);
    return status;
}

/* Slots for the plan: holes first, lowest first. */
static kith_status choose_slots(const ki_rows *rows, ki_rows_plan *plan, kith_error *err)
{
    size_t holes = rows->n_slots - rows->n;
    plan->first_slot = (uint32_t)rows->n_slots;
    plan->n_slots = rows->n_slots + (plan->n > holes ? plan->n - holes : 0);
    if (holes == 0) return KITH_OK;
    plan->slots = ki_alloc(rows->allocator, plan->n, sizeof *plan->slots);
    if (!plan->slots) return ki_fail_nomem(err, plan->n * sizeof *plan->slots);
    size_t slot = rows->lowest_hole;
    for (size_t i = 0; i < plan->n; i++) {
        while (slot < rows->n_slots && ki_rows_used(rows, (uint32_t)slot)) slot++;
        plan->slots[i] = (uint32_t)slot++;
    }
    return KITH_OK;
}

/* Room for the ids of the plan in an array of our own. */
static kith_status reserve_ids(ki_rows *rows, size_t n_slots, kith_error *err)
{
    if (rows->owned && rows->capacity >= n_slots) return KITH_OK;
    size_t capacity = rows->n_slots == 0 ? n_slots : ki_grown(rows->capacity, n_slots);
    uint64_t *ids = ki_alloc(rows->allocator, capacity, sizeof *ids);
    if (!ids) return ki_fail_nomem(err, capacity * sizeof *ids);
    for (size_t slot = 0; slot < rows->n_slots; slot++) ids[slot] = ki_rows_id(rows, (uint32_t)slot);
    ki_free(rows->allocator, rows->owned);
    rows->ids = rows->owned = ids;
    rows->capacity = capacity;
    return KITH_OK;
}

kith_status ki_rows_plan_add(ki_rows *rows, const uint64_t *ids, size_t n, ki_rows_plan *plan,
                             kith_error *err)
{
    *plan = (ki_rows_plan){.ids = ids, .n = n};
    if (n > KITH_MAX_ROWS - rows->n)
        return ki_fail(err, KITH_INVALID, "%zu rows in addition to %zu, allowed %lu in all", n, rows->n,
                       (unsigned long)KITH_MAX_ROWS);
    if (!ids && rows->next_id > KITH_NO_ID - n)
        return ki_fail(err, KITH_INVALID, "no ids are left after %llu", (unsigned long long)rows->next_id);
    for (size_t i = 0; ids && i < n; i++)
        if (ids[i] == KITH_NO_ID) return ki_fail(err, KITH_INVALID, "ids[%zu] is KITH_NO_ID", i);
    KI_TRY(choose_slots(rows, plan, err));
    plan->ids_kept = !is_identity(rows, plan);
    if (!plan->ids_kept) return KITH_OK;
    uint64_t first = n > 0 ? plan_id(rows, plan, 0) : 0;
    int fresh = ids ? goes_on(rows, ids, n) : goes_on(rows, &first, n > 0);
    if (!fresh) {
        KI_TRY(table_reserve(rows, rows->n + n, err));
        KI_TRY(check_distinct(rows, plan, err));
    }
    return reserve_ids(rows, plan->n_slots, err);
}

void ki_rows_plan_clear(const ki_rows *rows, ki_rows_plan *plan)
{
    ki_free(rows->allocator, plan->slots);
    plan->slots = NULL;
}

kith_status ki_rows_reserve(ki_rows *rows, size_t n_slots, kith_error *err)
{
    if (rows->owned && rows->capacity >= n_slots) return KITH_OK;
    size_t room = rows->n_slots > n_slots ? rows->n_slots : n_slots;
    uint64_t *ids = ki_alloc(rows->allocator, room, sizeof *ids);
    if (!ids) return ki_fail_nomem(err, room * sizeof *ids);
    for (size_t slot = 0; slot < rows->n_slots; slot++) ids[slot] = ki_rows_id(rows, (uint32_t)slot);
    ki_free(rows->allocator, rows->owned);
    rows->ids = rows->owned = ids;
    rows->capacity = room;
    return KITH_OK;
}

static uint32_t plan_slot(const ki_rows_plan *plan, size_t i)
{
    return plan->slots ? plan->slots[i] : plan->first_slot + (uint32_t)i;
}

void ki_rows_stage(ki_rows *rows, const ki_rows_plan *plan)
{
    for (size_t i = 0; plan->ids_kept && i < plan->n; i++)
        rows->owned[plan_slot(plan, i)] = plan_id(rows, plan, i);
}

void ki_rows_unstage(ki_rows *rows, const ki_rows_plan *plan)
{
    for (size_t i = 0; plan->ids_kept && i < plan->n; i++) rows->owned[plan_slot(plan, i)] = KITH_NO_ID;
}

void ki_rows_commit(ki_rows *rows, const ki_rows_plan *plan)
{
    if (plan->n == 0) return;
    if (plan->ids_kept) {
        uint64_t first = plan_id(rows, plan, 0);
        rows->ascending =
            !plan->slots && (plan->ids ? goes_on(rows, plan->ids, plan->n) : goes_on(rows, &first, 1));
        uint32_t *table = table_of(rows);
        if (table && rows->table_size >= table_places(rows->n + plan->n)) {
            for (size_t i = 0; i < plan->n; i++)
                table_put(table, rows->table_size, plan_id(rows, plan, i), plan_slot(plan, i));
        } else {
            table_drop(rows); /* built again, larger, when it is needed */
        }
    } else {
        table_drop(rows); /* an add that was refused may have built one, which does not know these ids */
    }
    size_t holes_before = rows->n_slots - rows->n;
    rows->n += plan->n;
    rows->n_slots = plan->n_slots;
    rows->next_id += plan->n;
    if (plan->slots)
        rows->lowest_hole = plan->n >= holes_before ? rows->n_slots : (size_t)plan->slots[plan->n - 1] + 1;
    else
        rows->lowest_hole = rows->n_slots;
    if (!table_of(rows)) rows->table_size = table_places(rows->n);
}

/* ---- Removing ---- */

/* Take an id out of the table and close the gap, so that no probe stops too early (Knuth, TAOCP 3, 6.4,
 * algorithm R). */
static void table_remove(ki_rows *rows, uint32_t *table, uint64_t id)
{
    ptrdiff_t place = table_find(rows, table, id);
    assert(place >= 0);
    size_t mask = rows->table_size - 1, gap = (size_t)place;
    for (size_t i = (gap + 1) & mask; table[i] != EMPTY; i = (i + 1) & mask) {
        size_t home = ki_mix64(rows->ids[table[i]]) & mask;
        if (((i - home) & mask) < ((i - gap) & mask)) continue; /* its home lies behind the gap */
        table[gap] = table[i];
        gap = i;
    }
    table[gap] = EMPTY;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

kith_status ki_rows_plan_remove(ki_rows *rows, const uint64_t *ids, size_t n, uint32_t *slots, size_t *found,
                                kith_error *err)
{
    size_t count = 0;
    *found = 0;
    for (size_t i = 0; i < n; i++) count += (size_t)ki_rows_find(rows, ids[i], &slots[count]);
    if (count == 0) return KITH_OK;
    qsort(slots, count, sizeof *slots, by_number);
    size_t distinct = 1;
    for (size_t i = 1; i < count; i++)
        if (slots[i] != slots[i - 1]) slots[distinct++] = slots[i];
    KI_TRY(reserve_ids(rows, rows->n_slots, err));
    *found = distinct;
    return KITH_OK;
}

void ki_rows_remove(ki_rows *rows, const uint32_t *slots, size_t n)
{
    if (n == 0) return;
    uint32_t *table = table_of(rows);
    for (size_t i = 0; i < n; i++) {
        if (table) table_remove(rows, table, rows->owned[slots[i]]);
        rows->owned[slots[i]] = KITH_NO_ID;
        if (slots[i] < rows->lowest_hole) rows->lowest_hole = slots[i];
    }
    rows->n -= n;
    rows->ascending = 0;
}

/* ---- Keeping ---- */

/* Whether the ids are those that need no array. They may be so even where there is one. */
static int ids_are_slots(const ki_rows *rows)
{
    for (size_t slot = 0; rows->ids && slot < rows->n_slots; slot++)
        if (rows->ids[slot] != slot) return 0;
    return 1;
}

kith_status ki_rows_save(const ki_rows *rows, ki_store_writer *writer, kith_error *err)
{
    ki_record record;
    int has_ids = !ids_are_slots(rows);
    ki_record_init(&record, rows->allocator);
    ki_record_put_u64(&record, "n", rows->n);
    ki_record_put_u64(&record, "slots", rows->n_slots);
    ki_record_put_u64(&record, "next_id", rows->next_id);
    ki_record_put_u64(&record, "has_ids", (uint64_t)has_ids);
    ki_record_put_u64(&record, "ascending", (uint64_t)(rows->ascending || !has_ids));
    kith_status status = ki_store_put_record(writer, "rows", &record, err);
    ki_record_clear(&record);
    if (status == KITH_OK && has_ids)
        status = ki_store_put(writer, "rows.ids", rows->ids, rows->n_slots, sizeof *rows->ids, err);
    return status;
}

kith_status ki_rows_load(ki_rows *rows, ki_store *store, int mapped, kith_error *err)
{
    ki_record_view record;
    uint64_t n, n_slots, next_id, has_ids, ascending;
    KI_TRY(ki_store_record_open(store, "rows", &record, err));
    KI_TRY(ki_record_get_u64(&record, "slots", 0, KITH_MAX_ROWS, &n_slots, err));
    KI_TRY(ki_record_get_u64(&record, "n", 0, n_slots, &n, err));
    KI_TRY(ki_record_get_u64(&record, "next_id", 0, UINT64_MAX, &next_id, err));
    KI_TRY(ki_record_get_u64(&record, "has_ids", 0, 1, &has_ids, err));
    KI_TRY(ki_record_get_u64(&record, "ascending", 0, 1, &ascending, err));
    if (n != ki_store_head(store)->rows)
        return ki_fail(err, KITH_CORRUPT, "%s: %llu rows in the header, %llu in the record",
                       ki_store_path(store), (unsigned long long)ki_store_head(store)->rows,
                       (unsigned long long)n);
    if (!has_ids && (n != n_slots || !ascending))
        return ki_fail(err, KITH_CORRUPT, "%s: %llu slots for %llu rows, but no ids", ki_store_path(store),
                       (unsigned long long)n_slots, (unsigned long long)n);
    if (has_ids && mapped) {
        const void *ids;
        KI_TRY(ki_store_array(store, "rows.ids", n_slots, sizeof *rows->ids, &ids, err));
        rows->ids = ids;
    } else if (has_ids) {
        uint64_t count;
        KI_TRY(ki_store_count(store, "rows.ids", sizeof *rows->ids, &count, err));
        if (count != n_slots)
            return ki_fail(err, KITH_CORRUPT, "%s: %llu ids for %llu slots", ki_store_path(store),
                           (unsigned long long)count, (unsigned long long)n_slots);
        uint64_t *ids = ki_alloc(rows->allocator, n_slots, sizeof *ids);
        if (!ids) return ki_fail_nomem(err, n_slots * sizeof *ids);
        rows->ids = rows->owned = ids;
        rows->capacity = n_slots;
        KI_TRY(ki_store_load(store, "rows.ids", n_slots, sizeof *ids, ids, err));
    }
    rows->n = n;
    rows->n_slots = n_slots;
    rows->next_id = next_id;
    rows->ascending = (int)ascending;
    rows->lowest_hole = n == n_slots ? n_slots : 0;
    /* The ids are believed, but their number is not: choosing slots and building the table rely on it. Nor is their order:
     * bisection would find the slot of a hole, which no structure has a row for. */
    size_t used = 0;
    int ascends = 1;
    for (size_t slot = 0; rows->ids && slot < n_slots; slot++) {
        used += rows->ids[slot] != KITH_NO_ID;
        ascends &= slot == 0 || rows->ids[slot] > rows->ids[slot - 1];
    }
    if (rows->ids && used != n)
        return ki_fail(err, KITH_CORRUPT, "%s: %zu ids for %llu rows", ki_store_path(store), used,
                       (unsigned long long)n);
    if (rows->ids && ascending && (!ascends || n != n_slots))
        return ki_fail(err, KITH_CORRUPT, "%s: R4: ids are said to ascend and do not", ki_store_path(store));
    rows->table_size = table_places(n);
    return KITH_OK;
}

kith_status ki_rows_check(const ki_rows *rows, kith_error *err)
{
    if (rows->n > rows->n_slots || (!rows->ids && rows->n != rows->n_slots))
        return ki_fail(err, KITH_CORRUPT, "R1: %zu rows in %zu slots", rows->n, rows->n_slots);
    if (!rows->ids) return KITH_OK;
    size_t used = 0;
    int ascends = 1;
    for (size_t slot = 0; slot < rows->n_slots; slot++) {
        used += ki_rows_used(rows, (uint32_t)slot);
        if (slot > 0 && rows->ids[slot] <= rows->ids[slot - 1]) ascends = 0;
    }
    if (used != rows->n) return ki_fail(err, KITH_CORRUPT, "R2: %zu ids for %zu rows", used, rows->n);
    if (rows->ascending && (!ascends || used != rows->n_slots))
        return ki_fail(err, KITH_CORRUPT, "R4: ids are said to ascend and do not");
    if (ascends) return KITH_OK;
    const uint32_t *table = table_for_reading(rows);
    if (!table) return ki_fail_nomem(err, rows->table_size * sizeof *table);
    for (size_t slot = 0; slot < rows->n_slots; slot++) {
        if (!ki_rows_used(rows, (uint32_t)slot)) continue;
        ptrdiff_t place = table_find(rows, table, rows->ids[slot]);
        if (place < 0 || table[place] != slot)
            return ki_fail(err, KITH_CORRUPT, "R3: id %llu stands in slot %zu and in another",
                           (unsigned long long)rows->ids[slot], slot);
    }
    return KITH_OK;
}

uint64_t ki_rows_bytes(const ki_rows *rows)
{
    uint64_t bytes = rows->ids ? (uint64_t)rows->n_slots * sizeof *rows->ids : 0;
    if (table_of(rows)) bytes += (uint64_t)rows->table_size * sizeof(uint32_t);
    return bytes;
}
