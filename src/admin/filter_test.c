/*
 * The filter language: what is read and what is refused, and which messages are meant; with the index alone, and with the record.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/filter.h"
#include "base/clock.h"
#include "base/codec.h"
#include <stdio.h>
#include <string.h>

#define NOW  (INT64_C(1800000000) * NS_PER_S)
#define HOUR (3600 * NS_PER_S)

/* ---- refused ---- */

#define NESTED32 "((((((((((((((((((((((((((((((((id=x"

static const struct {
    const char *text, *error;                        /* how the error begins */
} refused[] = {
    { "",                     "the filter ends where a FIELD=VALUE is wanted"       },
    { " \t\n",                "the filter ends where a FIELD=VALUE is wanted"       },
    { "not",                  "the filter ends where"                               },
    { "to=a or",              "the filter ends where"                               },
    { "to=a and",             "the filter ends where"                               },
    { "or to=a",              "'or' is no FIELD=VALUE"                              },
    { "to=a or or to=b",      "'or' is no FIELD=VALUE"                              },
    { "to= code=4.*",         "to has no value"                                     },   /* and not a recipient "code=4.*" */
    { "to = a",               "'to' is no FIELD=VALUE"                              },
    { "to",                   "'to' is no FIELD=VALUE"                              },
    { "=a",                   "'=a' is no FIELD=VALUE"                              },
    { "to!a",                 "'to!a' is no FIELD=VALUE"                            },
    { "everything",           "'everything' is no FIELD=VALUE"                      },
    { "to=a,b) or size>0",    "a bracket is closed"                                 },
    { "to=a)",                "a bracket is closed that was not opened"             },
    { "(to=a",                "a bracket is not closed"                             },
    { "()",                   "')' is no FIELD=VALUE"                               },
    { NESTED32,               "the filter has too many brackets"                    },
    { "to=\"a",               "a quote is not closed"                               },
    { "to=a\\",               "the filter ends in a backslash"                      },
    { "recipient=a",          "there is no field 'recipient', but to, from (sender)" },
    { "to>a",                 "to is text: it can be = or != only"                  },
    { "state>=held",          "state is text"                                       },
    { "state=deferred",       "state wants waiting, delivering or held"             },
    { "state=*",              "state wants waiting, delivering or held"             },
    { "age>1x",               "age wants a time such as 90s, 5m, 2h or 3d, not '1x'" },
    { "age>1h30m",            "age wants a time"                                    },
    { "age>*",                "age wants a time"                                    },
    { "age>--1h",             "age wants a time"                                    },
    { "age>",                 "age has no value"                                    },
    { "age=\"\"",             "age wants a time"                                    },
    { "age>99999999999999d",  "age wants a time"                                    },
    { "age>0000000000000000000000000000000001h", "age wants a time"                 },
    { "size>-1",              "size wants a size"                                   },
    { "size>1parsec",         "size wants a size"                                   },
    { "attempts>4294967296",  "attempts wants a number, not '4294967296'"           },
    { "attempts=-1",          "attempts wants a number"                             },
    { "priority>10",          "priority wants a number from -9 to 9"                },
    { "id=1",                 "id wants a queue id"                                 },
};

static void wrong_filters_are_refused_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct arena arena;
        char memory[1024];
        struct buf error;
        const struct filter *f = NULL;
        arena_init(&arena, 1 << 20);
        buf_init_fixed(&error, memory, sizeof memory);
        if (filter_parse(&arena, str_of(refused[i].text), &f, &error))
            fail_msg("%s: not refused", refused[i].text);
        if (!str_starts(buf_str(&error), str_of(refused[i].error)))
            fail_msg("%s: %.*s", refused[i].text, (int)error.n, error.p);
        assert_null(f);
        arena_reset(&arena);
    }
}

static bool parses(const char *text, size_t n, size_t memory)
{
    struct arena arena;
    char words[256];
    struct buf error;
    const struct filter *f;

    arena_init(&arena, memory);
    buf_init_fixed(&error, words, sizeof words);
    bool good = filter_parse(&arena, (struct str){ text, n }, &f, &error);
    arena_reset(&arena);
    return good;
}

static void what_is_too_large_is_refused(void **state)
{
    static char text[FILTER_TEXT_MAX + 1];
    const char *term = "size>0 ";
    size_t n = 0;

    (void)state;
    for (unsigned i = 0; i < FILTER_NODES_MAX / 2; i++, n += strlen(term))
        memcpy(text + n, term, strlen(term) + 1);
    assert_true(parses(text, n, 1 << 20));           /* that many terms, and one less to join them */
    memcpy(text + n, term, strlen(term));
    assert_false(parses(text, n + strlen(term), 1 << 20));
    memset(text, 'a', sizeof text);
    memcpy(text, "to=", 3);
    assert_true(parses(text, FILTER_TEXT_MAX, 1 << 20));
    assert_false(parses(text, FILTER_TEXT_MAX + 1, 1 << 20));
    assert_false(parses("to=a", 4, 16));
    assert_false(parses("age>1h\0", 7, 1 << 20));
}

