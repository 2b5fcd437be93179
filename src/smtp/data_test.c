/*
 * Dot transparency: every case is decoded whole, split at each place, and byte by byte; each time with the same outcome.
 */
#include "base/cleanup.h"
#include "smtp/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_str(struct str s, struct str expected)
{
    assert_int_equal(s.n, expected.n);
    assert_true(str_eq(s, expected));
}

/* in, in pieces of at most step bytes, the first of `first`; the total consumed in *consumed. */
static enum data_result decode(struct data_decoder *d, struct str in, size_t first, size_t step, struct buf *out, size_t *consumed)
{
    enum data_result r = DATA_MORE;
    size_t n = first;

    *d = (struct data_decoder){ .bytes = 0 };
    buf_clear(out);
    *consumed = 0;
    do {
        size_t used;
        r = data_decode(d, str_head(str_from(in, *consumed), n), &used, out);
        *consumed += used;
        n = step;
    } while (r == DATA_MORE && *consumed < in.n);
    return r;
}

// clang-format off
#define CASE(in, result, consumed, out) { { in, sizeof in - 1 }, result, consumed, { out, sizeof out - 1 } }
static const struct {
    struct str       in;
    enum data_result result;
    size_t           consumed;
    struct str       out;      /* of a sound message */
} cases[] = {
    /* smuggling, in the forms that worked somewhere in 2023 */
    CASE("a\n.\nMAIL FROM:<x>\r\n.\r\n",        DATA_BARE_LF, 22, ""),
    CASE("a\n.\r\nMAIL FROM:<x>\r\n.\r\n",      DATA_BARE_LF, 23, ""),
    CASE("a\r.\rMAIL FROM:<x>\r\n.\r\n",        DATA_BARE_CR, 22, ""),
    CASE("a\r.\r\nMAIL FROM:<x>\r\n.\r\n",      DATA_BARE_CR, 23, ""),
    CASE("a\r\n.\nMAIL FROM:<x>\r\n.\r\n",      DATA_BARE_LF, 23, ""),
    CASE("a\r\n.\rMAIL FROM:<x>\r\n.\r\n",      DATA_BARE_CR, 23, ""),
    CASE("a\r\n\0.\r\nb\r\n.\r\n",              DATA_END,     13, "a\r\n\0.\r\nb\r\n"),
    CASE("a\r\r\n.\r\n",                        DATA_BARE_CR, 7,  ""),
    CASE("a\r\n.\r\r\n.\r\n",                   DATA_BARE_CR, 10, ""),
    CASE("a\n\r\n.\r\n",                        DATA_BARE_LF, 7,  ""),
    CASE("\n.\r\n\r\n.\r\n",                    DATA_BARE_LF, 9,  ""),
    CASE(".\n\r\n.\r\n",                        DATA_BARE_LF, 7,  ""),
    CASE("\n\r\r\n.\r\n",                       DATA_BARE_LF, 7,  ""),      /* the first violation counts */
    CASE("a\r\n.\r\nQUIT\r\n",                  DATA_END,     6,  "a\r\n"),
    CASE(".\r\n",                               DATA_END,     3,  ""),
    CASE("\r\n.\r\n",                           DATA_END,     5,  "\r\n"),
    CASE("..\r\n.\r\n",                         DATA_END,     7,  ".\r\n"),
    CASE("..a\r\n.b\r\n...\r\n.\r\n",           DATA_END,     17, ".a\r\nb\r\n..\r\n"),
    CASE("a.\r\n.\r\n",                         DATA_END,     7,  "a.\r\n"),
    CASE("a\r\n. \r\n.\r\n",                    DATA_END,     10, "a\r\n \r\n"),
    CASE("h: v\r\n\r\nbody\r\n.\r\n",           DATA_END,     17, "h: v\r\n\r\nbody\r\n"),
    CASE("no end\r\n.\r",                       DATA_MORE,    10, ""),
    CASE("no end\r\n.",                         DATA_MORE,    9,  ""),
    CASE("no end",                              DATA_MORE,    6,  ""),
};
// clang-format on

static void test_decode(void **state)
{
    CLEANUP_BUF struct buf out;

    (void)state;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t first = 1; first <= cases[i].in.n; first++) {
            for (size_t step = 1; step <= cases[i].in.n; step += step == 1 ? cases[i].in.n - 1 : 1) {
                struct data_decoder d;
                size_t consumed;
                enum data_result r = decode(&d, cases[i].in, first, step, &out, &consumed);
                if (r != cases[i].result || consumed != cases[i].consumed)
                    fail_msg("case %zu, split at %zu by %zu: %d, %zu", i, first, step, (int)r, consumed);
                if (r == DATA_END) {
                    assert_str(buf_str(&out), cases[i].out);
                    assert_int_equal(d.bytes, out.n);
                }
                if (step == cases[i].in.n)
                    break;
            }
        }
    }
}

