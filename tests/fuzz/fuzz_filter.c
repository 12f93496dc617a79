/* Filters: whatever the text, it is a tree or KITH_INVALID with a place; a tree becomes SQL that SQLite prepares and runs,
 * over payloads that are whole and over the text itself as a payload, without reading beyond its end. */
#include "fuzz.h"

#include <string.h>

#include "engine/expr.h"

static const char *const payloads[] = {
    "{}", "{\"a\":1,\"b\":{\"c\":[1,\"x\",null,true,2.5]},\"s\":\"q\\\"\\u0001\"}",
    "{\"a\":[[],{}],\"tags\":[\"a\",\"b\"],\"year\":1990}"};

static sqlite3 *database(void)
{
    static sqlite3 *db;
    if (!db) {
        FUZZ_ASSERT(sqlite3_open(":memory:", &db) == SQLITE_OK);
        FUZZ_ASSERT(ki_payload_functions(db) == SQLITE_OK);
    }
    return db;
}

static void run(const ki_expr_part *part, const ki_buffer *sql, const char *payload, size_t size, int whole)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(database(), (const char *)sql->data, (int)sql->size, &stmt, NULL);
    FUZZ_ASSERT(rc == SQLITE_OK);
    FUZZ_ASSERT(ki_expr_bind(part, stmt) == SQLITE_OK);
    FUZZ_ASSERT(sqlite3_bind_text64(stmt, 32766, payload, size, SQLITE_TRANSIENT, SQLITE_UTF8) == SQLITE_OK);
    rc = sqlite3_step(stmt);
    FUZZ_ASSERT(rc == SQLITE_ROW || rc == SQLITE_DONE || (!whole && rc == SQLITE_ERROR));
    sqlite3_finalize(stmt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_allocator allocator;
    kith_error err;
    ki_expr expr;
    ki_buffer sql = {0};
    fuzz_allocator_init(&allocator, size * 16); /* a node of 40 bytes may stand for a character */
    char *text = malloc(size + 1);
    FUZZ_ASSERT(text);
    if (size > 0) memcpy(text, data, size);
    text[size] = 0;
    kith_status status = ki_expr_parse(text, &allocator.base, &expr, &err);
    FUZZ_ASSERT(status == KITH_OK || (status == KITH_INVALID && strncmp(err.message, "filter: ", 8) == 0));
    if (status == KITH_OK) {
        static const char before[] = "SELECT 1 FROM (SELECT 7 AS key, ?32766 AS payload) WHERE ";
        FUZZ_ASSERT(ki_buffer_append(&sql, before, sizeof before - 1, &allocator.base, &err) == KITH_OK);
        ki_expr_part part = {.expr = &expr, .node = expr.root};
        FUZZ_ASSERT(ki_expr_sql(&part, &sql, &err) == KITH_OK);
        for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++)
            run(&part, &sql, payloads[i], strlen(payloads[i]), 1);
        run(&part, &sql, text, size, 0);
        /* Every cut of a payload: what is not whole must not be read beyond. */
        for (size_t n = 0; n < 6; n++) run(&part, &sql, payloads[1], n * 8 + 3, 0);
    }
    ki_buffer_clear(&sql, &allocator.base);
    ki_expr_clear(&expr);
    free(text);
    FUZZ_ASSERT(allocator.live == 0);
    return 0;
}
