/*
 * RCPT: from the address that the client names to all those to whom the message will go.
 *
 * Who they are is policy/expand.h's to say; here mailboxes are looked at, limits kept and the reply chosen. A recipient is taken whole or
 * not at all: no reply leaves half an alias in the transaction. Runs in the worker, in the session's task.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "inbound/session_internal.h"
#include "policy/expand.h"
#include "policy/route.h"
#include "run/file.h"
#include "run/offload.h"
#include <errno.h>

#define STRANGERS_ARENA_MAX (96 * 1024)  /* a message's recipients are a thousand, or so many bytes; */
#define STRANGERS_RCPTS     100          /* but that many there may be in any case (RFC 5321, 4.5.3.1.8) */
#define WAY_MAX 4096                     /* of a circle in the log */

/* -- mailboxes --------------------------------------------------------------------------------------------------------------- */

struct mailbox_look {
    const char *path;
    int         result;                  /* 0: it is there */
};

static void look_for_mailbox(void *arg)
{
    struct mailbox_look *look = arg;
    int dir = file_open_dir(look->path);

    look->result = dir < 0 ? dir : 0;
    (void)file_close(dir);               /* only looked at; a negative one is ignored */
}

/* Awaits the disk. Code 0: *out says whether there is a Maildir. */
static struct reply check_mailbox(struct session *s, const struct address *rcpt, bool *out)
{
    struct mailbox_look look = { .result = -ENOENT };
    struct arena *a = &s->transaction.arena;
    struct arena_mark before = arena_mark(a);

    if (route_mailbox(a, s->conf, rcpt, &look.path) == -ENOMEM)
        return reply(451, "4.3.0", "No memory for that now");
    int busy = look.path == NULL ? 0 : offload_run(s->shared->files, look_for_mailbox, &look);
    arena_rewind(a, before);             /* of the path */
    if (busy < 0)
        return reply(451, "4.3.2", "Too busy to look for that user");
    switch (look.result) {
    case 0:
    case -ENOENT:
    case -ENOTDIR:
    case -ENAMETOOLONG:
        *out = look.result == 0;
        return reply(0, NULL, NULL);
    }
    /* Not being able to look is no answer about the user: -EACCES, -EMFILE, a file server that is away. */
    return reply(451, "4.3.0", "I cannot look for that user now");
}

/* -- the way ----------------------------------------------------------------------------------------------------------------- */

/* It is our tables that are wrong, not the client: it may come again when they are mended (RFC 3463, X.2.4). */
static struct reply alias_trouble(const struct expansion *x, const char *what)
{
    CLEANUP_BUF struct buf way;

    buf_init(&way, WAY_MAX);
    expand_put_loop(&way, x);
    log_event(LOG_ERROR, "alias-trouble", LOG_Z("text", what), LOG_STR("way", buf_str(&way)));
    return reply(451, "4.2.4", "The aliases of that address are in disorder here; try again later");
}

/* Code 0: it is known where all of it goes. Awaits. */
static struct reply follow(struct session *s, struct expansion *x)
{
    enum expand_result result;
    bool there = false;

    while ((result = expand_step(x)) == EXPAND_LOOK) {
        struct reply r = check_mailbox(s, expand_asked(x), &there);
        if (r.code != 0)
            return r;
        expand_answer(x, there);
    }
    switch (result) {
    case EXPAND_LOOP: return alias_trouble(x, "aliases go in a circle");
    case EXPAND_TOO_DEEP: return alias_trouble(x, "an alias leads through too many others");
    case EXPAND_TOO_MANY: return alias_trouble(x, "an alias has more recipients than alias_recipients_max");
    case EXPAND_NO_MEMORY: return reply(451, "4.3.0", "No memory for that now");
    case EXPAND_DONE:
    case EXPAND_LOOK: break;
    }
    return reply(0, NULL, NULL);
}

/* -- whoever is at its ends -------------------------------------------------------------------------------------------------- */

/* A target of an alias whose Maildir has gone gets his copy, which comes back to the sender: the others get theirs, and somebody hears of it. */
static bool is_kept(const struct expand_node *n)
{
    return n->end == EXPAND_LOCAL || n->end == EXPAND_REMOTE || (n->end == EXPAND_UNKNOWN && n->mailbox == EXPAND_ABSENT);
}

/* Who asks for many is looking for those who are there, and learns nothing more: neither from who is unknown nor from who is known. */
static struct reply harvested(struct session *s)
{
    return session_farewell(s, 421, "4.7.0", "Too many unknown users from your address; try again later");
}

/* Code 0: they may come in. *out_count: how many. */
static struct reply judge(struct session *s, const struct expansion *x, size_t *out_count)
{
    size_t good = 0, kept = 0, unknown = 0, denied = 0;

