/*
 * Reading the fields of a header.
 */
#include "mail/header.h"
#include "base/utf8.h"

#include <string.h>

/* Length of the first line with its CRLF; all of s if it has none. */
static size_t line_length(struct str s)
{
    ssize_t at = str_find_str(s, STR("\r\n"));

    return at < 0 ? s.n : (size_t)at + 2;
}

static bool name_valid(struct str name)
{
    if (name.n == 0 || name.n > HEADER_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++) /* ftext (RFC 5322, 3.6.8) */
        if (name.p[i] <= ' ' || name.p[i] >= 0x7f || name.p[i] == ':')
            return false;
    return true;
}

void header_begin(struct header_iter *it, struct str message)
{
    it->rest = message;
}

bool header_next(struct header_iter *it, struct header_field *out)
{
    struct str rest = it->rest, name, value;

    if (rest.n == 0 || str_starts(rest, STR("\r\n")))
        return false;
    size_t n = line_length(rest);
    while (n < rest.n && char_is_blank(rest.p[n]))
        n += line_length(str_from(rest, n));
    struct str raw = str_head(rest, n);
    struct str text = raw.n >= 2 && str_eq(str_from(raw, raw.n - 2), STR("\r\n")) ? str_head(raw, raw.n - 2) : raw;
    bool colon = str_cut(text, ':', &name, &value);
    name = char_is_blank(text.n > 0 ? text.p[0] : ' ') ? STR("") : str_trim(name); /* "Name :" is obsolete, and a field (RFC 5322, 4.5) */
    bool field = colon && name_valid(name);
    *out = (struct header_field){
        .raw = raw,
        .name = field ? name : STR(""),
        .value = field ? value : text,
        .malformed = !field,
    };
    it->rest = str_from(rest, n);
    return true;
}

size_t header_end(struct str message)
{
    if (str_starts(message, STR("\r\n")))
        return 2;
    ssize_t at = str_find_str(message, STR("\r\n\r\n"));
    return at < 0 ? message.n : (size_t)at + 4;
}

bool header_find(struct str message, struct str name, struct header_field *out)
{
    struct header_iter it;
    struct header_field field;

    for (header_begin(&it, message); header_next(&it, &field);)
        if (!field.malformed && str_eq_nocase(field.name, name)) {
            *out = field;
            return true;
        }
    return false;
}

size_t header_count(struct str message, struct str name)
{
    struct header_iter it;
    struct header_field field;
    size_t count = 0;

    for (header_begin(&it, message); header_next(&it, &field);)
        count += !field.malformed && str_eq_nocase(field.name, name);
    return count;
}

bool header_has_8bit(struct str message)
{
    return !utf8_is_ascii(str_head(message, header_end(message)));
}

struct str header_unfold(struct arena *a, struct str value)
{
    if (str_find_str(value, STR("\r\n")) < 0)
        return str_trim(value);
    char *text = arena_alloc(a, value.n);
    size_t n = 0;
    if (text == NULL)
        return (struct str){ NULL, 0 };
    while (value.n > 0) {
        size_t line = line_length(value);
        bool folded = line >= 2 && str_eq(str_head(str_from(value, line - 2), 2), STR("\r\n"));
        memcpy(text + n, value.p, line - (folded ? 2 : 0));
        n += line - (folded ? 2 : 0);
        value = str_from(value, line);
    }
    return str_trim((struct str){ text, n });
}

void header_remove(struct buf *out, struct str message, struct str name)
{
    struct header_iter it;
    struct header_field field;

    for (header_begin(&it, message); header_next(&it, &field);)
        if (field.malformed || !str_eq_nocase(field.name, name))
            buf_put_str(out, field.raw);
    buf_put_str(out, it.rest);
}
