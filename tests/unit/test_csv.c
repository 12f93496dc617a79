/* Tables of comma separated values: what RFC 4180 says, what spreadsheets write, and bytes from an enemy. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../apps/cli/csv.h"

static FILE *file_of(const char *bytes, size_t size)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    rewind(file);
    return file;
}

/* The records as text: fields between brackets, q before those that stood between quotes, a line a record; "!" and the fault. */
static void read_all(const char *bytes, size_t size, char separator, char *out, size_t room)
{
    csv_reader csv;
    FILE *file = file_of(bytes, size);
    size_t n = 0;
    int got;
    csv_begin(&csv, file, separator, 0);
    out[0] = 0;
    while ((got = csv_read(&csv)) == 1 && n + 1 < room) {
        for (size_t i = 0; i < csv.n; i++) {
            assert_int_equal(strlen(csv.fields[i].text), csv.fields[i].size);
            if (n < room)
                n += (size_t)snprintf(out + n, room - n, "%s[%s]", csv.fields[i].quoted ? "q" : "",
                                      csv.fields[i].text);
        }
        if (n < room) n += (size_t)snprintf(out + n, room - n, ";");
    }
    if (got == 0) assert_int_equal(csv.bytes, size);
    if (got < 0 && n < room) snprintf(out + n, room - n, "!%d %s", (int)csv.line, csv.fault);
    csv_clear(&csv);
    fclose(file);
}

static void records_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted;
        char separator;
    } cases[] = {
        {"", "", ','},
        {"\n\r\n\n", "", ','},
        {"a,b\n1,2\n", "[a][b];[1][2];", ','},
        {"a,b\r\n1,2", "[a][b];[1][2];", ','},
        {"a,,\n,,\n", "[a][][];[][][];", ','},
        {"\"a\",\"\"\n", "q[a]q[];", ','},
        {"\"a\"", "q[a];", ','},
        {"\"a, \"\"b\"\"\r\nc\"\n", "q[a, \"b\"\r\nc];", ','},
        {"\xef\xbb\xbf"
         "a,b\n",
         "[a][b];", ','},
        {"a\tb,c\n", "[a][b,c];", '\t'},
        {"a;b\n", "[a;b];", ','},
        {"a,b\n\n1,\"2\n", "[a][b];!3 a quote is never closed", ','},
        {"a,b\"c\"\n", "!1 a quote within a field that does not begin with one", ','},
        {"\"a\"b\n", "!1 text behind a closing quote", ','},
        {"a\rb\n", "!1 a carriage return within a line", ','},
        {"\"a\n\nb\",c\nd\"\n", "q[a\n\nb][c];!4 a quote within a field that does not begin with one", ','},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[256];
        read_all(cases[i].text, strlen(cases[i].text), cases[i].separator, out, sizeof out);
        assert_string_equal(out, cases[i].wanted);
    }
    char out[64];
    read_all("a\0b\n", 4, ',', out, sizeof out);
    assert_string_equal(out, "!1 a zero byte");
    read_all("\"a\0b\"\n", 6, ',', out, sizeof out);
    assert_string_equal(out, "!1 a zero byte");
    read_all("\xef\xbb"
             "a\n",
             4, ',', out, sizeof out);
    assert_string_equal(out, "!0 not UTF-8");
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "a", "a,b", "\"", "\"\"\"", "a\nb\r\n", "\t", " x ", "\xc3\xbc"};
    enum { N = sizeof texts / sizeof *texts };
    for (int quote = 0; quote < 2; quote++) {
        csv_reader csv;
        FILE *file = tmpfile();
        assert_non_null(file);
        for (size_t i = 0; i < N; i++) {
            if (i) fputc(',', file);
            assert_int_equal(csv_write(file, ',', texts[i], strlen(texts[i]), quote), 0);
        }
        rewind(file);
        csv_begin(&csv, file, ',', 0);
        assert_int_equal(csv_read(&csv), 1);
        assert_int_equal(csv.n, N);
        for (size_t i = 0; i < N; i++) assert_string_equal(csv.fields[i].text, texts[i]);
        assert_int_equal(csv_read(&csv), 0);
        csv_clear(&csv);
        fclose(file);
    }
}

/* A reader that begins where another stood reads what that would have read. */
static void reading_goes_on_anywhere(void **state)
{
    (void)state;
    static const char text[] = "\xef\xbb\xbf"
                               "a,b\n\"1\n2\",3\r\n\n4,\"5\"\n6,7";
    csv_reader whole, part;
    FILE *file = file_of(text, sizeof text - 1), *again = file_of(text, sizeof text - 1);
    csv_begin(&whole, file, ',', 0);
    for (size_t n = 0; csv_read(&whole) == 1; n++) {
        uint64_t place = whole.bytes;
        assert_int_equal(fseek(again, (long)place, SEEK_SET), 0);
        csv_begin(&part, again, ',', place);
        csv_reader ahead;
        FILE *third = file_of(text, sizeof text - 1);
        csv_begin(&ahead, third, ',', 0);
        for (size_t i = 0; i <= n; i++) assert_int_equal(csv_read(&ahead), 1);
        int got = csv_read(&part);
        assert_int_equal(got, csv_read(&ahead));
        for (size_t i = 0; got == 1 && i < part.n; i++)
            assert_string_equal(part.fields[i].text, ahead.fields[i].text);
        csv_clear(&part);
        csv_clear(&ahead);
        fclose(third);
    }
    csv_clear(&whole);
    fclose(file);
    fclose(again);
}

static void anything_is_read_or_refused(void **state)
{
    (void)state;
    static const char alphabet[] = "a,\"\n\r\t\xef\xbb\xbf";
    uint64_t random = 1;
    for (int round = 0; round < 3000; round++) {
        char text[24], out[256];
        size_t size = 0;
        for (random = random * 6364136223846793005u + 1442695040888963407u; size < sizeof text; size++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            text[size] = alphabet[(random >> 33) % sizeof alphabet]; /* its zero, too */
        }
        read_all(text, (size_t)round % sizeof text, ',', out, sizeof out);
    }
}

/* A record without end, and fields without number, are refused before memory is. */
static void records_have_an_end(void **state)
{
    (void)state;
    csv_reader csv;
    FILE *file = tmpfile();
    assert_non_null(file);
    for (size_t i = 0; i <= CSV_MAX_FIELDS; i++) fputc(',', file);
    rewind(file);
    csv_begin(&csv, file, ',', 0);
    assert_int_equal(csv_read(&csv), -1);
    assert_string_equal(csv.fault, "more than 70000 fields");
    csv_clear(&csv);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_read),         cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(reading_goes_on_anywhere), cmocka_unit_test(anything_is_read_or_refused),
        cmocka_unit_test(records_have_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
