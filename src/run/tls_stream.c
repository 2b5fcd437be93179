/*
 * TLS on a stream: a transport that wraps the plain one.
 *
 * OpenSSL reads and writes the plain transport through a BIO that tries once and never waits; when OpenSSL wants more, the
 * call returns, and the wait happens out here. Before each call the error queue of the thread is emptied, and the outcome is
 * read before anything else runs: the queue is the thread's, and other tasks use it while this one waits.
 */
#include "run/stream.h"

#include "run/stream_internal.h"
#include "run/tls_internal.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WITHIN_MAX    255                 /* of a domain: RFC 5321, 4.5.3.1.2 */
#define TRIM_AFTER_NS (1 * NS_PER_S)

/* The BIO over the plain transport. */

static int bio_read(BIO *bio, char *p, size_t n, size_t *out_read)
{
    struct tls_transport *t = BIO_get_data(bio);
    ssize_t               r = t->plain->ops->read(t->plain, p, n);

    BIO_clear_retry_flags(bio);
    if (r > 0) {
        *out_read = (size_t)r;
        return 1;
    }
    if (r == 0)
        t->plain_ended = true;
    else if (r == -EAGAIN)
        BIO_set_retry_read(bio);
    else
        t->plain_error = (int)r;
    return 0;
}

static int bio_write(BIO *bio, const char *p, size_t n, size_t *out_written)
{
    struct tls_transport *t = BIO_get_data(bio);
    ssize_t               r = t->plain->ops->write(t->plain, p, n);

    BIO_clear_retry_flags(bio);
    if (r > 0) {
        *out_written = (size_t)r;
        return 1;
    }
    /* OpenSSL is told to wait in any case: after an error it could not be asked any more for what the peer said before it went. */
    BIO_set_retry_write(bio);
    if (r != -EAGAIN)
        t->write_error = (int)r;
    return 0;
}

static long bio_ctrl(BIO *bio, int what, long number, void *p)
{
    const struct tls_transport *t = BIO_get_data(bio);

    (void)number;
    (void)p;
    switch (what) {
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_EOF: return t->plain_ended;
    }
    return 0;
}

static BIO_METHOD *make_bio_method(void)
{
    static int  type;                    /* under the lock; there are few of them, so it is taken once */
    BIO_METHOD *m;

    if (type <= 0)
        type = BIO_get_new_index();
    if (type <= 0 || (m = BIO_meth_new(type | BIO_TYPE_SOURCE_SINK, "transport")) == NULL)
        return NULL;
    if (BIO_meth_set_read_ex(m, bio_read) && BIO_meth_set_write_ex(m, bio_write) && BIO_meth_set_ctrl(m, bio_ctrl))
        return m;
    BIO_meth_free(m);
    return NULL;
}

/* Made before the first context is; and again, if there was no memory then. */
static BIO_METHOD *bio_method(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static BIO_METHOD     *method;

    (void)pthread_mutex_lock(&lock);
    if (method == NULL)
        method = make_bio_method();
    BIO_METHOD *m = method;
    (void)pthread_mutex_unlock(&lock);
    return m;
}

bool tls_stream_start(void) { return bio_method() != NULL; }

static BIO *bio_new(struct tls_transport *t)
{
    BIO_METHOD *method = bio_method();

    BIO *bio = method != NULL ? BIO_new(method) : NULL;
    if (bio == NULL)
        return NULL;
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    return bio;
}

/* The outcome of a call of OpenSSL's. */

static void set_words(struct tls_transport *t, const char *words)
{
    free(t->words);
    t->words = strdup(words);        /* without memory: no words */
}

