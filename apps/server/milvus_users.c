/* milvus_users.c - who asks: users, roles, what roles were granted, and /users/..., /roles/..., /privilege_groups/....
 * What they may is in milvus_rights.c.
 *
 * Nobody is asked for a password unless the server has tokens (--token-file). Then a request names a token of the
 * file, or "user:password" of a user that was made here. Passwords are kept as PBKDF2-SHA-256: some
 * ten milliseconds a guess, and not more, for a stranger may have them spent: by a worker, never by the thread that reads
 * requests, and only so many in a second. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "milvus_state.h"

enum {
    SALT = 16,
    ROUNDS = 20000,
    LEAST_PASSWORD = 6,
    MOST_PASSWORD = 72,
    MOST_HEADER = 1024,
    GUESSES_A_SECOND = 20
};

/* ---- Passwords ---- */

static void to_hex(const unsigned char *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* The hash of a password with a salt, which is hexadecimal itself. 0: no such function. */
static int hash_password(const char *password, const char *salt, char hex[2 * MV_HASH + 1])
{
    unsigned char hash[MV_HASH];
    gnutls_datum_t key = {(unsigned char *)password, (unsigned)strlen(password)};
    gnutls_datum_t with = {(unsigned char *)salt, (unsigned)strlen(salt)};
    if (gnutls_pbkdf2(GNUTLS_MAC_SHA256, &key, &with, ROUNDS, hash, sizeof hash) != 0) return 0;
    to_hex(hash, sizeof hash, hex);
    return 1;
}

static int set_password(mv_call *c, json_t *user, const char *password)
{
    unsigned char random[SALT];
    char salt[2 * SALT + 1], hash[2 * MV_HASH + 1];
    size_t length = strlen(password);
    if (length < LEAST_PASSWORD || length > MOST_PASSWORD) {
        mv_fail(c, MV_PARAMETER_INVALID, "a password has %d to %d bytes", LEAST_PASSWORD, MOST_PASSWORD);
        return 0;
    }
    if (gnutls_rnd(GNUTLS_RND_KEY, random, sizeof random) != 0) {
        mv_fail(c, MV_INTERNAL, "the system has no random numbers");
        return 0;
    }
    to_hex(random, sizeof random, salt);
    if (!hash_password(password, salt, hash)) {
        mv_fail(c, MV_INTERNAL, "PBKDF2 is not available");
        return 0;
    }
    json_object_set_new(user, "salt", json_string(salt));
    json_object_set_new(user, "hash", json_string(hash));
    return 1;
}

/* Takes as long for NULL, a user who is not there: which there are cannot be told by the time. */
static int is_password(const json_t *user, const char *password)
{
    char hash[2 * MV_HASH + 1];
    const char *salt = json_string_value(json_object_get(user, "salt"));
    const char *right = json_string_value(json_object_get(user, "hash"));
    int made = hash_password(password, salt ? salt : "00000000000000000000000000000000", hash);
    return made && salt && right && strlen(right) == 2 * MV_HASH &&
           gnutls_memcmp(hash, right, 2 * MV_HASH) == 0;
}

/* Passwords that were right lately. */
static int was_right(milvus *m, const unsigned char hash[MV_HASH], int remember)
{
    int found = 0;
    pthread_mutex_lock(&m->lock);
    size_t n = m->n_known < MV_KNOWN ? m->n_known : MV_KNOWN;
    for (size_t i = 0; i < n; i++) found |= gnutls_memcmp(m->known[i], hash, MV_HASH) == 0;
    if (remember && !found) memcpy(m->known[m->n_known++ % MV_KNOWN], hash, MV_HASH);
    pthread_mutex_unlock(&m->lock);
    return found;
}

/* What is remembered of a password that is right: it is worth nothing once the user has another one, or is gone. */
static int fingerprint(const json_t *user, const char *words, unsigned char hash[MV_HASH])
{
    gnutls_hash_hd_t all;
    const char *kept = json_string_value(json_object_get(user, "hash"));
    if (!kept || gnutls_hash_init(&all, GNUTLS_DIG_SHA256) != 0) return 0;
    int good = gnutls_hash(all, kept, strlen(kept)) == 0 && gnutls_hash(all, words, strlen(words)) == 0;
    gnutls_hash_deinit(all, hash);
    return good;
}

/* Whether one more slow hash may be made in this second. */
static int may_guess(milvus *m)
{
    time_t now = time(NULL);
    pthread_mutex_lock(&m->lock);
    if (m->guessed != now) m->guesses = 0;
    m->guessed = now;
    int may = m->guesses < GUESSES_A_SECOND;
    m->guesses += may;
    pthread_mutex_unlock(&m->lock);
    return may;
}

/* ---- Who asks ---- */

/* Look at a password, whether there is a user or not (NULL): neither the answer nor the guesses left tell which. */
static int is_right(mv_call *c, const json_t *user, const char *password)
{
    if (may_guess(c->milvus)) return is_password(user, password);
    mv_fail(c, MV_OVERLOADED, "too many passwords to be looked at; try again in a second");
    return 0;
}

/* "user:password". 1: right; 0: not; -1, only at once: the password would have to be looked at. */
static int log_in(mv_call *c, const char *words, int at_once)
{
    unsigned char hash[MV_HASH];
    const char *colon = strchr(words, ':');
    size_t n = colon ? (size_t)(colon - words) : 0;
    if (n == 0 || n > MV_MAX_NAME) return 0;
    memcpy(c->user, words, n);
    c->user[n] = 0;
    json_t *user = mv_is_identifier(c->user) ? mv_record_get(c, "user", "", c->user) : NULL;
    int there = user && fingerprint(user, words, hash);
    int right = there && was_right(c->milvus, hash, 0);
    if (!right && c->code == MV_OK) {
        right = at_once ? -1 : is_right(c, there ? user : NULL, colon + 1);
        if (right > 0) (void)was_right(c->milvus, hash, 1);
    }
    json_decref(user);
    return right;
}

/* What an Authorization header names: a token, or "user:password"; "" for none. */
static void read_header(request *r, char given[MOST_HEADER])
{
    const char *header = http_header(r, MHD_HTTP_HEADER_AUTHORIZATION);
    gnutls_datum_t plain, coded;
    size_t length = strlen(header);
    *given = 0;
    if (length >= MOST_HEADER) return;
    const char *bearer = http_bearer(r);
    if (bearer) strcpy(given, bearer);
    if (strncasecmp(header, "Basic ", 6) != 0) return;
    coded = (gnutls_datum_t){(unsigned char *)header + 6, (unsigned)length - 6};
    if (gnutls_base64_decode2(&coded, &plain) != 0) return;
    if (plain.size < MOST_HEADER && !memchr(plain.data, 0, plain.size)) {
        memcpy(given, plain.data, plain.size);
        given[plain.size] = 0;
    }
    gnutls_free(plain.data);
}

static int is_known(mv_call *c, int at_once)
{
    const tokens *known = &c->server->tokens;
    char bearer[MOST_HEADER];
    read_header(c->request, bearer);
    c->role = known->n > 0                  ? tokens_role(known, bearer, strlen(bearer))
              : c->server->options.writable ? ROLE_ADMIN
                                            : ROLE_READ;
    int is = c->role != ROLE_NONE ? 1 : log_in(c, bearer, at_once);
    if (is == 0 && c->code == MV_OK) mv_fail(c, MV_NEEDS_LOGIN, "user hasn't authenticated");
    return is;
}

int mv_knows(mv_call *c)
{
    return is_known(c, 0);
}

int mv_admits(mv_call *c)
{
    int is = is_known(c, !c->request->unproven);
    c->request->unproven = is < 0;
    return is != 0;
}

/* ---- Records ---- */

static json_t *names_of(mv_call *c, const char *kind, json_t *names)
{
    size_t i;
    json_t *record, *records = mv_record_list(c, kind, "");
    json_array_foreach(records, i, record)
    {
        json_array_append(names, json_object_get(record, "name"));
    }
    if (!records) {
        json_decref(names);
        return NULL;
    }
    json_decref(records);
    return names;
}

/* The record of the kind that a member of the body names. NULL: failed. */
static json_t *named(mv_call *c, const char *kind, const char *member)
{
    const char *name = mv_identifier(c, member);
    json_t *record = name ? mv_record_get(c, kind, "", name) : NULL;
    if (!record && c->code == MV_OK) mv_fail(c, MV_PARAMETER_INVALID, "there is no %s %s", kind, name);
    return record;
}

static json_t *keep(mv_call *c, const char *kind, const char *member, json_t *record, int is_new)
{
    const char *name = mv_identifier(c, member);
    if (!name) {
        json_decref(record);
        return NULL;
    }
    int put = mv_record_put(c, kind, "", name, record, is_new);
    if (put < 0) return mv_fail(c, MV_PARAMETER_INVALID, "%s already exists: %s", kind, name);
    return put ? json_object() : NULL;
}

static json_t *drop(mv_call *c, const char *kind, const char *member)
{
    const char *name = mv_identifier(c, member);
    return name && mv_record_drop(c, kind, "", name) != 0 ? json_object() : NULL;
}

static int place_of(const json_t *list, const json_t *value)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), value)) return (int)i;
    return -1;
}

