/*
 * The scanner of aliases files: one character of looking ahead, one token at a time. Pure.
 */
#include "conf/alias_scan.h"

void alias_scan_init(struct alias_scan *s, struct str text, bool list)
{
    *s = (struct alias_scan){ .rest = text, .line = 1, .list = list, .at_start = true };
}

static struct alias_token fault(struct alias_scan *s, struct str why)
{
    s->rest = STR("");
    return (struct alias_token){ ALIAS_FAULT, why, s->line };
}

/* A CR counts as a blank: some editors leave it before the line's end. */
static bool skip_blanks(struct alias_scan *s)
{
    size_t n = 0;

    while (n < s->rest.n && (char_is_blank(s->rest.p[n]) || s->rest.p[n] == '\r'))
        n++;
    s->rest = str_from(s->rest, n);
    return n > 0;
}

/* Behind the line's text, before its LF. */
static void skip_line(struct alias_scan *s)
{
    ssize_t end = str_find(s->rest, '\n');

    s->rest = end < 0 ? STR("") : str_from(s->rest, (size_t)end);
}

static void skip_newline(struct alias_scan *s)
{
    s->rest = str_from(s->rest, 1);
    s->line++;
    s->at_start = true;
}

static bool ends_word(struct str text, size_t i, char end)
{
    char c = text.p[i];

    return c == end || c == '\n' || (c == '#' && i > 0 && char_is_blank(text.p[i - 1]));
}

/* Up to `end` outside of quotes, the line's end, or a comment, without the blanks before that. False: a quote has no end. */
static bool take_word(struct alias_scan *s, char end, struct str *out)
{
    bool quoted = false;
    size_t n = 0;

    for (; n < s->rest.n; n++) {
        char c = s->rest.p[n];
        if (c == '\n' || (!quoted && ends_word(s->rest, n, end)))
            break;
        if (c == '\\' && quoted && n + 1 < s->rest.n && s->rest.p[n + 1] != '\n')
            n++;
        else if (c == '"')
            quoted = !quoted;
    }
    while (n > 0 && (char_is_blank(s->rest.p[n - 1]) || s->rest.p[n - 1] == '\r'))
        n--;
    *out = str_head(s->rest, n);
    s->rest = str_from(s->rest, n);
    return !quoted;
}

static struct alias_token take_name(struct alias_scan *s)
{
    struct alias_token token = { ALIAS_NAME, STR(""), s->line };

    if (!take_word(s, ':', &token.text))
        return fault(s, STR("a quote has no end"));
    (void)skip_blanks(s);
    if (s->rest.n == 0 || s->rest.p[0] != ':')
        return fault(s, STR("an alias is \"name: target, ...\": the colon is missing"));
    if (token.text.n == 0)
        return fault(s, STR("the name before the colon is missing"));
    s->rest = str_from(s->rest, 1);
    s->named = true;
    return token;
}

static struct alias_token take_target(struct alias_scan *s)
{
    struct alias_token token = { ALIAS_TARGET, STR(""), s->line };

    if (!s->list && !s->named)
        return fault(s, STR("a line that begins with a blank goes on with the alias before it, and there is none"));
    if (!take_word(s, ',', &token.text))
        return fault(s, STR("a quote has no end"));
    return token;
}

struct alias_token alias_scan_next(struct alias_scan *s)
{
    for (;;) {
        bool at_start = s->at_start, blank = skip_blanks(s);
        s->at_start = false;
        if (s->rest.n == 0)
            return (struct alias_token){ ALIAS_END, STR(""), s->line };
        char c = s->rest.p[0];
        if (c == '\n')
            skip_newline(s);
        else if (c == '#' && (at_start || blank))
            skip_line(s);
        else if (at_start && !blank && !s->list)
            return take_name(s);
        else if (c == ',')
            s->rest = str_from(s->rest, 1);
        else
            return take_target(s);
    }
}
