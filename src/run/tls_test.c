/*
 * run/tls: handshakes both ways, what a failure says, what STARTTLS must forget, and that a seed decides every byte.
 *
 * Certificates are made here, at run time. What runs in a task checks with CHECK (see stream_test.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "run/loop.h"
#include "run/net.h"
#include "run/stream.h"
#include "run/stream_internal.h"
#include "run/tls.h"
#include "run/tls_internal.h"
#include "run/tls_test_scene.h"
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                        \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);           \
            abort();                                                                            \
        }                                                                                       \
    } while (0)
#define CHECK_IS(a, b)                                                                          \
    do {                                                                                        \
        long long a_ = (long long)(a), b_ = (long long)(b);                                     \
        if (a_ != b_) {                                                                         \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #a, a_, b_);   \
            abort();                                                                            \
        }                                                                                       \
    } while (0)

static int64_t soon(void)
{
    return task_deadline_in(20 * NS_PER_S);
}

/* Certificates. */

static char top[64];

/* Four paths at a time. */
static const char *in_top(const char *name)
{
    static char     paths[4][128];
    static unsigned next;
    char           *path = paths[next++ % 4];

    (void)snprintf(path, sizeof paths[0], "%s/%s", top, name);
    return path;
}

struct identity {
    EVP_PKEY *key;
    X509     *cert;
};

static struct identity ca, other_ca;

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    CHECK(e != NULL && X509_add_ext(cert, e, -1) == 1);
    X509_EXTENSION_free(e);
}

