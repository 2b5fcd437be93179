/*
 * TLS contexts (OpenSSL 3). A context is made once, shared by all sessions, counted, immutable.
 */
#ifndef RUN_TLS_H
#define RUN_TLS_H

#include "base/str.h"

struct tls_context;

struct tls_client_options {
    bool        verify;              /* chain and name; otherwise opportunistic (RFC 7435) */
    const char *ca_file;             /* NULL: the system's */
};

/* out_error (at least 256 bytes) gets the reason in words. -EINVAL for what the files hold, -ENOMEM, or the file's error. */
int  tls_server_new(const char *cert_file, const char *key_file, struct tls_context **out, char out_error[256]);
int  tls_client_new(const struct tls_client_options *options, struct tls_context **out, char out_error[256]);
struct tls_context *tls_ref(struct tls_context *c);
void tls_unref(struct tls_context *c);           /* NULL is fine */

#endif
