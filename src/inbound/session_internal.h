/*
 * What session.c, command.c and receive.c know of a session.
 */
#ifndef INBOUND_SESSION_INTERNAL_H
#define INBOUND_SESSION_INTERNAL_H

#include "conf/conf.h"
#include "inbound/session.h"
#include "inbound/transaction.h"
#include "run/keeper.h"
#include "smtp/command.h"
#include "smtp/reply.h"

#define SESSION_HELO_MAX 256
#define SESSION_TEXT_MAX 1536            /* of a reply made for one occasion; EHLO's is the longest: two names of 255 and the extensions */
#define SESSION_SAID     1               /* as a reply's code: the command was answered, nothing more is to be said */

struct session {
    struct session_shared *shared;
    struct stream         *stream;
    struct conf           *conf;                           /* counted */
    struct session_client  client;
    char                   client_ip[NET_ADDR_TEXT_MAX];   /* "" for local submission */
    char                   login[KEEPER_LOGIN_MAX + 1];    /* "alice@here.example", "uid:1000"; "" if nobody */
    bool                   trusted;
    uint8_t                ip[16];                         /* of the client */
    size_t                 ip_len;                         /* 0: nobody knows, or local */
    struct limit_client    counted;                        /* where policy/limit counts it; not if it is one of ours */
    int64_t                due_ns;                         /* by then the next message must be accepted */
    uint32_t               extensions_off;                 /* by the listener and the client's networks; 1 << enum conf_extension */
    bool                   authenticated;                  /* by AUTH */
    uint32_t               auth_failures;
    struct told           *told;                           /* owned; NULL until somebody tells us of the client */

    char                   helo[SESSION_HELO_MAX];         /* "" before HELO */
    bool                   esmtp;                          /* said EHLO */
    bool                   closing;                        /* the reply on its way is the last */
    bool                   shielded;                       /* the server stops, and this session finishes what it was doing */
    size_t                 line_length;                    /* of the command in the stream's input, with its CRLF; 0: taken away */
    uint32_t               errors;                         /* refused commands since the last accepted message */
    uint32_t               messages;                       /* accepted */
    uint32_t               replies;                        /* so often the reply in the making is to be said */
    struct transaction     transaction;
    char                   text[SESSION_TEXT_MAX];
};

/* -- session.c */

/* session_run in its parts, so that the model test can look at a session while it talks. session_new: NULL without memory, the stream
 * stays the caller's. */
struct session *session_new(struct session_shared *shared, struct stream *stream, const struct session_client *client);
void            session_talk(struct session *s);     /* awaits */
void            session_free(struct session *s);     /* closes the stream */

/* Who the client is, and whether it is one of ours: the connection's peer at first, another when a proxy says so; NULL: nobody knows. */
void         session_know_client(struct session *s, const struct net_addr *addr);
struct reply session_greeting(struct session *s);

/* Awaits more input, as stream_fill. When the server stops: -ECANCELED if idle; a session that is not idle is shielded from then on
 * and goes on, at most until shared->stop_deadline_ns. */
ssize_t session_fill(struct session *s, int64_t deadline_ns, bool idle);
int64_t session_in_grace(const struct session *s, int64_t deadline_ns);   /* the earlier of the two */

/* From now on there is transaction_timeout to the next accepted message. */
void         session_begin_due(struct session *s);
bool         session_is_overdue(const struct session *s);

/* Awaits the next line; out stays in the input until session_take_line. auth: one of the AUTH exchange, which may be longer. False: the
 * failure is what to say; with code 0 the client is gone, and with s->closing it is the last word. */
bool session_read(struct session *s, bool auth, struct str *out, struct reply *out_failure);

/* Writes a reply at once, for 354. Awaits. */
int  session_send(struct session *s, const struct reply *r);

/* Sends the replies that wait to be sent with the next ones. Awaits. */
int  session_flush(struct session *s);

bool session_is_lmtp(const struct session *s);