/* Signed by issuer; by itself if that is NULL. Valid from days before to days after now. */
static struct identity identity_make(const char *name, const struct identity *issuer, bool is_ca, const char *san, int from_days,
                                     int to_days)
{
    static long     serial = 1;
    struct identity id = { .key = EVP_EC_gen("P-256"), .cert = X509_new() };

    if (issuer == NULL)
        issuer = &id;
    CHECK(id.key != NULL && id.cert != NULL);
    X509_set_version(id.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(id.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(id.cert), from_days * 86400L);
    X509_gmtime_adj(X509_getm_notAfter(id.cert), to_days * 86400L);
    X509_set_pubkey(id.cert, id.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(id.cert), "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(id.cert, X509_get_subject_name(issuer->cert));
    if (is_ca)
        add_extension(id.cert, issuer->cert, NID_basic_constraints, "critical,CA:TRUE");
    if (san != NULL)
        add_extension(id.cert, issuer->cert, NID_subject_alt_name, san);
    CHECK(X509_sign(id.cert, issuer->key, EVP_sha256()) > 0);
    return id;
}

static void identity_free(struct identity *id)
{
    EVP_PKEY_free(id->key);
    X509_free(id->cert);
}

static void write_cert(const char *name, const struct identity *id)
{
    FILE *f = fopen(in_top(name), "a");

    CHECK(f != NULL && PEM_write_X509(f, id->cert) == 1);
    CHECK(fclose(f) == 0);
}

static void write_key(const char *name, const struct identity *id, const char *passphrase)
{
    FILE *f = fopen(in_top(name), "w");

    CHECK(f != NULL);
    const EVP_CIPHER *cipher = passphrase != NULL ? EVP_aes_128_cbc() : NULL;
    CHECK(PEM_write_PrivateKey(f, id->key, cipher, NULL, 0, NULL, (void *)(uintptr_t)passphrase) == 1);
    CHECK(fclose(f) == 0);
}

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(in_top(name), "w");

    CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void make_server(const char *stem, const struct identity *issuer, const char *san, int from_days, int to_days)
{
    char            name[64];
    struct identity id = identity_make(stem, issuer, false, san, from_days, to_days);

    (void)snprintf(name, sizeof name, "%s.crt", stem);
    write_cert(name, &id);
    (void)snprintf(name, sizeof name, "%s.key", stem);
    write_key(name, &id, NULL);
    identity_free(&id);
}

static int make_files(void **state)
{
    (void)state;
    strcpy(top, "/tmp/tls_test.XXXXXX");
    if (mkdtemp(top) == NULL)
        return -1;
    ca = identity_make("Test CA", NULL, true, NULL, -10, 10);
    other_ca = identity_make("Other CA", NULL, true, NULL, -10, 10);
    write_cert("ca.pem", &other_ca);
    write_cert("ca.pem", &ca);
    make_server("good", &ca, "DNS:mx.example,DNS:*.wild.example,IP:127.0.0.1", -5, 5);
    make_server("old", &ca, "DNS:mx.example", -5, -1);
    make_server("early", &ca, "DNS:mx.example", 1, 5);
    make_server("self", NULL, "DNS:mx.example", -5, 5);
    struct identity stranger_ca = identity_make("Stranger CA", NULL, true, NULL, -10, 10);
    make_server("stranger", &stranger_ca, "DNS:mx.example", -5, 5);
    struct identity locked = identity_make("locked", NULL, false, NULL, -5, 5);
    write_key("locked.key", &locked, "secret");
    identity_free(&locked);
    identity_free(&stranger_ca);
    write_text("empty", "");
    write_text("text", "not a certificate\n");
    write_text("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    return 0;
}

static int remove_files(void **state)
{
    char command[128];

    (void)state;
    identity_free(&ca);
    identity_free(&other_ca);
    snprintf(command, sizeof command, "rm -rf %s", top);
    return system(command);
}

static int server_new(const char *cert, const char *key, struct tls_context **out, char words[256])
{
    struct tls_pair pair = { cert, key };

    return tls_server_new(&(struct tls_server_options){ .pairs = &pair, .count = 1 }, out, words);
}

static struct tls_context *server_context(const char *stem)
{
    struct tls_context *c;
    char                crt[64], key[64], words[256] = "";

    (void)snprintf(crt, sizeof crt, "%s.crt", stem);
    (void)snprintf(key, sizeof key, "%s.key", stem);
    int r = server_new(in_top(crt), in_top(key), &c, words);
    if (r < 0)
        fprintf(stderr, "%s\n", words);
    CHECK_IS(r, 0);
    return c;
}

static struct tls_context *client_context(bool verify)
{
    struct tls_context *c;
    char                words[256];

    CHECK_IS(tls_client_new(&(struct tls_client_options){ .verify = verify, .ca_file = in_top("ca.pem") }, &c, words), 0);
    return c;
}

/* Files that cannot be used, and what is said about them. */
static void test_files(void **state)
{
    static const struct {
        const char *cert, *key;
        int result;
        const char *words;
    } cases[] = {
        { "none",     "good.key",   -ENOENT, "No such file"          },
        { "good.crt", "none",       -ENOENT, "No such file"          },
        { "empty",    "good.key",   -EINVAL, "no certificate in it"  },
        { "text",     "good.key",   -EINVAL, "no certificate in it"  },
        { "broken",   "good.key",   -EINVAL, "broken: "              },
        { "good.crt", "old.key",    -EINVAL, "key values mismatch"   },
        { "good.crt", "text",       -EINVAL, "no private key"        },
        { "good.crt", "empty",      -EINVAL, "no private key"        },
        { "good.crt", "locked.key", -EINVAL, "without a pass phrase" },   /* and nobody is asked */
        { "good.crt", "good.key",   0,       NULL                    },
    };
    struct tls_context *c;
    char                words[256];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int r = server_new(in_top(cases[i].cert), in_top(cases[i].key), &c, words);

        if (r != cases[i].result || (r < 0 && strstr(words, cases[i].words) == NULL))
            fail_msg("%s, %s: %d, %s", cases[i].cert, cases[i].key, r, r < 0 ? words : "");
        if (r == 0)
            tls_unref(c);
    }
    assert_int_equal(tls_client_new(&(struct tls_client_options){ .verify = true, .ca_file = in_top("text") }, &c, words), -EINVAL);
    assert_non_null(strstr(words, "no certificate in it"));
    assert_int_equal(tls_client_new(&(struct tls_client_options){ .verify = true }, &c, words), 0);   /* the system's */
    struct tls_context *same = tls_ref(c);
    tls_unref(c);
    tls_unref(same);
    tls_unref(NULL);
}

/* A server in a task of its own, over TCP or memory. */

struct server {
    struct tls_context *context;
    struct stream      *stream;
    int                 result;
    char                words[256];
    void (*then)(struct stream *s);   /* after a handshake that worked; NULL: shut down */
};

static void server_task(void *arg)
{
    struct server *s = arg;

    s->result = stream_tls_accept(s->stream, s->context, soon());
    (void)snprintf(s->words, sizeof s->words, "%s", stream_tls_error(s->stream));
    if (s->result == 0 && s->then != NULL)
        s->then(s->stream);
    else if (s->result == 0)
        (void)stream_shutdown(s->stream, soon());
    stream_close(s->stream);
}

typedef void make_fn(struct stream **a, struct stream **b);

static void make_memory(struct stream **a, struct stream **b)
{
    CHECK_IS(stream_pair(1000, a, b), 0);
}

static void make_tcp(struct stream **a, struct stream **b)
{
    struct net_listener *l;
    struct net_addr      at;

    CHECK(net_addr_parse(STR("127.0.0.1:0"), 0, &at));
    CHECK_IS(net_listen(&at, false, &l), 0);
    net_listener_addr(l, &at);
    CHECK_IS(net_connect(&at, NULL, soon(), a), 0);
    CHECK_IS(net_accept(l, soon(), b, NULL), 0);
    net_listener_close(l);
}

static void expect(struct stream *s, const char *text)
{
    struct str want = str_of(text);

    while (stream_pending(s).n < want.n)
        CHECK(stream_fill(s, soon()) > 0);
    CHECK(str_starts(stream_pending(s), want));
    stream_consume(s, want.n);
}

static void say(struct stream *s, const char *text)
{
    CHECK_IS(stream_put(s, str_of(text)), 0);
    CHECK_IS(stream_flush(s, soon()), 0);
}

static void talk(struct stream *s)
{
    char name[NET_ADDR_TEXT_MAX];
    struct net_addr peer;

    CHECK(stream_is_tls(s));
    expect(s, "EHLO\r\n");
    say(s, "250 hello\r\n");
    stream_peer(s, &peer);
    CHECK(strlen(net_addr_format(&peer, name)) > 0);
    expect(s, "QUIT\r\n");
    CHECK(s->in.p == NULL && s->out.p == NULL);
    CHECK_IS(stream_put(s, STR("221 bye\r\n")), 0);
    CHECK_IS(stream_shutdown(s, soon()), 0);
}

static void one_session(make_fn *make, int version, const char *protocol)
{
    struct tls_context *client = client_context(true);
    struct server       server = { .context = server_context("good"), .result = 1, .then = talk };
    struct task_group   group;
    struct stream      *s;

    (void)SSL_CTX_set_max_proto_version(tls_context_ssl(client), version);
    make(&s, &server.stream);
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
    CHECK_IS(stream_tls_connect(s, client, "mx.example", soon()), 0);
    CHECK(stream_is_tls(s));
    CHECK(strcmp(stream_tls_protocol(s), protocol) == 0);
    CHECK(strlen(stream_tls_cipher(s)) > 0);
    CHECK(stream_tls_bits(s) >= 128);
    CHECK(strcmp(stream_tls_error(s), "") == 0);
    say(s, "EHLO\r\n");
    expect(s, "250 hello\r\n");
    CHECK(s->in.p == NULL && s->out.p == NULL);
    say(s, "QUIT\r\n");
    expect(s, "221 bye\r\n");
    CHECK_IS(stream_fill(s, soon()), 0);
    CHECK_IS(stream_fill(s, soon()), 0);
    CHECK_IS(stream_shutdown(s, soon()), 0);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    CHECK_IS(server.result, 0);
    stream_close(s);
    tls_unref(server.context);
    tls_unref(client);
}

static void sessions_task(void *arg)
{
    (void)arg;
    one_session(make_memory, TLS1_3_VERSION, "TLSv1.3");
    one_session(make_tcp, TLS1_3_VERSION, "TLSv1.3");
    one_session(make_memory, TLS1_2_VERSION, "TLSv1.2");
    one_session(make_tcp, TLS1_2_VERSION, "TLSv1.2");
}

static void test_sessions(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, sessions_task, NULL), 0);
}

