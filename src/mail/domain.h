/*
 * Domain names and address literals as text. Pure; libidn2 and libpsl have their home in domain.c.
 *
 * Inside the program a domain is always in one form: lower case, A-labels, no trailing dot; or a literal in brackets in
 * its canonical spelling. So bytewise comparison is comparison of domains.
 */
#ifndef MAIL_DOMAIN_H
#define MAIL_DOMAIN_H

#include "base/arena.h"
#include "base/str.h"

#define DOMAIN_MAX       253  /* RFC 1035, 2.3.4: 255 octets on the wire are 253 characters of text */
#define DOMAIN_LABEL_MAX 63

/* A host name: labels of letters, digits and inner hyphens (RFC 1123, 2.1; RFC 5321, 4.1.2), in limits, no trailing dot,
 * and not all digits and dots (that would be an IPv4 address without its brackets). Any case. */
bool domain_valid(struct str name);

/* The same, with underscores too: names one may ask DNS for (_dmarc.example, _25._tcp.mx.example). */
bool domain_valid_dns(struct str name);

/* The one form of a domain written in any: lower-cased, U-labels converted (IDNA2008, UTS #46 non-transitional), one
 * trailing dot removed, valid by domain_valid. False, out untouched, otherwise or when the arena is full. */
bool domain_to_ascii(struct arena *a, struct str name, struct str *out);

/* For showing to people: A-labels as UTF-8 where they are valid; the name itself otherwise. */
struct str domain_to_utf8(struct arena *a, struct str name);

/* Stands in brackets, whatever is inside. */
bool domain_is_literal(struct str name);

/* An address literal (RFC 5321, 4.1.3) in canonical spelling: "[192.0.2.1]", "[IPv6:2001:db8::1]". General literals of
 * other tags are refused: none is registered. False, out untouched, otherwise or when the arena is full. */
bool domain_parse_literal(struct arena *a, struct str literal, struct str *out);

/* The IP address in a canonical literal, as a view: "192.0.2.1", "2001:db8::1". Empty if it is none. */
struct str domain_literal_ip(struct str literal);

/* An IP address as a canonical literal, in the arena; .p is NULL if ip is no address or the arena is full. */
struct str domain_literal_of_ip(struct arena *a, struct str ip);

/* The organizational domain: the public suffix and one label more, by the public suffix list (RFC 7489, 3.2), as a view
 * into name; the name itself if it is a public suffix. Name in the one form (lower-case A-labels), no literal. */
struct str domain_organizational(struct str name);

/* Whether name is at or below a registrable domain, so not a public suffix itself. */
bool domain_registered(struct str name);

/* The same domain or below it: "a.b.example" is in "b.example". Ignores case. */
bool domain_in(struct str name, struct str parent);

#endif
