/*
 * Encoded words (RFC 2047) back to UTF-8, for people to read. Nothing is decided by what comes out of here.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/utf8.h"
#include "mail/header.h"

#include <string.h>

/* =?charset?encoding?text?= */
struct encoded_word {
    struct str charset, text;
    char encoding; /* 'b' or 'q' */
    size_t length; /* of the whole word */
};

static bool take_encoded_word(struct str s, struct encoded_word *out)
{
    struct str charset, encoding, rest = str_from(s, 2), language;

    if (!str_starts(s, STR("=?")) || !str_cut(rest, '?', &charset, &rest) || !str_cut(rest, '?', &encoding, &rest) || encoding.n != 1)
        return false;
    ssize_t end = str_find_str(rest, STR("?="));
    if (end < 0)
        return false;
    struct str text = str_head(rest, (size_t)end);
    if (str_find(text, ' ') >= 0 || str_find(text, '?') >= 0)
        return false;
    (void)str_cut(charset, '*', &charset, &language); /* RFC 2231, 5 */
    *out = (struct encoded_word){ charset, text, char_lower(encoding.p[0]), (size_t)(rest.p + end + 2 - s.p) };
    return true;
}

static int hex_value(char c)
{
    c = char_lower(c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void decode_q(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i] == '_' ? ' ' : text.p[i];
        if (c == '=' && text.n - i >= 3 && hex_value(text.p[i + 1]) >= 0 && hex_value(text.p[i + 2]) >= 0) {
            c = (char)(hex_value(text.p[i + 1]) * 16 + hex_value(text.p[i + 2]));
            i += 2;
        }
        buf_put_char(out, c);
    }
}

static bool decode_word(struct buf *out, const struct encoded_word *word)
{
    bool latin1 = str_eq_nocase(word->charset, STR("ISO-8859-1"));

    if (!latin1 && !str_eq_nocase(word->charset, STR("UTF-8")) && !str_eq_nocase(word->charset, STR("US-ASCII")))
        return false;
    if (word->encoding != 'q' && word->encoding != 'b')
        return false;
    CLEANUP_BUF struct buf bytes;
    buf_init(&bytes, word->length);
    if (word->encoding == 'q')
        decode_q(&bytes, word->text);
    else if (!codec_base64(word->text, &bytes))
        return false;
    if (!buf_ok(&bytes))
        return false;
    for (size_t i = 0; latin1 && i < bytes.n; i++)
        utf8_put(out, (unsigned char)bytes.p[i]);
    if (!latin1)
        buf_put_str(out, buf_str(&bytes));
    return true;
}

static size_t blanks(struct str s)
{
    size_t n = 0;

    while (n < s.n && (s.p[n] == ' ' || s.p[n] == '\t'))
        n++;
    return n;
}

static void decode_text(struct buf *out, struct str text)
{
    struct encoded_word word;
    bool after_word = false;

    while (text.n > 0) {
        size_t gap = after_word ? blanks(text) : 0; /* between two words blanks mean nothing (RFC 2047, 6.2) */
        if (take_encoded_word(str_from(text, gap), &word) && decode_word(out, &word)) {
            text = str_from(text, gap + word.length);
            after_word = true;
            continue;
        }
        after_word = false;
        size_t n = gap > 0 ? gap : 1;
        buf_put_str(out, str_head(text, n));
        text = str_from(text, n);
    }
}

struct str header_decode(struct arena *a, struct str value)
{
    CLEANUP_BUF struct buf decoded, clean;
    struct str text = header_unfold(a, value);

    /* Latin 1 doubles, a broken byte becomes three. */
    buf_init(&decoded, 2 * value.n + 1);
    buf_init(&clean, 6 * value.n + 1);
    if (text.p == NULL)
        return text;
    decode_text(&decoded, text);
    utf8_put_clean(&clean, buf_str(&decoded));
    if (!buf_ok(&decoded) || !buf_ok(&clean))
        return (struct str){ NULL, 0 };
    return str_copy(a, str_trim(buf_str(&clean)));
}
