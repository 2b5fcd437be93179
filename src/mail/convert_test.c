/*
 * Conversion to 7 bits: what comes out of what, the strange ones first; and of messages made at random, that readers find the same in them.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "mail/convert.h"
#include "mail/header.h"
#include "mail/mime_reader.h"
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Both passes, in pieces of `step` bytes. */
static enum convert_verdict convert(struct str in, size_t step, struct buf *out, bool *out_breaks)
{
    struct convert *c = convert_new();
    enum convert_verdict verdict = CONVERT_NOTHING;

    assert_non_null(c);
    for (size_t at = 0; at < in.n; at += step)
        convert_scan(c, str_head(str_from(in, at), step));
    assert_int_equal(convert_scan_end(c, &verdict), 0);
    if (verdict == CONVERT_NOTHING || verdict == CONVERT_POSSIBLE) {
        for (size_t at = 0; at < in.n; at += step) {
            size_t before = out->n;
            convert_write(c, str_head(str_from(in, at), step), out);
            assert_true(out->n - before <= CONVERT_GROWTH_MAX * step + CONVERT_EXTRA_MAX);
        }
        convert_write_end(c, out);
        assert_true(buf_ok(out));
        assert_int_equal(convert_size(c), out->n);
        *out_breaks = convert_breaks_signature(c);
        assert_string_equal(convert_words(verdict), "");
    } else {
        assert_true(strlen(convert_words(verdict)) > 0);
    }
    convert_free(c);
    return verdict;
}

#define V     "MIME-Version: 1.0\r\n"
#define QP    "Content-Transfer-Encoding: quoted-printable\r\n"
#define B64   "Content-Transfer-Encoding: base64\r\n"
#define E7    "Content-Transfer-Encoding: 7bit\r\n"
#define E8    "Content-Transfer-Encoding: 8bit\r\n"
#define T     "Content-Type: text/plain; charset=utf-8\r\n"
#define UNK   "Content-Type: text/plain; charset=unknown-8bit\r\n"
#define DATA  "Content-Type: application/octet-stream\r\n"
#define MIXED "Content-Type: multipart/mixed; boundary=b\r\n"
#define RFC   "Content-Type: message/rfc822\r\n"
#define U     "\xc3\xbc"                 /* ü */
#define UW    U "xxxxxxxxxxxx"
#define QW    "=C3=BCxxxxxxxxxxxx"
#define U6    U U U U U U
#define X100  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X75   "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X998  X100 X100 X100 X100 X100 X100 X100 X100 X100 X75 "xxxxxxxxxxxxxxxxxxxxxxx"
#define SOFT  X75 "=\r\n"

