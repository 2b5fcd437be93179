/*
 * Fuzzes smtp/reply: a server's replies in pieces and at once give the same; our own replies, whatever their text, read back as
 * one reply with the same code. The first octet chooses how the rest is split.
 */
#include "base/cleanup.h"
#include "smtp/reply.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Like a client with a buffer: what was not consumed is given again with more behind it. */
static enum reply_result parse_in_pieces(struct str in, size_t step, struct smtp_reply *r, size_t *consumed)
{
    enum reply_result result = REPLY_MORE;
    size_t from = 0, used;

    for (size_t to = 0; result == REPLY_MORE && to < in.n;) {
        to = to + step < in.n ? to + step : in.n;
        result = smtp_parse_reply(str_from(str_head(in, to), from), &used, r);
        from += used;
    }
    *consumed = from;
    return result;
}

static void check_parser(struct str in, size_t step)
{
    struct smtp_reply a, b;
    size_t used_a = 0, used_b;

    smtp_reply_init(&a);
    smtp_reply_init(&b);
    enum reply_result result = smtp_parse_reply(in, &used_a, &a);
    assert(parse_in_pieces(in, step, &b, &used_b) == result && used_a == used_b);
    assert(a.code == b.code && strcmp(a.enhanced, b.enhanced) == 0 && str_eq(buf_str(&a.text), buf_str(&b.text)));
    if (result == REPLY_DONE) {
        assert(a.code >= 200 && a.code <= 599 && a.lines <= REPLY_LINES_MAX && a.text.n <= REPLY_TEXT_MAX);
        struct str line = smtp_reply_line(&a);
        for (size_t i = 0; i < line.n; i++)
            assert((unsigned char)line.p[i] >= ' ' && line.p[i] != 0x7f);
    }
    smtp_reply_free(&a);
    smtp_reply_free(&b);
}

static void check_writer(struct str in)
{
    CLEANUP_FREE char *text = strndup(in.p, in.n);
    struct smtp_reply back;
    size_t used;

    if (text == NULL)
        return;
    CLEANUP_BUF struct buf out;
    buf_init(&out, 1 << 22);
    struct reply r = reply(550, "5.7.1", text);
    reply_put(&out, &r);
    struct str rest = buf_str(&out), line;
    size_t lines = 0;
    while (str_cut(rest, '\n', &line, &rest)) {
        assert(line.n + 1 <= REPLY_WRITE_LINE_MAX);
        lines++;
    }
    if (lines > REPLY_LINES_MAX)
        return;
    smtp_reply_init(&back);
    assert(smtp_parse_reply(buf_str(&out), &used, &back) == REPLY_DONE);
    assert(used == out.n && back.code == 550 && strcmp(back.enhanced, "5.7.1") == 0 && back.lines == lines);
    smtp_reply_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct str in = { (const char *)data + 1, size - 1 };
    check_parser(in, data[0] % 32 + 1);
    check_writer(in);
    return 0;
}
