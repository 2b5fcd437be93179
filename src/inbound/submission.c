/*
 * Message submission. A login sends as itself: the sender of the envelope and every address in From and Sender must be its own
 * (policy/sender.h). What a message must have and has not is added (RFC 6409, 8): Date, From, Message-ID, and Sender where From has
 * several authors. Messages beyond the login's rate are accepted and held, for an operator to release or delete. Runs in the worker.
 */
#include "inbound/submission.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/rate.h"
#include "mail/date.h"
#include "mail/header.h"
#include "policy/sender.h"
#include <errno.h>
#include <string.h>

#define ARENA_MAX     (8u << 20)         /* for the addresses of one header */
#define NOTICES_HOUR  1                  /* to one login: enough to know */
#define NOTICE_MAX    8192
#define RATE_NAME_MAX (KEEPER_LOGIN_MAX + 2)

struct reply submission_check_sender(struct session *s, const struct mail_args *mail)
{
    /* Receipts and automatic answers have no sender (RFC 3834, 3.3; RFC 8098, 3); their From is looked at all the same. */
    if (mail->null_sender || sender_is_own(s->conf, str_of(s->login), &mail->sender))
        return reply(0, NULL, NULL);
    return session_reply(s, 553, "5.7.1", "You are %s, and may not send as that address", s->login);
}

/* -- the header ------------------------------------------------------------------------------------------------------------- */

/* What was found in a header. */
struct found {
    struct session       *s;
    struct arena         *arena;
    bool                  date, message_id, sender, headerless;
    size_t                authors;       /* in From */
    struct header_mailbox first_author;
};

/* Code 0: they are all the login's own. */
static struct reply check_list(struct found *f, const struct header_field *field, bool sender, struct header_addresses *out)
{
    struct session *s = f->s;

    if (!header_address_list(f->arena, field->value, ADDRESS_UTF8, out))
        return reply(552, "5.3.4", "There are too many addresses in the header");
    if (out->bad.n > 0 || out->count == 0)
        return reply(550, "5.6.0", sender ? "I cannot read the address in Sender" : "I cannot read the addresses in From");
    for (size_t i = 0; i < out->count; i++)
        if (!sender_is_own(s->conf, str_of(s->login), &out->items[i].addr))
            return reply(550, "5.7.1", sender ? "The address in Sender is not yours" : "An address in From is not yours");
    return reply(0, NULL, NULL);
}

static struct reply look_at(struct found *f, const struct header_field *field)
{
    bool from = str_eq_nocase(field->name, STR("From")), sender = str_eq_nocase(field->name, STR("Sender"));
    struct header_addresses list;

    f->date = f->date || str_eq_nocase(field->name, STR("Date"));
    f->message_id = f->message_id || str_eq_nocase(field->name, STR("Message-ID"));
    f->sender = f->sender || sender;
    if (!from && !sender)
        return reply(0, NULL, NULL);
    struct reply r = check_list(f, field, sender, &list);
    if (r.code != 0 || sender)
        return r;
    if (f->authors == 0)
        f->first_author = list.items[0];
    f->authors += list.count;
    return r;
}

static struct reply look_through(struct found *f, struct str header)
{
    struct header_iter it;
    struct header_field field;
    bool first = true;

    for (header_begin(&it, header); header_next(&it, &field); first = false) {
        if (first && field.malformed) {
            f->headerless = true;        /* its text begins at once */
            break;
        }
        struct reply r = look_at(f, &field);
        if (r.code != 0)
            return r;
    }
    return reply(0, NULL, NULL);
}

/* The address that a login has by itself. False without memory. */
static bool own_address(struct session *s, struct arena *a, struct address *out)
{
    struct str login = str_of(s->login);

    if (s->transaction.open && !s->transaction.mail.null_sender) {
        *out = s->transaction.mail.sender;
        return true;
    }
    if (address_parse_with(a, login, ADDRESS_UTF8, out))
        return true;
    *out = (struct address){ .local = login, .domain = str_of(s->conf->hostname) };
    return !arena_failed(a);
}

static void put_missing(struct found *f, const struct header_mailbox *own, struct buf *added)
{
    struct session *s = f->s;

    if (!f->date) {
        buf_put_z(added, "Date: ");
        date_put(added, clock_wall_ns(), 0);
        buf_put_z(added, "\r\n");
    }
    if (f->authors == 0)
        header_put_addresses(added, "From", own, 1);
    if (f->authors > 1 && !f->sender)    /* RFC 5322, 3.6.2 */
        header_put_addresses(added, "Sender", s->transaction.mail.null_sender ? &f->first_author : own, 1);
    if (!f->message_id)
        buf_printf(added, "Message-ID: <%s@%s>\r\n", s->transaction.id, s->conf->hostname);
    if (f->headerless)
        buf_put_z(added, "\r\n");
}

