/*
 * outbound/client_auth: conversations with servers of every kind, right and wrong, in the simulated world.
 */
#include "base/codec.h"
#include "base/scram.h"
#include "base/cleanup.h"
#include "lookup/relay_token.h"
#include "outbound/client.h"
#include "outbound/client_auth.h"
#include "outbound/test_scene.h"
#include "run/file.h"
#include "run/https.h"
#include "run/sim.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define P (1u << SASL_PLAIN)
#define L (1u << SASL_LOGIN)
#define S (1u << SASL_SCRAM_SHA_256)

#define B (1u << SASL_OAUTHBEARER)
#define X (1u << SASL_XOAUTH2)

#define LINES_MAX 4

/* What the server is told, and what it says to it; NULL ends. "!" cuts the connection. */
struct talk_case {
    const char *name;
    unsigned    mechanisms;
    bool        secret;                  /* the channel is not private */
    struct { const char *told, *says; } lines[LINES_MAX];
    int         result;
    const char *error;                   /* a part of it */
};

// clang-format off
static const struct talk_case cases[] = {
    { "PLAIN",                   P | L, false, { { "AUTH PLAIN AHRpbQBwZW5jaWw=", "235 2.7.0 ok\r\n" } }, 0, NULL },
    { "LOGIN",                   L,     false, { { "AUTH LOGIN", "334 VXNlcm5hbWU6\r\n" }, { "dGlt", "334 UGFzc3dvcmQ6\r\n" }, { "cGVuY2ls", "235 ok\r\n" } }, 0, NULL },
    { "LOGIN in plain words",    L,     false, { { "AUTH LOGIN", "334 User name?\r\n" }, { "dGlt", "334\r\n" }, { "cGVuY2ls", "235 ok\r\n" } }, 0, NULL },
    { "LOGIN asks a third time", L,     false, { { "AUTH LOGIN", "334 x\r\n" }, { "dGlt", "334 y\r\n" },
                                 { "cGVuY2ls", "334 z\r\n" }, { "*", "501 no\r\n" } }, -EACCES, "asks for more" },
    { "LOGIN believed at once",  L,     false, { { "AUTH LOGIN", "235 ok\r\n" } }, -EACCES, "has not shown" },
    { "refused",                 P,     false, { { "AUTH PLAIN AHRpbQBwZW5jaWw=", "535 5.7.8 wrong\r\n" } }, -EACCES, "535 5.7.8 wrong" },
    { "not now",                 P,     false, { { "AUTH PLAIN AHRpbQBwZW5jaWw=", "454 4.7.0 later\r\n" } }, -EACCES, "454 4.7.0 later" },
    { "PLAIN with a challenge",  P,     false, { { "AUTH PLAIN AHRpbQBwZW5jaWw=", "334 \r\n" }, { "*", "501 no\r\n" } }, -EACCES, "asks for more" },
    { "a challenge not base64",  P,     false, { { "AUTH PLAIN AHRpbQBwZW5jaWw=", "334 what?\r\n" }, { "*", "501 no\r\n" } }, -EACCES, "not base64" },
    { "2xx of another kind",     P,     false, { { "AUTH PLAIN AHRpbQBwZW5jaWw=", "250 ok\r\n" } }, -EBADMSG, NULL },
    { "the connection breaks",   P,     false, { { "AUTH PLAIN AHRpbQBwZW5jaWw=", "!" } }, -EPIPE, NULL },
    { "nothing offered",         0,     false, { { 0 } }, -EACCES, "offers no AUTH" },
    { "tokens only",             X | B, false, { { 0 } }, -EACCES, "no mechanism that we know" },
    { "only in the clear",       P | L, true,  { { 0 } }, -EACCES, "this is not TLS" },
    { "SCRAM believed at once",  S | P, false, { { "AUTH SCRAM-SHA-256 *", "235 ok\r\n" } }, -EACCES, "has not shown" },
    { "SCRAM, a false nonce",    S,     true,  { { "AUTH SCRAM-SHA-256 *", "334 cj1mYWxzZSxzPWMyRnNkQT09LGk9NDA5Ng==\r\n" }, { "*", "501 no\r\n" } }, -EACCES, "nonce" },
    { "SCRAM, no message",       S,     true,  { { "AUTH SCRAM-SHA-256 *", "334 \r\n" }, { "*", "501 no\r\n" } }, -EACCES, "first message" },
};