/* Who is believed, and in which words not. */
static void verification_task(void *arg)
{
    static const struct {
        const char *server, *name;
        bool verify;
        const char *words;           /* the client's; NULL: believed */
    } cases[] = {
        { "good",     "mx.example",        true,  NULL                                   },
        { "good",     "MX.Example",        true,  NULL                                   },
        { "good",     "a.wild.example",    true,  NULL                                   },
        { "good",     "127.0.0.1",         true,  NULL                                   },
        { "good",     "127.0.0.2",         true,  "IP address mismatch"                  },
        { "good",     "a.b.wild.example",  true,  "hostname mismatch"                    },
        { "good",     "mx.example.net",    true,  "hostname mismatch"                    },
        { "good",     "good",              true,  "hostname mismatch"                    },   /* with a SAN the CN counts for nothing */
        { "good",     NULL,                true,  "no name to verify"                    },
        { "old",      "mx.example",        true,  "certificate has expired"              },
        { "early",    "mx.example",        true,  "certificate is not yet valid"         },
        { "self",     "mx.example",        true,  "self-signed certificate"              },
        { "stranger", "mx.example",        true,  "unable to get local issuer"           },
        { "self",     "mx.example",        false, NULL                                   },
        { "old",      "elsewhere.example", false, NULL                                   },
        { "good",     NULL,                false, NULL                                   },
    };

    (void)arg;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tls_context *client = client_context(cases[i].verify);
        struct server       server = { .context = server_context(cases[i].server), .result = 1 };
        struct task_group   group;
        struct stream      *s;

        make_memory(&s, &server.stream);
        task_group_init(&group);
        CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
        int r = stream_tls_connect(s, client, cases[i].name, soon());
        if (r != (cases[i].words == NULL ? 0 : -EPROTO) || (r < 0 && strstr(stream_tls_error(s), cases[i].words) == NULL)) {
            fprintf(stderr, "%s as %s: %d, %s\n", cases[i].server, cases[i].name, r, stream_tls_error(s));
            abort();
        }
        if (r < 0) {
            CHECK(!stream_is_tls(s));
            CHECK_IS(stream_fill(s, soon()), -EPROTO);
            CHECK_IS(stream_put(s, STR("x")), -EPROTO);
            CHECK_IS(stream_flush(s, soon()), -EPROTO);
        } else {
            CHECK_IS(stream_shutdown(s, soon()), 0);
        }
        stream_close(s);
        CHECK_IS(task_group_wait(&group, soon()), 0);
        if (r < 0)
            CHECK(server.result == -EPROTO && strlen(server.words) > 0);
        else
            CHECK_IS(server.result, 0);
        tls_unref(server.context);
        tls_unref(client);
    }
}

