/*
 * The envelope: who sent a message, how it came, and to whom it goes. This is what the journal stores. Pure.
 *
 * Stored form: entries of tag (u16), length (u32), value; little-endian, no order promised to the reader. An unknown tag
 * with the top bit set means "you cannot handle this message without knowing me": the envelope is refused. Other unknown
 * entries are kept and written again, so an older program hands on what a newer one wrote. Absent means the zero value;
 * a tag that may stand once and stands twice is an error.
 */
#ifndef MAIL_ENVELOPE_H
#define MAIL_ENVELOPE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "mail/address.h"

#define ENVELOPE_RCPTS_MAX 65536
#define ENVELOPE_CRITICAL  0x8000
#define ENVELOPE_NEXT_HOP_MAX 300       /* a domain, a colon, a port, and some room */

/* Numbers are for ever: never change one, never use one again. */
enum envelope_tag {
    ENVELOPE_TAG_ID             = 0x0001,                      /* u64 */
    ENVELOPE_TAG_ARRIVED        = 0x0002,                      /* i64, ns since 1970 */
    ENVELOPE_TAG_SENDER         = 0x0003 | ENVELOPE_CRITICAL,  /* address; absent: the null sender */
    ENVELOPE_TAG_RECIPIENT      = 0x0004 | ENVELOPE_CRITICAL,  /* entries of recipient_tag; repeated, order counts */
    ENVELOPE_TAG_CLIENT_IP      = 0x0005,                      /* text */
    ENVELOPE_TAG_CLIENT_NAME    = 0x0006,                      /* text, verified reverse DNS name */
    ENVELOPE_TAG_HELO           = 0x0007,                      /* text */
    ENVELOPE_TAG_LOGIN          = 0x0008,                      /* text, SASL login or local user */
    ENVELOPE_TAG_PROTOCOL       = 0x0009,                      /* text, "ESMTPS" */
    ENVELOPE_TAG_BODY_8BIT      = 0x000a | ENVELOPE_CRITICAL,  /* u8, 1 */
    ENVELOPE_TAG_SMTPUTF8       = 0x000b | ENVELOPE_CRITICAL,  /* u8, 1 (RFC 6531) */
    ENVELOPE_TAG_REQUIRETLS     = 0x000c | ENVELOPE_CRITICAL,  /* u8, 1 (RFC 8689) */
    ENVELOPE_TAG_ENVID          = 0x000d,                      /* text, xtext decoded (RFC 3461, 4.4) */
    ENVELOPE_TAG_RET            = 0x000e,                      /* u8, enum envelope_ret */
    ENVELOPE_TAG_SIZE           = 0x000f,                      /* u64, bytes of header and body together */
    ENVELOPE_TAG_HOLD_UNTIL     = 0x0010 | ENVELOPE_CRITICAL,  /* i64, ns since 1970 (RFC 4865) */
    ENVELOPE_TAG_DELIVER_BY     = 0x0011,                      /* i64, ns since 1970 (RFC 2852) */
    ENVELOPE_TAG_BY_MODE        = 0x0012,                      /* u8, 'R' or 'N', | 0x80 with trace */
    ENVELOPE_TAG_PRIORITY       = 0x0013,                      /* i32, -9 .. 9 (RFC 6710) */
    ENVELOPE_TAG_SOURCE_ADDRESS = 0x0014 | ENVELOPE_CRITICAL,  /* text, IP or name of the pool to send from */
    ENVELOPE_TAG_BODY_BINARY    = 0x0015 | ENVELOPE_CRITICAL,  /* u8, 1: BODY=BINARYMIME (RFC 3030) */
    ENVELOPE_TAG_TLS_OPTIONAL   = 0x0016,                      /* u8, 1: "TLS-Required: No" (RFC 8689) */
};

/* Entries inside one recipient. */
enum recipient_tag {
    RECIPIENT_TAG_ADDRESS   = 0x0001 | ENVELOPE_CRITICAL,      /* address */
    RECIPIENT_TAG_ORIGINAL  = 0x0002,                          /* text, ORCPT: "rfc822;bob@x.example", xtext decoded */
    RECIPIENT_TAG_NOTIFY    = 0x0003 | ENVELOPE_CRITICAL,      /* u8, enum recipient_notify */
    RECIPIENT_TAG_REWRITTEN = 0x0004,                          /* address the client gave, before aliases and rewriting */
    RECIPIENT_TAG_RRVS      = 0x0005 | ENVELOPE_CRITICAL,      /* i64, ns since 1970 (RFC 7293) */
    RECIPIENT_TAG_NEXT_HOP  = 0x0006 | ENVELOPE_CRITICAL,      /* text, as relay_host is written: where an operator has sent it */
};

enum recipient_notify {
    NOTIFY_NEVER   = 1 << 0,
    NOTIFY_SUCCESS = 1 << 1,
    NOTIFY_FAILURE = 1 << 2,
    NOTIFY_DELAY   = 1 << 3,
};

#define ENVELOPE_BY_TRACE 0x80         /* of by_mode: RFC 2852, by-trace */

enum envelope_ret { RET_UNSET = 0, RET_FULL = 1, RET_HDRS = 2 };

struct recipient {
    struct address addr;
    struct str     original;       /* ORCPT; empty if none was given */
    struct address rewritten_from; /* both parts empty if the address is as the client gave it */
    int64_t        rrvs_ns;        /* 0: not asked for */
    struct str     next_hop;       /* "host", "host:port", "[ip]", "[ip]:port"; empty: where such mail goes */
    uint8_t        notify;         /* of enum recipient_notify; 0: not given */
    struct str     unknown;        /* entries we do not know, as they were */
};

struct envelope {
    uint64_t          id;
    int64_t           arrived_ns;
    bool              null_sender;  /* then sender is empty */
    struct address    sender;
    struct recipient *rcpts;
    size_t            rcpt_count;
    struct str        client_ip, client_name, helo, login, protocol;
    bool              body_8bit, body_binary, smtputf8, requiretls, tls_optional;
    struct str        envid;
    uint8_t           ret;          /* enum envelope_ret */
    uint64_t          size;
    int64_t           hold_until_ns, deliver_by_ns;   /* 0: none */
    uint8_t           by_mode;      /* 'R' or 'N', with ENVELOPE_BY_TRACE or without */
    int               priority;
    struct str        source_address;
    struct str        unknown;      /* entries we do not know, as they were */
};

enum envelope_result {
    ENVELOPE_OK,
    ENVELOPE_BAD,                   /* torn, twice, out of range: never written by us */
    ENVELOPE_UNKNOWN_CRITICAL,      /* written by a newer program */
    ENVELOPE_NO_MEMORY,             /* the arena is full */
};

/* Asserts what we promise of our own envelopes (a null sender is empty, counts in limits). Same value, same bytes. */
void envelope_put(struct buf *out, const struct envelope *env);

/* Strings are views into bytes, which must live as long as out; only the array of recipients is in the arena. */
enum envelope_result envelope_parse(struct arena *a, struct str bytes, struct envelope *out);

/* A deep copy into the arena, to outlive what it was parsed from. False, out untouched, when the arena is full. */
bool envelope_copy(struct arena *a, const struct envelope *env, struct envelope *out);

#endif