/* By the token "t.1". */
static const struct talk_case token_cases[] = {
    { "passwords only",          P | L | S, false, { { 0 } }, -EACCES, "no mechanism that we know" },
    { "in the clear",            B | X, true,  { { 0 } }, -EACCES, "this is not TLS" },
    { "XOAUTH2",                 X | P, false, { { "AUTH XOAUTH2 dXNlcj10aW0BYXV0aD1CZWFyZXIgdC4xAQE=", "235 ok\r\n" } }, 0, NULL },
    { "OAUTHBEARER first",       B | X, false, { { "AUTH OAUTHBEARER bixhPXRpbSwBYXV0aD1CZWFyZXIgdC4xAQE=", "235 ok\r\n" } }, 0, NULL },
    { "refused at once",         X,     false, { { "AUTH XOAUTH2 *", "535 5.7.8 no\r\n" } }, -EACCES, "535 5.7.8 no" },
    { "refused with a reason",   X,     false, { { "AUTH XOAUTH2 *", "334 eyJzdGF0dXMiOiI0MDEifQ==\r\n" }, { "", "535 5.7.8 no\r\n" } }, -EACCES, "535 5.7.8 no" },
    { "bearer with a reason",    B,     false, { { "AUTH OAUTHBEARER *", "334 eyJzdGF0dXMiOiI0MDEifQ==\r\n" }, { "AQ==", "535 5.7.8 no\r\n" } }, -EACCES, "535 5.7.8 no" },
    { "refused, and welcome",    X,     false, { { "AUTH XOAUTH2 *", "334 \r\n" }, { "", "235 ok\r\n" } }, -EACCES, "has not shown" },
    { "reasons without end",     X,     false, { { "AUTH XOAUTH2 *", "334 \r\n" }, { "", "334 \r\n" }, { "*", "501 no\r\n" } }, -EACCES, "asks for more" },
    { "a reason not base64",     B,     false, { { "AUTH OAUTHBEARER *", "334 {}\r\n" }, { "*", "501 no\r\n" } }, -EACCES, "not base64" },
};
// clang-format on

struct play {
    const struct talk_case *c;
    size_t                  at;
    struct smtp_reply       reply;
    bool                    wrong;
};

static void hear(struct smtp_reply *reply, const char *words)
{
    size_t consumed;

    smtp_reply_clear(reply);
    assert_int_equal(smtp_parse_reply(str_of(words), &consumed, reply), REPLY_DONE);
}

static int say(void *arg, struct str line)
{
    struct play *p = arg;
    const char *told = p->at < LINES_MAX ? p->c->lines[p->at].told : NULL;
    struct str wanted = str_of(told);
    bool prefix = wanted.n > 1 && wanted.p[wanted.n - 1] == '*';

    if (told == NULL || !(prefix ? str_starts(line, str_head(wanted, wanted.n - 1)) : str_eq(line, wanted))) {
        fprintf(stderr, "%s: told %.*s\n", p->c->name, (int)line.n, line.p);
        p->wrong = true;
        return -EPIPE;
    }
    const char *says = p->c->lines[p->at++].says;
    if (strcmp(says, "!") == 0)
        return -EPIPE;
    hear(&p->reply, says);
    return 0;
}

