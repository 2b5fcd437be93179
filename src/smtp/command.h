/*
 * SMTP commands as text: a line in, a verb and its arguments out; and MAIL and RCPT back to text for the client. Pure.
 *
 * Parameters that we may not offer are read all the same, and `seen` tells which stood there: the session refuses (555)
 * what it did not announce. So offering an extension later changes no parser.
 */
#ifndef SMTP_COMMAND_H
#define SMTP_COMMAND_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "mail/address.h"

#define SMTP_COMMAND_LINE_MAX 512   /* RFC 5321, 4.5.3.1.4, CRLF included; what a server must at least take */
#define SMTP_LINE_MAX         2048  /* what we take: room for the parameters of all extensions together */
#define SMTP_AUTH_LINE_MAX    12288 /* RFC 4954, 4: a line of the AUTH exchange */
#define SMTP_TEXT_LINE_MAX    998   /* RFC 5321, 4.5.3.1.6, without CRLF; longer lines of text are taken unless conf says no */
#define SMTP_ENVID_MAX        100   /* RFC 3461, 5.4 */
#define SMTP_ORCPT_MAX        500   /* RFC 3461, 5.4 */

enum verb {
    VERB_UNKNOWN,
    VERB_HELO, VERB_EHLO, VERB_LHLO, VERB_MAIL, VERB_RCPT, VERB_DATA, VERB_BDAT, VERB_RSET, VERB_NOOP, VERB_QUIT,
    VERB_VRFY, VERB_EXPN, VERB_HELP, VERB_STARTTLS, VERB_AUTH, VERB_ETRN, VERB_XCLIENT, VERB_XFORWARD,
    VERB_COUNT
};

struct smtp_line {
    enum verb  verb;
    struct str args;    /* behind the verb, spaces and tabs at both ends removed; a view */
};

/* line without its CRLF. Never fails: what is no verb is VERB_UNKNOWN, with the whole line as args. A line that holds a
 * NUL, CR or LF is VERB_UNKNOWN too. */
void        smtp_parse_line(struct str line, struct smtp_line *out);
const char *smtp_verb_name(enum verb verb);   /* "MAIL"; "" for VERB_UNKNOWN */

enum smtp_parse {
    SMTP_OK,
    SMTP_BAD_SYNTAX,           /* 501 5.5.4: no FROM:/TO:, no brackets, stray characters */
    SMTP_BAD_ADDRESS,          /* 501 5.1.7 (sender), 5.1.3 (recipient) */
    SMTP_NEEDS_UTF8,           /* 550 (MAIL), 553 (RCPT) 5.6.7: an address that is not ASCII, without SMTPUTF8 (RFC 6531, 3.5) */
    SMTP_UNKNOWN_PARAMETER,    /* 555 5.5.4; its name is in args.culprit */
    SMTP_BAD_PARAMETER,        /* 501 5.5.4; likewise */
    SMTP_DUPLICATE_PARAMETER,  /* 501 5.5.4; likewise */
    SMTP_NO_MEMORY,            /* 451 4.3.0: the arena is full */
};

/* Bits of mail_args.seen and rcpt_args.seen. */
enum smtp_param {
    PARAM_SIZE        = 1 << 0,   /* RFC 1870 */
    PARAM_BODY        = 1 << 1,   /* RFC 6152 */
    PARAM_SMTPUTF8    = 1 << 2,   /* RFC 6531 */
    PARAM_RET         = 1 << 3,   /* RFC 3461 */
    PARAM_ENVID       = 1 << 4,   /* RFC 3461 */
    PARAM_AUTH        = 1 << 5,   /* RFC 4954 */
    PARAM_REQUIRETLS  = 1 << 6,   /* RFC 8689 */
    PARAM_MT_PRIORITY = 1 << 7,   /* RFC 6710 */
    PARAM_HOLDFOR     = 1 << 8,   /* RFC 4865 */
    PARAM_HOLDUNTIL   = 1 << 9,   /* RFC 4865 */
    PARAM_BY          = 1 << 10,  /* RFC 2852 */
    PARAM_NOTIFY      = 1 << 11,  /* RFC 3461, of RCPT */
    PARAM_ORCPT       = 1 << 12,  /* RFC 3461, of RCPT */
    PARAM_RRVS        = 1 << 13,  /* RFC 7293, of RCPT */
};

