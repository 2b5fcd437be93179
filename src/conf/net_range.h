/*
 * Networks as a configuration names them: "192.0.2.0/24", "2001:db8::/32", or a single address. Pure.
 */
#ifndef CONF_NET_RANGE_H
#define CONF_NET_RANGE_H

#include "base/str.h"

struct net_range {
    uint8_t ip[16];
    uint8_t len;                         /* 4 or 16 */
    uint8_t bits;
};

bool net_range_parse(struct str text, struct net_range *out);
bool net_range_has(const struct net_range *r, const uint8_t *ip, size_t len);   /* an IPv4-mapped IPv6 address counts as IPv4 */

#endif
