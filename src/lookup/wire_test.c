/*
 * An account over the wire: there and back, and what is none.
 */
#include "lookup/wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_there_and_back(void **state)
{
    char verifier[LOOKUP_VERIFIER_MAX];
    struct keeper_record a, back;
    struct wire_message m = { .id = 0 };

    (void)state;
    for (int scram = 0; scram < 2; scram++)
        for (size_t salt = 0; salt <= KEEPER_SALT_MAX; salt += KEEPER_SALT_MAX / 2) {
            memset(&a, 0, sizeof a);
            strcpy(a.login, "alice@here.example");
            memset(a.hash, 'h', ACCOUNTS_HASH_MAX);
            a.has_scram = scram != 0;
            a.scram.salt_n = scram ? salt : 0;
            a.scram.iterations = scram ? 4096 : 0;
            memset(a.scram.salt, 's', a.scram.salt_n);
            memset(&a.keys, scram ? 'k' : 0, sizeof a.keys);
            lookup_put_record(&a, verifier, &m);
            memset(&back, 'x', sizeof back);
            assert_true(lookup_take_record(&m, &back));
            assert_string_equal(back.login, a.login);
            assert_string_equal(back.hash, a.hash);
            assert_int_equal(back.has_scram, a.has_scram);
            assert_int_equal(back.scram.iterations, a.scram.iterations);
            assert_int_equal(back.scram.salt_n, a.scram.salt_n);
            assert_memory_equal(back.scram.salt, a.scram.salt, KEEPER_SALT_MAX);
            assert_memory_equal(&back.keys, &a.keys, sizeof a.keys);
        }
}

static void test_what_is_none(void **state)
{
    static char much[LOOKUP_VERIFIER_MAX + ACCOUNTS_HASH_MAX + KEEPER_LOGIN_MAX];
    memset(much, 'a', sizeof much);
    const struct wire_message cases[] = {
        { .parts = { { much, KEEPER_LOGIN_MAX + 1 }, STR("h"), STR("") } },
        { .parts = { STR("a\0b"), STR("h"), STR("") } },
        { .parts = { STR("a"), { much, ACCOUNTS_HASH_MAX + 1 }, STR("") } },
        { .parts = { STR("a"), STR("h"), STR("a verifier without iterations") } },
        { .number = 4096, .parts = { STR("a"), STR("h"), { much, sizeof(struct scram_keys) - 1 } } },
        { .number = 4096, .parts = { STR("a"), STR("h"), { much, LOOKUP_VERIFIER_MAX + 1 } } },
        { .number = UINT64_C(1) << 32, .parts = { STR("a"), STR("h"), { much, sizeof(struct scram_keys) } } },
    };
    struct keeper_record out;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_false(lookup_take_record(&cases[i], &out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_what_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
