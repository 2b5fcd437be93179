/*
 * TLS contexts: certificates, keys and rules, made once and shared by all sessions.
 *
 * Files are read through run/file.h, so that a simulated world's certificates are found on its disk. TLS 1.2 is the least
 * (RFC 8996 and RFC 7817's advice for mail). A server sends one session ticket; renegotiation and compression are off.
 */
#include "run/tls.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "run/file.h"
#include "run/tls_internal.h"
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TLS_FILE_MAX (4 * 1024 * 1024)       /* the system's bundle of CAs has about 220 KiB */

struct tls_context {
    atomic_uint refs;
    SSL_CTX    *ssl;
    bool        is_server, verifies;
};

SSL_CTX *tls_context_ssl(const struct tls_context *c)
{
    return c->ssl;
}

bool tls_context_verifies(const struct tls_context *c)
{
    return c->verifies;
}

bool tls_context_is_server(const struct tls_context *c)
{
    return c->is_server;
}

struct tls_context *tls_ref(struct tls_context *c)
{
    (void)atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void tls_unref(struct tls_context *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
        return;
    SSL_CTX_free(c->ssl);
    free(c);
}

/* What OpenSSL says about the first error of its queue, which is the cause; the queue is empty afterwards. */
static const char *openssl_reason(void)
{
    unsigned long error = ERR_peek_error();
    const char   *reason = ERR_reason_error_string(error);

    ERR_clear_error();
    return reason != NULL ? reason : "no reason given";
}

static int say(char out_error[256], int error, const char *file, const char *what)
{
    (void)snprintf(out_error, 256, "%.150s: %.100s", file, what);
    return error;
}

static struct tls_context *context_new(const SSL_METHOD *method)
{
    struct tls_context *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    ERR_clear_error();
    c->ssl = SSL_CTX_new(method);
    if (c->ssl == NULL) {
        ERR_clear_error();
        free(c);
        return NULL;
    }
    atomic_init(&c->refs, 1);
    (void)SSL_CTX_set_min_proto_version(c->ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(c->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Many mail servers close without close_notify. SMTP has its own ends (the dot, the reply), so nothing is cut unseen. */
    SSL_CTX_set_options(c->ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    /* An idle session then keeps none of OpenSSL's two 17 KiB buffers. */
    SSL_CTX_set_mode(c->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* One read takes header and body of a record, and those that follow it. */
    SSL_CTX_set_read_ahead(c->ssl, 1);
    (void)SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);   /* tickets carry what a resumption needs */
    return c;
}

/* PEM. */

static int read_file(const char *path, struct buf *out, char out_error[256])
{
    buf_init(out, TLS_FILE_MAX);
    int r = file_read_whole(path, TLS_FILE_MAX, out);

    return r < 0 ? say(out_error, r, path, strerror(-r)) : 0;
}

/* The next certificate; NULL at the end, or with an error in OpenSSL's queue when what follows is none. */
static X509 *next_certificate(BIO *bio)
{
    ERR_clear_error();
    X509         *cert = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
    unsigned long error = ERR_peek_last_error();

    if (cert == NULL && ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE)
        ERR_clear_error();
    return cert;
}

static bool take_chain(SSL_CTX *ssl, BIO *bio, unsigned *out_count)
{
    unsigned count = 0;
    X509    *cert;

    for (; (cert = next_certificate(bio)) != NULL; count++) {
        bool taken = (count == 0 ? SSL_CTX_use_certificate(ssl, cert) : SSL_CTX_add1_chain_cert(ssl, cert)) == 1;

        X509_free(cert);
        if (!taken)
            return false;
    }
    *out_count = count;
    return ERR_peek_error() == 0;
}

static int use_chain(SSL_CTX *ssl, const char *path, char out_error[256])
{
    CLEANUP_BUF struct buf pem = { 0 };
    unsigned               count = 0;
    int                    r = read_file(path, &pem, out_error);

    if (r < 0)
        return r;
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (bio == NULL)
        return say(out_error, -ENOMEM, path, "no memory");
    bool ok = take_chain(ssl, bio, &count);
    BIO_free(bio);
    if (!ok)
        return say(out_error, -EINVAL, path, openssl_reason());
    return count == 0 ? say(out_error, -EINVAL, path, "no certificate in it") : 0;
}

/* A service cannot be asked for a pass phrase; OpenSSL would ask the terminal. */
static int no_passphrase(char *out, int size, int for_writing, void *arg)
{
    (void)out;
    (void)size;
    (void)for_writing;
    (void)arg;
    return -1;
}

static int use_key(SSL_CTX *ssl, const char *path, char out_error[256])
{
    CLEANUP_BUF struct buf pem = { 0 };
    int                    r = read_file(path, &pem, out_error);

    if (r < 0)
        return r;
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (bio == NULL)
        return say(out_error, -ENOMEM, path, "no memory");
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    BIO_free(bio);
    explicit_bzero(pem.p, pem.n);
    if (key == NULL)
        return say(out_error, -EINVAL, path, "no private key that can be read without a pass phrase");
    bool ok = SSL_CTX_use_PrivateKey(ssl, key) == 1 && SSL_CTX_check_private_key(ssl) == 1;
    EVP_PKEY_free(key);
    return ok ? 0 : say(out_error, -EINVAL, path, openssl_reason());
}

int tls_server_new(const char *cert_file, const char *key_file, struct tls_context **out, char out_error[256])
{
    static const unsigned char id[] = "nightmail";
    struct tls_context        *c = context_new(TLS_server_method());

    if (c == NULL)
        return say(out_error, -ENOMEM, cert_file, "no memory");
    c->is_server = true;
    (void)SSL_CTX_set_num_tickets(c->ssl, 1);   /* a mail client opens one connection after the other, not several at once */
    (void)SSL_CTX_set_session_id_context(c->ssl, id, sizeof id - 1);

    int r = use_chain(c->ssl, cert_file, out_error);
    if (r == 0)
        r = use_key(c->ssl, key_file, out_error);
    if (r < 0) {
        tls_unref(c);
        return r;
    }
    *out = c;
    return 0;
}

static int trust_file(SSL_CTX *ssl, const char *path, char out_error[256])
{
    CLEANUP_BUF struct buf pem = { 0 };
    unsigned               count = 0;
    int                    r = read_file(path, &pem, out_error);

    if (r < 0)
        return r;
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (bio == NULL)
        return say(out_error, -ENOMEM, path, "no memory");
    bool ok = true;
    for (X509 *cert; ok && (cert = next_certificate(bio)) != NULL; count++) {
        ok = X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), cert) == 1;
        X509_free(cert);
    }
    BIO_free(bio);
    if (!ok || ERR_peek_error() != 0)
        return say(out_error, -EINVAL, path, openssl_reason());
    return count == 0 ? say(out_error, -EINVAL, path, "no certificate in it") : 0;
}

static int trust(SSL_CTX *ssl, const char *ca_file, char out_error[256])
{
    if (ca_file != NULL)
        return trust_file(ssl, ca_file, out_error);
    ERR_clear_error();
    if (SSL_CTX_set_default_verify_paths(ssl) == 1)
        return 0;
    return say(out_error, -EINVAL, "the system's certificates", openssl_reason());
}

int tls_client_new(const struct tls_client_options *options, struct tls_context **out, char out_error[256])
{
    struct tls_context *c = context_new(TLS_client_method());
    int                 r = 0;

    if (c == NULL)
        return say(out_error, -ENOMEM, "TLS", "no memory");
    c->verifies = options->verify;
    if (options->verify) {
        SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
        r = trust(c->ssl, options->ca_file, out_error);
    } else {
        SSL_CTX_set_verify(c->ssl, SSL_VERIFY_NONE, NULL);
        /* Nothing is verified here, and the alternative is plain text: a short key is still better (RFC 7435, 3). */
        if (SSL_CTX_set_cipher_list(c->ssl, "DEFAULT:@SECLEVEL=0") != 1)
            r = say(out_error, -EINVAL, "TLS", openssl_reason());
    }
    if (r < 0) {
        tls_unref(c);
        return r;
    }
    *out = c;
    return 0;
}
