/*
 * The structure of messages, the strange ones first. Every case is given at once and in pieces; the texts of the events are the message.
 */
#include "base/cleanup.h"
#include "mail/mime_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MIXED   "Content-Type: multipart/mixed; boundary=b\r\n"
#define TEXT    "Content-Type: text/plain\r\n"
#define MESSAGE "Content-Type: message/rfc822\r\n"
#define X100    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X1000   X100 X100 X100 X100 X100 X100 X100 X100 X100 X100

struct seen {
    struct buf events;                   /* "<" and ">" around each part, "f" fields, "b" the line behind, "c" content, "a" aside, "d" delimiter, "?" */
    struct buf text;
    bool at_end;
};

/* A kind of event is written once, however many there are in a row. */
static void see(void *arg, const struct mime_event *e)
{
    static const char letters[] = "<fbcad>?";
    struct seen *s = arg;
    char letter = letters[e->seen];

    assert_int_equal(e->part == NULL, e->seen == MIME_BYTES);
    buf_put_str(&s->text, e->text);
    if (letter == '<' || letter == '>' || s->events.n == 0 || s->events.p[s->events.n - 1] != letter)
        buf_put_char(&s->events, letter);
    if (letter == 'b' && e->part->shape == MIME_OPAQUE)
        buf_put_char(&s->events, '!');
}

static void read_message(struct str message, size_t step, struct seen *out)
{
    static struct mime_reader r;

    buf_init(&out->events, 1 << 20);
    buf_init(&out->text, 8 << 20);
    mime_reader_begin(&r, see, out);
    for (size_t at = 0; at < message.n; at += step)
        mime_reader_add(&r, str_head(str_from(message, at), step));
    mime_reader_end(&r);
    assert_true(str_eq(buf_str(&out->text), message));
}

static void check(struct str message, const char *expected)
{
    for (size_t step = 1; step < 5000; step += step < 4 ? 1 : 1023) {
        struct seen s = { 0 };
        read_message(message, step, &s);
        if (!str_eq(buf_str(&s.events), str_of(expected)))
            fail_msg("%.200s...: %" STR_FMT ", not %s", message.p, STR_ARG(buf_str(&s.events)), expected);
        buf_free(&s.events);
        buf_free(&s.text);
    }
}