static void test_verification(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, verification_task, NULL), 0);
}

/* STARTTLS: what was sent in plain text after the command, or after the 220, was perhaps not sent by the peer. */
static void expect_only_tls(struct stream *s)
{
    CHECK_IS(stream_pending(s).n, 0);
    expect(s, "EHLO\r\n");
    CHECK_IS(stream_pending(s).n, 0);
    say(s, "250 under TLS\r\n");
    CHECK_IS(stream_shutdown(s, soon()), 0);
}

static void starttls_task(void *arg)
{
    struct tls_context *client = client_context(true);
    struct server       server = { .context = server_context("good"), .result = 1, .then = expect_only_tls };
    struct task_group   group;
    struct stream      *s;

    (void)arg;
    make_tcp(&s, &server.stream);
    say(s, "STARTTLS\r\nMAIL FROM:<evil@example>\r\n");
    expect(server.stream, "STARTTLS\r\n");
    CHECK(stream_pending(server.stream).n > 0);
    say(server.stream, "220 go\r\n250 injected\r\n");
    expect(s, "220 go\r\n");
    CHECK(stream_pending(s).n > 0);
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
    CHECK_IS(stream_put(s, STR("")), 0);
    CHECK_IS(stream_tls_connect(s, client, "mx.example", soon()), 0);
    CHECK_IS(stream_pending(s).n, 0);
    say(s, "EHLO\r\n");
    expect(s, "250 under TLS\r\n");
    stream_close(s);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    CHECK_IS(server.result, 0);
    tls_unref(server.context);
    tls_unref(client);
}

static void test_starttls_forgets(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, starttls_task, NULL), 0);
}

/* Handshakes that come to nothing. */
static void broken_handshakes_task(void *arg)
{
    struct tls_context *context = server_context("good"), *client = client_context(false);
    struct stream      *a, *b;
    struct server       server = { .context = context, .result = 1 };
    struct task_group   group;

    (void)arg;
    task_group_init(&group);

    /* Plain text where a ClientHello should be. */
    make_memory(&a, &b);
    say(a, "EHLO who.is.this\r\nMAIL FROM:<>\r\n");
    CHECK_IS(stream_tls_accept(b, context, soon()), -EPROTO);
    CHECK(strlen(stream_tls_error(b)) > 0 && strstr(stream_tls_error(b), "reason") == NULL);
    CHECK(!stream_is_tls(b));
    CHECK_IS(stream_shutdown(b, soon()), -EPROTO);
    stream_close(a);
    stream_close(b);

    /* Nothing at all, until the deadline. */
    make_memory(&a, &b);
    CHECK_IS(stream_tls_accept(b, context, task_deadline_in(5 * NS_PER_MS)), -ETIMEDOUT);
    CHECK_IS(stream_fill(b, soon()), -ETIMEDOUT);
    stream_close(b);
    stream_close(a);

    /* The peer goes away in the middle. */
    make_tcp(&a, &b);
    say(a, "\x16\x03\x01");
    stream_close(a);
    CHECK_IS(stream_tls_accept(b, context, soon()), -EPROTO);
    CHECK(strstr(stream_tls_error(b), "closed") != NULL || strstr(stream_tls_error(b), "eof") != NULL);
    stream_close(b);

    /* It resets the connection: the transport's own error, and words all the same. */
    make_tcp(&a, &b);
    say(b, "unread");
    stream_close(a);
    CHECK_IS(stream_tls_accept(b, context, soon()), -ECONNRESET);
    CHECK(strlen(stream_tls_error(b)) > 0);
    stream_close(b);

    /* Cancelled. */
    make_memory(&a, &server.stream);
    CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
    CHECK_IS(task_sleep(NS_PER_MS), 0);
    task_group_cancel(&group);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    CHECK_IS(server.result, -ECANCELED);
    stream_close(a);

    tls_unref(client);
    tls_unref(context);
}

static void test_broken_handshakes(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, broken_handshakes_task, NULL), 0);
}

/* -- sessions taken up again, and what binds them ---------------------------------------------------------------------------------- */

static uint8_t     server_binding[STREAM_TLS_BINDING_MAX];
static size_t      server_binding_n;
static const char *server_binding_type;
static char        server_named[64];
static bool        server_resumed;

static void note_and_talk(struct stream *s)
{
    server_binding_n = stream_tls_binding(s, &server_binding_type, server_binding);
    server_resumed = stream_tls_resumed(s);
    (void)snprintf(server_named, sizeof server_named, "%s", stream_tls_name(s));
    talk(s);
}

