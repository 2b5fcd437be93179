/*
 * Tokens for the relay host; the contract is in relay_token.h. What is not in the memo belongs to the one thread and needs no lock. Runs in
 * lookup, and asks that where it is another process (far.h).
 */
#include "lookup/relay_token.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memo.h"
#include "lookup/far.h"
#include "run/file.h"
#include "run/https.h"
#include "run/offload.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MAX       4096           /* deliveries; one more is deferred */
#define REMEMBERED        4              /* tokens: of the configurations of late */
#define FILE_MAX          (OAUTH_TOKEN_MAX + 1024)
#define PATH_MAX_HERE     4096
#define LIFETIME_UNSAID_S 300
#define MARGIN_S          60             /* before its end, or half its time */
#define BACKOFF_FIRST_NS  NS_PER_S
#define BACKOFF_MAX_NS    (30 * NS_PER_S)
#define DENIED_NS         (60 * NS_PER_S)
#define FORCED_EVERY_NS   (5 * NS_PER_S) /* a relay host that refuses whatever it gets does not become a flood at the endpoint */

static struct minter {
    struct offload *thread;              /* owned, as the next */
    struct memo    *memo;                /* of access tokens, by identity */
    uint8_t         key[DIGEST_SHA256_LEN];
    /* -- of the thread alone */
    char            kept[OAUTH_TOKEN_MAX + 1];       /* a refresh token that could not be written; "" none */
    uint8_t         kept_for[DIGEST_SHA256_LEN];     /* of the one in the file, that it replaces */
    uint8_t         failed_with[DIGEST_SHA256_LEN];  /* of the identity and the refresh token */
    int64_t         failed_until_ns, backoff_ns, forced_ns;
    char            failed_error[256];
} *_Atomic minter;

/* -- start and stop ------------------------------------------------------------------------------------------------------------ */

static void minter_free(struct minter *m)
{
    if (m == NULL)
        return;
    if (m->thread != NULL)
        offload_free(m->thread);
    memo_free(m->memo);
    explicit_bzero(m, sizeof *m);
    free(m);
}

int lookup_relay_token_start(const struct conf *c)
{
    if (c->relay_host_oauth_token_url[0] == '\0' || atomic_load(&minter) != NULL)
        return 0;
    struct minter *m = calloc(1, sizeof *m);
    if (m == NULL)
        return -ENOMEM;
    clock_random(m->key, sizeof m->key);
    m->forced_ns = INT64_MIN / 2;
    m->thread = offload_new("relay-token", 1, WAITING_MAX);
    m->memo = memo_new(REMEMBERED, OAUTH_TOKEN_MAX);
    if (m->thread == NULL || m->memo == NULL) {
        minter_free(m);
        return -ENOMEM;
    }
    atomic_store(&minter, m);
    return 0;
}

void lookup_relay_token_stop(void) { minter_free(atomic_exchange(&minter, NULL)); }

/* -- sums ------------------------------------------------------------------------------------------------------------------------- */

static void sum_of(const struct minter *m, const struct str *parts, size_t count, uint8_t out[DIGEST_SHA256_LEN])
{
    uint8_t sum[DIGEST_SHA256_LEN] = { 0 }, both[2 * DIGEST_SHA256_LEN];

    for (size_t i = 0; i < count; i++) {
        memcpy(both, sum, sizeof sum);
        digest_hmac((struct str){ (const char *)m->key, sizeof m->key }, parts[i], both + sizeof sum);
        digest_sha256((struct str){ (const char *)both, sizeof both }, sum);
    }
    memcpy(out, sum, sizeof sum);
}

/* Of all that decides which token it is. */
static void identity(const struct minter *m, const struct conf *c, uint8_t out[DIGEST_SHA256_LEN])
{
    const struct str parts[] = { str_of(c->relay_host_oauth_token_url), str_of(c->relay_host_oauth_client_id),
                                 str_of(c->relay_host_oauth_scope), str_of(c->relay_host_oauth_refresh_token_file), str_of(c->relay_host_user) };
    sum_of(m, parts, sizeof parts / sizeof parts[0], out);
}

/* -- the refresh token -------------------------------------------------------------------------------------------------------------- */