static void test_observations(void **state)
{
    // clang-format off
    static const struct { struct str in; uint64_t lines, line_max, header_end; bool has_8bit, has_nul; } seen[] = {
        { { ".\r\n", 3 },                                          0, 0,  0, false, false },
        { { "\r\n.\r\n", 5 },                                      1, 0,  2, false, false },
        { { "h: v\r\n\r\nb\r\n\r\n.\r\n", 18 },                    4, 4,  8, false, false },
        { { "..h: v\r\n\r\n.\r\n", 13 },                           2, 5,  9, false, false },
        { { "0123456789abcdef\r\n.\r\n", 21 },                     1, 16, 0, false, false },
        { { "0123456789abcde\x80\r\n.\r\n", 21 },                  1, 16, 0, true,  false },
        { { "01234\x81" "6789abcdef\r\n.\r\n", 21 },               1, 16, 0, true,  false },
        { { "0123456\0" "89abcdef\r\n.\r\n", 21 },                 1, 16, 0, false, true },
        { { "\0\r\n.\r\n", 6 },                                    1, 1,  0, false, true },
        { { "\x01\x01\x01\x01\x01\x01\x01\x01\r\n.\r\n", 13 },     1, 8,  0, false, false },
    };
    // clang-format on
    CLEANUP_BUF struct buf out;

    (void)state;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < sizeof seen / sizeof seen[0]; i++) {
        for (size_t step = 1; step <= seen[i].in.n; step++) {
            struct data_decoder d;
            size_t consumed;
            assert_int_equal(decode(&d, seen[i].in, step, step, &out, &consumed), DATA_END);
            if (d.lines != seen[i].lines || d.line_max != seen[i].line_max || d.header_end != seen[i].header_end)
                fail_msg("case %zu: %d lines, longest %d, header %d", i, (int)d.lines, (int)d.line_max, (int)d.header_end);
            assert_int_equal(d.has_8bit, seen[i].has_8bit);
            assert_int_equal(d.has_nul, seen[i].has_nul);
        }
    }
}

/* The text of BDAT: split anywhere it is the same, and only its end may end it. */
static void test_counted(void **state)
{
    // clang-format off
    static const struct { struct str in; bool binary; enum data_result result; uint64_t header_end; } texts[] = {
        { { "", 0 },                                false, DATA_END,     0 },
        { { ".\r\n", 3 },                           false, DATA_END,     0 },
        { { "..\r\n.\r\n.", 8 },                   false, DATA_END,     0 },
        { { "a\r\n.\r\nQUIT\r\n", 12 },           false, DATA_END,     0 },
        { { "h: v\r\n\r\nno end", 14 },             false, DATA_END,     8 },
        { { "a\r", 2 },                             false, DATA_BARE_CR, 0 },
        { { "a\n", 2 },                             false, DATA_BARE_LF, 0 },
        { { ".\r.", 3 },                            false, DATA_BARE_CR, 0 },
        { { "\n\r\n\r", 4 },                       false, DATA_BARE_LF, 0 },
        { { "h: v\r\n\r\n\n\r\0\r\r\n\r", 15 },  false, DATA_BARE_LF, 8 },
        { { "h: v\r\n\r\n\n\r\0\r\r\n\r", 15 },  true,  DATA_END,     8 },
        { { "\r\n\n\r", 4 },                       true,  DATA_END,     2 },
        { { "h: v\n\r\n\r\n", 9 },                true,  DATA_BARE_LF, 9 },      /* the header is text in any case */
        { { "h: v\r\r\n\r\n", 9 },                true,  DATA_BARE_CR, 9 },
        { { "h\r", 2 },                             true,  DATA_BARE_CR, 0 },
        { { "h\n", 2 },                             true,  DATA_BARE_LF, 0 },
    };
    // clang-format on
    CLEANUP_BUF struct buf out;

    (void)state;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct str in = texts[i].in;
        for (size_t step = 1; step <= in.n + 1; step++) {
            struct data_decoder d = { .counted = true, .binary = texts[i].binary };
            size_t used;
            buf_clear(&out);
            for (size_t at = 0; at < in.n; at += used)
                assert_int_equal(data_decode(&d, str_head(str_from(in, at), step), &used, &out), DATA_MORE);
            if (data_decode_end(&d) != texts[i].result || d.header_end != texts[i].header_end || d.bytes != in.n)
                fail_msg("text %zu by %zu: %d, header %d, %d bytes", i, step, (int)d.violation, (int)d.header_end, (int)d.bytes);
            if (texts[i].result == DATA_END)
                assert_str(buf_str(&out), in);
        }
    }
}