/* One session; whether it was one taken up again. */
static bool visit_within(struct tls_context *client, struct tls_context *context, const char *name, const char *within, make_fn *make)
{
    struct server     server = { .context = context, .result = 1, .then = note_and_talk };
    struct task_group group;
    struct stream    *s;
    uint8_t           binding[STREAM_TLS_BINDING_MAX];
    const char       *type = "";

    make(&s, &server.stream);
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
    CHECK_IS(stream_tls_connect_within(s, client, name, within, soon()), 0);
    bool resumed = stream_tls_resumed(s);
    say(s, "EHLO\r\n");
    expect(s, "250 hello\r\n");
    size_t n = stream_tls_binding(s, &type, binding);
    CHECK_IS(resumed, server_resumed);
    CHECK(strcmp(server_named, name != NULL ? name : "") == 0);
    /* A server of TLS 1.2 does not know which certificate the client of an old session has seen. */
    if (server_binding_n > 0 || !resumed) {
        CHECK(n == server_binding_n && n > 0 && memcmp(binding, server_binding, n) == 0);
        CHECK(strcmp(type, server_binding_type) == 0);
        CHECK(strcmp(type, strcmp(stream_tls_protocol(s), "TLSv1.3") == 0 ? "tls-exporter" : "tls-server-end-point") == 0);
    }
    say(s, "QUIT\r\n");
    expect(s, "221 bye\r\n");
    stream_close(s);                     /* without a word, as mail clients do: the session is as good as before */
    CHECK_IS(task_group_wait(&group, soon()), 0);
    CHECK_IS(server.result, 0);
    return resumed;
}

static bool visit(struct tls_context *client, struct tls_context *context, const char *name, make_fn *make)
{
    return visit_within(client, context, name, NULL, make);
}

static void resumption(int version, bool verify)
{
    struct tls_context *client = client_context(verify), *stranger = client_context(verify);
    struct tls_context *context = server_context("good"), *later = server_context("good");

    (void)SSL_CTX_set_max_proto_version(tls_context_ssl(client), version);
    CHECK(!visit(client, context, "mx.example", make_memory));
    for (int i = 0; i < 3; i++)
        CHECK(visit(client, context, "mx.example", make_memory));
    CHECK(!visit(client, context, "a.wild.example", make_memory));      /* another name: nothing was verified for it */
    CHECK(!visit_within(client, context, "mx.example", "example", make_memory));     /* nor for another domain */
    CHECK(!visit(client, context, "mx.example", make_tcp));             /* and another address */
    CHECK(!visit(stranger, context, "mx.example", make_memory));        /* sessions are a context's */
    CHECK(visit(client, later, "mx.example", make_memory));             /* new certificates cost nobody a whole handshake */
    tls_unref(client);
    tls_unref(stranger);
    tls_unref(context);
    tls_unref(later);
}

/* Servers are many, and some have more in mind than to be quick: what each may leave in our memory has a limit. */
static void no_room_for(int version)
{
    struct tls_context *client = client_context(false), *context;
    char                names[20000] = "DNS:mx.example", words[256];

    for (int i = 0; i < 600; i++)
        (void)snprintf(names + strlen(names), 32, ",DNS:a-long-name-%03d.example", i);
    struct test_identity id = test_identity_new("large", names, false, NULL);
    test_identity_write(&id, top, "large.crt", "large.key");
    test_identity_free(&id);
    CHECK_IS(server_new(in_top("large.crt"), in_top("large.key"), &context, words), 0);
    (void)SSL_CTX_set_max_proto_version(tls_context_ssl(client), version);
    for (int i = 0; i < 2; i++)
        CHECK(!visit(client, context, "mx.example", make_memory));
    tls_unref(client);
    tls_unref(context);
}

static void resumption_task(void *arg)
{
    (void)arg;
    no_room_for(TLS1_3_VERSION);
    no_room_for(TLS1_2_VERSION);
    resumption(TLS1_3_VERSION, false);
    resumption(TLS1_3_VERSION, true);
    resumption(TLS1_2_VERSION, false);
    resumption(TLS1_2_VERSION, true);
}

static void test_resumption(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, resumption_task, NULL), 0);
}

/* -- certificates by name and kind ------------------------------------------------------------------------------------------------- */

/* The common name of the certificate that a client gets who can check these signatures; TLS 1.2 and 1.3 alike. */
static void shown(struct tls_context *context, const char *name, const char *sigalgs, int version, char out[64])
{
    struct tls_context *client = client_context(false);
    struct server       server = { .context = context, .result = 1 };
    struct task_group   group;
    struct stream      *s;

    CHECK_IS(SSL_CTX_set1_sigalgs_list(tls_context_ssl(client), sigalgs), 1);
    (void)SSL_CTX_set_max_proto_version(tls_context_ssl(client), version);
    make_memory(&s, &server.stream);
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
    strcpy(out, "none");
    if (stream_tls_connect(s, client, name, soon()) == 0) {
        X509 *cert = SSL_get1_peer_certificate(tls_stream_ssl(s));
        (void)X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, out, 64);
        X509_free(cert);
    }
    stream_close(s);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    tls_unref(client);
}

#define ANY "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256"
#define RSA_ONLY "RSA-PSS+SHA256:RSA+SHA256"
#define EC_ONLY "ECDSA+SHA256"

