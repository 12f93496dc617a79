#include "row_request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/fusion.h>

#include "fail.h"

kith_status row_mode_parse(const char *word, row_mode *mode, kith_error *err)
{
    static const char *const words[] = {"upsert", "insert", "update"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(word, words[i]) != 0) continue;
        *mode = (row_mode)i;
        return KITH_OK;
    }
    return common_fail(err, KITH_INVALID, "mode is upsert, insert or update");
}

void row_scratch_clear(row_scratch *scratch)
{
    free(scratch->x);
    *scratch = (row_scratch){0};
}

/* An array of numbers as floats; null is no vector, *x NULL. */
static kith_status read_vector(const json_t *list, const char *name, row_scratch *scratch, const float **x,
                               size_t *dim, kith_error *err)
{
    *x = NULL;
    *dim = 0;
    if (json_is_null(list)) return KITH_OK;
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n == 0 || n > KITH_COLLECTION_MAX_DIM)
        return common_fail(err, KITH_INVALID, "%.100s must be null or an array of 1 to %d numbers", name,
                           KITH_COLLECTION_MAX_DIM);
    if (n > scratch->room) {
        float *grown = realloc(scratch->x, n * sizeof *grown);
        if (!grown) return common_fail_nomem(err);
        scratch->x = grown;
        scratch->room = n;
    }
    for (size_t d = 0; d < n; d++) {
        const json_t *item = json_array_get(list, d);
        scratch->x[d] = (float)json_number_value(item);
        if (!json_is_number(item) || !isfinite(scratch->x[d]))
            return common_fail(err, KITH_INVALID, "%.100s: component %zu is no number that a float can hold",
                               name, d);
    }
    *x = scratch->x;
    *dim = n;
    return KITH_OK;
}

static kith_status check_members(json_t *row, kith_error *err)
{
    static const char *const known[] = {"key",     "text",      "payload", "vector",
                                        "vectors", "partition", "expires"};
    const char *name;
    json_t *value;
    if (!json_is_object(row)) return common_fail(err, KITH_INVALID, "a row must be a JSON object");
    json_object_foreach(row, name, value)
    {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], name) != 0) i++;
        if (i == sizeof known / sizeof *known)
            return common_fail(err, KITH_INVALID, "a row has no member %.100s", name);
    }
    return KITH_OK;
}

static int is_text(const json_t *value)
{
    return json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value);
}

/* Which row is meant: a key, 0 for none that is there; a text in *text. */
static kith_status find(kith_collection *c, json_t *row, int64_t *key, const char **known_as, kith_error *err)
{
    json_t *number = json_object_get(row, "key"), *word = json_object_get(row, "text");
    *key = 0;
    *known_as = NULL;
    if (number && word) return common_fail(err, KITH_INVALID, "a row has a key or a text, not both");
    if (number && (!json_is_integer(number) || json_integer_value(number) < 1))
        return common_fail(err, KITH_INVALID, "key must be a whole number from 1");
    if (word && !is_text(word)) return common_fail(err, KITH_INVALID, "text must be a text");
    if (number) *key = json_integer_value(number);
    if (!word) return KITH_OK;
    *known_as = json_string_value(word);
    kith_status status = kith_collection_key_of(c, *known_as, key, err);
    return status == KITH_NOTFOUND ? KITH_OK : status;
}

static kith_status is_there(kith_collection *c, int64_t key, int *there, kith_error *err)
{
    kith_row row;
    kith_status status = key ? kith_collection_get(c, key, 0, &row, err) : KITH_NOTFOUND;
    *there = status == KITH_OK;
    return status == KITH_NOTFOUND ? KITH_OK : status;
}

/* Payload and vector. */
static kith_status put_parts(kith_collection *c, json_t *json, row_mode mode, row_scratch *scratch,
                             const char *known_as, int64_t *key, kith_error *err)
{
    json_t *payload = json_object_get(json, "payload"), *vector = json_object_get(json, "vector");
    kith_row row = {.key = *key};
    unsigned parts = mode == ROW_UPDATE ? 0 : KITH_ROW_PAYLOAD | KITH_ROW_VECTOR;
    if (mode == ROW_INSERT) parts |= KITH_ROW_NEW;
    if (payload && !json_is_object(payload))
        return common_fail(err, KITH_INVALID, "payload must be a JSON object");
    kith_status status = KITH_OK;
    if (vector) {
        status = read_vector(vector, "vector", scratch, &row.vector, &row.dim, err);
        parts |= KITH_ROW_VECTOR;
    }
    if (status != KITH_OK) return status;
    char *words = payload ? json_dumps(payload, JSON_COMPACT) : NULL;
    if (payload && !words) return common_fail_nomem(err);
    if (words && mode == ROW_UPDATE)
        status = kith_collection_merge(c, *key, words, 0, err);
    else
        row.payload = words;
    if (status == KITH_OK && parts && known_as) {
        row.key = 0;
        status = kith_collection_put_text(c, known_as, parts, &row, key, err);
    } else if (status == KITH_OK && parts) {
        status = kith_collection_put(c, parts, &row, key, err);
    }
    free(words);
    return status;
}

