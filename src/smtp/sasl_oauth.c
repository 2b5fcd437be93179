/*
 * OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's, from before it): a token in place of a password. Whether it is good, others ask.
 *
 *     n,a=user@example.com,^Ahost=mx^Aport=587^Aauth=Bearer TOKEN^A^A
 *     user=user@example.com^Aauth=Bearer TOKEN^A^A
 *
 * A refused client is told why in a challenge, answers with ^A (or with nothing), and is then refused (RFC 7628, 3.2.3).
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

/* 1*ALPHA (RFC 7628, 3.1) */
static bool is_key(struct str key)
{
    for (size_t i = 0; i < key.n; i++)
        if (!char_is_alpha(key.p[i]))
            return false;
    return key.n > 0;
}

/* "key=value^A" ... "^A": the token behind auth=, and with want_user the name behind user=. */
static bool parse_pairs(struct str text, bool want_user, struct str *user, struct str *token)
{
    struct str pair, key, value;

    *user = *token = STR("");
    while (text.n > 0 && text.p[0] != SEPARATOR) {
        if (!str_cut(text, SEPARATOR, &pair, &text) || !str_cut(pair, '=', &key, &value) || !is_key(key) || str_find(value, '\0') >= 0)
            return false;
        if (want_user && str_eq_nocase(key, STR("user"))) {
            if (user->n > 0)                 /* two names: which would the next reader take? */
                return false;
            *user = value;
        }
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

/* RFC 7628, 3.2.2. A scope is made of printable characters without quotes (RFC 6749, 3.3): it needs no escapes. */
enum sasl_step oauth_server_answer(struct sasl_server *s, bool right)
{
    if (right)
        return SASL_DONE;
    bool bearer = s->mechanism == SASL_OAUTHBEARER, scope = s->scope.n > 0;
    const char *status = bearer ? "invalid_token" : "401";

    if (s->scope_lacks)
        status = bearer ? "insufficient_scope" : "403";
    s->stage = STAGE_TOLD;
    s->out = str_printf(s->arena, "{\"status\":\"%s\"%s%s%" STR_FMT "%s}", status, bearer ? "" : ",\"schemes\":\"bearer\"",
                        scope ? ",\"scope\":\"" : "", STR_ARG(s->scope), scope ? "\"" : "");
    return s->out.p == NULL ? SASL_NO_MEMORY : SASL_CHALLENGE;
}

/* -- the client ------------------------------------------------------------------------------------------------------------------ */

enum sasl_reaction oauth_client_start(struct sasl_client *c)
{
    struct buf message;
    bool bearer = c->mechanism == SASL_OAUTHBEARER;
    char *room = arena_alloc(c->arena, SASL_RESPONSE_MAX);

    c->why = "a login or a token that cannot be said";
    if (room == NULL || !sasl_text_valid(c->login, SASL_LOGIN_MAX) || !is_token(c->password))
        return SASL_GIVE_UP;
    buf_init_fixed(&message, room, SASL_RESPONSE_MAX);
    buf_put_z(&message, bearer ? "n,a=" : "user=");
    if (bearer)
        sasl_put_name(&message, c->login);
    else
        buf_put_str(&message, c->login);
    buf_printf(&message, "%s%cauth=Bearer %" STR_FMT "%c%c", bearer ? "," : "", SEPARATOR, STR_ARG(c->password), SEPARATOR, SEPARATOR);
    if (!buf_ok(&message))
        return SASL_GIVE_UP;
    c->why = "the server asks for more than this mechanism has";
    c->out = buf_str(&message);
    c->has_initial = c->satisfied = true;
    return SASL_SEND;
}

/* Why not, says the challenge; its verdict comes when we have said that we heard it (RFC 7628, 3.2.3). */
enum sasl_reaction oauth_client_take(struct sasl_client *c)
{
    if (c->stage++ > 0)
        return SASL_GIVE_UP;
    c->satisfied = false;
    c->out = c->mechanism == SASL_OAUTHBEARER ? STR("\1") : STR("");
    return SASL_SEND;
}