/* The transport's own error if there was one, else -EPROTO with OpenSSL's words. Nothing more is asked of OpenSSL. */
static int fail(struct tls_transport *t)
{
    char          words[256];
    unsigned long error = ERR_peek_error();
    const char   *reason = ERR_reason_error_string(error);
    long          verdict = SSL_get_verify_result(t->ssl);

    t->failed = true;
    ERR_clear_error();
    if (t->plain_error < 0) {
        set_words(t, strerror(-t->plain_error));
        return t->plain_error;
    }
    if (ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK)
        (void)snprintf(words, sizeof words, "certificate verify failed: %s", X509_verify_cert_error_string(verdict));
    else if (reason != NULL)
        (void)snprintf(words, sizeof words, "%s", reason);
    else if (t->plain_ended)
        (void)snprintf(words, sizeof words, "the peer closed the connection");
    else
        (void)snprintf(words, sizeof words, "TLS error %lu", error);
    set_words(t, words);
    return -EPROTO;
}

/* OpenSSL waits for the transport below to take more. 0: so do we; or the error, as it never will. */
static int wants_write(struct tls_transport *t)
{
    if (t->write_error < 0 && t->words == NULL)
        set_words(t, strerror(-t->write_error));
    return t->write_error;
}

/* Transport. */

static ssize_t tls_read(struct transport *base, void *p, size_t n)
{
    struct tls_transport *t = (struct tls_transport *)base;
    size_t                got = 0;

    if (t->failed)
        return t->plain_error < 0 ? t->plain_error : -EPROTO;
    t->read_wants_write = false;
    ERR_clear_error();
    int r = SSL_read_ex(t->ssl, p, n, &got);
    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_NONE: return (ssize_t)got;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_WANT_WRITE: t->read_wants_write = true; return wants_write(t) < 0 ? t->write_error : -EAGAIN;
    case SSL_ERROR_WANT_READ: return -EAGAIN;
    default: return fail(t);
    }
}

static ssize_t tls_write(struct transport *base, const void *p, size_t n)
{
    struct tls_transport *t = (struct tls_transport *)base;
    size_t                put = 0;

    if (t->failed)
        return t->plain_error < 0 ? t->plain_error : -EPROTO;
    t->write_wants_read = false;
    ERR_clear_error();
    int r = SSL_write_ex(t->ssl, p, n, &put);
    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_NONE: return (ssize_t)put;
    case SSL_ERROR_WANT_READ: t->write_wants_read = true; return -EAGAIN;
    case SSL_ERROR_WANT_WRITE: return wants_write(t) < 0 ? t->write_error : -EAGAIN;
    default: return fail(t);
    }
}

static int wait_readable(struct tls_transport *t, int64_t deadline_ns)
{
    return t->plain->ops->wait_readable(t->plain, deadline_ns);
}

static int wait_writable(struct tls_transport *t, int64_t deadline_ns)
{
    return t->plain->ops->wait_writable(t->plain, deadline_ns);
}

/* A handshake goes deep into the stack. A session that then falls idle gives the pages back; for one that goes on at once it would be
 * work for nothing, about a thirtieth of what a handshake costs. */
static int wait_for_peer(struct tls_transport *t, int64_t deadline_ns)
{
    int64_t trim_at_ns = t->deep ? task_deadline_in(TRIM_AFTER_NS) : TASK_FOREVER;
    int     r = wait_readable(t, trim_at_ns < deadline_ns ? trim_at_ns : deadline_ns);

    if (r != -ETIMEDOUT || trim_at_ns >= deadline_ns)
        return r;
    t->deep = false;
    task_trim_stack();
    return wait_readable(t, deadline_ns);
}

static int tls_wait_readable(struct transport *base, int64_t deadline_ns)
{
    struct tls_transport *t = (struct tls_transport *)base;

    return t->read_wants_write ? wait_writable(t, deadline_ns) : wait_for_peer(t, deadline_ns);
}

static int tls_wait_writable(struct transport *base, int64_t deadline_ns)
{
    struct tls_transport *t = (struct tls_transport *)base;

    return t->write_wants_read ? wait_readable(t, deadline_ns) : wait_writable(t, deadline_ns);
}

