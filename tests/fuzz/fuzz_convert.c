/*
 * Fuzzes mail/mime_reader and mail/convert, with mail/mime_field and mail/transfer below them. The first octet chooses how the rest is split.
 *
 * The texts of the events are the message, and the events do not depend on how it comes; nor does what is converted, whose size is told
 * exactly. What comes out, or is said to be text as it is, has no bare CR or LF and no NUL. What comes out needs no conversion, has the
 * same structure, and each part that was encoded decodes to what it was.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/utf8.h"
#include "mail/convert.h"
#include "mail/mime_reader.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    struct buf all;              /* the texts of all events */
    struct buf frame;            /* parts and delimiters: '<', '>', 'd'; '?' for each piece when the reader is lost */
    struct buf pieces;           /* every event with its text's length */
    struct buf contents[64];     /* of the first leaves */
    struct mime_part parts[64];
    unsigned count;
};

static void see(void *arg, const struct mime_event *e)
{
    struct seen *s = arg;
    static const char letters[] = "<fbcad>?";

    buf_put_str(&s->all, e->text);
    buf_put_u8(&s->pieces, (uint8_t)e->seen);
    buf_put_u32(&s->pieces, (uint32_t)e->text.n);
    if (e->seen == MIME_OPEN || e->seen == MIME_CLOSE || e->seen == MIME_DELIMITER || e->seen == MIME_BYTES)
        buf_put_char(&s->frame, letters[e->seen]);
    assert((e->part == NULL) == (e->seen == MIME_BYTES));
    if (e->part == NULL || e->part->index >= 64)
        return;
    unsigned i = e->part->index;
    if (e->seen == MIME_OPEN)
        s->count = i + 1;
    if (e->seen == MIME_BODY)
        s->parts[i] = *e->part;
    if (e->seen == MIME_CONTENT)
        buf_put_str(&s->contents[i], e->text);
}

static void read_message(struct str in, size_t step, struct seen *out)
{
    static struct mime_reader r;

    memset(out, 0, sizeof *out);
    buf_init(&out->all, 1 << 24);
    buf_init(&out->frame, 1 << 24);
    buf_init(&out->pieces, 1 << 24);
    for (unsigned i = 0; i < 64; i++)
        buf_init(&out->contents[i], 1 << 24);
    mime_reader_begin(&r, see, out);
    for (size_t at = 0; at < in.n; at += step)
        mime_reader_add(&r, str_head(str_from(in, at), step));
    mime_reader_end(&r);
    assert(str_eq(buf_str(&out->all), in));
}

static void forget(struct seen *s)
{
    buf_free(&s->all);
    buf_free(&s->frame);
    buf_free(&s->pieces);
    for (unsigned i = 0; i < 64; i++)
        buf_free(&s->contents[i]);
}

/* No NUL, and no CR or LF but together. */
static bool is_lines(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\0' || (s.p[i] == '\n' && (i == 0 || s.p[i - 1] != '\r')) || (s.p[i] == '\r' && (i + 1 == s.n || s.p[i + 1] != '\n')))
            return false;
    return true;
}

static enum convert_verdict convert(struct str in, size_t step, struct buf *out)
{
    struct convert *c = convert_new();
    enum convert_verdict verdict;

    assert(c != NULL);
    for (size_t at = 0; at < in.n; at += step)
        convert_scan(c, str_head(str_from(in, at), step));
    int r = convert_scan_end(c, &verdict);
    assert(r == 0 && (convert_is_binary(c) || is_lines(in)));
    (void)r;
    for (size_t at = 0; at < in.n && verdict <= CONVERT_POSSIBLE; at += step) {
        struct str piece = str_head(str_from(in, at), step);
        size_t before = out->n;
        convert_write(c, piece, out);
        assert(out->n - before <= CONVERT_GROWTH_MAX * piece.n + CONVERT_EXTRA_MAX);
    }
    if (verdict <= CONVERT_POSSIBLE) {
        convert_write_end(c, out);
        assert(buf_ok(out) && convert_size(c) == out->n);
    }
    convert_free(c);
    return verdict;
}

