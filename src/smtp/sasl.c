/*
 * The mechanisms' common part, and the two without arithmetic: PLAIN (RFC 4616) and LOGIN (never written down as a standard, and
 * spoken by many).
 */
#include "base/utf8.h"
#include "smtp/sasl_internal.h"
#include <assert.h>
#include <string.h>

static const char *const names[SASL_MECHANISMS] = {
    [SASL_PLAIN] = "PLAIN",
    [SASL_LOGIN] = "LOGIN",
    [SASL_SCRAM_SHA_256] = "SCRAM-SHA-256",
    [SASL_SCRAM_SHA_256_PLUS] = "SCRAM-SHA-256-PLUS",
    [SASL_OAUTHBEARER] = "OAUTHBEARER",
    [SASL_XOAUTH2] = "XOAUTH2",
};

const char *sasl_name(enum sasl_mechanism m)
{
    assert(m < SASL_MECHANISMS);
    return names[m];
}

bool sasl_find(struct str name, enum sasl_mechanism *out)
{
    for (enum sasl_mechanism m = 0; m < SASL_MECHANISMS; m++)
        if (str_eq_nocase(name, str_of(names[m]))) {
            *out = m;
            return true;
        }
    return false;
}

bool sasl_text_valid(struct str text, size_t max)
{
    uint32_t c;

    if (text.n == 0 || text.n > max)
        return false;
    while (text.n > 0) {
        size_t n = utf8_next(text, &c);
        if (n == 0 || c < 0x20 || (c >= 0x7f && c < 0xa0))
            return false;
        text = str_from(text, n);
    }
    return true;
}

/* -- names, as SCRAM and OAUTHBEARER write them ---------------------------------------------------------------------------- */

bool sasl_parse_gs2(struct str message, struct gs2 *out)
{
    struct str flag, authzid, rest;

    if (!str_cut(message, ',', &flag, &rest) || !str_cut(rest, ',', &authzid, &rest))
        return false;
    *out = (struct gs2){ .raw = str_head(message, message.n - rest.n), .rest = rest };
    bool binds = str_starts(flag, STR("p="));
    if (!binds && !str_eq(flag, STR("n")) && !str_eq(flag, STR("y")))
        return false;
    out->flag = flag.p[0];
    out->binding = binds ? str_from(flag, 2) : STR("");
    if (authzid.n > 0 && !str_starts(authzid, STR("a=")))
        return false;
    out->authzid = str_from(authzid, 2);
    return !(binds && out->binding.n == 0) && !(authzid.n > 0 && out->authzid.n == 0);
}

bool sasl_decode_name(struct arena *a, struct str name, struct str *out)
{
    char *text = arena_alloc(a, name.n);
    size_t n = 0;

    if (text == NULL)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (c == '=') {
            struct str code = str_head(str_from(name, i + 1), 2);
            if (!str_eq(code, STR("2C")) && !str_eq(code, STR("3D")))
                return false;
            c = code.p[0] == '2' ? ',' : '=';
            i += 2;
        }
        text[n++] = c;
    }
    *out = (struct str){ text, n };
    return sasl_text_valid(*out, SASL_LOGIN_MAX);
}

void sasl_put_name(struct buf *out, struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == ',' || name.p[i] == '=')
            buf_put_z(out, name.p[i] == ',' ? "=2C" : "=3D");
        else
            buf_put_char(out, name.p[i]);
    }
}

/* -- PLAIN: [authzid] NUL login NUL password (RFC 4616, 2) ------------------------------------------------------------------- */

static enum sasl_step plain_take(struct sasl_server *s, struct str response)
{
    struct str authzid, login, password;

    if (!str_cut(response, '\0', &authzid, &login) || !str_cut(login, '\0', &login, &password) || str_find(password, '\0') >= 0)
        return sasl_malformed(s, "PLAIN is [name] NUL login NUL password");
    if (!sasl_text_valid(login, SASL_LOGIN_MAX) || !sasl_text_valid(password, SASL_PASSWORD_MAX))
        return sasl_malformed(s, "a login or password that is empty, too long, or not text");
    if (authzid.n > 0 && !str_eq_nocase(authzid, login))         /* nobody here acts for somebody else */
        return sasl_refused(s, "a login may act for itself only");
    s->login = str_copy(s->arena, login);
    s->password = str_copy(s->arena, password);
    return arena_failed(s->arena) ? SASL_NO_MEMORY : SASL_ASK_PASSWORD;
}

/* -- LOGIN -------------------------------------------------------------------------------------------------------------------- */

static enum sasl_step login_take(struct sasl_server *s, struct str response)
{
    bool is_password = s->stage++ > 0;

    if (!sasl_text_valid(response, is_password ? SASL_PASSWORD_MAX : SASL_LOGIN_MAX))
        return sasl_malformed(s, "a login or password that is empty, too long, or not text");
    *(is_password ? &s->password : &s->login) = str_copy(s->arena, response);
    if (arena_failed(s->arena))
        return SASL_NO_MEMORY;
    if (is_password)
        return SASL_ASK_PASSWORD;
    s->out = STR("Password:");       /* clients look for these words */
    return SASL_CHALLENGE;
}

