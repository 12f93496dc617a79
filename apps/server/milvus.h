/* milvus.h - Milvus' RESTful API v2 (POST /v2/vectordb/...) over the collections that are served, for programs that
 * were written for it. docs/adapters.md says what it answers, and where that is not what Milvus would.
 *
 * A thin adapter: filters, partitions, searches are the engine's own. What the engine does not know is kept in two
 * places: what belongs to one collection (its schema, index definitions, properties) in a named value of that
 * collection, so that it is copied with it; the rest (databases, aliases, users, roles, import jobs) as rows of
 * a collection of its own, .milvus.kith, in the folder that is served. */
#ifndef KITH_SERVER_MILVUS_H
#define KITH_SERVER_MILVUS_H

#include "http.h"

typedef struct milvus milvus;

/* Make the adapter's state for a folder of collections; nothing is read or written yet. */
kith_status milvus_open(const char *folder, milvus **out, kith_error *err);
void milvus_close(milvus *m);

/* Whether a path is the adapter's. */
int milvus_owns(const char *path);

/* Whether the head of a request lets it in, as routes_admit says it. */
int milvus_admit(request *r);

/* Answer a request that has come whole. */
void milvus_answer(request *r);

#endif
