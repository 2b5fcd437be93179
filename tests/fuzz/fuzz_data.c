/*
 * Fuzzes smtp/data both ways. The first octet chooses how the rest is split.
 *
 * Decoding in pieces gives what decoding at once gives; it agrees with a decoder so plain that one sees it is right; what was
 * decoded encodes and decodes to itself; and whatever goes into the encoder, no bare CR or LF and no early end comes out.
 */
#include "base/cleanup.h"
#include "smtp/data.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum data_result decode(struct data_decoder *d, struct str in, size_t step, struct buf *out, size_t *consumed)
{
    enum data_result r;
    size_t at = 0, used;

    *d = (struct data_decoder){ .bytes = 0 };
    do {
        r = data_decode(d, str_head(str_from(in, at), step), &used, out);
        at += used;
    } while (r == DATA_MORE && at < in.n);
    *consumed = at;
    return r;
}

/* RFC 5321, 4.5.2, line by line; a line ends where CRLF is. */
static enum data_result decode_plainly(struct str in, struct buf *out, size_t *consumed)
{
    struct str rest = in;
    bool bare = false;

    for (;;) {
        ssize_t end = str_find_str(rest, STR("\r\n"));
        if (end < 0)
            return DATA_MORE;
        struct str line = str_head(rest, (size_t)end);
        rest = str_from(rest, line.n + 2);
        *consumed = in.n - rest.n;
        if (str_eq(line, STR(".")))
            return bare ? DATA_BARE_LF : DATA_END;
        bare |= str_find(line, '\r') >= 0 || str_find(line, '\n') >= 0;
        buf_put_str(out, str_from(line, str_starts(line, STR("."))));
        buf_put(out, "\r\n", 2);
    }
}

static void check_decoder(struct str in, size_t step)
{
    CLEANUP_BUF struct buf whole, pieces, plain;
    struct data_decoder a, b;
    size_t used_a, used_b, used_plain;

    buf_init(&whole, 1 << 22);
    buf_init(&pieces, 1 << 22);
    buf_init(&plain, 1 << 22);
    enum data_result r = decode(&a, in, in.n, &whole, &used_a);
    assert(decode(&b, in, step, &pieces, &used_b) == r && used_a == used_b && a.violation == b.violation && a.bytes == b.bytes);
    assert(a.lines == b.lines && a.line_max == b.line_max && a.header_end == b.header_end);
    if (a.violation == DATA_MORE) {
        assert(str_eq(buf_str(&whole), buf_str(&pieces)) && a.bytes == whole.n);
        assert(a.has_8bit == b.has_8bit && a.has_nul == b.has_nul);
        assert(a.has_nul == (str_find(buf_str(&whole), '\0') >= 0));
    }
    enum data_result expected = decode_plainly(in, &plain, &used_plain);
    assert((r == DATA_MORE) == (expected == DATA_MORE) && (r == DATA_END) == (expected == DATA_END));
    assert(r == DATA_MORE || used_a == used_plain);
    assert(r != DATA_END || str_eq(buf_str(&whole), buf_str(&plain)));
}

/* BDAT: nothing is changed, split anywhere the judgement is the same, and it is the one of a look at the whole. */
static void check_counted(struct str in, size_t step, bool binary)
{
    CLEANUP_BUF struct buf out;
    struct data_decoder d = { .counted = true, .binary = binary };
    size_t used;

    buf_init(&out, 1 << 22);
    for (size_t at = 0; at < in.n; at += used)
        assert(data_decode(&d, str_head(str_from(in, at), step), &used, &out) == DATA_MORE && used > 0);
    enum data_result r = data_decode_end(&d);
    assert(d.bytes == in.n);
    ssize_t end = str_starts(in, STR("\r\n")) ? 0 : str_find_str(in, STR("\r\n\r\n"));
    size_t strict = !binary || end < 0 ? in.n : (size_t)end + (end == 0 ? 2 : 4);
    bool bare = false;
    for (size_t i = 0; i < strict; i++)
        bare |= (in.p[i] == '\n' && (i == 0 || in.p[i - 1] != '\r')) || (in.p[i] == '\r' && (i + 1 == in.n || in.p[i + 1] != '\n'));
    assert((r != DATA_END) == bare);
    assert(bare || str_eq(buf_str(&out), in));
}

static void check_encoder(struct str in, size_t step)
{
    CLEANUP_BUF struct buf whole, pieces, back;
    struct data_encoder a = { .converted = false }, b = { .converted = false };
    struct data_decoder d;
    size_t used;

    buf_init(&whole, 1 << 22);
    buf_init(&pieces, 1 << 22);
    buf_init(&back, 1 << 22);
    data_encode(&a, in, &whole);
    data_encode_end(&a, &whole);
    for (size_t at = 0; at < in.n; at += step)
        data_encode(&b, str_head(str_from(in, at), step), &pieces);
    data_encode_end(&b, &pieces);
    assert(str_eq(buf_str(&whole), buf_str(&pieces)) && a.converted == b.converted);
    assert(decode(&d, buf_str(&whole), step, &back, &used) == DATA_END && used == whole.n);
    if (a.converted)
        return;
    assert(back.n == in.n || back.n == in.n + 2);
    assert(str_eq(str_head(buf_str(&back), in.n), in));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct str in = { (const char *)data + 1, size - 1 };
    size_t step = data[0] % 32 + 1;
    check_decoder(in, step);
    check_encoder(in, step);
    check_counted(in, step, false);
    check_counted(in, step, true);
    return 0;
}
