/*
 * The client of the bench of TLS: so many connections one after the other in each of a few threads, each with a handshake and the
 * shortest SMTP conversation; prints how many handshakes took an earlier session up.
 *
 *     tls_load IP PORT starttls|implicit new|resumed CONNECTIONS THREADS
 */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct load {
    struct sockaddr_in to;
    int                starttls, resume;
    long               connections;      /* of each thread */
    long               resumed;          /* of all; atomic */
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    SSL_SESSION **kept = SSL_get_app_data(ssl);

    if (kept == NULL)
        return 0;
    SSL_SESSION_free(*kept);
    *kept = session;
    return 1;
}

static void hear_plain(int s, const char *code)
{
    char text[4096];
    size_t n = 0;

    for (;;) {
        ssize_t got = read(s, text + n, sizeof text - 1 - n);
        if (got <= 0)
            fail("plain reply");
        n += (size_t)got;
        text[n] = '\0';
        const char *line = text;
        for (const char *lf; (lf = strchr(line, '\n')) != NULL; line = lf + 1)
            if (line[3] == ' ') {
                if (strncmp(line, code, 3) != 0)
                    fail(line);
                return;
            }
    }
}

static void say_plain(int s, const char *text)
{
    if (write(s, text, strlen(text)) != (ssize_t)strlen(text))
        fail("write");
}

static void hear(SSL *ssl, const char *code)
{
    char text[4096];

    if (SSL_read(ssl, text, sizeof text) < 3 || strncmp(text, code, 3) != 0)
        fail("reply under TLS");
}

static void once(struct load *l, SSL_CTX *c, SSL_SESSION **session)
{
    int s = socket(AF_INET, SOCK_STREAM, 0);

    if (s < 0 || connect(s, (struct sockaddr *)&l->to, sizeof l->to) < 0)
        fail("connect");
    if (l->starttls) {
        hear_plain(s, "220");
        say_plain(s, "EHLO load.example\r\n");
        hear_plain(s, "250");
        say_plain(s, "STARTTLS\r\n");
        hear_plain(s, "220");
    }
    SSL *ssl = SSL_new(c);
    if (ssl == NULL || SSL_set_fd(ssl, s) != 1)
        fail("SSL");
    SSL_set_app_data(ssl, session);
    if (l->resume && *session != NULL)
        SSL_set_session(ssl, *session);
    if (SSL_connect(ssl) != 1)
        fail("handshake");
    if (SSL_session_reused(ssl))
        __atomic_fetch_add(&l->resumed, 1, __ATOMIC_RELAXED);
    if (!l->starttls)
        hear(ssl, "220");
    if (SSL_write(ssl, "QUIT\r\n", 6) != 6)
        fail("QUIT");
    hear(ssl, "221");
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);    /* or the session would be spoilt */
    SSL_free(ssl);
    close(s);
}

static void *thread(void *arg)
{
    struct load *l = arg;
    SSL_SESSION *session = NULL;
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());

    if (c == NULL)
        fail("SSL_CTX");
    SSL_CTX_set_verify(c, SSL_VERIFY_NONE, NULL);
    (void)SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c, on_session);
    for (long i = 0; i < l->connections; i++)
        once(l, c, &session);
    SSL_SESSION_free(session);
    SSL_CTX_free(c);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];

    if (argc != 7 || atoi(argv[6]) < 1 || atoi(argv[6]) > 64)
        return 64;
    int count = atoi(argv[6]);
    struct load l = {
        .to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2])) },
        .starttls = strcmp(argv[3], "starttls") == 0,
        .resume = strcmp(argv[4], "resumed") == 0,
        .connections = atol(argv[5]) / count,
    };
    if (inet_pton(AF_INET, argv[1], &l.to.sin_addr) != 1)
        return 64;
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, thread, &l) != 0)
            fail("thread");
    for (int i = 0; i < count; i++)
        (void)pthread_join(threads[i], NULL);
    printf("%ld of %ld resumed\n", l.resumed, l.connections * count);
    return 0;
}