static void play(void *arg)
{
    const struct talk_case *c = arg;
    struct play p = { .c = c };
    char error[256] = "";

    smtp_reply_init(&p.reply);
    bool token = c >= token_cases && c < token_cases + sizeof token_cases / sizeof *token_cases;
    struct client_auth how = { .mechanisms = c->mechanisms, .plain_allowed = !c->secret, .login = STR("tim"), .by_token = token,
                               .password = token ? STR("t.1") : STR("pencil"), .say = say, .arg = &p, .reply = &p.reply };
    int r = client_auth_run(&how, error);
    if (p.wrong || r != c->result || (c->error != NULL && strstr(error, c->error) == NULL) || (p.at < LINES_MAX && c->lines[p.at].told != NULL))
        fail_msg("%s: %d %s", c->name, r, error);
    smtp_reply_free(&p.reply);
}

static void conversations(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sim_begin(&(struct sim_options){ .seed = i + 1 });
        assert_int_equal(sim_run(play, (void *)(uintptr_t)&cases[i]), 0);
        sim_end();
    }
    for (size_t i = 0; i < sizeof token_cases / sizeof *token_cases; i++) {
        sim_begin(&(struct sim_options){ .seed = i + 1 });
        assert_int_equal(sim_run(play, (void *)(uintptr_t)&token_cases[i]), 0);
        sim_end();
    }
}

/* -- SCRAM, with a server that knows it ---------------------------------------------------------------------------------------- */

struct scram_peer {
    struct sasl_server server;
    struct arena       arena;
    struct smtp_reply  reply;
    const char        *password;
};

static enum sasl_step judge(struct scram_peer *p, enum sasl_step step)
{
    struct scram_keys keys;
    uint8_t signature[DIGEST_SHA256_LEN];

    if (step == SASL_ASK_SALT)
        return sasl_server_salt(&p->server, STR("salt"), 4096);
    if (step != SASL_ASK_PROOF)
        return step;
    scram_derive(str_of(p->password), STR("salt"), 4096, &keys);
    return sasl_server_answer(&p->server, scram_check(&keys, p->server.message, p->server.proof, signature), signature);
}

static int tell_peer(void *arg, struct str line)
{
    struct scram_peer *p = arg;
    CLEANUP_BUF struct buf in, out;

    buf_init(&in, SASL_RESPONSE_MAX);
    buf_init(&out, 2 * SASL_RESPONSE_MAX);
    if (str_starts(line, STR("AUTH SCRAM-SHA-256 ")))
        line = str_from(line, 19);
    assert_true(codec_base64(line, &in));
    enum sasl_step step = judge(p, sasl_server_take(&p->server, buf_str(&in)));
    if (step == SASL_CHALLENGE) {
        buf_put_z(&out, "334 ");
        codec_put_base64(&out, p->server.out);
        buf_put_z(&out, "\r\n");
        buf_put_char(&out, '\0');
        hear(&p->reply, out.p);
    } else {
        hear(&p->reply, step == SASL_DONE ? "235 2.7.0 ok\r\n" : "535 5.7.8 no\r\n");
    }
    return 0;
}

static int meet(const char *password)
{
    struct scram_peer p = { .password = password };
    char error[256];

    arena_init(&p.arena, SASL_ARENA_MAX);
    smtp_reply_init(&p.reply);
    sasl_server_init(&p.server, &p.arena, SASL_SCRAM_SHA_256, NULL, STR("0123456789abcdefgh"));
    struct client_auth how = { .mechanisms = S | P, .login = STR("tim"), .password = STR("pencil"), .say = tell_peer, .arg = &p, .reply = &p.reply };
    int r = client_auth_run(&how, error);
    arena_reset(&p.arena);
    smtp_reply_free(&p.reply);
    return r;
}

static void meet_both(void *arg)
{
    (void)arg;
    assert_int_equal(meet("pencil"), 0);
    assert_int_equal(meet("Pencil"), -EACCES);
}

static void scram(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 1 });
    assert_int_equal(sim_run(meet_both, NULL), 0);
    sim_end();
}

/* -- a relay host: logged in, or nothing is sent there -------------------------------------------------------------------------- */

#define SERVER "192.0.2.1:25"

