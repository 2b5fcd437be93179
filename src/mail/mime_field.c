/*
 * Content-Type and Content-Transfer-Encoding: see mime_field.h.
 *
 * Values come as they stand in the header: folds, comments and quoted strings are undone here.
 */
#include "mail/mime_field.h"
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* A comment and what is nested in it; all the rest if it has no end. */
static struct str skip_comment(struct str s)
{
    size_t depth = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == '(')
            depth++;
        else if (s.p[i] == ')' && --depth == 0)
            return str_from(s, i + 1);
    }
    return (struct str){ s.p + s.n, 0 };
}

static struct str skip_space(struct str s)
{
    while (s.n > 0 && (is_space(s.p[0]) || s.p[0] == '('))
        s = s.p[0] == '(' ? skip_comment(s) : str_from(s, 1);
    return s;
}

/* tspecials end a token (RFC 2045, 5.1). */
static bool in_token(char c)
{
    return c > ' ' && c < 0x7f && strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

static struct str cut_token(struct str *s)
{
    size_t n = 0;

    *s = skip_space(*s);
    while (n < s->n && in_token(s->p[n]))
        n++;
    struct str token = str_head(*s, n);
    *s = skip_space(str_from(*s, n));
    return token;
}

static bool cut_char(struct str *s, char c)
{
    if (s->n == 0 || s->p[0] != c)
        return false;
    *s = skip_space(str_from(*s, 1));
    return true;
}

/* -- the kind ---------------------------------------------------------------------------------------------------------------- */

// clang-format off
static const struct { const char *type, *subtype; enum mime_kind kind; } kinds[] = {
    { "multipart", "signed",                          MIME_SIGNED    },
    { "multipart", "digest",                          MIME_DIGEST    },
    { "multipart", NULL,                              MIME_MULTIPART },
    { "message",   "rfc822",                          MIME_MESSAGE   },
    { "message",   "global",                          MIME_DATA      },
    { "message",   "global-headers",                  MIME_DATA      },   /* these three: RFC 6533 */
    { "message",   "global-delivery-status",          MIME_DATA      },
    { "message",   "global-disposition-notification", MIME_DATA      },
    { "message",   NULL,                              MIME_SEALED    },
    { "text",      NULL,                              MIME_TEXT      },
};
// clang-format on

static enum mime_kind kind_of(struct str type, struct str subtype)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (str_eq_nocase(type, str_of(kinds[i].type)) && (kinds[i].subtype == NULL || str_eq_nocase(subtype, str_of(kinds[i].subtype))))
            return kinds[i].kind;
    return MIME_DATA;
}

/* -- parameters -------------------------------------------------------------------------------------------------------------- */

static void cut_quoted(struct str *s, struct buf *out)
{
    size_t i = 1;

    for (; i < s->n && s->p[i] != '"'; i++) {
        if (s->p[i] == '\\' && i + 1 < s->n)
            i++;
        if (s->p[i] != '\r' && s->p[i] != '\n')               /* of a fold */
            buf_put_char(out, s->p[i]);
    }
    *s = str_from(*s, i < s->n ? i + 1 : i);
}

/* Of a name or a value; values often hold what a token may not ("boundary=----=_Part"), and mean it. */
static void cut_value(struct str *s, struct buf *out)
{
    size_t n = 0;

    if (s->n > 0 && s->p[0] == '"') {
        cut_quoted(s, out);
        return;
    }
    while (n < s->n && s->p[n] != ';' && !is_space(s->p[n]))
        n++;
    buf_put_str(out, str_head(*s, n));
    *s = str_from(*s, n);
}

/* To the next semicolon outside quotes and comments, and over it. */
static void next_param(struct str *s)
{
    struct buf nowhere;

    buf_init(&nowhere, 0);
    while (s->n > 0 && s->p[0] != ';') {
        if (s->p[0] == '"')
            cut_quoted(s, &nowhere);
        else
            *s = s->p[0] == '(' ? skip_comment(*s) : str_from(*s, 1);
    }
    (void)cut_char(s, ';');
}

static void trim_end(struct buf *b, size_t from)
{
    size_t n = b->n;

    while (n > from && is_space(b->p[n - 1]))
        n--;
    buf_truncate(b, n);
}

static void read_boundary(struct str params, struct buf *out)
{
    char memory[MIME_BOUNDARY_MAX + 1];
    unsigned seen = 0;
    struct buf value;

    buf_init_fixed(&value, memory, sizeof memory);
    for (next_param(&params); params.n > 0; next_param(&params)) {
        struct str name = cut_token(&params);
        if (!str_eq_nocase(name, STR("boundary")) || !cut_char(&params, '='))
            continue;
        seen++;
        buf_clear(&value);
        cut_value(&params, &value);
        trim_end(&value, 0);                                  /* it ends in no blank (RFC 2046, 5.1.1) */
    }
    if (seen == 1 && buf_ok(&value) && value.n <= MIME_BOUNDARY_MAX)
        buf_put_str(out, buf_str(&value));
}

static struct str skip_blanks(struct str s)
{
    while (s.n > 0 && is_space(s.p[0]))
        s = str_from(s, 1);
    return s;
}

/* "type/subtype" and nothing more before the parameters. Comments and blanks may stand in it (RFC 2045, 5.1), and many readers then see
 * another type. */
static bool is_plain(struct str value, struct str type, struct str subtype)
{
    struct str begin = skip_blanks(value), rest = skip_blanks(str_from(value, (size_t)(subtype.p + subtype.n - value.p)));

    return begin.p == type.p && subtype.p == type.p + type.n + 1 && (rest.n == 0 || rest.p[0] == ';');
}

enum mime_kind mime_read_type(struct str value, struct buf *boundary)
{
    struct str rest = value, type = cut_token(&rest);
    bool slash = cut_char(&rest, '/');
    struct str subtype = cut_token(&rest);

    if (type.n == 0 || !slash || subtype.n == 0)
        return MIME_TEXT;
    enum mime_kind kind = kind_of(type, subtype);
    switch (kind) {
    case MIME_TEXT:
    case MIME_DATA:
    case MIME_SEALED: return kind;
    case MIME_MESSAGE:
    case MIME_MULTIPART:
    case MIME_SIGNED:
    case MIME_DIGEST: break;
    }
    if (!is_plain(value, type, subtype))
        return MIME_SEALED;
    if (kind != MIME_MESSAGE)
        read_boundary(rest, boundary);
    return kind;
}

enum mime_encoding mime_read_encoding(struct str value)
{
    static const char *const names[] = {
        [MIME_7BIT] = "7bit", [MIME_8BIT] = "8bit", [MIME_BINARY] = "binary",
        [MIME_QUOTED_PRINTABLE] = "quoted-printable", [MIME_BASE64] = "base64",
    };
    struct str token = cut_token(&value);

    for (size_t i = MIME_7BIT; i < sizeof names / sizeof names[0]; i++)
        if (str_eq_nocase(token, str_of(names[i])) && (value.n == 0 || value.p[0] == ';'))   /* "8bit;" is seen, and plain enough */
            return (enum mime_encoding)i;
    return MIME_UNKNOWN;
}