static void names_task(void *arg)
{
    static const struct { const char *stem, *names; bool rsa; } made[] = {
        { "first-rsa", "DNS:mx.example",                          true  },
        { "first-ec",  "DNS:mx.example,DNS:second.example",       false },
        { "wild-ec",   "DNS:*.wild.example",                      false },
        { "one-rsa",   "DNS:one.wild.example,DNS:second.example", true  },
        { "late-ec",   "DNS:MX.Example",                          false },   /* the name has one of this kind already */
    };
    static const struct { const char *name, *sigalgs, *shown; } cases[] = {
        { "mx.example",       ANY,      "first-ec"  },
        { "mx.example",       RSA_ONLY, "first-rsa" },
        { "MX.example",       EC_ONLY,  "first-ec"  },
        { NULL,               ANY,      "first-ec"  },
        { NULL,               RSA_ONLY, "first-rsa" },
        { "nobody.example",   RSA_ONLY, "first-rsa" },
        { "second.example",   ANY,      "first-ec"  },
        { "second.example",   RSA_ONLY, "one-rsa"   },
        { "a.wild.example",   ANY,      "wild-ec"   },
        { "a.wild.example",   RSA_ONLY, "none"      },
        { "one.wild.example", RSA_ONLY, "one-rsa"   },
        { "one.wild.example", ANY,      "wild-ec"   },   /* the kind that it has no certificate of its own for */
        { "a.b.wild.example", ANY,      "first-ec"  },
    };
    struct tls_pair     pairs[5];
    struct tls_context *c;
    char                files[5][2][128], words[256], got[64];

    (void)arg;
    for (size_t i = 0; i < 5; i++) {
        struct test_identity id = test_identity_new(made[i].stem, made[i].names, made[i].rsa, NULL);
        char                 name[2][24];
        (void)snprintf(name[0], sizeof name[0], "%s.crt", made[i].stem);
        (void)snprintf(name[1], sizeof name[1], "%s.key", made[i].stem);
        test_identity_write(&id, top, name[0], name[1]);
        for (size_t j = 0; j < 2; j++)
            (void)snprintf(files[i][j], sizeof files[i][j], "%s", in_top(name[j]));
        pairs[i] = (struct tls_pair){ files[i][0], files[i][1] };
        test_identity_free(&id);
    }
    CHECK_IS(tls_server_new(&(struct tls_server_options){ .pairs = pairs, .count = 5 }, &c, words), 0);
    CHECK_IS(tls_server_expires_s(c), 2208988800);            /* 2040-01-01 */
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        shown(c, cases[i / 2].name, cases[i / 2].sigalgs, i % 2 == 0 ? TLS1_3_VERSION : TLS1_2_VERSION, got);
        if (strcmp(got, cases[i / 2].shown) != 0) {
            fprintf(stderr, "%s with %s: %s\n", cases[i / 2].name, cases[i / 2].sigalgs, got);
            abort();
        }
    }
    tls_unref(c);
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, names_task, NULL), 0);
}

/* What an operator may ask for, and what is no protection. */
static void test_rules(void **state)
{
    static const struct { const char *ciphers; int result; } cases[] = {
        { "ECDHE+AESGCM:ECDHE-RSA-AES256-SHA", 0    },   /* old clients, if it must be */
        { "ECDHE+AESGCM:AES256-SHA",        -EINVAL },   /* but the keeper only signs */
        { "DHE-RSA-AES256-GCM-SHA384",      -EINVAL },
        { "aNULL",                          -EINVAL },
        { "AECDH-AES128-SHA:@SECLEVEL=0",   -EINVAL },   /* signed by nobody */
        { "ECDHE-RSA-NULL-SHA:@SECLEVEL=0", -EINVAL },   /* nor hidden from anybody */
        { "ALL:eNULL:@SECLEVEL=0",          -EINVAL },
        { "DES-CBC3-SHA:RC4-SHA",           -EINVAL },
        { "no such cipher",                 -EINVAL },
    };
    struct tls_pair     pair = { in_top("good.crt"), in_top("good.key") };
    struct tls_context *c;
    char                words[256];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tls_server_options options = { .pairs = &pair, .count = 1, .ciphers = cases[i].ciphers };
        int r = tls_server_new(&options, &c, words);
        if (r != cases[i].result)
            fail_msg("%s: %d %s", cases[i].ciphers, r, r < 0 ? words : "");
        if (r == 0)
            tls_unref(c);
    }
    assert_int_equal(tls_server_new(&(struct tls_server_options){ .count = 0 }, &c, words), -EINVAL);
    struct test_identity weak = test_identity_new("weak", "DNS:weak.example", false, NULL);
    EVP_PKEY_free(weak.key);
    weak.key = EVP_RSA_gen(1024);
    test_identity_write(&weak, top, "weak.crt", "weak.key");
    test_identity_free(&weak);
    assert_int_equal(server_new(in_top("good.crt"), in_top("weak.key"), &c, words), -EINVAL);
    assert_non_null(strstr(words, "2048 bits"));
    struct test_identity edwards = test_identity_new("edwards", "DNS:edwards.example", false, NULL);
    EVP_PKEY_free(edwards.key);
    edwards.key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    test_identity_write(&edwards, top, "edwards.crt", "edwards.key");
    test_identity_free(&edwards);
    assert_int_equal(server_new(in_top("good.crt"), in_top("edwards.key"), &c, words), -EINVAL);
    assert_non_null(strstr(words, "Ed25519"));
}

