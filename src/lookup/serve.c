/*
 * Lookup answers; the contract is in serve.h. All of it on one loop: what a reload brings is put in force there, between two questions.
 */
#include "lookup/serve.h"
#include "base/log.h"
#include "lookup/accounts.h"
#include "lookup/relay_token.h"
#include "lookup/token_check.h"
#include "lookup/wire.h"
#include "run/line.h"
#include "run/offload.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lookup_server {
    struct lookup_options options;
    struct offload       *loads;         /* owned */
    struct keeper_source *accounts;      /* counted; NULL: no database */
    bool                  loading;
};

/* -- start, stop, reload ---------------------------------------------------------------------------------------------------------------- */

/* BLOCKS. A database that cannot be reached is no reason not to start: it may come up after us, and until then logins get 454. */
static int open_accounts(const struct conf *c, struct keeper_source **out, char error[256])
{
    *out = NULL;
    if (!c->has_accounts || c->accounts_file[0] != '\0')
        return 0;
    int r = lookup_accounts_new(c, out, error);
    if (r < 0)
        return r;
    r = lookup_accounts_check(*out, error);
    if (r < 0 && r != -EINVAL)
        log_event(LOG_WARN, "accounts-unreachable", LOG_Z("error", error), LOG_Z("text", "logins get 454 until the database answers"));
    if (r == -EINVAL)
        keeper_source_unref(*out);
    return r == -EINVAL ? r : 0;
}

static int start_tokens(const struct conf *c)
{
    int r = lookup_tokens_start(c);
    return r < 0 ? r : lookup_relay_token_start(c);
}

int lookup_server_start(const struct lookup_options *options, struct lookup_server **out, char error[256])
{
    struct lookup_server *s = calloc(1, sizeof *s);
    struct conf *c = conf_current();

    snprintf(error, 256, "no memory or threads");
    int r = s == NULL ? -ENOMEM : 0;
    if (r == 0) {
        s->options = *options;
        s->loads = offload_new("lookup-reload", 1, 2);
        r = s->loads == NULL ? -ENOMEM : open_accounts(c, &s->accounts, error);
    }
    if (r == 0)
        r = start_tokens(c);
    conf_unref(c);
    if (r < 0)
        lookup_server_stop(s);
    else
        *out = s;
    return r;
}

void lookup_server_stop(struct lookup_server *s)
{
    lookup_tokens_stop();
    lookup_relay_token_stop();
    if (s == NULL)
        return;
    keeper_source_unref(s->accounts);
    offload_free(s->loads);
    free(s);
}

struct loading {
    struct lookup_server *server;
    struct conf          *conf;          /* counted, as the next; with result 0 */
    struct keeper_source *accounts;
    char                  error[256];
    int                   result;
};

static void load(void *arg)
{
    struct loading *l = arg;

    l->result = l->server->options.load(l->server->options.arg, &l->conf, l->error);
    if (l->result < 0)
        return;
    l->result = open_accounts(l->conf, &l->accounts, l->error);
    if (l->result < 0)
        conf_unref(l->conf);
}

static void put_in_force(struct lookup_server *s, struct loading *l)
{
    struct keeper_source *before = s->accounts;

    if (start_tokens(l->conf) < 0)
        log_event(LOG_ERROR, "oauth-unavailable", LOG_Z("text", "no memory or threads: logins by token get 454, mail for the relay host waits"));
    s->accounts = l->accounts;
    log_level_set(l->conf->log_level);
    conf_set_current(l->conf);
    keeper_source_unref(before);
}

/* Awaits. take: put it in force, and not only look at it. */
static void reload(struct lookup_server *s, bool take, struct line_answer *a)
{
    struct loading l = { .server = s, .result = -EBUSY, .error = "a reload is under way" };

    if (!s->loading) {
        s->loading = true;
        int r = offload_run(s->loads, load, &l);
        l.result = r < 0 ? r : l.result;
        s->loading = false;
    }
    a->m.result = l.result;
    if (l.result < 0) {
        line_answer_put(a, 0, str_of(l.error));
    } else if (take) {
        put_in_force(s, &l);
    } else {
        keeper_source_unref(l.accounts);
        conf_unref(l.conf);
    }
}

/* -- the worker's questions --------------------------------------------------------------------------------------------------------------- */

