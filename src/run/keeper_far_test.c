/*
 * The keeper in another process: the same answers as near, a thousand handshakes at once, and a keeper that is killed again and again:
 * then there is no answer for a while, and never a wrong one.
 */
#include "run/keeper_test_scene.h"
#include "base/codec.h"
#include "run/stream.h"
#include "run/tls.h"
#include "run/tls_internal.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

/* In tasks cmocka's asserts may not jump. */
#define CHECK(x) ((x) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x), abort()))

#define HANDSHAKES    1000
#define LOOPS         2
#define KILLS         10

static struct test_keeper keeper;

static int64_t soon(void) { return task_deadline_in(60 * NS_PER_S); }

static void connect_here(void)
{
    char error[256];

    if (keeper_connect(keeper.callers, error) < 0) {
        fprintf(stderr, "%s\n", error);
        abort();
    }
}

static void run(task_fn *fn, unsigned loops)
{
    test_keeper_fork(&keeper);
    assert_int_equal(loop_run(loops, fn, NULL), 0);
    assert_int_equal(test_keeper_end(&keeper, false), 0);
}

/* -- answers ------------------------------------------------------------------------------------------------------------------------------ */

static void check_passwords(void)
{
    char login[KEEPER_LOGIN_MAX + 1] = "untouched", much[2 * WIRE_PART_MAX];

    memset(much, 'a', sizeof much);
    struct str endless = { much, sizeof much };
    CHECK(keeper_check_password(STR("alice"), STR("wrong"), login) == KEEPER_NO);
    CHECK(keeper_check_password(STR("nobody"), STR("pencil"), login) == KEEPER_NO);
    CHECK(keeper_check_password(STR(""), STR(""), login) == KEEPER_NO);
    CHECK(keeper_check_password(endless, endless, login) == KEEPER_NO);
    CHECK(keeper_check_password(STR("alice"), endless, login) == KEEPER_NO);
    CHECK(strcmp(login, "untouched") == 0);
    CHECK(keeper_check_password(STR("ALICE"), STR("pencil"), login) == KEEPER_YES);
    CHECK(strcmp(login, "alice") == 0);
}

