/*
 * Networks as a configuration names them: "192.0.2.0/24", "2001:db8::/32", or a single address. Pure.
 */
#ifndef CONF_IP_RANGE_H
#define CONF_IP_RANGE_H

#include "base/str.h"

struct ip_range {
    uint8_t ip[16];
    uint8_t len;                         /* 4 or 16 */
    uint8_t bits;
};

#define IP_RANGE_TEXT_MAX 64
bool ip_range_parse(struct str text, struct ip_range *out);
bool ip_range_has(const struct ip_range *r, const uint8_t *ip, size_t len);   /* an IPv4-mapped IPv6 address counts as IPv4 */
void ip_range_format(const struct ip_range *r, char out[IP_RANGE_TEXT_MAX]);

#endif
