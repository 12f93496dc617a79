/* vearch.h - Vearch's document, space and index calls (3.5) over the collections that are served, for programs that were
 * written for it. docs/adapters.md says what it answers.
 *
 * It stands on the Milvus adapter: a space is a collection of it with the primary key "_id", a db is a database of it, and both
 * adapters see the same ones. A handler returns the value of "data", or NULL after mv_fail. */
#ifndef KITH_SERVER_VEARCH_H
#define KITH_SERVER_VEARCH_H

#include "milvus_call.h"

/* Whether the head of a request lets it in, as routes_admit says it. */
int vearch_admit(request *r);

/* Answer a request that has come whole. */
void vearch_answer(request *r);

/* Take a handler of the Milvus adapter with a body of its own, which is given up. */
json_t *vearch_ask(mv_call *c, json_t *(*handler)(mv_call *c), json_t *body);

/* The filters of a request ({"operator", "conditions"}) as the engine's text, to be freed; NULL: none, or failed. The
 * collection must be borrowed. */
char *vearch_filter(mv_call *c);

#define VEARCH(method, path, who, about, right, handler) json_t *handler(mv_call *c);
#include "vearch_routes.def"
#undef VEARCH

#endif
