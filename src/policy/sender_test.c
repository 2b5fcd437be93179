/*
 * Which addresses a login may send as, as a table.
 */
#include "policy/sender.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static const struct { const char *login, *sender; bool own; } cases[] = {
    { "alice@here.example",       "alice@here.example",      true  },
    { "Alice@HERE.example",       "aLICE@here.example",      true  },
    { "alice@b\xc3\xbc" "cher.example", "alice@xn--bcher-kva.example", true },
    { "alice@here.example",       "alice@sub.here.example",  false },
    { "alice@here.example",       "alice@here.example.evil", false },
    { "alice@here.example",       "bob@here.example",        false },
    { "alice@here.example",       "\"alice@here.example\"@else.example", false },
    { "alice",                    "alice@here.example",      true  },
    { "alice",                    "alice@too.example",       true  },
    { "alice",                    "alice@else.example",      false },
    { "",                         "alice@here.example",      false },
    { "@here.example",            "alice@here.example",      false },
    { "alice",                    "info@here.example",       true  },   /* given in the list, as are the next */
    { "Bob@here.example",         "INFO@here.example",       true  },
    { "carl",                     "info@here.example",       false },
    { "carl",                     "whatever@whole.example",  true  },
    { "alice",                    "whatever@whole.example",  false },
    { "carl",                     "x@sub.whole.example",     false },
};

static void senders(void **state)
{
    static struct conf conf;
    static struct str two[] = { { "alice", 5 }, { "bob@here.example", 16 } }, one[] = { { "carl", 4 } };
    static struct conf_owners info = { two, 2 }, whole = { one, 1 };
    struct arena arena;

    (void)state;
    arena_init(&arena, 1 << 20);
    map_str_init(&conf.local_domains);
    map_str_init(&conf.sender_logins);
    assert_int_equal(map_str_put(&conf.local_domains, STR("here.example"), &conf) | map_str_put(&conf.local_domains, STR("too.example"), &conf) |
                     map_str_put(&conf.sender_logins, STR("info@here.example"), &info) |
                     map_str_put(&conf.sender_logins, STR("@whole.example"), &whole), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct address sender;
        assert_true(address_parse(&arena, str_of(cases[i].sender), &sender));
        if (sender_is_own(&conf, str_of(cases[i].login), &sender) != cases[i].own)
            fail_msg("%s as %s", cases[i].login, cases[i].sender);
    }
    map_str_free(&conf.local_domains);
    map_str_free(&conf.sender_logins);
    arena_reset(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(senders) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
