/*
 * Dot transparency. Both directions walk from one CR to the next with memchr and copy spans as long as they can; only the
 * first bytes of a line and the borders of chunks are looked at one by one.
 */
#include "smtp/data.h"

#include <assert.h>
#include <string.h>

/* The next c at or after p, remembered between calls, so that a chunk is searched once however many turns it takes. */
struct finder {
    const char *found; /* NULL: not searched yet; end: there is none */
};

static const char *find_from(struct finder *f, const char *p, const char *end, char c)
{
    if (f->found == NULL || f->found < p) {
        f->found = memchr(p, c, (size_t)(end - p));
        if (f->found == NULL)
            f->found = end;
    }
    return f->found;
}

/* -- decoding ------------------------------------------------------------------------------------------------------- */

static void observe_bytes(struct data_decoder *d, const char *p, size_t n)
{
    const uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;
    uint64_t high = 0, zero = 0;

    for (; n >= sizeof(uint64_t); p += sizeof(uint64_t), n -= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        high |= word;
        zero |= (word - ones) & ~word; /* a top bit is set if there is a zero byte, and not without one */
    }
    for (; n > 0; p++, n--) {
        high |= (uint64_t)(unsigned char)*p;
        zero |= *p == '\0' ? highs : 0;
    }
    d->has_8bit |= (high & highs) != 0;
    d->has_nul |= (zero & highs) != 0;
}

/* Bytes of the message, from span up to p, are decoded. */
static void keep(struct data_decoder *d, const char *span, const char *p, struct buf *out)
{
    size_t n = (size_t)(p - span);

    if (n == 0)
        return;
    d->bytes += n;
    if (d->violation != DATA_MORE)
        return;
    if (!d->has_8bit || !d->has_nul)
        observe_bytes(d, span, n);
    if (out != NULL)
        buf_put(out, span, n);
}

static void line_ended(struct data_decoder *d, uint64_t bytes)
{
    d->lines++;
    if (d->line > d->line_max)
        d->line_max = d->line;
    if (d->line == 0 && d->header_end == 0)
        d->header_end = bytes;
    d->line = 0;
    d->state = DATA_LINE_START;
}

static void violated(struct data_decoder *d, enum data_result what)
{
    if (d->violation == DATA_MORE && !(d->binary && d->header_end > 0))
        d->violation = what;
}

/* Inside a line: to behind its CR, or to the end of the chunk. */
static const char *decode_run(struct data_decoder *d, const char *p, const char *end, struct finder *cr)
{
    const char *stop = find_from(cr, p, end, '\r');

    if (d->violation == DATA_MORE && memchr(p, '\n', (size_t)(stop - p)) != NULL)
        violated(d, DATA_BARE_LF);
    d->line += (uint64_t)(stop - p);
    if (stop == end)
        return end;
    d->state = DATA_AFTER_CR;
    return stop + 1;
}

enum data_result data_decode(struct data_decoder *d, struct str in, size_t *consumed, struct buf *out)
{
    const char *p = in.p, *end = in.p + in.n, *span = p;
    struct finder cr = { NULL };

    assert(d->state != DATA_ENDED);
    while (p < end && d->state != DATA_ENDED) {
        switch (d->state) {
        case DATA_LINE_START:
            if (*p == '.' && !d->counted) {
                keep(d, span, p, out);
                span = ++p;
                d->state = DATA_AFTER_DOT;
            } else {
                d->state = DATA_IN_LINE;
            }
            break;
        case DATA_AFTER_DOT:
            if (*p == '\r') {
                span = ++p; /* of the end, or bare; no message keeps it */
                d->state = DATA_AFTER_DOT_CR;
            } else {
                d->state = DATA_IN_LINE;
            }
            break;
        case DATA_AFTER_DOT_CR:
            if (*p == '\n') {
                span = ++p;
                d->state = DATA_ENDED;
            } else {
                violated(d, DATA_BARE_CR);
                d->state = DATA_IN_LINE;
            }
            break;
        case DATA_IN_LINE: p = decode_run(d, p, end, &cr); break;
        case DATA_AFTER_CR:
            if (*p == '\n') {
                p++;
                line_ended(d, d->bytes + (uint64_t)(p - span));
            } else {
                violated(d, DATA_BARE_CR);
                d->line++;
                d->state = DATA_IN_LINE;
            }
            break;
        case DATA_ENDED: break;
        }
    }
    keep(d, span, p, out);
    *consumed = (size_t)(p - in.p);
    if (d->state != DATA_ENDED)
        return DATA_MORE;
    return d->violation == DATA_MORE ? DATA_END : d->violation;
}

enum data_result data_decode_end(struct data_decoder *d)
{
    assert(d->counted && d->state != DATA_ENDED);
    if (d->state == DATA_AFTER_CR)
        violated(d, DATA_BARE_CR);
    d->state = DATA_ENDED;
    return d->violation == DATA_MORE ? DATA_END : d->violation;
}

/* -- encoding ------------------------------------------------------------------------------------------------------- */

static void put_line_end(struct data_encoder *e, struct buf *out, bool converted)
{
    buf_put(out, "\r\n", 2);
    e->converted |= converted;
    e->state = DATA_LINE_START;
}

/* Up to the end of a line or of the chunk. Bytes from *span on are still to be written. */
static const char *encode_run(struct data_encoder *e, const char *p, const char *end, const char **span, struct finder *cr, struct buf *out)
{
    const char *stop = find_from(cr, p, end, '\r');
    const char *lf = memchr(p, '\n', (size_t)(stop - p));

    e->state = DATA_IN_LINE;
    if (lf != NULL)
        stop = lf;
    if (stop == end)
        return end;
    if (lf == NULL && stop + 1 < end && stop[1] == '\n') {
        e->state = DATA_LINE_START;
        return stop + 2;
    }
    buf_put(out, *span, (size_t)(stop - *span));
    *span = stop + 1;
    if (lf == NULL && *span == end)
        e->state = DATA_AFTER_CR;
    else
        put_line_end(e, out, true);
    return *span;
}

void data_encode(struct data_encoder *e, struct str in, struct buf *out)
{
    const char *p = in.p, *end = in.p + in.n, *span = p;
    struct finder cr = { NULL };

    if (in.n > 0 && e->state == DATA_AFTER_CR) {
        put_line_end(e, out, *p != '\n');
        span = p += *p == '\n' ? 1 : 0;
    }
    while (p < end) {
        if (e->state == DATA_LINE_START && *p == '.') {
            buf_put(out, span, (size_t)(p - span));
            buf_put_char(out, '.');
            span = p;
        }
        p = encode_run(e, p, end, &span, &cr, out);
    }
    buf_put(out, span, (size_t)(p - span));
}

void data_encode_end(struct data_encoder *e, struct buf *out)
{
    if (e->state != DATA_LINE_START)
        put_line_end(e, out, e->state == DATA_AFTER_CR);
    buf_put(out, ".\r\n", 3);
}
