/*
 * The commands: a table of verbs, when each may come, and a handler for each that returns its reply.
 *
 * Parsing is smtp/'s, decisions are policy/'s; here is only the order of the conversation (RFC 5321, 4.1.4). Runs in the
 * worker, in the session's task.
 */
#include "base/log.h"
#include "base/metrics.h"
#include "inbound/extension.h"
#include "inbound/inquiry.h"
#include "inbound/session_internal.h"
#include "inbound/submission.h"
#include "inbound/told.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_MAX 200                    /* of a stranger's command in the log */
#define WORD_MAX  12                     /* of one that we do not know */

static struct reply on_helo(struct session *s, struct str args);
static struct reply on_ehlo(struct session *s, struct str args);
static struct reply on_mail(struct session *s, struct str args);
static struct reply on_rcpt(struct session *s, struct str args);
static struct reply on_data(struct session *s, struct str args);
static struct reply on_bdat(struct session *s, struct str args);
static struct reply on_rset(struct session *s, struct str args);
static struct reply on_noop(struct session *s, struct str args);
static struct reply on_vrfy(struct session *s, struct str args);
static struct reply on_help(struct session *s, struct str args);
static struct reply on_quit(struct session *s, struct str args);

enum when {
    ANY_TIME       = 0,
    GREETED        = 1 << 0,
    NO_TRANSACTION = 1 << 1,
    IN_TRANSACTION = 1 << 2,
    HAS_RCPT       = 1 << 3,
    NO_TEXT        = 1 << 4,             /* no BDAT yet */
    NO_ARGS        = 1 << 5,
    BEFORE_TLS     = 1 << 6,             /* also where TLS is required and not there yet (RFC 3207, 4) */
    BEFORE_AUTH    = 1 << 7,             /* also where a login is required and not there yet (RFC 4954, 6) */
    NOT_IN_LMTP    = 1 << 8,
    ONLY_IN_LMTP   = 1 << 9,
    LAST           = 1 << 10,            /* of a group that is pipelined (RFC 2920, 3.1) */
};

// clang-format off
static const struct verb_row {
    struct reply (*handler)(struct session *s, struct str args);   /* NULL: known, and not offered here: 502 */
    unsigned       when;
    enum extension extension;                                      /* that brings it: not offered, 502; left out: none does */
} verbs[VERB_COUNT] = {
    /* verb            handler   when                            */
    [VERB_HELO]     = { on_helo, NOT_IN_LMTP | BEFORE_AUTH | LAST },
    [VERB_EHLO]     = { on_ehlo, NOT_IN_LMTP | BEFORE_TLS | BEFORE_AUTH | LAST },
    [VERB_MAIL]     = { on_mail, GREETED | NO_TRANSACTION        },
    [VERB_RCPT]     = { on_rcpt, IN_TRANSACTION | NO_TEXT        },
    [VERB_DATA]     = { on_data, NO_ARGS | IN_TRANSACTION | HAS_RCPT | NO_TEXT | LAST },
    [VERB_BDAT]     = { on_bdat, BEFORE_TLS | BEFORE_AUTH        },   /* offered and allowed or not, its octets come */
    [VERB_RSET]     = { on_rset, NO_ARGS | BEFORE_AUTH           },
    [VERB_NOOP]     = { on_noop, BEFORE_TLS | BEFORE_AUTH        },
    [VERB_VRFY]     = { on_vrfy, ANY_TIME                        },
    [VERB_HELP]     = { on_help, BEFORE_AUTH                     },
    [VERB_QUIT]     = { on_quit, NO_ARGS | BEFORE_TLS | BEFORE_AUTH },
    [VERB_EXPN]     = { inquiry_on_expn, ANY_TIME, EXTENSION_EXPN },
    [VERB_LHLO]     = { on_ehlo, ONLY_IN_LMTP | BEFORE_TLS | LAST },
    [VERB_STARTTLS] = { session_on_starttls, BEFORE_TLS | BEFORE_AUTH },
    [VERB_AUTH]     = { session_on_auth, BEFORE_AUTH             },
    [VERB_ETRN]     = { inquiry_on_etrn, GREETED | NO_TRANSACTION, EXTENSION_ETRN },
    [VERB_XCLIENT]  = { told_on_xclient,  NO_TRANSACTION | BEFORE_TLS | BEFORE_AUTH, EXTENSION_XCLIENT },
    [VERB_XFORWARD] = { told_on_xforward, GREETED | NO_TRANSACTION, EXTENSION_XFORWARD },
};
// clang-format on

