/*
 * AUTH (RFC 4954): who is it?
 *
 * The mechanisms are smtp/sasl's, the secrets the keeper's, tokens lookup/token_check's; here are the lines between them and
 * the client: base64, the initial response, "*" to cancel, and what failures cost. A failed login is answered late, later each
 * time, and too many end the session. Under TLS only, unless the listener says otherwise. Runs in the worker, in the session's
 * task.
 */
#include "base/codec.h"
#include "base/log.h"
#include "base/metrics.h"
#include "inbound/extension.h"
#include "inbound/session_internal.h"
#include "lookup/token_check.h"
#include "smtp/sasl.h"
#include <assert.h>
#include <string.h>

#define NONCE_BYTES  18
#define NONCE_LEN    24                  /* in base64 */
#define DELAY_MAX_NS (60 * NS_PER_S)
#define LOGGED_MAX   100                 /* of a name that failed; it may be a password in the wrong place, but who attacks whom is worth more */

/* The order is the one in which EHLO says them. */
static const enum sasl_mechanism known[] = { SASL_SCRAM_SHA_256_PLUS, SASL_SCRAM_SHA_256, SASL_PLAIN, SASL_LOGIN,
                                             SASL_OAUTHBEARER,        SASL_XOAUTH2 };
#define KNOWN_COUNT (sizeof known / sizeof known[0])

struct exchange {
    struct session     *s;
    struct sasl_server  sasl;
    struct arena        arena;           /* of the mechanism, and of what the client said */
    char                nonce[NONCE_LEN + 1];
    uint8_t             bound[STREAM_TLS_BINDING_MAX];
    struct sasl_binding bindings[2];     /* the second ends the list */
    char                login[KEEPER_LOGIN_MAX + 1];
    enum keeper_verdict trouble;         /* KEEPER_YES while the keeper, or whoever knows about tokens, answers */
    bool                blocked;         /* the login: too many have guessed */
    const char         *token_why;       /* why a token was refused, which the client has been told; NULL: none was */
};

/* -- what is offered ---------------------------------------------------------------------------------------------------------- */

static bool channel_is_safe(const struct session *s) { return stream_is_tls(s->stream) || s->client.terms.auth_allow_cleartext; }

static bool is_for_logins(const struct session *s)
{
    return !s->client.local && s->client.terms.service == CONF_SERVICE_SUBMISSION && (s->conf->has_accounts || s->conf->has_oauth);
}

static bool is_offered(const struct session *s, enum sasl_mechanism m)
{
    const char *type;
    uint8_t bound[STREAM_TLS_BINDING_MAX];

    switch (m) {
    case SASL_PLAIN:
    case SASL_LOGIN: return s->conf->has_accounts;
    case SASL_SCRAM_SHA_256: return s->conf->scram && keeper_has_scram();
    case SASL_SCRAM_SHA_256_PLUS: return s->conf->scram && keeper_has_scram() && stream_tls_binding(s->stream, &type, bound) > 0;
    case SASL_OAUTHBEARER:
    case SASL_XOAUTH2: return s->conf->has_oauth;
    case SASL_MECHANISMS: break;
    }
    return false;
}

bool session_offers_auth(const struct session *s) { return is_for_logins(s) && channel_is_safe(s); }

bool session_needs_auth(const struct session *s)
{
    return !s->client.local && s->client.terms.service == CONF_SERVICE_SUBMISSION && !s->authenticated;
}

void session_put_mechanisms(const struct session *s, struct buf *out)
{
    size_t count = 0;

    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (is_offered(s, known[i]))
            buf_printf(out, "%s%s", count++ > 0 ? " " : "", sasl_name(known[i]));
}

/* A password may be in whatever a client says until it has logged in. */
void session_guard_login(struct session *s) { stream_guard(s->stream, is_for_logins(s) && !s->authenticated); }

void session_forget_login(struct session *s)
{
    s->authenticated = false;
    s->login[0] = '\0';
    session_guard_login(s);
}