/* Beyond a size limit the session gives no buffer; the count goes on. */
static void test_without_buffer(void **state)
{
    struct data_decoder d = { .bytes = 0 };
    size_t consumed;

    (void)state;
    assert_int_equal(data_decode(&d, STR("..a\r\nb\r\n.\r\n"), &consumed, NULL), DATA_END);
    assert_int_equal(d.bytes, 7);
}

/* A chunk full of line feeds is searched once, not once for each of them: 4 MiB would take minutes otherwise. */
static void test_many_violations(void **state)
{
    CLEANUP_BUF struct buf in, out;
    struct data_decoder d = { .bytes = 0 };
    struct data_encoder e = { .converted = false };
    size_t consumed;

    (void)state;
    buf_init(&in, 1 << 23);
    buf_init(&out, 1 << 24);
    memset(buf_room(&in, 1 << 22), '\n', 1 << 22);
    buf_added(&in, 1 << 22);
    assert_int_equal(data_decode(&d, buf_str(&in), &consumed, &out), DATA_MORE);
    data_encode(&e, buf_str(&in), &out);
    assert_int_equal(out.n, 1 << 23);
    memset(in.p, '\r', in.n);
    d = (struct data_decoder){ .bytes = 0 };
    assert_int_equal(data_decode(&d, buf_str(&in), &consumed, NULL), DATA_MORE);
}

static void test_encode(void **state)
{
    // clang-format off
    static const struct { const char *in, *out; bool converted; } pairs[] = {
        { "",                  ".\r\n",                          false },
        { ".",                 "..\r\n.\r\n",                    false },
        { "a",                 "a\r\n.\r\n",                     false },
        { "a\r\n",             "a\r\n.\r\n",                     false },
        { "\r\n.\r\n.a\r\n",   "\r\n..\r\n..a\r\n.\r\n",         false },
        { "a.\r\n..",          "a.\r\n...\r\n.\r\n",             false },
        { "a\r",               "a\r\n.\r\n",                     true },
        { "a\n.\nb",           "a\r\n..\r\nb\r\n.\r\n",          true },
        { "a\r.\rb",           "a\r\n..\r\nb\r\n.\r\n",          true },
        { "\r\r\n\n",          "\r\n\r\n\r\n.\r\n",              true },
    };
    // clang-format on
    CLEANUP_BUF struct buf out;

    (void)state;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct str in = str_of(pairs[i].in);
        for (size_t step = 1; step <= in.n + 1; step++) {
            struct data_encoder e = { .converted = false };
            buf_clear(&out);
            for (size_t at = 0; at < in.n; at += step)
                data_encode(&e, str_head(str_from(in, at), step), &out);
            data_encode_end(&e, &out);
            assert_str(buf_str(&out), str_of(pairs[i].out));
            assert_int_equal(e.converted, pairs[i].converted);
        }
    }
}

/* Bare CR or LF, or a line that is a dot: what some next hop takes for a line end, or for the end (CVE-2023-51764, -51765, -51766). */
static bool is_lax_end(struct str text)
{
    size_t line = 0;

    for (size_t i = 0; i < text.n; i++) {
        bool end = i + 1 < text.n && text.p[i] == '\r' && text.p[i + 1] == '\n';
        if (!end && (text.p[i] == '\r' || text.p[i] == '\n'))
            return true;
        if (end && str_eq((struct str){ text.p + line, i - line }, STR(".")))
            return true;
        if (end)
            line = ++i + 1;
    }
    return false;
}

/* Every text of up to seven of these, divided at each place: its end on the wire is its end for everybody. */
static void test_nothing_but_the_end_looks_like_it(void **state)
{
    static const char alphabet[] = "\r\n.a";
    char text[7];
    CLEANUP_BUF struct buf out;

    (void)state;
    buf_init(&out, 1 << 10);
    for (size_t n = 0; n <= sizeof text; n++)
        for (unsigned number = 0; number < 1u << 2 * n; number++)
            for (size_t split = 0; split <= n; split++) {
                struct data_encoder e = { .converted = false };
                struct data_decoder d = { .bytes = 0 };
                size_t consumed;
                for (size_t i = 0; i < n; i++)
                    text[i] = alphabet[number >> 2 * i & 3];
                buf_clear(&out);
                data_encode(&e, (struct str){ text, split }, &out);
                data_encode(&e, (struct str){ text + split, n - split }, &out);
                data_encode_end(&e, &out);
                assert_true(str_ends_nocase(buf_str(&out), STR(".\r\n")));
                assert_false(is_lax_end(str_head(buf_str(&out), out.n - 3)));
                assert_int_equal(data_decode(&d, buf_str(&out), &consumed, NULL), DATA_END);
                assert_int_equal(consumed, out.n);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),          cmocka_unit_test(test_observations), cmocka_unit_test(test_without_buffer),
        cmocka_unit_test(test_many_violations), cmocka_unit_test(test_encode),       cmocka_unit_test(test_counted),
        cmocka_unit_test(test_nothing_but_the_end_looks_like_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
