/*
 * Networks: what is one, and what is inside.
 */
#include "conf/ip_range.h"
#include <arpa/inet.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static const struct { const char *text; bool ok; } texts[] = {
    { "192.0.2.1/24",       false },   /* host bits: a mistake of one kind or the other */
    { "192.0.2.0/33",       false },
    { "192.0.2.0/",         false },
    { "192.0.2",            false },
    { "::1/129",            false },
    { "",                   false },
    { "/8",                 false },
    { "[::1]",              false },
    { "0.0.0.0/0",          true  },
    { "::/0",               true  },
    { "192.0.2.0/24",       true  },
    { "192.0.2.7",          true  },
    { "2001:db8::/32",      true  },
};

static void reads_networks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct ip_range r;
        char back[IP_RANGE_TEXT_MAX];
        if (ip_range_parse(str_of(texts[i].text), &r) != texts[i].ok)
            fail_msg("%s", texts[i].text);
        if (texts[i].ok) {
            ip_range_format(&r, back);
            assert_string_equal(back, texts[i].text);
        }
    }
}

static const struct { const char *range, *ip; bool in; } members[] = {
    { "127.0.0.0/8",    "::ffff:127.0.0.1", true  },   /* an IPv4 client on an IPv6 socket */
    { "127.0.0.0/8",    "128.0.0.0",        false },
    { "192.0.2.128/25", "192.0.2.127",      false },
    { "192.0.2.128/25", "192.0.2.128",      true  },
    { "0.0.0.0/0",      "::1",              false },   /* all of IPv4 is not all */
    { "0.0.0.0/0",      "255.255.255.255",  true  },
    { "::/0",           "2001:db8::1",      true  },
    { "2001:db8::/33",  "2001:db8:8000::1", false },
    { "::1",            "::1",              true  },
};

static void knows_members(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        struct ip_range r;
        uint8_t ip[16];
        bool v6 = strchr(members[i].ip, ':') != NULL;
        assert_int_equal(inet_pton(v6 ? AF_INET6 : AF_INET, members[i].ip, ip), 1);
        assert_true(ip_range_parse(str_of(members[i].range), &r));
        if (ip_range_has(&r, ip, v6 ? 16 : 4) != members[i].in)
            fail_msg("%s in %s", members[i].ip, members[i].range);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(reads_networks), cmocka_unit_test(knows_members) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