/* A peer that closes without close_notify, as many do: the end of input. */
static void just_close(struct stream *s)
{
    say(s, "220 x\r\n");
}

static void no_close_notify_task(void *arg)
{
    struct tls_context *client = client_context(false);
    struct server       server = { .context = server_context("good"), .then = just_close };
    struct task_group   group;
    struct stream      *s;

    (void)arg;
    make_tcp(&s, &server.stream);
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
    CHECK_IS(stream_tls_connect(s, client, NULL, soon()), 0);
    expect(s, "220 x\r\n");
    CHECK_IS(stream_fill(s, soon()), 0);
    CHECK_IS(stream_fill(s, soon()), 0);
    stream_close(s);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    tls_unref(server.context);
    tls_unref(client);
}

static void test_no_close_notify(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, no_close_notify_task, NULL), 0);
}

/* What a server says to the beginning of a message, and closes, is worth more than that it closed: a 552 is no reason to try again. */
static void last_words(make_fn *make, int version)
{
    struct tls_context *client = client_context(false);
    struct server       server = { .context = server_context("good"), .then = just_close };
    struct task_group   group;
    struct stream      *s;
    int                 r = 0;

    CHECK(SSL_CTX_set_max_proto_version(tls_context_ssl(client), version) == 1);
    make(&s, &server.stream);
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
    CHECK_IS(stream_tls_connect(s, client, NULL, soon()), 0);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    for (int i = 0; i < 1000 && r == 0; i++) {
        CHECK_IS(stream_put(s, STR("more of the message\r\n")), 0);
        r = stream_flush(s, soon());
        if (r == 0)
            CHECK_IS(task_sleep(NS_PER_MS), 0);
    }
    CHECK(r == -EPIPE || r == -ECONNRESET);
    CHECK_IS(stream_flush(s, soon()), r);
    CHECK(strlen(stream_tls_error(s)) > 0);
    expect(s, "220 x\r\n");
    CHECK_IS(stream_fill(s, soon()), r);
    CHECK_IS(stream_shutdown(s, soon()), r);
    stream_close(s);
    tls_unref(server.context);
    tls_unref(client);
}

static void last_words_task(void *arg)
{
    static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

    (void)arg;
    for (size_t i = 0; i < 2; i++) {
        last_words(make_memory, versions[i]);
        last_words(make_tcp, versions[i]);
    }
}

static void test_last_words(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, last_words_task, NULL), 0);
}

/* Much, in small pieces, both ways. */

#define TRANSFER (8u * 1024 * 1024)

static uint8_t byte_at(uint32_t i)
{
    return (uint8_t)(i * 2654435761u >> 24);
}

static void send_all(struct stream *s)
{
    static char block[40000];        /* one sender at a time */

    for (uint32_t i = 0, n; i < TRANSFER; i += n) {
        n = i % 97 == 0 ? 33333 : 1 + i % 1777;
        n = n < TRANSFER - i ? n : TRANSFER - i;
        for (uint32_t j = 0; j < n; j++)
            block[j] = (char)byte_at(i + j);
        CHECK_IS(stream_put(s, (struct str){ block, n }), 0);
    }
    CHECK_IS(stream_flush(s, soon()), 0);
}

static void receive_all(struct stream *s)
{
    uint32_t i = 0;

    while (i < TRANSFER) {
        CHECK(stream_fill(s, soon()) > 0);
        struct str got = stream_pending(s);
        for (size_t j = 0; j < got.n; j++)
            CHECK((uint8_t)got.p[j] == byte_at(i + (uint32_t)j));
        i += (uint32_t)got.n;
        stream_consume(s, got.n);
    }
    CHECK_IS(i, TRANSFER);
}

static void receive_then_send(struct stream *s)
{
    receive_all(s);
    send_all(s);
    CHECK_IS(stream_shutdown(s, soon()), 0);
}

static void transfer(make_fn *make)
{
    struct tls_context *client = client_context(false);
    struct server       server = { .context = server_context("good"), .then = receive_then_send };
    struct task_group   group;
    struct stream      *s;

    make(&s, &server.stream);
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
    CHECK_IS(stream_tls_connect(s, client, NULL, soon()), 0);
    send_all(s);
    receive_all(s);
    CHECK_IS(stream_shutdown(s, soon()), 0);
    stream_close(s);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    tls_unref(server.context);
    tls_unref(client);
}

static void transfer_task(void *arg)
{
    (void)arg;
    transfer(make_memory);
    transfer(make_tcp);
}

static void test_transfer(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, transfer_task, NULL), 0);
}

/* A seed decides every byte on the wire: a tap below TLS hashes what passes. */

struct tap {
    struct transport  base;
    struct transport *below;
};

static uint64_t tap_hash;

