/*
 * The first look at a configuration's text: a tokenizer and the grammar of statements. Pure.
 *
 *     statement = NAME "=" value | BLOCK TITLE "{" statement* "}" | "include" "(" STRING ")" | "include" STRING
 *     value     = STRING | "{" [ STRING { "," STRING } [ "," ] ] "}"
 */
#include "conf/scan.h"
#include "conf/option.h"
#include <stdio.h>
#include <string.h>

enum token { TOKEN_END, TOKEN_WORD, TOKEN_SIGN, TOKEN_BAD };

struct reader {
    struct scan *scan;
    const char  *file;
    char        *text;
    size_t       n, at;
    unsigned     line;
    /* the token read last */
    size_t       from;
    struct str   word;                   /* without its quotes, escapes as they stand */
    char         sign;
    bool         quoted;
};

/* Words of a configuration that are no option: blocks and what may stand in them. */
const struct scan_block scan_blocks[] = {
    { "listen",          { "address", "tls", "service", "auth_allow_cleartext", "hide_client", "proxy_protocol", "extensions_off", NULL } },
    { "client_network",  { "network", "extensions_off", NULL } },
    { "tls_certificate", { "certificate", "key", NULL } },
};
const size_t scan_block_count = sizeof scan_blocks / sizeof scan_blocks[0];

static const struct scan_block *find_block(struct str name)
{
    for (size_t i = 0; i < scan_block_count; i++)
        if (str_eq(name, str_of(scan_blocks[i].name)))
            return &scan_blocks[i];
    return NULL;
}

static bool block_has(const struct scan_block *b, struct str option)
{
    for (size_t i = 0; b->options[i] != NULL; i++)
        if (str_eq(option, str_of(b->options[i])))
            return true;
    return false;
}

void scan_init(struct scan *s, struct arena *a, struct buf *error)
{
    *s = (struct scan){ .arena = a, .error = error };
    s->end = &s->first;
}

bool scan_error(struct buf *error, struct place at, const char *format, ...)
{
    va_list args;

    if (at.line > 0)
        buf_printf(error, "%s:%u: ", at.file, at.line);
    else if (at.file != NULL)
        buf_printf(error, "%s: ", at.file);
    va_start(args, format);
    buf_vprintf(error, format, args);
    va_end(args);
    buf_put_char(error, '\n');
    return false;
}

#define FAULT(r, ...) scan_error((r)->scan->error, (struct place){ (r)->file, (r)->line }, __VA_ARGS__)

/* libconfuse drops an asterisk outside quotes without a word, so that "a*" would be read as "a": here it must stand in quotes. */
static bool is_bare(char c)
{
    return char_is_alnum(c) || (c != '\0' && strchr("_.:/@%-[]", c) != NULL);
}

/* -- tokens -------------------------------------------------------------------------------------------------------- */

static bool looking_at(const struct reader *r, const char *z)
{
    size_t n = strlen(z);
    return r->n - r->at >= n && memcmp(r->text + r->at, z, n) == 0;
}

/* Its first two characters are not its last two: slash, asterisk, slash opens a comment and leaves it open. */
static bool skip_comment_block(struct reader *r)
{
    r->at += 2;
    while (r->at < r->n && !looking_at(r, "*/"))
        r->line += r->text[r->at++] == '\n';
    if (r->at == r->n)
        return FAULT(r, "a comment has no end");
    r->at += 2;
    return true;
}

/* White space and comments. */
static bool skip_space(struct reader *r)
{
    while (r->at < r->n) {
        char c = r->text[r->at];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            r->line += c == '\n';
            r->at++;
        } else if (c == '#' || looking_at(r, "//")) {
            while (r->at < r->n && r->text[r->at] != '\n')
                r->at++;
        } else if (looking_at(r, "/*")) {
            if (!skip_comment_block(r))
                return false;
        } else {
            break;
        }
    }
    return true;
}