/* -- the exchange --------------------------------------------------------------------------------------------------------------- */

static void begin(struct exchange *x, struct session *s, enum sasl_mechanism m)
{
    char random[NONCE_BYTES];
    struct buf nonce;
    const char *type = NULL;

    memset(x, 0, sizeof *x);
    x->s = s;
    arena_init(&x->arena, SASL_ARENA_MAX);
    clock_random(random, sizeof random);
    buf_init_fixed(&nonce, x->nonce, sizeof x->nonce);
    codec_put_base64(&nonce, (struct str){ random, sizeof random });
    size_t n = is_offered(s, SASL_SCRAM_SHA_256_PLUS) ? stream_tls_binding(s->stream, &type, x->bound) : 0;
    x->bindings[0] = (struct sasl_binding){ .type = type, .data = { (const char *)x->bound, n } };
    sasl_server_init(&x->sasl, &x->arena, m, n > 0 ? x->bindings : NULL, buf_str(&nonce));
}

/* False: that is no base64, or memory is out. */
static bool decode(struct exchange *x, struct str text, struct str *out)
{
    char *room = arena_alloc(&x->arena, text.n + 1);
    struct buf b;

    if (room == NULL)
        return false;
    buf_init_fixed(&b, room, text.n + 1);
    if (!codec_base64(text, &b))
        return false;
    *out = buf_str(&b);
    return true;
}

static struct reply undecodable(const struct exchange *x)
{
    return arena_failed(&x->arena) ? reply(454, "4.7.0", "No memory for a login now") : reply(501, "5.5.2", "I cannot decode that base64");
}

/* Awaits: a challenge out, the client's response in. Code 250: here it is. */
static struct reply ask_client(struct exchange *x, struct str *out)
{
    struct session *s = x->s;
    struct reply failure;
    struct str line;
    struct buf text;

    buf_init_fixed(&text, s->text, sizeof s->text - 1);
    codec_put_base64(&text, x->sasl.out);
    if (!buf_ok(&text))
        return reply(454, "4.7.0", "That login takes too much room");
    s->text[text.n] = '\0';
    struct reply challenge = reply(334, NULL, s->text);
    if (session_send(s, &challenge) < 0)
        return reply(0, NULL, NULL);
    if (!session_read(s, true, &line, &failure))
        return failure;
    if (str_eq(line, STR("*")))
        return reply(501, "5.7.0", "Cancelled, as you wish");    /* RFC 4954, 4 */
    if (!decode(x, line, out))
        return undecodable(x);
    session_take_line(s);
    return reply(250, NULL, NULL);
}

/* Awaits the keeper. A keeper in trouble is remembered, and answers no. */
static enum sasl_step ask_keeper(struct exchange *x, enum sasl_step question)
{
    uint8_t signature[DIGEST_SHA256_LEN];
    struct keeper_scram scram;
    enum keeper_verdict v;

    x->blocked = restraint_login_is_blocked(x->s, x->sasl.login);
    if (x->blocked)
        return SASL_REFUSED;
    if (question == SASL_ASK_SALT) {
        v = keeper_scram_parameters(x->sasl.login, &scram);
        if (v == KEEPER_YES)
            return sasl_server_salt(&x->sasl, (struct str){ (const char *)scram.salt, scram.salt_n }, scram.iterations);
        x->trouble = v;
        return SASL_REFUSED;
    }
    v = question == SASL_ASK_PASSWORD ? keeper_check_password(x->sasl.login, x->sasl.password, x->login)
                                      : keeper_scram_check(x->sasl.login, x->sasl.message, x->sasl.proof, signature, x->login);
    if (v == KEEPER_BUSY || v == KEEPER_TROUBLE)
        x->trouble = v;
    return sasl_server_answer(&x->sasl, v == KEEPER_YES, signature);
}

/* Awaits the endpoint that knows about tokens. Trouble there is no verdict: the client is not told that its token is bad. */
static enum sasl_step ask_endpoint(struct exchange *x)
{
    struct token_answer answer;

