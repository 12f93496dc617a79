#include "index/hash_tables.h"

#include <stdio.h>
#include <string.h>

#include "base/bitset.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/run.h"
#include "base/select.h"

/* Tables that are built at a time: all threads have work, and the entries to be sorted stay a part of the whole. */
#define GROUP 8

/* A run is merged with the one before it while that is at most so many times as large. */
#define RATIO 4

void ki_hash_tables_init(ki_hash_tables *tables, size_t n_tables, const kith_allocator *allocator)
{
    memset(tables, 0, sizeof *tables);
    tables->allocator = allocator;
    tables->n_tables = n_tables;
}

static void run_clear(const ki_hash_tables *tables, ki_hash_run *run)
{
    for (size_t t = 0; run->tables && run->own && t < tables->n_tables; t++) {
        const ki_hash_table *table = &run->tables[t];
        ki_free(tables->allocator, (void *)(uintptr_t)table->cells);
        ki_free(tables->allocator, (void *)(uintptr_t)table->buckets);
        ki_free(tables->allocator, (void *)(uintptr_t)table->slots);
    }
    ki_free(tables->allocator, run->tables);
    memset(run, 0, sizeof *run);
}

void ki_hash_tables_clear(ki_hash_tables *tables)
{
    for (size_t r = 0; r < tables->n_runs; r++) run_clear(tables, &tables->runs[r]);
    ki_free(tables->allocator, tables->stale);
    ki_hash_tables_init(tables, tables->n_tables, tables->allocator);
}

/* ---- Looking up ---- */

/* The cell of a key. */
static inline uint32_t cell_of(uint32_t key, uint32_t bits)
{
    return bits ? key >> (32 - bits) : 0;
}

/* How many bits of a key choose the cell: two buckets in one on average. */
static uint32_t cell_bits(size_t n_buckets)
{
    uint32_t bits = 0;
    while (bits < 31 && (size_t)2 << bits < n_buckets) bits++;
    return bits;
}

const uint32_t *ki_hash_find(const ki_hash_run *run, size_t table, uint32_t key, size_t *n)
{
    const ki_hash_table *t = &run->tables[table];
    uint32_t cell = cell_of(key, t->bits), i = t->cells[cell], end = t->cells[cell + 1];
    *n = 0;
    if (end > t->n_buckets) end = t->n_buckets;
    while (i < end && t->buckets[i].key < key) i++;
    if (i >= end || t->buckets[i].key != key) return NULL;
    uint32_t start = i ? t->buckets[i - 1].end : 0, stop = t->buckets[i].end;
    if (stop > run->n || start >= stop) return NULL; /* a damaged file */
    *n = stop - start;
    return t->slots + start;
}

/* ---- Building a run ---- */

/* Where the rows of a new run come from: new ones, or runs that are merged. */
typedef struct source {
    const uint32_t *keys, *slots; /* keys NULL: from runs */
    uint32_t first_slot;
    const ki_hash_run *runs;
    size_t n_runs;
    const uint64_t *stale; /* slots to be left out, or NULL */
    size_t stale_room;
} source;

/* One group of tables under way. */
typedef struct building {
    const source *from;
    ki_hash_run *run;
    size_t first;      /* number of the group's first table */
    uint64_t *entries; /* [GROUP][n], key and slot */
} building;

static int is_stale(const source *from, uint32_t slot)
{
    return from->stale && slot < from->stale_room && ki_bits_get(from->stale, slot);
}

/* A place in a table of a run that is being merged. */
typedef struct cursor {
    const ki_hash_table *table;
    uint32_t bucket, place;
    size_t n;
} cursor;

/* The entry under a cursor, UINT64_MAX at the end: above every entry, for slots stay below UINT32_MAX. */
static uint64_t entry_at(const cursor *c)
{
    if (c->place == c->n) return UINT64_MAX;
    return (uint64_t)c->table->buckets[c->bucket].key << 32 | c->table->slots[c->place];
}

static void advance(cursor *c)
{
    c->place++;
    if (c->place < c->n && c->place == c->table->buckets[c->bucket].end) c->bucket++;
}

