/*
 * The keeper's accounts: how the file reads, what is right and what is not, what an attacker gets to see, and a file that changes.
 */
#include "base/cleanup.h"
#include "run/file.h"
#include "run/keeper_internal.h"
#include "run/sim.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PENCIL "$5$rounds=1000$saltsalt$1E80wIeNUk6Tw.cvgykgsGLDhE7YCS/mO7gtCEoKze9"
#define VERIFIER "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

/* -- text ----------------------------------------------------------------------------------------------------------------- */

static const struct { const char *text; const char *error; } lines[] = {
    { "",                                   NULL },
    { "# only a comment\n\n",               NULL },
    { "alice@here.example:" PENCIL,         NULL },
    { "alice:" PENCIL "\r\n",               NULL },
    { "alice:!:" VERIFIER "\n",             NULL },
    { "!salt:abc\nalice:x\n",               NULL },
    { "alice\n",                            "a line is login:hash" },
    { ":x\n",                               "no name of a login" },
    { "a b:x\n",                            "no name of a login" },
    { "!boss:x\n",                          "no name of a login" },
    { "alice:\n",                           "hash is missing" },
    { "alice:x\r\r\n",                      "a control character" },
    { "alice:x\t\n",                        "a control character" },
    { "alice:x\nALICE:y\n",                 "f:2: that login stands here twice" },
    { "alice:x:\n",                         "no SCRAM-SHA-256 verifier" },
    { "alice:x:SCRAM-SHA-1$4096:aa==$a:b",  "no SCRAM-SHA-256 verifier" },
    { "alice:x:SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
                                            "no SCRAM-SHA-256 verifier" },
    { "alice:x:SCRAM-SHA-256$4096:$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
                                            "no SCRAM-SHA-256 verifier" },
    { "alice:x:" VERIFIER "=\n",            "no SCRAM-SHA-256 verifier" },
};

static void how_lines_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct accounts *a = NULL;
        char error[256] = "";
        int r = accounts_parse(str_of(lines[i].text), "f", &a, error);
        if (lines[i].error == NULL)
            assert_int_equal(r, 0);
        else if (r != -EINVAL || strstr(error, lines[i].error) == NULL)
            fail_msg("%s: %d, %s", lines[i].text, r, error);
        accounts_free(a);
    }
}

static void what_is_found(void **state)
{
    static const char text[] = "!salt:k\nAlice@Here.example:" PENCIL ":" VERIFIER "\nbob:x\n";
    struct accounts *a;
    char error[256];

    (void)state;
    assert_int_equal(accounts_parse(str_of(text), "f", &a, error), 0);
    assert_int_equal(a->count, 2);
    assert_int_equal(a->scram_count, 1);
    const struct account *alice = accounts_find(a, STR("aLICE@here.EXAMPLE"));
    assert_non_null(alice);
    assert_string_equal(alice->login, "Alice@Here.example");
    assert_int_equal(alice->scram.iterations, 4096);
    assert_int_equal(alice->scram.salt_n, 16);
    assert_null(accounts_find(a, STR("carol")));
    assert_null(accounts_find(a, STR("")));
    accounts_free(a);
}

