/*
 * outbound/refusal: lines that are no rules, texts that are almost others, waits in every unit; and the table that is shipped.
 */
#include "outbound/refusal_table.h"
#include "base/clock.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define S NS_PER_S
#define M (60 * S)

struct scene {
    struct arena    arena;
    struct buf      error;
    struct refusals table;
};

static void begin(struct scene *s)
{
    arena_init(&s->arena, 4 << 20);
    buf_init(&s->error, 65536);
    refusals_init(&s->table, &s->arena);
}

static void end(struct scene *s)
{
    buf_free(&s->error);
    arena_reset(&s->arena);
}

static const struct {
    const char *line;
    const char *error;                           /* NULL: it is right */
} lines[] = {
    { "",                                         NULL                                  },
    { "   # a comment behind blanks",             NULL                                  },
    { "rate 4** * ",                              NULL                                  },
    { "rate 4** * wait=5m at=google slow down\r", NULL                                  },
    { "down 421 4.3.* shutting * down",           NULL                                  },
    { "replace",                                  NULL                                  },
    { "provider a *.a.example b.example",         NULL                                  },
    { "provider a connections=1 rate=1/h x",      NULL                                  },
    { "replace all",                              "t:1: replace stands alone"           },
    { "rates 4** *",                              "t:1: a line begins with"             },
    { "RATE 4** *",                               "t:1: a line begins with"             },   /* as all our words */
    { "rate",                                     "t:1: behind the kind"                },
    { "rate 4xx *",                               "t:1: behind the kind"                },
    { "rate 45 *",                                "t:1: behind the kind"                },
    { "rate 4500 *",                              "t:1: behind the kind"                },
    { "rate 450",                                 "t:1: behind the reply code"          },
    { "rate 450 slow",                            "t:1: behind the reply code"          },
    { "rate 450 4.7",                             "t:1: behind the reply code"          },
    { "rate 450 *.7",                             "t:1: behind the reply code"          },
    { "rate 450 * wait=5",                        "t:1: a wait is"                      },
    { "rate 450 * wait=m",                        "t:1: a wait is"                      },
    { "rate 450 * wait=7h",                       "t:1: a wait is"                      },
    { "rate 450 * wait=99999999999999999999s",    "t:1: a wait is"                      },
    { "rate 450 * at=",                           "t:1: at= wants"                      },
    { "rate 450 * in % or %",                     "t:1: a text has"                     },
    { "provider",                                 "t:1: a provider has a name"          },
    { "provider a",                               "t:1: a provider without a host"      },
    { "provider a connections=0 x",               "t:1: connections= wants"             },
    { "provider a connections=10001 x",           "t:1: connections= wants"             },
    { "provider a rate=5 x",                      "t:1: rate= wants"                    },
    { "provider a rate=0/s x",                    "t:1: rate= wants"                    },
    { "provider a rate=5/d x",                    "t:1: rate= wants"                    },
    { "provider a *",                             "t:1: that is no name of a host"      },
    { "provider a *.",                            "t:1: that is no name of a host"      },
    { "provider a a*.example",                    "t:1: that is no name of a host"      },
};

static void a_line_is_read_or_told_of(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct scene s;
        begin(&s);
        int r = refusals_load(&s.table, "t", str_of(lines[i].line), &s.error);
        assert_int_equal(r, lines[i].error == NULL ? 0 : -EINVAL);
        if (!str_starts(buf_str(&s.error), str_of(lines[i].error)) || (lines[i].error == NULL && s.error.n > 0))
            fail_msg("\"%s\" gives \"%" STR_FMT "\"", lines[i].line, STR_ARG(buf_str(&s.error)));
        end(&s);
    }
}

static const struct {
    const char *rule, *text;
    int64_t     wait_ns;                         /* -1: it does not fit */
} texts[] = {
    { "",                  "",                                        0           },
    { "slow",              "SLOW",                                    0           },
    { "slow",              "slo",                                     -1          },
    { "slow",              "sloslow",                                 0           },   /* found, though it began before */
    { "too  many",         "too many",                                -1          },   /* a blank stands for all white space there is */
    { "too many",          "too \t\r\n many",                         0           },
    { "too many",          "toomany",                                 -1          },
    { "a*b*c",             "xx a yy b zz c",                          0           },
    { "a*b*c",             "c b a",                                   -1          },
    { "ab*ab",             "ab",                                      -1          },
    { "*",                 "",                                        0           },
    { "**",                "x",                                       0           },
    { "again in %",        "try again in 300 seconds",                300 * S     },
    { "again in %",        "try again in 5 minutes",                  5 * M       },
    { "again in %",        "try again in 5min",                       5 * M       },
    { "again in %",        "try again in 2 hours",                    120 * M     },
    { "again in %",        "try again in 1500 ms",                    1500 * NS_PER_MS },
    { "again in %",        "try again in 30",                         30 * S      },
    { "again in %",        "try again in a while",                    -1          },
    { "again in % minut",  "again in 7 seconds, or again in 3 minutes", 3 * M     },
    { "in %",              "in 99999999999999999999999999 hours",     REFUSAL_WAIT_MAX_NS },
    { "in %",              "in 7 hours",                              REFUSAL_WAIT_MAX_NS },
    { "in %",              "in 0 seconds",                            0           },
};

