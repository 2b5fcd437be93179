/*
 * Rows as accounts: what a table may say, and what it may not.
 */
#include "lookup/row.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define VERIFIER "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static const struct { const char *names[LOOKUP_COLUMNS_MAX + 2]; const char *error; } queries[] = {
    { { NULL },                                             "no column named password" },
    { { "scram", NULL },                                    "no column named password" },
    { { "password", "PASSWORD", NULL },                     "a column twice" },
    { { "password", "enabeled", NULL },                     "none of password" },
    { { "password", "", NULL },                             "none of password" },
    { { "password", "scram", "enabled", "login", "x", NULL }, "none of password" },
    { { "password", NULL },                                 NULL },
    { { "login", "Enabled", "scram", "password", NULL },    NULL },
};

static void which_queries(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        unsigned n = 0;
        bool has_scram = false;
        while (queries[i].names[n] != NULL)
            n++;
        const char *why = row_check(queries[i].names, n, &has_scram);
        assert_int_equal(why == NULL, queries[i].error == NULL);
        if (why != NULL)
            assert_non_null(strstr(why, queries[i].error));
        else
            assert_int_equal(has_scram, n == 4);
    }
}

static char long_text[1024];             /* of x */

static const struct { const char *password, *scram, *enabled, *login; const char *error, *hash, *name; } rows[] = {
    { "$6$x",    NULL,     "t",    NULL,       "no name of a login", NULL, NULL },     /* the column is there, so it must say */
    { "$6$x",    NULL,     "t",    "a b",      "no name of a login", NULL, NULL },
    { "$6$x",    NULL,     "t",    long_text,  "no name of a login", NULL, NULL },
    { long_text, NULL,     "t",    "Alice",    "too long", NULL, NULL },
    { "$6$x",    "SCRAM",  "t",    "Alice",    "no SCRAM-SHA-256 verifier", NULL, NULL },
    { NULL,      NULL,     "t",    "Alice",    NULL, "", "Alice" },
    { "$6$x",    VERIFIER, "TRUE", "Alice",    NULL, "$6$x", "Alice" },
    { "$6$x",    "",       "1",    "Alice",    NULL, "$6$x", "Alice" },
    { "$6$x",    NULL,     "0",    "Alice",    NULL, "", "Alice" },
    { "$6$x",    NULL,     "f",    "Alice",    NULL, "", "Alice" },
    { "$6$x",    NULL,     NULL,   "Alice",    NULL, "", "Alice" },
    { "$6$x",    NULL,     "2",    "Alice",    NULL, "", "Alice" },
};

static struct str value(const char *z) { return z == NULL ? (struct str){ NULL, 0 } : str_of(z); }

static void which_rows(void **state)
{
    (void)state;
    memset(long_text, 'x', sizeof long_text - 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct row r = { .count = 4, .names = { "password", "scram", "enabled", "login" } };
        struct keeper_record a;
        r.values[0] = value(rows[i].password);
        r.values[1] = value(rows[i].scram);
        r.values[2] = value(rows[i].enabled);
        r.values[3] = value(rows[i].login);
        const char *why = row_read(&r, "asked", &a);
        if (rows[i].error != NULL) {
            assert_non_null(why);
            assert_non_null(strstr(why, rows[i].error));
            continue;
        }
        assert_null(why);
        assert_string_equal(a.hash, rows[i].hash);
        assert_string_equal(a.login, rows[i].name);
        assert_int_equal(a.has_scram, rows[i].scram != NULL && rows[i].scram[0] != '\0');
    }
}

static void a_short_row(void **state)
{
    struct row r = { .count = 1, .names = { "password" }, .values = { STR("$1$\0x") } };
    struct keeper_record a;

    (void)state;
    assert_non_null(row_read(&r, "asked", &a));      /* a NUL in a hash would end it early */
    r.values[0] = STR("$1$x");
    assert_null(row_read(&r, "asked", &a));
    assert_string_equal(a.login, "asked");
    r.names[0] = "scram";                            /* somebody has changed the table under SELECT * */
    assert_non_null(row_read(&r, "asked", &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(which_queries), cmocka_unit_test(which_rows), cmocka_unit_test(a_short_row) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