/* ---- patterns ---- */

static const struct {
    const char *pattern, *text;
    bool        like;
} patterns[] = {
    { "",            "",                  true  },
    { "",            "a",                 false },
    { "*",           "",                  true  },
    { "**",          "",                  true  },
    { "?",           "",                  false },
    { "a",           "A",                 true  },
    { "a*",          "",                  false },
    { "*a*a*a*b",    "aaaaaaaaaaaaaaaa",  false },
    { "*ab",         "aab",               true  },
    { "*ab*",        "aabaac",            true  },
    { "a?c",         "abc",               true  },
    { "a?c",         "ac",                false },
    { "\\*",         "*",                 true  },
    { "\\*",         "a",                 false },
    { "\\?x",        "ax",                false },
    { "*\\**",       "a*b",               true  },
    { "*\\**",       "ab",                false },
    { "\\\\",        "\\",                true  },
    { "\\A",         "a",                 true  },
    { "\\",          "\\",                true  },   /* at the end it is itself; the language has none there */
    { "\xc3\xbc*",   "\xc3\xbcx",         true  },
    { "*@*.example", "ann@b.example",     true  },
    { "*@*.example", "ann@example",       false },
};

static void patterns_are_compared_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        if (filter_like(str_of(patterns[i].pattern), str_of(patterns[i].text)) != patterns[i].like)
            fail_msg("%s, %s", patterns[i].pattern, patterns[i].text);
}

/* ---- messages ---- */

/* From ann, by her login, two hours old, 3 attempts; to a delivered and two pending recipients, which were told different things. */
static struct recipient rcpts[3];
static enum rcpt_state states[3] = { RCPT_DELIVERED, RCPT_PENDING, RCPT_PENDING };
static struct outcome last[3];
static struct queue_details message;

static struct address address(const char *local, const char *domain)
{
    struct address a;
    assert_true(address_of_parts(str_of(local), str_of(domain), &a));
    return a;
}

static int make_message(void **state)
{
    (void)state;
    rcpts[0].addr = address("done", "a.example");
    rcpts[1].addr = address("Bob", "gmail.example");
    rcpts[1].rewritten_from = address("sales", "us.example");
    rcpts[2].addr = address("a b", "c.example");
    last[1] = (struct outcome){ .status = STR("4.7.28"), .remote = STR("mx.gmail.example [192.0.2.1]"), .text = STR("421 rate limit, (slow) down") };
    last[2] = (struct outcome){ .status = STR("4.4.1"), .text = STR("Connection \"refused\"") };
    message = (struct queue_details){
        .item = { .state = MESSAGE_WAITING, .attempts = 3, .rcpts_pending = 2, .rcpts_total = 3, .arrived_wall_ns = NOW - 2 * HOUR,
                  .due_wall_ns = NOW + HOUR, .size = 65536 },
        .env = { .sender = address("ann", "us.example"), .login = STR("ann"), .rcpts = rcpts, .rcpt_count = 3, .priority = -3 },
        .states = states,
        .last = last,
    };
    assert_true(codec_id_parse(STR("0000000000042"), &message.item.id));
    return 0;
}

#define NO     FILTER_NO
#define YES    FILTER_YES
#define UNSURE FILTER_UNSURE