struct refresh {
    char    text[OAUTH_TOKEN_MAX + 1];
    uint8_t in_file[DIGEST_SHA256_LEN];      /* of the one in the file */
};

static int read_refresh(const struct minter *m, const char *path, struct refresh *out, char error[256])
{
    CLEANUP_BUF struct buf text;
    struct str line, rest;

    buf_init(&text, FILE_MAX + 1);
    int r = file_read_whole(path, FILE_MAX, &text);
    str_cut(buf_str(&text), '\n', &line, &rest);
    line = str_trim(line.n > 0 && line.p[line.n - 1] == '\r' ? str_head(line, line.n - 1) : line);
    if (r == 0 && !oauth_is_token(line))
        r = -EINVAL;
    if (r == 0) {
        sum_of(m, &line, 1, out->in_file);
        bool newer = m->kept[0] != '\0' && digest_equal(m->kept_for, out->in_file, sizeof m->kept_for);
        line = newer ? str_of(m->kept) : line;
        memcpy(out->text, line.p, line.n);
        out->text[line.n] = '\0';
    } else {
        snprintf(error, 256, "relay_host_oauth_refresh_token: %s", r == -EINVAL ? "the file holds no token" : strerror(-r));
    }
    if (text.p != NULL)
        explicit_bzero(text.p, text.cap);
    return r;
}

/* Written beside it and renamed: half a token is none, and an older one may be good no more. */
static int replace(int dir, const char *name, const char *beside, struct str token)
{
    CLEANUP_FILE int before = file_open_at(dir, name, FILE_READ);
    CLEANUP_FILE int file = file_open_at(dir, beside, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);

    int r = file < 0 ? file : 0;
    if (r == 0 && before >= 0)
        (void)file_own_like(file, before);       /* where that is not ours to give, it is still the token that counts */
    if (r == 0)
        r = file_write_at(file, token.p, token.n, 0);
    if (r == 0)
        r = file_write_at(file, "\n", 1, token.n);
    if (r == 0)
        r = file_sync(file);
    if (r == 0)
        r = file_rename_at(dir, beside, dir, name);
    if (r == 0)
        r = file_sync(dir);
    else if (file >= 0)
        (void)file_unlink_at(dir, beside);       /* a secret that nobody asked for there */
    return r;
}

static int write_refresh(const char *path, struct str token)
{
    char folder[PATH_MAX_HERE], beside[PATH_MAX_HERE];
    ssize_t slash = str_find_last(str_of(path), '/');
    const char *name = path + slash + 1;

    if (slash < 0 || (size_t)slash >= sizeof folder || strlen(name) + 5 > sizeof beside)
        return -ENAMETOOLONG;
    snprintf(folder, sizeof folder, "%.*s", slash == 0 ? 1 : (int)slash, path);
    snprintf(beside, sizeof beside, "%s.new", name);
    CLEANUP_FILE int dir = file_open_dir(folder);
    return dir < 0 ? dir : replace(dir, name, beside, token);
}

static void keep_refresh(struct minter *m, const char *path, const struct refresh *used, const char *next)
{
    if (next[0] == '\0' || strcmp(next, used->text) == 0)
        return;
    int r = write_refresh(path, str_of(next));
    if (r == 0) {
        explicit_bzero(m->kept, sizeof m->kept);
        log_event(LOG_INFO, "relay-token-replaced", LOG_Z("file", path),
                  LOG_Z("text", "the token endpoint has given another refresh token"));
        return;
    }
    memcpy(m->kept, next, strlen(next) + 1);
    memcpy(m->kept_for, used->in_file, sizeof m->kept_for);
    log_event(LOG_WARN, "relay-token-unwritten", LOG_Z("file", path), LOG_Z("error", strerror(-r)),
              LOG_Z("text", "the token endpoint has given another refresh token, which is known until the server stops only"));
}

/* -- a question ------------------------------------------------------------------------------------------------------------------------ */

struct question {
    struct minter     *minter;
    const struct conf *conf;
    struct str         refused;
    struct https_place place;
    struct buf        *out;
    char              *error;
    int                result;
};

/* One that was not refused. */
static bool recall(struct minter *m, const uint8_t id[DIGEST_SHA256_LEN], struct str refused, struct buf *out)
{
    size_t before = out->n;

    if (!memo_get(m->memo, id, clock_mono_ns(), out))
        return false;
    if (!str_eq(str_from(buf_str(out), before), refused))
        return true;
    buf_truncate(out, before);
    return false;
}