/* The entries of table t of all runs, in order. */
static void merge_entries(const source *from, size_t t, uint64_t *entries)
{
    cursor at[KI_HASH_RUNS];
    size_t n = 0;
    for (size_t r = 0; r < from->n_runs; r++)
        at[r] = (cursor){&from->runs[r].tables[t], 0, 0, from->runs[r].n};
    for (;;) {
        size_t least = 0;
        uint64_t entry = UINT64_MAX;
        for (size_t r = 0; r < from->n_runs; r++) {
            uint64_t other = entry_at(&at[r]);
            if (other >= entry) continue;
            entry = other;
            least = r;
        }
        if (entry == UINT64_MAX) return;
        if (!is_stale(from, (uint32_t)entry)) entries[n++] = entry;
        advance(&at[least]);
    }
}

/* The entries of a table in order, and how many buckets they make. */
static void collect_table(void *ctx, size_t number, size_t worker)
{
    (void)worker;
    building *b = ctx;
    const source *from = b->from;
    size_t n = b->run->n, t = b->first + number;
    uint64_t *entries = b->entries + number * n;
    if (from->keys) {
        for (size_t i = 0; i < n; i++) {
            uint32_t slot = from->slots ? from->slots[i] : from->first_slot + (uint32_t)i;
            entries[i] = (uint64_t)from->keys[t * n + i] << 32 | slot;
        }
        ki_keys_sort(entries, n);
    } else {
        merge_entries(from, t, entries);
    }
    uint32_t buckets = 0;
    for (size_t i = 0; i < n; i++) buckets += i == 0 || entries[i] >> 32 != entries[i - 1] >> 32;
    b->run->tables[t].n_buckets = buckets;
    b->run->tables[t].bits = cell_bits(buckets);
}

/* Write a table whose arrays have their room. */
static void fill_table(void *ctx, size_t number, size_t worker)
{
    (void)worker;
    building *b = ctx;
    size_t n = b->run->n;
    const ki_hash_table *table = &b->run->tables[b->first + number];
    const uint64_t *entries = b->entries + number * n;
    uint32_t *slots = (uint32_t *)(uintptr_t)table->slots, *cells = (uint32_t *)(uintptr_t)table->cells;
    ki_bucket *buckets = (ki_bucket *)(uintptr_t)table->buckets;
    uint32_t bucket = 0, cell = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t key = (uint32_t)(entries[i] >> 32);
        slots[i] = (uint32_t)entries[i];
        if (i > 0 && key == (uint32_t)(entries[i - 1] >> 32)) continue;
        if (i > 0) buckets[bucket++].end = (uint32_t)i;
        buckets[bucket].key = key;
        while (cell <= cell_of(key, table->bits)) cells[cell++] = bucket;
    }
    if (n > 0) buckets[bucket].end = (uint32_t)n;
    while (cell <= (uint32_t)1 << table->bits) cells[cell++] = table->n_buckets;
}

static kith_status alloc_table(const ki_hash_tables *tables, size_t n, ki_hash_table *table, kith_error *err)
{
    size_t cells = ((size_t)1 << table->bits) + 1;
    table->slots = ki_alloc(tables->allocator, n, sizeof *table->slots);
    table->buckets = ki_alloc(tables->allocator, table->n_buckets, sizeof *table->buckets);
    table->cells = ki_alloc(tables->allocator, cells, sizeof *table->cells);
    if (table->slots && table->buckets && table->cells) return KITH_OK;
    return ki_fail_nomem(err, n * sizeof *table->slots + table->n_buckets * sizeof *table->buckets +
                                  cells * sizeof *table->cells);
}