/* Code 0: it may come now. */
static struct reply check_when(const struct session *s, unsigned when, struct str args)
{
    if (!(when & BEFORE_TLS) && session_needs_tls(s))
        return reply(530, "5.7.0", "Say STARTTLS first");
    if (!(when & BEFORE_AUTH) && session_needs_auth(s))
        return reply(530, "5.7.0", "Log in first");
    if ((when & NO_ARGS) && args.n > 0)
        return reply(501, "5.5.4", "This command takes no argument");
    if ((when & GREETED) && s->helo[0] == '\0')
        return reply(503, "5.5.1", session_is_lmtp(s) ? "Say LHLO first" : "Say EHLO first");
    if ((when & NO_TRANSACTION) && s->transaction.open)
        return reply(503, "5.5.1", "There is a transaction already; RSET ends it");
    if ((when & IN_TRANSACTION) && !s->transaction.open)
        return reply(503, "5.5.1", "Say MAIL first");
    if ((when & NO_TEXT) && s->transaction.text.s != NULL)
        return reply(503, "5.5.1", "BDAT has begun; only BDAT goes on with it, and RSET ends it");
    if ((when & HAS_RCPT) && s->transaction.rcpt_count == 0)
        return reply(session_is_lmtp(s) ? 503 : 554, "5.5.1", "No valid recipients");   /* RFC 2033, 4.2; RFC 5321, 3.3 */
    return reply(0, NULL, NULL);
}

static struct reply dispatch(struct session *s, const struct smtp_line *command)
{
    const struct verb_row *row = &verbs[command->verb];

    task_note(smtp_verb_name(command->verb));
    if (command->verb == VERB_UNKNOWN)
        return reply(500, "5.5.2", "I do not know that command");
    if (session_is_lmtp(s) && (row->when & NOT_IN_LMTP))    /* that the two protocols are not taken for each other (RFC 2033, 4.1) */
        return reply(500, "5.5.1", "This is LMTP; say LHLO");
    if (row->handler == NULL || !extension_offered(s, row->extension) || (!session_is_lmtp(s) && (row->when & ONLY_IN_LMTP)))
        return reply(502, "5.5.1", "That command is not offered here");
    struct reply r = check_when(s, row->when, command->args);
    if (r.code != 0)
        return r;
    if (command->verb != VERB_BDAT && restraint_is_out_of_turn(s, row->when & LAST))
        return restraint_refuse_out_of_turn(s);
    return row->handler(s, command->args);
}

/* Of what is no command, the word that it begins with, if it looks like one: after a refused AUTH some send their password all the same. */
static struct str word_shown(struct str line)
{
    size_t n = 0;

    while (n < line.n && char_is_alpha(line.p[n]))
        n++;
    return n <= WORD_MAX && (n == line.n || line.p[n] == ' ') ? str_head(line, n) : STR("");
}

/* Arguments are shown only of commands in which nobody sends a password. */
static struct str command_shown(const struct smtp_line *command, struct str line)
{
    switch (command->verb) {
    case VERB_MAIL:
    case VERB_RCPT:
    case VERB_HELO:
    case VERB_EHLO:
    case VERB_LHLO:
    case VERB_XCLIENT:
    case VERB_XFORWARD:
    case VERB_EXPN:
    case VERB_ETRN: return str_head(line, SHOWN_MAX);
    case VERB_UNKNOWN: return word_shown(line);
    case VERB_DATA:
    case VERB_BDAT:
    case VERB_RSET:
    case VERB_NOOP:
    case VERB_QUIT:
    case VERB_VRFY:
    case VERB_HELP:
    case VERB_STARTTLS:
    case VERB_AUTH:
    case VERB_COUNT: break;
    }
    return str_of(smtp_verb_name(command->verb));
}

