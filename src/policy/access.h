/*
 * Who may send to whom: the decision at RCPT. Pure: looks at the snapshot only; where a mailbox must be looked at, it says so.
 */
#ifndef POLICY_ACCESS_H
#define POLICY_ACCESS_H

#include "conf/conf.h"
#include "mail/address.h"

enum access {
    ACCESS_LOCAL,                        /* a user of ours */
    ACCESS_LOCAL_IF_MAILBOX,             /* ours if the Maildir is there: the session looks */
    ACCESS_RELAY,                        /* the client is trusted, or the domain is one we are backup for */
    ACCESS_UNKNOWN_USER,                 /* 550 5.1.1 */
    ACCESS_RELAY_DENIED,                 /* 550 5.7.1 */
};

bool        access_is_trusted(const struct conf *c, const uint8_t *client_ip, size_t len);
enum access access_rcpt(const struct conf *c, bool trusted, const struct address *rcpt);

#endif