/* Build a run of n rows. *run is empty after a failure. */
static kith_status run_build(const ki_hash_tables *tables, const source *from, size_t n, const kith_run *how,
                             ki_hash_run *run, kith_error *err)
{
    size_t group = tables->n_tables < GROUP ? tables->n_tables : GROUP;
    *run = (ki_hash_run){.n = n, .own = 1};
    building b = {.from = from, .run = run};
    run->tables = ki_alloc_zero(tables->allocator, tables->n_tables, sizeof *run->tables);
    b.entries = ki_alloc(tables->allocator, group * n, sizeof *b.entries);
    kith_status status =
        run->tables && b.entries
            ? KITH_OK
            : ki_fail_nomem(err, group * n * sizeof *b.entries + tables->n_tables * sizeof *run->tables);
    for (; status == KITH_OK && b.first < tables->n_tables; b.first += group) {
        size_t left = tables->n_tables - b.first, count = left < group ? left : group;
        if ((status = ki_run_check(how, err)) != KITH_OK) break;
        ki_pool_run(ki_run_pool(how), count, collect_table, &b);
        for (size_t i = 0; status == KITH_OK && i < count; i++)
            status = alloc_table(tables, n, &run->tables[b.first + i], err);
        if (status == KITH_OK) ki_pool_run(ki_run_pool(how), count, fill_table, &b);
    }
    ki_free(tables->allocator, b.entries);
    if (status != KITH_OK) run_clear(tables, run);
    return status;
}

/* ---- Rows in ---- */

static size_t total(const ki_hash_tables *tables)
{
    size_t n = 0;
    for (size_t r = 0; r < tables->n_runs; r++) n += tables->runs[r].n;
    return n;
}

/* Whether stale entries have to go: a slot of theirs is used again, or they are too many. */
static int must_purge(const ki_hash_tables *tables, const uint32_t *slots, size_t m)
{
    if (tables->n_stale == 0) return 0;
    if (tables->n_stale > total(tables) / 4) return 1;
    source stale = {.stale = tables->stale, .stale_room = tables->stale_room};
    for (size_t i = 0; slots && i < m; i++)
        if (is_stale(&stale, slots[i])) return 1;
    return 0;
}

/* The new run and the last `replaces` ones made into one. */
static kith_status stage_merged(ki_hash_tables *tables, const kith_run *run, ki_hash_staged *staged,
                                kith_error *err)
{
    ki_hash_run merged, fresh = staged->run;
    ki_hash_run parts[KI_HASH_RUNS + 1];
    size_t first = tables->n_runs - staged->replaces, n = fresh.n;
    for (size_t r = 0; r < staged->replaces; r++) {
        parts[r] = tables->runs[first + r];
        n += parts[r].n;
    }
    /* Stale slots that are used again are those of the new run: the old ones are purged by themselves first. */
    source from = {.runs = parts, .n_runs = staged->replaces};
    if (staged->purged) {
        from.stale = tables->stale;
        from.stale_room = tables->stale_room;
        KI_TRY(run_build(tables, &from, n - fresh.n - tables->n_stale, run, &merged, err));
        ki_hash_run purged = merged;
        ki_hash_run both[] = {purged, fresh};
        from = (source){.runs = both, .n_runs = 2};
        kith_status status = run_build(tables, &from, purged.n + fresh.n, run, &merged, err);
        run_clear(tables, &purged);
        if (status != KITH_OK) return status;
    } else {
        parts[from.n_runs++] = fresh;
        KI_TRY(run_build(tables, &from, n, run, &merged, err));
    }
    run_clear(tables, &staged->run);
    staged->run = merged;
    return KITH_OK;
}

kith_status ki_hash_tables_stage(ki_hash_tables *tables, const uint32_t *keys, const uint32_t *slots,
                                 uint32_t first_slot, size_t m, const kith_run *run, ki_hash_staged *staged,
                                 kith_error *err)
{
    memset(staged, 0, sizeof *staged);
    source from = {.keys = keys, .slots = slots, .first_slot = first_slot};
    KI_TRY(run_build(tables, &from, m, run, &staged->run, err));
    size_t n = m;
    staged->purged = must_purge(tables, slots, m);
    while (staged->replaces < tables->n_runs) {
        const ki_hash_run *before = &tables->runs[tables->n_runs - 1 - staged->replaces];
        if (!staged->purged && before->n > RATIO * n) break;
        n += before->n;
        staged->replaces++;
    }
    if (staged->replaces == 0) return KITH_OK;
    kith_status status = stage_merged(tables, run, staged, err);
    if (status != KITH_OK) ki_hash_tables_drop(tables, staged);
    return status;
}

void ki_hash_tables_commit(ki_hash_tables *tables, ki_hash_staged *staged)
{
    for (; staged->replaces > 0; staged->replaces--) run_clear(tables, &tables->runs[--tables->n_runs]);
    tables->runs[tables->n_runs++] = staged->run;
    if (staged->purged) {
        memset(tables->stale, 0, ki_bits_words(tables->stale_room) * sizeof *tables->stale);
        tables->n_stale = 0;
    }
    memset(staged, 0, sizeof *staged);
}

