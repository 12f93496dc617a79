/* routes.h - which requests there are. */
#ifndef KITH_SERVER_ROUTES_H
#define KITH_SERVER_ROUTES_H

#include "http.h"
#include "tokens.h"

typedef enum route_kind { ROUTE_NOW, ROUTE_SEARCH, ROUTE_LATER, ROUTE_WRITE, ROUTE_STREAM } route_kind;

typedef struct route {
    const char *method, *path;
    role role; /* that may ask */
    route_kind kind;
    void (*handler)(request *r);
} route;

/* Find the route of a request whose head has come: r->route, r->args. */
void routes_find(request *r);

/* Whether the head of a request lets it in; 0: it was answered. With r->unproven it is not decided yet: looking at a password takes
 * long, and a worker has to call this once more, before any of the body is kept for somebody who may be a stranger. */
int routes_admit(request *r);

/* Whether a worker is to answer it: what is of that kind, and searches of a collection that has been slow to search lately. */
int routes_is_long(const request *r);

/* Answer a request that has come whole and was admitted. */
void routes_answer(request *r);

#endif
