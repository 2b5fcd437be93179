/*
 * The PROXY protocol, versions 1 and 2: what a proxy says in front of a connection, about whose it is. Pure.
 *
 * https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt; the sections named here are that document's.
 */
#ifndef SMTP_PROXY_WIRE_H
#define SMTP_PROXY_WIRE_H

#include "base/str.h"

#define PROXY_V1_MAX 107   /* 2.1, CRLF included */
#define PROXY_V2_MAX 4096  /* addresses take 216 at most; the rest is room for what proxies tell of TLS */

enum proxy_result {
    PROXY_DONE,
    PROXY_MORE,
    PROXY_BAD,             /* no header, or one that cannot be: nothing that follows can be believed */
};

struct proxy_header {
    bool     local;        /* the proxy itself is the client, to see whether we are well (2.2, LOCAL) */
    size_t   ip_len;       /* 4 or 16; 0: it does not say whose the connection is (UNKNOWN, UNSPEC, and what is not TCP over IP) */
    uint8_t  client_ip[16], server_ip[16];
    uint16_t client_port, server_port;
};

/* Reads the header at the beginning of input. *n with PROXY_DONE: its length; with PROXY_MORE: so many bytes are still missing
 * at least, and none of them is behind the header (who reads no more than that takes nothing from a TLS handshake behind it).
 * out is written only with PROXY_DONE. */
enum proxy_result proxy_parse(struct str input, struct proxy_header *out, size_t *n);

#endif