static void what_changes(void **state)
{
    static const struct { const char *text, *login, *line, *out; bool found; } cases[] = {
        { "",                        "bob", "bob:1", "bob:1\n",                  false },
        { "# x\nal:0",               "bob", "bob:1", "# x\nal:0\nbob:1\n",       false },
        { "# x\nBob:0\nal:0\n",      "bob", "bob:1", "# x\nbob:1\nal:0\n",       true  },
        { "bob:0\nal:0\n",           "bob", "",      "al:0\n",                   true  },
        { "al:0\n",                  "bob", "",      "al:0\n",                   false },
        { "bobby:0\n",               "bob", "",      "bobby:0\n",                false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char bytes[256];
        struct buf out;
        buf_init_fixed(&out, bytes, sizeof bytes);
        assert_int_equal(accounts_change(&out, str_of(cases[i].text), str_of(cases[i].login), str_of(cases[i].line)), cases[i].found);
        assert_true(str_eq(buf_str(&out), str_of(cases[i].out)));
    }
}

/* -- crypt(5) ---------------------------------------------------------------------------------------------------------------- */

static void every_kind_of_hash(void **state)
{
    static const char *const hashes[] = {
        "$1$abcdefgh$Gqo0dW5ZZwRMuhky6A93q0", PENCIL,
        "$6$rounds=1000$saltsalt$bbY.T.ZpN43KapLdmlSbP6MmxBlkMSbhrh.Y1rmY0fYaRO/t.4sKqUiU.Z8byKf8Oa1yagMn/0fncuHSYrb9h.",
        "$2b$04$abcdefghijklmnopqrstuu/FyAyuZSl3DbPdvio4KrIBdz2k2yhV2", "abJ32bJMdTsnY",
        "$y$j75$saltsaltsalt$4Cu8tzilZXyFLHCIGnuzEv2fKGdQmOqyPZfhuC.NiaA", "$7$4/..../....saltsalt$Z5mVrF.Gk7igbkKtOGHXFOBqAY.soga/.H4.DZL8wo7",
        "$gy$j75$saltsaltsalt$VqUQkwMTyf0ThamjWv8v3BE4Iq2MJDBOkYpMt7oGy/3",
    };

    (void)state;
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++) {
        assert_true(keeper_crypt_knows(hashes[i]));
        assert_true(keeper_crypt_check(STR("pencil"), hashes[i]));
        assert_false(keeper_crypt_check(STR("Pencil"), hashes[i]));
        assert_false(keeper_crypt_check(STR(""), hashes[i]));
        assert_false(keeper_crypt_check(STR("pencil\0x"), hashes[i]));
    }
    static const char *const none[] = { "*", "!", "!$1$abcdefgh$Gqo0dW5ZZwRMuhky6A93q0", "x", "pencil", "$9$xx", "*0", "*1" };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_false(keeper_crypt_knows(none[i]) && strcmp(none[i], "pencil") != 0);
        assert_false(keeper_crypt_check(STR("pencil"), none[i]));
    }
}

static void a_new_line(void **state)
{
    CLEANUP_BUF struct buf out;
    struct accounts *a;
    char error[256], long_password[KEEPER_PASSWORD_MAX + 1];

    (void)state;
    buf_init(&out, 4096);
    accounts_put_salt_key(&out);
    buf_put_char(&out, '\n');
    assert_int_equal(accounts_put_login(&out, STR("alice"), STR("pencil"), true), 0);
    assert_int_equal(accounts_parse(buf_str(&out), "f", &a, error), 0);
    const struct account *alice = accounts_find(a, STR("alice"));
    assert_true(strncmp(alice->hash, "$y$", 3) == 0);
    assert_true(keeper_crypt_check(STR("pencil"), alice->hash));
    assert_int_equal(alice->scram.iterations, ACCOUNTS_ITERATIONS);
    struct scram_keys keys;
    scram_derive(STR("pencil"), (struct str){ (const char *)alice->scram.salt, alice->scram.salt_n }, alice->scram.iterations, &keys);
    assert_memory_equal(&keys, &alice->keys, sizeof keys);
    accounts_free(a);
    memset(long_password, 'x', sizeof long_password);
    assert_int_equal(accounts_put_login(&out, STR("bob"), STR(""), false), -EINVAL);
    assert_int_equal(accounts_put_login(&out, STR("bob"), STR("a\0b"), false), -EINVAL);
    assert_int_equal(accounts_put_login(&out, STR("bob"), (struct str){ long_password, sizeof long_password }, false), -EINVAL);
    assert_int_equal(accounts_put_login(&out, STR("bob"), (struct str){ long_password, sizeof long_password - 1 }, false), 0);
}

/* -- the keeper ------------------------------------------------------------------------------------------------------------- */

static void put_file(const char *text)
{
    CLEANUP_FILE int root = file_open_dir("/");
    CLEANUP_FILE int file = file_open_at(root, "accounts", FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);
    assert_true(root >= 0 && file >= 0);
    assert_int_equal(file_write_at(file, text, strlen(text), 0), 0);
}

static void start(unsigned waiting_max)
{
    struct keeper_options options = { .accounts_file = "/accounts", .checks_at_a_time = 1, .checks_waiting_max = waiting_max };
    char error[256];
    if (keeper_start(&options, error) < 0)
        fail_msg("%s", error);
}

static void run(task_fn *fn)
{
    sim_begin(&(struct sim_options){ .seed = 5 });
    assert_int_equal(sim_run(fn, NULL), 0);
    sim_end();
}

static enum keeper_verdict ask(const char *login, const char *password)
{
    char name[KEEPER_LOGIN_MAX + 1];
    return keeper_check_password(str_of(login), str_of(password), name);
}

