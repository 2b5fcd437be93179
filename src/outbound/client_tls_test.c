/*
 * TLS of the connections we make, with servers of every kind, in the simulated world: who is spoken to in plain text, who only under
 * TLS, and who not at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "outbound/client.h"
#include "outbound/test_scene.h"
#include "run/stream.h"
#include "run/tls_test_scene.h"

#define SERVER  "192.0.2.1:25"
#define EHLO    "250-fake.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"
#define PRIVATE "250-fake.example\r\n250 8BITMIME\r\n"
#define BARE    "250-fake.example\r\n250 PIPELINING\r\n"
#define GO      "220 go\r\n"

enum shake { SHAKE, HANG_UP, BABBLE, SHAKE_AND_HANG_UP, STAY_SILENT };

struct tls_case {
    const char *name;
    const char *ehlo, *starttls;         /* what it says in plain text */
    enum shake  shake;
    enum conf_client_tls level;
    const char *host;
    const char *expected;                /* "private", "plain", or the status of the failure */
    unsigned    connections;
    bool        helo_only;               /* under TLS it knows no EHLO */
    const char *domain;                  /* of the recipients; NULL: not told */
    bool        lmtp;
};

// clang-format off
static const struct tls_case cases[] = {
    /* name                              ehlo  STARTTLS               then               level                     as            result     connections */
    { "a good server",                   EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_MAY,     "fake.example", "private", 1 },
    { "and none is asked for",           EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_NONE,    "fake.example", "plain",   1 },
    { "a name of its own choice",        EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_MAY,     "x.example",    "private", 1 },
    { "encrypt checks no name",          EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_ENCRYPT, "x.example",    "private", 1 },
    { "verify does",                     EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_VERIFY,  "x.example",    "4.7.5",   1 },
    { "verify",                          EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_VERIFY,  "fake.example", "private", 1 },
    { "verify an address",               EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_VERIFY,  "[192.0.2.1]",  "private", 1 },
    { "verify another address",          EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_VERIFY,  "[192.0.2.2]",  "4.7.5",   1 },
    { "not offered",                     BARE, GO,                    SHAKE,             CONF_CLIENT_TLS_MAY,     "fake.example", "plain",   1 },
    { "not offered, and must",           BARE, GO,                    SHAKE,             CONF_CLIENT_TLS_ENCRYPT, "fake.example", "4.7.4",   1 },
    { "offered, and not now",            EHLO, "454 4.7.0 no\r\n",    SHAKE,             CONF_CLIENT_TLS_MAY,     "fake.example", "plain",   1 },
    { "offered, not now, and must",      EHLO, "454 4.7.0 no\r\n",    SHAKE,             CONF_CLIENT_TLS_ENCRYPT, "fake.example", "4.7.0",   1 },
    { "offered, never, and must",        EHLO, "501 5.5.4 no\r\n",    SHAKE,             CONF_CLIENT_TLS_VERIFY,  "fake.example", "4.3.2",   1 },
    { "421 to STARTTLS",                 EHLO, "421 4.3.2 bye\r\n",   SHAKE,             CONF_CLIENT_TLS_MAY,     "fake.example", "4.3.2",   1 },
    { "no answer to STARTTLS",           EHLO, NULL,                  HANG_UP,           CONF_CLIENT_TLS_MAY,     "fake.example", "plain",   2 },
    { "no answer to STARTTLS, and must", EHLO, NULL,                  HANG_UP,           CONF_CLIENT_TLS_ENCRYPT, "fake.example", "4.7.5",   1 },
    { "a handshake cut off",             EHLO, GO,                    HANG_UP,           CONF_CLIENT_TLS_MAY,     "fake.example", "plain",   2 },
    { "a handshake cut off, and must",   EHLO, GO,                    HANG_UP,           CONF_CLIENT_TLS_ENCRYPT, "fake.example", "4.7.5",   1 },
    { "a handshake of rubbish",          EHLO, GO,                    BABBLE,            CONF_CLIENT_TLS_MAY,     "fake.example", "plain",   2 },
    { "a handshake of rubbish, must",    EHLO, GO,                    BABBLE,            CONF_CLIENT_TLS_VERIFY,  "fake.example", "4.7.5",   1 },
    { "no handshake",                    EHLO, GO,                    STAY_SILENT,       CONF_CLIENT_TLS_MAY,     "fake.example", "plain",   2 },
    { "no handshake, and must",          EHLO, GO,                    STAY_SILENT,       CONF_CLIENT_TLS_ENCRYPT, "fake.example", "4.7.5",   1 },
    { "nothing under TLS",               EHLO, GO,                    SHAKE_AND_HANG_UP, CONF_CLIENT_TLS_MAY,     "fake.example", "plain",   2 },
    { "nothing under TLS, and must",     EHLO, GO,                    SHAKE_AND_HANG_UP, CONF_CLIENT_TLS_ENCRYPT, "fake.example", "4.4.2",   1 },
    /* Somebody between us puts the answer to the next EHLO before the handshake (CVE-2021-38371). */
    { "an injected reply",               EHLO, GO "250-x\r\n250 X\r\n", SHAKE,           CONF_CLIENT_TLS_MAY,     "fake.example", "4.7.5",   1 },
    { "an injected byte",                EHLO, GO "2",                SHAKE,             CONF_CLIENT_TLS_MAY,     "fake.example", "4.7.5",   1 },
    { "an injected reply, and must",     EHLO, GO "250 X\r\n",        SHAKE,             CONF_CLIENT_TLS_VERIFY,  "fake.example", "4.7.5",   1 },
    { "HELO only, under TLS",            EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_MAY,     "fake.example", "private", 1, true },
    /* Whatever name the DNS gave us: the certificate must be the domain's. */
    { "secure",                          EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "x.example",    "private", 1, .domain = "fake.example" },
    { "secure, a name below",            EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "x.example",    "private", 1, .domain = "example" },
    { "secure, by a wildcard",           EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "x.example",    "private", 1, .domain = "wild.example" },
    { "secure, and half a label",        EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "fake.example", "4.7.5",   1, .domain = "ake.example" },
    { "secure, and the server's only",   EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "fake.example", "4.7.5",   1, .domain = "b.example" },
    { "secure, and above it",            EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "fake.example", "4.7.5",   1, .domain = "mx.fake.example" },
    { "secure, an address",              EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "[192.0.2.1]",  "private", 1, .domain = "[192.0.2.1]" },
    { "secure, another address",         EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "[192.0.2.2]",  "4.7.5",   1, .domain = "[192.0.2.2]" },
    { "secure, a relay host",            EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "fake.example", "private", 1 },
    { "secure, another relay host",      EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "x.example",    "4.7.5",   1 },
    { "secure, and not offered",         BARE, GO,                    SHAKE,             CONF_CLIENT_TLS_SECURE,  "fake.example", "4.7.4",   1, .domain = "fake.example" },
    /* The server of our mailboxes, by LMTP (RFC 2033): it hears LHLO before and behind the handshake. */
    { "LMTP",                            EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_MAY,     "fake.example", "private", 1, .lmtp = true },
    { "LMTP, none asked for",            EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_NONE,    "fake.example", "plain",   1, .lmtp = true },
    { "LMTP, not offered",               BARE, GO,                    SHAKE,             CONF_CLIENT_TLS_MAY,     "fake.example", "plain",   1, .lmtp = true },
    { "LMTP, a handshake cut off",       EHLO, GO,                    HANG_UP,           CONF_CLIENT_TLS_MAY,     "fake.example", "plain",   2, .lmtp = true },
    { "LMTP, and must",                  EHLO, GO,                    HANG_UP,           CONF_CLIENT_TLS_ENCRYPT, "fake.example", "4.7.5",   1, .lmtp = true },
    { "LMTP, an injected reply",         EHLO, GO "250 X\r\n",        SHAKE,             CONF_CLIENT_TLS_MAY,     "fake.example", "4.7.5",   1, .lmtp = true },
    { "verify, the domain's only",       EHLO, GO,                    SHAKE,             CONF_CLIENT_TLS_VERIFY,  "x.example",    "4.7.5",   1, .domain = "fake.example" },
};
// clang-format on