// clang-format off
static const struct { const char *name; struct str in; enum convert_verdict verdict; struct str out; } cases[] = {
    { "no header, no body",        STR(""), CONVERT_NOTHING, STR("") },
    { "no end of line",            STR("A: b\r\n\r\n" UW), CONVERT_POSSIBLE, STR("A: b\r\n" V T QP "\r\n" QW "=\r\n") },
    { "the first byte",            STR("\r\n\xfc\r\n"), CONVERT_POSSIBLE, STR(V UNK QP "\r\n=FC\r\n") },
    { "half a character at the end", STR("\r\nxxxxxxxxxxxxxx\xc3"), CONVERT_POSSIBLE, STR(V UNK QP "\r\nxxxxxxxxxxxxxx=C3=\r\n") },
    { "half a character",          STR("\r\nxxxxxxxxxxxxxx\xc3\r\n\xbc\r\n"), CONVERT_POSSIBLE, STR(V UNK QP "\r\nxxxxxxxxxxxxxx=C3\r\n=BC\r\n") },
    { "a label without version",   STR(E8 "\r\n" UW "\r\n"), CONVERT_POSSIBLE, STR(QP V T "\r\n" QW "\r\n") },
    { "in its place, folded, any case", STR(V "content-TRANSFER-encoding:\r\n (a)\r\n 8BIT\r\n" T "\r\n" UW "\r\n"), CONVERT_POSSIBLE,
                                   STR(V QP T "\r\n" QW "\r\n") },
    { "a type without charset is left", STR(V "Content-Type: text/html\r\n\r\n" UW "\r\n"), CONVERT_POSSIBLE,
                                   STR(V "Content-Type: text/html\r\n" QP "\r\n" QW "\r\n") },
    { "shorter in base64",         STR(V T E8 "\r\n" U6 U6 "\r\n"), CONVERT_POSSIBLE, STR(V T B64 "\r\nw7zDvMO8w7zDvMO8w7zDvMO8w7zDvMO8DQo=\r\n") },
    { "data in base64",            STR(V DATA E8 "\r\nxxxxxxxxxxxxxxx\xff\r\n"), CONVERT_POSSIBLE, STR(V DATA B64 "\r\neHh4eHh4eHh4eHh4eHh4/w0K\r\n") },
    { "said to be 7bit",           STR(V T E7 "\r\n" UW "\r\n"), CONVERT_POSSIBLE, STR(V T QP "\r\n" QW "\r\n") },
    { "labelled 8bit, and is not", STR(V T E8 "\r\nxx\r\n"), CONVERT_NOTHING, STR(V T E8 "\r\nxx\r\n") },

    { "998 octets in a line",      STR(V T "\r\n" X998 "\r\n"), CONVERT_NOTHING, STR(V T "\r\n" X998 "\r\n") },
    { "999 octets in a line",      STR(V T "\r\n" X998 "x\r\n"), CONVERT_POSSIBLE,
                                   STR(V T QP "\r\n" SOFT SOFT SOFT SOFT SOFT SOFT SOFT SOFT SOFT SOFT SOFT SOFT SOFT "xxxxxxxxxxxxxxxxxxxxxxxx\r\n") },
    { "long lines in a header stay", STR("A: " X998 "\r\n\r\nx\r\n"), CONVERT_NOTHING, STR("A: " X998 "\r\n\r\nx\r\n") },
    { "binary: bare ends, NUL",    STR(V T "Content-Transfer-Encoding: binary\r\n\r\na\nb\rc\0\r\n"), CONVERT_POSSIBLE, STR(V T B64 "\r\nYQpiDWMADQo=\r\n") },

    { "8-bit header",              STR("Subject: " U "\r\n\r\nx\r\n"), CONVERT_HEADER, STR("") },
    { "8-bit header, 8-bit text",  STR("Subject: " U "\r\n\r\n" U "\r\n"), CONVERT_HEADER, STR("") },
    { "8-bit header of a part",    STR(V MIXED "\r\n--b\r\nSubject: " U "\r\n\r\nx\r\n--b--\r\n"), CONVERT_HEADER, STR("") },
    { "8-bit header of a message in it", STR(V RFC "\r\nSubject: " U "\r\n\r\nx\r\n"), CONVERT_HEADER, STR("") },
    { "a NUL in the header of a part", STR(V MIXED "\r\n--b\r\nA: \0\r\n\r\nx\r\n--b--\r\n"), CONVERT_HEADER, STR("") },
    { "a bare LF in the header",   STR("A: b\nC: d\r\n\r\nx\r\n"), CONVERT_HEADER, STR("") },   /* who sends it on as CRLF makes two of one */
    /* What was seen before the reader was lost is trouble all the same. */
    { "8-bit before a header that is none", STR(V MIXED "\r\n" U "\r\n--b\r\nno field\r\n\r\nx\r\n--b--\r\n"), CONVERT_STRUCTURE, STR("") },
    { "a bare LF before a delimiter of two", STR(V MIXED "\r\n--b\r\n" MIXED "\r\na\nb\r\n--b\r\n\r\nx\r\n--b--\r\n"), CONVERT_STRUCTURE, STR("") },
    { "8-bit in message/partial",  STR(V "Content-Type: message/partial; id=a; number=2\r\n" E8 "\r\n" U "\r\n"), CONVERT_SEALED, STR("") },
    { "8-bit in message/delivery-status", STR(V "Content-Type: message/delivery-status\r\n\r\n" U "\r\n"), CONVERT_SEALED, STR("") },
    { "message/global may be encoded", STR(V "Content-Type: message/global\r\n" E8 "\r\nSubject: " U "\r\n\r\nx\r\n"), CONVERT_POSSIBLE,
                                   STR(V "Content-Type: message/global\r\n" B64 "\r\nU3ViamVjdDogw7wNCg0KeA0K\r\n") },   /* RFC 6532, 3.5 */
    { "an unknown encoding",       STR(V T "Content-Transfer-Encoding: x-uue\r\n\r\n" U "\r\n"), CONVERT_ENCODING, STR("") },
    { "an unknown encoding, 7-bit", STR(V T "Content-Transfer-Encoding: x-uue\r\n\r\nx\r\n"), CONVERT_NOTHING, STR(V T "Content-Transfer-Encoding: x-uue\r\n\r\nx\r\n") },
    { "no boundary",               STR(V "Content-Type: multipart/mixed\r\n\r\n" U "\r\n"), CONVERT_STRUCTURE, STR("") },
    { "boundary, and no part",     STR(V MIXED "\r\n" U "\r\n"), CONVERT_STRUCTURE, STR("") },
    { "two types",                 STR(V T T "\r\n" U "\r\n"), CONVERT_STRUCTURE, STR("") },
    { "two types, 7-bit",          STR(V T T "\r\nx\r\n"), CONVERT_NOTHING, STR(V T T "\r\nx\r\n") },
    { "no field in the header",    STR("A: b\r\nno field\r\n\r\n" U "\r\n"), CONVERT_STRUCTURE, STR("") },

    { "a part of many",            STR(V MIXED E8 "\r\npre\r\n--b\r\n" T E8 "\r\nx\r\n--b\r\n" T E8 "\r\n" UW "\r\n--b--\r\nepi\r\n"), CONVERT_POSSIBLE,
                                   STR(V MIXED E7 "\r\npre\r\n--b\r\n" T E8 "\r\nx\r\n--b\r\n" T QP "\r\n" QW "\r\n--b--\r\nepi\r\n") },
    { "a part without header",     STR(V MIXED "\r\n--b\r\n\r\n" UW "\r\n--b\r\n\r\nx\r\n--b--\r\n"), CONVERT_POSSIBLE,
                                   STR(V MIXED "\r\n--b\r\n" T QP "\r\n" QW "\r\n--b\r\n\r\nx\r\n--b--\r\n") },
    { "an empty line before the delimiter", STR(V MIXED "\r\n--b\r\n" T "\r\n" UW "\r\n\r\n--b--\r\n"), CONVERT_POSSIBLE,
                                   STR(V MIXED "\r\n--b\r\n" T QP "\r\n" QW "\r\n\r\n--b--\r\n") },
    { "data without end of line",  STR(V MIXED "\r\n--b\r\n" DATA "\r\n\xff\r\n--b--"), CONVERT_POSSIBLE, STR(V MIXED "\r\n--b\r\n" DATA B64 "\r\n/w==\r\n--b--") },
    { "no last delimiter",         STR(V MIXED "\r\n--b\r\n" DATA "\r\n\xff\r\n"), CONVERT_POSSIBLE, STR(V MIXED "\r\n--b\r\n" DATA B64 "\r\n/w0K\r\n") },
    { "8-bit before and behind the parts", STR(V MIXED E8 "\r\n" U "\r\n--b\r\n" T "\r\nx\r\n--b--\r\n" U "\r\nx\r\n"), CONVERT_POSSIBLE,
                                   STR(V MIXED E7 "\r\n\r\n--b\r\n" T "\r\nx\r\n--b--\r\n") },
    { "8-bit behind, and a part there", STR(V MIXED "\r\n--b\r\n\r\nx\r\n--b--\r\n" U "\r\n--b\r\n"), CONVERT_STRUCTURE, STR("") },
    { "a line that would be a delimiter", STR(V MIXED "\r\n--b\r\n" T "\r\n--b" U "xxxxxxxxxxxx" X75 "--b\r\n--b--\r\n"), CONVERT_POSSIBLE,
                                   STR(V MIXED "\r\n--b\r\n" T QP "\r\n=2D-b" QW "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=\r\n"
                                       "xxxxxxxxxxxxxxxxxxxxxxx--b\r\n--b--\r\n") },
    { "a message in a message",    STR(V RFC E8 "\r\nA: b\r\n\r\n" UW "\r\n"), CONVERT_POSSIBLE, STR(V RFC E7 "\r\nA: b\r\n" V T QP "\r\n" QW "\r\n") },
    { "a message in a digest",     STR(V "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nA: b\r\n\r\n" UW "\r\n--b--\r\n"), CONVERT_POSSIBLE,
                                   STR(V "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nA: b\r\n" V T QP "\r\n" QW "\r\n--b--\r\n") },

    { "raw 8-bit in quoted-printable", STR(V T QP "\r\n=C3=BC" U "=\r\n \r\n"), CONVERT_POSSIBLE, STR(V T QP "\r\n=C3=BC=C3=BC=\r\n \r\n") },
    { "a mended part's label is plain", STR(V T "Content-Transfer-Encoding: (raw) Quoted-Printable; x\r\n\r\n" U "\r\n"), CONVERT_POSSIBLE,
                                   STR(V T QP "\r\n=C3=BC\r\n") },
    { "base64 in one line",        STR(V DATA B64 "\r\n" X998 "xx\r\n\xff\r\n"), CONVERT_POSSIBLE,
                                   STR(V DATA B64 "\r\n" X75 "x\r\n" X75 "x\r\n" X75 "x\r\n" X75 "x\r\n" X75 "x\r\n" X75 "x\r\n" X75 "x\r\n" X75 "x\r\n"
                                       X75 "x\r\n" X75 "x\r\n" X75 "x\r\n" X75 "x\r\n" X75 "x\r\nxxxxxxxxxxxx\r\n") },
};
// clang-format on

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t step = 1; step < 5000; step += step < 4 ? 1 : 1023) {
            CLEANUP_BUF struct buf out;
            bool breaks = false;
            buf_init(&out, 1 << 20);
            enum convert_verdict verdict = convert(cases[i].in, step, &out, &breaks);
            if (verdict != cases[i].verdict || !str_eq(buf_str(&out), cases[i].out))
                fail_msg("%s: verdict %d, \"%" STR_FMT "\"", cases[i].name, (int)verdict, STR_ARG(buf_str(&out)));
        }
}

