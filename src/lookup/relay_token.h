/*
 * Access tokens for the relay host, by a refresh token (RFC 6749, 6) and conf's relay_host_oauth_ options.
 *
 * One thread asks, so there is one refresh at a time, and whoever waited meanwhile gets what it brought. A token is kept until shortly
 * before its end. An endpoint that fails is asked again at growing intervals, and what it said is everybody's answer in between.
 *
 * A refresh token that the endpoint replaces takes the place of the old one in its file, durably, before the access token that came with it
 * is used; where that cannot be written it is kept in memory until the file changes, and the log says so.
 */
#ifndef LOOKUP_RELAY_TOKEN_H
#define LOOKUP_RELAY_TOKEN_H

#include "conf/conf.h"
#include "lookup/oauth_answer.h"

/* Makes the thread, if conf has an endpoint and there is none yet: before the loops run, or from the first task. -ENOMEM. */
int  lookup_relay_token_start(const struct conf *c);
void lookup_relay_token_stop(void);      /* no question may be under way; nothing if it was not started */

/* Awaits. Appends the token. refused: the one that the relay host has just refused, "" none: then another than that. -EACCES: there is none
 * now, with the reason in error. The caller wipes it. */
int lookup_relay_token(const struct conf *c, struct str refused, struct buf *out, char error[256]);

#endif