struct reply submission_complete(struct session *s, struct str header, struct buf *added)
{
    struct arena arena;
    struct found f = { .s = s, .arena = &arena };
    struct header_mailbox own = { .name = STR("") };

    arena_init(&arena, ARENA_MAX);
    struct reply r = look_through(&f, header);
    if (r.code == 0 && !own_address(s, &arena, &own.addr))
        r = reply(451, "4.3.0", "No memory for a message now");
    if (r.code == 0)
        put_missing(&f, &own, added);
    arena_reset(&arena);
    return r.code == 0 && !buf_ok(added) ? reply(451, "4.3.0", "No memory for a message now") : r;
}

/* -- rates --------------------------------------------------------------------------------------------------------------------- */

/* Each login has a bucket of each kind. */
static bool take(struct session *s, char kind, uint64_t cost, uint32_t per_hour)
{
    char bytes[RATE_NAME_MAX];
    struct buf name;

    buf_init_fixed(&name, bytes, sizeof bytes);
    buf_put_char(&name, kind);
    buf_put_z(&name, s->login);
    return rate_take(s->shared->rates, buf_str(&name), (uint32_t)cost, per_hour);
}

bool submission_is_too_much(struct session *s)
{
    bool messages = take(s, 'm', 1, s->conf->login_messages_per_hour);
    bool recipients = take(s, 'r', s->transaction.rcpt_count, s->conf->login_recipients_per_hour);
    return !messages || !recipients;
}

static void put_notice(struct session *s, const struct envelope *env, const struct address *owner, struct buf *out)
{
    struct header_mailbox to = { .addr = *owner };

    buf_put_z(out, "Date: ");
    date_put(out, env->arrived_ns, 0);
    buf_printf(out, "\r\nFrom: Mail Delivery System <MAILER-DAEMON@%s>\r\n", s->conf->hostname);
    header_put_addresses(out, "To", &to, 1);
    buf_printf(out, "Subject: Your message is held\r\n"
                    "Message-ID: <held.%s@%s>\r\n"
                    "Auto-Submitted: auto-replied\r\n"           /* RFC 3834, 5: no autoresponder answers this */
                    "MIME-Version: 1.0\r\n"
                    "Content-Type: text/plain; charset=us-ascii\r\n\r\n"
                    "Your message with the queue id %s, for %zu recipient(s), was accepted by\r\n"
                    "%s, but is not delivered yet: you have sent more in the last\r\n"
                    "hour than your account may (%u messages, %u recipients).\r\n\r\n"
                    "It is held until the operator of the server releases or deletes it. So are\r\n"
                    "further messages, until you are below the limit again. If you did not send\r\n"
                    "it, somebody else knows your password: change it.\r\n",
               s->transaction.id, s->conf->hostname, s->transaction.id, env->rcpt_count, s->conf->hostname, s->conf->login_messages_per_hour,
               s->conf->login_recipients_per_hour);
}

/* Awaits. 0, or why the notice could not be kept. */
static int send_notice(struct session *s, const struct envelope *held)
{
    char bytes[NOTICE_MAX];
    struct buf text;
    struct arena arena;
    struct recipient owner = { .notify = 0 };
    uint64_t id = queue_new_id(s->shared->queue);
    struct body *body = body_new(s->shared->queue, id);
    int r = body == NULL ? -ENOMEM : 0;

    arena_init(&arena, 4096);
    buf_init_fixed(&text, bytes, sizeof bytes);
    if (r == 0 && !own_address(s, &arena, &owner.addr))
        r = -ENOMEM;
    if (r == 0) {
        put_notice(s, held, &owner.addr, &text);
        r = body_append(body, buf_str(&text));
    }
    struct envelope env = { .id = id, .arrived_ns = held->arrived_ns, .null_sender = true, .rcpts = &owner, .rcpt_count = 1,
                            .protocol = STR("local"), .size = text.n };
    if (r == 0)
        r = queue_put(s->shared->queue, &env, body);
    body_free(body);
    arena_reset(&arena);
    return r;
}

void submission_tell(struct session *s, const struct envelope *env)
{
    metric_add(METRIC_messages_over_rate, 1);
    log_event(LOG_WARN, "held", LOG_Z("id", s->transaction.id), LOG_Z("login", s->login), LOG_Z("client", s->client_ip), LOG_U64("to", env->rcpt_count),
              LOG_Z("text", "more than this login may send in an hour; nightmail queue release or delete decides"));
    if (!take(s, 'n', 1, NOTICES_HOUR))
        return;
    int error = send_notice(s, env);
    if (error < 0)
        log_event(LOG_ERROR, "notice-lost", LOG_Z("id", s->transaction.id), LOG_Z("login", s->login), LOG_Z("error", strerror(-error)));
}