static void test_signatures(void **state)
{
    // clang-format off
    static const struct { const char *in; bool breaks; } rows[] = {
        { "A: b\r\n\r\n" U "\r\n",                                                                                             false },
        { "DKIM-Signature: v=1\r\n\r\nx\r\n",                                                                                  true  },   /* if it were converted */
        { "dkim-signature: v=1\r\n\r\n" U "\r\n",                                                                              true  },
        { "ARC-Message-Signature: i=1\r\n\r\n" U "\r\n",                                                                       true  },
        { RFC "\r\nDKIM-Signature: v=1\r\n\r\n" U "\r\n",                                                                      false },   /* no longer this message's */
        { "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n" U "\r\n--b--\r\n",                                   true  },
        { MIXED "\r\n--b\r\nContent-Type: multipart/signed; boundary=c\r\n" E8 "\r\n--c\r\n\r\nx\r\n--c--\r\n--b\r\n\r\n" U "\r\n--b--\r\n", false },   /* that part stays */
        { "Content-Type: application/pkcs7-mime\r\n\r\n" U "\r\n",                                                             false },   /* is made over what is decoded */
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CLEANUP_BUF struct buf out;
        bool breaks = false;
        buf_init(&out, 1 << 20);
        (void)convert(str_of(rows[i].in), 100, &out, &breaks);
        if (breaks != rows[i].breaks)
            fail_msg("%s: %d", rows[i].in, breaks);
    }
}

