/*
 * Who may send to whom, as a table; the ways in which relays were opened first.
 */
#include "policy/access.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static struct arena arena;
static struct conf  conf;

#define YES ((void *)&conf)

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    conf.recipient_delimiter = "+-";
    map_str_init(&conf.local_domains);
    map_str_init(&conf.virtual_domains);
    map_str_init(&conf.relay_domains);
    map_str_init(&conf.users);
    map_str_init(&conf.relay_recipients);
    int r = map_str_put(&conf.local_domains, STR("here.example"), YES) | map_str_put(&conf.local_domains, STR("too.example"), YES) |
            map_str_put(&conf.relay_domains, STR("backup.example"), YES) | map_str_put(&conf.relay_domains, STR("all.example"), YES) |
            map_str_put(&conf.virtual_domains, STR("list.example"), YES) |
            map_str_put(&conf.users, STR("bob"), YES) | map_str_put(&conf.users, STR("dave-x"), YES) | map_str_put(&conf.users, STR("eve@too.example"), YES) |
            map_str_put(&conf.relay_recipients, STR("carl@backup.example"), YES) |
            map_str_put(&conf.relay_recipients, STR("@all.example"), YES);
    return r;
}

static int tear_down(void **state)
{
    (void)state;
    map_str_free(&conf.local_domains);
    map_str_free(&conf.virtual_domains);
    map_str_free(&conf.relay_domains);
    map_str_free(&conf.users);
    map_str_free(&conf.relay_recipients);
    arena_reset(&arena);
    return 0;
}

#define L  ACCESS_LOCAL
#define MB ACCESS_LOCAL_IF_MAILBOX
#define R  ACCESS_RELAY
#define U  ACCESS_UNKNOWN_USER
#define D  ACCESS_RELAY_DENIED

// clang-format off
static const struct { const char *rcpt; enum access stranger, trusted, without_list; } cases[] = {
    /* at RCPT                              stranger  trusted  stranger, no users_file */
    { "victim%else.example@here.example",   U,        U,       U  },
    { "else.example!victim@here.example",   U,        U,       U  },
    { "\"victim@else.example\"@here.example", U,      U,       U  },
    { "victim%else.example@all.example",    U,        U,       U  },
    { "x@[127.0.0.1]",                      D,        R,       D  },   /* a literal is nobody's local domain */
    { "x@sub.here.example",                 D,        R,       D  },
    { "x@here.example.evil",                D,        R,       D  },
    { "postmaster@else.example",            D,        R,       D  },   /* only at the domains we serve */
    { "PostMaster@here.example",            L,        L,       L  },
    { "postmaster",                         L,        L,       L  },
    { "bob@HERE.example",                   L,        L,       MB },
    { "BOB@too.example",                    L,        L,       MB },
    { "\"bob\"@here.example",               L,        L,       MB },
    { "eve@too.example",                    L,        L,       MB },
    { "eve@here.example",                   U,        U,       MB },
    { "bob+x@here.example",                 L,        L,       MB },
    { "Bob-x+y@here.example",               L,        L,       MB },
    { "+bob@here.example",                  U,        U,       MB },
    { "dave@here.example",                  U,        U,       MB },
    { "dave-x@here.example",                L,        L,       MB },   /* a name with a delimiter in it, not a detail */
    { "dave-x+y@here.example",              U,        U,       MB },   /* the first delimiter counts */
    { "v%else.example+x@here.example",      U,        U,       U  },
    { "bob@list.example",                   U,        U,       U  },   /* aliases only */
    { "postmaster@list.example",            L,        L,       L  },
    { "carl+x@backup.example",              U,        U,       U  },   /* what the primary parts is not ours to know */
    { "carl@backup.example",                R,        R,       R  },
    { "Postmaster@backup.example",          R,        R,       R  },
    { "nobody@backup.example",              U,        U,       U  },   /* a trusted client gets the same truth */
    { "anyone@all.example",                 R,        R,       R  },
    { "x@else.example",                     D,        R,       D  },
};
// clang-format on

static void decides(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct address a;
        if (!address_parse_with(&arena, str_of(cases[i].rcpt), ADDRESS_POSTMASTER | ADDRESS_BARE, &a))
            fail_msg("cannot read %s", cases[i].rcpt);
        conf.have_users_file = true;
        if (access_rcpt(&conf, false, &a) != cases[i].stranger || access_rcpt(&conf, true, &a) != cases[i].trusted)
            fail_msg("%s: %d %d", cases[i].rcpt, access_rcpt(&conf, false, &a), access_rcpt(&conf, true, &a));
        conf.have_users_file = false;
        if (access_rcpt(&conf, false, &a) != cases[i].without_list)
            fail_msg("%s: %d", cases[i].rcpt, access_rcpt(&conf, false, &a));
    }
}

static void trusts_networks(void **state)
{
    struct ip_range trusted[2];
    static const uint8_t in[4] = { 10, 1, 2, 3 }, out[4] = { 11, 1, 2, 3 }, loop[16] = { [15] = 1 };

    (void)state;
    assert_true(ip_range_parse(STR("10.0.0.0/8"), &trusted[0]));
    assert_true(ip_range_parse(STR("::1"), &trusted[1]));
    conf.trusted_networks = trusted;
    conf.trusted_network_count = 2;
    assert_true(access_is_trusted(&conf, in, 4));
    assert_false(access_is_trusted(&conf, out, 4));
    assert_true(access_is_trusted(&conf, loop, 16));
    conf.trusted_network_count = 0;
    assert_false(access_is_trusted(&conf, in, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(decides), cmocka_unit_test(trusts_networks) };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
