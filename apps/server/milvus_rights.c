/* milvus_rights.c - what users may: the privileges that their roles were granted, and what a request is about.
 *
 * A grant names a privilege (or a group), a database and a collection, the latter two or "*" for all. What a request is about is found
 * once, before it is asked whether he may, and the handler uses what was found: c->db and c->name. */
#include <string.h>

#include "milvus_state.h"

enum level { LEVEL_NONE, LEVEL_COLLECTION, LEVEL_DATABASE, LEVEL_CLUSTER };

static const struct {
    const char *name;
    enum level level;
    role rank;
} privileges[] = {
    [MV_ANYONE] = {"", LEVEL_NONE, ROLE_NONE},
#define PRIVILEGE(name, level, rank) [MV_##name] = {#name, LEVEL_##level, ROLE_##rank},
#include "milvus_privileges.def"
#undef PRIVILEGE
};

/* Milvus' own groups. They do not include each other: ClusterAdmin may not read a collection. */
static const struct {
    const char *name;
    enum level level;
    role rank;
} groups[] = {
    {"CollectionReadOnly", LEVEL_COLLECTION, ROLE_READ},
    {"CollectionReadWrite", LEVEL_COLLECTION, ROLE_WRITE},
    {"CollectionAdmin", LEVEL_COLLECTION, ROLE_ADMIN},
    {"DatabaseReadOnly", LEVEL_DATABASE, ROLE_READ},
    {"DatabaseReadWrite", LEVEL_DATABASE, ROLE_WRITE},
    {"DatabaseAdmin", LEVEL_DATABASE, ROLE_ADMIN},
    {"ClusterReadOnly", LEVEL_CLUSTER, ROLE_READ},
    {"ClusterReadWrite", LEVEL_CLUSTER, ROLE_WRITE},
    {"ClusterAdmin", LEVEL_CLUSTER, ROLE_ADMIN},
};

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* ---- Privileges ---- */

static int is_all(const char *word)
{
    return strcmp(word, "*") == 0 || strcmp(word, "All") == 0;
}

int mv_is_privilege(const char *word)
{
    if (is_all(word)) return 1;
    for (size_t i = 0; i < COUNT(groups); i++)
        if (strcmp(word, groups[i].name) == 0) return 1;
    for (size_t i = MV_ANYONE + 1; i < COUNT(privileges); i++)
        if (strcmp(word, privileges[i].name) == 0) return 1;
    return 0;
}

/* Whether what Milvus knows by this word gives a right. */
static int word_gives(const char *word, mv_right right)
{
    if (is_all(word) || strcmp(word, privileges[right].name) == 0) return 1;
    for (size_t i = 0; i < COUNT(groups); i++)
        if (strcmp(word, groups[i].name) == 0)
            return groups[i].level == privileges[right].level && groups[i].rank >= privileges[right].rank;
    return 0;
}

/* A privilege, or else a group of them that somebody made. */
static int privilege_gives(mv_call *c, const char *privilege, mv_right right)
{
    size_t i;
    json_t *one;
    int gives = word_gives(privilege, right);
    if (mv_is_privilege(privilege) || !mv_is_identifier(privilege)) return gives;
    json_t *group = mv_record_get(c, "group", "", privilege);
    json_array_foreach(json_object_get(group, "privileges"), i, one)
    {
        gives |= json_is_string(one) && word_gives(json_string_value(one), right);
    }
    json_decref(group);
    return gives;
}

/* ---- Grants ---- */

static int is_word(const json_t *grant, const char *member, const char *word)
{
    const char *of = json_string_value(json_object_get(grant, member));
    return of && word && strcmp(of, word) == 0;
}

/* name NULL: all collections of the database; db NULL: of all databases. */
static int grant_gives(mv_call *c, const json_t *grant, mv_right right, const char *db, const char *name)
{
    const char *privilege = json_string_value(json_object_get(grant, "privilege"));
    int about_users = right == MV_SelectUser || right == MV_UpdateUser;
    if (is_word(grant, "objectType", "User") && !about_users) return 0;
    return (is_word(grant, "dbName", "*") || is_word(grant, "dbName", db)) &&
           (is_word(grant, "objectName", "*") || is_word(grant, "objectName", name)) && privilege &&
           privilege_gives(c, privilege, right);
}