static void add_once(json_t *list, json_t *value)
{
    if (value && place_of(list, value) < 0) json_array_append(list, value);
}

static void take_away(json_t *list, const json_t *value)
{
    int at = place_of(list, value);
    if (at >= 0) json_array_remove(list, (size_t)at);
}

/* ---- /users ---- */

json_t *mv_users_list(mv_call *c)
{
    return names_of(c, "user", json_array());
}

json_t *mv_users_describe(mv_call *c)
{
    json_t *user = named(c, "user", "userName");
    json_t *roles = json_incref(json_object_get(user, "roles"));
    json_decref(user);
    return roles;
}

json_t *mv_users_create(mv_call *c)
{
    const char *name = mv_identifier(c, "userName"), *password = name ? mv_text(c, "password") : NULL;
    if (!password) return NULL;
    json_t *user = json_pack("{s[]}", "roles");
    if (set_password(c, user, password)) return keep(c, "user", "userName", user, 1);
    json_decref(user);
    return NULL;
}

json_t *mv_users_update_password(mv_call *c)
{
    const char *old = mv_text(c, "password"), *password = old ? mv_text(c, "newPassword") : NULL;
    json_t *user = password ? named(c, "user", "userName") : NULL;
    if (!user) return NULL;
    int right = is_password(user, old);
    if (!right) mv_fail(c, MV_NOT_AUTHENTICATED, "the password is another");
    if (right && set_password(c, user, password)) return keep(c, "user", "userName", user, 0);
    json_decref(user);
    return NULL;
}