/* -- messages made at random ------------------------------------------------------------------------------------------------------- */

static unsigned pick(unsigned n)
{
    return (unsigned)random() % n;
}

static void put_words(struct buf *out, const char *words)
{
    buf_put_z(out, words);
}

static void put_content_line(struct buf *out, unsigned mood)
{
    static const char *const pieces[] = { "x", " ", "\t", "=", "--", "-", ".", "From ", "=3D", "--b0", "--b1--", "word", U, "\xff", "\xe2\x82\xac" };
    unsigned n = pick(8) == 0 ? pick(400) : pick(20);

    for (; n > 0; n--) {
        if (mood == 2 && pick(10) == 0)
            buf_put(out, &"\r\n\0\x01"[pick(4)], 1);
        else if (mood >= 1 && pick(4) == 0)
            buf_put_char(out, (char)(0x80 | random()));
        else
            put_words(out, pieces[pick(mood == 0 ? 12 : 15)]);
    }
}

/* Content of one leaf; mood 0: 7-bit, 1: 8-bit, 2: binary. No line of it is a delimiter of ours, and no line end comes about by chance. */
static void put_content(struct buf *out, unsigned mood)
{
    for (unsigned lines = pick(6); lines > 0; lines--) {
        CLEANUP_BUF struct buf line;
        buf_init(&line, 1 << 16);
        put_content_line(&line, mood);
        if (str_find_str(buf_str(&line), STR("\r\n")) >= 0 || str_starts(buf_str(&line), STR("--b")))
            continue;
        buf_put_str(out, buf_str(&line));
        if (lines > 1 && (line.n == 0 || line.p[line.n - 1] != '\r'))
            buf_put_str(out, STR("\r\n"));
    }
}

