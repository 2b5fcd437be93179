/*
 * UTF-8: refuses overlong forms, surrogates and what lies beyond U+10FFFF, as RFC 3629 demands.
 */
#include "base/utf8.h"

static bool continues(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

size_t utf8_next(struct str s, uint32_t *code_point)
{
    static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };

    if (s.n == 0)
        return 0;
    unsigned char first = (unsigned char)s.p[0];
    if (first < 0x80) {
        *code_point = first;
        return 1;
    }
    size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || s.n < length)
        return 0;
    uint32_t value = first & (0x7f >> length);
    for (size_t i = 1; i < length; i++) {
        if (!continues(s.p[i]))
            return 0;
        value = value << 6 | ((unsigned char)s.p[i] & 0x3f);
    }
    if (value < smallest[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *code_point = value;
    return length;
}

bool utf8_valid(struct str s)
{
    uint32_t code_point;

    while (s.n > 0) {
        size_t n = utf8_next(s, &code_point);
        if (n == 0)
            return false;
        s = str_from(s, n);
    }
    return true;
}

bool utf8_is_ascii(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] >= 0x80)
            return false;
    return true;
}

void utf8_put(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_put_char(out, (char)c);
    } else if (c < 0x800) {
        buf_put_char(out, (char)(0xc0 | c >> 6));
        buf_put_char(out, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_put_char(out, (char)(0xe0 | c >> 12));
        buf_put_char(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_put_char(out, (char)(0x80 | (c & 0x3f)));
    } else {
        buf_put_char(out, (char)(0xf0 | c >> 18));
        buf_put_char(out, (char)(0x80 | (c >> 12 & 0x3f)));
        buf_put_char(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_put_char(out, (char)(0x80 | (c & 0x3f)));
    }
}

void utf8_put_clean(struct buf *out, struct str text)
{
    while (text.n > 0) {
        uint32_t c;
        size_t n = utf8_next(text, &c);
        if (n == 0) {
            utf8_put(out, 0xfffd);
            n = 1;
        } else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029) {
            buf_put_char(out, ' ');
        } else {
            buf_put(out, text.p, n);
        }
        text = str_from(text, n);
    }
}
