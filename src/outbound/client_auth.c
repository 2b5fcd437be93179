/*
 * AUTH to a server. The best mechanism that both sides have: SCRAM-SHA-256, which does not show the password, then PLAIN, then
 * LOGIN; with a token OAUTHBEARER, which is a standard, then XOAUTH2. The work that SCRAM asks for runs on a helper thread.
 * Runs in the worker, and in `nightmail send`.
 */
#include "outbound/client_auth.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/codec.h"
#include "run/offload.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NONCE_BYTES 18
#define NONCE_LEN   24                   /* in base64 */
#define LINE_MAX    (SASL_RESPONSE_MAX / 3 * 4 + 64)

static const enum sasl_mechanism preferred[] = { SASL_SCRAM_SHA_256, SASL_PLAIN, SASL_LOGIN, SASL_OAUTHBEARER, SASL_XOAUTH2 };

struct exchange {
    const struct client_auth *how;
    struct arena        arena;
    struct sasl_client  sasl;
    struct buf          line;            /* what goes out */
    char                nonce[NONCE_LEN + 1];
    struct str          challenge;       /* for the helper thread */
    enum sasl_reaction  reaction;
};

unsigned client_auth_mechanisms(struct str words)
{
    unsigned found = 0;
    struct str word;
    enum sasl_mechanism m;

    while (words.n > 0) {
        str_cut(words, ' ', &word, &words);
        if (sasl_find(word, &m))
            found |= 1u << m;
    }
    return found;
}

static bool choose(const struct client_auth *how, enum sasl_mechanism *out)
{
    for (size_t i = 0; i < sizeof preferred / sizeof preferred[0]; i++) {
        enum sasl_mechanism m = preferred[i];
        bool token = m == SASL_OAUTHBEARER || m == SASL_XOAUTH2;
        if (token == how->by_token && (how->mechanisms & 1u << m) && (how->plain_allowed || m == SASL_SCRAM_SHA_256)) {
            *out = m;
            return true;
        }
    }
    return false;
}

static void begin(struct exchange *x, const struct client_auth *how, enum sasl_mechanism m)
{
    char random[NONCE_BYTES];
    struct buf nonce;

    memset(x, 0, sizeof *x);
    x->how = how;
    arena_init(&x->arena, SASL_ARENA_MAX);
    buf_init(&x->line, LINE_MAX);
    clock_random(random, sizeof random);
    buf_init_fixed(&nonce, x->nonce, sizeof x->nonce);
    codec_put_base64(&nonce, (struct str){ random, sizeof random });
    sasl_client_init(&x->sasl, &x->arena, m, how->login, how->password, NULL, buf_str(&nonce));
}

/* What held the password does not go back to the heap with it. */
static void end(struct exchange *x)
{
    if (x->line.p != NULL)
        explicit_bzero(x->line.p, x->line.cap);
    buf_free(&x->line);
    arena_wipe(&x->arena);
}

static int say_first(struct exchange *x)
{
    buf_printf(&x->line, "AUTH %s", sasl_name(x->sasl.mechanism));
    if (x->sasl.has_initial) {
        buf_put_char(&x->line, ' ');
        codec_put_base64(&x->line, x->sasl.out);
    }
    return buf_ok(&x->line) ? x->how->say(x->how->arg, buf_str(&x->line)) : -ENOMEM;
}

static int say_next(struct exchange *x)
{
    buf_clear(&x->line);
    codec_put_base64(&x->line, x->sasl.out);
    return buf_ok(&x->line) ? x->how->say(x->how->arg, buf_str(&x->line)) : -ENOMEM;
}

static void take(void *arg)
{
    struct exchange *x = arg;
    x->reaction = sasl_client_take(&x->sasl, x->challenge);
}

/* Awaits: PBKDF2 costs what the server asks for. */
static int take_challenge(struct exchange *x)
{
    struct offload *helper = offload_new("scram", 1, 1);
    int r = helper == NULL ? -ENOMEM : offload_run(helper, take, x);

    offload_free(helper);
    return r;
}

static bool decode_challenge(struct exchange *x)
{
    struct str text = str_trim(smtp_reply_line(x->how->reply));
    char *room = arena_alloc(&x->arena, text.n + 1);
    struct buf b;

    if (room == NULL)
        return false;
    buf_init_fixed(&b, room, text.n + 1);
    if (!codec_base64(text, &b))
        return x->sasl.mechanism == SASL_LOGIN;      /* what its challenges say does not matter, and some say it in plain words */
    x->challenge = buf_str(&b);
    return true;
}

static int give_up(char error[256], const char *why)
{
    snprintf(error, 256, "%s", why);
    return -EACCES;
}

/* We do not go on: "*", and the server says 501 to it (RFC 4954, 4). */
static int cancel(struct exchange *x, char error[256], const char *why)
{
    int r = x->how->say(x->how->arg, STR("*"));
    smtp_reply_clear(x->how->reply);                 /* its words are not the reason */
    return r < 0 ? r : give_up(error, why);
}

/* Awaits the challenges, up to the server's verdict. */
static int answer_challenges(struct exchange *x, char error[256])
{
    while (x->how->reply->code == 334) {
        if (!decode_challenge(x))
            return cancel(x, error, "the server's challenge is not base64");
        int r = take_challenge(x);
        if (r < 0)
            return r;
        if (x->reaction == SASL_GIVE_UP)
            return cancel(x, error, x->sasl.why);
        r = say_next(x);
        if (r < 0)
            return r;
    }
    if (x->how->reply->code == 235)
        return x->sasl.satisfied ? 0 : give_up(error, "the server has not shown that it knows our password");
    if (x->how->reply->code < 400)
        return -EBADMSG;
    struct str words = smtp_reply_line(x->how->reply);
    snprintf(error, 256, "%d %s %.*s", x->how->reply->code, x->how->reply->enhanced, (int)(words.n < 200 ? words.n : 200), words.p);
    return -EACCES;
}

int client_auth_run(const struct client_auth *how, char error[256])
{
    struct exchange x;
    enum sasl_mechanism m;

    if (!choose(how, &m)) {
        smtp_reply_clear(how->reply);
        return give_up(error, how->mechanisms == 0 ? "the server offers no AUTH"
                              : how->plain_allowed ? "the server offers no mechanism that we know"
                                                   : "the server offers only mechanisms that show the password, and this is not TLS");
    }
    begin(&x, how, m);
    int r = sasl_client_start(&x.sasl) == SASL_GIVE_UP ? give_up(error, x.sasl.why) : say_first(&x);
    if (r == 0)
        r = answer_challenges(&x, error);
    end(&x);
    return r;
}