struct reply command_answer(struct session *s, struct str line)
{
    struct smtp_line command;

    smtp_parse_line(line, &command);
    struct reply r = dispatch(s, &command);
    if (r.code >= 400 && !s->closing)
        r = command_refused(s, command.verb == VERB_DATA ? STR("DATA") : command_shown(&command, line), r);
    /* The end of its text is the transaction's, whatever the verdict; and without one, what a refused command left goes at once. */
    if (s->transaction.over)
        told_end_transaction(s);
    if (s->transaction.over || !s->transaction.open)
        transaction_reset(&s->transaction);
    return r;
}

struct reply command_refused(struct session *s, struct str shown, struct reply r)
{
    log_event(LOG_INFO, "refused", LOG_Z("id", s->transaction.id), LOG_Z("client", s->client.local ? s->login : s->client_ip),
              LOG_Z("helo", s->helo), LOG_I64("code", r.code), LOG_Z("status", r.enhanced), LOG_STR("command", shown), LOG_Z("text", r.text));
    /* 4xx is our trouble, not theirs. */
    if (r.code >= 500 && ++s->errors > s->conf->errors_max)
        return session_farewell(s, 421, "4.7.0", "Too many errors");
    if (r.code >= 500 && !restraint_take(s, LIMIT_ERRORS))
        return session_farewell(s, 421, "4.7.0", "Too many errors from your address; try again later");
    return r;
}

/* -- HELO, EHLO --------------------------------------------------------------------------------------------------------- */

/* Both end a transaction as RSET does (RFC 5321, 4.1.4). What the client calls itself is recorded, not believed. */
static struct reply hello(struct session *s, struct str args, bool esmtp)
{
    struct str name;

    enum smtp_parse parse = smtp_parse_hello(&s->transaction.arena, args, &name);
    if (parse == SMTP_NO_MEMORY)
        return reply(451, "4.3.0", "No memory now; try again later");
    if (parse != SMTP_OK)
        return reply(501, "5.5.4", "Tell me your name: a domain, or an address in brackets");
    assert(name.n < sizeof s->helo);
    memcpy(s->helo, name.p, name.n);
    s->helo[name.n] = '\0';
    s->esmtp = esmtp;
    told_end_transaction(s);
    transaction_reset(&s->transaction);
    return reply(250, NULL, NULL);
}

static struct reply on_helo(struct session *s, struct str args)
{
    struct reply r = hello(s, args, false);
    return r.code != 250 ? r : session_reply(s, 250, NULL, "%s", s->conf->hostname);
}

static struct reply on_ehlo(struct session *s, struct str args)
{
    struct reply r = hello(s, args, true);
    struct buf text;

    if (r.code != 250)
        return r;
    buf_init_fixed(&text, s->text, sizeof s->text);
    buf_printf(&text, "%s greets %s", s->conf->hostname, s->helo);
    extensions_put(s, &text);
    buf_put_char(&text, '\0');
    assert(buf_ok(&text));                       /* SESSION_TEXT_MAX has room for all of them */
    return reply(250, NULL, s->text);
}

/* -- MAIL ---------------------------------------------------------------------------------------------------------------- */

static struct reply refuse_arguments(struct session *s, enum smtp_parse result, const char *address_status, struct str culprit)
{
    switch (result) {
    case SMTP_BAD_SYNTAX: return reply(501, "5.5.4", "I cannot read that; write MAIL FROM:<address> or RCPT TO:<address>");
    case SMTP_BAD_ADDRESS: return reply(501, address_status, "That is not a mail address");
    case SMTP_NEEDS_UTF8: return reply(s->transaction.open ? 553 : 550, "5.6.7", "That address is not ASCII; say SMTPUTF8 at MAIL");
    case SMTP_UNKNOWN_PARAMETER: return session_reply(s, 555, "5.5.4", "Unknown parameter %" STR_FMT, STR_ARG(culprit));
    case SMTP_BAD_PARAMETER: return session_reply(s, 501, "5.5.4", "I cannot read the value of %" STR_FMT, STR_ARG(culprit));
    case SMTP_DUPLICATE_PARAMETER: return session_reply(s, 501, "5.5.4", "%" STR_FMT " stands there twice", STR_ARG(culprit));
    case SMTP_NO_MEMORY:
    case SMTP_OK: break;
    }
    return reply(451, "4.3.0", "No memory for that now");
}