static const struct host_case {
    const char *name, *ehlo, *auth, *password;   /* auth: its reply to AUTH; password: the file's text, NULL: no file */
    bool        cleartext;
    int         result;
    const char *status;
} hosts[] = {
    { "lets us in",        "250-x\r\n250 AUTH PLAIN\r\n", "235 2.7.0 ok\r\n",   "pencil\n", true,  0,       NULL    },
    { "refuses us",        "250-x\r\n250 AUTH PLAIN\r\n", "535 5.7.8 no\r\n",   "pencil\n", true,  -EACCES, "4.7.0" },
    { "not now",           "250-x\r\n250 AUTH PLAIN\r\n", "454 4.7.0 busy\r\n", "pencil\n", true,  -EACCES, "4.7.0" },
    { "has no AUTH",       "250-x\r\n250 SIZE 10\r\n",    "235 2.7.0 ok\r\n",   "pencil\n", true,  -EACCES, "4.7.0" },
    { "has no TLS",        "250-x\r\n250 AUTH PLAIN\r\n", "235 2.7.0 ok\r\n",   "pencil\n", false, -EACCES, "4.7.0" },
    { "we know nothing",   "250-x\r\n250 AUTH PLAIN\r\n", "235 2.7.0 ok\r\n",   NULL,       true,  -EACCES, "4.7.0" },
    { "an empty password", "250-x\r\n250 AUTH PLAIN\r\n", "235 2.7.0 ok\r\n",   "\n",       true,  -EACCES, "4.7.0" },
    { "hangs up",          "250-x\r\n250 AUTH PLAIN\r\n", FAKE_CUT,            "pencil\n", true,  -EPIPE,  "4.4.2" },
};

static void put_secret(const char *text)
{
    CLEANUP_FILE int root = file_open_dir("/");
    CLEANUP_FILE int file = text == NULL ? -ENOENT : file_open_at(root, "secret", FILE_WRITE | FILE_CREATE);

    assert_true(text == NULL || file_write_at(file, text, strlen(text), 0) == 0);
}

static void meet_host(void *arg)
{
    const struct host_case *c = arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct client_security security = { .login = true };
    struct fake fake = { .words = { [AT_EHLO] = c->ehlo, [AT_OTHER] = c->auth } };
    struct client *client = NULL;
    struct outcome failure = { 0 };
    struct net_addr to;
    struct arena a;

    arena_init(&a, 1 << 20);
    put_secret(c->password);
    conf->relay_host_user = "tim";
    conf->relay_host_password_file = "/secret";
    conf->relay_host_auth_allow_cleartext = c->cleartext;
    fake_begin(&fake, SERVER);
    assert_true(net_addr_parse(STR(SERVER), 25, &to));
    int r = client_open(&(struct client_server){ .addr = &to, .host = STR("fake.example"), .security = &security }, conf, &a, &client, &failure);
    if (r != c->result || (r < 0 && (failure.state != RCPT_PENDING || !str_eq(failure.status, str_of(c->status)))))
        fail_msg("%s: %d %.*s %.*s", c->name, r, (int)failure.status.n, failure.status.p, (int)failure.text.n, failure.text.p);
    client_close(client);
    fake_end(&fake);
    fake_forget(&fake);
    arena_reset(&a);
    conf_unref(conf);
}

static void relay_hosts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        sim_begin(&(struct sim_options){ .seed = i + 1 });
        assert_int_equal(sim_run(meet_host, (void *)(uintptr_t)&hosts[i]), 0);
        sim_end();
    }
}

