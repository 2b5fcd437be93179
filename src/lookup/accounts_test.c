/*
 * Accounts in an SQLite file behind the keeper: right and wrong, hostile names, files that change, are locked and go. PostgreSQL is
 * asked in tests/peers/database_test.py.
 */
#include "lookup/accounts.h"
#include "run/keeper.h"
#include "run/loop.h"
#include <errno.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PENCIL "$5$rounds=1000$saltsalt$1E80wIeNUk6Tw.cvgykgsGLDhE7YCS/mO7gtCEoKze9"
#define VERIFIER "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define QUERY    "SELECT password, scram FROM accounts WHERE login = $1"
#define TABLE    "CREATE TABLE accounts (login TEXT, password TEXT, scram TEXT);"
#define ALICE    "INSERT INTO accounts VALUES ('alice', '" PENCIL "', '" VERIFIER "');"

static char folder[] = "/tmp/lookup-test-XXXXXX", path[64], other[64];

static sqlite3 *open_to_write(const char *file)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    return db;
}

static void sql(const char *file, const char *text)
{
    sqlite3 *db = open_to_write(file);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int make(const char *query, unsigned waiting_max, struct keeper_source **out, char error[256])
{
    struct conf c = { .accounts_file = "", .accounts_sqlite = path, .accounts_pgsql = "", .accounts_query = query,
                      .accounts_query_timeout_ns = 300 * NS_PER_MS, .accounts_connections_max = 2, .accounts_waiting_max = waiting_max };
    return lookup_accounts_new(&c, out, error);
}

static void start_with(const char *query)
{
    struct keeper_options options = { .salt_dir = folder };
    char error[256];
    if (make(query, 10, &options.source, error) < 0 || lookup_accounts_check(options.source, error) < 0 || keeper_start(&options, error) < 0)
        fail_msg("%s", error);
}

static enum keeper_verdict ask_bytes(struct str login, const char *password)
{
    char name[KEEPER_LOGIN_MAX + 1];
    return keeper_check_password(login, str_of(password), name);
}

static enum keeper_verdict ask(const char *login, const char *password) { return ask_bytes(str_of(login), password); }

/* -- what a query must be --------------------------------------------------------------------------------------------------------- */

static const struct { const char *query, *error; } queries[] = {
    { QUERY,                                                         NULL },
    { "SELECT password FROM accounts WHERE login = ?;\n",            NULL },
    { "SELECT * FROM accounts WHERE login = :login OR login = :login", NULL },
    { "SELECT password FROM accounts",                               "one parameter" },
    { "SELECT password FROM accounts WHERE login = ? AND login = ?", "one parameter" },
    { "SELECT scram FROM accounts WHERE login = $1",                 "no column named password" },
    { "SELECT password, 1 FROM accounts WHERE login = $1",           "none of password" },
    { "SELECT pasword FROM accounts WHERE login = $1",               "no such column" },
    { "SELEKT",                                                      "syntax error" },
    { "",                                                            "not one statement" },
    { QUERY "; DELETE FROM accounts",                                "not one statement" },
    { "DELETE FROM accounts WHERE login = $1 RETURNING password",    "only read" },
};

static void which_queries_are_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        struct keeper_source *s;
        char error[256] = "";
        assert_int_equal(make(queries[i].query, 1, &s, error), 0);
        int r = lookup_accounts_check(s, error);
        if (r != (queries[i].error == NULL ? 0 : -EINVAL) || (r < 0 && strstr(error, queries[i].error) == NULL))
            fail_msg("%s: %d %s", queries[i].query, r, error);
        keeper_source_unref(s);
    }
}

static void a_file_that_is_none(void **state)
{
    struct keeper_source *s;
    char error[256];

    (void)state;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(make(QUERY, 1, &s, error), 0);
    assert_int_equal(lookup_accounts_check(s, error), -EINVAL);
    keeper_source_unref(s);
    assert_int_equal(access(path, F_OK), -1);        /* and it was not made */
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("this is a text\n", f);
    fclose(f);
    assert_int_equal(make(QUERY, 1, &s, error), 0);
    assert_int_equal(lookup_accounts_check(s, error), -EINVAL);
    keeper_source_unref(s);
}

/* -- questions ---------------------------------------------------------------------------------------------------------------------- */