static bool read_quoted(struct reader *r, char quote)
{
    size_t from = ++r->at;

    for (; r->at < r->n && r->text[r->at] != quote; r->at++) {
        char c = r->text[r->at];
        if (c == '\n')
            return FAULT(r, "a string has no closing quote");
        if (((unsigned char)c < ' ' && c != '\t') || c == '\x7f')
            return FAULT(r, "a control character in a string");
        if (quote == '"' && looking_at(r, "${"))
            return FAULT(r, "the environment is not expanded here; write '${' in single quotes if you mean the characters");
        if (c == '\\' && (++r->at == r->n || (r->text[r->at] != '\\' && r->text[r->at] != quote)))
            return FAULT(r, "a backslash in a string stands only before a quote or a backslash");
    }
    if (r->at == r->n)
        return FAULT(r, "a string has no closing quote");
    r->word = (struct str){ r->text + from, r->at - from };
    r->at++;
    r->quoted = true;
    return true;
}

static bool read_bare(struct reader *r)
{
    size_t from = r->at;

    while (r->at < r->n && is_bare(r->text[r->at]) && !looking_at(r, "//") && !looking_at(r, "/*"))
        r->at++;
    r->word = (struct str){ r->text + from, r->at - from };
    r->quoted = false;
    if (r->at == r->n || memchr(" \t\r\n={},()", r->text[r->at], 10) != NULL)
        return true;
    if (looking_at(r, "${"))
        return FAULT(r, "the environment is not expanded here");
    if (r->text[r->at] == '#')
        return FAULT(r, "an unquoted # inside a word: put a space before a comment, or the word in quotes");
    if (r->text[r->at] == '+')
        return FAULT(r, "+= is not known here: write one list");
    return FAULT(r, "\"%" STR_FMT "\" is followed by a character that must stand in quotes", STR_ARG(r->word));
}

static enum token next_token(struct reader *r)
{
    if (!skip_space(r))
        return TOKEN_BAD;
    r->from = r->at;
    if (r->at == r->n)
        return TOKEN_END;
    char c = r->text[r->at];
    if (c == '"' || c == '\'')
        return read_quoted(r, c) ? TOKEN_WORD : TOKEN_BAD;
    if (memchr("={},()", c, 6) != NULL) {
        r->sign = c;
        r->at++;
        return TOKEN_SIGN;
    }
    if (!is_bare(c)) {
        if (looking_at(r, "${"))
            FAULT(r, "the environment is not expanded here");
        else if (c == '+')
            FAULT(r, "+= is not known here: write one list");
        else
            FAULT(r, "a character that must stand in quotes: \\x%02x", (unsigned char)c);
        return TOKEN_BAD;
    }
    return read_bare(r) ? TOKEN_WORD : TOKEN_BAD;
}

static bool next_is_sign(struct reader *r, char sign)
{
    struct reader before = *r;
    size_t said = r->scan->error->n;

    if (next_token(r) == TOKEN_SIGN && r->sign == sign)
        return true;
    *r = before;
    buf_truncate(r->scan->error, said);      /* who reads on from here says it */
    return false;
}

static bool next_is_end(struct reader *r)
{
    struct reader before = *r;
    size_t said = r->scan->error->n;
    bool end = next_token(r) == TOKEN_END;

    *r = before;
    buf_truncate(r->scan->error, said);
    return end;
}

static bool expect_sign(struct reader *r, char sign, const char *after)
{
    struct place before = { r->file, r->line };      /* where it is missing, not where the next word stands */
    enum token token = next_token(r);

    if (token == TOKEN_BAD)
        return false;
    return (token == TOKEN_SIGN && r->sign == sign) || scan_error(r->scan->error, before, "\"%c\" expected after %s", sign, after);
}

static bool expect_word(struct reader *r, const char *after)
{
    struct place before = { r->file, r->line };
    enum token token = next_token(r);

    if (token == TOKEN_BAD)
        return false;
    return token == TOKEN_WORD || scan_error(r->scan->error, before, "a value expected after %s", after);
}

/* -- the nearest known word ------------------------------------------------------------------------------------------ */

#define WORD_MAX 64