/* By a token: a refused one is renewed once, and no more. */
static const struct token_case {
    const char *name, *ehlo, *auth;
    int         endpoint;                /* what asking for a token gives */
    int         result;
    unsigned    asked;
    const char *text;                    /* a part of the failure's */
} token_hosts[] = {
    { "lets us in",          "250-x\r\n250 AUTH XOAUTH2\r\n",             "235 2.7.0 ok\r\n",   0,             0,       1, NULL               },
    { "refuses each token",  "250-x\r\n250 AUTH XOAUTH2 PLAIN\r\n",       "535 5.7.8 no\r\n",   0,             -EACCES, 2, "535 5.7.8 no"     },
    { "not now",             "250-x\r\n250 AUTH OAUTHBEARER XOAUTH2\r\n", "454 4.7.0 busy\r\n", 0,             -EACCES, 1, "454 4.7.0 busy"   },
    { "no endpoint",         "250-x\r\n250 AUTH XOAUTH2\r\n",             "235 2.7.0 ok\r\n",   -ECONNREFUSED, -EACCES, 1, "token endpoint: " },
    { "passwords only",      "250-x\r\n250 AUTH PLAIN LOGIN\r\n",         "235 2.7.0 ok\r\n",   0,             -EACCES, 1, "no mechanism"     },
};

struct endpoint {
    int      result;
    unsigned asked;
};

static int grant(void *self, const struct https_request *r, unsigned *out_status, struct buf *out_body, char error[HTTPS_ERROR_MAX])
{
    struct endpoint *e = self;

    (void)r;
    e->asked++;
    *out_status = 200;
    snprintf(error, HTTPS_ERROR_MAX, "planted");
    buf_printf(out_body, "{\"access_token\":\"t.%u\",\"token_type\":\"Bearer\"}", e->asked);
    return e->result;
}

static void meet_token_host(void *arg)
{
    const struct token_case *c = arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct client_security security = { .login = true };
    struct fake fake = { .words = { [AT_EHLO] = c->ehlo, [AT_OTHER] = c->auth } };
    struct endpoint endpoint = { .result = c->endpoint };
    struct client *client = NULL;
    struct outcome failure = { .text = STR("") };
    struct net_addr to;
    struct arena a;

    arena_init(&a, 1 << 20);
    put_secret("r1\n");
    https_replace(grant, &endpoint);
    conf->relay_host_user = "tim";
    conf->relay_host_oauth_token_url = "https://192.0.2.9/token";
    conf->relay_host_oauth_client_id = conf->relay_host_oauth_scope = conf->relay_host_oauth_ca_file = "";
    conf->relay_host_oauth_refresh_token_file = "/secret";
    conf->relay_host_oauth_timeout_ns = NS_PER_S;
    conf->relay_host_auth_allow_cleartext = true;
    assert_int_equal(lookup_relay_token_start(conf), 0);
    fake_begin(&fake, SERVER);
    assert_true(net_addr_parse(STR(SERVER), 25, &to));
    int r = client_open(&(struct client_server){ .addr = &to, .host = STR("fake.example"), .security = &security }, conf, &a, &client, &failure);
    if (r != c->result || endpoint.asked != c->asked || (r < 0 && str_find_str(failure.text, str_of(c->text)) < 0))
        fail_msg("%s: %d, asked %u times, %.*s", c->name, r, endpoint.asked, (int)failure.text.n, failure.text.p);
    client_close(client);
    fake_end(&fake);
    fake_forget(&fake);
    lookup_relay_token_stop();
    https_replace(NULL, NULL);
    arena_reset(&a);
    conf_unref(conf);
}

static void relay_hosts_by_token(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof token_hosts / sizeof *token_hosts; i++) {
        sim_begin(&(struct sim_options){ .seed = i + 1 });
        assert_int_equal(sim_run(meet_token_host, (void *)(uintptr_t)&token_hosts[i]), 0);
        sim_end();
    }
}

static void mechanisms(void **state)
{
    (void)state;
    assert_int_equal(client_auth_mechanisms(STR("")), 0);
    assert_int_equal(client_auth_mechanisms(STR("PLAIN")), P);
    assert_int_equal(client_auth_mechanisms(STR("login  CRAM-MD5 scram-sha-256 plain ")), P | L | S);
    assert_int_equal(client_auth_mechanisms(STR("=PLAIN")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(conversations), cmocka_unit_test(scram), cmocka_unit_test(relay_hosts), cmocka_unit_test(relay_hosts_by_token),
                                        cmocka_unit_test(mechanisms) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