static void tap_note(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tap_hash = (tap_hash ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
}

static ssize_t tap_read(struct transport *t, void *p, size_t n)
{
    ssize_t r = ((struct tap *)t)->below->ops->read(((struct tap *)t)->below, p, n);

    if (r > 0)
        tap_note(p, (size_t)r);
    return r;
}

static ssize_t tap_write(struct transport *t, const void *p, size_t n)
{
    ssize_t r = ((struct tap *)t)->below->ops->write(((struct tap *)t)->below, p, n);

    if (r > 0)
        tap_note(p, (size_t)r);
    return r;
}

static int tap_wait_readable(struct transport *t, int64_t deadline_ns)
{
    return ((struct tap *)t)->below->ops->wait_readable(((struct tap *)t)->below, deadline_ns);
}

static int tap_wait_writable(struct transport *t, int64_t deadline_ns)
{
    return ((struct tap *)t)->below->ops->wait_writable(((struct tap *)t)->below, deadline_ns);
}

static int tap_shut_write(struct transport *t)
{
    return ((struct tap *)t)->below->ops->shut_write(((struct tap *)t)->below);
}

static void tap_close(struct transport *t)
{
    ((struct tap *)t)->below->ops->close(((struct tap *)t)->below);
    free(t);
}

static const struct transport_ops tap_ops = {
    .read = tap_read,
    .write = tap_write,
    .wait_readable = tap_wait_readable,
    .wait_writable = tap_wait_writable,
    .shut_write = tap_shut_write,
    .close = tap_close,
};

static uint64_t random_state;

static uint64_t next_random(void)
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t fixed_mono(void *self)
{
    static int64_t now = 1000000000;

    (void)self;
    return now++;
}

static int64_t fixed_wall(void *self)
{
    return *(int64_t *)self;
}

static void fixed_random(void *self, void *out, size_t n)
{
    (void)self;
    memset(out, 4, n);
}

static void seeded_talk(struct stream *s)
{
    expect(s, "EHLO\r\n");
    say(s, "250 hello\r\n");
    CHECK_IS(stream_shutdown(s, soon()), 0);
}

static void seeded_task(void *arg)
{
    uint64_t           *seed = arg;
    struct server       server = { .result = 1, .then = seeded_talk };
    struct task_group   group;
    struct stream      *s;

    random_state = *seed;
    sim_tls_begin(next_random);
    server.context = server_context("good");
    struct tls_context *client = client_context(true);
    make_memory(&s, &server.stream);
    struct tap *tap = calloc(1, sizeof *tap);
    *tap = (struct tap){ .base.ops = &tap_ops, .below = s->transport };
    s->transport = &tap->base;
    tap_hash = 0xcbf29ce484222325u;
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
    CHECK_IS(stream_tls_connect(s, client, "mx.example", soon()), 0);
    say(s, "EHLO\r\n");
    expect(s, "250 hello\r\n");
    CHECK_IS(stream_shutdown(s, soon()), 0);
    stream_close(s);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    CHECK_IS(server.result, 0);
    tls_unref(server.context);
    tls_unref(client);
    sim_tls_end();
}

static uint64_t wire_hash(uint64_t seed)
{
    assert_int_equal(loop_run(1, seeded_task, &seed), 0);
    return tap_hash;
}

static void test_seeded(void **state)
{
    (void)state;
    assert_false(sim_tls_active());
    uint64_t first = wire_hash(7);
    uint64_t again = wire_hash(7);
    uint64_t other = wire_hash(8);
    assert_int_equal(first, again);
    assert_int_not_equal(first, other);
    if (getenv("TLS_TEST_SHOW") != NULL)
        printf("%016llx\n", (unsigned long long)first);
}

/* Certificates are judged at the time of clock.h. */
static int verify_result;

static void connect_once_task(void *arg)
{
    struct tls_context *client = client_context(true);
    struct server       server = { .context = server_context("good"), .result = 1 };
    struct task_group   group;
    struct stream      *s;

    (void)arg;
    make_memory(&s, &server.stream);
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "server", server_task, &server), 0);
    verify_result = stream_tls_connect(s, client, "mx.example", TASK_FOREVER);
    stream_close(s);
    CHECK_IS(task_group_wait(&group, TASK_FOREVER), 0);
    tls_unref(server.context);
    tls_unref(client);
}

static void test_clock(void **state)
{
    int64_t wall = clock_wall_ns() + 400 * 86400 * NS_PER_S;
    const struct clock_source source = { fixed_mono, fixed_wall, fixed_random, &wall };

    (void)state;
    clock_replace(&source);
    int r = loop_run(1, connect_once_task, NULL);
    clock_replace(NULL);
    assert_int_equal(r, 0);
    assert_int_equal(verify_result, -EPROTO);
    assert_int_equal(loop_run(1, connect_once_task, NULL), 0);
    assert_int_equal(verify_result, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_verification),
        cmocka_unit_test(test_starttls_forgets),
        cmocka_unit_test(test_broken_handshakes),
        cmocka_unit_test(test_no_close_notify),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_transfer),
        cmocka_unit_test(test_seeded),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