json_t *mv_users_drop(mv_call *c)
{
    return drop(c, "user", "userName");
}

static int is_role(mv_call *c, const char *name)
{
    if (strcmp(name, "admin") == 0 || strcmp(name, "public") == 0) return 1;
    json_t *record = mv_record_get(c, "role", "", name);
    if (!record && c->code == MV_OK) mv_fail(c, MV_PARAMETER_INVALID, "there is no role %s", name);
    json_decref(record);
    return record != NULL;
}

json_t *mv_users_grant_role(mv_call *c)
{
    const char *name = mv_identifier(c, "roleName");
    json_t *user = name && is_role(c, name) ? named(c, "user", "userName") : NULL;
    if (!user) return NULL;
    add_once(json_object_get(user, "roles"), json_object_get(c->body, "roleName"));
    return keep(c, "user", "userName", user, 0);
}

json_t *mv_users_revoke_role(mv_call *c)
{
    json_t *user = mv_identifier(c, "roleName") ? named(c, "user", "userName") : NULL;
    if (!user) return NULL;
    take_away(json_object_get(user, "roles"), json_object_get(c->body, "roleName"));
    return keep(c, "user", "userName", user, 0);
}

/* ---- /roles ---- */

json_t *mv_roles_list(mv_call *c)
{
    return names_of(c, "role", json_pack("[s s]", "admin", "public"));
}

