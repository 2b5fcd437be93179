/*
 * admin/message: line ends, and messages that a parser reads back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/message.h"
#include "base/cleanup.h"
#include "mail/header.h"

static const struct {
    struct str in, out;
} line_ends[] = {
    { STR(""),             STR("")                     },
    { STR("a"),            STR("a\r\n")                },
    { STR("a\n"),          STR("a\r\n")                },
    { STR("a\r\n"),        STR("a\r\n")                },
    { STR("a\rb"),         STR("a\r\nb\r\n")           },   /* an old Macintosh's */
    { STR("\n\n"),         STR("\r\n\r\n")             },
    { STR("\r\r\n\n"),     STR("\r\n\r\n\r\n")         },
    { STR(".\n.\r\n"),     STR(".\r\n.\r\n")           },
};

static void every_line_end_becomes_crlf(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(line_ends) / sizeof(line_ends[0]); i++) {
        CLEANUP_BUF struct buf out;
        buf_init(&out, 1000);
        message_put_crlf(&out, line_ends[i].in);
        assert_true(str_eq(buf_str(&out), line_ends[i].out));
    }
}

static struct str value_of(struct arena *a, struct str message, const char *name)
{
    struct header_field field;
    return header_find(message, str_of(name), &field) ? header_decode(a, field.value) : STR("(none)");
}

static void what_is_put_in_can_be_read_back(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf out;
    struct arena a;
    struct address from, to[2];
    arena_init(&a, 1 << 20);
    buf_init(&out, 1 << 20);
    assert_true(address_parse(&a, STR("me@a.example"), &from));
    assert_true(address_parse(&a, STR("\"strange one\"@b.example"), &to[0]));
    assert_true(address_parse(&a, STR("you@c.example"), &to[1]));
    static const char *const headers[] = { "X-Test: one two", NULL };
    struct message_file file = { "gr\xc3\xbc\xc3\x9f""e.txt", STR("\0\1\2") };
    struct message_parts parts = {
        .from = from, .to = to, .to_count = 2, .subject = STR("Gr\xc3\xbc\xc3\x9f""e\r\nBcc: no@body.example"), .text = STR("hello\n"),
        .headers = headers, .files = &file, .file_count = 1, .host = "host.example",
    };
    assert_true(message_put(&out, &parts, 0));
    struct str message = buf_str(&out);
    assert_true(str_eq(value_of(&a, message, "X-Test"), STR("one two")));
    assert_true(str_find_str(value_of(&a, message, "Subject"), STR("Gr\xc3\xbc\xc3\x9f""e")) >= 0);
    assert_int_equal(header_count(message, STR("Bcc")), 0);   /* a line end in a value makes no field */
    struct header_addresses list;
    struct header_field field;
    assert_true(header_find(message, STR("To"), &field) && header_address_list(&a, field.value, 0, &list));
    assert_int_equal(list.count, 2);
    assert_true(address_eq(&list.items[0].addr, &to[0]) && address_eq(&list.items[1].addr, &to[1]));
    arena_reset(&a);
}

static void a_header_without_a_colon_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "no colon", ": no name", "two words: x", "b\xc3\xa4h: x" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CLEANUP_BUF struct buf out;
        const char *headers[] = { bad[i], NULL };
        struct message_parts parts = { .headers = headers, .host = "h" };
        buf_init(&out, 1 << 16);
        assert_false(message_put(&out, &parts, 0));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_end_becomes_crlf),
        cmocka_unit_test(what_is_put_in_can_be_read_back),
        cmocka_unit_test(a_header_without_a_colon_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