struct scene {
    const struct tls_case *c;
    bool                   implicit;
    unsigned               connections;
    char                   got[64];
};

/* -- a server ---------------------------------------------------------------------------------------------------------------- */

static struct tls_context *server_context;

static bool hear(struct stream *s, const char *verb)
{
    for (;;) {
        struct str pending = stream_pending(s), line, rest;
        if (str_cut(pending, '\n', &line, &rest)) {
            bool said = str_starts(line, str_of(verb));
            stream_consume(s, line.n + 1);
            return said;
        }
        if (stream_fill(s, TASK_FOREVER) <= 0)
            return false;
    }
}

static void say(struct stream *s, const char *text)
{
    if (stream_put(s, str_of(text)) == 0)
        (void)stream_flush(s, TASK_FOREVER);
}

static bool shake(struct stream *s, const struct tls_case *c)
{
    switch (c->shake) {
    case SHAKE: return stream_tls_accept(s, server_context, TASK_FOREVER) == 0;
    case SHAKE_AND_HANG_UP: (void)stream_tls_accept(s, server_context, TASK_FOREVER); return false;
    case BABBLE: say(s, "what do you mean by that?\r\n"); return false;
    case STAY_SILENT: while (stream_fill(s, TASK_FOREVER) > 0) stream_discard_pending(s); return false;
    case HANG_UP: break;
    }
    return false;
}