/* The role that the body names; "admin" and "public" are always there and have no grants of their own. */
static json_t *role_named(mv_call *c)
{
    const char *name = mv_identifier(c, "roleName");
    if (!name) return NULL;
    if (strcmp(name, "admin") == 0 || strcmp(name, "public") == 0) return json_pack("{s[]}", "grants");
    return named(c, "role", "roleName");
}

json_t *mv_roles_describe(mv_call *c)
{
    json_t *record = role_named(c), *grants = json_incref(json_object_get(record, "grants"));
    json_decref(record);
    return grants;
}

static json_t *fixed(mv_call *c)
{
    const char *name = json_string_value(json_object_get(c->body, "roleName"));
    if (name && (strcmp(name, "admin") == 0 || strcmp(name, "public") == 0))
        return mv_fail(c, MV_PARAMETER_INVALID, "the role %s stays as it is", name);
    return NULL;
}

json_t *mv_roles_create(mv_call *c)
{
    const char *description = json_string_value(json_object_get(c->body, "description"));
    fixed(c);
    if (c->code != MV_OK) return NULL;
    return keep(c, "role", "roleName",
                json_pack("{s[] ss}", "grants", "description", description ? description : ""), 1);
}

json_t *mv_roles_alter(mv_call *c)
{
    json_t *record = role_named(c), *description = json_object_get(c->body, "description");
    fixed(c);
    if (c->code == MV_OK && json_is_string(description)) json_object_set(record, "description", description);
    if (c->code == MV_OK) return keep(c, "role", "roleName", record, 0);
    json_decref(record);
    return NULL;
}

/* Take a role from all who have it: they are not to have the next one of this name. 0: failed. */
static int take_from_users(mv_call *c, const json_t *role_name)
{
    size_t i;
    json_t *record, *records = mv_record_list(c, "user", "");
    json_array_foreach(records, i, record)
    {
        json_t *user = json_object_get(record, "value"), *roles = json_object_get(user, "roles");
        const char *name = json_string_value(json_object_get(record, "name"));
        if (!name || place_of(roles, role_name) < 0) continue;
        take_away(roles, role_name);
        if (!mv_record_put(c, "user", "", name, json_incref(user), 0)) break;
    }
    json_decref(records);
    return c->code == MV_OK;
}

json_t *mv_roles_drop(mv_call *c)
{
    fixed(c);
    if (c->code != MV_OK || !mv_identifier(c, "roleName")) return NULL;
    return take_from_users(c, json_object_get(c->body, "roleName")) ? drop(c, "role", "roleName") : NULL;
}

/* Whether there is such a privilege, or group of them. 0: failed. */
static int is_grantable(mv_call *c, const char *word)
{
    if (mv_is_privilege(word)) return 1;
    json_t *group = mv_is_identifier(word) ? mv_record_get(c, "group", "", word) : NULL;
    if (!group && c->code == MV_OK)
        mv_fail(c, MV_PARAMETER_INVALID, "there is no privilege or group of privileges %.200s", word);
    json_decref(group);
    return group != NULL;
}

/* Add or take away a grant; one that means nothing can still be taken away. */
static json_t *change_grants(mv_call *c, json_t *grant, int gives)
{
    int good = grant && (!gives || is_grantable(c, json_string_value(json_object_get(grant, "privilege"))));
    json_t *record = good ? role_named(c) : NULL;
    fixed(c);
    if (c->code != MV_OK || !record) {
        json_decref(record);
        json_decref(grant);
        return NULL;
    }
    json_t *grants = json_object_get(record, "grants");
    if (gives)
        add_once(grants, grant);
    else
        take_away(grants, grant);
    json_decref(grant);
    return keep(c, "role", "roleName", record, 0);
}