static int role_gives(mv_call *c, const char *word, mv_right right, const char *db, const char *name)
{
    size_t i;
    json_t *grant, *record;
    int gives = strcmp(word, "admin") == 0;
    record = gives || !mv_is_identifier(word) ? NULL : mv_record_get(c, "role", "", word);
    json_array_foreach(json_object_get(record, "grants"), i, grant)
    {
        gives = gives || grant_gives(c, grant, right, db, name);
    }
    json_decref(record);
    return gives;
}

/* Whether a role of the user who asks gives a right. */
static int user_has(mv_call *c, mv_right right, const char *db, const char *name)
{
    size_t i;
    int has = 0;
    json_t *one, *user = *c->user ? mv_record_get(c, "user", "", c->user) : NULL;
    if (user && right == MV_ANYONE) has = 1;
    json_array_foreach(json_object_get(user, "roles"), i, one)
    {
        if (!has && json_is_string(one)) has = role_gives(c, json_string_value(one), right, db, name);
    }
    json_decref(user);
    return has;
}

int mv_has_right(mv_call *c, role access, mv_right right, const char *db, const char *name)
{
    return c->role >= access || user_has(c, right, db, name);
}

/* ---- What a request is about ---- */

/* Find the collection, if the body names one. 0: failed. */
static int find_collection(mv_call *c, mv_about about)
{
    const char *name = json_string_value(json_object_get(c->body, "collectionName"));
    if (!name || !*name) return 1;
    if (about == MV_ABOUT_COLLECTION || about == MV_ABOUT_RENAME || about == MV_ABOUT_BOTH)
        return mv_find(c, name);
    if (about != MV_ABOUT_NEW) return 1;
    return mv_file_of(c, c->db, name, c->file) && snprintf(c->name, sizeof c->name, "%s", name) > 0;
}

/* The right to the collection that is found; to all, when none was named. */
static int has_here(mv_call *c, mv_right right)
{
    return user_has(c, right, c->db, *c->name ? c->name : NULL);
}

/* The right to what an alias stands for; to all, when there is no such alias. */
static int has_alias(mv_call *c, mv_right right)
{
    const char *alias = json_string_value(json_object_get(c->body, "aliasName"));
    json_t *record = alias && mv_is_identifier(alias) ? mv_record_get(c, "alias", c->db, alias) : NULL;
    int has = user_has(c, right, c->db, json_string_value(json_object_get(record, "collectionName")));
    json_decref(record);
    return has;
}

/* The right to the name that a collection is to have. */
static int has_new_name(mv_call *c, mv_right right)
{
    const char *db = json_string_value(json_object_get(c->body, "newDbName"));
    const char *name = json_string_value(json_object_get(c->body, "newCollectionName"));
    return user_has(c, right, db && *db ? db : c->db, name);
}

static int is_himself(const mv_call *c)
{
    const char *name = json_string_value(json_object_get(c->body, "userName"));
    return *c->user && name && strcmp(name, c->user) == 0;
}

static int has(mv_call *c, const mv_need *need)
{
    mv_right right = need->right;
    switch (need->about) {
    case MV_ABOUT_DATABASE: return user_has(c, right, c->db, NULL);
    case MV_ABOUT_COLLECTION:
    case MV_ABOUT_NEW: return has_here(c, right);
    case MV_ABOUT_ALIAS: return has_alias(c, right);
    case MV_ABOUT_BOTH: return has_alias(c, right) && has_here(c, right);
    case MV_ABOUT_RENAME: return has_here(c, right) && has_new_name(c, right);
    case MV_ABOUT_USER: return is_himself(c) || user_has(c, right, NULL, NULL);
    case MV_ABOUT_JOB: return *c->user != 0;
    case MV_ABOUT_SERVER:
    case MV_ABOUT_GRANT: break;
    }
    return user_has(c, right, NULL, NULL);
}

int mv_may(mv_call *c, const mv_need *need)
{
    if (!find_collection(c, need->about)) return 0;
    if (c->role >= need->access || has(c, need)) return 1;
    if (c->code == MV_OK) mv_refuse(c);
    return 0;
}

json_t *mv_refuse(mv_call *c)
{
    if (c->server->tokens.n == 0)
        return mv_fail(c, MV_NOT_PERMITTED,
                       "this server only reads; started with --write or --token-file it also writes");
    return mv_fail(c, MV_NOT_PERMITTED, "permission deny to %s", *c->user ? c->user : "this token");
}
