/* handlers.h - one function for each line of routes.def; r->args holds the variable parts of the path. */
#ifndef KITH_SERVER_HANDLERS_H
#define KITH_SERVER_HANDLERS_H

#include "server_state.h"

#define ROUTE(method, path, access, handler) void handler(request *r);
#include "routes.def"
#undef ROUTE

/* Borrow a gallery of the collection that the path names. NULL: 404 was answered. */
kith_gallery *borrow_named(request *r, size_t *collection);

/* The key that the path names. 0: 404 was answered. */
int64_t named_key(request *r);

/* The payload of a row as an object. */
json_t *payload_json(const char *text, size_t size);

#endif
