/*
 * Asking lookup's process; the contract is in far.h. Runs in the worker, and its last part in the keeper.
 *
 * A process that does not answer is trouble, and never a verdict.
 */
#include "lookup/far.h"
#include "base/log.h"
#include "lookup/wire.h"
#include "run/line.h"
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN_NS      (5 * NS_PER_S)    /* beyond the deadline that lookup has itself */
#define RELOAD_NS      (60 * NS_PER_S)
#define STATE_EVERY_NS NS_PER_S

static struct line_caller *_Atomic far, *_Atomic accounts;

/* -- the worker's ---------------------------------------------------------------------------------------------------------------------- */

int lookup_connect(int door)
{
    struct line_caller *c;

    int r = line_caller_start(door, NULL, &c);
    if (r == 0)
        atomic_store(&far, c);
    return r;
}

void lookup_disconnect(void) { line_caller_stop(atomic_exchange(&far, NULL)); }

bool lookup_is_far(void) { return atomic_load(&far) != NULL; }

static void put_error(struct str text, char error[256]) { snprintf(error, 256, "%.*s", (int)(text.n < 255 ? text.n : 255), text.p); }

static int ask_for_reload(enum lookup_op op, char error[256])
{
    const struct wire_message question = { .op = (uint8_t)op };
    char bytes[512];
    struct wire_message m;
    struct buf room;

    buf_init_fixed(&room, bytes, sizeof bytes);
    int r = line_ask(atomic_load(&far), &question, task_deadline_in(RELOAD_NS), &room, &m);
    if (r < 0)
        snprintf(error, 256, "lookup does not answer: %s", strerror(-r));
    else if (m.result < 0)
        put_error(m.parts[0], error);
    return r < 0 ? r : m.result;
}

int lookup_far_check(char error[256]) { return ask_for_reload(LOOKUP_OP_CHECK, error); }
int lookup_far_reload(char error[256]) { return ask_for_reload(LOOKUP_OP_RELOAD, error); }

static enum keeper_verdict verdict_of(int result)
{
    switch (result) {
    case KEEPER_YES: return KEEPER_YES;
    case KEEPER_NO: return KEEPER_NO;
    case KEEPER_BUSY:
    case -ENOBUFS:
    case -EAGAIN: return KEEPER_BUSY;
    }
    return KEEPER_TROUBLE;
}

enum keeper_verdict lookup_far_token_check(const struct conf *c, struct str token, struct str login, struct token_answer *out)
{
    const struct wire_message question = { .op = LOOKUP_OP_TOKEN, .parts = { token, login } };
    char bytes[KEEPER_LOGIN_MAX + 256];
    struct wire_message m = { .result = 0 };
    struct buf room;

    buf_init_fixed(&room, bytes, sizeof bytes);
    int r = line_ask(atomic_load(&far), &question, task_deadline_in(c->oauth_timeout_ns + MARGIN_NS), &room, &m);
    enum keeper_verdict v = verdict_of(r < 0 ? r : m.result);
    if (v != KEEPER_YES && v != KEEPER_NO)
        return v;
    if (m.parts[0].n > KEEPER_LOGIN_MAX)
        return KEEPER_TROUBLE;
    *out = (struct token_answer){ .scope_lacks = m.number != 0, .why = v == KEEPER_NO ? oauth_why(m.parts[1]) : NULL };
    memcpy(out->login, m.parts[0].p, m.parts[0].n);
    return v;
}

int lookup_far_relay_token(const struct conf *c, struct str refused, struct buf *out, char error[256])
{
    const struct wire_message question = { .op = LOOKUP_OP_RELAY_TOKEN, .parts = { refused } };
    char bytes[OAUTH_TOKEN_MAX + 256];
    struct wire_message m;
    struct buf room;

    buf_init_fixed(&room, bytes, sizeof bytes);
    int r = line_ask(atomic_load(&far), &question, task_deadline_in(c->relay_host_oauth_timeout_ns + MARGIN_NS), &room, &m);
    if (r < 0)
        snprintf(error, 256, "lookup does not answer: %s", strerror(-r));
    else if (m.result < 0)
        put_error(m.parts[0], error);
    else
        buf_put_str(out, m.parts[0]);
    explicit_bzero(bytes, room.n);
    return r == 0 && m.result == 0 && buf_ok(out) ? 0 : -EACCES;
}