    for (size_t i = 0; i < x->count; i++) {
        good += x->nodes[i].end == EXPAND_LOCAL || x->nodes[i].end == EXPAND_REMOTE;
        kept += is_kept(&x->nodes[i]);
        unknown += x->nodes[i].end == EXPAND_UNKNOWN;
        denied += x->nodes[i].end == EXPAND_DENIED;
    }
    if (denied > 0)
        return reply(550, "5.7.1", "Relaying denied: not our domain, and you are not one of ours");
    if (good == 0)
        return restraint_take(s, LIMIT_UNKNOWN_USERS) ? reply(550, "5.1.1", "No such user here") : harvested(s);
    if (good + unknown > kept)
        return alias_trouble(x, "an alias names somebody who is neither a user nor an alias");
    *out_count = kept;
    return reply(0, NULL, NULL);
}

/* RFC 3461, 5.2.7: each gets the NOTIFY of the one, and the address that the sender knows. */
static bool set_original(struct arena *a, struct recipient *rcpt)
{
    char memory[SMTP_ORCPT_MAX];
    struct buf out;

    if (rcpt->original.n > 0)
        return true;
    buf_init_fixed(&out, memory, sizeof memory);
    buf_put_z(&out, rcpt->rewritten_from.utf8 ? "utf-8;" : "rfc822;");
    if (rcpt->rewritten_from.utf8)
        address_put_utf8_xtext(&out, &rcpt->rewritten_from);
    else
        address_put(&out, &rcpt->rewritten_from);
    if (!buf_ok(&out))                   /* none is better than half of one */
        return true;
    rcpt->original = str_copy(a, buf_str(&out));
    return rcpt->original.p != NULL;
}

/* Among our own users all spellings of a name are one; what another host makes of them is its affair. */
static struct str key_of(struct arena *a, const struct expand_node *n)
{
    return n->end == EXPAND_REMOTE ? address_key(a, &n->addr) : conf_key(a, n->addr.local, n->addr.domain);
}

static int add_ends(struct transaction *t, const struct expansion *x, const struct rcpt_args *named)
{
    struct recipient rcpt = { .original = named->orcpt, .notify = named->notify };

    for (size_t i = 0; i < x->count; i++) {
        const struct expand_node *n = &x->nodes[i];
        if (!is_kept(n))
            continue;
        bool same = address_eq(&n->addr, &named->rcpt);
        rcpt.addr = n->addr;
        rcpt.rewritten_from = same ? (struct address){ .local = STR("") } : named->rcpt;
        if (!same && !set_original(&t->arena, &rcpt))
            return -ENOMEM;
        struct str key = key_of(&t->arena, n);
        if (key.p == NULL || transaction_add(t, &rcpt, key) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* -- the whole --------------------------------------------------------------------------------------------------------------- */

static size_t rcpts_max(const struct conf *c)
{
    size_t max = (size_t)c->recipients_max + c->alias_recipients_max;
    return max < ENVELOPE_RCPTS_MAX ? max : ENVELOPE_RCPTS_MAX;
}

static struct reply too_many(void)
{
    return reply(452, "4.5.3", "Too many recipients; send the rest in another transaction");   /* RFC 5321, 4.5.3.1.10 */
}

/* Ten thousand strangers may each name as many as they like, with names as long as they like. */
static bool is_out_of_room(const struct session *s)
{
    const struct transaction *t = &s->transaction;
    return !s->trusted && !s->authenticated && t->named.used >= STRANGERS_RCPTS && t->arena.used > STRANGERS_ARENA_MAX;
}

static struct reply add_expanded(struct session *s, struct expansion *x, const struct rcpt_args *named)
{
    struct transaction *t = &s->transaction;
    struct transaction_mark before = transaction_mark(t);
    size_t count;

    struct reply r = follow(s, x);
    if (r.code == 0)
        r = judge(s, x, &count);
    if (r.code != 0)
        return r;
    /* analyze clang-analyzer-core.UndefinedBinaryOperatorResult: judge() counts where it refuses nothing */
    if (count > rcpts_max(s->conf) - t->rcpt_count)
        return too_many();
    int error = add_ends(t, x, named);
    if (error == 0 && t->rcpt_count > before.rcpt_count)
        error = transaction_name(t, &named->rcpt);
    if (error < 0) {
        transaction_take_back(t, before);
        return reply(452, "4.3.1", "No memory for more recipients");
    }
    return reply(250, "2.1.5", "Recipient ok");
}

struct reply recipient_add(struct session *s, const struct rcpt_args *named, bool trusted)
{
    struct transaction *t = &s->transaction;
    struct expansion x;

    if (!restraint_allows(s, LIMIT_UNKNOWN_USERS))
        return harvested(s);
    if (transaction_was_named(t, &named->rcpt))      /* one copy is what the sender meant */
        return reply(250, "2.1.5", "Recipient ok, named before");
    if (t->named.used >= s->conf->recipients_max || is_out_of_room(s))
        return too_many();
    expand_begin(&x, s->conf, trusted, &named->rcpt);
    struct reply r = add_expanded(s, &x, named);
    expand_free(&x);
    return r;
}