/* RFC 7677, 3. */
static void check_scram(void)
{
    static const char message[] = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,"
                                  "i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    uint8_t proof[DIGEST_SHA256_LEN], signature[DIGEST_SHA256_LEN];
    char login[KEEPER_LOGIN_MAX + 1], bytes[64];
    struct keeper_scram scram;
    struct buf decoded;

    buf_init_fixed(&decoded, bytes, sizeof bytes);
    CHECK(codec_base64(STR("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), &decoded) && decoded.n == sizeof proof);
    memcpy(proof, bytes, sizeof proof);
    CHECK(keeper_has_scram());
    CHECK(keeper_scram_parameters(STR("alice"), &scram) == KEEPER_YES && scram.iterations == 4096 && scram.salt_n == 16);
    CHECK(keeper_scram_parameters(STR("nobody"), &scram) == KEEPER_YES && scram.iterations == 4096 && scram.salt_n == 16);
    CHECK(keeper_scram_check(STR("alice"), str_of(message), proof, signature, login) == KEEPER_YES && strcmp(login, "alice") == 0);
    proof[3] ^= 1;
    CHECK(keeper_scram_check(STR("alice"), str_of(message), proof, signature, login) == KEEPER_NO);
}

static void check_files(void)
{
    char password[KEEPER_PASSWORD_MAX + 1], bytes[KEEPER_PUBLIC_MAX], error[256];
    struct buf public;
    uint64_t key;

    CHECK(keeper_credential(keeper.secret, password) == 0 && strcmp(password, "open sesame") == 0);
    CHECK(keeper_credential(keeper.other, password) == -EACCES);         /* it is there, and nobody's business */
    CHECK(keeper_credential("/etc/passwd", password) == -EACCES);
    buf_init_fixed(&public, bytes, sizeof bytes);
    CHECK(keeper_key_open(keeper.secret, &key, &public, error) == -EACCES);
    CHECK(keeper_reload(NULL, error) == -EINVAL && strcmp(error, "not this one") == 0);
}

static void check_signatures(void)
{
    char bytes[KEEPER_PUBLIC_MAX], error[256], digest[DIGEST_SHA256_LEN] = "d";
    uint8_t out[KEEPER_SIGNATURE_MAX];
    struct str in = { digest, sizeof digest };
    struct buf public;
    uint64_t key, again;

    buf_init_fixed(&public, bytes, sizeof bytes);
    CHECK(keeper_key_open(keeper.key[0], &key, &public, error) == 0 && keeper_key_open(keeper.key[0], &again, &public, error) == 0 && key == again);
    CHECK(keeper_key_sign(key, KEEPER_ECDSA, in, out) > 60);
    CHECK(keeper_key_sign(key, KEEPER_RSA_PKCS1, in, out) == -EINVAL);
    CHECK(keeper_key_sign(key + 1, KEEPER_ECDSA, in, out) == -ENOENT);
    keeper_key_close(key);
    keeper_key_close(again);
    keeper_key_close(again);                                             /* once too often: the keeper's own count stays */
    CHECK(keeper_key_sign(key, KEEPER_ECDSA, in, out) > 60);
}

static void answers_task(void *arg)
{
    (void)arg;
    connect_here();
    check_passwords();
    check_scram();
    check_files();
    check_signatures();
    keeper_stop();
}

static void test_answers(void **state)
{
    (void)state;
    run(answers_task, LOOPS);
}

/* From a helper thread, which has no loop. */
static void *blocking_thread(void *arg)
{
    (void)arg;
    check_files();
    check_signatures();
    return NULL;
}

static void blocking_task(void *arg)
{
    pthread_t thread;

    (void)arg;
    connect_here();
    CHECK(pthread_create(&thread, NULL, blocking_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
    keeper_stop();
}

static void test_from_a_helper(void **state)
{
    (void)state;
    run(blocking_task, 1);
}

/* -- handshakes ---------------------------------------------------------------------------------------------------------------------------- */

static struct tls_context *servers[2], *client[2];       /* of EC and RSA; of TLS 1.3 and 1.2 */
static atomic_uint         good, bad;

static void open_contexts(void)
{
    char words[256];

    for (int i = 0; i < 2; i++) {
        struct tls_pair pair = { keeper.cert[i], keeper.key[i] };
        CHECK(tls_server_new(&(struct tls_server_options){ .pairs = &pair, .count = 1 }, &servers[i], words) == 0);
        CHECK(tls_client_new(&(struct tls_client_options){ .verify = false }, &client[i], words) == 0);
        SSL_CTX_sess_set_new_cb(tls_context_ssl(client[i]), NULL);       /* none is taken up again: each handshake has its signature */
    }
    (void)SSL_CTX_set_max_proto_version(tls_context_ssl(client[1]), TLS1_2_VERSION);
}

static void close_contexts(void)
{
    for (int i = 0; i < 2; i++) {
        tls_unref(servers[i]);
        tls_unref(client[i]);
    }
}

struct side { struct stream *stream; int which; int result; };

static void accept_task(void *arg)
{
    struct side *s = arg;

    s->result = stream_tls_accept(s->stream, servers[s->which & 1], soon());
    CHECK(ERR_peek_error() == 0);
    stream_close(s->stream);
}

static void handshake(int which)
{
    struct side server = { .which = which };
    struct task_group group;
    struct stream *s;

    CHECK(stream_pair(8192, &s, &server.stream) == 0);
    task_group_init(&group);
    CHECK(task_group_start(&group, "server", accept_task, &server) == 0);
    int r = stream_tls_connect(s, client[which >> 1 & 1], NULL, soon());
    if (r == 0)
        (void)stream_fill(s, soon());    /* the server has more to say with TLS 1.3 */
    stream_close(s);
    CHECK(task_group_wait(&group, TASK_FOREVER) == 0);
    atomic_fetch_add(r == 0 && server.result == 0 ? &good : &bad, 1);
}

static void handshake_task(void *arg) { handshake((int)(intptr_t)arg); }

static void wait_for_all(unsigned n)
{
    while (atomic_load(&good) + atomic_load(&bad) < n)
        (void)task_sleep(NS_PER_MS);
}

static void interleaved_task(void *arg)
{
    (void)arg;
    connect_here();
    open_contexts();
    for (unsigned i = 0; i < HANDSHAKES; i++)
        CHECK(loop_start_on(i % LOOPS, "handshake", handshake_task, (void *)(intptr_t)(i / LOOPS)) == 0);
    wait_for_all(HANDSHAKES);
    close_contexts();
    keeper_stop();
}

static void test_a_thousand_handshakes(void **state)
{
    (void)state;
    atomic_store(&good, 0);
    atomic_store(&bad, 0);
    run(interleaved_task, LOOPS);
    assert_int_equal(atomic_load(&good), HANDSHAKES);
}

/* -- a keeper that is killed ------------------------------------------------------------------------------------------------------------------ */

static atomic_bool killing;
static atomic_uint logins;

static void handshakes_task(void *arg)
{
    for (int i = (int)(intptr_t)arg; atomic_load(&killing); i++)
        handshake(i);
}

/* The right password is right or not checked, the wrong one wrong or not checked. */
static void logins_task(void *arg)
{
    char login[KEEPER_LOGIN_MAX + 1];

    (void)arg;
    while (atomic_load(&killing)) {
        CHECK(keeper_check_password(STR("alice"), STR("pencil"), login) != KEEPER_NO);
        CHECK(keeper_check_password(STR("alice"), STR("stencil"), login) != KEEPER_YES);
        atomic_fetch_add(&logins, 1);
    }
}

static void killed_task(void *arg)
{
    struct task_group group;
    char login[KEEPER_LOGIN_MAX + 1];

    connect_here();
    open_contexts();
    CHECK(send(*(const int *)arg, "g", 1, MSG_NOSIGNAL) == 1);           /* from here on they die */
    task_group_init(&group);
    for (intptr_t i = 0; i < 16; i++)
        CHECK(task_group_start(&group, "shaking", handshakes_task, (void *)i) == 0);
    CHECK(task_group_start(&group, "logging-in", logins_task, NULL) == 0);
    (void)task_group_wait(&group, TASK_FOREVER);
    /* At the end there is one, and all is well. */
    unsigned before = atomic_load(&bad);
    for (int i = 0; i < 4; i++)
        handshake(i);
    CHECK(atomic_load(&bad) == before);
    CHECK(keeper_check_password(STR("alice"), STR("pencil"), login) == KEEPER_YES);
    close_contexts();
    keeper_stop();
}

/* The supervisor's part, in a process without threads: one keeper after the other. */
static void keep_killing(int report)
{
    char byte;

    test_must(recv(report, &byte, 1, 0) == 1);
    for (int i = 0; i < KILLS; i++) {
        (void)usleep(20000 + 7000 * (unsigned)i);
        (void)test_keeper_end(&keeper, true);
        if (i % 3 == 1)
            (void)usleep(50000);         /* for a while there is none */
        test_keeper_fork(&keeper);
    }
    test_must(send(report, "x", 1, MSG_NOSIGNAL) == 1);
    test_must(recv(report, &byte, 1, 0) == 0);                           /* until they are done */
    _exit(test_keeper_end(&keeper, false) == 0 ? 0 : 1);
}

static void *wait_for_killer(void *arg)
{
    char byte;

    test_must(recv(*(int *)arg, &byte, 1, 0) == 1);
    atomic_store(&killing, false);
    return NULL;
}

static void test_a_keeper_that_is_killed(void **state)
{
    int pair[2], status;
    pthread_t thread;

    (void)state;
    atomic_store(&good, 0);
    atomic_store(&bad, 0);
    atomic_store(&killing, true);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid_t supervisor = fork();
    assert_true(supervisor >= 0);
    if (supervisor == 0) {
        (void)close(pair[0]);
        test_keeper_fork(&keeper);
        keep_killing(pair[1]);
    }
    (void)close(pair[1]);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_killer, &pair[0]), 0);
    assert_int_equal(loop_run(1, killed_task, &pair[0]), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)close(pair[0]);
    assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
    assert_int_equal(status, 0);
    assert_true(atomic_load(&good) >= 4 && atomic_load(&logins) > 0);      /* how many, a busy machine decides */
    printf("%u handshakes, %u of them failed, %u logins, while %d keepers were killed\n", atomic_load(&good) + atomic_load(&bad), atomic_load(&bad),
           atomic_load(&logins), KILLS);
}

/* -- nonsense --------------------------------------------------------------------------------------------------------------------------------- */

/* At the door and on a line: whoever is there can speak afterwards as before. */
static void nonsense_task(void *arg)
{
    static const struct wire_message none[] = {
        { .op = 0 },
        { .op = 99, .parts = { STR("x") } },
        { .op = 8, .result = 17 },       /* no scheme of signatures */
        { .op = 4, .parts = { STR("alice"), STR("message"), STR("too short a proof") } },
    };
    char login[KEEPER_LOGIN_MAX + 1], room_bytes[256];
    struct line_caller *c;
    struct wire_message m;
    struct buf room;

    (void)arg;
    CHECK(send(keeper.callers, "no socket", 9, MSG_NOSIGNAL) == 9);
    CHECK(line_caller_start(keeper.callers, NULL, &c) == 0);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        buf_init_fixed(&room, room_bytes, sizeof room_bytes);
        CHECK(line_ask(c, &none[i], soon(), &room, &m) == -ECONNRESET);
    }
    line_caller_stop(c);
    connect_here();
    CHECK(keeper_check_password(STR("alice"), STR("pencil"), login) == KEEPER_YES);
    keeper_stop();
}

static void test_nonsense(void **state)
{
    (void)state;
    run(nonsense_task, 1);
}

/* Nobody at the door: an error at the deadline, not a wait without an end. */
static void nobody_task(void *arg)
{
    const struct wire_message question = { .op = 1 };
    struct line_caller *c;
    struct wire_message m;
    struct buf none;

    (void)arg;
    buf_init_fixed(&none, NULL, 0);
    CHECK(line_caller_start(keeper.callers, NULL, &c) == 0);
    CHECK(line_ask(c, &question, task_deadline_in(50 * NS_PER_MS), &none, &m) == -ETIMEDOUT);
    line_caller_stop(c);
}

static void test_nobody_there(void **state)
{
    (void)state;
    assert_int_equal(loop_run(LOOPS, nobody_task, NULL), 0);
}

static int set_up(void **state)
{
    (void)state;
    test_keeper_files(&keeper);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_keeper_free(&keeper);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_from_a_helper),
        cmocka_unit_test(test_a_thousand_handshakes),
        cmocka_unit_test(test_a_keeper_that_is_killed),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_nobody_there),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
