/* milvus_rows.c - rows as clients write them and as they read them.
 *
 * A row's payload has every field but the vectors, the primary key included, so that filters see it. It is known by
 * its id as a text ("5", "-1", "a7"): Int64 ids may be 0 or less, which the engine's keys cannot. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kith/fusion.h>

#include "milvus_call.h"

/* ---- Checking values ---- */

static int bad_value(mv_call *c, const mv_field *field, const char *why)
{
    mv_fail(c, MV_BAD_ROW, "fail to deal the insert data, error: field %.100s (%s): %s", field->name,
            mv_type_name(field->type), why);
    return 0;
}

static int fits_integer(mv_type type, int64_t value)
{
    switch (type) {
    case MV_INT8: return value >= INT8_MIN && value <= INT8_MAX;
    case MV_INT16: return value >= INT16_MIN && value <= INT16_MAX;
    case MV_INT32: return value >= INT32_MIN && value <= INT32_MAX;
    default: return 1;
    }
}

static json_t *check_value(mv_call *c, const mv_field *field, mv_type type, json_t *value);

static json_t *check_array(mv_call *c, const mv_field *field, json_t *value)
{
    if (!json_is_array(value) || json_array_size(value) > field->max_capacity) {
        bad_value(c, field, "it must be an array of at most max_capacity elements");
        return NULL;
    }
    json_t *taken = json_array();
    for (size_t i = 0; i < json_array_size(value); i++) {
        json_t *element = check_value(c, field, field->element, json_array_get(value, i));
        if (!element) {
            json_decref(taken);
            return NULL;
        }
        json_array_append_new(taken, element);
    }
    return taken;
}

/* The value as it is kept, a new reference. NULL: failed. */
static json_t *check_value(mv_call *c, const mv_field *field, mv_type type, json_t *value)
{
    int64_t number;
    switch (type) {
    case MV_BOOL:
        if (json_is_boolean(value)) return json_incref(value);
        break;
    case MV_FLOAT:
        if (json_is_number(value) && isfinite((float)json_number_value(value))) return json_incref(value);
        break;
    case MV_DOUBLE:
        if (json_is_number(value)) return json_incref(value);
        break;
    case MV_VARCHAR:
        if (json_is_string(value) && json_string_length(value) <= field->max_length)
            return json_incref(value);
        break;
    case MV_JSON: return json_incref(value);
    case MV_ARRAY: return check_array(c, field, value);
    default:
        if (mv_int64(value, &number) && fits_integer(type, number)) return json_integer(number);
    }
    bad_value(c, field,
              type == MV_VARCHAR ? "it must be a text of at most max_length bytes"
                                 : "the value is of another type, or out of range");
    return NULL;
}

int mv_vector(mv_call *c, const json_t *list, const mv_field *field, float *x)
{
    if (!json_is_array(list) || json_array_size(list) != field->dim) {
        mv_fail(c, MV_BAD_ROW, "field %.100s has vectors of %zu numbers", field->name, field->dim);
        return 0;
    }
    for (size_t d = 0; d < field->dim; d++) {
        const json_t *number = json_array_get(list, d);
        x[d] = (float)json_number_value(number);
        if (!json_is_number(number) || !isfinite(x[d])) {
            mv_fail(c, MV_BAD_ROW, "field %.100s: a vector has finite numbers only", field->name);
            return 0;
        }
    }
    return 1;
}

/* ---- Writing ---- */

/* The id of a row that comes in; an autoID collection draws new ones. NULL: failed. */
static json_t *take_id(mv_call *c, const json_t *row, int is_new)
{
    const mv_field *primary = c->schema.primary;
    json_t *given = json_object_get(row, primary->name);
    if (!c->schema.auto_id || (!is_new && given)) {
        json_t *id = given ? check_value(c, primary, primary->type, given) : NULL;
        if (!given) bad_value(c, primary, "the primary key is missing");
        return id;
    }
    if (given) {
        bad_value(c, primary, "the collection makes its ids itself (autoID)");
        return NULL;
    }
    if (c->schema.foreign) return json_integer(0); /* the engine's next key */
    json_int_t next = json_integer_value(json_object_get(c->schema.json, "next_id"));
    json_object_set_new(c->schema.json, "next_id", json_integer(next + 1));
    return primary->type == MV_INT64 ? json_integer(next) : json_sprintf("%lld", (long long)next);
}

static char *id_text(const json_t *id, char digits[24])
{
    if (json_is_string(id)) return (char *)json_string_value(id);
    snprintf(digits, 24, "%lld", (long long)json_integer_value(id));
    return digits;
}

