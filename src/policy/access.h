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

/* Whose mailbox takes the mail: the local part, without the detail of "user+detail" unless somebody is listed under the whole. A view. */
struct str  access_user(const struct conf *c, const struct address *rcpt);
/* "user" of "user+detail", a view; false, user untouched, if there is no delimiter inside. */
bool        access_split_detail(const struct conf *c, struct str local, struct str *user);
bool        access_is_route(struct str local);
/* In a table of the snapshot, whose keys are in lower case: of "local@domain", or of "local" if domain is empty. */
void       *access_lookup(const struct map_str *table, struct str local, struct str domain);

#endif