    _Static_assert(SASL_TOKEN_MAX <= OAUTH_TOKEN_MAX && KEEPER_LOGIN_MAX >= SASL_LOGIN_MAX, "what the mechanism takes can be asked about");
    enum keeper_verdict v = lookup_token_check(x->s->conf, x->sasl.token, x->sasl.login, &answer);
    switch (v) {
    case KEEPER_YES: memcpy(x->login, answer.login, sizeof x->login); break;
    case KEEPER_NO:
        x->token_why = answer.why;
        x->sasl.scope = str_of(x->s->conf->oauth_scope);
        x->sasl.scope_lacks = answer.scope_lacks;
        break;
    case KEEPER_BUSY:
    case KEEPER_TROUBLE: x->trouble = v; return SASL_REFUSED;
    }
    return sasl_server_answer(&x->sasl, v == KEEPER_YES, NULL);
}

/* Awaits whatever the mechanism asks, until it is done: SASL_DONE, SASL_REFUSED, SASL_MALFORMED, SASL_NO_MEMORY; or SASL_CHALLENGE, and
 * the client gave no response: *out_reply says why. */
static enum sasl_step drive(struct exchange *x, enum sasl_step step, struct reply *out_reply)
{
    struct str response;

    for (;;) {
        switch (step) {
        case SASL_CHALLENGE:
            *out_reply = ask_client(x, &response);
            if (out_reply->code != 250)
                return step;
            /* analyze clang-analyzer-core.CallAndMessage: with 250 there is a response */
            step = sasl_server_take(&x->sasl, response);
            break;
        case SASL_ASK_PASSWORD:
        case SASL_ASK_SALT:
        case SASL_ASK_PROOF: step = ask_keeper(x, step); break;
        case SASL_ASK_TOKEN: step = ask_endpoint(x); break;
        case SASL_DONE:
        case SASL_REFUSED:
        case SASL_MALFORMED:
        case SASL_NO_MEMORY: return step;
        }
    }
}

/* -- the verdict ------------------------------------------------------------------------------------------------------------------ */

static struct reply let_in(struct exchange *x)
{
    struct session *s = x->s;

    memcpy(s->login, x->login, sizeof s->login);
    s->authenticated = true;
    s->auth_failures = 0;
    restraint_login_worked(s, x->sasl.token.n > 0 ? str_of(x->login) : x->sasl.login);
    metric_add(METRIC_logins, 1);
    log_event(LOG_INFO, "login", LOG_Z("client", s->client_ip), LOG_Z("login", s->login), LOG_Z("mechanism", sasl_name(x->sasl.mechanism)),
              LOG_Z("tls", stream_tls_protocol(s->stream)));
    return reply(235, "2.7.0", "Welcome");
}

/* Guessing takes time, and a session has only so many guesses. */
static struct reply refuse(struct exchange *x)
{
    struct session *s = x->s;
    int64_t delay;

    s->auth_failures++;
    /* A token cannot be guessed, and whoever shows bad ones must not lock somebody's password: they count for the client alone. */
    uint32_t failures = restraint_login_failed(s, x->sasl.token.n > 0 ? STR("") : x->sasl.login);
    metric_add(METRIC_login_failures, 1);
    log_event(LOG_WARN, "login-failed", LOG_Z("client", s->client_ip), LOG_STR("login", str_head(x->sasl.login, LOGGED_MAX)),
              LOG_Z("mechanism", sasl_name(x->sasl.mechanism)), LOG_U64("failures", failures),
              LOG_Z("text", x->token_why != NULL ? x->token_why : x->sasl.why));
    if (__builtin_mul_overflow(s->conf->auth_failure_delay_ns, (int64_t)failures, &delay) || delay > DELAY_MAX_NS)
        delay = s->conf->auth_failure_delay_ns > DELAY_MAX_NS ? s->conf->auth_failure_delay_ns : DELAY_MAX_NS;
    (void)task_sleep(delay);             /* cancelled: the server stops, and the reply comes at once */
    if (s->auth_failures >= s->conf->auth_failures_max)
        return session_farewell(s, 421, "4.7.0", "Too many failed logins");
    if (x->token_why != NULL)
        return reply(535, "5.7.8", "That token is not good here");
    return reply(535, "5.7.8", "Wrong login or password");       /* nobody learns which */
}