static void serve(struct stream *s, struct scene *scene)
{
    if (scene->implicit && !shake(s, scene->c))
        return;
    say(s, "220 fake.example\r\n");
    if (!hear(s, scene->c->lmtp ? "LHLO " : "EHLO "))
        return;
    say(s, scene->c->ehlo);
    for (;;) {
        if (hear(s, "STARTTLS")) {
            if (scene->c->starttls == NULL)
                return;
            say(s, scene->c->starttls);
            if (strncmp(scene->c->starttls, "220", 3) != 0)
                continue;
            if (!shake(s, scene->c) || !hear(s, scene->c->lmtp ? "LHLO " : "EHLO "))
                return;
            if (scene->c->helo_only) {
                say(s, "500 5.5.2 what?\r\n");
                if (!hear(s, "HELO "))
                    return;
            }
            say(s, scene->c->helo_only ? "250 fake.example\r\n" : PRIVATE);
            continue;
        }
        say(s, "221 bye\r\n");
        return;
    }
}

static void serve_task(void *arg)
{
    struct scene *scene = arg;
    struct net_listener *listener;
    struct net_addr at, peer;
    struct stream *s;

    assert_true(net_addr_parse(STR(SERVER), 25, &at));
    assert_int_equal(net_listen(&at, false, &listener), 0);
    while (net_accept(listener, TASK_FOREVER, &s, &peer) == 0) {
        scene->connections++;
        serve(s, scene);
        stream_close(s);
    }
    net_listener_close(listener);
}

/* -- a connection ------------------------------------------------------------------------------------------------------------ */

static struct test_identity ca, fake;

static void make_certificates(void)
{
    struct tls_pair pair = { "/fake.pem", "/fake.key" };
    char error[256];

    test_identity_write(&ca, "/", "ca.pem", NULL);
    test_identity_write(&fake, "/", "fake.pem", "fake.key");
    assert_int_equal(tls_server_new(&(struct tls_server_options){ .pairs = &pair, .count = 1 }, &server_context, error), 0);
}

static void describe(struct scene *scene, int r, struct client *c, const struct outcome *failure)
{
    if (r < 0) {
        assert_int_equal(failure->state, RCPT_PENDING);
        assert_true(failure->text.n > 0 && failure->remote.n > 0);
        snprintf(scene->got, sizeof scene->got, "%" STR_FMT, STR_ARG(failure->status));
        return;
    }
    bool private = stream_is_tls(c->stream);
    snprintf(scene->got, sizeof scene->got, "%s", private ? "private" : "plain");
    assert_int_equal(c->verified, private && scene->c->level >= CONF_CLIENT_TLS_VERIFY);
    /* What was announced in plain text counts for nothing afterwards. */
    unsigned announced = scene->c->helo_only ? 0 : CLIENT_8BITMIME;
    assert_true(!private || scene->implicit || (c->extensions == announced && c->size_max == 0 && c->mechanisms == 0));
    assert_true(client_is_alive(c));
    client_close(c);
}

