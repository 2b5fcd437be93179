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
#include <stdlib.h>

#define SESSIONS_MAX 2000                /* some 5 KiB each, with the peer's certificates */

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

/* Under the lock; the entry stays in its place, an old one's too, and is empty after tls_sessions_take. */
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

bool tls_sessions_put(struct tls_sessions *s, struct str key, SSL_SESSION *session)
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

SSL_SESSION *tls_sessions_take(struct tls_sessions *s, struct str key)
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