/* Everything but the vectors. NULL: failed. */
static json_t *take_payload(mv_call *c, const json_t *row, json_t *id)
{
    const char *name;
    json_t *value, *payload = json_object();
    int good = c->schema.foreign || json_object_set(payload, c->schema.primary->name, id) == 0;
    for (size_t i = 0; good && i < c->schema.n; i++) {
        const mv_field *field = &c->schema.fields[i];
        if (field->primary || mv_is_vector(field->type)) continue;
        value = json_object_get(row, field->name);
        if (!value || json_is_null(value)) value = field->fallback;
        if (!value && !field->nullable) good = bad_value(c, field, "it is missing");
        if (!good || !value) continue;
        value = check_value(c, field, field->type, value);
        good = value && json_object_set_new(payload, field->name, value) == 0;
    }
    json_object_foreach((json_t *)row, name, value)
    {
        if (!good || mv_field_find(&c->schema, name)) continue;
        good = c->schema.dynamic && json_object_set(payload, name, value) == 0;
        if (!good)
            mv_fail(c, MV_BAD_ROW, "field %.100s is not in the schema, which takes no others (dynamic field)",
                    name);
    }
    if (good) return payload;
    json_decref(payload);
    return NULL;
}

static int put_engine(mv_call *c, json_t *id, const char *payload, const float *x, int64_t *key)
{
    char digits[24];
    const mv_schema *s = &c->schema;
    size_t dim = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->fields[i].main) dim = s->fields[i].dim;
    kith_row row = {.payload = payload, .vector = x, .dim = x ? dim : 0};
    kith_status status;
    if (s->foreign) {
        row.key = json_integer_value(id);
        status = kith_collection_put(c->collection, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, key, &c->err);
    } else {
        status = kith_collection_put_text(c->collection, id_text(id, digits),
                                          KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, key, &c->err);
    }
    char words[HTTP_WORDS];
    if (status == KITH_INVALID)
        mv_fail(c, MV_BAD_ROW, "%s", http_without_folder(c->server, c->err.message, words));
    else if (status != KITH_OK)
        mv_fail_engine(c);
    return status == KITH_OK;
}

/* The vectors of a row, those of the fields beside the engine's own written at once. */
static int put_vectors(mv_call *c, const json_t *row, int64_t key, float *x)
{
    for (size_t i = 0; i < c->schema.n; i++) {
        const mv_field *field = &c->schema.fields[i];
        const json_t *list = json_object_get(row, field->name);
        if (!mv_is_vector(field->type) || field->main) continue;
        if (json_is_null(list)) list = NULL;
        if (!list && !field->nullable && !c->schema.foreign) return bad_value(c, field, "it is missing");
        if (list && !mv_vector(c, list, field, x)) return 0;
        if (kith_collection_put_vector(c->collection, key, field->name, list ? x : NULL,
                                       list ? field->dim : 0, &c->err) != KITH_OK) {
            mv_fail_engine(c);
            return 0;
        }
    }
    return 1;
}

/* How long a row lives, as the collection's property says. */
static int put_expiry(mv_call *c, int64_t key)
{
    int64_t seconds;
    const json_t *properties = json_object_get(c->schema.json, "properties");
    if (!mv_int64(json_object_get(properties, "collection.ttl.seconds"), &seconds) || seconds <= 0) return 1;
    if (seconds > INT32_MAX) seconds = INT32_MAX;
    if (kith_collection_set_expiry(c->collection, key, time(NULL) + seconds, &c->err) == KITH_OK) return 1;
    mv_fail_engine(c);
    return 0;
}

static int put_partition(mv_call *c, int64_t key, const char *partition)
{
    if (kith_collection_set_partition(c->collection, key, partition, &c->err) == KITH_OK) return 1;
    mv_fail_engine(c);
    return 0;
}

static float *main_vector(mv_call *c, const json_t *row, int *good)
{
    size_t most = 1;
    const mv_field *main = NULL;
    for (size_t i = 0; i < c->schema.n; i++) {
        if (c->schema.fields[i].main) main = &c->schema.fields[i];
        if (c->schema.fields[i].dim > most) most = c->schema.fields[i].dim;
    }
    float *x = calloc(most, sizeof *x); /* for the others, too */
    const json_t *list = main ? json_object_get(row, main->name) : NULL;
    *good = x != NULL;
    if (!x)
        mv_fail(c, MV_OVERLOADED, "out of memory");
    else if (!list)
        *good = bad_value(c, main, "it is missing");
    else
        *good = mv_vector(c, list, main, x);
    return x;
}

int mv_put_row(mv_call *c, json_t *row, const char *partition, int is_new, json_t **id)
{
    int good;
    int64_t key = 0;
    if (!json_is_object(row)) {
        mv_fail(c, MV_BAD_ROW, "each element of data must be an object");
        return 0;
    }
    *id = take_id(c, row, is_new);
    json_t *payload = *id ? take_payload(c, row, *id) : NULL;
    if (!payload) return 0;
    char *words = json_dumps(payload, JSON_COMPACT);
    float *x = main_vector(c, row, &good);
    good = good && words && put_engine(c, *id, words, x, &key) && put_vectors(c, row, key, x) &&
           put_partition(c, key, partition) && put_expiry(c, key);
    if (good && c->schema.foreign) json_integer_set(*id, key);
    if (!words) mv_fail(c, MV_OVERLOADED, "out of memory");
    free(words);
    free(x);
    json_decref(payload);
    return good;
}

/* ---- Reading ---- */