/* A message or part. Each leaf's content is also put into `leaves`, with its length before it. */
static void put_part(struct buf *out, struct buf *leaves, unsigned depth, unsigned *boundaries)
{
    static const char *const types[] = { "text/plain; charset=utf-8", "TEXT/html", "application/x-y; name=\"a;b\"", "image/png", "text/plain" };
    static const char *const labels[] = { "", E7, E8, "Content-Transfer-Encoding: BINARY (x)\r\n" };
    unsigned shape = depth < 6 ? pick(4) : 3;

    if (pick(2) == 0)
        put_words(out, "X-Some: thing\r\n folded: not a field\r\n");
    if (shape == 0) {
        unsigned boundary = (*boundaries)++;
        buf_printf(out, "Content-Type: multipart/%s;\r\n\tboundary=\"b%u.\"\r\n%s\r\n", pick(2) ? "mixed" : "signed", boundary, labels[pick(4)]);
        if (pick(3) == 0)
            put_words(out, "an aside " U "\r\n");
        for (unsigned parts = 1 + pick(3); parts > 0; parts--) {
            buf_printf(out, "\r\n--b%u.\r\n", boundary);
            put_part(out, leaves, depth + 1, boundaries);
        }
        buf_printf(out, "\r\n--b%u.--\r\n", boundary);
        if (pick(3) == 0)
            put_words(out, "an aside");
    } else if (shape == 1) {
        buf_printf(out, "%sContent-Type: message/rfc822\r\n\r\n", labels[pick(4)]);
        put_words(out, "MIME-Version: 1.0\r\n");
        put_part(out, leaves, depth + 1, boundaries);
    } else {
        buf_printf(out, "Content-Type: %s\r\n%s\r\n", types[pick(5)], labels[pick(4)]);
        size_t before = out->n;
        put_content(out, pick(3));
        buf_put_u32(leaves, (uint32_t)(out->n - before));
        buf_put(leaves, out->p + before, out->n - before);
    }
}