static void asks_many(void *arg)
{
    char name[KEEPER_LOGIN_MAX + 1] = "", long_password[KEEPER_PASSWORD_MAX + 2];

    (void)arg;
    put_file("alice:" PENCIL "\nlocked:!" PENCIL "\n");
    start(10);
    assert_int_equal(keeper_check_password(STR("Alice"), STR("pencil"), name), KEEPER_YES);
    assert_string_equal(name, "alice");
    assert_int_equal(ask("alice", "pencil"), KEEPER_YES);            /* remembered */
    assert_int_equal(ask("alice", "Pencil"), KEEPER_NO);
    assert_int_equal(ask("alice", ""), KEEPER_NO);
    assert_int_equal(ask("nobody", "pencil"), KEEPER_NO);
    assert_int_equal(ask("", "pencil"), KEEPER_NO);
    assert_int_equal(ask("locked", "pencil"), KEEPER_NO);
    memset(long_password, 'x', sizeof long_password);
    long_password[sizeof long_password - 1] = '\0';
    assert_int_equal(ask("alice", long_password), KEEPER_NO);
    assert_false(keeper_has_scram());
    keeper_stop();
    assert_int_equal(ask("alice", "pencil"), KEEPER_TROUBLE);
}

static void right_and_wrong(void **state)
{
    (void)state;
    run(asks_many);
}

/* Of processor time, the least of a few tries: what others do on the machine only adds to it. */
static clock_t time_of(const char *login)
{
    clock_t least = 0;

    for (size_t i = 0; i < 3; i++) {
        clock_t began = clock();
        assert_int_equal(ask(login, "no"), KEEPER_NO);
        clock_t took = clock() - began;
        least = i == 0 || took < least ? took : least;
    }
    return least;
}

/* The hash takes a tenth of a second, much longer than one of the preferred kind; a login that is not there, or has no password, as much. */
static void asks_for_nobody(void *arg)
{
    static const char *const others[] = { "nobody", "", "locked" };

    (void)arg;
    put_file("alice:$5$rounds=500000$saltsalt$1E80wIeNUk6Tw.cvgykgsGLDhE7YCS/mO7gtCEoKze9\n"
             "locked:!$5$rounds=500000$saltsalt$1E80wIeNUk6Tw.cvgykgsGLDhE7YCS/mO7gtCEoKze9\n");
    start(10);
    clock_t known = time_of("alice");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_in_range(time_of(others[i]), known / 3, known * 3);
    keeper_stop();
}

static void nobody_takes_as_long(void **state)
{
    (void)state;
    run(asks_for_nobody);
}

static void changes_the_file(void *arg)
{
    (void)arg;
    put_file("alice:" PENCIL "\n");
    start(10);
    assert_int_equal(ask("alice", "pencil"), KEEPER_YES);
    assert_int_equal(task_sleep(2 * NS_PER_S), 0);
    put_file("alice:$1$abcdefgh$iDEfJhzmrBxxxxxxxxxxx/\nbob:" PENCIL "\n");
    assert_int_equal(ask("alice", "pencil"), KEEPER_NO);             /* remembered under the old hash only */
    assert_int_equal(ask("bob", "pencil"), KEEPER_YES);
    assert_int_equal(task_sleep(2 * NS_PER_S), 0);
    put_file("this is no accounts file\n");
    assert_int_equal(ask("bob", "pencil"), KEEPER_YES);              /* what was known stays in force */
    assert_int_equal(task_sleep(2 * NS_PER_S), 0);
    CLEANUP_FILE int root = file_open_dir("/");
    assert_int_equal(file_unlink_at(root, "accounts"), 0);
    assert_int_equal(ask("bob", "pencil"), KEEPER_YES);
    assert_int_equal(task_sleep(2 * NS_PER_S), 0);
    put_file("bob:!\n");
    assert_int_equal(ask("bob", "pencil"), KEEPER_NO);
    char error[256];
    assert_int_equal(keeper_reload(&(struct keeper_options){ .accounts_file = "/none" }, error), -ENOENT);
    assert_int_equal(ask("bob", "pencil"), KEEPER_NO);
    assert_int_equal(keeper_reload(&(struct keeper_options){ .accounts_file = "" }, error), 0);
    assert_int_equal(ask("bob", "pencil"), KEEPER_TROUBLE);
    keeper_stop();
}

