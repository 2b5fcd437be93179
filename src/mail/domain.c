/*
 * Domain names and address literals. The one home of libidn2 and libpsl.
 *
 * ASCII names never go through libidn2: an A-label that IDNA2008 has come to forbid (an emoji, say) is in DNS all the same,
 * and mail for it must travel.
 */
#include "mail/domain.h"
#include "base/utf8.h"

#include <arpa/inet.h>
#include <idn2.h>
#include <libpsl.h>
#include <string.h>

static bool label_valid(struct str label, bool underscores)
{
    if (label.n == 0 || label.n > DOMAIN_LABEL_MAX)
        return false;
    for (size_t i = 0; i < label.n; i++) {
        char c = label.p[i];
        bool inside = i > 0 && i + 1 < label.n;
        if (!char_is_alpha(c) && !char_is_digit(c) && !(c == '-' && (inside || underscores)) && !(c == '_' && underscores))
            return false;
    }
    return true;
}

static bool labels_valid(struct str name, bool underscores, struct str *last)
{
    struct str rest = name, label;
    bool more;

    if (name.n == 0 || name.n > DOMAIN_MAX)
        return false;
    do {
        more = str_cut(rest, '.', &label, &rest);
        if (!label_valid(label, underscores))
            return false;
    } while (more);
    *last = label;
    return true;
}

bool domain_valid(struct str name)
{
    struct str last;

    if (!labels_valid(name, false, &last))
        return false;
    /* No top-level domain is a number (RFC 3696, 2); 192.0.2.1 without brackets is no domain. */
    for (size_t i = 0; i < last.n; i++)
        if (!char_is_digit(last.p[i]))
            return true;
    return false;
}

bool domain_valid_dns(struct str name)
{
    struct str last;

    return labels_valid(name, true, &last);
}

/* U-labels to A-labels; NULL if IDNA does not allow the name. The result is idn2_free's. */
static char *idna_lookup(struct str name)
{
    char z[4 * DOMAIN_MAX + 1];
    uint8_t *ascii = NULL;

    if (name.n >= sizeof z || memchr(name.p, '\0', name.n) != NULL || !utf8_valid(name))
        return NULL;
    memcpy(z, name.p, name.n);
    z[name.n] = '\0';
    if (idn2_lookup_u8((const uint8_t *)z, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
        return NULL;
    return (char *)ascii;
}

bool domain_to_ascii(struct arena *a, struct str name, struct str *out)
{
    char *ascii = NULL;
    struct str found;

    if (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    if (!utf8_is_ascii(name)) {
        ascii = idna_lookup(name);
        if (ascii == NULL)
            return false;
        name = str_of(ascii);
    }
    found.p = NULL;
    if (domain_valid(name))
        found = str_lower(a, name);
    if (ascii != NULL)
        idn2_free(ascii);
    if (found.p == NULL)
        return false;
    *out = found;
    return true;
}

struct str domain_to_utf8(struct arena *a, struct str name)
{
    const char *z = str_z(a, name);
    char *utf8 = NULL;

    if (z == NULL || !domain_valid(name) || idn2_to_unicode_8z8z(z, &utf8, 0) != IDN2_OK)
        return name;
    struct str copy = str_copy(a, str_of(utf8));
    idn2_free(utf8);
    return copy.p != NULL && utf8_valid(copy) ? copy : name;
}

bool domain_is_literal(struct str name)
{
    return name.n >= 2 && name.p[0] == '[' && name.p[name.n - 1] == ']';
}

/* Canonical text of an address in `text`; empty if it is none. IPv4 with leading zeros is refused: octal to some. */
static struct str canonical_ip(struct str ip, char text[INET6_ADDRSTRLEN])
{
    char z[INET6_ADDRSTRLEN];
    struct in6_addr binary;
    int family = str_find(ip, ':') >= 0 ? AF_INET6 : AF_INET;

    if (ip.n == 0 || ip.n >= sizeof z || memchr(ip.p, '\0', ip.n) != NULL)
        return STR("");
    memcpy(z, ip.p, ip.n);
    z[ip.n] = '\0';
    if (inet_pton(family, z, &binary) != 1 || inet_ntop(family, &binary, text, INET6_ADDRSTRLEN) == NULL)
        return STR("");
    return str_of(text);
}

struct str domain_literal_of_ip(struct arena *a, struct str ip)
{
    char text[INET6_ADDRSTRLEN];
    struct str canonical = canonical_ip(ip, text);

    if (canonical.n == 0)
        return (struct str){ NULL, 0 };
    return str_printf(a, "[%s%" STR_FMT "]", str_find(canonical, ':') >= 0 ? "IPv6:" : "", STR_ARG(canonical));
}

bool domain_parse_literal(struct arena *a, struct str literal, struct str *out)
{
    if (!domain_is_literal(literal))
        return false;
    struct str inner = str_head(str_from(literal, 1), literal.n - 2);
    bool v6 = str_starts_nocase(inner, STR("IPv6:"));
    struct str ip = v6 ? str_from(inner, 5) : inner;
    if (v6 != (str_find(ip, ':') >= 0)) /* an IPv6 address needs its tag (RFC 5321, 4.1.3) */
        return false;
    struct str canonical = domain_literal_of_ip(a, ip);
    if (canonical.p == NULL)
        return false;
    *out = canonical;
    return true;
}

struct str domain_literal_ip(struct str literal)
{
    if (!domain_is_literal(literal))
        return STR("");
    struct str inner = str_head(str_from(literal, 1), literal.n - 2);
    return str_starts_nocase(inner, STR("IPv6:")) ? str_from(inner, 5) : inner;
}

/* Where the registrable part of name begins; -1 if there is none. */
static ssize_t registrable_offset(struct str name)
{
    char z[DOMAIN_MAX + 1];

    if (!domain_valid_dns(name))
        return -1;
    memcpy(z, name.p, name.n);
    z[name.n] = '\0';
    const char *found = psl_registrable_domain(psl_builtin(), z);
    return found == NULL ? -1 : found - z;
}

struct str domain_organizational(struct str name)
{
    ssize_t offset = registrable_offset(name);

    return offset < 0 ? name : str_from(name, (size_t)offset);
}

bool domain_registered(struct str name)
{
    return registrable_offset(name) >= 0;
}

bool domain_in(struct str name, struct str parent)
{
    if (!str_ends_nocase(name, parent) || parent.n == 0)
        return false;
    return name.n == parent.n || name.p[name.n - parent.n - 1] == '.';
}
