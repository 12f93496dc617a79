/* milvus_catalog.c - databases, aliases, users, roles and jobs: rows of a collection without vectors, .milvus.kith.
 *
 * A record is known by the text KIND/DATABASE/NAME; its payload is {"kind", "db", "name", "value"}. The file is made
 * with the first record: a folder that is only read stays as it is. */
#include <stdlib.h>
#include <string.h>

#include "../common/fail.h"
#include "milvus_state.h"

#define CATALOG ".milvus.kith"

kith_status milvus_open(const char *folder, milvus **out, kith_error *err)
{
    size_t size = strlen(folder) + sizeof CATALOG + 1;
    milvus *m = *out = calloc(1, sizeof *m);
    if (!m) return common_fail_nomem(err);
    pthread_mutex_init(&m->lock, NULL);
    m->path = malloc(size);
    if (!m->path) return common_fail_nomem(err);
    snprintf(m->path, size, "%s/%s", folder, CATALOG);
    return KITH_OK;
}

void milvus_close(milvus *m)
{
    if (!m) return;
    kith_collection_close(m->catalog);
    pthread_mutex_destroy(&m->lock);
    free(m->path);
    free(m);
}

/* ---- Under the lock ---- */

/* The catalogue, opened, or made when `make` says so. KITH_NOTFOUND: there is none. */
static kith_status opened(mv_call *c, int make)
{
    milvus *m = c->milvus;
    if (m->catalog) return KITH_OK;
    kith_collection_options options;
    kith_collection_options_init(&options);
    kith_status status = kith_collection_open(m->path, &options, &m->catalog, &c->err);
    options.read_only = 1;
    if (status == KITH_READONLY && !make)
        return kith_collection_open(m->path, &options, &m->catalog, &c->err);
    if (status != KITH_NOTFOUND || !make) return status;
    status = kith_collection_create(m->path, 0, KITH_L2SQ, NULL, &m->catalog, &c->err);
    if (status == KITH_EXISTS) status = kith_collection_open(m->path, NULL, &m->catalog, &c->err);
    return status;
}

static void key_text(char *words, size_t size, const char *kind, const char *db, const char *name)
{
    snprintf(words, size, "%s/%s/%s", kind, db, name);
}

static kith_status get(mv_call *c, const char *words, json_t **value)
{
    int64_t key;
    kith_row row;
    kith_status status = opened(c, 0);
    if (status == KITH_OK) status = kith_collection_key_of(c->milvus->catalog, words, &key, &c->err);
    if (status == KITH_OK)
        status = kith_collection_get(c->milvus->catalog, key, KITH_ROW_PAYLOAD, &row, &c->err);
    if (status != KITH_OK) return status;
    json_t *payload = json_loadb(row.payload, row.payload_size, 0, NULL);
    *value = json_incref(json_object_get(payload, "value"));
    json_decref(payload);
    return *value ? KITH_OK : KITH_NOTFOUND;
}

static kith_status list(mv_call *c, const char *filter, json_t *all)
{
    kith_row row = {0};
    kith_status status = opened(c, 0);
    if (status == KITH_NOTFOUND) return KITH_OK;
    while (status == KITH_OK) {
        status =
            kith_collection_next_where(c->milvus->catalog, filter, row.key, KITH_ROW_PAYLOAD, &row, &c->err);
        if (status != KITH_OK || row.key == 0) break;
        json_array_append_new(all, json_loadb(row.payload, row.payload_size, 0, NULL));
    }
    return status;
}

static kith_status put(mv_call *c, const char *words, const char *payload, int is_new)
{
    int64_t key;
    kith_status status = opened(c, 1);
    kith_collection *catalog = c->milvus->catalog;
    if (status == KITH_OK) status = kith_collection_begin(catalog, &c->err);
    if (status != KITH_OK) return status;
    kith_row row = {.payload = payload};
    if (is_new && kith_collection_key_of(catalog, words, &key, &c->err) == KITH_OK) status = KITH_EXISTS;
    if (status == KITH_OK)
        status = kith_collection_put_text(catalog, words, KITH_ROW_PAYLOAD, &row, NULL, &c->err);
    if (status == KITH_OK) status = kith_collection_commit(catalog, &c->err);
    kith_collection_rollback(catalog);
    return status;
}

static kith_status drop(mv_call *c, const char *words)
{
    int64_t key;
    kith_status status = opened(c, 0);
    kith_collection *catalog = c->milvus->catalog;
    if (status == KITH_OK) status = kith_collection_begin(catalog, &c->err);
    if (status != KITH_OK) return status;
    status = kith_collection_key_of(catalog, words, &key, &c->err);
    if (status == KITH_OK) status = kith_collection_delete(catalog, key, &c->err);
    if (status == KITH_OK) status = kith_collection_commit(catalog, &c->err);
    kith_collection_rollback(catalog);
    return status;
}

/* ---- Records ---- */

json_t *mv_record_get(mv_call *c, const char *kind, const char *db, const char *name)
{
    char words[KITH_COLLECTION_MAX_TEXT_KEY];
    json_t *value = NULL;
    key_text(words, sizeof words, kind, db, name);
    pthread_mutex_lock(&c->milvus->lock);
    kith_status status = get(c, words, &value);
    pthread_mutex_unlock(&c->milvus->lock);
    if (status != KITH_OK && status != KITH_NOTFOUND) mv_fail_engine(c);
    return value;
}

json_t *mv_record_list(mv_call *c, const char *kind, const char *db)
{
    char filter[2 * MV_MAX_NAME + 100];
    snprintf(filter, sizeof filter, "kind == \"%s\" and db == \"%s\"", kind, db);
    json_t *all = json_array();
    pthread_mutex_lock(&c->milvus->lock);
    kith_status status = list(c, filter, all);
    pthread_mutex_unlock(&c->milvus->lock);
    if (status == KITH_OK) return all;
    json_decref(all);
    return mv_fail_engine(c);
}

int mv_record_put(mv_call *c, const char *kind, const char *db, const char *name, json_t *value, int is_new)
{
    char words[KITH_COLLECTION_MAX_TEXT_KEY];
    key_text(words, sizeof words, kind, db, name);
    json_t *record = json_pack("{ss ss ss so}", "kind", kind, "db", db, "name", name, "value", value);
    char *payload = record ? json_dumps(record, JSON_COMPACT) : NULL;
    json_decref(record);
    if (!payload) {
        mv_fail(c, MV_OVERLOADED, "out of memory");
        return 0;
    }
    pthread_mutex_lock(&c->milvus->lock);
    kith_status status = put(c, words, payload, is_new);
    pthread_mutex_unlock(&c->milvus->lock);
    free(payload);
    if (status == KITH_EXISTS && is_new) return -1;
    if (status != KITH_OK) mv_fail_engine(c);
    return status == KITH_OK;
}

int mv_record_drop(mv_call *c, const char *kind, const char *db, const char *name)
{
    char words[KITH_COLLECTION_MAX_TEXT_KEY];
    key_text(words, sizeof words, kind, db, name);
    pthread_mutex_lock(&c->milvus->lock);
    kith_status status = drop(c, words);
    pthread_mutex_unlock(&c->milvus->lock);
    if (status == KITH_NOTFOUND) return -1;
    if (status != KITH_OK) mv_fail_engine(c);
    return status == KITH_OK;
}

int mv_has_database(mv_call *c, const char *db)
{
    if (strcmp(db, "default") == 0) return 1;
    json_t *record = mv_record_get(c, "database", "", db);
    json_decref(record);
    return record != NULL;
}