/* Levenshtein's distance, with one row. */
static size_t distance(struct str a, struct str b)
{
    size_t row[WORD_MAX + 1];

    for (size_t j = 0; j <= b.n; j++)
        row[j] = j;
    for (size_t i = 0; i < a.n; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b.n; j++) {
            size_t best = diagonal + (a.p[i] != b.p[j]);
            diagonal = row[j + 1];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (diagonal + 1 < best)
                best = diagonal + 1;
            row[j + 1] = best;
        }
    }
    return row[b.n];
}

static void consider(struct str word, const char *known, size_t *best, const char **nearest)
{
    size_t d = distance(word, str_of(known));

    if (d < *best) {
        *best = d;
        *nearest = known;
    }
}

static bool unknown_word(struct reader *r, const struct scan_block *in_block)
{
    const char *nearest = NULL;
    size_t best = WORD_MAX;

    if (r->word.n <= WORD_MAX) {
        for (size_t i = 0; in_block == NULL && i < option_count; i++)
            consider(r->word, options[i].name, &best, &nearest);
        for (size_t i = 0; in_block == NULL && i < scan_block_count; i++)
            consider(r->word, scan_blocks[i].name, &best, &nearest);
        if (in_block == NULL)
            consider(r->word, "include", &best, &nearest);
        for (size_t i = 0; in_block != NULL && in_block->options[i] != NULL; i++)
            consider(r->word, in_block->options[i], &best, &nearest);
    }
    if (nearest != NULL && best <= 1 + r->word.n / 3)
        return FAULT(r, "unknown word \"%" STR_FMT "\"; did you mean \"%s\"?", STR_ARG(r->word), nearest);
    return FAULT(r, "unknown word \"%" STR_FMT "\"", STR_ARG(r->word));
}

/* -- statements ------------------------------------------------------------------------------------------------------ */

static bool add(struct reader *r, int type, struct str text, struct str block, unsigned line)
{
    struct scan_item *item = arena_alloc(r->scan->arena, sizeof *item);

    if (item == NULL)
        return FAULT(r, "no memory");
    item->type = type;
    item->text = str_copy(r->scan->arena, text);
    item->block = block;
    item->place = (struct place){ r->file, line };
    *r->scan->end = item;
    r->scan->end = &item->next;
    return true;
}

/* Where it stands already, so that a second one can be refused. */
static const struct scan_item *find(const struct scan *s, int type, struct str text, struct str block)
{
    for (const struct scan_item *i = s->first; i != NULL; i = i->next)
        if ((int)i->type == type && str_eq(i->text, text) && str_eq(i->block, block))
            return i;
    return NULL;
}

static bool read_list(struct reader *r, struct str name, struct str block)
{
    struct place opened = { r->file, r->line };

    while (!next_is_sign(r, '}')) {
        if (next_is_end(r))
            return scan_error(r->scan->error, opened, "the list \"%" STR_FMT "\", which begins here, has no closing \"}\"", STR_ARG(name));
        if (!expect_word(r, "\"{\" or \",\"") || !add(r, SCAN_VALUE, STR(""), block, r->line))
            return false;
        if (next_is_sign(r, '}'))
            return true;
        if (!next_is_end(r) && !expect_sign(r, ',', "a list's value"))
            return false;
    }
    return true;
}

static bool read_option(struct reader *r, struct str name, struct str block, bool list)
{
    const struct scan_item *before = find(r->scan, SCAN_OPTION, name, block);

    if (before != NULL)
        return FAULT(r, "\"%" STR_FMT "\" stands at %s:%u already", STR_ARG(name), before->place.file, before->place.line);
    if (!add(r, SCAN_OPTION, name, block, r->line) || !expect_sign(r, '=', "the name of an option"))
        return false;
    if (next_is_sign(r, '{'))
        return list ? read_list(r, name, block) : FAULT(r, "\"%" STR_FMT "\" takes one value, not a list", STR_ARG(name));
    if (!expect_word(r, "\"=\""))
        return false;
    return list ? FAULT(r, "\"%" STR_FMT "\" is a list: put its values in braces", STR_ARG(name)) : add(r, SCAN_VALUE, STR(""), block, r->line);
}

