/*
 * XCLIENT and XFORWARD: what a proxy or a filter in front of us says of the client behind it. Pure.
 *
 * As Postfix documents them (XCLIENT_README, XFORWARD_README). Values are xtext; [UNAVAILABLE] and [TEMPUNAVAIL] say that there
 * is none. What comes out is printable ASCII without blanks, a name or an address where one is asked for.
 */
#ifndef SMTP_XCLIENT_H
#define SMTP_XCLIENT_H

#include "smtp/command.h"

#define XCLIENT_WORDS  "NAME REVERSE_NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
#define XFORWARD_WORDS "NAME ADDR PORT PROTO HELO IDENT SOURCE"

#define XCLIENT_TEXT_MAX 255

/* Bits of xclient_args.seen. */
enum xclient_attribute {
    XCLIENT_NAME         = 1 << 0,
    XCLIENT_REVERSE_NAME = 1 << 1,
    XCLIENT_ADDR         = 1 << 2,
    XCLIENT_PORT         = 1 << 3,
    XCLIENT_PROTO        = 1 << 4,
    XCLIENT_HELO         = 1 << 5,
    XCLIENT_LOGIN        = 1 << 6,
    XCLIENT_DESTADDR     = 1 << 7,
    XCLIENT_DESTPORT     = 1 << 8,
    XCLIENT_IDENT        = 1 << 9,     /* XFORWARD: the id of the message where it comes from */
    XCLIENT_SOURCE       = 1 << 10,    /* XFORWARD: where that came from */
};

struct xclient_ip {
    uint8_t ip[16];
    size_t  len;                       /* 4, 16; 0: unavailable */
};

/* An attribute that was not seen, or is unavailable, is zero. Strings are in the arena. */
struct xclient_args {
    unsigned          seen;            /* of enum xclient_attribute */
    struct str        name, reverse_name, helo, login, ident;
    struct xclient_ip addr, dest_addr;
    uint16_t          port, dest_port;
    bool              esmtp;
    bool              source_local;
};

/* args of XCLIENT and XFORWARD. out is written only with SMTP_OK; *culprit with the three parameter errors. */
enum smtp_parse smtp_parse_xclient(struct arena *a, struct str args, struct xclient_args *out, struct str *culprit);
enum smtp_parse smtp_parse_xforward(struct arena *a, struct str args, struct xclient_args *out, struct str *culprit);

#endif
