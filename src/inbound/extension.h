/*
 * The extensions that a session offers: what EHLO lists, and which parameters and verbs come with it.
 *
 * A new extension is a name here and a row in extension.c.
 */
#ifndef INBOUND_EXTENSION_H
#define INBOUND_EXTENSION_H

#include "base/buf.h"

struct session;

/* In the order in which EHLO lists them. */
enum extension {
    EXTENSION_NONE,                      /* of what every server has: always offered, never listed */
    EXTENSION_PIPELINING,
    EXTENSION_SIZE,
    EXTENSION_8BITMIME,
    EXTENSION_DSN,
    EXTENSION_SMTPUTF8,
    EXTENSION_CHUNKING,
    EXTENSION_BINARYMIME,                /* with CHUNKING only (RFC 3030, 3) */
    EXTENSION_ENHANCEDSTATUSCODES,
    EXTENSION_STARTTLS,
    EXTENSION_AUTH,
    EXTENSION_FUTURERELEASE,
    EXTENSION_DELIVERBY,
    EXTENSION_MT_PRIORITY,
    EXTENSION_LIMITS,
    EXTENSION_REQUIRETLS,
    EXTENSION_ETRN,
    EXTENSION_EXPN,
    EXTENSION_XCLIENT,
    EXTENSION_XFORWARD,
    EXTENSION_HELP,
    EXTENSION_COUNT
};

bool     extension_is_off(const struct session *s, enum extension e);        /* switched off by the listener, or for the client's network */
bool     extension_offered(const struct session *s, enum extension e);       /* to this client, now */
void     extensions_put(const struct session *s, struct buf *out);           /* "\nPIPELINING\nSIZE 52428800..." */

/* The parameters of MAIL and of RCPT (enum smtp_param) that may come; all else the session refuses (RFC 5321, 4.1.1.11). */
unsigned extensions_mail_params(const struct session *s);
unsigned extensions_rcpt_params(const struct session *s);

#endif