/* Removes the command's line from the input; its arguments are gone then. */
void session_take_line(struct session *s);

/* A reply with a text made for the occasion, in s->text; the second is the session's last. */
struct reply session_reply(struct session *s, int code, const char *enhanced, const char *format, ...) __attribute__((format(printf, 4, 5)));
struct reply session_farewell(struct session *s, int code, const char *enhanced, const char *text);

/* -- command.c */

/* What the table of verbs says to a line. Awaits. */
struct reply command_answer(struct session *s, struct str line);

/* Logs a refusal, and counts it: gives the reply back, or a farewell when there were too many. shown is the command for the log. */
struct reply command_refused(struct session *s, struct str shown, struct reply r);

/* -- restraint.c */

/* Whether the client has some of that kind left, and takes one. True for those whom no limit is for. */
bool         restraint_allows(const struct session *s, enum limit_kind kind);
bool         restraint_take(const struct session *s, enum limit_kind kind);

/* A flood of those who make a mess shall not become one of the log. Takes the line. */
bool         restraint_is_worth_a_line(const struct session *s);

/* The same of logins. A failure counts; gives how many there are lately, of the session, its client and that login: the most of them. */
bool         restraint_login_is_blocked(const struct session *s, struct str login);
void         restraint_login_worked(const struct session *s, struct str login);
uint32_t     restraint_login_failed(const struct session *s, struct str login);

/* Awaits: what came before the greeting. Code 0: nothing, as it should be. */
struct reply restraint_meet(struct session *s);

/* Whether there is something behind the command in the input that had to wait for its reply. last: nothing may be pipelined behind it. */
bool         restraint_is_out_of_turn(const struct session *s, bool last);
struct reply restraint_refuse_out_of_turn(struct session *s);

/* What begins so is no SMTP: the last word to it; code 0: it may be. */
struct reply restraint_check_protocol(struct session *s, struct str input);

/* -- session_tls.c */

/* TLS from the first byte, where the listener wants it; awaits the handshake. Negative: there is no session. */
int          session_begin_tls(struct session *s);
struct reply session_on_starttls(struct session *s, struct str args);    /* awaits the handshake */
bool         session_offers_tls(const struct session *s);
bool         session_needs_tls(const struct session *s);                 /* before anything but a few commands (RFC 3207, 4) */
const char  *session_protocol(const struct session *s);                  /* "ESMTPS" and so on, for the trace (RFC 3848) */

/* -- auth.c */

struct reply session_on_auth(struct session *s, struct str args);        /* awaits the client, and the keeper */
bool         session_offers_auth(const struct session *s);
bool         session_needs_auth(const struct session *s);                /* before anything but a few commands (RFC 6409, 4.3) */
void         session_put_mechanisms(const struct session *s, struct buf *out);   /* "PLAIN LOGIN" */
void         session_guard_login(struct session *s);                     /* until it has logged in, what comes is wiped behind us */
void         session_forget_login(struct session *s);                    /* TLS has begun: what was said in the clear does not count */

/* -- recipient.c */

/* A recipient as the client names it: expanded, and all that he comes to in the transaction, or refused, and nothing changed. trusted: the
 * client may send to anywhere. Awaits where a mailbox must be looked at. */
struct reply recipient_add(struct session *s, const struct rcpt_args *named, bool trusted);

/* -- receive.c */

/* DATA, from 354 to the verdict. The transaction is over then, but still there. Awaits. code 0: the client is gone. */
struct reply receive_message(struct session *s);

/* BDAT: receive_begin_chunks before the first chunk; then each, the last to the verdict. After trouble all further ones are refused
 * as the first one was. Await. code 0: the client is gone. */
void         receive_begin_chunks(struct session *s);
struct reply receive_chunk(struct session *s, uint64_t size, bool last);

/* A BDAT that may not come now: its octets are read and thrown away; gives `why`. Awaits. */
struct reply receive_nothing(struct session *s, uint64_t size, struct reply why);

#endif
