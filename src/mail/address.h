/*
 * Mail addresses of the envelope (RFC 5321, 4.1.2), as values. Pure.
 *
 * An address is stored in one form: the local part without its quotes and backslashes ("a b"@x is stored as `a b`), the
 * domain as mail/domain.h says. So the quoted and the plain spelling of one mailbox are the same value, and writing and
 * reading again gives the same value. No part ever holds a control character.
 *
 * The null reverse path <> has both parts empty; <postmaster> and unqualified local names have an empty domain.
 * Everything parsed is copied into the arena. False means bad text, or an arena that is full (arena_failed tells).
 */
#ifndef MAIL_ADDRESS_H
#define MAIL_ADDRESS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"

#define ADDRESS_LOCAL_MAX 64   /* RFC 5321, 4.5.3.1.1, octets as stored */
#define ADDRESS_PATH_MAX  256  /* RFC 5321, 4.5.3.1.3, octets as written, brackets included, source route not */

struct address {
    struct str local;          /* without quotes; case as written */
    struct str domain;         /* lower-case A-labels, or a canonical literal in brackets, or empty */
    bool       quoted;         /* the local part must be written in quotes */
    bool       utf8;           /* the local part is not ASCII: only for SMTPUTF8 transactions (RFC 6531) */
};

enum address_option {
    ADDRESS_IDN        = 1 << 0,  /* a UTF-8 domain is accepted, and converted to A-labels */
    ADDRESS_UTF8       = 1 << 1,  /* UTF-8 in the local part too (RFC 6531, 3.3); includes ADDRESS_IDN */
    ADDRESS_NULL       = 1 << 2,  /* path: <> is accepted */
    ADDRESS_POSTMASTER = 1 << 3,  /* <postmaster> without domain is accepted, in any case (RFC 5321, 4.1.1.3) */
    ADDRESS_BARE       = 1 << 4,  /* any local part without domain is accepted (local submission) */
};

/* A mailbox, "local@domain", nothing before or after it. The first form is the second with ADDRESS_IDN. */
bool address_parse(struct arena *a, struct str text, struct address *out);
bool address_parse_with(struct arena *a, struct str text, unsigned options, struct address *out);

/* A path, "<...>", at the beginning of text; *consumed says where it ends. A source route in it is read over and
 * forgotten, as RFC 5321, appendix C, asks. Outputs are untouched on failure. */
bool address_parse_path(struct arena *a, struct str text, unsigned options, struct address *out, size_t *consumed);

/* An address of parts that are in the one form already, as views: from an earlier address, or from storage. False, out
 * untouched, if they are not: a control character, broken UTF-8, a part too long, a domain that is neither name nor literal. */
bool address_of_parts(struct str local, struct str domain, struct address *out);

bool address_is_null(const struct address *addr);
bool address_is_postmaster(const struct address *addr);                /* local part postmaster, any case, any domain */

/* As text: quotes where they are needed, nothing for the null path; the second with angle brackets around it. */
void address_put(struct buf *out, const struct address *addr);
void address_put_path(struct buf *out, const struct address *addr);

/* As printable ASCII whatever is in it: utf-8-addr-xtext of RFC 6533, 3 ("j\x{FC}rgen@x.example"), for an ORCPT or a DSN. The second:
 * valid UTF-8 of any kind. */
void address_put_utf8_xtext(struct buf *out, const struct address *addr);
void utf8_xtext_put(struct buf *out, struct str utf8);

struct str address_text(struct arena *a, const struct address *addr);  /* .p is NULL when the arena is full */

/* The local part counts in its case (RFC 5321, 2.4), except postmaster; the domain does not. */
bool address_eq(const struct address *a, const struct address *b);

/* One string for all spellings of one mailbox, for maps: equal if and only if address_eq. */
struct str address_key(struct arena *a, const struct address *addr);

/* A deep copy. False, out untouched, when the arena is full. */
bool address_copy(struct arena *a, const struct address *addr, struct address *out);

#endif