/* close_notify, then the end of the plain direction; what the peer still says can be read (RFC 8446, 6.1). */
static int tls_shut_write(struct transport *base)
{
    struct tls_transport *t = (struct tls_transport *)base;

    t->write_wants_read = false;
    if (t->established && !t->failed) {
        ERR_clear_error();
        int r = SSL_shutdown(t->ssl);
        if (r < 0) {
            switch (SSL_get_error(t->ssl, r)) {
            case SSL_ERROR_WANT_WRITE: return wants_write(t) < 0 ? t->write_error : -EAGAIN;
            case SSL_ERROR_WANT_READ: break;   /* ours is sent; theirs is read by stream_fill */
            default: return fail(t);
            }
        }
    }
    return t->plain->ops->shut_write(t->plain);
}

static void tls_close(struct transport *base)
{
    struct tls_transport *t = (struct tls_transport *)base;

    /* SSL would spoil the session of a connection that ends without close_notify; that has not been asked for since TLS 1.1. */
    if (t->established && !t->failed)
        SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(t->ssl);
    t->plain->ops->close(t->plain);
    tls_unref(t->context);
    free(t->words);
    free(t->named);
    free(t->peer);
    free(t);
}

static void tls_local(struct transport *base, struct net_addr *out)
{
    struct tls_transport *t = (struct tls_transport *)base;

    t->plain->ops->local(t->plain, out);
}

static void tls_peer(struct transport *base, struct net_addr *out)
{
    struct tls_transport *t = (struct tls_transport *)base;

    t->plain->ops->peer(t->plain, out);
}

static int tls_peer_uid(struct transport *base, unsigned *out_uid)
{
    struct tls_transport *t = (struct tls_transport *)base;

    return t->plain->ops->peer_uid(t->plain, out_uid);
}

static const struct transport_ops tls_ops = {
    .read = tls_read,
    .write = tls_write,
    .wait_readable = tls_wait_readable,
    .wait_writable = tls_wait_writable,
    .shut_write = tls_shut_write,
    .close = tls_close,
    .local = tls_local,
    .peer = tls_peer,
    .peer_uid = tls_peer_uid,
};

/* Handshake. */

static bool is_ip(const char *name)
{
    unsigned char ip[16];

    return inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1;
}

/* OpenSSL takes a name that begins with a dot for all below it. */
static bool verify_within(X509_VERIFY_PARAM *rules, const char *domain)
{
    char below[WITHIN_MAX + 2];

    int n = snprintf(below, sizeof below, ".%s", domain);
    return n > 1 && (size_t)n < sizeof below && X509_VERIFY_PARAM_set1_host(rules, domain, 0) == 1 && X509_VERIFY_PARAM_add1_host(rules, below, 0) == 1;
}

/* SNI carries names only, never addresses (RFC 6066, 3). */
static bool name_server(SSL *ssl, const char *name, const char *within, bool verify)
{
    X509_VERIFY_PARAM *rules = SSL_get0_param(ssl);

    if (is_ip(name) && within == NULL)
        return !verify || X509_VERIFY_PARAM_set1_ip_asc(rules, name) == 1;
    if (!is_ip(name) && SSL_set_tlsext_host_name(ssl, name) != 1)
        return false;
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (verify && within != NULL)
        return verify_within(rules, within);
    return !verify || X509_VERIFY_PARAM_set1_host(rules, name, 0) == 1;
}

/* Certificates are judged at the time of our clock: the real one's, or the simulated world's. Tickets carry OpenSSL's own. */
static void tell_time(SSL *ssl)
{
    X509_VERIFY_PARAM_set_time(SSL_get0_param(ssl), (time_t)(clock_wall_ns() / NS_PER_S));
    if (sim_tls_active()) {
        SSL_set_options(ssl, SSL_OP_NO_TICKET);
        (void)SSL_set_num_tickets(ssl, 0);
    }
}

static struct tls_transport *tls_transport_new(struct transport *plain, struct tls_context *context)
{
    struct tls_transport *t = calloc(1, sizeof *t);

