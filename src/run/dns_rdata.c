/*
 * Names and rdata of DNS in wire form, as strangers send them. Pure.
 *
 * Promises: never reads beyond n bytes whatever the lengths inside say, accepts no compression pointer, and every byte must be accounted
 * for. Names come out in lower case, without trailing dot, and hold only octets that a host name may be printed with.
 */
#include "run/dns_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define LABEL_MAX     63u  /* RFC 1035, 2.3.4 */
#define NAME_MAX_WIRE 255u /* with length octets and the root's */
#define NAME_MAX_TEXT 253u /* the same name without them, dots between */

int dns_name_clean(struct arena *arena, struct str name, struct str *out)
{
    if (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n > NAME_MAX_TEXT)
        return -EINVAL;
    for (size_t i = 0, start = 0; name.n > 0 && i <= name.n; i++) {
        if (i < name.n && name.p[i] != '.')
            continue;
        if (i == start || i - start > LABEL_MAX)
            return -EINVAL;
        start = i + 1;
    }
    if (name.n == 0) {
        *out = STR("");
        return 0;
    }
    struct str lower = str_lower(arena, name);
    if (lower.p == NULL)
        return -ENOMEM;
    *out = lower;
    return 0;
}

/* Printable, and neither the dot that would make two labels of one nor the backslash that would have to be escaped. */
static bool octet_allowed(uint8_t c)
{
    return c > ' ' && c < 0x7f && c != '.' && c != '\\';
}

/* A whole name that ends exactly at the end of the n bytes. */
static int parse_name(struct arena *arena, const uint8_t *p, size_t n, struct str *out)
{
    char text[NAME_MAX_WIRE];
    size_t used = 0, at = 0;

    if (n == 0 || n > NAME_MAX_WIRE)
        return -EBADMSG;
    while (p[at] != 0) {
        size_t length = p[at];
        if (length > LABEL_MAX || length + 1 >= n - at) /* the root's octet must still follow */
            return -EBADMSG;
        if (used > 0)
            text[used++] = '.';
        for (size_t i = 1; i <= length; i++) {
            if (!octet_allowed(p[at + i]))
                return -EBADMSG;
            text[used++] = char_lower((char)p[at + i]);
        }
        at += length + 1;
    }
    if (at + 1 != n)
        return -EBADMSG;
    if (used == 0) {
        *out = STR("");
        return 0;
    }
    struct str name = str_copy(arena, (struct str){ text, used });
    if (name.p == NULL)
        return -ENOMEM;
    *out = name;
    return 0;
}

static int parse_address(const uint8_t *rdata, size_t n, size_t wanted, struct dns_record *out)
{
    if (n != wanted)
        return -EBADMSG;
    memcpy(out->ip, rdata, wanted);
    return 0;
}

static int parse_mx(struct arena *arena, const uint8_t *rdata, size_t n, struct dns_record *out)
{
    if (n < 3)
        return -EBADMSG;
    int r = parse_name(arena, rdata + 2, n - 2, &out->name);
    if (r < 0)
        return r;
    out->preference = (uint16_t)(rdata[0] << 8 | rdata[1]);
    return 0;
}

/* One or more strings, each with its length in front; joined without anything between (RFC 7208, 3.3). */
static int parse_txt(struct arena *arena, const uint8_t *rdata, size_t n, struct dns_record *out)
{
    if (n == 0)
        return -EBADMSG;
    char *text = arena_alloc(arena, n); /* at least one more than needed, so never 0 */
    if (text == NULL)
        return -ENOMEM;
    size_t used = 0;
    for (size_t at = 0; at < n;) {
        size_t length = rdata[at++];
        if (length > n - at)
            return -EBADMSG;
        memcpy(text + used, rdata + at, length);
        used += length;
        at += length;
    }
    out->text = (struct str){ text, used };
    return 0;
}

static int parse_tlsa(struct arena *arena, const uint8_t *rdata, size_t n, struct dns_record *out)
{
    if (n < 4) /* RFC 6698, 2.1: three octets, then the data; without data it can match nothing */
        return -EBADMSG;
    struct str data = str_copy(arena, (struct str){ (const char *)rdata + 3, n - 3 });
    if (data.p == NULL)
        return -ENOMEM;
    out->usage = rdata[0];
    out->selector = rdata[1];
    out->matching = rdata[2];
    out->text = data;
    return 0;
}

static int parse(struct arena *arena, enum dns_type type, const uint8_t *rdata, size_t n, struct dns_record *out)
{
    // clang-format off
    switch (type) {
    case DNS_A:    return parse_address(rdata, n, 4, out);
    case DNS_AAAA: return parse_address(rdata, n, 16, out);
    case DNS_PTR:  return parse_name(arena, rdata, n, &out->name);
    case DNS_MX:   return parse_mx(arena, rdata, n, out);
    case DNS_TXT:  return parse_txt(arena, rdata, n, out);
    case DNS_TLSA: return parse_tlsa(arena, rdata, n, out);
    }
    // clang-format on
    assert(!"a type that enum dns_type has");
    return -EINVAL;
}

int dns_parse_rdata(struct arena *arena, enum dns_type type, const uint8_t *rdata, size_t n, struct dns_record *out)
{
    struct dns_record record = { 0 };
    int r = parse(arena, type, rdata, n, &record);
    if (r == 0)
        *out = record;
    return r;
}

struct str dns_reverse_name(struct arena *arena, const uint8_t *ip, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    char text[64 + sizeof("ip6.arpa")];
    size_t used = 0;

    assert(n == 4 || n == 16);
    if (n == 4)
        return str_printf(arena, "%u.%u.%u.%u.in-addr.arpa", ip[3], ip[2], ip[1], ip[0]);
    for (size_t i = n; i-- > 0;) { /* RFC 3596, 2.5: nibbles, the lowest first */
        text[used++] = digits[ip[i] & 15];
        text[used++] = '.';
        text[used++] = digits[ip[i] >> 4];
        text[used++] = '.';
    }
    return str_printf(arena, "%.*sip6.arpa", (int)used, text);
}