static const struct {
    const char        *text;
    bool               meant;
    enum filter_answer by_index;
} cases[] = {
    { "to=bob@gmail.example",                       true,  UNSURE },
    { "TO=<BOB@GMAIL.EXAMPLE>",                     true,  UNSURE },
    { "to=*@gmail.example code=4.7.*",              true,  UNSURE },
    { "to=*@gmail.example code=4.4.1",              false, UNSURE },   /* that was said about another one */
    { "to=*@gmail.example to=*@c.example",          false, UNSURE },   /* nobody is both */
    { "(to=*@gmail.example)and(code=4.7.28)",       true,  UNSURE },
    { "code=4.4.* (to=*@gmail.example or to=*@c.example)", true, UNSURE },
    { "to!=*@gmail.example",                        false, UNSURE },   /* none of them, not: another one too */
    { "not to=*@gmail.example",                     false, UNSURE },
    { "not (to=*@gmail.example code=4.4.1)",        true,  UNSURE },
    { "not not to=*@gmail.example",                 true,  UNSURE },
    { "not not to=*@d.example",                     false, UNSURE },
    { "domain=c.example code!=4.7.28",              false, UNSURE },
    { "to=done@a.example",                          false, UNSURE },   /* has got it */
    { "to=sales@us.example",                        true,  UNSURE },   /* as the sender wrote it */
    { "domain=us.example",                          false, UNSURE },   /* where it goes */
    { "to=\"\\\"a b\\\"@c.example\"",               true,  UNSURE },
    { "to=*\\ *@c.example",                         true,  UNSURE },
    { "from=ann@us.example",                        true,  UNSURE },
    { "sender=a*",                                  true,  UNSURE },
    { "from=<>",                                    false, UNSURE },
    { "from=\"\"",                                  false, UNSURE },
    { "login=ann",                                  true,  UNSURE },
    { "login=\"\"",                                 false, UNSURE },
    { "remote=\"mx.* [192.0.2.1]\"",                true,  UNSURE },
    { "text=\"*rate limit*\"",                      true,  UNSURE },
    { "text=\"rate limit\"",                        false, UNSURE },   /* whole */
    { "text=*\"(slow)\"*",                          true,  UNSURE },
    { "text=*\\(slow\\)*",                          true,  UNSURE },
    { "text=\"*\\\"refused\\\"\"",                  true,  UNSURE },
    { "priority=-3",                                true,  UNSURE },
    { "priority>=0",                                false, UNSURE },
    { "age>1h",                                     true,  YES    },
    { "age>2h",                                     false, NO     },
    { "age>=2h",                                    true,  YES    },
    { "age=7200",                                   true,  YES    },
    { "age!=2h",                                    false, NO     },
    { "due<1h",                                     false, NO     },
    { "due<=1h",                                    true,  YES    },
    { "due>-1h",                                    true,  YES    },
    { "size=64KiB",                                 true,  YES    },
    { "size<65536",                                 false, NO     },
    { "attempts>2 attempts<4",                      true,  YES    },
    { "state=waiting",                              true,  YES    },
    { "state!=Held",                                true,  YES    },
    { "state=held or state=delivering",             false, NO     },
    { "id=0000000000042",                           true,  YES    },
    { "id>0000000000042",                           false, NO     },
    { "age>1d to=bob@gmail.example",                false, NO     },   /* no record is read for these */
    { "to=bob@gmail.example age>1d",                false, NO     },
    { "age>1h or to=x",                             true,  YES    },
    { "to=x OR age>1h",                             true,  YES    },
    { "not (age>1d to=x)",                          true,  YES    },
    { "age>1d or to=x age>1h",                      false, UNSURE },
    { "size>0 and not to=x and not to=y",           true,  UNSURE },
    { "\nsize>0\r\n\tnot(state=held)\n",            true,  YES    },
};

static void check_case(size_t i)
{
    struct arena arena;
    char memory[1024];
    struct buf error;
    const struct filter *f;

    arena_init(&arena, 1 << 20);
    buf_init_fixed(&error, memory, sizeof memory);
    if (!filter_parse(&arena, str_of(cases[i].text), &f, &error))
        fail_msg("%s: %.*s", cases[i].text, (int)error.n, error.p);
    if (filter_match(f, &message, NOW) != cases[i].meant)
        fail_msg("%s: wrong", cases[i].text);
    if (filter_match_item(f, &message.item, NOW) != cases[i].by_index)
        fail_msg("%s: wrong by the index", cases[i].text);
    arena_reset(&arena);
}

static void messages_are_meant_or_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_case(i);
}

static void before_the_first_attempt_the_index_knows_that_nothing_was_said(void **state)
{
    struct arena arena;
    struct buf error;
    char memory[256];
    const struct filter *f;

    (void)state;
    message.item.attempts = 0;
    arena_init(&arena, 1 << 20);
    buf_init_fixed(&error, memory, sizeof memory);
    assert_true(filter_parse(&arena, STR("code=4.*"), &f, &error));
    assert_int_equal(filter_match_item(f, &message.item, NOW), FILTER_NO);
    assert_true(filter_parse(&arena, STR("code!=4.* text=\"\""), &f, &error));
    assert_int_equal(filter_match_item(f, &message.item, NOW), FILTER_YES);
    arena_reset(&arena);
}

static void a_null_sender_can_be_asked_for(void **state)
{
    struct arena arena;
    struct buf error;
    char memory[256];
    const struct filter *f;

    (void)state;
    message.env.null_sender = true;
    message.env.sender = (struct address){ .local = { NULL, 0 } };
    arena_init(&arena, 1 << 20);
    buf_init_fixed(&error, memory, sizeof memory);
    assert_true(filter_parse(&arena, STR("from=<>"), &f, &error) && filter_match(f, &message, NOW));
    assert_true(filter_parse(&arena, STR("from=\"\""), &f, &error) && filter_match(f, &message, NOW));
    assert_true(filter_parse(&arena, STR("from=?*"), &f, &error) && !filter_match(f, &message, NOW));
    arena_reset(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_filters_are_refused_with_a_reason),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(patterns_are_compared_whole),
        cmocka_unit_test_setup(messages_are_meant_or_not, make_message),
        cmocka_unit_test_setup(before_the_first_attempt_the_index_knows_that_nothing_was_said, make_message),
        cmocka_unit_test_setup(a_null_sender_can_be_asked_for, make_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