static void connect_task(void *arg)
{
    struct scene *scene = arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct task_group server;
    struct client *c = NULL;
    struct outcome failure = { 0 };
    struct net_addr to;
    struct arena a;

    make_certificates();
    arena_init(&a, 1 << 20);
    conf->outbound_tls_ca_file = "/ca.pem";
    task_group_init(&server);
    assert_int_equal(task_group_start(&server, "server", serve_task, scene), 0);
    (void)task_sleep(NS_PER_MS);
    struct client_security security = { .tls = client_tls_new(), .level = scene->c->level, .implicit = scene->implicit,
                                        .domain = str_of(scene->c->domain) };
    assert_true(net_addr_parse(STR(SERVER), 25, &to));
    int r = client_open(&(struct client_server){ .addr = &to, .host = str_of(scene->c->host), .lmtp = scene->c->lmtp, .security = &security }, conf, &a, &c, &failure);
    describe(scene, r, c, &failure);
    task_group_cancel(&server);
    (void)task_group_wait(&server, TASK_FOREVER);
    client_tls_free(security.tls);
    tls_unref(server_context);
    arena_reset(&a);
    conf_unref(conf);
}

static void play(const struct tls_case *c, bool implicit, uint64_t seed)
{
    struct scene scene = { .c = c, .implicit = implicit };

    sim_begin(&(struct sim_options){ .seed = seed, .latency_min_ns = NS_PER_MS, .latency_max_ns = 20 * NS_PER_MS, .split = seed % 2 == 0 });
    assert_int_equal(sim_run(connect_task, &scene), 0);
    sim_end();
    if (strcmp(scene.got, c->expected) != 0 || scene.connections != c->connections)
        fail_msg("%s (seed %llu): %s on %u connections, not %s on %u", c->name, (unsigned long long)seed, scene.got, scene.connections,
                 c->expected, c->connections);
}

static void the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        /* A split reply arrives in pieces: what is injected behind it may come as rubbish in the handshake. */
        for (uint64_t seed = 1; seed <= 3; seed += 2)
            play(&cases[i], false, seed);
    for (size_t i = 0; i < 16; i++)
        play(&cases[i % 8], false, 2 * i);
}

/* RFC 8314: never in plain text there, whatever the level. */
static void from_the_first_byte(void **state)
{
    static const struct tls_case implicit[] = {
        { "works",             EHLO, GO, SHAKE,       CONF_CLIENT_TLS_MAY,     "fake.example", "private", 1 },
        { "verified",          EHLO, GO, SHAKE,       CONF_CLIENT_TLS_VERIFY,  "fake.example", "private", 1 },
        { "another's name",    EHLO, GO, SHAKE,       CONF_CLIENT_TLS_VERIFY,  "x.example",    "4.7.5",   1 },
        { "cut off",           EHLO, GO, HANG_UP,     CONF_CLIENT_TLS_MAY,     "fake.example", "4.7.5",   1 },
        { "speaks plain text", EHLO, GO, BABBLE,      CONF_CLIENT_TLS_ENCRYPT, "fake.example", "4.7.5",   1 },
        { "silent",            EHLO, GO, STAY_SILENT, CONF_CLIENT_TLS_MAY,     "fake.example", "4.7.5",   1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof implicit / sizeof implicit[0]; i++)
        play(&implicit[i], true, i);
}

static int begin(void **state)
{
    (void)state;
    ca = test_identity_new("Test CA", NULL, false, NULL);
    fake = test_identity_new("fake", "DNS:fake.example,DNS:*.wild.example,IP:192.0.2.1", false, &ca);
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_identity_free(&ca);
    test_identity_free(&fake);
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table),
        cmocka_unit_test(from_the_first_byte),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