static kith_status put_fields(kith_collection *c, json_t *vectors, row_scratch *scratch, int64_t key,
                              kith_error *err)
{
    const char *field;
    json_t *value;
    if (!json_is_object(vectors))
        return common_fail(err, KITH_INVALID, "vectors must be an object of vectors by field");
    json_object_foreach(vectors, field, value)
    {
        const float *x;
        size_t dim;
        kith_status status = read_vector(value, field, scratch, &x, &dim, err);
        if (status == KITH_OK) status = kith_collection_put_vector(c, key, field, x, dim, err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

/* The vectors that an upsert does not name are gone. */
static kith_status drop_other_fields(kith_collection *c, json_t *vectors, int64_t key, kith_error *err)
{
    kith_vector_field fields[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n = KITH_COLLECTION_MAX_VECTOR_FIELDS;
    kith_status status = kith_collection_vector_fields(c, fields, &n, err);
    for (size_t i = 0; status == KITH_OK && i < n; i++)
        if (!json_object_get(vectors, fields[i].name))
            status = kith_collection_put_vector(c, key, fields[i].name, NULL, 0, err);
    return status;
}

static kith_status put_rest(kith_collection *c, json_t *row, int there, row_mode mode, row_scratch *scratch,
                            int64_t key, kith_error *err)
{
    json_t *vectors = json_object_get(row, "vectors"), *partition = json_object_get(row, "partition");
    json_t *expires = json_object_get(row, "expires");
    int anew = there && mode == ROW_UPSERT; /* what is not said is taken away */
    kith_status status = anew ? drop_other_fields(c, vectors, key, err) : KITH_OK;
    if (status == KITH_OK && vectors) status = put_fields(c, vectors, scratch, key, err);
    if (partition && !json_is_null(partition) && !is_text(partition))
        return common_fail(err, KITH_INVALID, "partition must be null or a name");
    if (status == KITH_OK && (partition || anew))
        status = kith_collection_set_partition(c, key, json_string_value(partition), err);
    if (expires && !json_is_null(expires) && !(json_is_integer(expires) && json_integer_value(expires) > 0))
        return common_fail(err, KITH_INVALID, "expires must be null or seconds since 1970, a whole number");
    if (status == KITH_OK && (expires || anew))
        status = kith_collection_set_expiry(c, key, json_integer_value(expires), err);
    return status;
}

kith_status row_request_put(kith_collection *c, json_t *row, row_mode mode, row_scratch *scratch,
                            int64_t *key, kith_error *err)
{
    const char *known_as;
    int there = 0;
    kith_status status = check_members(row, err);
    if (status == KITH_OK) status = find(c, row, key, &known_as, err);
    if (status == KITH_OK) status = is_there(c, *key, &there, err);
    if (status != KITH_OK) return status;
    if (!there && mode == ROW_UPDATE) return common_fail(err, KITH_NOTFOUND, "there is no such row");
    status = put_parts(c, row, mode, scratch, known_as, key, err);
    return status == KITH_OK ? put_rest(c, row, there, mode, scratch, *key, err) : status;
}

kith_status row_key_of(kith_collection *c, const json_t *json, int64_t *key, kith_error *err)
{
    if (is_text(json)) return kith_collection_key_of(c, json_string_value(json), key, err);
    *key = json_integer_value(json);
    if (json_is_integer(json) && *key >= 1) return KITH_OK;
    return common_fail(err, KITH_INVALID, "a key is a whole number from 1, or a text");
}

/* Vectors of fields, partition and expiry, where there are any. */
static kith_status write_rest(kith_collection *c, int64_t key, text *out, kith_error *err)
{
    kith_vector_field fields[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n = KITH_COLLECTION_MAX_VECTOR_FIELDS, shown = 0;
    const char *partition;
    int64_t expires;
    kith_status status = kith_collection_vector_fields(c, fields, &n, err);
    for (size_t i = 0; status == KITH_OK && i < n; i++) {
        const float *x;
        size_t dim;
        status = kith_collection_get_vector(c, key, fields[i].name, &x, &dim, err);
        if (status != KITH_OK || !x) continue;
        text_put(out, shown++ ? "," : ",\"vectors\":{");
        text_string(out, fields[i].name);
        text_put(out, ":");
        text_floats(out, x, dim);
    }
    if (shown) text_put(out, "}");
    if (status == KITH_OK) status = kith_collection_get_partition(c, key, &partition, err);
    if (status == KITH_OK && partition) {
        text_put(out, ",\"partition\":");
        text_string(out, partition);
    }
    if (status == KITH_OK) status = kith_collection_get_expiry(c, key, &expires, err);
    if (status == KITH_OK && expires) {
        text_put(out, ",\"expires\":");
        text_int(out, expires);
    }
    return status;
}

kith_status row_write(kith_collection *c, const kith_row *row, row_shown shown, text *out, kith_error *err)
{
    const char *known_as;
    text_put(out, "{\"key\":");
    text_int(out, row->key);
    kith_status status = kith_collection_text_of(c, row->key, &known_as, err);
    if (status == KITH_OK && known_as) {
        text_put(out, ",\"text\":");
        text_string(out, known_as);
    }
    if (shown.payload) {
        text_put(out, ",\"payload\":");
        text_add(out, row->payload, row->payload_size);
    }
    if (shown.vector && row->vector) {
        text_put(out, ",\"vector\":");
        text_floats(out, row->vector, row->dim);
    }
    if (status == KITH_OK && shown.rest) status = write_rest(c, row->key, out, err);
    text_put(out, "}");
    return status;
}
