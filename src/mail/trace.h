/*
 * Trace fields: Received, Return-Path, Delivered-To (RFC 5321, 4.4). Pure.
 *
 * Values may be a stranger's (HELO, reverse DNS): whatever they hold, what comes out is one well-formed field.
 */
#ifndef MAIL_TRACE_H
#define MAIL_TRACE_H

#include "base/buf.h"
#include "base/str.h"
#include "mail/address.h"

#define TRACE_RECEIVED_MAX 100  /* more hops than this is a loop (RFC 5321, 6.3) */

struct trace_received {
    struct str            helo;       /* empty: "unknown" */
    struct str            rdns;       /* verified reverse name; empty: "unknown" */
    struct str            ip;         /* the client's; empty for local submission: no "from" clause */
    struct str            by_host;
    struct str            protocol;   /* "ESMTP", "ESMTPSA", "LMTP" (RFC 3848) */
    struct str            comment;    /* behind the client: "TLSv1.3"; empty: none */
    struct str            tls_suite;  /* the cipher's registered name (RFC 8314, 4.3); empty: no clause */
    struct str            id;         /* the queue id as text */
    const struct address *rcpt;       /* NULL if there are several (RFC 5321, 7.6: others' addresses leak) */
    int64_t               wall_ns;
    int                   offset_minutes;
};

/* "Received: from helo (rdns [ip]) by host with ESMTP id ID for <rcpt>; date" CRLF, folded. */
void trace_put_received(struct buf *out, const struct trace_received *r);

void trace_put_return_path(struct buf *out, const struct address *sender);     /* "Return-Path: <...>"; null: "<>" */
void trace_put_delivered_to(struct buf *out, const struct address *rcpt);
void trace_put_original_to(struct buf *out, const struct address *rcpt);       /* X-Original-To, as Postfix calls it: before aliases */

/* The mailbox in a Delivered-To (RFC 9228, 3), without a domain too. Views into value or the arena. */
bool trace_parse_delivered_to(struct arena *a, struct str value, struct address *out);

/* Whether the message has passed this mailbox before: a Delivered-To field that names it. */
bool trace_was_delivered_to(struct str message, const struct address *rcpt);

#endif
