/*
 * Address lists of header fields: RFC 5322, 3.4, with everything of 4.4 that old software writes.
 *
 * Reading goes element by element. Words are collected twice at once, as a display name and as a local part; the character
 * behind them ("<", "@", ":", or a separator) tells which it was.
 */
#include "base/utf8.h"
#include "mail/domain.h"
#include "mail/header.h"

#include <string.h>

struct reader {
    struct arena *a;
    struct str s; /* what is left */
    unsigned options;
    char *name; /* scratch, as long as the value: display name of this element */
    size_t name_n;
    char *local; /* scratch: local part of this element */
    size_t local_n;
    bool local_ok; /* it is words with single dots between them */
    bool in_group;
    struct header_addresses list;
    size_t capacity;
};

static char peek(const struct reader *r)
{
    return r->s.n > 0 ? r->s.p[0] : '\0';
}

static void skip(struct reader *r, size_t n)
{
    r->s = str_from(r->s, n);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_special(char c)
{
    return c == '\0' || strchr("()<>[]:;@\\,.\"", c) != NULL;
}

static bool is_word_char(char c)
{
    return !is_space(c) && !is_special(c) && c != 0x7f && (unsigned char)c > ' ';
}

/* With s at "(": to behind the ")" that closes it, or the end. */
static void skip_comment(struct reader *r)
{
    int depth = 0;

    while (r->s.n > 0) {
        char c = peek(r);
        skip(r, c == '\\' ? 2 : 1);
        if (c == '(' && depth < HEADER_NESTING_MAX)
            depth++;
        if (c == ')' && --depth == 0)
            return;
    }
}

/* True if there was anything. */
static bool skip_cfws(struct reader *r)
{
    bool some = false;

    while (r->s.n > 0 && (is_space(peek(r)) || peek(r) == '(')) {
        if (peek(r) == '(')
            skip_comment(r);
        else
            skip(r, 1);
        some = true;
    }
    return some;
}

/* -- words ---------------------------------------------------------------------------------------------------------- */

static void add_char(struct reader *r, char c)
{
    r->name[r->name_n++] = (unsigned char)c < ' ' || c == 0x7f ? ' ' : c;
    r->local[r->local_n++] = c;
}

static bool read_quoted(struct reader *r)
{
    skip(r, 1);
    while (r->s.n > 0 && peek(r) != '"') {
        if (str_starts(r->s, STR("\r\n"))) { /* a fold inside the quotes is not part of the text */
            skip(r, 2);
            continue;
        }
        if (peek(r) == '\\')
            skip(r, 1);
        if (r->s.n > 0)
            add_char(r, peek(r));
        skip(r, 1);
    }
    bool closed = peek(r) == '"';
    skip(r, 1);
    return closed;
}

static void read_atom(struct reader *r)
{
    for (; r->s.n > 0 && is_word_char(peek(r)); skip(r, 1))
        add_char(r, peek(r));
}

/* A space in the display name where words were apart; none in the local part, which then must not go on with a word. */
static void separate_words(struct reader *r, bool spaced, bool *dot_before)
{
    if (spaced && r->name_n > 0)
        r->name[r->name_n++] = ' ';
    if (!*dot_before && r->local_n > 0)
        r->local_ok = false;
    *dot_before = false;
}

/* phrase, or local-part, or obs- of both: words and dots with CFWS anywhere between. False if a quote stays open. */
static bool read_words(struct reader *r)
{
    bool dot_before = true, any = false;

    r->name_n = r->local_n = 0;
    r->local_ok = true;
    for (;;) {
        bool spaced = skip_cfws(r);
        char c = peek(r);
        if (c == '.') {
            r->local_ok = r->local_ok && any && !dot_before;
            dot_before = true;
            add_char(r, '.');
            skip(r, 1);
            continue;
        }
        if (c != '"' && !is_word_char(c))
            break;
        separate_words(r, spaced, &dot_before);
        any = true;
        if (c != '"')
            read_atom(r);
        else if (!read_quoted(r))
            return false;
    }
    r->local_ok = r->local_ok && any && !dot_before;
    return true;
}

/* -- addresses ------------------------------------------------------------------------------------------------------ */

/* dot-atom, literal or obs-domain, behind the "@"; normalised. */
static bool read_domain(struct reader *r, struct str *out)
{
    char text[4 * DOMAIN_MAX];
    size_t n = 0;

    skip_cfws(r);
    if (peek(r) == '[') {
        ssize_t end = str_find(r->s, ']');
        if (end < 0)
            return false;
        struct str literal = str_head(r->s, (size_t)end + 1);
        skip(r, literal.n);
        return domain_parse_literal(r->a, literal, out);
    }
    bool after_dot = true;
    for (;;) {
        skip_cfws(r);
        if (peek(r) != '.' && !(after_dot && is_word_char(peek(r))))
            break;
        after_dot = peek(r) == '.';
        do {
            if (n == sizeof text)
                return false;
            text[n++] = peek(r);
            skip(r, 1);
        } while (!after_dot && is_word_char(peek(r)));
    }
    if (!(r->options & (ADDRESS_IDN | ADDRESS_UTF8)) && !utf8_is_ascii((struct str){ text, n }))
        return false;
    return domain_to_ascii(r->a, (struct str){ text, n }, out);
}

/* local-part ["@" domain], the local part having been read already. */
static bool finish_address(struct reader *r, struct address *out)
{
    struct str domain = STR("");
    struct address addr;

    if (!r->local_ok)
        return false;
    struct str local = { r->local, r->local_n };
    if (peek(r) == '@') {
        skip(r, 1);
        if (!read_domain(r, &domain))
            return false;
    } else if (!(r->options & ADDRESS_BARE) || local.n == 0) {
        return false;
    }
    if (!address_of_parts(local, domain, &addr) || (addr.utf8 && !(r->options & ADDRESS_UTF8)))
        return false;
    return address_copy(r->a, &addr, out);
}

/* obs-route = *("," / "@" domain) ":" */
static bool skip_route(struct reader *r)
{
    struct str domain;

    while (peek(r) == '@' || peek(r) == ',') {
        bool at = peek(r) == '@';
        skip(r, 1);
        if (at && !read_domain(r, &domain))
            return false;
        skip_cfws(r);
    }
    if (peek(r) != ':')
        return false;
    skip(r, 1);
    return true;
}

/* Behind "<". The display name has been taken out of the scratch by now. */
static bool read_angle(struct reader *r, struct address *out)
{
    skip_cfws(r);
    if ((peek(r) == '@' || peek(r) == ',') && !skip_route(r))
        return false;
    if (!read_words(r) || !finish_address(r, out))
        return false;
    skip_cfws(r);
    if (peek(r) != '>')
        return false;
    skip(r, 1);
    return true;
}

/* -- the list ------------------------------------------------------------------------------------------------------- */

static bool append(struct reader *r, const struct header_mailbox *mailbox)
{
    if (r->list.count == HEADER_ADDRESSES_MAX)
        return false;
    if (r->list.count == r->capacity) {
        size_t capacity = r->capacity == 0 ? 4 : 2 * r->capacity;
        struct header_mailbox *items = arena_array(r->a, capacity, sizeof *items);
        if (items == NULL)
            return false;
        if (r->list.count > 0)
            memcpy(items, r->list.items, r->list.count * sizeof *items);
        r->list.items = items;
        r->capacity = capacity;
    }
    r->list.items[r->list.count++] = *mailbox;
    return true;
}

static bool at_separator(const struct reader *r)
{
    return r->s.n == 0 || peek(r) == ',' || (peek(r) == ';' && r->in_group);
}

enum element { ELEMENT_MAILBOX, ELEMENT_NOTHING, ELEMENT_BAD };

static enum element read_mailbox(struct reader *r, struct header_mailbox *out)
{
    if (peek(r) == '<') {
        out->name = str_copy(r->a, (struct str){ r->name, r->name_n });
        skip(r, 1);
        if (!read_angle(r, &out->addr))
            return ELEMENT_BAD;
    } else {
        out->name = STR("");
        if (!finish_address(r, &out->addr))
            return ELEMENT_BAD;
    }
    skip_cfws(r);
    return at_separator(r) ? ELEMENT_MAILBOX : ELEMENT_BAD;
}

static enum element read_element(struct reader *r, struct header_mailbox *out)
{
    skip_cfws(r);
    if (at_separator(r))
        return ELEMENT_NOTHING; /* ", ," (RFC 5322, 4.4: obs-addr-list) */
    if (!read_words(r))
        return ELEMENT_BAD;
    if (peek(r) == ':' && !r->in_group) { /* group = display-name ":" [list] ";" */
        skip(r, 1);
        r->in_group = true;
        return read_element(r, out);
    }
    return read_mailbox(r, out);
}

/* To the separator that ends a bad element; quotes, comments and brackets may hold others. */
static void recover(struct reader *r)
{
    bool in_angle = false;

    while (r->s.n > 0 && (in_angle || !at_separator(r))) {
        char c = peek(r);
        if (c == '(') {
            skip_comment(r);
            continue;
        }
        if (c == '"') {
            r->name_n = r->local_n = 0;
            (void)read_quoted(r);
            continue;
        }
        in_angle = c == '<' || (in_angle && c != '>');
        skip(r, 1);
    }
}

static bool read_list(struct reader *r)
{
    while (r->s.n > 0) {
        struct header_mailbox mailbox;
        struct str from = r->s;
        switch (read_element(r, &mailbox)) {
        case ELEMENT_MAILBOX:
            if (!append(r, &mailbox))
                return false;
            break;
        case ELEMENT_NOTHING: break;
        case ELEMENT_BAD:
            if (arena_failed(r->a))
                return false;
            r->s = from;
            recover(r);
            if (r->list.bad.n == 0)
                r->list.bad = str_trim(str_head(from, from.n - r->s.n));
            break;
        }
        if (peek(r) == ';')
            r->in_group = false;
        skip(r, 1);
    }
    return !arena_failed(r->a);
}

bool header_address_list(struct arena *a, struct str value, unsigned options, struct header_addresses *out)
{
    /* A space may be added before each word: twice the length is room for all of it. */
    struct reader r = {
        .a = a,
        .s = value,
        .options = options,
        .name = arena_alloc(a, 2 * value.n + 1),
        .local = arena_alloc(a, 2 * value.n + 1),
        .list = { .bad = STR("") },
    };

    if (r.name == NULL || r.local == NULL || !read_list(&r))
        return false;
    *out = r.list;
    return true;
}
