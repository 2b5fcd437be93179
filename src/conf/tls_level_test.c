/*
 * Levels of TLS by domain: which of several entries is meant.
 */
#include "conf/tls_level.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static struct conf *conf;

static void say(const char *name, enum conf_client_tls level)
{
    enum conf_client_tls *value = arena_alloc(&conf->arena, sizeof *value);
    char words[128];
    struct buf why;
    struct str key;

    buf_init_fixed(&why, words, sizeof words);
    assert_non_null(value);
    *value = level;
    assert_true(tls_level_key(conf, str_of(name), &key, &why));
    assert_int_equal(map_str_put(&conf->outbound_tls_by_domain, key, value), 0);
}

static int begin(void **state)
{
    (void)state;
    conf = calloc(1, sizeof *conf);
    assert_non_null(conf);
    arena_init(&conf->arena, 1 << 20);
    map_str_init(&conf->outbound_tls_by_domain);
    conf->outbound_tls = CONF_CLIENT_TLS_MAY;
    return 0;
}

static int end(void **state)
{
    (void)state;
    map_str_free(&conf->outbound_tls_by_domain);
    arena_reset(&conf->arena);
    free(conf);
    return 0;
}

static void without_entries_the_default_holds(void **state)
{
    (void)state;
    assert_int_equal(tls_level_of(conf, STR("b.example")), CONF_CLIENT_TLS_MAY);
    assert_int_equal(tls_level_of(conf, STR("")), CONF_CLIENT_TLS_MAY);
}

static const struct { const char *domain; enum conf_client_tls level; } cases[] = {
    { "b.example",            CONF_CLIENT_TLS_VERIFY  },
    { "a.b.example",          CONF_CLIENT_TLS_ENCRYPT },   /* below */
    { "y.a.b.example",        CONF_CLIENT_TLS_ENCRYPT },   /* far below */
    { "none.b.example",       CONF_CLIENT_TLS_NONE    },   /* itself counts more */
    { "x.none.b.example",     CONF_CLIENT_TLS_ENCRYPT },   /* and is said of itself only */
    { "x.deep.b.example",     CONF_CLIENT_TLS_SECURE  },   /* the nearest */
    { "deep.b.example",       CONF_CLIENT_TLS_ENCRYPT },
    { "c.example",            CONF_CLIENT_TLS_MAY     },   /* of it only those below are spoken of */
    { "a.c.example",          CONF_CLIENT_TLS_SECURE  },
    { "ab.example",           CONF_CLIENT_TLS_MAY     },   /* no label of its own */
    { "xc.example",           CONF_CLIENT_TLS_MAY     },
    { "xn--bcher-kva.example", CONF_CLIENT_TLS_SECURE },   /* written in UTF-8 below */
    { "example",              CONF_CLIENT_TLS_MAY     },
    { "[192.0.2.1]",          CONF_CLIENT_TLS_MAY     },
    { "",                     CONF_CLIENT_TLS_MAY     },
};

static void the_nearest_entry_holds(void **state)
{
    (void)state;
    say("B.Example", CONF_CLIENT_TLS_VERIFY);
    say(".b.example", CONF_CLIENT_TLS_ENCRYPT);
    say("none.b.example", CONF_CLIENT_TLS_NONE);
    say(".deep.b.example", CONF_CLIENT_TLS_SECURE);
    say(".c.example", CONF_CLIENT_TLS_SECURE);
    say("bücher.example", CONF_CLIENT_TLS_SECURE);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (tls_level_of(conf, str_of(cases[i].domain)) != cases[i].level)
            fail_msg("\"%s\" gets level %d, not %d", cases[i].domain, tls_level_of(conf, str_of(cases[i].domain)), cases[i].level);
}

static void what_is_no_domain_is_refused(void **state)
{
    static const char *const names[] = { "", ".", "..b.example", "-b.example", "b..example", "[192.0.2.1]", "*.b.example" };
    char words[128];
    struct str key = STR("untouched");

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct buf why;
        buf_init_fixed(&why, words, sizeof words);
        if (tls_level_key(conf, str_of(names[i]), &key, &why) || why.n == 0 || !str_eq(key, STR("untouched")))
            fail_msg("\"%s\" is a key", names[i]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_entries_the_default_holds, begin, end),
        cmocka_unit_test_setup_teardown(the_nearest_entry_holds, begin, end),
        cmocka_unit_test_setup_teardown(what_is_no_domain_is_refused, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