static void asks(void *arg)
{
    char name[KEEPER_LOGIN_MAX + 1], long_name[1000];

    (void)arg;
    start_with(QUERY);
    assert_int_equal(keeper_check_password(STR("ALICE"), STR("pencil"), name), KEEPER_YES);
    assert_string_equal(name, "alice");
    assert_int_equal(ask("alice", "pencil"), KEEPER_YES);
    assert_int_equal(ask("alice", "Pencil"), KEEPER_NO);
    assert_int_equal(ask("nobody", "pencil"), KEEPER_NO);
    assert_int_equal(ask("locked", "pencil"), KEEPER_NO);
    assert_int_equal(ask("empty", "pencil"), KEEPER_NO);
    static const char *const hostile[] = { "' OR 1=1 --", "alice'--", "alice\";", "x' UNION SELECT 'a", "%", "a_ice", "", "$1", "alice ", "\xff\xfe" };
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++)
        assert_int_equal(ask(hostile[i], "pencil"), KEEPER_NO);
    assert_int_equal(ask("'OR/**/1=1--", "pencil"), KEEPER_NO);
    assert_int_equal(ask_bytes(STR("alice\0"), "pencil"), KEEPER_NO);
    memset(long_name, 'a', sizeof long_name);
    assert_int_equal(ask_bytes((struct str){ long_name, sizeof long_name }, "pencil"), KEEPER_NO);
    assert_int_equal(ask_bytes((struct str){ long_name, KEEPER_LOGIN_MAX }, "pencil"), KEEPER_NO);
    assert_int_equal(ask("twice", "pencil"), KEEPER_TROUBLE);        /* which of them? */
    assert_int_equal(ask("broken", "pencil"), KEEPER_TROUBLE);
    assert_int_equal(ask("alice", "pencil"), KEEPER_YES);            /* that has hurt nobody else */
    sql(path, "DELETE FROM accounts WHERE login = 'alice'");
    assert_int_equal(ask("alice", "pencil"), KEEPER_NO);             /* at once, remembered or not */
    keeper_stop();
}

static void right_and_wrong(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, asks, NULL), 0);
}

static void asks_for_scram(void *arg)
{
    struct keeper_scram real, invented, again;
    uint8_t proof[DIGEST_SHA256_LEN], signature[DIGEST_SHA256_LEN], expected[DIGEST_SHA256_LEN];
    char name[KEEPER_LOGIN_MAX + 1];

    (void)arg;
    start_with(QUERY);
    assert_true(keeper_has_scram());
    assert_int_equal(keeper_scram_parameters(STR("alice"), &real), KEEPER_YES);
    scram_prove(STR("pencil"), (struct str){ (const char *)real.salt, real.salt_n }, real.iterations, STR("m"), proof, expected);
    assert_int_equal(keeper_scram_check(STR("alice"), STR("m"), proof, signature, name), KEEPER_YES);
    assert_memory_equal(signature, expected, sizeof signature);
    assert_int_equal(keeper_scram_check(STR("alice"), STR("n"), proof, signature, name), KEEPER_NO);
    assert_int_equal(keeper_scram_parameters(STR("nobody"), &invented), KEEPER_YES);
    assert_int_equal(invented.iterations, 4096);     /* as those that were seen */
    keeper_stop();
    start_with("SELECT password FROM accounts WHERE login = $1");
    assert_false(keeper_has_scram());
    keeper_stop();
    start_with(QUERY);                               /* after a start the same */
    assert_int_equal(keeper_scram_parameters(STR("alice"), &real), KEEPER_YES);
    assert_int_equal(keeper_scram_parameters(STR("Nobody"), &again), KEEPER_YES);
    assert_memory_equal(&again, &invented, sizeof again);
    keeper_stop();
}

static void scram(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, asks_for_scram, NULL), 0);
}

/* -- trouble -------------------------------------------------------------------------------------------------------------------------- */

