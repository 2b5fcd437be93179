/*
 * OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's, from before it): a token in place of a password. Whether it is good, others ask.
 *
 *     n,a=user@example.com,^Ahost=mx^Aport=587^Aauth=Bearer TOKEN^A^A
 *     user=user@example.com^Aauth=Bearer TOKEN^A^A
 *
 * A refused client is told why in a challenge, answers with nothing (or with ^A), and is then refused (RFC 7628, 3.2.3).
 */
#include "smtp/sasl_internal.h"
#include <string.h>

#define SEPARATOR '\1'

enum stage { STAGE_FIRST, STAGE_TOLD };

/* b64token (RFC 6750, 2.1) */
static bool is_token(struct str token)
{
    if (token.n == 0 || token.n > SASL_TOKEN_MAX)
        return false;
    for (size_t i = 0; i < token.n; i++) {
        char c = token.p[i], lower = char_lower(c);
        if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') && (c == '\0' || strchr("-._~+/=", c) == NULL))
            return false;
    }
    return true;
}

/* "key=value^A" ... "^A": the token behind auth=, and with want_user the name behind user=. */
static bool parse_pairs(struct str text, bool want_user, struct str *user, struct str *token)
{
    struct str pair, key, value;

    *user = *token = STR("");
    while (text.n > 0 && text.p[0] != SEPARATOR) {
        if (!str_cut(text, SEPARATOR, &pair, &text) || !str_cut(pair, '=', &key, &value))
            return false;
        if (want_user && str_eq_nocase(key, STR("user")))
            *user = value;
        if (str_eq_nocase(key, STR("auth"))) {
            if (token->n > 0 || !str_starts_nocase(value, STR("Bearer ")))
                return false;
            *token = str_trim(str_from(value, 7));
        }
    }
    return text.n == 1 && is_token(*token);
}

static enum sasl_step take_bearer(struct sasl_server *s, struct str response, struct str *token)
{
    struct str ignored;
    struct gs2 gs2;

    if (!sasl_parse_gs2(response, &gs2) || gs2.flag == 'p' || gs2.rest.n == 0 || gs2.rest.p[0] != SEPARATOR ||
        !parse_pairs(str_from(gs2.rest, 1), false, &ignored, token))
        return sasl_malformed(s, "OAUTHBEARER is n,a=login, and pairs with auth=Bearer");
    if (gs2.authzid.n > 0 && !sasl_decode_name(s->arena, gs2.authzid, &s->login))
        return sasl_malformed(s, "a login that is too long, or not text");
    return SASL_ASK_TOKEN;
}

static enum sasl_step take_xoauth2(struct sasl_server *s, struct str response, struct str *token)
{
    struct str user;

    if (!parse_pairs(response, true, &user, token) || !sasl_text_valid(user, SASL_LOGIN_MAX))
        return sasl_malformed(s, "XOAUTH2 is user=... and auth=Bearer ...");
    s->login = str_copy(s->arena, user);
    return SASL_ASK_TOKEN;
}

enum sasl_step oauth_server_take(struct sasl_server *s, struct str response)
{
    struct str token = STR("");

    if (s->stage == STAGE_TOLD)
        return sasl_refused(s, "the token is not good");
    enum sasl_step step = s->mechanism == SASL_XOAUTH2 ? take_xoauth2(s, response, &token) : take_bearer(s, response, &token);
    if (step == SASL_ASK_TOKEN)
        s->token = str_copy(s->arena, token);
    return arena_failed(s->arena) ? SASL_NO_MEMORY : step;
}

enum sasl_step oauth_server_answer(struct sasl_server *s, bool right)
{
    if (right)
        return SASL_DONE;
    s->stage = STAGE_TOLD;
    s->out = s->mechanism == SASL_XOAUTH2 ? STR("{\"status\":\"401\",\"schemes\":\"bearer\"}") : STR("{\"status\":\"invalid_token\"}");
    return SASL_CHALLENGE;
}
