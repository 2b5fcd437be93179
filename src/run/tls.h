/*
 * TLS contexts (OpenSSL 3). A context is made once, shared by all sessions, counted, and changes no more; only a client's collects
 * the sessions that servers gave it, to take them up again.
 */
#ifndef RUN_TLS_H
#define RUN_TLS_H

#include "base/str.h"

struct tls_context;

struct tls_client_options {
    bool        verify;              /* chain and name; otherwise opportunistic (RFC 7435) */
    const char *ca_file;             /* NULL: the system's */
};

struct tls_pair {
    const char *cert_file, *key_file;    /* PEM: the certificate with its chain, and its private key (RSA or EC) */
};

struct tls_server_options {
    const struct tls_pair *pairs;    /* one at least; the first is shown to who names nobody, or nobody of ours */
    size_t                 count;
    bool                   only_tls13;   /* otherwise TLS 1.2 as well */
    const char            *ciphers;      /* of TLS 1.2, in OpenSSL's words; NULL: ECDHE with AEAD */
};

/* BLOCKS. out_error (at least 256 bytes) gets the reason in words. -EINVAL for what the files hold, -ENOMEM, or the file's error. */
int  tls_server_new(const struct tls_server_options *options, struct tls_context **out, char out_error[256]);
int  tls_client_new(const struct tls_client_options *options, struct tls_context **out, char out_error[256]);
struct tls_context *tls_ref(struct tls_context *c);
void tls_unref(struct tls_context *c);           /* NULL is fine */

/* When the first of a server's certificates ends, in seconds since 1970. */
int64_t tls_server_expires_s(const struct tls_context *c);

/*
 * The context in force where many ask and one replaces it: from any thread, held for a moment only.
 */
struct tls_holder;
struct tls_holder  *tls_holder_new(void);        /* empty; NULL without memory */
void                tls_holder_free(struct tls_holder *h);                          /* NULL is fine */
void                tls_holder_set(struct tls_holder *h, struct tls_context *c);    /* takes the caller's count */
struct tls_context *tls_holder_get(struct tls_holder *h);                           /* counted; NULL: there is none */

#endif
