/* Parameter records: named numbers and texts in a section. */
#include "store/index_file.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "store/index_internal.h"

int ki_store_name_valid(const char name[KI_STORE_NAME_BYTES])
{
    size_t used = 0;
    while (used < KI_STORE_NAME_BYTES && name[used]) {
        char c = name[used++];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-')) return 0;
    }
    if (used == 0 || used == KI_STORE_NAME_BYTES) return 0;
    for (size_t i = used; i < KI_STORE_NAME_BYTES; i++)
        if (name[i]) return 0;
    return 1;
}

int ki_store_name_set(char name[KI_STORE_NAME_BYTES], const char *text)
{
    size_t length = strlen(text);
    if (length >= KI_STORE_NAME_BYTES) return 0;
    memset(name, 0, KI_STORE_NAME_BYTES);
    memcpy(name, text, length);
    return ki_store_name_valid(name);
}

static size_t padded(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

/* ---- filling ---- */

void ki_record_init(ki_record *record, const kith_allocator *allocator)
{
    *record = (ki_record){.allocator = allocator};
}

void ki_record_clear(ki_record *record)
{
    ki_free(record->allocator, record->data);
    ki_record_init(record, record->allocator);
}

static const ki_disk_entry *find(const unsigned char *data, size_t bytes, const char *name);

static void put(ki_record *record, const char *name, ki_record_kind kind, const void *value, size_t bytes)
{
    ki_disk_entry head = {.kind = (uint32_t)kind, .bytes = (uint32_t)bytes};
    if (record->bad) return;
    if (!ki_store_name_set(head.name, name) || bytes > KI_RECORD_MAX_BYTES ||
        find(record->data, record->bytes, name)) {
        record->bad = KITH_INVALID;
        return;
    }
    size_t need = record->bytes + sizeof head + padded(bytes);
    if (need > KI_RECORD_MAX_BYTES) {
        record->bad = KITH_INVALID;
        return;
    }
    if (need > record->capacity) {
        size_t grown = padded(ki_grown(record->capacity, need));
        unsigned char *data = ki_realloc(record->allocator, record->data, record->bytes, grown, 1);
        if (!data) {
            record->bad = KITH_NOMEM;
            return;
        }
        record->data = data;
        record->capacity = grown;
    }
    unsigned char *at = record->data + record->bytes;
    memset(at, 0, need - record->bytes);
    memcpy(at, &head, sizeof head);
    memcpy(at + sizeof head, value, bytes);
    record->bytes = need;
}

void ki_record_put_u64(ki_record *record, const char *name, uint64_t value)
{
    put(record, name, KI_RECORD_U64, &value, sizeof value);
}

void ki_record_put_f64(ki_record *record, const char *name, double value)
{
    put(record, name, KI_RECORD_F64, &value, sizeof value);
}

void ki_record_put_text(ki_record *record, const char *name, const char *text)
{
    put(record, name, KI_RECORD_TEXT, text, strlen(text));
}

/* ---- reading ---- */

/* The entry of a name in a well-formed record; NULL when there is none. */
static const ki_disk_entry *find(const unsigned char *data, size_t bytes, const char *name)
{
    for (size_t at = 0; at < bytes;) {
        const ki_disk_entry *entry = (const ki_disk_entry *)(data + at);
        if (strncmp(entry->name, name, sizeof entry->name) == 0) return entry;
        at += sizeof *entry + padded(entry->bytes);
    }
    return NULL;
}

/* What is wrong with the entry at `at`; NULL for a sound one. */
static const char *entry_fault(const unsigned char *data, size_t bytes, size_t at)
{
    const ki_disk_entry *entry = (const ki_disk_entry *)(data + at);
    size_t left = bytes - at;
    if (left < sizeof *entry) return "ends inside a parameter";
    if (!ki_store_name_valid(entry->name)) return "has a malformed parameter name";
    if (entry->kind < KI_RECORD_U64 || entry->kind > KI_RECORD_TEXT) return "has a parameter of unknown kind";
    if (entry->kind != KI_RECORD_TEXT && entry->bytes != 8) return "has a number that is not 8 bytes";
    if (padded(entry->bytes) > left - sizeof *entry) return "ends inside a parameter's value";
    const unsigned char *value = data + at + sizeof *entry;
    for (size_t i = entry->bytes; i < padded(entry->bytes); i++)
        if (value[i]) return "has padding that is not zero";
    if (find(data, at, entry->name)) return "has a parameter twice";
    return NULL;
}

kith_status ki_record_check(const ki_record_view *record, kith_error *err)
{
    for (size_t at = 0; at < record->bytes;) {
        const char *fault = entry_fault(record->data, record->bytes, at);
        if (fault)
            return ki_fail(err, KITH_CORRUPT, "%s: section '%s' %s at byte %zu", record->file,
                           record->section, fault, at);
        const ki_disk_entry *entry = (const ki_disk_entry *)(record->data + at);
        at += sizeof *entry + padded(entry->bytes);
    }
    return KITH_OK;
}

static kith_status get(const ki_record_view *record, const char *name, ki_record_kind kind,
                       const ki_disk_entry **entry, kith_error *err)
{
    *entry = find(record->data, record->bytes, name);
    if (!*entry)
        return ki_fail(err, KITH_CORRUPT, "%s: section '%s' has no parameter '%s'", record->file,
                       record->section, name);
    if ((*entry)->kind != (uint32_t)kind)
        return ki_fail(err, KITH_CORRUPT, "%s: section '%s': parameter '%s' is of kind %u, expected %d",
                       record->file, record->section, name, (unsigned)(*entry)->kind, (int)kind);
    return KITH_OK;
}

kith_status ki_record_get_u64(const ki_record_view *record, const char *name, uint64_t low, uint64_t high,
                              uint64_t *value, kith_error *err)
{
    const ki_disk_entry *entry;
    KI_TRY(get(record, name, KI_RECORD_U64, &entry, err));
    uint64_t found;
    memcpy(&found, entry + 1, sizeof found);
    if (found < low || found > high)
        return ki_fail(err, KITH_CORRUPT, "%s: section '%s': %s is %llu, allowed %llu..%llu", record->file,
                       record->section, name, (unsigned long long)found, (unsigned long long)low,
                       (unsigned long long)high);
    *value = found;
    return KITH_OK;
}

kith_status ki_record_get_f64(const ki_record_view *record, const char *name, double low, double high,
                              double *value, kith_error *err)
{
    const ki_disk_entry *entry;
    KI_TRY(get(record, name, KI_RECORD_F64, &entry, err));
    double found;
    memcpy(&found, entry + 1, sizeof found);
    if (!(found >= low && found <= high))
        return ki_fail(err, KITH_CORRUPT, "%s: section '%s': %s is %g, allowed %g..%g", record->file,
                       record->section, name, found, low, high);
    *value = found;
    return KITH_OK;
}

kith_status ki_record_get_text(const ki_record_view *record, const char *name, char *text, size_t size,
                               kith_error *err)
{
    const ki_disk_entry *entry;
    KI_TRY(get(record, name, KI_RECORD_TEXT, &entry, err));
    if (entry->bytes >= size || memchr(entry + 1, 0, entry->bytes))
        return ki_fail(err, KITH_CORRUPT, "%s: section '%s': %s is no text of at most %zu bytes",
                       record->file, record->section, name, size - 1);
    memcpy(text, entry + 1, entry->bytes);
    text[entry->bytes] = 0;
    return KITH_OK;
}

int ki_record_has(const ki_record_view *record, const char *name)
{
    return find(record->data, record->bytes, name) != NULL;
}