static void a_text_is_found_with_its_wait(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct scene s;
        char rule[200];
        begin(&s);
        (void)snprintf(rule, sizeof rule, "rate 4** * %s\ndown *** *\n", texts[i].rule);
        assert_int_equal(refusals_load(&s.table, "t", str_of(rule), &s.error), 0);
        struct refusal_reply reply = { .code = 450, .text = str_of(texts[i].text) };
        struct refusal_verdict v = refusal_judge(&s.table, &reply);
        if (v.kind != (texts[i].wait_ns < 0 ? REFUSAL_DOWN : REFUSAL_RATE) || (texts[i].wait_ns >= 0 && v.wait_ns != texts[i].wait_ns))
            fail_msg("\"%s\" in \"%s\": %s, %lld ns", texts[i].rule, texts[i].text, refusal_name(v.kind), (long long)v.wait_ns);
        end(&s);
    }
}

static void the_operators_rules_come_first_or_alone(void **state)
{
    struct refusal_reply slow = { .code = 450, .text = STR("slow") }, dead = { .code = 421, .text = STR("dead") };
    struct scene s;

    (void)state;
    begin(&s);
    assert_int_equal(refusal_judge(&s.table, &slow).kind, REFUSAL_MESSAGE);    /* an empty table */
    assert_int_equal(refusals_load(&s.table, "own", STR("rate 450 *"), &s.error), 0);
    assert_int_equal(refusals_load(&s.table, "ours", STR("down 450 *\ndown 421 *"), &s.error), 0);
    assert_int_equal(refusal_judge(&s.table, &slow).kind, REFUSAL_RATE);
    assert_int_equal(refusal_judge(&s.table, &dead).kind, REFUSAL_DOWN);
    end(&s);
    begin(&s);
    assert_int_equal(refusals_load(&s.table, "own", STR("replace\nrate 450 *"), &s.error), 0);
    assert_int_equal(refusals_load(&s.table, "ours", STR("down 421 *\nand this is not even read"), &s.error), 0);
    assert_int_equal(refusal_judge(&s.table, &slow).kind, REFUSAL_RATE);
    assert_int_equal(refusal_judge(&s.table, &dead).kind, REFUSAL_MESSAGE);
    end(&s);
}

static void what_has_a_limit_is_told(void **state)
{
    struct scene s;
    struct buf text;

    (void)state;
    begin(&s);
    buf_init(&text, 1 << 20);
    for (int i = 0; i <= REFUSAL_RULES_MAX; i++)
        buf_put_z(&text, "rate 4** *\n");
    assert_int_equal(refusals_load(&s.table, "t", buf_str(&text), &s.error), -EINVAL);
    assert_true(str_eq(buf_str(&s.error), STR("t:1001: there are too many rules\n")));
    end(&s);
    begin(&s);
    arena_init(&s.arena, 5000);
    assert_int_equal(refusals_load(&s.table, "t", buf_str(&text), &s.error), -ENOMEM);
    buf_free(&text);
    end(&s);
}

/* -- the table that is shipped ---------------------------------------------------------------------------------------------- */

static void load_shipped(struct scene *s)
{
    static char text[65536];
    FILE *file = fopen("share/refusals", "r");

    assert_non_null(file);
    size_t n = fread(text, 1, sizeof text, file);
    (void)fclose(file);
    begin(s);
    if (refusals_load(&s->table, "share/refusals", (struct str){ text, n }, &s->error) < 0)
        fail_msg("%" STR_FMT, STR_ARG(buf_str(&s->error)));
}