    if (t == NULL)
        return NULL;
    ERR_clear_error();
    t->base.ops = &tls_ops;
    t->plain = plain;
    t->ssl = SSL_new(tls_context_ssl(context));
    BIO *bio = t->ssl != NULL ? bio_new(t) : NULL;
    if (bio == NULL) {
        ERR_clear_error();
        SSL_free(t->ssl);
        free(t);
        return NULL;
    }
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_app_data(t->ssl, t);
    t->context = tls_ref(context);
    tell_time(t->ssl);
    return t;
}

void tls_stream_guard(struct tls_transport *t, bool on)
{
    if (on)
        SSL_set_options(t->ssl, SSL_OP_CLEANSE_PLAINTEXT);
    else
        SSL_clear_options(t->ssl, SSL_OP_CLEANSE_PLAINTEXT);
}

SSL *tls_stream_ssl(const struct stream *s)
{
    return s->tls != NULL ? s->tls->ssl : NULL;
}

void tls_stream_named(SSL *ssl, const char *name)
{
    struct tls_transport *t = SSL_get_app_data(ssl);

    free(t->named);
    t->named = strdup(name);             /* without memory: not told in the log */
}

/* -- the handshake --------------------------------------------------------------------------------------------------------- */

static int handshake(struct tls_transport *t, int64_t deadline_ns)
{
    for (;;) {
        ERR_clear_error();
        int done = SSL_do_handshake(t->ssl);
        if (done == 1)
            return 0;

        int r;
        switch (SSL_get_error(t->ssl, done)) {
        case SSL_ERROR_WANT_READ: r = wait_readable(t, deadline_ns); break;
        case SSL_ERROR_WANT_WRITE:
            r = wants_write(t);
            if (r == 0)
                r = wait_writable(t, deadline_ns);
            break;
        default: r = fail(t); break;
        }
        if (r < 0)
            return r;
    }
}

/* From here the stream's transport is the TLS one, also after a failure; a handshake that was broken off cannot be taken up again. */
static int begin(struct stream *s, struct tls_context *context, const char *server_name, const char *within, int64_t deadline_ns)
{
    assert(s->tls == NULL);
    int r = stream_flush(s, deadline_ns);
    if (r < 0)
        return r;
    if (s->read_error < 0)
        return s->read_error;
    /* Nothing that came in plain text is taken for something said under TLS (RFC 3207, 4.2; CVE-2011-0411). */
    stream_discard_pending(s);

    struct tls_transport *t = tls_transport_new(s->transport, context);
    if (t == NULL)
        return stream_fail(s, -ENOMEM);
    s->transport = &t->base;
    s->tls = t;
    tls_stream_guard(t, s->in.secret);
    if (tls_context_is_server(context))
        SSL_set_accept_state(t->ssl);
    else
        SSL_set_connect_state(t->ssl);

    bool verify = tls_context_verifies(context);
    if (verify && server_name == NULL) {
        t->failed = true;
        set_words(t, "no name to verify the certificate against");
        return stream_fail(s, -EPROTO);
    }
    ERR_clear_error();
    if (server_name != NULL && !name_server(t->ssl, server_name, within, verify))
        return stream_fail(s, fail(t));
    if (!tls_context_is_server(context))
        tls_session_take_up(t, server_name, within);
    r = handshake(t, deadline_ns);
    if (r < 0) {
        t->failed = true;
        return stream_fail(s, r);
    }
    t->established = true;
    tls_session_give_back(t);
    t->deep = true;
    return 0;
}

int stream_tls_accept(struct stream *s, struct tls_context *context, int64_t deadline_ns)
{
    assert(tls_context_is_server(context));
    return begin(s, context, NULL, NULL, deadline_ns);
}

int stream_tls_connect(struct stream *s, struct tls_context *context, const char *server_name, int64_t deadline_ns)
{
    return stream_tls_connect_within(s, context, server_name, NULL, deadline_ns);
}

int stream_tls_connect_within(struct stream *s, struct tls_context *context, const char *server_name, const char *within, int64_t deadline_ns)
{
    assert(!tls_context_is_server(context));
    return begin(s, context, server_name, within, deadline_ns);
}