/* -- the server --------------------------------------------------------------------------------------------------------------- */

void sasl_server_init(struct sasl_server *s, struct arena *arena, enum sasl_mechanism m, const struct sasl_binding *bindings, struct str nonce)
{
    memset(s, 0, sizeof *s);
    s->arena = arena;
    s->mechanism = m;
    s->bindings = bindings;
    s->own_nonce = nonce;
    s->scope = STR("");
    s->why = "wrong login or password";
}

enum sasl_step sasl_server_start(struct sasl_server *s)
{
    s->out = s->mechanism == SASL_LOGIN ? STR("Username:") : STR("");
    return SASL_CHALLENGE;
}

enum sasl_step sasl_server_take(struct sasl_server *s, struct str response)
{
    if (response.n > SASL_RESPONSE_MAX)
        return sasl_malformed(s, "that is too long");
    switch (s->mechanism) {
    case SASL_PLAIN: return plain_take(s, response);
    case SASL_LOGIN: return login_take(s, response);
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_256_PLUS: return scram_server_take(s, response);
    case SASL_OAUTHBEARER:
    case SASL_XOAUTH2: return oauth_server_take(s, response);
    case SASL_MECHANISMS: break;
    }
    __builtin_unreachable();
}

enum sasl_step sasl_server_answer(struct sasl_server *s, bool right, const uint8_t signature[DIGEST_SHA256_LEN])
{
    switch (s->mechanism) {
    case SASL_PLAIN:
    case SASL_LOGIN: return right ? SASL_DONE : SASL_REFUSED;
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_256_PLUS: return scram_server_answer(s, right, signature);
    case SASL_OAUTHBEARER:
    case SASL_XOAUTH2: return oauth_server_answer(s, right);
    case SASL_MECHANISMS: break;
    }
    __builtin_unreachable();
}

/* -- the client --------------------------------------------------------------------------------------------------------------- */

void sasl_client_init(struct sasl_client *c, struct arena *arena, enum sasl_mechanism m, struct str login, struct str password,
                      const struct sasl_binding *bindings, struct str nonce)
{
    assert(m < SASL_MECHANISMS);
    memset(c, 0, sizeof *c);
    c->arena = arena;
    c->mechanism = m;
    c->login = login;
    c->password = password;
    c->bindings = bindings;
    c->own_nonce = nonce;
    c->why = "the server asks for more than this mechanism has";
}

static enum sasl_reaction plain_client_start(struct sasl_client *c)
{
    c->out = str_printf(c->arena, "%c%" STR_FMT "%c%" STR_FMT, 0, STR_ARG(c->login), 0, STR_ARG(c->password));
    c->has_initial = c->satisfied = true;
    c->why = c->out.p == NULL ? "no memory" : c->why;
    return c->out.p == NULL ? SASL_GIVE_UP : SASL_SEND;
}

/* Without an initial response: some servers do not know one. What the challenges say is not asked; their order is always this. */
static enum sasl_reaction login_client_take(struct sasl_client *c)
{
    if (c->stage == 2)
        return SASL_GIVE_UP;
    c->out = c->stage++ == 0 ? c->login : c->password;
    c->satisfied = c->stage == 2;
    return SASL_SEND;
}

enum sasl_reaction sasl_client_start(struct sasl_client *c)
{
    bool token = c->mechanism == SASL_OAUTHBEARER || c->mechanism == SASL_XOAUTH2;      /* longer than any password */

    if (!token && (!sasl_text_valid(c->login, SASL_LOGIN_MAX) || !sasl_text_valid(c->password, SASL_PASSWORD_MAX))) {
        c->why = "our login or password is empty, too long, or not text";
        return SASL_GIVE_UP;
    }
    switch (c->mechanism) {
    case SASL_PLAIN: return plain_client_start(c);
    case SASL_LOGIN: return SASL_SEND;
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_256_PLUS: return scram_client_start(c);
    case SASL_OAUTHBEARER:
    case SASL_XOAUTH2: return oauth_client_start(c);
    case SASL_MECHANISMS: break;
    }
    __builtin_unreachable();
}

enum sasl_reaction sasl_client_take(struct sasl_client *c, struct str challenge)
{
    if (challenge.n > SASL_RESPONSE_MAX)
        return SASL_GIVE_UP;
    switch (c->mechanism) {
    case SASL_PLAIN: return SASL_GIVE_UP;
    case SASL_LOGIN: return login_client_take(c);
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_256_PLUS: return scram_client_take(c, challenge);
    case SASL_OAUTHBEARER:
    case SASL_XOAUTH2: return oauth_client_take(c);
    case SASL_MECHANISMS: break;
    }
    __builtin_unreachable();
}