static void a_file_that_changes(void **state)
{
    (void)state;
    run(changes_the_file);
}

static unsigned answers[4];

static void asks_wrongly(void *arg)
{
    (void)arg;
    answers[ask("alice", "wrong")]++;
}

static void floods(void *arg)
{
    (void)arg;
    put_file("alice:" PENCIL "\n");
    start(3);
    assert_int_equal(ask("alice", "pencil"), KEEPER_YES);
    memset(answers, 0, sizeof answers);
    for (int i = 0; i < 10; i++)
        assert_int_equal(task_start("asks", asks_wrongly, NULL), 0);
    while (answers[KEEPER_NO] + answers[KEEPER_BUSY] < 10)
        assert_int_equal(task_sleep(NS_PER_MS), 0);
    assert_true(answers[KEEPER_BUSY] >= 5 && answers[KEEPER_NO] >= 3);
    keeper_stop();
}

static void a_flood_is_told_so(void **state)
{
    (void)state;
    run(floods);
}

static void asks_for_scram(void *arg)
{
    struct keeper_scram real, invented, again, other;
    uint8_t proof[DIGEST_SHA256_LEN], signature[DIGEST_SHA256_LEN], expected[DIGEST_SHA256_LEN];
    char name[KEEPER_LOGIN_MAX + 1];

    (void)arg;
    put_file("!salt:secret\nuser:" PENCIL ":" VERIFIER "\nbob:" PENCIL "\nlocked:!:" VERIFIER "\n");
    start(10);
    assert_true(keeper_has_scram());
    assert_int_equal(keeper_scram_parameters(STR("USER"), &real), KEEPER_YES);
    scram_prove(STR("pencil"), (struct str){ (const char *)real.salt, real.salt_n }, real.iterations, STR("m"), proof, expected);
    assert_int_equal(keeper_scram_check(STR("user"), STR("m"), proof, signature, name), KEEPER_YES);
    assert_memory_equal(signature, expected, sizeof signature);
    assert_string_equal(name, "user");
    assert_int_equal(keeper_scram_check(STR("user"), STR("n"), proof, signature, name), KEEPER_NO);
    assert_int_equal(keeper_scram_check(STR("locked"), STR("m"), proof, signature, name), KEEPER_NO);

    assert_int_equal(keeper_scram_parameters(STR("nobody"), &invented), KEEPER_YES);
    assert_int_equal(invented.iterations, real.iterations);
    assert_int_equal(invented.salt_n, real.salt_n);
    assert_memory_not_equal(invented.salt, real.salt, real.salt_n);
    scram_prove(STR("pencil"), (struct str){ (const char *)invented.salt, 16 }, 4096, STR("m"), proof, expected);
    assert_int_equal(keeper_scram_check(STR("nobody"), STR("m"), proof, signature, name), KEEPER_NO);
    assert_int_equal(keeper_scram_parameters(STR("bob"), &other), KEEPER_YES);       /* he has none: as if he were not there */
    assert_memory_not_equal(invented.salt, other.salt, 16);

    keeper_stop();                                                                    /* stable: after a start too */
    start(10);
    assert_int_equal(keeper_scram_parameters(STR("NoBody"), &again), KEEPER_YES);
    assert_memory_equal(&again, &invented, sizeof again);
    keeper_stop();
}

static void scram(void **state)
{
    (void)state;
    run(asks_for_scram);
}

static void reads_credentials(void *arg)
{
    char password[KEEPER_PASSWORD_MAX + 1];

    (void)arg;
    put_file("s3cret word\r\nsecond line\n");
    assert_int_equal(keeper_credential("/accounts", password), 0);
    assert_string_equal(password, "s3cret word");
    put_file("\nsecond\n");
    assert_int_equal(keeper_credential("/accounts", password), -EINVAL);
    assert_int_equal(keeper_credential("/none", password), -ENOENT);
}

static void credentials(void **state)
{
    (void)state;
    run(reads_credentials);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(how_lines_read),      cmocka_unit_test(what_is_found),   cmocka_unit_test(what_changes),
        cmocka_unit_test(every_kind_of_hash),  cmocka_unit_test(a_new_line),      cmocka_unit_test(right_and_wrong),
        cmocka_unit_test(a_file_that_changes), cmocka_unit_test(a_flood_is_told_so), cmocka_unit_test(scram),
        cmocka_unit_test(credentials),         cmocka_unit_test(nobody_takes_as_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
