/* handlers.h - one function for each line of routes.def; r->args holds the variable parts of the path. */
#ifndef KITH_SERVER_HANDLERS_H
#define KITH_SERVER_HANDLERS_H

#include "server_state.h"

#define ROUTE(method, path, role, kind, handler) void handler(request *r);
#include "routes.def"
#undef ROUTE

/* Borrow a handle of the collection that the path names. 0: the answer was given. */
int borrow_named(request *r, loan_kind kind, loan *l);

/* The row that the path names, by its key or as =TEXT. 0: the answer was given. */
int64_t named_key(request *r, kith_collection *collection);

/* Whether a request has no members but those of a list that ends with NULL: a word that is not known may be a typo of one that
 * matters. 0: the answer was given. */
int only_members(request *r, json_t *json, ...) __attribute__((sentinel));

/* Answer an error, or, when status is KITH_OK, a JSON value, which is given up in either case. */
void reply_or_fail(request *r, kith_status status, json_t *value, const kith_error *err);

/* The members key, distance and score of a picture that was found, without braces. */
void put_nearness(const kith_gallery_hit *hit, text *out);

/* Begin a batch, change, commit; undo on failure. */
kith_status in_batch(kith_collection *c,
                     kith_status (*change)(kith_collection *c, void *ctx, kith_error *err), void *ctx,
                     kith_error *err);

/* What a job does with a handle of its own of the collection, and what it was asked for. */
typedef kith_status (*collection_work)(job *j, kith_collection *collection, json_t *json, json_t **result,
                                       kith_error *err);

/* Begin a job over the collection that the path names, and answer: 202 and the job, or what is wrong. */
void begin_job(request *r, const char *kind, collection_work work, json_t *json);

#endif
