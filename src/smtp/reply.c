/*
 * Replies, ours and theirs.
 */
#include "smtp/reply.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* -- ours ---------------------------------------------------------------------------------------------------------- */

static size_t width_of(char c, bool utf8)
{
    unsigned char byte = (unsigned char)c;
    return (byte >= ' ' && byte < 0x7f) || (byte > 0x7f && utf8) ? 1 : 4;
}

static void put_escaped(struct buf *out, struct str text, bool utf8)
{
    for (size_t i = 0; i < text.n; i++) {
        if (width_of(text.p[i], utf8) == 1)
            buf_put_char(out, text.p[i]);
        else
            buf_printf(out, "\\x%02X", (unsigned char)text.p[i]);
    }
}

/* How many bytes of line fit into room columns; broken at a space if there is one. */
static size_t fitting(struct str line, size_t room, bool utf8)
{
    size_t width = 0, i = 0, space = 0;

    for (; i < line.n && width + width_of(line.p[i], utf8) <= room; i++) {
        width += width_of(line.p[i], utf8);
        if (line.p[i] == ' ')
            space = i + 1;
    }
    return i == line.n || space == 0 ? i : space;
}

void reply_put(struct buf *out, const struct reply *r)
{
    struct str rest = str_of(r->text), line;
    bool more;
    char prefix[REPLY_ENHANCED_MAX + 2] = "";

    assert(r->code >= 200 && r->code <= 599);
    if (r->enhanced != NULL) {
        assert(strlen(r->enhanced) <= REPLY_ENHANCED_MAX && r->enhanced[0] - '0' == r->code / 100);
        (void)snprintf(prefix, sizeof prefix, "%s ", r->enhanced);
    }
    size_t room = REPLY_WRITE_LINE_MAX - 2 - 4 - strlen(prefix);
    do {
        more = str_cut(rest, '\n', &line, &rest);
        do {
            size_t n = fitting(line, room, r->utf8);
            bool last = !more && n == line.n;
            buf_printf(out, "%d%c%s", r->code, last ? ' ' : '-', prefix);
            put_escaped(out, str_head(line, n), r->utf8);
            buf_put_str(out, STR("\r\n"));
            line = str_from(line, n);
        } while (line.n > 0);
    } while (more);
}

/* -- a server's ----------------------------------------------------------------------------------------------------- */

void smtp_reply_init(struct smtp_reply *r)
{
    *r = (struct smtp_reply){ .code = 0 };
    buf_init(&r->text, REPLY_TEXT_MAX);
}

void smtp_reply_clear(struct smtp_reply *r)
{
    r->code = 0;
    r->enhanced[0] = '\0';
    r->lines = 0;
    r->done = false;
    r->bad = false;
    buf_clear(&r->text);
}

void smtp_reply_free(struct smtp_reply *r)
{
    buf_free(&r->text);
}

static size_t count_digits(struct str s)
{
    size_t n = 0;

    while (n < s.n && char_is_digit(s.p[n]))
        n++;
    return n;
}

/* Length of the enhanced code that text begins with (RFC 2034, 4; RFC 3463, 2), of the code's own class; else 0. */
static size_t enhanced_length(struct str text, int code)
{
    if (text.n < 5 || text.p[0] != '0' + code / 100 || strchr("245", text.p[0]) == NULL || text.p[1] != '.')
        return 0;
    size_t subject = count_digits(str_from(text, 2));
    if (subject < 1 || subject > 3 || 2 + subject >= text.n || text.p[2 + subject] != '.')
        return 0;
    size_t detail = count_digits(str_from(text, 3 + subject));
    size_t n = 3 + subject + detail;
    if (detail < 1 || detail > 3 || (n < text.n && text.p[n] != ' '))
        return 0;
    return n;
}

/* One more line of text, as far as there is room. */
static void keep_line(struct smtp_reply *r, struct str text)
{
    if (r->lines > 0 && r->text.n < REPLY_TEXT_MAX)
        buf_put_char(&r->text, '\n');
    text = str_head(text, REPLY_TEXT_MAX - r->text.n);
    size_t from = r->text.n;
    buf_put_str(&r->text, text);
    for (size_t i = from; i < r->text.n; i++)
        if ((unsigned char)r->text.p[i] < 0x20 || r->text.p[i] == 0x7f)
            r->text.p[i] = ' ';
}

/* A line without its end. False if it cannot be one of this reply. */
static bool read_line(struct smtp_reply *r, struct str line)
{
    if (count_digits(str_head(line, 3)) != 3 || line.p[0] < '2' || line.p[0] > '5')
        return false;
    int code = (line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0');
    char mark = line.n > 3 ? line.p[3] : ' ';
    if ((mark != ' ' && mark != '-') || r->lines >= REPLY_LINES_MAX)
        return false;
    if (r->lines > 0 && code != r->code) /* RFC 5321, 4.2.1: the same code on every line */
        return false;
    struct str text = str_from(line, 4);
    size_t n = enhanced_length(text, code);
    if (n > 0 && r->enhanced[0] == '\0') {
        memcpy(r->enhanced, text.p, n);
        r->enhanced[n] = '\0';
    }
    keep_line(r, n > 0 ? str_from(text, n + 1) : text);
    r->code = code;
    r->lines++;
    r->done = mark == ' ';
    return true;
}

/* The first line of input without its end, and the length with it; false if its end has not come. */
static bool take_line(struct str input, struct str *line, size_t *length)
{
    ssize_t lf = str_find(input, '\n');

    if (lf < 0)
        return false;
    *line = str_head(input, (size_t)lf);
    if (line->n > 0 && line->p[line->n - 1] == '\r')
        line->n--;
    *length = (size_t)lf + 1;
    return true;
}

enum reply_result smtp_parse_reply(struct str input, size_t *consumed, struct smtp_reply *r)
{
    struct str line;
    size_t length, used = 0;

    if (r->done)
        smtp_reply_clear(r);
    while (!r->bad && !r->done) {
        struct str rest = str_from(input, used);
        if (!take_line(rest, &line, &length)) {
            r->bad = rest.n >= REPLY_LINE_MAX;
            break;
        }
        r->bad = length > REPLY_LINE_MAX || !read_line(r, line);
        if (!r->bad)
            used += length;
    }
    *consumed = used;
    return r->bad ? REPLY_BAD : r->done ? REPLY_DONE : REPLY_MORE;
}

struct str smtp_reply_line(struct smtp_reply *r)
{
    for (size_t i = 0; i < r->text.n; i++)
        if (r->text.p[i] == '\n')
            r->text.p[i] = ' ';
    return buf_str(&r->text);
}
