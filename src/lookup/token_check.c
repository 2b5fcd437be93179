/*
 * Tokens of clients; the contract is in token_check.h. What the log says of an endpoint that is away, it says once. Runs in lookup,
 * and asks that where it is another process (far.h).
 */
#include "lookup/token_check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memo.h"
#include "lookup/far.h"
#include "run/https.h"
#include "run/offload.h"
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REMEMBERED 4096                  /* good tokens; a newer one in the same place forgets the older */
#define FORM_MAX   (3 * OAUTH_TOKEN_MAX + 256)

static struct checks {
    struct offload *pool;                /* owned, as the next */
    struct memo    *memo;                /* of logins, by sum_of */
    uint8_t         key[DIGEST_SHA256_LEN];
    atomic_bool     down;
} *_Atomic checks;

/* -- start and stop --------------------------------------------------------------------------------------------------------- */

static void checks_free(struct checks *k)
{
    if (k == NULL)
        return;
    if (k->pool != NULL)
        offload_free(k->pool);
    memo_free(k->memo);
    explicit_bzero(k, sizeof *k);
    free(k);
}

int lookup_tokens_start(const struct conf *c)
{
    if (!c->has_oauth || atomic_load(&checks) != NULL)
        return 0;
    struct checks *k = calloc(1, sizeof *k);
    if (k == NULL)
        return -ENOMEM;
    clock_random(k->key, sizeof k->key);
    k->pool = offload_new("tokens", c->oauth_checks_max, c->oauth_checks_waiting_max);
    k->memo = memo_new(REMEMBERED, KEEPER_LOGIN_MAX);
    if (k->pool == NULL || k->memo == NULL) {
        checks_free(k);
        return -ENOMEM;
    }
    atomic_store(&checks, k);
    return 0;
}

void lookup_tokens_stop(void) { checks_free(atomic_exchange(&checks, NULL)); }

/* -- what is remembered ------------------------------------------------------------------------------------------------------- */

/* Of the token and of all that decides about it: after a reload nothing counts that was found by another rule. False without memory. */
static bool sum_of(const struct checks *k, const struct conf *c, struct str token, uint8_t out[DIGEST_SHA256_LEN])
{
    const char *const rules[] = { c->oauth_introspection_url, c->oauth_client_id, c->oauth_login_claim, c->oauth_scope, c->oauth_audience };
    struct buf all;

    buf_init(&all, 1 << 20);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        buf_put(&all, rules[i], strlen(rules[i]) + 1);
    buf_put_str(&all, token);
    bool ok = buf_ok(&all);
    if (ok)
        digest_hmac((struct str){ (const char *)k->key, sizeof k->key }, buf_str(&all), out);
    if (all.p != NULL)
        explicit_bzero(all.p, all.cap);
    buf_free(&all);
    return ok;
}

static bool recall(const struct checks *k, const uint8_t sum[DIGEST_SHA256_LEN], struct token_answer *out)
{
    struct buf login;

    buf_init_fixed(&login, out->login, sizeof out->login - 1);
    bool known = memo_get(k->memo, sum, clock_mono_ns(), &login);
    out->login[login.n] = '\0';
    return known;
}

static void remember(const struct checks *k, const struct conf *c, const uint8_t sum[DIGEST_SHA256_LEN], const struct oauth_claims *claims)
{
    int64_t left_s = claims->expires_s == INT64_MAX ? INT64_MAX : claims->expires_s - clock_wall_ns() / NS_PER_S, life;

    if (left_s == INT64_MAX || __builtin_mul_overflow(left_s, NS_PER_S, &life) || life > c->oauth_cache_time_ns)
        life = c->oauth_cache_time_ns;
    memo_put(k->memo, sum, str_of(claims->login), clock_mono_ns() + life);
}

/* -- a question ------------------------------------------------------------------------------------------------------------------ */

struct question {
    struct checks      *checks;
    const struct conf  *conf;
    struct str          token;
    struct https_place  place;
    int64_t             deadline_ns;
    enum oauth_verdict  verdict;
    struct oauth_claims claims;
    const char         *why;
};

static void put_form(struct buf *form, struct str token)
{
    buf_put_z(form, "token=");
    url_put_encoded(form, token);
    buf_put_z(form, "&token_type_hint=access_token");
}

/* BLOCKS. Our name and secret there, encoded as RFC 6749, 2.3.1 wants them. */
static int put_client(const struct conf *c, struct buf *user, struct buf *password, char error[256])
{
    char secret[KEEPER_PASSWORD_MAX + 1] = "";

    int r = c->oauth_client_secret_file == NULL ? 0 : keeper_credential_blocking(c->oauth_client_secret_file, secret);
    url_put_encoded(user, str_of(c->oauth_client_id));
    url_put_encoded(password, str_of(secret));
    buf_put_char(user, '\0');
    buf_put_char(password, '\0');
    explicit_bzero(secret, sizeof secret);
    if (r < 0)
        snprintf(error, 256, "oauth_client_secret: %s", r == -EINVAL ? "the file holds no secret" : strerror(-r));
    return r;
}

