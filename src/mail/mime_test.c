/*
 * Writing MIME.
 */
#include "base/cleanup.h"
#include "mail/mime.h"

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

#define TEXT_7BIT "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
#define TEXT_QP   "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"

static void test_text(void **state)
{
    // clang-format off
    static const struct { const char *in, *out; } cases[] = {
        { "",                 TEXT_7BIT },
        { "a\nb",             TEXT_7BIT "a\r\nb\r\n" },
        { "a\r\n\r\nb\r",     TEXT_7BIT "a\r\n\r\nb\r\n" },
        { "\ta b\n",          TEXT_7BIT "\ta b\r\n" },
        { "a \n",             TEXT_QP "a=20\r\n" },
        { "f\xc3\xbcr\n",     TEXT_QP "f=C3=BCr\r\n" },
        { "\x80\n",           TEXT_QP "=EF=BF=BD\r\n" },
        { "a\x01\n",          TEXT_QP "a=01\r\n" },
        { "0123456789012345678901234567890123456789012345678901234567890123456789012345",
          TEXT_7BIT "0123456789012345678901234567890123456789012345678901234567890123456789012345\r\n" },
        { "01234567890123456789012345678901234567890123456789012345678901234567890123456",
          TEXT_QP "012345678901234567890123456789012345678901234567890123456789012345678901234=\r\n56\r\n" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP_BUF struct buf out;
        buf_init(&out, 65536);
        mime_put_text(&out, str_of(cases[i].in));
        assert_str(buf_str(&out), cases[i].out);
    }
}

static void test_params(void **state)
{
    // clang-format off
    static const struct { const char *in, *out; } cases[] = {
        { "",                       ";\r\n\tfilename=\"\"" },
        { "a.txt",                  ";\r\n\tfilename=a.txt" },
        { "a b.txt",                ";\r\n\tfilename=\"a b.txt\"" },
        { "a\"\\;.txt",             ";\r\n\tfilename=\"a\\\"\\\\;.txt\"" },
        { "a\r\nX: b",              ";\r\n\tfilename=\"a  X: b\"" },
        { "f\xc3\xbcr 1%.txt",      ";\r\n\tfilename*=UTF-8''f%C3%BCr%201%25.txt" },
        { "0123456789012345678901234567890123456789012345678.txt",
          ";\r\n\tfilename*0*=UTF-8''012345678901234567890123456789012345678901234567;\r\n\tfilename*1*=8.txt" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP_BUF struct buf out;
        buf_init(&out, 65536);
        mime_put_param(&out, "filename", str_of(cases[i].in));
        assert_str(buf_str(&out), cases[i].out);
    }
}

static void test_message(void **state)
{
    CLEANUP_BUF struct buf out;
    char boundary[MIME_BOUNDARY_LEN + 1];

    (void)state;
    buf_init(&out, 65536);
    mime_boundary(0, UINT64_MAX, boundary);
    assert_string_equal(boundary, "=_0000000000000FZZZZZZZZZZZZ");
    mime_put_multipart(&out, "mixed", boundary);
    buf_put_z(&out, "\r\n");
    mime_put_part(&out, boundary);
    mime_put_text(&out, STR("hi\n"));
    mime_put_part(&out, boundary);
    mime_put_attachment(&out, STR("x.PNG"), NULL, STR("abc"));
    mime_put_part(&out, boundary);
    mime_put_raw(&out, "text/rfc822-headers", STR("A: \x80"));
    mime_put_end(&out, boundary);
    assert_str(
        buf_str(&out),
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary=\"=_0000000000000FZZZZZZZZZZZZ\"\r\n\r\n"
        "\r\n--=_0000000000000FZZZZZZZZZZZZ\r\n" TEXT_7BIT "hi\r\n"
        "\r\n--=_0000000000000FZZZZZZZZZZZZ\r\nContent-Type: image/png\r\nContent-Disposition: attachment;\r\n\tfilename=x.PNG\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\nYWJj\r\n"
        "\r\n--=_0000000000000FZZZZZZZZZZZZ\r\nContent-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\nA: \x80\r\n"
        "\r\n--=_0000000000000FZZZZZZZZZZZZ--\r\n");
    buf_clear(&out);
    mime_put_report(&out, "delivery-status", boundary);
    assert_str(buf_str(&out), "MIME-Version: 1.0\r\nContent-Type: multipart/report;\r\n\treport-type=delivery-status;\r\n"
                              "\tboundary=\"=_0000000000000FZZZZZZZZZZZZ\"\r\n");
}

static void test_types(void **state)
{
    (void)state;
    assert_string_equal(mime_type_of(STR("a.tar.GZ")), "application/gzip");
    assert_string_equal(mime_type_of(STR("noending")), "application/octet-stream");
    assert_string_equal(mime_type_of(STR("")), "application/octet-stream");
}

static void test_no_room(void **state)
{
    char memory[40];
    struct buf out;

    (void)state;
    buf_init_fixed(&out, memory, sizeof memory);
    mime_put_text(&out, STR("a\nb\n"));
    assert_false(buf_ok(&out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),  cmocka_unit_test(test_params),  cmocka_unit_test(test_message),
        cmocka_unit_test(test_types), cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
