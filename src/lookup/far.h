/*
 * Lookup, where it is a process of its own: the other end of lookup/serve.h.
 *
 * After lookup_connect, lookup_token_check and lookup_relay_token ask that process, whose configuration is its own. For the worker;
 * the keeper has the source of accounts below.
 */
#ifndef LOOKUP_FAR_H
#define LOOKUP_FAR_H

#include "conf/conf.h"
#include "lookup/relay_token.h"
#include "lookup/token_check.h"
#include "run/keeper_source.h"

/* The door stays the caller's. From the first task; -ENOMEM, -EAGAIN. lookup_disconnect awaits; no question may be under way. */
int  lookup_connect(int door);
void lookup_disconnect(void);

/* BLOCKS outside of tasks, else awaits. The configuration as lookup reads it now can be taken; and is taken. A negative errno with the reason. */
int  lookup_far_check(char error[256]);
int  lookup_far_reload(char error[256]);

/* For token_check.c and relay_token.c. */
bool lookup_is_far(void);
enum keeper_verdict lookup_far_token_check(const struct conf *c, struct str token, struct str login, struct token_answer *out);
int  lookup_far_relay_token(const struct conf *c, struct str refused, struct buf *out, char error[256]);

/* In the keeper, from the first task: one line for all sources. lookup_accounts_far: a source of accounts that asks there. -ENOMEM. */
int  lookup_accounts_connect(int door);
void lookup_accounts_disconnect(void);
int  lookup_accounts_far(int64_t timeout_ns, struct keeper_source **out);

#endif