void ki_hash_tables_drop(ki_hash_tables *tables, ki_hash_staged *staged)
{
    run_clear(tables, &staged->run);
    memset(staged, 0, sizeof *staged);
}

/* ---- Rows out ---- */

kith_status ki_hash_tables_reserve_stale(ki_hash_tables *tables, size_t n_slots, kith_error *err)
{
    if (n_slots <= tables->stale_room) return KITH_OK;
    size_t room = ki_grown(tables->stale_room, n_slots), words = ki_bits_words(room);
    uint64_t *stale = ki_alloc_zero(tables->allocator, words, sizeof *stale);
    if (!stale) return ki_fail_nomem(err, words * sizeof *stale);
    if (tables->stale) memcpy(stale, tables->stale, ki_bits_words(tables->stale_room) * sizeof *stale);
    ki_free(tables->allocator, tables->stale);
    tables->stale = stale;
    tables->stale_room = words * 64;
    return KITH_OK;
}

void ki_hash_tables_remove(ki_hash_tables *tables, const uint32_t *slots, size_t n)
{
    for (size_t i = 0; i < n; i++) ki_bits_set(tables->stale, slots[i]);
    tables->n_stale += n;
}

/* ---- Save and load ---- */

/* One section from the arrays of all tables, one after the other. */
static kith_status put_arrays(const ki_hash_run *run, size_t n_tables, const char *name, size_t element,
                              size_t (*part)(const ki_hash_run *, size_t, const void **),
                              ki_store_writer *writer, kith_error *err)
{
    const void *data;
    size_t n = 0;
    for (size_t t = 0; t < n_tables; t++) n += part(run, t, &data);
    KI_TRY(ki_store_begin(writer, name, element, (uint64_t)n * element, err));
    for (size_t t = 0; t < n_tables; t++) {
        n = part(run, t, &data);
        KI_TRY(ki_store_append(writer, data, n * element, err));
    }
    return ki_store_end(writer, err);
}

static size_t part_cells(const ki_hash_run *run, size_t t, const void **data)
{
    *data = run->tables[t].cells;
    return ((size_t)1 << run->tables[t].bits) + 1;
}
static size_t part_buckets(const ki_hash_run *run, size_t t, const void **data)
{
    *data = run->tables[t].buckets;
    return run->tables[t].n_buckets;
}
static size_t part_slots(const ki_hash_run *run, size_t t, const void **data)
{
    *data = run->tables[t].slots;
    return run->n;
}

static kith_status save_run(const ki_hash_tables *tables, const ki_hash_run *run, const char *prefix,
                            ki_store_writer *writer, kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    snprintf(name, sizeof name, "%s.sizes", prefix);
    KI_TRY(ki_store_begin(writer, name, sizeof(uint32_t), tables->n_tables * sizeof(uint32_t), err));
    for (size_t t = 0; t < tables->n_tables; t++)
        KI_TRY(ki_store_append(writer, &run->tables[t].n_buckets, sizeof(uint32_t), err));
    KI_TRY(ki_store_end(writer, err));
    snprintf(name, sizeof name, "%s.cells", prefix);
    KI_TRY(put_arrays(run, tables->n_tables, name, sizeof(uint32_t), part_cells, writer, err));
    snprintf(name, sizeof name, "%s.buckets", prefix);
    KI_TRY(put_arrays(run, tables->n_tables, name, sizeof(ki_bucket), part_buckets, writer, err));
    snprintf(name, sizeof name, "%s.slots", prefix);
    return put_arrays(run, tables->n_tables, name, sizeof(uint32_t), part_slots, writer, err);
}

kith_status ki_hash_tables_save(const ki_hash_tables *tables, const char *prefix, ki_store_writer *writer,
                                kith_error *err)
{
    if (tables->n_runs == 1 && tables->n_stale == 0)
        return save_run(tables, &tables->runs[0], prefix, writer, err);
    ki_hash_run whole;
    source from = {.runs = tables->runs,
                   .n_runs = tables->n_runs,
                   .stale = tables->stale,
                   .stale_room = tables->stale_room};
    KI_TRY(run_build(tables, &from, total(tables) - tables->n_stale, NULL, &whole, err));
    kith_status status = save_run(tables, &whole, prefix, writer, err);
    run_clear(tables, &whole);
    return status;
}

