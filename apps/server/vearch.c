/* vearch.c - which handler answers a path, and what its answer is wrapped in: {"code", "msg", "data"}. */
#include "vearch.h"

#include <string.h>

#include "milvus_state.h"

typedef struct vearch_route {
    const char *method, *path;
    mv_need need;
    json_t *(*handler)(mv_call *c);
} vearch_route;

static const vearch_route routes[] = {
#define VEARCH(method, path, who, about, right, handler) \
    {#method, path, {ROLE_##who, MV_ABOUT_##about, MV_##right}, handler},
#include "vearch_routes.def"
#undef VEARCH
};

static unsigned status_of(int code)
{
    switch (code) {
    case MV_NEEDS_LOGIN: return 401;
    case MV_NOT_PERMITTED: return 403;
    case MV_COLLECTION_NOT_FOUND:
    case MV_DATABASE_NOT_FOUND: return 404;
    case MV_OVERLOADED: return 503;
    case MV_INTERNAL: return 500;
    case MV_UNIMPLEMENTED: return 501;
    default: return 400;
    }
}

static void answer_failed(const mv_call *c)
{
    request *r = c->request;
    json_t *words = json_string(c->message);
    if (!words) words = json_string("(not UTF-8)");
    if (!*r->why) snprintf(r->why, sizeof r->why, "%d: %.480s", c->code, c->message);
    mv_reply(r, status_of(c->code), json_pack("{si so}", "code", c->code, "msg", words));
}

int vearch_admit(request *r)
{
    mv_call c = {.request = r, .server = r->server, .milvus = r->server->milvus};
    if (mv_admits(&c)) return 1;
    answer_failed(&c);
    return 0;
}

/* What the path and the body name becomes what the Milvus adapter looks for: dbName and collectionName. */
static int name_things(mv_call *c, mv_about about)
{
    request *r = c->request;
    json_t *db = json_object_get(c->body, "db_name"),
           *space = json_object_get(c->body, about == MV_ABOUT_NEW ? "name" : "space_name");
    if (r->args[0])
        json_object_set_new(c->body, "dbName", json_string(r->args[0]));
    else if (db)
        json_object_set(c->body, "dbName", db);
    else
        (void)json_object_del(c->body, "dbName");
    if (r->args[1])
        json_object_set_new(c->body, "collectionName", json_string(r->args[1]));
    else if (space)
        json_object_set(c->body, "collectionName", space);
    else
        (void)json_object_del(c->body, "collectionName");
    c->db = json_string_value(json_object_get(c->body, "dbName"));
    if (!c->db) c->db = "default";
    if (mv_is_identifier(c->db)) return 1;
    mv_fail(c, MV_DATABASE_INVALID, "a db is named by letters, digits and underscores");
    return 0;
}

void vearch_answer(request *r)
{
    mv_call c = {.request = r, .server = r->server, .milvus = r->server->milvus, .int64_numbers = 1};
    const vearch_route *found = routes;
    json_t *data = NULL;
    while (strcmp(found->method, r->route->method) != 0 || strcmp(found->path, r->route->path) != 0) found++;
    if (mv_knows(&c) && mv_read_body(&c) && name_things(&c, found->need.about) && mv_may(&c, &found->need))
        data = found->handler(&c);
    mv_give_back(&c);
    if (!data && c.code == MV_OK) mv_fail(&c, MV_OVERLOADED, "out of memory");
    if (data)
        mv_reply(r, 200, json_pack("{si ss so}", "code", 0, "msg", "success", "data", data));
    else
        answer_failed(&c);
    json_decref(c.extra);
    json_decref(c.body);
}

json_t *vearch_ask(mv_call *c, json_t *(*handler)(mv_call *c), json_t *body)
{
    json_t *own = c->body;
    if (!body) return mv_fail(c, MV_PARAMETER_INVALID, "a name is not UTF-8");
    mv_give_back(c);
    json_object_set(body, "dbName", json_object_get(own, "dbName"));
    json_object_set(body, "collectionName", json_object_get(own, "collectionName"));
    c->body = body;
    json_t *answer = handler(c);
    mv_give_back(c);
    c->body = own;
    json_decref(body);
    return answer;
}
