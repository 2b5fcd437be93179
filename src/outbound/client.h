/*
 * The SMTP client: one connection to one server, and the transactions on it (RFC 5321, pipelined by RFC 2920).
 *
 * Every function awaits. A client whose `usable` is false has lost step or its peer and is only good for client_close.
 */
#ifndef OUTBOUND_CLIENT_H
#define OUTBOUND_CLIENT_H

#include "base/arena.h"
#include "conf/conf.h"
#include "outbound/client_tls.h"
#include "outbound/outcome.h"
#include "queue/queue.h"
#include "run/net.h"
#include "smtp/reply.h"

enum client_extension {
    CLIENT_PIPELINING = 1 << 0,
    CLIENT_SIZE       = 1 << 1,
    CLIENT_8BITMIME   = 1 << 2,
    CLIENT_DSN        = 1 << 3,
    CLIENT_STARTTLS   = 1 << 4,
    CLIENT_CHUNKING   = 1 << 5,
    CLIENT_BINARYMIME = 1 << 6,
    CLIENT_SMTPUTF8   = 1 << 7,
    CLIENT_FUTURERELEASE = 1 << 8,
    CLIENT_DELIVERBY  = 1 << 9,
    CLIENT_MT_PRIORITY = 1 << 10,
    CLIENT_REQUIRETLS = 1 << 11,
};

struct client {
    struct stream    *stream;            /* owned */
    struct conf      *conf;              /* counted */
    struct smtp_reply reply;             /* the last one read */
    unsigned          extensions;        /* of enum client_extension, from EHLO */
    uint64_t          size_max;          /* from SIZE; 0: none said */
    unsigned          mechanisms;        /* from AUTH; of client_auth_mechanisms */
    uint64_t          rcpt_max, mail_max;    /* from LIMITS: recipients of a transaction, transactions of a connection; 0: none said */
    uint64_t          by_min_s;          /* from DELIVERBY: it promises nothing faster for BY=...;R */
    unsigned          transactions;      /* begun on this connection */
    int64_t           due_ns;            /* the opening, and then each transaction, must have ended by then */
    bool              usable;
    enum client_privacy { CLIENT_PLAIN, CLIENT_SHAKING, CLIENT_PRIVATE } privacy;   /* shaking: TLS is begun, and not seen to work yet */
    enum conf_client_tls level;          /* that was asked of it */
    bool              verified;          /* under TLS, and its certificate is that of the name we asked for */
    bool              vouched;           /* likewise, and that name is the destination's for sure */
    bool              by_data;           /* what it says of CHUNKING is not to be believed */
    bool              bdat_unknown;      /* it offered BDAT and does not know it: those accepted have no outcome, and DATA may do */
    char              tls_error[256];    /* why the handshake failed */
    char              auth_error[256];   /* why we could not log in */
    bool              lmtp;
    char              remote[320];       /* "mx.b.example [192.0.2.1]" */
    uint64_t          made_for;          /* by destination_route_hash: what is known of its server is known for that route */
    struct client    *next;              /* site.c's list of idle ones */
    int64_t           idle_since_ns;
};

/* Whom to connect to. */
struct client_server {
    const struct net_addr *addr;         /* NULL: the socket at path */
    const char            *path;
    struct str             host;         /* its name, for the log and DSNs */
    bool                   lmtp;         /* it speaks LMTP (RFC 2033): a reply for each recipient after the text */
    bool                   vouched;      /* its name is the destination's for sure: by DNSSEC, or by our own configuration */
    bool                   by_data;      /* it has offered BDAT and did not know it */
    const struct client_security *security;   /* NULL: no TLS */
};

/* Connects, reads the greeting, says EHLO (HELO to a server that knows no EHLO; LHLO in LMTP), makes it private as far as its security
 * asks and the server can, and logs in where it asks for that. At level may a connection on which TLS does not work is given up for another without it; above, never.
 * 0; -ELOOP: it greets with our own name; other errors: *out_failure (texts in the arena) says how, deferred, or failed where the server
 * said so for good. */
int  client_open(const struct client_server *server, struct conf *conf, struct arena *a, struct client **out, struct outcome *out_failure);

/* Closes; with QUIT if it is usable still (waits a moment for 221). NULL is fine. */
void client_close(struct client *c);

/* It promises TLS on all the way, and we know that it is the one to promise that (RFC 8689, 2). */
bool client_keeps_private(const struct client *c);

/* True if a further transaction may begin on it. */
bool client_is_good(const struct client *c);

/* True if an idle connection can still be used: nothing has come and it is not closed. */
bool client_is_alive(struct client *c);

/* One message to the recipients that share this connection. */
struct client_mail {
    struct claim    *claim;
    struct outcome **outcomes;           /* one per recipient; .rcpt says which; to be written. Their order may change */
    size_t           count;              /* may become less: those that this server cannot take stand behind the others */
};

enum client_sent {
    CLIENT_SENT,                         /* every outcome is written, but where the server is bdat_unknown */
    CLIENT_MORE,                         /* likewise, but for those beyond what the server takes at a time: mail holds them for the next one */
    CLIENT_STALE,                        /* the connection ended before the server answered anything: nothing written, try a new one */
    CLIENT_CANCELED,                     /* we are stopping; outcomes that were known are written */
};
enum client_sent client_send(struct client *c, struct client_mail *mail);

#endif