/* BLOCKS. With a secret by Basic authentication, without one by name in the form (RFC 6749, 2.3.1 and 3.2.1). */
static int put_form(const struct conf *c, const char *refresh, struct buf *form, struct buf *user, struct buf *password, char error[256])
{
    char secret[KEEPER_PASSWORD_MAX + 1] = "";
    bool has_secret = c->relay_host_oauth_client_secret_file != NULL;

    int r = has_secret ? keeper_credential_blocking(c->relay_host_oauth_client_secret_file, secret) : 0;
    buf_put_z(form, "grant_type=refresh_token&refresh_token=");
    url_put_encoded(form, str_of(refresh));
    buf_put_z(form, c->relay_host_oauth_scope[0] != '\0' ? "&scope=" : "");
    url_put_encoded(form, str_of(c->relay_host_oauth_scope));
    buf_put_z(form, has_secret ? "" : "&client_id=");
    url_put_encoded(has_secret ? user : form, str_of(c->relay_host_oauth_client_id));
    buf_put_char(user, '\0');
    url_put_encoded(password, str_of(secret));
    buf_put_char(password, '\0');
    explicit_bzero(secret, sizeof secret);
    if (r < 0)
        snprintf(error, 256, "relay_host_oauth_client_secret: %s", r == -EINVAL ? "the file holds no secret" : strerror(-r));
    return r;
}

static void wipe(struct buf *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->cap);
    buf_free(b);
}

/* BLOCKS. */
static enum oauth_granted ask(const struct question *q, const char *refresh, struct oauth_grant *out, char error[256])
{
    const struct conf *c = q->conf;
    enum oauth_granted granted = OAUTH_NOT_NOW;
    struct buf form, user, password, body;
    char words[HTTPS_ERROR_MAX] = "no memory";
    unsigned status;

    buf_init(&form, 3 * OAUTH_TOKEN_MAX + 8192);
    buf_init(&user, 8192);
    buf_init(&password, 3 * KEEPER_PASSWORD_MAX + 1);
    buf_init(&body, HTTPS_BODY_MAX);
    int r = put_form(c, refresh, &form, &user, &password, error);
    bool ok = r == 0 && buf_ok(&form) && buf_ok(&user) && buf_ok(&password);
    struct https_request request = {
        .url = c->relay_host_oauth_token_url,
        .ca_file = c->relay_host_oauth_ca_file,
        .user = c->relay_host_oauth_client_secret_file != NULL ? user.p : NULL,
        .password = password.p,
        .form = buf_str(&form),
        .deadline_ns = clock_mono_ns() + c->relay_host_oauth_timeout_ns,
    };
    if (ok && https_post(&request, &q->place, &status, &body, words) == 0)
        granted = oauth_read_grant(status, buf_str(&body), out, error);
    else if (r == 0)
        snprintf(error, 256, "token endpoint: %.200s", words);
    wipe(&form);
    wipe(&user);
    wipe(&password);
    wipe(&body);
    return granted;
}

/* What the endpoint said counts for a while, for this refresh token. */
static void remember_failure(struct minter *m, const uint8_t with[DIGEST_SHA256_LEN], enum oauth_granted g, const char *error)
{
    bool again = memcmp(m->failed_with, with, sizeof m->failed_with) == 0;

    m->backoff_ns = again && m->backoff_ns > 0 ? m->backoff_ns * 2 : BACKOFF_FIRST_NS;
    m->backoff_ns = m->backoff_ns > BACKOFF_MAX_NS ? BACKOFF_MAX_NS : m->backoff_ns;
    memcpy(m->failed_with, with, sizeof m->failed_with);
    m->failed_until_ns = clock_mono_ns() + (g == OAUTH_DENIED ? DENIED_NS : m->backoff_ns);
    snprintf(m->failed_error, sizeof m->failed_error, "%s", error);
    if (g == OAUTH_DENIED)
        log_event(LOG_ERROR, "relay-token-denied", LOG_Z("error", error),
                  LOG_Z("text", "the refresh token is good no more: mail for the relay host waits until its file holds another"));
    else
        log_event(LOG_WARN, "relay-token-unavailable", LOG_Z("error", error),
                  LOG_I64("again-in-ms", (m->failed_until_ns - clock_mono_ns()) / NS_PER_MS));
}

