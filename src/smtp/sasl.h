/*
 * SASL mechanisms (RFC 4422) as state machines: bytes in, bytes or a question out. Pure; both ends.
 *
 * The server's machine never sees a password file: it asks whoever drives it (is this the password? which salt? is this the proof?)
 * and goes on with the answer. Base64 and the lines of SMTP around it are inbound/auth.c's and outbound/client_auth.c's.
 *
 * Names and passwords are compared as they come: they must be UTF-8 without controls, and are neither case-folded nor normalised.
 * RFC 4013 and RFC 8265 would have them normalised; for ASCII that changes nothing, and for the rest both ends would need the
 * same tables. So a password that is not ASCII must be typed in the same normal form (NFC, on today's systems) with which it was set.
 */
#ifndef SMTP_SASL_H
#define SMTP_SASL_H

#include "base/arena.h"
#include "base/digest.h"
#include "base/str.h"

#define SASL_RESPONSE_MAX   9216       /* bytes: what a line of 12288 octets decodes to (RFC 4954, 4) */
#define SASL_LOGIN_MAX      254
#define SASL_PASSWORD_MAX   511
#define SASL_TOKEN_MAX      8192
#define SASL_NONCE_MAX      128        /* characters of a client's; a server adds as many at most */
#define SASL_SCRAM_MAX      4096       /* bytes of one message of SCRAM */
#define SASL_SALT_MAX       64
#define SASL_ITERATIONS_MIN 4096       /* a client asked for less is being made to show its password cheaply (RFC 7677, 4) */
#define SASL_ITERATIONS_MAX 1000000    /* and for more, to waste its time */
#define SASL_ARENA_MAX      (64 * 1024)    /* enough for one exchange */

enum sasl_mechanism { SASL_PLAIN, SASL_LOGIN, SASL_SCRAM_SHA_256, SASL_SCRAM_SHA_256_PLUS, SASL_OAUTHBEARER, SASL_XOAUTH2, SASL_MECHANISMS };

const char *sasl_name(enum sasl_mechanism m);
bool        sasl_find(struct str name, enum sasl_mechanism *out);   /* any case */

/* UTF-8, no controls, 1 to max bytes. */
bool sasl_text_valid(struct str text, size_t max);

/* A channel binding: "tls-exporter" (RFC 9266), "tls-server-end-point" (RFC 5929). Lists end with type NULL. */
struct sasl_binding {
    const char *type;
    struct str  data;
};

/* -- the server ------------------------------------------------------------------------------------------------------------ */

enum sasl_step {
    SASL_CHALLENGE,          /* send `out`; the client's answer goes to sasl_server_take */
    SASL_ASK_PASSWORD,       /* is it `password` of `login`? the answer to sasl_server_answer */
    SASL_ASK_SALT,           /* for `login`: to sasl_server_salt */
    SASL_ASK_PROOF,          /* is it `proof` over `message` by `login`? to sasl_server_answer, with the signature */
    SASL_ASK_TOKEN,          /* is it `token` of `login` (empty: whoever's it is)? to sasl_server_answer */
    SASL_DONE,               /* `login` has proven itself */
    SASL_REFUSED,            /* it has not: `why` */
    SASL_MALFORMED,          /* that was no message of this mechanism: `why` */
    SASL_NO_MEMORY,
};

struct sasl_server {
    enum sasl_mechanism        mechanism;
    struct arena              *arena;          /* of all strings here */
    struct str                 out, login, password, token, message;
    uint8_t                    proof[DIGEST_SHA256_LEN];
    const char                *why;            /* for the log */
    struct str                 scope;          /* whoever answers about a token says what it must be good for, and if it was only that: */
    bool                       scope_lacks;
    /* -- the machines' own */
    const struct sasl_binding *bindings;       /* what this connection has; may be NULL */
    struct str                 own_nonce;
    unsigned                   stage;
    struct str                 gs2, first_bare, server_first, nonce, bound;
};

/* nonce: 18 or more random printable characters without comma, for SCRAM. bindings: of this connection, where SCRAM-SHA-256-PLUS is
 * offered, else NULL. Both stay the caller's. */
void sasl_server_init(struct sasl_server *s, struct arena *arena, enum sasl_mechanism m, const struct sasl_binding *bindings, struct str nonce);

enum sasl_step sasl_server_start(struct sasl_server *s);                      /* the client sent no initial response */
enum sasl_step sasl_server_take(struct sasl_server *s, struct str response);  /* a response, decoded; the initial one too */
enum sasl_step sasl_server_salt(struct sasl_server *s, struct str salt, uint32_t iterations);
enum sasl_step sasl_server_answer(struct sasl_server *s, bool right, const uint8_t signature[DIGEST_SHA256_LEN]);   /* NULL but for a proof */

/* -- the client ------------------------------------------------------------------------------------------------------------- */

enum sasl_reaction {
    SASL_SEND,               /* send `out` */
    SASL_GIVE_UP,            /* cancel: `why` */
};

struct sasl_client {
    enum sasl_mechanism        mechanism;
    struct arena              *arena;
    struct str                 out;
    const char                *why;
    bool                       has_initial;    /* `out` of sasl_client_start can go with the AUTH command */
    bool                       satisfied;      /* the server's success can be believed: it has proven itself, where the mechanism has that */
    /* -- the machines' own */
    struct str                 login, password, own_nonce;
    const struct sasl_binding *bindings;
    unsigned                   stage;
    struct str                 gs2, first_bare;
    uint8_t                    signature[DIGEST_SHA256_LEN];
};

/* For OAUTHBEARER and XOAUTH2 the password is the token. login and password stay the caller's, and so do nonce and bindings: as above; for SCRAM-SHA-256 bindings say that
 * we could have bound if the server had offered it. */
void sasl_client_init(struct sasl_client *c, struct arena *arena, enum sasl_mechanism m, struct str login, struct str password,
                      const struct sasl_binding *bindings, struct str nonce);
enum sasl_reaction sasl_client_start(struct sasl_client *c);

/* With SCRAM the first challenge costs a PBKDF2 of at most SASL_ITERATIONS_MAX: not on a loop's thread. */
enum sasl_reaction sasl_client_take(struct sasl_client *c, struct str challenge);

#endif
