/*
 * What the files of TLS know of each other, and how the simulated world makes TLS deterministic.
 */
#ifndef RUN_TLS_INTERNAL_H
#define RUN_TLS_INTERNAL_H

#include "base/map.h"
#include "run/stream.h"
#include "run/tls.h"
#include <stdatomic.h>
#include <stdint.h>

struct evp_pkey_st;
struct ssl_ctx_st;
struct ssl_session_st;

struct tls_context {
    atomic_uint          refs;
    struct ssl_ctx_st   *ssl;            /* a client's, or the server's for who names nobody */
    bool                 is_server;
    bool                 verifies;       /* a client's that checks chain and name */
    struct tls_sessions *sessions;       /* a client's; owned */
    struct tls_names    *names;          /* a server's; owned */
};

struct ssl_ctx_st *tls_context_ssl(const struct tls_context *c);
bool               tls_context_verifies(const struct tls_context *c);
bool               tls_context_is_server(const struct tls_context *c);

/* -- tls.c: for contexts */

struct ssl_ctx_st *tls_ssl_new(bool server);                  /* with the rules that hold for all; NULL without memory */
const char        *tls_reason(void);                          /* OpenSSL's first error, which is the cause; its queue is empty afterwards */
int                tls_say(char out_error[256], int error, const char *file, const char *what);

/* Calls each(arg, X509 *) for the certificates in a PEM file. BLOCKS. How many; or -EINVAL (none, or each said false) and so on. */
struct x509_st;
typedef bool tls_each_fn(void *arg, struct x509_st *cert, size_t index);
int                tls_read_certificates(const char *path, tls_each_fn *each, void *arg, char out_error[256]);

/* -- tls_server.c */

void               tls_names_free(struct tls_names *n);       /* NULL is fine */

/* -- tls_key.c: OpenSSL's half of a key of the keeper's (run/keeper_key.h), whose public half is given in DER. NULL: no memory. */

struct evp_pkey_st *tls_key_new(uint64_t number, struct str public);

/* -- tls_ticket.c */

void               tls_tickets_use(struct ssl_ctx_st *ssl);   /* this server's context makes and takes tickets under the process's keys */

/* -- tls_stream.c */

bool               tls_stream_start(void);                    /* what all streams share is there; false: no memory */

struct ssl_st;

/* The transport of a stream that speaks TLS. */
struct tls_transport {
    struct transport  base;
    struct transport *plain;         /* owned */
    struct ssl_st    *ssl;           /* owned */
    int               plain_error;   /* of reading from the transport below, or 0 */
    int               write_error;   /* likewise of writing; reading goes on */
    bool              plain_ended;
    bool              established;   /* the handshake is done, and verified if that was asked for */
    bool              failed;        /* OpenSSL must not be called again */
    bool              deep;          /* the stack holds a handshake's pages yet */
    bool              read_wants_write, write_wants_read;   /* a key update in the way */
    char             *words;         /* of the last failure; owned */
    char             *named;         /* what the client asked for, a server's; owned; NULL: nobody */
    struct tls_context *context;     /* counted */
    char             *peer;          /* a client's: under which its sessions are kept; owned */
};

/* What a context's callbacks tell the stream whose handshake it is. */
struct ssl_st     *tls_stream_ssl(const struct stream *s);                                       /* for tests; NULL: no TLS */
void               tls_stream_named(struct ssl_st *ssl, const char *name);                       /* the client asked for this server */

/* -- tls_session.c */

struct tls_sessions *tls_sessions_new(void);
void                 tls_sessions_free(struct tls_sessions *s);
void                 tls_session_take_up(struct tls_transport *t, const char *server_name, const char *within);   /* before the handshake, if there is one */
void                 tls_session_give_back(struct tls_transport *t);                                    /* after it, if it can be used again */
bool                 tls_session_given(struct ssl_st *ssl, struct ssl_session_st *session);             /* by the server; true: taken */

/*
 * Between the two, every random byte in OpenSSL comes from random() and nothing on the wire depends on the real clock
 * (certificates are always judged at clock_wall_ns(); session tickets, which carry the time, are not sent). Contexts must
 * be made inside, as they hold random keys. One thread.
 */
void sim_tls_begin(uint64_t (*random)(void));
void sim_tls_end(void);
bool sim_tls_active(void);

#endif
