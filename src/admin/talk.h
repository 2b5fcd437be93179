/*
 * One SMTP conversation as a tool sees it: commands out, replies in, each shown as it happens.
 *
 * For send, load and sendmail; the server's own client is outbound/client.c. All functions but talk_init await.
 */
#ifndef ADMIN_TALK_H
#define ADMIN_TALK_H

#include "base/arena.h"
#include "mail/address.h"
#include "run/net.h"
#include "run/stream.h"
#include "run/tls.h"
#include "smtp/reply.h"

#define TALK_REFUSAL_MAX 300

enum talk_side { TALK_NOTE, TALK_CLIENT, TALK_SERVER };
/* line without its line end. elapsed_ns since talk_init. */
typedef void talk_show_fn(void *arg, enum talk_side side, struct str line, int64_t elapsed_ns);

struct talk {
    struct stream    *stream;            /* owned */
    struct smtp_reply reply;             /* the last one */
    char              refusal[TALK_REFUSAL_MAX];   /* the first since talk_mail began that was 4xx or 5xx; "" if none */
    talk_show_fn     *show;              /* NULL: nothing is shown */
    void             *show_arg;
    int64_t           started_ns, timeout_ns;
    bool              pipelining, eightbit, starttls, chunking, utf8, dsn;   /* from EHLO */
    unsigned          mechanisms;        /* likewise; of outbound/client_auth.h */
};

void talk_init(struct talk *t, int64_t timeout_ns, talk_show_fn *show, void *show_arg);
int  talk_connect(struct talk *t, const struct net_addr *to);          /* and the greeting, into reply */
int  talk_connect_unix(struct talk *t, const char *path);
int  talk_connect_tls(struct talk *t, const struct net_addr *to, struct tls_context *tls, const char *server_name);
int  talk_hello(struct talk *t, const char *name);                     /* EHLO, or HELO where it is refused */
int  talk_starttls(struct talk *t, struct tls_context *tls, const char *server_name);   /* STARTTLS and the handshake; then say hello again */
/* AUTH. -EACCES: it did not work, and error says why. With plain_allowed the password may be shown without TLS. */
int  talk_login(struct talk *t, struct str login, struct str password, bool plain_allowed, char error[256]);
int  talk_command(struct talk *t, struct str line);                    /* line without CRLF; its reply */
int  talk_put(struct talk *t, struct str line);                        /* the same without waiting for the reply: pipelining */
int  talk_reply(struct talk *t);                                       /* the next reply of what was put */
int  talk_text(struct talk *t, struct str message);                    /* after 354: the message, dots doubled, and the final reply */
int  talk_chunks(struct talk *t, struct str message, size_t chunk);    /* the message by BDAT, `chunk` octets at a time; the last reply, or the first refusal */
void talk_quit(struct talk *t);                                        /* QUIT, its reply, closed */
void talk_close(struct talk *t);

/* A message to recipients on a connection that has said hello. rcpt_codes gets each reply's code. 0 when every reply came: reply then holds the
 * last one (of MAIL, or DATA, or the text); *out_stage what it is about. */
enum talk_stage { TALK_MAIL, TALK_RCPT, TALK_DATA, TALK_TEXT };
struct talk_mail {
    struct address        sender;
    const struct address *rcpts;
    size_t                rcpt_count;
    struct str            message;
    bool                  eightbit;
    bool                  binary;        /* BODY=BINARYMIME; needs chunk */
    bool                  utf8;          /* its header is not ASCII: with SMTPUTF8, if the server offers it; so are addresses that are not */
    uint8_t               notify, ret;   /* RFC 3461, if the server offers DSN; 0: not said. As in mail/envelope.h */
    struct str            envid;         /* likewise; empty: not said */
    size_t                chunk;         /* by BDAT, in chunks of so many octets; 0: by DATA */
    bool                  all;           /* or nobody: given up at the first recipient that is refused. Needs t->pipelining off */
};
int  talk_mail(struct talk *t, const struct talk_mail *mail, int *rcpt_codes, enum talk_stage *out_stage);

/* Why talk_mail did not end well, though every reply came. */
const char *talk_refusal(const struct talk *t);

/* errno of a broken conversation in words. */
const char *talk_error(const struct talk *t, int error);

#endif