static void meets_changes(void *arg)
{
    (void)arg;
    start_with(QUERY);
    assert_int_equal(ask("alice", "pencil"), KEEPER_YES);
    assert_int_equal(unlink(path), 0);                               /* gone: nobody knows, and that is no "no" */
    assert_int_equal(ask("alice", "pencil"), KEEPER_TROUBLE);
    sql(other, TABLE "INSERT INTO accounts VALUES ('bob', '" PENCIL "', NULL)");
    assert_int_equal(rename(other, path), 0);
    while (ask("bob", "pencil") != KEEPER_YES)                       /* the next try comes by itself */
        assert_int_equal(task_sleep(20 * NS_PER_MS), 0);
    assert_int_equal(ask("alice", "pencil"), KEEPER_NO);
    sql(other, TABLE ALICE);
    assert_int_equal(rename(other, path), 0);                        /* another file in its place: seen at once */
    assert_int_equal(ask("alice", "pencil"), KEEPER_YES);
    assert_int_equal(ask("bob", "pencil"), KEEPER_NO);
    sql(path, "ALTER TABLE accounts RENAME TO moved");
    assert_int_equal(ask("alice", "pencil"), KEEPER_TROUBLE);
    sql(path, "ALTER TABLE moved RENAME TO accounts");
    while (ask("alice", "pencil") != KEEPER_YES)
        assert_int_equal(task_sleep(20 * NS_PER_MS), 0);
    keeper_stop();
}

static void files_that_change(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, meets_changes, NULL), 0);
}

static void meets_a_lock(void *arg)
{
    sqlite3 *db = open_to_write(path);

    (void)arg;
    start_with(QUERY);
    assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    int64_t before = clock_mono_ns();
    assert_int_equal(ask("alice", "pencil"), KEEPER_TROUBLE);
    assert_true(clock_mono_ns() - before < 5 * NS_PER_S);
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    while (ask("alice", "pencil") != KEEPER_YES)
        assert_int_equal(task_sleep(20 * NS_PER_MS), 0);
    keeper_stop();
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    start_with("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT password FROM accounts, n WHERE login = $1 AND i < 0");
    before = clock_mono_ns();
    assert_int_equal(ask("alice", "pencil"), KEEPER_TROUBLE);        /* a query without end */
    assert_true(clock_mono_ns() - before < 5 * NS_PER_S);
    keeper_stop();
}

static void what_takes_too_long(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, meets_a_lock, NULL), 0);
}

static unsigned answered[4], answers;

static void asks_once(void *arg)
{
    (void)arg;
    answered[ask("alice", "wrong")]++;
    answers++;
}

static void floods(void *arg)
{
    struct keeper_options options = { .checks_waiting_max = 100 };
    sqlite3 *db = open_to_write(path);
    char error[256];

    (void)arg;
    assert_int_equal(make(QUERY, 3, &options.source, error), 0);
    assert_int_equal(keeper_start(&options, error), 0);
    assert_int_equal(ask("alice", "pencil"), KEEPER_YES);
    assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    for (int i = 0; i < 20; i++)
        assert_int_equal(task_start("asks", asks_once, NULL), 0);
    while (answers < 20)
        assert_int_equal(task_sleep(10 * NS_PER_MS), 0);
    assert_true(answered[KEEPER_BUSY] >= 15 && answered[KEEPER_TROUBLE] >= 3 && answered[KEEPER_NO] == 0);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    keeper_stop();
}

static void a_flood_is_told_so(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, floods, NULL), 0);
}

static int make_file(void **state)
{
    (void)state;
    (void)unlink(path);
    sql(path, TABLE ALICE "INSERT INTO accounts VALUES ('locked', '!" PENCIL "', NULL), ('empty', NULL, NULL), ('twice', '" PENCIL "', NULL),"
                          " ('twice', '" PENCIL "', NULL), ('broken', '" PENCIL "', 'no verifier')");
    return 0;
}

static int make_folder(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/db", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    return 0;
}

static int remove_folder(void **state)
{
    char salt[64];

    (void)state;
    snprintf(salt, sizeof salt, "%s/scram-salt", folder);
    (void)unlink(salt);
    (void)unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(which_queries_are_taken, make_file), cmocka_unit_test_setup(a_file_that_is_none, make_file),
        cmocka_unit_test_setup(right_and_wrong, make_file),         cmocka_unit_test_setup(scram, make_file),
        cmocka_unit_test_setup(files_that_change, make_file),       cmocka_unit_test_setup(what_takes_too_long, make_file),
        cmocka_unit_test_setup(a_flood_is_told_so, make_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