/* What is of the whole server is granted for all databases unless one is named. */
static json_t *grant_v1(mv_call *c)
{
    const char *db = json_string_value(json_object_get(c->body, "dbName"));
    const char *type = mv_text(c, "objectType"), *name = type ? mv_text(c, "objectName") : NULL;
    const char *privilege = name ? mv_text(c, "privilege") : NULL;
    if (!privilege) return NULL;
    int everywhere = (!db || !*db) && (strcmp(type, "Global") == 0 || strcmp(type, "User") == 0);
    return json_pack("{ss ss ss ss}", "objectType", type, "objectName", name, "privilege", privilege,
                     "dbName", everywhere ? "*" : c->db);
}

static json_t *grant_v2(mv_call *c)
{
    const char *privilege = mv_text(c, "privilege");
    const char *name = json_string_value(json_object_get(c->body, "collectionName"));
    return privilege ? json_pack("{ss ss ss ss}", "objectType", "Collection", "objectName",
                                 name && *name ? name : "*", "privilege", privilege, "dbName", c->db)
                     : NULL;
}

json_t *mv_roles_grant(mv_call *c)
{
    return change_grants(c, grant_v1(c), 1);
}

json_t *mv_roles_revoke(mv_call *c)
{
    return change_grants(c, grant_v1(c), 0);
}

json_t *mv_roles_grant_v2(mv_call *c)
{
    return change_grants(c, grant_v2(c), 1);
}

json_t *mv_roles_revoke_v2(mv_call *c)
{
    return change_grants(c, grant_v2(c), 0);
}

/* ---- /privilege_groups ---- */

json_t *mv_groups_list(mv_call *c)
{
    size_t i;
    json_t *record, *records = mv_record_list(c, "group", ""), *list = records ? json_array() : NULL;
    json_array_foreach(records, i, record)
    {
        json_t *privileges = json_object_get(json_object_get(record, "value"), "privileges");
        json_array_append_new(list, json_pack("{sO sO}", "privilegeGroupName",
                                              json_object_get(record, "name"), "privileges", privileges));
    }
    json_decref(records);
    return list;
}

json_t *mv_groups_create(mv_call *c)
{
    const char *name = json_string_value(json_object_get(c->body, "privilegeGroupName"));
    if (name && mv_is_privilege(name))
        return mv_fail(c, MV_PARAMETER_INVALID, "%s is a privilege already", name);
    return keep(c, "group", "privilegeGroupName", json_pack("{s[]}", "privileges"), 1);
}

/* Whether a role was granted a group. */
static int is_granted(mv_call *c, const json_t *group)
{
    size_t i, j;
    int is = 0;
    json_t *record, *grant, *records = mv_record_list(c, "role", "");
    json_array_foreach(records, i, record)
    {
        const json_t *grants = json_object_get(json_object_get(record, "value"), "grants");
        json_array_foreach(grants, j, grant)
        {
            is |= json_equal(json_object_get(grant, "privilege"), group);
        }
    }
    json_decref(records);
    return is;
}

json_t *mv_groups_drop(mv_call *c)
{
    if (is_granted(c, json_object_get(c->body, "privilegeGroupName")))
        return mv_fail(c, MV_PARAMETER_INVALID, "a role was granted this group: revoke it first");
    if (c->code != MV_OK) return NULL;
    return drop(c, "group", "privilegeGroupName");
}

static json_t *change_group(mv_call *c, int adds)
{
    size_t i;
    json_t *one, *given = json_object_get(c->body, "privileges"),
                 *group = named(c, "group", "privilegeGroupName");
    if (!group) return NULL;
    json_array_foreach(given, i, one)
    {
        if (adds && json_is_string(one) && !mv_is_privilege(json_string_value(one))) {
            json_decref(group);
            return mv_fail(c, MV_PARAMETER_INVALID, "there is no privilege %.200s", json_string_value(one));
        }
        if (adds && json_is_string(one))
            add_once(json_object_get(group, "privileges"), one);
        else
            take_away(json_object_get(group, "privileges"), one);
    }
    return keep(c, "group", "privilegeGroupName", group, 0);
}

json_t *mv_groups_add(mv_call *c)
{
    return change_group(c, 1);
}

json_t *mv_groups_remove(mv_call *c)
{
    return change_group(c, 0);
}
