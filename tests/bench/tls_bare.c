/*
 * The bare loop that the bench of TLS compares with: accept, OpenSSL's handshake, the shortest SMTP conversation, close. One thread, no
 * waiting for more than one client, nothing else.
 *
 *     tls_bare IP PORT CERTIFICATE KEY starttls|implicit
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_at(const char *ip, const char *port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    if (s < 0 || inet_pton(AF_INET, ip, &at.sin_addr) != 1 || setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(s, (struct sockaddr *)&at, sizeof at) < 0 || listen(s, 1000) < 0) {
        perror("tls_bare");
        exit(1);
    }
    return s;
}

static SSL_CTX *context(const char *certificate, const char *key)
{
    SSL_CTX *c = SSL_CTX_new(TLS_server_method());

    if (c == NULL || SSL_CTX_use_certificate_chain_file(c, certificate) != 1 || SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    (void)SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
    (void)SSL_CTX_set_num_tickets(c, 1);
    (void)SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_session_id_context(c, (const unsigned char *)"bare", 4);
    return c;
}

static int say(int s, const char *text)
{
    return write(s, text, strlen(text)) == (ssize_t)strlen(text);
}

static int plain_part(int s)
{
    char line[512];

    return say(s, "220 bare.example ESMTP\r\n") && read(s, line, sizeof line) > 0 &&
           say(s, "250-bare.example\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 HELP\r\n") &&
           read(s, line, sizeof line) > 0 && say(s, "220 2.0.0 Go ahead\r\n");
}

static void serve(SSL_CTX *c, int s, int starttls)
{
    static const char greeting[] = "220 bare.example ESMTP\r\n", bye[] = "221 2.0.0 Goodbye\r\n";
    char line[512];
    SSL *ssl = starttls && !plain_part(s) ? NULL : SSL_new(c);

    if (ssl == NULL)
        return;
    (void)SSL_set_fd(ssl, s);
    ERR_clear_error();
    if (SSL_accept(ssl) == 1 && (starttls || SSL_write(ssl, greeting, sizeof greeting - 1) > 0) && SSL_read(ssl, line, sizeof line) > 0)
        (void)SSL_write(ssl, bye, sizeof bye - 1);
    (void)SSL_shutdown(ssl);
    SSL_free(ssl);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 64;
    int listener = listen_at(argv[1], argv[2]), starttls = strcmp(argv[5], "starttls") == 0;
    SSL_CTX *c = context(argv[3], argv[4]);

    puts("ready");
    fflush(stdout);
    for (;;) {
        int s = accept(listener, NULL, NULL);
        if (s < 0)
            continue;
        int one = 1;
        (void)setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        serve(c, s, starttls);
        close(s);
    }
}
