/*
 * Which addresses a login may send as. Pure.
 */
#ifndef POLICY_SENDER_H
#define POLICY_SENDER_H

#include "conf/conf.h"
#include "mail/address.h"

/* The login's own address: "alice@here.example" that one, "alice" alice at every local domain; and those that sender_logins_file gives
 * to it, address by address or by domain. Case does not matter. */
bool sender_is_own(const struct conf *c, struct str login, const struct address *sender);

#endif