/* The n elements of a section that begins at *data: where they lie in the store, or a copy. */
static kith_status keep(const ki_hash_tables *tables, const void *data, size_t n, size_t element, int mapped,
                        const void **kept, kith_error *err)
{
    *kept = data;
    if (mapped) return KITH_OK;
    void *copy = ki_alloc(tables->allocator, n, element);
    *kept = copy;
    if (!copy) return ki_fail_nomem(err, n * element);
    memcpy(copy, data, n * element);
    return KITH_OK;
}

/* Cut the sections into tables. The sizes are not trusted: what they add up to must be what the sections hold, which
 * ki_store_array sees to. */
static kith_status load_run(const ki_hash_tables *tables, ki_hash_run *run, const char *prefix, int mapped,
                            ki_store *store, kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    const void *data;
    uint64_t n_cells = 0, n_buckets = 0;
    snprintf(name, sizeof name, "%s.sizes", prefix);
    KI_TRY(ki_store_array(store, name, tables->n_tables, sizeof(uint32_t), &data, err));
    for (size_t t = 0; t < tables->n_tables; t++) {
        ki_hash_table *table = &run->tables[t];
        table->n_buckets = ((const uint32_t *)data)[t];
        if (table->n_buckets > run->n)
            return ki_fail(err, KITH_CORRUPT, "%s: table %zu has %u buckets of %zu rows",
                           ki_store_path(store), t, table->n_buckets, run->n);
        table->bits = cell_bits(table->n_buckets);
        n_buckets += table->n_buckets;
        n_cells += ((uint64_t)1 << table->bits) + 1;
    }
    const void *cells, *buckets, *slots;
    snprintf(name, sizeof name, "%s.cells", prefix);
    KI_TRY(ki_store_array(store, name, n_cells, sizeof(uint32_t), &cells, err));
    snprintf(name, sizeof name, "%s.buckets", prefix);
    KI_TRY(ki_store_array(store, name, n_buckets, sizeof(ki_bucket), &buckets, err));
    snprintf(name, sizeof name, "%s.slots", prefix);
    KI_TRY(ki_store_array(store, name, (uint64_t)run->n * tables->n_tables, sizeof(uint32_t), &slots, err));
    for (size_t t = 0; t < tables->n_tables; t++) {
        ki_hash_table *table = &run->tables[t];
        size_t c = ((size_t)1 << table->bits) + 1;
        KI_TRY(keep(tables, cells, c, sizeof(uint32_t), mapped, &data, err));
        table->cells = data;
        KI_TRY(keep(tables, buckets, table->n_buckets, sizeof(ki_bucket), mapped, &data, err));
        table->buckets = data;
        KI_TRY(keep(tables, slots, run->n, sizeof(uint32_t), mapped, &data, err));
        table->slots = data;
        cells = (const uint32_t *)cells + c;
        buckets = (const ki_bucket *)buckets + table->n_buckets;
        slots = (const uint32_t *)slots + run->n;
    }
    return KITH_OK;
}

kith_status ki_hash_tables_load(ki_hash_tables *tables, const char *prefix, int mapped, const ki_rows *rows,
                                ki_store *store, kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    uint64_t count; /* before anything is allocated by the number of tables: whether the file holds so much */
    snprintf(name, sizeof name, "%s.sizes", prefix);
    KI_TRY(ki_store_count(store, name, sizeof(uint32_t), &count, err));
    if (count != tables->n_tables)
        return ki_fail(err, KITH_CORRUPT, "%s: %llu hash tables, not %zu", ki_store_path(store),
                       (unsigned long long)count, tables->n_tables);
    ki_hash_run *run = &tables->runs[0];
    *run = (ki_hash_run){.n = rows->n, .own = !mapped};
    run->tables = ki_alloc_zero(tables->allocator, tables->n_tables, sizeof *run->tables);
    if (!run->tables) return ki_fail_nomem(err, tables->n_tables * sizeof *run->tables);
    tables->n_runs = 1;
    KI_TRY(load_run(tables, run, prefix, mapped, store, err));
    return mapped ? KITH_OK : ki_hash_tables_check(tables, rows, err);
}