static struct reply verdict(struct exchange *x, enum sasl_step step, struct reply from_client)
{
    switch (step) {
    case SASL_DONE: return let_in(x);
    case SASL_REFUSED:
        if (x->blocked)
            return reply(454, "4.7.0", "Too many failed logins under that name; try again later");
        if (x->trouble == KEEPER_BUSY)
            return reply(454, "4.7.0", "Too many are logging in; try again later");
        if (x->trouble != KEEPER_YES)
            return reply(454, "4.7.0", x->sasl.token.n > 0 ? "I cannot check tokens now" : "I cannot check passwords now");
        return refuse(x);
    case SASL_MALFORMED: return session_reply(x->s, 501, "5.5.2", "%s", x->sasl.why);
    case SASL_NO_MEMORY: return reply(454, "4.7.0", "No memory for a login now");
    case SASL_CHALLENGE:                 /* whoever cancels instead of hearing that the token was bad has failed as well */
        return x->token_why != NULL && from_client.code == 501 ? refuse(x) : from_client;
    case SASL_ASK_PASSWORD:
    case SASL_ASK_SALT:
    case SASL_ASK_PROOF:
    case SASL_ASK_TOKEN: break;
    }
    return reply(454, "4.7.0", "I cannot check that now");
}

/* Code 0: it may come now (RFC 4954, 4). */
static struct reply check_auth(struct session *s, struct str name, enum sasl_mechanism *out)
{
    if (!is_for_logins(s) || extension_is_off(s, EXTENSION_AUTH))
        return reply(502, "5.5.1", "That command is not offered here");
    if (s->helo[0] == '\0' || !s->esmtp)
        return reply(503, "5.5.1", "Say EHLO first");
    if (s->authenticated)
        return reply(503, "5.5.1", "You are logged in");
    assert(!s->transaction.open);        /* none begins without a login where there are any */
    if (!channel_is_safe(s))
        return reply(538, "5.7.11", "Say STARTTLS first: passwords are taken under TLS only");
    if (name.n == 0)
        return reply(501, "5.5.4", "AUTH needs a mechanism");
    if (!sasl_find(name, out) || !is_offered(s, *out))
        return reply(504, "5.5.4", "That mechanism is not offered here");
    if (!restraint_allows(s, LIMIT_LOGIN_FAILURES))
        return session_farewell(s, 421, "4.7.0", "Too many failed logins from your address; try again later");
    return reply(0, NULL, NULL);
}

/* "=" is an initial response of no bytes; nothing at all is none (RFC 4954, 4). */
static struct reply run(struct exchange *x, struct str initial)
{
    struct reply from_client = reply(0, NULL, NULL);
    struct str response = STR("");
    enum sasl_step step;

    if (initial.n > 0 && !str_eq(initial, STR("=")) && !decode(x, initial, &response))
        return undecodable(x);
    session_take_line(x->s);
    step = initial.n > 0 ? sasl_server_take(&x->sasl, response) : sasl_server_start(&x->sasl);
    step = drive(x, step, &from_client);
    return verdict(x, step, from_client);
}

struct reply session_on_auth(struct session *s, struct str args)
{
    struct str name, initial;
    enum sasl_mechanism m;
    struct exchange x;

    str_cut(args, ' ', &name, &initial);
    struct reply r = check_auth(s, name, &m);
    if (r.code != 0)
        return r;
    begin(&x, s, m);
    r = run(&x, str_trim(initial));
    arena_wipe(&x.arena);                /* a password does not go back to the heap */
    session_take_line(s);                /* the last line too */
    session_guard_login(s);
    return r;
}