static struct reply on_mail(struct session *s, struct str args)
{
    struct mail_args mail;
    struct str culprit = STR("");

    enum smtp_parse result = smtp_parse_mail(&s->transaction.arena, args, &mail, &culprit);
    if (result != SMTP_OK)
        return refuse_arguments(s, result, "5.1.7", culprit);
    if (mail.seen & ~extensions_mail_params(s))
        return reply(555, "5.5.4", "A parameter that is not offered here");
    if (mail.body == BODY_BINARYMIME && !extension_offered(s, EXTENSION_BINARYMIME))
        return reply(504, "5.5.4", "BINARYMIME is not offered here");
    if (mail.size > s->conf->message_size_max)   /* RFC 1870, 6.1 */
        return reply(552, "5.3.4", "The message is too big");
    struct reply r = s->authenticated ? submission_check_sender(s, &mail) : reply(0, NULL, NULL);
    if (r.code != 0)
        return r;
    if (s->messages >= s->conf->messages_per_session_max)
        return session_farewell(s, 421, "4.7.0", "Enough messages for one session; connect again");
    if (!restraint_allows(s, LIMIT_MESSAGES))
        return reply(450, "4.7.1", "Enough messages from your address for now; try again later");
    r = wishes_grant(s, &mail, &s->transaction.wishes);
    if (r.code != 250)
        return r;
    s->transaction.mail = mail;
    s->transaction.open = true;
    return r;
}

/* -- RCPT ---------------------------------------------------------------------------------------------------------------- */

static struct reply add_rcpt(struct session *s, struct str args)
{
    struct transaction *t = &s->transaction;
    struct rcpt_args parsed;
    struct str culprit = STR("");

    enum smtp_parse result = t->mail.seen & PARAM_SMTPUTF8 ? smtp_parse_rcpt_utf8(&t->arena, args, &parsed, &culprit)
                                                           : smtp_parse_rcpt(&t->arena, args, &parsed, &culprit);
    if (result != SMTP_OK)
        return refuse_arguments(s, result, "5.1.3", culprit);
    if (parsed.seen & ~extensions_rcpt_params(s))
        return reply(555, "5.5.4", "A parameter that is not offered here");
    if (session_is_lmtp(s) && t->rcpt_replies >= s->conf->recipients_max)    /* each has a reply to come, also one named again */
        return reply(452, "4.5.3", "Too many recipients; send the rest in another transaction");
    return recipient_add(s, &parsed, s->trusted || s->authenticated);
}

/* Nothing stays of one that was refused, or brought nobody new: such may come without end. */
static struct reply on_rcpt(struct session *s, struct str args)
{
    struct transaction *t = &s->transaction;
    struct arena_mark before = arena_mark(&t->arena);
    size_t count = t->rcpt_count;
    struct reply r = add_rcpt(s, args);

    t->rcpt_replies += r.code == 250;
    if (t->rcpt_count == count)
        arena_rewind(&t->arena, before);
    return r;
}

/* -- DATA and the small ones ------------------------------------------------------------------------------------------------ */

/* Code 0: a further message may be sent. */
static struct reply count_submitted(struct session *s)
{
    bool submitted = s->client.local && !session_is_lmtp(s);

    if (submitted && !submit_limit_take(s->shared->submit, s->client.uid, s->conf->local_submit_max_per_hour))
        return reply(450, "4.7.1", "You have sent enough for this hour");
    return reply(0, NULL, NULL);
}

