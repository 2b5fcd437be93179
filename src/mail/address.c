/*
 * Mail addresses: a small descent over RFC 5321's grammar (4.1.2), one function to a rule.
 */
#include "mail/address.h"
#include "base/utf8.h"
#include "mail/domain.h"

#include <assert.h>
#include <string.h>

/* What is left of the text. Reading never goes beyond its end: peek gives 0 there, which no rule accepts. */
static char peek(struct str s)
{
    return s.n > 0 ? s.p[0] : '\0';
}

static void skip(struct str *s, size_t n)
{
    *s = str_from(*s, n);
}

static bool is_atext(char c)
{
    return char_is_alnum(c) || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* The character of an atom or quoted string that is not ASCII: its length, or 0 if it is broken or a control (U+0080-9F). */
static size_t utf8_text(struct str s)
{
    uint32_t c;
    size_t n = utf8_next(s, &c);

    return n > 1 && c >= 0xa0 && c != 0x2028 && c != 0x2029 ? n : 0;
}

struct local_part {
    char text[ADDRESS_LOCAL_MAX];
    size_t n;
};

static bool add(struct local_part *local, const char *p, size_t n)
{
    if (n > sizeof local->text - local->n)
        return false;
    memcpy(local->text + local->n, p, n);
    local->n += n;
    return true;
}

/* Quoted-string = DQUOTE *QcontentSMTP DQUOTE. Printable ASCII only: no quoted-pair smuggles a control in. */
static bool parse_quoted(struct str *s, unsigned options, struct local_part *local)
{
    skip(s, 1);
    while (peek(*s) != '"') {
        if (peek(*s) == '\\')
            skip(s, 1);
        char c = peek(*s);
        size_t n = c >= 0x20 && c < 0x7f ? 1 : (options & ADDRESS_UTF8) ? utf8_text(*s) : 0;
        if (n == 0 || !add(local, s->p, n))
            return false;
        skip(s, n);
    }
    skip(s, 1);
    return true;
}

/* Dot-string = Atom *("." Atom) */
static bool parse_dot_string(struct str *s, unsigned options, struct local_part *local)
{
    bool after_atom = false;

    while (s->n > 0) {
        char c = peek(*s);
        size_t n = is_atext(c) || (c == '.' && after_atom) ? 1 : (options & ADDRESS_UTF8) ? utf8_text(*s) : 0;
        if (n == 0)
            break;
        if (!add(local, s->p, n))
            return false;
        after_atom = c != '.';
        skip(s, n);
    }
    return after_atom;
}

static bool is_domain_char(char c, unsigned options)
{
    return char_is_alnum(c) || c == '-' || c == '.' || ((unsigned char)c >= 0x80 && (options & (ADDRESS_IDN | ADDRESS_UTF8)));
}

/* The text of a domain or an address literal at the beginning of s. */
static struct str take_domain(struct str *s, unsigned options)
{
    size_t n = 0;

    if (peek(*s) == '[') {
        ssize_t end = str_find(*s, ']');
        n = end < 0 ? 0 : (size_t)end + 1;
    } else {
        while (n < s->n && is_domain_char(s->p[n], options))
            n++;
    }
    struct str domain = str_head(*s, n);
    skip(s, n);
    return domain;
}

static bool normalize_domain(struct arena *a, struct str text, struct str *out)
{
    return peek(text) == '[' ? domain_parse_literal(a, text, out) : domain_to_ascii(a, text, out);
}

static bool needs_quotes(struct str local)
{
    struct local_part copy = { .n = 0 };
    struct str rest = local;

    return !parse_dot_string(&rest, ADDRESS_UTF8, &copy) || rest.n > 0;
}

static bool without_domain(struct str local, unsigned options)
{
    return (options & ADDRESS_BARE) || ((options & ADDRESS_POSTMASTER) && str_eq_nocase(local, STR("postmaster")));
}

static bool parse_mailbox(struct arena *a, struct str *s, unsigned options, struct address *out)
{
    struct local_part local = { .n = 0 };
    struct address addr = { .domain = STR("") };

    if (!(peek(*s) == '"' ? parse_quoted(s, options, &local) : parse_dot_string(s, options, &local)))
        return false;
    addr.local = (struct str){ local.text, local.n };
    if (peek(*s) == '@') {
        skip(s, 1);
        if (!normalize_domain(a, take_domain(s, options), &addr.domain))
            return false;
    } else if (local.n == 0 || !without_domain(addr.local, options)) {
        return false;
    }
    addr.quoted = needs_quotes(addr.local);
    addr.utf8 = !utf8_is_ascii(addr.local);
    addr.local = str_copy(a, addr.local);
    if (addr.local.p == NULL)
        return false;
    *out = addr;
    return true;
}

bool address_parse_with(struct arena *a, struct str text, unsigned options, struct address *out)
{
    struct address addr;

    if (!parse_mailbox(a, &text, options, &addr) || text.n > 0)
        return false;
    *out = addr;
    return true;
}

bool address_parse(struct arena *a, struct str text, struct address *out)
{
    return address_parse_with(a, text, ADDRESS_IDN, out);
}

/* A-d-l = At-domain *( "," At-domain ), then ":". Checked for its form only and forgotten (RFC 5321, appendix C). */
static bool skip_source_route(struct str *s, unsigned options)
{
    while (peek(*s) == '@') {
        skip(s, 1);
        if (take_domain(s, options).n == 0)
            return false;
        if (peek(*s) == ':') {
            skip(s, 1);
            return true;
        }
        if (peek(*s) != ',')
            return false;
        skip(s, 1);
    }
    return false;
}

bool address_parse_path(struct arena *a, struct str text, unsigned options, struct address *out, size_t *consumed)
{
    struct str s = text;
    struct address addr = { .local = STR(""), .domain = STR("") };

    if (peek(s) != '<')
        return false;
    skip(&s, 1);
    if (peek(s) == '@' && !skip_source_route(&s, options))
        return false;
    const char *mailbox = s.p;
    bool null = peek(s) == '>' && text.p + 1 == mailbox;
    if (null ? !(options & ADDRESS_NULL) : !parse_mailbox(a, &s, options, &addr))
        return false;
    if (peek(s) != '>' || (size_t)(s.p - mailbox) + 2 > ADDRESS_PATH_MAX)
        return false;
    *out = addr;
    *consumed = (size_t)(s.p - text.p) + 1;
    return true;
}

static bool local_sound(struct str local)
{
    while (local.n > 0) {
        char c = peek(local);
        size_t n = c >= 0x20 && c < 0x7f ? 1 : utf8_text(local);
        if (n == 0)
            return false;
        skip(&local, n);
    }
    return true;
}

/* A domain is in the one form if making that form changes nothing. A literal has its own small arena to be spelled in. */
static bool domain_sound(struct str domain)
{
    struct arena a;
    struct str canonical;
    bool same;

    if (peek(domain) != '[') {
        for (size_t i = 0; i < domain.n; i++)
            if (domain.p[i] != char_lower(domain.p[i]))
                return false;
        return domain_valid(domain);
    }
    arena_init(&a, 4096);
    same = domain_parse_literal(&a, domain, &canonical) && str_eq(canonical, domain);
    arena_reset(&a);
    return same;
}

bool address_of_parts(struct str local, struct str domain, struct address *out)
{
    if (local.n > ADDRESS_LOCAL_MAX || !local_sound(local) || (domain.n > 0 && !domain_sound(domain)))
        return false;
    bool null = local.n == 0 && domain.n == 0;
    *out = (struct address){ .local = local, .domain = domain, .quoted = !null && needs_quotes(local), .utf8 = !utf8_is_ascii(local) };
    return true;
}

bool address_is_null(const struct address *addr)
{
    return addr->local.n == 0 && addr->domain.n == 0;
}

bool address_is_postmaster(const struct address *addr)
{
    return str_eq_nocase(addr->local, STR("postmaster"));
}

void address_put(struct buf *out, const struct address *addr)
{
    struct str local = addr->local;

    if (address_is_null(addr))
        return;
    assert(local_sound(local));
    if (!needs_quotes(local)) {
        buf_put_str(out, local);
    } else {
        buf_put_char(out, '"');
        for (size_t i = 0; i < local.n; i++) {
            if (local.p[i] == '"' || local.p[i] == '\\')
                buf_put_char(out, '\\');
            buf_put_char(out, local.p[i]);
        }
        buf_put_char(out, '"');
    }
    if (addr->domain.n > 0) {
        buf_put_char(out, '@');
        buf_put_str(out, addr->domain);
    }
}

void address_put_path(struct buf *out, const struct address *addr)
{
    buf_put_char(out, '<');
    address_put(out, addr);
    buf_put_char(out, '>');
}

/* Both parts in their longest spelling. */
#define TEXT_MAX (2 * ADDRESS_LOCAL_MAX + 3 + DOMAIN_MAX)

struct str address_text(struct arena *a, const struct address *addr)
{
    char memory[TEXT_MAX];
    struct buf text;

    buf_init_fixed(&text, memory, sizeof memory);
    address_put(&text, addr);
    assert(buf_ok(&text));
    return str_copy(a, buf_str(&text));
}

static bool is_qchar(uint32_t c)     /* RFC 6533, 3 */
{
    return c > ' ' && c < 0x7f && c != '+' && c != '=' && c != '\\';
}

void address_put_utf8_xtext(struct buf *out, const struct address *addr)
{
    char memory[TEXT_MAX];
    struct buf text;

    buf_init_fixed(&text, memory, sizeof memory);
    address_put(&text, addr);
    assert(buf_ok(&text));
    utf8_xtext_put(out, buf_str(&text));
}

void utf8_xtext_put(struct buf *out, struct str utf8)
{
    uint32_t c;

    for (size_t n; utf8.n > 0; utf8 = str_from(utf8, n)) {
        n = utf8_next(utf8, &c);
        assert(n > 0);
        if (is_qchar(c))
            buf_put_char(out, (char)c);
        else
            buf_printf(out, "\\x{%02X}", (unsigned)c);
    }
}

bool address_eq(const struct address *a, const struct address *b)
{
    /* What differs most is asked first: a recipient is compared with each that was named before. */
    if (a->local.n != b->local.n || a->domain.n != b->domain.n)
        return false;
    return (str_eq(a->local, b->local) || (address_is_postmaster(a) && address_is_postmaster(b))) && str_eq_nocase(a->domain, b->domain);
}

struct str address_key(struct arena *a, const struct address *addr)
{
    struct address canonical = *addr;

    if (address_is_postmaster(addr))
        canonical.local = STR("postmaster");
    struct str key = address_text(a, &canonical);
    char *bytes = (char *)(uintptr_t)key.p;      /* ours, just made; one copy only, as a message may have a thousand */
    for (size_t i = key.n - addr->domain.n; bytes != NULL && i < key.n; i++)
        bytes[i] = char_lower(bytes[i]);
    return key;
}

bool address_copy(struct arena *a, const struct address *addr, struct address *out)
{
    struct address copy = *addr;

    copy.local = str_copy(a, addr->local);
    copy.domain = str_copy(a, addr->domain);
    if (copy.local.p == NULL || copy.domain.p == NULL)
        return false;
    *out = copy;
    return true;
}