/* -- decoding, plainly -------------------------------------------------------------------------------------------------------- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void decode_qp(struct str s, struct buf *out)
{
    while (s.n > 0) {
        if (str_starts(s, STR("=\r\n"))) {
            s = str_from(s, 3);
            continue;
        }
        bool escape = s.p[0] == '=';
        assert(!escape || (s.n >= 3 && hex(s.p[1]) >= 0 && hex(s.p[2]) >= 0));
        buf_put_char(out, escape ? (char)(hex(s.p[1]) << 4 | hex(s.p[2])) : s.p[0]);
        s = str_from(s, escape ? 3 : 1);
    }
}

static void decode_base64(struct str s, struct buf *out)
{
    CLEANUP_BUF struct buf packed;

    buf_init(&packed, 1 << 24);
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '\r' && s.p[i] != '\n')
            buf_put_char(&packed, s.p[i]);
    bool ok = codec_base64(buf_str(&packed), out);
    assert(ok);
    (void)ok;
}

static void check_contents(const struct seen *before, const struct seen *after)
{
    for (unsigned i = 0; i < before->count; i++) {
        const struct mime_part *was = &before->parts[i], *is = &after->parts[i];
        CLEANUP_BUF struct buf decoded;
        buf_init(&decoded, 1 << 24);
        assert(was->shape == is->shape && was->is_message == is->is_message);
        if (was->shape != MIME_LEAF || was->encoding == MIME_QUOTED_PRINTABLE || was->encoding == MIME_BASE64)
            continue;
        if (is->encoding == MIME_QUOTED_PRINTABLE)
            decode_qp(buf_str(&after->contents[i]), &decoded);
        else if (is->encoding == MIME_BASE64)
            decode_base64(buf_str(&after->contents[i]), &decoded);
        else
            buf_put_str(&decoded, buf_str(&after->contents[i]));
        assert(str_eq(buf_str(&decoded), buf_str(&before->contents[i])));
    }
}

static void check_converted(struct str in, struct str out)
{
    static struct seen before, after;

    assert(utf8_is_ascii(out) && is_lines(out));
    read_message(in, in.n, &before);
    read_message(out, out.n, &after);
    assert(str_eq(buf_str(&before.frame), buf_str(&after.frame)));
    check_contents(&before, &after);
    forget(&before);
    forget(&after);
}

static void check_events(struct str in, size_t step)
{
    static struct seen a, b;

    read_message(in, in.n, &a);
    read_message(in, step, &b);
    assert(str_eq(buf_str(&a.pieces), buf_str(&b.pieces)) && str_eq(buf_str(&a.frame), buf_str(&b.frame)));
    forget(&a);
    forget(&b);
}

static void check_conversion(struct str in, size_t step)
{
    CLEANUP_BUF struct buf whole, pieces, again;

    buf_init(&whole, 1 << 24);
    buf_init(&pieces, 1 << 24);
    buf_init(&again, 1 << 24);
    enum convert_verdict verdict = convert(in, in.n, &whole);
    assert(convert(in, step, &pieces) == verdict && str_eq(buf_str(&whole), buf_str(&pieces)));
    assert(verdict != CONVERT_NOTHING || (str_eq(buf_str(&whole), in) && utf8_is_ascii(in) && is_lines(in)));
    if (verdict != CONVERT_POSSIBLE)
        return;
    check_converted(in, buf_str(&whole));
    assert(convert(buf_str(&whole), step, &again) == CONVERT_NOTHING);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 65536)
        return 0;
    struct str in = { (const char *)data + 1, size - 1 };
    size_t step = data[0] % 32 + 1;
    check_events(in, step);
    check_conversion(in, step);
    return 0;
}