int mv_key_of_id(mv_call *c, const json_t *id, int64_t *key)
{
    char digits[24];
    int64_t number = 0;
    *key = 0;
    int is_number = c->schema.primary->type == MV_INT64;
    if (is_number ? !mv_int64(id, &number) : !json_is_string(id)) {
        mv_fail(c, MV_PARAMETER_INVALID, "an id of this collection is %s",
                is_number ? "an integer of 64 bits" : "a text");
        return 0;
    }
    if (c->schema.foreign) {
        *key = number > 0 ? number : 0;
        return 1;
    }
    snprintf(digits, sizeof digits, "%lld", (long long)number);
    const char *words = is_number ? digits : json_string_value(id);
    if (!*words || strlen(words) > KITH_COLLECTION_MAX_TEXT_KEY) return 1; /* nobody has such an id */
    kith_status status = kith_collection_key_of(c->collection, words, key, &c->err);
    if (status != KITH_OK && status != KITH_NOTFOUND) mv_fail_engine(c);
    return status == KITH_OK || status == KITH_NOTFOUND;
}

int mv_select(mv_call *c, const json_t *names, int all_when_absent, mv_selection *selection)
{
    const json_t *name;
    size_t i;
    *selection = (mv_selection){.names = names, .all = !names && all_when_absent};
    json_array_foreach((json_t *)names, i, name)
    {
        const char *words = json_string_value(name);
        const mv_field *field = words ? mv_field_find(&c->schema, words) : NULL;
        if (words && strcmp(words, "*") == 0) {
            selection->all = 1;
        } else if (!words || (!field && !c->schema.dynamic)) {
            mv_fail(c, MV_PARAMETER_INVALID, "field %.100s not exist", words ? words : "?");
            return 0;
        } else if (field && mv_is_vector(field->type)) {
            selection->vectors = 1;
        }
    }
    selection->vectors |= selection->all;
    return 1;
}

static int is_selected(const mv_selection *selection, const char *name)
{
    size_t i;
    const json_t *wanted;
    json_array_foreach((json_t *)selection->names, i, wanted)
    {
        if (strcmp(json_string_value(wanted), name) == 0) return 1;
    }
    return selection->all;
}

static json_t *vector_json(const float *x, size_t dim)
{
    if (!x) return json_null();
    json_t *list = json_array();
    for (size_t d = 0; d < dim; d++) json_array_append_new(list, json_real(x[d]));
    return list;
}

/* A scalar as the client takes it; absent: the default, or null. */
static json_t *value_json(const mv_call *c, const mv_field *field, json_t *value)
{
    if (!value) value = field->fallback;
    if (!value) return json_null();
    return field->type == MV_INT64 && json_is_integer(value) ? mv_int64_json(c, json_integer_value(value))
                                                             : json_incref(value);
}

static json_t *field_json(mv_call *c, const mv_field *field, const kith_row *row, json_t *payload)
{
    const float *x;
    size_t dim;
    if (field->primary && c->schema.foreign) return mv_int64_json(c, row->key);
    if (!mv_is_vector(field->type)) return value_json(c, field, json_object_get(payload, field->name));
    if (field->main) return vector_json(row->vector, row->dim);
    if (kith_collection_get_vector(c->collection, row->key, field->name, &x, &dim, &c->err) != KITH_OK)
        return mv_fail_engine(c);
    return vector_json(x, dim);
}

json_t *mv_row(mv_call *c, int64_t key, const mv_selection *selection)
{
    kith_row row;
    const char *name;
    json_t *value, *out = json_object();
    unsigned parts = KITH_ROW_PAYLOAD | (selection->vectors ? KITH_ROW_VECTOR : 0);
    kith_status status = kith_collection_get(c->collection, key, parts, &row, &c->err);
    if (status != KITH_OK) {
        json_decref(out);
        return status == KITH_NOTFOUND ? NULL : mv_fail_engine(c);
    }
    json_t *payload = json_loadb(row.payload, row.payload_size, 0, NULL);
    for (size_t i = 0; i < c->schema.n; i++) {
        const mv_field *field = &c->schema.fields[i];
        if (field->primary || is_selected(selection, field->name))
            json_object_set_new(out, field->name, field_json(c, field, &row, payload));
    }
    json_object_foreach(payload, name, value)
    {
        if (c->schema.dynamic && !mv_field_find(&c->schema, name) && is_selected(selection, name))
            json_object_set(out, name, value);
    }
    json_decref(payload);
    return out;
}

int mv_show(mv_call *c, json_t *rows, json_t *row)
{
    size_t most = c->server->options.max_answer;
    c->shown += json_dumpb(row, NULL, 0, JSON_COMPACT) + 1;
    if (c->shown > most) {
        json_decref(row);
        mv_fail(c, MV_PARAMETER_INVALID,
                "the answer is longer than %zu bytes: lower limit, or ask for fewer outputFields", most);
        return 0;
    }
    if (json_array_append_new(rows, row) == 0) return 1;
    mv_fail(c, MV_OVERLOADED, "out of memory");
    return 0;
}
