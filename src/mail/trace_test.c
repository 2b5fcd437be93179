/*
 * Trace fields.
 */
#include "base/cleanup.h"
#include "mail/header.h"
#include "mail/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_str(struct str s, const char *expected)
{
    if (s.n != strlen(expected) || !str_eq(s, str_of(expected)))
        fail_msg("got \"%" STR_FMT "\", not \"%s\"", STR_ARG(s), expected);
}

static void test_received(void **state)
{
    struct address rcpt;
    // clang-format off
    const struct {
        struct trace_received r;
        const char           *out;
    } cases[] = {
        { { .helo = STR("x\r\nBcc: y"), .rdns = STR("a)(b"), .ip = STR("192.0.2.1"), .by_host = STR("mx.example"), .protocol = STR("ESMTP"),
            .id = STR("0ABC"), .comment = STR("a)\\(\r\n\x80") },
          "Received: from x?" "?Bcc:?y (a?" "?b [192.0.2.1])\r\n\t(a?" "?" "?" "?" "?" "?)\r\n\tby mx.example with ESMTP id 0ABC;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n" },
        { { .helo = STR(""), .ip = STR("2001:db8::1"), .by_host = STR("mx.example"), .protocol = STR("SMTP"), .id = STR("1"), .rcpt = &rcpt },
          "Received: from unknown (unknown [IPv6:2001:db8::1])\r\n\tby mx.example with SMTP id 1\r\n\tfor <\"a b\"@c.example>;\r\n"
          "\tThu, 1 Jan 1970 00:00:00 +0000\r\n" },
        { { .by_host = STR("mx.example"), .protocol = STR("local"), .id = STR("1"), .wall_ns = INT64_C(1057049557000000000), .offset_minutes = 120 },
          "Received: by mx.example with local id 1;\r\n\tTue, 1 Jul 2003 10:52:37 +0200\r\n" },
    };
    // clang-format on

    (void)state;
    assert_true(address_of_parts(STR("a b"), STR("c.example"), &rcpt));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP_BUF struct buf out;
        buf_init(&out, 4096);
        trace_put_received(&out, &cases[i].r);
        assert_str(buf_str(&out), cases[i].out);
        assert_int_equal(header_count(buf_str(&out), STR("Received")), 1);
    }
}

static void test_path_fields(void **state)
{
    CLEANUP_BUF struct buf out;
    struct address null = { .local = STR("") }, addr, other;

    (void)state;
    assert_true(address_of_parts(STR("a b"), STR("c.example"), &addr));
    assert_true(address_of_parts(STR("a"), STR("c.example"), &other));
    buf_init(&out, 4096);
    trace_put_return_path(&out, &null);
    trace_put_return_path(&out, &addr);
    trace_put_delivered_to(&out, &addr);
    trace_put_original_to(&out, &other);
    assert_str(buf_str(&out), "Return-Path: <>\r\nReturn-Path: <\"a b\"@c.example>\r\nDelivered-To: \"a b\"@c.example\r\nX-Original-To: a@c.example\r\n");
    assert_true(trace_was_delivered_to(buf_str(&out), &addr));
    assert_false(trace_was_delivered_to(buf_str(&out), &other));
    assert_true(trace_was_delivered_to(STR("delivered-to:\r\n a@C.example\r\n"), &other));
    assert_false(trace_was_delivered_to(STR("Delivered-To: nonsense, a@c.example\r\n\r\nDelivered-To: a@c.example"), &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_received), cmocka_unit_test(test_path_fields) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