/* -- a reader of its own: whole strings, one rule after the other -------------------------------------------------------------------- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void decode_qp(struct str s, struct buf *out)
{
    while (s.n > 0) {
        if (str_starts(s, STR("=\r\n"))) {
            s = str_from(s, 3);
        } else if (s.p[0] == '=') {
            assert_true(s.n >= 3 && hex(s.p[1]) >= 0 && hex(s.p[2]) >= 0);
            buf_put_char(out, (char)(hex(s.p[1]) << 4 | hex(s.p[2])));
            s = str_from(s, 3);
        } else {
            buf_put_char(out, s.p[0]);
            s = str_from(s, 1);
        }
    }
}

static void decode_base64(struct str s, struct buf *out)
{
    CLEANUP_BUF struct buf packed;

    buf_init(&packed, 1 << 24);
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '\r' && s.p[i] != '\n')
            buf_put_char(&packed, s.p[i]);
    assert_true(codec_base64(buf_str(&packed), out));
}

static void read_leaf(struct str header, struct str body, bool alone, struct buf *leaves)
{
    CLEANUP_BUF struct buf out;
    struct header_field f = { 0 };
    bool labelled = header_find(header, STR("Content-Transfer-Encoding"), &f);

    buf_init(&out, 1 << 24);
    if (labelled && str_find_str(f.value, STR("quoted-printable")) >= 0)
        decode_qp(body, &out);
    else if (labelled && str_find_str(f.value, STR("base64")) >= 0)
        decode_base64(alone && body.n > 0 ? str_head(body, body.n - 2) : body, &out);
    else
        buf_put_str(&out, body);
    buf_put_u32(leaves, (uint32_t)out.n);
    buf_put_str(leaves, buf_str(&out));
}

static void read_part(struct str part, bool alone, struct buf *leaves)
{
    struct header_field type = { 0 };
    size_t end = header_end(part);
    struct str header = str_head(part, end), body = str_from(part, end), delimiter, rest;
    char text[64];

    assert_true(header_find(header, STR("Content-Type"), &type));
    if (str_find_str(type.value, STR("message/rfc822")) >= 0) {
        read_part(body, alone, leaves);
        return;
    }
    if (str_find_str(type.value, STR("multipart/")) < 0) {
        read_leaf(header, body, alone, leaves);
        return;
    }
    (void)str_cut(str_from(type.value, (size_t)str_find_str(type.value, STR("boundary=\"")) + 10), '"', &delimiter, &rest);
    snprintf(text, sizeof text, "\r\n--%" STR_FMT, STR_ARG(delimiter));
    size_t at = (size_t)str_find_str(str_from(part, end - 2), str_of(text)) + end - 2;      /* the empty line's CRLF may be the delimiter's */
    for (rest = str_from(part, at + strlen(text)); !str_starts(rest, STR("--")); rest = str_from(rest, at + strlen(text))) {
        at = (size_t)str_find_str(rest, str_of(text));
        assert_true((ssize_t)at > 0);
        read_part(str_from(str_head(rest, at), 2), false, leaves);
    }
}

static void check_7bit(struct str s)
{
    size_t column = 0;

    assert_true(utf8_is_ascii(s) && str_find(s, '\0') < 0);
    for (size_t i = 0; i < s.n; i++) {
        bool end = str_starts(str_from(s, i), STR("\r\n"));
        assert_true(end || s.p[i] != '\r');
        assert_true(s.p[i] != '\n' || (i > 0 && s.p[i - 1] == '\r'));
        column = end || s.p[i] == '\n' ? 0 : column + 1;
        assert_true(column <= CONVERT_LINE_MAX);
    }
}

/* True if it was converted. */
static bool check_random(void)
{
    CLEANUP_BUF struct buf message, leaves, out, again, found;
    unsigned boundaries = 0;
    bool breaks;

    buf_init(&message, 1 << 24);
    buf_init(&leaves, 1 << 24);
    buf_init(&out, 1 << 24);
    buf_init(&again, 1 << 24);
    buf_init(&found, 1 << 24);
    put_words(&message, "MIME-Version: 1.0\r\n");
    put_part(&message, &leaves, 0, &boundaries);
    enum convert_verdict verdict = convert(buf_str(&message), 1 + pick(3000), &out, &breaks);
    assert_int_equal(convert(buf_str(&message), 1 + pick(50), &again, &breaks), verdict);
    assert_true(str_eq(buf_str(&out), buf_str(&again)));       /* however it comes */
    assert_true(verdict == CONVERT_NOTHING || verdict == CONVERT_POSSIBLE);
    assert_true(verdict == CONVERT_POSSIBLE || str_eq(buf_str(&out), buf_str(&message)));
    check_7bit(buf_str(&out));
    read_part(buf_str(&out), true, &found);
    if (!str_eq(buf_str(&found), buf_str(&leaves)))
        fail_msg("in: %" STR_FMT "\n---\nout: %" STR_FMT "\n", STR_ARG(buf_str(&message)), STR_ARG(buf_str(&out)));
    buf_clear(&again);
    assert_int_equal(convert(buf_str(&out), 1 + pick(3000), &again, &breaks), CONVERT_NOTHING);   /* once is enough */
    assert_true(str_eq(buf_str(&out), buf_str(&again)));
    return verdict == CONVERT_POSSIBLE;
}

static void test_random(void **state)
{
    (void)state;
    unsigned converted = 0, rounds = 10000;

    srandom(20261123);
    for (unsigned i = 0; i < rounds; i++)
        converted += check_random();
    assert_true(converted > rounds / 4 && converted < rounds);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