/* -- the keeper's ------------------------------------------------------------------------------------------------------------------------ */

struct far_source {
    struct keeper_source base;
    int64_t              timeout_ns;
};

static atomic_bool  has_verifiers;
static atomic_llong asked_ns;

static void hear(const struct wire_message *m)
{
    if (m->op == LOOKUP_OP_STATE && m->result == 0)
        atomic_store(&has_verifiers, m->number != 0);
}

int lookup_accounts_connect(int door)
{
    struct line_caller *c;

    int r = line_caller_start(door, hear, &c);
    if (r == 0)
        atomic_store(&accounts, c);
    return r;
}

void lookup_accounts_disconnect(void) { line_caller_stop(atomic_exchange(&accounts, NULL)); }

static enum keeper_found find(struct keeper_source *s, struct str login, struct keeper_record *out)
{
    const struct wire_message question = { .op = LOOKUP_OP_ACCOUNT, .parts = { login } };
    char bytes[KEEPER_LOGIN_MAX + ACCOUNTS_HASH_MAX + LOOKUP_VERIFIER_MAX];
    int64_t timeout_ns = ((struct far_source *)(void *)s)->timeout_ns;
    enum keeper_found found = KEEPER_FIND_FAILED;
    struct wire_message m = { .result = 0 };
    struct buf room;

    buf_init_fixed(&room, bytes, sizeof bytes);
    int r = line_ask(atomic_load(&accounts), &question, task_deadline_in(timeout_ns + MARGIN_NS), &room, &m);
    switch (r < 0 ? r : m.result) {
    case KEEPER_FOUND: found = lookup_take_record(&m, out) ? KEEPER_FOUND : KEEPER_FIND_FAILED; break;
    case KEEPER_NOT_FOUND: found = KEEPER_NOT_FOUND; break;
    case KEEPER_FIND_LATER:
    case -ENOBUFS:
    case -EAGAIN: found = KEEPER_FIND_LATER; break;
    }
    explicit_bzero(bytes, room.n);
    return found;
}

static bool has_scram(struct keeper_source *s)
{
    const struct wire_message question = { .op = LOOKUP_OP_STATE };
    long long before = atomic_load(&asked_ns), now = clock_mono_ns();

    (void)s;
    if (now - before >= STATE_EVERY_NS && atomic_compare_exchange_strong(&asked_ns, &before, now))
        line_tell(atomic_load(&accounts), &question);
    return atomic_load(&has_verifiers);
}

static void far_source_free(struct keeper_source *s) { free(s); }

/* BLOCKS outside of tasks, else awaits. What is not known yet is known a second later. */
static void ask_state(void)
{
    const struct wire_message question = { .op = LOOKUP_OP_STATE };
    struct wire_message m;
    struct buf none;

    buf_init_fixed(&none, NULL, 0);
    if (line_ask(atomic_load(&accounts), &question, task_deadline_in(MARGIN_NS), &none, &m) == 0)
        hear(&m);
}

int lookup_accounts_far(int64_t timeout_ns, struct keeper_source **out)
{
    static const struct keeper_source_ops ops = { .find = find, .has_scram = has_scram, .free = far_source_free };
    struct far_source *s = calloc(1, sizeof *s);

    assert(atomic_load(&accounts) != NULL);
    if (s == NULL)
        return -ENOMEM;
    s->base.ops = &ops;
    atomic_init(&s->base.refs, 1);
    s->timeout_ns = timeout_ns;
    ask_state();
    *out = &s->base;
    return 0;
}