enum smtp_body { BODY_UNSET, BODY_7BIT, BODY_8BITMIME, BODY_BINARYMIME };

/* Strings are in the arena. A member of a parameter that was not seen is zero. */
struct mail_args {
    struct address sender;         /* empty if null_sender */
    bool           null_sender;
    unsigned       seen;           /* of enum smtp_param */
    uint64_t       size;
    enum smtp_body body;
    uint8_t        ret;            /* enum envelope_ret of mail/envelope.h */
    struct str     envid;          /* xtext decoded, printable ASCII */
    struct str     auth;           /* mailbox that authenticated, decoded; "<>" if unknown (RFC 4954, 5) */
    int            priority;       /* -9 .. 9 */
    uint64_t       hold_for_s;
    int64_t        hold_until_ns;  /* since 1970 */
    int64_t        by_s;           /* seconds from now; may be negative */
    char           by_mode;        /* 'R' or 'N' */
    bool           by_trace;
};

struct rcpt_args {
    struct address rcpt;           /* without domain only for <postmaster> */
    unsigned       seen;
    uint8_t        notify;         /* of enum recipient_notify of mail/envelope.h */
    struct str     orcpt;          /* "rfc822;bob@x.example": type lower-case; text xtext decoded, printable (RFC 3461, 4.2); of type utf-8 encoded still (RFC 6533, 3) */
    int64_t        rrvs_ns;
    bool           rrvs_reject;    /* ";R", else ";C" */
};

/* args of MAIL ("FROM:<...> SIZE=1") and RCPT ("TO:<...>"). out is written only with SMTP_OK; *culprit, which may be NULL,
 * only with the three parameter errors: the name of the parameter, letters, digits and hyphens, a view. */
enum smtp_parse smtp_parse_mail(struct arena *a, struct str args, struct mail_args *out, struct str *culprit);
enum smtp_parse smtp_parse_rcpt(struct arena *a, struct str args, struct rcpt_args *out, struct str *culprit);

/* RCPT in a transaction whose MAIL had SMTPUTF8: UTF-8 addresses are read. The one above answers SMTP_NEEDS_UTF8 to them. */
enum smtp_parse smtp_parse_rcpt_utf8(struct arena *a, struct str args, struct rcpt_args *out, struct str *culprit);

/* args of HELO, EHLO, LHLO: what the client calls itself, its first word, at most 255 printable ASCII characters; whether
 * it is a domain or a literal is for policy to ask (many are neither). */
enum smtp_parse smtp_parse_hello(struct arena *a, struct str args, struct str *out);

/* args of BDAT (RFC 3030, 2): "1000", "1000 LAST". SMTP_BAD_PARAMETER: something else stands behind the size, which is given all the
 * same, for the octets will follow. */
enum smtp_parse smtp_parse_bdat(struct str args, uint64_t *out_size, bool *out_last);

/* "MAIL FROM:<...>" with the parameters that `seen` names, and CRLF. Round trip: parsing it gives the same arguments. */
void smtp_put_mail(struct buf *out, const struct mail_args *args);
void smtp_put_rcpt(struct buf *out, const struct rcpt_args *args);

/* xtext (RFC 3461, 4). Decoding gives printable ASCII only: anything else would travel into our own header fields. False,
 * out untouched, if it does not, or when the arena is full. */
void smtp_put_xtext(struct buf *out, struct str text);
bool smtp_parse_xtext(struct arena *a, struct str xtext, struct str *out);

#endif