static struct reply on_data(struct session *s, struct str args)
{
    (void)args;
    if (s->transaction.mail.body == BODY_BINARYMIME)
        return reply(503, "5.5.1", "BODY=BINARYMIME comes by BDAT, not by DATA");     /* RFC 3030, 3 */
    struct reply r = count_submitted(s);
    return r.code != 0 ? r : receive_message(s);
}

/* What a first chunk is refused for, all further ones are. */
static void begin_chunks(struct session *s)
{
    receive_begin_chunks(s);
    struct reply r = count_submitted(s);
    if (r.code != 0)
        receiving_give_up(&s->transaction.text, r);
}

/* Code 0: a chunk may come now. */
static struct reply check_chunk(const struct session *s, struct str args)
{
    if (!extension_offered(s, EXTENSION_CHUNKING))
        return reply(502, "5.5.1", "That command is not offered here");
    struct reply r = check_when(s, GREETED | IN_TRANSACTION, args);
    if (r.code == 0 && s->transaction.rcpt_count == 0)
        r = reply(503, "5.5.1", "No valid recipients");
    return r;
}

/* Offered or not, wanted or not: as many octets follow as the command says, and are taken away (RFC 3030, 2). As commands they would be
 * those of whoever wrote the message. */
static struct reply on_bdat(struct session *s, struct str args)
{
    uint64_t size = 0;
    bool last = false;

    enum smtp_parse result = smtp_parse_bdat(args, &size, &last);
    if (result == SMTP_BAD_SYNTAX)       /* then nobody knows where the next command begins */
        return session_farewell(s, 421, "4.5.4", "I cannot read the size of that chunk");
    if (result != SMTP_OK)
        return receive_nothing(s, size, reply(501, "5.5.4", "Write BDAT size, or BDAT size LAST"));
    struct reply r = check_chunk(s, args);
    if (r.code != 0)
        return receive_nothing(s, size, r);
    if (s->transaction.text.s == NULL)
        begin_chunks(s);
    return receive_chunk(s, size, last);
}

static struct reply on_rset(struct session *s, struct str args)
{
    (void)args;
    told_end_transaction(s);
    transaction_reset(&s->transaction);
    return reply(250, "2.0.0", "Forgotten");
}

static struct reply on_noop(struct session *s, struct str args)
{
    (void)s, (void)args;
    return reply(250, "2.0.0", "Done nothing");
}

/* Who is here is for RCPT to find out, one message at a time (RFC 5321, 7.3). */
static struct reply on_vrfy(struct session *s, struct str args)
{
    (void)s;
    if (args.n == 0)
        return reply(501, "5.5.4", "Verify whom?");
    return reply(252, "2.0.0", "Cannot say; send mail and I will try");
}

/* Whether a verb would be known now. Some answer for themselves when they are not offered. */
static bool is_offered(const struct session *s, enum verb verb)
{
    const struct verb_row *row = &verbs[verb];

    if (row->handler == NULL || !extension_offered(s, row->extension) || (row->when & (session_is_lmtp(s) ? NOT_IN_LMTP : ONLY_IN_LMTP)))
        return false;
    return (verb != VERB_STARTTLS || session_offers_tls(s)) && (verb != VERB_AUTH || session_offers_auth(s)) &&
           (verb != VERB_BDAT || extension_offered(s, EXTENSION_CHUNKING));
}

static struct reply on_help(struct session *s, struct str args)
{
    struct buf text;

    (void)args;
    buf_init_fixed(&text, s->text, sizeof s->text);
    for (enum verb verb = VERB_UNKNOWN + 1; verb < VERB_COUNT; verb++)
        if (is_offered(s, verb))
            buf_printf(&text, "%s%s", text.n > 0 ? " " : "", smtp_verb_name(verb));
    buf_printf(&text, "\nRFC %s tells the rest", session_is_lmtp(s) ? "2033" : "5321");
    buf_put_char(&text, '\0');
    assert(buf_ok(&text));
    return reply(214, "2.0.0", s->text);
}

static struct reply on_quit(struct session *s, struct str args)
{
    (void)args;
    return session_farewell(s, 221, "2.0.0", "Goodbye");
}