static const struct {
    unsigned     code;
    const char  *status, *text;
    enum refusal kind;
    int64_t      wait_ns;
} shipped[] = {
    { 550, "5.1.1", "no such user; too many connections",                               REFUSAL_MESSAGE,     0       },
    { 421, "4.7.0", "Error: too many connections from 192.0.2.1",                       REFUSAL_CONNECTIONS, 0       },
    { 421, "",      "Too many concurrent SMTP connections",                             REFUSAL_CONNECTIONS, 0       },
    { 452, "4.3.2", "Connection rate limit exceeded",                                   REFUSAL_RATE,        0       },
    { 450, "4.7.1", "You are rate limited, try again in 300 seconds",                   REFUSAL_RATE,        300 * S },
    { 451, "4.7.1", "Please try again after 10 minutes",                                REFUSAL_RATE,        10 * M  },
    { 421, "4.7.0", "[TS01] Messages from 192.0.2.1 temporarily deferred",              REFUSAL_RATE,        0       },
    { 421, "4.7.28", "Our system has detected an unusual rate of unsolicited mail",     REFUSAL_RATE,        M       },
    { 450, "4.2.1", "The user is receiving mail too quickly",                           REFUSAL_RATE,        0       },
    { 450, "4.2.2", "mailbox full",                                                     REFUSAL_MESSAGE,     0       },
    { 452, "4.5.3", "too many recipients",                                              REFUSAL_MESSAGE,     0       },
    { 450, "4.2.0", "Greylisted, see http://postgrey.example",                          REFUSAL_GREYLIST,    5 * M   },
    { 451, "4.7.1", "Greylisting in action, please try again in 3 minutes",             REFUSAL_GREYLIST,    3 * M   },
    { 421, "4.3.2", "Service shutting down",                                            REFUSAL_DOWN,        5 * M   },
    { 421, "4.7.0", "IPv6 address has no PTR record",                                   REFUSAL_FAMILY,      0       },
    { 421, "4.7.1", "your address is temporarily blocked",                              REFUSAL_BLOCKED,     60 * M  },
    { 450, "4.7.1", "no, not now",                                                      REFUSAL_RATE,        0       },
    { 421, "",      "good bye",                                                         REFUSAL_CONNECTIONS, 0       },
    { 450, "4.1.8", "sender's domain not found",                                        REFUSAL_MESSAGE,     0       },
    { 451, "",      "local error",                                                      REFUSAL_MESSAGE,     0       },
};

static void the_shipped_table_knows_them(void **state)
{
    struct scene s;

    (void)state;
    load_shipped(&s);
    for (size_t i = 0; i < sizeof shipped / sizeof shipped[0]; i++) {
        struct refusal_reply reply = { .code = shipped[i].code, .status = str_of(shipped[i].status), .text = str_of(shipped[i].text) };
        struct refusal_verdict v = refusal_judge(&s.table, &reply);
        if (v.kind != shipped[i].kind || v.wait_ns != shipped[i].wait_ns)
            fail_msg("\"%s\": %s, %lld ns", shipped[i].text, refusal_name(v.kind), (long long)v.wait_ns);
    }
    end(&s);
}

static void a_provider_has_all_the_hosts(void **state)
{
    const struct str google[] = { STR("ASPMX.L.Google.com."), STR("alt1.aspmx.l.google.com") };
    const struct str mixed[] = { STR("aspmx.l.google.com"), STR("mx.b.example") };
    const struct str near[] = { STR("notgoogle.com") }, bare[] = { STR("google.com") };
    struct scene s;

    (void)state;
    load_shipped(&s);
    const struct refusal_provider *p = refusal_provider_of(&s.table, google, 2);
    assert_non_null(p);
    assert_true(str_eq(p->name, STR("google")) && p->connections == 20 && p->rate_per_hour == 72000);
    assert_null(refusal_provider_of(&s.table, mixed, 2));
    assert_null(refusal_provider_of(&s.table, near, 1));
    assert_null(refusal_provider_of(&s.table, bare, 1));
    assert_null(refusal_provider_of(&s.table, NULL, 0));
    end(&s);
}

/* What is in force: the program's own table behind the operator's; and with a fault in that one, all that is right of it. */
static void the_operators_own(void **state)
{
    static const struct { const char *text; bool wrong; enum refusal many, other; } rows[] = {
        { "",                                          false, REFUSAL_CONNECTIONS, REFUSAL_RATE    },
        { "message 4** * too many connections\n",      false, REFUSAL_MESSAGE,     REFUSAL_RATE    },
        { "rats\nmessage 4** * too many connections\n", true, REFUSAL_MESSAGE,     REFUSAL_RATE    },
        { "replace\n",                                 false, REFUSAL_MESSAGE,     REFUSAL_MESSAGE },
    };
    struct refusal_reply many = { 421, STR("4.7.0"), STR("too many connections"), NULL }, other = { 451, STR("4.7.28"), STR("no"), NULL };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf error;
        buf_init(&error, 1000);
        struct refusal_table *t = refusal_table_new("mine", str_of(rows[i].text), &error);
        assert_non_null(t);
        assert_int_equal(error.n > 0, rows[i].wrong);
        assert_int_equal(refusal_judge(&t->refusals, &many).kind, rows[i].many);
        assert_int_equal(refusal_judge(&t->refusals, &other).kind, rows[i].other);
        refusal_table_free(t);
        buf_free(&error);
    }
    refusal_table_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_read_or_told_of),
        cmocka_unit_test(a_text_is_found_with_its_wait),
        cmocka_unit_test(the_operators_rules_come_first_or_alone),
        cmocka_unit_test(what_has_a_limit_is_told),
        cmocka_unit_test(the_shipped_table_knows_them),
        cmocka_unit_test(a_provider_has_all_the_hosts),
        cmocka_unit_test(the_operators_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
