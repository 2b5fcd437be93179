/*
 * Sessions that servers gave us to take up again: one for each peer, the newest, so many in all.
 *
 * A TLS 1.3 session is used once (RFC 8446, C.4): it is taken out here, and the server gives another. They belong to a client
 * context, so one that was not verified is never taken up where it must be.
 */
#include "base/buf.h"
#include "base/map.h"
#include "run/tls_internal.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS_MAX     2000            /* some 5 KiB each, with the peer's certificates */
#define SESSION_SIZE_MAX (12 * 1024)     /* ticket and certificates are the server's to choose, up to 160 KiB */

struct peer_session {
    struct peer_session *next;           /* in the order of their coming */
    SSL_SESSION         *session;        /* owned */
    size_t               key_n;
    char                 key[];
};

struct tls_sessions {
    pthread_mutex_t      lock;
    struct map_str       by_peer;
    struct peer_session *oldest, **end;
};

struct tls_sessions *tls_sessions_new(void)
{
    struct tls_sessions *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    (void)pthread_mutex_init(&s->lock, NULL);
    map_str_init(&s->by_peer);
    s->end = &s->oldest;
    return s;
}

static struct str key_of(const struct peer_session *p)
{
    return (struct str){ p->key, p->key_n };
}

static void peer_free(struct peer_session *p)
{
    SSL_SESSION_free(p->session);
    free(p);
}

/* Under the lock. */
static void drop_oldest(struct tls_sessions *s)
{
    struct peer_session *p = s->oldest;

    s->oldest = p->next;
    if (s->oldest == NULL)
        s->end = &s->oldest;
    (void)map_str_remove(&s->by_peer, key_of(p));
    peer_free(p);
}

void tls_sessions_free(struct tls_sessions *s)
{
    if (s == NULL)
        return;
    while (s->oldest != NULL)
        drop_oldest(s);
    map_str_free(&s->by_peer);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

/* Under the lock; the entry stays in its place, an old one's too, and is empty after take(). */
static struct peer_session *find_or_add(struct tls_sessions *s, struct str key)
{
    struct peer_session *p = map_str_get(&s->by_peer, key);

    if (p != NULL)
        return p;
    while (s->by_peer.used >= SESSIONS_MAX)
        drop_oldest(s);
    p = calloc(1, sizeof *p + key.n);
    if (p == NULL)
        return NULL;
    memcpy(p->key, key.p, key.n);
    p->key_n = key.n;
    if (map_str_put(&s->by_peer, key_of(p), p) < 0) {
        free(p);
        return NULL;
    }
    *s->end = p;
    s->end = &p->next;
    return p;
}

static bool put(struct tls_sessions *s, struct str key, SSL_SESSION *session)
{
    (void)pthread_mutex_lock(&s->lock);
    struct peer_session *p = find_or_add(s, key);
    if (p != NULL) {
        SSL_SESSION_free(p->session);
        p->session = session;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return p != NULL;
}

static SSL_SESSION *take(struct tls_sessions *s, struct str key)
{
    SSL_SESSION *session = NULL;

    (void)pthread_mutex_lock(&s->lock);
    struct peer_session *p = map_str_get(&s->by_peer, key);
    if (p != NULL) {
        session = p->session;
        p->session = NULL;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return session;
}

/* -- of one connection ------------------------------------------------------------------------------------------------------ */

/* In bytes on the wire; a few times that in memory. */
static int session_size(SSL *ssl, SSL_SESSION *session)
{
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
    int             size = i2d_SSL_SESSION(session, NULL);

    for (int i = 0; i < sk_X509_num(chain); i++)
        size += i2d_X509(sk_X509_value(chain, i), NULL);
    return size;
}

bool tls_session_given(SSL *ssl, SSL_SESSION *session)
{
    struct tls_transport *t = SSL_get_app_data(ssl);

    return t->peer != NULL && session_size(ssl, session) <= SESSION_SIZE_MAX && put(t->context->sessions, str_of(t->peer), session);
}

/* The same address, the same name and the same domain: what was verified then was verified for these. */
void tls_session_take_up(struct tls_transport *t, const char *server_name, const char *within)
{
    char            text[NET_ADDR_TEXT_MAX], key[NET_ADDR_TEXT_MAX + 600];
    struct net_addr to;

    if (sim_tls_active())
        return;
    t->plain->ops->peer(t->plain, &to);
    (void)snprintf(key, sizeof key, "%s %.255s %.255s", to.any.sa_family == AF_UNSPEC ? "" : net_addr_format(&to, text), server_name != NULL ? server_name : "",
                   within != NULL ? within : "");
    t->peer = strdup(key);
    SSL_SESSION *session = t->peer != NULL ? take(t->context->sessions, str_of(t->peer)) : NULL;
    if (session == NULL)
        return;
    (void)SSL_set_session(t->ssl, session);      /* if not: a whole handshake */
    SSL_SESSION_free(session);
}

/* One of TLS 1.2 may be used again and again, and its server gives no other. */
void tls_session_give_back(struct tls_transport *t)
{
    if (t->peer == NULL || SSL_session_reused(t->ssl) == 0 || SSL_version(t->ssl) >= TLS1_3_VERSION)
        return;
    SSL_SESSION *session = SSL_get1_session(t->ssl);
    if (session != NULL && !put(t->context->sessions, str_of(t->peer), session))
        SSL_SESSION_free(session);
}
