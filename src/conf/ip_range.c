/*
 * Networks as text and as a question. Pure.
 */
#include "conf/ip_range.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static bool parse_ip(struct str text, struct ip_range *out)
{
    char z[INET6_ADDRSTRLEN];

    if (text.n == 0 || text.n >= sizeof z || memchr(text.p, '\0', text.n) != NULL)
        return false;
    memcpy(z, text.p, text.n);
    z[text.n] = '\0';
    if (inet_pton(AF_INET, z, out->ip) == 1)
        out->len = 4;
    else if (inet_pton(AF_INET6, z, out->ip) == 1)
        out->len = 16;
    else
        return false;
    return true;
}

/* "192.0.2.1/24" is most often a mistake for /32 or for 192.0.2.0: which one, we cannot know. */
static bool host_bits_are_zero(const struct ip_range *r)
{
    for (unsigned bit = r->bits; bit < r->len * 8u; bit++)
        if (r->ip[bit / 8] & (0x80u >> bit % 8))
            return false;
    return true;
}

bool ip_range_parse(struct str text, struct ip_range *out)
{
    struct ip_range r = { .len = 0 };
    struct str ip, bits;
    uint64_t n;

    bool has_bits = str_cut(text, '/', &ip, &bits);
    if (!parse_ip(ip, &r))
        return false;
    n = r.len * 8u;
    if (has_bits && !str_to_u64(bits, r.len * 8u, &n))
        return false;
    r.bits = (uint8_t)n;
    if (!host_bits_are_zero(&r))
        return false;
    *out = r;
    return true;
}

bool ip_range_has(const struct ip_range *r, const uint8_t *ip, size_t len)
{
    if (len == 16 && memcmp(ip, mapped_prefix, sizeof mapped_prefix) == 0) {
        ip += 12;
        len = 4;
    }
    if (len != r->len)
        return false;
    size_t whole = r->bits / 8;
    if (memcmp(ip, r->ip, whole) != 0)
        return false;
    unsigned rest = r->bits % 8;
    return rest == 0 || ((ip[whole] ^ r->ip[whole]) >> (8 - rest)) == 0;
}

void ip_range_format(const struct ip_range *r, char out[IP_RANGE_TEXT_MAX])
{
    char ip[INET6_ADDRSTRLEN];

    (void)inet_ntop(r->len == 4 ? AF_INET : AF_INET6, r->ip, ip, sizeof ip);   /* cannot fail: both families fit */
    if (r->bits == r->len * 8)
        snprintf(out, IP_RANGE_TEXT_MAX, "%s", ip);
    else
        snprintf(out, IP_RANGE_TEXT_MAX, "%s/%u", ip, r->bits);
}
