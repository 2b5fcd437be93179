/*
 * TLS contexts: the rules that hold for all, and the client's. The server's are in tls_server.c.
 *
 * Files are read through run/file.h, so that a simulated world's certificates are found on its disk. TLS 1.2 is the least
 * (RFC 8996 and RFC 7817's advice for mail); renegotiation and compression are off.
 */
#include "run/tls.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "run/file.h"
#include "run/tls_start.h"
#include "run/tls_internal.h"
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TLS_FILE_MAX (4 * 1024 * 1024)       /* the system's bundle of CAs has about 220 KiB */

/* Key exchange: the hybrid of X25519 and ML-KEM first, against whoever records today to read when there are quantum computers; where
 * this OpenSSL has it (3.5). An unknown name makes it refuse the whole list. */
static const char *const group_lists[] = { "X25519MLKEM768:X25519:P-256:P-384:X448", "X25519:P-256:P-384:X448" };

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
    tls_sessions_free(c->sessions);
    tls_names_free(c->names);
    free(c);
}

const char *tls_reason(void)
{
    unsigned long error = ERR_peek_error();
    const char   *reason = ERR_reason_error_string(error);

    ERR_clear_error();
    return reason != NULL ? reason : "no reason given";
}

int tls_say(char out_error[256], int error, const char *file, const char *what)
{
    (void)snprintf(out_error, 256, "%.150s: %.100s", file, what);
    return error;
}

static void set_groups(SSL_CTX *ssl)
{
    for (size_t i = 0; i < sizeof group_lists / sizeof group_lists[0]; i++)
        if (SSL_CTX_set1_groups_list(ssl, group_lists[i]) == 1)
            break;
    ERR_clear_error();
}

SSL_CTX *tls_ssl_new(bool server)
{
    ERR_clear_error();
    if (tls_start() < 0 || !tls_stream_start())
        return NULL;
    SSL_CTX *ssl = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

    if (ssl == NULL) {
        ERR_clear_error();
        return NULL;
    }
    (void)SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Many mail servers close without close_notify. SMTP has its own ends (the dot, the reply), so nothing is cut unseen. */
    SSL_CTX_set_options(ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    /* An idle session then keeps none of OpenSSL's two 17 KiB buffers. */
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* One read takes header and body of a record, and those that follow it. */
    SSL_CTX_set_read_ahead(ssl, 1);
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);   /* tickets carry what a resumption needs */
    set_groups(ssl);
    return ssl;
}

/* -- PEM ----------------------------------------------------------------------------------------------------------------- */

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

int tls_read_certificates(const char *path, tls_each_fn *each, void *arg, char out_error[256])
{
    CLEANUP_BUF struct buf pem = { 0 };
    int                    count = 0;
    bool                   ok = true;

    buf_init(&pem, TLS_FILE_MAX);
    int r = file_read_whole(path, TLS_FILE_MAX, &pem);
    if (r < 0)
        return tls_say(out_error, r, path, strerror(-r));
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (bio == NULL)
        return tls_say(out_error, -ENOMEM, path, "no memory");
    for (X509 *cert; ok && (cert = next_certificate(bio)) != NULL; count++) {
        ok = each(arg, cert, (size_t)count);
        X509_free(cert);
    }
    BIO_free(bio);
    if (!ok || ERR_peek_error() != 0)
        return tls_say(out_error, -EINVAL, path, tls_reason());
    return count == 0 ? tls_say(out_error, -EINVAL, path, "no certificate in it") : count;
}

/* -- the client's -------------------------------------------------------------------------------------------------------- */

static bool trust_one(void *arg, X509 *cert, size_t index)
{
    (void)index;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(arg), cert) == 1;
}

static int trust(SSL_CTX *ssl, const char *ca_file, char out_error[256])
{
    if (ca_file != NULL) {
        int r = tls_read_certificates(ca_file, trust_one, ssl, out_error);
        return r < 0 ? r : 0;
    }
    ERR_clear_error();
    if (SSL_CTX_set_default_verify_paths(ssl) == 1)
        return 0;
    return tls_say(out_error, -EINVAL, "the system's certificates", tls_reason());
}

static int set_trust(struct tls_context *c, const struct tls_client_options *options, char out_error[256])
{
    if (options->verify) {
        SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
        return trust(c->ssl, options->ca_file, out_error);
    }
    SSL_CTX_set_verify(c->ssl, SSL_VERIFY_NONE, NULL);
    /* Nothing is verified here, and the alternative is plain text: a short key is still better (RFC 7435, 3). */
    if (SSL_CTX_set_cipher_list(c->ssl, "DEFAULT:@SECLEVEL=0") != 1)
        return tls_say(out_error, -EINVAL, "TLS", tls_reason());
    return 0;
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    return tls_session_given(ssl, session) ? 1 : 0;
}

int tls_client_new(const struct tls_client_options *options, struct tls_context **out, char out_error[256])
{
    struct tls_context *c = calloc(1, sizeof *c);

    if (c == NULL)
        return tls_say(out_error, -ENOMEM, "TLS", "no memory");
    atomic_init(&c->refs, 1);
    c->verifies = options->verify;
    c->ssl = tls_ssl_new(false);
    c->sessions = tls_sessions_new();
    int r = c->ssl == NULL || c->sessions == NULL ? tls_say(out_error, -ENOMEM, "TLS", "no memory") : set_trust(c, options, out_error);
    if (r < 0) {
        tls_unref(c);
        return r;
    }
    /* Kept by peer, in tls_session.c; OpenSSL's own cache cannot find a client's. */
    (void)SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c->ssl, on_session);
    *out = c;
    return 0;
}

/* -- holders ------------------------------------------------------------------------------------------------------------- */

struct tls_holder {
    pthread_mutex_t     lock;            /* of the pointer and its count */
    struct tls_context *current;         /* owned: one count */
};

struct tls_holder *tls_holder_new(void)
{
    struct tls_holder *h = calloc(1, sizeof *h);

    if (h != NULL)
        (void)pthread_mutex_init(&h->lock, NULL);
    return h;
}

void tls_holder_free(struct tls_holder *h)
{
    if (h == NULL)
        return;
    tls_unref(h->current);
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
}

void tls_holder_set(struct tls_holder *h, struct tls_context *c)
{
    (void)pthread_mutex_lock(&h->lock);
    struct tls_context *before = h->current;
    h->current = c;
    (void)pthread_mutex_unlock(&h->lock);
    tls_unref(before);
}

struct tls_context *tls_holder_get(struct tls_holder *h)
{
    (void)pthread_mutex_lock(&h->lock);
    struct tls_context *c = h->current != NULL ? tls_ref(h->current) : NULL;
    (void)pthread_mutex_unlock(&h->lock);
    return c;
}