/* BLOCKS. 0 with an answer, whatever it says. */
static int post(const struct question *q, unsigned *out_status, struct buf *body, char error[256])
{
    CLEANUP_BUF struct buf form, user, password;

    _Static_assert(HTTPS_ERROR_MAX == 256, "the same");
    buf_init(&form, FORM_MAX);
    buf_init(&user, 3 * KEEPER_PASSWORD_MAX + 1);
    buf_init(&password, 3 * KEEPER_PASSWORD_MAX + 1);
    put_form(&form, q->token);
    int r = put_client(q->conf, &user, &password, error);
    if (r == 0 && (!buf_ok(&form) || !buf_ok(&user) || !buf_ok(&password))) {
        snprintf(error, 256, "no memory for the question");
        r = -ENOMEM;
    }
    struct https_request request = {
        .url = q->conf->oauth_introspection_url,
        .ca_file = q->conf->oauth_ca_file,
        .user = q->conf->oauth_client_id[0] != '\0' ? user.p : NULL,
        .password = password.p,
        .form = buf_str(&form),
        .deadline_ns = q->deadline_ns,
    };
    if (r == 0)
        r = https_post(&request, &q->place, out_status, body, error);
    if (form.p != NULL)
        explicit_bzero(form.p, form.cap);
    if (password.p != NULL)
        explicit_bzero(password.p, password.cap);
    return r;
}

static void say(struct checks *k, bool works, const char *error)
{
    if (!works && !atomic_exchange(&k->down, true))
        log_event(LOG_ERROR, "tokens-unreachable", LOG_Z("error", error),
                  LOG_Z("text", "logins by token get 454 until the endpoint answers"));
    else if (works && atomic_exchange(&k->down, false))
        log_event(LOG_INFO, "tokens-reachable", LOG_Z("text", "the introspection endpoint answers again"));
}

/* A job. */
static void answer(void *arg)
{
    struct question *q = arg;
    struct oauth_wanted wanted = { q->conf->oauth_login_claim, q->conf->oauth_scope, q->conf->oauth_audience };
    CLEANUP_BUF struct buf body;
    char error[256] = "";
    unsigned status = 0;

    buf_init(&body, HTTPS_BODY_MAX);
    q->verdict = OAUTH_NO_ANSWER;
    int r = post(q, &status, &body, error);
    if (r == 0 && status != 200)         /* of a token that is not good too the status is 200 (RFC 7662, 2.2): this is about us */
        snprintf(error, sizeof error, "the endpoint answers %u", status);
    else if (r == 0) {
        q->verdict = oauth_read_introspection(buf_str(&body), &wanted, clock_wall_ns() / NS_PER_S, &q->claims, &q->why);
        snprintf(error, sizeof error, "%s", q->verdict == OAUTH_NO_ANSWER ? q->why : "");
    }
    say(q->checks, q->verdict != OAUTH_NO_ANSWER, error);
}

/* Awaits. KEEPER_YES, with the claims in q: the token is good for somebody. */
static enum keeper_verdict ask(struct question *q, struct token_answer *out)
{
    char error[256];

    int r = https_find(q->conf->oauth_introspection_url, q->deadline_ns, &q->place, error);
    if (r < 0) {
        if (r != -ECANCELED)
            say(q->checks, false, error);
        return KEEPER_TROUBLE;
    }
    if (offload_run(q->checks->pool, answer, q) < 0)
        return KEEPER_BUSY;
    out->why = q->why;
    switch (q->verdict) {
    case OAUTH_GOOD: return KEEPER_YES;
    case OAUTH_SCOPE_LACKS: out->scope_lacks = true; return KEEPER_NO;
    case OAUTH_NOT_GOOD: return KEEPER_NO;
    case OAUTH_NO_ANSWER: break;
    }
    return KEEPER_TROUBLE;
}

static enum keeper_verdict check_here(const struct conf *c, struct str token, struct str login, struct token_answer *out)
{
    struct question q = { .checks = atomic_load(&checks), .conf = c, .token = token, .deadline_ns = task_deadline_in(c->oauth_timeout_ns) };
    struct token_answer found = { .login = "" };
    uint8_t sum[DIGEST_SHA256_LEN];

    assert(token.n <= OAUTH_TOKEN_MAX);
    if (q.checks == NULL || !sum_of(q.checks, c, token, sum))
        return KEEPER_TROUBLE;
    enum keeper_verdict v = recall(q.checks, sum, &found) ? KEEPER_YES : ask(&q, &found);
    if (v == KEEPER_YES && found.login[0] == '\0') {
        memcpy(found.login, q.claims.login, sizeof found.login);
        remember(q.checks, c, sum, &q.claims);
    }
    if (v == KEEPER_YES && login.n > 0 && !str_eq_nocase(login, str_of(found.login))) {
        found.why = "the token is another login's";
        v = KEEPER_NO;
    }
    if (v == KEEPER_YES || v == KEEPER_NO)
        *out = found;
    return v;
}

enum keeper_verdict lookup_token_check(const struct conf *c, struct str token, struct str login, struct token_answer *out)
{
    return lookup_is_far() ? lookup_far_token_check(c, token, login, out) : check_here(c, token, login, out);
}