static void test_table(void **state)
{
    // clang-format off
    static const struct { const char *message, *expected; } cases[] = {
        { "",                                                                "<>"                       },
        { "\r\n",                                                            "<b>"                      },
        { "text",                                                            "<?"                       },   /* no field: who knows what it is */
        { "Subject: x",                                                      "<f>"                      },
        { "Subject: x\r\n\r\n\r\n",                                          "<fbc>"                    },
        { " x\r\n\r\n",                                                      "<?"                       },   /* continues nothing */
        { "From a@b\r\nSubject: x\r\n\r\nx\r\n",                             "<?"                       },
        { "Subject : x\r\n\r\nx\r\n",                                        "<?"                       },
        { TEXT TEXT "\r\nx\r\n",                                             "<f?"                      },   /* twice: which? */
        { "A: b\r\n \r\n\r\nx\r\n",                                          "<fbc>"                    },   /* a line of blanks continues */
        { MIXED,                                                             "<f>"                      },
        { MIXED "\r\n",                                                      "<fb>"                     },
        { MIXED "\r\n--b",                                                   "<fbd<>>"                  },
        { MIXED "\r\n--b--",                                                 "<fbd>"                    },
        { MIXED "\r\npre\r\n--b\r\n\r\nx\r\n--b--\r\nepi\r\n",               "<fbad<bc>da>"             },
        { MIXED "\r\n--b\r\n" TEXT "--b--\r\n",                              "<fbd<f>d>"                },   /* no body, no empty line */
        { MIXED "\r\n--b\r\n" TEXT "\r\n--b--\r\n",                          "<fbd<fb>d>"               },
        { MIXED "\r\n--b \t\r\n\r\nx\r\n--b-- \r\n",                         "<fbd<bc>d>"               },   /* padding */
        { MIXED "\r\n--bx\r\n--b -\r\n -- b\r\n--b-\r\n--b--x\r\n",          "<fba>"                    },   /* delimiters to nobody, or only to some */
        { MIXED "\r\n--b\r\n\r\nx\n--b\n\r\n--b--\r\n",                      "<fbd<bc>d>"               },   /* a bare LF ends no line */
        { MIXED "\r\n--b--\r\n--b\r\nx\r\n",                                 "<fbda>"                   },   /* more behind the last */
        { MIXED "\r\n--b\r\nno field\r\n\r\nx\r\n--b--\r\n",                 "<fbd<?"                   },
        { "Content-Type: multipart/mixed\r\n\r\n--\r\n",                     "<fb!c>"                   },   /* no boundary */
        { MIXED "Content-Transfer-Encoding: base64\r\n\r\n--b\r\n",          "<fb!c>"                   },   /* an encoded multipart */
        { MESSAGE "Content-Transfer-Encoding: base64\r\n\r\nx\r\n",          "<fb!c>"                   },
        { MESSAGE "\r\nA: b\r\n\r\nx\r\n",                                   "<fb<fbc>>"                },
        { MESSAGE "\r\n",                                                    "<fb<>>"                   },
        { "Content-Type: message/partial\r\n\r\nA: b\r\n\r\nx\r\n",          "<fb!c>"                   },
        { "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nA: b\r\n\r\nx\r\n--b\r\n" TEXT "\r\nx\r\n--b--\r\n",
                                                                             "<fbd<b<fbc>>d<fbc>d>"     },   /* parts of a digest are messages */
        { MIXED "\r\n--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n",
                                                                             "<fbd<fbd<bc>>d<bc>d>"     },   /* the outer delimiter ends the inner parts */
        { MIXED "\r\n--b\r\nContent-Type: multipart/mixed; boundary=bc\r\n\r\n--bc\r\n\r\nx\r\n--bc--\r\n--b--\r\n",
                                                                             "<fbd<fbd<bc>d>d>"         },   /* one is the beginning of the other */
        { MIXED "\r\n--b\r\n" MIXED "\r\n--b\r\n\r\nx\r\n",                  "<fbd<fb?"                 },   /* whose is it? */
        { MIXED "\r\n--b\r\nContent-Type: multipart/mixed; boundary=b--\r\n\r\nx\r\n--b--\r\n", "<fbd<fba?" },
        { "A:" X1000 X1000 X1000 "\r\n" TEXT "\r\n" X1000 "--\r\n" X1000 X100 "\r\n", "<fbc>" },
        { X1000 "xxxxxxxxxxxxxxxxxxxxxxxx: y\r\n\r\n",                       "<?"                       },   /* no colon in the first piece */
        { "Content-Type: text/plain; x=" X1000 X1000 X1000 X1000 X1000 X1000 X1000 X1000 X100 X100 "\r\n\r\n", "<f?" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check(str_of(cases[i].message), cases[i].expected);
}

/* A CR at every place of the line buffer, and the longest line in which a delimiter is seen. */
static void test_line_buffer(void **state)
{
    (void)state;
    for (size_t n = MIME_LINE_MAX - 5; n < MIME_LINE_MAX + 5; n++) {
        CLEANUP_BUF struct buf message;
        buf_init(&message, 1 << 20);
        buf_put_z(&message, MIXED "\r\n--b\r\n\r\n");
        for (size_t i = 0; i < n; i++)
            buf_put_char(&message, 'x');
        buf_put_z(&message, "\r\n--b");
        for (size_t i = 3; i < n; i++)
            buf_put_char(&message, ' ');
        buf_put_z(&message, "\r\n\r\nx\r\n");
        check(buf_str(&message), n + 2 <= MIME_LINE_MAX ? "<fbd<bc>d<bc>>" : "<fbd<bc>>");
    }
}

static void test_depth(void **state)
{
    (void)state;
    for (unsigned depth = MIME_DEPTH_MAX - 2; depth < MIME_DEPTH_MAX + 2; depth++) {
        CLEANUP_BUF struct buf message, expected;
        buf_init(&message, 1 << 20);
        buf_init(&expected, 1 << 20);
        for (unsigned i = 0; i < depth; i++) {
            buf_put_z(&message, MESSAGE "\r\n");
            if (i < MIME_DEPTH_MAX)
                buf_put_z(&expected, "<fb");
        }
        buf_put_z(&message, "\r\nx\r\n");
        buf_put_z(&expected, depth < MIME_DEPTH_MAX ? "<bc>" : "!c");
        for (unsigned i = 0; i < depth && i < MIME_DEPTH_MAX; i++)
            buf_put_char(&expected, '>');
        buf_put_char(&expected, '\0');
        check(buf_str(&message), expected.p);
    }
}

static void test_count(void **state)
{
    (void)state;
    for (int more = 0; more <= 1; more++) {
        struct seen s = { 0 };
        CLEANUP_BUF struct buf message;
        buf_init(&message, 1 << 20);
        buf_put_z(&message, MIXED "\r\n");
        for (int i = 0; i < MIME_PARTS_MAX - 1 + more; i++)
            buf_put_z(&message, "--b\r\n\r\n");
        read_message(buf_str(&message), 1000, &s);
        assert_int_equal(s.events.p[s.events.n - 1], more ? '?' : '>');
        buf_free(&s.events);
        buf_free(&s.text);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_line_buffer),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
