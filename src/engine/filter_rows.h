/* filter_rows.h - from the tree of a filter to the set of rows that it lets through. */
#ifndef KI_ENGINE_FILTER_ROWS_H
#define KI_ENGINE_FILTER_ROWS_H

#include "engine/expr.h"
#include "engine/rowset.h"

/* All rows that a filter lets through; vectors: only those with a vector. c->fields belong to the open transaction, and
 * the expression was resolved with them.
 * In/Out:   expr: its conditions may come to stand in another order.
 * Out:      *set, to be cleared even on failure. */
kith_status ki_filter_rows(kith_collection *c, ki_expr *expr, int vectors, const ki_limit *limit,
                           ki_rowset *set, kith_error *err);

/* "SELECT what FROM record WHERE " and, with vectors, the condition that the row has one; and: " AND " behind it. */
#define KI_ROWS_BYTES 160
void ki_rows_sql(const kith_collection *c, const char *what, int vectors, int and, char sql[KI_ROWS_BYTES]);

/* The statement `before` part `behind`, with the part's parameters bound; to be finalized. part->node 0: no part. */
kith_status ki_filter_prepare(kith_collection *c, const ki_expr_part *part, const char *before,
                              const char *behind, sqlite3_stmt **stmt, kith_error *err);

/* Give the connection kith_collect(key), which puts keys into c->collects. Returns SQLite's code. */
int ki_filter_functions(kith_collection *c);

#endif
