/*
 * Is this access token good, and whose is it? An introspection endpoint is asked (RFC 7662), by conf's oauth_ options.
 *
 * Questions run on a pool of threads with a queue and a deadline. Good answers are remembered, not beyond the token's own end and not
 * longer than oauth_cache_time; bad ones are not, so that a token is good as soon as the endpoint says so. An endpoint that does not
 * answer, or not as it should, is KEEPER_TROUBLE and never a verdict on the token.
 */
#ifndef LOOKUP_TOKEN_CHECK_H
#define LOOKUP_TOKEN_CHECK_H

#include "conf/conf.h"
#include "lookup/oauth_answer.h"

/* Makes the pool, if conf has an endpoint and there is none yet: before the loops run, or from the first task. -ENOMEM. */
int  lookup_tokens_start(const struct conf *c);
void lookup_tokens_stop(void);           /* no question may be under way; nothing if it was not started */

struct token_answer {
    char        login[KEEPER_LOGIN_MAX + 1];     /* as the endpoint says it; with KEEPER_YES */
    bool        scope_lacks;             /* with KEEPER_NO: the token is good, and not for this */
    const char *why;                     /* with KEEPER_NO: a literal, for the log */
};

/* Awaits. login: the one that the client says it has, which must be the token's (ASCII, any case); "" whosever the token is. */
enum keeper_verdict lookup_token_check(const struct conf *c, struct str token, struct str login, struct token_answer *out);

#endif