static enum line_pace worker_asks(void *arg, const struct wire_message *question, struct line_answer *a)
{
    (void)arg;
    (void)a;
    switch (question->op) {
    case LOOKUP_OP_TOKEN: return question->parts[0].n <= OAUTH_TOKEN_MAX ? LINE_LATER : LINE_NONSENSE;
    case LOOKUP_OP_RELAY_TOKEN:
    case LOOKUP_OP_CHECK:
    case LOOKUP_OP_RELOAD: return LINE_LATER;
    }
    return LINE_NONSENSE;
}

/* Awaits. */
static void check_token(const struct conf *c, const struct wire_message *question, struct line_answer *a)
{
    struct token_answer answer = { .login = "" };

    enum keeper_verdict v = lookup_token_check(c, question->parts[0], question->parts[1], &answer);
    a->m.result = (int32_t)v;
    if (v == KEEPER_YES)
        line_answer_put(a, 0, str_of(answer.login));
    if (v != KEEPER_NO)
        return;
    a->m.number = answer.scope_lacks;
    line_answer_put(a, 1, str_of(answer.why));
}

/* Awaits. */
static void give_token(const struct conf *c, const struct wire_message *question, struct line_answer *a)
{
    char bytes[OAUTH_TOKEN_MAX + 1], error[256] = "";
    struct buf token;

    buf_init_fixed(&token, bytes, sizeof bytes);
    a->m.result = lookup_relay_token(c, question->parts[0], &token, error);
    line_answer_put(a, 0, a->m.result == 0 ? buf_str(&token) : str_of(error));
    explicit_bzero(bytes, token.n);
}

static void answer_worker(void *arg, const struct wire_message *question, struct line_answer *a)
{
    struct conf *c = conf_current();

    switch ((enum lookup_op)question->op) {
    case LOOKUP_OP_TOKEN: check_token(c, question, a); break;
    case LOOKUP_OP_RELAY_TOKEN: give_token(c, question, a); break;
    case LOOKUP_OP_CHECK: reload(arg, false, a); break;
    case LOOKUP_OP_RELOAD: reload(arg, true, a); break;
    case LOOKUP_OP_STATE:
    case LOOKUP_OP_ACCOUNT: break;       /* not at this door */
    }
    conf_unref(c);
}

int lookup_serve_worker(struct lookup_server *s, int door)
{
    const struct line_service service = { .name = "lookup", .quick = worker_asks, .answer = answer_worker, .arg = s };
    return line_serve(door, &service);
}

/* -- the keeper's ----------------------------------------------------------------------------------------------------------------------------- */

static enum line_pace keeper_asks(void *arg, const struct wire_message *question, struct line_answer *a)
{
    struct lookup_server *s = arg;

    switch (question->op) {
    case LOOKUP_OP_STATE:
        a->m.number = s->accounts != NULL && s->accounts->ops->has_scram(s->accounts);
        return LINE_ANSWERED;
    case LOOKUP_OP_ACCOUNT:
        return question->parts[0].n <= KEEPER_LOGIN_MAX && accounts_login_valid(question->parts[0]) ? LINE_LATER : LINE_NONSENSE;
    }
    return LINE_NONSENSE;
}

/* Awaits. */
static void answer_keeper(void *arg, const struct wire_message *question, struct line_answer *a)
{
    struct lookup_server *s = arg;
    struct keeper_source *accounts = s->accounts == NULL ? NULL : keeper_source_ref(s->accounts);
    char verifier[LOOKUP_VERIFIER_MAX];
    struct keeper_record record;
    struct wire_message m;

    enum keeper_found found = accounts == NULL ? KEEPER_FIND_FAILED : accounts->ops->find(accounts, question->parts[0], &record);
    a->m.result = (int32_t)found;
    if (found == KEEPER_FOUND) {
        lookup_put_record(&record, verifier, &m);
        a->m.number = m.number;
        for (unsigned i = 0; i < WIRE_PARTS; i++)
            line_answer_put(a, i, m.parts[i]);
        explicit_bzero(&record, sizeof record);
        explicit_bzero(verifier, sizeof verifier);
    }
    keeper_source_unref(accounts);
}

int lookup_serve_keeper(struct lookup_server *s, int door)
{
    const struct line_service service = { .name = "lookup", .quick = keeper_asks, .answer = answer_keeper, .arg = s };
    return line_serve(door, &service);
}
