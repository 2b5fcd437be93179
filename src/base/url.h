/*
 * The URLs of endpoints that we ask: http and https, taken apart strictly, so that everyone who reads one reads it alike. Pure.
 */
#ifndef BASE_URL_H
#define BASE_URL_H

#include "base/buf.h"
#include "base/str.h"

#define URL_MAX 1000                     /* bytes */

struct url {
    bool       tls;                      /* https */
    struct str host;                     /* a view: a name, or an address without brackets */
    bool       is_ip6, is_ip4;
    uint16_t   port;
};

/* "https://host[:port][/path][?query]". A name's last label begins with a letter, so that no reader takes 0x7f.1 for an address. False, out
 * untouched, for anything else: with a user, a fragment, a blank, a control. */
bool url_parse(struct str text, struct url *out);

/* localhost (RFC 6761, 6.3), 127.0.0.0/8, ::1. */
bool url_is_loopback(const struct url *u);

/* Under TLS, or on this machine: what goes there is read by nobody else. */
bool url_is_private(const struct url *u);

/* As application/x-www-form-urlencoded has it (RFC 6749, appendix B): unreserved characters, and %XX for all others. */
void url_put_encoded(struct buf *out, struct str text);

#endif
