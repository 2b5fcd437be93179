/*
 * What OAuth's endpoints answer: JSON from elsewhere, read with suspicion. Pure.
 */
#ifndef LOOKUP_OAUTH_ANSWER_H
#define LOOKUP_OAUTH_ANSWER_H

#include "base/buf.h"
#include "run/keeper.h"

#define OAUTH_TOKEN_MAX 8192             /* bytes; what a SASL message has room for too */
#define OAUTH_SKEW_S    60               /* by which the endpoint's clock may be ahead of ours; a token that has expired here has expired */

/* -- of an introspection endpoint (RFC 7662, 2.2) ---------------------------------------------------------------------------- */

struct oauth_wanted {
    const char *login_claim;             /* the member that names the login: a string */
    const char *scope;                   /* words, each of which the token must have; "" none */
    const char *audience;                /* for whom it must be; "" anybody */
};

enum oauth_verdict {
    OAUTH_GOOD,
    OAUTH_NOT_GOOD,                      /* inactive, expired, not yet good, not for us, or nobody's */
    OAUTH_SCOPE_LACKS,                   /* good, and not for this */
    OAUTH_NO_ANSWER,                     /* not what RFC 7662 says: nothing is known of the token */
};

struct oauth_claims {
    char    login[KEEPER_LOGIN_MAX + 1];
    int64_t expires_s;                   /* seconds since 1970; INT64_MAX: not said */
};

/* *out only with OAUTH_GOOD; *why, a literal for the log, with all others. */
enum oauth_verdict oauth_read_introspection(struct str json, const struct oauth_wanted *wanted, int64_t now_s, struct oauth_claims *out,
                                            const char **why);

/* The literal of these words, as a verdict's *why is one: for who got them from elsewhere. Of others: one that says nothing. */
const char *oauth_why(struct str words);

/* -- of a token endpoint (RFC 6749, 5) ------------------------------------------------------------------------------------------ */

enum oauth_granted {
    OAUTH_GRANTED,
    OAUTH_DENIED,                        /* invalid_grant: the refresh token is good no more, and trying again will not help */
    OAUTH_NOT_NOW,                       /* anything else: error says what */
};

struct oauth_grant {
    char    access[OAUTH_TOKEN_MAX + 1];
    char    refresh[OAUTH_TOKEN_MAX + 1];    /* the next one (RFC 6749, 6); "": the old one stays */
    int64_t lifetime_s;                  /* 0: not said */
};

/* *out only with OAUTH_GRANTED. */
enum oauth_granted oauth_read_grant(unsigned status, struct str json, struct oauth_grant *out, char error[256]);

/* b64token, as a bearer's is written (RFC 6750, 2.1). */
bool oauth_is_token(struct str text);

#endif