static int64_t life_ns(int64_t lifetime_s)
{
    int64_t s = lifetime_s > 0 ? lifetime_s : LIFETIME_UNSAID_S;
    return (s - (s / 2 < MARGIN_S ? s / 2 : MARGIN_S)) * NS_PER_S;
}

static int refresh_with(struct question *q, const uint8_t id[DIGEST_SHA256_LEN], const struct refresh *refresh, struct oauth_grant *grant)
{
    struct minter *m = q->minter;
    const struct str parts[] = { { (const char *)id, DIGEST_SHA256_LEN }, str_of(refresh->text) };
    uint8_t with[DIGEST_SHA256_LEN];

    sum_of(m, parts, 2, with);
    if (clock_mono_ns() < m->failed_until_ns && memcmp(with, m->failed_with, sizeof with) == 0) {
        snprintf(q->error, 256, "%s", m->failed_error);
        return -EACCES;
    }
    enum oauth_granted g = ask(q, refresh->text, grant, q->error);
    if (g != OAUTH_GRANTED) {
        remember_failure(m, with, g, q->error);
        return -EACCES;
    }
    m->failed_until_ns = m->backoff_ns = 0;
    keep_refresh(m, q->conf->relay_host_oauth_refresh_token_file, refresh, grant->refresh);
    memo_put(m->memo, id, str_of(grant->access), clock_mono_ns() + life_ns(grant->lifetime_s));
    buf_put_z(q->out, grant->access);
    return buf_ok(q->out) ? 0 : -ENOMEM;
}

static bool too_soon(struct question *q)
{
    int64_t now = clock_mono_ns();

    if (q->refused.n == 0)
        return false;
    if (now - q->minter->forced_ns < FORCED_EVERY_NS) {
        snprintf(q->error, 256, "the relay host refuses the token that the token endpoint has just given");
        return true;
    }
    q->minter->forced_ns = now;
    return false;
}

/* A job, and only one at a time. */
static void answer(void *arg)
{
    struct question *q = arg;
    uint8_t id[DIGEST_SHA256_LEN];

    identity(q->minter, q->conf, id);
    q->result = 0;
    if (recall(q->minter, id, q->refused, q->out))       /* whoever was before us has brought one */
        return;
    q->result = -EACCES;
    struct { struct refresh refresh; struct oauth_grant grant; } *room = calloc(1, sizeof *room);
    if (room == NULL)
        snprintf(q->error, 256, "no memory for a token");
    else if (!too_soon(q) && read_refresh(q->minter, q->conf->relay_host_oauth_refresh_token_file, &room->refresh, q->error) == 0)
        q->result = refresh_with(q, id, &room->refresh, &room->grant);
    if (room != NULL)
        explicit_bzero(room, sizeof *room);
    free(room);
}

static int mint_here(const struct conf *c, struct str refused, struct buf *out, char error[256])
{
    struct question q = { .minter = atomic_load(&minter), .conf = c, .refused = refused, .out = out, .error = error };
    uint8_t id[DIGEST_SHA256_LEN];

    if (q.minter == NULL) {
        snprintf(error, 256, "no memory or thread for asking for tokens");
        return -EACCES;
    }
    identity(q.minter, c, id);
    if (recall(q.minter, id, refused, out))
        return 0;
    char words[HTTPS_ERROR_MAX] = "we are stopping";
    if (https_find(c->relay_host_oauth_token_url, task_deadline_in(c->relay_host_oauth_timeout_ns), &q.place, words) < 0) {
        snprintf(error, 256, "token endpoint: %.200s", words);
        return -EACCES;
    }
    if (offload_run(q.minter->thread, answer, &q) < 0) {
        snprintf(error, 256, "too many deliveries wait for a token");
        return -EACCES;
    }
    return q.result == 0 ? 0 : -EACCES;
}

int lookup_relay_token(const struct conf *c, struct str refused, struct buf *out, char error[256])
{
    return lookup_is_far() ? lookup_far_relay_token(c, refused, out, error) : mint_here(c, refused, out, error);
}