/* ---- Check ---- */

static kith_status check_table(const ki_hash_run *run, size_t t, kith_error *err)
{
    const ki_hash_table *table = &run->tables[t];
    uint32_t cell = 0, cells = (uint32_t)1 << table->bits;
    for (uint32_t i = 0; i < table->n_buckets; i++) {
        uint32_t start = i ? table->buckets[i - 1].end : 0;
        if (table->buckets[i].end <= start || table->buckets[i].end > run->n ||
            (i && table->buckets[i].key <= table->buckets[i - 1].key))
            return ki_fail(err, KITH_CORRUPT, "bucket %u of table %zu is out of order", i, t);
        for (; cell <= cell_of(table->buckets[i].key, table->bits); cell++)
            if (table->cells[cell] != i)
                return ki_fail(err, KITH_CORRUPT, "cell %u of table %zu is %u, not %u", cell, t,
                               table->cells[cell], i);
    }
    for (; cell <= cells; cell++)
        if (table->cells[cell] != table->n_buckets)
            return ki_fail(err, KITH_CORRUPT, "cell %u of table %zu is %u, not %u", cell, t,
                           table->cells[cell], table->n_buckets);
    if ((table->n_buckets ? table->buckets[table->n_buckets - 1].end : 0) != run->n)
        return ki_fail(err, KITH_CORRUPT, "the buckets of table %zu do not hold %zu rows", t, run->n);
    return KITH_OK;
}

/* Mark the slots of one table of one run. */
static kith_status check_slots(const ki_hash_tables *tables, const ki_hash_run *run, size_t t,
                               const ki_rows *rows, uint64_t *seen, kith_error *err)
{
    source stale = {.stale = tables->n_stale ? tables->stale : NULL, .stale_room = tables->stale_room};
    for (size_t i = 0; i < run->n; i++) {
        uint32_t slot = run->tables[t].slots[i];
        if (is_stale(&stale, slot)) continue;
        if (slot >= rows->n_slots || !ki_rows_used(rows, slot))
            return ki_fail(err, KITH_CORRUPT, "table %zu holds slot %u, which is not in use", t, slot);
        if (ki_bits_get(seen, slot))
            return ki_fail(err, KITH_CORRUPT, "table %zu holds slot %u twice", t, slot);
        ki_bits_set(seen, slot);
    }
    return KITH_OK;
}

kith_status ki_hash_tables_check(const ki_hash_tables *tables, const ki_rows *rows, kith_error *err)
{
    if (total(tables) - tables->n_stale != rows->n)
        return ki_fail(err, KITH_CORRUPT, "the hash tables hold %zu rows, not %zu",
                       total(tables) - tables->n_stale, rows->n);
    size_t words = ki_bits_words(rows->n_slots);
    uint64_t *seen = ki_alloc(tables->allocator, words, sizeof *seen);
    if (!seen) return ki_fail_nomem(err, words * sizeof *seen);
    kith_status status = KITH_OK;
    for (size_t t = 0; status == KITH_OK && t < tables->n_tables; t++) {
        memset(seen, 0, words * sizeof *seen);
        for (size_t r = 0; status == KITH_OK && r < tables->n_runs; r++) {
            status = check_table(&tables->runs[r], t, err);
            if (status == KITH_OK) status = check_slots(tables, &tables->runs[r], t, rows, seen, err);
        }
    }
    ki_free(tables->allocator, seen);
    return status;
}

uint64_t ki_hash_tables_bytes(const ki_hash_tables *tables)
{
    uint64_t bytes = 0;
    for (size_t r = 0; r < tables->n_runs; r++)
        for (size_t t = 0; t < tables->n_tables; t++) {
            const ki_hash_table *table = &tables->runs[r].tables[t];
            bytes += tables->runs[r].n * sizeof *table->slots + table->n_buckets * sizeof *table->buckets +
                     (((uint64_t)1 << table->bits) + 1) * sizeof *table->cells;
        }
    return bytes;
}
