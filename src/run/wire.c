/*
 * The messages between our processes; the form is in wire.h. Runs in all of them.
 */
#include "run/wire.h"
#include "base/codec.h"
#include <errno.h>

_Static_assert(WIRE_PART_MAX <= UINT16_MAX, "its length is a u16");

bool wire_put(struct buf *out, const struct wire_message *m)
{
    size_t before = out->n, length = WIRE_HEAD - 4;

    for (size_t i = 0; i < WIRE_PARTS; i++) {
        if (m->parts[i].n > WIRE_PART_MAX)
            return false;
        length += 2 + m->parts[i].n;
    }
    buf_put_u32(out, (uint32_t)length);
    buf_put_u32(out, m->id);
    buf_put_u8(out, m->op);
    buf_put_u32(out, (uint32_t)m->result);
    buf_put_u64(out, m->number);
    for (size_t i = 0; i < WIRE_PARTS; i++) {
        buf_put_u16(out, (uint16_t)m->parts[i].n);
        buf_put_str(out, m->parts[i]);
    }
    if (!buf_ok(out))
        buf_truncate(out, before);
    return buf_ok(out);
}

ssize_t wire_take(struct str bytes, struct wire_message *out)
{
    struct wire_message m;
    const char *p = bytes.p;

    if (bytes.n < 4)
        return 0;
    size_t n = 4 + (size_t)codec_get_u32(p);
    if (n < WIRE_HEAD + WIRE_PARTS * 2 || n > WIRE_MESSAGE_MAX)
        return -EBADMSG;
    if (bytes.n < n)
        return 0;
    m.id = codec_get_u32(p + 4);
    m.op = (uint8_t)p[8];
    m.result = (int32_t)codec_get_u32(p + 9);
    m.number = codec_get_u64(p + 13);
    size_t at = WIRE_HEAD;
    for (size_t i = 0; i < WIRE_PARTS; i++) {
        if (n - at < 2)
            return -EBADMSG;
        size_t part = codec_get_u16(p + at);
        at += 2;
        if (part > n - at || part > WIRE_PART_MAX)
            return -EBADMSG;
        m.parts[i] = (struct str){ p + at, part };
        at += part;
    }
    if (at != n)
        return -EBADMSG;
    *out = m;
    return (ssize_t)n;
}