/* A word that stands in a block and does not belong there. */
static bool wrong_in_block(struct reader *r, const struct scan_block *b, struct str title, struct place opened)
{
    bool outside = !r->quoted && (option_find(r->word) != NULL || find_block(r->word) != NULL || str_eq(r->word, STR("include")));

    return outside ? FAULT(r, "\"%" STR_FMT "\" cannot stand in %s \"%" STR_FMT "\", which begins at %s:%u: is its closing \"}\" missing?",
                           STR_ARG(r->word), b->name, STR_ARG(title), opened.file, opened.line)
                   : unknown_word(r, b);
}

/* Behind its "{". */
static bool read_block_options(struct reader *r, const struct scan_block *b, struct str title, struct place opened)
{
    struct str inside = str_printf(r->scan->arena, "%s %" STR_FMT, b->name, STR_ARG(title));

    while (!next_is_sign(r, '}')) {
        if (next_is_end(r))
            return scan_error(r->scan->error, opened, "%s \"%" STR_FMT "\", which begins here, has no closing \"}\"", b->name, STR_ARG(title));
        if (!expect_word(r, "\"{\""))
            return false;
        if (r->quoted || !block_has(b, r->word))
            return wrong_in_block(r, b, title, opened);
        if (!read_option(r, r->word, inside, false))
            return false;
    }
    return true;
}

static bool read_block(struct reader *r, const struct scan_block *b)
{
    struct place opened = { r->file, r->line };
    char after[64];

    (void)snprintf(after, sizeof after, "\"%s\"", b->name);
    if (!expect_word(r, after))
        return false;
    struct str title = r->word;
    if (title.n == 0)
        return FAULT(r, "a %s block needs a name", b->name);
    if (memchr(title.p, '\\', title.n) != NULL)
        return FAULT(r, "a backslash in the name of a %s block", b->name);
    const struct scan_item *before = find(r->scan, SCAN_BLOCK, title, str_of(b->name));
    if (before != NULL)
        return FAULT(r, "%s \"%" STR_FMT "\" stands at %s:%u already", b->name, STR_ARG(title), before->place.file, before->place.line);
    (void)snprintf(after, sizeof after, "the name of a %s block", b->name);
    if (!add(r, SCAN_BLOCK, title, str_of(b->name), r->line) || !expect_sign(r, '{', after))
        return false;
    return read_block_options(r, b, str_copy(r->scan->arena, title), opened);
}

static bool read_include(struct reader *r)
{
    size_t from = r->from;
    bool parenthesis = next_is_sign(r, '(');

    if (!expect_word(r, "\"include\""))
        return false;
    if (r->word.n == 0 || memchr(r->word.p, '\\', r->word.n) != NULL)
        return FAULT(r, "an included file needs a name, without a backslash");
    if (!add(r, SCAN_INCLUDE, r->word, STR(""), r->line))
        return false;
    if (parenthesis && !expect_sign(r, ')', "the included file"))
        return false;
    for (size_t i = from; i < r->at; i++)
        if (r->text[i] != '\n')
            r->text[i] = ' ';
    return true;
}

static bool read_statement(struct reader *r)
{
    struct str name = r->word;
    const struct option *o = r->quoted ? NULL : option_find(name);

    if (o != NULL)
        return read_option(r, name, STR(""), option_is_list(o));
    const struct scan_block *b = r->quoted ? NULL : find_block(name);
    if (b != NULL)
        return read_block(r, b);
    if (!r->quoted && str_eq(name, STR("include")))
        return read_include(r);
    return unknown_word(r, NULL);
}

bool scan_text(struct scan *s, const char *file, char *text, size_t n)
{
    struct reader r = { .scan = s, .file = file, .text = text, .n = n, .line = 1 };

    if (memchr(text, '\0', n) != NULL)
        return scan_error(s->error, (struct place){ file, 0 }, "this is no text: it holds a NUL byte");
    for (;;) {
        enum token token = next_token(&r);
        if (token == TOKEN_END)
            return true;
        if (token == TOKEN_BAD)
            return false;
        if (token == TOKEN_SIGN)
            return FAULT(&r, "\"%c\" without a name before it", r.sign);
        if (!read_statement(&r))
            return false;
    }
}
